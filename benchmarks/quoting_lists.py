"""Measures the processor time of `kling-pricing quote` for a shot list in which every prompt differs.

Run it with::

    .venv/bin/pip install -q -e '.[dev]' && .venv/bin/python benchmarks/quoting_lists.py

The time is that of the whole process, user and system, from start-up to the end; the best run counts.
The prompts have 16 to 200 characters, because rows whose prompts have the same length can share a quote.
"""

import csv
import random
import subprocess
import sys
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage
from tempfile import TemporaryDirectory

import duckdb
import xlsxwriter

ROWS = 100_000
RUNS = int(sys.argv[1]) if len(sys.argv) > 1 else 3
TEXT = "a paper boat crosses the puddle in the rain and reaches the gutter where leaves float past "


def write_list(path: Path) -> None:
    """Writes a list of `ROWS` jobs with 20 different settings and `ROWS` different prompts."""
    choose = random.Random(2)  # noqa: S311 (not for secrets)
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["key", "project", "model", "duration", "resolution", "audio", "prompt"])
        for number in range(ROWS):
            model = choose.choice(["kling-v3", "kling-v3-omni", "kling-v2.6"])
            resolution = "1080p" if model == "kling-v2.6" else choose.choice(["720p", "1080p"])
            settings = [model, choose.choice([5, 10]), resolution, choose.choice(["yes", "no"])]
            prompt = f"Take {number}: {TEXT * 2}"[: choose.randint(16, 200)]
            rows.writerow([f"s-{number}", choose.choice(["trailer", "teaser"]), *settings, prompt])


def convert(shots: Path, target: Path) -> None:
    """Writes a CSV list in another form, with all cells as text."""
    if target.suffix == ".parquet":
        duckdb.sql(f"COPY (SELECT * FROM read_csv('{shots}', all_varchar = true)) TO '{target}'")  # noqa: S608 (our own paths)
        return
    with xlsxwriter.Workbook(str(target), {"constant_memory": True}) as book, shots.open(newline="") as file:
        sheet = book.add_worksheet()
        for number, row in enumerate(csv.reader(file)):
            sheet.write_row(number, 0, row)


def processor_time_s(*arguments: str) -> float:
    """Returns the user and system time of one process."""
    before = getrusage(RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "kling_pricing", "quote", *arguments, "--at", "2026-11-21"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)  # noqa: S603 (our own command)
    after = getrusage(RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Prints the rows per second of processor time for each kind of output, and for each form of the list."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        shots = folder / "shots.csv"
        write_list(shots)
        for suffix in ("xlsx", "parquet"):
            convert(shots, folder / f"shots.{suffix}")
        runs = {
            "text": ("shots.csv", []),
            **{
                f"--out {suffix.upper()}": ("shots.csv", ["--out", f"{folder}/priced.{suffix}"])
                for suffix in ("csv", "xlsx", "parquet")
            },
            **{f"from {suffix.upper()}": (f"shots.{suffix}", []) for suffix in ("xlsx", "parquet")},
        }
        for kind, (file, options) in runs.items():
            best = min(processor_time_s(str(folder / file), *options) for _ in range(RUNS))
            print(f"{kind}: {best:.2f} s, {ROWS / best:,.0f} rows a second")


if __name__ == "__main__":
    main()
