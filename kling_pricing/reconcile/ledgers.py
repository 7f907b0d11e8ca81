"""Ledgers in: the reservations of a provider that were sent, from one or several ledgers, to the database.

A reservation is a row of the table `reserved`: the fields of `model.SENT`, of which `terms` is the row of the
table `terms` that has the fields of `terms.TERMS`; amounts are in nanos; and

| column | what it is |
|---|---|
| ledger | which one, from 0 |
| inside | whether it was sent in the period |
| written_off | whether an operator said that it costs nothing |
| due | what should be charged, in nanos: the quote, or nothing for what is refunded or written off |
| copies | how many reservations of all ledgers have its task |
| spare | whether another of those stands for it |
| paired | whether its task is by a person's decision, and the ledger does not know it yet |
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from datetime import datetime
from pathlib import Path
from typing import Any

from kling_pricing.errors import KlingPricingError
from kling_pricing.ledger import Ledger
from kling_pricing.ledger.model import SENT
from kling_pricing.ledger.terms import TERMS, TERMS_SEPARATOR
from kling_pricing.reconcile.staging import literal, separated
from kling_pricing.reconcile.workspace import Workspace

_BLOCK_BYTES = 32 << 20
"""Written at a time: while the database loads one file of this size, the next is written."""

_TYPES = dict.fromkeys(SENT, "VARCHAR") | {"billed": "BIGINT", "dispatched_at": "TIMESTAMP"}
_TERMS_TYPES = dict.fromkeys(TERMS, "VARCHAR") | {"expected": "BIGINT", "list_total": "BIGINT"}

_RESERVED = f"""
    CREATE TABLE reserved (
      ledger USMALLINT, {", ".join(f"{name} {kind}" for name, kind in (_TYPES | {"terms": "BIGINT"}).items())},
      inside BOOLEAN, written_off BOOLEAN, due BIGINT, copies USMALLINT, spare BOOLEAN, paired BOOLEAN
    )
"""
_TERMS = f"""
    CREATE TABLE terms (
      id BIGINT, written VARCHAR, {", ".join(f"{name} {kind}" for name, kind in _TERMS_TYPES.items())}
    )
