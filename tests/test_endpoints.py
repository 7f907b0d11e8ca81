"""Endpoints: the URL of a request decides its wire format and its provider."""

import re
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kling_pricing import (
    CapabilityError,
    KlingPricingError,
    PriceBook,
    PriceNotFoundError,
    TableError,
    WireFormatError,
    check,
    compare,
    load_price_book,
    quote,
)
from tests.conftest import AT, PRICES, bundled, bundled_book, video

QINGBO = "https://www.qingbo.dev/v1/tasks"
NEWER = "https://api.qingbo.ai/v1/tasks"
OFFICIAL = "https://api-singapore.klingai.com"
GATEWAY = "http://localhost:8080"
BOOK = bundled_book()
BOAT = {"model_name": "kling-v3", "prompt": "a boat"}


@pytest.mark.parametrize(
    ("url", "provider", "formats"),
    [
        (QINGBO, "qingbo", ("tasks", "tasks_extra")),
        ("https://qingbo.dev/v1/tasks/", "qingbo", ("tasks", "tasks_extra")),
        ("HTTPS://API.QINGBO.AI.:443/v1/tasks?key=secret#top", "qingbo-ai", ("tasks_v2",)),
        (f"{OFFICIAL}/v1/videos/text2video", "kling", ("kling",)),
        ("https://api-beijing.klingai.com/v1/videos/omni-video", "kling", ("kling",)),
        (f"{GATEWAY}/v1/tasks", None, ("tasks", "tasks_extra", "tasks_v2")),
        (f"{GATEWAY}/v1/videos", None, ("openai_videos",)),
        (f"{GATEWAY}/proxy/kling//v1/videos/motion-control", None, ("kling",)),
        ("http://[::1]:9/v1/video/generations", None, ("video_generations", "openai_videos")),
        ("https://api.qingbo.ai/v1/videos", "qingbo-ai", ("openai_videos",)),
    ],
)
def test_an_endpoint_has_a_provider_and_wire_formats(
    book: PriceBook, url: str, provider: str | None, formats: tuple[str, ...]
) -> None:
    """The host gives the provider, and the path the wire formats, only the provider's own if it has any."""
    endpoint = book.endpoint(url)
    assert (endpoint.provider, endpoint.wire_formats, endpoint.is_submission) == (provider, formats, True)


@pytest.mark.parametrize(
    ("url", "provider"),
    [
        (f"{QINGBO}/task-1", "qingbo"),
        (f"{QINGBO}/task-1/cancel", "qingbo"),
        (f"{OFFICIAL}/v1/videos/text2video/1", "kling"),
        (OFFICIAL, "kling"),
        (f"{OFFICIAL}/", "kling"),
        ("https://qingbo.dev.example.com/v1/models", None),
        ("https://qingbo.dev@example.com/v1/videos2", None),
        ("https://example.com/v1/Videos", None),
        ("https://example.com/?next=/v1/videos", None),
    ],
)
def test_other_paths_are_not_submissions(book: PriceBook, url: str, provider: str | None) -> None:
    """Status, cancel and unknown paths submit nothing, but a listed host still gives the provider."""
    endpoint = book.endpoint(url)
    assert (endpoint.provider, endpoint.submissions, endpoint.is_submission) == (provider, (), False)


