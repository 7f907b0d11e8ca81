"""`kling-pricing compare`: prices a job with other settings and at other providers."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from decimal import Decimal
from itertools import groupby
from typing import Any

import click
from rich.table import Column, Table

from kling_pricing.cli.exit_codes import DONE, REFUSED, exit_codes_help
from kling_pricing.cli.failures import errors_shown
from kling_pricing.cli.inputs import only_request
from kling_pricing.cli.options import request_options
from kling_pricing.cli.output import echo, signed, to_json
from kling_pricing.cli.terminal import print_table
from kling_pricing.cli.wording import with_options
from kling_pricing.money import format_decimal, subtract
from kling_pricing.quoting.comparison import Option, compare
from kling_pricing.quoting.intake import provider_of
from kling_pricing.quoting.quote import Quote
from kling_pricing.tables.price_book import PriceBook


@click.command(
    "compare",
    epilog=exit_codes_help("the request as written has a price", "the request as written has no price"),
)
@click.argument("file", metavar="FILE|-")
@request_options
def compare_command(file: str, as_json: bool, **settings: Any) -> None:
    """Compare the price of a job across settings and providers.

    The variants differ in resolution, audio, model or provider. The command prints one table per currency,
    with the cheapest variant first. The last table lists the variants that are not available, each with the
    reason. FILE contains one JSON request; - means standard input.

    \b
    Example:
      kling-pricing compare request.json
    """
    with errors_shown(as_json=as_json):
        name, payload = only_request(file)
    with errors_shown(as_json=as_json, place=name, is_answer=True):
        options = compare(payload, **settings)
    original = _original_per_currency(options, settings["book"], settings["provider"])
    if as_json:
        for option in options:
            echo(to_json(_row(option, original)))
    else:
        _show(options, original)
    unchanged = [option for option in options if not option.changes]
    at_its_provider = _at_its_provider(unchanged, settings["book"], settings["provider"])
    sys.exit(DONE if any(option.quote is not None for option in at_its_provider) else REFUSED)


def _at_its_provider(unchanged: list[Option], book: PriceBook, provider: str | None) -> list[Option]:
    """Returns the original request at its own provider, or at every provider if no provider is its own."""
    request = next((option.quote.request for option in unchanged if option.quote is not None), None)
    name = provider if request is None else provider_of(request, book, provider)
    return unchanged if name is None else [option for option in unchanged if option.provider == name]


def _original_per_currency(options: list[Option], book: PriceBook, provider: str | None) -> dict[str, Option]:
    """Returns currency -> the original request at its own provider, or else at the cheapest provider."""
    unchanged = [option for option in options if not option.changes]
    original: dict[str, Option] = {}
    for option in (*_at_its_provider(unchanged, book, provider), *unchanged):
        if option.quote is not None:
            original.setdefault(option.quote.currency, option)
    return original


def _difference(quoted: Quote, original: Mapping[str, Option]) -> Decimal | None:
    """Returns the price difference between a quote and the original request in the same currency."""
    base = original[quoted.currency].quote if quoted.currency in original else None
    return None if base is None else subtract(quoted.maximum, base.maximum)


def _row(option: Option, original: Mapping[str, Option]) -> dict[str, Any]:
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
    difference = _difference(quoted, original)
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


def _show(options: list[Option], original: Mapping[str, Option]) -> None:
    quotes = [(option, option.quote) for option in options if option.quote is not None]
    for currency, rows in groupby(quotes, key=lambda row: row[1].currency):
        base = original.get(currency)
        grid = Table(
            Column(currency, justify="right", no_wrap=True),
            Column("Difference", justify="right", no_wrap=True),
            *_columns(),
            Column("Changes", min_width=_READABLE_CHARS),
            title=f"Prices in {currency}"
            + ("" if base is None else f", compared with the original request at {base.provider}"),
        )
        for option, quoted in rows:
            difference = _difference(quoted, original)
            grid.add_row(
                quoted.shown_total(),
                "" if difference is None else signed(difference),
                *_cells(option),
                ", ".join(f"{fact} = {_word(value)}" for fact, value in option.changes.items())
                or "none (the original request)",
            )
        print_table(grid)
    refused = [option for option in options if option.quote is None]
    if refused:
        grid = Table(*_columns(), Column("Reason", min_width=_READABLE_CHARS), title="Not available")
        for option in refused:
            grid.add_row(*_cells(option), with_options(option.why_not))
        print_table(grid)


_READABLE_CHARS = 24
"""The narrowest column in which a sentence is still readable."""


def _columns() -> list[Column]:
    return [Column(name, no_wrap=True) for name in ("Provider", "Model", "Resolution", "Audio")]


def _cells(option: Option) -> list[str]:
    return [option.provider, option.model, option.resolution or "not stated", _word(option.audio)]


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "not stated" if value is None else str(value)
