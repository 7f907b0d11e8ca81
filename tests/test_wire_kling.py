"""Wire format `kling`: reading payloads, the rules of the API, and the prices of the official list."""

import copy
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kling_pricing import CapabilityError, PriceBook, PriceNotFoundError, WireFormatError, check, quote
from kling_pricing.wire.formats.kling import FIELD_NAMES, FIELDS, amend, parse, read_task
from kling_pricing.wire.task import Task
from tests.charges import charge
from tests.conftest import AT

EXAMPLES = Path(__file__).parent.parent / "examples" / "requests" / "kling"
FEATURE = [{"video_url": "v", "refer_type": "feature"}]
BASE = [{"video_url": "v"}]
MOTION: dict[str, Any] = {
    "prompt": None,
    "mode": "std",
    "character_orientation": "video",
    "image_url": "i",
    "video_url": "v",
}
CITED: dict[str, Any] = {"image": "a", "prompt": "<<<voice_1>>> says hello", "voice_list": [{"voice_id": "1"}]}
FRAMES = [{"image_url": "a", "type": "first_frame"}, {"image_url": "b", "type": "end_frame"}]
MASKS = [{"mask": "m", "trajectories": [{"x": 1, "y": 2}] * 2}]
SEVERAL: dict[str, Any] = {"multi_shot": True, "shot_type": "customize"}
OFFICIAL = "https://api-singapore.klingai.com/v1"
CITY = f"{OFFICIAL}/videos"
GATEWAY = "https://gateway.example.com/kling/v1/videos"


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
        "model": "m",
        "prompt": "like <<<image_2>>> and <<<image_4>>> with <<<voice_1>>>",
        "negative_prompt": "blur",
        "mode": "pro",
        "duration": "10",
        "sound": "on",
        "aspect_ratio": "1:1",
        "cfg_scale": 0.5,
        "camera_control": {"type": "simple", "config": {"zoom": 1}},
        "image": "a",
        "image_tail": "b",
        "static_mask": "k",
        "dynamic_masks": [
            {"mask": "m", "trajectories": [{"x": 1, "y": 2}] * 3},
            {"mask": "n", "trajectories": [{"x": 1, "y": 2}] * 2},
        ],
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
        "session_id": "s",
        "edit_mode": "swap",
        "video_id": "w",
        "watermark_info": {"enabled": True},
        "callback_url": "https://example.com/hook",
        "external_task_id": "t",
    }
    assert set(payload) == set(FIELDS)
    parsed = parse(payload)
    assert parsed.facts == {
        "model": "m",
        "prompt_chars": 55,
        "image_markers": 2,
        "dangling_image_markers": 1,
        "negative_prompt_chars": 4,
        "resolution": "1080p",
        "duration_s": 10,
        "audio": True,
        "aspect_ratio": "1:1",
        "aspect_ratio_stated": True,
        "cfg_scale": Decimal("0.5"),
        "cfg_scale_stated": True,
        "camera": "simple",
        "camera_config_size": 1,
        "camera_extreme": Decimal(1),
        "static_mask": True,
        "masks": 2,
        "fewest_mask_points": 2,
        "most_mask_points": 3,
        "first_frame": True,
        "last_frame": True,
        "images": 1,
        "start_images": 2,
        "videos": 1,
        "video_use": "base",
        "elements": 1,
        "references": 4,
        "voices": 1,
        "voice_control": True,
        "edit_session": True,
        "edit_mode": "swap",
        "extended_video": True,
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
        ({"multi_shot": "yes"}, "wrong_type", "multi_shot", "must be true or false, got 'yes'"),
        ({"multi_shot": 1}, "wrong_type", "multi_shot", "must be true or false, got 1"),
        ({"edit_mode": "paint"}, "wrong_type", "edit_mode", "must be addition, swap or removal"),
        ({"dynamic_masks": [{"mask": "m"}]}, "wrong_type", "dynamic_masks[0].trajectories", "is required"),
        ({"camera_control": {"config": {}}}, "wrong_type", "camera_control.type", "is required; add it"),
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


@pytest.mark.parametrize("field", [name for name in FIELDS if name != "prompt"])
@pytest.mark.parametrize("empty", ["", [], {}])
def test_an_empty_field_counts_as_left_out(field: str, empty: Any) -> None:
    """The reference's own samples send empty text and lists for fields that they leave out."""
    payload = kling(duration="8", sound="on")
    payload[field] = empty
    assert parse(payload) == parse({name: value for name, value in payload.items() if name != field})


@pytest.mark.parametrize("field", ["image", "image_tail", "static_mask", "image_url", "video_url"])
@pytest.mark.parametrize("prefix", ["data:image/png;base64,", "DATA:,", "data:image/jpeg;base64,"])
def test_a_data_uri_is_refused(field: str, prefix: str) -> None:
    """Base64 text is sent without a prefix, which the API refuses, also in a list."""
    assert codes(kling(**{field: f"{prefix}iVBORw0KGgo="})) == ["wrong_type"]
    (violation,) = check(kling("kling-v3-omni", image_list=[{"image_url": f"{prefix}iVBORw0KGgo="}]), at=AT)
    assert (violation.field, violation.allowed) == (
        "image_list[0].image_url",
        "a URL, or Base64 text without a data: prefix",
    )
    assert "wrong_type" not in codes(kling(**{field: "iVBORw0KGgo="}))


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
        "model": st.sampled_from(["m", "n", "", None]),
        "multi_shot": st.sampled_from([True, False, "true", "false"]),
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
    if payload.get("model") not in {None, "", payload["model_name"]}:
        with pytest.raises(WireFormatError, match="must be the same as model_name"):
            parse(payload)
        return
    if payload.get("multi_prompt") and payload.get("multi_shot") in {True, "true"} and "duration_s" in change:
        with pytest.raises(WireFormatError, match="as long as all its shots"):
            amend(payload, change)
        return
    assert parse(amend(payload, change)).facts == parse(payload).facts | change
    assert payload == before


def test_legacy_responses_are_read() -> None:
    """Submit and status responses and callbacks give the task, its state, its length and the charged units."""
    submitted = {"code": 0, "message": "ok", "data": {"task_id": "t1", "task_status": "submitted"}}
    assert read_task(submitted) == Task("t1", "queued")
    data = {
        "task_id": "t1",
        "task_status": "succeed",
        "task_result": {"videos": [{"id": "v", "url": "u", "duration": "5.04"}]},
        "final_unit_deduction": "6.0",
    }
    done = Task("t1", "succeeded", charge(("6.0", "unit")), Decimal("5.04"))
    assert read_task({"data": data}) == read_task(data) == done
    assert read_task({"data": {"task_status": "processing"}}).state == "processing"
    assert read_task({"data": {"task_status": "failed"}}).state == "failed"
    assert read_task({"data": {"task_status": "resting"}}).state is None
    assert read_task({}) == Task(None, None)


def test_a_task_of_the_newer_standard_is_read() -> None:
    """A callback of the newer standard may be about a task of an older endpoint."""
    billing = [{"charge_type": "unit", "package_type": "video", "amount": "6.00"}]
    outputs = [{"type": "video", "id": "v", "url": "u", "duration": "5.041"}]
    body = {"id": "t1", "status": "succeeded", "outputs": outputs, "billing": billing}
    assert read_task(body) == Task("t1", "succeeded", charge(("6.00", "video")))
    assert read_task({"code": 0, "data": {"id": "t1", "status": "submitted"}}) == Task("t1", "queued")
    assert read_task({"id": "t1", "status": "succeeded"}).charge is None
    assert read_task({"id": "t1"}) == Task(None, None)


@pytest.mark.parametrize(
    "data",
    [
        {"final_unit_deduction": 6.5},
        {"final_unit_deduction": "many"},
        {"billing": {"amount": "1"}},
        {"billing": [{"charge_type": "cash", "amount": 0.6}]},
    ],
)
def test_an_unreadable_charge_is_a_problem_of_the_task(data: dict[str, Any]) -> None:
    """The task and its state are read all the same; no amount is guessed."""
    task = read_task({"data": {"task_id": "t1", "task_status": "succeed", **data}})
    assert (task.task_id, task.state) == ("t1", "succeeded")
    assert task.charge is not None
    assert task.charge.problem is not None


def test_an_unreadable_id_is_an_error() -> None:
    """An id that is not text cannot be that of a task."""
    with pytest.raises(WireFormatError, match=r"^task_id must be text, got 5$"):
        read_task({"data": {"task_id": 5}})


def test_an_unreadable_length_of_a_file_is_left_out() -> None:
    """The length of a file decides nothing, so it is no reason to refuse a response."""
    assert read_task({"data": {"task_result": {"videos": [{"duration": 5.04}]}}}) == Task(None, None)


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
        (kling("kling-video-o1", duration="5"), []),
        (kling("kling-video-o1", duration="6"), []),
        (
            kling("kling-video-o1", duration="6", image_list=[{"image_url": "a", "type": "first_frame"}]),
            ["duration_first_frame"],
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
        (kling(duration="6", **SEVERAL, multi_prompt=shots(2, 3)), ["shots_sum"]),
        (kling(**SEVERAL, multi_prompt=shots(2, 4)), ["shots_sum"]),
        (kling(**SEVERAL, multi_prompt=shots(0, 5)), ["shot_duration"]),
        (kling(**SEVERAL, multi_prompt=shots(5, chars=512)), []),
        (kling(**SEVERAL, multi_prompt=shots(5, chars=513)), ["shot_chars"]),
        (kling(duration="6", **SEVERAL, multi_prompt=shots(1, 1, 1, 1, 1, 1)), []),
        (kling(duration="7", **SEVERAL, multi_prompt=shots(1, 1, 1, 1, 1, 1, 1)), ["shot_count"]),
        (kling(multi_shot=True, multi_prompt=shots(2, 3)), ["multi_shot_type"]),
        (kling(multi_shot=True, shot_type="intelligence"), []),
        (kling(prompt=None, multi_shot=True, shot_type="intelligence"), ["prompt_required"]),
        (
            kling(prompt=None, multi_shot=True, shot_type="intelligence", multi_prompt=shots(2, 3)),
            ["intelligent_prompt"],
        ),
        (kling(image="a", image_tail="b", **SEVERAL, multi_prompt=shots(2, 3)), []),
        (kling("kling-v2-6", multi_shot=False, shot_type="customize", multi_prompt=shots(2, 9)), []),
        (kling("kling-v2-6", **SEVERAL, multi_prompt=shots(2, 3)), ["field_not_taken"] * 3),
        (kling("kling-v3-omni", video_list=BASE, **SEVERAL, multi_prompt=shots(2, 3)), ["base_edit_shots"]),
        (kling("kling-v3-omni", video_list=FEATURE, **SEVERAL, multi_prompt=shots(2, 3)), ["feature_shots"]),
        (kling("kling-v3-omni", video_list=FEATURE, multi_shot=True, shot_type="intelligence"), []),
        (kling(multi_shot=True, shot_type="customize"), ["customized_shots"]),
        (kling(**MOTION), []),
        (kling(**{**MOTION, "image_url": None}), ["motion_control_image"]),
        (kling(**{**MOTION, "video_url": None}), ["motion_control_video"]),
        (kling(**MOTION, duration="5"), ["motion_control_duration"]),
        (kling(**MOTION, sound="on"), ["motion_control_sound"]),
        (kling(**{**MOTION, "mode": "4k"}), ["motion_control_resolution"]),
        (kling(**{**MOTION, "mode": None}), ["motion_control_mode"]),
        (kling(**MOTION, element_list=[{}]), []),
        (kling(**MOTION, element_list=[{}] * 2), ["motion_control_elements"]),
        (
            kling(**{**MOTION, "character_orientation": "image"}, element_list=[{}]),
            ["motion_control_element_orientation"],
        ),
        (kling(**MOTION, image="a"), ["motion_control_frames"]),
        (kling(**MOTION, multi_shot=True, shot_type="intelligence"), ["motion_control_shots"]),
        (kling(**{**MOTION, "prompt": "a", "character_orientation": None}), ["motion_inputs_orientation"]),
        (kling("kling-v2-6", **MOTION), []),
        (kling("kling-v2-6", **MOTION, duration="5"), ["motion_control_duration"]),
        (kling("kling-v2-5-turbo", **MOTION), ["field_not_taken"] * 3),
        (kling("kling-v2-6", **CITED, sound="on", mode="pro", element_list=[{}]), ["voice_elements"]),
        (kling("kling-v2-6", **{**CITED, "voice_list": [{}] * 3}, sound="on", mode="pro"), ["voice_count"]),
        (kling("kling-v2-6", **CITED, mode="pro"), ["cited_voice_audio"]),
        (kling("kling-v2-6", **{**CITED, "image": None}, sound="on", mode="pro"), ["cited_voice_action"]),
        (kling("kling-v2-6", **CITED, sound="on"), ["audio_resolution", "cited_voice_resolution"]),
        (kling("kling-v3-omni", video_list=BASE), []),
        (
            kling("kling-v3-omni", video_list=BASE, image_list=[{"image_url": "a", "type": "first_frame"}]),
            ["base_edit_frames"],
        ),
        (
            kling("kling-v3-omni", video_list=FEATURE, image_list=[{"image_url": "a", "type": "first_frame"}]),
            [],
        ),
        (kling("kling-v3-omni", sound="on", video_list=BASE), ["audio_video_reference"]),
        (
            kling("kling-v3-omni", image_list=[{"image_url": "a", "type": "end_frame"}]),
            ["last_frame_first_frame"],
        ),
        (kling("kling-v3-omni", image_list=FRAMES, element_list=[{}] * 3), []),
        (kling("kling-v3-omni", image_list=FRAMES, element_list=[{}] * 4), ["frame_elements"]),
        (kling("kling-video-o1", image_list=FRAMES, duration="7"), []),
        (kling("kling-video-o1", image_list=FRAMES, element_list=[{}]), ["last_frame_alone"]),
        (kling("kling-video-o1", image_list=[*FRAMES, {"image_url": "c"}]), ["last_frame_alone"]),
        (kling("kling-v3-omni", negative_prompt="fog"), ["field_not_taken"]),
        (kling("kling-v3-omni", cfg_scale=0.5), ["field_not_taken"]),
        (kling(negative_prompt="x" * 2500), []),
        (kling(negative_prompt="x" * 2501), ["negative_prompt_limit"]),
        (kling(aspect_ratio="1:1"), []),
        (kling(aspect_ratio="4:3"), ["aspect_ratio_values"]),
        (kling(cfg_scale=0), []),
        (kling(cfg_scale=1), []),
        (kling(cfg_scale=1.01), ["cfg_scale_range"]),
        (kling(cfg_scale=-0.01), ["cfg_scale_range"]),
        (kling("kling-v2-6", cfg_scale=0.5), ["cfg_scale_model"]),
        (kling("kling-v2-6", cfg_scale=7), ["cfg_scale_range", "cfg_scale_model"]),
        (kling("kling-v2-5-turbo", cfg_scale=1), ["cfg_scale_model"]),
        (kling("kling-v2-1-master", cfg_scale=1), ["cfg_scale_model"]),
        (kling("kling-v1", cfg_scale=1), []),
        (kling(camera_control={"type": "forward_up"}), ["field_not_taken"]),
        (kling("kling-v1", camera_control={"type": "forward_up"}), []),
        (kling("kling-v1", camera_control={"type": "spin"}), ["camera_kind"]),
        (kling("kling-v1", camera_control={"type": "forward_up"}, mode="pro"), ["camera_support"]),
        (kling("kling-v1", camera_control={"type": "forward_up"}, duration="10"), ["camera_support"]),
        (kling("kling-v1", camera_control={"type": "forward_up"}, image="a"), ["camera_support"]),
        (kling("kling-v1", camera_control={"type": "simple", "config": {"zoom": -10, "pan": 0}}), []),
        (kling("kling-v1", camera_control={"type": "simple", "config": {"zoom": 10.5}}), ["simple_camera"]),
        (
            kling("kling-v1", camera_control={"type": "simple", "config": {"zoom": 1, "pan": 1}}),
            ["simple_camera"],
        ),
        (kling("kling-v1", camera_control={"type": "simple", "config": {"zoom": 0}}), ["simple_camera"]),
        (kling("kling-v1", camera_control={"type": "simple"}), ["simple_camera"]),
        (
            kling("kling-v1", camera_control={"type": "forward_up", "config": {"zoom": 1}}),
            ["camera_without_config"],
        ),
        (
            kling(
                "kling-v1-5", image="a", mode="pro", camera_control={"type": "simple", "config": {"zoom": 1}}
            ),
            [],
        ),
        (kling("kling-v1-5", image="a", mode="pro", camera_control={"type": "forward_up"}), ["camera_limit"]),
        (kling("kling-v1", image="a", dynamic_masks=MASKS), []),
        (kling("kling-v1", image="a", dynamic_masks=MASKS, duration="10"), ["masks_support"]),
        (kling("kling-v1", image="a", dynamic_masks=MASKS * 7), ["mask_count"]),
        (kling("kling-v1", image="a", image_tail="b", static_mask="c"), ["masks_last_frame"]),
        (kling("kling-v1-5", image="a", static_mask="c"), ["static_mask_support"]),
        (kling("kling-v1", image="a", image_tail="b"), []),
        (kling("kling-v1", image="a", image_tail="b", duration="10"), ["last_frame_duration"]),
        (kling("kling-v1-5", image_tail="b", mode="pro"), []),
        (kling("kling-v1-6", image_tail="b", mode="pro"), []),
        (kling("kling-v1-6", image_tail="b"), ["last_frame_resolution"]),
        (kling("kling-v1-5"), ["action_limit"]),
        (kling("kling-v2-1"), ["action_limit"]),
        (kling("kling-v2-1", image="a", image_tail="b"), ["last_frame_resolution"]),
        (kling("kling-v2-master", mode="pro"), ["field_not_taken"]),
        (kling("kling-v2-1-master", mode="std"), ["field_not_taken"]),
        (kling("kling-v2-1-master", image="a", image_tail="b"), ["field_not_taken"]),
        (kling("kling-v2-master", sound="off"), []),
        (kling("kling-v2-master", sound="on"), ["no_sound"]),
        (kling("kling-v1-6", image_list=[{"image": "a"}] * 4), []),
        (kling("kling-v1-6", image_list=[{"image": "a"}] * 5), ["images_limit"]),
        (kling("kling-v1-6", image_list=[{"image": "a"}], image="b"), ["frames_images"]),
        (kling("kling-v1-6", session_id="s", edit_mode="removal"), []),
        (kling("kling-v1-6", session_id="s"), ["edit_mode"]),
        (kling("kling-v1-6", session_id="s", edit_mode="addition"), ["edit_additions"]),
        (kling("kling-v1-6", session_id="s", edit_mode="swap", image_list=[{"image": "a"}]), []),
        (kling("kling-v1-6", session_id="s", edit_mode="swap", image_list=[{"image": "a"}] * 2), ["edit_swap"]),
        (kling("kling-video-extend", prompt=None, video_id="w"), []),
        (kling("kling-video-extend"), ["extended_video_required"]),
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
        (kling("kling-v3-omni", video_list=FEATURE), {"length_s": "2.99"}, ["video_length"]),
        (kling("kling-v3-omni", video_list=FEATURE), {"length_s": "15.5", "size_bytes": 209715200}, []),
        (kling("kling-v3-omni", video_list=FEATURE), {"length_s": "15.51"}, ["video_length"]),
        (kling("kling-v3-omni", video_list=FEATURE), {"size_bytes": 209715201}, ["video_size_bytes_limit"]),
        (kling("kling-video-o1", video_list=FEATURE), {"length_s": "10"}, []),
        (kling("kling-video-o1", video_list=FEATURE), {"length_s": "10.01"}, ["video_length"]),
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
        (kling("kling-v3-omni", video_list=FEATURE, duration="5"), "base_edit_duration", False),
        (kling("kling-v3-omni", video_list=BASE), "base_edit_duration", False),
        (kling("kling-v3-omni", video_list=BASE, duration="5"), "base_edit_duration", True),
        (kling("kling-video-o1", video_list=BASE, duration="5"), "base_edit_duration", True),
        (kling("kling-v3-omni"), "aspect_ratio_absent", True),
        (kling("kling-v3-omni", aspect_ratio="1:1"), "aspect_ratio_absent", False),
        (kling("kling-v3-omni", image_list=FRAMES), "aspect_ratio_absent", False),
        (kling("kling-video-o1", duration="7"), "text_duration", True),
        (kling("kling-video-o1", duration="10"), "text_duration", False),
        (kling("kling-v3-omni", video_list=BASE, element_list=[{}]), "video_elements", True),
        (kling(multi_shot="true", shot_type="intelligence"), "multi_shot_text", True),
        (kling(multi_shot="false"), "multi_shot_text", True),
        (kling(multi_shot=False), "multi_shot_text", False),
        (kling(multi_shot=False, multi_prompt=shots(2, 9)), "ignored_shots", True),
        (kling(multi_prompt=shots(2, 3)), "ignored_shots", True),
        (kling(**SEVERAL, multi_prompt=shots(2, 3)), "ignored_shots", False),
        (kling(**SEVERAL, multi_prompt=shots(2, 3)), "ignored_prompt", True),
        (kling(prompt="", **SEVERAL, multi_prompt=shots(2, 3)), "ignored_prompt", False),
        (kling(image="a"), "image_prompt", False),
        (kling(image="a", prompt=None), "image_prompt", True),
        (kling("kling-v2-6", **CITED, mode="pro", sound="on"), "voice_not_cited", False),
        (kling("kling-v2-6", **{**CITED, "prompt": "hello"}, mode="pro", sound="on"), "voice_not_cited", True),
        (kling(**MOTION), "motion_control_rounding", True),
        (kling(), "motion_control_rounding", False),
        (kling("kling-v2-6", **MOTION), "motion_control_rounding", False),
        (kling(), "assumed_duration_s", True),
        (kling(**MOTION), "assumed_duration_s", False),
        (kling("kling-v2-6"), "assumed_audio", True),
        (kling("kling-video-o1"), "assumed_audio", False),  # the model has no other setting
    ],
)
def test_a_warning_becomes_a_note(payload: dict[str, Any], code: str, noted: bool) -> None:  # noqa: FBT001
    """The quote has the note when the warning applies, and only then."""
    assert (code in [note.code for note in quote(payload, at=AT).notes]) is noted


