"""The base class of all file readers, and the rows that they pass to the database."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from kling_pricing.errors import StatementError, WireFormatError
from kling_pricing.reconcile.files.encodings import in_utf8
from kling_pricing.reconcile.staging import RowFile, literal
from kling_pricing.reconcile.workspace import Workspace
from kling_pricing.strict_json import EXACT_JSON, json_value

OnBytes: TypeAlias = Callable[[int], None]
"""A function that is called with the number of bytes read so far."""

DATE_CELL = "@"
"""The prefix of a text from a date cell; the text is in ISO 8601, regardless of the format in the mapping."""

ID_SEPARATOR = "\ufffd"
"""The separator of the texts of which one may be the task id, in a row whose columns are out of place."""

_PADDING = " \t\r\n\xa0\u2000\u2001\u2002\u2003\u2007\u2009\u200b\u202f\u3000\ufeff"

_MAX_DIGITS = 300
_SHORTEST_ROUNDED_ID = 15
MAX_TITLE_ROWS = 20
"""The number of first rows in which the header is searched for, because titles may precede it."""

MAX_ROWS = 1 << 20
"""The maximum number of rows of a sheet, as in spreadsheet programs."""

MAX_COLUMNS = 1 << 14
"""The maximum number of columns of a file, as in spreadsheet programs."""

MAX_LINE = 1 << 24
"""The maximum number of characters in a line of a text file."""

TOO_MANY_COLUMNS = f"has more than {MAX_COLUMNS} columns; export only the columns that describe the charges"


class Layout(NamedTuple):
    """The properties of a file that its format leaves open.

    Attributes:
        delimiter: the delimiter between the columns of a text file; None: it is not known yet.
        decimal: the decimal separator of a text file; None: it is not known yet.
        thousands: the thousands separator of numbers that are text; None: it is not known.
        sheet: the sheet of a workbook; None: the first sheet.
        rows: the paths at which a JSON object may contain the list of rows.
        header_row: the number of the row with the column names.
    """

    delimiter: str | None = None
    decimal: str | None = None
    thousands: str | None = None
    sheet: str | None = None
    rows: tuple[str, ...] = ()
    header_row: int = 1


class RowSource(NamedTuple):
    """The rows of a file, for the database to read.

    Attributes:
        relation: the SQL that reads the rows as a table.
        texts: column -> the SQL of its text.
        row: the SQL of a row's number; empty: rows are numbered without gaps, starting with `first_row`.
        fault: the SQL of the fault of a whole row, in words; NULL: the row has no fault.
        first_row: the number of the first row.
        rows: the number of rows that the database must find; None: any number.
        decimal: the decimal separator of the numbers; None: the file does not show which separator it uses.
        thousands: the thousands separator; None: the file does not show one.
        has_blanks: whether to skip rows without any text, as spreadsheet programs write them below a table.
    """

    relation: str
    texts: Mapping[str, str]
    row: str = ""
    fault: str = "NULL"
    first_row: int = 1
    rows: int | None = None
    decimal: str | None = "."
    thousands: str | None = None
    has_blanks: bool = False


class FileReader(ABC):
    """A reader of one file.

    Every method raises a `StatementError` if the file cannot be read.

    Attributes:
        path: the path of the file.
        workspace: the database that reads the file.
        on_bytes: called with the number of bytes read so far.
        encoding: the encoding of a text file that does not state its own; None: UTF-8.
        layout: the layout of the file.
        numbers: the columns whose numbers determine the decimal separator of a text file.
        task_columns: the columns with the task id, which is passed on even if its row cannot be read.
    """

    def __init__(
        self, path: Path, workspace: Workspace, on_bytes: OnBytes, encoding: str | None = None
    ) -> None:
        self.path = path
        self.workspace = workspace
        self.on_bytes = on_bytes
        self.encoding = encoding
        self.layout = Layout()
        self.numbers: Sequence[str] = ()
        self.task_columns: Sequence[str] = ()

    @abstractmethod
    def header(self) -> Sequence[str]:
        """Returns the names of the columns; in JSON, of all rows, with paths for nested values."""

    def layouts(
        self, prescribed: Layout, wanted: Sequence[Sequence[str]] | None = None
    ) -> Iterator[tuple[Layout, Sequence[str]]]:
        """Yields the possible layouts of the file, the likeliest first, each with its columns.

        Args:
            prescribed: the known part of the layout.
            wanted: the possible names of each wanted column; a reader may stop its search for columns when it
                has found all of them; None: all columns are wanted.
        """
        del wanted
        self.layout = prescribed
        yield prescribed, self.header()

    @abstractmethod
    def source(self, columns: Sequence[str], exact: Sequence[str]) -> RowSource:
        """Returns the rows.

        Args:
            columns: the columns to read; columns that are not in the file are skipped.
            exact: the columns whose numbers must keep every digit.
        """

    def careful_source(self, columns: Sequence[str], exact: Sequence[str]) -> RowSource:
        """Returns the rows, read one by one; used if the database does not find all rows of `source`."""
        return self.source(columns, exact)

    def objects(self) -> Iterator[tuple[int, Mapping[str, Any] | str]] | None:
        """Yields each row's number with its object or its fault; None: the rows are not objects."""
        return None

    def staged(self, columns: Sequence[str], rows: Iterable[tuple[int, Sequence[str], str]]) -> RowSource:
        """Writes rows (number, texts of the columns, fault) to a file for the database."""
        with RowFile(self.workspace.folder / "statement.rows", columns) as file:
            for row, texts, fault in rows:
                self.workspace.ensure_wanted()
                file.write(row, texts, fault)
        return RowSource(file.relation(), file.texts(), row='"row"', fault="fault")

    @cached_property
    def text_path(self) -> Path:
        """The path of the file in UTF-8: the file itself, or a converted copy."""
        return in_utf8(self.path, self.encoding, self.workspace.folder, self.error)

    @property
    def read_path(self) -> Path:
        """The path of the file that the database reads."""
        return self.path

    @property
    def literal_path(self) -> str:
        """The path of an alias of the file, as an SQL literal.

        An alias is used because DuckDB might interpret the file's own name as a pattern or a URL.
        """
        return literal(str(self.workspace.alias(self.read_path)))

    def places(self, header: Sequence[str], columns: Sequence[str]) -> dict[str, int]:
        """Returns the position of each of these columns that is in the header."""
        if repeated := next((name for name in columns if header.count(name) > 1), None):
            problem = "appears twice in the header; rename or remove one of the two columns"
            raise self.error(problem, row=self.layout.header_row, column=repeated)
        return {name: header.index(name) for name in columns if name in header}

    def cells(self, header: Sequence[str], columns: Sequence[str]) -> dict[str, tuple[int, str]]:
        """Returns the position of each of these columns, and the path within the JSON text in its cells."""
        direct = self.places(header, columns)
        nested = {}
        for name in columns:
            steps = name.split(".")
            for length in range(len(steps) - 1, 0, -1):
                outer = ".".join(steps[:length])
                if name not in direct and outer in header:
                    nested[name] = (header.index(outer), ".".join(steps[length:]))
                    break
        return {name: (place, "") for name, place in direct.items()} | nested

    def error(self, problem: str, *, row: int | None = None, column: str | None = None) -> StatementError:
        """Returns the error for a problem in this file."""
        return StatementError(problem, file=self.path.name, row=row, column=column)


