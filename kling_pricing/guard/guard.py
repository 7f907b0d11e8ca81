"""`BudgetGuard`: one class with every verb of the guard; the other modules of this stage do the work."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Literal, Self, Unpack

from kling_pricing.budgets import BudgetsFile, BudgetsLike
from kling_pricing.guard import admission as admissions
from kling_pricing.guard import budget_changes, budget_status, dispatch, settlement
from kling_pricing.guard.admission import Admission, QuoteOptions
from kling_pricing.guard.references import Reference, ref_of
from kling_pricing.guard.state import DOUBTFUL_AFTER, EXPIRES_AFTER, GuardState
from kling_pricing.ledger.journal import Bucket, Entry, Observation
from kling_pricing.ledger.model import Alert, Basis, Reservation
from kling_pricing.strict_json import RequestLike
from kling_pricing.tables.price_table import PriceBook
from kling_pricing.windows import in_utc
from kling_pricing.wire.task import Task


class BudgetGuard:
    """Holds requests against budgets, and keeps count of what they cost.

    Threads may share a guard; processes that name the same ledger share its caps.

    Args:
        ledger: the URL of the ledger: `sqlite:///spend.db` is a file in the working folder.
        budgets: a file of budgets, or `Budget`s; by default the budgets of the ledger. The first guard of a
            ledger installs them; later guards must bring the same budgets, or none. Running guards adopt a
            later revision, which `apply` installs, with their next admission.
        book: the price tables to use; by default the bundled ones and those of `KLING_PRICING_TABLES`.
        on_alert: called once for each threshold of each bucket that is reached, whichever process reaches it,
            and for each bill above the amount reserved. It is called after the money has moved, in the process
            that moved it; if that process dies in between, the journal still has the alert. An exception that
            it raises is logged and changes nothing.
        expires_after: how long a reservation waits for its dispatch before its money is given back.
        doubtful_after: how long after its dispatch a reservation without a task is in doubt.
        clock: returns the current instant, with a time zone; by default the system's clock.

    Raises:
        BudgetError: the budgets cannot be used, or differ from those installed.
        LedgerError: the ledger cannot be used.
    """

    def __init__(
        self,
        ledger: str,
        budgets: BudgetsLike | None = None,
        *,
        book: PriceBook | None = None,
        on_alert: Callable[[Alert], None] | None = None,
        expires_after: timedelta = EXPIRES_AFTER,
        doubtful_after: timedelta = DOUBTFUL_AFTER,
        clock: Callable[[], datetime] | None = None,
    ) -> None:
        self._state = GuardState(ledger, budgets, book, on_alert, expires_after, doubtful_after, clock)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    @property
    def max_concurrency(self) -> int:
        """The number of verbs that its ledger carries out at the same time; more wait for their turn."""
        return self._state.ledger.max_concurrency

    @property
    def book(self) -> PriceBook:
        """The price tables of the guard."""
        return self._state.book

    @property
    def clock(self) -> Callable[[], datetime]:
        """The clock of the guard, in UTC."""
        return self._state.clock

    def close(self) -> None:
        """Closes the ledger; the next use opens it again."""
        self._state.ledger.close()

    # before a request is sent

    def admit(
        self,
        payload: RequestLike,
        *,
        project: str,
        key: str | None = None,
        labels: Mapping[str, str] | None = None,
        **options: Unpack[QuoteOptions],
    ) -> Admission:
        """Reserves the cost of a request in every budget that matches it, or refuses the request.

        If a budget caps, a request that does not fit may be changed: see `Admission.changes`.
        A range is reserved at its maximum; amounts are rounded up to the unit of the provider's statement.

        Args:
            payload: the request, as a mapping or as JSON text or bytes; it is not changed.
            project: the project that the request belongs to.
            key: the caller's name for the job, unique in its project. Admitting it again returns the same
                reservation while it is unsent, makes a new attempt after a release, and never makes a second
                job. By default each call is a separate job.
            labels: further labels that budgets may match.
            options: as for `quote`: provider, wire_format, media, allow_unknown, url.

        Raises:
            BudgetExceededError: the request does not fit; nothing was reserved, and a later try may succeed.
            BudgetError: a budget counts in another currency than the quote.
            IdempotencyError: the key stands for another request.
            ReservationStateError: the key's job was sent already; carries the task.
            LedgerUnavailableError: the ledger cannot be used, so nothing may be spent.
            KlingPricingError: as for `quote`: the request is not valid, or its price is not known.
        """
        return admissions.admit(self._state, payload, project, key, labels, options)

    def dispatch(self, admission: Admission) -> dict[str, Any]:
        """Gives out the payload to send, once; only the caller that receives it may submit it.

        Raises:
            ReservationStateError: the payload was given out before, the reservation is released or has expired,
                or another price came into force; in the last case it is released now and can be admitted again.
            LedgerUnavailableError: the ledger cannot be used, so nothing may be sent.
        """
        return dispatch.dispatch(self._state, admission)

    def pre_submit(
        self,
        payload: RequestLike,
        *,
        project: str,
        key: str | None = None,
        labels: Mapping[str, str] | None = None,
        **options: Unpack[QuoteOptions],
    ) -> dict[str, Any]:
        """Admits a request and gives out the payload to send, or raises as `admit` does: the smallest hook.

        Pass a `key`: with it `history` finds the reservation, which you bind to the task of the answer.
        """
        return self.dispatch(self.admit(payload, project=project, key=key, labels=labels, **options))

    @contextmanager
    def admission(
        self,
        payload: RequestLike,
        *,
        project: str,
        key: str | None = None,
        labels: Mapping[str, str] | None = None,
        **options: Unpack[QuoteOptions],
    ) -> Iterator[Admission]:
        """Admits a request for the length of a `with` block, and closes the admission when the block ends.

        If the request was not dispatched by then, it is released. If it was dispatched in the block, is not
        bound to a task, and an exception leaves the block, it is in doubt: it may be running. A reservation
        that the key had before the block is left alone.
        """
        admitted = self.admit(payload, project=project, key=key, labels=labels, **options)
        try:
            yield admitted
        except BaseException as error:
            self.close_admission(admitted, error)
            raise
        self.close_admission(admitted)

    def close_admission(self, admitted: Admission, error: BaseException | None = None) -> None:
        """Ends an admission as `admission` does at the end of its block.

        Args:
            admitted: the admission that `admit` returned.
            error: the exception that ended the work, if one did; if the ledger fails now, the exception gets a
                note.
        """
        dispatch.close_admission(self._state, admitted, error)

    # after a request was sent

    def bind(self, ref: Reference, task_id: str) -> Reservation:
        """Records the task that the provider made of a request, and applies earlier observations of that task.

        Repeating it changes nothing.

        Raises:
            ReservationStateError: it was never dispatched, has another task, or the task has another
                reservation.
        """
        return settlement.bind(self._state, ref, task_id)

    def settle(
        self, ref: Reference, amount: Decimal | int | str | None = None, *, basis: Basis | None = None
    ) -> Reservation:
        """Spends the cost of a job in place of the amount reserved.

        Args:
            ref: the reservation.
            amount: the amount charged, in the reservation's currency; None: the quote.
            basis: the source of the amount, from the weakest to the strongest: `quote`, `response`, `statement`
                or `operator`; by default `response` with an amount and `quote` without. A stronger basis
                replaces the amount of a weaker one; a weaker basis changes nothing.

        Raises:
            ReservationStateError: it was never dispatched, or is settled at another amount on the same basis.
        """
        return settlement.settle(self._state, ref, amount, basis)

    def release(self, ref: Reference, reason: str = "released") -> Reservation:
        """Gives back the money of a request that was not sent. Repeating it changes nothing.

        Raises:
            ReservationStateError: it was dispatched, so it may be running.
        """
        return settlement.release(self._state, ref, reason)

    def release_refused(self, ref: Reference, reason: str = "refused by the provider") -> Reservation:
        """Gives back the money of a request that the provider definitely did not accept.

        Do not use it after a timeout or a 5xx answer, because the job may be running: see `mark_in_doubt`.

        Raises:
            ReservationStateError: it has a task, so it was accepted; or it was marked in doubt, so an answer
                other than the present one may have accepted it.
        """
        return settlement.release_refused(self._state, ref, reason)

    def mark_in_doubt(self, ref: Reference, reason: str) -> Reservation:
        """Records that the provider may or may not have a request that was sent; its money stays reserved."""
        return settlement.mark_in_doubt(self._state, ref, reason)

    def observe(
        self,
        body: RequestLike,
        *,
        provider: str,
        reservation: Reference | None = None,
        wire_format: str | None = None,
    ) -> Reservation | None:
        """Records a submit or status response, or the body of a callback.

        It is remembered and applied to its reservation: at once, or as soon as the task is bound. A finished
        task settles the reservation at the exact sum of the charge that the answer names; if that has no value
        in the reservation's currency, the money stays reserved and the reservation is in doubt. If no charge is
        named, the quote counts, or the price of what was made; a failed or cancelled task is treated as the
        price table says. Repeating it changes nothing. A list is applied to its tasks in the ledger.

        Args:
            body: the answer, as a mapping or as JSON text or bytes.
            provider: the provider that answered.
            reservation: the reservation of the task, if the task is not bound yet; it is bound then.
            wire_format: the wire format of the answer; by default the reservation's, or the provider's first in
                which the body names a task.

        Returns:
            The reservation as it now stands; None if the task belongs to no known reservation yet, or the
            answer does not list exactly one task.

        Raises:
            WireFormatError: the body cannot be read or names no task.
            PriceNotFoundError: the provider is unknown.
        """
        return settlement.observe(self._state, body, provider, reservation, wire_format)

    def observe_task(
        self, task: Task, *, provider: str, reservation: Reference | None = None
    ) -> Reservation | None:
        """Records an answer that its wire format has read already, as `observe` does; for hooks.

        Raises:
            WireFormatError: neither the answer nor the reservation names a task.
        """
        return settlement.observe_task(self._state, task, provider, reservation)

    def resolve(
        self,
        ref: Reference,
        outcome: Literal["charged", "not_charged"],
        *,
        amount: Decimal | int | str | None = None,
    ) -> Reservation:
        """Decides the outcome of a job that was sent, on the word of a person who looked it up.

        A settled reservation stays as it is, because the word might be meant for its state before that.

        Args:
            ref: the reservation.
            outcome: `charged` settles it, `not_charged` gives the money back.
            amount: the amount charged; None: the quote.

        Raises:
            ReservationStateError: it was never dispatched, or it is settled and the outcome or amount differs.
        """
        return settlement.resolve(self._state, ref, outcome, amount)

    # budgets, and spend that went around the guard

    def record(
        self,
        provider: str,
        task_id: str,
        amount: Decimal | int | str,
        *,
        labels: Mapping[str, str],
        at: datetime | None = None,
        currency: str | None = None,
    ) -> Reservation:
        """Books spend that was made elsewhere, even above the caps. Repeating it changes nothing.

        Args:
            provider: the provider that billed.
            task_id: the provider's name for the task.
            amount: the amount charged.
            labels: the labels that budgets may match, the project among them.
            at: the instant of the spend, with a time zone; by default now.
            currency: the currency of the amount; by default the provider's.

        Raises:
            IdempotencyError: the task is in the ledger with another amount, currency or other labels.
        """
        return budget_changes.record(self._state, provider, task_id, amount, labels, at, currency)

    def open_budget(
        self, budget: str, spent: Decimal | int | str, *, labels: Mapping[str, str] | None = None
    ) -> None:
        """Books the amount that a budget's current window had spent before it was guarded, once per window.

        Args:
            budget: the budget's name.
            spent: the amount, in the budget's currency.
            labels: the labels of the bucket, if the budget has a bucket for each value of a label.

        Raises:
            BudgetError: there is no such budget, or it does not match the labels.
            IdempotencyError: this window has its opening balance already.
        """
        budget_changes.open_budget(self._state, budget, spent, labels)

    def apply(self, budgets: BudgetsLike) -> BudgetsFile:
        """Installs budgets in place of the ledger's; a task for an administrator.

        Balances stay. Caps, limits, alerts and floors may change freely. A budget whose match, window, zone or
        currency changes needs another name, or `carry_over: true`: then its buckets count the amounts that the
        ledger holds already.

        Raises:
            BudgetError: the budgets cannot replace those installed; nothing has changed.
        """
        return budget_changes.apply(self._state, budgets)

    # queries

    def reservation(self, ref: Reference) -> Reservation:
        """Returns one reservation as it stands now."""
        return self._state.ledger.reservation(ref_of(ref))

    def in_doubt(self) -> list[Reservation]:
        """Returns the reservations in doubt, the oldest first; see `Reservation.reason`."""
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
        """Returns the reservations made from `since` on and before `until`, the oldest first."""
        start, end = (None if at is None else in_utc(at) for at in (since, until))
        return self._state.ledger.reservations(project=project, key=key, since=start, until=end)

    def journal(self) -> list[Entry]:
        """Returns every entry of the journal, the oldest first."""
        return self._state.ledger.journal()

    def status(self, at: datetime | None = None) -> list[Bucket]:
        """Returns the balance of each budget in its window; for a budget with `*`, of each bucket in use.

        A reservation that has expired no longer counts as held.

        Args:
            at: an instant in the window, with a time zone; by default now.
        """
        return budget_status.status(self._state, at)

    def verify(self) -> None:
        """Derives every balance from the journal again.

        Raises:
            LedgerError: a balance differs; the message names it.
        """
        self._state.ledger.verify()
