"""What the columns of a provider's statement mean: `statements/<name>.yaml`.

Which column holds the amount, in which unit and with how many digits, is data like prices are: bundled for the
statements that are known, and a file of the user's own for any other (`--mapping FILE`).
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
    raise ValueError("must be a currency's three capital letters, or the provider's own unit in small letters")


def _offset(value: Any) -> str:
    if isinstance(value, str) and _OFFSET.fullmatch(value):
        return value
    raise ValueError('must be hours and minutes from UTC, such as "+08:00"')


def _time_format(value: str) -> str:
    if value in {ISO, UNIX}:
        return value
    missing = [part for part in _PATTERN_NEEDS if part not in value]
    if missing or "%z" in value or "%Z" in value:
        raise ValueError(
            "must be iso, unix, or a pattern such as %d/%m/%Y %H:%M with a day, a month, a four-digit year and "
            "no zone (give that as offset)"
        )
    moment = datetime(2026, 11, 21)  # noqa: DTZ001 (only to try the pattern)
    try:
        datetime.strptime(moment.strftime(value), value)  # noqa: DTZ007
    except (ValueError, re.error):
        raise ValueError(f"{value!r} is no pattern of a time that can be read back") from None
    return value


def _distinct(names: Mapping[str, Any]) -> Mapping[str, Any]:
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(folded(name), name)
        if other != name:
            raise ValueError(f"{other!r} and {name!r} differ in capitals only, which do not count; keep one")
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
    optional: bool = Field(default=False, description="Whether a statement may be without it.")


class TaskEntry(FileModel):
    """The column with the provider's name for the task, as its API gave it."""

    column: Text


class AmountEntry(FileModel):
    """The column with what was charged."""

    column: Text
    unit: Unit | None = Field(None, description="What it counts in: a currency, or the provider's unit.")
    unit_column: Text | None = Field(None, description="The column that says so, row by row.")
    decimals: Annotated[int, Field(ge=0, le=MAX_DECIMALS)] = Field(
        description="Digits behind the point that the unit has at most; an amount with more is refused."
    )
    charges: Literal["positive", "negative"] = Field(
        "positive", description="The sign of a charge; a refund has the other."
    )

    @model_validator(mode="after")
    def _one_unit(self) -> AmountEntry:
        if (self.unit is None) == (self.unit_column is None):
            raise ValueError("give either unit or unit_column")
        return self


class TimeEntry(ColumnEntry):
    """A column with an instant."""

    format: Annotated[Text, AfterValidator(_time_format)] = Field(
        ISO, description="iso; unix (seconds, or thousandths of them); or a pattern such as %d/%m/%Y %H:%M."
    )
    offset: Offset = Field("+00:00", description="From UTC, of a time that does not say its own.")


class ModelColumnEntry(ColumnEntry):
    """The column with the model."""

    names_of: list[Name] = Field([], description="APIs whose names it uses: files of capabilities/.")
    names: Annotated[dict[Text, FactValues], AfterValidator(_distinct)] = Field(
        {}, description="Name as written -> what it says: {model: ..., resolution: ..., audio: ...}."
    )


class ResolutionEntry(ColumnEntry):
    """The column with the resolution; 720P is 720p."""

    names: Annotated[dict[Text, Name], AfterValidator(_distinct)] = Field(
        {}, description="As written -> as price tables write it, where the two differ."
    )


class StateEntry(ColumnEntry):
    """The column with what became of the task."""

    names: Annotated[dict[Text, State], AfterValidator(_distinct), Field(min_length=1)]


class FactEntry(ColumnEntry):
    """A column that tells facts which a price depends on, such as whether there is sound."""

    means: Annotated[dict[Text, FactValues], AfterValidator(_distinct), Field(min_length=1)]


class ColumnsEntry(FileModel):
    """What each column means; a column that is not named here is not read."""

    task_id: TaskEntry
    amount: AmountEntry
    billed_at: TimeEntry | None = Field(None, description="When it was charged.")
    submitted_at: TimeEntry | None = Field(None, description="When the task was made.")
    model: ModelColumnEntry | None = None
    resolution: ResolutionEntry | None = None
    duration_s: ColumnEntry | None = None
    state: StateEntry | None = None
    facts: list[FactEntry] = []


class AnswersEntry(FileModel):
    """Answers of an API about its tasks, one a row: their fields are known, so no columns are named."""

    wire_format: Name
    decimals: Annotated[int, Field(ge=0, le=MAX_DECIMALS)] = Field(
        MAX_DECIMALS, description="Digits behind the point that the stated charge has at most."
    )
    submitted_at: TimeEntry | None = Field(None, description="When the task was made.")


