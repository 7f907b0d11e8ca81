"""Explains the variances of cells, as far as sums can show their causes.

A cause explains a cell only if it accounts for the whole variance, to the last digit. The causes are tried in
this order: roundings, failed tasks that were charged, requests without a known task that were not charged, the
published prices in place of the contract's, and tasks that were charged on the next day.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import date, timedelta
from itertools import groupby
from typing import Any, NamedTuple

from kling_pricing.money import format_decimal, from_nanos
from kling_pricing.reconcile.aggregates.cells import KEY
from kling_pricing.reconcile.matching import StatementPeriod
from kling_pricing.reconcile.units import WORTH_DIGITS
from kling_pricing.reconcile.workspace import Workspace

CELL_UNEXPLAINED = "no single cause that sums can show accounts for this variance"
_DIFFERING = "'unexplained', 'not_billed', 'not_in_ledger'"
_LATE = timedelta(hours=3)
"""How long before the end of a day a task may be sent and be charged on the next day."""
_MICROSECOND = timedelta(microseconds=1)
_MOST_TASKS = 9
"""The most equal tasks that a hint names as the possible difference."""

_SAME = " AND ".join(f"used.{name} = cell.{name}" for name in KEY.split(", "))


class _Late(NamedTuple):
    """The tasks that were sent at the end of a day and charged on the next: the amount and the number."""

    amount: int
    tasks: int


def explain_cells(workspace: Workspace, period: StatementPeriod) -> None:
    """Makes the table `explanation`, and changes the categories of the lines that have one."""
    workspace.run(
        "CREATE TABLE explanation (id BIGINT, cause VARCHAR, shared VARCHAR, kind VARCHAR,"
        " alternatives VARCHAR, is_confirmed BOOLEAN)"
    )
    found: dict[int, tuple[str, str | None]] = {}
    for number, *sums in workspace.rows(_SUMS):
        explanation = _explained(_Sums._make(sums))
        if explanation is not None:
            found[number] = explanation
    late = dict(_late(workspace, period, set(found)))
    for number, cause in late.items():
        found.setdefault(number, (cause, "late"))
    for number, amount, tasks in workspace.all(_EQUAL_TASKS, {"most": _MOST_TASKS}):
        each = format_decimal(from_nanos(amount))
        found.setdefault(number, (f"the variance is the amount of {_number(tasks, 'task')} at {each}", None))
    places = {cause: place for place, cause in enumerate(dict.fromkeys(found.values()), start=1)}
    workspace.insert(
        "explanation",
        [(place, cause, cause, kind, "", False) for (cause, kind), place in places.items()],
    )
    workspace.run("CREATE TABLE cell_explanation (cell BIGINT, explanation BIGINT)")
    workspace.insert("cell_explanation", [(number, places[cause]) for number, cause in found.items()])
    workspace.run(
        f"""
        UPDATE line SET explanation = explanation.id,
          category = CASE WHEN explanation.kind IS NULL THEN category
            WHEN explanation.kind = 'late' THEN 'timing' ELSE 'explained' END,
          gap = CASE WHEN explanation.kind = 'late' THEN NULL ELSE gap END
        FROM cell_explanation JOIN explanation ON explanation.id = cell_explanation.explanation
        WHERE line.cell = cell_explanation.cell AND line.category IN ({_DIFFERING})
        """
    )


def doubt_counts(workspace: Workspace) -> None:
    """Turns matched cells whose numbers of tasks differ into unexplained ones: two errors may cancel out.

    The statement may count only the tasks that cost something, or also those that failed.
    """
    workspace.run(
        """
        UPDATE line SET category = 'unexplained', explanation = NULL FROM cell
        WHERE line.cell = cell.id AND billed_tasks NOT IN (expected_tasks, sent_tasks) AND (
          line.category IN ('matched', 'within_tolerance') OR line.explanation IN (
            SELECT id FROM explanation WHERE kind = 'unstated_rounding'
          )
        )
        """
    )


class _Sums(NamedTuple):
    """The sums of a cell that differ from the statement.

    Attributes:
        variance: billed minus expected, in nanos, as are all amounts but the next four.
        native: the charge in the statement's unit, in billionths; None: in several units.
        down, up, half: what the tasks cost in that unit, each rounded to its last digit.
        whole_down, whole_up, whole_half: the sum of what they cost, rounded.
        unit: the unit.
        failed, failed_tasks: the quotes of failed tasks that cost nothing, and their number.
        unnamed, unnamed_tasks: what the requests without a known task should cost, and their number.
        discount: by how much more the tasks cost at the published prices.
    """

    variance: int
    native: int | None
    down: int | None
    up: int | None
    half: int | None
    whole_down: int | None
    whole_up: int | None
    whole_half: int | None
    unit: str | None
    failed: int
    failed_tasks: int
    unnamed: int
    unnamed_tasks: int
    discount: int


_SUMS = f"""
    WITH differing AS (
      SELECT cell.*, line.gap,
        CAST(10 ** (9 - decimals) AS BIGINT) AS grains,
        CASE WHEN cell.native IS NOT NULL THEN CAST(atto AS HUGEINT) * grains END AS step
      FROM line JOIN cell ON cell.id = line.cell LEFT JOIN worth ON worth.id = line.worth
      WHERE line.gap IS NOT NULL
    ), part AS (
      SELECT cell.id, cell.gap, cell.native, cell.unit, step, grains, used.due, quoted, failed, unnamed,
        listed, CAST(used.due AS HUGEINT) * CAST({10**WORTH_DIGITS} AS HUGEINT) AS scaled
      FROM differing AS cell JOIN used ON {_SAME} AND used.currency = cell.currency
      WHERE used.inside
    )
    SELECT id, any_value(gap), any_value(native),
      any_value(grains) * sum(scaled // step), any_value(grains) * sum((scaled + step - 1) // step),
      any_value(grains) * sum((2 * scaled + step) // (2 * step)),
      any_value(grains) * (sum(scaled) // any_value(step)),
      any_value(grains) * ((sum(scaled) + any_value(step) - 1) // any_value(step)),
      any_value(grains) * ((2 * sum(scaled) + any_value(step)) // (2 * any_value(step))),
      any_value(unit),
      ifnull(sum(quoted) FILTER (failed), 0), count(*) FILTER (failed),
      ifnull(sum(due) FILTER (unnamed), 0), count(*) FILTER (unnamed),
      ifnull(sum(listed - due) FILTER (due <> 0), 0)
    FROM part GROUP BY id ORDER BY id
"""

_EQUAL_TASKS = f"""
    WITH price AS (
      SELECT DISTINCT cell.id, line.gap, used.due FROM line JOIN cell ON cell.id = line.cell
      JOIN used ON {_SAME} AND used.currency = cell.currency
      WHERE line.gap IS NOT NULL AND used.inside AND used.due <> 0
        AND abs(line.gap) % used.due = 0 AND abs(line.gap) // used.due <= $most
    )
    SELECT id, any_value(due), CAST(any_value(abs(gap) // due) AS BIGINT) FROM price
    GROUP BY id HAVING count(*) = 1
"""
"""Cells whose variance is the amount of a few equal tasks, if only one price fits."""


def _explained(sums: _Sums) -> tuple[str, str | None] | None:
    """Returns the cause of a variance and its kind; None: sums show none."""
    if sums.native is not None:
        for rounded, how in ((sums.half, "half up"), (sums.up, "up"), (sums.down, "down")):
            if sums.native == rounded:
                return f"{sums.unit} rounded {how}, task by task", "unstated_rounding"
        if sums.native in {sums.whole_half, sums.whole_up, sums.whole_down}:
            return f"the sum is rounded to the last digit of {sums.unit}", "unstated_rounding"
    if sums.failed and sums.variance == sums.failed:
        tasks = f"{_number(sums.failed_tasks, 'failed task')} {_were(sums.failed_tasks)}"
        return (
            f"{tasks} charged, although the price table says that the provider refunds such tasks",
            "failed_charged",
        )
    if sums.unnamed and sums.variance == -sums.unnamed:
        requests = f"{_number(sums.unnamed_tasks, 'request')} without a known task"
        return f"{requests} {_were(sums.unnamed_tasks)} not charged", "unnamed_not_charged"
    if sums.discount and sums.variance == sums.discount:
        return "billed at the published prices, without the discount of the contract", "discount"
    return None


def _late(workspace: Workspace, period: StatementPeriod, explained: set[int]) -> Iterator[tuple[int, str]]:
    """Yields the cells whose variance is that of tasks that were sent late on a day and charged on the next.

    Going from day to day, the amount that moves to the next day is the one that came from the day before, less
    the variance. It must be the amount of the last tasks of the day. What moves beyond the last day may still
    be charged; nothing may come from before the first day, because the statement does not show that it is not
    a second charge.
    """
    rows = workspace.all(
        f"""
        SELECT {KEY}, cell.currency, cell.id, CASE WHEN category IN ({_DIFFERING})
            THEN ifnull(line.billed, 0) - ifnull(line.expected, 0) ELSE 0 END
        FROM line JOIN cell ON cell.id = line.cell
        ORDER BY model, resolution, tier, project, account, cell.currency, day
        """
    )
    ends = _last_tasks(workspace, period, {cell for *_, cell, variance in rows if variance < 0})
    for _, days in groupby(rows, key=lambda row: row[1:-2]):
        yield from _moved([(row[0], row[-2], int(row[-1])) for row in days], ends, explained)


def _moved(
    days: Sequence[tuple[str, int, int]], ends: dict[int, list[_Late]], explained: set[int]
) -> Iterator[tuple[int, str]]:
    """Yields the cells of consecutive days between which tasks moved.

    Args:
        days: the day, the cell and the variance, in order.
        ends: cell -> the amounts of its last tasks.
        explained: the cells that have another explanation.
    """
    run: list[tuple[int, str]] = []
    before, due_on = _Late(0, 0), ""
    for day, cell, variance in days:
        if (before.amount and day != due_on) or (variance and cell in explained):
            run, before = [], _Late(0, 0)
        if variance and cell in explained:
            continue
        due_on = f"{date.fromisoformat(day) + timedelta(days=1)}" if day else ""
        amount = before.amount - variance
        after = next((late for late in (_Late(0, 0), *ends.get(cell, ())) if late.amount == amount), None)
        if after is None:
            run, before = [], _Late(0, 0)
            continue
        if before.amount or after.amount:
            run.append((cell, _movement(before, after)))
        if not after.amount:
            yield from run
            run = []
        before = after
    yield from run


def _movement(before: _Late, after: _Late) -> str:
    parts = []
    if before.tasks:
        parts.append(f"the last {_last(before)} of the day before {_is(before)} charged on this day")
    if after.tasks:
        parts.append(f"the last {_last(after)} of the day {_is(after)} charged after it, or not yet")
    return ", and ".join(parts)


def _number(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _were(count: int) -> str:
    return "was" if count == 1 else "were"


def _last(late: _Late) -> str:
    return "task" if late.tasks == 1 else f"{late.tasks:,} tasks"


def _is(late: _Late) -> str:
    return "is" if late.tasks == 1 else "are"


def _last_tasks(workspace: Workspace, period: StatementPeriod, cells: Iterable[int]) -> dict[int, list[_Late]]:
    """Returns the amounts of the last tasks of each cell: of one, two, three and so on."""
    workspace.run("CREATE TABLE wanted_cell (id BIGINT)")
    workspace.insert("wanted_cell", [(cell,) for cell in cells])
    ends: dict[int, list[_Late]] = {}
    rows: Iterable[tuple[Any, ...]] = workspace.rows(
        f"""
        SELECT cell.id, used.due FROM cell SEMI JOIN wanted_cell USING (id)
        JOIN used ON {_SAME} AND used.currency = cell.currency
        LEFT JOIN cell_day ON cell_day.day = cell.day
        WHERE used.inside AND used.due <> 0
          AND dispatched_at >= coalesce(cell_day.until, $until) - to_microseconds($late)
        ORDER BY cell.id, dispatched_at DESC, reservation DESC
        """,
        {"until": period.values["until"], "late": min(period.grace, _LATE) // _MICROSECOND},
    )
    for cell, due in rows:
        sums = ends.setdefault(cell, [])
        last = sums[-1] if sums else _Late(0, 0)
        sums.append(_Late(last.amount + due, last.tasks + 1))
    return ends
