"""The API against requests that nobody would write: made from its own document, and mutated."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from kling_pricing import Budget, BudgetGuard, PriceBook
from kling_pricing.guard import issue_key
from tests.api_servers import keyed, serving_api
from tests.conftest import examples
from tests.guards import CLIP

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]

QUICK = settings(
    max_examples=examples(4),
    deadline=None,
    database=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, book: PriceBook) -> Iterator[tuple[str, str]]:
    """Yields the URL of a server with a few jobs, and its ledger."""
    ledger = f"sqlite:///{tmp_path_factory.mktemp('fuzz') / 'spend.db'}"
    with BudgetGuard(ledger, [Budget(name="all", cap=10, currency="USD")], book=book) as guard:
        guard.admit(CLIP, project="trailer")
        guard.admit_and_dispatch(CLIP, project="trailer")
    with serving_api(ledger) as url:
        yield url, ledger


@pytest.mark.parametrize("mode", list(GenerationMode))
def test_no_request_made_from_the_document_gets_an_undocumented_answer(
    server: tuple[str, str], mode: GenerationMode
) -> None:
    """Valid and invalid requests to every route get an answer that the document describes, and never a 5xx."""
    url, ledger = server
    key = issue_key(ledger, project=None, role="manage", name=f"fuzz-{mode.value}").text
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    tried = 0
    for found in schema.get_all_operations():
        assert isinstance(found, Ok)
        operation = found.ok()

        @given(case=operation.as_strategy(generation_mode=mode))
        @QUICK
        def check(case: schemathesis.Case[Any]) -> None:
            response = case.call(headers={"Authorization": f"Bearer {key}"})
            case.validate_response(response, checks=CHECKS)

        with suppress(Unsatisfiable):  # nothing about a request without parameters can be invalid
            check()
            tried += 1
    assert tried >= 25


STRANGE: dict[str, bytes] = {
    "empty": b"",
    "cut off": b'{"payload": {',
    "a list": b"[]",
    "null": b"null",
    "a number": b"1e999",
    "not UTF-8": b'{"payload": "\xff"}',
    "UTF-16": '{"payload": {}}'.encode("utf-16"),
    "half a character": b'{"payload": {"model": "\\ud800"}, "reason": "\\ud800", "task_id": "\\ud800"}',
    "a NUL": b'{"payload": {"model": "a\\u0000b"}, "reason": "\\u0000", "task_id": "\\u0000"}',
    "a key twice": b'{"payload": {}, "payload": {}}',
    "NaN": b'{"payload": {"duration": NaN}}',
    "deep": b'{"payload": ' + b"[" * 50_000 + b"]" * 50_000 + b"}",
    "many digits": b'{"payload": {"duration": ' + b"9" * 5000 + b'}, "amount": ' + b"9" * 5000 + b"}",
    "a fraction": b'{"payload": {"model": "kling-v3"}, "amount": 0.1, "cap": 0.1, "until": 1}',
    "wrong types": b'{"payload": [], "amount": {}, "cap": [], "file": 1, "reason": {}, "body": ""}',
    "long texts": b'{"payload": {"model": "' + b"m" * 10_000 + b'"}, "reason": "' + b"r" * 10_000 + b'"}',
    "an unknown field": b'{"payload": {}, "colour": "blue"}',
}


@pytest.mark.parametrize("body", STRANGE.values(), ids=STRANGE)
def test_strange_bodies_are_refused_with_a_problem(server: tuple[str, str], body: bytes) -> None:
    """Every route that takes a body refuses one that makes no sense, and says why in a problem document."""
    url, ledger = server
    with keyed(url, ledger, project=None, role="manage") as caller:
        for path, method in paths_with_bodies(url):
            answer = caller.request(method, path, content=body, headers={"content-type": "application/json"})
            assert 400 <= answer.status_code < 500, (path, answer.text)
            assert answer.headers["content-type"] == "application/problem+json"
            problem = answer.json()
            assert problem["status"] == answer.status_code
            assert problem["detail"], path


@pytest.mark.parametrize("media_type", ["text/plain", "application/xml", "multipart/form-data; boundary=x", ""])
def test_a_body_of_another_type_is_refused(server: tuple[str, str], media_type: str) -> None:
    """A body that does not say that it is JSON is refused, so that no web page can make a browser send it."""
    url, ledger = server
    with keyed(url, ledger) as caller:
        answer = caller.post("/quote", content=b'{"payload": {}}', headers={"content-type": media_type})
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")


def test_a_body_that_is_too_large_is_refused(server: tuple[str, str]) -> None:
    """A body above the limit is refused while it arrives, and the next request is answered."""
    url, ledger = server
    with keyed(url, ledger) as caller:
        parts = (b" " * 2**20 for _ in range(100))
        with suppress(httpx.WriteError):  # the server may close the connection before the body is sent
            assert caller.post("/quote", content=parts).status_code == 413
        assert caller.get("/caller").status_code == 200


def paths_with_bodies(url: str) -> list[tuple[str, str]]:
    """Returns the path and the method of every route that takes a body, with names that nothing has."""
    document = httpx.get(f"{url}/openapi.json").json()
    parameters = ("reservation_id", "budget", "allowance_id", "request_id", "name", "run_id")
    names = dict.fromkeys(parameters, "nothing")
    names["action"] = "settle"
    return [
        (path.removeprefix("/api/v1").format(**names), method.upper())
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
        if "requestBody" in operation
    ]
