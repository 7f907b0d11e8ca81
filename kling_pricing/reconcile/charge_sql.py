"""From the text of a statement's columns to charges, in SQL: what cannot be read is said, nothing is guessed.

A charge is a row of the table `charge`:

| column | what it is |
|---|---|
| file | which statement, from 0 |
| row | its row in that; NULL: it is counted from the file's first |
| task_id | the provider's name for the task |
| native | what was charged, in billionths of the statement's own unit; NULL: no charge is stated, as in a row
that says nothing was charged for a task that still runs |
| unit | that unit: a currency, or the provider's own |
| billed_at, submitted_at | instants, UTC |
| duration_s | the length that it states |
| state | of the task, as far as it is known |
| said | model, resolution and facts as they are written, parted by `SENT_SEPARATOR` |
| problem | column, kind of problem and text, parted likewise; NULL: there is none |
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from kling_pricing.budgets import MAX_LABEL_CHARS
from kling_pricing.money import MAX_DECIMALS
from kling_pricing.reconcile.files.file_reader import DATE_CELL, RowSource
from kling_pricing.reconcile.mappings import ISO, UNIX, ColumnsEntry, StatementFile, TimeEntry, offset_of
from kling_pricing.reconcile.staging import literal
from kling_pricing.wire.fields import folded

CHARGE = """
    CREATE TABLE charge (
      file USMALLINT, "row" BIGINT, task_id VARCHAR, native BIGINT, unit VARCHAR, billed_at TIMESTAMP,
      submitted_at TIMESTAMP, duration_s DECIMAL(12, 6), state VARCHAR, said VARCHAR, problem VARCHAR
    )
