"""Measures the processor time and the memory of the reports of a reconciliation, format by format.

Run it with::

    .venv/bin/pip install -q -e '.[dev]' && .venv/bin/python benchmarks/reporting.py [LINES] [MEMORY_LIMIT]

The benchmark generates a SQLite ledger and a CSV statement with the same tasks; one task in twenty is charged
a different amount, so its line needs action.
Each run is a separate process, which reconciles first. Its figures are those of the reports alone, except the
peak memory, which is that of the process.
"""

import csv
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

from reconciling import SINCE, UNTIL, make

from kling_pricing import load_price_book
from kling_pricing.reconcile import reconcile
from kling_pricing.reports import FORMATS, Format, write_reports

DEAR = 20
"""One task in this number is charged a different amount."""


def cpu_s() -> Decimal:
    """Returns the processor time of this process."""
    return sum(map(Decimal, map(repr, os.times()[:2])), Decimal(0))


def raise_charges(statement: Path) -> None:
    """Doubles some charges of the statement, and adds to half of these an amount that nothing explains."""
    with statement.open(newline="") as file:
        heading, *rows = csv.reader(file)
    for number, row in enumerate(rows[::DEAR]):
        row[-1] = str(2 * int(row[-1]) + 7 * (number % 2))
    with statement.open("w", newline="") as file:
        csv.writer(file).writerows([heading, *rows])


def report(folder: Path, formats: Sequence[Format], limit: str | None) -> None:
    """Writes the reports in a temporary folder, and prints the figures."""
    book = load_price_book()
    started: list[tuple[str, Decimal]] = []
    with (
        reconcile(
            f"sqlite:///{folder}/spend.db",
            folder / "statement.csv",
            provider="qingbo",
            since=SINCE,
            until=UNTIL,
            book=book,
            memory_limit=limit,
        ) as result,
        tempfile.TemporaryDirectory() as out,
    ):
        started.append(("the document", cpu_s()))
        write_reports(
            result,
            out,
            formats=formats,
            book=book,
            on_format=lambda name: started.append((name, cpu_s())),
        )
        started.append(("", cpu_s()))
    steps = {name: str(end - start) for (name, start), (_, end) in pairwise(started)}
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 // 10**6
    sys.stdout.write(json.dumps({"steps": steps, "peak_mb": peak_mb}))


def main() -> None:
    """Generates the files, writes the reports in every format alone and in all formats, and prints a table."""
    lines = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    limit = sys.argv[2:3]
    with tempfile.TemporaryDirectory() as name:
        make(Path(name), lines)
        raise_charges(Path(name) / "statement.csv")
        print(f"{'formats':<14} {'cpu s':>7} {'peak MB':>8}")
        for formats in (*([name] for name in FORMATS), list(FORMATS)):
            done = subprocess.run(  # noqa: S603
                [sys.executable, __file__, "--report", name, ",".join(formats), *limit],
                capture_output=True,
                text=True,
                check=True,
            )
            answer = json.loads(done.stdout)
            total = sum(map(Decimal, answer["steps"].values()))
            title = formats[0] if len(formats) == 1 else "all"
            print(f"{title:<14} {total:>7.1f} {answer['peak_mb']:>8}", flush=True)
        for step, used_s in answer["steps"].items():
            print(f"  {step:<12} {Decimal(used_s):>7.1f}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--report"]:
        wanted = sys.argv[3].split(",")
        report(
            Path(sys.argv[2]),
            [name for name in FORMATS if name in wanted],
            sys.argv[4] if sys.argv[4:] else None,
        )
    else:
        main()
