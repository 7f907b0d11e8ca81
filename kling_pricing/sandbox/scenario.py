"""Scenarios: YAML files that set how accounts pay, how long jobs take, and which faults occur."""

from __future__ import annotations

import random
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, model_validator

from kling_pricing.errors import ScenarioError, TableError
from kling_pricing.sandbox.callbacks import webhook_key
from kling_pricing.sandbox.plans import FaultError, Plan, apply_fault, apply_prompt_words
from kling_pricing.strict_yaml import Currency, FileModel, Instant, Price, Text, explained, key_path, read

_DRAWS = 10**9


def _known_fault(word: str) -> str:
    try:
        apply_fault(Plan(), word)
    except FaultError as error:
        raise ValueError(str(error)) from None
    return word


def _fault_text(value: Any) -> Any:
    """Converts a number such as 500 to the fault "500"."""
    return str(value) if type(value) is int else value


def _webhook_secret(secret: str) -> str:
    try:
        webhook_key(secret)
    except ValueError:
        raise ValueError("is not a webhook secret; write whsec_ and the key in base64") from None
    return secret


FaultWord = Annotated[Text, BeforeValidator(_fault_text), AfterValidator(_known_fault)]
Seconds = Annotated[int, Field(ge=0, le=10**8)]
Hidden = Literal["resolution", "audio", "duration_s", "calls"]
Source = Literal["pack", "cash", "test_balance"]


class AccountEntry(FileModel):
    """The customer's account at one provider, and the settings of this provider."""

    prices: Text | None = None
    """The provider whose price tables price the jobs; None: this one, or the first that prices its API."""
    pays: list[Source] = Field(["pack"], min_length=1)
    """The sources that pay for a job, in order; if one does not have enough, the next one pays the rest."""
    packs: dict[Text, Price] = {}
    """Kind of pack -> number of units; a kind that is not listed never runs out."""
    balance: Price | None = None
    """The cash balance; None: it never runs out."""
    test_balance: Price | None = None
    """The balance of free test credit; None: it never runs out."""
    currency: Currency | None = None
    """The currency of the account; None: the currency of the price table."""
    unit_value: Price | None = None
    """The price of one unit paid in cash, in the account's currency; None: the price in the price table."""
    cash_discount: Price = Decimal(0)
    """The discount on payments in cash, as a fraction such as 0.3."""
    rounding: Literal["nearest", "truncate", "ceil"] = "nearest"
    """How an amount of quota is rounded to a whole number if the price table does not specify it."""
    failed_tasks: Literal["refunded", "charged"] | None = None
    """What happens to the charge for a failed task; None: as in the price table, or else refunded."""
    states_charge: bool = True
    """Whether responses state charges, if the API does so."""
    api_key: Text | None = None
    """The API key that requests must have; None: no key is required."""
    secret_key: Text | None = None
    """The secret with which callers sign tokens, issued by `api_key`; None: requests have the key itself."""
    concurrency: int | None = Field(None, ge=1)
    """The maximum number of unfinished jobs; None: there is no limit."""
    webhook_secret: Annotated[Text, AfterValidator(_webhook_secret)] | None = None
    """The secret with which callbacks are signed, if the API signs callbacks; None: they are not signed."""
    callback_url: Text | None = None
    """The callback URL for jobs that do not specify one; None: they have no callbacks."""
    callbacks_twice: bool = False
    """Whether every callback is sent twice."""
    queue_s: Seconds | None = None
    """The seconds that a task waits before it runs; None: as in the scenario."""
    run_s: Seconds | None = None
    """The seconds that a task runs; None: as in the scenario."""
    results_days: int = Field(30, ge=1)
    """The number of days after which a result is deleted."""
    hidden: dict[Hidden, str | bool | int] = {}
    """The values of settings that are missing from a payload and have no published default."""

    @model_validator(mode="after")
    def _issuer(self) -> AccountEntry:
        if self.secret_key is not None and self.api_key is None:
            raise ValueError(
                "`secret_key` needs `api_key`, the issuer of the tokens that `secret_key` signs; give both"
            )
        return self


