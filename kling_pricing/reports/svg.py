"""Charts as inline SVG: no scripts, self-contained, readable by screen readers, in the colours of the page.

Coordinates are integers, so that the same chart always gives the same bytes.
"""

from __future__ import annotations

import re
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

WIDE, NARROW = 1080, 528
_LABELS, _VALUES = 156, 108
_ROW, _BAR = 30, 14
_TICKS = 4
_MAX_LABEL_CHARS = 22
_FEW_ROWS = 8
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


class LegendEntry(NamedTuple):
    """One entry of a legend: the tone of a colour, or None for the mark, and its meaning."""

    tone: Tone | None
    text: str


class Panel(NamedTuple):
    """One drawing.

    Attributes:
        caption: the text above it; may be empty.
        svg: the drawing, as markup.
        legend: the entries below it.
    """

    caption: str
    svg: str
    legend: tuple[LegendEntry, ...]


def panels(chart: Chart) -> tuple[Panel, ...]:
    """Draws a chart: one drawing, or one per whole of a share chart."""
    if isinstance(chart, BarChart):
        legend = [LegendEntry(series.tone, series.name) for series in chart.series]
        if chart.mark is not None:
            legend.append(LegendEntry(None, chart.mark))
        svg = _upright_bars(chart) if chart.upright else _lying_bars(chart)
        return (Panel("", svg, tuple(legend) if len(legend) > 1 else ()),)
    if isinstance(chart, DeltaChart):
        return (Panel("", _deltas(chart), ()),)
    if isinstance(chart, ShareChart):
        return tuple(_share(chart, share) for share in chart.shares)
    return (Panel("", _steps(chart), ()),)


def is_tall(chart: Chart) -> bool:
    """Whether a narrow chart takes the height of two."""
    return isinstance(chart, BarChart) and not chart.upright and len(chart.bars) > _FEW_ROWS


def is_wide(chart: Chart) -> bool:
    """Whether a chart takes the whole width of the page."""
    return isinstance(chart, ShareChart) or (isinstance(chart, BarChart) and chart.wide)


