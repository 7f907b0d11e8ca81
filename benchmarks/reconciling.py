"""Measures the time of a reconciliation, in the same run as plain Python and a plain DuckDB join.

Run it with::

    .venv/bin/pip install -q -e '.[dev]' && .venv/bin/python benchmarks/reconciling.py [TASKS]

The benchmark generates a SQLite ledger and a CSV statement with the same tasks; one task in a thousand is
charged a different amount.
All contestants start with these two files, except the last two.
DuckDB alone cannot read the ledger, so `sqlite3` and `csv` export its rows to CSV first; where DuckDB's SQLite
extension is installed (`LOAD sqlite_scanner` works), a contestant uses it.
The last two contestants are the join alone, with both sides already in CSV: of all columns, which it
stores, and of two columns, which is the least that any program must do.
The contestants other than `reconcile` sum each side by task, join the sides, and sort each task into one of
four categories; they check and explain nothing, and tie nothing out.
Each contestant is a separate process with its own peak memory; they run one after another.
"""

import csv
import json
import os
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

from kling_pricing import Budget, BudgetGuard, load_price_book
from kling_pricing.ledger import connect
from kling_pricing.ledger.sent_lines import SENT, SENT_SEPARATOR
from kling_pricing.ledger.terms import TERMS, TERMS_SEPARATOR
from kling_pricing.reconcile import reconcile

SINCE, UNTIL = datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)
CELLS = (("720p", "silent", 71_400_000), ("720p", "audio", 107_100_000), ("1080p", "audio", 142_800_000))
NANOS_PER_QUOTA = 2000
COLUMNS = (
    *("id", "project", "key", "attempt", "state", "provider", "task_id", "wire_format", "model", "resolution"),
    *("tier", "quantity", "unit", "currency", "expected", "reserved", "billed", "basis", "price_table"),
    *("table_digest", "statement_unit", "unit_value", "failed_tasks", "labels", "changes", "fingerprint"),
    *("created_at", "dispatched_at", "closed_at", "deadline"),
)
FIELDS = (*SENT[:-1], *TERMS)
EXPORTED = tuple(name for name in FIELDS if name != "ended")


def reservations(tasks: int) -> Iterator[tuple[object, ...]]:
    """Yields the rows of a ledger."""
    for number in range(tasks):
        resolution, tier, rate = CELLS[number % len(CELLS)]
        seconds = 5 + number % 4
        at = (SINCE + number * timedelta(days=29) / tasks).isoformat(timespec="microseconds")
        cost = rate * seconds
        name = f"{number * 2654435761 % 2**32:08x}{number:024x}"
        yield (
            *(
                name,
                f"project-{number % 50}",
                f"shot-{number}",
                1,
                "settled",
                "qingbo",
                f"task-{name[:24]}-{number}",
            ),
            *(
                "tasks",
                "kling-v3",
                resolution,
                tier,
                str(seconds),
                "second",
                "USD",
                cost,
                cost,
                cost,
                "response",
            ),
            *("qingbo/2026-04-29", "d" * 64, "quota", "0.000002", "refunded"),
            *(
                f'{{"project":"project-{number % 50}","user":"user-{number % 900}"}}',
                "{}",
                "f" * 64,
                at,
                at,
                at,
                at,
            ),
        )


def make(folder: Path, tasks: int) -> None:
    """Writes the ledger, its rows as CSV, and the statement."""
    path = folder / "spend.db"
    with BudgetGuard(f"sqlite:///{path}", [Budget(name="all", cap=Decimal(10**8), currency="USD")]):
        pass
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("PRAGMA synchronous = OFF")
    database.execute("BEGIN")
    places = ", ".join("?" * len(COLUMNS))
    database.executemany(
        f"INSERT INTO reservation ({', '.join(COLUMNS)}) VALUES ({places})",  # noqa: S608
        reservations(tasks),
    )
    database.execute("COMMIT")
    database.close()
    with (
        (folder / "ledger.csv").open("w", newline="") as ledger,
        (folder / "statement.csv").open("w", newline="") as statement,
    ):
        ours, theirs = csv.writer(ledger), csv.writer(statement)
        ours.writerow(FIELDS)
        theirs.writerow(("task_id", "model", "action", "status", "created_at", "cost"))
        for number, block in enumerate(
            connect(f"sqlite:///{path}", clock=lambda: UNTIL).sent("qingbo", UNTIL), start=1
        ):
            for place, line in enumerate(block.decode().splitlines()):
                fields = line.replace(TERMS_SEPARATOR, SENT_SEPARATOR).split(SENT_SEPARATOR)
                ours.writerow(fields)
                kept = dict(zip(FIELDS, fields, strict=True))
                moment = int(datetime.fromisoformat(f"{kept['dispatched_at']}+00:00").timestamp())
                cost = int(kept["expected"]) // NANOS_PER_QUOTA + ((number * 250 + place) % 1000 == 0)
                theirs.writerow((kept["task_id"], "kling-v3", "generate", "completed", moment, cost))


