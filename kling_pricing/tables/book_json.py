"""A price book as JSON text, from which it is made again without YAML.

Text, whole numbers, true, false and null stand for themselves, and an object for a mapping with text as keys.
Every other value is an array: first the name of its type, then its parts.
`["Decimal", "0.0714"]` is an exact number, and `["Validity", null, null]` is a tuple with two fields.
Models share most of their rules, so equal values are written once; `["=", 3]` stands for the fourth of them.

A class is written by the fields that its constructor takes, in their order, except caches.
So a new field needs no change here, and a new class must be listed in `CLASSES`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import fields, is_dataclass
from datetime import datetime
from decimal import Decimal
from itertools import chain
from types import MappingProxyType
from typing import Any

from kling_pricing.findings import Note
from kling_pricing.tables.capabilities import (
    CapabilityMatrix,
    IgnoredField,
    ImpliedAction,
    MediaLimit,
    ModelCapabilities,
    Rule,
)
from kling_pricing.tables.http_rules import HttpRules, Idempotency, McpRules, RefusedAnswers, UnpricedPaths
from kling_pricing.tables.price_book import PriceBook
from kling_pricing.tables.price_table import PriceTable
from kling_pricing.tables.providers import UnpricedProvider
from kling_pricing.tables.rates import (
    Billing,
    Cell,
    Cells,
    Contract,
    Quantity,
    Rate,
    StatementUnit,
    TableSource,
    Validity,
)
from kling_pricing.tables.rules import Between, Choice, OneOf
from kling_pricing.wire.endpoints import Submission
from kling_pricing.wire.paths import PathPattern

CLASSES: tuple[type, ...] = (
    Between,
    Billing,
    CapabilityMatrix,
    Cell,
    Cells,
    Choice,
    Contract,
    HttpRules,
    Idempotency,
    IgnoredField,
    ImpliedAction,
    McpRules,
    MediaLimit,
    ModelCapabilities,
    Note,
    OneOf,
    PathPattern,
    PriceBook,
    PriceTable,
    Quantity,
    Rate,
    RefusedAnswers,
    Rule,
    StatementUnit,
    Submission,
    TableSource,
    UnpricedPaths,
    UnpricedProvider,
    Validity,
)
"""Every class of which a book may contain values; nothing else is ever made from the text."""

_NAMES = {cls: cls.__name__ for cls in CLASSES}

_SAME_AS = "="
_MIN_SHARED_CHARS = 24
"""A shorter value is repeated, because a reference to it is hardly shorter."""


def book_to_json(book: PriceBook) -> str:
    """Returns a book as JSON text in ASCII.

    Raises:
        TypeError: the book contains a value of a type that this module does not know.
    """
    writer = _Writer()
    return f"[{writer.text(book)},[{','.join(writer.shared)}]]"


def book_from_json(text: str | bytes) -> PriceBook:
    """Returns the book of a text from `book_to_json`; the text is trusted, not checked."""
    root, shared = json.loads(text)
    reader = _Reader()
    for node in shared:
        reader.shared.append(reader.value(node))
    book: PriceBook = reader.value(root)
    return book


class _Writer:
    """Writes values as JSON text, each value that is long enough once.

    Attributes:
        shared: the texts of the values that references stand for.
    """

    def __init__(self) -> None:
        self.shared: list[str] = []
        self._references: dict[str, str] = {}

    def text(self, value: Any) -> str:
        """Returns the text of a value, or a reference to it."""
        if value is None or type(value) in (str, int, bool):
            return json.dumps(value)
        text = self._composite(value)
        if len(text) < _MIN_SHARED_CHARS:
            return text
        reference = self._references.get(text)
        if reference is None:
            reference = self._references[text] = f'["{_SAME_AS}",{len(self.shared)}]'
            self.shared.append(text)
        return reference

    def _composite(self, value: Any) -> str:
        kind = type(value)
        if kind is Decimal:
            return self._array("Decimal", [str(value)])
        if kind is datetime:
            return self._array("datetime", [value.isoformat()])
        if kind is tuple:
            return self._array("tuple", value)
        if kind is frozenset:
            return self._array("frozenset", sorted(value))
        if kind in (dict, MappingProxyType):
            if all(type(key) is str for key in value):
                entries = (f"{json.dumps(key)}:{self.text(entry)}" for key, entry in value.items())
                return f"{{{','.join(entries)}}}"
            return self._array("dict", chain.from_iterable(value.items()))
        if kind not in _NAMES:
            raise TypeError(f"cannot write a {kind.__name__} as JSON; list its class in {__name__}")
        if is_dataclass(kind):
            names = [field.name for field in fields(kind) if field.init and field.compare]
            return self._array(_NAMES[kind], [getattr(value, name) for name in names])
        return self._array(_NAMES[kind], value)

    def _array(self, name: str, parts: Iterable[Any]) -> str:
        return f"[{','.join([json.dumps(name), *map(self.text, parts)])}]"


class _Reader:
    """Makes values from parsed JSON.

    Attributes:
        shared: the values that references stand for, as far as they have been made.
    """

    def __init__(self) -> None:
        self.shared: list[Any] = []
        self._makers: dict[str, Callable[..., Any]] = {
            **{name: cls for cls, name in _NAMES.items()},
            _SAME_AS: self.shared.__getitem__,
            "Decimal": Decimal,
            "datetime": datetime.fromisoformat,
            "tuple": lambda *parts: parts,
            "frozenset": lambda *parts: frozenset(parts),
            "dict": lambda *parts: dict(zip(parts[::2], parts[1::2], strict=True)),
        }

    def value(self, node: Any) -> Any:
        """Returns the value of a parsed part of the text."""
        if node.__class__ is list:
            value = self.value
            name, *parts = node
            return self._makers[name](*[part if part.__class__ is str else value(part) for part in parts])
        if node.__class__ is dict:
            return {key: self.value(entry) for key, entry in node.items()}
        return node
