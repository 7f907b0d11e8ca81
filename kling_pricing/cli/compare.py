"""`kling-pricing compare`: prices a job with other settings and at other providers."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping
from decimal import Decimal
from itertools import groupby
from textwrap import wrap
from typing import Any

import click

from kling_pricing.cli.description import read_seconds
from kling_pricing.cli.exit_codes import DONE, REFUSED, exit_codes_help
from kling_pricing.cli.failures import errors_shown
from kling_pricing.cli.inputs import only_request
from kling_pricing.cli.options import request_options
from kling_pricing.cli.output import echo, signed, to_json
from kling_pricing.cli.summary_text import WIDTH, aligned
from kling_pricing.cli.wording import with_options
from kling_pricing.money import format_decimal, subtract
from kling_pricing.quoting.comparison import Option, compare
from kling_pricing.quoting.intake import provider_of
from kling_pricing.quoting.quote import Quote
from kling_pricing.tables.price_book import PriceBook


def _lengths(_ctx: click.Context, _option: click.Parameter, values: tuple[str, ...]) -> tuple[int, ...]:
    lengths = tuple(map(read_seconds, values))
    if lengths and min(lengths) < 1:
        raise click.BadParameter(f"a length must be at least 1 second, got {min(lengths)}")
    return lengths


@click.command(
    "compare",
    epilog=exit_codes_help("the request as written has a price", "the request as written has no price"),
)
@click.argument("file", metavar="FILE|-")
@click.option("--top", type=click.IntRange(min=1), metavar="N", help="Show only the N cheapest variants.")
@click.option("--available", "is_available", is_flag=True, help="Leave out variants that are not available.")
@click.option(
    "--model", "models", multiple=True, metavar="NAME", help="Only variants with this model (repeatable)."
)
@click.option(
    "--duration",
    "durations",
    callback=_lengths,
    multiple=True,
    metavar="SECONDS",
    help="Length of the variants. Default: the length of the request (repeatable).",
)
@request_options
def compare_command(
    file: str,
    top: int | None,
    is_available: bool,
    as_json: bool,
    **settings: Any,
) -> None:
    """Compare the price of a job across settings and providers.

    The variants differ in resolution, audio, model or provider. The command prints one table per currency,
    with the cheapest variant first. The last table lists the variants that are not available, each with the
    reason. If a provider has an API of its own, the command rewrites the job for that API where it can. FILE
    contains one JSON request; - means standard input.

    With --top, the command shows the cheapest variants of each currency, and the request as written.

    \b
    Examples:
      kling-pricing compare request.json
      kling-pricing compare request.json --top 5
      kling-pricing compare request.json --duration 5 --duration 10 --available
    """
    with errors_shown(as_json=as_json):
        name, payload = only_request(file)
    with errors_shown(as_json=as_json, place=name, is_answer=True):
        options = compare(payload, **settings)
    original = _original_per_currency(options, settings["book"], settings["provider"])
    unchanged = [option for option in options if not option.changes]
    at_its_provider = _at_its_provider(unchanged, settings["book"], settings["provider"])
    shown = _chosen(options, at_its_provider, top, is_available=is_available)
    if as_json:
        for option in shown:
            echo(to_json(_row(option, original)))
    else:
        _show(shown, original)
    sys.exit(DONE if any(option.quote is not None for option in at_its_provider) else REFUSED)


def _chosen(options: list[Option], own: list[Option], top: int | None, *, is_available: bool) -> list[Option]:
    """Returns the options to show: the cheapest of each currency, and always the request as written."""
    places: Counter[str] = Counter()
    chosen = []
    for option in options:
        if option.quote is None:
            is_shown = top is None and not is_available
        else:
            places[option.quote.currency] += 1
            is_shown = top is None or places[option.quote.currency] <= top
        if is_shown or any(option is entry for entry in own):
            chosen.append(option)
    return chosen


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
        "wire_format": option.wire_format,
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
    has_lengths = len({quoted.request.facts["duration_s"] for _, quoted in quotes}) > 1
    for place, (currency, rows) in enumerate(groupby(quotes, key=lambda row: row[1].currency)):
        if place:
            echo("")
        base = original.get(currency)
        title = f"Prices in {currency}"
        echo(title if base is None else f"{title}, compared with the original request at {base.provider}")
        names = [currency, "Change", *(["s"] if has_lengths else []), *_NAMES, ""]
        lines = [names, *(_price_cells(*row, original, has_lengths=has_lengths) for row in rows)]
        echo("\n".join(aligned(lines, left=len(names) - len(_NAMES) - 1)))
        if any(line[-1] == _ORIGINAL for line in lines):
            echo(f"  {_ORIGINAL} the request as written")
    refused = [option for option in options if option.quote is None]
    if refused:
        echo("\nNot available" if quotes else "Not available")
        head, *cells = aligned([_NAMES, *(_cells(option) for option in refused)], left=0)
        echo(head)
        for line, option in zip(cells, refused, strict=True):
            echo(line)
            reason = with_options(option.why_not)
            echo("\n".join(wrap(reason, WIDTH, initial_indent=" " * 6, subsequent_indent=" " * 6)))


_ORIGINAL = "*"
"""The mark of the request as written."""

_NAMES = ["Provider", "Model", "Res.", "Audio"]


def _price_cells(
    option: Option, quoted: Quote, original: Mapping[str, Option], *, has_lengths: bool
) -> list[str]:
    difference = _difference(quoted, original)
    length = [_word(quoted.request.facts["duration_s"])] if has_lengths else []
    return [
        quoted.shown_total(),
        "" if difference is None else signed(difference),
        *length,
        *_cells(option),
        _remark(option),
    ]


def _cells(option: Option) -> list[str]:
    return [option.provider, option.model, option.resolution or "-", _word(option.audio)]


def _remark(option: Option) -> str:
    """Returns the changes that the other columns do not show."""
    if not option.changes:
        return _ORIGINAL
    shown = {"model", "resolution", "audio", "duration_s"}
    return ", ".join(f"{fact} = {_word(value)}" for fact, value in option.changes.items() if fact not in shown)


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value is None else str(value)