def whole(folder: Path, limit: str | None = None) -> dict[str, object]:
    """Runs `reconcile` from the ledger and the statement to the totals, and returns the times of its stages."""
    stages: dict[str, Decimal] = {}
    start = time.perf_counter_ns()

    def note_stage(stage: str, _done: int, _total: int | None) -> None:
        stages.setdefault(stage, Decimal(time.perf_counter_ns() - start) / 10**9)

    with reconcile(
        f"sqlite:///{folder}/spend.db",
        folder / "statement.csv",
        provider="qingbo",
        since=SINCE,
        until=UNTIL,
        book=load_price_book(),
        memory_limit=limit,
        on_progress=note_stage,
    ) as result:
        counts = {total.name: total.lines for total in result.totals("category")}
    return {"counts": counts, "read_s": str(stages["matching"]), "done_s": str(stages["done"])}


def limited(folder: Path) -> dict[str, object]:
    """Runs `reconcile` with at most 500 MB of memory."""
    return whole(folder, "500MB")


def joined(folder: Path, ours: str, setting: str = "") -> dict[str, object]:
    """Sums both sides by task, joins them and sorts them into categories, with DuckDB alone."""
    import duckdb  # noqa: PLC0415 (only some contestants import it)

    database = duckdb.connect(config={"temp_directory": str(folder / "spilled")})
    database.execute(setting)
    database.execute(
        f"CREATE TABLE theirs AS SELECT * FROM read_csv('{folder}/statement.csv', all_varchar = true)"  # noqa: S608
    )
    database.execute(f"CREATE TABLE ours AS {ours}")
    rows = database.execute(
        """
        CREATE TABLE joined AS
        SELECT coalesce(t.task_id, o.task_id) AS task_id, billed, expected, o.place, CASE
          WHEN t.task_id IS NULL THEN 'not_billed' WHEN o.task_id IS NULL THEN 'not_in_ledger'
          WHEN billed = expected THEN 'matched' ELSE 'unexplained' END AS category
        FROM (SELECT task_id, sum(CAST(cost AS BIGINT)) * 2000 AS billed FROM theirs GROUP BY task_id) AS t
        FULL JOIN (
          SELECT task_id, sum(CAST(expected AS BIGINT)) AS expected, min(rowid) AS place
          FROM ours GROUP BY task_id
        ) AS o ON o.task_id = t.task_id;
        SELECT category, count(*) FROM joined GROUP BY category
        """
    ).fetchall()
    return {"counts": dict(rows)}


