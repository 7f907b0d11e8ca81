"""Wire format `tasks_v2`: reading payloads, the rules of the API, and the provider's two price lists."""

import copy
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeAlias

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
from kling_pricing.quoting.format_choice import choose_format
from kling_pricing.wire.formats.tasks_v2 import FIELD_NAMES, amend, parse, read_task
from kling_pricing.wire.task import Task
from tests.charges import charge
from tests.conftest import AT, bundled

EXAMPLES = Path(__file__).parent.parent / "examples" / "requests" / "tasks_v2"
FIRST_LIST = bundled("prices", "qingbo-ai", "2026-06-19.yaml")
FIRST_DAY = datetime(2026, 6, 19, tzinfo=UTC)
LAUNCH = datetime(2026, 6, 24, tzinfo=UTC)
SEPTEMBER_4, SEPTEMBER_7, SEPTEMBER_19, SEPTEMBER_24 = (
    datetime(2026, 9, day, tzinfo=UTC) for day in (4, 7, 19, 24)
)
JUST_BEFORE = timedelta(microseconds=1)
URL = "https://example.com/v.mp4"
REFERENCE: dict[str, Any] = {"video_urls": [URL]}
SOUND: dict[str, Any] = {"generate_audio": True}
SHOTS = [{"index": 1, "prompt": "bow", "duration": 2}, {"index": 2, "prompt": "stern", "duration": 3}]
ELEMENT = {"name": "boat", "element_input_urls": ["a", "b"]}
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
            "element_list": [
                {"name": "boat", "description": "red", "element_input_urls": ["g", "h"]},
                {"name": "man", "element_input_urls": ["i", "j", "k"]},
            ],
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
        "references": 7,
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


def test_markers_name_the_images_of_one_field() -> None:
    """`<<<image_N>>>` counts in image_urls only, not in frames and images with roles."""
    frames: dict[str, Any] = {"first_frame_image": "b", "image_with_roles": [{"url": "c", "role": "reference"}]}
    facts = parse(v2(prompt="<<<image_1>>> and <<<image_2>>>", image_urls=["a"], **frames)).facts
    assert (facts["images"], facts["image_markers"], facts["dangling_image_markers"]) == (3, 2, 1)


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
        (
            {"element_list": [{"name": "boat"}]},
            "wrong_type",
            "element_list[0].element_input_urls",
            "is required; add it",
        ),
        (
            {"element_list": [{"element_input_urls": ["a", "b"], "voice": "7"}]},
            "unknown_field",
            "element_list[0].voice",
            "use one of: name, description, element_input_urls",
        ),
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
        "element_list": st.lists(st.just({"element_input_urls": ["a", "b"]}), max_size=2),
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
            match=r"is as long as all its shots together; change `duration` and the durations in multi_prompt "
            r"together$",
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
    in_usd = {"task_id": "t1", "status": "completed", "cost_usd": Decimal("0.378")}
    assert read_task(in_usd).charge == charge(("0.378", "USD"))
    assert read_task({**in_usd, "cost": 189000}).charge == charge(("189000", "quota"))
    assert read_task({**in_usd, "cost_usd": "much"}).charge == charge(
        problem="cost_usd is much, which is not an exact amount"
    )
    unreadable = read_task({"task_id": "t1", "cost": 0.5})
    assert unreadable.charge == charge(problem="cost is 0.5, which is not an exact amount")


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
            for model in ("kling-video-o1", "kling-v2-6", "kling-3.0-turbo")
        ],
        (v2(resolution="4k"), []),
        (v2("kling-v3-omni", resolution="4K"), []),
        (edit(resolution="4k"), []),
        *[
            (v2(model, aspect_ratio="4:3"), [("aspect_ratio_limit", "aspect_ratio", "4:3")])
            for model in ("kling-3.0-turbo", "kling-v3", "kling-v3-omni", "kling-video-o1", "kling-v2-6")
        ],
        *[
            (v2(model, image_urls=["a"], prompt="<<<image_2>>>"), [("dangling_image_marker", "prompt", 1)])
            for model in ("kling-v3-omni", "kling-video-o1")
        ],
        (v2("kling-v3", image_urls=["a"], prompt="<<<image_2>>>"), []),
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
            for model in ("kling-v3", "kling-video-o1", "kling-v2-6")
            for count, expected in [(2, []), (3, [("images_limit", "image_urls", 3)])]
        ],
        (v2("kling-v3-omni", image_urls=["u"] * 7), []),
        (v2("kling-v3-omni", image_urls=["u"] * 8), [("references_limit", "image_urls", 8)]),
        (v2("kling-v3-omni", image_urls=["u"] * 5, element_list=[ELEMENT] * 2), []),
        (
            v2("kling-v3-omni", image_urls=["u"] * 5, element_list=[ELEMENT] * 3),
            [("references_limit", "image_urls", 8)],
        ),
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
            (v2(model, element_list=[{"element_input_urls": ["u"] * size}] * count), expected)
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


