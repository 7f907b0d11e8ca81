"""A role of a guard is trusted for amounts and settlements, and never for windows, budgets, caps or shapes."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest

from kling_pricing import Budget, BudgetFrozenError, BudgetGuard, Budgets, LedgerError, PriceBook
from kling_pricing.guard import apply_budgets, freeze_all, thaw_all
from kling_pricing.ledger import connect
from kling_pricing.ledger.administration import prepare
from kling_pricing.ledger.books import BookFact, BooksUpdate, ClosedMonth, Known
from kling_pricing.windows import utc_clock
from tests.conftest import video, with_database
from tests.servers import execute

CLIP = video(duration=5, resolution="1080p", audio=True)
NANOS = 714_000_000
FITS = 4
ALWAYS = ["2001-01-01T00:00:00+00:00", "2199-01-01T00:00:00+00:00"]
BUDGETS = Budgets(
    [
        Budget(
            name="day", match={"project": "trailer"}, cap=FITS * Decimal("0.714"), currency="USD", window="day"
        ),
        Budget(
            name="each", match={"user": "*", "project": ["trailer", "teaser"]}, cap=Decimal(1), currency="CNY"
        ),
    ],
    accounting_rates=[{"quote": "USD", "budget": "CNY", "rate": Decimal("0.2")}],
)
TERMS = {
    "model": "m", "resolution": "1080p", "tier": "t", "quantity": "5", "unit": "second", "currency": "USD",
    "expected": NANOS, "minimum": None, "list_total": None, "price_table": "p", "table_digest": "d",
    "statement_unit": None, "unit_value": None, "pack_units": None, "account_currency": None,
    "failed_tasks": "refunded",
}  # fmt: skip


@pytest.fixture
def role(postgres_ledger: str) -> Iterator[str]:
    """Yields the URL of a ledger with budgets, for a role that may use guards."""
    name = f"guard_{os.getpid()}"
    execute(postgres_ledger, f"CREATE ROLE {name} LOGIN")
    prepare(postgres_ledger, create=True, grant=name)
    apply_budgets(postgres_ledger, BUDGETS)
    yield with_database(postgres_ledger, urlsplit(postgres_ledger).path[1:], name)
    execute(postgres_ledger, f"DROP OWNED BY {name}", f"DROP ROLE {name}")


Call = Callable[..., Any]


@pytest.fixture
def call(role: str) -> Iterator[Call]:
    """Yields a function that calls a function of the schema with the guard's role, without the library."""
    with psycopg.connect(role, autocommit=True) as connection:

        def called(function: str, *arguments: Any) -> Any:
            places = ", ".join(["%s"] * len(arguments))
            query = f"SELECT kling_pricing.{function}({places})"
            values = [json.dumps(value) if isinstance(value, dict) else value for value in arguments]
            ((result,),) = connection.execute(query.encode(), values).fetchall()
            return result

        yield called


def order(number: int, **changed: Any) -> dict[str, Any]:
    """Returns a request to reserve as JSON data, with changes."""
    return {
        "project": "trailer", "key": f"k{number}", "fingerprint": "f", "provider": "qingbo",
        "wire_format": "tasks", "labels": {"project": "trailer"}, "budgets": BUDGETS.digest, "holds": ALWAYS,
    } | changed  # fmt: skip


def candidate(**changed: Any) -> str:
    """Returns one candidate as JSON, with changes of its terms."""
    return json.dumps([{"changes": {}, "terms": TERMS | changed, "reserved": changed.get("expected", NANOS)}])


def reserved(call: Call, number: int, **changed: Any) -> dict[str, Any]:
    """Reserves a clip, and returns the result."""
    result: dict[str, Any] = call("reserve", f"id{number}", order(number, **changed), candidate(), "1 min")
    return result


