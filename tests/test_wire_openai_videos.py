"""Wire format `openai_videos`: reading JSON and forms, the rules of the API, and its prices."""

import copy
import json
import re
import threading
import warnings
from collections.abc import Callable, Iterator
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kling_pricing import (
    CapabilityError,
    KlingPricingError,
    PriceBook,
    PriceNotFoundError,
    TableError,
    WireFormatError,
    check,
    load_price_book,
    quote,
)
from kling_pricing.quoting.quote import Quote
from kling_pricing.wire.formats.openai_videos import FIELD_NAMES, FIELDS, amend, parse, read_task
from kling_pricing.wire.forms import form_fields
from tests.conftest import AT, bundled, examples
from tests.test_properties import json_values

EXAMPLES = Path(__file__).parent.parent / "examples" / "requests" / "openai_videos"
OMNI, V26, V25 = "Kling-3.0-Omni", "Kling-2.6", "Kling-2.5"


def job(model: str = V26, *, output: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    """Returns a JSON payload; `output` is `metadata.output_config`, and `meta` is the rest of `metadata`."""
    metadata = dict(fields.pop("meta", {}))
    if output is not None:
        metadata["output_config"] = output
    return {"model": model, "prompt": "x", **fields, **({"metadata": metadata} if metadata else {})}


def form_of(payload: dict[str, Any]) -> dict[str, str]:
    """Returns the same request as the flat form that OpenAI's SDK sends."""
    flat: dict[str, str] = {}

    def walk(value: Any, key: str) -> None:
        if isinstance(value, dict):
            for name, inner in value.items():
                walk(inner, f"{key}[{name}]" if key else name)
        elif value is not None:
            flat[key] = str(value).lower() if isinstance(value, bool) else str(value)

    walk(payload, "")
    return flat


def priced(payload: dict[str, Any], length_s: int | None = None) -> Quote:
    """Returns the quote by the tencent-vod table; `length_s` is the length of the video at `v` in seconds."""
    return quote(payload, provider="tencent-vod", media={"v": {"length_s": length_s}}, at=AT)


def codes(payload: dict[str, Any]) -> list[str]:
    """Returns the code of every violation."""
    return [violation.code for violation in check(payload, wire_format="openai_videos", at=AT)]


def test_only_given_fields_are_kept() -> None:
    """A null field counts as left out, and neither becomes a default."""
    bare = parse({"model": V26, "prompt": "boat"})
    assert bare == parse(
        {"model": V26, "prompt": "boat", "seconds": None, "metadata": {"output_config": {"duration": None}}}
    )
    assert bare == parse({"model": V26, "prompt": "boat", "metadata": None})
    assert bare.facts == {"model": V26, "prompt_chars": 4, "reference": False}
    assert bare.fields == {"model": "model", "prompt": "prompt"}
    assert bare.open is None


FULL = {
    "model": V26,
    "prompt": "紙の船",
    "seconds": "10",
    "duration": 10,
    "size": "1080x1920",
    "image": "https://example.com/a.png",
    "input_reference": {"image_url": "https://example.com/b.png"},
    "metadata": {
        "seconds": 10,
        "duration": "10",
        "video_duration": 10,
        "output_config": {
            "duration": 10,
            "resolution": "1080P",
            "aspect_ratio": "9:16",
            "audio_generation": "Disabled",
        },
        "scene_type": "motion_control",
        "motion_level": "pro",
        "offpeak": True,
        "last_frame_url": "https://example.com/c.png",
        "video_url": "https://example.com/d.mp4",
        "file_infos": '[{"Type": "Url", "Url": "https://example.com/e.png"}]',
        "ext_info": "{}",
    },
}
FULL_FACTS = {
    "model": V26,
    "prompt_chars": 3,
    "duration_s": 10,
    "resolution": "1080p",
    "aspect_ratio": "9:16",
    "aspect_ratio_stated": True,
    "audio": False,
    "action": "motion_control",
    "motion_level": "pro",
    "off_peak": True,
    "images": 2,
    "start_images": 2,
    "last_frame": True,
    "videos": 1,
    "passthrough": True,
    "reference": True,
}


def test_every_documented_field_is_read() -> None:
    """Each documented field becomes facts whose names do not depend on the API."""
    parsed = parse(FULL)
    assert parsed.facts == FULL_FACTS
    assert set(parsed.fields) == set(FIELD_NAMES)
    assert [(medium.kind, medium.field, medium.url[-5:]) for medium in parsed.media] == [
        ("image", "image", "a.png"),
        ("image", "input_reference", "b.png"),
        ("image", "metadata.last_frame_url", "c.png"),
        ("video", "metadata.video_url", "d.mp4"),
    ]


def test_a_form_gives_the_same_facts_as_json() -> None:
    """Numbers and booleans are text, brackets give the nesting, and fields keep the keys of the form."""
    parsed = parse(form_of(FULL))
    assert parsed.facts == FULL_FACTS
    assert parsed.fields["resolution"] == "metadata[output_config][resolution]"
    assert parsed.fields["videos"] == "metadata[video_url]"


UNLIKE_ANY = (
    "use one of: metadata.output_config, metadata.scene_type, metadata.motion_level, metadata.offpeak, "
    "metadata.last_frame_url, metadata.video_url, metadata.file_infos, metadata.ext_info"
)


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("off_peak", "did you mean 'metadata.offpeak'?"),
        ("OffPeak", "did you mean 'metadata.offpeak'?"),
        ("FileInfos", "did you mean 'metadata.file_infos'?"),
        ("ExtInfo", "did you mean 'metadata.ext_info'?"),
        ("last_image_url", "did you mean 'metadata.last_frame_url'?"),
        ("last_frame", "did you mean 'metadata.last_frame_url'?"),
        ("second", UNLIKE_ANY),  # `metadata.seconds` is read, but no page lists it
        ("tail", UNLIKE_ANY),
    ],
)
def test_only_keys_that_an_api_lists_are_advised(name: str, published: str) -> None:
    """A key that the gateway does not publish is refused, and the advice names a key that it has."""
    with pytest.raises(WireFormatError) as caught:
        parse(job(meta={name: "u"}))
    assert str(caught.value) == f"unknown field 'metadata.{name}'; {published}"
    with pytest.raises(WireFormatError, match="unknown field") as caught:
        parse(form_of(job(meta={name: "u"})))
    keys = re.sub(r"metadata\.(\w+)", r"metadata[\1]", published)
    assert str(caught.value) == f"unknown field 'metadata[{name}]'; {keys}"


