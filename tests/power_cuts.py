"""Crash states of a folder: how a power cut may leave the files that a program wrote.

`traced` runs a program under `strace`, and returns what it did to a folder, in order, with the lines that it
acknowledged. `Disk` replays these events up to a point, and then invents a state of the folder after a power
cut: everything that was synced is there, and of everything else any part, in any order.
"""

import json
import os
import random
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.conftest import program

SECTORS_BYTES = (512, 4096)
"""The amounts that a disk may write at once."""

_SHARED_MEMORY = "-shm"
"""The end of the name of SQLite's shared memory, which is never synced and which SQLite makes anew."""

_HANDLED = (
    *("openat", "lseek", "write", "pwrite64", "ftruncate", "fsync", "fdatasync"),
    *("unlink", "unlinkat", "rename", "mmap"),
)
_REFUSED = (
    *("open", "creat", "writev", "pwritev", "pwritev2", "truncate", "fallocate", "copy_file_range", "sendfile"),
    *("splice", "link", "linkat", "renameat", "renameat2", "symlink", "symlinkat"),
)
"""Calls that could change files in ways that `Disk` does not know. They must not touch the folder."""


class Event(NamedTuple):
    """A call that changed the folder, or a line that the program acknowledged.

    Attributes:
        kind: `create`, `write`, `resize`, `sync`, `remove`, `rename`, `sync folder` or `acknowledge`.
        name: the name of the file in the folder.
        offset: of a `write`, the offset in bytes; of a `resize`, the new size in bytes.
        data: of a `write`, the bytes; of an `acknowledge`, the line.
        new_name: of a `rename`, the new name.
    """

    kind: str
    name: str = ""
    offset: int = 0
    data: bytes = b""
    new_name: str = ""

    def __str__(self) -> str:
        """Returns the event as a line of a script."""
        match self.kind:
            case "write":
                return f"write        {self.name}: {len(self.data)} bytes at {self.offset}"
            case "resize":
                return f"resize       {self.name}: {self.offset} bytes"
            case "rename":
                return f"rename       {self.name} to {self.new_name}"
            case "acknowledge":
                return f"acknowledge  {self.data.decode()[:100]}"
        return f"{self.kind:<12} {self.name}".rstrip()


# a trace becomes events


def traced(script: str, scene: str, folder: Path, acknowledged: Path, **arguments: Any) -> list[Event]:
    """Runs a scene of a script under `strace`; returns its events. The final folder must agree with them.

    Without `strace`, or on a system that does not let it trace, the test is skipped; in CI it fails.

    Args:
        script: the script. Its arguments are the scene, the folder, `acknowledged` and the JSON of `arguments`.
        scene: the name of the scene.
        folder: the folder whose files are traced. The files that it already has count as synced.
        acknowledged: the file to which the script appends a line after each answer, outside the folder.
        arguments: further arguments.
    """
    before = contents(folder)
    trace = acknowledged.with_suffix(".trace")
    command = [
        *(program("strace"), "-f", "--seccomp-bpf", "-y", "-xx", "-s", "100000000", "-e", "signal=none"),
        *("-o", str(trace), "-e", f"trace={','.join(_HANDLED + _REFUSED)}"),
        *(sys.executable, script, scene, str(folder), str(acknowledged), json.dumps(arguments)),
    ]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if "PTRACE" in result.stderr and "not permitted" in result.stderr:
        assert not os.environ.get("CI"), f"in CI nothing is skipped: {result.stderr}"
        pytest.skip("this system does not let strace trace")
    assert result.returncode == 0, result.stderr
    with trace.open(encoding="ascii") as lines:
        events = list(_Calls(folder, acknowledged, before).events(lines))
    disk = Disk(before)
    for event in events:
        disk.apply(event)
    assert disk.contents() == contents(folder), "the trace does not explain the folder"
    return events


def contents(folder: Path) -> dict[str, bytes]:
    """Returns the files of a folder by name, without SQLite's shared memory."""
    files = {path.name: path for path in folder.iterdir() if not path.name.endswith(_SHARED_MEMORY)}
    return {name: path.read_bytes() for name, path in files.items()}


