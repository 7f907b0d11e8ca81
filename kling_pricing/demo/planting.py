"""The provider's statement with twelve things wrong, and what a reconciliation finds of each."""

from __future__ import annotations

import csv
import io
import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import ROUND_FLOOR, Decimal
from typing import NamedTuple

from kling_pricing.demo.stories import DemoJob, demo_book
from kling_pricing.demo.studio import DemoStudio
from kling_pricing.errors import KlingPricingError
from kling_pricing.ledger.model import Reservation
from kling_pricing.money import multiply
from kling_pricing.quoting.comparison import compare
from kling_pricing.quoting.engine import quote
from kling_pricing.reconcile import Line, Reconciliation
from kling_pricing.reconcile.categories import CATEGORIES

WORDS = (
    "[statement:twice]",
    "[fail:moderation] [statement:failed-but-charged]",
    "[statement:missing]",
    "[statement:late]",
    "[statement:refunded-later]",
)
"""The words in the prompts of five jobs, for which the sandbox itself puts an error into the statement."""

_BY_SANDBOX = {
    "twice": "a task is charged twice",
    "failed-but-charged": "a failed task is charged",
    "missing": "a task is missing",
    "late": "a task is charged in another month",
    "refunded-later": "a charge is refunded two days later",
}
"""Error of the sandbox -> the error in words."""

_LATE = timedelta(days=2)
_GUARD = "'"
"""The character that spreadsheet programs put before an id."""


class PlantedError(NamedTuple):
    """Something wrong with a statement.

    Attributes:
        words: the error in words.
        task_id: the task, as the ledger knows it, or else as it is on the statement; None: no task.
    """

    words: str
    task_id: str | None


@dataclass
class FaultyStatement:
    """A statement with errors.

    Attributes:
        rows: the rows: column -> text.
        errors: the errors.
        columns: the names of the columns.
    """

    rows: list[dict[str, str]]
    columns: list[str]
    errors: list[PlantedError] = field(default_factory=list)

    def text(self) -> str:
        """Returns the statement as CSV."""
        out = io.StringIO()
        writer = csv.DictWriter(out, self.columns, lineterminator="\r\n")
        writer.writeheader()
        writer.writerows(self.rows)
        return out.getvalue()


