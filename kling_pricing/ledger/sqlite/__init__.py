"""The ledger in a SQLite file: every verb is one transaction."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

from kling_pricing.budgets import BudgetsFile
from kling_pricing.errors import LedgerError, ReservationStateError
from kling_pricing.ledger import refusals
from kling_pricing.ledger.records import (
    DOUBTED,
    Alert,
    Basis,
    Bucket,
    BucketHistory,
    Candidate,
    Change,
    Claim,
    Entry,
    Mistimed,
    Observation,
    Order,
    Outdated,
    Ref,
    Refused,
    Reservation,
    Reserved,
    Revision,
)
from kling_pricing.ledger.reserving import UNSENT
from kling_pricing.ledger.sqlite import balances, reading, reservations, revisions, sent, transitions
from kling_pricing.ledger.sqlite.balances import Move, grown
from kling_pricing.ledger.sqlite.file import SQLiteFile
from kling_pricing.ledger.sqlite.values import decimal, instant, text, written
from kling_pricing.money import from_nanos, plain


def _new_id() -> str:
    return os.urandom(16).hex()


class SQLiteLedger:
    """A `Ledger` in one file, for every thread and process of a machine."""

    def __init__(self, path: Path, clock: Callable[[], datetime]) -> None:
        self._file = SQLiteFile(path)
        self._clock = clock

    @property
    def at_once(self) -> int:
        """See `Ledger.at_once`: one writes, while another makes its order ready."""
        return 2

    def close(self) -> None:
        """See `Ledger.close`."""
        self._file.close()

    # budgets

    def install(self, budgets: BudgetsFile) -> Revision:
        """See `Ledger.install`."""
        with self._file.writing() as db:
            return revisions.current(db) or revisions.add(db, budgets, self._clock())

    def installed(self) -> Revision | None:
        """See `Ledger.installed`."""
        with self._file.reading() as db:
            return revisions.current(db)

    def apply(self, budgets: BudgetsFile) -> tuple[Alert, ...]:
        """See `Ledger.apply`."""
        with self._file.writing() as db:
            return revisions.replace(db, budgets, self._clock())

    # verbs

    def reserve(
        self, order: Order, candidates: Sequence[Candidate], *, expires_after: timedelta
    ) -> Reserved | Refused | Outdated | Mistimed:
        """See `Ledger.reserve`."""
        with self._file.writing() as db:
            now = self._clock()
            look = reservations.look(db, order, now)
            if look.budgets != order.budgets:
                return Outdated(revisions.in_force(db))
            if look.is_late:
                transitions.expire(db, now)
                look = reservations.look(db, order, now)
            before = reservations.last_attempt(db, order, now) if look.is_known else None
            if before is not None and before.state == UNSENT:
                return Reserved(before, replayed=True, alerts=())
            if not order.holds.start <= now < order.holds.end:
                return Mistimed(now)
            rooms = look.rooms
            if not rooms and not order.may_be_unmatched:
                return Refused(())
            chosen = balances.choose(rooms, candidates)
            if chosen is None:
                return Refused(balances.shortfalls(rooms, candidates[0]))
            reservation = _new_id()
            attempt = 1 if before is None else before.attempt + 1
            made = reservations.insert(
                db, order, chosen, reservation, order.key, attempt, now, now + expires_after
            )
            moves = [Move(balances.opened(db, room), chosen.amounts[room.place], 0) for room in rooms]
            for move, room in zip(moves, rooms, strict=True):
                db.execute(
                    "INSERT INTO reservation_line (reservation, bucket, held, rate) VALUES (?, ?, ?, ?)",
                    (reservation, move.bucket, move.held, text(room.claim.rate)),
                )
            balances.enter(db, now, "reserve", reservation, moves, None)
            watched = grown(move for move, room in zip(moves, rooms, strict=True) if room.has_alerts)
            alerts = balances.threshold_alerts(db, watched, reservation, now)
            return Reserved(made, replayed=False, alerts=alerts)

    def dispatch(self, reservation_id: str, *, doubtful_after: timedelta) -> None:
        """See `Ledger.dispatch`."""
        with self._file.writing() as db:
            now = self._clock()
            if transitions.dispatch(db, reservation_id, doubtful_after, now):
                return
            found = reservations.get(db, reservation_id, now)
            if found.state == UNSENT:  # too late
                transitions.expire(db, now)
                found = reservations.get(db, reservation_id, now)
        raise refusals.not_dispatched(found)  # after it is kept that it has expired

    def bind(self, ref: Ref, task_id: str) -> Change:
        """See `Ledger.bind`."""
        with self._file.writing() as db:
            return transitions.bind(db, ref, task_id, self._clock())

    def doubt(self, ref: Ref, reason: str) -> Reservation:
        """See `Ledger.doubt`."""
        with self._file.writing() as db:
            now = self._clock()
            found = reservations.get(db, ref, now)
            if found.state == UNSENT:
                raise refusals.not_doubtful(found)
            if found.state != "dispatching" or (found.in_doubt and found.reason == reason):
                return found
            db.execute("UPDATE reservation SET doubted = 1, reason = ? WHERE id = ?", (reason, found.id))
            balances.enter(db, now, "doubt", found.id, (), reason)
            return reservations.get(db, found.id, now)

    def release(self, ref: Ref, reason: str, *, states: Iterable[str]) -> Reservation:
        """See `Ledger.release`."""
        with self._file.writing() as db:
            now = self._clock()
            found = reservations.get(db, ref, now)
            if found.state == "released":
                return found
            if found.state not in states:
                raise refusals.not_released(found)
            if found.state == "dispatching" and DOUBTED not in states and reservations.doubted(db, found.id):
                raise refusals.doubted(found)
            return transitions.release(db, found, reason, "release", now)

    def settle(self, ref: Ref, amount: Decimal | None, basis: Basis) -> Change:
        """See `Ledger.settle`."""
        with self._file.writing() as db:
            now = self._clock()
            if isinstance(ref, str):
                settled = transitions.settle_open(db, ref, amount, basis, now)
                if settled is not None:
                    return settled
            found = reservations.get(db, ref, now)
            billed = found.expected if amount is None else amount
            if transitions.disagrees(found, billed, basis):
                raise refusals.settled_otherwise(found, billed)
            return transitions.settle(db, found, billed, basis, now)

    def observe(self, seen: Observation, ref: Ref | None) -> Change | None:
        """See `Ledger.observe`."""
        with self._file.writing() as db:
            now = self._clock()
            added = db.execute(
                "INSERT OR IGNORE INTO observation"
                " (provider, task_id, state, amount, amount_unit, duration_s, model, seen_at)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    seen.provider,
                    seen.task_id,
                    seen.state,
                    text(seen.amount),
                    seen.amount_unit if seen.amount is not None else None,
                    text(seen.duration_s),
                    seen.model,
                    written(now),
                ),
            )
            task = (seen.provider, seen.task_id)
            found = reservations.find(db, task, now) if ref is None else reservations.get(db, ref, now)
            if found is None:
                return None
            problem: LedgerError
            if found.provider != seen.provider:
                problem = refusals.other_provider(found, seen.provider)
            elif found.task_id == seen.task_id:
                return transitions.take_up(db, found, seen, now) if added.rowcount else Change(found)
            else:
                try:
                    return transitions.bind(db, found.id, seen.task_id, now)
                except ReservationStateError as error:
                    problem = error
        raise problem  # after what was seen is kept: it may be billed

    def record(self, order: Order, spent: Candidate, task_id: str, at: datetime) -> Change | Outdated:
        """See `Ledger.record`."""
        with self._file.writing() as db:
            now = self._clock()
            if not revisions.is_in_force(db, order.budgets):
                return Outdated(revisions.in_force(db))
            found = reservations.find(db, (order.provider, task_id), now)
            if found is not None:
                if found.fingerprint == order.fingerprint and found.billed == from_nanos(spent.expected):
                    return Change(found)
                raise refusals.task_known(found)
            reservation = _new_id()
            rooms = balances.rooms(db, order.claims, at)
            taken = reservations.newest(db, order.project, order.key) is not None
            key = f"{order.key}:{reservation}" if taken else order.key  # a job may have been given the same one
            reservations.insert(db, order, spent, reservation, key, 1, at, at)
            db.execute(
                "UPDATE reservation SET state = 'settled', task_id = ?, billed = expected, basis = 'operator',"
                " dispatched_at = created_at, closed_at = ? WHERE id = ?",
                (task_id, written(now), reservation),
            )
            moves = [Move(balances.opened(db, room), 0, spent.amounts[room.place]) for room in rooms]
            db.executemany(
                "INSERT INTO reservation_line (reservation, bucket, held, spent, rate) VALUES (?, ?, 0, ?, ?)",
                [
                    (reservation, move.bucket, move.spent, text(room.claim.rate))
                    for move, room in zip(moves, rooms, strict=True)
                ],
            )
            balances.enter(db, now, "record", reservation, moves, None)
            alerts = balances.threshold_alerts(db, grown(moves), reservation, now)
            return Change(reservations.get(db, reservation, now), alerts)

    def open_bucket(self, claim: Claim, spent: int) -> tuple[Alert, ...]:
        """See `Ledger.open_bucket`."""
        with self._file.writing() as db:
            now = self._clock()
            rooms = balances.rooms(db, [claim], now)
            if not rooms:
                raise refusals.no_window(claim.budget)
            bucket = balances.opened(db, rooms[0])
            opened = db.execute("SELECT 1 FROM journal WHERE kind = 'opening' AND bucket = ?", (bucket,))
            if opened.fetchone():
                raise refusals.opened(claim.budget)
            moves = [Move(bucket, 0, spent)]
            balances.enter(db, now, "opening", None, moves, None)
            return balances.threshold_alerts(db, grown(moves), None, now)

    # reading

    def reservation(self, ref: Ref) -> Reservation:
        """See `Ledger.reservation`."""
        with self._file.reading() as db:
            return reservations.get(db, ref, self._clock())

    def reservations(
        self,
        *,
        project: str | None = None,
        key: str | None = None,
        in_doubt: bool = False,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> list[Reservation]:
        """See `Ledger.reservations`."""
        now = self._clock()
        wanted = {
            "project = ?": project,
            "key = ?": key,
            "created_at >= ?": since and written(since),
            "created_at < ?": until and written(until),
            "state = 'dispatching' AND (doubted OR deadline <= ?)": written(now) if in_doubt else None,
        }
        asked = {condition: value for condition, value in wanted.items() if value is not None}
        where = f" WHERE {' AND '.join(asked)}" if asked else ""
        with self._file.reading() as db:
            rows = db.execute(
                f"{reservations.SELECT}{where} ORDER BY created_at, rowid",
                tuple(asked.values()),
            ).fetchall()
        return [reservations.from_row(row, now) for row in rows]

    def sent(self, provider: str, before: datetime) -> Iterator[bytes]:
        """See `Ledger.sent`."""
        with self._file.reading_alone() as db:
            yield from sent.blocks(db, provider, before)

    def unmatched(self) -> list[Observation]:
        """See `Ledger.unmatched`."""
        with self._file.reading() as db:
            rows = db.execute(
                "SELECT provider, task_id, state, amount, amount_unit, duration_s, model, seen_at"
                " FROM observation WHERE NOT EXISTS (SELECT 1 FROM reservation WHERE"
                " reservation.provider = observation.provider AND reservation.task_id = observation.task_id)"
                " ORDER BY id"
            ).fetchall()
        return [
            Observation(
                provider, task_id, state, decimal(amount), unit, decimal(duration_s), model, instant(seen_at)
            )
            for provider, task_id, state, amount, unit, duration_s, model, seen_at in rows
        ]

    def buckets(self, at: datetime) -> list[tuple[str, Bucket]]:
        """See `Ledger.buckets`."""
        with self._file.reading() as db:
            return reading.buckets(db, at, self._clock())

    def bucket_histories(self, since: datetime, until: datetime) -> list[BucketHistory]:
        """See `Ledger.bucket_histories`."""
        with self._file.reading_alone() as db:
            return reading.bucket_histories(db, since, until)

    def journal(self) -> list[Entry]:
        """See `Ledger.journal`."""
        with self._file.reading() as db:
            return reading.journal(db)

    def verify(self) -> None:
        """See `Ledger.verify`: by a connection of its own, since it takes long, and verbs go on meanwhile."""
        with self._file.reading():
            pass  # it is there, and where it was
        with self._file.reading_alone() as db:
            problems = [
                f"{subject}: {what} is {plain(from_nanos(kept))}, the journal says {plain(from_nanos(journal))}"
                for query in balances.CHECKS
                for subject, what, kept, journal in db.execute(query)
            ]
            problems += [found for (found,) in db.execute("PRAGMA quick_check") if found != "ok"]
            problems += [
                f"a row of {table} refers to a row of {parent} that is not there"
                for table, _, parent, _ in db.execute("PRAGMA foreign_key_check")
            ]
        if problems:
            shown = "; ".join(problems[:10])
            raise LedgerError(
                f"ledger {self._file.path}: {len(problems)} differences between journal and balances: {shown}; "
                "stop spending, keep a copy of the file, and restore a backup"
            )