def test_the_unified_endpoint_takes_a_list_of_images() -> None:
    """Each image counts, and each is named by its place."""
    parsed = parse(job(images=["a", "b"], input_reference="c"))
    assert parsed.facts["images"] == 3
    assert [medium.field for medium in parsed.media] == ["input_reference", "images[0]", "images[1]"]


def test_whether_images_are_a_reference_is_unknown() -> None:
    """A video is a reference, an empty request has none, and for images alone the price rows do not say."""
    assert parse(job()).facts["reference"] is False
    assert parse(job(image="u")).facts["reference"] is None
    assert parse(job(meta={"last_frame_url": "u"})).facts["reference"] is None
    assert parse(job(meta={"file_infos": "[]"})).facts["reference"] is None
    assert parse(job(image="u", meta={"video_url": "v"})).facts["reference"] is True


PLACES: list[Callable[[int], dict[str, Any]]] = [
    lambda seconds: {"seconds": str(seconds)},
    lambda seconds: {"duration": seconds},
    lambda seconds: {"metadata": {"seconds": seconds}},
    lambda seconds: {"metadata": {"duration": str(seconds)}},
    lambda seconds: {"metadata": {"video_duration": seconds}},
    lambda seconds: {"metadata": {"output_config": {"duration": seconds}}},
]


@pytest.mark.parametrize("first", range(6))
@pytest.mark.parametrize("second", range(6))
def test_the_first_of_several_durations_counts(first: int, second: int) -> None:
    """Equal durations are one value; different ones all stay possible, in the order in which they count."""
    one, other = PLACES[first](5), PLACES[second](10)
    payload = {**other, **one}
    if "metadata" in one and "metadata" in other:
        payload["metadata"] = {**other["metadata"], **one["metadata"]}
    parsed = parse(payload)
    if first == second == len(PLACES) - 1:  # a known implementation ignores this field when it bills
        assert parsed.facts["duration_nested"] is True
        assert (parsed.facts["duration_s"], parsed.open) == (5, None)
    elif first == second:
        assert (parsed.facts["duration_s"], parsed.open) == (5, None)
    else:
        assert parsed.facts["duration_s"] is None
        assert parsed.open == {"duration_s": (5, 10) if first < second else (10, 5)}
        assert parsed.fields["duration_s"].endswith(("seconds", "duration"))


@pytest.mark.parametrize(
    ("size", "resolution", "ratio"),
    [
        ("720x1280", "720p", "9:16"),
        ("1280x720", "720p", "16:9"),
        ("1920X1080", "1080p", "16:9"),
        ("1080x1080", "1080p", "1:1"),
        ("1024x1792", "1024p", "4:7"),
    ],
)
def test_a_size_sets_resolution_and_aspect_ratio(size: str, resolution: str, ratio: str) -> None:
    """The short side is the resolution."""
    facts = parse(job(size=size)).facts
    assert (facts["resolution"], facts["aspect_ratio"]) == (resolution, ratio)


def test_a_size_that_contradicts_the_output_config_leaves_both_values_possible() -> None:
    """Neither value is preferred."""
    parsed = parse(job(size="720x1280", output={"resolution": "1080P", "aspect_ratio": "16:9"}))
    assert parsed.open == {"resolution": ("1080p", "720p"), "aspect_ratio": ("16:9", "9:16")}


@pytest.mark.parametrize(
    ("payload", "code", "field"),
    [
        (job(resoluton="4k"), "unknown_field", "resoluton"),
        (job(meta={"scene": "x"}), "unknown_field", "metadata.scene"),
        (job(output={"audio": "Enabled"}), "unknown_field", "metadata.output_config.audio"),
        ({**job(), "metadata.seconds": 5}, "unknown_field", "'metadata.seconds'"),
        (job(duration=5.0), "wrong_type", "duration"),
        (job(duration=True), "wrong_type", "duration"),
        (job(seconds="5s"), "wrong_type", "seconds"),
        (job(seconds=" 5"), "wrong_type", "seconds"),
        (job(seconds="5.0"), "wrong_type", "seconds"),
        (job(seconds="\u0665"), "wrong_type", "seconds"),
        (job(size="720"), "wrong_type", "size"),
        (job(size="0x0"), "wrong_type", "size"),
        (job(size=720), "wrong_type", "size"),
        (job(image=""), "wrong_type", "image"),
        (job(image=["u"]), "wrong_type", "image"),
        (job(input_reference={}), "wrong_type", "input_reference.image_url"),
        (job(input_reference=5), "wrong_type", "input_reference"),
        ({**job(), "metadata": "x"}, "wrong_type", "metadata"),
        (job(meta={"output_config": []}), "wrong_type", "metadata.output_config"),
        (job(output={"audio_generation": True}), "wrong_type", "metadata.output_config.audio_generation"),
        (job(output={"audio_generation": "on"}), "wrong_type", "metadata.output_config.audio_generation"),
        (job(output={"resolution": 720}), "wrong_type", "metadata.output_config.resolution"),
        (job(meta={"offpeak": "true"}), "wrong_type", "metadata.offpeak"),
        (job(meta={"motion_level": "max"}), "wrong_type", "metadata.motion_level"),
        (job(meta={"file_infos": [{}]}), "wrong_type", "metadata.file_infos"),
        (form_of(job(meta={"offpeak": "yes"})), "wrong_type", "metadata[offpeak]"),
        (form_of(job(output={"duration": "5.5"})), "wrong_type", "metadata[output_config][duration]"),
        (form_of(job(meta={"scene": "x"})), "unknown_field", "metadata[scene]"),
        (form_of(job(meta={"offpeak": True})) | {"a]b": "x"}, "unknown_field", "'a]b'"),
    ],
)
def test_an_invalid_field_is_refused_by_name(payload: dict[str, Any], code: str, field: str) -> None:
    """A misspelt field or a value of another type never becomes a default, at any depth."""
    with pytest.raises(WireFormatError) as caught:
        parse(payload)
    assert [(violation.code, violation.field) for violation in caught.value.violations] == [(code, field)]


