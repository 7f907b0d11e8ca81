"""Exports of each provider, raw and saved again by a spreadsheet program, charge what was planted."""

import shutil
import subprocess
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from itertools import groupby, product
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest

from kling_pricing import Budget, BudgetGuard, PriceBook, StatementError, load_price_book
from kling_pricing.reconcile import Line, reconcile
from tests import exports
from tests.conftest import LONG, PRICES, Clock, program
from tests.exports import PERIODS, SAVES, Planted

PLANTS: dict[str, Callable[[], Planted]] = {
    "kling": exports.kling,
    "qingbo": exports.qingbo,
    "new-api": exports.new_api,
    "billing specs": exports.billing_specs,
    "new-api without names": lambda: exports.new_api(names_first=False),
}


def cases(ways: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Returns each plant with each way and one month; each plant and each way gets both months.

    A long run returns both months of each pair.
    """
    months = list(PERIODS)
    pairs = product(enumerate(PLANTS), enumerate(ways))
    return [
        (name, way, month)
        for (first, name), (second, way) in pairs
        for month in (months if LONG else [months[(first + second) % 2]])
    ]


@pytest.fixture(scope="module")
def prices(tmp_path_factory: pytest.TempPathFactory) -> PriceBook:
    """The bundled tables, and one of a gateway without a unit of its own."""
    folder = tmp_path_factory.mktemp("prices")
    path = folder / "prices" / "gateway" / "2026.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(PRICES.replace("provider: acme", "provider: gateway").replace("EUR", "USD"))
    return load_price_book(folder)


@pytest.fixture(scope="module")
def ledgers(prices: PriceBook, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Planted, str]]:
    """Each planted export, and a ledger that expects what its tasks cost as a whole."""
    made = {}
    clock = Clock(datetime(2026, 12, 31, tzinfo=UTC))
    for name, plant in PLANTS.items():
        planted = plant()
        url = f"sqlite:///{tmp_path_factory.mktemp('ledger')}/spend.db"
        budgets = [Budget(name="all", cap=10**6, currency=planted.currency)]
        with BudgetGuard(url, budgets, book=prices, clock=clock) as guard:
            for task_id, (at, amount) in planted.sent.items():
                clock.now = at
                guard.record(planted.provider, task_id, amount, labels={"project": "trailer"}, at=at)
        made[name] = (planted, url)
    return made


@pytest.mark.parametrize(("name", "save", "month"), cases(SAVES))
def test_each_month_charges_what_was_planted(
    ledgers: dict[str, tuple[Planted, str]],
    prices: PriceBook,
    tmp_path: Path,
    name: str,
    save: str,
    month: str,
) -> None:
    """An export over several months gives each of two adjoining months its own charges, however it is saved."""
    planted, ledger = ledgers[name]
    since, until = PERIODS[month]
    paths = [
        path
        for file, rows in planted.files.items()
        for path in SAVES[save](rows, tmp_path / file, planted.wraps.get(file))
    ]
    with reconcile(
        ledger,
        paths,
        provider=planted.provider,
        since=since,
        until=until,
        mapping=planted.mapping,
        book=prices,
    ) as result:
        lines = list(result.lines())
        billed = {line.task_id: line.billed for line in lines if line.billed is not None}
        assert billed == planted.charged[month]
        assert {line.task_id for line in lines if line.remedy} == set()
        assert result.rows.invalid == 0
        assert result.rows.outside > 0
        (total,) = result.totals("all")
        assert total.billed == sum(planted.charged[month].values(), Decimal(0))


def test_the_months_of_a_log_are_exported_one_by_one(
    ledgers: dict[str, tuple[Planted, str]], prices: PriceBook, tmp_path: Path
) -> None:
    """A task that is corrected in the next month charges the difference there, without its first row."""
    planted, ledger = ledgers["new-api"]
    for month, (since, until) in PERIODS.items():
        start, end = since.timestamp(), until.timestamp()
        rows = [row for row in planted.files["log"] if start <= row["created_at"] < end]
        (path,) = exports.raw(rows, tmp_path / month, planted.wraps["log"])
        with reconcile(ledger, path, provider="gateway", since=since, until=until, book=prices) as result:
            billed = {line.task_id: line.billed for line in result.lines() if line.billed is not None}
        assert billed == planted.charged[month]


CSV, SEMICOLONS = (f"csv:Text - txt - csv (StarCalc):{ord(separator)},34,76,1" for separator in ",;")
FIRST_COLUMN_AS_TEXT = "Text - txt - csv (StarCalc):44,34,76,1,1/2"

RESAVES: dict[str, tuple[str, str, str | None]] = {
    "xlsx": ("exported", "xlsx", None),
    "ids as text, xlsx": ("exported", "xlsx", FIRST_COLUMN_AS_TEXT),
    "csv": ("exported", CSV, None),
    "xlsx to csv": ("xlsx", CSV, None),
    "ids as text, xlsx to csv": ("ids as text, xlsx", CSV, None),
    "workbook to csv": ("workbook", CSV, None),
    "ids as text, semicolons": ("exported", SEMICOLONS, FIRST_COLUMN_AS_TEXT),
}
"""A way to save files again -> the folder of the files, the format, and how text is opened."""

LOSES_IDS = {"csv", "xlsx", "xlsx to csv"}
"""The ways in which long ids become numbers, and lose their last digits."""


@pytest.fixture(scope="module")
def resaved(ledgers: dict[str, tuple[Planted, str]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every export as LibreOffice saves it again, a folder for each way."""
    office, folder = program("soffice"), tmp_path_factory.mktemp("resaved")
    for kind in ("exported", "workbook", *RESAVES):
        (folder / kind).mkdir()
    for kind, save in (("exported", exports.table), ("workbook", exports.workbook)):
        for name, (planted, _) in ledgers.items():
            for file, rows in planted.files.items():
                save(rows, folder / kind / f"{name}-{file}", None)
    for (target, opened), ways in groupby(RESAVES, key=lambda way: RESAVES[way][1:]):
        sources = {way: sorted((folder / RESAVES[way][0]).iterdir()) for way in ways}
        copies, saved = (Path(mkdtemp(dir=folder)) for _ in range(2))
        for (
            way,
            paths,
        ) in sources.items():  # the program takes seconds to start, so it saves several ways at once
            for path in paths:
                shutil.copyfile(path, copies / f"{way}@{path.name}")
        subprocess.run(
            [
                office,
                f"-env:UserInstallation={(folder / 'profile').as_uri()}",
                "--headless",
                *([f"--infilter={opened}"] if opened else []),
                *("--convert-to", target, "--outdir", str(saved)),
                *map(str, sorted(copies.iterdir())),
            ],
            check=True,
            capture_output=True,
            timeout=120,
        )
        for path in saved.iterdir():
            way, _, name = path.name.partition("@")
            path.rename((folder / way) / name)
    return folder


def _lines(
    resaved: Path, how: str, planted: Planted, name: str, month: str, ledger: str, book: PriceBook
) -> list[Line]:
    """Reconciles a month of an export that was saved again."""
    paths = sorted((resaved / how).glob(f"{name}-*"))
    assert len(paths) == len(planted.files)
    since, until = PERIODS[month]
    options: dict[str, Any] = {"provider": planted.provider, "mapping": planted.mapping, "book": book}
    with reconcile(ledger, paths, since=since, until=until, **options) as result:
        return list(result.lines())


@pytest.mark.parametrize(("name", "how", "month"), cases(RESAVES))
def test_an_export_saved_by_a_spreadsheet_program_charges_what_was_planted_or_is_refused(
    ledgers: dict[str, tuple[Planted, str]],
    prices: PriceBook,
    resaved: Path,
    name: str,
    how: str,
    month: str,
) -> None:
    """The month agrees to the last digit; if the program rounded the ids, each row or the file is refused."""
    planted, ledger = ledgers[name]
    ids_are_lost = how in LOSES_IDS and name in {"kling", "billing specs"}
    if ids_are_lost and how != "xlsx":
        with pytest.raises(StatementError, match=r"a spreadsheet has rounded the ids .*with the ids as text"):
            _lines(resaved, how, planted, name, month, ledger, prices)
        return
    lines = _lines(resaved, how, planted, name, month, ledger, prices)
    billed = {line.task_id: line.billed for line in lines if line.billed is not None}
    causes = [line.cause for line in lines if line.category == "invalid_row"]
    if ids_are_lost:
        lost = (
            "a spreadsheet keeps only 15 digits of a number, so digits of task_id are missing; export "
            "the column as text"
        )
        rows = sum(len(listed) for listed in planted.files.values())
        assert (billed, causes) == ({}, [f"the row cannot be read: {lost}"] * rows)
        return
    assert (billed, causes) == (planted.charged[month], [])
    assert {line.cause for line in lines if line.remedy} == set()
