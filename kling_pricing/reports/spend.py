"""What a ledger alone knows of a period's spend: its jobs, and what moved its budgets."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date, datetime, tzinfo
from decimal import Decimal
from typing import NamedTuple
from zoneinfo import ZoneInfo

from kling_pricing.display import shown
from kling_pricing.errors import KlingPricingError
from kling_pricing.ledger import connect
from kling_pricing.ledger.journal import BucketHistory
from kling_pricing.ledger.model import Reservation
from kling_pricing.money import add, subtract, sum_of
from kling_pricing.reports.charts import Tone
from kling_pricing.reports.formats.focus import FocusCharge
from kling_pricing.windows import Period, calendar_period, in_utc, start_of, utc_clock

_MONTH = re.compile(r"2[01][0-9]{2}-(0[1-9]|1[0-2])")


class Spend(NamedTuple):
    """What a ledger knows of a period.

    Attributes:
        since: start of the period, UTC.
        until: its end, UTC, exclusive.
        zone: where its days begin.
        project: whose spend it is; None: everybody's.
        jobs: the reservations made in the period, the oldest first.
        buckets: the budgets' buckets whose windows lie at least partly in the period, with what moved them;
            of a project's spend those that it moved.
    """

    since: datetime
    until: datetime
    zone: tzinfo
    project: str | None
    jobs: tuple[Reservation, ...]
    buckets: tuple[BucketHistory, ...]


def read_spend(
    ledger: str, since: datetime, until: datetime, *, project: str | None = None, timezone: str = "UTC"
) -> Spend:
    """Reads what there is for a spend statement; it changes nothing.

    A job belongs to the period that it was reserved in, whenever it is settled, as it does for the budgets.
    One that expired unsent is released, whether or not the ledger has come to say so: its money is free.

    Args:
        ledger: its URL.
        since: start of the period, with a time zone.
        until: its end, exclusive.
        project: whose spend; by default everybody's.
        timezone: IANA name of the zone in which days begin.

    Raises:
        LedgerError: the ledger cannot be read.
        KlingPricingError: the period has no length, or the zone is not known.
    """
    zone, start, end = zone_named(timezone), in_utc(since), in_utc(until)
    if start >= end:
        raise KlingPricingError(f"a period ends after it begins; got {start.isoformat()} to {end.isoformat()}")
    clock = utc_clock(None)
    store = connect(ledger, clock=clock)
    try:
        buckets = store.bucket_histories(start, end)
        everybodys = store.reservations(since=start, until=end)
    finally:
        store.close()
    expired: dict[str | None, Reservation] = {
        job.id: job for job in everybodys if job.state == "reserved" and job.deadline <= clock()
    }
    jobs = [
        job._replace(state="released", reason="expired", closed_at=job.deadline) if job.id in expired else job
        for job in everybodys
        if project is None or job.project == project
    ]
    buckets = [_without(each, expired) for each in buckets]
    if project is not None:
        own = {job.id for job in jobs}
        buckets = [each for each in buckets if any(entry.reservation_id in own for entry in each.entries)]
    return Spend(start, end, zone, project, tuple(jobs), tuple(buckets))


def _without(history: BucketHistory, expired: Mapping[str | None, Reservation]) -> BucketHistory:
    """A bucket from which what has expired was given back when it did."""
    given_back = [
        entry._replace(at=expired[entry.reservation_id].deadline, kind="expire", held=-entry.held)
        for entry in history.entries
        if entry.reservation_id in expired
    ]
    if not given_back:
        return history
    bucket, amount = history.bucket, sum_of(entry.held for entry in given_back)
    return history._replace(
        bucket=bucket._replace(held=add(bucket.held, amount), available=subtract(bucket.available, amount)),
        entries=tuple(sorted((*history.entries, *given_back), key=lambda entry: entry.at)),
    )


def month_of(text: str | None, timezone: str, now: datetime) -> Period:
    """A calendar month of a zone.

    Args:
        text: such as `2026-11`; None: the month that an instant lies in.
        timezone: IANA name of the zone.
        now: that instant.

    Raises:
        KlingPricingError: it is no month, or the zone is not known.
    """
    zone = zone_named(timezone)
    if text is None:
        return calendar_period("month", now, zone)
    if not _MONTH.fullmatch(text):
        raise KlingPricingError(f"{shown(text)} is no month; write it as 2026-11")
    return calendar_period("month", start_of(date.fromisoformat(f"{text}-01"), zone), zone)


def beginning(at: date | datetime, timezone: str) -> datetime:
    """An instant as it is; a day begins in a zone.

    Raises:
        KlingPricingError: the zone is not known.
    """
    return at if isinstance(at, datetime) else start_of(at, zone_named(timezone))


def zone_named(name: str) -> tzinfo:
    """A time zone by its IANA name.

    Raises:
        KlingPricingError: there is none of that name here.
    """
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, KeyError):
        raise KlingPricingError(
            f"{shown(name)} is not a time zone of this machine; write an IANA name such as Asia/Shanghai"
            " (where there are none, pip install tzdata)"
        ) from None


class Standing(NamedTuple):
    """What became of a job, in words: its title, what it means, and its tone."""

    title: str
    about: str
    tone: Tone


STANDINGS = {
    "final": Standing("Spent", "Settled by what the provider, its statement or an operator says.", "good"),
    "provisional": Standing(
        "Spent, provisional", "Settled at the quote: nobody has said the charge yet.", "wait"
    ),
    "under way": Standing("Under way", "The provider has it; its money is held.", "calm"),
    "sent": Standing("Sent", "Sent, and the task is not known; its money is held.", "bad"),
    "reserved": Standing("Reserved", "Not sent yet; its money is held.", "second"),
    "released": Standing("Released", "Not sent, refused or refunded; it costs nothing.", "second"),
}
"""What became of a job, as finance sees it."""


def standing_of(job: Reservation) -> str:
    """What became of a job: one of `STANDINGS`."""
    if job.state == "settled":
        return "provisional" if job.basis == "quote" else "final"
    return {"bound": "under way", "dispatching": "sent"}.get(job.state, job.state)


class Amounts(NamedTuple):
    """What some jobs come to, in one currency.

    Attributes:
        jobs: how many.
        spent: what they were settled at.
        provisional: the part of it that rests on the quote alone.
        held: what is set aside for those that are not settled.
    """

    jobs: int
    spent: Decimal
    provisional: Decimal
    held: Decimal

    @property
    def committed(self) -> Decimal:
        """What is spent, and what may be."""
        return add(self.spent, self.held)


_ZERO = Decimal(0)
NOTHING = Amounts(0, _ZERO, _ZERO, _ZERO)


def amounts_of(job: Reservation) -> Amounts:
    """What one job comes to."""
    standing = standing_of(job)
    if job.billed is not None:
        return Amounts(1, job.billed, job.billed if standing == "provisional" else _ZERO, _ZERO)
    return Amounts(1, _ZERO, _ZERO, _ZERO if standing == "released" else job.reserved)


Grouped = dict[tuple[str, ...], Amounts]
"""Currency and something else -> what the jobs of it come to."""


def taken_together(jobs: Iterable[Reservation], by: Callable[[Reservation], tuple[str, ...]]) -> Grouped:
    """Jobs taken together by currency and something else."""
    found: Grouped = {}
    for job in jobs:
        place = (job.currency, *by(job))
        before, own = found.get(place, NOTHING), amounts_of(job)
        found[place] = Amounts(before.jobs + 1, *map(add, before[1:], own[1:]))
    return found


def charges(spent: Spend) -> Iterator[FocusCharge]:
    """What was spent, job by job."""
    for job in spent.jobs:
        if job.billed is not None:
            yield FocusCharge(
                provider=job.provider,
                task_id=job.task_id,
                billed=job.billed,
                expected=job.expected,
                quoted=job.expected,
                list_total=job.terms.list_total,
                currency=job.currency,
                at=job.created_at,
                model=job.model or None,
                resolution=job.resolution or None,
                tier=job.tier or None,
                quantity=job.quantity,
                unit=job.unit or None,
                table=job.table or None,
                labels=job.labels,
                project=job.project,
                reservation_id=job.id,
                standing=f"{standing_of(job)}, by {job.basis}",
                cause=None,
            )
