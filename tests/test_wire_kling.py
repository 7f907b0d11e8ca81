"""Wire format `kling`: reading payloads, the rules of the API, and the prices of the official list."""

import copy
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kling_pricing import CapabilityError, PriceBook, PriceNotFoundError, WireFormatError, check, quote
from kling_pricing.wire.formats.kling import FIELD_NAMES, FIELDS, amend, parse, read_task
from kling_pricing.wire.task import Task
from tests.conftest import AT

EXAMPLES = Path(__file__).parent.parent / "examples" / "requests" / "kling"
FEATURE = [{"video_url": "v", "refer_type": "feature"}]
MOTION: dict[str, Any] = {"prompt": None, "character_orientation": "video", "image_url": "i", "video_url": "v"}


def kling(model: str = "kling-v3", **fields: Any) -> dict[str, Any]:
    """Returns a payload of this wire format; a field that is None is left out."""
    payload = {"model_name": model, "prompt": "a paper boat in the rain", **fields}
    return {name: value for name, value in payload.items() if value is not None}


def shots(*lengths: int, chars: int = 5) -> list[dict[str, Any]]:
    """Returns a list of shots with these durations in seconds."""
    return [
        {"index": place, "prompt": "x" * chars, "duration": str(length)}
        for place, length in enumerate(lengths, 1)
    ]


def codes(payload: dict[str, Any], **arguments: Any) -> list[str]:
    """Returns the code of every violation."""
    return [violation.code for violation in check(payload, wire_format="kling", at=AT, **arguments)]


def test_only_given_fields_are_kept() -> None:
    """A null field counts as left out, and neither becomes a default."""
    bare = parse({"model_name": "m", "prompt": "boat"})
    assert bare == parse(
        {"model_name": "m", "prompt": "boat", "duration": None, "mode": None, "image_list": None}
    )
    assert bare.facts == {"model": "m", "prompt_chars": 4}
    assert bare.fields == {"model": "model_name", "prompt": "prompt"}


def test_every_documented_field_is_read() -> None:
    """Each documented field becomes facts whose names do not depend on the API."""
    payload = {
        "model_name": "m",
        "prompt": "like <<<image_2>>> and <<<image_4>>>",
        "negative_prompt": "blur",
        "mode": "pro",
        "duration": "10",
        "sound": "on",
        "aspect_ratio": "1:1",
        "cfg_scale": 0.5,
        "camera_control": {"type": "simple", "config": {"zoom": 1}},
        "image": "a",
        "image_tail": "b",
        "image_list": [
            {"image_url": "c"},
            {"image_url": "d", "type": "first_frame"},
            {"image_url": "e", "type": "end_frame"},
        ],
        "video_list": [{"video_url": "f", "refer_type": "base", "keep_original_sound": "yes"}],
        "element_list": [{"element_id": 7}],
        "voice_list": [{"voice_id": "8"}],
        "multi_shot": True,
        "shot_type": "customize",
        "multi_prompt": [
            {"index": 1, "prompt": "one", "duration": "4"},
            {"index": 3, "prompt": "three", "duration": "6"},
        ],
        "character_orientation": "image",
        "image_url": "g",
        "video_url": "h",
        "keep_original_sound": "no",
        "watermark_info": {"enabled": True},
        "callback_url": "https://example.com/hook",
        "external_task_id": "t",
    }
    assert set(payload) == set(FIELDS)
    parsed = parse(payload)
    assert parsed.facts == {
        "model": "m",
        "prompt_chars": 36,
        "image_markers": 2,
        "dangling_image_markers": 1,
        "negative_prompt_chars": 4,
        "resolution": "1080p",
        "duration_s": 10,
        "audio": True,
        "aspect_ratio": "1:1",
        "aspect_ratio_stated": True,
        "cfg_scale": Decimal("0.5"),
        "first_frame": True,
        "last_frame": True,
        "images": 1,
        "start_images": 2,
        "videos": 1,
        "video_use": "base",
        "elements": 1,
        "references": 4,
        "voice_control": True,
        "multi_shot": True,
        "shot_type": "customize",
        "shots": 2,
        "shots_length_s": 10,
        "shortest_shot_s": 4,
        "longest_shot_chars": 5,
        "misnumbered_shots": 1,
        "orientation": "image",
        "motion_image": True,
        "motion_video": True,
        "watermark": True,
    }
    assert parsed.fields == FIELD_NAMES
    assert [medium.field for medium in parsed.media] == [
        "image",
        "image_tail",
        "image_url",
        "image_list[0].image_url",
        "image_list[1].image_url",
        "image_list[2].image_url",
        "video_url",
        "video_list[0].video_url",
    ]


