"""The image jobs of the official API: the price depends on the model, the inputs and the number of images."""

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from kling_pricing import (
    Budget,
    BudgetGuard,
    CapabilityError,
    PriceBook,
    PriceNotFoundError,
    WireFormatError,
    check,
    quote,
)
from kling_pricing.hooks.httpx import GuardedTransport
from kling_pricing.wire.formats import kling_images
from tests.charges import charge
from tests.conftest import AT, Clock

OFFICIAL = "https://api-singapore.klingai.com"
IMAGE_UNIT = Decimal("0.0035")
IMAGE = "https://m.example/a.png"
PROMPT = {"prompt": "a puppy"}
V21 = {**PROMPT, "model_name": "kling-v2-1"}
OMNI = {**PROMPT, "model_name": "kling-v3-omni"}
SUBJECTS = {"subject_image_list": [{"subject_image": IMAGE}]}
SIDES = {f"{side}_expansion_ratio": 0.1 for side in ("up", "down", "left", "right")}
EXPAND = {"image": IMAGE, **SIDES}

MISPLACED = ["field_not_taken", "action_limit", "endpoint_action"]

JOBS: list[tuple[str, dict[str, Any], int]] = [
    ("/v1/images/generations", PROMPT, 8),
    ("/v1/images/generations", {**PROMPT, "model_name": "", "image": "", "callback_url": "", "n": 9}, 72),
    ("/v1/images/generations", {**PROMPT, "model_name": "kling-v3", "image": IMAGE, "resolution": "2k"}, 8),
    ("/v1/images/generations", {**V21, "negative_prompt": "", "n": 2}, 8),
    ("/v1/images/generations", {**V21, "image": IMAGE, "image_fidelity": 0.5, "n": 2}, 16),
    ("/v1/images/omni-image", {**PROMPT, "image_list": [], "resolution": "2k"}, 8),
    ("/v1/images/omni-image", {**PROMPT, "model_name": "kling-image-o1", "n": 3}, 24),
    ("/v1/images/omni-image", {**OMNI, "image_list": [{"image": IMAGE}], "n": 2}, 16),
    ("/v1/images/omni-image", {**OMNI, "resolution": "2k", "element_list": [{"element_id": 7}]}, 8),
    ("/v1/images/omni-image", {**OMNI, "resolution": "4k", "n": 2}, 32),
    ("/v1/images/omni-image", {**OMNI, "result_type": "series", "n": 9}, 32),
    ("/v1/images/omni-image", {**OMNI, "result_type": "series", "series_amount": 2}, 16),
    ("/v1/images/omni-image", {**OMNI, "result_type": "single", "series_amount": "auto"}, 8),
    ("/v1/images/multi-image2image", SUBJECTS, 16),
    ("/v1/images/multi-image2image", {**V21, **SUBJECTS, "scene_image": IMAGE, "n": 2}, 32),
    ("/v1/images/editing/expand", {**EXPAND, "prompt": "", "n": 2}, 16),
    ("/v1/general/ai-multi-shot", {"element_frontal_image": IMAGE, "external_task_id": ""}, 20),
]
"""Path, payload, and price in image units of the list of 2026-09-20; 8 image units are 0.028 USD."""


@pytest.mark.parametrize(("path", "payload", "units"), JOBS)
def test_each_job_has_its_published_price(
    book: PriceBook, path: str, payload: dict[str, Any], units: int
) -> None:
    """The path names the job, and every image counts; a series is 4 images unless it says otherwise."""
    quoted = quote(payload, url=f"{OFFICIAL}{path}", at=AT, book=book)
    assert (quoted.total, quoted.provider) == (units * IMAGE_UNIT, "kling")


def test_a_quote_counts_image_units(book: PriceBook, tmp_path: Path, clock: Clock) -> None:
    """The line, the explanation and the reservation name image units, of which one is worth 0.0035 USD."""
    url = f"{OFFICIAL}/v1/images/omni-image"
    payload = {**OMNI, "resolution": "4k", "n": 3}
    quoted = quote(payload, url=url, at=AT, book=book)
    (line,) = quoted.lines
    assert line.description == "kling-image-v3-omni 4k image, 16 image units at 0.0035 USD"
    assert (line.quantity, line.unit, line.unit_price) == (Decimal(3), "image", Decimal("0.056"))
    assert f"{line.description}: 3 images x 0.056 = 0.168 USD" in quoted.explain()
    budgets = [Budget(name="all", cap="5", currency="USD")]
    with BudgetGuard(f"sqlite:///{tmp_path}/spend.db", budgets, book=book, clock=clock) as guard:
        guard.admit(payload, project="p", url=url)
        (reserved,) = guard.history()
    assert (reserved.statement_unit, reserved.unit_value) == ("image", IMAGE_UNIT)


def test_a_job_before_the_first_known_prices_is_refused_with_their_day(book: PriceBook) -> None:
    """The list of July 2026 has no images, and the error says from when on they have prices."""
    with pytest.raises(PriceNotFoundError) as caught:
        quote(PROMPT, url=f"{OFFICIAL}/v1/images/generations", at=datetime(2026, 9, 14, tzinfo=UTC), book=book)
    assert str(caught.value) == (
        "kling/2026-07, the table for that time, has no price for requests in wire format "
        "kling_images; kling/2026-09-20 has prices for them and applies from 2026-09-15; choose a time in "
        "that period, or add your own price table"
    )


def test_a_series_of_unknown_length_is_a_range(book: PriceBook) -> None:
    """The API makes up to 9 images if the number is `auto`."""
    payload = {**OMNI, "result_type": "series", "series_amount": "auto"}
    quoted = quote(payload, url=f"{OFFICIAL}/v1/images/omni-image", at=AT, book=book)
    assert (quoted.minimum, quoted.maximum) == (8 * IMAGE_UNIT, 72 * IMAGE_UNIT)


