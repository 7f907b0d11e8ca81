"""Closing a month warns about what is open, and the ledger keeps who remembered and settled statements."""

import json
from decimal import Decimal
from pathlib import Path

import pytest

from kling_pricing import BudgetGuard, PriceBook
from kling_pricing.ledger.actions import AdministrativeAction
from kling_pricing.reconcile import close_month, open_dispute, write_off
from tests.commands import run
from tests.test_books import COST, HALF, Finance, at

D = Decimal


@pytest.fixture
def finance(book: PriceBook, tmp_path: Path) -> Finance:
    """A ledger in SQLite, whose clock can be in any month."""
    return Finance(f"sqlite:///{tmp_path}/spend.db", book, tmp_path)


def test_closing_a_month_names_what_is_open(finance: Finance) -> None:
    """Charges that are too high, charges of strangers and missing charges are each one warning with names."""
    for task in ("dear", "dearer", "disputed", "cheap", "missing", "written-off", "right"):
        finance.send(task, "2026-10")
    finance.world.send("rounded", resolution="4k")
    finance.send("late", "2026-10", 31)
    october = at("2026-10")
    charges = {"dear": COST + HALF, "dearer": 2 * COST, "disputed": 2 * COST, "cheap": HALF, "right": COST}
    charges |= {"stranger": HALF, "written-off": HALF, "rounded": D("2.276726")}
    rows = [(task, amount, october) for task, amount in charges.items()]
    finance.lines("2026-10", finance.statement(*rows))
    ledger = finance.world.ledger
    open_dispute(ledger, "disputed", provider="qingbo", reason="twice the price")
    write_off(ledger, "written-off", provider="qingbo", reason="credit", clock=lambda: october)
    done = run("month", "close", "2026-10", "--provider", "qingbo", "--actor", "li", "--json", ledger=ledger)
    (closed,) = json.loads(done.stdout)
    assert closed["open"] == [
        {
            "kind": "charged_too_much",
            "currency": "USD",
            "tasks": 2,
            "amount": "1.071",
            "first": [{"task_id": "dearer", "amount": "0.714"}, {"task_id": "dear", "amount": "0.357"}],
        },
        {
            "kind": "not_charged",
            "currency": "USD",
            "tasks": 2,
            "amount": "1.071",
            "first": [{"task_id": "missing", "amount": "0.714"}, {"task_id": "cheap", "amount": "0.357"}],
        },
        {
            "kind": "not_in_ledger",
            "currency": "USD",
            "tasks": 1,
            "amount": "0.357",
            "first": [{"task_id": "stranger", "amount": "0.357"}],
        },
    ]
    dear, missing, stranger = done.stderr.splitlines()[:3]
    assert dear == (
        "warning: 2 tasks are charged more than expected, and not in dispute: dearer (0.714), dear (0.357), "
        "1.071 USD in all; if you do not accept a charge, run `kling-pricing dispute open`"
    )
    assert missing == (
        "warning: 2 tasks are not charged in full, although the grace period of 1 day is over: missing "
        "(0.714), cheap (0.357), 1.071 USD in all; ask the provider, and if it will not charge a task, run "
        "`kling-pricing write-off`"
    )
    assert stranger == (
        "warning: 1 task is charged, but not in the ledger: stranger (0.357), 0.357 USD in all; if a task is "
        "yours, record it; if not, run `kling-pricing dispute open`"
    )


def test_a_charge_is_open_once_and_a_missing_one_until_it_comes(finance: Finance) -> None:
    """A later month does not warn about the charges of an earlier one again; what is owed stays open."""
    finance.send("dear", "2026-09")
    finance.send("missing", "2026-09")
    ledger = finance.world.ledger
    finance.lines("2026-09", finance.statement(("dear", 2 * COST, at("2026-09"))))
    (september,) = close_month(ledger, "2026-09", provider="qingbo", clock=lambda: at("2026-10", 2))
    assert [(items.kind, items.first) for items in september.open] == [
        ("charged_too_much", (("dear", COST),)),
        ("not_charged", (("missing", COST),)),
    ]
    (october,) = close_month(ledger, "2026-10", provider="qingbo", clock=lambda: at("2026-11", 2))
    assert [(items.kind, items.first) for items in october.open] == [("not_charged", (("missing", COST),))]
    finance.lines("2026-11", finance.statement(("missing", COST, at("2026-11"))))
    (november,) = close_month(ledger, "2026-11", provider="qingbo", clock=lambda: at("2026-12", 2))
    assert november.open == ()


