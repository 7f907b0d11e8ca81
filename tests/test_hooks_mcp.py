"""An MCP endpoint: the tool that submits jobs is priced, free messages pass, and everything else is refused."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from kling_pricing import Budget, BudgetGuard, KlingPricingError, PriceBook, TableError, load_price_book
from kling_pricing.hooks.httpx import GuardedTransport
from kling_pricing.hooks.route import McpEndpoint, UnlistedPath
from kling_pricing.hooks.routes import Routes
from tests.conftest import Clock, bundled
from tests.hook_clients import CLIENTS
from tests.receivers import Received, receiving

URL = "https://api.qingbo.ai/v1/mcp"
PAYLOAD = {"model": "kling-v3", "prompt": "a paper boat", "duration": 5}
COST = Decimal("0.378")
INPUT = {name: value for name, value in PAYLOAD.items() if name != "model"}
NESTED = {"model": "kling-v3", "input": INPUT}
TASK = {"task_id": "t-1", "model": "kling-v3", "status": "queued", "progress": 0}
DONE = {**TASK, "status": "completed", "cost": 189000, "cost_usd": 0.378}


def call(tool: str, arguments: Any, message_id: Any = 1) -> dict[str, Any]:
    """Returns the message of a tool call."""
    params = {"name": tool, "arguments": arguments}
    return {"jsonrpc": "2.0", "id": message_id, "method": "tools/call", "params": params}


def result(task: Mapping[str, Any], message_id: Any = 1) -> dict[str, Any]:
    """Returns the answer to a tool call."""
    content = [{"type": "text", "text": json.dumps(task)}]
    return {"jsonrpc": "2.0", "id": message_id, "result": {"content": content, "structuredContent": task}}


def stream(*messages: Mapping[str, Any]) -> httpx.Response:
    """Returns messages as an event stream, each broken into lines as a server may break it."""
    events = [json.dumps(message, indent=1).replace("\n", "\r\ndata: ") for message in messages]
    body = ": hello\r\n\r\n" + "".join(f"event: message\r\ndata: {event}\r\n\r\n" for event in events)
    return httpx.Response(
        200, content=body.encode(), headers={"content-type": "text/event-stream; charset=utf-8"}
    )


@pytest.fixture
def guard(tmp_path: Path, book: PriceBook, clock: Clock) -> Iterator[BudgetGuard]:
    """A guard with a budget that allows two jobs."""
    budgets = [Budget(name="all", cap="0.8", currency="USD")]
    with BudgetGuard(f"sqlite:///{tmp_path}/spend.db", budgets, book=book, clock=clock) as opened:
        yield opened
        opened.verify()


@contextmanager
def served(
    guard: BudgetGuard, answer: Callable[[Any], httpx.Response | Any], **options: Any
) -> Iterator[tuple[httpx.Client, list[Any]]]:
    """Opens a guarded client and yields it with the list of messages that reach the server."""
    sent: list[Any] = []

    def handle(request: httpx.Request) -> httpx.Response:
        sent.append(json.loads(request.content))
        answered = answer(sent[-1])
        return answered if isinstance(answered, httpx.Response) else httpx.Response(200, json=answered)

    transport = GuardedTransport(httpx.MockTransport(handle), guard, project="p", sends_once=True, **options)
    with httpx.Client(transport=transport) as client:
        yield client, sent


def states(guard: BudgetGuard) -> list[tuple[str, str | None, Decimal]]:
    """Returns state, task and reserved amount of every reservation."""
    return [(entry.state, entry.task_id, entry.reserved) for entry in guard.history()]


# submitting


@pytest.mark.parametrize("arguments", [PAYLOAD, NESTED, {"input": PAYLOAD}, {**NESTED, "input": PAYLOAD}])
def test_a_submitting_call_is_priced_like_the_endpoint(guard: BudgetGuard, arguments: dict[str, Any]) -> None:
    """Both shapes of its arguments are read; only the key changes."""
    with served(guard, lambda _: result(TASK)) as (client, sent):
        answer = client.post(URL, json=call("create_task", {**arguments, "wait_seconds": 5}))
    (reservation,) = guard.history()
    assert answer.json() == result(TASK)
    assert sent == [call("create_task", {**arguments, "wait_seconds": 5, "idempotency_key": reservation.id})]
    assert states(guard) == [("bound", "t-1", COST)]
    assert reservation.wire_format == "tasks_v2"


@pytest.mark.parametrize("arguments", [PAYLOAD, NESTED])
def test_a_call_is_capped_in_place(
    tmp_path: Path, book: PriceBook, clock: Clock, arguments: dict[str, Any]
) -> None:
    """The changed setting is written where the arguments have it, and everything else stays the same."""
    budget = Budget(name="all", cap="0.3", currency="USD", on_exceed="cap")
    message = {**call("create_task", arguments), "extension": [1.5]}
    message["params"]["_meta"] = {"progressToken": 7}
    with (
        BudgetGuard(f"sqlite:///{tmp_path}/capped.db", [budget], book=book, clock=clock) as guard,
        served(guard, lambda _: result(TASK)) as (client, sent),
    ):
        client.post(URL, json=message)
        (reservation,) = guard.history()
        assert reservation.changes == {"duration_s": 3}
    changed = json.loads(json.dumps(message))
    (changed["params"]["arguments"].get("input") or changed["params"]["arguments"])["duration"] = 3
    changed["params"]["arguments"]["idempotency_key"] = reservation.id
    assert sent == [changed]


def test_the_callers_key_names_the_job(guard: BudgetGuard) -> None:
    """The same key is the same job, sent again under the reservation's key; another header is an error."""
    message = call("create_task", {**NESTED, "idempotency_key": "shot-1"})
    with served(guard, lambda _: result(TASK)) as (client, sent):
        for _ in range(2):
            client.post(URL, json=message)
        with pytest.raises(KlingPricingError) as caught:
            client.post(URL, json=message, headers={"Idempotency-Key": "shot-2"})
    (reservation,) = guard.history()
    assert [part["params"]["arguments"]["idempotency_key"] for part in sent] == [reservation.id] * 2
    assert reservation.key == "shot-1"
    assert str(caught.value) == (
        "the job's key is 'shot-1' in the body, but another key is in the header Idempotency-Key; give only "
        "one key"
    )


