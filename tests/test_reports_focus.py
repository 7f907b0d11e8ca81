"""FOCUS 1.2 and 1.3: what their columns say, and that the official validator finds nothing wrong."""

import os
import re
import sqlite3
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import product
from pathlib import Path
from typing import Any

import duckdb
import pytest

from kling_pricing import Budget, BudgetGuard, PriceBook, load_price_book
from kling_pricing.reconcile import reconcile
from kling_pricing.reports import read_spend, write_reports, write_spend
from tests.conftest import AT, Clock, video
from tests.focus_validator import prepared
from tests.studio import SINCE, UNTIL, Month
from tests.test_reconcile import World

OCTOBER, NOVEMBER = datetime(2026, 10, 5, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC)

CRITERIA = (
    *("PUBLIC_PRICE_LIST_SUPPORTED", "NEGOTIATED_PRICING_SUPPORTED", "UNIT_PRICING_SUPPORTED"),
    *("USAGE_MEASUREMENT_SUPPORTED", "TAGGING_SUPPORTED", "VIRTUAL_CURRENCY_SUPPORTED"),
    *("BILLING_BASED_ON_PROVISIONED_RESOURCES_SUPPORTED", "RESOURCE_TYPE_ASSIGNMENT_SUPPORTED"),
    "PRICING_BILLING_CURRENCY_DIFFERENCES_SUPPORTED",
)
"""What the validator is told that the data has, so that it looks at those columns too."""

EITHER = {"InvoiceId-C-004-C", "InvoiceId-C-005-C"}
"""An invoice's id must be null where there is no invoice, and must not where there is one: the validator tests
both on every row, so one of them fails for any data; the rule that combines them must pass."""

CONTRACT = """\
extends: qingbo/2026-04-29
discount: 0.1
valid_from: 2026-11-01
sources:
  - {ref: contract, checked: 2026-11-01, authority: official}
"""


def charges(path: Path) -> list[dict[str, Any]]:
    """The rows of a Parquet file."""
    with duckdb.connect() as database:
        found = database.execute("SELECT * FROM read_parquet(?)", [str(path)])
        names = [column[0] for column in found.description or ()]
        return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


def test_a_charge_has_list_contracted_and_billed_cost(
    folder: Callable[..., Path], tmp_path: Path, clock: Clock
) -> None:
    """Under a contract the list cost is that of the published prices, the contracted cost what was expected."""
    book = load_price_book(folder({"prices/qingbo/contract.yaml": CONTRACT}))
    ledger = f"sqlite:///{tmp_path}/spend.db"
    with BudgetGuard(
        ledger, [Budget(name="all", cap=Decimal(9), currency="USD")], book=book, clock=clock
    ) as guard:
        clip = video(duration=5, resolution="1080p", audio=True)
        admission = guard.admit(clip, project="trailer", labels={"user": "li"})
        guard.dispatch(admission)
        guard.bind(admission, "t-1")
        guard.settle(admission, "0.7")
        guard.record("qingbo", "t-2", "0.25", labels={"project": "elsewhere"})
    out = tmp_path / "out"
    write_spend(read_spend(ledger, AT, AT + timedelta(days=1)), out, formats=["focus"], book=book)
    known, elsewhere = charges(out / "focus.parquet")
    assert (known["ListCost"], known["ContractedCost"], known["BilledCost"]) == (
        Decimal("0.714"),
        Decimal("0.6426"),
        Decimal("0.7"),
    )
    assert (known["ListUnitPrice"], known["ContractedUnitPrice"]) == (Decimal("0.1428"), Decimal("0.12852"))
    assert (known["PricingQuantity"], known["PricingUnit"], known["ResourceId"]) == (5, "Seconds", "t-1")
    assert known["Tags"] == '{"project": "trailer", "user": "li"}'
    assert (elsewhere["ListCost"], elsewhere["PricingQuantity"], elsewhere["PricingUnit"]) == (
        Decimal("0.25"),
        1,
        "Tasks",
    )


