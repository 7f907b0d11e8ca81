"""The guard: no project spends past its cap.

A job's money is set aside before it is submitted, in one transaction with the question whether there is any
left, so that no burst of requests can read the same "still below the cap" and all pass.
Then the payload is given out once, to one caller; and what the provider says of the task settles the rest.

::

    admit -> dispatch -> (submit it) -> bind -> settle, or release
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Literal, NamedTuple, Self, TypedDict, TypeVar, Unpack
from uuid import uuid4

from kling_pricing.answers import read_answer, read_task
from kling_pricing.arguments import countable, in_utc, own_copy, utc_clock
from kling_pricing.budgets import EACH, BudgetsFile, BudgetsLike, budgets_from_document, read_budgets
from kling_pricing.errors import (
    BudgetError,
    KlingPricingError,
    LedgerError,
    LedgerUnavailableError,
    ReservationNotFoundError,
    ReservationStateError,
    WireFormatError,
)
from kling_pricing.findings import shown
from kling_pricing.fingerprint import fingerprint
from kling_pricing.intake import RequestLike
from kling_pricing.ledger import Ledger, connect
from kling_pricing.ledger.claims import claim, claims
from kling_pricing.ledger.keeping import checked_labels, currency_code, kept_reason, observation, short_text
from kling_pricing.ledger.records import (
    BASES,
    Alert,
    Basis,
    Bucket,
    Change,
    Entry,
    Mistimed,
    Observation,
    Outdated,
    Ref,
    Refused,
    Reservation,
    Reserved,
    Revision,
)
from kling_pricing.media import MediaLike
from kling_pricing.money import nanos_up, plain
from kling_pricing.orders import booking, candidate, exceeded, limits, order
from kling_pricing.price_table import PriceBook
from kling_pricing.quotes import Quote
from kling_pricing.quoting import quote
from kling_pricing.variants import Cheaper, Reading, cheaper
from kling_pricing.wire import wire_format as wire_format_named

_log = logging.getLogger(__name__)

EXPIRES_AFTER = timedelta(minutes=15)
"""How long a reservation waits to be dispatched: it is certainly unsent, so its money is given back then."""

DOUBTFUL_AFTER = timedelta(minutes=5)
"""How long after its dispatch a reservation without a task is in doubt. That frees no money by itself."""


_MOST_ROUNDS = 5
"""How often a request is made anew because the ledger's budgets or windows had gone on."""

_Made = TypeVar("_Made")


class Said(TypedDict, total=False):
    """What may be said beside a payload, as for `quote`."""

    provider: str | None
    wire_format: str | None
    media: MediaLike | None
    allow_unknown: bool
    url: str | None


@dataclass(frozen=True, slots=True)
class Admission:
    """Leave to submit one request: its money is set aside.

    What to send comes from `BudgetGuard.dispatch` alone, which gives it out once.

    Attributes:
        reservation: the money set aside, as the ledger had it when the request was admitted.
        quote: what the request, as it will be sent, is expected to cost.
        replayed: whether the key had this reservation before.
    """

    reservation: Reservation
    quote: Quote
    replayed: bool
    _payload: Mapping[str, Any]
    _given_out: list[bool] = field(default_factory=list)

    def __repr__(self) -> str:
        return (
            f"Admission({self.reservation_id}: {plain(self.reservation.reserved)} {self.quote.currency} for "
            f"{self.quote.model}, changes {dict(self.changes)})"
        )

    @property
    def reservation_id(self) -> str:
        """The ledger's name for the reservation."""
        return self.reservation.id

    @property
    def changes(self) -> Mapping[str, Any]:
        """What was changed to make the request fit, setting -> new value; empty: nothing."""
        return self.reservation.changes

    @property
    def capped(self) -> bool:
        """Whether anything was changed."""
        return bool(self.changes)


Reference = Admission | Reservation | Ref
"""Which reservation: its admission, itself, its id, or the provider and its task id."""


