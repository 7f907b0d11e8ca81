"""Requests from files: one JSON object, a JSON array, or JSON Lines, which are read as they come."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from io import BufferedIOBase
from itertools import chain, dropwhile, filterfalse
from pathlib import Path
from select import select
from typing import Any, NamedTuple

from rich.console import Console
from rich.progress import Progress

from kling_pricing.errors import KlingPricingError, WireFormatError
from kling_pricing.strict_json import as_object, json_value

_LINES = (".jsonl", ".ndjson")
_BLOCK_BYTES = 1 << 16
_PATIENCE_S = 1
"""How long a stream may pause after its first request before that is answered as the first of several."""


class UnreadableInputError(KlingPricingError):
    """A file that cannot be opened or is not JSON at all."""


class Item(NamedTuple):
    """One request of an input.

    Attributes:
        source: the input's name.
        number: its line, or its place in an array, from 1; None when the input is one request.
        request: the payload, its line of JSON that is still to be read, or why the input cannot be read.
        alone: whether the input holds no other.
    """

    source: str
    number: int | None
    request: Any
    alone: bool = False

    @property
    def place(self) -> str:
        """Where it stands, for messages: `requests.jsonl:3`."""
        return self.source if self.number is None else f"{self.source}:{self.number}"


class RequestFile(NamedTuple):
    """An opened input.

    Attributes:
        name: for messages.
        stream: what it holds.
        advance: is told how many bytes were read.
    """

    name: str
    stream: BufferedIOBase
    advance: Callable[[int], None]

    def read(self) -> bytes:
        """What can be had, at most a block; nothing at the end."""
        block = self.stream.read1(_BLOCK_BYTES)
        self.advance(len(block))
        return block

    def pauses(self) -> bool:
        """Whether it has nothing more to read, and has not ended, for as long as anybody may have to wait."""
        try:
            return not select([self.stream], [], [], _PATIENCE_S)[0]
        except (OSError, ValueError):  # neither a file nor a pipe, or a system that cannot tell
            return False


@contextmanager
def opened(path: str) -> Iterator[RequestFile]:
    """Opens a file, or standard input for `-`; shows a progress bar when that disturbs no other output.

    Raises:
        UnreadableInputError: it cannot be opened.
    """
    with ExitStack() as closing:
        if path == "-" and sys.stdin is None:
            raise UnreadableInputError("standard input: is closed")
        stream: Any
        if path == "-":
            name, stream, size_bytes = "standard input", sys.stdin.buffer, None
        else:
            try:
                stream = closing.enter_context(Path(path).open("rb"))
            except OSError as error:
                raise _unreadable(path, error) from None
            name, size_bytes = path, Path(path).stat().st_size
        console = Console(stderr=True)
        if console.is_terminal and not sys.stdout.isatty():
            bar = closing.enter_context(Progress(console=console, transient=True, redirect_stdout=False))
            task = bar.add_task(name, total=size_bytes)
            yield RequestFile(name, stream, lambda size: bar.advance(task, size))
        else:
            yield RequestFile(name, stream, lambda _: None)


def items(source: RequestFile) -> Iterator[Item | None]:
    """The requests of one input, in order; None wherever what follows may be long in coming.

    Raises:
        UnreadableInputError: the input is neither JSON nor JSON Lines.
    """
    yield None
    try:
        yield from _items(source)
    except OSError as error:
        raise _unreadable(source.name, error) from None


def whole(path: str) -> bytes:
    """Everything in an input.

    Raises:
        UnreadableInputError: it cannot be read.
    """
    with opened(path) as source:
        try:
            return b"".join(iter(source.read, b""))
        except OSError as error:
            raise _unreadable(source.name, error) from None


def only_request(path: str) -> tuple[str, Mapping[str, Any]]:
    """The name of an input, and the only request in it.

    Raises:
        UnreadableInputError: it holds none, or several.
    """
    with opened(path) as source:
        found = filter(None, items(source))
        item = next(found, None)
        if item is None or next(found, None) is not None:
            raise UnreadableInputError(f"{source.name}: give one request, no more and no fewer")
        try:
            return source.name, as_object(
                json_value(item.request) if isinstance(item.request, bytes) else item.request
            )
        except WireFormatError as error:
            raise UnreadableInputError(f"{source.name}: {error}") from None


def _unreadable(name: str, error: OSError) -> UnreadableInputError:
    return UnreadableInputError(
        f"{name}: {error.strerror}; name a file that can be read, or - for standard input"
    )


def _items(source: RequestFile) -> Iterator[Item | None]:
    name, number, blocks = source.name, 1, _blocks(source)
    for block in blocks:
        lines = [*dropwhile(_is_blank, block)]
        number += len(block) - len(lines)
        if lines:
            break
    else:
        raise UnreadableInputError(f"{name}: is empty; give a JSON object, an array or JSON Lines")
    first = lines[0]
    if name.endswith(_LINES) or _is_whole_object(first):
        yield from _json_lines(source, number, lines, blocks)
        return
    lines += chain.from_iterable(blocks)
    try:
        value = json_value(b"\n".join(lines))
    except WireFormatError as error:
        second = next(filterfalse(_is_blank, lines[1:]), b"")
        if (first.lstrip().startswith(b"{") and first.rstrip().endswith(b"}")) or _is_whole_object(second):
            requests = [(here, line) for here, line in enumerate(lines, number) if not _is_blank(line)]
            for here, line in requests:
                yield Item(name, here, line, alone=len(requests) == 1)
            return
        raise UnreadableInputError(f"{name}: {error}") from None
    if isinstance(value, list):
        for place, element in enumerate(value, start=1):
            yield Item(name, place, element, alone=len(value) == 1)
    else:
        yield Item(name, None, value, alone=True)


def _blocks(source: RequestFile) -> Iterator[list[bytes]]:
    """The lines of an input, without their ends, as many together as can be had at a time."""
    begun: list[bytes] = []
    beginning = source.read().removeprefix(b"\xef\xbb\xbf")
    for block in chain([beginning], iter(source.read, b"")):
        whole_lines, ended, rest = block.rpartition(b"\n")
        if ended:
            yield b"".join((*begun, whole_lines)).split(b"\n")
            begun = []
        begun.append(rest)
    yield [b"".join(begun)]


def _is_blank(line: bytes) -> bool:
    return not line or line.isspace()


def _is_whole_object(line: bytes) -> bool:
    try:
        return isinstance(json_value(line), dict)
    except WireFormatError:
        return False


def _json_lines(
    source: RequestFile, number: int, lines: list[bytes], blocks: Iterator[list[bytes]]
) -> Iterator[Item | None]:
    """One request a line.

    The first waits for what follows, because an input of a single line is simply one request, but it does not
    wait long: who writes line by line may want the answer to one before writing the next.
    """
    name, here, first = source.name, number, lines.pop(0)
    number += 1
    while all(map(_is_blank, lines)) and not source.pauses():
        block = next(blocks, None)
        if block is None:
            yield Item(name, None, first, alone=True)
            return
        number += len(lines)
        lines = block
    yield Item(name, here, first)
    for block in chain([lines], blocks):
        for line in block:
            if line and not line.isspace():
                yield Item(name, number, line)
            number += 1
        yield None
