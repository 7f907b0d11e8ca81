"""Metrics of the server in the format of Prometheus.

Every label has few values: names from the settings and the budgets file, routes, and words of this module.
Amounts are for graphs, and Prometheus rounds them; the API has the exact ones.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from decimal import Decimal
from threading import Lock
from typing import Literal, NamedTuple, TypeAlias

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from kling_pricing.errors import KlingPricingError
from kling_pricing.guard import BudgetGuard
from kling_pricing.ledger import Ledger

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""The media type of the metrics."""

SHARED_FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""The environment variable with the folder through which several processes share their metrics."""

_READ_EVERY_NS = 5 * 10**9
"""How long the values that are read from the ledger are kept, so that frequent scrapes cost nothing."""

_NS_PER_S = 10**9
_BUCKETS = ["0.001", "0.0025", "0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "10"]
"""The upper ends of the classes of times, in seconds."""

Step: TypeAlias = Literal["quote", "admit"]
Outcome: TypeAlias = Literal["admitted", "capped", "refused", "passed", "unauthorized", "failed"]
"""The outcome of a request to an upstream: `passed` requests are not submissions."""
Trouble: TypeAlias = Literal["no_connection", "timeout", "status_5xx", "status_429", "status_401", "other"]
"""The kind of an upstream's error."""