@pytest.mark.parametrize(("mode", "resolution"), [("std", "720p"), ("pro", "1080p"), ("4k", "4k")])
def test_a_mode_sets_the_resolution(mode: str, resolution: str) -> None:
    """Each of the three modes stands for one of the three resolutions."""
    assert parse(kling(mode=mode)).facts["resolution"] == resolution


@pytest.mark.parametrize(
    ("fields", "code", "field", "remedy"),
    [
        ({"modle_name": "m"}, "unknown_field", "modle_name", "did you mean 'model_name'?"),
        ({"Mode": "pro"}, "unknown_field", "Mode", "did you mean 'mode'?"),
        ({"duration": 5}, "wrong_type", "duration", 'written as text, such as "5", got 5'),
        ({"duration": 5.0}, "wrong_type", "duration", 'written as text, such as "5", got 5.0'),
        ({"duration": True}, "wrong_type", "duration", "written as text"),
        ({"duration": "5.0"}, "wrong_type", "duration", "a whole number of seconds"),
        ({"duration": ""}, "wrong_type", "duration", "a whole number of seconds"),
        ({"duration": " 5"}, "wrong_type", "duration", "a whole number of seconds"),
        ({"duration": "05"}, "wrong_type", "duration", "a whole number of seconds"),
        ({"duration": "\u0665"}, "wrong_type", "duration", "a whole number of seconds"),
        ({"duration": "-5"}, "wrong_type", "duration", "a whole number of seconds"),
        ({"mode": "1080p"}, "wrong_type", "mode", "must be std, pro or 4k, got '1080p'"),
        ({"sound": True}, "wrong_type", "sound", "must be text, got true"),
        ({"sound": "yes"}, "wrong_type", "sound", "must be on or off, got 'yes'"),
        ({"cfg_scale": "0.5"}, "wrong_type", "cfg_scale", "must be a number"),
        ({"cfg_scale": True}, "wrong_type", "cfg_scale", "must be a number"),
        ({"cfg_scale": float("nan")}, "wrong_type", "cfg_scale", "must be a number"),
        ({"image": ""}, "wrong_type", "image", "must be non-empty text, got ''"),
        ({"image_list": ["u"]}, "wrong_type", "image_list[0]", "must be an object"),
        ({"image_list": [{}]}, "wrong_type", "image_list[0].image_url", "is required; add it"),
        (
            {"image_list": [{"image_url": "u", "type": "last"}]},
            "wrong_type",
            "image_list[0].type",
            "must be first_frame or end_frame",
        ),
        ({"video_list": [{}]}, "wrong_type", "video_list[0].video_url", "is required; add it"),
        (
            {"video_list": [{"video_url": "u", "refer_type": "style"}]},
            "wrong_type",
            "video_list[0].refer_type",
            "must be base or feature",
        ),
        ({"element_list": [5]}, "wrong_type", "element_list[0]", "must be an object"),
        ({"voice_list": ["v"]}, "wrong_type", "voice_list[0]", "must be an object"),
        ({"multi_shot": "true"}, "wrong_type", "multi_shot", "must be true or false"),
        (
            {"multi_prompt": [{"prompt": "x", "duration": 5}]},
            "wrong_type",
            "multi_prompt[0].duration",
            'written as text, such as "5"',
        ),
        ({"multi_prompt": [{"prompt": "x"}]}, "wrong_type", "multi_prompt[0].duration", "is required; add it"),
        ({"character_orientation": "left"}, "wrong_type", "character_orientation", "must be image or video"),
        ({"keep_original_sound": "on"}, "wrong_type", "keep_original_sound", "must be yes or no"),
        ({"watermark_info": True}, "wrong_type", "watermark_info", "must be an object"),
        ({"camera_control": "zoom"}, "wrong_type", "camera_control", "must be an object"),
    ],
)
def test_an_invalid_field_is_refused_by_name(
    fields: dict[str, Any], code: str, field: str, remedy: str
) -> None:
    """A misspelt field or a value of another type never becomes a default."""
    with pytest.raises(WireFormatError) as caught:
        parse(kling(**fields))
    (violation,) = caught.value.violations
    assert (caught.value.wire_format, violation.code, violation.field) == ("kling", code, field)
    assert remedy in violation.message


