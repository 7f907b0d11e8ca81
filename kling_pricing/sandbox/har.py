"""Saves requests and responses in an HTTP archive (HAR 1.2)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kling_pricing.errors import KlingPricingError

_HIDDEN = {"authorization", "cookie", "set-cookie", "x-api-key"}
_HEAD = '{"log":{"version":"1.2","creator":{"name":"kling-pricing sandbox","version":"1"},"entries":[\n'
_END = "\n]}}\n"


class HarFile:
    """An archive file, which is complete after every entry and contains no API keys or cookies from headers.

    Args:
        path: the path of the file; an existing file is replaced.

    Raises:
        KlingPricingError: the file cannot be written.
    """

    def __init__(self, path: str | Path) -> None:
        try:
            self._file = Path(path).open("w", encoding="utf-8")  # noqa: SIM115 (open as long as the sandbox)
        except OSError as error:
            raise KlingPricingError(
                f"{path}: cannot be written: {error.strerror}; choose another file"
            ) from None
        self._file.write(_HEAD)
        self._place = self._file.tell()
        self._is_first = True
        self._finish()

    def add(
        self,
        started: datetime,
        took_ms: int,
        request: tuple[str, str, Mapping[str, str], bytes],
        response: tuple[int, Mapping[str, str], bytes],
    ) -> None:
        """Adds a request (method, URL, headers, body) and its response (status, headers, body).

        The status is 0 if the caller got no response.
        """
        method, url, headers, body = request
        status, answered, content = response
        entry: dict[str, Any] = {
            "startedDateTime": started.astimezone(UTC).isoformat(),
            "time": took_ms,
            "request": {
                "method": method,
                "url": url,
                "httpVersion": "HTTP/1.1",
                "headers": _pairs(headers),
                "queryString": [],
                "cookies": [],
                "headersSize": -1,
                "bodySize": len(body),
            },
            "response": {
                "status": status,
                "statusText": "",
                "httpVersion": "HTTP/1.1",
                "headers": _pairs(answered),
                "cookies": [],
                "content": {
                    "size": len(content),
                    "mimeType": answered.get("content-type", ""),
                    "text": content.decode(errors="replace"),
                },
                "redirectURL": "",
                "headersSize": -1,
                "bodySize": len(content),
            },
            "cache": {},
            "timings": {"send": 0, "wait": took_ms, "receive": 0},
        }
        if body:
            kind = headers.get("content-type", "")
            entry["request"]["postData"] = {"mimeType": kind, "text": body.decode(errors="replace")}
        self._file.seek(self._place)
        self._file.write(("" if self._is_first else ",\n") + json.dumps(entry))
        self._place, self._is_first = self._file.tell(), False
        self._finish()

    def _finish(self) -> None:
        self._file.write(_END)
        self._file.truncate()
        self._file.flush()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def _pairs(headers: Mapping[str, str]) -> list[dict[str, str]]:
    return [
        {"name": name, "value": "[hidden]" if name.lower() in _HIDDEN else value}
        for name, value in headers.items()
    ]
