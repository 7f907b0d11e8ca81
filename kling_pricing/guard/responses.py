"""Answers of a provider: submit and status responses, and the bodies of callbacks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from kling_pricing.display import json_kind
from kling_pricing.errors import WireFormatError
from kling_pricing.strict_json import EXACT_JSON, json_value
from kling_pricing.tables.price_table import PriceBook
from kling_pricing.wire.formats import wire_format as wire_format_named
from kling_pricing.wire.task import Task


def read_answer(body: Any) -> Mapping[str, Any]:
    """Returns an answer as a mapping with exact numbers.

    Raises:
        WireFormatError: the answer is not a JSON object.
    """
    parsed = json_value(body, decoder=EXACT_JSON) if isinstance(body, str | bytes | bytearray) else body
    if not isinstance(parsed, Mapping):
        raise WireFormatError(f"an answer is a JSON object, got {json_kind(parsed)}")
    return parsed


def read_task(
    answer: Mapping[str, Any],
    provider: str,
    book: PriceBook,
    wire_format: str | None,
    *,
    format_of_task: Callable[[str, str], str | None],
) -> Task:
    """Reads what an answer says about a task.

    Args:
        answer: the answer, as `read_answer` returns it.
        provider: the provider that answered.
        book: the price tables, which list the formats that a provider answers in.
        wire_format: the format of the answer; None or empty: the format of the task's reservation, else the
            first of the provider's formats in which the answer names a task.
        format_of_task: provider and task id -> the wire format of the task's reservation; None: it has none.

    Raises:
        WireFormatError: the answer's statements about the task cannot be read.
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
    """Returns the formats that a provider may answer in, its own first."""
    also_priced = (name for table in book.tables_of(provider) for name in table.also_prices)
    return [*dict.fromkeys((*book.formats.get(provider, ()), *also_priced))]