def test_empty_lists_and_objects_add_no_facts() -> None:
    """They give zero elements, no voice control, no shots and no watermark setting."""
    empty = parse(
        kling(image_list=[], video_list=[], element_list=[], voice_list=[], multi_prompt=[], watermark_info={})
    )
    assert empty.facts == parse(kling()).facts | {"elements": 0, "voice_control": False}


def test_an_amend_keeps_the_callers_order_and_spelling() -> None:
    """A duration stays text, a resolution stays a mode, and a new setting comes last."""
    payload = {"prompt": "紙の船", "duration": "5", "model_name": "m", "cfg_scale": 0.5, "seed": None}
    before = copy.deepcopy(payload)
    assert json.dumps(amend(payload, {})) == json.dumps(payload)
    changed = amend(payload, {"duration_s": 10, "resolution": "1080p", "audio": True, "model": "n"})
    assert list(changed.items()) == [
        ("prompt", "紙の船"),
        ("duration", "10"),
        ("model_name", "n"),
        ("cfg_scale", 0.5),
        ("seed", None),
        ("mode", "pro"),
        ("sound", "on"),
    ]
    assert payload == before
    with pytest.raises(WireFormatError, match=r"^mode has no value for 480p; use 720p, 1080p or 4k$"):
        amend(payload, {"resolution": "480p"})


payloads = st.fixed_dictionaries(
    {"model_name": st.sampled_from(["m", "n"])},
    optional={
        "prompt": st.text(max_size=20),
        "mode": st.sampled_from(["std", "pro", "4k", None]),
        "duration": st.sampled_from(["3", "5", "10", None]),
        "sound": st.sampled_from(["on", "off", None]),
        "cfg_scale": st.floats(0, 1) | st.integers(0, 1),
        "image": st.just("a"),
        "image_tail": st.just("b"),
        "image_list": st.lists(st.just({"image_url": "c"}), max_size=3),
        "video_list": st.lists(st.just({"video_url": "d"}), max_size=2),
        "multi_prompt": st.lists(st.just({"prompt": "x", "duration": "2"}), max_size=3),
        "character_orientation": st.sampled_from(["image", "video"]),
    },
)
changes = st.fixed_dictionaries(
    {},
    optional={
        "model": st.sampled_from(["m", "n"]),
        "duration_s": st.integers(0, 60),
        "resolution": st.sampled_from(["720p", "1080p", "4k"]),
        "audio": st.booleans(),
    },
)


@given(payloads, changes)
def test_an_amended_payload_parses_like_the_original_with_the_changes(
    payload: dict[str, Any], change: dict[str, Any]
) -> None:
    """This holds for any payload and changes, and the original payload is not changed."""
    before = copy.deepcopy(payload)
    if payload.get("multi_prompt") and "duration_s" in change:
        with pytest.raises(WireFormatError, match="as long as its shots together"):
            amend(payload, change)
        return
    assert parse(amend(payload, change)).facts == parse(payload).facts | change
    assert payload == before


def test_legacy_responses_are_read() -> None:
    """Submit and status responses and callbacks give the task, its state, its length and the charged units."""
    submitted = {"code": 0, "message": "ok", "data": {"task_id": "t1", "task_status": "submitted"}}
    assert read_task(submitted) == Task("t1", "queued", None, "unit")
    data = {
        "task_id": "t1",
        "task_status": "succeed",
        "task_result": {"videos": [{"id": "v", "url": "u", "duration": "5.04"}]},
        "final_unit_deduction": "6.0",
    }
    done = Task("t1", "succeeded", Decimal("6.0"), "unit", Decimal("5.04"))
    assert read_task({"data": data}) == read_task(data) == done
    assert read_task({"data": {"task_status": "processing"}}).state == "processing"
    assert read_task({"data": {"task_status": "failed"}}).state == "failed"
    assert read_task({"data": {"task_status": "resting"}}).state is None
    assert read_task({}) == Task(None, None, None, "unit")


