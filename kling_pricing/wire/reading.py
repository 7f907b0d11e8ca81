"""Reading the fields of a payload, with every problem in the wire's own words.

Callers write the same few fields again and again, so the first payload with a set of fields has a function made
that reads all that follow, the way rules are compiled (see `rules`).
Only the names in the wire format's own list of fields appear in its text; nothing of a payload does.
What is not as it should be, is null or comes in too many sets of fields is read one field at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias, cast

from kling_pricing.errors import WireFormatError
from kling_pricing.wire.shape import Field, Problems, is_kind, unknown_field, wrong_kind

MOST_SHAPES = 256
"""For so many sets of fields a wire format keeps a function."""

_ReadPlain: TypeAlias = Callable[[Mapping[str, Any]], dict[str, Any] | None]
"""Reads a payload of certain fields; None when a value is null or not what it should be."""


class Reader:
    """Reads the fields of one wire format."""

    def __init__(self, fields: Mapping[str, Field], wire_format: str) -> None:
        self._fields = fields
        self._wire_format = wire_format
        self._shapes: dict[tuple[str, ...], tuple[_ReadPlain, dict[str, str]]] = {}

    def read(self, payload: Mapping[str, Any], *, allow_unknown: bool) -> tuple[dict[str, Any], dict[str, str]]:
        """The payload's known fields that are not null.

        Returns:
            name -> value, and name -> the field that says it.

        Raises:
            WireFormatError: with one violation for every field that is unknown or of another type.
        """
        names = tuple(payload)
        shape = self._shapes.get(names)
        if shape is None and len(self._shapes) < MOST_SHAPES and self._fields.keys() >= payload.keys():
            said = {self._fields[name].name: name for name in names}
            shape = self._shapes[names] = _compile_reader(names, self._fields), said
        if shape is not None:
            read_plain, said = shape
            values = read_plain(payload)
            if values is not None:
                return values, said.copy()
        if any(value is None for value in payload.values()):
            stated = {name: value for name, value in payload.items() if value is not None}
            return self.read(stated, allow_unknown=allow_unknown)
        return self._read_each(payload, allow_unknown=allow_unknown)

    def _read_each(
        self, payload: Mapping[str, Any], *, allow_unknown: bool
    ) -> tuple[dict[str, Any], dict[str, str]]:
        """Reads fields one by one, none of them null."""
        values, said = {}, {}
        problems = Problems()
        problems.allow_unknown = allow_unknown
        for name, value in payload.items():
            field = self._fields.get(name)
            if field is None:
                if not allow_unknown:
                    problems.append(unknown_field(name, value, self._fields))
            elif not is_kind(value, field.kind):
                problems.append(wrong_kind(name, field.kind, value))
            else:
                if field.check is not None:
                    field.check(value, name, problems)
                values[field.name] = value
                said[field.name] = name
        if problems:
            raise WireFormatError(
                "; ".join(problem.message for problem in problems),
                wire_format=self._wire_format,
                field=problems[0].field,
                violations=problems,
            )
        for name, value in values.items():
            if (read := self._fields[said[name]].read) is not None:
                values[name] = read(value)
        return values, said


def _compile_reader(names: Iterable[str], fields: Mapping[str, Field]) -> _ReadPlain:
    """Makes a function that reads payloads of just these fields.

    For `model` and `mode`, of which the second has a check and its own words, its text is::

        def read(payload):
            v0 = payload['model']
            v1 = payload['mode']
            if not (type(v0) is kind0 and type(v1) is kind1): return None
            problems = Problems()
            check1(v1, 'mode', problems)
            if problems: return None
            return {'model': v0, 'resolution': read1(v1)}
    """
    constants: dict[str, Any] = {"__builtins__": {}, "type": type, "Problems": Problems}
    values, fits, checks, entries = [], [], [], []
    for place, name in enumerate(names):
        field = fields[name]
        values.append(f"v{place} = payload[{name!r}]")
        fits.append(f"v{place} is not None" if field.kind is object else f"type(v{place}) is kind{place}")
        constants[f"kind{place}"] = field.kind
        if field.check is not None:
            checks.append(f"check{place}(v{place}, {name!r}, problems)")
            constants[f"check{place}"] = field.check
        constants[f"read{place}"] = field.read
        entries.append(f"{field.name!r}: " + (f"v{place}" if field.read is None else f"read{place}(v{place})"))
    lines = [
        "def read(payload):",
        *values,
        f"if not ({' and '.join(fits) or True}): return None",
        *(["problems = Problems()", *checks, "if problems: return None"] if checks else []),
        f"return {{{', '.join(entries)}}}",
    ]
    exec(compile("\n    ".join(lines), "<fields>", "exec"), constants)  # noqa: S102 (see the module's docstring)
    return cast("_ReadPlain", constants["read"])
