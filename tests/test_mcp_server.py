"""The tools for agents, called by a real MCP client over standard input and output and over HTTP."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from http.client import HTTPConnection
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import httpx
import pytest

from kling_pricing import Budget, BudgetGuard, quote
from kling_pricing.guard import allow, freeze_budgets, issue_key, revoke_key, thaw_budgets
from kling_pricing.mcp_server.protocol import protocol_server
from kling_pricing.mcp_server.tool_callers import LocalCaller, ToolCaller
from kling_pricing.mcp_server.tools import TOOLS, call_tool
from tests.api_servers import serving_api
from tests.commands import run as run_command
from tests.commands import run_process
from tests.guards import CLIP, COST
from tests.mcp_clients import Agent, in_process, over_http, over_stdio, run

READING = {"quote", "check", "compare", "decide", "budget_status"}
SPENDING = {"pre_submit", "bind", "release"}
BUDGETS = [
    Budget(name="trailer", match={"project": "trailer"}, cap=1, currency="USD"),
    Budget(name="rival", match={"project": "rival"}, cap=9, currency="USD"),
    Budget(name="everything", cap=20, currency="USD"),
]


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[str]:
    """A ledger with three budgets: of the agent's project, of another project, and of all projects."""
    url = f"sqlite:///{tmp_path / 'spend.db'}"
    with BudgetGuard(url, BUDGETS):
        pass
    yield url
    with BudgetGuard(url) as guard:
        guard.verify()


