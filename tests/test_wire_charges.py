"""Charges in responses: parts in units of packs and in money, or a problem, never a guess."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kling_pricing.wire.charges import Charge, exact_number, read_charge, read_quota
from tests.charges import charge

VIDEO = {"charge_type": "unit", "package_type": "video", "amount": "2.5"}
CASH = {
    "charge_type": "cash",
    "cash_type": "balance",
    "amount": "0.49",
    "list_price": "0.7",
    "currency": "USD",
}


def read(task: dict[str, Any], *, succeeded: bool = True) -> Charge | None:
    """Reads the charge of a task."""
    return read_charge(task, succeeded=succeeded)


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        ({}, None),
        ({"final_unit_deduction": ""}, None),
        ({"final_unit_deduction": None, "final_balance_deduction": ""}, None),
        ({"final_unit_deduction": "6.0"}, charge(("6.0", "unit"))),
        ({"final_unit_deduction": 6}, charge(("6", "unit"))),
        ({"final_unit_deduction": "8", "task_result": {"images": []}}, charge(("8", "image"))),
        (
            {
                "final_unit_deduction": "0",
                "final_balance_deduction": {"quota": "0.588", "list_price": "0.84"},
            },
            charge(("0.588", "cash"), list_price=("0.84", "cash")),
        ),
        (
            {"final_unit_deduction": "", "final_balance_deduction": {"quota": Decimal("0.588")}},
            charge(("0.588", "cash")),
        ),
        ({"final_balance_deduction": {"quota": "0.588"}}, charge(("0.588", "cash"))),
        (
            {
                "final_unit_deduction": "2.5",
                "final_balance_deduction": {"quota": "0.49", "list_price": "0.49"},
            },
            charge(("2.5", "unit"), ("0.49", "cash"), list_price=("0.49", "cash")),
        ),
        (
            {"final_unit_deduction": "6", "final_balance_deduction": {"quota": "0", "list_price": "0"}},
            charge(("6", "unit")),
        ),
        ({"final_unit_deduction": "0", "final_balance_deduction": {"quota": "0"}}, charge(("0", "unit"))),
        ({"final_balance_deduction": {"quota": 0}}, charge(("0", "cash"))),
        ({"final_balance_deduction": {"quota": "3", "currency": "CNY"}}, charge(("3", "CNY"))),
    ],
)
def test_the_deductions_of_an_older_task_are_read(task: dict[str, Any], expected: Charge | None) -> None:
    """Money above 0 counts whatever the units are; both above 0 add up; 0 units beside money are nothing."""
    assert read(task) == expected


def test_no_units_alone_are_no_charge_of_a_success() -> None:
    """An account that pays in money has 0 units too; a failed task with 0 units was not charged."""
    task = {"final_unit_deduction": "0"}
    problem = "final_unit_deduction is 0, and final_balance_deduction does not state the amount paid"
    assert read(task) == charge(problem=problem)
    assert read(task, succeeded=False) == charge(("0", "unit"))


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ([VIDEO], charge(("2.5", "video"))),
        ([VIDEO | {"package_type": "Image"}], charge(("2.5", "image"))),
        ([CASH], charge(("0.49", "USD"), list_price=("0.7", "USD"))),
        ([CASH | {"currency": "cny", "list_price": ""}], charge(("0.49", "CNY"))),
        ([CASH | {"currency": None}], charge(("0.49", "cash"), list_price=("0.7", "cash"))),
        ([CASH | {"cash_type": "test_balance"}], charge(("0", "USD"), list_price=("0.7", "USD"))),
        ([VIDEO, CASH], charge(("2.5", "video"), ("0.49", "USD"), list_price=("0.7", "USD"))),
        ([CASH, CASH], charge(("0.49", "USD"), ("0.49", "USD"), list_price=("1.4", "USD"))),
        ([CASH, CASH | {"currency": "CNY"}], charge(("0.49", "USD"), ("0.49", "CNY"))),
        ([CASH, CASH | {"list_price": None}], charge(("0.49", "USD"), ("0.49", "USD"))),
    ],
)
def test_the_billing_list_is_read(entries: list[dict[str, Any]], expected: Charge) -> None:
    """Each entry is a part: units of a kind of pack, or money, of which free test money counts as zero."""
    assert read({"billing": entries, "final_unit_deduction": "99"}) == expected


@pytest.mark.parametrize(
    ("task", "problem"),
    [
        ({"billing": {"amount": "1"}}, "billing is not a list of objects"),
        ({"billing": ["1"]}, "billing is not a list of objects"),
        ({"billing": [VIDEO | {"amount": ""}]}, "billing[0].amount is missing"),
        ({"billing": [VIDEO | {"amount": 0.6}]}, "billing[0].amount is 0.6, which is not an exact amount"),
        ({"billing": [VIDEO | {"amount": "-1"}]}, "billing[0].amount is -1, which is not an exact amount"),
        (
            {"billing": [VIDEO | {"package_type": None}]},
            "billing[0].package_type is null, which is not a known kind of pack",
        ),
        (
            {"billing": [VIDEO | {"package_type": "cash"}]},
            "billing[0].package_type is cash, which is not a known kind of pack",
        ),
        (
            {"billing": [VIDEO | {"package_type": "Unit"}]},
            "billing[0].package_type is Unit, which is not a known kind of pack",
        ),
        (
            {"billing": [CASH | {"cash_type": "voucher"}]},
            "billing[0].cash_type is voucher, which is neither balance nor test_balance",
        ),
        (
            {"final_balance_deduction": {"amount": "0.5", "list_price": "0.7"}},
            "final_balance_deduction has no quota, so the amount paid is unknown",
        ),
        (
            {"billing": [VIDEO, CASH | {"charge_type": "voucher"}]},
            "billing[1].charge_type is voucher, which is neither unit nor cash",
        ),
        (
            {"billing": [{"amount": "1", "currency": "USD"}]},
            "billing[0].charge_type is null, which is neither unit nor cash",
        ),
        ({"billing": [CASH | {"currency": "$"}]}, "billing[0].currency is $, which is not a currency"),
        ({"final_unit_deduction": "many"}, "final_unit_deduction is many, which is not an exact amount"),
        ({"final_balance_deduction": "0.5"}, "final_balance_deduction is not an object"),
        (
            {"final_balance_deduction": {"quota": "3", "currency": "$"}},
            "currency in final_balance_deduction is $, which is not a currency",
        ),
        (
            {"final_unit_deduction": "6", "final_balance_deduction": {"quota": []}},
            "quota in final_balance_deduction is a list, which is not an exact amount",
        ),
    ],
)
def test_what_cannot_be_read_is_a_problem(task: dict[str, Any], problem: str) -> None:
    """An unknown source or amount is named; no part of such a charge counts."""
    assert read(task) == charge(problem=problem)


@given(
    st.dictionaries(
        st.sampled_from(["billing", "final_unit_deduction"]),
        st.recursive(
            st.none() | st.integers() | st.text(max_size=4) | st.floats(),
            lambda inner: (
                st.lists(inner, max_size=2)
                | st.dictionaries(st.sampled_from(["amount", "charge_type", "currency"]), inner, max_size=3)
            ),
        ),
    )
)
def test_any_charge_is_read_without_an_error(task: dict[str, Any]) -> None:
    """Whatever a response has in these fields, its task can be read."""
    seen = read(task)
    assert seen is None or seen.problem is not None or seen.parts


def test_quota_is_whole() -> None:
    """A fraction of a unit may be money, which would count as almost nothing."""
    assert read_quota(357000, "cost") == charge(("357000", "quota"))
    assert read_quota(None, "cost") is read_quota("", "cost") is None
    assert read_quota("0.5", "cost") == charge(
        problem="cost is 0.5, which is not a whole number of units and may be an amount of money"
    )
    assert read_quota([], "cost") == charge(problem="cost is a list, which is not an exact amount")


@pytest.mark.parametrize("value", [0.5, True, "1e3", "-1", " 1", Decimal("NaN"), Decimal(-1), 10**15, ""])
def test_only_exact_numbers_are_amounts(value: object) -> None:
    """A float is refused because it is already rounded."""
    assert exact_number(value) is None