def test_a_path_can_limit_the_actions(book: PriceBook) -> None:
    """Only the official API's paths do."""
    limited = {path: entries[0].actions for path, entries in book.paths.items() if entries[0].actions}
    assert limited == {
        "/v1/videos/text2video": ("generate",),
        "/v1/videos/image2video": ("image2video", "first_last_frame"),
        "/v1/videos/omni-video": (
            "generate",
            "image2video",
            "first_last_frame",
            "reference",
            "reference_video",
        ),
        "/v1/videos/motion-control": ("motion_control",),
        "/v1/images/generations": ("generate", "image2image"),
        "/v1/images/omni-image": ("generate", "image2image"),
        "/v1/images/multi-image2image": ("multi_image",),
        "/v1/images/editing/expand": ("expand",),
        "/v1/general/ai-multi-shot": ("ai_multi_shot",),
        "/v1/videos/multi-image2video": ("multi_image2video",),
        "/v1/videos/multi-elements": ("multi_elements",),
        "/v1/videos/video-extend": ("video_extend",),
        "/text-to-video/kling-3.0-turbo": ("generate",),
        "/image-to-video/kling-3.0-turbo": ("image2video",),
        "/text-to-video/kling-3.0": ("generate",),
        "/image-to-video/kling-3.0": ("image2video", "first_last_frame"),
        "/omni-video/kling-3.0-omni": (
            "generate",
            "image2video",
            "first_last_frame",
            "reference",
            "reference_video",
        ),
        "/omni-video/kling-o1": (
            "generate",
            "image2video",
            "first_last_frame",
            "reference",
            "reference_video",
        ),
        "/text-to-video/kling-2.6": ("generate",),
        "/image-to-video/kling-2.6": ("image2video", "first_last_frame"),
        "/text-to-video/kling-2.5-turbo": ("generate",),
        "/image-to-video/kling-2.5-turbo": ("image2video", "first_last_frame"),
        "/motion-control/kling-3.0": ("motion_control",),
        "/motion-control/kling-2.6": ("motion_control",),
    }


@pytest.mark.parametrize(
    "url",
    [
        "",
        "/v1/videos",
        "ftp://qingbo.dev/v1/tasks",
        "https://",
        "qingbo.dev",
        "https://qingbo.dev\\@example.com/v1/tasks",
        "https://a@b@qingbo.dev/v1/tasks",
        "https://qingbo.dev/v1/tasks\n",
        7,
        b"x",
    ],
)
def test_an_invalid_url_is_an_error(book: PriceBook, url: Any) -> None:
    """The error says what is expected, and does not repeat the text, which may contain a key."""
    for call in (quote, check, compare):
        with pytest.raises(KlingPricingError) as caught:
            call(video(), url=url, at=AT, book=book)
        assert str(caught.value) == (
            "url must be the http or https URL that the request is posted to, "
            "such as https://api.example.com/v1/videos"
        )


@pytest.mark.parametrize(
    ("payload", "url", "wire_format", "assumed", "total"),
    [
        (video(), QINGBO, "tasks", True, "0.357"),
        (video(duration=5), NEWER, "tasks_v2", False, "0.378"),
        (video(extra={"mode": "std"}), QINGBO, "tasks_extra", False, "0.5355"),
        (video(extra={"mode": "std"}), f"{GATEWAY}/v1/tasks", "tasks_extra", False, "0.5355"),
        (video(), f"{GATEWAY}/v1/tasks", "tasks", True, "0.357"),
        (video(), "https://qingbo.dev/elsewhere", "tasks", True, "0.357"),
        (BOAT, f"{OFFICIAL}/v1/videos/text2video", "kling", False, "0.42"),
        (BOAT, f"{GATEWAY}/v1/videos/text2video", "kling", False, "0.42"),
    ],
)
def test_the_endpoint_decides_format_and_provider(
    book: PriceBook,
    payload: dict[str, Any],
    url: str,
    wire_format: str,
    assumed: bool,  # noqa: FBT001
    total: str,
) -> None:
    """The path decides first, then the host, then the payload; otherwise, the format is assumed."""
    quoted = quote(payload, url=url, at=AT, book=book)
    assert (quoted.wire_format, quoted.total) == (wire_format, Decimal(total))
    assert quoted.request.format_assumed is assumed
    assert check(payload, url=url, at=AT, book=book) == []


def test_the_endpoint_takes_precedence_over_the_payload(book: PriceBook) -> None:
    """A field of another API is an unknown field there and does not change the wire format."""
    payload = video(duration=5, generate_audio=True)
    assert quote(payload, at=AT, book=book).wire_format == "tasks_v2"
    with pytest.raises(WireFormatError, match="unknown field 'generate_audio'") as caught:
        quote(payload, url=QINGBO, at=AT, book=book)
    assert caught.value.wire_format == "tasks"