@pytest.mark.parametrize(
    ("payload", "before", "after"),
    [
        (v2(resolution="4k"), ["resolution_4k"], []),
        (v2("kling-v3-omni", resolution="4k"), ["resolution_4k"], []),
        (v2("kling-v3-omni", image_urls=["u"] * 3), ["images_limit"], []),
        (v2("kling-v3-omni", image_urls=["u"] * 8), ["images_limit"], ["references_limit"]),
        (v2("kling-v3-omni", image_urls=["u"] * 2), [], []),
        (v2(image_urls=["u"] * 3), ["images_limit"], ["images_limit"]),
    ],
)
def test_4k_and_seven_images_are_accepted_from_their_day_on(
    payload: dict[str, Any], before: list[str], after: list[str]
) -> None:
    """Both came on 2026-09-24, at midnight in UTC, and a rule is judged at the instant of the quote."""

    def codes(at: datetime) -> list[str]:
        return [violation.code for violation in check(payload, wire_format="tasks_v2", at=at)]

    assert (codes(SEPTEMBER_24 - JUST_BEFORE), codes(SEPTEMBER_24)) == (before, after)


def test_a_request_before_4k_gets_a_suggestion_that_is_valid_then() -> None:
    """The error says from which day on 4k is offered."""
    with pytest.raises(CapabilityError, match="until 2026-09-24, resolution 4k was not available") as caught:
        quote(v2(resolution="4k"), provider="qingbo-ai", at=SEPTEMBER_24 - JUST_BEFORE)
    assert list(caught.value.suggestions) == [{"resolution": "1080p"}, {"resolution": "720p"}]


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (v2("kling-v3-omni", image_urls=["a"]), "first_image_marker"),
        (v2("kling-video-o1", image_urls=["a"]), "first_image_marker"),
        (v2("kling-v3", image_urls=["a"], prompt="<<<image_1>>>"), "image_markers_literal"),
        (v2("kling-v3", image_urls=["a"], aspect_ratio="1:1"), "aspect_ratio_ignored"),
    ],
)
def test_prompts_and_ratios_that_the_api_changes_are_noted(payload: dict[str, Any], code: str) -> None:
    """A plain request has none of these notes."""
    noted = {"first_image_marker", "image_markers_literal", "aspect_ratio_ignored"}

    def codes(payload: dict[str, Any]) -> set[str]:
        return noted & {note.code for note in quote(payload, provider="qingbo-ai", at=AT).notes}

    assert codes(payload) == {code}
    assert codes(v2("kling-v3-omni", image_urls=["a"], prompt="<<<image_1>>>")) == set()
    assert codes(v2(aspect_ratio="1:1")) == set()


# QingBo's price lists for api.qingbo.ai, in USD per second.
# Columns: model, resolution, fields that select the tier, tier, price.

Row: TypeAlias = tuple[str, str, dict[str, Any], str, str]