def test_unknown_fields_can_be_allowed_at_any_depth() -> None:
    """Allowed unknown fields are ignored, in `metadata` too."""
    payload = job(seed=7, meta={"seed": 7}, output={"fps": 24})
    assert parse(payload, allow_unknown=True) == parse(job())


def test_a_form_key_cannot_be_both_a_value_and_an_object() -> None:
    """Such a form is refused, whichever of the two comes first."""
    with pytest.raises(WireFormatError, match="given twice"):
        parse({"metadata": "x", "metadata[seconds]": "5"})
    with pytest.raises(WireFormatError, match="given twice"):
        parse({"metadata[seconds]": "5", "metadata": "x"})


def test_amend_changes_every_field_that_gives_a_setting() -> None:
    """Text stays text, upper case stays upper case, and the other fields do not change."""
    payload = job(
        seconds="5",
        size="720x1280",
        meta={"duration": 5, "scene_type": "lip_sync"},
        output={"resolution": "720P", "audio_generation": "disabled"},
    )
    before = copy.deepcopy(payload)
    amended = amend(payload, {"duration_s": 10, "resolution": "1080p", "audio": True, "model": OMNI})
    assert amended == job(
        OMNI,
        seconds="10",
        size="1080x1920",
        meta={"duration": 10, "scene_type": "lip_sync"},
        output={"resolution": "1080P", "audio_generation": "enabled"},
    )
    assert payload == before
    form = amend(form_of(payload), {"duration_s": 10, "resolution": "1080p", "audio": True, "model": OMNI})
    assert form == form_of(amended)
    assert amend(job(output={"resolution": "720p"}), {"resolution": "1080p"}) == job(
        output={"resolution": "1080p"}
    )


def test_amend_adds_settings_that_were_not_given() -> None:
    """A new setting comes last, in the field that the page documents."""
    changes = {"duration_s": 10, "resolution": "720p", "audio": False}
    added = {"resolution": "720P", "audio_generation": "Disabled"}
    assert amend(job(), changes) == job(duration=10, output=added)
    form = form_of(job(meta={"scene_type": "lip_sync"}))
    assert amend(form, changes) == {
        **form,
        "duration": "10",
        "metadata[output_config][resolution]": "720P",
        "metadata[output_config][audio_generation]": "Disabled",
    }


def test_amend_refuses_changes_that_the_format_cannot_express() -> None:
    """A size without an exact equivalent is not approximated, and only four settings can change."""
    with pytest.raises(
        WireFormatError, match=r"^size '1000x1333' has no exact equivalent at 720p; set `size` yourself$"
    ):
        amend(job(size="1000x1333"), {"resolution": "720p"})
    with pytest.raises(
        WireFormatError, match=r"^size '720x1280' has no exact equivalent at 4k; set `size` yourself$"
    ):
        amend(job(size="720x1280"), {"resolution": "4k"})
    with pytest.raises(
        WireFormatError, match=r"^prompt cannot be changed; change model, duration_s, resolution or audio$"
    ):
        amend(job(), {"prompt": "y"})


seconds_values = st.sampled_from([3, 5, "5", "10", None])
payloads = st.fixed_dictionaries(
    {"model": st.sampled_from([OMNI, V26, V25]), "prompt": st.sampled_from(["boat", "紙船"])},
    optional={
        "seconds": seconds_values,
        "duration": seconds_values,
        "size": st.sampled_from(["720x1280", "1920x1080", "1080X1080"]),
        "image": st.just("https://example.com/a"),
        "input_reference": st.just("boat.png"),
        "metadata": st.none()
        | st.fixed_dictionaries(
            {},
            optional={
                "video_duration": seconds_values,
                "scene_type": st.sampled_from(["lip_sync", "motion_control"]),
                "offpeak": st.booleans(),
                "video_url": st.just("https://example.com/v"),
                "output_config": st.none()
                | st.fixed_dictionaries(
                    {},
                    optional={
                        "duration": seconds_values,
                        "resolution": st.sampled_from(["720P", "1080p", None]),
                        "audio_generation": st.sampled_from(["Enabled", "disabled", None]),
                    },
                ),
            },
        ),
    },
)
PLACES_OF_ANYTHING = [*FIELDS, *FIELD_NAMES.values(), "metadata.output_config", "metadata.ext_info"]
changes_of = st.fixed_dictionaries(
    {},
    optional={
        "model": st.sampled_from([OMNI, V26, V25]),
        "duration_s": st.integers(3, 15),
        "resolution": st.sampled_from(["720p", "1080p"]),
        "audio": st.booleans(),
    },
)


