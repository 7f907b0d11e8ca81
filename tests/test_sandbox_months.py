"""Two months of jobs at each provider through a hook are reconciled with the statements, task by task."""

from __future__ import annotations

import random
from collections import defaultdict
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from kling_pricing import PriceBook
from kling_pricing.reconcile import Line, reconcile
from tests.conftest import Clock
from tests.rehearsals import CURRENCY, JOBS, PRICED_BY, Rehearsed, rehearsing, with_currency, with_words

NOVEMBER, DECEMBER = datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)
MONTHS = ((NOVEMBER, DECEMBER), (DECEMBER, datetime(2027, 1, 1, tzinfo=UTC)))
EXPORTS = {"kling": ("package", "balance")}
ERRORS = (
    *("twice", "dearer", "too-long", "late", "refunded-later", "corrected-later", "split", "missing"),
    "failed-but-charged",
)
NEEDS_ACTION = {"twice", "dearer", "too-long", "late", "refunded-later", "split", "missing"}
"""The statement errors that need action in the month of the job."""
UNKNOWN_BEFORE = {"octopusx": {"explained"}}
"""Provider -> the categories of the jobs whose price depends on a length that the API decides."""
TASKS = 3 * len(ERRORS)


def submit_jobs(run: Rehearsed, clock: Clock) -> None:
    """Submits a job every few hours until December; a third of the jobs has an error on the statement."""
    dice = random.Random(5)  # noqa: S311 (not a secret)
    for number in range(TASKS):
        path, payload = JOBS[run.provider][number % len(JOBS[run.provider])]
        error = ERRORS[number // 3] if number % 3 == 0 else ""
        words = f"[statement:{error}]" if error else ""
        words += "[fail:moderation]" if error == "failed-but-charged" else ""
        run.submit(path, with_words(payload, words))
        hours = dice.randrange(4, 16)
        run.sandbox.advance(seconds=hours * 3600)
        clock.pass_by(hours=hours)


def amount(run: Rehearsed, entry: dict[str, Any]) -> Decimal:
    """Returns the amount of money in an entry of the bill or in a statement row with an error."""
    return Decimal(entry["money"].get(CURRENCY.get(run.provider, "USD"), "0"))


def charged(run: Rehearsed) -> tuple[list[dict[str, Decimal]], dict[str, str]]:
    """Returns, for each month, task -> the charge on the statement, and task -> the error on the statement."""
    planted = run.sandbox.call("GET", f"/{run.provider}/_planted")
    errors = {row["task"]: row["error"] for row in planted}
    entries = [
        entry
        for entry in run.sandbox.call("GET", f"/{run.provider}/_bill")["entries"]
        if entry["task"] not in errors
    ]
    months: list[dict[str, Decimal]] = []
    for since, until in MONTHS:
        sums: dict[str, Decimal] = defaultdict(Decimal)
        for entry in (*entries, *planted):
            if since <= datetime.fromisoformat(entry["at"]) < until and entry["money"]:
                sums[entry["task"]] += amount(run, entry)
        months.append(sums)
    return months, errors


def reconciled(run: Rehearsed, folder: Path, since: datetime, until: datetime, book: PriceBook) -> list[Line]:
    """Reconciles the statement of a month."""
    paths = []
    for export in EXPORTS.get(run.provider, ("",)):
        content = run.sandbox.statement(
            run.provider, since=since, until=until, **({"export": export} if export else {})
        )
        paths.append(folder / f"{since:%m}{export}.{'json' if content.lstrip()[:1] in b'{[' else 'csv'}")
        paths[-1].write_bytes(content)
    with reconcile(
        f"sqlite:///{folder}/spend.db",
        paths,
        provider=PRICED_BY.get(run.provider, run.provider),
        since=since,
        until=until,
        book=with_currency(book),
    ) as reconciliation:
        return [*reconciliation.lines()]


@pytest.mark.parametrize("provider", JOBS)
def test_each_month_charges_what_the_provider_has_billed(
    provider: str, book: PriceBook, tmp_path: Path
) -> None:
    """Every task's billed amount is that of the statement, and only tasks with an error need action."""
    clock = Clock()
    scenario = {"providers": {"kling": {"pays": ["pack", "cash"], "packs": {"video": "50"}}}}
    with rehearsing(provider, tmp_path, book, scenario, clock=clock) as run:
        submit_jobs(run, clock)
        run.settle()
        months, errors = charged(run)
        for (since, until), expected in zip(MONTHS, months, strict=True):
            lines = reconciled(run, tmp_path, since, until, book)
            billed = {line.task_id: line.billed for line in lines if line.billed is not None}
            assert billed == expected
            assert sum(expected.values()) > 0
            correct = {line.category for line in lines if line.task_id not in errors}
            assert correct <= {"matched"} | UNKNOWN_BEFORE.get(provider, set())
            acting = {errors[str(line.task_id)] for line in lines if line.remedy and line.task_id in errors}
            assert acting >= (NEEDS_ACTION if since == NOVEMBER else {"split"})