def test_the_billing_list_is_read() -> None:
    """Its entries are in units or in money, and add up."""

    def billed(*entries: dict[str, Any]) -> Task:
        return read_task({"data": {"task_id": "t1", "task_status": "succeeded", "billing": list(entries)}})

    unit = {"charge_type": "unit", "amount": "0.6", "currency": None, "package_type": "video"}
    money = {"charge_type": "balance", "amount": "0.84", "currency": "USD", "list_price": "0.84"}
    assert billed(unit, unit) == Task("t1", "succeeded", Decimal("1.2"), "unit")
    assert billed(money) == Task("t1", "succeeded", Decimal("0.84"), "USD")
    assert billed(money, {**money, "currency": "usd"}).amount_unit == "USD"
    assert billed({**unit, "currency": "unit"}).amount_unit == "unit"
    with pytest.raises(WireFormatError, match="entries in USD and unit, which do not add up"):
        billed(unit, money)
    with pytest.raises(
        WireFormatError, match=r"billing\[0\].amount must be a whole number or a plain decimal written as text"
    ):
        billed({**unit, "amount": 0.6})
    with pytest.raises(WireFormatError, match="billing must be a list of objects"):
        read_task({"data": {"billing": {"amount": "1"}}})


@pytest.mark.parametrize(
    "data",
    [
        {"task_id": 5},
        {"final_unit_deduction": 6.5},
        {"final_unit_deduction": "many"},
        {"task_result": {"videos": [{"duration": 5.04}]}},
    ],
)
def test_an_unreadable_response_is_an_error(data: dict[str, Any]) -> None:
    """A float is refused because it is already rounded, and no value is guessed."""
    with pytest.raises(WireFormatError):
        read_task({"data": data})


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (kling(duration="2"), ["duration_s_limit"]),
        (kling(duration="3"), []),
        (kling(duration="15"), []),
        (kling(duration="16"), ["duration_s_limit"]),
        (kling("kling-v3-omni", duration="2"), ["duration_s_limit"]),
        (kling("kling-v3-omni", duration="15"), []),
        (kling("kling-v3-omni", duration="16"), ["duration_s_limit"]),
        (kling("kling-3.0-turbo", duration="2"), ["duration_s_limit"]),
        (kling("kling-3.0-turbo", duration="15"), []),
        (kling("kling-3.0-turbo", mode="4k"), ["resolution_limit"]),
        (kling("kling-3.0-turbo", sound="on"), []),
        (kling("kling-3.0-turbo", sound="off"), ["sound_always_on"]),
        (kling("kling-3.0-turbo", image="a"), []),
        (kling("kling-3.0-turbo", image="a", image_tail="b"), ["field_not_taken"]),
        (kling("kling-video-o1", duration="5"), []),
        (kling("kling-video-o1", duration="6"), ["duration_without_references"]),
        (
            kling("kling-video-o1", duration="6", image_list=[{"image_url": "a", "type": "first_frame"}]),
            ["duration_without_references"],
        ),
        (kling("kling-video-o1", duration="6", image_list=[{"image_url": "a"}]), []),
        (kling("kling-video-o1", duration="3", video_list=FEATURE), []),
        (kling("kling-video-o1", duration="2", video_list=FEATURE), ["duration_s_limit"]),
        (kling("kling-video-o1", duration="11", element_list=[{"element_id": 1}]), ["duration_s_limit"]),
        (kling("kling-video-o1", sound="off"), []),
        (kling("kling-video-o1", sound="on"), ["no_sound"]),
        (kling("kling-v2-5-turbo", sound="off"), []),
        (kling("kling-v2-5-turbo", sound="on"), ["no_sound"]),
        (kling("kling-v2-6", duration="6"), ["duration_s_limit"]),
        (kling("kling-v2-6", mode="4k"), ["resolution_limit"]),
        (kling("kling-v2-6", sound="on"), ["audio_resolution"]),
        (kling("kling-v2-6", sound="on", mode="pro"), []),
        (kling("kling-v2-6", image="a", image_tail="b"), ["last_frame_resolution"]),
        (kling("kling-v2-6", image="a", image_tail="b", mode="pro"), []),
        (kling("kling-v2-6", image="a", image_tail="b", mode="pro", sound="on"), ["audio_last_frame"]),
        (kling("kling-v2-6", image_tail="b", mode="pro"), ["last_frame_first_frame"]),
        (kling("kling-v2-5-turbo", duration="10"), []),
        (kling("kling-v2-5-turbo", duration="9"), ["duration_s_limit"]),
        (kling("kling-v2-5-turbo", image="a", image_tail="b"), ["last_frame_resolution"]),
        (kling("kling-v2-5-turbo", image="a", image_tail="b", mode="pro"), []),
        (kling("kling-v2-6", image="a", sound="on", mode="pro", voice_list=[{}]), []),
        (kling("kling-v2-6", image="a", mode="pro", voice_list=[{}]), ["voice_control_audio"]),
        (kling("kling-v2-6", sound="on", mode="pro", voice_list=[{}]), ["voice_control_action"]),
        (
            kling("kling-v2-6", image="a", sound="on", voice_list=[{}]),
            ["audio_resolution", "voice_control_resolution"],
        ),
        (kling("kling-v3", image="a", voice_list=[{}]), ["field_not_taken"]),
        (kling("kling-v3-omni", sound="on", video_list=FEATURE), ["audio_video_reference"]),
        (kling("kling-v3-omni", video_list=FEATURE * 2), ["videos_limit"]),
        (kling("kling-v3-omni", image_list=[{"image_url": "a"}] * 7), []),
        (
            kling("kling-v3-omni", image_list=[{"image_url": "a"}] * 7, element_list=[{}]),
            ["references_without_video"],
        ),
        (kling("kling-v3-omni", image_list=[{"image_url": "a"}] * 4, video_list=FEATURE), []),
        (
            kling("kling-video-o1", image_list=[{"image_url": "a"}] * 4, element_list=[{}], video_list=FEATURE),
            ["references_with_video"],
        ),
        (kling("kling-v3-omni", prompt="x" * 3072), []),
        (kling("kling-v3-omni", prompt="x" * 3073), ["prompt_chars_limit"]),
        (kling(prompt="猫" * 2500), []),
        (kling(prompt="x" * 2501), ["prompt_chars_limit"]),
        (kling(prompt=None), ["prompt_required"]),
        (kling(prompt=None, image="a"), []),
        (kling(prompt=None, multi_shot=True, shot_type="customize", multi_prompt=shots(2, 3)), []),
        (kling(duration="6", multi_shot=True, multi_prompt=shots(2, 3)), ["shots_sum"]),
        (kling(multi_shot=True, multi_prompt=shots(2, 4)), ["shots_sum"]),
        (kling(multi_shot=True, multi_prompt=shots(0, 5)), ["shot_duration"]),
        (kling(multi_shot=True, multi_prompt=shots(5, chars=512)), []),
        (kling(multi_shot=True, multi_prompt=shots(5, chars=513)), ["shot_chars"]),
        (kling(duration="6", multi_shot=True, multi_prompt=shots(1, 1, 1, 1, 1, 1)), []),
        (kling(duration="7", multi_shot=True, multi_prompt=shots(1, 1, 1, 1, 1, 1, 1)), ["shot_count"]),
        (kling(multi_shot=True, shot_type="customize"), ["customized_shots"]),
        (kling(**MOTION), []),
        (kling(**{**MOTION, "image_url": None}), ["motion_control_image"]),
        (kling(**{**MOTION, "video_url": None}), ["motion_control_video"]),
        (kling(**MOTION, duration="5"), ["motion_control_duration"]),
        (kling(**MOTION, sound="on"), ["motion_control_sound"]),
        (kling(**MOTION, mode="4k"), ["motion_control_resolution"]),
        (kling(**MOTION, image="a"), ["motion_control_frames"]),
        (kling(**MOTION, multi_shot=True), ["motion_control_shots"]),
        (kling(**{**MOTION, "prompt": "a", "character_orientation": None}), ["motion_inputs_orientation"]),
        (kling("kling-v2-6", **MOTION), []),
        (kling("kling-v2-6", **MOTION, duration="5"), ["motion_control_duration"]),
        (
            kling("kling-v2-5-turbo", **MOTION),
            ["field_not_taken", "field_not_taken", "field_not_taken"],
        ),
        ({"model_name": "kling-avatar"}, ["duration_s_required"]),
        ({"model_name": "kling-avatar", "duration": "0"}, ["duration_s_limit"]),
        ({"model_name": "kling-avatar", "duration": "1"}, []),
        ({"model_name": "kling-avatar-tts"}, []),
        ({"model_name": "kling-avatar-tts", "prompt": "x"}, ["field_not_taken"]),
        ({"model_name": "kling-v9"}, ["unknown_model"]),
        ({"prompt": "x"}, ["model_required"]),
    ],
)
def test_exactly_the_broken_rules_are_reported(payload: dict[str, Any], expected: list[str]) -> None:
    """Each rule refuses a value just past its limit and accepts the limit itself."""
    assert codes(payload) == expected


