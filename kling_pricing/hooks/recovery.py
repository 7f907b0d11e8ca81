"""Polls the provider for the status of jobs that were sent but not settled, for example after a crash."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Literal, NamedTuple, TypeAlias
from urllib.parse import quote

from kling_pricing.errors import KlingPricingError, LedgerUnavailableError, WireFormatError
from kling_pricing.guard import BudgetGuard
from kling_pricing.hooks.task_updates import observe_answer
from kling_pricing.ledger.model import Reservation
from kling_pricing.windows import in_utc

Fetch: TypeAlias = Callable[[str], tuple[int, bytes]]
"""Sends a GET request with the caller's client and credentials, and returns the status and the body.

An `OSError` means that there was no response.
"""

_UNAUTHORIZED = {401, 403}


class PollResult(NamedTuple):
    """The result of polling one reservation.

    Attributes:
        reservation: the reservation after polling.
        outcome: `settled` or `released`; `running`: the job has not ended; `unclear`: it has ended, but its
            charge cannot be converted to the reservation's currency; `unknown`: the provider does not know the
            task, which does not prove that there is none; `unanswered`: there was no response, or it cannot be
            recorded; `unaskable`: the task's id is unknown, and the API cannot look up a task without it.
        detail: the reason as a sentence; may be empty.
    """

    reservation: Reservation
    outcome: Literal["settled", "released", "running", "unclear", "unknown", "unanswered", "unaskable"]
    detail: str = ""


def unsettled(
    guard: BudgetGuard,
    *,
    provider: str | None = None,
    account: str | None = None,
    since: datetime | None = None,
) -> list[Reservation]:
    """Returns the reservations that were sent and are neither settled nor released, the oldest first.

    Args:
        guard: the guard whose ledger is read.
        provider: returns only reservations for this provider; None: for all providers.
        account: returns only reservations of this account; None: of all accounts.
        since: returns only reservations made at or after this instant; None: all.
    """
    start = None if since is None else in_utc(since)
    return [
        reservation
        for reservation in guard.unsettled()
        if provider in {None, reservation.provider}
        and account in {None, reservation.account}
        and (start is None or reservation.created_at >= start)
    ]


def poll(
    guard: BudgetGuard,
    fetch: Fetch,
    *,
    base_url: str | None = None,
    reservations: Iterable[Reservation] | None = None,
) -> Iterator[PollResult]:
    """Requests the status of jobs, one after another, and settles or releases the jobs that have ended.

    Repeated polling counts no charge twice. Each response is recorded before the next request is sent, so you
    can stop at any time. A response that cannot be read or recorded does not end the polling.

    Args:
        guard: the guard that records the responses.
        fetch: sends a request; see `Fetch`. It is called only with URLs below `base_url`.
        base_url: the base URL of the provider's API, such as `https://gw.example.com/api`; None: the first host
            in the provider's price table.
        reservations: the reservations to poll; None: all `unsettled` ones.

    Raises:
        KlingPricingError: the provider rejects the credentials (401 or 403), or no host of it is known.
        LedgerUnavailableError: the ledger cannot be used.
    """
    for reservation in unsettled(guard) if reservations is None else reservations:
        yield _poll_one(guard, fetch, reservation, base_url)


def status_urls(guard: BudgetGuard, reservation: Reservation, base_url: str | None = None) -> list[str]:
    """Returns the URLs that may return a reservation's task; some APIs have one URL for each kind of task.

    The list is empty if the task's id is unknown and the API cannot look up a task by the reservation's id.

    Raises:
        KlingPricingError: `base_url` is not a URL, or it is missing and no host of the provider is known.
    """
    matrix = guard.book.matrices.get(reservation.wire_format)
    if matrix is None:
        return []
    if not (reservation.task_id or matrix.http.own_id_field):
        return []
    if base_url is not None and not base_url.startswith(("https://", "http://")):
        raise KlingPricingError("the base URL must be an http or https URL, such as https://gw.example.com/api")
    paths = dict.fromkeys(
        path
        for submission in matrix.submissions
        for path in (submission.status, *submission.other_status)
        if path is not None
    )
    root = (base_url or _root(guard, reservation.provider)).rstrip("/")
    if reservation.task_id is None and matrix.http.own_id_lookup is not None:
        return [root + matrix.http.own_id_lookup.replace("{own_id}", reservation.id)]
    name = quote(reservation.task_id or reservation.id, safe="")
    return [root + path.replace("{task_id}", name) for path in paths]


def _poll_one(guard: BudgetGuard, fetch: Fetch, reservation: Reservation, base_url: str | None) -> PollResult:
    urls = status_urls(guard, reservation, base_url)
    if not urls:
        return PollResult(
            reservation,
            "unaskable",
            "the task's id is unknown, and this API cannot look up a task by the reservation's id",
        )
    detail, unusable = "", False
    for url in urls:
        try:
            status, body = fetch(url)
        except OSError as error:
            return PollResult(reservation, "unanswered", str(error) or type(error).__name__)
        if status in _UNAUTHORIZED:
            raise KlingPricingError(
                f"{reservation.provider} returned HTTP {status} for a status request; check the credentials"
            )
        if status != 200:  # noqa: PLR2004 (only a response with this status describes a task)
            detail = f"HTTP {status}"
            if status >= 500 or status == 429:  # noqa: PLR2004 (a temporary failure says nothing about the task)
                return PollResult(reservation, "unanswered", detail)
            continue
        try:
            updated = observe_answer(guard, reservation, body)
        except LedgerUnavailableError:
            raise
        except KlingPricingError as error:  # only this response is affected, so polling goes on
            detail = str(error)
            unusable = unusable or not isinstance(error, WireFormatError)
            continue
        if updated is not None:
            if updated.in_doubt:
                return PollResult(updated, "unclear", updated.reason or "")
            return PollResult(updated, _OUTCOMES.get(updated.state, "running"))
    return PollResult(reservation, "unanswered" if unusable else "unknown", detail)


_OUTCOMES: dict[str, Literal["settled", "released"]] = {"settled": "settled", "released": "released"}


def _root(guard: BudgetGuard, provider: str) -> str:
    for table in reversed(guard.book.tables.get(provider, ())):
        if table.hosts:
            return f"https://{table.hosts[0]}"
    unpriced = guard.book.unpriced.get(provider)
    if unpriced is not None and unpriced.hosts:
        return f"https://{unpriced.hosts[0]}"
    raise KlingPricingError(f"no host is known for {provider}; give the base URL of its API")
