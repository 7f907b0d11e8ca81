"""A period is reconciled only if its statement is whole: what is missing is said, and nothing else is."""

import csv
import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from kling_pricing import KlingPricingError, PriceBook, StatementError
from kling_pricing.reconcile import Invoice, Reconciliation
from kling_pricing.reports import write_reports
from tests import commands
from tests.conftest import Clock
from tests.test_books import COST, Finance, at
from tests.test_reconcile import HEADER

NOVEMBER = "2026-11"


@pytest.fixture
def finance(book: PriceBook, tmp_path: Path) -> Finance:
    """A ledger with the tasks `t` and `u` of November."""
    finance = Finance(f"sqlite:///{tmp_path}/spend.db", book, tmp_path)
    for day, task in enumerate("tu", 5):
        finance.send(task, NOVEMBER, day)
    return finance


def whole(finance: Finance, *more: str) -> Path:
    """Writes a statement that charges both tasks, with more lines below."""
    path = finance.statement(("t", COST, at(NOVEMBER)), ("u", COST, at(NOVEMBER, 6)), name="november.csv")
    path.write_text(path.read_text() + "".join(f"{line}\n" for line in more))
    return path


def gaps(result: Reconciliation) -> tuple[str, ...]:
    """Returns the gaps of a reconciliation, and closes it."""
    with result:
        return result.gaps


def test_a_total_that_agrees_is_no_charge_and_is_confirmed(finance: Finance) -> None:
    """A total below the rows is compared with them, and has no line."""
    with finance.month(NOVEMBER, whole(finance, "Total,,,,714000")) as result:
        assert {line.task_id: line.category for line in result.lines()} == {"t": "matched", "u": "matched"}
        assert (result.gaps, result.exceptions, result.rows.ignored) == ((), 0, 1)
        assert result.confirmed == (
            "november.csv:4 gives a total of 714000 quota, which is the sum of the rows",
        )


def test_subtotals_count_the_rows_since_the_total_before(finance: Finance) -> None:
    """A file can have a total for each of its parts, and one for all."""
    rows = whole(finance).read_text().splitlines()
    path = finance.world.folder / "parts.csv"
    path.write_text(
        "\n".join([rows[0], rows[1], "小计,,,,357000", rows[2], "小计,,,,357000", "合计,,,,714000", ""])
    )
    with finance.month(NOVEMBER, path) as result:
        assert (result.gaps, len(result.confirmed), result.rows.ignored) == ((), 3, 3)


def test_a_total_that_differs_leaves_the_month_open(finance: Finance) -> None:
    """A row that is missing from the file shows in its total."""
    with finance.month(NOVEMBER, whole(finance, "Total,,,,1071000")) as result:
        assert (result.exceptions, result.rows.invalid, result.rows.ignored) == (0, 0, 1)
        assert result.gaps == (
            (
                "november.csv:4 gives a total of 1071000 quota, but the sum of the readable rows is 714000 "
                "(find out which charges are missing or wrong, and keep this row)"
            ),
        )


@pytest.mark.parametrize(
    ("total", "gap"),
    [
        (
            "合计,,,,1071000",
            (
                "november.csv:5 gives a total of 1071000 quota, but the sum of the readable rows is 714000 "
                "(first correct the row that cannot be read, and keep this row)"
            ),
        ),
        (
            "合计,,,,about 1071000",
            "november.csv:5 is a total whose amount cannot be read (correct the amount, and keep this row)",
        ),
    ],
)
def test_a_total_above_unreadable_rows_stays_in_the_file(
    finance: Finance, tmp_path: Path, total: str, gap: str
) -> None:
    """The remedy keeps the total, which is neither unreadable, nor an exception, nor disputed."""
    path = whole(finance, "v,kling-v3,completed,soon,357000", total, "End of the report,,,,")
    with finance.month(NOVEMBER, path, max_unreadable_percent=50) as result:
        assert result.gaps == (gap,)
        assert [line.rows for line in result.lines("invalid_row")] == [("november.csv:4",)]
        assert (result.exceptions, result.rows.invalid, result.rows.ignored) == (1, 1, 2)
        write_reports(result, tmp_path / "out", formats=["disputes"])
    with (tmp_path / "out" / "disputes.csv").open(encoding="utf-8-sig") as file:
        assert [row["rows"] for row in csv.DictReader(file)] == ["november.csv:4"]
    shown = commands.run("statement", "check", path, "--provider", "qingbo")
    assert (shown.returncode, gap in shown.stdout) == (1, True)
    assert "remove the row" not in shown.stdout


