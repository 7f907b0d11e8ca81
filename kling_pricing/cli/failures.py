"""Prints errors as text for people or as JSON for programs, and ends the command with an exit code."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from decimal import Decimal
from typing import Any, NoReturn

from kling_pricing.cli.exit_codes import REFUSED, UNREADABLE, exit_code
from kling_pricing.cli.output import echo, to_json
from kling_pricing.cli.wording import with_options
from kling_pricing.errors import KlingPricingError
from kling_pricing.findings import Violation
from kling_pricing.money import format_decimal


def violation_dict(violation: Violation) -> dict[str, Any]:
    """Returns a violation as JSON-ready data."""
    return {**violation._asdict(), "message": with_options(violation.message)}


def error_dict(error: KlingPricingError) -> dict[str, Any]:
    """Returns an error as JSON-ready data: type, message, violations, suggestions and guard context."""
    fields: dict[str, Any] = {"type": type(error).__name__, "message": with_options(str(error))}
    fields["violations"] = [violation_dict(violation) for violation in getattr(error, "violations", ())]
    fields["suggestions"] = list(getattr(error, "suggestions", ()))
    if priced_instead := getattr(error, "priced_instead", ()):
        fields["priced_instead"] = list(priced_instead)
    fields |= {name: _json_ready(getattr(error, name)) for name in _MONEY_ATTRIBUTES if hasattr(error, name)}
    return {"error": fields}


_MONEY_ATTRIBUTES = (
    *("budget", "requested", "available", "currency", "window_end", "cheapest"),
    *("removed", "weaker"),
    *("reservation_id", "state", "task_id", "actor", "reason", "frozen_at"),
)
"""The attributes of guard errors that the JSON output includes."""


def _json_ready(value: Any) -> Any:
    if isinstance(value, Decimal):
        return format_decimal(value)
    return value.isoformat() if isinstance(value, datetime) else value


def error_text(error: KlingPricingError, place: str, code: int) -> str:
    """Formats an error as text: a heading, every violation on its own line, then the valid alternatives.

    If the error has no place and only one line of text, that line follows the heading directly.
    """
    violations: Sequence[Violation] = getattr(error, "violations", ())
    lines = [f"{violation.message} [{violation.code}, {violation.source}]" for violation in violations]
    lines = lines or [str(error)]
    for suggestion in getattr(error, "suggestions", ()):
        changes = ", ".join(
            f"leave out {field}" if value is None else f"{field} = {json.dumps(value)}"
            for field, value in suggestion.items()
        )
        lines.append(f"valid alternative: {changes}")
    if place:
        heading = f"{place}: {_OUTCOMES[code]}"
    else:
        heading = _HEADINGS[code]
        if len(lines) == 1:
            return with_options(f"{heading}: {lines[0]}")
    return "\n".join([heading, *(f"  {with_options(line)}" for line in lines)])


_OUTCOMES = {REFUSED: "refused", UNREADABLE: "unreadable"}
_HEADINGS = {REFUSED: "Refused", UNREADABLE: "Error"}


def fail(
    error: KlingPricingError,
    *,
    as_json: bool,
    place: str = "",
    is_answer: bool = False,
    code: int | None = None,
) -> NoReturn:
    """Prints an error and ends the command with the error's exit code.

    Args:
        error: the error.
        as_json: whether to print the error as JSON, which goes to standard output.
        place: the input that caused the error, if the message does not name the input.
        is_answer: whether a refusal is the result of the command, so that its text goes to standard output.
        code: the exit code; None: the one of the error's class.
    """
    code = exit_code(error) if code is None else code
    if as_json:
        echo(to_json(error_dict(error)))
    else:
        echo(error_text(error, place, code), err=not (is_answer and code == REFUSED))
    sys.exit(code)


@contextmanager
def errors_shown(*, as_json: bool, place: str = "", is_answer: bool = False) -> Iterator[None]:
    """Ends the command with a message and an exit code if the block raises an error; see `fail`."""
    try:
        yield
    except KlingPricingError as error:
        fail(error, as_json=as_json, place=place, is_answer=is_answer)
