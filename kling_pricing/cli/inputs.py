"""Requests from files: one JSON object, a JSON array, or JSON Lines, which are read one line at a time."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

from rich.console import Console
from rich.progress import Progress

from kling_pricing.errors import KlingPricingError, WireFormatError
from kling_pricing.intake import as_object, json_value

_LINES = (".jsonl", ".ndjson")


class UnreadableInputError(KlingPricingError):
    """A file that cannot be opened or is not JSON at all."""


class Item(NamedTuple):
    """One request of an input.

    Attributes:
        source: the input's name.
        number: its line, or its place in an array, from 1; None when the input is one request.
        request: the payload, its line of JSON that is still to be read, or why the input cannot be read.
    """

    source: str
    number: int | None
    request: Any

    @property
    def place(self) -> str:
        """Where it stands, for messages: `requests.jsonl:3`."""
        return self.source if self.number is None else f"{self.source}:{self.number}"


class Source(NamedTuple):
    """An opened input and its name."""

    name: str
    stream: IO[bytes]


@contextmanager
def opened(path: str) -> Iterator[Source]:
    """Opens a file, or standard input for `-`; shows a progress bar when that disturbs no other output.

    Raises:
        UnreadableInputError: it cannot be opened.
    """
    with ExitStack() as closing:
        if path == "-" and sys.stdin is None:
            raise UnreadableInputError("standard input: is closed")
        if path == "-":
            name, stream, size_bytes = "standard input", sys.stdin.buffer, None
        else:
            try:
                stream = closing.enter_context(Path(path).open("rb"))
            except OSError as error:
                raise UnreadableInputError(f"{path}: {error.strerror}") from None
            name, size_bytes = path, Path(path).stat().st_size
        console = Console(stderr=True)
        if console.is_terminal and not sys.stdout.isatty():
            bar = closing.enter_context(Progress(console=console, transient=True, redirect_stdout=False))
            task = bar.add_task(name, total=size_bytes)
            stream = closing.enter_context(bar.wrap_file(stream, task_id=task))
        yield Source(name, stream)


def items(source: Source) -> Iterator[Item]:
    """The requests of one input, in order.

    Raises:
        UnreadableInputError: the input is neither JSON nor JSON Lines.
    """
    try:
        yield from _items(source)
    except OSError as error:
        raise UnreadableInputError(f"{source.name}: {error.strerror}") from None


def whole(path: str) -> bytes:
    """Everything in an input.

    Raises:
        UnreadableInputError: it cannot be read.
    """
    with opened(path) as source:
        try:
            return source.stream.read()
        except OSError as error:
            raise UnreadableInputError(f"{source.name}: {error.strerror}") from None


def only_request(path: str) -> tuple[str, Mapping[str, Any]]:
    """The name of an input, and the only request in it.

    Raises:
        UnreadableInputError: it holds none, or several.
    """
    with opened(path) as source:
        found = items(source)
        item = next(found, None)
        if item is None or next(found, None) is not None:
            raise UnreadableInputError(f"{source.name}: give one request, no more and no fewer")
        try:
            return source.name, as_object(
                json_value(item.request) if isinstance(item.request, bytes) else item.request
            )
        except WireFormatError as error:
            raise UnreadableInputError(f"{source.name}: {error}") from None


def _items(source: Source) -> Iterator[Item]:
    number, first = _first_line(source.stream)
    if not first:
        raise UnreadableInputError(f"{source.name}: is empty; give a JSON object, an array or JSON Lines")
    if source.name.endswith(_LINES) or _is_whole_object(first):
        yield from _lines(source, number, first)
        return
    rest = source.stream.read()
    try:
        value = json_value(first + rest)
    except WireFormatError as error:
        second = next(filter(bytes.strip, rest.splitlines()), b"")
        if (first.lstrip().startswith(b"{") and first.rstrip().endswith(b"}")) or _is_whole_object(second):
            yield from _split_lines(source.name, number, first + rest)
            return
        raise UnreadableInputError(f"{source.name}: {error}") from None
    if isinstance(value, list):
        for place, element in enumerate(value, start=1):
            yield Item(source.name, place, element)
    else:
        yield Item(source.name, None, value)


def _first_line(stream: IO[bytes]) -> tuple[int, bytes]:
    """The first line that is not blank, and its number."""
    for number, line in enumerate(stream, start=1):
        if line.strip():
            return number, line.removeprefix(b"\xef\xbb\xbf")
    return 0, b""


def _is_whole_object(line: bytes) -> bool:
    try:
        return isinstance(json_value(line), dict)
    except WireFormatError:
        return False


def _lines(source: Source, number: int, first: bytes) -> Iterator[Item]:
    """One request a line; a file of a single line is simply one request."""
    name, line, alone = source.name, first, True
    for here, following in enumerate(source.stream, start=number + 1):
        if not following.isspace():
            yield Item(name, number, line)
            number, line, alone = here, following, False
    yield Item(name, None if alone else number, line)


def _split_lines(name: str, number: int, data: bytes) -> Iterator[Item]:
    for here, line in enumerate(data.splitlines(), start=number):
        if line.strip():
            yield Item(name, here, line)
