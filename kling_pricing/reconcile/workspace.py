"""The database of a reconciliation: DuckDB in memory, which continues on disk when the memory is full."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from tempfile import gettempdir
from typing import TYPE_CHECKING, Any

from kling_pricing.display import not_installed
from kling_pricing.errors import KlingPricingError
from kling_pricing.reconcile.process_memory import database_share
from kling_pricing.temporary import temporary_folder

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_PATTERN = re.compile(r"[*?\[\\]")
"""Characters that make the database treat a path as a pattern."""
_FETCHED = 2000
"""Rows per fetch."""
_INTERRUPTED = "Query interrupted"


class WorkspaceError(KlingPricingError):
    """The database failed."""


class Workspace:
    """A database and a folder; closing it removes both.

    Attributes:
        folder: the folder.
        is_limited: whether the memory is limited.

    Args:
        memory_limit: the most memory that the process may use, such as `500MB`; None: most of the machine's.
        folder: the folder for data beyond that; None: the system's folder for temporary files.

    Raises:
        KlingPricingError: DuckDB is not installed, an argument cannot be used, or the process uses too much of
            the memory already.
    """

    def __init__(self, memory_limit: str | None = None, folder: str | os.PathLike[str] | None = None) -> None:
        try:
            import duckdb  # noqa: PLC0415 (an extra, and slow to import)
        except ModuleNotFoundError as error:
            raise KlingPricingError(not_installed("reconciling", "duckdb", "reports")) from error
        share = None if memory_limit is None else database_share(memory_limit)
        self._kept = ExitStack()
        try:
            parent = Path(gettempdir() if folder is None else folder).absolute()
            self.folder = self._kept.enter_context(temporary_folder("kling-pricing-workspace-", parent))
        except OSError as error:
            raise KlingPricingError(
                f"{folder}: cannot write temporary files to this folder: {error.strerror}; give another folder"
            ) from None
        if _PATTERN.search(str(self.folder)):
            self._kept.close()
            raise KlingPricingError(
                f"{parent}: cannot write temporary files to a path with a `*`, `?`, `[` or backslash; give "
                "another folder"
            )
        settings: dict[str, Any] = {
            "temp_directory": str(self.folder / "spilled"),
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        }
        if share is not None:
            settings |= {"memory_limit": f"{share.size_bytes // 1000}KB", "threads": share.threads}
        self.is_limited = share is not None
        self._failure, self._full = duckdb.Error, duckdb.OutOfMemoryException
        self._connections: set[DuckDBPyConnection] = set()
        self._interrupted = False
        self._aliases = count(1)
        self._database: DuckDBPyConnection | None = duckdb.connect(":memory:", config=settings)

    def close(self) -> None:
        """Closes the database and removes the folder."""
        if self._database is not None:
            self._database.close()
            self._database = None
            self._kept.close()

    def alias(self, path: Path) -> Path:
        """Returns another path of a file, in the workspace's folder, without characters of a pattern."""
        link = self.folder / f"statement-{next(self._aliases)}{path.suffix.lower()}"
        try:
            link.symlink_to(path.absolute())
        except OSError:  # links are not allowed
            shutil.copyfile(path, link)
        return link

    def run(self, statement: str, values: Mapping[str, Any] | Sequence[Any] | None = None) -> None:
        """Runs a statement."""
        with self.connection() as connection:
            connection.execute(statement, values)

    def insert(self, table: str, rows: Sequence[Sequence[Any]]) -> None:
        """Adds rows to a table."""
        if rows:
            columns = list(zip(*rows, strict=True))
            places = ", ".join(f"unnest(${place + 1})" for place in range(len(columns)))
            self.run(f"INSERT INTO {table} SELECT {places}", [list(column) for column in columns])

    def rows(
        self, query: str, values: Mapping[str, Any] | Sequence[Any] | None = None
    ) -> Iterator[tuple[Any, ...]]:
        """Yields the rows of a query, a batch at a time."""
        with self.connection() as connection:
            connection.execute(query, values)
            while rows := connection.fetchmany(_FETCHED):
                yield from rows

    def all(self, query: str, values: Mapping[str, Any] | Sequence[Any] | None = None) -> list[tuple[Any, ...]]:
        """Returns the rows of a query that has few."""
        with self.connection() as connection:
            return connection.execute(query, values).fetchall()

    def one(self, query: str, values: Mapping[str, Any] | Sequence[Any] | None = None) -> Any:
        """Returns the value of a query that has one."""
        ((value,),) = self.all(query, values)
        return value

    def ensure_wanted(self) -> None:
        """Stops a long read after an interruption.

        Raises:
            WorkspaceError: the workspace was interrupted.
        """
        if self._interrupted:
            raise WorkspaceError("the reconciliation was interrupted")

    def interrupt(self) -> None:
        """Interrupts the queries of every thread; the workspace must not be used after that."""
        self._interrupted = True
        for connection in list(self._connections):
            connection.interrupt()

    @contextmanager
    def connection(self) -> Iterator[DuckDBPyConnection]:
        """A separate connection, so that several threads and several unfinished queries can use the database.

        Raises:
            WorkspaceError: a query on the connection fails.
        """
        if self._database is None:
            raise KlingPricingError("the reconciliation was closed; keep it open while you read its lines")
        connection = self._database.cursor()
        self._connections.add(connection)
        try:
            yield connection
        except self._failure as error:
            first_line = str(error).partition("\n")[0]
            if isinstance(error, self._full):
                raise WorkspaceError(f"not enough memory ({first_line}); raise the memory limit") from error
            raise WorkspaceError(f"the reconciliation database failed: {first_line}") from error
        except RuntimeError as error:
            if str(error) == _INTERRUPTED:  # this is how DuckDB reports Ctrl-C
                raise KeyboardInterrupt from None
            raise
        finally:
            self._connections.discard(connection)
            connection.close()
