"""Wire format `video_generations`: reading payloads, the rules of the API, and whose prices apply."""

import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kling_pricing import CapabilityError, PriceNotFoundError, WireFormatError, check, load_price_book, quote
from kling_pricing.wire.formats import wire_format as wire_format_named
from kling_pricing.wire.formats.video_generations import FIELD_NAMES, amend, parse, read_task
from kling_pricing.wire.task import Task
from tests.conftest import AT

EXAMPLES = Path(__file__).parent.parent / "examples" / "requests" / "video_generations"

# A gateway with invented prices.
PRICES = """\
provider: gate
wire_formats: [video_generations]
currency: USD
valid_from: null
sources:
  - {ref: price page, checked: 2026-11-19, authority: official}
billing: {failed_tasks: unconfirmed}
tiers:
  - {tier: audio, when: {audio: true}}
  - {tier: silent}
quantity:
  - {fact: duration_s}
rates:
  kling-v3:
    720p: {silent: 0.01, audio: 0.02}
    1080p: {silent: 0.03, audio: 0.04}
"""


def video(model: str = "kling-v3-std-silent", **fields: Any) -> dict[str, Any]:
    """Returns a payload; a field that is None is left out."""
    payload = {"model": model, "prompt": "a paper boat", "duration": 5, **fields}
    return {name: value for name, value in payload.items() if value is not None}


def test_every_documented_field_is_read() -> None:
    """Each documented field becomes facts whose names do not depend on the API."""
    parsed = parse(
        {
            "model": "kling-v3-pro-audio",
            "prompt": "船",
            "image": "https://example.com/a.png",
            "last_image": "https://example.com/b.png",
            "aspect_ratio": "16:9",
            "duration": "6",
            "extra_body": {
                "cfg_scale": 0.6,
                "shot_type": "intelligent",
                "negative_prompt": "blur, ",
                "multi_prompt": [{"prompt": "far"}, {"prompt": "near"}],
                "element_list": [{"element_id": "160"}],
            },
        }
    )
    assert parsed.facts == {
        "model": "kling-v3-pro-audio",
        "prompt_chars": 1,
        "first_frame": True,
        "start_images": 1,
        "last_frame": True,
        "aspect_ratio": "16:9",
        "aspect_ratio_stated": True,
        "duration_s": 6,
        "cfg_scale": Decimal("0.6"),
        "shot_type": "intelligent",
        "negative_prompt_chars": 6,
        "shots": 2,
        "longest_shot_chars": 4,
        "elements": 1,
    }
    assert parsed.fields == {fact: field for fact, field in FIELD_NAMES.items() if field != "model"} | {
        "model": "model"
    }
    assert [medium.field for medium in parsed.media] == ["image", "last_image"]


def test_null_counts_as_left_out() -> None:
    """This holds at the top level and in `extra_body`."""
    nulls = {"image": None, "duration": None, "extra_body": {"cfg_scale": None, "multi_prompt": None}}
    assert parse({"model": "m", "extra_body": None}) == parse({"model": "m"}) == parse({"model": "m", **nulls})


@pytest.mark.parametrize(
    ("fields", "code", "field", "remedy"),
    [
        ({"resolution": "720p"}, "unknown_field", "resolution", "use one of: model, prompt"),
        ({"last_imag": "u"}, "unknown_field", "last_imag", "did you mean 'last_image'?"),
        ({"duration": "5.0"}, "wrong_type", "duration", "must be a whole number, got '5.0'"),
        ({"duration": "05"}, "wrong_type", "duration", "must be a whole number, got '05'"),
        ({"duration": "５"}, "wrong_type", "duration", "must be a whole number"),  # noqa: RUF001
        ({"duration": ""}, "wrong_type", "duration", "must be a whole number"),
        ({"duration": 5.0}, "wrong_type", "duration", "must be a whole number, got 5.0"),
        ({"duration": True}, "wrong_type", "duration", "must be a whole number, got true"),
        ({"image": ""}, "wrong_type", "image", "must be non-empty text, got ''"),
        ({"image": ["u"]}, "wrong_type", "image", "must be text"),
        ({"extra_body": []}, "wrong_type", "extra_body", "must be an object"),
        ({"extra_body": {"cfg_scal": 1}}, "unknown_field", "extra_body.cfg_scal", "did you mean 'cfg_scale'?"),
        ({"extra_body": {"cfg_scale": "1"}}, "wrong_type", "extra_body.cfg_scale", "must be a number, got '1'"),
        ({"extra_body": {"shot_type": 1}}, "wrong_type", "extra_body.shot_type", "must be text, got 1"),
        ({"extra_body": {"multi_prompt": ["x"]}}, "wrong_type", "extra_body.multi_prompt[0]", "an object"),
        (
            {"extra_body": {"multi_prompt": [{}]}},
            "wrong_type",
            "extra_body.multi_prompt[0].prompt",
            "is required; add it",
        ),
        (
            {"extra_body": {"multi_prompt": [{"prompt": "x", "duration": 5}]}},
            "unknown_field",
            "extra_body.multi_prompt[0].duration",
            "use one of: prompt",
        ),
    ],
)
def test_an_invalid_field_is_refused_by_name(
    fields: dict[str, Any], code: str, field: str, remedy: str
) -> None:
    """A misspelt field or a value of another type never becomes a default."""
    with pytest.raises(WireFormatError) as caught:
        parse(video(**fields))
    (violation,) = caught.value.violations
    assert (caught.value.wire_format, caught.value.field) == ("video_generations", field)
    assert (violation.code, violation.field) == (code, field)
    assert remedy in violation.message


