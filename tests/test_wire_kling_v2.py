"""Wire format `kling_v2`: reading payloads, the rules of the API, and the prices of the official list."""

import copy
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kling_pricing import (
    Budget,
    BudgetGuard,
    CapabilityError,
    IdempotencyError,
    PriceBook,
    PriceNotFoundError,
    WireFormatError,
    check,
    quote,
)
from kling_pricing.wire.formats.kling_v2 import FIELD_NAMES, FIELDS, amend, parse, read_task
from kling_pricing.wire.task import Task
from tests.charges import charge
from tests.conftest import AT

EXAMPLES = Path(__file__).parent.parent / "examples" / "requests" / "kling_v2"
HOST = "https://api-singapore.klingai.com"
UNIT = Decimal("0.14")

PROMPT = {"type": "prompt", "text": "a paper boat"}
FIRST = {"type": "first_frame", "url": "a"}
LAST = {"type": "last_frame", "url": "b"}
IMAGE = {"type": "refer_image", "url": "c"}
FEATURE = {"type": "feature_video", "url": "v"}
BASE = {"type": "base_video", "url": "v"}
VOICE = {"type": "voice", "voice_id": "7", "id": "anna"}
CHARACTER = {"type": "image", "url": "i"}
MOVEMENT = {"type": "video", "url": "v"}

TURBO, V3, OMNI, O1, V26, V25 = (
    "kling-3.0-turbo",
    "kling-3.0",
    "kling-3.0-omni",
    "kling-o1",
    "kling-2.6",
    "kling-2.5-turbo",
)


def element(name: str = "zhang") -> dict[str, Any]:
    """Returns an element of this name."""
    return {"type": "element", "element_id": "829836802793406551", "id": name}


def elements(count: int) -> list[dict[str, Any]]:
    """Returns elements with different ids."""
    return [element(f"e{number}") for number in range(count)]


def text(**settings: Any) -> dict[str, Any]:
    """Returns a payload of text-to-video."""
    return {"prompt": "a paper boat", "settings": settings}


def made(*materials: dict[str, Any], **settings: Any) -> dict[str, Any]:
    """Returns a payload with a prompt and these materials."""
    return {"contents": [PROMPT, *materials], "settings": settings}


def motion(orientation: str | None = "video", *materials: dict[str, Any], **settings: Any) -> dict[str, Any]:
    """Returns a payload of motion control."""
    own = {} if orientation is None else {"character_orientation": orientation}
    return {"contents": [CHARACTER, MOVEMENT, *materials], "settings": own | settings}


def url(path: str) -> str:
    """Returns the URL of a path such as `text-to-video/kling-3.0`."""
    return f"{HOST}/{path}"


def codes(path: str, payload: dict[str, Any], **arguments: Any) -> list[str]:
    """Returns the code of every violation."""
    return [violation.code for violation in check(payload, url=url(path), **{"at": AT, **arguments})]


def test_every_documented_field_is_read() -> None:
    """Each documented field becomes facts whose names do not depend on the API."""
    payload = {
        "prompt": "like this",
        "contents": [
            FIRST,
            LAST,
            {**IMAGE, "id": "hat"},
            {**IMAGE, "id": ""},
            {**FEATURE, "id": "clip"},
            element(),
            VOICE,
            CHARACTER,
            MOVEMENT,
        ],
        "settings": {
            "resolution": "4k",
            "duration": 7,
            "audio": "native",
            "aspect_ratio": "1:1",
            "multi_shot": False,
            "character_orientation": "image",
        },
        "options": {
            "callback_url": "https://example.com/hook",
            "external_task_id": "t",
            "watermark_info": {"enabled": True},
        },
    }
    parsed = parse(payload)
    assert parsed.facts == {
        "prompt_chars": 9,
        "top_level_prompt": True,
        "resolution": "4k",
        "duration_s": 7,
        "audio": True,
        "aspect_ratio": "1:1",
        "aspect_ratio_stated": True,
        "multi_shot": False,
        "orientation": "image",
        "watermark": True,
        "first_frame": True,
        "last_frame": True,
        "images": 2,
        "start_images": 3,
        "references": 5,
        "videos": 1,
        "video_use": "feature",
        "elements": 1,
        "voices": 1,
        "motion_image": True,
        "motion_video": True,
    }
    assert parsed.open == {"voice_control": (False, True)}
    assert parsed.fields == {
        "prompt": "prompt",
        "resolution": "settings.resolution",
        "duration_s": "settings.duration",
        "audio": "settings.audio",
        "aspect_ratio": "settings.aspect_ratio",
        "multi_shot": "settings.multi_shot",
        "orientation": "settings.character_orientation",
        "callback_url": "options.callback_url",
        "external_task_id": "options.external_task_id",
        "watermark": "options.watermark_info",
        "first_frame": "contents[0]",
        "last_frame": "contents[1]",
        "images": "contents[2]",
        "videos": "contents[4]",
        "elements": "contents[5]",
        "voices": "contents[6]",
        "motion_image": "contents[7]",
        "motion_video": "contents[8]",
    }
    assert parsed.fields.keys() | {"shots"} == FIELD_NAMES.keys()
    assert [(medium.kind, medium.field) for medium in parsed.media] == [
        ("image", "contents[0].url"),
        ("image", "contents[1].url"),
        ("image", "contents[2].url"),
        ("image", "contents[3].url"),
        ("video", "contents[4].url"),
        ("image", "contents[7].url"),
        ("video", "contents[8].url"),
    ]


def test_a_prompt_in_contents_is_read() -> None:
    """It gives the same facts as a prompt of its own, except for its place."""
    assert parse({"contents": [PROMPT]}).facts == {"prompt_chars": 12, "contents_prompt": True}
    assert parse({"prompt": "a paper boat"}).facts == {"prompt_chars": 12, "top_level_prompt": True}
    assert parse({"contents": [PROMPT]}).fields == {"prompt": "contents[0].text"}


