"""Where a reconciliation is worked out: a DuckDB in memory, which goes on on the disk when that is full."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from kling_pricing.display import not_installed
from kling_pricing.errors import KlingPricingError

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_LIMIT = re.compile(r"[1-9][0-9]{0,5} ?(MB|GB|MiB|GiB)")
_PATTERN = re.compile(r"[*?\[\\]")
"""What the database takes for a pattern in the path of a file."""
_FETCHED = 2000
"""Rows that are fetched at a time."""
_INTERRUPTED = "Query interrupted"


class WorkspaceError(KlingPricingError):
    """The database cannot do what it was asked."""


class Workspace:
    """A database and a folder, both gone when it is closed.

    Args:
        memory_limit: how much memory the database may take, such as `500MB`; None: most of the machine's.
        folder: where to keep what does not fit; None: where temporary files are kept.

    Raises:
        KlingPricingError: DuckDB is not installed, or cannot be used like this.
    """

    def __init__(self, memory_limit: str | None = None, folder: str | os.PathLike[str] | None = None) -> None:
        try:
            import duckdb  # noqa: PLC0415 (an extra, and slow to import)
        except ModuleNotFoundError as error:
            raise KlingPricingError(not_installed("reconciling", "duckdb", "reports")) from error
        if memory_limit is not None and not _LIMIT.fullmatch(memory_limit):
            raise KlingPricingError(f"a memory limit is written as 500MB or 2GB, got {memory_limit!r}")
        try:
            self._kept = TemporaryDirectory(prefix="kling-pricing-", dir=folder)
        except OSError as error:
            raise KlingPricingError(
                f"{folder}: temporary files cannot be kept there: {error.strerror}"
            ) from None
        self.folder = Path(self._kept.name).absolute()
        if _PATTERN.search(str(self.folder)):
            self._kept.cleanup()
            raise KlingPricingError(
                f"{self.folder.parent}: temporary files cannot be kept where a name has one of * ? [ \\; "
                "give another folder"
            )
        settings: dict[str, Any] = {
            "temp_directory": str(self.folder / "spilled"),
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        }
        if memory_limit is not None:
            settings["memory_limit"] = memory_limit.replace(" ", "")
        self._failure, self._full = duckdb.Error, duckdb.OutOfMemoryException
        self._connections: set[DuckDBPyConnection] = set()
        self._interrupted = False
        self._aliases = count(1)
        self._database: DuckDBPyConnection | None = duckdb.connect(":memory:", config=settings)

    def close(self) -> None:
        """Gives up the database and removes the folder."""
        if self._database is not None:
            self._database.close()
            self._database = None
            self._kept.cleanup()

    def alias(self, path: Path) -> Path:
        """Another name of a file, in the folder, without anything that the database takes for a pattern."""
        own = self.folder / f"statement-{next(self._aliases)}{path.suffix.lower()}"
        try:
            own.symlink_to(path.absolute())
        except OSError:  # where links are not allowed
            shutil.copyfile(path, own)
        return own

    def run(self, statement: str, values: Mapping[str, Any] | Sequence[Any] | None = None) -> None:
        """Runs a statement."""
        with self.connection() as connection:
            connection.execute(statement, values)

    def insert(self, table: str, rows: Sequence[Sequence[Any]]) -> None:
        """Adds rows that Python has."""
        if rows:
            columns = list(zip(*rows, strict=True))
            places = ", ".join(f"unnest(${place + 1})" for place in range(len(columns)))
            self.run(f"INSERT INTO {table} SELECT {places}", [list(column) for column in columns])

    def rows(
        self, query: str, values: Mapping[str, Any] | Sequence[Any] | None = None
    ) -> Iterator[tuple[Any, ...]]:
        """The rows of a query, some at a time."""
        with self.connection() as connection:
            connection.execute(query, values)
            while rows := connection.fetchmany(_FETCHED):
                yield from rows

    def all(self, query: str, values: Mapping[str, Any] | Sequence[Any] | None = None) -> list[tuple[Any, ...]]:
        """The rows of a query that has few."""
        with self.connection() as connection:
            return connection.execute(query, values).fetchall()

    def one(self, query: str, values: Mapping[str, Any] | Sequence[Any] | None = None) -> Any:
        """The value of a query that has one."""
        ((value,),) = self.all(query, values)
        return value

    def ensure_wanted(self) -> None:
        """Ends a long reading that nobody waits for any more.

        Raises:
            WorkspaceError: it was interrupted.
        """
        if self._interrupted:
            raise WorkspaceError("the reconciliation was interrupted")

    def interrupt(self) -> None:
        """Ends what is being worked out, in every thread; nothing more is to be read then."""
        self._interrupted = True
        for connection in list(self._connections):
            connection.interrupt()

    @contextmanager
    def connection(self) -> Iterator[DuckDBPyConnection]:
        """A connection of its own, so that several threads can work and several readings be under way.

        Raises:
            WorkspaceError: what is done with it fails.
        """
        if self._database is None:
            raise KlingPricingError("the reconciliation was closed; keep it open while its lines are read")
        connection = self._database.cursor()
        self._connections.add(connection)
        try:
            yield connection
        except self._failure as error:
            told = str(error).partition("\n")[0]
            if isinstance(error, self._full):
                raise WorkspaceError(f"there is not enough memory ({told}); raise the memory limit") from error
            raise WorkspaceError(f"the database of the reconciliation: {told}") from error
        except RuntimeError as error:
            if str(error) == _INTERRUPTED:  # what DuckDB makes of Ctrl-C
                raise KeyboardInterrupt from None
            raise
        finally:
            self._connections.discard(connection)
            connection.close()
