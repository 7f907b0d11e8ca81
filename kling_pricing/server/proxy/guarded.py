"""One upstream with its guard: the hook that decides, and what the callers of one project reach."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from kling_pricing.errors import IdempotencyError, WireFormatError
from kling_pricing.guard import BudgetGuard
from kling_pricing.hooks.bodies import read_body
from kling_pricing.hooks.hook import Hook
from kling_pricing.hooks.http_messages import OutgoingRequest
from kling_pricing.hooks.resend import is_same_request
from kling_pricing.hooks.routes import Routes
from kling_pricing.ledger.access_keys import ACCESS_KEY_LABEL
from kling_pricing.ledger.model import Reservation
from kling_pricing.server.access import Caller
from kling_pricing.server.proxy.isolation import Isolation
from kling_pricing.server.proxy.unfinished_tasks import UnfinishedTasks
from kling_pricing.server.upstreams import Upstream
from kling_pricing.tables.http_rules import HttpRules
from kling_pricing.tables.price_book import PriceBook

RETRY_COUNT = "x-stainless-retry-count"
"""The header in which SDKs count how often they have sent a request before."""

_RETRY_WINDOW = timedelta(minutes=10)
_PAGE = 500


class GuardedUpstream:
    """The guard of one upstream.

    Args:
        upstream: the upstream.
        guard: the guard.

    Attributes:
        upstream: the upstream.
        guard: the guard.
        hook: decides about its requests.
        routes: classifies its requests.
        isolation: what the callers of one project reach.
        unfinished: the answers that need not be recorded again.
    """

    def __init__(self, upstream: Upstream, guard: BudgetGuard) -> None:
        self.upstream = upstream
        self.guard = guard
        settings = upstream.settings
        is_own = guard.book.hosts.get(upstream.host) == upstream.provider
        hosts = {} if is_own else {upstream.host: upstream.provider}
        self.hook = Hook(
            guard,
            upstream.seal if settings.callbacks == "relay" else None,
            hosts=hosts,
            account=upstream.name,
            keeps_keys=settings.keeps_keys,
            sends_once=True,
            refusals="respond",
            send_reservation_id=settings.send_reservation_id,
            allow_paths=settings.allow_paths,
        )
        self.routes = Routes(guard.book, hosts, settings.allow_paths)
        self.unfinished = UnfinishedTasks(guard.book.api_formats(upstream.provider))
        self.isolation = Isolation(guard.book, upstream.provider, upstream.name, settings.open_paths)

    def earlier_key(self, request: OutgoingRequest, caller: Caller, project: str) -> str | None:
        """Returns the key of the job that an SDK sends again without a key; None: it is a new job.

        It is the only job for the same request that this access key has sent in the last ten minutes.

        Raises:
            IdempotencyError: there are several such jobs.
            WireFormatError: the body cannot be read.
        """
        payload = read_body(request.body, request.headers).payload
        keys = {
            reservation.key
            for reservation in self._newest(project, self.guard.clock() - _RETRY_WINDOW)
            if reservation.labels.get(ACCESS_KEY_LABEL) == caller.name
            and reservation.provider == self.upstream.provider
            and reservation.dispatched_at is not None
            and reservation.state != "released"
            and _is_for(reservation, payload)
        }
        if len(keys) > 1:
            raise IdempotencyError(
                f"{RETRY_COUNT} marks this request as a retry, but {len(keys)} jobs for the same request were "
                "sent in the last 10 minutes; send each job with a key of its own in the header Idempotency-Key"
            )
        return next(iter(keys), None)

    def _newest(self, project: str, since: datetime) -> Iterator[Reservation]:
        """Yields the reservations of a project that were made since an instant, the newest first."""
        after: str | None = None
        while True:
            page = self.guard.history_page(project=project, after=after, limit=_PAGE)
            yield from (reservation for reservation in page if reservation.created_at >= since)
            if len(page) < _PAGE or page[-1].created_at < since:
                return
            after = page[-1].id


def _is_for(reservation: Reservation, payload: Mapping[str, Any]) -> bool:
    try:
        return is_same_request(reservation, payload)
    except WireFormatError:
        return False


def rules_of(book: PriceBook, provider: str, wire_format: str = "") -> HttpRules:
    """Returns the rules of a wire format, or those of the provider's first format if it is empty."""
    names = [wire_format] if wire_format else [*book.api_formats(provider)][:1]
    matrix = book.matrices.get(names[0]) if names else None
    return HttpRules() if matrix is None else matrix.http


def changes_text(changes: Mapping[str, Any]) -> str:
    """Returns the changes of a request for a header."""
    return ", ".join(f"{name}={_plain(value)}" for name, value in changes.items())


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)