@pytest.mark.parametrize("empty", ["", [], {}, None])
@pytest.mark.parametrize("field", list(FIELDS))
def test_an_empty_field_counts_as_left_out(field: str, empty: Any) -> None:
    """Empty text, lists and objects give no facts."""
    payload = {"prompt": "a", "contents": [FIRST], "settings": {"duration": 5}, "options": {"callback_url": ""}}
    assert parse({**payload, field: empty}) == parse(
        {name: value for name, value in payload.items() if name != field}
    )
    assert parse({"settings": {"audio": "", "aspect_ratio": ""}}).facts == {}


@pytest.mark.parametrize(
    ("payload", "field", "remedy"),
    [
        ({"promt": "a"}, "promt", "did you mean 'prompt'?"),
        ({"prompt": 5}, "prompt", "must be text, got 5"),
        ({"settings": {"duration": "5"}}, "settings.duration", "must be a whole number, got '5'"),
        ({"settings": {"duration": 5.0}}, "settings.duration", "must be a whole number"),
        ({"settings": {"mode": "pro"}}, "mode", "unknown field 'settings.mode'"),
        ({"settings": {"resolution": "1080P"}}, "settings.resolution", "must be 720p, 1080p or 4k"),
        ({"settings": {"audio": "on"}}, "settings.audio", "must be native, original or off, got 'on'"),
        ({"settings": {"audio": True}}, "settings.audio", "must be text"),
        ({"settings": {"multi_shot": "true"}}, "settings.multi_shot", "must be true or false"),
        ({"settings": {"character_orientation": "left"}}, "settings.character_orientation", "image or video"),
        ({"settings": ["5"]}, "settings", "must be an object"),
        ({"options": {"watermark_info": {"on": True}}}, "options.watermark_info.on", "use one of: enabled"),
        ({"contents": {"type": "prompt"}}, "contents", "must be a list"),
        ({"contents": ["a"]}, "contents[0]", "must be an object"),
        ({"contents": [{}]}, "contents[0].type", "is required; add it"),
        ({"contents": [{"type": "photo", "url": "a"}]}, "contents[0].type", "must be prompt, first_frame"),
        ({"contents": [{"type": ["prompt"]}]}, "contents[0].type", "must be prompt, first_frame"),
        ({"contents": [{"type": "prompt"}]}, "contents[0].text", "is required; add it"),
        ({"contents": [{"type": "first_frame"}]}, "contents[0].url", "is required; add it"),
        ({"contents": [{"type": "first_frame", "url": ""}]}, "contents[0].url", "is required; add it"),
        ({"contents": [{**FIRST, "text": "a"}]}, "contents[0].text", "unknown field"),
        (
            {"contents": [{**FIRST, "url": "data:image/png;base64,AA"}]},
            "contents[0].url",
            "without a data: prefix",
        ),
        ({"contents": [{"type": "element", "element_id": "1"}]}, "contents[0].id", "is required; add it"),
        ({"contents": [{"type": "element", "id": "1"}]}, "contents[0].element_id", "is required; add it"),
        ({"contents": [{"type": "voice", "id": "1"}]}, "contents[0].voice_id", "is required; add it"),
        ({"contents": [PROMPT, PROMPT]}, "contents[1].type", "must be different from every other entry"),
        ({"contents": [FIRST, FIRST]}, "contents[1].type", "must be different from every other entry"),
        (
            {"contents": [element("a"), element("a")]},
            "contents[1].id",
            "must be different from every other entry",
        ),
    ],
)
def test_an_invalid_field_is_refused_by_name(payload: dict[str, Any], field: str, remedy: str) -> None:
    """A misspelt field or a value of another type never becomes a default."""
    with pytest.raises(WireFormatError) as caught:
        parse(payload)
    (violation,) = caught.value.violations
    assert caught.value.wire_format == "kling_v2"
    assert violation.field.removeprefix("settings.") == field.removeprefix("settings.")
    assert remedy in violation.message


@pytest.mark.parametrize(
    ("prompt", "lengths", "longest", "misnumbered"),
    [
        ("shot 1, 2, a boat; shot 2, 3, rain;", [2, 3], 6, 0),
        ("shot 1, 2, a boat; shot 2, 3, rain", [2, 3], 6, 0),
        ("  Shot 1,2,a boat;\nSHOT 3 , 3, rain ; ", [2, 3], 6, 1),
        ("shot 1, 5, one, two, three;", [5], 15, 0),
        ("a boat; shot 1, 2, rain;", [], 0, 0),
        ("shot 1, 2, a boat; and then rain", [], 0, 0),
        ("shot one, 2, a boat;", [], 0, 0),
        ("a long shot, 2, a boat;", [], 0, 0),
    ],
)
def test_several_shots_are_read_from_the_prompt(
    prompt: str, lengths: list[int], longest: int, misnumbered: int
) -> None:
    """All of the prompt must be of the documented form, and `multi_shot: false` turns the form off."""
    shots = {
        "shots": len(lengths),
        "shots_length_s": sum(lengths),
        "shortest_shot_s": min(lengths, default=0),
        "longest_shot_chars": longest,
        "misnumbered_shots": misnumbered,
    }
    plain = {"prompt_chars": len(prompt), "top_level_prompt": True}
    assert parse({"prompt": prompt}).facts == plain | (shots if lengths else {})
    off = parse({"prompt": prompt, "settings": {"multi_shot": False}}).facts
    assert off == plain | {"multi_shot": False}


