"""`kling-pricing compare-lists`: what changed between two shot lists, and what that costs."""

from __future__ import annotations

import sys
from collections.abc import Container, Mapping
from decimal import Decimal
from functools import partial
from typing import Any

import click

from kling_pricing.cli.exit_codes import DONE, REFUSED, exit_codes_help
from kling_pricing.cli.failures import errors_shown
from kling_pricing.cli.inputs import Item
from kling_pricing.cli.ledger_options import read_amount
from kling_pricing.cli.list_comparison_text import as_json_data, as_markdown, as_text
from kling_pricing.cli.list_options import reading_options
from kling_pricing.cli.list_runs import READING_OPTIONS, ListRun
from kling_pricing.cli.options import request_options
from kling_pricing.cli.output import echo, to_json
from kling_pricing.cli.result_forms import QuoteForm
from kling_pricing.errors import KlingPricingError
from kling_pricing.money import subtract
from kling_pricing.quoting.intake import Intake
from kling_pricing.shot_lists.list_columns import RESULT_PREFIXES, folded_name
from kling_pricing.shot_lists.list_differences import ListComparison, PricedShot, compare_lists


@click.command(
    "compare-lists",
    epilog=exit_codes_help(
        "every shot of the second list has a price",
        "a shot of the second list is refused, or the increase is too high",
    ),
)
@click.argument("before")
@click.argument("after")
@click.option(
    "--match-by", metavar="COLUMN", help="Column that identifies a shot. Default: key, or else the content."
)
@click.option(
    "--max-increase",
    callback=read_amount,
    metavar="AMOUNT",
    help="Exit with code 1 if the total rises by more than this.",
)
@click.option("--markdown", "is_markdown", is_flag=True, help="Print Markdown for a review comment.")
@reading_options
@request_options
def compare_lists_command(
    before: str,
    after: str,
    match_by: str | None,
    max_increase: Decimal | None,
    is_markdown: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Show what changed between two shot lists, and its cost.

    BEFORE and AFTER are shot lists (CSV, TSV, XLSX or Parquet), files with JSON requests, or folders. Both are
    priced at the same time, so a difference comes from the lists and not from the prices. A price range counts
    at its maximum.

    \b
    Examples:
      kling-pricing compare-lists old/shots.csv shots.csv
      kling-pricing compare-lists old.csv new.csv --match-by Shot --markdown
    """
    if as_json and is_markdown:
        raise click.UsageError("give either --json or --markdown")
    reading = {name: options.pop(name) for name in READING_OPTIONS}
    intake = Intake(**options)
    with errors_shown(as_json=as_json):
        old, new = (_priced_list(path, intake, reading) for path in (before, after))
        comparison = compare_lists(old, new, None if match_by is None else folded_name(match_by))
    refused = [shot for shot in new if isinstance(shot.outcome, KlingPricingError)]
    if as_json:
        echo(to_json(as_json_data(comparison, before, after)))
    else:
        show = as_markdown if is_markdown else as_text
        echo("\n".join(show(comparison, before, after, refused)))
    too_dear = max_increase is not None and _increase(comparison) > max_increase
    if too_dear:
        echo(f"the total rises by more than {max_increase}", err=True)
    sys.exit(REFUSED if refused or too_dear else DONE)


def _increase(comparison: ListComparison) -> Decimal:
    """Returns the greatest increase in any currency."""
    return max((subtract(new, old) for old, new in comparison.totals.values()), default=Decimal(0))


def _priced_list(path: str, intake: Intake, reading: Mapping[str, Any]) -> list[PricedShot]:
    # a list without rows is where a new list begins, so each of its shots was added
    run = ListRun([path], partial(_same, intake), QuoteForm(), reading, may_be_empty=True)
    ignored = {folded_name(name) for name, field in reading["maps"].items() if not field}
    return [
        PricedShot(item.place, item.source, item.number, _cells(item, payload, run, ignored), outcome)
        for item, payload, outcome in run.priced()
    ]


def _same(intake: Intake) -> Intake:
    return intake


def _cells(item: Item, payload: Mapping[str, Any], run: ListRun, ignored: Container[str]) -> dict[str, str]:
    """Returns the texts that make up a shot: the cells of its row, or the fields of its payload."""
    if item.row is None:
        return {name: value if isinstance(value, str) else to_json(value) for name, value in payload.items()}
    cells = {
        folded_name(name): cell.strip()
        for name, cell in zip(run.header(item.source), item.row.cells, strict=True)
        if not name.lower().startswith(RESULT_PREFIXES) and folded_name(name) not in ignored
    }
    key = item.row.shot.about.get("key")
    return cells if key is None else cells | {"key": key}
