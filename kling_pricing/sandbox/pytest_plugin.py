"""A pytest plugin with the fixture `kling_sandbox`: a running sandbox whose clock stands still."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from kling_pricing.sandbox.running import Sandbox


@pytest.fixture
def kling_sandbox(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    """Yields a running sandbox.

    To set the scenario, add the marker `kling_scenario` to the test, with a mapping or the path of a file.
    """
    from kling_pricing.sandbox.running import Sandbox  # noqa: PLC0415 (imported only by tests that use the fixture)

    marker = request.node.get_closest_marker("kling_scenario")
    scenario = marker.args[0] if marker is not None else {"speed": 0}
    with Sandbox(scenario) as sandbox:
        yield sandbox


def pytest_configure(config: pytest.Config) -> None:
    """Registers the marker `kling_scenario`."""
    config.addinivalue_line("markers", "kling_scenario(scenario): the scenario for the fixture `kling_sandbox`")
