"""Changes to budgets and balances: new budgets, opening balances, and spend outside the guard."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import closing
from datetime import datetime
from decimal import Decimal

from kling_pricing.budgets import EACH, BudgetsFile, BudgetsLike, Consent, read_budgets
from kling_pricing.budgets.differences import NO_BUDGETS, ensure_not_kept
from kling_pricing.display import shown
from kling_pricing.errors import BudgetError, KlingPricingError, LedgerUnavailableError
from kling_pricing.guard.budget_plans import BudgetPlan, CapChange, cap_change, make_plan
from kling_pricing.guard.reservation_requests import booking
from kling_pricing.guard.state import MAX_ROUNDS, GuardState
from kling_pricing.ledger import Ledger, connect, errors
from kling_pricing.ledger.actions import Author, author
from kling_pricing.ledger.calendars import CalendarChange
from kling_pricing.ledger.carry_over import budget_named
from kling_pricing.ledger.claims import claim, claims
from kling_pricing.ledger.model import Alert, Outdated, Reservation
from kling_pricing.ledger.redaction import checked_labels, currency_code, short_text
from kling_pricing.money import format_decimal, ledger_amount, nanos_up
from kling_pricing.windows import in_utc, utc_clock


def record(
    state: GuardState,
    provider: str,
    task_id: str,
    amount: Decimal | int | str,
    labels: Mapping[str, str],
    at: datetime | None,
    currency: str | None,
    account: str | None,
    reason: str | None,
) -> Reservation:
    """Records spend that did not go through the guard; see `BudgetGuard.record`."""
    when = state.clock() if at is None else in_utc(at)
    if not isinstance(labels, Mapping):
        raise KlingPricingError(f"labels must be a mapping that contains the project, got {shown(labels)}")
    all_labels = checked_labels(labels.get("project", ""), labels)
    charged = ledger_amount(amount)
    by = None if reason is None else author(state.actor, reason)
    provider, task_id = short_text("provider", provider), short_text("task_id", task_id)
    from_account = provider if account is None else short_text("account", account)
    charge_currency = currency_code(currency or state.book.table(provider, when).currency)
    for _ in range(MAX_ROUNDS):
        in_force, claimed = state.with_budgets(lambda known: claims(known.budgets, all_labels, charge_currency))
        request, spent = booking(
            provider,
            task_id,
            charged,
            charge_currency,
            account=from_account,
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
    budget = budget_named(state.newest_budgets().budgets, name)
    if budget.step is not None:
        raise errors.no_opening(name)
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


def apply(
    state: GuardState,
    budgets: BudgetsLike | BudgetPlan,
    remove: Iterable[str],
    allow_weaker: bool,  # noqa: FBT001 (its name is given by every caller's own keyword)
    reason: str | None,
) -> BudgetsFile:
    """Replaces the ledger's budgets; see `BudgetGuard.apply`."""
    state.deliver(_apply(state.ledger, budgets, remove, allow_weaker, author(state.actor, reason)))
    return state.newest_budgets().budgets


def _apply(
    ledger: Ledger,
    budgets: BudgetsLike | BudgetPlan,
    remove: Iterable[str],
    allow_weaker: bool,  # noqa: FBT001
    by: Author,
) -> tuple[Alert, ...]:
    names = [] if isinstance(remove, str) else [*remove]
    if isinstance(remove, str) or not all(isinstance(name, str) for name in names):
        raise KlingPricingError(f"remove must be a list of the names of budgets, got {shown(remove)}")
    base = (budgets.base or NO_BUDGETS) if isinstance(budgets, BudgetPlan) else None
    new = budgets.budgets if isinstance(budgets, BudgetPlan) else read_budgets(budgets)
    ensure_not_kept(new, names)
    return ledger.apply(new, by, Consent(frozenset(names), allow_weaker, base))


def set_cap(
    state: GuardState, name: str, cap: Decimal | int | str, until: datetime | None, reason: str | None
) -> None:
    """Changes the cap of one budget; see `BudgetGuard.set_cap`."""
    amount, end = _cap_until(state, cap, until)
    state.deliver(state.ledger.set_cap(name, amount, end, author(state.actor, reason)))
    state.newest_budgets()


def calendar_changes(ledger: str, budgets: BudgetsLike) -> tuple[CalendarChange, ...]:
    """Returns the windows that `apply_budgets` would move or add, and changes nothing.

    Raises:
        BudgetError: the budgets cannot be used.
        LedgerError: the ledger cannot be used.
    """
    with closing(connect(ledger, clock=utc_clock(None))) as store:
        return store.calendar_changes(read_budgets(budgets))


def cap_change_of(state: GuardState, name: str, cap: Decimal | int | str, until: datetime | None) -> CapChange:
    """Returns the effect of a new cap; see `BudgetGuard.cap_change`."""
    amount, end = _cap_until(state, cap, until)
    return cap_change(state.ledger, state.newest_budgets().budgets, name, amount, end, state.clock())


def _cap_until(
    state: GuardState, cap: Decimal | int | str, until: datetime | None
) -> tuple[Decimal, datetime | None]:
    """Returns a cap and its end as a ledger stores them."""
    end = None if until is None else in_utc(until)
    if end is not None and end <= state.clock():
        raise KlingPricingError(f"until must be in the future, got {end.isoformat()}; give a later instant")
    return Decimal(format_decimal(ledger_amount(cap))), end


def plan_budgets(ledger: str, budgets: BudgetsLike) -> BudgetPlan:
    """Returns the effect that `apply_budgets` would have on a new or existing ledger, and changes nothing.

    Raises:
        BudgetError: the budgets cannot be used.
        LedgerError: the ledger cannot be used.
    """
    clock = utc_clock(None)
    with closing(connect(ledger, clock=clock)) as store:
        return make_plan(store, budgets, clock())


def apply_budgets(
    ledger: str,
    budgets: BudgetsLike | BudgetPlan,
    *,
    remove: Iterable[str] = (),
    allow_weaker: bool = False,
    actor: str | None = None,
    reason: str | None = None,
) -> BudgetsFile:
    """Installs budgets in a new or existing ledger, as `BudgetGuard.apply` does, and returns them.

    Args:
        ledger: the ledger's URL.
        budgets: the path of a budgets file, `Budget` objects, or a plan from `plan_budgets`.
        remove: the names of the budgets that the new ones do not contain.
        allow_weaker: whether protection may become weaker.
        actor: the person or program that installs them; by default, the system's user.
        reason: the reason.

    Raises:
        BudgetWeakenedError: a budget is removed that `remove` does not name, or protection becomes weaker
            without `allow_weaker`; nothing has changed.
        BudgetError: the budgets cannot be used, or cannot replace the installed ones; nothing has changed.
        LedgerError: the ledger cannot be used.
    """
    parsed = budgets.budgets if isinstance(budgets, BudgetPlan) else read_budgets(budgets)
    with closing(connect(ledger, clock=utc_clock(None))) as store:
        _apply(
            store,
            budgets if isinstance(budgets, BudgetPlan) else parsed,
            remove,
            allow_weaker,
            author(actor, reason),
        )
    return parsed
