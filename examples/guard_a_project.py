"""Keep a project within its budget: reserve the money, submit the job, and record its actual cost.

Run it with::

    .venv/bin/python examples/guard_a_project.py
"""

from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from kling_pricing import Budget, BudgetExceededError, BudgetGuard

TRAILER = Budget(name="trailer", match={"project": "trailer"}, cap=Decimal(1), currency="USD", on_exceed="cap")


def submit(payload: dict[str, Any]) -> dict[str, Any]:
    """Stands in for your own HTTP call: accepts every job."""
    return {"task_id": f"task-{payload['duration']}", "status": "queued"}


request = {"model": "kling-v3", "prompt": "a paper boat", "duration": 5, "resolution": "1080p", "audio": True}

with TemporaryDirectory() as folder:
    guard = BudgetGuard(f"sqlite:///{Path(folder) / 'spend.db'}", [TRAILER])
    for shot in ("shot-1", "shot-2", "shot-3"):
        try:
            with guard.admission(request, project="trailer", key=shot) as admission:
                response = submit(guard.dispatch(admission))
                guard.observe(response, provider="qingbo", reservation=admission.reservation_id)
        except BudgetExceededError as error:
            print(f"{shot}: not submitted; {error}")
        else:
            print(f"{shot}: {admission.quote.total} USD, changed: {dict(admission.changes)}")

    guard.observe({"task_id": "task-5", "status": "completed", "cost": 357000}, provider="qingbo")
    guard.observe({"task_id": "task-3", "status": "failed", "cost": 0}, provider="qingbo")
    for bucket in guard.status():
        print(f"{bucket.budget}: spent {bucket.spent}, held {bucket.held}, left {bucket.available}")
    guard.verify()
    guard.close()
