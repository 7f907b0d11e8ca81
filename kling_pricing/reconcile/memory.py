"""Statement memory: rows of remembered statements count like the rows of the files that are given.

So a task that an earlier statement charged is charged twice if a later statement charges it again, a task that
a later statement charges is not missing, and a refund meets the charge that it refunds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import NamedTuple

from kling_pricing.errors import StatementError
from kling_pricing.money import from_nanos
from kling_pricing.reconcile.bookkeeping import in_utc_naive
from kling_pricing.reconcile.statements import Statement
from kling_pricing.reconcile.workspace import Workspace

_IDENTITY = 'task, unit, native, row_key, "at"'
_SHORTEST_DIGEST = 8


class RememberedFile(NamedTuple):
    """A statement file in the books whose rows are in the table `charge`, each with its own row number.

    Attributes:
        name: the name of the file.
    """

    name: str


class Conflict(NamedTuple):
    """A remembered file that charges other amounts than the given files for the same tasks.

    Attributes:
        name: the name of the remembered file.
        digest: SHA-256 of its bytes, in hexadecimal.
        tasks: the number of tasks whose charges differ.
        task_id: one of these tasks.
    """

    name: str
    digest: str
    tasks: int
    task_id: str


class LongerFile(NamedTuple):
    """A remembered file that has all rows of the given files, and more rows after the last of them.

    The given files may be an earlier download of the same list, or a correction that drops its last rows:
    nothing in them shows which.

    Attributes:
        name: the name of the remembered file.
        digest: SHA-256 of its bytes, in hexadecimal.
        rows: the number of rows that the given files lack.
    """

    name: str
    digest: str
    rows: int


class Replacement(NamedTuple):
    """What changes in the books if a file takes the place of a remembered one.

    Attributes:
        name: the name of the remembered file.
        tasks: the number of tasks whose rows change.
        withdrawn: the number of rows that the file no longer has.
        added: the number of rows that only the new file has.
        sums: currency -> the sum of all rows of the remembered file, and of the new one.
    """

    name: str
    tasks: int
    withdrawn: int
    added: int
    sums: Mapping[str, tuple[Decimal, Decimal]]


class Memory(NamedTuple):
    """What was recalled from the books.

    Attributes:
        files: the remembered files that have rows in the table `charge`, after the given files.
        conflicts: the remembered files that contradict the given ones.
        shorter_than: the remembered files that end later than the given ones, and otherwise have the same rows.
    """

    files: tuple[RememberedFile, ...]
    conflicts: tuple[Conflict, ...]
    shorter_than: tuple[LongerFile, ...] = ()


def choose_replaced(workspace: Workspace, replaces: str | None, given: Sequence[Statement]) -> None:
    """Makes the table `to_replace` of the remembered statements that the given file takes the place of.

    Args:
        workspace: the database with the books.
        replaces: the name of the remembered file, or the first digits of its digest; None: none is replaced.
        given: the given statements.

    Raises:
        StatementError: no remembered statement, or several different ones, have that name or digest; or
            several files are given.
    """
    workspace.run("CREATE TABLE to_replace (ledger USMALLINT, number BIGINT)")
    if replaces is None:
        return
    if len(given) != 1:
        raise StatementError(
            f"{len(given)} statement files were given, but only one file can replace {replaces}; give one file"
        )
    known = workspace.all(
        """
        SELECT ledger, number, name, digest FROM past_statement AS statement
        WHERE NOT EXISTS (
          FROM past_statement WHERE ledger = statement.ledger AND replaces = statement.number
        ) ORDER BY number
        """
    )
    is_digest = len(replaces) >= _SHORTEST_DIGEST
    named = [row for row in known if row[2] == replaces or (is_digest and row[3].startswith(replaces))]
    if not named:
        names = ", ".join(dict.fromkeys(f"{name} ({digest[:12]})" for _, _, name, digest in known))
        raise StatementError(
            f"the books do not contain a statement {replaces} to replace; "
            + (f"they contain: {names}" if known else "they do not contain any statement yet")
        )
    digests = dict.fromkeys(row[3] for row in named)
    if len(digests) > 1:
        raise StatementError(
            f"several statements in the books have the name {replaces}; give the digest of the one to replace: "
            + ", ".join(digest[:12] for digest in digests)
        )
    if given[0].digest in digests:
        raise StatementError(f"the file is the statement {replaces} itself; give the corrected file")
    workspace.insert("to_replace", [(ledger, number) for ledger, number, _, _ in named])


def replacement(workspace: Workspace) -> Replacement | None:
    """Returns what changes if the given file replaces the statement in `to_replace`; None: none is replaced.

    Args:
        workspace: the database with the new facts.
    """
    if not workspace.one("SELECT count(*) FROM to_replace"):
        return None
    workspace.run(
        f"""
        CREATE OR REPLACE TABLE changed_row AS
        WITH side AS (
          SELECT (ledger, statement) IN (SELECT (ledger, number) FROM to_replace) AS is_old,
            {_IDENTITY}, currency, amount
          FROM (SELECT *, ifnull(row_id, '') AS row_key FROM fact WHERE kind = 'row')
          WHERE (ledger, statement) IN (SELECT (ledger, number) FROM to_replace)
            OR (ledger, statement) IN (
              SELECT (ledger, past_statement.number) FROM past_statement
              JOIN to_replace USING (ledger) WHERE replaces = to_replace.number
            )
        )
        SELECT {_IDENTITY}, currency, count(*) FILTER (is_old) AS before, count(*) FILTER (NOT is_old) AS after,
          ifnull(sum(amount) FILTER (is_old), 0) AS sum_before,
          ifnull(sum(amount) FILTER (NOT is_old), 0) AS sum_after
        FROM side GROUP BY {_IDENTITY}, currency
        """
    )
    ((tasks, withdrawn, added),) = workspace.all(
        "SELECT count(DISTINCT task) FILTER (before <> after), ifnull(sum(greatest(before - after, 0)), 0),"
        " ifnull(sum(greatest(after - before, 0)), 0) FROM changed_row"
    )
    sums = workspace.all(
        "SELECT currency, sum(sum_before), sum(sum_after) FROM changed_row GROUP BY currency"
        " HAVING sum(sum_before) <> sum(sum_after) ORDER BY currency"
    )
    name = workspace.one("SELECT any_value(name) FROM past_statement JOIN to_replace USING (ledger, number)")
    return Replacement(
        name,
        *(tasks, int(withdrawn), int(added)),
        {currency: (from_nanos(int(before)), from_nanos(int(after))) for currency, before, after in sums},
    )


def recall(workspace: Workspace, given: Sequence[Statement], since: datetime, until: datetime) -> Memory:
    """Adds the remembered rows of the tasks to the table `charge`, except rows that the given files have too.

    Args:
        workspace: the database with the charges, the reservations and the books.
        given: the given statements.
        since: start of the period.
        until: end of the period (exclusive).
    """
    if not workspace.one("SELECT count(*) FROM past_statement"):
        return Memory((), ())
    _collect(workspace, given, since, until)
    shorter_than = _longer_files(workspace, given, since, until)
    conflicts = _conflicts(workspace)
    digests = workspace.all(
        """
        SELECT digest, arg_min(name, number) FROM recalled
        WHERE (digest, task, unit) NOT IN (SELECT (digest, task, unit) FROM contradicted)
        GROUP BY digest ORDER BY min(number), digest
        """
    )
    workspace.run("CREATE TABLE recalled_file (digest VARCHAR, file USMALLINT)")
    workspace.insert("recalled_file", [(digest, len(given) + n) for n, (digest, _) in enumerate(digests)])
    workspace.run(
        """
        INSERT INTO charge
        SELECT file, "row", task, native, unit,
          coalesce(billed_at, CASE WHEN submitted_at IS NULL THEN "at" END), submitted_at,
          NULL, NULL, {'model': '', 'resolution': '', 'facts': []}, row_id, NULL, NULL, native <> 0, NULL
        FROM recalled JOIN recalled_file USING (digest)
        WHERE (digest, task, unit) NOT IN (SELECT (digest, task, unit) FROM contradicted)
        ORDER BY file, "row", copy
        """
    )
    # a first charge that is remembered need not be inferred from its correction
    workspace.run(
        "UPDATE charge SET earlier = NULL WHERE earlier IS NOT NULL AND task_id IN (SELECT task FROM recalled)"
    )
    return Memory(tuple(RememberedFile(name) for _, name in digests), conflicts, shorter_than)


def _collect(workspace: Workspace, given: Sequence[Statement], since: datetime, until: datetime) -> None:
    """Makes the tables `past_row`, `given_row` and `recalled`."""
    end = in_utc_naive(until) - timedelta(microseconds=1)
    copy = f"CASE WHEN row_key <> '' THEN 1 ELSE row_number() OVER (PARTITION BY {{}}{_IDENTITY}) END AS copy"
    workspace.run(
        f"""
        CREATE TABLE given_row AS
        SELECT DISTINCT {_IDENTITY}, {copy.format("file, ")} FROM (
          SELECT file, task_id AS task, unit, native, ifnull(row_id, '') AS row_key,
            coalesce(billed_at, submitted_at, $end) AS "at"
          FROM charge WHERE problem IS NULL AND native IS NOT NULL
        )
        """,
        {"end": end},
    )
    workspace.run(
        f"""
        CREATE TABLE past_row AS
        SELECT *, {copy.format("ledger, statement, ")} FROM (
          SELECT fact.*, digest, name, number, ifnull(row_id, '') AS row_key
          FROM fact JOIN past_statement
            ON past_statement.ledger = fact.ledger AND past_statement.number = fact.statement
          WHERE kind = 'row' AND is_answers = $answers AND NOT EXISTS (
            FROM past_statement AS other
            WHERE other.ledger = past_statement.ledger AND other.replaces = past_statement.number
          ) AND (fact.ledger, number) NOT IN (SELECT (ledger, number) FROM to_replace)
            AND (
              task IN (SELECT task_id FROM charge) OR ("at" >= $since AND "at" <= $end)
              OR task IN (SELECT task_id FROM reserved WHERE inside AND task_id IS NOT NULL)
            )
        )
        """,
        {
            "answers": any(statement.is_answers for statement in given),
            "since": in_utc_naive(since),
            "end": end,
        },
    )
    workspace.run(
        f"""
        CREATE TABLE recalled AS
        SELECT {_IDENTITY}, copy, min(number) AS number, arg_min(digest, number) AS digest,
          arg_min(name, number) AS name, arg_min("row", number) AS "row", arg_min(row_id, number) AS row_id,
          arg_min(billed_at, number) AS billed_at, arg_min(submitted_at, number) AS submitted_at
        FROM past_row ANTI JOIN given_row USING ({_IDENTITY}, copy) GROUP BY {_IDENTITY}, copy
        """
    )


def _longer_files(
    workspace: Workspace, given: Sequence[Statement], since: datetime, until: datetime
) -> tuple[LongerFile, ...]:
    """Makes the table `missing_row`: rows of remembered files that the given files should have, and lack.

    It concerns remembered files of the same period that have all rows of the given files and more. If the given
    files lack a row between their own rows, they are no earlier download of the same list, but a correction. If
    they lack rows only after their last row, they may be either: returns those remembered files. Files that are
    themselves remembered are compared when they are remembered, and not again.
    """
    workspace.run(
        f"""
        CREATE TABLE missing_row AS
        WITH period_row AS (
          SELECT DISTINCT digest, name, {_IDENTITY}, copy FROM past_row
          JOIN past_statement USING (ledger, number, digest, name)
          WHERE past_statement.since = $since AND past_statement.until = $until
            AND "at" >= $since AND "at" < $until
        ), own_row AS (
          SELECT * FROM given_row WHERE "at" >= $since AND "at" < $until
        ), own AS (
          SELECT DISTINCT row({_IDENTITY}, copy) AS entry FROM own_row
        ), whole AS (
          SELECT digest FROM (SELECT DISTINCT digest, row({_IDENTITY}, copy) AS entry FROM period_row) AS past
          JOIN own ON own.entry IS NOT DISTINCT FROM past.entry
          GROUP BY digest HAVING count(*) = (SELECT count(*) FROM own)
        )
        SELECT digest, name, task, unit, "at" > (SELECT max("at") FROM own_row) AS is_last
        FROM period_row SEMI JOIN whole USING (digest)
        WHERE ({_IDENTITY}, copy) NOT IN (SELECT ({_IDENTITY}, copy) FROM own_row)
          AND EXISTS (FROM own_row) AND (SELECT count(*) FROM (
            SELECT unnest($digests) EXCEPT SELECT digest FROM past_statement
          )) > 0
        """,
        {
            "since": in_utc_naive(since),
            "until": in_utc_naive(until),
            "digests": [statement.digest for statement in given],
        },
    )
    rows = workspace.all(
        "SELECT any_value(name), digest, count(*) FROM missing_row GROUP BY digest HAVING bool_and(is_last)"
        " ORDER BY 1, 2"
    )
    return tuple(map(LongerFile._make, rows))


def _conflicts(workspace: Workspace) -> tuple[Conflict, ...]:
    """Makes the table `contradicted`: the tasks of remembered files that the given files charge otherwise.

    Two files contradict each other if both have rows of a task in the same unit, and one of them lacks a row of
    the other although the row's time lies within the times of its own rows. A file that lacks a row of
    `missing_row` contradicts as well, unless the row may only be newer.
    """
    workspace.run(
        f"""
        CREATE TABLE contradicted AS
        WITH given_span AS (SELECT min("at") AS earliest, max("at") AS latest FROM given_row),
        past_span AS (
          SELECT digest, min("at") AS earliest, max("at") AS latest FROM fact JOIN past_statement
            ON past_statement.ledger = fact.ledger AND past_statement.number = fact.statement
          GROUP BY digest
        ),
        shared AS (
          SELECT DISTINCT digest, task, unit FROM past_row SEMI JOIN given_row USING (task, unit)
        ), lacking AS (
          SELECT digest, task, unit FROM past_row, given_span
          WHERE "at" BETWEEN earliest AND latest AND ({_IDENTITY}, copy) NOT IN (
            SELECT ({_IDENTITY}, copy) FROM given_row
          )
          UNION ALL
          SELECT digest, task, unit FROM given_row
          JOIN shared USING (task, unit) JOIN past_span USING (digest)
          WHERE "at" BETWEEN earliest AND latest
            AND (digest, {_IDENTITY}, copy) NOT IN (SELECT (digest, {_IDENTITY}, copy) FROM past_row)
        )
        SELECT DISTINCT digest, task, unit FROM lacking SEMI JOIN shared USING (digest, task, unit)
        UNION SELECT digest, task, unit FROM missing_row WHERE NOT is_last
        """
    )
    rows = workspace.all(
        """
        SELECT any_value(name), digest, count(DISTINCT task), min(task)
        FROM contradicted JOIN (SELECT DISTINCT digest, name FROM past_row) USING (digest)
        GROUP BY digest ORDER BY 1, 2
        """
    )
    return tuple(Conflict._make(row) for row in rows)