@given(payloads, changes_of, st.booleans())
@settings(max_examples=examples(150))
def test_an_amended_payload_parses_like_the_original_with_the_change(
    payload: dict[str, Any],
    changes: dict[str, Any],
    as_form: bool,  # noqa: FBT001
) -> None:
    """This holds for JSON and forms; without changes, and in the original, nothing changes."""
    body = form_of(payload) if as_form else payload
    before = json.dumps(body)
    expected = parse(body).facts | changes
    if "duration_s" in changes:
        expected.pop("duration_nested", None)
    assert parse(amend(body, changes)).facts == expected
    assert json.dumps(amend(body, {})) == before == json.dumps(body)


@given(payloads, st.sampled_from(PLACES_OF_ANYTHING), json_values, st.booleans())
@settings(max_examples=examples(150))
def test_any_value_in_any_field_gives_a_quote_or_our_own_error(
    payload: dict[str, Any],
    place: str,
    value: Any,
    as_form: bool,  # noqa: FBT001
) -> None:
    """This holds for JSON and forms, however wrong the value is."""
    *groups, name = place.split(".")
    body = node = {**payload}
    for group in groups:
        node[group] = dict(node.get(group) or {})
        node = node[group]
    node[name] = value
    try:
        priced(form_of(body) if as_form else body)
    except KlingPricingError as error:
        assert str(error)


def test_responses_are_read() -> None:
    """Submit and status responses give the task, its state, and the facts in the name of the model."""
    submitted = read_task({"id": "v1", "task_id": "v1", "object": "video", "model": V26, "status": "queued"})
    assert (submitted.task_id, submitted.state, submitted.model, submitted.facts) == ("v1", "queued", V26, {})
    assert read_task({"task_id": "v2"}).task_id == "v2"
    assert read_task({"id": "v", "status": "new"}).state is None
    with pytest.raises(WireFormatError, match="id must be text"):
        read_task({"id": 5})
    with pytest.raises(WireFormatError, match="status must be text"):
        read_task({"id": "v", "status": ["queued"]})


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("pending", "queued"),
        ("processing", "processing"),
        ("in_progress", "processing"),
        ("completed", "succeeded"),
        ("failed", "failed"),
        ("cancelled", "cancelled"),
    ],
)
def test_each_status_is_known(status: str, state: str) -> None:
    """Both the page's statuses and OpenAI's are read."""
    assert read_task({"id": "v", "status": status}).state == state


@pytest.mark.parametrize(
    ("model", "facts"),
    [
        ("kling-3.0-omni-720p-ref-audio", {"resolution": "720p", "reference": True, "audio": True}),
        ("kling-3.0-omni-1080p-noref-mute", {"resolution": "1080p", "reference": False, "audio": False}),
        ("Kling-3.0-Omni-720P-Ref-Mute", {"resolution": "720p", "reference": True, "audio": False}),
        (
            "kling-2.6-motion-pro-1080p",
            {"action": "motion_control", "motion_level": "pro", "resolution": "1080p"},
        ),
        (
            "kling-2.6-motion-std-720p",
            {"action": "motion_control", "motion_level": "std", "resolution": "720p"},
        ),
        ("kling-avatar-720p", {"action": "avatar_i2v", "resolution": "720p"}),
        ("kling-identify-face", {"action": "lip_sync"}),
        ("720p-ref-audio", {"resolution": "720p", "reference": True, "audio": True}),
        ("noref-mute", {"reference": False, "audio": False}),
        ("identify-face", {"action": "lip_sync"}),
        ("kling-slow-motion", {}),
        ("kling-std-720p", {"resolution": "720p"}),
        ("kling1080p", {}),
        ("kling-720p-max", {}),
        ("some-pro", {}),
    ],
)
def test_the_billing_spec_of_a_response_becomes_facts(model: str, facts: dict[str, Any]) -> None:
    """The spec is at the end of the model's name, or is the whole name."""
    assert read_task({"id": "v", "model": model}).facts == facts


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (job(OMNI, duration=2), ["duration_s_limit"]),
        (job(OMNI, duration=3), []),
        (job(OMNI, duration=15), []),
        (job(OMNI, duration=16), ["duration_s_limit"]),
        (job(OMNI, duration=10, meta={"video_url": "v"}), []),
        (job(OMNI, duration=11, meta={"video_url": "v"}), ["duration_video_reference"]),
        (job(V26, duration=5), []),
        (job(V26, duration=6), ["duration_s_limit"]),
        (job(V25, seconds="10"), []),
        (job(V25, seconds="11"), ["duration_s_limit"]),
        (job(V26, duration=5, output={"duration": 7}), ["duration_s_limit"]),
        (job(V26, duration=5, output={"duration": 10}), []),
        (job(V26, output={"resolution": "4K"}), ["resolution_limit"]),
        (job(V26, size="1024x1792"), ["resolution_limit", "aspect_ratio_limit"]),
        (job(V26, output={"aspect_ratio": "4:3"}), ["aspect_ratio_limit"]),
        (job(V26, output={"aspect_ratio": "1:1"}), []),
        (job(V26, output={"resolution": "720P", "audio_generation": "Enabled"}), ["audio_resolution"]),
        (job(V26, output={"resolution": "1080P", "audio_generation": "Enabled"}), []),
        (job(V25, output={"audio_generation": "Enabled"}), ["audio_limit"]),
        (job(V25, output={"audio_generation": "Disabled"}), []),
        (
            job(OMNI, output={"audio_generation": "Enabled"}, meta={"video_url": "v"}),
            ["audio_video_reference"],
        ),
        (job(OMNI, output={"audio_generation": "Disabled"}, meta={"video_url": "v"}), []),
        (job(OMNI, output={"audio_generation": "Enabled"}, image="a"), []),
        (job(V26, meta={"scene_type": "dance"}), ["wrong_type"]),
        (job("Kling-9"), ["unknown_model"]),
        ({"prompt": "x", "seconds": "5"}, ["model_required"]),
    ],
)
def test_each_rule_at_its_limit(payload: dict[str, Any], expected: list[str]) -> None:
    """JSON and forms are checked against the same rules."""
    assert codes(payload) == expected
    assert codes(form_of(payload)) == expected


