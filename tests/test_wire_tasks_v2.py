"""Wire format `tasks_v2`: reading payloads, the rules of the API, and the provider's two price lists."""

import copy
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kling_pricing import (
    CapabilityError,
    PriceBook,
    PriceNotFoundError,
    TableError,
    WireFormatError,
    check,
    load_price_book,
    quote,
)
from kling_pricing.quoting.engine import price
from kling_pricing.quoting.intake import Intake, choose_format
from kling_pricing.wire.formats.tasks_v2 import FIELD_NAMES, amend, parse, read_task
from kling_pricing.wire.task import Task
from tests.charges import charge
from tests.conftest import AT, bundled

EXAMPLES = Path(__file__).parent.parent / "examples" / "requests" / "tasks_v2"
FIRST_LIST = bundled("prices", "qingbo-ai", "2026-06-19.yaml")
FIRST_DAY = datetime(2026, 6, 19, tzinfo=UTC)
SECOND_DAY = datetime(2026, 9, 19, tzinfo=UTC)
JUST_BEFORE = timedelta(microseconds=1)
URL = "https://example.com/v.mp4"
REFERENCE: dict[str, Any] = {"video_urls": [URL]}
SOUND: dict[str, Any] = {"generate_audio": True}
SHOTS = [{"index": 1, "prompt": "bow", "duration": 2}, {"index": 2, "prompt": "stern", "duration": 3}]
CUSTOM: dict[str, Any] = {"multi_shot": True, "shot_type": "customize"}


def v2(model: str = "kling-v3", **fields: Any) -> dict[str, Any]:
    """Returns a payload of 5 seconds; a field that is None is left out."""
    payload = {"model": model, "prompt": "a paper boat in the rain", "duration": 5, **fields}
    return {name: value for name, value in payload.items() if value is not None}


def edit(model: str = "kling-v3-omni", **fields: Any) -> dict[str, Any]:
    """Returns a payload that edits one video."""
    return v2(model, **({"action": "edit", "duration": 0} | REFERENCE | fields))


def motion(model: str = "kling-v3-motion-control", **fields: Any) -> dict[str, Any]:
    """Returns a motion control payload whose character's orientation follows the video."""
    basis = {"duration": 0, "image_urls": ["a"], "character_orientation": "video"} | REFERENCE
    return v2(model, **(basis | fields))


def violations_of(payload: dict[str, Any], **arguments: Any) -> list[tuple[str, str, Any]]:
    """Returns the code, field and value of every violation."""
    violations = check(payload, wire_format="tasks_v2", at=AT, **arguments)
    return [(violation.code, violation.field, violation.value) for violation in violations]


# Reading


def test_only_given_fields_are_kept() -> None:
    """A null field counts as left out, and neither becomes a default."""
    bare = parse({"model": "kling-v3", "prompt": "boat"})
    assert bare == parse(
        {"model": "kling-v3", "prompt": "boat", "duration": None, "multi_prompt": None, "n": None}
    )
    assert bare.facts == {"model": "kling-v3", "prompt_chars": 4}
    assert bare.fields == {"model": "model", "prompt": "prompt"}
    assert parse({"duration": 0}).facts == {"duration_s": 0}


def test_every_documented_field_is_read() -> None:
    """Each documented field becomes facts whose names do not depend on the API."""
    parsed = parse(
        {
            "model": "kling-v3-omni",
            "action": "edit",
            "prompt": "like <<<image_1>>> and <<<image_7>>>",
            "negative_prompt": "fog",
            "n": 1,
            "resolution": "1080P",
            "duration": 6,
            "aspect_ratio": "1:1",
            "generate_audio": False,
            "watermark": True,
            "image_urls": ["a", "b"],
            "first_frame_image": "c",
            "last_frame_image": "d",
            "image_with_roles": [{"url": "e", "role": "reference"}],
            "video_urls": ["f"],
            "keep_original_sound": "no",
            "character_orientation": "image",
            "multi_shot": True,
            "shot_type": "intelligence",
            "multi_prompt": [
                {"index": 1, "prompt": "bow", "duration": 2},
                {"index": 3, "prompt": "stern", "duration": 3},
            ],
            "element_list": [{"name": "boat", "images": ["g", "h"]}, {"images": ["i", "j", "k"]}],
            "callback_url": "https://example.com/hook",
            "callback_events": ["completed"],
        }
    )
    assert parsed.facts == {
        "model": "kling-v3-omni",
        "action": "edit",
        "prompt_chars": 36,
        "image_markers": 2,
        "dangling_image_markers": 1,
        "negative_prompt_chars": 3,
        "calls": 1,
        "resolution": "1080p",
        "duration_s": 6,
        "aspect_ratio": "1:1",
        "aspect_ratio_stated": True,
        "audio": False,
        "watermark": True,
        "images": 5,
        "first_frame": True,
        "last_frame": True,
        "videos": 1,
        "orientation": "image",
        "multi_shot": True,
        "shot_type": "intelligence",
        "shots": 2,
        "shots_excess_s": -1,
        "misnumbered_shots": 1,
        "shortest_shot_s": 2,
        "longest_shot_chars": 5,
        "elements": 2,
        "fewest_element_images": 2,
        "most_element_images": 3,
    }
    assert parsed.fields == FIELD_NAMES
    assert [medium.field for medium in parsed.media] == [
        "image_urls[0]",
        "image_urls[1]",
        "first_frame_image",
        "last_frame_image",
        "image_with_roles[0].url",
        "video_urls[0]",
    ]


