"""Asking the provider what became of jobs that were sent, in Python and in a shell."""

import json
import os
import pty
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import httpx
import pytest

from kling_pricing import Budget, BudgetGuard, KlingPricingError, PriceBook
from kling_pricing.hooks.httpx import GuardedTransport
from kling_pricing.hooks.recovery import Looked, poll, status_urls, unsettled
from tests import commands
from tests.commands import INTERRUPTIBLE, Done
from tests.conftest import Clock, video
from tests.gateway import Fault, Gateway, running

BUDGET = Budget(name="all", cap=100, currency="USD")
CLIP = video(duration=5)
JOB = {"model_name": "kling-v3", "prompt": "a boat"}


def fetch(url: str) -> tuple[int, bytes]:
    """A client of the caller's own."""
    try:
        with urlopen(url, timeout=10) as answer:  # noqa: S310 (the tests' own gateway)
            return answer.status, answer.read()
    except HTTPError as error:
        return error.code, error.read()


@pytest.fixture
def guard(tmp_path: Path, book: PriceBook, clock: Clock) -> Iterator[BudgetGuard]:
    """A guard."""
    made = BudgetGuard(f"sqlite:///{tmp_path}/spend.db", [BUDGET], book=book, clock=clock)
    yield made
    made.verify()
    made.close()


def submit(guard: BudgetGuard, gateway: Gateway, path: str, *payloads: dict[str, Any]) -> None:
    """Submits requests through a hook, whatever comes of it."""
    hosts = {gateway.host: gateway.provider}
    transport = GuardedTransport(
        httpx.HTTPTransport(), guard, project="trailer", hosts=hosts, send_reservation_id=True
    )
    with httpx.Client(transport=transport, base_url=gateway.url) as client:
        for payload in payloads:
            client.post(path, json=payload)


def outcomes(found: Iterator[Looked]) -> list[tuple[str, str]]:
    """Outcome and state of each."""
    return [(each.outcome, each.reservation.state) for each in found]


def test_polling_settles_what_has_ended_and_never_twice(guard: BudgetGuard, book: PriceBook) -> None:
    """Finished, failed, still running, unknown to the provider; asked again, nothing moves."""
    with running("qingbo", book) as gateway:
        submit(guard, gateway, "/v1/tasks", *[CLIP] * 4)
        tasks = list(gateway.jobs)
        gateway.finish(tasks[0])
        gateway.finish(tasks[1], "failed")
        del gateway.jobs[tasks[3]]
        gateway.will(Fault(500, accepts=True))
        submit(guard, gateway, "/v1/tasks", CLIP)
        first = outcomes(poll(guard, fetch, base_url=gateway.url))
        assert first == [
            ("settled", "settled"),
            ("released", "released"),
            ("running", "bound"),
            ("unknown", "bound"),
            ("unaskable", "dispatching"),
        ]
        journal = guard.journal()
        assert outcomes(poll(guard, fetch, base_url=gateway.url)) == first[2:]
        assert guard.journal() == journal
        assert guard.status()[0].spent == Decimal("0.357")


def test_a_lost_task_is_found_by_the_reservations_id(guard: BudgetGuard, book: PriceBook) -> None:
    """Where the API takes a name of the caller's own, and the hook gave it one."""
    with running("kling", book) as gateway:
        gateway.will(Fault(drops=True, accepts=True), Fault(drops=True))
        picture = {**JOB, "image": "https://example.com/a.png"}
        for path, payload in (("image2video", picture), ("text2video", JOB)):
            with pytest.raises(httpx.RemoteProtocolError):
                submit(guard, gateway, f"/v1/videos/{path}", payload)
        (task_id,) = gateway.jobs
        gateway.finish(task_id)
        lost, never = guard.in_doubt()
        assert status_urls(guard, lost, f"{gateway.url}/") == [
            f"{gateway.url}/v1/videos/{kind}/{lost.id}"
            for kind in ("text2video", "image2video", "omni-video", "motion-control")
        ]
        assert outcomes(poll(guard, fetch, base_url=gateway.url)) == [
            ("settled", "settled"),
            ("unknown", "dispatching"),
        ]
        assert guard.reservation(lost.id).task_id == task_id
        assert [each.id for each in guard.in_doubt()] == [never.id]


