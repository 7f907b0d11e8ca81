"""A simulated month of a studio on one seed: guards, clients, a moody provider, callbacks, clocks and crashes.

Everything happens in one thread, in an order that the seed decides.
After each event, `Checker` compares the ledger with its own books, which it keeps in plain Python from the
answers of the guards alone.
A breach of a promise ends the simulation, and its message is the script of the events.
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from threading import get_ident
from typing import Any, NamedTuple, Protocol

from kling_pricing import (
    Admission,
    BudgetExceededError,
    BudgetFrozenError,
    BudgetGuard,
    KlingPricingError,
    PriceBook,
    Reservation,
    ReservationStateError,
)
from kling_pricing.guard import freeze_all, thaw_all
from tests.simulated_provider import Callback, Provider, ProviderTask
from tests.simulated_studio import (
    BEGINNINGS,
    CLIPS,
    DOUBTFUL_AFTER,
    EXPIRES_AFTER,
    INSTALLED,
    ZERO,
    Clip,
    budgets,
    rules_of,
    window_of,
)
from tests.simulation_books import Breach, Checker, name_of, state_at, state_of

# the script


class Line(NamedTuple):
    """An event of the script."""

    at: datetime
    who: str
    event: str
    job: str
    detail: str
    result: str


def table(lines: list[Line]) -> str:
    """Returns a script as a table with one event a line."""
    rows = [("", "instant (UTC)", "who", "event", "job", "detail", "result")]
    rows += [
        (str(number), f"{line.at:%Y-%m-%d %H:%M:%S}", *line[1:]) for number, line in enumerate(lines, start=1)
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(7)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


# the simulation


@dataclass
class Job:
    """A job of a client, and what the client remembers of it.

    Attributes:
        key: the job's key.
        labels: its labels.
        clip: the request.
        admission: the admission; None: the client has none, or has forgotten it.
        reservation_id: the id of the newest reservation.
        outcome: the provider's answer; None: the job was not submitted.
        task: the task in the answer.
        is_abandoned: whether the client has vanished.
    """

    key: str
    labels: dict[str, str]
    clip: Clip
    admission: Admission | None = None
    reservation_id: str | None = None
    was_given_out: bool = False
    outcome: str | None = None
    task: ProviderTask | None = None
    is_abandoned: bool = False

    def forget(self) -> None:
        """Lets the client vanish, with everything that it knew."""
        self.admission, self.was_given_out, self.outcome, self.task = None, False, None, None
        self.is_abandoned = True


class Killed(BaseException):
    """Ends a guard's process in the middle of a verb."""


class Store(Protocol):
    """The place of the ledger.

    Attributes:
        url: the URL of the ledger.
    """

    url: str

    def set_clock(self, now: datetime) -> None:
        """Makes the ledger's own clock, if it has one, show an instant."""

    def restart(self) -> None:
        """Leaves what kill -9 leaves, and updates `url`. The guards are closed afterwards."""


OpenGuard = Callable[..., BudgetGuard]


