"""Statements made of an API's answers about its tasks: saved status responses or callbacks."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from kling_pricing.errors import WireFormatError
from kling_pricing.reconcile.files.json import at_path, digits, text_of
from kling_pricing.reconcile.mappings import AnswersEntry
from kling_pricing.wire.formats import wire_format

COLUMNS = ("task_id", "amount", "unit", "submitted_at", "model", "duration_s", "state", "facts")
"""The parts of an answer that are read; the facts are a JSON object."""


def is_answer(item: Mapping[str, Any] | None, name: str) -> bool:
    """Returns whether an object is an answer in a wire format: it has a task, and a state or a charge."""
    if item is None:
        return False
    try:
        task = wire_format(name).read_task(item)
    except WireFormatError:
        return False
    return task.task_id is not None and (task.state is not None or task.amount is not None)


def rows(
    items: Iterable[tuple[int, Mapping[str, Any] | str]], entry: AnswersEntry
) -> Iterator[tuple[int, list[str], str]]:
    """Yields the answers as rows of `COLUMNS`, each with its fault or an empty text."""
    return (_row(row, item, entry) for row, item in items)


def _row(row: int, item: Mapping[str, Any] | str, entry: AnswersEntry) -> tuple[int, list[str], str]:
    empty = [""] * len(COLUMNS)
    if isinstance(item, str):
        return row, empty, item
    try:
        task = wire_format(entry.wire_format).read_task(item)
    except WireFormatError as error:
        return row, empty, f"{error.field or 'a field'} cannot be read"
    submitted_at = entry.submitted_at and text_of(at_path(item, entry.submitted_at.column))
    amount = "" if task.amount is None else digits(task.amount)
    facts = {name: value for name, value in task.facts.items() if isinstance(value, str | bool)}
    texts = (
        task.task_id,
        amount,
        task.amount_unit if amount else None,
        submitted_at,
        task.model,
        task.duration_s and digits(task.duration_s),
        task.state,
        json.dumps(facts) if facts else None,
    )
    return row, [text or "" for text in texts], ""