# The price rows, in CNY per second: row, request, price at 720p, price at 1080p.
MUTE, AUDIO = {"audio_generation": "Disabled"}, {"audio_generation": "Enabled"}
ROWS: list[tuple[str, dict[str, Any], str | None, str]] = [
    ("kling-3.0-omni noref-mute", job(OMNI, output=MUTE), "0.6", "0.8"),
    ("kling-3.0-omni noref-audio", job(OMNI, output=AUDIO), "0.8", "1.0"),
    ("kling-3.0-omni ref-mute", job(OMNI, output=MUTE, meta={"video_url": "v"}), "0.9", "1.2"),
    ("kling-2.6 silent", job(V26, output=MUTE), "0.3", "0.5"),
    ("kling-2.6 audio", job(V26, output=AUDIO), None, "1.0"),
    ("kling-2.5", job(V25, output=MUTE), "0.3", "0.5"),
    (
        "kling-2.6 motion control",
        job(V26, output=MUTE, meta={"scene_type": "motion_control", "video_url": "v"}),
        "0.5",
        "0.8",
    ),
    ("avatar", job(V26, output=MUTE, meta={"scene_type": "avatar_i2v"}), "0.4", "0.8"),
]
UNREACHED = {
    ("kling-v3-omni", "720p", "reference_audio"): "1.1",
    ("kling-v3-omni", "1080p", "reference_audio"): "1.4",
    ("kling-v3", "720p", "silent"): "0.6",
    ("kling-v3", "1080p", "silent"): "0.8",
    ("kling-v3", "720p", "audio"): "0.9",
    ("kling-v3", "1080p", "audio"): "1.2",
    ("kling-v3", "720p", "audio_voice_control"): "1.1",
    ("kling-v3", "1080p", "audio_voice_control"): "1.4",
    ("kling-v3-motion-control", "720p", "motion_control"): "0.9",
    ("kling-v3-motion-control", "1080p", "motion_control"): "1.2",
}
"""Rows that no request is certain to reach: images may be a reference, and this API does not have kling-3.0."""


@pytest.mark.parametrize(("row", "payload", "at_720p", "at_1080p"), ROWS)
def test_every_reachable_row_is_quoted(
    row: str, payload: dict[str, Any], at_720p: str | None, at_1080p: str
) -> None:
    """Five and ten seconds cost exactly the price of the row x the seconds."""
    for resolution, price in (("720p", at_720p), ("1080p", at_1080p)):
        if price is not None:
            for seconds in (5, 10):
                body = amend(payload, {"resolution": resolution, "duration_s": seconds})
                assert priced(body, seconds).total == Decimal(price) * seconds, row
                assert priced(form_of(body), seconds).total == Decimal(price) * seconds, row


def test_the_table_has_exactly_the_published_rows(book: PriceBook) -> None:
    """15 reachable rows, 10 others and lip sync are the 26 published ones; some apply to several models."""
    (table,) = book.tables["tencent-vod"]
    reachable = [price for _, _, *prices in ROWS for price in prices if price is not None]
    assert len(reachable) + len(UNREACHED) + 1 == 26
    for cell, price in UNREACHED.items():
        assert table.rates[cell].unit_price == Decimal(price)  # type: ignore[index]
    shared = {
        (cell.model, cell.resolution, cell.tier): rate.unit_price
        for cell, rate in table.rates.items()
        if cell.tier in {"avatar", "lip_sync"}
    }
    models = ("kling-v3-omni", "kling-v2-6", "kling-v2-5-turbo")
    rows = {("720p", "avatar"): "0.4", ("1080p", "avatar"): "0.8"}
    rows |= {("720p", "lip_sync"): "0.1", ("1080p", "lip_sync"): "0.1"}
    assert shared == {(model, *place): Decimal(price) for model in models for place, price in rows.items()}
    assert len(table.rates) == 26 + len(shared) - 3
    assert (table.currency, {source.authority for source in table.sources}) == ("CNY", {"secondary"})


@pytest.mark.parametrize(("seconds", "billed"), [(3, 5), (5, 5), (6, 10), (10, 10), (11, 15), (15, 15)])
def test_lip_sync_is_billed_in_blocks_of_five_seconds(seconds: int, billed: int) -> None:
    """The length of the video counts, every started block in full, and at least one block is billed."""
    body = job(OMNI, output={"resolution": "720P"}, meta={"scene_type": "lip_sync", "video_url": "v"})
    quoted = priced(body, seconds)
    assert (quoted.quantity, quoted.total) == (Decimal(billed), Decimal("0.1") * billed)


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        (
            job(V26, size="720x1280", meta={"scene_type": "template_effect"}),
            "no price is published for template effects",
        ),
        (job(OMNI, size="720x1280", meta={"scene_type": "motion_control"}), "not for kling-3.0-omni"),
        (job(V25, size="720x1280", meta={"scene_type": "motion_control"}), "not for kling-2.5"),
        (
            job(V26, size="720x1280", meta={"video_url": "v"}),
            "a price with a reference video is published only for kling-3.0-omni and for motion control",
        ),
        (
            job(V25, size="720x1280", meta={"video_url": "v"}),
            "a price with a reference video is published only for kling-3.0-omni and for motion control",
        ),
    ],
)
def test_a_valid_request_without_a_published_price_is_refused(payload: dict[str, Any], why: str) -> None:
    """The API accepts the request, and the error says why no price applies."""
    assert codes(payload) == []
    with pytest.raises(PriceNotFoundError, match=why):
        priced(payload)


