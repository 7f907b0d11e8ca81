"""The unmodified OpenAI SDK, versions 2 and 3, through guarded clients."""

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
from tests.providers import running

ROOT = Path(__file__).parent.parent
BUDGETS = [
    Budget(name="trailer", match={"project": "trailer"}, cap=8, currency="CNY", on_exceed="cap"),
    Budget(name="lost", match={"project": "lost"}, cap=50, currency="CNY"),
    Budget(name="throttled", match={"project": "throttled"}, cap=50, currency="CNY"),
]


def outcomes(first: str, second: str, _lost: str, fourth: str, fifth: str) -> list[str]:
    """Returns the outcomes of the calls, given the ids of the tasks that the provider created."""
    return [
        f"{first} queued",
        f"{first} queued",
        "BadRequestError 400 capability",
        f"{second} queued",
        "APIStatusError 402 budget_exceeded",
        "ConflictError 409 reservation_state",
        f"{fourth} queued",
        f"{fifth} queued",
    ]


JOB = {"model": "Kling-2.5", "prompt": "a paper boat", "seconds": "10", "size": "1920x1080"}
SENT = [JOB, {**JOB, "seconds": "5"}, *[JOB] * 4, {**JOB, "input_reference": "a.png"}]
RESERVATIONS = [
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
    """Calls that are accepted, polled, capped, refused, lost and throttled have the expected outcomes.

    The sync and the async client have the same outcomes and send the same requests.
    """
    folder = [str(request.getfixturevalue("openai2"))] if version == 2 else []
    ledgers = [f"sqlite:///{tmp_path}/{name}.db" for name in ("sync", "async")]
    guards = [BudgetGuard(ledger, BUDGETS, book=book) for ledger in ledgers]
    with running("tencent-vod") as one, running("tencent-vod") as other:
        soon = {"Retry-After-Ms": "1"}
        for provider in (one, other):
            provider.fail_next([], [])
            provider.fail_next("500:accepted", "429", "429", headers=soon)
        script = str(Path(__file__).parent / "openai_session.py")
        result = subprocess.run(
            [sys.executable, script, one.url, ledgers[0], other.url, ledgers[1]],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([*folder, str(ROOT)])},
        )
        assert (result.returncode, result.stderr) == (0, "")
        session = json.loads(result.stdout)
        assert (session["version"].split(".")[0], session["outcomes"]) == (
            str(version),
            [outcomes(*one.tasks), outcomes(*other.tasks)],
        )
        for provider, guard in zip((one, other), guards, strict=True):
            sent = [
                form_fields(request.body, request.headers["Content-Type"]) for request in provider.submissions
            ]
            assert sent == SENT
            reservations = [
                (reservation.project, reservation.state, reservation.attempt, reservation.reserved)
                for reservation in guard.history()
            ]
            assert reservations == RESERVATIONS
            guard.verify()
            guard.close()


def test_version_3_passes_a_raised_refusal_on_unchanged(tmp_path: Path, book: PriceBook) -> None:
    """It is neither retried nor wrapped, so the caller can catch it; a remix is refused without a price."""
    guard = BudgetGuard(
        f"sqlite:///{tmp_path}/spend.db", [Budget(name="all", cap=1, currency="CNY")], book=book
    )
    with running("tencent-vod") as provider:
        transport = GuardedTransport(
            httpx2.HTTPTransport(), guard, project="trailer", hosts={provider.host: "tencent-vod"}
        )
        client = OpenAI(
            base_url=f"{provider.url}/v1", api_key="x", http_client=httpx2.Client(transport=transport)
        )
        job = {"model": "Kling-2.5", "prompt": "a boat", "seconds": "5", "size": "1280x720"}
        with client:
            with pytest.raises(BudgetExceededError) as caught:
                client.post("/videos", body=job, cast_to=object)
            with pytest.raises(
                KlingPricingError,
                match=r"^POST /v1/videos/v-1/remix: this API bills for the request, but the price is unknown",
            ):
                client.post("/videos/v-1/remix", body={"prompt": "a ship"}, cast_to=object)
        assert (caught.value.requested, provider.received) == (Decimal("1.5"), [])
    guard.close()
