"""Comparisons across APIs: a job is priced in another API's words only if these say the same."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from kling_pricing import KlingPricingError, Option, PriceBook, check, compare, quote
from kling_pricing.quoting.intake import Intake
from kling_pricing.quoting.translation import Translation, translated
from tests.commands import run
from tests.conftest import AT, video

EXAMPLES = Path(__file__).parent.parent / "examples" / "requests"


def itself(payload: dict[str, Any], book: PriceBook, **options: Any) -> dict[str, Option]:
    """Returns the request as written at each provider."""
    found = compare(payload, at=AT, book=book, **options)
    return {option.provider: option for option in found if not option.changes}


def example(name: str) -> dict[str, Any]:
    """Returns an example payload."""
    payload: dict[str, Any] = json.loads((EXAMPLES / f"{name}.json").read_text(encoding="utf-8"))
    return payload


def test_a_job_is_priced_at_a_provider_that_does_not_price_its_format(book: PriceBook) -> None:
    """A request for one gateway has a price at every provider, in the words of that provider's API."""
    options = itself(example("openai_videos/text_to_video"), book)
    prices = {
        name: (option.model, option.wire_format, option.quote.total, option.quote.currency)
        for name, option in options.items()
        if option.quote is not None
    }
    assert prices == {
        "tencent-vod": ("Kling-3.0-Omni", "openai_videos", Decimal(5), "CNY"),
        "qingbo": ("kling-v3-omni", "tasks", Decimal("0.595"), "USD"),
        "qingbo-ai": ("kling-v3-omni", "tasks_v2", Decimal("0.63"), "USD"),
        "kling": ("kling-v3-omni", "kling", Decimal("0.7"), "USD"),
    }


def test_a_model_in_the_path_of_a_url_is_written_into_the_payload(book: PriceBook) -> None:
    """A request whose URL names its model is priced where payloads name it."""
    payload = example("kling_v2/text_to_video")
    options = itself(payload, book, url="https://gw.example/text-to-video/kling-3.0", wire_format="kling_v2")
    quotes = {name: option.quote.total for name, option in options.items() if option.quote is not None}
    assert (quotes["qingbo"], quotes["kling"]) == (Decimal("1.1424"), Decimal("1.344"))


@pytest.mark.parametrize(
    ("payload", "provider", "reason"),
    [
        (
            example("kling/multi_shot"),
            "qingbo",
            "multi_shot, shot_type and multi_prompt cannot be expressed in",
        ),
        (
            example("kling/text_to_video"),
            "qingbo",
            "negative_prompt cannot be expressed in wire format tasks",
        ),
        (example("tasks_v2/edit"), "kling", "duration must be 3 to 15 seconds for kling-v3-omni, not 0"),
        (example("openai_videos/first_last_frame"), "kling", "with a first and a last frame, mode must be pro"),
        (
            example("tasks_extra/multi_shot"),
            "tencent-vod",
            "extra.shot_1_prompt cannot be expressed in the API of tencent-vod",
        ),
    ],
)
def test_what_another_api_cannot_say_is_not_priced_there(
    payload: dict[str, Any], provider: str, reason: str, book: PriceBook
) -> None:
    """The reason names the field, or the rule of the other API."""
    option = itself(payload, book)[provider]
    assert option.quote is None
    assert option.why_not.startswith(reason)


@pytest.mark.parametrize(
    ("payload", "provider", "reason"),
    [
        (video("kling-v2-6"), "kling", "in wire format kling, this request would have another duration_s"),
        (video(cfg_scale=0.3), "qingbo", "cfg_scale cannot be expressed in wire format tasks"),
        (
            video("kling-v2-6", cfg_scale=0.3),
            "tencent-vod",
            "cfg_scale cannot be expressed in wire format openai_videos",
        ),
        (video("kling-v2-6", duration=7), "kling", "duration must be 5 or 10 seconds for kling-v2-6, not 7"),
        (
            video("kling-video-o1", audio=True),
            "kling",
            "this model does not generate sound; set sound to off, or leave it out",
        ),
        (
            video("kling-video-o1", resolution="4k"),
            "qingbo",
            (
                "kling-video-o1 does not accept audio; leave it out; "
                "resolution must be 720p or 1080p for kling-video-o1, not 4k"
            ),
        ),
    ],
)
def test_a_job_that_would_change_is_not_translated(
    payload: dict[str, Any], provider: str, reason: str, book: PriceBook
) -> None:
    """The reason names the wire format and the fact that would differ, or every rule that would be broken."""
    intake = Intake(at=AT, book=book)
    request, _ = intake.read(payload)
    assert translated(payload, request, provider, intake) == reason


