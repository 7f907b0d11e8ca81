"""The tools for agents at `/mcp`, for callers with an access key.

Every request stands alone: there are no sessions, so any process of the server can answer it, and a revoked key
ends at once. The library `mcp` is imported by the first request.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from kling_pricing.display import not_installed
from kling_pricing.errors import KlingPricingError
from kling_pricing.guard import BudgetForecast, BudgetGuard
from kling_pricing.ledger.freezing import Freeze
from kling_pricing.ledger.model import Reservation
from kling_pricing.server.access import Caller
from kling_pricing.server.api.dependencies import (
    asked_by_server,
    budgets_of,
    labels_of,
    may_state_outcome,
    project_of,
    require_own_task,
    reservation_of,
)
from kling_pricing.server.asgi_messages import Receive, Scope, Send, headers_of
from kling_pricing.server.problem_documents import plain_problem, problem_of, problem_response
from kling_pricing.server.proxy.incoming import BodyError, CallerGoneError, IncomingBodies
from kling_pricing.server.request_log import RequestLog
from kling_pricing.server.server_state import ServerState
from kling_pricing.tables.price_book import PriceBook

if TYPE_CHECKING:
    from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

_log = logging.getLogger("kling_pricing.server")

MCP_PATH = "/mcp"
"""The path of the tools."""

_MAX_BODY_MB = 16
"""The largest body of a request, in MiB. It is smaller than that of the API, because other requests wait while
`mcp` reads it.
"""

_MIB = 2**20
_NOT_ALLOWED, _NOT_FOUND, _GONE, _FAILED = 405, 404, 400, 500
_Result = TypeVar("_Result")


class _NotServedError(Exception):
    """The library that reads the protocol cannot be used."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(
            "the tools for agents cannot be served, because the library `mcp` has failed "
            f"({type(cause).__name__}); ask whoever runs the server to look at its log, and to install the "
            "extra `mcp` again"
        )


class _Route(NamedTuple):
    """The route of a request, for the log."""

    path: str


class KeyCaller:
    """The caller of a tool with an access key.

    Args:
        state: the state of the server.
        caller: the caller.
    """

    def __init__(self, state: ServerState, caller: Caller) -> None:
        self._state = state
        self._caller = caller

    @property
    def guard(self) -> BudgetGuard:
        """The guard of the server."""
        return self._state.guard

    @property
    def book(self) -> PriceBook:
        """The price tables of the server."""
        return self._state.book

    @property
    def may_spend(self) -> bool:
        """Whether the key has the role `submit`."""
        return self._caller.may("submit")

    def project(self, given: str | None) -> str:
        """Returns the project of the key, or the given one if the key is for all projects."""
        return project_of(self._caller, given)

    def labels(self, given: Mapping[str, str]) -> dict[str, str]:
        """Returns the given labels and those that the key fixes."""
        return labels_of(self._caller, given)

    def reservation(self, reservation_id: str) -> Reservation:
        """Returns a reservation that the key reaches."""
        return reservation_of(self._state, self._caller, reservation_id)

    def require_outcome_of(self, reservation: Reservation) -> None:
        """Refuses the outcome of a job about which the server asks the provider itself."""
        if not may_state_outcome(self._state, self._caller, reservation):
            raise asked_by_server(reservation)

    def require_task(self, reservation: Reservation, task_id: str) -> None:
        """Refuses a task of a reservation that the key does not reach."""
        require_own_task(self._state, self._caller, reservation, task_id)

    def sees_budget(self, forecast: BudgetForecast) -> bool:
        """Returns whether the key sees the balance of a budget."""
        bucket, own = forecast.bucket, self._caller.project
        return bucket.budget in budgets_of(self._state, self._caller) and self._caller.reaches(
            bucket.labels.get("project", own or "")
        )

    def sees_freeze(self, freeze: Freeze) -> bool:
        """Returns whether the key sees a freeze."""
        return freeze.budget is None or freeze.budget in budgets_of(self._state, self._caller)

    async def run(
        self, work: Callable[[], _Result], undo: Callable[[_Result], object] | None = None
    ) -> _Result:
        """Runs a blocking function in a thread of the server."""
        if undo is None:  # the prices can be read while the ledger has no budgets
            return await self._state.read_ledger(lambda _ledger: work())
        return await self._state.run(lambda _guard: work(), undo)


