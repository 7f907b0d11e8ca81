"""`kling-pricing in-doubt`: lists jobs whose outcome is unknown, and asks the provider about them."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import HTTPRedirectHandler, Request, build_opener

import click

from kling_pricing.cli.exit_codes import exit_codes_help
from kling_pricing.cli.ledger_options import (
    json_option,
    ledger_option,
    opened_guard,
    read_account,
    reservation_dict,
    show_reservation,
    show_reservations,
)
from kling_pricing.cli.options import instant_option, known_provider, tables_option
from kling_pricing.cli.output import counted, echo, to_json
from kling_pricing.cli.wording import with_options
from kling_pricing.guard import BudgetGuard
from kling_pricing.hooks.recovery import Fetch, PollResult, poll, unsettled
from kling_pricing.tables.price_book import PriceBook

_TIMEOUT_S = 30
_CHANGED = {"settled", "released"}
_WORDS = {
    "running": "still running",
    "unclear": "finished with an unclear charge",
    "unknown": "unknown to the provider",
    "unanswered": "without a usable response",
    "unaskable": "impossible to look up",
}
"""Outcome of polling -> its description in text output."""


def _headers(_ctx: click.Context, _option: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    lines: list[str] = []
    for value in values:
        if value.startswith("@"):
            try:
                with click.open_file(value[1:], encoding="utf-8") as file:
                    lines += file.read().splitlines()
            except OSError as error:
                raise click.BadParameter(f"{value[1:]}: cannot be read: {error.strerror}") from None
            except UnicodeDecodeError:
                raise click.BadParameter(f"{value[1:]} is not UTF-8 text; save the file as UTF-8") from None
        else:
            lines.append(value)
    pairs = [line.partition(":") for line in lines if line.strip()]
    if any(not name.strip() or not colon for name, colon, _ in pairs):
        # the message does not repeat the value, which may be a key
        raise click.BadParameter("write 'Name: value', or @FILE to read such lines from a file")
    return {name.strip(): value.strip() for name, _, value in pairs}


def _base_url(_ctx: click.Context, _option: click.Parameter, value: str | None) -> str | None:
    if value is not None and not value.startswith(("https://", "http://")):
        raise click.BadParameter("write an http or https URL, such as https://gw.example.com/api")
    return value


@click.command(
    "in-doubt",
    epilog=exit_codes_help(
        refused="refused by the ledger",
        unreadable="bad usage, rejected credentials, or a ledger that cannot be used",
    ),
)
@click.option("--poll", "asks", is_flag=True, help="Ask the provider about every unsettled job first.")
@click.option(
    "--provider",
    callback=known_provider,
    help="Provider to ask. Required if several providers have unsettled jobs.",
)
@click.option(
    "--account",
    metavar="NAME",
    callback=read_account,
    help="Account at the provider to ask about. Required if several accounts have unsettled jobs.",
)
@click.option(
    "--header",
    "headers",
    multiple=True,
    callback=_headers,
    metavar="'NAME: VALUE'|@FILE",
    help=(
        "HTTP header to send, for example with your credentials. @FILE reads headers from a file, which "
        "keeps credentials out of the process list."
    ),
)
@click.option(
    "--base-url",
    metavar="URL",
    callback=_base_url,
    help="Base URL of the API. Default: the first host in the provider's price table.",
)
@instant_option("--since", "Ask only about reservations made at or after this time (ISO 8601).")
@tables_option
@ledger_option
@json_option
def in_doubt_command(
    asks: bool,
    provider: str | None,
    account: str | None,
    headers: dict[str, str],
    base_url: str | None,
    since: datetime | None,
    book: PriceBook,
    ledger: str,
    as_json: bool,
) -> None:
    """List the jobs whose outcome is unknown.

    A job is listed if it was sent but no response has identified its task, or if a response states a charge
    that cannot be converted to the reservation's currency. The money for these jobs stays reserved. With
    --poll, the command first asks the provider about every unsettled job and settles or releases the finished
    jobs. You can stop the command with Ctrl-C and run it again; no response is lost, and no charge is counted
    twice.

    \b
    Examples:
      kling-pricing in-doubt
      kling-pricing in-doubt --poll --header @credentials.txt
      kling-pricing in-doubt --poll --base-url https://gw.example.com

    Look up each remaining job at the provider, then run `bind` or `resolve` for that job. Below the list, the
    command prints the tasks that appear in responses but do not belong to any reservation. With --json, each
    line is one JSON object. An object with an "outcome" is the polling result for a job. An object with an
    "id" but no "outcome" describes a job in doubt.
    """
    with opened_guard(ledger, book=book, as_json=as_json) as guard:
        if asks:
            _ask(guard, _fetch_with(headers), provider, account, base_url, since, as_json=as_json)
        doubtful, unclaimed = guard.in_doubt(), guard.unclaimed()
    show_reservations(doubtful, as_json=as_json)
    for seen in unclaimed:
        fields = {"provider": seen.provider, "task_id": seen.task_id, "state": seen.state}
        task = f"task {seen.task_id} at {seen.provider} ({seen.state or 'state unknown'})"
        echo(to_json(fields) if as_json else f"{task} does not belong to a reservation")


def _ask(
    guard: BudgetGuard,
    fetch: Fetch,
    provider: str | None,
    account: str | None,
    base_url: str | None,
    since: datetime | None,
    *,
    as_json: bool,
) -> None:
    reservations = unsettled(guard, provider=provider, account=account, since=since)
    providers = sorted({reservation.provider for reservation in reservations})
    if len(providers) > 1:  # a provider must not receive the credentials for another provider
        raise click.UsageError(
            f"several providers have unsettled jobs; choose one with --provider {'|'.join(providers)}"
        )
    accounts = sorted({reservation.account for reservation in reservations})
    if len(accounts) > 1:  # the credentials of one account do not find the tasks of another
        raise click.UsageError(
            f"several accounts have unsettled jobs; choose one with --account {'|'.join(accounts)}"
        )
    outcomes: Counter[str] = Counter()
    try:
        with _bar(len(reservations)) as advance:
            for result in poll(guard, fetch, base_url=base_url, reservations=reservations):
                outcomes[result.outcome] += 1
                _show(result, as_json=as_json)
                advance()
    finally:
        if not as_json:
            counts = ", ".join(f"{count} {_WORDS.get(outcome, outcome)}" for outcome, count in outcomes.items())
            total = f"asked about {outcomes.total()} of {counted(len(reservations), 'job')}"
            echo(f"{total}: {counts}" if counts else total)


def _show(result: PollResult, *, as_json: bool) -> None:
    if as_json:
        fields = {"outcome": result.outcome, "detail": result.detail}
        echo(to_json(fields | reservation_dict(result.reservation)))
    elif result.outcome in _CHANGED:
        show_reservation(result.reservation, as_json=False)
    elif result.detail:
        words = _WORDS.get(result.outcome, result.outcome)
        echo(f"{result.reservation.id}: {words} ({with_options(result.detail)})", err=True)


@contextmanager
def _bar(total: int) -> Iterator[Any]:
    """Shows a progress bar on a terminal; yields a function to call once per reservation."""
    from rich.console import Console  # noqa: PLC0415 (slow to import)
    from rich.progress import MofNCompleteColumn, Progress  # noqa: PLC0415

    from kling_pricing.cli.terminal import bar_columns  # noqa: PLC0415 (imports rich)

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda: None
        return
    columns = (*bar_columns(), MofNCompleteColumn())
    with Progress(*columns, console=console, transient=True, redirect_stdout=sys.stdout.isatty()) as bar:
        task = bar.add_task("Asking the provider", total=total)
        yield lambda: bar.advance(task)


class _NoRedirects(HTTPRedirectHandler):
    """Does not follow redirects, so that credentials reach only the API to which they belong."""

    def redirect_request(self, *_args: Any) -> None:
        return None


def _fetch_with(headers: dict[str, str]) -> Fetch:
    opener = build_opener(_NoRedirects)

    def fetch(url: str) -> tuple[int, bytes]:
        request = Request(url, headers={"Accept": "application/json", **headers})  # noqa: S310 (`poll` builds only http URLs)
        try:
            with opener.open(request, timeout=_TIMEOUT_S) as answer:
                return answer.status, answer.read()
        except HTTPError as error:
            with error:
                return error.code, error.read()
        except URLError as error:
            reason = getattr(error.reason, "strerror", None) or error.reason
            raise OSError(f"the host cannot be reached: {reason}") from error
        except HTTPException as error:
            raise OSError("the host did not send a valid HTTP response") from error

    return fetch
