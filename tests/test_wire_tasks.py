"""Wire format `tasks`: reading and amending payloads, and reading responses."""

import json
from decimal import Decimal
from typing import Any

import pytest

from kling_pricing import WireFormatError
from kling_pricing.wire.formats.tasks import FIELD_NAMES, amend, parse, read_task
from kling_pricing.wire.task import Task
from tests.charges import charge
from tests.conftest import video


def test_only_given_fields_are_kept() -> None:
    """A null field counts as left out, and neither becomes a default."""
    bare = parse({"model": "kling-v3", "prompt": "boat"})
    assert bare == parse({"model": "kling-v3", "prompt": "boat", "duration": None, "image_urls": None})
    assert bare.facts == {"model": "kling-v3", "prompt_chars": 4}
    assert bare.fields == {"model": "model", "prompt": "prompt"}


def test_every_documented_field_is_read() -> None:
    """Each documented field becomes facts whose names do not depend on the API."""
    parsed = parse(
        {
            "model": "kling-video-o1",
            "action": "reference_video",
            "prompt": "like <<<image_1>>> and <<<image_3>>>",
            "aspect_ratio": "1:1",
            "resolution": "1080P",
            "duration": 10,
            "audio": False,
            "watermark": True,
            "image_urls": ["https://example.com/a.png", "https://example.com/b.png"],
            "first_frame_image": "https://example.com/c.png",
            "last_frame_image": "https://example.com/d.png",
            "video_urls": ["https://example.com/e.mp4"],
            "video_list": [
                {"video_url": "https://example.com/f.mp4", "refer_type": "base", "keep_original_sound": "yes"}
            ],
            "callback_url": "https://example.com/hook",
            "callback_events": ["completed"],
        }
    )
    assert parsed.facts == {
        "model": "kling-video-o1",
        "action": "reference_video",
        "aspect_ratio": "1:1",
        "aspect_ratio_stated": True,
        "resolution": "1080p",
        "duration_s": 10,
        "audio": False,
        "watermark": True,
        "images": 2,
        "first_frame": True,
        "last_frame": True,
        "start_images": 3,
        "videos": 2,
        "prompt_chars": 36,
        "image_markers": 2,
        "dangling_image_markers": 1,
    }
    assert set(parsed.fields) == set(FIELD_NAMES) - {"video_list"}
    assert [medium.field for medium in parsed.media] == [
        "image_urls[0]",
        "image_urls[1]",
        "first_frame_image",
        "last_frame_image",
        "video_urls[0]",
        "video_list[0].video_url",
    ]


@pytest.mark.parametrize("resolution", ["4K", "4k", "720P", "1080p"])
def test_the_case_of_a_resolution_does_not_matter(resolution: str) -> None:
    """The page writes both `720P` and `720p`."""
    assert parse(video(resolution=resolution)).facts["resolution"] == resolution.lower()


@pytest.mark.parametrize(
    ("fields", "code", "field", "remedy"),
    [
        ({"resoluton": "4k"}, "unknown_field", "resoluton", "did you mean 'resolution'?"),
        ({"Duration": 5}, "unknown_field", "Duration", "did you mean 'duration'?"),
        ({"zzzzzz": 5}, "unknown_field", "zzzzzz", "use one of: model, action"),
        ({"duration": "5"}, "wrong_type", "duration", "must be a whole number, got '5'"),
        ({"duration": 5.0}, "wrong_type", "duration", "must be a whole number, got 5.0"),
        ({"duration": 5.5}, "wrong_type", "duration", "must be a whole number, got 5.5"),
        ({"duration": True}, "wrong_type", "duration", "must be a whole number, got true"),
        ({"audio": 1}, "wrong_type", "audio", "must be true or false, got 1"),
        ({"audio": "true"}, "wrong_type", "audio", "must be true or false, got 'true'"),
        ({"prompt": ["x"]}, "wrong_type", "prompt", "must be text, got a list"),
        ({"image_urls": "u"}, "wrong_type", "image_urls", "must be a list, got 'u'"),
        ({"image_urls": ["u", 5]}, "wrong_type", "image_urls[1]", "must be text, got 5"),
        ({"image_urls": [None]}, "wrong_type", "image_urls[0]", "must be text, got null"),
        ({"image_urls": [""]}, "wrong_type", "image_urls[0]", "must be non-empty text, got ''"),
        ({"first_frame_image": ""}, "wrong_type", "first_frame_image", "must be non-empty text, got ''"),
        ({"video_list": ["u"]}, "wrong_type", "video_list[0]", "must be an object"),
        ({"video_list": [{}]}, "wrong_type", "video_list[0].video_url", "is required; add it"),
        (
            {"video_list": [{"video_url": "u", "refer_type": "style"}]},
            "wrong_type",
            "video_list[0].refer_type",
            "must be base or feature, got 'style'",
        ),
        (
            {"video_list": [{"video_url": "u", "keep_original_sound": True}]},
            "wrong_type",
            "video_list[0].keep_original_sound",
            "must be text, got true",
        ),
        (
            {"video_list": [{"video_url": "u", "refer_typ": "base"}]},
            "unknown_field",
            "video_list[0].refer_typ",
            "did you mean 'refer_type'?",
        ),
    ],
)
def test_an_invalid_field_is_refused_by_name(
    fields: dict[str, Any], code: str, field: str, remedy: str
) -> None:
    """A misspelt field or a value of another type never becomes a default."""
    with pytest.raises(WireFormatError) as caught:
        parse(video(**fields))
    error = caught.value
    (violation,) = error.violations
    assert (error.wire_format, error.field) == ("tasks", field)
    assert (violation.code, violation.field) == (code, field)
    assert remedy in violation.message
    assert violation.message == str(error)


