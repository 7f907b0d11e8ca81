"""Months are closed in order, so that every amount is in the journal of a closed month."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from kling_pricing import LedgerError, PriceBook
from kling_pricing.reconcile import MonthBooks, close_month, closed_months, open_dispute, resolve_dispute
from tests.commands import run
from tests.conftest import Clock
from tests.test_books import COST, Finance, at

D = Decimal
QINGBO: dict[str, Any] = {"provider": "qingbo"}


@pytest.fixture
def finance(ledger: str, book: PriceBook, tmp_path: Path) -> Finance:
    """A ledger of either kind, whose clock can be in any month."""
    return Finance(ledger, book, tmp_path)


def record(finance: Finance, task: str, month: str, account: str | None = None) -> None:
    """Records a task of a month."""
    finance.world.guard.record(
        "qingbo", task, COST, labels={"project": "trailer"}, at=at(month), account=account
    )


def close(ledger: str | list[str], month: str, **more: Any) -> list[MonthBooks]:
    """Closes a month of QingBo's books, long after its end."""
    return close_month(ledger, month, **QINGBO | {"clock": Clock(at("2027-03"))} | more)


def test_a_month_is_refused_while_earlier_months_with_amounts_are_open(finance: Finance) -> None:
    """The message has the command for the first of them; followed month by month, no amount is lost."""
    ledger = finance.world.ledger
    for task, month in (("t", "2026-08"), ("u", "2026-10"), ("v", "2026-11")):
        record(finance, task, month)
    with pytest.raises(LedgerError) as refused:
        close(ledger, "2026-11")
    assert str(refused.value).endswith(
        "the books of qingbo have amounts in 2026-08 and 2026-10, and these months are still open; nothing was "
        "closed. Close the months in order: first `kling-pricing month close 2026-08 --provider qingbo`, then "
        "2026-10 in the same way. If you have a statement for such a month, remember it before you close the "
        "month"
    )
    assert closed_months(ledger, **QINGBO) == []
    done = run("month", "close", "2026-08", "--provider", "qingbo", "--json", ledger=ledger)
    assert done.returncode == 0, done.stderr
    with pytest.raises(LedgerError, match="have amounts in 2026-10, and this month is still open"):
        close(ledger, "2026-11")
    for month in ("2026-10", "2026-11"):
        close(ledger, month)
    expense = [line.amount for each in closed_months(ledger, **QINGBO) for line in each.journal]
    assert expense == [COST] * 6  # the expense and the liability of each month


def test_a_month_without_amounts_needs_no_closing(finance: Finance) -> None:
    """September has neither a job nor a charge, so October can follow August."""
    ledger = finance.world.ledger
    for task, month in (("t", "2026-08"), ("u", "2026-10")):
        record(finance, task, month)
    close(ledger, "2026-08")
    (october,) = close(ledger, "2026-10")
    assert {line.account: line.amount for line in october.journal} == {"expense": COST, "liability": COST}


def test_amounts_that_only_end_something_must_be_closed_too(finance: Finance) -> None:
    """The end of a dispute, and a charge that ends an accrual, are amounts of their month."""
    ledger = finance.world.ledger
    for task in ("dear", "late"):
        record(finance, task, "2026-09")
    finance.lines("2026-09", finance.statement(("dear", 2 * COST, at("2026-09"))))
    dispute = open_dispute(ledger, "dear", **QINGBO, reason="twice the price")
    close(ledger, "2026-09")
    resolve_dispute(ledger, dispute.number, reason="accepted")
    with pytest.raises(LedgerError, match="have amounts in 2026-10, and this month is still open"):
        close(ledger, "2026-11")
    close(ledger, "2026-10")
    finance.lines("2026-11", finance.statement(("late", COST, at("2026-11"))))
    with pytest.raises(LedgerError, match="have amounts in 2026-11, and this month is still open"):
        close(ledger, "2026-12")
    (november,) = close(ledger, "2026-11")
    assert (november.journal, [payable.pay for payable in november.payable]) == ((), [COST])


