"""The tables of a reconciliation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal

from kling_pricing.money import sum_of
from kling_pricing.reconcile.categories import CATEGORIES, Standing, exceptions_text
from kling_pricing.reconcile.causes import Cause, cause_key
from kling_pricing.reconcile.model import Line, Reconciled, Total, exceptions_of
from kling_pricing.reports.charts import Tone
from kling_pricing.reports.document import Column, DisplayName, Row, Section
from kling_pricing.reports.formatting import counted, labels_text, percent, safe, safe_or_none, safe_text

NAMED = {"project": "no project", "model": "unknown model", "day": "unknown day"}
"""The words for lines without such a name."""

TONES: Mapping[Standing, Tone] = {
    "matched": "good",
    "explained": "calm",
    "timing": "wait",
    "disputed": "second",
    "open": "bad",
}

_CATEGORY = Column(
    "category",
    "Category",
    display_names={name: DisplayName(rule.title, TONES[rule.standing]) for name, rule in CATEGORIES.items()},
)
_CAUSE_NUMBER = Column("cause_number", "Cause no.", "count")
_AMOUNTS = (
    Column("expected", "Expected", "amount"),
    Column("variance", "Variance", "amount"),
    Column("billed", "Billed", "amount"),
)


_OF_SUMS: Mapping[str, str] = {
    "matched": "The sums are as expected.",
    "timing": "Tasks at the end of a day were charged on the next, or are not charged yet.",
    "not_in_ledger": "Billed, but our ledger has no such tasks.",
    "not_billed": "Expected, overdue, and without a row on the statement.",
    "not_billed_yet": "Expected, within the grace period for late billing, and without a row on the statement.",
}
"""Category -> what its lines have in common if they are sums, where tasks have other words."""


def summary(by_category: Sequence[Total], overall: Mapping[str, Total], *, is_sums: bool) -> Section:
    """Returns the table of the categories, which leads from the expected to the billed amount."""
    meanings = {str(name): rule.meaning for name, rule in CATEGORIES.items()}
    meanings |= _OF_SUMS if is_sums else {}
    rows: list[Row] = [
        (
            total.name,
            meanings[total.name],
            total.currency,
            total.lines,
            percent(Decimal(total.lines), Decimal(overall[total.currency].lines)),
            total.expected,
            total.variance,
            total.billed,
        )
        for total in by_category
    ]
    return Section(
        "summary",
        "Tie-out",
        "The expected amount plus the variances of all categories equals the billed amount.",
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
            ("Total", None, total.currency, total.lines, None, total.expected, total.variance, total.billed)
            for total in overall.values()
        ),
    )


def totals(
    name: str,
    title: str,
    heading: str,
    totals: Iterable[Total],
    overall: Mapping[str, Total],
    *,
    chronological: bool = False,
) -> Section:
    """Returns a table of totals; the largest first, or in the order of days."""
    sizes = list(overall)
    ordered = sorted(
        totals,
        key=lambda total: (
            sizes.index(total.currency),
            *((total.name,) if chronological else (-total.billed, -total.expected, total.name)),
        ),
    )
    rows: list[Row] = [
        (
            safe_or_none(total.name or None),
            total.currency,
            total.lines,
            total.expected,
            total.variance,
            total.billed,
        )
        for total in ordered
    ]
    column = name.removeprefix("by_")
    return Section(
        name,
        title,
        "",
        (
            Column(column, heading, "day" if column == "day" else "text", missing=NAMED[column]),
            Column("currency", "Currency"),
            Column("lines", "Lines", "count"),
            *_AMOUNTS,
        ),
        lambda: rows,
        tuple(
            ("Total", total.currency, total.lines, total.expected, total.variance, total.billed)
            for total in overall.values()
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
    Column("remedy", "What to do", "prose", in_print=False),
    Column("submitted_at", "Submitted (UTC)", "instant"),
    Column("billed_at", "Billed (UTC)", "instant", on_page=False),
    Column("booked", "Booked", "amount", on_page=False),
    Column("basis", "Basis", on_page=False),
    Column("price_table", "Price table", on_page=False),
    Column("key", "Job key", on_page=False),
    Column("reservation_id", "Reservation", on_page=False),
    Column("labels", "Labels", "labels", on_page=False),
    Column("rows", "Rows of the statement", on_page=False),
    Column("provider", "Provider", on_page=False),
)


_SUM_COLUMNS = (
    _CATEGORY,
    Column("day", "Day", "day"),
    Column("model", "Model"),
    Column("resolution", "Resolution"),
    Column("tier", "Tier"),
    Column("project", "Project"),
    Column("account", "Account"),
    Column("currency", "Currency"),
    Column("expected_tasks", "Expected tasks", "count"),
    Column("billed_tasks", "Billed tasks", "count"),
    *_AMOUNTS,
    Column("cause", "Cause", "prose"),
    Column("remedy", "What to do", "prose", in_print=False),
    Column("rows", "Rows of the statement", on_page=False),
    Column("provider", "Provider", on_page=False),
)


def _sum_row(line: Line) -> Row:
    return (
        line.category,
        None if line.day is None else f"{line.day}",
        safe_or_none(line.model),
        line.resolution,
        line.tier,
        safe_or_none(line.project),
        safe_or_none(line.account),
        line.currency,
        line.expected_tasks,
        line.billed_tasks,
        line.expected,
        line.variance,
        line.billed,
        safe_text(line.cause),
        safe_text(line.remedy),
        safe(", ".join(line.rows)) or None,
        line.provider,
    )


def _without_on_page(*names: str) -> tuple[Column, ...]:
    """Returns the columns of lines; these columns are not on the page."""
    return tuple(
        column._replace(on_page=column.on_page and column.name not in names) for column in _LINE_COLUMNS
    )


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


def _sum_columns(reconciled: Reconciled) -> tuple[Column, ...]:
    """Returns the columns of sums; those by which the statement does not divide them are not on the page."""
    hidden = {"day", "model", "resolution", "tier", "project", "account"} - {*reconciled.grain}
    return tuple(
        column._replace(on_page=column.on_page and column.name not in hidden) for column in _SUM_COLUMNS
    )


def causes(by_cause: Sequence[Cause]) -> Section:
    """Returns the table of the causes of the exceptions."""
    lines = sum(cause.lines for cause in by_cause)
    return Section(
        "causes",
        "Exceptions by cause",
        f"{counted(lines, 'line')} that {'needs' if lines == 1 else 'need'} action, "
        f"{counted(len(by_cause), 'cause')}; the largest variance first."
        if by_cause
        else "No line needs action.",
        (
            _CAUSE_NUMBER,
            _CATEGORY,
            Column("cause", "Cause", "prose"),
            Column("currency", "Currency"),
            Column("lines", "Lines", "count"),
            *_AMOUNTS,
            Column("example", "For example"),
        ),
        lambda: [
            (
                cause.number,
                cause.category,
                safe_text(cause.cause),
                cause.currency,
                cause.lines,
                cause.expected,
                cause.variance,
                cause.billed,
                safe_or_none(cause.example),
            )
            for cause in by_cause
        ],
        tuple(
            _cause_total([cause for cause in by_cause if cause.currency == currency], currency)
            for currency in dict.fromkeys(cause.currency for cause in by_cause)
        ),
    )


def _cause_total(by_cause: Sequence[Cause], currency: str) -> Row:
    """Returns the sums of the causes in a currency."""
    lines = sum(cause.lines for cause in by_cause)
    sums = (sum_of(getattr(cause, name) for cause in by_cause) for name in ("expected", "variance", "billed"))
    return (None, "Total", None, currency, lines, *sums, None)


def exceptions(reconciled: Reconciled, by_cause: Sequence[Cause]) -> Section:
    """Returns the table of the exceptions, each with the number of its cause."""
    numbers = {(cause.category, cause.cause, cause.currency): cause.number for cause in by_cause}
    columns, values_of = _without_on_page("model", "resolution", "tier", "quantity", "submitted_at"), _line_row
    if reconciled.grain:
        columns, values_of = _sum_columns(reconciled), _sum_row
    return Section(
        "exceptions",
        "Exceptions",
        "Lines that need action: "
        f"{exceptions_text(reconciled.exceptions, reconciled.open, reconciled.in_dispute)}."
        if reconciled.exceptions
        else "No line needs action.",
        (_CAUSE_NUMBER, *columns),
        lambda: ((numbers[cause_key(line)], *values_of(line)) for line in exceptions_of(reconciled)),
        length=reconciled.exceptions,
    )


def lines(reconciled: Reconciled, length: int) -> Section:
    """Returns the table of all lines, which has `length` rows."""
    return Section(
        "lines",
        "All lines",
        "Every sum that is in the ledger, on the statement, or in both."
        if reconciled.grain
        else "Every task that is in the ledger, on the statement, or in both.",
        _sum_columns(reconciled) if reconciled.grain else _without_on_page("cause", "remedy"),
        lambda: map(_sum_row if reconciled.grain else _line_row, reconciled.lines()),
        length=length,
    )