def test_the_payload_is_not_changed() -> None:
    """Neither reading nor amending changes it."""
    payload = video(duration="5", extra_body={"cfg_scale": 0.5})
    before = repr(payload)
    parse(payload)
    amend(payload, {"duration_s": 10})["extra_body"]["cfg_scale"] = 1
    assert repr(payload) == before


def test_an_amend_without_changes_keeps_every_byte() -> None:
    """The order, the spelling and all fields stay as the caller wrote them."""
    payload = {"prompt": "紙の船", "duration": "7", "extra_body": {"cfg_scale": None}, "model": "m", "seed": 7}
    assert json.dumps(amend(payload, {})) == json.dumps(payload)


def test_a_duration_written_as_text_stays_text() -> None:
    """The caller's JSON type is kept, and a new duration is added last as a number."""
    assert amend(video(duration="5"), {"duration_s": 10})["duration"] == "10"
    assert amend(video(duration=5), {"duration_s": 10})["duration"] == 10
    assert list(amend(video(duration=None), {"duration_s": 10})) == ["model", "prompt", "duration"]


@pytest.mark.parametrize("change", [{"resolution": "720p"}, {"audio": True}])
def test_only_another_model_changes_resolution_and_audio(change: dict[str, Any]) -> None:
    """The model's name decides both, and the wire format does not know any names."""
    with pytest.raises(
        WireFormatError,
        match=r"^in this API, the model name determines (resolution|audio); change `model` instead$",
    ) as caught:
        amend(video(), change)
    assert (caught.value.wire_format, caught.value.field) == ("video_generations", "model")
    assert amend(video(), {"model": "kling-v3-pro-audio"}) == video("kling-v3-pro-audio")


payloads = st.fixed_dictionaries(
    {"model": st.sampled_from(["kling-v3-std-silent", "kling-v3-pro-audio"])},
    optional={
        "prompt": st.none() | st.text(max_size=5),
        "duration": st.none() | st.integers(0, 16) | st.integers(0, 16).map(str),
        "image": st.just("u"),
        "aspect_ratio": st.sampled_from(["16:9", None]),
        "extra_body": st.none() | st.fixed_dictionaries({}, optional={"cfg_scale": st.floats(0, 1)}),
    },
)
changes = st.fixed_dictionaries(
    {},
    optional={
        "model": st.sampled_from(["kling-v3-std-audio", "kling-v3-pro-silent"]),
        "duration_s": st.integers(3, 15),
    },
)


@given(payloads, changes)
def test_an_amended_payload_parses_like_the_original_with_the_change(
    payload: dict[str, Any], change: dict[str, Any]
) -> None:
    """For any payload, only the facts about the changed settings differ."""
    assert parse(amend(payload, change)).facts == parse(payload).facts | change


def test_responses_are_read() -> None:
    """The gateway's answers have the shapes of its family: see the tests of `read_gateway_task`."""
    body = {"id": "t1", "task_id": "t1", "model": "m", "status": "completed", "seconds": "5"}
    assert read_task(body) == Task("t1", "succeeded", None, Decimal(5), "m")
    with pytest.raises(WireFormatError, match="id must be text") as caught:
        read_task({"id": 5})
    assert caught.value.wire_format == "video_generations"


def enveloped(**task: Any) -> dict[str, Any]:
    """Returns a status response of the new-api family, whose task is inside `data`."""
    return {"code": "success", "message": "", "data": {"task_id": "t1", **task}}


