"""Checks a parsed document against its pydantic model; every error has a place and a remedy."""

from __future__ import annotations

import re
from collections.abc import Iterable
from copy import deepcopy
from decimal import Decimal
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import ErrorDetails, PydanticCustomError

from kling_pricing.display import did_you_mean
from kling_pricing.errors import TableError, TableProblems
from kling_pricing.strict_yaml.parsing import Path, YamlDocument, load
from kling_pricing.strict_yaml.scalars import written

_Model = TypeVar("_Model", bound="FileModel")

_QUOTED = re.compile(r"did you mean '([^']*)'")

_REQUIRED_TYPES = {
    "bool": "true or false",
    "dict": "a map",
    "int": "a whole number",
    "list": "a list",
    "string": "text",
}
"""Pydantic's name for a type -> its name in YAML files."""


class FileModel(BaseModel):
    """The base class for models of file content: frozen, strictly typed, and without unknown keys."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", arbitrary_types_allowed=True)

    @model_validator(mode="before")
    @classmethod
    def _only_known_keys(cls, value: Any) -> Any:
        if isinstance(value, dict):
            known = [info.alias or name for name, info in cls.model_fields.items()]
            for key in value:
                if key not in known:
                    raise PydanticCustomError(
                        "unknown_key",
                        "unknown key; {remedy}",
                        {"key": key, "remedy": did_you_mean(key, known)},
                    )
        return value


def read(data: bytes, model: type[_Model], *, name: str) -> tuple[_Model, YamlDocument]:
    """Parses one document and checks it against its model.

    Raises:
        TableError: `load` or the model refuses the document; the error points to the first problem in the
            file, and `others` has the others.
    """
    document = load(data, name=name)
    return checked(document, model), document


def checked(document: YamlDocument, model: type[_Model]) -> _Model:
    """Checks a document against its model.

    Raises:
        TableError: the model refuses the document; the error points to the first problem in the file, and
            `others` has the others.
    """
    if document.tree is None:
        required = [name for name, info in model.model_fields.items() if info.is_required()]
        if required:
            raise TableError(
                f"the file is empty; it needs these keys: {', '.join(required)}", file=document.name
            )
    tree, unknown = {} if document.tree is None else document.tree, dict[Path, str]()
    while True:
        try:
            entry = model.model_validate(tree)
            found: list[ErrorDetails] = []
        except ValidationError as error:
            found = error.errors(include_url=False)
        keys = dict(explained(details) for details in found if details["type"] == "unknown_key")
        if not keys or not unknown.keys().isdisjoint(keys):
            break
        unknown |= keys  # such a key hides the other problems of its map, so the file is checked without it
        tree = _without(tree, keys)
    if not found and not unknown:
        return entry
    misspelled = {(*path[:-1], key) for path, hint in unknown.items() for key in _QUOTED.findall(hint)}
    problems = [explained(details) for details in found]
    problems = [(path, problem) for path, problem in problems if path not in misspelled]
    errors = [document.error(path, problem) for path, problem in problems]
    errors.sort(key=lambda problem: problem.line or 0)
    first = [document.error(path, problem) for path, problem in unknown.items()]
    raise TableProblems([*first, *errors]).first()


def _without(tree: Any, paths: Iterable[Path]) -> Any:
    """Returns a copy of a tree without the keys at these paths."""
    tree = deepcopy(tree)
    for *parents, key in paths:
        node: Any = tree
        for part in parents:
            node = node[part]
        del node[key]
    return tree


def explained(details: ErrorDetails) -> tuple[Path, str]:
    """Converts a pydantic error to a path and a message with a remedy."""
    path: Path = details["loc"]
    kind, value = details["type"], details["input"]
    if kind == "unknown_key":
        return (*path, details["ctx"]["key"]), details["msg"]
    if kind == "missing":
        return path, "this key is required; add it"
    path = path[:-1] if path and path[-1] == "[key]" else path
    if kind == "too_short":
        return path, "must not be empty; add at least one entry"
    if kind == "model_type":
        return path, "must be a map of keys and values"
    required = _REQUIRED_TYPES.get(kind.removesuffix("_type"))
    if required is not None:
        quotes = (
            "; put it in quotation marks"
            if required == "text" and isinstance(value, bool | int | Decimal)
            else ""
        )
        return path, f"must be {required}, got {written(value)}{quotes}"
    message = details["msg"].removeprefix("Value error, ")
    return path, message.replace("Input should be", "must be").replace("String should", "must")