MAPPING = """\
statement: dollars
about: amounts in dollars
sources:
  - {ref: the test, checked: 2026-11-01, authority: official}
columns:
  task_id: {column: task_id}
  amount: {column: cost, unit: USD, decimals: 9}
  billed_at: {column: day, offset: "+00:00"}
"""
"""A mapping for a statement of three columns."""

LIST_PRICES = {"4k": Decimal("0.455345"), "1080p": Decimal("0.1428")}
"""The published prices of kling-v3 with audio, in USD per second."""


@pytest.mark.parametrize("source", ["spend", "reconciliation"])
@pytest.mark.parametrize("discount", ["0.0125", "0.0333"])
def test_list_cost_under_an_uneven_discount_is_the_published_price(
    folder: Callable[..., Path], tmp_path: Path, clock: Clock, discount: str, source: str
) -> None:
    """Whatever the length and the bill, the list cost is the quote at the published prices, to the digit."""
    contract = CONTRACT.replace("discount: 0.1", f"discount: {discount}")
    book = load_price_book(folder({"prices/qingbo/contract.yaml": contract}))
    ledger = f"sqlite:///{tmp_path}/spend.db"
    rows, expected = ["task_id,cost,day"], {}
    with BudgetGuard(
        ledger, [Budget(name="all", cap=Decimal(900), currency="USD")], book=book, clock=clock
    ) as guard:
        for resolution, seconds in product(LIST_PRICES, (3, 5, 7, 11, 15)):
            admission = guard.admit(
                video(duration=seconds, resolution=resolution, audio=True), project="trailer"
            )
            task = f"{resolution}-{seconds}"
            guard.dispatch(admission)
            guard.bind(admission, task)
            billed = admission.quote.total if seconds != 5 else Decimal("0.9")
            guard.settle(admission, billed, basis="statement")
            rows.append(f"{task},{billed},2026-11-21")
            expected[task] = (LIST_PRICES[resolution] * seconds, admission.quote.total, billed)
    out = tmp_path / "out"
    if source == "spend":
        write_spend(read_spend(ledger, AT, AT + timedelta(days=1)), out, formats=["focus"], book=book)
    else:
        statement = tmp_path / "statement.csv"
        statement.write_text("\n".join(rows))
        mapping = tmp_path / "mapping.yaml"
        mapping.write_text(MAPPING)
        with reconcile(
            ledger,
            statement,
            provider="qingbo",
            since=AT,
            until=AT + timedelta(days=1),
            book=book,
            mapping=mapping,
        ) as found:
            write_reports(found, out, formats=["focus"], book=book)
    charged = {row["ResourceId"]: row for row in charges(out / "focus.parquet")}
    assert {
        task: (row["ListCost"], row["ContractedCost"], row["BilledCost"]) for task, row in charged.items()
    } == expected
    if discount == "0.0125":
        assert expected["4k-7"][:2] == (Decimal("3.187415"), Decimal("3.147572312"))
    for row in charged.values():
        assert row["ListUnitPrice"] * row["PricingQuantity"] == row["ListCost"]
        assert row["ContractedUnitPrice"] * row["PricingQuantity"] == row["ContractedCost"]


