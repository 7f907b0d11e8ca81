"""A chronicle: every verb of a ledger in one story, and everything that the ledger then gives back.

Other tests state what matters to each verb. This one compares every field of every answer, in both stores, with
a file, so that no author, reason, instant, amount or currency changes unseen. After an intended change, write
the file anew with `KLING_PRICING_WRITE_CHRONICLE=1`, and read the difference.
"""

import os
import re
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from contextlib import closing
from dataclasses import fields, is_dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from difflib import unified_diff
from pathlib import Path
from typing import Any

from kling_pricing import Alert, Budget, BudgetGuard, Budgets, Entry, KlingPricingError, PriceBook, Quote
from kling_pricing.budgets import AccountingRate, BudgetsFile
from kling_pricing.guard.daily_counter import write_all
from kling_pricing.ledger import Ledger, connect
from kling_pricing.ledger.access_keys import NewAccessKey, digest_of
from kling_pricing.ledger.actions import Author
from kling_pricing.ledger.alerting import ExpectedExhaustion
from kling_pricing.ledger.books import BookFact, BooksUpdate, ClosedMonth, RememberedStatement
from kling_pricing.ledger.granting import Grant
from tests.conftest import AT, Clock, video
from tests.guards import CLIP, answer

FOLDER = Path(__file__).parent / "golden"
WRITE = "KLING_PRICING_WRITE_CHRONICLE"
LI, WANG = Author("li", "a reason"), Author("wang", None)
RANDOM = re.compile(r"\b[0-9a-f]{8}-[0-9a-f-]{27}\b|\b[0-9a-f]{12,64}\b")
"""The ids, seals and digests of a ledger."""
SHORT = video(duration=3, resolution="720p", audio=False)
DEAR = video(duration=15, resolution="4k", audio=True)


def written(value: Any) -> str:
    """Writes a value with all its fields, except those that are None."""
    if isinstance(value, Quote | PriceBook | BudgetsFile):
        return type(value).__name__
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, date | Decimal | timedelta):
        return str(value)
    if isinstance(value, Mapping):
        return (
            "{"
            + ", ".join(f"{key}: {written(item)}" for key, item in sorted(value.items()) if item is not None)
            + "}"
        )
    if is_dataclass(value) and not isinstance(value, type):
        return written({field.name: getattr(value, field.name) for field in fields(value) if field.repr})
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return f"{type(value).__name__}{written(value._asdict())}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(written, value)) + "]"
    if isinstance(value, AbstractSet):
        return written(sorted(value))
    return repr(value)


def lines_of(blocks: Iterable[bytes]) -> list[str]:
    """Returns the lines of blocks, with readable separators."""
    text = b"".join(blocks).decode().replace("\x1f", " | ").replace("\x17", " ; ")
    return text.splitlines()


def brief(entry: Entry) -> tuple[Any, ...]:
    """Returns the part of an entry that a history adds up."""
    return entry.seq, entry.kind, entry.held, entry.spent


class Chronicle:
    """What a ledger answers.

    Attributes:
        lines: one line per answer, and one per entry of a list.
    """

    def __init__(self, url: str) -> None:
        self.lines: list[str] = []
        self._url = url
        self._names: dict[str, str] = {}

    def tell(self, title: str, call: Callable[[], Any]) -> Any:
        """Calls a verb, keeps its answer or its error, and returns the answer."""
        try:
            told = call()
        except KlingPricingError as error:
            self._add(f"{title}: {type(error).__name__}: {error} {written(vars(error))}")
            return None
        if isinstance(told, list):
            self._add(f"{title}:")
            for entry in told:
                self._add(f"  {written(entry)}")
        else:
            self._add(f"{title}: {written(told)}")
        return told

    def _add(self, line: str) -> None:
        line = line.replace(self._url, "URL").replace(self._url.removeprefix("sqlite:///"), "URL")
        self.lines.append(RANDOM.sub(self._name, line))

    def _name(self, match: re.Match[str]) -> str:
        return self._names.setdefault(match[0], f"<{len(self._names) + 1}>")


