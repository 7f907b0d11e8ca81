"""Explanations in words: with the details of a task, and without them, for all tasks with the same cause."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal

from kling_pricing.money import add, format_decimal, multiply
from kling_pricing.reconcile.explanations import NOT_CHARGED, Variance, Way, is_list_of
from kling_pricing.reconcile.repricing import TIMES, Fit
from kling_pricing.tables.price_table import PriceTable
from kling_pricing.tables.rates import ANY

Tables = Mapping[str, PriceTable]

_MAX_ALTERNATIVES = 2
"""The most alternatives that are named."""

_ROUNDED = {"truncate": "rounded down", "nearest": "rounded to the nearest", "ceil": "rounded up"}


def not_charged_text(variance: Variance) -> str:
    """Returns why nothing was charged."""
    if variance.refunded:
        return f"the charge of {_native(variance, variance.refunded)} was refunded in full, so {NOT_CHARGED}"
    return "the task is on the statement but was not charged"


def refund_text(variance: Variance) -> str:
    """Returns the part of a charge that was refunded."""
    charge = add(variance.charged, variance.refunded)
    return f"{_native(variance, variance.refunded)} of the charge of {_native(variance, charge)} was refunded"


def multiple_text(variance: Variance) -> str:
    """Returns how many times the expected amount was charged; empty: it is not a small multiple.

    A task that a person recorded has an amount, and no price from which a charge could be calculated.
    """
    charge = multiply(add(variance.charged, variance.refunded), variance.counted.worth)
    times = next((times for times in TIMES if charge == multiply(variance.expected, times)), None)
    return "" if times is None or not variance.expected else f"billed at {_multiple(times)} the expected amount"


def way_text(variance: Variance, way: Way, tables: Tables) -> str:
    """Returns a way to calculate a charge, such as `billed 10 s for a 5 s request, quota rounded up`."""
    parts = [_differences(variance, way, tables)]
    if way.fit.rounding != "exact":
        parts.append(f"{variance.counted.unit} rounded {way.fit.rounding}")
    text = ", ".join(filter(None, parts))
    return text or f"the charge is the quoted amount in {variance.counted.unit}, rounded"


def alternatives_text(variance: Variance, ways: Sequence[Way], tables: Tables) -> str:
    """Returns the first of some ways in words, and how many more there are."""
    named = [_differences(variance, way, tables) for way in ways[:_MAX_ALTERNATIVES]]
    more = len(ways) - len(named)
    return "; or ".join(filter(None, [*named, f"{more} more" if more else ""]))


def stated_text(variance: Variance) -> str:
    """Returns the facts that the statement states, in words."""
    stated = variance.stated
    facts = [
        f"{name} {str(value).lower()}"
        for name, value in stated.facts.items()
        if name not in {"model", "resolution"}
    ]
    model = None if stated.model == variance.cell.model else stated.model
    length = variance.duration_s and f"{format_decimal(variance.duration_s)} s"
    return ", ".join(str(part) for part in (model, stated.resolution, *facts, length) if part)


def shared_text(variance: Variance, way: Way, tables: Tables) -> str:
    """Returns an explanation without the details of the task, such as `billed at the 1080p rate`."""
    parts = list(_shared_parts(variance, way, tables))
    if not parts:
        return f"{variance.counted.unit} rounded {way.fit.rounding}"
    return ", ".join(parts)


def _shared_parts(variance: Variance, way: Way, tables: Tables) -> Iterator[str]:
    fit = way.fit
    if fit.times > 1:
        yield f"billed at {_times(fit.times)}"
        return
    if "quantity" in way.differences:
        more = fit.units.number > variance.quantity
        if variance.unit == "second":
            yield f"billed for a {'longer' if more else 'shorter'} clip than requested"
        else:
            yield f"billed for {'more' if more else 'fewer'} units than requested"
    names = {
        name: charged
        for name, quoted, charged in zip(fit.cell._fields, variance.cell, fit.cell, strict=True)
        if charged not in {quoted, ANY}
    }
    if model := names.pop("model", None):
        yield f"billed as {model}"
    if names:
        yield f"billed at the {' '.join(name.replace('_', ' ') for name in names.values())} rate"
    if fit.table.id != variance.table:
        is_list = is_list_of(fit.table, variance, tables)
        yield "billed without the contract discount" if is_list else f"billed at the prices of {fit.table.id}"
    if fit.discounted_twice:
        yield "billed with the contract discount deducted twice"


def _differences(variance: Variance, way: Way, tables: Tables) -> str:
    """Returns the differences from the quote in words, such as `billed 10 s for a 5 s request`."""
    fit = way.fit
    if fit.times > 1:
        return f"billed at {_times(fit.times)}"
    length = ""
    if "quantity" in way.differences:
        length = f"billed {_amount(fit.units.number, variance.unit)} for {_request(variance)}"
        if fit.units.length in _ROUNDED and variance.duration_s is not None:
            length += f" (the stated {format_decimal(variance.duration_s)} s {_rounded(fit)})"
    rate = ""
    if fit.table.id != variance.table or fit.cell != variance.cell:
        rate = f"at the {_rate(variance, fit)}"
        if fit.table.id != variance.table:
            is_list = is_list_of(fit.table, variance, tables)
            rate += f" from table {fit.table.id}" + (", without the contract discount" if is_list else "")
    if fit.discounted_twice:
        rate = f"{rate or 'billed'} with the contract discount deducted twice".strip()
    if length and rate:
        return f"{length}, {rate}"
    return length or (rate if rate.startswith("billed") or not rate else f"billed {rate}")


def _rounded(fit: Fit) -> str:
    """Returns how a stated length was rounded, in words."""
    if fit.units.step_s == 1:
        return _ROUNDED[fit.units.length]
    to = "" if fit.units.length == "nearest" else " to a"
    return f"{_ROUNDED[fit.units.length]}{to} multiple of {fit.units.step_s} s"


def _times(times: int) -> str:
    return f"{_multiple(times)} the price"


def _multiple(times: int) -> str:
    return "twice" if times == 2 else f"{times} times"  # noqa: PLR2004


def _rate(variance: Variance, fit: Fit) -> str:
    cell = fit.cell
    model = "" if cell.model == variance.cell.model else f"{cell.model} "
    resolution = "" if cell.resolution == ANY else f"{cell.resolution} "
    return f"{model}{resolution}{cell.tier.replace('_', ' ')} rate"


def _amount(units: Decimal, unit: str) -> str:
    if unit == "second":
        return f"{format_decimal(units)} s"
    if unit[0].isdigit():
        return f"{format_decimal(units)} x {unit}"
    return f"{format_decimal(units)} {unit}{'' if units == 1 else 's'}"


def _native(variance: Variance, amount: Decimal) -> str:
    return f"{format_decimal(amount)} {variance.counted.unit}"


def _request(variance: Variance) -> str:
    if variance.unit == "second":
        return f"a {format_decimal(variance.quantity)} s request"
    return f"a request of {_amount(variance.quantity, variance.unit)}"