def test_images_with_roles_are_frames_or_references() -> None:
    """A role makes an image the first or the last frame, as the fields of those names do."""
    roles = [{"url": "a", "role": "first_frame"}, {"url": "b", "role": "last_frame"}]
    facts = parse(v2(image_with_roles=roles)).facts
    assert (facts["images"], facts["first_frame"], facts["last_frame"]) == (2, True, True)
    facts = parse(v2(image_with_roles=[{"url": "a", "role": "reference"}])).facts
    assert (facts["images"], facts["first_frame"], facts["last_frame"]) == (1, False, False)


def test_the_image_count_of_an_element_without_a_list_is_unknown() -> None:
    """Such an element may have any number of images, so neither the fewest nor the most is known."""
    facts = parse(v2(element_list=[{"images": ["a", "b"]}, {"name": "boat"}])).facts
    assert facts["elements"] == 2
    assert "fewest_element_images" not in facts
    quoted = quote(v2(element_list=[{"name": "boat"}]), wire_format="tasks_v2", at=AT)
    assert quoted.total == Decimal("0.378")
    assert [note.code for note in quoted.notes if note.code in {"not_checked", "range"}] == ["not_checked"]


@pytest.mark.parametrize(
    ("fields", "code", "field", "remedy"),
    [
        ({"resoluton": "4k"}, "unknown_field", "resoluton", "did you mean 'resolution'?"),
        ({"extra": {"mode": "pro"}}, "unknown_field", "extra", "unknown field 'extra'"),
        ({"audio": True}, "unknown_field", "audio", "unknown field 'audio'"),
        ({"video_list": []}, "unknown_field", "video_list", "unknown field 'video_list'"),
        ({"duration": "5"}, "wrong_type", "duration", "must be a whole number, got '5'"),
        ({"duration": 5.0}, "wrong_type", "duration", "must be a whole number, got 5.0"),
        ({"duration": True}, "wrong_type", "duration", "must be a whole number, got true"),
        ({"n": "1"}, "wrong_type", "n", "must be a whole number, got '1'"),
        ({"generate_audio": "true"}, "wrong_type", "generate_audio", "must be true or false, got 'true'"),
        ({"multi_shot": 1}, "wrong_type", "multi_shot", "must be true or false, got 1"),
        ({"action": "reference"}, "wrong_type", "action", "must be generate or edit, got 'reference'"),
        ({"action": "motion_control"}, "wrong_type", "action", "must be generate or edit"),
        ({"image_urls": "u"}, "wrong_type", "image_urls", "must be a list, got 'u'"),
        ({"image_urls": ["u", 5]}, "wrong_type", "image_urls[1]", "must be text, got 5"),
        ({"video_urls": [""]}, "wrong_type", "video_urls[0]", "must be non-empty text, got ''"),
        ({"keep_original_sound": True}, "wrong_type", "keep_original_sound", "must be text, got true"),
        ({"keep_original_sound": "on"}, "wrong_type", "keep_original_sound", "must be yes or no"),
        ({"character_orientation": "left"}, "wrong_type", "character_orientation", "must be image or video"),
        ({"shot_type": "custom"}, "wrong_type", "shot_type", "must be customize or intelligence"),
        ({"multi_prompt": []}, "wrong_type", "multi_prompt", "a list of at least one shot"),
        ({"multi_prompt": ["bow"]}, "wrong_type", "multi_prompt[0]", "must be an object"),
        (
            {"multi_prompt": [{"index": 1, "prompt": "bow"}]},
            "wrong_type",
            "multi_prompt[0].duration",
            "is required; add it",
        ),
        (
            {"multi_prompt": [{"index": 1, "prompt": "bow", "duration": "5"}]},
            "wrong_type",
            "multi_prompt[0].duration",
            "must be a whole number, got '5'",
        ),
        (
            {"image_with_roles": [{"url": "u", "role": "middle"}]},
            "wrong_type",
            "image_with_roles[0].role",
            "must be first_frame, last_frame or reference, got 'middle'",
        ),
        (
            {"image_with_roles": [{"role": "reference"}]},
            "wrong_type",
            "image_with_roles[0].url",
            "is required; add it",
        ),
        ({"element_list": ["boat"]}, "wrong_type", "element_list[0]", "must be an object"),
    ],
)
def test_an_invalid_field_is_refused_by_name(
    fields: dict[str, Any], code: str, field: str, remedy: str
) -> None:
    """A misspelt field or a value of another type never becomes a default."""
    with pytest.raises(WireFormatError) as caught:
        parse(v2(**fields))
    error = caught.value
    (violation,) = error.violations
    assert (error.wire_format, error.field) == ("tasks_v2", field)
    assert (violation.code, violation.field) == (code, field)
    assert remedy in violation.message


