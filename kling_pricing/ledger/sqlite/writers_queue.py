"""The queue of the processes that want to write to a ledger's file.

Writers wait for an `flock` on a file beside the database, because SQLite's own busy handler lets some of them
starve for seconds. The system gives a released lock to the first process that asks for it. Usually that is the
process that just released it, because a waiting process must wake up first. So only one process at a time waits
for the lock: the process that holds a second lock, the queue. The other processes wait for the queue.
"""

from __future__ import annotations

import os
from pathlib import Path

from kling_pricing.ledger.sqlite.errors import unavailable

try:
    import fcntl
except ImportError:  # Windows: SQLite's own lock is as safe, only less fair
    fcntl = None  # type: ignore[assignment]

__all__ = ["WritersQueue", "fcntl"]

_NUMBER_CHARS = 20
_MARK = b"The file with this name without .lock holds a ledger. Remove both files to begin a new ledger.\n"
"""The content of the lock file once the ledger exists."""


class WritersQueue:
    """The two lock files beside a ledger's file.

    Attributes:
        lock: descriptor of the file whose lock a writer holds; None: not open, or not on this system.
    """

    def __init__(self, path: Path) -> None:
        self._path = Path(os.path.realpath(path))  # every name of a file has the same queue
        self._lock_path = self._path.with_name(f"{self._path.name}.lock")
        self.lock: int | None = None
        self._queue: int | None = None

    @property
    def lock_name(self) -> str:
        """The name of the lock file."""
        return self._lock_path.name

    def open(self) -> None:
        """Opens the files, and creates them if they do not exist.

        Raises:
            LedgerUnavailableError: a file cannot be opened.
        """
        self.lock = self._opened(self._lock_path)
        self._queue = self._opened(self._path.with_name(f"{self._path.name}.queue"))

    def close(self) -> None:
        """Forgets the descriptors, then closes them.

        The order matters: a descriptor that is closed twice may belong to another file by then.
        """
        descriptors = self.lock, self._queue
        self.lock = self._queue = None
        for descriptor in descriptors:
            if descriptor is not None:
                os.close(descriptor)

    def take_turn(self) -> None:
        """Waits until it is this process's turn to write."""
        lock, queue = self.lock, self._queue
        if lock is not None and queue is not None:
            try:
                fcntl.flock(queue, fcntl.LOCK_EX)
                fcntl.flock(lock, fcntl.LOCK_EX)
            finally:
                fcntl.flock(queue, fcntl.LOCK_UN)

    def end_turn(self) -> None:
        """Lets the next process write."""
        if self.lock is not None:
            fcntl.flock(self.lock, fcntl.LOCK_UN)

    def mark(self) -> None:
        """Records in the lock file that the ledger exists."""
        if self.lock is not None and not os.fstat(self.lock).st_size:
            os.write(self.lock, _MARK)

    def is_marked(self) -> bool:
        """Returns whether the lock file records a ledger.

        Raises:
            OSError: there is no lock file, so there never was a ledger.
        """
        return self._lock_path.stat().st_size > 0

    def acknowledged(self) -> int:
        """Returns the number of the newest journal entry that any process has acknowledged; 0: it is not known.

        The number may lag behind the ledger, because it is written after the commit, and without a flush.
        """
        if self.lock is None:
            return 0
        digits = os.pread(self.lock, _NUMBER_CHARS, len(_MARK))
        return int(digits) if digits.isdigit() else 0

    def acknowledge(self, number: int) -> None:
        """Records the number of the newest journal entry, after its commit and before the caller's answer."""
        if self.lock is not None:
            os.pwrite(self.lock, b"%020d\n" % number, len(_MARK))

    def lower(self, number: int) -> None:
        """Records a lower number than before, and flushes it.

        If a power failure brought the higher number back, the ledger would be refused although nothing else is
        missing.
        """
        self.acknowledge(number)
        if self.lock is not None:
            os.fsync(self.lock)

    def _opened(self, path: Path) -> int | None:
        if fcntl is None:
            return None
        try:
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise unavailable(
                self._path,
                f"{path.name} in the same folder cannot be opened ({error.strerror}); let this user write to "
                "the file and its folder",
            ) from None