class Metrics:
    """The metrics of one process, or of all processes that share a folder."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "kling_pricing_requests",
            "Requests to upstreams, by their outcome.",
            ("upstream", "outcome"),
            registry=self._registry,
        )
        self._answers = Counter(
            "kling_pricing_api_answers",
            "Answers of the API, by route and status.",
            ("method", "route", "status"),
            registry=self._registry,
        )
        self._times = Histogram(
            "kling_pricing_seconds",
            "Time to quote a payload, and time to admit it, including the quote.",
            ("step",),
            buckets=_BUCKETS,
            registry=self._registry,
        )
        self._troubles = Counter(
            "kling_pricing_upstream_errors",
            "Errors of upstreams, by kind.",
            ("upstream", "kind"),
            registry=self._registry,
        )
        self._polls = Counter(
            "kling_pricing_polls",
            "Questions to upstreams about tasks, by the outcome.",
            ("upstream", "outcome"),
            registry=self._registry,
        )

        self._callbacks = Counter(
            "kling_pricing_callbacks",
            "Callbacks of providers, by the status of the response.",
            ("upstream", "status"),
            registry=self._registry,
        )

    def count_request(self, upstream: str, outcome: Outcome) -> None:
        """Counts a request to an upstream, whose name must be one of the settings."""
        self._requests.labels(upstream, outcome).inc()

    def count_answer(self, method: str, route: str, status: int) -> None:
        """Counts an answer of the API. The route is the template of a path, such as `/keys/{name}/revoke`."""
        self._answers.labels(method, route, str(status)).inc()

    def count_upstream_error(self, upstream: str, kind: Trouble) -> None:
        """Counts an error of an upstream, whose name must be one of the settings."""
        self._troubles.labels(upstream, kind).inc()

    def count_poll(self, upstream: str, outcome: str) -> None:
        """Counts a question to an upstream about a task; the outcome is that of a `PollResult`."""
        self._polls.labels(upstream, outcome).inc()

    def count_callback(self, upstream: str, status: int) -> None:
        """Counts a callback to an upstream, whose name must be one of the settings."""
        self._callbacks.labels(upstream, str(int(status))).inc()

    @contextmanager
    def timed(self, step: Step) -> Iterator[None]:
        """Measures how long a step takes, whether it succeeds or not."""
        begun_ns = time.perf_counter_ns()
        try:
            yield
        finally:
            took_ns = time.perf_counter_ns() - begun_ns
            self._times.labels(step).observe(took_ns / _NS_PER_S)

    def text(self, ledger: LedgerGauges) -> bytes:
        """Returns the metrics of this process, or of all that share the folder, and those of the ledger."""
        shared = CollectorRegistry()
        if os.environ.get(SHARED_FOLDER_VARIABLE):
            MultiProcessCollector(shared)  # type: ignore[no-untyped-call]
            counted = generate_latest(shared)
        else:
            counted = generate_latest(self._registry)
        own = CollectorRegistry()
        own.register(ledger)
        return counted + generate_latest(own)


class _Reading(NamedTuple):
    """The values of the ledger at one instant.

    Attributes:
        read_ns: when they were read, by the monotonic clock.
        families: the metrics.
    """

    read_ns: int
    families: list[Metric]


class LedgerGauges(Collector):
    """Reads gauges from the ledger, at most every five seconds.

    Args:
        guard: returns the guard of the server, which it opens on first use.
        ledger: the ledger.
    """

    def __init__(self, guard: Callable[[], BudgetGuard], ledger: Ledger) -> None:
        self._guard = guard
        self._ledger = ledger
        self._lock = Lock()
        self._last: _Reading | None = None

    def collect(self) -> list[Metric]:
        """Returns the gauges; if the ledger cannot be read, only `kling_pricing_ledger_up`, which is 0."""
        with self._lock:
            now_ns = time.monotonic_ns()
            if self._last is None or now_ns - self._last.read_ns >= _READ_EVERY_NS:
                self._last = _Reading(now_ns, self._read())
            return self._last.families

    def _read(self) -> list[Metric]:
        up = GaugeMetricFamily("kling_pricing_ledger_up", "Whether the ledger can be used.")
        try:
            families = [*self._budgets(), *self._doubt(), *self._outbox()]
        except KlingPricingError:
            up.add_metric((), 0)
            return [up]
        up.add_metric((), 1)
        return [up, *families]

    def _budgets(self) -> list[Metric]:
        names = {
            "held": "Money held, by budget.",
            "spent": "Money spent, by budget.",
            "left": "Money left, by budget.",
        }
        families = {
            name: GaugeMetricFamily(
                f"kling_pricing_budget_{name}",
                f"{text} For a budget with several balances, the " + ("lowest." if name == "left" else "sum."),
                labels=("budget", "currency"),
            )
            for name, text in names.items()
        }
        totals: dict[tuple[str, str], list[Decimal]] = {}
        for bucket in self._guard().status():
            amounts = totals.setdefault(
                (bucket.budget, bucket.currency), [Decimal(0), Decimal(0), bucket.available]
            )
            amounts[0] += bucket.held
            amounts[1] += bucket.spent
            amounts[2] = min(amounts[2], bucket.available)
        for labels, amounts in totals.items():
            for family, amount in zip(families.values(), amounts, strict=True):
                family.add_metric(labels, amount)  # type: ignore[arg-type]
        return [*families.values()]

    def _doubt(self) -> list[Metric]:
        guard = self._guard()
        now, doubtful = guard.clock(), guard.in_doubt()
        sent = [each.dispatched_at or each.created_at for each in doubtful]
        return [
            _gauge("kling_pricing_in_doubt", "Number of jobs in doubt.", len(doubtful)),
            _gauge(
                "kling_pricing_in_doubt_age_seconds",
                "Time since the oldest job in doubt was sent; 0 if there is none.",
                _seconds(now - min(sent, default=now)),
            ),
        ]

    def _outbox(self) -> list[Metric]:
        ledger, now = self._ledger, self._guard().clock()
        behind = [receiver.delivered for receiver in ledger.receivers() if receiver.stopped_at is None]
        oldest = ledger.alerts(after=min(behind), limit=1) if behind else []
        return [
            _gauge(
                "kling_pricing_outbox_age_seconds",
                "Age of the oldest alert that a receiver has not received yet; 0 if there is none.",
                _seconds(now - oldest[0].at) if oldest else 0,
            )
        ]


def _gauge(name: str, text: str, value: int) -> Metric:
    family = GaugeMetricFamily(name, text)
    family.add_metric((), value)
    return family


def _seconds(time: timedelta) -> int:
    return max(time // timedelta(seconds=1), 0)
