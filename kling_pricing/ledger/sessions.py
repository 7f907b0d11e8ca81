"""Sessions: a person who signed in to the pages of the server with an access key. Pure.

A session begins with an access key and ends with it. The ledger keeps only the SHA-256 of a session's token.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple, Protocol

from kling_pricing.ledger.access_keys import AccessKey

MAX_SESSIONS = 50
"""The largest number of sessions of one access key. If another one begins, the oldest ends."""


class Session(NamedTuple):
    """A session in force.

    Attributes:
        key: the access key with which it began.
        created_at: the instant at which it began, UTC.
        used_at: the instant of about its last use, UTC.
        ends_at: the instant at which it ends even if it is in use, UTC.
    """

    key: AccessKey
    created_at: datetime
    used_at: datetime
    ends_at: datetime


class Sessions(Protocol):
    """Sessions. A part of `Ledger`.

    A PostgreSQL role that may only use guards can begin a session only if it knows the access key, so that it
    cannot get the rights of another key.
    """

    def begin_session(self, key_digest: str, digest: str, lasts: timedelta) -> Session | None:
        """Begins a session, and removes those that have ended.

        Args:
            key_digest: the SHA-256 of the text of an access key; see `digest_of`.
            digest: the SHA-256 of the session's token.
            lasts: how long it lasts at most, up to a year.

        Returns:
            The session; None: the ledger has no valid key with this text.
        """

    def session(self, digest: str, idle: timedelta) -> Session | None:
        """Returns the session whose token has this SHA-256.

        Args:
            digest: the SHA-256 of the token.
            idle: how long a session lasts without use.

        Returns:
            The session; None: there is none, or it has ended, or its access key was revoked or has expired.
        """

    def keep_session(self, digest: str) -> None:
        """Keeps that a session is in use now. Has no effect if it has ended."""

    def end_session(self, digest: str) -> None:
        """Ends a session. A repeated call has no effect."""