# The official list as of 2026-09-20: model, mode, fields that select the tier, tier, units.
VIDEO = [
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
    ("kling-v2-6", "pro", {"sound": "on", **CITED}, "audio_voice_control", "1.2"),
    ("kling-v2-6", "pro", {"sound": "on", **CITED, "prompt": "hello"}, "audio", "1.0"),
    ("kling-v2-6", "std", MOTION, "motion_control", "0.5"),
    ("kling-v2-6", "pro", MOTION, "motion_control", "0.8"),
    ("kling-v2-5-turbo", "std", {}, "silent", "0.3"),
    ("kling-v2-5-turbo", "pro", {}, "silent", "0.5"),
]
AVATAR = [("kling-avatar", "std", "service", "0.4"), ("kling-avatar", "pro", "service", "0.8")]
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
        payload = kling(model, **{**switch, "mode": mode}, **length)
        quoted = quote(payload, media={"v": {"length_s": seconds}}, at=AT)
        assert quoted.total == Decimal(units) * UNIT * seconds
        assert (quoted.tier, quoted.unit, quoted.currency) == (tier, "second", "USD")
        assert (quoted.provider, quoted.table.id) == ("kling", "kling/2026-09-20")
        units_text = f"{Decimal(units).normalize():f} unit{'' if Decimal(units) == 1 else 's'}"
        assert f"{units_text} at 0.14 USD" in quoted.lines[0].description


