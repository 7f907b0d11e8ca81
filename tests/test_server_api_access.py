"""Who may do what through the API: every route, with every role, without a key, and with a foreign key."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import httpx
import pytest

from kling_pricing import Budget, BudgetGuard, PriceBook
from kling_pricing.guard import allow, freeze_budgets
from kling_pricing.ledger.access_keys import ROLES
from tests.api_servers import client, keyed, serving_api
from tests.conftest import AT
from tests.guards import CLIP

OWN, RIVAL = "trailer", "rival"

Requirement: TypeAlias = tuple[str, bool]
"""The weakest role that may use a route, and whether it needs a key of all projects."""

VIEW, SUBMIT, MANAGE = ("view", False), ("submit", False), ("manage", False)
AUDIT, ADMINISTER = ("view", True), ("manage", True)

REQUIRED: dict[str, Requirement] = {
    "quote_payload": VIEW,
    "check_payload": VIEW,
    "compare_prices": VIEW,
    "decide_payload": VIEW,
    "create_reservation": SUBMIT,
    "list_reservations": VIEW,
    "get_reservation": VIEW,
    "get_reservation_of_task": VIEW,
    "dispatch_reservation": SUBMIT,
    "bind_reservation": SUBMIT,
    "observe_reservation": SUBMIT,
    "settle_reservation": SUBMIT,
    "release_reservation": SUBMIT,
    "doubt_reservation": SUBMIT,
    "resolve_reservation": MANAGE,
    "show_budgets": VIEW,
    "show_budget": VIEW,
    "show_budgets_file": AUDIT,
    "plan_new_budgets": ADMINISTER,
    "apply_new_budgets": ADMINISTER,
    "set_cap": ADMINISTER,
    "list_freezes": VIEW,
    "freeze": ADMINISTER,
    "thaw": ADMINISTER,
    "list_allowances": VIEW,
    "grant_allowance": ADMINISTER,
    "revoke_allowance": ADMINISTER,
    "list_allowance_requests": VIEW,
    "file_allowance_request": SUBMIT,
    "decline_allowance_request": ADMINISTER,
    "list_alerts": VIEW,
    "list_receivers": AUDIT,
    "resume_receiver": ADMINISTER,
    "list_statements": AUDIT,
    "upload_statement": AUDIT,
    "list_reconciliations": AUDIT,
    "show_reconciliation": AUDIT,
    "download_report": AUDIT,
    "act_on_reconciliation": ADMINISTER,
    "verify_ledger": AUDIT,
    "show_audit": ADMINISTER,
    "list_keys": ADMINISTER,
    "issue": ADMINISTER,
    "revoke_access_key": ADMINISTER,
    "show_caller": VIEW,
}
"""Route -> what it requires. A route that is missing here fails the tests."""

PAYLOAD = {"payload": CLIP}
REASON = {"reason": "a test"}
BODIES: dict[str, dict[str, Any]] = {
    "quote_payload": PAYLOAD,
    "check_payload": PAYLOAD,
    "compare_prices": PAYLOAD,
    "decide_payload": PAYLOAD,
    "create_reservation": PAYLOAD,
    "dispatch_reservation": PAYLOAD,
    "bind_reservation": {"task_id": "rival-task"},
    "observe_reservation": {"body": {"task_id": "rival-task", "status": "failed"}},
    "settle_reservation": {"amount": "0.1"},
    "release_reservation": {},
    "doubt_reservation": REASON,
    "resolve_reservation": {"outcome": "not_charged"},
    "plan_new_budgets": {"file": "budgets: [{name: trailer, cap: -1, currency: USD}]"},
    "apply_new_budgets": {"file": "budgets: [{name: trailer, cap: -1, currency: USD}]", **REASON},
    "set_cap": {"cap": "5", **REASON},
    "freeze": {"budgets": ["no-such-budget"], **REASON},
    "thaw": {"budgets": ["no-such-budget"], **REASON},
    "grant_allowance": {"until": "2001-01-01T00:00:00Z", **REASON},
    "revoke_allowance": REASON,
    "file_allowance_request": PAYLOAD | REASON,
    "decline_allowance_request": REASON,
    "resume_receiver": {"receiver": "env:NO_SUCH_RECEIVER"},
    "act_on_reconciliation": {"plan": "no-such-plan", **REASON},
    "issue": {},
    "revoke_access_key": REASON,
}
"""Route -> a body with which it can do nothing that disturbs another test."""


class Route(NamedTuple):
    """A route of the API."""

    name: str
    method: str
    path: str


class Scene(NamedTuple):
    """A server whose ledger has jobs of two projects.

    Attributes:
        url: the URL of the server.
        ledger: the ledger.
        routes: every route that needs a key.
        names: path parameter -> the name of an object of the project `rival`.
        secrets: texts that nobody but `rival` may see.
    """

    url: str
    ledger: str
    routes: tuple[Route, ...]
    names: dict[str, str]
    secrets: tuple[str, ...]

    def call(self, caller: httpx.Client, route: Route) -> httpx.Response:
        """Calls a route, with the objects of `rival` where its path has parameters."""
        path = route.path.removeprefix("/api/v1").format(**self.names)
        body = BODIES.get(route.name, {}) if route.method == "POST" else None
        return caller.request(route.method, path, json=body)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory, book: PriceBook) -> Iterator[Scene]:
    """Yields a server whose ledger has jobs, alerts, allowances and a freeze of the project `rival`."""
    ledger = f"sqlite:///{tmp_path_factory.mktemp('access') / 'spend.db'}"
    budgets = [
        Budget(name=f"{project}-cap", match={"project": project}, cap=10, currency="USD", alerts=["0.01"])
        for project in (OWN, RIVAL)
    ]
    with BudgetGuard(ledger, budgets, book=book) as guard:
        reserved = guard.admit(CLIP, project=RIVAL, key="rival-waiting")
        guard.bind(guard.admit_and_dispatch(CLIP, project=RIVAL, key="rival-running")[0], "rival-task")
        guard.admit(CLIP, project=OWN, key="own-waiting")
    granted = allow(
        ledger,
        RIVAL,
        amount=3,
        currency="USD",
        budgets=["rival-cap"],
        until=AT.replace(year=2090),
        actor="boss-of-rival",
        reason="rival needs it",
    )
    freeze_budgets(ledger, ["rival-cap"], actor="boss-of-rival", reason="rival is frozen")
    with serving_api(ledger) as url:
        document = httpx.get(f"{url}/openapi.json").json()
        routes = tuple(
            Route(operation["operationId"], method.upper(), path)
            for path, operations in document["paths"].items()
            for method, operation in operations.items()
            if path.startswith("/api/") and "security" in operation
        )
        names = {
            "reservation_id": reserved.reservation_id,
            "provider": reserved.reservation.provider,
            "task_id": "rival-task",
            "budget": "rival-cap",
            "allowance_id": granted.id,
            "request_id": "no-such-request",
            "name": "tests",
            "run_id": "no-such-run",
            "action": "close",
        }
        secrets = (
            reserved.reservation_id,
            granted.id,
            "rival-waiting",
            "rival-running",
            "boss-of-rival",
            "rival-cap",
        )
        yield Scene(url, ledger, routes, names, secrets)


def test_every_route_states_what_it_requires(scene: Scene) -> None:
    """The table above names every route that needs a key, and all others are listed here."""
    assert {route.name for route in scene.routes} == REQUIRED.keys()
    document = httpx.get(f"{scene.url}/openapi.json").json()
    open_paths = {
        path
        for path, operations in document["paths"].items()
        for operation in operations.values()
        if "security" not in operation
    }
    assert open_paths == {"/api/v1/problems", "/readyz"}


@pytest.mark.parametrize("key", [None, "kp_wrong", "kp_" + "x" * 500])
def test_no_route_answers_without_a_valid_key(scene: Scene, key: str | None) -> None:
    """Without a key, and with a false one, every route answers 401 with a problem document."""
    with client(scene.url, key) as caller:
        for route in scene.routes:
            answer = scene.call(caller, route)
            found = (answer.status_code, answer.headers["content-type"], answer.json()["code"])
            assert found == (401, "application/problem+json", "unauthorized"), route
            assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("is_for_all", [False, True])
@pytest.mark.parametrize("role", ROLES)
def test_each_role_reaches_exactly_its_routes(scene: Scene, role: Any, is_for_all: bool) -> None:  # noqa: FBT001
    """A route answers 403 exactly if the role is too small, or if the route needs a key of all projects."""
    with keyed(scene.url, scene.ledger, role=role, project=None if is_for_all else OWN) as caller:
        for route in scene.routes:
            needed, needs_all = REQUIRED[route.name]
            is_allowed = ROLES.index(role) >= ROLES.index(needed) and (is_for_all or not needs_all)
            answer = scene.call(caller, route)
            assert (answer.status_code == 403) != is_allowed, (route, answer.text)
            assert answer.status_code < 500, (route, answer.text)


def test_the_key_of_one_project_never_learns_of_another(scene: Scene) -> None:
    """With a key for one project, objects of another one are not found, and no answer mentions them."""
    with keyed(scene.url, scene.ledger, role="manage") as caller:
        for route in scene.routes:
            answer = scene.call(caller, route)
            if not REQUIRED[route.name][1] and "{" in route.path:
                assert answer.status_code == 404, (route, answer.text)
            echoed = [name for name in scene.names.values() if name in str(answer.request.url)]
            leaked = [secret for secret in scene.secrets if secret in answer.text and secret not in echoed]
            assert leaked == [], route
            if secret := next((each for each in echoed if each in scene.secrets), None):
                unknown = scene.names | {
                    name: "0" * 32 for name, value in scene.names.items() if value == secret
                }
                other = scene._replace(names=unknown).call(caller, route)
                assert other.status_code == answer.status_code, route


def test_a_key_of_one_project_cannot_name_another(scene: Scene) -> None:
    """Naming another project is refused, and so is another value for a label that the key fixes."""
    with keyed(scene.url, scene.ledger, labels={"user": "li"}) as caller:
        for path in ("/decide", "/reservations"):
            other_project = caller.post(path, json=PAYLOAD | {"project": RIVAL})
            other_user = caller.post(path, json=PAYLOAD | {"labels": {"user": "wang"}})
            other_key = caller.post(path, json=PAYLOAD | {"labels": {"access_key": "somebody"}})
            assert [each.status_code for each in (other_project, other_user, other_key)] == [403, 403, 403]
        assert caller.get("/reservations", params={"project": RIVAL}).status_code == 403
        admitted = caller.post("/reservations", json=PAYLOAD | {"labels": {"shot": "7"}}).json()["reservation"]
        assert admitted["labels"].items() >= {"project": OWN, "user": "li", "shot": "7"}.items()


def test_a_key_of_one_project_cannot_take_the_task_of_another(scene: Scene) -> None:
    """Binding or observing another project's task is refused without a word about it, and changes nothing."""
    with keyed(scene.url, scene.ledger) as caller:
        created = caller.post("/reservations", json=PAYLOAD | {"dispatch": True}).json()["reservation"]
        path = f"/reservations/{created['id']}"
        for answer in (
            caller.post(f"{path}/bind", json={"task_id": "rival-task"}),
            caller.post(f"{path}/observe", json={"body": {"task_id": "rival-task", "status": "failed"}}),
            caller.post(
                f"{path}/observe", json={"body": {"data": [{"task_id": "rival-task", "status": "failed"}]}}
            ),
        ):
            assert (answer.status_code, answer.json()["code"]) == (422, "wire_format")
            assert [secret for secret in scene.secrets if secret in answer.text] == []
    with keyed(scene.url, scene.ledger, project=RIVAL, role="view") as rival:
        task = rival.get("/tasks/{}/rival-task".format(scene.names["provider"])).json()
        assert (task["state"], task["project"]) == ("bound", RIVAL)


