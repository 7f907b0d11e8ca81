"""`kling-pricing verify`: checks a ledger, with its progress."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from kling_pricing.cli.exit_codes import REFUSED, exit_codes_help
from kling_pricing.cli.ledger_options import ledger_option, opened_guard
from kling_pricing.cli.output import echo
from kling_pricing.errors import KlingPricingError, LedgerError
from kling_pricing.ledger.verification import OnProgress, Verification, ignore_progress

if TYPE_CHECKING:
    from kling_pricing.reconcile import MonthBooks


@click.command(
    "verify",
    epilog=exit_codes_help(
        "the balances match the journal",
        "a balance, an entry or a closed month is wrong; stop spending",
        "bad usage, or a ledger that cannot be used",
    ),
)
@click.option(
    "--since-last",
    is_flag=True,
    help="Read only the entries after the last verification; earlier entries and rows count as correct.",
)
@ledger_option
def verify_command(since_last: bool, ledger: str) -> None:
    """Verify that the balances match the journal.

    The command recomputes every balance from the journal, which records every change to an amount. It also
    checks all other columns that affect money; in a SQLite ledger, it checks the indexes too. It
    computes the journals of closed months again, and compares them with the journals that were closed. Guards
    can continue while the command runs.

    The ledger remembers a verification that finds no difference. --since-last continues from there. Use it for
    frequent checks, but also run the command without it regularly, because only a full verification finds
    damage to older rows.

    \b
    Examples:
      kling-pricing verify --ledger sqlite:///spend.db
      kling-pricing verify --since-last --ledger sqlite:///spend.db
    """
    with opened_guard(ledger) as guard, _progress() as report:
        verification = guard.verify(since_last=since_last, remember=True, on_progress=report)
        changed = [] if since_last else _changed_months(ledger)
    if changed:
        names = ", ".join(f"{month.month} of {month.closed.books}" for month in changed)
        echo(
            f"the balances match the journal, but the journal of a closed month has changed: {names}; "
            "find out why before you report these months again",
            err=True,
        )
        sys.exit(REFUSED)
    echo(f"OK: the balances match the journal{_entries(verification)}")
    if not verification.is_remembered:
        echo(
            "this verification was not recorded: this role does not own the ledger, or a transaction of "
            "another session is still open",
            err=True,
        )


def _changed_months(ledger: str) -> list[MonthBooks]:
    """Returns the closed months whose journals have changed; says so if they cannot be computed."""
    from kling_pricing.quoting.intake import default_book  # noqa: PLC0415 (reads the price tables)
    from kling_pricing.reconcile import changed_months  # noqa: PLC0415 (slow to import)

    book = default_book()
    try:
        return changed_months(ledger, (*book.tables, *book.unpriced))
    except LedgerError:
        raise
    except KlingPricingError as error:
        echo(f"the journals of closed months were not checked: {error}", err=True)
        return []


def _entries(verification: Verification) -> str:
    """Describes the entries that were read, unless all were read."""
    first, last, at, _ = verification
    if at is None:
        return ""
    read = "no new entries" if last < first else f"entries {first} to {last}"
    return f" ({read}; the last full verification was at {at:%Y-%m-%d %H:%M} UTC)"


@contextmanager
def _progress() -> Iterator[OnProgress]:
    """Shows the progress on a terminal."""
    if not sys.stderr.isatty():
        yield ignore_progress
        return
    from rich.console import Console  # noqa: PLC0415 (slow to import)
    from rich.progress import Progress  # noqa: PLC0415

    from kling_pricing.cli.terminal import bar_columns  # noqa: PLC0415 (imports rich)

    console = Console(stderr=True)
    with Progress(*bar_columns(), console=console, transient=True, redirect_stdout=False) as bars:
        bar = bars.add_task("Verifying", total=None)

        def report(_stage: str, done: int, total: int) -> None:
            bars.update(bar, completed=done, total=total)

        yield report
