"""`kling-pricing compare`: the price of a job in other settings and at other providers."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from decimal import Decimal
from itertools import groupby
from typing import Any

import click
from rich.markup import escape
from rich.table import Column, Table

from kling_pricing.cli.exit_codes import DONE, REFUSED, exit_codes_help
from kling_pricing.cli.failures import errors_shown
from kling_pricing.cli.inputs import only_request
from kling_pricing.cli.options import request_options
from kling_pricing.cli.output import print_table, signed, to_json
from kling_pricing.cli.wording import with_options
from kling_pricing.money import format_decimal, subtract
from kling_pricing.quoting.comparison import Option, compare, own_provider
from kling_pricing.quoting.quote import Quote
from kling_pricing.tables.price_table import PriceBook


@click.command(
    "compare",
    epilog=exit_codes_help("the request itself is available", "the request itself is not available"),
)
@click.argument("file", metavar="FILE|-")
@request_options
def compare_command(file: str, as_json: bool, **settings: Any) -> None:
    """Compare the price of a job across settings and providers.

    The variants differ in resolution, audio, model or provider. Each currency has a table, with the cheapest
    variant first. Variants that are not available follow, with the reason. FILE holds one JSON request; - is
    standard input.

    \b
    Example:
      kling-pricing compare request.json
    """
    with errors_shown(as_json=as_json):
        name, payload = only_request(file)
    with errors_shown(as_json=as_json, place=name, is_answer=True):
        options = compare(payload, **settings)
    given = _as_given(options, settings["book"], settings["provider"])
    if as_json:
        for option in options:
            click.echo(to_json(_row(option, given)))
    else:
        _show(options, given)
    itself = [option for option in options if not option.changes]
    own = _own(itself, settings["book"], settings["provider"])
    sys.exit(DONE if any(option.quote is not None for option in own) else REFUSED)


def _own(itself: list[Option], book: PriceBook, provider: str | None) -> list[Option]:
    """Returns the request itself at its own provider, or at every provider if it has none of its own."""
    read = next((option.quote.request for option in itself if option.quote is not None), None)
    own = provider if read is None else own_provider(read, book, provider)
    return itself if own is None else [option for option in itself if option.provider == own]


def _as_given(options: list[Option], book: PriceBook, provider: str | None) -> dict[str, Option]:
    """Returns currency -> the request itself: at its own provider, or where it is cheapest in that currency."""
    itself = [option for option in options if not option.changes]
    given: dict[str, Option] = {}
    for option in (*_own(itself, book, provider), *itself):
        if option.quote is not None:
            given.setdefault(option.quote.currency, option)
    return given


def _difference(quoted: Quote, given: Mapping[str, Option]) -> Decimal | None:
    """Returns how much more a quote costs than the request itself in the same currency."""
    base = given[quoted.currency].quote if quoted.currency in given else None
    return None if base is None else subtract(quoted.maximum, base.maximum)


def _row(option: Option, given: Mapping[str, Option]) -> dict[str, Any]:
    row: dict[str, Any] = {
        "changes": dict(option.changes),
        "provider": option.provider,
        "model": option.model,
        "resolution": option.resolution,
        "audio": option.audio,
        "available": option.quote is not None,
    }
    quoted = option.quote
    if quoted is None:
        return {**row, "why_not": with_options(option.why_not)}
    difference = _difference(quoted, given)
    return {
        **row,
        "table": quoted.table.id,
        "tier": quoted.tier,
        "minimum": format_decimal(quoted.minimum),
        "maximum": format_decimal(quoted.maximum),
        "currency": quoted.currency,
        "difference": None if difference is None else format_decimal(difference),
        "why_not": "",
    }


def _show(options: list[Option], given: Mapping[str, Option]) -> None:
    quotes = [(option, option.quote) for option in options if option.quote is not None]
    for currency, rows in groupby(quotes, key=lambda row: row[1].currency):
        base = given.get(currency)
        grid = Table(
            Column(currency, justify="right", no_wrap=True),
            Column("Difference", justify="right", no_wrap=True),
            *_columns(),
            Column("Changes", min_width=_READABLE_CHARS),
            title=f"In {currency}"
            + ("" if base is None else f", compared with the original request at {base.provider}"),
        )
        for option, quoted in rows:
            difference = _difference(quoted, given)
            grid.add_row(
                quoted.shown_total(),
                "" if difference is None else signed(difference),
                *_cells(option),
                escape(", ".join(f"{fact} = {_word(value)}" for fact, value in option.changes.items()))
                or "none (the original request)",
            )
        print_table(grid)
    refused = [option for option in options if option.quote is None]
    if refused:
        grid = Table(*_columns(), Column("Reason", min_width=_READABLE_CHARS), title="Not available")
        for option in refused:
            grid.add_row(*_cells(option), escape(with_options(option.why_not)))
        print_table(grid)


_READABLE_CHARS = 24
"""The narrowest column in which a sentence is still readable."""


def _columns() -> list[Column]:
    return [Column(name, no_wrap=True) for name in ("Provider", "Model", "Resolution", "Audio")]


def _cells(option: Option) -> list[str]:
    return [option.provider, escape(option.model), option.resolution or "not stated", _word(option.audio)]


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "not stated" if value is None else str(value)
