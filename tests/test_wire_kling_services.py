"""The services of the official API beside video generation: each has a path, fields and a fixed price."""

from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from kling_pricing import (
    Budget,
    BudgetGuard,
    CapabilityError,
    KlingPricingError,
    PriceBook,
    WireFormatError,
    check,
    quote,
)
from kling_pricing.hooks.httpx import GuardedTransport
from kling_pricing.wire.formats import kling_services
from tests.conftest import AT, Clock

OFFICIAL = "https://api-singapore.klingai.com"
UNIT = Decimal("0.14")
IMAGE = "https://m.example/a.png"
SOUND = "https://m.example/a.mp3"


def face(end: int, **fields: Any) -> dict[str, Any]:
    """Returns the face of a lip sync whose sound ends after so many milliseconds."""
    times = {"sound_start_time": 0, "sound_end_time": end, "sound_insert_time": 0}
    return {"face_id": "0", "sound_file": SOUND, **times, **fields}


def lip_sync(end: int) -> dict[str, Any]:
    """Returns the payload of a lip sync."""
    return {"session_id": "s", "face_choose": [face(end)]}


SERVICES: list[tuple[str, dict[str, Any], str]] = [
    ("/v1/audio/tts", {"text": "hello", "voice_id": "v", "voice_language": "en", "voice_speed": 1.0}, "0.05"),
    ("/v1/audio/text-to-audio", {"prompt": "rain", "duration": 3.5, "callback_url": ""}, "0.25"),
    ("/v1/audio/video-to-audio", {"video_url": "https://m.example/a.mp4", "asmr_mode": False}, "0.25"),
    ("/v1/general/custom-voices", {"voice_name": "li", "voice_url": SOUND, "video_id": ""}, "0.05"),
    ("/v1/videos/image-recognize", {"image": IMAGE}, "0.1"),
    ("/v1/videos/identify-face", {"video_id": "7"}, "0.05"),
    ("/v1/videos/advanced-lip-sync", lip_sync(2000), "0.5"),
    ("/v1/videos/advanced-lip-sync", lip_sync(5000), "0.5"),
    ("/v1/videos/advanced-lip-sync", lip_sync(5001), "1"),
    ("/v1/videos/advanced-lip-sync", lip_sync(60000), "6"),
]
"""Path, payload, and price in units of the list of 2026-09-20."""


@pytest.mark.parametrize(("path", "payload", "units"), SERVICES)
def test_each_service_has_its_published_price(
    book: PriceBook, path: str, payload: dict[str, Any], units: str
) -> None:
    """The path names the service; lip sync costs 0.5 units for every 5 seconds of its sound."""
    quoted = quote(payload, url=f"{OFFICIAL}{path}", at=AT, book=book)
    assert (quoted.total, quoted.provider) == (Decimal(units) * UNIT, "kling")


@pytest.mark.parametrize(
    ("mode", "length", "units"),
    [("std", "11.3", "4.4"), ("std", "11.5", "4.8"), ("pro", "2", "1.6"), (None, "300", "120")],
)
@pytest.mark.parametrize("field", ["sound_file", "audio_id"])
def test_an_avatar_costs_the_seconds_of_its_sound(
    book: PriceBook, field: str, mode: str | None, length: str, units: str
) -> None:
    """A sound of 11.3 seconds took 4.4 units on one account; its id or its URL identifies the sound."""
    payload = {"image": IMAGE, field: SOUND} | ({} if mode is None else {"mode": mode})
    url = f"{OFFICIAL}/v1/videos/avatar/image2video"
    known = quote(payload, url=url, media={SOUND: {"length_s": length}}, at=AT, book=book)
    assert known.total == Decimal(units) * UNIT
    unknown = quote(payload, url=url, at=AT, book=book)
    rate = Decimal("0.8") if mode == "pro" else Decimal("0.4")
    assert (unknown.minimum, unknown.maximum) == (2 * rate * UNIT, 300 * rate * UNIT)


