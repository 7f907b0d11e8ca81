"""Accounts: the packs, balances and quota that pay for jobs."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import ROUND_CEILING, ROUND_DOWN, ROUND_HALF_UP, Context, Decimal
from typing import Any, NamedTuple

from kling_pricing.money import add, divide, format_decimal, multiply, round_money, subtract
from kling_pricing.sandbox.exchange import DeclinedError
from kling_pricing.sandbox.plans import Plan
from kling_pricing.sandbox.rating import Rated
from kling_pricing.sandbox.scenario import AccountEntry

_ZERO, _ONE = Decimal(0), Decimal(1)
_ROUNDINGS = {"truncate": ROUND_DOWN, "nearest": ROUND_HALF_UP, "ceil": ROUND_CEILING}
_WIDE = Context(prec=60)


class Part(NamedTuple):
    """One part of the charge for a job.

    Attributes:
        source: `pack`, `cash`, `test_balance` or `quota`.
        unit: the kind of pack, the currency, or the name of the quota.
        amount: the amount, in this unit.
        worth: the amount of money that the part costs the customer.
        currency: the currency of `worth`.
        list_price: the price before the discount, if the part is paid in cash.
    """

    source: str
    unit: str
    amount: Decimal
    worth: Decimal
    currency: str
    list_price: Decimal = _ZERO

    def written(self) -> list[str]:
        """Returns the part as a list of strings, which `part_from` reads."""
        return [self.source, self.unit, *map(format_decimal, (self.amount, self.worth)), self.currency,
                format_decimal(self.list_price)]  # fmt: skip

    def times(self, factor: Decimal) -> Part:
        """Returns the part with its amounts multiplied by a factor."""
        return self._replace(
            amount=multiply(self.amount, factor),
            worth=multiply(self.worth, factor),
            list_price=multiply(self.list_price, factor),
        )

    def counted(self, amount: Decimal) -> Part:
        """Returns the part with a different amount, at the same worth per unit."""
        if not self.amount:
            return self._replace(amount=amount)
        worth, list_price = (
            divide(multiply(money, amount), self.amount) for money in (self.worth, self.list_price)
        )
        return self._replace(amount=amount, worth=worth, list_price=list_price)


def part_from(texts: Sequence[str]) -> Part:
    """Returns the part in a list of strings that `Part.written` returned."""
    source, unit, amount, worth, currency, list_price = texts
    return Part(source, unit, Decimal(amount), Decimal(worth), currency, Decimal(list_price))


class Account:
    """One account at one provider.

    Args:
        entry: the account's entry in the scenario.
    """

    def __init__(self, entry: AccountEntry) -> None:
        self.entry = entry
        self._packs = dict(entry.packs)
        self._money = {"cash": entry.balance, "test_balance": entry.test_balance}

    def take(self, rated: Rated, kind: str, plan: Plan) -> list[Part]:
        """Charges the account for a job, and returns the parts of the charge.

        Args:
            rated: the price.
            kind: the kind of pack that pays for the job.
            plan: the plan of the job, which may change the charge.

        Raises:
            DeclinedError: the account does not have enough; it is not charged.
        """
        table = rated.table
        if (unit := table.billing.statement_unit) is not None:
            rounding = unit.rounding if unit.rounding in _ROUNDINGS else self.entry.rounding
            exact = multiply(multiply(rated.money, plan.factor), unit.per_currency_unit)
            amount = exact.quantize(_ONE, _ROUNDINGS[rounding]) if plan.amount is None else plan.amount
            parts = [Part("quota", unit.name, amount, divide(amount, unit.per_currency_unit), table.currency)]
        elif rated.rate.own_units is None:
            amount = multiply(rated.money, plan.factor) if plan.amount is None else plan.amount
            parts = [self._cash("cash", amount, self.entry.currency or table.currency)]
        else:
            parts = self._from_sources(rated, kind, plan)
        self._deduct(parts)
        return parts

    def _from_sources(self, rated: Rated, kind: str, plan: Plan) -> list[Part]:
        """Splits a price in units among the sources that pay."""
        own_units, table = rated.rate.own_units or _ZERO, rated.table
        counted_in = table.counted_in(rated.rate)
        value = divide(rated.rate.unit_price, own_units) if counted_in is None else counted_in[1]
        units = multiply(multiply(own_units, rated.quantity), plan.factor)
        if kind in table.units and kind != "video":  # its units are worth less than those in the price list
            units = divide(multiply(units, value), table.units[kind])
            value = table.units[kind]
        left = units if plan.amount is None else plan.amount
        cash_value = value if self.entry.unit_value is None else self.entry.unit_value
        currency = self.entry.currency or table.currency
        parts = []
        for source in plan.pays or self.entry.pays:
            if source == "pack":
                taken = min(left, self._packs.get(kind, left))
                if taken:
                    parts.append(Part("pack", kind, taken, multiply(taken, value), table.currency))
            else:
                available = self._money[source]
                whole = self._cash(source, multiply(left, cash_value), currency)
                if not whole.amount or (available is not None and available < whole.amount):
                    continue
                parts.append(whole)
                taken = left
            left = subtract(left, taken)
        if left:
            raise DeclinedError("no_balance", "Account balance not enough")
        return parts

    def _cash(self, source: str, price: Decimal, currency: str) -> Part:
        amount = round_money(multiply(price, subtract(_ONE, self.entry.cash_discount)))
        worth = _ZERO if source == "test_balance" else amount
        return Part(source, currency, amount, worth, currency, price)

    def _deduct(self, parts: Sequence[Part]) -> None:
        for part in parts:
            if part.source == "pack":
                continue
            have = self._money.get("cash" if part.source == "quota" else part.source)
            need = part.worth if part.source == "quota" else part.amount
            if have is not None and have < need:
                raise DeclinedError("no_balance", "Account balance not enough")
        self._move(parts, -_ONE)

    def give_back(self, parts: Sequence[Part]) -> None:
        """Refunds the parts of a charge."""
        self._move(parts, _ONE)

    def _move(self, parts: Sequence[Part], sign: Decimal) -> None:
        for part in parts:
            if part.source == "pack":
                if part.unit in self._packs:
                    self._packs[part.unit] = add(self._packs[part.unit], multiply(part.amount, sign))
                continue
            source = "cash" if part.source == "quota" else part.source
            have = self._money[source]
            if have is not None:
                moved = part.worth if part.source == "quota" else part.amount
                self._money[source] = add(have, multiply(moved, sign))

    def as_dict(self) -> dict[str, Any]:
        """Returns the remaining amount of every source that can run out."""
        left = {**self._packs, **{name: amount for name, amount in self._money.items() if amount is not None}}
        return {name: format_decimal(amount) for name, amount in left.items()}
