"""The wire formats and the paths of a provider, as listed in the tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from kling_pricing.errors import KlingPricingError
from kling_pricing.tables.capabilities import CapabilityMatrix
from kling_pricing.tables.price_book import PriceBook


class SubmissionPath(NamedTuple):
    """A path that accepts submissions in one wire format.

    Attributes:
        path: the path.
        wire_format: the wire format.
        actions: the actions that the path supports; empty: all, as the payload decides.
        model: the model to use if the payload names none; None: a model is required.
        status: the path that returns a task; None: the response to the submission contains the result.
    """

    path: str
    wire_format: str
    actions: tuple[str, ...]
    model: str | None
    status: str | None


class TaskPath(NamedTuple):
    """A path that returns or cancels one task.

    Attributes:
        segments: the path, split at slashes; the segment in braces stands for the task's id.
        wire_format: the wire format.
        kind: `status` or `cancel`.
    """

    segments: tuple[str, ...]
    wire_format: str
    kind: str


def segments_of(path: str) -> tuple[str, ...]:
    """Returns a path, split at slashes."""
    return tuple(path.strip("/").split("/"))


def submission_paths(matrices: Iterable[CapabilityMatrix]) -> Mapping[str, tuple[SubmissionPath, ...]]:
    """Returns path -> the entries for submissions at this path, in the order of the wire formats."""
    paths: dict[str, tuple[SubmissionPath, ...]] = {}
    for matrix in matrices:
        for entry in matrix.submissions:
            served = SubmissionPath(entry.path, matrix.wire_format, entry.actions, entry.model, entry.status)
            paths[entry.path] = (*paths.get(entry.path, ()), served)
    return paths


def task_paths(matrices: Iterable[CapabilityMatrix]) -> tuple[TaskPath, ...]:
    """Returns the paths that return or cancel one task."""
    paths = []
    for matrix in matrices:
        for entry in matrix.submissions:
            named: list[Any] = [("status", path) for path in (entry.status, *entry.other_status)]
            for kind, path in [*named, ("cancel", entry.cancel)]:
                if path is not None and "?" not in path:
                    paths.append(TaskPath(segments_of(path), matrix.wire_format, kind))
    return tuple(dict.fromkeys(paths))


def task_at(paths: Iterable[TaskPath], method: str, path: str) -> tuple[str, str, str] | None:
    """Returns the wire format, kind and task id of a request about one task; None: it is another request."""
    segments = segments_of(path)
    for served in paths:
        fits = len(segments) == len(served.segments) and all(
            pattern == segment or pattern.startswith("{")
            for pattern, segment in zip(served.segments, segments, strict=True)
        )
        if fits and method == ("GET" if served.kind == "status" else "POST"):
            place = next(place for place, pattern in enumerate(served.segments) if pattern.startswith("{"))
            return served.wire_format, served.kind, segments[place]
    return None


def formats_of(name: str, book: PriceBook) -> tuple[str, ...]:
    """Returns the wire formats of a provider's API; if it has none, those that its price tables also price."""
    if book.formats.get(name):
        return book.formats[name]
    return tuple(dict.fromkeys(known for table in book.tables[name] for known in table.also_prices))


def priced_by(name: str, book: PriceBook) -> str:
    """Returns the provider whose tables price a provider's jobs: itself, or the first that prices its API.

    Raises:
        KlingPricingError: no price table covers its API.
    """
    if name in book.tables:
        return name
    main = formats_of(name, book)[0]
    for other, tables in sorted(book.tables.items()):
        if any(main in table.priced_formats for table in tables):
            return other
    raise KlingPricingError(
        f"no price table covers the API of {name}; in the scenario, set providers.{name}.prices to a provider "
        "whose price tables cover this API"
    )
