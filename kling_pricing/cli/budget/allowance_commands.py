"""`budget ask`, `allow`, `decline`, `allowances` and `revoke`: granted exceptions to caps."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import click
from rich.text import Text

from kling_pricing.cli.failures import errors_shown
from kling_pricing.cli.inputs import only_request
from kling_pricing.cli.ledger_options import (
    LEDGER_EXIT_CODES,
    READING_EXIT_CODES,
    actor_option,
    json_option,
    labels_option,
    ledger_option,
    opened_guard,
    read_amount,
    reason_option,
)
from kling_pricing.cli.options import instant_option, provider_options
from kling_pricing.cli.output import counted, echo, to_json
from kling_pricing.cli.terminal import wide_console
from kling_pricing.display import printable
from kling_pricing.guard import allow, allowance_requests, allowances, decline, revoke
from kling_pricing.ledger.granting import Allowance, AllowanceRequest
from kling_pricing.money import format_decimal
from kling_pricing.tables.price_book import PriceBook

_STYLES = {"open": "green", "used up": "yellow", "ended": "dim", "revoked": "dim"}


@click.command("ask", epilog=LEDGER_EXIT_CODES)
@click.argument("request_file", metavar="FILE|-")
@click.option("--project", required=True, help="Project that the request belongs to.")
@click.option(
    "--key",
    help="Key of the job, if the allowance is for this job only. The allowance then lifts max_request too.",
)
@labels_option
@reason_option
@actor_option
@ledger_option
@provider_options
@json_option
def ask_command(
    request_file: str,
    project: str,
    key: str | None,
    labels: dict[str, str],
    reason: str,
    actor: str | None,
    ledger: str,
    book: PriceBook,
    as_json: bool,
    **options: Any,
) -> None:
    """Ask for an allowance for a request that was refused.

    FILE contains one JSON request; - means standard input. The command files a request for
    an allowance: the amount is the price of the request, and the budgets are those that have too little left
    now. An administrator can then grant the allowance with `budget allow --request`. Asking does not spend
    anything.

    \b
    Example:
      kling-pricing budget ask request.json --project trailer \\
        --reason "due on Friday"
    """
    with errors_shown(as_json=as_json):
        _, payload = only_request(request_file)
    with opened_guard(ledger, book=book, as_json=as_json, actor=actor) as guard:
        asked = guard.ask(payload, project=project, key=key, labels=labels, reason=reason, **options)
    if as_json:
        echo(to_json(request_dict(asked)))
        return
    echo(f"Filed as request {asked.id}: {_amount(asked.amount, asked.currency)} above {_above(asked)}.")
    echo("An administrator can grant it with:")
    echo(f"  kling-pricing budget allow --request {asked.id} --until DATE --reason TEXT")


@click.command("allow", epilog=LEDGER_EXIT_CODES)
@click.argument("project", required=False)
@click.option("--amount", callback=read_amount, metavar="AMOUNT", help="Amount above the caps, in total.")
@click.option("--currency", metavar="CODE", help="Currency of the amount, such as USD.")
@click.option(
    "--budget",
    "above",
    multiple=True,
    metavar="NAME",
    help="Budget above whose cap the project may spend. Repeat the option for several budgets.",
)
@instant_option("--until", "End of the allowance (ISO 8601).", required=True)
@click.option(
    "--key", help="Key of the only job that can use the allowance. The allowance then lifts max_request too."
)
@click.option(
    "--request", metavar="ID", help="Id of a request from `budget ask`. The request gives the other values."
)
@reason_option
@actor_option
@ledger_option
@json_option
def allow_command(
    project: str | None,
    amount: Decimal | None,
    currency: str | None,
    above: tuple[str, ...],
    until: datetime,
    key: str | None,
    request: str | None,
    reason: str,
    actor: str | None,
    ledger: str,
    as_json: bool,
) -> None:
    """Let PROJECT spend an extra amount beyond the caps.

    The allowance covers the part of a request's price that exceeds the amount left in a named budget. The
    request still counts in full in every budget, and the allowance gets back any part that the released or
    settled job does not need. The allowance does not lift a freeze, and other budgets still limit the project.

    \b
    Examples:
      kling-pricing budget allow trailer --amount 20 --currency USD \\
        --budget trailer --until 2099-12-31 --reason "launch week"
      kling-pricing budget allow --request 5f0c2a9b71de \\
        --until 2099-12-31 --reason "agreed"
    """
    if request is None and None in {project, amount, currency} | ({None} if not above else set()):
        raise click.UsageError("give PROJECT, --amount, --currency and --budget, or --request")
    with errors_shown(as_json=as_json):
        granted = allow(
            ledger,
            project,
            amount=amount,
            currency=currency,
            budgets=above,
            until=until,
            key=key,
            request=request,
            actor=actor,
            reason=reason,
        )
    if as_json:
        echo(to_json(allowance_dict(granted, datetime.now(UTC))))
        return
    granted_amount = f"{_amount(granted.amount, granted.currency)} above {_above(granted)}"
    end = f"until {_minute(granted.until)}{_for_key(granted)}"
    echo(f"Allowance {granted.id}: {granted.project} may spend {granted_amount} {end}.")


@click.command("decline", epilog=LEDGER_EXIT_CODES)
@click.argument("request", metavar="ID")
@reason_option
@actor_option
@ledger_option
@json_option
def decline_command(request: str, reason: str, actor: str | None, ledger: str, as_json: bool) -> None:
    """Decline a request for an allowance.

    ID is the id of a request from `budget ask`; `budget allowances` shows the ids. The person who
    asked sees who declined the request, and why. Nothing else changes.

    \b
    Example:
      kling-pricing budget decline 5f0c2a9b71de --reason "use 720p"
    """
    with errors_shown(as_json=as_json):
        declined = decline(ledger, request, actor=actor, reason=reason)
    if as_json:
        echo(to_json(request_dict(declined)))
        return
    echo(f"Request {declined.id} of {declined.project} is declined.")


@click.command("revoke", epilog=LEDGER_EXIT_CODES)
@click.argument("allowance", metavar="ID")
@reason_option
@actor_option
@ledger_option
@json_option
def revoke_command(allowance: str, reason: str, actor: str | None, ledger: str, as_json: bool) -> None:
    """Revoke an allowance immediately.

    Jobs that the allowance already covers stay covered. `budget allowances` shows the ids.

    \b
    Example:
      kling-pricing budget revoke 5f0c2a9b71de --reason "no longer needed"
    """
    with errors_shown(as_json=as_json):
        revoked = revoke(ledger, allowance, actor=actor, reason=reason)
    if as_json:
        echo(to_json(allowance_dict(revoked, datetime.now(UTC))))
        return
    used = _amount(revoked.held + revoked.spent, revoked.currency)
    echo(f"Allowance {revoked.id} is revoked; {used} of it had been used.")


@click.command("allowances", epilog=READING_EXIT_CODES)
@ledger_option
@json_option
def allowances_command(ledger: str, as_json: bool) -> None:
    """List allowances and requests for allowances.

    \b
    Example:
      kling-pricing budget allowances --ledger sqlite:///spend.db
    """
    with errors_shown(as_json=as_json):
        granted, asked = allowances(ledger), allowance_requests(ledger)
    now = datetime.now(UTC)
    if as_json:
        document = {
            "allowances": [allowance_dict(allowance, now) for allowance in granted],
            "requests": [request_dict(request) for request in asked],
        }
        echo(to_json(document))
        return
    waiting = [request for request in asked if request.state == "open"]
    declined = [(request, request.declined) for request in asked if request.declined is not None]
    console = wide_console()
    for allowance in granted:
        state = allowance.state(now)
        left = f"{format_decimal(allowance.available)} of {_amount(allowance.amount, allowance.currency)} left"
        heading = Text.assemble(
            printable(f"{allowance.id}  {allowance.project}: {left}, "), (state, _STYLES[state])
        )
        console.print(heading, soft_wrap=True)
        echo(f"  above {_above(allowance)} until {_minute(allowance.until)}{_for_key(allowance)}")
        echo(f"  granted by {allowance.actor}, {_minute(allowance.created_at)}: {allowance.reason}")
    if waiting:
        number = counted(len(waiting), "request")
        echo(f"{number} waiting; to grant one, run `kling-pricing budget allow --request ID`:")
    for request in waiting:
        echo(f"{request.id}  {request.project}: {_amount(request.amount, request.currency)}")
        echo(f"  above {_above(request)}{_for_key(request)}")
        echo(f"  asked by {request.actor}, {_minute(request.created_at)}: {request.reason}")
    if waiting:
        echo("To decline a request, run `kling-pricing budget decline ID`.")
    for request, by in declined:
        echo(f"{request.id}  {request.project}: {_amount(request.amount, request.currency)}, declined")
        echo(f"  asked by {request.actor}, {_minute(request.created_at)}: {request.reason}")
        echo(f"  declined by {by.actor}, {_minute(by.at)}: {by.reason}")
    if not granted and not waiting and not declined:
        echo("no allowances or requests for allowances")


def allowance_dict(allowance: Allowance, at: datetime) -> dict[str, Any]:
    """Returns an allowance as JSON-ready data, with its state at an instant."""
    amounts = {
        name: format_decimal(getattr(allowance, name)) for name in ("amount", "held", "spent", "available")
    }
    return (
        allowance._asdict()
        | amounts
        | {
            "state": allowance.state(at),
            "until": allowance.until.isoformat(),
            "created_at": allowance.created_at.isoformat(),
            "revoked_at": allowance.revoked_at and allowance.revoked_at.isoformat(),
        }
    )


def allowance_line(allowance: Allowance) -> str:
    """Returns an open allowance as a sentence."""
    left = _amount(allowance.available, allowance.currency)
    return (
        f"Allowance {allowance.id}: {allowance.project} may spend {left} more until {_minute(allowance.until)}"
    )


def request_dict(request: AllowanceRequest) -> dict[str, Any]:
    """Returns a filed request as JSON-ready data."""
    by = request.declined
    return request._asdict() | {
        "amount": format_decimal(request.amount),
        "created_at": request.created_at.isoformat(),
        "state": request.state,
        "declined": None if by is None else by._asdict() | {"at": by.at.isoformat()},
    }


def _amount(amount: Decimal, currency: str) -> str:
    return f"{format_decimal(amount)} {currency}"


def _above(item: Allowance | AllowanceRequest) -> str:
    return f"{'budget' if len(item.budgets) == 1 else 'budgets'} {', '.join(item.budgets)}"


def _for_key(item: Allowance | AllowanceRequest) -> str:
    return "" if item.key is None else f", for key {item.key} only"


def _minute(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"
