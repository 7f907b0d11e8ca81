"""What several tests share."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

import kling_pricing
from kling_pricing import PriceBook, load_price_book

settings.register_profile("any machine", deadline=None)  # how long an example takes is no test
settings.load_profile("any machine")

AT = datetime(2026, 11, 21, tzinfo=UTC)
"""The instant at which tests price, so that no table is stale."""

PRICES = """\
provider: acme
wire_formats: [tasks]
currency: EUR
valid_from: null
sources:
  - {ref: price page, checked: 2026-11-01, authority: official}
billing: {failed_tasks: refunded}
tiers:
  - {tier: silent}
quantity:
  - {fact: duration_s}
rates:
  kling-v2-6:
    720p: {silent: 0.05}
    1080p: {silent: 0.07}
  kling-v3:
    720p: {silent: 0.1}
    1080p: {silent: 0.2}
    4k: {silent: 0.3}
  kling-v3-omni:
    720p: {silent: 0.1}
    1080p: {silent: 0.2}
    4k: {silent: 0.3}
  kling-video-o1:
    720p: {silent: 0.1}
    1080p: {silent: 0.2}
"""
"""A sound price file of a provider of the tests' own: one tier, so ten cells, all priced."""


def bundled(*path: str) -> Path:
    """A bundled file of tables, in the installed package or beside it in a checkout."""
    package = Path(str(kling_pricing.__file__)).parent
    installed = package / "pricing_tables"
    root = installed if installed.is_dir() else package.parent / "pricing_tables"
    return root.joinpath(*path)


@pytest.fixture(scope="session")
def book() -> PriceBook:
    """The bundled tables."""
    return load_price_book()


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., Path]:
    """Writes files below a folder of tables and returns the folder."""

    def write(files: dict[str, str | bytes]) -> Path:
        for name, content in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return tmp_path

    return write


def pytest_addoption(parser: pytest.Parser) -> None:
    """For how many seconds to kill processes in the middle of their work."""
    parser.addoption("--torture", type=int, default=5, metavar="SECONDS", help="how long to kill processes")


class Clock:
    """A clock that stands still until it is told to go on (or back)."""

    def __init__(self, now: datetime = AT) -> None:
        self.now = now

    def __call__(self) -> datetime:
        """What it shows."""
        return self.now

    def pass_by(self, **time: float) -> None:
        """Lets time pass: `pass_by(minutes=16)`."""
        self.now += timedelta(**time)


@pytest.fixture
def clock() -> Clock:
    """A clock that stands at `AT`."""
    return Clock()


@pytest.fixture(params=["sqlite"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty ledger, once for each kind of store."""
    return f"{request.param}:///{tmp_path}/spend.db"


def video(model: str = "kling-v3", **fields: Any) -> dict[str, Any]:
    """A payload of wire format `tasks`; a field that is None is left out."""
    payload = {"model": model, "prompt": "a paper boat in the rain", **fields}
    return {name: value for name, value in payload.items() if value is not None}
