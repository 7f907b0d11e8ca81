"""What must be true of the source itself."""

import ast
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import kling_pricing
from kling_pricing import PriceBook
from kling_pricing.wire.formats import NAMES as WIRE_FORMATS

PACKAGE = Path(str(kling_pricing.__file__)).parent
MODULES = {str(path.relative_to(PACKAGE)): path for path in sorted(PACKAGE.rglob("*.py"))}
TESTS = sorted(Path(__file__).parent.glob("*.py"))
PAGE = Path(__file__).parent.parent / "docs" / "architecture.md"

MAX_LINES = 400
MAX_LOOSE_FILES = 10

PARALLEL_FOLDERS = (
    {"ledger/sqlite", "ledger/postgres"},
    {"reconcile/files", "reports/formats"},
    {"wire/formats", "sandbox/faces"},
)
"""Folders that hold the same choice twice: two stores, files that come in and go out, two ends of an API."""

ONE_PER_STAGE = {"__init__.py", "errors.py", "model.py"}
"""File names that mean the same thing wherever they stand."""


def trees() -> Iterator[tuple[str, ast.Module]]:
    """Yields the name and the syntax tree of every module of the package."""
    for name, path in MODULES.items():
        yield name, ast.parse(path.read_text(encoding="utf-8"))


def docstrings_of(tree: ast.Module) -> set[int]:
    """Returns the identities of the docstring nodes of a module."""
    return {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }


def test_no_module_names_a_model_or_a_provider(book: PriceBook) -> None:
    """Every model, alias and provider is data: no literal in the code contains one of them."""
    names = set(book.tables) - set(WIRE_FORMATS)  # a wire format's name may also be its provider's
    for matrix in book.matrices.values():
        names |= set(matrix.models) | set(matrix.names)
    named = re.compile(rf"\b(?:{'|'.join(map(re.escape, sorted(names)))})\b")
    offenders = []
    for module, tree in trees():
        docstrings = docstrings_of(tree)
        offenders += [
            f"{module}:{node.lineno}: {node.value!r}"
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and id(node) not in docstrings
            and named.search(node.value)
        ]
    assert offenders == []


def test_no_float_in_the_code() -> None:
    """No module contains a float literal or a call of `float`."""
    offenders = [
        f"{module}:{node.lineno}"
        for module, tree in trees()
        for node in ast.walk(tree)
        if (isinstance(node, ast.Constant) and isinstance(node.value, float))
        or (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "float")
    ]
    assert offenders == []


def test_every_test_states_what_it_proves() -> None:
    """Each test function has a docstring whose first line is a sentence."""
    offenders = [
        f"{path.name}: {node.name}"
        for path in TESTS
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
        and not (ast.get_docstring(node) or "").split("\n")[0].endswith(".")
    ]
    assert offenders == []


def test_no_class_name_stands_for_two_things() -> None:
    """Every class in the package has a name of its own."""
    places = defaultdict(list)
    for module, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(f"{module}:{node.lineno}")
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


def test_no_file_name_stands_for_two_things() -> None:
    """A file name is used twice only in folders that hold parallel choices, or where it means the same."""
    folders = defaultdict(set)
    for module in MODULES:
        folder, _, name = module.rpartition("/")
        folders[name].add(folder)
    assert {
        name: found
        for name, found in folders.items()
        if len(found) > 1 and name not in ONE_PER_STAGE and found not in PARALLEL_FOLDERS
    } == {}


def test_the_root_holds_few_files_and_no_file_is_long() -> None:
    """At most ten files stand beside the stages, and no file has more than 400 lines."""
    loose = [module for module in MODULES if "/" not in module]
    long = {module for module, path in MODULES.items() if path.read_text().count("\n") > MAX_LINES}
    assert (len(loose) <= MAX_LOOSE_FILES, long) == (True, set())


def test_the_architecture_page_names_every_stage_and_root_module() -> None:
    """The map names every folder and every root module, and no file that does not exist."""
    named = set(re.findall(r"`([a-z_/0-9]+(?:/|\.py|\.sql))`", PAGE.read_text(encoding="utf-8")))
    folders = {
        f"{path.relative_to(PACKAGE)}/" for path in PACKAGE.rglob("*") if path.is_dir() and [*path.glob("*.py")]
    }
    modules = {module for module in MODULES if "/" not in module}
    known = folders | set(MODULES) | {str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.sql")}
    assert ((folders | modules) - named, named - known) == (set(), set())


def test_importing_the_library_imports_nothing_optional_or_heavy() -> None:
    """`import kling_pricing` brings in no YAML, no pydantic, no command line, no database, no network."""
    heavy = ["yaml", "pydantic", "click", "rich", "sqlite3", "http.client", "urllib.request", "asyncio"]
    code = f"import sys, kling_pricing; print([name for name in {heavy!r} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
