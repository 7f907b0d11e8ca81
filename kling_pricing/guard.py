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
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Literal, TypedDict, TypeVar, Unpack
from uuid import uuid4

from kling_pricing.budgets import EACH, BudgetsFile, BudgetsLike, budgets_from_document, read_budgets
from kling_pricing.errors import (
    BudgetError,
    KlingPricingError,
    LedgerError,
    PriceNotFoundError,
    WireFormatError,
)
from kling_pricing.findings import shown
from kling_pricing.fingerprint import fingerprint
from kling_pricing.intake import EXACT_JSON, RequestLike, as_object, instant, json_value, read_payload
from kling_pricing.ledger import Ledger, connect
from kling_pricing.ledger.claims import claim, claims
from kling_pricing.ledger.records import (
    BASES,
    Alert,
    Basis,
    Bucket,
    Candidate,
    Change,
    Entry,
    Observation,
    Order,
    Outdated,
    Ref,
    Refused,
    Reservation,
    Reserved,
)
from kling_pricing.media import MediaLike
from kling_pricing.money import MAX_NANOS, NANOS, exact_amount, nanos_up, plain
from kling_pricing.orders import amounts, candidate, checked_labels, exceeded, limits, order, short_text
from kling_pricing.price_table import PriceBook
from kling_pricing.quotes import Quote
from kling_pricing.quoting import quote
from kling_pricing.variants import Reading, cheaper
from kling_pricing.wire import wire_format as wire_format_named

_log = logging.getLogger(__name__)

EXPIRES_AFTER = timedelta(minutes=15)
"""How long a reservation waits to be dispatched: it is certainly unsent, so its money is given back then."""

DOUBTFUL_AFTER = timedelta(minutes=5)
"""How long after its dispatch a reservation without a task is in doubt. That frees no money by itself."""


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
    _payload: Mapping[str, Any] = field(repr=False)

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


