"""Readers of statement files, one file format per module.

A reader finds the columns of a file and passes their text to the database.
Readers do not know the meaning of the columns.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from kling_pricing.errors import StatementError
from kling_pricing.reconcile.files.file_reader import FileReader, OnBytes
from kling_pricing.reconcile.workspace import Workspace

_READERS = {
    ".csv": "csv:CsvReader",
    ".tsv": "csv:CsvReader",
    ".txt": "csv:CsvReader",
    ".json": "json:JsonReader",
    ".jsonl": "json:JsonReader",
    ".ndjson": "json:JsonReader",
    ".parquet": "parquet:ParquetReader",
    ".xlsx": "xlsx:XlsxReader",
}


def reader(path: Path, workspace: Workspace, on_bytes: OnBytes, encoding: str | None = None) -> FileReader:
    """Returns the reader of a file, chosen by the file's extension.

    Raises:
        StatementError: no reader supports the extension.
    """
    module, _, name = _READERS.get(path.suffix.lower(), "").partition(":")
    if not name:
        problem = (
            f"cannot be read as a statement; convert it to a file of one of the types {', '.join(_READERS)}"
        )
        raise StatementError(problem, file=path.name)
    kind: type[FileReader] = getattr(import_module(f"{__name__}.{module}"), name)
    return kind(path, workspace, on_bytes, encoding)