SERVICE_CALLS: dict[str, tuple[str, dict[str, Any]]] = {
    "kling-avatar-tts": ("audio/tts", {"text": "a", "voice_id": "v"}),
    "kling-face-recognition": ("videos/identify-face", {"video_id": "w"}),
    "kling-custom-voice": ("general/custom-voices", {"voice_name": "a"}),
    "kling-text-to-audio": ("audio/text-to-audio", {"prompt": "a", "duration": 5}),
    "kling-video-to-audio": ("audio/video-to-audio", {"video_id": "w"}),
    "kling-image-recognition": ("videos/image-recognize", {"image": "a"}),
}
"""Service -> the end of its path, and a payload."""


@pytest.mark.parametrize(("model", "units"), SERVICES[1:])
def test_every_price_per_call_is_exact(model: str, units: str) -> None:
    """The total is the published units x 0.14 USD, and the quantity is one call."""
    path, payload = SERVICE_CALLS[model]
    quoted = quote(payload, url=f"{OFFICIAL}/{path}", at=AT)
    assert (quoted.total, quoted.quantity, quoted.unit) == (Decimal(units) * UNIT, Decimal(1), "call")
    assert (quoted.canonical_model, quoted.tier, quoted.resolution) == (model, "service", "any")


def test_the_table_has_exactly_the_published_prices(book: PriceBook) -> None:
    """The list has 40: 33 prices per second, lip sync and six prices per call; others are of images.

    Two of the 33 are for 3.0 turbo, which has no legacy endpoint.
    """
    (_, table) = book.tables["kling"]
    resolutions = {"std": "720p", "pro": "1080p", "4k": "4k"}
    published = {(model, resolutions[mode], tier): units for model, mode, _, tier, units in VIDEO}
    published |= {(model, resolutions[mode], tier): units for model, mode, tier, units in AVATAR}
    published |= {(model, "any", "service"): units for model, units in SERVICES}
    published |= {("kling-3.0-turbo", "720p", "audio"): "0.8", ("kling-3.0-turbo", "1080p", "audio"): "1.0"}
    models = {model for model, *_ in published}
    rates = {cell: rate for cell, rate in table.rates.items() if cell.model in models}
    assert (len(SERVICES), len(published), len(rates)) == (7, 40, 40)
    assert {tuple(cell): rate.unit_price for cell, rate in rates.items()} == {
        cell: Decimal(units) * UNIT for cell, units in published.items()
    }
    assert {cells.model for cells in table.unpriced} == {model for model, *_ in RETIRED}
    assert table.billing.failed_tasks == "refunded"
    assert table.hosts == ("api-singapore.klingai.com", "api-beijing.klingai.com", "api.klingai.com")