_CALL = re.compile(r"(\d+) +(\w+)\((.*)\) += (-?\d+|0x[0-9a-f]+|\?)(.*)")
_UNFINISHED = " <unfinished ...>"
_RESUMED = re.compile(r"(\d+) +<\.\.\. \w+ resumed>(.*)")
_DESCRIPTOR = re.compile(r"(\d+|AT_FDCWD)<((?:\\x[0-9a-f]{2}|[^>])*)>(\(deleted\))?")


class _Calls:
    """Reads the calls in a trace of one folder."""

    def __init__(self, folder: Path, acknowledged: Path, names: Iterable[str]) -> None:
        self._folder = folder
        self._acknowledged = acknowledged
        self._names = set(names)
        self._positions: dict[str, int] = {}

    def events(self, lines: Iterable[str]) -> Iterator[Event]:
        """Yields the events. A call during which another thread made calls counts when it returned."""
        begun: dict[str, str] = {}
        for line in map(str.rstrip, lines):
            if line.endswith(_UNFINISHED):
                process, call_begun = line.removesuffix(_UNFINISHED).split(maxsplit=1)
                begun[process] = call_begun
                continue
            resumed = _RESUMED.fullmatch(line)
            whole = f"{resumed[1]} {begun.pop(resumed[1])}{resumed[2]}" if resumed else line
            call = _CALL.fullmatch(whole)
            if call is not None and call[4] not in {"-1", "?"}:
                yield from self._of_call(call[2], call[3].split(", "), call[4], call[5])

    def _of_call(self, call: str, arguments: Sequence[str], result: str, opened: str) -> Iterator[Event]:
        if call == "openat":
            yield from self._of_open(_path(arguments[0], arguments[1]), arguments[2], f"{result}{opened}")
            return
        path = _path(*arguments[:2]) if call == "unlinkat" else _path(arguments[0])
        if call == "lseek":
            self._positions[arguments[0]] = int(result)
        elif call == "write" and path == self._acknowledged:
            yield Event("acknowledge", data=_bytes(arguments[1]).rstrip(b"\n"))
        elif path == self._folder and call in {"fsync", "fdatasync"}:
            yield Event("sync folder")
        elif call == "mmap":
            self._refuse_mapping(arguments[2], arguments[3], _path(arguments[4]))
        elif path.parent == self._folder:
            assert call in _HANDLED, f"{call} changes {path} in a way that is not replayed"
            yield from self._of_file(call, path.name, arguments, int(result))

    def _of_open(self, path: Path, flags: str, descriptor: str) -> Iterator[Event]:
        self._positions[descriptor] = 0
        if path.parent == self._folder:
            assert "O_APPEND" not in flags, f"{path} is appended to, which is not replayed"
            if "O_CREAT" in flags and path.name not in self._names:
                self._names.add(path.name)
                yield Event("create", path.name)
            elif "O_TRUNC" in flags:
                yield Event("resize", path.name, 0)

    def _refuse_mapping(self, protection: str, flags: str, path: Path) -> None:
        """Refuses a mapping through which files could change unseen."""
        if "PROT_WRITE" in protection and "MAP_SHARED" in flags and path.parent == self._folder:
            assert path.name.endswith(_SHARED_MEMORY), f"{path} is written through memory"

    def _of_file(self, call: str, name: str, arguments: Sequence[str], result: int) -> Iterator[Event]:
        descriptor = arguments[0]
        match call:
            case "pwrite64":
                yield Event("write", name, int(arguments[3]), _bytes(arguments[1])[:result])
            case "write":
                yield Event("write", name, self._positions[descriptor], _bytes(arguments[1])[:result])
                self._positions[descriptor] += result
            case "ftruncate":
                yield Event("resize", name, int(arguments[1]))
            case "fsync" | "fdatasync":
                yield Event("sync", name)
            case "unlink" | "unlinkat":
                self._names.discard(name)
                yield Event("remove", name)
            case "rename":
                new_name = _path(arguments[1]).name
                self._names = self._names - {name} | {new_name}
                yield Event("rename", name, new_name=new_name)


def _bytes(argument: str) -> bytes:
    """Returns the bytes of a string in a trace."""
    content = bytes.fromhex(argument[1:-1].replace("\\x", ""))
    assert argument[0] == argument[-1] == '"', argument[:80]
    assert len(argument) == len(r"\x00") * len(content) + 2, argument[:80]
    return content


