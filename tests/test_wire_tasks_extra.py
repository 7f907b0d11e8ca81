"""Wire format `tasks_extra`: reading payloads, the rules of the API, and its prices."""

import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kling_pricing import CapabilityError, PriceBook, PriceNotFoundError, WireFormatError, check, quote
from kling_pricing.quoting.intake import Intake
from kling_pricing.wire.formats.tasks_extra import FIELD_NAMES, amend, parse, read_task
from kling_pricing.wire.task import Task
from tests.charges import charge
from tests.conftest import AT, video

EXAMPLES = Path(__file__).parent.parent / "examples" / "requests" / "tasks_extra"
MASK = {"mask_url": "m", "trajectories": [{"x": 1, "y": 2.5}, {"x": 3, "y": 4}]}


def extra(model: str = "kling-v3", /, **settings: Any) -> dict[str, Any]:
    """Returns a payload whose `extra` has these settings."""
    return video(model, extra=settings)


def multi_shot(*durations: int, **fields: Any) -> dict[str, Any]:
    """Returns a multi-shot payload with one shot of each duration."""
    shots: dict[str, Any] = {}
    for number, duration in enumerate(durations, 1):
        shots |= {f"shot_{number}_prompt": "rain", f"shot_{number}_duration": duration}
    return {"model": "kling-v3", **fields, "extra": shots}


def masks(points: int, count: int = 1) -> list[dict[str, Any]]:
    """Returns dynamic masks whose trajectories have this many points."""
    return [{"mask_url": "m", "trajectories": [{"x": 0, "y": 0}] * points}] * count


def test_only_given_fields_are_kept() -> None:
    """A null field counts as left out, and neither becomes a default."""
    bare = parse({"model": "kling-v3", "prompt": "boat"})
    nulls = {"duration": None, "extra": {"mode": None, "shot_1_prompt": None}}
    assert bare == parse({"model": "kling-v3", "prompt": "boat", "extra": None})
    assert bare == parse({"model": "kling-v3", "prompt": "boat", **nulls})
    assert bare.facts == {"model": "kling-v3", "prompt_chars": 4}
    assert bare.fields == {"model": "model", "prompt": "prompt"}


def test_every_documented_field_is_read() -> None:
    """Each documented field becomes facts whose names do not depend on the API."""
    parsed = parse(
        {
            "model": "kling-v1-6",
            "action": "generate",
            "prompt": "锦鲤",
            "aspect_ratio": "1:1",
            "duration": 10,
            "negative_prompt": "blur",
            "image_urls": ["https://example.com/a.png"],
            "last_frame": "https://example.com/b.png",
            "callback_url": "https://example.com/hook",
            "extra": {
                "mode": "pro",
                "enable_audio": False,
                "cfg_scale": 0.3,
                "camera_control": {"type": "simple", "config": {"pan": -7, "zoom": 2.5, "tilt": None}},
                "static_mask": "https://example.com/c.png",
                "dynamic_masks": [MASK, *masks(3)],
                "shot_2_prompt": "far",
                "shot_2_duration": 4,
                "shot_1_prompt": "nearby",
                "shot_1_duration": 5,
            },
        }
    )
    assert parsed.facts == {
        "model": "kling-v1-6",
        "action": "generate",
        "prompt_chars": 2,
        "aspect_ratio": "1:1",
        "aspect_ratio_stated": True,
        "duration_s": 10,
        "duration_beside_shots": True,
        "negative_prompt_chars": 4,
        "images": 1,
        "start_images": 1,
        "last_frame": True,
        "resolution": "1080p",
        "audio": False,
        "cfg_scale": Decimal("0.3"),
        "camera": "simple",
        "camera_config_size": 2,
        "camera_extreme": Decimal(7),
        "static_mask": True,
        "masks": 2,
        "fewest_mask_points": 2,
        "most_mask_points": 3,
        "shots": 2,
        "misnumbered_shots": 0,
        "shortest_shot_s": 4,
        "longest_shot_chars": 6,
    }
    assert set(parsed.fields) == set(FIELD_NAMES)
    assert parsed.fields == {**FIELD_NAMES, "shots": "extra.shot_2_prompt"}
    assert [medium.field for medium in parsed.media] == ["image_urls[0]", "last_frame"]