def range_of(payload: dict[str, Any]) -> tuple[str, str, str]:
    """Returns the minimum and maximum of a quote that is a range, and the fields that decide it."""
    quoted = priced(payload)
    (note,) = [note.message for note in quoted.notes if note.code == "range"]
    with pytest.raises(PriceNotFoundError, match="the quote is a range") as caught:
        _ = quoted.total
    unknown, _, rest = note.removeprefix("the price depends on ").partition(", which ")
    assert rest == f"{'are' if ' and ' in unknown else 'is'} unknown; the line items show the maximum"
    assert note == f"the price depends on {unknown}, which {rest}"
    assert unknown in str(caught.value)
    assert not [note for note in quoted.notes if note.code == "not_checked"]
    return str(quoted.minimum), str(quoted.maximum), unknown


RESOLUTION, SOUND = FIELD_NAMES["resolution"], FIELD_NAMES["audio"]


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (job(OMNI, duration=5, output=MUTE), ("3.0", "4.0", RESOLUTION)),
        (job(OMNI, duration=5, size="720x1280"), ("3.0", "4.0", SOUND)),
        (job(OMNI, duration=5), ("3.0", "5.0", f"{SOUND} and {RESOLUTION}")),
        (job(V26, duration=5), ("1.5", "5.0", f"{SOUND} and {RESOLUTION}")),
        (job(V26, duration=5, size="1080x1920"), ("2.5", "5.0", SOUND)),
        (job(V25, duration=5), ("1.5", "2.5", RESOLUTION)),
        (job(OMNI, duration=5, size="720x1280", image="a", output=MUTE), ("3.0", "4.5", "reference")),
        (job(OMNI, duration=5, size="720x1280", image="a", output=AUDIO), ("4.0", "5.5", "reference")),
        (
            job(OMNI, duration=5, size="720x1280", meta={"file_infos": "[]"}, output=MUTE),
            ("3.0", "4.5", "reference"),
        ),
        (
            job(V25, size="720x1280", seconds="5", output={"duration": 10}),
            ("1.5", "3.0", "seconds (read as 5 or 10)"),
        ),
        (
            job(V25, size="720x1280", output={"duration": 10}),
            ("1.5", "3.0", "metadata.output_config.duration (read as 10 or 5)"),
        ),
        (
            job(OMNI, size="720x1280", output={"duration": 3, **MUTE}),
            ("1.8", "3.0", "metadata.output_config.duration (read as 3 or 5)"),
        ),
        (
            job(V25, duration=5, size="720x1280", output={"resolution": "1080P"}),
            ("1.5", "2.5", f"{RESOLUTION} (read as 1080p or 720p)"),
        ),
        (job(OMNI, size="720x1280", output=MUTE), ("1.8", "9.0", "duration")),  # 3 to 15 s x 0.6
        (job(V25, size="720x1280"), ("1.5", "3.0", "duration")),  # 5 or 10 s x 0.3
        (job(OMNI), ("1.8", "15.0", f"{SOUND}, duration and {RESOLUTION}")),  # 3 s x 0.6 to 15 s x 1.0
    ],
)
def test_unknown_facts_make_a_range(payload: dict[str, Any], expected: tuple[str, str, str]) -> None:
    """The range covers what the model allows, and its only note names the fields that decide."""
    assert range_of(payload) == expected


def test_a_duration_in_the_output_config_alone_may_not_be_billed() -> None:
    """The quote spans it and the default, unless they are equal or another field gives the duration."""
    same = priced(job(V25, size="720x1280", output={"duration": 5}))
    assert (same.total, "duration_not_billed" in [note.code for note in same.notes]) == (Decimal("1.5"), False)
    payload = job(V25, size="720x1280", output={"duration": 10})
    amended = amend(payload, {"duration_s": 10})
    assert amended == {**payload, "duration": 10}
    assert priced(amended).total == Decimal("3.0")
    assert "duration" not in payload


@pytest.mark.parametrize("model", [V26, V25])
@pytest.mark.parametrize("passed", [{"file_infos": "[]"}, {"ext_info": "{}"}])
def test_passed_through_files_have_no_price_if_a_reference_has_none(model: str, passed: dict[str, Any]) -> None:
    """They may be a reference video; a scene type with a price of its own is quoted all the same."""
    with pytest.raises(PriceNotFoundError, match="which may contain a reference video, and no price"):
        priced(job(model, duration=5, size="720x1280", meta=passed, output=MUTE))
    scene = priced(job(model, duration=5, size="720x1280", meta={**passed, "scene_type": "avatar_i2v"}))
    assert scene.total == Decimal("2.0")


def test_images_make_no_range_if_references_have_no_price() -> None:
    """Only one model has a price for references."""
    assert priced(job(V26, duration=5, size="720x1280", image="a", output=MUTE)).total == Decimal("1.5")


def test_an_unknown_resolution_that_audio_restricts_is_noted() -> None:
    """The model has audio at 1080p only, so the price is exact, but the API might refuse the request."""
    quoted = priced(job(V26, duration=5, output=AUDIO))
    assert quoted.total == Decimal("5.0")
    assert [note.code for note in quoted.notes if note.code == "not_checked"] == ["not_checked"]


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (job(V26, output={"duration": 10}), "duration_not_billed"),
        (job(V26, meta={"motion_level": "pro"}), "motion_level_unsettled"),
        (job(V26, meta={"offpeak": True}), "no_off_peak_discount"),
        (job(OMNI, meta={"ext_info": "{}"}), "passed_through_unread"),
        (job(V26, meta={"scene_type": "avatar_i2v"}), "scene_length"),
        (job(OMNI, image="a"), "pictures_as_reference"),
        (job(OMNI, meta={"last_frame_url": "a"}), "last_frame_as_reference"),
    ],
)
def test_unsettled_rules_are_noted(payload: dict[str, Any], code: str) -> None:
    """A plain request has only the notes about the table."""
    assert code in [note.code for note in priced(payload).notes]
    plain = priced(job(OMNI, duration=5, size="720x1280", output=MUTE))
    assert [note.code for note in plain.notes] == ["secondary_source", "billed_on_output", "stale_table"]


