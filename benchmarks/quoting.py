"""Measures the time of a quote, in the same run as a baseline and two other libraries.

Run it with::

    .venv/bin/pip install -q -e '.[dev,bench]' && .venv/bin/python benchmarks/quoting.py

With `--instructions` it counts processor instructions instead, which do not depend on the load of the machine;
this needs valgrind and takes several minutes.

The baseline makes only the steps that every quote needs: pydantic validation of an equivalent model with ten
fields, one dict lookup, and one multiplication of Decimals.
Each time is the best of many short rounds, in which all contestants take turns, so that a slow moment of the
machine affects all of them.
"""

import gc
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from pathlib import Path
from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from kling_pricing import load_price_book, quote

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

ROUNDS = 400
ROUND_CALLS = 50
BULK_LINES = 100_000
BULK_RUNS = 3

INSTRUCTION_CALLS = 1000

AT = datetime(2026, 11, 21, tzinfo=UTC)
PAYLOAD: dict[str, Any] = {
    "model": "kling-v3",
    "prompt": "A paper boat crosses a puddle in the rain, seen from just above the water",
    "duration": 5,
    "resolution": "1080p",
    "aspect_ratio": "16:9",
    "audio": True,
}


class TenFields(BaseModel):
    """A request with ten fields and the limits of one model."""

    model_config = ConfigDict(strict=True, extra="forbid")

    model: str
    prompt: str = Field(min_length=1, max_length=2500)
    action: Literal["generate", "image2video", "first_last_frame"] = "generate"
    resolution: Literal["720p", "1080p", "4k"] = "720p"
    duration: int = Field(5, ge=3, le=15)
    aspect_ratio: Literal["16:9", "9:16", "1:1"] = "16:9"
    audio: bool = False
    image_urls: list[str] | None = None
    first_frame_image: str | None = None
    callback_url: str | None = None


RATES = {("kling-v3", "1080p", True): Decimal("0.1428")}


def baseline() -> Decimal:
    """Validates a request, looks up a rate, and multiplies."""
    request = TenFields.model_validate(PAYLOAD)
    return RATES[request.model, request.resolution, request.audio] * request.duration


FORMATS: dict[str, tuple[dict[str, Any], str | None]] = {
    "tasks": (PAYLOAD, None),
    "tasks_extra": (
        {
            "model": "kling-v3",
            "prompt": PAYLOAD["prompt"],
            "duration": 5,
            "aspect_ratio": "16:9",
            "extra": {"mode": "pro", "enable_audio": True},
        },
        None,
    ),
    "tasks_v2": (
        {
            "model": "kling-v3",
            "prompt": PAYLOAD["prompt"],
            "duration": 5,
            "resolution": "1080p",
            "aspect_ratio": "16:9",
            "generate_audio": True,
        },
        None,
    ),
    "kling": (
        {
            "model_name": "kling-v3",
            "prompt": PAYLOAD["prompt"],
            "duration": "5",
            "mode": "pro",
            "aspect_ratio": "16:9",
            "sound": "on",
        },
        None,
    ),
    "video_generations": (
        {
            "model": "kling-v3-pro-audio",
            "prompt": PAYLOAD["prompt"],
            "duration": 5,
            "aspect_ratio": "16:9",
            "extra_body": {"cfg_scale": 0.5, "shot_type": "customize"},
        },
        "kling",
    ),
    "openai_videos": (
        {
            "model": "Kling-3.0-Omni",
            "prompt": PAYLOAD["prompt"],
            "duration": 5,
            "metadata": {"output_config": {"resolution": "1080P", "audio_generation": "Enabled"}},
        },
        "tencent-vod",
    ),
}
"""A plain request in each wire format, and its provider where one must be named."""


def bulk_lines() -> list[bytes]:
    """Returns JSON Lines of plain requests with random settings of one model and different prompts."""
    chance = random.Random(2026)  # noqa: S311 (not for security)
    words = PAYLOAD["prompt"].split()
    lines = []
    for number in range(BULK_LINES):
        settings = {
            "prompt": f"{' '.join(chance.sample(words, len(words)))} {number}",
            "duration": chance.randrange(3, 16),
            "resolution": chance.choice(["720p", "1080p", "4k"]),
            "audio": chance.choice([True, False]),
        }
        lines.append(json.dumps(PAYLOAD | settings).encode() + b"\n")
    return lines


def formats() -> dict[str, Callable[[], Any]]:
    """Returns wire format -> a function that makes one quote."""
    return {
        name: partial(quote, payload, provider=provider, at=AT) for name, (payload, provider) in FORMATS.items()
    }


