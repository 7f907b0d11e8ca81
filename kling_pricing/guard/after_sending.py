"""After a request was sent: which task it became, and what that cost."""

from __future__ import annotations

from decimal import Decimal
from typing import Literal

from kling_pricing.display import shown
from kling_pricing.errors import KlingPricingError, ReservationNotFoundError, WireFormatError
from kling_pricing.guard.admissions import Reference, ref_of
from kling_pricing.guard.looking import Looking
from kling_pricing.guard.responses import read_answer, read_task
from kling_pricing.ledger.errors import settled_already
from kling_pricing.ledger.model import BASES, DOUBTED, Basis, Reservation
from kling_pricing.ledger.redaction import kept_reason, observation, short_text
from kling_pricing.money import ledger_amount
from kling_pricing.strict_json import RequestLike
from kling_pricing.wire.task import Task


class AfterSending(Looking):
    """The verbs from a task to its settlement; see `BudgetGuard`."""

    def bind(self, ref: Reference, task_id: str) -> Reservation:
        """Notes the task that the provider made of a request, and applies what was observed of it before.

        Repeating it changes nothing.

        Raises:
            ReservationStateError: it was never dispatched, has another task, or the task another reservation.
        """
        return self._told(self._ledger.bind(ref_of(ref), short_text("task_id", task_id)))

    def settle(
        self, ref: Reference, amount: Decimal | int | str | None = None, *, basis: Basis | None = None
    ) -> Reservation:
        """Spends what a job cost, in place of what was set aside.

        Args:
            ref: the reservation.
            amount: what was charged, in the reservation's currency; None: what was quoted.
            basis: what the amount rests on, `quote`, `response`, `statement` or `operator`, from the weakest to
                the strongest; by default `response` for an amount, `quote` for none. A stronger basis
                replaces the amount of a weaker; a weaker changes nothing.

        Raises:
            ReservationStateError: it was never dispatched, or another amount stands on the same basis.
        """
        if basis is not None and basis not in BASES:
            raise KlingPricingError(f"basis must be one of {', '.join(BASES)}, got {shown(basis)}")
        charged = None if amount is None else ledger_amount(amount)
        grounds: Basis = basis or ("quote" if charged is None else "response")
        return self._told(self._ledger.settle(ref_of(ref), charged, grounds))

    def release(self, ref: Reference, reason: str = "released") -> Reservation:
        """Gives back what was set aside for a request that was not sent. Repeating it changes nothing.

        Raises:
            ReservationStateError: it was dispatched; it may be running.
        """
        return self._ledger.release(ref_of(ref), kept_reason(reason), states=("reserved",))

    def release_refused(self, ref: Reference, reason: str = "refused by the provider") -> Reservation:
        """Gives back what was set aside for a request that the provider definitely did not accept.

        Not for a timeout or a 5xx answer, after which the job may be running: see `mark_in_doubt`.

        Raises:
            ReservationStateError: it has a task, so it was accepted; or it was marked in doubt, and another
                answer than the one at hand may have accepted it.
        """
        return self._ledger.release(ref_of(ref), kept_reason(reason), states=("reserved", "dispatching"))

    def mark_in_doubt(self, ref: Reference, reason: str) -> Reservation:
        """Notes that nobody knows whether the provider has what was sent. The money stays set aside."""
        return self._ledger.doubt(ref_of(ref), kept_reason(reason))

    def observe(
        self,
        body: RequestLike,
        *,
        provider: str,
        reservation: Reference | None = None,
        wire_format: str | None = None,
    ) -> Reservation | None:
        """Takes in a submit or status response, or the body of a callback.

        It is remembered, and applied to its reservation: at once, or as soon as the task is bound. A finished
        task settles it at the charge that is stated, else at the quote; a failed or cancelled one does what the
        provider's price table says. Repeating it changes nothing.

        Args:
            body: as a mapping, or as JSON text or bytes.
            provider: who answered.
            reservation: of which reservation, where the task is not bound to one yet; it is bound then.
            wire_format: the API's; by default the reservation's, or one of the provider's in which the body
                names a task.

        Returns:
            The reservation as it now stands; None: nobody knows yet whose task it is.

        Raises:
            WireFormatError: the body cannot be read, or names no task.
            PriceNotFoundError: the provider is unknown.
        """
        answer = read_answer(body)
        provider = short_text("provider", provider)
        known = None if reservation is None else self.reservation(reservation)
        said_format = wire_format or (known.wire_format if known else None)
        task = read_task(answer, provider, self._book, said_format, of_a_reservation=self._format_of)
        task_id = task.task_id or (known.task_id if known else None)
        if task_id is None:
            raise WireFormatError(
                "the answer names no task; if it is a definite refusal, release the reservation as refused, "
                "otherwise leave it in doubt"
            )
        seen = observation(task, provider, short_text("task_id", task_id), self._clock())
        change = self._ledger.observe(seen, None if known is None else known.id)
        return None if change is None else self._told(change)

    def observe_task(self, task: Task, reservation: Reservation) -> Reservation | None:
        """Observes an answer that is already parsed, for a reservation that is already read; see `observe`.

        Raises:
            ReservationStateError: the answer names another task than the reservation's.
        """
        task_id = short_text("task_id", task.task_id)
        seen = observation(task, reservation.provider, task_id, self._clock())
        change = self._ledger.observe(seen, reservation.id)
        return None if change is None else self._told(change)

    def resolve(
        self,
        ref: Reference,
        outcome: Literal["charged", "not_charged"],
        *,
        amount: Decimal | int | str | None = None,
    ) -> Reservation:
        """Decides what became of a job that was sent, on the word of a person who looked it up.

        What is settled stays as it is: the word might be meant for what it was before.

        Args:
            ref: the reservation.
            outcome: `charged` settles it, `not_charged` gives the money back.
            amount: what was charged; None: what was quoted.

        Raises:
            ReservationStateError: it was never dispatched, or is settled at another amount, or is settled and
                said to be not charged.
        """
        if outcome == "charged":
            found = self.reservation(ref)
            if found.state != "settled":
                return self.settle(ref, amount, basis="operator")
            if amount is not None and ledger_amount(amount) != found.billed:
                raise settled_already(found, ledger_amount(amount))
            return found
        if outcome != "not_charged":
            raise KlingPricingError(f"outcome must be 'charged' or 'not_charged', got {outcome!r}")
        return self._ledger.release(
            ref_of(ref), "not charged, says the operator", states=("dispatching", DOUBTED, "bound")
        )

    def _format_of(self, provider: str, task_id: str) -> str | None:
        """The format of a task's reservation; None: it has none."""
        try:
            return self.reservation((provider, task_id)).wire_format or None
        except ReservationNotFoundError:
            return None