ALWAYS: list[Row] = [
    ("kling-v3", "720p", {}, "silent", "0.0756"),
    ("kling-v3", "1080p", {}, "silent", "0.1008"),
    ("kling-v3", "720p", SOUND, "audio", "0.1134"),
    ("kling-v3", "1080p", SOUND, "audio", "0.1512"),
    ("kling-v3-omni", "720p", {}, "silent", "0.0756"),
    ("kling-v3-omni", "1080p", {}, "silent", "0.1008"),
    ("kling-v3-omni", "720p", SOUND, "audio", "0.1008"),
    ("kling-v3-omni", "1080p", SOUND, "audio", "0.126"),
    ("kling-video-o1", "720p", {}, "silent", "0.0756"),
    ("kling-video-o1", "1080p", {}, "silent", "0.1008"),
]
REFERENCE_SINCE_SEPTEMBER_4 = [
    ("kling-v3-omni", "720p", REFERENCE, "video_reference", "0.1134"),
    ("kling-v3-omni", "1080p", REFERENCE, "video_reference", "0.1512"),
    ("kling-video-o1", "720p", REFERENCE, "video_reference", "0.1134"),
    ("kling-video-o1", "1080p", REFERENCE, "video_reference", "0.1512"),
]
REFERENCE_BEFORE = [
    ("kling-v3-omni", "720p", REFERENCE, "video_reference", "0.2268"),  # 2 x 0.1134
    ("kling-v3-omni", "1080p", REFERENCE, "video_reference", "0.3024"),  # 2 x 0.1512
    ("kling-video-o1", "720p", REFERENCE, "video_reference", "0.2268"),
    ("kling-video-o1", "1080p", REFERENCE, "video_reference", "0.3024"),
]
TURBO_BEFORE: list[Row] = [
    ("kling-3.0-turbo", "720p", {}, "silent", "0.112"),
    ("kling-3.0-turbo", "1080p", {}, "silent", "0.14"),
]
TURBO_SINCE_SEPTEMBER_7: list[Row] = [
    ("kling-3.0-turbo", "720p", {}, "silent", "0.1287"),
    ("kling-3.0-turbo", "1080p", {}, "silent", "0.1611"),
]
FOUR_K = [
    ("kling-v3", "4k", {}, "silent", "0.48213"),
    ("kling-v3", "4k", SOUND, "audio", "0.48213"),
    ("kling-v3-omni", "4k", {}, "silent", "0.48213"),
    ("kling-v3-omni", "4k", SOUND, "audio", "0.48213"),
]
V26_IN_JUNE = [
    ("kling-v2-6", "720p", {}, "silent", "0.0414"),
    ("kling-v2-6", "1080p", {}, "silent", "0.070313"),
    ("kling-v2-6", "1080p", SOUND, "audio", "0.140625"),
]
MOTION_1080P_IN_JUNE: list[Row] = [
    ("kling-v3-motion-control", "1080p", {}, "motion_control", "0.15426"),
    ("kling-v2-6-motion-control", "1080p", {}, "motion_control", "0.10287"),
]
MOTION_720P_SINCE_SEPTEMBER_4: list[Row] = [
    ("kling-v3-motion-control", "720p", {}, "motion_control", "0.1134"),
    ("kling-v2-6-motion-control", "720p", {}, "motion_control", "0.063"),
]
JUNE_19 = [
    *ALWAYS,
    *REFERENCE_BEFORE,
    *TURBO_BEFORE,
    *FOUR_K,
    *V26_IN_JUNE,
    *MOTION_1080P_IN_JUNE,
    ("kling-v3-motion-control", "720p", {}, "motion_control", "0.11574"),
    ("kling-v2-6-motion-control", "720p", {}, "motion_control", "0.06426"),
]
EARLY_SEPTEMBER = [
    *ALWAYS,
    *REFERENCE_SINCE_SEPTEMBER_4,
    *V26_IN_JUNE,
    *MOTION_1080P_IN_JUNE,
    *MOTION_720P_SINCE_SEPTEMBER_4,
]
LATE_SEPTEMBER = [
    *ALWAYS,
    *REFERENCE_SINCE_SEPTEMBER_4,
    *TURBO_SINCE_SEPTEMBER_7,
    ("kling-v2-6", "720p", {}, "silent", "0.0378"),
    ("kling-v2-6", "1080p", {}, "silent", "0.063"),
    ("kling-v2-6", "1080p", SOUND, "audio", "0.126"),
    *MOTION_720P_SINCE_SEPTEMBER_4,
    ("kling-v3-motion-control", "1080p", {}, "motion_control", "0.1512"),
    ("kling-v2-6-motion-control", "1080p", {}, "motion_control", "0.1008"),
]
LISTS: dict[str, tuple[datetime, datetime, list[Row]]] = {
    "qingbo-ai/2026-06-19": (FIRST_DAY, SEPTEMBER_4, JUNE_19),
    "qingbo-ai/2026-09-04": (SEPTEMBER_4, SEPTEMBER_7, [*EARLY_SEPTEMBER, *TURBO_BEFORE]),
    "qingbo-ai/2026-09-07": (SEPTEMBER_7, SEPTEMBER_19, [*EARLY_SEPTEMBER, *TURBO_SINCE_SEPTEMBER_7]),
    "qingbo-ai/2026-09-19": (SEPTEMBER_19, SEPTEMBER_24, LATE_SEPTEMBER),
    "qingbo-ai/2026-09-24": (
        SEPTEMBER_24,
        AT + JUST_BEFORE,
        [*LATE_SEPTEMBER, *FOUR_K, ("kling-v3-omni", "4k", REFERENCE, "video_reference", "0.48213")],
    ),
}
GOLDEN = [
    (table, (LAUNCH if row[0] == "kling-3.0-turbo" else start) if start == FIRST_DAY else start, end, *row)
    for table, (start, end, rows) in LISTS.items()
    for row in rows
]


