"""`kling-pricing compare`: what the same job would cost otherwise."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from decimal import Decimal
from itertools import groupby
from typing import Any

import click
from rich.markup import escape
from rich.table import Column, Table

from kling_pricing.cli.inputs import only_request
from kling_pricing.cli.options import request_options
from kling_pricing.cli.output import error_dict, error_text, print_table, signed, to_json
from kling_pricing.errors import KlingPricingError
from kling_pricing.money import format_decimal, subtract
from kling_pricing.quoting.comparison import Option, compare
from kling_pricing.quoting.intake import provider_of
from kling_pricing.quoting.quote import Quote
from kling_pricing.tables.price_table import PriceBook

_NOT_AVAILABLE, _UNREADABLE = 1, 2


@click.command("compare")
@click.argument("file", metavar="FILE|-")
@request_options
def compare_command(file: str, as_json: bool, **settings: Any) -> None:
    """Say what the same job costs in other resolutions, with or without audio, of other models, elsewhere.

    FILE holds one JSON request; - is standard input.
    The cheapest comes first; currencies stand apart.

    Exit codes: 0 done; 1 the request itself is not available; 2 bad usage or unreadable input.
    """
    try:
        name, payload = only_request(file)
    except KlingPricingError as error:
        click.echo(to_json(error_dict(error)) if as_json else str(error), err=not as_json)
        sys.exit(_UNREADABLE)
    try:
        options = compare(payload, **settings)
    except KlingPricingError as error:
        click.echo(to_json(error_dict(error)) if as_json else error_text(error, name))
        sys.exit(_NOT_AVAILABLE)
    given = _as_given(options, settings["book"], settings["provider"])
    if as_json:
        for option in options:
            click.echo(to_json(_row(option, given)))
    else:
        _show(options, given)
    itself = [option for option in options if not option.changes]
    own = _own(itself, settings["book"], settings["provider"])
    sys.exit(0 if any(option.quote is not None for option in own) else _NOT_AVAILABLE)


def _own(itself: list[Option], book: PriceBook, provider: str | None) -> list[Option]:
    """The request itself at its own provider; at every one when it has none."""
    read = next((option.quote.request for option in itself if option.quote is not None), None)
    own = provider if read is None else provider_of(read, book, provider)
    return itself if own is None else [option for option in itself if option.provider == own]


def _as_given(options: list[Option], book: PriceBook, provider: str | None) -> dict[str, Option]:
    """Currency -> the request itself: at its own provider, in other currencies where it is cheapest."""
    itself = [option for option in options if not option.changes]
    given: dict[str, Option] = {}
    for option in (*_own(itself, book, provider), *itself):
        if option.quote is not None:
            given.setdefault(option.quote.currency, option)
    return given


def _difference(quoted: Quote, given: Mapping[str, Option]) -> Decimal | None:
    """By how much a quote is dearer than the request itself in the same currency."""
    base = given[quoted.currency].quote if quoted.currency in given else None
    return None if base is None else subtract(quoted.maximum, base.maximum)


def _row(option: Option, given: Mapping[str, Option]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "changes": dict(option.changes),
        "provider": option.provider,
        "model": option.model,
        "resolution": option.resolution,
        "audio": option.audio,
        "available": option.quote is not None,
    }
    quoted = option.quote
    if quoted is None:
        return {**found, "why_not": option.why_not}
    difference = _difference(quoted, given)
    return {
        **found,
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
            Column("difference", justify="right", no_wrap=True),
            *_columns(),
            Column("changes", min_width=_READABLE_CHARS),
            title=f"in {currency}"
            + ("" if base is None else f", compared with the request as given at {base.provider}"),
        )
        for option, quoted in rows:
            difference = _difference(quoted, given)
            grid.add_row(
                quoted.shown_total(),
                "" if difference is None else signed(difference),
                *_cells(option),
                escape(", ".join(f"{fact} = {_word(value)}" for fact, value in option.changes.items()))
                or "none: as given",
            )
        print_table(grid)
    refused = [option for option in options if option.quote is None]
    if refused:
        grid = Table(*_columns(), Column("why not", min_width=_READABLE_CHARS), title="not available")
        for option in refused:
            grid.add_row(*_cells(option), escape(option.why_not))
        print_table(grid)


_READABLE_CHARS = 24
"""A sentence in a narrower column is no longer one."""


def _columns() -> list[Column]:
    return [Column(name, no_wrap=True) for name in ("provider", "model", "resolution", "audio")]


def _cells(option: Option) -> list[str]:
    return [option.provider, escape(option.model), option.resolution or "not said", _word(option.audio)]


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "not said" if value is None else str(value)
