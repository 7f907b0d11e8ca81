"""Mappings: the meaning of the columns of a provider's statement, `statements/<name>.yaml`.

Which column has the amount, in which unit and with how many digits, is data, as prices are: mappings of known
statements are bundled, and the user writes a file for any other statement (`--mapping FILE`).
The files are read as strictly as price tables.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kling_pricing.display import did_you_mean, reportable
from kling_pricing.errors import StatementError, TableError
from kling_pricing.reconcile.files.file_reader import FileReader, Layout, has_column
from kling_pricing.reconcile.mapping_draft import likeliest_layout
from kling_pricing.reconcile.statement_columns import ModelColumnEntry
from kling_pricing.reconcile.statement_file import StatementFile
from kling_pricing.strict_yaml import YamlDocument, read
from kling_pricing.tables.loading.folders import own_folder, table_files
from kling_pricing.tables.price_book import PriceBook
from kling_pricing.wire.formats import NAMES as WIRE_FORMATS

_MAX_LISTED = 40
"""Columns of a file that an error lists."""


def statement_file_schema() -> dict[str, Any]:
    """Returns the JSON Schema of `statements/<name>.yaml`."""
    return StatementFile.model_json_schema()


def load_mappings(
    book: PriceBook, directory: str | os.PathLike[str] | None = None
) -> Mapping[str, StatementFile]:
    """Returns the bundled mappings and those in the user's folder, which replace bundled ones of the same name.

    Args:
        book: the wire formats and models that mappings may name.
        directory: the user's folder; by default the folder that `KLING_PRICING_TABLES` names.

    Raises:
        TableError: a file is refused.
    """
    mappings = {}
    for path, file in table_files(directory or own_folder()).items():
        if path[0] == "statements":
            mapping = _checked(file.data, file.name, book)
            if mapping.statement != file.stem:
                problem = (
                    f"`statement` is {mapping.statement!r}, but the file has a different name; use the same "
                    "name for both"
                )
                raise TableError(problem, file=file.name)
            mappings[mapping.statement] = mapping
    return mappings


def read_mapping(named: str | os.PathLike[str], book: PriceBook) -> StatementFile:
    """Returns a mapping by its name, or from a file of the user's.

    Raises:
        TableError: the file is refused.
        StatementError: neither a mapping of that name nor such a file exists.
    """
    path = Path(named)
    if path.suffix in {".yaml", ".yml"} or path.is_file():
        try:
            data = path.read_bytes()
        except OSError as error:
            raise TableError(f"cannot be read: {error.strerror}", file=str(path)) from None
        return _checked(data, str(path), book)
    known = load_mappings(book)
    if str(named) not in known:
        raise StatementError(
            f"unknown mapping {str(named)!r}; {did_you_mean(str(named), sorted(known))} (or give a YAML file)"
        )
    return known[str(named)]


def choose_mapping(
    file: FileReader,
    known: Mapping[str, StatementFile],
    provider: str,
    *,
    is_answer: Callable[[StatementFile], bool],
) -> StatementFile:
    """Returns the provider's mapping that fits the columns of a statement, and sets the layout of the file.

    If several fit, it is the mapping that needs the most columns. If none fits, mappings that name no provider
    are tried.

    Args:
        file: the statement.
        known: all mappings.
        provider: the provider that bills.
        is_answer: mapping of answers -> whether the first row is an answer in its wire format.

    Raises:
        StatementError: none fits, or several fit equally well.
    """
    own = [mapping for mapping in known.values() if provider in mapping.providers]
    best = _fitting(file, own, is_answer)
    if not best:
        general = [mapping for mapping in known.values() if not mapping.providers and not mapping.answers]
        best = _fitting(file, general, is_answer)
    if len(best) == 1:
        ((mapping, layout),) = best
        file.layout = layout
        return mapping
    if best:
        choices = "; ".join(f"{mapping.statement}: {mapping.about}" for mapping, _ in best)
        raise file.error(f"matches several mappings; choose one with --mapping ({choices})")
    header, nearest = _nearest(file, own)
    names = ", ".join(sorted(known))
    columns = [*dict.fromkeys(filter(None, header))]
    raise file.error(
        f"no mapping for {provider} matches the columns of the file ({_listed(columns) or 'none'}){nearest}; "
        f"write a mapping with `kling-pricing statement map FILE --provider {provider}`, or choose one with "
        f"--mapping ({names})"
    )


def lay_out(file: FileReader, mapping: StatementFile) -> None:
    """Sets the layout in which a file has the columns that a mapping needs.

    Raises:
        StatementError: the file lacks one of them, or has one that such a statement never has.
    """
    layout = _fitting_layout(file, mapping)
    if layout is not None:
        file.layout = layout
        return
    header, row = _likeliest_header(file, mapping)
    lacking = _lacking(header, mapping)
    if lacking is not None:
        present = _listed([*filter(None, header)])
        problem = f"is missing, and the mapping {mapping.statement} needs it; the file has: {present}"
        raise file.error(problem, row=row, column=" or ".join(lacking))
    other = next(column for column in mapping.without if column in header)
    problem = (
        f"does not occur in statements for mapping {mapping.statement}; choose another mapping with --mapping"
    )
    raise file.error(problem, row=row, column=other)


def base_layout(mapping: StatementFile) -> Layout:
    """Returns the layout that a mapping prescribes."""
    return Layout(mapping.delimiter, mapping.decimal, mapping.thousands, mapping.sheet, tuple(mapping.rows))


def _fitting(
    file: FileReader, candidates: Sequence[StatementFile], is_answer: Callable[[StatementFile], bool]
) -> list[tuple[StatementFile, Layout]]:
    """Returns the mappings that fit a file best, each with the file's layout."""
    fitting = [
        (mapping, layout)
        for mapping in candidates
        if mapping.answers is None and (layout := _fitting_layout(file, mapping)) is not None
    ]
    most = max((len(mapping.needed) for mapping, _ in fitting), default=0)
    best = [(mapping, layout) for mapping, layout in fitting if len(mapping.needed) == most]
    answers = (mapping for mapping in candidates if mapping.answers is not None and is_answer(mapping))
    return best + [(mapping, base_layout(mapping)) for mapping in answers]


