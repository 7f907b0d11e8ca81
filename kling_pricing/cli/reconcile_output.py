"""The output of `kling-pricing reconcile`: JSON, the table of the sums, and the lines below it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from decimal import Decimal
from itertools import islice
from typing import TYPE_CHECKING, Any

from rich.table import Column, Table

from kling_pricing.cli.output import counted, signed
from kling_pricing.cli.payables import payable_text, payables_as_dicts
from kling_pricing.cli.reconcile_causes import causes_as_dicts, causes_table
from kling_pricing.money import format_decimal
from kling_pricing.reconcile.aggregates import BLIND_SPOTS
from kling_pricing.reconcile.categories import exceptions_text
from kling_pricing.reconcile.causes import exceptions_by_cause
from kling_pricing.reconcile.model import exceptions_of

if TYPE_CHECKING:
    from kling_pricing.reconcile import Reconciliation, Remembered, Settled
    from kling_pricing.reconcile.memory import Replacement
    from kling_pricing.reconcile.settle import SettledTask

_MAX_LISTED = 10
"""Maximum number of exceptions to list; the reports contain all of them."""
_ROW_KINDS = {
    "charges": "charges in the period",
    "uncharged": "uncharged",
    "invalid": "invalid",
    "outside": "outside the period",
    "ignored": "ignored",
}


def as_dict(
    reconciled: Reconciliation,
    files: dict[str, str],
    *,
    plan: Replacement | None,
    remembered: Remembered | None,
    disputed: int | None,
    settled: Settled | None,
) -> dict[str, Any]:
    """Returns the result as JSON-ready data; amounts are text.

    Args:
        reconciled: the reconciliation.
        files: the report files that were written, each with its digest.
        plan: what replacing a statement changes; None: none is replaced.
        remembered: what was added to the books; None: nothing was to be added.
        disputed: the number of new disputes; None: nothing was to be disputed.
        settled: what was settled; None: nothing was to be settled.
    """
    answer: dict[str, Any] = {
        "provider": reconciled.provider,
        "account": reconciled.account,
        "since": reconciled.since.isoformat(),
        "until": reconciled.until.isoformat(),
        "is_over": reconciled.is_over,
        "gaps": list(reconciled.gaps),
        "confirmed": list(reconciled.confirmed),
        "notes": list(reconciled.notes),
        "exceptions": reconciled.exceptions,
        "open": reconciled.open,
        "in_dispute": reconciled.in_dispute,
        "statements": dict(reconciled.statements),
        "grain": list(reconciled.grain),
        "set_aside": list(reconciled.set_aside),
        "rows": reconciled.rows._asdict(),
    }
    for name in ("all", "category"):
        answer["totals" if name == "all" else "categories"] = [
            {
                **total._asdict(),
                "expected": format_decimal(total.expected),
                "billed": format_decimal(total.billed),
                "variance": format_decimal(total.variance),
            }
            for total in reconciled.totals(name)
        ]
    answer["first_exceptions"] = [
        {
            "task_id": line.task_id,
            "cell": line.cell,
            "reservation_id": line.reservation_id,
            "rows": list(line.rows),
            "category": line.category,
            "variance": format_decimal(line.variance),
            "currency": line.currency,
            "cause": line.cause,
            "remedy": line.remedy,
        }
        for line in islice(exceptions_of(reconciled), min(_MAX_LISTED, reconciled.exceptions))
    ]
    answer["causes"] = causes_as_dicts(exceptions_by_cause(reconciled))
    answer["payable"] = payables_as_dicts(reconciled.payable(), reconciled.accrued_months())
    answer["conflicts"] = [conflict._asdict() for conflict in reconciled.conflicts]
    answer["shorter_than"] = [longer._asdict() for longer in reconciled.shorter_than]
    answer["replacement"] = None
    if plan is not None:
        answer["replacement"] = plan._asdict() | {
            "sums": {
                currency: [format_decimal(amount) for amount in amounts]
                for currency, amounts in plan.sums.items()
            },
            "text": replacement_text(plan),
        }
    answer["reports"] = files
    if remembered is not None:
        answer["remembered"] = remembered._asdict()
    if disputed is not None:
        answer["disputes_opened"] = disputed
    answer["needless_disputes"] = [
        {"number": dispute.number, "task_id": dispute.task_id, "ledger": dispute.ledger}
        for dispute in reconciled.needless_disputes()
    ]
    if settled is not None:
        answer["settled"] = {**settled._asdict(), "refused": dict(settled.refused)}
    return answer


def tasks_as_dicts(tasks: Iterable[SettledTask]) -> list[dict[str, str]]:
    """Returns tasks and the amounts at which they are settled as JSON-ready data."""
    return [task._asdict() | {"amount": format_decimal(task.amount)} for task in tasks]


def _named(tasks: list[dict[str, str]], count: int) -> Iterator[str]:
    """Yields a line for each task that is or would be settled, and one for the rest of them."""
    for task in tasks:
        yield f"  {task['task_id']}: {task['amount']} {task['currency']}"
    if count > len(tasks):
        yield f"  and {count - len(tasks)} more"


def totals_grid(reconciled: Reconciliation) -> Table:
    """Returns the table of the sums by category."""
    right = {"justify": "right", "no_wrap": True}
    grid = Table(
        Column("category", no_wrap=True),
        *(Column(name, **right) for name in ("lines", "expected", "variance", "billed")),  # type: ignore[arg-type]
        "currency",
    )
    by_category = reconciled.totals("category")
    for whole in reconciled.totals("all"):
        categories = [total for total in by_category if total.currency == whole.currency]
        for total in (*categories, whole):
            grid.add_row(
                total.name.replace("_", " ") or "all",
                str(total.lines),
                format_decimal(total.expected),
                signed(total.variance),
                format_decimal(total.billed),
                whole.currency,
                style="" if total.name else "bold",
                end_section=not total.name,
            )
    return grid


def sentences(answer: dict[str, Any], out: str | None) -> Iterator[str]:
    """Yields the lines below the table."""
    rows = answer["rows"]
    counts = [f"{rows[name]} {kind}" for name, kind in _ROW_KINDS.items() if rows[name] or name == "charges"]
    yield f"statement rows: {rows['read']} read, {', '.join(counts)}"
    yield from answer["notes"]
    if answer["grain"]:
        yield f"the statement gives sums by {' and '.join(answer['grain'])}: {BLIND_SPOTS}"
    for name in answer["set_aside"]:
        yield f"the books contain {name} for this period; its charges are not compared with these sums"
    for payable in answer["payable"]:
        yield f"{'preliminary: ' if answer['gaps'] else ''}{payable_text(payable)}"
    if answer["replacement"] is not None:
        yield answer["replacement"]["text"]
    if "to_settle" in answer:
        yield f"nothing was changed; --settle would settle {counted(answer['to_settle'], 'reservation')}"
        yield from _named(answer["first_to_settle"], answer["to_settle"])
    if "remembered" in answer:
        added = answer["remembered"]
        yield f"remembered: {counted(added['statements'], 'statement')}, {counted(added['rows'], 'row')}"
    yield from _about_disputes(answer)
    for conflict in answer["conflicts"]:
        yield (
            f"if the file corrects {conflict['name']}, add --replaces {conflict['digest'][:12]}; until then, "
            "nothing is booked"
        )
    for longer in answer["shorter_than"]:
        yield (
            f"{longer['name']} ({longer['digest'][:12]}) in the books has the same rows and "
            f"{counted(longer['rows'], 'more row')} after the last of them, which still "
            f"{'counts' if longer['rows'] == 1 else 'count'}: if the file corrects it, add --replaces "
            f"{longer['digest'][:12]}; if the file is an earlier download, no action is needed"
        )
    if "settled" in answer:
        settled = answer["settled"]
        yield f"settled: {settled['settled']}, bound: {settled['bound']}, refused: {len(settled['refused'])}"
        yield from _named(answer["first_settled"], settled["settled"])
        for reservation, reason in settled["refused"].items():
            yield f"  {reservation}: {reason}"
    yield from causes_table(answer["causes"])
    if answer["first_exceptions"]:
        yield "exceptions:"
    for exception in answer["first_exceptions"]:
        place = (
            exception["task_id"]
            or exception["cell"]
            or exception["reservation_id"]
            or ", ".join(exception["rows"])
        )
        variance = f"{signed(Decimal(exception['variance']))} {exception['currency']}"
        category = exception["category"].replace("_", " ")
        message = ". ".join(filter(None, (exception["cause"], exception["remedy"])))
        yield f"  {place}: {category}, {variance}: {message}"
    if answer["exceptions"] > _MAX_LISTED:
        yield f"  and {answer['exceptions'] - _MAX_LISTED} more" + (
            "" if out else "; to write reports with all exceptions, add --out FOLDER"
        )
    if out is not None:
        yield f"reports: {len(answer['reports'])} files in {out}"
    actions = []
    if answer["exceptions"]:
        actions.append(exceptions_text(answer["exceptions"], answer["open"], answer["in_dispute"]))
    if refused := refused_count(answer):
        actions.append(f"{refused} reservation{'s' * (refused > 1)} could not be settled")
    yield from answer["confirmed"]
    if not answer["totals"]:
        yield (
            f"no {answer['provider']} task was sent or charged from {answer['since']} to {answer['until']}; "
            "check the provider and the period"
        )
    if answer["gaps"]:
        yield "; ".join(["not reconciled: " + answer["gaps"][0], *answer["gaps"][1:], *actions])
    else:
        yield f"the totals tie out; {', and '.join(actions) or 'no action needed'}"


def _about_disputes(answer: dict[str, Any]) -> Iterator[str]:
    """Yields the lines about disputes."""
    if "disputes_opened" in answer:
        yield f"disputes opened: {answer['disputes_opened']}"
    if answer.get("not_disputed"):
        yield (
            f"not disputed: {counted(answer['not_disputed'], 'charge')} for tasks that are not in the ledger; "
            "record the tasks that are yours, and dispute the rest with --dispute-also not_in_ledger"
        )
    for dispute in answer["needless_disputes"]:
        yield (
            f"dispute {dispute['number']} about {dispute['task_id']} is still open, although the charge needs "
            "no action any more; if you accept the charge, run `kling-pricing dispute resolve "
            f"{dispute['number']} --reason TEXT`"
        )


def unfinished_text(until: datetime) -> str:
    """Returns a warning about a period that is not over."""
    return f"the period is not over: charges until {until:%Y-%m-%d %H:%M} UTC may still be missing"


def replacement_text(plan: Replacement) -> str:
    """Returns what replacing a statement changes."""
    sums = ", ".join(
        f"{format_decimal(before)} {currency} becomes {format_decimal(after)}"
        for currency, (before, after) in plan.sums.items()
    )
    return (
        f"{plan.name} in the books is replaced: {counted(plan.tasks, 'task')} changed, "
        f"{counted(plan.withdrawn, 'row')} withdrawn, {counted(plan.added, 'row')} added; "
        f"{sums or 'no sum changes'}"
    )


def refused_count(answer: dict[str, Any]) -> int:
    """Returns the number of reservations that a ledger refused to settle or bind."""
    return len(answer["settled"]["refused"]) if "settled" in answer else 0
