"""The guard agrees with a small model of itself after every step of random sequences of verbs.

`Model` is the transition table in plain Python: whole nanos, fractions, days since the epoch, no database.
The machine sends every event to both and compares everything observable.
A usual run tries 20 sequences of 40 steps. A long run tries 2,000 of 60, and verifies the ledger after every
step instead of every fifth and the last: `HYPOTHESIS_PROFILE=long pytest tests/test_guard_model.py`.
"""
# ruff: noqa: D102 (the model's methods and the machine's rules are named after the guard's verbs)

import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from functools import cache
from itertools import count
from math import ceil
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
)

from kling_pricing import (
    Admission,
    Alert,
    Bucket,
    Budget,
    BudgetError,
    BudgetExceededError,
    BudgetGuard,
    Budgets,
    IdempotencyError,
    KlingPricingError,
    PriceBook,
    ReservationStateError,
)
from kling_pricing.wire.charges import Charge
from tests.conftest import AT, LONG, Clock, bundled_book, examples, in_memory, video

NANOS = 10**9
BASES = ("quote", "response", "statement", "operator")
OPEN = ("reserved", "dispatching", "bound")
UNCLEAR = -1
"""A charge in another currency, which has no value here."""
UNCLEAR_UNITS = 4
"""The number of units that stands for such a charge."""
EXPIRES_AFTER, DOUBTFUL_AFTER = timedelta(minutes=15), timedelta(minutes=5)
DAY = timedelta(days=1)
EVER = (datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC))
VERIFY_EVERY = 5
"""The number of steps after which the ledger is verified; long runs verify it after every step."""
_T = TypeVar("_T")


def nanos(amount: Decimal | int | str) -> int:
    """Returns an exact amount in nanos."""
    return int(Decimal(amount) * NANOS)


def money(amount: int) -> Decimal:
    """Returns the exact amount of a number of nanos."""
    return Decimal(amount) / NANOS


@dataclass(frozen=True)
class Request:
    """A request and its published price in nanos, exact and rounded up to the statement unit."""

    payload: dict[str, Any] = field(hash=False)
    provider: str
    expected: int
    reserved: int
    unit: int
    refunds_failures: bool


REQUESTS = (
    Request(video("kling-v2.6", duration=5), "qingbo", 195_500_000, 195_500_000, 2_000, refunds_failures=True),
    Request(
        video("kling-v2.6", duration=5, resolution="1080p", audio=True),
        "qingbo",
        796_875_000,
        796_876_000,
        2_000,
        refunds_failures=True,
    ),
    Request(
        {"model_name": "kling-v3", "prompt": "a boat", "duration": "5", "mode": "std"},
        "kling",
        420_000_000,
        420_000_000,
        140_000_000,
        refunds_failures=False,
    ),
)


@cache
def priced() -> PriceBook:
    """Returns the bundled tables, in which one provider does not say whether it refunds failed tasks."""
    book = bundled_book()
    kling = tuple(
        replace(table, billing=replace(table.billing, failed_tasks="unconfirmed"))
        for table in book.tables["kling"]
    )
    return PriceBook({**book.tables, "kling": kling}, book.matrices, book.contracts, book.unpriced)


# budgets in force


@dataclass(frozen=True)
class Rule:
    """A budget."""

    name: str
    match: tuple[tuple[str, str], ...]
    currency: str
    window: str
    cap: int
    max_request: int | None = None
    carry_over: bool = False
    alerts: tuple[str, ...] = ()

    @property
    def definition(self) -> tuple[Any, ...]:
        return self.match, self.currency, self.window

    def bucket(self, labels: dict[str, str]) -> tuple[tuple[str, str], ...] | None:
        """Returns the labels of the bucket in which a request counts; None if it does not match."""
        for label, wanted in self.match:
            if label not in labels or wanted not in {"any", "*", labels[label]}:
                return None
        return tuple((label, labels[label]) for label, wanted in self.match if wanted == "*")

    def period(self, at: datetime) -> tuple[datetime, datetime]:
        """Returns the window around an instant."""
        if self.window == "lifetime":
            return EVER
        start = datetime(1970, 1, 1, tzinfo=UTC) + (at - datetime(1970, 1, 1, tzinfo=UTC)) // DAY * DAY
        return start, start + DAY


@dataclass(frozen=True)
class Revision:
    """A file of budgets."""

    rules: tuple[Rule, ...]
    rate: str | None
    unmatched: str

    def budgets(self) -> Budgets:
        """Returns the budgets in the guard's form."""
        return Budgets(
            [
                Budget(
                    name=rule.name,
                    match=dict(rule.match),
                    cap=money(rule.cap),
                    currency=rule.currency,
                    window=rule.window,
                    max_request=None if rule.max_request is None else money(rule.max_request),
                    carry_over=rule.carry_over,
                    alerts=[Decimal(part) for part in rule.alerts],
                )
                for rule in self.rules
            ],
            unmatched=self.unmatched,
            accounting_rates=[{"quote": "USD", "budget": "CNY", "rate": self.rate}] if self.rate else [],
        )

    def convert(self, rule: Rule, amount: int) -> int:
        """Converts an amount in dollars to a budget's currency."""
        return amount if rule.currency == "USD" else ceil(amount * Fraction(self.rate or 0))


