"""Comparison: the prices of the same job in other settings, with other models and at other providers."""

import json
from copy import deepcopy
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kling_pricing import (
    CapabilityError,
    KlingPricingError,
    Option,
    PriceBook,
    PriceNotFoundError,
    WireFormatError,
    compare,
    load_price_book,
    quote,
)
from kling_pricing.wire.formats import wire_format
from tests.conftest import AT, PRICES, bundled_book, video

EXAMPLES = Path(__file__).parent.parent / "examples" / "requests"
CLIP = video("kling-v3", duration=5, resolution="1080p", audio=True)
BOOK = bundled_book()


def rows(options: list[Option], provider: str) -> list[tuple[Any, ...]]:
    """Returns the model, resolution, audio and exact maximum of a provider's available options, in order."""
    return [
        (option.model, option.resolution, option.audio, option.quote.maximum)
        for option in options
        if option.provider == provider and option.quote is not None
    ]


def example(wire: str, name: str) -> dict[str, Any]:
    """Returns an example payload."""
    payload: dict[str, Any] = json.loads((EXAMPLES / wire / f"{name}.json").read_text(encoding="utf-8"))
    return payload


def test_unknown_fields_are_compared_only_if_they_are_allowed() -> None:
    """An unknown field changes no option, and is refused unless it is allowed."""
    allowed = compare(CLIP | {"nothing": 1}, at=AT, book=BOOK, allow_unknown=True)
    plain = compare(CLIP, at=AT, book=BOOK)
    assert [(option.changes, option.provider, option.why_not) for option in allowed] == [
        (option.changes, option.provider, option.why_not) for option in plain
    ]
    assert rows(allowed, "qingbo") == rows(plain, "qingbo") != []
    with pytest.raises(WireFormatError, match=r"^unknown field 'nothing'"):
        compare(CLIP | {"nothing": 1}, at=AT, book=BOOK)


def test_the_same_job_is_priced_in_every_variant_cheapest_first() -> None:
    """For five seconds at the request's own provider, every amount matches the published table."""
    assert rows(compare(CLIP, at=AT), "qingbo") == [
        ("kling-v2.6", "720p", False, Decimal("0.1955")),
        ("kling-v2.6", "1080p", False, Decimal("0.33205")),
        ("kling-v3", "720p", False, Decimal("0.357")),
        ("kling-v3-omni", "720p", False, Decimal("0.357")),
        ("kling-v3", "1080p", False, Decimal("0.476")),
        ("kling-v3-omni", "720p", True, Decimal("0.476")),
        ("kling-v3-omni", "1080p", False, Decimal("0.476")),
        ("kling-v3", "720p", True, Decimal("0.5355")),
        ("kling-v3-omni", "1080p", True, Decimal("0.595")),
        ("kling-v3", "1080p", True, Decimal("0.714")),
        ("kling-v2.6", "1080p", True, Decimal("0.796875")),
        ("kling-v3", "4k", False, Decimal("2.276725")),
        ("kling-v3", "4k", True, Decimal("2.276725")),
        ("kling-v3-omni", "4k", False, Decimal("2.276725")),
    ]


def test_the_request_itself_is_asked_at_every_provider_that_knows_its_model() -> None:
    """The request itself has a row without changes at each provider, in that provider's currency."""
    itself = {option.provider: option for option in compare(CLIP, at=AT) if not option.changes}
    amounts = {
        name: (option.quote.total, option.quote.currency) for name, option in itself.items() if option.quote
    }
    assert amounts == {
        "qingbo": (Decimal("0.714"), "USD"),
        "qingbo-ai": (Decimal("0.756"), "USD"),
        "kling": (Decimal("0.84"), "USD"),
        "tencent-vod": (Decimal(6), "CNY"),
    }


def test_the_request_itself_is_quoted_as_quote_does() -> None:
    """The row of the request itself has the same quote as `quote` gives, notes included."""
    payload = video()
    own = next(
        option for option in compare(payload, at=AT) if not option.changes and option.provider == "qingbo"
    )
    assert own.quote == quote(payload, at=AT)


