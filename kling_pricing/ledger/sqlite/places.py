"""Compares the files at a ledger's paths with the files that a connection has open.

SQLite finds the WAL and the shared memory by the name of the database. If another program removes or replaces
one of these files while a process uses it, or if the database has two names, processes no longer see each
other's commits, and each of them counts on its own.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from stat import S_ISREG
from time import time_ns
from typing import TypeAlias

_MOUNTS = Path("/proc/self/mountinfo")
_MOUNT_POINT = 4
"""The column of `mountinfo` with the mount point."""

_LOOKS_EVERY_S = 1
"""How often the WAL and the shared memory are looked at although their folder has not changed."""

_TICK_NS = 5 * 10**9
"""The coarsest step in which a file system notes the time of a change, with a margin."""

FileId: TypeAlias = tuple[int, int]
"""The device and the inode number of a file."""


class Places:
    """The files of an open ledger: the database, its WAL and its shared memory.

    Every verb asks for a problem. To be fast, it looks at the database and at the folder only: whoever removes,
    replaces or creates a file in a folder changes the folder. The other files are looked at after a change of
    the folder, and once a second in any case.

    Args:
        path: the database, which a connection has just opened.
    """

    def __init__(self, path: Path) -> None:
        real = os.path.realpath(path)
        self._path = os.fspath(path)
        self._others = (f"{real}-wal", f"{real}-shm")
        self._ids = {place: _file_id(place) for place in (self._path, *self._others)}
        self._unchanged_since: int | None = None
        self._looks_at: float = 0
        self._folder: int | None = None
        with suppress(AttributeError, OSError):  # elsewhere, every verb looks at all files
            self._folder = os.open(os.path.dirname(real), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)  # noqa: PTH120 (as above)

    def close(self) -> None:
        """Closes the folder."""
        folder, self._folder = self._folder, None
        if folder is not None:
            os.close(folder)

    def problem(self, at: float) -> str | None:
        """Returns why the files are no longer those that were opened, with the remedy, or None.

        Args:
            at: the time on the monotonic clock.
        """
        path = self._path
        try:
            status = os.stat(path)  # noqa: PTH116 (faster; every verb calls this)
        except OSError:
            return _replaced(path, path)
        if (status.st_dev, status.st_ino) != self._ids[path]:
            return _replaced(path, path)
        if status.st_nlink > 1:
            return links_problem(status.st_nlink)
        if self._folder is None:
            return self._problem_of_others()
        changed = os.fstat(self._folder).st_ctime_ns  # before the look at the files
        if changed == self._unchanged_since and at < self._looks_at:
            return None
        problem = self._problem_of_others()
        if problem is None:
            # a second change within one tick of the system's clock would look the same
            self._unchanged_since = changed if changed < time_ns() - _TICK_NS else None
            self._looks_at = at + _LOOKS_EVERY_S
        return problem

    def _problem_of_others(self) -> str | None:
        for place in self._others:
            try:
                status = os.stat(place)  # noqa: PTH116 (as above)
            except OSError:
                return _replaced(place, self._path)
            if (status.st_dev, status.st_ino) != self._ids[place]:
                return _replaced(place, self._path)
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
