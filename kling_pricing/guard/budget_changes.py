"""Changes to budgets and balances: new budgets, opening balances, and spend outside the guard."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from datetime import datetime
from decimal import Decimal

from kling_pricing.budgets import EACH, BudgetsFile, BudgetsLike, read_budgets
from kling_pricing.display import shown
from kling_pricing.errors import BudgetError, KlingPricingError, LedgerUnavailableError
from kling_pricing.guard.reservation_requests import booking
from kling_pricing.guard.state import MAX_ROUNDS, GuardState
from kling_pricing.ledger import connect
from kling_pricing.ledger.actions import author
from kling_pricing.ledger.calendars import CalendarChange
from kling_pricing.ledger.claims import claim, claims
from kling_pricing.ledger.model import Outdated, Reservation
from kling_pricing.ledger.redaction import checked_labels, currency_code, short_text
from kling_pricing.money import ledger_amount, nanos_up
from kling_pricing.windows import in_utc, utc_clock


def record(
    state: GuardState,
    provider: str,
    task_id: str,
    amount: Decimal | int | str,
    labels: Mapping[str, str],
    at: datetime | None,
    currency: str | None,
    reason: str | None = None,
) -> Reservation:
    """Records spend that did not go through the guard; see `BudgetGuard.record`."""
    when = state.clock() if at is None else in_utc(at)
    if not isinstance(labels, Mapping):
        raise KlingPricingError(f"labels must be a mapping that contains the project, got {shown(labels)}")
    all_labels = checked_labels(labels.get("project", ""), labels)
    charged = ledger_amount(amount)
    by = None if reason is None else author(state.actor, reason)
    provider, task_id = short_text("provider", provider), short_text("task_id", task_id)
    charge_currency = currency_code(currency or state.book.table(provider, when).currency)
    for _ in range(MAX_ROUNDS):
        in_force, claimed = state.with_budgets(lambda known: claims(known.budgets, all_labels, charge_currency))
        request, spent = booking(
            provider,
            task_id,
            charged,
            charge_currency,
            labels=all_labels,
            claimed=claimed,
            revision=in_force.digest,
        )
        answer = state.ledger.record(request, spent, task_id, when, by)
        if not isinstance(answer, Outdated):
            return state.reservation_after(answer)
        state.take_over(answer.revision)
    raise LedgerUnavailableError("the ledger's budgets kept changing while spend was being recorded; try again")


def open_budget(
    state: GuardState,
    name: str,
    spent: Decimal | int | str,
    labels: Mapping[str, str] | None,
    reason: str | None,
) -> None:
    """Records the opening balance of a budget's window; see `BudgetGuard.open_budget`."""
    budgets = state.newest_budgets().budgets.budgets
    budget = next((budget for budget in budgets if budget.name == name), None)
    if budget is None:
        known = ", ".join(budget.name for budget in budgets)
        raise BudgetError(f"unknown budget {name}; the ledger's budgets are {known}")
    bucket_labels = [label for label, value in budget.match.items() if value == EACH]
    if sorted(bucket_labels) != sorted(labels or {}):
        if not bucket_labels:
            raise BudgetError(f"budget {name} has a single bucket; omit the labels")
        raise BudgetError(
            f"budget {name} has separate buckets; specify a value for each of these labels, and no other "
            f"labels: {', '.join(bucket_labels)}"
        )
    bucket = {label: short_text(f"label {label}", value) for label, value in (labels or {}).items()}
    opening, by = nanos_up(ledger_amount(spent)), author(state.actor, reason)
    state.deliver(state.ledger.open_bucket(claim(budget, bucket, None), opening, by))


def apply(state: GuardState, budgets: BudgetsLike, reason: str | None) -> BudgetsFile:
    """Replaces the ledger's budgets; see `BudgetGuard.apply`."""
    state.deliver(state.ledger.apply(read_budgets(budgets), author(state.actor, reason)))
    return state.newest_budgets().budgets


def calendar_changes(ledger: str, budgets: BudgetsLike) -> tuple[CalendarChange, ...]:
    """Returns the windows that `apply_budgets` would move or add, and changes nothing.

    Raises:
        BudgetError: the budgets cannot be used.
        LedgerError: the ledger cannot be used.
    """
    with closing(connect(ledger, clock=utc_clock(None))) as store:
        return store.calendar_changes(read_budgets(budgets))


def freeze_all(ledger: str, *, actor: str | None = None, reason: str) -> None:
    """Stops all spending in a ledger at once, for every process. Jobs that were sent are settled as usual.

    Until `thaw_all`, nothing is admitted. A reservation that is not dispatched yet is released at its dispatch.
    If spending is frozen already, the first freeze stays.

    Args:
        ledger: the ledger's URL.
        actor: the person or program that freezes spending; by default, the system's user.
        reason: the reason.

    Raises:
        LedgerError: the ledger cannot be used, or this role may not freeze spending.
    """
    with closing(connect(ledger, clock=utc_clock(None))) as store:
        store.freeze(author(actor, reason))


def thaw_all(ledger: str, *, actor: str | None = None, reason: str) -> bool:
    """Allows spending again, and returns whether it was frozen; the arguments are those of `freeze_all`.

    Raises:
        LedgerError: the ledger cannot be used, or this role may not thaw spending.
    """
    with closing(connect(ledger, clock=utc_clock(None))) as store:
        return store.thaw(author(actor, reason))


def apply_budgets(
    ledger: str, budgets: BudgetsLike, *, actor: str | None = None, reason: str | None = None
) -> BudgetsFile:
    """Installs budgets in a new or existing ledger, as `BudgetGuard.apply` does, and returns them.

    Args:
        ledger: the ledger's URL.
        budgets: the path of a budgets file, or `Budget` objects.
        actor: the person or program that installs them; by default, the system's user.
        reason: the reason.

    Raises:
        BudgetError: the budgets cannot be used, or cannot replace the installed ones; nothing has changed.
        LedgerError: the ledger cannot be used.
    """
    parsed = read_budgets(budgets)
    with closing(connect(ledger, clock=utc_clock(None))) as store:
        store.apply(parsed, author(actor, reason))
    return parsed
