"""The burn-down of budgets: how much of each cap was left over time, from the journal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta, tzinfo
from decimal import Decimal
from itertools import groupby
from typing import NamedTuple

from kling_pricing.ledger.journal import Bucket, BucketHistory, Entry
from kling_pricing.money import add, subtract
from kling_pricing.reports.charts import Bar, BarChart, Limit, Series, Step, StepChart
from kling_pricing.reports.currency_decimals import cents
from kling_pricing.reports.document import Column, Row, Section
from kling_pricing.reports.formatting import amount_text, counted, labels_text, percent, safe
from kling_pricing.reports.run_rate import RunRate, forecast_line, run_rate
from kling_pricing.windows import FOREVER, start_of

MAX_CHARTS = 12
"""The most charts, but for the first chart of each budget; a budget per user may have thousands of buckets."""

_FEW_WINDOWS = 4


class ReportTime(NamedTuple):
    """What the report's times refer to.

    Attributes:
        since: start of the period, UTC.
        until: end of the period (exclusive), UTC.
        zone: the time zone of the days.
        begun_at: the instant at which the ledger began to count, UTC.
        now: the instant of the report, UTC; None: the report has no forecasts.
    """

    since: datetime
    until: datetime
    zone: tzinfo
    begun_at: datetime = FOREVER.start
    now: datetime | None = None


def charts(histories: Sequence[BucketHistory], time: ReportTime) -> Iterator[StepChart | BarChart]:
    """Yields a chart for each budget at least; of a budget with many sets of labels, for the most used ones.

    With few windows, a chart shows how much of the cap was left over time; with many, how much each window
    used.
    """
    for number, windows in enumerate(_charted(histories), start=1):
        few = len(windows) <= _FEW_WINDOWS
        yield _over_time(number, windows, time) if few else _by_window(number, windows, time.zone)


def remarks(histories: Sequence[BucketHistory]) -> Iterator[str]:
    """Yields a sentence for each budget that has sets of labels without a chart, with their number."""
    drawn = Counter(windows[0].bucket.budget for windows in _charted(histories))
    for budget, count in Counter(windows[0].bucket.budget for windows in _groups(histories)).items():
        if without := count - drawn[budget]:
            yield (
                f"Budget {safe(budget)}: {counted(drawn[budget], 'chart')} for the most used labels. "
                f"{counted(without, 'other set')} of labels {'is' if without == 1 else 'are'} in the table "
                "Budgets."
            )


def _groups(histories: Sequence[BucketHistory]) -> list[list[BucketHistory]]:
    """Returns the windows of each budget and set of labels, the most used first."""
    groups = [
        list(windows)
        for _, windows in groupby(sorted(histories, key=_order), lambda history: _budget_key(history.bucket))
    ]
    groups.sort(key=lambda windows: max(_share_used(window.bucket) for window in windows), reverse=True)
    return groups


def _charted(histories: Sequence[BucketHistory]) -> list[list[BucketHistory]]:
    """Returns the groups that get a chart, the most used first."""
    groups = _groups(histories)
    budgets = {windows[0].bucket.budget for windows in groups}
    room = max(MAX_CHARTS - len(budgets), 0)
    chosen = []
    for windows in groups:
        if (name := windows[0].bucket.budget) in budgets:
            budgets.remove(name)
        elif room:
            room -= 1
        else:
            continue
        chosen.append(windows)
    return chosen


def _over_time(number: int, windows: Sequence[BucketHistory], time: ReportTime) -> StepChart:
    bucket = windows[0].bucket
    rates = [_rate(window, time) for window in windows]
    forecast = next(
        (
            forecast_line(window, rate, time.now)
            for window, rate in zip(windows, rates, strict=True)
            if rate is not None and time.now is not None and time.now < time.until
        ),
        None,
    )
    paced = " The dashed line shows an even pace." if any(_has_pace(each.bucket) for each in windows) else ""
    return StepChart(
        f"budget_{number}",
        _title(bucket),
        f"Remaining budget over time, in {bucket.currency}.{paced}{_forecast_text(rates, windows, time.zone)}",
        bucket.currency,
        time.since,
        time.until,
        tuple(
            Limit(
                window.bucket.window_start,
                window.bucket.window_end,
                window.bucket.cap,
                paced=_has_pace(window.bucket),
            )
            for window in windows
        ),
        tuple(_steps(window, time.since, time.until) for window in windows),
        forecast,
        time.zone,
    )


def _rate(history: BucketHistory, time: ReportTime) -> RunRate | None:
    return None if time.now is None else run_rate(history, time.begun_at, time.now)


def _forecast_text(rates: Sequence[RunRate | None], windows: Sequence[BucketHistory], zone: tzinfo) -> str:
    """Returns a sentence with the forecast for the window that is not over, or an empty text."""
    for rate, window in zip(rates, windows, strict=True):
        if rate is not None:
            currency, end = window.bucket.currency, window.bucket.window_end.astimezone(zone)
            if rate.exhausted_at is not None:
                at = rate.exhausted_at.astimezone(zone)
                return f" At the current pace, nothing will be left on {at:%Y-%m-%d at %H:%M}."
            left = cents(subtract(window.bucket.cap, rate.used_at_end), currency)
            return (
                f" At the current pace, {amount_text(left)} {currency} will be left at the end, "
                f"{end:%Y-%m-%d %H:%M}."
            )
    return ""


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


def balances(histories: Sequence[BucketHistory], time: ReportTime) -> Section:
    """Returns the table of the current balance of each bucket."""
    rows: list[Row] = [_balance(history, time) for history in sorted(histories, key=_order)]
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
            Column("pace_per_day", "Pace per day", "amount", on_page=False),
            Column("forecast", "Forecast at the end", "amount"),
            Column("exhausted_at", "Exhausted (UTC)", "instant"),
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


def _balance(history: BucketHistory, time: ReportTime) -> Row:
    bucket, rate = history.bucket, _rate(history, time)
    return (
        safe(bucket.budget),
        _labels(bucket) or None,
        _window(bucket, time.zone),
        bucket.currency,
        bucket.cap,
        bucket.spent,
        bucket.held,
        bucket.available,
        percent(add(bucket.spent, bucket.held), bucket.cap),
        *((None, None, None) if rate is None else rate),
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
