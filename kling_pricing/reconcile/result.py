"""The result of a reconciliation: its lines and totals, its books, and what can be done with them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Self, TypeVar

from kling_pricing.errors import StatementError
from kling_pricing.ledger import Ledger
from kling_pricing.ledger.actions import author
from kling_pricing.ledger.books import Books
from kling_pricing.ledger.model import Alert
from kling_pricing.ledger.provider_accounts import ProviderAccount
from kling_pricing.reconcile import bookkeeping
from kling_pricing.reconcile.aggregates.cell_lines import CellLines
from kling_pricing.reconcile.bookkeeping import load_books
from kling_pricing.reconcile.categories import Category, count_exceptions
from kling_pricing.reconcile.completeness import Completeness, refuse_other_owner
from kling_pricing.reconcile.dispute_marks import mark_disputed
from kling_pricing.reconcile.disputing import Dispute, DisputeAlso, dispute_overcharges, needless_disputes
from kling_pricing.reconcile.lines import Lines
from kling_pricing.reconcile.memory import Conflict, LongerFile, Replacement, replacement
from kling_pricing.reconcile.model import (
    AccruedMonth,
    BookingGroup,
    Dimension,
    Grain,
    Invoice,
    JournalLine,
    Line,
    Payable,
    Rows,
    Total,
)
from kling_pricing.reconcile.months import BooksPeriod
from kling_pricing.reconcile.remember import Remembered, conflict_text, refuse_conflicts, remember
from kling_pricing.reconcile.settle import (
    SettleAlso,
    Settled,
    SettledTask,
    SettlementNote,
    count_to_settle,
    first_to_settle,
    settle,
)
from kling_pricing.reconcile.summary import ReconciliationSummary
from kling_pricing.reconcile.workspace import Workspace
from kling_pricing.tables.price_book import PriceBook

T = TypeVar("T")
OnProgress = Callable[[str, int, int | None], None]
"""Called with the current stage, how much of it is done, and its total, if that is known."""


class Reconciliation(ReconciliationSummary):
    """The result of `reconcile`; see `model.Reconciled`.

    It holds a database, so close it, or use it in a `with` block.

    Attributes:
        provider: the provider that bills.
        account: the account at the provider for which it issued the statements; the provider's name if they
            give sums by account.
        since: start of the period, UTC.
        until: end of the period (exclusive), UTC.
        statements: file name of each statement -> SHA-256 of its bytes, in hexadecimal.
        exceptions: the number of lines that need action; each has a remedy.
        open: the number of exceptions that are still open: they are not in dispute, and no cause explains them
            to the last digit.
        in_dispute: the number of exceptions whose excess is in dispute.
        gaps: the reasons why the period is not reconciled, each a clause; empty: it is.
        confirmed: the totals, of the invoice or in the files, that agree with the rows, each a clause.
        notes: what else the files contain, such as footers, each a clause.
        rows: the rows of the statements, counted.
        invoice: the invoice with which the rows were compared; None: it is not known.
        is_over: whether the period was over; before its end, charges may still be missing.
        conflicts: the remembered statements that charge other amounts than the given ones for the same tasks.
            While there are any, nothing can be remembered or settled, and there is no journal.
        shorter_than: the remembered statements of the same period that have all rows of the given ones, and
            more after the last of them. The given ones may be an earlier download, or a correction.
        grain: the columns by which the statement divides its sums; empty: it lists tasks. Sums show no
            tasks, so nothing can be remembered, disputed or settled, and there is no journal.
    """

    def __init__(
        self,
        workspace: Workspace,
        lines: Lines | CellLines,
        rows: Rows,
        completeness: Completeness,
        grain: tuple[Grain, ...] = (),
        *,
        ledgers: Sequence[str],
        book: PriceBook,
        account: ProviderAccount,
        since: datetime,
        until: datetime,
        statements: Mapping[str, str],
        opened: Sequence[Ledger],
        known_books: Sequence[Books],
        conflicts: tuple[Conflict, ...],
        invoice: Invoice | None,
        notes: tuple[str, ...],
        now: datetime,
        learn_facts: Callable[[], None],
        shorter_than: tuple[LongerFile, ...] = (),
    ) -> None:
        self._workspace = workspace
        self._lines = lines
        self._ledgers = ledgers
        self._opened = opened
        self._known_books = known_books
        self.conflicts = conflicts
        self.shorter_than = shorter_than
        self.grain = grain
        self._completeness = completeness
        self.gaps: tuple[str, ...] = (*completeness.gaps, *map(conflict_text, conflicts))
        self.confirmed: tuple[str, ...] = completeness.confirmed
        self.notes = notes
        self.invoice = invoice
        self.is_over: bool = now >= until
        self._now = now
        self._learn_facts: Callable[[], None] | None = learn_facts
        self._book = book
        self._owner = account
        self.provider: str = account.provider
        self.account: str = account.account
        self.since = since
        self.until = until
        self.statements = statements
        self.exceptions, self.open, self.in_dispute = count_exceptions(workspace)
        self.rows = rows

    @property
    def set_aside(self) -> tuple[str, ...]:
        """The remembered statements of the period with which sums are not compared; empty if it lists tasks."""
        if not self.grain:
            return ()
        names = (
            statement.name
            for books in self._known_books
            for statement in books.statements
            if statement.since < self.until
            and statement.until > self.since
            and statement.number not in {other.replaces for other in books.statements}
        )
        return tuple(dict.fromkeys(names))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the database; the lines can no longer be read."""
        self._workspace.close()
        for ledger in self._opened:
            ledger.close()

    def lines(self, *categories: Category) -> Iterator[Line]:
        """Yields the lines of these categories, or all lines; always in the same order."""
        return self._lines.read(categories)

    def totals(self, dimension: Dimension) -> list[Total]:
        """Returns the sums of the lines by currency and name."""
        return self._lines.totals(dimension)

    def journal(self) -> list[JournalLine]:
        """Returns the journal of the period, by project and currency; debits equal credits exactly.

        It counts the given statements as if they were remembered. It is empty if the statement gives sums, or
        contradicts a remembered statement: it is then not known which of the two counts.
        """
        return self._booked(bookkeeping.journal)

    def charged_before(self) -> frozenset[str]:
        """Returns the tasks with a charge in the period that were also charged before it.

        The rows of remembered statements count, and rows of the given files that are before the period.
        """
        if self.grain:
            return frozenset()
        rows = self._workspace.all(
            """
            WITH bill AS (
              SELECT task_id, coalesce(billed_at, submitted_at) AS "at" FROM charge
              WHERE problem IS NULL AND native <> 0 AND task_id IS NOT NULL
            )
            SELECT DISTINCT task_id FROM bill WHERE "at" < $since AND task_id IN (
              SELECT task_id FROM bill WHERE "at" >= $since AND "at" < $until
            )
            """,
            {"since": self.since.replace(tzinfo=None), "until": self.until.replace(tzinfo=None)},
        )
        return frozenset(task for (task,) in rows)

    def booking_groups(self) -> list[BookingGroup]:
        """Returns the journal of the period in groups of tasks with the same project, labels, day and currency.

        The groups add up to `journal`, and there are none where it is empty.
        """
        return self._booked(bookkeeping.booking_groups)

    def payable(self) -> list[Payable]:
        """Returns the amounts to pay, in dispute and to accrue, by currency.

        Like the journal, they count the given statements, and there are none for sums and while statements
        contradict each other. If `gaps` are left, the amounts are preliminary.
        """
        return self._booked(bookkeeping.payable)

    def accrued_months(self) -> list[AccruedMonth]:
        """Returns the parts of the amounts to accrue, by currency and by the month in which tasks were sent."""
        return self._booked(bookkeeping.accrued_months)

    def _booked(self, read: Callable[[Workspace, BooksPeriod], list[T]]) -> list[T]:
        if self.grain or self.conflicts:
            return []
        self._learn()
        return read(self._workspace, BooksPeriod(self.since, self.until))

    def remember(self, *, actor: str | None = None, reason: str | None = None) -> Remembered:
        """Adds the statements, and the expected costs of their tasks, to the books of the ledgers.

        Later reconciliations then count these charges. A second call, or a second reconciliation of the same
        files, adds nothing.

        Args:
            actor: the person who remembers the statements; by default, the system's user.
            reason: the reason.

        Raises:
            StatementError: a remembered statement charges other amounts for the same tasks, or the statement
                seems to be another account's or provider's, or gives sums instead of tasks. Nothing was added.
            LedgerError: somebody else changed the books in the meantime.
        """
        self._refuse_sums()
        refuse_other_owner(self._completeness)
        refuse_conflicts(self.conflicts)
        self._learn()
        ledgers = dict(enumerate(self._opened))
        added = remember(self._workspace, ledgers, self._known_books, author(actor, reason))
        self.exceptions, self.open, self.in_dispute = mark_disputed(self._workspace)
        return added

    def dispute(self, *, also: Collection[DisputeAlso] = (), actor: str | None = None, reason: str) -> int:
        """Disputes the excess of every charge that is too high, on the lines that are exceptions.

        First remembers the statements. A disputed task is not settled until its dispute is resolved. Of a task
        that the ledger does not have, only a repeated charge is disputed, because the task may be yours.

        Args:
            also: additional categories to dispute: `not_in_ledger`, or none.
            actor: the person who opens the disputes; by default, the system's user.
            reason: the reason.

        Returns:
            The number of new disputes.

        Raises:
            StatementError: a remembered statement charges other amounts for the same tasks. Nothing was added.
            LedgerError: somebody else changed the books in the meantime.
        """
        self.remember(actor=actor, reason=reason)
        workspace, who = self._workspace, author(actor, reason)
        self._reload_books()
        added = dispute_overcharges(workspace, self._opened, self._known_books, who, self._now, also)
        self._reload_books()
        self.exceptions, self.open, self.in_dispute = mark_disputed(workspace)
        return added

    def _reload_books(self) -> None:
        self._workspace.run("DROP TABLE fact")
        self._workspace.run("DROP TABLE past_statement")
        self._known_books = load_books(self._workspace, self._opened, self._owner)

    def needless_disputes(self) -> list[Dispute]:
        """Returns the open disputes of tasks whose charges need no action any more; nothing for sums."""
        if self.grain:
            return []
        self._learn()
        return needless_disputes(self._workspace, self._opened)

    def replacement(self) -> Replacement | None:
        """Returns the changes if the given file replaces a statement; None: it does not replace one."""
        if self.grain:
            return None
        self._learn()
        return replacement(self._workspace)

    def refuse_gaps(self) -> None:
        """Refuses to go on if the period is not reconciled.

        Raises:
            StatementError: it is not; the message has the gaps.
        """
        refuse_conflicts(self.conflicts)
        if self.gaps:
            raise StatementError(
                f"the period is not reconciled: {'; '.join(self.gaps)}. Nothing was settled. Correct the "
                "statement first, or settle despite these gaps (--settle-despite-gaps)"
            )

    def to_settle(self, *, also: Collection[SettleAlso] = ()) -> int:
        """Returns the number of reservations that `settle` would settle.

        Args:
            also: additional categories to settle: `unexplained`, or none.

        Raises:
            StatementError: the statement gives sums instead of tasks.
        """
        self._refuse_sums()
        return count_to_settle(self._workspace, also)

    def first_to_settle(self, *, also: Collection[SettleAlso] = ()) -> list[SettledTask]:
        """Returns the first tasks that `settle` would settle, at most 10, each with its amount.

        Args:
            also: additional categories to settle: `unexplained`, or none.

        Raises:
            StatementError: the statement gives sums instead of tasks.
        """
        self._refuse_sums()
        return first_to_settle(self._workspace, also)

    def settle(
        self,
        *,
        also: Collection[SettleAlso] = (),
        despite_gaps: bool = False,
        actor: str | None = None,
        reason: str | None = None,
        on_progress: OnProgress | None = None,
        on_alert: Callable[[Alert], None] | None = None,
    ) -> Settled:
        """Writes the statement's charges into the ledgers that count another amount, or none yet.

        First remembers the statements. Then binds paired tasks, and settles the lines that are matched,
        explained, within the tolerance, or a matter of timing. It skips tasks that a person must check first:
        tasks that are in dispute, charged twice or in another currency, or have several reservations; tasks
        that an operator corrected; and late charges that differ from the quote. Each batch of tasks is a
        separate transaction, and a second run settles only the rest. The lines stay as they are. A refusal of
        a ledger is in the result and needs action.

        Args:
            also: additional categories to settle: `unexplained`, or none.
            despite_gaps: whether to settle although the period is not reconciled. The rows that cannot be read
                or are missing may then change what a settled task costs.
            actor: the person who settles; by default, the system's user.
            reason: the reason.
            on_progress: called as each batch of tasks is done.
            on_alert: called for each budget threshold that is reached, as by a guard.

        Raises:
            StatementError: the period is not reconciled, or a remembered statement charges other amounts for
                the same tasks. Nothing was settled.
            LedgerError: a ledger cannot be used; tasks that were settled before stay settled.
        """
        self._refuse_sums()
        refuse_conflicts(self.conflicts)
        if not despite_gaps:
            self.refuse_gaps()
        self.remember(actor=actor, reason=reason)
        return settle(
            self._workspace,
            self._ledgers,
            self._opened,
            noted=SettlementNote(self._owner.books, self.statements, self._now, author(actor, reason)),
            also=also,
            book=self._book,
            on_done=lambda done, total: (on_progress or ignore_progress)("settling", done, total),
            on_alert=on_alert,
        )

    def _refuse_sums(self) -> None:
        """Refuses to book sums.

        Raises:
            StatementError: the statement gives sums instead of tasks.
        """
        if self.grain:
            raise StatementError(
                f"the statement gives sums by {', '.join(self.grain)}, which do not show the cost of each "
                "task, so it cannot be remembered, disputed or settled; ask the provider for a statement "
                "with one row per task"
            )

    def _learn(self) -> None:
        """Adds the new facts to the books in the database, once, when they are first needed."""
        learn_facts, self._learn_facts = self._learn_facts, None
        if learn_facts is not None:
            learn_facts()


def ignore_progress(_stage: str, _done: int, _total: int | None) -> None:
    """Does nothing: the caller did not ask for progress."""
