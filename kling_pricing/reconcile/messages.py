"""The messages of a line: its cause, which is why the line is in its category, and its remedy.

A cause may be shown to the provider, so it must not name anything of ours; a remedy is for us.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from shlex import quote

from kling_pricing.money import format_decimal
from kling_pricing.reconcile.categories import Category
from kling_pricing.reconcile.explanations import NO_EXPLANATION
from kling_pricing.reconcile.model import Line
from kling_pricing.reconcile.problems import PROBLEMS
from kling_pricing.reconcile.remedies import (
    LineDetails,
    dispute_remedy,
    is_contradicted,
    money_text,
    not_charged_command,
    remedy_of,
)

_SHOWABLE = re.compile(r"[0-9A-Za-z.,+:/%$ -]{1,24}")
_LETTERS = re.compile(r"[A-Za-z]")
_MAX_LETTERS = 4


_CauseAndRemedy = tuple[str, str]
_OF_ANOTHER_ACCOUNT = "the task was not sent from this account"


def cause_and_remedy(line: Line, details: LineDetails) -> _CauseAndRemedy:
    """Returns the cause and the remedy of a line; a line that is not an exception has no remedy."""
    cause, remedy = _MESSAGES[line.category](line, details)
    notes = ["the same row appears more than once and is counted once"] if details.overlaps else []
    notes += [
        f"column {column}: the mapping does not list {shown_text(text)}"
        for column, text in details.unknown or ()
    ]
    cause = "; ".join(filter(None, [cause, *notes]))
    if details.is_disputed:
        remedy = dispute_remedy(details)
    elif details.disputes and details.is_exception:
        remedy = f"{money_text(details.disputed, line)} of the charges is in dispute already. {remedy}"
    return cause, remedy if details.is_exception else ""


_SHARED_CAUSES: Mapping[Category, str] = {
    "billed_twice": "the task was charged more than once",
    "reserved_twice": "several reservations are bound to the task",
    "currency_mismatch": "the task was charged in a currency other than expected",
    "in_doubt_candidate": "a request without a known task matches a charge for an unknown task",
    "not_in_ledger": "the task is not in this ledger",
}
"""Category -> the cause that all its lines share."""


def shared_cause(line: Line, details: LineDetails) -> str:
    """Returns the cause of a line without the details of its task."""
    if line.category == "not_in_ledger" and details.other_account is not None:
        return _OF_ANOTHER_ACCOUNT
    if line.category in _SHARED_CAUSES:
        return _SHARED_CAUSES[line.category]
    if line.category == "invalid_row":
        problem = details.problem or {"column": "", "kind": "row", "text": ""}
        cause = PROBLEMS[problem["kind"]].cause.replace(": {text}", "").format(text="...")
        return f"the value in column {problem['column']} {cause}" if problem["column"] else cause
    if line.category == "not_billed":
        if line.task_id is None:
            return "no response named a task for the request, and no charge matches it"
        return f"the task is {'on the statement without a charge' if line.rows else 'not on the statement'}"
    return details.shared or NO_EXPLANATION


def shown_text(text: str) -> str:
    """Returns a text in quotes if it can only be a malformed number or time, else its length alone.

    Any other text may be a prompt or a key, which must not be shown.
    """
    if _SHOWABLE.fullmatch(text) and len(_LETTERS.findall(text)) <= _MAX_LETTERS:
        return repr(text)
    return f"text of {len(text)} characters"


def row_problem(problem: Mapping[str, str]) -> tuple[str, str]:
    """Returns the cause and the remedy of a row that cannot be read, by its `charge.problem`."""
    kind, column = PROBLEMS[problem["kind"]], problem["column"]
    cause = kind.cause.format(text=problem["text"] if kind.shows else shown_text(problem["text"]))
    return f"the value in column {column} {cause}" if column else cause, kind.remedy


def _invalid_row(line: Line, details: LineDetails) -> _CauseAndRemedy:
    cause, remedy = row_problem(details.problem or {"column": "", "kind": "row", "text": ""})
    if line.task_id is None:
        return cause, remedy
    (file, _, row), more = details.unread_rows[0].rpartition(":"), len(details.unread_rows) - 1
    rows = f"row {row} of {file} cannot be read"
    if more:
        rows += f", and neither can {more} more row{'s' * (more > 1)} of the task"
    cause = f"{rows}: {cause.removeprefix('the row cannot be read: ')}"
    if line.billed is not None:
        cause += f"; the task's other rows charge {money_text(line.billed, line)}"
    return cause, f"{remedy} Until then, do not settle or release the task."


def _billed_twice(line: Line, details: LineDetails) -> _CauseAndRemedy:
    extra = (details.whole or Decimal(0)) - (line.due or Decimal(0))
    cause = f"the statement has {len(line.rows)} rows for this task and charges the same amount more than once"
    earlier = [f"{row} ({_instant(at)})" for row, at in details.elsewhere if at and at < details.since]
    if earlier:
        cause = f"the task is charged again; it was already charged in {', '.join(earlier)}"
    return (
        cause,
        f"The charges are {money_text(extra, line)} more than expected. Dispute the repeated charge.",
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
    if details.blind_rows:
        subject = "this request" if line.task_id is None else "this task"
        remedy = f"1 row of the statement cannot be read and may charge {subject}; correct it"
        if details.blind_rows > 1:
            remedy = (
                f"{details.blind_rows} rows of the statement cannot be read, and one of them may charge "
                f"{subject}; correct them"
            )
        return _absence(line, details), f"{remedy}, and reconcile again."
    command = not_charged_command(line, details)
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


def _not_in_ledger(line: Line, details: LineDetails) -> _CauseAndRemedy:
    if details.other_account is not None:
        other = details.other_account
        return _OF_ANOTHER_ACCOUNT, (
            f"The ledger says that the task was sent from account {other}. Find out which account sent it; if "
            f"it was {other}, ask the provider why it charges account {details.account}."
        )
    cause = "the task is not in this ledger"
    billed = line.billed or Decimal(0)
    if billed < 0:
        return cause, "Ask the provider which charge was refunded; none of these statements contains it."
    at = "" if line.billed_at is None else f" --at {line.billed_at:%Y-%m-%dT%H:%M:%SZ}"
    account = "" if details.account == line.provider else f" --account {quote(details.account)}"
    command = (
        f"kling-pricing record --project PROJECT{account} --currency {line.currency}{at} -- "
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
        whole = money_text(details.whole or Decimal(0), line)
        cause = f"the task was partly charged outside the period; the whole charge is {whole}"
    else:
        cause = f"the task was charged in the period and sent {_side(line.submitted_at, details)}"
    if line.due is None or details.whole is None or details.whole == line.due:
        return cause, ""
    explanation = _explanation(details) or NO_EXPLANATION
    cause = f"{cause}; {money_text(line.due, line)} was expected: {explanation}"
    return cause, _remedy_with_alternatives(line, details, details.whole - line.due)


def _side(at: datetime | None, details: LineDetails) -> str:
    """Returns on which side of the period an instant falls, such as `after it (2026-12-01 00:05 UTC)`."""
    side = "after it" if at is not None and at >= details.until else "before it"
    return side if at is None else f"{side} ({_instant(at)})"


def _explained(line: Line, details: LineDetails) -> _CauseAndRemedy:
    return _explanation(details), _remedy_with_alternatives(line, details, line.variance)


def _explanation(details: LineDetails) -> str:
    """Returns the explanation; of a failed task, also who stated that it failed."""
    cause = details.explanation or ""
    if details.kind != "failed_charged":
        return cause
    if details.failed_as_stated:
        return f"{cause}; the statement itself says that the task failed"
    if is_contradicted(details):
        return f"{cause}; the statement says that the task succeeded, but a response said that it failed"
    return cause


def _within_tolerance(_line: Line, _details: LineDetails) -> _CauseAndRemedy:
    return f"{NO_EXPLANATION}; the variance is within the tolerance", ""


def _unexplained(line: Line, details: LineDetails) -> _CauseAndRemedy:
    return details.explanation or NO_EXPLANATION, _remedy_with_alternatives(line, details, line.variance)


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
    remedy = remedy_of(line, details, difference)
    return f"{remedy} Equally possible: {details.alternatives}." if details.alternatives else remedy


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