@pytest.mark.parametrize(
    ("path", "payload", "codes"),
    [
        ("/v1/images/generations", {}, ["prompt_required"]),
        ("/v1/images/generations", {**PROMPT, "n": 10}, ["calls_limit"]),
        ("/v1/images/generations", {**PROMPT, "n": 0}, ["calls_limit"]),
        ("/v1/images/generations", {**PROMPT, "resolution": "4k"}, ["resolution_limit"]),
        ("/v1/images/generations", {"prompt": "x" * 2501}, ["prompt_chars_limit"]),
        (
            "/v1/images/generations",
            {**PROMPT, **SUBJECTS},
            MISPLACED,
        ),
        ("/v1/images/omni-image", {**PROMPT, "resolution": "4k"}, ["resolution_limit"]),
        ("/v1/images/multi-image2image", V21, ["endpoint_action"]),
        ("/v1/images/editing/expand", {"image": IMAGE}, [f"{name}_required" for name in SIDES]),
        ("/v1/general/ai-multi-shot", {}, ["element_frontal_image_required"]),
    ],
)
def test_a_job_refuses_what_its_page_excludes(
    book: PriceBook, path: str, payload: dict[str, Any], codes: list[str]
) -> None:
    """Each problem has a code."""
    assert [found.code for found in check(payload, url=f"{OFFICIAL}{path}", at=AT, book=book)] == codes


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        ({**PROMPT, "n": "2"}, "n must be a whole number, got '2'"),
        (
            {**PROMPT, "series_amount": "many"},
            "series_amount must be a whole number from 2 to 9 or \"auto\", got 'many'",
        ),
        (
            {**PROMPT, "result_type": "series", "series_amount": 1},
            'series_amount must be a whole number from 2 to 9 or "auto", got 1',
        ),
        (
            {**PROMPT, "result_type": "series", "series_amount": 10},
            'series_amount must be a whole number from 2 to 9 or "auto", got 10',
        ),
        ({**PROMPT, "result_type": "all"}, "result_type must be single or series, got 'all'"),
        ({**PROMPT, "image_list": [{}]}, "image_list[0].image is required; add it"),
    ],
)
def test_a_field_that_cannot_be_read_is_an_error(
    book: PriceBook, payload: dict[str, Any], message: str
) -> None:
    """The error names the field, because the number of images decides the price."""
    with pytest.raises(WireFormatError) as caught:
        quote(payload, url=f"{OFFICIAL}/v1/images/omni-image", at=AT, book=book)
    assert str(caught.value) == message


def test_a_video_model_is_not_an_image_model(book: PriceBook) -> None:
    """The same name is another model in each format, and without a URL a payload is a video job."""
    with pytest.raises(CapabilityError, match="unknown model kling-v2-6"):
        quote({**PROMPT, "model_name": "kling-v2-6"}, url=f"{OFFICIAL}/v1/images/generations", at=AT, book=book)
    assert quote({**PROMPT, "model_name": "kling-v3"}, at=AT, book=book).tier == "silent"


def test_the_model_and_the_resolution_can_be_changed() -> None:
    """Other settings have no field."""
    changed = kling_images.amend({**OMNI, "resolution": "4k"}, {"resolution": "2k", "model": "kling-image-o1"})
    assert changed == {**PROMPT, "model_name": "kling-image-o1", "resolution": "2k"}
    with pytest.raises(WireFormatError, match=r"^this API has no field for audio$"):
        kling_images.amend(OMNI, {"audio": False})


def test_inputs_become_facts_and_files() -> None:
    """Every image is a file, and rules can test their number."""
    parsed = kling_images.parse(
        {
            **SUBJECTS,
            "image": IMAGE,
            "style_image": IMAGE,
            "watermark_info": {"enabled": False},
            "aspect_ratio": "1:1",
        }
    )
    assert [file.field for file in parsed.media] == [
        "image",
        "style_image",
        "subject_image_list[0].subject_image",
    ]
    assert parsed.facts == {
        "aspect_ratio": "1:1",
        "aspect_ratio_stated": True,
        "references": 1,
        "first_frame": True,
        "start_images": 3,
        "watermark": False,
    }


def test_the_units_of_an_answer_are_image_units() -> None:
    """They must never be valued like the units of a video pack, which are worth 40 times as much."""
    data = {"task_id": "7", "task_status": "succeed", "final_unit_deduction": "8"}
    task = kling_images.read_task({"code": 0, "data": data})
    assert (task.state, task.charge) == ("succeeded", charge(("8", "image")))


def test_a_hook_guards_image_jobs(tmp_path: Path, book: PriceBook, clock: Clock) -> None:
    """Nine images fit into 0.3 USD once, and their answer binds the job."""
    budgets = [Budget(name="all", cap="0.3", currency="USD")]
    answer = {"code": 0, "data": {"task_id": "7", "task_status": "submitted"}}
    inner = httpx.MockTransport(lambda _: httpx.Response(200, json=answer))
    with BudgetGuard(f"sqlite:///{tmp_path}/spend.db", budgets, book=book, clock=clock) as guard:
        transport = GuardedTransport(inner, guard, project="p", refusals="respond")
        with httpx.Client(transport=transport, base_url=OFFICIAL) as client:
            statuses = [
                client.post("/v1/images/generations", json={**PROMPT, "n": 9}).status_code for _ in range(2)
            ]
        assert statuses == [200, 402]
        assert [(entry.state, entry.reserved) for entry in guard.history()] == [("bound", 72 * IMAGE_UNIT)]
        guard.verify()
