"""Tasks of the newer official API are found by the caller's own id, in queries of several tasks as well."""

import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from standardwebhooks import Webhook

from kling_pricing import BudgetGuard, WebhookError
from kling_pricing.hooks.httpx import GuardedTransport
from kling_pricing.hooks.recovery import poll, status_urls
from kling_pricing.hooks.webhooks import Webhooks
from tests.conftest import OpenGuard

ROOT = "https://api-singapore.klingai.com"
OMNI = f"{ROOT}/omni-video/kling-3.0-omni"
JOB = {"contents": [{"type": "prompt", "text": "a heron"}], "settings": {"duration": 3}}
PRICE = Decimal("0.252")
"""Of the job at 720p, silent: 3 s x 0.6 units x 0.14 USD."""

EXISTS = {"code": 1201, "message": "external_task_id already exists", "request_id": "r-1"}


SECRET = "whsec_" + base64.b64encode(b"a secret of the tests, 24 b").decode()


def signed(body: dict[str, Any], message_id: str) -> tuple[bytes, dict[str, str]]:
    """Returns the body of a callback and its headers."""
    text, now = json.dumps(body), datetime.now(UTC)
    headers = {"webhook-id": message_id, "webhook-timestamp": str(int(now.timestamp()))}
    return text.encode(), headers | {"webhook-signature": Webhook(SECRET).sign(message_id, now, text)}


class Official:
    """The newer official API in memory: it accepts jobs and answers queries by ids.

    Attributes:
        tasks: the tasks, in the order of their submission.
        answers: the answers to the next submissions; a None stands for a lost answer. When they are used up,
            every submission is answered with its task.
        sent: the payloads that were submitted.
    """

    def __init__(self, *answers: tuple[int, Any] | None) -> None:
        self.tasks: list[dict[str, Any]] = []
        self.answers = list(answers)
        self.sent: list[dict[str, Any]] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        """Answers a request."""
        if request.method == "GET":
            return httpx.Response(200, json={"code": 0, "data": self.asked(str(request.url))})
        payload = json.loads(request.content)
        self.sent.append(payload)
        own_id = (payload.get("options") or {}).get("external_task_id")
        task = {"id": f"t-{len(self.tasks)}", "status": "submitted", "external_id": own_id}
        self.tasks.append(task)
        if not self.answers:
            return httpx.Response(200, json={"code": 0, "message": "", "data": task})
        answer = self.answers.pop(0)
        if answer is None:
            raise httpx.ReadTimeout("lost", request=request)
        return httpx.Response(answer[0], json=answer[1])

    def asked(self, url: str) -> list[dict[str, Any]]:
        """Returns the tasks that a URL asks for; unknown ids are left out."""
        parameters = parse_qs(urlsplit(url).query)
        ids = {
            name: ",".join(parameters.get(name, [])).split(",") for name in ("task_ids", "external_task_ids")
        }
        return [
            task
            for task in self.tasks
            if task["id"] in ids["task_ids"] or task["external_id"] in ids["external_task_ids"]
        ]

    def finish(self) -> None:
        """Ends every task with its charge."""
        for task in self.tasks:
            charge = {"charge_type": "unit", "package_type": "video", "amount": "1.8"}
            task |= {"status": "succeeded", "outputs": [], "billing": [charge]}


def client(guard: BudgetGuard, api: Official, **options: Any) -> httpx.Client:
    """Returns a guarded client of the API that sends the reservation's id."""
    options = {"send_reservation_id": True, "sends_once": True} | options
    transport = GuardedTransport(httpx.MockTransport(api), guard, project="trailer", **options)
    return httpx.Client(transport=transport)


