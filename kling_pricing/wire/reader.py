"""Reads the fields of a payload and reports every violation by the field's path.

Callers send the same few sets of fields again and again.
So the first payload with a set of fields makes the reader compile a function that reads all later ones, as
`tables.rules` does with rules.
The text of that function contains names from the wire format's own list of fields, but nothing from a payload.
A payload is read field by field if a value is invalid or null, or if it has too many sets of fields to keep.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, NoReturn, TypeAlias, cast

from kling_pricing.errors import WireFormatError
from kling_pricing.findings import Violation
from kling_pricing.wire.fields import AllowedWords, Field, Violations, is_kind, unknown_field, wrong_kind

MAX_SHAPES = 256
"""A wire format keeps compiled functions for at most this many sets of fields."""

Fields: TypeAlias = Mapping[str, Field]
"""Name on the wire -> field."""

ReadResult: TypeAlias = tuple[dict[str, Any], dict[str, str], bool]
"""The inputs that a payload gives, without null fields:

- Input -> value. If several fields give an input, the first in the format's list counts, and the values of the
  others are under their paths.
- Input -> the path of the field that gives it, such as `extra.mode`.
- Whether the caller has more to do: the payload gives one of the reader's special inputs, or gives one twice.
"""

_CompiledFunction: TypeAlias = Callable[[Mapping[str, Any]], ReadResult | None]
"""Reads payloads with a certain set of fields; None if a field is missing, or a value is null or invalid."""


class PayloadReader:
    """Reads the fields of one wire format."""

    def __init__(
        self,
        fields: Fields,
        wire_format: str,
        *,
        special: Iterable[str] = (),
        empty_is_absent: bool = False,
    ) -> None:
        """Prepares the reader.

        Args:
            fields: the fields of the wire format.
            wire_format: its name, for errors.
            special: the inputs that the caller converts further.
            empty_is_absent: whether the API treats empty text, lists and objects like fields that are left out.
        """
        self.fields = fields
        self.wire_format = wire_format
        self.empty_is_absent = empty_is_absent
        self._special = frozenset(special)
        self._order = {path: number for number, path in enumerate(_input_paths(fields))}
        self._functions: dict[tuple[str, ...], list[_CompiledFunction]] = {}
        self._shapes: set[tuple[tuple[str, ...], frozenset[str]]] = set()

    def read(self, payload: Mapping[str, Any], *, allow_unknown: bool) -> ReadResult:
        """Reads a payload.

        Raises:
            WireFormatError: with one violation for every field that is unknown or has a value of another type.
        """
        for function in self._functions.get(tuple(payload), ()):
            result = function(payload)
            if result is not None:
                return result
        given = _without_absent(payload, self.fields, empty_is_absent=self.empty_is_absent)
        if given != payload:
            return self.read(given, allow_unknown=allow_unknown)
        result = self.read_by_field(payload, allow_unknown=allow_unknown)
        self._compile_for(payload)
        return result

    def read_by_field(self, payload: Mapping[str, Any], *, allow_unknown: bool) -> ReadResult:
        """Reads a payload without null fields as `read` does, but field by field."""
        violations = Violations()
        violations.allow_unknown = allow_unknown
        inputs = dict(_checked_inputs(payload, self.fields, "", violations))
        if violations:
            raise WireFormatError(
                "; ".join(violation.message for violation in violations),
                wire_format=self.wire_format,
                field=violations[0].field,
                violations=violations,
            )
        keys, paths, special = self._keys({path: field for path, (field, _) in inputs.items()})
        values = {
            key: value if field.read is None else field.read(value)
            for key, (field, value) in ((key, inputs[path]) for path, key in keys.items())
        }
        values |= {field.stated: True for field, _ in inputs.values() if field.stated}
        return values, paths, special

    def _keys(self, inputs: Mapping[str, Field]) -> tuple[dict[str, str], dict[str, str], bool]:
        """Returns path -> key of the value, input -> path, and whether the caller has more to do.

        Top-level fields are in the payload's order, and fields of an object in the order of the format's list.
        One compiled function serves objects in any order, so it could not follow theirs.
        """
        tops = {top: number for number, top in enumerate(dict.fromkeys(map(_top_level, inputs)))}
        first: dict[str, str] = {}
        for path in sorted(inputs, key=self._order.__getitem__):
            first.setdefault(inputs[path].name, path)
        ordered = sorted(inputs, key=lambda path: (tops[_top_level(path)], self._order[path]))
        paths = {inputs[path].name: path for path in ordered if first[inputs[path].name] == path}
        keys = {path: path for path in ordered} | {path: name for name, path in paths.items()}
        return keys, paths, len(paths) < len(inputs) or not self._special.isdisjoint(paths)

    def _compile_for(self, payload: Mapping[str, Any]) -> None:
        """Compiles a function for the payload's set of fields, unless it has one or there are too many."""
        if len(self._shapes) >= MAX_SHAPES or not _has_known_fields_only(payload, self.fields):
            return
        names, fields = tuple(payload), [*_placed_fields(payload, self.fields)]
        shape = names, frozenset(placed.path for placed in fields)
        if shape not in self._shapes:
            self._shapes.add(shape)
            keys = self._keys({placed.path: placed.field for placed in fields if not placed.field.inside})
            function = _compile(fields, *keys, empty_is_absent=self.empty_is_absent)
            self._functions.setdefault(names, []).append(function)


