"""Unmodified public clients use the sandbox."""

from __future__ import annotations

import hmac
import json
import os
import shutil
import subprocess
import sys
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from kling_pricing import PriceBook
from kling_pricing.errors import ScenarioError
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
"""The tasks that the script creates; the lost response causes two, because the SDK resends the job."""
BILL = {"CNY": 6 * Decimal("1.5") + Decimal("2.5")}
"""The billed tasks: all except the failed one."""
MAGIC = {"mp4": b"ftyp", "png": b"PNG", "mp3": b"ID3", "wav": b"WAVE"}


@pytest.fixture
def node_openai() -> Path:
    """The folder, set by `NODE_VARIABLE`, in which `npm install openai` was run."""
    folder = os.environ.get(NODE_VARIABLE)
    if not folder or shutil.which("node") is None:
        assert not os.environ.get("CI"), f"{NODE_VARIABLE} must name a folder with Node's SDK"
        pytest.skip(f"{NODE_VARIABLE} names no folder with Node's SDK")
    return Path(folder)


@pytest.mark.parametrize(("sdk", "version"), [("python", "2"), ("python", "3"), ("node", "")])
def test_the_openai_sdks_use_the_sandbox_as_they_use_the_api(
    sdk: str, version: str, book: PriceBook, request: pytest.FixtureRequest
) -> None:
    """Every SDK sees the same outcomes: tasks, pages, files, deletions, refusals, retries and lost responses.

    A deleted video stays on the bill, and so does the task whose response was lost.
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


@pytest.fixture
def kling(book: PriceBook) -> Iterator[tuple[Sandbox, httpx.Client]]:
    """A sandbox whose clock stands still, and a client of its official API."""
    account = {"packs": {"video": 60}}
    with (
        Sandbox({**SCENARIO, "providers": {"kling": account}}, book=book) as sandbox,
        httpx.Client(base_url=sandbox.url("kling")) as client,
    ):
        yield sandbox, client


def test_a_task_is_found_by_the_callers_own_id_in_the_query(kling: tuple[Sandbox, httpx.Client]) -> None:
    """Clients can query `?external_task_id=` at the path of the submission; an unknown id is an error."""
    _, client = kling
    path = "/v1/videos/text2video"
    job = {"model_name": "kling-v3", "prompt": "a heron", "external_task_id": "mine"}
    task = client.post(path, json=job).json()["data"]["task_id"]
    found = client.get(path, params={"external_task_id": "mine"})
    assert (found.status_code, found.json()["data"]["task_id"]) == (200, task)
    missing = client.get(path, params={"external_task_id": "yours"})
    assert (missing.status_code, missing.json()["code"]) == (400, 1201)


def test_the_packs_say_what_is_left_of_them(kling: tuple[Sandbox, httpx.Client]) -> None:
    """Clients can query the packs to check that a key works and that enough units remain."""
    _, client = kling

    def packs() -> list[tuple[str, int, str]]:
        infos = client.get("/account/costs").json()["data"]["resource_pack_subscribe_infos"]
        return [(info["resource_pack_id"], info["remaining_quantity"], info["status"]) for info in infos]

    before = packs()
    for _ in range(10):
        client.post("/v1/videos/text2video", json={"model_name": "kling-v3", "prompt": "a", "duration": "10"})
    assert (before, packs()) == (
        [("p-video", 60, "online"), ("p-image", 100_000, "online")],
        [("p-video", 0, "runOut"), ("p-image", 100_000, "online")],
    )


@pytest.mark.parametrize(
    ("path", "payload", "names"),
    [
        ("/v1/audio/text-to-audio", {"prompt": "rain", "duration": 3.0}, ["audios"]),
        ("/v1/audio/video-to-audio", {"video_id": "v"}, ["audios", "videos"]),
        ("/v1/videos/avatar/image2video", {"image": "aGk=", "audio_id": "a"}, ["videos"]),
        (
            "/v1/general/custom-voices",
            {"voice_name": "L", "voice_url": "https://a.example/a.mp3"},
            ["voices"],
        ),
        ("/v1/images/generations", {"model_name": "kling-v3", "prompt": "a heron"}, ["images"]),
    ],
)
def test_each_service_gives_what_it_makes(
    kling: tuple[Sandbox, httpx.Client], path: str, payload: dict[str, object], names: list[str]
) -> None:
    """Every file can be downloaded and begins like a file of its type; audio results have their lengths."""
    sandbox, client = kling
    task = client.post(path, json=payload).json()["data"]["task_id"]
    sandbox.advance(seconds=60)
    result = client.get(f"{path}/{task}").json()["data"]["task_result"]
    assert [*result] == names
    for entry in (entry for entries in result.values() for entry in entries):
        for url in (value for name, value in entry.items() if "url" in name):
            content = client.get(url).content
            assert MAGIC[url.rpartition(".")[2]] in content[:16]
    if path.endswith("text-to-audio"):
        assert result["audios"][0]["duration_mp3"] == "3.041"


def test_speech_comes_with_the_answer(kling: tuple[Sandbox, httpx.Client]) -> None:
    """Text to speech has no status path, so the response contains the audio and the charge."""
    _, client = kling
    data = client.post("/v1/audio/tts", json={"text": "hello", "voice_id": "v"}).json()["data"]
    assert (data["task_status"], data["final_unit_deduction"]) == ("succeed", "0.05")
    assert data["task_result"]["audios"][0]["url"].endswith(".mp3")


def token(secret: str, **claims: Any) -> str:
    """Returns a JSON Web Token with HS256, as the official API documents it; times are in seconds from now."""
    now_s = int(time.time())
    body: dict[str, Any] = {"iss": "key-1", "exp": 86_400, "nbf": -5} | claims
    body |= {name: now_s + body[name] for name in ("exp", "nbf")}
    parts = [urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in ({"alg": "HS256"}, body)]
    signature = hmac.digest(secret.encode(), b".".join(parts), "sha256")
    return b".".join([*parts, urlsafe_b64encode(signature).rstrip(b"=")]).decode()


@pytest.mark.parametrize(
    ("authorization", "code"),
    [
        (f"Bearer {token('secret-1')}", None),
        ("", 1001),
        ("Bearer key-1", 1002),
        (f"Bearer {token('secret-1', iss='key-2')}", 1002),
        (f"Bearer {token('secret-2')}", 1000),
        (f"Bearer {token('secret-1', exp=-1)}", 1004),
        (f"Bearer {token('secret-1', nbf=86_400)}", 1003),
    ],
)
def test_tokens_that_clients_sign_are_checked(book: PriceBook, authorization: str, code: int | None) -> None:
    """Each defect of a token has the documented code; a client that gets code 1004 signs a new token."""
    account = {"api_key": "key-1", "secret_key": "secret-1"}
    with Sandbox({**SCENARIO, "providers": {"kling": account}}, book=book) as sandbox:
        job = {"model_name": "kling-v3", "prompt": "a heron"}
        headers = {"authorization": authorization} if authorization else {}
        answer = httpx.post(f"{sandbox.url('kling')}/v1/videos/text2video", json=job, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == ((200, 0) if code is None else (401, code))
        assert len(sandbox.tasks("kling")) == (code is None)


def test_a_secret_without_an_issuer_is_refused() -> None:
    """Without the key, every request would be accepted, so the scenario is refused."""
    with pytest.raises(ScenarioError, match="needs `api_key`"):
        Sandbox({"providers": {"kling": {"secret_key": "secret-1"}}})


@pytest.mark.parametrize(
    ("speed", "wait_s", "status"), [(1000, 30, "completed"), (0, 1, "queued"), (1000, 0, "queued")]
)
def test_a_message_may_wait_for_the_end_of_its_task(
    book: PriceBook, speed: int, wait_s: int, status: str
) -> None:
    """The submitting tool responds when the task ends, or after `wait_seconds` with the current state."""
    job = {"prompt": "a heron", "duration": 5}
    arguments = {"model": "kling-v3", "input": job, "idempotency_key": "k", "wait_seconds": wait_s}
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call"}
    message |= {"params": {"name": "create_task", "arguments": arguments}}
    with Sandbox({**SCENARIO, "speed": speed, "queue_s": 20}, book=book) as sandbox:
        answer = httpx.post(f"{sandbox.url('qingbo-ai')}/v1/mcp", json=message, timeout=60).json()
        task = answer["result"]["structuredContent"]
        assert (answer["id"], task["status"], task["should_poll"]) == (1, status, status == "queued")
        (kept,) = sandbox.tasks("qingbo-ai")
        assert kept["id"] == task["task_id"]
