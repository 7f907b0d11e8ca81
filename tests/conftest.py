"""Fixtures and helpers that several tests share."""

import atexit
import os
import shutil
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

import psycopg
import pytest
from hypothesis import settings

import kling_pricing
from kling_pricing import Budget, BudgetGuard, PriceBook, load_price_book
from kling_pricing.guard.daily_counter import write_all
from tests.emptied import EmptyLedger
from tests.servers import execute, folder_for_servers, running

if TYPE_CHECKING:
    from tests.studio import Month

settings.register_profile("any machine", deadline=None)  # the time an example takes is not tested
settings.load_profile("any machine")

if "KLING_PRICING_CACHE" not in os.environ:  # the processes that a test or pytest-xdist starts share this one
    _caches = TemporaryDirectory(prefix="kling-pricing-cache-")
    os.environ["KLING_PRICING_CACHE"] = _caches.name
    atexit.register(_caches.cleanup)

if "PYTHONDONTWRITEBYTECODE" in os.environ:  # or each interpreter that a test starts compiles the whole package
    _bytecode = TemporaryDirectory(prefix="kling-pricing-bytecode-", ignore_cleanup_errors=True)
    atexit.register(_bytecode.cleanup)
    os.environ["PYTHONPYCACHEPREFIX"] = _bytecode.name
    del os.environ["PYTHONDONTWRITEBYTECODE"]

pytest.MonkeyPatch().setattr(ssl, "create_default_context", cache(ssl.create_default_context))
# each client would load the certificates of all authorities again, although tests use none of them

_MEMORY = Path("/dev/shm")  # noqa: S108 (a folder in memory, on Linux)
_ENOUGH_BYTES = 4 << 30
if os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).free > _ENOUGH_BYTES:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(_MEMORY))  # a disk delays every verb

IN_CI = bool(os.environ.get("CI"))
"""Whether a usual run may take longer, because nobody waits for it."""

LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"
"""Whether properties are tried with many more examples."""


def examples(usual: int, long: int | None = None) -> int:
    """Returns the number of examples for a property.

    Args:
        usual: the number in a usual run.
        long: the number with `HYPOTHESIS_PROFILE=long`; None: twenty times the usual number.
    """
    if not LONG:
        return usual
    return 20 * usual if long is None else long


def in_memory() -> str | None:
    """Returns a folder in memory for `tempfile`, because a disk delays every verb; None: there is none."""
    return str(_MEMORY) if os.access(_MEMORY, os.W_OK) else None


AT = datetime(2026, 11, 21, tzinfo=UTC)
"""The instant at which tests price."""

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
"""A valid price file of a test provider: one tier, so ten cells, all priced."""


def bundled(*path: str) -> Path:
    """Returns the path of a bundled table file, in the installed package or beside it in a checkout."""
    package = Path(str(kling_pricing.__file__)).parent
    installed = package / "pricing_tables"
    root = installed if installed.is_dir() else package.parent / "pricing_tables"
    return root.joinpath(*path)


@cache
def bundled_book() -> PriceBook:
    """Returns the bundled tables, which are loaded once per process."""
    return load_price_book()


OPENAI2_VARIABLE = "KLING_PRICING_TEST_OPENAI2"


