"""Two providers with a server in front of each, which the tests of a module share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kling_pricing import Budget, BudgetGuard
from tests.conftest import bundled_book
from tests.providers import Provider, running
from tests.server_runs import CREDENTIAL, RunningServer, serving

BUDGETS = [Budget(name="all", cap=50, currency="USD")]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Provider, RunningServer]]:
    """A gateway that needs a key, and a server in front of it; tests use keys and projects of their own."""
    yield from _served(tmp_path_factory, "qingbo", "studio", open_paths=["/v1/models"])


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Provider, RunningServer]]:
    """The official API, which lists tasks, and a server in front of it."""
    yield from _served(tmp_path_factory, "kling", "kling")


def _served(
    folders: pytest.TempPathFactory, name: str, upstream: str, **settings: object
) -> Iterator[tuple[Provider, RunningServer]]:
    folder = folders.mktemp(upstream)
    ledger = f"sqlite:///{folder}/spend.db"
    with running(name, api_key=CREDENTIAL) as provider:
        guard = BudgetGuard(ledger, BUDGETS, book=bundled_book())
        upstreams = {upstream: {"provider": name, "url": provider.url, **settings}}
        with serving(ledger, folder, upstreams, guard) as server:
            yield provider, server
        guard.close()
