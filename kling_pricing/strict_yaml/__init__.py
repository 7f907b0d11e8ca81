"""YAML that means what it looks like: strict parsing, and errors with file, line and key path.

People review a file of prices and a machine reads it; both must see the same.
So only the plain part of YAML is accepted: maps, lists, text, whole numbers, decimals, true, false and null.
Duplicate keys, anchors, aliases, tags, directives, multiple documents, and keys that are not text are refused.
So are bytes that are not UTF-8, invisible characters, nesting beyond `MAX_DEPTH`, and files beyond `MAX_BYTES`.
Numbers are exact: `0.0714` becomes a `Decimal`, never a float.
Values that YAML 1.1 would reinterpret stay text (`010`, `1:30`, `no`, `1e3`, `2026-04-29`).
A model that expects a number or a boolean there refuses them.
"""

from kling_pricing.strict_yaml.parsing import MAX_BYTES, MAX_DEPTH, Path, YamlDocument, key_path, load
from kling_pricing.strict_yaml.scalars import (
    Code,
    Currency,
    Day,
    Instant,
    Name,
    Price,
    Text,
    UrlPath,
    matching_text,
    written,
)
from kling_pricing.strict_yaml.validation import FileModel, checked, explained, read

__all__ = [
    "MAX_BYTES",
    "MAX_DEPTH",
    "Code",
    "Currency",
    "Day",
    "FileModel",
    "Instant",
    "Name",
    "Path",
    "Price",
    "Text",
    "UrlPath",
    "YamlDocument",
    "checked",
    "explained",
    "key_path",
    "load",
    "matching_text",
    "read",
    "written",
]
