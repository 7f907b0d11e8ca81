"""Reads a statement without a ledger. It imports no test tools, so processes with little memory can use it."""

from pathlib import Path

from kling_pricing import load_price_book
from kling_pricing.reconcile.statements import Statement, read_statements
from kling_pricing.reconcile.workspace import Workspace

BOOK = load_price_book()


def read(path: Path, folder: Path) -> list[Statement]:
    """Reads a statement into a database of its own."""
    workspace = Workspace(folder=folder)
    try:
        return read_statements(
            workspace,
            [path],
            provider="qingbo",
            book=BOOK,
            mapping="qingbo-tasks",
            units=["quota"],
            currency="USD",
            encoding=None,
            on_bytes=lambda _done, _total: None,
        )
    finally:
        workspace.close()