def test_no_provider_is_assumed_for_this_api() -> None:
    """The error names the gateway, which publishes no prices, and lists the providers that price the model."""
    with pytest.raises(PriceNotFoundError, match=r"^octopusx publishes no prices \(its docs list") as caught:
        quote(job(V26, size="720x1280"), at=AT)
    assert str(caught.value).endswith(", or choose a provider with prices: tencent-vod")
    assert caught.value.priced_instead == ("tencent-vod",)


def test_this_table_can_price_requests_of_another_api() -> None:
    """An explicit provider replaces the rates; whether images are a reference stays unknown."""
    omni = {"model": "kling-v3-omni", "prompt": "x"}
    assert priced(omni).total == Decimal("3.0")
    assert priced({**omni, "video_urls": ["v"]}).total == Decimal("4.5")
    assert priced({"model": "kling-v3", "prompt": "x", "audio": True}).total == Decimal("4.5")
    pictures = priced({**omni, "image_urls": ["a"]})
    assert (pictures.minimum, pictures.maximum) == (Decimal("3.0"), Decimal("4.5"))
    assert "the price depends on the tier (reference or silent), which is unknown" in pictures.explain()


def test_requests_whose_tiers_the_table_does_not_define_are_refused() -> None:
    """The tiers of the table do not cover the requests of every API."""
    with pytest.raises(PriceNotFoundError, match="does not price requests in wire format kling"):
        priced({"model_name": "kling-v2-6", "prompt": "x"})


@pytest.mark.parametrize(
    ("name", "minimum", "maximum", "action"),
    [
        ("text_to_video", "5", "5", "generate"),
        ("image_to_video", "3", "3", "image2video"),
        ("first_last_frame", "1.5", "1.5", "first_last_frame"),
    ],
)
def test_the_examples_are_quoted(name: str, minimum: str, maximum: str, action: str) -> None:
    """These examples follow the page's scenarios in which the payload decides the length."""
    body = (EXAMPLES / f"{name}.json").read_text(encoding="utf-8")
    quoted = quote(body, provider="tencent-vod", at=AT)
    assert (quoted.minimum, quoted.maximum) == (Decimal(minimum), Decimal(maximum))
    assert (quoted.wire_format, quoted.action) == ("openai_videos", action)


def test_motion_control_is_priced_by_the_length_of_its_video() -> None:
    """The example has no price without that length, because the API does not bill the requested duration."""
    body = (EXAMPLES / "motion_control.json").read_text(encoding="utf-8")
    with pytest.raises(PriceNotFoundError, match="pass the length of the video with `media`"):
        quote(body, provider="tencent-vod", at=AT)
    media = {"https://example.com/dance.mp4": {"length_s": 5}}
    quoted = quote(body, provider="tencent-vod", media=media, at=AT)
    assert (quoted.total, quoted.action) == (Decimal("4.0"), "motion_control")


def motion(level: str | None, resolution: str | None) -> dict[str, Any]:
    """Returns a motion control payload; a field that is None is left out."""
    meta = {"scene_type": "motion_control", "video_url": "v"} | ({"motion_level": level} if level else {})
    return job(V26, output={"resolution": resolution} if resolution else None, meta=meta)


@pytest.mark.parametrize(
    ("level", "resolution", "minimum", "maximum"),
    [
        ("std", "720P", "2.5", "2.5"),  # 5 s x 0.5
        ("pro", "1080P", "4.0", "4.0"),  # 5 s x 0.8
        ("pro", "720P", "2.5", "4.0"),
        ("std", "1080P", "2.5", "4.0"),
        ("pro", None, "2.5", "4.0"),
        (None, "720P", "2.5", "2.5"),
    ],
)
def test_a_motion_level_of_another_resolution_makes_a_range(
    level: str | None, resolution: str | None, minimum: str, maximum: str
) -> None:
    """The docs do not say whether the level or the resolution is billed, so the quote spans both."""
    payload = motion(level, resolution)
    for body in (payload, form_of(payload)):
        quoted = priced(body, 5)
        assert (quoted.minimum, quoted.maximum) == (Decimal(minimum), Decimal(maximum))
        codes = {note.code for note in quoted.notes}
        assert ("motion_level_unsettled" in codes, "range" in codes) == (level is not None, minimum != maximum)


def test_a_motion_level_matters_for_motion_control_only() -> None:
    """Another scene is billed by its resolution."""
    payload = job(V26, duration=5, size="720x1280", meta={"scene_type": "avatar_i2v", "motion_level": "pro"})
    assert priced(payload).total == Decimal("2.0")


@pytest.mark.parametrize(
    ("payload", "minimum", "maximum"),
    [
        (
            {"seconds": "5", "metadata": {"output_config": {"resolution": "720P", **MUTE}, "offpeak": True}},
            "3.0",
            "3.0",
        ),
        (
            {
                "seconds": "5",
                "metadata": {
                    "file_infos": '[{"Type":"Url","Url":"https://m.example/a.png"}]',
                    "output_config": {"resolution": "720P", **MUTE},
                },
            },
            "3.0",
            "4.5",
        ),
    ],
)
def test_the_published_keys_of_the_gateway_are_priced(
    payload: dict[str, Any], minimum: str, maximum: str
) -> None:
    """Off-peak leaves the price as it is, and passed-through files may be a reference."""
    quoted = priced({"model": OMNI, "prompt": "rain on a tram window", **payload})
    assert (quoted.minimum, quoted.maximum) == (Decimal(minimum), Decimal(maximum))