def exported(folder: Path) -> dict[str, object]:
    """Exports the rows of the ledger to CSV, and joins."""
    database = sqlite3.connect(f"file:{folder}/spend.db?mode=ro", uri=True)
    with (folder / "rows.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(EXPORTED)
        writer.writerows(database.execute(f"SELECT {', '.join(EXPORTED)} FROM reservation"))  # noqa: S608
    return joined(folder, f"SELECT * FROM read_csv('{folder}/rows.csv', all_varchar = true)")  # noqa: S608


def extended(folder: Path) -> dict[str, object]:
    """Reads the rows of the ledger with DuckDB's SQLite extension, and joins."""
    rows = f"SELECT {', '.join(EXPORTED)} FROM sqlite_scan('{folder}/spend.db', 'reservation')"  # noqa: S608
    return joined(folder, rows, "LOAD sqlite_scanner")


def join_alone(folder: Path) -> dict[str, object]:
    """Joins the rows of an existing CSV file."""
    return joined(folder, f"SELECT * FROM read_csv('{folder}/ledger.csv', all_varchar = true)")  # noqa: S608


def minimal(folder: Path) -> dict[str, object]:
    """Joins two columns of each CSV file, with DuckDB alone and without storing anything."""
    import duckdb  # noqa: PLC0415 (only some contestants import it)

    sides = {
        name: f"SELECT task_id, sum(CAST({column} AS BIGINT)) AS amount"  # noqa: S608 (constants only)
        f" FROM read_csv('{folder}/{name}.csv', all_varchar = true) GROUP BY task_id"
        for name, column in (("statement", "cost"), ("ledger", "expected"))
    }
    rows = duckdb.connect().execute(
        f"""
        SELECT CASE WHEN t.task_id IS NULL THEN 'not_billed' WHEN o.task_id IS NULL THEN 'not_in_ledger'
          WHEN t.amount * {NANOS_PER_QUOTA} = o.amount THEN 'matched' ELSE 'unexplained' END AS category,
          count(*)
        FROM ({sides["statement"]}) AS t FULL JOIN ({sides["ledger"]}) AS o USING (task_id) GROUP BY category
        """  # noqa: S608 (constants only)
    )
    return {"counts": dict(rows.fetchall())}


def plain_python(folder: Path) -> dict[str, object]:
    """Reconciles with sqlite3, csv, dict and Decimal."""
    database = sqlite3.connect(f"file:{folder}/spend.db?mode=ro", uri=True)
    place = EXPORTED.index("task_id"), EXPORTED.index("expected")
    expected: dict[str, tuple[Decimal, tuple[object, ...]]] = {
        row[place[0]]: (Decimal(row[place[1]]).scaleb(-9), row)
        for row in database.execute(f"SELECT {', '.join(EXPORTED)} FROM reservation")  # noqa: S608
    }
    billed: dict[str, Decimal] = {}
    quota = Decimal("0.000002")
    with (folder / "statement.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            billed[row["task_id"]] = billed.get(row["task_id"], Decimal(0)) + Decimal(row["cost"]) * quota
    counts: dict[str, int] = {}
    for task_id in expected.keys() | billed.keys():
        ours, theirs = expected.get(task_id), billed.get(task_id)
        if theirs is None or ours is None:
            category = "not_billed" if theirs is None else "not_in_ledger"
        else:
            category = "matched" if theirs == ours[0] else "unexplained"
        counts[category] = counts.get(category, 0) + 1
    return {"counts": counts}


CONTESTANTS: dict[str, Callable[[Path], dict[str, object]]] = {
    "plain DuckDB, ledger exported to CSV": exported,
    "reconcile": whole,
    "reconcile, limited to 500 MB": limited,
    "plain Python: sqlite3, csv, Decimal": plain_python,
    "plain DuckDB, its SQLite extension": extended,
    "plain DuckDB, both sides already in CSV": join_alone,
    "plain DuckDB, only two columns of either CSV": minimal,
}


def is_extended() -> bool:
    """Whether DuckDB's SQLite extension is installed."""
    import duckdb  # noqa: PLC0415 (only some contestants import it)

    try:
        duckdb.connect(config={"autoinstall_known_extensions": False}).execute("LOAD sqlite_scanner")
    except duckdb.Error:
        return False
    return True


def contend(name: str, folder: Path) -> None:
    """Runs one contestant, and prints its result, time and memory."""
    start = time.perf_counter_ns()
    result = CONTESTANTS[name](folder)
    elapsed_s = Decimal(time.perf_counter_ns() - start) / 10**9
    usage = resource.getrusage(resource.RUSAGE_SELF)
    cpu = Decimal(repr(usage.ru_utime)) + Decimal(repr(usage.ru_stime))
    peak = usage.ru_maxrss // 1024
    figures = {"elapsed_s": str(elapsed_s), "cpu_s": str(cpu), "peak_mb": peak}
    sys.stdout.write(json.dumps(result | figures) + "\n")


def main() -> None:
    """Generates the files, runs every contestant, and prints a table."""
    tasks = int(sys.argv[1]) if len(sys.argv) > 1 else 2_000_000
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(folder, tasks)
        sizes = {path.name: path.stat().st_size >> 20 for path in folder.iterdir() if path.is_file()}
        print(f"{tasks:,} tasks per side on {os.cpu_count()} cores; sizes in MiB: {sizes}")
        answers = {}
        for contestant, function in CONTESTANTS.items():
            if function is extended and not is_extended():
                continue
            done = subprocess.run(  # noqa: S603
                [sys.executable, __file__, "--contend", contestant, name],
                capture_output=True,
                text=True,
                check=True,
            )
            answers[contestant] = json.loads(done.stdout)
        base = Decimal(answers[next(iter(CONTESTANTS))]["elapsed_s"])
        least = Decimal(answers[next(reversed(CONTESTANTS))]["cpu_s"])
        print(f"{'':<46} {'seconds':>8} {'x first':>7} {'cpu s':>7} {'x last':>7} {'peak MB':>8}  counts")
        for contestant, answer in answers.items():
            elapsed_s, cpu_s = Decimal(answer["elapsed_s"]), Decimal(answer["cpu_s"])
            times = f"{elapsed_s:>8.1f} {elapsed_s / base:>7.2f} {cpu_s:>7.1f} {cpu_s / least:>7.2f}"
            figures = f"{times} {answer['peak_mb']:>8}"
            print(f"{contestant:<46} {figures}  {answer['counts']}")
            if "read_s" in answer:
                read_s, done_s = Decimal(answer["read_s"]), Decimal(answer["done_s"])
                stages = {
                    "reading both sides, with checks": read_s,
                    "matching, explaining, tying out": done_s - read_s,
                }
                for stage, stage_s in stages.items():
                    print(f"  {stage:<44} {stage_s:>8.1f} {stage_s / base:>7.2f}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--contend"]:
        contend(sys.argv[2], Path(sys.argv[3]))
    else:
        main()
