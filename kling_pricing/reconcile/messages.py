"""What is said of a line: why it is in its category, and what to do about it.

A cause may be shown to the provider, so it names nothing of ours; a remedy is for us.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from shlex import quote
from typing import NamedTuple

from kling_pricing.ledger.model import SENT_SEPARATOR
from kling_pricing.money import format_decimal
from kling_pricing.reconcile.charge_sql import PROBLEMS
from kling_pricing.reconcile.model import Line

_SHOWABLE = re.compile(r"[0-9A-Za-z.,+:/%$ -]{1,24}")
_LETTERS = re.compile(r"[A-Za-z]")
_MAX_LETTERS = 4


class Circumstances(NamedTuple):
    """What is known of a line beside what it shows.

    Attributes:
        since: where the period begins.
        until: where it ends.
        grace: for late billing.
        state: of the reservation.
        copies: how many reservations have its task.
        reservations: their ids, where they are several.
        told_state: what the statement says of the task's state.
        problem: of a row that cannot be read: column, kind and text.
        fitting: how many others fit it, of a candidate.
        names: the nearest of those.
        finding: what was found out about it, in words.
        kind: of the finding.
        others: what would explain it as well.
        whole: the whole charge of the task, whichever period it falls in; None: none is stated.
        overlaps: whether several files have the same row of it.
        unknown: columns of the statement with words that the mapping does not know, and those words.
        is_open: whether somebody has to do something.
    """

    since: datetime
    until: datetime
    grace: timedelta
    state: str | None
    copies: int | None
    reservations: Sequence[str] | None
    told_state: str | None
    problem: str | None
    fitting: int | None
    names: Sequence[str] | None
    finding: str | None
    kind: str | None
    others: str | None
    whole: Decimal | None
    overlaps: bool
    unknown: str | None
    is_open: bool


_Words = tuple[str, str]


def words(line: Line, about: Circumstances) -> _Words:
    """The cause and the remedy of a line."""
    cause, remedy = _WORDS[line.category](line, about)
    notes = ["several files have the same row, which counts once"] if about.overlaps else []
    parts = about.unknown.split(SENT_SEPARATOR) if about.unknown else []
    notes += [
        f"column {column} says what its mapping does not know: {shown_text(text)}"
        for column, text in zip(parts[::2], parts[1::2], strict=True)
    ]
    cause = "; ".join(filter(None, [cause, *notes]))
    return cause, remedy if about.is_open else ""


def shown_text(text: str) -> str:
    """What should have been a number or a time, if it can be nothing that must not be shown."""
    if _SHOWABLE.fullmatch(text) and len(_LETTERS.findall(text)) <= _MAX_LETTERS:
        return repr(text)
    return f"a text of {len(text)} characters"


def _invalid_row(_line: Line, about: Circumstances) -> _Words:
    column, kind, text = (about.problem or "").split(SENT_SEPARATOR, 2)
    told = text if kind == "row" else shown_text(text)
    problem = PROBLEMS[kind].format(text=told)
    return (
        f"column {column} {problem}" if column else problem,
        "Correct the row or ask the provider for another statement; what it charges is counted nowhere.",
    )


def _billed_twice(line: Line, about: Circumstances) -> _Words:
    more = (about.whole or Decimal(0)) - (line.due or Decimal(0))
    return (
        f"the statement has {len(line.rows)} rows of this task and charges the same amount more than once",
        f"Dispute the repeated charge with the provider: {_money(more, line)} more than expected.",
    )


def _reserved_twice(_line: Line, about: Circumstances) -> _Words:
    ids = ", ".join(about.reservations or ())
    remedy = (
        f"Find out which of reservations {ids} the task belongs to, and correct the other ledger with "
        "`kling-pricing settle ID --amount 0 --basis operator`."
    )
    return f"{about.copies} reservations have this task", remedy


def _currency_mismatch(line: Line, _about: Circumstances) -> _Words:
    if line.billed is None:
        cause = f"expected in {line.currency}, charged in another currency"
    else:
        cause = f"charged in {line.currency}, expected in another currency"
    return (
        cause,
        "Ask the provider in which currency the task is billed, and correct the statement or the prices.",
    )


def _not_billed_yet(line: Line, about: Circumstances) -> _Words:
    return f"{_absent(line, about)}; the grace of {_span(about.grace)} for late billing is not over", ""


def _not_billed(line: Line, about: Circumstances) -> _Words:
    free = f"`kling-pricing resolve {line.reservation_id} --not-charged`"
    if about.state == "settled":
        free = f"`kling-pricing settle {line.reservation_id} --amount 0 --basis operator`"
    if line.task_id is None:
        look = "Look for the request at the provider, and pair it with its task if it has one"
    else:
        look = "Ask the provider whether the task will be charged"
    return _absent(line, about), f"{look}; if it costs nothing, {free}."


def _absent(line: Line, about: Circumstances) -> str:
    sent = "" if line.submitted_at is None else f"sent {_instant(line.submitted_at)}, "
    if line.task_id is None:
        return f"{sent}no answer named its task, and no charge fits it"
    if line.rows:
        said = f" that it is {about.told_state}" if about.told_state else ""
        return f"{sent}the statement says{said or ' nothing of its state'} and states no charge"
    return f"{sent}not on the statement"


def _in_doubt_candidate(line: Line, about: Circumstances) -> _Words:
    names = about.names or ()
    others = (about.fitting or 0) - len(names)
    more = f" or one of {others} more" if others > 0 else ""
    if line.billed is None:
        cause = f"no answer named its task; charged tasks that nobody knows and that fit it: {about.fitting}"
        pair = f"{line.reservation_id}=TASK"
        which = f"task {' or '.join(names)}{more}"
    else:
        cause = f"nobody knows the task; requests without a known task that fit it: {about.fitting}"
        pair = f"RESERVATION={quote(line.task_id or '')}"
        which = f"reservation {' or '.join(names)}{more}"
    return cause, f"See at the provider whether it is {which}; if so, pair them: --pair {pair}."


def _not_in_ledger(line: Line, _about: Circumstances) -> _Words:
    cause = "nobody here knows the task"
    billed = line.billed or Decimal(0)
    if billed < 0:
        return cause, "Ask the provider what it gives back: the charge stands on none of these statements."
    at = "" if line.billed_at is None else f" --at {line.billed_at:%Y-%m-%dT%H:%M:%SZ}"
    command = (
        f"kling-pricing record --project PROJECT --currency {line.currency}{at} -- "
        f"{quote(line.provider)} {quote(line.task_id or '')} {format_decimal(billed)}"
    )
    return cause, f"Find out who made it, and book it with `{command}`; if nobody did, dispute it."


def _timing(line: Line, about: Circumstances) -> _Words:
    if line.billed is None:
        after = line.billed_at is not None and line.billed_at >= about.until
        when = "" if line.billed_at is None else f" {_instant(line.billed_at)}"
        return f"sent in the period, charged{when}, {'after' if after else 'before'} it", ""
    if line.expected is not None:
        cause = f"charged in part outside the period: {_money(about.whole or Decimal(0), line)} in all"
    else:
        after = line.submitted_at is not None and line.submitted_at >= about.until
        when = "" if line.submitted_at is None else f" {_instant(line.submitted_at)}"
        cause = f"charged in the period, sent{when}, {'after' if after else 'before'} it"
    if line.due is None or about.whole is None or about.whole == line.due:
        return cause, ""
    expected = f"{_money(line.due, line)} was expected"
    why = about.finding or _NO_EXPLANATION
    return f"{cause}; {expected}: {why}", _to_do(line, about, about.whole - line.due)


_NO_EXPLANATION = "no table, tier, length or rule that is known comes to this charge"


def _explained(line: Line, about: Circumstances) -> _Words:
    return about.finding or "", _to_do(line, about, line.variance)


def _within_tolerance(_line: Line, _about: Circumstances) -> _Words:
    return f"{_NO_EXPLANATION}; it is within the tolerance", ""


def _unexplained(line: Line, about: Circumstances) -> _Words:
    return _NO_EXPLANATION, _to_do(line, about, line.variance)


def _matched(_line: Line, about: Circumstances) -> _Words:
    return about.finding or "", ""


_WORDS: Mapping[str, Callable[[Line, Circumstances], _Words]] = {
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


def _to_do(line: Line, about: Circumstances, difference: Decimal) -> str:
    """What to do about a charge that is not what was expected."""
    remedy = _what_to_do(line, about, difference)
    return f"{remedy} It might as well be {about.others}." if about.others else remedy


def _what_to_do(line: Line, about: Circumstances, difference: Decimal) -> str:
    more = f"{_money(abs(difference), line)} {'more' if difference > 0 else 'less'} than expected"
    if about.kind == "failed_charged":
        return f"Dispute the charge of {_money(about.whole or Decimal(0), line)}: failed tasks are refunded."
    if about.kind == "written_off":
        return (
            f"Dispute it with the provider, or correct what an operator said: `kling-pricing settle "
            f"{line.reservation_id} --amount {format_decimal(about.whole or Decimal(0))} --basis operator`."
        )
    if about.kind == "repriced":
        return (
            f"Give the price tables as they were when it was quoted, under an id of their own: charged {more}."
        )
    if about.kind == "not_charged":
        return "Nothing is to be paid; let --settle give the money back to its budgets."
    if about.kind == "misrounding":
        return f"Ask the provider why it rounds otherwise than its price table says: {more}."
    if difference < 0:
        return f"See whether what was delivered is what was asked for: charged {more}."
    if about.kind == "table":
        return (
            f"See which prices were in force when it was sent, and dispute {more} or correct the price tables."
        )
    if about.kind in {"times", "discount"}:
        return f"Dispute it with the provider: {more}."
    if about.kind is None:
        return f"Ask the provider how the charge comes about, and dispute it if it cannot say: {more}."
    return f"Compare the request with what was delivered, and dispute {more} if that is what was asked for."


def _money(amount: Decimal, line: Line) -> str:
    return f"{format_decimal(amount)} {line.currency}"


def _instant(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"


def _span(time: timedelta) -> str:
    for unit, name in (
        (timedelta(days=1), "day"),
        (timedelta(hours=1), "hour"),
        (timedelta(minutes=1), "minute"),
    ):
        if time % unit == timedelta(0):
            return f"{time // unit} {name}{'' if time == unit else 's'}"
    return str(time)
