"""Charges: what a provider says it took for a task, as parts that add up."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

from kling_pricing.display import shown
from kling_pricing.money import add

CASH = "cash"
"""The unit of money whose currency the response does not name: it is in the currency of the account."""

UNIT = "unit"
"""The unit of Kling's older responses, which do not name the kind of pack: units of a video pack."""

VIDEO, IMAGE = "video", "image"
"""The units of packs where the response names the kind of pack."""

_NUMBER = re.compile(r"[0-9]{1,15}(\.[0-9]{1,12})?")
_MAX_NUMBER = 10**15
_MAX_DECIMALS = 12
_CURRENCY = re.compile(r"[A-Za-z]{3}")
_KIND = re.compile(r"[A-Za-z][A-Za-z_-]{0,19}")
_REAL, _FREE = "balance", "test_balance"
"""The values of `cash_type`: money of the account, and free test money, which is not owed."""

_QUOTA = "quota"
_NO_KINDS = {CASH, UNIT, _QUOTA}
"""Units that are not kinds of packs, so a response that names them as such cannot be valued."""


class ChargePart(NamedTuple):
    """A part of a charge.

    Attributes:
        amount: the amount, exact.
        unit: a kind of pack (`video`, `image`, `audio`), another unit of the provider (`quota`, `unit`), the
            ISO 4217 code of a currency, or `cash`: money in the currency of the account.
    """

    amount: Decimal
    unit: str


class Charge(NamedTuple):
    """The charge for a task, as a response names it.

    Attributes:
        parts: the parts, which add up.
        problem: why the charge cannot be read in full; None: it can. The parts are then not all of it.
        list_price: the price of the part paid in money before any discount; None: not named. It was not taken.
    """

    parts: tuple[ChargePart, ...]
    problem: str | None = None
    list_price: ChargePart | None = None


class _UnreadableChargeError(Exception):
    """A part of the charge cannot be read; the message says which and why."""


def exact_number(value: Any) -> Decimal | None:
    """Returns a `Decimal`, an int or a plain decimal in text exactly; None: the value is something else."""
    if isinstance(value, Decimal) and value.is_finite() and 0 <= value < _MAX_NUMBER:
        exponent = value.as_tuple().exponent
        return value if isinstance(exponent, int) and exponent >= -_MAX_DECIMALS else None
    if (isinstance(value, str) and _NUMBER.fullmatch(value)) or (
        type(value) is int and 0 <= value < _MAX_NUMBER
    ):
        return Decimal(value)
    return None


def read_quota(value: Any, field: str) -> Charge | None:
    """Returns a charge in whole units of quota; None if the field is absent or empty."""
    try:
        amount = _amount(value, field)
        if amount is not None and amount % 1:
            return Charge(
                (),
                f"{field} is {shown(value)}, which is not a whole number of units and may be an amount of "
                "money",
            )
    except _UnreadableChargeError as error:
        return Charge((), str(error))
    return None if amount is None else Charge((ChargePart(amount, _QUOTA),))


def read_money(value: Any, field: str, currency: str) -> Charge | None:
    """Returns a charge in a currency; None if the field is absent or empty."""
    try:
        amount = _amount(value, field)
    except _UnreadableChargeError as error:
        return Charge((), str(error))
    return None if amount is None else Charge((ChargePart(amount, currency),))


def read_charge(task: Mapping[str, Any], *, succeeded: bool) -> Charge | None:
    """Returns the charge that a task of Kling's official API names; None if it names none.

    Newer tasks have a list `billing`; older ones have `final_unit_deduction` and `final_balance_deduction`.

    Args:
        task: the task in the response.
        succeeded: whether the task succeeded. An account that pays in money then has 0 units too, so 0 units
            alone are not all of the charge.
    """
    try:
        if task.get("billing") not in (None, "", [], ()):
            return _billed(task["billing"])
        return _deducted(task, succeeded=succeeded)
    except _UnreadableChargeError as error:
        return Charge((), str(error))


def _billed(entries: Any) -> Charge:
    """Reads the list `billing`, which has one entry for each source that paid."""
    if not isinstance(entries, list | tuple) or not all(isinstance(entry, Mapping) for entry in entries):
        raise _UnreadableChargeError("billing is not a list of objects")
    parts = tuple(_entry(entry, f"billing[{place}]") for place, entry in enumerate(entries))
    return Charge(parts, None, _list_price(_list_prices(entries)))