@pytest.mark.parametrize(
    ("path", "payload", "codes"),
    [
        ("/v1/audio/tts", {"voice_id": "v"}, ["text_required"]),
        ("/v1/audio/tts", {"text": "x" * 1001, "voice_id": "v"}, ["prompt_chars_limit"]),
        ("/v1/audio/tts", {"text": "x", "voice_id": "v", "prompt": "y"}, ["field_not_taken"]),
        ("/v1/audio/text-to-audio", {"prompt": "x" * 201, "duration": 3}, ["prompt_chars_limit"]),
        ("/v1/videos/advanced-lip-sync", lip_sync(1999), ["video_length_s_limit"]),
        ("/v1/videos/advanced-lip-sync", lip_sync(60001), ["video_length_s_limit"]),
        ("/v1/videos/advanced-lip-sync", {"session_id": "s"}, ["face_choose_required"]),
        ("/v1/videos/image-recognize", {"image": ""}, ["image_required"]),
    ],
)
def test_a_service_refuses_what_its_page_excludes(
    book: PriceBook, path: str, payload: dict[str, Any], codes: list[str]
) -> None:
    """Each problem has a code; an empty text counts as left out."""
    assert [found.code for found in check(payload, url=f"{OFFICIAL}{path}", at=AT, book=book)] == codes


@pytest.mark.parametrize(
    ("faces", "message"),
    [
        ([], "face_choose must be a list with exactly one face, got a list"),
        ([face(5000), face(5000)], "face_choose must be a list with exactly one face, got a list"),
        ([7], "face_choose[0] must be an object, got 7"),
        ([face(5000, sound_end_time=5.5)], "face_choose[0].sound_end_time must be a whole number, got 5.5"),
        ([face(5000, sound_end_time=None)], "face_choose[0].sound_end_time is required; add it"),
    ],
)
def test_a_face_that_cannot_be_read_is_an_error(book: PriceBook, faces: list[Any], message: str) -> None:
    """The error names the field, because the times of the sound decide the price."""
    payload = {"session_id": "s", "face_choose": faces}
    with pytest.raises(WireFormatError) as caught:
        quote(payload, url=f"{OFFICIAL}/v1/videos/advanced-lip-sync", at=AT, book=book)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("path", "payload", "message"),
    [
        (
            "videos/avatar/image2video",
            {"image": "i", "sound_file": "s", "audio_id": "1"},
            "sound_file and audio_id both give the sound; keep one of them",
        ),
        ("audio/text-to-audio", {"prompt": "a", "duration": 2.9}, "duration must be 3 to 10 seconds, got 2.9"),
        ("audio/text-to-audio", {"prompt": "a", "duration": 11}, "duration must be 3 to 10 seconds, got 11"),
    ],
)
def test_a_sound_that_the_api_refuses_is_an_error(
    book: PriceBook, path: str, payload: dict[str, Any], message: str
) -> None:
    """A video has one sound, and a generated sound lasts 3 to 10 seconds."""
    with pytest.raises(WireFormatError) as caught:
        quote(payload, url=f"{OFFICIAL}/v1/{path}", at=AT, book=book)
    assert str(caught.value) == message


def test_a_service_is_known_by_its_path_only(book: PriceBook) -> None:
    """Without a URL no service is named, and no field of a service marks a payload."""
    remedy = "pass the URL of the request, which ends with one of: /v1/videos/avatar/image2video"
    with pytest.raises(CapabilityError, match=remedy):
        quote({"image": IMAGE}, wire_format="kling_services", provider="kling", at=AT, book=book)
    assert quote({"model_name": "kling-v3", "prompt": "x"}, at=AT, book=book).wire_format == "kling"


def test_only_the_mode_of_an_avatar_can_be_changed() -> None:
    """A budget can lower the resolution; the other settings have no field."""
    payload = {"image": IMAGE, "audio_id": "a", "mode": "pro"}
    assert kling_services.amend(payload, {"resolution": "720p"}) == payload | {"mode": "std"}
    assert kling_services.amend(payload, {}) == payload
    for changes in ({"resolution": "4k"}, {"duration_s": 5}):
        with pytest.raises(WireFormatError, match="this API cannot express"):
            kling_services.amend(payload, changes)