def test_unknown_fields_can_be_allowed() -> None:
    """Allowed unknown fields are ignored, but a known field of the wrong type is still refused."""
    assert parse(v2(extra={}), allow_unknown=True) == parse(v2())
    with pytest.raises(WireFormatError):
        parse(v2(extra={}, duration="5"), allow_unknown=True)


@pytest.mark.parametrize(
    ("payload", "provider", "wire_format", "assumed"),
    [
        (v2("kling-v2-6"), None, "tasks_v2", False),
        (v2(generate_audio=False), None, "tasks_v2", False),
        (v2(), "qingbo-ai", "tasks_v2", False),
        (v2(), None, "tasks", True),
        (v2(audio=True), None, "tasks", False),
    ],
)
def test_the_fields_or_the_provider_decide_the_wire_format(
    book: PriceBook,
    payload: dict[str, Any],
    provider: str | None,
    wire_format: str,
    assumed: bool,  # noqa: FBT001
) -> None:
    """Model names and fields of its own come first, then the provider; a bare payload has the older format."""
    assert choose_format(payload, book, provider) == (wire_format, assumed)


# Amending

shots = st.lists(st.integers(1, 5), min_size=1, max_size=6).map(
    lambda lengths: [
        {"index": place, "prompt": "x", "duration": length} for place, length in enumerate(lengths, 1)
    ]
)
payloads = st.fixed_dictionaries(
    {
        "prompt": st.sampled_from(["a boat", "紙の船 <<<image_1>>>"]),
        "model": st.sampled_from(["kling-v3", "x"]),
    },
    optional={
        "duration": st.none() | st.integers(0, 16),
        "resolution": st.sampled_from(["720p", "1080P", "4K"]),
        "generate_audio": st.none() | st.booleans(),
        "watermark": st.booleans(),
        "image_urls": st.lists(st.just("u"), max_size=3),
        "image_with_roles": st.lists(st.just({"url": "u", "role": "last_frame"}), max_size=2),
        "video_urls": st.lists(st.just("v"), max_size=2),
        "element_list": st.lists(st.just({"images": ["a", "b"]}), max_size=2),
    },
)
changes = st.fixed_dictionaries(
    {},
    optional={
        "model": st.sampled_from(["kling-v3-omni", "kling-v2-6"]),
        "duration_s": st.integers(0, 15),
        "resolution": st.sampled_from(["720p", "1080p"]),
        "audio": st.booleans(),
    },
)


@given(payloads, changes)
def test_an_amended_payload_parses_like_the_original_with_the_change(
    payload: dict[str, Any], change: dict[str, Any]
) -> None:
    """Only the fields of the settings differ, the order stays, and the original payload is not changed."""
    before = copy.deepcopy(payload)
    amended = amend(payload, change)
    assert parse(amended).facts == parse(payload).facts | change
    assert list(amended)[: len(payload)] == list(payload)
    touched = {FIELD_NAMES[name] for name in change}
    assert {name: value for name, value in amended.items() if name not in touched} == {
        name: value for name, value in payload.items() if name not in touched
    }
    assert payload == before


@given(payloads, shots, st.integers(0, 15))
def test_the_length_of_a_multi_shot_request_is_not_changed(
    payload: dict[str, Any], shots: list[dict[str, Any]], duration: int
) -> None:
    """A request with shots accepts every other change; its duration changes only together with its shots."""
    payload = {**payload, "multi_prompt": shots}
    assert parse(amend(payload, {"audio": True})).facts == parse(payload).facts | {"audio": True}
    if duration == payload.get("duration"):
        assert amend(payload, {"duration_s": duration}) == payload
    else:
        with pytest.raises(
            WireFormatError,
            match=r"as long as its shots; change the durations in multi_prompt together with duration$",
        ):
            amend(payload, {"duration_s": duration})


def test_an_amend_without_changes_keeps_every_byte() -> None:
    """The order, the spelling and all fields stay as the caller wrote them, and no nested object is shared."""
    payload = v2(resolution="1080P", prompt="紙の船", multi_prompt=SHOTS, extra={"seed": 7}) | {"n": None}
    amended = amend(payload, {})
    assert json.dumps(amended) == json.dumps(payload)
    assert amended["multi_prompt"][0] is not payload["multi_prompt"][0]
    assert amend(payload, {"resolution": "720p"})["resolution"] == "720P"