def test_only_the_first_of_many_open_tasks_are_named(finance: Finance) -> None:
    """The warning has the number of the others."""
    ledger = finance.world.ledger
    rows = [(f"stranger-{number}", HALF, at("2026-09")) for number in range(5)]
    finance.lines("2026-09", finance.statement(*rows))
    done = run("month", "close", "2026-09", "--provider", "qingbo", ledger=ledger)
    assert (
        "5 tasks are charged, but not in the ledger: stranger-0 (0.357), stranger-1 (0.357), stranger-2 "
        "(0.357) and 2 more, 1.785 USD in all"
    ) in done.stderr


def logged(ledger: str, book: PriceBook, *actions: str) -> list[AdministrativeAction]:
    """Returns the entries of these actions in the ledger's log."""
    with BudgetGuard(ledger, book=book) as guard:
        guard.verify()
        return [entry for entry in guard.log() if entry.action in actions]


def test_the_log_has_the_statements_that_were_remembered_and_settled(
    ledger: str, book: PriceBook, tmp_path: Path
) -> None:
    """Each has its actor, its reason, its digest, and its numbers and sums, in every kind of store."""
    finance = Finance(ledger, book, tmp_path)
    for day, task in enumerate("tu", 5):
        finance.send(task, "2026-11", day)
    first = finance.statement(("t", COST, at("2026-11")), ("u", HALF, at("2026-11", 6)), name="first.csv")
    second = finance.statement(("t", COST, at("2026-11")), ("u", COST, at("2026-11", 6)), name="second.csv")
    with finance.month("2026-11", first) as result:
        result.remember(actor="li", reason="invoice 7")
        digest = result.statements["first.csv"]
        result.remember(actor="li", reason="again")
    with finance.month("2026-11", second, replaces="first.csv") as result:
        assert result.settle(actor="wang").settled == 2
        assert result.settle(actor="wang").settled == 0
    one, other, settled = logged(ledger, book, "remember", "settle_statement")
    assert (one.actor, one.subject, one.reason, one.old) == ("li", "first.csv", "invoice 7", None)
    period = {"since": one.new["since"], "until": one.new["until"]}
    assert one.new == {
        **period,
        "books": "qingbo",
        "digest": digest,
        "replaces": None,
        "rows": 2,
        "sums": {"USD": "1.071"},
    }
    assert {name: text[:10] for name, text in period.items()} == {"since": "2026-11-01", "until": "2026-12-01"}
    assert (other.actor, other.subject, other.reason) == ("wang", "second.csv", None)
    assert (other.new["replaces"], other.new["rows"], other.new["sums"]) == ("first.csv", 2, {"USD": "1.428"})
    assert (settled.actor, settled.subject, settled.action) == ("wang", "qingbo", "settle_statement")
    del settled.new["started_at"]
    assert settled.new == {
        "statements": {"second.csv": other.new["digest"]},
        "settled": 2,
        "bound": 0,
        "refused": 0,
        "sums": {"USD": "1.428"},
    }


def test_the_log_command_shows_statements(finance: Finance) -> None:
    """`budget log` has a paragraph for each statement and each settlement."""
    finance.send("t", "2026-11")
    statement = finance.statement(("t", COST, at("2026-11")), name="november.csv")
    period = ("--provider", "qingbo", "--month", "2026-11", "--statement", statement)
    ledger = finance.world.ledger
    done = run("reconcile", *period, "--settle", "--actor", "li", "--reason", "invoice 7", ledger=ledger)
    assert done.returncode == 0, done.stderr
    shown = run("budget", "log", ledger=ledger).stdout
    assert "li  remember november.csv: invoice 7" in shown
    assert "li  settle_statement qingbo: invoice 7" in shown
    assert shown.count("sums: {USD: 0.714}") == 2