def test_a_revoked_key_ends_with_the_next_request(scene: Scene) -> None:
    """A key works until it is revoked through the API, and not once more."""
    with ExitStack() as stack:
        boss = stack.enter_context(keyed(scene.url, scene.ledger, project=None, role="manage", name="boss"))
        issued = boss.post(
            "/keys", json={"project": OWN, "role": "view", "name": "guest", "reason": "a visit"}
        ).json()
        guest = stack.enter_context(client(scene.url, issued["key"]))
        assert guest.get("/caller").json() == {"name": "guest", "role": "view", "project": OWN, "labels": {}}
        assert boss.post("/keys/guest/revoke", json=REASON).json()["revoked_at"] is not None
        assert guest.get("/caller").status_code == 401
        actions = boss.get("/audit", params={"limit": 1000}).json()["items"]
        mine = [
            (each["actor"], each["action"], each["reason"]) for each in actions if each["subject"] == "guest"
        ]
        assert mine == [("boss", "issue_key", "a visit"), ("boss", "revoke_key", "a test")]
        assert issued["key"] not in boss.get("/keys").text


def test_callers_cannot_state_the_outcome_of_a_job_that_the_server_asks_about(
    tmp_path: Path, book: PriceBook
) -> None:
    """Of a job that the server sends itself, only a key with the role `manage` may state the outcome."""
    ledger = f"sqlite:///{tmp_path / 'spend.db'}"
    with BudgetGuard(ledger, [Budget(name="all", cap=10, currency="USD")], book=book) as guard:
        admission, _ = guard.admit_and_dispatch(CLIP, project=OWN)
    provider, path = admission.reservation.provider, f"/reservations/{admission.reservation_id}"
    upstreams = {provider: {"url": "http://127.0.0.1:9"}}
    statements = (
        ("settle", {"amount": "0"}),
        ("observe", {"body": {"task_id": "t", "status": "failed"}}),
        ("release", {"refused": True}),
        ("bind", {"task_id": "t"}),
    )
    with serving_api(ledger, upstreams) as url:
        with keyed(url, ledger) as caller:
            answers = [caller.post(f"{path}/{verb}", json=body) for verb, body in statements]
            assert [answer.status_code for answer in answers] == [403] * 4
            created = caller.post("/reservations", json=PAYLOAD | {"dispatch": True})
            assert (created.status_code, f"below /p/{provider}/" in created.json()["detail"]) == (403, True)
            elsewhere = caller.post("/reservations", json=PAYLOAD | {"dispatch": True, "account": "my-own"})
            assert elsewhere.json()["reservation"]["account"] == "my-own"
            own = f"/reservations/{elsewhere.json()['reservation']['id']}"
            assert caller.post(f"{own}/bind", json={"task_id": "mine"}).json()["state"] == "bound"
            assert caller.get("/reservations", params={"state": "dispatching"}).json()["items"][1:] == []
            assert caller.post(f"{path}/doubt", json=REASON).json()["in_doubt"] is True
        with keyed(url, ledger, role="manage") as manager:
            assert manager.post(f"{path}/bind", json={"task_id": "t"}).json()["state"] == "bound"
