"""Disputes: which charges are disputed, which dispute is resolved, and which are not needed any more."""

import json
from decimal import Decimal
from pathlib import Path

import pytest

from kling_pricing import KlingPricingError, PriceBook
from kling_pricing.reconcile import list_disputes, open_dispute, resolve_dispute
from tests.commands import Done, run
from tests.test_books import COST, HALF, Finance, at

MONTH = "2026-11"


@pytest.fixture
def finance(ledger: str, book: PriceBook, tmp_path: Path) -> Finance:
    """A ledger of either kind, with the tasks `t` and `u`."""
    finance = Finance(ledger, book, tmp_path)
    finance.send("t", MONTH)
    finance.send("u", MONTH, 6)
    return finance


def test_only_charges_of_known_tasks_and_repeated_charges_are_disputed(finance: Finance) -> None:
    """A stranger may be a task that nobody recorded, so it is disputed only on request."""
    statement = finance.statement(
        ("t", 2 * COST, at(MONTH)),
        ("u", COST, at(MONTH, 6)),
        ("u", COST, at(MONTH, 7)),
        ("stranger", COST, at(MONTH)),
        ("another", COST, at(MONTH)),
        ("another", COST, at(MONTH, 7)),
    )
    ledger = finance.world.ledger
    with finance.month(MONTH, statement) as result:
        with pytest.raises(KlingPricingError, match="only `not_in_ledger` lines can be disputed as well"):
            result.dispute(also=["explained"], reason="no")  # type: ignore[list-item]
        assert result.dispute(reason="too dear") == 3
    amounts = {each.task_id: each.amount for each in list_disputes(ledger, provider="qingbo")}
    assert amounts == dict.fromkeys(("t", "u", "another"), COST)
    with finance.month(MONTH, statement) as result:
        assert result.dispute(also=["not_in_ledger"], reason="not ours") == 1
    assert list_disputes(ledger, provider="qingbo")[-1].task_id == "stranger"


def test_a_task_that_is_in_dispute_is_not_disputed_again(finance: Finance) -> None:
    """The error has the number of the dispute, and the rest of the charge stays undisputed."""
    ledger = finance.world.ledger
    finance.lines(MONTH, finance.statement(("t", 2 * COST, at(MONTH)), ("u", COST, at(MONTH))))
    first = open_dispute(ledger, "t", provider="qingbo", reason="too dear")
    again = rf"task t is already in dispute, number {first.number} \(0\.714 USD\)"
    with pytest.raises(KlingPricingError, match=again):
        open_dispute(ledger, "t", provider="qingbo", reason="too dear")
    whole = open_dispute(ledger, "u", provider="qingbo", amount=COST, reason="too dear")
    with pytest.raises(KlingPricingError, match=f"task u is already in dispute, number {whole.number}"):
        open_dispute(ledger, "u", provider="qingbo", amount=HALF, reason="too dear")
    assert [each.amount for each in list_disputes(ledger, provider="qingbo")] == [COST, COST]
    resolve_dispute(ledger, first.number, reason="refused")
    assert open_dispute(ledger, "t", provider="qingbo", reason="once more").amount == COST


@pytest.fixture
def recorded(ledger: str, book: PriceBook, tmp_path: Path) -> Finance:
    """A ledger of either kind, with the tasks `t` and `u` as recorded by a person for the month."""
    finance = Finance(ledger, book, tmp_path)
    for day, task in enumerate("tu", 5):
        finance.world.guard.record("qingbo", task, COST, labels={"project": "trailer"}, at=at(MONTH, day))
    return finance


def test_a_line_in_dispute_says_so_and_is_not_open(recorded: Finance) -> None:
    """The remedy names the dispute and how it ends; the line needs no second dispute, and counts apart."""
    statement = recorded.statement(
        ("t", 2 * COST, at(MONTH)), ("u", COST + HALF, at(MONTH, 6)), ("stranger", COST, at(MONTH))
    )
    ledger = recorded.world.ledger
    with recorded.month(MONTH, statement) as result:
        before = (result.exceptions, result.in_dispute)
        assert result.dispute(reason="too dear") == 2
        (first, second) = list_disputes(ledger, provider="qingbo")
        assert (before, result.exceptions, result.in_dispute, result.open) == ((3, 0), 3, 2, 1)
        totals = {total.name: (total.lines, total.variance) for total in result.totals("standing")}
        assert totals == {"disputed": (2, COST + HALF), "open": (1, COST)}
    number = {each.task_id: each.number for each in (first, second)}["t"]
    remedy = (
        f"The charge has been in dispute since {first.opened_at:%Y-%m-%d} (dispute {number}). A corrected "
        "statement without the charge ends the dispute by itself. If the provider refunds the charge, remember "
        f"the statement with the refund, and then run `kling-pricing dispute resolve {number} --reason TEXT`. "
        "If you accept the charge, run this now."
    )
    assert recorded.lines(MONTH, statement, remember=False)["t"].remedy == remedy
    done = reconciled(recorded, statement)
    assert (
        done.stdout.splitlines()[-1]
        == "the totals tie out; 3 exceptions, 2 of them in dispute, and 1 still open"
    )
    resolve_dispute(ledger, number, reason="accepted")
    with recorded.month(MONTH, statement) as result:
        assert result.in_dispute == 1
        assert "in dispute" not in {line.task_id: line.remedy for line in result.lines()}["t"]


