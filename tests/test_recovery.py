"""Polling the provider about jobs that were sent, in Python and on the command line."""

import json
import os
import pty
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from functools import partial
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kling_pricing import Budget, BudgetGuard, KlingPricingError, PriceBook
from kling_pricing.hooks.httpx import GuardedTransport
from kling_pricing.hooks.recovery import PollResult, poll, status_urls, unsettled
from tests import commands
from tests.commands import INTERRUPTIBLE, Done
from tests.conftest import Clock, examples, video
from tests.providers import Provider, closed_port, running
from tests.receivers import QuietHandler, serving

BUDGET = Budget(name="all", cap=100, currency="USD")
CLIP = video(duration=5)
JOB = {"model_name": "kling-v3", "prompt": "a boat"}


def fetch(url: str) -> tuple[int, bytes]:
    """Fetches a URL with the caller's own client."""
    try:
        with urlopen(url, timeout=10) as response:  # noqa: S310 (a provider of the tests)
            return response.status, response.read()
    except HTTPError as error:
        return error.code, error.read()


@pytest.fixture
def guard(tmp_path: Path, book: PriceBook, clock: Clock) -> Iterator[BudgetGuard]:
    """A guard with a large budget."""
    with BudgetGuard(f"sqlite:///{tmp_path}/spend.db", [BUDGET], book=book, clock=clock) as opened:
        yield opened
        opened.verify()


def submit(guard: BudgetGuard, provider: Provider, path: str, *payloads: dict[str, Any]) -> None:
    """Submits requests through a hook and ignores the responses."""
    hosts = {provider.host: provider.name}
    transport = GuardedTransport(
        httpx.HTTPTransport(), guard, project="trailer", hosts=hosts, send_reservation_id=True
    )
    with httpx.Client(transport=transport, base_url=provider.url) as client:
        for payload in payloads:
            client.post(path, json=payload)


def outcomes(results: Iterator[PollResult]) -> list[tuple[str, str]]:
    """Returns the outcome and the state of each result."""
    return [(result.outcome, result.reservation.state) for result in results]


def test_polling_settles_ended_jobs_once(guard: BudgetGuard) -> None:
    """Finished jobs are settled and failed ones released; polling again changes nothing."""
    with running("qingbo") as provider:
        provider.fail_next([], [], [])
        provider.fail_next([], body=b'{"task_id": "t-4", "status": "queued"}')  # the provider does not know it
        provider.fail_next("500:accepted")
        submit(guard, provider, "/v1/tasks", *[CLIP] * 5)
        tasks = provider.tasks
        provider.finish(tasks[0])
        provider.finish(tasks[1], "failed")
        first = outcomes(poll(guard, fetch, base_url=provider.url))
        assert first == [
            ("settled", "settled"),
            ("released", "released"),
            ("running", "bound"),
            ("unknown", "bound"),
            ("unaskable", "dispatching"),
        ]
        journal = guard.journal()
        assert outcomes(poll(guard, fetch, base_url=provider.url)) == first[2:]
        assert guard.journal() == journal
        assert guard.status()[0].spent == Decimal("0.357")


ODD_IDS = ["x" * 201, "a\nb", "a\x00b", "\ud800", "\x1b[2J", "\u202e", " ", 7, ["a"], {}]


@pytest.mark.parametrize("odd", ODD_IDS)
def test_an_odd_answer_does_not_end_the_polling(odd: Any, guard: BudgetGuard) -> None:
    """The jobs after it are settled. The job itself is listed with the reason and stays as it was."""
    with running("qingbo") as provider:
        submit(guard, provider, "/v1/tasks", *[CLIP] * 3)
        for task_id in provider.tasks:
            provider.finish(task_id)
        answers = [{"task_id": odd, "status": "completed", "cost": 1}]

        def answer(url: str) -> tuple[int, bytes]:
            return (200, json.dumps(answers.pop()).encode()) if answers else fetch(url)

        first, *others = poll(guard, answer, base_url=provider.url)
        outcome = "unanswered" if isinstance(odd, str) else "unknown"  # such as an error without a task
        assert (first.outcome, first.reservation.state) == (outcome, "bound")
        assert first.detail
        assert outcomes(iter(others)) == [("settled", "settled")] * 2
        assert outcomes(poll(guard, fetch, base_url=provider.url)) == [("settled", "settled")]


_names = st.sampled_from(
    ["task_id", "id", "status", "data", "result", "cost", "model", "seconds", "error", "code"]
)
_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text()
    | st.text(st.characters(categories=["Cs", "Cc", "Lo"]), max_size=300)
    | st.sampled_from(["completed", "failed", "1e999999", "-1", "NaN", "9" * 400, "x" * 201]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_names, inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=examples(150))
@given(st.dictionaries(_names, _values, max_size=6), st.booleans())
def test_no_answer_ends_the_polling(polled: BudgetGuard, body: dict[str, Any], named: bool) -> None:  # noqa: FBT001
    """Whatever JSON an API answers about a job, polling goes on to the next one."""
    reservation = polled.history()[0]
    if named:
        body["task_id"] = reservation.task_id
        body.pop("status", None)
    text = json.dumps(body).encode()
    results = [*poll(polled, lambda _: (200, text), base_url="https://gw.example.com")]
    assert len(results) == len(unsettled(polled)) + sum(
        result.outcome in {"settled", "released"} for result in results
    )