@pytest.mark.parametrize(
    "invented",
    [
        {"claims": []},
        {"claims": [], "may_be_unmatched": True},
        {"claims": [{"budget": "day", "periods": [["2026-01-01T00:00:00Z", "2199-01-01T00:00:00Z"]]}]},
    ],
    ids=["no claims", "unmatched", "a window"],
)
def test_invented_claims_and_windows_pass_no_cap(call: Call, invented: dict[str, Any]) -> None:
    """Claims and windows in a request are refused, as from an old guard, and nothing is reserved."""
    with pytest.raises(psycopg.errors.RaiseException, match="older than the ledger"):
        reserved(call, 1, **invented)
    results = [reserved(call, number, may_be_unmatched=True, periods=ALWAYS) for number in range(2 * FITS)]
    assert ["attempt" in result for result in results] == [True] * FITS + [False] * FITS
    assert results[-1]["refused"][0]["budget"] == "day"
    assert reserved(call, 99, project="other", labels={"project": "other"}) == {"refused": []}


def test_amounts_in_every_budget_are_the_servers(call: Call, role: str, book: PriceBook) -> None:
    """The server finds all matching budgets, their buckets, rates and amounts, and `verify` agrees."""
    labels = {"project": "trailer", "user": 'a "quoted" 名前'}
    assert "attempt" in reserved(call, 1, labels=labels)
    with BudgetGuard(role, book=book) as guard:
        guard.verify()
        assert [(bucket.budget, bucket.labels, bucket.held) for bucket in guard.status()] == [
            ("day", {}, Decimal("0.714")),
            ("each", {"user": labels["user"]}, Decimal("0.1428")),
        ]
        admission = guard.admit(CLIP, project="trailer", labels={"user": labels["user"]})
        assert [bucket.held for bucket in guard.status()] == [Decimal("1.428"), Decimal("0.2856")]
        guard.release(admission)


POISON: list[tuple[str, tuple[Any, ...]]] = [
    ("reserve", ("p", order(1, labels=["project"]), candidate(), "1 min")),
    ("reserve", ("p", order(1, labels={}), candidate(), "1 min")),
    ("reserve", ("p", order(1, labels={"project": "other"}), candidate(), "1 min")),
    ("reserve", ("p", order(1, labels={"project": "trailer", "user": 5}), candidate(), "1 min")),
    ("reserve", ("p", order(1, labels={"project": "trailer", "user": "a\nb"}), candidate(), "1 min")),
    ("reserve", ("p", order(1, key="a\x1fb"), candidate(), "1 min")),
    ("reserve", ("p", order(1), candidate(), "infinity")),
    ("reserve", ("p", order(1), candidate(), "-1 min")),
    ("reserve", ("p", order(1), candidate(expected=-NANOS), "1 min")),
    ("reserve", ("p", order(1), candidate(quantity="NaN"), "1 min")),
    ("reserve", ("p", order(1), candidate(pack_units="[1]"), "1 min")),
    ("record_spend", ("p", order(1), candidate()[1:-1], "t", "-infinity")),
    ("record_spend", ("p", order(1), candidate()[1:-1], "x" * 201, "2026-11-21T00:00:00Z")),
    ("dispatch", ("id0", "token", "infinity")),
    ("settle", ("c", ["id0"], "-1", "operator")),
    ("settle", ("c", ["id0"], "NaN", "operator")),
    ("settle", ("c", ["id0"], "1", "guess")),
    ("observe", ("c", None, "p", "t", "succeeded", {"parts": [["-1", "USD"]]}, None, None, None, None)),
    ("observe", ("c", None, "p", "t", "succeeded", {"parts": [[1, "USD"]]}, None, None, None, None)),
    ("observe", ("c", None, "p", "t", "succeeded", {"parts": 5}, None, None, None, None)),
    ("observe", ("c", None, "p", "t", "unheard of", None, None, None, None, None)),
    ("observe", ("c", None, "p", "t", "succeeded", None, "-1", None, None, None)),
    ("observe", ("c", None, "p", "t", "succeeded", None, "Infinity", None, None, None)),
    ("observe", ("c", None, "p", "t", "succeeded", None, None, None, "[5]", None)),
    ("observe", ("c", None, "p", "t", "succeeded", None, None, None, None, '["-1",null]')),
    ("observe", ("c", None, "p", "t", "succeeded", None, None, None, None, '["NaN",null]')),
    ("observe", ("c", None, "p", "a\nb", "succeeded", None, None, None, None, None)),
    ("bind", ("c", ["id0"], "t", {"7": ["0.5", None], "8": ["-1", None]})),
    ("bind", ("c", ["id0"], "t", {"7": ["Infinity", None]})),
    ("count_unpriced", ("c", '[{"provider":"p","path":"/","day":"2026-11-21","requests":-1}]')),
    ("count_unpriced", ("c", '[{"provider":"p","path":"/","day":"infinity","requests":1}]')),
]
"""Calls with a value that no later reader could use."""