@pytest.mark.parametrize("provider", [None, "qingbo", "tencent-vod"])
def test_rows_are_sorted_within_a_currency_and_the_unavailable_come_last(provider: str | None) -> None:
    """The own provider's currency comes first; within a currency no row is cheaper than the row before it."""
    options = compare(CLIP, provider=provider, at=AT)
    available = [option.quote for option in options if option.quote is not None]
    assert [option.quote is None for option in options] == sorted(option.quote is None for option in options)
    currencies = list(dict.fromkeys(quoted.currency for quoted in available))
    assert currencies == (["CNY", "USD"] if provider == "tencent-vod" else ["USD", "CNY"])
    for currency in currencies:
        amounts = [quoted.maximum for quoted in available if quoted.currency == currency]
        assert amounts == sorted(amounts)
    assert [quoted.currency for quoted in available] == sorted(
        (quoted.currency for quoted in available), key=currencies.index
    )


def test_a_variant_that_the_api_refuses_says_why() -> None:
    """A refused variant gives the violations as its reason; every row has either a quote or a reason."""
    options = compare(CLIP, at=AT)
    (refused,) = [
        option
        for option in options
        if (option.provider, option.model, option.resolution, option.audio)
        == ("qingbo", "kling-v2.6", "720p", True)
    ]
    assert refused.why_not == "resolution must be 1080p for kling-v2.6 when audio is true, not 720p"
    assert refused.changes == {"model": "kling-v2.6", "resolution": "720p"}
    assert all((option.quote is None) == bool(option.why_not) for option in options)


def test_a_variant_without_a_published_price_says_so() -> None:
    """A provider that does not price the combination has a row whose reason omits the list of other prices."""
    (unpriced,) = [
        option
        for option in compare(CLIP, at=AT)
        if option.provider == "qingbo" and option.quote is None and option.resolution == "4k"
    ]
    assert unpriced.why_not == (
        "qingbo/2026-04-29 has no price for this request: "
        "for this model, QingBo's Kling series page lists prices with audio only at 720p and 1080p"
    )


def test_a_refused_request_still_has_its_variants() -> None:
    """The row of a refused request gives the reason, and its valid variants are priced."""
    options = compare(video("kling-v2.6", audio=True), at=AT)
    itself = [option for option in options if not option.changes]
    assert {option.quote for option in itself} == {None}
    cheapest = options[0]
    assert cheapest.quote is not None
    assert cheapest.changes == {"audio": False}


def test_an_unpriced_model_has_a_row_at_its_own_provider() -> None:
    """The oldest models have a row at their own provider although no table prices them."""
    options = compare(example("tasks_extra", "text_to_video"), at=AT)
    (itself,) = [option for option in options if not option.changes]
    assert (itself.provider, itself.quote) == ("qingbo", None)
    assert itself.why_not.startswith("qingbo/2026-04-29 has no price for this request")


def test_a_table_that_is_not_in_force_is_a_reason() -> None:
    """Before a provider's first table is in force, its rows are unavailable and say so."""
    at = datetime(2026, 5, 1, tzinfo=UTC)
    reasons = {option.why_not for option in compare(CLIP, at=at) if option.provider == "qingbo-ai"}
    assert any(reason.startswith("qingbo-ai has no price table for 2026-05-01") for reason in reasons)


def test_another_model_keeps_the_soundtrack_and_the_length() -> None:
    """If another model makes sound by default, its variant asks for silence, so that the job stays the same."""
    payload = example("tasks_extra", "text_to_video")
    (silent,) = [
        option
        for option in compare(payload, at=AT)
        if (option.provider, option.model, option.resolution, option.audio)
        == ("qingbo", "kling-v3", "1080p", False)
    ]
    assert silent.changes == {"model": "kling-v3", "audio": False}
    assert silent.quote is not None
    assert silent.quote.total == Decimal("0.476")


def test_models_that_make_something_else_are_left_out() -> None:
    """Models for speech, lip sync and recognition are not compared with models for videos."""
    models = {option.model for option in compare(example("kling", "text_to_video"), at=AT)}
    assert models == {
        "kling-v2-5-turbo",
        "kling-v2-6",
        "kling-v3",
        "kling-v3-omni",
        "kling-video-o1",
    }


