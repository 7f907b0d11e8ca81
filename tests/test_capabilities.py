"""The requests that an API accepts: each rule below, at its limit and beyond, with code, field and value."""

from decimal import Decimal
from typing import Any

import pytest

from kling_pricing import KlingPricingError, MediaFacts, PriceBook, check, quote
from kling_pricing.quoting.intake import Intake
from kling_pricing.tables.examination import violations
from tests.conftest import AT, video

VIDEO = [{"video_url": "https://example.com/v.mp4"}]


def broken(payload: dict[str, Any], **arguments: Any) -> list[tuple[str, str, Any]]:
    """Returns code, field and value of every violation."""
    return [(each.code, each.field, each.value) for each in check(payload, at=AT, **arguments)]


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (video("kling-v3", duration=2), [("duration_s_limit", "duration", 2)]),
        (video("kling-v3", duration=3), []),
        (video("kling-v3", duration=15), []),
        (video("kling-v3", duration=16), [("duration_s_limit", "duration", 16)]),
        (video("kling-v2.6", duration=6), [("duration_s_limit", "duration", 6)]),
        (video("kling-v2.6", resolution="4k"), [("resolution_limit", "resolution", "4k")]),
        (video("kling-video-o1", resolution="4K"), [("resolution_limit", "resolution", "4k")]),
        (video("kling-v3", resolution="480p"), [("resolution_limit", "resolution", "480p")]),
        (video("kling-v3", aspect_ratio="4:3"), [("aspect_ratio_limit", "aspect_ratio", "4:3")]),
        (video("kling-v3", prompt="x" * 2500), []),
        (video("kling-v3", prompt="猫" * 2500), []),
        (video("kling-v3", prompt="x" * 2501), [("prompt_chars_limit", "prompt", 2501)]),
        (video("kling-v3", prompt=""), [("prompt_chars_limit", "prompt", 0)]),
        (
            video("kling-v3", prompt=None),
            [("prompt_required", "prompt", None)],
        ),
        (video("kling-v3", action="dance"), [("action_limit", "action", "dance")]),
        (video("kling-v3", action="reference", image_urls=["a"]), [("action_limit", "action", "reference")]),
        (video("kling-v3", image_urls=["a", "b"]), [("action_limit", "image_urls", "reference")]),
        (video("kling-v2.6", audio=True), [("audio_resolution", "resolution", "720p")]),
        (video("kling-v2.6", audio=True, resolution="1080p"), []),
        (
            video("kling-v2.6", audio=True, resolution="1080p", first_frame_image="a", last_frame_image="b"),
            [("audio_last_frame", "audio", True)],
        ),
        (video("kling-v2.6", resolution="1080p", first_frame_image="a", last_frame_image="b"), []),
        (video("kling-v3-omni", audio=True, video_list=VIDEO), [("audio_video_reference", "audio", True)]),
        (video("kling-v3-omni", audio=True, video_urls=["v"]), [("audio_video_reference", "audio", True)]),
        (video("kling-v3-omni", video_urls=["v", "w"]), [("videos_limit", "video_urls", 2)]),
        (video("kling-v3-omni", video_urls=["v"], video_list=VIDEO), [("videos_limit", "video_list", 2)]),
        (video("kling-video-o1", audio=False), [("field_not_taken", "audio", False)]),
        (video("kling-video-o1", watermark=True), [("field_not_taken", "watermark", True)]),
        (video("kling-v3-omni", first_frame_image="a"), [("field_not_taken", "first_frame_image", True)]),
        (
            video("kling-v3", video_list=VIDEO),
            [("field_not_taken", "video_list", 1)],
        ),
        (video("kling-v3", action="image2video"), [("image2video_image", "image_urls", 0)]),
        (
            video("kling-v3", action="image2video", image_urls=["a"], first_frame_image="b"),
            [("image2video_image", "image_urls", 2)],
        ),
        (
            video("kling-v3", action="first_last_frame", first_frame_image="a"),
            [("first_last_frame_frames", "last_frame_image", False)],
        ),
        (video("kling-v3", last_frame_image="b"), [("first_last_frame_frames", "first_frame_image", False)]),
        (
            video("kling-v3", first_frame_image="a", last_frame_image="b", image_urls=["c"]),
            [("first_last_frame_images", "image_urls", 1)],
        ),
        (video("kling-v3-omni", action="reference"), [("reference_images", "image_urls", 0)]),
        (video("kling-v3-omni", action="reference_video"), [("reference_video_video", "video_urls", 0)]),
        (
            video("kling-v3-omni", action="reference", image_urls=["a"], video_urls=["v"]),
            [("video_action", "action", "reference")],
        ),
        (
            video("kling-video-o1", action="reference", image_urls=["a"], first_frame_image="b"),
            [("first_frame_action", "action", "reference")],
        ),
        (
            video("kling-video-o1", action="image2video", first_frame_image="a", last_frame_image="b"),
            [("last_frame_action", "action", "image2video")],
        ),
        (
            video("kling-v3-omni", prompt="<<<image_2>>>", image_urls=["a"]),
            [("dangling_image_marker", "prompt", 1)],
        ),
        (video("kling-v3-omni", prompt="<<<image_1>>><<<image_2>>>", image_urls=["a", "b"]), []),
        (
            video("kling-video-o1", prompt="<<<image_0>>>", image_urls=["a"]),
            [("dangling_image_marker", "prompt", 1)],
        ),
        (video("kling-v3", prompt="<<<image_1>>>"), []),
        (
            video("kling-v2.6", audio=True, duration=7, aspect_ratio="2:1"),
            [
                ("duration_s_limit", "duration", 7),
                ("aspect_ratio_limit", "aspect_ratio", "2:1"),
                ("audio_resolution", "resolution", "720p"),
            ],
        ),
    ],
)
def test_every_violation_is_found_and_nothing_else(
    payload: dict[str, Any], expected: list[tuple[str, str, Any]]
) -> None:
    """A request is checked against each rule, and every broken rule is reported with the wire field."""
    assert broken(payload) == expected