TYPES = {
    "reserve": ("text", "jsonb", "jsonb", "interval"),
    "record_spend": ("text", "jsonb", "jsonb", "text", "timestamptz"),
    "dispatch": ("text", "text", "interval"),
    "settle": ("text", "text[]", "numeric", "text"),
    "observe": ("text", "text[]", "text", "text", "text", "jsonb", "numeric", "text", "jsonb", "jsonb"),
    "bind": ("text", "text[]", "text", "jsonb"),
    "count_unpriced": ("text", "jsonb"),
}


def test_values_that_would_poison_the_ledger_are_refused(role: str, call: Call, book: PriceBook) -> None:
    """Every such call is refused, and afterwards everything can be read, spent and verified as before."""
    assert "attempt" in reserved(call, 0)
    call("dispatch", "id0", "token", "1 min")
    with BudgetGuard(role, book=book) as guard:
        before = (guard.history(), guard.journal(), guard.unclaimed())
        with psycopg.connect(role, autocommit=True) as connection:
            for function, arguments in POISON:
                types = TYPES[function]
                places = ", ".join(f"%s::{kind}" for kind in types)
                values = [json.dumps(value) if isinstance(value, dict) else value for value in arguments]
                with pytest.raises((psycopg.errors.IntegrityError, psycopg.errors.DataError)):
                    connection.execute(f"SELECT kling_pricing.{function}({places})".encode(), values)
        assert (guard.history(), guard.journal(), guard.unclaimed()) == before
        guard.admit(CLIP, project="trailer")
        guard.verify()


def test_a_frozen_ledger_admits_and_dispatches_nothing(ledger: str, book: PriceBook) -> None:
    """A freeze refuses admissions, releases unsent reservations at their dispatch, and sent jobs settle."""
    with BudgetGuard(ledger, BUDGETS, book=book) as guard:
        sent_job, unsent = (guard.admit(CLIP, project="trailer", key=key) for key in ("sent", "unsent"))
        guard.dispatch(sent_job)
        freeze_all(ledger, actor="li", reason="the bill looks wrong")
        freeze_all(ledger, actor="wang", reason="again")
        for key in (None, "new", "unsent"):
            with pytest.raises(
                BudgetFrozenError, match=r"li froze all spending at .*budget thaw --all"
            ) as frozen:
                guard.admit(CLIP, project="trailer", key=key)
        assert (frozen.value.actor, frozen.value.reason) == ("li", "the bill looks wrong")
        with pytest.raises(LedgerError, match="already sent"):
            guard.admit(CLIP, project="trailer", key="sent")
        with pytest.raises(BudgetFrozenError):
            guard.dispatch(unsent)
        assert guard.reservation(unsent).state == "released"
        guard.bind(sent_job, "t-1")
        assert guard.settle(sent_job).state == "settled"
        guard.verify()
        assert thaw_all(ledger, actor="li", reason="corrected") is True
        assert guard.admit(CLIP, project="trailer", key="unsent").reservation.attempt == 2
        assert [entry.kind for entry in guard.journal()].count("freeze") == 1
        guard.verify()


