"""The pydantic model of a mapping, `statements/<name>.yaml`: the meaning of a statement's columns."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field, model_validator

from kling_pricing.reconcile.aggregates.sum_columns import AggregatesEntry
from kling_pricing.reconcile.statement_columns import (
    AmountEntry,
    AnswersEntry,
    ColumnEntry,
    ColumnsEntry,
    RequiredColumnEntry,
)
from kling_pricing.reconcile.totals_rows import TotalsEntry
from kling_pricing.strict_yaml import FileModel, Name, Text
from kling_pricing.tables.loading.files import SourceEntry


class StatementFile(FileModel):
    """One kind of statement: `statements/<name>.yaml`."""

    statement: Name
    about: Text = Field(description="A description of the statement, in one sentence.")
    providers: list[Name] = Field(
        [],
        description="The providers that issue such statements. If the list is empty, the mapping is tried for "
        "every provider whose own mappings do not match.",
    )
    sources: Annotated[list[SourceEntry], Field(min_length=1)]
    rows: list[Text] = Field(
        [], description="Paths at which a JSON object may hold the list of rows, such as data.result.detail."
    )
    where: dict[Text, Annotated[list[Text], Field(min_length=1)]] = Field(
        {},
        description="For each column, the values that mark a row as a charge. Rows with any other value are "
        "skipped.",
    )
    totals: list[TotalsEntry] = Field(
        [],
        description="The columns that mark a row as a total, which is compared with the sum of the other rows. "
        "A row whose task id is a word such as Total is always a total.",
    )
    without: list[Text] = Field(
        [],
        description="Columns that such a statement never has. A file with any of these columns is a different "
        "kind of statement.",
    )
    delimiter: Annotated[str, Field(pattern=r"^[,;|\t]$")] | None = Field(
        None,
        description="The column delimiter in CSV. Null means the delimiter with which the file's columns "
        "match this mapping.",
    )
    decimal: Literal[".", ","] | None = Field(
        None,
        description="The decimal separator in CSV. Null means that the separator is detected from the amounts.",
    )
    thousands: Literal[",", ".", " ", "'"] | None = Field(
        None,
        description="The thousands separator in amounts that are text. Null means that an amount with such a "
        "separator is read only if no other reading is possible.",
    )
    sheet: Text | None = Field(
        None,
        description="The sheet to read from a workbook. Default: the only sheet with the columns of this "
        "mapping.",
    )
    columns: ColumnsEntry | None = None
    answers: AnswersEntry | None = None
    aggregates: AggregatesEntry | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> StatementFile:
        if sum(kind is not None for kind in (self.columns, self.answers, self.aggregates)) != 1:
            raise ValueError("give one of `columns`, `answers` and `aggregates`")
        if self.answers is not None and self.totals:
            raise ValueError("responses have no totals; remove `totals`")
        if self.thousands is not None and self.thousands == (self.decimal or "."):
            raise ValueError("`thousands` is the same as the decimal separator; also give the right `decimal`")
        return self

    @property
    def amount(self) -> AmountEntry | None:
        """The column with the amount; None: the rows are responses."""
        kind = self.columns or self.aggregates
        return None if kind is None else kind.amount

    @property
    def needed(self) -> tuple[tuple[str, ...], ...]:
        """The names of each column that every statement of this kind has."""
        amount = self.amount
        if amount is None:
            return ()
        named = [amount.columns, *((column,) for column in self.where)]
        named += [entry.columns for entry in self.totals]
        if self.columns is not None:
            named.insert(0, self.columns.task_id.columns)
        if amount.unit_column is not None and amount.unit is None:
            named.append((amount.unit_column,))
        named += [entry.columns for entry in self._others() if not getattr(entry, "optional", False)]
        return tuple(dict.fromkeys(named))

    @property
    def read(self) -> tuple[str, ...]:
        """Every column that is read if the statement has it."""
        unit_column = self.amount and self.amount.unit_column
        names = [
            *self.needed,
            (unit_column,) if unit_column else (),
            *(entry.columns for entry in self._others()),
        ]
        return tuple(dict.fromkeys(name for group in names for name in group))

    def _others(self) -> Iterator[ColumnEntry | RequiredColumnEntry]:
        columns, aggregates = self.columns, self.aggregates
        if aggregates is not None:
            yield from aggregates.keys
            yield from filter(None, (aggregates.tasks, aggregates.amount.sign))
        if columns is not None:
            named = (columns.billed_at, columns.submitted_at, columns.model, columns.resolution)
            rest = (columns.duration_s, columns.state, columns.amount.sign, columns.row_id)
            yield from filter(None, (*named, *rest, *columns.facts))
            if columns.precharge is not None:
                yield from (columns.precharge.final, columns.precharge.taken, columns.precharge.refund)
        elif self.answers is not None and self.answers.submitted_at is not None:
            yield self.answers.submitted_at