def test_unknown_camera_settings_do_not_count() -> None:
    """Only listed settings are read, because a setting of another name may have any value."""
    config = {"pan": 3, "speed": "fast", "roll": None}
    payload = {"model": "kling-v1-6", "extra": {"camera_control": {"type": "simple", "config": config}}}
    parsed = parse(payload, allow_unknown=True)
    assert (parsed.facts["camera_config_size"], parsed.facts["camera_extreme"]) == (1, Decimal(3))
    with pytest.raises(WireFormatError, match=r"config\.speed'; use one of: horizontal"):
        parse(payload)


def test_a_multi_shot_video_is_as_long_as_its_shots() -> None:
    """This holds if the payload has no duration."""
    parsed = parse(multi_shot(5, 4, 3))
    assert (parsed.facts["duration_s"], parsed.facts["shots"]) == (12, 3)
    assert "duration_beside_shots" not in parsed.facts
    assert parsed.fields["duration_s"] == "extra.shot_1_duration"


@pytest.mark.parametrize(
    ("fields", "code", "field", "remedy"),
    [
        ({"resolution": "720p"}, "unknown_field", "resolution", "did you mean 'extra.mode'?"),
        ({"last_frame_image": "b"}, "unknown_field", "last_frame_image", "did you mean 'last_frame'?"),
        ({"duration": "5"}, "wrong_type", "duration", "must be a whole number, got '5'"),
        ({"duration": True}, "wrong_type", "duration", "must be a whole number, got true"),
        ({"negative_prompt": 5}, "wrong_type", "negative_prompt", "must be text, got 5"),
        ({"image_urls": [""]}, "wrong_type", "image_urls[0]", "must be non-empty text, got ''"),
        ({"last_frame": ""}, "wrong_type", "last_frame", "must be non-empty text, got ''"),
        ({"extra": "pro"}, "wrong_type", "extra", "must be an object, got 'pro'"),
        ({"extra": {"mode": "4k"}}, "wrong_type", "extra.mode", "must be std or pro, got '4k'"),
        ({"extra": {"mod": "pro"}}, "unknown_field", "extra.mod", "did you mean 'mode'?"),
        ({"extra": {"enable_audio": "no"}}, "wrong_type", "extra.enable_audio", "true or false, got 'no'"),
        ({"extra": {"cfg_scale": "0.5"}}, "wrong_type", "extra.cfg_scale", "must be a number, got '0.5'"),
        ({"extra": {"cfg_scale": True}}, "wrong_type", "extra.cfg_scale", "must be a number, got true"),
        ({"extra": {"cfg_scale": Decimal("nan")}}, "wrong_type", "extra.cfg_scale", "must be a number"),
        ({"extra": {"camera_control": {}}}, "wrong_type", "extra.camera_control.type", "is required; add it"),
        (
            {"extra": {"camera_control": {"type": "simple", "config": {"pan": "1"}}}},
            "wrong_type",
            "extra.camera_control.config.pan",
            "must be a number, got '1'",
        ),
        (
            {"extra": {"dynamic_masks": [{"mask_url": "m"}]}},
            "wrong_type",
            "extra.dynamic_masks[0].trajectories",
            "is required; add it",
        ),
        (
            {"extra": {"dynamic_masks": [{"mask_url": "m", "trajectories": [{"x": 1}]}]}},
            "wrong_type",
            "extra.dynamic_masks[0].trajectories[0].y",
            "is required; add it",
        ),
        (
            {"extra": {"shot_1_prompt": "a"}},
            "wrong_type",
            "extra.shot_1_duration",
            "is required; add it",
        ),
        ({"extra": {"shot_7_duration": 5}}, "wrong_type", "extra.shot_7_prompt", "is required; add it"),
        (
            {"extra": {"shot_1_prompt": "a", "shot_1_duration": "5"}},
            "wrong_type",
            "extra.shot_1_duration",
            "must be a whole number, got '5'",
        ),
        (
            {"extra": {"shot_1_prompt": "", "shot_1_duration": 5}},
            "wrong_type",
            "extra.shot_1_prompt",
            "must be non-empty text, got ''",
        ),
        ({"extra": {"shot_01_prompt": "a"}}, "unknown_field", "extra.shot_01_prompt", "'shot_1_prompt'?"),
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
    assert (error.wire_format, error.field) == ("tasks_extra", field)
    assert (violation.code, violation.field) == (code, field)
    assert remedy in violation.message


def test_the_payload_is_not_changed() -> None:
    """Neither reading nor amending changes it."""
    payload = video(image_urls=["a"], extra={"mode": "std", "cfg_scale": 0.5})
    before = repr(payload)
    parse(payload)
    amended = amend(payload, {"resolution": "1080p", "duration_s": 10, "audio": False})
    assert repr(payload) == before
    assert amended["extra"] == {"mode": "pro", "cfg_scale": 0.5, "enable_audio": False}


@pytest.mark.parametrize(
    "payload",
    [
        {"prompt": "紙の船", "extra": {"enable_audio": None, "mode": "std"}, "model": "kling-v3", "seed": 7},
        {"extra": None, "model": "kling-v3"},
        {"extra": {}, "model": "kling-v3"},
        {"model": "kling-v3"},
        multi_shot(5, 5),
    ],
)
def test_an_amend_without_changes_keeps_every_byte(payload: dict[str, Any]) -> None:
    """The order, the spelling and all fields stay as the caller wrote them."""
    assert json.dumps(amend(payload, {})) == json.dumps(payload)


def test_a_new_setting_is_added_last() -> None:
    """A field that the payload has, even as null, keeps its position."""
    payload = {"extra": {"enable_audio": None, "cfg_scale": 0.5}, "model": "kling-v3"}
    changes = {"resolution": "720p", "audio": True, "duration_s": 5}
    assert json.dumps(amend(payload, changes)) == (
        '{"extra": {"enable_audio": true, "cfg_scale": 0.5, "mode": "std"}, "model": "kling-v3", "duration": 5}'
    )
    assert list(amend({"model": "kling-v3", "prompt": "x"}, {"audio": False})) == ["model", "prompt", "extra"]


def test_changes_that_the_format_cannot_express_are_refused() -> None:
    """No mode stands for 4k, and a multi-shot video is as long as its shots."""
    with pytest.raises(WireFormatError, match=r"^extra.mode has no value for 4k; use 720p or 1080p$") as caught:
        amend(video(), {"resolution": "4k"})
    assert (caught.value.wire_format, caught.value.field) == ("tasks_extra", "extra.mode")
    with pytest.raises(WireFormatError) as caught:
        amend(multi_shot(5, 5), {"duration_s": 8})
    assert str(caught.value) == (
        "a multi-shot video is as long as all its shots together; change their durations so that they add "
        "up to 8 seconds"
    )
    assert caught.value.field == "extra.shot_1_duration"
    assert amend(multi_shot(5, 5), {"duration_s": 10}) == multi_shot(5, 5)


payloads = st.fixed_dictionaries(
    {"model": st.sampled_from(["kling-v3", "kling-v1"])},
    optional={
        "prompt": st.text(max_size=5),
        "duration": st.none() | st.integers(0, 16),
        "image_urls": st.lists(st.just("u"), max_size=2),
        "extra": st.none()
        | st.fixed_dictionaries(
            {},
            optional={
                "mode": st.sampled_from([None, "std", "pro"]),
                "enable_audio": st.none() | st.booleans(),
                "cfg_scale": st.floats(0, 1),
                "dynamic_masks": st.just([MASK]),
            },
        ),
    },
)
changes = st.fixed_dictionaries(
    {},
    optional={
        "model": st.sampled_from(["kling-v3", "kling-v1-6"]),
        "resolution": st.sampled_from(["720p", "1080p"]),
        "audio": st.booleans(),
    },
)


@given(payloads, changes, st.none() | st.integers(3, 15), st.booleans())
def test_an_amended_payload_parses_like_the_original_with_the_change(
    payload: dict[str, Any],
    change: dict[str, Any],
    duration: int | None,
    shots: bool,  # noqa: FBT001
) -> None:
    """For any payload, only the facts about the changed settings differ."""
    if shots:
        payload = {**payload, "extra": {**(payload.get("extra") or {}), **multi_shot(4, 5)["extra"]}}
    if duration is not None and (not shots or payload.get("duration") is not None):
        change = {**change, "duration_s": duration}
    assert parse(amend(payload, change)).facts == parse(payload).facts | change


def test_responses_are_read() -> None:
    """Submit and status responses give the task, its state and its charge."""
    submitted = read_task({"task_id": "t1", "model": "kling-v2-master", "status": "queued", "progress": 0})
    assert submitted == Task("t1", "queued", model="kling-v2-master")
    done = read_task({"task_id": "t1", "status": "completed", "cost": 535500})
    assert (done.state, done.charge) == ("succeeded", charge(("535500", "quota")))
    assert read_task({"task_id": "t1", "status": "new"}).state is None
    unreadable = read_task({"task_id": "t1", "cost": 0.5})
    assert unreadable.charge == charge(problem="cost is 0.5, which is not an exact amount")


def camera(kind: str, **config: Any) -> dict[str, Any]:
    """Returns a payload with camera control."""
    return extra("kling-v1-6", camera_control={"type": kind, **({"config": config} if config else {})})


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (video(), []),
        (video(prompt=None), [("prompt_required", "prompt")]),
        (video(prompt=""), [("prompt_required", "prompt")]),
        (video(prompt="猫" * 2500), []),
        (video(prompt="x" * 2501), [("prompt_chars_limit", "prompt")]),
        (video(action="generate"), []),
        (video(action="image2video"), [("action_limit", "action")]),
        (video(duration=2), [("duration_s_limit", "duration")]),
        (video(duration=3), []),
        (video(duration=15), []),
        (video(duration=16), [("duration_s_limit", "duration")]),
        (video("kling-v2-master", duration=5), []),
        (video("kling-v2-master", duration=6), [("duration_s_limit", "duration")]),
        (video("kling-v1-6", duration=10), []),
        (video("kling-v1", duration=11), [("duration_s_limit", "duration")]),
        (video(aspect_ratio="9:16"), []),
        (video(aspect_ratio="4:3"), [("aspect_ratio_limit", "aspect_ratio")]),
        (video(image_urls=["a"]), []),
        (video(image_urls=["a", "b"]), [("images_limit", "image_urls")]),
        (video(image_urls=["a"], last_frame="b"), []),
        (video(last_frame="b"), [("last_frame_images", "image_urls")]),
        (video(negative_prompt="x"), [("field_not_taken", "negative_prompt")]),
        (video("kling-v2-master", negative_prompt="x"), [("field_not_taken", "negative_prompt")]),
        (video("kling-v1", negative_prompt="x" * 2500), []),
        (video("kling-v1", negative_prompt="x" * 2501), [("negative_prompt_chars_limit", "negative_prompt")]),
        (video("kling-v1-6", negative_prompt="x" * 2501), [("negative_prompt_chars_limit", "negative_prompt")]),
        (extra("kling-v3", enable_audio=False), []),
        (extra("kling-v2-master", enable_audio=False), [("field_not_taken", "extra.enable_audio")]),
        (extra("kling-v1-6", enable_audio=True), [("field_not_taken", "extra.enable_audio")]),
        (extra("kling-v3", cfg_scale=0.5), [("field_not_taken", "extra.cfg_scale")]),
        (extra("kling-v2-master", cfg_scale=0.5), [("field_not_taken", "extra.cfg_scale")]),
        (extra("kling-v1", cfg_scale=0), []),
        (extra("kling-v1", cfg_scale=1), []),
        (extra("kling-v1", cfg_scale=1.01), []),  # the page gives a range for v1-6 only
        (extra("kling-v1-6", cfg_scale=1.01), [("cfg_scale_limit", "extra.cfg_scale")]),
        (extra("kling-v1-6", cfg_scale=-0.01), [("cfg_scale_limit", "extra.cfg_scale")]),
        (camera("down_back"), []),
        (camera("orbit"), [("camera_type", "extra.camera_control")]),
        (camera("simple"), [("camera_simple_config", "extra.camera_control")]),
        (camera("down_back", pan=1), [("camera_config_simple", "extra.camera_control")]),
        (camera("simple", pan=-10, zoom=10), []),
        (camera("simple", pan=-10.5), [("camera_config_range", "extra.camera_control")]),
        (camera("simple", zoom=11), [("camera_config_range", "extra.camera_control")]),
        (
            extra("kling-v1", camera_control={"type": "down_back"}),
            [("field_not_taken", "extra.camera_control")],
        ),
        (extra("kling-v1-6", static_mask="m"), [("static_mask_image", "image_urls")]),
        (video("kling-v1-6", image_urls=["a"], extra={"static_mask": "m"}), []),
        (extra("kling-v1-6", dynamic_masks=[MASK]), [("masks_image", "image_urls")]),
        (video("kling-v1-6", image_urls=["a"], extra={"dynamic_masks": masks(77, 6)}), []),
        (
            video("kling-v1-6", image_urls=["a"], extra={"dynamic_masks": masks(2, 7)}),
            [("masks_limit", "extra.dynamic_masks")],
        ),
        (
            video("kling-v1-6", image_urls=["a"], extra={"dynamic_masks": masks(1)}),
            [("mask_points", "extra.dynamic_masks")],
        ),
        (
            video("kling-v1-6", image_urls=["a"], extra={"dynamic_masks": masks(78)}),
            [("mask_points", "extra.dynamic_masks")],
        ),
        (multi_shot(5, 5), []),
        (multi_shot(5), [("shots_limit", "extra.shot_1_prompt")]),
        (multi_shot(2, 2, 2, 2, 2, 2), []),
        (multi_shot(2, 2, 2, 2, 2, 2, 2), [("shots_limit", "extra.shot_1_prompt")]),
        (multi_shot(1, 2), []),
        (multi_shot(1, 1), [("duration_s_limit", "extra.shot_1_duration")]),
        (multi_shot(8, 7), []),
        (multi_shot(8, 8), [("duration_s_limit", "extra.shot_1_duration")]),
        (multi_shot(0, 5), [("shot_length", "extra.shot_1_prompt")]),
        (multi_shot(5, 5, prompt="x"), [("shots_or_prompt", "prompt")]),
        (multi_shot(5, 5, duration=10), [("shots_or_duration", "duration")]),
        (
            extra(shot_1_prompt="a", shot_1_duration=5, shot_3_prompt="b", shot_3_duration=5)
            | {"prompt": None},
            [("shots_numbering", "extra.shot_1_prompt")],
        ),
        (
            extra(shot_0_prompt="a", shot_0_duration=5, shot_1_prompt="b", shot_1_duration=5)
            | {"prompt": None},
            [("shots_numbering", "extra.shot_0_prompt")],
        ),
        (
            multi_shot(5, 5) | {"model": "kling-v1"},
            [("field_not_taken", "extra.shot_1_prompt")],
        ),
    ],
)
def test_exactly_the_broken_rules_are_reported(
    payload: dict[str, Any], expected: list[tuple[str, str]]
) -> None:
    """Each rule accepts its limit, refuses a value just past it, and names the field of the payload."""
    violations = check(payload, wire_format="tasks_extra", at=AT)
    assert [(violation.code, violation.field) for violation in violations] == expected


