"""Reading the fields of a payload, with every problem in the wire's own words.

Callers write the same few fields again and again, so the first payload with a set of fields has a function made
that reads all that follow, the way rules are compiled (see `rules`).
Only the names in the wire format's own list of fields appear in its text; nothing of a payload does.
What is not as it should be, is null or comes in too many sets of fields is read one field at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, NoReturn, TypeAlias, cast

from kling_pricing.errors import WireFormatError
from kling_pricing.findings import Violation
from kling_pricing.wire.fields import Alternatives, Field, Problems, is_kind, unknown_field, wrong_kind

MAX_SHAPES = 256
"""For so many sets of fields a wire format keeps a function."""

Fields: TypeAlias = Mapping[str, Field]
"""Name on the wire -> what stands there."""

Read: TypeAlias = tuple[dict[str, Any], dict[str, str], bool]
"""What the fields of a payload say, null ones left out:

- input -> value; where several places say an input, that of the first in the format's list of fields, and the
  others by their places.
- input -> the place that says it, such as `extra.mode`; of an object whose fields are inputs, these and not it.
- whether that is not all: one of the reader's special inputs is said, or one is said in several places.
"""

_ReadPlain: TypeAlias = Callable[[Mapping[str, Any]], Read | None]
"""Reads payloads of certain fields; None when a field is missing, a value null or not what it should be."""


class PayloadReader:
    """Reads the fields of one wire format."""

    def __init__(self, fields: Fields, wire_format: str, *, special: Iterable[str] = ()) -> None:
        self.fields = fields
        self.wire_format = wire_format
        self._special = frozenset(special)
        self._order = {place: number for number, place in enumerate(_places(fields))}
        self._functions: dict[tuple[str, ...], list[_ReadPlain]] = {}
        self._shapes: set[tuple[tuple[str, ...], frozenset[str]]] = set()

    def read(self, payload: Mapping[str, Any], *, allow_unknown: bool) -> Read:
        """What the payload says.

        Raises:
            WireFormatError: with one violation for every field that is unknown or of another type.
        """
        for read_plain in self._functions.get(tuple(payload), ()):
            found = read_plain(payload)
            if found is not None:
                return found
        stated = _stated(payload, self.fields)
        if stated != payload:
            return self.read(stated, allow_unknown=allow_unknown)
        found = self.read_each(payload, allow_unknown=allow_unknown)
        self._learn(payload)
        return found

    def read_each(self, payload: Mapping[str, Any], *, allow_unknown: bool) -> Read:
        """The same, field by field, of a payload in which nothing is null."""
        problems = Problems()
        problems.allow_unknown = allow_unknown
        found = dict(_examined(payload, self.fields, "", problems))
        if problems:
            raise WireFormatError(
                "; ".join(problem.message for problem in problems),
                wire_format=self.wire_format,
                field=problems[0].field,
                violations=problems,
            )
        keys, said, special = self._kept({place: field for place, (field, _) in found.items()})
        values = {
            name: value if field.read is None else field.read(value)
            for name, (field, value) in ((name, found[place]) for place, name in keys.items())
        }
        values |= {field.stated: True for field, _ in found.values() if field.stated}
        return values, said, special

    def _kept(self, inputs: Mapping[str, Field]) -> tuple[dict[str, str], dict[str, str], bool]:
        """Place -> the name that its value is kept by; input -> place; and whether anything is special.

        They are in the payload's order, and within its objects in that of the format's list: an object is read
        in the same way however its fields are ordered, and so must say the same.
        """
        tops = {top: number for number, top in enumerate(dict.fromkeys(map(_top, inputs)))}
        first: dict[str, str] = {}
        for place in sorted(inputs, key=self._order.__getitem__):
            first.setdefault(inputs[place].name, place)
        ordered = sorted(inputs, key=lambda place: (tops[_top(place)], self._order[place]))
        said = {inputs[place].name: place for place in ordered if first[inputs[place].name] == place}
        keys = {place: place for place in ordered} | {place: name for name, place in said.items()}
        return keys, said, len(said) < len(inputs) or not self._special.isdisjoint(said)

    def _learn(self, payload: Mapping[str, Any]) -> None:
        """Makes a function for payloads of this one's shape, unless there is one or they are too many."""
        if len(self._shapes) >= MAX_SHAPES or not _is_known(payload, self.fields):
            return
        names, parts = tuple(payload), [*_parts(payload, self.fields)]
        shape = names, frozenset(part.place for part in parts)
        if shape not in self._shapes:
            self._shapes.add(shape)
            kept = self._kept({part.place: part.field for part in parts if not part.field.inside})
            self._functions.setdefault(names, []).append(_compile(parts, *kept))


def _top(place: str) -> str:
    """The field of the payload that a place is in."""
    return place.partition(".")[0]


class _FieldPart(NamedTuple):
    """A field of a payload.

    Attributes:
        place: where it stands: `extra.mode`.
        holder: the place of the object that holds it; empty: the payload.
        name: its name in that.
        field: what the format says of it.
        size: how many fields it has, if it is an object of inputs.
    """

    place: str
    holder: str
    name: str
    field: Field
    size: int