def test_without_a_provider_of_its_own_a_request_is_asked_everywhere() -> None:
    """If only model names express the settings, every provider is compared and every change is a name."""
    payload = example("video_generations", "text_to_video")
    options = compare(payload, at=AT)
    assert {option.provider for option in options if not option.changes} >= {"qingbo", "kling"}
    assert all("model" in option.changes for option in options if option.changes)


def test_the_changes_of_a_row_give_its_quote() -> None:
    """Amending the payload with a row's changes and quoting it gives the row's quote."""
    for option in compare(CLIP, at=AT):
        if option.quote is not None and option.changes:
            amended = wire_format("tasks").amend(CLIP, option.changes)
            quoted = quote(amended, provider=option.provider, wire_format="tasks", at=AT)
            assert quoted == option.quote


def test_a_provider_from_the_users_tables_is_compared(folder: Any) -> None:
    """A provider from the user's own tables has rows in its own currency."""
    book = load_price_book(folder({"prices/acme/2026-11-01.yaml": PRICES}))
    options = compare(video(), at=AT, book=book)
    first = next(option for option in options if option.provider == "acme" and not option.changes)
    assert first.quote is not None
    assert (first.quote.total, first.quote.currency) == (Decimal("0.5"), "EUR")


def test_invalid_arguments_are_refused_as_by_quote() -> None:
    """An invalid payload, model, provider or instant raises the same errors as `quote`."""
    with pytest.raises(WireFormatError):
        compare("{", at=AT)
    with pytest.raises(CapabilityError):
        compare(video("nobody"), at=AT)
    with pytest.raises(
        PriceNotFoundError, match="unknown provider 'nobody'; use one of: kling, octopusx, qingbo"
    ):
        compare(CLIP, provider="nobody", at=AT)
    with pytest.raises(KlingPricingError, match="no time zone"):
        compare(CLIP, at=datetime(2026, 11, 21))  # noqa: DTZ001 (a naive time is what is refused)


MODEL_PATHS = {
    "edit": "/omni-video/kling-3.0-omni",
    "first_last_frame": "/image-to-video/kling-2.6",
    "motion_control": "/motion-control/kling-3.0",
    "multi_shot": "/omni-video/kling-3.0-omni",
    "text_to_video": "/text-to-video/kling-3.0",
}
"""Example -> its path, where the path names the model."""


@pytest.mark.parametrize(
    "path", sorted(EXAMPLES.rglob("*.json")), ids=lambda path: f"{path.parent.name}-{path.stem}"
)
def test_every_example_is_compared_and_left_alone(path: Path, book: PriceBook) -> None:
    """No two rows are the same, and the payload is unchanged."""
    payload = json.loads(path.read_text(encoding="utf-8"))
    before = deepcopy(payload)
    name = path.parent.name if path.parent != EXAMPLES else None
    url = f"https://gw.example{MODEL_PATHS[path.stem]}" if name == "kling_v2" else None
    options = compare(payload, wire_format=name, book=book, url=url, at=AT)
    assert payload == before
    keys = [(option.provider, json.dumps(dict(option.changes), sort_keys=True)) for option in options]
    assert len(keys) == len(set(keys)) > 1


@given(
    model=st.sampled_from(["kling-v3", "kling-v3-omni", "kling-v2.6", "kling-video-o1"]),
    duration=st.none() | st.integers(0, 20),
    resolution=st.none() | st.sampled_from(["720p", "1080p", "4K"]),
    audio=st.none() | st.booleans(),
)
def test_the_row_at_the_own_provider_agrees_with_quote(
    *, model: str, duration: int | None, resolution: str | None, audio: bool | None
) -> None:
    """The row at the own provider has the quote, or the refusal, that `quote` gives for any request."""
    payload = video(model, duration=duration, resolution=resolution, audio=audio)
    options = compare(payload, at=AT, book=BOOK)
    (own,) = [option for option in options if not option.changes and option.provider == "qingbo"]
    try:
        assert own.quote == quote(payload, at=AT, book=BOOK)
    except CapabilityError as error:
        assert own.why_not == str(error)
    except PriceNotFoundError as error:
        assert own.quote is None
        assert str(error).startswith(own.why_not)
