"""What a caller with a key for one project reaches: its own tasks, and what belongs to the whole account.

Elements and voices belong to the account, so every caller may use them. The balance of the account, other
services, and paths that are not listed are refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any, NamedTuple
from urllib.parse import unquote_plus
from uuid import uuid4

from kling_pricing.errors import KlingPricingError, ReservationNotFoundError, WireFormatError
from kling_pricing.guard import BudgetGuard
from kling_pricing.guard.responses import read_answer
from kling_pricing.ledger.model import Ref
from kling_pricing.tables.price_book import PriceBook
from kling_pricing.wire.formats import wire_format as wire_format_named
from kling_pricing.wire.paths import PathPattern, Segments, is_below, lenient_segments
from kling_pricing.wire.task import listed_tasks

_TASK_ID = "{task_id}"


class NamedTasks(NamedTuple):
    """The tasks that a request names.

    Attributes:
        ids: the ids of the tasks; empty: it names none.
        wire_format: the wire format of the path, for the shape of errors; empty: not known.
    """

    ids: frozenset[str]
    wire_format: str


class _Place(NamedTuple):
    """A path in which a task is named, or a parameter of its query."""

    parts: Segments
    parameter: str
    wire_format: str

    @property
    def literals(self) -> int:
        """The number of parts that must be equal."""
        return sum(part != _TASK_ID for part in self.parts)

    def task_at(self, segments: Segments, start: int) -> str | None:
        """Returns the task that a path names from a part on; None: this is another path."""
        found = segments[start : start + len(self.parts)]
        if len(found) < len(self.parts) or not all(
            pattern in {_TASK_ID, part} for pattern, part in zip(self.parts, found, strict=True)
        ):
            return None
        return found[self.parts.index(_TASK_ID)] if _TASK_ID in self.parts else None


class Isolation:
    """Decides what the callers of one project reach at one provider.

    Args:
        book: the price book with the paths of the provider's API.
        provider: the provider.
        account: the account at the provider.
        open_paths: paths at and below which every caller is let through.
    """

    def __init__(self, book: PriceBook, provider: str, account: str, open_paths: Iterable[str]) -> None:
        self._provider = provider
        self._account_name = account
        self._formats = book.api_formats(provider)
        self._open = [lenient_segments(path) for path in open_paths]
        matrices = [book.matrices[name] for name in self._formats]
        self._account: list[PathPattern] = [pattern for matrix in matrices for pattern in matrix.http.account]
        self._lists = {lenient_segments(path) for matrix in matrices for path in matrix.http.task_lists}
        self._places: list[_Place] = []
        for matrix in matrices:
            paths = [
                path
                for entry in matrix.submissions
                for path in (entry.status, *entry.other_status, entry.cancel)
                if path is not None
            ]
            for path in dict.fromkeys(paths):
                location, _, query = path.partition("?")
                parts = tuple(location.strip("/").split("/"))
                self._places.append(_Place(parts, query.partition("=")[0], matrix.wire_format))

    def is_open(self, segments: Segments) -> bool:
        """Returns whether the settings let every caller use a path."""
        folded = lenient_segments(segments)
        return any(folded[: len(above)] == above for above in self._open)

    def concerns_account(self, segments: Segments) -> bool:
        """Returns whether a path concerns the whole account, such as its balance."""
        folded = lenient_segments(segments)
        return any(is_below(folded, pattern.segments) for pattern in self._account)

    def may_list(self, segments: Segments) -> bool:
        """Returns whether a server may read a path as that of a list of tasks, in any spelling."""
        folded = lenient_segments(segments)
        return any(is_below(folded, path) for path in self._lists)

    def tasks_in(self, segments: Segments) -> NamedTasks:
        """Returns the tasks that a path names, wherever in the path they are named."""
        ids: set[str] = set()
        wire_format = ""
        for start in range(len(segments)):
            matching = [
                (place.literals, task, place.wire_format)
                for place in self._places
                if not place.parameter and (task := place.task_at(segments, start)) is not None
            ]
            most = max((literals for literals, _, _ in matching), default=0)
            for literals, task, name in matching:
                if literals == most:  # `/v1/videos/text2video/{task_id}` rather than `/v1/videos/{task_id}`
                    ids.add(task)
                    wire_format = wire_format or name
        return NamedTasks(frozenset(ids), wire_format)

    def tasks_in_query(self, query: str) -> frozenset[str]:
        """Returns the tasks that a query names."""
        names = {place.parameter for place in self._places if place.parameter}
        pairs = [part.partition("=") for part in query.split("&") if part]
        return frozenset(
            task
            for name, _, value in pairs
            if unquote_plus(name) in names
            for task in unquote_plus(value).split(",")
        )

    def belongs(self, guard: BudgetGuard, project: str, task_id: str) -> bool:
        """Returns whether the ledger has a task of this project, by its id or by the reservation's own id.

        The task was sent from this account: a caller may bind any task to what it sends from elsewhere.
        """
        refs: tuple[Ref, ...] = ((self._provider, task_id), task_id)
        for ref in refs:
            try:
                reservation = guard.reservation(ref)
            except ReservationNotFoundError:
                continue
            except KlingPricingError as error:
                if type(error) is KlingPricingError:  # no reservation can have such a task
                    return False
                raise
            found = reservation.project, reservation.provider, reservation.account
            return found == (project, self._provider, self._account_name)
        return False

    def filtered(self, guard: BudgetGuard, project: str, body: bytes) -> bytes | None:
        """Returns a response that lists tasks with those of one project alone; None: it cannot be filtered."""
        try:
            answer = read_answer(body)
        except WireFormatError:
            return None
        listed = listed_tasks(answer)
        if listed is None:
            own = self._own(guard, project, answer)
            return body if own else None
        kept = [item for item in listed if self._own(guard, project, item)]
        return _written(_with_tasks(answer, kept))

    def _own(self, guard: BudgetGuard, project: str, item: Mapping[str, Any]) -> bool:
        ids = set(self._ids(item))
        return bool(ids) and all(self.belongs(guard, project, task_id) for task_id in ids)

    def _ids(self, item: Mapping[str, Any]) -> Iterator[str]:
        for name in self._formats:
            with suppress(WireFormatError):
                task_id = wire_format_named(name).read_task(item).task_id
                if task_id is not None:
                    yield task_id


_DECIMAL_MARK = f"decimal-{uuid4().hex}:"
_MARKED = re.compile(f'"{_DECIMAL_MARK}([^"]*)"')


def _written(answer: Mapping[str, Any]) -> bytes:
    """Returns a response as JSON. Its decimal numbers keep all their digits."""
    text = json.dumps(answer, default=lambda number: f"{_DECIMAL_MARK}{number}")
    return _MARKED.sub(r"\1", text).encode()


def _with_tasks(answer: Mapping[str, Any], kept: list[Mapping[str, Any]]) -> dict[str, Any]:
    """Returns a response with other tasks. Its numbers of tasks tell nothing about those left out."""
    data = answer.get("data")
    if isinstance(data, Mapping):
        return {**_counted(answer, len(kept)), "data": {**_counted(data, len(kept)), "result": kept}}
    return {**_counted(answer, len(kept)), "data": kept}


_COUNTS = {"count", "total", "total_count"}


def _counted(mapping: Mapping[str, Any], number: int) -> dict[str, Any]:
    return {name: number if name in _COUNTS else value for name, value in mapping.items()}
