"""Every kind of statement file that `reconcile` reads, written from the same rows."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.test_reconcile_unreadable import FILES


def semicolon_file(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Writes the rows as text with semicolons."""
    return _delimited(path.with_suffix(".csv"), rows, ";")


def tsv_file(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Writes the rows as text with tabs."""
    return _delimited(path.with_suffix(".tsv"), rows, "\t")


def json_lines_file(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Writes the rows as one object in JSON per line."""
    path.write_text("".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows), encoding="utf-8")
    return path


def _delimited(path: Path, rows: list[dict[str, Any]], delimiter: str) -> Path:
    names = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, names, delimiter=delimiter, restval="")
        writer.writeheader()
        writer.writerows(rows)
    return path


KINDS: dict[str, Callable[[Path, list[dict[str, Any]]], Path]] = FILES | {
    "semicolon": semicolon_file,
    "tsv": tsv_file,
    "jsonl": json_lines_file,
}
"""Kind -> writes rows to a file of this kind, and returns its path."""
