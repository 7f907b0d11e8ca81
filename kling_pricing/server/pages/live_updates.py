"""Live updates: server-sent events that tell an open page to load itself again.

One task of the process looks for changes while there are streams, and no stream has a thread of its own. An
event says only that the page may have changed, so a page shows nothing that its person may not see.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from hashlib import sha256
from time import monotonic_ns

from kling_pricing.errors import KlingPricingError
from kling_pricing.server.access import Caller
from kling_pricing.server.api.dependencies import budgets_of
from kling_pricing.server.asgi_messages import Receive, Send
from kling_pricing.server.pages.sign_ins import SignedIn
from kling_pricing.server.server_state import ServerState

_log = logging.getLogger("kling_pricing.server")

_LOOK_EVERY_S = 2
_PERSON_CHECKED_EVERY_NS = 5 * 10**9
_BEAT_EVERY_NS = 15 * 10**9
"""How often a stream without news sends a comment, so that nothing on the way closes it."""

_NEWEST_JOBS = 100
_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-accel-buffering", b"no"),
]


class _Stream:
    """An open stream.

    Attributes:
        person: the person who opened it.
        still: returns whether the person is still signed in; it asks the ledger.
        news: set when there is something to send.
        has_ended: whether the person is not signed in any more.
        version: the version of the ledger that the page has shown; None: not known yet.
        checked_ns: when `still` was last asked, by the monotonic clock.
    """

    def __init__(self, person: SignedIn, still: Callable[[], bool]) -> None:
        self.person = person
        self.still = still
        self.news = asyncio.Event()
        self.has_ended = False
        self.version: str | None = None
        self.checked_ns = monotonic_ns()


class LiveUpdates:
    """The streams of one process.

    Args:
        state: the state of the server.
    """

    def __init__(self, state: ServerState) -> None:
        self._state = state
        self._streams: set[_Stream] = set()
        self._looking: asyncio.Task[None] | None = None

    @property
    def is_full(self) -> bool:
        """Whether no further stream may be opened."""
        return len(self._streams) >= self._state.settings.limits.live_streams or self._state.stopping.is_set()

    async def stream(self, person: SignedIn, still: Callable[[], bool], receive: Receive, send: Send) -> None:
        """Sends events until the browser disconnects, the person's session ends or the server stops.

        Args:
            person: the person.
            still: returns whether the person is still signed in; it runs in a thread.
            receive: receives the disconnection.
            send: sends the events.
        """
        stream = _Stream(person, still)
        self._streams.add(stream)
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look())
        gone = asyncio.create_task(_disconnected(receive))
        stopping = asyncio.create_task(self._state.stopping.wait())
        try:
            await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
            await send({"type": "http.response.body", "body": b": open\n\n", "more_body": True})
            while not (gone.done() or stopping.done()):
                news = asyncio.create_task(stream.news.wait())
                beat_s = _BEAT_EVERY_NS // 10**9
                await asyncio.wait({news, gone, stopping}, timeout=beat_s, return_when=asyncio.FIRST_COMPLETED)
                news.cancel()
                if gone.done() or stopping.done():
                    break
                if stream.has_ended:
                    await send({"type": "http.response.body", "body": _event("ended"), "more_body": True})
                    break
                body = _event("changed") if stream.news.is_set() else b": beat\n\n"
                stream.news.clear()
                await send({"type": "http.response.body", "body": body, "more_body": True})
            if not gone.done():
                await send({"type": "http.response.body", "body": b""})
        finally:
            gone.cancel()
            stopping.cancel()
            self._streams.discard(stream)

    async def _look(self) -> None:
        """Looks for changes until there is no stream any more."""
        while self._streams and not self._state.stopping.is_set():
            try:
                await self._look_once()
            except KlingPricingError:
                pass  # the page itself says that the ledger cannot be used
            except Exception:  # noqa: BLE001 (one failure must not end the updates of every page)
                _log.exception("the live updates of open pages failed; they continue")
            await asyncio.sleep(_LOOK_EVERY_S)

    async def _look_once(self) -> None:
        """Marks the streams that have news, and those whose person is not signed in any more."""
        await self._state.read_ledger(lambda _: self._check_people())
        for stream in self._streams:
            if stream.has_ended:
                stream.news.set()
        versions = await self._state.read_ledger(lambda _: self._versions())
        for stream in self._streams:
            version = versions.get(stream.person.caller.project or "", stream.version)
            if stream.version != version:  # also at first: the page is older than its stream
                stream.news.set()
            stream.version = version

    def _versions(self) -> dict[str, str]:
        """Returns a digest of what pages show, for each project that has a stream."""
        callers = {stream.person.caller.project or "": stream.person.caller for stream in [*self._streams]}
        return {project: self._version(caller) for project, caller in callers.items()}

    def _version(self, caller: Caller) -> str:
        guard = self._state.guard
        jobs = guard.history_page(project=caller.project, limit=_NEWEST_JOBS)
        own = budgets_of(self._state, caller)
        facts = [
            *((job.id, job.state, job.in_doubt, job.billed, job.task_id, job.reason) for job in jobs),
            *(
                tuple(bucket)
                for bucket in guard.status()
                if bucket.budget in own and caller.reaches(bucket.labels.get("project", caller.project or ""))
            ),
            *(tuple(freeze) for freeze in guard.freezes() if freeze.budget is None or freeze.budget in own),
            *(tuple(each) for each in guard.allowance_requests() if caller.reaches(each.project)),
            *(tuple(each) for each in guard.allowances() if caller.reaches(each.project)),
            *(self._state.runs.news() if caller.project is None else ()),
        ]
        return sha256(repr(facts).encode("utf-8", "surrogateescape")).hexdigest()

    def _check_people(self) -> None:
        """Ends the streams of people who are not signed in any more."""
        now_ns = monotonic_ns()
        for stream in [*self._streams]:
            if now_ns - stream.checked_ns >= _PERSON_CHECKED_EVERY_NS:
                stream.checked_ns = now_ns
                stream.has_ended = not stream.still()


def _event(name: str) -> bytes:
    return f"event: {name}\ndata: {name}\n\n".encode()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
