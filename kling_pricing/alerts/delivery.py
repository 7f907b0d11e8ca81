"""Delivers the alerts of a ledger: one process at a time, in order per receiver, until each has arrived.

The ledger keeps the number of the last alert that each receiver has accepted. An alert counts as delivered only
after its receiver has accepted it, so a deliverer that is killed loses none: the next one sends the alert
again, with the same id.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from threading import Event, Lock, Thread
from typing import NamedTuple, Self
from uuid import uuid4

from kling_pricing.alerts.sending import attempt
from kling_pricing.budgets import BudgetsFile, budgets_from_document
from kling_pricing.budgets.receiver_names import is_receiver_name
from kling_pricing.errors import KlingPricingError, LedgerError, ReceiverError
from kling_pricing.guard.forecasts import forecasts
from kling_pricing.ledger import Ledger, connect
from kling_pricing.ledger.alerting import AlertReceiver, ExpectedExhaustion, StoredAlert
from kling_pricing.ledger.environment import ledger_url
from kling_pricing.money import format_decimal
from kling_pricing.windows import FOREVER, utc_clock

_log = logging.getLogger(__name__)

LEASE = "alerts"
"""The name of the deliverer's lease."""

_BATCH = 200
_FIRST_WAIT = timedelta(seconds=10)
_LONGEST_WAIT = timedelta(hours=1)
_MAX_DOUBLINGS = 10
_RENEWALS = 4
"""How often a lease is renewed before it would end."""


class ReceiverStatus(NamedTuple):
    """A receiver, and the number of alerts that it has not received yet.

    Attributes:
        receiver: the state of its deliveries.
        waiting: the number of alerts that wait to be delivered to this receiver.
    """

    receiver: AlertReceiver
    waiting: int


class Delivered(NamedTuple):
    """The result of one round of deliveries.

    Attributes:
        delivered: the number of deliveries that receivers accepted.
        receivers: the receivers after the round.
        other_holder: the process that delivers instead; None: this process did.
    """

    delivered: int
    receivers: tuple[ReceiverStatus, ...]
    other_holder: str | None = None

    @property
    def waiting(self) -> int:
        """The number of deliveries that are still to be made."""
        return sum(status.waiting for status in self.receivers)