def test_responses_are_read() -> None:
    """Submit and status responses give the task, its state and its charge."""
    submitted = read_task({"task_id": "t1", "model": "kling-v3", "status": "queued", "progress": ""})
    assert submitted == Task("t1", "queued", model="kling-v3")
    done = read_task({"task_id": "t1", "status": "completed", "cost": 189000})
    assert (done.state, done.charge) == ("succeeded", charge(("189000", "quota")))
    assert read_task({"task_id": "t1", "status": "failed", "cost": 0}).charge == charge(("0", "quota"))
    assert read_task({"task_id": "t1", "status": "new"}).state is None
    unreadable = read_task({"task_id": "t1", "cost": 0.5})
    assert unreadable.charge == charge(problem="cost is 0.5, not an exact amount")


# What the API accepts

DURATION_LIMIT = "duration_s_limit"


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (v2(duration=None), [("duration_s_required", "duration", None)]),
        (v2(prompt=None), [("prompt_required", "prompt", None)]),
        (v2(prompt=""), [("prompt_chars_limit", "prompt", 0)]),
        (v2(n=1), []),
        (v2(n=2), [("calls_limit", "n", 2)]),
        (v2(n=0), [("calls_limit", "n", 0)]),
        (v2("kling-v2.6"), [("unknown_model", "model", "kling-v2.6")]),
        *[
            (v2(model, duration=duration), [] if valid else [(code, "duration", duration)])
            for model, code in [
                ("kling-v3", DURATION_LIMIT),
                ("kling-v3-omni", "generate_duration"),
                ("kling-3.0-turbo", DURATION_LIMIT),
            ]
            for duration, valid in [(0, False), (2, False), (3, True), (15, True), (16, False)]
        ],
        *[
            (v2(model, duration=duration), [] if valid else [(code, "duration", duration)])
            for model, code in [("kling-v2-6", DURATION_LIMIT), ("kling-video-o1", "generate_duration")]
            for duration, valid in [(0, False), (4, False), (5, True), (7, False), (10, True), (11, False)]
        ],
        *[
            (v2(model, resolution="4K"), [("resolution_limit", "resolution", "4k")])
            for model in ("kling-v3", "kling-v3-omni", "kling-video-o1", "kling-v2-6", "kling-3.0-turbo")
        ],
        (motion(resolution="4k"), [("resolution_limit", "resolution", "4k")]),
        (v2(resolution="1080P"), []),
        # actions
        (v2(action="generate"), []),
        (v2(action="edit", duration=5), [("action_limit", "action", "edit")]),
        (edit(), []),
        (edit("kling-video-o1"), []),
        (edit(duration=5), [("edit_duration", "duration", 5)]),
        (edit("kling-video-o1", duration=5), [("edit_duration", "duration", 5)]),
        (edit(video_urls=None), [("edit_video", "video_urls", 0)]),
        (edit("kling-video-o1", video_urls=None), [("edit_video", "video_urls", 0)]),
        (edit(image_urls=["a"]), [("edit_images", "image_urls", 1)]),
        (edit("kling-video-o1", image_urls=["a"]), [("edit_images", "image_urls", 1)]),
        (edit(video_urls=["v", "w"]), [("videos_limit", "video_urls", 2)]),
        (edit(generate_audio=True), [("audio_video_reference", "generate_audio", True)]),
        # audio
        (v2("kling-v2-6", resolution="1080p", **SOUND), []),
        (v2("kling-v2-6", **SOUND), [("audio_resolution", "resolution", "720p")]),
        (
            v2("kling-v2-6", resolution="1080p", image_urls=["a", "b"], **SOUND),
            [("audio_two_frames", "generate_audio", True)],
        ),
        (v2("kling-v2-6", resolution="1080p", image_urls=["a"], **SOUND), []),
        (v2("kling-v3", image_urls=["a", "b"], **SOUND), []),
        (
            v2("kling-v3-omni", **SOUND, **REFERENCE),
            [("audio_video_reference", "generate_audio", True)],
        ),
        (v2("kling-video-o1", generate_audio=False), [("field_not_taken", "generate_audio", False)]),
        (v2("kling-3.0-turbo", generate_audio=True), [("field_not_taken", "generate_audio", True)]),
        # images
        (v2("kling-3.0-turbo", image_urls=["a"]), []),
        (v2("kling-3.0-turbo", image_urls=["a", "b"]), [("images_limit", "image_urls", 2)]),
        (v2("kling-3.0-turbo", aspect_ratio="1:1"), []),
        (
            v2("kling-3.0-turbo", image_urls=["a"], aspect_ratio="1:1"),
            [("first_frame_aspect_ratio", "aspect_ratio", True)],
        ),
        *[
            (v2(model, resolution="1080p", image_urls=["u"] * count), expected)
            for model in ("kling-v3", "kling-v3-omni", "kling-video-o1", "kling-v2-6")
            for count, expected in [(2, []), (3, [("images_limit", "image_urls", 3)])]
        ],
        (v2("kling-v2-6", image_urls=["a", "b"]), [("two_frames_resolution", "resolution", "720p")]),
        (v2("kling-v2-6", image_urls=["a"]), []),
        *[
            (v2(model, image_urls=["u"] * count, **REFERENCE), expected)
            for model in ("kling-v3-omni", "kling-video-o1")
            for count, expected in [(1, []), (2, [("video_images", "image_urls", 2)])]
        ],
        (v2("kling-v3-omni", first_frame_image="a", last_frame_image="b"), []),
        (
            v2("kling-video-o1", first_frame_image="a", last_frame_image="b", image_urls=["c"]),
            [("images_limit", "image_urls", 3)],
        ),
        (v2("kling-v3", first_frame_image="a"), [("field_not_taken", "first_frame_image", True)]),
        (v2("kling-v3-omni", image_with_roles=[{"url": "a", "role": "first_frame"}]), []),
        (
            v2("kling-v3", image_with_roles=[{"url": "a", "role": "reference"}]),
            [("field_not_taken", "image_with_roles", None)],
        ),
        # videos
        (v2("kling-v3", video_urls=["v"]), [("field_not_taken", "video_urls", 1)]),
        (v2("kling-v3-omni", video_urls=["v", "w"]), [("videos_limit", "video_urls", 2)]),
        (v2("kling-video-o1", **REFERENCE, keep_original_sound="no"), []),
        # multi-shot
        (v2(**CUSTOM, multi_prompt=SHOTS), []),
        (v2("kling-v3-omni", **CUSTOM, multi_prompt=SHOTS), []),
        (v2(multi_shot=True, shot_type="intelligence"), []),
        (v2(multi_shot=True), [("multi_shot_type", "shot_type", "")]),
        (v2(multi_prompt=SHOTS), [("shots_multi_shot", "multi_shot", False)]),
        (v2(duration=6, **CUSTOM, multi_prompt=SHOTS), [("shots_duration", "multi_prompt", -1)]),
        (v2(duration=4, **CUSTOM, multi_prompt=SHOTS), [("shots_duration", "multi_prompt", 1)]),
        (
            v2(**CUSTOM, multi_prompt=[SHOTS[0], {**SHOTS[1], "index": 3}]),
            [("shots_numbered", "multi_prompt", 1)],
        ),
        *[
            (
                v2(
                    duration=count,
                    **CUSTOM,
                    multi_prompt=[{"index": n + 1, "prompt": "x", "duration": 1} for n in range(count)],
                ),
                expected,
            )
            for count, expected in [(6, []), (7, [("shots_limit", "multi_prompt", 7)])]
        ],
        (
            v2("kling-v2-6", **CUSTOM),
            [("field_not_taken", "multi_shot", True), ("field_not_taken", "shot_type", "customize")],
        ),
        # elements
        *[
            (v2(model, element_list=[{"images": ["u"] * size}] * count), expected)
            for model in ("kling-v3", "kling-v3-omni")
            for count, size, expected in [
                (3, 2, []),
                (3, 4, []),
                (4, 2, [("elements_limit", "element_list", 4)]),
                (1, 1, [("element_images", "element_list", 1)]),
                (1, 5, [("element_images", "element_list", 5)]),
            ]
        ],
        (v2("kling-video-o1", element_list=[]), [("field_not_taken", "element_list", 0)]),
        # fields that only some models have
        (v2("kling-video-o1", watermark=True), [("field_not_taken", "watermark", True)]),
        (v2("kling-3.0-turbo", watermark=True), []),
        (v2("kling-v2-6", negative_prompt="fog"), []),
        (v2("kling-3.0-turbo", negative_prompt="fog"), [("field_not_taken", "negative_prompt", None)]),
        (v2("kling-video-o1", negative_prompt="fog"), [("field_not_taken", "negative_prompt", None)]),
        # motion control
        (motion(), []),
        (motion("kling-v2-6-motion-control", character_orientation="image"), []),
        (motion(action="generate", watermark=True, keep_original_sound="yes"), []),
        (motion(action="edit"), [("motion_control_action", "action", "edit")]),
        (motion(duration=None), [("duration_s_required", "duration", None)]),
        (motion(duration=5), [("motion_control_duration", "duration", 5)]),
        (motion(image_urls=None), [("motion_control_image", "image_urls", 0)]),
        (motion(image_urls=["a", "b"]), [("motion_control_image", "image_urls", 2)]),
        (motion(video_urls=None), [("motion_control_video", "video_urls", 0)]),
        (motion(video_urls=["v", "w"]), [("motion_control_video", "video_urls", 2)]),
        (
            motion(character_orientation=None),
            [("motion_control_orientation", "character_orientation", "")],
        ),
        (motion(aspect_ratio="1:1"), [("field_not_taken", "aspect_ratio", "1:1")]),
        (motion(generate_audio=False), [("field_not_taken", "generate_audio", False)]),
        (v2(character_orientation="image"), [("field_not_taken", "character_orientation", "image")]),
    ],
)
def test_exactly_the_broken_rules_are_reported(
    payload: dict[str, Any], expected: list[tuple[str, str, Any]]
) -> None:
    """Every broken rule is reported with the field of the payload."""
    assert violations_of(payload) == expected


