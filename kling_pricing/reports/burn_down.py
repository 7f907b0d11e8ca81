"""How budgets were used up: what each had left over time, from the journal."""

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
"""Budgets that get a chart, those used most; a budget for each user may have thousands of buckets."""

_FEW_WINDOWS = 4


def charts(
    histories: Sequence[BucketHistory], since: datetime, until: datetime, zone: tzinfo
) -> Iterator[StepChart | BarChart]:
    """One chart for each budget and set of labels: what was left over time; of many windows what each used."""
    owned = [
        list(group) for _, group in groupby(sorted(histories, key=_order), lambda each: _owner(each.bucket))
    ]
    owned.sort(key=lambda windows: max(_used(each.bucket) for each in windows), reverse=True)
    for number, windows in enumerate(owned[:MAX_CHARTS], start=1):
        few = len(windows) <= _FEW_WINDOWS
        yield _over_time(number, windows, since, until) if few else _by_window(number, windows, zone)


def _over_time(number: int, windows: Sequence[BucketHistory], since: datetime, until: datetime) -> StepChart:
    bucket = windows[0].bucket
    return StepChart(
        f"budget_{number}",
        f"Budget {_name(bucket)}",
        f"What is left of its cap, in {bucket.currency}; the dashed line would use it up evenly.",
        bucket.currency,
        since,
        until,
        tuple(
            Limit(
                each.bucket.window_start,
                each.bucket.window_end,
                each.bucket.cap,
                paced=each.bucket.window_end != FOREVER.end,
            )
            for each in windows
        ),
        tuple(_run(each, since, until) for each in windows),
    )


def _by_window(number: int, windows: Sequence[BucketHistory], zone: tzinfo) -> BarChart:
    bucket = windows[0].bucket
    return BarChart(
        f"budget_{number}",
        f"Budget {_name(bucket)}",
        f"What each of its windows used, in {bucket.currency}, beside its cap.",
        bucket.currency,
        upright=True,
        wide=False,
        series=(Series("Spent", "main"), Series("Held", "second")),
        mark="Cap",
        bars=tuple(
            Bar(
                f"{each.bucket.window_start.astimezone(zone):%Y-%m-%d}",
                (each.bucket.spent, each.bucket.held),
                each.bucket.cap,
            )
            for each in windows
        ),
    )


def balances(histories: Sequence[BucketHistory], zone: tzinfo) -> Section:
    """What each bucket of the budgets has held, spent and left, as it now stands."""
    rows: list[Row] = [_balance(each.bucket, zone) for each in sorted(histories, key=_order)]
    return Section(
        "budgets",
        "Budgets",
        "What each budget has left of its windows that touch the period, all projects that it counts included.",
        (
            Column("budget", "Budget"),
            Column("labels", "Of"),
            Column("window", "Window"),
            Column("currency", "Currency"),
            Column("cap", "Cap", "amount"),
            Column("spent", "Spent", "amount"),
            Column("held", "Held", "amount"),
            Column("left", "Left", "amount"),
            Column("used", "Used, %", "percent"),
        ),
        lambda: rows,
        length=len(rows),
    )


def days(histories: Sequence[BucketHistory], since: datetime, until: datetime, zone: tzinfo) -> Section:
    """What each budget had left at the end of each day on which its balance moved."""
    rows = list(_days(histories, since, until, zone))
    return Section(
        "burn_down",
        "Burn-down",
        "What each budget had left at the end of each day on which that changed.",
        (
            Column("budget", "Budget"),
            Column("labels", "Of"),
            Column("window", "Window"),
            Column("day", f"Day ({zone})"),
            Column("currency", "Currency"),
            Column("cap", "Cap", "amount"),
            Column("spent", "Spent", "amount"),
            Column("held", "Held", "amount"),
            Column("left", "Left", "amount"),
        ),
        lambda: rows,
        length=len(rows),
    )


def _order(history: BucketHistory) -> tuple[str, str, datetime]:
    return (*_owner(history.bucket), history.bucket.window_start)


def _owner(bucket: Bucket) -> tuple[str, str]:
    return bucket.budget, labels_text(bucket.labels)


def _of(bucket: Bucket) -> str | None:
    """Its labels, as the command line takes them."""
    return safe(", ".join(f"{label}={value}" for label, value in sorted(bucket.labels.items()))) or None


def _name(bucket: Bucket) -> str:
    of = ", ".join(f"{label} {value}" for label, value in sorted(bucket.labels.items()))
    return safe(f"{bucket.budget} of {of}" if of else bucket.budget)


def _used(bucket: Bucket) -> Decimal:
    """How much of its cap is used, as a part of one: for an order, not for an amount."""
    used = add(bucket.spent, bucket.held)
    return used / bucket.cap if bucket.cap else used


def _run(history: BucketHistory, since: datetime, until: datetime) -> tuple[Step, ...]:
    """What was left of a window from its beginning, or that of the period, on."""
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
    """Its first and last minutes, both in it."""
    start, end = bucket.window_start, bucket.window_end
    if end == FOREVER.end:
        return "lifetime"
    last = (end - timedelta(microseconds=1)).astimezone(zone)
    return f"{start.astimezone(zone):%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M}"


def _balance(bucket: Bucket, zone: tzinfo) -> Row:
    return (
        safe(bucket.budget),
        _of(bucket),
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
            held, spent = _after(entries, held, spent)
            if since < start_of(day + timedelta(days=1), zone) and start_of(day, zone) < until:
                yield (
                    safe(bucket.budget),
                    _of(bucket),
                    _window(bucket, zone),
                    f"{day}",
                    bucket.currency,
                    bucket.cap,
                    spent,
                    held,
                    subtract(bucket.cap, add(spent, held)),
                )


def _after(entries: Iterable[Entry], held: Decimal, spent: Decimal) -> tuple[Decimal, Decimal]:
    for entry in entries:
        held, spent = add(held, entry.held), add(spent, entry.spent)
    return held, spent
