"""The checks of `kling-pricing doctor`. None of them shows a secret or changes a ledger."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

import kling_pricing
from kling_pricing.errors import KlingPricingError, LedgerUnavailableError, TableError
from kling_pricing.ledger import file_of, is_on_a_server
from kling_pricing.ledger.administration import info
from kling_pricing.ledger.environment import LEDGER_VARIABLE
from kling_pricing.tables.loading.book import default_price_book, load_price_book
from kling_pricing.tables.loading.folders import TABLES_VARIABLE
from kling_pricing.tables.loading.stored_books import CACHE_VARIABLE, cache_folder, cache_problem
from kling_pricing.tables.price_book import PriceBook
from kling_pricing.windows import zone

State: TypeAlias = Literal["ok", "note", "wrong"]
"""`note` is worth knowing, but nothing is wrong."""

EXTRAS: Mapping[str, tuple[str, ...]] = {
    "alerts": ("apprise", "requests", "standardwebhooks"),
    "cli": ("click", "rich"),
    "frames": ("narwhals",),
    "mcp": ("mcp",),
    "postgres": ("psycopg", "psycopg-pool"),
    "reports": ("duckdb", "jinja2", "openpyxl", "xlsxwriter"),
    "server": (
        *("aiohttp", "cryptography", "fastapi", "fastapi-offline", "jinja2", "prometheus-client"),
        "python-multipart",
        *("standardwebhooks", "uvicorn"),
        *(() if sys.platform == "win32" else ("uvloop",)),
    ),
    "webhooks": ("standardwebhooks",),
}
"""Extra -> the packages that it installs."""

_MIN_PYTHON = (3, 11)
_ZONE = "Asia/Shanghai"
_CLOCK_TOLERANCE = timedelta(seconds=5)
_OURS = "KLING_PRICING_"


class DoctorFinding(NamedTuple):
    """The result of one check.

    Attributes:
        name: the subject.
        state: whether something is wrong.
        detail: the finding.
        remedy: what to do; empty if nothing is wrong.
    """

    name: str
    state: State
    detail: str
    remedy: str = ""


def findings(ledger: str | None, tables: str | None) -> Iterator[DoctorFinding]:
    """Yields the result of each check.

    Args:
        ledger: the ledger's URL; None: there is none.
        tables: the user's folder of tables; None: there is none.
    """
    yield from _programs()
    yield from _extras()
    yield _variables()
    yield from _tables(tables)
    yield _cache()
    yield _zones()
    yield from _ledger(ledger)


def _programs() -> Iterator[DoctorFinding]:
    python = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    if sys.version_info < _MIN_PYTHON:
        yield DoctorFinding("python", "wrong", python, "use Python 3.11 or newer")
    else:
        yield DoctorFinding("python", "ok", python)
    place = Path(str(kling_pricing.__file__)).parent
    yield DoctorFinding("kling-pricing", "ok", f"{kling_pricing.__version__} in {place}")
    for package in ("pydantic", "pyyaml"):
        found = _version_of(package)
        if found is None:
            yield DoctorFinding(package, "wrong", "not installed", f"run `pip install {package}`")
        else:
            yield DoctorFinding(package, "ok", found)


def _extras() -> Iterator[DoctorFinding]:
    for extra, packages in EXTRAS.items():
        versions = {package: _version_of(package) for package in packages}
        present = ", ".join(f"{package} {found}" for package, found in versions.items() if found is not None)
        missing = [package for package, found in versions.items() if found is None]
        if not missing:
            yield DoctorFinding(f"extra {extra}", "ok", present)
        else:
            yield DoctorFinding(
                f"extra {extra}",
                "note",
                f"not installed: {', '.join(missing)}",
                f"if you need it, run `pip install 'kling-pricing[{extra}]'`",
            )


def _version_of(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _variables() -> DoctorFinding:
    """Names the environment variables; their values may be secrets."""
    names = sorted(name for name in os.environ if name.startswith(_OURS))
    return DoctorFinding("environment", "ok", ", ".join(names) or f"no variable {_OURS}... is set")


def _tables(tables: str | None) -> Iterator[DoctorFinding]:
    try:
        book = default_price_book() if tables is None else load_price_book(tables)
    except TableError as error:
        first, *others = error.problems
        more = f" (and {len(others)} more)" if others else ""
        yield DoctorFinding(
            "price tables",
            "wrong",
            f"{first}{more}",
            "correct the file; `kling-pricing tables check` lists all",
        )
        return
    count = sum(map(len, book.tables.values()))
    contracts = sum(map(len, book.contracts.values()))
    own = f", {contracts} contracts" if contracts else ""
    folder = "" if tables is None else f", with those in {tables}"
    yield DoctorFinding("price tables", "ok", f"{count} tables of {len(book.tables)} providers{own}{folder}")
    yield from _ages(book, datetime.now(UTC))


def _ages(book: PriceBook, now: datetime) -> Iterator[DoctorFinding]:
    for provider in book.tables:
        try:
            table = book.table(provider, now)
        except KlingPricingError as error:
            yield DoctorFinding(f"prices of {provider}", "note", str(error), "add a table for today")
            continue
        days = (now - table.checked).days
        detail = f"{table.id}, from a copy of {table.checked:%Y-%m-%d}, {days} days ago"
        if now > table.fresh_until:
            yield DoctorFinding(
                f"prices of {provider}", "note", detail, "check that these prices are still published"
            )
        else:
            yield DoctorFinding(f"prices of {provider}", "ok", detail)


def _cache() -> DoctorFinding:
    folder = cache_folder()
    if folder is None:
        return DoctorFinding("cache", "note", "turned off, so each process reads the tables again")
    problem = cache_problem()
    if problem is None:
        return DoctorFinding("cache", "ok", f"{folder}")
    return DoctorFinding(
        "cache", "wrong", f"{folder}: {problem}", f"set {CACHE_VARIABLE} to a folder of your own, or to off"
    )


def _zones() -> DoctorFinding:
    try:
        zone(_ZONE)
    except KlingPricingError as error:
        return DoctorFinding("time zones", "wrong", str(error), "run `pip install tzdata`")
    package = _version_of("tzdata")
    source = "the system" if package is None else f"the system, or tzdata {package}"
    return DoctorFinding("time zones", "ok", f"known, from {source}")


def _ledger(ledger: str | None) -> Iterator[DoctorFinding]:
    if ledger is None:
        yield DoctorFinding("ledger", "note", f"none is given; set {LEDGER_VARIABLE}, or pass --ledger")
        return
    try:
        if not is_on_a_server(ledger) and not file_of(ledger).exists():
            yield DoctorFinding("ledger", "note", f"{file_of(ledger)} does not exist; its first use creates it")
            return
        asked_at = datetime.now(UTC)
        described = info(ledger)
    except LedgerUnavailableError as error:
        yield DoctorFinding("ledger", "wrong", str(error), "correct the URL, or start the server")
        return
    except KlingPricingError as error:
        yield DoctorFinding("ledger", "wrong", str(error), "see `kling-pricing ledger info`")
        return
    facts = described.facts
    name = "postgresql" if is_on_a_server(ledger) else f"{file_of(ledger)}"
    yield DoctorFinding("ledger", "ok", f"{name}: schema {facts['schema']}, budgets {facts['budgets']}")
    for warning in described.warnings:
        yield DoctorFinding("ledger", "wrong", warning, "see `kling-pricing ledger info`")
    yield _clock(described.now, asked_at)


def _clock(there: datetime | None, asked_at: datetime) -> DoctorFinding:
    """Compares the ledger's clock with this machine's, as of the question that the ledger answered."""
    if there is None:
        return DoctorFinding("clock", "ok", f"{asked_at:%Y-%m-%d %H:%M:%S} UTC; the ledger uses the same clock")
    late = asked_at - there if there < asked_at else max(there - datetime.now(UTC), timedelta())
    detail = f"{asked_at:%Y-%m-%d %H:%M:%S} UTC; on the ledger {there:%Y-%m-%d %H:%M:%S} UTC"
    if late > _CLOCK_TOLERANCE:
        return DoctorFinding("clock", "wrong", detail, "set this machine's clock, for example with NTP")
    return DoctorFinding("clock", "ok", detail)


__all__ = ["EXTRAS", "TABLES_VARIABLE", "DoctorFinding", "findings"]
