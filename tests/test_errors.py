"""Errors carry their context, wherever they travel."""

import copy
import inspect
import pickle
import pkgutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from importlib import import_module
from typing import Any

import pytest

import kling_pricing
from kling_pricing import KlingPricingError, TableError, Violation

VALUES: dict[str, Any] = {
    "str": "trailer",
    "str | None": "kling-v3",
    "int": 401,
    "int | None": 7,
    "Decimal": Decimal("0.714"),
    "Decimal | None": Decimal("0.357"),
    "datetime | None": datetime(2026, 11, 30, tzinfo=UTC),
    "Sequence[Violation]": (Violation("code", "field", [1], {"max": 1}, "message", "source"),),
    "Sequence[Mapping[str, Any]]": ({"resolution": "1080p", "audio": None},),
    "Sequence[str]": ("kling-v3 720p", "kling-v3 1080p"),
    "dict[str, Any]": {"reason": "unknown"},
}
"""A value for each type of a constructor's parameter."""


def error_classes() -> Iterator[type[KlingPricingError]]:
    """Yields the base class and every subclass in the package."""
    for module in pkgutil.walk_packages(kling_pricing.__path__, "kling_pricing."):
        if not module.name.endswith(".__main__"):
            import_module(module.name)
    pending = [KlingPricingError]
    while pending:
        kind = pending.pop()
        pending += kind.__subclasses__()
        if kind.__module__.startswith("kling_pricing."):
            yield kind


def with_full_context(kind: type[KlingPricingError]) -> KlingPricingError:
    """Makes an error of this class with a value for every parameter of its constructor."""
    if "__init__" not in kind.__dict__:
        return kind("the cause; the remedy")
    _, first, *context = inspect.signature(kind.__init__).parameters.values()
    return kind(VALUES[first.annotation], **{each.name: VALUES[each.annotation] for each in context})


def pickled(error: KlingPricingError) -> KlingPricingError:
    """Sends an error through a pickle, as a process pool does."""
    copied: KlingPricingError = pickle.loads(pickle.dumps(error))  # noqa: S301 (our own bytes)
    return copied


@pytest.mark.parametrize("kind", sorted(error_classes(), key=str))
@pytest.mark.parametrize("transfer", [pickled, copy.copy, copy.deepcopy])
def test_every_error_keeps_its_message_and_context(
    kind: type[KlingPricingError], transfer: Callable[[KlingPricingError], KlingPricingError]
) -> None:
    """Pickling and copying preserve the class, the message, and every attribute."""
    error = with_full_context(kind)
    error.add_note("while reading the second file")
    twin = transfer(error)
    assert twin is not error
    assert type(twin) is kind
    assert (str(twin), repr(twin), twin.args) == (str(error), repr(error), error.args)
    assert vars(twin) == vars(error)


def test_an_attribute_added_later_is_context_too() -> None:
    """An attribute that a caller sets on an error is preserved as well."""
    error = TableError("unknown key", file="a.yaml", line=3, key_path="rates")
    error.attempt = 2  # type: ignore[attr-defined]
    assert vars(pickled(error))["attempt"] == 2
    assert str(error) == "a.yaml:3: rates: unknown key"
