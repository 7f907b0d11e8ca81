"""`kling-pricing in-doubt`: what may be running and nobody knows; and asking the provider about it."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError
from urllib.request import HTTPRedirectHandler, Request, build_opener

import click
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress

from kling_pricing.cli.ledger_options import (
    json_option,
    ledger_option,
    opened_guard,
    reservation_dict,
    show_reservation,
    show_reservations,
)
from kling_pricing.cli.options import instant_option, tables_option
from kling_pricing.cli.output import to_json
from kling_pricing.errors import KlingPricingError
from kling_pricing.guard import BudgetGuard
from kling_pricing.hooks.recovery import Fetch, PollResult, poll, unsettled
from kling_pricing.tables.price_table import PriceBook

_TIMEOUT_S = 30
_CHANGED = {"settled", "released"}


def _headers(_ctx: click.Context, _option: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    lines: list[str] = []
    for value in values:
        if value.startswith("@"):
            try:
                with click.open_file(value[1:], encoding="utf-8") as file:
                    lines += file.read().splitlines()
            except OSError as error:
                raise click.BadParameter(f"{value[1:]}: {error.strerror}") from None
            except UnicodeDecodeError:
                raise click.BadParameter(f"{value[1:]}: not UTF-8 text") from None
        else:
            lines.append(value)
    pairs = [line.partition(":") for line in lines if line.strip()]
    if any(not name.strip() or not colon for name, colon, _ in pairs):
        raise click.BadParameter("write 'Name: value', or @FILE with such lines")  # without it: it may be a key
    return {name.strip(): value.strip() for name, _, value in pairs}


@click.command("in-doubt")
@click.option("--poll", "asks", is_flag=True, help="First ask the provider about what is not settled yet.")
@click.option("--provider", help="Ask this one; needed where the ledger has several that are owed an answer.")
@click.option(
    "--header",
    "headers",
    multiple=True,
    callback=_headers,
    metavar="'NAME: VALUE'|@FILE",
    help="Sent with each question, such as your credentials; @FILE keeps them out of the list of processes.",
)
@click.option("--base-url", metavar="URL", help="Where the API is; by default the provider's first host.")
@instant_option("--since", "Ask only about what was reserved from this instant on.")
@tables_option
@ledger_option
@json_option
def in_doubt_command(
    asks: bool,
    provider: str | None,
    headers: dict[str, str],
    base_url: str | None,
    since: datetime | None,
    book: PriceBook,
    ledger: str,
    as_json: bool,
) -> None:
    """List what was sent, and nobody knows whether the provider has it; its money stays set aside.

    With --poll the provider is asked first about everything that was sent and is not settled, and what has
    ended is settled or released. Polling again, or stopping it with Ctrl-C, loses and bills nothing.

    \b
    kling-pricing in-doubt --poll --header @credentials.txt
    kling-pricing in-doubt --poll --header "Authorization: Bearer $KEY" --base-url https://gw.example.com

    Look what is left up at the provider, then `bind` or `resolve` it. Below stand answers about tasks that
    belong to no reservation. With --json, one object a line: those with an `outcome` tell what polling brought,
    the others with an id are in doubt.
    """
    with opened_guard(ledger, book=book, as_json=as_json) as guard:
        if asks:
            _ask(guard, _fetch_with(headers), provider, base_url, since, as_json=as_json)
        doubtful, unmatched = guard.in_doubt(), guard.unclaimed()
    show_reservations(doubtful, as_json=as_json)
    for seen in unmatched:
        told = {"provider": seen.provider, "task_id": seen.task_id, "state": seen.state}
        in_words = f"answered and not bound: task {seen.task_id} of {seen.provider} ({seen.state})"
        click.echo(to_json(told) if as_json else in_words)


def _ask(
    guard: BudgetGuard,
    fetch: Fetch,
    provider: str | None,
    base_url: str | None,
    since: datetime | None,
    *,
    as_json: bool,
) -> None:
    found = unsettled(guard, provider=provider, since=since)
    providers = sorted({each.provider for each in found})
    if len(providers) > 1:  # each has its own key, and no other is to see it
        raise KlingPricingError(
            f"several providers are to be asked; name one: --provider {'|'.join(providers)}"
        )
    counted: Counter[str] = Counter()
    try:
        with _bar(len(found)) as advance:
            for looked in poll(guard, fetch, base_url=base_url, reservations=found):
                counted[looked.outcome] += 1
                _show(looked, as_json=as_json)
                advance()
    finally:
        if not as_json:
            said = ", ".join(f"{count} {outcome}" for outcome, count in counted.items())
            click.echo(f"asked about {counted.total()} of {len(found)}" + (f": {said}" if said else ""))


def _show(looked: PollResult, *, as_json: bool) -> None:
    if as_json:
        told = {"outcome": looked.outcome, "detail": looked.detail}
        click.echo(to_json(told | reservation_dict(looked.reservation)))
    elif looked.outcome in _CHANGED:
        show_reservation(looked.reservation, as_json=False)
    elif looked.detail:
        click.echo(f"{looked.reservation.id}: {looked.outcome}, {looked.detail}", err=True)


@contextmanager
def _bar(total: int) -> Iterator[Any]:
    """A progress bar on a terminal; its advance, to be called once a reservation."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda: None
        return
    columns = (*Progress.get_default_columns(), MofNCompleteColumn())
    with Progress(*columns, console=console, transient=True, redirect_stdout=sys.stdout.isatty()) as bar:
        task = bar.add_task("asking", total=total)
        yield lambda: bar.advance(task)


class _NoRedirects(HTTPRedirectHandler):
    """Credentials go to the API that they are for, and nowhere else."""

    def redirect_request(self, *_args: Any) -> None:
        return None


def _fetch_with(headers: dict[str, str]) -> Fetch:
    opener = build_opener(_NoRedirects)

    def fetch(url: str) -> tuple[int, bytes]:
        request = Request(url, headers={"Accept": "application/json", **headers})  # noqa: S310 (`poll` makes http URLs only)
        try:
            with opener.open(request, timeout=_TIMEOUT_S) as answer:
                return answer.status, answer.read()
        except HTTPError as error:
            with error:
                return error.code, error.read()
        except HTTPException as error:
            raise OSError(f"no HTTP answer: {type(error).__name__}") from None

    return fetch