def test_motion_control_with_passed_through_parameters_is_priced() -> None:
    """The motion level and the resolution agree, so the price is exact."""
    payload = {
        "model": V26,
        "prompt": "dance",
        "seconds": "5",
        "metadata": {
            "scene_type": "motion_control",
            "motion_level": "pro",
            "video_url": "v",
            "output_config": {"resolution": "1080P"},
            "ext_info": '{"a":1}',
        },
    }
    assert priced(payload, 7).total == Decimal("5.6")  # 7 s x 0.8


def test_an_unreached_entry_must_be_needed(tmp_path: Path) -> None:
    """It must name existing rates that no request can reach, and every such rate needs an entry."""
    text = bundled("prices", "tencent-vod", "2026.yaml").read_text(encoding="utf-8")
    path = tmp_path / "prices" / "tencent-vod" / "2026.yaml"
    path.parent.mkdir(parents=True)
    for entry, problem in (
        ("{model: kling-v1, why: x}", "kling-v1 has no rate"),
        ("{model: kling-v2-6, why: x}", "openai_videos allows kling-v2-6"),
    ):
        path.write_text(text.replace("unreached:\n", f"unreached:\n  - {entry}\n"), encoding="utf-8")
        with pytest.raises(TableError, match=problem):
            load_price_book(tmp_path)
    path.write_text(text[: text.index("unreached:")], encoding="utf-8")
    with pytest.raises(TableError, match="no request can reach this rate"):
        load_price_book(tmp_path)


@pytest.mark.parametrize("form", [False, True])
def test_a_suggestion_uses_the_words_of_the_payload(form: bool) -> None:  # noqa: FBT001
    """It names the field that gives the setting, at any depth."""
    payload = job(V26, duration=5, output={"resolution": "720P", "audio_generation": "Enabled"})
    place = "metadata[output_config][{}]" if form else "metadata.output_config.{}"
    with pytest.raises(CapabilityError) as caught:
        priced(form_of(payload) if form else payload)
    assert caught.value.suggestions == (
        {place.format("resolution"): "1080P"},
        {place.format("audio_generation"): "Disabled"},
    )


BOUNDARY = "multipart/form-data; boundary=b"


def part(name: str, value: bytes, more: str = "") -> bytes:
    """Returns one field of a form whose boundary is `b`."""
    return f'--b\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'.encode() + value + b"\r\n"


def test_a_form_is_read_field_by_field() -> None:
    """Text is read as it is, including line breaks, and a file is read as its name."""
    body = part("prompt", "紙の\r\n船".encode()) + part("input_reference", b"\x00\xff", '; filename="a.png"')
    assert form_fields(body + b"--b--\r\n", BOUNDARY) == {
        "prompt": "紙の\r\n船",
        "input_reference": "a.png",
    }


@pytest.mark.parametrize(
    ("body", "content_type", "problem"),
    [
        (b"{}", "application/json", "not a multipart/form-data body"),
        (b"x", "multipart/form-data", "not a multipart/form-data body"),
        (part("seconds", b"5") * 2 + b"--b--", BOUNDARY, "'seconds' is given twice"),
        (part("prompt", b"\xff") + b"--b--", BOUNDARY, "'prompt' is not UTF-8"),
        (b"--b\r\n\r\nx\r\n--b--", BOUNDARY, "a part of the form has no name"),
    ],
)
def test_a_malformed_form_is_refused(body: bytes, content_type: str, problem: str) -> None:
    """The message says what is wrong with it."""
    with pytest.raises(WireFormatError, match=problem):
        form_fields(body, content_type)


@pytest.fixture
def gateway() -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    """Yields the address of a local server, and the Content-Type and body of every request to it."""
    requests: list[tuple[str, bytes]] = []
    answer = json.dumps(
        {"id": "v1", "object": "video", "model": V26, "status": "queued", "created_at": 1, "progress": 0}
    ).encode()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            requests.append((self.headers["Content-Type"], body))
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            """Prints nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1", requests
    server.shutdown()
    thread.join()
    server.server_close()


def test_requests_of_the_openai_sdk_are_read(gateway: tuple[str, list[tuple[str, bytes]]]) -> None:
    """Forms from `videos.create`, with and without a file, and JSON from `post` give the same facts."""
    openai = pytest.importorskip("openai", minversion="3")
    address, requests = gateway
    metadata = {
        "offpeak": True,
        "output_config": {"duration": 10, "resolution": "720P", "audio_generation": "Disabled"},
    }
    with (
        openai.OpenAI(api_key="none", base_url=address, max_retries=0) as client,
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore", DeprecationWarning)  # from a model inside OpenAI's SDK
        create = client.videos.create
        create(model=V26, prompt="紙の船", seconds="10", size="1280x720", extra_body={"metadata": metadata})
        create(model=V26, prompt="紙の船", input_reference=("a.png", b"\x89PNG", "image/png"))
        body = {"model": V26, "prompt": "紙の船", "seconds": "10", "size": "1280x720", "metadata": metadata}
        client.post("/videos", body=body, cast_to=object)
    (form_type, form), (file_type, with_file), (json_type, plain_json) = requests
    expected = {
        "model": V26,
        "prompt_chars": 3,
        "duration_s": 10,
        "resolution": "720p",
        "aspect_ratio": "16:9",
        "aspect_ratio_stated": True,
        "audio": False,
        "off_peak": True,
        "reference": False,
    }
    fields = form_fields(form, form_type)
    assert fields["metadata[output_config][duration]"] == "10"
    assert parse(fields).facts == expected
    assert parse(form_fields(with_file, file_type)).facts == {
        "model": V26,
        "prompt_chars": 3,
        "images": 1,
        "start_images": 1,
        "reference": None,
    }
    assert json_type == "application/json"
    assert parse(json.loads(plain_json)).facts == expected
    assert priced(fields).total == priced(json.loads(plain_json)).total == Decimal("3.0")
