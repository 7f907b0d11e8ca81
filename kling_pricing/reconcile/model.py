"""The types of a reconciliation's result, which reports print. This module does no I/O."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Literal, NamedTuple, Protocol, TypeAlias, get_args

from kling_pricing.display import joined_with_and
from kling_pricing.money import format_decimal
from kling_pricing.reconcile.categories import Category

Grain: TypeAlias = Literal["day", "model", "resolution", "tier", "project", "account"]
"""A column by which a statement divides its sums."""


class Line(NamedTuple):
    """One task of the ledger, of the statement, or of both; or one row of the statement without a task.

    If the statement gives sums instead of tasks, a line is one sum: it has no task and no reservation, and of
    `day`, `model`, `resolution`, `tier`, `project` and `account` only those by which the statement divides its
    sums.

    Attributes:
        category: its category.
        provider: the provider that bills.
        task_id: the provider's name for the task; None: unknown.
        reservation_id: the ledger's name for the task's reservation; None: the task has no reservation.
        project: the reservation's project; None: unknown.
        labels: the reservation's labels, its project among them.
        key: the caller's name for the job.
        model: the canonical name if it is known, else the name on the statement.
        resolution: as quoted, else as billed.
        tier: as quoted, else as billed.
        quantity: units, as quoted.
        unit: the unit of the quantity.
        table: id of the price table of the quote.
        currency: the currency of the amounts. A task that was expected in one currency and charged in another
            has two lines.
        quoted: the quote of the task's reservation; None if there is no reservation in this currency.
        list_total: under a contract, the quote at the published prices; else None.
        due: the expected cost of the whole task, in all periods; None if it is not known in this currency.
        expected: the part of `due` that falls in the period; None if no part does.
        billed: the amount that the statement charges in the period; None if it charges none.
        variance: billed minus expected, with None counted as zero.
        booked: the amount that the ledger counts as spent; None if the reservation is not settled.
        basis: the basis of `booked`.
        submitted_at: when the request was sent, UTC.
        billed_at: when the task was charged according to the statement, else when it was submitted, UTC.
        rows: the task's rows on the statement, each as `file:row`.
        cause: the explanation of the variance, or the problem, in words; empty if there is neither.
        remedy: the action that the line needs; empty if the line is not an exception.
        shared_cause: the cause without the details of the task, the same for all lines with this cause; empty
            if the line is not an exception.
        day: of a sum: its day, in the time zone of the statement's days.
        expected_tasks: of a sum: the number of its tasks in the ledger that should cost something.
        billed_tasks: of a sum: the number of its tasks on the statement; None: the statement does not say.
        may_charge: whether the line may be a charge. A row that cannot be read and states no amount, such as a
            note below the charges, is not one.
        account: of a sum: the account at the provider from which its tasks were sent.
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
    shared_cause: str = ""
    day: date | None = None
    expected_tasks: int | None = None
    billed_tasks: int | None = None
    may_charge: bool = True
    account: str | None = None

    @property
    def is_exception(self) -> bool:
        """Whether the line needs action."""
        return bool(self.remedy)

    @property
    def cell(self) -> str | None:
        """The name of a sum, such as `2026-11-05, kling-v3`; None: the line is not a sum."""
        if self.expected_tasks is None:
            return None
        day = None if self.day is None else f"{self.day}"
        parts = (day, self.model, self.resolution, self.tier, self.project, self.account)
        return ", ".join(part for part in parts if part)


class Total(NamedTuple):
    """The sum of some lines.

    Attributes:
        name: the category, standing, project, model or day that the lines share; empty for all lines.
        currency: the currency of the amounts; lines in different currencies are never added up.
        lines: the number of lines.
        expected: sum of the expected amounts.
        billed: sum of the billed amounts.
        variance: billed minus expected.
    """

    name: str
    currency: str
    lines: int
    expected: Decimal
    billed: Decimal
    variance: Decimal


class Tolerance(NamedTuple):
    """The unexplained amounts that are tolerated, in the currency of the lines.

    Attributes:
        line: the largest difference from the expected amount that a line may have.
        batch: the largest sum of such differences, regardless of their signs. If the sum is larger, no such
            difference is tolerated.
    """

    line: Decimal = Decimal(0)
    batch: Decimal = Decimal(0)


class Rows(NamedTuple):
    """The numbers of statement rows; `read` is the sum of the other numbers.

    Attributes:
        read: all rows.
        charges: charges of the period.
        uncharged: rows of the period about tasks that are not charged yet, and replaced responses.
        invalid: rows that cannot be read.
        outside: rows of other periods.
        ignored: rows that are not charges by the mapping, such as those of other services, and blank rows.
    """

    read: int
    charges: int
    uncharged: int
    invalid: int
    outside: int
    ignored: int


Dimension: TypeAlias = Literal["all", "category", "standing", "project", "model", "day"]
"""What lines can be summed by; a day is the UTC date of submission, else of billing."""


Account: TypeAlias = Literal["expense", "variance", "disputed", "liability"]
"""An account of the books. `JournalLine` has the meanings."""


ACCOUNT_TITLES: Mapping[Account, str] = {
    "expense": "Video generation",
    "variance": "Billing variance",
    "disputed": "Disputed charges",
    "liability": "Accrued liabilities",
}
"""Account -> its name in journals for people: those of `month close`, and those of the reports."""


