"""The lines of planted months, and of image jobs, read back from each report and compared with the library."""

import csv
import json
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest
from openpyxl import load_workbook

from kling_pricing import PriceBook
from kling_pricing.money import format_decimal
from kling_pricing.reconcile import Line
from kling_pricing.reconcile.categories import CATEGORIES
from kling_pricing.reports import Format, write_reports
from tests.conftest import Clock
from tests.statement_kinds import KINDS
from tests.test_reconcile import NOON, World
from tests.test_reconcile_planted_months import FATES, HEADER, Planted, plant_all

D = Decimal
TEXTS = ("category", "task_id", "project", "model", "currency", "cause", "remedy", "reservation_id", "rows")
AMOUNTS = ("expected", "variance", "billed", "booked")


def shown(line: Line) -> dict[str, str | None]:
    """Returns the parts of a line that every report has, as text."""
    texts = {name: getattr(line, name) or None for name in TEXTS} | {"rows": ", ".join(line.rows) or None}
    amounts = {name: getattr(line, name) for name in AMOUNTS}
    return texts | {
        name: None if amount is None else format_decimal(amount) for name, amount in amounts.items()
    }


def unescaped(text: str) -> str | None:
    """Returns the text of a cell in CSV without the apostrophe that keeps it from being a formula."""
    return (text[1:] if text[:1] == "'" else text) or None


def lines_of_csv(out: Path) -> Iterator[dict[str, Any]]:
    """Yields the lines in CSV."""
    with (out / "lines.csv").open(encoding="utf-8-sig", newline="") as file:
        for row in csv.DictReader(file):
            yield {name: unescaped(row[name]) for name in (*TEXTS, *AMOUNTS)}


def lines_of_json(out: Path) -> Iterator[dict[str, Any]]:
    """Yields the lines in JSON Lines."""
    for text in (out / "lines.jsonl").read_text(encoding="utf-8").splitlines():
        yield {name: json.loads(text)[name] for name in (*TEXTS, *AMOUNTS)}


def lines_of_parquet(out: Path) -> Iterator[dict[str, Any]]:
    """Yields the lines in Parquet, whose amounts are exact decimals."""
    names = (*TEXTS, *AMOUNTS)
    for row in duckdb.execute(f"SELECT {', '.join(names)} FROM '{out}/lines.parquet'").fetchall():
        yield {
            name: format_decimal(cell) if isinstance(cell, Decimal) else cell
            for name, cell in zip(names, row, strict=True)
        }


def lines_of_xlsx(out: Path) -> Iterator[dict[str, Any]]:
    """Yields the lines in the workbook: the exact texts of the amounts, beside numbers close to them."""
    rows = load_workbook(out / "report.xlsx", read_only=True)["All lines"].iter_rows(values_only=True)
    titles = [*next(rows)]
    columns = {
        "category": "Category",
        "task_id": "Task",
        "project": "Project",
        "model": "Model",
        "currency": "Currency",
        "cause": "Cause",
        "remedy": "What to do",
        "reservation_id": "Reservation",
        "rows": "Rows of the statement",
        **{name: f"{name.capitalize()}, exactly" for name in AMOUNTS},
    }
    titled = {rule.title: name for name, rule in CATEGORIES.items()}
    for row in rows:
        cells = dict(zip(titles, row, strict=True))
        if cells["Category"] not in titled:
            continue  # the totals
        for name in AMOUNTS:
            number, exact = cells[name.capitalize()], cells[f"{name.capitalize()}, exactly"]
            assert (number is None) == (exact is None)
            assert number is None or f"{number:.9f}" == f"{Decimal(exact):.9f}"
        found = {name: cells[title] for name, title in columns.items()}
        yield found | {"category": titled[found["category"]]}


READERS: dict[Format, Callable[[Path], Iterator[dict[str, Any]]]] = {
    "csv": lines_of_csv,
    "json": lines_of_json,
    "parquet": lines_of_parquet,
    "xlsx": lines_of_xlsx,
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_line_is_read_back_from_every_report(kind: str, tmp_path: Path, book: PriceBook) -> None:
    """From each kind of statement, each report has the library's lines, in order, to the last digit."""
    month = Planted(tmp_path, book)
    plant_all(month, [(name, False) for name in FATES])
    names = HEADER.split(",")
    table = [dict(zip(names, row.split(","), strict=True)) for row in month.rows]
    statement = KINDS[kind](tmp_path / f"november.{kind}", table)
    with month.world.reconcile(statement, mapping=month.mapping, max_unreadable_percent=100) as result:
        expected = [shown(line) for line in result.lines()]
        write_reports(result, tmp_path / "out", formats=[*READERS], book=book)
    assert len(expected) > len(FATES)
    for name, reader in READERS.items():
        assert list(reader(tmp_path / "out")) == expected, name


@pytest.mark.parametrize("kind", KINDS)
def test_image_rows_are_reconciled_in_every_format(kind: str, tmp_path: Path, book: PriceBook) -> None:
    """Rows of images beside a row of a video: each counts in the units of its own pack."""
    world = World(f"sqlite:///{tmp_path}/spend.db", book, Clock(NOON), tmp_path, "kling")
    url = "https://api-singapore.klingai.com/v1/images/generations"
    for task, images in (("img-1", 3), ("img-2", 3)):
        admission = world.guard.admit({"prompt": "a", "n": images}, project="p", url=url)
        world.guard.dispatch(admission)
        world.guard.bind(admission, task)
    units = {
        "img-1": ("image", "24"),
        "img-2": ("image", "16"),
        "img-9": ("image", "8"),
        "vid-9": ("video", "6"),
    }
    rows = [
        {
            "task_id": task,
            "product_type": kind_of_pack,
            "model_name": "kling-v3",
            "deduction_time": str(int(NOON.timestamp() * 1000)),
            "deduction_amount": amount,
        }
        for task, (kind_of_pack, amount) in units.items()
    ]
    statement = KINDS[kind](tmp_path / f"packs.{kind}", rows)
    with world.reconcile(statement, mapping="kling-deductions-units") as result:
        found = {line.task_id: (line.category, line.billed) for line in result.lines()}
    assert found == {
        "img-1": ("matched", D("0.084")),
        "img-2": ("explained", D("0.056")),
        "img-9": ("not_in_ledger", D("0.028")),
        "vid-9": ("not_in_ledger", D("0.84")),
    }