@pytest.mark.parametrize(
    ("payload", "facts", "expected"),
    [
        (kling("kling-v3-omni", video_list=FEATURE), {"length_s": "2.99"}, ["video_length_s_limit"]),
        (kling("kling-v3-omni", video_list=FEATURE), {"length_s": "15.5", "size_bytes": 209715200}, []),
        (kling("kling-v3-omni", video_list=FEATURE), {"length_s": "15.51"}, ["video_length_s_limit"]),
        (kling("kling-v3-omni", video_list=FEATURE), {"size_bytes": 209715201}, ["video_size_bytes_limit"]),
        (kling("kling-video-o1", video_list=FEATURE), {"length_s": "10"}, []),
        (kling("kling-video-o1", video_list=FEATURE), {"length_s": "10.01"}, ["video_length_s_limit"]),
        (kling(**MOTION), {"length_s": "30", "size_bytes": 104857600}, []),
        (kling(**MOTION), {"length_s": "30.01"}, ["motion_control_length_video"]),
        (kling(**MOTION), {"length_s": "2.9"}, ["motion_control_length_video"]),
        (kling(**MOTION), {"size_bytes": 104857601}, ["video_size_bytes_limit"]),
        (kling(**{**MOTION, "character_orientation": "image"}), {"length_s": "10"}, []),
        (
            kling(**{**MOTION, "character_orientation": "image"}),
            {"length_s": "10.01"},
            ["motion_control_length_image"],
        ),
    ],
)
def test_known_facts_about_the_video_are_checked(
    payload: dict[str, Any], facts: dict[str, Any], expected: list[str]
) -> None:
    """The length and the size are checked on both sides of each limit."""
    assert codes(payload, media={"v": facts}) == expected


