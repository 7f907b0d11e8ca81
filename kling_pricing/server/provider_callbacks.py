"""Callbacks of providers: signed ones are recorded, and unsigned ones are only a reason to ask the provider."""

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
from kling_pricing.server.proxy.incoming import BodyError, CallerGoneError, IncomingBodies
from kling_pricing.server.server_state import ServerState
from kling_pricing.server.task_questions import ask
from kling_pricing.server.upstreams import Upstream
from kling_pricing.wire.formats import wire_format as wire_format_named
from kling_pricing.wire.task import Task, listed_tasks

_log = logging.getLogger("kling_pricing.server")

CALLBACK_PREFIX = "/callbacks/"

_INTERVAL_S = 10
"""The least time between two questions about one task."""

_MAX_TASKS_IN_BODY = 20
_MAX_REMEMBERED = 10_000
_MAX_BODY_MB = 1
"""The largest callback, in MiB. Anybody may send one."""

_NS = 10**9
_OPEN = {"dispatching", "bound"}


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

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        upstream = self._state.upstreams.get(scope["path"].removeprefix(CALLBACK_PREFIX))
        if upstream is None:
            await send_response(send, HTTPStatus.NOT_FOUND, [], b"unknown upstream")
            return
        if scope["method"] != "POST":
            await send_response(send, HTTPStatus.METHOD_NOT_ALLOWED, [("allow", "POST")], b"use POST")
            return
        try:
            headers = headers_of(scope)
            with self._bodies.counted() as parts:
                body = await self._bodies.read(receive, headers.get("content-length"), parts, _MAX_BODY_MB)
            if upstream.webhook_secret is None:
                await self._hinted(upstream, body)
            else:
                await self._state.finish(partial(self._received, upstream, body, headers))
            status, text = HTTPStatus.NO_CONTENT, b""
        except CallerGoneError:
            return
        except (WebhookError, BodyError) as error:
            status, text = HTTPStatus(error.status), str(error).encode()
        except KlingPricingError as error:  # the provider then sends the callback again
            _log.error("a callback of %s was not recorded: %s", upstream.name, error)
            status, text = HTTPStatus.SERVICE_UNAVAILABLE, b"the callback was not recorded; send it again"
        await send_response(send, status, [], text)

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


def _open_jobs(upstream: Upstream, body: bytes, guard: BudgetGuard) -> list[Reservation]:
    """Returns the jobs that a callback names and that are not settled or released."""
    try:
        answer = read_answer(body)
    except WireFormatError:
        return []
    found: dict[str, Reservation] = {}
    for item in (listed_tasks(answer) or [answer])[:_MAX_TASKS_IN_BODY]:
        for task in _tasks(item, guard.book.api_formats(upstream.provider)):
            reservation = named_by_own_id(guard.reservation, upstream.provider, task)
            if reservation is None and task.task_id:
                with suppress(ReservationNotFoundError):
                    reservation = guard.reservation((upstream.provider, task.task_id))
            if reservation is not None and reservation.state in _OPEN:
                found[reservation.id] = reservation
    return [*found.values()]


def _tasks(item: object, wire_formats: tuple[str, ...]) -> Iterator[Task]:
    for name in wire_formats:
        with suppress(WireFormatError):
            yield wire_format_named(name).read_task(item)  # type: ignore[arg-type]  # an item of a JSON object


def _reported(work: asyncio.Future[None]) -> None:
    if not work.cancelled() and (error := work.exception()) is not None:
        _log.warning("a question about a task failed: %s", error)
