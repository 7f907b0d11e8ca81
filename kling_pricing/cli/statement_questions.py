"""The questions of `kling-pricing statement map`, and the answers that its options give in advance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from kling_pricing.cli.output import echo
from kling_pricing.errors import KlingPricingError

if TYPE_CHECKING:
    from kling_pricing.reconcile import MappingAnswers, MappingDraft

_SHOWN = 3
"""The number of examples per column that are shown."""
_QUESTIONS = (
    ("task_id", "Column with the task id (- if the rows are sums of tasks)", False),
    ("amount", "Column with the amount", True),
    ("unit_column", "Column with the unit of each amount (- for none)", False),
    ("billed_at", "Column with the time of the charge (- for none)", False),
    ("model", "Column with the model (- for none)", False),
    ("resolution", "Column with the resolution (- for none)", False),
    ("duration_s", "Column with the length of the video (- for none)", False),
    ("tasks", "Column with the number of tasks (- for none)", False),
    ("tier", "Column with the tier (- for none)", False),
    ("project", "Column with the project (- for none)", False),
    ("account", "Column with the account (- for none)", False),
)
"""Answer, its question, and whether every mapping needs it."""
_OF_TASKS, OF_SUMS = ("task_id", "duration_s"), ("tasks", "tier", "project", "account")
"""The questions about statements of tasks only, and about sums only."""


def chosen_answers(draft: MappingDraft, given: dict[str, Any], *, asks: bool) -> MappingAnswers:
    """Returns the given answers, and the suggested ones or those of the user for the rest.

    Raises:
        KlingPricingError: nobody can be asked, and the file does not show an answer.
    """
    answers = draft.suggested._replace(**{key: value for key, value in given.items() if value is not None})
    if given["unit"] is not None:
        answers = answers._replace(unit_column=given["unit_column"])
    if asks:
        echo(f"columns of {draft.file}:")
        for column in draft.columns:
            echo(f"  {column}: {', '.join(draft.examples.get(column, ())[:_SHOWN])}")
    answers = answers._replace(sums=given["sums"])
    for key, question, is_needed in _QUESTIONS:
        if key in (_OF_TASKS if answers.sums else OF_SUMS):
            continue
        if asks and given[key] is None:
            suggested = getattr(answers, key)
            value = _ask_column(draft, question, suggested, is_needed=is_needed)
            chosen: dict[str, Any] = {key: value}
            answers = answers._replace(**chosen)
            if key == "task_id" and value is None:
                answers = answers._replace(sums=True)
    if asks and answers.unit_column is None and answers.unit is None:
        answers = answers._replace(unit=_ask_unit(draft, answers))
    if given["decimals"] is None and answers.amount:
        decimals = draft.decimals(answers.amount)
        if asks:
            decimals = click.prompt(
                "Most decimal places of an amount", default=decimals, type=click.IntRange(0, 9)
            )
        answers = answers._replace(decimals=decimals)
    if asks:
        return _with_times(draft, answers, given)
    needed = {
        "--task (or --sums)": answers.sums or answers.task_id,
        "--amount": answers.amount,
        f"--unit or --unit-column{_about_sign(draft, answers)}": answers.unit or answers.unit_column,
    }
    lacking = [option for option, value in needed.items() if value is None]
    answers = _with_given_times(draft, answers, given, lacking)
    if lacking:
        raise KlingPricingError(
            f"{draft.file} does not show everything that a mapping needs; give {'; '.join(lacking)}"
        )
    return answers


def _about_sign(draft: MappingDraft, answers: MappingAnswers) -> str:
    """Returns a note about the currency sign of the amounts, in brackets; empty if there is none."""
    sign, currencies = draft.sign(answers.amount)
    return f" (the amounts have the sign {sign}, which can mean {' or '.join(currencies)})" if sign else ""


def _with_given_times(
    draft: MappingDraft, answers: MappingAnswers, given: dict[str, Any], lacking: list[str]
) -> MappingAnswers:
    """Returns the answers with the format and the offset of the times, and lists the missing options."""
    column = answers.billed_at
    if column is None:
        return answers._replace(time_format=None, offset=None, timezone=None)
    draft.check_column(column)
    shown, has_offset = draft.times(column)
    written = given["time_format"] or shown
    offset, zone = (None, given["timezone"]) if answers.sums else (given["offset"], None)
    if written is None:
        lacking.append(f"--time-format (several formats fit the times in {column})")
    if answers.sums and zone is None:
        lacking.append(
            f"--timezone, such as UTC or Asia/Shanghai (the days in {column} do not state their time zone)"
        )
    if not answers.sums and offset is None and _needs_offset(written, has_offset=has_offset):
        lacking.append(
            f"--offset, such as +00:00 or +08:00 (the times in {column} do not state their offset from UTC)"
        )
    return answers._replace(time_format=written, offset=offset, timezone=zone)


def _needs_offset(written: str | None, *, has_offset: bool) -> bool:
    return not has_offset and written not in {"unix", "ms"}


def _with_times(draft: MappingDraft, answers: MappingAnswers, given: dict[str, Any]) -> MappingAnswers:
    """Returns the answers with the format and the offset of the times, for which it asks."""
    if answers.billed_at is None:
        return answers._replace(time_format=None, offset=None, timezone=None)
    draft.check_column(answers.billed_at)
    shown, has_offset = draft.times(answers.billed_at)
    written = given["time_format"] or _ask(
        "Format of the times (iso, unix, ms, or a pattern)", shown, "several formats fit; write one"
    )
    if answers.sums:
        zone = given["timezone"] or click.prompt("Time zone of the days", default="UTC")
        return answers._replace(time_format=written, offset=None, timezone=zone)
    offset = given["offset"]
    if offset is None and _needs_offset(written, has_offset=has_offset):
        offset = click.prompt("Offset of the times from UTC", default="+00:00")
    return answers._replace(time_format=written, offset=offset)


def _ask_unit(draft: MappingDraft, answers: MappingAnswers) -> str:
    """Asks for the unit of all amounts; the default is the currency of the sign that the amounts have."""
    _, currencies = draft.sign(answers.amount)
    question = f"Unit of all amounts{_about_sign(draft, answers) or ' (such as USD or quota)'}"
    default = currencies[0] if len(currencies) == 1 else None
    return _ask(question, default, "write a currency such as USD, or a unit of the provider such as quota")


def _ask(question: str, default: str | None, required: str) -> str:
    """Asks until there is an answer; without a default, an empty one is refused with a hint."""
    while not (value := str(click.prompt(question, default=default or "", show_default=bool(default))).strip()):
        echo(f"an answer is required: {required}")
    return value


def _ask_column(draft: MappingDraft, question: str, suggested: str | None, *, is_needed: bool) -> str | None:
    """Asks for a column until the file has it; `-` means that the file has no such column."""
    columns = ", ".join(draft.columns)
    while True:
        default = suggested if suggested is not None else None if is_needed else "-"
        value = _ask(question, default, f"write one of the columns {columns}")
        if value in draft.columns:
            return value
        if value == "-" and not is_needed:
            return None
        echo(f"the file has no column {value!r}; it has {columns}")