@pytest.mark.parametrize(
    ("payload", "code", "noted"),
    [
        (video(aspect_ratio="9:16"), "aspect_ratio_ignored", False),
        (video(aspect_ratio="9:16", image_urls=["a"]), "aspect_ratio_ignored", True),
        (extra(shot_1_prompt="x" * 2500, shot_1_duration=5), "long_shot_prompt", False),
        (extra(shot_1_prompt="x" * 2501, shot_1_duration=5), "long_shot_prompt", True),
    ],
)
def test_a_warning_becomes_a_note(payload: dict[str, Any], code: str, noted: bool) -> None:  # noqa: FBT001
    """The quote has the note just past the limit and not at it."""
    if "shot_1_prompt" in payload.get("extra", {}):
        more = {"shot_2_prompt": "y", "shot_2_duration": 5}
        payload = {"model": "kling-v3", "extra": payload["extra"] | more}
    quoted = quote(payload, wire_format="tasks_extra", at=AT)
    assert (code in [note.code for note in quoted.notes]) is noted


def test_the_limits_of_the_first_frame_are_checked() -> None:
    """An image of 10 MB is accepted, and one byte more is refused."""
    payload = video(image_urls=["a"], extra={})
    assert check(payload, media={"a": {"size_bytes": 10485760, "type": "webp"}}, at=AT) == []
    violations = check(payload, media={"a": {"size_bytes": 10485761, "type": "gif"}}, at=AT)
    assert [violation.code for violation in violations] == ["image_size_bytes_limit", "image_type_limit"]


