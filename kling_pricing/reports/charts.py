"""The contents of charts: labels and amounts. `svg` draws them."""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo
from decimal import Decimal
from typing import Literal, NamedTuple, TypeAlias

Tone: TypeAlias = Literal["main", "second", "good", "calm", "wait", "bad"]
"""The meaning of a part of a chart, which decides its colour."""


class Series(NamedTuple):
    """One part of every bar of a chart: its name in the legend, and its tone."""

    name: str
    tone: Tone


class Bar(NamedTuple):
    """One bar.

    Attributes:
        label: its name on the axis.
        parts: one amount per series, stacked. Negative amounts are drawn on the other side of zero.
        mark: an amount to compare the bar with; None if there is none.
    """

    label: str
    parts: tuple[Decimal, ...]
    mark: Decimal | None = None


class BarChart(NamedTuple):
    """Amounts side by side.

    Attributes:
        name: for programs.
        title: for people.
        about: one sentence that describes the chart, also for screen readers.
        unit: of every amount.
        upright: whether the bars are vertical (over time) or horizontal (beside names).
        wide: whether it takes the whole width of a page.
        series: the parts of each bar.
        mark: the meaning of the bars' marks; None if they have none.
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
    """A difference, which may be negative."""

    label: str
    amount: Decimal
    tone: Tone


class DeltaChart(NamedTuple):
    """Differences, to the left and right of zero.

    Attributes:
        name: for programs.
        title: for people.
        about: one sentence that describes the chart.
        unit: of every amount.
        deltas: in order.
    """

    name: str
    title: str
    about: str
    unit: str
    deltas: tuple[Delta, ...]


class Share(NamedTuple):
    """A whole and its parts.

    Attributes:
        label: the name and size of the whole.
        parts: one amount per series.
        shown: the same as text, one per series.
    """

    label: str
    parts: tuple[Decimal, ...]
    shown: tuple[str, ...]


class ShareChart(NamedTuple):
    """The parts of one or more wholes.

    Attributes:
        name: for programs.
        title: for people.
        about: one sentence that describes the chart.
        series: the parts of each whole.
        shares: the wholes.
    """

    name: str
    title: str
    about: str
    series: tuple[Series, ...]
    shares: tuple[Share, ...]


class Step(NamedTuple):
    """An amount, and the instant from which it holds."""

    at: datetime
    amount: Decimal


class Limit(NamedTuple):
    """A cap, drawn as a line over its window.

    Attributes:
        start: start of the window, UTC.
        end: end of the window (exclusive), UTC.
        amount: the cap.
        paced: whether to draw an even pace from the cap down to zero; false for a window that never ends.
    """

    start: datetime
    end: datetime
    amount: Decimal
    paced: bool


class Forecast(NamedTuple):
    """The amount that is left if spending continues at its current pace, drawn as a straight line.

    Attributes:
        start: the instant and the amount from which the line starts.
        end: the instant and the amount at which it ends: nothing is left, or the window ends.
    """

    start: Step
    end: Step


class StepChart(NamedTuple):
    """An amount that changes in steps over a period.

    Attributes:
        name: for programs.
        title: for people.
        about: one sentence that describes the chart.
        unit: of every amount.
        start: start of the time axis, UTC.
        end: end of the time axis, UTC.
        limits: the caps that the amount comes down from, in order of time.
        runs: one line of steps per window, in order of time.
        forecast: the forecast for the window that is not over; None: there is none.
        zone: the time zone of the days on the time axis.
    """

    name: str
    title: str
    about: str
    unit: str
    start: datetime
    end: datetime
    limits: tuple[Limit, ...]
    runs: tuple[tuple[Step, ...], ...]
    forecast: Forecast | None = None
    zone: tzinfo = UTC


Chart: TypeAlias = BarChart | DeltaChart | ShareChart | StepChart
"""A chart of any kind."""
