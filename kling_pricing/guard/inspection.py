"""The verbs of `BudgetGuard` that only read. `BudgetGuard` inherits them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Unpack

from kling_pricing.display import shown
from kling_pricing.errors import KlingPricingError
from kling_pricing.guard import budget_status, decisions
from kling_pricing.guard.admission import QuoteOptions
from kling_pricing.guard.decisions import Decision
from kling_pricing.guard.references import Reference, ref_of
from kling_pricing.guard.state import GuardState
from kling_pricing.ledger.journal import Bucket, Entry, Observation
from kling_pricing.ledger.model import Reservation, State
from kling_pricing.ledger.paging import MAX_PAGE
from kling_pricing.ledger.redaction import short_text
from kling_pricing.ledger.verification import OnProgress, Verification, ignore_progress
from kling_pricing.strict_json import RequestLike
from kling_pricing.windows import in_utc


class GuardInspection:
    """The verbs of a guard that change nothing in the ledger."""

    _state: GuardState

    def decide(
        self,
        payload: RequestLike,
        *,
        project: str,
        key: str | None = None,
        labels: Mapping[str, str] | None = None,
        account: str | None = None,
        after: Decision | None = None,
        **options: Unpack[QuoteOptions],
    ) -> Decision:
        """Returns what `admit` would do with a request now, and reserves nothing.

        Takes the arguments of `admit`. Changes nothing, and takes no lock. A program that wants the money must
        still call `admit`, because other requests may come first.

        Args:
            payload: the request.
            project: the project that the request belongs to.
            key: the caller's name for the job.
            labels: other labels that budgets may match.
            account: the account at the provider from which the request would be sent.
            after: an earlier decision; everything that it and the decisions before it would reserve counts as
                reserved. So a sequence of decisions says how much of a list of requests fits.
            options: as for `quote`.

        Raises:
            BudgetError: the quote's currency differs from a budget's, and there is no accounting rate.
            LedgerUnavailableError: the ledger cannot be used.
            KlingPricingError: the request is invalid or has no known price, as for `quote`.
        """
        return decisions.decide(self._state, payload, project, key, labels, account, after, options)

    def reservation(self, ref: Reference) -> Reservation:
        """Returns a reservation in its current state."""
        return self._state.ledger.reservation(ref_of(ref))

    def in_doubt(self) -> list[Reservation]:
        """Returns the reservations in doubt, oldest first; `Reservation.reason` says why."""
        return self._state.ledger.reservations(in_doubt=True)

    def unclaimed(self) -> list[Observation]:
        """Returns the observations of tasks that belong to no reservation."""
        return self._state.ledger.unclaimed()

    def history(
        self,
        *,
        project: str | None = None,
        key: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> list[Reservation]:
        """Returns the reservations created at or after `since` and before `until`, oldest first."""
        start, end = (None if at is None else in_utc(at) for at in (since, until))
        return self._state.ledger.reservations(project=project, key=key, since=start, until=end)

    def history_page(
        self,
        *,
        project: str | None = None,
        key: str | None = None,
        state: State | None = None,
        in_doubt: bool = False,
        since: datetime | None = None,
        until: datetime | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> list[Reservation]:
        """Returns one page of the reservations, the newest first; for ledgers with a long history.

        Args:
            project: only reservations of this project.
            key: only reservations with this key.
            state: only reservations in this state.
            in_doubt: only reservations in doubt.
            since: only reservations created at or after this instant, with a time zone.
            until: only reservations created before this instant, with a time zone.
            after: the id of the last reservation of the previous page; None: the first page.
            limit: the largest number of reservations on the page, from 1 to 1000.

        Raises:
            ReservationNotFoundError: no reservation has the id `after`.
            KlingPricingError: the limit is not a whole number from 1 to 1000.
        """
        if type(limit) is not int or not 1 <= limit <= MAX_PAGE:
            raise KlingPricingError(f"limit must be a whole number from 1 to {MAX_PAGE}, got {shown(limit)}")
        return self._state.ledger.reservation_page(
            project=project,
            key=key,
            state=state,
            in_doubt=in_doubt,
            since=None if since is None else in_utc(since),
            until=None if until is None else in_utc(until),
            after=None if after is None else short_text("after", after),
            limit=limit,
        )

    def unsettled(self) -> list[Reservation]:
        """Returns the reservations that were sent and are neither settled nor released, oldest first."""
        return self._state.ledger.unsettled()

    def journal(self) -> list[Entry]:
        """Returns every journal entry, oldest first."""
        return self._state.ledger.journal()

    def status(self, at: datetime | None = None) -> list[Bucket]:
        """Returns the balance of each budget in its window. Expired reservations do not count as held.

        A budget with `*` has one balance for each bucket in use.

        Args:
            at: an instant in the window, with a time zone; by default, now.
        """
        return budget_status.status(self._state, at)

    def balances_of(self, reservation_id: str) -> list[Bucket]:
        """Returns the balances of the budgets that count a reservation, in the windows that are open now."""
        return self._state.ledger.buckets_of(reservation_id, self._state.clock())

    def verify(
        self,
        *,
        since_last: bool = False,
        remember: bool = False,
        on_progress: OnProgress = ignore_progress,
    ) -> Verification:
        """Recomputes every balance from the journal, and compares it with the stored balance.

        Reads one snapshot, and does not block other guards.

        Args:
            since_last: read only the journal entries after the last verification that the ledger remembers.
                This trusts the earlier entries, the balances of that time, and every reservation that has no
                entry since. If the ledger remembers none, everything is read.
            remember: let the ledger remember this verification if it finds no difference. In PostgreSQL, only
                the owner of the ledger can do so.
            on_progress: called in this thread with the stage, how much of it is done, and its total.

        Raises:
            LedgerError: a balance differs; the message names it.
        """
        return self._state.ledger.verify(since_last=since_last, remember=remember, on_progress=on_progress)