class FaultEntry(FileModel):
    """A fault, and the jobs to which it applies."""

    fault: FaultWord
    provider: Text | None = None
    """The provider whose jobs are affected; None: the jobs of all providers."""
    rate: Price | None = None
    """The share of jobs, chosen at random."""
    every: int | None = Field(None, ge=1)
    """Applies the fault to every n-th job."""
    job: int | None = Field(None, ge=1)
    """Applies the fault to the job with this number, counted from 1 across all providers."""

    @model_validator(mode="after")
    def _one_choice(self) -> FaultEntry:
        if sum(choice is not None for choice in (self.rate, self.every, self.job)) != 1:
            raise ValueError("give exactly one of `rate`, `every` and `job`")
        if self.rate is not None and self.rate > 1:
            raise ValueError("`rate` is a share of the jobs; give a number from 0 to 1")
        return self


class Scenario(FileModel):
    """The settings of a sandbox: accounts, durations, faults, and the seed for all random choices."""

    seed: int = 0
    start: Instant | None = None
    """The time at which the clock starts; None: now."""
    speed: int = Field(1, ge=0, le=10**6)
    """The seconds that pass on the clock per real second; 0: the clock moves only on request."""
    queue_s: Seconds = 2
    """The seconds that a task waits before it runs."""
    run_s: Seconds = 20
    """The seconds that a task runs."""
    at_root: Text | None = None
    """The provider of requests in which neither path nor host names one; None: such requests are refused."""
    providers: dict[Text, AccountEntry] = {}
    faults: list[FaultEntry] = []
    media: dict[Text, Price] = {}
    """URL of a video or audio file -> its length in seconds."""
    media_length_s: Price = Decimal(5)
    """The length of every other video or audio file, in seconds."""

    def account(self, provider: str) -> AccountEntry:
        """Returns the account at a provider, with defaults if the scenario does not list it."""
        return self.providers.get(provider) or AccountEntry()

    def times_s(self, provider: str) -> tuple[int, int]:
        """Returns the seconds that a provider's tasks wait, and the seconds that they then run."""
        entry = self.account(provider)
        return (
            self.queue_s if entry.queue_s is None else entry.queue_s,
            self.run_s if entry.run_s is None else entry.run_s,
        )

    def plan(self, provider: str, number: int, payload: Any) -> Plan:
        """Returns the plan for a submission by its number; the same seed always gives the same plan."""
        plan = Plan()
        for place, entry in enumerate(self.faults):
            if entry.provider in {None, provider} and self._applies(entry, place, number):
                apply_fault(plan, entry.fault)
        apply_prompt_words(plan, payload)
        return plan

    def _applies(self, entry: FaultEntry, place: int, number: int) -> bool:
        if entry.job is not None:
            return number == entry.job
        if entry.every is not None:
            return number % entry.every == 0
        draw = random.Random(f"{self.seed}/{place}/{number}").randrange(_DRAWS)  # noqa: S311 (reproducible)
        return draw < (entry.rate or 0) * _DRAWS

    def length_s(self, url: str) -> Decimal:
        """Returns the length of a video or audio file in seconds."""
        return self.media.get(url, self.media_length_s)


def load_scenario(path: str | Path) -> Scenario:
    """Reads a scenario file, which is checked as strictly as a price table.

    Raises:
        ScenarioError: the file cannot be read or is invalid; the error names the file, the line and the key.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ScenarioError(f"cannot be read: {error.strerror}", file=str(path)) from None
    try:
        scenario, _ = read(data, Scenario, name=str(path))
    except TableError as error:
        raise ScenarioError(error.problem, file=error.file, line=error.line, key_path=error.key_path) from None
    return scenario


def read_scenario(scenario: Scenario | Mapping[str, Any] | str | Path | None) -> Scenario:
    """Returns a scenario from a file or a mapping with the same keys; None: the default scenario.

    Raises:
        ScenarioError: the scenario is invalid.
    """
    if scenario is None:
        return Scenario()
    if isinstance(scenario, Scenario):
        return scenario
    if not isinstance(scenario, Mapping):
        return load_scenario(scenario)
    try:
        return Scenario.model_validate(dict(scenario))
    except ValidationError as error:
        path, problem = explained(error.errors(include_url=False)[0])
        raise ScenarioError(problem, key_path=key_path(path)) from None
