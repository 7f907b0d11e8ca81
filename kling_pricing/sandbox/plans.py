"""Faults: words such as `[fail:moderation]`, and the plan that they add up to."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, NamedTuple

from kling_pricing.display import did_you_mean, shown

_WORD = re.compile(r"\[([a-z0-9][a-z0-9-]*)(?::([A-Za-z0-9._-]+))?\]")
_STATUS = re.compile(r"[2-5][0-9]{2}")
_FACTOR = re.compile(r"x?[0-9]{1,6}(\.[0-9]{1,9})?")
_MULTIPLE = re.compile(r"x[0-9]{1,6}(\.[0-9]{1,9})?")
_SECONDS = re.compile(r"[0-9]{1,6}(\.[0-9]{1,3})?")
_RESOLUTION = re.compile(r"[0-9]+[pk]")
_SPEC: Mapping[str, Mapping[str, Any]] = {
    "ref": {"reference": True, "videos": 1},
    "noref": {"reference": False, "videos": 0},
    "audio": {"audio": True},
    "mute": {"audio": False},
}

SOURCES = ("pack", "cash", "test_balance")
"""The sources that pay for jobs."""

STATEMENT_ERRORS = (
    *("twice", "dearer", "too-long", "failed-but-charged", "late"),
    *("refunded-later", "corrected-later", "split", "missing"),
)
"""The errors that can be planted in a statement."""


@dataclass
class Plan:
    """The outcome of one submission; by default, its task is created, succeeds and is charged once.

    Attributes:
        status: the HTTP status of the error response; None: the usual response.
        code: the code in the error response; empty: the code that the API uses for this status.
        accepts: whether the task is created although the response is an error.
        answer: `sent`, `lost` (the connection is closed) or `held` (not sent until `resume` is called).
        arrives: whether the request reaches the API; if not, no task is created.
        outcome: `succeeded`, `failed` or `cancelled`.
        reason: the reason for which the task fails.
        charged_failure: whether a failed task is charged; None: as in the scenario or the price table.
        delay_s: the seconds by which the task takes longer.
        factor: the factor by which the price is multiplied.
        amount: the amount to charge, in the API's own unit; None: the price.
        stated_factor: the factor by which responses multiply the actual charge.
        facts: facts about the video that override those of the request.
        length_s: the length of the reference video in seconds; None: as in the scenario.
        duplicate_id: whether the response contains the id of the previous task.
        states_charge: whether responses state the charge; None: as in the scenario.
        pays: the sources that pay, in order; empty: as in the scenario.
        statement: the errors in the job's rows of the statement.
        headers: additional headers of the response.
        body: the body of the response; None: the usual body.
    """

    status: int | None = None
    code: str = ""
    accepts: bool = False
    answer: str = "sent"
    arrives: bool = True
    outcome: str = "succeeded"
    reason: str = "internal"
    charged_failure: bool | None = None
    delay_s: int = 0
    factor: Decimal = Decimal(1)
    amount: Decimal | None = None
    stated_factor: Decimal = Decimal(1)
    facts: dict[str, Any] = field(default_factory=dict)
    length_s: Decimal | None = None
    duplicate_id: bool = False
    states_charge: bool | None = None
    pays: tuple[str, ...] = ()
    statement: tuple[str, ...] = ()
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None


class PlannedFault(NamedTuple):
    """The faults of one future submission.

    Attributes:
        words: the fault words, such as `500:accepted`.
        headers: additional headers of the response.
        body: the body of the response; None: the usual body.
    """

    words: list[str]
    headers: Mapping[str, str] = {}
    body: bytes | None = None


class FaultError(ValueError):
    """A word is not a valid fault; the message gives the reason."""


def words_in(value: Any) -> Iterator[str]:
    """Yields every word in square brackets in the strings of a payload, without its brackets."""
    if isinstance(value, str):
        for match in _WORD.finditer(value):
            yield match[0][1:-1]
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from words_in(part)
    elif isinstance(value, list):
        for part in value:
            yield from words_in(part)


def apply_prompt_words(plan: Plan, payload: Any) -> None:
    """Adds the faults in the strings of a payload; other words in square brackets have no effect."""
    for word in words_in(payload):
        try:
            apply_fault(plan, word)
        except FaultError:
            continue


def apply_faults(plan: Plan, words: Iterable[str]) -> None:
    """Adds several faults to a plan; raises as `apply_fault` does."""
    for word in words:
        apply_fault(plan, word)


def apply_fault(plan: Plan, word: str) -> None:
    """Adds one fault to a plan.

    Raises:
        FaultError: the word is not a valid fault; the plan is unchanged.
    """
    name, _, argument = word.partition(":")
    if _STATUS.fullmatch(name):
        _apply_status(plan, int(name), argument)
    elif name in _FAULTS:
        _FAULTS[name](plan, argument)
    else:
        raise FaultError(f"unknown fault {shown(word)}; {did_you_mean(name, [*_FAULTS, '500'])}")


def _apply_status(plan: Plan, status: int, argument: str) -> None:
    if argument == "accepted":
        plan.accepts = True
    else:
        plan.code = argument
    plan.status = status


def _fail(plan: Plan, argument: str) -> None:
    plan.outcome = "failed"
    if argument == "charged":
        plan.charged_failure = True
    elif argument == "refunded":
        plan.charged_failure = False
    else:
        plan.reason = argument or plan.reason


def _cancel(plan: Plan, argument: str) -> None:
    _refuse_argument("cancel", argument)
    plan.outcome = "cancelled"


def _timeout(plan: Plan, argument: str) -> None:
    _refuse_argument("timeout", argument)
    plan.answer, plan.accepts, plan.arrives = "held", True, True


def _lose_answer(plan: Plan, argument: str) -> None:
    _refuse_argument("lost-answer", argument)
    plan.answer, plan.accepts, plan.arrives = "lost", True, True


def _hold(plan: Plan, argument: str) -> None:
    _refuse_argument("hold", argument)
    plan.answer = "held"


def _lose_request(plan: Plan, argument: str) -> None:
    _refuse_argument("lost-request", argument)
    plan.answer, plan.arrives = "lost", False


def _slow(plan: Plan, argument: str) -> None:
    plan.delay_s = int(_matching(argument, _SECONDS, "slow:30").partition(".")[0])


def _charge(plan: Plan, argument: str) -> None:
    text = _matching(argument, _FACTOR, "charge:x2")
    if text.startswith("x"):
        plan.factor, plan.amount = Decimal(text[1:]), None
    else:
        plan.factor, plan.amount = Decimal(1), Decimal(text)


def _say(plan: Plan, argument: str) -> None:
    plan.stated_factor = Decimal(_matching(argument, _MULTIPLE, "says:x2")[1:])


def _bill(plan: Plan, argument: str) -> None:
    facts: dict[str, Any] = {}
    for part in argument.split("-"):
        if _RESOLUTION.fullmatch(part):
            facts["resolution"] = part
        elif part in _SPEC:
            facts |= _SPEC[part]
        else:
            raise FaultError(
                f"cannot read the billing spec {shown(argument)}; write it like bill:1080p-ref-audio"
            )
    plan.facts |= facts


def _seconds(plan: Plan, argument: str) -> None:
    if not argument.isdecimal():
        raise FaultError(f"cannot read the length {shown(argument)}; write it like seconds:10")
    plan.facts["duration_s"] = int(argument)


def _length(plan: Plan, argument: str) -> None:
    plan.length_s = Decimal(_matching(argument, _SECONDS, "length:9.6"))


def _duplicate_id(plan: Plan, argument: str) -> None:
    _refuse_argument("duplicate-id", argument)
    plan.duplicate_id = True


def _no_charge(plan: Plan, argument: str) -> None:
    _refuse_argument("no-charge", argument)
    plan.states_charge = False


def _pays(plan: Plan, argument: str) -> None:
    sources = tuple(argument.split("."))
    if not set(sources) <= set(SOURCES):
        raise FaultError(
            f"unknown source in {shown(argument)}; use pack, cash or test_balance, or several of them "
            "separated by dots, such as pays:pack.cash"
        )
    plan.pays = sources


def _statement(plan: Plan, argument: str) -> None:
    if argument not in STATEMENT_ERRORS:
        raise FaultError(
            f"unknown statement error {shown(argument)}; {did_you_mean(argument, STATEMENT_ERRORS)}"
        )
    plan.statement = (*plan.statement, argument)


_FAULTS = {
    "fail": _fail,
    "cancel": _cancel,
    "timeout": _timeout,
    "hold": _hold,
    "lost-answer": _lose_answer,
    "lost-request": _lose_request,
    "slow": _slow,
    "charge": _charge,
    "says": _say,
    "bill": _bill,
    "seconds": _seconds,
    "length": _length,
    "duplicate-id": _duplicate_id,
    "no-charge": _no_charge,
    "pays": _pays,
    "statement": _statement,
}
"""Name of a fault -> the function that adds it to a plan."""


def _matching(argument: str, pattern: re.Pattern[str], example: str) -> str:
    if not pattern.fullmatch(argument):
        raise FaultError(f"cannot read the value {shown(argument)}; write the fault like {example}")
    return argument


def _refuse_argument(name: str, argument: str) -> None:
    if argument:
        raise FaultError(f"the fault {name} takes no value; leave out the colon and the text after it")