def budgets(**month: Any) -> Budgets:
    """Returns budgets with every option; the one of a month has further ones."""
    month = {"window": "month"} | month
    return Budgets(
        [
            Budget(name="all", cap=100, currency="USD", alerts=["0.001", "0.01", "0.9"], notify=["file:/b"]),
            Budget(name="day", match={"project": "*"}, cap="4", currency="USD", window="day", alerts=["0.5"]),
            Budget(
                name="month",
                match={"project": ["trailer", "teaser"]},
                cap=50,
                currency="CNY",
                timezone="Asia/Shanghai",
                **month,
            ),
            Budget(name="rolling", match={"team": "a"}, cap=3, currency="USD", window={"rolling": "24h"}),
            Budget(name="watch", match={"project": "trailer"}, cap="0.5", currency="USD", enforce="observe"),
            Budget(
                name="small",
                match={"project": "small"},
                cap="0.4",
                currency="USD",
                on_exceed="cap",
                keep=["audio"],
            ),
            Budget(name="strict", match={"project": "strict"}, cap=9, max_request="0.5", currency="USD"),
        ],
        accounting_rates=[AccountingRate(quote="USD", budget="CNY", rate=Decimal("7.1"))],
        notify=["env:A"],
    )


def begin(told: Chronicle, guard: BudgetGuard, store: Ledger, clock: Clock) -> None:
    """Plans, applies, sets caps, freezes, allows, and issues keys."""
    tell = told.tell
    changed = budgets()
    changed.budgets[0] = changed.budgets[0].model_copy(update={"cap": Decimal(90)})
    tell("plan", lambda: guard.plan(changed))
    tell("calendar", lambda: [change[:2] for change in store.calendar_changes(guard.budgets())])
    tell("apply", lambda: guard.apply(changed, reason="less"))
    weaker = budgets()
    weaker.budgets.pop()
    tell("apply without consent", lambda: guard.apply(weaker))
    tell("opening", lambda: guard.open_budget("all", "0.05", reason="before"))
    tell("opening of a day", lambda: store.openings(clock.now))
    tell("cap change", lambda: guard.cap_change("day", 5, until=clock.now + timedelta(hours=2)))
    tell("set cap", lambda: guard.set_cap("day", 5, until=clock.now + timedelta(hours=2), reason="a rush"))
    tell("set cap for good", lambda: guard.set_cap("rolling", "2.5", reason="calmer"))
    tell("caps", guard.cap_overlays)
    tell("freeze", lambda: store.freeze(LI, ["strict", "day"]))
    tell("freeze all", lambda: store.freeze(WANG))
    tell("frozen", lambda: guard.admit(CLIP, project="trailer"))
    tell("freezes", guard.freezes)
    tell("thaw all", lambda: store.thaw(LI))
    tell("frozen day", lambda: guard.admit(CLIP, project="trailer"))
    tell("thaw", lambda: store.thaw(WANG, ["strict", "day", "all"]))
    tell("no budget", lambda: store.freeze(LI, ["dai"]))
    key = NewAccessKey("ci-1", "trailer", "submit", {"team": "a"}, clock.now + timedelta(hours=1))
    tell("issue", lambda: store.issue_key(key, digest_of("secret"), LI))
    tell("issue again", lambda: store.issue_key(key, digest_of("other"), LI))
    tell(
        "issue to all",
        lambda: store.issue_key(NewAccessKey("all-1", None, "manage", {}, None), digest_of("x"), WANG),
    )
    tell("use", lambda: store.mark_key_used("ci-1"))
    tell("session", lambda: store.begin_session(digest_of("secret"), digest_of("token"), timedelta(days=1)))
    tell("no session", lambda: store.begin_session(digest_of("none"), digest_of("t2"), timedelta(days=1)))
    clock.pass_by(minutes=5)
    tell("idle session", lambda: store.session(digest_of("token"), timedelta(minutes=4)))
    tell("keep", lambda: store.keep_session(digest_of("token")))
    tell("kept session", lambda: store.session(digest_of("token"), timedelta(minutes=6)))
    tell("end", lambda: store.end_session(digest_of("token")))
    tell("ended session", lambda: store.session(digest_of("token"), timedelta(hours=6)))
    tell("revoke", lambda: store.revoke_key("all-1", LI))
    tell("revoke again", lambda: store.revoke_key("all-1", WANG))
    tell("keys", store.access_keys)
    tell("key", lambda: store.access_key(digest_of("secret")))


