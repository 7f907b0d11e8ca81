"""The books of an account: facts, and what they come to in a period.

The facts of every ledger, and those that a reconciliation adds, are rows of the table `fact`:

| column | meaning |
|---|---|
| ledger | the number of the ledger |
| seq | the number of the fact in its ledger; facts that are not in a ledger yet follow on |
| the fields of `BookFact` | as in the ledger |
| is_new | whether the fact is not in a ledger yet |

The table `past_statement` has the statements in the same way.

The amounts of a task, as of a period:

- *used*: what its use should cost now;
- *charged*: the sum of its rows in force. A row that several files of a period have is one row. A row of a file
  that another file replaces is not in force;
- *disputed*: the disputed parts of rows in force;
- *owed*: what was used and is not charged yet: what is used, less the positive rows, and never below zero. So a
  refund does not make an amount owed again. A task that was written off owes nothing.

The journal of a period books what these amounts are at its end, less what they were at its start. The amount to
pay is derived in the same way, from what is charged and not disputed.

A dispute and its resolution belong to the month of the row that they are about, or to the first open month if
that is later. So the disputed part of an invoice counts in the month of the invoice, until the month is closed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import get_args

from kling_pricing.ledger import Ledger, connect
from kling_pricing.ledger.books import FACT, Books
from kling_pricing.ledger.provider_accounts import ProviderAccount
from kling_pricing.money import format_decimal, from_nanos
from kling_pricing.reconcile.chosen_account import choose_account
from kling_pricing.reconcile.model import Account, AccruedMonth, BookingGroup, JournalLine, Payable
from kling_pricing.reconcile.months import BooksPeriod, following
from kling_pricing.reconcile.staging import separated
from kling_pricing.reconcile.workspace import Workspace
from kling_pricing.windows import utc_clock

_TYPES = dict.fromkeys(FACT, "VARCHAR") | {
    **dict.fromkeys(("seq", "amount", "native", "statement", "row", "subject"), "BIGINT"),
    **dict.fromkeys(("at", "billed_at", "submitted_at"), "TIMESTAMP"),
}
_FACT = f"""
    CREATE TABLE fact (
      ledger USMALLINT, {", ".join(f'"{name}" {kind}' for name, kind in _TYPES.items())}, is_new BOOLEAN
    )
"""
_PAST_STATEMENT = """
    CREATE TABLE past_statement (
      ledger USMALLINT, number BIGINT, name VARCHAR, digest VARCHAR, since TIMESTAMP, until TIMESTAMP,
      is_answers BOOLEAN, remembered_at TIMESTAMP, replaces BIGINT, replaced_in VARCHAR, is_new BOOLEAN
    )
"""
_EVER = BooksPeriod(datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 12, 1, tzinfo=UTC))
"""A period that every fact belongs to."""
ROW_IDENTITY = 'task, currency, unit, native, row_key, "at"'
"""The columns by which rows of different files are the same row; `row_key` is `row_id`, or an empty text."""

ROWS = "SELECT *, ifnull(row_id, '') AS row_key FROM fact WHERE kind = 'row'"
"""The SQL of all rows, with the columns of `ROW_IDENTITY`."""

DISPUTABLE_ROWS = f"""
    SELECT * FROM ({ROWS}) WHERE ({ROW_IDENTITY}) IN (
      SELECT ({ROW_IDENTITY}) FROM ({ROWS}) AS present WHERE (present.ledger, present.statement) NOT IN (
        SELECT (ledger, replaces) FROM past_statement WHERE replaces IS NOT NULL
      )
    )
