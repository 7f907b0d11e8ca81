"""Issues, lists and revokes the access keys of a ledger, for its administrator."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from contextlib import closing
from datetime import datetime
from typing import NamedTuple

from kling_pricing.ledger import Ledger, connect
from kling_pricing.ledger.access_keys import AccessKey, NewAccessKey, Role, checked_key, digest_of
from kling_pricing.ledger.actions import Author, author
from kling_pricing.windows import in_utc, utc_clock

KEY_PREFIX = "kp_"
"""The beginning of the text of every access key, by which scanners for leaked secrets find it."""

_UNUSABLE = re.compile(r"[^A-Za-z0-9.@_-]+")
"""The characters of a project that the name of a key cannot have."""

_MAX_BEGINNING_CHARS = 40
_SECRET_BYTES = 32
_SUFFIX_BYTES = 3


class IssuedKey(NamedTuple):
    """A new access key.

    Attributes:
        text: the key itself, which callers send. It is stored nowhere and cannot be shown again.
        key: its description.
    """

    text: str
    key: AccessKey


def issue_key(
    ledger: str,
    *,
    project: str | None,
    role: Role = "submit",
    labels: Mapping[str, str] | None = None,
    name: str | None = None,
    expires_at: datetime | None = None,
    actor: str | None = None,
    reason: str | None = None,
) -> IssuedKey:
    """Issues an access key for callers of the server.

    Args:
        ledger: the ledger's URL.
        project: the only project that the key reaches; None: all projects.
        role: `view` reads, `submit` also submits and cancels jobs, `manage` also administers.
        labels: labels that every request with the key has.
        name: the name of the key, which the ledger keeps as the actor; None: the project and some digits.
        expires_at: the instant from which the key is not valid, with a time zone; None: it does not expire.
        actor: the person or program that issues the key; by default, the system's user.
        reason: the reason.

    Raises:
        KlingPricingError: the name, project, role, labels or end cannot be used.
        LedgerError: a key has this name, the ledger cannot be used, or this role may not issue keys.
    """
    key = new_key(project, role, labels, name, expires_at)
    clock = utc_clock(None)
    with closing(connect(ledger, clock=clock)) as store:
        return issue_key_in(store, key, clock(), author(actor, reason))


def new_key(
    project: str | None,
    role: Role,
    labels: Mapping[str, str] | None,
    name: str | None,
    expires_at: datetime | None,
) -> NewAccessKey:
    """Returns the description of a key that is about to be issued; see `issue_key` for the arguments."""
    beginning = "all" if project is None else _UNUSABLE.sub("-", project)[:_MAX_BEGINNING_CHARS].strip(".-_@")
    chosen = f"{beginning or 'project'}-{secrets.token_hex(_SUFFIX_BYTES)}" if name is None else name
    ended = None if expires_at is None else in_utc(expires_at)
    return NewAccessKey(chosen, project, role, labels or {}, ended)


def issue_key_in(store: Ledger, key: NewAccessKey, now: datetime, author: Author) -> IssuedKey:
    """Issues an access key in an open ledger; see `issue_key`."""
    text = KEY_PREFIX + secrets.token_urlsafe(_SECRET_BYTES)
    return IssuedKey(text, store.issue_key(checked_key(key, now), digest_of(text), author))


def revoke_key(ledger: str, name: str, *, actor: str | None = None, reason: str | None = None) -> AccessKey:
    """Revokes an access key for ever; servers refuse it from their next request on.

    Args:
        ledger: the ledger's URL.
        name: the name of the key.
        actor: the person or program that revokes it; by default, the system's user.
        reason: the reason.

    Raises:
        LedgerError: no key has this name, the ledger cannot be used, or this role may not revoke keys.
    """
    with closing(connect(ledger, clock=utc_clock(None))) as store:
        return store.revoke_key(name, author(actor, reason))


def access_keys(ledger: str) -> list[AccessKey]:
    """Returns every access key of a ledger, the oldest first, also those that are not valid any more.

    Raises:
        LedgerError: the ledger cannot be used.
    """
    with closing(connect(ledger, clock=utc_clock(None))) as store:
        return store.access_keys()
