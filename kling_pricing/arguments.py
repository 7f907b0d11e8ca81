"""What callers of the guard may pass, checked at the door."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from kling_pricing.errors import KlingPricingError, WireFormatError
from kling_pricing.intake import RequestLike, instant, read_payload
from kling_pricing.money import MAX_NANOS, NANOS, exact_amount, plain

_FIRST_YEAR, _LAST_YEAR = 2000, 2200


def own_copy(payload: RequestLike) -> dict[str, Any]:
    """JSON data that the caller cannot change any more: what is priced is what will be sent."""
    try:
        copied: dict[str, Any] = _copied(read_payload(payload))
    except RecursionError:
        raise WireFormatError("the payload is nested too deeply to be a request") from None
    return copied


def _copied(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _copied(each) for name, each in value.items()}
    return [_copied(each) for each in value] if isinstance(value, list | tuple) else value


def countable(amount: Decimal | int | str) -> Decimal:
    """An amount that a ledger can hold.

    Raises:
        KlingPricingError: it is none.
    """
    exact = exact_amount(amount)
    if exact > MAX_NANOS // NANOS:
        most = plain(Decimal(MAX_NANOS // NANOS))
        raise KlingPricingError(f"an amount of money: {plain(exact)} is too large; the most is {most}")
    return exact


def in_utc(at: datetime) -> datetime:
    """An instant in UTC.

    Raises:
        KlingPricingError: it has no time zone, or is far from any that money is spent in.
    """
    given = instant(at)
    if not _FIRST_YEAR < given.year < _LAST_YEAR:
        raise KlingPricingError(f"{given.isoformat()} is not in the years {_FIRST_YEAR} to {_LAST_YEAR}")
    return given.astimezone(UTC)


def utc_clock(clock: Callable[[], datetime] | None) -> Callable[[], datetime]:
    """A clock in UTC: the one given, or the system's."""
    if clock is None:
        return lambda: datetime.now(UTC)
    return lambda: in_utc(clock())
