"""Sends one alert to one receiver: finds the receiver's URL, and posts a signed webhook or uses Apprise.

A URL and its secret come from the environment or from files, and never appear in an error or in the ledger.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from kling_pricing.alerts.sentences import alert_document, alert_text
from kling_pricing.display import not_installed
from kling_pricing.ledger.alerting import StoredAlert

_MIN_SECRET_BYTES = 24
_GONE = 410
_SOONEST_OF = {429, 503}
"""The statuses whose `Retry-After` counts."""

_MAX_DIGITS = 5

_LIMIT_FACTOR = 3
"""The longest that an attempt may take, as a multiple of the time limit for each step of it."""


class DeliveryResult(NamedTuple):
    """The result of one attempt to deliver an alert.

    Attributes:
        problem: why the receiver did not accept the alert; None: it did.
        is_gone: whether the receiver does not want any more alerts.
        retry_after: how long the receiver asks to wait; None: it does not say.
    """

    problem: str | None = None
    is_gone: bool = False
    retry_after: timedelta | None = None


class _Unusable(Exception):  # noqa: N818 (it never leaves this module)
    """The URL or the secret of a receiver cannot be used."""


def attempt(receiver: str, alert: StoredAlert, timeout: timedelta) -> DeliveryResult:
    """Sends an alert to a receiver once, and returns the result. Never raises, and always ends.

    Args:
        receiver: the receiver's name, `env:NAME` or `file:PATH`.
        alert: the alert.
        timeout: the time limit for connecting, and for each part of the response.
    """
    answers: SimpleQueue[DeliveryResult] = SimpleQueue()
    try:
        send = _sender(receiver, timeout)
    except _Unusable as error:
        return DeliveryResult(str(error))

    def work() -> None:
        try:
            answers.put(send(alert))
        except Exception as error:  # noqa: BLE001 (whatever a receiver causes must not end the deliverer)
            answers.put(DeliveryResult(f"sending failed: {type(error).__name__}"))

    limit = _LIMIT_FACTOR * timeout
    Thread(target=work, name="kling-pricing-alert", daemon=True).start()
    try:
        return answers.get(timeout=limit.total_seconds())
    except Empty:  # the receiver may answer byte by byte
        return DeliveryResult(f"no complete response within {limit.total_seconds():g} s")


def _sender(receiver: str, timeout: timedelta) -> Callable[[StoredAlert], DeliveryResult]:
    """Returns the function that sends alerts to a receiver.

    Raises:
        _Unusable: the receiver's URL or secret is missing or not valid.
    """
    url = _setting(receiver)
    if url is None:
        kind, _, place = receiver.partition(":")
        raise _Unusable(
            f"the variable {place} is not set; set it to the receiver's URL"
            if kind == "env"
            else f"the file {place} cannot be read or is empty; write the receiver's URL into it"
        )
    try:
        scheme = urlsplit(url).scheme
    except ValueError:
        scheme = ""
    if scheme not in {"http", "https"}:
        return partial(_notify, _service(receiver, url))
    name, secret = _secret_of(receiver)
    if secret is not None:
        return partial(_post, url, _signing_key(name, secret), timeout)
    service = _service(receiver, url, is_optional=True)
    if service is not None:  # the address that a chat service gives for its own webhooks
        return partial(_notify, service)
    raise _Unusable(
        f"the URL belongs to a webhook, but no signing secret is set; set {name} to the secret that signs the "
        "webhooks, or give an Apprise URL"
    )


def _secret_of(receiver: str) -> tuple[str, str | None]:
    """Returns the place of a webhook's secret in words, and the secret; None: there is none."""
    kind, _, place = receiver.partition(":")
    if kind == "env":
        return f"the variable {place}_SECRET", _setting(f"{receiver}_SECRET")
    return f"the content of the file {place}.secret", _setting(f"{receiver}.secret")


def _setting(name: str) -> str | None:
    """Returns the value of a variable or the first line of a file; None: it is missing or empty."""
    kind, _, place = name.partition(":")
    if kind == "env":
        return os.environ.get(place, "").strip() or None
    try:
        lines = Path(place).read_text(encoding="utf-8").split("\n", 1)
    except (OSError, ValueError):
        return None
    return lines[0].strip() or None


