"""The SQL that turns the text of a statement's columns into charges; unreadable text is reported, not guessed.

A charge is a row of the table `charge`:

| column | meaning |
|---|---|
| file | number of the statement, from 0 |
| row | the charge's row in that file; NULL: counted from the file's first row |
| task_id | the provider's name for the task |
| native | the charged amount, in billionths of the statement's own unit; NULL: the row states no charge, as for
a task that is still running |
| unit | that unit: a currency, or the provider's own |
| billed_at, submitted_at | instants, UTC |
| duration_s | the stated length |
| state | the state of the task, if it is known |
| stated | model, resolution and facts in the statement's own words; an empty text: not stated |
| problem | the first unreadable column, the kind of problem, and the column's text; NULL: no problem |
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from kling_pricing.budgets import MAX_LABEL_CHARS
from kling_pricing.money import MAX_DECIMALS
from kling_pricing.reconcile.files.file_reader import DATE_CELL, RowSource
from kling_pricing.reconcile.mappings import ISO, UNIX, ColumnsEntry, StatementFile, TimeEntry, offset_of
from kling_pricing.reconcile.staging import literal
from kling_pricing.wire.fields import folded

STATED = "STRUCT(model VARCHAR, resolution VARCHAR, facts VARCHAR[])"
PROBLEM = 'STRUCT("column" VARCHAR, kind VARCHAR, text VARCHAR)'

CHARGE = f"""
    CREATE TABLE charge (
      file USMALLINT, "row" BIGINT, task_id VARCHAR, native BIGINT, unit VARCHAR, billed_at TIMESTAMP,
      submitted_at TIMESTAMP, duration_s DECIMAL(12, 6), state VARCHAR, stated {STATED}, problem {PROBLEM}
    )
"""

PROBLEMS: Mapping[str, str] = {
    "row": "the row cannot be read: {text}",
    "empty": "is empty",
    "long": f"is not a task id: it has more than {MAX_LABEL_CHARS} characters or an invisible one",
    "number": "is not an amount in plain digits, such as 0.714: {text}",
    "digits": "has more digits than its unit allows: {text}",
    "unit": "is neither a currency nor a known unit: {text}",
    "time": "is not a time in the mapping's format: {text}",
    "duration": "is not a number of seconds: {text}",
}
"""Kind of problem -> its words, to follow the name of the column."""

_NUMBER = "-?(0|[1-9][0-9]{0,8})"
"""At most nine digits before the point, so that billionths fit 64 bits; no video costs more."""
_DURATION = r"[0-9]{1,6}([.][0-9]{1,6})?"
_INSTANT = (
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
    r"([T ][0-9]{2}:[0-9]{2}(:[0-9]{2}([.,][0-9]{1,9})?)?( ?(Z|UTC|[+-][0-9]{2}:?[0-9]{2}))?)?"
)
_UNIX, _UNIX_FRACTION = "[0-9]{9,16}", "[0-9]{9,10}[.][0-9]{1,9}"
_UNSEEN = (
    r"[\p{C}\p{Zl}\p{Zp}\x{00A0}\x{00AD}\x{1680}\x{2000}-\x{200A}\x{202F}\x{205F}\x{3000}\x{115F}\x{1160}\x{3164}"
    r"\x{FFA0}\x{FFFD}]"
)
"""Invisible characters: two ids that look the same must be the same."""
_FIRST_DAY, _LAST_DAY = "2000-01-01", "2200-01-01"
_MILLISECONDS, _MICROSECONDS = 10**11, 10**14
"""A number of seconds from the first value on is in milliseconds, and from the second on in microseconds."""
UNFINISHED = "'queued', 'processing'"
"""States of a task that may still be charged, so that a charge of zero is not a charge."""
_UNCHARGED = ("queued", "processing", "failed", "cancelled")
"""States in which a row may have no amount."""


def charges(source: RowSource, mapping: StatementFile, file: int, units: Iterable[str]) -> str:
    """Returns the SQL that reads the charges of a statement, in the order of its rows.

    Args:
        source: the columns of the statement.
        mapping: their meaning.
        file: the number of the statement.
        units: the known units of the provider.
    """
    if mapping.columns is None:
        columns, texts = answers_columns(mapping), _answer_texts(source)
        stated = [source.texts["model"], "''", source.texts["facts"]]
    else:
        columns, texts = mapping.columns, _texts(source, mapping.columns, units)
        stated = [_text(source, entry) for entry in (columns.model, columns.resolution, *columns.facts)]
    return f"""
        WITH text AS (
          SELECT {source.row or "NULL"} AS "row", {source.fault} AS fault,
            {", ".join(f"ifnull({sql}, '') AS {name}" for name, sql in texts.items())},
            {_stated(stated)} AS stated
          FROM {source.relation}
        ), read AS (
          SELECT *, {_native(columns)} AS number, {_instant("billed_text", columns.billed_at)} AS billed_at,
            {_instant("submitted_text", columns.submitted_at)} AS submitted_at,
            CASE WHEN {_matches("duration", _DURATION)} THEN CAST(duration AS DECIMAL(12, 6)) END AS duration_s,
            {_state(columns, is_answer=mapping.columns is None)} AS state
          FROM text
        ), stated AS (
          SELECT *,
            CASE WHEN number <> 0 OR NOT ifnull(state IN ({UNFINISHED}), FALSE) THEN number END AS native
          FROM read
        )
        SELECT {file} AS file, "row", task_id, native, unit, billed_at, submitted_at, duration_s, state, stated,
          {_problem(columns, units, is_answer=mapping.columns is None)} AS problem
        FROM stated
    """


def answers_columns(mapping: StatementFile) -> ColumnsEntry:
    """Returns the meaning of the columns that `files.answers` reads."""
    submitted = mapping.answers and mapping.answers.submitted_at
    decimals = mapping.answers.decimals if mapping.answers else MAX_DECIMALS
    return ColumnsEntry.model_validate(
        {
            "task_id": {"column": "task_id"},
            "amount": {"column": "amount", "unit_column": "unit", "decimals": decimals},
            "submitted_at": submitted and submitted.model_copy(update={"column": "submitted_at"}),
            "duration_s": {"column": "duration_s"},
        }
    )


def _text(source: RowSource, entry: object) -> str:
    """Returns the SQL of a column's text; the text is empty if the file does not have the column."""
    return source.texts.get(getattr(entry, "column", ""), "''")


