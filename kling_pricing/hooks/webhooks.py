"""Signed callbacks: verified by the Standard Webhooks scheme, accepted once, and observed.

Anyone who knows the URL can send an unsigned callback. Treat it as a hint to ask the provider (see
`kling_pricing.hooks.recovery`), not as the provider's response.
"""

from __future__ import annotations

import base64
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

from kling_pricing.errors import KlingPricingError, LedgerError, ReservationNotFoundError, WebhookError
from kling_pricing.guard import BudgetGuard
from kling_pricing.guard.async_guard import AsyncBudgetGuard
from kling_pricing.guard.references import named_by_own_id
from kling_pricing.guard.responses import read_answer, read_task
from kling_pricing.ledger.model import Reservation
from kling_pricing.wire.task import listed_tasks

_REMEMBERED_S = 11 * 60
"""Longer than a signature is valid: from five minutes before its timestamp until five minutes after it."""

_MAX_REMEMBERED = 100_000

_MIN_SECRET_BYTES = 24
"""The scheme's minimum; a mistyped secret or a placeholder is usually shorter."""

try:
    from standardwebhooks import Webhook
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError(
        "signed callbacks need standardwebhooks, which is not installed; run `pip install "
        "'kling-pricing[webhooks]'`",
        name=missing.name,
    ) from missing


class Webhooks:
    """Receives the signed callbacks of one provider; safe to share between threads.

    The object remembers the callbacks that it accepted for as long as their signatures are valid. If several
    processes receive callbacks, a repeated one can reach another process. The repeated callback changes nothing
    there, because observing the same response again has no effect.

    Args:
        guard: the guard that observes the callbacks.
        secret: the secret that signs the callbacks, or a list of several during a rotation.
        provider: the provider that sends the callbacks.
        wire_format: the format of the bodies; the default is the format of the task's reservation.

    Raises:
        KlingPricingError: a secret is not valid, or the provider is unknown.
    """

    def __init__(
        self,
        guard: BudgetGuard | AsyncBudgetGuard,
        secret: str | Sequence[str],
        *,
        provider: str,
        wire_format: str | None = None,
    ) -> None:
        self._guard = guard.guard if isinstance(guard, AsyncBudgetGuard) else guard
        self._guard.book.tables_of(provider)  # raises if the provider is unknown
        self._provider = provider
        self._wire_format = wire_format
        secrets: Sequence[Any] = secret if isinstance(secret, list | tuple) else [secret]
        self._verifiers = [Webhook(_signing_key(secret)) for secret in secrets]
        if not self._verifiers:
            raise KlingPricingError("the list of webhook secrets is empty; give at least one secret")
        self._accepted: OrderedDict[str, int] = OrderedDict()
        self._in_progress: set[str] = set()
        self._lock = threading.Lock()

    def receive(self, body: bytes, headers: Mapping[str, str]) -> Reservation | None:
        """Verifies a callback and observes it.

        Args:
            body: the body of the request, byte for byte.
            headers: the headers of the request.

        Returns:
            The updated reservation; None if no reservation has this task yet. The ledger then keeps the
            observation, unless the task was only submitted, as in the test callback of a provider's console.

        Raises:
            WebhookError: the signature is wrong or too old, the body cannot be read or names no task, the
                callback was accepted before, or it is being processed at this moment. In the last case, the
                sender must send the callback again, because the first delivery may still fail. The error's
                `status` is the HTTP status to answer with.
            LedgerError: the ledger could not be written; respond with 5xx, so that the provider sends the
                callback again.
        """
        message_id = self._verify(body, {name.lower(): value for name, value in headers.items()})
        with self._lock:
            now = time.monotonic_ns() // 10**9
            while self._accepted and (
                len(self._accepted) >= _MAX_REMEMBERED
                or next(iter(self._accepted.values())) < now - _REMEMBERED_S
            ):
                self._accepted.popitem(last=False)
            if message_id in self._accepted:
                raise WebhookError("this callback was already received", status=200)
            if message_id in self._in_progress:
                raise WebhookError("this callback is being processed; retry later", status=503)
            self._in_progress.add(message_id)
        observed = False
        try:
            reservation = self._observe(body)
            observed = True
            return reservation
        finally:
            with self._lock:
                self._in_progress.discard(message_id)
                if observed:
                    self._accepted[message_id] = now

    def _observe(self, body: bytes) -> Reservation | None:
        """Observes a verified callback.

        Raises:
            WebhookError: the body cannot be read, or names no task.
            LedgerError: the ledger could not be written.
        """
        try:
            answer = read_answer(body)
            if listed_tasks(answer) is not None:
                return self._guard.observe(answer, provider=self._provider, wire_format=self._wire_format)
            task = read_task(
                answer,
                self._provider,
                self._guard.book,
                self._wire_format,
                format_of_task=self._format_of_task,
            )
            if (
                task.state == "queued"
                and task.task_id
                and not self._format_of_task(self._provider, task.task_id)
                and named_by_own_id(self._guard.reservation, self._provider, task) is None
            ):
                return None  # a test, or a task whose submission has not been recorded yet: it says nothing new
            return self._guard.observe_task(task, provider=self._provider)
        except LedgerError:
            raise
        except KlingPricingError as error:
            raise WebhookError(f"the callback cannot be read: {error}", status=400) from error

    def _format_of_task(self, provider: str, task_id: str) -> str | None:
        """Returns the wire format of a task's reservation; None: it has none."""
        try:
            return self._guard.reservation((provider, task_id)).wire_format or None
        except ReservationNotFoundError:
            return None

    def _verify(self, body: bytes, headers: dict[str, str]) -> str:
        """Verifies a signature and returns the id of the callback."""
        reason = ""
        for verifier in self._verifiers:
            try:
                verifier.verify(body, headers, json_parse=False)
            except Exception as error:  # noqa: BLE001 (a malformed header makes the library raise anything)
                reason = str(error)
            else:
                return headers["webhook-id"]
        raise WebhookError(f"the callback's signature is not valid: {reason}", status=401)


def _signing_key(secret: Any) -> bytes:
    """Decodes a secret; the error does not repeat it.

    Raises:
        KlingPricingError: the secret is not base64, or is too short.
    """
    text = secret.removeprefix("whsec_") if isinstance(secret, str) else ""
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError:
        key = b""
    if len(key) < _MIN_SECRET_BYTES:
        raise KlingPricingError(
            f"a webhook secret must be the base64 encoding of at least {_MIN_SECRET_BYTES} bytes; copy it "
            "from the provider"
        )
    return key
