"""What the readers of all kinds of files have in common, and what they give to the database."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from kling_pricing.errors import StatementError
from kling_pricing.reconcile.staging import RowFile, literal
from kling_pricing.reconcile.workspace import Workspace

OnBytes: TypeAlias = Callable[[int], None]
"""Told how many bytes of a file are read so far."""


DATE_CELL = "@"
"""Before the text of what is a date in its file and no text: it is in ISO 8601, whatever the mapping says."""


class Layout(NamedTuple):
    """How a file is laid out, where its kind leaves that open.

    Attributes:
        delimiter: between columns, where the file is text.
        sheet: of a workbook; None: its first.
    """

    delimiter: str = ","
    sheet: str | None = None


class RowSource(NamedTuple):
    """The rows of a file, for the database to read.

    Attributes:
        relation: the rows as a table in SQL.
        texts: column -> the SQL of its text.
        row: the SQL of a row's number; empty: they are in order from `first_row` on, none left out.
        fault: the SQL of what is wrong with a row as a whole, in words.
        first_row: the number of the first row.
        rows: how many there must be; None: as many as there are.
    """

    relation: str
    texts: Mapping[str, str]
    row: str = ""
    fault: str = "NULL"
    first_row: int = 1
    rows: int | None = None


class FileReader(ABC):
    """One file, in one of the kinds of files.

    Every method raises a `StatementError` where the file cannot be read.

    Attributes:
        path: where it is.
        workspace: where it is read to.
        on_bytes: told how far the reading is.
        layout: how the file is laid out.
    """

    def __init__(self, path: Path, workspace: Workspace, on_bytes: OnBytes) -> None:
        self.path = path
        self.workspace = workspace
        self.on_bytes = on_bytes
        self.layout = Layout()

    @abstractmethod
    def header(self) -> Sequence[str]:
        """Its columns; in JSON, those of the first object, with paths for what is nested."""

    @abstractmethod
    def source(self, columns: Sequence[str], exact: Sequence[str]) -> RowSource:
        """Its rows.

        Args:
            columns: those to read; one that the file does not have is left out.
            exact: those of which not a digit may be lost.
        """

    def careful_source(self, columns: Sequence[str], exact: Sequence[str]) -> RowSource:
        """Its rows, read one by one: when `source` does not give all of them."""
        return self.source(columns, exact)

    def objects(self) -> Iterator[tuple[int, Mapping[str, Any] | str]] | None:
        """Row and object, or what is wrong with it; None: its rows are no objects."""
        return None

    def staged(self, columns: Sequence[str], rows: Iterable[tuple[int, Sequence[str], str]]) -> RowSource:
        """Rows that Python reads: row, texts of the columns, and what is wrong with it."""
        with RowFile(self.workspace.folder / "statement.rows", columns) as file:
            for row, texts, fault in rows:
                self.workspace.ensure_wanted()
                file.write(row, texts, fault)
        return RowSource(file.relation(), file.texts(), row='"row"', fault="fault")

    @property
    def literal_path(self) -> str:
        """The file for the database, as SQL writes it.

        Never by its own name: the database may take that for a pattern that other files fit, or an address.
        """
        return literal(str(self.workspace.alias(self.path)))

    def places(self, header: Sequence[str], columns: Sequence[str]) -> dict[str, int]:
        """The wanted columns that are there, and where."""
        if twice := next((name for name in columns if header.count(name) > 1), None):
            raise self.error("stands twice in the first row; rename or remove one", row=1, column=twice)
        return {name: header.index(name) for name in columns if name in header}

    def error(self, problem: str, *, row: int | None = None, column: str | None = None) -> StatementError:
        """The error for something in this file."""
        return StatementError(problem, file=self.path.name, row=row, column=column)
