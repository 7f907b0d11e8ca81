"""The months of the books, and other periods."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import NamedTuple

from kling_pricing.display import shown
from kling_pricing.errors import KlingPricingError

_MONTH = re.compile(r"2[01][0-9]{2}-(0[1-9]|1[0-2])")


class BooksPeriod(NamedTuple):
    """A period of the books.

    Attributes:
        since: its start, UTC.
        until: its end (exclusive), UTC.
    """

    since: datetime
    until: datetime

    @property
    def is_months(self) -> bool:
        """Whether it consists of whole months, which may be closed."""
        return all(at == at.replace(day=1, hour=0, minute=0, second=0, microsecond=0) for at in self)

    def bucket(self, period: str, at: str) -> str:
        """Returns the SQL of the place of a fact: 0 before the period, 1 in it, 2 after it.

        Whole months have the facts of their accounting periods. In any other period, nothing is closed, so it
        has the facts that happened in it.
        """
        value, start, end = period, *(f"'{bound:%Y-%m}'" for bound in self)
        if not self.is_months:
            value, start, end = at, *(f"TIMESTAMP '{bound:%Y-%m-%d %H:%M:%S.%f}'" for bound in self)
        return f"CASE WHEN {value} < {start} THEN 0 WHEN {value} < {end} THEN 1 ELSE 2 END"


def check_month(month: str) -> None:
    """Refuses a text that is not a month.

    Raises:
        KlingPricingError: the text is not a month.
    """
    if not _MONTH.fullmatch(month):
        raise KlingPricingError(f"{shown(month)} is not a month; write it as YYYY-MM, such as 2026-11")


def month_period(month: str) -> BooksPeriod:
    """Returns the period of a month.

    Raises:
        KlingPricingError: the text is not a month.
    """
    check_month(month)
    start, end = (datetime.strptime(text, "%Y-%m").replace(tzinfo=UTC) for text in (month, following(month)))
    return BooksPeriod(start, end)


def following(month: str) -> str:
    """Returns the month after a month, such as `2027-01` after `2026-12`."""
    year, number = map(int, month.split("-"))
    return f"{year + number // 12:04}-{number % 12 + 1:02}"
