"""A simulated provider for tests: it responds like the real APIs, bills for jobs, and fails on demand.

The sandbox has its own code to read payloads and price jobs, so that its bill is an independent check of the
rest of the library, of which it uses only the tables, amounts, times, YAML reader and errors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kling_pricing.sandbox.running import Sandbox
    from kling_pricing.sandbox.scenario import Scenario, load_scenario

__all__ = ["Sandbox", "Scenario", "load_scenario"]

_PLACES = {"Sandbox": "running", "Scenario": "scenario", "load_scenario": "scenario"}


def __getattr__(name: str) -> Any:
    """Imports a name on first use, because the pytest plugin is loaded in every test run."""
    if name in _PLACES:
        from importlib import import_module  # noqa: PLC0415 (as the docstring says)

        return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
