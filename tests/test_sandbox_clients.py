"""Public clients, unmodified, against the sandbox."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest

from kling_pricing import PriceBook
from kling_pricing.sandbox import Sandbox

ROOT = Path(__file__).parent.parent
NODE_VARIABLE = "KLING_PRICING_TEST_NODE_OPENAI"
SCENARIO = {"speed": 0, "start": "2026-11-21T00:00:00Z"}
SPEC = "kling-2.5-720p-noref-mute"
OUTCOMES = [
    f"queued {SPEC}",
    f"queued {SPEC}",
    "NotFoundError 404 not_found",
    "BadRequestError 400 invalid_request",
    f"completed {SPEC}",
    "24 bytes",
    f"queued {SPEC}",
    "error moderation",
    "newest first: True",
    "oldest first: True",
    "deleted: True",
    "NotFoundError 404 not_found",
    "kept: True",
    "BadRequestError 400 invalid_request",
    "BadRequestError 400 invalid_request",
    "RateLimitError 429 rate_limit_exceeded",
    "timeout",
    f"queued {SPEC}",
    f"queued {SPEC}",
    f"queued {SPEC}",
    "queued kling-2.5-1080p-noref-mute",
]
ACCEPTED = 8
"""The tasks that the calls create: two after the lost answer, because the SDK sends the job again."""
BILL = {"CNY": 6 * Decimal("1.5") + Decimal("2.5")}
"""All of them but the one that failed."""


@pytest.fixture
def node_openai() -> Path:
    """The folder in `NODE_VARIABLE`, in which `npm install openai` was run."""
    folder = os.environ.get(NODE_VARIABLE)
    if not folder or shutil.which("node") is None:
        assert not os.environ.get("CI"), f"{NODE_VARIABLE} must name a folder with Node's SDK"
        pytest.skip(f"{NODE_VARIABLE} names no folder with Node's SDK")
    return Path(folder)


@pytest.mark.parametrize(("sdk", "version"), [("python", "2"), ("python", "3"), ("node", "")])
def test_the_openai_sdks_use_the_sandbox_as_they_use_the_api(
    sdk: str, version: str, book: PriceBook, request: pytest.FixtureRequest
) -> None:
    """Every SDK sees the same outcomes: tasks, pages, files, deletions, refusals, retries and lost answers.

    A deleted video stays on the bill, and so does the task whose answer was lost.
    """
    with Sandbox(SCENARIO, book=book) as sandbox:
        arguments, environment = [sandbox.url(), "octopusx"], dict(os.environ)
        if sdk == "node":
            folder = str(request.getfixturevalue("node_openai"))
            command = ["node", str(ROOT / "tests" / "openai_rehearsal.mjs"), *arguments, folder]
        else:
            command = [sys.executable, str(ROOT / "tests" / "openai_rehearsal.py"), *arguments]
            if version == "2":
                environment["PYTHONPATH"] = str(request.getfixturevalue("openai2"))
        result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        assert (result.returncode, result.stderr) == (0, "")
        seen = json.loads(result.stdout)
        assert seen["outcomes"] == OUTCOMES
        assert seen["version"].startswith(version)
        assert len(sandbox.tasks("octopusx")) == ACCEPTED
        sandbox.resume()
        sandbox.advance(seconds=60)
        assert sandbox.bill("octopusx") == BILL
