"""Signed callbacks: verified by the Standard Webhooks scheme, taken in once, and observed.

Of callbacks that nobody signs, anybody who knows the URL can send one: take them as a hint to ask the provider
(see `kling_pricing.hooks.recovery`), not as its word.
"""

from __future__ import annotations

import base64
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

from kling_pricing.errors import KlingPricingError, WebhookError
from kling_pricing.guard import BudgetGuard
from kling_pricing.guard.async_guard import AsyncBudgetGuard
from kling_pricing.ledger.model import Reservation

_REMEMBERED_S = 11 * 60
"""For longer than that no signature holds: five minutes before and five after its timestamp."""

_MAX_REMEMBERED = 100_000

_LEAST_SECRET_BYTES = 24
"""The scheme asks for so many; a mistyped or placeholder secret is most often shorter."""

try:
    from standardwebhooks import Webhook
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError(
        "signed callbacks need standardwebhooks; pip install 'kling-pricing[webhooks]'", name=missing.name
    ) from missing


class Webhooks:
    """Takes in the signed callbacks of one provider; safe to share between threads.

    Which callbacks were taken in is remembered for as long as their signatures hold, by this object: where
    several processes receive them, one can be repeated to another, and changes nothing there, because observing
    what was observed before changes nothing.

    Args:
        guard: observes them.
        secret: that they are signed with, or several while it is being changed.
        provider: who sends them.
        wire_format: of the bodies; by default that of the task's reservation.

    Raises:
        KlingPricingError: a secret cannot be used, or the provider is unknown.
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
        self._keys = [Webhook(_key(each)) for each in secrets]
        if not self._keys:
            raise KlingPricingError("give the webhook's secret")
        self._taken: OrderedDict[str, int] = OrderedDict()
        self._in_hand: set[str] = set()
        self._lock = threading.Lock()

    def receive(self, body: bytes, headers: Mapping[str, str]) -> Reservation | None:
        """Verifies a callback and observes what it says.

        Args:
            body: as it came, byte for byte.
            headers: of the request.

        Returns:
            The reservation as it now stands; None: nobody knows yet whose task it is, and it is remembered.

        Raises:
            WebhookError: the signature is wrong, it is too old, it was taken in before, or it came twice at
                once: then its sender is to repeat it, for the other may fail.
            LedgerError: it could not be noted; answer 5xx, so that it is sent again.
            WireFormatError: it says nothing of a task.
        """
        message_id = self._verified(body, {name.lower(): value for name, value in headers.items()})
        with self._lock:
            now = time.monotonic_ns() // 10**9
            while self._taken and (
                len(self._taken) >= _MAX_REMEMBERED or next(iter(self._taken.values())) < now - _REMEMBERED_S
            ):
                self._taken.popitem(last=False)
            if message_id in self._taken:
                raise WebhookError("this callback was taken in before", status=200)
            if message_id in self._in_hand:
                raise WebhookError("this callback is being taken in; send it again", status=503)
            self._in_hand.add(message_id)
        taken = False
        try:
            found = self._guard.observe(body, provider=self._provider, wire_format=self._wire_format)
            taken = True
            return found
        finally:
            with self._lock:
                self._in_hand.discard(message_id)
                if taken:
                    self._taken[message_id] = now

    def _verified(self, body: bytes, headers: dict[str, str]) -> str:
        why = "it has no signature"
        for key in self._keys:
            try:
                key.verify(body, headers, json_parse=False)
            except Exception as error:  # noqa: BLE001 (a malformed header makes the library raise anything)
                why = str(error)
            else:
                return headers["webhook-id"]
        raise WebhookError(f"the callback's signature does not hold: {why}", status=401)


def _key(secret: Any) -> bytes:
    """The bytes of a secret; the message does not repeat it.

    Raises:
        KlingPricingError: it is not base64, or too short to be one.
    """
    text = secret.removeprefix("whsec_") if isinstance(secret, str) else ""
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError:
        key = b""
    if len(key) < _LEAST_SECRET_BYTES:
        raise KlingPricingError(
            f"the webhook's secret must be base64 of at least {_LEAST_SECRET_BYTES} bytes, "
            "as the provider shows it"
        )
    return key