def test_explicit_arguments_take_precedence_over_the_endpoint(book: PriceBook) -> None:
    """An explicit provider replaces the prices, and an explicit format replaces the wire format."""
    assert quote(video(), url=QINGBO, provider="kling", at=AT, book=book).total == Decimal("0.42")
    asked = quote(video(duration=5), url=QINGBO, wire_format="tasks_v2", at=AT, book=book)
    assert (asked.wire_format, asked.provider) == ("tasks_v2", "qingbo")


def test_a_provider_without_prices_for_the_format_is_an_error(book: PriceBook) -> None:
    """The path gives the format and the host the provider, whose list does not cover the format."""
    payload = {"model_name": "kling-v3", "prompt": "a boat"}
    with pytest.raises(PriceNotFoundError, match="does not price requests in wire format kling"):
        quote(payload, url="https://qingbo.dev/v1/videos/text2video", at=AT, book=book)


@pytest.mark.parametrize(
    ("fields", "path", "message"),
    [
        (
            {"image": "https://example.com/a.png"},
            "text2video",
            (
                "because of image, this is an image2video request, but /v1/videos/text2video accepts only "
                "generate; post it to /v1/videos/image2video or /v1/videos/omni-video, or change its inputs"
            ),
        ),
        (
            {},
            "image2video",
            (
                "this is a generate request, but /v1/videos/image2video accepts only "
                "image2video or first_last_frame; "
                "post it to /v1/videos/text2video or /v1/videos/omni-video, or change its inputs"
            ),
        ),
    ],
)
def test_a_request_for_another_endpoint_is_refused(
    book: PriceBook, fields: dict[str, str], path: str, message: str
) -> None:
    """The path must perform the request's action; otherwise the message names the paths that do."""
    payload = {"model_name": "kling-v3", "prompt": "a boat", **fields}
    url = f"{OFFICIAL}/v1/videos/{path}"
    (violation,) = check(payload, url=url, at=AT, book=book)
    assert (violation.code, violation.field, violation.message) == ("endpoint_action", "url", message)
    with pytest.raises(CapabilityError) as caught:
        quote(payload, url=url, at=AT, book=book)
    assert caught.value.suggestions == ()  # no other setting helps
    options = compare(payload, url=url, at=AT, book=book)
    own = [option for option in options if not option.changes and option.wire_format == "kling"]
    assert [(option.quote, option.why_not) for option in own] == [(None, message)]


def test_a_model_of_another_path_is_refused_with_that_path(book: PriceBook) -> None:
    """The API refuses it too, so it must not be priced as if it would run."""
    payload = {"model_name": "kling-v3-omni", "prompt": "a"}
    (found,) = check(payload, url="https://api-singapore.klingai.com/v1/videos/text2video", at=AT, book=book)
    assert (found.code, found.field, found.value) == ("endpoint_model", "model_name", "kling-v3-omni")
    assert found.message == (
        "/v1/videos/text2video does not accept kling-v3-omni; post the request to /v1/videos/omni-video, or "
        "use one of the models that this path accepts: kling-v1, kling-v1-6, kling-v2-master, "
        "kling-v2-1-master, kling-v2-5-turbo, kling-v2-6, kling-v3"
    )


def test_suggestions_are_valid_at_the_endpoint(book: PriceBook) -> None:
    """Other violations get suggestions as without a URL."""
    payload = {"model_name": "kling-v3", "prompt": "a boat", "duration": "16"}
    with pytest.raises(CapabilityError) as caught:
        quote(payload, url=f"{OFFICIAL}/v1/videos/text2video", at=AT, book=book)
    assert caught.value.suggestions[0] == {"duration": "15"}