# The models that left the list in September 2026, from a copy of the official price page of about July 2026:
# model, mode, fields that select the endpoint, resolution of the rate, tier, units per second.
ELEMENTS: dict[str, Any] = {"session_id": "s", "edit_mode": "removal"}
RETIRED = [
    ("kling-v1", "std", {}, "720p", "silent", "0.2"),
    ("kling-v1", "pro", {}, "1080p", "silent", "0.7"),
    ("kling-v1-5", "std", {"image": "a"}, "720p", "silent", "0.4"),
    ("kling-v1-5", "pro", {"image": "a"}, "1080p", "silent", "0.7"),
    ("kling-v1-6", "std", {}, "720p", "silent", "0.4"),
    ("kling-v1-6", "pro", {}, "1080p", "silent", "0.7"),
    ("kling-v1-6", "std", {"image_list": [{"image": "a"}]}, "720p", "silent", "0.4"),
    ("kling-v1-6", "pro", {"image_list": [{"image": "a"}]}, "1080p", "silent", "0.7"),
    ("kling-v1-6", "std", ELEMENTS, "720p", "multi_elements", "0.6"),
    ("kling-v1-6", "pro", ELEMENTS, "1080p", "multi_elements", "1.0"),
    ("kling-v2-master", None, {}, "720p", "silent", "2.0"),
    ("kling-v2-1", "std", {"image": "a"}, "720p", "silent", "0.4"),
    ("kling-v2-1", "pro", {"image": "a"}, "1080p", "silent", "0.7"),
    ("kling-v2-1-master", None, {}, "1080p", "silent", "2.0"),
    ("kling-video-extend", None, {"video_id": "w"}, "720p", "service", "2.0"),
    ("kling-video-extend", None, {"video_id": "w"}, "1080p", "service", "3.5"),
]
JULY = datetime(2026, 7, 10, tzinfo=UTC)
LAST_DAY = datetime(2026, 9, 14, 23, 59, tzinfo=UTC)


