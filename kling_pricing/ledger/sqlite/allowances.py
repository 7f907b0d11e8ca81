"""Grants, uses and gives back allowances, inside a transaction."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any

from kling_pricing.ledger import errors
from kling_pricing.ledger.actions import Author
from kling_pricing.ledger.granting import (
    Allowance,
    AllowanceRequest,
    Cover,
    Coverage,
    Decline,
    Grant,
    Need,
    Usable,
    cover,
    grant_dict,
    request_dict,
    still_covered,
)
from kling_pricing.ledger.model import PricedVariant, ReservationRequest
from kling_pricing.ledger.redaction import NO_REASON
from kling_pricing.ledger.sqlite import action_rows
from kling_pricing.ledger.sqlite.balances import BucketBalance
from kling_pricing.ledger.sqlite.codec import decimal, instant, text, written
from kling_pricing.money import from_nanos, nanos_up

_COLUMNS = (
    "id, project, amount, held, spent, currency, budgets, key, until, actor, reason, request, created_at,"
    " revoked_at"
)
_USABLE = """
SELECT id, amount - held - spent, currency, budgets, key IS NOT NULL FROM allowance
WHERE project = ?1 AND (key IS NULL OR key = ?2) AND until > ?3 AND revoked_at IS NULL
ORDER BY key IS NULL, until, created_at, id
"""
_REQUESTS = """
SELECT asked.id, asked.project, asked.amount, asked.currency, asked.budgets, asked.key, asked.actor,
  asked.reason, asked.created_at, allowance.id, declined.actor, declined.reason, declined.at