@pytest.mark.parametrize(("status", "outcome"), [(503, "unanswered"), (429, "unanswered"), (404, "unknown")])
def test_an_answer_that_is_none_changes_nothing(
    guard: BudgetGuard, book: PriceBook, status: int, outcome: str
) -> None:
    """Later is not never, and never is not certain."""
    with running("qingbo", book) as gateway:
        submit(guard, gateway, "/v1/tasks", CLIP)
    for answer, means in (((status, b"{}"), outcome), ((200, b"<html>"), "unknown")):
        (looked,) = poll(guard, lambda _url, answer=answer: answer, base_url=gateway.url)  # type: ignore[misc]
        assert (looked.reservation.state, looked.outcome) == ("bound", means)
    with pytest.raises(KlingPricingError, match=r"answers 401 .* check the credentials"):
        list(poll(guard, lambda _url: (401, b""), base_url=gateway.url))
    (looked,) = poll(guard, fetch, base_url=gateway.url)  # nobody listens there any more
    assert (looked.outcome, looked.reservation.state) == ("unanswered", "bound")


def test_where_the_provider_is_comes_from_its_price_table(guard: BudgetGuard, book: PriceBook) -> None:
    """The first host of the newest one; a provider without a host needs to be told."""
    with running("qingbo", book) as gateway:
        submit(guard, gateway, "/v1/tasks", CLIP)
    (bound,) = unsettled(guard)
    assert status_urls(guard, bound) == [f"https://www.qingbo.dev/v1/tasks/{bound.task_id}"]
    assert status_urls(guard, bound._replace(task_id="a/b?c"))[0].endswith("/v1/tasks/a%2Fb%3Fc")
    with pytest.raises(KlingPricingError, match="no host of tencent-vod is known"):
        status_urls(guard, bound._replace(provider="tencent-vod"))
    with pytest.raises(KlingPricingError, match="base_url must be an http or https URL"):
        status_urls(guard, bound, "file:///etc")
    assert unsettled(guard, provider="kling") == []


# in a shell

Run = Callable[..., Done]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs `kling-pricing in-doubt` on the ledger of `guard`."""
    return partial(commands.run, "in-doubt", ledger=f"sqlite:///{tmp_path}/spend.db")


def test_in_doubt_asks_the_provider_first(
    guard: BudgetGuard, book: PriceBook, run: Run, tmp_path: Path
) -> None:
    """With the caller's headers, from the line or a file; what ended is settled, the rest stays listed."""
    secret = tmp_path / "headers.txt"
    secret.write_text("Authorization: Bearer k\n\n")
    with running("qingbo", book) as gateway:
        gateway.will(Fault(), Fault(), Fault(500, accepts=True))
        submit(guard, gateway, "/v1/tasks", CLIP, CLIP, CLIP)
        gateway.finish(next(iter(gateway.jobs)))
        settled, _, doubtful = guard.history()
        asked = ("--poll", "--base-url", gateway.url, "--header", f"@{secret}", "--header", "X-Team: video")
        result = run(*asked)
        assert (result.returncode, result.stderr.count("unaskable")) == (0, 1)
        lines = result.stdout.splitlines()
        assert lines[0] == f"{settled.id}: settled, 0.357 USD, task {settled.task_id}"
        assert lines[1] == "asked about 3 of 3: 1 settled, 1 running, 1 unaskable"
        assert f"│ {doubtful.id} │" in result.stdout
        questions = [each for each in gateway.received if each.method == "GET"]
        assert [(each.headers["Authorization"], each.headers["X-Team"]) for each in questions] == [
            ("Bearer k", "video")
        ] * 2
        again = run(*asked, "--json", "--provider", "qingbo")
        told = [json.loads(line) for line in again.stdout.splitlines()]
        assert [(each.get("outcome"), each["state"]) for each in told] == [
            ("running", "bound"),
            ("unaskable", "dispatching"),
            (None, "dispatching"),
        ]