@pytest.mark.parametrize(
    ("payload", "code", "noted"),
    [
        (kling("kling-v3-omni", prompt="x" * 2500), "long_prompt", False),
        (kling("kling-v3-omni", prompt="x" * 2501), "long_prompt", True),
        (kling("kling-v3-omni", video_list=FEATURE), "edit_length", False),
        (kling("kling-v3-omni", video_list=[{"video_url": "v", "refer_type": "base"}]), "edit_length", True),
        (kling("kling-v3-omni", video_list=[{"video_url": "v"}]), "edit_length", True),
        (kling(**MOTION), "motion_control_rounding", True),
        (kling(), "motion_control_rounding", False),
        (kling("kling-v2-6", **MOTION), "motion_control_rounding", False),
        (kling(), "assumed_duration_s", True),
        (kling(**MOTION), "assumed_duration_s", False),
        (kling("kling-v2-6"), "assumed_audio", True),
        (kling("kling-3.0-turbo"), "assumed_audio", False),  # the model has no other setting
        (kling("kling-video-o1"), "assumed_audio", False),
    ],
)
def test_a_warning_becomes_a_note(payload: dict[str, Any], code: str, noted: bool) -> None:  # noqa: FBT001
    """The quote has the note when the warning applies, and only then."""
    assert (code in [note.code for note in quote(payload, at=AT).notes]) is noted


# The official list as of 2026-09-20: model, mode, fields that select the tier, tier, units.
VIDEO = [
    ("kling-3.0-turbo", "std", {}, "audio", "0.8"),
    ("kling-3.0-turbo", "pro", {}, "audio", "1.0"),
    ("kling-v3", "std", {}, "silent", "0.6"),
    ("kling-v3", "pro", {}, "silent", "0.8"),
    ("kling-v3", "4k", {}, "silent", "3.0"),
    ("kling-v3", "std", {"sound": "on"}, "audio", "0.9"),
    ("kling-v3", "pro", {"sound": "on"}, "audio", "1.2"),
    ("kling-v3", "4k", {"sound": "on"}, "audio", "3.0"),
    ("kling-v3", "std", MOTION, "motion_control", "0.9"),
    ("kling-v3", "pro", MOTION, "motion_control", "1.2"),
    ("kling-v3-omni", "std", {}, "silent", "0.6"),
    ("kling-v3-omni", "pro", {}, "silent", "0.8"),
    ("kling-v3-omni", "4k", {}, "silent", "3.0"),
    ("kling-v3-omni", "std", {"sound": "on"}, "audio", "0.8"),
    ("kling-v3-omni", "pro", {"sound": "on"}, "audio", "1.0"),
    ("kling-v3-omni", "4k", {"sound": "on"}, "audio", "3.0"),
    ("kling-v3-omni", "std", {"video_list": FEATURE}, "video_reference", "0.9"),
    ("kling-v3-omni", "pro", {"video_list": FEATURE}, "video_reference", "1.2"),
    ("kling-v3-omni", "4k", {"video_list": FEATURE}, "video_reference", "3.0"),
    ("kling-video-o1", "std", {}, "silent", "0.6"),
    ("kling-video-o1", "pro", {}, "silent", "0.8"),
    ("kling-video-o1", "std", {"video_list": FEATURE}, "video_reference", "0.9"),
    ("kling-video-o1", "pro", {"video_list": FEATURE}, "video_reference", "1.2"),
    ("kling-v2-6", "std", {}, "silent", "0.3"),
    ("kling-v2-6", "pro", {}, "silent", "0.5"),
    ("kling-v2-6", "pro", {"sound": "on"}, "audio", "1.0"),
    ("kling-v2-6", "pro", {"sound": "on", "image": "a", "voice_list": [{}]}, "audio_voice_control", "1.2"),
    ("kling-v2-6", "std", MOTION, "motion_control", "0.5"),
    ("kling-v2-6", "pro", MOTION, "motion_control", "0.8"),
    ("kling-v2-5-turbo", "std", {}, "silent", "0.3"),
    ("kling-v2-5-turbo", "pro", {}, "silent", "0.5"),
    ("kling-avatar", "std", {"prompt": None}, "service", "0.4"),
    ("kling-avatar", "pro", {"prompt": None}, "service", "0.8"),
]
SERVICES = [
    ("kling-lip-sync", "0.5"),
    ("kling-avatar-tts", "0.05"),
    ("kling-face-recognition", "0.05"),
    ("kling-custom-voice", "0.05"),
    ("kling-text-to-audio", "0.25"),
    ("kling-video-to-audio", "0.25"),
    ("kling-image-recognition", "0.1"),
]
UNIT = Decimal("0.14")


