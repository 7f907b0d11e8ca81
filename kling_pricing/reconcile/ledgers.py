"""Loads the reservations that were sent from one account from one or several ledgers into the database.

Each reservation is a row of the table `reserved`. The row has the fields of `sent_lines.SENT`. Of these,
`terms` is the id of a row in the table `terms` with the fields of `terms.TERMS`. Amounts are in nanos. The row
also has:

| column | meaning |
|---|---|
| ledger | the number of the ledger, counted from 0 |
| inside | whether the reservation was sent in the period |
| written_off | whether an operator settled the reservation at 0 |
| due | the amount that should be charged: the quote, or 0 if it was released, written off or refunded; see also
`stated_ends` |
| copies | the number of reservations, in all ledgers, that have the same task |
| spare | whether another reservation with the same task represents this one |
| paired | whether a person assigned the task to the reservation, and the ledger does not have the task yet |
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from datetime import datetime
from pathlib import Path
from typing import Any

from kling_pricing.errors import KlingPricingError
from kling_pricing.ledger import Ledger
from kling_pricing.ledger.provider_accounts import ProviderAccount
from kling_pricing.ledger.sent_lines import SENT
from kling_pricing.ledger.terms import TERMS, TERMS_SEPARATOR
from kling_pricing.reconcile.staging import literal, separated
from kling_pricing.reconcile.workspace import Workspace

_BLOCK_BYTES = 32 << 20
"""The size of a file of reservations; while the database loads one file, the next one is written."""

_TYPES = dict.fromkeys(SENT, "VARCHAR") | {
    "billed": "BIGINT",
    "dispatched_at": "TIMESTAMP",
    "closed_at": "TIMESTAMP",
}
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
"""The SQL of the fields in the text of a ledger's terms."""


def read_ledgers(
    workspace: Workspace,
    ledgers: Sequence[Ledger],
    *,
    provider: str,
    account: ProviderAccount | None,
    since: datetime,
    until: datetime,
    before: datetime,
    loader: Executor,
    first: Future[Any],
    on_reservations: Callable[[int], None],
) -> None:
    """Loads the reservations that were sent before an instant into the table `reserved`.

    The table `elsewhere` gets the tasks that were sent from other accounts at the same provider.

    Args:
        workspace: the database with the table.
        ledgers: the ledgers to read.
        provider: the provider to which the reservations were sent.
        account: the account from which they were sent; None: any account.
        since: the start of the period.
        until: the end of the period, which is not part of it.
        before: reservations sent at or after this instant are not loaded.
        loader: the executor in whose thread the database loads one file while the next one is written.
        first: the work that this thread does first.
        on_reservations: called with the number of reservations read so far.

    Raises:
        LedgerUnavailableError: a ledger cannot be read.
        KlingPricingError: two ledgers are the same.
    """
    workspace.run(_RESERVED)
    workspace.run(_TERMS)
    workspace.run("CREATE TABLE elsewhere (task_id VARCHAR, account VARCHAR)")
    workspace.run(
        "CREATE TABLE shared"
        " (task_id VARCHAR, copies BIGINT, inside BOOLEAN, due BIGINT, place BIGINT, ids VARCHAR[])"
    )
    values = {
        "account": account and account.account,
        "since": since.replace(tzinfo=None),
        "until": until.replace(tzinfo=None),
    }
    loads: list[Future[Any]] = [first]
    read = 0
    for place, ledger in enumerate(ledgers):
        others = account is not None and _may_have_others(ledger, account)
        for path, lines in _files(ledger.sent(provider, before), workspace.folder / f"ledger-{place}"):
            loads.append(loader.submit(_load, workspace, path, place, values, others=others))
            loads[-2].result()  # so that at most two files exist
            read += lines
            on_reservations(read)
    loads[-1].result()
    if len(ledgers) > 1:
        _refuse_the_same_twice(workspace)
        _mark_copies(workspace)


def pair(workspace: Workspace, pairs: Mapping[str, str]) -> None:
    """Assigns tasks to reservations that have no task.

    Args:
        workspace: the database with the reservations.
        pairs: reservation -> task.

    Raises:
        KlingPricingError: a reservation already has a task or was not sent, or a task already has a reservation
            or is not on the statement.
    """
    for reservation, task_id in pairs.items():
        rows = workspace.all("SELECT state, task_id FROM reserved WHERE id = ?", [reservation])
        if not rows:
            raise KlingPricingError(
                f"pair {reservation}: the ledgers do not contain a sent reservation with this id for this "
                "provider"
            )
        ((state, known),) = rows
        if known == task_id:
            continue  # paired earlier, and settled since then
        if known is not None or state not in {"dispatching", "settled"}:
            has = f", with task {known}" if known else ""
            raise KlingPricingError(
                f"pair {reservation}: the reservation is {state}{has}; choose a "
                "reservation that was sent and has no task"
            )
        if workspace.one("SELECT count(*) FROM reserved WHERE task_id = ?", [task_id]):
            raise KlingPricingError(f"pair {reservation}: task {task_id} already has a reservation")
        if not workspace.one("SELECT count(*) FROM charge WHERE task_id = ? AND problem IS NULL", [task_id]):
            raise KlingPricingError(f"pair {reservation}: task {task_id} is not on the statement")
        workspace.run("UPDATE reserved SET task_id = ?, paired = TRUE WHERE id = ?", [task_id, reservation])


def _files(blocks: Iterator[bytes], stem: Path) -> Iterator[tuple[Path, int]]:
    """Writes the lines to files of limited size, and yields each file with its number of lines."""
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


def _load(workspace: Workspace, path: Path, ledger: int, values: Mapping[str, Any], *, others: bool) -> None:
    """Loads the reservations of the account from a file; with `others`, also the tasks of other accounts."""
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
        WHERE sent.account = $account OR CAST($account AS VARCHAR) IS NULL
        """,
        values,
    )
    if others:
        workspace.run(
            f"INSERT INTO elsewhere SELECT task_id, account FROM {sent}"
            " WHERE account <> ? AND task_id IS NOT NULL",
            [values["account"]],
        )
    path.unlink()


def _may_have_others(ledger: Ledger, account: ProviderAccount) -> bool:
    """Returns whether a ledger may have other accounts at the provider."""
    known = {each.account for each in ledger.accounts() if each.provider == account.provider}
    return account.account != account.provider or not known <= {account.account}


def _refuse_the_same_twice(workspace: Workspace) -> None:
    """Refuses a ledger that was given twice, because the ids of reservations are unique."""
    same = workspace.all(
        "SELECT min(ledger), max(ledger) FROM reserved GROUP BY id HAVING min(ledger) < max(ledger) LIMIT 1"
    )
    if same:
        ((one, other),) = same
        raise KlingPricingError(
            f"ledgers {one + 1} and {other + 1} hold the same reservations; give each ledger only once"
        )


def _mark_copies(workspace: Workspace) -> None:
    """Marks reservations with the same task: the one that was sent first represents all of them.

    A reservation that an operator wrote off does not count as a copy, and represents the task only if all
    reservations with this task were written off.
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
