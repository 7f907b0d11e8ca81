"""Runs a command over many requests: reads shot lists, adds up the results, and writes them to files."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol

from kling_pricing.cli.inputs import Item, UnreadableInputError, items, opened
from kling_pricing.cli.summary_text import groups_text, refusals_text
from kling_pricing.errors import KlingPricingError
from kling_pricing.quoting.engine import quote_payload
from kling_pricing.quoting.intake import Intake
from kling_pricing.quoting.quote import Quote
from kling_pricing.shot_lists.errors import ShotListError
from kling_pricing.shot_lists.list_columns import folded_name
from kling_pricing.shot_lists.list_paths import expanded, is_shot_list, refuse_overwriting
from kling_pricing.shot_lists.list_writers import ListWriter, ResultCell, ResultColumn, list_writer
from kling_pricing.shot_lists.shots import ListReading, Shot, opened_list
from kling_pricing.shot_lists.summaries import GROUPS, ListSummary
from kling_pricing.strict_json import as_object, json_value

_NOTHING: Mapping[str, str] = {}

READING_OPTIONS = ("values", "maps", "sheet", "encoding")
"""The parameters of `reading_options`."""

LIST_OPTIONS = (*READING_OPTIONS, "out", "refusals")
"""The parameters of `list_options`."""


class ResultForm(Protocol):
    """The columns of the results of a command."""

    prefix: str
    columns: Sequence[ResultColumn]

    def cells(self, outcome: Any) -> Sequence[ResultCell]:
        """Returns the cells of a result, in the order of the columns."""


class ListRun:
    """The requests of a command, and what becomes of their results.

    Args:
        files: the files, folders and patterns that the user gives.
        intake: the options for reading payloads.
        form: the columns of the results.
        options: the options of `list_options` and `group_option`.
        may_be_empty: whether a shot list may have no rows.

    Attributes:
        paths: the files, and the errors of paths that mean no file.
        has_lists: whether results are grouped: some requests are in shot lists, or groups are given.
        is_written: whether the results go to a file.
        is_refusal_written: whether the refused requests go to a file.
        summary: the sums of the results.
    """

    def __init__(
        self,
        files: Sequence[str],
        intake: Callable[[], Intake],
        form: ResultForm,
        options: Mapping[str, Any],
        *,
        may_be_empty: bool = False,
    ) -> None:
        self.paths = [*expanded(files)]
        self._intake = intake
        self._form = form
        self._may_be_empty = may_be_empty
        self._groups: tuple[str, ...] = options.get("groups", ())
        self._reading_options = {name: options[name] for name in READING_OPTIONS}
        self._out: str | None = options.get("out")
        self._refusals: str | None = options.get("refusals")
        self._writers: dict[str, ListWriter] = {}
        self._header: list[str] = []
        self._has_requests = False
        self._headers: dict[str, Sequence[str]] = {}
        self._places: dict[str, list[int | None] | None] = {}
        self._group_places: dict[str, list[int | None]] = {}
        self._intakes: dict[tuple[tuple[str, str], ...], Intake] = {}
        self.summary = ListSummary([folded_group(name) for name in self._groups])
        self._known_reading: ListReading | None = None
        lists = [path for path in self.paths if isinstance(path, str) and is_shot_list(path)]
        self.has_lists = bool(self._groups or lists)
        self.is_written = self._out is not None
        self.is_refusal_written = self.is_written or self._refusals is not None

    @property
    def reading(self) -> ListReading:
        """How the lists are read."""
        if self._known_reading is None:
            self._known_reading = ListReading(self._intake(), **self._reading_options)
        return self._known_reading

    def intake(self, shot: Shot | None) -> Intake:
        """Returns the intake for a request; all rows of all lists have the prices of the same instant."""
        if shot is None:
            return self._intake()
        key = tuple(shot.options.items())
        intake = self._intakes.get(key)
        if intake is None:
            intake = self.reading.intake
            intake = intake.with_options(**shot.options) if shot.options else intake
            self._intakes[key] = intake
        return intake

    def payload(self, item: Item, payload: Mapping[str, Any]) -> Mapping[str, Any]:
        """Returns the payload of a request with the values that the user sets for all requests."""
        if item.row is not None or not self._reading_options.get("values"):
            return payload
        return self.reading.changed(payload)

    def about(self, item: Item) -> Mapping[str, str]:
        """Returns what a request's row, or the user, says about the job, such as its project."""
        if item.row is not None:
            return item.row.shot.about
        return self.reading.about if self._reading_options.get("values") else {}

    def quoted(self, item: Item, payload: Mapping[str, Any]) -> Quote:
        """Returns the quote for a request, and raises as `quote` does. Equal rows of a list are quoted once."""
        if item.row is None:
            return quote_payload(payload, self.intake(None))
        shot = item.row.shot
        if shot.outcome is None:
            try:
                shot.outcome = shot.alike.quote or quote_payload(payload, self.intake(shot))
                shot.alike.quote = shot.outcome
            except KlingPricingError as error:
                shot.outcome = error
        if isinstance(shot.outcome, KlingPricingError):
            raise shot.outcome.with_traceback(None)
        quoted: Quote = shot.outcome
        return quoted

    def priced(self) -> Iterator[tuple[Item, Mapping[str, Any], Quote | KlingPricingError]]:
        """Yields every request with its payload, and its quote or the reason why it is refused.

        Raises:
            KlingPricingError: a request cannot be read.
        """
        for item in filter(None, self.items()):
            if isinstance(item.request, KlingPricingError):
                raise item.request
            try:
                read = json_value(item.request) if isinstance(item.request, bytes) else item.request
                payload = self.payload(item, as_object(read))
            except KlingPricingError as error:
                raise UnreadableInputError(f"{item.place}: {error}") from None
            try:
                yield item, payload, self.quoted(item, payload)
            except KlingPricingError as error:
                yield item, payload, error

    def header(self, path: str) -> Sequence[str]:
        """Returns the names of the columns of a shot list whose rows were read."""
        return self._headers[path]

    def items(self) -> Iterator[Item | None]:
        """Yields the requests from all files, and None whenever the next request may be slow to arrive.

        A file that cannot be read becomes an item that carries the error. The remaining files are still read.
        """
        for path in self.paths:
            if not isinstance(path, str):
                yield None  # so that earlier results are printed first
                yield Item(path.file, None, path, alone=True)
                continue
            try:
                if is_shot_list(path):
                    yield from self._rows(path)
                else:
                    with opened(path) as source:
                        yield from items(source)
            except (UnreadableInputError, ShotListError) as error:
                yield None
                yield Item(path, None, error, alone=True)

    def _rows(self, path: str) -> Iterator[Item | None]:
        yield None
        with opened_list(path, self.reading) as shot_list:
            self._headers[path] = shot_list.header
            groups = {folded_name(name): place for place, name in enumerate(shot_list.header)}
            self._refuse_unknown_groups(path, groups)
            places = [groups.get(folded_name(name)) for name in self._header]
            self._places[path] = None if places == [*range(len(shot_list.header))] else places
            self._group_places[path] = [groups.get(folded_name(name)) for name in self._groups]
            row = None
            for row in shot_list.rows:
                error = row.shot.error
                yield Item(path, row.number, row.shot.payload if error is None else error, row=row)
            if row is None and not self._may_be_empty:
                raise ShotListError("has no rows below its header; add a row for each request", file=path)

    def _refuse_unknown_groups(self, path: str, columns: Mapping[str, int]) -> None:
        for name in self._groups:
            if folded_group(name) not in {*GROUPS, "project"} and folded_name(name) not in columns:
                raise ShotListError(
                    f"has no column {name!r} to group by; use a column of the list, or one of: "
                    f"{', '.join((*GROUPS, 'project'))}",
                    file=path,
                )

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Opens the files for the results; they appear if the block ends without an error.

        Raises:
            ShotListError: a file cannot be written, would overwrite an input, or a group is unknown.
        """
        inputs = [path for path in self.paths if isinstance(path, str)]
        if not any(map(is_shot_list, inputs)):
            self._refuse_unknown_groups("; ".join(inputs) or "--group-by", {})
        for output, option in ((self._out, "--out"), (self._refusals, "--refusals")):
            refuse_overwriting(output, inputs, option)
        if self._refusals is not None and self._refusals == self._out:
            raise ShotListError("is given twice; give --refusals another name", file=self._refusals)
        with ExitStack() as stack:
            if self.is_refusal_written:
                columns = self._columns(inputs)
                for output in filter(None, (self._out, self._refusals)):
                    self._writers[output] = stack.enter_context(list_writer(output, columns))
            yield

    def _columns(self, inputs: Sequence[str]) -> list[ResultColumn]:
        """Returns the columns of the result files: those of every list, and those of the results."""
        known: dict[str, str] = {}
        for path in filter(is_shot_list, inputs):
            try:
                with opened_list(path, self.reading) as shot_list:
                    for name in shot_list.header:
                        if not name.lower().startswith(self._form.prefix):
                            known.setdefault(folded_name(name), name)
            except ShotListError:
                continue  # reported when its turn comes
        self._header = [*known.values()]
        self._has_requests = not all(map(is_shot_list, inputs))
        place = [ResultColumn(f"{self._form.prefix}{name}") for name in ("file", "row")]
        request = [ResultColumn(f"{self._form.prefix}request")] if self._has_requests else []
        return [*place, *request, *map(ResultColumn, self._header), *self._form.columns]

    def done(self, item: Item, outcome: Any, quote: Quote | None) -> None:
        """Records a result; a quote is added to the sums."""
        if quote is not None and self.has_lists:
            self.summary.add(quote, self._group_values(item))
        if self._out is not None:
            self._write(self._out, item, outcome)

    def refused(self, item: Item, error: KlingPricingError) -> None:
        """Records a refusal."""
        if self.has_lists:
            self.summary.refuse(error, item.place)
        self.unreadable(item, error)

    def unreadable(self, item: Item, error: KlingPricingError) -> None:
        """Records a request that cannot be read.

        Raises:
            KlingPricingError: a whole file cannot be read, so that a file with results would lack its requests.
        """
        if self.is_refusal_written and isinstance(item.request, KlingPricingError) and item.row is None:
            raise error
        output = self._refusals or self._out
        if output is not None:
            self._write(output, item, error)

    def _group_values(self, item: Item) -> Mapping[str, str]:
        about = self.about(item)
        if not self._groups:
            project = about.get("project")
            return {"project": project} if project else _NOTHING
        if item.row is None:
            return {name: about[name] for name in self.summary.group_names if name in about}
        cells, places = item.row.cells, self._group_places[item.source]
        values = {
            folded_group(name): cells[place].strip()
            for name, place in zip(self._groups, places, strict=True)
            if place is not None
        }
        return values | {name: about[name] for name in self.summary.group_names if name in about}

    def _write(self, output: str, item: Item, outcome: Any) -> None:
        number = "" if item.number is None else str(item.number)
        cells = () if item.row is None else item.row.cells
        places = None if item.row is None else self._places[item.source]
        if not cells:
            cells = [""] * len(self._header)
        elif places is not None:
            cells = [cells[place] if place is not None else "" for place in places]
        request = [_request_text(item)] if self._has_requests else ()
        self._writers[output].write([item.source, number, *request, *cells], self._form.cells(outcome))


def _request_text(item: Item) -> str:
    """Returns a request that is not a row as JSON text; empty: it is a row, or cannot be read."""
    request = item.request
    if item.row is not None or isinstance(request, KlingPricingError):
        return ""
    if isinstance(request, bytes):
        return request.decode(errors="replace")
    return request if isinstance(request, str) else json.dumps(request, ensure_ascii=False)


def folded_group(name: str) -> str:
    """Returns the name by which a group is known: a property of quotes, or the folded name of a column."""
    known = {folded_name(group): group for group in (*GROUPS, "project")}
    return known.get(folded_name(name), folded_name(name))


def summary_lines(run: ListRun) -> list[str]:
    """Returns the sums of a run by group and its refusals by reason, as text; empty if it has no lists."""
    return [*groups_text(run.summary), *refusals_text(run.summary)] if run.has_lists else []
