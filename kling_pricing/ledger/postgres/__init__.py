"""The ledger in a PostgreSQL database: every verb is one call of one server-side function.

The functions are in `sql/`, one file for each verb; the database's clock decides on windows and deadlines.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

from kling_pricing.budgets import BudgetsFile
from kling_pricing.errors import BudgetError, KlingPricingError, LedgerError
from kling_pricing.ledger import errors as ledger_errors
from kling_pricing.ledger.checks import FACTS
from kling_pricing.ledger.journal import Bucket, BucketHistory, Entry
from kling_pricing.ledger.model import (
    Alert,
    Basis,
    BucketClaim,
    Change,
    Mistimed,
    Observation,
    Outdated,
    PricedVariant,
    Ref,
    Refused,
    Reservation,
    ReservationRequest,
    Reserved,
    Revision,
    unsent,
)
from kling_pricing.ledger.postgres import codec, revisions
from kling_pricing.ledger.postgres.server import Refusal, Server
from kling_pricing.ledger.verification import judge
from kling_pricing.money import format_decimal


class PostgresLedger:
    """A `Ledger` in one database, for every machine that reaches it."""

    def __init__(self, url: str, clock: Callable[[], datetime]) -> None:
        self._server = Server(url)
        self._clock = clock

    @property
    def name(self) -> str:
        """See `Ledger.name`."""
        return self._server.name

    @property
    def max_concurrency(self) -> int:
        """See `Ledger.max_concurrency`."""
        return self._server.pool_size

    def close(self) -> None:
        """See `Ledger.close`."""
        self._server.close()

    # budgets

    def install(self, budgets: BudgetsFile) -> Revision:
        """See `Ledger.install`."""
        return self.installed() or revisions.install(self._server, budgets)

    def installed(self) -> Revision | None:
        """See `Ledger.installed`."""
        told = self._server.call("installed")
        return None if told is None else Revision(**told)

    def apply(self, budgets: BudgetsFile) -> tuple[Alert, ...]:
        """See `Ledger.apply`."""
        return revisions.replace(self._server, budgets)

    # verbs

    def reserve(
        self, order: ReservationRequest, candidates: Sequence[PricedVariant], *, expires_after: timedelta
    ) -> Reserved | Refused | Outdated | Mistimed:
        """See `Ledger.reserve`."""
        own_id = _new_call()
        told = self._told(
            "reserve", own_id, codec.order_text(order), codec.candidates_text(candidates), expires_after
        )
        if "outdated" in told:
            return Outdated(Revision(**told["outdated"]))
        if "mistimed" in told:
            return Mistimed(datetime.fromisoformat(told["mistimed"]))
        if "refused" in told:
            return Refused(codec.shortfalls(told["refused"]))
        if "reserved" in told:
            found = codec.reservation(told["reserved"])
            return Reserved(found, told["replayed"], codec.alerts(told["alerts"]))
        made = unsent(
            order,
            candidates[told["candidate"]],
            own_id,
            order.key,
            told["attempt"],
            datetime.fromisoformat(told["created_at"]),
            datetime.fromisoformat(told["deadline"]),
        )
        return Reserved(made, replayed=False, alerts=codec.alerts(told["alerts"]))

    def dispatch(self, reservation_id: str, *, doubtful_after: timedelta) -> None:
        """See `Ledger.dispatch`."""
        self._told("dispatch", reservation_id, _new_call(), doubtful_after)

    def bind(self, ref: Ref, task_id: str) -> Change:
        """See `Ledger.bind`."""
        return codec.change(self._told("bind", _new_call(), _array(ref), task_id))

    def doubt(self, ref: Ref, reason: str) -> Reservation:
        """See `Ledger.doubt`."""
        return codec.reservation(self._told("doubt", _array(ref), reason))

    def release(self, ref: Ref, reason: str, *, states: Iterable[str]) -> Reservation:
        """See `Ledger.release`."""
        return codec.reservation(self._told("release", _array(ref), reason, list(states)))

    def settle(self, ref: Ref, amount: Decimal | None, basis: Basis) -> Change:
        """See `Ledger.settle`."""
        return codec.change(self._told("settle", _new_call(), _array(ref), amount, basis))

    def observe(self, seen: Observation, ref: Ref | None) -> Change | None:
        """See `Ledger.observe`."""
        told = self._told(
            "observe",
            _new_call(),
            None if ref is None else _array(ref),
            seen.provider,
            seen.task_id,
            seen.state,
            seen.amount,
            seen.amount_unit,
            seen.duration_s,
            seen.model,
        )
        return None if told is None else codec.change(told)

    def record(
        self, order: ReservationRequest, spent: PricedVariant, task_id: str, at: datetime
    ) -> Change | Outdated:
        """See `Ledger.record`."""
        told = self._told(
            "record_spend",
            _new_call(),
            codec.order_text(order),
            codec.candidate_text(spent),
            task_id,
            at,
        )
        return Outdated(Revision(**told["outdated"])) if "outdated" in told else codec.change(told)

    def open_bucket(self, claim: BucketClaim, spent: int) -> tuple[Alert, ...]:
        """See `Ledger.open_bucket`."""
        return codec.alerts(self._told("open_bucket", _new_call(), codec.claim_text(claim), spent))

    # reading

    def reservation(self, ref: Ref) -> Reservation:
        """See `Ledger.reservation`."""
        return codec.reservation(self._told("one_reservation", _array(ref)))

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
        rows = self._server.rows("reservations", project, key, in_doubt, since, until)
        return [codec.reservation(row) for row in rows]

    def sent(self, provider: str, before: datetime) -> Iterator[bytes]:
        """See `Ledger.sent`."""
        return self._server.copied("sent", provider, before)

    def unclaimed(self) -> list[Observation]:
        """See `Ledger.unclaimed`."""
        return [codec.observation(row) for row in self._server.rows("unclaimed")]

    def buckets(self, at: datetime) -> list[tuple[str, Bucket]]:
        """See `Ledger.buckets`."""
        return [codec.bucket(row) for row in self._server.rows("buckets", at)]

    def bucket_histories(self, since: datetime, until: datetime) -> list[BucketHistory]:
        """See `Ledger.bucket_histories`."""
        return [codec.history(row) for row in self._server.rows("bucket_histories", since, until)]

    def journal(self) -> list[Entry]:
        """See `Ledger.journal`."""
        return [codec.entry(row) for row in self._server.rows("entries")]

    def verify(self) -> None:
        """See `Ledger.verify`."""
        facts: dict[str, list[Any]] = {name: [] for name in ("difference", "in_force", *FACTS)}
        for row in self._server.rows("verification"):
            facts[row["query"]].append(row)
        judge(self._server.name, facts, "database")

    # inside

    def _told(self, function: str, *arguments: Any) -> Any:
        """What a function answers; what it refuses is raised in words."""
        try:
            told = self._server.call(function, *arguments)
        except Refusal as refusal:
            raise self._in_words(refusal.about) from None
        if isinstance(told, dict) and "refusal" in told:  # one that left something changed
            raise self._in_words(told["refusal"])
        return told

    def _in_words(self, about: Mapping[str, Any]) -> KlingPricingError:
        """The error for what a function refuses."""
        kind: str = about["kind"]
        if kind in _OF_A_RESERVATION:
            return _OF_A_RESERVATION[kind](codec.reservation(about["reservation"]), about)
        return _OF_OTHER_THINGS[kind](about, self._clock())


def _clock_is_off(about: Mapping[str, Any], clock: datetime) -> LedgerError:
    return LedgerError(
        f"the clock here says {clock.isoformat()}, the ledger's {about['now']}: windows of budget "
        f"{about['budget']} lie between; set this machine's clock"
    )


_OF_A_RESERVATION: dict[str, Callable[[Reservation, Mapping[str, Any]], KlingPricingError]] = {
    "key_taken": lambda found, _: ledger_errors.key_taken(found),
    "key_sent": lambda found, _: ledger_errors.key_sent(found),
    "dispatch": lambda found, _: ledger_errors.not_dispatched(found),
    "bound_to_another": lambda found, about: ledger_errors.bound_to_another(found, about["task_id"]),
    "bound_unsent": lambda found, about: ledger_errors.bound_unsent(found, about["task_id"]),
    "task_of_another": lambda found, about: ledger_errors.task_of_another(
        found, about["task_id"], about["other"]
    ),
    "doubt": lambda found, _: ledger_errors.not_doubtful(found),
    "release": lambda found, _: ledger_errors.not_released(found),
    "doubted": lambda found, _: ledger_errors.doubted(found),
    "settled_otherwise": lambda found, about: ledger_errors.settled_otherwise(found, Decimal(about["amount"])),
    "settled_unsent": lambda found, _: ledger_errors.settled_unsent(found),
    "other_provider": lambda found, about: ledger_errors.other_provider(found, about["provider"]),
    "task_known": lambda found, _: ledger_errors.task_known(found),
}
_OF_OTHER_THINGS: dict[str, Callable[[Mapping[str, Any], datetime], KlingPricingError]] = {
    "unknown": lambda about, _: ledger_errors.unknown(_ref(about["ref"])),
    "no_window": lambda about, _: ledger_errors.no_window(about["budget"]),
    "opened": lambda about, _: ledger_errors.opened(about["budget"]),
    "clock": _clock_is_off,
    "too_large": lambda about, _: KlingPricingError(
        f"{format_decimal(Decimal(about['amount']))} is more than a ledger can hold"
    ),
    "no_budgets": lambda _, __: LedgerError(
        "the ledger has lost its budgets: its database was replaced; start the guard again"
    ),
    "not_in_force": lambda about, _: BudgetError(
        f"budget {about['budget']} is not in force as the caller knows it; start the guard again"
    ),
}


def _new_call() -> str:
    """A name for one call, the same when it is repeated: so that it wins once, counts once, and is told all."""
    return uuid4().hex


def _array(ref: Ref) -> list[str]:
    return [ref] if isinstance(ref, str) else [*ref]


def _ref(array: Sequence[str]) -> Ref:
    return array[0] if len(array) == 1 else (array[0], array[1])
