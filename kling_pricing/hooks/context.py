"""Scopes: `spending` sets the project, the job key and the labels of the submissions made inside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType

PROJECT, KEY = "project", "key"
"""The two names in a scope that are more than labels."""

_SCOPE: ContextVar[Mapping[str, str]] = ContextVar("kling_pricing_spending", default=MappingProxyType({}))


@contextmanager
def spending(*, project: str | None = None, key: str | None = None, **labels: str) -> Iterator[None]:
    """Sets the project, the job key and the labels of the guarded submissions in a `with` block.

    Scopes can be nested: the inner scope adds to the outer one and overrides it.
    A scope applies to the calls in its block, to asyncio tasks that start in it and to `asyncio.to_thread`.
    Like any context variable, it does not apply to other threads; they open scopes of their own.

    Args:
        project: the project of the submissions.
        key: the caller's name for the one job that the block submits. Every submission under this key is the
            same job, so a retry never creates a second one.
        labels: other labels for budgets to match.
    """
    changes = {PROJECT: project, KEY: key, **labels}
    token = _SCOPE.set(
        {**_SCOPE.get(), **{name: value for name, value in changes.items() if value is not None}}
    )
    try:
        yield
    finally:
        _SCOPE.reset(token)


def current_spending() -> Mapping[str, str]:
    """Returns the labels of the scopes around the call, with `project` and `key` among them."""
    return _SCOPE.get()
