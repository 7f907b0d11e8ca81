"""What the API accepts: every rule below, at and above its edge, with code, field, value and source."""

from decimal import Decimal
from typing import Any

import pytest

from kling_pricing import KlingPricingError, MediaFacts, PriceBook, check, quote
from kling_pricing.quoting.intake import Intake
from kling_pricing.tables.capabilities import violations
from tests.conftest import AT, video

VIDEO = [{"video_url": "https://example.com/v.mp4"}]


def found(payload: dict[str, Any], **arguments: Any) -> list[tuple[str, str, Any]]:
    """Code, field and value of every violation."""
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
    """A request is held against each rule, and all that it breaks are reported with the wire's own field."""
    assert found(payload) == expected


def test_a_violation_says_what_is_allowed_and_where_that_was_published() -> None:
    """Its message alone is enough to mend the request."""
    (violation,) = check(video("kling-v2.6", audio=True), at=AT)
    assert violation.allowed == ["1080p"]
    assert violation.message == "resolution must be 1080p for kling-v2.6 when audio is true, not 720p"
    assert violation.source == "Kling series page, model list: 720P silent, 1080P with optional audio"
    (violation,) = check(video("kling-v3", duration=2), at=AT)
    assert violation.allowed == {"min": 3, "max": 15}


def test_a_violation_of_an_implied_action_names_the_input_that_implied_it() -> None:
    """The caller never wrote `reference`, so the message says where it comes from."""
    (violation,) = check(video("kling-v3", image_urls=["a", "b"]), at=AT)
    assert violation.message == (
        "image_urls makes this a reference request; "
        "action must be generate, image2video or first_last_frame for kling-v3, not reference"
    )


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
    """It appears in the quote, at its edge and not before, and stops nothing."""
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
def test_media_facts_are_held_against_the_limits(facts: Any, expected: list[tuple[str, str, Any]]) -> None:
    """What the caller knows of a file is checked, at both ends of each limit."""
    assert found(video("kling-v3-omni", video_list=VIDEO), media={URL: facts}) == expected


def test_each_image_is_held_against_the_limits_of_images() -> None:
    """The violation names the one that is too large or of another type."""
    payload = video("kling-v3-omni", image_urls=["a", "b", "c"])
    media = {
        "a": {"size_bytes": 31457280, "type": "image/jpg"},
        "b": {"size_bytes": 31457281, "type": ".PNG"},
        "c": {"type": "gif"},
    }
    assert found(payload, media=media) == [
        ("image_size_bytes_limit", "image_urls[1]", 31457281),
        ("image_type_limit", "image_urls[2]", "gif"),
    ]


def test_what_is_not_known_of_a_file_becomes_one_note() -> None:
    """The limits that could not be checked are named, with the file."""
    quoted = quote(video("kling-v3-omni", video_list=VIDEO), media={URL: {"type": "mp4"}}, at=AT)
    (note,) = [note for note in quoted.notes if note.code == "video_not_checked"]
    assert note.message == (
        "not known and so not checked of video_list[0].video_url: "
        "size_bytes (at most 104857600), length_s (2 to 30)"
    )


@pytest.mark.parametrize(
    ("facts", "remedy"),
    [
        ({"length_s": 5.04}, "a float is already rounded"),
        ({"length_s": "soon"}, "must be seconds"),
        ({"length_s": "NaN"}, "must be seconds"),
        ({"length_s": -1}, "must be seconds"),
        ({"length_s": True}, "must be seconds"),
        ({"size_bytes": "5"}, "whole number of bytes"),
        ({"size_bytes": -5}, "whole number of bytes"),
        ({"type": 5}, "must be a file type"),
        ({"seconds": 5}, "known here: size_bytes, type, length_s"),
        (5, "must be a mapping"),
    ],
)
def test_media_facts_that_cannot_be_read_are_refused(facts: Any, remedy: str) -> None:
    """A fact that was given and not understood is not treated as unknown."""
    with pytest.raises(KlingPricingError, match=remedy):
        check(video("kling-v3-omni", video_list=VIDEO), media={URL: facts}, at=AT)


def test_violations_of_a_request_that_was_read_are_those_of_check(book: PriceBook) -> None:
    """The room's own function and the public one agree."""
    payload = video("kling-v2.6", audio=True, duration=7)
    request, matrix = Intake(book=book).read(payload)
    assert violations(matrix, request) == check(payload, at=AT)


def test_media_facts_are_read_the_same_as_an_object_and_as_a_mapping() -> None:
    """`MediaFacts` spells types the one way, and refuses what a mapping would be refused for."""
    assert MediaFacts(type="video/quicktime") == MediaFacts(type="MOV")
    with pytest.raises(KlingPricingError, match="already rounded"):
        MediaFacts(length_s=31.5)  # type: ignore[arg-type]
