"""The nouns of a reconciliation: what it finds, for finance to read and for reports to print. No I/O."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Literal, NamedTuple, Protocol, TypeAlias, get_args

Category: TypeAlias = Literal[
    "invalid_row",
    "billed_twice",
    "reserved_twice",
    "currency_mismatch",
    "not_billed_yet",
    "not_billed",
    "in_doubt_candidate",
    "not_in_ledger",
    "timing",
    "explained",
    "within_tolerance",
    "unexplained",
    "matched",
]
"""What became of a line; the first that fits, in this order.

| category | meaning |
|---|---|
| `invalid_row` | a row of the statement that cannot be read; what it charges is counted nowhere |
| `billed_twice` | the statement charges one task more than once |
| `reserved_twice` | more than one reservation has the task |
| `currency_mismatch` | expected and billed in different currencies |
| `not_billed_yet` | expected and not on the statement, within the grace for late billing |
| `not_billed` | expected and not on the statement, though it is overdue |
| `in_doubt_candidate` | a hold without a task, and a billed task nobody knows, that fit: each has a line |
| `not_in_ledger` | billed, and not in the ledger |
| `timing` | billed or expected on the other side of the cut-off |
| `explained` | billed otherwise than expected, by an amount that one cause explains to the last digit |
| `within_tolerance` | billed otherwise than expected, by no more than the tolerance |
| `unexplained` | billed otherwise than expected, and nobody can say why |
| `matched` | billed as expected |
"""


class Line(NamedTuple):
    """One task of the ledger, of the statement, or of both; or one row of the statement that names none.

    Attributes:
        category: what became of it.
        provider: who bills.
        task_id: the provider's name for the task; None: it is not known.
        reservation_id: the ledger's name for its reservation; None: it has none.
        project: whose it is; None: nobody knows.
        labels: of the reservation, its project among them.
        key: the caller's name for the job.
        model: canonical name as far as it is known, else as the statement writes it.
        resolution: as quoted, else as billed.
        tier: as quoted, else as billed.
        quantity: units, as quoted.
        unit: of the quantity.
        table: id of the price table it was quoted by.
        currency: of the amounts. A task that was expected in one currency and charged in another has two lines.
        quoted: the quote of its reservation; None: it has no reservation in this currency.
        list_total: under a contract, that quote at the published prices; else None.
        due: what the whole task should cost, whichever period it falls in; None: nobody knows in this currency.
        expected: the part of that which falls in the period; None: nothing does.
        billed: what the statement charges; None: it is not on the statement.
        variance: billed minus expected, what is None counting as zero.
        booked: what the ledger has counted as spent; None: not settled.
        basis: what `booked` rests on.
        submitted_at: when the request was sent, UTC.
        billed_at: when the statement says that it was charged, or else that it was made, UTC.
        rows: where on the statement: `file:row`, several for a task with several rows.
        cause: what explains the variance, or what is wrong, in words; empty when there is nothing to say.
        remedy: what to do about it; empty when there is nothing to do, and then it is no exception.
    """

    category: Category
    provider: str
    task_id: str | None
    reservation_id: str | None
    project: str | None
    labels: Mapping[str, str]
    key: str | None
    model: str | None
    resolution: str | None
    tier: str | None
    quantity: Decimal | None
    unit: str | None
    table: str | None
    currency: str
    quoted: Decimal | None
    list_total: Decimal | None
    due: Decimal | None
    expected: Decimal | None
    billed: Decimal | None
    variance: Decimal
    booked: Decimal | None
    basis: str | None
    submitted_at: datetime | None
    billed_at: datetime | None
    rows: tuple[str, ...]
    cause: str
    remedy: str


class Total(NamedTuple):
    """Lines taken together.

    Attributes:
        name: what they have in common: a category, a project, a model, a day; empty for all lines.
        currency: of the amounts; lines of different currencies are never added up.
        lines: how many.
        expected: sum of what was expected.
        billed: sum of what was billed.
        variance: billed minus expected.
    """

    name: str
    currency: str
    lines: int
    expected: Decimal
    billed: Decimal
    variance: Decimal


class Tolerance(NamedTuple):
    """How much may stay unexplained, in the currency of the lines.

    Attributes:
        line: by how much a line may differ from what was expected.
        batch: how much the differences of such lines may come to, regardless of their signs. If they come to
            more, none of them is tolerated.
    """

    line: Decimal = Decimal(0)
    batch: Decimal = Decimal(0)


class Rows(NamedTuple):
    """What became of the rows of the statements; the first is the sum of the others.

    Attributes:
        read: how many there are.
        charges: charges of the period.
        uncharged: of the period, about tasks that are not charged yet, or answers that a later one replaces.
        invalid: that cannot be read.
        outside: of other periods.
    """

    read: int
    charges: int
    uncharged: int
    invalid: int
    outside: int


Dimension: TypeAlias = Literal["all", "category", "project", "model", "day"]
"""What lines can be taken together by; a day is the UTC date of submission, else of billing."""


class Reconciled(Protocol):
    """What reports read of a reconciliation.

    Attributes:
        provider: who bills.
        since: start of the period, UTC.
        until: its end, UTC, exclusive.
        statements: file name of each statement -> SHA-256 of its bytes, in hexadecimal.
        exceptions: how many lines have a remedy, so that somebody has to do something about them.
    """

    provider: str
    since: datetime
    until: datetime
    statements: Mapping[str, str]
    exceptions: int

    def lines(self, *categories: Category) -> Iterator[Line]:
        """The lines, of these categories or of all; always in the same order."""

    def totals(self, dimension: Dimension) -> list[Total]:
        """The lines taken together, by currency and name."""


def exceptions_of(reconciled: Reconciled) -> Iterator[Line]:
    """The lines that somebody has to do something about."""
    others = [each for each in get_args(Category) if each != "matched"]
    return (line for line in reconciled.lines(*others) if line.remedy)
