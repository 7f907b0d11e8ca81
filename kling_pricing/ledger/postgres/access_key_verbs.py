"""The verbs of a ledger in PostgreSQL for access keys."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from kling_pricing.ledger.access_keys import AccessKey, NewAccessKey
from kling_pricing.ledger.actions import Author
from kling_pricing.ledger.postgres import codec
from kling_pricing.ledger.postgres.server import Server


class PostgresAccessKeys:
    """The part of `PostgresLedger` for access keys; see `AccessKeys` for its verbs."""

    _server: Server
    _call: Callable[..., Any]

    def issue_key(self, key: NewAccessKey, digest: str, author: Author) -> AccessKey:
        """See `AccessKeys.issue_key`."""
        labels = codec.labels_text(key.labels)
        return key_of(
            self._call("issue_key", key.name, digest, key.project, key.role, labels, key.expires_at, *author)
        )

    def revoke_key(self, name: str, author: Author) -> AccessKey:
        """See `AccessKeys.revoke_key`."""
        return key_of(self._call("revoke_key", name, *author))

    def access_keys(self) -> list[AccessKey]:
        """See `AccessKeys.access_keys`."""
        return [key_of(row) for row in self._server.rows("access_keys")]

    def access_key(self, digest: str) -> AccessKey | None:
        """See `AccessKeys.access_key`."""
        row = self._call("find_access_key", digest)
        return None if row is None else key_of(row)

    def mark_key_used(self, name: str) -> None:
        """See `AccessKeys.mark_key_used`."""
        self._call("mark_key_used", name)


def key_of(row: Mapping[str, Any]) -> AccessKey:
    """Returns the access key in a row from the server."""
    ended, revoked, used = (row[name] for name in ("expires_at", "revoked_at", "used_at"))
    return AccessKey(
        row["name"],
        row["project"],
        row["role"],
        row["labels"],
        row["fingerprint"],
        datetime.fromisoformat(row["created_at"]),
        ended and datetime.fromisoformat(ended),
        revoked and datetime.fromisoformat(revoked),
        used and datetime.fromisoformat(used),
        row["actor"],
    )
