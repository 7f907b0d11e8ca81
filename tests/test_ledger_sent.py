"""The export of sent reservations as lines of text, on both kinds of store."""

import json
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from kling_pricing import Budget, BudgetGuard, LedgerUnavailableError, PriceBook
from kling_pricing.ledger import connect
from kling_pricing.ledger.sent_lines import SENT, SENT_SEPARATOR
from kling_pricing.ledger.terms import TERMS, TERMS_SEPARATOR
from tests.conftest import Clock, video

CLIP = video(duration=5, resolution="1080p", audio=True)
BUDGETS = [Budget(name="all", cap=Decimal(1000), currency="USD")]
Read = Callable[..., dict[str, dict[str, str]]]


@pytest.fixture
def guard(ledger: str, book: PriceBook, clock: Clock) -> BudgetGuard:
    """Returns a guard with one budget."""
    return BudgetGuard(ledger, BUDGETS, book=book, clock=clock)


@pytest.fixture
def read(ledger: str, clock: Clock) -> Read:
    """Returns a function that reads the exported lines, by key."""

    def lines(provider: str = "qingbo", **later: float) -> dict[str, dict[str, str]]:
        store = connect(ledger, clock=clock)
        blocks = store.sent(provider, clock.now + timedelta(**later or {"seconds": 1}))
        texts = b"".join(blocks).decode().splitlines()
        store.close()
        records = [dict(zip(SENT, text.split(SENT_SEPARATOR), strict=True)) for text in texts]
        for record in records:
            record.update(zip(TERMS, record.pop("terms").split(TERMS_SEPARATOR), strict=True))
        return {record["key"]: record for record in records}

    return lines


def send(guard: BudgetGuard, key: str, task_id: str | None = None) -> str:
    """Admits and dispatches a clip, binds it to a task if one is given, and returns the reservation's id."""
    admission = guard.admit(CLIP, project="trailer", key=key, labels={"user": 'li "the \\ one" 李'})
    guard.dispatch(admission)
    if task_id is not None:
        guard.bind(admission, task_id)
    return admission.reservation_id


def test_a_line_has_every_field_as_text(guard: BudgetGuard, read: Read) -> None:
    """A line has amounts in nanos, labels as JSON for any characters, and instants without a zone."""
    sent = send(guard, "shot-1", "t-1")
    (line,) = read().values()
    assert json.loads(line.pop("labels")) == {"project": "trailer", "user": 'li "the \\ one" 李'}
    assert Decimal(line.pop("unit_value")) == Decimal("0.000002")
    assert line == {
        "id": sent,
        "project": "trailer",
        "key": "shot-1",
        "state": "bound",
        "account": "qingbo",
        "task_id": "t-1",
        "model": "kling-v3",
        "resolution": "1080p",
        "tier": "audio",
        "quantity": "5",
        "unit": "second",
        "currency": "USD",
        "expected": "714000000",
        "list_total": "",
        "billed": "",
        "basis": "",
        "price_table": "qingbo/2026-04-29",
        "statement_unit": "quota",
        "failed_tasks": "refunded",
        "dispatched_at": "2026-11-21T00:00:00.000000",
        "closed_at": "",
        "ended": "",
    }


def test_only_jobs_that_may_be_billed_are_exported(guard: BudgetGuard, read: Read) -> None:
    """The export has failed jobs and recorded spend, but no unsent or refused jobs."""
    guard.admit(CLIP, project="trailer", key="waiting")
    guard.release_refused(send(guard, "refused"))
    send(guard, "in doubt")
    send(guard, "failed", "t-1")
    guard.observe({"task_id": "t-1", "status": "failed", "cost": 0}, provider="qingbo")
    send(guard, "charged", "t-2")
    guard.observe({"task_id": "t-2", "status": "failed", "cost": 357000}, provider="qingbo")
    send(guard, "done at last", "t-3")
    guard.observe({"task_id": "t-3", "status": "failed", "cost": 357000}, provider="qingbo")
    guard.observe({"task_id": "t-3", "status": "completed", "cost": 357000}, provider="qingbo")
    recorded = guard.record("qingbo", "t-4", Decimal("0.5"), labels={"project": "trailer"})
    lines = read()
    assert {key: (line["state"], line["ended"], line["billed"]) for key, line in lines.items()} == {
        "in doubt": ("dispatching", "", ""),
        "failed": ("released", "failed", ""),
        "charged": ("settled", "failed", "714000000"),
        "done at last": ("settled", "", "714000000"),
        recorded.key: ("settled", "", "500000000"),
    }
    assert read(provider="kling") == {}
    assert read(seconds=0) == {}


def test_the_export_is_one_snapshot_and_blocks_nobody(guard: BudgetGuard, ledger: str, clock: Clock) -> None:
    """Jobs sent after the export began are not in it, and other writers do not wait for it."""
    for number in range(300):
        guard.record("qingbo", f"t-{number}", 1 if number else 2, labels={"project": "trailer"}, at=clock.now)
    store = connect(ledger, clock=clock)
    blocks = store.sent("qingbo", clock.now + timedelta(hours=1))
    first = next(blocks)
    guard.settle(("qingbo", "t-299"), 7, basis="operator")
    send(guard, "later", "t-later")
    text = (first + b"".join(blocks)).decode()
    assert text.count("\n") == 300
    assert f"{SENT_SEPARATOR}7000000000{SENT_SEPARATOR}" not in text


def test_the_export_creates_no_file(tmp_path: Path, clock: Clock) -> None:
    """A misspelt file name raises an error, every time."""
    path = tmp_path / "spent.db"
    for _ in range(2):
        with pytest.raises(LedgerUnavailableError, match="no such file"):
            list(connect(f"sqlite:///{path}", clock=clock).sent("qingbo", clock.now))
    assert list(tmp_path.iterdir()) == []
    path.touch()
    with pytest.raises(LedgerUnavailableError, match="the file is empty"):
        list(connect(f"sqlite:///{path}", clock=clock).sent("qingbo", clock.now))
    assert path.read_bytes() == b""
