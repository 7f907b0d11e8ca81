"""The work folder of the server: a folder for each reconciliation, and a lock for each process."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import gettempdir
from typing import Any
from uuid import uuid4

from kling_pricing.errors import SettingsError
from kling_pricing.ledger import file_of, is_on_a_server
from kling_pricing.server.server_settings import ServerSettings

try:
    import fcntl
except ImportError:  # Windows, where a server has one process
    fcntl = None  # type: ignore[assignment]

_LOCKS, _INCOMING = "process-", ".incoming-"


def work_folder_of(settings: ServerSettings) -> Path:
    """Returns the path of the work folder.

    By default, it is beside a SQLite ledger, or for a PostgreSQL ledger in the system's folder for temporary
    files. Every process with the same ledger finds the same folder there.
    """
    if settings.work_folder is not None:
        return Path(settings.work_folder).absolute()
    if is_on_a_server(settings.ledger):
        owner = getattr(os, "geteuid", lambda: "")()
        place = settings.ledger.rpartition("@")[2].partition("?")[0]  # without the password
        digest = hashlib.sha256(place.encode()).hexdigest()[:12]
        return Path(gettempdir(), f"kling-pricing-work-{owner}-{digest}")
    ledger = file_of(settings.ledger)
    return ledger.with_name(f"{ledger.name}-work")


class WorkFolder:
    """The work folder, as one process uses it.

    Args:
        path: its path. The folder is created by the first upload.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.process = uuid4().hex
        self._lock: int | None = None

    def open(self) -> None:
        """Creates the folder if it is missing, and shows other processes that this one is running.

        Raises:
            SettingsError: the folder cannot be used, or belongs to another user.
        """
        if self._lock is not None:
            return
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            found = self.path.lstat()
            own = getattr(os, "geteuid", lambda: found.st_uid)()
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != own:
                raise SettingsError(
                    f"{self.path} is not a folder of this user; name another folder", key_path="work_folder"
                )
            self.path.chmod(0o700)
            self._lock = os.open(self._lock_of(self.process), os.O_RDWR | os.O_CREAT, 0o600)
            if fcntl is not None:
                fcntl.flock(self._lock, fcntl.LOCK_EX)
        except OSError as error:
            raise SettingsError(
                f"{self.path} cannot be used: {error.strerror}; name a folder to which the server can write",
                key_path="work_folder",
            ) from None

    def close(self) -> None:
        """Shows other processes that this one has ended."""
        if self._lock is not None:
            self._lock_of(self.process).unlink(missing_ok=True)
            os.close(self._lock)
            self._lock = None

    def _lock_of(self, process: str) -> Path:
        return self.path / f"{_LOCKS}{process}.lock"

    def is_running(self, process: str) -> bool:
        """Returns whether a process is running. The system ends its lock with it, even if it is killed."""
        if process == self.process:
            return True
        if fcntl is None:
            return False
        try:
            lock = os.open(self._lock_of(process), os.O_RDWR)
        except OSError:
            return False
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(lock)
        return False

    @contextmanager
    def incoming(self) -> Iterator[Path]:
        """Yields an empty folder for an upload, which is removed at the end unless it was moved away."""
        self.open()
        folder = self.path / f"{_INCOMING}{self.process}-{uuid4().hex}"
        try:
            folder.mkdir()
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def run_folders(self) -> list[Path]:
        """Returns the folders of all reconciliations."""
        with suppress(OSError):
            return [Path(entry.path) for entry in os.scandir(self.path) if is_run_id(entry.name)]
        return []

    def remove_left_behind(self) -> None:
        """Removes the locks and the incomplete uploads of processes that have ended."""
        with suppress(OSError):
            for entry in [*os.scandir(self.path)]:
                if entry.name.startswith(_INCOMING):
                    if not self.is_running(entry.name.removeprefix(_INCOMING).partition("-")[0]):
                        shutil.rmtree(entry.path, ignore_errors=True)
                elif entry.name.startswith(_LOCKS):
                    process = entry.name.removeprefix(_LOCKS).removesuffix(".lock")
                    if not self.is_running(process):
                        Path(entry.path).unlink(missing_ok=True)


def is_run_id(text: str) -> bool:
    """Returns whether a text has the form of an id, so that it cannot lead out of the work folder."""
    return len(text) == len(uuid4().hex) and set(text) <= set("0123456789abcdef")


def write_json(path: Path, value: Mapping[str, Any], *, is_new: bool = False) -> bool:
    """Writes a file at once, so that no reader sees a part of it.

    Args:
        path: the file.
        value: its content.
        is_new: whether to leave the file alone if it exists.

    Returns:
        Whether the file was written.
    """
    draft = path.with_name(f".{path.name}-{uuid4().hex}")
    draft.write_text(json.dumps(value, ensure_ascii=True), encoding="utf-8")
    try:
        if is_new:
            os.link(draft, path)
            draft.unlink()
        else:
            draft.replace(path)
    except FileExistsError:
        draft.unlink()
        return False
    return True


def read_json(path: Path) -> Any:
    """Returns the content of a file; None: there is none, or a killed process has left it incomplete."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