class Server(NamedTuple):
    """A server, and its ledger."""

    url: str
    ledger: str

    def key(self, **options: Any) -> str:
        """Issues an access key; by default, one that may submit in the project `trailer`."""
        given = {"project": "trailer", "role": "submit", "actor": "tests", **options}
        return issue_key(self.ledger, **given).text

    def agent(self, mode: str = "auto", **options: Any) -> AbstractAsyncContextManager[Agent]:
        """Connects an agent with a new access key."""
        return over_http(self.url, self.key(**options), mode=mode)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Yields a server that many tests share: each uses a project of its own where it spends."""
    url = f"sqlite:///{tmp_path_factory.mktemp('mcp') / 'spend.db'}"
    each = Budget(name="each", match={"project": "*"}, cap=1, currency="USD")
    with BudgetGuard(url, [each]) as guard, serving_api(url) as root:
        yield Server(root, url)
        guard.verify()


@asynccontextmanager
async def local(guard: BudgetGuard, *, may_spend: bool = True) -> AsyncIterator[Agent]:
    """Connects an agent to the tools of a guard in this process."""
    caller = LocalCaller(guard, "trailer", {"user": "agent"}, may_spend=may_spend)

    async def caller_of(_context: Any) -> ToolCaller:
        return caller

    async with in_process(protocol_server(guard.book, caller_of)) as agent:
        yield agent
    await caller.close()


def state(ledger: str) -> tuple[Any, ...]:
    """Returns everything that a tool could change."""
    with BudgetGuard(ledger) as guard:
        return guard.journal(), guard.history(), guard.status(), guard.refusals()


def test_tools_say_whether_they_change_anything(ledger: str) -> None:
    """Five tools are marked read-only, and three are not; each has a title and describes its arguments."""

    async def work() -> None:
        with BudgetGuard(ledger) as guard:
            async with local(guard) as agent:
                tools = await agent.tools()
                instructions = agent.client.instructions or ""
            hints = {name: tool.annotations.read_only_hint for name, tool in tools.items()}
            assert hints == dict.fromkeys(READING, True) | dict.fromkeys(SPENDING, False)
            assert {tool.annotations.destructive_hint for tool in tools.values()} == {False}
            for tool in tools.values():
                assert tool.title
                assert len(tool.description) > 80
                assert tool.input_schema["additionalProperties"] is False
                bare = [name for name, schema in _properties(tool) if not schema.get("description")]
                assert bare == []
            assert "pre_submit" in instructions

    run(work)


def _properties(tool: Any) -> list[tuple[str, Any]]:
    return [*tool.input_schema["properties"].items()]


def test_an_agent_plans_spends_and_is_stopped_over_stdio(ledger: str) -> None:
    """The reading tools change nothing; `pre_submit` says the cost and what is left; the cap holds."""

    async def work() -> None:
        before = state(ledger)
        async with over_stdio(ledger, "--project", "trailer", "--label", "user=agent") as agent:
            quoted = await agent.call("quote", payload=CLIP)
            assert (quoted.is_error, quoted.data["total"]) == (False, "0.714")
            assert quoted.text.startswith("0.714 USD for kling-v3 (generate) at qingbo")
            valid = await agent.call("check", payload=CLIP)
            assert (valid.text, valid.data["valid"]) == ("The API would accept this payload.", True)
            cheaper = await agent.call("compare", payload=CLIP, limit=2)
            assert len(cheaper.data["options"]) == 2
            assert "- 0.714 USD at qingbo: the payload as it is" in cheaper.text
            decided = await agent.call("decide", payload=CLIP)
            assert decided.data["outcome"] == "admitted"
            assert "budget trailer: 1 of 1 USD left now, 0.286 afterwards" in decided.text
            status = await agent.call("budget_status")
            assert [row["budget"] for row in status.data["budgets"]] == ["trailer", "everything"]
            assert state(ledger) == before

            reserved = await agent.call("pre_submit", payload=CLIP, key="shot-1")
            reservation = reserved.data["reservation_id"]
            assert reserved.data["payload"] == CLIP
            assert (reserved.data["reserved"], reserved.data["currency"]) == ("0.714", "USD")
            assert f"Reserved 0.714 USD as {reservation}." in reserved.text
            assert "budget trailer: 0.286 of 1 USD left" in reserved.text
            again = await agent.call("pre_submit", payload=CLIP, key="shot-1")
            assert again.is_error
            assert "do not submit it again" in again.text
            assert again.data["error"]["code"] == "reservation_state"
            refused = await agent.call("pre_submit", payload=CLIP, key="shot-2")
            assert refused.is_error
            assert "budget trailer has 0.286 USD left" in refused.text
            error = refused.data["error"]
            assert (error["code"], error["budget"], error["available"]) == (
                "budget_exceeded",
                "trailer",
                "0.286",
            )
            bound = await agent.call("bind", reservation_id=reservation, task_id="task-1")
            assert (bound.data["state"], bound.data["task_id"]) == ("bound", "task-1")

        with BudgetGuard(ledger) as guard:
            (job,) = guard.history()
            assert (job.project, job.key, job.labels["user"]) == ("trailer", "shot-1", "agent")
            assert (job.state, job.task_id, job.reserved) == ("bound", "task-1", COST)

    run(work)


def test_a_read_only_agent_has_no_tools_that_spend(ledger: str) -> None:
    """With `--read-only`, the three tools are neither listed nor can they be called."""

    async def work() -> None:
        before = state(ledger)
        async with over_stdio(ledger, "--project", "trailer", "--read-only") as agent:
            assert set(await agent.tools()) == READING
            refused = await agent.call("pre_submit", payload=CLIP, key="shot-1")
            assert refused.is_error
            assert "may not spend" in refused.text
        assert state(ledger) == before

    run(work)


def test_the_command_ends_when_the_agent_is_gone(ledger: str) -> None:
    """At the end of standard input, the command ends with 0 and has written nothing else."""
    done = run_process("mcp", "--project", "trailer", ledger=ledger)
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)


def test_the_command_names_its_extra(ledger: str) -> None:
    """Without the library, the command says what to install, and nothing is opened."""
    code = (
        "import sys; sys.modules['mcp'] = None; from kling_pricing.cli import main; "
        f"sys.argv = ['kling-pricing', 'mcp', '--project', 'trailer', '--ledger', {ledger!r}]; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "pip install 'kling-pricing[mcp]'" in done.stderr


def test_a_ledger_without_budgets_is_refused_at_the_start(tmp_path: Path) -> None:
    """An agent does not find out only when it spends."""
    done = run_command("mcp", "--project", "trailer", ledger=f"sqlite:///{tmp_path / 'new.db'}")
    assert (done.returncode, done.stdout) == (2, "")
    assert "budgets" in done.stderr


REFUSED_ARGUMENTS: list[tuple[str, dict[str, Any], str]] = [
    ("quote", {}, "payload: this key is required; add it"),
    ("quote", {"paylod": CLIP}, "paylod: unknown key; did you mean 'payload'?"),
    ("quote", {"payload": []}, "payload: must be a map"),
    ("quote", {"payload": CLIP, "at": "2026-12-01"}, "has no time zone"),
    ("quote", {"payload": CLIP, "at": 5}, "must be an ISO 8601 instant"),
    ("quote", {"payload": CLIP, "provider": "nobody"}, "unknown provider 'nobody'"),
    ("quote", {"payload": CLIP, "media": {"u": {"length_s": 5}}}, "media.u.length_s: must be text"),
    ("compare", {"payload": CLIP, "limit": 0}, "limit: must be greater than or equal to 1"),
    ("pre_submit", {"payload": CLIP}, "key: this key is required; add it"),
    ("pre_submit", {"payload": CLIP, "key": ""}, "key: must have at least 1 character"),
    ("pre_submit", {"payload": CLIP, "key": "k", "project": "rival"}, "works for the project trailer only"),
    ("pre_submit", {"payload": CLIP, "key": "k", "labels": {"user": "li"}}, "fixes the label user"),
    ("decide", {"payload": CLIP, "labels": {"project": "rival"}}, "project"),
    ("budget_status", {"budget": "rival"}, "use one of: everything, trailer"),
    ("bind", {"reservation_id": "nothing", "task_id": "t"}, "reservation nothing is not in this ledger"),
    ("release", {"reservation_id": "nothing", "outcome": "timeout", "reason": "r"}, "outcome: must be"),
    ("no_tool", {}, "there is no tool 'no_tool'; use one of: bind"),
]


def test_bad_arguments_are_refused_with_the_remedy(ledger: str) -> None:
    """Every mistake is a tool error that the agent can act on, and changes nothing."""
    before = state(ledger)

    async def work() -> list[tuple[bool, str]]:
        with BudgetGuard(ledger) as guard:
            async with local(guard) as agent:
                answers = [await agent.call(name, **given) for name, given, _ in REFUSED_ARGUMENTS]
                return [(answer.is_error, answer.text) for answer in answers]

    found = run(work)
    problems = [
        (name, given, text)
        for (name, given, part), (is_error, text) in zip(REFUSED_ARGUMENTS, found, strict=True)
        if not is_error or part not in text
    ]
    assert problems == []
    assert state(ledger) == before


def test_a_refused_payload_has_its_alternatives(ledger: str) -> None:
    """Every violation and the nearest valid payloads are in the text and in the data."""

    async def work() -> None:
        with BudgetGuard(ledger) as guard:
            async with local(guard) as agent:
                refused = await agent.call("quote", payload={**CLIP, "duration": 99})
                assert refused.is_error
                assert "- valid alternative: duration = 15" in refused.text
                assert refused.data["error"]["suggestions"][0] == {"duration": 15}
                assert refused.data["error"]["violations"][0]["allowed"] == {"min": 3, "max": 15}
                checked = await agent.call("check", payload={**CLIP, "duration": 99})
                assert (checked.is_error, checked.data["valid"]) == (False, False)
                assert checked.data["violations"][0]["code"] == "duration_s_limit"

    run(work)


@pytest.mark.parametrize("outcome", ["refused_by_provider", "never_submitted"])
def test_released_money_is_available_again(ledger: str, outcome: str) -> None:
    """A job that the provider refused, or that was never sent, costs nothing; a repetition changes nothing."""

    async def work() -> None:
        with BudgetGuard(ledger) as guard:
            async with local(guard) as agent:
                reserved = await agent.call("pre_submit", payload=CLIP, key="shot-1")
                release = {
                    "reservation_id": reserved.data["reservation_id"],
                    "outcome": outcome,
                    "reason": "HTTP 402",
                }
                for _ in range(2):
                    released = await agent.call("release", **release)
                    assert (released.is_error, released.data["state"]) == (False, "released")
                    assert "budget trailer: 1 of 1 USD left" in released.text

    run(work)


def test_a_bound_job_cannot_be_released(ledger: str) -> None:
    """The provider has accepted it, so its money stays held."""

    async def work() -> None:
        with BudgetGuard(ledger) as guard:
            async with local(guard) as agent:
                reserved = await agent.call("pre_submit", payload=CLIP, key="shot-1")
                name = reserved.data["reservation_id"]
                await agent.call("bind", reservation_id=name, task_id="task-1")
                kept = await agent.call(
                    "release", reservation_id=name, outcome="never_submitted", reason="a mistake"
                )
                assert kept.is_error
                assert guard.reservation(name).state == "bound"

    run(work)


def test_a_job_of_another_project_is_not_found(ledger: str) -> None:
    """An agent of one project can neither bind nor release a job of another."""
    with BudgetGuard(ledger) as guard:
        foreign = guard.admit_and_dispatch(CLIP, project="rival", key="k")[0].reservation_id

        async def work() -> list[str]:
            async with local(guard) as agent:
                bound = await agent.call("bind", reservation_id=foreign, task_id="t")
                released = await agent.call(
                    "release", reservation_id=foreign, outcome="never_submitted", reason="r"
                )
                missing = await agent.call("bind", reservation_id="f" * 32, task_id="t")
                return [answer.text for answer in (bound, released, missing)]

        bound, released, missing = run(work)
        assert bound == released == missing.replace("f" * 32, foreign)
        assert guard.reservation(foreign).state == "dispatching"


def test_a_capped_payload_is_the_one_to_submit(tmp_path: Path) -> None:
    """If a budget allows capping, the answer says what changed, and the payload has the changes."""
    budget = Budget(name="small", match={"project": "trailer"}, cap="0.5", currency="USD", on_exceed="cap")

    async def work() -> None:
        with BudgetGuard(f"sqlite:///{tmp_path / 'spend.db'}", [budget]) as guard:
            async with local(guard) as agent:
                capped = await agent.call("pre_submit", payload=CLIP, key="shot-1")
                changes = capped.data["changes"]
                assert changes
                assert "The payload was changed so that it fits the budgets: " in capped.text
                assert quote(capped.data["payload"]).total == Decimal(capped.data["reserved"])

    run(work)


def test_a_freeze_is_shown_and_stops_the_agent(ledger: str) -> None:
    """`budget_status` says who froze the budget and why, and nothing is reserved."""
    freeze_budgets(ledger, ["trailer"], actor="wang", reason="the bill looks wrong")

    async def work() -> None:
        with BudgetGuard(ledger) as guard:
            async with local(guard) as agent:
                status = await agent.call("budget_status")
                assert "Frozen: budget trailer, by wang: the bill looks wrong" in status.text
                refused = await agent.call("pre_submit", payload=CLIP, key="shot-1")
                assert refused.data["error"]["code"] == "budget_frozen"
                assert guard.history() == []

    run(work)
    thaw_budgets(ledger, ["trailer"], actor="wang", reason="it was right")


def test_a_cancelled_call_frees_its_money(ledger: str) -> None:
    """Nobody gets the payload of a call that the agent gave up, so its money is available again."""

    async def work() -> None:
        with BudgetGuard(ledger) as guard:
            caller = LocalCaller(guard, "trailer", {}, may_spend=True)
            calls = [
                asyncio.ensure_future(call_tool(caller, "pre_submit", {"payload": CLIP, "key": f"k{number}"}))
                for number in range(8)
            ]
            await asyncio.sleep(0)
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)
            await caller.close()
            assert {job.state for job in guard.history()} <= {"released"}
            assert next(row for row in guard.status() if row.budget == "trailer").held == 0

    run(work)


MODES = ["auto", "legacy"]


@pytest.mark.parametrize("mode", MODES)
def test_a_key_fixes_project_and_labels_over_http(server: Server, mode: str) -> None:
    """With either protocol, a job gets the key's project and labels, and the cap of its project holds."""
    project = f"studio-{mode}"

    async def work() -> None:
        async with server.agent(mode, project=project, labels={"team": "blue"}) as agent:
            assert set(await agent.tools()) == READING | SPENDING
            reserved = await agent.call("pre_submit", payload=CLIP, key="shot-1", labels={"user": "li"})
            assert f"budget each, project {project}: 0.286 of 1 USD left" in reserved.text
            other = await agent.call("pre_submit", payload=CLIP, key="shot-2", project="rival")
            assert "reaches the project" in other.text
            label = await agent.call("pre_submit", payload=CLIP, key="shot-2", labels={"team": "red"})
            assert "fixes the label team" in label.text
            refused = await agent.call("pre_submit", payload=CLIP, key="shot-2")
            assert refused.data["error"]["code"] == "budget_exceeded"
            bound = await agent.call(
                "bind", reservation_id=reserved.data["reservation_id"], task_id=f"task-{mode}"
            )
            assert bound.data["state"] == "bound"

    run(work)
    with BudgetGuard(server.ledger) as guard:
        (job,) = guard.history(project=project)
        assert (job.labels["team"], job.labels["user"]) == ("blue", "li")
        assert job.labels["access_key"]