@cache  # a trace names few paths, many times
def _path(argument: str, below: str = "") -> Path:
    """Returns the path of a descriptor or a string, perhaps of a string below it; without a path, an empty one.

    The path of a file that has been removed ends with `(deleted)`, so that no event can use it.
    """
    path = Path()
    if descriptor := _DESCRIPTOR.fullmatch(argument):
        escaped = re.sub(r"\\x([0-9a-f]{2})", lambda code: chr(int(code[1], 16)), descriptor[2])
        path = Path(os.fsdecode(escaped.encode("latin-1")) + (descriptor[3] or ""))
    elif argument.startswith('"'):
        path = Path(os.fsdecode(_bytes(argument)))
    return path / os.fsdecode(_bytes(below)) if below else path


# events become states


Change = Event
"""A `write` or a `resize` of one file."""


@dataclass(eq=False)
class File:
    """A file: its content that is certainly on the disk, and the changes since then."""

    synced: bytes = b""
    pending: list[Change] = field(default_factory=list)

    def content(self) -> bytes:
        """Returns the content that programs see."""
        return _changed(self.synced, self.pending)

    def sync(self) -> None:
        """Puts every change on the disk."""
        self.synced, self.pending = self.content(), []

    def after_cut(self, dice: random.Random, damage: str) -> bytes:
        """Returns the content after a power cut with one kind of damage."""
        changes = self.pending
        match damage:
            case "kept":
                return self.content()
            case "dropped":
                return self.synced
            case "in part":
                return _changed(self.synced, changes[: dice.randrange(len(changes) + 1)])
        sector = dice.choice(SECTORS_BYTES)
        pieces = (
            [piece for change in changes for piece in _torn(change, sector)] if "torn" in damage else changes
        )
        part = dice.choice((0.2, 0.5, 0.9))
        kept = [piece for piece in pieces if dice.random() < part]
        if "reordered" in damage:
            dice.shuffle(kept)
        return _changed(self.synced, kept)


DAMAGES = ("kept", "dropped", "in part", "some dropped", "reordered", "torn", "torn and reordered")
"""The kinds of damage to changes that were not synced."""


class Disk:
    """A folder as programs see it, and the part of it that a power cut leaves for certain.

    Args:
        files: the files at the start, by name; they are synced.
        honours_syncs: whether syncing has an effect. Without it, every state may lack anything.
    """

    def __init__(self, files: Mapping[str, bytes], *, honours_syncs: bool = True) -> None:
        self._honours_syncs = honours_syncs
        self._names = {name: File(content) for name, content in files.items()}
        self._synced_names = dict(self._names)
        self._pending: list[dict[str, File | None]] = []

    def apply(self, event: Event) -> None:
        """Makes the change of an event."""
        match event.kind:
            case "create":
                self._rename({event.name: File()})
            case "remove":
                self._rename({event.name: None})
            case "rename":
                self._rename({event.name: None, event.new_name: self._names[event.name]})
            case "write" | "resize":
                self._names[event.name].pending.append(event)
            case "sync" if self._honours_syncs:
                self._names[event.name].sync()
            case "sync folder" if self._honours_syncs:
                self._synced_names, self._pending = dict(self._names), []

    def _rename(self, change: dict[str, File | None]) -> None:
        self._pending.append(change)
        self._names = _renamed(self._names, [change])

    def contents(self) -> dict[str, bytes]:
        """Returns the files that programs see, without SQLite's shared memory."""
        return _contents(self._names)

    def after_cut(self, dice: random.Random) -> tuple[dict[str, bytes], str]:
        """Returns the files after a power cut, with a description of the damage.

        Names that were created, removed or changed since the folder was synced may be there or not.
        """
        of_names = dice.choice(("kept", "dropped", "in part", "some dropped"))
        changes = self._pending
        match of_names:
            case "dropped":
                changes = []
            case "in part":
                changes = changes[: dice.randrange(len(changes) + 1)]
            case "some dropped":
                changes = [change for change in changes if dice.random() < 0.5]
        names = _renamed(self._synced_names, changes)
        common = dice.choice((None, *DAMAGES))
        damages = {name: common or dice.choice(DAMAGES) for name in sorted(names)}
        files = {
            name: names[name].after_cut(dice, damage)
            for name, damage in damages.items()
            if not name.endswith(_SHARED_MEMORY)
        }
        if dice.random() < 0.5:
            files |= {name: dice.randbytes(32_768) for name in names if name.endswith(_SHARED_MEMORY)}
        parts = [f"names {of_names}"] + [
            f"{name} {damage} ({len(names[name].pending)} changes)" for name, damage in damages.items()
        ]
        return files, ", ".join(parts)