FROM allowance_request AS asked LEFT JOIN allowance ON allowance.request = asked.id
LEFT JOIN administration AS declined ON declined.action = 'decline' AND declined.subject = asked.id
"""
_ENTER = (
    "INSERT INTO journal (at, kind, reservation, allowance, held_delta, spent_delta, detail)"
    " VALUES (?, ?, ?, ?, ?, ?, ?)"
)


def allow(db: sqlite3.Connection, now: datetime, grant: Grant, author: Author) -> Allowance:
    """See `Interventions.allow`."""
    if grant.until <= now:
        raise errors.ended_before_it_began(grant.until)
    if grant.request_id is not None:
        _require_open(db, grant.request_id)
    allowance = os.urandom(6).hex()
    amount = nanos_up(grant.amount)
    db.execute(
        f"INSERT INTO allowance ({_COLUMNS}) VALUES (?, ?, ?, 0, 0, ?, ?, ?, ?, ?, ?, ?, ?, NULL)",  # noqa: S608
        (
            *(allowance, grant.project, amount, grant.currency, _names_text(grant.budgets), grant.key),
            *(written(grant.until), author.actor, author.reason or NO_REASON, grant.request_id, written(now)),
        ),
    )
    _enter(db, now, "allow", None, allowance, 0, 0, grant.project)
    action_rows.administer(db, now, author, "allow", allowance, None, grant_dict(grant))
    return _get(db, allowance)


def revoke(db: sqlite3.Connection, now: datetime, allowance: str, author: Author) -> Allowance:
    """See `Interventions.revoke`."""
    before = _get(db, allowance)
    if before.revoked_at is None:
        db.execute("UPDATE allowance SET revoked_at = ? WHERE id = ?", (written(now), before.id))
        _enter(db, now, "revoke", None, before.id, 0, 0, before.project)
        action_rows.administer(db, now, author, "revoke", before.id, {"revoked": False}, {"revoked": True})
    return _get(db, before.id)


def ask(db: sqlite3.Connection, now: datetime, wanted: AllowanceRequest, author: Author) -> AllowanceRequest:
    """See `Interventions.ask`."""
    filed = wanted._replace(
        id=os.urandom(6).hex(), actor=author.actor, reason=author.reason or NO_REASON, created_at=now
    )
    db.execute(
        "INSERT INTO allowance_request (id, project, amount, currency, budgets, key, actor, reason, created_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            *(filed.id, filed.project, nanos_up(filed.amount), filed.currency, _names_text(filed.budgets)),
            *(filed.key, filed.actor, filed.reason, written(now)),
        ),
    )
    action_rows.administer(db, now, author, "ask", filed.id, None, request_dict(filed))
    return filed


def decline(db: sqlite3.Connection, now: datetime, request: str, author: Author) -> AllowanceRequest:
    """See `Interventions.decline`."""
    asked = _request(db, request)
    if asked.allowance_id is not None:
        raise errors.granted_not_declined(request, asked.allowance_id)
    if asked.declined is None:
        by = author._replace(reason=author.reason or NO_REASON)
        action_rows.administer(db, now, by, "decline", request, {"declined": False}, {"declined": True})
    return _request(db, request)


def allowances(db: sqlite3.Connection) -> list[Allowance]:
    """See `Interventions.allowances`."""
    rows = db.execute(f"SELECT {_COLUMNS} FROM allowance ORDER BY created_at, rowid")  # noqa: S608
    return [_allowance(row) for row in rows]


def requests(db: sqlite3.Connection) -> list[AllowanceRequest]:
    """See `Interventions.allowance_requests`."""
    rows = db.execute(f"{_REQUESTS} ORDER BY asked.created_at, asked.rowid")
    return [_asked(row) for row in rows]


class Allowing:
    """The allowances that may cover one request. Reads them only if the request does not fit."""

    def __init__(
        self,
        db: sqlite3.Connection,
        order: ReservationRequest,
        now: datetime,
        assumed: Mapping[str, int] | None = None,
    ) -> None:
        """Prepares the allowances.

        Args:
            db: the connection.
            order: the request.
            now: the instant.
            assumed: for a decision that reserves nothing, the nanos to count as used in addition, by allowance.
                Expired reservations, which `reserve` would release first, then do not count.
        """
        self._db = db
        self._order = order
        self._now = now
        self._assumed = assumed
        self._usable: list[Usable] | None = None

    def cover(self, rooms: Sequence[BucketBalance], candidate: PricedVariant) -> Coverage:
        """Covers the shortfalls of a candidate in the buckets that do not have room for it."""
        needs = [
            Need(
                *(room.place, room.claim.budget, room.claim.currency, candidate.amounts[room.place]),
                *(room.available, room.claim.max_request),
            )
            for room in rooms
        ]
        if self._usable is None:
            values = (self._order.project, self._order.key, written(self._now))
            freed = self._freed()
            self._usable = [
                Usable(name, left + freed.get(name, 0), currency, _names(budgets), bool(is_for_key))
                for name, left, currency, budgets, is_for_key in self._db.execute(_USABLE, values)
            ]
        return cover(needs, self._usable, self._rates() if self._usable else {})

    def _freed(self) -> Mapping[str, int]:
        """Returns the nanos by which more is left of each allowance than its row says; only for a decision."""
        if self._assumed is None:
            return {}
        late = self._db.execute(
            "SELECT allowance, sum(used.held) FROM reservation_allowance AS used"
            " JOIN reservation ON reservation.id = used.reservation"
            " WHERE state = 'reserved' AND deadline <= ? GROUP BY allowance",
            (written(self._now),),
        )
        freed = dict(late.fetchall())
        for allowance, nanos in self._assumed.items():
            freed[allowance] = freed.get(allowance, 0) - nanos
        return freed

    def _rates(self) -> Mapping[tuple[str, str], Decimal]:
        """Returns the accounting rates in force, by the currency of an amount and that of a budget."""
        query = "SELECT document FROM budget_revision ORDER BY revision DESC LIMIT 1"
        return _rates_in(self._db.execute(query).fetchone()[0])


@lru_cache(maxsize=8)
def _rates_in(document: str) -> Mapping[tuple[str, str], Decimal]:
    entries = json.loads(document)["accounting_rates"]
    return {(entry["quote"], entry["budget"]): Decimal(entry["rate"]) for entry in entries}


def use(
    db: sqlite3.Connection,
    now: datetime,
    reservation: str,
    covers: Sequence[Cover],
    buckets: Mapping[int, int],
) -> None:
    """Uses allowances for a new reservation. `buckets` has the bucket of each claim by the claim's index."""
    for allowance, place, above, rate, held in covers:
        bucket = buckets[place]
        db.execute(
            "INSERT INTO reservation_allowance (reservation, allowance, bucket, above, rate, held)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            (reservation, allowance, bucket, above, text(rate), held),
        )
        at_rate = "" if rate is None else f" at {text(rate)}"
        detail = f"above {above} of bucket {bucket}{at_rate}"
        _enter(db, now, "cover", reservation, allowance, held, 0, detail)