def test_a_comparison_starts_from_the_endpoints_provider(book: PriceBook) -> None:
    """The unchanged request is priced at the host's provider and in the wire format of the URL."""
    job = {"model": "Kling-2.6", "prompt": "a boat", "duration": 5, "size": "1280x720"}
    options = compare(job, url=f"{GATEWAY}/v1/videos", at=AT, book=book)
    unchanged = [option for option in options if not option.changes]
    assert [option.wire_format for option in unchanged if option.model == job["model"]] == ["openai_videos"]
    same = compare(video(duration=5), url=NEWER, at=AT, book=book)
    (own,) = [option for option in same if not option.changes and option.provider == "qingbo-ai"]
    assert own.quote is not None
    assert (own.quote.wire_format, own.quote.total) == ("tasks_v2", Decimal("0.378"))


OWN = PRICES.replace("currency:", "hosts: [gateway.acme.example]\ncurrency:")


def test_a_users_provider_is_found_by_its_host(folder: Callable[..., Path]) -> None:
    """A user's table lists hosts as a bundled table does."""
    book = load_price_book(folder({"prices/acme/2026.yaml": OWN}))
    quoted = quote(video(), url="https://gateway.acme.example/kling/v1/tasks", at=AT, book=book)
    assert (quoted.provider, quoted.wire_format, quoted.total) == ("acme", "tasks", Decimal("0.5"))


def test_two_providers_cannot_list_the_same_host(folder: Callable[..., Path]) -> None:
    """A host identifies the provider, so it belongs to one only."""
    taken = PRICES.replace("currency:", "hosts: [qingbo.dev]\ncurrency:")
    with pytest.raises(TableError, match=r"is also a host of .*; remove it from one of the two") as caught:
        load_price_book(folder({"prices/acme/2026.yaml": taken}))
    assert (Path(caught.value.file).parts[-2:], caught.value.key_path) == (("acme", "2026.yaml"), "hosts[0]")


@pytest.mark.parametrize(
    ("entry", "key_path", "problem"),
    [
        ("{path: v1/tasks, source: x}", "endpoints[0].path", "must be the path of a URL, such as /v1/videos"),
        ("{path: /v1/tasks/, source: x}", "endpoints[0].path", "must be the path of a URL"),
        ("{path: /v1/tasks}", "endpoints[0].source", "required"),
        ("{path: /v1/a, actions: [genrate], source: x}", "endpoints[0].actions[0]", "did you mean 'generate'?"),
        ("{path: /v1/a, status: /v1/a, source: x}", "endpoints[0].status", "such as /v1/videos/{task_id}"),
        (
            "{path: /v1/a, source: x}\n  - {path: /v1/a, source: x}",
            "endpoints[1].path",
            "is listed twice; keep one entry",
        ),
    ],
)
def test_endpoints_of_a_capability_file_are_checked(
    folder: Callable[..., Path], entry: str, key_path: str, problem: str
) -> None:
    """A path that cannot match, an unknown action and a duplicate path are errors with their place."""
    bundled_file = bundled("capabilities", "tasks.yaml")
    text = bundled_file.read_text(encoding="utf-8")
    changed = re.sub(r"(?<=endpoints:\n  - ).*?\n(?=\n)", f"{entry}\n", text, count=1, flags=re.DOTALL)
    assert changed != text
    with pytest.raises(TableError) as caught:
        load_price_book(folder({"capabilities/tasks.yaml": changed}))
    assert caught.value.key_path == key_path
    assert problem in caught.value.problem


@given(st.text() | st.from_regex(r"https?://[a-z@:.\\/?#\[\]]*/v1/tasks", fullmatch=True))
def test_any_text_is_an_endpoint_or_our_own_error(text: str) -> None:
    """No other exception is raised, and only a listed host gives a provider."""
    try:
        endpoint = BOOK.endpoint(text)
    except KlingPricingError:
        return
    assert endpoint.provider is None or any(host in text.lower() for host in BOOK.hosts)
