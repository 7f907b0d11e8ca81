"""`accounts.yaml`: the accounts, cost centres and tax texts with which the journal is booked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from pydantic import Field

from kling_pricing.display import did_you_mean, shown
from kling_pricing.errors import TableError, TableProblems
from kling_pricing.strict_yaml import FileModel, Text, read
from kling_pricing.tables.price_book import PriceBook

BookedAccount: TypeAlias = Literal["expense", "variance", "disputed", "liability", "rounding", "exchange"]
"""An account of the booked journal: those of the books, and two that booking needs."""

ACCOUNT_NAMES: Mapping[BookedAccount, str] = {
    "expense": "Video generation",
    "variance": "Billing variance",
    "disputed": "Disputed charges",
    "liability": "Accrued liabilities",
    "rounding": "Rounding differences",
    "exchange": "Exchange differences",
}
"""Account -> its name, if `accounts.yaml` gives no other."""


class LedgerAccount(FileModel):
    """An account of your own accounting.

    Attributes:
        code: its number or code.
        name: its name; by default, the usual name of the account.
    """

    code: Text
    name: Text | None = None


class NamedAccounts(FileModel):
    """The accounts of all entries, but for those that a rule gives."""

    expense: LedgerAccount | None = None
    variance: LedgerAccount | None = None
    disputed: LedgerAccount | None = None
    liability: LedgerAccount | None = None
    rounding: LedgerAccount | None = None
    exchange: LedgerAccount | None = None


class CostAccounts(FileModel):
    """The accounts that a rule may give: those with an amount per project and label."""

    expense: LedgerAccount | None = None
    variance: LedgerAccount | None = None
    disputed: LedgerAccount | None = None


class BookingRule(FileModel):
    """A cost centre, a tax text or accounts for some tasks.

    Attributes:
        provider: the provider that the tasks were sent to; None: any.
        match: label -> its value, or a list of values. The project is the label `project`. Empty: all tasks.
        cost_centre: the cost centre of the tasks.
        tax_text: a text about tax, such as `reverse charge`.
        accounts: accounts of the tasks that differ from the usual ones.
    """

    provider: Text | None = None
    match: dict[Text, Text | list[Text]] = Field(default_factory=dict)
    cost_centre: Text | None = None
    tax_text: Text | None = None
    accounts: CostAccounts = Field(default_factory=CostAccounts)

    def applies_to(self, provider: str, labels: Mapping[str, str]) -> bool:
        """Returns whether it is about tasks of a provider with these labels."""
        return self.provider in {None, provider} and all(
            labels.get(name) in (values if isinstance(values, list) else [values])
            for name, values in self.match.items()
        )


class AccountsFile(FileModel):
    """The content of `accounts.yaml`.

    Attributes:
        accounts: the accounts.
        rules: the rules. For each of a cost centre, a tax text and an account, the first rule counts that
            applies to a task and gives one.
    """

    accounts: NamedAccounts = Field(default_factory=NamedAccounts)
    rules: list[BookingRule] = Field(default_factory=list)

    def account(
        self, account: BookedAccount, provider: str, labels: Mapping[str, str]
    ) -> tuple[str | None, str]:
        """Returns the code and the name of an account for tasks with these labels."""
        given = [getattr(rule.accounts, account, None) for rule in self._applying(provider, labels)]
        chosen = next((each for each in (*given, getattr(self.accounts, account)) if each is not None), None)
        usual = ACCOUNT_NAMES[account]
        return (None, usual) if chosen is None else (chosen.code, chosen.name or usual)

    def cost_centre(self, provider: str, labels: Mapping[str, str]) -> str | None:
        """Returns the cost centre of tasks with these labels; None: no rule gives one."""
        return next(
            (rule.cost_centre for rule in self._applying(provider, labels) if rule.cost_centre is not None),
            None,
        )

    def tax_text(self, provider: str, labels: Mapping[str, str]) -> str | None:
        """Returns the text about tax for tasks with these labels; None: no rule gives one."""
        return next(
            (rule.tax_text for rule in self._applying(provider, labels) if rule.tax_text is not None), None
        )

    def _applying(self, provider: str, labels: Mapping[str, str]) -> Iterator[BookingRule]:
        return (rule for rule in self.rules if rule.applies_to(provider, labels))


def load_accounts(path: str | Path, *, book: PriceBook) -> AccountsFile:
    """Reads an `accounts.yaml`.

    Args:
        path: the file.
        book: the price tables, whose providers a rule may name.

    Raises:
        TableError: the file cannot be read or is invalid; it names the place and the remedy, and `others` has
            the other mistakes in the file.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise TableError(f"cannot be read: {error.strerror}; check the path", file=str(path)) from None
    accounts, document = read(data, AccountsFile, name=str(path))
    problems = TableProblems()
    for place, rule in enumerate(accounts.rules):
        here = ("rules", place)
        if rule.provider is not None and not book.knows(rule.provider):
            remedy = did_you_mean(rule.provider, [*book.tables, *book.unpriced])
            problem = f"unknown provider {shown(rule.provider)}; {remedy}"
            problems.append(document.error((*here, "provider"), problem))
        if not _gives_something(rule):
            problem = "the rule gives nothing; add cost_centre, tax_text or accounts, or remove the rule"
            problems.append(document.error(here, problem))
    if problems:
        raise problems.first()
    return accounts


def _gives_something(rule: BookingRule) -> bool:
    accounts = (getattr(rule.accounts, name) for name in get_args(BookedAccount)[:3])
    return any(given is not None for given in (rule.cost_centre, rule.tax_text, *accounts))


def accounts_schema() -> dict[str, Any]:
    """Returns the JSON Schema of `accounts.yaml`, for editors."""
    return AccountsFile.model_json_schema()
