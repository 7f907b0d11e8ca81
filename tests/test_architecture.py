"""What must be true of the source itself."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import kling_pricing
from kling_pricing import PriceBook
from kling_pricing.wire.formats import NAMES as WIRE_FORMATS

PACKAGE = Path(str(kling_pricing.__file__)).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
TESTS = sorted(Path(__file__).parent.glob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_module_names_a_model_or_a_provider(path: Path, book: PriceBook) -> None:
    """Every model, alias and provider is data: no literal of the code, and no identifier, is one of them."""
    names = set(book.tables) - set(WIRE_FORMATS)  # a format's name is its file's, and may be its provider's
    for matrix in book.matrices.values():
        names |= set(matrix.models) | set(matrix.names)
    tree = ast.parse(path.read_text(encoding="utf-8"))
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    literals = [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings
    ]
    found = {name for name in names for literal in literals if re.search(rf"\b{re.escape(name)}\b", literal)}
    assert found == set()


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_float_in_the_code(path: Path) -> None:
    """No module makes a float: no literal, no `float(...)`."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    floats = [
        node for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, float)
    ]
    calls = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "float"
    ]
    assert (floats, calls) == ([], [])


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.name)
def test_every_test_says_in_a_sentence_what_it_shows(path: Path) -> None:
    """Each test function has a docstring that ends in a full stop."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            assert (ast.get_docstring(node) or "").split("\n")[0].endswith("."), node.name


def test_importing_the_library_imports_nothing_optional_or_heavy() -> None:
    """`import kling_pricing` brings in no YAML, no pydantic, no command line, no database, no network."""
    heavy = ["yaml", "pydantic", "click", "rich", "sqlite3", "http.client", "urllib.request", "asyncio"]
    code = f"import sys, kling_pricing; print([name for name in {heavy!r} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
