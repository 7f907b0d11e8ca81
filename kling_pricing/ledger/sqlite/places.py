"""Compares the files at a ledger's paths with the files that a connection has open.

SQLite finds the WAL and the shared memory by the name of the database. If another program removes or replaces
one of these files while a process uses it, or if the database has two names, processes no longer see each
other's commits, and each of them counts on its own.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from stat import S_ISREG
from typing import NamedTuple, TypeAlias

_MOUNTS = Path("/proc/self/mountinfo")
_MOUNT_POINT = 4
"""The column of `mountinfo` with the mount point."""

FileId: TypeAlias = tuple[int, int]
"""The device and the inode number of a file."""


class Places(NamedTuple):
    """The files of an open ledger.

    Attributes:
        paths: the database, its WAL and its shared memory.
        ids: the files that were at these paths when the ledger was opened.
    """

    paths: tuple[str, ...]
    ids: tuple[FileId | None, ...]


def places(path: Path) -> Places:
    """Returns the files of a ledger that a connection has just opened."""
    real = os.path.realpath(path)
    paths = (os.fspath(path), f"{real}-wal", f"{real}-shm")
    return Places(paths, tuple(map(_file_id, paths)))


def problem_of(opened: Places) -> str | None:
    """Returns why a ledger's files are no longer those that were opened, with the remedy, or None."""
    path, *_ = opened.paths
    for place, file_id in zip(opened.paths, opened.ids, strict=True):
        try:
            status = os.stat(place)  # noqa: PTH116 (faster; every verb calls this)
        except OSError:
            return _replaced(place, path)
        if (status.st_dev, status.st_ino) != file_id:
            return _replaced(place, path)
        if status.st_nlink > 1:
            return links_problem(status.st_nlink)
    return None


def problem_of_path(path: Path) -> str | None:
    """Returns why the file at a path cannot hold a ledger safely, with the remedy, or None."""
    try:
        status = path.stat()
    except OSError:  # there is no file yet
        return None
    if S_ISREG(status.st_mode) and status.st_nlink > 1:
        return links_problem(status.st_nlink)
    if os.path.realpath(path) in _mount_points():
        return (
            "the file itself is mounted, so programs outside the mount do not see its -wal file, and each side "
            "counts separately; mount the folder of the ledger instead of the file"
        )
    return None


def links_problem(links: int) -> str:
    """Returns the problem of a file with several names."""
    return (
        f"its file has {links} names (hard links), and a ledger counts separately under each name; find the "
        "names with `find -samefile`, and remove all but one. `cp -l` and some backup programs create hard "
        'links; back up a ledger with `sqlite3 spend.db ".backup copy.db"` instead'
    )


def _replaced(place: str, path: str) -> str:
    if place == path:
        return (
            "the ledger's file was moved, removed or replaced while in use; stop every program that uses the "
            "ledger, put the right file back, and start the programs again"
        )
    return (
        f"{Path(place).name} was removed or replaced while in use, so other programs may not see the changes "
        "that this program made; stop every program that uses the ledger, and start the programs again. Never "
        "delete this file, and open the ledger's file only with SQLite"
    )


def _file_id(place: str) -> FileId | None:
    try:
        status = os.stat(place)  # noqa: PTH116 (as above)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _mount_points() -> Iterable[str]:
    try:
        lines = _MOUNTS.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:  # this system does not list its mounts
        return ()
    return {_unescaped(line.split(" ")[_MOUNT_POINT]) for line in lines}


def _unescaped(mount_point: str) -> str:
    """Replaces the octal codes for space, tab, line feed and backslash."""
    for char in " \t\n\\":
        mount_point = mount_point.replace(f"\\{ord(char):03o}", char)
    return mount_point
