"""One reconciliation of the server, as the files of its folder describe it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

from kling_pricing.server.reconciliations.work_folder import read_json

StepState: TypeAlias = Literal["working", "done", "failed", "lost"]

REQUEST, PROGRESS, RESULT = "request.json", "progress.json", "result.json"
UPLOAD, REPORTS = "upload", "reports"
"""The names of the files and folders in the folder of a reconciliation."""


def step_file(number: int) -> str:
    """Returns the name of the file that begins a step."""
    return f"step-{number}.json"


def outcome_file(number: int) -> str:
    """Returns the name of the file that ends a step."""
    return f"outcome-{number}.json"


def acted_file(number: int) -> str:
    """Returns the name of the file that says what a step has changed, although its new result is not ready."""
    return f"acted-{number}.json"


class RunStep(NamedTuple):
    """The reconciliation itself, or a later action with it.

    Attributes:
        number: its number, from 1.
        action: `reconcile`, `remember`, `dispute`, `settle` or `close`.
        state: `working`, `done`, `failed`, or `lost`: the process that worked on it has ended.
        actor: the name of the access key.
        reason: the reason; None: the step changes nothing.
        begun_at: when it was asked for, UTC.
        text: what it has done, or why it has failed; empty while it is working.
    """

    number: int
    action: str
    state: StepState
    actor: str
    reason: str | None
    begun_at: datetime
    text: str


class Run(NamedTuple):
    """One reconciliation.

    Attributes:
        id: its id.
        folder: its folder.
        request: the facts of the upload.
        files: the names of the uploaded statements.
        steps: its steps, the first is the reconciliation itself.
        progress: `stage`, `done` and `total` of the step that is working; None: there is no such step.
        result: the newest result, see `run_results`; None: there is none yet.
    """

    id: str
    folder: Path
    request: Mapping[str, Any]
    files: tuple[str, ...]
    steps: tuple[RunStep, ...]
    progress: Mapping[str, Any] | None
    result: Mapping[str, Any] | None

    @property
    def last(self) -> RunStep:
        """The newest step."""
        return self.steps[-1]

    @property
    def is_working(self) -> bool:
        """Whether a step has not ended yet."""
        return self.last.state == "working"

    def report(self, name: str) -> Path | None:
        """Returns the path of a report; None: there is no such report."""
        reports = {} if self.result is None else self.result["reports"]
        path = self.folder / REPORTS / name
        return path if name in reports and path.is_file() else None


def read_run(folder: Path, is_running: Callable[[str], bool]) -> Run | None:
    """Returns the reconciliation in a folder; None: there is none.

    Args:
        folder: the folder.
        is_running: returns whether a process of the server is running.
    """
    request = read_json(folder / REQUEST)
    if request is None:
        return None
    steps = []
    for number in count(1):
        begun = read_json(folder / step_file(number))
        if begun is None:
            break
        is_alive = is_running(begun["process"])  # asked before the outcome, which the process may write now
        outcome = read_json(folder / outcome_file(number))
        if outcome is None and not is_alive:
            outcome = read_json(folder / acted_file(number))
        if outcome is not None:
            state: StepState = "done" if outcome["is_done"] else "failed"
            text = outcome["text"]
        elif is_alive:
            state, text = "working", ""
        else:
            state = "lost"
            text = "the process of the server that worked on it has ended; upload the statement again"
        begun_at = datetime.fromisoformat(begun["begun_at"])
        steps.append(RunStep(number, begun["action"], state, begun["actor"], begun["reason"], begun_at, text))
    if not steps:
        return None
    return Run(
        folder.name,
        folder,
        request["request"],
        tuple(request["files"]),
        tuple(steps),
        (read_json(folder / PROGRESS) or {}) if steps[-1].state == "working" else None,
        read_json(folder / RESULT),
    )
