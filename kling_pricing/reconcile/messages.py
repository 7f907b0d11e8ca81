"""The messages of a line: its cause, which is why the line is in its category, and its remedy.

A cause may be shown to the provider, so it must not name anything of ours; a remedy is for us.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from shlex import quote
from typing import NamedTuple

from kling_pricing.money import format_decimal
from kling_pricing.reconcile.categories import Category
from kling_pricing.reconcile.model import Line
from kling_pricing.reconcile.problems import PROBLEMS

_SHOWABLE = re.compile(r"[0-9A-Za-z.,+:/%$ -]{1,24}")
_LETTERS = re.compile(r"[A-Za-z]")
_MAX_LETTERS = 4


class LineDetails(NamedTuple):
    """The details of a line that its messages need beside its own fields.

    Attributes:
        since: start of the period.
        until: end of the period (exclusive).
        grace: how long after its submission a task may still be charged.
        state: the state of the reservation.
        copies: the number of reservations that have the task.
        reservations: their ids, if there are several.
        stated_state: the state of the task on the statement.
        problem: of a row that cannot be read: the column, the kind of problem, and the column's text.
        fits: of a candidate: the number of charges or requests that fit it.
        candidates: the nearest of those.
        explanation: the explanation of the variance, or of another observation, in words.
        kind: the kind of the explanation.
        alternatives: other explanations that fit as well.
        whole: the whole charge of the task, in whichever period; None: no charge is stated.
        elsewhere: the task's other rows, outside the period, each with its time.
        overlaps: whether several files, or rows with the same id, have the same charge of the task.
        unknown: columns of the statement with texts that its mapping does not know, and those texts.
        is_exception: whether the line needs action.
    """

    since: datetime
    until: datetime
    grace: timedelta
    state: str | None
    copies: int | None
    reservations: Sequence[str] | None
    stated_state: str | None
    problem: Mapping[str, str] | None
    fits: int | None
    candidates: Sequence[str] | None
    explanation: str | None
    kind: str | None
    alternatives: str | None
    whole: Decimal | None
    elsewhere: Sequence[tuple[str, datetime | None]]
    overlaps: bool
    unknown: Sequence[tuple[str, str]] | None
    is_exception: bool


_CauseAndRemedy = tuple[str, str]


def cause_and_remedy(line: Line, details: LineDetails) -> _CauseAndRemedy:
    """Returns the cause and the remedy of a line; a line that is not an exception has no remedy."""
    cause, remedy = _MESSAGES[line.category](line, details)
    notes = ["the same row appears more than once and is counted once"] if details.overlaps else []
    notes += [
        f"column {column}: the mapping does not list {shown_text(text)}"
        for column, text in details.unknown or ()
    ]
    cause = "; ".join(filter(None, [cause, *notes]))
    return cause, remedy if details.is_exception else ""


def shown_text(text: str) -> str:
    """Returns a text in quotes if it can only be a malformed number or time, else its length alone.

    Any other text may be a prompt or a key, which must not be shown.
    """
    if _SHOWABLE.fullmatch(text) and len(_LETTERS.findall(text)) <= _MAX_LETTERS:
        return repr(text)
    return f"text of {len(text)} characters"


def _invalid_row(_line: Line, details: LineDetails) -> _CauseAndRemedy:
    problem = details.problem or {"column": "", "kind": "row", "text": ""}
    kind, column = PROBLEMS[problem["kind"]], problem["column"]
    cause = kind.cause.format(text=problem["text"] if kind.shows else shown_text(problem["text"]))
    return f"the value in column {column} {cause}" if column else cause, kind.remedy


def _billed_twice(line: Line, details: LineDetails) -> _CauseAndRemedy:
    extra = (details.whole or Decimal(0)) - (line.due or Decimal(0))
    cause = f"the statement has {len(line.rows)} rows for this task and charges the same amount more than once"
    earlier = [f"{row} ({_instant(at)})" for row, at in details.elsewhere if at and at < details.since]
    if earlier:
        cause = f"the task is charged again; it was already charged in {', '.join(earlier)}"
    return (
        cause,
        f"The charges are {_money(extra, line)} more than expected. Dispute the repeated charge.",
    )


def _reserved_twice(_line: Line, details: LineDetails) -> _CauseAndRemedy:
    ids = ", ".join(details.reservations or ())
    remedy = (
        f"Find out which of these reservations the task belongs to ({ids}), and settle the other "
        "reservations at zero, each in its own ledger: `kling-pricing settle ID --amount 0 --basis operator`."
    )
    return f"{details.copies} reservations are bound to this task", remedy


def _currency_mismatch(line: Line, _details: LineDetails) -> _CauseAndRemedy:
    if line.billed is None:
        cause = f"the task was expected to be charged in {line.currency}, but was charged in another currency"
    else:
        cause = f"the task was charged in {line.currency}, but was expected to be charged in another currency"
    return (
        cause,
        "Ask the provider in which currency it bills the task, and correct the statement or the price tables.",
    )


def _not_billed_yet(line: Line, details: LineDetails) -> _CauseAndRemedy:
    grace = _duration(details.grace)
    return f"{_absence(line, details)}; the grace period of {grace} for late billing has not ended", ""


def _not_billed(line: Line, details: LineDetails) -> _CauseAndRemedy:
    command = f"`kling-pricing resolve {line.reservation_id} --not-charged`"
    if details.state == "settled":
        command = f"`kling-pricing settle {line.reservation_id} --amount 0 --basis operator`"
    if line.task_id is None:
        search = (
            "Look for the request at the provider. If the request became a task, assign the task to the "
            f"reservation with `--pair {line.reservation_id}=TASK`"
        )
    else:
        search = "Ask the provider whether the task will be charged"
    return _absence(line, details), f"{search}; if the job costs nothing, run {command}."


def _absence(line: Line, details: LineDetails) -> str:
    """Returns how an expected charge is missing from the statement."""
    sent = "" if line.submitted_at is None else f"was sent at {_instant(line.submitted_at)}"
    if line.task_id is None:
        cause = "no response named a task for this request, and no charge matches the request"
        return f"the request {sent}; {cause}" if sent else cause
    subject = f"the task {sent} and" if sent else "the task"
    if not line.rows:
        return f"{subject} is not on the statement"
    if details.stated_state:
        return f"{subject} is on the statement as {details.stated_state}, without a charge"
    return f"{subject} is on the statement without a state and without a charge"


def _in_doubt_candidate(line: Line, details: LineDetails) -> _CauseAndRemedy:
    names = details.candidates or ()
    more = (details.fits or 0) - len(names)
    nearest = " or ".join(names) + (f" or one of {more} more" if more > 0 else "")
    if line.billed is None:
        cause = f"no response named a task for this request; matching charges for unknown tasks: {details.fits}"
        question = f"the request became task {nearest}"
        pair = f"{line.reservation_id}=TASK"
    else:
        cause = f"the task is not in this ledger; matching requests without a known task: {details.fits}"
        question = f"the task belongs to reservation {nearest}"
        pair = f"RESERVATION={quote(line.task_id or '')}"
    return cause, (
        f"Ask the provider whether {question}; if so, assign the task to the reservation with `--pair {pair}`."
    )


def _not_in_ledger(line: Line, _details: LineDetails) -> _CauseAndRemedy:
    cause = "the task is not in this ledger"
    billed = line.billed or Decimal(0)
    if billed < 0:
        return cause, "Ask the provider which charge was refunded; none of these statements contains it."
    at = "" if line.billed_at is None else f" --at {line.billed_at:%Y-%m-%dT%H:%M:%SZ}"
    command = (
        f"kling-pricing record --project PROJECT --currency {line.currency}{at} -- "
        f"{quote(line.provider)} {quote(line.task_id or '')} {format_decimal(billed)}"
    )
    question = "Find out who submitted the task"
    return cause, f"{question}. If the task is yours, record it with `{command}`; if not, dispute the charge."


def _timing(line: Line, details: LineDetails) -> _CauseAndRemedy:
    if line.billed is None:
        return f"the task was sent in the period and charged {_side(line.billed_at, details)}", ""
    if line.billed < 0 and line.expected is None:
        cause = f"the task was refunded in the period and sent {_side(line.submitted_at, details)}"
    elif line.expected is not None:
        whole = _money(details.whole or Decimal(0), line)
        cause = f"the task was partly charged outside the period; the whole charge is {whole}"
    else:
        cause = f"the task was charged in the period and sent {_side(line.submitted_at, details)}"
    if line.due is None or details.whole is None or details.whole == line.due:
        return cause, ""
    explanation = details.explanation or _NO_EXPLANATION
    cause = f"{cause}; {_money(line.due, line)} was expected: {explanation}"
    return cause, _remedy_with_alternatives(line, details, details.whole - line.due)


def _side(at: datetime | None, details: LineDetails) -> str:
    """Returns on which side of the period an instant falls, such as `after it (2026-12-01 00:05 UTC)`."""
    side = "after it" if at is not None and at >= details.until else "before it"
    return side if at is None else f"{side} ({_instant(at)})"


_NO_EXPLANATION = "no known price table, tier, length or rule accounts for this charge"


def _explained(line: Line, details: LineDetails) -> _CauseAndRemedy:
    return details.explanation or "", _remedy_with_alternatives(line, details, line.variance)


def _within_tolerance(_line: Line, _details: LineDetails) -> _CauseAndRemedy:
    return f"{_NO_EXPLANATION}; the variance is within the tolerance", ""


def _unexplained(line: Line, details: LineDetails) -> _CauseAndRemedy:
    return _NO_EXPLANATION, _remedy_with_alternatives(line, details, line.variance)


def _matched(_line: Line, details: LineDetails) -> _CauseAndRemedy:
    return details.explanation or "", ""


_MESSAGES: Mapping[Category, Callable[[Line, LineDetails], _CauseAndRemedy]] = {
    "invalid_row": _invalid_row,
    "billed_twice": _billed_twice,
    "reserved_twice": _reserved_twice,
    "currency_mismatch": _currency_mismatch,
    "not_billed_yet": _not_billed_yet,
    "not_billed": _not_billed,
    "in_doubt_candidate": _in_doubt_candidate,
    "not_in_ledger": _not_in_ledger,
    "timing": _timing,
    "explained": _explained,
    "within_tolerance": _within_tolerance,
    "unexplained": _unexplained,
    "matched": _matched,
}


def _remedy_with_alternatives(line: Line, details: LineDetails, difference: Decimal) -> str:
    """Returns the remedy of a charge that differs from the expected amount, and its other explanations."""
    remedy = _remedy(line, details, difference)
    return f"{remedy} Equally possible: {details.alternatives}." if details.alternatives else remedy


def _remedy(line: Line, details: LineDetails, difference: Decimal) -> str:
    extra = _money(abs(difference), line)
    compared = f"{extra} {'more' if difference > 0 else 'less'} than expected"
    if details.kind == "failed_charged":
        charge = _money(details.whole or Decimal(0), line)
        return (
            f"Dispute the charge of {charge}: according to the price table, the provider refunds failed tasks."
        )
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
    if details.kind == "not_charged":
        return "No payment is due; reconcile with `--settle` to return the money to its budgets."
    if details.kind == "misrounding":
        return (
            f"The charge is {compared}. Ask the provider why the charge is not rounded as the price table "
            "specifies."
        )
    if difference < 0:
        return f"The charge is {compared}. Check whether the delivered clip is the one that was requested."
    if details.kind == "table":
        return (
            f"Check which prices were in force when the request was sent, and dispute the extra {extra} or "
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


def _money(amount: Decimal, line: Line) -> str:
    return f"{format_decimal(amount)} {line.currency}"


def _instant(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"


def _duration(time: timedelta) -> str:
    for unit, name in (
        (timedelta(days=1), "day"),
        (timedelta(hours=1), "hour"),
        (timedelta(minutes=1), "minute"),
    ):
        if time % unit == timedelta(0):
            return f"{time // unit} {name}{'' if time == unit else 's'}"
    return str(time)
