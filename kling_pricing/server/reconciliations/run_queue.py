"""The reconciliations of one server process: one at a time, each in a worker process with bounds."""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from threading import Condition, Thread
from typing import Any, NamedTuple
from uuid import uuid4

from kling_pricing.display import not_installed
from kling_pricing.errors import KlingPricingError
from kling_pricing.server.reconciliations.run_requests import Action, RunRequest
from kling_pricing.server.reconciliations.runs import (
    PROGRESS,
    REQUEST,
    UPLOAD,
    Run,
    acted_file,
    outcome_file,
    read_run,
    step_file,
)
from kling_pricing.server.reconciliations.work_folder import (
    WorkFolder,
    is_run_id,
    read_json,
    work_folder_of,
    write_json,
)
from kling_pricing.server.server_settings import ServerSettings

_log = logging.getLogger("kling_pricing.server")

_MAX_INCOMING = 4
_MAX_WAITING = 20
_MAX_KEPT = 200
_WORKER = "kling_pricing.server.reconciliations.run_worker"
_MODULES = ("duckdb", "openpyxl", "xlsxwriter")


class BusyError(KlingPricingError):
    """Too many reconciliations are waiting, or a step with the same reconciliation is working."""


class _Waiting(NamedTuple):
    folder: Path
    number: int