def test_a_call_beyond_the_cap_is_refused(guard: BudgetGuard) -> None:
    """The third job of 0.378 USD does not fit into 0.8 USD, whichever way it is submitted."""
    with served(guard, lambda part: result(TASK | {"task_id": str(part["id"])})) as (client, sent):
        for number in (1, 2):
            client.post(URL, json=call("create_task", NESTED, number))
        for url, body in ((URL, call("create_task", NESTED, 3)), (URL.replace("mcp", "tasks"), PAYLOAD)):
            with pytest.raises(
                KlingPricingError, match=r"^the request costs 0.378 USD, but budget all has 0.044"
            ):
                client.post(url, json=body)
    assert len(sent) == 2


# answers


@pytest.mark.parametrize(
    ("answer", "state"),
    [
        (result(DONE), ("settled", "t-1", COST)),
        (
            {"id": 1, "result": {"content": [{"type": "text", "text": json.dumps(DONE)}]}},
            ("settled", "t-1", COST),
        ),
        ([result(DONE)], ("settled", "t-1", COST)),
        (
            stream({"jsonrpc": "2.0", "method": "notifications/progress"}, result(DONE)),
            ("settled", "t-1", COST),
        ),
        (stream(result(TASK, 2), result(DONE)), ("settled", "t-1", COST)),
        ({"id": 1, "error": {"code": -32602, "message": "no such model"}}, ("released", None, COST)),
        ({"id": None, "error": {"code": -32700, "message": "parse error"}}, ("released", None, COST)),
        ({"success": False, "message": "API key rejected"}, ("released", None, COST)),
        (
            httpx.Response(401, json={"error": {"message": "no", "code": "unauthorized"}}),
            ("released", None, COST),
        ),
        ({"id": 1, "error": {"code": -32603, "message": "internal"}}, ("dispatching", None, COST)),
        ({"id": 1, "result": {"isError": True, "content": []}}, ("dispatching", None, COST)),
        ({"id": 1, "result": {"content": [{"type": "text", "text": "accepted"}]}}, ("dispatching", None, COST)),
        ({"id": 1, "result": {"content": "accepted"}}, ("dispatching", None, COST)),
        ({"id": 1, "result": {"content": [{"type": "text", "text": "[]"}]}}, ("dispatching", None, COST)),
        ({"id": 1, "result": None}, ("dispatching", None, COST)),
        (stream(result(DONE, 2)), ("dispatching", None, COST)),
        (httpx.Response(200, content=b"<html>"), ("dispatching", None, COST)),
        (httpx.Response(502, content=b"<html>"), ("dispatching", None, COST)),
    ],
)
def test_the_answer_to_a_call_decides_about_its_money(
    guard: BudgetGuard, answer: Any, state: tuple[str, str | None, Decimal]
) -> None:
    """A task binds or settles, a definite refusal releases, and anything else is in doubt."""
    with served(guard, lambda _: answer) as (client, _):
        client.post(URL, json=call("create_task", NESTED))
    assert states(guard) == [state]
    if state[0] == "settled":
        assert [entry.billed for entry in guard.history()] == [COST]


