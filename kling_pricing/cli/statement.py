"""`kling-pricing statement`: shows how a statement is read, and writes the mapping of its columns."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.table import Column, Table

from kling_pricing.cli.exit_codes import DONE, REFUSED, exit_codes_help
from kling_pricing.cli.failures import errors_shown
from kling_pricing.cli.groups import Group
from kling_pricing.cli.ledger_options import json_option
from kling_pricing.cli.options import known_provider, tables_option
from kling_pricing.cli.output import counted, echo, to_json
from kling_pricing.cli.statement_questions import OF_SUMS, chosen_answers
from kling_pricing.cli.terminal import print_table
from kling_pricing.errors import KlingPricingError
from kling_pricing.money import format_decimal
from kling_pricing.tables.price_book import PriceBook

if TYPE_CHECKING:
    from kling_pricing.reconcile import SampleRow, StatementSample

_OUTCOMES = (
    "every row can be read, and the totals in the file agree",
    "some rows cannot be read, or a total differs",
)


def _totals_marks(
    _ctx: click.Context, _option: click.Parameter, values: tuple[str, ...]
) -> tuple[tuple[str, str], ...] | None:
    """Reads the marks of totals; None: none is given."""
    pairs = [value.rpartition("=") for value in values]
    if wrong := next((value for value, pair in zip(values, pairs, strict=True) if not pair[0]), None):
        raise click.BadParameter(f"{wrong!r} is not a mark; write COLUMN=TEXT, or COLUMN= for an empty column")
    return tuple((column, text) for column, _, text in pairs) or None


@click.group(cls=Group)
def statement() -> None:
    """Check how a provider's statement is read, and describe its columns, before you reconcile it.

    \b
    Examples:
      kling-pricing statement check november.csv --provider qingbo
      kling-pricing statement map november.csv --provider qingbo
    """


@statement.command(
    "check",
    epilog=exit_codes_help(*_OUTCOMES),
)
@click.argument("file", metavar="FILE")
@click.option("--provider", required=True, callback=known_provider, help="Provider that issued the statement.")
@click.option(
    "--mapping",
    metavar="NAME|FILE",
    help="Mapping for the statement's columns. Default: the mapping that matches the columns.",
)
@click.option("--encoding", metavar="NAME", help="Encoding of a text file, such as gb18030. Default: UTF-8.")
@click.option(
    "--account-currency",
    metavar="CODE",
    help="Currency of amounts for which the statement does not state one.",
)
@click.option(
    "--rows", type=click.IntRange(1, 1000), default=10, show_default=True, help="Number of rows to show."
)
@tables_option
@json_option
def check_command(
    file: str,
    provider: str,
    mapping: str | None,
    encoding: str | None,
    account_currency: str | None,
    rows: int,
    book: PriceBook,
    as_json: bool,
) -> None:
    """Show how FILE is read, and which rows cannot be read.

    The command reads the whole file as `kling-pricing reconcile` does, but it does not use a ledger or
    change anything. Compare the rows and the sums with the file before you reconcile it.

    \b
    Example:
      kling-pricing statement check november.csv --provider qingbo
    """
    from kling_pricing.reconcile import sample_statement  # noqa: PLC0415 (an extra, and slow to import)

    with errors_shown(as_json=as_json):
        sample = sample_statement(
            file,
            provider=provider,
            mapping=mapping,
            encoding=encoding,
            account_currency=account_currency,
            rows=rows,
            book=book,
        )
    if as_json:
        echo(to_json(_as_dict(sample)))
    else:
        _print(sample)
    sys.exit(DONE if sample.totals_agree and not sample.unreadable else REFUSED)


def _as_dict(sample: StatementSample) -> dict[str, Any]:
    """Returns a sample as JSON-ready data; amounts are text."""
    return {
        **sample._asdict(),
        "totals": list(sample.totals),
        "notes": list(sample.notes),
        "sums": {unit: format_decimal(amount) for unit, amount in sample.sums.items()},
        "first": sample.first and sample.first.isoformat(),
        "last": sample.last and sample.last.isoformat(),
        "rows": [_row_dict(row) for row in sample.rows],
        "problems": [_row_dict(row) for row in sample.problems],
    }


def _row_dict(row: SampleRow) -> dict[str, Any]:
    return {
        **row._asdict(),
        "amount": None if row.amount is None else format_decimal(row.amount),
        "billed_at": row.billed_at and row.billed_at.isoformat(),
        "duration_s": None if row.duration_s is None else format_decimal(row.duration_s),
    }


def _print(sample: StatementSample) -> None:
    echo(f"{sample.file}: mapping {sample.mapping} ({sample.about})")
    is_sums = any(row.cell for row in sample.rows)
    grid = Table(
        Column("row", justify="right"),
        "sum of" if is_sums else "task",
        Column("amount", justify="right"),
        "unit",
        "time (UTC)",
        "model",
    )
    for row in sample.rows:
        grid.add_row(
            str(row.row),
            "cannot be read" if row.problem else row.task_id or row.cell or "",
            "" if row.amount is None or row.problem else format_decimal(row.amount),
            row.unit or "",
            "" if row.billed_at is None else f"{row.billed_at:%Y-%m-%d %H:%M:%S}",
            row.model or "",
        )
    print_table(grid)
    ignored = f", {sample.ignored} ignored" if sample.ignored else ""
    echo(f"rows: {sample.read} read, {sample.unreadable} unreadable{ignored}")
    for unit, amount in sample.sums.items():
        echo(f"sum of the readable charges: {format_decimal(amount)} {unit}")
    for clause in (*sample.notes, *sample.totals):
        echo(clause)
    if sample.first and sample.last:
        echo(f"charged from {sample.first:%Y-%m-%d %H:%M:%S} to {sample.last:%Y-%m-%d %H:%M:%S} UTC")
    for row in sample.problems:
        echo(f"  row {row.row}: {row.problem}. {row.remedy}")
    if sample.unreadable > len(sample.problems):
        echo(f"  and {counted(sample.unreadable - len(sample.problems), 'more unreadable row')}")


@statement.command("map", epilog=exit_codes_help(*_OUTCOMES))
@click.argument("file", metavar="FILE")
@click.option("--provider", required=True, callback=known_provider, help="Provider that issued the statement.")
@click.option("--out", metavar="FILE", help="File for the mapping. Default: NAME.yaml in this folder.")
@click.option("--name", metavar="NAME", help="Name of the mapping. Default: the provider and `-statement`.")
@click.option("--encoding", metavar="NAME", help="Encoding of a text file, such as gb18030. Default: UTF-8.")
@click.option("--task", "task_id", metavar="COLUMN", help="Column with the provider's id of the task.")
@click.option("--amount", metavar="COLUMN", help="Column with the amount.")
@click.option("--unit", metavar="UNIT", help="Unit of all amounts: a currency such as USD, or quota.")
@click.option("--unit-column", metavar="COLUMN", help="Column with the unit of each amount, instead of --unit.")
@click.option("--decimals", type=click.IntRange(0, 9), help="Maximum number of decimal places of an amount.")
@click.option(
    "--thousands", type=click.Choice([",", ".", " ", "'"]), help="Thousands separator of the amounts."
)
@click.option("--time", "billed_at", metavar="COLUMN", help="Column with the time of the charge.")
@click.option(
    "--time-format", metavar="FORMAT", help="Format of the times: iso, unix, ms, or a pattern such as %d/%m/%Y."
)
@click.option("--offset", metavar="OFFSET", help="UTC offset of times without their own, such as +08:00.")
@click.option("--model", metavar="COLUMN", help="Column with the model.")
@click.option("--resolution", metavar="COLUMN", help="Column with the resolution.")
@click.option("--duration", "duration_s", metavar="COLUMN", help="Column with the length of the video.")
@click.option("--duration-unit", type=click.Choice(["s", "ms", "min"]), help="Unit of the lengths.")
@click.option(
    "--totals",
    metavar="COLUMN=TEXT",
    multiple=True,
    callback=_totals_marks,
    help="Text that marks a row as a total; COLUMN= alone means that the column is empty. Repeat the option "
    "for several texts.",
)
@click.option("--sums", is_flag=True, help="The rows are sums of tasks, such as one row per day and model.")
@click.option("--tasks", metavar="COLUMN", help="For sums: column with the number of tasks.")
@click.option("--tier", metavar="COLUMN", help="For sums: column with the tier.")
@click.option("--project", "project_column", metavar="COLUMN", help="For sums: column with the project.")
@click.option("--account", "account_column", metavar="COLUMN", help="For sums: column with the account.")
@click.option(
    "--timezone", "day_zone", metavar="ZONE", help="For sums: IANA name of the time zone of the days."
)
@click.option("--yes", is_flag=True, help="Do not ask: use the options, and the suggestions for the rest.")
@tables_option
@json_option
def map_command(
    file: str,
    provider: str,
    out: str | None,
    name: str | None,
    encoding: str | None,
    yes: bool,
    book: PriceBook,
    as_json: bool,
    **given: Any,
) -> None:
    """Write a mapping for the columns of FILE, and try it.

    The command looks at the columns and the first rows of the file, suggests the meaning of each column, and
    asks you to confirm it. Each option answers a question in advance. Without a terminal, the command does not
    ask, and needs an option for everything that the file does not show, such as the unit of the amounts. It
    also suggests which rows are totals: these are compared with the other rows, and are never charges.

    \b
    Examples:
      kling-pricing statement map november.csv --provider qingbo \\
          --task job --amount charged --unit USD --out ours.yaml
      kling-pricing statement map daily.csv --provider qingbo --sums \\
          --time day --timezone Asia/Shanghai --model model --amount cost \\
          --unit USD
    """
    from kling_pricing.reconcile import draft_mapping, sample_statement  # noqa: PLC0415 (an extra, and slow)

    given |= {key: given.pop(f"{key}_column") for key in ("project", "account")}
    given["timezone"] = given.pop("day_zone")
    if wrong := next((key for key in (*OF_SUMS, "timezone") if given[key] and not given["sums"]), None):
        raise click.UsageError(f"--{wrong} concerns sums; add --sums, or omit the option")
    name = name or f"{provider}-statement"
    path = Path(out or f"{name}.yaml")
    if path.exists():
        raise click.UsageError(f"{path} exists already; give another file with --out, or remove it")
    with errors_shown(as_json=as_json):
        draft = draft_mapping(file, encoding=encoding)
        answers = chosen_answers(draft, given, asks=not (yes or as_json) and sys.stdin.isatty())
        text = draft.yaml(
            name,
            answers,
            checked=datetime.now(UTC).date(),
            names_of=book.tables_of(provider)[-1].wire_formats,
        )
        try:
            with path.open("x", encoding="utf-8") as written:
                written.write(text)
        except OSError as error:
            raise KlingPricingError(
                f"{path}: cannot be written: {error.strerror}; give another --out"
            ) from None
        try:
            sample = sample_statement(file, provider=provider, mapping=path, encoding=encoding, book=book)
        except KlingPricingError:
            path.unlink()  # a mapping that does not fit is of no use
            raise
    if as_json:
        echo(to_json({"mapping_file": str(path), **_as_dict(sample)}))
    else:
        echo(text)
        _print(sample)
        echo(f"written to {path}; read it, then reconcile with --mapping {path}")
    sys.exit(DONE if sample.totals_agree and not sample.unreadable else REFUSED)
