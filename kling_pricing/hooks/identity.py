"""Whose a submission is, and which job: what the hook was made with, the scope, the request itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import NamedTuple
from uuid import uuid4

from kling_pricing.display import shown
from kling_pricing.errors import KlingPricingError
from kling_pricing.hooks.context import KEY, PROJECT, current_spending
from kling_pricing.hooks.http_messages import Outgoing

KEY_HEADER = "Idempotency-Key"

_RETRY_COUNT = "x-stainless-retry-count"
"""By this header the SDKs that Stainless generates say how often they have sent a request before."""

_LAST_KEY: ContextVar[str | None] = ContextVar("kling_pricing_last_key", default=None)
"""The key that the last submission of this task or thread without one of its own was given.

An SDK sends its retries from the same task or thread as the request itself, with nothing else in between.
"""

Labels = Mapping[str, str] | Callable[[Outgoing], Mapping[str, str]]


class Identity(NamedTuple):
    """Whose a submission is, and which job.

    Attributes:
        project: whose it is.
        key: the name of the job, the same each time it is submitted.
        labels: what else budgets may match.
    """

    project: str
    key: str
    labels: Mapping[str, str]


def identity(request: Outgoing, project: str | None, labels: Labels | None, key_header: str) -> Identity:
    """Whose a request is, as far as can be told from here: the caller's task or thread.

    What the hook was made with is overruled by the scope, and that by what a function says of the request.

    Raises:
        KlingPricingError: no project is said, two keys are, or a retry is of nothing that was sent from here.
    """
    said = {} if project is None else {PROJECT: project}
    if isinstance(labels, Mapping):
        said |= labels
    said |= current_spending()
    if callable(labels):
        told = labels(request)
        if not isinstance(told, Mapping):
            raise KlingPricingError(f"the function for labels must return a mapping, got {shown(told)}")
        said |= told
    if PROJECT not in said:
        raise KlingPricingError(
            "no project is said for this submission; make the hook with project=..., or call within "
            "`with spending(project=...)`"
        )
    named = said.pop(KEY, None)
    header = request.headers.get(key_header.lower())
    if named and header and named != header:
        raise KlingPricingError(
            f"the scope names the job {named!r}, and the header {key_header} names another; say it once"
        )
    return Identity(said.pop(PROJECT), named or header or _own_key(request), said)


def _own_key(request: Outgoing) -> str:
    """A key for a submission that has none: a new one, but for the retry of an SDK."""
    retries = request.headers.get(_RETRY_COUNT, "0")
    if retries == "0":
        key = uuid4().hex
        _LAST_KEY.set(key)
        return key
    last = _LAST_KEY.get()
    if last is None:
        raise KlingPricingError(
            f"{_RETRY_COUNT} says that this was sent before, but not from this task or thread, so which job it "
            "is cannot be told; give the call a key, by a header or within `with spending(key=...)`"
        )
    return last
