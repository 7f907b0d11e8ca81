"""The one door from a payload to a request, its capability matrix and its price table."""

import json
from collections import UserDict
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from kling_pricing import (
    CapabilityError,
    KlingPricingError,
    PriceBook,
    PriceNotFoundError,
    WireFormatError,
    load_price_book,
    quote,
)
from kling_pricing.quoting.format_choice import choose_format, format_at
from kling_pricing.quoting.intake import Intake
from kling_pricing.wire.endpoints import Endpoint, Submission
from kling_pricing.wire.facts import FACT_TYPES
from kling_pricing.wire.formats import wire_format as wire_format_named
from tests.conftest import AT, PRICES, video


@pytest.mark.parametrize("form", [dict, UserDict, json.dumps, lambda payload: json.dumps(payload).encode()])
def test_a_request_may_be_a_mapping_or_json(form: Callable[[dict[str, Any]], Any]) -> None:
    """A dict, another mapping, text and bytes of the same request give the same quote."""
    assert quote(form(video()), at=AT) == quote(video(), at=AT)


@pytest.mark.parametrize(
    ("request_text", "remedy"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("5", "a request must be a JSON object, got a number"),
        ("null", "a request must be a JSON object, got null"),
        ("[{}]", "a request must be a JSON object, got a list"),
        ('{"model": "kling-v3", "duration": NaN}', "NaN is not JSON"),
        ('{"model": "kling-v3", "duration": 5, "duration": 10}', "key 'duration' appears twice"),
        (b'{"model": "\xff"}', "not JSON"),
        ("[" * 100_000, "nested too deeply"),
        ('{"duration": ' + "9" * 5000 + "}", "cannot read the JSON: a number has too many digits"),
        (5, "a request must be a JSON object, got a number"),
        (None, "a request must be a JSON object, got null"),
    ],
)
def test_a_request_must_be_a_json_object(request_text: Any, remedy: str) -> None:
    """JSON that is not an object is refused, and so is a key given twice: the API might read either value."""
    with pytest.raises(WireFormatError, match=remedy):
        quote(request_text, at=AT)


def test_defaults_are_applied_and_remembered(book: PriceBook) -> None:
    """A field that the payload leaves out has the API's default, and a note says so if it affects the price."""
    quoted = quote(video(), at=AT)
    facts = quoted.request.facts
    assert (facts["duration_s"], facts["resolution"], facts["audio"], facts["aspect_ratio"]) == (
        5,
        "720p",
        False,
        "16:9",
    )
    assert {note.code for note in quoted.notes} >= {"assumed_duration_s", "assumed_resolution", "assumed_audio"}
    full = quote(video(duration=5, resolution="720p", audio=False), at=AT)
    assert not any(note.code.startswith("assumed") for note in full.notes)
    request, _ = Intake(book=book).read(video("kling-video-o1"))
    assert "audio" not in request.defaults


def test_an_alias_is_resolved_and_the_callers_name_kept() -> None:
    """The quote has both the name on the wire and the canonical name."""
    quoted = quote(video("kling-v2.6"), at=AT)
    assert (quoted.model, quoted.canonical_model) == ("kling-v2.6", "kling-v2-6")


@pytest.mark.parametrize(
    ("model", "code", "suggestions"),
    [
        ("kling-v2-6", "unknown_model", ({"model": "kling-v2.6"},)),
        ("Kling-V33", "unknown_model", ({"model": "kling-v3"},)),
        ("sora", "unknown_model", ()),
        (None, "model_required", ()),
    ],
)
def test_an_unknown_model_is_never_replaced(
    model: str | None, code: str, suggestions: tuple[dict[str, str], ...]
) -> None:
    """An unknown model is an error that lists the known names and suggests the nearest."""
    with pytest.raises(CapabilityError) as caught:
        quote({"model": model, "prompt": "x"}, wire_format="tasks", at=AT)
    (violation,) = caught.value.violations
    assert (violation.code, violation.field, violation.value) == (code, "model", model)
    assert violation.allowed == ["kling-video-o1", "kling-v3-omni", "kling-v3", "kling-v2.6"]
    assert caught.value.suggestions == suggestions


