"""The sandbox's own bill: exact, and independent of the charges that responses state."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from kling_pricing.money import add, format_decimal
from kling_pricing.sandbox.accounts import part_from
from kling_pricing.sandbox.clock import from_ms
from kling_pricing.sandbox.jobs import Records

MAX_ENTRIES = 1000
"""The maximum number of entries in one response; the totals always include all entries."""

END_OF_TIME_MS = 2**62
"""A time after all others."""


def bill(records: Records, provider: str, since_ms: int = 0, until_ms: int = END_OF_TIME_MS) -> dict[str, Any]:
    """Returns the charges of a provider in a period.

    Returns:
        `total`: currency -> the amount of money charged; `units`: unit -> the amount charged; `tasks`: the
        number of charged tasks; `entries`: the first `MAX_ENTRIES` entries, each with task, time, kind and
        money; `next`: the time of the next entry in milliseconds since 1970, None if there are no more entries.
        All amounts are strings.
    """
    total: dict[str, Decimal] = defaultdict(Decimal)
    units: dict[str, Decimal] = defaultdict(Decimal)
    entries: list[dict[str, Any]] = []
    tasks, following = 0, None
    for task, at_ms, kind, texts in records.bill_entries(provider, since_ms, until_ms):
        parts = [part_from(part) for part in texts]
        money: dict[str, Decimal] = defaultdict(Decimal)
        for part in parts:
            total[part.currency] = add(total[part.currency], part.worth)
            money[part.currency] = add(money[part.currency], part.worth)
            units[part.unit] = add(units[part.unit], part.amount)
        tasks += 1
        if len(entries) < MAX_ENTRIES:
            entries.append(
                {"task": task, "at": from_ms(at_ms).isoformat(), "kind": kind, "money": _texts(money)}
            )
        elif following is None:
            following = at_ms
    return {
        "provider": provider,
        "total": _texts(total),
        "units": _texts(units),
        "tasks": tasks,
        "entries": entries,
        "next": following,
    }


def _texts(amounts: Mapping[str, Decimal]) -> dict[str, str]:
    return {unit: format_decimal(amount) for unit, amount in amounts.items()}
