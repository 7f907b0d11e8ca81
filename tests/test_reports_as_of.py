"""The spend report as the ledger stood at an earlier instant, on both kinds of store."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from kling_pricing import Budget, BudgetGuard, Budgets, KlingPricingError, PriceBook
from kling_pricing.ledger.journal import Bucket, Entry
from kling_pricing.ledger.model import BASES, Reservation
from kling_pricing.reports import Spend, read_spend, write_spend
from tests import commands
from tests.conftest import Clock, video

CLIP = video(duration=5, resolution="1080p", audio=True)
BEGIN = datetime(2026, 11, 2, 9, tzinfo=UTC)
NOVEMBER = datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)
TRAILER: dict[str, Any] = {"project": "trailer"}


def budgets(cap: int) -> Budgets:
    """Returns budgets in two currencies, one of them with a rolling window."""
    return Budgets(
        [
            Budget(name="all", cap=Decimal(cap), currency="USD"),
            Budget(name="month", match=TRAILER, cap=Decimal(9), currency="USD", window="month"),
            Budget(name="yuan", cap=Decimal(900), currency="CNY", window="day"),
            Budget(name="recent", cap=Decimal(9), currency="USD", window={"rolling": "24h"}),
        ],
        accounting_rates=[{"quote": "USD", "budget": "CNY", "rate": Decimal("7.1")}],
    )


class Moment(NamedTuple):
    """What the ledger had at an instant, as the guard showed it then."""

    at: datetime
    jobs: list[Reservation]
    buckets: list[Bucket]


@pytest.fixture
def guard(ledger: str, book: PriceBook, clock: Clock) -> Iterator[BudgetGuard]:
    """A guard whose reservations do not expire on the days of the story."""
    clock.now = BEGIN
    with BudgetGuard(ledger, budgets(20), book=book, clock=clock, expires_after=timedelta(days=2)) as opened:
        yield opened
        opened.verify()


@pytest.fixture
def moments(guard: BudgetGuard, clock: Clock) -> list[Moment]:
    """A story with every state and basis, and what the guard showed after each event."""
    seen: list[Moment] = []

    def look() -> None:
        seen.append(Moment(clock.now, guard.history(), guard.status()))
        clock.pass_by(hours=1)

    jobs = {}
    for key in ("charged", "corrected", "refunded", "released", "in doubt", "billed after all"):
        jobs[key] = guard.admit(CLIP, **TRAILER, key=key, account="a" if key == "charged" else None)
        look()
    guard.release(jobs["released"], "changed my mind")
    look()
    for key in ("charged", "corrected", "refunded", "in doubt", "billed after all"):
        guard.dispatch(jobs[key])
        look()
    guard.mark_in_doubt(jobs["in doubt"], "timeout")
    look()
    for key in ("charged", "corrected", "refunded"):
        guard.bind(jobs[key], f"task {key}")
        look()
    guard.settle(jobs["corrected"])
    look()
    guard.observe({"task_id": "task charged", "status": "completed", "cost": 350000}, provider="qingbo")
    look()
    guard.observe({"task_id": "task refunded", "status": "failed", "cost": 0}, provider="qingbo")
    look()
    guard.release_refused(jobs["billed after all"], "HTTP 402")
    look()
    guard.settle(jobs["corrected"], "0.7", basis="response")
    look()
    guard.apply(budgets(30), allow_weaker=True)
    look()
    guard.record("qingbo", "elsewhere", "0.25", labels=TRAILER, at=BEGIN)
    look()
    guard.settle(jobs["corrected"], "0.65", basis="statement")
    look()
    guard.settle(jobs["billed after all"], "0.714", basis="statement")
    look()
    guard.bind(jobs["in doubt"], "task in doubt")
    look()
    guard.set_cap("all", "25")
    look()
    guard.settle(jobs["corrected"], "0.6", basis="operator")
    look()
    return seen


def as_of(ledger: str, at: datetime, **options: Any) -> Spend:
    """Returns the spend of November as the ledger stood at an instant."""
    return read_spend(ledger, *NOVEMBER, as_of=at, **options)


def without_doubt(job: Reservation) -> Reservation:
    """Returns a job without its doubt: a look at the ledger takes the present for its instant."""
    return job._replace(in_doubt=False)


def test_every_job_is_as_it_was(ledger: str, moments: list[Moment]) -> None:
    """At each instant, the report has the jobs that the guard showed then, with state, amount and basis."""
    assert len({job.state for moment in moments for job in moment.jobs}) == 5
    for moment in moments:
        jobs = as_of(ledger, moment.at).jobs
        assert list(jobs) == moment.jobs
        assert as_of(ledger, moment.at + timedelta(minutes=59)).jobs[0].id == jobs[0].id
    assert as_of(ledger, BEGIN - timedelta(seconds=1)).jobs == ()


def test_every_balance_is_as_it_was(ledger: str, moments: list[Moment]) -> None:
    """At each instant, the report has the balances and caps that the guard showed then."""
    for moment in moments:
        shown = {(bucket.budget, bucket.rolling or bucket.window_start): bucket for bucket in moment.buckets}
        reported = {
            (bucket.budget, bucket.rolling or bucket.window_start): bucket
            for bucket, *_ in as_of(ledger, moment.at).buckets
        }
        used = {name: bucket for name, bucket in shown.items() if bucket.held or bucket.spent}
        assert used
        for name, bucket in used.items():
            assert reported[name][2:6] == bucket[2:6], (name, moment.at)


def recomputed(entries: list[Entry], at: datetime) -> dict[tuple[str, str], tuple[Decimal, Decimal]]:
    """Returns what each job held and spent in each budget in USD, from the journal alone."""
    amounts: dict[tuple[str, str], tuple[Decimal, Decimal]] = {}
    for entry in entries:
        if entry.at <= at and entry.reservation_id and entry.budget in {"all", "month"}:
            held, spent = amounts.get((entry.reservation_id, entry.budget), (Decimal(0), Decimal(0)))
            amounts[entry.reservation_id, entry.budget] = (held + entry.held, spent + entry.spent)
    return amounts


def test_a_recomputation_from_the_journal_gives_the_same(
    ledger: str, guard: BudgetGuard, moments: list[Moment]
) -> None:
    """The held and spent amounts of every job are the sums of its journal entries until then."""
    entries = guard.journal()
    for moment in moments:
        spent = as_of(ledger, moment.at)
        own = {
            (job.id, budget): (
                job.reserved if job.state in {"reserved", "dispatching", "bound"} else Decimal(0),
                job.billed or Decimal(0),
            )
            for job in spent.jobs
            for budget in ("all", "month")
        }
        assert own == recomputed(entries, moment.at)


def test_the_present_is_the_last_instant(ledger: str, moments: list[Moment]) -> None:
    """As of the last event, the files of the report are those of a report without --as-of, but for one fact."""
    now, then = read_spend(ledger, *NOVEMBER), as_of(ledger, moments[-1].at)
    assert list(map(without_doubt, then.jobs)) == list(map(without_doubt, now.jobs))
    assert then.buckets[:3] == now.buckets[:3]


def test_a_report_of_an_earlier_day_can_be_made_again(
    ledger: str, guard: BudgetGuard, moments: list[Moment], tmp_path: Path
) -> None:
    """Later entries change no byte of it."""
    at = moments[12].at
    write_spend(as_of(ledger, at), tmp_path / "first", formats=["json", "csv", "focus"])
    guard.settle(("qingbo", "task in doubt"), "0.3", basis="operator")
    guard.record("qingbo", "later", "0.1", labels=TRAILER, at=BEGIN)
    write_spend(as_of(ledger, at), tmp_path / "again", formats=["json", "csv", "focus"])
    first, again = (
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("first", "again")
    )
    assert first == again
    facts = json.loads(first["report.json"])["facts"]
    assert facts[-1] == {"title": "As of", "text": "2026-11-02 21:00:00 UTC, as the ledger stood then"}


def test_expired_jobs_are_released_at_their_deadline(ledger: str, guard: BudgetGuard, clock: Clock) -> None:
    """A job counts as released from its deadline on, even if the ledger recorded that later."""
    guard.admit(CLIP, **TRAILER, key="late")
    clock.pass_by(days=5)
    guard.admit(CLIP, **TRAILER, key="next")
    (before,) = as_of(ledger, BEGIN + timedelta(days=1)).jobs
    (after,) = as_of(ledger, BEGIN + timedelta(days=3)).jobs
    assert (before.state, after.state, after.reason) == ("reserved", "released", "expired")
    assert after.closed_at == BEGIN + timedelta(days=2)


def test_amounts_that_no_budget_counted_are_as_they_were(ledger: str, book: PriceBook, clock: Clock) -> None:
    """The journal keeps each amount, also if no budget counts it, or only one in another currency."""
    clock.now = BEGIN
    other = Budget(name="yuan", match={"user": "any"}, cap=Decimal(900), currency="CNY")
    rates = [{"quote": "USD", "budget": "CNY", "rate": Decimal("0.3")}]
    known = Budgets([other], accounting_rates=rates, unmatched="allow")
    with BudgetGuard(ledger, known, book=book, clock=clock) as guard:
        amounts = ("0.500000001", "0.7", "0.65")
        for key, labels in (("uncounted", {}), ("converted", {"user": "li"})):
            guard.bind(guard.admit_and_dispatch(CLIP, **TRAILER, key=key, labels=labels)[0], key)
        for amount, basis in zip(amounts, BASES[1:], strict=True):
            clock.pass_by(days=1)
            for task in ("uncounted", "converted"):
                guard.settle(("qingbo", task), amount, basis=basis)
    billed = [
        {job.billed for job in as_of(ledger, BEGIN + timedelta(days=day)).jobs} for day in range(len(BASES))
    ]
    assert billed == [{None}, *({Decimal(amount)} for amount in amounts)]


def test_the_future_and_unknown_names_are_errors(ledger: str, moments: list[Moment]) -> None:
    """An instant in the future, an unknown project and an unknown account are refused, with a remedy."""
    with pytest.raises(
        KlingPricingError, match=r"2199-01-01T00:00:00\+00:00 is in the future; choose an earlier"
    ):
        as_of(ledger, datetime(2199, 1, 1, tzinfo=UTC))
    with pytest.raises(KlingPricingError, match="unknown project 'trialer'; did you mean 'trailer'"):
        as_of(ledger, moments[-1].at, project="trialer")
    with pytest.raises(KlingPricingError, match="unknown account 'b'; use one of: a, qingbo"):
        as_of(ledger, moments[-1].at, account="b")


def test_the_spend_of_one_account(ledger: str, moments: list[Moment], tmp_path: Path) -> None:
    """The report of an account has only its jobs, and the whole report has a table by account."""
    spent = as_of(ledger, moments[-1].at, account="a")
    assert [job.key for job in spent.jobs] == ["charged"]
    write_spend(as_of(ledger, moments[-1].at), tmp_path, formats=["json"])
    report = json.loads((tmp_path / "report.json").read_text())
    rows = report["tables"]["by_provider_and_account"]["rows"]
    assert [(row["provider"], row["account"], row["jobs"], row["spent"]) for row in rows] == [
        ("qingbo", "qingbo", 6, "1.564"),
        ("qingbo", "a", 1, "0.7"),
    ]


# the command line


def test_the_command_reports_an_earlier_day(ledger: str, moments: list[Moment]) -> None:
    """A day includes the whole day in the time zone, and the default month is the month of that day."""

    def report(*arguments: str) -> dict[str, Any]:
        done = commands.run("report", "--json", *arguments, ledger=ledger)
        assert done.returncode == 0, done.stdout
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    assert report("--as-of", "2026-11-01")["verdict"]["headline"] == "No spend"
    first = report("--as-of", "2026-11-02")
    assert first["title"] == "November 2026"
    assert first == report("--as-of", "2026-11-02T23:59:59.999999Z", "--month", "2026-11")
    zone = ("--timezone", "Asia/Shanghai")
    assert (
        report("--as-of", "2026-11-02", *zone)["tables"]
        == (report("--as-of", "2026-11-02T15:59:59.999999Z", *zone)["tables"])
    )
    assert report("--as-of", f"{moments[-1].at:%Y-%m-%d}")["tables"] == report("--month", "2026-11")["tables"]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--as-of", "2198-12-31"), "is in the future; choose an earlier --as-of"),
        (("--as-of", "yesterday"), "Invalid value for '--as-of': 'yesterday' is not an ISO 8601 date or time"),
        (("--project", "trialer", "--month", "2026-11"), "unknown project 'trialer'; did you mean 'trailer'"),
        (("--account", "b", "--month", "2026-11"), "unknown account 'b'; use one of: a, qingbo"),
        (("--month", "2026-13"), "Invalid value for '--month': 2026-13 is not a month; write it as YYYY-MM"),
        (("--timezone", "Moon/Sea"), "Invalid value for '--timezone': unknown time zone Moon/Sea"),
    ],
)
def test_the_command_refuses_what_it_cannot_report(
    ledger: str, moments: list[Moment], arguments: tuple[str, ...], problem: str
) -> None:
    """The error names the option or the name, and the remedy."""
    assert moments
    done = commands.run("report", *arguments, ledger=ledger)
    assert (done.returncode, done.stdout) == (2, "")
    assert problem in " ".join(done.stderr.split())


@pytest.mark.parametrize(
    ("command", "place"),
    [
        (("reconcile", "--statement", "x.csv", "--provider", "qingbo", "--month"), "'--month'"),
        (("report", "--month"), "'--month'"),
        (("month", "close", "--provider", "qingbo"), "'YYYY-MM'"),
    ],
)
@pytest.mark.parametrize("month", ["2026-13", "2026-1", "11-2026", "November"])
def test_a_wrong_month_names_its_option(command: tuple[str, ...], place: str, month: str) -> None:
    """Every command with a month says which option is wrong, and how to write a month."""
    done = commands.run(*command, month, ledger="sqlite:///nothing.db")
    assert (done.returncode, done.stdout) == (2, "")
    text = " ".join(done.stderr.split())
    assert f"Invalid value for {place}: {month} is not a month; write it as YYYY-MM, such as 2026-11" in text