def spend(  # noqa: PLR0915 (it is one story)
    told: Chronicle, guard: BudgetGuard, store: Ledger, clock: Clock
) -> None:
    """Admits, dispatches, binds, observes, settles, releases, records and doubts."""
    tell = told.tell
    tell("decide", lambda: guard.decide(CLIP, project="trailer", key="a", labels={"team": "a"}))
    first = tell("admit", lambda: guard.admit(CLIP, project="trailer", key="a", labels={"team": "a"}))
    tell("again", lambda: guard.admit(CLIP, project="trailer", key="a", labels={"team": "a"}))
    tell("dispatch", lambda: guard.dispatch(first))
    tell("bind", lambda: guard.bind(first, "t-1"))
    tell("observe running", lambda: guard.observe(answer("processing", "t-1"), provider="qingbo"))
    clock.pass_by(minutes=1)
    tell("observe cost", lambda: guard.observe(answer("completed", "t-1", cost=450000), provider="qingbo"))
    tell("statement", lambda: guard.settle(first, "0.8", basis="statement", reason="the bill"))
    tell("operator", lambda: guard.settle(first, "0.7", basis="operator", reason="agreed"))
    clock.pass_by(minutes=1)
    second = tell("send", lambda: guard.admit_and_dispatch(CLIP, project="teaser", key="b", account="studio"))
    tell("early", lambda: guard.observe(answer("failed", "t-2"), provider="qingbo"))
    tell("unclaimed", guard.unclaimed)
    tell("bind late", lambda: guard.bind(second[0] if second else "?", "t-2"))
    third = tell("send 3", lambda: guard.pre_submit(CLIP, project="trailer", key="c"))
    del third
    (job,) = guard.history(project="trailer", key="c")
    tell("doubt", lambda: guard.mark_in_doubt(job, "timeout"))
    tell("resolve", lambda: guard.resolve(job, "not_charged", reason="looked it up"))
    fourth = tell("admit 4", lambda: guard.admit(SHORT, project="trailer", key="d"))
    tell("release", lambda: guard.release(fourth))
    tell("attempt 2", lambda: guard.admit(SHORT, project="trailer", key="d"))
    fifth = tell("small", lambda: guard.admit(CLIP, project="small", key="e"))
    tell("replayed", lambda: guard.admit(CLIP, project="small", key="e"))
    tell("small dispatch", lambda: guard.dispatch(fifth))
    tell("refused by provider", lambda: guard.release_refused(fifth))
    tell("too dear", lambda: guard.admit(DEAR, project="strict", key="f"))
    tell("no room", lambda: guard.admit(DEAR, project="teaser", key="g", labels={"team": "a"}))
    asked = tell("ask", lambda: guard.ask(DEAR, project="teaser", key="g", reason="a retake"))
    tell("ask for a key", lambda: guard.ask(DEAR, project="strict", key="f", reason="the end"))
    until = clock.now + timedelta(hours=3)
    granted = tell(
        "allow",
        lambda: store.allow(Grant("teaser", asked.amount, "USD", asked.budgets, "g", until, asked.id), LI),
    )
    tell("allow more", lambda: store.allow(Grant("strict", Decimal(9), "USD", ("strict",), None, until), WANG))
    covered = tell("covered", lambda: guard.admit(DEAR, project="teaser", key="g"))
    tell("covered dispatch", lambda: guard.dispatch(covered))
    tell("allowances", guard.allowances)
    tell("covered settle", lambda: guard.settle(covered, "5"))
    other = next(grant for grant in guard.allowances() if grant.id != granted.id)
    tell("revoke allowance", lambda: store.revoke(other.id, WANG))
    tell(
        "record", lambda: guard.record("qingbo", "x-1", "0.25", labels={"project": "teaser"}, reason="by hand")
    )
    tell(
        "record long ago",
        lambda: guard.record(
            "kling", "x-2", "3", labels={"project": "old"}, at=AT - timedelta(days=40), account="studio"
        ),
    )
    tell("admit last", lambda: guard.admit(SHORT, project="trailer", key="h", labels={"user": "li"}))
    sixth = tell("send 6", lambda: guard.admit_and_dispatch(SHORT, project="trailer", key="i"))
    seventh = tell("send 7", lambda: guard.admit_and_dispatch(SHORT, project="trailer", key="j"))
    tell("settle all", lambda: guard.settle_all({sixth[0].reservation_id: "0.2", "none": "1"}))
    tell("bind 7", lambda: guard.bind(seventh[0], "t-7"))
    tell("unknown charge", lambda: guard.observe(answer("completed", "t-7", cost="0.2"), provider="qingbo"))
    tell("no budget matches", lambda: guard.admit(CLIP, project="other"))
    guard.count_unpriced("qingbo", "/v1/chat/*")
    clock.pass_by(minutes=20)
    tell("expired", guard.release_expired)


