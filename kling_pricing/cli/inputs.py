"""Reads requests from files that contain a JSON object, a JSON array or JSON Lines.

JSON Lines are read line by line.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from io import BufferedIOBase
from itertools import chain, dropwhile, filterfalse
from pathlib import Path
from select import select
from typing import Any, NamedTuple

from kling_pricing.display import printable
from kling_pricing.errors import KlingPricingError, WireFormatError
from kling_pricing.shot_lists.shots import ShotRow
from kling_pricing.strict_json import as_object, json_value

_LINES = (".jsonl", ".ndjson")
_BLOCK_BYTES = 1 << 16
_PATIENCE_S = 1
"""Seconds that a stream may pause after its first line before that line counts as the first of several."""


class UnreadableInputError(KlingPricingError):
    """An input cannot be opened, or is not JSON."""


class Item(NamedTuple):
    """One request from an input.

    Attributes:
        source: the input's name.
        number: the request's line, or its position in an array, from 1; None if the input is one JSON object.
        request: the payload, a line of JSON that is not parsed yet, or the error of an unreadable input or row.
        alone: whether it is the input's only request.
        row: its row, if the input is a shot list.
    """

    source: str
    number: int | None
    request: Any
    alone: bool = False
    row: ShotRow | None = None

    @property
    def place(self) -> str:
        """Where the request came from, as messages show it, such as `requests.jsonl:3`."""
        return self.source if self.number is None else f"{self.source}:{self.number}"


class RequestFile(NamedTuple):
    """An opened input.

    Attributes:
        name: the input's name in messages.
        stream: its bytes.
        advance: called with the number of bytes read, for the progress bar.
    """

    name: str
    stream: BufferedIOBase
    advance: Callable[[int], None]

    def read(self) -> bytes:
        """Returns the bytes that are available, at most one block; empty at the end of the input."""
        block = self.stream.read1(_BLOCK_BYTES)
        self.advance(len(block))
        return block

    def pauses(self) -> bool:
        """Returns whether the input is still open but no bytes arrive within `_PATIENCE_S`."""
        try:
            return not select([self.stream], [], [], _PATIENCE_S)[0]
        except (OSError, ValueError):  # not a file or pipe, or not supported by the system
            return False


@contextmanager
def opened(path: str) -> Iterator[RequestFile]:
    """Opens a file, or standard input for `-`, and shows a progress bar if it cannot disturb other output.

    Raises:
        UnreadableInputError: the file cannot be opened, or standard input is closed.
    """
    with ExitStack() as closing:
        if path == "-" and sys.stdin is None:
            raise UnreadableInputError("standard input is closed; give a file")
        stream: Any
        if path == "-":
            name, stream, size_bytes = input_name(path), sys.stdin.buffer, None
        else:
            try:
                stream = closing.enter_context(Path(path).open("rb"))
            except OSError as error:
                raise _unreadable(path, error) from None
            name, size_bytes = path, Path(path).stat().st_size
        if sys.stdout.isatty() or sys.stderr is None or not sys.stderr.isatty():
            yield RequestFile(name, stream, lambda _: None)
            return
        from rich.console import Console  # noqa: PLC0415 (slow to import)
        from rich.progress import Progress  # noqa: PLC0415

        from kling_pricing.cli.terminal import bar_columns  # noqa: PLC0415 (imports rich)

        console = Console(stderr=True)
        bar = closing.enter_context(
            Progress(*bar_columns(), console=console, transient=True, redirect_stdout=False)
        )
        task = bar.add_task(printable(name), total=size_bytes)
        yield RequestFile(name, stream, lambda size: bar.advance(task, size))


def items(source: RequestFile) -> Iterator[Item | None]:
    """Yields the requests from one input in order, and None whenever the next request may be slow to arrive.

    Raises:
        UnreadableInputError: the input is neither JSON nor JSON Lines.
    """
    yield None
    try:
        yield from _items(source)
    except OSError as error:
        raise _unreadable(source.name, error) from None


def input_name(path: str) -> str:
    """Returns the name of an input in messages."""
    return "standard input" if path == "-" else path


def whole(path: str) -> bytes:
    """Reads a whole input.

    Raises:
        UnreadableInputError: the input cannot be read.
    """
    with opened(path) as source:
        try:
            return b"".join(iter(source.read, b""))
        except OSError as error:
            raise _unreadable(source.name, error) from None


def only_request(path: str) -> tuple[str, Mapping[str, Any]]:
    """Returns the name of an input and its only request.

    Raises:
        UnreadableInputError: the input cannot be read, or does not contain exactly one request.
    """
    with opened(path) as source:
        requests = filter(None, items(source))
        item = next(requests, None)
        if item is None or next(requests, None) is not None:
            raise UnreadableInputError(
                f"{source.name}: must contain exactly one request; run the command once per request"
            )
        try:
            return source.name, as_object(
                json_value(item.request) if isinstance(item.request, bytes) else item.request
            )
        except WireFormatError as error:
            raise UnreadableInputError(f"{source.name}: {error}") from None


def _unreadable(name: str, error: OSError) -> UnreadableInputError:
    return UnreadableInputError(
        f"{name}: cannot be read: {error.strerror}; give a file, or - for standard input"
    )


def _items(source: RequestFile) -> Iterator[Item | None]:
    name, number, blocks = source.name, 1, _blocks(source)
    for block in blocks:
        lines = [*dropwhile(_is_blank, block)]
        number += len(block) - len(lines)
        if lines:
            break
    else:
        raise UnreadableInputError(
            f"{name}: the input is empty; give a JSON object, a JSON array or JSON Lines"
        )
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
        raise UnreadableInputError(f"{name}: {error}{_list_remedy(first)}") from None
    if isinstance(value, list):
        for place, element in enumerate(value, start=1):
            yield Item(name, place, element, alone=len(value) == 1)
    else:
        yield Item(name, None, value, alone=True)


def _blocks(source: RequestFile) -> Iterator[list[bytes]]:
    """Yields the lines of an input without line endings, one group per block that arrives."""
    unfinished: list[bytes] = []
    beginning = source.read().removeprefix(b"\xef\xbb\xbf")
    for block in chain([beginning], iter(source.read, b"")):
        whole_lines, ended, rest = block.rpartition(b"\n")
        if ended:
            yield b"".join((*unfinished, whole_lines)).split(b"\n")
            unfinished = []
        unfinished.append(rest)
    yield [b"".join(unfinished)]


def _is_blank(line: bytes) -> bool:
    return not line or line.isspace()


def _list_remedy(first: bytes) -> str:
    """Returns how to read an input that begins like a table, such as a shot list on standard input."""
    if first.lstrip()[:1] in {b"{", b"["} or not any(mark in first for mark in (b",", b";", b"\t")):
        return ""
    return "; if it is a shot list, give a file whose name ends in .csv or .tsv"


def _is_whole_object(line: bytes) -> bool:
    try:
        return isinstance(json_value(line), dict)
    except WireFormatError:
        return False


def _json_lines(
    source: RequestFile, number: int, lines: list[bytes], blocks: Iterator[list[bytes]]
) -> Iterator[Item | None]:
    """Yields one request per line.

    An input with a single line counts as one request, so the first line is held back until a second line
    arrives. The wait is short, because a program may need the result for one line before it writes the next.
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
