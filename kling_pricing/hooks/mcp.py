"""Messages to the MCP endpoint of an API, where one tool submits jobs and the other tools are free.

MCP (Model Context Protocol) sends JSON-RPC messages. A call of the submitting tool is priced as the payload
that its arguments contain. Its answer, JSON or an event stream, is read as that of the API's own endpoint.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

from kling_pricing.display import json_kind, shown
from kling_pricing.errors import WireFormatError
from kling_pricing.hooks.bodies import read_json
from kling_pricing.hooks.http_messages import McpReply, OutgoingRequest, ProviderResponse
from kling_pricing.strict_json import EXACT_JSON, json_value
from kling_pricing.tables.http_rules import HttpRules, Idempotency, McpRules

_CALL = "tools/call"
_TASK_ID = "task_id"

_REFUSED, _UNKNOWN = 400, 500
"""The HTTP statuses that stand for a definite refusal and for an error after which a task may exist."""


class FreeMessage(NamedTuple):
    """A message that costs nothing.

    Attributes:
        task_id: the task that the answer describes; None: it describes none.
        reply: how the answer is read.
    """

    task_id: str | None = None
    reply: McpReply | None = None


class SubmittingCall(NamedTuple):
    """A call of the tool that submits jobs; it takes the place of a request's body.

    Attributes:
        payload: the payload in the arguments.
        key: the caller's idempotency key among the arguments; None: there is none.
        reply: how the answer is read.
        message: the whole message.
        rules: the API's rules for MCP.
    """

    payload: Mapping[str, Any]
    key: str | None
    reply: McpReply
    message: Mapping[str, Any]
    rules: McpRules

    form_type: str | None = None
    files: frozenset[str] = frozenset()

    def sent(
        self, payload: Mapping[str, Any], idempotency: Idempotency | None, key: str
    ) -> tuple[bytes | None, Mapping[str, str]]:
        """Returns the body with another payload and with the reservation's key, and no further headers."""
        params = self.message["params"]
        arguments = dict(params["arguments"])
        nested = arguments.get(self.rules.nested)
        if isinstance(nested, Mapping):
            fields = dict(payload)
            if "model" in arguments:
                arguments["model"] = fields["model"]
            if "model" not in nested:
                fields.pop("model", None)
            arguments[self.rules.nested] = fields
        else:
            beside = {name: value for name, value in arguments.items() if name in self.rules.beside}
            arguments = {**payload, **beside}
        if idempotency is not None:
            arguments[self.rules.key] = key
        changed = {**self.message, "params": {**params, "arguments": arguments}}
        return json.dumps(changed, separators=(",", ":")).encode(), {}


Message: TypeAlias = FreeMessage | SubmittingCall


def read_message(request: OutgoingRequest, rules: McpRules) -> Message:
    """Reads the message, or the batch of messages, in a request to an MCP endpoint.

    Raises:
        WireFormatError: it cannot be read, or its price is unknown.
    """
    value = read_json(request.body, request.headers)
    if not isinstance(value, list):
        return _read_one(value, rules)
    for part in value:
        if not isinstance(_read_one(part, rules), FreeMessage):
            raise WireFormatError(
                f"{rules.create} cannot be called in a batch of MCP messages; send the call in a separate "
                "request"
            )
    return FreeMessage()


def calls_task_tool(request: OutgoingRequest, rules: McpRules) -> bool:
    """Returns whether a message, which `read_message` could read, calls a tool about tasks."""
    message = read_json(request.body, request.headers)
    if not isinstance(message, Mapping) or message.get("method") != _CALL:
        return False
    params = message.get("params")
    return isinstance(params, Mapping) and params.get("name") in rules.task_tools


def _read_one(message: Any, rules: McpRules) -> Message:
    if not isinstance(message, Mapping):
        raise WireFormatError(f"an MCP message must be a JSON object, got {json_kind(message)}")
    method = message.get("method")
    if method is None and ("result" in message or "error" in message):  # an answer to the server
        return FreeMessage()
    if method in rules.methods or (isinstance(method, str) and method.startswith("notifications/")):
        return FreeMessage()
    if method != _CALL:
        raise WireFormatError(
            f"{_unknown('MCP message', 'method', method)}; the listed methods are "
            f"{', '.join((*rules.methods, _CALL))}"
        )
    return _read_call(message, rules)


