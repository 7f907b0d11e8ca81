"""Sends callbacks one after another in a separate thread, with a signature if the API signs callbacks."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import threading
import time
from collections import deque
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple
from urllib.parse import urlsplit

_TIMEOUT_S = 10
_MAX_PENDING = 10_000
_MAX_KEPT = 1_000
_PREFIX = "whsec_"


class SentCallback(NamedTuple):
    """A callback that was sent.

    Attributes:
        url: the URL of the receiver.
        body: the body.
        status: the HTTP status of the response; 0: there was no response.
    """

    url: str
    body: bytes
    status: int


class Callbacks:
    """Sends callbacks in the order in which they were queued, and never repeats one that failed.

    Attributes:
        sent: the newest callbacks.
    """

    def __init__(self) -> None:
        self.sent: deque[SentCallback] = deque(maxlen=_MAX_KEPT)
        self._sender = ThreadPoolExecutor(1, "kling-pricing-callbacks")
        self._pending = threading.Semaphore(_MAX_PENDING)
        self._number = 0

    def send(self, url: str, body: bytes, secret: str | None, *, times: int = 1) -> None:
        """Queues a callback; drops it if too many callbacks are already queued."""
        self._number += 1
        headers = {"content-type": "application/json"}
        if secret is not None:
            headers |= signature(secret, f"msg_{self._number}", int(time.time()), body)
        for _ in range(times):
            if self._pending.acquire(blocking=False):
                self._sender.submit(self._post, url, body, headers)

    def close(self) -> None:
        """Stops sending, and drops the callbacks that are still queued."""
        self._sender.shutdown(wait=False, cancel_futures=True)

    def _post(self, url: str, body: bytes, headers: Mapping[str, str]) -> None:
        status = 0
        parts = urlsplit(url)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        try:
            connection = kind(parts.hostname or "", parts.port, timeout=_TIMEOUT_S)
            try:
                target = parts.path or "/"
                connection.request(
                    "POST", f"{target}?{parts.query}" if parts.query else target, body, dict(headers)
                )
                status = connection.getresponse().status
            finally:
                connection.close()
        except (OSError, ValueError, http.client.HTTPException):
            status = 0
        finally:
            self._pending.release()
            self.sent.append(SentCallback(url, body, status))


def webhook_key(secret: str) -> bytes:
    """Returns the key in a webhook secret: base64 with or without the prefix `whsec_`.

    Raises:
        ValueError: the secret is not base64, or its key is empty.
    """
    key = base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    if not key:
        raise ValueError("the key is empty")
    return key


def signature(secret: str, message_id: str, timestamp_s: int, body: bytes) -> dict[str, str]:
    """Returns the signature headers of a body, with an HMAC-SHA256 of the id, the time and the body."""
    signed = f"{message_id}.{timestamp_s}.".encode() + body
    digest = base64.b64encode(hmac.digest(webhook_key(secret), signed, hashlib.sha256)).decode()
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp_s),
        "webhook-signature": f"v1,{digest}",
    }
