"""The freezes, allowances and observed refusals that `budget status` shows below its table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

from kling_pricing.cli.budget.allowance_commands import allowance_dict, allowance_line
from kling_pricing.cli.budget.freeze_commands import freeze_dict, freeze_line
from kling_pricing.cli.output import counted
from kling_pricing.guard import BudgetGuard
from kling_pricing.ledger.freezing import Freeze
from kling_pricing.ledger.granting import Allowance
from kling_pricing.ledger.journal import Bucket, WaivedRefusals
from kling_pricing.money import add, format_decimal
from kling_pricing.windows import FOREVER


class Exceptions(NamedTuple):
    """The current freezes, the open allowances, and the refusals that budgets waived in the shown windows."""

    freezes: tuple[Freeze, ...]
    allowances: tuple[Allowance, ...]
    waived: tuple[WaivedRefusals, ...]


def exceptions(guard: BudgetGuard, buckets: Sequence[Bucket], at: datetime) -> Exceptions:
    """Reads the exceptions for the buckets that `budget status` shows."""
    windows = {(bucket.budget, str(sorted(bucket.labels.items())), bucket.window_start) for bucket in buckets}
    waived: dict[tuple[str, str, datetime], WaivedRefusals] = {}
    since = min((bucket.window_start for bucket in buckets), default=at)
    for row in guard.waived(since=None if since == FOREVER.start else since):
        place = (row.budget, str(sorted(row.labels.items())), row.window_start)
        if place in windows:
            known = waived.get(place, row._replace(requests=0, amount=Decimal(0)))
            waived[place] = row._replace(
                requests=known.requests + row.requests, amount=add(known.amount, row.amount)
            )
    allowances = [allowance for allowance in guard.allowances() if allowance.state(at) == "open"]
    return Exceptions(tuple(guard.freezes()), tuple(allowances), tuple(waived.values()))


def exceptions_dict(shown: Exceptions, at: datetime) -> dict[str, Any]:
    """Returns the exceptions as JSON-ready data."""
    return {
        "freezes": [freeze_dict(freeze) for freeze in shown.freezes],
        "allowances": [allowance_dict(allowance, at) for allowance in shown.allowances],
        "observed": [
            {
                "budget": row.budget,
                "labels": dict(row.labels),
                "requests": row.requests,
                "amount": format_decimal(row.amount),
                "currency": row.currency,
                "window_start": row.window_start.isoformat(),
            }
            for row in shown.waived
        ],
    }


def exceptions_lines(shown: Exceptions) -> Iterator[str]:
    """Yields the exceptions as sentences."""
    for freeze in shown.freezes:
        yield freeze_line(freeze)
    for allowance in shown.allowances:
        yield allowance_line(allowance)
    for row in shown.waived:
        name = ", ".join([row.budget, *(f"{label} {value}" for label, value in row.labels.items())])
        requests = counted(row.requests, "request")
        amount = f"{format_decimal(row.amount)} {row.currency}"
        yield f"Budget {name} would have refused {requests} ({amount}), but it is in observe mode"
