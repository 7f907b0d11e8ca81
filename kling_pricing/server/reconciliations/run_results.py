"""The result of a reconciliation as JSON-ready data, for the page and the API. Amounts are text."""

from __future__ import annotations

import hashlib
import json
from itertools import islice
from typing import Any

from kling_pricing.money import format_decimal
from kling_pricing.reconcile import Reconciliation, exceptions_by_cause
from kling_pricing.reconcile.categories import CATEGORIES
from kling_pricing.reconcile.model import Line, exceptions_of
from kling_pricing.server.reconciliations.page_words import in_words_of_pages

MAX_LINES = 200
"""The largest number of exceptions in a result. The reports have all lines."""

_MAX_CAUSES = 100
_AMOUNTS = ("expected", "billed", "variance")
_PAYABLE = ("invoiced", "pay", "disputed", "disputed_before", "accrue")


def result_of(reconciled: Reconciliation) -> dict[str, Any]:
    """Returns the result, without its reports."""
    plan = reconciled.replacement()
    is_bookable = not (reconciled.grain or reconciled.conflicts)
    first = reconciled.first_to_settle() if is_bookable else []
    result: dict[str, Any] = {
        "provider": reconciled.provider,
        "account": reconciled.account,
        "since": reconciled.since.isoformat(),
        "until": reconciled.until.isoformat(),
        "is_over": reconciled.is_over,
        "is_bookable": is_bookable,
        "gaps": [*reconciled.gaps],
        "confirmed": [*reconciled.confirmed],
        "exceptions": reconciled.exceptions,
        "open": reconciled.open,
        "in_dispute": reconciled.in_dispute,
        "statements": dict(reconciled.statements),
        "grain": [*reconciled.grain],
        "rows": reconciled.rows._asdict(),
        "totals": [_amounts(total, name="") for total in reconciled.totals("all")],
        "categories": [
            _amounts(total, name=CATEGORIES[total.name].title)  # type: ignore[index]
            for total in reconciled.totals("category")
        ],
        "payable": [
            {"currency": each.currency} | {name: format_decimal(getattr(each, name)) for name in _PAYABLE}
            for each in reconciled.payable()
        ],
        "causes": [
            _amounts(cause, name=cause.cause, category=CATEGORIES[cause.category].title, example=cause.example)
            for cause in exceptions_by_cause(reconciled)[:_MAX_CAUSES]
        ],
        "lines": [_line(line) for line in islice(exceptions_of(reconciled), MAX_LINES)],
        "conflicts": [conflict._asdict() for conflict in reconciled.conflicts],
        "replacement": None,
        "to_settle": reconciled.to_settle() if is_bookable else 0,
        "first_to_settle": [task._asdict() | {"amount": format_decimal(task.amount)} for task in first],
    }
    if plan is not None:
        result["replacement"] = {
            "name": plan.name,
            "tasks": plan.tasks,
            "withdrawn": plan.withdrawn,
            "added": plan.added,
            "sums": {
                currency: [format_decimal(amount) for amount in sums] for currency, sums in plan.sums.items()
            },
        }
    result["plan"] = hashlib.sha256(json.dumps(result, sort_keys=True).encode()).hexdigest()
    return result


def _amounts(summed: Any, **described: Any) -> dict[str, Any]:
    return {
        **described,
        "currency": summed.currency,
        "lines": summed.lines,
        **{name: format_decimal(getattr(summed, name)) for name in _AMOUNTS},
    }


def _line(line: Line) -> dict[str, Any]:
    return {
        "name": line.task_id or line.cell or line.reservation_id or ", ".join(line.rows),
        "category": CATEGORIES[line.category].title,
        "project": line.project,
        "reservation_id": line.reservation_id,
        "rows": [*line.rows],
        "currency": line.currency,
        "expected": None if line.expected is None else format_decimal(line.expected),
        "billed": None if line.billed is None else format_decimal(line.billed),
        "variance": format_decimal(line.variance),
        "cause": line.cause,
        "remedy": in_words_of_pages(line.remedy),
    }
