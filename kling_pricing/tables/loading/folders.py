"""Finds table files: the bundled folder, and the user's folder that overrides it.

A folder of tables has this layout::

    prices/<provider>/<date>.yaml
    capabilities/<wire format>.yaml
    providers/<provider>.yaml
    statements/<name>.yaml

The bundled folder is always read.
A file in the user's folder replaces the bundled file of the same path, or is added to the bundled files.
"""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from kling_pricing.errors import TableError, TableProblems

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

TABLES_VARIABLE = "KLING_PRICING_TABLES"
"""The environment variable that names the user's folder of tables."""

_MAX_READ_BYTES = 1 << 21
"""The most that is read of a file. It is more than `strict_yaml` accepts, which then refuses the file."""

_DEPTHS = {"prices": 3, "capabilities": 2, "providers": 2, "statements": 2}
_PLACES = (
    "prices/<provider>/<date>.yaml, capabilities/<wire format>.yaml, providers/<provider>.yaml "
    "or statements/<name>.yaml"
)


class TableFile:
    """A file in a folder of tables.

    Args:
        name: the file's name for messages.
        file: the file.
    """

    def __init__(self, name: str, file: Traversable) -> None:
        self.name = name
        self.stem = file.name.removesuffix(".yaml")
        self._file = file

    @cached_property
    def data(self) -> bytes:
        """The file's content, which is read once; of a file that is too large, only enough to detect that.

        Raises:
            TableError: the file cannot be read.
        """
        try:
            with self._file.open("rb") as stream:
                return stream.read(_MAX_READ_BYTES)
        except OSError as error:
            raise TableError(f"cannot be read: {error.strerror}", file=self.name) from None


TableFiles: TypeAlias = dict[tuple[str, ...], TableFile]
"""Path in the folder -> file."""


def own_folder() -> str | None:
    """Returns the folder that `TABLES_VARIABLE` names; None if the variable is not set."""
    return os.environ.get(TABLES_VARIABLE) or None


def table_files(directory: str | os.PathLike[str] | None = None) -> TableFiles:
    """Returns the bundled files, overridden by those in the user's folder, always in the same order.

    Raises:
        TableError: the folder cannot be read, has no tables, or has a file in a place where it is not read.
    """
    files = _yaml_files(bundled_folder(), "pricing_tables")
    if directory is not None:
        if not Path(directory).is_dir():
            raise TableError(
                "no such folder; choose a folder that contains prices/, capabilities/, providers/ or "
                "statements/",
                file=str(directory),
            )
        files |= _yaml_files(Path(directory), str(directory))
    return files


def package_folder() -> Traversable:
    """Returns the folder of this package."""
    folder = Path(__file__).parents[2]
    if folder.is_dir():
        return folder
    from importlib.resources import files  # noqa: PLC0415 (slow to import, and needed only in an archive)

    return files("kling_pricing")


def bundled_folder() -> Traversable:
    """Returns the tables in an installed package, or those next to the package in a checkout."""
    package = package_folder()
    installed = package / "pricing_tables"
    return installed if installed.is_dir() else Path(str(package)).parent / "pricing_tables"


def _yaml_files(root: Traversable, name: str) -> TableFiles:
    files: TableFiles = {}
    problems = TableProblems()

    def walk(folder: Traversable, path: tuple[str, ...]) -> None:
        for entry in sorted(folder.iterdir(), key=lambda item: item.name):
            here = (*path, entry.name)
            if entry.name.startswith("."):
                continue
            if entry.is_dir() and (path or entry.name in _DEPTHS):
                walk(entry, here)
            elif len(here) == _DEPTHS.get(here[0]) and entry.name.endswith(".yaml") and entry.is_file():
                files[here] = TableFile("/".join((name, *here)), entry)
            elif path or entry.name.lower().endswith((".yaml", ".yml")):
                problem = f"is not read from this folder; move it to {_PLACES}"
                problems.append(TableError(problem, file="/".join((name, *here))))

    try:
        walk(root, ())
    except OSError as error:
        raise TableError(f"cannot be read: {error.strerror}", file=name) from None
    problems.raise_first()
    if not files:
        raise TableError(f"has no tables; put them at {_PLACES}", file=name)
    return files