# QingBo's Kling series page of 2026-04-29, section Pricing: USD per second of kling-v3.
KLING_V3 = [
    ("std", False, "0.0714"),
    ("std", True, "0.1071"),
    ("pro", False, "0.0952"),
    ("pro", True, "0.1428"),
]


@pytest.mark.parametrize(("mode", "audio", "unit_price"), KLING_V3)
def test_the_published_prices_apply(mode: str, audio: bool, unit_price: str) -> None:  # noqa: FBT001
    """Mode and audio choose the rate, for every duration, and for shots of the same total length."""
    for duration in range(3, 16):
        settings = {"mode": mode, "enable_audio": audio}
        single = quote(video(duration=duration, extra=settings), at=AT)
        shots = multi_shot(duration - 1, 1)
        several = quote({**shots, "extra": settings | shots["extra"]}, at=AT)
        assert single.total == several.total == Decimal(unit_price) * duration
        assert (single.wire_format, single.provider, single.tier) == (
            "tasks_extra",
            "qingbo",
            "audio" if audio else "silent",
        )


def test_audio_is_on_by_default() -> None:
    """The same bare payload costs 0.357 as `tasks` and 0.5355 as `tasks_extra`."""
    bare = video(duration=5)
    assert quote(bare, wire_format="tasks", at=AT).total == Decimal("0.357")
    quoted = quote(bare, wire_format="tasks_extra", at=AT)
    assert quoted.total == Decimal("0.5355")
    messages = {note.code: note.message for note in quoted.notes}
    assert (
        messages["assumed_audio"] == "extra.enable_audio is not specified; the API's default is assumed: true"
    )
    assert messages["assumed_resolution"] == "extra.mode is not specified; the API's default is assumed: 720p"
    assert "other_reading" not in messages


