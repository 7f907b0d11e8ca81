"""The sandbox's clock, which can run fast, stand still, or be set forward."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

from kling_pricing.display import shown
from kling_pricing.errors import KlingPricingError

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)
_NS_PER_MS = 10**6

MAX_SPEED = 10**6
"""The maximum speed, at which a year passes in half a minute."""

LATEST = datetime(2201, 1, 1, tzinfo=UTC)
"""The latest time to which the clock can be set."""


def to_ms(at: datetime) -> int:
    """Converts an instant to milliseconds since 1970, rounded down."""
    return (at - _EPOCH) // _MS


def from_ms(instant_ms: int) -> datetime:
    """Converts milliseconds since 1970 to an instant in UTC."""
    return _EPOCH + instant_ms * _MS


class RehearsalClock:
    """A clock in milliseconds since 1970.

    Args:
        start: the time at which the clock starts; None: the present.
        speed: the seconds that pass on the clock per real second; 0: the clock stands still.
    """

    def __init__(self, start: datetime | None = None, speed: int = 1) -> None:
        self._shown_ms = to_ms(start or datetime.now(UTC))
        self._read_ns = time.monotonic_ns()
        self._speed = checked_speed(speed)

    @property
    def speed(self) -> int:
        """The seconds that pass on the clock per real second."""
        return self._speed

    def now_ms(self) -> int:
        """Returns the time that the clock shows, in milliseconds since 1970."""
        return self._shown_ms + (time.monotonic_ns() - self._read_ns) * self._speed // _NS_PER_MS

    def set(self, *, now: datetime | None = None, forward_s: int = 0, speed: int | None = None) -> None:
        """Sets the clock, changes its speed, or both.

        Raises:
            KlingPricingError: the clock would go back or past `LATEST`, or the speed is invalid; the clock is
                unchanged.
        """
        new_speed = self._speed if speed is None else checked_speed(speed)
        shown_ms = self.now_ms()
        target_ms = (shown_ms if now is None else to_ms(now)) + forward_s * 1000
        if target_ms < shown_ms:
            raise KlingPricingError(
                f"the clock shows {from_ms(shown_ms).isoformat()} and cannot be set back; give a later time"
            )
        if target_ms > to_ms(LATEST):
            raise KlingPricingError(f"the clock cannot be set past {LATEST:%Y-%m-%d}; give an earlier time")
        self._shown_ms, self._read_ns, self._speed = target_ms, time.monotonic_ns(), new_speed


def checked_speed(speed: int) -> int:
    """Returns the speed if it is valid.

    Raises:
        KlingPricingError: the speed is not a whole number from 0 to `MAX_SPEED`.
    """
    if type(speed) is not int or not 0 <= speed <= MAX_SPEED:
        raise KlingPricingError(
            f"invalid speed {shown(speed)}; give the number of seconds that pass on the sandbox's clock per "
            f"real second, as a whole number from 0 to {MAX_SPEED}"
        )
    return speed
