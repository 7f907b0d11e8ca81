"""Strict YAML: reads only unambiguous YAML, and reports errors with file, line and key path.

People review price files, and machines read them; both must see the same content.
The parser therefore accepts only maps, lists, text, whole numbers, decimal numbers, true, false and null.
It refuses duplicate keys, anchors, aliases, tags, directives, multiple documents, and keys that are not text.
It also refuses bytes that are not UTF-8, invisible characters, nesting deeper than `MAX_DEPTH`, and files
larger than `MAX_BYTES`.
Numbers are exact: `0.0714` becomes a `Decimal`, never a float.
Values that YAML 1.1 would reinterpret (`010`, `1:30`, `no`, `1e3`, `2026-04-29`) stay text.
A model that expects a number or a boolean refuses such text.
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