@pytest.mark.parametrize(
    ("payload", "arguments", "amount"),
    [
        (video(), {}, "0.5355"),  # 5 s x 0.1071
        (video(duration=5), {"provider": "qingbo"}, "0.5355"),
        (video(duration=10), {"provider": "qingbo"}, "1.071"),
        (video(image_urls=["a"], callback_url="c"), {}, "0.5355"),
        (video(resolution="1080p"), {}, None),  # the other format has no such field
        (video(), {"wire_format": "tasks"}, None),
        (video(audio=False), {}, None),
        (video(extra={}), {}, None),
        (video("kling-v2.6"), {}, None),
        (video("kling-v3-omni", image_urls=["a"]), {}, None),
        (video(watermark=True), {}, None),
    ],
)
def test_a_bare_payload_notes_another_possible_wire_format(
    payload: dict[str, Any],
    arguments: dict[str, Any],
    amount: str | None,
) -> None:
    """The note names the other price if nothing decides the format and another format has another default."""
    notes = [note.message for note in quote(payload, at=AT, **arguments).notes if note.code == "other_reading"]
    message = (
        "the request was read as wire format tasks, but in tasks_extra, extra.enable_audio defaults to "
        f"true, and the price would be {amount} USD; specify the wire format, or set audio"
    )
    assert notes == ([] if amount is None else [message])


