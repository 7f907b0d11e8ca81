"""Helpers for tests of the guard: a guard that verifies its ledger, a clip with its price, jobs by stage."""

import inspect
from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal
from functools import wraps
from typing import Any, TypeAlias

from kling_pricing import BudgetGuard, LedgerUnavailableError, Reservation
from kling_pricing.ledger.verification import Verification
from tests.conftest import IN_CI, LONG, video

CLIP = video(duration=5, resolution="1080p", audio=True)
COST = Decimal("0.714")
"""The price of `CLIP` at qingbo: 5 s x 0.1428 USD."""

ZERO = Decimal(0)

Amounts: TypeAlias = tuple[Decimal | int, ...]


READS = frozenset(
    {
        *("allowance_requests", "allowances", "budgets", "cap_change", "cap_overlays", "decide", "forecasts"),
        *("freezes", "history", "in_doubt", "journal", "log", "plan", "refusals", "reservation", "status"),
        *("unclaimed", "unpriced", "waived"),
    }
)
"""The verbs that only read."""


class VerifiedGuard(BudgetGuard):
    """A guard that verifies its ledger after every verb, whether the verb returned or raised.

    After verbs that only read, it verifies once: after the next other verb, or when it is closed.
    In PostgreSQL, where a verification takes much longer, it verifies when it is closed or the test ends; in CI
    and in a long run it verifies after every verb there, too.
    It does not verify a ledger that the verb could not reach.
    Workers in the tests of races and of killed processes use a plain guard, because each verification reads the
    whole journal; those tests verify the ledger once the workers have ended.
    """

    _has_read = False

    def __init__(self, ledger: str, *args: Any, **options: Any) -> None:
        self._place = ledger
        super().__init__(ledger, *args, **options)

    def verify(self, **options: Any) -> Verification:
        """Verifies the ledger, which need not be verified again at the end."""
        _UNVERIFIED.pop(self._place, None)
        return super().verify(**options)

    def close(self) -> None:
        """Verifies what was only read or done since the last verification, and closes the guard."""
        is_due = self._has_read or _UNVERIFIED.get(self._place) is self
        self._has_read = False
        try:
            if is_due:
                with suppress(LedgerUnavailableError):
                    self.verify()
        finally:
            super().close()


_UNVERIFIED: dict[str, VerifiedGuard] = {}
"""The URL of a ledger -> the last guard that has done something there that is to be verified at the end."""


_VERIFIERS: dict[str, BudgetGuard] = {}
"""The URL of a ledger in PostgreSQL -> a guard that is kept, because a new session plans the queries anew."""


def verify_at_the_end() -> None:
    """Verifies the ledgers in which something has not been verified yet."""
    for place, guard in list(_UNVERIFIED.items()):
        with suppress(LedgerUnavailableError):
            try:
                if place not in _VERIFIERS:
                    _VERIFIERS[place] = BudgetGuard(place)
                _VERIFIERS[place].verify()
            except LedgerUnavailableError:  # a test may have ended its session
                guard.verify()
    _UNVERIFIED.clear()


def close_verifiers() -> None:
    """Closes the sessions in which ledgers are verified."""
    while _VERIFIERS:
        _VERIFIERS.popitem()[1].close()


def _verified(name: str, verb: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(verb)
    def run(guard: VerifiedGuard, *args: Any, **kwargs: Any) -> Any:
        place = guard._place  # noqa: SLF001 (its own attribute)
        if place.startswith("postgres") and not (LONG or IN_CI):
            _UNVERIFIED[place] = guard
            return verb(guard, *args, **kwargs)
        try:
            result = verb(guard, *args, **kwargs)
        except LedgerUnavailableError:
            raise
        except BaseException:
            guard.verify()
            raise
        guard._has_read = name in READS  # noqa: SLF001 (its own attribute)
        if name not in READS:
            guard.verify()
        return result

    return run


for _name, _verb in inspect.getmembers(BudgetGuard, inspect.isfunction):
    # `admission` is a context manager around other verbs
    if not _name.startswith("_") and _name not in {"admission", "close", "verify"}:
        setattr(VerifiedGuard, _name, _verified(_name, _verb))


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