Reference = Admission | Ref
"""Which reservation: its admission, its id, or the provider and its task id."""


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
        self._clock = _utc_clock(clock)
        self._on_alert = on_alert
        self._expires_after = expires_after
        self._doubtful_after = doubtful_after
        self._ledger: Ledger = connect(ledger, clock=self._clock)
        self._budgets = _installed(self._ledger, budgets)

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
        body = _own_copy(read_payload(payload))
        named = checked_labels(project, labels)
        key = uuid4().hex if key is None else short_text("key", key)
        now = self._clock()
        original = quote(body, at=now, book=self._book, **said)
        mark = fingerprint(body, original.provider, original.wire_format)
        while True:
            budgets, wanted = self._by_budgets(
                lambda by: order(
                    original, project=project, key=key, fingerprint=mark, labels=named, budgets=by, at=now
                )
            )
            candidates = [candidate(original, {}, wanted)]
            answer = self._ledger.reserve(wanted, candidates, expires_after=self._expires_after)
            if isinstance(answer, Refused) and answer.may_be_capped:
                reading = Reading(
                    self._book,
                    original.wire_format,
                    said.get("media"),
                    said.get("allow_unknown", False),
                    said.get("url"),
                )
                found = cheaper(body, original, limits(budgets, named), reading, now)
                candidates += [candidate(each.quote, each.changes, wanted) for each in found]
                answer = self._ledger.reserve(wanted, candidates, expires_after=self._expires_after)
            if isinstance(answer, Refused):
                cheapest = min(candidates[1:], key=lambda each: each.expected, default=None)
                raise exceeded(answer, original, wanted, cheapest)
            if not isinstance(answer, Outdated):
                break
            self._take_up(answer, in_place_of=wanted.budgets)
        self._tell(answer.alerts)
        return self._admission(answer, body, original, said)

    def dispatch(self, admission: Admission) -> dict[str, Any]:
        """Gives out the payload to send, once: the caller that gets it, and no other, is to submit it.

        Raises:
            ReservationStateError: it was given out before, is released, or has expired.
            LedgerUnavailableError: the ledger cannot be used, so nothing may be sent.
        """
        self._ledger.dispatch(admission.reservation_id, doubtful_after=self._doubtful_after)
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
        """The smallest hook: admits a request and gives out what to send, or raises as `admit` does."""
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

        What was not dispatched by then is released. What was dispatched when an exception leaves the block,
        and is not bound to a task, is in doubt: it may be running.
        """
        admitted = self.admit(payload, project=project, key=key, labels=labels, **said)
        try:
            yield admitted
        except BaseException as error:
            self._abandon(admitted, type(error).__name__)
            raise
        if self.reservation(admitted).state == "reserved":
            self.release(admitted, "not dispatched")

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
        charged = None if amount is None else _countable(amount)
        grounds: Basis = basis or ("quote" if charged is None else "response")
        return self._told(self._ledger.settle(_ref(ref), charged, grounds))

    def release(self, ref: Reference, reason: str = "released") -> Reservation:
        """Gives back what was set aside for a request that was not sent. Repeating it changes nothing.

        Raises:
            ReservationStateError: it was dispatched; it may be running.
        """
        return self._ledger.release(_ref(ref), reason, states=("reserved",))

    def refused(self, ref: Reference, reason: str = "refused by the provider") -> Reservation:
        """Gives back what was set aside for a request that the provider definitely did not accept.

        Not for a timeout or a 5xx answer, after which the job may be running: see `mark_in_doubt`.

        Raises:
            ReservationStateError: it has a task, so it was accepted.
        """
        return self._ledger.release(_ref(ref), reason, states=("reserved", "dispatching"))

    def mark_in_doubt(self, ref: Reference, reason: str) -> Reservation:
        """Notes that nobody knows whether the provider has what was sent. The money stays set aside."""
        return self._ledger.doubt(_ref(ref), reason)

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
            wire_format: the API's; by default the reservation's, or the provider's main one.

        Returns:
            The reservation as it now stands; None: nobody knows yet whose task it is.

        Raises:
            WireFormatError: the body cannot be read, or names no task.
            PriceNotFoundError: the provider is unknown.
        """
        read = as_object(json_value(body, decoder=EXACT_JSON) if not isinstance(body, Mapping) else body)
        known = None if reservation is None else self.reservation(reservation)
        name = wire_format or (known.wire_format if known else None) or self._main_format(provider)
        task = wire_format_named(name).read_task(read)
        task_id = task.task_id or (known.task_id if known else None)
        if task_id is None:
            raise WireFormatError(
                "the answer names no task; say whose it is with reservation", wire_format=name
            )
        seen = Observation(
            provider,
            task_id,
            task.state,
            task.amount,
            task.amount_unit,
            task.duration_s,
            task.model,
            self._clock(),
        )
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
        when = self._clock() if at is None else instant(at).astimezone(UTC)
        named = checked_labels(labels.get("project", ""), labels)
        charged = _countable(amount)
        counted_in = short_text("currency", currency or self._book.table(provider, when).currency)
        provider, task_id = short_text("provider", provider), short_text("task_id", task_id)
        told = {"task_id": task_id, "currency": counted_in, "labels": named}
        while True:
            budgets, claimed = self._by_budgets(lambda by: claims(by, named, counted_in, when))
            booked = Order(
                project=named["project"],
                key=uuid4().hex,  # not one that a caller could have given a job
                fingerprint=fingerprint(told, provider, ""),
                provider=provider,
                wire_format="",
                currency=counted_in,
                table="",
                table_digest="",
                statement_unit=None,
                unit_value=None,
                failed_tasks="unconfirmed",
                labels=named,
                claims=claimed,
                may_be_unmatched=True,
                budgets=budgets.digest,
            )
            nanos = nanos_up(charged)
            spent = Candidate({}, "", "", "", Decimal(1), "task", nanos, nanos, amounts(nanos, booked.claims))
            answer = self._ledger.record(booked, spent, task_id, when)
            if not isinstance(answer, Outdated):
                return self._told(answer)
            self._take_up(answer, in_place_of=booked.budgets)

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
        budgets = self._installed_budgets()
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
        self._ledger.open_bucket(opened, nanos_up(_countable(spent)))

    def apply(self, budgets: BudgetsLike) -> BudgetsFile:
        """Installs budgets in place of those of the ledger: what an administrator does.

        Balances stay. Caps, limits, alerts and floors may change freely; a budget whose match, window, zone or
        currency changes needs another name, or `carry_over: true`: then its buckets count what the ledger
        holds already.

        Raises:
            BudgetError: the budgets cannot be used in place of those installed; nothing has changed.
        """
        self._ledger.apply(read_budgets(budgets))
        return self._installed_budgets()

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
        start, end = (None if each is None else instant(each).astimezone(UTC) for each in (since, until))
        return self._ledger.reservations(project=project, key=key, since=start, until=end)

    def journal(self) -> list[Entry]:
        """Everything that ever moved money, or might have, the oldest first."""
        return self._ledger.journal()

    def status(self, at: datetime | None = None) -> list[Bucket]:
        """What each budget has left in its window; of one with `*`, each bucket that has been used.

        Args:
            at: an instant in the window, with a time zone; by default now.
        """
        now = self._clock() if at is None else instant(at).astimezone(UTC)
        used = self._ledger.buckets(now)
        rows: list[Bucket] = []
        for budget in self._installed_budgets().budgets:
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

    def _admission(self, answer: Reserved, body: Mapping[str, Any], original: Quote, said: Said) -> Admission:
        """The admission of a reservation: what to send is the payload with the changes that it keeps."""
        reserved, payload = answer.reservation, body
        if reserved.changes:
            payload = wire_format_named(reserved.wire_format).amend(body, reserved.changes)
        given: Said = {**said, "provider": reserved.provider, "wire_format": reserved.wire_format}
        quoted = original
        if reserved.changes or reserved.expected != original.maximum:
            quoted = quote(payload, at=reserved.created_at, book=self._book, **given)
        if quoted.maximum > reserved.reserved:
            raise LedgerError(
                f"reservation {reserved.id} was made when the request cost less; release it, and admit it again"
            )
        return Admission(reserved, quoted, answer.replayed, payload)

    def _abandon(self, admitted: Admission, reason: str) -> None:
        """After an exception: what is unsent is released, and what is sent and not yet bound is in doubt."""
        if self.reservation(admitted).state == "reserved":
            self.release(admitted, reason)
        else:
            self.mark_in_doubt(admitted, reason)

    def _by_budgets(self, make: Callable[[BudgetsFile], _Made]) -> tuple[BudgetsFile, _Made]:
        """What is made by the budgets known here; if those will not do, by those of the ledger."""
        budgets = self._budgets
        try:
            return budgets, make(budgets)
        except BudgetError:
            newer = self._installed_budgets()
            if newer.digest == budgets.digest:
                raise
            return newer, make(newer)

    def _take_up(self, newer: Outdated, *, in_place_of: str) -> None:
        """Goes by the budgets that the ledger now has, in place of those with the digest given.

        Raises:
            LedgerError: they read the same as those, so asking again would change nothing.
        """
        budgets = budgets_from_document(newer.document)
        if budgets.digest == in_place_of:
            raise LedgerError(
                "the ledger's budgets were installed by another version of kling_pricing; apply them anew"
            )
        self._budgets = budgets

    def _installed_budgets(self) -> BudgetsFile:
        document = self._ledger.installed()
        if document is not None:
            self._budgets = budgets_from_document(document)
        return self._budgets

    def _main_format(self, provider: str) -> str:
        formats = self._book.formats.get(provider)
        if not formats:
            known = ", ".join(sorted(self._book.tables))
            raise PriceNotFoundError(f"unknown provider {provider!r}; known: {known}", provider=provider)
        return formats[0]

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
    store = connect(ledger, clock=_utc_clock(None))
    store.apply(read)
    store.close()
    return read


