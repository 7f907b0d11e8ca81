"""The API does what the library does, over real sockets and on both stores."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from kling_pricing import Budget, BudgetGuard, PriceBook, compare, quote
from tests.api_servers import client, keyed, serving_api
from tests.guards import CLIP, COST
from tests.test_server_api_access import REQUIRED

DONE = {"task_id": "task-1", "status": "completed", "cost": 357000}
"""A status response of the first provider's task system, with a charge of 0.714 USD."""

FILE = "budgets: [{name: trailer, match: {project: trailer}, cap: 10, currency: USD}]"


class Api(NamedTuple):
    """A server, and clients with a key of the project `trailer` and with a key of an administrator."""

    url: str
    ledger: str
    caller: httpx.Client
    boss: httpx.Client

    def reserve(self, **body: Any) -> dict[str, Any]:
        """Reserves money for the clip, and returns the answer."""
        answer = self.caller.post("/reservations", json={"payload": CLIP, **body})
        assert answer.status_code in {200, 201}, answer.text
        admission: dict[str, Any] = answer.json()
        return admission

    def left(self) -> Decimal:
        """Returns the amount left in the only budget."""
        (budget,) = self.caller.get("/budgets").json()["budgets"]
        return Decimal(budget["available"])


@contextmanager
def running_api(ledger: str, book: PriceBook) -> Iterator[Api]:
    """Runs a server on an empty ledger with a budget of 10 USD."""
    budget = Budget(name="trailer", match={"project": "trailer"}, cap=10, currency="USD", alerts=["0.05"])
    BudgetGuard(ledger, [budget], book=book).close()
    with (
        serving_api(ledger) as url,
        keyed(url, ledger, name="li") as caller,
        keyed(url, ledger, project=None, role="manage", name="boss") as boss,
    ):
        yield Api(url, ledger, caller, boss)
        assert boss.post("/verify").status_code == 200


@pytest.fixture
def api(tmp_path: Path, book: PriceBook) -> Iterator[Api]:
    """Yields a server on a file."""
    with running_api(f"sqlite:///{tmp_path}/spend.db", book) as running:
        yield running


@pytest.fixture
def each_api(ledger: str, book: PriceBook) -> Iterator[Api]:
    """Yields a server, once for each kind of store."""
    with running_api(ledger, book) as running:
        yield running


@pytest.fixture(scope="module")
def quoting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """Yields a client of a server whose ledger has no budgets yet."""
    ledger = f"sqlite:///{tmp_path_factory.mktemp('quoting') / 'spend.db'}"
    with serving_api(ledger) as url, keyed(url, ledger, role="view") as caller:
        yield caller


def test_a_quote_is_exact_and_explained(quoting: httpx.Client, book: PriceBook) -> None:
    """A quote has the library's amounts as text, with its lines and its notes."""
    answer = quoting.post("/quote", json={"payload": CLIP, "at": "2026-11-21T00:00:00Z"}).json()
    assert (answer["total"], answer["minimum"], answer["currency"]) == ("0.714", "0.714", "USD")
    (line,) = answer["lines"]
    assert {name: line[name] for name in ("quantity", "unit", "unit_price", "amount")} == {
        "quantity": "5",
        "unit": "second",
        "unit_price": "0.1428",
        "amount": "0.714",
    }
    assert [note["code"] for note in answer["notes"]] == [note.code for note in quote(CLIP, book=book).notes]


def test_a_check_lists_every_violation(quoting: httpx.Client) -> None:
    """A check says whether the payload is valid; a quote of an invalid one is a problem with suggestions."""
    wrong = CLIP | {"duration": 99, "resolution": "9k"}
    assert quoting.post("/check", json={"payload": CLIP}).json() == {"valid": True, "violations": []}
    checked = quoting.post("/check", json={"payload": wrong}).json()
    refused = quoting.post("/quote", json={"payload": wrong})
    assert not checked["valid"]
    assert len(checked["violations"]) == 2
    problem = refused.json()
    assert (refused.status_code, problem["code"], problem["status"]) == (422, "capability", 422)
    assert problem["violations"] == checked["violations"]
    assert problem["suggestions"]


def test_a_comparison_lists_every_option(quoting: httpx.Client, book: PriceBook) -> None:
    """A comparison has the library's options in its order, with exact prices."""
    found = quoting.post("/compare", json={"payload": CLIP}).json()["options"]
    expected = compare(CLIP, book=book)
    assert [(each["provider"], each["changes"]) for each in found] == [
        (option.provider, dict(option.changes)) for option in expected
    ]
    assert [Decimal(each["quote"]["maximum"]) for each in found if each["quote"]] == [
        option.quote.maximum for option in expected if option.quote
    ]