@pytest.mark.parametrize("model", ["kling-v2-master", "kling-v1-6", "kling-v1"])
def test_models_without_a_published_price_are_valid_and_not_quoted(model: str) -> None:
    """They are checked in full, and then refused with the reason."""
    assert check(video(model), at=AT) == []
    with pytest.raises(PriceNotFoundError, match="lists no price for this model") as caught:
        quote(video(model), at=AT)
    assert (caught.value.provider, caught.value.model) == ("qingbo", model)
    with pytest.raises(CapabilityError):
        quote(video(model, duration=7), at=AT)


def test_the_examples_of_the_page() -> None:
    """One has no published price, and the other is ten seconds with audio."""
    assert check((EXAMPLES / "text_to_video.json").read_bytes(), at=AT) == []
    with pytest.raises(PriceNotFoundError):
        quote((EXAMPLES / "text_to_video.json").read_bytes(), at=AT)
    assert quote((EXAMPLES / "multi_shot.json").read_bytes(), at=AT).total == Decimal("1.071")


def test_model_x_mode_x_audio_x_duration() -> None:
    """Of 408 cells 78 are priced, 12 are valid but unpriced, and 318 are refused.

    The space: 4 models x 2 modes x 3 (audio not given, off, on) x 17 durations (0..16) = 408.
    Priced: kling-v3, 2 modes x 3 x 13 durations (3..15) = 78.
    Unpriced: the 3 other models, 2 modes, audio not given, 2 durations (5, 10) = 12.
    """
    counts = Counter[str]()
    models = ("kling-v3", "kling-v2-master", "kling-v1-6", "kling-v1")
    for model, mode, audio, duration in product(models, ("std", "pro"), (None, False, True), range(17)):
        try:
            quote(video(model, duration=duration, extra={"mode": mode, "enable_audio": audio}), at=AT)
        except CapabilityError:
            counts["refused"] += 1
        except PriceNotFoundError:
            counts["unpriced"] += 1
        else:
            counts["priced"] += 1
    assert counts == {"priced": 78, "unpriced": 12, "refused": 318}