class AlertDelivery:
    """Sends the alerts of a ledger to the receivers that its budgets name with `notify`.

    Several processes may deliver for one ledger: one of them sends, and the others wait until its lease ends.

    Args:
        ledger: the URL of the ledger; by default, the value of `KLING_PRICING_LEDGER`.
        timeout: the time limit for connecting to a receiver, and for each part of its response.
        lease: how long this process may deliver without renewing its lease. If it is killed, another process
            takes over after this time.
        doubtful_for: how long ago a job in doubt must have been sent for an alert.
        clock: returns the current instant with a time zone; by default, the system clock.

    Raises:
        KlingPricingError: a time is not greater than zero, or the lease is shorter than six times the timeout.
        LedgerError: the ledger cannot be used.
    """

    def __init__(
        self,
        ledger: str | None = None,
        *,
        timeout: timedelta = timedelta(seconds=10),
        lease: timedelta = timedelta(minutes=1),
        doubtful_for: timedelta = timedelta(hours=1),
        clock: Callable[[], datetime] | None = None,
    ) -> None:
        if not timedelta(0) < timeout <= lease / 6 or doubtful_for <= timedelta(0):
            raise KlingPricingError(
                "timeout and doubtful_for must be greater than zero, and lease at least six times timeout"
            )
        self._clock = utc_clock(clock)
        self._ledger: Ledger = connect(ledger_url(ledger), clock=self._clock)
        self._timeout = timeout
        self._lease = lease
        self._doubtful_for = doubtful_for
        self._holder = f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:8]}"
        self._lease_ends = 0
        self._sent, self._counting = 0, Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the ledger; the next use opens it again."""
        self._ledger.close()

    def alerts(self, *, budget: str | None = None, limit: int | None = None) -> list[StoredAlert]:
        """Returns the alerts in the ledger's outbox, the oldest first.

        Args:
            budget: only alerts of this budget.
            limit: only this many of the newest alerts; None: all.
        """
        alerts = [alert for alert in self._ledger.alerts() if budget is None or alert.budget == budget]
        return alerts if limit is None else alerts[max(0, len(alerts) - limit) :]

    def receivers(self) -> list[ReceiverStatus]:
        """Returns every receiver that the current budgets name, with its progress, sorted by name."""
        budgets, receivers = self._budgets(), self._ledger.receivers()
        oldest = min((receiver.delivered for receiver in receivers), default=0)
        alerts = self._ledger.alerts(after=oldest) if receivers else []
        return [
            ReceiverStatus(
                receiver,
                sum(
                    alert.seq > receiver.delivered and _is_for(receiver.name, alert, budgets)
                    for alert in alerts
                ),
            )
            for receiver in receivers
        ]

    def resume(self, receiver: str) -> None:
        """Lets a receiver that was stopped, or is paused after a failure, get its alerts in the next round.

        Raises:
            KlingPricingError: the current budgets do not name this receiver.
            LedgerError: the ledger has no budgets yet.
        """
        self._budgets()
        if not self._ledger.resume_receiver(receiver):
            names = ", ".join(known.name for known in self._ledger.receivers()) or "none"
            raise KlingPricingError(
                f"the current budgets do not name the receiver {receiver}; use one of the receivers under "
                f"`notify`: {names}"
            )

    def deliver(self) -> Delivered:
        """Sends every alert that is due, once, and returns when each receiver has its alerts or has failed.

        Also raises the alerts that no verb of a guard causes: forecasts, refusals, and jobs in doubt.

        Raises:
            LedgerError: the ledger cannot be used.
        """
        try:
            return self._round(Event())
        finally:
            self._end_lease()

    def watch(
        self,
        stop: Event,
        *,
        every: timedelta = timedelta(seconds=5),
        on_round: Callable[[Delivered], None] | None = None,
    ) -> None:
        """Delivers alerts until `stop` is set; then finishes the current attempts and ends the lease.

        A ledger that cannot be used at the moment is tried again.

        Args:
            stop: the event that ends the deliveries.
            every: the time between two rounds.
            on_round: called with the result of each round.
        """
        try:
            while not stop.is_set():
                try:
                    result = self._round(stop)
                except LedgerError as error:
                    _log.warning("alerts were not delivered: %s", error)
                else:
                    if on_round is not None:
                        on_round(result)
                stop.wait(every.total_seconds())
        finally:
            self._end_lease()

    def test(self, receiver: str) -> None:
        """Sends a test message to a receiver.

        Args:
            receiver: the name of the receiver, `env:NAME` or `file:PATH`. It does not have to be in the budgets
                yet.

        Raises:
            ReceiverError: the receiver is not set up, or did not accept the message.
            KlingPricingError: this is not the name of a receiver.
        """
        if not is_receiver_name(receiver):
            raise KlingPricingError(
                "a receiver must be env:NAME or file:PATH; name the variable or the file that contains its URL"
            )
        message = StoredAlert(
            0, uuid4().hex, self._clock(), "test", None, {}, *(None,) * 7, {"ledger": self._ledger.name}
        )  # fmt: skip
        problem = attempt(receiver, message, self._timeout).problem
        if problem is not None:
            raise ReceiverError(problem, receiver=receiver)

    # one round

    def _round(self, stop: Event) -> Delivered:
        budgets = self._budgets()
        held_by = self._take_lease()
        if held_by is not None:
            return Delivered(0, tuple(self.receivers()), held_by)
        self._raise_alerts(budgets)
        now = self._clock()
        due = [
            receiver
            for receiver in self._ledger.receivers()
            if receiver.stopped_at is None and (receiver.next_at is None or receiver.next_at <= now)
        ]
        self._sent = 0
        halt = Event()
        threads = [
            Thread(target=self._serve, args=(receiver, budgets, halt), name=receiver.name, daemon=True)
            for receiver in due
        ]
        for thread in threads:
            thread.start()
        self._oversee(threads, stop, halt)
        return Delivered(self._sent, tuple(self.receivers()))

    def _oversee(self, threads: list[Thread], stop: Event, halt: Event) -> None:
        """Waits for the threads, and keeps the lease meanwhile. Halts them if this process must stop."""
        pause = (self._lease / _RENEWALS).total_seconds()
        try:
            for thread in threads:
                while thread.is_alive():
                    thread.join(min(pause, 1) if not stop.is_set() else pause)
                    if stop.is_set():
                        halt.set()
                    elif (
                        time.monotonic_ns() > self._lease_ends - self._lease_ns() * (_RENEWALS - 1) // _RENEWALS
                    ):
                        self._take_lease()
        except LedgerError:
            halt.set()
            for thread in threads:  # so that the next round does not overtake them
                thread.join()
            raise
        except BaseException:
            halt.set()  # after Ctrl-C, no further attempt begins
            raise

    def _serve(self, receiver: AlertReceiver, budgets: BudgetsFile, halt: Event) -> None:
        """Sends the alerts of one receiver in order, until one fails or none is left."""
        try:
            after, skipped = receiver.delivered, False
            while alerts := self._ledger.alerts(after=after, limit=_BATCH):
                for alert in alerts:
                    if _is_for(receiver.name, alert, budgets):
                        if halt.is_set() or not self._has_time() or not self._send(receiver, alert):
                            return
                    else:
                        skipped = True
                    after = alert.seq
            if skipped:
                self._ledger.mark_delivered(receiver.name, after)
        except LedgerError as error:
            _log.warning("alerts for %s were not delivered: %s", receiver.name, error)

    def _send(self, receiver: AlertReceiver, alert: StoredAlert) -> bool:
        """Sends one alert, and records the result. Returns whether the receiver has accepted it."""
        result = attempt(receiver.name, alert, self._timeout)
        if result.problem is None:
            self._ledger.mark_delivered(receiver.name, alert.seq)
            with self._counting:
                self._sent += 1
            return True
        wait = min(_FIRST_WAIT * 2 ** min(receiver.failures, _MAX_DOUBLINGS), _LONGEST_WAIT)
        if result.retry_after is not None:
            wait = min(max(wait, result.retry_after), _LONGEST_WAIT)
        self._ledger.mark_failed(receiver.name, result.problem, None if result.is_gone else wait)
        return False

    def _raise_alerts(self, budgets: BudgetsFile) -> None:
        """Raises the alerts that no verb of a guard causes."""
        definitions = {budget.name: budget.definition for budget in budgets.budgets}
        expected = [
            ExpectedExhaustion(
                forecast.bucket.budget,
                definitions[forecast.bucket.budget],
                forecast.bucket.labels,
                forecast.bucket.window_start,
                {
                    "exhausted_at": forecast.exhausted_at.isoformat(timespec="seconds"),
                    "pace_per_day": format_decimal(forecast.pace_per_day),
                },
            )
            for forecast in forecasts(self._ledger, budgets, self._clock())
            if forecast.exhausted_at is not None
            and forecast.pace_per_day is not None
            and forecast.bucket.window_end != FOREVER.end
        ]
        self._ledger.raise_alerts(expected, doubtful_for=self._doubtful_for)

    def _budgets(self) -> BudgetsFile:
        """Returns the current budgets.

        Raises:
            LedgerError: the ledger has no budgets yet.
        """
        revision = self._ledger.installed()
        if revision is None:
            raise LedgerError(
                f"ledger {self._ledger.name} has no budgets yet; check that this is the right ledger, or "
                "install budgets with `kling-pricing budget apply FILE`"
            )
        return budgets_from_document(revision.document)

    # the lease

    def _take_lease(self) -> str | None:
        """Takes or renews the lease; returns its holder if another process has it."""
        asked = time.monotonic_ns()
        lease = self._ledger.take_lease(LEASE, self._holder, self._lease)
        if not lease.is_held:
            self._lease_ends = 0
            return lease.holder.rpartition(":")[0]
        self._lease_ends = asked + self._lease_ns()
        return None

    def _has_time(self) -> bool:
        """Returns whether an attempt will end before the lease."""
        longest = 3 * self._timeout // timedelta(microseconds=1) * 1000
        return time.monotonic_ns() + longest < self._lease_ends

    def _lease_ns(self) -> int:
        return self._lease // timedelta(microseconds=1) * 1000

    def _end_lease(self) -> None:
        """Lets another process deliver at once. If the ledger cannot be used, the lease ends by itself."""
        if self._lease_ends:
            self._lease_ends = 0
            with suppress(LedgerError):
                self._ledger.end_lease(LEASE, self._holder)


def _is_for(receiver: str, alert: StoredAlert, budgets: BudgetsFile) -> bool:
    """Returns whether an alert concerns a receiver.

    The receivers at the top level of the budgets file get every alert. A budget's own receivers get the alerts
    of that budget, of the jobs that it counts, and of everything that concerns no single budget.
    """
    if receiver in budgets.notify:
        return True
    named = [budget for budget in budgets.budgets if receiver in budget.notify]
    if alert.budget is not None:
        return any(budget.name == alert.budget for budget in named)
    return not alert.labels or any(budget.bucket_labels(alert.labels) is not None for budget in named)
