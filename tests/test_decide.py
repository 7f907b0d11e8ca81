"""`decide` agrees with `admit` at once after it, and changes nothing, on both stores."""

import asyncio
import json
import sqlite3
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kling_pricing import (
    Admission,
    AsyncBudgetGuard,
    Budget,
    BudgetExceededError,
    BudgetFrozenError,
    BudgetGuard,
    Budgets,
    CapabilityError,
    Decision,
    IdempotencyError,
    KlingPricingError,
    PriceBook,
    ReservationStateError,
)
from kling_pricing.guard import freeze_all, thaw_all
from kling_pricing.guard.daily_counter import write_all
from kling_pricing.ledger.postgres.schema import prepare
from tests import commands
from tests.conftest import AT, LONG, Clock, OpenGuard, bundled_book, examples, video, with_database
from tests.guards import CLIP, COST, ZERO, left
from tests.servers import execute
from tests.test_guard_model import GuardMachine

LONGER = video(duration=10, resolution="1080p", audio=True)


def rows_of(ledger: str) -> dict[str, list[Any]]:
    """Returns every row of every table of a ledger."""
    if ledger.startswith("sqlite"):
        file = sqlite3.connect(ledger.removeprefix("sqlite:///"))
        tables = [name for (name,) in file.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        rows = {table: sorted(map(repr, file.execute(f"SELECT * FROM {table}"))) for table in tables}
        file.close()
        return rows
    with psycopg.connect(ledger) as server:
        tables = [
            name
            for (name,) in server.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'kling_pricing'")
        ]
        return {
            table: sorted(
                json.dumps(row, sort_keys=True)
                for (row,) in server.execute(
                    f"SELECT to_jsonb(kept) || jsonb_build_object('xmin', kept.xmin::text)"
                    f" FROM kling_pricing.{table} AS kept".encode()
                )
            )
            for table in tables
        }


class DecidingGuard(BudgetGuard):
    """A guard that decides before every admission, and compares the two."""

    ledger = ""

    def admit(self, *args: Any, **kwargs: Any) -> Admission:
        """Decides, checks that nothing has changed, and admits."""
        write_all()  # what both guards have counted so far, before a timer does
        before = rows_of(self.ledger)
        try:
            decision = self.decide(*args, **kwargs)
        except KlingPricingError as error:
            with pytest.raises(type(error)) as refused:
                super().admit(*args, **kwargs)
            assert str(refused.value) == str(error)
            raise
        write_all()
        assert rows_of(self.ledger) == before
        try:
            admission = super().admit(*args, **kwargs)
        except KlingPricingError as error:
            same_error(decision, error)
            raise
        same_admission(decision, admission)
        if not admission.replayed:
            now = {(row.budget, frozenset(row.labels.items())): row.available for row in self.status()}
            for effect in decision.budgets:
                assert now[effect.budget, frozenset(effect.labels.items())] == effect.left_after
        return admission


def same_error(decision: Decision, error: KlingPricingError) -> None:
    """Asserts that a decision has exactly the error that `admit` raised."""
    refusal = decision.refusal
    assert (decision.outcome, decision.passes, decision.reserved) == ("refused", False, ZERO)
    assert type(refusal) is type(error)
    assert (str(refusal), vars(refusal)) == (str(error), vars(error))
    assert all(effect.left_after == effect.left_before for effect in decision.budgets)


def same_admission(decision: Decision, admission: Admission) -> None:
    """Asserts that a decision says what `admit` has reserved."""
    expected = "replayed" if admission.replayed else "capped" if admission.capped else "admitted"
    assert (decision.outcome, decision.refusal) == (expected, None)
    assert (decision.changes, decision.reserved) == (admission.changes, admission.reservation.reserved)
    assert decision.quote.maximum == admission.quote.maximum
    if admission.replayed:
        assert decision.reservation == admission.reservation
        assert all(effect.left_after == effect.left_before for effect in decision.budgets)


# agreement


class DecidingMachine(GuardMachine):
    """The machine of the guard's model, with a decision before every admission."""

    def start_deciding(self) -> None:
        """Makes the guards of a run decide."""
        for guard in self.guards:
            guard.__class__ = DecidingGuard
            vars(guard)["ledger"] = f"sqlite:///{self.folder}/spend.db"

    @property
    def guard(self) -> BudgetGuard:
        """Returns the guard whose turn it is, which decides before it admits."""
        self.start_deciding()
        self.turn += 1
        return self.guards[self.turn % 2]


TestDeciding = DecidingMachine.TestCase
TestDeciding.settings = settings(
    max_examples=examples(5, long=160),
    stateful_step_count=60 if LONG else 25,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)

PAYLOADS = (CLIP, LONGER, video(duration=3), video("kling-v2-6", duration=5))

_caps = st.sampled_from(["0.2", "0.714", "1", "1.428", "2", "9"])


@st.composite
def _budgets(draw: st.DrawFn) -> list[Budget]:
    """Draws budgets of all kinds of windows, which reject or cap."""
    windows = st.sampled_from(["lifetime", "day", "month", {"rolling": "24h"}, {"rolling": "1h"}])
    fixed = {"start": "2026-11-22", "end": "2026-11-23"}
    kinds = [
        draw(
            st.fixed_dictionaries(
                {"cap": _caps, "window": st.one_of(windows, windows, st.just(fixed))},
                optional={
                    "match": st.sampled_from([{"user": "*"}, {"user": "any"}, {"project": "trailer"}]),
                    "on_exceed": st.just("cap"),
                    "max_request": st.sampled_from(["0.5", "1"]),
                    "alerts": st.just(["0.5", "1"]),
                    "min_duration_s": st.just(4),
                },
            )
        )
        for _ in range(draw(st.integers(1, 3)))
    ]
    return [Budget(name=f"b{place}", currency="USD", **kind) for place, kind in enumerate(kinds)]


_turns = st.tuples(
    st.sampled_from(["admit", "admit", "admit", "dispatch", "settle", "release", "freeze", "thaw", "wait"]),
    st.sampled_from(PAYLOADS),
    st.sampled_from([None, None, None, "shot-1", "shot-2"]),
    st.sampled_from([{}, {"user": "li"}, {"user": "wu"}]),
    st.sampled_from([1, 14, 16, 61, 24 * 60, -20]),
)

ledgers = count(1)


@settings(
    max_examples=examples(8, long=300),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(budgets=_budgets(), unmatched=st.sampled_from(["refuse", "allow"]), turns=st.lists(_turns, max_size=16))
def test_decide_agrees_with_admit(
    ledger: str,
    clock: Clock,
    budgets: list[Budget],
    unmatched: str,
    turns: list[Any],
) -> None:
    """With budgets, keys, freezes and clocks of all kinds, `decide` says what `admit` does."""
    url = emptied(ledger)
    clock.now = AT
    guard = DecidingGuard(url, Budgets(budgets, unmatched=unmatched), book=bundled_book(), clock=clock)
    guard.ledger = url
    with guard:
        jobs: list[Admission] = []
        for turn, payload, key, labels, minutes in turns:
            try:
                if turn == "admit":
                    jobs.append(guard.admit(payload, project="trailer", key=key, labels=labels))
                elif turn == "freeze":
                    freeze_all(url, actor="li", reason="a test")
                elif turn == "thaw":
                    thaw_all(url, actor="li", reason="a test")
                elif turn == "wait":
                    clock.pass_by(minutes=minutes)
                elif jobs:
                    verbs: dict[str, Callable[[Admission], Any]] = {
                        "dispatch": guard.dispatch,
                        "settle": guard.settle,
                        "release": guard.release,
                    }
                    verbs[turn](jobs[minutes % len(jobs)])
            except KlingPricingError:
                continue


def emptied(ledger: str) -> str:
    """Returns the URL of a ledger without budgets, in the place of a fixture's ledger."""
    if ledger.startswith("sqlite"):
        return f"{ledger}.{next(ledgers)}"
    with psycopg.connect(ledger, autocommit=True) as server:
        tables = server.execute(
            "SELECT string_agg(format('kling_pricing.%I', tablename), ', ') FROM pg_tables"
            " WHERE schemaname = 'kling_pricing' AND tablename NOT IN ('schema_version', 'test_clock')"
        ).fetchone()
        server.execute("SET session_replication_role = replica")  # the journal cannot be emptied otherwise
        server.execute(f"TRUNCATE {(tables or ('',))[0]} CASCADE".encode())
    return ledger


# what it says


@pytest.fixture
def deciding(open_guard: OpenGuard, ledger: str) -> Callable[..., BudgetGuard]:
    """Returns a function that opens a guard which compares every admission with a decision before it."""

    def opened(*budgets: Budget, **budget: Any) -> BudgetGuard:
        guard = open_guard(*budgets, **budget)
        guard.__class__ = DecidingGuard
        vars(guard)["ledger"] = ledger
        return guard

    return opened


def test_a_request_that_fits(open_guard: OpenGuard) -> None:
    """The decision has the price, and the effect on every budget that matches, in the order of the file."""
    guard = open_guard(
        Budget(name="trailer", match={"project": "trailer"}, cap=2, currency="USD", window="month"),
        Budget(name="users", match={"user": "*"}, cap=5, currency="USD", max_request=1),
        Budget(name="other", match={"project": "teaser"}, cap=5, currency="USD"),
    )
    decision = guard.decide(CLIP, project="trailer", labels={"user": "li"})
    assert (decision.outcome, decision.passes, decision.reserved, decision.at) == ("admitted", True, COST, AT)
    month, user = decision.budgets
    assert (month.budget, month.left_before, month.left_after) == ("trailer", Decimal(2), 2 - COST)
    assert (user.labels, user.left_before, user.left_after) == ({"user": "li"}, Decimal(5), 5 - COST)
    assert (user.max_request, user.window_end, user.rolling) == (Decimal(1), None, None)
    assert str(decision) == "admitted: 0.714 USD"
    assert guard.history() == []


def test_a_request_that_would_be_capped(deciding: Callable[..., BudgetGuard]) -> None:
    """The decision names the changes that make the request fit, and the price of what would be sent."""
    guard = deciding(cap="0.6", on_exceed="cap")
    decision = guard.decide(CLIP, project="trailer")
    assert (decision.outcome, decision.changes) == ("capped", {"duration_s": 4})
    assert decision.reserved == decision.quote.total == Decimal("0.5712")
    guard.admit(CLIP, project="trailer")


def test_a_refusal_has_the_error_of_admit(deciding: Callable[..., BudgetGuard]) -> None:
    """The decision carries the error itself, and says which of the budgets lack room."""
    guard = deciding(
        Budget(name="all", cap=5, currency="USD"), Budget(name="small", cap="0.5", currency="USD", window="day")
    )
    decision = guard.decide(CLIP, project="trailer")
    assert isinstance(decision.refusal, BudgetExceededError)
    assert decision.refusal.window_end == AT + timedelta(days=1)
    assert [(effect.budget, effect.fits) for effect in decision.budgets] == [("all", True), ("small", False)]
    with pytest.raises(BudgetExceededError):
        guard.admit(CLIP, project="trailer")


def test_a_request_that_no_budget_matches(deciding: Callable[..., BudgetGuard]) -> None:
    """Without a matching budget, a request is refused, and the decision lists no budget."""
    guard = deciding(cap=5)
    decision = guard.decide(CLIP, project="teaser")
    assert isinstance(decision.refusal, BudgetExceededError)
    assert (decision.refusal.budget, decision.budgets) == (None, ())
    with pytest.raises(BudgetExceededError):
        guard.admit(CLIP, project="teaser")


def test_a_frozen_ledger(deciding: Callable[..., BudgetGuard], ledger: str) -> None:
    """While spending is frozen, the decision says who froze it; the budgets show what is left."""
    guard = deciding(cap=5)
    freeze_all(ledger, actor="li", reason="a test")
    decision = guard.decide(CLIP, project="trailer")
    assert isinstance(decision.refusal, BudgetFrozenError)
    assert (decision.refusal.actor, decision.budgets[0].left_before) == ("li", Decimal(5))
    with pytest.raises(BudgetFrozenError):
        guard.admit(CLIP, project="trailer")


def test_keys(deciding: Callable[..., BudgetGuard], clock: Clock) -> None:
    """An unsent reservation is found again, an expired one takes no room, and a sent job cannot be repeated."""
    guard = deciding(cap=COST)
    first = guard.admit(CLIP, project="trailer", key="shot-1")
    assert guard.decide(CLIP, project="trailer", key="shot-1").reservation == first.reservation
    assert isinstance(guard.decide(LONGER, project="trailer", key="shot-1").refusal, IdempotencyError)
    clock.pass_by(minutes=16)  # the reservation has expired, and is not released yet
    again = guard.decide(CLIP, project="trailer", key="shot-1")
    assert (again.outcome, again.budgets[0].left_before) == ("admitted", COST)
    guard.dispatch(guard.admit(CLIP, project="trailer", key="shot-1"))
    assert isinstance(guard.decide(CLIP, project="trailer", key="shot-1").refusal, ReservationStateError)
    with pytest.raises(ReservationStateError):
        guard.admit(CLIP, project="trailer", key="shot-1")


def test_an_expired_reservation_is_not_released(open_guard: OpenGuard, ledger: str, clock: Clock) -> None:
    """The decision counts on the money of an expired reservation without releasing it."""
    guard = open_guard(cap=COST, window={"rolling": "24h"})
    guard.admit(CLIP, project="trailer")
    assert not guard.decide(CLIP, project="trailer").passes
    clock.pass_by(minutes=16)
    before = rows_of(ledger)
    assert guard.decide(CLIP, project="trailer").passes
    assert rows_of(ledger) == before


def test_a_list_of_requests(open_guard: OpenGuard) -> None:
    """With `after`, each request that fits counts as reserved for the next; one that does not takes nothing."""
    guard = open_guard(cap="2.2", window={"rolling": "24h"})
    decision: Decision | None = None
    outcomes = []
    for payload in (CLIP, LONGER, CLIP, video(duration=3)):
        decision = guard.decide(payload, project="trailer", after=decision)
        outcomes.append((decision.outcome, decision.budgets[0].left_after))
    assert outcomes == [
        ("admitted", Decimal("1.486")),
        ("admitted", Decimal("0.058")),
        ("refused", Decimal("0.058")),
        ("refused", Decimal("0.058")),
    ]
    assert left(guard) == (ZERO, ZERO, Decimal("2.2"))


def test_an_invalid_request_raises(open_guard: OpenGuard) -> None:
    """A request without a price is no decision: the error is that of `quote`."""
    with pytest.raises(CapabilityError):
        open_guard(cap=5).decide({"model": "kling-v9", "prompt": "a boat"}, project="trailer")


def test_in_asynchronous_code(tmp_path: Path, book: PriceBook) -> None:
    """`AsyncBudgetGuard` decides with the same arguments."""

    async def main() -> Decision:
        budgets = [Budget(name="all", cap=1, currency="USD")]
        async with await AsyncBudgetGuard.open(f"sqlite:///{tmp_path}/a.db", budgets, book=book) as guard:
            return await guard.decide(CLIP, project="trailer")

    assert asyncio.run(main()).outcome == "admitted"


def test_a_role_that_can_only_read(postgres_ledger: str, book: PriceBook) -> None:
    """A guard's role may decide, also where every transaction is read-only, as on a standby."""
    execute(postgres_ledger, "DROP ROLE IF EXISTS deciding_guard", "CREATE ROLE deciding_guard LOGIN")
    prepare(postgres_ledger, create=False, grant="deciding_guard")
    with BudgetGuard(postgres_ledger, [Budget(name="all", cap=1, currency="USD")], book=book) as owner:
        owner.admit(CLIP, project="trailer")
    database = postgres_ledger.partition("?")[0].rpartition("/")[2]
    reading = "-c default_transaction_read_only=on"
    url = with_database(postgres_ledger, database, user="deciding_guard", options=reading)
    with BudgetGuard(url, book=book) as guard:
        assert guard.decide(CLIP, project="trailer").budgets[0].left_before == 1 - COST
        with pytest.raises(KlingPricingError, match="read-only"):
            guard.admit(CLIP, project="trailer")


# the command

BUDGETS = """\
budgets:
  - {name: day, cap: 2.2, currency: USD, window: {rolling: 24h}}
  - {name: users, match: {user: "*"}, cap: 5, currency: USD, on_exceed: cap, max_request: 0.6}
"""


@pytest.fixture
def applied(ledger: str, tmp_path: Path) -> str:
    """A ledger with the budgets above."""
    file = tmp_path / "budgets.yaml"
    file.write_text(BUDGETS)
    assert commands.run("budget", "apply", file, ledger=ledger).returncode == 0
    return ledger


def test_the_command_decides_about_a_request(applied: str) -> None:
    """It says whether the request passes, and what each budget has left before and after; nothing changes."""
    before = rows_of(applied)
    passes = commands.run("decide", "-", "--project", "trailer", stdin=json.dumps(CLIP), ledger=applied)
    assert passes.stdout.splitlines() == [
        "admitted as it is: 0.714 USD would be reserved",
        "  day, rolling 24h: 2.2 of 2.2 USD left, 1.486 afterwards",
    ]
    options = ("decide", "-", "--project", "trailer", "--label", "user=li")
    capped = commands.run(*options, stdin=json.dumps(CLIP), ledger=applied)
    assert capped.stdout.splitlines() == [
        "admitted with duration_s = 4: 0.5712 USD would be reserved",
        "  day, rolling 24h: 2.2 of 2.2 USD left, 1.6288 afterwards",
        "  users, user li: 5 of 5 USD left, 4.4288 afterwards",
    ]
    assert (passes.returncode, capped.returncode) == (0, 0)
    assert rows_of(applied) == before


def test_the_command_explains_a_refusal(applied: str) -> None:
    """A refusal exits 1, with the error of `pre-submit`, and the budget that lacks room."""
    payload = json.dumps(video(duration=10, resolution="4k", audio=True))
    refused = commands.run("decide", "-", "--project", "trailer", stdin=payload, ledger=applied)
    assert refused.returncode == 1
    first, second = refused.stdout.splitlines()
    assert first == (
        "Refused: the request costs 4.55345 USD, but budget day has 2.2 USD left in its window of 24h, and its "
        "cap is lower than the cost; to ask for an allowance, run `kling-pricing budget ask FILE --project "
        "trailer --reason TEXT`"
    )
    assert second == "  day, rolling 24h: 2.2 of 2.2 USD left; the request needs 4.55345"
    answer = commands.run("decide", "-", "--project", "trailer", "--json", stdin=payload, ledger=applied)
    document = json.loads(answer.stdout)
    assert (answer.returncode, document["outcome"], document["reserved"]) == (1, "refused", "0")
    assert document["error"]["type"] == "BudgetExceededError"
    assert document["error"]["available"] == document["budgets"][0]["left_after"] == "2.2"


def test_the_command_says_how_much_of_a_file_fits(applied: str, tmp_path: Path) -> None:
    """Requests are decided in order; those that fit count for the later ones, the others take nothing."""
    file = tmp_path / "requests.jsonl"
    file.write_text("\n".join(json.dumps(payload) for payload in (CLIP, LONGER, CLIP, {"model": "x"})))
    done = commands.run("decide", file, "--project", "trailer", ledger=applied)
    assert done.returncode == 1
    first = [line.removeprefix(str(file)) for line in done.stdout.splitlines() if line.startswith(str(file))]
    assert first == [
        ":1: admitted as it is: 0.714 USD would be reserved",
        ":2: admitted as it is: 1.428 USD would be reserved",
        ":3: refused",
        ":4: refused",
    ]
    assert done.stdout.splitlines()[-3:] == [
        "2 of 4 requests would be admitted: 2.142 USD",
        "1 would be refused",
        "1 invalid or without a price",
    ]
    answers = commands.run("decide", file, "--project", "trailer", "--json", ledger=applied)
    documents = [json.loads(line) for line in answers.stdout.splitlines()]
    assert [document["place"] for document in documents] == [f"{file}:{line}" for line in range(1, 5)]
    assert [document.get("outcome") for document in documents] == ["admitted", "admitted", "refused", None]


def test_a_key_is_for_one_request(applied: str, tmp_path: Path) -> None:
    """With a key, the command finds the job that has it; several requests cannot have one key."""
    options = ("decide", "-", "--project", "trailer", "--key", "shot-1")
    pre_submitted = commands.run("pre-submit", *options[1:], stdin=json.dumps(CLIP), ledger=applied)
    assert pre_submitted.returncode == 0
    sent = commands.run(*options, stdin=json.dumps(CLIP), ledger=applied)
    assert (sent.returncode, "the job with key 'shot-1' was already sent" in sent.stdout) == (1, True)
    file = tmp_path / "requests.jsonl"
    file.write_text(f"{json.dumps(CLIP)}\n{json.dumps(CLIP)}\n")
    several = commands.run("decide", file, *options[2:], ledger=applied)
    assert (several.returncode, "FILE contains several requests" in several.stderr) == (2, True)
