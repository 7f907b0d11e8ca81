"""Exports of each provider, raw and saved again by a spreadsheet program, charge what was planted."""

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from kling_pricing import Budget, BudgetGuard, PriceBook, load_price_book
from kling_pricing.reconcile import reconcile
from tests import exports
from tests.conftest import PRICES, Clock
from tests.exports import PERIODS, SAVES, Planted

PLANTS: dict[str, Callable[[], Planted]] = {
    "kling": exports.kling,
    "qingbo": exports.qingbo,
    "new-api": exports.new_api,
    "new-api without names": lambda: exports.new_api(names_first=False),
}


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
        with BudgetGuard(
            url, [Budget(name="all", cap=10**6, currency="USD")], book=prices, clock=clock
        ) as guard:
            for task_id, (at, amount) in planted.sent.items():
                clock.now = at
                guard.record(planted.provider, task_id, amount, labels={"project": "trailer"}, at=at)
        made[name] = (planted, url)
    return made


@pytest.mark.parametrize("month", PERIODS)
@pytest.mark.parametrize("save", SAVES)
@pytest.mark.parametrize("name", PLANTS)
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
