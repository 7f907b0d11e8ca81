"""The folder of the demo: a temporary one, or one that is kept as a playground."""

from __future__ import annotations

import json
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from kling_pricing.demo.stories import BUDGETS_FILE, DemoScript, demo_file
from kling_pricing.demo.studio import LEDGER_FILE, ON_THIS_MACHINE
from kling_pricing.demo.telling import REPORT_FILE, STATEMENT_FILE
from kling_pricing.errors import KlingPricingError
from kling_pricing.temporary import temporary_folder

SANDBOX_PORT = 8900
"""The port of `kling-pricing sandbox`, to which the kept settings of the server lead."""

_PREFIX = ".kling-pricing-demo-"
_REPORT_PREFIX = "kling-pricing-demo-report-"
_SETTINGS_FILE, _REQUEST_FILE = "server.yaml", "request.json"


class TryNext(NamedTuple):
    """A command to try after the demo.

    Attributes:
        command: the command, as a person types it.
        purpose: what it does; empty: it is clear.
    """

    command: str
    purpose: str = ""


@contextmanager
def demo_folder(keep: Path | None) -> Iterator[Path]:
    """Creates a folder for the files of a demo, and removes it at the end; see `kept` for a playground.

    Args:
        keep: the folder of the playground, which must be missing or empty; None: nothing is kept.

    Raises:
        KlingPricingError: the folder is not empty, or cannot be written.
    """
    if keep is None:
        with temporary_folder(_PREFIX, tempfile.gettempdir()) as folder:
            yield folder
        return
    is_new = not keep.exists()
    try:
        keep.mkdir(parents=True, exist_ok=True)
        others = [entry.name for entry in keep.iterdir() if not entry.name.startswith(_PREFIX)]
    except OSError as error:
        raise KlingPricingError(
            f"{keep}: cannot be used as a folder: {error.strerror}; give another one"
        ) from None
    if others:
        raise KlingPricingError(f"{keep} is not empty ({min(others)}); give a new folder for the demo's files")
    try:
        with temporary_folder(_PREFIX, keep) as folder:
            yield folder
    finally:
        if is_new:
            with suppress(OSError):  # the demo has ended well, so there are files
                keep.rmdir()


def keep_report(folder: Path) -> Path:
    """Copies the report of a temporary demo into a folder of its own, which stays, and returns its path."""
    return Path(shutil.copy(folder / REPORT_FILE, tempfile.mkdtemp(prefix=_REPORT_PREFIX)))


def keep_playground(script: DemoScript, folder: Path, keep: Path) -> Path:
    """Moves the files of a demo into the playground, adds its settings, and returns the path of the report.

    If it is interrupted, none of the files is in the playground.
    """
    (folder / BUDGETS_FILE).write_bytes(demo_file(BUDGETS_FILE))
    (folder / _SETTINGS_FILE).write_text(_settings(script), encoding="utf-8")
    request = script.shots[script.common.shot] | {"prompt": "a paper boat"}
    (folder / _REQUEST_FILE).write_text(json.dumps(request, indent=2) + "\n", encoding="utf-8")
    moved: list[Path] = []
    try:
        for entry in sorted(folder.iterdir()):
            moved.append(keep / entry.name)
            entry.rename(keep / entry.name)
    except BaseException:  # an interrupted demo leaves a whole playground or none
        for path in moved:
            path.unlink(missing_ok=True)
        raise
    return keep / REPORT_FILE


def _settings(script: DemoScript) -> str:
    provider = script.callers.provider
    return (
        "# The settings of the server. Its upstream is the sandbox, which you start with\n"
        f"# `kling-pricing sandbox --port {SANDBOX_PORT}`; the server is started with\n"
        f"# `kling-pricing serve --config {_SETTINGS_FILE}`, in this folder.\n"
        f"ledger: sqlite:///{LEDGER_FILE}\n"
        "upstreams:\n"
        f"  {provider}:\n"
        f"    url: http://{ON_THIS_MACHINE}:{SANDBOX_PORT}/{provider}\n"
        "    send_reservation_id: true\n"
    )


def next_in_playground(script: DemoScript, keep: Path) -> list[TryNext]:
    """Returns commands to try on the files of a playground."""
    provider, month = script.scripts.provider, script.month
    last_day = f"{script.month}-{(script.end - script.start).days}"
    return [
        TryNext(f"cd {shlex.quote(str(keep))}"),
        TryNext(f"export KLING_PRICING_LEDGER=sqlite:///{LEDGER_FILE}"),
        TryNext(
            f"kling-pricing budget status --at {last_day}", "what each budget had left at the end of the month"
        ),
        TryNext(
            f"kling-pricing decide {_REQUEST_FILE} --provider {provider} \\\n"
            f"    --project {script.capped.project} --label user={script.capped.user}",
            "would this job pass now?",
        ),
        TryNext(
            f"kling-pricing reconcile --provider {provider} --month {month} \\\n"
            f"    --statement {STATEMENT_FILE}",
            "the comparison again, in the terminal",
        ),
        TryNext("kling-pricing budget log", "who changed what, and why"),
        TryNext("kling-pricing verify", "every balance, derived again from the journal"),
        TryNext("kling-pricing serve --demo", "a server with a month in its ledger"),
    ]


def next_without_playground(script: DemoScript) -> list[TryNext]:
    """Returns commands to try after a demo that keeps only its report."""
    shot = script.shots[script.common.shot]
    options = f"--model {shot['model']} --duration {shot['duration']} --resolution {shot['resolution']}"
    return [
        TryNext("kling-pricing demo --keep playground", "the same month, with all files kept in a folder"),
        TryNext("kling-pricing serve --demo", "a server with a month in its ledger"),
        TryNext(
            f"kling-pricing quote --provider {script.scripts.provider} \\\n    {options}", "the price of a job"
        ),
        TryNext("kling-pricing --help", "all commands"),
    ]
