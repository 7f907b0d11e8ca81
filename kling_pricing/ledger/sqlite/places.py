"""Compares the files at a ledger's paths with the files that a connection has open.

SQLite finds the WAL and the shared memory by the name of the database. If another program removes or replaces
one of these files while a process uses it, or if the database has two names, processes no longer see each
other's commits, and each of them counts on its own.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from math import inf
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

_SHARED_LOCK_BYTE = 0x40000002
"""The first of the bytes of a database that SQLite locks; a reader locks one of them, a writer all of them."""

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

    def __del__(self) -> None:
        """Closes the folder of a guard that was dropped."""
        self.close()

    def close(self) -> None:
        """Closes the folder."""
        folder, self._folder = self._folder, None
        if folder is not None:
            os.close(folder)

    @contextmanager
    def closing(self) -> Iterator[None]:
        """Closes a connection in this block without harm to other processes, whatever became of the files.

        The last connection that closes a database removes the WAL, by its name. If the files were removed or
        replaced, the file of that name belongs to other processes, whose commits would be lost. A connection
        removes the WAL only under SQLite's exclusive lock, which a shared lock of another owner prevents.
        """
        held = None if self.problem(inf) is None else _shared_lock(self._ids[self._path])
        try:
            yield
        finally:
            if held is not None:
                os.close(held)

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


def _shared_lock(database: FileId | None) -> int | None:
    """Locks an open database for reading, and returns the descriptor that holds the lock.

    Such a lock belongs to the descriptor, not to the process, so it also excludes this process's connections.
    Returns None where the system has no such locks.
    """
    with suppress(AttributeError, ImportError, OSError):
        import fcntl  # noqa: PLC0415 (not on Windows)

        for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 (the file may have no name any more)
            with suppress(OSError):
                opened = f"/proc/self/fd/{name}"
                if _file_id(opened) == database:
                    descriptor = os.open(opened, os.O_RDONLY | os.O_CLOEXEC)
                    lock = struct.pack("@hhqqi4x", fcntl.F_RDLCK, os.SEEK_SET, _SHARED_LOCK_BYTE, 1, 0)
                    fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, lock)
                    return descriptor
    return None