@pytest.mark.parametrize(("model", "mode", "switch", "resolution", "tier", "units"), RETIRED[:-2])
def test_every_price_of_a_retired_model_is_exact(
    model: str, mode: str | None, switch: dict[str, Any], resolution: str, tier: str, units: str
) -> None:
    """Until its last day the model costs its published units; from then on the quote is refused."""
    for seconds in (5, 10):
        payload = kling(model, mode=mode, duration=str(seconds), **switch)
        for at in (JULY, LAST_DAY):
            quoted = quote(payload, at=at)
            assert quoted.total == Decimal(units) * UNIT * seconds
            assert (quoted.tier, quoted.resolution, quoted.table.id) == (tier, resolution, "kling/2026-07")
        with pytest.raises(
            PriceNotFoundError, match="the price list of 2026-09-20 no longer includes this model"
        ):
            quote(payload, at=AT)


def test_the_price_of_a_video_extension_depends_on_the_source_video() -> None:
    """A call costs 2 units for a video of mode std, and 3.5 for one of mode pro; the payload names neither."""
    quoted = quote({"video_id": "w"}, url=f"{CITY}/video-extend", at=JULY)
    assert (quoted.minimum, quoted.maximum) == (2 * UNIT, Decimal("3.5") * UNIT)
    assert (quoted.action, quoted.unit) == ("video_extend", "call")


def test_the_older_table_has_exactly_the_published_prices(book: PriceBook) -> None:
    """It has the 40 prices that are still in the list, and 14 of models that left it; none is of images."""
    (older, newer) = book.tables["kling"]
    retired = {(model, resolution, tier): units for model, _, _, resolution, tier, units in RETIRED}
    assert (len(retired), len(older.rates)) == (14, 54)
    models = {cell.model for cell in older.rates}
    assert {tuple(cell): rate.unit_price for cell, rate in older.rates.items()} == {
        tuple(cell): rate.unit_price for cell, rate in newer.rates.items() if cell.model in models
    } | {cell: Decimal(units) * UNIT for cell, units in retired.items()}


# The days of launch in the API updates.
LAUNCHES = [
    (kling("kling-v1-5", image="a", mode="pro"), datetime(2024, 11, 15, tzinfo=UTC)),
    (kling("kling-v1-6"), datetime(2025, 1, 7, tzinfo=UTC)),
    (kling("kling-v2-master"), datetime(2025, 5, 13, tzinfo=UTC)),
    (kling("kling-v2-1", image="a"), datetime(2025, 6, 19, tzinfo=UTC)),
    (kling("kling-v2-1-master"), datetime(2025, 6, 19, tzinfo=UTC)),
    (kling("kling-v2-5-turbo", mode="pro"), datetime(2025, 10, 20, tzinfo=UTC)),
    (kling("kling-v2-6"), datetime(2025, 12, 15, tzinfo=UTC)),
    (kling("kling-video-o1"), datetime(2025, 12, 15, tzinfo=UTC)),
    (kling("kling-v3"), datetime(2026, 2, 25, tzinfo=UTC)),
    (kling("kling-v3-omni"), datetime(2026, 2, 25, tzinfo=UTC)),
    ({"image": "a", "sound_file": "b"}, datetime(2025, 10, 15, tzinfo=UTC)),
    ({"prompt": "a", "duration": 5}, datetime(2025, 8, 1, tzinfo=UTC)),
]


