"""Writes budgets as YAML that reads back as the same budgets."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import yaml

from kling_pricing.budgets.budgets_file import BudgetsFile
from kling_pricing.budgets.entries import BudgetEntry
from kling_pricing.money import format_decimal


def budgets_yaml(budgets: BudgetsFile) -> str:
    """Returns budgets as the text of a budgets file, without defaults.

    `load_budgets` reads the text back as the same budgets. Comments of the original file are lost.
    """
    settings = budgets.model_dump(exclude_defaults=True, exclude={"budgets"})
    return _text({"budgets": [_plain(budget) for budget in budgets.budgets], **_ready(settings)})


def budget_yaml(budget: BudgetEntry) -> str:
    """Returns one budget as an entry of a budgets file, without defaults."""
    return _text({"budgets": [_plain(budget)]})


def _plain(budget: BudgetEntry) -> Any:
    return _ready(budget.model_dump(exclude_defaults=True))


def _ready(value: Any) -> Any:
    """Returns a value with the types that YAML has."""
    if isinstance(value, dict):
        return {key: _ready(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_ready(part) for part in value]
    return value if isinstance(value, str | int | Decimal) else str(value)


class _Dumper(yaml.SafeDumper):
    """Writes exact numbers, no anchors, and short lists and maps on one line."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 (the base class passes it)
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002, FBT001, FBT002
        super().increase_indent(flow, indentless=False)


def _number(dumper: yaml.SafeDumper, number: Decimal) -> yaml.ScalarNode:
    text = format_decimal(number)
    return dumper.represent_scalar(f"tag:yaml.org,2002:{'float' if '.' in text else 'int'}", text)


def _text_node(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = None if text.isascii() and text.isprintable() and text.strip() == text else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


def _map(dumper: yaml.SafeDumper, values: dict[str, Any]) -> yaml.MappingNode:
    return dumper.represent_mapping("tag:yaml.org,2002:map", values.items(), flow_style=not _is_long(values))


def _list(dumper: yaml.SafeDumper, values: list[Any]) -> yaml.SequenceNode:
    return dumper.represent_sequence("tag:yaml.org,2002:seq", values, flow_style=not _is_long(values))


def _is_long(value: Any) -> bool:
    """Returns whether a list or map needs several lines: the file itself, a budget, or a list of budgets."""
    if isinstance(value, dict):
        return bool({"budgets", "name"} & value.keys())
    return any(isinstance(part, dict) for part in value)


_Dumper.add_representer(Decimal, _number)
_Dumper.add_representer(str, _text_node)
_Dumper.add_representer(dict, _map)
_Dumper.add_representer(list, _list)


def _text(tree: Any) -> str:
    text: str = yaml.dump(tree, Dumper=_Dumper, sort_keys=False, width=100, allow_unicode=True)
    return text
