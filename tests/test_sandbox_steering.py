"""Tests control a sandbox: resets, a provider at the root, held responses, lost requests and callbacks."""

from __future__ import annotations

import signal
import subprocess
import sys
from base64 import b64decode
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import httpx
import pytest

from kling_pricing import KlingPricingError
from kling_pricing.errors import ScenarioError
from tests.providers import Provider, running, shared_sandbox
from tests.receivers import Received, receiving

CLIP = {"model": "kling-v3", "prompt": "a heron", "duration": 5, "resolution": "1080p", "audio": True}
"""A job that costs 0.714 USD, which is 357000 in quota."""
PATH = "/v1/tasks"


def submit(provider: Provider, payload: dict[str, Any] = CLIP, **headers: str) -> httpx.Response:
    """Submits a job."""
    return httpx.post(f"{provider.url}{PATH}", json=payload, headers=headers, timeout=10)


def test_a_reset_forgets_everything_and_begins_a_scenario() -> None:
    """After a reset, tasks, requests, faults, bills and the clock are as in a new sandbox."""
    with running("qingbo") as provider:
        first = submit(provider).json()["task_id"]
        provider.finish(first)
        provider.fail_next("500")
        provider.sandbox.advance(seconds=60)
        provider.sandbox.reset({"speed": 0, "start": "2026-11-21T00:00:00Z", "run_s": 7, "at_root": "qingbo"})
        assert (provider.tasks, provider.received, provider.bill) == ([], [], {})
        assert provider.sandbox.call("GET", "/_clock")["now"] == "2026-11-21T00:00:00+00:00"
        assert submit(provider).json()["task_id"] == first  # the same seed gives the first task the same id
        provider.sandbox.advance(seconds=9)
        assert provider.bill == {"USD": Decimal("0.714")}
        provider.sandbox.reset()
        assert (submit(provider).status_code, provider.bill) == (200, {})


def test_a_reset_lets_go_of_held_answers() -> None:
    """A reset releases held responses, so that no client waits for its timeout."""
    with running("qingbo") as provider, ThreadPoolExecutor(1) as thread:
        provider.fail_next("timeout")
        waiting = thread.submit(submit, provider)
        provider.wait_for_tasks()
        provider.sandbox.reset()
        assert waiting.result().status_code == 200


def test_a_reset_with_an_unknown_provider_changes_nothing() -> None:
    """After a refused reset, the sandbox continues with its scenario."""
    with running("qingbo") as provider:
        submit(provider)
        with pytest.raises(KlingPricingError, match="at_root: unknown provider quingbo; did you mean 'qingbo'"):
            provider.sandbox.reset({"at_root": "quingbo"})
        with pytest.raises(ScenarioError, match="sped"):
            provider.sandbox.reset({"sped": 0})
        assert len(provider.tasks) == 1


def test_one_provider_may_stand_at_the_root() -> None:
    """The API of this provider needs no prefix; prefixes, hosts and control requests work as before."""
    with running("qingbo") as provider:
        assert submit(provider).status_code == 200
        assert httpx.post(f"{provider.url}/qingbo{PATH}", json=CLIP).status_code == 200
        answer = httpx.post(f"{provider.url}{PATH}", json=CLIP, headers={"Host": "qingbo-ai.localhost"})
        assert answer.status_code == 400  # the other API has no field `audio`
        assert [call["provider"] for call in provider.sandbox.received] == ["qingbo", "qingbo", "qingbo-ai"]
        assert httpx.get(provider.url).json()["kling"]["url"] == f"{provider.url}/kling"
        assert httpx.get(f"{provider.url}/_nothing").status_code == 404


def test_without_a_provider_at_the_root_its_calls_are_not_known() -> None:
    """The response lists the prefixes."""
    with shared_sandbox({"speed": 0}) as sandbox:
        response = httpx.post(f"{sandbox.url()}{PATH}", json=CLIP)
    assert (response.status_code, "begin the path with one of /kling" in response.text) == (404, True)


@pytest.mark.parametrize(("fault", "status", "tasks"), [("hold", 200, 1), (["429", "hold"], 429, 0)])
def test_any_answer_can_be_held(fault: str | list[str], status: int, tasks: int) -> None:
    """The response is sent when the test asks for it, and the request is visible before."""
    with running("qingbo") as provider, ThreadPoolExecutor(1) as thread:
        provider.fail_next(fault)
        waiting = thread.submit(submit, provider)
        (call,) = provider.sandbox.calls(at_least=1)
        assert (call["path"], waiting.done()) == (PATH, False)
        provider.sandbox.resume()
        assert (waiting.result().status_code, len(provider.tasks)) == (status, tasks)


@pytest.mark.parametrize(("fault", "tasks"), [("lost-request", 0), ("lost-answer", 1)])
def test_a_connection_closes_before_or_after_a_task_is_created(fault: str, tasks: int) -> None:
    """The client cannot distinguish a lost request from a lost response."""
    with running("qingbo") as provider:
        with pytest.raises(httpx.RemoteProtocolError):
            submit(provider, {**CLIP, "prompt": f"a [{fault}]"})
        assert len(provider.tasks) == tasks