@pytest.mark.parametrize(
    ("payload", "code", "shortest", "longest"),
    [
        (v2("kling-v3-omni", **REFERENCE), "video_length", "3", "10"),
        (v2("kling-video-o1", **REFERENCE), "video_length", "3", "10"),
        (edit(), "video_length", "3", "10"),
        (edit("kling-video-o1"), "video_length", "3", "10"),
        (motion(character_orientation="image"), "image_orientation_length", "3", "10"),
        (motion(), "video_orientation_length", "3", "30"),
        (motion("kling-v2-6-motion-control"), "video_orientation_length", "3", "30"),
    ],
)
def test_the_length_of_the_video_is_checked(
    payload: dict[str, Any], code: str, shortest: str, longest: str
) -> None:
    """Each limit is accepted, 0.01 seconds past it is refused, and an unknown length is noted."""
    hundredth = Decimal("0.01")
    for length in (Decimal(shortest), Decimal(longest)):
        assert violations_of(payload, media={URL: {"length_s": length}}) == []
    for length in (Decimal(shortest) - hundredth, Decimal(longest) + hundredth):
        assert violations_of(payload, media={URL: {"length_s": length}}) == [(code, "video_urls[0]", length)]
    assert "not_checked" in [note.code for note in quote(payload, wire_format="tasks_v2", at=AT).notes]