def test_an_edit_is_never_priced_as_a_new_video(book: PriceBook) -> None:
    """A base video is edited, which another API may read as a reference; then there is no price."""
    url = "https://gw.example/omni-video/kling-3.0-omni"
    for provider, option in itself(example("kling_v2/edit"), book, url=url, wire_format="kling_v2").items():
        if provider != "kling":
            assert (option.quote, option.why_not.endswith("another use of the video")) == (None, True)


@pytest.mark.parametrize(
    "path", sorted(EXAMPLES.rglob("*.json")), ids=lambda path: f"{path.parent.name}-{path.stem}"
)
def test_a_translation_keeps_the_job(path: Path, book: PriceBook) -> None:
    """Every translation is valid, with the same length, resolution, prompt and files as the request."""
    payload = json.loads(path.read_text(encoding="utf-8"))
    name = path.parent.name if path.parent != EXAMPLES else "tasks"
    url = "https://gw.example/omni-video/kling-3.0-omni" if name == "kling_v2" else None
    intake = Intake(wire_format=name, at=AT, book=book, url=url)
    request, _ = intake.read(payload)
    for provider in book.tables:
        found = translated(payload, request, provider, intake)
        if not isinstance(found, Translation):
            assert found
            continue
        read = found.request
        for fact in ("model", "duration_s", "resolution", "last_frame", "orientation", "prompt_chars"):
            if fact != "prompt_chars" or request.facts["prompt_chars"]:
                ours: dict[str, Any] = {**request.facts}
                theirs: dict[str, Any] = {**read.facts}
                assert (fact, ours[fact]) == (fact, theirs[fact])
        assert sorted(medium.url for medium, _ in request.media) == sorted(
            medium.url for medium, _ in read.media
        )
        options: dict[str, Any] = {
            "wire_format": read.wire_format,
            "at": AT,
            "book": book,
            "url": found.intake.url,
        }
        assert check(found.payload, **options) == []
        try:
            assert quote(found.payload, provider=provider, **options).currency in {"USD", "CNY"}
        except KlingPricingError as error:
            assert "no price" in str(error)


def test_variants_are_limited_to_models_and_lengths(book: PriceBook) -> None:
    """Models are known by any API's names; lengths replace that of the request in every variant."""
    options = compare(video(duration=5), at=AT, book=book, models=["KLING-3.0-OMNI"], durations=[5, 10])
    variants = [option for option in options if option.changes]
    assert {option.model for option in variants} == {"kling-v3-omni"}
    lengths = {option.quote.request.facts["duration_s"] for option in variants if option.quote is not None}
    assert lengths == {5, 10}
    with pytest.raises(KlingPricingError, match="unknown model kling-v3-omi; did you mean 'kling-v3-omni'"):
        compare(video(), at=AT, book=book, models=["kling-v3-omi"])


def test_the_table_is_80_columns_wide_and_shows_what_is_asked_for() -> None:
    """`--top` limits each currency but keeps the request as written; `--available` has no reasons."""
    path = EXAMPLES / "text_to_video.json"
    whole = run("compare", path, "--at", "2026-11-21")
    assert [line for line in whole.stdout.splitlines() if len(line) > 80] == []
    assert "Not available" in whole.stdout
    assert "Not available" not in run("compare", path, "--available", "--at", "2026-11-21").stdout
    top = run("compare", path, "--top", "2", "--json", "--at", "2026-11-21")
    rows = [json.loads(line) for line in top.stdout.splitlines()]
    assert [(row["provider"], row["maximum"]) for row in rows] == [
        ("qingbo-ai", "0.189"),
        ("qingbo", "0.1955"),
        ("qingbo", "0.714"),
        ("tencent-vod", "1.5"),
        ("tencent-vod", "2.5"),
    ]
    longer = run("compare", path, "--duration", "10", "--model", "kling-v3", "--top", "3", "--at", "2026-11-21")
    first, *lines = longer.stdout.splitlines()[1:5]
    assert first.split() == ["USD", "Change", "s", "Provider", "Model", "Res.", "Audio"]
    assert [line.split()[:4] for line in lines] == [
        ["0.714", "0", "5", "qingbo"],
        ["0.714", "0", "10", "qingbo"],
        ["0.756", "+0.042", "5", "qingbo-ai"],
    ]
