"""The burn-down of budgets: how much of each cap was left over time, from the journal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta, tzinfo
from decimal import Decimal
from itertools import groupby

from kling_pricing.ledger.journal import Bucket, BucketHistory, Entry
from kling_pricing.money import add, subtract
from kling_pricing.reports.charts import Bar, BarChart, Limit, Series, Step, StepChart
from kling_pricing.reports.document import Column, Row, Section
from kling_pricing.reports.formatting import labels_text, percent, safe
from kling_pricing.windows import FOREVER, start_of

MAX_CHARTS = 12
"""The most budgets that get a chart, most used first; a budget per user may have thousands of buckets."""

_FEW_WINDOWS = 4


def charts(
    histories: Sequence[BucketHistory], since: datetime, until: datetime, zone: tzinfo
) -> Iterator[StepChart | BarChart]:
    """Returns one chart per budget and set of labels.

    With few windows it shows how much of the cap was left over time; with many, how much each window used.
    """
    groups = [
        list(windows)
        for _, windows in groupby(sorted(histories, key=_order), lambda history: _budget_key(history.bucket))
    ]
    groups.sort(key=lambda windows: max(_share_used(window.bucket) for window in windows), reverse=True)
    for number, windows in enumerate(groups[:MAX_CHARTS], start=1):
        few = len(windows) <= _FEW_WINDOWS
        yield _over_time(number, windows, since, until) if few else _by_window(number, windows, zone)


def _over_time(number: int, windows: Sequence[BucketHistory], since: datetime, until: datetime) -> StepChart:
    bucket = windows[0].bucket
    return StepChart(
        f"budget_{number}",
        _title(bucket),
        f"Remaining budget over time, in {bucket.currency}. The dashed line shows an even pace."
        if any(_has_pace(window.bucket) for window in windows)
        else f"Remaining budget over time, in {bucket.currency}.",
        bucket.currency,
        since,
        until,
        tuple(
            Limit(
                window.bucket.window_start,
                window.bucket.window_end,
                window.bucket.cap,
                paced=_has_pace(window.bucket),
            )
            for window in windows
        ),
        tuple(_steps(window, since, until) for window in windows),
    )


def _by_window(number: int, windows: Sequence[BucketHistory], zone: tzinfo) -> BarChart:
    bucket = windows[0].bucket
    return BarChart(
        f"budget_{number}",
        _title(bucket),
        f"Amounts spent and held in each window, compared with the cap, in {bucket.currency}.",
        bucket.currency,
        upright=True,
        wide=False,
        series=(Series("Spent", "main"), Series("Held", "second")),
        mark="Cap",
        bars=tuple(
            Bar(
                f"{window.bucket.window_start.astimezone(zone):%Y-%m-%d}",
                (window.bucket.spent, window.bucket.held),
                window.bucket.cap,
            )
            for window in windows
        ),
    )


def balances(histories: Sequence[BucketHistory], zone: tzinfo) -> Section:
    """Returns the table of the current balance of each bucket."""
    rows: list[Row] = [_balance(history.bucket, zone) for history in sorted(histories, key=_order)]
    return Section(
        "budgets",
        "Budgets",
        "Balance of each budget in its windows that overlap the period, across all projects.",
        (
            Column("budget", "Budget"),
            Column("labels", "Labels"),
            Column("window", "Window"),
            Column("currency", "Currency"),
            Column("cap", "Cap", "amount"),
            Column("spent", "Spent", "amount"),
            Column("held", "Held", "amount"),
            Column("left", "Remaining", "amount"),
            Column("used", "Used, %", "percent"),
        ),
        lambda: rows,
        length=len(rows),
    )


def days(histories: Sequence[BucketHistory], since: datetime, until: datetime, zone: tzinfo) -> Section:
    """Returns the table of each budget's balance at the end of each day on which it changed."""
    rows = list(_days(histories, since, until, zone))
    return Section(
        "burn_down",
        "Burn-down",
        "Balance of each budget at the end of each day on which the balance changed.",
        (
            Column("budget", "Budget"),
            Column("labels", "Labels"),
            Column("window", "Window"),
            Column("day", f"Day ({zone})", "day"),
            Column("currency", "Currency"),
            Column("cap", "Cap", "amount"),
            Column("spent", "Spent", "amount"),
            Column("held", "Held", "amount"),
            Column("left", "Remaining", "amount"),
        ),
        lambda: rows,
        length=len(rows),
        in_print=False,
    )