def test_list_cost_of_a_reservation_that_did_not_keep_it(
    folder: Callable[..., Path], tmp_path: Path, clock: Clock
) -> None:
    """A ledger of schema version 1 has only the quote; the contract's table still knows the published price."""
    book = load_price_book(
        folder({"prices/qingbo/contract.yaml": CONTRACT.replace("discount: 0.1", "discount: 0.0125")})
    )
    ledger = f"sqlite:///{tmp_path}/spend.db"
    with BudgetGuard(
        ledger, [Budget(name="all", cap=Decimal(900), currency="USD")], book=book, clock=clock
    ) as guard:
        admission = guard.admit(video(duration=7, resolution="4k"), project="trailer")
        guard.dispatch(admission)
        guard.settle(admission)
    with sqlite3.connect(tmp_path / "spend.db") as connection:
        connection.execute("UPDATE reservation SET list_total = NULL")
    spent = read_spend(ledger, AT, AT + timedelta(days=1))
    for known, listed in ((book, Decimal("3.187415")), (load_price_book(), Decimal("3.147572312"))):
        out = tmp_path / f"out-{listed}"
        write_spend(spent, out, formats=["focus"], book=known)
        (row,) = charges(out / "focus.parquet")
        assert (row["ListCost"], row["ContractedCost"]) == (listed, Decimal("3.147572312"))


def test_a_failed_task_that_was_billed_keeps_its_prices(
    folder: Callable[..., Path], tmp_path: Path, clock: Clock
) -> None:
    """It was expected to cost nothing, and its unit prices are those of its quote."""
    book = load_price_book(folder({"prices/qingbo/contract.yaml": CONTRACT}))
    ledger = f"sqlite:///{tmp_path}/spend.db"
    with BudgetGuard(
        ledger, [Budget(name="all", cap=Decimal(900), currency="USD")], book=book, clock=clock
    ) as guard:
        admission = guard.admit(video(duration=5, resolution="1080p", audio=True), project="trailer")
        guard.dispatch(admission)
        guard.bind(admission, "t-1")
        guard.observe({"task_id": "t-1", "status": "failed", "cost": 0}, provider="qingbo")
    (tmp_path / "statement.csv").write_text("task_id,cost,day\nt-1,0.3,2026-11-21")
    (tmp_path / "mapping.yaml").write_text(MAPPING)
    with reconcile(
        ledger,
        tmp_path / "statement.csv",
        provider="qingbo",
        since=AT,
        until=AT + timedelta(days=1),
        book=book,
        mapping=tmp_path / "mapping.yaml",
    ) as found:
        (line,) = found.lines()
        assert (line.expected, line.quoted) == (Decimal(0), Decimal("0.6426"))
        assert line.list_total == Decimal("0.714")
        write_reports(found, tmp_path / "out", formats=["focus"], book=book)
    (row,) = charges(tmp_path / "out" / "focus.parquet")
    assert (row["BilledCost"], row["ContractedCost"], row["ListCost"]) == (
        Decimal("0.3"),
        Decimal("0.6426"),
        Decimal("0.714"),
    )
    assert (row["ListUnitPrice"], row["PricingQuantity"]) == (Decimal("0.1428"), 5)


def test_own_columns_come_last_and_numbers_are_plain(tmp_path: Path, studio: Month) -> None:
    """Those of FOCUS first, in order, then those that begin with x_; decimals are seen to be decimals."""
    write_spend(read_spend(studio.ledger, SINCE, UNTIL), tmp_path / "out", formats=["focus"])
    heading, *lines = (tmp_path / "out" / "focus.csv").read_text(encoding="utf-8").splitlines()
    names = heading.split(",")
    own = [name for name in names if name.startswith("x_")]
    assert names == sorted(name for name in names if name not in own) + sorted(own)
    assert all(re.match(r"[0-9]+\.[0-9]+,", line) for line in lines)
    assert "2026-11-01T00:00:00Z" in lines[0]


@pytest.fixture(scope="module")
def validator(request: pytest.FixtureRequest) -> Path:
    """Where the official validator is."""
    if not (request.config.getoption("--focus-validator") or os.environ.get("CI")):
        pytest.skip("takes a minute the first time: run with --focus-validator")
    found = prepared()
    if found is None:
        pytest.skip("the validator needs Python 3.12 or newer, and there is none")
    return found


