"""Converting the cells of tables: equal cells of a column are converted only once for each block of rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

from kling_pricing.reports.document import Cell, Column

_Converted = TypeVar("_Converted")

_BLOCK = 500
"""The number of rows in a block."""


def convert_rows(
    columns: Sequence[Column],
    rows: Iterable[Sequence[Cell]],
    converters: Sequence[Callable[[Cell], _Converted]],
) -> Iterator[tuple[_Converted, ...]]:
    """Yields each row with its cells converted.

    Args:
        columns: the columns.
        rows: the rows; they are read a block at a time.
        converters: for each column, the function that converts its cells. It must treat equal cells alike,
            unless the column keeps zeros.
    """
    rest = iter(rows)
    while block := list(islice(rest, _BLOCK)):
        converted: list[Iterable[_Converted]] = []
        for column, convert, cells in zip(columns, converters, zip(*block, strict=True), strict=True):
            if column.keeps_zeros:  # equal amounts may have different zeros
                converted.append(map(convert, cells))
            else:
                known = {cell: convert(cell) for cell in dict.fromkeys(cells)}
                converted.append(map(known.__getitem__, cells))
        yield from zip(*converted, strict=True)
