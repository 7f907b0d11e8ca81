"""The tools over the Model Context Protocol. The only module, with those that serve it, that needs `mcp`."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

from kling_pricing import __version__
from kling_pricing.display import not_installed
from kling_pricing.mcp_server.tool_callers import ToolCaller
from kling_pricing.mcp_server.tools import ToolDefinition, call_tool, instructions, offered
from kling_pricing.tables.price_book import PriceBook

try:
    from mcp.server.lowlevel import Server
    from mcp_types import (
        CallToolRequestParams,
        CallToolResult,
        ListToolsResult,
        PaginatedRequestParams,
        TextContent,
        Tool,
        ToolAnnotations,
    )
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError(
        not_installed("the MCP server", f"{missing.name}", "mcp"), name=missing.name
    ) from missing


def protocol_server(book: PriceBook, caller_of: Callable[[Any], Awaitable[ToolCaller]]) -> Server[Any]:
    """Returns a server that offers the tools.

    Args:
        book: the price tables, whose names its instructions list.
        caller_of: returns the caller of a message, from the context of the message.
    """

    async def list_tools(context: Any, _page: PaginatedRequestParams | None) -> ListToolsResult:
        caller = await caller_of(context)
        return ListToolsResult(tools=[_described(tool) for tool in offered(caller)])

    async def call(context: Any, call: CallToolRequestParams) -> CallToolResult:
        answer = await call_tool(await caller_of(context), call.name, call.arguments)
        data = dict(answer.data)
        content = [TextContent(type="text", text=answer.text)]
        if not answer.is_error:  # an agent may read only the text
            content.append(TextContent(type="text", text=json.dumps(data, ensure_ascii=False)))
        return CallToolResult(content=[*content], structured_content=data, is_error=answer.is_error)

    return Server(
        "kling-pricing",
        version=__version__,
        title="kling-pricing",
        instructions=instructions(book),
        on_list_tools=list_tools,
        on_call_tool=call,
    )


def _described(tool: ToolDefinition) -> Tool:
    return Tool(
        name=tool.name,
        title=tool.title,
        description=tool.description,
        input_schema=tool.arguments.model_json_schema(),
        annotations=ToolAnnotations(
            title=tool.title,
            read_only_hint=not tool.spends,
            destructive_hint=False,
            idempotent_hint=tool.is_repeatable,
            open_world_hint=False,
        ),
    )
