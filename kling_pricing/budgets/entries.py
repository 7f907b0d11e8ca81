"""One budget: which requests it matches, how much it allows, and in which window."""

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
)

from kling_pricing.budgets.receiver_names import ReceiverNames
from kling_pricing.budgets.window_kinds import FixedWindow, RollingWindow, Window
from kling_pricing.display import shown
from kling_pricing.errors import KlingPricingError
from kling_pricing.money import MAX_AMOUNT, format_decimal
from kling_pricing.quoting.settings import Setting
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

MAX_LABELS = 16
MAX_LABEL_CHARS = 200

_Value = TypeVar("_Value")


def listed(value: Any) -> Any:
    """Returns a list as a tuple."""
    if isinstance(value, list | tuple):
        return tuple(value)
    raise ValueError(f"must be a list, got {shown(value)}")


def _shortest(amount: Decimal) -> Decimal:
    """Drops trailing zeros, so that equal budgets have equal documents."""
    return Decimal(format_decimal(amount))


Amount: TypeAlias = Annotated[
    Price, AfterValidator(_shortest), PlainSerializer(format_decimal, return_type=str, when_used="json")
]
_Alerts: TypeAlias = Annotated[tuple[Amount, ...], BeforeValidator(listed)]
Settings: TypeAlias = Annotated[tuple[Setting, ...], BeforeValidator(listed)]
Names: TypeAlias = Annotated[tuple[Name, ...], BeforeValidator(listed)]


INSTALLED = {"installed": True}
"""The context in which the budgets of a ledger are validated: earlier releases allowed more in a `match`."""

_GLOB = frozenset("*?[]")


def _pattern(value: Any, info: ValidationInfo) -> Any:
    """Checks the pattern for a label; sorts a list, because its order has no meaning."""
    texts = [*value] if isinstance(value, list | tuple) else [value]
    if not texts or not all(isinstance(text, str) and text for text in texts):
        raise ValueError(f"must be text, a list of text values, `{ANY}` or `{EACH}`, got {shown(value)}")
    if isinstance(value, list | tuple) and {ANY, EACH} & {*texts}:
        raise ValueError(f"`{ANY}` and `{EACH}` cannot be in a list; use one of them alone, or list the values")
    if value != EACH and info.context != INSTALLED:
        for text in texts:
            ensure_label_text(text, f"list the values, or use `{ANY}` or `{EACH}` for every value")
    return sorted(distinct(texts)) if isinstance(value, list | tuple) else value


def ensure_label_text(text: str, remedy: str) -> None:
    """Raises an error for a text that no label of a request can have, or that looks like a pattern of a shell.

    Raises:
        ValueError: the text is too long, is not printable, or has a character such as `*`.
    """
    if len(text) > MAX_LABEL_CHARS or not text.isprintable():
        raise ValueError(
            f"{shown(text)} cannot be a label, because a label has at most {MAX_LABEL_CHARS} characters, all "
            "of them printable; correct it"
        )
    if glob := next((char for char in text if char in _GLOB), None):
        raise ValueError(
            f"{shown(text)} contains {glob}, but labels are compared character by character; {remedy}"
        )


def distinct(values: Sequence[_Value]) -> Sequence[_Value]:
    """Returns the values of a list, in which no value may occur twice."""
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
    cap: Amount = Field(description="Maximum total of the held and spent amounts in one window.")
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
    max_request: Amount | None = Field(None, description="Maximum cost of a single request.")
    alerts: _Alerts = Field(
        (),
        description="Fractions of the cap, such as 0.8. Reaching a fraction raises an alert, once per window; "
        "in a rolling window, every time that the budget reaches the fraction again.",
    )
    notify: ReceiverNames = Field(
        (),
        description="Receivers of this budget's alerts, in addition to those at the top level of the file.",
    )
    min_duration_s: Annotated[int, Field(gt=0)] | None = Field(
        None, description="The shortest length, in seconds, to which capping may shorten a video."
    )
    min_resolution: Literal["720p", "1080p", "4k"] | None = Field(
        None, description="The lowest resolution to which capping may reduce a video."
    )
    keep: Settings = Field((), description="Settings that capping must not change.")
    carry_over: bool = Field(
        default=False,
        description="Whether a change of the match, window, time zone or currency carries the amounts that are "
        "already in the ledger over to the new buckets. A budget that you add again after its removal carries "
        "over unless this is false.",
    )

    @field_validator("match")
    @classmethod
    def _possible(cls, match: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        if info.context != INSTALLED:
            for label in match:
                ensure_label_text(label, "write the name of the label")
            if len(match.keys() | {"project"}) > MAX_LABELS:
                raise ValueError(
                    f"has too many labels; a request has at most {MAX_LABELS}, including the project; "
                    "remove some"
                )
        return match

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
        return tuple(sorted(distinct(alerts)))

    @field_validator("keep")
    @classmethod
    def _kept(cls, keep: tuple[Setting, ...]) -> tuple[Setting, ...]:
        return tuple(sorted(distinct(keep)))

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
        return digest_of(parts)[:16]

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


def json_text(value: Any) -> str:
    """Returns the JSON text of a value. Equal values give equal texts."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def digest_of(value: Any) -> str:
    """Returns the SHA-256 digest of a value in hexadecimal."""
    return hashlib.sha256(json_text(value).encode()).hexdigest()
