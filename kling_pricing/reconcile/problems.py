"""The problems of a statement's rows: how they are found in SQL, and what a row's line says about them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from kling_pricing.budgets import MAX_LABEL_CHARS
from kling_pricing.reconcile.files.file_reader import RowSource
from kling_pricing.reconcile.id_forms import DATE_AS_ID, NOT_IDS, TOTALS, WORDS
from kling_pricing.reconcile.number_sql import names_unit
from kling_pricing.reconcile.staging import literal, matches
from kling_pricing.reconcile.statement_columns import ColumnsEntry
from kling_pricing.reconcile.time_sql import is_instant
from kling_pricing.wire.fields import folded


class Problem(NamedTuple):
    """A kind of problem of a row.

    Attributes:
        cause: its words, to follow the name of the column.
        remedy: what to do about it.
        shows: whether its text may be shown as it is, because it can only be one of a few words.
    """

    cause: str
    remedy: str = (
        "Correct the row or ask the provider for another statement; the row's charge is not counted anywhere."
    )
    shows: bool = False


class RowCheck(NamedTuple):
    """A check for a problem of a row.

    Attributes:
        condition: the SQL condition that a row has the problem.
        column: the column that shows it.
        kind: the kind of the problem.
        text: the SQL of the text that the line of the row shows.
    """

    condition: str
    column: str
    kind: str
    text: str


_NO_AMOUNT = "is not an amount in plain digits, such as 0.714: {text}"
_EXPORT_AGAIN = "Export the statement again with the ids as text; the row's charge is not counted anywhere."

PROBLEMS: Mapping[str, Problem] = {
    "row": Problem("the row cannot be read: {text}", shows=True),
    "empty": Problem("is empty"),
    "taskless": Problem(
        "is empty, although the row charges {text} for a model whose rows must have a task id",
        "Find the task at the provider by its time and amount; the row's charge is not counted anywhere.",
    ),
    "rounded": Problem("is {text}: a spreadsheet has rounded the ids", _EXPORT_AGAIN),
    "long": Problem(
        f"is not a task id: it has more than {MAX_LABEL_CHARS} characters, or an invisible character"
    ),
    "guarded": Problem(
        "is {text}, which is not how the provider writes ids: a program has added characters to the id",
        _EXPORT_AGAIN,
    ),
    "zeros": Problem("is {text}: a spreadsheet seems to have removed its leading zeros", _EXPORT_AGAIN),
    "words": Problem("is not a task id but several words"),
    "no_id": Problem("is {text}, which stands for a missing task id"),
    "date_id": Problem("is {text}: a spreadsheet has turned the id into a date", _EXPORT_AGAIN),
    "number": Problem(_NO_AMOUNT),
    "grouped": Problem(
        _NO_AMOUNT,
        "If the separator divides thousands, set `thousands` in your own mapping; if not, correct the row. The "
        "row's charge is not counted anywhere.",
    ),
    "separator": Problem(
        "has a separator that may be a decimal separator or a thousands separator: {text}",
        "Set `decimal` or `thousands` in your own mapping to the separator that the statement uses; the row's "
        "charge is not counted anywhere.",
    ),
    "other_unit": Problem(
        "names a different unit from the row's: {text}",
        "Find out in which unit the provider charges, and correct `unit` or `unit_column` in your own mapping; "
        "until then, the row's charge is not counted anywhere.",
    ),
    "digits": Problem("has more digits than its unit allows: {text}"),
    "unit": Problem("is neither a currency nor a known unit: {text}"),
    "worth": Problem(
        "is {text}, and no price table of the provider gives the value of that unit",
        "Ask the provider for the value of the unit, and add it to `units` in your own price table; until "
        "then, the row's charge is not counted anywhere.",
        shows=True,
    ),
    "sign": Problem(
        "does not name a known kind of charge: {text}",
        "Ask the provider what the text means, and list it under `sign` in your own mapping; until then, the "
        "row's charge is not counted anywhere.",
    ),
    "time": Problem("is not a time in the mapping's format: {text}"),
    "rounded_time": Problem(
        "is {text}, a time that was rounded by a spreadsheet",
        "Export the statement again, and keep the column as text; the row's charge is not counted anywhere.",
    ),
    "duration": Problem("is not a number of seconds: {text}"),
    "no_key": Problem(
        "is empty, so the row does not show which tasks it adds up",
        "If the row is a total, list the column under `totals` in your own mapping; if not, correct the row. "
        "The row's amount is not counted anywhere.",
    ),
    "day": Problem(
        "is not a day but an instant: {text}",
        "Export the statement with days, or give the `format` of its days in your own mapping; the row's "
        "amount is not counted anywhere.",
    ),
    "tasks": Problem("is not a number of tasks: {text}"),
    "repeated": Problem(
        "has another row for the same tasks, such as the same day and model ({text})",
        "If the statement divides its sums further, set `several_rows: true` in your own mapping, or name the "
        "column that divides them; if not, remove the repeated row. The row's amount is not counted anywhere.",
        shows=True,
    ),
}
"""The kinds of problems."""

LEFT_OUT, NO_TASK, FOOTER_ROW = "left_out", "no_task", "footer"
IGNORED = f"'{LEFT_OUT}', '{NO_TASK}', '{FOOTER_ROW}'"
"""Kinds of rows that are no charges of a task, which is no problem: they are counted, and have no line."""

_CURRENCY = re.compile("[A-Z]{3}")
_ROUNDED = r"[1-9]([.,][0-9]+)?[eE][+]?[0-9]{1,3}|[0-9]{15,}[.]0"
_UNSEEN = (
    r"[\p{C}\p{Zl}\p{Zp}\x{00A0}\x{00AD}\x{1680}\x{2000}-\x{200A}\x{202F}\x{205F}\x{3000}\x{115F}\x{1160}\x{3164}"
    r"\x{FFA0}\x{FFFD}]"
)
"""Invisible characters: two ids that look the same must be the same."""
_UNCHARGED = ("queued", "processing", "failed", "cancelled")
"""States in which a row may have no amount."""
_BLANK = " AND ".join(
    f"{text} = ''" for text in ("task_id", "amount", "billed_text", "submitted_text", "stated.model")
)
_MORE_DIGITS = "-?(0|[1-9][0-9]{0,8})[.][0-9]+"
_GROUPED = "[1-9][0-9]{0,2}[.,][0-9]{3}"
_SEPARATED = "-?[0-9]+[.,][0-9.,]*"


def first_problem(
    columns: ColumnsEntry,
    units: Iterable[str],
    models: Iterable[str],
    source: RowSource,
    *,
    is_answer: bool,
    totals: Iterable[RowCheck] = (),
    footer: RowCheck | None = None,
    more: Iterable[RowCheck] = (),
) -> str:
    """Returns the SQL of a row's first problem; one cheap check comes first, as nearly every row is valid.

    Args:
        columns: the meaning of the columns.
        units: the known units of the provider.
        models: the names of models whose rows must name a task.
        source: the columns of the statement.
        is_answer: whether the rows are answers about tasks.
        totals: the checks that find totals, which come before all others.
        footer: the check that finds footers, which have no amount.
        more: further checks, which come last.
    """
    amount = columns.amount
    uncharged = "TRUE" if is_answer else f"ifnull(state IN ({', '.join(map(literal, _UNCHARGED))}), FALSE)"
    listed_units = {entry.unit or text for text, entry in amount.units.items()}
    currencies = {unit for unit in listed_units if _CURRENCY.fullmatch(unit)}
    known_unit = f"unit IN ({_any_of({*units, *currencies})})"
    if not amount.units:
        known_unit = f"({known_unit} OR {matches('unit', _CURRENCY.pattern)})"
    times = [
        (entry, f"{name}_text", is_instant(name, entry))
        for name, entry in (("billed", columns.billed_at), ("submitted", columns.submitted_at))
        if entry is not None
    ]
    steps = (
        [(columns.precharge.final, "final_text"), (columns.precharge.taken, "taken_text")]
        if columns.precharge
        else []
    )
    valid = [
        "ifnull(fault, '') = ''",
        "kept <> ''",
        f"length(task_id) <= {MAX_LABEL_CHARS}",
        "bare_id IS NULL",  # so every id that may be a changed one, or a word, is looked at again
        "number IS NOT NULL",
        known_unit,
        *(is_valid for _, _, is_valid in times),
        "(duration = '' OR duration_s IS NOT NULL)",
        *(is_whole(text) for _, text in steps),
        *(f"NOT ({check.condition})" for check in (*totals, *more)),
    ]
    task = columns.task_id.column
    invisible = f"regexp_matches(task_id, '{_UNSEEN}')"
    unread = "amount <> '' AND number IS NULL"
    other_unit = f"(parts.name = '' OR parts.unit = '') AND NOT {names_unit('parts', 'unit')}"
    checks: list[tuple[str, str, str, str]] = [
        *totals,
        ("kept = ''", "", LEFT_OUT, "''"),
        ("ifnull(fault, '') <> ''", "", "row", "fault"),
    ]
    if footer is not None:
        checks.append(footer)
    if source.has_blanks:
        checks.append((_BLANK, "", LEFT_OUT, "''"))
    if columns.task_id.optional:
        named = f"lower(stated.model) IN ({_any_of(map(folded, models))})"
        checks.append((f"task_id = '' AND NOT {named}", task, NO_TASK, "''"))
        checks.append(("task_id = '' AND number IS NOT NULL", task, "taskless", "amount"))
    checks += [
        ("bare_id = ''", task, "empty", "''"),
        (f"lower(rtrim(bare_id, ' :\uff1a.*')) IN ({_any_of(TOTALS)})", task, "total", "bare_id"),
        (matches("bare_id", _ROUNDED), task, "rounded", "task_id"),
        (f"lower(bare_id) IN ({_any_of(NOT_IDS)})", task, "no_id", "bare_id"),
        (matches("bare_id", DATE_AS_ID), task, "date_id", "bare_id"),
        (f"amount = '' AND NOT {uncharged}", amount.column, "empty", "''"),
    ]
    sign = amount.sign
    if sign is not None and sign.positive and any(name in source.texts for name in sign.columns):
        listed = _any_of(map(folded, (*sign.positive, *sign.negative, *sign.zero)))
        checks.append((f"lower(trim(sign_text)) NOT IN ({listed})", sign.column, "sign", "sign_text"))
    if source.decimal is None:
        separated = f"{unread} AND {matches('amount', _SEPARATED)}"
        checks.append((separated, amount.column, "separator", "amount"))
    unit_column = amount.unit_column or amount.column
    worthless = f"amount <> '' AND NOT {known_unit}"
    checks += [
        (
            f"{unread} AND {matches('figure', _MORE_DIGITS)}",
            amount.column,
            "digits",
            "amount",
        ),
        (f"{unread} AND parts.digits <> '' AND {other_unit}", amount.column, "other_unit", "amount"),
        (f"{unread} AND {matches('parts.digits', _GROUPED)}", amount.column, "grouped", "amount"),
        (unread, amount.column, "number", "amount"),
        (f"{worthless} AND unit = ''", unit_column, "empty", "''"),
        *(
            (f"{worthless} AND unit = {literal(entry.unit or text)}", unit_column, "worth", literal(text))
            for text, entry in amount.units.items()
        ),
        (worthless, unit_column, "unit", "unit"),
    ]
    for entry, text, is_valid in times:
        checks.append((f"NOT {is_valid} AND {text} = ''", entry.column, "empty", "''"))
        rounded = f"NOT {is_valid} AND {matches(text, _ROUNDED)}"
        checks.append((rounded, entry.column, "rounded_time", text))
        checks.append((f"NOT {is_valid}", entry.column, "time", text))
    for step_entry, text in steps:
        checks.append((f"NOT {is_whole(text)}", step_entry.column, "number", text))
    if columns.duration_s is not None:
        checks.append(
            ("duration <> '' AND duration_s IS NULL", columns.duration_s.column, "duration", "duration")
        )
    checks += [  # last, because `mangled_ids` restores some of these ids
        (f"length(task_id) > {MAX_LABEL_CHARS} OR {invisible}", task, "long", "''"),
        (matches("bare_id", WORDS), task, "words", "''"),
        ("bare_id <> task_id", task, "guarded", "task_id"),
        *more,
    ]
    whens = " ".join(
        f"WHEN {condition} THEN {{'column': {literal(column)}, 'kind': {literal(kind)}, 'text': {text}}}"
        for condition, column, kind, text in checks
    )
    return f"CASE WHEN {' AND '.join(valid)} THEN NULL {whens} END"


def is_whole(text: str) -> str:
    """Returns the condition that a text is empty or a whole number, as amounts in a gateway's units are."""
    return f"({text} = '' OR {matches(text, '0|[1-9][0-9]{0,8}')})"


def _any_of(texts: Iterable[str]) -> str:
    return ", ".join(map(literal, sorted(texts))) or "''"