def give_back(db: sqlite3.Connection, now: datetime, reservation: str, event: str) -> None:
    """Gives back what a reservation holds of allowances, because it is released."""
    rows = db.execute(
        "SELECT allowance, held FROM reservation_allowance WHERE reservation = ? ORDER BY allowance",
        (reservation,),
    ).fetchall()
    for allowance, held in rows:
        _enter(db, now, "cover", reservation, allowance, -held, 0, event)


def give_back_late(db: sqlite3.Connection, now: datetime) -> None:
    """Gives back what expired reservations hold of allowances, before they are released."""
    rows = db.execute(
        "SELECT DISTINCT reservation FROM reservation_allowance WHERE reservation IN"
        " (SELECT id FROM reservation WHERE state = 'reserved' AND deadline <= ?)",
        (written(now),),
    ).fetchall()
    for (reservation,) in rows:
        give_back(db, now, reservation, "expire")


def spend(db: sqlite3.Connection, now: datetime, reservation: str, *, was_open: bool) -> None:
    """Counts the part of a settled amount that allowances cover, in place of the part held or spent before."""
    rows = db.execute(
        "SELECT used.allowance, used.held, used.spent, used.above, used.rate, line.spent"
        " FROM reservation_allowance AS used JOIN reservation_line AS line USING (reservation, bucket)"
        " WHERE reservation = ? ORDER BY used.allowance",
        (reservation,),
    ).fetchall()
    for allowance, held, spent, above, rate, counted in rows:
        covered = still_covered(held, above, decimal(rate), counted)
        db.execute(
            "UPDATE reservation_allowance SET spent = ? WHERE reservation = ? AND allowance = ?",
            (covered, reservation, allowance),
        )
        _enter(db, now, "cover", reservation, allowance, -held if was_open else 0, covered - spent, "settle")


def _enter(
    db: sqlite3.Connection,
    now: datetime,
    kind: str,
    reservation: str | None,
    allowance: str,
    held: int,
    spent: int,
    detail: str,
) -> None:
    """Changes the balance of an allowance, and writes the journal entry of the change."""
    if held or spent:
        db.execute(
            "UPDATE allowance SET held = held + ?, spent = spent + ? WHERE id = ?", (held, spent, allowance)
        )
    db.execute(_ENTER, (written(now), kind, reservation, allowance, held, spent, detail))


def _get(db: sqlite3.Connection, allowance: str) -> Allowance:
    row = db.execute(f"SELECT {_COLUMNS} FROM allowance WHERE id = ?", (allowance,)).fetchone()  # noqa: S608
    if row is None:
        known = [
            name for (name,) in db.execute("SELECT id FROM allowance WHERE revoked_at IS NULL ORDER BY rowid")
        ]
        raise errors.unknown_allowance(allowance, known)
    return _allowance(row)


def _require_open(db: sqlite3.Connection, request: str) -> None:
    """Raises an error for a request that was never filed, or that was granted or declined already."""
    asked = _request(db, request)
    if asked.allowance_id is not None:
        raise errors.granted_already(request, asked.allowance_id)
    if asked.declined is not None:
        raise errors.declined_already(request, asked.declined.actor, asked.declined.reason)


def _request(db: sqlite3.Connection, request: str) -> AllowanceRequest:
    row = db.execute(f"{_REQUESTS} WHERE asked.id = ?", (request,)).fetchone()
    if row is None:
        raise errors.unknown_request(request)
    return _asked(row)


def _asked(row: Sequence[Any]) -> AllowanceRequest:
    name, project, amount, currency, budgets, key, actor, reason, made, allowance, *declined = row
    decliner, why, declined_at = declined
    return AllowanceRequest(
        *(name, project, from_nanos(amount), currency, _names(budgets), key, actor, reason, instant(made)),
        allowance_id=allowance,
        declined=None if decliner is None else Decline(decliner, why, instant(declined_at)),
    )


def _allowance(row: Sequence[Any]) -> Allowance:
    name, project, amount, held, spent, currency, budgets, key, until, actor, reason, request, made, ended = row
    return Allowance(
        *(name, project, from_nanos(amount), from_nanos(held), from_nanos(spent), currency, _names(budgets)),
        *(key, instant(until), actor, reason, request, instant(made), ended and instant(ended)),
    )


def _names_text(names: Sequence[str]) -> str:
    return json.dumps(list(names), separators=(",", ":"))


def _names(written_names: str) -> tuple[str, ...]:
    return tuple(json.loads(written_names))
