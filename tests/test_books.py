"""The books: what facts come to in each month, against a book kept in plain Python."""

from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kling_pricing import KlingPricingError, LedgerError, PriceBook, StatementError
from kling_pricing.ledger import connect
from kling_pricing.ledger.books import FACT_SEPARATOR, BookFact, BooksUpdate, ClosedMonth
from kling_pricing.reconcile import (
    Line,
    Payable,
    Reconciliation,
    changed_months,
    close_month,
    closed_months,
    list_disputes,
    open_dispute,
    resolve_dispute,
    write_off,
)
from kling_pricing.reconcile.months import month_period
from tests.bookings import BookedMonths
from tests.commands import run
from tests.conftest import Clock, examples
from tests.test_reconcile import HEADER, World

D = Decimal
QUOTA = D("0.000002")
COST, HALF = D("0.714"), D("0.357")
"""The quote of a clip, and half of it."""

ACCOUNTS = ("expense", "variance", "disputed", "liability")
MONTHS = ("2026-09", "2026-10", "2026-11", "2026-12")


def at(month: str, day: int = 5) -> datetime:
    """Returns noon of a day of a month."""
    return month_period(month).since + timedelta(days=day - 1, hours=12)


class Finance:
    """A ledger, and the statements of its provider, month by month."""

    def __init__(self, ledger: str, book: PriceBook, folder: Path) -> None:
        self.clock = Clock(at(MONTHS[0]))
        self.world = World(ledger, book, self.clock, folder)
        self.files = 0

    def send(self, task: str, month: str, day: int = 5) -> str:
        """Sends a clip in a month, and returns its reservation."""
        self.clock.now = at(month, day)
        return self.world.send(task)

    def statement(self, *rows: tuple[str, Decimal, datetime], name: str | None = None) -> Path:
        """Writes a statement: the task, the amount and the time of each charge."""
        self.files += 1
        lines = (
            f"{task},kling-v3,completed,{int(when.timestamp() * 1000)},{int(amount / QUOTA)}\n"
            for task, amount, when in rows
        )
        path = self.world.folder / (name or f"statement-{self.files}.csv")
        path.write_text(HEADER + "".join(lines))
        return path

    def month(self, month: str, *files: Path, **more: Any) -> Reconciliation:
        """Reconciles a month."""
        period = month_period(month)
        now = period.until + timedelta(days=2)
        given = {"since": period.since, "until": period.until, "clock": lambda: now}
        return self.world.reconcile(*files, **given | more)

    def lines(self, month: str, *files: Path, remember: bool = True, **more: Any) -> dict[str | None, Line]:
        """Reconciles a month, and returns its lines by task."""
        with self.month(month, *files, **more) as result:
            lines = {line.task_id: line for line in result.lines()}
            if remember:
                result.remember(actor="li", reason="month end")
        return lines

    def owed(self, month: str, *files: Path, **more: Any) -> Decimal:
        """Returns what the journal of a month adds to the liability."""
        with self.month(month, *files, **more) as result:
            return sum((line.amount for line in result.journal() if line.account == "liability"), D(0))


@pytest.fixture
def finance(book: PriceBook, tmp_path: Path) -> Finance:
    """A ledger in SQLite, whose clock can be in any month."""
    return Finance(f"sqlite:///{tmp_path}/spend.db", book, tmp_path)


def test_a_task_that_is_charged_again_a_month_later_is_billed_twice(finance: Finance) -> None:
    """October's charge is remembered, so November's is a second one, and the line names the first."""
    finance.send("t", "2026-10")
    october = finance.statement(("t", COST, at("2026-10")), name="october.csv")
    november = finance.statement(("t", COST, at("2026-11")))
    assert finance.lines("2026-10", october)["t"].category == "matched"
    line = finance.lines("2026-11", november)["t"]
    assert (line.category, line.variance) == ("billed_twice", COST)
    assert (
        line.cause
        == "the task is charged again; it was already charged in october.csv:2 (2026-10-05 12:00 UTC)"
    )
    assert finance.lines("2026-10", october)["t"].category == "matched"


def test_a_charge_again_of_another_amount_is_billed_twice_too(finance: Finance) -> None:
    """A task that was charged in full owes nothing, so that any further charge is too much."""
    finance.send("t", "2026-10")
    finance.lines("2026-10", finance.statement(("t", COST, at("2026-10"))))
    line = finance.lines("2026-11", finance.statement(("t", HALF, at("2026-11"))))["t"]
    assert (line.category, line.variance) == ("billed_twice", HALF)