@pytest.mark.parametrize("wire_format", ["video_generations", "openai_videos"])
@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("NOT_START", "queued"),
        ("SUBMITTED", "queued"),
        ("QUEUED", "queued"),
        ("IN_PROGRESS", "processing"),
        ("SUCCESS", "succeeded"),
        ("FAILURE", "failed"),
        ("NotStart", "queued"),
        ("InProgress", "processing"),
        ("queued", "queued"),
        ("pending", "queued"),
        ("in_progress", "processing"),
        ("processing", "processing"),
        ("completed", "succeeded"),
        ("succeeded", "succeeded"),
        ("failed", "failed"),
        ("cancelled", "cancelled"),
        ("UNKNOWN", None),
        ("", None),
    ],
)
def test_each_status_is_read_in_every_shape(wire_format: str, status: str, state: str | None) -> None:
    """A gateway answers with an envelope, a flat object or OpenAI's object; an unknown word gives no state."""
    read = wire_format_named(wire_format).read_task
    shapes = [
        enveloped(status=status, progress="50%", fail_reason="", submit_time=1, data={"status": "failed"}),
        enveloped(id=7, status=status),  # the number of a row in the gateway's own database
        {"code": "success", "message": "", "data": {"id": "t1", "object": "video", "status": status}},
        {"task_id": "t1", "status": status, "url": "https://example.com/v.mp4", "metadata": {"duration": 5}},
        {"id": "t1", "task_id": "t1", "object": "video", "status": status, "progress": 50},
    ]
    assert [(read(body).task_id, read(body).state) for body in shapes] == [("t1", state)] * len(shapes)


@pytest.mark.parametrize(
    "body", [{"code": "success", "data": None}, {"code": "x", "data": []}, {"data": {}}, {}]
)
def test_an_answer_without_a_task_names_none(body: dict[str, Any]) -> None:
    """The reservation then stays in doubt."""
    assert read_task(body) == Task(None, None)


@pytest.mark.parametrize("seconds", ["10", 10, Decimal(10)])
def test_the_made_length_is_read(seconds: Any) -> None:
    """`seconds` is the length that was made; the upstream's charge inside `data` is not the customer's."""
    upstream = {"data": {"final_unit_deduction": "3"}}
    task = read_task(enveloped(status="SUCCESS", seconds=seconds, data=upstream))
    assert (task.duration_s, task.charge) == (Decimal(10), None)
    assert read_task({"id": "t1", "status": "completed", "duration": "5"}).duration_s is None  # a file's length


SHOTS = {"multi_prompt": [{"prompt": "a"}, {"prompt": "b"}]}


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (video(), []),
        (video(duration="5"), []),
        (video(duration=None), []),
        (video(duration=2), [("duration_s_limit", "duration")]),
        (video(duration=3), []),
        (video(duration="15"), []),
        (video(duration="16"), [("duration_s_limit", "duration")]),
        (video(prompt=None), [("prompt_required", "prompt")]),
        (video(prompt=""), [("prompt_required", "prompt")]),
        (video(prompt=None, extra_body=SHOTS), []),
        (video(prompt=None, extra_body={"multi_prompt": []}), [("prompt_required", "prompt")]),
        (video(extra_body=SHOTS), [("prompt_or_shots", "prompt")]),
        (video(last_image="b"), [("last_image_image", "image")]),
        (video(image="a", last_image="b"), []),
        (video(aspect_ratio="1:1"), []),
        (video(aspect_ratio="4:3"), [("aspect_ratio_limit", "aspect_ratio")]),
        (video("kling-v3"), [("unknown_model", "model")]),
    ],
)
def test_exactly_the_broken_rules_are_reported(
    payload: dict[str, Any], expected: list[tuple[str, str]]
) -> None:
    """Each rule accepts its limit, refuses a value just past it, and names the field of the payload."""
    violations = check(payload, wire_format="video_generations", at=AT)
    assert [(violation.code, violation.field) for violation in violations] == expected


@pytest.mark.parametrize(
    ("fields", "codes"),
    [
        ({}, []),
        ({"aspect_ratio": "16:9"}, []),
        ({"aspect_ratio": "16:9", "image": "a"}, ["aspect_ratio_ignored"]),
        ({"extra_body": {"cfg_scale": 0.5, "shot_type": "customize"}}, []),
        ({"extra_body": {"cfg_scale": 0.6, "shot_type": "intelligent"}}, []),
        ({"extra_body": {"cfg_scale": 0.7}}, ["cfg_scale_unusual"]),
        ({"extra_body": {"cfg_scale": 0.55, "shot_type": "auto"}}, ["cfg_scale_unusual", "shot_type_unusual"]),
    ],
)
def test_values_outside_the_examples_are_noted(fields: dict[str, Any], codes: list[str]) -> None:
    """The request is still quoted."""
    quoted = quote(video(**fields), provider="qingbo", at=AT)
    all_codes = [note.code for note in quoted.notes]
    assert [code for code in all_codes if code.endswith(("_ignored", "_unusual"))] == codes
    assert not any(code == "not_checked" or code.startswith("assumed") for code in all_codes)


