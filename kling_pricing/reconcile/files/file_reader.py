"""The base of all file readers, and the rows that they give to the database."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from kling_pricing.errors import StatementError
from kling_pricing.reconcile.staging import RowFile, literal
from kling_pricing.reconcile.workspace import Workspace

OnBytes: TypeAlias = Callable[[int], None]
"""Called with the number of bytes of a file that are read so far."""

DATE_CELL = "@"
"""Prefix of a text that was a date cell in its file: the text is ISO 8601, whatever the mapping's format is."""


class Layout(NamedTuple):
    """The layout of a file, where its format leaves a choice.

    Attributes:
        delimiter: the delimiter between columns of a text file.
        sheet: the sheet of a workbook; None: the first.
    """

    delimiter: str = ","
    sheet: str | None = None


class RowSource(NamedTuple):
    """The rows of a file, for the database to read.

    Attributes:
        relation: the SQL that reads the rows as a table.
        texts: column -> the SQL of its text.
        row: the SQL of a row's number; empty: rows are numbered from `first_row` on, without gaps.
        fault: the SQL of a fault of a whole row, in words.
        first_row: the number of the first row.
        rows: the number of rows that the database must find; None: any number.
    """

    relation: str
    texts: Mapping[str, str]
    row: str = ""
    fault: str = "NULL"
    first_row: int = 1
    rows: int | None = None


class FileReader(ABC):
    """A reader of one file.

    Every method raises a `StatementError` if the file cannot be read.

    Attributes:
        path: the path of the file.
        workspace: the database that reads the file.
        on_bytes: called with the number of bytes read so far.
        layout: the layout of the file.
    """

    def __init__(self, path: Path, workspace: Workspace, on_bytes: OnBytes) -> None:
        self.path = path
        self.workspace = workspace
        self.on_bytes = on_bytes
        self.layout = Layout()

    @abstractmethod
    def header(self) -> Sequence[str]:
        """Returns the columns; in JSON, those of the first object, with paths for nested values."""

    @abstractmethod
    def source(self, columns: Sequence[str], exact: Sequence[str]) -> RowSource:
        """Returns the rows.

        Args:
            columns: the columns to read; columns that the file does not have are skipped.
            exact: the columns that must not lose a digit.
        """

    def careful_source(self, columns: Sequence[str], exact: Sequence[str]) -> RowSource:
        """Returns the rows, read one by one; used if `source` does not give all of them."""
        return self.source(columns, exact)

    def objects(self) -> Iterator[tuple[int, Mapping[str, Any] | str]] | None:
        """Yields each row with its object, or with its fault; None: the rows are not objects."""
        return None

    def staged(self, columns: Sequence[str], rows: Iterable[tuple[int, Sequence[str], str]]) -> RowSource:
        """Stages rows that Python has read: the row, the texts of its columns, and its fault."""
        with RowFile(self.workspace.folder / "statement.rows", columns) as file:
            for row, texts, fault in rows:
                self.workspace.ensure_wanted()
                file.write(row, texts, fault)
        return RowSource(file.relation(), file.texts(), row='"row"', fault="fault")

    @property
    def literal_path(self) -> str:
        """The file's path as a literal in SQL.

        It is an alias, because DuckDB might take the file's own name for a pattern or a URL.
        """
        return literal(str(self.workspace.alias(self.path)))

    def places(self, header: Sequence[str], columns: Sequence[str]) -> dict[str, int]:
        """Returns the position of each of these columns that the header has."""
        if repeated := next((name for name in columns if header.count(name) > 1), None):
            raise self.error("appears twice in the first row; rename or remove one", row=1, column=repeated)
        return {name: header.index(name) for name in columns if name in header}

    def error(self, problem: str, *, row: int | None = None, column: str | None = None) -> StatementError:
        """Returns the error for a problem in this file."""
        return StatementError(problem, file=self.path.name, row=row, column=column)
