"""Budgets as objects, with the same rules as in a file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import ValidationError

from kling_pricing.budgets.budgets_file import BudgetsFile
from kling_pricing.budgets.checking import contradictions
from kling_pricing.budgets.entries import BudgetEntry
from kling_pricing.display import shown
from kling_pricing.errors import BudgetError
from kling_pricing.strict_yaml import explained, key_path


class Budget(BudgetEntry):
    """A limit on the total cost of matching requests within a window.

    Attributes:
        name: the budget's name in messages and reports.
        match: label -> a value, a list of values, `any` (all values share one bucket), or `"*"`
            (one bucket per value); empty: every request. `project` is a label like any other.
        cap: the maximum amount that may be held and spent in one window, in `currency`.
        currency: the ISO 4217 code; quotes in another currency need an accounting rate.
        window: `lifetime`, `day`, `week`, `month`, `quarter`, `year`, `{"start": ..., "end": ...}` with the
            first day and the day after the last, or `{"rolling": "24h"}` for a window that always ends now.
        timezone: the IANA name of the zone in which days begin.
        week_starts: the first day of a week.
        on_exceed: `reject` refuses a request that does not fit; `cap` changes it to a cheaper valid one.
        enforce: `always`, or `observe`: the budget counts and alerts, records the requests that it would have
            refused or made cheaper, and limits nothing.
        max_request: the maximum cost of a single request; None if only the cap limits it.
        alerts: the fractions of the cap at which an alert fires, once per window; in a rolling window, once
            per crossing.
        notify: receivers of this budget's alerts, in addition to those of `Budgets`: `env:NAME` or
            `file:PATH`, the environment variable or file that contains the receiver's URL.
        min_duration_s: capping never makes the video shorter than this.
        min_resolution: capping never lowers the resolution below this.
        keep: the settings that capping must not change: `duration_s`, `resolution`, `audio`, `model`.
        carry_over: whether new buckets count the amounts already in the ledger, if a revision adds the budget
            or changes its match, window, time zone or currency. A budget that comes back after its removal
            carries over unless it is given as False.

    Raises:
        BudgetError: a value is invalid; the message names it.
    """

    def __init__(self, **fields: Any) -> None:
        try:
            super().__init__(**fields)
        except ValidationError as error:
            raise _budget_error(error, fields.get("name")) from None


class Budgets(BudgetsFile):
    """Several budgets and the settings that apply to all of them.

    Attributes:
        budgets: the budgets, with different names.
        unmatched: `refuse` requests that no budget matches (the default), or `allow` them without a limit.
        notify: the receivers of all alerts, as `env:NAME` or `file:PATH`.
        accounting_rates: the rates for quotes in other currencies.
        capping: the settings that may be changed to make a request fit, and their order.
        projects: the projects that may spend; None: every project.
        require_labels: the labels that every request must have; None: no label is required.

    Raises:
        BudgetError: a value is invalid; the message names it.
    """

    def __init__(self, budgets: Iterable[BudgetEntry], **fields: Any) -> None:
        if isinstance(budgets, BudgetEntry | Mapping) or not isinstance(budgets, Iterable):
            raise BudgetError(f"budgets must be a list of Budget objects, got {type(budgets).__name__}")
        try:
            super().__init__(budgets=list(budgets), **fields)
        except ValidationError as error:
            raise _budget_error(error) from None
        for place, problem in contradictions(self.model_dump(mode="json")):
            raise BudgetError(problem, key_path=key_path(place))


def _budget_error(error: ValidationError, name: Any = None) -> BudgetError:
    path, problem = explained(error.errors(include_url=False)[0])
    return BudgetError(problem if name is None else f"budget {shown(name)}: {problem}", key_path=key_path(path))
