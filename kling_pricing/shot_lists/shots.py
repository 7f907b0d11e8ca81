"""Turns the rows of a shot list into payloads. Equal rows share one `Shot`, so each is read and priced once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from kling_pricing.errors import KlingPricingError
from kling_pricing.quoting.format_choice import choose_format, format_at
from kling_pricing.quoting.intake import Intake
from kling_pricing.quoting.quote import Quote
from kling_pricing.shot_lists.cell_values import CellReader, cell_reader
from kling_pricing.shot_lists.errors import ShotListError
from kling_pricing.shot_lists.list_columns import LABEL, FieldPath, ListColumn, given_columns, read_header
from kling_pricing.shot_lists.table_files import TextTable, opened_table
from kling_pricing.shot_lists.written_values import name_alike
from kling_pricing.tables.price_book import PriceBook
from kling_pricing.wire.facts import prompt_form
from kling_pricing.wire.formats import NAMES as WIRE_FORMATS

MAX_SHOTS = 2048
"""Maximum number of distinct rows that are kept to recognize equal ones."""

MAX_ALIKE = 8192
"""Maximum number of quotes that are kept for rows with other prompts; prompts have many lengths."""

_OPTIONS = ("provider", "wire_format", "url")
_NOTHING: Mapping[str, str] = {}


@dataclass(slots=True, eq=False)
class Alike:
    """What rows share that have the same price for the same reasons.

    They differ only in what they say about their jobs, and in prompts of the same `prompt_form`.

    Attributes:
        payload: the payload of the first of them.
        options: `provider`, `wire_format` and `url`, as far as the rows say them.
        quote: their quote, kept by a command; None: there is none yet.
    """

    payload: Mapping[str, Any]
    options: Mapping[str, str]
    quote: Quote | None = None


@dataclass(slots=True, eq=False)
class Shot:
    """The content of a row, without its place.

    Attributes:
        payload: the payload; empty if there is an error.
        about: what the row says about the job: `project`, `key`, a label such as `label.user`.
        options: `provider`, `wire_format` and `url`, as far as the row says them.
        alike: what it shares with rows that have the same price for the same reasons.
        error: the reason why the row cannot be read; None if it can.
        outcome: the result of a command for this content, kept by the command; None: there is none yet.
    """

    payload: Mapping[str, Any]
    about: Mapping[str, str]
    options: Mapping[str, str]
    alike: Alike
    error: KlingPricingError | None = None
    outcome: Any = None

    @property
    def labels(self) -> dict[str, str]:
        """Label -> value."""
        return {name.removeprefix(LABEL): value for name, value in self.about.items() if name.startswith(LABEL)}


class ShotRow(NamedTuple):
    """A row of a shot list.

    Attributes:
        number: the number of the row in the file, from 1, with the header counted.
        cells: the text of all of its cells, in the order of the header.
        shot: its content.
    """

    number: int
    cells: Sequence[str]
    shot: Shot


@dataclass(frozen=True)
class ListReading:
    """How shot lists are read.

    Attributes:
        intake: the options for reading payloads; a row may override its provider, wire format and URL.
        values: name of a field -> the text that counts in every row; an empty one removes the field.
        maps: name of a column -> the name that counts instead; an empty one: the column is ignored.
        sheet: the sheet of workbooks; None: the first one.
        encoding: the encoding of text files without a byte order mark; None: UTF-8.
    """

    intake: Intake
    values: Mapping[str, str] = field(default_factory=dict)
    maps: Mapping[str, str] = field(default_factory=dict)
    sheet: str | None = None
    encoding: str | None = None

    def changed(self, payload: Mapping[str, Any]) -> Mapping[str, Any]:
        """Returns a payload that comes from JSON, with the fields of `values`.

        Raises:
            KlingPricingError: a value is JSON that cannot be read.
        """
        if not self.values:
            return payload
        given = [
            (column.field, self.values[column.name].strip())
            for column in given_columns(self.values)
            if column.field is not None
        ]
        amended = dict(payload)
        for known, text in given:
            _place(amended, known.path, text or None)
        wire_format = _wire_format(amended, self.intake, {})
        for known, text in given:
            if text:
                _place(
                    amended,
                    known.path,
                    _reader(known, wire_format, self.intake.book, decimal_comma=False)(text),
                )
        return amended

    @property
    def about(self) -> dict[str, str]:
        """What `values` say about every job: `project`, `key` or a label."""
        columns = given_columns(self.values)
        return {column.about: self.values[column.name] for column in columns if column.field is None}


class ShotList(NamedTuple):
    """An opened shot list.

    Attributes:
        name: the file, as the user names it.
        header: the names of the columns.
        rows: the rows, which are read while they are iterated.
    """

    name: str
    header: Sequence[str]
    rows: Iterator[ShotRow]


@contextmanager
def opened_list(path: str, reading: ListReading) -> Iterator[ShotList]:
    """Opens a shot list.

    Raises:
        ShotListError: the file cannot be read; also raised while its rows are iterated.
    """
    with opened_table(Path(path), reading.sheet, reading.encoding) as table:
        columns = read_header(table.header, reading.maps, path, allow_unknown=reading.intake.allow_unknown)
        yield ShotList(path, table.header, _rows(path, table, columns, reading))


def _rows(
    path: str, table: TextTable, columns: Sequence[ListColumn], reading: ListReading
) -> Iterator[ShotRow]:
    """Yields the rows; equal rows that are not too far apart share their content."""
    read = _row_reader(path, table, columns, reading)
    places = [column.place for column in columns]
    is_whole = places == [*range(len(table.header))]
    shots: dict[tuple[str, ...], Shot] = {}
    for number, cells in table.rows:
        try:
            key = tuple(cells) if is_whole and len(cells) else tuple([cells[place] for place in places])
        except ShotListError as error:
            yield ShotRow(number, (), Shot({}, {}, {}, Alike({}, {}), error))
            continue
        shot = shots.get(key)
        if shot is None:
            if len(shots) >= MAX_SHOTS:
                shots.clear()
            shot = shots[key] = read(key, number)
        if shot.error is not None:
            shot = read(key, number)  # the error names the row
        yield ShotRow(number, cells, shot)


def _row_reader(
    path_of_list: str, table: TextTable, columns: Sequence[ListColumn], reading: ListReading
) -> Callable[[Sequence[str], int], Shot]:
    """Returns the function that reads the cells of `columns` in a row with a number."""
    given = given_columns(reading.values)
    replaced = {_target(column) for column in given}
    kept = [(place, column) for place, column in enumerate(columns) if _target(column) not in replaced]
    texts = tuple([reading.values[column.name] for column in given])
    sources = [*kept, *((len(columns) + place, column) for place, column in enumerate(given))]
    deciding = [
        place
        for place, column in sources
        if column.about in _OPTIONS or (column.field is not None and column.field.path == ("model",))
    ]
    prompts = [place for place, column in sources if column.field is not None and _is_prompt(column.field)]
    about_job = [
        (column.about, place)
        for place, column in sources
        if column.field is None and column.about not in _OPTIONS
    ]
    plans: dict[tuple[Any, ...], _Plan] = {}
    known: dict[tuple[Any, ...], Alike] = {}

    def read(cells: Sequence[str], number: int) -> Shot:
        cells = (*cells, *texts)
        about: dict[str, str] = {}
        form: list[Any] = [*cells]
        for name, place in about_job:
            form[place] = ""
            if text := cells[place].strip():
                about[name] = text
        for place in prompts:
            text = cells[place]
            form[place] = prompt_form(text) if text and not text.isspace() else ""
        key = tuple(form)
        alike = known.get(key)
        if alike is None:
            column = ""
            try:
                plan = plan_for(cells)
                payload: dict[str, Any] = {}
                for place, name, path, read_cell in plan.fields:
                    column = name
                    _place(payload, path, read_cell(cells[place]))
            except KlingPricingError as error:
                problem = ShotListError(str(error), file=path_of_list, row=number, column=column)
                return Shot({}, about, _NOTHING, Alike({}, _NOTHING), problem)
            if len(known) >= MAX_ALIKE:
                known.clear()
            alike = known[key] = Alike(payload, plan.options)
            return Shot(payload, about, plan.options, alike)
        shared = alike.payload
        for place in prompts:
            if "prompt" in shared:
                shared = {**shared, "prompt": cells[place]}
        return Shot(shared, about, alike.options, alike)

    def plan_for(cells: Sequence[str]) -> _Plan:
        stated = tuple([not text or text.isspace() for text in cells])
        key = (stated, *[cells[place] for place in deciding])
        plan = plans.get(key)
        if plan is None:
            if len(plans) >= MAX_SHOTS:
                plans.clear()
            filled = [(place, entry) for place, entry in sources if not stated[place]]
            plan = plans[key] = _plan(filled, cells, reading.intake, decimal_comma=table.decimal_comma)
        return plan

    return read


def _is_prompt(known: FieldPath) -> bool:
    """Returns whether a field is the prompt in each wire format that has it."""
    entries = known.fields.values()
    return known.path == ("prompt",) and all(entry.kind is str and entry.name == "prompt" for entry in entries)


class _Plan(NamedTuple):
    """How rows are read in which the same columns are filled.

    Attributes:
        fields: the place, the name, the path and the reader of each field.
        options: the provider, wire format and URL of the rows.
    """

    fields: Sequence[tuple[int, str, Sequence[str], CellReader]]
    options: Mapping[str, str]


def _plan(
    filled: Sequence[tuple[int, ListColumn]], cells: Sequence[str], intake: Intake, *, decimal_comma: bool
) -> _Plan:
    book = intake.book
    names = {"provider": (*book.tables, *book.unpriced), "wire_format": WIRE_FORMATS}
    options = {
        column.about: name_alike(cells[place], names.get(column.about, ()))
        for place, column in filled
        if column.about in _OPTIONS
    }
    fields = [(place, column.name, column.field) for place, column in filled if column.field is not None]
    skeleton: dict[str, Any] = {known.path[0]: True for _, _, known in fields}
    for place, _, known in fields:
        if known.path == ("model",):
            skeleton["model"] = name_alike(cells[place], model_names(book))
    wire_format = _wire_format(skeleton, intake, options)
    return _Plan(
        [
            (place, name, known.path, _reader(known, wire_format, book, decimal_comma=decimal_comma))
            for place, name, known in fields
        ],
        options,
    )


def model_names(book: PriceBook) -> tuple[str, ...]:
    """Returns the name of every model in every wire format."""
    return tuple([name for matrix in book.matrices.values() for name in matrix.names])


def _target(column: ListColumn) -> tuple[str, ...]:
    return column.field.path if column.field is not None else ("", column.about)


def _wire_format(skeleton: Mapping[str, Any], intake: Intake, options: Mapping[str, str]) -> str | None:
    """Returns the wire format that `Intake.read` will choose; None: it will refuse the payload.

    Args:
        skeleton: the payload; only the names of its fields and its model matter.
        intake: the options for all rows.
        options: the options of the row.

    Raises:
        KlingPricingError: the row names an unknown wire format.
    """
    name = options.get("wire_format") or intake.wire_format
    if name is not None:
        if name not in WIRE_FORMATS:
            raise KlingPricingError(f"unknown wire format {name!r}; use one of: {', '.join(WIRE_FORMATS)}")
        return name
    book, provider = intake.book, options.get("provider") or intake.provider
    url = options.get("url") or intake.url
    try:
        if url is not None:
            return format_at(book.endpoint(url), skeleton, book, provider)[0]
        return choose_format(skeleton, book, provider)[0]
    except KlingPricingError:
        return None


def _reader(known: FieldPath, wire_format: str | None, book: PriceBook, *, decimal_comma: bool) -> CellReader:
    fields = known.fields
    entry = fields.get(wire_format or "") or next(iter(fields.values()))
    if entry.name == "model":
        return partial(name_alike, names=model_names(book))
    return cell_reader(entry, decimal_comma=decimal_comma)


def _place(payload: dict[str, Any], path: Sequence[str], value: Any) -> None:
    """Sets the value at a path; None removes it."""
    node = payload
    for name in path[:-1]:
        inner = node.get(name)
        node[name] = dict(inner) if isinstance(inner, Mapping) else {}
        node = node[name]
    if value is None:
        node.pop(path[-1], None)
    else:
        node[path[-1]] = value
