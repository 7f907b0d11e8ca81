"""Mappings: the meaning of the columns of a provider's statement, `statements/<name>.yaml`.

Which column has the amount, in which unit and with how many digits, is data, as prices are: mappings of known
statements are bundled, and the user writes a file for any other statement (`--mapping FILE`).
The files are read as strictly as price tables.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, model_validator

from kling_pricing.display import did_you_mean
from kling_pricing.errors import StatementError, TableError
from kling_pricing.money import MAX_DECIMALS
from kling_pricing.strict_yaml import FileModel, Name, Text, YamlDocument, read
from kling_pricing.tables.loading.conditions import FactValues
from kling_pricing.tables.loading.files import SourceEntry
from kling_pricing.tables.loading.folders import file_bytes, own_folder, table_files
from kling_pricing.tables.price_table import PriceBook
from kling_pricing.wire.fields import folded
from kling_pricing.wire.formats import NAMES as WIRE_FORMATS

State: TypeAlias = Literal["queued", "processing", "succeeded", "failed", "cancelled"]

_UNIT = re.compile(r"[A-Z]{3}|[a-z][a-z_]{0,19}")
_OFFSET = re.compile(r"[+-](0[0-9]|1[0-4]):[0-5][0-9]")
_PATTERN_NEEDS = ("%Y", "%m", "%d")
ISO, UNIX = "iso", "unix"


def _unit(value: Any) -> str:
    if isinstance(value, str) and _UNIT.fullmatch(value):
        return value
    raise ValueError("must be a currency of three capital letters, or the provider's own unit in lower case")


def _offset(value: Any) -> str:
    if isinstance(value, str) and _OFFSET.fullmatch(value):
        return value
    raise ValueError('must be an offset from UTC in hours and minutes, such as "+08:00"')


def _time_format(value: str) -> str:
    if value in {ISO, UNIX}:
        return value
    missing = [part for part in _PATTERN_NEEDS if part not in value]
    if missing or "%z" in value or "%Z" in value:
        raise ValueError(
            "must be iso, unix, or a pattern such as %d/%m/%Y %H:%M with a day, a month and a four-digit year, "
            "and without a zone (use offset for it)"
        )
    moment = datetime(2026, 11, 21)  # noqa: DTZ001 (only to test the pattern)
    try:
        datetime.strptime(moment.strftime(value), value)  # noqa: DTZ007
    except (ValueError, re.error):
        raise ValueError(f"{value!r} is not a pattern that times can be read with") from None
    return value


def _distinct(names: Mapping[str, Any]) -> Mapping[str, Any]:
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(folded(name), name)
        if other != name:
            raise ValueError(f"{other!r} and {name!r} differ only in capitals, which do not count; keep one")
    return names


Unit: TypeAlias = Annotated[
    str, BeforeValidator(_unit), WithJsonSchema({"type": "string", "pattern": f"^({_UNIT.pattern})$"})
]
Offset: TypeAlias = Annotated[
    str, BeforeValidator(_offset), WithJsonSchema({"type": "string", "pattern": f"^{_OFFSET.pattern}$"})
]


class ColumnEntry(FileModel):
    """A column by its name; in JSON also a path, such as `data.task_id`."""

    column: Text
    optional: bool = Field(default=False, description="Whether a statement may lack the column.")


class TaskEntry(FileModel):
    """The column with the provider's name for the task, as its API gave it."""

    column: Text


class AmountEntry(FileModel):
    """The column with the charged amount."""

    column: Text
    unit: Unit | None = Field(
        None, description="The unit of the amount: a currency, or the provider's own unit."
    )
    unit_column: Text | None = Field(None, description="The column with the unit of each row.")
    decimals: Annotated[int, Field(ge=0, le=MAX_DECIMALS)] = Field(
        description="The most digits after the point; an amount with more is refused."
    )
    charges: Literal["positive", "negative"] = Field(
        "positive", description="The sign of a charge; a refund has the opposite sign."
    )

    @model_validator(mode="after")
    def _one_unit(self) -> AmountEntry:
        if (self.unit is None) == (self.unit_column is None):
            raise ValueError("give either unit or unit_column")
        return self