def test_one_provider_is_asked_at_a_time(guard: BudgetGuard, book: PriceBook, run: Run) -> None:
    """Each has a key of its own, which no other is to see."""
    for provider, path, payload in (("qingbo", "/v1/tasks", CLIP), ("kling", "/v1/videos/text2video", JOB)):
        with running(provider, book) as gateway:
            submit(guard, gateway, path, payload)
    result = run("--poll", "--header", "Authorization: Bearer k")
    assert result.returncode == 1
    assert "name one: --provider kling|qingbo" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--header", f"@{sys.executable}"], "not UTF-8 text"),
        (["--header", "Bearer k"], "write 'Name: value', or @FILE with such lines"),
        (["--header", "@nowhere.txt"], "nowhere.txt: No such file"),
        (["--base-url", "gw.example.com"], "base_url must be an http or https URL"),
    ],
)
def test_what_cannot_be_used_is_said(
    guard: BudgetGuard, book: PriceBook, run: Run, arguments: list[str], problem: str
) -> None:
    """Before anything is asked; a header that is none may be a key, so it is not repeated."""
    with running("qingbo", book) as gateway:
        submit(guard, gateway, "/v1/tasks", CLIP)
    result = run("--poll", *arguments)
    assert result.returncode != 0
    assert problem in result.stderr
    assert "Bearer k" not in result.stderr


def test_credentials_do_not_follow_a_redirect(guard: BudgetGuard, book: PriceBook, run: Run) -> None:
    """They are for the API, and for nobody else."""
    with running("qingbo", book) as gateway, running("qingbo", book) as elsewhere:
        submit(guard, gateway, "/v1/tasks", CLIP)
        result = run("--poll", "--base-url", f"{gateway.url}/redirect-to/{elsewhere.host}")
        assert "1 unknown" in result.stdout
        assert elsewhere.received == []


def test_ctrl_c_loses_nothing_and_a_terminal_shows_the_progress(
    guard: BudgetGuard, book: PriceBook, tmp_path: Path
) -> None:
    """What was answered by then is settled; asked again, the rest is."""
    with running("qingbo", book) as gateway:
        submit(guard, gateway, "/v1/tasks", *[CLIP] * 3)
        for task_id in gateway.jobs:
            gateway.finish(task_id)
        gateway.hang_after(2)
        ours, theirs = pty.openpty()
        process = subprocess.Popen(
            [sys.executable, "-c", INTERRUPTIBLE, "in-doubt", "--poll", "--base-url", gateway.url],
            stdout=subprocess.PIPE,
            stderr=theirs,
            text=True,
            env={**os.environ, "KLING_PRICING_LEDGER": f"sqlite:///{tmp_path}/spend.db", "TERM": "xterm"},
        )
        os.close(theirs)
        shown: list[bytes] = []

        def read() -> None:
            try:
                while part := os.read(ours, 4096):
                    shown.append(part)
            except OSError:  # the other end is closed
                pass

        reader = threading.Thread(target=read)
        reader.start()
        assert gateway.hanging.wait(30)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=30)
        reader.join()
        os.close(ours)
        assert process.returncode == 130
        assert "asked about 2 of 3: 2 settled" in output
        assert b"asking" in b"".join(shown)
        gateway.go_on()
        assert [each.state for each in guard.history()] == ["settled", "settled", "bound"]
        assert outcomes(poll(guard, fetch, base_url=gateway.url)) == [("settled", "settled")]