def _installed(ledger: Ledger, budgets: BudgetsLike | None) -> BudgetsFile:
    """The budgets of a ledger, installed now if it has none.

    Raises:
        BudgetError: it has none and none are given, or it has others.
    """
    if budgets is None:
        document = ledger.installed()
        if document is None:
            raise BudgetError("the ledger has no budgets yet; give some: budgets='budgets.yaml'")
        return budgets_from_document(document)
    given = read_budgets(budgets)
    installed = budgets_from_document(ledger.install(given))
    if installed.digest != given.digest:
        raise BudgetError(
            "the ledger has other budgets than those given; open it without budgets, "
            "or have an administrator install yours with `kling-pricing budget apply`"
        )
    return installed


def _own_copy(value: Any) -> Any:
    """JSON data that the caller cannot change any more: what is priced is what will be sent."""
    if isinstance(value, Mapping):
        return {name: _own_copy(each) for name, each in value.items()}
    return [_own_copy(each) for each in value] if isinstance(value, list) else value


def _countable(amount: Decimal | int | str) -> Decimal:
    """An amount that a ledger can hold.

    Raises:
        KlingPricingError: it is none.
    """
    exact = exact_amount(amount)
    if exact > MAX_NANOS // NANOS:
        most = plain(Decimal(MAX_NANOS // NANOS))
        raise KlingPricingError(f"an amount of money: {plain(exact)} is too large; the most is {most}")
    return exact


def _ref(ref: Reference) -> Ref:
    return ref.reservation_id if isinstance(ref, Admission) else ref


def _utc_clock(clock: Callable[[], datetime] | None) -> Callable[[], datetime]:
    if clock is None:
        return lambda: datetime.now(UTC)
    return lambda: instant(clock()).astimezone(UTC)