def test_a_guard_cannot_silence_or_break_the_alerts(call: Call, role: str, book: PriceBook) -> None:
    """Its facts of alerts are readable, its leases end within an hour, and its counts have labels."""
    with BudgetGuard(role, book=book) as guard:
        guard.admit(CLIP, project="trailer", labels={"user": "li"})
        row = next(row for row in guard.status() if row.budget == "day")
        definition = next(entry.definition for entry in guard.budgets().budgets if entry.name == "day")
    bucket = {
        "budget": "day",
        "definition": definition,
        "labels": {},
        "window_start": row.window_start.isoformat(),
    }
    for facts in (
        "text",
        {},
        {"exhausted_at": "2100-01-01T00:00:00+00:00"},
        {"exhausted_at": "infinity", "pace_per_day": "1"},
        {"exhausted_at": "20000-01-01T00:00:00+00:00", "pace_per_day": "1"},
    ):
        assert call("raise_alerts", json.dumps([bucket | {"facts": facts}]), "1 hour") == 0
    exact = {"exhausted_at": "2100-01-01T00:00:00+00:00", "pace_per_day": "1.5"}
    assert call("raise_alerts", json.dumps([bucket | {"facts": exact | {"more": {}}}]), "1 hour") == 1
    with closing(connect(role, clock=utc_clock(None))) as store:
        assert store.alerts()[-1].facts == exact
    ends_at = datetime.fromisoformat(call("take_lease", "alerts", "x", "10 years")["ends_at"])
    assert ends_at < datetime.now(UTC) + timedelta(hours=2)
    odd: list[Any] = [[], "text", {"user": 1}]
    for labels in odd:
        counts = [{"budget": "day", "labels": labels, "reason": "cap", "day": "2026-01-01", "requests": 1}]
        with pytest.raises(psycopg.errors.CheckViolation):
            call("count_refusals", "call", json.dumps(counts))


def test_a_guard_reads_and_writes_no_table(role: str) -> None:
    """A guard's role cannot read or change any table, whatever feature it belongs to."""
    with psycopg.connect(role, autocommit=True) as connection:
        rights = connection.execute(
            "SELECT relname FROM pg_class WHERE relnamespace = 'kling_pricing'::regnamespace"
            " AND relkind IN ('r', 'v') AND has_table_privilege(oid, 'SELECT, INSERT, UPDATE, DELETE')"
        ).fetchall()
        count = connection.execute(
            "SELECT count(*) FROM pg_class WHERE relnamespace = 'kling_pricing'::regnamespace AND relkind = 'r'"
        ).fetchone()
        assert (rights, count is not None and count[0] > 10) == ([], True)
        callable_by_guard = {
            name
            for (name,) in connection.execute(
                "SELECT proname FROM pg_proc WHERE pronamespace = 'kling_pricing'::regnamespace"
                " AND has_function_privilege(oid, 'EXECUTE')"
            )
        }
        changing = {
            *("allow", "revoke", "freeze_budgets", "thaw_budgets", "set_cap", "end_cap_overlays"),
            *("revision_begin", "revision_end", "put_in_force", "put_calendar", "carry_over", "open_bucket"),
            *("administer", "enter", "enter_allowance", "use_allowances", "give_back_allowances"),
        }
        assert callable_by_guard & changing == set()


def test_a_guard_remembers_facts_and_closes_no_month(role: str, postgres_ledger: str) -> None:
    """The role adds facts, but closes no month, adds nothing to a closed month, and nothing unreadable."""
    at = datetime(2026, 11, 5, tzinfo=UTC)
    fact = BookFact("use", "2026-11", at, "t", "trailer", "USD", 714000000)
    closed = ClosedMonth("2026-11", "qingbo", "0" * 64, at, "li", "")
    opened = (closing(connect(url, clock=lambda: at)) for url in (role, postgres_ledger))
    with next(opened) as guard, next(opened) as owner:
        guard.add_to_books(BooksUpdate("qingbo", Known(0, 0, ""), facts=[fact]))
        known = guard.books("qingbo").known
        with pytest.raises(LedgerError):
            guard.add_to_books(BooksUpdate("qingbo", known, closed=closed))
        for poison in (fact._replace(task="a\nb"), fact._replace(period="soon")):
            with pytest.raises(LedgerError):
                guard.add_to_books(BooksUpdate("qingbo", known, facts=[poison]))
        owner.add_to_books(BooksUpdate("qingbo", known, closed=closed))
        known = guard.books("qingbo").known
        assert known.closed == "2026-11"
        with pytest.raises(LedgerError, match="another command changed the books of qingbo"):
            guard.add_to_books(BooksUpdate("qingbo", known, facts=[fact]))
        guard.add_to_books(BooksUpdate("qingbo", known, facts=[fact._replace(period="2026-12")]))
        owner.verify()
