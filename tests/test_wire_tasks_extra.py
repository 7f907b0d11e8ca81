"""Wire format `tasks_extra`: what a payload says, what the API accepts, and what it costs."""

import json
from collections import Counter
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
from tests.conftest import AT, video

EXAMPLES = Path(__file__).parent.parent / "examples" / "requests" / "tasks_extra"
MASK = {"mask_url": "m", "trajectories": [{"x": 1, "y": 2.5}, {"x": 3, "y": 4}]}


def extra(model: str = "kling-v3", /, **settings: Any) -> dict[str, Any]:
    """A payload whose `extra` has these settings."""
    return video(model, extra=settings)


def multi_shot(*durations: int, **fields: Any) -> dict[str, Any]:
    """A multi-shot payload with a shot of each length."""
    shots: dict[str, Any] = {}
    for number, duration in enumerate(durations, 1):
        shots |= {f"shot_{number}_prompt": "rain", f"shot_{number}_duration": duration}
    return {"model": "kling-v3", **fields, "extra": shots}


def masks(points: int, count: int = 1) -> list[dict[str, Any]]:
    """Dynamic masks whose trajectories have so many points."""
    return [{"mask_url": "m", "trajectories": [{"x": 0, "y": 0}] * points}] * count


def test_only_what_was_said_is_kept() -> None:
    """A field left out and a field set to null are the same, and neither becomes a default."""
    bare = parse({"model": "kling-v3", "prompt": "boat"})
    nulls = {"duration": None, "extra": {"mode": None, "shot_1_prompt": None}}
    assert bare == parse({"model": "kling-v3", "prompt": "boat", "extra": None})
    assert bare == parse({"model": "kling-v3", "prompt": "boat", **nulls})
    assert bare.facts == {"model": "kling-v3", "prompt_chars": 4}
    assert bare.fields == {"model": "model", "prompt": "prompt"}