@pytest.mark.parametrize(
    ("payload", "suggestions"),
    [
        (v2("kling-v3-omni", duration=2), [{"duration": 3}, {"duration": 4}, {"duration": 5}]),
        (v2("kling-video-o1", duration=9), [{"duration": 10}, {"duration": 5}]),
        (edit(duration=5), [{"duration": 0}, {"action": "generate"}]),
        (motion(duration=5), [{"duration": 0}]),
        (v2("kling-v2-6", **SOUND), [{"resolution": "1080p"}, {"generate_audio": False}]),
    ],
)
def test_the_nearest_valid_requests_are_suggested(
    payload: dict[str, Any], suggestions: list[dict[str, Any]]
) -> None:
    """Limits of one action are respected too."""
    with pytest.raises(CapabilityError) as caught:
        quote(payload, wire_format="tasks_v2", at=AT)
    assert list(caught.value.suggestions) == suggestions


# QingBo's price lists for api.qingbo.ai, in USD per second.
# Columns: model, resolution, fields that select the tier, tier, price.

BOTH = [
    ("kling-v3", "720p", {}, "silent", "0.0756"),
    ("kling-v3", "1080p", {}, "silent", "0.1008"),
    ("kling-v3", "720p", SOUND, "audio", "0.1134"),
    ("kling-v3", "1080p", SOUND, "audio", "0.1512"),
    ("kling-v3-omni", "720p", {}, "silent", "0.0756"),
    ("kling-v3-omni", "1080p", {}, "silent", "0.1008"),
    ("kling-v3-omni", "720p", SOUND, "audio", "0.1008"),
    ("kling-v3-omni", "1080p", SOUND, "audio", "0.126"),
    ("kling-v3-omni", "720p", REFERENCE, "video_reference", "0.1134"),
    ("kling-v3-omni", "1080p", REFERENCE, "video_reference", "0.1512"),
    ("kling-video-o1", "720p", {}, "silent", "0.0756"),
    ("kling-video-o1", "1080p", {}, "silent", "0.1008"),
    ("kling-video-o1", "720p", REFERENCE, "video_reference", "0.1134"),
    ("kling-video-o1", "1080p", REFERENCE, "video_reference", "0.1512"),
    ("kling-3.0-turbo", "720p", {}, "silent", "0.1287"),
    ("kling-3.0-turbo", "1080p", {}, "silent", "0.1611"),
]
FIRST = [
    *BOTH,
    ("kling-v3", "4k", {}, "silent", "0.48213"),
    ("kling-v3", "4k", SOUND, "audio", "0.48213"),
    ("kling-v3-omni", "4k", {}, "silent", "0.48213"),
    ("kling-v3-omni", "4k", SOUND, "audio", "0.48213"),
    ("kling-v2-6", "720p", {}, "silent", "0.0414"),
    ("kling-v2-6", "1080p", {}, "silent", "0.070313"),
    ("kling-v2-6", "1080p", SOUND, "audio", "0.140625"),
    ("kling-v3-motion-control", "720p", {}, "motion_control", "0.11574"),
    ("kling-v3-motion-control", "1080p", {}, "motion_control", "0.15426"),
    ("kling-v2-6-motion-control", "720p", {}, "motion_control", "0.06426"),
    ("kling-v2-6-motion-control", "1080p", {}, "motion_control", "0.10287"),
]
SECOND = [
    *BOTH,
    ("kling-v2-6", "720p", {}, "silent", "0.0378"),
    ("kling-v2-6", "1080p", {}, "silent", "0.063"),
    ("kling-v2-6", "1080p", SOUND, "audio", "0.126"),
    ("kling-v3-motion-control", "720p", {}, "motion_control", "0.1134"),
    ("kling-v3-motion-control", "1080p", {}, "motion_control", "0.1512"),
    ("kling-v2-6-motion-control", "720p", {}, "motion_control", "0.063"),
    ("kling-v2-6-motion-control", "1080p", {}, "motion_control", "0.1008"),
]
GOLDEN = [
    *[("qingbo-ai/2026-06-19", (FIRST_DAY, SECOND_DAY - JUST_BEFORE), *row) for row in FIRST],
    *[("qingbo-ai/2026-09-19", (SECOND_DAY, AT), *row) for row in SECOND],
]