def test_every_violation_is_reported_at_once() -> None:
    """The error has one violation for every invalid field."""
    with pytest.raises(WireFormatError) as caught:
        parse({"model": 5, "duraton": 5, "audio": "no"})
    assert [violation.field for violation in caught.value.violations] == ["model", "duraton", "audio"]


def test_unknown_fields_can_be_allowed() -> None:
    """Allowed unknown fields are ignored, but a known field of the wrong type is still refused."""
    assert parse(video(seed=7), allow_unknown=True) == parse(video())
    with pytest.raises(WireFormatError):
        parse(video(seed=7, duration="5"), allow_unknown=True)


def test_reading_does_not_change_the_payload() -> None:
    """The payload is equal before and after."""
    payload = video(video_list=[{"video_url": "u"}], image_urls=["a"], resolution="4K")
    before = repr(payload)
    parse(payload)
    assert repr(payload) == before


def test_an_amend_without_changes_keeps_every_byte() -> None:
    """The order, the spelling and all fields stay as the caller wrote them."""
    payload = {"prompt": "紙の船", "model": "kling-v3", "resolution": "4K", "watermark": None, "seed": 7}
    assert json.dumps(amend(payload, {})) == json.dumps(payload)


@pytest.mark.parametrize(
    "changes", [{"duration_s": 10}, {"resolution": "1080p"}, {"audio": True}, {"model": "kling-v3-omni"}]
)
def test_an_amended_payload_parses_like_the_original_with_the_change(changes: dict[str, Any]) -> None:
    """Only the field of the setting differs, and a new setting is added last."""
    payload = video(resolution="720P", image_urls=["a"])
    assert parse(amend(payload, changes)).facts == parse(payload).facts | changes
    assert list(amend(payload, {"audio": True})) == [*payload, "audio"]


def test_responses_are_read() -> None:
    """Submit and status responses give the task, its state and its charge."""
    submitted = read_task({"task_id": "t1", "model": "kling-v3", "status": "queued", "progress": ""})
    assert submitted == Task("t1", "queued", model="kling-v3")
    done = read_task({"task_id": "t1", "status": "completed", "cost": 357000})
    assert (done.state, done.charge) == ("succeeded", charge(("357000", "quota")))
    assert read_task({"task_id": "t1", "status": "new"}).state is None
    unreadable = read_task({"task_id": "t1", "cost": 0.5})
    assert unreadable.charge == charge(problem="cost is 0.5, which is not an exact amount")


@pytest.mark.parametrize("cost", [Decimal("0.3213"), "160650.5"])
def test_a_fraction_of_a_quota_unit_is_not_counted(cost: object) -> None:
    """It may be an amount of money, which would count as almost nothing."""
    problem = f"cost is {cost}, which is not a whole number of units and may be an amount of money"
    assert read_task({"task_id": "t1", "status": "completed", "cost": cost}).charge == charge(problem=problem)
