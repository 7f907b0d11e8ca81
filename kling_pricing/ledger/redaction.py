"""Checks and redacts text before a ledger stores it: names, reasons, labels and provider responses.

A ledger lives long and has many readers. No prompt, URL or API key may reach it, not even through the text of
an error or a provider's response.
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

NO_REASON = "no reason given"
"""The reason that a ledger stores if none is left after the redaction."""

_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._ -]{0,79}")
_UNIT = re.compile(r"[A-Za-z_-]{1,20}")
_WORD = re.compile(r"[A-Za-z0-9_.:-]{1,20}")
_CURRENCY = re.compile(r"[A-Z]{3}")


def short_text(what: str, value: Any) -> str:
    """Returns a name that a ledger can store, unchanged.

    Args:
        what: the place of the name, for the error.
        value: the name.

    Raises:
        KlingPricingError: the value is not text, or is empty, too long or not printable.
    """
    if isinstance(value, str) and 0 < len(value) <= MAX_LABEL_CHARS and value.isprintable():
        return value
    raise KlingPricingError(
        f"{what} must be text of 1 to {MAX_LABEL_CHARS} printable characters, got {shown(value)}"
    )


def checked_labels(project: str, labels: Mapping[str, str] | None) -> dict[str, str]:
    """Returns the labels of a request, including its project.

    Raises:
        KlingPricingError: there are too many labels, a label is not short text, or the labels contain another
            project.
    """
    if labels is not None and not isinstance(labels, Mapping):
        raise KlingPricingError(f"labels must be a mapping such as {{'user': 'li'}}, got {shown(labels)}")
    checked = {**(labels or {}), "project": project}
    if labels and labels.get("project", project) != project:
        raise KlingPricingError(
            f"project is {shown(project)}, but labels give the project {shown(labels['project'])}; give the "
            "project only once"
        )
    if len(checked) > MAX_LABELS:
        raise KlingPricingError(
            f"labels: got {len(checked)}, including the project; the maximum is {MAX_LABELS}; remove some"
        )
    for name, value in checked.items():
        short_text("labels", name)
        short_text("project" if name == "project" else f"label {name}", value)
    return checked


def kept_reason(reason: Any) -> str:
    """Returns a reason that a ledger can store: shortened, without URLs and without text that looks like a key.

    Never raises. Callers often pass the text of an error, at a moment when nothing else may fail.
    """
    text = without_secrets(" ".join(str(reason)[: 10 * MAX_LABEL_CHARS].split()), "foreign")
    printable = "".join(char if char.isprintable() else " " for char in text)
    return " ".join(printable.split())[:MAX_LABEL_CHARS] or NO_REASON


def currency_code(value: Any) -> str:
    """Returns an ISO 4217 currency code, unchanged.

    Raises:
        KlingPricingError: the value is not three capital letters.
    """
    if isinstance(value, str) and _CURRENCY.fullmatch(value):
        return value
    raise KlingPricingError(f"currency must be three capital letters, such as USD, got {shown(value)}")


def observation(task: Task, provider: str, task_id: str, seen_at: datetime) -> Observation:
    """Returns the facts of a response that a ledger stores.

    Leaves out a model that does not look like a name, because it might hold other text. Facts are only of use
    if the task succeeded.
    """
    return Observation(
        provider,
        task_id,
        task.state,
        None if task.charge is None else _kept_charge(task.charge),
        task.duration_s,
        task.model if task.model and _MODEL.fullmatch(task.model) else None,
        _kept_facts(task.facts) if task.state == "succeeded" else {},
        seen_at,
    )


def _kept_facts(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the facts whose values are switches, whole numbers or single words."""
    return {
        name: value
        for name, value in facts.items()
        if type(value) in (bool, int) or (isinstance(value, str) and _WORD.fullmatch(value))
    }


def _kept_charge(charge: Charge) -> Charge:
    """Returns a charge whose texts can be kept; a unit that does not look like one is a problem."""
    problem = None if charge.problem is None else kept_reason(charge.problem)
    units = [part.unit for part in (*charge.parts, *([charge.list_price] if charge.list_price else []))]
    if all(_UNIT.fullmatch(unit) for unit in units):
        return charge._replace(problem=problem)
    return Charge((), problem or "the unit of the charge is not a valid unit name")