@pytest.mark.parametrize(
    ("options", "sent"),
    [
        ({}, "ID"),
        ({"options": None}, "ID"),
        ({"options": {"external_task_id": ""}}, "ID"),
        ({"options": {"external_task_id": "mine"}}, "mine"),
        ({"options": {"watermark_info": {"enabled": False}}}, "ID"),
    ],
)
def test_the_reservations_id_goes_into_options(
    open_guard: OpenGuard, options: dict[str, Any], sent: str
) -> None:
    """Other options stay, and so does the caller's own id."""
    guard, api = open_guard(), Official()
    with client(guard, api) as guarded:
        guarded.post(OMNI, json=JOB | options)
    (reservation,) = guard.history()
    (payload,) = api.sent
    expected = {**(options.get("options") or {}), "external_task_id": sent.replace("ID", reservation.id)}
    assert payload == JOB | {"options": expected}
    assert reservation.task_id == "t-0"


@pytest.mark.parametrize(
    "query",
    [
        lambda ids, _own: "task_ids=" + ",".join(ids),
        lambda ids, _own: "task_ids=" + "%2C".join(ids),
        lambda ids, _own: "&".join(f"task_ids={task_id}" for task_id in ids),
        lambda _ids, own: "external_task_ids=" + ",".join(own),
        lambda ids, own: f"task_ids={ids[0]}&external_task_ids={own[1]},{own[2]}",
        lambda ids, own: f"external_task_ids={own[0]}&task_ids={ids[1]},{ids[2]}",
    ],
)
def test_a_query_of_several_tasks_settles_each(
    open_guard: OpenGuard, query: Callable[[list[str], list[str]], str]
) -> None:
    """Tasks are asked for by their ids, by the caller's own ids, or by both; others leave no trace."""
    guard, api = open_guard(), Official()
    with client(guard, api) as guarded:
        for _ in range(3):
            guarded.post(OMNI, json=JOB)
        reservations = guard.history()
        api.tasks.append({"id": "t-9", "status": "submitted", "external_id": "elsewhere"})
        api.finish()
        ids, own_ids = ([str(getattr(found, name)) for found in reservations] for name in ("task_id", "id"))
        guarded.get(f"{ROOT}/tasks?{query(ids, own_ids)}")
        guarded.get(f"{ROOT}/tasks?external_task_ids=elsewhere")
        guarded.get(f"{ROOT}/tasks?task_ids=t-9")
    assert [(found.state, found.billed) for found in guard.history()] == [("settled", PRICE)] * 3
    assert guard.unclaimed() == []


@pytest.mark.parametrize(
    ("answer", "problem"),
    [(None, "no response"), ((500, {"code": 5000}), "HTTP 500 5000"), ((400, EXISTS), "HTTP 400 1201")],
)
def test_a_job_without_an_answer_is_found_by_its_own_id(
    open_guard: OpenGuard, answer: tuple[int, Any] | None, problem: str
) -> None:
    """The next query by own ids binds and settles it, although its submission named no task."""
    guard, api = open_guard(), Official(answer)
    with client(guard, api) as guarded:
        try:
            guarded.post(OMNI, json=JOB)
        except httpx.ReadTimeout:
            assert answer is None
        (lost,) = guard.in_doubt()
        assert str(lost.reason).startswith(problem)
        guarded.get(f"{ROOT}/tasks?external_task_ids={lost.id}")
        assert guard.reservation(lost.id).task_id == "t-0"
        api.finish()
        guarded.get(f"{ROOT}/tasks?external_task_ids={lost.id}")
    found = guard.reservation(lost.id)
    assert (found.state, found.billed, guard.in_doubt()) == ("settled", PRICE, [])


def asking(api: Official) -> Callable[[str], tuple[int, bytes]]:
    """Returns a function that asks the API as a caller's own client does."""

    def fetch(url: str) -> tuple[int, bytes]:
        return 200, json.dumps({"code": 0, "data": api.asked(url)}).encode()

    return fetch


