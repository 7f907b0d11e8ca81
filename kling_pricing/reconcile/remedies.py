"""The details of a line that decide its messages, and the remedy of a charge that is not as expected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import NamedTuple

from kling_pricing.display import joined_with_and
from kling_pricing.money import format_decimal
from kling_pricing.reconcile.model import Line


class LineDetails(NamedTuple):
    """The details of a line that its messages need beside its own fields.

    Attributes:
        account: the account for which the provider issued the statements.
        other_account: the other account from which the ledger says the task was sent; None: there is none.
        since: start of the period.
        until: end of the period (exclusive).
        grace: how long after its submission a task may still be charged.
        state: the state of the reservation.
        copies: the number of reservations that have the task.
        reservations: their ids, if there are several.
        stated_state: the state of the task on the statement.
        failed: whether a response or a callback stated that the task failed.
        failed_as_stated: whether the statement states that the task failed.
        problem: of a row that cannot be read: the column, the kind of problem, and the column's text.
        unread_rows: the rows that cannot be read, of a line that has such rows.
        blind_rows: the number of rows that cannot be read and may charge this line's task.
        fits: of a candidate: the number of charges or requests that fit it.
        candidates: the nearest of those.
        explanation: the explanation of the variance, or a hint, or another observation, in words.
        shared: the explanation without the details of the task.
        kind: the kind of the explanation; None: there is none, or only a hint.
        alternatives: other explanations that fit as well.
        whole: the whole charge of the task, in whichever period; None: no charge is stated.
        elsewhere: the task's other rows, outside the period, each with its time.
        overlaps: whether several files, or rows with the same id, have the same charge of the task.
        unknown: columns of the statement with texts that its mapping does not know, and those texts.
        is_exception: whether the line needs action.
        disputes: the numbers of the open disputes of the task's charges.
        disputed: the amount that they dispute.
        disputed_since: when the first of them was opened; None: there is none.
        is_disputed: whether they cover the whole excess of the charge.
    """

    account: str
    other_account: str | None
    since: datetime
    until: datetime
    grace: timedelta
    state: str | None
    copies: int | None
    reservations: Sequence[str] | None
    stated_state: str | None
    failed: bool
    failed_as_stated: bool
    problem: Mapping[str, str] | None
    unread_rows: Sequence[str]
    blind_rows: int
    fits: int | None
    candidates: Sequence[str] | None
    explanation: str | None
    shared: str | None
    kind: str | None
    alternatives: str | None
    whole: Decimal | None
    elsewhere: Sequence[tuple[str, datetime | None]]
    overlaps: bool
    unknown: Sequence[tuple[str, str]] | None
    is_exception: bool
    disputes: Sequence[int]
    disputed: Decimal
    disputed_since: datetime | None
    is_disputed: bool


def not_charged_command(line: Line, details: LineDetails) -> str:
    """Returns the command that returns the money of a task that costs nothing."""
    if details.state == "settled":
        return f"`kling-pricing settle {line.reservation_id} --amount 0 --basis operator`"
    return f"`kling-pricing resolve {line.reservation_id} --not-charged`"


def dispute_remedy(details: LineDetails) -> str:
    """Returns how the open disputes of a charge end; none of them needs to be opened again."""
    numbers = [str(number) for number in details.disputes]
    named = f"dispute{'s' * (len(numbers) > 1)} {joined_with_and(numbers)}"
    commands = joined_with_and(f"`kling-pricing dispute resolve {number} --reason TEXT`" for number in numbers)
    return (
        f"The charge has been in dispute since {details.disputed_since:%Y-%m-%d} ({named}). A corrected "
        "statement without the charge ends the dispute by itself. If the provider refunds the charge, remember "
        f"the statement with the refund, and then run {commands}. If you accept the charge, run this now."
    )


def _settle_command(line: Line, details: LineDetails) -> str:
    """Returns the command that settles this task alone at its charge, whatever the ledger counted before."""
    basis = "operator" if line.basis in {"statement", "operator"} else "statement"
    amount = format_decimal(details.whole or Decimal(0))
    return f"`kling-pricing settle {line.reservation_id} --amount {amount} --basis {basis}`"


def is_contradicted(details: LineDetails) -> bool:
    """Returns whether a response stated that the task failed, and the statement that it succeeded."""
    return details.failed and not details.failed_as_stated and details.stated_state == "succeeded"


def remedy_of(line: Line, details: LineDetails, difference: Decimal) -> str:
    """Returns the action that is needed if a charge differs from the expected amount."""
    extra = money_text(abs(difference), line)
    compared = f"{extra} {'more' if difference > 0 else 'less'} than expected"
    if details.kind == "failed_charged":
        dispute = f"the charge of {money_text(details.whole or Decimal(0), line)}"
        reason = "according to the price table, the provider refunds failed tasks."
        if is_contradicted(details):
            return f"Check whether the clip was delivered. If it was not, dispute {dispute}: {reason}"
        return f"Dispute {dispute}: {reason}"
    if details.kind == "written_off":
        return (
            "Find out whether the task was delivered. If the charge is right, correct the operator's entry "
            "with "
            f"`kling-pricing settle {line.reservation_id} --amount "
            f"{format_decimal(details.whole or Decimal(0))} --basis operator`; if not, dispute the charge."
        )
    if details.kind == "repriced":
        return (
            f"The charge is {compared}. Restore the price table as it was when the task was quoted, "
            "and put the changed prices into a table with another id."
        )
    if details.kind == "not_charged" and details.whole is None:
        command = not_charged_command(line, details)
        return f"No payment is due. To return the money to its budgets, run {command}."
    if details.kind == "not_charged":
        return f"No payment is due. To return the money to its budgets, run {_settle_command(line, details)}."
    if details.kind == "refund":
        command = _settle_command(line, details)
        return f"The charge is {compared}. To return the rest to its budgets, run {command}."
    if details.kind == "biased_rounding":
        return (
            "Ask the provider how it rounds amounts, and add the rule to the price table. Dispute roundings "
            "that do not follow the rule."
        )
    if details.kind == "misrounding":
        return (
            f"The charge is {compared}. Ask the provider why the charge is not rounded as the price table "
            "specifies."
        )
    if difference < 0:
        return f"The charge is {compared}. Check whether the delivered clip is the one that was requested."
    if details.kind == "table":
        return (
            f"Check which prices applied when the request was sent, and dispute the extra {extra} or "
            "correct the "
            "price tables."
        )
    if details.kind in {"times", "discount"}:
        return f"The charge is {compared}. Dispute the charge with the provider."
    if details.kind is None:
        return (
            f"The charge is {compared}. Ask the provider for the calculation, and dispute the charge if there "
            "is no answer."
        )
    return (
        f"Compare the request with the delivered clip. If the clip is as requested, dispute the extra {extra}."
    )


def money_text(amount: Decimal, line: Line) -> str:
    """Returns an amount with the currency of a line."""
    return f"{format_decimal(amount)} {line.currency}"