class JournalLine(NamedTuple):
    """An amount that a period's journal adds to an account.

    Attributes:
        account: `expense`: the usage, at the expected amounts; `variance`: charges beyond that; `disputed`:
            charges that are disputed; `liability`: amounts that are invoiced or owed.
        project: the project; empty: unknown.
        currency: the currency.
        amount: the amount: debit of an expense, a variance or a disputed charge, credit of a liability.
        tasks: the number of tasks that it comes from.
    """

    account: Account
    project: str
    currency: str
    amount: Decimal
    tasks: int


class BookingGroup(NamedTuple):
    """The amounts that a period's journal adds for tasks with the same project, labels, day and currency.

    Attributes:
        project: the project; empty: unknown.
        labels: the labels of the tasks' reservations, the project among them; empty: unknown.
        day: the UTC day on which the tasks were sent, else charged; the first day of the period for tasks of an
            earlier one.
        currency: the currency.
        tasks: the number of tasks.
        expense: as in `JournalLine`.
        variance: as in `JournalLine`.
        disputed: as in `JournalLine`.
        liability: as in `JournalLine`; the sum of the three others.
    """

    project: str
    labels: Mapping[str, str]
    day: date
    currency: str
    tasks: int
    expense: Decimal
    variance: Decimal
    disputed: Decimal
    liability: Decimal


class Payable(NamedTuple):
    """The amounts of a period to pay, in dispute and to accrue, in one currency.

    The amounts to pay of consecutive periods add up to what was charged in them, less what is still in dispute
    at the end. The amount to pay of a closed month never changes.

    Attributes:
        currency: the currency.
        invoiced: the sum of the period's rows. Rows that a corrected statement withdraws in the period count
            against it.
        pay: the amount to pay: the invoiced amount, plus the amount in dispute at the start of the period,
            minus the amount in dispute at its end. It is negative if the provider owes you money.
        disputed: the amount in dispute at the end of the period.
        accrue: the amount that is owed at the end of the period.
    """

    currency: str
    invoiced: Decimal
    pay: Decimal
    disputed: Decimal
    accrue: Decimal

    @property
    def disputed_before(self) -> Decimal:
        """The amount in dispute at the start of the period."""
        return self.pay + self.disputed - self.invoiced


class AccruedMonth(NamedTuple):
    """The part of an amount to accrue that comes from the tasks of one month, in one currency.

    Attributes:
        currency: the currency.
        month: the month in which the tasks were sent, such as `2026-10`.
        amount: the amount that is owed for them.
        tasks: the number of these tasks.
    """

    currency: str
    month: str
    amount: Decimal
    tasks: int


def accrued_text(months: Iterable[AccruedMonth]) -> str:
    """Returns parts of an amount in words, such as `0.714 of 2026-09 and 0.357 of 2026-10`."""
    return joined_with_and(f"{format_decimal(each.amount)} of {each.month}" for each in months)


class Invoice(NamedTuple):
    """An invoice, with which the statement's rows are compared.

    Attributes:
        total: the total amount.
        currency: its currency.
        id: its number; None: unknown.
    """

    total: Decimal
    currency: str
    id: str | None = None


class Reconciled(Protocol):
    """The part of a reconciliation that reports read.

    Attributes:
        provider: the provider that bills.
        account: the account at the provider for which it issued the statements.
        since: start of the period, UTC.
        until: end of the period (exclusive), UTC.
        statements: file name of each statement -> SHA-256 of its bytes, in hexadecimal.
        exceptions: the number of lines that need action; each has a remedy.
        open: the number of exceptions that are still open: they are not in dispute, and no cause explains them
            to the last digit.
        in_dispute: the number of exceptions whose excess is in dispute.
        gaps: the reasons why the period is not reconciled, each a clause; empty: it is.
        confirmed: the totals, of the invoice or in the files, that agree with the rows, each a clause.
        invoice: the invoice; None: it is not known.
        grain: the columns by which the statement divides its sums; empty: it lists tasks.
    """

    provider: str
    account: str
    since: datetime
    until: datetime
    statements: Mapping[str, str]
    exceptions: int
    open: int
    in_dispute: int
    gaps: tuple[str, ...]
    confirmed: tuple[str, ...]
    invoice: Invoice | None
    grain: tuple[Grain, ...]

    def lines(self, *categories: Category) -> Iterator[Line]:
        """Yields the lines of these categories, or all lines; always in the same order."""

    def totals(self, dimension: Dimension) -> list[Total]:
        """Returns the sums of the lines by currency and name."""

    def journal(self) -> list[JournalLine]:
        """Returns the journal of the period, by project and currency; debits equal credits exactly."""

    def charged_before(self) -> frozenset[str]:
        """Returns the tasks with a charge in the period that were also charged before it."""

    def booking_groups(self) -> list[BookingGroup]:
        """Returns the journal in groups of tasks with the same project, labels, day and currency."""

    def payable(self) -> list[Payable]:
        """Returns the amounts to pay, in dispute and to accrue, by currency; preliminary if `gaps` are left."""

    def accrued_months(self) -> list[AccruedMonth]:
        """Returns the parts of the amounts to accrue, by currency and by the month in which tasks were sent."""


def exceptions_of(reconciled: Reconciled) -> Iterator[Line]:
    """Yields the lines that need action."""
    categories = [category for category in get_args(Category) if category != "matched"]
    return (line for line in reconciled.lines(*categories) if line.is_exception)
