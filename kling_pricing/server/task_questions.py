"""Asks upstreams about unsettled tasks: paced, backed off, and by listing where an API lists its tasks."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import NamedTuple

import aiohttp

from kling_pricing.errors import KlingPricingError, LedgerUnavailableError, WireFormatError
from kling_pricing.guard.responses import read_answer
from kling_pricing.hooks.http_messages import TaskEndpoint
from kling_pricing.hooks.recovery import PollResult, poll
from kling_pricing.hooks.task_updates import observe_task_answer
from kling_pricing.ledger.model import Reservation
from kling_pricing.server.server_state import ServerState
from kling_pricing.server.upstreams import Upstream
from kling_pricing.wire.formats import wire_format as wire_format_named
from kling_pricing.wire.task import listed_tasks

_log = logging.getLogger("kling_pricing.server")

LONGEST_INTERVAL = timedelta(minutes=10)
"""The longest time between two questions about a task."""

_AGE_DIVISOR = 10
"""The older a job is, the less often the server asks: the interval is the age divided by this number."""

_QUESTIONS_PER_S = 5
"""The largest number of questions to one upstream in a second."""

_ANSWER_S = 15
"""The time limit for an answer. Two processes that ask about the same task do no harm."""

_UNNAMED = "the task's id is unknown, and the upstream does not send the reservation's id"

_LONGEST_PAUSE = timedelta(minutes=5)
_CHUNK_BYTES = 2**16
_OK = 200


class Pause(NamedTuple):
    """How long an upstream that fails is not asked.

    Attributes:
        until: the instant at which it is asked again, UTC.
        lasts: the length of the pause, which doubles with each failure.
    """

    until: datetime
    lasts: timedelta


class TaskQuestions:
    """The questions of the process that does the background work.

    The times of earlier questions are lost with the process. A successor then asks about every task once, at
    the same pace.

    Args:
        state: the state of the server.
        may_ask: returns whether this process still has the lease; called before each question.
    """

    def __init__(self, state: ServerState, may_ask: Callable[[], bool]) -> None:
        self._state = state
        self._may_ask = may_ask
        self._shortest = timedelta(seconds=state.settings.ask_after_s)
        self._asked: dict[str, datetime] = {}
        self._pauses: dict[str, Pause] = {}
        self._unlisted: set[tuple[str, str]] = set()

    async def round(self) -> None:
        """Asks about every task that is due, once. Upstreams are asked at the same time.

        Raises:
            LedgerUnavailableError: the ledger cannot be used.
        """
        unsettled = await self._state.run(lambda guard: guard.unsettled())
        now = self._state.guard.clock()
        known = {reservation.id for reservation in unsettled}
        self._asked = {name: at for name, at in self._asked.items() if name in known}
        due: dict[str, list[Reservation]] = defaultdict(list)
        for reservation in unsettled:
            upstream = upstream_of(self._state, reservation)
            if upstream is not None and self._is_due(reservation, now) and not self._is_paused(upstream, now):
                due[upstream.name].append(reservation)
        await asyncio.gather(*(self._ask_upstream(name, found) for name, found in due.items()))

    def _is_due(self, reservation: Reservation, now: datetime) -> bool:
        if reservation.task_id is None and not reservation.in_doubt:
            return False  # the response to its submission may still arrive
        sent_at = reservation.dispatched_at or reservation.created_at
        interval = min(max((now - sent_at) / _AGE_DIVISOR, self._shortest), LONGEST_INTERVAL)
        return now - self._asked.get(reservation.id, sent_at) >= interval

    def _is_paused(self, upstream: Upstream, now: datetime) -> bool:
        pause = self._pauses.get(upstream.name)
        return pause is not None and now < pause.until

    async def _ask_upstream(self, name: str, due: Sequence[Reservation]) -> None:
        """Asks one upstream about tasks. If it rejects the credential, it is left alone for a while."""
        upstream = self._state.upstreams[name]
        try:
            await self._ask_about(upstream, due)
        except LedgerUnavailableError:
            raise
        except KlingPricingError as error:  # the upstream rejects the credential, or its file is missing
            self._state.metrics.count_upstream_error(upstream.name, "status_401")
            self._pause(upstream, str(error), longest=True)

    async def _ask_about(self, upstream: Upstream, due: Sequence[Reservation]) -> None:
        """Asks about tasks: by listing as far as that saves questions, then one by one."""
        by_format: dict[str, list[Reservation]] = defaultdict(list)
        for reservation in due:
            by_format[reservation.wire_format].append(reservation)
        for wire_format, found in by_format.items():
            seen = await self._ask_lists(upstream, wire_format, len(found))
            self._asked |= {
                reservation.id: self._state.guard.clock()
                for reservation in found
                if {reservation.task_id, reservation.id} & seen
            }
            for reservation in found:
                if {reservation.task_id, reservation.id} & seen:
                    continue
                if not await asyncio.to_thread(self._may_ask) or not await self._ask_one(upstream, reservation):
                    return
                await asyncio.sleep(1 / _QUESTIONS_PER_S)

    async def _ask_lists(self, upstream: Upstream, wire_format: str, wanted: int) -> set[str | None]:
        """Asks for the lists of tasks if that takes fewer questions, and returns the ids that they name."""
        seen: set[str | None] = set()
        paths = [path for path in self._lists(wire_format) if (upstream.name, path) not in self._unlisted]
        if wanted <= len(paths):
            return seen
        for path in paths:
            if not await asyncio.to_thread(self._may_ask):
                break
            with suppress(OSError):
                status, body = await _get(self._state, upstream, upstream.url + path)
                named = _named(body, wire_format) if status == _OK else None
                if named is None:
                    self._unlisted.add((upstream.name, path))
                    continue
                self._state.metrics.count_poll(upstream.name, "listed")
                await self._observe_list(upstream, body)
                seen |= named
            await asyncio.sleep(1 / _QUESTIONS_PER_S)
        return seen

    def _lists(self, wire_format: str) -> Iterable[str]:
        """Returns the paths whose GET may list the tasks of a wire format."""
        matrix = self._state.book.matrices.get(wire_format)
        if matrix is None:
            return ()
        paths = (submission.path for submission in matrix.submissions if submission.status is not None)
        return [path for path in dict.fromkeys((*matrix.http.task_lists, *paths)) if "{" not in path]

    async def _observe_list(self, upstream: Upstream, body: bytes) -> None:
        endpoint = TaskEndpoint(upstream.provider, "")
        try:
            await self._state.finish(lambda guard: observe_task_answer(guard, endpoint, body))
        except LedgerUnavailableError:
            raise
        except KlingPricingError as error:
            _log.warning("a task in a list of %s cannot be recorded: %s", upstream.name, error)

    async def _ask_one(self, upstream: Upstream, reservation: Reservation) -> bool:
        """Asks about one task, and returns whether the upstream may be asked further."""
        self._asked[reservation.id] = self._state.guard.clock()
        result = await ask(self._state, upstream, reservation)
        self._state.metrics.count_poll(upstream.name, result.outcome)
        facts = {"reservation": reservation.id, "upstream": upstream.name, "outcome": result.outcome}
        _log.info("asked %s about a task: %s", upstream.name, result.outcome, extra={"facts": facts})
        if result.outcome == "unanswered":
            self._state.metrics.count_upstream_error(upstream.name, "other")
            self._pause(upstream, result.detail)
            return False
        self._pauses.pop(upstream.name, None)
        return True

    def _pause(self, upstream: Upstream, why: str, *, longest: bool = False) -> None:
        last = self._pauses.get(upstream.name)
        lasts = _LONGEST_PAUSE if longest else self._shortest if last is None else 2 * last.lasts
        pause = Pause(self._state.guard.clock() + min(lasts, _LONGEST_PAUSE), min(lasts, _LONGEST_PAUSE))
        self._pauses[upstream.name] = pause
        _log.warning("upstream %s is not asked about tasks until %s: %s", upstream.name, pause.until, why)


def upstream_of(state: ServerState, reservation: Reservation) -> Upstream | None:
    """Returns the account that has a reservation's task; None: the server does not know it.

    A reservation without a named account belongs to the only upstream of its provider.
    """
    found = [each for each in state.upstreams.values() if each.provider == reservation.provider]
    is_unnamed = reservation.account == reservation.provider
    if is_unnamed and len(found) == 1:
        return found[0]
    return next((each for each in found if each.name == reservation.account), None)


async def ask(state: ServerState, upstream: Upstream, reservation: Reservation) -> PollResult:
    """Asks an upstream about one task, and records the answer.

    If the upstream gets no ids of reservations, it cannot know the id of a reservation without a task. So the
    outcome is then `unaskable` and not `unknown`, which people might take for a sign that there is no task.

    Raises:
        LedgerUnavailableError: the ledger cannot be used.
        KlingPricingError: the upstream rejects the credential.
    """
    loop = asyncio.get_running_loop()

    def fetch(url: str) -> tuple[int, bytes]:
        return asyncio.run_coroutine_threadsafe(_get(state, upstream, url), loop).result()

    def polled() -> PollResult:
        return next(poll(state.guard, fetch, base_url=upstream.url, reservations=[reservation]))

    result = await asyncio.to_thread(polled)
    is_named = reservation.task_id is not None or upstream.settings.send_reservation_id
    return (
        result
        if is_named or result.outcome != "unknown"
        else result._replace(outcome="unaskable", detail=_UNNAMED)
    )


async def _get(state: ServerState, upstream: Upstream, url: str) -> tuple[int, bytes]:
    """Sends one question with the credential of the upstream. Follows no redirect to another place.

    Raises:
        OSError: there is no answer, or it is too large.
    """
    headers = {"accept": "application/json", "accept-encoding": "identity", **upstream.headers()}
    limit = state.settings.limits.answer_mb * 2**20
    try:
        async with state.session.get(
            url, headers=headers, allow_redirects=False, timeout=aiohttp.ClientTimeout(total=_ANSWER_S)
        ) as response:
            body = b""
            async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
                body += chunk
                if len(body) > limit:
                    raise OSError(f"the answer is larger than {limit} bytes")
            return response.status, body
    except (aiohttp.ClientError, TimeoutError) as error:
        raise OSError(type(error).__name__) from None


def _named(body: bytes, wire_format: str) -> set[str | None] | None:
    """Returns the ids of the tasks in an answer, and the callers' own ids; None: the answer is not a list."""
    read_task = wire_format_named(wire_format).read_task
    named: set[str | None] = set()
    try:
        listed = listed_tasks(read_answer(body))
    except WireFormatError:
        return None
    if listed is None:
        return None
    for item in listed:
        with suppress(WireFormatError):
            task = read_task(item)
            named |= {task.task_id, task.own_id}
    return named - {None}