def test_polling_asks_for_a_lost_task_by_its_own_id(open_guard: OpenGuard) -> None:
    """A known task is asked for by its id. An id that the API does not know proves nothing."""
    guard, api = open_guard(), Official(None, None)
    with client(guard, api) as guarded:
        for _ in range(2):
            with pytest.raises(httpx.ReadTimeout):
                guarded.post(OMNI, json=JOB)
    lost, never = guard.in_doubt()
    del api.tasks[1]
    assert status_urls(guard, lost) == [f"{ROOT}/tasks?external_task_ids={lost.id}"]
    assert [result.outcome for result in poll(guard, asking(api))] == ["running", "unknown"]
    assert status_urls(guard, guard.reservation(lost.id)) == [f"{ROOT}/tasks?task_ids=t-0"]
    api.finish()
    assert [result.outcome for result in poll(guard, asking(api))] == ["settled", "unknown"]
    assert [found.id for found in guard.in_doubt()] == [never.id]


def test_an_answer_about_another_job_binds_nothing(open_guard: OpenGuard) -> None:
    """A server that ignores the query would otherwise bind a stranger's task."""
    guard, api = open_guard(), Official(None)
    with client(guard, api) as guarded, pytest.raises(httpx.ReadTimeout):
        guarded.post(OMNI, json=JOB)
    (lost,) = guard.in_doubt()
    for own_id in ("elsewhere", None):
        strangers = {"code": 0, "data": [{"id": "t-7", "status": "succeeded", "external_id": own_id}]}
        body = json.dumps(strangers).encode()
        assert [result.outcome for result in poll(guard, lambda _url, body=body: (200, body))] == ["unknown"]  # type: ignore[misc]
    assert guard.reservation(lost.id).task_id is None


def test_a_listing_and_a_callback_find_a_lost_job_too(open_guard: OpenGuard) -> None:
    """Any response that names the reservation's id as the own id of a task binds the task."""
    guard, api = open_guard(), Official(None, None, None)
    with client(guard, api) as guarded:
        for _ in range(3):
            with pytest.raises(httpx.ReadTimeout):
                guarded.post(OMNI, json=JOB)
    reservations = guard.in_doubt()
    api.finish()
    page = {"code": 0, "data": {"result": api.tasks[:1], "count": 1, "next_cursor": "", "has_more": False}}
    transport = GuardedTransport(httpx.MockTransport(lambda _: httpx.Response(200, json=page)), guard)
    with httpx.Client(transport=transport) as lister:
        lister.post(f"{ROOT}/tasks", json={"limit": 10})
    assert guard.reservation(reservations[0].id).billed == PRICE
    guard.observe(api.tasks[1], provider="kling")
    assert guard.reservation(reservations[1].id).billed == PRICE
    older = {
        "task_id": "t-2",
        "task_status": "submitted",
        "task_info": {"external_task_id": reservations[2].id},
    }
    receiver = Webhooks(guard, SECRET, provider="kling")
    bound = receiver.receive(*signed(older, "m-1"))
    assert bound is not None
    assert bound.id == reservations[2].id
    assert receiver.receive(*signed({**older, "task_id": "t-8", "task_info": {}}, "m-2")) is None
    with pytest.raises(WebhookError):
        receiver.receive(*signed({"external_id": reservations[2].id}, "m-3"))
    assert [found.task_id for found in guard.history()] == ["t-0", "t-1", "t-2"]


@pytest.mark.parametrize("change", ["unsent", "another provider", "another task", "no reservation"])
def test_an_own_id_that_proves_nothing_binds_nothing(open_guard: OpenGuard, change: str) -> None:
    """Only the id of a sent reservation at the same provider, without another task, names a job."""
    guard = open_guard()
    admission = guard.admit(JOB, project="trailer", url=OMNI)
    if change != "unsent":
        guard.dispatch(admission)
    if change == "another task":
        guard.bind(admission, "t-0")
    own_id = "0" * 32 if change == "no reservation" else admission.reservation_id
    provider = "qingbo-ai" if change == "another provider" else "kling"
    body = {"id": "t-1", "status": "succeeded", "outputs": [], "external_id": own_id}
    before = guard.reservation(admission)
    assert guard.observe(body, provider=provider, wire_format="kling_v2") is None
    assert guard.reservation(admission) == before