@pytest.fixture(scope="module")
def polled(tmp_path_factory: pytest.TempPathFactory, book: PriceBook) -> Iterator[BudgetGuard]:
    """A guard with two running jobs."""
    folder = tmp_path_factory.mktemp("ledger")
    with BudgetGuard(f"sqlite:///{folder}/spend.db", [BUDGET], book=book) as opened:
        for number in (1, 2):
            admission = opened.admit(CLIP, project="trailer")
            opened.dispatch(admission)
            opened.bind(admission, f"task-{number}")
        yield opened
        opened.verify()


def test_a_lost_task_is_found_by_the_reservations_id(guard: BudgetGuard) -> None:
    """The hook sent the reservation's id as the caller's own id, so the API can look the task up by it."""
    with running("kling") as provider:
        provider.fail_next("lost-answer", "lost-request")
        picture = {**JOB, "image": "https://example.com/a.png"}
        for path, payload in (("image2video", picture), ("text2video", JOB)):
            with pytest.raises(httpx.RemoteProtocolError):
                submit(guard, provider, f"/v1/videos/{path}", payload)
        (task_id,) = provider.tasks
        provider.finish(task_id)
        lost, never = guard.in_doubt()
        assert status_urls(guard, lost, f"{provider.url}/") == [
            f"{provider.url}/v1/videos/{kind}/{lost.id}"
            for kind in (
                "text2video",
                "image2video",
                "omni-video",
                "motion-control",
                "multi-image2video",
                "multi-elements",
                "video-extend",
            )
        ]
        assert outcomes(poll(guard, fetch, base_url=provider.url)) == [
            ("settled", "settled"),
            ("unknown", "dispatching"),
        ]
        assert guard.reservation(lost.id).task_id == task_id
        assert [reservation.id for reservation in guard.in_doubt()] == [never.id]


@pytest.mark.parametrize(("status", "outcome"), [(503, "unanswered"), (429, "unanswered"), (404, "unknown")])
def test_an_answer_without_a_task_changes_nothing(guard: BudgetGuard, status: int, outcome: str) -> None:
    """A temporary failure, an unknown task and an unreadable answer leave the reservation bound."""
    with running("qingbo") as provider:
        submit(guard, provider, "/v1/tasks", CLIP)
    for answer, expected in (((status, b"{}"), outcome), ((200, b"<html>"), "unknown")):
        (result,) = poll(guard, lambda _url, answer=answer: answer, base_url=provider.url)  # type: ignore[misc]
        assert (result.reservation.state, result.outcome) == ("bound", expected)
    with pytest.raises(
        KlingPricingError, match=r"^qingbo returned HTTP 401 for a status request; check the credentials$"
    ):
        list(poll(guard, lambda _url: (401, b""), base_url=provider.url))
    with closed_port() as gone:
        (result,) = poll(guard, fetch, base_url=f"http://{gone}")
    assert (result.outcome, result.reservation.state) == ("unanswered", "bound")


def test_the_providers_address_comes_from_its_price_table(guard: BudgetGuard) -> None:
    """The default is the first host of the newest table; a provider without hosts needs `base_url`."""
    with running("qingbo") as provider:
        submit(guard, provider, "/v1/tasks", CLIP)
    (bound,) = unsettled(guard)
    assert status_urls(guard, bound) == [f"https://www.qingbo.dev/v1/tasks/{bound.task_id}"]
    assert status_urls(guard, bound._replace(task_id="a/b?c"))[0].endswith("/v1/tasks/a%2Fb%3Fc")
    with pytest.raises(
        KlingPricingError, match=r"^no host is known for tencent-vod; give the base URL of its API$"
    ):
        status_urls(guard, bound._replace(provider="tencent-vod"))
    with pytest.raises(KlingPricingError, match=r"^the base URL must be an http or https URL"):
        status_urls(guard, bound, "file:///etc")
    assert unsettled(guard, provider="kling") == []


# on the command line

