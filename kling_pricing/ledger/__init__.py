"""Ledgers: where reservations, balances and the journal are kept, one kind of store in each file.

A ledger knows nothing of prices or payloads: it counts.
Every verb is one transaction: what it returns is kept durably, and when it raises nothing has changed, but that
what has expired is released, and what was observed is remembered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from kling_pricing.budgets import BudgetsFile
from kling_pricing.display import not_installed
from kling_pricing.errors import LedgerUnavailableError
from kling_pricing.ledger.journal import Bucket, BucketHistory, Entry, Observation
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


class Ledger(Protocol):
    """What every store offers.

    Raises, from every verb:
        LedgerUnavailableError: the store cannot be read or written.
        ReservationNotFoundError: a reference leads to no reservation.
    """

    @property
    def name(self) -> str:
        """What errors call it: its place, without any password."""

    @property
    def max_concurrency(self) -> int:
        """How many verbs are carried out at the same time; more wait for their turn."""

    def install(self, budgets: BudgetsFile) -> Revision:
        """Installs budgets if there are none yet; returns those installed."""

    def installed(self) -> Revision | None:
        """The budgets in force; None: there are none yet."""

    def apply(self, budgets: BudgetsFile) -> tuple[Alert, ...]:
        """Installs budgets in place of those in force; balances stay.

        Returns:
            The alerts of thresholds that are reached by what was counted before.

        Raises:
            BudgetError: a budget of the same name counts otherwise and does not carry over what was counted.
        """

    def reserve(
        self, order: ReservationRequest, candidates: Sequence[PricedVariant], *, expires_after: timedelta
    ) -> Reserved | Refused | Outdated | Mistimed:
        """Sets money aside in every bucket that an order claims, or in none.

        The candidates are tried in turn; the first is the request as the caller made it. Where a budget that
        does not cap has no room for that one, the others are not tried.
        A key used before with the same request gives the reservation that is still to be sent, or a new
        attempt after one that was released.

        Raises:
            IdempotencyError: the key was used with another request.
            ReservationStateError: the key's job was sent already.
        """

    def dispatch(self, reservation_id: str, *, doubtful_after: timedelta) -> None:
        """From reserved to dispatching, for exactly one caller.

        Raises:
            ReservationStateError: it was dispatched already, is released, or has expired.
        """

    def bind(self, ref: Ref, task_id: str) -> Change:
        """Notes the provider's task, and applies what was observed of that task before.

        Raises:
            ReservationStateError: it was never sent, has another task, or the task has another reservation.
        """

    def doubt(self, ref: Ref, reason: str) -> Reservation:
        """Notes that nobody knows whether the provider has what was sent; of no effect once that is known.

        Raises:
            ReservationStateError: it was never sent.
        """

    def release(self, ref: Ref, reason: str, *, states: Iterable[str]) -> Reservation:
        """Gives back what is held, from one of these states; of no effect if that was done before.

        What was marked in doubt (see `doubt`) is given back only if `DOUBTED` is among the states too; that its
        deadline has passed does not count as a mark.

        Raises:
            ReservationStateError: it is in another state, or in doubt.
        """

    def settle(self, ref: Ref, amount: Decimal | None, basis: Basis) -> Change:
        """Spends an amount (None: the quote) in place of what is held, or of an amount on a weaker basis.

        An amount on a weaker basis has no effect.

        Raises:
            ReservationStateError: it was never sent, or another amount stands on the same basis.
        """

    def observe(
        self, seen: Observation, ref: Ref | None, *, made: Decimal | None = None, remark: str | None = None
    ) -> Change | None:
        """Remembers an observation of a task, and applies it to its reservation: now, or when that is bound.

        Repeating it has no effect.

        Args:
            seen: the observation.
            ref: the reservation of the task; None: the reservation that is bound to it.
            made: the price of what was made, which counts if the task succeeded and no charge is named; it is
                used only if the reservation is bound already. None: the quote counts.
            remark: a contradiction in the response, which becomes an alert if the observation is new and its
                reservation is bound already.

        Returns:
            What that changed; None: nobody knows yet whose task it is.

        Raises:
            ReservationStateError: the reservation cannot be bound to the task; what was seen is remembered.
        """

    def record(
        self, order: ReservationRequest, spent: PricedVariant, task_id: str, at: datetime
    ) -> Change | Outdated:
        """Books spend that was made elsewhere, whatever the caps say; of no effect if repeated.

        Raises:
            IdempotencyError: the task is in the ledger with something else.
        """

    def open_bucket(self, claim: BucketClaim, spent: int) -> tuple[Alert, ...]:
        """Counts nanos that were spent in a bucket's current window before the ledger knew of it.

        Raises:
            IdempotencyError: the window has its opening balance already.
        """

    def reservation(self, ref: Ref) -> Reservation:
        """One reservation."""

    def reservations(
        self,
        *,
        project: str | None = None,
        key: str | None = None,
        in_doubt: bool = False,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> list[Reservation]:
        """Those that were made from `since` on and before `until`, the oldest first."""

    def sent(self, provider: str, before: datetime) -> Iterator[bytes]:
        """The reservations of a provider that were sent before an instant, in no order: for reading very many.

        Recorded spend is among them, what was refused without a task is not. They are of one moment, nothing is
        changed, not even what has expired, and others may go on meanwhile.

        Yields:
            Some lines of UTF-8 text at a time, each with the fields of `model.SENT`.
        """

    def unclaimed(self) -> list[Observation]:
        """What was observed of tasks that belong to no reservation."""

    def buckets(self, at: datetime) -> list[tuple[str, Bucket]]:
        """Every bucket whose window an instant lies in, with its budget's definition.

        What has expired is no longer held, whether or not it is released already.
        """

    def bucket_histories(self, since: datetime, until: datetime) -> list[BucketHistory]:
        """Every bucket whose window lies at least partly in a period, with what moved it; all of one moment."""

    def journal(self) -> list[Entry]:
        """Every entry, the oldest first."""

    def verify(self) -> None:
        """Derives every balance from the journal once more.

        Raises:
            LedgerError: something differs; it says what.
        """

    def close(self) -> None:
        """Gives up connections; the next verb makes new ones."""


def connect(url: str, *, clock: Callable[[], datetime]) -> Ledger:
    """Opens a ledger.

    Args:
        url: `sqlite:///spend.db` (a file of the working folder), `sqlite:////srv/spend.db`, or
            `postgresql://user@host/database` with whatever libpq understands, and `pool_size` and `wait_s`.
        clock: tells the instant, with a time zone.

    Raises:
        LedgerUnavailableError: the URL names no ledger that is known here.
    """
    if not isinstance(url, str):
        raise LedgerUnavailableError(f"a ledger is named by a URL such as sqlite:///spend.db, got {url!r}")
    if is_on_a_server(url):
        server: Ledger = store("postgres").PostgresLedger(url, clock)
        return server
    ledger: Ledger = store("sqlite").SQLiteLedger(file_of(url), clock)
    return ledger


def file_of(url: str) -> Path:
    """Returns the absolute path of the file that a URL names, so that the process may change its folder.

    Raises:
        LedgerUnavailableError: the URL does not name a file.
    """
    scheme, separator, rest = url.partition("://")
    names_a_file = rest.startswith("/") and rest[1:] and rest != "/:memory:" and not set(rest) & set("?\0")
    if scheme == "sqlite" and separator and names_a_file:
        return Path(rest[1:]).absolute()
    raise LedgerUnavailableError(
        f"{url!r} names no ledger; write sqlite:///spend.db for a file of this folder, "
        "sqlite:////srv/spend.db for one elsewhere, or postgresql://user@host/database"
    )


def is_on_a_server(url: str) -> bool:
    """Whether a URL names a ledger in PostgreSQL."""
    return url.startswith(("postgresql://", "postgres://"))


def store(name: str, part: str | None = None) -> Any:
    """The module of a kind of store, or a part of it: loaded only where it is used.

    Raises:
        LedgerUnavailableError: what it needs is not installed.
    """
    module = f"kling_pricing.ledger.{name}"
    try:
        return import_module(module if part is None else f"{module}.{part}")
    except ModuleNotFoundError as error:
        if (error.name or "").startswith(__name__):
            raise
        raise LedgerUnavailableError(not_installed(f"a ledger in {name}", f"{error.name}", name)) from error