def test_a_key_that_may_only_view_cannot_spend(server: Server) -> None:
    """The role `view` sees the tools that change nothing, and the others refuse."""

    async def work() -> None:
        async with server.agent(project="viewer", role="view") as agent:
            assert set(await agent.tools()) == READING
            assert (await agent.call("quote", payload=CLIP)).data["total"] == "0.714"
            assert (await agent.call("decide", payload=CLIP)).data["outcome"] == "admitted"
            calls: dict[str, dict[str, Any]] = {
                "pre_submit": {"payload": CLIP, "key": "k"},
                "bind": {"reservation_id": "r", "task_id": "t"},
                "release": {"reservation_id": "r", "outcome": "never_submitted", "reason": "r"},
            }
            for name, given in calls.items():
                refused = await agent.call(name, **given)
                assert (refused.is_error, "may not spend" in refused.text) == (True, True)

    run(work)
    with BudgetGuard(server.ledger) as guard:
        assert guard.history(project="viewer") == []


def test_jobs_and_tasks_of_other_projects_are_not_found(server: Server) -> None:
    """A key for one project cannot bind, release or take over what belongs to another project."""

    async def work() -> None:
        async with server.agent(project="owner") as owner, server.agent(project="thief") as thief:
            theirs = await owner.call("pre_submit", payload=CLIP, key="k")
            foreign = theirs.data["reservation_id"]
            await owner.call("bind", reservation_id=foreign, task_id="owners-task")
            own = (await thief.call("pre_submit", payload=CLIP, key="k")).data["reservation_id"]
            for name, given in (
                ("bind", {"reservation_id": foreign, "task_id": "t"}),
                ("release", {"reservation_id": foreign, "outcome": "never_submitted", "reason": "r"}),
            ):
                refused = await thief.call(name, **given)
                assert f"reservation {foreign} is not in this ledger" in refused.text
            taken = await thief.call("bind", reservation_id=own, task_id="owners-task")
            assert taken.is_error
            assert foreign not in taken.text
            status = await thief.call("budget_status")
            assert {row["labels"]["project"] for row in status.data["budgets"]} == {"thief"}

    run(work)
    with BudgetGuard(server.ledger) as guard:
        (job,) = guard.history(project="owner")
        assert (job.state, job.task_id) == ("bound", "owners-task")