def test_defaults_differ_by_model(book: PriceBook) -> None:
    """Only kling-v3 generates audio by default."""
    models = book.matrices["tasks_extra"].models
    assert [name for name, model in models.items() if model.defaults["audio"]] == ["kling-v3"]
    assert all(model.defaults["duration_s"] == 5 for model in models.values())


def test_facts_that_do_not_affect_the_price_are_not_completed(book: PriceBook) -> None:
    """A payload without camera control and masks is not tried at each of their limits."""
    request, _ = Intake(book=book).read(video("kling-v1-6"))
    assert (request.facts["camera_extreme"], request.facts["most_mask_points"]) == (None, None)
    assert (request.open_facts, request.completions) == ((), ())


def test_since_september_a_note_says_that_the_newer_api_refuses_extra() -> None:
    """The newer API answers 400 to the field; before its pages said so, there was no note."""
    pages = datetime(2026, 9, 19, tzinfo=UTC)

    def codes(at: datetime) -> list[str]:
        return [note.code for note in quote(video(extra={"mode": "pro"}), at=at).notes]

    assert "extra_refused_elsewhere" in codes(pages)
    assert "extra_refused_elsewhere" not in codes(pages - timedelta(seconds=1))
    with pytest.raises(WireFormatError, match="unknown field 'extra'"):
        quote(video(duration=5, extra={"mode": "pro"}), url="https://api.qingbo.ai/v1/tasks", at=pages)