def test_the_other_part_of_a_charge_is_a_matter_of_timing(finance: Finance) -> None:
    """Half a charge in October and half in November is what was expected, and is owed in between."""
    finance.send("t", "2026-10", 31)
    october = finance.statement(("t", HALF, at("2026-10", 31)))
    november = finance.statement(("t", HALF, at("2026-11", 1)))
    assert finance.owed("2026-10", october) == COST
    finance.lines("2026-10", october)
    line = finance.lines("2026-11", november)["t"]
    assert (line.category, line.remedy) == ("timing", "")
    assert finance.owed("2026-11", november) == 0


def test_a_charge_that_comes_back_later_is_accrued_once(finance: Finance) -> None:
    """A task of October that is charged in November is an expense of October, and of no other month."""
    finance.send("t", "2026-10", 31)
    empty = finance.statement()
    november = finance.statement(("t", COST, at("2026-11", 1)))
    assert finance.owed("2026-10", empty) == COST
    finance.lines("2026-10", empty)
    assert finance.lines("2026-11", november)["t"].category == "timing"
    assert finance.owed("2026-11", november) == 0
    assert finance.lines("2026-10", empty)["t"].category == "timing"


def test_a_refund_of_an_earlier_month_is_called_a_refund(finance: Finance) -> None:
    """A refund of a task that failed meets the charge that it refunds."""
    reservation = finance.send("t", "2026-10")
    finance.lines("2026-10", finance.statement(("t", COST, at("2026-10"))))
    finance.clock.now = at("2026-11")
    finance.world.guard.observe({"task_id": "t", "status": "failed", "cost": 0}, provider="qingbo")
    assert finance.world.guard.reservation(reservation).state == "released"
    line = finance.lines("2026-11", finance.statement(("t", -COST, at("2026-11"))))["t"]
    assert (line.category, line.billed, line.remedy) == ("timing", -COST, "")
    assert line.cause == "the task was refunded in the period and sent before it (2026-10-05 12:00 UTC)"


def test_a_corrected_statement_is_booked_only_when_that_is_requested(finance: Finance) -> None:
    """A file with other amounts for the same tasks is refused, unless it replaces the earlier file."""
    finance.send("t", "2026-11")
    finance.send("u", "2026-11", 6)
    first = finance.statement(("t", COST, at("2026-11")), ("u", COST, at("2026-11", 6)), name="first.csv")
    second = finance.statement(("t", HALF, at("2026-11")), ("u", COST, at("2026-11", 6)))
    finance.lines("2026-11", first)
    with finance.month("2026-11", second) as result:
        assert [(conflict.name, conflict.tasks) for conflict in result.conflicts] == [("first.csv", 1)]
        assert (result.payable(), result.journal()) == ([], [])
        for book in (result.remember, result.settle):
            with pytest.raises(StatementError, match=r"first\.csv .* other amounts for 1 task, such as t"):
                book()
    assert finance.owed("2026-11", first) == 2 * COST
    with finance.month("2026-11", second, replaces="first.csv") as result:
        assert result.remember().statements == 1
        (payable,) = result.payable()
    assert (payable.invoiced, payable.accrue) == (COST + HALF, COST - HALF)
    with finance.month("2026-11", first, replaces=second.name) as result:
        assert result.remember().statements == 1
    assert finance.owed("2026-11", first) == 2 * COST


def test_a_shorter_export_is_named_and_changes_nothing_until_it_replaces(finance: Finance) -> None:
    """A file without the last rows may be an earlier download, so its successor is named and still counts."""
    for day, task in enumerate("tuv", 5):
        finance.send(task, "2026-11", day)
    rows = [(task, COST, at("2026-11", day)) for day, task in enumerate("tuv", 5)]
    whole = finance.statement(*rows, name="whole.csv")
    finance.lines("2026-11", whole)
    shorter = finance.statement(*rows[:2])
    with finance.month("2026-11", shorter) as result:
        assert (result.conflicts, result.gaps) == ((), ())
        assert [(longer.name, longer.rows) for longer in result.shorter_than] == [("whole.csv", 1)]
        result.remember()
        (payable,) = result.payable()
        assert (payable.invoiced, payable.accrue) == (3 * COST, D(0))
    for again in (whole, shorter):
        with finance.month("2026-11", again) as result:
            assert (result.conflicts, result.shorter_than) == ((), ())
    corrected = finance.statement(*rows[:1])
    with finance.month("2026-11", corrected, replaces="whole.csv") as result:
        assert [longer.name for longer in result.shorter_than] == [shorter.name]
        assert "v" not in {line.task_id for line in result.lines("matched")}


