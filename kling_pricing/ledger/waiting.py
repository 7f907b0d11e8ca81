"""The instant at which a caller requested a verb, from which the maximum wait of the verb is counted."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Context, ContextVar
from functools import partial
from time import monotonic
from typing import TypeVar

_Result = TypeVar("_Result")

_asked: ContextVar[float | None] = ContextVar("asked", default=None)


def asked_at() -> float:
    """Returns the time, on the monotonic clock, at which the running verb was requested; by default, now."""
    asked = _asked.get()
    return monotonic() if asked is None else asked


def asked_now(work: Callable[[], _Result]) -> Callable[[], _Result]:
    """Returns a function to run later, whose verbs count as requested now."""
    context = Context()
    context.run(_asked.set, monotonic())
    return partial(context.run, work)
