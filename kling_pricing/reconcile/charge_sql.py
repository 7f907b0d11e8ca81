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
| row_id | the provider's own id of the row; NULL: it has none |
| step | of a provider that charges in advance: the row's part in the charge, see `precharges` |
| earlier | the part of the task's charge in rows that no file has, in billionths; NULL: none |
| may_charge | whether the row may be a charge: its amount is not zero, or it is damaged and has an id |
| problem | the first unreadable column, the kind of problem, and the column's text; NULL: no problem |
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from kling_pricing.money import MAX_DECIMALS
from kling_pricing.reconcile.aggregates.row_texts import sum_texts
from kling_pricing.reconcile.files.file_reader import RowSource
from kling_pricing.reconcile.id_forms import WORDS, bare_id, is_plain_id, unguarded
from kling_pricing.reconcile.number_sql import (
    duration,
    figure,
    is_plain_number,
    names_unit,
    number_parts,
    spaced,
    unit_name,
)
from kling_pricing.reconcile.problems import RowCheck, first_problem
from kling_pricing.reconcile.staging import literal, matches
from kling_pricing.reconcile.statement_columns import (
    AmountEntry,
    ColumnsEntry,
    PrechargeEntry,
    RequiredColumnEntry,
)
from kling_pricing.reconcile.statement_file import StatementFile
from kling_pricing.reconcile.time_sql import instant
from kling_pricing.reconcile.totals_rows import footer_check, totals_checks
from kling_pricing.wire.fields import folded

STATED = "STRUCT(model VARCHAR, resolution VARCHAR, facts VARCHAR[])"
PROBLEM = 'STRUCT("column" VARCHAR, kind VARCHAR, text VARCHAR)'
STEP = "STRUCT(kind VARCHAR, final BIGINT, taken BIGINT)"

CHARGE = f"""
    CREATE TABLE charge (
      file USMALLINT, "row" BIGINT, task_id VARCHAR, native BIGINT, unit VARCHAR, billed_at TIMESTAMP,
      submitted_at TIMESTAMP, duration_s DECIMAL(12, 6), state VARCHAR, stated {STATED}, row_id VARCHAR,
      step {STEP}, earlier BIGINT, may_charge BOOLEAN, problem {PROBLEM}
    )
"""

_NUMBER = "-?(0|[1-9][0-9]{0,8})"
"""At most nine digits before the point, so that billionths fit 64 bits; no video costs more."""
_MAY_CHARGE = f"""
    CASE WHEN number IS NOT NULL THEN number <> 0 WHEN ifnull(fault, '') = '' THEN trim(amount) <> ''
      ELSE trim(task_id) <> '' AND NOT {matches("task_id", WORDS)} END
"""
_FOOTER_TEXTS = (
    *("task_id", "billed_text", "submitted_text", "duration", "state_text", "sign_text", "row_id"),
    *("stated.model", "stated.resolution", "array_to_string(stated.facts, '')"),
)
"""The texts of a row of a task, besides its amount."""
UNFINISHED = "'queued', 'processing'"
"""States of a task that may still be charged, so that a charge of zero is not a charge."""