Run = Callable[..., Done]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Returns a function that runs `kling-pricing in-doubt` on the ledger of `guard`."""
    return partial(commands.run, "in-doubt", ledger=f"sqlite:///{tmp_path}/spend.db")


def test_in_doubt_polls_with_the_callers_headers(guard: BudgetGuard, run: Run, tmp_path: Path) -> None:
    """Headers come from options or a file; ended jobs are settled, and the others stay listed."""
    header_file = tmp_path / "headers.txt"
    header_file.write_text("Authorization: Bearer k\n\n")
    with running("qingbo") as provider:
        provider.fail_next([], [], "500:accepted")
        submit(guard, provider, "/v1/tasks", CLIP, CLIP, CLIP)
        provider.finish(provider.tasks[0])
        settled, _, doubtful = guard.history()
        arguments = ["--poll", "--base-url", provider.url]
        arguments += ["--header", f"@{header_file}", "--header", "X-Team: video"]
        result = run(*arguments)
        assert (result.returncode, result.stderr.count("impossible to look up")) == (0, 1)
        lines = result.stdout.splitlines()
        assert lines[0] == f"{settled.id}: settled, 0.357 USD, task {settled.task_id}"
        assert lines[1] == "asked about 3 of 3 jobs: 1 settled, 1 still running, 1 impossible to look up"
        assert f"│ {doubtful.id} │" in result.stdout
        requests = [request for request in provider.received if request.method == "GET"]
        headers = [(request.headers["Authorization"], request.headers["X-Team"]) for request in requests]
        assert headers == [("Bearer k", "video")] * 2
        second = run(*arguments, "--json", "--provider", "qingbo")
        rows = [json.loads(line) for line in second.stdout.splitlines()]
        assert [(row.get("outcome"), row["state"]) for row in rows] == [
            ("running", "bound"),
            ("unaskable", "dispatching"),
            (None, "dispatching"),
        ]


def test_one_provider_is_polled_at_a_time(guard: BudgetGuard, run: Run) -> None:
    """Each provider has its own credentials, which no other provider may see."""
    for name, path, payload in (("qingbo", "/v1/tasks", CLIP), ("kling", "/v1/videos/text2video", JOB)):
        with running(name) as provider:
            submit(guard, provider, path, payload)
    result = run("--poll", "--header", "Authorization: Bearer k")
    assert result.returncode == 2
    assert "several providers have unsettled jobs; choose one with --provider kling|qingbo" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--header", f"@{sys.executable}"], "not UTF-8 text"),
        (["--header", "Bearer k"], "write 'Name: value', or @FILE to read such lines from a file"),
        (["--header", "@nowhere.txt"], "nowhere.txt: cannot be read: No such file"),
        (
            ["--base-url", "gw.example.com"],
            "write an http or https URL, such as https://gw.example.com/api",
        ),
    ],
)
def test_arguments_that_cannot_be_used_are_errors(
    guard: BudgetGuard, run: Run, arguments: list[str], problem: str
) -> None:
    """The error comes before any request and does not repeat a malformed header, which may be a secret."""
    with running("qingbo") as provider:
        submit(guard, provider, "/v1/tasks", CLIP)
    result = run("--poll", *arguments)
    assert result.returncode != 0
    assert problem in result.stderr
    assert "Bearer k" not in result.stderr


def test_credentials_do_not_follow_a_redirect(guard: BudgetGuard, run: Run) -> None:
    """The caller's headers are sent to the API only."""
    with running("qingbo") as provider, running("qingbo") as elsewhere:
        submit(guard, provider, "/v1/tasks", CLIP)

        class Handler(QuietHandler, BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(302)
                self.send_header("Location", f"{elsewhere.url}{self.path}")
                self.send_header("Content-Length", "0")
                self.end_headers()

        with serving(Handler) as redirecting:
            result = run("--poll", "--base-url", redirecting, "--header", "Authorization: Bearer k")
        assert "1 unknown" in result.stdout
        assert elsewhere.received == []


@contextmanager
def answering_twice(provider: Provider) -> Iterator[tuple[str, threading.Event]]:
    """Yields a URL that passes two requests on, and an event that is set when a third has to wait."""
    asked: list[str] = []
    asked_again, ended = threading.Event(), threading.Event()

    class Handler(QuietHandler, BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            if len(asked) > 2:
                asked_again.set()
                ended.wait(60)
            status, body = fetch(f"{provider.url}{self.path}")
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with serving(Handler) as url:
        try:
            yield url, asked_again
        finally:
            ended.set()


def test_ctrl_c_loses_nothing_and_a_terminal_shows_the_progress(guard: BudgetGuard, tmp_path: Path) -> None:
    """Jobs that were answered before Ctrl-C are settled; polling again settles the rest."""
    with running("qingbo") as provider, answering_twice(provider) as (slow, asked_again):
        submit(guard, provider, "/v1/tasks", *[CLIP] * 3)
        for task_id in provider.tasks:
            provider.finish(task_id)
        terminal, terminal_of_process = pty.openpty()
        process = subprocess.Popen(
            [sys.executable, "-c", INTERRUPTIBLE, "in-doubt", "--poll", "--base-url", slow],
            stdout=subprocess.PIPE,
            stderr=terminal_of_process,
            text=True,
            env={**os.environ, "KLING_PRICING_LEDGER": f"sqlite:///{tmp_path}/spend.db", "TERM": "xterm"},
        )
        os.close(terminal_of_process)
        screen: list[bytes] = []

        def read() -> None:
            try:
                while part := os.read(terminal, 4096):
                    screen.append(part)
            except OSError:  # the process has closed the terminal
                pass

        reader = threading.Thread(target=read)
        reader.start()
        assert asked_again.wait(30)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=60)
        reader.join()
        os.close(terminal)
        assert process.returncode == 130
        assert "asked about 2 of 3 jobs: 2 settled" in output
        assert b"Asking" in b"".join(screen)
        assert [reservation.state for reservation in guard.history()] == ["settled", "settled", "bound"]
        assert outcomes(poll(guard, fetch, base_url=provider.url)) == [("settled", "settled")]