@pytest.mark.parametrize(("table", "instants", "model", "resolution", "switch", "tier", "unit_price"), GOLDEN)
def test_every_published_price_is_exact(
    book: PriceBook,
    table: str,
    instants: tuple[datetime, ...],
    model: str,
    resolution: str,
    switch: dict[str, Any],
    tier: str,
    unit_price: str,
) -> None:
    """The total is unit price x seconds at the first and the last instant of the table."""
    make = motion if tier == "motion_control" else v2
    payload = make(model, **({"resolution": resolution} | switch))
    media = {URL: {"length_s": "5.9"}}
    for at in instants:
        if resolution == "4k":  # the rules of today refuse it, but the older table still prices it
            assert violations_of(payload) == [("resolution_limit", "resolution", "4k")]
            request, _ = Intake(book=book, wire_format="tasks_v2").read(payload)
            quoted = price(book.table("qingbo-ai", at), request)
        else:
            quoted = quote(payload, provider="qingbo-ai", wire_format="tasks_v2", at=at, media=media)
        assert quoted.total == Decimal(unit_price) * 5
        assert (quoted.table.id, quoted.tier, quoted.resolution) == (table, tier, resolution)
        assert (quoted.unit_price, quoted.currency, quoted.unit) == (Decimal(unit_price), "USD", "second")


def test_the_tables_have_exactly_the_published_prices(book: PriceBook) -> None:
    """The lists have 27 and 23 prices, and so do the tables."""
    first, second = book.tables["qingbo-ai"]
    assert (len(first.rates), len(second.rates)) == (len(FIRST), len(SECOND)) == (27, 23)
    for table, rows in ((first, FIRST), (second, SECOND)):
        written = {(model, resolution, tier): Decimal(amount) for model, resolution, _, tier, amount in rows}
        assert {tuple(cell): rate.unit_price for cell, rate in table.rates.items()} == written
        assert table.hosts == ("api.qingbo.ai",)
        assert table.billing.failed_tasks == "refunded"
        assert table.billing.statement_unit is not None
        assert table.billing.statement_unit.per_currency_unit == 500000


@pytest.mark.parametrize(
    ("payload", "length", "total"),
    [
        (v2(), None, "0.378"),  # the docs' own example: quota 189000
        (v2("kling-v3-omni", resolution="1080p", **SOUND), None, "0.63"),
        (v2("kling-v3-omni", **REFERENCE), "9.9", "0.567"),  # 5 x 0.1134; the seconds of the video are free
        (motion(), "7.9", "0.7938"),  # 7 x 0.1134
        (motion("kling-v2-6-motion-control", resolution="1080p"), "30", "3.024"),  # 30 x 0.1008
        (edit(), "3.99", "0.3402"),  # 3 x 0.1134
        (edit("kling-video-o1", resolution="1080p"), "10", "1.512"),  # 10 x 0.1512
    ],
)
def test_worked_examples(payload: dict[str, Any], length: str | None, total: str) -> None:
    """The totals are worked out by hand; the length of a video is truncated to whole seconds."""
    media = {URL: {"length_s": length}} if length else None
    quoted = quote(payload, wire_format="tasks_v2", at=AT, media=media)
    assert quoted.total == Decimal(total)
    assert quoted.provider == "qingbo-ai"