def _top_level(path: str) -> str:
    """Returns the top-level field that a path is in."""
    return path.partition(".")[0]


class _PlacedField(NamedTuple):
    """A field and its place in a payload.

    Attributes:
        path: its path, such as `extra.mode`.
        parent: the path of the object that contains it; empty at the top level.
        name: its name in that object.
        field: its entry in the format's list.
        size: how many fields its object has; 0 unless they are inputs themselves.
    """

    path: str
    parent: str
    name: str
    field: Field
    size: int


def _placed_fields(node: Mapping[str, Any], fields: Fields, parent: str = "") -> Iterator[_PlacedField]:
    """Yields the fields of a payload that has known fields only, each before the fields inside it."""
    listed = {name: name for name in fields}
    for key, value in node.items():
        name, field = listed[key], fields[key]
        path = f"{parent}.{name}" if parent else name
        yield _PlacedField(path, parent, name, field, len(value) if field.inside else 0)
        if field.inside:
            yield from _placed_fields(value, field.inside, path)


def _input_paths(fields: Fields, parent: str = "") -> Iterator[str]:
    """Yields the path of every input of a format, in the order of its list."""
    for name, field in fields.items():
        path = f"{parent}.{name}" if parent else name
        yield from _input_paths(field.inside, path) if field.inside else (path,)


def _has_known_fields_only(payload: Mapping[str, Any], fields: Fields) -> bool:
    """Returns whether a payload has known fields only, and a dict wherever fields are inside a field."""
    return fields.keys() >= payload.keys() and all(
        type(value) is dict and _has_known_fields_only(value, fields[name].inside)
        for name, value in payload.items()
        if fields[name].inside
    )


def is_empty(value: Any) -> bool:
    """Returns whether a value is empty text, an empty list or an empty object."""
    return isinstance(value, str | list | tuple | Mapping) and not value


def _without_absent(payload: Mapping[str, Any], fields: Fields, *, empty_is_absent: bool) -> dict[str, Any]:
    """Returns the payload without its null fields and, if they count as absent, its empty ones."""
    kept = {name: value for name, value in payload.items() if value is not None}
    for name, value in kept.items():
        if name in fields and fields[name].inside and is_kind(value, dict):
            kept[name] = _without_absent(value, fields[name].inside, empty_is_absent=empty_is_absent)
    if empty_is_absent:
        return {name: value for name, value in kept.items() if not is_empty(value)}
    return kept


