"""Loads budgets from a file, from objects, or from a revision in the ledger."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeAlias

from pydantic import ValidationError

from kling_pricing.budgets.budgets_file import BudgetsFile, unordered_digest
from kling_pricing.budgets.checking import contradictions
from kling_pricing.budgets.entries import INSTALLED
from kling_pricing.budgets.objects import Budget, Budgets
from kling_pricing.errors import BudgetError, TableError, TableProblems
from kling_pricing.strict_yaml import checked, explained, key_path, load

BudgetsLike: TypeAlias = "str | Path | BudgetsFile | Iterable[Budget]"
"""The path of a budgets file, or the budgets themselves."""


def load_budgets(path: str | Path) -> BudgetsFile:
    """Reads a budgets file, as strictly as a price table.

    Raises:
        BudgetError: the file cannot be read or is invalid; the error carries the file, line and key path, and
            `others` has the other mistakes in the file.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise BudgetError(f"cannot be read: {error.strerror}", file=str(path)) from None
    return budgets_from_text(data, name=str(path))


def budgets_from_text(data: bytes, *, name: str) -> BudgetsFile:
    """Reads the text of a budgets file, as `load_budgets` does.

    Args:
        data: the text in UTF-8.
        name: the name of the text in errors.

    Raises:
        BudgetError: the text is invalid; see `load_budgets`.
    """
    problems = TableProblems()
    with problems.collected():
        document = load(data, name=name)
        with problems.collected():
            budgets = checked(document, BudgetsFile)
        problems += [document.error(place, problem) for place, problem in contradictions(document.tree)]
    if problems:
        problems.sort(key=lambda problem: problem.line or 0)
        raise _located(problems.first())
    return budgets


def _located(error: TableError) -> BudgetError:
    """Returns the error about a budgets file, with all other errors that the file has."""
    first, *others = [
        BudgetError(problem.problem, file=problem.file, line=problem.line, key_path=problem.key_path)
        for problem in error.problems
    ]
    first.others = tuple(others)
    return first


def read_budgets(budgets: BudgetsLike) -> BudgetsFile:
    """Returns budgets from a file or from objects.

    Raises:
        BudgetError: the budgets are invalid.
    """
    if isinstance(budgets, BudgetsFile):
        return budgets
    if isinstance(budgets, str | Path):
        return load_budgets(budgets)
    return Budgets(budgets)


def budgets_from_document(document: str) -> BudgetsFile:
    """Returns the budgets in the document of a ledger's revision.

    Raises:
        BudgetError: this version or this machine cannot use the budgets.
    """
    try:
        tree = json.loads(document)
        for budget in tree["budgets"]:
            if not budget.get("carry_over", True):
                del budget["carry_over"]  # a default, which the administrator may not have given
        return BudgetsFile.model_validate(tree, context=INSTALLED)
    except ValidationError as error:
        path, problem = explained(error.errors(include_url=False)[0])
        raise BudgetError(
            f"this version of kling-pricing or this machine cannot use the ledger's budgets: "
            f"{key_path(path)}: {problem}"
        ) from None


def is_digest_of(digest: str, document: str) -> bool:
    """Returns whether a revision's digest is the digest of its document.

    Ledgers of schema version 1 took the digest of the whole document, defaults included.

    Raises:
        BudgetError: this version, or this machine, cannot use the budgets.
    """
    return digest in {budgets_from_document(document).digest, unordered_digest(json.loads(document))}


def budgets_file_schema() -> dict[str, Any]:
    """Returns the JSON Schema of a budgets file."""
    return BudgetsFile.model_json_schema()