def test_focus_1_3_names_the_provider_in_its_new_columns(tmp_path: Path, studio: Month) -> None:
    """The files of 1.3 are those of 1.2 with two more columns, both with the provider; the order stays."""
    write_spend(read_spend(studio.ledger, SINCE, UNTIL), tmp_path / "out", formats=["focus"])
    older, newer = (charges(tmp_path / "out" / f"{name}.parquet") for name in ("focus", "focus_1_3"))
    added = {"HostProviderName": "qingbo", "ServiceProviderName": "qingbo"}
    assert [dict(sorted((row | added).items())) for row in older] == [
        dict(sorted(row.items())) for row in newer
    ]
    assert {row["ProviderName"] for row in newer} == {"qingbo"}
    heading = (tmp_path / "out" / "focus_1_3.csv").read_text(encoding="utf-8").partition("\n")[0].split(",")
    assert heading == list(newer[0])
    own = [name for name in heading if name.startswith("x_")]
    assert heading == sorted(set(heading) - set(own)) + sorted(own)


def test_a_charge_of_a_period_that_was_invoiced_is_a_correction(tmp_path: Path, book: PriceBook) -> None:
    """A refund and a second charge of October's tasks in November are corrections; a first charge is not."""
    world = World(f"sqlite:///{tmp_path}/spend.db", book, Clock(OCTOBER), tmp_path)
    for task in ("refunded", "charged-again", "late"):
        world.send(task)
    for task in ("refunded", "charged-again"):
        world.bill(task, 357000)
    october = {"since": OCTOBER.replace(day=1), "until": NOVEMBER, "clock": lambda: NOVEMBER}
    with world.reconcile(world.statement(name="october.csv"), **october) as found:
        found.remember(actor="li", reason="month end")
    world.rows.clear()
    world.clock.now = NOVEMBER + timedelta(days=3)
    world.send("new")
    for task, quota in (("refunded", -357000), ("charged-again", 357000), ("late", 357000), ("new", 357000)):
        world.bill(task, quota)
    with world.reconcile() as found:
        write_reports(found, tmp_path / "out", formats=["focus"], book=book)
    for name in ("focus", "focus_1_3"):
        rows = charges(tmp_path / "out" / f"{name}.parquet")
        assert {row["ResourceId"]: row["ChargeClass"] for row in rows} == {
            "refunded": "Correction",
            "charged-again": "Correction",
            "late": None,
            "new": None,
        }


@pytest.mark.parametrize("name", ["focus.csv", "focus.parquet", "focus_1_3.csv"])
def test_the_official_validator_finds_nothing_wrong(
    validator: Path, tmp_path: Path, book: PriceBook, studio: Month, name: str
) -> None:
    """Every rule of FOCUS 1.2 that it can test passes, for a reconciliation with every kind of line.

    The validator would have to download the rules of later versions. FOCUS 1.3 only adds to those of 1.2.
    """
    with reconcile(
        studio.ledger, studio.statement, provider="qingbo", since=SINCE, until=UNTIL, book=book
    ) as found:
        write_reports(found, tmp_path / "out", formats=["focus"])
    (rules,) = validator.glob("lib/python3*/site-packages/focus_validator/rules/currency_codes.csv")
    result = subprocess.run(
        [
            *(
                str(validator / "bin" / "focus-validator"),
                "--data-file",
                str(tmp_path / "out" / name),
            ),
            *("--validate-version", "1.2", "--block-download", "--focus-dataset", "CostAndUsage"),
            *("--applicability-criteria", ",".join(CRITERIA)),
        ],
        cwd=rules.parents[2],  # it looks for its own files below the working folder
        capture_output=True,
        text=True,
        check=True,
    )
    (counts,) = re.findall(r"^Total: (\d+) \| Pass: (\d+) \| Fail: (\d+)", result.stdout, re.MULTILINE)
    failed = set(re.findall(r"^❌ (\S+): FAIL", result.stdout, re.MULTILINE))
    assert (len(failed), failed - EITHER) == (1, set())
    assert int(counts[1]) > 200
