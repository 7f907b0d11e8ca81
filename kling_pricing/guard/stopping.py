"""Stops and allows spending in a ledger, for its administrator: freezes of budgets, or of all spending."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing

from kling_pricing.display import shown
from kling_pricing.errors import KlingPricingError
from kling_pricing.ledger import connect
from kling_pricing.ledger.actions import author
from kling_pricing.ledger.freezing import Freeze
from kling_pricing.windows import utc_clock


def freeze_budgets(
    ledger: str, budgets: Iterable[str], *, actor: str | None = None, reason: str
) -> tuple[Freeze, ...]:
    """Freezes budgets immediately, for every process. Jobs that were sent are settled as usual.

    When this returns, no request that one of the budgets matches is admitted or dispatched until the budget is
    thawed. A reservation that is not dispatched yet is released at its dispatch. Neither an allowance nor
    observe mode bypasses a freeze, and a frozen budget cannot be removed or renamed.

    Args:
        ledger: the ledger's URL.
        budgets: the names of the budgets.
        actor: the person or program that freezes them; by default, the system's user.
        reason: the reason.

    Returns:
        The current freezes of these budgets. A budget that was frozen already keeps its freeze.

    Raises:
        BudgetError: a budget is unknown; nothing has changed.
        LedgerError: the ledger cannot be used, or this role may not freeze budgets.
    """
    names = _names(budgets)
    with closing(connect(ledger, clock=utc_clock(None))) as store:
        return store.freeze(author(actor, reason), names)


def thaw_budgets(
    ledger: str, budgets: Iterable[str], *, actor: str | None = None, reason: str
) -> tuple[Freeze, ...]:
    """Ends the freezes of budgets; the arguments are those of `freeze_budgets`.

    A freeze of all spending remains.

    Returns:
        The freezes that it ended; empty: none of the budgets was frozen.

    Raises:
        BudgetError: a budget is unknown; nothing has changed.
        LedgerError: the ledger cannot be used, or this role may not thaw budgets.
    """
    names = _names(budgets)
    with closing(connect(ledger, clock=utc_clock(None))) as store:
        return store.thaw(author(actor, reason), names)


def freeze_all(ledger: str, *, actor: str | None = None, reason: str) -> Freeze:
    """Stops all spending in a ledger immediately, for every process. Jobs that were sent are settled as usual.

    Until `thaw_all`, nothing is admitted, not even a request that no budget matches. A reservation that is not
    dispatched yet is released at its dispatch. If spending is frozen already, the first freeze stays.

    Args:
        ledger: the ledger's URL.
        actor: the person or program that freezes spending; by default, the system's user.
        reason: the reason.

    Returns:
        The current freeze.

    Raises:
        LedgerError: the ledger cannot be used, or this role may not freeze spending.
    """
    with closing(connect(ledger, clock=utc_clock(None))) as store:
        (freeze,) = store.freeze(author(actor, reason))
        return freeze


def thaw_all(ledger: str, *, actor: str | None = None, reason: str) -> bool:
    """Ends the freeze of all spending, and returns whether there was one.

    Budgets that were frozen by name stay frozen. The arguments are those of `freeze_all`.

    Raises:
        LedgerError: the ledger cannot be used, or this role may not thaw spending.
    """
    with closing(connect(ledger, clock=utc_clock(None))) as store:
        return bool(store.thaw(author(actor, reason)))


def freezes(ledger: str) -> list[Freeze]:
    """Returns the current freezes: first that of all spending, then the oldest.

    Raises:
        LedgerError: the ledger cannot be used.
    """
    with closing(connect(ledger, clock=utc_clock(None))) as store:
        return store.freezes()


def _names(budgets: Iterable[str]) -> tuple[str, ...]:
    names = () if isinstance(budgets, str) else tuple(budgets)
    if not names or not all(isinstance(name, str) for name in names):
        raise KlingPricingError(f"budgets must be a list of one or more budget names, got {shown(budgets)}")
    return tuple(dict.fromkeys(names))