def test_a_callback_can_be_sent_again_under_one_id() -> None:
    """The receiver's statuses are returned; a callback may state a state that the task does not have."""
    received: list[Received] = []

    def receive(request: Received) -> int:
        received.append(request)
        return 199 + len(received)

    with running("kling", webhook_secret="whsec_" + "c2VjcmV0" * 4) as provider, receiving(receive) as url:
        answer = httpx.post(
            f"{provider.url}/v1/videos/text2video", json={"model_name": "kling-v3", "prompt": "a"}
        )
        task_id = answer.json()["data"]["task_id"]
        assert provider.call_back(task_id, url, times=2) == [200, 201]
        assert provider.call_back(task_id, url, state="processing") == [202]
        with pytest.raises(KlingPricingError, match="`times` must be a whole number of at least 1, got 0"):
            provider.call_back(task_id, url, times=0)
    assert [request.json["task_status"] for request in received] == ["submitted", "submitted", "processing"]
    first, second, third = (request.headers["webhook-id"] for request in received)
    assert first == second != third


@pytest.mark.parametrize("charge", [400_000, 1, 357_000])
def test_a_charge_that_a_test_chooses_is_billed_exactly(charge: int) -> None:
    """The charged money is exactly the quota times its value, regardless of the price."""
    with running("qingbo") as provider:
        task_id = submit(provider).json()["task_id"]
        provider.finish(task_id, charge=charge)
        assert provider.bill == {"USD": charge / Decimal(500_000)}


def test_a_result_in_the_response_has_no_callback() -> None:
    """The callback URL of the account is for tasks that end later."""
    with receiving(lambda _: 200) as url, running("kling", callback_url=url) as provider:
        for path in ("/v1/videos/identify-face", "/v1/videos/text2video"):
            payload = {"video_url": url} if "face" in path else {"model_name": "kling-v3", "prompt": "a"}
            assert httpx.post(f"{provider.url}{path}", json=payload).status_code == 200
        (callback,) = provider.sandbox.callbacks(at_least=1)
        assert "submitted" in callback["body"]


@pytest.mark.parametrize(
    ("path", "payload", "headers"),
    [
        ("/kling/v1/videos/text2video", {"model_name": "kling-v3", "prompt": "[hold]"}, {}),
        ("/qingbo/v1/tasks", CLIP, {"Prefer": "wait=30"}),
    ],
)
def test_ctrl_c_releases_responses_that_wait(
    path: str, payload: dict[str, Any], headers: dict[str, str]
) -> None:
    """The command stops without an error, and the client gets its response."""
    command = [sys.executable, "-m", "kling_pricing", "sandbox", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = next(line.split()[1] for line in process.stdout if line.startswith("  kling "))
        url = url.removesuffix("/kling")
        with ThreadPoolExecutor(1) as thread:
            waiting = thread.submit(httpx.post, url + path, json=payload, headers=headers, timeout=20)
            while not httpx.get(f"{url}/{path.split('/')[1]}/_tasks").json():
                assert not waiting.done()
            process.send_signal(signal.SIGINT)
            assert waiting.result().status_code == 200
        assert (process.wait(10), process.stderr and process.stderr.read()) == (0, "")


def test_requests_with_large_bodies_are_kept_up_to_64_mib() -> None:
    """Jobs with images in the payload do not fill the memory; the newest request is always there."""
    with running("kling") as provider:
        for size in (1, 33, 34):
            job = {"model_name": "kling-v3", "prompt": "a", "image": "A" * (size * 2**20)}
            httpx.post(f"{provider.url}/v1/videos/image2video", json=job, timeout=60)
        (received,) = provider.sandbox.received
        assert len(received["body"]) > 34 * 2**20


@pytest.mark.parametrize(("mib", "status", "tasks"), [(63, 200, 1), (65, 413, 0)])
def test_a_body_of_more_than_64_mib_is_refused(mib: int, status: int, tasks: int) -> None:
    """The error gives the limit, so that nobody looks for an error in the JSON."""
    with running("kling") as provider:
        job = b'{"model_name": "kling-v3", "prompt": "a", "image": "' + b"A" * (mib * 2**20) + b'"}'
        response = httpx.post(f"{provider.url}/v1/videos/image2video", content=job, timeout=60)
        assert (response.status_code, "64 MiB" in response.text) == (status, status == 413)
        assert len(provider.tasks) == tasks


def test_calls_are_kept_exactly() -> None:
    """A body that is not text is available as bytes, and a repeated header has both values."""
    body = b"\xff\x00"
    with running("qingbo") as provider:
        httpx.post(f"{provider.url}{PATH}", content=body, headers=[("X-Shot", "1"), ("X-Shot", "2")])
        (call,) = provider.sandbox.received
    assert (b64decode(call["body_base64"]), call["headers"]["x-shot"]) == (body, "1, 2")