def test_the_answer_about_a_task_settles_it(guard: BudgetGuard) -> None:
    """The tool that returns a task is free; its answer counts like a status answer, also as a stream."""
    answers: dict[str, Any] = {"create_task": result(TASK), "get_task": stream(result(DONE, "a"))}
    with served(guard, lambda part: answers[part["params"]["name"]]) as (client, sent):
        client.post(URL, json=call("create_task", NESTED))
        reply = client.post(URL, json=call("get_task", {"task_id": "t-1"}, "a"))
        assert reply.content == answers["get_task"].content
        client.post(URL, json=call("get_task", {"task_id": 7}))
        client.post(URL, json=call("get_task", None))
    assert states(guard) == [("settled", "t-1", COST)]
    assert len(sent) == 4


# free and unknown messages

FREE: list[Any] = [
    {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {"protocolVersion": "2025-06-18"}},
    {"jsonrpc": "2.0", "method": "notifications/initialized"},
    {"jsonrpc": "2.0", "id": "a", "method": "ping"},
    {"jsonrpc": "2.0", "id": 2, "method": "tools/list"},
    {"jsonrpc": "2.0", "id": 3, "result": {}},
    call("list_models", {"modality": "video"}),
    call("estimate_cost", NESTED),
    call("cancel_task", {"task_id": "unknown"}),
    [{"jsonrpc": "2.0", "id": "a", "method": "ping"}, call("list_models", {})],
]
METHODS = "the listed methods are initialize, ping, tools/list, tools/call"
KNOWN = "create_task, list_models, get_model_docs, get_model_schema, estimate_cost, get_task, cancel_task"


@pytest.mark.parametrize("message", FREE)
def test_a_free_message_passes_unchanged(guard: BudgetGuard, message: Any) -> None:
    """It reserves nothing, and its answer comes back as it is."""
    with served(guard, lambda _: stream({"id": 1, "result": {}})) as (client, sent):
        assert client.post(URL, json=message).content == stream({"id": 1, "result": {}}).content
    assert (sent, guard.history()) == ([message], [])


@pytest.mark.parametrize(
    ("message", "problem"),
    [
        (
            [call("list_models", {}), call("create_task", NESTED)],
            "create_task cannot be called in a batch of MCP messages; send the call in a separate request",
        ),
        (
            call("upscale", NESTED),
            (
                "the MCP tool 'upscale' is not listed in the capability file, so its price is unknown; the "
                f"listed tools are {KNOWN}"
            ),
        ),
        (
            call("Create_Task", NESTED),
            (
                "the MCP tool 'Create_Task' is not listed in the capability file, so its price is unknown; "
                f"the listed tools are {KNOWN}"
            ),
        ),
        (
            {"id": 1, "method": "tools/call"},
            f"the MCP call has no tool; the listed tools are {KNOWN}",
        ),
        (
            {"id": 1, "method": "sampling/createMessage"},
            (
                "the MCP method 'sampling/createMessage' is not listed in the capability file, so its price "
                f"is unknown; {METHODS}"
            ),
        ),
        ({"id": 1}, f"the MCP message has no method; {METHODS}"),
        ("ping", "an MCP message must be a JSON object, got text"),
        (call("create_task", [NESTED]), "create_task: arguments must be a JSON object, got a list"),
        (
            call("create_task", NESTED, None),
            "create_task: the MCP message has no id, so its response could not be read; add an id",
        ),
        (
            call("create_task", {**NESTED, "idempotency_key": 7}),
            "create_task: idempotency_key must be text, got 7",
        ),
        (call("create_task", {"model": "kling-v3", "input": "x"}), "input must be a JSON object, got text"),
        (
            call("create_task", {**NESTED, "duration": 3}),
            "'duration' is outside 'input'; move it into 'input'",
        ),
        (
            call("create_task", {"model": "kling-v3-omni", "input": PAYLOAD}),
            "two models are given, kling-v3-omni and kling-v3; give only one",
        ),
    ],
)
def test_a_message_without_a_known_price_is_refused(guard: BudgetGuard, message: Any, problem: str) -> None:
    """The error says what is listed, and nothing is sent."""
    with served(guard, lambda _: {}) as (client, sent):
        with pytest.raises(KlingPricingError) as caught:
            client.post(URL, json=message)
        assert str(caught.value) == problem
    with served(guard, lambda _: {}, refusals="respond") as (client, _):
        assert client.post(URL, json=message).json()["error"]["message"] == problem
    assert (sent, guard.history()) == ([], [])


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b'{"method":"ping","method":"tools/call"}',
        b"\x1f\x8b\x08",
        b"",
        json.dumps(call("create_task", {})).encode(),
    ],
)
def test_a_message_that_cannot_be_read_is_refused(guard: BudgetGuard, body: bytes) -> None:
    """Broken JSON, a duplicate key, compressed bytes and an empty payload are refused."""
    with served(guard, lambda _: {}) as (client, sent):
        with pytest.raises(KlingPricingError):
            client.post(URL, content=body, headers={"content-encoding": "gzip"})
        assert sent == []