def charges(
    source: RowSource, mapping: StatementFile, file: int, units: Iterable[str], models: Iterable[str] = ()
) -> str:
    """Returns the SQL that reads the charges of a statement, in the order of its rows.

    Args:
        source: the columns of the statement.
        mapping: their meaning.
        file: the number of the statement.
        units: the known units of the provider.
        models: the names of models whose rows must name a task.
    """
    units = sorted({*units, *_valued_units(mapping)})
    marks: dict[str, str] = {}

    def mark_of(entry: RequiredColumnEntry) -> str:
        """Returns the name of a column's text in the query."""
        name = f"mark_{len(marks)}"
        marks[name] = _text(source, entry)
        return name

    totals = totals_checks(mapping.totals, mark_of)
    more: list[RowCheck] = []
    footer_texts: Sequence[str] = _FOOTER_TEXTS
    if mapping.answers is not None:
        columns, texts = answers_columns(mapping), _answer_texts(source)
        stated = [source.texts["model"], "''", source.texts["facts"]]
    elif mapping.aggregates is not None:
        columns = mapping.aggregates.as_columns
        texts = _texts(source, columns, units)
        sums = sum_texts(mapping.aggregates, lambda entry: _text(source, entry), mark_of)
        texts["task_id"], stated = sums.name, sums.stated
        totals += sums.totals
        more += sums.checks
        footer_texts = sums.texts
    elif mapping.columns is not None:
        columns, texts = mapping.columns, _texts(source, mapping.columns, units)
        stated = [_text(source, entry) for entry in (columns.model, columns.resolution, *columns.facts)]
    texts |= marks | {"kept": _kept(source, mapping)}
    is_plain = is_plain_number("amount", source.decimal)
    plain = "replace(amount, ',', '.')" if source.decimal == "," else "amount"
    lengths = _lengths(columns, source)
    thousands = mapping.thousands or source.thousands
    is_answer = mapping.answers is not None
    problem = first_problem(
        *(columns, units, models, source),
        is_answer=is_answer,
        totals=totals,
        footer=None if is_answer else footer_check(columns.amount.column, footer_texts),
        more=more,
    )
    return f"""
        WITH text AS (
          SELECT {source.row or "NULL"} AS "row", {source.fault} AS fault,
            {", ".join(f"ifnull({sql}, '') AS {name}" for name, sql in texts.items())},
            {_stated(stated)} AS stated
          FROM {source.relation}
        ), figured AS (
          SELECT *, CASE WHEN {is_plain} THEN {plain}
              WHEN {names_unit("parts", "unit")} THEN {figure("parts", source.decimal, thousands)} END
            AS figure, {lengths.figure} AS length_figure
          FROM (
            SELECT *, {number_parts("spaced_amount")} AS parts, {lengths.parts} AS length,
              {bare_id("unguarded_id")} AS bare_id
            FROM (
              SELECT *, {spaced("amount", source.decimal)} AS spaced_amount,
                {lengths.spaced} AS spaced_duration,
                CASE WHEN {is_plain_id("task_id")} THEN NULL ELSE {unguarded("task_id")} END AS unguarded_id
              FROM text
            )
          )
        ), read AS (
          SELECT *, {_native(columns.amount, source)} AS number,
            {instant("billed_text", columns.billed_at)} AS billed_at,
            {instant("submitted_text", columns.submitted_at)} AS submitted_at,
            {lengths.duration_s} AS duration_s,
            {_state(columns, is_answer=is_answer)} AS state
          FROM figured
        ), stated AS (
          SELECT *,
            CASE WHEN number <> 0 OR NOT ifnull(state IN ({UNFINISHED}), FALSE) THEN number END AS native
          FROM read
        )
        SELECT {file} AS file, "row", task_id, native, unit, billed_at, submitted_at, duration_s, state, stated,
          nullif(row_id, '') AS row_id, {_step(columns.precharge)} AS step, NULL::BIGINT AS earlier,
          {_MAY_CHARGE} AS may_charge, {problem} AS problem
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


class _Lengths(NamedTuple):
    """The SQL of the stages in which lengths are read."""

    spaced: str = "NULL"
    parts: str = "NULL"
    figure: str = "NULL"
    duration_s: str = "NULL::DECIMAL(12, 6)"


def _lengths(columns: ColumnsEntry, source: RowSource) -> _Lengths:
    """Returns the SQL that reads lengths; a statement without them does not wait for it to be prepared."""
    entry, decimal = columns.duration_s, source.decimal
    if entry is None:
        return _Lengths()
    return _Lengths(
        spaced("duration", decimal),
        number_parts("spaced_duration"),
        figure("length", decimal, None),
        duration("duration", "length", "length_figure", decimal, entry.unit),
    )


def _valued_units(mapping: StatementFile) -> Iterable[str]:
    """Returns the units whose value the mapping itself gives."""
    if mapping.amount is None:
        return ()
    entries = mapping.amount.units.items()
    return [entry.unit or text for text, entry in entries if entry.value is not None]


def _text(source: RowSource, entry: object) -> str:
    """Returns the SQL of a column's text; the text is empty if the file does not have the column."""
    return _column(source, entry.columns) if isinstance(entry, RequiredColumnEntry) else "''"


def _column(source: RowSource, names: Iterable[str]) -> str:
    """Returns the SQL of the first text of a column with several names."""
    texts = [source.texts[name] for name in names if name in source.texts]
    if len(texts) == 1:
        return texts[0]
    wanted = [f"nullif({text}, '')" for text in texts]
    return f"coalesce({', '.join(wanted)}, '')" if wanted else "''"


def _texts(source: RowSource, columns: ColumnsEntry, units: Iterable[str]) -> dict[str, str]:
    """Returns the SQL of each text of a row of a table, by name."""
    steps = columns.precharge
    unit_text = source.texts.get(columns.amount.unit_column or "")
    return {
        "task_id": _text(source, columns.task_id),
        "amount": _text(source, columns.amount),
        "unit": _unit(columns.amount, unit_text, units),
        "billed_text": f"trim({_text(source, columns.billed_at)})",
        "submitted_text": f"trim({_text(source, columns.submitted_at)})",
        "duration": f"trim({_text(source, columns.duration_s)})",
        "state_text": _text(source, columns.state),
        "sign_text": _text(source, columns.amount.sign),
        "row_id": _text(source, columns.row_id),
        "final_text": _text(source, steps and steps.final),
        "taken_text": _text(source, steps and steps.taken),
        "refund_text": _text(source, steps and steps.refund),
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
        "sign_text": "''",
        "row_id": "''",
    }


