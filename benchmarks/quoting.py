"""What a quote costs in time, beside a floor and two peers measured in the same run.

Run it with::

    .venv/bin/pip install -q -e '.[dev,bench]' && .venv/bin/python benchmarks/quoting.py

The floor is what any answer needs at the least: pydantic validation of an equivalent model of ten fields, one
dict lookup, one multiplication of Decimals.
Each figure is the best of many short rounds, in which all contestants take turns, so that a slow moment of the
machine hits all of them alike.
"""

import gc
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from kling_pricing import load_price_book, quote

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

ROUNDS = 60
ROUND_CALLS = 300
BULK_LINES = 100_000

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
    """A request of ten fields, with the limits that one model has."""

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


def floor() -> Decimal:
    """Validate, look up, multiply."""
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
"""A plain request of each wire format, and the provider that must be named for it."""


def formats() -> dict[str, Callable[[], Any]]:
    """Wire format -> one quote through it."""
    return {
        name: partial(quote, payload, provider=provider, at=AT) for name, (payload, provider) in FORMATS.items()
    }


def contestants() -> dict[str, Callable[[], Any]]:
    """Name -> one answer."""
    import genai_prices  # noqa: PLC0415 (only the benchmark needs them)
    import litellm  # noqa: PLC0415
    from litellm.cost_calculator import default_video_cost_calculator  # noqa: PLC0415
    from litellm.types.utils import ModelResponse, Usage  # noqa: PLC0415

    book = load_price_book()
    usage = genai_prices.Usage(input_tokens=1000, output_tokens=100)
    response = ModelResponse(
        model="gpt-4o", usage=Usage(prompt_tokens=1000, completion_tokens=100, total_tokens=1100)
    )
    return {
        "floor (pydantic + lookup + Decimal)": floor,
        "kling_pricing.quote(dict)": lambda: quote(PAYLOAD),
        "kling_pricing.quote(dict, at=, book=)": lambda: quote(PAYLOAD, at=AT, book=book),
        "genai_prices.calc_price": lambda: genai_prices.calc_price(usage, "gpt-4o", provider_id="openai"),
        "litellm video cost": lambda: default_video_cost_calculator("sora-2", 5, "openai"),
        "litellm.completion_cost": lambda: litellm.completion_cost(
            completion_response=response, model="gpt-4o"
        ),
    }


def best_ns(functions: dict[str, Callable[[], Any]]) -> dict[str, int]:
    """The best time of one call of each, in nanoseconds; they take turns."""
    best = dict.fromkeys(functions, 10**12)
    gc.collect()
    gc.disable()
    for _ in range(ROUNDS):
        for name, function in functions.items():
            begin = time.perf_counter_ns()
            for _ in range(ROUND_CALLS):
                function()
            best[name] = min(best[name], (time.perf_counter_ns() - begin) // ROUND_CALLS)
    gc.enable()
    return best


def bulk_per_s(*arguments: str) -> int:
    """Requests a second through the command line, start-up included, from one file of JSON Lines to a file."""
    with tempfile.TemporaryDirectory() as folder:
        path, answers = Path(folder, "requests.jsonl"), Path(folder, "answers")
        path.write_text((json.dumps(PAYLOAD) + "\n") * BULK_LINES)
        command = [sys.executable, "-m", "kling_pricing", "quote", "--at", "2026-11-21", *arguments, str(path)]
        begin = time.perf_counter()
        with answers.open("w") as out:
            subprocess.run(command, check=True, stdout=out, stderr=subprocess.DEVNULL)  # noqa: S603
        return int(BULK_LINES / (time.perf_counter() - begin))


def library_per_s() -> int:
    """Requests a second from JSON text to quotes in one process: reading and quoting, without printing."""
    line = json.dumps(PAYLOAD).encode()
    begin = time.perf_counter()
    for _ in range(BULK_LINES):
        quote(line, at=AT)
    return int(BULK_LINES / (time.perf_counter() - begin))


def import_ms(module: str) -> int:
    """The best import time of a module in a fresh interpreter, less an empty one, in microseconds."""

    def run(code: str) -> int:
        begin = time.perf_counter_ns()
        subprocess.run([sys.executable, "-c", code], check=True)  # noqa: S603
        return time.perf_counter_ns() - begin

    empty = min(run("pass") for _ in range(15))
    return (min(run(f"import {module}") for _ in range(15)) - empty) // 1000


def main() -> None:
    """Measures and prints a table of ratios."""
    best = best_ns(contestants())
    base = best["floor (pydantic + lookup + Decimal)"]
    print(f"{'one answer':<40} {'ns':>8} {'x floor':>8}")
    for name, ns in best.items():
        print(f"{name:<40} {ns:>8} {Decimal(ns) / base:>8.2f}")
    through = best_ns(formats())
    print(f"\n{'one quote through':<40} {'ns':>8} {'x tasks':>8}")
    for name, ns in through.items():
        print(f"{name:<40} {ns:>8} {Decimal(ns) / through['tasks']:>8.2f}")
    print(f"\n{'bulk, one process':<40} {'a second':>10}")
    print(f"{'quote(JSON line), no output':<40} {library_per_s():>10}")
    print(f"{'command line, table':<40} {bulk_per_s():>10}")
    print(f"{'command line, --json':<40} {bulk_per_s('--json'):>10}")
    ours, pydantic = import_ms("kling_pricing"), import_ms("pydantic")
    print(f"\n{'import':<40} {'us':>8} {'x pydantic':>10}")
    print(f"{'kling_pricing':<40} {ours:>8} {Decimal(ours) / pydantic:>10.2f}")
    print(f"{'pydantic':<40} {pydantic:>8} {1:>10.2f}")


if __name__ == "__main__":
    main()