@pytest.fixture(scope="session")
def openai2(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with version 2 of the SDK: the folder in `OPENAI2_VARIABLE`, or one that is installed once."""
    if given := os.environ.get(OPENAI2_VARIABLE):
        return Path(given)
    cache = getattr(pytestconfig, "cache", None)
    folder = Path(cache.mkdir("openai2")) if cache else tmp_path_factory.mktemp("openai2")
    if not (folder / "openai").is_dir():
        command = [sys.executable, "-m", "pip", "install", "-q", "--target", str(folder), "openai>=2,<3"]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode:
            assert not os.environ.get("CI"), f"version 2 of the SDK could not be installed: {result.stderr}"
            pytest.skip("version 2 of the SDK cannot be installed here")
    return folder


@pytest.fixture(scope="session")
def book() -> PriceBook:
    """The bundled tables."""
    return bundled_book()


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., Path]:
    """Returns a function that writes files into a folder of tables and returns the folder."""

    def write(files: dict[str, str | bytes]) -> Path:
        for name, content in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return tmp_path

    return write


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds the options for long tests."""
    parser.addoption("--torture", type=int, default=3, metavar="SECONDS", help="how long to kill processes")
    parser.addoption(
        "--power-cuts",
        type=int,
        default=300 if IN_CI else 120,
        metavar="N",
        help="how many power cuts to replay",
    )
    parser.addoption(
        "--simulations", type=int, default=200 if IN_CI else 80, metavar="N", help="how many seeds to simulate"
    )
    parser.addoption("--seed", type=int, metavar="N", help="simulate this seed only")
    parser.addoption(
        "--long",
        action="store_true",
        help="also try 100,000 tasks and 10,000 connections",
    )
    parser.addoption(
        "--focus-validator",
        action="store_true",
        help="have the official validator of FOCUS look at what is written; CI always does",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Divides the whole suite among as many processes as there are cores, at most four, with pytest-xdist.

    Files that the command names run in a single process, and so does everything with `-n 0`, with `--pdb` or
    without pytest-xdist. A process runs consecutive tests, so most modules set up their fixtures once.
    """
    names_files = any(".py" in name for name in config.option.file_or_dir)
    has_choice = config.getoption("numprocesses", default=0) is None and not config.getoption("usepdb")
    if has_choice and not names_files and "PYTEST_XDIST_WORKER" not in os.environ:
        config.option.numprocesses = min(os.cpu_count() or 1, 4)
        config.option.dist = "worksteal"


class Clock:
    """A clock that stands still until a test moves it forwards or backwards.

    Attributes:
        listeners: called with the instant whenever it is set.
    """

    def __init__(self, now: datetime = AT) -> None:
        self._now = now
        self.listeners: list[Callable[[datetime], None]] = []

    def __call__(self) -> datetime:
        """What it shows."""
        return self._now

    @property
    def now(self) -> datetime:
        """What it shows."""
        return self._now

    @now.setter
    def now(self, now: datetime) -> None:
        self._now = now
        for listener in self.listeners:
            listener(now)

    def pass_by(self, **time: float) -> None:
        """Moves the clock forwards: `pass_by(minutes=16)`."""
        self.now += timedelta(**time)


@pytest.fixture
def clock() -> Clock:
    """Returns a clock that stands at `AT`."""
    return Clock()


@pytest.fixture(scope="module", autouse=True)
def _sandboxes_of_a_module() -> Iterator[None]:
    """Stops the sandboxes that the tests of a module have shared."""
    yield
    if "tests.providers" in sys.modules:
        from tests.providers import stop_all  # noqa: PLC0415 (it needs this module)

        stop_all()


@pytest.fixture(scope="session")
def folder_of_servers() -> Iterator[Path]:
    """Yields the folder in which PostgreSQL servers are started."""
    with folder_for_servers() as path:
        yield path


@pytest.fixture(scope="session")
def postgres_url(folder_of_servers: Path) -> Iterator[str]:
    """Yields the URL of a PostgreSQL server: `KLING_PRICING_TEST_POSTGRES`, or one that the tests start.

    Without a server the tests fail, because a guard that was not tried on PostgreSQL may not work there.
    """
    if given := os.environ.get("KLING_PRICING_TEST_POSTGRES"):
        yield given
        return
    with running(folder_of_servers / "shared", "fsync=off") as server:
        yield server.url


@pytest.fixture(scope="session")
def postgres_database(postgres_url: str) -> Iterator[str]:
    """Yields the URL of a test database, as its owner."""
    name = f"kling_pricing_{os.getpid()}"
    execute(postgres_url, f"CREATE DATABASE {name}")
    yield with_database(postgres_url, name)
    if "tests.guards" in sys.modules:
        from tests.guards import close_verifiers  # noqa: PLC0415 (it needs this module)

        close_verifiers()
    execute(postgres_url, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def empty_ledger(postgres_database: str) -> EmptyLedger:
    """Returns the ledger in the test database."""
    return EmptyLedger(postgres_database)


@pytest.fixture
def postgres_ledger(postgres_database: str, empty_ledger: EmptyLedger) -> Iterator[str]:
    """Yields the URL of an empty ledger in PostgreSQL, as its owner.

    The next test's ledger has the same URL, so no guard may still have counts to write to it.
    """
    empty_ledger.make()
    yield postgres_database
    write_all()


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Yields the URL of an empty ledger, once for each kind of store; it uses the test's clock if it can."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/spend.db"
        return
    url: str = request.getfixturevalue("postgres_ledger")
    if "clock" not in request.fixturenames:
        yield url
        _verify_at_the_end()
        return
    with driven_by(request.getfixturevalue("clock"), url):
        yield url
        _verify_at_the_end()


def _verify_at_the_end() -> None:
    """Verifies what guards have done in a ledger since they last verified it."""
    if "tests.guards" in sys.modules:
        from tests.guards import verify_at_the_end  # noqa: PLC0415 (it needs this module)

        verify_at_the_end()


OpenGuard = Callable[..., BudgetGuard]


@pytest.fixture
def open_guard(ledger: str, book: PriceBook, clock: Clock) -> OpenGuard:
    """Returns a function that opens a `VerifiedGuard` with the budgets given, or one made from keywords."""
    from tests.guards import VerifiedGuard  # noqa: PLC0415 (it needs this module)

    def opened(*budgets: Budget, settings: dict[str, Any] | None = None, **budget: Any) -> BudgetGuard:
        default = {"name": "trailer", "match": {"project": "trailer"}, "cap": Decimal(10), "currency": "USD"}
        return VerifiedGuard(
            ledger, budgets or [Budget(**default | budget)], book=book, clock=clock, **settings or {}
        )

    return opened


@contextmanager
def driven_by(clock: Clock, url: str) -> Iterator[None]:
    """Makes a ledger in PostgreSQL use a test's clock."""
    with psycopg.connect(url, autocommit=True) as connection:
        (own_clock,) = connection.execute(
            "SELECT pg_get_functiondef('kling_pricing.current_instant()'::regprocedure)"
        ).fetchall()[0]
        connection.execute("CREATE TABLE kling_pricing.test_clock (now timestamptz)")
        connection.execute("INSERT INTO kling_pricing.test_clock VALUES (%s)", [clock.now])
        connection.execute(
            "CREATE OR REPLACE FUNCTION kling_pricing.current_instant() RETURNS timestamptz LANGUAGE sql"
            " AS 'SELECT now FROM kling_pricing.test_clock'"
        )

        def follow(now: datetime) -> None:
            connection.execute("UPDATE kling_pricing.test_clock SET now = %s", [now])

        clock.listeners.append(follow)
        yield
        clock.listeners.clear()
        connection.execute("DROP TABLE IF EXISTS kling_pricing.test_clock")
        with suppress(psycopg.errors.InvalidSchemaName):  # a test may have removed the ledger
            connection.execute(own_clock.encode())


def with_database(url: str, name: str, user: str | None = None, **options: str) -> str:
    """Returns the URL of another database of a server, perhaps as another user."""
    parts = urlsplit(url)
    host = parts.netloc if user is None else f"{user}@{parts.netloc.rpartition('@')[2]}"
    query = urlencode(dict(parse_qsl(parts.query)) | options, quote_via=quote)
    return urlunsplit(parts._replace(netloc=host, path=f"/{name}", query=query))


def video(model: str = "kling-v3", **fields: Any) -> dict[str, Any]:
    """Returns a payload of wire format `tasks`; a field that is None is left out."""
    payload = {"model": model, "prompt": "a paper boat in the rain", **fields}
    return {name: value for name, value in payload.items() if value is not None}


@pytest.fixture(scope="session")
def studio(tmp_path_factory: pytest.TempPathFactory, book: PriceBook) -> "Month":
    """Returns a studio's month with a line of every kind; tests may only read it."""
    from tests.studio import month  # noqa: PLC0415 (it needs this module)

    return month(tmp_path_factory.mktemp("studio"), book, 60)


def program(name: str) -> str:
    """Returns the path of a program; without the program the test is skipped, in CI it fails."""
    found = shutil.which(name)
    if found is None:
        packages = "chromium libreoffice-calc poppler-utils strace nginx-light"
        reason = f"{name} is not installed (Debian: apt-get install {packages})"
        if os.environ.get("CI"):
            pytest.fail(f"in CI nothing is skipped: {reason}")
        pytest.skip(reason)
    return found