def test_a_total_of_other_amounts_fails_the_check(finance: Finance) -> None:
    """`statement check` exits 1 if every row can be read, and the total is another sum."""
    path = whole(finance, "Total,,,,5")
    done = commands.run("statement", "check", path, "--provider", "qingbo")
    assert (done.returncode, "rows: 3 read, 0 unreadable, 1 ignored" in done.stdout) == (1, True)


@pytest.mark.parametrize(
    ("invoice", "gap"),
    [
        (Invoice(2 * COST, "USD"), None),
        (Invoice(Decimal("1.43"), "USD", "A-7"), None),
        (
            Invoice(Decimal("1.44"), "USD", "A-7"),
            "invoice A-7 has a total of 1.44 USD, but the sum of the rows is 1.428 USD, 0.012 less",
        ),
        (
            Invoice(Decimal("1.43"), "CNY"),
            (
                "the invoice has a total of 1.43 CNY, but the sum of the rows is 0 CNY (plus amounts in USD), "
                "1.43 less"
            ),
        ),
    ],
)
def test_the_invoice_is_compared_with_the_rows(finance: Finance, invoice: Invoice, gap: str | None) -> None:
    """The total of an invoice is the sum of the rows, rounded to the digits of the total."""
    assert gaps(finance.month(NOVEMBER, whole(finance), invoice=invoice)) == (() if gap is None else (gap,))


def test_an_invoice_and_a_percentage_are_checked(finance: Finance) -> None:
    """A currency in lower case, and a percentage above 100, are refused before anything is read."""
    for given, problem in (
        ({"invoice": Invoice(COST, "usd")}, "three capital letters"),
        ({"max_unreadable_percent": 101}, "must be from 0 to 100"),
    ):
        with pytest.raises(KlingPricingError, match=problem):
            finance.month(NOVEMBER, whole(finance), **given)


def test_unreadable_rows_leave_the_month_open_above_a_limit(finance: Finance) -> None:
    """One row of three that cannot be read is too much, unless the caller allows it."""
    path = whole(finance, "v,kling-v3,completed,soon,357000")
    assert gaps(finance.month(NOVEMBER, path)) == ("1 of 3 rows cannot be read, which is more than 1%",)
    assert gaps(finance.month(NOVEMBER, path, max_unreadable_percent=40)) == ()


@pytest.mark.parametrize(
    ("rows", "gap"),
    [
        ("", "nothing was compared, because the statement has no rows"),
        (
            "x,kling-v3,completed,1793880000000,357000\n",
            "nothing was compared, because none of the tasks on the statement is in the ledger",
        ),
        (
            "x,kling-v3,completed,1760000000000,357000\n",
            "nothing was compared, because the statement charges nothing in the period",
        ),
    ],
)
def test_a_month_of_which_nothing_was_compared_is_not_reconciled(finance: Finance, rows: str, gap: str) -> None:
    """An empty file, a file of strangers, and a file of another month do not tie out."""
    path = finance.world.folder / "other.csv"
    path.write_text(HEADER + rows)
    assert gaps(finance.month(NOVEMBER, path)) == (gap,)


def test_the_statement_of_another_provider_is_not_booked(finance: Finance) -> None:
    """Tasks that the ledger has for another provider are named, and such a statement is not remembered."""
    with finance.month(NOVEMBER, whole(finance), provider="qingbo-ai", mapping="qingbo-tasks") as result:
        assert result.gaps[0] == (
            "the statement seems to be from qingbo: the ledger has t as a task of qingbo, not of qingbo-ai"
        )
        with pytest.raises(StatementError, match="Nothing was booked; give the right provider"):
            result.remember()
    with finance.month(NOVEMBER, whole(finance)) as result:
        assert result.remember().statements == 1


def test_a_period_that_is_not_over_is_known(finance: Finance) -> None:
    """Before the end of the month, charges may still be missing."""
    for now, is_over in ((at(NOVEMBER, 20), False), (datetime(2026, 12, 1, tzinfo=UTC), True)):
        with finance.month(NOVEMBER, whole(finance), clock=Clock(now)) as result:
            assert result.is_over is is_over


def test_reports_begin_with_pay_dispute_and_accrue(finance: Finance, tmp_path: Path) -> None:
    """The verdict has the gaps, the first figures are what to pay, and FOCUS has the invoice."""
    out = tmp_path / "out"
    invoice = Invoice(Decimal("1.5"), "USD", "A-7")
    with finance.month(NOVEMBER, whole(finance), invoice=invoice) as result:
        write_reports(result, out, formats=["json", "focus", "html"], book=finance.world.book)
    report = json.loads((out / "report.json").read_text())
    assert report["verdict"]["headline"] == "Not reconciled"
    assert report["verdict"]["about"].startswith(
        "Invoice A-7 has a total of 1.5 USD, but the sum of the rows is 1.428 USD"
    )
    assert [(figure["title"], figure["amount"]) for figure in report["figures"][:3]] == [
        ("Pay", "1.428"),
        ("In dispute", "0"),
        ("Accrue", "0"),
    ]
    assert report["figures"][0]["about"] == (
        "of 1.428 charged in the period; preliminary, because the period is not reconciled"
    )
    assert "A-7" in (out / "focus.csv").read_text()


