"""A pytest plugin: the fixture `kling_sandbox` is a running sandbox with a clock that stands still."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from kling_pricing.sandbox.running import Sandbox


@pytest.fixture
def kling_sandbox(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    """Yields a sandbox; the marker `kling_scenario` of a test gives it a scenario: a mapping or a file."""
    from kling_pricing.sandbox.running import Sandbox  # noqa: PLC0415 (nothing is imported until it is asked for)

    marker = request.node.get_closest_marker("kling_scenario")
    scenario = marker.args[0] if marker is not None else {"speed": 0}
    with Sandbox(scenario) as sandbox:
        yield sandbox


def pytest_configure(config: pytest.Config) -> None:
    """Registers the marker."""
    config.addinivalue_line("markers", "kling_scenario(scenario): the scenario of the fixture kling_sandbox")
