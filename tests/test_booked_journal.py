"""The journal in cents: accounts, cost centres, exchange rates, rounding, and the files that give them."""

import csv
import json
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kling_pricing import KlingPricingError, PriceBook, TableError
from kling_pricing.reconcile import Payable
from kling_pricing.reconcile.model import BookingGroup
from kling_pricing.reports import AccountsFile, Booking, load_accounts, load_exchange_rates, write_reports
from kling_pricing.reports.booked_journal import booked_entries
from kling_pricing.reports.currency_decimals import cents
from tests.bookings import check_entry, rates_file
from tests.commands import run
from tests.conftest import Clock, examples
from tests.test_reconcile import NOON, SINCE, UNTIL, World

DAYS = (date(2026, 11, 1), date(2026, 11, 30))
ACCOUNTS = """\
accounts:
  expense: {code: "6310"}
  liability: {code: "2310", name: Accruals}
  rounding: {code: "6990"}
  exchange: {code: "6880"}
rules:
  - match: {team: [vfx, edit]}
    cost_centre: "4711"
    accounts:
      expense: {code: "6311", name: Effects}
  - match: {project: trailer}
    cost_centre: "4712"
  - provider: qingbo
    cost_centre: "4700"
    tax_text: reverse charge
"""
D = Decimal


def group(project: str, expense: str, **more: Any) -> BookingGroup:
    """Returns a group of one task of the first day of the month that costs as much as expected."""
    values: dict[str, Any] = {"labels": {"project": project}, "day": DAYS[0], "currency": "USD"} | more
    amount = D(expense)
    return BookingGroup(
        project, tasks=1, expense=amount, variance=D(0), disputed=D(0), liability=amount, **values
    )


def owed(amount: str, currency: str = "USD") -> Payable:
    """Returns the amounts of a month in which nothing was charged."""
    return Payable(currency, D(0), D(0), D(0), D(amount))


def accounts_file(folder: Path, text: str, book: PriceBook) -> AccountsFile:
    """Writes and reads an accounts file."""
    (folder / "accounts.yaml").write_text(text, encoding="utf-8")
    return load_accounts(folder / "accounts.yaml", book=book)


def test_rounding_has_a_line_of_its_own() -> None:
    """Three thirds of a dollar lose a cent, and the rounding line books it."""
    thirds = [group(name, "0.333333333") for name in "abc"]
    (entry,) = booked_entries(thirds, [owed("0.999999999")], "qingbo", DAYS, Booking())
    assert [(line.account, line.amount) for line in entry.lines] == [
        *[("expense", D("0.33"))] * 3,
        *(("liability", D("-1.00")), ("rounding", D("0.01"))),
    ]
    assert entry.rounding == D("0.009999999")
    check_entry(entry)


def test_each_currency_is_rounded_to_its_own_decimals() -> None:
    """Yen have no decimals, dinars have three, and both sides of zero are rounded alike."""
    assert [cents(D("12.5"), "JPY"), cents(D("-12.5"), "JPY")] == [D(13), D(-13)]
    assert (cents(D("1.0005"), "KWD"), cents(D("1.005"), "USD")) == (D("1.001"), D("1.01"))
    (entry,) = booked_entries(
        [group("a", "12.4", currency="JPY")], [owed("12.4", "JPY")], "qingbo", DAYS, Booking()
    )
    assert [f"{line.amount}" for line in entry.lines] == ["12", "-12"]


def test_accounts_and_cost_centres_come_from_the_first_rule_that_gives_them(
    tmp_path: Path, book: PriceBook
) -> None:
    """A task takes each of account, cost centre and tax text from the first rule about it that has one."""
    accounts = accounts_file(tmp_path, ACCOUNTS, book)
    groups = [
        group("trailer", "1", labels={"team": "vfx"}),
        group("trailer", "2", labels={"team": "sound"}),
        group("teaser", "4", labels={}),
    ]
    (entry,) = booked_entries(groups, [owed("7")], "qingbo", DAYS, Booking(accounts))
    booked = {line.amount: (line.code, line.name, line.cost_centre, line.tax_text) for line in entry.lines}
    assert booked == {
        D(1): ("6311", "Effects", "4711", "reverse charge"),
        D(2): ("6310", "Video generation", "4712", "reverse charge"),
        D(4): ("6310", "Video generation", "4700", "reverse charge"),
        D(-7): ("2310", "Accruals", None, "reverse charge"),
    }
    assert accounts.cost_centre("kling", {}) is None


