"""Exact amounts."""

import decimal
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kling_pricing.money import add, format_decimal, multiply, nanos_up, price_from_text

prices = st.decimals(min_value=0, max_value=10**12 - 1, places=9)


@pytest.mark.parametrize("text", ["0", "0.0714", "12", "0.455345", "999999999999.123456789"])
def test_a_plain_decimal_keeps_its_digits(text: str) -> None:
    """A price keeps every digit of its text."""
    assert str(price_from_text(text)) == text


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("nan", "not a finite number"),
        ("NaN", "not a finite number"),
        ("-inf", "not a finite number"),
        (".inf", "not a finite number"),
        ("Infinity", "not a finite number"),
        ("-0.1", "negative"),
        ("0.0000000001", "the maximum is 9"),
        ("1e-3", "plain decimal"),
        ("010", "plain decimal"),
        ("1_000", "plain decimal"),
        ("+1", "plain decimal"),
        (".5", "plain decimal"),
        ("5.", "plain decimal"),
        ("", "plain decimal"),
        ("0,5", "plain decimal"),
        ("٣", "plain decimal"),
        ("6,50", r"write 6\.50$"),
        ("6.50 EUR", r"write 6\.50, and give the currency EUR in its own field or option$"),
        ("$ 6,50", r"write 6\.50, and give the currency \$ in its own"),
        ("€5", "write 5, and give the currency € in its own"),
        ("1,000", "write it with a decimal point and without a unit"),
        ("1.000 EUR", "write it with a decimal point and without a unit"),
        ("1,000.50", "write it with a decimal point and without a unit"),
        ("1000000000000", "13 digits before the decimal point, but the maximum is 12"),
    ],
)
def test_any_other_text_is_not_a_price(text: str, remedy: str) -> None:
    """Text that is not a plain, finite number of reasonable length is refused with the reason."""
    with pytest.raises(ValueError, match=remedy):
        price_from_text(text)


@given(prices, st.integers(0, 10**6))
def test_a_product_is_exact_whatever_the_callers_decimal_context(price: Decimal, quantity: int) -> None:
    """Multiplication agrees with integers even if the caller computes with two digits."""
    with decimal.localcontext() as context:
        context.prec = 2
        product = multiply(price, quantity)
        total = add(product, price)
    nanos = int(price.scaleb(9)) * quantity
    assert int(product.scaleb(9)) == nanos
    assert total == product + price


def test_an_inexact_result_is_an_error() -> None:
    """A product with more digits than the context allows is an error, not a rounded number."""
    with pytest.raises(decimal.Inexact):
        multiply(Decimal("1." + "1" * 40), Decimal("1." + "1" * 40))


@pytest.mark.parametrize(
    ("number", "text"),
    [
        ("0.7140", "0.714"),
        ("1E+1", "10"),
        ("10", "10"),
        ("100.00", "100"),
        ("0E-9", "0"),
        ("1E-9", "0.000000001"),
    ],
)
def test_plain_notation_has_no_exponent_and_no_trailing_zeros(number: str, text: str) -> None:
    """Amounts are formatted as people write them."""
    assert format_decimal(Decimal(number)) == text


@given(prices)
def test_plain_notation_is_exact(price: Decimal) -> None:
    """Parsing the formatted text gives the same number."""
    assert Decimal(format_decimal(price)) == price


def test_a_float_is_refused_even_if_an_equal_decimal_is_cached() -> None:
    """A float that equals a Decimal is refused, whatever was converted before."""
    assert nanos_up(Decimal("0.5")) == 500_000_000
    with pytest.raises(TypeError):
        nanos_up(0.5)  # type: ignore[arg-type]
