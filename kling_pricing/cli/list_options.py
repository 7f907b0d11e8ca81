"""The options for shot lists: how they are read, how their results are grouped, and where the results go."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from kling_pricing.errors import KlingPricingError
from kling_pricing.shot_lists.list_columns import known_meaning
from kling_pricing.shot_lists.list_writers import writer_kind

F = TypeVar("F", bound=Callable[..., Any])


def _pairs(values: tuple[str, ...], form: str) -> dict[str, str]:
    pairs = {}
    for value in values:
        name, equals, text = value.partition("=")
        if not equals or not name.strip():
            raise click.BadParameter(f"{value!r} has no value; write {form}")
        if name.strip() in pairs:
            raise click.BadParameter(f"{name.strip()} is given more than once; give it only once")
        pairs[name.strip()] = text.strip()
    return pairs


def _values(_ctx: click.Context, _option: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    pairs = _pairs(values, "FIELD=VALUE")
    for name in pairs:
        _known(name)
    return pairs


def _maps(_ctx: click.Context, _option: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    pairs = _pairs(values, "COLUMN=FIELD")
    for name in filter(None, pairs.values()):
        _known(name)
    return pairs


def _known(name: str) -> None:
    try:
        known_meaning(name)
    except KlingPricingError as error:
        raise click.BadParameter(str(error)) from None


def _encoding(_ctx: click.Context, _option: click.Parameter, value: str | None) -> str | None:
    if value is None:
        return None
    from kling_pricing.reconcile.files.encodings import known_encoding  # noqa: PLC0415 (rarely needed)

    if not known_encoding(value):
        raise click.BadParameter(f"unknown encoding {value!r}; give a name such as gb18030")
    return value


def _output(_ctx: click.Context, _option: click.Parameter, value: str | None) -> str | None:
    if value is not None:
        try:
            writer_kind(value)
        except KlingPricingError as error:
            raise click.BadParameter(str(error)) from None
    return value


_READING = [
    click.option(
        "--set",
        "values",
        multiple=True,
        callback=_values,
        metavar="FIELD=VALUE",
        help="Use this value in every request, such as resolution=1080p; an empty value removes the field "
        "(repeatable).",
    ),
    click.option(
        "--map",
        "maps",
        multiple=True,
        callback=_maps,
        metavar="COLUMN=FIELD",
        help="Read a column of a shot list as this field; COLUMN= ignores the column (repeatable).",
    ),
    click.option("--sheet", metavar="NAME", help="Sheet of XLSX shot lists. Default: the first sheet."),
    click.option(
        "--encoding",
        callback=_encoding,
        metavar="NAME",
        help="Encoding of CSV and TSV shot lists, such as gb18030. Default: UTF-8.",
    ),
]
_RESULTS = [
    click.option(
        "--out",
        callback=_output,
        metavar="FILE",
        help="Write the results to this file instead: .csv, .tsv, .xlsx, .parquet or .jsonl.",
    ),
    click.option(
        "--refusals",
        callback=_output,
        metavar="FILE",
        help="Write the refused requests to this file, with the reasons.",
    ),
]
group_option = click.option(
    "--group-by",
    "groups",
    multiple=True,
    metavar="NAME",
    help="Add up the quotes by provider, model, tier, resolution, action, project, or a column of the shot "
    "list (repeatable).",
)


def reading_options(command: F) -> F:
    """Adds the options for reading shot lists."""
    for option in reversed(_READING):
        command = option(command)
    return command


def list_options(command: F) -> F:
    """Adds the options for reading shot lists and writing the results."""
    for option in reversed([*_READING, *_RESULTS]):
        command = option(command)
    return command
