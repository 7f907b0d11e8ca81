"""Reads statements in Parquet through the database; the column of an amount must have an exact type."""

from __future__ import annotations

from collections.abc import Sequence

from kling_pricing.reconcile.files.file_reader import DATE_CELL, FileReader, RowSource, column_name
from kling_pricing.reconcile.staging import literal
from kling_pricing.reconcile.workspace import WorkspaceError

_MAGIC = b"PAR1"
_INTEGERS = {"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT"}
_WHOLE = _INTEGERS | {f"U{kind}" for kind in _INTEGERS}
_ROUNDED = {"FLOAT", "DOUBLE"}


class ParquetReader(FileReader):
    """A reader of one Parquet file."""

    def header(self) -> Sequence[str]:
        """See `FileReader.header`."""
        return [*map(column_name, self._types())]

    def source(self, columns: Sequence[str], exact: Sequence[str]) -> RowSource:
        """See `FileReader.source`."""
        types = self._types()
        for name in exact:
            kind = next((kind for written, kind in types.items() if column_name(written) == name), None)
            if kind in _ROUNDED:
                problem = f"has the type {kind}, which rounds values; export it as text, integers or decimals"
                raise self.error(problem, column=name)
        names = list(types)
        cells = self.cells(self.header(), columns)
        texts = {
            name: self._text(names[place], types[names[place]])
            if not path
            else self._nested(names[place], types[names[place]], path)
            for name, (place, path) in cells.items()
        }
        broken = " ".join(
            f"WHEN NOT json_valid(nullif({self._text(names[place], types[names[place]])}, '')) "
            f"THEN {literal(f'{name} is not valid JSON text')}"
            for name, (place, path) in cells.items()
            if path
        )
        return RowSource(self._relation, texts, fault=f"CASE {broken} END" if broken else "NULL")

    @property
    def _relation(self) -> str:
        return f"read_parquet({self.literal_path}, hive_partitioning = false)"

    def _types(self) -> dict[str, str]:
        with self.path.open("rb") as file:
            if file.read(len(_MAGIC)) != _MAGIC:
                raise self.error("is not a Parquet file")
        try:
            columns = self.workspace.all(f"DESCRIBE SELECT * FROM {self._relation}")
        except WorkspaceError as error:
            raise self.error(f"cannot be read as Parquet ({error})") from None
        return {name: kind for name, kind, *_ in columns}

    def _nested(self, name: str, kind: str, path: str) -> str:
        """Returns the SQL of the text at a path within JSON text."""
        steps = "".join(f'."{step}"' for step in path.split("."))
        text = self._text(name, kind)
        return f"CASE WHEN json_valid({text}) THEN json_extract_string({text}, {literal(f'${steps}')}) END"

    def _text(self, name: str, kind: str) -> str:
        doubled = name.replace('"', '""')
        column = f'"{doubled}"'
        if kind == "VARCHAR":
            return column
        if kind == '"NULL"':
            return "NULL::VARCHAR"
        if kind == "DATE":
            return f"('{DATE_CELL}' || CAST({column} AS VARCHAR))"
        if kind in _WHOLE | _ROUNDED | {"BOOLEAN"}:
            return f"CAST({column} AS VARCHAR)"
        if kind.startswith("DECIMAL"):
            text = f"CAST({column} AS VARCHAR)"
            return f"CASE WHEN contains({text}, '.') THEN rtrim(rtrim({text}, '0'), '.') ELSE {text} END"
        if kind.startswith("TIMESTAMP"):
            zone = "'+00:00'" if kind == "TIMESTAMP WITH TIME ZONE" else "''"
            return f"('{DATE_CELL}' || CAST(make_timestamp(epoch_us({column})) AS VARCHAR) || {zone})"
        raise self.error(f"has the type {kind}; export it as text", column=name)
