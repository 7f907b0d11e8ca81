"""Callers' URLs for callbacks, sealed inside URLs of the server, so that nothing about them has to be stored.

A sealed URL contains the caller's URL and the reservation of its job, encrypted and authenticated with a key
that all servers of a ledger share. Only these servers can make or open one.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from yarl import URL

from kling_pricing.display import not_installed, shown
from kling_pricing.errors import KlingPricingError, SettingsError
from kling_pricing.server.secret_places import Secret

_HOST_NAME = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*")
"""The name of a host. An IP address with a zone, such as `::1%.example.com`, is none, whatever its end."""

_MIN_KEY_CHARS = 32
_MAX_URL_CHARS = 1000
_MAX_TOKEN_CHARS = 2000
_ID_BYTES = 16
_KEY_BYTES = 64
_PURPOSE = b"kling-pricing: URLs for callbacks, version 1"


class SealedCallback(NamedTuple):
    """The content of a sealed URL.

    Attributes:
        url: the caller's URL.
        reservation_id: the reservation of the caller's job.
    """

    url: str
    reservation_id: str


class CallbackSeal:
    """Seals and opens the URLs for callbacks of one upstream.

    The encryption is deterministic (AES-SIV, RFC 5297). A submission that is sent again with its idempotency
    key therefore has the same body, as the APIs demand.

    Args:
        base_url: the URL of the server that receives callbacks of the upstream.
        hosts: the hosts to which callbacks may be sent; `*.example.com` stands for all hosts below a domain.
        keys: the key that seals URLs, and the older keys that still open them.

    Raises:
        SettingsError: a key is too short.
        ModuleNotFoundError: the package `cryptography` is not installed.
    """

    def __init__(self, base_url: str, hosts: Sequence[str], keys: Sequence[Secret]) -> None:
        self._base_url = base_url
        self._hosts = frozenset(host for host in hosts if not host.startswith("*"))
        self._domains = tuple(host.removeprefix("*") for host in hosts if host.startswith("*"))
        self._keys = keys
        self._ciphers: dict[str, Any] = {}
        self._context = base_url.rpartition("/")[2].encode()
        for key in keys:
            self._cipher(key)

    def check(self, url: str) -> None:
        """Does nothing if callbacks may be sent to a URL.

        Raises:
            KlingPricingError: it is not an http or https URL, or its host is not allowed.
        """
        try:
            parsed = URL(url, encoded=True)
            host, is_plain = parsed.host or "", parsed.user is None and parsed.password is None
        except ValueError:
            host, is_plain = "", False
        is_printable = url.isascii() and url.isprintable() and " " not in url
        if not (host and is_plain and is_printable and parsed.scheme in {"http", "https"}):
            raise KlingPricingError(
                "the URL for callbacks cannot be read; give an http or https URL without a user and spaces"
            )
        if len(url) > _MAX_URL_CHARS:
            raise KlingPricingError(
                f"the URL for callbacks has more than {_MAX_URL_CHARS} characters; give a shorter one"
            )
        host = host.lower().rstrip(".")
        is_below = _HOST_NAME.fullmatch(host) is not None and host.endswith(self._domains or ("\0",))
        if host not in self._hosts and not is_below:
            raise KlingPricingError(
                f"the server sends no callbacks to the host {shown(host)}; leave the URL for callbacks out, or "
                "ask whoever runs the server to add the host to the setting `callback_hosts`"
            )

    def sealed(self, url: str, reservation_id: str) -> str:
        """Returns the URL of the server that stands for a caller's URL. Equal arguments give equal URLs.

        Raises:
            SettingsError: the file with the key was removed or emptied.
        """
        content = bytes.fromhex(reservation_id) + url.encode()
        encrypted: bytes = self._cipher(self._keys[0]).encrypt(content, [self._context])
        return f"{self._base_url}/{base64.urlsafe_b64encode(encrypted).decode().rstrip('=')}"

    def opened(self, token: str) -> SealedCallback | None:
        """Returns the content of the last part of a sealed URL; None: no key of these settings has sealed it.

        Raises:
            SettingsError: a file with a key was removed or emptied.
        """
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415 (needed by few servers)

        if len(token) > _MAX_TOKEN_CHARS or not token.isascii():
            return None
        try:
            encrypted = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            return None
        for key in self._keys:
            try:
                content = self._cipher(key).decrypt(encrypted, [self._context])
            except (InvalidTag, ValueError):
                continue
            return SealedCallback(content[_ID_BYTES:].decode(), content[:_ID_BYTES].hex())
        return None

    def _cipher(self, key: Secret) -> Any:
        try:
            from cryptography.hazmat.primitives import hashes  # noqa: PLC0415 (needed by few servers)
            from cryptography.hazmat.primitives.ciphers.aead import AESSIV  # noqa: PLC0415 (as above)
            from cryptography.hazmat.primitives.kdf.hkdf import HKDF  # noqa: PLC0415 (as above)
        except ModuleNotFoundError as missing:
            raise ModuleNotFoundError(
                not_installed("relaying callbacks", f"{missing.name}", "server"), name=missing.name
            ) from missing
        text = key.text()
        if len(text) < _MIN_KEY_CHARS:
            raise SettingsError(
                f"the key has fewer than {_MIN_KEY_CHARS} characters; make one with `openssl rand -base64 48`",
                key_path=key.setting,
            )
        if text not in self._ciphers:
            derived = HKDF(hashes.SHA256(), _KEY_BYTES, salt=None, info=_PURPOSE).derive(text.encode())
            self._ciphers[text] = AESSIV(derived)
        return self._ciphers[text]
