"""A month of a studio: a ledger filled by a real guard with a test clock, and the provider's statement.

The month contains every kind of statement line, so that a report of it shows every category.
"""

from __future__ import annotations

import csv
import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from kling_pricing import Admission, Budget, BudgetGuard, PriceBook
from tests.conftest import Clock, video

SINCE, UNTIL = datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)
PROMPT, URL, API_KEY = "the secret screenplay", "https://cdn.example/secret.png", "sk-0123456789abcdef0123"
"""Secrets that no report may show; each is in the requests or in the statement."""

BUDGETS = [
    Budget(name="trailer", match={"project": "trailer"}, cap=Decimal(260), currency="USD", window="month"),
    Budget(name="studio", cap=Decimal(900), currency="USD", window="month"),
    Budget(name="research", match={"project": "research"}, cap=Decimal(90), currency="USD"),
    Budget(name="each-user", match={"user": "*"}, cap=Decimal(60), currency="USD", window="day"),
]
_PROJECTS = ("trailer", "autumn-campaign", "research", "onboarding", "童话")
_CLIPS: tuple[dict[str, Any], ...] = (
    {"model": "kling-v3", "duration": 5, "resolution": "720p"},
    {"model": "kling-v3", "duration": 10, "resolution": "1080p", "audio": True},
    {"model": "kling-v3", "duration": 8, "resolution": "1080p"},
    {"model": "kling-v2.6", "duration": 5, "resolution": "1080p", "audio": True},
    {"model": "kling-v3-omni", "duration": 6, "resolution": "720p"},
    {"model": "kling-v3", "duration": 5, "resolution": "4k"},
)


class Month(NamedTuple):
    """The files of the month.

    Attributes:
        ledger: the URL of the ledger.
        statement: the provider's statement.
        formula: the id of a task that a spreadsheet would read as a formula.
    """

    ledger: str
    statement: Path
    formula: str = "=1+1"


def month(folder: Path, book: PriceBook, jobs: int) -> Month:
    """Creates a month with this many jobs in a folder; only the reservations' ids differ from run to run."""
    clock = Clock(SINCE)
    created = Month(f"sqlite:///{folder}/spend.db", folder / "qingbo-2026-11.csv")
    rng = random.Random(11)  # noqa: S311 (a test)
    rows: list[tuple[str, int, datetime, str]] = []
    with BudgetGuard(created.ledger, BUDGETS, book=book, clock=clock) as guard:
        for number, second in enumerate(sorted(int(rng.triangular(0, 29.9, 14) * 86400) for _ in range(jobs))):
            clock.now = SINCE + timedelta(seconds=second)
            clip = video(**rng.choices(_CLIPS, (10, 6, 5, 3, 3, 1))[0], prompt=PROMPT)
            if number % 9 == 0 and clip["model"] == "kling-v3":
                clip["first_frame_image"] = URL
                clip["action"] = "image2video"
            admission = guard.admit(
                clip,
                project=rng.choices(_PROJECTS, (6, 5, 2, 2, 1))[0],
                key=f"shot-{number:04}",
                labels={"user": rng.choice(("li", "wang", "zhao"))},
            )
            guard.dispatch(admission)
            task = created.formula if number == 7 else f"task_{rng.getrandbits(48):012x}"
            rows += _billed(guard, admission, task, number, clock)
    _write(created.statement, rows)
    return created


def _billed(
    guard: BudgetGuard, admission: Admission, task: str, number: int, clock: Clock
) -> list[tuple[str, int, datetime, str]]:
    """Ends a job in the way that its number selects, and returns its rows on the statement."""
    quota = int(admission.quote.total * 500_000)
    row = (task, quota, clock.now, admission.quote.model)
    kind = number % 40
    if kind == 11:
        guard.mark_in_doubt(admission, f"timeout of {URL} with Bearer {API_KEY}")
        return [row]
    guard.bind(admission, task)
    if kind == 12:
        return []
    if kind == 13:
        guard.observe({"task_id": task, "status": "failed", "cost": 0}, provider="qingbo")
        return []
    if kind == 14:
        guard.settle(admission)
    else:
        guard.observe({"task_id": task, "status": "completed", "cost": quota}, provider="qingbo")
    differing_rows = {
        15: [(*row[:1], quota * 2, *row[2:])],  # twice the length
        16: [row, row],
        17: [(*row[:1], quota + 12345, *row[2:])],  # an unexplained amount
        18: [],
        19: [row, (f"{task}x", 178_500, clock.now, admission.quote.model)],  # a task that is not in the ledger
    }
    return differing_rows.get(kind, [row])


def _write(path: Path, rows: list[tuple[str, int, datetime, str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        out = csv.writer(file)
        out.writerow(["task_id", "model", "status", "created_at", "cost", "prompt", "video_url", "api_key"])
        for task, quota, at, model in rows:
            out.writerow([task, model, "completed", int(at.timestamp()), quota, PROMPT, URL, API_KEY])
        out.writerow(["task_bad", "kling-v3", "completed", "1794000000", "12.5", PROMPT, URL, API_KEY])
