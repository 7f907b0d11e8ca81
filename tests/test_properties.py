"""What holds for every request, found by Hypothesis."""

import copy
import json
from decimal import Decimal
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kling_pricing import KlingPricingError, check, quote
from kling_pricing.wire.tasks import FIELD_NAMES
from tests.conftest import AT

MODELS = ["kling-video-o1", "kling-v3-omni", "kling-v3", "kling-v2.6"]
ACTIONS = ["generate", "image2video", "first_last_frame", "reference", "reference_video"]

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
urls = st.sampled_from(["https://example.com/a", "https://example.com/b"])
plausible = st.fixed_dictionaries(
    {"model": st.sampled_from(MODELS), "prompt": st.sampled_from(["a boat", "<<<image_1>>> sails"])},
    optional={
        "action": st.sampled_from(ACTIONS),
        "duration": st.integers(0, 16),
        "resolution": st.sampled_from(["720p", "1080P", "4K"]),
        "audio": st.booleans(),
        "watermark": st.booleans(),
        "aspect_ratio": st.sampled_from(["16:9", "1:1"]),
        "image_urls": st.lists(urls, max_size=3),
        "first_frame_image": urls,
        "last_frame_image": urls,
        "video_urls": st.lists(urls, max_size=2),
        "video_list": st.lists(st.fixed_dictionaries({"video_url": urls}), max_size=2),
    },
)
nearly = st.builds(
    lambda payload, field, value: {**payload, field: value},
    plausible,
    st.sampled_from([*FIELD_NAMES.values(), "video_list", "unknown"]),
    json_values,
)


def answer(payload: Any) -> Any:
    """The quote, or the error in its place."""
    try:
        return quote(payload, at=AT)
    except KlingPricingError as error:
        return error


@given(st.one_of(json_values, plausible, nearly, st.dictionaries(st.text(max_size=8), json_values)))
@settings(max_examples=500, suppress_health_check=[HealthCheck.too_slow])
def test_any_json_value_gives_a_quote_or_an_error_of_ours(payload: Any) -> None:
    """Neither as a value nor as JSON text does anything else come out, and both ways agree."""
    direct = answer(payload)
    text = answer(json.dumps(payload))
    assert isinstance(direct, KlingPricingError) or direct == text
    assert isinstance(text, KlingPricingError) or direct == text


@given(st.text(max_size=60) | st.binary(max_size=60))
def test_any_text_gives_a_quote_or_an_error_of_ours(text: str | bytes) -> None:
    """What is not JSON ends in an error too."""
    assert isinstance(answer(text), KlingPricingError)


@given(plausible)
@settings(max_examples=300)
def test_line_items_sum_to_the_total(payload: dict[str, Any]) -> None:
    """And each is its unit price times its quantity."""
    quoted = answer(payload)
    if not isinstance(quoted, KlingPricingError):
        assert sum((line.amount for line in quoted.lines), Decimal(0)) == quoted.total
        assert all(line.amount == line.unit_price * line.quantity for line in quoted.lines)


@given(plausible, st.integers(0, 16))
@settings(max_examples=300)
def test_more_seconds_never_cost_less(payload: dict[str, Any], duration: int) -> None:
    """Whatever the rest of the request, a longer video costs at least as much."""
    shorter = answer({**payload, "duration": duration})
    for longer_by in range(1, 6):
        longer = answer({**payload, "duration": duration + longer_by})
        if not isinstance(shorter, KlingPricingError) and not isinstance(longer, KlingPricingError):
            assert shorter.total <= longer.total


@given(st.one_of(plausible, nearly))
@settings(max_examples=300)
def test_quoting_changes_nothing_it_is_given(payload: dict[str, Any]) -> None:
    """The payload is the same afterwards, whether it was quoted or refused."""
    before = repr(copy.deepcopy(payload))
    answer(payload)
    assert repr(payload) == before


@given(st.one_of(plausible, nearly))
@settings(max_examples=300)
def test_check_and_quote_agree(payload: dict[str, Any]) -> None:
    """What has violations is not quoted, and what is quoted has none."""
    violations = check(payload, at=AT)
    quoted = answer(payload)
    assert tuple(violations) == getattr(quoted, "violations", ())
