"""The MCP endpoint of an API: JSON-RPC messages that call tools to submit, query and cancel tasks."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from kling_pricing.sandbox.call_outcomes import Poll
from kling_pricing.sandbox.exchange import Call, DeclinedError, Reply, to_json
from kling_pricing.sandbox.payloads import json_object
from kling_pricing.tables.http_rules import McpRules

Handle = Callable[[Call], tuple[Reply, str]]
"""Answers a request to the API; returns the response, and whether it is `sent`, `lost` or `held`."""

_PROTOCOL = "2025-06-18"
_INVALID_REQUEST, _UNKNOWN_METHOD, _INVALID_PARAMS = -32600, -32601, -32602
_POLL_AFTER_S = 5
_WAIT, _MAX_WAIT_S = "wait_seconds", 45
_FINAL = {"completed", "failed", "cancelled"}
_ERROR = 400


def answer_message(call: Call, rules: McpRules, paths: tuple[str, str], handle: Handle) -> tuple[Reply, str]:
    """Answers one message.

    Args:
        call: the request that contains the message.
        rules: the rules of the endpoint, with the names of its tools.
        paths: the paths that return and cancel a task, with `{task_id}`.
        handle: answers the API request that corresponds to a tool call.
    """
    try:
        message = json_object(call.body)
    except DeclinedError as error:
        return _error(None, _INVALID_REQUEST, str(error)), "sent"
    number, method = message.get("id"), message.get("method")
    if number is None and isinstance(method, str) and method.startswith("notifications/"):
        return Reply(202, b""), "sent"
    if method == "tools/call":
        return _tool(call, number, message.get("params"), rules, paths, handle)
    if method == "initialize":
        info = {"name": "sandbox", "version": "1"}
        capabilities: dict[str, Any] = {"tools": {}}
        result = {"protocolVersion": _PROTOCOL, "capabilities": capabilities, "serverInfo": info}
        return _result(number, result), "sent"
    if method == "tools/list":
        names = (rules.create, *rules.task_tools, *rules.free)
        tools = [{"name": name, "inputSchema": {"type": "object"}} for name in names]
        return _result(number, {"tools": tools}), "sent"
    if method == "ping":
        return _result(number, {}), "sent"
    return _error(number, _UNKNOWN_METHOD, "Method not found"), "sent"


def _tool(
    call: Call, number: Any, params: Any, rules: McpRules, paths: tuple[str, str], handle: Handle
) -> tuple[Reply, str]:
    name = params.get("name") if isinstance(params, Mapping) else None
    arguments = params.get("arguments") or {} if isinstance(params, Mapping) else {}
    if not isinstance(arguments, Mapping):
        return _error(number, _INVALID_PARAMS, "arguments must be an object"), "sent"
    headers = {key: value for key, value in call.headers.items() if key != "prefer"}
    if name == rules.create:
        payload, key = _payload(arguments, rules), arguments.get(rules.key)
        headers |= {"idempotency-key": key} if isinstance(key, str) else {}
        request = call._replace(path=rules.submits_to, headers=headers, body=to_json(payload).encode())
    elif name in rules.task_tools:
        cancels = name != rules.task_tools[0]
        path = paths[cancels].replace("{task_id}", str(arguments.get("task_id", "")))
        request = call._replace(method="POST" if cancels else "GET", path=path, headers=headers, body=b"{}")
    elif name in rules.free:
        return _result(number, _content({}, is_error=False)), "sent"
    else:
        return _error(number, _INVALID_PARAMS, "unknown tool"), "sent"
    reply, answer = handle(request)
    if reply.status >= 500 or answer != "sent":  # noqa: PLR2004 (HTTP)
        return reply, answer
    task = json.loads(reply.content)
    is_error = reply.status >= _ERROR
    if not is_error:
        is_final = task.get("status") in _FINAL
        task |= {"terminal": is_final, "should_poll": not is_final}
        task |= {} if is_final else {"next_poll_after_seconds": _POLL_AFTER_S}
    return _result(number, _content(task, is_error=is_error)), "sent"


def poll_asked_for(call: Call, reply: Reply, rules: McpRules) -> Poll | None:
    """Returns the wait that a message asks for; None: it asks for no wait, or its task has ended."""
    if _WAIT not in rules.beside or _WAIT.encode() not in call.body or not isinstance(reply.body, Mapping):
        return None
    message, result = json_object(call.body), reply.body.get("result", {})
    params, task = message.get("params", {}), result.get("structuredContent", {})
    limit_s = params.get("arguments", {}).get(_WAIT)
    if params.get("name") != rules.create or type(limit_s) is not int or not task.get("should_poll"):
        return None
    asked = {"name": rules.task_tools[0], "arguments": {"task_id": task["task_id"]}}
    body = to_json(message | {"params": asked}).encode()
    return Poll(min(limit_s, _MAX_WAIT_S), call._replace(body=body))


def _payload(arguments: Mapping[str, Any], rules: McpRules) -> dict[str, Any]:
    """Returns the payload in the arguments of a tool call, in which some fields may be nested."""
    own = {*rules.beside, rules.key, rules.nested}
    nested = arguments.get(rules.nested)
    inside = dict(nested) if isinstance(nested, Mapping) else {}
    return inside | {name: value for name, value in arguments.items() if name not in own}


def _content(value: Mapping[str, Any], *, is_error: bool) -> dict[str, Any]:
    text = [{"type": "text", "text": json.dumps(value)}]
    return {"content": text, "structuredContent": dict(value), "isError": is_error}


def _result(number: Any, result: Mapping[str, Any]) -> Reply:
    return Reply(200, {"jsonrpc": "2.0", "id": number, "result": dict(result)})


def _error(number: Any, code: int, message: str) -> Reply:
    return Reply(200, {"jsonrpc": "2.0", "id": number, "error": {"code": code, "message": message}})
