"""The scenarios of all hooks through the server's proxy: each leaves exactly the same journal."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kling_pricing import Budget, BudgetGuard, KlingPricingError, PriceBook
from kling_pricing.guard import freeze_all
from tests.conftest import Clock
from tests.hook_clients import Failures, Reply
from tests.providers import closed_port, running
from tests.server_runs import PLAIN_CLIENTS, RunningServer, serving
from tests.test_hooks_scenarios import IMPATIENT_S, PROVIDER, REJECT, SCENARIOS, Play, refusals


@dataclass
class ProxyPlay(Play):
    """The participants of a scenario whose client knows only the server."""

    server: RunningServer
    upstream: str = "studio"

    @property
    def url(self) -> str:
        """The base URL of the upstream for callers."""
        return self.server.base(self.upstream)

    def submit(self, *arguments: Any, host: str | None = None, **options: Any) -> Reply:
        """Submits a job by way of the upstream that behaves as the scenario needs it."""
        self.upstream = "nowhere" if host == self.nowhere else "studio"
        if options.get("read_timeout_s") == IMPATIENT_S:
            self.upstream = "impatient"
            del options["read_timeout_s"]
        try:
            return super().submit(*arguments, **options)
        finally:
            self.upstream = "studio"

    def refusal(self, kind: type[KlingPricingError], *arguments: Any, **options: Any) -> str:
        """Submits a job that the server refuses with a response in the provider's error shape."""
        reply = self.submit(*arguments, **options)
        assert reply.headers["x-kling-pricing-refused"] == kind.__name__
        message: str = reply.json["error"]["message"]
        return message

    def failure(self, name: str, **options: Any) -> None:
        """Submits a job for which the network behind the server fails."""
        reply = self.submit(**options)
        expected = {
            "read_timeout": (504, "upstream_timeout"),
            "disconnected": (502, "no_response"),
            "unreachable": (502, "upstream_unreachable"),
        }
        assert (reply.status, reply.json["error"]["code"]) == expected[name]


@contextmanager
def playing(folder: Path, book: PriceBook, name: str, budget: Budget) -> Iterator[ProxyPlay]:
    """Runs a provider, a guard with one budget, a server, and a client that knows nothing of the guard."""
    ledger = f"sqlite:///{folder}/spend.db"
    with running(PROVIDER) as provider, closed_port() as nowhere:
        guard = BudgetGuard(ledger, [budget], book=book, clock=Clock())
        upstreams = {
            "studio": {"provider": PROVIDER, "url": provider.url, "keeps_keys": True},
            "impatient": {"provider": PROVIDER, "url": provider.url, "submit_timeout_s": 1},
            "nowhere": {"provider": PROVIDER, "url": f"http://{nowhere}"},
        }
        with serving(ledger, folder, upstreams, guard) as server:
            client = PLAIN_CLIENTS[name](server.key())
            unused = Failures(OSError, OSError, OSError)
            try:
                yield ProxyPlay(provider, guard, client, unused, nowhere, server)
                guard.verify()
            finally:
                client.close()
        guard.close()


@pytest.mark.parametrize("client", PLAIN_CLIENTS)
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_scenario_leaves_the_same_journal_through_the_proxy(
    scenario: str, client: str, tmp_path: Path, book: PriceBook
) -> None:
    """A scenario leaves the same journal entries as with a hook in the client."""
    act, budget, journal = SCENARIOS[scenario]
    with playing(tmp_path, book, client, budget) as play:
        act(play)
        assert play.journal == journal


def test_refusals_have_the_apis_own_shape(tmp_path: Path, book: PriceBook) -> None:
    """The responses are those of a hook with `refusals="respond"`."""
    with playing(tmp_path, book, "httpx", REJECT) as play:
        assert refusals(play) == [
            (400, "CapabilityError", "capability"),
            (500, "", "error"),
            (409, "IdempotencyError", "idempotency"),
            (402, "BudgetExceededError", "budget_exceeded"),
        ]
        freeze_all(play.server.ledger, actor="li", reason="the bill looks wrong")
        frozen = play.submit()
        assert (frozen.status, frozen.json["error"]["code"]) == (402, "budget_frozen")
        assert len(play.provider.submissions) == 1