def _upright_bars(chart: BarChart) -> str:
    """Draws vertical bars, over time."""
    width, height = (WIDE if is_wide(chart) else NARROW), 280
    left, right, top, bottom = 72, width - 8, 12, height - 30
    highest = max(_highest(chart), Decimal(0))
    ticks, ceiling = _ticks(highest)
    root = _root(chart.name, chart.title, chart.about, width, height)

    def y(amount: Decimal) -> int:
        return bottom - _scaled(amount, ceiling, bottom - top)

    for tick in ticks:
        _add(root, "line", "grid" if tick else "base", x1=left, x2=right, y1=y(tick), y2=y(tick))
        _text(root, left - 8, y(tick) + 4, number_text(tick), "axis end")
    count = len(chart.bars)
    thick = max(min((right - left) * 62 // (100 * count), 44), 2)
    labels = _day_labels([bar.label for bar in chart.bars])
    label_interval = -(-count * (14 + 7 * max(map(len, labels), default=1)) // (right - left))
    for place, bar in enumerate(chart.bars):
        middle = left + (right - left) * (2 * place + 1) // (2 * count)
        group = _group(root, _tooltip(chart, bar))
        under = Decimal(0)
        for series, part in zip(chart.series, bar.parts, strict=True):
            if part:
                low, high = y(under), min(y(under + part), y(under) - 1)
                _add(
                    group,
                    "rect",
                    series.tone,
                    x=middle - thick // 2,
                    y=high,
                    width=thick,
                    height=low - high,
                    rx=2,
                )
            under += part
        if bar.mark is not None:
            at = y(bar.mark)
            _add(group, "line", "mark", x1=middle - thick // 2 - 3, x2=middle + thick // 2 + 3, y1=at, y2=at)
        if place % label_interval == 0:
            _text(root, middle, height - 10, labels[place], "axis middle")
    return _markup(root)


def _lying_bars(chart: BarChart) -> str:
    """Draws horizontal bars, beside names."""
    left, right = _LABELS, NARROW - _VALUES
    root = _root(chart.name, chart.title, chart.about, NARROW, _ROW * len(chart.bars) + 8)
    highest = _highest(chart)
    for place, bar in enumerate(chart.bars):
        top = _ROW * place + 8
        group = _group(root, _tooltip(chart, bar))
        _text(group, left - 12, top + 12, _truncated(bar.label), "name end")
        _add(group, "rect", "track", x=left, y=top, width=right - left, height=_BAR, rx=2)
        x, total = left, Decimal(0)
        for series, part in zip(chart.series, bar.parts, strict=True):
            total += part
            if part:
                end = max(left + _scaled(total, highest, right - left), x + 1)
                _add(group, "rect", series.tone, x=x, y=top, width=end - x, height=_BAR, rx=2)
                x = end
        if bar.mark is not None:
            at = left + _scaled(bar.mark, highest, right - left)
            _add(group, "line", "mark", x1=at, x2=at, y1=top - 3, y2=top + _BAR + 3)
        _text(group, NARROW, top + 12, amount_text(total), "value end")
    return _markup(root)


def _deltas(chart: DeltaChart) -> str:
    """Draws bars to both sides of zero."""
    left, right = _LABELS, NARROW - _VALUES
    amounts = [delta.amount for delta in chart.deltas]
    lowest, highest = min([Decimal(0), *amounts]), max([Decimal(0), *amounts])
    zero = left + _scaled(-lowest, highest - lowest, right - left)
    height = _ROW * len(chart.deltas) + 8
    root = _root(chart.name, chart.title, chart.about, NARROW, height)
    for place, delta in enumerate(chart.deltas):
        top = _ROW * place + 8
        group = _group(root, f"{delta.label}: {_signed(delta)} {chart.unit}")
        _text(group, left - 12, top + 12, _truncated(delta.label), "name end")
        size = max(_scaled(abs(delta.amount), highest - lowest, right - left), 2)
        x = zero if delta.amount > 0 else zero - size
        _add(group, "rect", delta.tone, x=x, y=top, width=size, height=_BAR, rx=2)
        _text(group, NARROW, top + 12, _signed(delta), "value end")
    _add(root, "line", "base", x1=zero, x2=zero, y1=2, y2=height - 2)
    return _markup(root)


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
    return Panel(share.label, _markup(root), legend)


def _steps(chart: StepChart) -> str:
    """Draws remaining amounts as lines that go down in steps, with the caps and an even pace."""
    width, height = NARROW, 230
    left, right, top, bottom = 72, width - 12, 14, height - 30
    amounts = [step.amount for run in chart.runs for step in run]
    floor = min([Decimal(0), *amounts])
    ticks, ceiling = _ticks(max([Decimal(0), *amounts, *(limit.amount for limit in chart.limits)]))
    root = _root(chart.name, chart.title, chart.about, width, height)

    def x(at: datetime) -> int:
        inside = min(max(at, chart.start), chart.end) - chart.start
        return left + (right - left) * (inside // _SECOND) // ((chart.end - chart.start) // _SECOND)

    def y(amount: Decimal) -> int:
        return bottom - _scaled(amount - floor, ceiling - floor, bottom - top)

    for tick in ticks:
        _add(root, "line", "grid" if tick else "base", x1=left, x2=right, y1=y(tick), y2=y(tick))
        _text(root, left - 8, y(tick) + 4, number_text(tick), "axis end")
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
        group = _group(root, f"{amount_text(run[-1].amount)} {chart.unit} remaining on {run[-1].at:%Y-%m-%d}")
        _add(group, "path", "step", d=line)
        if run is chart.runs[-1]:
            _add(group, "circle", "now", cx=list(points)[-1], cy=points[list(points)[-1]], r=4)
    for part in range(_TICKS + 1):
        at = chart.start + (chart.end - chart.start) * part // _TICKS
        _text(root, x(at), height - 10, f"{at:%m-%d}", "axis middle" if part < _TICKS else "axis end")
    return _markup(root)


_SECOND = timedelta(seconds=1)


def _highest(chart: BarChart) -> Decimal:
    amounts = [sum(bar.parts, Decimal(0)) for bar in chart.bars]
    return max([Decimal(0), *amounts, *(bar.mark for bar in chart.bars if bar.mark is not None)])


def _scaled(amount: Decimal, whole: Decimal, length: int) -> int:
    """Returns the length of an amount, in units of the drawing; 0 if the whole is 0."""
    return int(max(amount, Decimal(0)) * length / whole) if whole > 0 else 0


def _ticks(highest: Decimal) -> tuple[list[Decimal], Decimal]:
    """Returns round amounts from zero up to at least the highest, and the last of them."""
    if highest <= 0:
        return [Decimal(0)], Decimal(1)
    step = Decimal(1).scaleb((highest / _TICKS).adjusted())
    step *= next(factor for factor in (1, 2, 5, 10) if step * factor * _TICKS >= highest)
    count = -int(-highest // step)
    ticks = [step * place for place in range(count + 1)]
    if ticks[-1] < highest:
        ticks.append(ticks[-1] + step)
    return ticks, ticks[-1]


def _tooltip(chart: BarChart, bar: Bar) -> str:
    """Describes a bar: its label and every amount."""
    amounts = [
        f"{series.name.lower()} {amount_text(part)}"
        for series, part in zip(chart.series, bar.parts, strict=True)
    ]
    if bar.mark is not None and chart.mark is not None:
        amounts.append(f"{chart.mark.lower()} {amount_text(bar.mark)}")
    return f"{bar.label}: {', '.join(amounts)} {chart.unit}"


def _day_labels(days: Sequence[str]) -> list[str]:
    """Shortens days of one month to their numbers, and days of one year to month and day.

    Labels that are not days stay as they are.
    """
    for shared, start in ((len("2026-11-"), 8), (len("2026-"), 5)):
        if len({day[:shared] for day in days}) == 1 and all(_DAY.fullmatch(day) for day in days):
            return [day[start:].removeprefix("0") for day in days]
    return list(days)


def _truncated(label: str) -> str:
    return label if len(label) <= _MAX_LABEL_CHARS else f"{label[: _MAX_LABEL_CHARS - 1]}…"


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
