"""The charge that an answer of an API states, as parts: units of the provider's, or money in a currency.

The parts of one task add up. The statement reader is the only caller of `read_charge`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any, NamedTuple, TypeAlias

from kling_pricing.display import shown
from kling_pricing.errors import WireFormatError
from kling_pricing.wire.formats import wire_format
from kling_pricing.wire.task import Task, read_number, read_text

_KLING = "kling"
CHARGE_FIELDS = ("billing", "final_unit_deduction", "final_balance_deduction")
"""The fields of Kling's answers that state a charge; only an answer about a task has one of them."""
_UNITS_OF = {"video": "unit", "image": "image", "audio": "audio"}
"""Kind of a pack -> the name of its units in price tables: the rates are in units of a video pack."""


class Part(NamedTuple):
    """A part of a charge.

    Attributes:
        amount: the amount, exact.
        unit: the currency, or the provider's own unit.
    """

    amount: Decimal
    unit: str


Parts: TypeAlias = tuple[Part, ...]


def read_charge(body: Mapping[str, Any], name: str, currency: str) -> tuple[Task, Parts]:
    """Returns the task of an answer, and the parts of its charge; no parts: the answer states no charge.

    Args:
        body: the answer.
        name: its wire format.
        currency: the account's currency, for money without a currency of its own.

    Raises:
        WireFormatError: a field cannot be read, or a part of the charge is of an unknown kind.
    """
    if name == _KLING:
        return _read_kling(body, currency)
    task = wire_format(name).read_task(body)
    return task, () if task.amount is None else (Part(task.amount, task.amount_unit or ""),)


def _read_kling(body: Mapping[str, Any], currency: str) -> tuple[Task, Parts]:
    """Reads an answer of Kling's own API, of either standard."""
    data = body.get("data")
    fields = dict(data if isinstance(data, Mapping) else body)
    billing = fields.pop("billing", None) or []
    units = fields.pop("final_unit_deduction", None)
    if not fields.get("task_id") and ("outputs" in fields or billing):
        fields["task_id"] = fields.get("id")
    task = wire_format(_KLING).read_task(fields)
    if not isinstance(billing, list | tuple) or not all(isinstance(entry, Mapping) for entry in billing):
        raise WireFormatError("billing must be a list of objects", wire_format=_KLING, field="billing")
    if billing:
        return task, tuple(_billed(entry, index, currency) for index, entry in enumerate(billing))
    return task, tuple(_deducted(fields, units, currency))


def _billed(entry: Mapping[str, Any], index: int, currency: str) -> Part:
    """Returns a part of the list `billing`; `list_price` is not what was taken."""
    place = f"billing[{index}]"
    amount = read_number(entry.get("amount"), f"{place}.amount", _KLING)
    if amount is None:
        raise WireFormatError(f"{place}.amount is missing", wire_format=_KLING, field=f"{place}.amount")
    kind = entry.get("charge_type")
    stated = read_text(entry.get("currency"), f"{place}.currency", _KLING)
    if kind == "cash" or (kind is None and stated):
        paid = entry.get("cash_type") != "test_balance"
        return Part(amount if paid else Decimal(0), (stated or currency).upper())
    if kind in {"unit", None}:
        package = read_text(entry.get("package_type"), f"{place}.package_type", _KLING)
        if package is None and kind is not None:
            raise WireFormatError(
                f"{place}.package_type is missing", wire_format=_KLING, field=f"{place}.package_type"
            )
        return Part(amount, _UNITS_OF.get(package or "video", package or ""))
    raise WireFormatError(
        f"{place}.charge_type must be unit or cash, got {shown(kind)}",
        wire_format=_KLING,
        field=f"{place}.charge_type",
    )


def _deducted(fields: Mapping[str, Any], deducted: Any, currency: str) -> Iterator[Part]:
    """Yields the parts of `final_unit_deduction` and `final_balance_deduction.quota`.

    An account that pays from its balance reports no units, or 0.
    """
    units = read_number(deducted, "final_unit_deduction", _KLING)
    balance = fields.get("final_balance_deduction")
    if balance is not None and balance != "" and not isinstance(balance, Mapping):
        raise WireFormatError(
            "final_balance_deduction must be an object", wire_format=_KLING, field="final_balance_deduction"
        )
    field = "final_balance_deduction.quota"
    quota = read_number(balance.get("quota"), field, _KLING) if isinstance(balance, Mapping) else None
    if quota:
        yield Part(quota, currency)
    if units or (units is not None and not quota):
        result = fields.get("task_result")
        is_image = isinstance(result, Mapping) and "images" in result and "videos" not in result
        yield Part(units, "image" if is_image else "unit")
    elif units is None and quota is not None and not quota:
        yield Part(quota, currency)