def test_another_currency_is_booked_at_the_rates_of_its_days(tmp_path: Path) -> None:
    """Costs have the rate of their day, the liability that of the last day, and the difference is a line."""
    rates = rates_file(tmp_path)
    groups = [group("a", "10", day=date(2026, 11, 27)), group("b", "10", day=date(2026, 11, 28))]
    (entry,) = booked_entries(groups, [owed("25")], "qingbo", DAYS, Booking(AccountsFile(), rates))
    lines = [(line.account, line.exact, line.original) for line in entry.lines]
    assert lines == [
        ("expense", D("8.642"), D(10)),
        ("expense", D("8.591"), D(10)),
        ("exchange", D("-0.051"), None),
        ("exchange", D("-0.0255"), None),
        ("liability", D("-17.1565"), D(-20)),
        ("rounding", D("0.01"), None),
    ]
    older = "; the rate of 2026-11-28 for 2026-11-30, 2 days older"
    assert [line.memo for line in entry.lines if line.account == "expense"] == [
        "used, at the expected amount; the rate of 2026-10-31 for 2026-11-27, 27 days older",
        "used, at the expected amount",
    ]
    assert [(dated.day, dated.age_days) for dated in entry.older_rates] == [
        (date(2026, 11, 27), 27),
        (date(2026, 11, 30), 2),
    ]
    assert [line.memo for line in entry.lines if line.account in {"exchange", "liability"}] == [
        f"from the days of use to the end of the period{older}",
        f"of the amount owed at the start of the period{older}",
        f"invoiced or owed{older}",
    ]
    check_entry(entry)


def test_a_currency_without_a_rate_is_an_error(tmp_path: Path) -> None:
    """The error names the file, the currency, the day and the place for the rate."""
    rates = rates_file(tmp_path)
    with pytest.raises(
        KlingPricingError, match=r"rates\.yaml: no rate for CNY on 2026-11-01 or an earlier day; "
    ):
        booked_entries([group("a", "1", currency="CNY")], [], "qingbo", DAYS, Booking(AccountsFile(), rates))


AMOUNTS = st.decimals(D(-50), D(50), places=9)
GROUPS = st.builds(
    lambda project, day, currency, expense, variance, disputed: BookingGroup(
        *(project, {}, DAYS[0] + timedelta(days=day), currency, 1),
        *(expense, variance, disputed, expense + variance + disputed),
    ),
    st.sampled_from(("", "a", "b")),
    st.integers(0, 29),
    st.sampled_from(("USD", "EUR")),
    *[AMOUNTS] * 3,
)


@settings(max_examples=examples(60))
@given(groups=st.lists(GROUPS, max_size=12), accrued=AMOUNTS.map(abs), invoiced=AMOUNTS)
def test_cents_and_the_rounding_line_are_the_exact_totals(
    tmp_path_factory: pytest.TempPathFactory, groups: list[BookingGroup], accrued: Decimal, invoiced: Decimal
) -> None:
    """In either currency, lines in cents and the rounding line add up to the exact liability, to the digit."""
    rates = rates_file(tmp_path_factory.getbasetemp())
    payables = [Payable(currency, invoiced, invoiced, D(0), accrued) for currency in ("USD", "EUR")]
    for booking in (Booking(), Booking(AccountsFile(), rates)):
        for entry in booked_entries(groups, payables, "qingbo", DAYS, booking):
            check_entry(entry)


BAD_ACCOUNTS = [
    (
        "rules: [{provider: qingboo, cost_centre: x}]",
        r"accounts\.yaml:1: rules\[0\]\.provider: unknown provider",
    ),
    ("rules:\n  - {match: {a: b}}", r"accounts\.yaml:2: rules\[0\]: the rule gives nothing; add cost_centre"),
    ("accounts: {expense: {code: 6310}}", r"accounts\.expense\.code: must be text, got 6310; put it in quot"),
    ("acounts: {}", r"acounts: unknown key; did you mean 'accounts'"),
    ("rules: [{accounts: {liability: {code: a}}}]", r"rules\[0\]\.accounts\.liability: unknown key"),
]


@pytest.mark.parametrize(("text", "problem"), BAD_ACCOUNTS)
def test_a_mistake_in_the_accounts_has_a_place_and_a_remedy(
    tmp_path: Path, book: PriceBook, text: str, problem: str
) -> None:
    """Each mistake is an error with the file, the line and the key path."""
    with pytest.raises(TableError, match=problem):
        accounts_file(tmp_path, text, book)


BAD_RATES = [
    ("rates: {}", r"book_currency: this key is required; add it"),
    (
        "book_currency: EUR\nrates: {EUR: {2026-11-01: 1}}",
        r"rates\.yaml:2: rates\.EUR: a unit of the book curren",
    ),
    ("book_currency: EUR\nrates: {USD: {2026-11-01: 0}}", r"must be above zero; write the value of one unit"),
    ("book_currency: EUR\nrates: {USD: {2026-11: 1.1}}", r"must be a day such as 2026-04-29, got '2026-11'"),
    (
        "book_currency: EUR\nrates: {usd: {2026-11-01: 1.1}}",
        r"must be an ISO 4217 code of three capital letters",
    ),
    ("book_currency: EUR\nrates: {USD: {2026-11-01: 1.0123456789}}", r"has 10 decimal places, but the maximum"),
]