def test_an_export_without_rows_in_between_is_a_correction(finance: Finance) -> None:
    """No earlier download lacks a row between its own rows, so such a file is not booked until it replaces."""
    for day, task in enumerate("tuv", 5):
        finance.send(task, "2026-11", day)
    rows = [(task, COST, at("2026-11", day)) for day, task in enumerate("tuv", 5)]
    finance.lines("2026-11", finance.statement(*rows, name="whole.csv"))
    corrected = finance.statement(rows[0], rows[2])
    with finance.month("2026-11", corrected) as result:
        assert [(each.name, each.tasks, each.task_id) for each in result.conflicts] == [("whole.csv", 1, "u")]
        with pytest.raises(StatementError, match=r"whole\.csv"):
            result.remember()
    with finance.month("2026-11", corrected, replaces="whole.csv") as result:
        assert result.conflicts == ()
        (payable,) = result.payable()
        assert (payable.invoiced, payable.accrue) == (2 * COST, COST)


def test_an_export_with_other_rows_is_no_shorter_one(finance: Finance) -> None:
    """Files with rows of their own, such as those of another pack, add to the books as before."""
    finance.lines("2026-11", finance.statement(("t", COST, at("2026-11")), ("u", COST, at("2026-11", 6))))
    with finance.month("2026-11", finance.statement(("v", COST, at("2026-11")))) as result:
        assert (result.conflicts, result.shorter_than) == ((), ())


def test_verify_computes_the_journals_of_closed_months_again(finance: Finance) -> None:
    """A journal that is not the closed one does not go unnoticed, although every seal of the books is right."""
    finance.send("t", "2026-10")
    finance.lines("2026-10", finance.statement(("t", COST, at("2026-10"))))
    ledger = finance.world.ledger
    close_month(ledger, "2026-10", provider="qingbo", clock=lambda: at("2026-11", 3))
    done = run("verify", ledger=ledger)
    assert (done.returncode, done.stdout.startswith("OK")) == (0, True), done.stderr
    assert changed_months(ledger, ["qingbo", "kling"]) == []
    with closing(connect(ledger, clock=lambda: at("2026-12", 3))) as store:
        known = store.books("qingbo").known
        close = ClosedMonth("2026-11", "qingbo", "0" * 64, at("2026-12", 3), "li", "")
        store.add_to_books(BooksUpdate("qingbo", known, closed=close))
    assert [(each.month, each.is_intact) for each in changed_months(ledger, ["qingbo"])] == [("2026-11", False)]
    done = run("verify", ledger=ledger)
    assert (done.returncode, done.stdout) == (1, "")
    assert "the journal of a closed month has changed: 2026-11 of qingbo" in done.stderr
    assert run("verify", "--since-last", ledger=ledger).returncode == 0


@pytest.mark.parametrize(
    ("replaces", "problem"),
    [
        (
            "none.csv",
            r"the books do not contain a statement none\.csv to replace; they contain: first\.csv",
        ),
        ("first.csv", r"the file is the statement first\.csv itself; give the corrected file"),
    ],
)
def test_only_a_remembered_statement_can_be_replaced(finance: Finance, replaces: str, problem: str) -> None:
    """The error lists what could be replaced."""
    first = finance.statement(("t", COST, at("2026-11")), name="first.csv")
    finance.lines("2026-11", first)
    with pytest.raises(StatementError, match=problem):
        finance.month("2026-11", first, replaces=replaces)


def test_exports_that_overlap_with_the_same_amounts_are_one(finance: Finance) -> None:
    """A later export that repeats an earlier one adds only its new rows."""
    for day, task in enumerate("tuv", 5):
        finance.send(task, "2026-11", day)
    rows = [(task, COST, at("2026-11", day)) for day, task in enumerate("tuv", 5)]
    finance.lines("2026-11", finance.statement(*rows[:2]))
    lines = finance.lines("2026-11", finance.statement(*rows[1:]))
    assert {task: line.category for task, line in lines.items()} == dict.fromkeys("tuv", "matched")
    with finance.month("2026-11", finance.statement(*rows)) as result:
        (payable,) = result.payable()
    assert (payable.invoiced, payable.accrue) == (3 * COST, D(0))


def test_a_disputed_task_is_not_settled_before_the_dispute_is_resolved(finance: Finance) -> None:
    """What is charged too much is disputed, is not to be paid, and is settled when that is over."""
    reservation = finance.send("t", "2026-11")
    statement = finance.statement(("t", 2 * COST, at("2026-11")))
    with finance.month("2026-11", statement) as result:
        assert result.dispute(reason="twice the price") == 1
        (payable,) = result.payable()
        assert (payable.pay, payable.disputed, payable.accrue) == (COST, COST, D(0))
        assert result.settle().settled == 0
        assert result.dispute(reason="again") == 0
    ledger = finance.world.ledger
    (dispute,) = list_disputes(ledger, provider="qingbo")
    assert (dispute.task_id, dispute.amount, dispute.row) == ("t", COST, f"{statement.name}:2")
    resolved = resolve_dispute(ledger, dispute.number, provider="qingbo", reason="the clip was longer")
    assert resolved.resolution == "the clip was longer"
    assert resolve_dispute(ledger, dispute.number, reason="the clip was longer") == resolved
    with pytest.raises(KlingPricingError, match=r"was already resolved, at .* UTC: the clip was longer"):
        resolve_dispute(ledger, dispute.number, provider="qingbo", reason="again")
    with finance.month("2026-11", statement) as result:
        assert result.settle().settled == 1
    assert finance.world.guard.reservation(reservation).billed == 2 * COST


