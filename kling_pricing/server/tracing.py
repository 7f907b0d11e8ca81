"""Spans for OpenTelemetry, if its API is installed and a provider is set. Otherwise, they cost very little."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

try:
    from opentelemetry.trace import ProxyTracerProvider, Tracer, get_tracer, get_tracer_provider

    _tracer: Tracer | None = get_tracer("kling_pricing")  # follows a provider that is set later
except ModuleNotFoundError:  # the API is optional
    _tracer = None


@contextmanager
def span(name: str, **attributes: Any) -> Iterator[dict[str, Any]]:
    """Yields the attributes of a span for a block of code; the block may add others.

    Args:
        name: the name of the span.
        attributes: the first attributes. Attributes that are None are left out.
    """
    if _tracer is None or isinstance(get_tracer_provider(), ProxyTracerProvider):  # nobody records spans
        yield attributes
        return
    with _tracer.start_as_current_span(name) as current:
        try:
            yield attributes
        finally:
            for attribute, value in attributes.items():
                if value is not None:
                    current.set_attribute(f"kling_pricing.{attribute}", value)