def _contents(names: Mapping[str, File]) -> dict[str, bytes]:
    return {name: file.content() for name, file in names.items() if not name.endswith(_SHARED_MEMORY)}


def _renamed(names: Mapping[str, File], changes: Iterable[Mapping[str, File | None]]) -> dict[str, File]:
    merged: dict[str, File | None] = dict(names)
    for change in changes:
        merged |= change
    return {name: file for name, file in merged.items() if file is not None}


def _changed(content: bytes, changes: Iterable[Change]) -> bytes:
    """Returns a content after changes. A gap before a write beyond the end is filled with zeros."""
    changed = bytearray(content)
    for change in changes:
        end = change.offset + len(change.data)
        if len(changed) < (change.offset if change.kind == "resize" else end):
            changed.extend(bytes(max(change.offset, end) - len(changed)))
        if change.kind == "resize":
            del changed[change.offset :]
        else:
            changed[change.offset : end] = change.data
    return bytes(changed)


def _torn(change: Change, sector_bytes: int) -> list[Change]:
    """Returns the parts of a write that a disk may write separately."""
    if change.kind == "resize":
        return [change]
    start, end = change.offset, change.offset + len(change.data)
    cuts = [start, *range(start - start % sector_bytes + sector_bytes, end, sector_bytes), end]
    return [
        change._replace(offset=first, data=change.data[first - start : last - start])
        for first, last in pairwise(cuts)
    ]


class Cut(NamedTuple):
    """A state of the folder after a power cut.

    Attributes:
        number: the number of the state, with which the same state is made again.
        files: the files by name.
        acknowledged: the lines that were acknowledged before the cut.
        following: the lines that were acknowledged later, had the power stayed.
        story: the last events before the cut, and the damage, for the message of a failure.
    """

    number: int
    files: Mapping[str, bytes]
    acknowledged: Sequence[dict[str, Any]]
    following: Sequence[dict[str, Any]]
    story: str


def cuts(
    before: Mapping[str, bytes], events: Sequence[Event], numbers: Iterable[int], *, honours_syncs: bool = True
) -> Iterator[Cut]:
    """Yields states after power cuts at points of a trace, in the order of the points.

    Args:
        before: the files before the first event.
        events: the trace.
        numbers: the numbers of the states. Equal numbers and traces give equal states.
        honours_syncs: see `Disk`.
    """
    answers = [index for index, event in enumerate(events, 1) if event.kind == "acknowledge"]
    lines = [json.loads(events[index - 1].data) for index in answers]
    dice = {number: random.Random(number) for number in numbers}  # noqa: S311 (repeatable)
    points = sorted((_point(dice[number], len(events), answers), number) for number in dice)
    disk, done, acknowledged = Disk(before, honours_syncs=honours_syncs), 0, 0
    for point, number in points:
        for event in events[done:point]:
            disk.apply(event)
            acknowledged += event.kind == "acknowledge"
        done = point
        files, damage = disk.after_cut(dice[number])
        story = [f"power cut {number}, after event {point} of {len(events)}; the last events:"]
        story += [f"  {index:>5}  {events[index]}" for index in range(max(0, point - 8), point)]
        story.append(f"  the disk: {damage}")
        yield Cut(number, files, lines[:acknowledged], lines[acknowledged:], "\n".join(story))


def _point(dice: random.Random, events: int, answers: Sequence[int]) -> int:
    """Returns the number of events before a cut. A third of the cuts come right after an answer."""
    return dice.choice(answers) if dice.random() < 1 / 3 else dice.randrange(events + 1)


def restored(cut: Cut, folder: Path) -> None:
    """Makes a folder that is as the power cut left it."""
    folder.mkdir()
    for name, content in cut.files.items():
        folder.joinpath(name).write_bytes(content)
