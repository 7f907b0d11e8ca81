"""The contents of a report: every output format prints the same document, and none decides what is in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from types import MappingProxyType
from typing import Literal, NamedTuple, TypeAlias

from kling_pricing.reports.charts import Chart, Tone

Cell: TypeAlias = str | int | Decimal | datetime | None
"""One value of a table; None if it is missing."""

Row: TypeAlias = tuple[Cell, ...]
"""The values of a row, in the order of the columns."""

Kind: TypeAlias = Literal["text", "prose", "day", "labels", "count", "amount", "quantity", "percent", "instant"]
"""The values of a column: names, sentences, days, labels as JSON, integers, exact money, exact units, rounded
percents, or times."""

_NOT_NUMBERS = {"text", "prose", "day", "labels", "instant"}


class DisplayName(NamedTuple):
    """The name that people read instead of a code such as `not_billed`, and its tone."""

    title: str
    tone: Tone


class Column(NamedTuple):
    """One column of a table.

    Attributes:
        name: for programs: the heading in CSV, JSON and Parquet.
        title: for people.
        kind: the kind of its values.
        on_page: whether the page shows it, which has less room than a sheet.
        in_print: whether the printed page shows it, which has less room than a screen.
        display_names: code -> the name that people read instead.
        missing: the text that people read where a value is missing.
        keeps_zeros: whether programs get decimals with their trailing zeros, as in `0.80`.
    """

    name: str
    title: str
    kind: Kind = "text"
    on_page: bool = True
    in_print: bool = True
    display_names: Mapping[str, DisplayName] = MappingProxyType({})
    missing: str = ""
    keeps_zeros: bool = False

    @property
    def is_number(self) -> bool:
        """Whether it holds numbers."""
        return self.kind not in _NOT_NUMBERS


class Section(NamedTuple):
    """One table, with its heading.

    Attributes:
        name: for programs: the name of its files.
        title: for people: its heading, and the name of its sheet.
        about: one or two sentences that describe the section.
        columns: its columns.
        rows: returns its rows, always the same in the same order; there may be millions.
        totals: one row per currency, below the table; not in CSV and Parquet, whose readers sum the rows.
        length: the number of rows of a table with a row per task, which may be long; None for other tables.
        in_print: whether the printed page has it. Paper leaves out what a chart shows already.
    """

    name: str
    title: str
    about: str
    columns: tuple[Column, ...]
    rows: Callable[[], Iterable[Row]]
    totals: tuple[Row, ...] = ()
    length: int | None = None
    in_print: bool = True

    @property
    def per_task(self) -> bool:
        """Whether it has a row per task."""
        return self.length is not None


class Figure(NamedTuple):
    """One important number, in large print.

    Attributes:
        title: its name.
        amount: the exact number.
        unit: its currency.
        about: a remark below it.
    """

    title: str
    amount: Decimal
    unit: str
    about: str = ""


class Equation(NamedTuple):
    """Figures of one currency that form an equation: `expected + variance = billed`.

    Attributes:
        figures: from left to right.
        signs: the operators between them; empty: the figures are only next to each other.
    """

    figures: tuple[Figure, ...]
    signs: tuple[str, ...]


class Verdict(NamedTuple):
    """The conclusion of a report.

    Attributes:
        tone: `good`: no action needed; `wait`: not final; `bad`: action needed.
        headline: a few words.
        about: the reason, in a sentence.
    """

    tone: Literal["good", "wait", "bad"]
    headline: str
    about: str


class Fact(NamedTuple):
    """One line of the report's header, such as its period."""

    title: str
    text: str


class Document(NamedTuple):
    """A report.

    Attributes:
        kind: `reconciliation` or `spend`.
        title: its subject and period.
        subtitle: the kind of report, for people.
        verdict: its conclusion.
        facts: the lines of its header.
        equations: its most important numbers, one or several equations per currency.
        charts: its charts.
        sections: its tables, the summary first.
        remarks: sentences below the charts, such as what they leave out.
    """

    kind: str
    title: str
    subtitle: str
    verdict: Verdict
    facts: tuple[Fact, ...]
    equations: tuple[Equation, ...]
    charts: tuple[Chart, ...]
    sections: tuple[Section, ...]
    remarks: tuple[str, ...] = ()