class BudgetGuard:
    """Holds requests against budgets, and keeps count of what they cost.

    Safe to share between threads; processes that name the same ledger share its caps.

    Args:
        ledger: where the count is kept: `sqlite:///spend.db` is a file of the working folder.
        budgets: a file of budgets, or `Budget`s; by default those that the ledger has. The first guard of a
            ledger installs them; later ones must bring the same, or none. A later revision, which
            `apply` installs, is taken up by running guards with their next admission.
        book: the price tables to use; by default the bundled ones and those of `KLING_PRICING_TABLES`.
        on_alert: called once for each threshold of each bucket that is reached, whichever process reaches
            it, and for each bill above what was reserved. It is called after the money has moved, in the
            process that moved it; if that process dies in between, the journal still has the alert. What it
            raises is logged, and changes nothing.
        expires_after: how long a reservation waits for its dispatch before its money is given back.
        doubtful_after: how long after its dispatch a reservation without a task is in doubt.
        clock: tells the instant, with a time zone.

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
        if book is None:
            from kling_pricing.tables import default_price_book  # noqa: PLC0415 (reading YAML is slow)

            book = default_price_book()
        self._book = book
        self._clock = utc_clock(clock)
        self._on_alert = on_alert
        self._expires_after = expires_after
        self._doubtful_after = doubtful_after
        times: dict[str, Any] = {"expires_after": expires_after, "doubtful_after": doubtful_after}
        for name, time in times.items():
            if not isinstance(time, timedelta) or time <= timedelta(0):
                raise KlingPricingError(f"{name} must be a timedelta above zero, got {shown(time)}")
        self._ledger: Ledger = connect(ledger, clock=self._clock)
        self._in_force = _installed(self._ledger, budgets)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    # before the request is sent

    def admit(
        self,
        payload: RequestLike,
        *,
        project: str,
        key: str | None = None,
        labels: Mapping[str, str] | None = None,
        **said: Unpack[Said],
    ) -> Admission:
        """Sets aside what a request will cost, in every budget that matches it, or refuses it.

        Where a budget caps, a request that does not fit may be changed: see `Admission.changes`.
        A range is reserved at its maximum; amounts are rounded up to what the provider's statement can show.

        Args:
            payload: the request, as a mapping or as JSON text or bytes; it is not changed.
            project: whose request it is.
            key: the caller's name for the job, unique in its project. Admitting it again gives the same
                reservation while it is unsent, a new attempt after a release, and never a second job.
                By default each call is a job of its own.
            labels: what else budgets may match.
            said: as for `quote`: provider, wire_format, media, allow_unknown, url.

        Raises:
            BudgetExceededError: it does not fit; nothing was set aside, and a later try may succeed.
            BudgetError: a budget counts in another currency than the quote.
            IdempotencyError: the key stands for another request.
            ReservationStateError: the key's job was sent already; it carries the task.
            LedgerUnavailableError: the ledger cannot be used, so nothing may be spent.
            KlingPricingError: as for `quote`: the request is not valid, or its price is not known.
        """
        body = own_copy(payload)
        named = checked_labels(project, labels)
        named_key = uuid4().hex if key is None else short_text("key", key)
        for _ in range(_MOST_ROUNDS):
            now = self._clock()
            try:
                original = quote(body, at=now, book=self._book, **said)
            except KlingPricingError:
                if key is not None:
                    self._refuse_what_was_sent(project, key)
                raise
            answer, options = self._reserve(body, original, project, named_key, named, said, now)
            if isinstance(answer, Reserved):
                self._tell(answer.alerts)
                return self._admission(answer, body, options, said)
            if isinstance(answer, Outdated):
                self._in_force = _InForce.of(answer.revision)
                reason = "the ledger's budgets change faster than a request can be reserved; try again"
            else:
                reason = (
                    f"the clock here says {now.isoformat()}, the ledger's {answer.now.isoformat()}, when other "
                    "windows or prices hold; set the clock of this machine"
                )
        raise LedgerUnavailableError(reason)

    def _reserve(
        self,
        body: Mapping[str, Any],
        original: Quote,
        project: str,
        key: str,
        labels: Mapping[str, str],
        said: Said,
        now: datetime,
    ) -> tuple[Reserved | Outdated | Mistimed, list[Cheaper]]:
        """Reserves a request as it is, or else the best variant that fits.

        Returns:
            The ledger's answer, and the requests among which it chose.

        Raises:
            BudgetExceededError: nothing fits.
        """
        in_force, wanted = self._by_budgets(
            lambda by: order(
                original,
                project=project,
                key=key,
                mark=fingerprint(
                    body,
                    original.provider,
                    original.wire_format,
                    [each.url for each, _ in original.request.media],
                ),
                labels=labels,
                budgets=by.budgets,
                revision=by.digest,
                at=now,
                priced_until=self._book.next_change(original.provider, now),
            )
        )
        options = [Cheaper({}, body, original)]
        answer = self._ledger.reserve(
            wanted, [candidate(original, {}, wanted)], expires_after=self._expires_after
        )
        if isinstance(answer, Refused) and answer.may_be_capped:
            reading = Reading(
                self._book,
                original.wire_format,
                said.get("media"),
                said.get("allow_unknown", False),
                said.get("url"),
            )
            options += cheaper(body, original, limits(in_force.budgets, labels), reading, now)
            candidates = [candidate(each.quote, each.changes, wanted) for each in options]
            answer = self._ledger.reserve(wanted, candidates, expires_after=self._expires_after)
        if isinstance(answer, Refused):
            variants = [candidate(each.quote, each.changes, wanted) for each in options[1:]]
            cheapest = min(variants, key=lambda each: each.expected, default=None)
            raise exceeded(answer, original, wanted, cheapest)
        return answer, options

    def dispatch(self, admission: Admission) -> dict[str, Any]:
        """Gives out the payload to send, once: the caller that gets it, and no other, is to submit it.

        Raises:
            ReservationStateError: it was given out before, is released, has expired, or another price came into
                force since; then it is released now, and can be admitted again.
            LedgerUnavailableError: the ledger cannot be used, so nothing may be sent.
        """
        changes = self._book.next_change(admission.quote.provider, admission.reservation.created_at)
        if changes is not None and changes <= self._clock():
            found = self.release(admission, "another price came into force")
            raise ReservationStateError(
                f"reservation {found.id} was quoted before another price came into force; admit it again",
                reservation_id=found.id,
                state=found.state,
            )
        self._ledger.dispatch(admission.reservation_id, doubtful_after=self._doubtful_after)
        admission._given_out.append(True)  # noqa: SLF001 (its only writer)
        return dict(admission._payload)  # noqa: SLF001 (its only reader)

    def pre_submit(
        self,
        payload: RequestLike,
        *,
        project: str,
        key: str | None = None,
        labels: Mapping[str, str] | None = None,
        **said: Unpack[Said],
    ) -> dict[str, Any]:
        """The smallest hook: admits a request and gives out what to send, or raises as `admit` does.

        Give a `key`: by it `history` finds the reservation, which is to be bound to the task of the answer.
        """
        return self.dispatch(self.admit(payload, project=project, key=key, labels=labels, **said))

    @contextmanager
    def admission(
        self,
        payload: RequestLike,
        *,
        project: str,
        key: str | None = None,
        labels: Mapping[str, str] | None = None,
        **said: Unpack[Said],
    ) -> Iterator[Admission]:
        """Admits a request for the length of a `with` block, and leaves nothing unsaid when the block ends.

        What was not dispatched by then is released. What was dispatched in the block when an exception leaves
        it, and is not bound to a task, is in doubt: it may be running. A reservation that the key had before is
        left to whoever made it.
        """
        admitted = self.admit(payload, project=project, key=key, labels=labels, **said)
        try:
            yield admitted
        except BaseException as error:
            self.leave(admitted, error)
            raise
        self.leave(admitted)

    def leave(self, admitted: Admission, error: BaseException | None = None) -> None:
        """Ends an admission as `admission` does at the end of its block.

        Args:
            admitted: what `admit` gave.
            error: the exception that ended the work, if one did; should the ledger fail now, it gets a note.
        """
        sent = bool(admitted._given_out)  # noqa: SLF001 (its only reader)
        try:
            if sent and error is not None:
                self.mark_in_doubt(admitted, type(error).__name__)
            elif not sent and not admitted.replayed:
                with suppress(ReservationStateError):  # somebody else dispatched it meanwhile
                    self.release(admitted, "not dispatched" if error is None else type(error).__name__)
        except KlingPricingError as failure:
            if error is None:
                raise
            error.add_note(f"and its reservation {admitted.reservation_id} is as it was: {failure}")

    # after it was sent

    def bind(self, ref: Reference, task_id: str) -> Reservation:
        """Notes the task that the provider made of a request, and applies what was observed of it before.

        Repeating it changes nothing.

        Raises:
            ReservationStateError: it was never dispatched, has another task, or the task another reservation.
        """
        return self._told(self._ledger.bind(_ref(ref), short_text("task_id", task_id)))

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
        charged = None if amount is None else countable(amount)
        grounds: Basis = basis or ("quote" if charged is None else "response")
        return self._told(self._ledger.settle(_ref(ref), charged, grounds))

    def release(self, ref: Reference, reason: str = "released") -> Reservation:
        """Gives back what was set aside for a request that was not sent. Repeating it changes nothing.

        Raises:
            ReservationStateError: it was dispatched; it may be running.
        """
        return self._ledger.release(_ref(ref), kept_reason(reason), states=("reserved",))

    def refused(self, ref: Reference, reason: str = "refused by the provider") -> Reservation:
        """Gives back what was set aside for a request that the provider definitely did not accept.

        Not for a timeout or a 5xx answer, after which the job may be running: see `mark_in_doubt`.

        Raises:
            ReservationStateError: it has a task, so it was accepted.
        """
        return self._ledger.release(_ref(ref), kept_reason(reason), states=("reserved", "dispatching"))

    def mark_in_doubt(self, ref: Reference, reason: str) -> Reservation:
        """Notes that nobody knows whether the provider has what was sent. The money stays set aside."""
        return self._ledger.doubt(_ref(ref), kept_reason(reason))

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

    def resolve(
        self,
        ref: Reference,
        outcome: Literal["charged", "not_charged"],
        *,
        amount: Decimal | int | str | None = None,
    ) -> Reservation:
        """Decides what became of a job that was sent, on the word of a person who looked it up.

        Args:
            ref: the reservation.
            outcome: `charged` settles it, `not_charged` gives the money back.
            amount: what was charged; None: what was quoted.

        Raises:
            ReservationStateError: it was never dispatched, or is settled and said to be not charged.
        """
        if outcome == "charged":
            return self.settle(ref, amount, basis="operator")
        if outcome != "not_charged":
            raise KlingPricingError(f"outcome must be 'charged' or 'not_charged', got {outcome!r}")
        return self._ledger.release(
            _ref(ref), "not charged, says the operator", states=("dispatching", "bound")
        )

    # spend that did not come this way

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
        """Books spend that was made elsewhere, whatever the caps say. Repeating it changes nothing.

        Args:
            provider: who billed.
            task_id: its name for the task.
            amount: what was charged.
            labels: what budgets may match, the project among them.
            at: when it was spent, with a time zone; by default now.
            currency: of the amount; by default the provider's.

        Raises:
            IdempotencyError: the task is in the ledger with something else.
        """
        when = self._clock() if at is None else in_utc(at)
        if not isinstance(labels, Mapping):
            raise KlingPricingError(f"labels must be a mapping with the project, got {shown(labels)}")
        named = checked_labels(labels.get("project", ""), labels)
        charged = countable(amount)
        provider, task_id = short_text("provider", provider), short_text("task_id", task_id)
        counted_in = currency_code(currency or self._book.table(provider, when).currency)
        for _ in range(_MOST_ROUNDS):
            in_force, claimed = self._by_budgets(lambda by: claims(by.budgets, named, counted_in, when))
            booked, spent = booking(
                provider, task_id, charged, counted_in, labels=named, claimed=claimed, revision=in_force.digest
            )
            answer = self._ledger.record(booked, spent, task_id, when)
            if not isinstance(answer, Outdated):
                return self._told(answer)
            self._in_force = _InForce.of(answer.revision)
        raise LedgerUnavailableError("the ledger's budgets change faster than spend can be booked; try again")

    def open_budget(
        self, budget: str, spent: Decimal | int | str, *, labels: Mapping[str, str] | None = None
    ) -> None:
        """Counts what a budget's current window had spent before the ledger knew of it, once a window.

        Args:
            budget: its name.
            spent: in its currency.
            labels: of the bucket, where each value of a label has one of its own.

        Raises:
            BudgetError: there is no such budget, or it does not match the labels.
            IdempotencyError: this window has its opening balance already.
        """
        budgets = self._newest().budgets
        found = next((each for each in budgets.budgets if each.name == budget), None)
        if found is None:
            known = ", ".join(each.name for each in budgets.budgets)
            raise BudgetError(f"there is no budget {budget}; there are: {known}")
        own = [label for label, wanted in found.match.items() if wanted == EACH]
        if sorted(own) != sorted(labels or {}):
            needed = ", ".join(own) or "none"
            raise BudgetError(f"the buckets of budget {budget} are told apart by labels: {needed}; give those")
        now = self._clock()
        if found.period(now) is None:
            raise BudgetError(f"budget {budget} has no window that is open now")
        bucket = {label: short_text(f"label {label}", value) for label, value in (labels or {}).items()}
        opened = claim(found, bucket, None, now)
        self._tell(self._ledger.open_bucket(opened, nanos_up(countable(spent))))

    def apply(self, budgets: BudgetsLike) -> BudgetsFile:
        """Installs budgets in place of those of the ledger: what an administrator does.

        Balances stay. Caps, limits, alerts and floors may change freely; a budget whose match, window, zone or
        currency changes needs another name, or `carry_over: true`: then its buckets count what the ledger
        holds already.

        Raises:
            BudgetError: the budgets cannot be used in place of those installed; nothing has changed.
        """
        self._tell(self._ledger.apply(read_budgets(budgets)))
        return self._newest().budgets

    # looking

    def reservation(self, ref: Reference) -> Reservation:
        """One reservation as it stands now."""
        return self._ledger.reservation(_ref(ref))

    def in_doubt(self) -> list[Reservation]:
        """What was dispatched, and nobody knows whether the provider has it; the oldest first."""
        return self._ledger.reservations(in_doubt=True)

    def unmatched(self) -> list[Observation]:
        """What was observed of tasks that belong to no reservation."""
        return self._ledger.unmatched()

    def history(
        self,
        *,
        project: str | None = None,
        key: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> list[Reservation]:
        """Reservations made from `since` on and before `until`, the oldest first."""
        start, end = (None if each is None else in_utc(each) for each in (since, until))
        return self._ledger.reservations(project=project, key=key, since=start, until=end)

    def journal(self) -> list[Entry]:
        """Everything that ever moved money, or might have, the oldest first."""
        return self._ledger.journal()

    def status(self, at: datetime | None = None) -> list[Bucket]:
        """What each budget has left in its window; of one with `*`, each bucket that has been used.

        Args:
            at: an instant in the window, with a time zone; by default now.
        """
        now = self._clock() if at is None else in_utc(at)
        used = self._ledger.buckets(now)
        rows: list[Bucket] = []
        for budget in self._newest().budgets.budgets:
            buckets = [
                found for name, found in used if (found.budget, name) == (budget.name, budget.definition)
            ]
            period = budget.period(now)
            if not buckets and period is not None and EACH not in budget.match.values():
                none = Decimal(0)
                buckets = [
                    Bucket(budget.name, {}, budget.cap, none, none, budget.cap, budget.currency, *period)
                ]
            rows += buckets
        return rows

    def verify(self) -> None:
        """Derives every balance from the journal once more.

        Raises:
            LedgerError: something differs; it says what.
        """
        self._ledger.verify()

    def close(self) -> None:
        """Closes the ledger; the next use opens it again."""
        self._ledger.close()

    # inside

    def _admission(
        self, answer: Reserved, body: Mapping[str, Any], options: list[Cheaper], said: Said
    ) -> Admission:
        """The admission of a reservation: what to send is the payload with the changes that it keeps."""
        reserved = answer.reservation
        chosen = next((each for each in options if each.changes == reserved.changes), None)
        if answer.replayed or chosen is None:
            given: Said = {**said, "provider": reserved.provider, "wire_format": reserved.wire_format}
            payload = wire_format_named(reserved.wire_format).amend(body, reserved.changes)
            quoted = quote(payload, at=reserved.created_at, book=self._book, **given)
            chosen = Cheaper(reserved.changes, payload, quoted)
        if chosen.quote.maximum > reserved.reserved:
            raise LedgerError(
                f"reservation {reserved.id} was made when the request cost less; release it, and admit it again"
            )
        return Admission(reserved, chosen.quote, answer.replayed, chosen.payload)

    def _refuse_what_was_sent(self, project: str, key: str) -> None:
        """Tells that a key's job was sent: that matters more than that it could not be quoted again."""
        for found in self.history(project=project, key=key)[-1:]:
            if found.state not in {"reserved", "released"}:
                raise ReservationStateError(
                    f"key {key!r} was used for reservation {found.id}, which is {found.state}",
                    reservation_id=found.id,
                    state=found.state,
                    task_id=found.task_id,
                )

    def _by_budgets(self, make: Callable[[_InForce], _Made]) -> tuple[_InForce, _Made]:
        """What is made by the budgets known here; if those will not do, by those of the ledger."""
        known = self._in_force
        try:
            return known, make(known)
        except BudgetError:
            newest = self._newest()
            if newest.digest == known.digest:
                raise
            return newest, make(newest)

    def _newest(self) -> _InForce:
        """The budgets that the ledger has now."""
        revision = self._ledger.installed()
        if revision is not None and revision.digest != self._in_force.digest:
            self._in_force = _InForce.of(revision)
        return self._in_force

    def _format_of(self, provider: str, task_id: str) -> str | None:
        """The format of a task's reservation; None: it has none."""
        try:
            return self.reservation((provider, task_id)).wire_format or None
        except ReservationNotFoundError:
            return None

    def _told(self, change: Change) -> Reservation:
        self._tell(change.alerts)
        return change.reservation

    def _tell(self, alerts: tuple[Alert, ...]) -> None:
        if self._on_alert is None:
            return
        for alert in alerts:
            try:
                self._on_alert(alert)
            except Exception:  # noqa: BLE001 (the money has moved; the caller must learn of that, not of this)
                _log.exception("on_alert failed for budget %s", alert.budget)


