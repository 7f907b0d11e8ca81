"""Budgets: who may spend how much, in which window, and what happens when a request does not fit.

A file of budgets is read as strictly as the price tables; the same budgets can be made as objects.
What they say is kept in the ledger as a revision, so that every guard of a ledger goes by the same ones.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, tzinfo
from decimal import Decimal
from functools import cache, cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, TypeVar, get_args
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainSerializer,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from kling_pricing.display import shown
from kling_pricing.errors import BudgetError, TableError
from kling_pricing.money import MAX_NANOS, NANOS, format_decimal
from kling_pricing.quoting.settings import SACRIFICE, Setting
from kling_pricing.strict_yaml import Currency, Day, FileModel, Name, Price, Text, explained, key_path, read
from kling_pricing.windows import FOREVER, WEEKDAYS, Calendar, Period, calendar_period, start_of

ANY, EACH = "any", "*"
"""In a `match`: whatever the label says, in one bucket; and each value of it in a bucket of its own."""

MAX_LABELS, MAX_LABEL_CHARS = 16, 200


_Value = TypeVar("_Value")


def _tuple(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return tuple(value)
    raise ValueError(f"must be a list, got {shown(value)}")


def _shortest(amount: Decimal) -> Decimal:
    """The same number however many zeros were written, so that the same budgets have the same document."""
    return Decimal(format_decimal(amount))


_Amount: TypeAlias = Annotated[
    Price, AfterValidator(_shortest), PlainSerializer(format_decimal, return_type=str, when_used="json")
]
_Alerts: TypeAlias = Annotated[tuple[_Amount, ...], BeforeValidator(_tuple)]
_Settings: TypeAlias = Annotated[tuple[Setting, ...], BeforeValidator(_tuple)]
_Names: TypeAlias = Annotated[tuple[Name, ...], BeforeValidator(_tuple)]


class FixedWindow(FileModel):
    """A window that comes once."""

    start: Day = Field(description="The day it begins, in the budget's time zone.")
    end: Day = Field(description="The day after its last.")

    @model_validator(mode="after")
    def _ordered(self) -> FixedWindow:
        if self.start >= self.end:
            raise ValueError("ends before it begins; end is the day after the last")
        return self


WINDOWS = ("lifetime", *get_args(Calendar))


def _window(value: Any) -> Any:
    """A window, so that what is wrong with it is said of the one that was meant."""
    if isinstance(value, dict):
        try:
            return FixedWindow.model_validate(value)
        except ValidationError as error:
            path, problem = explained(error.errors(include_url=False)[0])
            raise ValueError(": ".join(part for part in (key_path(path), problem) if part)) from None
    if isinstance(value, FixedWindow) or (isinstance(value, str) and value in WINDOWS):
        return value
    raise ValueError(f"must be {', '.join(WINDOWS)}, or {{start: ..., end: ...}}, got {shown(value)}")


def _wanted(value: Any) -> Any:
    """What a label is matched with; a list means the same in any order."""
    texts = [*value] if isinstance(value, list | tuple) else [value]
    if not texts or not all(isinstance(text, str) and text for text in texts):
        raise ValueError(f"must be a value, a list of values, any or *, as text, got {shown(value)}")
    if isinstance(value, list | tuple) and {ANY, EACH} & {*texts}:
        raise ValueError(f"{ANY} and {EACH} stand alone, not in a list")
    return sorted(_distinct(texts)) if isinstance(value, list | tuple) else value


def _distinct(values: Sequence[_Value]) -> Sequence[_Value]:
    if twice := next((value for value in values if values.count(value) > 1), None):
        raise ValueError(f"{twice} is there twice; keep one of them")
    return values


class BudgetEntry(FileModel):
    """One budget, as it stands in a file."""

    name: Name
    match: dict[Text, Annotated[str | list[str], BeforeValidator(_wanted)]] = Field(
        {},
        description="label -> its value, a list of values, any (in one bucket), or * (each value has its own "
        "bucket); empty: every request.",
    )
    cap: _Amount = Field(description="What may be held and spent in one window.")
    currency: Currency
    window: Annotated[Literal["lifetime"] | Calendar | FixedWindow, BeforeValidator(_window)] = "lifetime"
    timezone: str = Field("UTC", description="IANA name, such as Asia/Shanghai.")
    week_starts: Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"] = (
        "monday"
    )
    on_exceed: Literal["reject", "cap"] = Field("reject", description="cap: look for a cheaper valid request.")
    max_request: _Amount | None = Field(None, description="What a single request may cost at most.")
    alerts: _Alerts = Field((), description="Parts of the cap, such as 0.8; each alerts once a window.")
    min_duration_s: Annotated[int, Field(gt=0)] | None = Field(
        None, description="Never cap below these seconds."
    )
    min_resolution: Literal["720p", "1080p", "4k"] | None = Field(None, description="Never cap below it.")
    keep: _Settings = Field((), description="What capping must not change.")
    carry_over: bool = Field(
        default=False,
        description="Where its match, window, zone or currency changes: count what was spent before.",
    )

    @field_validator("cap", "max_request")
    @classmethod
    def _countable(cls, amount: Decimal | None) -> Decimal | None:
        if amount is not None and amount > MAX_NANOS // NANOS:
            raise ValueError(f"is too large; the most is {format_decimal(Decimal(MAX_NANOS // NANOS))}")
        return amount

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, name: str) -> str:
        try:
            _zone(name)
        except (OSError, ValueError, KeyError):
            raise ValueError(
                f"{name!r} is not a time zone of this machine; write an IANA name such as Asia/Shanghai"
                " (where there are none, pip install tzdata)"
            ) from None
        return name

    @field_validator("alerts")
    @classmethod
    def _reachable(cls, alerts: tuple[Decimal, ...]) -> tuple[Decimal, ...]:
        if any(part <= 0 or part > 1 for part in alerts):
            raise ValueError("an alert is a part of the cap above 0 and up to 1, such as 0.8")
        return tuple(sorted(_distinct(alerts)))

    @field_validator("keep")
    @classmethod
    def _kept(cls, keep: tuple[Setting, ...]) -> tuple[Setting, ...]:
        return tuple(sorted(_distinct(keep)))

    @field_validator("week_starts")
    @classmethod
    def _meaningful(cls, day: str, info: ValidationInfo) -> str:
        if day != WEEKDAYS[0] and info.data.get("window") != "week":
            raise ValueError("only a window of a week begins on a weekday; leave it out")
        return day

    @property
    def zone(self) -> tzinfo:
        """The time zone of its windows."""
        return _zone(self.timezone)

    @cached_property
    def definition(self) -> str:
        """What makes two budgets of the same name count the same: match, window, zone and currency."""
        parts = self.model_dump(mode="json", include={"match", "window", "timezone", "week_starts", "currency"})
        return _digest(parts)[:16]

    def bucket_labels(self, labels: Mapping[str, str]) -> dict[str, str] | None:
        """The labels of the bucket in which a request counts; None when the budget does not match it."""
        own = {}
        for label, wanted in self.match.items():
            value = labels.get(label)
            if value is None or (isinstance(wanted, list) and value not in wanted):
                return None
            if wanted == EACH:
                own[label] = value
            elif isinstance(wanted, str) and wanted not in {ANY, value}:
                return None
        return own

    @cached_property
    def only_period(self) -> Period | None:
        """The window that comes once; None where windows follow each other, or there is no end."""
        if not isinstance(self.window, FixedWindow):
            return None
        return Period(start_of(self.window.start, self.zone), start_of(self.window.end, self.zone))

    def period(self, at: datetime) -> Period | None:
        """The window that an instant lies in; None when it is outside the only one."""
        if isinstance(self.window, FixedWindow):
            only = self.only_period
            return only if only is not None and only.start <= at < only.end else None
        if self.window == "lifetime":
            return FOREVER
        return calendar_period(self.window, at, self.zone, self.week_starts)


class Budget(BudgetEntry):
    """A limit on what matching requests may cost together within a window.

    Attributes:
        name: what messages and reports call it.
        match: label -> its value, a list of values, `any` (in one bucket), or `"*"` (each value of it has
            a bucket of its own); empty: every request. `project` is a label like others.
        cap: what may be held and spent in one window, in `currency`.
        currency: ISO 4217 code; quotes in another need an accounting rate.
        window: `lifetime`, `day`, `week`, `month`, `quarter`, `year`, or `{"start": ..., "end": ...}` with
            the first day and the day after the last.
        timezone: IANA name of the zone in which days begin.
        week_starts: the first day of a week.
        on_exceed: `reject` a request that does not fit, or `cap` it: look for a cheaper valid one.
        max_request: what a single request may cost at most; None: the cap alone limits it.
        alerts: parts of the cap at which an alert fires, once a window.
        min_duration_s: capping does not go below it.
        min_resolution: capping does not go below it.
        keep: what capping does not change: `duration_s`, `resolution`, `audio`, `model`.
        carry_over: where a revision changes match, window, zone or currency, or the budget is new: whether
            its buckets count what the ledger already holds.

    Raises:
        BudgetError: a value cannot be used; the message names it.
    """

    def __init__(self, **given: Any) -> None:
        try:
            super().__init__(**given)
        except ValidationError as error:
            raise _object_error(error, given.get("name")) from None


class AccountingRate(FileModel):
    """At what fixed rate a quote in one currency counts in budgets of another."""

    quote: Currency = Field(description="The currency of quotes.")
    budget: Currency = Field(description="The currency of budgets.")
    rate: _Amount = Field(description="What one unit of the quote's currency counts as.")

    @field_validator("budget")
    @classmethod
    def _another(cls, budget: str, info: ValidationInfo) -> str:
        if budget == info.data.get("quote"):
            raise ValueError("is the currency of the quotes too, which needs no rate; leave it out")
        return budget

    @field_validator("rate")
    @classmethod
    def _positive(cls, rate: Decimal) -> Decimal:
        if not rate:
            raise ValueError("must be more than 0, or spending would not count")
        return rate


class Capping(FileModel):
    """How a request that does not fit is made cheaper."""

    sacrifice: _Settings = Field(
        SACRIFICE, description="What may be changed; what is given up first stands first."
    )
    models: _Names = Field((), description="With model among them: what may be used instead, the best first.")

    @field_validator("sacrifice", "models")
    @classmethod
    def _once(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(_distinct(names))

    @model_validator(mode="after")
    def _consistent(self) -> Capping:
        if ("model" in self.sacrifice) != bool(self.models):
            raise ValueError("to change the model, put model into sacrifice and list the models to use instead")
        return self


class BudgetsFile(FileModel):
    """A file of budgets."""

    budgets: Annotated[list[BudgetEntry], Field(min_length=1)]
    unmatched: Literal["refuse", "allow"] = Field(
        "refuse", description="What becomes of requests no budget matches."
    )
    accounting_rates: list[AccountingRate] = []
    capping: Capping = Capping()

    @field_validator("budgets")
    @classmethod
    def _of_different_names(cls, budgets: list[BudgetEntry]) -> list[BudgetEntry]:
        names = [budget.name for budget in budgets]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"there are two budgets {twice}; give each a name of its own")
        return budgets

    @field_validator("accounting_rates")
    @classmethod
    def _unambiguous(cls, rates: list[AccountingRate]) -> list[AccountingRate]:
        pairs = [(each.quote, each.budget) for each in rates]
        if pair := next((pair for pair in pairs if pairs.count(pair) > 1), None):
            raise ValueError(f"there are two accounting rates from {pair[0]} to {pair[1]}; keep one of them")
        return rates

    @cached_property
    def document(self) -> str:
        """The budgets as JSON, defaults included: the document that a revision keeps."""
        return _json(self.model_dump(mode="json"))

    @cached_property
    def digest(self) -> str:
        """SHA-256, in hexadecimal: the same for the same budgets, in whatever way and order they are written.

        Defaults are left out, so that a key that is added to the format later changes no digest.
        """
        return _unordered_digest(self.model_dump(mode="json", exclude_defaults=True))

    def rate(self, quote: str, budget: BudgetEntry) -> Decimal | None:
        """What one unit of a quote's currency counts as in a budget; None: it is the budget's own.

        Raises:
            BudgetError: it is not, and no accounting rate is given.
        """
        if quote == budget.currency:
            return None
        for each in self.accounting_rates:
            if (each.quote, each.budget) == (quote, budget.currency):
                return each.rate
        raise BudgetError(
            f"budget {budget.name} counts {budget.currency} and the quote is in {quote}; "
            f"add to accounting_rates: {{quote: {quote}, budget: {budget.currency}, rate: ...}}"
        )


class Budgets(BudgetsFile):
    """Budgets as objects, and what holds for all of them.

    Attributes:
        budgets: the budgets, of different names.
        unmatched: whether a request that none of them matches is refused (`refuse`, the default) or let
            through without a limit (`allow`).
        accounting_rates: how quotes in other currencies count.
        capping: what is changed to make a request fit, and in which order.

    Raises:
        BudgetError: a value cannot be used; the message names it.
    """

    def __init__(self, budgets: Iterable[BudgetEntry], **given: Any) -> None:
        if isinstance(budgets, BudgetEntry | Mapping) or not isinstance(budgets, Iterable):
            raise BudgetError(f"budgets must be a list of Budget, got {type(budgets).__name__}")
        try:
            super().__init__(budgets=list(budgets), **given)
        except ValidationError as error:
            raise _object_error(error) from None


BudgetsLike: TypeAlias = "str | Path | BudgetsFile | Iterable[Budget]"
"""A file of budgets, or the budgets themselves."""


def load_budgets(path: str | Path) -> BudgetsFile:
    """Reads a file of budgets.

    Raises:
        BudgetError: it cannot be read, or says something that cannot be used; with file, line and key path.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise BudgetError(f"cannot be read: {error.strerror}", file=str(path)) from None
    try:
        found, _ = read(data, BudgetsFile, name=str(path))
    except TableError as error:
        raise BudgetError(error.problem, file=error.file, line=error.line, key_path=error.key_path) from None
    return found


