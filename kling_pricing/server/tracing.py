"""Spans for OpenTelemetry, if its API is installed. Without it, spans cost nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

try:
    from opentelemetry.trace import get_tracer
except ModuleNotFoundError:  # the API is optional
    get_tracer = None  # type: ignore[assignment]


@contextmanager
def span(name: str, **attributes: Any) -> Iterator[dict[str, Any]]:
    """Yields the attributes of a span for a block of code; the block may add others.

    Args:
        name: the name of the span.
        attributes: the first attributes. Attributes that are None are left out.
    """
    if get_tracer is None:
        yield attributes
        return
    with get_tracer("kling_pricing").start_as_current_span(name) as current:
        try:
            yield attributes
        finally:
            for attribute, value in attributes.items():
                if value is not None:
                    current.set_attribute(f"kling_pricing.{attribute}", value)