"""
"""The SQL of the rows that some statement in force has. The dispute of any other row is moot."""


@contextmanager
def opened_books(
    ledgers: str | Sequence[str], provider: str, account: str | None
) -> Iterator[tuple[Workspace, list[Ledger], list[Books]]]:
    """Yields a database with the books of an account, the ledgers, and the books of each ledger.

    Raises:
        KlingPricingError: the account is unknown, or the ledgers have several accounts and none was chosen.
    """
    urls = [ledgers] if isinstance(ledgers, str) else ledgers
    opened = [connect(url, clock=utc_clock(None)) for url in urls]
    workspace = Workspace()
    try:
        yield workspace, opened, load_books(workspace, opened, choose_account(opened, provider, account))
    finally:
        workspace.close()
        for ledger in opened:
            ledger.close()


def load_books(workspace: Workspace, ledgers: Sequence[Ledger], account: ProviderAccount) -> list[Books]:
    """Makes the tables `fact` and `past_statement`, and returns the books of each ledger."""
    workspace.run(_FACT)
    workspace.run(_PAST_STATEMENT)
    loaded = []
    for place, ledger in enumerate(ledgers):
        books = ledger.books(account.books)
        loaded.append(books)
        workspace.insert(
            "past_statement",
            [
                (
                    *(place, statement.number, statement.name, statement.digest),
                    *(in_utc_naive(at) for at in (statement.since, statement.until)),
                    statement.is_answers,
                    in_utc_naive(statement.remembered_at),
                    *(statement.replaces, statement.replaced_in, False),
                )
                for statement in books.statements
            ],
        )
        if books.known.facts:
            path = workspace.folder / f"facts-{place}"
            with path.open("wb") as file:
                file.writelines(ledger.facts(account.books))
            workspace.run(f"INSERT INTO fact SELECT {place}, *, FALSE FROM {separated(path, _TYPES)}")
            path.unlink()
    return loaded


def in_utc_naive(at: datetime) -> datetime:
    """Returns an instant in UTC without its zone, as the database stores it."""
    return at.astimezone(UTC).replace(tzinfo=None)


def journal(workspace: Workspace, period: BooksPeriod, ledger: int | None = None) -> list[JournalLine]:
    """Returns the journal of a period, by project and currency; debits equal credits exactly.

    Args:
        workspace: the database with the books.
        period: the period.
        ledger: the ledger whose facts count; None: all ledgers.
    """
    changes = workspace.all(
        f"""
        WITH {_changes(period, ledger)}
        SELECT project, currency,
          {
            ", ".join(
                f"ifnull(sum({account}), 0), count(*) FILTER ({account} <> 0)" for account in get_args(Account)
            )
        }
        FROM change GROUP BY project, currency ORDER BY currency, project
        """
    )
    accounts = get_args(Account)
    return [
        JournalLine(account, project, currency, from_nanos(amounts[2 * place]), amounts[2 * place + 1])
        for project, currency, *amounts in changes
        for place, account in enumerate(accounts)
        if amounts[2 * place]
    ]


def booking_groups(workspace: Workspace, period: BooksPeriod) -> list[BookingGroup]:
    """Returns the journal of a period in groups of tasks, which add up to the lines of `journal`.

    The labels of a task are those of its reservation; of a task without one, there are none. Its day is the one
    on which it was sent, else charged; for a task of an earlier period, the first day of the period.

    Args:
        workspace: the database with the books and the reservations.
        period: the period.
    """
    rows = workspace.all(
        f"""
        WITH {_changes(period, None)}, task_day AS (
          SELECT task, coalesce(min("at") FILTER (kind = 'use'), min("at")) AS "at" FROM fact GROUP BY task
        ), task_labels AS (
          SELECT coalesce(task_id, 'reservation:' || id) AS task, min(labels) AS labels FROM reserved
          WHERE NOT spare GROUP BY 1
        )
        SELECT project, currency, ifnull(labels, '{{}}') AS labels,
          CAST(least(greatest("at", $since), $last) AS DATE) AS day, count(*),
          {", ".join(f"sum({account})" for account in get_args(Account))}
        FROM change LEFT JOIN task_day USING (task) LEFT JOIN task_labels USING (task)
        WHERE {" OR ".join(f"{account} <> 0" for account in get_args(Account))}
        GROUP BY ALL ORDER BY currency, project, labels, day
        """,
        {
            "since": in_utc_naive(period.since),
            "last": in_utc_naive(period.until) - timedelta(microseconds=1),
        },
    )
    return [
        BookingGroup(project, json.loads(labels), day, currency, tasks, *map(from_nanos, amounts))
        for project, currency, labels, day, tasks, *amounts in rows
    ]


def payable(workspace: Workspace, period: BooksPeriod, ledger: int | None = None) -> list[Payable]:
    """Returns the amounts to pay, in dispute and to accrue, by currency.

    Args:
        workspace: the database with the books.
        period: the period.
        ledger: the ledger whose facts count; None: all ledgers.
    """
    rows = workspace.all(
        f"""
        WITH {targets("start", 0, period, ledger)}, {targets("end", 1, period, ledger)}, part AS (
          SELECT currency, charged, charged - disputed AS accepted, disputed, owed FROM end_target
          UNION ALL SELECT currency, -charged, disputed - charged, 0, 0 FROM start_target
        )
        SELECT currency, sum(charged), sum(accepted), sum(disputed), sum(owed) FROM part
        GROUP BY currency HAVING bool_or(charged <> 0 OR disputed <> 0 OR owed <> 0) ORDER BY currency
        """
    )
    return [Payable(currency, *map(from_nanos, amounts)) for currency, *amounts in rows]


def accrued_months(workspace: Workspace, period: BooksPeriod, ledger: int | None = None) -> list[AccruedMonth]:
    """Returns the parts of what is owed at the end of a period, by currency and by the month of the tasks.

    The parts of a currency add up to `Payable.accrue`.

    Args:
        workspace: the database with the books.
        period: the period.
        ledger: the ledger whose facts count; None: all ledgers.
    """
    rows = workspace.all(
        f"""
        WITH {targets("end", 1, period, ledger)}, sent AS (
          SELECT task, currency, strftime(min("at"), '%Y-%m') AS month
          FROM end_fact WHERE kind = 'use' GROUP BY task, currency
        )
        SELECT currency, month, sum(owed), count(*) FROM end_target JOIN sent USING (task, currency)
        WHERE owed <> 0 GROUP BY currency, month ORDER BY currency, month
        """
    )
    return [AccruedMonth(currency, month, from_nanos(owed), tasks) for currency, month, owed, tasks in rows]


def digest(lines: Sequence[JournalLine]) -> str:
    """Returns the digest of a journal; equal journals have equal digests."""
    texts = (
        "\x1f".join((line.currency, line.project, line.account, format_decimal(line.amount))) for line in lines
    )
    return sha256("\n".join(sorted(texts)).encode()).hexdigest()


def owed(workspace: Workspace, task_id: str) -> list[tuple[int, str, str, int]]:
    """Returns what is owed for a task, per currency: the ledger, the project, the currency, and the amount.

    The amount is in billionths. The list is empty if the books do not know the task.
    """
    rows = workspace.all(
        f"""
        WITH {targets("end", 1, _EVER)}, place AS (
          SELECT currency, arg_max(ledger, (ledger, seq)) AS ledger FROM fact
          WHERE task = $task AND kind IN ('use', 'row') GROUP BY currency
        )
        SELECT ledger, project, currency, CAST(owed AS BIGINT) FROM end_target JOIN place USING (currency)
        WHERE task = $task ORDER BY currency
        """,
        {"task": task_id},
    )
    return [(ledger, project, currency, amount) for ledger, project, currency, amount in rows]


def first_open_month(books: Books) -> str:
    """Returns the first month that is not closed; empty: no month is closed."""
    return following(books.closed[-1].month) if books.closed else ""


def _changes(period: BooksPeriod, ledger: int | None) -> str:
    """Returns the SQL of a table `change` of what a period adds to the accounts of each task."""
    return f"""
        {targets("start", 0, period, ledger)}, {targets("end", 1, period, ledger)}, change AS (
          SELECT project, currency, task, sum(expense) AS expense, sum(variance) AS variance,
            sum(disputed) AS disputed, sum(liability) AS liability
          FROM (
            SELECT project, currency, task, expense, variance, disputed, liability FROM end_target
            UNION ALL
            SELECT project, currency, task, -expense, -variance, -disputed, -liability FROM start_target
          ) GROUP BY project, currency, task
        )
    """


def targets(name: str, bucket: int, period: BooksPeriod, ledger: int | None = None) -> str:
    """Returns the SQL of a table `<name>_target` of the amounts of each task, as of a place of the period."""
    counted = "TRUE" if ledger is None else f"{{}}ledger = {ledger}"
    fact_bucket = period.bucket("period", '"at"')
    replaced = period.bucket("past_statement.replaced_in", "replaced.until - INTERVAL 1 MICROSECOND")
    return f"""
        {name}_fact AS (
          SELECT *, ifnull(row_id, '') AS row_key FROM fact
          WHERE {counted.format("")} AND {fact_bucket} <= {bucket}
            AND NOT (kind = 'row' AND (ledger, statement) IN (
            SELECT past_statement.ledger, past_statement.replaces FROM past_statement
            JOIN past_statement AS replaced
              ON replaced.ledger = past_statement.ledger AND replaced.number = past_statement.replaces
            WHERE {replaced} <= {bucket}
          ))
        ), {name}_row AS (
          SELECT {ROW_IDENTITY}, copy, arg_min(amount, (ledger, seq)) AS amount FROM (
            SELECT *, CASE WHEN row_key <> '' THEN 1 ELSE row_number() OVER (
              PARTITION BY ledger, statement, {ROW_IDENTITY} ORDER BY seq
            ) END AS copy FROM {name}_fact WHERE kind = 'row'
          ) GROUP BY ALL
        ), {name}_charged AS (
          SELECT task, currency, sum(amount) AS charged, ifnull(sum(amount) FILTER (amount > 0), 0) AS positive
          FROM {name}_row GROUP BY task, currency
        ), {name}_used AS (
          SELECT task, currency, arg_max(amount, (ledger, seq)) AS used,
            arg_max(project, (ledger, seq)) AS project
          FROM {name}_fact WHERE kind = 'use' GROUP BY task, currency
        ), {name}_disputed AS (
          SELECT dispute.task, dispute.currency, sum(dispute.amount) AS disputed
          FROM fact AS dispute JOIN ({ROWS}) AS row ON row.ledger = dispute.ledger AND row.seq = dispute.subject
          LEFT JOIN fact AS resolution ON resolution.kind = 'resolution'
            AND resolution.ledger = dispute.ledger AND resolution.subject = dispute.seq
          WHERE dispute.kind = 'dispute' AND {counted.format("dispute.")}
            AND {period.bucket("dispute.period", 'row."at"')} <= {bucket}
            AND (resolution.seq IS NULL OR {period.bucket("resolution.period", 'row."at"')} > {bucket})
            AND ({", ".join(f"row.{column}" for column in ROW_IDENTITY.split(", "))}) IN (
              SELECT ({ROW_IDENTITY}) FROM {name}_row
            )
          GROUP BY dispute.task, dispute.currency
        ), {name}_target AS (
          SELECT ifnull(project, '') AS project, currency, task, ifnull(used, 0) AS expense,
            ifnull(charged, 0) AS charged, ifnull(disputed, 0) AS disputed,
            CASE WHEN is_written_off THEN 0 ELSE greatest(0, ifnull(used, 0) - ifnull(positive, 0)) END AS owed,
            ifnull(charged, 0) + owed AS liability, liability - expense - ifnull(disputed, 0) AS variance
          FROM {name}_used FULL JOIN {name}_charged USING (task, currency)
          LEFT JOIN {name}_disputed USING (task, currency)
          LEFT JOIN (SELECT DISTINCT task, TRUE AS is_written_off FROM {name}_fact WHERE kind = 'write_off')
            USING (task)
        )
    """
