"""How values are written into the file, and read back exactly."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any

from kling_pricing.money import format_decimal

_object_text = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode


@lru_cache(maxsize=32)  # a verb writes its instant several times
def written(at: datetime) -> str:
    """An instant, which is in UTC, so that texts sort as instants do."""
    return at.isoformat(timespec="microseconds")


def instant(text: str) -> datetime:
    """An instant that was written."""
    return datetime.fromisoformat(text)


def decimal(text: str | None) -> Decimal | None:
    """A number that was written."""
    return None if text is None else Decimal(text)


def text(number: Decimal | None) -> str | None:
    """A number that is not money of the ledger's own counting, exactly."""
    return None if number is None else format_decimal(number)


def object_text(values: Mapping[str, Any]) -> str:
    """Changes as JSON, the same text for the same values."""
    return _object_text(values) if values else "{}"


def labels_text(labels: Mapping[str, str]) -> str:
    """Labels as JSON, the same text for the same labels."""
    return _labels_text(tuple(labels.items())) if labels else "{}"


@lru_cache(maxsize=1024)  # most requests have the labels of one before
def _labels_text(labels: tuple[tuple[str, str], ...]) -> str:
    return _object_text(dict(labels))


def alert_texts(parts: Iterable[Decimal]) -> str:
    """Thresholds of a bucket."""
    return json.dumps([format_decimal(part) for part in parts])


def alert_parts(written: str) -> list[Decimal]:
    """Thresholds that were written."""
    return [Decimal(part) for part in json.loads(written)] if written != "[]" else []


def object_of(written: str | None) -> dict[str, Any]:
    """Labels or changes that were written; none where nothing was."""
    return dict(_object_of(written)) if written and written != "{}" else {}


@lru_cache(maxsize=1024)
def _object_of(written: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(written)
    return found