@pytest.mark.parametrize(("payload", "launch"), LAUNCHES)
def test_a_model_before_its_launch_is_refused_with_the_day(payload: dict[str, Any], launch: datetime) -> None:
    """From the day of launch on it is quoted, with a note that the table is known only from later on."""
    path = "videos/avatar/image2video" if "sound_file" in payload else "audio/text-to-audio"
    url = None if "model_name" in payload else f"{OFFICIAL}/{path}"
    with pytest.raises(PriceNotFoundError, match=f"from {launch:%Y-%m-%d}"):
        quote(payload, url=url, at=launch - timedelta(seconds=1))
    (note,) = [note for note in quote(payload, url=url, at=launch).notes if note.code == "before_known_prices"]
    assert note.message == (
        "the prices in kling/2026-07 are known only from 2026-06-17 onward; earlier prices may have differed"
    )
    if payload.get("model_name") in {"kling-v2-6", "kling-v3"}:
        assert "before_known_prices" not in [note.code for note in quote(payload, url=url, at=JULY).notes]


MULTI_SHOT_FRAMES = kling(image="a", image_tail="b", **SEVERAL, multi_prompt=shots(2, 3))
OMNI_VIDEO_4K = kling("kling-v3-omni", video_list=FEATURE, mode="4k")
DATED_RULES = [
    (MULTI_SHOT_FRAMES, "multi_shot_frames", datetime(2026, 5, 7, tzinfo=UTC)),
    (kling(mode="4k"), "launch_4k", datetime(2026, 4, 23, tzinfo=UTC)),
    (kling("kling-v3-omni", mode="4k"), "launch_4k", datetime(2026, 4, 23, tzinfo=UTC)),
    (OMNI_VIDEO_4K, "launch_video_4k", datetime(2026, 6, 17, tzinfo=UTC)),
    (
        kling("kling-v3-omni", multi_shot=True, shot_type="intelligence"),
        "launch_intelligence",
        datetime(2026, 3, 11, tzinfo=UTC),
    ),
    (
        kling("kling-v3-omni", video_list=FEATURE, multi_shot=True, shot_type="intelligence"),
        "launch_feature_shots",
        datetime(2026, 6, 17, tzinfo=UTC),
    ),
    (kling(**MOTION), "launch_motion_control", datetime(2026, 3, 4, tzinfo=UTC)),
    (kling("kling-v2-6", **MOTION), "launch_motion_control", datetime(2025, 12, 22, tzinfo=UTC)),
    (kling("kling-v2-6", **CITED, mode="pro", sound="on"), "launch_voices", datetime(2025, 12, 16, tzinfo=UTC)),
    (kling("kling-v2-5-turbo", mode="std"), "launch_std", datetime(2025, 11, 11, tzinfo=UTC)),
    (
        kling("kling-v2-5-turbo", mode="pro", image="a", image_tail="b"),
        "launch_last_frame",
        datetime(2025, 11, 17, tzinfo=UTC),
    ),
    (
        kling("kling-v2-1", mode="pro", image="a", image_tail="b"),
        "launch_last_frame",
        datetime(2025, 9, 5, tzinfo=UTC),
    ),
    (kling("kling-v1-6", mode="pro"), "launch_text_pro", datetime(2025, 8, 12, tzinfo=UTC)),
    (
        kling("kling-v1-6", mode="pro", image="a", image_tail="b"),
        "launch_last_frame",
        datetime(2025, 3, 12, tzinfo=UTC),
    ),
    (kling("kling-v1-6", **ELEMENTS), "launch_multi_elements", datetime(2025, 7, 21, tzinfo=UTC)),
    (kling("kling-v1-5", image="a", mode="std"), "launch_std", datetime(2024, 12, 9, tzinfo=UTC)),
    (
        kling("kling-v1-5", image="a", mode="pro", static_mask="c"),
        "launch_controls",
        datetime(2025, 3, 12, tzinfo=UTC),
    ),
    (kling("kling-v1", image="a", static_mask="c"), "launch_masks", datetime(2024, 11, 29, tzinfo=UTC)),
]


@pytest.mark.parametrize(("payload", "code", "changed"), DATED_RULES)
def test_a_rule_that_changed_is_judged_at_the_instant_of_the_quote(
    payload: dict[str, Any], code: str, changed: datetime
) -> None:
    """The day before the change the rule is broken, and from the day itself on it is not."""
    before = check(payload, at=changed - timedelta(seconds=1))
    assert [violation.code for violation in before] == [code]
    assert check(payload, at=changed) == []
    assert check(payload, at=AT) == []


def test_a_longer_reference_video_is_possible_since_june() -> None:
    """The rule about the known length of a file has a date, too."""
    payload, media = kling("kling-v3-omni", video_list=FEATURE), {"v": {"length_s": "10.5"}}
    change = datetime(2026, 6, 17, tzinfo=UTC)
    early = check(payload, media=media, at=change - timedelta(seconds=1))
    assert [violation.code for violation in early] == ["launch_video_length"]
    assert check(payload, media=media, at=change) == []


def test_suggestions_obey_the_rules_of_the_day() -> None:
    """Before 4k existed, it is never suggested."""
    with pytest.raises(CapabilityError) as caught:
        quote(kling(mode="4k"), at=datetime(2026, 4, 22, tzinfo=UTC))
    assert caught.value.suggestions == ({"mode": "pro"}, {"mode": "std"})


# Path, the default model, the default mode as a resolution, the default length (reference, request bodies).
PATHS = [
    ("text2video", {"prompt": "a"}, "kling-v1", "720p", 5),
    ("image2video", {"prompt": "a", "image": "b"}, "kling-v1", "720p", 5),
    ("omni-video", {"prompt": "a"}, "kling-video-o1", "1080p", 5),
    ("omni-video/", {"prompt": "a", "model_name": ""}, "kling-video-o1", "1080p", 5),
    ("multi-image2video", {"prompt": "a", "image_list": [{"image": "b"}]}, "kling-v1-6", "720p", 5),
    ("multi-elements", {"prompt": "a", **ELEMENTS}, "kling-v1-6", "720p", 5),
]


@pytest.mark.parametrize(("path", "payload", "model", "resolution", "seconds"), PATHS)
def test_a_path_has_a_default_model(
    path: str, payload: dict[str, Any], model: str, resolution: str, seconds: int
) -> None:
    """A payload without a model gets the default of its path, and the quote has a note."""
    quoted = quote(payload, url=f"{CITY}/{path}", at=JULY)
    facts = quoted.request.facts
    assert (facts["model"], facts["resolution"], facts["duration_s"], facts["audio"]) == (
        model,
        resolution,
        seconds,
        False,
    )
    (note,) = [note for note in quoted.notes if note.code == "assumed_model"]
    assert note.message == f"model_name is not specified; the default for this path is assumed: {model}"


