"""An API's HTTP rules are data, and are read as strictly as the rest."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kling_pricing import PriceBook, TableError, load_price_book
from kling_pricing.tables.http_rules import HttpRules
from tests.conftest import bundled

TASKS = {"tasks", "tasks_extra", "tasks_v2"}


def test_every_wire_format_lists_its_definite_refusals(book: PriceBook) -> None:
    """They are the 4xx except 408 and 409, two redirects, and one code with 500 in the task system."""
    for name, matrix in book.matrices.items():
        refusing = {status for status in range(200, 600) if matrix.http.refuses(status, None)}
        assert refusing == {307, 308, *range(400, 500)} - {408, 409}, name
        assert matrix.http.refuses(500, "price_not_configured") is (name in TASKS)
        assert not matrix.http.refuses(500, "internal")
        assert all(each.source for each in matrix.http.refused)


def test_only_the_task_system_has_idempotency_keys(book: PriceBook) -> None:
    """It remembers a key for a day; elsewhere no request is sent twice."""
    taken = {name: matrix.http.idempotency for name, matrix in book.matrices.items()}
    assert {name for name, key in taken.items() if key} == TASKS
    assert {(key.header, key.hours) for key in taken.values() if key} == {("Idempotency-Key", 24)}


def test_each_api_has_a_status_path(book: PriceBook) -> None:
    """A task's status is at the path to which its payload was posted, followed by the task id.

    The gateways of the new-api family have two such paths, and either returns a task of both. Three services
    answer at once and have none. The newer official API has one path for all tasks, with the id in its query.
    """
    at_once = {"/v1/audio/tts", "/v1/videos/identify-face", "/v1/videos/image-recognize"}
    for matrix in book.matrices.values():
        assert matrix.submissions
        for each in matrix.submissions:
            status = None if each.path in at_once else f"{each.path}/{{task_id}}"
            if matrix.wire_format == "kling_v2":
                status = "/tasks?task_ids={task_id}"
            assert status in {each.status, *each.other_status}
            assert each.cancel == (f"{each.status}/cancel" if matrix.wire_format in TASKS else None)


def test_errors_have_the_apis_own_shape(book: PriceBook) -> None:
    """The code is read from the place where the shape has it."""
    shapes = {
        name: matrix.http.error_body(402, "budget_exceeded", "no") for name, matrix in book.matrices.items()
    }
    official = {"code": 402, "message": "no", "request_id": None}
    plain = {"error": {"message": "no", "code": "budget_exceeded"}}
    assert shapes == {
        **dict.fromkeys(("tasks", "tasks_extra", "tasks_v2", "video_generations"), plain),
        "openai_videos": {
            "error": {
                "message": "no",
                "type": "invalid_request_error",
                "param": None,
                "code": "budget_exceeded",
            }
        },
        **dict.fromkeys(("kling", "kling_v2", "kling_services", "kling_images"), official),
    }
    assert book.matrices["tasks"].http.error_in({"error": {"code": "x", "message": "y"}}) == ("x", "y")
    bodies: list[Any] = [None, [], {}, {"error": "x"}, {"error": {"code": ""}}, {"error": {"code": 7.0}}]
    for body in [*bodies, {"code": "x"}]:
        assert book.matrices["tasks"].http.error_in(body) == (None, "")
    assert book.matrices["kling"].http.error_in({"code": 1102, "message": "arrears"}) == ("1102", "arrears")
    for name in ("openai_videos", "video_generations"):
        error_in = book.matrices[name].http.error_in
        assert error_in({"code": "task_failed", "message": "no", "data": None}) == ("task_failed", "no")
        assert error_in({"error": {"code": "x", "message": 5}}) == ("x", "")


DEFINITE = [*range(1000, 1005), *range(1100, 1104), *range(1200, 1204), *range(1300, 1305)]


@pytest.mark.parametrize(
    "name", ["kling", "kling_v2", "kling_services", "kling_images", "openai_videos", "video_generations"]
)
def test_a_refusal_inside_http_200_is_judged_by_its_code(book: PriceBook, name: str) -> None:
    """Kling's definite codes refuse; server errors, unknown codes and a task that exists do not."""
    refuses = book.matrices[name].http.refuses
    assert [code for code in range(10_000) if refuses(200, str(code))] == DEFINITE
    assert not refuses(200, None)
    assert not refuses(200, "success")
    assert not refuses(200, "1201", "external_task_id Already Exists")
    assert not refuses(500, "1102")