def test_no_more_can_be_disputed_than_was_charged(finance: Finance) -> None:
    """A dispute is limited by the row that charges the most, less what is in dispute already."""
    finance.send("t", "2026-11")
    finance.lines("2026-11", finance.statement(("t", COST, at("2026-11"))))
    ledger = finance.world.ledger
    with pytest.raises(KlingPricingError, match="was not charged more than expected"):
        open_dispute(ledger, "t", provider="qingbo", reason="too dear")
    open_dispute(ledger, "t", provider="qingbo", amount=HALF, reason="too dear")
    with pytest.raises(KlingPricingError, match=r"at most 0\.357 USD of a charge for task"):
        open_dispute(ledger, "t", provider="qingbo", amount=COST, reason="too dear")
    with pytest.raises(KlingPricingError, match="no statement in the books charges task u"):
        open_dispute(ledger, "u", provider="qingbo", reason="too dear")


def test_a_closed_month_never_changes(finance: Finance) -> None:
    """What is learnt after a month is closed appears in the first open month."""
    finance.send("t", "2026-10")
    finance.send("late", "2026-10", 6)
    october = finance.statement(("t", COST, at("2026-10")))
    finance.lines("2026-10", october)
    ledger, closing = finance.world.ledger, at("2026-11", 3)
    (closed,) = close_month(ledger, "2026-10", provider="qingbo", reason="done", clock=lambda: closing)
    assert sum(line.amount for line in closed.journal if line.account == "expense") == 2 * COST
    corrected = finance.statement(("t", HALF, at("2026-10")))
    with finance.month("2026-10", corrected, replaces=october.name) as result:
        result.remember()
    (month,) = closed_months(ledger, provider="qingbo")
    assert (month.is_intact, month.journal) == (True, closed.journal)
    with finance.month("2026-11", finance.statement(("late", HALF, at("2026-11")))) as result:
        journal = {line.account: line.amount for line in result.journal()}
        (payable,) = result.payable()
    assert journal == {}  # what is charged less is still owed
    assert payable.accrue == COST
    with pytest.raises(KlingPricingError, match="closed up to and including 2026-10; the first open month is"):
        close_month(ledger, "2026-10", provider="qingbo", clock=lambda: closing)
    with pytest.raises(KlingPricingError, match="2026-11 is not over; close it on 2026-12-01 or later"):
        close_month(ledger, "2026-11", provider="qingbo", clock=lambda: closing)


def test_what_remains_owed_can_be_written_off(finance: Finance) -> None:
    """A task that was charged too little owes the rest until somebody writes it off."""
    finance.send("t", "2026-11")
    statement = finance.statement(("t", HALF, at("2026-11")))
    ledger, now = finance.world.ledger, at("2026-11", 28)
    with pytest.raises(KlingPricingError, match="task t is not in the books of"):
        write_off(ledger, "t", provider="qingbo", reason="credit")
    finance.lines("2026-11", statement)
    assert finance.owed("2026-11", statement) == COST
    written = write_off(ledger, "t", provider="qingbo", actor="li", reason="credit", clock=lambda: now)
    assert (written.amount, written.currency, written.month) == (COST - HALF, "USD", "2026-11")
    with finance.month("2026-11", statement) as result:
        assert {line.account: line.amount for line in result.journal()} == {
            "expense": COST,
            "variance": HALF - COST,
            "liability": HALF,
        }
    with pytest.raises(KlingPricingError, match="nothing is owed for task t"):
        write_off(ledger, "t", provider="qingbo", reason="again")


def test_statements_are_remembered_once_even_by_two_commands_at_once(finance: Finance) -> None:
    """A command whose view of the books is outdated adds nothing."""
    finance.send("t", "2026-11")
    statement = finance.statement(("t", COST, at("2026-11")))
    with finance.month("2026-11", statement) as one, finance.month("2026-11", statement) as other:
        assert one.remember() == (1, 1, 1)
        with pytest.raises(KlingPricingError, match="another command changed the books of qingbo"):
            other.remember()
    with finance.month("2026-11", statement) as again:
        assert again.remember() == (0, 0, 0)