def test_without_budgets_only_prices_are_known(quoting: httpx.Client) -> None:
    """As long as the ledger has no budgets, quotes work, and everything else says what to do."""
    answer = quoting.post("/decide", json={"payload": CLIP})
    assert (answer.status_code, answer.json()["code"]) == (422, "budget")
    assert "budget apply" in answer.json()["detail"]


def test_a_job_from_its_reservation_to_its_settlement(each_api: Api) -> None:
    """A job is reserved, dispatched once, bound, observed and settled, and each answer has the new state."""
    decided = each_api.caller.post("/decide", json={"payload": CLIP}).json()
    assert (decided["outcome"], decided["reserved"], decided["budgets"][0]["left_after"]) == (
        "admitted",
        "0.714",
        "9.286",
    )
    created = each_api.reserve(key="shot-1")
    path = f"/reservations/{created['reservation']['id']}"
    assert (created["payload"], created["replayed"], each_api.left()) == (None, False, 10 - COST)
    dispatched = each_api.caller.post(f"{path}/dispatch", json={"payload": CLIP})
    assert dispatched.json()["payload"] == CLIP
    again = each_api.caller.post(f"{path}/dispatch", json={"payload": CLIP})
    assert (again.status_code, again.json()["state"]) == (409, "dispatching")
    assert each_api.caller.post(f"{path}/bind", json={"task_id": "task-1"}).json()["state"] == "bound"
    settled = each_api.caller.post(f"{path}/observe", json={"body": DONE}).json()
    assert (settled["state"], settled["billed"], settled["basis"]) == ("settled", "0.714", "response")
    provider = settled["provider"]
    assert (
        each_api.caller.get(f"/tasks/{provider}/task-1").json() == settled == each_api.caller.get(path).json()
    )


def test_a_charge_in_money_is_exact(api: Api) -> None:
    """A charge with a decimal point in a response is settled to the last digit."""
    made = api.reserve(dispatch=True)["reservation"]["id"]
    body = b'{"body": {"task_id": "task-1", "status": "completed", "cost_usd": 0.123456789}}'
    headers = {"content-type": "application/json"}
    settled = api.caller.post(f"/reservations/{made}/observe", content=body, headers=headers).json()
    assert (settled["state"], settled["billed"]) == ("settled", "0.123456789")


def test_a_key_makes_one_job_and_hands_out_one_payload(each_api: Api) -> None:
    """A repeated creation is the same reservation; once it is dispatched, the key is refused with its state."""
    headers = {"idempotency-key": "shot-1"}
    first = each_api.caller.post("/reservations", json={"payload": CLIP}, headers=headers)
    second = each_api.caller.post("/reservations", json={"payload": CLIP}, headers=headers)
    third = each_api.caller.post("/reservations", json={"payload": CLIP, "dispatch": True}, headers=headers)
    fourth = each_api.caller.post("/reservations", json={"payload": CLIP, "dispatch": True}, headers=headers)
    other = each_api.caller.post("/reservations", json={"payload": CLIP | {"duration": 10}}, headers=headers)
    assert [each.status_code for each in (first, second, third, fourth, other)] == [201, 200, 200, 409, 409]
    ids = {each.json()["reservation"]["id"] for each in (first, second, third)}
    assert ids == {fourth.json()["reservation_id"]}
    assert (second.json()["replayed"], third.json()["payload"]) == (True, CLIP)
    assert (fourth.json()["code"], other.json()["code"]) == ("reservation_state", "idempotency")
    both = each_api.caller.post(
        "/reservations", json={"payload": CLIP, "key": "a"}, headers={"idempotency-key": "b"}
    )
    assert both.status_code == 400


