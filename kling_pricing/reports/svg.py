"""Charts as inline SVG: no script, nothing fetched, readable by a screen reader; colours come from the page.

Coordinates are whole numbers, so that the same chart is the same text everywhere.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import NamedTuple
from xml.etree.ElementTree import Element, SubElement, tostring

from kling_pricing.reports.charts import BarChart, Chart, Delta, DeltaChart, Share, ShareChart, StepChart, Tone
from kling_pricing.reports.formatting import grouped

WIDE, NARROW = 1080, 528
_LABELS, _VALUES = 156, 108
_ROW, _BAR = 30, 14
_TICKS = 4
_MAX_LABEL_CHARS = 22
_FEW_ROWS = 8
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


class Key(NamedTuple):
    """One entry of a legend: what a colour, or the mark, stands for."""

    tone: Tone | None
    text: str


class Panel(NamedTuple):
    """One drawing.

    Attributes:
        caption: above it; empty: nothing.
        svg: the drawing, as markup.
        legend: beside it.
    """

    caption: str
    svg: str
    legend: tuple[Key, ...]


def panels(chart: Chart) -> tuple[Panel, ...]:
    """Draws a chart."""
    if isinstance(chart, BarChart):
        keys = [Key(each.tone, each.name) for each in chart.series]
        legend = (*keys, Key(None, chart.mark)) if chart.mark is not None else tuple(keys)
        shown = legend if len(legend) > 1 else ()
        return (Panel("", _columns(chart) if chart.upright else _bars(chart), shown),)
    if isinstance(chart, DeltaChart):
        return (Panel("", _deltas(chart), ()),)
    if isinstance(chart, ShareChart):
        return tuple(_share(chart, each) for each in chart.shares)
    return (Panel("", _steps(chart), ()),)


def is_tall(chart: Chart) -> bool:
    """Whether a chart that is not wide is as high as two."""
    return isinstance(chart, BarChart) and not chart.upright and len(chart.bars) > _FEW_ROWS


def is_wide(chart: Chart) -> bool:
    """Whether a chart takes the whole width of the page."""
    return isinstance(chart, ShareChart) or (isinstance(chart, BarChart) and chart.wide)


def _columns(chart: BarChart) -> str:
    """Bars that stand: over time."""
    width, height = (WIDE if is_wide(chart) else NARROW), 280
    left, right, top, bottom = 72, width - 8, 12, height - 30
    highest = max(_highest(chart), Decimal(0))
    ticks, ceiling = _ticks(highest)
    root = _root(chart.name, chart.title, chart.about, width, height)

    def y(amount: Decimal) -> int:
        return bottom - _scaled(amount, ceiling, bottom - top)

    for tick in ticks:
        _add(root, "line", "grid" if tick else "base", x1=left, x2=right, y1=y(tick), y2=y(tick))
        _text(root, left - 8, y(tick) + 4, grouped(tick), "axis end")
    count = len(chart.bars)
    thick = max(min((right - left) * 62 // (100 * count), 44), 2)
    labels = _short([bar.label for bar in chart.bars])
    every = -(-count * (14 + 7 * max(map(len, labels), default=1)) // (right - left))
    for place, bar in enumerate(chart.bars):
        middle = left + (right - left) * (2 * place + 1) // (2 * count)
        group = _group(root, _said(chart, bar.label, bar.parts, bar.mark))
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
        if place % every == 0:
            _text(root, middle, height - 10, labels[place], "axis middle")
    return _markup(root)


def _bars(chart: BarChart) -> str:
    """Bars that lie: beside names."""
    left, right = _LABELS, NARROW - _VALUES
    root = _root(chart.name, chart.title, chart.about, NARROW, _ROW * len(chart.bars) + 8)
    highest = _highest(chart)
    for place, bar in enumerate(chart.bars):
        top = _ROW * place + 8
        group = _group(root, _said(chart, bar.label, bar.parts, bar.mark))
        _text(group, left - 12, top + 12, _cut(bar.label), "name end")
        _add(group, "rect", "track", x=left, y=top, width=right - left, height=_BAR, rx=2)
        x, whole = left, Decimal(0)
        for series, part in zip(chart.series, bar.parts, strict=True):
            whole += part
            if part:
                end = max(left + _scaled(whole, highest, right - left), x + 1)
                _add(group, "rect", series.tone, x=x, y=top, width=end - x, height=_BAR, rx=2)
                x = end
        if bar.mark is not None:
            at = left + _scaled(bar.mark, highest, right - left)
            _add(group, "line", "mark", x1=at, x2=at, y1=top - 3, y2=top + _BAR + 3)
        _text(group, NARROW, top + 12, grouped(whole, 2), "value end")
    return _markup(root)


def _deltas(chart: DeltaChart) -> str:
    """Bars to both sides of zero."""
    left, right = _LABELS, NARROW - _VALUES
    lowest = min([Decimal(0), *(each.amount for each in chart.deltas)])
    highest = max([Decimal(0), *(each.amount for each in chart.deltas)])
    zero = left + _scaled(-lowest, highest - lowest, right - left)
    height = _ROW * len(chart.deltas) + 8
    root = _root(chart.name, chart.title, chart.about, NARROW, height)
    for place, each in enumerate(chart.deltas):
        top = _ROW * place + 8
        group = _group(root, f"{each.label}: {_signed(each)} {chart.unit}")
        _text(group, left - 12, top + 12, _cut(each.label), "name end")
        size = max(_scaled(abs(each.amount), highest - lowest, right - left), 2)
        x = zero if each.amount > 0 else zero - size
        _add(group, "rect", each.tone, x=x, y=top, width=size, height=_BAR, rx=2)
        _text(group, NARROW, top + 12, _signed(each), "value end")
    _add(root, "line", "base", x1=zero, x2=zero, y1=2, y2=height - 2)
    return _markup(root)


def _share(chart: ShareChart, share: Share) -> Panel:
    """One bar that is the whole, divided."""
    height, gap = 26, 3
    number = chart.shares.index(share)
    root = _root(f"{chart.name}_{number}", f"{chart.title}: {share.label}", chart.about, WIDE, height)
    root.attrib |= {"class": "chart whole", "preserveAspectRatio": "none"}  # as wide as there is room
    shown = [place for place, part in enumerate(share.parts) if part > 0]
    whole = sum((share.parts[place] for place in shown), Decimal(0))
    room = WIDE - gap * (len(shown) - 1)
    least = 4
    sizes = [max(_scaled(share.parts[place], whole, room), least) for place in shown]
    if sizes:
        sizes[sizes.index(max(sizes))] -= sum(sizes) - room
    x = 0
    for place, size in zip(shown, sizes, strict=True):
        group = _group(root, f"{chart.series[place].name}: {share.shown[place]}")
        _add(group, "rect", chart.series[place].tone, x=x, y=0, width=size, height=height, rx=3)
        x += size + gap
    legend = tuple(
        Key(series.tone, f"{series.name} {said}")
        for series, part, said in zip(chart.series, share.parts, share.shown, strict=True)
        if part
    )
    return Panel(share.label, _markup(root), legend)


def _steps(chart: StepChart) -> str:
    """Lines that go down in steps, the limits they come from, and the even pace that there would be."""
    width, height = NARROW, 230
    left, right, top, bottom = 72, width - 12, 14, height - 30
    amounts = [each.amount for run in chart.runs for each in run]
    floor = min([Decimal(0), *amounts])
    ticks, ceiling = _ticks(max([Decimal(0), *amounts, *(each.amount for each in chart.limits)]))
    root = _root(chart.name, chart.title, chart.about, width, height)

    def x(at: datetime) -> int:
        inside = min(max(at, chart.start), chart.end) - chart.start
        return left + (right - left) * (inside // _MOMENT) // ((chart.end - chart.start) // _MOMENT)

    def y(amount: Decimal) -> int:
        return bottom - _scaled(amount - floor, ceiling - floor, bottom - top)

    for tick in ticks:
        _add(root, "line", "grid" if tick else "base", x1=left, x2=right, y1=y(tick), y2=y(tick))
        _text(root, left - 8, y(tick) + 4, grouped(tick), "axis end")
    for each in chart.limits:
        ends = {"x1": x(each.start), "y1": y(each.amount), "x2": x(each.end)}
        if each.paced:
            _add(root, "line", "pace", **ends, y2=y(Decimal(0)))
        _add(root, "line", "cap", **ends, y2=y(each.amount))
    for run in chart.runs:
        points = {x(each.at): y(each.amount) for each in run}  # of those in one place the last holds
        first, *others = points.items()
        line = f"M{first[0]} {first[1]}" + "".join(f"H{across}V{down}" for across, down in others)
        _add(root, "path", "area", d=f"{line}V{y(Decimal(0))}H{first[0]}Z")
        group = _group(root, f"{grouped(run[-1].amount)} {chart.unit} left on {run[-1].at:%Y-%m-%d}")
        _add(group, "path", "step", d=line)
        if run is chart.runs[-1]:
            _add(group, "circle", "now", cx=list(points)[-1], cy=points[list(points)[-1]], r=4)
    for part in range(_TICKS + 1):
        at = chart.start + (chart.end - chart.start) * part // _TICKS
        _text(root, x(at), height - 10, f"{at:%m-%d}", "axis middle" if part < _TICKS else "axis end")
    return _markup(root)


_MOMENT = timedelta(seconds=1)


def _highest(chart: BarChart) -> Decimal:
    amounts = [sum(bar.parts, Decimal(0)) for bar in chart.bars]
    return max([Decimal(0), *amounts, *(bar.mark for bar in chart.bars if bar.mark is not None)])


def _scaled(amount: Decimal, whole: Decimal, length: int) -> int:
    """An amount as a length, in whole units of the drawing; nothing of nothing."""
    return int(max(amount, Decimal(0)) * length / whole) if whole > 0 else 0


def _ticks(highest: Decimal) -> tuple[list[Decimal], Decimal]:
    """Round amounts from zero up to one that is not below the highest, which is the last."""
    if highest <= 0:
        return [Decimal(0)], Decimal(1)
    step = Decimal(1).scaleb((highest / _TICKS).adjusted())
    step *= next(each for each in (1, 2, 5, 10) if step * each * _TICKS >= highest)
    count = -int(-highest // step)
    ticks = [step * place for place in range(count + 1)]
    if ticks[-1] < highest:
        ticks.append(ticks[-1] + step)
    return ticks, ticks[-1]


def _said(chart: BarChart, label: str, parts: Sequence[Decimal], mark: Decimal | None) -> str:
    """A bar in words."""
    told = [f"{series.name.lower()} {grouped(part)}" for series, part in zip(chart.series, parts, strict=True)]
    if mark is not None and chart.mark is not None:
        told.append(f"{chart.mark.lower()} {grouped(mark)}")
    return f"{label}: {', '.join(told)} {chart.unit}"


def _short(days: Sequence[str]) -> list[str]:
    """Days of one month as their numbers, days of one year without it; what are no days as they are."""
    for shared, kept in ((len("2026-11-"), 8), (len("2026-"), 5)):
        if len({day[:shared] for day in days}) == 1 and all(_DAY.fullmatch(day) for day in days):
            return [day[kept:].removeprefix("0") for day in days]
    return list(days)


def _cut(label: str) -> str:
    return label if len(label) <= _MAX_LABEL_CHARS else f"{label[: _MAX_LABEL_CHARS - 1]}…"


def _signed(delta: Delta) -> str:
    return f"{'+' if delta.amount > 0 else ''}{grouped(delta.amount, 2)}"


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


def _group(parent: Element, said: str) -> Element:
    """What belongs together, and says what it is when pointed at."""
    group = SubElement(parent, "g", {"class": "item"})
    SubElement(group, "title").text = said
    return group


def _add(parent: Element, kind: str, look: str, **attributes: int | str) -> None:
    SubElement(parent, kind, {"class": look, **{name: str(value) for name, value in attributes.items()}})


def _text(parent: Element, x: int, y: int, text: str, look: str) -> None:
    SubElement(parent, "text", {"class": look, "x": str(x), "y": str(y)}).text = text


def _markup(root: Element) -> str:
    return tostring(root, encoding="unicode")
