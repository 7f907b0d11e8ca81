"""The server as an ASGI application: sends each request to the part of the server that answers it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from kling_pricing.errors import KlingPricingError
from kling_pricing.server.api import api_application
from kling_pricing.server.asgi_messages import Receive, Scope, Send, refuse_framing, send_json
from kling_pricing.server.background import BACKGROUND_WORK
from kling_pricing.server.mcp_endpoint import MCP_PATH, mcp_application
from kling_pricing.server.pages import pages_application, serves
from kling_pricing.server.provider_callbacks import CallbackReceiver
from kling_pricing.server.proxy.passing import Proxy
from kling_pricing.server.proxy.targets import PREFIX
from kling_pricing.server.request_log import ProxyLog
from kling_pricing.server.server_state import ServerState
from kling_pricing.server.upstreams import CALLBACK_PREFIX

_log = logging.getLogger("kling_pricing.server")

_OK = 200


class ServerApplication:
    """Answers every request of the server.

    Args:
        state: the state of the process.
    """

    def __init__(self, state: ServerState) -> None:
        self.state = state
        self._api = api_application(state)
        self._pages = pages_application(state)
        self._proxy = ProxyLog(Proxy(state), state.metrics, state.upstreams)
        self._callbacks = CallbackReceiver(state)
        self._mcp = mcp_application(state)
        self._working: list[asyncio.Task[None]] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request, or handles the start and the end of the server."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        if scope["type"] != "http":
            return
        if await refuse_framing(scope, send):
            return
        if scope["path"] == "/healthz":
            await send_json(send, _OK, {"status": "ok"})
            return
        if scope["path"].startswith(PREFIX):
            await self._proxy(scope, receive, send)
            return
        if scope["path"].startswith(CALLBACK_PREFIX):
            await self._callbacks(scope, receive, send)
            return
        if scope["path"] == MCP_PATH:
            await self._mcp(scope, receive, send)
            return
        if serves(scope["path"]):
            await self._pages(scope, receive, send)
            return
        await self._api(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                try:
                    await self.state.start()
                except KlingPricingError as error:
                    await send({"type": "lifespan.startup.failed", "message": str(error)})
                    return
                self._working = [asyncio.create_task(_run(work, self.state)) for work in BACKGROUND_WORK]
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                for task in self._working:
                    task.cancel()
                await asyncio.gather(*self._working, return_exceptions=True)
                await self.state.stop()
                await send({"type": "lifespan.shutdown.complete"})
                return


async def _run(work: Callable[[ServerState], Awaitable[None]], state: ServerState) -> None:
    try:
        await work(state)
    except Exception:
        _log.exception("the background work ended with an error; restart the server")
        raise
