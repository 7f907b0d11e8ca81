"""`kling-pricing month`: closes the books of a month, and shows closed months."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

import click
from rich.table import Column, Table

from kling_pricing.cli.account_choice import books_options, chosen_provider
from kling_pricing.cli.exit_codes import REFUSED, exit_codes_help
from kling_pricing.cli.failures import errors_shown
from kling_pricing.cli.groups import Group
from kling_pricing.cli.ledger_options import json_option, ledgers_option
from kling_pricing.cli.options import tables_option
from kling_pricing.cli.output import echo, to_json
from kling_pricing.cli.payables import payable_text, payables_as_dicts
from kling_pricing.cli.period import as_of_option, end_of, read_month
from kling_pricing.cli.terminal import print_table
from kling_pricing.money import format_decimal
from kling_pricing.reconcile.model import ACCOUNT_TITLES
from kling_pricing.tables.price_book import PriceBook

if TYPE_CHECKING:
    from kling_pricing.reconcile import MonthBooks
    from kling_pricing.reconcile.open_items import OpenItems, OpenKind


@click.group("month", cls=Group)
def month() -> None:
    """Close the books of a month, and show closed months.

    \b
    Examples:
      kling-pricing month close 2026-11 --provider qingbo
      kling-pricing month list --provider qingbo
    """


@month.command("close", epilog=exit_codes_help(refused="refused; nothing changed"))
@click.argument("name", metavar="YYYY-MM", callback=read_month)
@ledgers_option
@books_options("Provider whose books are closed.")
@click.option("--reason", metavar="TEXT", help="Reason to keep in the books.")
@click.option(
    "--actor", metavar="NAME", help="Your name for the books. Default: your user name on this system."
)
@tables_option
@json_option
def close_command(
    name: str,
    ledgers: tuple[str, ...],
    provider: str | None,
    account: str | None,
    reason: str | None,
    actor: str | None,
    book: PriceBook,
    as_json: bool,
) -> None:
    """Close the books of a month, and show the amounts to pay.

    The command also shows the amount in dispute, the amount to accrue, and the journal of the month.

    The journal of a closed month never changes. If a statement that you remember later concerns a closed month,
    its amounts appear in the first open month. Every account has its own books.

    Close months in order. The command refuses a month while an earlier month with amounts is open, and names
    that month. A month without amounts needs no closing.

    Remember the month's statements first, with `kling-pricing reconcile --remember`. The command warns about
    charges and tasks that are still open, and names them.

    \b
    Example:
      kling-pricing month close 2026-11 --provider qingbo --reason "done"
    """
    from kling_pricing.reconcile import close_month  # noqa: PLC0415 (an extra, and slow to import)

    with errors_shown(as_json=as_json):
        provider = chosen_provider(ledgers, provider, account, book)
        closed = close_month(ledgers, name, provider=provider, account=account, actor=actor, reason=reason)
    for each in closed:
        for warning in _warnings(each):
            echo(warning, err=True)
    _show(closed, as_json=as_json)


def _warnings(each: MonthBooks) -> Iterator[str]:
    """Yields what a person should know about a month that is now closed."""
    if not each.has_statement:
        yield (
            f"warning: the books of {each.account.books} contain no statement for {each.month}; if you "
            "add one to the books later, its charges appear in the first open month"
        )
    for items in each.open:
        if each.has_statement or items.kind != "not_charged":  # without a statement, nothing is charged
            yield _open_text(items)
    for payable in each.payable:
        if payable.disputed:
            yield (
                f"warning: {format_decimal(payable.disputed)} {payable.currency} stays in dispute; if you "
                "accept a disputed charge, or it is refunded, run `kling-pricing dispute resolve`: the charge "
                "then counts in the first open month"
            )


_OPEN: Mapping[OpenKind, tuple[str, str]] = {
    "charged_too_much": (
        "charged more than expected, and not in dispute",
        "if you do not accept a charge, run `kling-pricing dispute open`",
    ),
    "not_in_ledger": (
        "charged, but not in the ledger",
        "if a task is yours, record it; if not, run `kling-pricing dispute open`",
    ),
    "not_charged": (
        "not charged in full, although the grace period of 1 day is over",
        "ask the provider, and if it will not charge a task, run `kling-pricing write-off`",
    ),
}
"""Why tasks are open, and the remedy."""


def _open_text(items: OpenItems) -> str:
    """Returns the warning about open tasks, which names the first of them."""
    named = ", ".join(f"{task} ({format_decimal(amount)})" for task, amount in items.first)
    if items.tasks > len(items.first):
        named += f" and {items.tasks - len(items.first)} more"
    what, remedy = _OPEN[items.kind]
    are = "1 task is" if items.tasks == 1 else f"{items.tasks} tasks are"
    return f"warning: {are} {what}: {named}, {format_decimal(items.amount)} {items.currency} in all; {remedy}"


@month.command(
    "list", epilog=exit_codes_help("every closed month is intact", "the journal of a closed month has changed")
)
@ledgers_option
@books_options("Provider whose books to show.")
@as_of_option("Show only the months that were closed by this time (ISO 8601; a day includes the whole day).")
@tables_option
@json_option
def list_command(
    ledgers: tuple[str, ...],
    provider: str | None,
    account: str | None,
    as_of: date | datetime | None,
    book: PriceBook,
    as_json: bool,
) -> None:
    """Show the closed months and their journals.

    The command computes each journal again from the books, and compares it with the journal that was closed.

    \b
    Example:
      kling-pricing month list --provider qingbo
    """
    from kling_pricing.reconcile import closed_months  # noqa: PLC0415

    with errors_shown(as_json=as_json):
        provider = chosen_provider(ledgers, provider, account, book)
        known_at = None if as_of is None else end_of(as_of, "UTC")
        months = closed_months(ledgers, provider=provider, account=account, as_of=known_at)
    _show(months, as_json=as_json)
    if not all(each.is_intact for each in months):
        sys.exit(REFUSED)


def _show(months: list[MonthBooks], *, as_json: bool) -> None:
    if as_json:
        echo(to_json([_as_dict(each) for each in months]))
        return
    if not months:
        echo("no closed months")
    for each in months:
        closed = each.closed
        reason = f" ({closed.reason})" if closed.reason else ""
        state = "intact" if each.is_intact else "CHANGED: its journal differs from the one that was closed"
        echo(
            f"{each.month}: closed at {closed.closed_at:%Y-%m-%d %H:%M} UTC by {closed.actor}{reason}; {state}"
        )
        for payable in payables_as_dicts(each.payable, each.accrued):
            echo(payable_text(payable))
        if not each.journal:
            continue
        grid = Table(
            *(Column(name, no_wrap=True) for name in ("Account", "Project")),
            *(Column(name, justify="right", no_wrap=True) for name in ("Amount", "Tasks")),
            Column("Currency", no_wrap=True),
        )
        for line in each.journal:
            grid.add_row(
                ACCOUNT_TITLES[line.account],
                line.project or "(no project)",
                format_decimal(line.amount),
                str(line.tasks),
                line.currency,
            )
        print_table(grid)


def _as_dict(each: MonthBooks) -> dict[str, Any]:
    return {
        "ledger": each.ledger,
        "month": each.month,
        "provider": each.account.provider,
        "account": each.account.account,
        "closed_at": each.closed.closed_at.isoformat(),
        "actor": each.closed.actor,
        "reason": each.closed.reason,
        "digest": each.closed.digest,
        "is_intact": each.is_intact,
        "has_statement": each.has_statement,
        "open": [
            items._asdict()
            | {
                "amount": format_decimal(items.amount),
                "first": [{"task_id": task, "amount": format_decimal(amount)} for task, amount in items.first],
            }
            for items in each.open
        ],
        "payable": payables_as_dicts(each.payable, each.accrued),
        "journal": [line._asdict() | {"amount": format_decimal(line.amount)} for line in each.journal],
    }