@st.composite
def revisions(draw: st.DrawFn) -> Revision:
    """Draws revisions in which caps, budgets, a window, a match and the accounting rate vary."""
    tight = ("0.391", "0.390999999", "0.796875999", "1.216876")  # sums of prices, some a nano short
    caps = st.sampled_from([nanos(cap) for cap in (*tight, *["9"] * 8)])
    rules = [
        Rule("teams", (("team", "*"),), "USD", "day", draw(caps)),
        Rule(
            "users",
            (("user", "any"),),
            "USD",
            "day",
            draw(caps),
            draw(st.sampled_from([None, None, nanos("0.5")])),
        ),
        Rule(
            "yuan", (("project", "a"),), "CNY", "lifetime", nanos(draw(st.sampled_from(["2.785271060", "60"])))
        ),
        Rule(
            "late",
            draw(st.sampled_from([(("project", "a"),), (("project", "b"),)])),
            "USD",
            draw(st.sampled_from(["day", "lifetime"])),
            draw(caps),
            carry_over=draw(st.sampled_from([True, True, False])),
        ),
        Rule("all", (), "USD", "lifetime", draw(caps), alerts=("0.5", "1")),
    ]
    chosen = [rule for rule in rules if rule.name in {"teams", "yuan"} or draw(st.integers(0, 3))]
    rate = draw(st.sampled_from(["7.1234567", "6.9", "7.1234567", None]))
    return Revision(tuple(chosen), rate, draw(st.sampled_from(["refuse", "allow"])))


# the model


class Refusal(Exception):  # noqa: N818 (an expected result, not an error)
    """The error that the guard must raise."""

    def __init__(self, error: type[Exception]) -> None:
        super().__init__(error)
        self.error = error


Place = tuple[str, tuple[Any, ...], tuple[tuple[str, str], ...], datetime]
"""Budget, definition, labels and window start, which identify a bucket."""


@dataclass
class Account:
    """A bucket."""

    rule: Rule
    end: datetime
    cap: int
    held: int = 0
    spent: int = 0
    opened: bool = False
    alerted: set[str] = field(default_factory=set)


@dataclass
class Line:
    """The amounts of a job in one bucket."""

    held: int
    spent: int
    convert: Callable[[int], int]


@dataclass(eq=False)
class Job:
    """A reservation."""

    request: Request | None
    provider: str
    project: str
    key: str | None
    attempt: int
    labels: dict[str, str]
    expected: int
    reserved: int
    created: datetime
    deadline: datetime
    lines: dict[Place, Line]
    id: str = ""
    state: str = "reserved"
    sent: bool = False
    doubted: bool = False
    task: str | None = None
    billed: int | None = None
    basis: str | None = None

    def in_doubt(self, now: datetime) -> bool:
        if self.state in {"bound", "settled"}:
            return self.doubted
        return self.state == "dispatching" and (self.doubted or self.deadline <= now)


Seen = tuple[str, str, str | None, int | None]
"""Provider, task, state and charge of an observation."""


