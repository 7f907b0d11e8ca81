"""An API's behaviour over HTTP: idempotency keys, definite refusals, and the shape of its errors.

The rules are data from `pricing_tables/capabilities/`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from kling_pricing.tables.rules import Condition
from kling_pricing.wire.paths import PathPattern

MESSAGE, CODE, STATUS = "{message}", "{code}", "{status}"
"""Placeholders in the shape of an error for its message, its code and its HTTP status."""


class Idempotency(NamedTuple):
    """The API's idempotency keys: requests with the same key create one task.

    Attributes:
        header: the header that carries the key.
        hours: how long the API remembers a key.
        source: where this was published.
    """

    header: str
    hours: int
    source: str


class RefusedAnswers(NamedTuple):
    """Answers to a submission that prove that the API did not accept it.

    Attributes:
        status: the condition on the HTTP status.
        unless: statuses that are exceptions.
        codes: the error codes; the response must have one of them; empty: any code, or none.
        source: where this was published.
        unless_message: words in the error's message that make it an exception, in any case; empty: none.
    """

    status: Condition
    unless: tuple[int, ...]
    codes: frozenset[str]
    source: str
    unless_message: str = ""


class AnswerError(NamedTuple):
    """The error in an answer.

    Attributes:
        code: the error's code, a number as text; None: the answer has none.
        message: the error's message; empty: the answer has none.
    """

    code: str | None
    message: str = ""


class UnpricedPaths(NamedTuple):
    """Paths at which the API bills for requests whose price is not published.

    Attributes:
        pattern: the paths.
        why: the reason why there is no price.
    """

    pattern: PathPattern
    why: str


class McpRules(NamedTuple):
    """The API's MCP endpoint.

    Attributes:
        pattern: the path of the endpoint.
        submits_to: the submission path whose payloads the submitting tool takes.
        create: the tool that submits jobs.
        nested: the argument that may hold the payload without its model.
        beside: the arguments that are not part of the payload.
        key: the argument with the idempotency key, one of `beside`.
        task_tools: free tools whose answer describes the task in their argument `task_id`.
        free: the other free tools.
        methods: the JSON-RPC methods that cost nothing, besides notifications.
        refused_errors: the JSON-RPC error codes that prove that nothing was accepted.
    """

    pattern: PathPattern
    submits_to: str
    create: str
    nested: str
    beside: tuple[str, ...]
    key: str
    task_tools: tuple[str, ...]
    free: tuple[str, ...]
    methods: tuple[str, ...]
    refused_errors: tuple[int, ...]


@dataclass(frozen=True)
class HttpRules:
    """One API's behaviour over HTTP.

    Attributes:
        idempotency: the API's idempotency keys; None: it is not known to support them, so no request may be
            sent twice.
        own_id_field: the place in the payload for a task id of the caller's choice, by which the API can look
            the task up; empty: the API has no such field.
        refused: the definite refusals; after any other answer except a success, the outcome is unknown.
        forms: whether the API accepts multipart/form-data as well as JSON.
        free: the paths at which a POST, PUT or PATCH costs nothing.
        other_services: the paths at which the API sells other things than video jobs, such as chat.
        unpriced: the paths at which the API bills for requests that have no published price.
        allow_paths: paths at and below which requests pass without a price.
        mcp: the API's MCP endpoint; None: it has none.
        error: the shape of an error's body, with the placeholders `{message}`, `{code}` and `{status}`.
        code_at: the paths at which an answer may have an error's code, beside its message; empty: the path of
            the code in `error`.
        own_id_lookup: the path at which the API looks a task up by that id, with `{own_id}` in it; None: the
            status paths accept the id in the place of the task's id.
        task_lists: paths whose answer to a GET or a POST lists tasks, in addition to a GET of the endpoints.
        billed_facts: the facts in a response about a finished task that state what is billed.
        account: the paths that concern the whole account.
        callback_field: the place in the payload for the URL to which the API sends callbacks; empty: the API is
            not known to have such a field.
    """

    idempotency: Idempotency | None = None
    own_id_field: tuple[str, ...] = ()
    refused: tuple[RefusedAnswers, ...] = ()
    forms: bool = False
    free: tuple[PathPattern, ...] = ()
    other_services: tuple[PathPattern, ...] = ()
    unpriced: tuple[UnpricedPaths, ...] = ()
    allow_paths: tuple[str, ...] = ()
    mcp: McpRules | None = None
    error: Mapping[str, Any] = field(default_factory=lambda: {"error": {"message": MESSAGE, "code": CODE}})

    code_at: tuple[tuple[str, ...], ...] = ()
    own_id_lookup: str | None = None
    task_lists: tuple[str, ...] = ()
    billed_facts: tuple[str, ...] = ()
    account: tuple[PathPattern, ...] = ()
    callback_field: tuple[str, ...] = ()

    def refuses(self, status: int, code: str | None, message: str = "") -> bool:
        """Returns whether an answer with this status and error (see `error_in`) is a definite refusal."""
        return any(
            bool(answer.status.holds(status))
            and status not in answer.unless
            and (not answer.codes or code in answer.codes)
            and not (answer.unless_message and answer.unless_message in message.casefold())
            for answer in self.refused
        )

    def error_in(self, body: Any) -> AnswerError:
        """Returns the code and the message of the error in an answer's body."""
        for *group, name in self.code_at or [path for path, value in _leaves(self.error) if value == CODE]:
            error = body
            for part in group:
                error = error.get(part) if isinstance(error, Mapping) else None
            code = error.get(name) if isinstance(error, Mapping) else None
            if (isinstance(code, str) and code) or type(code) is int:
                message = error.get("message")
                return AnswerError(str(code), message if isinstance(message, str) else "")
        return AnswerError(None)

    def error_body(self, status: int, code: str, message: str) -> dict[str, Any]:
        """Returns the body of an error in the API's own shape."""
        return _filled(self.error, {MESSAGE: message, CODE: code, STATUS: status})


def _leaves(tree: Mapping[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, (*above, name))
        else:
            yield (*above, name), value


def _filled(tree: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: _filled(value, values)
        if isinstance(value, Mapping)
        else values.get(value, value)
        if isinstance(value, str)
        else value
        for name, value in tree.items()
    }
