"""Learning: the facts that a reconciliation adds to the books.

They are what each task should cost, where the books do not know it or know it otherwise, and the rows of the
given statements. Until they are remembered, they are only in the database of the reconciliation.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from decimal import Decimal

from kling_pricing.ledger.books import Books
from kling_pricing.money import multiply
from kling_pricing.reconcile.bookkeeping import first_open_month, in_utc_naive
from kling_pricing.reconcile.matching import OWNED, WITH_WORTH, WORTH
from kling_pricing.reconcile.statements import Statement
from kling_pricing.reconcile.workspace import Workspace

_ROUNDING = Decimal("0.01")
"""The part of an amount by which a charge may differ from the request that it fits: statements round."""

_COLUMNS = (
    'ledger, seq, kind, period, "at", task, project, currency, amount, native, unit, statement, "row", row_id,'
    " billed_at, submitted_at, is_new"
)


def learn(
    workspace: Workspace,
    statements: Sequence[Statement],
    books: Sequence[Books],
    since: datetime,
    until: datetime,
    now: datetime,
) -> None:
    """Adds new facts to the table `fact`, and new statements to `past_statement`.

    Args:
        workspace: the database with the lines and the books.
        statements: the given statements.
        books: the books of each ledger.
        since: start of the period.
        until: end of the period (exclusive).
        now: the current instant.
    """
    note_open_months(workspace, books)
    workspace.run("CREATE TABLE given_file (file USMALLINT, first BIGINT, first_row BIGINT)")
    workspace.insert("given_file", [(file, each.first, each.first_row) for file, each in enumerate(statements)])
    learn_uses(workspace, _requests_of_unknown_charges(workspace), now)
    _learn_statements(workspace, statements, books, since, until, now)
    _learn_rows(workspace, since, until)
    _learn_write_offs(workspace, until)


def note_open_months(workspace: Workspace, books: Sequence[Books]) -> None:
    """Makes the table `open_month` of the first open month of each ledger, and its newest fact."""
    workspace.run("CREATE TABLE open_month (ledger USMALLINT, month VARCHAR, known BIGINT)")
    workspace.insert(
        "open_month",
        [(place, first_open_month(each), each.known.facts) for place, each in enumerate(books)],
    )


def learn_uses(workspace: Workspace, counted: Iterable[str], now: datetime) -> None:
    """Adds what each task should cost, where the books do not know it or know it otherwise.

    Args:
        workspace: the database with the reservations and the books.
        counted: requests to leave out, because a charge of an unknown task already counts them.
        now: the current instant.
    """
    workspace.run("CREATE TABLE counted_request (id VARCHAR)")
    workspace.insert("counted_request", [(request,) for request in counted])
    workspace.run(
        f"""
        INSERT INTO fact ({_COLUMNS})
        WITH known AS (
          SELECT task, currency, arg_max(amount, (ledger, seq)) AS amount,
            arg_max(project, (ledger, seq)) AS project
          FROM fact WHERE kind = 'use' GROUP BY task, currency
        ), present AS (
          SELECT reserved.ledger, coalesce(task_id, 'reservation:' || reserved.id) AS task, project, currency,
            due AS amount, dispatched_at, closed_at
          FROM reserved JOIN terms ON terms.id = reserved.terms
          WHERE NOT spare AND dispatched_at IS NOT NULL AND reserved.id NOT IN (FROM counted_request)
        ), renamed AS (
          SELECT reserved.ledger, known.task, known.project, known.currency, 0 AS amount, dispatched_at, NULL
          FROM reserved JOIN known ON known.task = 'reservation:' || id
          WHERE task_id IS NOT NULL AND known.amount <> 0
        ), learnt AS (
          SELECT present.*,
            CASE WHEN known.task IS NULL THEN dispatched_at
              ELSE greatest(dispatched_at, coalesce(closed_at, $now)) END AS "at"
          FROM present LEFT JOIN known USING (task, currency)
          WHERE known.task IS NULL AND present.amount <> 0
            OR present.amount <> known.amount OR present.project <> known.project
          UNION ALL
          SELECT *, dispatched_at FROM renamed
        )
        SELECT learnt.ledger,
          (SELECT max(known) FROM open_month) + row_number() OVER (ORDER BY learnt.ledger, "at", task), 'use',
          greatest(strftime("at", '%Y-%m'), month), "at", task, project, currency, amount,
          NULL, NULL, NULL, NULL, NULL, NULL, NULL, TRUE
        FROM learnt JOIN open_month USING (ledger)
        """,
        {"now": in_utc_naive(now)},
    )


def _requests_of_unknown_charges(workspace: Workspace) -> Iterator[str]:
    """Yields the requests that the charges of unknown tasks already count, one per charge.

    A charge that fits several requests belongs to one of them. Any of them will do, because they have the same
    amount as far as the statement can express it.
    """
    in_doubt = "FROM line LEFT JOIN reserved ON reserved.rowid = line.reservation"
    in_doubt += " WHERE category = 'in_doubt_candidate'"
    charges = deque(
        workspace.all(f"SELECT currency, line.billed {in_doubt} AND line.billed IS NOT NULL ORDER BY 1, 2")
    )
    requests = workspace.all(
        f"SELECT currency, line.expected, id {in_doubt} AND line.billed IS NULL AND line.expected IS NOT NULL"
        " ORDER BY ALL"
    )
    for currency, expected, request in requests:
        least, most = (multiply(Decimal(expected), factor) for factor in (1 - _ROUNDING, 1 + _ROUNDING))
        while charges and charges[0] < (currency, least):
            charges.popleft()
        if charges and charges[0] <= (currency, most):
            charges.popleft()
            yield request


def _learn_statements(
    workspace: Workspace,
    statements: Sequence[Statement],
    books: Sequence[Books],
    since: datetime,
    until: datetime,
    now: datetime,
) -> None:
    """Adds the given statements that are not in force in the books yet, and makes `learnt_file` of them."""
    workspace.run("CREATE TABLE learnt_file (file USMALLINT, ledger USMALLINT, number BIGINT)")
    period = (in_utc_naive(since), in_utc_naive(until))
    for place, each in enumerate(books):
        replaced = {statement.replaces for statement in each.statements}
        in_force = {
            (statement.digest, statement.since, statement.until)
            for statement in each.statements
            if statement.number not in replaced
        }
        number = each.known.statements
        for file, statement in enumerate(statements):
            if (statement.digest, since, until) in in_force:
                continue
            number += 1
            workspace.insert("learnt_file", [(file, place, number)])
            workspace.run(
                """
                INSERT INTO past_statement
                SELECT $ledger, $number, $name, $digest, $since, $until, $is_answers, $now, replaced.number,
                  CASE WHEN replaced.number IS NOT NULL THEN
                    greatest(strftime(replaced.until - INTERVAL 1 MICROSECOND, '%Y-%m'), month) END,
                  TRUE
                FROM open_month LEFT JOIN (
                  SELECT past_statement.ledger, past_statement.number, past_statement.until
                  FROM past_statement JOIN to_replace USING (ledger, number)
                ) AS replaced USING (ledger)
                WHERE ledger = $ledger
                """,
                {
                    "ledger": place,
                    "number": number,
                    "name": statement.name,
                    "digest": statement.digest,
                    "since": period[0],
                    "until": period[1],
                    "is_answers": statement.is_answers,
                    "now": in_utc_naive(now),
                },
            )


def _learn_rows(workspace: Workspace, since: datetime, until: datetime) -> None:
    """Adds the rows of the period of the statements that are new.

    Each row has the amount by which it raises the sum of its task's rows, so that the rounding of a unit's
    value changes no sum. The sums are a table of their own, because one query for all needs more memory.
    """
    workspace.run(
        f"""
        CREATE TABLE summed AS
        WITH {OWNED}, bill AS (
          SELECT charge.rowid AS place, file, "row", task_id, native, unit, row_id, billed_at, submitted_at,
            coalesce(billed_at, submitted_at, $end) AS "at",
            charge.rowid IN (SELECT place FROM superseded) AS is_copy
          FROM charge
          WHERE problem IS NULL AND native <> 0 AND file IN (SELECT file FROM learnt_file)
            AND charge.rowid NOT IN (SELECT place FROM superseded WHERE file IS NULL)
          QUALIFY row_id IS NULL
            OR (native, unit) = first_value((native, unit)) OVER (PARTITION BY task_id, row_id ORDER BY place)
        ), valued AS (
          SELECT bill.*, {WORTH.replace("AS worth", "AS worth_id")}, coalesce(past.atto, usual.atto) AS atto
          FROM bill LEFT JOIN owned ON owned.task_id = bill.task_id
          {WITH_WORTH}
          WHERE "at" >= $since AND "at" <= $end
        )
        SELECT *, CASE WHEN is_copy THEN native ELSE
          sum(native) OVER (PARTITION BY task_id, unit, is_copy ORDER BY place) END AS upto
        FROM valued
        """,
        {"since": in_utc_naive(since), "end": in_utc_naive(until) - timedelta(microseconds=1)},
    )
    workspace.run(
        f"""
        INSERT INTO fact ({_COLUMNS})
        WITH owner AS (
          SELECT task_id, min(ledger) AS ledger FROM reserved WHERE task_id IS NOT NULL GROUP BY task_id
        )
        SELECT learnt_file.ledger,
          (SELECT max(seq) FROM (SELECT max(seq) AS seq FROM fact UNION ALL SELECT max(known) FROM open_month))
            + row_number() OVER (ORDER BY place),
          'row', greatest(strftime("at", '%Y-%m'), month), "at", summed.task_id, '', currency,
          CAST(CASE WHEN is_copy THEN money(native, atto)
            ELSE money(upto, atto) - money(upto - native, atto) END AS BIGINT),
          native, unit, learnt_file.number, coalesce("row", place - first + first_row), nullif(row_id, ''),
          billed_at, submitted_at, TRUE
        FROM summed
        LEFT JOIN owner ON owner.task_id = summed.task_id
        JOIN learnt_file ON learnt_file.file = summed.file AND learnt_file.ledger = ifnull(owner.ledger, 0)
        JOIN open_month ON open_month.ledger = learnt_file.ledger
        JOIN given_file ON given_file.file = summed.file
        WHERE currency IS NOT NULL
        """
    )
    workspace.run("DROP TABLE summed")


def _learn_write_offs(workspace: Workspace, until: datetime) -> None:
    """Writes off what remains of tasks whose charge is final although it is lower than expected.

    These are charges that were rounded down, and charges within the tolerance: nobody will charge the rest.
    """
    workspace.run(
        f"""
        INSERT INTO fact ({_COLUMNS})
        WITH final AS (
          SELECT DISTINCT reserved.ledger, reserved.task_id AS task, terms.currency,
            coalesce(charge.billed_at, charge.submitted_at, $end) AS "at"
          FROM line JOIN reserved ON reserved.rowid = line.reservation JOIN terms ON terms.id = reserved.terms
          JOIN charge ON charge.rowid = line.place
          LEFT JOIN explanation ON explanation.id = line.explanation
          WHERE line.billed IS NOT NULL AND line.whole < due AND line.whole > 0
            AND line.currency = terms.currency
            AND (category = 'within_tolerance' OR (
              NOT is_exception AND explanation.kind IN ('rounding', 'unstated_rounding')
            ))
            AND reserved.task_id NOT IN (SELECT task FROM fact WHERE kind = 'write_off')
            AND reserved.task_id IN (SELECT task FROM fact WHERE kind = 'row')
        )
        SELECT final.ledger, (SELECT max(seq) FROM fact) + row_number() OVER (ORDER BY final.ledger, task),
          'write_off', greatest(strftime("at", '%Y-%m'), month), "at", task, '', currency, 0,
          NULL, NULL, NULL, NULL, NULL, NULL, NULL, TRUE
        FROM final JOIN open_month USING (ledger)
        """,
        {"end": in_utc_naive(until) - timedelta(microseconds=1)},
    )