class Model:
    """The ledger in plain Python."""

    def __init__(self, revision: Revision, clock: Clock) -> None:
        self.revision = revision
        self.definitions = {budget.name: budget.definition for budget in revision.rules}
        self.clock = clock
        self.accounts: dict[Place, Account] = {}
        self.jobs: list[Job] = []
        self.seen: list[Seen] = []
        self.alerts: Counter[tuple[Any, ...]] = Counter()

    # money

    def place(self, budget: Rule, labels: tuple[tuple[str, str], ...], at: datetime) -> Place:
        start, end = budget.period(at)
        place = budget.name, budget.definition, labels, start
        self.accounts.setdefault(place, Account(budget, end, budget.cap))
        return place

    def claims(self, labels: dict[str, str]) -> list[tuple[Rule, tuple[tuple[str, str], ...]]]:
        matching = [(budget, budget.bucket(labels)) for budget in self.revision.rules]
        if self.revision.rate is None and any(
            bucket is not None and budget.currency != "USD" for budget, bucket in matching
        ):
            raise Refusal(BudgetError)
        return [(budget, bucket) for budget, bucket in matching if bucket is not None]

    def move(self, job: Job, place: Place, held: int, spent: int) -> None:
        account = self.accounts[place]
        account.held += held
        account.spent += spent
        if held + spent > 0:
            self.alert(place, job.id)

    def alert(self, place: Place, job: str | None) -> None:
        """Records the thresholds of an account that are reached for the first time."""
        account = self.accounts[place]
        used = account.held + account.spent
        for part in account.rule.alerts if used > 0 else ():
            mark = f"{part} of {account.cap}"
            if used >= account.cap * Fraction(part) and mark not in account.alerted:
                account.alerted.add(mark)
                self.alerts["threshold", place[0], place[2], part, job] += 1

    def give_back(self, job: Job) -> None:
        for place, line in job.lines.items():
            self.move(job, place, -line.held, 0)
        job.state, job.doubted = "released", False

    def expire(self) -> None:
        for job in self.jobs:
            if job.state == "reserved" and job.deadline <= self.clock.now:
                self.give_back(job)

    # before a job is sent

    def admit(self, request: Request, project: str, key: str | None, labels: dict[str, str]) -> Job:
        """Returns the unsent job of the key, or a new job."""
        now = self.clock.now
        claimed = self.claims(labels)
        last = next(
            (job for job in reversed(self.jobs) if key and (job.project, job.key) == (project, key)), None
        )
        if last is not None and last.request != request:
            raise Refusal(IdempotencyError)
        expired = last is not None and last.state == "reserved" and last.deadline <= now
        if last is not None and last.state != "released" and not expired:
            if last.state == "reserved":
                self.expire()
                return last
            raise Refusal(ReservationStateError)
        self.expire()
        attempt = 1 if last is None else last.attempt + 1
        job = Job(
            request,
            request.provider,
            project,
            key,
            attempt,
            labels,
            request.expected,
            request.reserved,
            now,
            now + EXPIRES_AFTER,
            {},
        )
        before = dict(self.accounts)
        for budget, bucket in claimed:
            place, convert = self.place(budget, bucket, now), self.converter(budget)
            job.lines[place] = Line(convert(request.reserved), 0, convert)
            account = self.accounts[place]
            fits = account.held + account.spent + job.lines[place].held <= account.cap
            if not fits or job.lines[place].held > (budget.max_request or 10**18):
                job.state = "refused"
        if job.state == "refused" or not (claimed or self.revision.unmatched == "allow"):
            self.accounts = before  # a refusal leaves nothing behind
            raise Refusal(BudgetExceededError)
        self.jobs.append(job)
        return job

    def converter(self, budget: Rule) -> Callable[[int], int]:
        revision = self.revision
        return lambda amount: revision.convert(budget, amount)

    def reserve(self, job: Job) -> None:
        for place, line in job.lines.items():
            self.move(job, place, line.held, 0)

    def dispatch(self, job: Job) -> None:
        if job.state != "reserved" or job.deadline <= self.clock.now:
            if job.state == "reserved":
                self.expire()
            raise Refusal(ReservationStateError)
        job.state, job.sent, job.deadline = "dispatching", True, self.clock.now + DOUBTFUL_AFTER

    # after a job was sent

    def release(self, job: Job, *states: str) -> None:
        if job.state not in {*states, "released"}:
            raise Refusal(ReservationStateError)
        if job.state != "released":
            self.give_back(job)

    def refused(self, job: Job) -> None:
        if job.doubted:
            raise Refusal(ReservationStateError)
        self.release(job, "reserved", "dispatching")

    def mark_in_doubt(self, job: Job) -> None:
        if job.state == "reserved":
            raise Refusal(ReservationStateError)
        job.doubted = job.doubted or job.state == "dispatching"

    def bind(self, job: Job, task: str) -> None:
        if job.task == task:
            return
        taken = any((other.provider, other.task) == (job.provider, task) for other in self.jobs)
        if job.task is not None or not job.sent or taken:
            raise Refusal(ReservationStateError)
        job.task, job.doubted = task, False
        job.state = "bound" if job.state == "dispatching" else job.state
        for provider, of, state, charge in self.seen:
            if (provider, of) == (job.provider, task):
                self.take_up(job, state, charge)

    def settle(self, job: Job, billed: int | None, basis: str) -> None:
        amount = job.expected if billed is None else billed
        if job.state == "settled" and not self.replaces(job, amount, basis):
            if job.basis == basis and job.billed != amount:
                raise Refusal(ReservationStateError)
            return
        if not job.sent:
            raise Refusal(ReservationStateError)
        was_open, job.state, job.billed, job.basis, job.doubted = (
            job.state in OPEN,
            "settled",
            amount,
            basis,
            False,
        )
        for place, line in job.lines.items():
            spent = line.convert(amount)
            self.move(job, place, -line.held if was_open else 0, spent - line.spent)
            line.spent = spent
            mark = f"{amount} billed for {job.id}"
            if amount > job.reserved and mark not in self.accounts[place].alerted:
                self.accounts[place].alerted.add(mark)
                self.alerts["overrun", place[0], place[2], None, job.id] += 1

    def replaces(self, job: Job, amount: int, basis: str) -> bool:
        """Returns whether an amount replaces another: on a stronger basis, dearer, or an operator's."""
        stronger = BASES.index(basis) - BASES.index(job.basis or "quote")
        return basis == "operator" or stronger > 0 or (stronger == 0 and amount > (job.billed or 0))

    def resolve(self, job: Job, outcome: str, amount: int | None) -> None:
        is_settled = job.state == "settled"
        if is_settled and job.doubted:
            self.settle(job, amount if outcome == "charged" else 0, "operator")
        elif outcome == "charged" and is_settled:
            if amount not in {None, job.billed}:
                raise Refusal(ReservationStateError)
        elif outcome == "charged":
            self.settle(job, amount, "operator")
        else:
            self.release(job, "dispatching", "bound")

    def observe(self, seen: Seen, job: Job | None) -> Job | None:
        """Applies an observation; returns the job of its task."""
        provider, task, state, charge = seen
        owner = next((known for known in self.jobs if (known.provider, known.task) == (provider, task)), None)
        is_new = seen not in self.seen
        if job is not None and job is not owner:
            self.seen += [seen] * is_new
            self.bind(job, task)
            return job
        self.seen += [seen] * is_new
        if owner is not None and is_new:
            self.take_up(owner, state, charge)
        return owner

    def take_up(self, job: Job, state: str | None, charge: int | None) -> None:
        """Applies one observation: a stated charge counts; a failure is treated as the price table says."""
        if state not in {"succeeded", "failed", "cancelled"}:
            return
        if charge == UNCLEAR:
            self.keep_open(job)
            return
        charged = None if charge is None or job.request is None else charge * job.request.unit
        free = state != "succeeded" and not charged
        if free and (charged == 0 or (job.request is not None and job.request.refunds_failures)):
            if job.state == "settled":
                self.correct(job, 0, "response")
            elif job.state != "released":
                self.give_back(job)
        elif charged is None or (charged == 0 and state != "succeeded"):
            self.correct(job, None, "quote")
        else:
            self.correct(job, charged, "response")

    def keep_open(self, job: Job) -> None:
        """Puts a job in doubt whose charge has no value, unless its amount is known already."""
        if job.basis not in {None, "quote"}:
            return
        job.doubted = job.doubted or job.state != "released"
        mark = f"charge of {job.id}"
        for place in job.lines:
            if mark not in self.accounts[place].alerted:
                self.accounts[place].alerted.add(mark)
                self.alerts["charge", place[0], place[2], None, job.id] += 1

    def correct(self, job: Job, amount: int | None, basis: str) -> None:
        """Settles a job, unless the known amount has a stronger basis."""
        if job.state != "settled" or self.replaces(job, job.expected if amount is None else amount, basis):
            self.settle(job, amount, basis)

    # spend from elsewhere, and budgets

    def record(self, provider: str, task: str, amount: int, labels: dict[str, str], at: datetime) -> Job:
        claimed = self.claims(labels)
        known = next((job for job in self.jobs if (job.provider, job.task) == (provider, task)), None)
        if known is not None:
            if known.request is None and (known.billed, known.labels) == (amount, labels):
                return known
            raise Refusal(IdempotencyError)
        job = Job(None, provider, labels["project"], None, 1, labels, amount, amount, at, at, {})
        job.state, job.sent, job.task, job.billed, job.basis = "settled", True, task, amount, "operator"
        for budget, bucket in claimed:
            convert = self.converter(budget)
            job.lines[self.place(budget, bucket, at)] = Line(0, convert(amount), convert)
        self.jobs.append(job)
        return job

    def open_budget(self, name: str, labels: tuple[tuple[str, str], ...], spent: int) -> None:
        budget = next((budget for budget in self.revision.rules if budget.name == name), None)
        if budget is None:
            raise Refusal(BudgetError)
        place = self.place(budget, labels, self.clock.now)
        account = self.accounts[place]
        if account.opened:
            raise Refusal(IdempotencyError)
        account.opened = True
        account.spent += spent
        self.alert(place, None)

    def apply(self, revision: Revision) -> None:
        now = self.clock.now
        if revision == self.revision:
            return
        added = [
            budget
            for budget in revision.rules
            if budget.name not in {old.name for old in self.revision.rules}
            or self.definitions[budget.name] != budget.definition
        ]
        for budget in added:
            before = self.definitions.get(budget.name, budget.definition)
            opened = any(
                name == budget.name and definition != budget.definition and account.end > now and account.opened
                for (name, definition, _, _), account in self.accounts.items()
            )
            if (budget.carry_over and opened) or (not budget.carry_over and before != budget.definition):
                raise Refusal(BudgetError)
        self.revision = revision
        self.definitions |= {budget.name: budget.definition for budget in revision.rules}
        for budget in added:
            for job in self.jobs if budget.carry_over else ():
                bucket = budget.bucket(job.labels)
                if bucket is not None and budget.period(job.created)[1] > now:
                    self.carry(job, self.place(budget, bucket, job.created), self.converter(budget))
        for budget in revision.rules:
            for (name, definition, labels, since), account in self.accounts.items():
                if (name, definition) == (budget.name, budget.definition) and account.end > now:
                    account.cap, account.rule = budget.cap, budget
                    self.alert((name, definition, labels, since), None)

    def carry(self, job: Job, place: Place, convert: Callable[[int], int]) -> None:
        if place not in job.lines:
            line = Line(convert(job.reserved), convert(job.billed or 0), convert)
            job.lines[place] = line
            self.accounts[place].held += line.held if job.state in OPEN else 0
            self.accounts[place].spent += line.spent

    # observable state

    def status(self) -> list[tuple[Any, ...]]:
        """Returns budget, labels, cap, held, spent and window of every bucket in force."""
        rows: list[tuple[Any, ...]] = []
        late: Counter[Place] = Counter()  # expired, whether it is released yet or not
        for job in self.jobs:
            if job.state == "reserved" and job.deadline <= self.clock.now:
                late.update({place: line.held for place, line in job.lines.items()})
        for budget in self.revision.rules:
            start, end = budget.period(self.clock.now)
            counted = [
                (
                    budget.name,
                    dict(place[2]),
                    account.cap,
                    account.held - late[place],
                    account.spent,
                    start,
                    end,
                )
                for place, account in sorted(self.accounts.items(), key=lambda item: item[0][2])
                if (place[0], place[1], place[3]) == (budget.name, budget.definition, start)
            ]
            shared = "*" not in dict(budget.match).values()
            rows += counted or ([(budget.name, {}, budget.cap, 0, 0, start, end)] if shared else [])
        return rows