@pytest.mark.parametrize(
    ("inputs", "action"),
    [
        ({}, "generate"),
        ({"image_urls": ["a"]}, "image2video"),
        ({"first_frame_image": "a"}, "image2video"),
        ({"first_frame_image": "a", "last_frame_image": "b"}, "first_last_frame"),
        ({"image_urls": ["a", "b"]}, "reference"),
        ({"video_urls": ["v"]}, "reference_video"),
        ({"video_list": [{"video_url": "v"}], "image_urls": ["a"]}, "reference_video"),
        ({"image_urls": ["a"], "action": "reference"}, "reference"),
        ({"image_urls": []}, "generate"),
    ],
)
@pytest.mark.parametrize("stated", [False, True])
def test_the_effective_action_follows_the_inputs(inputs: dict[str, Any], action: str, stated: bool) -> None:  # noqa: FBT001
    """Under the default action the inputs decide the effective action, and a note names the deciding input."""
    payload = video("kling-video-o1", **({"action": "generate"} if stated else {}) | inputs)
    quoted = quote(payload, at=AT)
    assert quoted.action == action
    implied = action != "generate" and inputs.get("action") is None
    assert any(note.code == "implied_action" for note in quoted.notes) is implied


def test_an_unknown_provider_is_an_error_that_suggests_a_known_one() -> None:
    """A misspelt provider is never replaced silently."""
    with pytest.raises(PriceNotFoundError, match="unknown provider 'qing-bo'; did you mean 'qingbo'"):
        quote(video(), provider="qing-bo", at=AT)


def test_an_unknown_wire_format_is_an_error_with_the_known_ones() -> None:
    """The error for an unknown wire format lists the known formats."""
    with pytest.raises(WireFormatError, match="known: tasks"):
        quote(video(), wire_format="task", at=AT)


def test_a_second_provider_of_the_same_format_must_be_chosen(tmp_path: Path) -> None:
    """If two providers speak the format, the error asks for one and lists those that price the model."""
    path = tmp_path / "prices" / "acme" / "2026-11-01.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(PRICES)
    both = load_price_book(tmp_path)
    with pytest.raises(PriceNotFoundError) as caught:
        quote(video(), book=both, at=AT)
    assert caught.value.priced_instead == ("acme", "kling", "qingbo", "qingbo-ai", "tencent-vod")
    assert quote(video(), provider="qingbo", book=both, at=AT).currency == "USD"


def test_an_instant_without_a_zone_is_refused() -> None:
    """A naive time is refused, because it would mean different instants on different machines."""
    with pytest.raises(KlingPricingError, match="no time zone"):
        quote(video(), at=datetime(2026, 11, 21))  # noqa: DTZ001


def test_a_format_that_alone_knows_all_fields_is_chosen() -> None:
    """The format is chosen because it alone knows all the fields, although no single field is a mark of it."""
    payload = {
        "model": "kling-v3-omni",
        "action": "edit",
        "prompt": "by moonlight",
        "duration": 0,
        "video_urls": ["https://example.com/v.mp4"],
        "keep_original_sound": "yes",
    }
    media = {"https://example.com/v.mp4": {"length_s": "4.9"}}
    quoted = quote(payload, media=media, at=AT)
    assert (quoted.wire_format, quoted.provider, quoted.quantity) == ("tasks_v2", "qingbo-ai", Decimal(4))


def test_marks_of_two_formats_are_an_error_that_names_both() -> None:
    """The error names both formats, and the library does not guess."""
    with pytest.raises(
        WireFormatError,
        match=r"^field 'extra' belongs to wire format tasks_extra, but field 'metadata' belongs to ",
    ):
        quote(video(extra={"mode": "pro"}, metadata={}), at=AT)


def test_a_model_is_a_mark_unless_the_marked_format_knows_it_too() -> None:
    """A model that only another format has contradicts a field; one that both have leaves the choice to it."""
    with pytest.raises(WireFormatError) as caught:
        quote({"model": "Kling-2.6", "prompt": "x", "extra": {}}, at=AT)
    assert str(caught.value) == (
        "field 'extra' belongs to wire format tasks_extra, but model 'Kling-2.6' belongs to openai_videos; use "
        "fields and names of only one of the two, or specify the wire format"
    )
    frames = {"image": "https://example.com/a.png", "image_tail": "https://example.com/b.png", "mode": "pro"}
    assert quote({"model": "kling-v2-6", "prompt": "x", **frames}, at=AT).wire_format == "kling"
    spelt = {"model": "KLING-2.6", "prompt": "x", "duration": 5}
    assert quote(spelt, provider="tencent-vod", at=AT).wire_format == "openai_videos"