def _read_call(message: Mapping[str, Any], rules: McpRules) -> Message:
    params = message.get("params")
    name = params.get("name") if isinstance(params, Mapping) else None
    arguments = params.get("arguments") if isinstance(params, Mapping) else None
    if name in rules.free:
        return FreeMessage()
    reply = McpReply(message.get("id"), rules)
    if name in rules.task_tools:
        task_id = arguments.get(_TASK_ID) if isinstance(arguments, Mapping) else None
        return FreeMessage(task_id, reply) if isinstance(task_id, str) else FreeMessage()
    if name != rules.create:
        raise WireFormatError(
            f"{_unknown('MCP call', 'tool', name)}; the listed tools are "
            f"{', '.join((rules.create, *rules.free, *rules.task_tools))}"
        )
    if not isinstance(arguments, Mapping):
        raise WireFormatError(f"{name}: arguments must be a JSON object, got {json_kind(arguments)}")
    if type(message.get("id")) not in (str, int):
        raise WireFormatError(
            f"{name}: the MCP message has no id, so its response could not be read; add an id"
        )
    key = arguments.get(rules.key)
    if key is not None and not (isinstance(key, str) and key):
        raise WireFormatError(f"{name}: {rules.key} must be text, got {shown(key)}", field=rules.key)
    return SubmittingCall(_payload(arguments, rules), key, reply, message, rules)


def _unknown(whole: str, part: str, name: Any) -> str:
    if name is None:
        return f"the {whole} has no {part}"
    return f"the MCP {part} {shown(name)!r} is not listed in the capability file, so its price is unknown"


def _payload(arguments: Mapping[str, Any], rules: McpRules) -> Mapping[str, Any]:
    """Returns the payload in a tool's arguments, which may nest all of it except the model."""
    fields = {name: value for name, value in arguments.items() if name not in rules.beside}
    nested = fields.pop(rules.nested, None)
    if nested is None:
        return fields
    if not isinstance(nested, Mapping):
        raise WireFormatError(
            f"{rules.nested} must be a JSON object, got {json_kind(nested)}", field=rules.nested
        )
    for name, value in fields.items():
        if name != "model":
            raise WireFormatError(
                f"{name!r} is outside {rules.nested!r}; move it into {rules.nested!r}", field=name
            )
        if nested.get("model", value) != value:
            raise WireFormatError(
                f"two models are given, {shown(value)} and {shown(nested['model'])}; give only one",
                field="model",
            )
    return {**fields, **nested}


def plain_response(response: ProviderResponse, reply: McpReply, http: HttpRules) -> ProviderResponse:
    """Returns the answer to a tool call as the API's own endpoint would give it.

    A result becomes a task with status 200. A definite refusal gets status 400. Any other error gets status
    500, because a task may exist.
    """
    if not 200 <= response.status < 300:  # noqa: PLR2004 (success in HTTP)
        return response
    answer = _answer(response, reply.message_id)
    error = answer.get("error")
    if isinstance(error, Mapping):
        code = error.get("code")
        status = _REFUSED if code in reply.rules.refused_errors else _UNKNOWN
        return _error(status, str(code), http)
    if answer.get("success") is False:
        return _error(_REFUSED, "rejected", http)
    result = answer.get("result")
    if isinstance(result, Mapping) and result.get("isError") is True:
        return _error(_UNKNOWN, "tool_error", http)
    task = _structured(result)
    return ProviderResponse(200, {}, json.dumps(task, default=str).encode())


def _error(status: int, code: str, http: HttpRules) -> ProviderResponse:
    return ProviderResponse(status, {}, json.dumps(http.error_body(status, code, "")).encode())


def _answer(response: ProviderResponse, message_id: Any) -> Mapping[str, Any]:
    """Returns the JSON-RPC message that answers a call; empty: there is none that can be read."""
    texts = [response.body]
    if response.headers.get("content-type", "").lower().lstrip().startswith("text/event-stream"):
        texts = list(_events(response.body))
    messages: list[Any] = []
    for text in texts:
        try:
            value = json_value(text, decoder=EXACT_JSON)
        except WireFormatError:
            continue
        messages += value if isinstance(value, list) else [value]
    answers = [message for message in messages if isinstance(message, Mapping) and "method" not in message]
    own = (message for message in answers if message.get("id") == message_id)
    return next(own, answers[0] if len(answers) == 1 and answers[0].get("id") is None else {})


def _events(body: bytes) -> Iterator[bytes]:
    """Yields the data of each event in an event stream."""
    text = body.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    data: list[bytes] = []
    for line in (*text.split(b"\n"), b""):
        if not line:
            if data:
                yield b"\n".join(data)
            data = []
        elif line.startswith(b"data:"):
            data.append(line[5:].removeprefix(b" "))


def _structured(result: Any) -> Mapping[str, Any]:
    """Returns the structured content of a tool's result, or the JSON in its only text; empty: there is none."""
    if not isinstance(result, Mapping):
        return {}
    structured = result.get("structuredContent")
    if isinstance(structured, Mapping):
        return structured
    content = result.get("content")
    parts = content if isinstance(content, list) else []
    texts = [part.get("text") for part in parts if isinstance(part, Mapping)]
    if len(texts) != 1 or not isinstance(texts[0], str):
        return {}
    try:
        value = json_value(texts[0], decoder=EXACT_JSON)
    except WireFormatError:
        return {}
    return value if isinstance(value, Mapping) else {}
