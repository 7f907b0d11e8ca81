"""Sums of the results of many requests: by group, and by the reason of refusal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, NamedTuple

from kling_pricing.errors import KlingPricingError, PriceNotFoundError
from kling_pricing.money import add
from kling_pricing.quoting.quote import Quote
from kling_pricing.tables.rates import Rate

_NOTHING = Decimal(0)

GROUPS: Mapping[str, Callable[[Quote], str]] = {
    "provider": lambda quote: quote.provider,
    "model": lambda quote: quote.canonical_model,
    "tier": lambda quote: quote.tier,
    "resolution": lambda quote: quote.resolution,
    "action": lambda quote: str(quote.action),
    "wire_format": lambda quote: quote.wire_format,
    "table": lambda quote: quote.table.id,
    "currency": lambda quote: quote.currency,
}
"""Name of a property by which quotes are grouped -> the function that returns its value."""

_MAX_ENTRIES = 4096

USUAL_GROUPS = ("provider", "model", "tier")


class CurrencySum(NamedTuple):
    """A sum in one currency; the ends differ if it includes a range."""

    minimum: Decimal
    maximum: Decimal


@dataclass
class GroupSum:
    """The requests of one group.

    Attributes:
        count: their number.
        sums: currency -> the sum of their quotes.
    """

    count: int = 0
    sums: dict[str, CurrencySum] = field(default_factory=dict)

    def add(self, currency: str, minimum: Decimal, maximum: Decimal) -> None:
        """Adds the amount of one request."""
        self.count += 1
        before = self.sums.get(currency)
        if before is None:
            self.sums[currency] = CurrencySum(minimum, maximum)
            return
        lowest, highest = before
        total = add(highest, maximum)
        is_exact = minimum is maximum and lowest is highest
        self.sums[currency] = CurrencySum(total if is_exact else add(lowest, minimum), total)


class RefusalReason(NamedTuple):
    """A reason for which requests are refused.

    Attributes:
        code: its stable name, such as `duration_s_limit`.
        request_count: the number of these requests.
        place: the first of them.
        message: its message for the first of them.
    """

    code: str
    request_count: int
    place: str
    message: str


class ListSummary:
    """Adds up the results of many requests, one by one; its size depends on the number of groups only.

    Args:
        groups: the names by which quotes are grouped: of `GROUPS`, `project`, or of columns; empty: by
            provider, model and tier, and by project if any request has one.
    """

    def __init__(self, groups: Sequence[str] = ()) -> None:
        self._given = tuple(groups)
        self._properties = [GROUPS.get(name) for name in groups or USUAL_GROUPS]
        # a rate is kept with its sum, because its `id` would otherwise be given to another object
        self._entries: dict[tuple[Any, ...], tuple[Rate, GroupSum]] = {}
        self._sums: dict[tuple[str, ...], GroupSum] = {}
        self._reasons: dict[str, RefusalReason] = {}
        self._has_projects = False

    @property
    def group_names(self) -> tuple[str, ...]:
        """The names of the groups."""
        return self._given or (*USUAL_GROUPS, *(["project"] if self._has_projects else []))

    @property
    def groups(self) -> list[tuple[tuple[str, ...], GroupSum]]:
        """The values of each group in the order of `group_names`, with its sums; sorted by value."""
        width = len(self.group_names)
        return sorted((key[:width], group) for key, group in self._sums.items())  # keys are unique

    @property
    def reasons(self) -> list[RefusalReason]:
        """The reasons of refusals, the most frequent first."""
        return sorted(self._reasons.values(), key=lambda reason: (-reason.request_count, reason.code))

    def add(self, quote: Quote, others: Mapping[str, str]) -> None:
        """Adds a quote.

        Args:
            quote: the quote.
            others: group -> value, for the groups that are not properties of quotes.
        """
        rate, request = quote.rate, quote.request
        known = (id(rate), request.wire_format, request.facts["action"], *others.values(), *others)
        entry = self._entries.get(known)
        if entry is None:
            if len(self._entries) >= _MAX_ENTRIES:
                self._entries.clear()
            entry = self._entries[known] = rate, self._group_of(quote, others)
        entry[1].add(quote.table.currency, quote.minimum, quote.maximum)

    def _group_of(self, quote: Quote, others: Mapping[str, str]) -> GroupSum:
        values = [
            others.get(name, "") if group is None else group(quote)
            for name, group in zip(self._given or USUAL_GROUPS, self._properties, strict=True)
        ]
        if not self._given:
            project = others.get("project", "")
            self._has_projects = self._has_projects or bool(project)
            values.append(project)
        return self._sums.setdefault(tuple(values), GroupSum())

    def refuse(self, error: KlingPricingError, place: str) -> None:
        """Adds a refused request; if there are several reasons, it counts for each of them."""
        for code, message in reasons_of(error).items():
            known = self._reasons.get(code)
            self._reasons[code] = (
                RefusalReason(code, 1, place, message)
                if known is None
                else known._replace(request_count=known.request_count + 1)
            )


def reasons_of(error: KlingPricingError) -> dict[str, str]:
    """Returns the stable name of each reason for a refusal, with its message."""
    violations = getattr(error, "violations", ())
    if violations:
        return {violation.code: violation.message for violation in violations}
    return {"no_price" if isinstance(error, PriceNotFoundError) else type(error).__name__: str(error)}
