"""What a submit or status response says of a task, in words that do not depend on the API."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from kling_pricing.display import shown
from kling_pricing.errors import WireFormatError

_AMOUNT = re.compile(r"[0-9]{1,15}(\.[0-9]{1,12})?")
_MOST = 10**15

STATES = ("queued", "processing", "succeeded", "failed", "cancelled")


class Task(NamedTuple):
    """What one response says.

    Attributes:
        task_id: the provider's name for the task.
        state: one of `STATES`; None when the response says none or one that is not documented.
        amount: what was charged, exactly, in `amount_unit`; None when the response does not say.
        amount_unit: the statement unit (`quota`, `unit`) or a currency's ISO 4217 code.
        duration_s: the length that was billed or made, if the response says it.
        model: the model as the response names it.
        facts: further facts that the response's model name or its fields tell (`action`, `resolution`,
            `audio`).
    """

    task_id: str | None
    state: str | None
    amount: Decimal | None = None
    amount_unit: str | None = None
    duration_s: Decimal | None = None
    model: str | None = None
    facts: Mapping[str, Any] = {}


def exact(value: Any, field: str, wire_format: str) -> Decimal | None:
    """A number of a response: a `Decimal`, an int or plain text, never a float.

    Raises:
        WireFormatError: it is something else; the field is named.
    """
    if value is None or value == "":
        return None
    if isinstance(value, Decimal) and value.is_finite() and 0 <= value < _MOST:
        return value
    if (isinstance(value, str) and _AMOUNT.fullmatch(value)) or (type(value) is int and 0 <= value < _MOST):
        return Decimal(value)
    raise WireFormatError(
        f"{field} must be a whole number or a plain decimal as text, got {shown(value)}",
        wire_format=wire_format,
        field=field,
    )


def whole(value: Any, field: str, wire_format: str) -> Decimal | None:
    """A number of a response that counts whole units; otherwise as `exact`.

    Raises:
        WireFormatError: it is something else, or has a part of a unit: it may be an amount of money.
    """
    found = exact(value, field, wire_format)
    if found is not None and found % 1:
        raise WireFormatError(
            f"{field} counts whole units, got {shown(value)}; an amount of money is another field",
            wire_format=wire_format,
            field=field,
        )
    return found


def text(value: Any, field: str, wire_format: str) -> str | None:
    """A text of a response; None when it is absent or empty.

    Raises:
        WireFormatError: it is something else; the field is named.
    """
    if value is None or value == "":
        return None
    if isinstance(value, str):
        return value
    raise WireFormatError(f"{field} must be text, got {shown(value)}", wire_format=wire_format, field=field)


_QUOTA_STATES = {
    "queued": "queued",
    "processing": "processing",
    "completed": "succeeded",
    "failed": "failed",
    "cancelled": "cancelled",
}


def read_quota_task(body: Mapping[str, Any], wire_format: str) -> Task:
    """Reads a response of the task system that `tasks`, `tasks_extra` and `tasks_v2` share.

    Its `cost` is an integer quota, and 0 for a failed or cancelled task (seed 000's task system).

    Raises:
        WireFormatError: the task's id, model or cost is of another kind.
    """
    status = body.get("status")
    return Task(
        task_id=text(body.get("task_id"), "task_id", wire_format),
        state=_QUOTA_STATES.get(status) if isinstance(status, str) else None,
        amount=whole(body.get("cost"), "cost", wire_format),
        amount_unit="quota",
        model=text(body.get("model"), "model", wire_format),
    )
