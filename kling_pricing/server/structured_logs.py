"""Logs for programs: one JSON object per line, with the facts of each event, and without secrets."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Any

from kling_pricing.display import without_secrets

_ROOT = "kling_pricing"
"""The logger of the library; other libraries log warnings only."""


class JsonLines(logging.Formatter):
    """Writes a record as one line of JSON: `at`, `level`, `logger`, `message`, and the facts of the event.

    Web addresses, and everything that looks like a key, are left out of messages and of tracebacks.
    """

    _encoder = json.JSONEncoder(ensure_ascii=False, default=str)  # making one costs more than its work

    def format(self, record: logging.LogRecord) -> str:
        """Returns the line of a record."""
        entry: dict[str, Any] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": without_secrets(record.getMessage(), "sentence"),
        }
        facts: dict[str, Any] = getattr(record, "facts", {})
        entry |= {name: value for name, value in facts.items() if value is not None}
        if record.exc_info:
            entry["error"] = without_secrets(self.formatException(record.exc_info), "sentence")
        return self._encoder.encode(entry)


def log_as_json(level: str) -> None:
    """Logs to standard error from now on, one JSON object per line.

    Args:
        level: the least important messages to log, such as `info`; other libraries log warnings and errors.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger(_ROOT).setLevel(level.upper())
