"""`kling-pricing reconcile`: compares a provider's statement with the ledger, and explains differences."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click
from rich.console import Console
from rich.progress import Progress, TaskID

from kling_pricing.cli.account_choice import chosen_provider
from kling_pricing.cli.exit_codes import DONE, REFUSED, UNREADABLE, exit_code, exit_codes_help
from kling_pricing.cli.failures import error_dict, errors_shown, fail
from kling_pricing.cli.ledger_options import show_alert
from kling_pricing.cli.options import refuse_without_folder
from kling_pricing.cli.output import echo, to_json
from kling_pricing.cli.period import chosen_period
from kling_pricing.cli.reconcile_options import reconcile_options
from kling_pricing.cli.reconcile_output import (
    as_dict,
    refused_count,
    replacement_text,
    sentences,
    tasks_as_dicts,
    totals_grid,
    unfinished_text,
)
from kling_pricing.cli.terminal import bar_columns, wide_console
from kling_pricing.errors import KlingPricingError
from kling_pricing.ledger.actions import author
from kling_pricing.reconcile import Invoice, Tolerance
from kling_pricing.reports import FORMATS, AccountsFile, Booking, ExchangeRates, Format, write_reports
from kling_pricing.reports.booked_journal import booked_journal
from kling_pricing.tables.price_book import PriceBook

if TYPE_CHECKING:
    from kling_pricing.reconcile.disputing import DisputeAlso
    from kling_pricing.reconcile.memory import Replacement
    from kling_pricing.reconcile.settle import SettleAlso


@click.command(
    "reconcile",
    epilog=exit_codes_help(
        "the totals tie out, and no action is needed",
        "there are exceptions, or the ledger refused to settle a reservation",
        "not reconciled (the statement is incomplete), or unreadable input",
    ),
)
@reconcile_options
def reconcile_command(
    ledgers: tuple[str, ...],
    statements: tuple[tuple[str | None, str], ...],
    provider: str | None,
    account: str | None,
    month: str | None,
    since: date | datetime | None,
    until: date | datetime | None,
    timezone: str,
    out: str | None,
    formats: tuple[Format, ...],
    no_bom: bool,
    accounts: AccountsFile | None,
    rates: ExchangeRates | None,
    mapping: str | None,
    encoding: str | None,
    account_currency: str | None,
    grace: timedelta,
    window: timedelta,
    tolerance: Decimal,
    batch_tolerance: Decimal,
    pairs: dict[str, str],
    invoice_total: Decimal | None,
    invoice_currency: str | None,
    invoice_id: str | None,
    max_unreadable: Decimal,
    settle: bool,
    also: tuple[SettleAlso, ...],
    despite_gaps: bool,
    remember: bool,
    replaces: str | None,
    dry_run: bool,
    is_confirmed: bool,
    dispute: bool,
    dispute_also: tuple[DisputeAlso, ...],
    reason: str | None,
    actor: str | None,
    memory_limit: str | None,
    book: PriceBook,
    as_json: bool,
) -> None:
    """Compare a provider's statement with the expected costs.

    The command compares the statement with the ledger, task by task, and puts every line of the comparison
    into one category. Each difference is explained to the last digit or marked as unexplained. The totals
    always tie out: the expected amounts plus the variances equal the billed amounts exactly. The ledger
    changes only with --remember, --settle or --dispute.

    \b
    Examples:
      kling-pricing reconcile --statement november.csv --provider qingbo \\
          --month 2026-11 --out reports/2026-11
      kling-pricing reconcile --statement qingbo=november.csv \\
          --statement kling=packs.json --month 2026-11
      kling-pricing reconcile --statement november.csv --account studio-a \\
          --month 2026-11
    """
    if (tolerance == 0) != (batch_tolerance == 0):
        raise click.UsageError(
            "--tolerance limits the unexplained amount of each line, and --batch-tolerance limits the total "
            "of these amounts; give both options"
        )
    if dispute and not reason:
        raise click.UsageError("--dispute needs a --reason; the books keep the reason")
    if dispute_also and not dispute:
        raise click.UsageError("--dispute-also needs --dispute")
    if also and not settle:
        raise click.UsageError("--settle-also needs --settle")
    if despite_gaps and not settle:
        raise click.UsageError("--settle-despite-gaps needs --settle")
    if (invoice_total is None) != (invoice_currency is None) or (invoice_id and invoice_total is None):
        raise click.UsageError("an invoice needs both --invoice-total and --invoice-currency")
    if provider is None and account is not None and not all(named for named, _ in statements):
        with errors_shown(as_json=as_json):
            provider = chosen_provider(ledgers, provider, account, book)
    files = _by_provider(statements, provider)
    if len(files) > 1:
        of_one = {
            "account": account,
            "mapping": mapping,
            "pair": pairs,
            "account-currency": account_currency,
            "invoice-total": invoice_total,
            "replaces": replaces,
        }
        if wrong := next((name for name, value in of_one.items() if value), None):
            raise click.UsageError(
                f"--{wrong} applies to a single provider; run the command for one provider at a time"
            )
    refuse_without_folder(out, format=formats, no_bom=no_bom or None, accounts=accounts, fx=rates)
    invoice = None
    if invoice_total is not None and invoice_currency is not None:
        invoice = Invoice(invoice_total, invoice_currency, invoice_id)
    actions = Actions(
        remember=remember or dispute or settle,
        settle=settle,
        also=also,
        despite_gaps=despite_gaps,
        dispute=dispute,
        dispute_also=dispute_also,
        dry_run=dry_run,
        is_confirmed=is_confirmed,
        actor=actor,
        reason=reason,
    )
    answers = []
    try:
        author(actor, reason)  # refuses a name or a reason that cannot be kept
        start, end = chosen_period(month, since, until, timezone, current=False)
        for name, paths in files.items():
            answer = _reconcile(
                actions,
                out=None if out is None else str(Path(out, name)) if len(files) > 1 else out,
                formats=formats or FORMATS,
                bom=not no_bom,
                booking=Booking(accounts or AccountsFile(), rates),
                title=name if len(files) > 1 else "",
                as_json=as_json,
                ledgers=ledgers,
                statements=paths,
                provider=name,
                account=account,
                since=start,
                until=end,
                mapping=mapping,
                encoding=encoding,
                account_currency=account_currency,
                grace=grace,
                tolerance=Tolerance(tolerance, batch_tolerance),
                pairs=pairs,
                window=window,
                book=book,
                memory_limit=memory_limit,
                replaces=replaces,
                invoice=invoice,
                max_unreadable_percent=max_unreadable,
            )
            answers.append(answer)
    except KlingPricingError as error:
        if as_json and answers:  # what was done for the earlier providers must not be lost
            echo(to_json({"reconciliations": answers} | error_dict(error)))
            sys.exit(exit_code(error))
        fail(error, as_json=as_json)
    if as_json:
        echo(to_json({"reconciliations": answers} if len(answers) > 1 else answers[0]))
    sys.exit(max(map(_exit_code, answers)))


def _by_provider(statements: tuple[tuple[str | None, str], ...], provider: str | None) -> dict[str, list[str]]:
    """Returns the files of each provider.

    Raises:
        click.UsageError: a file has no provider, or `--provider` has no file.
    """
    files: dict[str, list[str]] = {}
    for named, path in statements:
        name = named or provider
        if name is None:
            raise click.UsageError(
                f"the statement {path} needs its provider; give --provider, or write PROVIDER=FILE"
            )
        files.setdefault(name, []).append(path)
    if provider is not None and provider not in files:
        raise click.UsageError(f"there is no statement for --provider {provider}; omit the option")
    return files


def _exit_code(answer: dict[str, Any]) -> int:
    if answer["gaps"]:
        return UNREADABLE
    return REFUSED if answer["exceptions"] or refused_count(answer) else DONE


class Actions(NamedTuple):
    """What to do with a reconciliation.

    Attributes:
        remember: whether to add it to the books.
        settle: whether to settle its reservations.
        also: further categories to settle.
        despite_gaps: whether to settle although the period is not reconciled.
        dispute: whether to dispute charges that are too high.
        dispute_also: further categories to dispute.
        dry_run: whether to change nothing.
        is_confirmed: whether to replace a statement without asking.
        actor: the person who acts; None: the system's user.
        reason: the reason.
    """

    remember: bool
    settle: bool
    also: tuple[SettleAlso, ...]
    despite_gaps: bool
    dispute: bool
    dispute_also: tuple[DisputeAlso, ...]
    dry_run: bool
    is_confirmed: bool
    actor: str | None
    reason: str | None


def _reconcile(
    actions: Actions,
    *,
    out: str | None,
    formats: Sequence[Format],
    bom: bool,
    booking: Booking,
    title: str,
    as_json: bool,
    **arguments: Any,
) -> dict[str, Any]:
    """Reconciles the statements of one provider, acts, prints the result, and returns it as JSON-ready data."""
    from kling_pricing.reconcile import reconcile  # noqa: PLC0415 (an extra, and slow to import)

    actor, reason = actions.actor, actions.reason
    with _progress() as report, reconcile(**arguments, on_progress=report) as reconciled:
        remembered = disputed = settled = None
        plan = reconciled.replacement()
        if out is not None:
            booked_journal(reconciled, booking)  # a rate that is missing is an error before anything changes
        if actions.settle and not actions.dry_run and not actions.despite_gaps:
            reconciled.refuse_gaps()
        if actions.remember and not actions.dry_run:
            if plan is not None and not actions.is_confirmed:
                _confirm(plan)
            remembered = reconciled.remember(actor=actor, reason=reason)
            if actions.dispute and reason:
                disputed = reconciled.dispute(also=actions.dispute_also, actor=actor, reason=reason)
        files = {}
        if out is not None:
            manifest = write_reports(
                reconciled,
                out,
                formats=formats,
                book=arguments["book"],
                booking=booking,
                bom=bom,
                on_format=lambda name: report(f"writing {name}", 0, None),
            )
            files = dict(manifest.files)
        first = reconciled.first_to_settle(also=actions.also) if actions.settle else []
        if actions.settle and not actions.dry_run:
            settled = reconciled.settle(
                also=actions.also,
                despite_gaps=actions.despite_gaps,
                actor=actor,
                reason=reason,
                on_progress=report,
                on_alert=show_alert,
            )
        answer = as_dict(
            reconciled, files, plan=plan, remembered=remembered, disputed=disputed, settled=settled
        )
        if disputed is not None and not actions.dispute_also:
            answer["not_disputed"] = sum(line.is_exception for line in reconciled.lines("not_in_ledger"))
        if actions.dry_run:
            answer["to_settle"] = reconciled.to_settle(also=actions.also) if actions.settle else 0
            answer["first_to_settle"] = tasks_as_dicts(first)
        if settled is not None:
            answer["first_settled"] = tasks_as_dicts(
                task for task in first if task.reservation_id not in settled.refused
            )
        grid = totals_grid(reconciled)
    if not as_json:
        if title:
            echo(f"{title}:")
        if not reconciled.is_over:
            echo(unfinished_text(reconciled.until), err=True)
        if answer["totals"]:
            wide_console().print(grid)
        for line in sentences(answer, out):
            echo(line)
    return answer


def _confirm(plan: Replacement) -> None:
    """Shows what replacing a statement changes, and asks on a terminal whether to go on."""
    if sys.stdin.isatty() and sys.stderr.isatty():
        echo(replacement_text(plan), err=True)
        click.confirm("Replace the statement in the books?", abort=True, err=True)


@contextmanager
def _progress() -> Iterator[Any]:
    """Shows the progress on a terminal, with one bar per stage."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _stage, _done, _total: None
        return
    with Progress(*bar_columns(), console=console, transient=True, redirect_stdout=False) as bars:
        tasks: dict[str, TaskID] = {}

        def report(stage: str, done: int, total: int | None) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total)
            bars.update(tasks[stage], completed=done, total=total)

        yield report
