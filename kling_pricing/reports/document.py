"""What a report shows: every format prints the same document, and none decides what is in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from types import MappingProxyType
from typing import Literal, NamedTuple, TypeAlias

from kling_pricing.reports.charts import Chart, Tone

Cell: TypeAlias = str | int | Decimal | datetime | None
"""One value of a table; None: there is none."""

Row: TypeAlias = tuple[Cell, ...]
"""The values of a table's row, in the order of its columns."""

Kind: TypeAlias = Literal["text", "prose", "count", "amount", "quantity", "percent", "instant"]
"""What a column holds: names, sentences, whole numbers, exact money, exact units, rounded percents, times."""


class Word(NamedTuple):
    """What a name for programs is for people, and the tone of it."""

    title: str
    tone: Tone


class Column(NamedTuple):
    """One column of a table.

    Attributes:
        name: for programs: the heading in CSV, JSON and Parquet.
        title: for people.
        kind: what it holds.
        on_page: whether people see it on the page, which has less room than a sheet.
        words: what a text that is a name for programs is for people.
        missing: what stands where there is no value, for people.
    """

    name: str
    title: str
    kind: Kind = "text"
    on_page: bool = True
    words: Mapping[str, Word] = MappingProxyType({})
    missing: str = ""

    @property
    def is_number(self) -> bool:
        """Whether it holds numbers."""
        return self.kind not in {"text", "prose", "instant"}


class Section(NamedTuple):
    """One table, with what is said of it.

    Attributes:
        name: for programs: names its files.
        title: for people: its heading, and the name of its sheet.
        about: what it shows, in a sentence or two.
        columns: its columns.
        rows: makes its rows anew, always the same in the same order; there may be millions.
        totals: rows below the table, one for each currency; programs can add up the rows themselves.
        length: how many rows it has, if it has one for each task and so may be very long; else None.
    """

    name: str
    title: str
    about: str
    columns: tuple[Column, ...]
    rows: Callable[[], Iterable[Row]]
    totals: tuple[Row, ...] = ()
    length: int | None = None

    @property
    def per_task(self) -> bool:
        """Whether it has a row for each task."""
        return self.length is not None


class Figure(NamedTuple):
    """One number that matters, in large print.

    Attributes:
        title: what it is.
        amount: the exact number.
        unit: currency, or what is counted.
        about: what to know about it.
    """

    title: str
    amount: Decimal
    unit: str
    about: str = ""


class Equation(NamedTuple):
    """Figures of one currency and how they hang together: `expected + variance = billed`.

    Attributes:
        figures: from left to right.
        signs: what stands between them.
    """

    figures: tuple[Figure, ...]
    signs: tuple[str, ...]


class Verdict(NamedTuple):
    """What the report comes to.

    Attributes:
        tone: `good`: there is nothing to do; `wait`: it is not final; `bad`: somebody has to do something.
        headline: in a few words.
        about: why, in a sentence.
    """

    tone: Literal["good", "wait", "bad"]
    headline: str
    about: str


class Fact(NamedTuple):
    """What the report is about, such as its period."""

    title: str
    text: str


class Document(NamedTuple):
    """A report.

    Attributes:
        kind: `reconciliation` or `spend`.
        title: whose, and of when.
        subtitle: which kind of report it is, in words.
        verdict: what it comes to.
        facts: what it is about.
        equations: the numbers that matter, of each currency.
        charts: what is better seen than read.
        sections: its tables, the summary first.
    """

    kind: str
    title: str
    subtitle: str
    verdict: Verdict
    facts: tuple[Fact, ...]
    equations: tuple[Equation, ...]
    charts: tuple[Chart, ...]
    sections: tuple[Section, ...]