class Simulation:
    """One run.

    Args:
        seed: the seed. Equal seeds give equal scripts.
        store: a place with a ledger that has the first budgets since `INSTALLED`, and no reservation.
        book: the price tables.
        open_guard: opens a guard; by default a `BudgetGuard`. Tests plant faults with it.
    """

    def __init__(self, seed: int, store: Store, book: PriceBook, open_guard: OpenGuard = BudgetGuard) -> None:
        self.seed = seed
        self.dice = random.Random(seed)  # noqa: S311 (repeatable)
        self.now = self.dice.choice(BEGINNINGS)
        self._rules = rules_of(window_of(seed))
        self.checker = Checker(self._rules, book)
        self.provider = Provider(self.dice)
        self.script: list[Line] = []
        self._store, self._book, self._open_guard = store, book, open_guard
        self._jobs: list[Job] = []
        self._recorded = ZERO
        self._may_be_killed = True
        self._readings_left: int | None = None
        self._thread = get_ident()  # the guards count refusals in other threads, which are not killed
        self._guards: list[BudgetGuard] = []

    def run(self, events: int) -> None:
        """Runs a number of events, then lets the provider tell the truth.

        Raises:
            Breach: the ledger broke a promise; the message has the script.
        """
        try:
            self._set_clock(self.now)
            self._start()
            for number in range(events):
                self._step()
                if number % 40 == 39:
                    self.checker.audit(self._guards[0])
            self._settle_everything()
        except Breach as breach:
            raise Breach(breach.promise, f"{breach.what}\n{self._story()}") from None
        except KlingPricingError as error:
            what = f"{type(error).__name__}: {error}\n{self._story()}"
            raise Breach("error", what) from error
        finally:
            self._stop()

    def _story(self) -> str:
        """Returns the script, and how to run it again."""
        command = f"pytest tests/test_simulation.py --seed {self.seed}"
        return f"seed {self.seed}; to run it again: {command}\n{table(self.script)}"

    # guards

    def _start(self) -> None:
        self._guards = [
            self._open_guard(
                self._store.url,
                book=self._book,
                clock=self._read_clock,
                expires_after=EXPIRES_AFTER,
                doubtful_after=DOUBTFUL_AFTER,
            )
            for _ in range(2)
        ]

    def _stop(self) -> None:
        self._readings_left = None
        for guard in self._guards:
            guard.close()
        self._guards = []

    @property
    def _guard(self) -> BudgetGuard:
        return self.dice.choice(self._guards)

    def _read_clock(self) -> datetime:
        if self._readings_left is not None and get_ident() == self._thread:
            self._readings_left -= 1
            if self._readings_left < 0:
                self._readings_left = None
                raise Killed
        return self.now

    def _set_clock(self, now: datetime) -> None:
        self.now = max(now, INSTALLED)
        self._store.set_clock(self.now)

    def _log(self, who: str, event: str, job: Job | None, detail: str, result: str) -> None:
        self.script.append(Line(self.now, who, event, "" if job is None else job.key, detail, result))

    # events

    def _step(self) -> None:
        """Runs one event, and compares the ledger with the books."""
        lines = len(self.script)
        while len(self.script) == lines:  # some events need a job or a task
            if self.checker.is_frozen and self.dice.random() < 0.15:
                self.budget_change()
            else:
                self.dice.choices(list(_EVENTS), weights=list(_EVENTS.values()))[0](self)
        self.checker.compare(self._guard, self.now)

    def _verb(self, who: str, event: str, job: Job, detail: str, verb: Callable[[], Any]) -> Any:
        """Runs a verb about a job; returns its result, or the error with which the guard refused.

        Rarely, the process of the guard is killed in the middle of the verb, or before the client is answered.
        """
        line = len(self.script)
        self._log(who, event, job, detail, "...")
        if self._may_be_killed and self.dice.random() < 0.03:
            self._readings_left = self.dice.randrange(3)
        try:
            result = verb()
        except (BudgetExceededError, BudgetFrozenError, ReservationStateError) as error:
            result = error
            if isinstance(error, BudgetFrozenError) and not self.checker.is_frozen:
                raise Breach(
                    "freeze", f"{event} of {job.key} was refused although nothing is frozen"
                ) from error
        except Killed:
            self.script[line] = self.script[line]._replace(result="killed in the middle")
            job.forget()
            self._restart(job)
            return None
        self._readings_left = None
        text = _shown(result)
        self.script[line] = self.script[line]._replace(result=text)
        if isinstance(result, Reservation):
            self.checker.answered(result)
        elif job.reservation_id is not None and isinstance(result, KlingPricingError):
            self.checker.answered(self._guard.reservation(job.reservation_id))
        return result

    def _restart(self, interrupted: Job | None = None) -> None:
        """Kills the guards' processes, and starts new ones."""
        self._store.restart()
        self._stop()
        self._start()
        self.checker.compare(self._guards[0], self.now, None if interrupted is None else interrupted.key)
        self._log("machine", "restart", None, "", "")

    def new_job(self) -> None:
        """Lets a client admit a new job."""
        labels = {"project": self.dice.choice(["a", "b"])}
        if self.dice.random() < 0.5:
            labels["team"] = "x"
        job = Job(f"shot-{len(self._jobs) + 1}", labels, self.dice.choice(CLIPS))
        self._jobs.append(job)
        self._admit(job)

    def _admit(self, job: Job) -> None:
        detail = f"{job.clip.name} for {job.clip.price}, {' '.join(job.labels.values())}"
        result = self._verb(
            "client",
            "admit",
            job,
            detail,
            lambda: self._guard.admit(
                job.clip.payload,
                project=job.labels["project"],
                key=job.key,
                labels=job.labels,
                provider=job.clip.provider,
            ),
        )
        if isinstance(result, Admission):
            job.is_abandoned = False
            if job.reservation_id != result.reservation_id:
                job.was_given_out, job.outcome, job.task = False, None, None
            job.admission, job.reservation_id = result, result.reservation_id
            row = result.reservation
            self.checker.admitted(row, job.clip, self.now, replayed=result.replayed)
            words = [f"attempt {row.attempt}"] + ["again"] * result.replayed
            words += [f"{setting} {value}" for setting, value in row.changes.items()]
            self.script[-1] = self.script[-1]._replace(result=", ".join(words))
        elif isinstance(result, BudgetExceededError):
            self.checker.refused(job.labels, job.clip, self.now)

    def retry(self) -> None:
        """Lets a client, perhaps one that was restarted, admit a job again."""
        if self._jobs:
            self._admit(self.dice.choice(self._jobs))

    def go_on(self) -> None:
        """Lets a client take the next step of a job."""
        jobs = [job for job in self._jobs if job.admission is not None]
        if not jobs:
            return
        job = self.dice.choice(jobs)
        if self.dice.random() < 0.06:
            job.forget()
            self._log("client", "vanish", job, "", "")
        elif not job.was_given_out:
            self._dispatch(job)
        elif job.outcome is None:
            job.outcome, job.task = self.provider.submit(self.checker.holds[str(job.reservation_id)].row)
            self._log("client", "submit", job, "", job.outcome)
        else:
            self._report(job)

    def _dispatch(self, job: Job) -> None:
        guard, admission, name = self._guard, job.admission, job.reservation_id
        assert admission is not None
        assert name is not None
        if self.dice.random() < 0.1:
            self._verb("client", "release", job, "", lambda: guard.release(name))
            job.forget()
            return
        payload = self._verb("client", "dispatch", job, "", lambda: guard.dispatch(admission))
        if isinstance(payload, dict):
            self.checker.gave_out(name, payload, job.clip, self.now)
            self.checker.answered(guard.reservation(name))
            job.was_given_out = True
        elif payload is not None:
            job.forget()

    def dispatch_again(self) -> None:
        """Lets a client dispatch an admission once more, in vain."""
        jobs = [job for job in self._jobs if job.admission is not None and job.was_given_out]
        if not jobs:
            return
        job = self.dice.choice(jobs)
        guard, admission, name = self._guard, job.admission, job.reservation_id
        assert admission is not None
        assert name is not None
        payload = self._verb("client", "dispatch again", job, "", lambda: guard.dispatch(admission))
        if isinstance(payload, dict):
            self.checker.gave_out(name, payload, job.clip, self.now)

    def _report(self, job: Job) -> None:
        """Lets a client tell the guard what the provider answered."""
        guard, name, task = self._guard, job.reservation_id, job.task
        assert name is not None
        if task is not None and self.dice.random() < 0.5:
            self._verb("client", "bind", job, task.id, lambda: guard.bind(name, task.id))
        elif task is not None:
            body = task.body("processing", None)
            answer = lambda: guard.observe(body, provider=task.provider, reservation=name)  # noqa: E731
            self._verb("client", "observe answer", job, task.id, answer)
        elif job.outcome in {"timeout", "500"}:
            self._verb(
                "client", "mark in doubt", job, job.outcome, lambda: guard.mark_in_doubt(name, "no answer")
            )
        else:
            self._verb("client", "release refused", job, str(job.outcome), lambda: guard.release_refused(name))
        job.forget()

    def provider_works(self) -> None:
        """Lets the provider end a task, or change its bill."""
        if self.dice.random() < 0.05:
            self.provider.new_task("qingbo", CLIPS[0].price)
        tasks = [task for task in self.provider.tasks if task.state == "processing"]
        if self.dice.random() < 0.1:
            tasks = self.provider.tasks
        if tasks:
            task = self.dice.choice(tasks)
            self._log("provider", "works", self._job_of(task), task.id, self.provider.work(task))

    def callback(self) -> None:
        """Delivers a callback."""
        if self.provider.callbacks:
            self._deliver(self.provider.next_callback())

    def _deliver(self, callback: Callback) -> None:
        task, guard = callback.task, self._guard
        amounts = {callback.charge}
        if callback.charge is None:
            amounts = {ZERO, task.price} if callback.state == "failed" else {task.price}
        for amount in amounts:
            self.checker.named(task.provider, task.id, amount or ZERO)
        body = task.body(callback.state, callback.charge)
        self._verb(
            "provider",
            "callback",
            self._job_of(task),
            f"{task.id} {callback.state} {'' if callback.charge is None else callback.charge}",
            lambda: guard.observe(body, provider=task.provider),
        )

    def _job_of(self, task: ProviderTask) -> Job:
        hold = self.checker.holds.get(task.reservation_id)
        return _NOBODY if hold is None else self._job_named(hold.row.key)

    def _job_named(self, key: str) -> Job:
        return next((job for job in self._jobs if job.key == key), _NOBODY)

    def operator(self) -> None:
        """Lets a person look up a job in doubt, or enter a row of a statement."""
        doubtful = self._guard.in_doubt()
        if not doubtful:
            return
        row = self.dice.choice(doubtful)
        hold, guard = self.checker.holds[row.id], self._guard
        job = self._job_named(row.key)
        task = next((task for task in self.provider.tasks if task.reservation_id == row.id), None)
        if task is None:
            self._verb("operator", "resolve", job, "not charged", lambda: guard.resolve(row.id, "not_charged"))
        elif row.task_id is None:
            self._verb("operator", "bind", job, task.id, lambda: guard.bind(row.id, task.id))
        elif task.state != "processing":
            hold.named.add(task.bill)
            self._verb(
                "operator",
                "resolve",
                job,
                f"charged {task.bill}",
                lambda: guard.resolve(row.id, "charged", amount=task.bill),
            )

    def statement(self) -> None:
        """Enters a row of a statement."""
        tasks = [task for task in self.provider.tasks if task.state != "processing" and task.reservation_id]
        if tasks:
            self._enter_bill(self.dice.choice(tasks), "statement")

    def _enter_bill(self, task: ProviderTask, basis: str) -> None:
        hold, guard = self.checker.holds[task.reservation_id], self._guard
        if hold.row.task_id is None:
            return
        hold.named.add(task.bill)
        settle: Any = guard.settle
        ref = (task.provider, task.id)
        self._verb(
            "operator",
            basis,
            self._job_of(task),
            f"{task.id} {task.bill}",
            lambda: settle(ref, task.bill, basis=basis),
        )

    def record(self) -> None:
        """Records spend that did not go through the guard."""
        amount = self.dice.choice([Decimal("0.1"), Decimal("0.25")])
        guard, task = self._guard, f"elsewhere-{len(self.script)}"
        row = guard.record("qingbo", task, amount, labels={"project": "b"}, currency="USD")
        self.checker.recorded(row)
        self._recorded += amount
        self._log("operator", "record", None, f"{task} {amount}", state_of(row))

    def clock(self) -> None:
        """Moves the clock forward, backward, or to the end of a day or a month."""
        midnight = (self.now + timedelta(days=1)).replace(hour=0, minute=0, second=0)
        monday = midnight + timedelta(days=-midnight.weekday() % 7)
        kind, then = self.dice.choice(
            [
                ("a minute", self.now + timedelta(minutes=1)),
                ("six minutes", self.now + timedelta(minutes=6)),
                ("sixteen minutes", self.now + timedelta(minutes=16)),
                ("five hours", self.now + timedelta(hours=5)),
                ("before midnight in Havana", midnight + timedelta(hours=self.dice.choice([4, 5]), seconds=-1)),
                ("midnight in Havana", midnight + timedelta(hours=self.dice.choice([4, 5]))),
                ("Monday in Havana", monday + timedelta(hours=self.dice.choice([4, 5]))),
                ("midnight in Shanghai", midnight + timedelta(hours=-8)),
                ("a second back", self.now - timedelta(seconds=1)),
                ("twenty minutes back", self.now - timedelta(minutes=20)),
                ("a day back", self.now - timedelta(days=1)),
            ]
        )
        self._set_clock(then)
        self._log("clock", "jump", None, kind, f"{self.now:%Y-%m-%d %H:%M:%S}")

    def budget_change(self) -> None:
        """Lets an administrator change the caps, or freeze or thaw all spending."""
        if self.checker.is_frozen or self.dice.random() < 0.4:
            command = thaw_all if self.checker.is_frozen else freeze_all
            command(self._store.url, actor="wang", reason="as ordered")
            self.checker.is_frozen = not self.checker.is_frozen
            self._log("administrator", "freeze" if self.checker.is_frozen else "thaw", None, "", "")
            return
        caps = {rule.name: self.dice.choice(rule.caps) for rule in self._rules}
        self._guard.apply(budgets(self._rules, caps), allow_weaker=True)
        self.checker.applied(caps, self.now)
        self._log("administrator", "apply", None, " ".join(f"{name} {cap}" for name, cap in caps.items()), "")

    def crash(self) -> None:
        """Kills the guards' processes between two verbs; some clients vanish with them."""
        for job in self._jobs:
            if self.dice.random() < 0.5:
                job.forget()
        self._restart()

    # the end

    def _settle_everything(self) -> None:
        """Lets the provider tell the truth about every job, and checks that the ledger agrees."""
        if self.checker.is_frozen:
            thaw_all(self._store.url, actor="wang", reason="the month is over")
            self.checker.is_frozen = False
        latest = max(line.at for line in self.script)
        self._set_clock(latest + timedelta(minutes=20))
        self._may_be_killed = False
        for job in self._jobs:
            job.forget()
        for callback in self.dice.sample(self.provider.callbacks, len(self.provider.callbacks)):
            self._deliver(callback)
        for task in self.provider.tasks:
            if task.state == "processing":
                self.provider.work(task)
        tasks = {task.reservation_id: task for task in self.provider.tasks if task.reservation_id}
        for name in list(self.checker.holds):
            self._tell_the_truth(name, tasks.get(name))
        self.checker.compare(self._guard, self.now)
        self.checker.audit(self._guards[0])
        self._ensure_settled(tasks)

    def _tell_the_truth(self, name: str, task: ProviderTask | None) -> None:
        """Looks a reservation up at the provider, as often as it takes to settle it."""
        hold, guard = self.checker.holds[name], self._guard
        job = self._job_named(hold.row.key)
        if task is None:
            if hold.row.state == "dispatching":
                self._verb(
                    "operator", "resolve", job, "not charged", lambda: guard.resolve(name, "not_charged")
                )
            return
        if hold.row.task_id is None:
            self._verb("operator", "bind", job, task.id, lambda: guard.bind(name, task.id))
        if state_at(hold.row, self.now) in {"dispatching", "bound"}:
            self._deliver(Callback(task, task.state, task.bill))
        for basis in ("statement", "operator"):
            is_settled = hold.row.state == "settled" or not task.bill
            if not is_settled or hold.row.in_doubt or (hold.row.billed or ZERO) != task.bill:
                self._enter_bill(task, basis)

    def _ensure_settled(self, tasks: Mapping[str, ProviderTask]) -> None:
        """Checks that nothing is open, and that the ledger's sum is the provider's bill.

        Raises:
            Breach: a job is open, or the sum differs.
        """
        guard = self._guard
        rows = guard.history()
        for row in rows:
            if row.in_doubt or state_at(row, self.now) not in {"settled", "released"}:
                raise Breach("open", f"{name_of(row)} is {state_of(row)} at the end: {row.reason}")
            task = tasks.get(row.id)
            if task is not None and (row.billed or ZERO) != task.bill:
                raise Breach("bill", f"{name_of(row)} is {state_of(row)}, and the provider billed {task.bill}")
        billed = sum((row.billed for row in rows if row.billed is not None), ZERO)
        if billed != sum((task.bill for task in tasks.values()), self._recorded):
            raise Breach("bill", f"the ledger's jobs cost {billed}, which is not the provider's bill")
        if any(bucket.held for bucket in guard.status()):
            raise Breach("open", "money is held at the end")
        foreign = {task.id for task in self.provider.tasks if not task.reservation_id}
        if not {seen.task_id for seen in guard.unclaimed()} <= foreign:
            raise Breach("lost", "a callback about a job was not applied to it")


def _shown(result: Any) -> str:
    """Returns the result of a verb as text that is the same in each run of a seed."""
    if isinstance(result, Reservation):
        return state_of(result)
    return {dict: "gives out the payload", type(None): "no job yet"}.get(type(result), type(result).__name__)


_NOBODY = Job("", {}, CLIPS[0])
"""The job of a task that another customer submitted."""

_EVENTS: dict[Callable[[Simulation], None], int] = {
    Simulation.new_job: 16,
    Simulation.retry: 6,
    Simulation.go_on: 40,
    Simulation.dispatch_again: 3,
    Simulation.provider_works: 14,
    Simulation.callback: 12,
    Simulation.operator: 4,
    Simulation.statement: 2,
    Simulation.record: 1,
    Simulation.clock: 8,
    Simulation.budget_change: 3,
    Simulation.crash: 2,
}
"""How often each event happens, relative to the others."""