def test_a_part_in_dispute_leaves_the_rest_open(recorded: Finance) -> None:
    """The remedy says how much is in dispute, and what to do about the rest."""
    statement = recorded.statement(("t", COST, at(MONTH)), ("t", COST, at(MONTH, 7)))
    recorded.lines(MONTH, statement)
    open_dispute(recorded.world.ledger, "t", provider="qingbo", amount=HALF, reason="too dear")
    with recorded.month(MONTH, statement) as result:
        (line,) = result.lines("billed_twice")
        assert (result.in_dispute, result.open, result.exceptions) == (0, 2, 2)  # the other is not charged
    assert line.remedy == (
        "0.357 USD of the charges is in dispute already. The charges are 0.714 USD more than expected. Dispute "
        "the repeated charge."
    )


def test_a_dispute_of_a_withdrawn_row_covers_no_other_row(recorded: Finance) -> None:
    """A corrected statement that still charges too much leaves the rest open, and not in dispute."""
    days = [at(MONTH, day) for day in (5, 7, 8)]
    first = recorded.statement(*(("t", COST, when) for when in days), name="first.csv")
    recorded.lines(MONTH, first)
    open_dispute(recorded.world.ledger, "t", provider="qingbo", reason="charged three times")
    corrected = recorded.statement(*(("t", COST, when) for when in days[:2]))
    with recorded.month(MONTH, corrected, replaces="first.csv") as result:
        result.remember()
        (line,) = result.lines("billed_twice")
        assert (result.in_dispute, line.remedy.rpartition(". ")[2]) == (0, "Dispute the repeated charge.")


def test_a_number_is_enough_to_resolve_a_dispute(finance: Finance) -> None:
    """The books of all accounts are searched for the number; an unknown number changes nothing."""
    guard, ledger = finance.world.guard, finance.world.ledger
    guard.record("qingbo", "a", COST, labels={"project": "x"}, at=at(MONTH), account="studio")
    for account in ("qingbo", "studio"):
        statement = finance.statement(("t" if account == "qingbo" else "a", 2 * COST, at(MONTH)))
        with finance.month(MONTH, statement, account=account, max_unreadable_percent=100) as result:
            assert result.dispute(reason="too dear") == 1
    (studio,) = list_disputes(ledger, provider="qingbo", account="studio")
    done = run("dispute", "resolve", str(studio.number), "--reason", "refused", "--json", ledger=ledger)
    assert (done.returncode, json.loads(done.stdout)["task_id"]) == (0, "a"), done.stderr
    (own,) = list_disputes(ledger, provider="qingbo", account="qingbo")
    assert own.is_open
    assert resolve_dispute(ledger, own.number, provider="qingbo", reason="refused").task_id == "t"
    with pytest.raises(KlingPricingError, match="there is no dispute 9999 in the ledger"):
        resolve_dispute(ledger, 9999, reason="refused")
    with pytest.raises(KlingPricingError, match="there is no dispute 9999 with qingbo"):
        resolve_dispute(ledger, 9999, provider="qingbo", account="studio", reason="refused")


def test_a_dispute_that_has_ended_is_not_resolved_again(finance: Finance) -> None:
    """The command says how and when it ended; it fails unless the dispute was resolved for the same reason."""
    ledger = finance.world.ledger
    statement = finance.statement(("t", 2 * COST, at(MONTH)), ("u", 2 * COST, at(MONTH, 6)), name="first.csv")
    with finance.month(MONTH, statement) as result:
        assert result.dispute(reason="too dear") == 2
    numbers = {each.task_id: each.number for each in list_disputes(ledger, provider="qingbo")}
    accept = ("dispute", "resolve", str(numbers["t"]), "--reason", "accepted")
    assert run(*accept, ledger=ledger).stderr == ""
    again = run(*accept, ledger=ledger)
    assert again.returncode == 0
    assert f"dispute {numbers['t']} was already resolved, at " in again.stderr
    other = run(*accept[:-1], "refunded", ledger=ledger)
    assert (other.returncode, other.stdout) == (1, "")
    assert " UTC: accepted; nothing was changed" in other.stderr
    corrected = finance.statement(("t", 2 * COST, at(MONTH)), ("u", COST, at(MONTH, 6)), name="second.csv")
    with finance.month(MONTH, corrected, replaces="first.csv") as result:
        result.remember()
        before = result.payable()
    ended = run("dispute", "resolve", str(numbers["u"]), "--reason", "corrected", ledger=ledger)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert f"dispute {numbers['u']} already ended, at " in ended.stderr
    assert (
        "because second.csv no longer contains the charge first.csv:3, which therefore does not" in ended.stderr
    )
    withdrawn = list_disputes(ledger, provider="qingbo")[-1]
    assert (withdrawn.resolved_at, withdrawn.withdrawn_by) == (None, "second.csv")
    listed = run("dispute", "list", "--all", "--provider", "qingbo", ledger=ledger).stdout
    assert f"; ended {withdrawn.withdrawn_at:%Y-%m-%d}, because second.csv lacks the row\n" in listed
    with finance.month(MONTH, corrected) as result:
        assert result.payable() == before


