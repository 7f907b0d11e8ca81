"""Decides from the results of the queries in `checks` whether a ledger is consistent. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

from kling_pricing.budgets import ANY, EACH, BudgetEntry, BudgetsFile, budgets_from_document, is_digest_of
from kling_pricing.errors import BudgetError, KlingPricingError, LedgerError
from kling_pricing.ledger import intervention_checks
from kling_pricing.ledger.access_keys import key_problems
from kling_pricing.ledger.actions import SEALED_ACTION_COLUMNS, action_seal, read_value, value_text
from kling_pricing.money import format_decimal, from_nanos, multiply, nanos_up

_MICROSECOND = timedelta(microseconds=1)

Row = Any
"""A row of a query: a mapping, or a row of SQLite, which is indexed by column names too."""

MAX_SHOWN = 10
"""The maximum number of problems that the error shows."""

OnProgress = Callable[[str, int, int], None]
"""Called with the current stage, how much of it is done, and its total."""


class Verification(NamedTuple):
    """The result of `verify` on a consistent ledger.

    Attributes:
        first_entry: the number of the first journal entry that was read: 1, or the first one after the last
            verification.
        last_entry: the number of the last journal entry that was read.
        fully_verified_at: for a verification since the last one, the instant of the last one that read
            everything; None: this one read everything.
        is_remembered: whether the ledger has remembered this verification.
    """

    first_entry: int
    last_entry: int
    fully_verified_at: datetime | None
    is_remembered: bool


class Checkpoint(NamedTuple):
    """The state of a ledger at its verification.

    Attributes:
        newest_entry: the number of the newest journal entry.
        newest_observation: the number of the newest observation.
        balances: the balances of the buckets by id, as JSON: `{"1": [held, spent]}`.
    """

    newest_entry: int
    newest_observation: int
    balances: str


class Problems(NamedTuple):
    """The number of problems, and the first of them. Needs the same memory for any number."""

    total: int
    shown: tuple[str, ...]

    @classmethod
    def of(cls, problems: Iterable[str]) -> Problems:
        """Counts problems."""
        count, shown = 0, []
        for problem in problems:
            count += 1
            if count <= MAX_SHOWN:
                shown.append(problem)
        return cls(count, tuple(shown))


class Verified(NamedTuple):
    """What a store has found.

    Attributes:
        first_entry: see `Verification`.
        checkpoint: the state of the ledger.
        fully_verified_at: see `Verification`.
        problems: the problems that each step has found.
    """

    first_entry: int
    checkpoint: Checkpoint
    fully_verified_at: datetime | None
    problems: Sequence[Problems]


def ignore_progress(_stage: str, _done: int, _total: int) -> None:
    """Shows no progress."""


def judge(ledger: str, found: Sequence[Problems], backup: str) -> None:
    """Raises an error if a ledger is inconsistent.

    Args:
        ledger: the name of the ledger.
        found: the problems that each step has found.
        backup: the thing to keep a copy of, `file` or `database`.

    Raises:
        LedgerError: the ledger is inconsistent. The message shows the first problems.
    """
    count = sum(problems.total for problems in found)
    if count:
        shown = [problem for problems in found for problem in problems.shown][:MAX_SHOWN]
        raise LedgerError(
            f"ledger {ledger}: {count} difference{'s' * (count > 1)} between the journal "
            f"and the other tables: {'; '.join(shown)}; stop spending, keep a copy of the "
            f"{backup}, and restore a backup"
        )


def row_problems(rows: Iterable[Row]) -> Iterator[str]:
    """Yields the problems in rows with the columns of `steps.COLUMNS`."""
    return map(_difference, rows)


def document_problems(facts: Mapping[str, Iterable[Row]]) -> Iterator[str]:
    """Yields the problems that only documents, seals of actions and accounting rates show.

    Args:
        facts: the rows of each query of `steps.facts` under its name. A server's ledger also has `in_force`,
            the rows of `budget`.
    """
    yield from _by_budgets(facts)
    actions = list(facts["action"])
    yield from _actions(actions)
    yield from intervention_checks.problems({**facts, "action": actions})
    yield from _overlays(facts["overlay"], actions)
    yield from key_problems(facts["access_key"], actions)


def _difference(row: Row) -> str:
    kept, derived = row["kept"], row["derived"]
    if kept is None and derived is None:
        return f"{row['subject']}: {row['what']} is missing"
    if row["is_amount"]:
        kept, derived = (amount and _amount(int(Decimal(amount))) for amount in (kept, derived))
    return f"{row['subject']}: {row['what']} is {kept or 'empty'}, but {row['source']} {derived or 'empty'}"


def _actions(rows: Iterable[Row]) -> Iterator[str]:
    """Compares the seals of the administrative actions with their columns."""
    seal = ""
    for row in rows:
        derived = action_seal(seal, row["at"], [row[name] for name in SEALED_ACTION_COLUMNS])
        seal = row["seal"]
        if seal != derived:
            yield (
                f"administrative action {row['seq']}: its seal is {seal}, but its columns and the action "
                f"before it give {derived}"
            )


def _overlays(rows: Iterable[Row], actions: Iterable[Row]) -> Iterator[str]:
    """Compares the caps that were set until an instant with the actions that set them."""
    given: dict[str, tuple[Any, ...]] = {}
    for action in actions:
        if action["action"] == "set":
            given.pop(action["subject"], None)
            if "until" in (read_value(action["new"]) or {}):
                given[action["subject"]] = tuple(action[name] for name in ("new", "at", "actor", "reason"))
        elif action["action"] == "apply":  # a cap ends with its budget, and with the currency of its budget
            before, after = (
                {
                    (budget["name"], budget["currency"])
                    for budget in (read_value(action[side]) or {"budgets": []})["budgets"]
                }
                for side in ("old", "new")
            )
            kept_names = {name for name, _ in before & after}
            given = {budget: cap for budget, cap in given.items() if budget in kept_names}
    kept = {
        row["budget"]: (
            value_text({"cap": _amount(row["cap"]), "until": row["until"]}),
            *(row[name] for name in ("set_at", "actor", "reason")),
        )
        for row in rows
    }
    for budget in sorted(kept.keys() | given.keys()):
        if kept.get(budget) != given.get(budget):
            yield f"the temporary cap of budget {budget}: it differs from the administrative actions"


class _Revision(NamedTuple):
    """A revision of the budgets, and the instant at which it was installed."""

    budgets: BudgetsFile
    installed_at: datetime


def _by_budgets(facts: Mapping[str, Iterable[Row]]) -> Iterator[str]:
    revisions = []
    for row in facts["revision"]:
        try:
            matches_digest = is_digest_of(row["digest"], row["document"])
            revisions.append(
                _Revision(budgets_from_document(row["document"]), datetime.fromisoformat(row["installed_at"]))
            )
        except (BudgetError, ValueError) as error:
            yield f"budget revision {row['revision']}: its document cannot be read ({error})"
            return
        if not matches_digest:
            yield f"budget revision {row['revision']}: its document does not match its digest"
    for row in facts["bucket"]:
        yield from _bucket(row, revisions)
    definitions = {
        (entry.name, entry.definition): entry for revision in revisions for entry in revision.budgets.budgets
    }
    yield from _buckets(facts, definitions)
    for row in facts["rounding"]:
        step = 0 if row["unit_value"] is None else nanos_up(Decimal(row["unit_value"]))
        if row["reserved"] - row["expected"] >= max(step, 1):
            yield (
                f"reservation {row['reservation']}: the reserved amount is {_amount(row['reserved'])}, "
                f"but the quote is {_amount(row['expected'])}"
            )
    for row in facts["converted"]:
        yield from _converted(row, revisions)
    in_force = list(facts.get("in_force", ()))
    for row in in_force:
        yield from _in_force(row, revisions[-1:])
    if "in_force" in facts and revisions:
        names = {row["name"] for row in in_force}
        for budget in revisions[-1].budgets.budgets:
            if budget.name not in names:
                yield f"budget {budget.name}: its row in the table of current budgets is missing"


def _bucket(row: Row, revisions: Sequence[_Revision]) -> Iterator[str]:
    """Compares alike buckets with the revisions of their budget.

    A bucket whose window was open when the newest revision was installed must match that revision.
    """
    subject = f"bucket {row['budget']}"
    entries = [
        entry
        for revision in revisions
        for entry in revision.budgets.budgets
        if (entry.name, entry.definition) == (row["budget"], row["definition"])
    ]
    if not entries:
        yield f"{subject}: definition is {row['definition']}, but no budget revision has that definition"
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
        ("the list of alerts", _listed(alerts), [_listed(_alerts(entry)) for entry in entries]),
    )
    for what, kept, allowed in comparisons:
        if kept not in allowed:
            yield f"{subject}: {what} is {kept}, but the budget has {allowed[-1]}"


def _buckets(
    facts: Mapping[str, Iterable[Row]], definitions: Mapping[tuple[str, str], BudgetEntry]
) -> Iterator[str]:
    """Compares the labels and the windows of buckets with the definitions of their budgets."""
    for row in facts["label_names"]:
        entry = definitions.get((row["budget"], row["definition"]))
        split = sorted(label for label, value in entry.match.items() if value == EACH) if entry else []
        if entry is not None and (row["names"] or "") != ", ".join(split):
            names = row["names"].split(", ") if row["names"] else []
            yield f"bucket {row['budget']}: it has {_labels(names)}, but its budget requires {_labels(split)}"
    for row in facts["step"]:
        entry = definitions.get((row["budget"], row["definition"]))
        needed = None if entry is None or entry.step is None else entry.step // _MICROSECOND
        if entry is not None and row["step_us"] != needed:
            yield (
                f"bucket {row['budget']}: step_us is {row['step_us'] or 'empty'}, but its budget gives "
                f"{needed or 'empty'}"
            )
    schedules: dict[tuple[str, str, str, str], set[str]] = {}
    for row in facts["window"]:
        window = (row["budget"], row["definition"], row["window_start"], row["window_end"])
        schedules.setdefault(window, set()).add(row["schedule"])
    for (budget, definition, start, end), known in schedules.items():
        entry = definitions.get((budget, definition))
        if entry is not None and entry.schedule not in known:
            yield f"bucket {budget}: its window from {start} to {end} is not in the calendar"


def _in_force(row: Row, newest: Sequence[_Revision]) -> Iterator[str]:
    """Compares a server's row for a budget in force with the newest revision."""
    entries = [entry for revision in newest for entry in revision.budgets.budgets if entry.name == row["name"]]
    if not entries:
        yield f"budget {row['name']}: it is in force, but the newest revision does not contain it"
    for place, entry in enumerate(newest[-1].budgets.budgets if newest else ()):
        for what, value in row_in_force(entry, place).items() if entry.name == row["name"] else ():
            if row[what] != value:
                yield f"budget {entry.name}: {what} is {row[what]}, but the newest revision has {value}"


