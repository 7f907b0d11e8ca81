"""The ledger in a PostgreSQL database. Every verb is one call of one server-side function.

The functions are in `sql/`, one file per verb. The database's clock decides about windows and deadlines.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from types import MappingProxyType
from typing import Any
from uuid import uuid4

from kling_pricing.budgets import BudgetsFile, Consent
from kling_pricing.errors import KlingPricingError
from kling_pricing.ledger.actions import AdministrativeAction, Author, CapOverlay
from kling_pricing.ledger.batches import SettledBatch
from kling_pricing.ledger.calendars import CalendarChange, ScheduledWindow
from kling_pricing.ledger.decided import NOTHING_ASSUMED, Assumed, Decided
from kling_pricing.ledger.journal import Bucket, BucketHistory, Entry, Observation, UnpricedRequests
from kling_pricing.ledger.kept_charges import written_charge
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
    unsent,
)
from kling_pricing.ledger.outcomes import Comparison, Uncompared
from kling_pricing.ledger.postgres import codec, revisions, verifying
from kling_pricing.ledger.postgres.access_key_verbs import PostgresAccessKeys
from kling_pricing.ledger.postgres.book_calls import PostgresBooks
from kling_pricing.ledger.postgres.interventions import PostgresInterventions
from kling_pricing.ledger.postgres.outbox import PostgresOutbox
from kling_pricing.ledger.postgres.pages import PostgresPages
from kling_pricing.ledger.postgres.refused_calls import error_for
from kling_pricing.ledger.postgres.server import Refusal, Server
from kling_pricing.ledger.postgres.session_verbs import PostgresSessions
from kling_pricing.ledger.rolled_up import rolled_up
from kling_pricing.ledger.verification import OnProgress, Verification, ignore_progress, judge


class PostgresLedger(
    PostgresInterventions, PostgresOutbox, PostgresBooks, PostgresAccessKeys, PostgresSessions, PostgresPages
):
    """A `Ledger` in one database, for all machines that can reach it."""

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

    def install(self, budgets: BudgetsFile, author: Author) -> Revision:
        """See `Ledger.install`."""
        return self.installed() or revisions.install(self._server, budgets, author)

    def installed(self) -> Revision | None:
        """See `Ledger.installed`."""
        revision = self._server.call("installed")
        return None if revision is None else Revision(**revision)

    def apply(self, budgets: BudgetsFile, author: Author, consent: Consent) -> tuple[Alert, ...]:
        """See `Ledger.apply`."""
        return revisions.replace(self._server, budgets, author, consent)

    def set_cap(self, budget: str, cap: Decimal, until: datetime | None, author: Author) -> tuple[Alert, ...]:
        """See `Ledger.set_cap`."""
        return revisions.set_cap(self._server, budget, cap, until, author)

    # verbs

    def reserve(
        self, order: ReservationRequest, candidates: Sequence[PricedVariant], *, expires_after: timedelta
    ) -> Reserved | Refused | Outdated | Mistimed:
        """See `Ledger.reserve`."""
        return self._reserve("reserve", order, candidates, expires_after)

    def reserve_and_dispatch(
        self,
        order: ReservationRequest,
        candidates: Sequence[PricedVariant],
        *,
        expires_after: timedelta,
        doubtful_after: timedelta,
    ) -> Reserved | Refused | Outdated | Mistimed:
        """See `Ledger.reserve_and_dispatch`."""
        further = (_new_call(), doubtful_after)
        return self._reserve("reserve_and_dispatch", order, candidates, expires_after, *further)

    def _reserve(
        self,
        function: str,
        order: ReservationRequest,
        candidates: Sequence[PricedVariant],
        expires_after: timedelta,
        *further: Any,
    ) -> Reserved | Refused | Outdated | Mistimed:
        new_id = _new_call()
        order_text, candidates_text = codec.order_text(order), codec.candidates_text(candidates)
        response = self._call(function, new_id, order_text, candidates_text, expires_after, *further)
        if "outdated" in response:
            return Outdated(Revision(**response["outdated"]))
        if "mistimed" in response:
            return Mistimed(datetime.fromisoformat(response["mistimed"]))
        if "refused" in response:
            return Refused(codec.shortfalls(response["refused"]))
        if "reserved" in response:
            reservation = codec.reservation(response.get("dispatched", response["reserved"]))
            return Reserved(reservation, response["replayed"], codec.alerts(response["alerts"]))
        new = unsent(
            order,
            candidates[response["candidate"]],
            new_id,
            order.key,
            response["attempt"],
            datetime.fromisoformat(response["created_at"]),
            datetime.fromisoformat(response["deadline"]),
        )
        if "dispatched" in response:
            sent = codec.reservation(response["dispatched"])
            new = new._replace(state=sent.state, dispatched_at=sent.dispatched_at, deadline=sent.deadline)
        return Reserved(new, replayed=False, alerts=codec.alerts(response["alerts"]))

    def decide(
        self,
        order: ReservationRequest,
        candidates: Sequence[PricedVariant],
        *,
        assumed: Assumed = NOTHING_ASSUMED,
    ) -> Decided | Outdated | Mistimed:
        """See `Ledger.decide`."""
        response = self._call(
            "decide", codec.order_text(order), codec.candidates_text(candidates), codec.assumed_text(assumed)
        )
        if "outdated" in response:
            return Outdated(Revision(**response["outdated"]))
        if "mistimed" in response:
            return Mistimed(datetime.fromisoformat(response["mistimed"]))
        verdict: int | Reservation | Refused | KlingPricingError
        if "error" in response:
            verdict = error_for(response["error"])
        elif "reserved" in response:
            verdict = codec.reservation(response["reserved"])
        elif "refused" in response:
            verdict = Refused(codec.shortfalls(response["refused"]))
        else:
            verdict = response["candidate"]
        at, covers = datetime.fromisoformat(response["at"]), response.get("covers", ())
        used = {cover["allowance"]: int(cover["held"]) for cover in covers}
        return Decided(verdict, codec.rooms(response["rooms"]), at, used)

    def dispatch(self, reservation_id: str, *, doubtful_after: timedelta) -> None:
        """See `Ledger.dispatch`."""
        self._call("dispatch", reservation_id, _new_call(), doubtful_after)

    def bind(
        self, ref: Ref, task_id: str, *, compared: Mapping[int, Comparison] = MappingProxyType({})
    ) -> Change | Uncompared:
        """See `Ledger.bind`."""
        texts = codec.comparisons_text(compared)
        return codec.change_or_uncompared(self._call("bind", _new_call(), _array(ref), task_id, texts))

    def doubt(self, ref: Ref, reason: str) -> Reservation:
        """See `Ledger.doubt`."""
        return codec.reservation(self._call("doubt", _array(ref), reason))

    def release(self, ref: Ref, reason: str, *, states: Iterable[str]) -> Reservation:
        """See `Ledger.release`."""
        return codec.reservation(self._call("release", _array(ref), reason, list(states)))

    def settle(self, ref: Ref, amount: Decimal | None, basis: Basis, author: Author | None = None) -> Change:
        """See `Ledger.settle`."""
        if author is None:
            return codec.change(self._call("settle", _new_call(), _array(ref), amount, basis))
        return codec.change(self._call("settle_by", _new_call(), _array(ref), amount, basis, *author))

    def settle_all(self, amounts: Mapping[str, Decimal], basis: Basis) -> SettledBatch:
        """See `Batches.settle_all`."""
        response = self._call("settle_all", _new_call(), [*amounts], [*amounts.values()], basis)
        refused = response["refused"]
        return SettledBatch(
            {name: error_for(refused[name]) for name in amounts if name in refused},
            codec.alerts(response["alerts"]),
        )

    def observe(
        self, seen: Observation, ref: Ref | None, compared: Comparison | None = None
    ) -> Change | Uncompared | None:
        """See `Ledger.observe`."""
        response = self._call(
            "observe",
            _new_call(),
            None if ref is None else _array(ref),
            seen.provider,
            seen.task_id,
            seen.state,
            written_charge(seen.charge),
            seen.duration_s,
            seen.model,
            codec.facts_text(seen.facts),
            None if compared is None else codec.comparison_text(compared),
        )
        return None if response is None else codec.change_or_uncompared(response, seen)

    def record(
        self,
        order: ReservationRequest,
        spent: PricedVariant,
        task_id: str,
        at: datetime,
        author: Author | None = None,
    ) -> Change | Outdated:
        """See `Ledger.record`."""
        parts = (codec.order_text(order), codec.candidate_text(spent), task_id, at, *(author or ()))
        response = self._call("record_spend" if author is None else "record_by", _new_call(), *parts)
        return Outdated(Revision(**response["outdated"])) if "outdated" in response else codec.change(response)

    def open_bucket(self, claim: BucketClaim, spent: int, author: Author) -> tuple[Alert, ...]:
        """See `Ledger.open_bucket`."""
        labels = codec.labels_text(claim.labels)
        return codec.alerts(self._call("open_bucket", _new_call(), claim.budget, labels, spent, *author))

    def count_unpriced(self, counts: Sequence[UnpricedRequests]) -> None:
        """See `Ledger.count_unpriced`."""
        self._call("count_unpriced", _new_call(), codec.counts_text(counts))

    # reading

    def unpriced(self, since: date | None, until: date | None) -> list[UnpricedRequests]:
        """See `Ledger.unpriced`."""
        return [codec.unpriced(row) for row in self._server.rows("unpriced", since, until)]

    def reservation(self, ref: Ref) -> Reservation:
        """See `Ledger.reservation`."""
        return codec.reservation(self._call("one_reservation", _array(ref)))

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

    def windows(self, at: datetime) -> list[ScheduledWindow]:
        """See `Ledger.windows`."""
        return [codec.window(row) for row in self._server.rows("windows", at)]

    def calendar_ends(self) -> list[ScheduledWindow]:
        """See `Ledger.calendar_ends`."""
        return [codec.window(row) for row in self._server.rows("calendar_ends")]

    def calendar_changes(self, budgets: BudgetsFile) -> tuple[CalendarChange, ...]:
        """See `Ledger.calendar_changes`."""
        now = datetime.fromisoformat(self._server.call("facts")["now"])
        return revisions.calendar_changes_for(budgets, self._server.rows, now)

    def buckets(self, at: datetime) -> list[tuple[str, Bucket]]:
        """See `Ledger.buckets`."""
        return rolled_up((codec.bucket(row) for row in self._server.rows("buckets", at)), at)

    def buckets_of(self, reservation: str, at: datetime) -> list[Bucket]:
        """See `Ledger.buckets_of`."""
        rows = self._server.rows("buckets_of", reservation, at)
        return [bucket for _, bucket in rolled_up((codec.bucket(row) for row in rows), at)]

    def bucket_histories(self, since: datetime, until: datetime) -> list[BucketHistory]:
        """See `Ledger.bucket_histories`."""
        return [codec.history(row) for row in self._server.rows("bucket_histories", since, until)]

    def journal(self, since: datetime | None = None, until: datetime | None = None) -> list[Entry]:
        """See `Ledger.journal`."""
        return [codec.entry(row) for row in self._server.rows("entries", since, until)]

    def cap_overlays(self) -> list[CapOverlay]:
        """See `Ledger.cap_overlays`."""
        return [codec.cap_overlay(row) for row in self._server.rows("cap_overlays")]

    def actions(self) -> list[AdministrativeAction]:
        """See `Ledger.actions`."""
        return [codec.action(row) for row in self._server.rows("administrative_actions")]

    def verify(
        self,
        *,
        since_last: bool = False,
        remember: bool = False,
        on_progress: OnProgress = ignore_progress,
    ) -> Verification:
        """See `Ledger.verify`."""
        horizon = verifying.horizon(self._server) if remember else None
        verified = verifying.verify(self._server, horizon, since_last=since_last, on_progress=on_progress)
        judge(self._server.name, verified.problems, "database")
        return Verification(
            verified.first_entry,
            verified.checkpoint.newest_entry,
            verified.fully_verified_at,
            is_remembered=horizon is not None and verifying.keep(self._server, verified),
        )

    # calls

    def _call(self, function: str, *arguments: Any) -> Any:
        """Calls a function of the schema and returns its result. Raises the ledger's error for a refusal."""
        try:
            result = self._server.call(function, *arguments)
        except Refusal as refusal:
            raise error_for(refusal.about) from None
        if isinstance(result, dict) and "refusal" in result:  # a refusal whose changes are committed
            raise error_for(result["refusal"])
        return result


def _new_call() -> str:
    """Returns an id for one call. A call that is repeated has the same id, so it takes effect only once."""
    return uuid4().hex


def _array(ref: Ref) -> list[str]:
    return [ref] if isinstance(ref, str) else [*ref]
