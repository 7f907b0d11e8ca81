"""Signing in: an access key is exchanged for a session, or a proxy in front has recognised the person."""

from __future__ import annotations

import hmac
import secrets
from datetime import datetime, timedelta
from hashlib import sha256
from ipaddress import ip_address, ip_network
from typing import NamedTuple

from starlette.requests import Request

from kling_pricing.errors import AccessError
from kling_pricing.ledger.access_keys import digest_of
from kling_pricing.server.access import FORBIDDEN, UNAUTHORIZED, Caller, caller_with
from kling_pricing.server.server_state import ServerState

_TOKEN_BYTES = 32
_MAX_KEY_CHARS = 200
_KEPT_EVERY = timedelta(minutes=1)
"""How often the use of a session is kept at most."""


class SignedIn(NamedTuple):
    """A signed-in person.

    Attributes:
        caller: the access key, and its rights.
        token: the secret of the browser: the session's token, or a value in a cookie if a proxy signs in.
        ends_at: when the person must sign in again, UTC; None: the proxy decides.
        set_cookie: the `Set-Cookie` header that the answer needs; None: it needs none.
    """

    caller: Caller
    token: str
    ends_at: datetime | None
    set_cookie: str | None = None

    @property
    def form_token(self) -> str:
        """The token that every form of this person sends back, so that no other site can send one."""
        return sha256(f"form of {self.token}".encode()).hexdigest()

    def require_token(self, given: str) -> None:
        """Does nothing if a form has the person's token.

        Raises:
            AccessError: it has not (403).
        """
        if not hmac.compare_digest(given.encode(), self.form_token.encode()):
            raise AccessError(
                "the form belongs to another session, so nothing was changed; open the page again, and send "
                "the form from there",
                status=FORBIDDEN,
            )


class SignIns:
    """Recognises the people who visit the pages.

    Args:
        state: the state of the server.
    """

    def __init__(self, state: ServerState) -> None:
        self._state = state
        self._is_secure = state.settings.is_encrypted
        self._cookie = f"{'__Host-' if self._is_secure else ''}kling_pricing_session"
        self._idle = timedelta(seconds=state.settings.session_idle_s)
        self._lasts = timedelta(seconds=state.settings.session_lasts_s)
        self._proxies = [ip_network(proxy) for proxy in state.settings.trusted_proxies]

    def begin(self, text: str) -> str:
        """Begins a session with an access key, and returns the `Set-Cookie` header with its token.

        Raises:
            AccessError: no valid access key has this text (401).
            LedgerUnavailableError: the ledger cannot be used.
        """
        token = secrets.token_urlsafe(_TOKEN_BYTES)
        session = None
        if text and len(text) <= _MAX_KEY_CHARS:
            session = self._state.ledger.begin_session(digest_of(text), digest_of(token), self._lasts)
        if session is None:
            raise AccessError(
                "this access key is not valid: it is incomplete, or it was revoked or has expired; copy the "
                "whole key, or ask an administrator for another one",
                status=UNAUTHORIZED,
            )
        self._state.ledger.mark_key_used(session.key.name)
        return self._set_cookie(token)

    def end(self, request: Request) -> str:
        """Ends the session of a request, if it has one; returns the header that removes its cookie."""
        if token := self._token(request):
            self._state.ledger.end_session(digest_of(token))
        return f"{self._set_cookie('')}; Max-Age=0"

    def person(self, request: Request, *, is_use: bool = True) -> SignedIn | None:
        """Returns the person who sends a request. May take as long as a query of the ledger.

        Args:
            request: the request.
            is_use: whether the request counts as a use of the session; live updates do not.

        Returns:
            The person; None: nobody is signed in.

        Raises:
            AccessError: a trusted proxy names a person without a valid access key (403).
            LedgerUnavailableError: the ledger cannot be used.
        """
        token = self._token(request)
        if (name := self.named_by_proxy(request)) is not None:
            caller = self._state.access.named(name)
            if token:
                return SignedIn(caller, token, None)
            token = secrets.token_urlsafe(_TOKEN_BYTES)
            return SignedIn(caller, token, None, self._set_cookie(token))
        if not token:
            return None
        digest = digest_of(token)
        session = self._state.ledger.session(digest, self._idle)
        if session is None:
            return None
        if is_use and self._state.clock() - session.used_at >= _KEPT_EVERY:
            self._state.ledger.keep_session(digest)
        return SignedIn(caller_with(session.key), token, session.ends_at)

    def named_by_proxy(self, request: Request) -> str | None:
        """Returns the name of the access key in the trusted header; None: no trusted proxy names one."""
        header = self._state.settings.trust_header
        if header is None or not self._is_proxy(self._peer(request)):
            return None
        return ", ".join(request.headers.getlist(header)) or None

    def address(self, request: Request) -> str:
        """Returns the address from which a request comes, as far as it is known."""
        peer = self._peer(request)
        if not self._is_proxy(peer):
            return peer
        hops = ",".join(request.headers.getlist("x-forwarded-for")).split(",")
        return next((hop.strip() for hop in reversed(hops) if not self._is_proxy(hop.strip())), "") or peer

    def _peer(self, request: Request) -> str:
        return "" if request.client is None else request.client.host

    def _is_proxy(self, address: str) -> bool:
        try:
            parsed = ip_address(address)
        except ValueError:
            return False
        return any(parsed in network for network in self._proxies)

    def _token(self, request: Request) -> str:
        return request.cookies.get(self._cookie, "")

    def _set_cookie(self, token: str) -> str:
        secure = "; Secure" if self._is_secure else ""
        return f"{self._cookie}={token}; Path=/; HttpOnly; SameSite=Strict{secure}"
