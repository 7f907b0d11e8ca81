"""Builds the documentation as a website, which works offline and can be searched.

Run it in a clone::

    pip install -e '.[all,docs]' && python docs/site/build_site.py

It needs npm, and writes the folder `site`; open `site/index.html` in a browser.
The website contains the README, `docs/`, the changelog and the benchmarks as they are.
It also contains two references: one of the command line, made from the help texts, and one of the Python API,
made from the docstrings.
A broken link is an error.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import griffe
import yaml

from kling_pricing.budgets import budgets_file_schema
from kling_pricing.cli.app import app
from kling_pricing.reconcile.mappings import statement_file_schema
from kling_pricing.server.server_settings import settings_schema
from kling_pricing.tables.loading.capability_file import capability_file_schema
from kling_pricing.tables.loading.files import price_file_schema, provider_file_schema

ROOT = Path(__file__).resolve().parents[2]
COPIED = ("README.md", "CHANGELOG.md", "LICENSE", "docs", "examples", "benchmarks/README.md")
"""The files and folders that the website contains, at the same paths, so that the links between them work."""

PACKAGES = ("kling_pricing", "frames", "guard", "budgets", "alerts", "reconcile", "reports", "sandbox")
"""The packages whose public names the reference of the Python API lists."""

HOOKS = ("httpx", "requests", "aiohttp", "webhooks", "recovery")
"""The public modules of `kling_pricing.hooks`."""

SHIM_ADDRESS, SHIM = "https://unpkg.com/iframe-worker/shim", "iframe-worker.js"
"""The script that pages load so that their search works when they are opened from a folder, and its copy."""

SCHEMAS: Mapping[str, Callable[[], dict[str, Any]]] = {
    "Budgets": budgets_file_schema,
    "Server": settings_schema,
    "Mapping of a statement": statement_file_schema,
    "Price table": price_file_schema,
    "Provider of price tables": provider_file_schema,
    "Capabilities of an API": capability_file_schema,
}
"""The files that people write, each with the function that returns its JSON Schema."""

HELP_WIDTH = 80
"""The width of the help texts, in characters."""


def command_reference() -> str:
    """Returns the page with the help text of every command."""
    parts = ["# Command line", "To see the help of a command in a terminal, add `--help` to it."]
    for path, command in commands(app, "kling-pricing"):
        context = click.Context(command, info_name=path, terminal_width=HELP_WIDTH)
        parts += [f"## {path}", f"```text\n{command.get_help(context)}\n```"]
    return "\n\n".join(parts) + "\n"


def commands(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    """Yields a command and all of its subcommands, each with its full name."""
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command, info_name=path)
        for name in command.list_commands(context):
            subcommand = command.get_command(context, name)
            if subcommand is not None and not subcommand.hidden:
                yield from commands(subcommand, f"{path} {name}")


def api_references() -> dict[str, str]:
    """Returns the pages of the Python API by the name of their package."""
    package = griffe.load("kling_pricing", search_paths=[ROOT], resolve_aliases=True)
    pages = {}
    for name in PACKAGES:
        module = package if name == package.path else package[name]
        exports = [str(export) for export in module.exports or ()]
        pages[name] = _page(module, [module[export].canonical_path for export in exports])
    hooks = package["hooks"]
    pages["hooks"] = _page(hooks, [hooks[name].canonical_path for name in HOOKS])
    return pages


def _page(module: griffe.Object | griffe.Alias, paths: Sequence[str]) -> str:
    introduction = module.docstring.value if module.docstring is not None else ""
    return "\n\n".join([f"# {module.path}", introduction, *(f"::: {path}" for path in paths)]) + "\n"


def file_reference() -> str:
    """Returns the page that lists every key of every YAML file, made from the schemas of the files."""
    parts = [
        "# YAML files",
        "These tables list the keys of each file. Each file also has a JSON Schema for editors.",
    ]
    for title, schema in SCHEMAS.items():
        document = schema()
        parts.append(f"## {title}")
        models = {"": document, **document.get("$defs", {})}
        for name, model in models.items():
            if "properties" in model:
                parts += [f"### {name}"] if name else []
                parts += [model.get("description", ""), _keys(model)]
    return "\n\n".join(parts) + "\n"


def _keys(model: Mapping[str, Any]) -> str:
    rows = ["| key | default | meaning |", "|---|---|---|"]
    for key, schema in model["properties"].items():
        default = "required" if key in model.get("required", ()) else f"`{json.dumps(schema.get('default'))}`"
        rows.append(f"| `{key}` | {_cell(default)} | {_cell(schema.get('description', ''))} |")
    return "\n".join(rows)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def write_source(folder: Path) -> None:
    """Copies the pages into an empty folder, and writes the references there."""
    for name in COPIED:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copyfile
        copy(ROOT / name, folder / name)
    shutil.rmtree(folder / "docs" / "site")
    (folder / "README.md").rename(folder / "index.md")
    reference = folder / "reference"
    reference.mkdir()
    (reference / "command-line.md").write_text(command_reference(), encoding="utf-8")
    (reference / "files.md").write_text(file_reference(), encoding="utf-8")
    (reference / "facts.md").write_text("# Facts\n\n::: kling_pricing.wire.facts.Facts\n", encoding="utf-8")
    for name, text in api_references().items():
        (reference / f"{name}.md").write_text(text, encoding="utf-8")


def build(target: Path) -> None:
    """Builds the website in a folder, and replaces what the folder contains.

    Raises:
        subprocess.CalledProcessError: a link is broken, or a page cannot be built.
    """
    configuration: dict[str, Any] = yaml.safe_load((Path(__file__).with_name("mkdocs.yml")).read_text("utf-8"))
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        (work / "pages").mkdir()
        write_source(work / "pages")
        configuration |= {"docs_dir": "pages", "site_dir": "built"}
        configuration["plugins"][-1]["mkdocstrings"]["handlers"]["python"]["paths"] = [str(ROOT)]
        (work / "mkdocs.yml").write_text(yaml.safe_dump(configuration, sort_keys=False), encoding="utf-8")
        subprocess.run([sys.executable, "-m", "zensical", "build", "--strict"], check=True, cwd=work)
        bundle_search(work / "built")
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(work / "built", target)


def bundle_search(built: Path) -> None:
    """Replaces the one script that pages would load from elsewhere with a copy.

    Browsers do not let the search of a page that was opened from a folder use a worker, unless this script
    replaces the worker with a frame.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = ["npm", "install", "--silent", "--no-save", "--prefix", folder, "iframe-worker@1"]
        subprocess.run(command, check=True)  # noqa: S603
        shutil.copyfile(Path(folder, "node_modules/iframe-worker/shim/index.js"), built / "assets" / SHIM)
    for page in built.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        to_root = "../" * len(page.relative_to(built).parent.parts)
        page.write_text(text.replace(SHIM_ADDRESS, f"{to_root}assets/{SHIM}"), encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Builds the documentation as a website.")
    parser.add_argument("--out", type=Path, default=ROOT / "site", help="the folder to write (default: site)")
    build(parser.parse_args().out)