@pytest.mark.parametrize("name", CLIENTS)
def test_every_client_guards_the_endpoint(name: str, guard: BudgetGuard) -> None:
    """A gateway of one's own is guarded at any prefix; free messages and the answer about a task pass."""
    received: list[Received] = []

    def handle(request: Received) -> int:
        received.append(request)
        return 200

    with receiving(handle) as url:
        host = url.split("/")[2]
        client = CLIENTS[name](guard, project="p", hosts={host: "qingbo-ai"})
        try:
            for message in (
                call("list_models", {}),
                call("get_task", {"task_id": "t-1"}),
                call("create_task", NESTED),
            ):
                reply = client.send("POST", f"http://{host}/proxy/v1/mcp", body=json.dumps(message).encode())
                assert reply.status == 200
            with pytest.raises(KlingPricingError, match=r"^the MCP tool 'upscale' is not listed"):
                client.send("POST", f"http://{host}/v1/mcp", body=json.dumps(call("upscale", {})).encode())
        finally:
            client.close()
    (reservation,) = guard.history()
    arguments = [json.loads(request.body)["params"]["arguments"] for request in received]
    assert arguments == [{}, {"task_id": "t-1"}, {**NESTED, "idempotency_key": reservation.id}]
    assert (reservation.state, reservation.reason) == ("dispatching", "response without a task")


# routing


def test_the_endpoint_is_guarded_however_it_is_spelled(book: PriceBook) -> None:
    """No option lets another spelling or method pass; other hosts have no such endpoint."""
    routes = Routes(book, {"www.qingbo.dev": "qingbo-ai"}, allow_paths=["/v1"])
    for url in (URL, URL + "/", "https://www.qingbo.dev/v1/MCP", "https://www.qingbo.dev/x/v1/mcp"):
        assert isinstance(routes.find("POST", url), McpEndpoint)
    for method, url in (("PUT", URL), ("POST", "https://api.qingbo.ai/v1/chat/%2e%2e/mcp")):
        route = routes.find(method, url)
        assert isinstance(route, UnlistedPath)
        assert route.meant == "/v1/mcp"
    assert routes.find("GET", URL) is None
    assert isinstance(Routes(book, {}).find("POST", "https://www.qingbo.dev/v1/mcp"), UnlistedPath)


@pytest.mark.parametrize(
    ("before", "after", "key_path", "problem"),
    [
        ("submits_to: /v1/tasks", "submits_to: /v1/task", "submits_to", "did you mean '/v1/tasks'?"),
        ("create: create_task", "creates: create_task", "creates", "did you mean 'create'?"),
        ("path: /v1/mcp", "path: v1/mcp", "path", "must be a path in lower case"),
    ],
)
def test_the_rules_of_the_endpoint_are_checked(
    folder: Callable[..., Path], before: str, after: str, key_path: str, problem: str
) -> None:
    """A mistake is an error with its place."""
    text = bundled("capabilities", "tasks_v2.yaml").read_text(encoding="utf-8")
    assert text.count(f"    {before}\n") == 1
    with pytest.raises(TableError) as caught:
        load_price_book(
            folder({"capabilities/tasks_v2.yaml": text.replace(f"    {before}\n", f"    {after}\n")})
        )
    assert caught.value.key_path == f"http.mcp.{key_path}"
    assert problem in caught.value.problem
