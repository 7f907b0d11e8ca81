"""Finds the meaning of the columns of a shot list: fields of payloads, and facts about jobs.

Names are compared without regard to case, spaces, hyphens and underscores: `Aspect Ratio` is `aspect_ratio`.
A field inside an object is named by its path: `extra.mode`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import NamedTuple

from kling_pricing.display import did_you_mean, nearest, shown
from kling_pricing.errors import KlingPricingError
from kling_pricing.shot_lists.errors import ShotListError
from kling_pricing.wire.fields import Field
from kling_pricing.wire.formats import NAMES as WIRE_FORMATS
from kling_pricing.wire.formats import wire_format

JOB_COLUMNS = ("project", "key", "provider", "wire_format", "url")
"""The columns about the job that are not fields of its payload."""

LABEL = "label."
"""The prefix of a column whose cells are a label of the job, such as `label.user`."""

RESULT_PREFIXES = ("quote_", "check_", "decide_", "fit_")
"""The prefixes of the columns that a command adds; a list that has them is read without them."""

_IGNORED_CHARACTERS = re.compile(r"[\s_-]+")
_UNIT = re.compile(r"\s*[(\[]\s*(?:s|secs?|seconds)\.?\s*[)\]]\s*$", re.IGNORECASE)
_CLOSE_PERCENT = 75
"""How alike the name of an unknown column and a field must be for a suggestion."""
_OTHER_NAMES = {"durations": "duration"}
"""Folded name -> field, for the names that this library itself uses."""

_LIKELY = {
    **dict.fromkeys(("length", "sec", "secs", "runtime"), "duration"),
    **dict.fromkeys(("ratio", "aspect"), "aspect_ratio"),
    "description": "prompt",
    "shot": "key",
}
"""Folded name -> the column that people usually mean; it is only suggested, because they may mean another."""


class FieldPath(NamedTuple):
    """A field of a payload: its path, and its entry in each wire format that has it."""

    path: tuple[str, ...]
    fields: Mapping[str, Field]


class ListColumn(NamedTuple):
    """The meaning of a column.

    Attributes:
        place: its position in the row, from 0; -1: not a column, but a value for every row.
        name: its name in the header.
        field: the field that its cells give; None: it says something about the job.
        about: one of `JOB_COLUMNS`, or a label with its prefix; empty: it is a field.
    """

    place: int
    name: str
    field: FieldPath | None
    about: str


def folded_name(name: str) -> str:
    """Returns a name in the form in which names are compared."""
    return _IGNORED_CHARACTERS.sub("", _UNIT.sub("", name)).lower()


@cache
def _known_fields() -> Mapping[str, FieldPath]:
    """Returns folded name -> field, for every field of every wire format."""
    fields: dict[tuple[str, ...], dict[str, Field]] = {}
    for name in WIRE_FORMATS:
        for path, field in _all_fields(wire_format(name).FIELDS):
            fields.setdefault(path, {})[name] = field
    known: dict[str, FieldPath] = {}
    for path, by_format in fields.items():
        known.setdefault(folded_name(".".join(path)), FieldPath(path, by_format))
    return known


def _all_fields(
    fields: Mapping[str, Field], parent: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Field]]:
    """Yields the path of every field, of objects as well as of the fields inside them."""
    for name, field in fields.items():
        yield (*parent, name), field
        yield from _all_fields(field.inside, (*parent, name))


def meaning(name: str) -> FieldPath | str | None:
    """Returns the field with a name, or what the name says about the job; None: the name is unknown."""
    folded = folded_name(name)
    for about in JOB_COLUMNS:
        if folded == folded_name(about):
            return about
    if name.lower().startswith(LABEL) and len(name) > len(LABEL):
        return LABEL + name[len(LABEL) :].strip()
    known = _known_fields()
    return known.get(folded) or known.get(_OTHER_NAMES.get(folded, ""))


def known_meaning(name: str) -> FieldPath | str:
    """Returns what a name that the user gives stands for, as `meaning` does.

    Raises:
        KlingPricingError: the name is unknown.
    """
    found = meaning(name)
    if found is None:
        names = [*(".".join(field.path) for field in _known_fields().values()), *JOB_COLUMNS]
        close = nearest(name, names)
        remedy = "use a field of the API" if close is None else f"did you mean {close!r}?"
        raise KlingPricingError(f"unknown field {shown(name)}; {remedy}")
    return found


def read_header(
    header: Sequence[str], maps: Mapping[str, str], file: str, *, allow_unknown: bool
) -> list[ListColumn]:
    """Returns the meaning of each column; without the ignored columns.

    Args:
        header: the names of the columns.
        maps: name of a column -> the name that counts instead; an empty one: the column is ignored.
        file: the file, for errors.
        allow_unknown: whether unknown columns are ignored.

    Raises:
        ShotListError: a column is unknown, or two columns give the same field.
    """
    renamed = {folded_name(name): new for name, new in maps.items()}
    missing = [name for name in maps if folded_name(name) not in map(folded_name, header)]
    if missing:
        remedy = did_you_mean(missing[0], filter(None, header))
        raise ShotListError(f"has no column {missing[0]!r}; {remedy}", file=file)
    columns, unknown = [], []
    for place, name in enumerate(header):
        new = renamed.get(folded_name(name))
        if new == "" or (new is None and name.lower().startswith(RESULT_PREFIXES)):
            continue
        found = meaning(new or name)
        if found is not None:
            columns.append(_column(place, name, found))
        elif not allow_unknown:
            unknown.append(name)
    if unknown:
        raise _unknown_columns(unknown, file, is_header=bool(columns))
    _refuse_doubles(columns, file)
    if not any(column.field for column in columns):
        raise ShotListError("has no column with a field of a request, such as model", file=file)
    return columns


def _column(place: int, name: str, found: FieldPath | str) -> ListColumn:
    return (
        ListColumn(place, name, None, found) if isinstance(found, str) else ListColumn(place, name, found, "")
    )


def given_columns(values: Iterable[str]) -> list[ListColumn]:
    """Returns the meanings of names that are given for every row.

    Raises:
        KlingPricingError: a name is unknown.
    """
    return [_column(-1, name, known_meaning(name)) for name in values]


def _unknown_columns(unknown: Sequence[str], file: str, *, is_header: bool) -> ShotListError:
    """Returns the error for unknown columns; without any known one, the first row may be a title."""
    names = [".".join(field.path) for field in _known_fields().values()]
    hints, likely = [], {}
    for name in unknown:
        close = nearest(name, names, cutoff_percent=_CLOSE_PERCENT) or _LIKELY.get(folded_name(name))
        hints.append(f"{name!r}{f' (did you mean {close}?)' if name and close else ''}")
        if name and close:
            likely[name] = close
    ignored = " ".join(f"--map {_shell_word(f'{name}=')}" for name in unknown if name)
    field, pronoun = ("its field", "it") if len(unknown) == 1 else ("the field of each", "them")
    named = likely or {next(filter(None, unknown), ""): "FIELD"}
    mapped = " ".join(f"--map {_shell_word(f'{name}={meant}')}" for name, meant in named.items())
    remedy = f"name {field} with {mapped}, or ignore {pronoun} with {ignored}"
    if "" in unknown:
        remedy = "give every column a name"
    if not is_header:
        remedy += "; if the names of the columns are in a later row, remove the rows above it"
    return ShotListError(
        f"{'this column is not a field' if len(unknown) == 1 else 'these columns are not fields'} of any API: "
        f"{', '.join(hints)}; {remedy}",
        file=file,
        row=1,
    )


def _shell_word(text: str) -> str:
    return text if re.fullmatch(r"[\w=.-]+", text) else f'"{text}"'


def _refuse_doubles(columns: Sequence[ListColumn], file: str) -> None:
    """Refuses two columns for the same field, and columns for an object and for a field inside it."""
    seen: dict[tuple[str, ...], str] = {}
    for column in columns:
        path = column.field.path if column.field is not None else ("", column.about)
        for other, name in seen.items():
            shared = min(len(path), len(other))
            if path[:shared] == other[:shared]:
                problem = f"gives the same field as {name}; remove one of the two columns"
                raise ShotListError(problem, file=file, row=1, column=column.name)
        seen[path] = column.name
