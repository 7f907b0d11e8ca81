"""What a ledger may keep of what it is told: names, reasons, labels, answers; nothing that shows a request.

A ledger lives long and is read by many, so no prompt, URL or API key may get into it by way of an error's text
or a provider's answer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from kling_pricing.budgets import MAX_LABEL_CHARS, MAX_LABELS
from kling_pricing.display import shown, without_secrets
from kling_pricing.errors import KlingPricingError
from kling_pricing.ledger.journal import Observation
from kling_pricing.wire.charges import Charge
from kling_pricing.wire.task import Task

_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._ -]{0,79}")
_UNIT = re.compile(r"[A-Za-z_-]{1,20}")
_CURRENCY = re.compile(r"[A-Z]{3}")


def short_text(what: str, value: Any) -> str:
    """A name that a ledger can keep.

    Raises:
        KlingPricingError: it is none.
    """
    if isinstance(value, str) and 0 < len(value) <= MAX_LABEL_CHARS and value.isprintable():
        return value
    raise KlingPricingError(
        f"{what} must be text of 1 to {MAX_LABEL_CHARS} printable characters, got {shown(value)}"
    )


def checked_labels(project: str, labels: Mapping[str, str] | None) -> dict[str, str]:
    """The labels of a request, its project among them.

    Raises:
        KlingPricingError: there are too many, or one is not a short text.
    """
    if labels is not None and not isinstance(labels, Mapping):
        raise KlingPricingError(f"labels must be a mapping such as {{'user': 'li'}}, got {shown(labels)}")
    given = {**(labels or {}), "project": project}
    if labels and labels.get("project", project) != project:
        raise KlingPricingError(
            f"project is {shown(project)}, and labels say {shown(labels['project'])}; say it once"
        )
    if len(given) > MAX_LABELS:
        raise KlingPricingError(f"{len(given)} labels are given; the most is {MAX_LABELS}")
    for name, value in given.items():
        short_text("labels", name)
        short_text("project" if name == "project" else f"label {name}", value)
    return given


def kept_reason(reason: Any) -> str:
    """A reason in a few words: cut short, and without URLs and what looks like a key.

    It never raises: the text of an error is what callers have at hand, at a moment when nothing may go wrong.
    """
    text = without_secrets(" ".join(str(reason)[: 10 * MAX_LABEL_CHARS].split()), "foreign")
    printable = "".join(char if char.isprintable() else " " for char in text)
    return " ".join(printable.split())[:MAX_LABEL_CHARS] or "no reason given"


def currency_code(value: Any) -> str:
    """A currency's ISO 4217 code.

    Raises:
        KlingPricingError: it is none.
    """
    if isinstance(value, str) and _CURRENCY.fullmatch(value):
        return value
    raise KlingPricingError(f"currency must be three capital letters, such as USD, got {shown(value)}")


def observation(task: Task, provider: str, task_id: str, seen_at: datetime) -> Observation:
    """Returns the facts that are kept of a response; a model that does not look like one is left out."""
    return Observation(
        provider,
        task_id,
        task.state,
        None if task.charge is None else _kept_charge(task.charge),
        task.duration_s,
        task.model if task.model and _MODEL.fullmatch(task.model) else None,
        seen_at,
    )


def _kept_charge(charge: Charge) -> Charge:
    """Returns a charge whose texts can be kept; a unit that does not look like one is a problem."""
    problem = None if charge.problem is None else kept_reason(charge.problem)
    units = [part.unit for part in (*charge.parts, *([charge.list_price] if charge.list_price else []))]
    if all(_UNIT.fullmatch(unit) for unit in units):
        return charge._replace(problem=problem)
    return Charge((), problem or "the unit of the charge is not a name")
