"""The options that several commands share, and the functions that read their values."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date, datetime
from pathlib import Path
from typing import Any, TypeVar

import click

from kling_pricing.errors import KlingPricingError, TableError, WireFormatError
from kling_pricing.strict_json import EXACT_JSON, json_value
from kling_pricing.tables.loading.book import default_price_book, load_price_book
from kling_pricing.tables.loading.folders import TABLES_VARIABLE
from kling_pricing.tables.price_book import PriceBook
from kling_pricing.wire.formats import NAMES as WIRE_FORMATS
from kling_pricing.wire.media import MediaFacts, facts_of

_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
F = TypeVar("F", bound=Callable[..., Any])


def _instant(_ctx: click.Context, _option: click.Parameter, value: str | None) -> datetime | None:
    """Reads an ISO 8601 instant with a time zone, or a day, which means midnight UTC."""
    if value is None:
        return None
    try:
        at = datetime.fromisoformat(f"{value}T00:00:00Z" if _DAY.fullmatch(value) else value)
    except ValueError:
        raise click.BadParameter(
            f"{value!r} is not an ISO 8601 date or time; write 2026-11-21 or 2026-11-21T08:00:00Z"
        ) from None
    if at.tzinfo is None:
        raise click.BadParameter(
            f"{value!r} has no time zone; write 2026-11-21T08:00:00Z for UTC, or only the date"
        )
    return at


def _day_or_instant(ctx: click.Context, option: click.Parameter, value: str | None) -> date | datetime | None:
    """Reads an instant or a day. A day stays a date, because its start depends on the time zone."""
    at = _instant(ctx, option, value)
    return at.date() if at is not None and _DAY.fullmatch(value or "") else at


def _price_book(_ctx: click.Context, _option: click.Parameter, value: str | None) -> PriceBook:
    try:
        return default_price_book() if value is None else load_price_book(value)
    except TableError as error:
        raise click.BadParameter(str(error)) from None


def require_provider(book: PriceBook, provider: str) -> None:
    """Refuses an unknown provider.

    Raises:
        click.BadParameter: the provider is unknown; the message suggests known providers.
    """
    if not book.knows(provider):
        raise click.BadParameter(str(book.unknown_provider(provider)))


def known_provider(ctx: click.Context, _option: click.Parameter, value: str | None) -> str | None:
    """Reads a provider that a price table covers. The command must also have `tables_option`."""
    if value is None:
        return None
    book: PriceBook = ctx.params["book"]
    value = next((name for name in (*book.tables, *book.unpriced) if name.lower() == value.lower()), value)
    require_provider(book, value)
    return value


def _url(ctx: click.Context, _option: click.Parameter, value: str | None) -> str | None:
    if value is not None:
        try:
            ctx.params["book"].endpoint(value)
        except KlingPricingError as error:
            raise click.BadParameter(str(error)) from None
    return value


def _media(_ctx: click.Context, _option: click.Parameter, value: str | None) -> dict[str, MediaFacts] | None:
    if value is None:
        return None
    try:
        media = json_value(Path(value).read_bytes(), decoder=EXACT_JSON)
    except OSError as error:
        raise click.BadParameter(f"{value}: cannot be read: {error.strerror}") from None
    except WireFormatError as error:
        raise click.BadParameter(f"{value}: {error}") from None
    if not isinstance(media, dict):
        raise click.BadParameter(
            f'{value}: must be a JSON object such as {{"https://...": {{"length_s": "5.04"}}}}'
        )
    try:
        return {url: facts_of(url, media) for url in media}
    except KlingPricingError as error:
        raise click.BadParameter(f"{value}: {error}") from None


tables_option = click.option(
    "--tables",
    "book",
    callback=_price_book,
    is_eager=True,  # the callbacks of other options use the tables
    metavar="FOLDER",
    envvar=TABLES_VARIABLE,
    show_envvar=True,
    help="Folder with your own price tables, which are added to the bundled ones.",
)


def instant_option(
    flag: str, help_text: str, *, name: str | None = None, required: bool = False, days: bool = False
) -> Callable[[F], F]:
    """Returns an option whose value is an instant.

    Args:
        flag: the option's flag, such as `--since`.
        help_text: the option's help.
        name: the parameter's name, if it differs from the flag.
        required: whether the option is required.
        days: whether a day stays a `date`, whose time zone another option sets; otherwise it starts in UTC.
    """
    names = [flag] if name is None else [flag, name]
    return click.option(
        *names,
        callback=_day_or_instant if days else _instant,
        metavar="TIME",
        required=required,
        help=help_text,
    )


at_option = instant_option("--at", "Show the budgets as of this time (ISO 8601). Default: now.")


def refuse_without_folder(out: str | None, **options: object) -> None:
    """Refuses options that apply only to report files if no folder for these files is given.

    Args:
        out: the folder; None if it is not given.
        options: parameter name -> value; empty or None if the option is not given.

    Raises:
        click.UsageError: such an option is given, but would have no effect.
    """
    for name, value in options.items():
        if out is None and value not in (None, ()):
            flag = f"--{name.replace('_', '-')}"
            raise click.UsageError(f"{flag} applies only to report files; choose their folder with --out")


def wire_format_option(help_text: str) -> Callable[[F], F]:
    """Returns an option for choosing a wire format."""
    return click.option(
        "--wire-format",
        type=click.Choice(WIRE_FORMATS),
        metavar="NAME",
        help=f"{help_text} One of: {', '.join(WIRE_FORMATS)}.",
    )


_PROVIDER_OPTIONS = [
    click.option(
        "--provider",
        callback=known_provider,
        help="Provider that bills you. Default: the provider whose API the request is written for.",
    ),
    wire_format_option("API that the request is written for. Default: detected from the request."),
    click.option(
        "--url",
        callback=_url,
        metavar="URL",
        help="Endpoint URL. The path of the URL determines the API, and the host determines the provider.",
    ),
    tables_option,
    click.option(
        "--media",
        callback=_media,
        metavar="FILE",
        help=(
            "JSON file with facts about the files that the request links to, such as "
            '{"https://...": {"length_s": "5.04", "size_bytes": 1048576, "type": "video/mp4"}}.'
        ),
    ),
    click.option(
        "--allow-unknown",
        is_flag=True,
        help="Ignore fields that the API does not document.",
    ),
]

_REQUEST_OPTIONS = [
    *_PROVIDER_OPTIONS,
    instant_option("--at", "Use the prices that apply at this time (ISO 8601). Default: now."),
    click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line."),
]


def provider_options(command: F) -> F:
    """Adds the options that describe a request: its provider, its API and facts about its files."""
    for option in reversed(_PROVIDER_OPTIONS):
        command = option(command)
    return command


def request_options(command: F) -> F:
    """Adds the options that all commands that read requests share."""
    for option in reversed(_REQUEST_OPTIONS):
        command = option(command)
    return command