def remember(told: Chronicle, store: Ledger, clock: Clock) -> None:
    """Adds to the books, closes a month, notes a settlement, and changes it meanwhile."""
    tell = told.tell
    known = store.books("qingbo").known
    statement = RememberedStatement(
        *(1, "qingbo", "november.csv", "0" * 64, AT, AT + timedelta(days=9), False, clock.now),
        *("li", "the bill", None, None),
    )
    row = BookFact(
        *("row", "2026-11", AT, "t-1", "trailer", "USD", 900000000, 45, "quota", 1, 2, "row-1", AT),
        AT + timedelta(minutes=1),
    )
    use = BookFact("use", "2026-11", AT, "t-1", "trailer", "USD", 714000000)
    tell("remember", lambda: store.add_to_books(BooksUpdate("qingbo", known, (statement,), [use, row])))
    tell("meanwhile", lambda: store.add_to_books(BooksUpdate("qingbo", known, facts=[use])))
    after = store.books("qingbo").known
    dispute = BookFact(
        *("dispute", "2026-11", AT, "t-1", "", "USD", 5), subject=after.facts, actor="li", reason="too dear"
    )
    closed = ClosedMonth("2026-11", "qingbo", "1" * 64, clock.now, "li", "invoice 7")
    tell("dispute and close", lambda: store.add_to_books(BooksUpdate("qingbo", after, (), [dispute], closed)))
    tell("late", lambda: store.add_to_books(BooksUpdate("qingbo", store.books("qingbo").known, (), [use])))
    tell("settled", lambda: store.note_settlement("qingbo", {"jobs": 2, "sums": {"USD": "1.5"}}, LI))
    tell("books", lambda: store.books("qingbo"))
    tell("other books", lambda: store.books("kling"))
    tell("facts", lambda: lines_of(store.facts("qingbo")))
    tell("accounts", store.accounts)


def deliver(told: Chronicle, guard: BudgetGuard, store: Ledger, clock: Clock) -> None:
    """Delivers alerts, counts refusals, and takes leases."""
    tell = told.tell
    write_all()
    tell("refusals", lambda: store.refusals(None, None))
    day = clock.now.date()
    tell("refusals before today", lambda: store.refusals(None, day))
    tell("refusals since today", lambda: len(store.refusals(day, day + timedelta(days=1))))
    tell("unpriced", guard.unpriced)
    tell("unpriced since tomorrow", lambda: guard.unpriced(since=day + timedelta(days=1)))
    tell("unpriced before today", lambda: guard.unpriced(until=day))
    (budget,) = (budget for budget in guard.budgets().budgets if budget.name == "day")
    forecast = ExpectedExhaustion(
        *("day", budget.definition, {"project": "teaser"}),
        *(
            datetime.fromisoformat("2026-11-21T00:00:00+00:00"),
            {"exhausted_at": "2026-11-21T12:00:00+00:00", "pace_per_day": "3"},
        ),
    )
    tell("raise", lambda: store.raise_alerts([forecast], doubtful_for=timedelta(minutes=10)))
    tell("raise again", lambda: store.raise_alerts([forecast], doubtful_for=timedelta(minutes=10)))
    alerts = tell("alerts", store.alerts)
    tell("later alerts", lambda: store.alerts(after=alerts[0].seq, limit=1))
    tell("newest alerts", lambda: store.newest_alerts(before=alerts[-1].seq, limit=1))
    tell("deliver", lambda: store.mark_delivered("env:A", alerts[1].seq))
    tell("deliver less", lambda: store.mark_delivered("env:A", alerts[0].seq))
    tell("fail", lambda: store.mark_failed("file:/b", "status 500", timedelta(minutes=2)))
    clock.pass_by(seconds=1)
    tell("fail for good", lambda: store.mark_failed("env:A", "status 410", None))
    tell("receivers", store.receivers)
    tell("resume", lambda: (store.resume_receiver("env:A"), store.resume_receiver("env:Z")))
    tell("receivers then", store.receivers)
    tell("lease", lambda: store.take_lease("delivery", "one:1", timedelta(seconds=30)))
    tell("lease of another", lambda: store.take_lease("delivery", "two:2", timedelta(seconds=60)))
    tell("lease renewed", lambda: store.take_lease("delivery", "one:1", timedelta(seconds=40)))
    tell("end of another", lambda: store.end_lease("delivery", "two:2"))
    tell("end lease", lambda: store.end_lease("delivery", "one:1"))
    tell("lease then", lambda: store.take_lease("delivery", "two:2", timedelta(seconds=60)))


