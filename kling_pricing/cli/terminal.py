"""Prints tables and progress on a terminal, with `rich`, which is slow to import."""

from __future__ import annotations

import sys
from typing import Any

from rich.console import Console
from rich.progress import Progress, ProgressColumn, TextColumn
from rich.table import Table
from rich.text import Text

from kling_pricing.display import printable

_UNLIMITED = 10_000


def print_table(grid: Table) -> None:
    """Prints a table. On a narrow terminal, prints each cell on its own line, so that nothing is cut off."""
    console = wide_console()
    measured = console.measure(grid, options=console.options.update(width=_UNLIMITED))
    # rich takes the cells of a column that does not wrap for as narrow as their longest word, and cuts them off
    needed = measured.maximum if all(column.no_wrap for column in grid.columns) else measured.minimum
    if needed <= console.width:
        console.print(grid)
        return
    if grid.title is not None:
        console.print(grid.title, style="italic", highlight=False)
    names = [str(column.header) for column in grid.columns]
    widest = max(map(len, names))
    for cells in zip(*(column.cells for column in grid.columns), strict=True):
        for name, cell in zip(names, cells, strict=True):
            text = cell if isinstance(cell, Text) else Text(printable(str(cell)))
            console.print(Text.assemble(printable(f"{name:<{widest}}  "), text), soft_wrap=True)
        console.print()


class _PlainConsole(Console):
    """A console that prints text as it is: square brackets are no markup, and control characters are shown."""

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(printable(text), **options | {"markup": False, "emoji": False})


def wide_console() -> Console:
    """Returns a console as wide as the terminal. In a file or pipe, it is wide enough for every table."""
    return _PlainConsole(width=None if sys.stdout.isatty() else 160)


def bar_columns() -> tuple[ProgressColumn, ...]:
    """Returns the columns of a progress bar; labels are text and not markup."""
    label = TextColumn("{task.description}", style="progress.description", markup=False)
    return (label, *Progress.get_default_columns()[1:])
