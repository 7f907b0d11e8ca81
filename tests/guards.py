"""Helpers for tests of the guard: a guard that verifies its ledger, a clip with its price, jobs by stage."""

import inspect
from collections.abc import Callable
from decimal import Decimal
from functools import wraps
from typing import Any, TypeAlias

from kling_pricing import BudgetGuard, LedgerUnavailableError, Reservation
from tests.conftest import video

CLIP = video(duration=5, resolution="1080p", audio=True)
COST = Decimal("0.714")
"""The price of `CLIP` at qingbo: 5 s x 0.1428 USD."""

ZERO = Decimal(0)

Amounts: TypeAlias = tuple[Decimal | int, ...]


class VerifiedGuard(BudgetGuard):
    """A guard that verifies its ledger after every verb, whether the verb returned or raised.

    It does not verify a ledger that the verb could not reach.
    Workers in the tests of races and of killed processes use a plain guard, because each verification reads the
    whole journal; those tests verify the ledger once the workers have ended.
    """


def _verified(verb: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(verb)
    def run(guard: VerifiedGuard, *args: Any, **kwargs: Any) -> Any:
        try:
            result = verb(guard, *args, **kwargs)
        except LedgerUnavailableError:
            raise
        except BaseException:
            guard.verify()
            raise
        guard.verify()
        return result

    return run


for _name, _verb in inspect.getmembers(BudgetGuard, inspect.isfunction):
    # `admission` is a context manager around other verbs
    if not _name.startswith("_") and _name not in {"admission", "close", "verify"}:
        setattr(VerifiedGuard, _name, _verified(_verb))


def left(guard: BudgetGuard) -> Amounts:
    """Returns the amounts held, spent and available in the only bucket."""
    (bucket,) = guard.status()
    return bucket.held, bucket.spent, bucket.available


def sent(guard: BudgetGuard, **options: Any) -> Reservation:
    """Admits and dispatches a clip; returns its reservation."""
    admission = guard.admit(CLIP, project="trailer", **options)
    guard.dispatch(admission)
    return guard.reservation(admission)


def bound(guard: BudgetGuard, task_id: str = "task-1") -> Reservation:
    """Admits and dispatches a clip and binds it to a task; returns its reservation."""
    return guard.bind(sent(guard).id, task_id)


def answer(status: str, task_id: str = "task-1", **fields: Any) -> dict[str, Any]:
    """Returns a status response of the first provider's task system."""
    return {"task_id": task_id, "status": status, **fields}
