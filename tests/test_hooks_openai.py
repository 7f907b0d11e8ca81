"""The unmodified OpenAI SDK, of both versions in use, through guarded clients."""

import json
import os
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import httpx2
import pytest
from openai import OpenAI

from kling_pricing import Budget, BudgetExceededError, BudgetGuard, KlingPricingError, PriceBook
from kling_pricing.hooks.httpx import GuardedTransport
from kling_pricing.wire.forms import form_fields
from tests.gateway import Fault, running

ROOT = Path(__file__).parent.parent
FOLDER_VARIABLE = "KLING_PRICING_TEST_OPENAI2"
BUDGETS = [
    Budget(name="trailer", match={"project": "trailer"}, cap=8, currency="CNY", on_exceed="cap"),
    Budget(name="lost", match={"project": "lost"}, cap=50, currency="CNY"),
    Budget(name="throttled", match={"project": "throttled"}, cap=50, currency="CNY"),
]


@pytest.fixture(scope="session")
def openai2(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with version 2 of the SDK: that of `FOLDER_VARIABLE`, or one of the tests' own, made once."""
    if given := os.environ.get(FOLDER_VARIABLE):
        return Path(given)
    cache = getattr(pytestconfig, "cache", None)
    folder = Path(cache.mkdir("openai2")) if cache else tmp_path_factory.mktemp("openai2")
    if not (folder / "openai").is_dir():
        command = [sys.executable, "-m", "pip", "install", "-q", "--target", str(folder), "openai>=2,<3"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            assert not os.environ.get("CI"), f"version 2 of the SDK could not be installed: {done.stderr}"
            pytest.skip("version 2 of the SDK cannot be installed here")
    return folder


SEEN = [
    "task-tencent-vod-1 queued",
    "task-tencent-vod-1 queued",
    "BadRequestError 400 capability",
    "task-tencent-vod-2 queued",
    "APIStatusError 402 budget_exceeded",
    "ConflictError 409 reservation_state",
    "task-tencent-vod-4 queued",
    "task-tencent-vod-5 queued",
]
ASKED = {"model": "Kling-2.5", "prompt": "a paper boat", "seconds": "10", "size": "1920x1080"}
SENT = [ASKED, {**ASKED, "seconds": "5"}, *[ASKED] * 4, {**ASKED, "input_reference": "a.png"}]
RESERVED = [
    ("trailer", "bound", 1, Decimal(5)),
    ("trailer", "bound", 1, Decimal("2.5")),
    ("lost", "dispatching", 1, Decimal(5)),
    ("throttled", "released", 1, Decimal(5)),
    ("throttled", "released", 2, Decimal(5)),
    ("throttled", "bound", 3, Decimal(5)),
    ("throttled", "bound", 1, Decimal(5)),
]


@pytest.mark.parametrize("version", [2, 3])
def test_the_sdk_creates_and_polls_through_a_guarded_client(
    version: int, tmp_path: Path, book: PriceBook, request: pytest.FixtureRequest
) -> None:
    """Accepted, polled, capped, refused, lost, throttled: what its caller sees, and what was really sent.

    Sync and async alike.
    """
    folder = [str(request.getfixturevalue("openai2"))] if version == 2 else []
    ledgers = [f"sqlite:///{tmp_path}/{name}.db" for name in ("sync", "async")]
    guards = [BudgetGuard(ledger, BUDGETS, book=book) for ledger in ledgers]
    with running("tencent-vod", book) as one, running("tencent-vod", book) as other:
        soon = {"Retry-After-Ms": "1"}
        for gateway in (one, other):
            gateway.will(Fault(), Fault(), Fault(500, accepts=True, headers=soon))
            gateway.will(*[Fault(429, headers=soon)] * 2)
        script = str(Path(__file__).parent / "openai_session.py")
        done = subprocess.run(
            [sys.executable, script, one.url, ledgers[0], other.url, ledgers[1]],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([*folder, str(ROOT)])},
        )
        assert (done.returncode, done.stderr) == (0, "")
        told = json.loads(done.stdout)
        assert (told["version"].split(".")[0], told["seen"]) == (str(version), [SEEN, SEEN])
        for gateway, guard in zip((one, other), guards, strict=True):
            sent = [form_fields(each.body, each.headers["Content-Type"]) for each in gateway.submissions]
            assert sent == SENT
            history = guard.history()
            assert [(each.project, each.state, each.attempt, each.reserved) for each in history] == RESERVED
            guard.verify()
            guard.close()


def test_a_refusal_that_is_raised_reaches_the_caller_of_version_3_as_it_is(
    tmp_path: Path, book: PriceBook
) -> None:
    """Neither retried nor wrapped, so it can be caught by its own name; a remix has no price at all."""
    guard = BudgetGuard(
        f"sqlite:///{tmp_path}/spend.db", [Budget(name="all", cap=1, currency="CNY")], book=book
    )
    with running("tencent-vod", book) as gateway:
        transport = GuardedTransport(
            httpx2.HTTPTransport(), guard, project="trailer", hosts={gateway.host: "tencent-vod"}
        )
        client = OpenAI(
            base_url=f"{gateway.url}/v1", api_key="x", http_client=httpx2.Client(transport=transport)
        )
        wanted = {"model": "Kling-2.5", "prompt": "a boat", "seconds": "5", "size": "1280x720"}
        with client:
            with pytest.raises(BudgetExceededError) as caught:
                client.post("/videos", body=wanted, cast_to=object)
            with pytest.raises(
                KlingPricingError, match="^POST /v1/videos/v-1/remix: this API may bill for the request"
            ):
                client.post("/videos/v-1/remix", body={"prompt": "a ship"}, cast_to=object)
        assert (caught.value.requested, gateway.received) == (Decimal("1.5"), [])
    guard.close()