def read_budgets(budgets: BudgetsLike) -> BudgetsFile:
    """Budgets, whichever way they are given.

    Raises:
        BudgetError: they cannot be used.
    """
    if isinstance(budgets, BudgetsFile):
        return budgets
    if isinstance(budgets, str | Path):
        return load_budgets(budgets)
    return Budgets(budgets)


def budgets_from_document(document: str) -> BudgetsFile:
    """The budgets of a revision, from the document that the ledger keeps.

    Raises:
        BudgetError: they cannot be used here.
    """
    try:
        return BudgetsFile.model_validate(json.loads(document))
    except ValidationError as error:
        path, problem = explained(error.errors(include_url=False)[0])
        raise BudgetError(
            f"the ledger's budgets cannot be used by this version on this machine: {key_path(path)}: {problem}"
        ) from None


def is_digest_of(digest: str, document: str) -> bool:
    """Whether a revision's digest is that of its document.

    Ledgers of schema version 1 took the digest of the whole document, defaults included.

    Raises:
        BudgetError: the budgets cannot be used here.
    """
    return digest in {budgets_from_document(document).digest, _unordered_digest(json.loads(document))}


def budgets_file_schema() -> dict[str, Any]:
    """The JSON Schema of a file of budgets."""
    return BudgetsFile.model_json_schema()


def _object_error(error: ValidationError, name: Any = None) -> BudgetError:
    path, problem = explained(error.errors(include_url=False)[0])
    return BudgetError(problem if name is None else f"budget {shown(name)}: {problem}", key_path=key_path(path))


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _digest(value: Any) -> str:
    return hashlib.sha256(_json(value).encode()).hexdigest()


def _unordered_digest(parts: dict[str, Any]) -> str:
    """Returns the digest of a document in which the order of budgets and of rates does not count."""
    lists = {name: parts[name] for name in ("budgets", "accounting_rates") if name in parts}
    return _digest(parts | {name: sorted(values, key=_json) for name, values in lists.items()})


@cache
def _zone(name: str) -> tzinfo:
    return UTC if name == "UTC" else ZoneInfo(name)  # UTC is known without a database of zones