class _McpEndpoint:
    """Answers the messages of agents."""

    def __init__(self, state: ServerState) -> None:
        self._state = state
        self._bodies = IncomingBodies(state.settings.limits)
        self._serving: asyncio.Future[StreamableHTTPSessionManager] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        scope["route"] = _Route(MCP_PATH)
        headers = headers_of(scope)
        try:
            scope["state"]["caller"] = await self._state.caller(headers)
            manager = await self._manager()
        except KlingPricingError as error:
            await problem_response(problem_of(error))(scope, receive, send)
            return
        except ModuleNotFoundError as error:
            await problem_response(plain_problem(_NOT_FOUND, str(error)))(scope, receive, send)
            return
        except _NotServedError as error:
            await problem_response(plain_problem(_FAILED, str(error)))(scope, receive, send)
            return
        if scope["method"] != "POST":  # there is no stream of messages that no request has asked for
            answer = problem_response(
                plain_problem(_NOT_ALLOWED, "the path accepts POST only; see the header Allow")
            )
            answer.headers["allow"] = "POST"
            await answer(scope, receive, send)
            return
        with self._bodies.counted() as parts:
            try:
                body = await self._bodies.read(receive, headers.get("content-length"), parts, _MAX_BODY_MB)
            except BodyError as error:
                answer = problem_response(plain_problem(error.status, str(error)))
                answer.headers["connection"] = "close"
                await answer(scope, receive, send)
                return
            except CallerGoneError as error:
                await problem_response(plain_problem(_GONE, str(error)))(scope, receive, send)
                return
            await manager.handle_request(scope, _replayed(body, receive), send)

    async def _manager(self) -> StreamableHTTPSessionManager:
        """Returns what reads the protocol; the first call imports it."""
        if self._serving is None:
            self._serving = asyncio.get_running_loop().create_future()
            self._state.keep(asyncio.ensure_future(self._serve(self._serving)))
        return await asyncio.shield(self._serving)

    async def _serve(self, ready: asyncio.Future[StreamableHTTPSessionManager]) -> None:
        """Keeps the reader of the protocol open until the server stops, or says why it cannot be opened."""
        try:
            manager = await asyncio.to_thread(_new_manager, self._state)
            async with manager.run():
                ready.set_result(manager)
                await asyncio.get_running_loop().create_future()  # `stop` cancels it
        except ModuleNotFoundError as error:
            message = not_installed("this path", f"{error.name}", "mcp")
            _refuse_waiting(ready, ModuleNotFoundError(message, name=error.name))
        except Exception as error:  # noqa: BLE001 (whatever it is, no request may wait for ever)
            _log.exception("the tools for agents cannot be served")
            self._serving = None
            _refuse_waiting(ready, _NotServedError(error))


def _refuse_waiting(ready: asyncio.Future[StreamableHTTPSessionManager], error: Exception) -> None:
    """Gives an error to the requests that wait for the reader of the protocol."""
    if not ready.done():
        ready.set_exception(error)
        ready.exception()  # nobody may be waiting any more


def mcp_application(state: ServerState) -> RequestLog:
    """Returns the application at `MCP_PATH`, which logs and counts each request."""
    return RequestLog(_McpEndpoint(state), state.metrics)


def _new_manager(state: ServerState) -> StreamableHTTPSessionManager:
    from mcp.server.streamable_http_manager import StreamableHTTPSessionManager  # noqa: PLC0415 (an extra)

    from kling_pricing.mcp_server.protocol import protocol_server  # noqa: PLC0415 (an extra)

    async def caller_of(context: Any) -> KeyCaller:
        return KeyCaller(state, context.request.scope["state"]["caller"])

    return StreamableHTTPSessionManager(
        protocol_server(state.book, caller_of),
        json_response=True,
        stateless=True,
        max_request_body_size=_MAX_BODY_MB * _MIB,
    )


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Returns a function that receives a body that was read already, and then what comes after it."""
    messages: list[MutableMapping[str, Any]] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> MutableMapping[str, Any]:
        return messages.pop() if messages else await receive()

    return replay