"""
_PARTS = ", ".join(
    f"CAST(nullif(parts[{place}], '') AS {kind})" for place, kind in enumerate(_TERMS_TYPES.values(), start=1)
)
"""Of terms as they are written, the fields."""


def read_ledgers(
    workspace: Workspace,
    ledgers: Sequence[Ledger],
    *,
    provider: str,
    since: datetime,
    until: datetime,
    before: datetime,
    loader: Executor,
    first: Future[Any],
    on_reservations: Callable[[int], None],
) -> None:
    """Reads what was sent before an instant into the table `reserved`.

    Args:
        workspace: where that is.
        ledgers: where the reservations are.
        provider: whose they are.
        since: where the period begins.
        until: where it ends.
        before: what was sent from then on is not looked at.
        loader: has a thread in which the database loads one file while the next is written here.
        first: what that thread does before.
        on_reservations: told how many are read so far.

    Raises:
        LedgerUnavailableError: a ledger cannot be read.
        KlingPricingError: two ledgers are the same.
    """
    workspace.run(_RESERVED)
    workspace.run(_TERMS)
    workspace.run(
        "CREATE TABLE shared"
        " (task_id VARCHAR, copies BIGINT, inside BOOLEAN, due BIGINT, place BIGINT, ids VARCHAR[])"
    )
    period = {"since": since.replace(tzinfo=None), "until": until.replace(tzinfo=None)}
    loads: list[Future[Any]] = [first]
    read = 0
    for place, ledger in enumerate(ledgers):
        for path, lines in _files(ledger.sent(provider, before), workspace.folder / f"ledger-{place}"):
            loads.append(loader.submit(_load, workspace, path, place, period))
            loads[-2].result()  # so that no more than two files are kept
            read += lines
            on_reservations(read)
    loads[-1].result()
    if len(ledgers) > 1:
        _refuse_the_same_twice(workspace)
        _mark_copies(workspace)


def pair(workspace: Workspace, pairs: Mapping[str, str]) -> None:
    """Assigns tasks to reservations that have no task.

    Args:
        workspace: where the reservations are.
        pairs: reservation -> task.

    Raises:
        KlingPricingError: a reservation has a task or was not sent, or a task has another reservation or is not
            on the statement.
    """
    for reservation, task_id in pairs.items():
        rows = workspace.all("SELECT state, task_id FROM reserved WHERE id = ?", [reservation])
        if not rows:
            raise KlingPricingError(f"pair {reservation}: no such reservation was sent to this provider")
        ((state, known),) = rows
        if known == task_id:
            continue  # paired before, and settled since
        if known is not None or state not in {"dispatching", "settled"}:
            has = f", with task {known}" if known else ""
            raise KlingPricingError(
                f"pair {reservation}: the reservation is {state}{has}; pair only a "
                "reservation that was sent and has no task"
            )
        if workspace.one("SELECT count(*) FROM reserved WHERE task_id = ?", [task_id]):
            raise KlingPricingError(f"pair {reservation}: task {task_id} already has a reservation")
        if not workspace.one("SELECT count(*) FROM charge WHERE task_id = ? AND problem IS NULL", [task_id]):
            raise KlingPricingError(f"pair {reservation}: task {task_id} is not on the statement")
        workspace.run("UPDATE reserved SET task_id = ?, paired = TRUE WHERE id = ?", [task_id, reservation])


def _files(blocks: Iterator[bytes], stem: Path) -> Iterator[tuple[Path, int]]:
    """The lines in files of some size, each with how many it has."""
    number, more = 0, True
    while more:
        path = stem.with_name(f"{stem.name}-{number}")
        size = lines = 0
        more = False
        with path.open("wb") as file:
            for block in blocks:
                size += file.write(block)
                lines += block.count(b"\n")
                if size >= _BLOCK_BYTES:
                    more = True
                    break
        yield path, lines
        number += 1


def _load(workspace: Workspace, path: Path, ledger: int, period: Mapping[str, datetime]) -> None:
    sent = separated(path, _TYPES)
    workspace.run(
        f"""
        INSERT INTO terms
        SELECT (SELECT count(*) FROM terms) + row_number() OVER (), written, {_PARTS} FROM (
          SELECT DISTINCT sent.terms AS written, string_split(written, {literal(TERMS_SEPARATOR)}) AS parts
          FROM {sent} AS sent ANTI JOIN terms ON terms.written = sent.terms
        )
        """
    )
    workspace.run(
        f"""
        INSERT INTO reserved
        SELECT {ledger}, sent.* REPLACE (terms.id AS terms),
          dispatched_at >= $since AND dispatched_at < $until,
          ifnull(basis = 'operator' AND billed = 0, FALSE) AS written_off,
          CASE WHEN written_off OR state = 'released' THEN 0
            WHEN ended IS NOT NULL AND failed_tasks = 'refunded' THEN 0
            ELSE expected END,
          1, FALSE, FALSE
        FROM {sent} AS sent JOIN terms ON terms.written = sent.terms
        """,
        period,
    )
    path.unlink()


def _refuse_the_same_twice(workspace: Workspace) -> None:
    """Every ledger names its reservations by ids that no other has."""
    same = workspace.all(
        "SELECT min(ledger), max(ledger) FROM reserved GROUP BY id HAVING min(ledger) < max(ledger) LIMIT 1"
    )
    if same:
        ((one, other),) = same
        raise KlingPricingError(
            f"ledgers {one + 1} and {other + 1} hold the same reservations; give each ledger only once"
        )


def _mark_copies(workspace: Workspace) -> None:
    """Of reservations with the same task, the one that was sent first stands for all of them.

    One that an operator wrote off is no copy, and stands for the task only if all of them are.
    """
    workspace.run(
        """
        INSERT INTO shared
        SELECT task_id, greatest(count(*) FILTER (NOT written_off), 1) AS copies,
          coalesce(bool_or(inside) FILTER (NOT written_off), bool_or(inside)) AS inside,
          CAST(sum(due) FILTER (inside AND NOT written_off) AS BIGINT) AS due,
          arg_min(rowid, (written_off, dispatched_at, id)) AS place,
          list(id ORDER BY dispatched_at, id) FILTER (NOT written_off) AS ids
        FROM reserved WHERE task_id IS NOT NULL GROUP BY task_id HAVING count(*) > 1
        """
    )
    workspace.run(
        """
        UPDATE reserved SET copies = shared.copies, inside = shared.inside,
          due = coalesce(shared.due, reserved.due), spare = reserved.rowid <> shared.place
        FROM shared WHERE reserved.task_id = shared.task_id
        """
    )