def _signing_key(name: str, secret: str) -> bytes:
    """Decodes a webhook secret; the error does not repeat it.

    Raises:
        _Unusable: the secret is not base64, or is too short.
    """
    text = secret.removeprefix("whsec_")
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError:
        key = b""
    if len(key) < _MIN_SECRET_BYTES:
        raise _Unusable(
            f"{name} is not a webhook secret; write whsec_ followed by the base64 encoding of at least "
            f"{_MIN_SECRET_BYTES} bytes"
        )
    return key


# webhooks


def _post(url: str, key: bytes, timeout: timedelta, alert: StoredAlert) -> DeliveryResult:
    """Posts an alert as a webhook with a signature by the Standard Webhooks scheme.

    Follows no redirect, because the signed message is meant for the configured receiver only.
    """
    import requests  # noqa: PLC0415 (an optional package)
    from standardwebhooks import Webhook  # noqa: PLC0415 (as above)

    now = datetime.now(UTC)  # receivers compare it with their own clocks
    body = webhook_body(alert)
    headers = {
        "content-type": "application/json",
        "user-agent": "kling-pricing",
        "webhook-id": alert.id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(key).sign(alert.id, now, body),
    }
    try:
        with requests.post(
            url,
            data=body.encode(),
            headers=headers,
            auth=_no_auth if not urlsplit(url).username else None,
            timeout=timeout.total_seconds(),
            allow_redirects=False,
            stream=True,
        ) as response:
            status = response.status_code
            wait = response.headers.get("retry-after", "")
    except requests.Timeout:
        return DeliveryResult(f"no response within {timeout.total_seconds():g} s")
    except requests.ConnectionError:
        return DeliveryResult("the connection failed")
    except requests.RequestException as error:
        return DeliveryResult(f"the request failed: {type(error).__name__}")
    if status // 100 == 2:  # noqa: PLR2004 (every 2xx)
        return DeliveryResult()
    if status == _GONE:
        return DeliveryResult(
            "the receiver answered 410 Gone, which means that it does not want any more alerts", is_gone=True
        )
    if status // 100 == 3:  # noqa: PLR2004 (every 3xx)
        return DeliveryResult(
            f"the receiver answered HTTP {status}; redirects are not followed, so give the receiver's final URL"
        )
    asked = (
        timedelta(seconds=int(wait))
        if status in _SOONEST_OF and wait.isdecimal() and len(wait) <= _MAX_DIGITS
        else None
    )
    return DeliveryResult(f"the receiver answered HTTP {status}", retry_after=asked)


def _no_auth(request: Any) -> Any:
    """Keeps the HTTP library from sending the user's passwords from `.netrc`."""
    return request


def webhook_body(alert: StoredAlert) -> str:
    """Returns the body of a webhook. Every attempt at an alert has the same body."""
    subject = "job" if alert.kind in {"in_doubt", "charge"} else "budget"
    document = {
        "type": f"{subject}.{alert.kind}",
        "timestamp": alert.at.isoformat(),
        "data": alert_document(alert),
    }
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))


# chat services and mail


def _service(receiver: str, url: str, *, is_optional: bool = False) -> Any:
    """Returns Apprise's service for a URL; None if it is optional and Apprise knows none.

    Raises:
        _Unusable: Apprise is not installed, or does not know the URL.
    """
    try:
        from apprise import Apprise  # noqa: PLC0415 (an optional package, slow to import)
    except ModuleNotFoundError as error:
        if is_optional:
            return None
        raise _Unusable(not_installed("this receiver", f"{error.name}", "alerts")) from None
    service = Apprise.instantiate(url, suppress_exceptions=True)
    if service is None and not is_optional:
        kind, _, place = receiver.partition(":")
        where = f"the variable {place}" if kind == "env" else f"the file {place}"
        raise _Unusable(
            f"{where} contains neither a webhook URL nor an Apprise URL; correct the URL with the help of "
            "Apprise's list of services"
        )
    return service


def _notify(service: Any, alert: StoredAlert) -> DeliveryResult:
    from apprise import NotifyType  # noqa: PLC0415 (as above)

    kind = NotifyType.INFO if alert.kind == "thaw" else NotifyType.WARNING
    is_sent = service.notify(body=alert_text(alert), title="kling-pricing", notify_type=kind)
    return DeliveryResult() if is_sent else DeliveryResult("the service did not accept the message")