class RunQueue:
    """Takes uploads, and works on them one after the other.

    Args:
        settings: the settings of the server.
        clock: returns the current instant, in UTC.

    Raises:
        LedgerUnavailableError: the URL of the ledger is not valid.
    """

    def __init__(self, settings: ServerSettings, clock: Callable[[], datetime]) -> None:
        self._settings = settings
        self._clock = clock
        self._work = WorkFolder(work_folder_of(settings))
        self._waiting: deque[_Waiting] = deque()
        self._incoming = 0
        self._changed = Condition()
        self._thread: Thread | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._is_closed = False

    @property
    def missing(self) -> str | None:
        """The command that installs a missing package; None: nothing is missing."""
        name = next((name for name in _MODULES if find_spec(name) is None), None)
        return None if name is None else not_installed("reconciling", name, "reports")

    @contextmanager
    def incoming(self) -> Iterator[Path]:
        """Yields an empty folder for an upload, which is removed at the end of the block unless it is added.

        Raises:
            BusyError: too many uploads arrive at the same time.
            SettingsError: the work folder cannot be used.
        """
        with self._changed:
            if self._incoming >= _MAX_INCOMING:
                raise BusyError(f"{_MAX_INCOMING} uploads are arriving already; try again later")
            self._incoming += 1
        try:
            with self._work.incoming() as folder:
                yield folder
        finally:
            with self._changed:
                self._incoming -= 1

    def add(
        self, folder: Path, request: RunRequest, files: Sequence[str], mapping: str | None, actor: str
    ) -> str:
        """Takes an upload, and returns the id of its reconciliation.

        Args:
            folder: the folder from `incoming`, which has the statements in `statements` and the mapping in
                `mapping`.
            request: the facts of the upload.
            files: the names of the statements.
            mapping: the name of the file with the mapping; None: there is none.
            actor: the name of the access key.

        Raises:
            BusyError: too many reconciliations are waiting.
        """
        with self._changed:
            self._refuse_if_full()
            home = self._work.path / uuid4().hex
            draft = folder.with_name(f"{folder.name}-run")
            try:
                draft.mkdir()
                folder.rename(draft / UPLOAD)
                facts = {"request": request.model_dump(), "files": [*files], "mapping": mapping}
                write_json(draft / REQUEST, facts)
                write_json(draft / step_file(1), self._step("reconcile", actor, None, None))
                draft.rename(home)
            finally:
                shutil.rmtree(draft, ignore_errors=True)
            self._start(_Waiting(home, 1))
        return home.name

    def act(self, run: Run, action: Action, plan: str, reason: str, actor: str) -> None:
        """Begins an action with a finished reconciliation.

        Args:
            run: the reconciliation.
            action: the action.
            plan: the digest of the plan that the person has seen.
            reason: the reason.
            actor: the name of the access key.

        Raises:
            BusyError: another step is working, or too many reconciliations are waiting.
        """
        with self._changed:
            self._refuse_if_full()
            number = run.last.number + 1
            step = self._step(action, actor, reason, plan)
            if run.is_working or not write_json(run.folder / step_file(number), step, is_new=True):
                raise BusyError("somebody else is working on this reconciliation; wait until that has ended")
            self._start(_Waiting(run.folder, number))

    def run(self, run_id: str) -> Run | None:
        """Returns a reconciliation; None: it is unknown here, or not kept any more."""
        return read_run(self._work.path / run_id, self._work.is_running) if is_run_id(run_id) else None

    def all(self) -> list[Run]:
        """Returns all reconciliations in the work folder, the newest first."""
        found = [read_run(folder, self._work.is_running) for folder in self._work.run_folders()]
        return sorted(
            (run for run in found if run), key=lambda run: (run.steps[0].begun_at, run.id), reverse=True
        )

    def news(self) -> list[Any]:
        """Returns facts that change whenever a page about reconciliations changes."""
        return [(run.id, run.steps, run.progress) for run in self.all()]

    def sweep(self) -> None:
        """Removes what is older than the settings say, and what killed processes left behind."""
        self._work.remove_left_behind()
        oldest = self._clock() - timedelta(seconds=self._settings.work_kept_s)
        for place, run in enumerate(self.all()):
            if run.is_working:
                continue
            if place >= _MAX_KEPT or run.last.begun_at < oldest:
                shutil.rmtree(run.folder, ignore_errors=True)
            elif run.last.state == "lost":
                self._remove_temporary(run.folder)
                if run.last.number == 1:
                    shutil.rmtree(run.folder / UPLOAD, ignore_errors=True)

    def close(self) -> None:
        """Ends the work. What was waiting is shown as lost."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
            if self._process is not None:
                self._process.kill()
        if self._thread is not None:
            self._thread.join()
        self._work.close()

    def _step(self, action: str, actor: str, reason: str | None, plan: str | None) -> dict[str, Any]:
        return {
            "action": action,
            "process": self._work.process,
            "actor": actor,
            "reason": reason,
            "plan": plan,
            "begun_at": self._clock().isoformat(),
        }

    def _refuse_if_full(self) -> None:
        if self._is_closed or len(self._waiting) >= _MAX_WAITING:
            raise BusyError(f"{_MAX_WAITING} reconciliations are waiting already; try again later")
        self._work.open()

    def _start(self, waiting: _Waiting) -> None:
        self._waiting.append(waiting)
        if self._thread is None:
            self._thread = Thread(target=self._work_on_all, name="reconciliations", daemon=True)
            self._thread.start()
        self._changed.notify_all()

    def _work_on_all(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._is_closed)
                if self._is_closed:
                    return
                waiting = self._waiting[0]  # it counts as waiting until it has ended
            try:
                self._work_on(waiting)
            except Exception:  # noqa: BLE001 (the next reconciliation must have its turn)
                _log.exception("a reconciliation ended with an error")
                self._end(waiting, "the server has failed; look at its log for the cause")
            with self._changed:
                self._waiting.popleft()

    def _work_on(self, waiting: _Waiting) -> None:
        """Runs the worker process of one step, and ends it after its time."""
        order = self._order(waiting)
        with self._changed:
            if self._is_closed:
                return
            self._process = subprocess.Popen(  # noqa: S603 (our own module)
                [sys.executable, "-m", _WORKER],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for the server, which ends the worker
            )
            process, stdin = self._process, self._process.stdin
        limit_s = self._settings.reconcile_timeout_s
        try:
            with suppress(BrokenPipeError):
                if stdin is not None:
                    stdin.write(order)
                    stdin.flush()
            process.wait(limit_s)
            problem = (
                "the worker process was killed from outside, for example because the machine ran out of memory"
            )
        except subprocess.TimeoutExpired:
            problem = (
                f"it took longer than {limit_s} s, so it was ended; upload a smaller statement, or raise "
                "`reconcile_timeout_s`"
            )
        finally:
            process.kill()
            process.wait()
            with suppress(OSError):
                if stdin is not None:
                    stdin.close()
            with self._changed:
                self._process = None
        self._remove_temporary(waiting.folder)
        if not self._is_closed:
            self._end(waiting, problem)

    def _end(self, waiting: _Waiting, problem: str) -> None:
        """Ends a step whose worker has not done so."""
        folder, number = waiting
        with suppress(OSError):
            (folder / PROGRESS).unlink(missing_ok=True)
            ended = read_json(folder / acted_file(number)) or {"is_done": False, "text": problem}
            write_json(folder / outcome_file(number), ended, is_new=True)

    def _order(self, waiting: _Waiting) -> bytes:
        """Returns the order of a worker. The URL of the ledger may have a password, so it is in no file."""
        folder, number = waiting
        facts, step = read_json(folder / REQUEST), read_json(folder / step_file(number))
        order = {
            "ledger": self._settings.ledger,
            "folder": str(folder),
            "number": number,
            "action": step["action"],
            "actor": step["actor"],
            "reason": step["reason"],
            "plan": step["plan"],
            "memory": self._settings.reconcile_memory,
            "request": facts["request"],
            "files": facts["files"],
            "mapping_file": facts["mapping"],
            "now": self._clock().isoformat(),
        }
        return json.dumps(order).encode() + b"\n"

    @staticmethod
    def _remove_temporary(folder: Path) -> None:
        for path in (*folder.glob("kling-pricing-workspace-*"), *folder.glob(".reports-*")):
            shutil.rmtree(path, ignore_errors=True)
