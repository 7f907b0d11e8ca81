"""`decide` agrees with `admit` at once after it, and changes nothing, on both stores."""

import json
import sqlite3
from collections.abc import Callable
from itertools import count
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kling_pricing import (
    Admission,
    Budget,
    BudgetGuard,
    Budgets,
    Decision,
    KlingPricingError,
)
from kling_pricing.guard import freeze_all, thaw_all
from tests.conftest import AT, LONG, Clock, bundled_book, examples, video
from tests.guards import CLIP, ZERO
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
        before = rows_of(self.ledger)
        try:
            decision = self.decide(*args, **kwargs)
        except KlingPricingError as error:
            with pytest.raises(type(error)) as refused:
                super().admit(*args, **kwargs)
            assert str(refused.value) == str(error)
            raise
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
    max_examples=examples(25),
    stateful_step_count=60 if LONG else 30,
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
    max_examples=examples(25),
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
    """With budgets, keys, freezes and clocks of all kinds, `decide` says what `admit` does, and writes nothing."""
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
