"""How answers look: JSON for programs, text for people."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime
from decimal import Decimal
from json.encoder import encode_basestring
from typing import Any

import pydantic_core
from rich.console import Console
from rich.table import Table
from rich.text import Text

from kling_pricing.errors import KlingPricingError
from kling_pricing.findings import Violation
from kling_pricing.money import format_decimal
from kling_pricing.quoting.quote import Quote

to_json = json.JSONEncoder(separators=(",", ":"), default=str).encode


def violation_dict(violation: Violation) -> dict[str, Any]:
    """A violation as JSON-ready data."""
    return violation._asdict()


def error_dict(error: KlingPricingError) -> dict[str, Any]:
    """A refusal as JSON-ready data: `{"error": {"type", "message", "violations", "suggestions", ...}}`."""
    found: dict[str, Any] = {"type": type(error).__name__, "message": str(error)}
    found["violations"] = [violation_dict(each) for each in getattr(error, "violations", ())]
    found["suggestions"] = list(getattr(error, "suggestions", ()))
    if priced_instead := getattr(error, "priced_instead", ()):
        found["priced_instead"] = list(priced_instead)
    found |= {name: _json_ready(getattr(error, name)) for name in _MONEY_ATTRIBUTES if hasattr(error, name)}
    return {"error": found}


_MONEY_ATTRIBUTES = (
    *("budget", "requested", "available", "currency", "window_end", "cheapest"),
    *("reservation_id", "state", "task_id"),
)
"""What an error of the guard carries, for programs."""


def _json_ready(value: Any) -> Any:
    if isinstance(value, Decimal):
        return format_decimal(value)
    return value.isoformat() if isinstance(value, datetime) else value


def error_text(error: KlingPricingError, place: str) -> str:
    """A refusal for a person: every violation on a line of its own, then what would do."""
    violations: Sequence[Violation] = getattr(error, "violations", ())
    lines = [f"{place}: {type(error).__name__}"]
    lines += [f"  {each.message} [{each.code}, {each.source}]" for each in violations] or [f"  {error}"]
    for suggestion in getattr(error, "suggestions", ()):
        changes = ", ".join(
            f"leave out {field}" if value is None else f"{field} = {json.dumps(value)}"
            for field, value in suggestion.items()
        )
        lines.append(f"  valid instead: {changes}")
    return "\n".join(lines)


HEADINGS = (
    f"{'total':>12}      {'model':<16} {'action':<16} {'resolution, tier, quantity x unit price':<44} request"
)


MAX_TEXTS = 4096
"""So many texts of quotes are kept."""


class Texts:
    """What a quote is printed as.

    Requests that differ in nothing but their prompts and files cost the same for the same reasons, and a long
    file has few that differ in more, so each text is made once.
    """

    def __init__(self, make: Callable[[Quote], str]) -> None:
        self._make = make
        self._texts: dict[tuple[Any, ...], str] = {}

    def __call__(self, quote: Quote) -> str:
        """The text of a quote, which says nothing of the request but what is asked for here."""
        request, table, *answer = quote
        said = table.id, table.digest, request.model, request.wire_format, request.facts["action"], *answer
        text = self._texts.get(said)
        if text is None:
            if len(self._texts) >= MAX_TEXTS:
                self._texts.clear()
            text = self._texts[said] = self._make(quote)
        return text


def _row(quote: Quote) -> str:
    request, line = quote.request, quote.lines[0]
    _, resolution, tier = quote.rate.cell
    priced = f"{resolution} {tier}, {format_decimal(line.quantity)} x {format_decimal(line.unit_price)}"
    total = f"{quote.shown_total():>12} {quote.table.currency}"
    return f"{total}  {request.model:<16} {request.facts['action']:<16} {priced:<44}"


def _json(quote: Quote) -> str:
    return pydantic_core.to_json(quote.as_dict()).decode()


row_text = Texts(_row)
"""One quote as one line under `HEADINGS`, without the last column."""

json_text = Texts(_json)
"""One quote as one line of JSON."""


def placed_json(text: str, place: str) -> str:
    """An object as JSON text, with its place in the input in front."""
    return f'{{"place":{encode_basestring(place)},{text[1:]}'


def print_whole(text: str) -> None:
    """Prints a text, however long.

    Where standard output is not buffered (`PYTHONUNBUFFERED`), its own `write` loses what a pipe does not take
    at once.
    """
    out = sys.stdout
    out.flush()
    rest = memoryview(text.encode(out.encoding, out.errors or "strict"))
    while rest:
        rest = rest[out.buffer.write(rest) :]
    out.buffer.flush()


def totals_text(totals: dict[str, Decimal], ranges: AbstractSet[str], counts: dict[str, int]) -> str:
    """The closing lines of many requests: how many, and what they cost together, per currency.

    A total with a range in it is the most that they can cost.
    """
    counted = ", ".join(f"{count} {what}" for what, count in counts.items() if count) or "nothing read"
    lines = [
        counted,
        *(
            f"total {'at most ' if currency in ranges else ''}{format_decimal(total)} {currency}"
            for currency, total in sorted(totals.items())
        ),
    ]
    return "\n".join(lines)


def signed(number: Decimal) -> str:
    """A difference with its sign, in plain decimal notation: `+0.1`, `-0.1`, `0`."""
    return f"+{format_decimal(number)}" if number > 0 else format_decimal(number) if number else "0"


def print_table(grid: Table) -> None:
    """Prints a table; where the terminal is too narrow, each row as lines of its own: nothing is cut off."""
    console = wide_console()
    unlimited = console.options.update(width=_UNLIMITED)
    if console.measure(grid, options=unlimited).minimum <= console.width:
        console.print(grid)
        return
    if grid.title is not None:
        console.print(grid.title, style="italic")
    names = [str(column.header) for column in grid.columns]
    widest = max(map(len, names))
    for cells in zip(*(column.cells for column in grid.columns), strict=True):
        for name, cell in zip(names, cells, strict=True):
            text = cell if isinstance(cell, Text) else Text.from_markup(str(cell))
            console.print(Text.assemble(f"{name:<{widest}}  ", text), soft_wrap=True)
        console.print()


_UNLIMITED = 10_000


def wide_console() -> Console:
    """The terminal as wide as it is; a file or pipe wide enough that nothing is cut."""
    return Console(width=None if sys.stdout.isatty() else 160)