"""

PROBLEMS: Mapping[str, str] = {
    "row": "the row cannot be read: {text}",
    "empty": "is empty",
    "long": f"is no task id: it is longer than {MAX_LABEL_CHARS} characters, or has one that cannot be seen",
    "number": "is no amount in plain digits, such as 0.714: {text}",
    "digits": "has more digits than its unit allows: {text}",
    "unit": "is neither a currency nor a unit that is known here: {text}",
    "time": "is no instant as the mapping describes them: {text}",
    "duration": "is no number of seconds: {text}",
}
"""Kind of problem -> what to say of a column."""

_PART = "chr(31)"
_NUMBER = "-?(0|[1-9][0-9]{0,8})"
"""No more digits before the point, so that billionths are 64 bits: more would be no price of a video."""
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
"""Characters that have no look of their own: of two ids that look the same, both must be the same."""
_FIRST_DAY, _LAST_DAY = "2000-01-01", "2200-01-01"
_MILLISECONDS, _MICROSECONDS = 10**11, 10**14
"""From this number on, a number of seconds is one of their thousandths, and of their millionths."""
UNFINISHED = "'queued', 'processing'"
"""States of a task that may be charged yet, so that a charge of nothing is none."""
_UNCHARGED = ("queued", "processing", "failed", "cancelled")
"""States in which a row of a table may leave its amount out."""


def charges(source: RowSource, mapping: StatementFile, file: int, units: Iterable[str]) -> str:
    """The SQL that reads the charges of a statement, in the order of its rows.

    Args:
        source: its columns.
        mapping: what they mean.
        file: which statement it is.
        units: the provider's units that are known.
    """
    texts = _answer_texts(source) if mapping.columns is None else _texts(source, mapping.columns, units)
    columns = mapping.columns or answers_columns(mapping)
    return f"""
        WITH text AS (
          SELECT {source.row or "NULL"} AS "row", {source.fault} AS fault,
            {", ".join(f"ifnull({sql}, '') AS {name}" for name, sql in texts.items())}
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
        SELECT {file} AS file, "row", task_id, native, unit, billed_at, submitted_at, duration_s, state, said,
          {_problem(columns, units, is_answer=mapping.columns is None)} AS problem
        FROM stated
    """


def answers_columns(mapping: StatementFile) -> ColumnsEntry:
    """What the columns mean that `files.answers` reads."""
    made = mapping.answers and mapping.answers.submitted_at
    decimals = mapping.answers.decimals if mapping.answers else MAX_DECIMALS
    return ColumnsEntry.model_validate(
        {
            "task_id": {"column": "task_id"},
            "amount": {"column": "amount", "unit_column": "unit", "decimals": decimals},
            "submitted_at": made and made.model_copy(update={"column": "submitted_at"}),
            "duration_s": {"column": "duration_s"},
        }
    )


def _texts(source: RowSource, columns: ColumnsEntry, units: Iterable[str]) -> dict[str, str]:
    """Name of what is read -> the SQL of its text, empty where the file does not have it."""

    def of(entry: object) -> str:
        return source.texts.get(getattr(entry, "column", ""), "''")

    unit = (
        literal(columns.amount.unit)
        if columns.amount.unit
        else _currency(source.texts.get(columns.amount.unit_column or "", "''"), units)
    )
    said = [of(columns.model), of(columns.resolution), *(of(entry) for entry in columns.facts)]
    return {
        "task_id": of(columns.task_id),
        "amount": of(columns.amount),
        "unit": unit,
        "billed_text": of(columns.billed_at),
        "submitted_text": of(columns.submitted_at),
        "duration": of(columns.duration_s),
        "state_text": of(columns.state),
        "said": f" || {_PART} || ".join(f"ifnull({each}, '')" for each in said),
    }


def _answer_texts(source: RowSource) -> dict[str, str]:
    text = source.texts
    said = (text["model"], "''", text["facts"])
    return {
        "task_id": text["task_id"],
        "amount": text["amount"],
        "unit": text["unit"],
        "billed_text": "''",
        "submitted_text": text["submitted_at"],
        "duration": text["duration_s"],
        "state_text": text["state"],
        "said": f" || {_PART} || ".join(f"ifnull({each}, '')" for each in said),
    }


def _currency(unit: str, units: Iterable[str]) -> str:
    """A unit's SQL; a currency in small letters is the same one, unless the provider has such a unit."""
    own = _any_of(units)
    return f"CASE WHEN length({unit}) = 3 AND {unit} NOT IN ({own}) THEN upper({unit}) ELSE {unit} END"


def _native(columns: ColumnsEntry) -> str:
    """Billionths of the unit, from text that is known to be a number of so many digits."""
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
    """The instant of a text, UTC; NULL: it is none, or there is none."""
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
    """An ISO 8601 time. Its offset is taken off here: how a cast goes about it depends on DuckDB's version."""
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
    """The first thing that is wrong with a row; nearly every row is well, which is asked first and at once."""
    amount = columns.amount
    uncharged = "TRUE" if is_answer else f"ifnull(state IN ({', '.join(map(literal, _UNCHARGED))}), FALSE)"
    known_unit = f"(unit IN ({_any_of(units)}) OR {_matches('unit', '[A-Z]{3}')})"
    times = {
        f"{name}_text": _is_instant(name, entry)
        for name, entry in (("billed", columns.billed_at), ("submitted", columns.submitted_at))
        if entry is not None
    }
    well = [
        "ifnull(fault, '') = ''",
        f"length(task_id) <= {MAX_LABEL_CHARS}",
        _matches("task_id", "[ -~]+"),
        "number IS NOT NULL",
        known_unit,
        *times.values(),
        "(duration = '' OR duration_s IS NOT NULL)",
    ]
    cannot_be_seen = f"regexp_matches(task_id, '{_UNSEEN}')"
    more_digits = _matches("amount", f"{_NUMBER}[.][0-9]+")
    checks = [
        ("ifnull(fault, '') <> ''", "", "row", "fault"),
        ("task_id = ''", columns.task_id.column, "empty", "''"),
        (f"length(task_id) > {MAX_LABEL_CHARS} OR {cannot_be_seen}", columns.task_id.column, "long", "''"),
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
        f"WHEN {condition} THEN {literal(column)} || {_PART} || {literal(kind)} || {_PART} || {text}"
        for condition, column, kind, text in checks
    )
    return f"CASE WHEN {' AND '.join(well)} THEN NULL {whens} END"


def _any_of(units: Iterable[str]) -> str:
    return ", ".join(map(literal, sorted(units))) or "''"


def _is_instant(name: str, entry: TimeEntry) -> str:
    """Whether a time was read, and is one at which money is spent on videos; or may be left out, and is."""
    is_read = f"ifnull({name}_at BETWEEN DATE '{_FIRST_DAY}' AND DATE '{_LAST_DAY}', FALSE)"
    return f"({is_read} OR {name}_text = '')" if entry.optional else is_read


def _matches(text: str, pattern: str) -> str:
    return f"regexp_full_match({text}, {literal(pattern)})"
