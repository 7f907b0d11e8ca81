"""Statements: the rows of each job with their planted errors, and the forms in which a statement is saved."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, NamedTuple

from kling_pricing.money import add, divide, format_decimal, multiply, subtract
from kling_pricing.sandbox.accounts import Part, part_from
from kling_pricing.sandbox.clock import from_ms, to_ms
from kling_pricing.sandbox.exchange import JSON, Reply
from kling_pricing.sandbox.jobs import Job, Records

FORMS = ("api", "csv", "spreadsheet", "unicode-text", "rounded-ids")
"""The forms of a statement: the API's own form, CSV, and three forms in which spreadsheet programs save it."""

_DAY_MS = 24 * 3600 * 1000
_LATER_MS = 2 * _DAY_MS
_TWO, _DEARER = Decimal(2), Decimal("1.25")
_SIGNIFICANT = 6
_DECIMAL = re.compile(r"-?[0-9]+\.[0-9]+")


class _PlannedRow(NamedTuple):
    at_ms: int
    parts: list[Part]
    changes: Mapping[str, Any] = {}


def plant(records: Records, job: Job, at_ms: int) -> None:
    """Adds the rows of a finished job to the statement, with the errors in the job's plan."""
    parts = [part_from(part) for part in job.details["parts"]]
    errors = job.details["statement"]
    is_charged = job.details["charged"] or (job.state == "failed" and "failed-but-charged" in errors)
    if not is_charged:
        return
    rows = [_PlannedRow(at_ms, parts)]
    for error in errors:
        rows = _with_error(error, rows, job)
    planted = " ".join(errors)
    for row in rows or [_PlannedRow(at_ms, [])]:
        records.add_row(job, row.at_ms, planted, [part.written() for part in row.parts], row.changes)


def _with_error(error: str, rows: list[_PlannedRow], job: Job) -> list[_PlannedRow]:
    """Returns the rows with an additional error."""
    first, *others = rows
    if error == "twice":
        return [first, first, *others]
    if error == "dearer":
        return [first._replace(parts=[_scaled(part, _DEARER) for part in first.parts]), *others]
    if error == "too-long":
        longer = {"made_s": job.details["made_s"] * 2}
        return [_PlannedRow(first.at_ms, [_scaled(part, _TWO) for part in first.parts], longer), *others]
    if error == "late":
        return [first._replace(at_ms=_next_month(first.at_ms)), *others]
    if error == "missing":
        return others
    if error == "refunded-later":
        back = [part.times(Decimal(-1)) for part in first.parts]
        return [first, *others, _PlannedRow(first.at_ms + _LATER_MS, back)]
    if error == "corrected-later":
        wrong = [_scaled(part, _TWO) for part in first.parts]
        back = [part.times(Decimal(-1)) for part in wrong]
        later = first.at_ms + _LATER_MS
        return [first._replace(parts=wrong), *others, _PlannedRow(later, back), _PlannedRow(later, first.parts)]
    if error == "split":
        halves = [_scaled(part, Decimal("0.5")) for part in first.parts]
        rest = [_less(part, half) for part, half in zip(first.parts, halves, strict=True)]
        return [first._replace(parts=halves), *others, _PlannedRow(_next_month(first.at_ms), rest)]
    return rows


def _scaled(part: Part, factor: Decimal) -> Part:
    """Returns a part multiplied by a factor; an amount of quota stays a whole number."""
    scaled = part.times(factor)
    if part.source != "quota" or not part.amount:
        return scaled
    whole = Decimal(int(scaled.amount))
    return scaled._replace(amount=whole, worth=multiply(whole, divide(part.worth, part.amount)))


def _less(part: Part, taken: Part) -> Part:
    return part._replace(
        amount=subtract(part.amount, taken.amount),
        worth=subtract(part.worth, taken.worth),
        list_price=subtract(part.list_price, taken.list_price),
    )


def _next_month(at_ms: int) -> int:
    at = from_ms(at_ms)
    return to_ms(datetime(at.year + at.month // 12, at.month % 12 + 1, 1, 1, tzinfo=UTC))


def planted_errors(records: Records, provider: str, since_ms: int, until_ms: int) -> Iterator[dict[str, Any]]:
    """Yields the task, error, time and money of each statement row that has a planted error."""
    for job, at_ms, planted, parts, _ in records.rows(provider, since_ms, until_ms):
        if planted:
            worth: dict[str, Decimal] = {}
            for part in map(part_from, parts):
                worth[part.currency] = add(worth.get(part.currency, Decimal(0)), part.worth)
            money = {currency: format_decimal(amount) for currency, amount in worth.items()}
            yield {"task": job.id, "error": planted, "at": from_ms(at_ms).isoformat(), "money": money}


def saved(lines: Any, form: str, whole: Any, columns: Sequence[str]) -> Reply:
    """Returns the response that contains a statement.

    Args:
        lines: the rows, as flat objects.
        form: one of `FORMS`.
        whole: the API's own response with these rows; None: the API sends CSV.
        columns: the names of the columns, for a statement without rows.
    """
    if form == "api" and whole is not None:
        return Reply(200, whole, {"content-type": JSON})
    delimiter, cell, encoding = _SAVES.get(form, _SAVES["csv"])
    charset = encoding.removesuffix("-sig")
    content = _table(lines, delimiter, cell, columns).encode(encoding)
    return Reply(200, content, {"content-type": f"text/csv; charset={charset}"})


def _table(
    rows: Sequence[Mapping[str, Any]], delimiter: str, cell: Callable[[str, Any], str], columns: Sequence[str]
) -> str:
    names = list(dict.fromkeys(name for row in rows for name in row)) or columns
    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter, lineterminator="\r\n")
    writer.writerow(names)
    for row in rows:
        writer.writerow([cell(name, row.get(name)) for name in names])
    return out.getvalue()


def _plain(_name: str, value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Decimal):
        return format_decimal(value)
    return "" if value is None else str(value)


def _capitals(name: str, value: Any) -> str:
    return str(value).upper() if isinstance(value, bool) else _plain(name, value)


def _german(name: str, value: Any) -> str:
    text = _capitals(name, value)
    return text.replace(".", ",") if _DECIMAL.fullmatch(text) else text


def _rounded(name: str, value: Any) -> str:
    """Writes a long number as spreadsheet programs do, such as `8.67284E+17`."""
    text = _plain(name, value)
    if not text.isdecimal() or len(text) <= 11:  # noqa: PLR2004 (a spreadsheet's widest whole number)
        return text
    return format(Decimal(text), f".{_SIGNIFICANT - 1}E")


_SAVES: Mapping[str, tuple[str, Callable[[str, Any], str], str]] = {
    "csv": (",", _plain, "utf-8"),
    "spreadsheet": (";", _german, "utf-8-sig"),
    "unicode-text": ("\t", _capitals, "utf-16"),
    "rounded-ids": (",", _rounded, "utf-8"),
}
"""Form -> the delimiter, the function that writes a cell, and the encoding."""