def column_name(cell: str) -> str:
    """Returns the name in a cell of a header, without padding, which nobody sees."""
    return cell.strip(_PADDING)


def has_column(header: Container[str], name: str) -> bool:
    """Returns whether a header has a column, or has a column whose JSON text may contain it."""
    steps = name.split(".")
    return any(".".join(steps[:length]) in header for length in range(len(steps), 0, -1))


def text_in(cell: str, path: str) -> str | None:
    """Returns the text at a path within JSON text; None: the value is a list or object, or there is no JSON."""
    if not path or not cell:
        return cell
    whole = _object_in(cell)
    return text_of(at_path(whole, path)) if isinstance(whole, Mapping) else None


def at_path(item: Mapping[str, Any], path: str) -> Any:
    """Returns the value of a column by its name or path; None: the object does not have the column.

    A path can lead through nested objects, including those that are written as text.
    """
    if path in item:
        return item[path]
    value: Any = item
    for step in path.split("."):
        if isinstance(value, str) and value[:1] == "{":
            value = _object_in(value)
        value = value.get(step) if isinstance(value, Mapping) else None
    return value


def _object_in(text: str) -> Any:
    try:
        return json_value(text, decoder=EXACT_JSON)
    except WireFormatError:
        return None


def text_of(value: Any) -> str | None:
    """Returns the text of a value, with every digit of a number; None: the value is a list or an object."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Decimal):
        return digits(value)
    return str(value) if isinstance(value, str | int) else None


def digits(number: Decimal) -> str:
    """Returns a number in plain digits; a number with too many digits for an amount keeps its exponent.

    A large number that was written with an exponent also keeps it, because it may be an id that lost digits.
    """
    exponent = number.as_tuple().exponent
    plain = isinstance(exponent, int) and max(abs(exponent), abs(number.adjusted())) <= _MAX_DIGITS
    rounded = isinstance(exponent, int) and exponent > 0 and number.adjusted() >= _SHORTEST_ROUNDED_ID
    return format(number, "f") if plain and not rounded else str(number)