def apply_budgets(ledger: str, budgets: BudgetsLike) -> BudgetsFile:
    """Installs budgets in a ledger, empty or not, as `BudgetGuard.apply` does; returns them.

    Raises:
        BudgetError: the budgets cannot be used, or not in place of those installed; nothing has changed.
        LedgerError: the ledger cannot be used.
    """
    read = read_budgets(budgets)
    store = connect(ledger, clock=utc_clock(None))
    store.apply(read)
    store.close()
    return read


class _InForce(NamedTuple):
    """Budgets, and the digest by which the ledger knows them."""

    budgets: BudgetsFile
    digest: str

    @classmethod
    def of(cls, revision: Revision) -> _InForce:
        return cls(budgets_from_document(revision.document), revision.digest)


def _installed(ledger: Ledger, budgets: BudgetsLike | None) -> _InForce:
    """The budgets of a ledger, installed now if it has none.

    Raises:
        BudgetError: it has none and none are given, or it has others.
    """
    if budgets is None:
        revision = ledger.installed()
        if revision is None:
            raise BudgetError(
                "the ledger has no budgets yet; is it the right one? To begin it, open it with budgets, or use "
                "`kling-pricing budget apply FILE`"
            )
        return _InForce.of(revision)
    given = read_budgets(budgets)
    installed = _InForce.of(ledger.install(given))
    if installed.budgets.digest != given.digest:
        raise BudgetError(
            "the ledger has other budgets than those given; open it without budgets, "
            "or have an administrator install yours with `kling-pricing budget apply`"
        )
    return installed


def _ref(ref: Reference) -> Ref:
    if isinstance(ref, Admission):
        return ref.reservation_id
    if isinstance(ref, Reservation):
        return ref.id
    if isinstance(ref, str):
        return short_text("reservation", ref)
    try:
        provider, task_id = ref
    except (TypeError, ValueError):
        raise KlingPricingError(
            "a reservation is named by its admission, itself, its id, or (provider, task id), got "
            f"{type(ref).__name__}"
        ) from None
    return short_text("provider", provider), short_text("task_id", task_id)
