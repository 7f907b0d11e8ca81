"""Properties that hold for every request, tried with Hypothesis.

A long run tries most of them with 1,200 to 5,000 examples, about fifty times as many as a usual run:
`HYPOTHESIS_PROFILE=long pytest tests/test_properties.py`.
"""

import copy
import json
from decimal import Decimal
from functools import cache
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kling_pricing import KlingPricingError, check, quote
from kling_pricing.wire.formats import NAMES, wire_format
from kling_pricing.wire.formats.tasks import FIELD_NAMES
from kling_pricing.wire.task import STATES
from tests.conftest import AT, bundled_book, examples

MODELS = ["kling-video-o1", "kling-v3-omni", "kling-v3", "kling-v2.6"]
ACTIONS = ["generate", "image2video", "first_last_frame", "reference", "reference_video"]

RESPONSE_KEYS = st.sampled_from(["task_id", "id", "status", "cost", "data", "model", "billing"])
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
    """Returns the quote, or the error if there is one."""
    try:
        return quote(payload, at=AT)
    except KlingPricingError as error:
        return error


@given(st.one_of(json_values, plausible, nearly, st.dictionaries(st.text(max_size=8), json_values)))
@settings(max_examples=examples(100, long=5000), suppress_health_check=[HealthCheck.too_slow])
def test_any_json_value_gives_a_quote_or_an_error_of_ours(payload: Any) -> None:
    """Any JSON value, and the same value as JSON text, gives the same quote or a `KlingPricingError`."""
    direct = answer(payload)
    text = answer(json.dumps(payload))
    assert isinstance(direct, KlingPricingError) or direct == text
    assert isinstance(text, KlingPricingError) or direct == text


@given(st.text(max_size=60) | st.binary(max_size=60))
def test_any_text_gives_a_quote_or_an_error_of_ours(text: str | bytes) -> None:
    """Any other text raises a `KlingPricingError`."""
    assert isinstance(answer(text), KlingPricingError)


@given(plausible)
@settings(max_examples=examples(50, long=2400))
def test_line_items_sum_to_the_total(payload: dict[str, Any]) -> None:
    """The lines sum to the total, and each amount is its unit price times its quantity."""
    quoted = answer(payload)
    if not isinstance(quoted, KlingPricingError):
        assert sum((line.amount for line in quoted.lines), Decimal(0)) == quoted.total
        assert all(line.amount == line.unit_price * line.quantity for line in quoted.lines)


@given(plausible, st.integers(0, 16))
@settings(max_examples=examples(50, long=2400))
def test_more_seconds_never_cost_less(payload: dict[str, Any], duration: int) -> None:
    """A longer video costs at least as much, with any other settings."""
    shorter = answer({**payload, "duration": duration})
    for longer_by in range(1, 6):
        longer = answer({**payload, "duration": duration + longer_by})
        if not isinstance(shorter, KlingPricingError) and not isinstance(longer, KlingPricingError):
            assert shorter.total <= longer.total


@given(st.one_of(plausible, nearly))
@settings(max_examples=examples(50, long=2400))
def test_quoting_changes_nothing_it_is_given(payload: dict[str, Any]) -> None:
    """The payload is unchanged, whether it was quoted or refused."""
    before = repr(copy.deepcopy(payload))
    answer(payload)
    assert repr(payload) == before


@given(st.one_of(plausible, nearly))
@settings(max_examples=examples(50, long=2400))
def test_check_and_quote_agree(payload: dict[str, Any]) -> None:
    """A request is quoted exactly if `check` finds no violation in it."""
    violations = check(payload, at=AT)
    quoted = answer(payload)
    assert tuple(violations) == getattr(quoted, "violations", ())


@cache
def fields_of(name: str) -> st.SearchStrategy[dict[str, Any]]:
    """Returns payloads with a format's own fields and plausible or odd values, empty lists among them."""
    names = [name for model in bundled_book().matrices[name].models.values() for name in model.names]
    texts = st.sampled_from(
        [*names, "a boat", "", "5", "10", "std", "pro", "on", "off", "720x1280", "1080P", "https://e/x"]
    )
    plain = st.one_of(texts, st.integers(-1, 16), st.booleans(), st.none(), json_values)
    keys = st.sampled_from(
        [
            *(
                "prompt",
                "duration",
                "index",
                "url",
                "image_url",
                "video_url",
                "role",
                "type",
                "mode",
                "enable_audio",
            ),
            *(
                "shot_1_prompt",
                "shot_1_duration",
                "shot_2_prompt",
                "shot_2_duration",
                "resolution",
                "output_config",
            ),
            *(
                "multi_prompt",
                "shot_type",
                "cfg_scale",
                "config",
                "mask_url",
                "trajectories",
                "x",
                "y",
                "scene_type",
            ),
        ]
    )
    nested = st.recursive(
        plain,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4),
        max_leaves=10,
    )
    fields = dict.fromkeys(wire_format(name).FIELDS, nested)
    model = next((field for field in ("model_name", "model") if field in fields), None)
    if model is None:  # the path of the URL names it
        return st.fixed_dictionaries({}, optional=fields)
    del fields[model]
    return st.fixed_dictionaries({model: st.sampled_from(names)}, optional=fields)


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data())
@settings(
    max_examples=examples(24, long=1200),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
def test_any_payload_of_any_format_gives_a_quote_or_an_error_of_ours(name: str, data: st.DataObject) -> None:
    """Any content of a format's fields gives a price above zero or a `KlingPricingError`."""
    payload = data.draw(fields_of(name))
    before = repr(payload)
    submissions = bundled_book().matrices[name].submissions
    url = data.draw(st.sampled_from([None, *(f"https://gw.example{entry.path}" for entry in submissions)]))
    for provider in ("qingbo", "kling", "tencent-vod"):
        try:
            quoted = quote(payload, wire_format=name, provider=provider, url=url, at=AT)
        except KlingPricingError:
            continue
        assert 0 < quoted.minimum <= quoted.maximum
        assert sum((line.amount for line in quoted.lines), Decimal(0)) == quoted.maximum
    assert repr(payload) == before


def read(name: str, payload: dict[str, Any]) -> Any:
    """Returns the parsed payload and the order of its fields, or the error's message."""
    try:
        parsed = wire_format(name).parse(payload)
    except KlingPricingError as error:
        return str(error)
    return parsed, list(parsed.fields)


def reordered(payload: dict[str, Any]) -> dict[str, Any]:
    """Returns the payload with the fields of its nested objects in the opposite order."""
    return {
        field: dict(reversed(value.items())) if isinstance(value, dict) else value
        for field, value in payload.items()
    }


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data())
@settings(
    max_examples=examples(20, long=2000),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
def test_earlier_payloads_do_not_affect_reading(name: str, data: st.DataObject) -> None:
    """A payload reads the same after a similar one was read, although readers cache how they read a payload."""
    payload = data.draw(fields_of(name))
    known = {field: value for field, value in payload.items() if value is not None}
    first = read(name, payload)
    read(name, reordered(payload))
    assert read(name, known) == first
    assert read(name, payload) == first


@pytest.mark.parametrize("name", NAMES)
@given(
    body=st.dictionaries(
        st.sampled_from(["task_id", "id", "status", "cost", "data", "model", "billing"]), json_values
    )
)
@settings(max_examples=examples(20, long=100))
def test_any_response_gives_a_task_or_an_error_of_ours(name: str, body: dict[str, Any]) -> None:
    """Any answer of a provider reads as a task or raises a `KlingPricingError`."""
    try:
        task = wire_format(name).read_task(body)
    except KlingPricingError:
        return
    assert task.state in {None, *STATES}