def _order(history: BucketHistory) -> tuple[str, str, datetime]:
    return (*_budget_key(history.bucket), history.bucket.window_start)


def _budget_key(bucket: Bucket) -> tuple[str, str]:
    return bucket.budget, labels_text(bucket.labels)


def _labels(bucket: Bucket) -> str:
    """Writes the labels as the command line takes them."""
    return safe(", ".join(f"{label}={value}" for label, value in sorted(bucket.labels.items())))


def _title(bucket: Bucket) -> str:
    labels = _labels(bucket)
    return f"Budget {safe(bucket.budget)} ({labels})" if labels else f"Budget {safe(bucket.budget)}"


def _has_pace(bucket: Bucket) -> bool:
    """Whether the cap can be used at an even pace, which needs a window that ends."""
    return bucket.window_end != FOREVER.end and bucket.rolling is None


def _share_used(bucket: Bucket) -> Decimal:
    """Returns the used part of the cap, where 1 is all of it; only for sorting."""
    used = add(bucket.spent, bucket.held)
    return used / bucket.cap if bucket.cap else used


def _steps(history: BucketHistory, since: datetime, until: datetime) -> tuple[Step, ...]:
    """Returns the remaining amount after each entry, from the start of the window or of the period."""
    bucket = history.bucket
    left = bucket.cap
    steps = [Step(max(bucket.window_start, since), left)]
    for entry in history.entries:
        left = subtract(left, add(entry.held, entry.spent))
        if entry.at >= until:
            break
        steps.append(Step(max(entry.at, since), left))
    return tuple(steps)


def _window(bucket: Bucket, zone: tzinfo) -> str:
    """Writes the first and the last minute of the window, or the length of a rolling window."""
    if bucket.rolling is not None:
        return f"rolling {bucket.rolling}"
    start, end = bucket.window_start, bucket.window_end
    if end == FOREVER.end:
        return "lifetime"
    last = (end - timedelta(microseconds=1)).astimezone(zone)
    return f"{start.astimezone(zone):%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M}"


def _balance(bucket: Bucket, zone: tzinfo) -> Row:
    return (
        safe(bucket.budget),
        _labels(bucket) or None,
        _window(bucket, zone),
        bucket.currency,
        bucket.cap,
        bucket.spent,
        bucket.held,
        bucket.available,
        percent(add(bucket.spent, bucket.held), bucket.cap),
    )


def _days(histories: Iterable[BucketHistory], since: datetime, until: datetime, zone: tzinfo) -> Iterator[Row]:
    for history in sorted(histories, key=_order):
        bucket = history.bucket
        held = spent = Decimal(0)
        for day, entries in groupby(history.entries, lambda entry: entry.at.astimezone(zone).date()):
            held, spent = _add_entries(entries, held, spent)
            if since < start_of(day + timedelta(days=1), zone) and start_of(day, zone) < until:
                yield (
                    safe(bucket.budget),
                    _labels(bucket) or None,
                    _window(bucket, zone),
                    f"{day}",
                    bucket.currency,
                    bucket.cap,
                    spent,
                    held,
                    subtract(bucket.cap, add(spent, held)),
                )


def _add_entries(entries: Iterable[Entry], held: Decimal, spent: Decimal) -> tuple[Decimal, Decimal]:
    for entry in entries:
        held, spent = add(held, entry.held), add(spent, entry.spent)
    return held, spent
