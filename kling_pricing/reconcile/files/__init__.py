"""Files that statements come in, one kind in each file.

A reader finds the columns of a file and gives their text to the database.
It knows nothing of what the columns mean.
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
    ".json": "json:JsonReader",
    ".jsonl": "json:JsonReader",
    ".ndjson": "json:JsonReader",
    ".parquet": "parquet:ParquetReader",
    ".xlsx": "xlsx:XlsxReader",
}


def reader(path: Path, workspace: Workspace, on_bytes: OnBytes) -> FileReader:
    """The reader of a file, by the ending of its name.

    Raises:
        StatementError: there is none.
    """
    module, _, name = _READERS.get(path.suffix.lower(), "").partition(":")
    if not name:
        problem = f"statements are read from files that end in {', '.join(_READERS)}; convert it"
        raise StatementError(problem, file=path.name)
    kind: type[FileReader] = getattr(import_module(f"{__name__}.{module}"), name)
    return kind(path, workspace, on_bytes)
