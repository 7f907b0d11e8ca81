"""What a chart shows, without how it is drawn: `svg` does that."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Literal, NamedTuple, TypeAlias

Tone: TypeAlias = Literal["main", "second", "good", "calm", "wait", "bad"]
"""What a part of a chart stands for, which decides its colour."""


class Series(NamedTuple):
    """One part that every bar of a chart has, by the name and tone of its legend."""

    name: str
    tone: Tone


class Bar(NamedTuple):
    """One bar.

    Attributes:
        label: whose it is.
        parts: one amount for each series, stacked; none is negative.
        mark: an amount to compare the bar with; None: none.
    """

    label: str
    parts: tuple[Decimal, ...]
    mark: Decimal | None = None


class BarChart(NamedTuple):
    """Amounts side by side.

    Attributes:
        name: for programs.
        title: for people.
        about: what it shows, in a sentence, also for those who cannot see it.
        unit: of every amount.
        upright: bars stand (over time) or lie (beside names).
        wide: whether it takes the whole width of a page.
        series: what each bar is made of.
        mark: what the bars' marks are; None: they have none.
        bars: in order.
    """

    name: str
    title: str
    about: str
    unit: str
    upright: bool
    wide: bool
    series: tuple[Series, ...]
    mark: str | None
    bars: tuple[Bar, ...]


class Delta(NamedTuple):
    """A difference that may be negative."""

    label: str
    amount: Decimal
    tone: Tone


class DeltaChart(NamedTuple):
    """Differences, to the left and right of zero.

    Attributes:
        name: for programs.
        title: for people.
        about: what it shows.
        unit: of every amount.
        deltas: in order.
    """

    name: str
    title: str
    about: str
    unit: str
    deltas: tuple[Delta, ...]


class Share(NamedTuple):
    """One whole and its parts.

    Attributes:
        label: what the whole is, with its size.
        parts: one amount for each series.
        shown: the same in words, one for each series.
    """

    label: str
    parts: tuple[Decimal, ...]
    shown: tuple[str, ...]


class ShareChart(NamedTuple):
    """How wholes are divided.

    Attributes:
        name: for programs.
        title: for people.
        about: what it shows.
        series: what each whole is divided into.
        shares: the wholes.
    """

    name: str
    title: str
    about: str
    series: tuple[Series, ...]
    shares: tuple[Share, ...]


class Step(NamedTuple):
    """From an instant on, an amount."""

    at: datetime
    amount: Decimal


class Limit(NamedTuple):
    """A period over which an amount goes down from a limit.

    Attributes:
        start: its first instant, UTC.
        end: its end, UTC, exclusive.
        amount: where it starts.
        paced: whether an even pace from there to nothing is drawn; not where it never ends.
    """

    start: datetime
    end: datetime
    amount: Decimal
    paced: bool


class StepChart(NamedTuple):
    """An amount that changes from one instant to the next, over a period.

    Attributes:
        name: for programs.
        title: for people.
        about: what it shows.
        unit: of every amount.
        start: where the time axis begins, UTC.
        end: where it ends.
        limits: what the amount comes down from, in order of time.
        runs: its changes, in order of time; between one run and the next nothing is drawn.
    """

    name: str
    title: str
    about: str
    unit: str
    start: datetime
    end: datetime
    limits: tuple[Limit, ...]
    runs: tuple[tuple[Step, ...], ...]


Chart: TypeAlias = BarChart | DeltaChart | ShareChart | StepChart
"""What is better seen than read."""