def row_in_force(budget: BudgetEntry, place: int) -> dict[str, Any]:
    """Returns a server's row for a budget in force.

    Args:
        budget: the budget.
        place: its position in the budgets file.
    """
    patterns = budget.match.items()
    return {
        "name": budget.name,
        "definition": budget.definition,
        "currency": budget.currency,
        "cap": nanos_up(budget.cap),
        "max_request": None if budget.max_request is None else nanos_up(budget.max_request),
        "may_cap": budget.on_exceed == "cap",
        "observes": budget.observes,
        "alerts": _alerts(budget),
        "file_order": place,
        "fixed_labels": {
            label: value for label, value in patterns if isinstance(value, str) and value not in {ANY, EACH}
        },
        "needed_labels": sorted(budget.match),
        "listed_labels": {label: value for label, value in patterns if isinstance(value, list)},
        "split_labels": sorted(label for label, value in patterns if value == EACH),
        "schedule": budget.schedule,
        "recurs": budget.recurs,
        "step_us": None if budget.step is None else budget.step // _MICROSECOND,
    }


def _converted(row: Row, revisions: Sequence[_Revision]) -> Iterator[str]:
    """Compares the amounts of a line with those of its reservation, at the line's accounting rate."""
    subject, rate = f"reservation {row['reservation']}", Decimal(row["rate"])
    rates = [
        accounting_rate.rate
        for revision in revisions
        for accounting_rate in revision.budgets.accounting_rates
        if (accounting_rate.quote, accounting_rate.budget) == (row["quote"], row["budget"])
    ]
    if rate not in rates:
        known_rates = " or ".join(format_decimal(known_rate) for known_rate in rates) or "no such rate"
        yield (
            f"{subject}: the accounting rate is {format_decimal(rate)}, but the budgets installed in this "
            f"ledger give {known_rates}"
        )
        return
    held = _at_rate(row["reserved"], rate)
    if row["held"] not in {0, held}:  # recorded spend holds nothing
        expected = f"but at the budget's accounting rate it should be {_amount(held)}"
        yield f"{subject}: held is {_amount(row['held'])}, {expected}"
    billed = row["billed"] or 0
    # `billed` was rounded up to a whole nano before it was stored, so the exact bill may be lower
    lowest, highest = _at_rate(max(billed - 1, 0), rate), _at_rate(billed, rate)
    if not lowest <= row["spent"] <= highest:
        expected = f"but at the budget's accounting rate it should be {_amount(highest)}"
        yield f"{subject}: spent is {_amount(row['spent'])}, {expected}"


def _at_rate(nanos: int, rate: Decimal) -> int:
    try:
        return nanos_up(multiply(from_nanos(nanos), rate))
    except KlingPricingError:
        return -1  # no ledger can store so much, so the stored amount differs


def _alerts(entry: BudgetEntry) -> list[str]:
    return [format_decimal(part) for part in entry.alerts]


def _listed(texts: Sequence[str]) -> str:
    return ", ".join(texts) or "none"


def _labels(names: Sequence[str]) -> str:
    return f"the {'label' if len(names) == 1 else 'labels'} {', '.join(names)}" if names else "no labels"


def _amount(nanos: int) -> str:
    return format_decimal(from_nanos(nanos))
