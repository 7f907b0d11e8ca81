"""An API's behaviour over HTTP: idempotency keys, definite refusals, and the shape of its errors.

The rules are data from `pricing_tables/capabilities/`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from kling_pricing.tables.rules import Condition

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
        code: the error code that the answer must have; None: any.
        source: where this was published.
    """

    status: Condition
    unless: tuple[int, ...]
    code: str | None
    source: str


@dataclass(frozen=True)
class HttpRules:
    """One API's behaviour over HTTP.

    Attributes:
        idempotency: the API's idempotency keys; None: it is not known to support them, so no request may be
            sent twice.
        own_id_field: the payload's field for a task id of the caller's choice, by which the API can look the
            task up; None: the API has no such field.
        refused: the definite refusals; after any other answer except a success, the outcome is unknown.
        forms: whether the API accepts multipart/form-data as well as JSON.
        billed_below: paths at and below which jobs are created and billed, in addition to the listed endpoints.
        billed_facts: the facts in a response about a finished task that state what is billed.
        error: the shape of an error's body, with the placeholders `{message}`, `{code}` and `{status}`.
    """

    idempotency: Idempotency | None = None
    own_id_field: str | None = None
    refused: tuple[RefusedAnswers, ...] = ()
    forms: bool = False
    billed_below: tuple[str, ...] = ()
    billed_facts: tuple[str, ...] = ()
    error: Mapping[str, Any] = field(default_factory=lambda: {"error": {"message": MESSAGE, "code": CODE}})

    def refuses(self, status: int, code: str | None) -> bool:
        """Returns whether an answer with this status and code (see `error_code`) is a definite refusal."""
        return any(
            bool(answer.status.holds(status)) and status not in answer.unless and answer.code in {None, code}
            for answer in self.refused
        )

    def error_code(self, body: Any) -> str | None:
        """Returns the code in an error's body; None if it has none, or the API's errors have no code."""
        for path, value in _leaves(self.error):
            if value == CODE:
                part = body
                for name in path:
                    part = part.get(name) if isinstance(part, Mapping) else None
                return part if isinstance(part, str) else None
        return None

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
