"""A task as a submit or status response describes it, in words that do not depend on the API."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from kling_pricing.display import shown
from kling_pricing.errors import WireFormatError
from kling_pricing.wire.charges import Charge, exact_number, read_money, read_quota

STATES = ("queued", "processing", "succeeded", "failed", "cancelled")


class Task(NamedTuple):
    """A task in one response.

    Attributes:
        task_id: the provider's name for the task.
        state: one of `STATES`; None if the response has no state, or one that is not documented.
        charge: the charge that the response names; None if it names none.
        duration_s: the length of the video in seconds, billed or generated, if the response has it.
        model: the model as the response names it.
        facts: further facts from the response's model name or fields, such as `action`, `resolution` and
            `audio`.
        own_id: the id that the caller gave the task; None if the response has none.
    """

    task_id: str | None
    state: str | None
    charge: Charge | None = None
    duration_s: Decimal | None = None
    model: str | None = None
    facts: Mapping[str, Any] = {}
    own_id: str | None = None


def listed_tasks(body: Mapping[str, Any]) -> list[Mapping[str, Any]] | None:
    """Returns the tasks in a response that lists tasks, in `data` or `data.result`; None: it lists none."""
    data = body.get("data")
    if isinstance(data, Mapping):
        data = data.get("result")
    return [task for task in data if isinstance(task, Mapping)] if isinstance(data, list | tuple) else None


def read_number(value: Any, field: str, wire_format: str) -> Decimal | None:
    """Returns a number of a response exactly: a `Decimal`, an int, or text; None if it is absent or empty.

    Raises:
        WireFormatError: the value is something else, such as a float; the message names the field.
    """
    if value is None or value == "":
        return None
    number = exact_number(value)
    if number is not None:
        return number
    raise WireFormatError(
        f"{field} must be a whole number or a plain decimal written as text, got {shown(value)}",
        wire_format=wire_format,
        field=field,
    )


def read_text(value: Any, field: str, wire_format: str) -> str | None:
    """Returns a text of a response; None if it is absent or empty.

    Raises:
        WireFormatError: the value is not text; the message names the field.
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

    QingBo's Kling series page documents it: `cost` is a whole number of quota, and 0 for a failed or cancelled
    task. QingBo's MCP tools state `cost_usd` as well, which counts only without `cost`.

    Raises:
        WireFormatError: the task's id or model has another type.
    """
    status = body.get("status")
    return Task(
        task_id=read_text(body.get("task_id"), "task_id", wire_format),
        state=_QUOTA_STATES.get(status) if isinstance(status, str) else None,
        charge=read_quota(body.get("cost"), "cost") or read_money(body.get("cost_usd"), "cost_usd", "USD"),
        model=read_text(body.get("model"), "model", wire_format),
    )


_GATEWAY_STATES = {
    "notstart": "queued",
    "submitted": "queued",
    "queued": "queued",
    "pending": "queued",
    "inprogress": "processing",
    "processing": "processing",
    "completed": "succeeded",
    "succeeded": "succeeded",
    "success": "succeeded",
    "failed": "failed",
    "failure": "failed",
    "cancelled": "cancelled",
}
"""Status in lower case without underscores -> state."""


def read_gateway_task(body: Mapping[str, Any], wire_format: str) -> Task:
    """Reads a response of a gateway of the new-api family, in any of its shapes.

    The shapes are OpenAI's video object, a flat object with `task_id`, and either of them inside `data` of an
    envelope such as `{code: success, message, data}`.
    `seconds` is the length that was made.
    The upstream's own response, in `data` of the task, is not read: its charge is not the customer's.

    Raises:
        WireFormatError: the task's id, status, model or seconds has another type.
    """
    task = _inside_envelope(body)
    number = task.get("id") if isinstance(task.get("id"), int) and task.get("task_id") else None
    task_id = read_text(task.get("task_id"), "task_id", wire_format)
    if number is None:  # else `id` is the gateway's own number of the row
        task_id = read_text(task.get("id"), "id", wire_format) or task_id
    status = read_text(task.get("status"), "status", wire_format) or ""
    return Task(
        task_id=task_id,
        state=_GATEWAY_STATES.get(status.lower().replace("_", "")),
        duration_s=read_number(task.get("seconds"), "seconds", wire_format),
        model=read_text(task.get("model"), "model", wire_format),
    )


def _inside_envelope(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns the task in a response's envelope, or the response if it has none."""
    data = body.get("data")
    named = any(body.get(name) is not None for name in ("id", "task_id", "status"))
    return data if isinstance(data, Mapping) and not named else body
