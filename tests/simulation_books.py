"""The books of a simulation: everything that the ledger promises, in plain Python."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from kling_pricing import BudgetGuard, Entry, KlingPricingError, PriceBook, Reservation, quote
from tests.simulated_studio import ZERO, Clip, Place, Rule, first_caps


class Breach(AssertionError):  # noqa: N818 (the failure of a test)
    """A promise that the ledger broke.

    Attributes:
        promise: the promise, in one or two words.
        what: what happened instead.
    """

    def __init__(self, promise: str, what: str) -> None:
        super().__init__(f"{promise}: {what}")
        self.promise = promise
        self.what = what


@dataclass
class Hold:
    """A reservation as its guards last answered.

    Attributes:
        row: the last answer.
        named: amounts at which the job may be settled, besides those that were named for its task.
        places: the budgets and buckets in which it counts.
        was_given_out: whether a guard gave the payload out.
    """

    row: Reservation
    named: set[Decimal]
    places: Sequence[tuple[Rule, Place]]
    was_given_out: bool = False


_ORDER = ("reserved", "dispatching", "bound", "settled")
_BASES = (None, "quote", "response", "statement", "operator")


class Checker:
    """Keeps books from the answers of the guards, and compares the ledger with them."""

    def __init__(self, rules: Sequence[Rule], book: PriceBook) -> None:
        self._book = book
        self.holds: dict[str, Hold] = {}
        self._rules = {rule.name: rule for rule in rules}
        self._caps = first_caps(rules)
        self._cap_of: dict[Place, Decimal] = {}
        self.is_frozen = False
        self.journal: list[Entry] = []
        self._named: dict[tuple[str, str | None], set[Decimal]] = {}

    # answers

    def admitted(self, row: Reservation, clip: Clip, now: datetime, *, replayed: bool) -> None:
        """Enters an admission."""
        if self.is_frozen:
            raise Breach("freeze", f"{name_of(row)} was admitted although spending is frozen")
        is_right = row.reserved < clip.price if row.changes else row.reserved == clip.price
        if not is_right:
            raise Breach("price", f"{name_of(row)} reserves {row.reserved}, and its price is {clip.price}")
        before = self.holds.get(row.id)
        if replayed:
            if before is None or state_at(before.row, now) != "reserved":
                raise Breach(
                    "one job", f"{name_of(row)} was admitted again, and was {before and before.row.state}"
                )
            return
        attempts = [hold.row for hold in self.holds.values() if hold.row.key == row.key]
        if attempts and state_at(attempts[-1], now) != "released":  # an earlier one may be billed after all
            raise Breach(
                "one job", f"{name_of(row)} was admitted, and {name_of(attempts[-1])} was not released"
            )
        self.enter(row, now)

    def enter(self, row: Reservation, now: datetime) -> None:
        """Enters a new reservation, and checks every cap that it counts in."""
        self.holds[row.id] = Hold(row, {row.expected}, self._open_places(row))
        used = self.used(now)
        for _, place in self.holds[row.id].places:
            if sum(used[place]) > self.cap(place):
                held, spent = used[place]
                raise Breach(
                    "cap",
                    f"{name_of(row)} was admitted into {place}: now {held} are held and {spent} spent of"
                    f" {self.cap(place)}",
                )

    def recorded(self, row: Reservation) -> None:
        """Enters spend that did not go through a guard, which may pass a cap."""
        self.holds[row.id] = Hold(row, {row.billed or ZERO}, self._open_places(row))

    def _open_places(self, row: Reservation) -> list[tuple[Rule, Place]]:
        """Returns the budgets and buckets in which a reservation counts. The buckets get their own caps."""
        places = [
            (rule, place)
            for rule in self._rules.values()
            if (place := rule.place(row.labels, row.created_at)) is not None
        ]
        for _, place in places:
            self._cap_of.setdefault(place, self._caps[place[0]])
        return places

    def cap(self, place: Place) -> Decimal:
        """Returns the cap of a bucket."""
        return self._cap_of.get(place, self._caps[place[0]])

    def applied(self, caps: Mapping[str, Decimal], now: datetime) -> None:
        """Enters new caps, which do not apply to windows that are over."""
        self._caps = dict(caps)
        for rule in self._rules.values():
            for place in self._cap_of:
                if place[0] == rule.name and rule.window_at(now) <= place[2]:
                    self._cap_of[place] = caps[rule.name]

    def refused(self, labels: Mapping[str, str], clip: Clip, now: datetime) -> None:
        """Checks that a refused request does not fit."""
        used = self.used(now)
        places = [(rule, rule.place(labels, now)) for rule in self._rules.values()]
        if all(
            place is None or sum(used[place]) + rule.amount(clip.price) <= self.cap(place)
            for rule, place in places
        ):
            raise Breach("room", f"{clip.name} was refused for {dict(labels)}, although every cap has room")

    def gave_out(self, reservation_id: str, payload: Mapping[str, Any], clip: Clip, now: datetime) -> None:
        """Enters a dispatch."""
        hold = self.holds[reservation_id]
        if hold.was_given_out or state_at(hold.row, now) != "reserved":
            raise Breach(
                "one dispatch",
                f"the payload of {name_of(hold.row)} was given out again; it was {hold.row.state}",
            )
        if self.is_frozen:
            raise Breach("freeze", f"{name_of(hold.row)} was dispatched although spending is frozen")
        if payload != clip.payload and not hold.row.changes:
            raise Breach("payload", f"{name_of(hold.row)} gave out {payload}")
        price = quote(payload, provider=clip.provider, at=now, book=self._book).total
        if price != hold.row.expected:
            raise Breach(
                "price", f"{name_of(hold.row)} expects {hold.row.expected}, and gave out a job for {price}"
            )
        hold.was_given_out = True

    def answered(self, row: Reservation | None) -> None:
        """Enters the answer of a verb about a reservation."""
        if row is not None:
            self._legal(self.holds[row.id], row)
            self.holds[row.id].row = row

    def named(self, provider: str, task: str, amount: Decimal) -> None:
        """Enters an amount that somebody named for a task."""
        self._named.setdefault((provider, task), set()).add(amount)

    def _legal(self, hold: Hold, row: Reservation) -> None:
        """Checks that a reservation may have become what it is."""
        old = hold.row
        what = f"{name_of(row)} became {state_of(row)} after {state_of(old)}"
        fixed = ("project", "key", "attempt", "provider", "reserved", "created_at", "labels")
        if any(getattr(old, name) != getattr(row, name) for name in fixed):
            raise Breach("lost", f"{what}; its terms have changed")
        if old.task_id is not None and row.task_id != old.task_id:
            raise Breach("lost", f"{what}; its task has changed")
        if row.state == "released":
            is_legal = old.state != "settled"
        elif old.state == "released":
            is_legal = row.state == "settled"
        else:
            is_legal = _ORDER.index(row.state) >= _ORDER.index(old.state)
        if not is_legal or _BASES.index(row.basis) < _BASES.index(old.basis):
            raise Breach("lost", what)
        named = hold.named | self._named.get((row.provider, row.task_id), set())
        if row.billed is not None and row.billed not in named:
            amounts = ", ".join(sorted(map(str, named)))
            raise Breach("settlement", f"{what}; only these amounts were named: {amounts}")

    # the ledger

    def used(self, now: datetime) -> dict[Place, list[Decimal]]:
        """Returns the amounts held and spent in each bucket, by the checker's books."""
        used: dict[Place, list[Decimal]] = _Balances()
        for hold in self.holds.values():
            row, state = hold.row, state_at(hold.row, now)
            if state == "released":
                continue
            for rule, place in hold.places:
                if state == "settled":
                    used[place][1] += rule.amount(row.billed or ZERO)
                else:
                    used[place][0] += rule.amount(row.reserved)
        return used

    def compare(self, guard: BudgetGuard, now: datetime, interrupted: str | None = None) -> None:
        """Compares the ledger with the books.

        The verb that a crash interrupted may be done or not: the reservation of its job, which has the key
        `interrupted`, may have moved on, or the ledger may have a new one for it.
        """
        rows = {row.id: row for row in guard.history()}
        for name, hold in self.holds.items():
            row, old = rows.pop(name, None), hold.row
            if row is None:
                raise Breach("lost", f"{name_of(old)} is not in the ledger")
            has_expired = (old.state, row.state, row.reason) == ("reserved", "released", "expired")
            if state_of(row) != state_of(old) and not has_expired:
                if interrupted != row.key:
                    raise Breach(
                        "lost", f"{name_of(row)} is {state_of(row)}, and was answered as {state_of(old)}"
                    )
                self._legal(hold, row)
            hold.row = row
        for row in rows.values():
            if interrupted != row.key:
                raise Breach("lost", f"{name_of(row)} is in the ledger, and nobody admitted it")
            self.enter(row, now)
        self._compare_balances(guard, now)

    def _compare_balances(self, guard: BudgetGuard, now: datetime) -> None:
        used, rules = self.used(now), self._rules
        current = {}
        for bucket in guard.status():
            rule = rules[bucket.budget]
            place = rule.place({**rule.own_labels, **bucket.labels}, now)
            current[place] = [bucket.held, bucket.spent]
            if place is None or bucket.cap != self.cap(place):
                raise Breach("lost", f"the cap of {place} is {bucket.cap}, not {place and self.cap(place)}")
        for place in list(used):
            rule = rules[place[0]]
            if rule.place(rule.own_labels | dict(place[1]), now) == place:
                current.setdefault(place, [ZERO, ZERO])
        for place, amounts in current.items():
            if place is None or amounts != used[place]:
                raise Breach(
                    "balance",
                    f"{place}: held and spent are {amounts}, and by the books {place and used[place]}",
                )

    def audit(self, guard: BudgetGuard) -> None:
        """Verifies the ledger, and that its journal only grows."""
        try:
            guard.verify()
        except KlingPricingError as error:
            raise Breach("verify", str(error)) from error
        journal = guard.journal()
        if journal[: len(self.journal)] != self.journal:
            raise Breach("lost", "the journal has changed")
        self.journal = journal
        alerted = {entry.reservation_id for entry in journal if entry.kind == "alert"}
        for hold in self.holds.values():
            row = hold.row
            if row.dispatched_at is not None and (row.billed or ZERO) > row.reserved and row.id not in alerted:
                raise Breach("overrun", f"{name_of(row)} cost more than was reserved, and nobody was alerted")


class _Balances(dict[Place, list[Decimal]]):
    def __missing__(self, place: Place) -> list[Decimal]:
        return self.setdefault(place, [ZERO, ZERO])


def state_at(row: Reservation, now: datetime) -> str:
    """Returns the state of a reservation at an instant; an unsent one has expired at its deadline."""
    return "released" if row.state == "reserved" and row.deadline <= now else row.state


def name_of(row: Reservation) -> str:
    """Returns a name of a reservation that is the same in each run of a seed."""
    return f"{row.key} attempt {row.attempt}"


def state_of(row: Reservation) -> str:
    """Returns the state of a reservation as text."""
    words = [row.state, row.task_id, None if row.billed is None else f"at {row.billed} by {row.basis}"]
    return " ".join(word for word in words if word)