def reconciled(finance: Finance, statement: Path, *words: str) -> Done:
    """Runs `kling-pricing reconcile` for the month."""
    month = ("--provider", "qingbo", "--month", MONTH, "--statement", statement)
    return run("reconcile", *month, *words, ledger=finance.world.ledger)


def test_the_output_says_what_is_not_disputed_and_which_dispute_is_not_needed(finance: Finance) -> None:
    """A stranger is left alone; once a disputed stranger is recorded, the command says how to resolve."""
    statement = finance.statement(
        ("t", COST, at(MONTH)), ("u", COST, at(MONTH, 6)), ("stranger", COST, at(MONTH))
    )
    dispute = ("--dispute", "--reason", "not ours")
    done = reconciled(finance, statement, *dispute)
    assert (
        "disputes opened: 0\nnot disputed: 1 charge for tasks that are not in the ledger; record" in done.stdout
    )
    done = reconciled(finance, statement, *dispute, "--dispute-also", "not_in_ledger")
    assert "disputes opened: 1\n" in done.stdout
    assert "not disputed" not in done.stdout
    finance.world.guard.record("qingbo", "stranger", COST, labels={"project": "x"}, at=at(MONTH))
    (opened,) = list_disputes(finance.world.ledger, provider="qingbo")
    done = reconciled(finance, statement)
    assert (
        f"dispute {opened.number} about stranger is still open, although the charge needs no action any more; "
        f"if you accept the charge, run `kling-pricing dispute resolve {opened.number} --reason TEXT`"
    ) in done.stdout
    resolve_dispute(finance.world.ledger, opened.number, reason="ours")
    assert "still open" not in reconciled(finance, statement).stdout
    wrong = reconciled(finance, statement, "--dispute-also", "not_in_ledger")
    assert (wrong.returncode, "--dispute-also needs --dispute" in wrong.stderr) == (2, True)


def test_settle_names_its_tasks(finance: Finance) -> None:
    """A plan names the tasks that it would settle, the run those that it settled; at most ten."""
    tasks = ["t", "u", *(f"t-{number:02}" for number in range(10))]
    reservations = [finance.send(task, MONTH, 7) for task in tasks[2:]]
    statement = finance.statement(*((task, COST, at(MONTH, 8)) for task in tasks))
    listed = "".join(f"  {task}: 0.714 USD\n" for task in tasks[:10]) + "  and 2 more\n"
    done = reconciled(finance, statement, "--settle", "--dry-run")
    assert f"--settle would settle 12 reservations\n{listed}" in done.stdout
    done = reconciled(finance, statement, "--settle", "--json")
    settled = json.loads(done.stdout)
    assert (settled["settled"]["settled"], settled["first_settled"][0]) == (
        12,
        settled["first_settled"][0] | {"task_id": "t", "amount": "0.714", "currency": "USD"},
    )
    assert [task["task_id"] for task in settled["first_settled"]] == tasks[:10]
    assert "settled: 0, bound: 0, refused: 0\nthe" in reconciled(finance, statement, "--settle").stdout
    assert finance.world.guard.reservation(reservations[-1]).billed == Decimal("0.714")


def test_remembered_statements_do_not_vouch_for_another_file(finance: Finance) -> None:
    """A file of strangers, or without rows, stays unreconciled although the books have the month's charges."""
    finance.lines(MONTH, finance.statement(("t", COST, at(MONTH)), ("u", COST, at(MONTH, 6))))
    strangers = finance.statement(("stranger", COST, at(MONTH)), ("another", COST, at(MONTH)))
    for file, gap in (
        (strangers, "nothing was compared, because none of the tasks on the statement is in the ledger"),
        (finance.statement(), "nothing was compared, because the statement has no rows"),
    ):
        with finance.month(MONTH, file) as result:
            assert result.gaps == (gap,)
            with pytest.raises(KlingPricingError, match="not reconciled"):
                result.settle()
    with finance.month(MONTH, finance.statement(("t", COST, at(MONTH)))) as result:
        assert result.gaps == ()
