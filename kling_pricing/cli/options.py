"""Options that several commands share."""

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
from kling_pricing.tables.price_table import PriceBook
from kling_pricing.wire.media import MediaFacts, facts_of

_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
F = TypeVar("F", bound=Callable[..., Any])


def _instant(_ctx: click.Context, _option: click.Parameter, value: str | None) -> datetime | None:
    """Reads an ISO 8601 instant with its zone, or a day, which is its UTC midnight."""
    if value is None:
        return None
    try:
        at = datetime.fromisoformat(f"{value}T00:00:00Z" if _DAY.fullmatch(value) else value)
    except ValueError:
        raise click.BadParameter(
            f"{value!r} is not ISO 8601, such as 2026-11-21 or 2026-11-21T08:00:00Z"
        ) from None
    if at.tzinfo is None:
        raise click.BadParameter(
            f"{value!r} has no time zone; write 2026-11-21, or 2026-11-21T08:00:00Z for UTC"
        )
    return at


def _day_or_instant(ctx: click.Context, option: click.Parameter, value: str | None) -> date | datetime | None:
    """Reads an instant, or a day, whose beginning depends on where it is."""
    at = _instant(ctx, option, value)
    return at.date() if at is not None and _DAY.fullmatch(value or "") else at


def _price_book(_ctx: click.Context, _option: click.Parameter, value: str | None) -> PriceBook:
    try:
        return default_price_book() if value is None else load_price_book(value)
    except TableError as error:
        raise click.BadParameter(str(error)) from None


def _media(_ctx: click.Context, _option: click.Parameter, value: str | None) -> dict[str, MediaFacts] | None:
    if value is None:
        return None
    try:
        media = json_value(Path(value).read_bytes(), decoder=EXACT_JSON)
    except OSError as error:
        raise click.BadParameter(f"{value}: {error.strerror}") from None
    except WireFormatError as error:
        raise click.BadParameter(f"{value}: {error}") from None
    if not isinstance(media, dict):
        raise click.BadParameter(
            f'{value}: must be an object such as {{"https://...": {{"length_s": "5.04"}}}}'
        )
    try:
        return {url: facts_of(url, media) for url in media}
    except KlingPricingError as error:
        raise click.BadParameter(f"{value}: {error}") from None


tables_option = click.option(
    "--tables",
    "book",
    callback=_price_book,
    metavar="FOLDER",
    envvar=TABLES_VARIABLE,
    show_envvar=True,
    help="Folder of your own tables, read over the bundled ones.",
)


def instant_option(
    flag: str, help_text: str, *, name: str | None = None, required: bool = False, days: bool = False
) -> Callable[[F], F]:
    """An option that takes an instant.

    Args:
        flag: how it is written.
        help_text: what it says of itself.
        name: of its parameter, where that is not the flag's.
        required: whether it has to be given.
        days: a day stays a `date`, to begin where another option says; else it begins in UTC.
    """
    names = [flag] if name is None else [flag, name]
    return click.option(
        *names,
        callback=_day_or_instant if days else _instant,
        metavar="TIME",
        required=required,
        help=f"{help_text} (ISO 8601)",
    )


at_option = instant_option("--at", "Ask for this instant instead of now")


def refuse_without_folder(out: str | None, **given: object) -> None:
    """Refuses options that say how files are written where no folder for them is named.

    Args:
        out: the folder; None: none.
        given: such options by the name of their parameters, each with its value; empty or None: not given.

    Raises:
        click.UsageError: one is given all the same; it would be of no effect.
    """
    for name, value in given.items():
        if out is None and value not in (None, ()):
            flag = f"--{name.replace('_', '-')}"
            raise click.UsageError(f"{flag} is about files; name the folder to write them into with --out")


_PROVIDER_OPTIONS = [
    click.option(
        "--provider", help="Who bills you; by default the provider whose API the request is written for."
    ),
    click.option(
        "--wire-format", help="The API the request is written for; by default found from the request."
    ),
    click.option(
        "--url",
        metavar="URL",
        help="The endpoint the request is posted to; it tells the API and, by its host, the provider.",
    ),
    tables_option,
    click.option(
        "--media",
        callback=_media,
        metavar="FILE",
        help="JSON file: URL -> size_bytes, type, length_s of the file there.",
    ),
    click.option("--allow-unknown", is_flag=True, help="Ignore fields the API does not document."),
]

_REQUEST_OPTIONS = [
    *_PROVIDER_OPTIONS,
    instant_option("--at", "Price at this instant instead of now"),
    click.option("--json", "as_json", is_flag=True, help="Print one JSON object a request."),
]


def provider_options(command: F) -> F:
    """Adds the options that say what a request does not: who bills, in which format, what its files are."""
    for option in reversed(_PROVIDER_OPTIONS):
        command = option(command)
    return command


def request_options(command: F) -> F:
    """Adds the options of every command that reads requests."""
    for option in reversed(_REQUEST_OPTIONS):
        command = option(command)
    return command