@pytest.mark.parametrize("name", ["kling", "kling_v2", "kling_services", "kling_images"])
def test_a_task_that_exists_is_no_refusal_whatever_the_status(book: PriceBook, name: str) -> None:
    """An earlier request with the same external_task_id created it."""
    refuses = book.matrices[name].http.refuses
    assert refuses(400, "1201", "invalid parameter")
    assert not refuses(400, "1201", "external_task_id already exists")


def test_an_api_without_http_rules_has_no_definite_refusals() -> None:
    """A matrix without HTTP rules is on the safe side."""
    rules = HttpRules()
    assert not any(rules.refuses(status, None) for status in range(100, 600))
    assert (rules.idempotency, rules.own_id_field, rules.forms) == (None, (), False)
    assert rules.error_in({"error": {"code": 7}}) == ("7", "")


@pytest.mark.parametrize(
    ("http", "key_path", "problem"),
    [
        (
            "{idempotency: {header: Idempotency-Key, hours: 0, source: x}}",
            "idempotency.hours",
            "greater than 0",
        ),
        ("{idempotency: {header: 'a b', hours: 1, source: x}}", "idempotency.header", "match pattern"),
        ("{idempotency: {header: A, hours: 1}}", "idempotency.source", "required"),
        ("{own_id: {field: external_id, source: x}}", "own_id.field", "'external_id' is unknown"),
        ("{own_id: {field: prompt.id, source: x}}", "own_id.field", "'id' is unknown"),
        ("{callback: {field: notify_url, source: x}}", "callback.field", "'notify_url' is unknown"),
        (
            "{own_id: {field: prompt, lookup: /tasks, source: x}}",
            "own_id.lookup",
            "must be the path of a task",
        ),
        (
            "{refused: [{status: {min: 500, max: 400}, source: x}]}",
            "refused[0].status",
            "min 500 is above max 400; swap them",
        ),
        (
            "{refused: [{status: [], source: x}]}",
            "refused[0].status",
            "does not allow any value; list at least one",
        ),
        ("{refused: [{status: 400, but: [1], source: x}]}", "refused[0].but", "unknown key"),
        ("{error: {message: no}}", "error", "must be a map that contains '{message}'"),
        (
            "{error: {message: '{message}', why: '{reason}'}}",
            "error",
            "why: '{reason}' is not a placeholder; use one of: {code}, ",
        ),
        ("{error: {message: '{message}', list: [1]}}", "error", "list must be a map, text, a whole number"),
        ("{errors: {}}", "errors", "did you mean 'error'?"),
        ("{task_lists: [{path: tasks, source: x}]}", "task_lists[0].path", "path"),
        ("{billed_facts: {facts: [], source: x}}", "billed_facts.facts", "must not be empty"),
        ("{billed_facts: {facts: [colour], source: x}}", "billed_facts.facts[0]", "'action'"),
        ("{code_at: [error/code]}", "code_at[0]", "match pattern"),
        ("{refused: [{status: 200, code: [1102], source: x}]}", "refused[0].code[0]", "text"),
    ],
)
def test_an_invalid_http_rule_is_an_error_with_its_place(
    folder: Callable[..., Path], http: str, key_path: str, problem: str
) -> None:
    """Each mistake causes an error with its key path and the remedy."""
    text = bundled("capabilities", "video_generations.yaml").read_text(encoding="utf-8")
    before, _, after = text.partition("\nhttp:")
    changed = f"{before}\nhttp: {http}\n\nrequired:{after.partition('required:')[2]}"
    with pytest.raises(TableError) as caught:
        load_price_book(folder({"capabilities/video_generations.yaml": changed}))
    assert caught.value.key_path == f"http.{key_path}"
    assert problem in caught.value.problem
