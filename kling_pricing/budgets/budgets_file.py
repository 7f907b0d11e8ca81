"""The content of a budgets file: budgets, and the settings that apply to all of them.

The ledger stores the budgets as a revision, so that all guards on a ledger use the same budgets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from functools import cached_property
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from kling_pricing.budgets.entries import (
    Amount,
    BudgetEntry,
    Names,
    Settings,
    digest_of,
    distinct,
    ensure_label_text,
    json_text,
    listed,
)
from kling_pricing.budgets.receiver_names import ReceiverNames
from kling_pricing.display import did_you_mean
from kling_pricing.errors import BudgetError
from kling_pricing.quoting.settings import SACRIFICE
from kling_pricing.strict_yaml import Currency, FileModel, Text

_Texts: TypeAlias = Annotated[tuple[Text, ...], BeforeValidator(listed)]


class AccountingRate(FileModel):
    """The fixed rate that converts quotes in one currency for budgets in another."""

    quote: Currency = Field(description="The currency of the quotes.")
    budget: Currency = Field(description="The currency of the budgets.")
    rate: Amount = Field(
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

    sacrifice: Settings = Field(
        SACRIFICE,
        description="Settings that capping may change. Capping changes the settings in the order listed.",
    )
    models: Names = Field(
        (), description="Replacement models, best first. The list is required if `sacrifice` contains `model`."
    )

    @field_validator("sacrifice", "models")
    @classmethod
    def _once(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(distinct(names))

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
    accounting_rates: list[AccountingRate] = []  # noqa: RUF012 (pydantic copies it)
    capping: Capping = Capping()
    projects: _Texts | None = Field(
        None, description="The projects that may spend. Requests of any other project are refused."
    )
    require_labels: _Texts | None = Field(
        None, description="Labels that every request must have. Requests without one of them are refused."
    )

    @field_validator("projects", "require_labels")
    @classmethod
    def _possible(cls, names: tuple[str, ...] | None, info: ValidationInfo) -> tuple[str, ...] | None:
        if names is None:
            return None
        if not names:
            raise ValueError(f"must not be empty; list names, or remove {info.field_name}")
        for name in names:
            ensure_label_text(name, "list the names")
        return tuple(sorted(distinct(names)))

    @field_validator("budgets")
    @classmethod
    def _of_different_names(cls, budgets: list[BudgetEntry]) -> list[BudgetEntry]:
        if problem := repeated_names([budget.name for budget in budgets]):
            raise ValueError(problem)
        return budgets

    @field_validator("accounting_rates")
    @classmethod
    def _unambiguous(cls, rates: list[AccountingRate]) -> list[AccountingRate]:
        if problem := repeated_rates([(rate.quote, rate.budget) for rate in rates]):
            raise ValueError(problem)
        return rates

    @cached_property
    def document(self) -> str:
        """The content as JSON with its defaults, as a revision in the ledger stores it."""
        return json_text(self.model_dump(mode="json"))

    @cached_property
    def digest(self) -> str:
        """The SHA-256 digest in hexadecimal. It does not depend on the notation or the order of the budgets.

        It leaves defaults out, so that a key added to the format later changes no digest.
        """
        return unordered_digest(self.model_dump(mode="json", exclude_defaults=True))

    def refusal(self, labels: Mapping[str, str]) -> str | None:
        """Returns the reason why requests with these labels may not spend; None if they may.

        Args:
            labels: the labels of the request, including its project.
        """
        project = labels["project"]
        if self.projects and project not in self.projects:
            return f"project {project} may not spend; {did_you_mean(project, self.projects)}"
        missing = [label for label in self.require_labels or () if label not in labels]
        if missing:
            return (
                f"the request lacks the label{'s' * (len(missing) > 1)} {', '.join(missing)}, which every "
                "request needs; add a value for each with `labels`"
            )
        return None

    def rate(self, quote: str, budget: BudgetEntry, *, subject: str = "quote") -> Decimal | None:
        """Returns the accounting rate from a quote's currency to a budget's; None if they are the same.

        Args:
            quote: the currency of the quote.
            budget: the budget.
            subject: what is in that currency, for the message of an error.

        Raises:
            BudgetError: the currencies differ and have no accounting rate.
        """
        if quote == budget.currency:
            return None
        for entry in self.accounting_rates:
            if (entry.quote, entry.budget) == (quote, budget.currency):
                return entry.rate
        raise BudgetError(
            f"budget {budget.name} is in {budget.currency}, but the {subject} is in {quote}; "
            f"add {{quote: {quote}, budget: {budget.currency}, rate: ...}} to accounting_rates"
        )


def repeated_names(names: Sequence[Any]) -> str | None:
    """Returns the error for a name that two budgets have; None if their names differ."""
    twice = next((name for name in names if isinstance(name, str) and names.count(name) > 1), None)
    return None if twice is None else f"two budgets have the name {twice}; rename one of them"


def repeated_rates(pairs: Sequence[tuple[Any, Any]]) -> str | None:
    """Returns the error for two rates between the same currencies; None if there are no such rates."""
    for pair in pairs:
        if all(isinstance(currency, str) for currency in pair) and pairs.count(pair) > 1:
            return f"two accounting rates convert {pair[0]} to {pair[1]}; keep one of them"
    return None


def unordered_digest(parts: dict[str, Any]) -> str:
    """Returns the digest of a budgets document, ignoring the order of its budgets and of its rates."""
    lists = {name: parts[name] for name in ("budgets", "accounting_rates") if name in parts}
    return digest_of(parts | {name: sorted(values, key=json_text) for name, values in lists.items()})
