"""Scenarios: the YAML file that says how accounts pay, how long jobs take, and what goes wrong."""

from __future__ import annotations

import random
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, model_validator

from kling_pricing.errors import ScenarioError, TableError
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
    """Lets a number stand for a status: `500` is the fault "500"."""
    return str(value) if type(value) is int else value


FaultWord = Annotated[Text, BeforeValidator(_fault_text), AfterValidator(_known_fault)]
Seconds = Annotated[int, Field(ge=0, le=10**8)]
Hidden = Literal["resolution", "audio", "duration_s", "calls"]
Source = Literal["pack", "cash", "test_balance"]


class AccountEntry(FileModel):
    """The account at one provider, and how the provider treats it."""

    prices: Text | None = None
    """The provider whose tables price the jobs; None: its own, or the first that prices its API."""
    pays: list[Source] = Field(["pack"], min_length=1)
    """The sources that pay for a job, in order; the next one pays what the one before lacks."""
    packs: dict[Text, Price] = {}
    """Kind of a pack -> its units; a kind that is not named never runs out."""
    balance: Price | None = None
    """The money of the account; None: it never runs out."""
    test_balance: Price | None = None
    """The free test money of the account; None: it never runs out."""
    currency: Currency | None = None
    """The currency of the account; None: that of the price table."""
    unit_value: Price | None = None
    """The price of a unit that cash pays, in the account's currency; None: that of the price table."""
    cash_discount: Price = Decimal(0)
    """The fraction that is taken off a payment in cash, such as 0.3."""
    rounding: Literal["nearest", "truncate", "ceil"] = "nearest"
    """How a fraction of a quota is rounded, where the price table does not know it."""
    failed_tasks: Literal["refunded", "charged"] | None = None
    """What happens to the charge of a failed task; None: as the price table says, else refunded."""
    states_charge: bool = True
    """Whether answers name charges, where the API does."""
    api_key: Text | None = None
    """The key that calls must have; None: any key or none."""
    secret_key: Text | None = None
    """The secret that signs the tokens of calls, whose issuer is `api_key`; None: calls have the key itself."""
    concurrency: int | None = Field(None, ge=1)
    """The most jobs that may be unfinished at a time; None: any number."""
    webhook_secret: Text | None = None
    """The secret that signs callbacks, where the API signs; None: unsigned."""
    callback_url: Text | None = None
    """The address of callbacks for jobs that give none."""
    callbacks_twice: bool = False
    """Whether every callback is sent twice."""
    queue_s: Seconds | None = None
    run_s: Seconds | None = None
    results_days: int = Field(30, ge=1)
    """The days after which a result is deleted."""
    hidden: dict[Hidden, str | bool | int] = {}
    """The values of settings that a payload leaves out and for which the API publishes no default."""

    @model_validator(mode="after")
    def _issuer(self) -> AccountEntry:
        if self.secret_key is not None and self.api_key is None:
            raise ValueError("secret_key signs tokens whose issuer is api_key; give api_key too")
        return self


class FaultEntry(FileModel):
    """A fault and the jobs that have it."""

    fault: FaultWord
    provider: Text | None = None
    rate: Price | None = None
    """The share of the jobs, drawn with the seed."""
    every: int | None = Field(None, ge=1)
    """Every n-th job."""
    job: int | None = Field(None, ge=1)
    """The job with this number, counted from 1."""

    @model_validator(mode="after")
    def _one_choice(self) -> FaultEntry:
        if sum(choice is not None for choice in (self.rate, self.every, self.job)) != 1:
            raise ValueError("give exactly one of rate, every and job")
        if self.rate is not None and self.rate > 1:
            raise ValueError("rate is a share of the jobs; give a number from 0 to 1")
        return self


class Scenario(FileModel):
    """A rehearsal: accounts, times, faults and the seed that decides everything random."""

    seed: int = 0
    start: Instant | None = None
    """The instant that the clock shows first; None: the present."""
    speed: int = Field(1, ge=0, le=10**6)
    """The seconds that pass per real second; 0: the clock stands still until it is moved."""
    queue_s: Seconds = 2
    """The seconds that a job waits."""
    run_s: Seconds = 20
    """The seconds that a job runs."""
    at_root: Text | None = None
    """The provider of calls whose path and host name none; None: such calls are not known."""
    providers: dict[Text, AccountEntry] = {}
    faults: list[FaultEntry] = []
    media: dict[Text, Price] = {}
    """URL -> the length in seconds of the video or sound there."""
    media_length_s: Price = Decimal(5)
    """The length of every other video or sound."""

    def account(self, provider: str) -> AccountEntry:
        """Returns the account at a provider."""
        return self.providers.get(provider) or AccountEntry()

    def times_s(self, provider: str) -> tuple[int, int]:
        """Returns how many seconds a task waits at a provider, and how many it runs."""
        entry = self.account(provider)
        return (
            self.queue_s if entry.queue_s is None else entry.queue_s,
            self.run_s if entry.run_s is None else entry.run_s,
        )

    def plan(self, provider: str, number: int, payload: Any) -> Plan:
        """Returns the plan for the submission with this number; the same seed gives the same plan."""
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
        """Returns the length of a video or sound in seconds."""
        return self.media.get(url, self.media_length_s)


def load_scenario(path: str | Path) -> Scenario:
    """Reads a scenario file, as strictly as a price table.

    Raises:
        ScenarioError: the file cannot be read or is invalid; the error has the file, the line and the key.
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
    """Returns a scenario from a file, from a mapping with the same keys, or the empty one.

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
