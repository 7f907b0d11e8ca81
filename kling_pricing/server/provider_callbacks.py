"""Callbacks of providers: signed ones are recorded, and unsigned ones are only a reason to ask the provider.

A callback to a sealed URL is also sent on to the caller's URL inside it. The provider gets a 2xx only after the
caller's server has accepted the callback; otherwise it sends the callback again. So no queue is needed, and
nothing is lost when the server stops.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from typing import Any

from kling_pricing.errors import (
    KlingPricingError,
    ReservationNotFoundError,
    WebhookError,
    WireFormatError,
)
from kling_pricing.guard import BudgetGuard
from kling_pricing.guard.references import named_by_own_id
from kling_pricing.guard.responses import read_answer
from kling_pricing.ledger.model import Reservation
from kling_pricing.server.asgi_messages import Receive, Scope, Send, headers_of, send_response
from kling_pricing.server.callback_relay import CallbackRelay, RelayError
from kling_pricing.server.pace import Pace
from kling_pricing.server.proxy.header_rules import relayed_headers
from kling_pricing.server.proxy.incoming import BodyError, CallerGoneError, IncomingBodies
from kling_pricing.server.sealed_callbacks import SealedCallback
from kling_pricing.server.server_state import ServerState
from kling_pricing.server.task_questions import ask
from kling_pricing.server.upstreams import CALLBACK_PREFIX, Upstream
from kling_pricing.wire.formats import wire_format as wire_format_named
from kling_pricing.wire.task import Task, listed_tasks

_log = logging.getLogger("kling_pricing.server")

_INTERVAL_S = 10
"""The least time between two questions about one task."""

_MAX_TASKS_IN_BODY = 20
_MAX_REMEMBERED = 10_000
_MAX_BODY_MB = 1
"""The largest callback, in MiB. Anybody may send one."""

_NS = 10**9
_OPEN = {"dispatching", "bound"}
_TOO_MANY = HTTPStatus.TOO_MANY_REQUESTS


class CallbackReceiver:
    """Answers the requests below `/callbacks/`.

    Args:
        state: the state of the server.
    """

    def __init__(self, state: ServerState) -> None:
        self._state = state
        self._bodies = IncomingBodies(state.settings.limits)
        self._webhooks: dict[tuple[str, str], Any] = {}
        self._asked: OrderedDict[str, int] = OrderedDict()
        self._asking: set[str] = set()
        per_s = state.settings.limits.callbacks_per_s
        self._paces = {name: Pace(per_s) for name in state.upstreams}
        self._relay = CallbackRelay(state.settings.callback_networks, state.settings.limits.callback_timeout_s)
        self._relayed: OrderedDict[str, None] = OrderedDict()
        self._relaying: set[str] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        name, _, token = scope["path"].removeprefix(CALLBACK_PREFIX).partition("/")
        upstream = self._state.upstreams.get(name)
        if upstream is None:
            await send_response(send, HTTPStatus.NOT_FOUND, [], b"unknown upstream")
            return
        status, text = await self._answer(upstream, token, scope, receive)
        if status is not None:
            self._state.metrics.count_callback(name, status)
            headers = {HTTPStatus.METHOD_NOT_ALLOWED: [("allow", "POST")], _TOO_MANY: [("retry-after", "1")]}
            await send_response(send, status, headers.get(status, []), text.encode())

    async def _answer(
        self, upstream: Upstream, token: str, scope: Scope, receive: Receive
    ) -> tuple[HTTPStatus | None, str]:
        """Returns the status and the text of the response; no status: the sender has disconnected."""
        if scope["method"] != "POST":
            return HTTPStatus.METHOD_NOT_ALLOWED, "use POST"
        try:
            sealed = upstream.seal.opened(token) if token and upstream.seal is not None else None
            if token and sealed is None:
                return HTTPStatus.NOT_FOUND, "unknown URL"
            if sealed is None and not self._paces[upstream.name].allows():
                return _TOO_MANY, "too many callbacks; send it again later"
            headers = headers_of(scope)
            with self._bodies.counted() as parts:
                body = await self._bodies.read(receive, headers.get("content-length"), parts, _MAX_BODY_MB)
            await self._record(upstream, body, headers, is_relayed=sealed is not None)
            if sealed is not None:
                await self._send_on(upstream, sealed, body, scope, headers.get("webhook-id"))
        except CallerGoneError:
            return None, ""
        except RelayError as error:
            _log.warning("a callback from %s was not passed on: %s", upstream.name, error)
            return HTTPStatus.BAD_GATEWAY, f"{error}; send the callback again"
        except (WebhookError, BodyError) as error:
            return HTTPStatus(error.status), str(error)
        except KlingPricingError as error:  # the provider then sends the callback again
            _log.error("a callback from %s was not recorded: %s", upstream.name, error)
            return HTTPStatus.SERVICE_UNAVAILABLE, "the callback was not recorded; send it again"
        return HTTPStatus.NO_CONTENT, ""

    async def _record(
        self, upstream: Upstream, body: bytes, headers: dict[str, str], *, is_relayed: bool
    ) -> None:
        """Records a signed callback, and takes an unsigned one as a reason to ask the provider.

        Raises:
            WebhookError: the signature is wrong, or the body cannot be read.
            LedgerError: the ledger cannot be used.
        """
        if upstream.webhook_secret is None:
            await self._hinted(upstream, body)
            return
        try:
            await self._state.finish(partial(self._received, upstream, body, headers))
        except WebhookError as error:
            is_repeated = error.status == HTTPStatus.OK
            if not (is_repeated and is_relayed):  # it was recorded, but has perhaps not reached its caller
                raise

    async def _send_on(
        self, upstream: Upstream, sealed: SealedCallback, body: bytes, scope: Scope, message_id: str | None
    ) -> None:
        """Sends a callback on to the caller; a signed one once, as far as this process knows.

        Raises:
            RelayError: the caller's server has not accepted it.
            WebhookError: the callback is about another job, or may not be sent to its URL any more.
            LedgerError: the ledger cannot be read.
        """
        once = None if upstream.webhook_secret is None else f"{upstream.name} {message_id}"
        if once in self._relayed:
            return
        if once in self._relaying:
            raise RelayError("the same callback is being sent on")
        if not await self._state.run(partial(_is_about, upstream, sealed.reservation_id, body)):
            raise WebhookError("the callback is not about the job of this URL", status=HTTPStatus.NOT_FOUND)
        if upstream.seal is not None:
            try:
                upstream.seal.check(sealed.url)
            except KlingPricingError:
                message = "callbacks to this URL are not sent on any more"
                raise WebhookError(message, status=HTTPStatus.GONE) from None
        if once is not None:
            self._relaying.add(once)
        try:
            await self._relay.send(sealed.url, body, relayed_headers(scope["headers"]))
        finally:
            self._relaying.discard(once or "")
        if once is not None:
            self._relayed[once] = None
            if len(self._relayed) > _MAX_REMEMBERED:
                self._relayed.popitem(last=False)
        facts = {"upstream": upstream.name, "reservation": sealed.reservation_id}
        _log.info("passed on a callback from %s", upstream.name, extra={"facts": facts})

    def _received(self, upstream: Upstream, body: bytes, headers: dict[str, str], guard: BudgetGuard) -> None:
        """Verifies a signed callback and records it, once per id."""
        from kling_pricing.hooks.webhooks import Webhooks  # noqa: PLC0415 (needs another extra)

        if upstream.webhook_secret is None:
            return
        key = upstream.name, upstream.webhook_secret.text()  # a secret that is replaced is another key
        if key not in self._webhooks:
            self._webhooks.setdefault(key, Webhooks(guard, key[1], provider=upstream.provider))
        self._webhooks[key].receive(body, headers)

    async def _hinted(self, upstream: Upstream, body: bytes) -> None:
        """Asks the provider about the open jobs that an unsigned callback names.

        Raises:
            LedgerError: the ledger cannot be read.
        """
        for reservation in await self._state.run(partial(_open_jobs, upstream, body)):
            if reservation.id in self._asking:
                continue  # the question that waits for its turn answers this callback, too
            self._asking.add(reservation.id)
            work = asyncio.ensure_future(self._ask(upstream, reservation))
            work.add_done_callback(_reported)
            self._state.keep(work)

    async def _ask(self, upstream: Upstream, reservation: Reservation) -> None:
        """Asks about one job, not earlier than some seconds after the last question about it."""
        try:
            now = time.monotonic_ns()
            last = self._asked.get(reservation.id)
            if last is not None and now - last < _INTERVAL_S * _NS:
                await asyncio.sleep((_INTERVAL_S * _NS - (now - last)) / _NS)
        finally:
            self._asking.discard(reservation.id)
        self._asked[reservation.id] = time.monotonic_ns()
        self._asked.move_to_end(reservation.id)
        if len(self._asked) > _MAX_REMEMBERED:
            self._asked.popitem(last=False)
        result = await ask(self._state, upstream, reservation)
        _log.info("asked %s because of a callback: %s", upstream.name, result.outcome)


def _is_about(upstream: Upstream, reservation_id: str, body: bytes, guard: BudgetGuard) -> bool:
    """Returns whether a callback is about the job of a reservation.

    The first callback may arrive before the response to the submission has named the task.
    """
    try:
        reservation = guard.reservation(reservation_id)
    except ReservationNotFoundError:
        return False
    if (reservation.provider, reservation.account) != (upstream.provider, upstream.name):
        return False
    if reservation.task_id is None:
        return reservation.state == "dispatching"
    return reservation.task_id in {task.task_id for task in _named(upstream, body, guard)}


def _open_jobs(upstream: Upstream, body: bytes, guard: BudgetGuard) -> list[Reservation]:
    """Returns the jobs that a callback names and that are not settled or released."""
    found: dict[str, Reservation] = {}
    for task in _named(upstream, body, guard):
        reservation = named_by_own_id(guard.reservation, upstream.provider, task)
        if reservation is None and task.task_id:
            with suppress(ReservationNotFoundError):
                reservation = guard.reservation((upstream.provider, task.task_id))
        if reservation is not None and reservation.state in _OPEN:
            found[reservation.id] = reservation
    return [*found.values()]


def _named(upstream: Upstream, body: bytes, guard: BudgetGuard) -> Iterator[Task]:
    """Yields the tasks in a callback, as each wire format of the provider reads them."""
    try:
        answer = read_answer(body)
    except WireFormatError:
        return
    for item in (listed_tasks(answer) or [answer])[:_MAX_TASKS_IN_BODY]:
        for name in guard.book.api_formats(upstream.provider):
            with suppress(WireFormatError):
                yield wire_format_named(name).read_task(item)


def _reported(work: asyncio.Future[None]) -> None:
    if not work.cancelled() and (error := work.exception()) is not None:
        _log.warning("a question about a task failed: %s", error)
