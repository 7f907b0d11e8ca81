"""Whose spending it is: a scope around calls, which every guarded submission made in it belongs to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType

PROJECT, KEY = "project", "key"
"""The two names that are no mere labels."""

_SAID: ContextVar[Mapping[str, str]] = ContextVar("kling_pricing_spending", default=MappingProxyType({}))


@contextmanager
def spending(*, project: str | None = None, key: str | None = None, **labels: str) -> Iterator[None]:
    """Says whose spending the guarded submissions in a `with` block are.

    Scopes can be nested: the inner one adds to the outer and wins where both say the same.
    A scope holds for the calls made in it, for the asyncio tasks started in it and for `asyncio.to_thread`; a
    thread that is started otherwise begins without one, as with every context variable.

    Args:
        project: whose requests these are.
        key: the caller's name for the one job that the block submits: however often the block submits it, it is
            one reservation and never a second job.
        labels: what else budgets may match.
    """
    said = {PROJECT: project, KEY: key, **labels}
    token = _SAID.set({**_SAID.get(), **{name: value for name, value in said.items() if value is not None}})
    try:
        yield
    finally:
        _SAID.reset(token)


def current_spending() -> Mapping[str, str]:
    """What the scopes around the call say: labels, `project` and `key` among them."""
    return _SAID.get()