def test_an_amend_keeps_the_callers_order_and_spelling() -> None:
    """The settings stay where they are, and a new setting comes last."""
    payload = {"settings": {"audio": "original", "duration": 5}, "prompt": "紙の船", "seed": None}
    before = copy.deepcopy(payload)
    assert json.dumps(amend(payload, {})) == json.dumps(payload)
    changed = amend(payload, {"duration_s": 10, "resolution": "1080p", "audio": False})
    assert list(changed.items()) == [
        ("settings", {"audio": "original", "duration": 10, "resolution": "1080p"}),
        ("prompt", "紙の船"),
        ("seed", None),
    ]
    assert amend({"prompt": "a"}, {"audio": True}) == {"prompt": "a", "settings": {"audio": "native"}}
    assert amend(changed, {"audio": True})["settings"]["audio"] == "native"
    assert payload == before
    with pytest.raises(WireFormatError, match=r"^the path of the URL names the model; post the request to"):
        amend(payload, {"model": "kling-3.0"})
    with pytest.raises(WireFormatError, match=r"^a multi-shot video is as long as all its shots"):
        amend({"prompt": "shot 1, 5, a;"}, {"duration_s": 10})


payloads = st.fixed_dictionaries(
    {},
    optional={
        "prompt": st.sampled_from(["a boat", "shot 1, 2, a; shot 2, 3, b;"]),
        "contents": st.lists(st.sampled_from([IMAGE, FEATURE, BASE]), max_size=3),
        "settings": st.fixed_dictionaries(
            {},
            optional={
                "resolution": st.sampled_from(["720p", "1080p", "4k", "", None]),
                "duration": st.integers(0, 16),
                "audio": st.sampled_from(["native", "off"]),
                "multi_shot": st.booleans(),
            },
        ),
    },
)
changes = st.fixed_dictionaries(
    {},
    optional={
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
    if parse(payload).facts.get("shots") and "duration_s" in change:
        with pytest.raises(WireFormatError, match="as long as all its shots"):
            amend(payload, change)
        return
    assert parse(amend(payload, change)).facts == parse(payload).facts | change
    assert payload == before


# Path, a payload, the canonical model, and the defaults of resolution, seconds and sound (pages of 2026-09-20).
ENDPOINTS = [
    ("text-to-video/kling-3.0-turbo", text(), "kling-3.0-turbo", "generate", True),
    ("image-to-video/kling-3.0-turbo", made(FIRST), "kling-3.0-turbo", "image2video", True),
    ("text-to-video/kling-3.0", text(), "kling-v3", "generate", False),
    ("image-to-video/kling-3.0", made(FIRST), "kling-v3", "image2video", False),
    ("image-to-video/kling-3.0", made(FIRST, LAST), "kling-v3", "first_last_frame", False),
    ("omni-video/kling-3.0-omni", made(), "kling-v3-omni", "generate", False),
    ("omni-video/kling-3.0-omni", made(FEATURE), "kling-v3-omni", "reference_video", False),
    ("omni-video/kling-o1", made(), "kling-video-o1", "generate", False),
    ("omni-video/kling-o1", made(IMAGE), "kling-video-o1", "reference", False),
    ("text-to-video/kling-2.6", text(), "kling-v2-6", "generate", False),
    ("image-to-video/kling-2.6", made(FIRST), "kling-v2-6", "image2video", False),
    ("text-to-video/kling-2.5-turbo", text(), "kling-v2-5-turbo", "generate", False),
    ("image-to-video/kling-2.5-turbo", made(FIRST), "kling-v2-5-turbo", "image2video", False),
]


@pytest.mark.parametrize(("path", "payload", "model", "action", "audio"), ENDPOINTS)
def test_the_path_names_the_model_and_empty_settings_are_defaults(
    path: str,
    payload: dict[str, Any],
    model: str,
    action: str,
    audio: bool,  # noqa: FBT001
) -> None:
    """An empty `settings` is 720p and 5 s, silent except on 3.0 turbo; any host and prefix will do."""
    for prefix in (HOST, "https://api.klingai.com", "https://gateway.example.com/kling"):
        for end in ("", "/"):
            quoted = quote(payload, url=f"{prefix}/{path}{end}", at=AT)
            facts = quoted.request.facts
            assert (quoted.wire_format, quoted.canonical_model, quoted.action) == ("kling_v2", model, action)
            assert (quoted.model, quoted.resolution) == (path.rpartition("/")[2], "720p")
            assert (facts["duration_s"], facts["audio"]) == (5, audio)
            assert "assumed_model" not in [note.code for note in quoted.notes]


@pytest.mark.parametrize(
    ("payload", "wire_format"), [(text(duration=8), None), (made(FIRST), None), ({"prompt": "a"}, "kling_v2")]
)
def test_without_a_url_the_error_asks_for_it(payload: dict[str, Any], wire_format: str | None) -> None:
    """`settings` and `contents` identify the format, and the error lists the paths."""
    with pytest.raises(CapabilityError, match="this API takes the model from the path of the URL") as caught:
        quote(payload, wire_format=wire_format, at=AT)
    (violation,) = caught.value.violations
    assert (violation.code, violation.field) == ("model_required", "url")
    assert violation.allowed[:2] == ["/text-to-video/kling-3.0-turbo", "/image-to-video/kling-3.0-turbo"]
    assert len(violation.allowed) == 12
    with pytest.raises(CapabilityError, match="takes the model from the path"):
        quote(payload, url=url("omni-video/kling-9"), wire_format="kling_v2", at=AT)


# The official list as of 2026-09-20: path, payload of the tier, resolution, tier, units.
PRICES = [
    ("text-to-video/kling-3.0-turbo", text(), "720p", "audio", "0.8"),
    ("text-to-video/kling-3.0-turbo", text(), "1080p", "audio", "1.0"),
    ("image-to-video/kling-3.0-turbo", made(FIRST), "1080p", "audio", "1.0"),
    ("text-to-video/kling-3.0", text(), "720p", "silent", "0.6"),
    ("text-to-video/kling-3.0", text(), "1080p", "silent", "0.8"),
    ("text-to-video/kling-3.0", text(), "4k", "silent", "3.0"),
    ("image-to-video/kling-3.0", made(FIRST, LAST, audio="native"), "720p", "audio", "0.9"),
    ("image-to-video/kling-3.0", made(FIRST, element(), audio="native"), "1080p", "audio", "1.2"),
    ("text-to-video/kling-3.0", text(audio="native"), "4k", "audio", "3.0"),
    ("motion-control/kling-3.0", motion(), "720p", "motion_control", "0.9"),
    ("motion-control/kling-3.0", motion(audio="original"), "1080p", "motion_control", "1.2"),
    ("omni-video/kling-3.0-omni", made(), "720p", "silent", "0.6"),
    ("omni-video/kling-3.0-omni", made(IMAGE), "1080p", "silent", "0.8"),
    ("omni-video/kling-3.0-omni", made(FIRST), "4k", "silent", "3.0"),
    ("omni-video/kling-3.0-omni", made(audio="native"), "720p", "audio", "0.8"),
    ("omni-video/kling-3.0-omni", made(IMAGE, audio="native"), "1080p", "audio", "1.0"),
    ("omni-video/kling-3.0-omni", made(audio="native"), "4k", "audio", "3.0"),
    ("omni-video/kling-3.0-omni", made(FEATURE), "720p", "video_reference", "0.9"),
    ("omni-video/kling-3.0-omni", made(BASE, audio="original"), "1080p", "video_reference", "1.2"),
    ("omni-video/kling-3.0-omni", made(BASE), "4k", "video_reference", "3.0"),
    ("omni-video/kling-o1", made(), "720p", "silent", "0.6"),
    ("omni-video/kling-o1", made(IMAGE), "1080p", "silent", "0.8"),
    ("omni-video/kling-o1", made(BASE, audio="original"), "720p", "video_reference", "0.9"),
    ("omni-video/kling-o1", made(FEATURE), "1080p", "video_reference", "1.2"),
    ("text-to-video/kling-2.6", text(), "720p", "silent", "0.3"),
    ("image-to-video/kling-2.6", made(FIRST), "1080p", "silent", "0.5"),
    ("text-to-video/kling-2.6", text(audio="native"), "1080p", "audio", "1.0"),
    ("motion-control/kling-2.6", motion(), "720p", "motion_control", "0.5"),
    ("motion-control/kling-2.6", motion(audio="off"), "1080p", "motion_control", "0.8"),
    ("text-to-video/kling-2.5-turbo", text(), "720p", "silent", "0.3"),
    ("image-to-video/kling-2.5-turbo", made(FIRST, LAST), "1080p", "silent", "0.5"),
]


@pytest.mark.parametrize(("path", "payload", "resolution", "tier", "units"), PRICES)
def test_every_price_per_second_is_exact(
    path: str, payload: dict[str, Any], resolution: str, tier: str, units: str
) -> None:
    """The total is the published units x 0.14 USD x seconds; edits and motion control count their video's."""
    for seconds in (5, 10):
        settings = {**payload["settings"], "resolution": resolution}
        if tier != "motion_control":
            settings["duration"] = seconds
        quoted = quote(
            {**payload, "settings": settings}, url=url(path), media={"v": {"length_s": seconds}}, at=AT
        )
        assert quoted.total == Decimal(units) * UNIT * seconds
        assert (quoted.tier, quoted.resolution, quoted.unit) == (tier, resolution, "second")
        assert (quoted.provider, quoted.table.id, quoted.currency) == ("kling", "kling/2026-09-20", "USD")


def test_the_price_of_a_cited_voice_is_exact_and_an_uncited_one_gives_a_range() -> None:
    """The pages do not say whether a voice is billed that the prompt does not cite."""
    said = {"type": "prompt", "text": "@anna says hello"}
    path = url("image-to-video/kling-2.6")
    settings = {"audio": "native", "resolution": "1080p", "duration": 10}
    cited = quote({"contents": [said, FIRST, VOICE], "settings": settings}, url=path, at=AT)
    assert (cited.tier, cited.total) == ("audio_voice_control", Decimal("1.68"))  # 10 x 1.2 units
    uncited = quote({"contents": [PROMPT, FIRST, VOICE], "settings": settings}, url=path, at=AT)
    assert (uncited.minimum, uncited.maximum) == (Decimal("1.4"), Decimal("1.68"))
    without = quote({"contents": [said, FIRST], "settings": settings}, url=path, at=AT)
    assert (without.tier, without.total) == ("audio", Decimal("1.4"))


SIX = "shot 1, 1, a; shot 2, 1, a; shot 3, 1, a; shot 4, 1, a; shot 5, 1, a; shot 6, 1, a;"
TEXT, PICTURE, MOTION = "text-to-video", "image-to-video", "motion-control"
OMNI_PATH, O1_PATH = "omni-video/kling-3.0-omni", "omni-video/kling-o1"


@pytest.mark.parametrize(
    ("path", "payload", "expected"),
    [
        *((f"{TEXT}/{model}", text(duration=2), ["duration_s_limit"]) for model in (TURBO, V3)),
        *((f"{TEXT}/{model}", text(duration=3), []) for model in (TURBO, V3)),
        *((f"{TEXT}/{model}", text(duration=15), []) for model in (TURBO, V3)),
        *((f"{TEXT}/{model}", text(duration=16), ["duration_s_limit"]) for model in (TURBO, V3)),
        *((f"{TEXT}/{model}", text(duration=6), ["duration_s_limit"]) for model in (V26, V25)),
        *((f"{TEXT}/{model}", text(duration=10), []) for model in (V26, V25)),
        (OMNI_PATH, made(duration=15), []),
        (OMNI_PATH, made(duration=16), ["duration_s_limit"]),
        (O1_PATH, made(duration=10), []),
        (O1_PATH, made(duration=11), ["duration_s_limit"]),
        *((f"{TEXT}/{model}", text(resolution="4k"), ["resolution_limit"]) for model in (TURBO, V26, V25)),
        (O1_PATH, made(resolution="4k"), ["resolution_limit"]),
        (f"{TEXT}/{V3}", text(resolution="4k"), []),
        # prompts
        (f"{TEXT}/{TURBO}", {"prompt": "x" * 3072}, []),
        (f"{TEXT}/{TURBO}", {"prompt": "x" * 3073}, ["prompt_chars_limit"]),
        (f"{PICTURE}/{TURBO}", {"contents": [{"type": "prompt", "text": "x" * 2500}, FIRST]}, []),
        (
            f"{PICTURE}/{TURBO}",
            {"contents": [{"type": "prompt", "text": "x" * 2501}, FIRST]},
            ["image_prompt_chars"],
        ),
        (f"{PICTURE}/{V3}", {"contents": [{"type": "prompt", "text": "x" * 3072}, FIRST]}, []),
        (OMNI_PATH, {"contents": [{"type": "prompt", "text": "x" * 3073}]}, ["prompt_chars_limit"]),
        (O1_PATH, {"contents": [{"type": "prompt", "text": "x" * 2501}]}, ["prompt_chars_limit"]),
        (f"{TEXT}/{V26}", {"prompt": "x" * 2501}, ["prompt_chars_limit"]),
        (f"{MOTION}/{V3}", motion("video", {"type": "prompt", "text": "x" * 2500}), []),
        (f"{MOTION}/{V3}", motion("video", {"type": "prompt", "text": "x" * 2501}), ["motion_control_prompt"]),
        (f"{TEXT}/{V3}", {"settings": {"duration": 5}}, ["prompt_required"]),
        (OMNI_PATH, {"contents": [IMAGE]}, ["prompt_required"]),
        (f"{TEXT}/{V3}", made(), ["text_prompt_place"]),
        (f"{PICTURE}/{V3}", {"prompt": "a", "contents": [FIRST]}, ["contents_prompt_place"]),
        (OMNI_PATH, text(), ["omni_prompt_place"]),
        (f"{MOTION}/{V3}", {**motion(), "prompt": "a"}, ["contents_prompt_place"]),
        # paths and inputs
        (f"{TEXT}/{V3}", {"prompt": "a", "contents": [FIRST]}, ["contents_prompt_place", "endpoint_action"]),
        (f"{PICTURE}/{V3}", {"contents": [PROMPT]}, ["text_prompt_place", "endpoint_action"]),
        (f"{PICTURE}/{TURBO}", made(FIRST, LAST), ["field_not_taken", "endpoint_action"]),
        (f"{PICTURE}/{V25}", made(FIRST, element()), ["field_not_taken"]),
        (f"{PICTURE}/{V3}", made(LAST), ["last_frame_first_frame"]),
        (f"{PICTURE}/{V3}", made(FIRST, VOICE), ["field_not_taken"]),
        (f"{PICTURE}/{V3}", made(FIRST, aspect_ratio="1:1"), ["aspect_ratio_path"]),
        (f"{TEXT}/{V3}", text(aspect_ratio="1:1"), []),
        (f"{TEXT}/{V3}", text(aspect_ratio="4:3"), ["aspect_ratio_values"]),
        (OMNI_PATH, made(FIRST, aspect_ratio="1:1"), []),
        (f"{TEXT}/{TURBO}", text(audio="native"), ["field_not_taken"]),
        (f"{TEXT}/{V25}", text(audio="off"), ["field_not_taken"]),
        (f"{TEXT}/{V3}", text(audio="original"), ["original_sound_motion"]),
        (f"{TEXT}/{TURBO}", text(multi_shot=True), ["field_not_taken"]),
        (O1_PATH, made(multi_shot=True), ["field_not_taken"]),
        (O1_PATH, made(audio="native"), ["no_native_audio"]),
        # frames, images and elements
        (f"{PICTURE}/{V3}", made(FIRST, *elements(3)), []),
        (f"{PICTURE}/{V3}", made(FIRST, *elements(4)), ["elements_limit", "frame_elements"]),
        (f"{PICTURE}/{V26}", made(FIRST, LAST), ["last_frame_resolution"]),
        (f"{PICTURE}/{V26}", made(FIRST, LAST, resolution="1080p"), []),
        (f"{PICTURE}/{V25}", made(FIRST, LAST), ["last_frame_resolution"]),
        (OMNI_PATH, made(*[IMAGE] * 7), []),
        (OMNI_PATH, made(*[IMAGE] * 5, *elements(3)), ["references_without_video"]),
        (OMNI_PATH, made(FEATURE, *[IMAGE] * 4), []),
        (OMNI_PATH, made(FEATURE, *[IMAGE] * 4, element()), ["references_with_video"]),
        (OMNI_PATH, made(FIRST, LAST, *elements(3)), []),
        (OMNI_PATH, made(FIRST, *elements(4)), ["frame_elements"]),
        (OMNI_PATH, made(LAST), ["last_frame_first_frame"]),
        (O1_PATH, made(FIRST, duration=6), ["duration_first_frame"]),
        (O1_PATH, made(FIRST, element(), duration=6), ["duration_first_frame"]),
        (O1_PATH, made(FIRST, IMAGE, duration=6), []),
        (O1_PATH, made(FIRST, LAST, duration=6), []),
        (O1_PATH, made(FIRST, LAST, IMAGE), ["last_frame_alone"]),
        (O1_PATH, made(FIRST, LAST, element()), ["last_frame_alone"]),
        (O1_PATH, made(FEATURE, FIRST), []),
        (O1_PATH, made(FEATURE, FIRST, LAST), ["feature_video_last_frame"]),
        # videos
        (OMNI_PATH, made(FEATURE, BASE), ["videos_limit"]),
        (OMNI_PATH, made(FEATURE, FEATURE), ["videos_limit"]),
        (OMNI_PATH, made(FEATURE, audio="native"), ["feature_video_audio"]),
        (OMNI_PATH, made(FEATURE, audio="original"), ["feature_video_audio"]),
        (OMNI_PATH, made(FEATURE, audio="off", multi_shot=True), []),
        (OMNI_PATH, made(FEATURE, multi_shot=False), []),
        (OMNI_PATH, made(BASE, audio="original"), []),
        (OMNI_PATH, made(BASE, audio="off"), []),
        (OMNI_PATH, made(BASE, audio="native"), ["base_video_audio"]),
        (OMNI_PATH, made(BASE, multi_shot=True), ["base_video_shots"]),
        (OMNI_PATH, made(BASE, multi_shot=False), []),
        (OMNI_PATH, made(BASE), []),
        (OMNI_PATH, made(BASE, FIRST), ["base_video_frames"]),
        # several shots
        (f"{TEXT}/{V3}", {"prompt": "shot 1, 2, a; shot 2, 3, b;"}, []),
        (f"{TEXT}/{TURBO}", {"prompt": "shot 1, 2, a; shot 2, 4, b;"}, ["shots_sum"]),
        (f"{TEXT}/{V3}", {"prompt": "shot 1, 2, a; shot 2, 3, b;", "settings": {"duration": 6}}, ["shots_sum"]),
        (f"{TEXT}/{V3}", {"prompt": "shot 1, 0, a; shot 2, 5, b;"}, ["shot_duration"]),
        (f"{TEXT}/{V3}", {"prompt": f"shot 1, 5, {'x' * 512};"}, []),
        (f"{TEXT}/{V3}", {"prompt": f"shot 1, 5, {'x' * 513};"}, ["shot_chars"]),
        (f"{TEXT}/{V3}", {"prompt": SIX, "settings": {"duration": 6}}, []),
        (f"{TEXT}/{V3}", {"prompt": f"{SIX} shot 7, 1, a;", "settings": {"duration": 7}}, ["shot_count"]),
        (f"{TEXT}/{V3}", {"prompt": "shot 2, 5, a;"}, ["shot_count"]),
        (f"{TEXT}/{V3}", {"prompt": "shot 1, 2, a;", "settings": {"multi_shot": False}}, []),
        # sound and voices
        (f"{TEXT}/{V26}", text(audio="native"), ["audio_resolution"]),
        (f"{TEXT}/{V26}", text(audio="native", resolution="1080p"), []),
        (f"{PICTURE}/{V26}", made(FIRST, LAST, audio="native", resolution="1080p"), ["audio_last_frame"]),
        (f"{PICTURE}/{V26}", made(FIRST, VOICE, audio="native", resolution="1080p"), []),
        (f"{PICTURE}/{V26}", made(FIRST, VOICE, resolution="1080p"), ["voice_audio"]),
        (
            f"{PICTURE}/{V26}",
            made(FIRST, *({**VOICE, "id": str(n)} for n in range(3)), audio="native", resolution="1080p"),
            ["voice_count"],
        ),
        # motion control
        (f"{MOTION}/{V3}", motion(), []),
        (f"{MOTION}/{V26}", motion("image"), []),
        (f"{MOTION}/{V3}", motion(None), ["motion_control_orientation"]),
        (
            f"{MOTION}/{V3}",
            {"contents": [CHARACTER], "settings": {"character_orientation": "image"}},
            ["motion_control_video"],
        ),
        (
            f"{MOTION}/{V3}",
            {"contents": [MOVEMENT], "settings": {"character_orientation": "image"}},
            ["motion_control_image"],
        ),
        (f"{MOTION}/{V3}", motion(duration=5), ["motion_control_duration"]),
        (f"{MOTION}/{V3}", motion(audio="native"), ["motion_control_audio"]),
        (f"{MOTION}/{V26}", motion(resolution="4k"), ["resolution_limit", "motion_control_resolution"]),
        (f"{MOTION}/{V3}", motion("video", element()), []),
        (f"{MOTION}/{V3}", motion("video", *elements(2)), ["motion_control_elements"]),
        (f"{MOTION}/{V26}", motion("video", element()), ["field_not_taken"]),
        (f"{MOTION}/{V3}", motion(aspect_ratio="1:1"), ["aspect_ratio_path"]),
        (f"{MOTION}/{V3}", motion("video", FIRST), ["motion_control_frames"]),
        (f"{TEXT}/{V3}", motion(), ["endpoint_action"]),
    ],
)
def test_exactly_the_broken_rules_are_reported(path: str, payload: dict[str, Any], expected: list[str]) -> None:
    """Each rule refuses a value just past its limit and accepts the limit itself."""
    assert codes(path, payload) == expected


def test_a_wrong_path_names_the_path_of_the_same_model() -> None:
    """The remedy is a path of this model that takes such inputs."""
    violation = check(made(FIRST, LAST), url=url("text-to-video/kling-2.6"), at=AT)[-1]
    assert violation.code == "endpoint_action"
    assert violation.message.endswith("post it to /image-to-video/kling-2.6, or change its inputs")


@pytest.mark.parametrize(
    ("path", "payload", "facts", "expected"),
    [
        (OMNI_PATH, made(FEATURE), {"length_s": "15.5", "size_bytes": 209715200, "type": "mp4"}, []),
        (OMNI_PATH, made(FEATURE), {"length_s": "15.51"}, ["video_length"]),
        (OMNI_PATH, made(BASE), {"length_s": "2.99"}, ["video_length"]),
        (OMNI_PATH, made(BASE), {"size_bytes": 209715201}, ["video_size_bytes_limit"]),
        (OMNI_PATH, made(BASE), {"type": "webm"}, ["video_type_limit"]),
        (O1_PATH, made(FEATURE), {"length_s": "10"}, []),
        (O1_PATH, made(FEATURE), {"length_s": "10.01"}, ["video_length"]),
        (f"{MOTION}/{V3}", motion(), {"length_s": "30", "size_bytes": 104857600}, []),
        (f"{MOTION}/{V3}", motion(), {"length_s": "30.01"}, ["motion_control_length_video"]),
        (f"{MOTION}/{V26}", motion("image"), {"length_s": "10.01"}, ["motion_control_length_image"]),
        (f"{MOTION}/{V3}", motion(), {"size_bytes": 104857601}, ["video_size_bytes_limit"]),
    ],
)
def test_known_facts_about_the_video_are_checked(
    path: str, payload: dict[str, Any], facts: dict[str, Any], expected: list[str]
) -> None:
    """The length, the size and the type are checked on both sides of each limit."""
    assert codes(path, payload, media={"v": facts}) == expected


def test_known_facts_about_images_are_checked() -> None:
    """An image can have 50 MB and be a JPEG or PNG file."""
    path, payload = f"{PICTURE}/{V3}", made(FIRST)
    assert codes(path, payload, media={"a": {"size_bytes": 52428800, "type": "png"}}) == []
    assert codes(path, payload, media={"a": {"size_bytes": 52428801, "type": "webp"}}) == [
        "image_size_bytes_limit",
        "image_type_limit",
    ]


@pytest.mark.parametrize(
    ("path", "payload", "code", "noted"),
    [
        (OMNI_PATH, made(), "aspect_ratio_absent", True),
        (OMNI_PATH, made(IMAGE), "aspect_ratio_absent", True),
        (OMNI_PATH, made(aspect_ratio="16:9"), "aspect_ratio_absent", False),
        (OMNI_PATH, made(FIRST), "aspect_ratio_absent", False),
        (O1_PATH, made(FEATURE), "aspect_ratio_absent", False),
        (OMNI_PATH, made(BASE, duration=5), "base_video_duration", True),
        (OMNI_PATH, made(BASE), "base_video_duration", False),
        (OMNI_PATH, made(audio="original"), "original_sound", True),
        (OMNI_PATH, made(BASE, audio="original"), "original_sound", False),
        (OMNI_PATH, made(*[IMAGE] * 4, element()), "element_kinds", True),
        (OMNI_PATH, made(*[IMAGE] * 3, element()), "element_kinds", False),
        (OMNI_PATH, made(FEATURE, element()), "video_elements", True),
        (O1_PATH, made(element()), "multi_image_elements", True),
        (O1_PATH, made(duration=7), "text_duration", True),
        (O1_PATH, made(duration=5), "text_duration", False),
        (f"{MOTION}/{V3}", motion(), "motion_output", True),
        (f"{MOTION}/{V3}", motion("image", element()), "element_orientation", True),
        (f"{TEXT}/{V3}", {"prompt": "x" * 2501}, "long_prompt", True),
        (f"{TEXT}/{V3}", {"prompt": "x" * 2500}, "long_prompt", False),
        (f"{TEXT}/{V3}", text(), "assumed_audio", True),
        (f"{TEXT}/{TURBO}", text(), "assumed_audio", False),  # the model has no setting
        (f"{TEXT}/{V3}", text(), "assumed_resolution", True),
    ],
)
def test_a_warning_becomes_a_note(path: str, payload: dict[str, Any], code: str, noted: bool) -> None:  # noqa: FBT001
    """The quote has the note when the warning applies, and only then."""
    assert (code in [note.code for note in quote(payload, url=url(path), at=AT).notes]) is noted


@pytest.mark.parametrize("material", [BASE, {**BASE, "id": "clip"}])
@pytest.mark.parametrize(
    ("path", "resolution", "rate", "longest"),
    [(OMNI_PATH, "720p", "0.126", 16), (OMNI_PATH, "4k", "0.42", 16), (O1_PATH, "1080p", "0.168", 10)],
)
def test_a_video_edit_is_billed_by_its_input(
    material: dict[str, Any], path: str, resolution: str, rate: str, longest: int
) -> None:
    """The seconds of the input are rounded to the nearest; an unknown length gives a range to the longest."""
    payload = made(material, resolution=resolution, audio="original")
    for length, seconds in (("3", 3), ("4.49", 4), ("4.5", 5), ("9.6", 10)):
        quoted = quote(payload, url=url(path), media={"v": {"length_s": length}}, at=AT)
        assert quoted.total == Decimal(rate) * seconds
    unknown = quote(payload, url=url(path), at=AT)
    assert (unknown.minimum, unknown.maximum) == (Decimal(rate) * 3, Decimal(rate) * longest)


def test_a_feature_video_is_billed_by_the_duration() -> None:
    """The length of a feature video changes nothing, known or not."""
    payload = made(FEATURE, duration=7)
    for media in ({}, {"v": {"length_s": "3"}}, {"v": {"length_s": "15"}}):
        assert quote(payload, url=url(OMNI_PATH), media=media, at=AT).total == Decimal("0.882")  # 7 x 0.9 units


def test_motion_control_of_an_unknown_length_is_a_range() -> None:
    """The range has the lengths that the orientation allows."""
    for orientation, longest in (("video", 30), ("image", 10)):
        quoted = quote(motion(orientation), url=url("motion-control/kling-2.6"), at=AT)
        assert (quoted.minimum, quoted.maximum) == (Decimal("0.21"), Decimal("0.07") * longest)


def test_the_api_had_one_model_at_first() -> None:
    """Before 2026-07-15 only 3.0 turbo has this API, and before 2026-06-17 it is not sold."""
    change, launch = datetime(2026, 7, 15, tzinfo=UTC), datetime(2026, 6, 17, tzinfo=UTC)
    second = timedelta(seconds=1)
    assert codes(f"{TEXT}/{V3}", text(), at=change - second) == ["launch"]
    assert codes(f"{TEXT}/{V3}", text(), at=change) == []
    assert codes(f"{TEXT}/{TURBO}", text(), at=change - second) == []
    assert quote(text(), url=url(f"{TEXT}/{TURBO}"), at=launch).total == Decimal("0.56")  # 5 x 0.8 units
    with pytest.raises(PriceNotFoundError, match="from 2026-06-17"):
        quote(text(), url=url(f"{TEXT}/{TURBO}"), at=launch - second)


def test_the_same_key_for_another_path_is_another_job(tmp_path: Path) -> None:
    """The payload does not name the model, so the path is part of what a key stands for."""
    guard = BudgetGuard(f"sqlite:///{tmp_path}/spend.db", [Budget(name="all", cap="5", currency="USD")])
    first = guard.admit(text(), project="p", key="k", url=url(f"{TEXT}/{V3}"))
    again = guard.admit(text(), project="p", key="k", url=url(f"{TEXT}/{V3}"))
    assert first.reservation.id == again.reservation.id
    with pytest.raises(IdempotencyError):
        guard.admit(text(), project="p", key="k", url=url(f"{TEXT}/{V26}"))


def test_responses_are_read() -> None:
    """Submit and status responses and callbacks give the task, its state, its length and its charge."""
    created = {"id": "t1", "status": "submitted", "create_time": 1, "update_time": 2, "external_id": "e"}
    assert read_task({"code": 0, "message": "ok", "data": created}) == Task("t1", "queued", own_id="e")
    done = {
        "id": "t1",
        "status": "succeeded",
        "outputs": [
            {"type": "video", "id": "v", "url": "u", "duration": "3.041"},
            {"type": "audio", "id": "a"},
        ],
        "billing": [{"charge_type": "unit", "package_type": "video", "amount": "2.4"}],
    }
    expected = Task("t1", "succeeded", charge(("2.4", "video")), Decimal("3.041"))
    assert read_task({"data": [done]}) == read_task({"data": done}) == read_task(done) == expected
    assert read_task({"id": "t1", "status": "processing"}).state == "processing"
    assert read_task({"id": "t1", "status": "failed", "outputs": []}).state == "failed"
    assert read_task({"id": "t1", "status": "resting"}).state is None
    assert read_task({"data": []}) == read_task({"data": [done, done]}) == Task(None, None)
    older = {"task_id": "t1", "task_status": "succeed", "final_unit_deduction": "2.4"}
    assert read_task(older) == Task("t1", "succeeded", charge(("2.4", "unit")))


def test_a_book_names_the_hosts_and_paths(book: PriceBook) -> None:
    """Three hosts bill for this format, and each of the twelve paths has a model and a status."""
    matrix = book.matrices["kling_v2"]
    assert book.formats["kling"] == ("kling", "kling_v2", "kling_services", "kling_images")
    assert [host for host, provider in book.hosts.items() if provider == "kling"] == [
        "api-singapore.klingai.com",
        "api-beijing.klingai.com",
        "api.klingai.com",
    ]
    assert {submission.status for submission in matrix.submissions} == {"/tasks?task_ids={task_id}"}
    assert [(submission.path, submission.model) for submission in matrix.submissions][:1] == [
        ("/text-to-video/kling-3.0-turbo", "kling-3.0-turbo")
    ]
    assert len(matrix.submissions) == 12


@pytest.mark.parametrize(
    ("name", "path", "action", "tier", "total"),
    [
        ("text_to_video", "text-to-video/kling-3.0", "generate", "audio", "1.344"),  # 8 s x 1.2 units
        ("first_last_frame", "image-to-video/kling-2.6", "first_last_frame", "silent", "0.7"),  # 10 s x 0.5
        ("edit", "omni-video/kling-3.0-omni", "reference_video", "video_reference", "0.882"),  # 7 s x 0.9
        ("multi_shot", "omni-video/kling-3.0-omni", "generate", "silent", "2.94"),  # 7 s x 3 units
        ("motion_control", "motion-control/kling-3.0", "motion_control", "motion_control", "1.344"),  # 8 x 1.2
    ],
)
def test_the_shipped_examples_are_quoted(name: str, path: str, action: str, tier: str, total: str) -> None:
    """The URL names the model, and the media facts give the lengths."""
    media = {
        "https://media.example.com/clip.mp4": {"length_s": "7.2"},
        "https://media.example.com/dance.mp4": {"length_s": "8.2"},
    }
    quoted = quote((EXAMPLES / f"{name}.json").read_bytes(), url=url(path), media=media, at=AT)
    assert (quoted.action, quoted.tier, quoted.total) == (action, tier, Decimal(total))
    assert {path.stem for path in EXAMPLES.iterdir()} >= {name}


@pytest.mark.parametrize(
    ("path", "payload", "suggestion"),
    [
        ("text-to-video/kling-2.6", text(audio="native"), {"settings.resolution": "1080p"}),
        ("text-to-video/kling-3.0", text(duration=2), {"settings.duration": 3}),
        ("omni-video/kling-3.0-omni", made(BASE, audio="native"), {"settings.audio": "off"}),
    ],
)
def test_suggestions_use_the_words_of_the_payload(
    path: str, payload: dict[str, Any], suggestion: dict[str, Any]
) -> None:
    """A suggestion names the path of the setting and its value on the wire."""
    with pytest.raises(CapabilityError) as caught:
        quote(payload, url=url(path), at=AT)
    assert suggestion in caught.value.suggestions