def test_the_watermark_is_read() -> None:
    """It has no price, but rules may test it."""
    parsed = kling_services.parse({"image": IMAGE, "watermark_info": {"enabled": True}})
    assert parsed.facts == {"watermark": True}


# through a hook


@pytest.fixture
def guard(tmp_path: Path, book: PriceBook, clock: Clock) -> Iterator[BudgetGuard]:
    """A guard with 1 USD."""
    budgets = [Budget(name="all", cap=1, currency="USD")]
    with BudgetGuard(f"sqlite:///{tmp_path}/spend.db", budgets, book=book, clock=clock) as opened:
        yield opened
        opened.verify()


@pytest.mark.parametrize(
    ("path", "payload", "data", "state"),
    [
        (
            "/v1/audio/tts",
            {"text": "hello", "voice_id": "v"},
            {"task_id": "7", "task_status": "succeed", "final_unit_deduction": "0.05"},
            ("settled", "7"),
        ),
        (
            "/v1/videos/identify-face",
            {"video_id": "7"},
            {"session_id": "s-1", "final_unit_deduction": "0.05", "face_data": []},
            ("settled", "s-1"),
        ),
        (
            "/v1/videos/image-recognize",
            {"image": IMAGE},
            {"final_unit_deduction": "0.1", "task_result": {"images": []}},
            ("settled", "r-1"),
        ),
        (
            "/v1/general/custom-voices",
            {"voice_name": "li", "voice_url": SOUND},
            {"task_id": "9", "task_status": "submitted"},
            ("bound", "9"),
        ),
    ],
)
def test_a_hook_guards_each_service(
    guard: BudgetGuard, path: str, payload: dict[str, Any], data: Mapping[str, Any], state: tuple[str, str]
) -> None:
    """A service that answers at once is settled by its answer, also without a task."""
    answer = {"code": 0, "message": "SUCCEED", "request_id": "r-1", "data": data}
    inner = httpx.MockTransport(lambda _: httpx.Response(200, json=answer))
    with httpx.Client(transport=GuardedTransport(inner, guard, project="p")) as client:
        assert client.post(f"{OFFICIAL}{path}", json=payload).json() == answer
        with pytest.raises(KlingPricingError):
            client.post(f"{OFFICIAL}{path}/x", json=payload)
    (reservation,) = guard.history()
    assert (reservation.state, reservation.task_id) == state
    if state[0] == "settled":
        assert reservation.billed == Decimal(data["final_unit_deduction"]) * UNIT


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("/v1/images/kolors-virtual-try-on", "no price is published for virtual try-on"),
        ("/v1/videos/effects", "each effect has its own price"),
        (
            "/v1/videos/multi-elements/init-selection",
            "the price list of 2026-09-20 no longer includes this service",
        ),
    ],
)
def test_a_service_without_a_readable_price_is_refused(guard: BudgetGuard, path: str, why: str) -> None:
    """The refusal says why the price is not known."""
    inner = httpx.MockTransport(lambda _: httpx.Response(500))
    with (
        httpx.Client(transport=GuardedTransport(inner, guard, project="p")) as client,
        pytest.raises(KlingPricingError, match="the price is unknown") as caught,
    ):
        client.post(f"{OFFICIAL}{path}", json={})
    assert f"({why}" in str(caught.value)


def test_an_edit_of_elements_that_left_the_price_list_is_refused(guard: BudgetGuard) -> None:
    """The refusal says why there is no price, and nothing is sent."""
    payload = {"session_id": "s", "edit_mode": "removal", "prompt": "remove the car"}
    inner = httpx.MockTransport(lambda _: httpx.Response(500))
    with (
        httpx.Client(transport=GuardedTransport(inner, guard, project="p")) as client,
        pytest.raises(KlingPricingError, match="the price list of 2026-09-20 no longer includes this model"),
    ):
        client.post(f"{OFFICIAL}/v1/videos/multi-elements", json=payload)
    assert guard.history() == []
