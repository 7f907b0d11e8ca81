"""Reads statements that consist of an API's responses about tasks, or of its callbacks."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from kling_pricing.budgets import MAX_LABEL_CHARS
from kling_pricing.errors import WireFormatError
from kling_pricing.reconcile.files.file_reader import ID_SEPARATOR, at_path, digits, text_of
from kling_pricing.reconcile.statement_columns import AnswersEntry
from kling_pricing.wire.charges import CASH, UNIT, VIDEO, ChargePart
from kling_pricing.wire.formats import wire_format

COLUMNS = ("task_id", "amount", "unit", "submitted_at", "model", "duration_s", "state", "facts")
"""The columns that are read from a response; `facts` is a JSON object."""

_MAX_IDS = 2
"""The maximum number of possible ids of a response that cannot be read; a longer text would be cut."""


def is_answer(item: Mapping[str, Any] | None, entry: AnswersEntry) -> bool:
    """Returns whether an object is a response in a wire format, with a task, and a state or a charge."""
    if item is None:
        return False
    try:
        task = wire_format(entry.wire_format).read_task(item)
    except WireFormatError:
        return False
    return task.task_id is not None and (task.state is not None or task.charge is not None)


def rows(
    items: Iterable[tuple[int, Mapping[str, Any] | str]], entry: AnswersEntry, currency: str
) -> Iterator[tuple[int, list[str], str]]:
    """Yields the responses as rows of `COLUMNS`, one per part of a charge.

    Each row comes with its number, and with its fault in words, which is empty if there is none.

    Args:
        items: the row number of each response, and the response or its fault.
        entry: the mapping for the responses.
        currency: the account's currency, for a mapping that does not specify it.
    """
    for row, item in items:
        yield from _rows(row, item, entry, entry.currency or currency)


def _rows(
    row: int, item: Mapping[str, Any] | str, entry: AnswersEntry, currency: str
) -> Iterator[tuple[int, list[str], str]]:
    empty = [""] * len(COLUMNS)
    if isinstance(item, str):
        yield row, empty, item
        return
    try:
        task = wire_format(entry.wire_format).read_task(item)
    except WireFormatError as error:
        ids = ID_SEPARATOR.join(islice(_ids_in(item), _MAX_IDS))
        yield row, [ids, *empty[1:]], f"{error.field or 'a field'} cannot be read"
        return
    if task.charge is not None and task.charge.problem is not None:
        yield row, [task.task_id or "", *empty[1:]], task.charge.problem
        return
    parts = task.charge.parts if task.charge is not None else ()
    columns = entry.submitted_at.columns if entry.submitted_at else ()
    submitted_at = next(filter(None, (text_of(at_path(item, column)) for column in columns)), "")
    facts = {name: value for name, value in task.facts.items() if isinstance(value, str | bool)}
    for part in parts or (None,):
        texts = (
            task.task_id,
            *_amount(part, currency),
            submitted_at,
            task.model,
            task.duration_s and digits(task.duration_s),
            task.state,
            json.dumps(facts) if facts else None,
        )
        yield row, [text or "" for text in texts], ""


def _ids_in(value: Any) -> Iterator[str]:
    """Yields the texts of the fields whose names end in `id`, of which one may be the task."""
    if isinstance(value, Mapping):
        for name, part in value.items():
            if name.lower().endswith("id") and isinstance(part, str) and len(part) <= MAX_LABEL_CHARS:
                yield part
            else:
                yield from _ids_in(part)


def _amount(part: ChargePart | None, currency: str) -> tuple[str, str]:
    """Returns the amount and unit of a part; the unit of a video pack is `unit`, as in price tables."""
    if part is None:
        return "", ""
    return digits(part.amount), {CASH: currency, VIDEO: UNIT}.get(part.unit, part.unit)