def test_motion_control_has_a_default_model_but_no_default_mode() -> None:
    """Without a model it is 2.6, whose price counts the driving video; the mode is required."""
    payload = {name: value for name, value in MOTION.items() if name != "prompt"}
    quoted = quote(payload, url=f"{CITY}/motion-control", media={"v": {"length_s": "8"}}, at=AT)
    assert (quoted.canonical_model, quoted.total) == ("kling-v2-6", Decimal("0.56"))  # 8 x 0.5 units
    del payload["mode"]
    (violation,) = check(payload, url=f"{CITY}/motion-control", at=AT)
    assert (violation.code, violation.field) == ("motion_control_mode", "mode")
    assert violation.message == (
        "mode is required for motion control; set it to std or pro"
        " (the model is kling-v2-6, the default for this path)"
    )


@pytest.mark.parametrize(
    ("payload", "total"),
    [
        (kling("kling-v3-omni", image_list=[{"image_url": "a"}]), "0.56"),  # 5 s x 0.8 units, mode pro
        (kling("kling-v3-omni"), "0.56"),
        (kling("kling-v3-omni", sound="on"), "0.7"),  # 5 s x 1.0 units
        (kling("kling-video-o1", image_list=FRAMES), "0.56"),
        (kling("kling-v3-omni", video_list=FEATURE), "0.84"),  # 5 s x 1.2 units
        (kling("kling-v3-omni", mode="std"), "0.42"),
        (kling("kling-v3"), "0.42"),  # elsewhere the default mode is std
    ],
)
def test_omni_video_has_the_default_mode_pro(payload: dict[str, Any], total: str) -> None:
    """Without a mode the price is that of 1080p, with or without a URL."""
    assert quote(payload, at=AT).total == Decimal(total)


@pytest.mark.parametrize(
    "payload", [{"prompt": "a", "model_name": "", "mode": "pro"}, {"prompt": "a", "mode": "std"}]
)
def test_without_a_path_the_model_is_required(payload: dict[str, Any]) -> None:
    """The error says that the URL would give a default."""
    with pytest.raises(CapabilityError, match="its path has a default model") as caught:
        quote(payload, wire_format="kling", at=AT)
    assert [violation.code for violation in caught.value.violations] == ["model_required"]


OLD_FIELD = {"prompt": "a heron lands", "duration": "5", "mode": "pro", "sound": "on"}


@pytest.mark.parametrize("url", [None, f"{CITY}/text2video", f"{GATEWAY}/text2video"])
@pytest.mark.parametrize("model", ["kling-v3", "Kling-V3"])
def test_both_names_of_the_model_may_agree(url: str | None, model: str) -> None:
    """`model` beside an equal `model_name` changes nothing."""
    payload = {"model": model, "model_name": "kling-v3", **OLD_FIELD}
    assert quote(payload, url=url, at=AT, provider="kling").total == Decimal("0.84")


@pytest.mark.parametrize("url", [None, f"{CITY}/text2video", f"{GATEWAY}/text2video"])
def test_two_different_models_are_refused(url: str | None) -> None:
    """The violation names the field of the older name and the model of the other."""
    (violation,) = check({"model": "kling-v2-6", "model_name": "kling-v3", **OLD_FIELD}, url=url, at=AT)
    assert violation.message == "model must be the same as model_name (kling-v3), or left out, got 'kling-v2-6'"


@pytest.mark.parametrize("url", [None, f"{GATEWAY}/text2video", f"{GATEWAY}/omni-video"])
def test_a_gateway_reads_the_older_field(url: str | None) -> None:
    """Without a URL, or at a host that is not the official API's, the named model is priced."""
    model = "kling-v3-omni" if url and "omni" in url else "kling-v3"
    quoted = quote({"model": model, **OLD_FIELD}, url=url, provider="kling", at=AT)
    assert (quoted.canonical_model, quoted.resolution) == (model, "1080p")
    assert quoted.total == Decimal("0.7" if "omni" in model else "0.84")


@pytest.mark.parametrize(
    ("model", "total"), [("kling-v3", "0.84"), ("kling-v2-6", "0.7"), ("kling-v3-omni", "0.7")]
)
def test_the_older_field_is_read_beside_fields_of_this_format(model: str, total: str) -> None:
    """A name that another format takes as well does not contradict the fields of this one."""
    quoted = quote({"model": model, **OLD_FIELD}, at=AT)
    assert (quoted.wire_format, quoted.total) == ("kling", Decimal(total))


@pytest.mark.parametrize("host", ["api-singapore", "api-beijing", "api"])
def test_the_official_api_ignores_the_older_field(host: str) -> None:
    """The price is that of the path's default model, with a note; a refusal names that model and the reason."""
    url = f"https://{host}.klingai.com/v1/videos"
    quoted = quote({"model": "kling-v3", "prompt": "a"}, url=f"{url}/text2video", at=JULY)
    assert (quoted.canonical_model, quoted.total) == ("kling-v1", Decimal("0.14"))  # 5 s x 0.2 units
    notes = {note.code: note.message for note in quoted.notes}
    assert notes["model_ignored"] == (
        "this API ignores the field `model` and uses the default model for the path; give the "
        "model in model_name"
    )
    omni = quote({"model": "kling-v3-omni", "prompt": "a"}, url=f"{url}/omni-video", at=AT)
    assert omni.canonical_model == "kling-video-o1"
    (violation,) = check({"model": "kling-v3", **OLD_FIELD}, url=f"{url}/text2video", at=AT)
    assert violation.message.endswith(
        "(the model is kling-v1, the default for this path, because the API ignores the field `model`)"
    )
    with pytest.raises(
        PriceNotFoundError, match=r"the model is kling-v1, .* because the API ignores the field `model`"
    ):
        quote({"model": "kling-v3", "prompt": "a"}, url=f"{url}/text2video", at=AT)