def _parts(node: Mapping[str, Any], fields: Fields, holder: str = "") -> Iterator[_FieldPart]:
    """The fields of a payload that has known ones only, those of an object of inputs behind it."""
    listed = {name: name for name in fields}
    for given, value in node.items():
        name, field = listed[given], fields[given]
        place = f"{holder}.{name}" if holder else name
        yield _FieldPart(place, holder, name, field, len(value) if field.inside else 0)
        if field.inside:
            yield from _parts(value, field.inside, place)


def _places(fields: Fields, holder: str = "") -> Iterator[str]:
    """The places of all inputs that a format knows, in the order of its list."""
    for name, field in fields.items():
        place = f"{holder}.{name}" if holder else name
        yield from _places(field.inside, place) if field.inside else (place,)


def _is_known(payload: Mapping[str, Any], fields: Fields) -> bool:
    """Whether a payload has known fields only, and objects where there should be."""
    return fields.keys() >= payload.keys() and all(
        type(value) is dict and _is_known(value, fields[name].inside)
        for name, value in payload.items()
        if fields[name].inside
    )


def _stated(payload: Mapping[str, Any], fields: Fields) -> dict[str, Any]:
    """The payload without what is null."""
    stated = {name: value for name, value in payload.items() if value is not None}
    for name, value in stated.items():
        if name in fields and fields[name].inside and is_kind(value, dict):
            stated[name] = _stated(value, fields[name].inside)
    return stated


def _examined(
    node: Mapping[str, Any], fields: Fields, path: str, problems: Problems
) -> Iterator[tuple[str, tuple[Field, Any]]]:
    """Each input with its place and value; what is wrong is added to the problems."""
    for name, value in node.items():
        field, place = fields.get(name), f"{path}{name}"
        if field is None:
            if not problems.allow_unknown:
                problems.append(unknown_field(name, value, fields, place))
        elif not is_kind(value, field.kind):
            problems.append(wrong_kind(place, field.kind, value))
        else:
            if field.inside:
                yield from _examined(value, field.inside, f"{place}.", problems)
            else:
                yield place, (field, value)
            if field.check is not None:
                field.check(value, place, problems)


class _NotPlain(Exception):  # noqa: N818 (nobody sees it)
    """A value is not what it should be."""


class _Strict(Problems):
    """No problem is borne."""

    def append(self, problem: Violation) -> NoReturn:
        raise _NotPlain(problem)


def _compile(
    parts: Iterable[_FieldPart],
    keys: Mapping[str, str],
    said: Mapping[str, str],
    special: bool,  # noqa: FBT001
) -> _ReadPlain:
    """Makes the function that reads payloads of some parts.

    For a `model` and an `extra` with a `mode`, which has a check and its own words, its text is::

        def read(payload):
            try:
                v0 = payload['model']
                if type(v0) is not str: return None
                v1 = payload['extra']
                if type(v1) is not dict or len(v1) != 1: return None
                v2 = v1['mode']
                if type(v2) is not str: return None
                check2(v2, 'extra.mode', strict)
            except (KeyError, NotPlain): return None
            return (
                {'model': v0, 'resolution': read2(v2)},
                {'model': 'model', 'resolution': 'extra.mode'},
                False,
            )
    """
    constants: dict[str, Any] = {"__builtins__": {}, "type": type, "len": len, "KeyError": KeyError}
    constants |= {"NotPlain": _NotPlain, "strict": _Strict()}
    variables = {"": "payload"}
    lines: list[str] = []
    values = dict.fromkeys(keys, "")
    for number, (place, holder, name, field, size) in enumerate(parts):
        variable = variables[place] = f"v{number}"
        lines.append(f"{variable} = {variables[holder]}[{name!r}]")
        if field.kind is object:
            lines.append(f"if {variable} is None: return None")
        else:
            constants[field.kind.__name__] = field.kind
            wrong_size = f" or len({variable}) != {size}" if field.inside else ""
            lines.append(f"if type({variable}) is not {field.kind.__name__}{wrong_size}: return None")
        constants[f"check{number}"] = field.check
        if isinstance(field.check, Alternatives):  # quicker asked than called
            lines.append(f"if {variable} not in check{number}: return None")
        elif field.check is not None:
            lines.append(f"check{number}({variable}, {place!r}, strict)")
        if not field.inside:
            constants[f"read{number}"] = field.read
            value = variable if field.read is None else f"read{number}({variable})"
            values[place] = f"{keys[place]!r}: {value}" + (f", {field.stated!r}: True" if field.stated else "")
    body = "\n        ".join(lines) or "pass"
    text = f"""
def read(payload):
    try:
        {body}
    except (KeyError, NotPlain): return None
    return {{{", ".join(values.values())}}}, {dict(said)!r}, {special}
"""
    exec(compile(text, "<fields>", "exec"), constants)  # noqa: S102 (see the module's docstring)
    return cast("_ReadPlain", constants["read"])