@pytest.mark.parametrize(("text", "problem"), BAD_RATES)
def test_a_mistake_in_the_rates_has_a_place_and_a_remedy(tmp_path: Path, text: str, problem: str) -> None:
    """Each mistake is an error with the file and the key path; no rate is rounded."""
    (tmp_path / "rates.yaml").write_text(text)
    with pytest.raises(TableError, match=problem):
        load_exchange_rates(tmp_path / "rates.yaml")


def test_a_missing_file_is_an_error(tmp_path: Path, book: PriceBook) -> None:
    """The error names the path."""
    problem = r"none\.yaml: cannot be read: No such file or directory; check the path"
    with pytest.raises(TableError, match=problem):
        load_exchange_rates(tmp_path / "none.yaml")
    with pytest.raises(TableError, match=problem):
        load_accounts(tmp_path / "none.yaml", book=book)


@pytest.fixture
def world(tmp_path: Path, book: PriceBook) -> World:
    """A guard with two tasks, one of them charged."""
    world = World(f"sqlite:///{tmp_path}/spend.db", book, Clock(NOON), tmp_path)
    world.send("t-1")
    world.send("t-2", duration=7)
    world.bill("t-1", 357000)
    return world


def test_the_journal_file_has_cents_codes_and_text_for_excel(world: World, tmp_path: Path) -> None:
    """The CSV file begins with a byte order mark, and its amounts keep both decimals."""
    booking = Booking(accounts_file(tmp_path, ACCOUNTS, world.book))
    with world.reconcile() as result:
        write_reports(result, tmp_path / "out", formats=["csv", "json"], book=world.book, booking=booking)
    data = (tmp_path / "out" / "journal.csv").read_bytes()
    assert data.startswith(b"\xef\xbb\xbf")
    rows = list(csv.DictReader(data.decode("utf-8-sig").splitlines()))
    assert [(row["account_code"], row["cost_centre"], row["debit"], row["credit"]) for row in rows] == [
        ("6310", "4712", "1.71", ""),
        ("2310", "", "", "1.71"),
    ]
    assert [row["exact"] for row in rows] == ["1.7136", "-1.7136"]
    report = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert [row["debit"] for row in report["tables"]["journal"]["rows"]] == ["1.71", None]


def test_the_command_books_with_accounts_and_rates(world: World, tmp_path: Path) -> None:
    """`--accounts` and `--fx` shape the journal; a rate that is missing changes neither books nor folder."""
    accounts, rates = tmp_path / "accounts.yaml", tmp_path / "rates.yaml"
    accounts.write_text(ACCOUNTS)
    rates_file(tmp_path)
    period = ("--from", f"{SINCE:%Y-%m-%d}", "--until", f"{UNTIL:%Y-%m-%d}", "--provider", "qingbo")
    words = ("reconcile", "--ledger", world.ledger, "--statement", str(world.statement()), *period)
    out = tmp_path / "out"
    files = ("--out", str(out), "--format", "csv", "--no-bom", "--accounts", str(accounts), "--fx", str(rates))
    late = "book_currency: EUR\nrates: {USD: {2027-01-01: 0.9}}"
    (tmp_path / "late.yaml").write_text(late)
    refused = run(*words, *files[:-1], str(tmp_path / "late.yaml"), "--remember")
    assert (refused.returncode, out.exists()) == (2, False)
    assert "no rate for USD on" in refused.stderr
    assert (
        run("dispute", "list", "--ledger", world.ledger, "--provider", "qingbo").stdout == "no open disputes\n"
    )
    done = run(*words, *files)
    assert done.returncode in {0, 1}
    rows = list(csv.DictReader((out / "journal.csv").read_text(encoding="utf-8").splitlines()))
    assert {row["currency"] for row in rows} == {"EUR"}
    assert [row["original_currency"] for row in rows if row["account_code"] == "6310"] == ["USD"]
    debit, credit = (sum(D(row[side] or 0) for row in rows) for side in ("debit", "credit"))
    assert debit == credit > 0


@pytest.mark.parametrize(("flag", "key"), [("--accounts-schema", "rules"), ("--fx-schema", "book_currency")])
def test_the_command_prints_the_schemas(flag: str, key: str) -> None:
    """A flag prints the JSON Schema for editors, without a statement."""
    done = run("reconcile", flag)
    assert (done.returncode, key in json.loads(done.stdout)["properties"]) == (0, True)