def _entry(entry: Mapping[str, Any], place: str) -> ChargePart:
    """Reads one entry of `billing`: units of a pack, or money. Free test money counts as zero."""
    amount = _amount(entry.get("amount"), f"{place}.amount")
    if amount is None:
        raise _UnreadableChargeError(f"{place}.amount is missing")
    kind = entry.get("charge_type")
    if kind == "cash":
        currency = _currency(entry.get("currency"), f"{place}.currency")
        source = entry.get("cash_type")
        if source not in (None, "", _REAL, _FREE):
            raise _UnreadableChargeError(
                f"{place}.cash_type is {shown(source)}, which is neither {_REAL} nor {_FREE}"
            )
        return ChargePart(Decimal(0) if source == _FREE else amount, currency)
    if kind != "unit":
        raise _UnreadableChargeError(f"{place}.charge_type is {shown(kind)}, which is neither unit nor cash")
    pack = entry.get("package_type")
    if not isinstance(pack, str) or not _KIND.fullmatch(pack) or pack.lower() in _NO_KINDS:
        raise _UnreadableChargeError(
            f"{place}.package_type is {shown(pack)}, which is not a known kind of pack"
        )
    return ChargePart(amount, pack.lower())


def _list_prices(entries: Sequence[Mapping[str, Any]]) -> Iterator[ChargePart | None]:
    """Yields the list price of each entry in money."""
    for entry in entries:
        if entry.get("charge_type") == "cash":
            yield _readable(entry.get("list_price"), entry.get("currency"))


def _list_price(prices: Iterator[ChargePart | None]) -> ChargePart | None:
    """Returns the sum of list prices; None if one is missing, or they are in several currencies."""
    total: ChargePart | None = None
    for price in prices:
        if price is None or (total is not None and total.unit != price.unit):
            return None
        total = price if total is None else total._replace(amount=add(total.amount, price.amount))
    return total


def _readable(value: Any, currency: Any) -> ChargePart | None:
    """Returns a list price if it can be read; it serves for a check only."""
    try:
        amount = _amount(value, "list_price")
        return None if amount is None else ChargePart(amount, _currency(currency, "currency"))
    except _UnreadableChargeError:
        return None


def _deducted(task: Mapping[str, Any], *, succeeded: bool) -> Charge | None:
    """Reads `final_unit_deduction` and `final_balance_deduction`.

    If a pack ran out, both are above 0. An account that pays in money has 0 units, or none. The documentation
    lists no currency in `final_balance_deduction`, but a currency that is there counts.
    """
    balance = task.get("final_balance_deduction")
    if balance in (None, ""):
        balance = {}
    if not isinstance(balance, Mapping):
        raise _UnreadableChargeError("final_balance_deduction is not an object")
    units = _amount(task.get("final_unit_deduction"), "final_unit_deduction")
    money = _amount(balance.get("quota"), "quota in final_balance_deduction")
    currency = _currency(balance.get("currency"), "currency in final_balance_deduction")
    if money is None and any(
        value not in (None, "") for name, value in balance.items() if name not in ("list_price", "currency")
    ):
        raise _UnreadableChargeError("final_balance_deduction has no quota, so the amount paid is unknown")
    names_money = "quota" in balance and balance.get("currency") not in (None, "")
    if units is None and money is None and succeeded and names_money:
        raise _UnreadableChargeError("final_balance_deduction names a currency but no amount")
    if units is not None and not units and money is None and succeeded:
        return Charge(
            (), "final_unit_deduction is 0, and final_balance_deduction does not state the amount paid"
        )
    parts = []
    if units or (units is not None and not money):
        parts.append(ChargePart(units, _unit_of(task.get("task_result"))))
    if money or (money is not None and units is None):
        parts.append(ChargePart(money, currency))
    list_price = _readable(balance.get("list_price"), balance.get("currency")) if money else None
    return Charge(tuple(parts), None, list_price) if parts else None


def _unit_of(result: Any) -> str:
    """Returns the unit of a task that does not name it: images take units of an image pack."""
    made_images = isinstance(result, Mapping) and "images" in result and "videos" not in result
    return IMAGE if made_images else UNIT


def _amount(value: Any, field: str) -> Decimal | None:
    """Returns an amount; None if it is absent or empty."""
    amount = exact_number(value)
    if amount is None and value not in (None, ""):
        raise _UnreadableChargeError(f"{field} is {shown(value)}, which is not an exact amount")
    return amount


def _currency(value: Any, field: str) -> str:
    if value in (None, ""):
        return CASH
    if isinstance(value, str) and _CURRENCY.fullmatch(value):
        return value.upper()
    raise _UnreadableChargeError(f"{field} is {shown(value)}, which is not a currency")
