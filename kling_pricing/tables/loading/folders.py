"""Where table files lie: the bundled folder, and one of the user's that is read over it.

A folder of tables looks like this::

    prices/<provider>/<date>.yaml
    capabilities/<wire format>.yaml
    statements/<name>.yaml

The bundled folder is always read.
A folder of the user's is read over it: a file of the same path replaces the bundled one, any other is added.
"""

from __future__ import annotations

import os
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import TypeAlias

from kling_pricing.errors import TableError
from kling_pricing.strict_yaml import MAX_BYTES

TABLES_VARIABLE = "KLING_PRICING_TABLES"
"""Environment variable that names the user's folder of tables."""

TableFiles: TypeAlias = dict[tuple[str, ...], tuple[str, Traversable]]
"""Path below the folder -> the file's name for messages, and the file."""

_DEPTHS = {"prices": 3, "capabilities": 2, "statements": 2}
_PLACES = (
    "the places are prices/<provider>/<date>.yaml, capabilities/<wire format>.yaml and statements/<name>.yaml"
)


def own_folder() -> str | None:
    """The user's folder that `TABLES_VARIABLE` names; None: it names none."""
    return os.environ.get(TABLES_VARIABLE) or None


def table_files(directory: str | os.PathLike[str] | None = None) -> TableFiles:
    """The bundled files and, over them, those in a folder of the user's; always in the same order.

    Raises:
        TableError: the folder cannot be read, holds no table, or a file stands where it would not be read.
    """
    found = _yaml_files(_bundled(), "pricing_tables")
    if directory is not None:
        if not Path(directory).is_dir():
            raise TableError(
                "no such folder; give one with prices/, capabilities/ or statements/ in it", file=str(directory)
            )
        found |= _yaml_files(Path(directory), str(directory))
    return found


def file_bytes(file: Traversable, name: str) -> bytes:
    """What is in a file; of one that is too large, no more than tells so.

    Raises:
        TableError: it cannot be read.
    """
    try:
        with file.open("rb") as stream:
            return stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise TableError(f"cannot be read: {error.strerror}", file=name) from None


def _bundled() -> Traversable:
    """The tables of an installed package, else those beside the package in a checkout."""
    package = files("kling_pricing")
    installed = package / "pricing_tables"
    return installed if installed.is_dir() else Path(str(package)).parent / "pricing_tables"


def _yaml_files(root: Traversable, shown: str) -> TableFiles:
    found: TableFiles = {}

    def walk(folder: Traversable, path: tuple[str, ...]) -> None:
        for entry in sorted(folder.iterdir(), key=lambda item: item.name):
            here = (*path, entry.name)
            if entry.name.startswith("."):
                continue
            if entry.is_dir() and (path or entry.name in _DEPTHS):
                walk(entry, here)
            elif len(here) == _DEPTHS.get(here[0]) and entry.name.endswith(".yaml") and entry.is_file():
                found[here] = ("/".join((shown, *here)), entry)
            elif path or entry.name.lower().endswith((".yaml", ".yml")):
                raise TableError(f"would not be read here; {_PLACES}", file="/".join((shown, *here)))

    try:
        walk(root, ())
    except OSError as error:
        raise TableError(f"cannot be read: {error.strerror}", file=shown) from None
    if not found:
        raise TableError(f"holds no tables; {_PLACES}", file=shown)
    return found