def test_a_withdrawal_alone_keeps_its_month_open(finance: Finance) -> None:
    """A corrected statement without any rows leaves no fact behind, but its month has an amount."""
    ledger = finance.world.ledger
    finance.lines("2026-09", finance.statement(("t", COST, at("2026-09")), name="september.csv"))
    close(ledger, "2026-09")
    with finance.month("2026-09", finance.statement(), replaces="september.csv") as result:
        result.remember()
    with pytest.raises(LedgerError, match="have amounts in 2026-10, and this month is still open"):
        close(ledger, "2026-11")
    (october,) = close(ledger, "2026-10")
    assert [(payable.invoiced, payable.pay) for payable in october.payable] == [(-COST, -COST)]


def test_accounts_are_closed_each_in_their_own_order(finance: Finance) -> None:
    """An open month of one account does not stop another, and the command names the account."""
    ledger = finance.world.ledger
    for task, month, account in (("t", "2026-09", None), ("a", "2026-10", "studio b")):
        record(finance, task, month, account)
        record(finance, f"{task}-later", "2026-11", account)
    first = "first `kling-pricing month close 2026-10 --provider qingbo --account 'studio b'`"
    with pytest.raises(LedgerError, match=f"the books of qingbo/studio b have amounts in 2026-10, .*{first}"):
        close(ledger, "2026-11", account="studio b")
    with pytest.raises(LedgerError, match="month close 2026-09 --provider qingbo --account qingbo`"):
        close(ledger, "2026-11", account="qingbo")
    for month in ("2026-09", "2026-11"):
        close(ledger, month, account="qingbo")
    assert closed_months(ledger, **QINGBO, account="studio b") == []


def test_a_ledger_with_an_open_month_stops_the_others(
    finance: Finance, book: PriceBook, tmp_path: Path
) -> None:
    """Nothing is closed in either ledger, and the command is for the ledger with the open month alone."""
    folder = tmp_path / "other"
    folder.mkdir()
    other = Finance(f"sqlite:///{folder}/spend.db", book, folder)
    record(finance, "t", "2026-11")
    record(other, "u", "2026-10")
    both = [finance.world.ledger, other.world.ledger]
    message = (
        r"other/spend\.db: the books of qingbo have amounts in 2026-10, .* in order, with this ledger alone: "
    )
    with pytest.raises(LedgerError, match=message):
        close(both, "2026-11")
    assert closed_months(both, **QINGBO) == []
    close(other.world.ledger, "2026-10")
    assert [each.month for each in close(both, "2026-11")] == ["2026-11", "2026-11"]


def test_the_command_refuses_and_changes_nothing(finance: Finance) -> None:
    """The exit code is 1, and `--json` has the message."""
    ledger = finance.world.ledger
    for task, month in (("t", "2026-08"), ("u", "2026-09")):
        record(finance, task, month)
    done = run("month", "close", "2026-09", "--provider", "qingbo", "--json", ledger=ledger)
    assert done.returncode == 1
    assert "have amounts in 2026-08, and this month is still open" in json.dumps(json.loads(done.stdout))
    assert run("month", "list", "--provider", "qingbo", ledger=ledger).stdout == "no closed months\n"


def test_books_without_a_job_or_a_charge_are_not_closed(finance: Finance) -> None:
    """The provider or the account is likely a mistake; the message names the books that the ledger has."""
    ledger = finance.world.ledger
    record(finance, "t", "2026-11", "studio")
    known = r"there is nothing to close; check the provider and the account \(the ledger has qingbo/studio\)"
    with pytest.raises(LedgerError, match=known):
        close(ledger, "2026-11", account="qingbo")
    with pytest.raises(LedgerError, match="no job was sent and no charge was remembered until"):
        close(ledger, "2026-10", account="studio")
    assert [each.month for each in close(ledger, "2026-11", account="studio")] == ["2026-11"]
    done = run("month", "close", "2026-12", "--provider", "qingbi", ledger=ledger)
    assert (done.returncode, "did you mean 'qingbo'?" in done.stderr) == (2, True)