@pytest.mark.parametrize("stated", [True, False])
@pytest.mark.parametrize("wire_format", ["tasks", "tasks_extra", "tasks_v2", "kling"])
def test_a_request_has_exactly_the_known_facts(wire_format: str, stated: bool) -> None:  # noqa: FBT001
    """Every fact has a known name and none is missing, because tables may have a condition on any of them."""
    payload: dict[str, Any] = {wire_format_named(wire_format).FIELD_NAMES["model"]: "kling-v3", "prompt": "x"}
    if stated:
        payload["duration"] = "5" if wire_format == "kling" else 5
    request, _ = Intake(None, wire_format, AT, None).read(payload)
    assert request.facts.keys() == FACT_TYPES.keys()
    assert (request.facts["duration_stated"], request.facts["resolution_stated"]) == (stated, False)


@pytest.mark.parametrize(
    ("payload", "provider", "wire_format", "assumed"),
    [
        ({"model": "KLING-2.6"}, None, "openai_videos", False),
        ({"model": "kLing-2.6"}, "qingbo", "openai_videos", False),
        ({"model": "Kling-2.6"}, None, "openai_videos", False),
        ({"model": "KLING-V1-6"}, "qingbo-ai", "tasks_extra", False),
        ({"model": "KLING-V3"}, None, "tasks", True),
        ({"model": "KLING-V3"}, "qingbo", "tasks", True),
        ({"model": "KLING-V3"}, "qingbo-ai", "tasks_v2", False),
        ({"model": "KLING-V3", "metadata": {}}, "qingbo", "openai_videos", False),
        ({"model": "kling-v1", "extra": {}}, None, "tasks_extra", False),
        ({"model": "kling-v2-6", "mode": "pro", "image_tail": "x"}, None, "kling", False),
        ({"model": 5}, None, "tasks", True),
        ({}, None, "tasks", True),
        ({"prompt": "x", "n": 1}, None, "tasks_v2", False),
        ({"model": "kling-v3", "nothing": 1}, None, "tasks", True),
        ({"model": "kling-v3"}, "tencent-vod", "tasks", True),
        ({"model": "kling-v3"}, "octopusx", "openai_videos", False),
        ({"model": "kling-v3"}, "nobody", "tasks", True),
    ],
)
def test_a_model_in_any_case_is_a_mark_of_its_format(
    book: PriceBook,
    payload: dict[str, Any],
    provider: str | None,
    wire_format: str,
    assumed: bool,  # noqa: FBT001
) -> None:
    """Neither the provider nor the default matters if the model's name, in any case, has a single format."""
    assert choose_format(payload, book, provider) == (wire_format, assumed)


@pytest.mark.parametrize(
    ("formats", "provider", "wire_format", "assumed"),
    [
        (("kling",), None, "kling", False),
        (("tasks", "tasks_v2"), None, "tasks", True),
        (("tasks_v2", "kling"), "qingbo", "tasks_v2", True),
        (("tasks_v2", "openai_videos"), "octopusx", "openai_videos", False),
        (("tasks", "tasks_extra"), "qingbo", "tasks", True),
        ((), "octopusx", "openai_videos", False),
    ],
)
def test_an_endpoint_limits_the_formats(
    book: PriceBook,
    formats: tuple[str, ...],
    provider: str | None,
    wire_format: str,
    assumed: bool,  # noqa: FBT001
) -> None:
    """A payload whose format the endpoint does not accept is read as the endpoint's first format."""
    accepted = tuple(Submission("/v1/videos", name, (), "the docs") for name in formats)
    payload = {"model": "kling-v3"}
    assert format_at(Endpoint(None, accepted), payload, book, provider) == (wire_format, assumed)
    assert format_at(Endpoint(provider, accepted), payload, book, None) == (wire_format, assumed)


def test_only_providers_that_would_price_the_request_are_offered() -> None:
    """Each provider that the error names quotes the request."""
    payload = {"model": "Kling-2.6", "prompt": "x", "duration": 5}
    with pytest.raises(PriceNotFoundError) as caught:
        quote(payload, at=AT)
    assert caught.value.priced_instead == ("tencent-vod",)
    for provider in caught.value.priced_instead:
        assert quote(payload, provider=provider, at=AT).maximum > 0
