"""Statements that are answers of an API about its tasks: a dump of status responses or of callbacks."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from kling_pricing.errors import WireFormatError
from kling_pricing.reconcile.files.json import at_path, digits, text_of
from kling_pricing.reconcile.mappings import AnswersEntry
from kling_pricing.wire.formats import wire_format

COLUMNS = ("task_id", "amount", "unit", "submitted_at", "model", "duration_s", "state", "facts")
"""What is read of an answer; the facts are a JSON object."""


def is_answer(found: Mapping[str, Any] | None, name: str) -> bool:
    """Whether an object is an answer in a wire format: it names a task, and its state or its charge."""
    if found is None:
        return False
    try:
        task = wire_format(name).read_task(found)
    except WireFormatError:
        return False
    return task.task_id is not None and (task.state is not None or task.amount is not None)


def rows(
    found: Iterable[tuple[int, Mapping[str, Any] | str]], entry: AnswersEntry
) -> Iterator[tuple[int, list[str], str]]:
    """The answers as rows of `COLUMNS`, each with what is wrong with it."""
    return (_row(row, answer, entry) for row, answer in found)


def _row(row: int, found: Mapping[str, Any] | str, entry: AnswersEntry) -> tuple[int, list[str], str]:
    nothing = [""] * len(COLUMNS)
    if isinstance(found, str):
        return row, nothing, found
    try:
        task = wire_format(entry.wire_format).read_task(found)
    except WireFormatError as error:
        return row, nothing, f"{error.field or 'a field'} cannot be read"
    made = entry.submitted_at and text_of(at_path(found, entry.submitted_at.column))
    amount = "" if task.amount is None else digits(task.amount)
    facts = {name: value for name, value in task.facts.items() if isinstance(value, str | bool)}
    texts = (
        task.task_id,
        amount,
        task.amount_unit if amount else None,
        made,
        task.model,
        task.duration_s and digits(task.duration_s),
        task.state,
        json.dumps(facts) if facts else None,
    )
    return row, [text or "" for text in texts], ""