@pytest.mark.parametrize(
    ("name", "resolution", "tier", "unit_price", "list_price"),
    [
        ("kling-v3-std-silent", "720p", "silent", "0.01", "0.0714"),
        ("kling-v3-std-audio", "720p", "audio", "0.02", "0.1071"),
        ("kling-v3-pro-silent", "1080p", "silent", "0.03", "0.0952"),
        ("kling-v3-pro-audio", "1080p", "audio", "0.04", "0.1428"),
    ],
)
def test_the_models_name_decides_the_rate(
    folder: Callable[..., Path], name: str, resolution: str, tier: str, unit_price: str, list_price: str
) -> None:
    """It gives resolution and audio; the rates are the caller's own or another provider's."""
    book = load_price_book(folder({"prices/gate/2026-11-01.yaml": PRICES}))
    for duration in range(3, 16):
        quoted = quote(video(name, duration=str(duration)), book=book, at=AT)
        assert (quoted.provider, quoted.canonical_model) == ("gate", "kling-v3")
        assert (quoted.wire_format, quoted.resolution, quoted.tier) == ("video_generations", resolution, tier)
        assert quoted.total == Decimal(unit_price) * duration
        assert quote(video(name, duration=duration), provider="qingbo", at=AT).total == (
            Decimal(list_price) * duration
        )


def test_without_a_provider_the_error_says_how_to_choose_one() -> None:
    """The gateway publishes no prices, so its name and the providers that price the model are in the error."""
    with pytest.raises(PriceNotFoundError) as caught:
        quote(video(), at=AT)
    assert str(caught.value).startswith(
        "uniall publishes no prices (its docs describe four models, but list no"
    )
    assert str(caught.value).endswith(", or choose a provider with prices: kling, qingbo, qingbo-ai")
    assert caught.value.priced_instead == ("kling", "qingbo", "qingbo-ai")
    assert caught.value.model == "kling-v3"
    assert check(video(), at=AT) == []


@pytest.mark.parametrize(
    ("payload", "total"),
    [
        ({"model": "kling-v3-std-silent", "prompt": "x", "aspect_ratio": "16:9"}, "0.42"),  # 5 s x 0.6 x 0.14
        (
            {
                "model": "kling-v3-pro-audio",
                "prompt": "x",
                "duration": 6,
                "image": "https://m.example/a.png",
                "extra_body": {"element_list": [{"element_id": "160"}]},
            },
            "1.008",  # 6 s x 1.2 x 0.14
        ),
    ],
)
def test_optional_fields_are_priced_by_the_official_list(payload: dict[str, Any], total: str) -> None:
    """Without a duration, 5 seconds are assumed, and two notes say so; elements cost nothing."""
    quoted = quote(payload, provider="kling", at=AT)
    assert quoted.total == Decimal(total)
    codes = {"assumed_duration_s", "duration_default_unstated"} & {note.code for note in quoted.notes}
    assert len(codes) == (0 if "duration" in payload else 2)


def test_one_of_several_providers_must_be_chosen(folder: Callable[..., Path]) -> None:
    """The error names both, and prefers neither."""
    other = PRICES.replace("provider: gate", "provider: port")
    book = load_price_book(
        folder({"prices/gate/2026-11-01.yaml": PRICES, "prices/port/2026-11-01.yaml": other})
    )
    with pytest.raises(
        PriceNotFoundError, match=r"several providers use wire format video_generations \(gate and port\)"
    ):
        quote(video(), book=book, at=AT)
    assert quote(video(), provider="port", book=book, at=AT).total == Decimal("0.05")


def test_a_refused_request_comes_with_the_nearest_valid_one() -> None:
    """The suggestion uses the fields of this wire format."""
    with pytest.raises(CapabilityError) as caught:
        quote(video(duration=20), at=AT)
    assert caught.value.suggestions[0] == {"duration": 15}


@pytest.mark.parametrize(
    ("example", "action", "total"),
    [
        ("text_to_video", "generate", "0.357"),  # 5 s x 0.0714
        ("image_to_video", "image2video", "0.8568"),  # 6 s x 0.1428
        ("first_last_frame", "first_last_frame", "0.7616"),  # 8 s x 0.0952
        ("multi_prompt", "image2video", "1.071"),  # 10 s x 0.1071
    ],
)
def test_the_four_examples_of_the_page_are_quoted(example: str, action: str, total: str) -> None:
    """The shipped examples are valid and priced by the named list."""
    payload = (EXAMPLES / f"{example}.json").read_bytes()
    assert check(payload, at=AT) == []
    quoted = quote(payload, provider="qingbo", at=AT)
    assert (quoted.action, quoted.total) == (action, Decimal(total))
