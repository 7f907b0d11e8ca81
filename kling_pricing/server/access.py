"""Who calls: the access key of a request, and what it reaches."""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from typing import NamedTuple
from urllib.parse import unquote

from kling_pricing.display import shown
from kling_pricing.errors import AccessError, KlingPricingError, LedgerUnavailableError
from kling_pricing.ledger import Ledger
from kling_pricing.ledger.access_keys import (
    ACCESS_KEY_LABEL,
    ROLES,
    AccessKey,
    Role,
    digest_of,
    fingerprint_of,
)

LABELS_HEADER = "x-kling-pricing-labels"
"""The header with the labels of a request that its access key leaves open: `user=li, shot=042`."""

KEY_HEADERS = ("authorization", "x-api-key")
"""The headers in which callers send their access key."""

UNAUTHORIZED, FORBIDDEN = 401, 403
_SCHEMES = {"bearer", "key", "token"}
_USE_INTERVAL_S = 60
_MAX_KEY_CHARS = 200


class Caller(NamedTuple):
    """The caller of one request.

    Attributes:
        name: the name of its access key, which the ledger keeps as the actor.
        role: what it may do.
        project: the only project that it reaches; None: all projects.
        labels: the labels that every request of it has, besides the project.
    """

    name: str
    role: Role
    project: str | None
    labels: Mapping[str, str]

    def may(self, role: Role) -> bool:
        """Returns whether the caller may do what a role may do."""
        return ROLES.index(self.role) >= ROLES.index(role)

    def reaches(self, project: str) -> bool:
        """Returns whether the caller may see and change what belongs to a project."""
        return self.project in {None, project}

    def require(self, role: Role, *, all_projects: bool = False) -> None:
        """Does nothing if the caller may do what a role may do.

        Args:
            role: the role.
            all_projects: whether the request concerns all projects.

        Raises:
            AccessError: its role is too small, or it reaches one project only (403).
        """
        if not self.may(role):
            raise AccessError(
                f"the access key {self.name} has the role {self.role}, but this needs the role {role}; ask an "
                "administrator for another key",
                status=FORBIDDEN,
            )
        if all_projects and self.project is not None:
            raise AccessError(
                f"the access key {self.name} reaches the project {self.project} only, but this concerns all "
                "projects; ask an administrator for a key with --all-projects",
                status=FORBIDDEN,
            )

    def identity(self, header: str | None) -> tuple[str, dict[str, str]]:
        """Returns the project and the other labels of a request.

        Args:
            header: the value of the header `x-kling-pricing-labels`; None: the request has none.

        Raises:
            KlingPricingError: the header cannot be read, or no project is known.
            AccessError: the header gives another value than the access key for a label (403).
        """
        given = _labels(header or "")
        fixed = dict(self.labels) | ({} if self.project is None else {"project": self.project})
        for label, value in given.items():
            if label in {"key", ACCESS_KEY_LABEL}:
                raise KlingPricingError(f"{LABELS_HEADER}: the label {label} cannot be set; leave it out")
            if fixed.get(label, value) != value:
                raise AccessError(
                    f"{LABELS_HEADER}: the access key {self.name} fixes the label {label}; leave the label out",
                    status=FORBIDDEN,
                )
        labels = given | fixed
        project = labels.pop("project", None)
        if project is None:
            raise KlingPricingError(
                f"the access key {self.name} is for all projects, so the request must name its project; send "
                f"the header {LABELS_HEADER}: project=NAME"
            )
        return project, labels | {ACCESS_KEY_LABEL: self.name}


class Access:
    """Recognises callers by their access keys. Every call asks the ledger, so a revoked key ends at once.

    Args:
        ledger: the ledger with the keys.
        clock: returns the current instant, in UTC.
    """

    def __init__(self, ledger: Ledger, clock: Callable[[], datetime]) -> None:
        self._ledger = ledger
        self._clock = clock
        self._used: dict[str, int] = {}

    def caller(self, headers: Mapping[str, str]) -> Caller:
        """Returns the caller of a request. May take as long as a query of the ledger.

        Args:
            headers: the headers of the request, with lower-case names.

        Raises:
            AccessError: the request has no valid access key (401).
            LedgerUnavailableError: the ledger cannot be read.
        """
        text = key_in(headers)
        digest = digest_of(text)
        key = self._ledger.access_key(digest)
        if key is None or not hmac.compare_digest(key.fingerprint, fingerprint_of(digest)):
            raise AccessError("the access key is unknown; check that it is complete", status=UNAUTHORIZED)
        return self._valid(key)

    def named(self, name: str) -> Caller:
        """Returns the caller with the access key of a name, whom somebody else has recognised.

        Raises:
            AccessError: no valid access key has this name (403).
            LedgerUnavailableError: the ledger cannot be read.
        """
        key = next((key for key in self._ledger.access_keys() if key.name == name), None)
        if key is None:
            raise AccessError(
                f"no access key has the name {shown(name)}; ask an administrator to issue one", status=FORBIDDEN
            )
        return self._valid(key, FORBIDDEN)

    def _valid(self, key: AccessKey, status: int = UNAUTHORIZED) -> Caller:
        """Returns the caller with an access key.

        Raises:
            AccessError: the key is not valid any more.
        """
        if not key.is_valid(self._clock()):
            verb = "was revoked" if key.revoked_at else "has expired"
            raise AccessError(
                f"the access key {key.name} {verb}; ask an administrator for another one", status=status
            )
        self._mark_used(key)
        return caller_with(key)

    def _mark_used(self, key: AccessKey) -> None:
        """Keeps the use of a key, at most once a minute."""
        now = time.monotonic_ns() // 10**9
        if now - self._used.get(key.name, -_USE_INTERVAL_S) >= _USE_INTERVAL_S:
            self._used[key.name] = now
            with suppress(LedgerUnavailableError):  # the request needs only to read the ledger
                self._ledger.mark_key_used(key.name)


def caller_with(key: AccessKey) -> Caller:
    """Returns the caller with a valid access key."""
    return Caller(key.name, key.role, key.project, key.labels)


def key_in(headers: Mapping[str, str]) -> str:
    """Returns the access key in the headers of a request.

    Raises:
        AccessError: there is none, or there are two (401).
    """
    found = set()
    for name in KEY_HEADERS:
        scheme, _, rest = headers.get(name, "").strip().partition(" ")
        text = rest.strip() if scheme.lower() in _SCHEMES else scheme if not rest else ""
        if text:
            found.add(text)
    if len(found) > 1:
        raise AccessError("the request has two different access keys; send one", status=UNAUTHORIZED)
    for text in found:
        if len(text) <= _MAX_KEY_CHARS:
            return text
    raise AccessError(
        "the request has no access key; send the header `Authorization: Bearer KEY`", status=UNAUTHORIZED
    )


def _labels(header: str) -> dict[str, str]:
    """Reads `user=li, shot=042`; values may be percent-encoded UTF-8."""
    labels: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in header.split(","))):
        name, equals, value = (unquote(text.strip()) for text in part.partition("="))
        if not (name and equals and value) or name in labels:
            raise KlingPricingError(
                f"{LABELS_HEADER}: write each label once, as LABEL=VALUE, separated by commas, such as "
                "user=li, shot=042"
            )
        labels[name] = value
    return labels