def _texts(source: RowSource, columns: ColumnsEntry, units: Iterable[str]) -> dict[str, str]:
    """Returns the SQL of each text of a row of a table, by name."""
    unit = (
        literal(columns.amount.unit)
        if columns.amount.unit
        else _currency(source.texts.get(columns.amount.unit_column or "", "''"), units)
    )
    return {
        "task_id": _text(source, columns.task_id),
        "amount": _text(source, columns.amount),
        "unit": unit,
        "billed_text": _text(source, columns.billed_at),
        "submitted_text": _text(source, columns.submitted_at),
        "duration": _text(source, columns.duration_s),
        "state_text": _text(source, columns.state),
    }


def _answer_texts(source: RowSource) -> dict[str, str]:
    """Returns the SQL of each text of an answer, by name."""
    return {
        "task_id": source.texts["task_id"],
        "amount": source.texts["amount"],
        "unit": source.texts["unit"],
        "billed_text": "''",
        "submitted_text": source.texts["submitted_at"],
        "duration": source.texts["duration_s"],
        "state_text": source.texts["state"],
    }


def _stated(texts: Sequence[str]) -> str:
    """Returns the SQL of the column `stated` from those of the model, the resolution and the facts."""
    model, resolution, *facts = (f"ifnull({text}, '')" for text in texts)
    return f"CAST({{'model': {model}, 'resolution': {resolution}, 'facts': [{', '.join(facts)}]}} AS {STATED})"


def _currency(unit: str, units: Iterable[str]) -> str:
    """Returns the SQL of a unit; a currency may be in lower case if the provider has no such unit."""
    known = _any_of(units)
    return f"CASE WHEN length({unit}) = 3 AND {unit} NOT IN ({known}) THEN upper({unit}) ELSE {unit} END"


def _native(columns: ColumnsEntry) -> str:
    """Returns the SQL of billionths of the unit; NULL if the text is not an amount of that unit."""
    sign = "" if columns.amount.charges == "positive" else "-"
    number = _matches("amount", _amount(columns.amount.decimals))
    fraction = f"rpad(split_part(amount, '.', 2), {MAX_DECIMALS}, '0')"
    digits = (
        f"split_part(amount, '.', 1) || {fraction}"
        if columns.amount.decimals
        else f"amount || '{'0' * MAX_DECIMALS}'"
    )
    return f"CASE WHEN {number} THEN {sign}CAST({digits} AS BIGINT) END"


def _amount(decimals: int) -> str:
    return _NUMBER + (rf"([.][0-9]{{1,{decimals}}})?" if decimals else "")


def _instant(text: str, entry: TimeEntry | None) -> str:
    """Returns the SQL of a text's instant, UTC; NULL if it does not have one."""
    if entry is None:
        return "NULL::TIMESTAMP"
    cell = f"CASE WHEN starts_with({text}, '{DATE_CELL}') THEN {_iso_instant(f'substr({text}, 2)', entry)} END"
    if entry.format == ISO:
        return f"coalesce({_iso_instant(text, entry)}, {cell})"
    if entry.format != UNIX:
        minutes = int(offset_of(entry).total_seconds()) // 60
        return f"coalesce(TRY_STRPTIME({text}, {literal(entry.format)}) - to_minutes({minutes}), {cell})"
    whole = f"CAST({text} AS BIGINT)"
    micros = (
        f"CASE WHEN {whole} < {_MILLISECONDS} THEN {whole} * 1000000"
        f" WHEN {whole} < {_MICROSECONDS} THEN {whole} * 1000 ELSE {whole} END"
    )
    parts = f"CAST(split_part({text}, '.', 1) AS BIGINT) * 1000000"
    fraction = f"CAST(left(rpad(split_part({text}, '.', 2), 6, '0'), 6) AS BIGINT)"
    return (
        f"CASE WHEN {_matches(text, _UNIX)} THEN make_timestamp({micros})"
        f" WHEN {_matches(text, _UNIX_FRACTION)} THEN make_timestamp({parts} + {fraction}) ELSE {cell} END"
    )