class TimeEntry(ColumnEntry):
    """A column with an instant."""

    format: Annotated[Text, AfterValidator(_time_format)] = Field(
        ISO, description="iso; unix (seconds or milliseconds); or a pattern such as %d/%m/%Y %H:%M."
    )
    offset: Offset = Field("+00:00", description="The offset from UTC of times without an offset of their own.")


class ModelColumnEntry(ColumnEntry):
    """The column with the model."""

    names_of: list[Name] = Field(
        [], description="The wire formats whose model names it uses: files of capabilities/."
    )
    names: Annotated[dict[Text, FactValues], AfterValidator(_distinct)] = Field(
        {}, description="Name on the statement -> its facts: {model: ..., resolution: ..., audio: ...}."
    )


class ResolutionEntry(ColumnEntry):
    """The column with the resolution; capitals do not count."""

    names: Annotated[dict[Text, Name], AfterValidator(_distinct)] = Field(
        {}, description="Resolution on the statement -> in price tables, if the two differ."
    )


class StateEntry(ColumnEntry):
    """The column with the state of the task."""

    names: Annotated[dict[Text, State], AfterValidator(_distinct), Field(min_length=1)]


class FactEntry(ColumnEntry):
    """A column with facts that the price depends on, such as whether the video has sound."""

    means: Annotated[dict[Text, FactValues], AfterValidator(_distinct), Field(min_length=1)]


class ColumnsEntry(FileModel):
    """The meaning of each column; a column that is not named here is not read."""

    task_id: TaskEntry
    amount: AmountEntry
    billed_at: TimeEntry | None = Field(None, description="When the task was charged.")
    submitted_at: TimeEntry | None = Field(None, description="When the task was submitted.")
    model: ModelColumnEntry | None = None
    resolution: ResolutionEntry | None = None
    duration_s: ColumnEntry | None = None
    state: StateEntry | None = None
    facts: list[FactEntry] = []


class AnswersEntry(FileModel):
    """Answers of an API about its tasks, one per row; their fields are known, so columns are not named."""

    wire_format: Name
    decimals: Annotated[int, Field(ge=0, le=MAX_DECIMALS)] = Field(
        MAX_DECIMALS, description="The most digits after the point of the stated charge."
    )
    submitted_at: TimeEntry | None = Field(None, description="When the task was submitted.")