def test_the_command_exits_2_and_says_why(finance: Finance) -> None:
    """A month that is not reconciled has its own exit code, and never ties out."""
    path = whole(finance)
    command = ("reconcile", "--provider", "qingbo", "--statement", path, "--month", NOVEMBER)
    ledger = finance.world.ledger
    invoice = ("--invoice-total", "2", "--invoice-currency", "USD", "--invoice-id", "A-7")
    done = commands.run(*command, *invoice, ledger=ledger)
    assert done.returncode == 2
    assert done.stdout.splitlines()[-1] == (
        "not reconciled: invoice A-7 has a total of 2 USD, but the sum of the rows is 1.428 USD, 0.572 less"
    )
    assert "preliminary: pay 1.428 USD, in dispute 0, accrue 0" in done.stdout.splitlines()
    answer = json.loads(commands.run(*command, "--json", ledger=ledger).stdout)
    assert (answer["gaps"], answer["confirmed"]) == ([], [])
    assert answer["payable"] == [
        {
            "currency": "USD",
            "invoiced": "1.428",
            "pay": "1.428",
            "disputed": "0",
            "disputed_before": "0",
            "accrue": "0",
            "accrued_months": [],
        }
    ]
    assert commands.run(*command, "--invoice-id", "A-7", ledger=ledger).returncode == 2


def test_one_command_reconciles_several_providers(finance: Finance) -> None:
    """Each provider has its own statements and result, and the exit code is the highest."""
    finance.world.guard.record("kling", "k", 6, labels={"project": "trailer"}, at=at(NOVEMBER), currency="USD")
    packs = finance.world.folder / "packs.csv"
    packs.write_text(
        "task_id,model_name,resolution,duration,refer_video_input,video_sound,voice_control,deduction_time,"
        "deduction_amount\nk,kling-v3,1080p,5.04,false,native,false,1793858400000,6\n"
    )
    statements = ("--statement", f"qingbo={whole(finance)}", "--statement", f"kling={packs}")
    command = ("reconcile", *statements, "--month", NOVEMBER)
    ledger = finance.world.ledger
    shown = commands.run(*command, ledger=ledger).stdout
    assert shown.startswith("qingbo:\n")
    assert "\nkling:\n" in shown
    done = commands.run(*command, "--json", ledger=ledger)
    answers = json.loads(done.stdout)["reconciliations"]
    assert [answer["provider"] for answer in answers] == ["qingbo", "kling"]
    assert done.returncode == 1
    refused = commands.run(*command, "--replaces", "x", ledger=ledger)
    assert (refused.returncode, "--replaces applies to a single provider" in refused.stderr) == (2, True)
    unnamed = commands.run("reconcile", "--statement", packs, "--month", NOVEMBER, ledger=ledger)
    assert "needs its provider; give --provider, or write PROVIDER=FILE" in unnamed.stderr
    named = f"qingb={packs}"
    misspelled = commands.run("reconcile", "--statement", named, "--month", NOVEMBER, ledger=ledger)
    assert misspelled.returncode == 2
    assert "unknown provider 'qingb'; did you mean 'qingbo'?" in misspelled.stderr


def test_what_a_corrected_statement_changes_is_shown_first(finance: Finance) -> None:
    """`--dry-run` shows the plan and changes nothing; then the plan comes true."""
    ledger = finance.world.ledger
    command = ("reconcile", "--provider", "qingbo", "--month", NOVEMBER)
    assert commands.run(*command, "--statement", whole(finance), "--remember", ledger=ledger).returncode == 0
    half = COST / 2
    corrected = finance.statement(("t", half, at(NOVEMBER)), ("u", COST, at(NOVEMBER, 6)), name="corrected.csv")
    replace = (*command, "--statement", corrected, "--replaces", "november.csv", "--settle")
    plan = (
        "november.csv in the books is replaced: 1 task changed, 1 row withdrawn, 1 row added; "
        "1.428 USD becomes 1.071"
    )
    dry = commands.run(*replace, "--dry-run", ledger=ledger)
    shown = dry.stdout.splitlines()
    assert plan in shown
    assert "nothing was changed; --settle would settle 2 reservations" in shown
    done = commands.run(*replace, ledger=ledger).stdout.splitlines()
    assert plan in done
    assert "remembered: 1 statement, 2 rows" in done