def test_a_quote_matches_the_quota_in_the_docs() -> None:
    """0.378 USD at 500,000 quota per dollar is the 189000 of the docs' example."""
    quoted = quote(v2(), wire_format="tasks_v2", at=AT)
    unit = quoted.table.billing.statement_unit
    assert unit is not None
    assert quoted.total * unit.per_currency_unit == 189000


@pytest.mark.parametrize(
    ("payload", "minimum", "maximum"),
    [
        (edit(), "0.3402", "1.134"),  # 3 and 10 x 0.1134
        (motion(), "0.3402", "3.402"),  # 3 and 30 x 0.1134
        (motion(character_orientation="image"), "0.3402", "1.134"),
    ],
)
def test_without_the_length_of_the_video_the_quote_is_a_range(
    payload: dict[str, Any], minimum: str, maximum: str
) -> None:
    """It spans the shortest to the longest video that the API accepts, and has no single total."""
    quoted = quote(payload, wire_format="tasks_v2", at=AT)
    assert (quoted.minimum, quoted.maximum) == (Decimal(minimum), Decimal(maximum))
    (note,) = [note for note in quoted.notes if note.code == "range"]
    assert note.message.startswith("video_urls[0] decides the price")
    with pytest.raises(PriceNotFoundError, match=r"video_urls\[0\] decides the price and is not known"):
        _ = quoted.total


def test_a_reference_video_needs_no_length() -> None:
    """Its seconds are free, so the total is exact without it."""
    quoted = quote(v2("kling-v3-omni", element_list=[{}], **REFERENCE), wire_format="tasks_v2", at=AT)
    assert quoted.total == Decimal("0.567")
    assert "range" not in [note.code for note in quoted.notes]


def test_before_the_first_list_no_table_is_in_force() -> None:
    """A request from before the first known list is never priced by a later one."""
    with pytest.raises(PriceNotFoundError, match="no table of qingbo-ai is in force at 2026-06-18"):
        quote(v2(), wire_format="tasks_v2", at=FIRST_DAY - JUST_BEFORE)


def test_the_first_list_notes_unknown_price_changes() -> None:
    """From July 2026, a note says that prices changed on unknown days; the second list has no such note."""
    changes_begin = datetime(2026, 7, 1, tzinfo=UTC)

    def codes(at: datetime) -> set[str]:
        return {note.code for note in quote(v2(), wire_format="tasks_v2", at=at).notes}

    always = {"later_rules", "reference_video_seconds"}
    assert codes(changes_begin - JUST_BEFORE) >= always
    assert "prices_changed" not in codes(changes_begin - JUST_BEFORE)
    assert codes(changes_begin) >= {*always, "prices_changed"}
    assert codes(SECOND_DAY).isdisjoint({*always, "prices_changed"})


@pytest.mark.parametrize(
    ("old", "new", "key_path", "problem"),
    [
        (', why: "the API made', ', tier: audio, why: "the API made', "rates.kling-v3.4k.silent", "no request"),
        ("kling-v3, resolution: 4k", "kling-v3, resolution: 8k", "unreached[0]", "has no rate"),
        ("kling-v3, resolution: 4k", "kling-v3, resolution: 1080p", "unreached[0]", "tasks_v2 allows kling-v3"),
        (
            "    1080p: {silent: 0.1611}\n",
            "",
            "rates.kling-3.0-turbo.1080p.silent",
            "neither priced nor listed",
        ),
    ],
)
def test_only_unreachable_rates_can_be_listed_as_unreached(
    folder: Callable[..., Path], old: str, new: str, key_path: str, problem: str
) -> None:
    """Every such rate must be named exactly, and all other checks still apply."""
    text = FIRST_LIST.read_text(encoding="utf-8")
    assert old in text
    with pytest.raises(TableError, match=problem) as caught:
        load_price_book(folder({"prices/qingbo-ai/2026-06-19.yaml": text.replace(old, new, 1)}))
    assert caught.value.key_path == key_path


@pytest.mark.parametrize(
    ("name", "action", "tier", "total"),
    [
        ("text_to_video", "generate", "silent", "0.378"),  # 5 x 0.0756
        ("audio", "generate", "audio", "0.63"),  # 5 x 0.126
        ("multi_shot", "generate", "silent", "0.8064"),  # 8 x 0.1008
        ("edit", "edit", "video_reference", "1.0584"),  # 7 x 0.1512
        ("motion_control", "motion_control", "motion_control", "0.7938"),  # 7 x 0.1134
    ],
)
def test_the_shipped_examples_are_quoted(name: str, action: str, tier: str, total: str) -> None:
    """The totals are worked out by hand for videos of 7.9 seconds."""
    media = {f"https://example.com/{name}.mp4": {"length_s": "7.9"} for name in ("street", "dance")}
    text = (EXAMPLES / f"{name}.json").read_bytes()
    quoted = quote(text, wire_format="tasks_v2", at=AT, media=media)
    assert (quoted.action, quoted.tier, quoted.total) == (action, tier, Decimal(total))