class StatementFile(FileModel):
    """One kind of statement: `statements/<name>.yaml`."""

    statement: Name
    about: Text = Field(description="A description of the statement, in one sentence.")
    providers: list[Name] = Field(
        [], description="The providers of such statements; for any other, name the mapping."
    )
    sources: Annotated[list[SourceEntry], Field(min_length=1)]
    delimiter: Annotated[str, Field(pattern=r"^[,;|\t]$")] = Field(
        ",", description="The delimiter between columns, in CSV."
    )
    sheet: Text | None = Field(None, description="The sheet of a workbook; by default the first.")
    columns: ColumnsEntry | None = None
    answers: AnswersEntry | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> StatementFile:
        if (self.columns is None) == (self.answers is None):
            raise ValueError("give either columns or answers")
        return self

    @property
    def needed(self) -> tuple[str, ...]:
        """The columns that every statement of this kind has."""
        if self.columns is None:
            return ()
        named = [self.columns.task_id.column, self.columns.amount.column, self.columns.amount.unit_column]
        return tuple(
            dict.fromkeys(
                [*filter(None, named), *(entry.column for entry in self._others() if not entry.optional)]
            )
        )

    @property
    def read(self) -> tuple[str, ...]:
        """Every column that is read if the statement has it."""
        return tuple(dict.fromkeys([*self.needed, *(entry.column for entry in self._others())]))

    def _others(self) -> Iterator[ColumnEntry]:
        columns = self.columns
        if columns is not None:
            named = (columns.billed_at, columns.submitted_at, columns.model, columns.resolution)
            yield from filter(None, (*named, columns.duration_s, columns.state, *columns.facts))
        elif self.answers is not None and self.answers.submitted_at is not None:
            yield self.answers.submitted_at


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
    for path, (name, file) in table_files(directory or own_folder()).items():
        if path[0] == "statements":
            mapping = _checked(file_bytes(file, name), name, book)
            if mapping.statement != file.name.removesuffix(".yaml"):
                problem = (
                    f"statement is {mapping.statement!r}, but the file has another name; make the two the same"
                )
                raise TableError(problem, file=name)
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
    known: Mapping[str, StatementFile],
    provider: str,
    header: Iterable[str],
    *,
    file: str,
    is_answer: Callable[[str], bool],
) -> StatementFile:
    """Returns the provider's mapping that fits the columns of a statement.

    If several fit, it is the mapping that needs the most columns.

    Args:
        known: all mappings.
        provider: the provider that bills.
        header: the columns of the statement.
        file: the name of the statement, for messages.
        is_answer: wire format -> whether the first row is an answer in that format.

    Raises:
        StatementError: none fits, or several fit equally well.
    """
    present = set(header)
    candidates = [mapping for mapping in known.values() if provider in mapping.providers]
    fitting = [
        mapping for mapping in candidates if mapping.columns is not None and present.issuperset(mapping.needed)
    ]
    most = max((len(mapping.needed) for mapping in fitting), default=0)
    best = [mapping for mapping in fitting if len(mapping.needed) == most]
    best += [
        mapping
        for mapping in candidates
        if mapping.answers is not None and is_answer(mapping.answers.wire_format)
    ]
    if len(best) == 1:
        return best[0]
    if best:
        choices = "; ".join(f"{mapping.statement}: {mapping.about}" for mapping in best)
        raise StatementError(f"fits several mappings; name one with --mapping ({choices})", file=file)
    columns = ", ".join(sorted(present)) or "none"
    names = ", ".join(sorted(known))
    raise StatementError(
        f"no mapping of {provider} fits its columns ({columns}); name one with --mapping: {names}, or your own "
        "YAML file",
        file=file,
    )


def offset_of(entry: TimeEntry) -> timedelta:
    """Returns how far ahead of UTC an entry's times are if they have no offset of their own."""
    sign = -1 if entry.offset[0] == "-" else 1
    return sign * timedelta(hours=int(entry.offset[1:3]), minutes=int(entry.offset[4:]))


def _checked(data: bytes, name: str, book: PriceBook) -> StatementFile:
    mapping, document = read(data, StatementFile, name=name)
    if mapping.answers is not None and mapping.answers.wire_format not in WIRE_FORMATS:
        problem = f"unknown wire format; known: {', '.join(WIRE_FORMATS)}"
        raise document.error(("answers", "wire_format"), problem)
    if mapping.columns is not None and mapping.columns.model is not None:
        _check_models(mapping.columns.model, document, book)
    return mapping


def _check_models(entry: ModelColumnEntry, document: YamlDocument, book: PriceBook) -> None:
    for place, wire_format in enumerate(entry.names_of):
        if wire_format not in book.matrices:
            problem = f"unknown wire format {wire_format!r}; known: {', '.join(sorted(book.matrices))}"
            raise document.error(("columns", "model", "names_of", place), problem)
    models = {model for matrix in book.matrices.values() for model in matrix.models}
    models |= {model for tables in book.tables.values() for table in tables for model in table.models}
    for written, facts in entry.names.items():
        if facts.get("model") not in {None, *models}:
            problem = f"{facts['model']!r} is not a known model; {did_you_mean(facts['model'], sorted(models))}"
            raise document.error(("columns", "model", "names", written), problem)