def test_both_kinds_of_store_keep_the_books(ledger: str, book: PriceBook, tmp_path: Path) -> None:
    """Statements, disputes and closed months are the same in every kind of store."""
    finance = Finance(ledger, book, tmp_path)
    for task, month in (("t", "2026-09"), ("u", "2026-10")):
        finance.world.guard.record("qingbo", task, COST, labels={"project": "trailer"}, at=at(month))
    finance.lines("2026-09", finance.statement(("t", COST, at("2026-09")), name="september.csv"))
    again = finance.statement(("t", COST, at("2026-10")), ("u", COST, at("2026-10")))
    lines = finance.lines("2026-10", again)
    assert {task: line.category for task, line in lines.items()} == {"t": "billed_twice", "u": "matched"}
    dispute = open_dispute(ledger, "t", provider="qingbo", actor="li", reason="charged twice")
    assert (dispute.amount, dispute.actor, dispute.reason) == (COST, "li", "charged twice")
    for month in ("2026-09", "2026-10"):
        close_month(ledger, month, provider="qingbo", actor="li", clock=lambda: at("2026-11", 2))
    (_, closed) = closed_months(ledger, provider="qingbo")
    assert {line.account: line.amount for line in closed.journal} == {
        "expense": COST,
        "disputed": COST,
        "liability": 2 * COST,
    }
    assert (closed.is_intact, closed.closed.actor) == (True, "li")
    resolve_dispute(ledger, dispute.number, provider="qingbo", reason="refused")
    with finance.month("2026-10", again) as result:
        assert result.remember() == (0, 0, 0)
        assert tuple(result.payable()) == closed.payable == (Payable("USD", 2 * COST, COST, COST, D(0)),)
    with finance.month("2026-11", finance.statement()) as result:
        assert result.payable() == [Payable("USD", D(0), COST, D(0), D(0))]


@pytest.mark.parametrize(
    ("is_accepted", "december"),
    [
        (True, Payable("USD", HALF, HALF + COST, D(0), D(0))),
        (False, Payable("USD", HALF - COST, HALF, D(0), D(0))),
    ],
)
def test_the_end_of_a_dispute_is_paid_in_the_first_open_month(
    finance: Finance, december: Payable, *, is_accepted: bool
) -> None:
    """November keeps what was paid for it; December pays an accepted charge, and never a withdrawn one."""
    finance.send("t", "2026-11")
    finance.send("u", "2026-12")
    ledger, now = finance.world.ledger, at("2026-12", 3)
    charged = finance.statement(("t", 2 * COST, at("2026-11")), name="november.csv")
    finance.lines("2026-11", charged)
    dispute = open_dispute(ledger, "t", provider="qingbo", reason="twice the price", clock=lambda: now)
    november = Payable("USD", 2 * COST, COST, COST, D(0))
    with finance.month("2026-11", charged) as result:
        assert result.payable() == [november]
        assert ("disputed", COST) in [(line.account, line.amount) for line in result.journal()]
    (closed,) = close_month(ledger, "2026-11", provider="qingbo", clock=lambda: now)
    assert closed.payable == (november,)
    if is_accepted:
        resolve_dispute(ledger, dispute.number, provider="qingbo", reason="the clip was longer")
    else:
        corrected = finance.statement(("t", COST, at("2026-11")))
        with finance.month("2026-11", corrected, replaces="november.csv") as result:
            result.remember()
    (closed,) = closed_months(ledger, provider="qingbo")
    assert (closed.is_intact, closed.payable) == (True, (november,))
    with finance.month("2026-12", finance.statement(("u", HALF, at("2026-12")))) as result:
        amounts = result.payable()
    # the use of December is not charged in full
    assert amounts == [december._replace(accrue=HALF)]
    assert december.disputed_before == COST


def test_the_command_that_closes_a_month_shows_the_amounts_and_warns(finance: Finance) -> None:
    """The output has what to pay; the warnings name what stays in dispute, and a month without a statement."""
    ledger = finance.world.ledger
    finance.send("t", "2026-09")
    finance.lines("2026-09", finance.statement(("t", 2 * COST, at("2026-09"))))
    dispute = open_dispute(ledger, "t", provider="qingbo", reason="twice the price")
    command = ("--provider", "qingbo", "--actor", "li")
    done = run("month", "close", "2026-09", *command, ledger=ledger)
    assert done.stdout.splitlines()[1] == "pay 0.714 USD, in dispute 0.714, accrue 0"
    assert done.stderr.startswith("warning: 0.714 USD stays in dispute; ")
    assert done.stderr.count("warning") == 1
    resolve_dispute(ledger, dispute.number, provider="qingbo", reason="the clip was longer")
    done = run("month", "close", "2026-10", *command, ledger=ledger)
    amounts = "pay 0.714 USD, in dispute 0 (0.714 at the start of the period), accrue 0"
    assert done.stdout.splitlines()[1] == amounts
    assert done.stderr.startswith("warning: the books of qingbo contain no statement for 2026-10; ")
    assert done.stderr.count("warning") == 1
    listed = run("month", "list", "--provider", "qingbo", ledger=ledger)
    assert (listed.stderr, [line for line in listed.stdout.splitlines() if line.startswith("pay")]) == (
        "",
        ["pay 0.714 USD, in dispute 0.714, accrue 0", amounts],
    )


