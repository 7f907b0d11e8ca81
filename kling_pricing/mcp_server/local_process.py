"""Serves the tools over standard input and output, to the program that started this process."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from kling_pricing.guard import BudgetGuard
from kling_pricing.mcp_server.protocol import protocol_server
from kling_pricing.mcp_server.tool_callers import LocalCaller, ToolCaller


def serve_locally(guard: BudgetGuard, project: str, labels: Mapping[str, str], *, may_spend: bool) -> None:
    """Serves until standard input ends.

    Args:
        guard: the guard.
        project: the project of everything that the agent does.
        labels: the labels of everything that the agent does.
        may_spend: whether to offer the tools that reserve money.
    """
    asyncio.run(_serve(LocalCaller(guard, project, labels, may_spend=may_spend)))


async def _serve(caller: LocalCaller) -> None:
    from mcp.server.stdio import stdio_server  # noqa: PLC0415 (imported with `protocol_server`)

    async def caller_of(_context: Any) -> ToolCaller:
        return caller

    server = protocol_server(caller.book, caller_of)
    try:
        async with stdio_server() as (reading, writing):
            await server.run(reading, writing, server.create_initialization_options())
    finally:
        await caller.close()