def test_a_key_of_all_projects_must_name_the_project(server: Server) -> None:
    """It reaches every project, so the agent says which one a job belongs to."""

    async def work() -> None:
        async with server.agent(project=None) as agent:
            unnamed = await agent.call("pre_submit", payload=CLIP, key="k")
            assert "must name its project" in unnamed.text
            named = await agent.call("pre_submit", payload=CLIP, key="k", project="named")
            assert named.data["project"] == "named"

    run(work)


def test_jobs_of_an_upstream_go_through_the_server(tmp_path: Path) -> None:
    """The server asks about the jobs of its accounts itself, so an agent gets no payload for them."""
    url = f"sqlite:///{tmp_path / 'spend.db'}"
    upstreams = {"qingbo": {"url": "http://127.0.0.1:9"}}
    with BudgetGuard(url, BUDGETS) as guard, serving_api(url, upstreams) as root:

        async def work(role: str, key: str) -> Any:
            issued = issue_key(url, project="trailer", role=role, actor="tests")  # type: ignore[arg-type]
            async with over_http(root, issued.text) as agent:
                return await agent.call("pre_submit", payload=CLIP, key=key)

        refused = run(lambda: work("submit", "k1"))
        assert refused.is_error
        assert "below /p/qingbo/" in refused.text
        assert "payload" not in refused.data
        assert [job.state for job in guard.history()] == ["released"]
        assert not run(lambda: work("manage", "k2")).is_error


INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "tests", "version": "1"},
    },
}
ACCEPT = {"accept": "application/json, text/event-stream", "content-type": "application/json"}


def post(server: Server, key: str | None, **request: Any) -> httpx.Response:
    """Posts a message without the protocol's client."""
    headers = ACCEPT | ({} if key is None else {"authorization": f"Bearer {key}"})
    return httpx.post(f"{server.url}/mcp", headers=headers, timeout=30, **request)


def test_without_a_valid_key_nothing_is_said(server: Server) -> None:
    """No key, an unknown key and a revoked key get 401, in the shape of the API's errors."""
    revoked = server.key(name="revoked")
    assert post(server, revoked, json=INITIALIZE).status_code == 200
    revoke_key(server.ledger, "revoked", actor="tests")
    for key in (None, "unknown", revoked):
        answer = post(server, key, json=INITIALIZE)
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert answer.json()["code"] == "unauthorized"


def test_odd_requests_are_refused(server: Server) -> None:
    """Another method, a body that is no message, and one that is too large get an error at once."""
    key = server.key()
    listening = httpx.get(f"{server.url}/mcp", headers={**ACCEPT, "authorization": f"Bearer {key}"})
    assert (listening.status_code, listening.headers["allow"]) == (405, "POST")
    assert post(server, key, content=b"{").status_code == 400
    assert post(server, key, content=b'{"method": 1}').status_code == 400
    connection = HTTPConnection(urlsplit(server.url).netloc, timeout=30)
    connection.putrequest("POST", "/mcp")
    for name, value in {**ACCEPT, "authorization": f"Bearer {key}", "content-length": str(10**9)}.items():
        connection.putheader(name, value)
    connection.endheaders()
    assert connection.getresponse().status == 413
    connection.close()


