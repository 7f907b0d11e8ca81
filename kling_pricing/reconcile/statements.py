"""Statements in: from a provider's files to charges in the database."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import file_digest
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from kling_pricing.errors import StatementError
from kling_pricing.reconcile.charge_sql import CHARGE, charges
from kling_pricing.reconcile.files import answers, reader
from kling_pricing.reconcile.files.file_reader import FileReader, Layout, OnBytes, RowSource
from kling_pricing.reconcile.mappings import StatementFile, choose_mapping, load_mappings, read_mapping
from kling_pricing.reconcile.workspace import Workspace, WorkspaceError
from kling_pricing.tables.price_table import PriceBook

MappingLike: TypeAlias = str | os.PathLike[str] | StatementFile | None
"""The name of a bundled mapping, a file of one's own, a mapping; None: the one that fits."""


class Statement(NamedTuple):
    """One file of a provider's statement, as it was read.

    Attributes:
        name: of the file.
        digest: SHA-256 of its bytes, in hexadecimal.
        mapping: what its columns mean.
        first: place of its first charge in the table `charge`.
        first_row: row of that charge, where charges have no row of their own.
    """

    name: str
    digest: str
    mapping: StatementFile
    first: int
    first_row: int

    @property
    def is_answers(self) -> bool:
        """Whether its rows are answers about tasks, of which the last counts, and not charges, which add up."""
        return self.mapping.columns is None

    def decimals(self, unit: str) -> int | None:
        """How many digits an amount in a unit has behind the point; None: that is not said, or it has none."""
        if self.mapping.answers is not None:
            return self.mapping.answers.decimals
        amount = None if self.mapping.columns is None else self.mapping.columns.amount
        return amount.decimals if amount is not None and amount.unit in {None, unit} else None


def read_statements(
    workspace: Workspace,
    paths: Sequence[str | os.PathLike[str]],
    *,
    provider: str,
    book: PriceBook,
    mapping: MappingLike,
    units: Iterable[str],
    on_bytes: Callable[[int, int], None],
) -> list[Statement]:
    """Reads the charges of some files into the table `charge`.

    Args:
        workspace: where that is.
        paths: the files.
        provider: whose they are.
        book: knows the wire formats and the models.
        mapping: what the columns mean.
        units: the provider's units that are known.
        on_bytes: told how many bytes are read so far, and of how many.

    Raises:
        StatementError: a file cannot be read, or two of them do not go together.
        TableError: a mapping is refused.
    """
    files = [Path(path) for path in paths]
    if not files:
        raise StatementError("give at least one file of the provider's statement")
    names = _names(files)
    digests = _digests(files, names)
    given = mapping if mapping is None or isinstance(mapping, StatementFile) else read_mapping(mapping, book)
    known = load_mappings(book) if given is None else {}
    workspace.run(CHARGE)
    found: list[Statement] = []
    before, total = 0, sum(path.stat().st_size for path in files)
    for place, path in enumerate(files):
        read = reader(path, workspace, _further(on_bytes, before, total))
        with _refusals(names[place]):
            own = given or _chosen(read, known, provider)
            read.layout = Layout(own.delimiter, own.sheet)
            first = workspace.one("SELECT count(*) FROM charge")
            first_row = _read(read, own, place, units)
        found.append(Statement(names[place], digests[place], own, first, first_row))
        before += path.stat().st_size
        on_bytes(before, total)
    if len({each.is_answers for each in found}) > 1:
        raise StatementError(
            "answers about tasks and tables of charges say the same twice; give one or the other"
        )
    return found


def _further(on_bytes: Callable[[int, int], None], before: int, total: int) -> OnBytes:
    """Tells how far the reading of one of several files is."""
    return lambda size: on_bytes(before + size, total)


def _names(files: Sequence[Path]) -> list[str]:
    """The files' names, never their folders; where several have the same, they are numbered."""
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
        with _refusals(name), path.open("rb") as file:
            digest = file_digest(file, "sha256").hexdigest()
        if digest in digests:
            other = names[digests.index(digest)]
            raise StatementError(f"holds the same as {other}; give it once", file=name)
        digests.append(digest)
    return digests


def _chosen(read: FileReader, known: Mapping[str, StatementFile], provider: str) -> StatementFile:
    first: Mapping[str, Any] | None = next(
        (found for _, found in read.objects() or () if isinstance(found, Mapping)), None
    )
    return choose_mapping(
        known,
        provider,
        read.header(),
        file=read.path.name,
        is_answer=lambda wire_format: answers.is_answer(first, wire_format),
    )


def _read(read: FileReader, mapping: StatementFile, place: int, units: Iterable[str]) -> int:
    """Reads the charges of a file; returns the row of the first."""
    if mapping.answers is not None:
        found = read.objects()
        if found is None:
            raise read.error(
                "is read as answers about tasks, which are JSON; name another mapping, or convert it"
            )
        source = read.staged(answers.COLUMNS, answers.rows(found, mapping.answers))
        _insert(read.workspace, source, mapping, place, units)
        return source.first_row
    _check_header(read, mapping)
    exact = [mapping.columns.task_id.column, mapping.columns.amount.column] if mapping.columns else []
    source = read.source(mapping.read, exact)
    try:
        complete = _insert(read.workspace, source, mapping, place, units)
    except WorkspaceError:
        complete = False  # what the database cannot read, Python may, or else it says where it stops
    if not complete:
        source = read.careful_source(mapping.read, exact)
        _insert(read.workspace, source, mapping, place, units)
    return source.first_row


def _check_header(read: FileReader, mapping: StatementFile) -> None:
    header = read.header()
    for column in mapping.needed:
        if column not in header:
            there = ", ".join(filter(None, header))
            problem = f"is not there, and {mapping.statement} needs it; there are: {there}"
            raise read.error(problem, row=1, column=column)


def _insert(
    workspace: Workspace, source: RowSource, mapping: StatementFile, place: int, units: Iterable[str]
) -> bool:
    """Adds the charges of a source, if they are as many as there must be."""
    with workspace.connection() as connection:
        connection.begin()
        connection.execute(f"INSERT INTO charge {charges(source, mapping, place, units)}")
        row = connection.execute("SELECT count(*) FROM charge WHERE file = ?", [place]).fetchone()
        if source.rows in {None, row and row[0]}:
            connection.commit()
            return True
        connection.rollback()
        return False


@contextmanager
def _refusals(name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StatementError(f"cannot be read: {error.strerror or error}", file=name) from None