@pytest.mark.parametrize(("model", "mode", "switch", "tier", "units"), VIDEO)
def test_every_price_per_second_is_exact(
    model: str, mode: str, switch: dict[str, Any], tier: str, units: str
) -> None:
    """The total is the published units x 0.14 USD x seconds."""
    for seconds in (5, 10):
        length = {} if switch is MOTION else {"duration": str(seconds)}
        quoted = quote(kling(model, mode=mode, **switch, **length), media={"v": {"length_s": seconds}}, at=AT)
        assert quoted.total == Decimal(units) * UNIT * seconds
        assert (quoted.tier, quoted.unit, quoted.currency) == (tier, "second", "USD")
        assert (quoted.provider, quoted.table.id) == ("kling", "kling/2026-09-20")
        assert f"{Decimal(units).normalize():f} units at 0.14 USD" in quoted.lines[0].description


@pytest.mark.parametrize(("model", "units"), SERVICES[1:])
def test_every_price_per_call_is_exact(model: str, units: str) -> None:
    """The total is the published units x 0.14 USD, and the quantity is one call."""
    quoted = quote({"model_name": model}, at=AT)
    assert (quoted.total, quoted.quantity, quoted.unit) == (Decimal(units) * UNIT, Decimal(1), "call")
    assert (quoted.tier, quoted.resolution) == ("service", "any")


def test_the_table_has_exactly_the_published_prices(book: PriceBook) -> None:
    """The list has 40: 33 prices per second, lip sync and six prices per call; others are of images."""
    (table,) = book.tables["kling"]
    resolutions = {"std": "720p", "pro": "1080p", "4k": "4k"}
    published = {(model, resolutions[mode], tier): units for model, mode, _, tier, units in VIDEO}
    published |= {(model, "any", "service"): units for model, units in SERVICES}
    rates = {
        cell: rate
        for cell, rate in table.rates.items()
        if cell.model in {model for model, *_ in (*VIDEO, *SERVICES)}
    }
    assert (len(VIDEO), len(SERVICES), len(rates)) == (33, 7, 40)
    assert {tuple(cell): rate.unit_price for cell, rate in rates.items()} == {
        cell: Decimal(units) * UNIT for cell, units in published.items()
    }
    assert table.unpriced == ()
    assert table.billing.failed_tasks == "unconfirmed"
    assert table.hosts == ("api-singapore.klingai.com", "api-beijing.klingai.com", "api.klingai.com")


@pytest.mark.parametrize(
    ("length_s", "blocks", "total"),
    [("0.5", 1, "0.07"), ("5", 1, "0.07"), ("5.01", 2, "0.14"), ("10", 2, "0.14"), ("61", 13, "0.91")],
)
def test_lip_sync_is_billed_in_blocks_of_five_seconds(length_s: str, blocks: int, total: str) -> None:
    """Every started block counts in full, and at least one block is billed."""
    payload = {"model_name": "kling-lip-sync", "video_url": "v"}
    quoted = quote(payload, media={"v": {"length_s": length_s}}, at=AT)
    assert (quoted.quantity, quoted.unit, quoted.total) == (Decimal(blocks), "5 seconds", Decimal(total))
    assert f"{blocks} x 5 seconds x 0.07 = " in quoted.explain()