def _iso_instant(text: str, entry: TimeEntry) -> str:
    """Returns the SQL of an ISO 8601 time, UTC; versions of DuckDB differ in how they cast an offset."""
    local = f"TRY_CAST(replace(regexp_extract({text}, '^.{{10}}([T ][0-9:.,]+)?'), ',', '.') AS TIMESTAMP)"
    zone = f"regexp_extract(substr({text}, 11), '[+-][0-9]{{2}}:?[0-9]{{2}}$')"
    ahead = f"(60 * CAST(substr({zone}, 2, 2) AS INTEGER) + CAST(right({zone}, 2) AS INTEGER))"
    minutes = (
        f"CASE left({zone}, 1) WHEN '+' THEN {ahead} WHEN '-' THEN -{ahead}"
        f" ELSE CASE WHEN regexp_matches({text}, '(Z|UTC)$') THEN 0"
        f" ELSE {int(offset_of(entry).total_seconds()) // 60} END END"
    )
    return f"CASE WHEN {_matches(text, _INSTANT)} THEN {local} - to_minutes({minutes}) END"


def _state(columns: ColumnsEntry, *, is_answer: bool) -> str:
    if is_answer:
        return "nullif(state_text, '')"
    if columns.state is None:
        return "NULL::VARCHAR"
    whens = " ".join(
        f"WHEN {literal(folded(written))} THEN {literal(state)}"
        for written, state in columns.state.names.items()
    )
    return f"CASE lower(state_text) {whens} END"


def _problem(columns: ColumnsEntry, units: Iterable[str], *, is_answer: bool) -> str:
    """Returns the SQL of a row's first problem; one cheap check comes first, as nearly every row is valid."""
    amount = columns.amount
    uncharged = "TRUE" if is_answer else f"ifnull(state IN ({', '.join(map(literal, _UNCHARGED))}), FALSE)"
    known_unit = f"(unit IN ({_any_of(units)}) OR {_matches('unit', '[A-Z]{3}')})"
    times = {
        f"{name}_text": _is_instant(name, entry)
        for name, entry in (("billed", columns.billed_at), ("submitted", columns.submitted_at))
        if entry is not None
    }
    valid = [
        "ifnull(fault, '') = ''",
        f"length(task_id) <= {MAX_LABEL_CHARS}",
        _matches("task_id", "[ -~]+"),
        "number IS NOT NULL",
        known_unit,
        *times.values(),
        "(duration = '' OR duration_s IS NOT NULL)",
    ]
    invisible = f"regexp_matches(task_id, '{_UNSEEN}')"
    more_digits = _matches("amount", f"{_NUMBER}[.][0-9]+")
    checks = [
        ("ifnull(fault, '') <> ''", "", "row", "fault"),
        ("task_id = ''", columns.task_id.column, "empty", "''"),
        (f"length(task_id) > {MAX_LABEL_CHARS} OR {invisible}", columns.task_id.column, "long", "''"),
        (f"amount = '' AND NOT {uncharged}", amount.column, "empty", "''"),
        (f"amount <> '' AND number IS NULL AND {more_digits}", amount.column, "digits", "amount"),
        ("amount <> '' AND number IS NULL", amount.column, "number", "amount"),
        (f"amount <> '' AND NOT {known_unit}", amount.unit_column or amount.column, "unit", "unit"),
    ]
    for entry, text in zip(filter(None, (columns.billed_at, columns.submitted_at)), times, strict=True):
        checks.append((f"NOT {times[text]}", entry.column, "time", text))
    if columns.duration_s is not None:
        unread = "duration <> '' AND duration_s IS NULL"
        checks.append((unread, columns.duration_s.column, "duration", "duration"))
    whens = " ".join(
        f"WHEN {condition} THEN {{'column': {literal(column)}, 'kind': {literal(kind)}, 'text': {text}}}"
        for condition, column, kind, text in checks
    )
    return f"CASE WHEN {' AND '.join(valid)} THEN NULL {whens} END"


def _any_of(units: Iterable[str]) -> str:
    return ", ".join(map(literal, sorted(units))) or "''"


def _is_instant(name: str, entry: TimeEntry) -> str:
    """Returns the condition that a time was read and is plausible, or is empty and may be."""
    is_read = f"ifnull({name}_at BETWEEN DATE '{_FIRST_DAY}' AND DATE '{_LAST_DAY}', FALSE)"
    return f"({is_read} OR {name}_text = '')" if entry.optional else is_read


def _matches(text: str, pattern: str) -> str:
    return f"regexp_full_match({text}, {literal(pattern)})"
