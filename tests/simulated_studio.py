"""The studio of a simulation: its requests with their published prices, and its budgets."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import ROUND_CEILING, Decimal
from functools import cache
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from kling_pricing import Budget, Budgets

NANO = Decimal("0.000000001")
ZERO = Decimal(0)
INSTALLED = datetime(2026, 10, 1, 12, tzinfo=UTC)
"""The instant at which the budgets are installed; no clock shows an earlier instant."""

BEGINNINGS = (
    datetime(2026, 10, 31, 14, tzinfo=UTC),  # the end of a month, and of summer time in Havana a day later
    datetime(2026, 12, 31, 12, tzinfo=UTC),  # the end of a year
    datetime(2027, 3, 14, 3, tzinfo=UTC),  # the beginning of summer time in Havana
    datetime(2028, 2, 28, 22, tzinfo=UTC),  # a leap day
    datetime(2026, 11, 21, 9, tzinfo=UTC),
)
EXPIRES_AFTER, DOUBTFUL_AFTER = timedelta(minutes=15), timedelta(minutes=5)


class Clip(NamedTuple):
    """A request and its published price in dollars."""

    name: str
    payload: Mapping[str, Any]
    provider: str
    price: Decimal


CLIPS = (
    Clip("720p", {"model": "kling-v3", "prompt": "a boat", "duration": 5}, "qingbo", Decimal("0.357")),
    Clip(
        "1080p",
        {"model": "kling-v3", "prompt": "a boat", "duration": 5, "resolution": "1080p", "audio": True},
        "qingbo",
        Decimal("0.714"),
    ),
    Clip(
        "std",
        {"model_name": "kling-v3", "prompt": "a boat", "duration": "5", "mode": "std"},
        "kling",
        Decimal("0.42"),
    ),
)
UNIT = {"qingbo": Decimal("0.000002"), "kling": Decimal("0.14")}
"""The worth in dollars of the units in which each provider names charges."""


# budgets


@cache  # the checker asks for the same instants after every event
def _window_at(window: str, zone: str, at: datetime) -> str:
    """See `Rule.window_at`."""
    day = at.astimezone(ZoneInfo(zone)).date()
    match window:
        case "lifetime":
            return ""
        case "week":
            return (day - timedelta(days=day.weekday())).isoformat()
    return day.isoformat() if window == "day" else day.isoformat()[:7]


class Rule(NamedTuple):
    """A budget as the checker knows it.

    Attributes:
        name: its name.
        match: the labels that it matches; `*` gives each value a bucket of its own.
        window: `lifetime`, `day`, `week` or `month`.
        zone: the time zone of its windows.
        rate: the budget's currency per dollar.
        caps: the caps that administrators choose from.
        may_cap: whether a cheaper variant of a request may be admitted in its place.
    """

    name: str
    match: Mapping[str, str]
    window: str
    zone: str
    rate: Decimal
    caps: tuple[Decimal, ...]
    may_cap: bool = False

    def place(self, labels: Mapping[str, str], at: datetime) -> "Place | None":
        """Returns the bucket in which a request counts; None: it does not match."""
        if any(
            wanted not in {"*", labels.get(label)} or label not in labels
            for label, wanted in self.match.items()
        ):
            return None
        window = self.window_at(at)
        return (
            self.name,
            tuple((label, labels[label]) for label, wanted in self.match.items() if wanted == "*"),
            window,
        )

    def window_at(self, at: datetime) -> str:
        """Returns the name of the window that contains an instant; later windows have greater names."""
        return _window_at(self.window, self.zone, at)

    @property
    def own_labels(self) -> dict[str, str]:
        """The labels that every request in its buckets has."""
        return {label: wanted for label, wanted in self.match.items() if wanted != "*"}

    def amount(self, dollars: Decimal) -> Decimal:
        """Converts an amount to the budget's currency, rounded up to a nano."""
        return (dollars * self.rate).quantize(NANO, rounding=ROUND_CEILING)


Place = tuple[str, tuple[tuple[str, str], ...], str]
"""Budget, labels and window, which identify a bucket."""


def rules_of(window: str) -> tuple[Rule, ...]:
    """Returns the budgets of a simulation, of which one has windows of the length given."""
    dollar, yuan = Decimal(1), Decimal("7.1")
    return (
        Rule(
            "studio", {}, "lifetime", "UTC", dollar, (Decimal(5), Decimal("3.57"), Decimal("2.5"), Decimal(9))
        ),
        Rule(
            *("project", {"project": "*"}, window, "America/Havana"),
            *(dollar, (Decimal("2.142"), Decimal("1.5"), Decimal(3))),
        ),
        Rule(
            *("team", {"team": "x"}, "month", "Asia/Shanghai"),
            *(yuan, (Decimal(10), Decimal("7.6041"), Decimal(20))),
            may_cap=True,
        ),
    )


def window_of(seed: int) -> str:
    """Returns the window of a seed. Days take longer, because the ledger computes ten years of them."""
    return "day" if seed % 5 == 0 else "week"


WINDOWS = ("day", "week")
"""The windows that seeds have."""


def budgets(rules: Sequence[Rule], caps: Mapping[str, Decimal]) -> Budgets:
    """Returns budgets with these caps in the guard's form."""
    return Budgets(
        [
            Budget(
                name=rule.name,
                match=dict(rule.match),
                cap=caps[rule.name],
                currency="USD" if rule.rate == 1 else "CNY",
                window=rule.window,
                timezone=rule.zone,
                on_exceed="cap" if rule.may_cap else "reject",
                alerts=[Decimal("0.8")],
            )
            for rule in rules
        ],
        accounting_rates=[{"quote": "USD", "budget": "CNY", "rate": "7.1"}],
    )


def first_caps(rules: Sequence[Rule]) -> dict[str, Decimal]:
    """Returns the caps at the beginning."""
    return {rule.name: rule.caps[0] for rule in rules}
