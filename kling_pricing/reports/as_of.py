"""The spend as the ledger stood at an earlier instant, derived from the journal. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from itertools import groupby
from typing import cast

from kling_pricing.budgets import budgets_from_document
from kling_pricing.errors import KlingPricingError
from kling_pricing.ledger.actions import AdministrativeAction
from kling_pricing.ledger.journal import BucketHistory, Entry
from kling_pricing.ledger.model import Basis, Reservation, State
from kling_pricing.money import subtract, sum_of

_BEGINNINGS = {"reserve", "record"}
_SETTLEMENTS = {"settle", "record"}
_RELEASES = {"release", "expire"}


def jobs_as_of(
    jobs: Iterable[Reservation],
    entries: Iterable[Entry],
    histories: Sequence[BucketHistory],
    as_of: datetime,
) -> Iterator[Reservation]:
    """Yields the jobs that the ledger had at an instant, each as it was then.

    Args:
        jobs: the jobs as they are now.
        entries: the journal entries about them, the oldest first.
        histories: the histories of their buckets, as they are now.
        as_of: the instant; what the ledger learnt at that instant counts.

    Raises:
        KlingPricingError: a job was settled again later, and the journal does not have its earlier amount.
    """
    by_job = sorted((entry for entry in entries if entry.reservation_id), key=_job_and_seq)
    all_events = {job: list(events) for job, events in groupby(by_job, lambda entry: entry.reservation_id)}
    amounts = _amounts(histories, as_of)
    for job in jobs:
        events = all_events.get(job.id, [])
        known = [event for event in events if event.at <= as_of]
        if any(event.kind in _BEGINNINGS for event in known):
            yield _job(job, known, as_of, _billed(job, events, as_of, amounts))


def histories_as_of(
    histories: Iterable[BucketHistory], actions: Sequence[AdministrativeAction], as_of: datetime
) -> Iterator[BucketHistory]:
    """Yields the buckets that the ledger had at an instant, each as it was then.

    Args:
        histories: the histories as they are now.
        actions: the administrative actions, the oldest first.
        as_of: the instant.
    """
    caps = list(_caps(actions))
    for history in histories:
        entries = tuple(entry for entry in history.entries if entry.at <= as_of)
        if entries:
            bucket = history.bucket
            cap = bucket.cap
            if any(at > as_of for at, _ in caps):  # otherwise, the cap has not changed since
                name = (bucket.budget, history.definition)
                changes = [
                    known[name]
                    for at, known in caps
                    if at <= as_of and at < bucket.window_end and name in known
                ]
                cap = changes[-1] if changes else cap
            held, spent = (
                sum_of(amounts) for amounts in zip(*((e.held, e.spent) for e in entries), strict=True)
            )
            left = subtract(subtract(cap, held), spent)
            yield history._replace(
                bucket=bucket._replace(cap=cap, held=held, spent=spent, available=left), entries=entries
            )


def _billed(
    job: Reservation, events: Sequence[Entry], as_of: datetime, amounts: Mapping[tuple[str, str], Decimal]
) -> Decimal | None:
    """Returns the amount at which a job was settled then; None: it was not settled, or nobody knows."""
    settlements = [event for event in events if event.kind in _SETTLEMENTS]
    known = [event for event in settlements if event.at <= as_of]
    if not known:
        return None
    if known[-1].billed is not None:
        return known[-1].billed
    return job.billed if known[-1] is settlements[-1] else amounts.get((job.id, job.currency))


def _job_and_seq(entry: Entry) -> tuple[str, int]:
    return entry.reservation_id or "", entry.seq


def _job(job: Reservation, events: Sequence[Entry], as_of: datetime, billed: Decimal | None) -> Reservation:
    """Returns a job as of the last of its entries that are given."""
    last: dict[str, Entry] = {}
    for event in events:
        for kind in (event.kind, *(name for name, kinds in _GROUPS.items() if event.kind in kinds)):
            last[kind] = event
    settled, released, doubt = last.get("settled"), last.get("released"), last.get("doubt")
    bound, sent, recorded = last.get("bind") or last.get("record"), last.get("dispatch"), last.get("record")
    closed = settled or released
    state = _state(last)
    if settled is not None and billed is None:
        raise KlingPricingError(
            f"job {job.id} was settled again after {as_of.isoformat()}, and the journal does not have its "
            f"earlier amount in {job.currency}; choose a later instant"
        )
    before = {"dispatching": sent, "bound": bound, "settled": settled}.get(state)
    is_doubted = doubt is not None and before is not None and doubt.seq > before.seq
    deadline = sent or last.get("reserve")
    until = datetime.fromisoformat(deadline.detail) if deadline and deadline.detail else job.deadline
    return job._replace(
        state=state,
        in_doubt=is_doubted or (state == "dispatching" and until <= as_of),
        task_id=(bound.detail or job.task_id) if bound else None,
        billed=billed if settled else None,
        basis=_basis(settled),
        reason=_reason(state, closed, doubt if is_doubted or state in {"dispatching", "bound"} else None),
        dispatched_at=job.created_at if recorded else sent.at if sent else None,
        closed_at=closed.at if closed else None,
        deadline=until,
    )


_GROUPS: Mapping[str, set[str]] = {"settled": _SETTLEMENTS, "released": _RELEASES}


def _reason(state: State, closed: Entry | None, doubt: Entry | None) -> str | None:
    if state == "released" and closed is not None:
        return closed.detail
    return None if doubt is None else doubt.detail


def _basis(settled: Entry | None) -> Basis | None:
    if settled is None:
        return None
    return "operator" if settled.kind == "record" else cast("Basis", settled.detail)


def _state(last: Mapping[str, Entry]) -> State:
    """Returns the state of a job by the last entry of each kind."""
    if "settled" in last:
        return "settled"
    if "released" in last:
        return "released"
    if "bind" in last:
        return "bound"
    return "dispatching" if "dispatch" in last else "reserved"


def _amounts(histories: Iterable[BucketHistory], as_of: datetime) -> dict[tuple[str, str], Decimal]:
    """Returns what each job had spent, by job and currency, in the bucket in which it began."""
    amounts: dict[tuple[str, str], Decimal] = {}
    for history in histories:
        spent: dict[str, list[Decimal]] = {}
        begun = set()
        for entry in history.entries:
            if entry.reservation_id and entry.at <= as_of:
                spent.setdefault(entry.reservation_id, []).append(entry.spent)
                if entry.kind in _BEGINNINGS:
                    begun.add(entry.reservation_id)
        for job in begun:
            amounts[job, history.bucket.currency] = sum_of(spent[job])
    return amounts


def _caps(actions: Iterable[AdministrativeAction]) -> Iterator[tuple[datetime, dict[tuple[str, str], Decimal]]]:
    """Yields the caps of all budgets after each change: the budget's name and definition -> its cap."""
    caps: dict[tuple[str, str], Decimal] = {}
    for action in actions:
        if action.action == "apply":
            document = budgets_from_document(json.dumps(action.new))
            caps = {(budget.name, budget.definition): budget.cap for budget in document.budgets}
        elif action.action == "set" and isinstance(action.new, Mapping) and "until" not in action.new:
            cap = Decimal(str(action.new["cap"]))
            caps = {name: cap if name[0] == action.subject else known for name, known in caps.items()}
        else:
            continue
        yield action.at, caps
