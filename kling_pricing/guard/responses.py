"""What a provider answered: a submit or status response, or the body of a callback."""

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
    """An answer as a mapping, its numbers exact.

    Raises:
        WireFormatError: it is not a JSON object.
    """
    read = json_value(body, decoder=EXACT_JSON) if isinstance(body, str | bytes | bytearray) else body
    if not isinstance(read, Mapping):
        raise WireFormatError(f"an answer is a JSON object, got {json_kind(read)}")
    return read


def read_task(
    answer: Mapping[str, Any],
    provider: str,
    book: PriceBook,
    wire_format: str | None,
    *,
    of_a_reservation: Callable[[str, str], str | None],
) -> Task:
    """What an answer says of a task.

    Args:
        answer: as `read_answer` gives it.
        provider: who answered.
        book: knows in which formats a provider may answer.
        wire_format: in which it did; None: in that of the reservation, else in the first of the provider's
            in which it names a task.
        of_a_reservation: provider and task id -> the format of the reservation, if there is one.

    Raises:
        WireFormatError: what it says of the task cannot be read.
        PriceNotFoundError: the provider is unknown.
    """
    if wire_format:
        return wire_format_named(wire_format).read_task(answer)
    found = Task(None, None)
    for name in _formats(provider, book):
        found = wire_format_named(name).read_task(answer)
        if found.task_id is not None:
            own = of_a_reservation(provider, found.task_id)
            return found if own in {None, name} else wire_format_named(own or name).read_task(answer)
    return found


def _formats(provider: str, book: PriceBook) -> list[str]:
    """The formats in which a provider may answer, its own first."""
    also = (name for table in book.tables_of(provider) for name in table.also_prices)
    return [*dict.fromkeys((*book.formats.get(provider, ()), *also))]
