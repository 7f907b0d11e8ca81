"""Reads a provider's responses: submit and status responses, and the bodies of callbacks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from kling_pricing.display import json_kind
from kling_pricing.errors import WireFormatError
from kling_pricing.strict_json import EXACT_JSON, json_value
from kling_pricing.tables.price_book import PriceBook
from kling_pricing.wire.formats import wire_format as wire_format_named
from kling_pricing.wire.task import Task


def read_answer(body: Any) -> Mapping[str, Any]:
    """Returns a response as a mapping with exact numbers.

    Raises:
        WireFormatError: the response is not a JSON object.
    """
    parsed = json_value(body, decoder=EXACT_JSON) if isinstance(body, str | bytes | bytearray) else body
    if not isinstance(parsed, Mapping):
        raise WireFormatError(f"a response must be a JSON object, got {json_kind(parsed)}")
    return parsed


def read_task(
    answer: Mapping[str, Any],
    provider: str,
    book: PriceBook,
    wire_format: str | None,
    *,
    format_of_task: Callable[[str, str], str | None],
) -> Task:
    """Reads the task in a response.

    Args:
        answer: the response, as `read_answer` returns it.
        provider: the provider that sent the response.
        book: the price tables, which list the formats in which each provider responds.
        wire_format: the format of the response. If it is None or empty, the format of the task's reservation
            applies, or else the first of the provider's formats in which the response names a task.
        format_of_task: returns the wire format of a task's reservation, given the provider and the task id;
            None if the task has no reservation.

    Raises:
        WireFormatError: the response's data about the task cannot be read.
        PriceNotFoundError: the provider is unknown.
    """
    if wire_format:
        return wire_format_named(wire_format).read_task(answer)
    task = Task(None, None)
    for name in _formats(provider, book):
        task = wire_format_named(name).read_task(answer)
        if task.task_id is not None:
            reserved_format = format_of_task(provider, task.task_id)
            if reserved_format in {None, name}:
                return task
            return wire_format_named(reserved_format or name).read_task(answer)
    return task


def _formats(provider: str, book: PriceBook) -> list[str]:
    """Returns the formats in which a provider may respond, starting with its own."""
    also_priced = (name for table in book.tables_of(provider) for name in table.also_prices)
    return [*dict.fromkeys((*book.formats.get(provider, ()), *also_priced))]
