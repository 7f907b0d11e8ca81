"""Reconcile a provider's statement with a ledger, and show why charges differ from the expected costs.

Run it with::

    .venv/bin/python examples/reconcile_a_month.py
"""

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory

from kling_pricing import Budget, BudgetGuard
from kling_pricing.reconcile import reconcile

NOON = datetime(2026, 11, 5, 12, tzinfo=UTC)
CLIP = {"model": "kling-v3", "prompt": "a paper boat", "duration": 5, "resolution": "1080p", "audio": True}
COSTS = {"shot-1": 357000, "shot-2": 714000, "shot-3": 238000, "shot-4": 357000, "shot-5": 357001}

with TemporaryDirectory() as folder:
    ledger = f"sqlite:///{folder}/spend.db"
    budgets = [Budget(name="trailer", match={"project": "trailer"}, cap=Decimal(100), currency="USD")]
    with BudgetGuard(ledger, budgets, clock=lambda: NOON) as guard:
        for shot in COSTS:
            admission = guard.admit(CLIP, project="trailer", key=shot)
            guard.dispatch(admission)
            guard.bind(admission, f"task-{shot}")
        guard.observe({"task_id": "task-shot-4", "status": "failed", "cost": 0}, provider="qingbo")

    statement = Path(folder) / "november.csv"
    created_at = int(NOON.timestamp() * 1000)
    rows = [f"task-{shot},kling-v3,completed,{created_at},{cost}" for shot, cost in COSTS.items()]
    statement.write_text("\n".join(["task_id,model,status,created_at,cost", *rows, ""]))

    since, until = datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)
    with reconcile(ledger, statement, provider="qingbo", since=since, until=until) as result:
        for line in result.lines():
            cause = f": {line.cause}" if line.cause else ""
            print(f"{line.key}: expected {line.expected}, billed {line.billed}, {line.category}{cause}")
        (total,) = result.totals("all")
        print(f"{result.exceptions} exceptions; {total.expected} + {total.variance} = {total.billed} USD")
