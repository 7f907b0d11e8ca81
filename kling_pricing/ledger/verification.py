"""Judges a ledger by the rows that the queries in `checks` find. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

from kling_pricing.budgets import BudgetEntry, BudgetsFile, budgets_from_document, is_digest_of
from kling_pricing.errors import BudgetError, KlingPricingError, LedgerError
from kling_pricing.money import format_decimal, from_nanos, multiply, nanos_up

Row = Mapping[str, Any]
MAX_SHOWN = 10
"""How many problems the error shows."""


def judge(ledger: str, facts: Mapping[str, Iterable[Row]], backup: str, others: Iterable[str] = ()) -> None:
    """Raises an error for a ledger that is not sound.

    Args:
        ledger: its name.
        facts: the rows of `checks.differences` as `difference`, and those of each query of `checks.FACTS`.
        backup: what to keep a copy of: `file` or `database`.
        others: problems that only one store can have.

    Raises:
        LedgerError: it names the first problems.
    """
    problems = [*map(_difference, facts["difference"]), *_by_budgets(facts), *others]
    if problems:
        raise LedgerError(
            f"ledger {ledger}: {len(problems)} differences between journal and balances: "
            f"{'; '.join(problems[:MAX_SHOWN])}; stop spending, keep a copy of the {backup}, and restore a "
            "backup"
        )


def _difference(row: Row) -> str:
    kept, derived = row["kept"], row["derived"]
    if kept is None and derived is None:
        return f"{row['subject']}: {row['what']} is missing"
    if row["is_amount"]:
        kept, derived = (amount and _amount(int(Decimal(amount))) for amount in (kept, derived))
    return f"{row['subject']}: {row['what']} is {kept or 'empty'}, {row['source']} {derived or 'empty'}"


class _Revision(NamedTuple):
    """Budgets that were in force once, and from when on."""

    budgets: BudgetsFile
    installed_at: datetime


def _by_budgets(facts: Mapping[str, Iterable[Row]]) -> Iterator[str]:
    revisions = []
    for row in facts["revision"]:
        try:
            is_own = is_digest_of(row["digest"], row["document"])
            revisions.append(
                _Revision(budgets_from_document(row["document"]), datetime.fromisoformat(row["installed_at"]))
            )
        except (BudgetError, ValueError) as error:
            yield f"budget revision {row['revision']}: its document cannot be read ({error})"
            return
        if not is_own:
            yield f"budget revision {row['revision']}: its document is not the one of its digest"
    for row in facts["bucket"]:
        yield from _bucket(row, revisions)
    for row in facts["rounding"]:
        step = 0 if row["unit_value"] is None else nanos_up(Decimal(row["unit_value"]))
        if row["reserved"] - row["expected"] >= max(step, 1):
            yield (
                f"reservation {row['reservation']}: reserved is {_amount(row['reserved'])}, the quote is "
                f"{_amount(row['expected'])}"
            )
    for row in facts["converted"]:
        yield from _converted(row, revisions)
    for row in facts.get("in_force", ()):
        yield from _in_force(row, revisions[-1:])
    if "in_force" in facts and revisions:
        names = {row["name"] for row in facts["in_force"]}
        for budget in revisions[-1].budgets.budgets:
            if budget.name not in names:
                yield f"budget {budget.name}: its row of the budgets in force is missing"


def _bucket(row: Row, revisions: Sequence[_Revision]) -> Iterator[str]:
    """Compares buckets with the revisions of their budget; with the newest if their windows were open then."""
    subject = f"bucket {row['budget']}"
    entries = [
        entry
        for revision in revisions
        for entry in revision.budgets.budgets
        if (entry.name, entry.definition) == (row["budget"], row["definition"])
    ]
    if not entries:
        yield f"{subject}: definition is {row['definition']}, no budget revision has it"
        return
    newest = revisions[-1]
    if (
        entries[-1] in newest.budgets.budgets
        and datetime.fromisoformat(row["window_end"]) > newest.installed_at
    ):
        entries = entries[-1:]
    alerts = json.loads(row["alerts"]) if isinstance(row["alerts"], str) else row["alerts"]
    comparisons = (
        ("currency", row["currency"], [entry.currency for entry in entries]),
        ("cap", _amount(row["cap"]), [_amount(nanos_up(entry.cap)) for entry in entries]),
        ("alerts", _listed(alerts), [_listed(_alerts(entry)) for entry in entries]),
    )
    for what, kept, allowed in comparisons:
        if kept not in allowed:
            yield f"{subject}: {what} is {kept}, its budget says {allowed[-1]}"


def _in_force(row: Row, newest: Sequence[_Revision]) -> Iterator[str]:
    """Compares a budget in force, as a server keeps it, with the newest revision."""
    entries = [entry for revision in newest for entry in revision.budgets.budgets if entry.name == row["name"]]
    if not entries:
        yield f"budget {row['name']}: it is in force, the newest revision does not have it"
    for entry in entries:
        most = None if entry.max_request is None else nanos_up(entry.max_request)
        values = {
            "definition": entry.definition,
            "currency": entry.currency,
            "cap": nanos_up(entry.cap),
            "max_request": most,
            "may_cap": entry.on_exceed == "cap",
            "alerts": _alerts(entry),
        }
        for what, value in values.items():
            if row[what] != value:
                yield f"budget {entry.name}: {what} is {row[what]}, the newest revision says {value}"


def _converted(row: Row, revisions: Sequence[_Revision]) -> Iterator[str]:
    """Compares the amounts of a line with those of its reservation, at the line's accounting rate."""
    subject, rate = f"reservation {row['reservation']}", Decimal(row["rate"])
    rates = [
        known.rate
        for revision in revisions
        for known in revision.budgets.accounting_rates
        if (known.quote, known.budget) == (row["quote"], row["budget"])
    ]
    if rate not in rates:
        known = _listed([format_decimal(known) for known in rates])
        yield f"{subject}: rate is {format_decimal(rate)}, the budget revisions say {known}"
        return
    held = _at_rate(row["reserved"], rate)
    if row["held"] not in {0, held}:  # nothing was held for spend that was recorded
        yield f"{subject}: held is {_amount(row['held'])}, its reservation says {_amount(held)} at the rate"
    billed = row["billed"] or 0
    least, most = (
        _at_rate(max(billed - 1, 0), rate),
        _at_rate(billed, rate),
    )  # it was billed to less than a nano
    if not least <= row["spent"] <= most:
        yield f"{subject}: spent is {_amount(row['spent'])}, its reservation says {_amount(most)} at the rate"


def _at_rate(nanos: int, rate: Decimal) -> int:
    try:
        return nanos_up(multiply(from_nanos(nanos), rate))
    except KlingPricingError:
        return -1  # more than a ledger can hold, so it is not the amount that is kept


def _alerts(entry: BudgetEntry) -> list[str]:
    return [format_decimal(part) for part in entry.alerts]


def _listed(texts: Sequence[str]) -> str:
    return ", ".join(texts) or "none"


def _amount(nanos: int) -> str:
    return format_decimal(from_nanos(nanos))