def _checked_inputs(
    node: Mapping[str, Any], fields: Fields, prefix: str, violations: Violations
) -> Iterator[tuple[str, tuple[Field, Any]]]:
    """Yields the path, field and value of each input; adds the violations."""
    for name, value in node.items():
        field, path = fields.get(name), f"{prefix}{name}"
        if field is None:
            if violations.names_unknown:
                violations.append(unknown_field(name, value, fields, path))
        elif not is_kind(value, field.kind):
            violations.append(wrong_kind(path, field.kind, value))
        else:
            if field.inside:
                yield from _checked_inputs(value, field.inside, f"{path}.", violations)
            else:
                yield path, (field, value)
            if field.check is not None:
                field.check(value, path, violations)


class _InvalidValue(Exception):  # noqa: N818 (never leaves this module)
    """A compiled function cannot read the payload."""


class _RaisedViolations(Violations):
    """Raises the first violation instead of collecting it."""

    def append(self, violation: Violation) -> NoReturn:
        raise _InvalidValue(violation)


def _compile(
    fields: Iterable[_PlacedField],
    keys: Mapping[str, str],
    paths: Mapping[str, str],
    special: bool,  # noqa: FBT001
    *,
    empty_is_absent: bool = False,
) -> _CompiledFunction:
    """Returns a function that reads payloads with these fields.

    For a `model`, and an `extra` with a `mode` that has a check and a conversion, its text is::

        def read(payload):
            try:
                v0 = payload['model']
                if type(v0) is not str: return None
                v1 = payload['extra']
                if type(v1) is not dict or len(v1) != 1: return None
                v2 = v1['mode']
                if type(v2) is not str: return None
                check2(v2, 'extra.mode', violations)
            except (KeyError, InvalidValue): return None
            return (
                {'model': v0, 'resolution': read2(v2)},
                paths.copy(),
                False,
            )
    """
    constants: dict[str, Any] = {"__builtins__": {}, "type": type, "len": len, "KeyError": KeyError}
    constants |= {"paths": dict(paths), "InvalidValue": _InvalidValue, "violations": _RaisedViolations()}
    variables = {"": "payload"}
    lines: list[str] = []
    entries = dict.fromkeys(keys, "")
    for number, (path, parent, name, field, size) in enumerate(fields):
        variable = variables[path] = f"v{number}"
        lines.append(f"{variable} = {variables[parent]}[{name!r}]")
        if field.kind is object:
            empty = f" or {variable} == ''" if empty_is_absent else ""
            lines.append(f"if {variable} is None{empty}: return None")
        elif empty_is_absent and field.kind in (str, list) and not isinstance(field.check, AllowedWords):
            constants[field.kind.__name__] = field.kind
            lines.append(f"if type({variable}) is not {field.kind.__name__} or not {variable}: return None")
        else:
            constants[field.kind.__name__] = field.kind
            wrong_size = f" or len({variable}) != {size}" if field.inside else ""
            lines.append(f"if type({variable}) is not {field.kind.__name__}{wrong_size}: return None")
        constants[f"check{number}"] = field.check
        if isinstance(field.check, AllowedWords):  # `in` is faster than a call
            lines.append(f"if {variable} not in check{number}: return None")
        elif field.check is not None:
            lines.append(f"check{number}({variable}, {path!r}, violations)")
        if not field.inside:
            constants[f"read{number}"] = field.read
            value = variable if field.read is None else f"read{number}({variable})"
            stated = f", {field.stated!r}: True" if field.stated else ""
            entries[path] = f"{keys[path]!r}: {value}{stated}"
    body = "\n        ".join(lines) or "pass"
    text = f"""
def read(payload):
    try:
        {body}
    except (KeyError, InvalidValue): return None
    return {{{", ".join(entries.values())}}}, paths.copy(), {special}
"""
    exec(compile(text, "<fields>", "exec"), constants)  # noqa: S102 (see the module's docstring)
    return cast("_CompiledFunction", constants["read"])