@pytest.mark.parametrize(
    ("table", "start", "end", "model", "resolution", "switch", "tier", "unit_price"), GOLDEN
)
def test_every_published_price_is_exact(
    table: str,
    start: datetime,
    end: datetime,
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
    for at in (start, end - JUST_BEFORE):
        quoted = quote(payload, provider="qingbo-ai", wire_format="tasks_v2", at=at, media=media)
        assert quoted.total == Decimal(unit_price) * 5
        assert (quoted.table.id, quoted.tier, quoted.resolution) == (table, tier, resolution)
        assert (quoted.unit_price, quoted.currency, quoted.unit) == (Decimal(unit_price), "USD", "second")


def test_the_tables_have_exactly_the_published_prices(book: PriceBook) -> None:
    """The lists have 27, 23, 23, 23 and 28 prices, and so do the tables."""
    tables = book.tables["qingbo-ai"]
    assert [table.id for table in tables] == [*LISTS]
    assert [len(table.rates) for table in tables] == [27, 23, 23, 23, 28]
    for table in tables:
        written = {
            (model, resolution, tier): Decimal(amount)
            for model, resolution, _, tier, amount in LISTS[table.id][2]
        }
        assert {tuple(cell): rate.unit_price for cell, rate in table.rates.items()} == written
        assert table.hosts == ("api.qingbo.ai",)
        assert table.billing.failed_tasks == "refunded"
        assert table.billing.statement_unit is not None
        assert table.billing.statement_unit.per_currency_unit == 500000


def test_a_model_has_no_price_before_its_launch() -> None:
    """The error names the day of the launch, although the page of 2026-06-19 already lists a price."""
    with pytest.raises(PriceNotFoundError) as caught:
        quote(v2("kling-3.0-turbo"), at=LAUNCH - JUST_BEFORE)
    assert str(caught.value) == (
        "kling-3.0-turbo has no price at 2026-06-23T23:59:59.999999+00:00: qingbo-ai/2026-06-19 "
        "prices it only from 2026-06-24 until 2026-09-04, because the model was launched on that day; "
        "choose a time in that period, or add your own price table"
    )


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
    assert note.message.startswith("the price depends on the length of the video in video_urls[0], ")
    with pytest.raises(PriceNotFoundError, match=r"the video in video_urls\[0\], which is unknown"):
        _ = quoted.total


def test_a_reference_video_needs_no_length() -> None:
    """Its seconds are free, so the total is exact without it."""
    quoted = quote(v2("kling-v3-omni", element_list=[ELEMENT], **REFERENCE), wire_format="tasks_v2", at=AT)
    assert quoted.total == Decimal("0.567")
    assert "range" not in [note.code for note in quoted.notes]


def test_before_the_first_list_no_table_is_in_force() -> None:
    """A request from before the first known list is never priced by a later one."""
    with pytest.raises(PriceNotFoundError, match="qingbo-ai has no price table for 2026-06-18"):
        quote(v2(), wire_format="tasks_v2", at=FIRST_DAY - JUST_BEFORE)


def test_the_lists_before_september_19_note_unknown_price_changes() -> None:
    """From July 2026, a note says that prices changed on unknown days; the later lists have no such note."""
    changes_begin = datetime(2026, 7, 1, tzinfo=UTC)

    def codes(at: datetime) -> set[str]:
        return {note.code for note in quote(v2(), wire_format="tasks_v2", at=at).notes}

    june = {"later_rules", "reference_video_doubled"}
    assert codes(changes_begin - JUST_BEFORE) >= june
    assert "prices_changed" not in codes(changes_begin - JUST_BEFORE)
    assert codes(changes_begin) >= {*june, "prices_changed"}
    for at in (SEPTEMBER_4, SEPTEMBER_7):
        assert codes(at) >= {"later_rules", "prices_changed"}
        assert "reference_video_doubled" not in codes(at)
    for at in (SEPTEMBER_19, SEPTEMBER_24):
        assert codes(at).isdisjoint({*june, "prices_changed"})


@pytest.mark.parametrize(
    ("old", "new", "key_path", "problem"),
    [
        (
            "8k, why: x",
            "8k, tier: silent, why: x}\n  - {model: kling-v3, resolution: 9k, why: x",
            "unreached[1]",
            "has no",
        ),
        ("8k: {silent: 1}", "8k: {silent: 1}\n    9k: {silent: 1}", "rates.kling-v3.9k.silent", "no request"),
        ("resolution: 8k", "resolution: 16k", "unreached[0]", "has no rate"),
        ("resolution: 8k", "resolution: 1080p", "unreached[0]", "tasks_v2 allows kling-v3"),
        (
            "    1080p: {silent: 0.14}\n",
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
    text = FIRST_LIST.read_text(encoding="utf-8").replace(
        "rates:\n  kling-v3:\n",
        "unreached:\n  - {model: kling-v3, resolution: 8k, why: x}\nrates:\n  kling-v3:\n    8k: {silent: 1}\n",
    )
    assert old in text
    load_price_book(folder({"prices/qingbo-ai/2026-06-19.yaml": text}))
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
