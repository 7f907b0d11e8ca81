"""Access keys: they let callers use the server. The ledger keeps only the SHA-256 of a key. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from hashlib import sha256
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias, get_args

from kling_pricing.display import did_you_mean, shown
from kling_pricing.errors import KlingPricingError, LedgerError
from kling_pricing.ledger.actions import Author, read_value
from kling_pricing.ledger.redaction import checked_labels, short_text

Role: TypeAlias = Literal["view", "submit", "manage"]
"""The rights of an access key: `view` reads, `submit` also submits and cancels, `manage` also administers."""

ROLES: Sequence[Role] = get_args(Role)
"""The roles, the weakest first. Each role may do everything that the roles before it may do."""

ACCESS_KEY_LABEL = "access_key"
"""The label that has the name of the access key of a request. Budgets may match it; callers cannot set it."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_FINGERPRINT_CHARS = 16
_UNUSABLE_LABELS = ("project", "key", ACCESS_KEY_LABEL)


class NewAccessKey(NamedTuple):
    """An access key that is about to be issued.

    Attributes:
        name: its name, which no other key of the ledger has, not even a revoked one.
        project: the only project that it reaches; None: all projects.
        role: what it may do.
        labels: the labels that it fixes, besides the project.
        expires_at: the instant from which it is not valid any more, UTC; None: it does not expire.
    """

    name: str
    project: str | None
    role: Role
    labels: Mapping[str, str] = MappingProxyType({})
    expires_at: datetime | None = None


class AccessKey(NamedTuple):
    """An access key, without its secret text.

    Attributes:
        name: its name.
        project: the only project that it reaches; None: all projects.
        role: what it may do.
        labels: the labels that it fixes, besides the project.
        fingerprint: the first digits of the SHA-256 of its text, by which a leaked key can be recognised.
        created_at: the instant at which it was issued, UTC.
        expires_at: the instant from which it is not valid any more, UTC; None: it does not expire.
        revoked_at: the instant at which it was revoked, UTC; None: it was not.
        used_at: the instant of about its last use, UTC, at most a minute early; None: it was not used yet.
        actor: the person or program that issued it.
    """

    name: str
    project: str | None
    role: Role
    labels: Mapping[str, str]
    fingerprint: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    used_at: datetime | None
    actor: str

    def is_valid(self, now: datetime) -> bool:
        """Returns whether the key is neither revoked nor expired at an instant."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)

    def may(self, role: Role) -> bool:
        """Returns whether the key may do what a role may do."""
        return ROLES.index(self.role) >= ROLES.index(role)


class AccessKeys(Protocol):
    """Access keys. A part of `Ledger`.

    A PostgreSQL role that may only use guards can find and list keys and keep their use. It can neither issue
    nor revoke keys.
    """

    def issue_key(self, key: NewAccessKey, digest: str, author: Author) -> AccessKey:
        """Adds an access key.

        Args:
            key: the key; see `checked_key`.
            digest: the SHA-256 of its text; see `digest_of`.
            author: who issues the key, and why.

        Raises:
            LedgerError: another key has this name or this text.
        """

    def revoke_key(self, name: str, author: Author) -> AccessKey:
        """Revokes an access key for ever. A repeated call has no effect.

        Raises:
            LedgerError: no key has this name.
        """

    def access_keys(self) -> list[AccessKey]:
        """Returns every access key, the oldest first."""

    def access_key(self, digest: str) -> AccessKey | None:
        """Returns the access key whose text has this SHA-256, even if it is not valid any more."""

    def mark_key_used(self, name: str) -> None:
        """Keeps that an access key is in use now. Has no effect if no key has this name."""


def digest_of(text: str) -> str:
    """Returns the SHA-256 of the text of an access key, in hexadecimal digits."""
    return sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def fingerprint_of(digest: str) -> str:
    """Returns the part of a digest that is shown."""
    return digest[:_FINGERPRINT_CHARS]


def checked_key(key: NewAccessKey, now: datetime) -> NewAccessKey:
    """Returns an access key as a ledger stores it, with sorted labels.

    Args:
        key: the key.
        now: the instant at which it is issued, UTC.

    Raises:
        KlingPricingError: its name, project, role, labels or end cannot be used.
    """
    if key.project is not None:
        short_text("project", key.project)
    if not _NAME.fullmatch(short_text("the name of an access key", key.name)):
        raise KlingPricingError(
            f"the name of an access key must be 1 to 64 letters, digits, dots, hyphens, underscores or @, "
            f"and begin with a letter or a digit, got {shown(key.name)}"
        )
    if key.role not in ROLES:
        raise KlingPricingError(f"role must be one of {', '.join(ROLES)}, got {shown(key.role)}")
    for label in _UNUSABLE_LABELS:
        if label in key.labels:
            raise KlingPricingError(f"an access key cannot fix the label {label}; leave it out")
    checked_labels(key.project or "any", {**key.labels, ACCESS_KEY_LABEL: key.name})
    if key.expires_at is not None and key.expires_at <= now:
        raise KlingPricingError(
            f"the access key would expire at {key.expires_at.isoformat()}, which is not in the future; give a "
            "later instant"
        )
    return key._replace(labels=dict(sorted(key.labels.items())))


def key_value(key: NewAccessKey, digest: str) -> dict[str, Any]:
    """Returns the value of an `issue_key` action. PostgreSQL computes the same value in `issue_key`."""
    return {
        "project": key.project,
        "role": key.role,
        "labels": dict(key.labels),
        "expires_at": key.expires_at and key.expires_at.isoformat(timespec="microseconds"),
        "fingerprint": fingerprint_of(digest),
    }


def unknown_key(name: str, known: Sequence[str]) -> LedgerError:
    """Returns the error for a name that no access key has."""
    remedy = did_you_mean(name, known) if known else "the ledger has no access keys"
    return LedgerError(f"unknown access key {shown(name)}; {remedy}; `kling-pricing key list` lists the keys")


def name_taken(name: str) -> LedgerError:
    """Returns the error for a new access key whose name another key has or had."""
    return LedgerError(
        f"an access key with the name {shown(name)} exists or existed in this ledger; choose another name"
    )


FACT = """
SELECT name, digest, project, role, {labels_text} AS labels, {key_created_at} AS created_at,
  {key_expires_at} AS expires_at, {key_revoked_at} AS revoked_at, actor
