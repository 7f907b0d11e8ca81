"""`BudgetGuard`: one class with all verbs of the guard, which the other modules in this folder implement."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any, Literal, Self, Unpack

from kling_pricing.budgets import BudgetsLike
from kling_pricing.errors import KlingPricingError
from kling_pricing.guard import admission as admissions
from kling_pricing.guard import budget_changes, dispatch, settlement
from kling_pricing.guard.administrative_verbs import GuardAdministration
from kling_pricing.guard.admission import Admission, QuoteOptions
from kling_pricing.guard.inspection import GuardInspection
from kling_pricing.guard.outlook import GuardOutlook
from kling_pricing.guard.references import Reference
from kling_pricing.guard.state import DOUBTFUL_AFTER, EXPIRES_AFTER, GuardState
from kling_pricing.ledger.journal import UnpricedRequests
from kling_pricing.ledger.model import Alert, Basis, Reservation
from kling_pricing.strict_json import RequestLike
from kling_pricing.tables.price_book import PriceBook
from kling_pricing.wire.task import Task


class BudgetGuard(GuardInspection, GuardAdministration, GuardOutlook):
    """Checks requests against budgets, and tracks their cost.

    Threads may share a guard. Processes that use the same ledger share its caps.

    Args:
        ledger: the URL of the ledger, such as `sqlite:///spend.db` for a file in the working directory; by
            default, the value of the environment variable `KLING_PRICING_LEDGER`.
        budgets: the path of a budgets file, or `Budget` objects; by default, the ledger's budgets. The first
            guard on a ledger installs its budgets. Later guards must pass the same budgets or none. When
            `apply` installs a new revision, running guards adopt the revision at their next admission.
        book: the price tables to use; by default, the bundled ones and those in `KLING_PRICING_TABLES`.
        on_alert: called once for each `Alert`, after the commit, by the process that commits the change. If the
            process stops before the call, the journal still contains the alert. Exceptions that `on_alert`
            raises are logged and have no other effect.
        expires_after: how long a reservation waits for dispatch before its money is released.
        doubtful_after: how long a dispatched reservation waits for a task before it is in doubt.
        clock: returns the current instant with a time zone; by default, the system clock.
        actor: the name under which the ledger keeps administrative actions, such as `apply`; by default, the
            system's user.

    Raises:
        BudgetError: the budgets cannot be used, or differ from the installed ones.
        LedgerError: the ledger cannot be used.
    """

    def __init__(
        self,
        ledger: str | None = None,
        budgets: BudgetsLike | None = None,
        *,
        book: PriceBook | None = None,
        on_alert: Callable[[Alert], None] | None = None,
        expires_after: timedelta = EXPIRES_AFTER,
        doubtful_after: timedelta = DOUBTFUL_AFTER,
        clock: Callable[[], datetime] | None = None,
        actor: str | None = None,
    ) -> None:
        self._state = GuardState(ledger, budgets, book, on_alert, expires_after, doubtful_after, clock, actor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    @property
    def max_concurrency(self) -> int:
        """The maximum number of verbs that the ledger executes simultaneously; other verbs wait."""
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
        self._state.unpriced.write()
        self._state.refusals.write()
        self._state.ledger.close()

    # before a request is sent

    def admit(
        self,
        payload: RequestLike,
        *,
        project: str,
        key: str | None = None,
        labels: Mapping[str, str] | None = None,
        account: str | None = None,
        **options: Unpack[QuoteOptions],
    ) -> Admission:
        """Reserves the cost of a request in every matching budget, or refuses the request.

        If the budgets allow capping, a request that does not fit may be changed; see `Admission.changes`.
        A range is reserved at its maximum. Amounts are rounded up to the unit of the provider's statement.

        Args:
            payload: the request, as a mapping or as JSON text or bytes; it is not changed.
            project: the project that the request belongs to.
            key: the caller's name for the job, unique within the project. Admitting the same key again returns
                the same reservation while the job is unsent, starts a new attempt after a release, and never
                creates a second job. Without a key, each call is a separate job.
            labels: other labels that budgets may match.
            account: the account at the provider from which the request is sent, by your own name for it; by
                default, the provider's name. Its statements are reconciled separately.
            options: as for `quote`: provider, wire_format, media, allow_unknown, url.

        Raises:
            BudgetExceededError: the request does not fit; nothing was reserved. A later attempt may succeed.
            BudgetError: the quote's currency differs from a budget's, and there is no accounting rate.
            IdempotencyError: the key belongs to a different request.
            ReservationStateError: the key's job was already sent; the error carries the task id.
            LedgerUnavailableError: the ledger cannot be used, so nothing may be spent.
            KlingPricingError: the request is invalid or has no known price, as for `quote`.
        """
        return admissions.admit(self._state, payload, project, key, labels, account, options)

    def dispatch(self, admission: Admission) -> dict[str, Any]:
        """Hands out the payload to send, once. Only the caller that receives the payload may submit it.

        Raises:
            ReservationStateError: the payload was already handed out, the reservation was released or has
                expired, or a new price took effect, which releases it; admit the request again.
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
        account: str | None = None,
        **options: Unpack[QuoteOptions],
    ) -> dict[str, Any]:
        """Admits a request and returns the payload to send; raises the errors of `admit`.

        Pass a `key`, so that `history` can find the reservation that you bind to the task in the response.
        """
        return self.admit_and_dispatch(
            payload, project=project, key=key, labels=labels, account=account, **options
        )[1]

    def admit_and_dispatch(
        self,
        payload: RequestLike,
        *,
        project: str,
        key: str | None = None,
        labels: Mapping[str, str] | None = None,
        account: str | None = None,
        **options: Unpack[QuoteOptions],
    ) -> tuple[Admission, dict[str, Any]]:
        """Returns an admission and its payload, as `admit` and `dispatch` do, but in one transaction."""
        return dispatch.admit_and_dispatch(self._state, payload, project, key, labels, account, options)

    @contextmanager
    def admission(
        self,
        payload: RequestLike,
        *,
        project: str,
        key: str | None = None,
        labels: Mapping[str, str] | None = None,
        account: str | None = None,
        **options: Unpack[QuoteOptions],
    ) -> Iterator[Admission]:
        """Admits a request for the duration of a `with` block, and closes the admission when the block ends.

        If the request was not dispatched in the block, its reservation is released, unless the reservation
        already existed for the key. If the request was dispatched but is not bound to a task, and the block
        raises an exception, the reservation is marked in doubt, because the job may be running.
        """
        admitted = self.admit(payload, project=project, key=key, labels=labels, account=account, **options)
        try:
            yield admitted
        except BaseException as error:
            self.close_admission(admitted, error)
            raise
        self.close_admission(admitted)

    def close_admission(self, admitted: Admission, error: BaseException | None = None) -> None:
        """Closes an admission, as `admission` does at the end of its block.

        Args:
            admitted: the admission that `admit` returned.
            error: the exception that ended the block, if any; if the ledger fails now, it receives a note.
        """
        dispatch.close_admission(self._state, admitted, error)

    # after a request was sent

    def bind(self, ref: Reference, task_id: str) -> Reservation:
        """Binds a reservation to the provider's task, and applies earlier observations of it; may be repeated.

        Raises:
            ReservationStateError: the reservation was never dispatched or has another task, or the task has
                another reservation.
        """
        return settlement.bind(self._state, ref, task_id)

    def settle(
        self,
        ref: Reference,
        amount: Decimal | int | str | None = None,
        *,
        basis: Basis | None = None,
        reason: str | None = None,
    ) -> Reservation:
        """Records the cost of a job as spent, in place of the reserved amount.

        Args:
            ref: the reservation.
            amount: the amount charged, in the reservation's currency; None means the quoted amount.
            basis: the source of the amount: `quote`, `response`, `statement` or `operator`, from weakest to
                strongest. By default, `response` with an amount and `quote` without. A stronger basis replaces
                the amount of a weaker one; a weaker basis changes nothing.
            reason: the reason for a correction, which `log` shows with the guard's actor; None: it is not kept.

        Raises:
            ReservationStateError: the reservation was never dispatched, or its amount on this basis differs.
        """
        return settlement.settle(self._state, ref, amount, basis, reason)

    def settle_all(
        self, amounts: Mapping[str, Decimal | int | str], *, basis: Basis = "statement"
    ) -> dict[str, KlingPricingError]:
        """Records the costs of many jobs in one transaction, as `settle` does one by one, but much faster.

        Args:
            amounts: the id of each reservation -> the amount charged.
            basis: the source of all amounts.

        Returns:
            The reservations that the ledger refused, each with its error; the others are settled.
        """
        return settlement.settle_all(self._state, amounts, basis)

    def release(self, ref: Reference, reason: str = "released") -> Reservation:
        """Releases the money of a request that was not sent. Repeating the call changes nothing.

        Raises:
            ReservationStateError: the request was dispatched, so the job may be running.
        """
        return settlement.release(self._state, ref, reason)

    def release_expired(self) -> int:
        """Releases the reservations that have expired, and returns their number.

        Their money counts as available from their deadline on, whether or not this is called.
        """
        return self._state.ledger.expire()

    def release_refused(self, ref: Reference, reason: str = "refused by the provider") -> Reservation:
        """Releases the money of a request that the provider definitely refused.

        Do not call it after a timeout or a 5xx response, because the job may be running; call `mark_in_doubt`.

        Raises:
            ReservationStateError: the reservation has a task, so the provider accepted the request; or it was
                marked in doubt, so the provider may have accepted the request in another response.
        """
        return settlement.release_refused(self._state, ref, reason)

    def mark_in_doubt(self, ref: Reference, reason: str) -> Reservation:
        """Records that it is unknown whether the provider accepted a request. The money stays reserved."""
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

        The response applies to the reservation at once or as soon as the task is bound. A finished task settles
        at the exact sum of the charge in the response, or is in doubt if the charge cannot be converted to the
        reservation's currency. Without a charge, it settles at the quote or the price of the stated facts.

        Args:
            body: the response, as a mapping or as JSON text or bytes.
            provider: the provider that sent the response.
            reservation: the reservation to bind to the task, if the task is not bound yet.
            wire_format: the wire format of the response; by default, the reservation's format, or else the
                provider's first format in which the body names a task.

        Returns:
            The updated reservation; None if the response does not list exactly one task of a reservation.

        Raises:
            WireFormatError: the body cannot be read or does not name a task.
            PriceNotFoundError: the provider is unknown.
        """
        return settlement.observe(self._state, body, provider, reservation, wire_format)

    def observe_task(
        self, task: Task, *, provider: str, reservation: Reference | None = None
    ) -> Reservation | None:
        """Records a response that was already parsed, as `observe` does; for hooks.

        Raises:
            WireFormatError: neither the response nor the reservation names a task.
        """
        return settlement.observe_task(self._state, task, provider, reservation)

    def resolve(
        self,
        ref: Reference,
        outcome: Literal["charged", "not_charged"],
        *,
        amount: Decimal | int | str | None = None,
        reason: str | None = None,
    ) -> Reservation:
        """Records the outcome of a job that was sent, after a person looked up the job at the provider.

        A settled reservation does not change, because the person may have seen an earlier state.

        Args:
            ref: the reservation.
            outcome: `charged` settles the reservation, and `not_charged` releases its money.
            amount: the amount charged; None means the quoted amount.
            reason: how the person knows it; None: it is not kept.

        Raises:
            ReservationStateError: the reservation was never dispatched, or was settled differently.
        """
        return settlement.resolve(self._state, ref, outcome, amount, reason)

    def record(
        self,
        provider: str,
        task_id: str,
        amount: Decimal | int | str,
        *,
        labels: Mapping[str, str],
        at: datetime | None = None,
        currency: str | None = None,
        account: str | None = None,
        reason: str | None = None,
    ) -> Reservation:
        """Records spend that did not go through the guard, even above the caps; may be repeated.

        Args:
            provider: the provider that billed.
            task_id: the provider's id for the task.
            amount: the amount charged.
            labels: the labels that budgets may match, including the project.
            at: the instant of the spend, with a time zone; by default, now.
            currency: the currency of the amount; by default, the provider's currency.
            account: the account at the provider that was charged; by default, the provider's name.
            reason: the reason, which `log` shows with the guard's actor; None: it is not kept.

        Raises:
            IdempotencyError: the task is already in the ledger with a different amount, currency, account or
                labels.
        """
        return budget_changes.record(
            self._state, provider, task_id, amount, labels, at, currency, account, reason
        )

    def unpriced(self, *, since: date | None = None, until: date | None = None) -> list[UnpricedRequests]:
        """Returns the numbers of requests that passed without a price, by day: from `since`, before `until`."""
        self._state.unpriced.write()
        return self._state.ledger.unpriced(since, until)

    def count_unpriced(self, provider: str, path: str) -> None:
        """Counts a request that a hook let pass without a price, in memory first; see `unpriced`."""
        self._state.unpriced.add(provider, path)
