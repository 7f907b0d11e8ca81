"""What an API does over HTTP beside reading payloads: what it refuses for certain, and how its errors look.

Data, from `pricing_tables/capabilities/`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from kling_pricing.tables.rules import Condition

MESSAGE, CODE, STATUS = "{message}", "{code}", "{status}"
"""What stands in an error's shape for its message, its code and the number of its HTTP status."""


class Idempotency(NamedTuple):
    """The API takes a key, under which it makes one task however often the request comes.

    Attributes:
        header: that carries the key.
        hours: for how long the API knows a key.
        source: where that was published.
    """

    header: str
    hours: int
    source: str


class RefusedAnswers(NamedTuple):
    """Answers to a submission after which it is certain that nothing was accepted.

    Attributes:
        status: of the HTTP status.
        unless: statuses that are none of them after all.
        code: that the answer must name; None: any.
        source: where that was published.
    """

    status: Condition
    unless: tuple[int, ...]
    code: str | None
    source: str


@dataclass(frozen=True)
class HttpRules:
    """What one API does over HTTP.

    Attributes:
        idempotency: None: the API is not known to take a key, so nothing may be sent twice.
        own_id_field: the field of a payload that takes a name of the caller's own, by which the API can be
            asked for the task; None: there is none.
        refused: the answers that refuse for certain; after any other but a success nobody knows.
        forms: whether it takes multipart/form-data beside JSON.
        billed_below: paths at and below which jobs are made and billed, beside the endpoints that are listed.
        error: the shape of an error's body; `{message}`, `{code}` and `{status}` stand for what they say.
    """

    idempotency: Idempotency | None = None
    own_id_field: str | None = None
    refused: tuple[RefusedAnswers, ...] = ()
    forms: bool = False
    billed_below: tuple[str, ...] = ()
    error: Mapping[str, Any] = field(default_factory=lambda: {"error": {"message": MESSAGE, "code": CODE}})

    def refuses(self, status: int, code: str | None) -> bool:
        """Whether an answer with this status and this code (see `error_code`) refuses for certain."""
        return any(
            bool(each.status.holds(status)) and status not in each.unless and each.code in {None, code}
            for each in self.refused
        )

    def error_code(self, body: Any) -> str | None:
        """The code that the body of an error names, where the API's shape has one."""
        for path, value in _leaves(self.error):
            if value == CODE:
                found = body
                for name in path:
                    found = found.get(name) if isinstance(found, Mapping) else None
                return found if isinstance(found, str) else None
        return None

    def error_body(self, status: int, code: str, message: str) -> dict[str, Any]:
        """An error in the API's own shape."""
        return _filled(self.error, {MESSAGE: message, CODE: code, STATUS: status})


def _leaves(tree: Mapping[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, (*above, name))
        else:
            yield (*above, name), value


def _filled(tree: Mapping[str, Any], words: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: _filled(value, words)
        if isinstance(value, Mapping)
        else words.get(value, value)
        if isinstance(value, str)
        else value
        for name, value in tree.items()
    }
