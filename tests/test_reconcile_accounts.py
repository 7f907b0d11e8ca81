"""Statements and books belong to an account at a provider, on both kinds of store."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest

from kling_pricing import Budget, BudgetGuard, KlingPricingError, PriceBook, StatementError
from kling_pricing.reconcile import (
    Reconciliation,
    close_month,
    closed_months,
    list_disputes,
    open_dispute,
    reconcile,
    resolve_dispute,
    write_off,
)
from kling_pricing.reports import write_reports
from tests import commands

NOON = datetime(2026, 10, 5, 12, tzinfo=UTC)
OCTOBER: dict[str, Any] = {
    "since": datetime(2026, 10, 1, tzinfo=UTC),
    "until": datetime(2026, 11, 1, tzinfo=UTC),
}
BUDGETS = [Budget(name="all", cap=Decimal(100), currency="USD")]
COSTS = {"a-1": "0.714", "a-2": "0.357", "b-1": "0.5", "b-2": "0.25", "b-3": "0.1"}

Compare = Callable[..., Reconciliation]


def statement(folder: Path, name: str, **charges: str) -> Path:
    """Writes a statement with one charge per task, in USD; `_` in a keyword stands for `-`."""
    at = int(NOON.timestamp() * 1000)
    rows = [
        f"{task.replace('_', '-')},kling-v3,completed,{at},{Decimal(cost) * 500000:.0f}"
        for task, cost in charges.items()
    ]
    path = folder / f"{name}.csv"
    path.write_text("\n".join(["task_id,model,status,created_at,cost", *rows, ""]))
    return path


@pytest.fixture
def studio(ledger: str, book: PriceBook) -> str:
    """A ledger with the tasks of two accounts: `a-1` and `a-2` of `a`, and three of `b`."""
    with BudgetGuard(ledger, BUDGETS, book=book) as guard:
        for task_id, cost in COSTS.items():
            guard.record(*("qingbo", task_id, cost), labels={"project": "trailer"}, at=NOON, account=task_id[0])
    return ledger


@pytest.fixture
def compare(studio: str, book: PriceBook, tmp_path: Path) -> Compare:
    """Returns a function that reconciles a statement of October with charges."""

    def compared(account: str | None, **charges: str) -> Reconciliation:
        path = statement(tmp_path, f"of-{account}", **charges)
        return reconcile(studio, path, provider="qingbo", account=account, book=book, **OCTOBER)

    return compared


def sums(reconciled: Reconciliation) -> list[tuple[str, int, Decimal, Decimal]]:
    """Returns the name, lines, expected amount and billed amount of each category."""
    return [(total.name, total.lines, total.expected, total.billed) for total in reconciled.totals("category")]


def test_only_the_tasks_of_the_account_are_expected(compare: Compare) -> None:
    """The tasks of the other account are neither expected nor missing."""
    with compare("a", a_1="0.714", a_2="0.357") as reconciled:
        assert sums(reconciled) == [("matched", 2, Decimal("1.071"), Decimal("1.071"))]
        assert (reconciled.provider, reconciled.account, reconciled.gaps) == ("qingbo", "a", ())
    with compare("b", b_1="0.5", b_2="0.25") as reconciled:
        assert sums(reconciled) == [
            ("not_billed", 1, Decimal("0.1"), Decimal(0)),
            ("matched", 2, Decimal("0.75"), Decimal("0.75")),
        ]


def test_an_account_must_be_chosen_if_there_are_several(compare: Compare) -> None:
    """Without a choice, and for an unknown account, the error names the accounts."""
    with pytest.raises(
        KlingPricingError, match=r"2 accounts at qingbo, each with .* own: a, b; choose one with"
    ):
        compare(None, a_1="0.714")
    with pytest.raises(KlingPricingError, match="unknown account 'c' at qingbo; use one of: a, b"):
        compare("c", a_1="0.714")


def test_the_only_account_is_chosen(ledger: str, book: PriceBook, tmp_path: Path) -> None:
    """A ledger with one account needs no choice, whether or not the account has a name."""
    path = statement(tmp_path, "october", t_1="0.5")
    for account, chosen in ((None, "qingbo"), ("studio", "studio")):
        with BudgetGuard(ledger, BUDGETS, book=book) as guard:
            guard.record("qingbo", f"of {chosen}", "0.5", labels={"project": "x"}, at=NOON, account=account)
        if account is None:
            with reconcile(ledger, path, provider="qingbo", book=book, **OCTOBER) as reconciled:
                assert reconciled.account == chosen
    with pytest.raises(
        KlingPricingError, match=r"2 accounts at qingbo, each with .* own: qingbo, studio; choose"
    ):
        reconcile(ledger, path, provider="qingbo", book=book, **OCTOBER)


def test_the_statement_of_another_account_is_named_first(compare: Compare) -> None:
    """If most tasks belong to another account here, nothing is reconciled or booked."""
    with compare("a", b_1="0.5", b_2="0.25", b_3="0.1", a_1="0.714") as reconciled:
        assert reconciled.gaps[0] == (
            "the statement seems to be of account b: the ledger has b-1 as a task of account b, not of a"
        )
        with pytest.raises(StatementError, match=r"seems to be of account b: .* right provider and account"):
            reconciled.remember()


def test_a_single_task_of_another_account_is_not_recorded(compare: Compare) -> None:
    """Its remedy names the account, and is no command: recording the task again would count it twice."""
    with compare("a", a_1="0.714", a_2="0.357", b_1="0.5", stranger="0.5") as reconciled:
        lines = {line.task_id: line for line in reconciled.lines("not_in_ledger")}
        assert lines["b-1"].cause == lines["b-1"].shared_cause == "the task was not sent from this account"
        assert lines["b-1"].remedy == (
            "The ledger says that the task was sent from account b. Find out which account sent it; if it was "
            "b, ask the provider why it charges account a."
        )
        command = "kling-pricing record --project PROJECT --account a --currency USD --at 2026-10-05T12:00:00Z"
        assert f"{command} -- qingbo stranger 0.5" in lines["stranger"].remedy
        assert reconciled.gaps == ()


def test_every_account_has_books_of_its_own(compare: Compare, studio: str, book: PriceBook) -> None:
    """Statements, disputes, write-offs and closed months of one account do not affect the other."""
    with compare("a", a_1="0.8", a_2="0.357") as reconciled:
        reconciled.remember()
        reconciled.dispute(reason="too dear")
    with compare("b", b_1="0.5", b_2="0.25") as reconciled:
        (payable,) = reconciled.payable()
        assert (payable.pay, payable.disputed, payable.accrue) == (Decimal("0.75"), Decimal(0), Decimal("0.1"))
        reconciled.remember()
    of_a: dict[str, Any] = {"provider": "qingbo", "account": "a"}
    of_b: dict[str, Any] = {"provider": "qingbo", "account": "b"}
    (dispute,) = list_disputes(studio, **of_a)
    assert (dispute.task_id, dispute.amount, list_disputes(studio, **of_b)) == ("a-1", Decimal("0.086"), [])
    assert resolve_dispute(studio, dispute.number, **of_a, reason="refunded").resolution == "refunded"
    assert open_dispute(studio, "b-1", **of_b, amount="0.1", reason="late").amount == Decimal("0.1")
    assert write_off(studio, "b-3", **of_b, reason="never charged").amount == Decimal("0.1")
    (closed,) = close_month(studio, "2026-10", **of_a)
    assert (closed.account, closed.closed.books) == (("qingbo", "a"), "qingbo/a")
    assert {line.account: line.amount for line in closed.journal} == {
        "expense": Decimal("1.071"),
        "variance": Decimal("0.086"),
        "liability": Decimal("1.157"),
    }
    assert closed_months(studio, **of_b) == []
    assert closed_months(studio, **of_a) == [closed]
    with pytest.raises(KlingPricingError, match="2 accounts at qingbo"):
        close_month(studio, "2026-10", provider="qingbo")
    with BudgetGuard(studio, book=book) as guard:
        guard.verify()


def test_a_charge_is_remembered_in_its_account_only(compare: Compare) -> None:
    """A statement that was remembered for one account is not the memory of another."""
    with compare("a", a_1="0.714", a_2="0.357") as reconciled:
        reconciled.remember()
    with compare("a", a_1="0.714", a_2="0.357") as again:
        assert again.remember().rows == 0
    with compare("b", b_1="0.5", b_2="0.25", b_3="0.1") as other:
        assert other.remember().rows == 3


def test_ledgers_may_have_the_same_task_in_two_accounts(studio: str, book: PriceBook, tmp_path: Path) -> None:
    """A copy of a task in another account of a second ledger does not count as reserved twice."""
    second = f"sqlite:///{tmp_path}/second.db"
    with BudgetGuard(second, BUDGETS, book=book) as guard:
        guard.record("qingbo", "a-1", "0.714", labels={"project": "other"}, at=NOON, account="b")
    path = statement(tmp_path, "october", a_1="0.714", a_2="0.357")
    with reconcile([studio, second], path, provider="qingbo", account="a", book=book, **OCTOBER) as reconciled:
        assert sums(reconciled) == [("matched", 2, Decimal("1.071"), Decimal("1.071"))]


def test_a_ledger_without_names_counts_too(ledger: str, book: PriceBook, tmp_path: Path) -> None:
    """Jobs without a name in one ledger and a named account in another are two accounts."""
    second = f"sqlite:///{tmp_path}/second.db"
    path = statement(tmp_path, "october", t_1="0.5")
    for url, account in ((ledger, None), (second, "a")):
        with BudgetGuard(url, BUDGETS, book=book) as guard:
            guard.record(
                "qingbo", f"task of {account}", "0.5", labels={"project": "x"}, at=NOON, account=account
            )
    with pytest.raises(KlingPricingError, match=r"2 accounts at qingbo, each with .* own: a, qingbo; choose"):
        reconcile([ledger, second], path, provider="qingbo", book=book, **OCTOBER)
    with reconcile([second], path, provider="qingbo", book=book, **OCTOBER) as reconciled:
        assert reconciled.account == "a"


def test_reports_name_the_account(compare: Compare, book: PriceBook, tmp_path: Path) -> None:
    """The title and the facts have the account, and FOCUS has it as the billing account."""
    with compare("a", a_1="0.714", a_2="0.357") as reconciled:
        write_reports(reconciled, tmp_path / "out", formats=["json", "focus"], book=book)
        write_reports(reconciled, tmp_path / "own", formats=["focus"], book=book, billing_account="77-1")
    document = json.loads((tmp_path / "out" / "report.json").read_text())
    assert document["title"] == "qingbo, account a, October 2026"
    for folder, account in (("out", "a"), ("own", "77-1")):
        found = duckdb.execute(f"SELECT DISTINCT BillingAccountId FROM '{tmp_path}/{folder}/focus.parquet'")
        assert found.fetchall() == [(account,)]


# the command line


def run(*arguments: Any, ledger: str) -> commands.Done:
    """Runs `kling-pricing` on a ledger."""
    return commands.run(*arguments, ledger=ledger)


def test_an_account_alone_implies_its_provider(studio: str, tmp_path: Path) -> None:
    """`--account` finds the provider; an unknown account and a contradiction are errors."""
    path = ("--statement", statement(tmp_path, "october", a_1="0.714", a_2="0.357"), "--month", "2026-10")
    done = run("reconcile", *path, "--account", "a", "--json", ledger=studio)
    answer = json.loads(done.stdout)
    assert (done.returncode, answer["provider"], answer["account"]) == (0, "qingbo", "a")
    wrong = run("reconcile", *path, "--account", "aa", ledger=studio)
    assert wrong.returncode == 2
    assert "unknown account 'aa'; did you mean 'a'?" in wrong.stderr
    contradiction = run("reconcile", *path, "--account", "a", "--provider", "qingbo-ai", ledger=studio)
    assert contradiction.returncode == 2
    assert "unknown account 'a' at qingbo-ai; use one of: qingbo-ai" in contradiction.stderr
    several = run("reconcile", *path, "--provider", "qingbo", ledger=studio)
    assert "the ledger has 2 accounts at qingbo" in several.stderr
    assert "choose one with --account" in several.stderr


def test_the_commands_about_books_take_an_account(studio: str, tmp_path: Path) -> None:
    """`month`, `dispute` and `write-off` take `--account` alone, or with its provider."""
    path = ("--statement", statement(tmp_path, "october", a_1="0.9"), "--month", "2026-10")
    disputed = run(*("reconcile", *path, "--account", "a", "--dispute", "--reason", "too dear"), ledger=studio)
    assert "disputes opened: 1" in disputed.stdout
    listed = json.loads(run("dispute", "list", "--account", "a", "--json", ledger=studio).stdout)
    assert [dispute["task_id"] for dispute in listed] == ["a-1"]
    assert run("dispute", "list", "--account", "b", ledger=studio).stdout == "no open disputes\n"
    written = run("write-off", "a-2", "--account", "a", "--reason", "never", "--json", ledger=studio)
    assert json.loads(written.stdout)["amount"] == "0.357"
    both = ("--provider", "qingbo", "--account", "a")
    closed = json.loads(run("month", "close", "2026-10", *both, "--json", ledger=studio).stdout)
    assert [(month["provider"], month["account"]) for month in closed] == [("qingbo", "a")]
    assert run("month", "list", "--account", "b", ledger=studio).stdout == "no closed months\n"
    missing = run("month", "list", ledger=studio)
    assert (missing.returncode, missing.stdout) == (2, "")
    assert "give --provider, or the --account of a provider" in missing.stderr


def test_months_that_were_closed_later_are_left_out(studio: str) -> None:
    """`month list --as-of` shows the months that were closed then, with the same journals."""
    run("month", "close", "2026-10", "--account", "a", ledger=studio)
    listed = run("month", "list", "--account", "a", ledger=studio).stdout
    assert run("month", "list", "--account", "a", "--as-of", "2099-01-01", ledger=studio).stdout == listed
    earlier = run("month", "list", "--account", "a", "--as-of", "2026-10-31", ledger=studio)
    assert earlier.stdout == "no closed months\n"
    assert "intact" in listed


def test_two_providers_are_not_taken_for_one(studio: str, tmp_path: Path) -> None:
    """A repeated `--provider` is refused, and the error says how to name the provider of each statement."""
    path = ("--statement", statement(tmp_path, "october", a_1="0.714"), "--month", "2026-10")
    done = run("reconcile", *path, "--provider", "qingbo", "--provider", "kling", ledger=studio)
    assert done.returncode == 2
    assert "write --statement PROVIDER=FILE for each statement" in " ".join(done.stderr.split())
