"""Measures quotes and checks of data frames, in the same run as one quote per row.

Run it with::

    .venv/bin/pip install -q -e '.[dev]' && .venv/bin/python benchmarks/frames.py

A million rows contain 500 distinct jobs in random order. Times are processor times, which depend less on the
load of the machine than the time on a clock, which stands in brackets. The best of several runs counts.
The baseline calls `quote` for each of 20,000 rows, which is what a loop over the frame would do.
"""

import argparse
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa

from kling_pricing import frames, load_price_book, quote

AT = datetime(2026, 11, 21, tzinfo=UTC)
DISTINCT = 500
BASELINE_ROWS = 20_000
RUNS = 3


def jobs() -> list[dict[str, Any]]:
    """Returns the distinct jobs."""
    return [
        {
            "model": model,
            "prompt": f"a paper boat, take {take}",
            "duration": length,
            "resolution": resolution,
            "audio": audio,
        }
        for take in range(5)
        for model in ("kling-v3", "kling-v3-omni")
        for length in range(3, 16)
        for resolution in ("720p", "1080p")
        for audio in (True, False)
    ][:DISTINCT]


def best(work: Callable[[], object]) -> tuple[float, float]:
    """Returns the lowest processor time and the lowest time on a clock of several runs, in seconds."""
    times = []
    for _ in range(RUNS):
        processor, clock = time.process_time(), time.perf_counter()
        work()
        times.append((time.process_time() - processor, time.perf_counter() - clock))
    return min(processor for processor, _ in times), min(clock for _, clock in times)


def main() -> None:
    """Prints one row for each kind of frame."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=1_000_000)
    rows = parser.parse_args().rows
    draw, distinct, book = random.Random(1), jobs(), load_price_book()  # noqa: S311 (no secret)
    table = pa.Table.from_pylist([draw.choice(distinct) for _ in range(rows)])
    contestants = {
        "Polars": pl.from_arrow(table),
        "PyArrow": table,
        "pandas": table.to_pandas(),
        "pandas on PyArrow": table.to_pandas(types_mapper=pd.ArrowDtype),
    }
    print(f"{rows:,} rows, {len(distinct)} distinct jobs; processor seconds (seconds)")
    for name, frame in contestants.items():
        quoted = best(lambda frame=frame: frames.quote(frame, at=AT, book=book))  # type: ignore[misc]
        checked = best(lambda frame=frame: frames.check(frame, at=AT, book=book))  # type: ignore[misc]
        print(
            f"{name:<20} quote {quoted[0]:5.2f} ({quoted[1]:.2f})   check {checked[0]:5.2f} ({checked[1]:.2f})"
        )
    sample = table.slice(0, BASELINE_ROWS).to_pylist()
    each, _ = best(lambda: [quote(row, at=AT, book=book) for row in sample])
    print(f"one quote per row     {each * rows / len(sample):5.2f}, from {len(sample):,} rows")


if __name__ == "__main__":
    main()