FROM access_key ORDER BY name
"""
"""The query for the access keys, for `verify`."""


def key_problems(rows: Iterable[Any], actions: Iterable[Any]) -> Iterator[str]:
    """Compares the access keys with the administrative actions that issued and revoked them."""
    issued: dict[str, tuple[Any, ...]] = {}
    revoked: dict[str, str] = {}
    for action in actions:
        if action["action"] == "issue_key":
            issued[action["subject"]] = (read_value(action["new"]), action["at"], action["actor"])
        elif action["action"] == "revoke_key":
            revoked.setdefault(action["subject"], action["at"])
    kept: dict[str, tuple[Any, ...]] = {}
    for row in rows:
        value = {
            "project": row["project"],
            "role": row["role"],
            "labels": read_value(row["labels"]),
            "expires_at": row["expires_at"],
            "fingerprint": fingerprint_of(row["digest"]),
        }
        kept[row["name"]] = (value, row["created_at"], row["actor"])
        if row["revoked_at"] != revoked.get(row["name"]):
            yield (
                f"access key {row['name']}: it is {_revoked(row['revoked_at'])}, but the administrative "
                f"actions say that it is {_revoked(revoked.get(row['name']))}"
            )
    for name in sorted(kept.keys() | issued.keys()):
        if kept.get(name) != issued.get(name):
            yield f"access key {name}: it differs from the administrative action that issued it"


def _revoked(at: str | None) -> str:
    return "not revoked" if at is None else f"revoked at {at}"
