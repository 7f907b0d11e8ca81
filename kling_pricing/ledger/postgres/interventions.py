"""The verbs of a ledger in PostgreSQL for freezes and allowances."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import uuid4

from kling_pricing.ledger.actions import Author
from kling_pricing.ledger.freezing import Freeze, budget_of
from kling_pricing.ledger.granting import Allowance, AllowanceRequest, Decline, Grant
from kling_pricing.ledger.journal import WaivedRefusals
from kling_pricing.ledger.postgres.locks import locks_explained
from kling_pricing.ledger.postgres.server import Server
from kling_pricing.ledger.redaction import NO_REASON
from kling_pricing.money import from_nanos, nanos_up


class PostgresInterventions:
    """See `Interventions`."""

    _server: Server
    _call: Callable[..., Any]

    def freeze(self, author: Author, budgets: Sequence[str] | None = None) -> tuple[Freeze, ...]:
        """See `Interventions.freeze`."""
        with locks_explained(self._server.name):
            rows = self._call("freeze_budgets", _array(budgets), author.actor, author.reason or NO_REASON)
        return tuple(map(freeze_of, rows))

    def thaw(self, author: Author, budgets: Sequence[str] | None = None) -> tuple[Freeze, ...]:
        """See `Interventions.thaw`."""
        rows = self._call("thaw_budgets", _array(budgets), author.actor, author.reason or NO_REASON)
        return tuple(map(freeze_of, rows))

    def freezes(self) -> list[Freeze]:
        """See `Interventions.freezes`."""
        return [freeze_of(row) for row in self._server.rows("freezes")]

    def allow(self, grant: Grant, author: Author) -> Allowance:
        """See `Interventions.allow`."""
        row = self._call(
            "allow", _new_id(), grant.project, nanos_up(grant.amount), grant.currency, list(grant.budgets),
            grant.key, grant.until, grant.request_id, author.actor, author.reason or NO_REASON,
        )  # fmt: skip
        return _allowance(row)

    def revoke(self, allowance_id: str, author: Author) -> Allowance:
        """See `Interventions.revoke`."""
        return _allowance(self._call("revoke", allowance_id, author.actor, author.reason or NO_REASON))

    def ask(self, wanted: AllowanceRequest, author: Author) -> AllowanceRequest:
        """See `Interventions.ask`."""
        row = self._call(
            "ask", _new_id(), wanted.project, nanos_up(wanted.amount), wanted.currency, list(wanted.budgets),
            wanted.key, author.actor, author.reason or NO_REASON,
        )  # fmt: skip
        return _request(row)

    def decline(self, request: str, author: Author) -> AllowanceRequest:
        """See `Interventions.decline`."""
        return _request(self._call("decline", request, author.actor, author.reason or NO_REASON))

    def allowances(self) -> list[Allowance]:
        """See `Interventions.allowances`."""
        return [_allowance(row) for row in self._server.rows("allowances")]

    def allowance_requests(self) -> list[AllowanceRequest]:
        """See `Interventions.allowance_requests`."""
        return [_request(row) for row in self._server.rows("allowance_requests")]

    def waived(self, since: datetime, until: datetime) -> list[WaivedRefusals]:
        """See `Interventions.waived`."""
        return [_waived(row) for row in self._server.rows("waived", since, until)]


def freeze_of(row: Mapping[str, Any]) -> Freeze:
    """Returns the freeze in a row from the server."""
    return Freeze(budget_of(row["scope"]), row["actor"], row["reason"], _instant(row["frozen_at"]))


def _allowance(row: Mapping[str, Any]) -> Allowance:
    return Allowance(
        id=row["id"],
        project=row["project"],
        amount=from_nanos(row["amount"]),
        held=from_nanos(row["held"]),
        spent=from_nanos(row["spent"]),
        currency=row["currency"],
        budgets=tuple(row["budgets"]),
        key=row["key"],
        until=_instant(row["until"]),
        actor=row["actor"],
        reason=row["reason"],
        request_id=row["request"],
        created_at=_instant(row["created_at"]),
        revoked_at=row["revoked_at"] and _instant(row["revoked_at"]),
    )


def _request(row: Mapping[str, Any]) -> AllowanceRequest:
    declined = row["declined"]
    return AllowanceRequest(
        id=row["id"],
        project=row["project"],
        amount=from_nanos(row["amount"]),
        currency=row["currency"],
        budgets=tuple(row["budgets"]),
        key=row["key"],
        actor=row["actor"],
        reason=row["reason"],
        created_at=_instant(row["created_at"]),
        allowance_id=row["allowance"],
        declined=declined and Decline(declined["actor"], declined["reason"], _instant(declined["at"])),
    )


def _waived(row: Mapping[str, Any]) -> WaivedRefusals:
    return WaivedRefusals(
        budget=row["budget"],
        labels=json.loads(row["labels"]),
        project=row["project"],
        requests=row["requests"],
        amount=from_nanos(int(row["amount"])),
        currency=row["currency"],
        window_start=_instant(row["window_start"]),
        window_end=_instant(row["window_end"]),
    )


def _array(budgets: Sequence[str] | None) -> list[str] | None:
    return None if budgets is None else list(budgets)


def _new_id() -> str:
    return uuid4().hex[:12]


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text)
