"""The bar of a budget: spent, held and left, as inline SVG."""

from __future__ import annotations

from decimal import Decimal
from xml.etree.ElementTree import Element, SubElement, tostring

from markupsafe import Markup

_WIDTH, _HEIGHT = 1000, 12


def budget_bar(spent: Decimal, held: Decimal, cap: Decimal) -> Markup:
    """Returns a bar that shows which part of a cap is spent and held; the text beside it says the same."""
    root = Element(
        "svg",
        {
            "class": "bar",
            "viewBox": f"0 0 {_WIDTH} {_HEIGHT}",
            "preserveAspectRatio": "none",
            "aria-hidden": "true",
        },
    )
    whole = max(cap, spent + held)
    at = 0
    _part(root, "track", 0, _WIDTH)
    for amount, name in ((spent, "bad" if spent + held > cap else "main"), (held, "second")):
        width = int(max(amount, Decimal(0)) * _WIDTH / whole) if whole > 0 else 0
        if width:
            _part(root, name, at, width)
        at += width
    return Markup(tostring(root, encoding="unicode"))  # noqa: S704 (it has numbers and our own words only)


def _part(root: Element, name: str, at: int, width: int) -> None:
    size = {"x": str(at), "y": "0", "width": str(width), "height": str(_HEIGHT)}
    SubElement(root, "rect", {"class": name, **size})
