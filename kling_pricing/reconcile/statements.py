"""Reads a provider's statement files into charges in the database."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import file_digest
from itertools import count
from pathlib import Path
from typing import NamedTuple, TypeAlias

from kling_pricing.errors import StatementError
from kling_pricing.reconcile.charge_sql import CHARGE, charges
from kling_pricing.reconcile.files import answers, reader
from kling_pricing.reconcile.files.encodings import known_encoding
from kling_pricing.reconcile.files.file_reader import FileReader, OnBytes, RowSource
from kling_pricing.reconcile.mappings import (
    base_layout,
    choose_mapping,
    lay_out,
    load_mappings,
    model_names,
    read_mapping,
)
from kling_pricing.reconcile.statement_file import StatementFile
from kling_pricing.reconcile.units import Unit
from kling_pricing.reconcile.workspace import Workspace, WorkspaceError
from kling_pricing.tables.price_book import PriceBook

MappingLike: TypeAlias = str | os.PathLike[str] | StatementFile | None
"""The name of a bundled mapping, the path of a mapping file, or a mapping; None: the mapping that fits."""


class Statement(NamedTuple):
    """One file of a provider's statement, in the database.

    Attributes:
        name: the name of the file.
        digest: SHA-256 of its bytes, in hexadecimal.
        mapping: the meaning of its columns.
        first: the place of its first charge in the table `charge`.
        first_row: the row of that charge in the file, if charges do not have a row of their own.
    """

    name: str
    digest: str
    mapping: StatementFile
    first: int
    first_row: int

    @property
    def is_answers(self) -> bool:
        """Whether its rows are answers about tasks, of which one counts, and not charges, which add up."""
        return self.mapping.answers is not None

    @property
    def is_aggregate(self) -> bool:
        """Whether its rows are sums of tasks."""
        return self.mapping.aggregates is not None

    @property
    def task_column(self) -> str:
        """The column with the task."""
        return "task_id" if self.mapping.columns is None else self.mapping.columns.task_id.column

    @property
    def is_precharged(self) -> bool:
        """Whether some of its rows correct charges that were made in advance."""
        return self.mapping.columns is not None and self.mapping.columns.precharge is not None

    def decimals(self, unit: str) -> int | None:
        """Returns the most digits after the point of an amount in a unit; None: the mapping does not say."""
        if self.mapping.answers is not None:
            return self.mapping.answers.decimals
        amount = self.mapping.amount
        return None if amount is None else amount.decimals_of(unit)

    def valued_units(self) -> Iterator[Unit]:
        """Yields the units whose value the mapping gives, for providers whose price tables do not."""
        amount = self.mapping.amount
        for text, entry in amount.units.items() if amount else ():
            if entry.value is not None and entry.currency is not None:
                yield Unit(entry.unit or text, entry.currency, entry.value)


def read_statements(
    workspace: Workspace,
    paths: Sequence[str | os.PathLike[str]],
    *,
    provider: str,
    book: PriceBook,
    mapping: MappingLike,
    units: Iterable[str],
    currency: str,
    encoding: str | None,
    on_bytes: Callable[[int, int], None],
) -> list[Statement]:
    """Reads the charges of some files into the table `charge`.

    Args:
        workspace: the database.
        paths: the files.
        provider: the provider whose statement it is.
        book: the wire formats and models that mappings may name.
        mapping: the meaning of the columns.
        units: the known units of the provider.
        currency: the account's currency, for amounts of money without one.
        encoding: the encoding of text files that do not state their own; None: UTF-8.
        on_bytes: called with the number of bytes read so far, and the total.

    Raises:
        StatementError: a file cannot be read, or two files cannot be combined.
        TableError: a mapping is refused.
    """
    files = [Path(path) for path in paths]
    if not files:
        raise StatementError("give at least one file of the provider's statement")
    if encoding is not None and not known_encoding(encoding):
        raise StatementError(f"unknown encoding {encoding!r}; give a name such as gb18030, utf-16-le or cp1252")
    names = _names(files)
    digests = _digests(files, names)
    given = mapping if mapping is None or isinstance(mapping, StatementFile) else read_mapping(mapping, book)
    known = load_mappings(book) if given is None else {}
    workspace.run(CHARGE)
    read: list[Statement] = []
    before, total = 0, sum(path.stat().st_size for path in files)
    for place, path in enumerate(files):
        file = reader(path, workspace, _add_to(on_bytes, before, total), encoding)
        with _os_errors(names[place]):
            used = given or _chosen(file, known, provider)
            if given is not None:
                lay_out(file, given)
            first = workspace.one("SELECT count(*) FROM charge")
            first_row = _Charges(file, used, place, units, book, currency).read()
        read.append(Statement(names[place], digests[place], used, first, first_row))
        before += path.stat().st_size
        on_bytes(before, total)
    if len({statement.is_aggregate for statement in read}) > 1:
        raise StatementError(
            "a mix of sums and tables of tasks would count tasks twice; give only one kind of file"
        )
    if len({statement.is_answers for statement in read}) > 1:
        raise StatementError(
            "a mix of task responses and tables of charges would count tasks twice; give only one kind of file"
        )
    return read


def _add_to(on_bytes: Callable[[int, int], None], before: int, total: int) -> OnBytes:
    """Returns a callback for one of several files, after the bytes of the files before it."""
    return lambda size: on_bytes(before + size, total)


def _names(files: Sequence[Path]) -> list[str]:
    """Returns the names of the files without their folders; files of the same name are numbered."""
    names: list[str] = []
    for path in files:
        numbers = count(2)
        name = path.name
        while name in names:
            name = f"{path.name} ({next(numbers)})"
        names.append(name)
    return names


def _digests(files: Sequence[Path], names: Sequence[str]) -> list[str]:
    digests: list[str] = []
    for path, name in zip(files, names, strict=True):
        with _os_errors(name), path.open("rb") as file:
            digest = file_digest(file, "sha256").hexdigest()
        if digest in digests:
            other = names[digests.index(digest)]
            raise StatementError(f"has the same content as {other}; give only one of them", file=name)
        digests.append(digest)
    return digests


def _chosen(file: FileReader, known: Mapping[str, StatementFile], provider: str) -> StatementFile:
    """Returns the known mapping that fits a file."""

    def is_answer(mapping: StatementFile) -> bool:
        file.layout = base_layout(mapping)
        objects = (item for _, item in file.objects() or () if isinstance(item, Mapping))
        return mapping.answers is not None and answers.is_answer(next(objects, None), mapping.answers)

    return choose_mapping(file, known, provider, is_answer=is_answer)


class _Charges:
    """The charges of one file, by one mapping."""

    def __init__(
        self,
        file: FileReader,
        mapping: StatementFile,
        place: int,
        units: Iterable[str],
        book: PriceBook,
        currency: str,
    ) -> None:
        self._file = file
        self._mapping = mapping
        self._place = place
        self._units = units
        self._book = book
        self._currency = currency

    def read(self) -> int:
        """Adds the charges to the database; returns the row of the first one."""
        file, mapping = self._file, self._mapping
        if mapping.answers is not None:
            objects = file.objects()
            if objects is None:
                raise file.error(
                    "the mapping reads task responses in JSON; choose another mapping, or convert the "
                    "file to JSON"
                )
            rows = answers.rows(objects, mapping.answers, self._currency)
            source = file.staged(answers.COLUMNS, rows)
            self._insert(source)
            return source.first_row
        columns, amount = mapping.columns, mapping.amount
        exact = [*columns.task_id.columns] if columns else []
        exact += amount.columns if amount else ()
        if mapping.aggregates is not None and mapping.aggregates.tasks is not None:
            exact += mapping.aggregates.tasks.columns
        lengths = columns.duration_s.columns if columns and columns.duration_s else ()
        file.numbers = [*amount.columns, *lengths] if amount else []
        file.task_columns = columns.task_id.columns if columns else ()
        try:
            source = file.source(mapping.read, exact)
            complete = self._insert(source)
        except WorkspaceError:
            complete = False  # Python may read what the database cannot, or it says where it stops
        if not complete:
            source = file.careful_source(mapping.read, exact)
            try:
                self._insert(source)
            except WorkspaceError as error:
                file.workspace.ensure_wanted()
                raise file.error(f"cannot be read: {error}") from error
        return source.first_row

    def _insert(self, source: RowSource) -> bool:
        """Adds the charges of a source and returns True, unless their number is wrong."""
        columns = self._mapping.columns
        models = model_names(columns.model, self._book) if columns and columns.task_id.optional else ()
        selected = charges(source, self._mapping, self._place, self._units, models)
        with self._file.workspace.connection() as connection:
            connection.begin()
            connection.execute(f"INSERT INTO charge {selected}")
            row = connection.execute("SELECT count(*) FROM charge WHERE file = ?", [self._place]).fetchone()
            if source.rows in {None, row and row[0]}:
                connection.commit()
                return True
            connection.rollback()
            return False


@contextmanager
def _os_errors(name: str) -> Iterator[None]:
    """Turns an `OSError` into a `StatementError` about a file."""
    try:
        yield
    except OSError as error:
        raise StatementError(f"cannot be read: {error.strerror or error}", file=name) from None