def test_a_dispute_keeps_the_period_with_which_it_is_in_the_books(finance: Finance) -> None:
    """Older versions gave disputes other periods; closed months stay intact, and nothing is paid twice."""
    finance.send("t", "2026-10")
    charged = finance.statement(("t", 2 * COST, at("2026-10")))
    finance.lines("2026-10", charged)
    ledger = finance.world.ledger
    with closing(connect(ledger, clock=lambda: at("2026-11", 3))) as store:
        lines = b"".join(store.facts("qingbo")).decode().split("\n")
        (row,) = [line.split(FACT_SEPARATOR)[0] for line in lines if FACT_SEPARATOR + "row" in line]
        known = store.books("qingbo").known
        opened_at, amount = at("2026-11", 3), int(COST * 10**9)
        dispute = BookFact(
            "dispute",
            "2026-11",
            opened_at,
            "t",
            currency="USD",
            amount=amount,
            subject=int(row),
            actor="li",
            reason="too dear",
        )
        store.add_to_books(BooksUpdate("qingbo", known, facts=[dispute]))
    (october,) = close_month(ledger, "2026-10", provider="qingbo", clock=lambda: at("2026-11", 3))
    assert october.payable == (Payable("USD", 2 * COST, 2 * COST, D(0), D(0)),)
    with finance.month("2026-11", finance.statement()) as result:
        assert result.payable() == [Payable("USD", D(0), -COST, COST, D(0))]
    (opened,) = list_disputes(ledger, provider="qingbo")
    resolve_dispute(ledger, opened.number, provider="qingbo", reason="the clip was longer")
    assert closed_months(ledger, provider="qingbo") == [october._replace(open=())]
    with finance.month("2026-11", finance.statement()) as result:
        assert [payable.pay for payable in result.payable()] == [D(0)]


def test_a_dispute_counts_in_the_part_of_a_month_that_charged_the_row(finance: Finance) -> None:
    """A period that does not consist of months has the disputes of its own rows, and ends them as it does."""
    finance.send("t", "2026-11")
    statement = finance.statement(("t", 2 * COST, at("2026-11")))
    ledger, since, until = finance.world.ledger, at("2026-11", 1), at("2026-11", 20)
    with finance.month("2026-11", statement, since=since, until=until) as result:
        assert result.dispute(reason="twice the price") == 1
        assert result.payable() == [Payable("USD", 2 * COST, COST, COST, D(0))]
    (dispute,) = list_disputes(ledger, provider="qingbo")
    resolve_dispute(ledger, dispute.number, provider="qingbo", reason="the clip was longer")
    with finance.month("2026-11", statement, since=since, until=until) as result:
        assert result.payable() == [Payable("USD", 2 * COST, 2 * COST, D(0), D(0))]


@pytest.mark.parametrize("text", ["2026-13", "0000-05", "26-11", "2026-11-01", "2026-1", ""])
def test_a_text_that_is_not_a_month_is_refused(text: str) -> None:
    """The message shows how a month is written."""
    with pytest.raises(KlingPricingError, match="is not a month; write it as YYYY-MM, such as 2026-11"):
        month_period(text)


@dataclass
class Charge:
    """A row of a statement in the plain book."""

    task: str
    amount: Decimal
    when: datetime
    period: str


@dataclass
class File:
    """A statement in the plain book."""

    path: Path
    rows: list[Charge]
    replaced_in: str = "9999-99"


