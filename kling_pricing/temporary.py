"""Temporary folders; if a process is killed, the next one removes its folder."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import mkdtemp

try:
    import fcntl
except ImportError:  # Windows: only the age of a folder counts
    fcntl = None  # type: ignore[assignment]

_RANDOM = "[a-z0-9_]{8}"
"""A pattern for the random end of the names that `mkdtemp` makes."""

_MARK = ".made-by-kling-pricing"
"""The name of a file in each folder that marks the folder as ours, so that no other folder is removed."""

_ABANDONED_S = 24 * 60 * 60
"""The age after which a folder counts as abandoned if the system cannot tell whether a process uses it."""


@contextmanager
def temporary_folder(prefix: str, parent: str | os.PathLike[str]) -> Iterator[Path]:
    """Creates a folder in `parent`, and removes it at the end.

    A lock on the folder shows that a process uses it. The system releases the lock when the process ends, even
    if it is killed. Folders with the same prefix that this user's earlier processes left are removed first.

    Args:
        prefix: the beginning of the folder's name.
        parent: the folder in which the folder is created.

    Yields:
        The path of the folder, which is empty.

    Raises:
        OSError: the folder cannot be created.
    """
    _remove_abandoned(Path(parent), prefix)
    folder, lock = _created(prefix, parent)
    try:
        yield folder / "content"
    finally:
        _remove(folder)
        if lock is not None:
            os.close(lock)


def _created(prefix: str, parent: str | os.PathLike[str]) -> tuple[Path, int | None]:
    while True:
        folder = Path(mkdtemp(prefix=prefix, dir=parent))
        lock = _locked(folder)
        with suppress(FileNotFoundError):  # another process removed the folder before it was locked
            (folder / _MARK).touch()
            (folder / "content").mkdir()
            return folder, lock
        if lock is not None:
            os.close(lock)


def _remove_abandoned(parent: Path, prefix: str) -> None:
    named = re.compile(re.escape(prefix) + _RANDOM)
    with suppress(OSError):
        folders = [entry for entry in os.scandir(parent) if named.fullmatch(entry.name)]
        for entry in folders:
            with suppress(OSError):
                if entry.is_dir(follow_symlinks=False) and _is_own(entry):
                    _remove_if_unused(Path(entry.path))


def _is_own(entry: os.DirEntry[str]) -> bool:
    owner = getattr(os, "geteuid", None)
    return owner is None or entry.stat(follow_symlinks=False).st_uid == owner()


def _remove_if_unused(folder: Path) -> None:
    if not (folder / _MARK).exists() and any(folder.iterdir()):
        return  # the folder is not ours
    if fcntl is None:
        if time.time() - folder.stat().st_mtime > _ABANDONED_S:
            _remove(folder)
        return
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # raises if a process uses the folder
        _remove(folder)
    finally:
        os.close(lock)


def _remove(folder: Path) -> None:
    """Removes a folder and its mark last, so that the next process can finish an interrupted removal."""
    with suppress(OSError):
        for entry in [*os.scandir(folder)]:
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path, ignore_errors=True)
            elif entry.name != _MARK:
                Path(entry.path).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def _locked(folder: Path) -> int | None:
    """Locks a folder and returns the descriptor that holds the lock; None: the folder cannot be locked."""
    if fcntl is None:
        return None
    try:
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
    except OSError:  # some network file systems
        os.close(lock)
        return None
    return lock
