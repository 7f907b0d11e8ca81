"""The verbs of a ledger in PostgreSQL for sessions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from kling_pricing.ledger.postgres.access_key_verbs import key_of
from kling_pricing.ledger.sessions import Session


class PostgresSessions:
    """The part of `PostgresLedger` for sessions; see `Sessions` for its verbs."""

    _call: Callable[..., Any]

    def begin_session(self, key_digest: str, digest: str, lasts: timedelta) -> Session | None:
        """See `Sessions.begin_session`."""
        return _session(self._call("begin_session", key_digest, digest, lasts))

    def session(self, digest: str, idle: timedelta) -> Session | None:
        """See `Sessions.session`."""
        return _session(self._call("find_session", digest, idle))

    def keep_session(self, digest: str) -> None:
        """See `Sessions.keep_session`."""
        self._call("keep_session", digest)

    def end_session(self, digest: str) -> None:
        """See `Sessions.end_session`."""
        self._call("end_session", digest)


def _session(row: Mapping[str, Any] | None) -> Session | None:
    if row is None:
        return None
    instants = (datetime.fromisoformat(row[name]) for name in ("created_at", "used_at", "ends_at"))
    return Session(key_of(row["key"]), *instants)