def test_a_violation_names_the_allowed_values_and_the_source() -> None:
    """The message alone is enough to correct the request."""
    (violation,) = check(video("kling-v2.6", audio=True), at=AT)
    assert violation.allowed == ["1080p"]
    assert violation.message == "resolution must be 1080p for kling-v2.6 when audio is true, not 720p"
    assert violation.source == "Kling series page, model list: 720P silent, 1080P with optional audio"
    (violation,) = check(video("kling-v3", duration=2), at=AT)
    assert violation.allowed == {"min": 3, "max": 15}
    assert violation.message == "duration must be 3 to 15 seconds for kling-v3, not 2"


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (
            video("kling-v3", prompt="x" * 2501),
            "prompt must be 1 to 2500 characters long for kling-v3, not 2501",
        ),
        (
            video("kling-v3-omni", video_urls=["v", "w"]),
            "video_urls must have at most 1 entry for kling-v3-omni, not 2",
        ),
    ],
)
def test_a_limit_names_its_unit(payload: dict[str, Any], message: str) -> None:
    """Texts are measured in characters and lists in entries."""
    assert [violation.message for violation in check(payload, at=AT)] == [message]


def test_a_rule_for_a_stated_value_does_not_repeat_the_field() -> None:
    """The rule applies only if the payload gives the field, which goes without saying."""
    payload = {"model": "Kling-2.6", "prompt": "a", "metadata": {"output_config": {"aspect_ratio": "4:3"}}}
    (violation,) = check(payload, wire_format="openai_videos", at=AT)
    assert violation.message == (
        "metadata.output_config.aspect_ratio must be 16:9, 9:16 or 1:1 for Kling-2.6, not 4:3"
    )


def test_a_violation_of_an_implied_action_names_the_input_that_implied_it() -> None:
    """The caller never wrote `reference`, so the message names the input that implies it."""
    (violation,) = check(video("kling-v3", image_urls=["a", "b"]), at=AT)
    assert violation.message == (
        "because of image_urls, this is a reference request; "
        "action must be generate, image2video or first_last_frame for kling-v3, not reference"
    )


