"""The content of a budgets file: which requests a budget matches, how much it allows, and in which window.

The ledger stores the budgets as a revision, so that all guards on a ledger use the same budgets.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, tzinfo
from decimal import Decimal
from functools import cached_property
from typing import Annotated, Any, Literal, TypeAlias, TypeVar

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainSerializer,
    ValidationInfo,
    field_validator,
    model_validator,
)

from kling_pricing.budgets.receiver_names import ReceiverNames
from kling_pricing.budgets.window_kinds import FixedWindow, RollingWindow, Window
from kling_pricing.display import shown
from kling_pricing.errors import BudgetError, KlingPricingError
from kling_pricing.money import MAX_AMOUNT, format_decimal
from kling_pricing.quoting.settings import SACRIFICE, Setting
from kling_pricing.strict_yaml import Currency, FileModel, Name, Price, Text
from kling_pricing.windows import (
    FOREVER,
    WEEKDAYS,
    Calendar,
    Period,
    calendar_period,
    rolling_period,
    start_of,
    zone,
)

ANY = "any"
"""In a `match`, matches any value of the label. All values share one bucket."""

EACH = "*"
"""In a `match`, matches any value of the label. Each value has its own bucket."""

MAX_LABELS, MAX_LABEL_CHARS = 16, 200

_Value = TypeVar("_Value")


def _tuple(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return tuple(value)
    raise ValueError(f"must be a list, got {shown(value)}")


def _shortest(amount: Decimal) -> Decimal:
    """Drops trailing zeros, so that equal budgets have equal documents."""
    return Decimal(format_decimal(amount))


_Amount: TypeAlias = Annotated[
    Price, AfterValidator(_shortest), PlainSerializer(format_decimal, return_type=str, when_used="json")
]
_Alerts: TypeAlias = Annotated[tuple[_Amount, ...], BeforeValidator(_tuple)]
_Settings: TypeAlias = Annotated[tuple[Setting, ...], BeforeValidator(_tuple)]
_Names: TypeAlias = Annotated[tuple[Name, ...], BeforeValidator(_tuple)]


def _pattern(value: Any) -> Any:
    """Checks the pattern for a label; sorts a list, because its order has no meaning."""
    texts = [*value] if isinstance(value, list | tuple) else [value]
    if not texts or not all(isinstance(text, str) and text for text in texts):
        raise ValueError(f"must be text, a list of text values, `{ANY}` or `{EACH}`, got {shown(value)}")
    if isinstance(value, list | tuple) and {ANY, EACH} & {*texts}:
        raise ValueError(f"`{ANY}` and `{EACH}` cannot be in a list; use one of them alone, or list the values")
    return sorted(_distinct(texts)) if isinstance(value, list | tuple) else value


def _distinct(values: Sequence[_Value]) -> Sequence[_Value]:
    if twice := next((value for value in values if values.count(value) > 1), None):
        raise ValueError(f"{twice} is listed twice; keep one of them")
    return values


class BudgetEntry(FileModel):
    """One budget in a file."""

    name: Name
    match: dict[Text, Annotated[str | list[str], BeforeValidator(_pattern)]] = Field(
        {},
        description="Maps each label to a value, a list of values, `any` (all values share one bucket) or `*` "
        "(one bucket per value). An empty map matches every request.",
    )
    cap: _Amount = Field(description="Maximum total of the held and spent amounts in one window.")
    currency: Currency
    window: Window = "lifetime"
    timezone: str = Field("UTC", description="IANA name of the time zone, such as Asia/Shanghai.")
    week_starts: Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"] = (
        "monday"
    )
    on_exceed: Literal["reject", "cap"] = Field(
        "reject",
        description="What happens to a request that does not fit in the budget: `reject` refuses the request, "
        "and `cap` makes the request cheaper.",
    )
    enforce: Literal["always", "observe"] = Field(
        "always",
        description="`always` limits requests. `observe` counts and alerts, records the requests that the "
        "budget would have refused, and refuses nothing.",
    )
    max_request: _Amount | None = Field(None, description="Maximum cost of a single request.")
    alerts: _Alerts = Field(
        (),
        description="Fractions of the cap, such as 0.8. Reaching a fraction raises an alert, once per window; "
        "in a rolling window, every time that the budget reaches the fraction again.",
    )
    notify: ReceiverNames = Field(
        (),
        description="Further receivers of this budget's alerts, besides those at the top level of the file.",
    )
    min_duration_s: Annotated[int, Field(gt=0)] | None = Field(
        None, description="The shortest length, in seconds, to which capping may shorten a video."
    )
    min_resolution: Literal["720p", "1080p", "4k"] | None = Field(
        None, description="The lowest resolution to which capping may reduce a video."
    )
    keep: _Settings = Field((), description="Settings that capping must not change.")
    carry_over: bool = Field(
        default=False,
        description="Whether a change of the match, window, time zone or currency carries the amounts that are "
        "already in the ledger over to the new buckets.",
    )

    @field_validator("cap", "max_request")
    @classmethod
    def _countable(cls, amount: Decimal | None) -> Decimal | None:
        if amount is not None and amount > MAX_AMOUNT:
            raise ValueError(f"is too large; the maximum is {MAX_AMOUNT}")
        return amount

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, name: str, info: ValidationInfo) -> str:
        if name != "UTC" and isinstance(info.data.get("window"), RollingWindow):
            raise ValueError("has no effect on a rolling window; remove it")
        try:
            zone(name)
        except KlingPricingError as error:
            raise ValueError(str(error)) from None
        return name

    @field_validator("alerts")
    @classmethod
    def _reachable(cls, alerts: tuple[Decimal, ...]) -> tuple[Decimal, ...]:
        if any(part <= 0 or part > 1 for part in alerts):
            raise ValueError("must be fractions of the cap, greater than 0 and at most 1, such as 0.8")
        return tuple(sorted(_distinct(alerts)))

    @field_validator("keep")
    @classmethod
    def _kept(cls, keep: tuple[Setting, ...]) -> tuple[Setting, ...]:
        return tuple(sorted(_distinct(keep)))

    @field_validator("week_starts")
    @classmethod
    def _meaningful(cls, day: str, info: ValidationInfo) -> str:
        if day != WEEKDAYS[0] and info.data.get("window") != "week":
            raise ValueError("applies only to a weekly window; remove it")
        return day

    @property
    def zone(self) -> tzinfo:
        """The time zone of the windows."""
        return zone(self.timezone)

    @cached_property
    def definition(self) -> str:
        """The hash of match, window, zone and currency. Budgets with the same hash and name share buckets."""
        parts = self.model_dump(mode="json", include={"match", "window", "timezone", "week_starts", "currency"})
        return _digest(parts)[:16]

    @property
    def recurs(self) -> bool:
        """Whether a new calendar window follows each window: every day, week, month, quarter or year."""
        return isinstance(self.window, str) and self.window != "lifetime"

    @property
    def step(self) -> timedelta | None:
        """The step by which a rolling window moves; None for all other windows."""
        return self.window.step if isinstance(self.window, RollingWindow) else None

    @property
    def unit(self) -> Calendar:
        """The calendar unit of windows that recur."""
        assert isinstance(self.window, str) and self.window != "lifetime"  # noqa: S101, PT018
        return self.window

    @cached_property
    def schedule(self) -> str:
        """The rule for the windows, as text: calendar unit or days, first weekday, time zone.

        Budgets with the same schedule have the same windows. Rolling windows are not in the calendar.
        """
        if self.window == "lifetime":
            return "lifetime"
        if isinstance(self.window, RollingWindow):
            return f"rolling {self.window.rolling}"
        if isinstance(self.window, FixedWindow):
            return f"{self.window.start} to {self.window.end} in {self.timezone}"
        weekday = f" from {self.week_starts}" if self.window == "week" else ""
        return f"{self.window}{weekday} in {self.timezone}"

    @property
    def observes(self) -> bool:
        """Whether the budget only counts, and refuses nothing."""
        return self.enforce == "observe"

    def first_start(self, at: datetime) -> datetime:
        """Returns the start of the window that contains an instant, for windows that recur."""
        return calendar_period(self.unit, at, self.zone, self.week_starts).start

    def bucket_labels(self, labels: Mapping[str, str]) -> dict[str, str] | None:
        """Returns the labels of a request's bucket; None if the budget does not match the request."""
        bucket = {}
        for label, pattern in self.match.items():
            value = labels.get(label)
            if value is None or (isinstance(pattern, list) and value not in pattern):
                return None
            if pattern == EACH:
                bucket[label] = value
            elif isinstance(pattern, str) and pattern not in {ANY, value}:
                return None
        return bucket

    @cached_property
    def only_period(self) -> Period | None:
        """The fixed window; None for all other windows."""
        if not isinstance(self.window, FixedWindow):
            return None
        return Period(start_of(self.window.start, self.zone), start_of(self.window.end, self.zone))

    def period(self, at: datetime) -> Period | None:
        """Returns the window that contains an instant; None outside a fixed window."""
        if isinstance(self.window, RollingWindow):
            return rolling_period(at, self.window.step)
        if isinstance(self.window, FixedWindow):
            only = self.only_period
            return only if only is not None and only.start <= at < only.end else None
        if self.window == "lifetime":
            return FOREVER
        return calendar_period(self.window, at, self.zone, self.week_starts)


