"""What tests of the guard share: a clip, what it costs, and how far a job has come."""

from decimal import Decimal
from typing import Any, TypeAlias

from kling_pricing import BudgetGuard, Reservation
from tests.conftest import video

CLIP = video(duration=5, resolution="1080p", audio=True)
COST = Decimal("0.714")
"""Of `CLIP` at qingbo: 5 s x 0.1428 USD."""

ZERO = Decimal(0)

Amounts: TypeAlias = tuple[Decimal | int, ...]


def left(guard: BudgetGuard) -> Amounts:
    """Held, spent and available of the only bucket."""
    (bucket,) = guard.status()
    return bucket.held, bucket.spent, bucket.available


def sent(guard: BudgetGuard, **said: Any) -> Reservation:
    """The reservation of a clip that was dispatched."""
    admission = guard.admit(CLIP, project="trailer", **said)
    guard.dispatch(admission)
    return guard.reservation(admission)


def bound(guard: BudgetGuard, task_id: str = "task-1") -> Reservation:
    """The reservation of a clip that became a task."""
    return guard.bind(sent(guard).id, task_id)


def answer(status: str, task_id: str = "task-1", **fields: Any) -> dict[str, Any]:
    """A status response of the first provider's task system."""
    return {"task_id": task_id, "status": status, **fields}