class StatementFile(FileModel):
    """One kind of statement: `statements/<name>.yaml`."""

    statement: Name
    about: Text = Field(description="What it is, in a sentence.")
    providers: list[Name] = Field([], description="Whose statements these are; else it has to be named.")
    sources: Annotated[list[SourceEntry], Field(min_length=1)]
    delimiter: Annotated[str, Field(pattern=r"^[,;|\t]$")] = Field(",", description="Between columns, in CSV.")
    sheet: Text | None = Field(None, description="Of a workbook; by default its first.")
    columns: ColumnsEntry | None = None
    answers: AnswersEntry | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> StatementFile:
        if (self.columns is None) == (self.answers is None):
            raise ValueError("give either columns or answers")
        return self

    @property
    def needed(self) -> tuple[str, ...]:
        """The columns without which it cannot be a statement of this kind."""
        if self.columns is None:
            return ()
        named = [self.columns.task_id.column, self.columns.amount.column, self.columns.amount.unit_column]
        return tuple(
            dict.fromkeys(
                [*filter(None, named), *(each.column for each in self._others() if not each.optional)]
            )
        )

    @property
    def read(self) -> tuple[str, ...]:
        """Every column that is read, if it is there."""
        return tuple(dict.fromkeys([*self.needed, *(each.column for each in self._others())]))

    def _others(self) -> Iterator[ColumnEntry]:
        columns = self.columns
        if columns is not None:
            named = (columns.billed_at, columns.submitted_at, columns.model, columns.resolution)
            yield from filter(None, (*named, columns.duration_s, columns.state, *columns.facts))
        elif self.answers is not None and self.answers.submitted_at is not None:
            yield self.answers.submitted_at


def statement_file_schema() -> dict[str, Any]:
    """The JSON Schema of `statements/<name>.yaml`."""
    return StatementFile.model_json_schema()


def load_mappings(
    book: PriceBook, directory: str | os.PathLike[str] | None = None
) -> Mapping[str, StatementFile]:
    """The bundled mappings and, over them, those in a folder of the user's, by name.

    Args:
        book: knows the wire formats and the models.
        directory: the folder; by default the one that `KLING_PRICING_TABLES` names.

    Raises:
        TableError: a file is refused.
    """
    found = {}
    for path, (name, file) in table_files(directory or own_folder()).items():
        if path[0] == "statements":
            mapping = _checked(file_bytes(file, name), name, book)
            if mapping.statement != file.name.removesuffix(".yaml"):
                problem = (
                    f"statement is {mapping.statement!r}, the file's name says another; make them the same"
                )
                raise TableError(problem, file=name)
            found[mapping.statement] = mapping
    return found


def read_mapping(named: str | os.PathLike[str], book: PriceBook) -> StatementFile:
    """A mapping by its name, or from a file of the user's.

    Raises:
        TableError: the file is refused.
        StatementError: there is neither a mapping of that name nor such a file.
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
            f"no mapping {str(named)!r}; {did_you_mean(str(named), sorted(known))} (or give a YAML file)"
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
    """The mapping of a statement that nobody named: the one of the provider whose columns the statement has.

    Of several, the one that needs the most of them.

    Args:
        known: the mappings there are.
        provider: who bills.
        header: the statement's columns.
        file: its name, for messages.
        is_answer: wire format -> whether the first row is an answer in it.

    Raises:
        StatementError: none fits, or several do as well as one another.
    """
    there = set(header)
    own = [each for each in known.values() if provider in each.providers]
    fitting = [each for each in own if each.columns is not None and there.issuperset(each.needed)]
    most = max((len(each.needed) for each in fitting), default=0)
    best = [each for each in fitting if len(each.needed) == most]
    best += [each for each in own if each.answers is not None and is_answer(each.answers.wire_format)]
    if len(best) == 1:
        return best[0]
    if best:
        ways = "; ".join(f"{each.statement}: {each.about}" for each in best)
        raise StatementError(f"can be read in several ways, so name one with --mapping ({ways})", file=file)
    has = ", ".join(sorted(there)) or "none"
    names = ", ".join(sorted(known))
    raise StatementError(
        f"no mapping of {provider} knows its columns ({has}); name one with --mapping: {names}, or a YAML file "
        "of your own",
        file=file,
    )


def offset_of(entry: TimeEntry) -> timedelta:
    """How far ahead of UTC an entry's times are that do not say so themselves."""
    sign = -1 if entry.offset[0] == "-" else 1
    return sign * timedelta(hours=int(entry.offset[1:3]), minutes=int(entry.offset[4:]))


def _checked(data: bytes, name: str, book: PriceBook) -> StatementFile:
    mapping, document = read(data, StatementFile, name=name)
    if mapping.answers is not None and mapping.answers.wire_format not in WIRE_FORMATS:
        problem = f"no wire format of that name is known; known: {', '.join(WIRE_FORMATS)}"
        raise document.error(("answers", "wire_format"), problem)
    if mapping.columns is not None and mapping.columns.model is not None:
        _check_models(mapping.columns.model, document, book)
    return mapping


def _check_models(entry: ModelColumnEntry, document: YamlDocument, book: PriceBook) -> None:
    for place, spoken in enumerate(entry.names_of):
        if spoken not in book.matrices:
            problem = f"no capabilities/{spoken}.yaml; there are: {', '.join(sorted(book.matrices))}"
            raise document.error(("columns", "model", "names_of", place), problem)
    models = {model for matrix in book.matrices.values() for model in matrix.models}
    models |= {model for tables in book.tables.values() for table in tables for model in table.models}
    for written, facts in entry.names.items():
        if facts.get("model") not in {None, *models}:
            problem = f"{facts['model']!r} is no model; {did_you_mean(facts['model'], sorted(models))}"
            raise document.error(("columns", "model", "names", written), problem)
