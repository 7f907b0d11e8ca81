"""Charts as inline SVG: no scripts, self-contained, readable by screen readers, in the colours of the page.

Each chart with text is drawn twice, for wide and for small screens, because text that shrinks with a drawing
cannot be read on a phone. Coordinates are integers, so that the same chart always gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import NamedTuple
from xml.etree.ElementTree import Element, SubElement, tostring

from kling_pricing.reports.charts import (
    Bar,
    BarChart,
    Chart,
    Delta,
    DeltaChart,
    Share,
    ShareChart,
    StepChart,
    Tone,
)
from kling_pricing.reports.formatting import amount_text, number_text
from kling_pricing.reports.text_width import axis_days, day_labels, lines_of, width_of

WIDE, NARROW, SMALL = 1080, 528, 300
"""The widths of a chart over the whole page, of one beside another chart, and of one on a phone."""

_LINE, _BAR, _ROW_GAP = 16, 12, 12
_DIGIT = 7
"""The width of a character of an axis, at most."""
_DAY_WIDTH = 80
"""The width of a day's label on an axis of time, with the space around it."""
_TICKS = 4
_FEW_ROWS = 6


class LegendEntry(NamedTuple):
    """One entry of a legend: the tone of a colour, or None for the mark, and its meaning."""

    tone: Tone | None
    text: str


class Panel(NamedTuple):
    """One drawing.

    Attributes:
        caption: the text above it; may be empty.
        svg: the drawing, as markup.
        small: the drawing for small screens, as markup; empty: the same drawing fits every screen.
        legend: the entries below it.
    """

    caption: str
    svg: str
    small: str
    legend: tuple[LegendEntry, ...]


def panels(chart: Chart) -> tuple[Panel, ...]:
    """Draws a chart: one drawing, or one per whole of a share chart."""
    if isinstance(chart, ShareChart):
        return tuple(_share(chart, share) for share in chart.shares)
    legend: list[LegendEntry] = []
    if isinstance(chart, BarChart):
        legend = [LegendEntry(series.tone, series.name) for series in chart.series]
        if chart.mark is not None:
            legend.append(LegendEntry(None, chart.mark))
    elif isinstance(chart, StepChart) and chart.forecast is not None:
        legend = [LegendEntry("main", "Remaining"), LegendEntry("wait", "Forecast at the current pace")]
    large = _markup(_drawn(chart, WIDE if is_wide(chart) else NARROW))
    small = _markup(_drawn(chart._replace(name=f"{chart.name}-small"), SMALL))
    return (Panel("", large, small, tuple(legend) if len(legend) > 1 else ()),)


def is_tall(chart: Chart) -> bool:
    """Whether a narrow chart takes the height of two."""
    return isinstance(chart, BarChart) and not chart.upright and len(chart.bars) > _FEW_ROWS


def is_wide(chart: Chart) -> bool:
    """Whether a chart takes the whole width of the page."""
    return isinstance(chart, ShareChart) or (isinstance(chart, BarChart) and chart.wide)


def _drawn(chart: BarChart | DeltaChart | StepChart, width: int) -> Element:
    if isinstance(chart, BarChart):
        return _upright_bars(chart, width) if chart.upright else _lying_bars(chart, width)
    return _deltas(chart, width) if isinstance(chart, DeltaChart) else _steps(chart, width)


class _Axis:
    """A vertical axis of amounts with horizontal lines at round amounts, from `bottom` up to `top`."""

    def __init__(self, root: Element, amounts: Sequence[Decimal], right: int, top: int, bottom: int) -> None:
        ticks = _ticks(min([Decimal(0), *amounts]), max([Decimal(0), *amounts]))
        self._floor, self._ceiling = ticks[0], ticks[-1] if len(ticks) > 1 else Decimal(1)
        self._top, self._bottom = top, bottom
        self.left = max(width_of(number_text(tick)) for tick in ticks) * _DIGIT + 12
        for tick in ticks:
            line = self.y(tick)
            _add(root, "line", "grid" if tick else "base", x1=self.left, x2=right, y1=line, y2=line)
            _text(root, self.left - 6, line + 4, number_text(tick), "axis end")

    def y(self, amount: Decimal) -> int:
        """Returns the height of an amount."""
        return self._bottom - _scaled(
            amount - self._floor, self._ceiling - self._floor, self._bottom - self._top
        )