class AccountingRate(FileModel):
    """The fixed rate that converts quotes in one currency for budgets in another."""

    quote: Currency = Field(description="The currency of the quotes.")
    budget: Currency = Field(description="The currency of the budgets.")
    rate: _Amount = Field(
        description="The amount in the budget's currency for one unit of the quote's currency."
    )

    @field_validator("budget")
    @classmethod
    def _another(cls, budget: str, info: ValidationInfo) -> str:
        if budget == info.data.get("quote"):
            raise ValueError(
                "is the same as the currency of the quotes, so no rate is needed; remove this entry"
            )
        return budget

    @field_validator("rate")
    @classmethod
    def _positive(cls, rate: Decimal) -> Decimal:
        if not rate:
            raise ValueError("must be greater than 0; otherwise, spending would not count")
        return rate


class Capping(FileModel):
    """The settings of capping, which makes a request cheaper."""

    sacrifice: _Settings = Field(
        SACRIFICE,
        description="Settings that capping may change. Capping changes the settings in the order listed.",
    )
    models: _Names = Field(
        (), description="Replacement models, best first. The list is required if `sacrifice` contains `model`."
    )

    @field_validator("sacrifice", "models")
    @classmethod
    def _once(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(_distinct(names))

    @model_validator(mode="after")
    def _consistent(self) -> Capping:
        if ("model" in self.sacrifice) != bool(self.models):
            raise ValueError(
                "`models` lists replacement models, but `sacrifice` does not contain `model`; add `model` to "
                "`sacrifice`, or remove `models`"
                if self.models
                else "`sacrifice` contains `model`, but `models` is empty; list replacement models under "
                "`models`, or remove `model` from `sacrifice`"
            )
        return self


class BudgetsFile(FileModel):
    """The content of a budgets file."""

    budgets: Annotated[list[BudgetEntry], Field(min_length=1)]
    unmatched: Literal["refuse", "allow"] = Field(
        "refuse", description="Whether to refuse or allow requests that no budget matches."
    )
    notify: ReceiverNames = Field(
        (),
        description="Receivers of all alerts. Each is env:NAME or file:PATH, the environment variable or file "
        "that contains the receiver's URL.",
    )
    accounting_rates: list[AccountingRate] = []
    capping: Capping = Capping()

    @field_validator("budgets")
    @classmethod
    def _of_different_names(cls, budgets: list[BudgetEntry]) -> list[BudgetEntry]:
        names = [budget.name for budget in budgets]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"two budgets have the name {twice}; rename one of them")
        return budgets

    @field_validator("accounting_rates")
    @classmethod
    def _unambiguous(cls, rates: list[AccountingRate]) -> list[AccountingRate]:
        pairs = [(rate.quote, rate.budget) for rate in rates]
        if pair := next((pair for pair in pairs if pairs.count(pair) > 1), None):
            raise ValueError(f"two accounting rates convert {pair[0]} to {pair[1]}; keep one of them")
        return rates

    @cached_property
    def document(self) -> str:
        """The content as JSON with its defaults, as a revision in the ledger stores it."""
        return _json(self.model_dump(mode="json"))

    @cached_property
    def digest(self) -> str:
        """The SHA-256 digest in hexadecimal. It does not depend on the notation or the order of the budgets.

        It leaves defaults out, so that a key added to the format later changes no digest.
        """
        return unordered_digest(self.model_dump(mode="json", exclude_defaults=True))

    def rate(self, quote: str, budget: BudgetEntry) -> Decimal | None:
        """Returns the accounting rate from a quote's currency to a budget's; None if they are the same.

        Raises:
            BudgetError: the currencies differ and have no accounting rate.
        """
        if quote == budget.currency:
            return None
        for entry in self.accounting_rates:
            if (entry.quote, entry.budget) == (quote, budget.currency):
                return entry.rate
        raise BudgetError(
            f"budget {budget.name} is in {budget.currency}, but the quote is in {quote}; "
            f"add {{quote: {quote}, budget: {budget.currency}, rate: ...}} to accounting_rates"
        )


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _digest(value: Any) -> str:
    return hashlib.sha256(_json(value).encode()).hexdigest()


def unordered_digest(parts: dict[str, Any]) -> str:
    """Returns the digest of a budgets document, ignoring the order of its budgets and of its rates."""
    lists = {name: parts[name] for name in ("budgets", "accounting_rates") if name in parts}
    return _digest(parts | {name: sorted(values, key=_json) for name, values in lists.items()})
