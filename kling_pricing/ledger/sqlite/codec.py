"""Converts values to the form that the file stores, and back, without loss."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any

from kling_pricing.money import format_decimal

_object_text = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode


def written_once(at: datetime) -> str:
    """Returns an instant as text, as `written` does, for instants that are not written again."""
    return at.isoformat(timespec="microseconds")


@lru_cache(maxsize=32)  # a verb writes its instant several times
def written(at: datetime) -> str:
    """Returns an instant as text. The instant must be in UTC, so that the texts sort like the instants."""
    return written_once(at)


def instant(text: str) -> datetime:
    """Returns the instant in a text from `written`."""
    return datetime.fromisoformat(text)


def decimal(text: str | None) -> Decimal | None:
    """Returns the number in a text from `text`."""
    return None if text is None else Decimal(text)


def text(number: Decimal | None) -> str | None:
    """Returns a number as text, exactly. For numbers that are not whole nanos."""
    return None if number is None else format_decimal(number)


def object_text(values: Mapping[str, Any]) -> str:
    """Returns changes as JSON. Equal values give equal texts."""
    return _object_text(values) if values else "{}"


def labels_text(labels: Mapping[str, str]) -> str:
    """Returns labels as JSON. Equal labels give equal texts."""
    return _labels_text(tuple(labels.items())) if labels else "{}"


@lru_cache(maxsize=1024)  # most requests repeat the labels of an earlier request
def _labels_text(labels: tuple[tuple[str, str], ...]) -> str:
    return _object_text(dict(labels))


def alert_texts(parts: Iterable[Decimal]) -> str:
    """Returns the thresholds of a bucket as JSON."""
    return json.dumps([format_decimal(part) for part in parts])


def alert_parts(written: str) -> list[Decimal]:
    """Returns the thresholds in a text from `alert_texts`."""
    return [Decimal(part) for part in json.loads(written)] if written != "[]" else []


def object_of(written: str | None) -> dict[str, Any]:
    """Returns the labels or changes in a JSON text. An empty text gives an empty dictionary."""
    return dict(_object_of(written)) if written and written != "{}" else {}


@lru_cache(maxsize=1024)
def _object_of(written: str) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(written)
    return values