@pytest.mark.parametrize("field", ["image_urls", "first_frame_image"])
def test_a_note_names_the_field_that_implied_the_action(field: str) -> None:
    """A first frame implies the same action as an image, and the note names the field of the payload."""
    quoted = quote(video("kling-v3", **{field: ["a"] if field == "image_urls" else "a"}), at=AT)
    assert [note.message for note in quoted.notes if note.code == "implied_action"] == [
        f"because of {field}, this is an image2video request"
    ]


@pytest.mark.parametrize(
    ("payload", "code", "noted"),
    [
        (video("kling-v3-omni", image_urls=list("abcd")), "many_references", False),
        (video("kling-v3-omni", image_urls=list("abcde")), "many_references", True),
        (video("kling-v3", prompt="<<<image_1>>>"), "image_markers_literal", True),
        (video("kling-v3-omni", prompt="<<<image_1>>>", image_urls=["a"]), "image_markers_literal", False),
        (video("kling-v3", aspect_ratio="9:16"), "aspect_ratio_ignored", False),
        (video("kling-v3", aspect_ratio="9:16", image_urls=["a"]), "aspect_ratio_ignored", True),
        (video("kling-v3", image_urls=["a"]), "aspect_ratio_ignored", False),
    ],
)
def test_a_warning_becomes_a_note(payload: dict[str, Any], code: str, noted: bool) -> None:  # noqa: FBT001
    """The note appears in the quote from the limit on, and the request is still valid."""
    assert check(payload, at=AT) == []
    assert (code in [note.code for note in quote(payload, at=AT).notes]) is noted


URL = "https://example.com/v.mp4"


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"size_bytes": 104857600, "type": "video/mp4", "length_s": 30}, []),
        ({"size_bytes": 104857601}, [("video_size_bytes_limit", "video_list[0].video_url", 104857601)]),
        ({"type": "video/webm"}, [("video_type_limit", "video_list[0].video_url", "webm")]),
        ({"type": "MOV"}, []),
        ({"type": "video/quicktime"}, []),
        ({"length_s": Decimal("1.99")}, [("video_length_s_limit", "video_list[0].video_url", Decimal("1.99"))]),
        ({"length_s": "2"}, []),
        ({"length_s": "30.01"}, [("video_length_s_limit", "video_list[0].video_url", Decimal("30.01"))]),
        (MediaFacts(length_s=Decimal(31)), [("video_length_s_limit", "video_list[0].video_url", Decimal(31))]),
    ],
)
def test_media_facts_are_checked_against_the_limits(facts: Any, expected: list[tuple[str, str, Any]]) -> None:
    """The facts that the caller passes are checked at both ends of each limit."""
    assert broken(video("kling-v3-omni", video_list=VIDEO), media={URL: facts}) == expected


def test_each_image_is_checked_against_the_limits_of_images() -> None:
    """The violation names the image that is too large or has another type, and gives sizes in MB."""
    payload = video("kling-v3-omni", image_urls=["a", "b", "c"])
    media: dict[str, dict[str, Any]] = {
        "a": {"size_bytes": 31457280, "type": "image/jpg"},
        "b": {"size_bytes": 31457281, "type": ".PNG"},
        "c": {"type": "gif"},
    }
    assert broken(payload, media=media) == [
        ("image_size_bytes_limit", "image_urls[1]", 31457281),
        ("image_type_limit", "image_urls[2]", "gif"),
    ]
    media["b"]["size_bytes"] = 31 << 20
    assert [violation.message for violation in check(payload, media=media, at=AT)] == [
        "image_urls[1]: size must be at most 30 MB, not 31 MB",
        "image_urls[2]: type must be jpeg, png or webp, not gif",
    ]


