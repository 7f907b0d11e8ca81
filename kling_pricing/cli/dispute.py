"""`kling-pricing dispute`: opens, lists and resolves disputes about charges."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import click

from kling_pricing.cli.account_choice import books_options, chosen_provider
from kling_pricing.cli.exit_codes import exit_codes_help
from kling_pricing.cli.failures import errors_shown
from kling_pricing.cli.groups import Group
from kling_pricing.cli.ledger_options import json_option, ledgers_option, read_amount, task_id_argument
from kling_pricing.cli.options import tables_option
from kling_pricing.cli.output import echo, to_json
from kling_pricing.money import format_decimal
from kling_pricing.tables.price_book import PriceBook
from kling_pricing.windows import utc_clock

if TYPE_CHECKING:
    from kling_pricing.reconcile import Dispute

_books_options = books_options("Provider that charged the task.")
_reason_option = click.option(
    "--reason", metavar="TEXT", required=True, help="Reason to keep in the books, such as the ticket's number."
)
_actor_option = click.option(
    "--actor", metavar="NAME", help="Your name for the books. Default: your user name on this system."
)


@click.group("dispute", cls=Group)
def dispute() -> None:
    """Dispute charges with a provider.

    Do not pay a disputed amount. Its task is not settled until you resolve the dispute.
    `kling-pricing reconcile --dispute` disputes every charge that is too high, and every repeated charge.

    \b
    Examples:
      kling-pricing dispute open task-2 --provider qingbo --reason "charged twice"
      kling-pricing dispute list --provider qingbo
      kling-pricing dispute resolve 17 --reason "refunded"
    """


@dispute.command("open", epilog=exit_codes_help(refused="refused; nothing changed"))
@task_id_argument
@ledgers_option
@_books_options
@click.option(
    "--amount",
    callback=read_amount,
    metavar="AMOUNT",
    help="Disputed amount. Default: the part of the charges that exceeds the expected amount.",
)
@_reason_option
@_actor_option
@tables_option
@json_option
def open_command(
    task_id: str,
    ledgers: tuple[str, ...],
    provider: str | None,
    account: str | None,
    amount: Decimal | None,
    reason: str,
    actor: str | None,
    book: PriceBook,
    as_json: bool,
) -> None:
    """Dispute part of the charge for TASK_ID.

    The charge must be on a statement in the books; see `kling-pricing reconcile --remember`.

    \b
    Example:
      kling-pricing dispute open task-2 --provider qingbo --reason "too expensive"
    """
    from kling_pricing.reconcile import open_dispute  # noqa: PLC0415 (an extra, and slow to import)

    with errors_shown(as_json=as_json):
        provider = chosen_provider(ledgers, provider, account, book)
        opened = open_dispute(
            ledgers, task_id, provider=provider, account=account, amount=amount, actor=actor, reason=reason
        )
    echo(to_json(_as_dict(opened)) if as_json else _line(opened))


@dispute.command("list", epilog=exit_codes_help())
@ledgers_option
@_books_options
@click.option("--all", "everything", is_flag=True, help="Include disputes that have ended.")
@tables_option
@json_option
def list_command(
    ledgers: tuple[str, ...],
    provider: str | None,
    account: str | None,
    everything: bool,
    book: PriceBook,
    as_json: bool,
) -> None:
    """List the open disputes with a provider.

    \b
    Example:
      kling-pricing dispute list --provider qingbo
    """
    from kling_pricing.reconcile import list_disputes  # noqa: PLC0415

    with errors_shown(as_json=as_json):
        provider = chosen_provider(ledgers, provider, account, book)
        known = list_disputes(ledgers, provider=provider, account=account)
    listed = [each for each in known if everything or each.is_open]
    if as_json:
        echo(to_json([_as_dict(each) for each in listed]))
        return
    for each in listed:
        echo(_line(each))
    if not listed:
        echo("no disputes" if everything else "no open disputes")


@dispute.command("resolve", epilog=exit_codes_help(refused="refused; nothing changed"))
@click.argument("number", type=int)
@ledgers_option
@_books_options
@_reason_option
@_actor_option
@tables_option
@json_option
def resolve_command(
    number: int,
    ledgers: tuple[str, ...],
    provider: str | None,
    account: str | None,
    reason: str,
    actor: str | None,
    book: PriceBook,
    as_json: bool,
) -> None:
    """Resolve the dispute with this NUMBER.

    The charge counts again, in its month or in the first open month, whichever is later. `kling-pricing
    reconcile --settle` can then settle its task. If the provider gives the money back, the refund appears as a
    row of a later statement; resolve the dispute then, so that the charge and its refund cancel out. The number
    is enough; give the provider or the account only if several ledgers have a dispute with this number.

    If the dispute has already ended, the command changes nothing and says how and when it ended. The exit code
    is 0 only if it was resolved with the same reason.

    \b
    Example:
      kling-pricing dispute resolve 17 --reason "refunded"
    """
    from kling_pricing.reconcile import resolve_dispute  # noqa: PLC0415
    from kling_pricing.reconcile.disputing import ended_text  # noqa: PLC0415

    with errors_shown(as_json=as_json):
        if provider is None and account is not None:
            provider = chosen_provider(ledgers, provider, account, book)
        now = utc_clock(None)()
        resolved = resolve_dispute(
            ledgers, number, provider=provider, account=account, actor=actor, reason=reason, clock=lambda: now
        )
    if resolved.resolved_at != now:
        echo(f"{ended_text(resolved)}; nothing was changed", err=True)
    echo(to_json(_as_dict(resolved)) if as_json else _line(resolved))


def _line(each: Dispute) -> str:
    line = (
        f"{each.number}: {each.task_id}, {format_decimal(each.amount)} {each.currency}, {each.row}, opened "
        f"{each.opened_at:%Y-%m-%d} by {each.actor}: {each.reason}"
    )
    if each.resolved_at is not None:
        return f"{line}; resolved {each.resolved_at:%Y-%m-%d}: {each.resolution}"
    if each.is_withdrawn:
        return f"{line}; ended {each.withdrawn_at:%Y-%m-%d}, because {each.withdrawn_by} lacks the row"
    return line


def _as_dict(each: Dispute) -> dict[str, Any]:
    return each._asdict() | {
        "amount": format_decimal(each.amount),
        "opened_at": each.opened_at.isoformat(),
        "resolved_at": each.resolved_at and each.resolved_at.isoformat(),
        "withdrawn_at": each.withdrawn_at and each.withdrawn_at.isoformat(),
    }
