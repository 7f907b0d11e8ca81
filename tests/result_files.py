"""Reads files with the results of `quote`, `check`, `decide` and `fit` back, whatever their format."""

import csv
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import openpyxl


def results_in(path: Path) -> list[dict[str, Any]]:
    """Returns the rows of a file with results."""
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    if path.suffix == ".parquet":
        relation = duckdb.connect().execute(f"SELECT * FROM '{path}'")
        names = [name for name, *_ in relation.description or ()]
        return [dict(zip(names, row, strict=True)) for row in relation.fetchall()]
    if path.suffix == ".xlsx":
        header, *rows = openpyxl.load_workbook(path).active.iter_rows(values_only=True)
        results = [dict(zip(header, row, strict=True)) for row in rows]
        return [_with_exact_amounts(row) for row in results]
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t" if path.suffix == ".tsv" else ","))


def _with_exact_amounts(row: dict[str, Any]) -> dict[str, Any]:
    """Returns a row of a workbook with each amount as its exact text, which must agree with the number."""
    exact = {name.removesuffix("_exact"): text for name, text in row.items() if name.endswith("_exact")}
    for name, text in exact.items():
        assert text is None or Decimal(repr(row[name])) == Decimal(text)
    return row | exact