def read(told: Chronicle, guard: BudgetGuard, store: Ledger, clock: Clock) -> None:
    """Reads everything."""
    tell = told.tell
    tell("history", guard.history)
    jobs = guard.history()
    middle = jobs[3].created_at
    tell("history of a project", lambda: [job.key for job in guard.history(project="teaser")])
    tell("history since", lambda: [job.key for job in guard.history(since=middle)])
    tell("history until", lambda: [job.key for job in guard.history(until=middle)])
    page = tell("page", lambda: [job.key for job in guard.history_page(limit=3)])
    del page
    tell("next page", lambda: [job.key for job in guard.history_page(limit=3, after=jobs[-3].id)])
    tell("settled page", lambda: [job.key for job in guard.history_page(state="settled", project="teaser")])
    tell("page of a key", lambda: [job.state for job in guard.history_page(key="d")])
    tell("page in doubt", lambda: [job.key for job in guard.history_page(in_doubt=True)])
    tell("in doubt", lambda: [(job.key, job.reason) for job in guard.in_doubt()])
    tell("unsettled", lambda: [job.key for job in guard.unsettled()])
    tell("journal", guard.journal)
    tell("journal of minutes", lambda: [entry.seq for entry in store.journal(middle, clock.now)])
    tell("entries", lambda: store.entries_of(jobs[0].id))
    tell("observations", lambda: store.observations_of("qingbo", "t-1"))
    tell("status", guard.status)
    tell("status then", lambda: guard.status(AT - timedelta(days=40)))
    tell("balances", lambda: guard.balances_of(jobs[0].id))
    tell("buckets", lambda: store.buckets(clock.now))
    hours = store.bucket_hours(AT - timedelta(days=1), clock.now + timedelta(days=1))
    tell("hours", lambda: [(kept.bucket, kept.definition, [*map(brief, kept.entries)]) for kept in hours])
    histories = store.bucket_histories(AT - timedelta(days=1), clock.now + timedelta(days=1))
    tell(
        "histories", lambda: [(kept.bucket, kept.definition, [*map(brief, kept.entries)]) for kept in histories]
    )
    tell("windows", lambda: [window[:2] for window in store.windows(clock.now)])
    tell("calendar ends", lambda: [window[:2] for window in store.calendar_ends()])
    tell("waived", guard.waived)
    tell("waived before", lambda: guard.waived(until=AT))
    tell("openings", lambda: store.openings(clock.now))
    tell("begun", store.begun_at)
    tell("projects", store.projects)
    sent = lines_of(store.sent("qingbo", clock.now))
    tell("sent", lambda: sorted(sent, key=lambda line: line.split(" | ")[3:]))
    tell("allowances", guard.allowances)
    tell("requests", guard.allowance_requests)
    tell("caps", guard.cap_overlays)
    tell("log", guard.log)
    verified = guard.verify(remember=True)
    tell("verified", lambda: verified)
    tell("verified since", lambda: guard.verify(since_last=True))


def end(told: Chronicle, guard: BudgetGuard) -> None:
    """Removes a budget, and lets another one carry over."""
    tell = told.tell
    fewer = budgets(window="year", carry_over=True)
    fewer.budgets[:] = [budget for budget in fewer.budgets if budget.name != "watch"]
    tell("plan the end", lambda: guard.plan(fewer))
    tell("apply the end", lambda: guard.apply(fewer, remove=["watch"], allow_weaker=True, reason="done"))
    tell("status at the end", guard.status)
    tell("log at the end", lambda: guard.log()[-1:])


def test_the_ledger_gives_back_the_whole_story(ledger: str, book: PriceBook, clock: Clock) -> None:
    """Every field of every answer is as in the file, in both stores."""
    told = Chronicle(ledger)
    alerts: list[Alert] = []
    with (
        BudgetGuard(ledger, budgets(), book=book, clock=clock, actor="zhao", on_alert=alerts.append) as guard,
        closing(connect(ledger, clock=clock)) as store,
    ):
        begin(told, guard, store, clock)
        spend(told, guard, store, clock)
        remember(told, store, clock)
        deliver(told, guard, store, clock)
        read(told, guard, store, clock)
        end(told, guard)
        told.tell("alerts of the guard", lambda: alerts)
    file = FOLDER / f"chronicle_{'sqlite' if ledger.startswith('sqlite') else 'postgresql'}.txt"
    if os.environ.get(WRITE):
        file.write_text("\n".join(told.lines) + "\n", encoding="utf-8")
    assert [*unified_diff(file.read_text(encoding="utf-8").splitlines(), told.lines, lineterm="", n=0)] == []