# the machine

labels = st.fixed_dictionaries(
    {"project": st.sampled_from("ab")},
    optional={"team": st.sampled_from("xy"), "user": st.just("li")},
)
amounts = st.sampled_from([0, 1, 195_500_001, 796_875_001, 796_876_001])
tasks = st.sampled_from(["t1", "t2", "t3", "t4", "t5"])
_STATES = {"qingbo": {"succeeded": "completed"}, "kling": {"succeeded": "succeed", "queued": "submitted"}}


rarely = precondition(lambda self: self.turn % 3 == 0)
"""Hypothesis chooses rules evenly; most events should concern jobs, few the work of administrators."""


class GuardMachine(RuleBasedStateMachine):
    """Sends every event to the model and, alternately, to one of two guards on the same ledger."""

    jobs = Bundle("jobs")
    turn = 0

    @initialize(revision=revisions())
    def start(self, revision: Revision) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="guard-", dir=in_memory()))
        self.clock = Clock()
        self.alerts: list[Alert] = []
        self.guards = [
            BudgetGuard(
                f"sqlite:///{self.folder}/spend.db",
                budgets,
                book=priced(),
                clock=self.clock,
                on_alert=self.alerts.append,
                expires_after=EXPIRES_AFTER,
                doubtful_after=DOUBTFUL_AFTER,
            )
            for budgets in (revision.budgets(), None)
        ]
        self.model = Model(revision, self.clock)
        self.admissions: dict[str, Admission] = {}
        self.journal: list[Any] = []
        self.steps = count()

    def teardown(self) -> None:
        if hasattr(self, "guards"):
            self.guard.verify()
            for guard in self.guards:
                guard.close()
            shutil.rmtree(self.folder)

    @property
    def guard(self) -> BudgetGuard:
        """Returns the guard whose turn it is."""
        self.turn += 1
        return self.guards[self.turn % 2]

    def both(self, modelled: Callable[[], _T], real: Callable[[], Any]) -> _T | None:
        """Carries out an event in the model and in the guard; returns None if both refuse."""
        try:
            expected = modelled()
        except Refusal as refusal:
            with pytest.raises(refusal.error) as raised:
                real()
            assert raised.type is refusal.error
            return None
        real()
        return expected

    # events

    def admit(self, request: Request, key: str | None, labels: dict[str, str], task: str, far: int) -> Any:
        """Admits a request and takes it as far as its dispatch or its task."""
        before = {row[:2]: row for row in self.rows()}
        admitted: list[Admission] = []
        other_labels = {name: value for name, value in labels.items() if name != "project"}
        job = self.both(
            lambda: self.model.admit(request, labels["project"], key, labels),
            lambda: admitted.append(
                self.guard.admit(request.payload, project=labels["project"], key=key, labels=other_labels)
            ),
        )
        if job is None:
            return multiple()
        (admission,) = admitted
        assert (admission.capped, admission.quote.maximum) == (False, money(request.expected))
        if job.id:  # the key had this job before
            assert admission.reservation_id == job.id
            return multiple()
        job.id = admission.reservation_id
        self.admissions[job.id] = admission
        self.model.reserve(job)
        for row in self.rows():
            held_before = before[row[:2]][3] if row[:2] in before else 0
            assert row[3] <= held_before or row[3] + row[4] <= row[2], "reserved past the cap"
        if far:
            self.dispatch(job)
        if far > 1:
            self.bind(job, task)
        return job

    _admissions: Any = rule(
        target=jobs,
        request=st.sampled_from(REQUESTS),
        key=st.sampled_from(["k1", "k2", None, None, None]),
        labels=labels,
        task=tasks,
        far=st.integers(0, 2),
    )
    admit_one = _admissions(admit)
    admit_another = _admissions(admit)
    admit_a_third = _admissions(admit)

    def rows(self) -> list[tuple[Any, ...]]:
        """Returns the guard's status in nanos."""
        return [(row.budget, str(row.labels), *map(nanos, row[2:5])) for row in self.guard.status()]

    @rule(job=jobs)
    def dispatch(self, job: Job) -> None:
        if (request := job.request) is not None:  # recorded spend has no admission
            sent: list[Any] = []
            self.both(
                lambda: self.model.dispatch(job),
                lambda: sent.append(self.guard.dispatch(self.admissions[job.id])),
            )
            assert sent in ([], [request.payload])

    @rule(job=jobs, task=tasks)
    def bind(self, job: Job, task: str) -> None:
        self.both(lambda: self.model.bind(job, task), lambda: self.guard.bind(job.id, task))

    @rule(job=jobs, amount=st.none() | amounts, basis=st.none() | st.sampled_from(BASES))
    def settle(self, job: Job, amount: int | None, basis: Any) -> None:
        grounds = basis or ("quote" if amount is None else "response")
        charged = None if amount is None else money(amount)
        self.both(
            lambda: self.model.settle(job, amount, grounds),
            lambda: self.guard.settle(job.id, charged, basis=basis),
        )

    @rule(job=jobs)
    def release(self, job: Job) -> None:
        self.both(lambda: self.model.release(job, "reserved"), lambda: self.guard.release(job.id))

    @rule(job=jobs)
    def refused(self, job: Job) -> None:
        self.both(lambda: self.model.refused(job), lambda: self.guard.release_refused(job.id))

    @rule(job=jobs)
    def mark_in_doubt(self, job: Job) -> None:
        self.both(lambda: self.model.mark_in_doubt(job), lambda: self.guard.mark_in_doubt(job.id, "timeout"))

    @rule(job=jobs, outcome=st.sampled_from(["charged", "not_charged"]), amount=st.none() | amounts)
    def resolve(self, job: Job, outcome: Any, amount: int | None) -> None:
        charged = None if amount is None else money(amount)
        self.both(
            lambda: self.model.resolve(job, outcome, amount),
            lambda: self.guard.resolve(job.id, outcome, amount=charged),
        )

    @rule(
        job=st.none() | jobs | jobs,
        provider=st.sampled_from(["qingbo", "kling"]),
        task=tasks,
        state=st.sampled_from(["queued", "processing", "succeeded", "failed", "failed", "cancelled"]),
        charge=st.sampled_from([None, None, None, None, 0, 3, 4, 4, 97_750, 398_438, 500_000]),
        repeated=st.booleans(),
    )
    def observe(
        self, *, job: Job | None, provider: str, task: str, state: str, charge: int | None, repeated: bool
    ) -> None:
        if job is not None:
            provider, task = job.provider, job.task or task
        if provider == "kling":  # it has no state for cancelled tasks, and charges in units
            state, charge = state.replace("cancelled", "failed"), charge and charge % 5
        word = _STATES[provider].get(state, state)
        if provider == "qingbo":
            body: dict[str, Any] = {"task_id": task, "status": word, "cost": charge}
        else:
            paid: dict[str, Any] = {"final_unit_deduction": charge, "final_balance_deduction": {"quota": "0"}}
            if charge == UNCLEAR_UNITS:
                charge = UNCLEAR
                paid = {"billing": [{"charge_type": "cash", "amount": "4", "currency": "CNY"}]}
            body = {"data": {"task_id": task, "task_status": word, **({} if charge is None else paid)}}
        seen = provider, task, state, charge
        observed: list[Any] = []
        ref = None if job is None else job.id
        for _ in range(1 + repeated):
            owner = self.both(
                lambda: self.model.observe(seen, job),
                lambda: observed.append(self.guard.observe(body, provider=provider, reservation=ref)),
            )
            assert [reservation and reservation.id for reservation in observed[-1:]] in (
                [],
                [owner and owner.id],
            )

    @rarely
    @rule(
        target=jobs,
        provider=st.sampled_from(["qingbo", "kling"]),
        task=tasks,
        amount=amounts,
        labels=labels,
        ago=st.sampled_from([timedelta(0), timedelta(hours=20), timedelta(days=2)]),
    )
    def record(self, provider: str, task: str, amount: int, labels: dict[str, str], ago: timedelta) -> Any:
        at = self.clock.now - ago
        booked: list[Any] = []
        job = self.both(
            lambda: self.model.record(provider, task, amount, labels, at),
            lambda: booked.append(
                self.guard.record(provider, task, money(amount), labels=labels, at=at, currency="USD")
            ),
        )
        if job is None:
            return multiple()
        if job.id:
            assert booked[0].id == job.id
            return multiple()
        job.id = booked[0].id
        for place, line in job.lines.items():
            self.model.move(job, place, 0, line.spent)
        return job

    @rarely
    @rule(budget=st.sampled_from(["teams", "users", "all", "late"]), spent=amounts)
    def open_budget(self, budget: str, spent: int) -> None:
        bucket_labels = {"team": "x"} if budget == "teams" else {}
        self.both(
            lambda: self.model.open_budget(budget, tuple(bucket_labels.items()), spent),
            lambda: self.guard.open_budget(budget, money(spent), labels=bucket_labels),
        )

    def replace(self, budgets: Budgets) -> None:
        """Applies budgets, and agrees to every change."""
        kept = {budget.name for budget in budgets.budgets}
        removed = {budget.name for budget in self.guard.budgets().budgets} - kept
        self.guard.apply(budgets, remove=removed, allow_weaker=True)

    @rarely
    @rule(revision=revisions())
    def apply(self, revision: Revision) -> None:
        self.both(
            lambda: self.model.apply(revision),
            lambda: self.replace(revision.budgets()),
        )

    @rule(minutes=st.sampled_from([1, 5, 5, 10, 15, 15, 90, 12 * 60, 24 * 60, -1, -16, -120, -24 * 60]))
    def the_clock_advances_or_steps_back(self, minutes: int) -> None:
        self.clock.pass_by(minutes=minutes)

    # invariants

    @invariant()
    def everything_observable_is_equal(self) -> None:
        if not hasattr(self, "model"):
            return
        guard, model, now = self.guard, self.model, self.clock.now
        assert [of_bucket(row) for row in guard.status()] == model.status()
        expected = sorted(model.jobs, key=lambda job: job.created)
        assert [
            (
                *(reservation.id, reservation.state, reservation.billed, reservation.basis),
                *(reservation.task_id, reservation.in_doubt, reservation.expected, reservation.reserved),
                *(reservation.attempt, reservation.labels, reservation.created_at),
            )
            for reservation in guard.history()
        ] == [
            (
                *(job.id, job.state, None if job.billed is None else money(job.billed), job.basis, job.task),
                *(job.in_doubt(now), money(job.expected), money(job.reserved), job.attempt, job.labels),
                job.created,
            )
            for job in expected
        ]
        assert [reservation.id for reservation in guard.in_doubt()] == [
            job.id for job in expected if job.in_doubt(now)
        ]
        owned = {(job.provider, job.task) for job in model.jobs}
        assert [
            (
                seen.provider,
                seen.task_id,
                seen.state,
                None if seen.charge is None else charge_in_model(seen.charge),
            )
            for seen in guard.unclaimed()
        ] == [seen for seen in model.seen if seen[:2] not in owned]
        assert Counter(map(of_alert, self.alerts)) == model.alerts

    @invariant()
    def the_journal_only_grows_and_sums_to_the_balances(self) -> None:
        if not hasattr(self, "model"):
            return
        journal = self.guard.journal()
        assert journal[: len(self.journal)] == self.journal
        self.journal = journal
        sums: Counter[tuple[str, str, str]] = Counter()
        for entry in journal:
            for what, amount in (("held", entry.held), ("spent", entry.spent)):
                if entry.budget is not None:
                    sums[entry.budget, str(entry.labels), what] += nanos(amount)
        balances: Counter[tuple[str, str, str]] = Counter()
        for (budget, _, bucket_labels, _), account in self.model.accounts.items():
            balances[budget, str(dict(bucket_labels)), "held"] += account.held
            balances[budget, str(dict(bucket_labels)), "spent"] += account.spent
        assert sums == balances

    @invariant()
    def the_ledger_verifies_itself(self) -> None:
        if hasattr(self, "model") and (LONG or next(self.steps) % VERIFY_EVERY == 0):
            self.guard.verify()