def contestants() -> dict[str, Callable[[], Any]]:
    """Returns name -> a function that computes one answer."""
    import genai_prices  # noqa: PLC0415 (only this benchmark needs it)
    import litellm  # noqa: PLC0415
    from litellm.cost_calculator import default_video_cost_calculator  # noqa: PLC0415
    from litellm.types.utils import ModelResponse, Usage  # noqa: PLC0415

    book = load_price_book()
    usage = genai_prices.Usage(input_tokens=1000, output_tokens=100)
    response = ModelResponse(
        model="gpt-4o", usage=Usage(prompt_tokens=1000, completion_tokens=100, total_tokens=1100)
    )
    return {
        "baseline (pydantic + lookup + Decimal)": baseline,
        "kling_pricing.quote(dict)": lambda: quote(PAYLOAD),
        "kling_pricing.quote(dict, at=, book=)": lambda: quote(PAYLOAD, at=AT, book=book),
        "genai_prices.calc_price": lambda: genai_prices.calc_price(usage, "gpt-4o", provider_id="openai"),
        "litellm video cost": lambda: default_video_cost_calculator("sora-2", 5, "openai"),
        "litellm.completion_cost": lambda: litellm.completion_cost(
            completion_response=response, model="gpt-4o"
        ),
    }


def best_ns(functions: dict[str, Callable[[], Any]]) -> dict[str, int]:
    """Returns the best time per call of each function, in nanoseconds; they take turns."""
    best = dict.fromkeys(functions, 10**12)
    gc.collect()
    gc.disable()
    for _ in range(ROUNDS):
        for name, function in functions.items():
            start = time.perf_counter_ns()
            for _ in range(ROUND_CALLS):
                function()
            best[name] = min(best[name], (time.perf_counter_ns() - start) // ROUND_CALLS)
    gc.enable()
    return best


@contextmanager
def environment() -> Iterator[dict[str, str]]:
    """Yields environment variables as on a user's machine: modules compiled once, output buffered."""
    with tempfile.TemporaryDirectory() as compiled:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        yield kept | {"PYTHONPYCACHEPREFIX": compiled}


class Rate(NamedTuple):
    """Requests per second: of elapsed time, and of processor time."""

    per_elapsed_s: int
    per_processor_s: int


def best_rate(run: Callable[[], Any], who: int, requests: int) -> Rate:
    """Returns the best rates of some runs; `who` selects the processor time of this process or its children."""
    elapsed_ns, processor_s = [], []
    for _ in range(BULK_RUNS):
        used, start = getrusage(who), time.perf_counter_ns()
        run()
        elapsed_ns.append(time.perf_counter_ns() - start)
        after = getrusage(who)
        processor_s.append((after.ru_utime + after.ru_stime) - (used.ru_utime + used.ru_stime))
    return Rate(requests * 10**9 // min(elapsed_ns), int(requests / min(processor_s)))


def bulk_rate(lines: list[bytes], *arguments: str) -> Rate:
    """Returns the rate of the command line, including start-up, from a JSON Lines file to a file."""
    with tempfile.TemporaryDirectory() as folder, environment() as variables:
        path, one, answers = Path(folder, "all.jsonl"), Path(folder, "one.jsonl"), Path(folder, "answers")
        path.write_bytes(b"".join(lines))
        one.write_bytes(lines[0])

        def run(requests: Path) -> None:
            command = [sys.executable, "-m", "kling_pricing", "quote", "--at", "2026-11-21", *arguments]
            with answers.open("w") as out:
                subprocess.run(  # noqa: S603
                    [*command, str(requests)], check=True, stdout=out, stderr=subprocess.DEVNULL, env=variables
                )

        run(one)
        return best_rate(partial(run, path), RUSAGE_CHILDREN, len(lines))


def library_rate(lines: list[bytes]) -> Rate:
    """Returns the rate of reading and quoting JSON text in one process, without printing."""

    def run() -> None:
        for line in lines:
            quote(line, at=AT)

    return best_rate(run, RUSAGE_SELF, len(lines))


def import_us(*statements: str) -> dict[str, int]:
    """Returns the best time of each statement in a new interpreter, minus its start-up; they take turns."""
    best = dict.fromkeys(("pass", *statements), 10**12)
    with environment() as variables:
        for _ in range(20):
            for statement in best:
                start = time.perf_counter_ns()
                subprocess.run([sys.executable, "-c", statement], check=True, env=variables)  # noqa: S603
                best[statement] = min(best[statement], time.perf_counter_ns() - start)
    return {statement: (best[statement] - best["pass"]) // 1000 for statement in statements}


def start_ms() -> dict[str, int]:
    """Returns name -> the best time of a whole process that answers one question; they take turns."""
    with environment() as variables, tempfile.TemporaryDirectory() as folder:
        request, budgets, own = (Path(folder, name) for name in ("request.json", "budgets.yaml", "own"))
        request.write_text(json.dumps(PAYLOAD))
        budgets.write_text("budgets: [{name: all, cap: 100, currency: USD}]\n")
        shutil.copytree("examples/tables", own)
        variables |= {"KLING_PRICING_CACHE": f"{folder}/cache", "PYTHONDONTWRITEBYTECODE": ""}
        command = [sys.executable, "-m", "kling_pricing"]
        ledger = f"sqlite:///{folder}/spend.db"
        guard = f"from kling_pricing import BudgetGuard; BudgetGuard({ledger!r}, {str(budgets)!r})"
        runs: dict[str, tuple[list[str], dict[str, str]]] = {
            "python -c pass": ([sys.executable, "-c", "pass"], {}),
            "python -c 'import click'": ([sys.executable, "-c", "import click"], {}),
            "quote FILE": ([*command, "quote", str(request)], {}),
            "quote --tables FOLDER FILE": (
                [*command, "quote", "--tables", str(own), "--provider", "acme", str(request)],
                {},
            ),
            "quote FILE, from YAML": ([*command, "quote", str(request)], {"KLING_PRICING_CACHE": "off"}),
            "BudgetGuard(ledger, budgets)": ([sys.executable, "-c", guard], {}),
            "BudgetGuard, tables from YAML": ([sys.executable, "-c", guard], {"KLING_PRICING_CACHE": "off"}),
        }
        best = dict.fromkeys(runs, 10**12)
        for _ in range(12):
            for name, (arguments, more) in runs.items():
                start = time.perf_counter_ns()
                subprocess.run(arguments, check=True, env=variables | more, stdout=subprocess.DEVNULL)  # noqa: S603
                best[name] = min(best[name], time.perf_counter_ns() - start)
    return {name: ns // 1_000_000 for name, ns in best.items()}


def instruction_contestants() -> dict[str, Callable[[], Any]]:
    """Returns name -> a function that computes one answer, for counting instructions."""
    return {"baseline": baseline, "quote(dict)": lambda: quote(PAYLOAD), **formats()}


def instructions(name: str) -> int:
    """Returns the instructions per answer: the difference between a long and a short run, per extra call."""
    runs = []
    for calls in (INSTRUCTION_CALLS, 2 * INSTRUCTION_CALLS):
        command = ["valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"]
        done = subprocess.run(  # noqa: S603
            [*command, sys.executable, __file__, "--call", name, str(calls)],
            check=True,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONHASHSEED": "0"},
        )
        match = re.search(r"I\s+refs:\s+([0-9,]+)", done.stderr)
        assert match is not None, done.stderr
        runs.append(int(match[1].replace(",", "")))
    return (runs[1] - runs[0]) // INSTRUCTION_CALLS


def show_instructions() -> None:
    """Counts instructions, and prints a table."""
    counts = {name: instructions(name) for name in instruction_contestants()}
    print(f"{'one result':<40} {'instructions':>12} {'x baseline':>10} {'x tasks':>8}")
    for name, count in counts.items():
        ratios = f"{Decimal(count) / counts['baseline']:>10.2f} {Decimal(count) / counts['tasks']:>8.2f}"
        print(f"{name:<40} {count:>12} {ratios}")


def main() -> None:
    """Measures, and prints tables of ratios."""
    best = best_ns(contestants())
    base = best["baseline (pydantic + lookup + Decimal)"]
    print(f"{'one result':<40} {'ns':>8} {'x baseline':>10}")
    for name, ns in best.items():
        print(f"{name:<40} {ns:>8} {Decimal(ns) / base:>10.2f}")
    through = best_ns(formats())
    print(f"\n{'one quote through':<40} {'ns':>8} {'x tasks':>8}")
    for name, ns in through.items():
        print(f"{name:<40} {ns:>8} {Decimal(ns) / through['tasks']:>8.2f}")
    lines = bulk_lines()
    rates = {
        "quote(JSON line), no output": library_rate(lines),
        "command line, table": bulk_rate(lines),
        "command line, --json": bulk_rate(lines, "--json"),
    }
    print(f"\n{'bulk, one process':<40} {'per second':>10} {'per processor s':>16}")
    for name, rate in rates.items():
        print(f"{name:<40} {rate.per_elapsed_s:>10} {rate.per_processor_s:>16}")
    print(f"\n{'one process from start to end':<40} {'ms':>8}")
    for name, ms in start_ms().items():
        print(f"{name:<40} {ms:>8}")
    imported = import_us(
        "import pydantic",
        "import kling_pricing",
        "from pydantic import BaseModel",
        "from kling_pricing import quote",
    )
    print(f"\n{'import':<40} {'us':>8} {'x pydantic':>10}")
    for statement, us in imported.items():
        print(f"{statement:<40} {us:>8} {Decimal(us) / imported['import pydantic']:>10.2f}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--call"]:
        function = instruction_contestants()[sys.argv[2]]
        for _ in range(int(sys.argv[3])):
            function()
    elif sys.argv[1:] == ["--instructions"]:
        show_instructions()
    else:
        main()