@dataclass
class PlainBook:
    """What the books of the months should be, by the rules, one task at a time."""

    finance: Finance
    is_open: str = MONTHS[0]
    sent: dict[str, str] = field(default_factory=dict)
    failed: dict[str, datetime] = field(default_factory=dict)
    known: dict[str, Decimal] = field(default_factory=dict)
    uses: list[tuple[str, str, Decimal]] = field(default_factory=list)
    files: dict[str, list[File]] = field(default_factory=dict)
    disputes: dict[int, tuple[str, Charge, Decimal]] = field(default_factory=dict)
    resolved: dict[int, str] = field(default_factory=dict)
    sealed: dict[str, Any] = field(default_factory=dict)

    def period(self, month: str) -> str:
        """Returns the accounting period of what happened in a month."""
        return max(month, self.is_open)

    def send(self, month: str) -> None:
        """Sends another task."""
        task = f"task-{len(self.sent)}"
        self.sent[task] = month
        self.finance.send(task, month)

    def fail(self, task: str, month: str) -> None:
        """Lets a task fail, so that it costs nothing."""
        self.failed[task] = self.finance.clock.now = at(month, 20)
        self.finance.world.guard.observe({"task_id": task, "status": "failed", "cost": 0}, provider="qingbo")

    def learn(self, before: str) -> None:
        """Learns what the tasks that were sent until a month should cost."""
        for task, month in self.sent.items():
            if month <= before:
                present = D(0) if task in self.failed else COST
                if task not in self.known and present:
                    self.uses.append((task, self.period(month), present))
                elif self.known.get(task, present) != present:
                    self.uses.append((task, self.period(f"{self.failed[task]:%Y-%m}"), present))
                if task in self.known or present:
                    self.known[task] = present

    def charge(self, month: str, rows: list[tuple[str, Decimal]], *, more: bool) -> None:
        """Remembers a statement of a month, which adds to the earlier one or replaces it."""
        in_force = [file for file in self.files.get(month, []) if file.replaced_in == "9999-99"]
        if more and in_force:
            kept = in_force[-1].rows
            old = {row.task for file in in_force for row in file.rows}
            rows = [row for row in rows if row[0] not in old]
            charges = [(row.task, row.amount, row.when) for row in kept]
        else:
            more, charges = False, []
        charges += [(task, amount, at(month, 8 + place)) for place, (task, amount) in enumerate(rows)]
        path = self.finance.statement(*charges)
        replaces = in_force[-1].path.name if in_force and not more else None
        if replaces and path.read_bytes() == in_force[-1].path.read_bytes():
            return  # it corrects nothing
        with self.finance.month(month, path, replaces=replaces) as result:
            if replaces and len(in_force) > 1 and result.conflicts:
                return  # it contradicts a file that it does not replace
            is_new = bool(result.remember().statements)
        self.learn(month)
        if is_new:
            if replaces:
                in_force[-1].replaced_in = self.period(month)
            made = [Charge(*charge, self.period(month)) for charge in charges]
            self.files.setdefault(month, []).append(File(path, made))

    def dispute(self, task: str, month: str) -> None:
        """Disputes half a charge."""
        now = at(month, 25)
        ledger = self.finance.world.ledger
        try:
            dispute = open_dispute(
                ledger, task, provider="qingbo", amount=HALF, reason="too much", clock=lambda: now
            )
        except KlingPricingError:
            return
        name, _, row = dispute.row.rpartition(":")
        (file,) = [file for files in self.files.values() for file in files if file.path.name == name]
        charge = file.rows[int(row) - 2]
        self.disputes[dispute.number] = (self.period(charge.period), charge, HALF)

    def resolve(self, month: str) -> None:
        """Resolves the first dispute."""
        now = at(month, 26)
        number = min(self.disputes.keys() - self.resolved.keys(), default=None)
        if number is not None:
            ledger = self.finance.world.ledger
            charge = self.disputes[number][1]
            rows = [
                (row.task, row.amount, row.when)
                for files in self.files.values()
                for file in files
                if file.replaced_in == "9999-99"
                for row in file.rows
            ]
            if (charge.task, charge.amount, charge.when) not in rows:
                ended = f"dispute {number} already ended, at .* no longer contains"
                with pytest.raises(LedgerError, match=ended):
                    resolve_dispute(ledger, number, provider="qingbo", reason="done", clock=lambda: now)
                return
            resolve_dispute(ledger, number, provider="qingbo", reason="done", clock=lambda: now)
            self.resolved[number] = self.period(self.disputes[number][1].period)

    def close(self, month: str) -> None:
        """Closes a month, after the earlier months that the refusal names."""
        if month < self.is_open:
            return
        now, ledger = month_period(month).until + timedelta(days=3), self.finance.world.ledger
        before = dict(self.known), [*self.uses]
        self.learn(month)
        if gaps := [period for period in self.periods() if self.is_open <= period < month]:
            self.known, self.uses = before  # a refusal adds nothing to the books
            command = f"first `kling-pricing month close {gaps[0]} --provider qingbo`"
            with pytest.raises(LedgerError, match=command) as refused:
                close_month(ledger, month, provider="qingbo", clock=lambda: now)
            assert [gap for gap in MONTHS if gap in str(refused.value)] == gaps
            self.close(gaps[0])
            self.close(month)
            return
        if not self.uses and not self.files:
            with pytest.raises(LedgerError, match="there is nothing to close"):
                close_month(ledger, month, provider="qingbo", clock=lambda: now)
            return
        (closed,) = close_month(ledger, month, provider="qingbo", clock=lambda: now)
        self.sealed[month] = (closed.journal, closed.payable)
        self.is_open = f"{month_period(month).until:%Y-%m}"

    def periods(self) -> list[str]:
        """Returns the accounting periods of all facts, and of the replacements of statements, in order."""
        files = [file for files in self.files.values() for file in files]
        periods = {period for _, period, _ in self.uses} | {row.period for file in files for row in file.rows}
        periods |= {file.replaced_in for file in files} - {"9999-99"}
        return sorted(periods | {period for period, _, _ in self.disputes.values()} | {*self.resolved.values()})

    def targets(self, until: str) -> dict[str, Decimal]:
        """Returns the balances of the accounts at the end of a month."""
        charged: dict[tuple[str, Decimal, datetime], int] = {}
        for files in self.files.values():
            for file in files:
                rows = [(row.task, row.amount, row.when) for row in file.rows if row.period <= until]
                if file.replaced_in > until:
                    for row in set(rows):
                        charged[row] = max(charged.get(row, 0), rows.count(row))
        used = {task: amount for task, period, amount in self.uses if period <= until}
        totals = dict.fromkeys((*ACCOUNTS, "pay", "accrue"), D(0))
        for task in used.keys() | {task for task, *_ in charged}:
            rows_of = {row: count for row, count in charged.items() if row[0] == task}
            billed = sum((row[1] * count for row, count in rows_of.items()), D(0))
            positive = sum((row[1] * count for row, count in rows_of.items() if row[1] > 0), D(0))
            disputed = sum(
                (
                    part
                    for number, (period, row, part) in self.disputes.items()
                    if period <= until
                    and self.resolved.get(number, "9999-99") > until
                    and (row.task, row.amount, row.when) in rows_of
                ),
                D(0),
            )
            owed = max(D(0), used.get(task, D(0)) - positive)
            totals["expense"] += used.get(task, D(0))
            totals["disputed"] += disputed
            totals["liability"] += billed + owed
            totals["variance"] += billed + owed - used.get(task, D(0)) - disputed
            totals["pay"] += billed - disputed
            totals["accrue"] += owed
        return totals