def charge_in_model(charge: Charge) -> int:
    """Returns a charge in the model's form."""
    (part,) = charge.parts
    return UNCLEAR if part.unit == "CNY" else int(part.amount)


def of_bucket(row: Bucket) -> tuple[Any, ...]:
    """Returns a bucket in the model's form."""
    assert row.available == row.cap - row.held - row.spent
    return row.budget, row.labels, *map(nanos, row[2:5]), row.window_start, row.window_end


def of_alert(alert: Alert) -> tuple[Any, ...]:
    """Returns an alert in the model's form."""
    part = None if alert.threshold is None else str(alert.threshold)
    return alert.kind, alert.budget, tuple(alert.labels.items()), part, alert.reservation_id


TestGuard = GuardMachine.TestCase
TestGuard.settings = settings(
    max_examples=examples(20, long=2000),
    stateful_step_count=60 if LONG else 40,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)


# cases that the machine found, and cases outside it

BUDGETS = [Budget(name="all", cap=Decimal(10), currency="USD")]


@pytest.fixture
def guard(ledger: str, clock: Clock) -> BudgetGuard:
    """Returns a guard with one budget that has room."""
    return BudgetGuard(ledger, BUDGETS, clock=clock)


def sent(guard: BudgetGuard, task: str) -> Admission:
    """Submits a job and binds it to a task."""
    admission = guard.admit(video(), project="trailer")
    guard.dispatch(admission)
    guard.bind(admission, task)
    return admission