def _upright_bars(chart: BarChart, width: int) -> Element:
    """Draws vertical bars, over time."""
    height = 280 if width > SMALL else 200
    root = _root(chart.name, chart.title, chart.about, width, height)
    right = width - 8
    axis = _Axis(root, _extremes(chart), right, 12, height - 30)
    left, y = axis.left, axis.y
    count = len(chart.bars)
    thick = max(min((right - left) * 62 // (100 * count), 44), 2)
    labels = day_labels([bar.label for bar in chart.bars])
    label_interval = -(-count * (14 + _DIGIT * max(map(width_of, labels), default=1)) // (right - left))
    for place, bar in enumerate(chart.bars):
        middle = left + (right - left) * (2 * place + 1) // (2 * count)
        group = _group(root, _tooltip(chart, bar))
        for tone, start, end in _stacked(chart, bar):
            high, low = sorted((y(start), y(end)))
            x, size = middle - thick // 2, max(low - high, 1)
            _add(group, "rect", tone, x=x, y=low - size, width=thick, height=size, rx=2)
        if bar.mark is not None:
            at = y(bar.mark)
            _add(group, "line", "mark", x1=middle - thick // 2 - 3, x2=middle + thick // 2 + 3, y1=at, y2=at)
        if place % label_interval == 0:
            _text(root, middle, height - 10, labels[place], "axis middle")
    return root


def _stacked(chart: BarChart, bar: Bar) -> list[tuple[Tone, Decimal, Decimal]]:
    """Returns the parts of a bar that are not zero, each with its tone and both of its ends."""
    parts, above, below = [], Decimal(0), Decimal(0)
    for series, part in zip(chart.series, bar.parts, strict=True):
        start = above if part > 0 else below
        if part:
            parts.append((series.tone, start, start + part))
        above, below = above + max(part, Decimal(0)), below + min(part, Decimal(0))
    return parts


class _Rows:
    """Rows below each other, each with a name, an amount, and a bar below both."""

    def __init__(self, chart: BarChart | DeltaChart, amounts: Sequence[Decimal], width: int) -> None:
        self.root = _root(chart.name, chart.title, chart.about, width, 0)
        self.top, self._width = 4, width
        self._lowest, self._highest = min([Decimal(0), *amounts]), max([Decimal(0), *amounts])

    def add(self, label: str, value: str, tooltip: str) -> Element:
        """Adds a row; `top` is then where its bar begins."""
        group = _group(self.root, tooltip)
        lines = lines_of(label, (self._width - 8 * width_of(value) - 12) // 8)
        for number, line in enumerate(lines):
            _text(group, 0, self.top + 12 + _LINE * number, line, "name")
        _text(group, self._width, self.top + 12, value, "value end")
        self.top += _LINE * len(lines) + 2
        return group

    def x(self, amount: Decimal) -> int:
        """Returns where an amount is."""
        return _scaled(amount - self._lowest, self._highest - self._lowest, self._width)

    def bar(self, group: Element, css_class: str, start: Decimal, end: Decimal) -> None:
        """Draws a bar between two amounts."""
        left, right = sorted((self.x(start), self.x(end)))
        size = max(right - left, 2)
        x = min(left, self._width - size)
        _add(group, "rect", css_class, x=x, y=self.top, width=size, height=_BAR, rx=2)

    def end_row(self) -> None:
        """Ends the row, with the line of zero if amounts are on both of its sides."""
        if self._lowest < 0:
            at = self.x(Decimal(0))
            _add(self.root, "line", "base", x1=at, x2=at, y1=self.top - 2, y2=self.top + _BAR + 2)
        self.top += _BAR + _ROW_GAP

    def drawn(self) -> Element:
        """Returns the drawing."""
        self.root.set("viewBox", f"0 0 {self._width} {self.top}")
        return self.root


def _lying_bars(chart: BarChart, width: int) -> Element:
    """Draws horizontal bars, below names."""
    extremes = _extremes(chart)
    rows = _Rows(chart, extremes, width)
    for bar in chart.bars:
        group = rows.add(bar.label, amount_text(sum(bar.parts, Decimal(0))), _tooltip(chart, bar))
        rows.bar(group, "track", min([Decimal(0), *extremes]), max([Decimal(0), *extremes]))
        for tone, start, end in _stacked(chart, bar):
            rows.bar(group, tone, start, end)
        if bar.mark is not None:
            at = min(max(rows.x(bar.mark), 1), width - 1)
            _add(group, "line", "mark", x1=at, x2=at, y1=rows.top - 3, y2=rows.top + _BAR + 3)
        rows.end_row()
    return rows.drawn()


def _deltas(chart: DeltaChart, width: int) -> Element:
    """Draws bars to both sides of zero."""
    rows = _Rows(chart, [delta.amount for delta in chart.deltas], width)
    for delta in chart.deltas:
        group = rows.add(delta.label, _signed(delta), f"{delta.label}: {_signed(delta)} {chart.unit}")
        rows.bar(group, delta.tone, Decimal(0), delta.amount)
        rows.end_row()
    return rows.drawn()


def _share(chart: ShareChart, share: Share) -> Panel:
    """Draws a whole as one bar, divided into its parts."""
    height, gap = 26, 3
    number = chart.shares.index(share)
    root = _root(f"{chart.name}_{number}", f"{chart.title}: {share.label}", chart.about, WIDE, height)
    root.attrib |= {"class": "chart whole", "preserveAspectRatio": "none"}  # fills the width of the page
    visible = [place for place, part in enumerate(share.parts) if part > 0]
    whole = sum((share.parts[place] for place in visible), Decimal(0))
    width = WIDE - gap * (len(visible) - 1)
    min_size = 4
    sizes = [max(_scaled(share.parts[place], whole, width), min_size) for place in visible]
    if sizes:
        sizes[sizes.index(max(sizes))] -= sum(sizes) - width
    x = 0
    for place, size in zip(visible, sizes, strict=True):
        group = _group(root, f"{chart.series[place].name}: {share.shown[place]}")
        _add(group, "rect", chart.series[place].tone, x=x, y=0, width=size, height=height, rx=3)
        x += size + gap
    legend = tuple(
        LegendEntry(series.tone, f"{series.name} {text}")
        for series, part, text in zip(chart.series, share.parts, share.shown, strict=True)
        if part
    )
    return Panel(share.label, _markup(root), "", legend)


def _steps(chart: StepChart, width: int) -> Element:
    """Draws remaining amounts as lines that go down in steps, with the caps, an even pace and a forecast."""
    height = 230 if width > SMALL else 200
    right = width - 12
    root = _root(chart.name, chart.title, chart.about, width, height)
    amounts = [step.amount for run in chart.runs for step in run]
    amounts += [limit.amount for limit in chart.limits]
    axis = _Axis(root, amounts, right, 14, height - 30)
    left, y = axis.left, axis.y

    def x(at: datetime) -> int:
        inside = min(max(at, chart.start), chart.end) - chart.start
        return left + (right - left) * (inside // _SECOND) // ((chart.end - chart.start) // _SECOND)

    for limit in chart.limits:
        ends = {"x1": x(limit.start), "y1": y(limit.amount), "x2": x(limit.end)}
        if limit.paced:
            _add(root, "line", "pace", **ends, y2=y(Decimal(0)))
        _add(root, "line", "cap", **ends, y2=y(limit.amount))
    for run in chart.runs:
        points = {x(step.at): y(step.amount) for step in run}  # the last of several steps at the same place
        first, *rest = points.items()
        line = f"M{first[0]} {first[1]}" + "".join(f"H{across}V{down}" for across, down in rest)
        _add(root, "path", "area", d=f"{line}V{y(Decimal(0))}H{first[0]}Z")
        day = run[-1].at.astimezone(chart.zone)
        group = _group(root, f"{amount_text(run[-1].amount)} {chart.unit} remaining on {day:%Y-%m-%d}")
        _add(group, "path", "step", d=line)
        if run is chart.runs[-1]:
            _add(group, "circle", "now", cx=list(points)[-1], cy=points[list(points)[-1]], r=4)
    if chart.forecast is not None:
        start, end = chart.forecast
        places = {"x1": x(start.at), "y1": y(start.amount), "x2": x(end.at), "y2": y(end.amount)}
        _add(root, "line", "forecast", **places)
    for at, label in axis_days(chart.start, chart.end, chart.zone, max((right - left) // _DAY_WIDTH, 1)):
        _text(root, x(at), height - 10, label, "axis middle" if x(at) > left else "axis")
    return root


_SECOND = timedelta(seconds=1)


def _extremes(chart: BarChart) -> list[Decimal]:
    """Returns the amounts that the bars and marks of a chart reach."""
    ends = [end for bar in chart.bars for _, *both in _stacked(chart, bar) for end in both]
    return [*ends, *(bar.mark for bar in chart.bars if bar.mark is not None)]


def _scaled(amount: Decimal, whole: Decimal, length: int) -> int:
    """Returns the length of an amount, in units of the drawing; 0 if the whole is 0."""
    return int(max(amount, Decimal(0)) * length / whole) if whole > 0 else 0


def _ticks(lowest: Decimal, highest: Decimal) -> list[Decimal]:
    """Returns round amounts from at most the lowest, which is not above zero, up to at least the highest."""
    span = highest - lowest
    if span <= 0:
        return [Decimal(0)]
    step = Decimal(1).scaleb((span / _TICKS).adjusted())
    step *= next(factor for factor in (1, 2, 5, 10) if step * factor * _TICKS >= span)
    first, last = int(lowest // step), -int(-highest // step)
    if step * first > lowest:
        first -= 1
    if step * last < highest:
        last += 1
    return [step * place for place in range(first, last + 1)]


def _tooltip(chart: BarChart, bar: Bar) -> str:
    """Describes a bar: its label and every amount."""
    amounts = [
        f"{series.name.lower()} {amount_text(part)}"
        for series, part in zip(chart.series, bar.parts, strict=True)
    ]
    if bar.mark is not None and chart.mark is not None:
        amounts.append(f"{chart.mark.lower()} {amount_text(bar.mark)}")
    return f"{bar.label}: {', '.join(amounts)} {chart.unit}"


def _signed(delta: Delta) -> str:
    return f"{'+' if delta.amount > 0 else ''}{amount_text(delta.amount)}"


def _root(name: str, title: str, about: str, width: int, height: int) -> Element:
    root = Element(
        "svg",
        {
            "class": "chart",
            "id": f"chart-{name}",
            "viewBox": f"0 0 {width} {height}",
            "role": "img",
            "aria-labelledby": f"title-{name} about-{name}",
        },
    )
    SubElement(root, "title", {"id": f"title-{name}"}).text = title
    SubElement(root, "desc", {"id": f"about-{name}"}).text = about
    return root


def _group(parent: Element, tooltip: str) -> Element:
    """Adds a group of shapes that shows a tooltip."""
    group = SubElement(parent, "g", {"class": "item"})
    SubElement(group, "title").text = tooltip
    return group


def _add(parent: Element, tag: str, css_class: str, **attributes: int | str) -> None:
    SubElement(parent, tag, {"class": css_class, **{name: str(value) for name, value in attributes.items()}})


def _text(parent: Element, x: int, y: int, text: str, css_class: str) -> None:
    SubElement(parent, "text", {"class": css_class, "x": str(x), "y": str(y)}).text = text


def _markup(root: Element) -> str:
    return tostring(root, encoding="unicode")