STEPS = st.lists(
    st.tuples(
        st.sampled_from(("send", "send", "charge", "charge", "charge", "fail", "dispute", "resolve", "close")),
        st.integers(0, len(MONTHS) - 1),
        st.lists(
            st.tuples(st.integers(0, 3), st.sampled_from((COST, HALF, 2 * COST, -HALF, -COST))), max_size=4
        ),
        st.booleans(),
    ),
    min_size=4,
    max_size=12,
)


@settings(max_examples=examples(3, long=160), suppress_health_check=[HealthCheck.too_slow])
@given(STEPS)
def test_the_books_of_any_sequence_are_those_of_a_plain_book(
    tmp_path_factory: pytest.TempPathFactory, book: PriceBook, steps: list[Any]
) -> None:
    """The journal follows the rules, whatever is split, repeated, refunded, corrected, disputed or closed.

    A usual run tries 5 sequences, a long run 160.
    """
    folder = tmp_path_factory.mktemp("books")
    finance = Finance(f"sqlite:///{folder}/spend.db", book, folder)
    plain = PlainBook(finance)
    for step, number, rows, more in steps:
        month = MONTHS[number]
        if step == "send" and month >= plain.is_open:
            plain.send(month)
        elif step == "charge":
            plain.charge(month, [(f"task-{task}", amount) for task, amount in rows], more=more)
        elif step == "fail":
            running = [task for task in plain.sent if task not in plain.failed and plain.sent[task] <= month]
            if running and month >= plain.is_open:
                plain.fail(running[0], month)
        elif step == "dispute" and month >= plain.is_open:
            plain.dispute(f"task-{number % 4}", month)
        elif step == "resolve" and month >= plain.is_open:
            plain.resolve(month)
        elif step == "close":
            plain.close(month)
    plain.learn(MONTHS[-1])
    before: dict[str, Decimal] = dict.fromkeys((*ACCOUNTS, "pay"), D(0))
    empty = finance.statement()
    paid, booked = D(0), BookedMonths(folder)
    for month in MONTHS:
        balances = plain.targets(month)
        with finance.month(month, empty) as result:
            journal = dict.fromkeys(ACCOUNTS, D(0))
            for line in result.journal():
                journal[line.account] += line.amount
            (payable,) = result.payable() or [Payable("USD", D(0), D(0), D(0), D(0))]
            booked.add(result)
        assert journal == {name: balances[name] - before[name] for name in ACCOUNTS}, month
        assert (payable.pay, payable.disputed, payable.accrue) == (
            balances["pay"] - before["pay"],
            balances["disputed"],
            balances["accrue"],
        ), month
        assert payable.disputed_before == before["disputed"]
        paid += payable.pay
        assert balances["expense"] + balances["variance"] + balances["disputed"] == balances["liability"]
        before = balances
    assert paid == before["pay"]
    for closed in closed_months(finance.world.ledger, provider="qingbo"):
        assert (closed.is_intact, (closed.journal, closed.payable)) == (True, plain.sealed[closed.month])
    finance.world.guard.close()
