"""Real MCP clients for tests: over standard input and output, over HTTP, and within the process."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, NamedTuple, TypeVar

import httpx2
from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client

_Result = TypeVar("_Result")
PATIENCE_S = 30


class Called(NamedTuple):
    """The answer of a tool.

    Attributes:
        is_error: whether the tool refused.
        text: its sentences.
        data: the same facts as data.
    """

    is_error: bool
    text: str
    data: Any


class Agent:
    """An agent with a connection to the tools."""

    def __init__(self, client: Client) -> None:
        self.client = client

    async def call(self, name: str, **arguments: Any) -> Called:
        """Calls a tool."""
        result = await self.client.call_tool(name, arguments)
        texts = [getattr(part, "text", "") for part in result.content]
        return Called(result.is_error, texts[0], result.structured_content)

    async def tools(self) -> dict[str, Any]:
        """Returns the tools by name."""
        return {tool.name: tool for tool in (await self.client.list_tools()).tools}


@asynccontextmanager
async def over_stdio(ledger: str, *arguments: str) -> AsyncIterator[Agent]:
    """Starts `kling-pricing mcp` and connects to it."""
    words = ["-m", "kling_pricing", "mcp", "--ledger", ledger, *arguments]
    async with Client(StdioServerParameters(command=sys.executable, args=words)) as client:
        yield Agent(client)


@asynccontextmanager
async def over_http(url: str, key: str | None, *, mode: str = "auto") -> AsyncIterator[Agent]:
    """Connects to a server's `/mcp` with an access key; `legacy` is the protocol before 2026."""
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(httpx2.AsyncClient(headers=headers, timeout=PATIENCE_S))
        transport = streamable_http_client(f"{url}/mcp", http_client=http)
        yield Agent(await stack.enter_async_context(Client(transport, mode=mode)))


@asynccontextmanager
async def in_process(server: Any) -> AsyncIterator[Agent]:
    """Connects to the protocol's server in this process."""
    async with Client(server) as client:
        yield Agent(client)


def run(work: Callable[[], Awaitable[_Result]]) -> _Result:
    """Runs a coroutine to its end, within bounded time."""

    async def bounded() -> _Result:
        return await asyncio.wait_for(work(), 2 * PATIENCE_S)

    return asyncio.run(bounded())