def test_every_field_of_the_page_is_read() -> None:
    """Each documented field is taken, under the word that does not depend on the API."""
    said = parse(
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
    assert said.facts == {
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
    assert set(said.fields) == set(FIELD_NAMES)
    assert said.fields == {**FIELD_NAMES, "shots": "extra.shot_2_prompt"}
    assert [medium.field for medium in said.media] == ["image_urls[0]", "last_frame"]


def test_unknown_camera_settings_count_for_nothing() -> None:
    """Allowed or not, only what the API lists is read: a setting of another name may hold anything."""
    config = {"pan": 3, "speed": "fast", "roll": None}
    payload = {"model": "kling-v1-6", "extra": {"camera_control": {"type": "simple", "config": config}}}
    said = parse(payload, allow_unknown=True)
    assert (said.facts["camera_config_size"], said.facts["camera_extreme"]) == (1, Decimal(3))
    with pytest.raises(WireFormatError, match=r"config\.speed'; known here: horizontal"):
        parse(payload)


def test_the_lengths_of_the_shots_make_the_length_of_the_video() -> None:
    """Without a duration of its own the video is as long as its shots together."""
    said = parse(multi_shot(5, 4, 3))
    assert (said.facts["duration_s"], said.facts["shots"]) == (12, 3)
    assert "duration_beside_shots" not in said.facts
    assert said.fields["duration_s"] == "extra.shot_1_duration"


@pytest.mark.parametrize(
    ("fields", "code", "field", "remedy"),
    [
        ({"resolution": "720p"}, "unknown_field", "resolution", "known here: model, action"),
        ({"last_frame_image": "b"}, "unknown_field", "last_frame_image", "did you mean 'last_frame'?"),
        ({"duration": "5"}, "wrong_type", "duration", "must be a whole number, got '5'"),
        ({"duration": True}, "wrong_type", "duration", "must be a whole number, got true"),
        ({"negative_prompt": 5}, "wrong_type", "negative_prompt", "must be text, got 5"),
        ({"image_urls": [""]}, "wrong_type", "image_urls[0]", "text that is not empty"),
        ({"last_frame": ""}, "wrong_type", "last_frame", "text that is not empty"),
        ({"extra": "pro"}, "wrong_type", "extra", "must be an object, got 'pro'"),
        ({"extra": {"mode": "4k"}}, "wrong_type", "extra.mode", "must be std or pro, got '4k'"),
        ({"extra": {"mod": "pro"}}, "unknown_field", "extra.mod", "did you mean 'mode'?"),
        ({"extra": {"enable_audio": "no"}}, "wrong_type", "extra.enable_audio", "true or false, got 'no'"),
        ({"extra": {"cfg_scale": "0.5"}}, "wrong_type", "extra.cfg_scale", "must be a number, got '0.5'"),
        ({"extra": {"cfg_scale": True}}, "wrong_type", "extra.cfg_scale", "must be a number, got true"),
        ({"extra": {"cfg_scale": Decimal("nan")}}, "wrong_type", "extra.cfg_scale", "must be a number"),
        ({"extra": {"camera_control": {}}}, "wrong_type", "extra.camera_control.type", "must be present"),
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
            "must be present",
        ),
        (
            {"extra": {"dynamic_masks": [{"mask_url": "m", "trajectories": [{"x": 1}]}]}},
            "wrong_type",
            "extra.dynamic_masks[0].trajectories[0].y",
            "must be present",
        ),
        (
            {"extra": {"shot_1_prompt": "a"}},
            "wrong_type",
            "extra.shot_1_duration",
            "must be present",
        ),
        ({"extra": {"shot_7_duration": 5}}, "wrong_type", "extra.shot_7_prompt", "must be present"),
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
            "text that is not empty",
        ),
        ({"extra": {"shot_01_prompt": "a"}}, "unknown_field", "extra.shot_01_prompt", "'shot_1_prompt'?"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(
    fields: dict[str, Any], code: str, field: str, remedy: str
) -> None:
    """A misspelt field or a value of another type never turns into a default."""
    with pytest.raises(WireFormatError) as caught:
        parse(video(**fields))
    error = caught.value
    (violation,) = error.violations
    assert (error.wire_format, error.field) == ("tasks_extra", field)
    assert (violation.code, violation.field) == (code, field)
    assert remedy in violation.message


def test_the_payload_is_left_as_it_is() -> None:
    """Neither reading nor amending changes anything in what it is given."""
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
def test_an_amend_that_changes_nothing_gives_back_every_byte(payload: dict[str, Any]) -> None:
    """Order, spelling and every other field are the caller's."""
    assert json.dumps(amend(payload, {})) == json.dumps(payload)


def test_a_change_that_was_not_said_is_added_last() -> None:
    """What the payload says keeps its place, a null included."""
    payload = {"extra": {"enable_audio": None, "cfg_scale": 0.5}, "model": "kling-v3"}
    changes = {"resolution": "720p", "audio": True, "duration_s": 5}
    assert json.dumps(amend(payload, changes)) == (
        '{"extra": {"enable_audio": true, "cfg_scale": 0.5, "mode": "std"}, "model": "kling-v3", "duration": 5}'
    )
    assert list(amend({"model": "kling-v3", "prompt": "x"}, {"audio": False})) == ["model", "prompt", "extra"]


def test_what_this_wire_cannot_say_is_refused() -> None:
    """No mode makes 4k, and the length of a multi-shot video is that of its shots."""
    with pytest.raises(WireFormatError, match="makes 720p or 1080p, not 4k") as caught:
        amend(video(), {"resolution": "4k"})
    assert (caught.value.wire_format, caught.value.field) == ("tasks_extra", "extra.mode")
    with pytest.raises(WireFormatError, match="change them one by one") as caught:
        amend(multi_shot(5, 5), {"duration_s": 8})
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
def test_an_amended_payload_reads_as_the_payload_with_the_change(
    payload: dict[str, Any],
    change: dict[str, Any],
    duration: int | None,
    shots: bool,  # noqa: FBT001
) -> None:
    """Whatever the payload, only the settings that were changed read differently."""
    if shots:
        payload = {**payload, "extra": {**(payload.get("extra") or {}), **multi_shot(4, 5)["extra"]}}
    if duration is not None and (not shots or payload.get("duration") is not None):
        change = {**change, "duration_s": duration}
    assert parse(amend(payload, change)).facts == parse(payload).facts | change


def test_responses_are_read() -> None:
    """Task, state and charge of a submit and of a status response."""
    submitted = read_task({"task_id": "t1", "model": "kling-v2-master", "status": "queued", "progress": 0})
    assert submitted == Task("t1", "queued", None, "quota", None, "kling-v2-master")
    done = read_task({"task_id": "t1", "status": "completed", "cost": 535500})
    assert (done.state, done.amount) == ("succeeded", Decimal(535500))
    assert read_task({"task_id": "t1", "status": "new"}).state is None
    with pytest.raises(WireFormatError, match="cost must be"):
        read_task({"task_id": "t1", "cost": 0.5})


def camera(kind: str, **config: Any) -> dict[str, Any]:
    """A payload with camera control."""
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
        (extra("kling-v1", cfg_scale=1.01), []),  # the page names a range for v1-6 only
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
def test_every_violation_is_found_and_nothing_else(
    payload: dict[str, Any], expected: list[tuple[str, str]]
) -> None:
    """A request is held against each rule, below and above its edge, with the wire's own field."""
    found = check(payload, wire_format="tasks_extra", at=AT)
    assert [(each.code, each.field) for each in found] == expected


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
    """It appears in the quote, at its edge and not before."""
    if "shot_1_prompt" in payload.get("extra", {}):
        more = {"shot_2_prompt": "y", "shot_2_duration": 5}
        payload = {"model": "kling-v3", "extra": payload["extra"] | more}
    quoted = quote(payload, wire_format="tasks_extra", at=AT)
    assert (code in [note.code for note in quoted.notes]) is noted


def test_the_limits_of_the_first_frame_are_checked() -> None:
    """A picture of 10 MB passes, one byte more does not."""
    payload = video(image_urls=["a"], extra={})
    assert check(payload, media={"a": {"size_bytes": 10485760, "type": "webp"}}, at=AT) == []
    found = check(payload, media={"a": {"size_bytes": 10485761, "type": "gif"}}, at=AT)
    assert [each.code for each in found] == ["image_size_bytes_limit", "image_type_limit"]


# Typed from the page of 2026-04-29 (seed 000), section Pricing: USD per second of kling-v3.
KLING_V3 = [
    ("std", False, "0.0714"),
    ("std", True, "0.1071"),
    ("pro", False, "0.0952"),
    ("pro", True, "0.1428"),
]


@pytest.mark.parametrize(("mode", "audio", "unit_price"), KLING_V3)
def test_the_published_prices_apply(mode: str, audio: bool, unit_price: str) -> None:  # noqa: FBT001
    """Mode and audio choose the rate, for every duration and for shots of that length together."""
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


def test_audio_is_on_unless_the_payload_says_otherwise() -> None:
    """The same bare payload costs 0.357 as `tasks` and 0.5355 as `tasks_extra`."""
    bare = video(duration=5)
    assert quote(bare, wire_format="tasks", at=AT).total == Decimal("0.357")
    quoted = quote(bare, wire_format="tasks_extra", at=AT)
    assert quoted.total == Decimal("0.5355")
    messages = {note.code: note.message for note in quoted.notes}
    assert messages["assumed_audio"] == "extra.enable_audio is not given; assumed the API's default: true"
    assert messages["assumed_resolution"] == "extra.mode is not given; assumed the API's default: 720p"
    assert "other_reading" not in messages


@pytest.mark.parametrize(
    ("payload", "arguments", "noted"),
    [
        (video(), {}, True),
        (video(duration=5), {"provider": "qingbo"}, True),
        (video(image_urls=["a"], callback_url="c"), {}, True),
        (video(), {"wire_format": "tasks"}, False),
        (video(audio=False), {}, False),
        (video(extra={}), {}, False),
        (video("kling-v2.6"), {}, False),
        (video("kling-v3-omni", image_urls=["a"]), {}, False),
        (video(watermark=True), {}, False),
    ],
)
def test_a_bare_payload_notes_its_other_reading(
    payload: dict[str, Any],
    arguments: dict[str, Any],
    noted: bool,  # noqa: FBT001
) -> None:
    """Where nothing decided the format and another has another default, the quote says so."""
    notes = [note.message for note in quote(payload, at=AT, **arguments).notes if note.code == "other_reading"]
    message = (
        "read as wire format tasks; as tasks_extra, extra.enable_audio would be true by default, "
        "which may cost more or less; name the wire format, or set audio"
    )
    assert notes == [message] * noted


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
    """One has no published price, the other is ten seconds with audio."""
    assert check((EXAMPLES / "text_to_video.json").read_bytes(), at=AT) == []
    with pytest.raises(PriceNotFoundError):
        quote((EXAMPLES / "text_to_video.json").read_bytes(), at=AT)
    assert quote((EXAMPLES / "multi_shot.json").read_bytes(), at=AT).total == Decimal("1.071")


def test_model_x_mode_x_audio_x_duration() -> None:
    """Of 408 cells 78 are priced, 12 are valid but unpriced, and 318 are refused.

    The space: 4 models x 2 modes x 3 (audio not said, off, on) x 17 durations (0..16) = 408.
    Priced: kling-v3, 2 modes x 3 x 13 durations (3..15) = 78.
    Unpriced: the 3 other models, 2 modes, audio not said, 2 durations (5, 10) = 12.
    """
    seen = Counter[str]()
    models = ("kling-v3", "kling-v2-master", "kling-v1-6", "kling-v1")
    for model, mode, audio, duration in product(models, ("std", "pro"), (None, False, True), range(17)):
        try:
            quote(video(model, duration=duration, extra={"mode": mode, "enable_audio": audio}), at=AT)
        except CapabilityError:
            seen["refused"] += 1
        except PriceNotFoundError:
            seen["unpriced"] += 1
        else:
            seen["priced"] += 1
    assert seen == {"priced": 78, "unpriced": 12, "refused": 318}


def test_a_default_of_one_model_is_not_that_of_another(book: PriceBook) -> None:
    """Only kling-v3 generates audio when the payload does not say."""
    models = book.matrices["tasks_extra"].models
    assert [name for name, model in models.items() if model.defaults["audio"]] == ["kling-v3"]
    assert all(model.defaults["duration_s"] == 5 for model in models.values())


def test_what_changes_no_price_leaves_none_open(book: PriceBook) -> None:
    """A payload without camera and masks says nothing of them, and is not tried at each of their limits."""
    request, _ = Intake(book=book).read(video("kling-v1-6"))
    assert (request.facts["camera_extreme"], request.facts["most_mask_points"]) == (None, None)
    assert (request.open_facts, request.completions) == ((), ())