def _fitting_layout(file: FileReader, mapping: StatementFile) -> Layout | None:
    """Returns the first layout in which a file has the mapping's columns; None: in no layout.

    Raises:
        StatementError: several sheets or lists of the file have these columns.
    """
    prescribed = base_layout(mapping)
    fitting: dict[tuple[str | None, tuple[str, ...]], Layout] = {}
    for layout, header in file.layouts(prescribed, None if mapping.without else mapping.needed):
        if _lacking(header, mapping) is None and not set(mapping.without).intersection(header):
            if (layout.sheet, layout.rows) == (prescribed.sheet, prescribed.rows):
                return layout
            fitting.setdefault((layout.sheet, layout.rows), layout)
    if len(fitting) > 1:
        names = [sheet or ", ".join(rows) for sheet, rows in fitting]
        kind, key = ("sheets", "`sheet`") if next(iter(fitting))[0] else ("lists", "`rows`")
        raise file.error(
            f"has the columns of mapping {mapping.statement} in several {kind} ({_listed(names)}); name one of "
            f"them under {key} in a mapping of your own"
        )
    return next(iter(fitting.values()), None)


def _lacking(header: Sequence[str], mapping: StatementFile) -> tuple[str, ...] | None:
    """Returns the names of the first column that a header lacks; None: it has all that the mapping needs."""
    return next(
        (names for names in mapping.needed if not any(has_column(header, name) for name in names)), None
    )


def _likeliest_header(file: FileReader, mapping: StatementFile) -> tuple[Sequence[str], int]:
    """Returns the header that has the most of a mapping's columns, and its row."""

    def fit(candidate: tuple[Layout, Sequence[str]]) -> tuple[int, int]:
        needed = sum(any(has_column(candidate[1], name) for name in names) for names in mapping.needed)
        return needed, len(candidate[1])

    layout, header = max(file.layouts(base_layout(mapping)), key=fit)
    return header, layout.header_row


def _nearest(file: FileReader, candidates: Sequence[StatementFile]) -> tuple[Sequence[str], str]:
    """Returns the likeliest header of a file, and the mapping that it nearly fits, in words."""
    file.header()  # if the file is empty, it is refused
    _, header = likeliest_layout(file)
    for mapping in candidates:
        if mapping.answers is None:
            likeliest, _ = _likeliest_header(file, mapping)
            lacking = [n for n in mapping.needed if not any(has_column(likeliest, name) for name in n)]
            if len(lacking) == 1 and len(mapping.needed) > 2:  # noqa: PLR2004 (most columns are there)
                return likeliest, (
                    f"; {mapping.statement} nearly matches, but column {' or '.join(lacking[0])} is missing"
                )
    return header, ""


def _listed(columns: Sequence[str]) -> str:
    """Returns the names of columns for a message: not all of them if there are many."""
    names = ", ".join(str(reportable(name)) for name in columns[:_MAX_LISTED])
    return names if len(columns) <= _MAX_LISTED else f"{names} and {len(columns) - _MAX_LISTED} more"


def _checked(data: bytes, name: str, book: PriceBook) -> StatementFile:
    mapping, document = read(data, StatementFile, name=name)
    if mapping.answers is not None and mapping.answers.wire_format not in WIRE_FORMATS:
        problem = f"unknown wire format; known: {', '.join(WIRE_FORMATS)}"
        raise document.error(("answers", "wire_format"), problem)
    for place, kind in (("columns", mapping.columns), ("aggregates", mapping.aggregates)):
        if kind is not None and kind.model is not None:
            _check_models(kind.model, document, place, book)
    return mapping


def model_names(entry: ModelColumnEntry | None, book: PriceBook) -> set[str]:
    """Returns every name that a statement may write for a model."""
    if entry is None:
        return set()
    return {*entry.names, *(name for listed in entry.names_of for name in book.matrices[listed].names)}


def _check_models(entry: ModelColumnEntry, document: YamlDocument, kind: str, book: PriceBook) -> None:
    for place, wire_format in enumerate(entry.names_of):
        if wire_format not in book.matrices:
            problem = f"unknown wire format {wire_format!r}; known: {', '.join(sorted(book.matrices))}"
            raise document.error((kind, "model", "names_of", place), problem)
    models = {model for matrix in book.matrices.values() for model in matrix.models}
    models |= {model for tables in book.tables.values() for table in tables for model in table.models}
    for written, facts in entry.names.items():
        if facts.get("model") not in {None, *models}:
            problem = f"{facts['model']!r} is not a known model; {did_you_mean(facts['model'], sorted(models))}"
            raise document.error((kind, "model", "names", written), problem)