@pytest.mark.parametrize(
    "video_list", [BASE, [{"video_url": "v", "refer_type": "base"}], [{"video_url": "v", "refer_type": ""}]]
)
@pytest.mark.parametrize(
    ("model", "mode", "rate", "longest"),
    [
        ("kling-video-o1", None, "0.168", 10),
        ("kling-video-o1", "std", "0.126", 10),
        ("kling-v3-omni", "pro", "0.168", 16),
        ("kling-v3-omni", "4k", "0.42", 16),
    ],
)
def test_a_video_edit_is_billed_by_its_input(
    video_list: list[dict[str, Any]], model: str, mode: str | None, rate: str, longest: int
) -> None:
    """The seconds of the input are rounded to the nearest; an unknown length gives a range to the longest."""
    for duration in (None, "5", "10"):
        payload = kling(model, mode=mode, video_list=video_list, duration=duration)
        for length, seconds in (("3", 3), ("4.49", 4), ("4.5", 5), ("9.6", 10)):
            quoted = quote(payload, media={"v": {"length_s": length}}, at=AT)
            assert (quoted.total, quoted.tier) == (Decimal(rate) * seconds, "video_reference")
        unknown = quote(payload, at=AT)
        assert (unknown.minimum, unknown.maximum) == (Decimal(rate) * 3, Decimal(rate) * longest)
    assert codes(kling(model, video_list=video_list), media={"v": {"length_s": "2.9"}}) == ["video_length"]


@pytest.mark.parametrize(
    ("prompt", "cited"),
    [
        ("<<<voice_1>>> says hello", True),
        ("she says <<<voice_2>>> hello", True),
        ("<<<voice_3>>> says hello", False),
        ("<<<voice_0>>> says hello", False),
        ("voice_1 says hello", False),
        ("hello", False),
    ],
)
def test_a_voice_is_billed_if_the_prompt_cites_it(prompt: str, cited: bool) -> None:  # noqa: FBT001
    """The tier needs a voice in the list and a marker of one of the listed voices."""
    payload = kling("kling-v2-6", image="a", prompt=prompt, mode="pro", sound="on", voice_list=[{}, {}])
    quoted = quote(payload, at=AT)
    assert quoted.tier == ("audio_voice_control" if cited else "audio")
    assert quoted.total == (Decimal("0.84") if cited else Decimal("0.7"))  # 5 s x 1.2 or 1.0 units
    without = quote({**payload, "voice_list": []}, at=AT)
    assert (without.tier, without.total) == ("audio", Decimal("0.7"))


SAMPLE: dict[str, Any] = {
    "callback_url": "",
    "external_task_id": "",
    "negative_prompt": "",
    "image_list": [],
    "video_list": [],
}


@pytest.mark.parametrize("flag", [True, "true"])
@pytest.mark.parametrize(
    ("payload", "total"),
    [
        (kling(prompt="", **SEVERAL, multi_prompt=shots(2, 3), mode="pro", sound="on"), "0.84"),
        (kling(prompt="", image="a", **SEVERAL, multi_prompt=shots(2, 3), mode="pro", sound="on"), "0.84"),
        (kling(image="a", image_tail="", duration="5", mode="std", sound="off"), "0.42"),
        (kling("kling-v3-omni", prompt="", **SEVERAL, multi_prompt=shots(2, 3), sound="on", mode="pro"), "0.7"),
    ],
)
def test_the_samples_of_the_reference_are_quoted(payload: dict[str, Any], total: str, flag: bool | str) -> None:  # noqa: FBT001
    """They send empty fields, and several shots as true or as text."""
    sample = {**SAMPLE, **payload}
    if "multi_shot" in sample:
        sample["multi_shot"] = flag
    sample = {
        name: value for name, value in sample.items() if not (name == "negative_prompt" and "omni" in payload)
    }
    assert quote(sample, at=AT).total == Decimal(total)


@pytest.mark.parametrize(
    ("name", "explanation"),
    [
        ("kling-v4", "Kling 4.0 has been announced, but the pages of the official API do not mention it"),
        ("KLING-4.0-flash", "Kling 4.0 has been announced"),
        ("kling-3.0-turbo", "Kling 3.0 Turbo has no legacy endpoint"),
        ("kling-video-o3", "which this API calls kling-v3-omni; use that name"),
        ("kling-3.0", "this API's name for Kling 3.0 is kling-v3; use that name"),
    ],
)
def test_a_name_that_the_api_does_not_take_is_explained(name: str, explanation: str) -> None:
    """The error says what the model is, instead of calling it unknown."""
    with pytest.raises(CapabilityError) as caught:
        quote(kling(name), at=AT)
    (violation,) = caught.value.violations
    assert violation.code == "unknown_model"
    assert caught.value.suggestions == ()
    assert violation.message.startswith(f"kling has no model {name}: ")
    assert explanation in violation.message


@pytest.mark.parametrize("wire_format", ["tasks", "tasks_v2", "openai_videos"])
def test_kling_4_is_explained_in_every_format(wire_format: str) -> None:
    """An explanation in one capability file serves all formats, for a name that no API takes."""
    with pytest.raises(CapabilityError, match=r"has no model kling-v4: Kling 4.0 has been announced"):
        quote({"model": "kling-v4", "prompt": "a", "duration": 5}, wire_format=wire_format, at=AT)
    with pytest.raises(CapabilityError, match=r"unknown model kling-3\.0-turbo; known models: "):
        quote({"model": "kling-3.0-turbo", "prompt": "a", "duration": 5}, wire_format="tasks", at=AT)


@pytest.mark.parametrize("name", ["kling-v3", "Kling-V3", "KLING-V3"])
def test_capitals_in_a_name_make_no_difference(name: str) -> None:
    """The quote keeps the name as the caller wrote it."""
    quoted = quote(kling(name), at=AT)
    assert (quoted.model, quoted.canonical_model, quoted.total) == (name, "kling-v3", Decimal("0.42"))


@pytest.mark.parametrize(
    ("length_ms", "blocks", "total"),
    [(2000, 1, "0.07"), (5000, 1, "0.07"), (5010, 2, "0.14"), (10000, 2, "0.14"), (60000, 12, "0.84")],
)
def test_lip_sync_is_billed_in_blocks_of_five_seconds(length_ms: int, blocks: int, total: str) -> None:
    """Every started block counts in full, and at least one block is billed."""
    face = {"face_id": "0", "sound_start_time": 0, "sound_end_time": length_ms, "sound_insert_time": 0}
    payload = {"session_id": "s", "face_choose": [face]}
    quoted = quote(payload, url=f"{OFFICIAL}/videos/advanced-lip-sync", at=AT)
    assert (quoted.quantity, quoted.unit, quoted.total) == (Decimal(blocks), "5 seconds", Decimal(total))
    assert f"{blocks} x 5 seconds x 0.07 = " in quoted.explain()


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
        []
        if length_s
        else [
            (
                "the price depends on the length of the video in video_url, which is unknown; "
                "the line items show the maximum"
            )
        ]
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