def _kept(source: RowSource, mapping: StatementFile) -> str:
    """Returns the SQL of a text that is empty if a row is not a charge by the mapping.

    A row that cannot be read at all may be a charge.
    """
    conditions = []
    for column, texts in mapping.where.items():
        text = f"ifnull({_column(source, (column,))}, '')"
        unread = f"({text} = '' AND ifnull({source.fault}, '') <> '')"
        conditions.append(f"(lower(trim({text})) IN ({_any_of(map(folded, texts))}) OR {unread})")
    return f"CASE WHEN {' AND '.join(conditions)} THEN 'x' ELSE '' END" if conditions else "'x'"


def _stated(texts: Sequence[str]) -> str:
    """Returns the SQL of the column `stated` from those of the model, the resolution and the facts."""
    model, resolution, *facts = (f"ifnull({text}, '')" for text in texts)
    return f"CAST({{'model': {model}, 'resolution': {resolution}, 'facts': [{', '.join(facts)}]}} AS {STATED})"


def _unit(amount: AmountEntry, text: str | None, units: Iterable[str]) -> str:
    """Returns the SQL of a unit; a currency may have another name if the provider has no such unit."""
    if text is None:
        return literal(amount.unit or "")
    name = f"CASE WHEN {text} IN ({_any_of(units)}) THEN {text} ELSE {unit_name(text)} END"
    if not amount.units:
        return name
    whens = " ".join(
        f"WHEN {literal(folded(written))} THEN {literal(entry.unit or written)}"
        for written, entry in amount.units.items()
    )
    return f"CASE lower(trim({text})) {whens} ELSE {name} END"


def _native(amount: AmountEntry, source: RowSource) -> str:
    """Returns the SQL of billionths of the unit; NULL if the text is not an amount of that unit."""
    text = "figure"
    named = {entry.unit or written for written, entry in amount.units.items()}
    others = {name: amount.decimals_of(name) for name in named if amount.decimals_of(name) != amount.decimals}
    valid = matches(text, _amount(amount.decimals))
    if others:
        whens = (f"WHEN {literal(name)} THEN {matches(text, _amount(most))}" for name, most in others.items())
        valid = f"CASE unit {' '.join(whens)} ELSE {valid} END"
    fraction = f"rpad(split_part({text}, '.', 2), {MAX_DECIMALS}, '0')"
    written = f"split_part({text}, '.', 1) || {fraction}"
    if not any(map(amount.decimals_of, named or {""})):
        written = f"{text} || '{'0' * MAX_DECIMALS}'"
    digits = f"CAST({written} AS BIGINT)"
    return f"CASE WHEN {valid} THEN {_signed(amount, digits, source)} END"


def _signed(amount: AmountEntry, digits: str, source: RowSource) -> str:
    """Returns the SQL of an amount with its sign; NULL if the mapping does not know the sign's text."""
    sign = amount.sign
    if sign is None or not any(name in source.texts for name in sign.columns):
        return digits if amount.charges == "positive" else f"-{digits}"
    results = ((sign.negative, f"-{digits}"), (sign.zero, "0"), (sign.positive, digits))
    whens = " ".join(
        f"WHEN lower(trim(sign_text)) IN ({_any_of(map(folded, texts))}) THEN {result}"
        for texts, result in results
        if texts
    )
    return f"CASE {whens} {'' if sign.positive else f'ELSE {digits}'} END"


def _amount(decimals: int) -> str:
    return _NUMBER + (rf"([.][0-9]{{1,{decimals}}})?" if decimals else "")


def _step(entry: PrechargeEntry | None) -> str:
    """Returns the SQL of the column `step`."""
    if entry is None:
        return f"NULL::{STEP}"
    final, taken = (
        f"CASE WHEN {matches(text, _amount(0))} THEN CAST({text} || '{'0' * MAX_DECIMALS}' AS BIGINT) END"
        for text in ("final_text", "taken_text")
    )
    return f"""
      CAST({{
        'kind': CASE WHEN refund_text <> '' AND number < 0 THEN 'refund' WHEN final_text <> '' THEN 'final'
          ELSE 'first' END,
        'final': {final},
        'taken': CASE WHEN refund_text <> '' AND number < 0 THEN -number ELSE {taken} END
      }} AS {STEP})
    """


def _state(columns: ColumnsEntry, *, is_answer: bool) -> str:
    if is_answer:
        return "nullif(state_text, '')"
    if columns.state is None:
        return "NULL::VARCHAR"
    whens = " ".join(
        f"WHEN {literal(folded(written))} THEN {literal(state)}"
        for written, state in columns.state.names.items()
    )
    return f"CASE lower(trim(state_text)) {whens} END"


def _any_of(texts: Iterable[str]) -> str:
    return ", ".join(map(literal, sorted(texts))) or "''"
