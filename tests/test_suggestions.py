"""Suggestions: the nearest valid requests to a request that the API would refuse."""

from itertools import product
from typing import Any

import pytest

from kling_pricing import CapabilityError, PriceNotFoundError, check, quote
from tests.conftest import AT, video


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (video("kling-v2.6", duration=7), [{"duration": 5}, {"duration": 10}]),
        (video("kling-v2.6", duration=8), [{"duration": 10}, {"duration": 5}]),
        (video("kling-v3", duration=2), [{"duration": 3}, {"duration": 4}, {"duration": 5}]),
        (video("kling-v3", duration=40), [{"duration": 15}, {"duration": 14}, {"duration": 13}]),
        (video("kling-v2.6", audio=True), [{"resolution": "1080p"}, {"audio": False}]),
        (
            video("kling-v2.6", audio=True, duration=9),
            [
                {"duration": 10, "resolution": "1080p"},
                {"duration": 5, "resolution": "1080p"},
                {"duration": 10, "audio": False},
            ],
        ),
        (video("kling-video-o1", audio=True), [{"audio": None}]),
        (
            video("kling-video-o1", audio=True, duration=4),
            [{"audio": None, "duration": 5}, {"audio": None, "duration": 10}],
        ),
        (video("kling-v3-omni", audio=True, video_urls=["v"]), [{"audio": False}]),
        (
            video("kling-video-o1", action="reference", video_urls=["v"], image_urls=["a"]),
            [
                {"action": "reference_video"},
                {"action": "generate"},
            ],
        ),
        (video("kling-v3", prompt="x" * 2501), []),
        (video("kling-v3", prompt=None), []),
    ],
)
def test_the_smallest_changes_come_first(payload: dict[str, Any], expected: list[dict[str, Any]]) -> None:
    """The fewest changes and the nearest values come first; a request that needs new material has none."""
    with pytest.raises(CapabilityError) as caught:
        quote(payload, at=AT)
    assert list(caught.value.suggestions) == expected


def test_every_suggestion_is_valid() -> None:
    """Every suggestion for every refused request of a grid makes a request that the API accepts."""
    models = ("kling-video-o1", "kling-v3-omni", "kling-v3", "kling-v2.6")
    followed = 0
    for model, duration, resolution, audio in product(
        models, (0, 4, 7, 16), ("720p", "4k", "8k"), (None, False, True)
    ):
        payload = video(model, duration=duration, resolution=resolution, audio=audio)
        try:
            quote(payload, at=AT)
        except CapabilityError as error:
            assert error.suggestions
            for suggestion in error.suggestions:
                assert check({**payload, **suggestion}, at=AT) == []
                followed += 1
        except PriceNotFoundError:
            assert check(payload, at=AT) == []
    assert followed > 100


def test_suggestions_that_have_a_price_are_preferred() -> None:
    """Among equally small changes the priced ones are suggested; if none is priced, all are."""
    silent = video("kling-v3-omni", resolution="8k")
    with pytest.raises(CapabilityError) as caught:
        quote(silent, at=AT)
    assert caught.value.suggestions == ({"resolution": "720p"}, {"resolution": "1080p"}, {"resolution": "4k"})
    with_audio = {**silent, "audio": True}  # at 4k it has no price
    with pytest.raises(CapabilityError) as caught:
        quote(with_audio, at=AT)
    assert caught.value.suggestions == ({"resolution": "720p"}, {"resolution": "1080p"})
    with pytest.raises(CapabilityError) as caught:
        quote(with_audio, provider="tencent-vod", wire_format="tasks", at=AT)
    assert {"resolution": "4k"} not in caught.value.suggestions
    unpriced = {"model": "kling-v1", "prompt": "a boat", "duration": 7, "extra": {}}
    with pytest.raises(CapabilityError) as caught:
        quote(unpriced, at=AT)
    assert caught.value.suggestions == ({"duration": 5}, {"duration": 10})