def test_a_server_without_the_library_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer names the extra, each time, and everything else works."""
    monkeypatch.setitem(sys.modules, "mcp.server.streamable_http_manager", None)
    url = f"sqlite:///{tmp_path / 'spend.db'}"
    with BudgetGuard(url, BUDGETS), serving_api(url) as root:
        server = Server(root, url)
        key = server.key()
        for _ in range(2):
            answer = post(server, key, json=INITIALIZE)
            assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
            assert "pip install 'kling-pricing[mcp]'" in answer.json()["detail"]
        assert httpx.get(f"{root}/readyz").status_code == 200


def test_a_broken_library_keeps_no_request_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every request gets an error while the library cannot be imported, and the tools work once it can be."""
    name = "mcp.server.streamable_http_manager"
    url = f"sqlite:///{tmp_path / 'spend.db'}"
    with BudgetGuard(url, BUDGETS), serving_api(url) as root:
        server = Server(root, url)
        key = server.key()
        with monkeypatch.context() as broken:
            broken.setitem(sys.modules, name, ModuleType(name))  # without what is imported from it
            for _ in range(2):
                answer = post(server, key, json=INITIALIZE)
                assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
                assert "has failed (ImportError)" in answer.json()["detail"]
        assert post(server, key, json=INITIALIZE).status_code == 200


def test_prices_need_no_budgets(tmp_path: Path) -> None:
    """On a server whose ledger has no budgets yet, agents can quote, and `pre_submit` says what is missing."""
    url = f"sqlite:///{tmp_path / 'spend.db'}"
    with serving_api(url) as root:
        server = Server(root, url)

        async def work() -> None:
            async with server.agent() as agent:
                assert (await agent.call("quote", payload=CLIP)).data["total"] == "0.714"
                refused = await agent.call("pre_submit", payload=CLIP, key="k")
                assert refused.is_error
                assert "budgets" in refused.text

        run(work)


def test_requests_are_counted_by_their_route(server: Server) -> None:
    """The metrics count the requests under their route."""
    post(server, server.key(), json=INITIALIZE)
    text = httpx.get(f"{server.url}/metrics").text
    assert 'kling_pricing_api_answers_total{method="POST",route="/mcp",status="200"}' in text


def test_agents_that_race_do_not_pass_the_cap(server: Server) -> None:
    """Of ten calls at the same time, exactly one fits into the budget."""

    async def work() -> list[bool]:
        async with server.agent(project="race") as agent:
            calls = [agent.call("pre_submit", payload=CLIP, key=f"k{number}") for number in range(10)]
            return [answer.is_error for answer in await asyncio.gather(*calls)]

    assert sorted(run(work)) == [False, *[True] * 9]


def test_an_allowance_covers_what_is_missing(ledger: str) -> None:
    """The agent may spend what somebody has allowed beyond the cap."""
    until = datetime.now(UTC) + timedelta(days=1)
    grant: dict[str, Any] = {"amount": 1, "currency": "USD", "budgets": ["trailer"], "until": until}
    allow(ledger, "trailer", **grant, actor="wang", reason="the finale")

    async def work() -> None:
        with BudgetGuard(ledger) as guard:
            async with local(guard) as agent:
                answers = [await agent.call("pre_submit", payload=CLIP, key=f"k{n}") for n in range(3)]
                assert [answer.is_error for answer in answers] == [False, False, True]

    run(work)


def test_every_tool_teaches() -> None:
    """The descriptions say when to use a tool, and what an agent must not do with it."""
    assert set(TOOLS) == READING | SPENDING
    assert "once" in TOOLS["pre_submit"].description
    assert "submit nothing" in TOOLS["pre_submit"].description
    assert "timeout" in TOOLS["release"].description
    for name in ("quote", "check", "compare", "decide"):
        assert "Nothing is reserved" in TOOLS[name].description
