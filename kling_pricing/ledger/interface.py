"""The interface of a ledger, which both stores implement."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Protocol

from kling_pricing.budgets import BudgetsFile, Consent
from kling_pricing.ledger.access_keys import AccessKeys
from kling_pricing.ledger.actions import AdministrativeAction, Author
from kling_pricing.ledger.alerting import Outbox
from kling_pricing.ledger.batches import Batches
from kling_pricing.ledger.books import Books, BooksUpdate
from kling_pricing.ledger.calendars import CalendarChange, ScheduledWindow
from kling_pricing.ledger.decided import NOTHING_ASSUMED, Assumed, Decided
from kling_pricing.ledger.intervening import Interventions
from kling_pricing.ledger.journal import Bucket, BucketHistory, Entry, Observation, UnpricedRequests
from kling_pricing.ledger.model import (
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
from kling_pricing.ledger.paging import Pages
from kling_pricing.ledger.provider_accounts import ProviderAccount
from kling_pricing.ledger.sessions import Sessions
from kling_pricing.ledger.verification import OnProgress, Verification, ignore_progress


class Ledger(Interventions, Outbox, AccessKeys, Sessions, Pages, Batches, Protocol):
    """The interface of every store.

    Every verb raises:
        LedgerUnavailableError: the store cannot be read or written.
        ReservationNotFoundError: a reference matches no reservation.
    """

    @property
    def name(self) -> str:
        """The name of the ledger in errors: its location, without any password."""

    @property
    def max_concurrency(self) -> int:
        """The maximum number of verbs that run simultaneously. Other verbs wait for their turn."""

    def install(self, budgets: BudgetsFile, author: Author) -> Revision:
        """Installs budgets if the ledger has none yet, and returns the current budgets."""

    def installed(self) -> Revision | None:
        """Returns the current budgets, or None if the ledger has none yet."""

    def apply(self, budgets: BudgetsFile, author: Author, consent: Consent) -> tuple[Alert, ...]:
        """Replaces the current budgets. Balances do not change.

        Args:
            budgets: the new budgets.
            author: who replaces them, and why.
            consent: the removals and other changes that weaken protection, to which the author agrees.

        Returns:
            Alerts for the new thresholds that existing balances already reach.

        Raises:
            BudgetWeakenedError: a budget is removed or protection becomes weaker without consent.
            BudgetError: a budget has the name of an earlier one but a different match, window, zone or
                currency, and does not carry over the earlier spend.
        """

    def reserve(
        self, order: ReservationRequest, candidates: Sequence[PricedVariant], *, expires_after: timedelta
    ) -> Reserved | Refused | Outdated | Mistimed:
        """Sets money aside in every bucket that a request claims, or in none.

        Tries the candidates in order. The first one is the request as the caller wrote it. If it does not fit a
        budget that does not cap, the other candidates are not tried.
        If the key was used before with the same request, returns the reservation that is still unsent, or
        creates a new attempt if the previous one was released.

        Args:
            order: the request.
            candidates: the variants of the request, in order of preference.
            expires_after: how long the reservation waits for its dispatch before it expires.

        Raises:
            IdempotencyError: the key belongs to a different request.
            ReservationStateError: the key's job was already sent.
            BudgetFrozenError: all spending, or a budget that the request claims, is frozen.
        """

    def decide(
        self,
        order: ReservationRequest,
        candidates: Sequence[PricedVariant],
        *,
        assumed: Assumed = NOTHING_ASSUMED,
    ) -> Decided | Outdated | Mistimed:
        """Returns what `reserve` would do now. Changes nothing, takes no lock, and releases nothing.

        Expired reservations do not count as held. An error that `reserve` would raise about the key or a freeze
        is part of the result.

        Args:
            order: the request.
            candidates: the variants of the request, in order of preference.
            assumed: amounts that count as held in addition, by bucket.
        """

    def reserve_and_dispatch(
        self,
        order: ReservationRequest,
        candidates: Sequence[PricedVariant],
        *,
        expires_after: timedelta,
        doubtful_after: timedelta,
    ) -> Reserved | Refused | Outdated | Mistimed:
        """Reserves and dispatches in one transaction, with the effects and errors of both verbs.

        A reservation that is replayed is not dispatched, because its price may have changed; `dispatch` it.
        """

    def dispatch(self, reservation_id: str, *, doubtful_after: timedelta) -> None:
        """Moves a reservation from reserved to dispatching, for exactly one caller.

        Args:
            reservation_id: the id of the reservation.
            doubtful_after: the time after which the reservation is in doubt.

        Raises:
            ReservationStateError: the reservation was already dispatched or released, or has expired.
            BudgetFrozenError: all spending, or the budget of one of its buckets, is frozen. The reservation is
                released.
        """

    def bind(
        self, ref: Ref, task_id: str, *, compared: Mapping[int, Comparison] = MappingProxyType({})
    ) -> Change | Uncompared:
        """Binds a reservation to the provider's task, and applies earlier observations of that task.

        Args:
            ref: the reservation.
            task_id: the provider's id for the task.
            compared: the comparisons of earlier observations with the quote, by the observation's number.

        Returns:
            The change to the reservation; or the earlier observations that need a comparison, if `compared`
            lacks one of them. Nothing was changed then.

        Raises:
            ReservationStateError: the reservation was never sent or has another task, or the task belongs to
                another reservation.
        """

    def doubt(self, ref: Ref, reason: str) -> Reservation:
        """Marks a reservation in doubt: the provider may or may not have accepted the request.

        Has no effect if the outcome is already known.

        Raises:
            ReservationStateError: the reservation was never sent.
        """

    def release(self, ref: Ref, reason: str, *, states: Iterable[str]) -> Reservation:
        """Releases the reserved money if the reservation is in one of these states.

        Has no effect if the reservation is already released. A reservation that `doubt` marked is released only
        if the states include `DOUBTED`. A deadline that has passed does not count as a mark.

        Raises:
            ReservationStateError: the reservation is in another state, or is marked in doubt.
        """

    def settle(self, ref: Ref, amount: Decimal | None, basis: Basis, author: Author | None = None) -> Change:
        """Settles a reservation at an amount, or at the quote if the amount is None.

        If an author is given and the amount or its basis changes, the ledger keeps the change as an
        administrative action.

        The amount replaces the held money, or an earlier amount on a weaker basis. If the earlier amount has a
        stronger basis, the new amount has no effect.

        Raises:
            ReservationStateError: the reservation was never sent, or is settled at another amount on the same
                basis.
        """

    def observe(
        self, seen: Observation, ref: Ref | None, compared: Comparison | None = None
    ) -> Change | Uncompared | None:
        """Stores an observation of a task, and applies it to the task's reservation.

        If the task has no reservation yet, `bind` applies the observation later. An observation that is already
        stored has no effect.

        Args:
            seen: the observation.
            ref: the reservation to bind to the task; None: the reservation that has the task.
            compared: the comparison of the observation with the quote, used if the reservation is bound
                already; None: it was not compared. The price of the generated video counts if the task
                succeeded and the response does not name a charge. A remark becomes an alert if the observation
                is new.

        Returns:
            The change to the reservation, or None if no reservation has the task yet; or the observations that
            must be compared first. If the reservation has the task already, the verb must be repeated, and
            nothing was stored. Otherwise the observation stays stored, and `bind` must be called.

        Raises:
            LedgerError: the reservation belongs to another provider. The observation stays stored.
            ReservationStateError: the reservation cannot be bound to the task. The observation stays stored.
        """

    def record(
        self,
        order: ReservationRequest,
        spent: PricedVariant,
        task_id: str,
        at: datetime,
        author: Author | None = None,
    ) -> Change | Outdated:
        """Records spend that happened outside the guard, even beyond a cap. A repeated call has no effect.

        If an author is given, the ledger keeps the new record as an administrative action.

        Raises:
            IdempotencyError: the task is already in the ledger with other details.
        """

    def open_bucket(self, claim: BucketClaim, spent: int, author: Author) -> tuple[Alert, ...]:
        """Sets the opening balance of a bucket's current window: nanos spent before the ledger began to count.

        Raises:
            IdempotencyError: the window already has an opening balance.
            LedgerError: the budget has no current window.
        """

    def count_unpriced(self, counts: Sequence[UnpricedRequests]) -> None:
        """Adds numbers of requests without a price to the stored numbers; no two are of one path and day."""

    def unpriced(self, since: date | None, until: date | None) -> list[UnpricedRequests]:
        """Returns the stored numbers for days at or after `since` and before `until`, sorted."""

    def reservation(self, ref: Ref) -> Reservation:
        """Returns one reservation."""

    def reservations(
        self,
        *,
        project: str | None = None,
        key: str | None = None,
        in_doubt: bool = False,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> list[Reservation]:
        """Returns the reservations that match every filter, the oldest first.

        Args:
            project: only reservations of this project.
            key: only reservations with this key.
            in_doubt: only reservations in doubt.
            since: only reservations created at or after this instant.
            until: only reservations created before this instant.
        """

    def sent(self, provider: str, before: datetime) -> Iterator[bytes]:
        """Yields the reservations of a provider that were sent before an instant, in no particular order.

        Meant for very large numbers of reservations. Includes recorded spend, but not requests that the
        provider refused without a task. All lines come from one snapshot. Changes nothing, not even expired
        reservations, and does not block other users of the ledger.

        Yields:
            Blocks of UTF-8 lines. Each line has the fields of `sent_lines.SENT`.
        """

    def accounts(self) -> list[ProviderAccount]:
        """Returns the accounts of the providers at which an account was named, and all that have books, sorted.

        A provider without a named account has only the account of its own name.
        """

    def books(self, name: str) -> Books:
        """Returns the books of an account by their name, without the facts."""

    def facts(self, name: str) -> Iterator[bytes]:
        """Yields the facts in the books of an account, in the order in which they were added.

        Yields:
            Blocks of UTF-8 lines. Each line has the fields of `books.FACT`.
        """

    def add_to_books(self, update: BooksUpdate) -> None:
        """Adds statements and facts to the books, and closes a month: all of it, or nothing.

        The ledger keeps each new statement as an administrative action.

        Raises:
            LedgerError: somebody else changed the books after the update was prepared.
        """

    def note_settlement(self, name: str, value: Mapping[str, Any], author: Author) -> None:
        """Keeps as an administrative action that reservations were settled from statements.

        Args:
            name: the name of the books.
            value: the statements, the number of reservations, and their sums, as JSON data.
            author: who settled them, and why.
        """

    def unclaimed(self) -> list[Observation]:
        """Returns the observations of tasks that belong to no reservation."""

    def windows(self, at: datetime) -> list[ScheduledWindow]:
        """Returns the windows in the ledger's calendar that contain an instant."""

    def calendar_ends(self) -> list[ScheduledWindow]:
        """Returns the last window of each schedule in the ledger's calendar."""

    def calendar_changes(self, budgets: BudgetsFile) -> tuple[CalendarChange, ...]:
        """Returns the effect that `apply` would have on the calendar, and changes nothing.

        `apply` extends the calendar, and adopts this machine's time zone data. A window that has begun keeps
        its start, and the next window begins where it ends.
        """

    def buckets(self, at: datetime) -> list[tuple[str, Bucket]]:
        """Returns every bucket whose window contains an instant, each with its budget's definition.

        Expired reservations do not count as held, even if they have not been released yet.
        """

    def buckets_of(self, reservation: str, at: datetime) -> list[Bucket]:
        """Returns the buckets that count a reservation or that would count it at an instant, as `buckets` does.

        Empty if there is no such reservation, or no budget counts it.
        """

    def bucket_histories(self, since: datetime, until: datetime) -> list[BucketHistory]:
        """Returns every bucket whose window overlaps a period, with its journal entries, from one snapshot."""

    def journal(self, since: datetime | None = None, until: datetime | None = None) -> list[Entry]:
        """Returns the entries of the journal at or after `since` and before `until`, the oldest first."""

    def projects(self) -> list[str]:
        """Returns the projects that have reservations, sorted."""

    def actions(self) -> list[AdministrativeAction]:
        """Returns every administrative action, the oldest first."""

    def verify(
        self,
        *,
        since_last: bool = False,
        remember: bool = False,
        on_progress: OnProgress = ignore_progress,
    ) -> Verification:
        """Derives every balance from the journal again, and compares it with the stored balance.

        Reads one snapshot, and does not block other users of the ledger. Changes nothing, except that it may
        remember how far it has read.

        Args:
            since_last: whether to read only the journal entries after the last verification that the ledger
                remembers. The balances and the entries before it count as correct. If the ledger remembers
                none, everything is read.
            remember: whether the ledger remembers this verification, if it finds no difference. Only the owner
                of a ledger in PostgreSQL can do so.
            on_progress: called in the calling thread whenever a part is done.

        Raises:
            LedgerError: the ledger is inconsistent. The message lists the first differences.
        """

    def close(self) -> None:
        """Closes the connections. The next verb opens new ones."""
