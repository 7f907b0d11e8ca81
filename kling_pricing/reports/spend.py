"""The spend of a period, from the ledger alone: its jobs, and the history of its budgets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta, tzinfo
from decimal import Decimal
from typing import NamedTuple

from kling_pricing.budgets import ANY, EACH, budgets_from_document
from kling_pricing.display import did_you_mean, reportable
from kling_pricing.errors import KlingPricingError
from kling_pricing.ledger import Ledger, connect
from kling_pricing.ledger.journal import BucketHistory, WaivedRefusals
from kling_pricing.ledger.model import Reservation
from kling_pricing.money import add, subtract, sum_of
from kling_pricing.reconcile.months import check_month
from kling_pricing.reports.as_of import histories_as_of, jobs_as_of
from kling_pricing.reports.charts import Tone
from kling_pricing.reports.formats.focus import FocusCharge
from kling_pricing.reports.rolling_histories import with_rolling_windows
from kling_pricing.tables.loading.book import default_price_book
from kling_pricing.windows import Period, calendar_period, in_utc, start_of, utc_clock, zone


class Spend(NamedTuple):
    """The spend of a period.

    Attributes:
        since: start of the period, UTC.
        until: end of the period (exclusive), UTC.
        zone: the time zone in which days start.
        project: the only project whose spend it is; None for all projects.
        account: the only account whose spend it is; None for all accounts.
        as_of: the instant at which the ledger stood so, UTC; None: now.
        jobs: the jobs reserved in the period, oldest first.
        buckets: the buckets whose windows overlap the period, with their entries; for a single project or
            account, only the buckets that its jobs moved. A rolling window is one bucket.
        waived: the refusals that budgets in observe mode waived in the period; for a single project, only those
            of its jobs; for a single account, none, because they are not counted by account.
        begun_at: the instant at which the ledger began to count, UTC; None: it has no budgets.
        previous: the period before this one, with which it is compared: the month before a month, else a period
            of the same length.
        previous_jobs: the jobs reserved in that period, of the same project and account.
    """

    since: datetime
    until: datetime
    zone: tzinfo
    project: str | None
    account: str | None
    as_of: datetime | None
    jobs: tuple[Reservation, ...]
    buckets: tuple[BucketHistory, ...]
    waived: tuple[WaivedRefusals, ...] = ()
    begun_at: datetime | None = None
    previous: Period | None = None
    previous_jobs: tuple[Reservation, ...] = ()


def read_spend(
    ledger: str,
    since: datetime,
    until: datetime,
    *,
    project: str | None = None,
    account: str | None = None,
    as_of: datetime | None = None,
    timezone: str = "UTC",
) -> Spend:
    """Reads the spend of a period from a ledger; changes nothing.

    A job belongs to the period in which it was reserved, no matter when it is settled, as it does for budgets.
    A job that expired before it was sent counts as released, even if the ledger has not recorded that yet.

    Args:
        ledger: the URL of the ledger.
        since: start of the period, with a time zone.
        until: end of the period (exclusive), with a time zone.
        project: the only project to report; by default all of them.
        account: the only account to report; by default all of them.
        as_of: report what the ledger had learnt by this instant, with a time zone; by default, now. Later
            entries of the journal do not count, so a report of an earlier day can be made again.
        timezone: IANA name of the time zone in which days start.

    Raises:
        LedgerError: the ledger cannot be read.
        KlingPricingError: the period is empty; the time zone, the project or the account is unknown; or `as_of`
            is in the future, or a job was settled again since then and the journal does not have its amount.
    """
    place, start, end = zone(timezone), in_utc(since), in_utc(until)
    if start >= end:
        raise KlingPricingError(
            f"the period {start.isoformat()} to {end.isoformat()} is empty; choose an end that is after the "
            "start"
        )
    known_at = None if as_of is None else in_utc(as_of)
    clock = utc_clock(None)
    if known_at is not None and known_at > clock():
        raise KlingPricingError(f"{known_at.isoformat()} is in the future; choose an earlier `as_of`")
    now = known_at or clock()
    store = connect(ledger, clock=clock)
    try:
        _require_known(store, project, account)
        buckets = store.bucket_histories(start, end)
        waived_until = end if known_at is None else min(end, known_at + timedelta(microseconds=1))
        waived = [
            row
            for row in (store.waived(start, waived_until) if account is None else ())
            if project is None or row.project == project
        ]
        begun_at = store.begun_at()
        previous = _previous(Period(start, end), place)
        all_jobs = _jobs(store, Period(start, end), buckets, known_at)
        earlier = () if known_at is None else store.bucket_histories(previous.start, previous.end)
        previous_jobs = _jobs(store, previous, earlier, known_at)
        if known_at is not None:
            buckets = list(histories_as_of(buckets, store.actions(), known_at))
    finally:
        store.close()
    expired: dict[str | None, Reservation] = {job.id: job for job in all_jobs if _is_expired(job, now)}
    jobs, previous_jobs = (
        [
            _released(job) if _is_expired(job, now) else job
            for job in each
            if project in {None, job.project} and account in {None, job.account}
        ]
        for each in (all_jobs, previous_jobs)
    )
    buckets = with_rolling_windows([_release_expired(history, expired) for history in buckets], min(now, end))
    if project is not None or account is not None:
        ids = {job.id for job in jobs}
        buckets = [
            history for history in buckets if any(entry.reservation_id in ids for entry in history.entries)
        ]
    return Spend(
        *(start, end, place, project, account, known_at, tuple(jobs), tuple(buckets), tuple(waived)),
        begun_at=begun_at,
        previous=previous,
        previous_jobs=tuple(previous_jobs),
    )


def _jobs(
    store: Ledger, period: Period, buckets: Sequence[BucketHistory], known_at: datetime | None
) -> list[Reservation]:
    """Returns the jobs reserved in a period, as the ledger knew them."""
    jobs = store.reservations(since=period.start, until=period.end)
    if known_at is None:
        return jobs
    return list(jobs_as_of(jobs, store.journal(period.start), buckets, known_at))


def _is_expired(job: Reservation, now: datetime) -> bool:
    return job.state == "reserved" and job.deadline <= now


def _released(job: Reservation) -> Reservation:
    """Returns an expired job as the ledger records it later."""
    return job._replace(state="released", reason="expired", closed_at=job.deadline)


def _previous(period: Period, place: tzinfo) -> Period:
    """Returns the month before a month, or the period of the same length before any other period."""
    before = calendar_period("month", period.start - timedelta(microseconds=1), place)
    if calendar_period("month", period.start, place) == period:
        return before
    length = period.end - period.start
    return Period(max(period.start - length, FIRST_INSTANT), period.start)


FIRST_INSTANT = datetime(1970, 1, 1, tzinfo=UTC)
"""The earliest instant of a period that is compared."""


def _require_known(store: Ledger, project: str | None, account: str | None) -> None:
    """Does nothing if the ledger knows a project and an account.

    Raises:
        KlingPricingError: no job and no budget has the project, or no job the account.
    """
    if project is not None and project not in (known := _projects(store)):
        remedy = did_you_mean(project, known) if known else "the ledger has no jobs yet"
        raise KlingPricingError(f"unknown project {reportable(project)!a}; {remedy}")
    if account is not None:
        named = sorted({each.account for each in store.accounts()})
        if account not in named and not default_price_book().knows(
            account
        ):  # a provider has an account of its name
            remedy = did_you_mean(account, named) if named else "no job was sent from a named account"
            raise KlingPricingError(f"unknown account {reportable(account)!a}; {remedy}")


def _projects(store: Ledger) -> list[str]:
    """Returns the projects of jobs, and those that the budgets in force name."""
    revision = store.installed()
    budgets = None if revision is None else budgets_from_document(revision.document)
    named: set[str] = set() if budgets is None else {*(budgets.projects or ())}
    for budget in () if budgets is None else budgets.budgets:
        matched = budget.match.get("project", [])
        named.update([matched] if isinstance(matched, str) else matched)
    return sorted({*store.projects(), *named} - {ANY, EACH})


def _release_expired(history: BucketHistory, expired: Mapping[str | None, Reservation]) -> BucketHistory:
    """Returns the history as if each expired job had been released at its deadline."""
    releases = [
        entry._replace(at=expired[entry.reservation_id].deadline, kind="expire", held=-entry.held)
        for entry in history.entries
        if entry.reservation_id in expired
    ]
    if not releases:
        return history
    bucket, amount = history.bucket, sum_of(entry.held for entry in releases)
    return history._replace(
        bucket=bucket._replace(held=add(bucket.held, amount), available=subtract(bucket.available, amount)),
        entries=tuple(sorted((*history.entries, *releases), key=lambda entry: entry.at)),
    )


def month_of(text: str | None, timezone: str, now: datetime) -> Period:
    """Returns a calendar month of a time zone.

    Args:
        text: the month, such as `2026-11`; None for the month of `now`.
        timezone: IANA name of the time zone.
        now: the current time.

    Raises:
        KlingPricingError: the text is not a month, or the time zone is unknown.
    """
    place = zone(timezone)
    if text is None:
        return calendar_period("month", now, place)
    check_month(text)
    return calendar_period("month", start_of(date.fromisoformat(f"{text}-01"), place), place)


def to_instant(at: date | datetime, timezone: str) -> datetime:
    """Returns the start of a day in a time zone; an instant stays as it is.

    Raises:
        KlingPricingError: the time zone is unknown.
    """
    return at if isinstance(at, datetime) else start_of(at, zone(timezone))


class JobStatus(NamedTuple):
    """The status of a job, for people: its title, its meaning, and its tone."""

    title: str
    about: str
    tone: Tone


JOB_STATUSES = {
    "final": JobStatus("Final", "Settled at the actual charge.", "good"),
    "provisional": JobStatus(
        "Provisional", "Settled provisionally, at the quoted price; the charge is not known yet.", "wait"
    ),
    "under way": JobStatus("In progress", "Accepted by the provider; the amount is held.", "calm"),
    "sent": JobStatus("Sent", "Sent to the provider, but the task is unknown; the amount is held.", "bad"),
    "reserved": JobStatus("Reserved", "Not sent yet; the amount is held.", "second"),
    "released": JobStatus("Released", "Not sent, rejected or refunded; no cost.", "second"),
}
"""Every status of a job, by its code, in the order of the summary."""


def status_of(job: Reservation) -> str:
    """Returns the status of a job: a key of `JOB_STATUSES`."""
    if job.state == "settled":
        return "provisional" if job.basis == "quote" else "final"
    return {"bound": "under way", "dispatching": "sent"}.get(job.state, job.state)


class Amounts(NamedTuple):
    """The totals of some jobs, in one currency.

    Attributes:
        jobs: the number of jobs.
        spent: the amounts at which they were settled.
        provisional: the part of `spent` that is settled at quotes only.
        held: the amounts reserved for jobs that are not settled.
    """

    jobs: int
    spent: Decimal
    provisional: Decimal
    held: Decimal

    @property
    def committed(self) -> Decimal:
        """Spent and held together."""
        return add(self.spent, self.held)


_ZERO = Decimal(0)
NO_AMOUNTS = Amounts(0, _ZERO, _ZERO, _ZERO)


def amounts_of(job: Reservation) -> Amounts:
    """Returns the amounts of one job."""
    status = status_of(job)
    if job.billed is not None:
        return Amounts(1, job.billed, job.billed if status == "provisional" else _ZERO, _ZERO)
    return Amounts(1, _ZERO, _ZERO, _ZERO if status == "released" else job.reserved)


Totals = dict[tuple[str, ...], Amounts]
"""Currency and other values that jobs share -> the totals of these jobs."""


def totals_by(jobs: Iterable[Reservation], key: Callable[[Reservation], tuple[str, ...]]) -> Totals:
    """Adds up the jobs of each currency and key."""
    totals: Totals = {}
    for job in jobs:
        group = (job.currency, *key(job))
        before, amounts = totals.get(group, NO_AMOUNTS), amounts_of(job)
        totals[group] = Amounts(before.jobs + 1, *map(add, before[1:], amounts[1:]))
    return totals


def charges(spent: Spend) -> Iterator[FocusCharge]:
    """Returns one charge per settled job."""
    for job in spent.jobs:
        if job.billed is not None:
            yield FocusCharge(
                provider=job.provider,
                account=job.account,
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
                standing=f"{status_of(job)}, by {job.basis}",
                cause=None,
            )
