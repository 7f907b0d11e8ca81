"""The website of the documentation is complete, and explains every name that users may write or read."""

from __future__ import annotations

import importlib
import importlib.util
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import pytest
import yaml

from kling_pricing.server import metrics
from kling_pricing.wire.facts import FACT_TYPES

ROOT = Path(__file__).parent.parent
SITE = ROOT / "docs" / "site"


@cache
def builder() -> ModuleType:
    """Returns the program that builds the website, as a module."""
    spec = importlib.util.spec_from_file_location("build_site", SITE / "build_site.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def written_words() -> frozenset[str]:
    """Returns the words of the pages that people wrote."""
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    return frozenset(re.findall(r"[A-Za-z_][\w-]*", "\n".join(page.read_text("utf-8") for page in pages)))


def listed(entries: Any) -> Iterator[str]:
    """Yields the pages of a navigation."""
    if isinstance(entries, str):
        yield entries
    else:
        for entry in entries.values() if isinstance(entries, dict) else entries:
            yield from listed(entry)


def test_each_page_stands_in_the_navigation(tmp_path: Path) -> None:
    """A reader can reach every page from the navigation, and the navigation names only pages that exist."""
    builder().write_source(tmp_path)
    pages = {page.relative_to(tmp_path).as_posix() for page in tmp_path.rglob("*.md")}
    navigation = list(listed(yaml.safe_load((SITE / "mkdocs.yml").read_text("utf-8"))["nav"]))
    assert sorted(navigation) == sorted(pages)


def test_the_reference_shows_each_option_of_each_command() -> None:
    """The page of the command line has a section for every command, with all of its options."""
    pattern = re.compile(r"^## ([^\n]+)\n\n```text\n(.*?)\n```", re.DOTALL | re.MULTILINE)
    sections = dict(pattern.findall(builder().command_reference()))
    missing = [
        (path, option)
        for path, command in builder().commands(builder().app, "kling-pricing")
        for parameter in command.params
        if isinstance(parameter, click.Option) and not parameter.hidden
        for option in parameter.opts
        if option not in sections[path]
    ]
    assert missing == []


def test_the_reference_shows_each_public_name() -> None:
    """The pages of the Python API contain every name that a package exports, the errors included."""
    pages = builder().api_references()
    for package in builder().PACKAGES:
        module = importlib.import_module(package if package == "kling_pricing" else f"kling_pricing.{package}")
        shown = set(re.findall(r"^::: (?:\w+\.)*(\w+)$", pages[package], re.MULTILINE))
        assert set(module.__all__) - shown == set()


@pytest.mark.parametrize("file", builder().SCHEMAS)
def test_each_key_of_a_file_is_explained(file: str) -> None:
    """Every key of a YAML file has a description in its schema, or stands in a page that people wrote."""

    def undescribed(schema: Any) -> Iterator[str]:
        for part in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
            yield from undescribed(part)
        if isinstance(schema, dict) and isinstance(schema.get("properties"), dict):
            for key, value in schema["properties"].items():
                if not value.get("description"):
                    yield key

    facts = set(FACT_TYPES)  # a page of their own explains them
    assert sorted(set(undescribed(builder().SCHEMAS[file]())) - written_words() - facts) == []


def test_each_metric_is_explained() -> None:
    """The page about the API names every metric."""
    names = set(re.findall(r'"(kling_pricing_[a-z_]+)"', Path(metrics.__file__).read_text("utf-8")))
    names |= {f"kling_pricing_budget_{name}" for name in ("held", "spent", "left")}
    explained = {word.removesuffix("_total") for word in written_words()}
    assert len(names) > 8
    assert names - explained == set()
