"""Renders pages: templates with automatic escaping, and headers that let a page load nothing from elsewhere."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.responses import HTMLResponse

from kling_pricing.money import format_decimal
from kling_pricing.quoting.quote import counted
from kling_pricing.reports import svg
from kling_pricing.reports.formatting import amount_text, number_text
from kling_pricing.server.pages.bars import budget_bar
from kling_pricing.server.pages.static_files import static_url
from kling_pricing.windows import FOREVER

POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
"""Nothing is loaded from elsewhere, and neither a script nor a style inside a page runs."""

HEADERS: Mapping[str, str] = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}
"""The headers of every page."""


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("kling_pricing.server.pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "amount": amount_text,
        "number": number_text,
        "exact": _exact,
        "instant": _instant,
        "money2": _money2,
        "day": _day,
        "labels": _labels,
        "json": _json,
        "setting": _setting,
        "units": counted,
    }
    environment.globals |= {"static_url": static_url, "panels": svg.panels, "budget_bar": budget_bar}
    return environment


def rendered(template: str, facts: Mapping[str, Any], status: int = 200) -> HTMLResponse:
    """Returns a page.

    Args:
        template: the name of the template, without `.html.j2`.
        facts: its variables.
        status: the HTTP status.
    """
    text = _environment().get_template(f"{template}.html.j2").render(facts)
    return HTMLResponse(text, status, HEADERS)


def _exact(number: Decimal | None) -> str:
    return "" if number is None else format_decimal(number)


def _money2(amount: Decimal) -> str:
    """Writes an amount rounded to cents, for a pace, which is an average."""
    return f"{amount:,.2f}"


def _instant(at: datetime | None, missing: str = "-") -> str | Markup:
    """Writes an instant to the minute, in UTC, with its exact value for programs."""
    if at is None or at in FOREVER:
        return missing
    exact = at.astimezone(UTC)
    return Markup('<time datetime="{}">{}</time>').format(
        exact.isoformat(timespec="seconds"), f"{exact:%Y-%m-%d %H:%M}"
    )


def _day(at: datetime | None) -> str:
    return "-" if at is None else f"{at.astimezone(UTC):%Y-%m-%d}"


def _labels(labels: Mapping[str, str]) -> str:
    return ", ".join(f"{label}={value}" for label, value in sorted(labels.items()))


def _setting(value: Any) -> str:
    """Writes the value of a setting of a request."""
    return {True: "on", False: "off"}.get(value, str(value)) if isinstance(value, bool) else str(value)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2, default=str)
