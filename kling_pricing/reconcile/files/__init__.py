"""Files that statements come in, one kind in each file.

A reader finds the columns of a file and gives their text to the database.
It knows nothing of what the columns mean.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from kling_pricing.errors import StatementError
from kling_pricing.reconcile.files.reading import FileReader, OnBytes
from kling_pricing.reconcile.workspace import Workspace

_KINDS = {
    ".csv": "comma_separated",
    ".tsv": "comma_separated",
    ".json": "json_objects",
    ".jsonl": "json_objects",
    ".ndjson": "json_objects",
    ".parquet": "parquet",
    ".xlsx": "spreadsheet",
}


def reader(path: Path, workspace: Workspace, on_bytes: OnBytes) -> FileReader:
    """The reader of a file, by the ending of its name.

    Raises:
        StatementError: there is none.
    """
    kind = _KINDS.get(path.suffix.lower())
    if kind is None:
        problem = f"statements are read from files that end in {', '.join(_KINDS)}; convert it"
        raise StatementError(problem, file=path.name)
    read: FileReader = import_module(f"{__name__}.{kind}").Reader(path, workspace, on_bytes)
    return read
