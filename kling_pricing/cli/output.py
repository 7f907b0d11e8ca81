"""Prints results: JSON for programs, text for people. `terminal` prints tables and progress."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from decimal import Decimal
from json.encoder import encode_basestring
from typing import Any

import click

from kling_pricing.cli.wording import with_options
from kling_pricing.display import printable
from kling_pricing.money import format_decimal
from kling_pricing.quoting.quote import Quote

to_json = json.JSONEncoder(separators=(",", ":"), default=str).encode
_to_unescaped_json = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode

HEADINGS = (
    f"{'Total':>12}      {'Model':<16} {'Action':<16} {'Resolution, tier, quantity x unit price':<44} Request"
)


MAX_TEXTS = 4096
"""Maximum number of cached texts."""


class Texts:
    """Caches the printed form of quotes.

    Requests that differ only in their prompts and files have the same price for the same reasons. In a long
    file, few requests differ in other ways, so most texts can be reused.
    """

    def __init__(self, make: Callable[[Quote], str], *, notes: bool) -> None:
        """Prepares the cache.

        Args:
            make: returns the text of a quote.
            notes: whether the text contains the notes.
        """
        self._make = make
        self._notes = notes
        # a quote is kept with its text, because the `id` of its parts would otherwise be given to others
        self._texts: dict[tuple[Any, ...], tuple[Quote, str]] = {}

    def __call__(self, quote: Quote) -> str:
        """Returns the printable text of a quote. It may depend only on the parts of the cache key."""
        request, table, rate, lines, minimum, maximum, list_total, lazy = quote
        key = (
            *(id(table), id(rate), request.model, request.wire_format, request.facts["action"]),
            *(id(lines), id(minimum), id(maximum), id(list_total), lazy.notes if self._notes else ()),
        )
        known = self._texts.get(key)
        if known is None:
            if len(self._texts) >= MAX_TEXTS:
                self._texts.clear()
            known = self._texts[key] = quote, printable(self._make(quote))
        return known[1]


def _row(quote: Quote) -> str:
    request, line = quote.request, quote.lines[0]
    _, resolution, tier = quote.rate.cell
    priced = f"{resolution} {tier}, {format_decimal(line.quantity)} x {format_decimal(line.unit_price)}"
    total = f"{quote.shown_total():>12} {quote.table.currency}"
    return f"{total}  {request.model:<16} {request.facts['action']:<16} {priced:<44}"


def _json(quote: Quote) -> str:
    data = quote.as_dict()
    for note in data["notes"]:
        note["message"] = with_options(note["message"])
    return _to_unescaped_json(data)


row_text = Texts(_row, notes=False)
"""Returns a quote as one line under `HEADINGS`, without the last column."""

json_text = Texts(_json, notes=True)
"""Returns a quote as one line of JSON."""


def placed_json(text: str, place: str) -> str:
    """Adds the request's place in the input as the first key to the printable text of a JSON object."""
    return f'{{"place":{printable(encode_basestring(place))},{text[1:]}'


def echo(text: str, *, err: bool = False) -> None:
    """Prints a line on standard output or standard error; control characters in it are shown, not sent."""
    click.echo(printable(text), err=err)


def print_whole(text: str) -> None:
    """Prints a text of any length in full.

    If standard output is unbuffered (`PYTHONUNBUFFERED`), a single `write` drops the bytes that a pipe does not
    accept at once.
    """
    out = sys.stdout
    out.flush()
    rest = memoryview(text.encode(out.encoding, out.errors or "strict"))
    while rest:
        rest = rest[out.buffer.write(rest) :]
    out.buffer.flush()


def totals_text(totals: dict[str, Decimal], ranges: AbstractSet[str], counts: dict[str, int]) -> str:
    """Returns the closing lines for several requests: the number per outcome and the total per currency.

    A total that includes a range is the maximum that the requests can cost.
    """
    lines = [
        ", ".join(f"{count} {outcome}" for outcome, count in counts.items() if count) or "nothing read",
        *(
            f"total {'at most ' if currency in ranges else ''}{format_decimal(total)} {currency}"
            for currency, total in sorted(totals.items())
        ),
    ]
    return "\n".join(lines)


def signed(number: Decimal) -> str:
    """Returns a difference with its sign, in plain decimal notation: `+0.1`, `-0.1`, `0`."""
    return f"+{format_decimal(number)}" if number > 0 else format_decimal(number) if number else "0"


def counted(count: int, singular: str, plural: str = "") -> str:
    """Returns a count with its noun: `1 rate`, `2 rates`."""
    return f"{count} {singular if count == 1 else plural or f'{singular}s'}"
