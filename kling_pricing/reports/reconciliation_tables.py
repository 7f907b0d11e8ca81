"""The tables of a reconciliation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal

from kling_pricing.reconcile.model import Line, Reconciled, Total, exceptions_of
from kling_pricing.reports.categories import CATEGORIES, STANDINGS
from kling_pricing.reports.document import Column, DisplayName, Row, Section
from kling_pricing.reports.formatting import labels_text, percent, safe, safe_or_none, safe_text

NAMED = {"project": "no project", "model": "unknown model", "day": "unknown day"}
"""What is said where there is no name."""

_CATEGORY = Column(
    "category",
    "Category",
    display_names={
        name: DisplayName(each.title, STANDINGS[each.standing]) for name, each in CATEGORIES.items()
    },
)
_AMOUNTS = (
    Column("expected", "Expected", "amount"),
    Column("variance", "Variance", "amount"),
    Column("billed", "Billed", "amount"),
)


def summary(by_category: Sequence[Total], overall: Mapping[str, Total]) -> Section:
    """How expected becomes billed, category by category."""
    rows: list[Row] = [
        (
            each.name,
            CATEGORIES[each.name].about,
            each.currency,
            each.lines,
            percent(Decimal(each.lines), Decimal(overall[each.currency].lines)),
            each.expected,
            each.variance,
            each.billed,
        )
        for each in by_category
    ]
    return Section(
        "summary",
        "Tie-out",
        "Expected, plus the variance of each category, is what was billed.",
        (
            _CATEGORY,
            Column("meaning", "Meaning", "prose"),
            Column("currency", "Currency"),
            Column("lines", "Lines", "count"),
            Column("share", "Lines, %", "percent"),
            *_AMOUNTS,
        ),
        lambda: rows,
        tuple(
            ("Total", None, each.currency, each.lines, None, each.expected, each.variance, each.billed)
            for each in overall.values()
        ),
    )


def totals(
    name: str,
    title: str,
    what: str,
    totals: Iterable[Total],
    overall: Mapping[str, Total],
    *,
    chronological: bool = False,
) -> Section:
    """Lines taken together; the largest first, or by day."""
    ordered = sorted(
        totals,
        key=lambda each: (
            (each.currency, each.name)
            if chronological
            else (each.currency, -each.billed, -each.expected, each.name)
        ),
    )
    rows: list[Row] = [
        (safe_or_none(each.name or None), each.currency, each.lines, each.expected, each.variance, each.billed)
        for each in ordered
    ]
    column = name.removeprefix("by_")
    return Section(
        name,
        title,
        "",
        (
            Column(column, what, missing=NAMED[column]),
            Column("currency", "Currency"),
            Column("lines", "Lines", "count"),
            *_AMOUNTS,
        ),
        lambda: rows,
        tuple(
            ("Total", each.currency, each.lines, each.expected, each.variance, each.billed)
            for each in overall.values()
        ),
    )


_LINE_COLUMNS = (
    _CATEGORY,
    Column("task_id", "Task"),
    Column("project", "Project"),
    Column("model", "Model"),
    Column("resolution", "Resolution"),
    Column("tier", "Tier"),
    Column("quantity", "Quantity", "quantity"),
    Column("unit", "Unit", on_page=False),
    Column("currency", "Currency"),
    *_AMOUNTS,
    Column("cause", "Cause", "prose"),
    Column("remedy", "What to do", "prose"),
    Column("submitted_at", "Submitted (UTC)", "instant"),
    Column("billed_at", "Billed (UTC)", "instant", on_page=False),
    Column("booked", "Booked", "amount", on_page=False),
    Column("basis", "Basis", on_page=False),
    Column("price_table", "Price table", on_page=False),
    Column("key", "Job key", on_page=False),
    Column("reservation_id", "Reservation", on_page=False),
    Column("labels", "Labels", on_page=False),
    Column("rows", "Rows of the statement", on_page=False),
    Column("provider", "Provider", on_page=False),
)


def _leaving_out(*names: str) -> tuple[Column, ...]:
    """The columns of lines, of which the page leaves out some more."""
    return tuple(each._replace(on_page=each.on_page and each.name not in names) for each in _LINE_COLUMNS)


def _line_row(line: Line) -> Row:
    return (
        line.category,
        safe_or_none(line.task_id),
        safe_or_none(line.project),
        safe_or_none(line.model),
        line.resolution,
        line.tier,
        line.quantity,
        line.unit,
        line.currency,
        line.expected,
        line.variance,
        line.billed,
        safe_text(line.cause),
        safe_text(line.remedy),
        line.submitted_at,
        line.billed_at,
        line.booked,
        line.basis,
        line.table,
        safe_or_none(line.key),
        line.reservation_id,
        safe(labels_text(line.labels)) or None,
        safe(", ".join(line.rows)) or None,
        line.provider,
    )


def exceptions(reconciled: Reconciled) -> Section:
    """The lines with something to do."""
    return Section(
        "exceptions",
        "Exceptions",
        "Lines that somebody has to do something about.",
        _leaving_out("model", "resolution", "tier", "quantity", "submitted_at"),
        lambda: map(_line_row, exceptions_of(reconciled)),
        length=reconciled.exceptions,
    )


def lines(reconciled: Reconciled, length: int) -> Section:
    """All lines, of which there are `length`."""
    return Section(
        "lines",
        "All lines",
        "Every task of the ledger, of the statement, or of both.",
        _leaving_out("cause", "remedy"),
        lambda: (_line_row(line) for line in reconciled.lines()),
        length=length,
    )