def test_repeating_a_response_changes_nothing_even_after_contradictory_responses(
    guard: BudgetGuard,
) -> None:
    """Repeating the success that followed a failure leaves the reservation unchanged."""
    sent(guard, "t")
    guard.observe({"task_id": "t", "status": "failed"}, provider="qingbo")
    after = guard.observe({"task_id": "t", "status": "completed"}, provider="qingbo")
    assert guard.observe({"task_id": "t", "status": "completed"}, provider="qingbo") == after


def test_the_payload_that_was_priced_is_dispatched(guard: BudgetGuard) -> None:
    """A payload that its caller changes after the admission is dispatched as it was admitted."""
    payload = video(duration=3, image_urls=["https://example.com/a.png"])
    admission = guard.admit(payload, project="trailer")
    payload["duration"] = 15
    payload["image_urls"].append("https://example.com/b.png")
    assert guard.dispatch(admission) == video(duration=3, image_urls=["https://example.com/a.png"])


@pytest.mark.parametrize("amount", [Decimal("4000000000.000000001"), 10**12 - 1, 0.5, -1, "1e3", True, "NaN"])
@pytest.mark.parametrize(
    "book",
    [
        lambda guard, amount: guard.settle(("qingbo", "t"), amount),
        lambda guard, amount: guard.resolve(("qingbo", "t"), "charged", amount=amount),
        lambda guard, amount: guard.record("qingbo", "u", amount, labels={"project": "trailer"}),
        lambda guard, amount: guard.open_budget("all", amount),
    ],
    ids=["settle", "resolve", "record", "open_budget"],
)
def test_an_amount_that_cannot_be_counted_is_refused(
    guard: BudgetGuard, book: Callable[[BudgetGuard, Any], object], amount: Any
) -> None:
    """An amount that is too large, too fine, negative or inexact is refused, and nothing changes."""
    sent(guard, "t")
    before = guard.journal()
    with pytest.raises(KlingPricingError, match="invalid amount"):
        book(guard, amount)
    assert guard.journal() == before


