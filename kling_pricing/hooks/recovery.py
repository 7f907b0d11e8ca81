"""Asking the provider about jobs that were sent and are not settled: after a crash or a lost callback, say."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Literal, NamedTuple, TypeAlias
from urllib.parse import quote

from kling_pricing.errors import KlingPricingError, ReservationStateError, WireFormatError
from kling_pricing.guard import BudgetGuard
from kling_pricing.hooks.task_updates import observe_answer
from kling_pricing.ledger.model import Reservation

Fetch: TypeAlias = Callable[[str], tuple[int, bytes]]
"""GETs a URL with the caller's own client and credentials: the status and the body. It may raise OSError."""

_UNAUTHORIZED = {401, 403}


class Looked(NamedTuple):
    """What asking about one reservation brought.

    Attributes:
        reservation: as it now stands.
        outcome: `settled` or `released` now; still `running`; `unknown` to the provider, which proves nothing;
            `unanswered`; or `unaskable`: without a task's id the API cannot be asked.
        detail: why, in words, where there is more to say.
    """

    reservation: Reservation
    outcome: Literal["settled", "released", "running", "unknown", "unanswered", "unaskable"]
    detail: str = ""


def unsettled(
    guard: BudgetGuard, *, provider: str | None = None, since: datetime | None = None
) -> list[Reservation]:
    """What was sent and is neither settled nor released, the oldest first.

    Args:
        guard: whose ledger is read.
        provider: only this one's.
        since: only reservations made from this instant on.
    """
    return [
        each
        for each in guard.history(since=since)
        if each.state in {"dispatching", "bound"} and provider in {None, each.provider}
    ]


def poll(
    guard: BudgetGuard,
    fetch: Fetch,
    *,
    base_url: str | None = None,
    reservations: Iterable[Reservation] | None = None,
) -> Iterator[Looked]:
    """Asks the provider about jobs, one after another, and settles or releases what has ended.

    Asking twice bills nothing twice. Each answer is noted before the next is asked for, so it can be stopped at
    any moment.

    Args:
        guard: notes the answers.
        fetch: asks; see `Fetch`. It is given URLs of `base_url` only.
        base_url: where the provider's API is, such as `https://gw.example.com/api`; by default the first host
            of its price table.
        reservations: which to ask about; by default all that are `unsettled`.

    Raises:
        KlingPricingError: the provider does not let us ask (401, 403), or where it is is not known.
        LedgerError: the ledger cannot be used.
    """
    for each in unsettled(guard) if reservations is None else reservations:
        yield _look(guard, fetch, each, base_url)


def status_urls(guard: BudgetGuard, reservation: Reservation, base_url: str | None = None) -> list[str]:
    """Where a reservation's task may be asked for; several where the API has one place for each kind of task.

    Empty: it has no task yet, and the API cannot be asked by the reservation's id.

    Raises:
        KlingPricingError: `base_url` is no URL, or is needed because no host of the provider is known.
    """
    matrix = guard.book.matrices.get(reservation.wire_format)
    if matrix is None:
        return []
    name = reservation.task_id or (matrix.http.own_id_field and reservation.id)
    if not name:
        return []
    if base_url is not None and not base_url.startswith(("https://", "http://")):
        raise KlingPricingError("base_url must be an http or https URL, such as https://gw.example.com/api")
    paths = dict.fromkeys(each.status for each in matrix.submissions if each.status is not None)
    root = (base_url or _root(guard, reservation.provider)).rstrip("/")
    return [root + path.replace("{task_id}", quote(name, safe="")) for path in paths]


def _look(guard: BudgetGuard, fetch: Fetch, reservation: Reservation, base_url: str | None) -> Looked:
    urls = status_urls(guard, reservation, base_url)
    if not urls:
        return Looked(reservation, "unaskable", "it has no task, and this API cannot be asked by its id")
    detail = ""
    for url in urls:
        try:
            status, body = fetch(url)
        except OSError as error:
            return Looked(reservation, "unanswered", str(error) or type(error).__name__)
        if status in _UNAUTHORIZED:
            raise KlingPricingError(
                f"{reservation.provider} answers {status} to a question about a task; check the credentials"
            )
        if status != 200:  # noqa: PLR2004 (what is said of a task comes with this alone)
            detail = f"HTTP {status}"
            if status >= 500 or status == 429:  # noqa: PLR2004 (not now, which says nothing of the task)
                return Looked(reservation, "unanswered", detail)
            continue
        try:
            found = observe_answer(guard, reservation, body)
        except (WireFormatError, ReservationStateError) as error:
            detail = str(error)
            continue
        if found is not None:
            return Looked(found, _OUTCOMES.get(found.state, "running"))
    return Looked(reservation, "unknown", detail)


_OUTCOMES: dict[str, Literal["settled", "released"]] = {"settled": "settled", "released": "released"}


def _root(guard: BudgetGuard, provider: str) -> str:
    for table in reversed(guard.book.tables.get(provider, ())):
        if table.hosts:
            return f"https://{table.hosts[0]}"
    raise KlingPricingError(f"no host of {provider} is known; say where its API is with base_url")