def test_lip_sync_of_an_unknown_length_is_not_quoted() -> None:
    """The length has no upper limit to take a maximum from, so the error asks for it."""
    with pytest.raises(PriceNotFoundError, match="pass the length of the video in `media`") as caught:
        quote({"model_name": "kling-lip-sync", "video_url": "v"}, at=AT)
    assert caught.value.priced_instead == ("kling-lip-sync any service at 0.07 USD per 5 seconds",)


@pytest.mark.parametrize(
    ("orientation", "length_s", "minimum", "maximum"),
    [
        ("video", "7.5", "0.56", "0.56"),  # 8 s
        ("video", "7.49", "0.49", "0.49"),  # 7 s
        ("video", None, "0.21", "2.1"),  # 3 to 30 s
        ("image", None, "0.21", "0.7"),  # 3 to 10 s
    ],
)
def test_motion_control_is_billed_by_the_length_of_its_video(
    orientation: str, length_s: str | None, minimum: str, maximum: str
) -> None:
    """The length is rounded to the nearest second; if it is unknown, the quote spans all allowed lengths."""
    media = {"v": {"length_s": length_s}}
    quoted = quote(kling("kling-v2-6", **{**MOTION, "character_orientation": orientation}), media=media, at=AT)
    assert (quoted.action, quoted.tier) == ("motion_control", "motion_control")
    assert (quoted.minimum, quoted.maximum) == (Decimal(minimum), Decimal(maximum))
    ranged = [note.message for note in quoted.notes if note.code == "range"]
    assert ranged == (
        [] if length_s else ["the price depends on video_url, which is unknown; the lines show the maximum"]
    )


@pytest.mark.parametrize(
    ("payload", "total"),
    [
        (kling("kling-v3", duration="5", mode="pro", sound="on"), "0.84"),  # 6 units
        (kling("kling-v2-6", duration="5", mode="std"), "0.21"),  # 1.5 units
    ],
)
def test_worked_examples(payload: dict[str, Any], total: str) -> None:
    """The totals are worked out by hand from the units of the list."""
    assert quote(payload, at=AT).total == Decimal(total)


@pytest.mark.parametrize(
    ("name", "action", "tier", "total"),
    [
        ("text_to_video", "generate", "audio", "0.84"),  # 5 s x 1.2 units
        ("first_last_frame", "first_last_frame", "silent", "0.7"),  # 10 s x 0.5 units
        ("omni_video", "reference_video", "video_reference", "0.882"),  # 7 s x 0.9 units
        ("multi_shot", "generate", "silent", "2.52"),  # 6 s x 3 units
    ],
)
def test_the_shipped_examples_are_quoted(name: str, action: str, tier: str, total: str) -> None:
    """Their fields alone identify this wire format."""
    quoted = quote((EXAMPLES / f"{name}.json").read_bytes(), at=AT)
    assert quoted.wire_format == "kling"
    assert (quoted.action, quoted.tier, quoted.total) == (action, tier, Decimal(total))


def test_the_motion_control_example_is_quoted_by_the_length_of_its_video() -> None:
    """8 seconds at 0.8 units cost 0.896 USD."""
    payload = (EXAMPLES / "motion_control.json").read_bytes()
    media = {"https://media.example.com/dance.mp4": {"length_s": "8.2"}}
    assert quote(payload, media=media, at=AT).total == Decimal("0.896")


@pytest.mark.parametrize(
    ("payload", "suggestion"),
    [
        (kling("kling-v2-6", sound="on"), {"mode": "pro"}),
        (kling("kling-v3", duration="2"), {"duration": "3"}),
        (
            kling("kling-v2-6", duration="10", mode="pro", sound="on", image="a", image_tail="b"),
            {"sound": "off"},
        ),
    ],
)
def test_suggestions_use_the_words_of_the_payload(payload: dict[str, Any], suggestion: dict[str, Any]) -> None:
    """A caller can put them into the payload unchanged."""
    with pytest.raises(CapabilityError) as caught:
        quote(payload, at=AT)
    assert suggestion in caught.value.suggestions
    assert codes(payload | suggestion) == []
