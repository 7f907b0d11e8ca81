"""Closes the files of a process before it forks.

SQLite records a file's locks in the memory of the process, and a child process inherits that memory without the
locks. Another process may then delete the WAL while the child uses it, and the child's commits are lost. So
files are closed before a fork, and parent and child each open them again.
"""

from __future__ import annotations

import os
import sqlite3
from threading import RLock
from typing import Protocol
from weakref import WeakSet


class Forkable(Protocol):
    """A file that is closed before a fork."""

    def before_fork(self) -> None:
        """Waits until no thread uses the file, and closes it."""

    def after_fork_in_parent(self) -> None:
        """Lets the threads continue."""

    def after_fork_in_child(self) -> None:
        """Forgets the parent's threads, and its connection if there still is one."""


_files: WeakSet[Forkable] = WeakSet()
_paused: list[Forkable] = []
"""The files that wait until a fork is over."""
_forking = RLock()
"""Held while a thread forks."""
inherited: dict[str, list[sqlite3.Connection]] = {}
"""The connections that were open during a fork nevertheless, by path.

They were in a transaction, or the fork did not go through Python. They are never used or closed, and this
process does not open their files again.
"""


def register(file: Forkable) -> None:
    """Closes a file before each fork from now on."""
    with _forking:
        _files.add(file)


def _before_fork() -> None:
    _forking.acquire()
    for file in list(_files):
        _paused.append(file)
        file.before_fork()


def _after_fork_in_parent() -> None:
    for file in _paused:
        file.after_fork_in_parent()
    _paused.clear()
    _forking.release()


def _after_fork_in_child() -> None:
    global _forking  # noqa: PLW0603 (a thread that the child lacks may hold the parent's lock)
    for file in list(_files):
        file.after_fork_in_child()
    _paused.clear()
    _forking = RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child
    )