def test_no_more_than_the_cap_is_reserved_at_once(each_api: Api) -> None:
    """Of 40 simultaneous requests, 14 fit the cap of 10 USD, and the others get 402 with the amounts."""
    answers: list[httpx.Response] = []

    def create() -> None:
        answers.append(each_api.caller.post("/reservations", json={"payload": CLIP, "dispatch": True}))

    threads = [threading.Thread(target=create) for _ in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    refused = [answer.json() for answer in answers if answer.status_code == 402]
    assert sorted(answer.status_code for answer in answers) == [201] * 14 + [402] * 26
    assert {(each["budget"], each["requested"], each["available"], each["currency"]) for each in refused} == {
        ("trailer", "0.714", "0.004", "USD")
    }
    assert each_api.left() == Decimal("0.004")


def test_money_is_released_or_kept_as_the_library_does(api: Api) -> None:
    """An unsent job is released, a refused one too, and one in doubt only by a person's resolution."""
    ids = [api.reserve(dispatch=number > 0)["reservation"]["id"] for number in range(3)]
    unsent, refused, doubtful = (f"/reservations/{each}" for each in ids)
    assert api.caller.post(f"{unsent}/release", json={}).json()["state"] == "released"
    assert api.caller.post(f"{refused}/release", json={}).status_code == 409
    assert api.caller.post(f"{refused}/release", json={"refused": True}).json()["state"] == "released"
    assert api.caller.post(f"{doubtful}/doubt", json={"reason": "a timeout"}).json()["in_doubt"] is True
    assert api.caller.post(f"{doubtful}/release", json={"refused": True}).status_code == 409
    assert [
        each["id"] for each in api.caller.get("/reservations", params={"in_doubt": True}).json()["items"]
    ] == [ids[2]]
    assert api.caller.post(f"{doubtful}/resolve", json={"outcome": "charged"}).status_code == 403
    resolved = api.boss.post(f"{doubtful}/resolve", json={"outcome": "charged", "amount": "0.5"}).json()
    assert (resolved["state"], resolved["billed"], resolved["basis"]) == ("settled", "0.5", "operator")
    assert api.left() == Decimal("9.5")


def test_a_correction_needs_the_role_manage_and_names_its_author(api: Api) -> None:
    """A caller may settle at the amount of a response; a stronger basis needs `manage` and is in the log."""
    path = f"/reservations/{api.reserve(dispatch=True)['reservation']['id']}"
    assert api.caller.post(f"{path}/settle", json={"amount": "0.7", "basis": "operator"}).status_code == 403
    assert api.caller.post(f"{path}/settle", json={"amount": "0.7"}).json()["billed"] == "0.7"
    corrected = api.boss.post(
        f"{path}/settle", json={"amount": "0.6", "basis": "operator", "reason": "a credit"}
    )
    assert corrected.json()["billed"] == "0.6"
    last = api.boss.get("/audit").json()["items"][-1]
    assert (last["actor"], last["action"], last["reason"]) == ("boss", "settle", "a credit")


@pytest.mark.parametrize("amount", [0.1, True, "-1", "1e3", "0,5", None, [], "9" * 30])
def test_an_amount_that_is_not_exact_text_is_refused(quoting: httpx.Client, amount: Any) -> None:
    """A number that some program may have rounded is refused, with the place and the remedy."""
    body = json.dumps({"cap": amount, "reason": "x"})
    with client(str(quoting.base_url).removesuffix("/api/v1/"), None, dict(quoting.headers)) as caller:
        answer = caller.post("/budgets/trailer/cap", content=body, headers={"content-type": "application/json"})
    if answer.status_code == 400:
        assert [mistake["place"] for mistake in answer.json()["mistakes"]] == ["body.cap"]
    else:
        assert answer.status_code == 403


def test_pages_list_every_reservation_once(each_api: Api) -> None:
    """Following `next` lists every reservation, the newest first; a foreign or unknown cursor is not found."""
    made = [each_api.reserve(key=f"shot-{number}")["reservation"]["id"] for number in range(5)]
    listed, cursor = [], None
    while True:
        query = {"limit": "2"} | ({"cursor": cursor} if cursor else {})
        page = each_api.caller.get("/reservations", params=query).json()
        listed += [each["id"] for each in page["items"]]
        if (cursor := page["next"]) is None:
            break
    assert listed == made[::-1]
    assert each_api.caller.get("/reservations", params={"cursor": "f" * 32}).status_code == 404
    assert each_api.caller.get("/reservations", params={"limit": 0}).status_code == 400
    assert [
        each["key"] for each in each_api.caller.get("/reservations", params={"key": "shot-3"}).json()["items"]
    ] == ["shot-3"]


def test_budgets_are_planned_and_applied_with_consent(api: Api) -> None:
    """A plan changes nothing; a weaker budget needs consent; mistakes have their line; the key is the actor."""
    higher = FILE.replace("10", "20")
    plan = api.boss.post("/budgets/plan", json={"file": higher}).json()
    assert plan["weaker"] == ["trailer: cap 10 -> 20 USD"]
    assert api.boss.post("/budgets/plan", json={"file": FILE}).json()["changes"] != []  # the alerts are missing
    body = {"file": higher, "reason": "more shots", "base": plan["base"]}
    refused = api.boss.post("/budgets/apply", json=body)
    assert (refused.status_code, refused.json()["code"]) == (409, "budget_weakened")
    assert api.left() == 10
    applied = api.boss.post("/budgets/apply", json=body | {"allow_weaker": True})
    assert applied.status_code == 200
    assert api.left() == 20
    outdated = api.boss.post("/budgets/apply", json=body | {"file": FILE.replace("10", "15")})
    assert (outdated.status_code, api.left()) == (422, Decimal(20))
    mistaken = api.boss.post(
        "/budgets/plan", json={"file": "budgets:\n  - {name: trailer, cap: -1, colour: red}"}
    )
    assert (mistaken.status_code, mistaken.json()["mistakes"][0]["line"]) == (422, 2)
    last = api.boss.get("/audit").json()["items"][-1]
    assert (last["actor"], last["action"], last["reason"]) == ("boss", "apply", "more shots")
    text = api.boss.get("/budgets-file").text
    assert api.boss.post("/budgets/plan", json={"file": text}).json()["changes"] == []


def test_a_cap_is_set_until_an_instant(api: Api) -> None:
    """A higher cap needs consent; a lower one does not; the answer has the old and the new cap."""
    body = {"cap": "12", "until": "2099-01-01T00:00:00Z", "reason": "a rush"}
    assert api.boss.post("/budgets/trailer/cap", json=body).json()["code"] == "budget_weakened"
    changed = api.boss.post("/budgets/trailer/cap", json=body | {"allow_weaker": True}).json()
    assert (changed["old_cap"], changed["cap"], changed["until"]) == ("10", "12", "2099-01-01T00:00:00Z")
    assert api.left() == 12
    assert api.boss.post("/budgets/trailer/cap", json={"cap": "5", "reason": "less"}).status_code == 200
    assert api.left() == 5
    assert api.boss.post("/budgets/nothing/cap", json={"cap": "5", "reason": "less"}).status_code == 404


def test_a_freeze_stops_admissions_until_a_thaw(api: Api) -> None:
    """A frozen budget refuses with 402, everyone sees the freeze, and a thaw lets requests pass again."""
    frozen = api.boss.post("/freezes", json={"budgets": ["trailer"], "reason": "an incident"}).json()["freezes"]
    assert [(each["budget"], each["actor"]) for each in frozen] == [("trailer", "boss")]
    refused = api.caller.post("/reservations", json={"payload": CLIP})
    assert (refused.status_code, refused.json()["code"], refused.json()["actor"]) == (
        402,
        "budget_frozen",
        "boss",
    )
    assert api.caller.get("/freezes").json()["freezes"] == frozen
    assert api.boss.post("/thaws", json={"budgets": ["trailer"], "reason": "over"}).json()["freezes"] == frozen
    everything = api.boss.post("/freezes", json={"reason": "all of it"}).json()["freezes"]
    assert [each["budget"] for each in everything] == [None]
    assert api.caller.post("/reservations", json={"payload": CLIP}).status_code == 402
    assert api.boss.post("/thaws", json={"reason": "over"}).json()["freezes"] == everything
    assert api.caller.post("/reservations", json={"payload": CLIP}).status_code == 201


def test_an_allowance_is_asked_for_granted_used_and_revoked(each_api: Api) -> None:
    """A refused payload becomes a filed request, an administrator grants it, and the payload passes."""
    each_api.boss.post("/budgets/trailer/cap", json={"cap": "0.5", "reason": "nearly over"})
    ask = {"payload": CLIP, "key": "shot-9", "reason": "the last shot"}
    filed = each_api.caller.post("/allowance-requests", json=ask).json()
    assert (filed["amount"], filed["budgets"], filed["actor"], filed["allowance_id"]) == (
        "0.714",
        ["trailer"],
        "li",
        None,
    )
    grant = {"request": filed["id"], "until": "2099-01-01T00:00:00Z", "reason": "fine"}
    assert each_api.caller.post("/allowances", json=grant).status_code == 403
    granted = each_api.boss.post("/allowances", json=grant)
    assert granted.status_code == 201
    assert each_api.reserve(key="shot-9")["reservation"]["reserved"] == "0.714"
    (used,) = each_api.caller.get("/allowances").json()["allowances"]
    assert (used["held"], used["available"]) == ("0.214", "0.5")
    revoked = each_api.boss.post(f"/allowances/{used['id']}/revoke", json={"reason": "enough"}).json()
    assert revoked["revoked_at"] is not None
    (asked,) = each_api.caller.get("/allowance-requests").json()["requests"]
    assert asked["allowance_id"] == used["id"]


def test_alerts_are_listed_in_order(api: Api) -> None:
    """Alerts have exact amounts, and a cursor leads through them."""
    api.reserve()
    api.boss.post("/freezes", json={"reason": "a pause"})
    alerts = api.boss.get("/alerts").json()
    assert [(each["kind"], each["budget"], each["used"]) for each in alerts["items"]] == [
        ("threshold", "trailer", "0.714"),
        ("freeze", None, None),
    ]
    first = api.boss.get("/alerts", params={"limit": 1}).json()
    rest = api.boss.get("/alerts", params={"cursor": first["next"]}).json()
    assert [*first["items"], *rest["items"]] == alerts["items"]
    api.boss.post("/freezes", json={"budgets": ["trailer"], "reason": "a pause"})
    assert [each["kind"] for each in api.caller.get("/alerts").json()["items"]] == ["threshold", "freeze"]
    assert api.boss.get("/receivers").json() == {"receivers": []}


def test_statements_and_verification_are_for_all_projects(api: Api, book: PriceBook) -> None:
    """The books of a provider can be listed, an unknown provider is named, and the ledger verifies."""
    provider = next(iter(book.tables))
    assert api.boss.get(f"/statements/{provider}").json() == {"statements": [], "closed": []}
    unknown = api.boss.get("/statements/nobody")
    assert (unknown.status_code, unknown.json()["code"]) == (422, "price_not_found")
    api.reserve()
    assert api.boss.post("/verify").json()["last_entry"] > 0


def test_the_page_of_the_api_loads_nothing_from_elsewhere(quoting: httpx.Client) -> None:
    """`/docs` works offline: every address in it is the server's own, and no script inside it can run."""
    url = str(quoting.base_url).removesuffix("/api/v1/")
    page = httpx.get(f"{url}/docs")
    addresses = [part.partition('"')[0] for part in page.text.replace('src="', 'href="').split('href="')[1:]]
    assert {address for address in addresses if "://" in address} == set()
    for address in addresses:
        if not address.startswith("data:"):
            assert httpx.get(f"{url}/{address}").status_code == 200, address
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'; script-src 'self'; " in policy
    assert "<script>" not in page.text


def test_every_problem_is_listed(quoting: httpx.Client) -> None:
    """The list of problems has every code with its status, and needs no key."""
    url = str(quoting.base_url).removesuffix("/api/v1/")
    listed = {each["code"]: each["status"] for each in httpx.get(f"{url}/api/v1/problems").json()["problems"]}
    assert listed.items() >= {"budget_exceeded": 402, "unauthorized": 401, "reservation_state": 409}.items()


PAGE = (Path(__file__).parent.parent / "docs" / "api.md").read_text(encoding="utf-8")


def test_the_page_lists_every_route_with_its_role(quoting: httpx.Client) -> None:
    """The table of routes in the docs has every route of the API, with the role that it requires."""
    url = str(quoting.base_url).removesuffix("/api/v1/")
    documented = {
        route: row[1]
        for row in (
            line.strip("|").split(" | ") for line in PAGE.splitlines() if re.match(r"\| `(GET|POST) /", line)
        )
        for route in re.findall(r"`([A-Z]+ /[^`]*)`", row[0])
    }
    roles = {
        f"{method.upper()} {path.removeprefix('/api/v1')}": REQUIRED.get(operation["operationId"])
        for path, operations in httpx.get(f"{url}/openapi.json").json()["paths"].items()
        for method, operation in operations.items()
        if path.startswith("/api/")
    }
    assert documented == {
        route: "none" if needed is None else f"`{needed[0]}`" + ", all projects" * needed[1]
        for route, needed in roles.items()
    }


def test_the_page_lists_every_problem(quoting: httpx.Client) -> None:
    """The table of errors in the docs has every code with its status."""
    documented = {
        code: int(row[1])
        for row in (
            line.strip("|").split(" | ") for line in PAGE.splitlines() if re.search(r"\| [45]\d\d \|", line)
        )
        for code in re.findall(r"`([a-z_]+)`", row[0])
    }
    listed = {each["code"]: each["status"] for each in quoting.get("/problems").json()["problems"]}
    assert documented == listed