def test_an_unknown_basis_is_refused(guard: BudgetGuard) -> None:
    """An unknown basis is refused, whether the job is settled or not."""
    basis: Any = "invoice"
    sent(guard, "t")
    for _ in range(2):
        with pytest.raises(
            KlingPricingError, match="basis must be one of quote, response, statement, operator"
        ):
            guard.settle(("qingbo", "t"), 1, basis=basis)
        guard.settle(("qingbo", "t"))


def test_recorded_spend_and_a_job_may_share_a_name(guard: BudgetGuard) -> None:
    """A job may have a key that equals the name of a recorded task."""
    guard.admit(video(), project="trailer", key="qingbo:t1")
    guard.record("qingbo", "t1", 1, labels={"project": "trailer"})
    guard.record("qingbo", "t2", 1, labels={"project": "trailer"})
    guard.admit(video(), project="trailer", key="qingbo:t2")
    assert [row[2:5] for row in guard.status()] == [(Decimal(10), Decimal("0.714"), Decimal(2))]


def test_spend_booked_again_must_be_the_same(guard: BudgetGuard) -> None:
    """Spend that is recorded again must have the same amount, currency and labels; its instant may differ."""
    first = guard.record("qingbo", "t", 1, labels={"project": "trailer"})
    assert guard.record("qingbo", "t", 1, labels={"project": "trailer"}, at=AT - DAY) == first
    differing: list[dict[str, Any]] = [
        {"amount": 2, "labels": {"project": "trailer"}},
        {"amount": 1, "labels": {"project": "teaser"}},
        {"amount": 1, "labels": {"project": "trailer"}, "currency": "EUR"},
    ]
    for arguments in differing:
        with pytest.raises((IdempotencyError, BudgetError)):
            guard.record("qingbo", "t", **arguments)
    assert guard.history() == [first]
