"""The ledger in a SQLite file. Every verb is one transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Any

from kling_pricing.budgets import BudgetsFile, Consent
from kling_pricing.errors import LedgerError
from kling_pricing.ledger.actions import AdministrativeAction, Author, CapOverlay
from kling_pricing.ledger.batches import SettledBatch
from kling_pricing.ledger.books import Books, BooksUpdate
from kling_pricing.ledger.calendars import CalendarChange, ScheduledWindow
from kling_pricing.ledger.decided import NOTHING_ASSUMED, Assumed, Decided
from kling_pricing.ledger.journal import Bucket, BucketHistory, Entry, Observation, UnpricedRequests
from kling_pricing.ledger.model import (
    UNSENT,
    Alert,
    Basis,
    BucketClaim,
    Change,
    Mistimed,
    Outdated,
    PricedVariant,
    Ref,
    Refused,
    Reservation,
    ReservationRequest,
    Reserved,
    Revision,
)
from kling_pricing.ledger.outcomes import Comparison, Uncompared
from kling_pricing.ledger.provider_accounts import ProviderAccount
from kling_pricing.ledger.sqlite import (
    action_rows,
    batch_settling,
    book_rows,
    book_seals,
    calendar_rows,
    cap_overlays,
    choosing,
    export,
    queries,
    reservations,
    revisions,
    verbs,
    verifying,
)
from kling_pricing.ledger.sqlite.access_key_verbs import SQLiteAccessKeys
from kling_pricing.ledger.sqlite.codec import written
from kling_pricing.ledger.sqlite.file import SQLiteFile
from kling_pricing.ledger.sqlite.interventions import SQLiteInterventions
from kling_pricing.ledger.sqlite.outbox import SQLiteOutbox
from kling_pricing.ledger.sqlite.pages import IN_DOUBT, SQLitePages
from kling_pricing.ledger.sqlite.session_verbs import SQLiteSessions
from kling_pricing.ledger.verification import OnProgress, Verification, ignore_progress, judge


class SQLiteLedger(SQLiteInterventions, SQLiteOutbox, SQLiteAccessKeys, SQLiteSessions, SQLitePages):
    """A `Ledger` in one file, for all threads and processes of one machine."""

    def __init__(self, path: Path, clock: Callable[[], datetime]) -> None:
        self._file = SQLiteFile(path, clock)
        self._clock = clock

    @property
    def name(self) -> str:
        """See `Ledger.name`."""
        return str(self._file.path)

    @property
    def max_concurrency(self) -> int:
        """See `Ledger.max_concurrency`: the verbs that wait for the file share transactions."""
        return 16

    def close(self) -> None:
        """See `Ledger.close`."""
        self._file.close()

    # budgets

    def install(self, budgets: BudgetsFile, author: Author) -> Revision:
        """See `Ledger.install`."""
        return self._file.transaction(verbs.install, budgets, author)

    def installed(self) -> Revision | None:
        """See `Ledger.installed`. Creates no file."""
        if not self._file.is_begun():
            return None
        with self._file.reading() as db:
            return revisions.current(db)

    def apply(self, budgets: BudgetsFile, author: Author, consent: Consent) -> tuple[Alert, ...]:
        """See `Ledger.apply`."""
        return self._file.transaction(verbs.apply, budgets, author, consent)

    def set_cap(self, budget: str, cap: Decimal, until: datetime | None, author: Author) -> tuple[Alert, ...]:
        """See `Ledger.set_cap`."""
        return self._file.transaction(revisions.set_cap, budget, cap, until, author)

    # verbs

    def reserve(
        self, order: ReservationRequest, candidates: Sequence[PricedVariant], *, expires_after: timedelta
    ) -> Reserved | Refused | Outdated | Mistimed:
        """See `Ledger.reserve`."""
        return self._file.transaction(
            verbs.reserve, order, candidates, expires_after, undo=self._release_unreceived
        )

    def reserve_and_dispatch(
        self,
        order: ReservationRequest,
        candidates: Sequence[PricedVariant],
        *,
        expires_after: timedelta,
        doubtful_after: timedelta,
    ) -> Reserved | Refused | Outdated | Mistimed:
        """See `Ledger.reserve_and_dispatch`."""
        return self._file.transaction(
            verbs.reserve,
            order,
            candidates,
            expires_after,
            doubtful_after,
            undo=self._release_unreceived,
        )

    def decide(
        self,
        order: ReservationRequest,
        candidates: Sequence[PricedVariant],
        *,
        assumed: Assumed = NOTHING_ASSUMED,
    ) -> Decided | Outdated | Mistimed:
        """See `Ledger.decide`."""
        with self._file.reading() as db:
            return choosing.decide(db, self._clock(), order, candidates, assumed)

    def dispatch(self, reservation_id: str, *, doubtful_after: timedelta) -> None:
        """See `Ledger.dispatch`."""
        refusal = self._file.transaction(
            verbs.dispatch,
            reservation_id,
            doubtful_after,
            undo=lambda refusal: None if refusal else self._release_unsent(reservation_id),
        )
        if refusal is not None:
            raise refusal

    def _release_unreceived(self, answer: Reserved | Refused | Outdated | Mistimed) -> None:
        """Releases a new reservation that its caller did not receive, so its request is certainly unsent."""
        if isinstance(answer, Reserved) and not answer.replayed:
            self._release_unsent(answer.reservation.id)

    def _release_unsent(self, reservation_id: str) -> None:
        self.release(reservation_id, "interrupted", states=(UNSENT, "dispatching"))

    def bind(
        self, ref: Ref, task_id: str, *, compared: Mapping[int, Comparison] = MappingProxyType({})
    ) -> Change | Uncompared:
        """See `Ledger.bind`."""
        return self._file.transaction(verbs.bind, ref, task_id, compared)

    def doubt(self, ref: Ref, reason: str) -> Reservation:
        """See `Ledger.doubt`."""
        return self._file.transaction(verbs.doubt, ref, reason)

    def release(self, ref: Ref, reason: str, *, states: Iterable[str]) -> Reservation:
        """See `Ledger.release`."""
        return self._file.transaction(verbs.release, ref, reason, frozenset(states))

    def settle(self, ref: Ref, amount: Decimal | None, basis: Basis, author: Author | None = None) -> Change:
        """See `Ledger.settle`."""
        return self._file.transaction(verbs.settle, ref, amount, basis, author)

    def settle_all(self, amounts: Mapping[str, Decimal], basis: Basis) -> SettledBatch:
        """See `Batches.settle_all`."""
        return self._file.transaction(batch_settling.settle_all, amounts, basis)

    def observe(
        self, seen: Observation, ref: Ref | None, compared: Comparison | None = None
    ) -> Change | Uncompared | None:
        """See `Ledger.observe`."""
        change = self._file.transaction(verbs.observe, seen, ref, compared)
        if isinstance(change, LedgerError):
            raise change
        return change

    def record(
        self,
        order: ReservationRequest,
        spent: PricedVariant,
        task_id: str,
        at: datetime,
        author: Author | None = None,
    ) -> Change | Outdated:
        """See `Ledger.record`."""
        return self._file.transaction(verbs.record, order, spent, task_id, at, author)

    def open_bucket(self, claim: BucketClaim, spent: int, author: Author) -> tuple[Alert, ...]:
        """See `Ledger.open_bucket`."""
        return self._file.transaction(verbs.open_bucket, claim, spent, author)

    def count_unpriced(self, counts: Sequence[UnpricedRequests]) -> None:
        """See `Ledger.count_unpriced`."""
        self._file.transaction(verbs.count_unpriced, counts)

    # reading

    def unpriced(self, since: date | None, until: date | None) -> list[UnpricedRequests]:
        """See `Ledger.unpriced`."""
        with self._file.reading() as db:
            return queries.unpriced(db, since, until)

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
        conditions = {
            "project = ?": project,
            "key = ?": key,
            "created_at >= ?": since and written(since),
            "created_at < ?": until and written(until),
            IN_DOUBT: written(now) if in_doubt else None,
        }
        filters = {condition: value for condition, value in conditions.items() if value is not None}
        where = f" WHERE {' AND '.join(filters)}" if filters else ""
        with self._file.reading() as db:
            rows = db.execute(
                f"{reservations.SELECT}{where} ORDER BY created_at, rowid",
                tuple(filters.values()),
            ).fetchall()
        return [reservations.from_row(row, now) for row in rows]

    def sent(self, provider: str, before: datetime) -> Iterator[bytes]:
        """See `Ledger.sent`."""
        with self._file.reading_alone() as db:
            yield from export.blocks(db, provider, before)

    def accounts(self) -> list[ProviderAccount]:
        """See `Ledger.accounts`."""
        with self._file.reading() as db:
            return queries.accounts(db)

    def books(self, name: str) -> Books:
        """See `Ledger.books`."""
        with self._file.reading() as db:
            return book_rows.books(db, name)

    def facts(self, name: str) -> Iterator[bytes]:
        """See `Ledger.facts`."""
        with self._file.reading_alone() as db:
            yield from book_rows.facts(db, name)

    def add_to_books(self, update: BooksUpdate) -> None:
        """See `Ledger.add_to_books`."""
        self._file.transaction(book_seals.add, update)

    def note_settlement(self, name: str, value: Mapping[str, Any], author: Author) -> None:
        """See `Ledger.note_settlement`."""
        self._file.transaction(book_seals.note_settlement, name, value, author)

    def unclaimed(self) -> list[Observation]:
        """See `Ledger.unclaimed`."""
        with self._file.reading() as db:
            return queries.observations(
                db,
                "NOT EXISTS (SELECT 1 FROM reservation WHERE reservation.provider = observation.provider"
                " AND reservation.task_id = observation.task_id)",
            )

    def windows(self, at: datetime) -> list[ScheduledWindow]:
        """See `Ledger.windows`."""
        with self._file.reading() as db:
            return calendar_rows.windows_at(db, at)

    def calendar_ends(self) -> list[ScheduledWindow]:
        """See `Ledger.calendar_ends`."""
        with self._file.reading() as db:
            return calendar_rows.last_windows(db)

    def calendar_changes(self, budgets: BudgetsFile) -> tuple[CalendarChange, ...]:
        """See `Ledger.calendar_changes`."""
        if not self._file.is_begun():
            return ()
        with self._file.reading() as db:
            return calendar_rows.changes(db, budgets, self._clock())

    def buckets(self, at: datetime) -> list[tuple[str, Bucket]]:
        """See `Ledger.buckets`."""
        with self._file.reading() as db:
            return queries.buckets(db, at, self._clock())

    def buckets_of(self, reservation: str, at: datetime) -> list[Bucket]:
        """See `Ledger.buckets_of`."""
        with self._file.reading() as db:
            return [bucket for _, bucket in queries.buckets(db, at, self._clock(), reservation)]

    def bucket_histories(self, since: datetime, until: datetime) -> list[BucketHistory]:
        """See `Ledger.bucket_histories`."""
        with self._file.reading_alone() as db:
            return queries.bucket_histories(db, since, until)

    def journal(self, since: datetime | None = None, until: datetime | None = None) -> list[Entry]:
        """See `Ledger.journal`."""
        with self._file.reading() as db:
            return queries.journal(db, since, until)

    def projects(self) -> list[str]:
        """See `Ledger.projects`."""
        with self._file.reading() as db:
            return queries.projects(db)

    def cap_overlays(self) -> list[CapOverlay]:
        """See `Ledger.cap_overlays`."""
        with self._file.reading() as db:
            return cap_overlays.overlays(db)

    def actions(self) -> list[AdministrativeAction]:
        """See `Ledger.actions`."""
        with self._file.reading() as db:
            return action_rows.actions(db)

    def verify(
        self,
        *,
        since_last: bool = False,
        remember: bool = False,
        on_progress: OnProgress = ignore_progress,
    ) -> Verification:
        """See `Ledger.verify`. Uses separate connections, so that verbs can continue meanwhile."""
        with self._file.reading():
            pass  # raises if the file is missing or was replaced
        verified = verifying.verify(self._file, since_last=since_last, on_progress=on_progress)
        judge(self.name, verified.problems, "file")
        if remember:
            self._file.transaction(verifying.keep, verified)
        return Verification(
            verified.first_entry,
            verified.checkpoint.newest_entry,
            verified.fully_verified_at,
            is_remembered=remember,
        )