class Planter:
    """Writes the errors that a sandbox does not make into rows of its statement.

    The columns are those of the sandbox's table of tasks, whose amounts are whole numbers of a unit.

    Args:
        studio: the studio.
        seed: the seed of all choices.
    """

    def __init__(self, studio: DemoStudio, seed: int) -> None:
        self._studio = studio
        self._dice = random.Random(seed)  # noqa: S311 (not a secret)
        self._provider = studio.script.scripts.provider
        table = studio.guard.book.table(self._provider, studio.script.start)
        self._newer_list = table.newer_list
        unit = table.billing.statement_unit
        if unit is None or self._newer_list is None:
            raise KlingPricingError(
                f"the statements of {self._provider} cannot contain every error; choose another provider"
            )
        self._per_unit = unit.per_currency_unit

    def statement(self) -> FaultyStatement:
        """Returns the statement of the month with all errors; it also has the charges of the next two days.

        Raises:
            KlingPricingError: a job for one of the errors was refused, or no job fits an error.
        """
        script, sandbox = self._studio.script, self._studio.sandbox
        raw = sandbox.statement(self._provider, since=script.start, until=script.end + _LATE, **{"as": "csv"})
        reader = csv.DictReader(io.StringIO(raw.decode()))
        statement = FaultyStatement([*reader], [*(reader.fieldnames or ())])
        planted = {}
        for task in sandbox.call("GET", f"/{self._provider}/_planted"):
            planted[task["task"]] = task["error"]
        if absent := _BY_SANDBOX.keys() - {*planted.values()}:
            raise KlingPricingError(
                f"the demo could not put these errors into the statement: {', '.join(sorted(absent))}; choose "
                "another --seed"
            )
        statement.errors += [PlantedError(_BY_SANDBOX[error], task) for task, error in planted.items()]
        jobs = self._jobs(statement, planted)
        self._change(statement, jobs, "a task is charged for a higher resolution", self._of_higher_resolution)
        self._change(statement, jobs, "a task is charged at another list's price", self._of_newer_list)
        self._change(statement, jobs, "a charge is rounded down", self._rounded_down)
        self._mangle(statement, jobs)
        self._add_unknown(statement)
        self._add_unreadable(statement)
        self._add_total(statement)
        return statement

    def _jobs(
        self, statement: FaultyStatement, planted: Mapping[str, str]
    ) -> list[tuple[dict[str, str], Reservation, DemoJob]]:
        """Returns the rows that are correct, each with its reservation and its job, in a random order."""
        sent = {
            reservation.task_id: reservation
            for reservation in self._studio.guard.history()
            if reservation.state == "settled"
        }
        jobs = []
        for row in statement.rows:
            reservation = sent.get(row["task_id"])
            if reservation is not None and row["task_id"] not in planted and not reservation.changes:
                jobs.append((row, reservation, self._studio.jobs[reservation.project, reservation.key]))
        self._dice.shuffle(jobs)
        return jobs

    def _change(
        self,
        statement: FaultyStatement,
        jobs: list[tuple[dict[str, str], Reservation, DemoJob]],
        words: str,
        price: Callable[[Reservation, DemoJob], Decimal | None],
    ) -> None:
        """Changes the amount of the first row that has another price, and takes the row out of `jobs`.

        Raises:
            KlingPricingError: there is no such row.
        """
        for place, (row, reservation, job) in enumerate(jobs):
            wrong = price(reservation, job)
            if wrong is not None and str(wrong) != row["cost"]:
                row["cost"] = str(wrong)
                statement.errors.append(PlantedError(words, reservation.task_id))
                del jobs[place]
                return
        raise KlingPricingError(f"no job of the demo fits: {words}; choose another --seed")

    def _of_higher_resolution(self, reservation: Reservation, job: DemoJob) -> Decimal | None:
        options = compare(
            job.payload,
            provider=self._provider,
            wire_format=reservation.wire_format,
            at=job.at,
            book=demo_book(),
        )
        higher = [
            option.quote.total
            for option in options
            if option.quote is not None
            and option.provider == self._provider
            and {*option.changes} == {"resolution"}
        ]
        dearer = [amount for amount in higher if amount > reservation.expected]
        return self._in_units(min(dearer)) if dearer else None

    def _of_newer_list(self, reservation: Reservation, job: DemoJob) -> Decimal | None:
        newer = quote(
            job.payload,
            provider=self._newer_list,
            wire_format=reservation.wire_format,
            at=job.at,
            book=demo_book(),
        )
        return self._in_units(newer.total)

    def _rounded_down(self, reservation: Reservation, _job: DemoJob) -> Decimal | None:
        exact = multiply(reservation.expected, self._per_unit)
        return None if exact == exact.to_integral_value() else exact.to_integral_value(ROUND_FLOOR)

    def _in_units(self, amount: Decimal) -> Decimal | None:
        exact = multiply(amount, self._per_unit)
        return Decimal(int(exact)) if exact == exact.to_integral_value() else None

    def _mangle(
        self, statement: FaultyStatement, jobs: list[tuple[dict[str, str], Reservation, DemoJob]]
    ) -> None:
        row, reservation, _ = jobs.pop()
        row["task_id"] = _GUARD + row["task_id"]
        statement.errors.append(PlantedError("a spreadsheet has changed a task's id", reservation.task_id))

    def _add_unknown(self, statement: FaultyStatement) -> None:
        row = self._stranger(statement)
        statement.rows.append(row)
        statement.errors.append(PlantedError("a task that nobody sent is charged", row["task_id"]))

    def _add_unreadable(self, statement: FaultyStatement) -> None:
        row = self._stranger(statement) | {"cost": "n/a"}
        statement.rows.append(row)
        statement.errors.append(PlantedError("a row cannot be read", row["task_id"]))

    def _add_total(self, statement: FaultyStatement) -> None:
        total = sum(int(row["cost"]) for row in statement.rows if row["cost"].lstrip("-").isdecimal())
        row = dict.fromkeys(statement.columns, "") | {"task_id": "total", "cost": str(total)}
        statement.rows.append(row)
        statement.errors.append(PlantedError("a total stands among the charges", None))

    def _stranger(self, statement: FaultyStatement) -> dict[str, str]:
        """Returns a copy of a row with the id of a task that does not exist."""
        row = dict(self._dice.choice(statement.rows))
        head, _, tail = row["task_id"].lstrip(_GUARD).partition("_")
        return row | {"task_id": f"{head}_{self._dice.getrandbits(4 * len(tail)):0{len(tail)}x}"}


class Finding(NamedTuple):
    """What a reconciliation says about something wrong with a statement.

    Attributes:
        error: what is wrong.
        verdict: the category of its line, in words, or how the reconciliation dealt with it.
        variance: the difference that it makes; None: it makes none.
    """

    error: PlantedError
    verdict: str
    variance: Decimal | None


def findings_about(errors: Iterable[PlantedError], reconciled: Reconciliation) -> list[Finding]:
    """Returns what a reconciliation says about each error.

    Raises:
        KlingPricingError: it has nothing about an error.
    """
    lines = {line.task_id: line for line in reconciled.lines()}
    unread = next((line for line in lines.values() if line.category == "invalid_row"), None)
    return [_finding(error, lines.get(error.task_id, unread), reconciled) for error in errors]


def _finding(error: PlantedError, line: Line | None, reconciled: Reconciliation) -> Finding:
    if error.task_id is None and reconciled.confirmed:
        return Finding(error, "Not counted", None)
    if line is None:
        raise KlingPricingError(f"the reconciliation of the demo did not find that {error.words}")
    if line.category == "matched":
        return Finding(error, "Restored", None)
    return Finding(error, CATEGORIES[line.category].title, line.variance)