@pytest.mark.parametrize(
    ("length", "message"),
    [
        (1, "video_list[0].video_url: length must be 2 to 30 seconds, not 1 second"),
        ("30.5", "video_list[0].video_url: length must be 2 to 30 seconds, not 30.5 seconds"),
    ],
)
def test_the_length_of_a_video_is_reported_in_seconds(length: Any, message: str) -> None:
    """The message gives the limit and the length with their unit."""
    payload = video("kling-v3-omni", video_list=VIDEO)
    assert [each.message for each in check(payload, media={URL: {"length_s": length}}, at=AT)] == [message]


def test_unknown_facts_about_a_file_become_one_note() -> None:
    """The note names the file, the facts that are unknown, and their limits."""
    quoted = quote(video("kling-v3-omni", video_list=VIDEO), media={URL: {"type": "mp4"}}, at=AT)
    (note,) = [note for note in quoted.notes if note.code == "video_not_checked"]
    assert note.message == (
        "video_list[0].video_url: size and length are unknown, so the limits (100 MB; 2 to 30 seconds) are "
        "not checked; pass the size and length with `media`"
    )


def test_files_with_the_same_unknown_facts_share_a_note() -> None:
    """The note lists every such file once."""
    payload = video("kling-v3-omni", image_urls=["a", "b", "c"])
    known = {"size_bytes": 1, "type": "png"}
    several = "size and type are unknown, so the limits (30 MB; jpeg, png or webp) are not checked; "
    remedy = "pass the size and type with `media`"
    quoted = quote(payload, media={"b": known, "c": {"type": "png"}}, at=AT)
    assert [note.message for note in quoted.notes if note.code == "image_not_checked"] == [
        f"image_urls[0]: {several}{remedy}",
        "image_urls[2]: size is unknown, so the limit (30 MB) is not checked; pass the size with `media`",
    ]
    quoted = quote(payload, media={"b": known}, at=AT)
    assert [note.message for note in quoted.notes if note.code == "image_not_checked"] == [
        f"image_urls[0], image_urls[2]: {several}{remedy}"
    ]


def test_a_rule_that_needs_an_unknown_fact_becomes_a_note() -> None:
    """The note names the input and repeats the rule."""
    payload = {
        "model_name": "kling-v2-6",
        "image_url": "a",
        "video_url": "v",
        "character_orientation": "video",
        "mode": "std",
    }
    (note,) = [note for note in quote(payload, at=AT).notes if note.code == "not_checked"]
    assert note.message == (
        "some facts about video_url are unknown, so this rule was not checked: "
        "with character_orientation video, the reference video must be 3 to 30 seconds long"
    )


@pytest.mark.parametrize(
    ("facts", "remedy"),
    [
        ({"length_s": 5.04}, "a float is already rounded"),
        ({"length_s": "soon"}, "must be a number of seconds"),
        ({"length_s": "NaN"}, "must be a number of seconds"),
        ({"length_s": -1}, "must be a number of seconds"),
        ({"length_s": True}, "must be a number of seconds"),
        ({"size_bytes": "5"}, "whole number of bytes"),
        ({"size_bytes": -5}, "whole number of bytes"),
        ({"type": 5}, "must be a file type"),
        ({"seconds": 5}, "use one of: size_bytes, type, length_s"),
        (5, "must be a mapping"),
    ],
)
def test_media_facts_that_cannot_be_read_are_refused(facts: Any, remedy: str) -> None:
    """A fact that cannot be read is an error; it is never treated as unknown."""
    with pytest.raises(KlingPricingError, match=remedy):
        check(video("kling-v3-omni", video_list=VIDEO), media={URL: facts}, at=AT)


def test_violations_returns_the_same_as_check(book: PriceBook) -> None:
    """The stage's own function and the public one agree."""
    payload = video("kling-v2.6", audio=True, duration=7)
    request, matrix = Intake(book=book).read(payload)
    assert violations(matrix, request) == check(payload, at=AT)


def test_media_facts_are_read_alike_from_an_object_and_a_mapping() -> None:
    """`MediaFacts` normalizes types and refuses the same values as a mapping."""
    assert MediaFacts(type="video/quicktime") == MediaFacts(type="MOV")
    with pytest.raises(KlingPricingError, match="already rounded"):
        MediaFacts(length_s=31.5)  # type: ignore[arg-type]
