"""`kling-pricing tables check`, `new` and `schema`: the commands for writing your own tables."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import click

from kling_pricing.cli.exit_codes import REFUSED, exit_codes_help
from kling_pricing.cli.output import counted, echo, to_json
from kling_pricing.errors import TableError
from kling_pricing.tables.loading.book import load_price_book
from kling_pricing.tables.loading.folders import TABLES_VARIABLE
from kling_pricing.tables.price_book import PriceBook
from kling_pricing.tables.price_table import PriceTable
from kling_pricing.wire.formats import NAMES as WIRE_FORMATS

_PATTERNS = {
    "provider": (r"[a-z0-9][a-z0-9._-]*", "made of lower-case letters, digits, dots, underscores and hyphens"),
    "currency": (r"[A-Z]{3}", "three capital letters, such as USD"),
}


def all_tables(book: PriceBook) -> list[PriceTable]:
    """Returns all price tables and contracts, those of a provider together."""
    names = sorted({*book.tables, *book.contracts})
    return [
        table for name in names for tables in (book.tables, book.contracts) for table in tables.get(name, ())
    ]


@click.command(
    "check",
    epilog=exit_codes_help(
        "the tables are valid", "a table is invalid", "bad usage, or the folder cannot be read"
    ),
)
@click.argument("folder", required=False, envvar=TABLES_VARIABLE, type=click.Path(exists=True, file_okay=False))
def check_command(folder: str | None) -> None:
    """Check the price tables and capability files in FOLDER.

    The command checks these files together with the bundled tables, which they extend. Without FOLDER,
    the command checks only the bundled tables. The command reports every mistake with its file and line.

    \b
    Example:
      kling-pricing tables check my-tables
    """
    try:
        book = load_price_book(folder)
    except TableError as error:
        for problem in error.problems:
            echo(str(problem), err=True)
        if error.others:
            echo(f"{len(error.problems)} problems in all", err=True)
        sys.exit(REFUSED)
    checked = [table for table in all_tables(book) if table.contract is None]
    contracts = [table for table in all_tables(book) if table.contract is not None]
    counts = (
        counted(len(checked), "price table"),
        *([counted(len(contracts), "contract")] if contracts else []),
        counted(sum(len(table.rates) for table in checked), "rate"),
        counted(len(book.matrices), "capability matrix", "capability matrices"),
    )
    echo(f"OK: {', '.join(counts)}")
    for table in checked:
        if not table.hosts and folder and Path(folder, "prices", f"{table.id}.yaml").exists():
            echo(
                f"note: {table.id} does not name a host, so hooks cannot tell which requests go to "
                f"{table.provider}; add the host of the API to `hosts`, or pass it to each hook as "
                f"hosts={{HOST: {table.provider!r}}}"
            )


def _named(kind: str) -> Callable[[click.Context, click.Parameter, str | None], str | None]:
    """Returns a callback that accepts only text of one kind, as price files do."""

    def checked(_ctx: click.Context, _option: click.Parameter, value: str | None) -> str | None:
        pattern, allowed = _PATTERNS[kind]
        if value is not None and not re.fullmatch(pattern, value):
            raise click.BadParameter(f"{kind} must be {allowed}, got {value!r}")
        return value

    return checked


@click.command("new", epilog=exit_codes_help())
@click.argument("new_provider", metavar="PROVIDER", callback=_named("provider"))
@click.option(
    "--wire-format",
    type=click.Choice(WIRE_FORMATS),
    metavar="NAME",
    required=True,
    help=f"API that the provider offers. One of: {', '.join(WIRE_FORMATS)}.",
)
@click.option("--currency", callback=_named("currency"), help="Currency of the prices, such as USD.")
@click.option(
    "--out",
    type=click.Path(file_okay=False),
    metavar="FOLDER",
    envvar=TABLES_VARIABLE,
    show_envvar=True,
    required=True,
    help="Folder with your own price tables.",
)
@click.option(
    "--tables",
    "own",
    type=click.Path(exists=True, file_okay=False),
    metavar="FOLDER",
    help="Folder with your own capability files. Default: the --out folder.",
)
def new_command(new_provider: str, wire_format: str, currency: str | None, out: str, own: str | None) -> None:
    """Write a price table template for PROVIDER.

    The file lists every combination of model, resolution and tier that the API allows; fill in the rate of each
    combination. If you have your own capability file for the API, the combinations come from that file. The
    command never overwrites a file.

    \b
    Example:
      kling-pricing tables new octopusx --wire-format openai_videos --out own
    """
    from kling_pricing.tables.loading.template import table_template  # noqa: PLC0415 (only this command needs it)

    today = datetime.now(UTC).date()
    path = Path(out, "prices", new_provider, f"{today}.yaml")
    book = load_price_book()
    if own is None and any(Path(out, kind).is_dir() for kind in ("capabilities", "providers")):
        own = out
    if own is not None:
        from kling_pricing.tables.loading.assembly import with_own_capabilities  # noqa: PLC0415 (slow to import)

        try:
            book = with_own_capabilities(book, own)
        except TableError as error:
            raise click.BadParameter(str(error)) from None
    text, count = table_template(book, new_provider, wire_format, currency, today)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise click.UsageError(f"{path} already exists; fill in that file, or move it elsewhere") from None
    except OSError as error:
        raise click.UsageError(f"{path}: cannot be written: {error.strerror}") from None
    echo(f"{path}: {counted(count, 'rate')} to fill in; then run kling-pricing tables check {out}")


@click.command("schema", epilog=exit_codes_help())
@click.argument("kind", type=click.Choice(["prices", "capabilities", "providers", "statements"]))
def schema_command(kind: str) -> None:
    """Print the JSON Schema for one kind of file.

    A text editor can use the schema for autocompletion and validation in files of this kind.

    \b
    Example:
      kling-pricing tables schema prices
    """
    from kling_pricing.reconcile.mappings import statement_file_schema  # noqa: PLC0415 (these are slow to import)
    from kling_pricing.tables.loading.capability_file import capability_file_schema  # noqa: PLC0415
    from kling_pricing.tables.loading.files import price_file_schema, provider_file_schema  # noqa: PLC0415

    schemas = {
        "prices": price_file_schema,
        "capabilities": capability_file_schema,
        "providers": provider_file_schema,
        "statements": statement_file_schema,
    }
    echo(to_json(schemas[kind]()))
