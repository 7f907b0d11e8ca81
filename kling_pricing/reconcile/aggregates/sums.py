"""Compares a statement of sums with the ledger: the cells, their explanations, and the completeness."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import NamedTuple

from kling_pricing.errors import StatementError
from kling_pricing.reconcile.aggregates.cell_explanations import doubt_counts, explain_cells
from kling_pricing.reconcile.aggregates.cell_lines import CellLines
from kling_pricing.reconcile.aggregates.cells import compare_cells, grain_of
from kling_pricing.reconcile.aggregates.day_zones import find_other_zone
from kling_pricing.reconcile.categories import mark_exceptions
from kling_pricing.reconcile.completeness import Completeness, check_completeness, read_control_totals
from kling_pricing.reconcile.explain import tolerate
from kling_pricing.reconcile.matching import StatementPeriod
from kling_pricing.reconcile.model import Grain, Invoice, Rows, Tolerance
from kling_pricing.reconcile.patterns import limit_roundings
from kling_pricing.reconcile.statements import Statement
from kling_pricing.reconcile.units import Unit
from kling_pricing.reconcile.workspace import Workspace
from kling_pricing.tables.price_book import PriceBook


class ComparedSums(NamedTuple):
    """The result of comparing sums.

    Attributes:
        lines: the lines.
        rows: the rows of the statement, counted.
        completeness: the gaps of the statement.
        grain: the columns by which it divides its sums.
    """

    lines: CellLines
    rows: Rows
    completeness: Completeness
    grain: tuple[Grain, ...]


def is_by_account(statements: Iterable[Statement]) -> bool:
    """Returns whether statements give sums by account, so that they concern all accounts at the provider."""
    return any(each.mapping.aggregates is not None and each.mapping.aggregates.account for each in statements)


def compare_sums(
    workspace: Workspace,
    statements: Sequence[Statement],
    book: PriceBook,
    units: Iterable[Unit],
    period: StatementPeriod,
    *,
    provider: str,
    usual: str,
    tolerance: Tolerance,
    invoice: Invoice | None,
    max_unreadable_percent: Decimal,
    refused: Mapping[str, object],
    account: str | None,
) -> ComparedSums:
    """Makes the lines of a statement of sums, explains them, and checks that the statement is complete.

    Args:
        workspace: the database with the charges and the reservations.
        statements: the statements.
        book: the wire formats, whose model names a statement may use.
        units: the provider's own units.
        period: the period.
        provider: the provider that bills.
        usual: the currency of lines without a currency of their own.
        tolerance: the unexplained amounts that are tolerated.
        invoice: the invoice; None: it is not known.
        max_unreadable_percent: the largest part of the rows that may be unreadable.
        refused: name -> an argument that concerns tasks, which sums do not show.
        account: the account that the caller chose; None: none.

    Raises:
        StatementError: the files give different sums, the period does not consist of their days, or an argument
            concerns tasks.
    """
    for name, value in refused.items():
        if value:
            raise StatementError(f"the statement gives sums, not tasks, so {name} cannot be used; leave it out")
    entry, zone_name = grain_of(statements)
    if account is not None and is_by_account(statements):
        raise StatementError(
            "the statement gives sums by account, so it concerns all accounts; leave out `account`"
        )
    controls = read_control_totals(workspace, statements)
    compare_cells(workspace, statements, book, units, period, usual)
    explain_cells(workspace, period)
    limit_roundings(workspace)
    tolerate(workspace, tolerance)
    doubt_counts(workspace)
    mark_exceptions(workspace)
    lines = CellLines(workspace, statements, provider)
    completeness = check_completeness(
        workspace,
        rows := lines.rows(),
        lines.totals("all"),
        controls=controls,
        invoice=invoice,
        max_unreadable_percent=max_unreadable_percent,
        not_ours=None,
        unknown="none of the sums on the statement has tasks in the ledger",
    )
    other_zone = find_other_zone(workspace, zone_name)
    if other_zone is not None:
        completeness = completeness._replace(gaps=(other_zone, *completeness.gaps))
    return ComparedSums(lines, rows, completeness, entry.grain)
