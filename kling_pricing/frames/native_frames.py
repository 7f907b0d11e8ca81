"""The kinds of data frames: how each finds equal rows, and how it holds exact amounts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Literal, NamedTuple, TypeAlias

import narwhals as nw

from kling_pricing.display import joined_with_or
from kling_pricing.errors import KlingPricingError
from kling_pricing.frames.row_payloads import plain
from kling_pricing.money import MAX_DECIMALS

Kind: TypeAlias = Literal["decimal", "text", "boolean", "number"]
"""The kind of the values in a column of answers."""

_PRECISION = 38
"""The number of digits of a decimal in 128 bits."""


class RowGroups(NamedTuple):
    """The groups of equal rows.

    Attributes:
        first_rows: the number of the first row of each group.
        group_of: the group of each row, as the frame's library holds whole numbers.
    """

    first_rows: Sequence[int]
    group_of: Any


class NativeFrame(ABC):
    """A data frame of one library.

    Args:
        frame: the frame.
    """

    def __init__(self, frame: nw.DataFrame[Any]) -> None:
        self._frame = frame
        self._native = frame.to_native()

    @property
    def columns(self) -> list[str]:
        """The names of the columns."""
        return self._frame.columns

    def rows(self, numbers: Sequence[int], columns: list[str]) -> Iterable[dict[str, Any]]:
        """Yields some rows as column -> value; a missing value is None."""
        if not columns:
            return [{} for _ in numbers]
        chosen = self._frame.select(columns)[[*numbers]]
        missing = chosen.select(nw.all().is_null())
        return [
            {name: None if missing_row[name] else value for name, value in row.items()}
            for row, missing_row in zip(
                chosen.iter_rows(named=True), missing.iter_rows(named=True), strict=True
            )
        ]

    @abstractmethod
    def groups(self, columns: list[str]) -> RowGroups:
        """Returns the groups of rows that are equal in some columns; without columns, all rows are equal."""

    @abstractmethod
    def spread(self, table: Mapping[str, list[Any]], kinds: Mapping[str, Kind], groups: RowGroups) -> Any:
        """Returns a frame with a row for each row of this one: the values of its group.

        Args:
            table: column -> the value for each group.
            kinds: column -> the kind of its values.
            groups: the groups.
        """


class _PolarsFrame(NativeFrame):
    """A frame of Polars."""

    def groups(self, columns: list[str]) -> RowGroups:
        import polars as pl  # noqa: PLC0415 (the user's library)

        if not columns:
            return RowGroups(
                range(min(len(self._native), 1)), pl.zeros(len(self._native), pl.UInt32, eager=True)
            )
        row = nw.generate_temporary_column_name(8, columns)
        numbered = self._native.select(columns).with_row_index(row)
        first = numbered.select(pl.col(row).min().over(columns)).to_series()
        return RowGroups(first.unique().sort().to_list(), first.rank("dense") - 1)

    def spread(self, table: Mapping[str, list[Any]], kinds: Mapping[str, Kind], groups: RowGroups) -> Any:
        import polars as pl  # noqa: PLC0415 (the user's library)

        types: dict[Kind, Any] = {"text": pl.String, "boolean": pl.Boolean, "number": pl.Int64}
        columns = [
            pl.Series(
                name,
                values,
                pl.Decimal(_PRECISION, _scale(values)) if kinds[name] == "decimal" else types[kinds[name]],
            )
            for name, values in table.items()
        ]
        return pl.DataFrame(columns)[groups.group_of]


class _ArrowFrame(NativeFrame):
    """A table of PyArrow."""

    def groups(self, columns: list[str]) -> RowGroups:
        import pyarrow as pa  # noqa: PLC0415 (the user's library)
        import pyarrow.compute as pc  # noqa: PLC0415

        rows = len(self._native)
        codes = pa.repeat(pa.scalar(0, pa.int64()), rows)
        for column in columns:
            values = self._native[column]
            if pa.types.is_nested(values.type):
                values = pa.chunked_array([pa.array(map(repr, values.to_pylist()), pa.string())])
            elif pa.types.is_dictionary(values.type):
                values = values.cast(values.type.value_type)
            encoded = values.combine_chunks().dictionary_encode(null_encoding="encode")
            both = pc.add(pc.multiply(codes, max(len(encoded.dictionary), 1)), encoded.indices.cast(pa.int64()))
            codes = both.dictionary_encode().indices.cast(pa.int64())
        numbered = pa.table({"code": codes, "row": pa.array(range(rows), pa.int64())})
        firsts = numbered.group_by("code").aggregate([("row", "min")]).sort_by("code")
        return RowGroups(firsts["row_min"].to_pylist(), codes)

    def spread(self, table: Mapping[str, list[Any]], kinds: Mapping[str, Kind], groups: RowGroups) -> Any:
        import pyarrow as pa  # noqa: PLC0415 (the user's library)

        types: dict[Kind, Any] = {"text": pa.string(), "boolean": pa.bool_(), "number": pa.int64()}
        columns = {
            name: pa.array(
                values,
                pa.decimal128(_PRECISION, _scale(values)) if kinds[name] == "decimal" else types[kinds[name]],
            )
            for name, values in table.items()
        }
        return pa.table(columns).take(groups.group_of)


class _PandasFrame(NativeFrame):
    """A frame of pandas."""

    def groups(self, columns: list[str]) -> RowGroups:
        import numpy as np  # noqa: PLC0415 (pandas needs it)
        import pandas as pd  # noqa: PLC0415 (the user's library)

        rows = len(self._native)
        codes, count = np.zeros(rows, np.int64), min(rows, 1)
        for column in columns:
            found, values = pd.factorize(_hashable(self._native[column]), use_na_sentinel=False)
            codes, kept = pd.factorize(codes * max(len(values), 1) + found)
            count = len(kept)
        firsts = np.empty(count, np.int64)
        firsts[codes[::-1]] = np.arange(rows - 1, -1, -1)  # of equal codes, the last assignment counts
        return RowGroups(firsts.tolist(), codes)

    def spread(self, table: Mapping[str, list[Any]], kinds: Mapping[str, Kind], groups: RowGroups) -> Any:
        import pandas as pd  # noqa: PLC0415 (the user's library)

        index = self._native.index
        columns = {
            name: pd.Series(_pandas_array(values, kinds[name]).take(groups.group_of), index=index)
            for name, values in table.items()
        }
        return pd.DataFrame(columns, index=index)


def _hashable(column: Any) -> Any:
    """Returns a column whose values can be hashed, and are equal exactly if those of another column are."""
    from pandas.api.types import infer_dtype  # noqa: PLC0415 (the user's library)

    if column.dtype != object:
        is_nested = any(kind in str(column.dtype) for kind in ("list", "struct"))
    else:  # to Python, `True`, 1 and 1.0 are equal
        is_nested = infer_dtype(column, skipna=True) not in _ALIKE
    return column.map(lambda value: repr(plain(value))) if is_nested else column


_ALIKE = {"string", "boolean", "integer", "decimal", "empty"}
"""The kinds of objects that are equal only if they are the same in JSON."""


def _pandas_array(values: list[Any], kind: Kind) -> Any:
    """Returns values as an array of pandas; decimals are those of PyArrow if it is installed."""
    import pandas as pd  # noqa: PLC0415 (the user's library)

    if kind == "boolean":
        return pd.array(values, dtype="bool")
    if kind == "number":
        return pd.array(values, dtype="int64")
    if kind == "text":
        has_text_type = int(pd.__version__.partition(".")[0]) >= _FIRST_PANDAS_WITH_TEXT
        return pd.array(values, dtype="str" if has_text_type else object)
    try:
        import pyarrow as pa  # noqa: PLC0415 (may be missing)
    except ModuleNotFoundError:
        return pd.array(values, dtype=object)
    return pd.array(values, dtype=pd.ArrowDtype(pa.decimal128(_PRECISION, _scale(values))))


_FIRST_PANDAS_WITH_TEXT = 3


def _scale(values: Iterable[Decimal | None]) -> int:
    """Returns the decimal places of a column: those of published prices, or twice as many if it needs more."""
    exponents = [int(value.normalize().as_tuple().exponent) for value in values if value is not None]
    return MAX_DECIMALS if all(exponent >= -MAX_DECIMALS for exponent in exponents) else 2 * MAX_DECIMALS


_KINDS: Mapping[nw.Implementation, type[NativeFrame]] = {
    nw.Implementation.PANDAS: _PandasFrame,
    nw.Implementation.POLARS: _PolarsFrame,
    nw.Implementation.PYARROW: _ArrowFrame,
}


def native_frame(frame: Any) -> NativeFrame:
    """Returns a data frame with the functions of its library.

    Raises:
        KlingPricingError: it is not a frame of one of the libraries, it is lazy, or two columns have one name.
    """
    names = joined_with_or(("pandas", "Polars", "PyArrow"))
    try:
        read = nw.from_native(frame)
    except TypeError:
        raise KlingPricingError(f"frame must be a data frame of {names}, got {type(frame).__name__}") from None
    except nw.exceptions.NarwhalsError as error:
        raise KlingPricingError(f"the frame cannot be used: {error}") from None
    if isinstance(read, nw.LazyFrame):
        raise KlingPricingError("frame is lazy; call `collect()` on it first")
    kind = _KINDS.get(read.implementation)
    if kind is None:
        raise KlingPricingError(
            f"frame must be a data frame of {names}, got one of {read.implementation.value}; convert it first"
        )
    if not all(isinstance(name, str) for name in read.columns):
        raise KlingPricingError("the names of the frame's columns must be text; rename them first")
    return kind(read)
