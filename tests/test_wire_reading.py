"""Readers of fields: what they remember is never seen."""

from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from itertools import permutations
from typing import Any

import pytest

from kling_pricing import WireFormatError
from kling_pricing.wire.fields import AllowedWords, Field, decimal, number
from kling_pricing.wire.reader import MAX_SHAPES, PayloadReader

FIELDS = {
    "model": Field("model", str),
    "prompt": Field("prompt", str),
    "ratio": Field("aspect_ratio", str, stated="aspect_ratio_stated"),
    "seconds": Field("duration_s", int),
    "mode": Field("resolution", str, AllowedWords("std", "pro"), {"std": "720p", "pro": "1080p"}.get),
    "audio": Field("audio", bool),
    "extra": Field(
        "extra",
        dict,
        inside={"cfg_scale": Field("cfg_scale", object, number, decimal), "seconds": Field("duration_s", int)},
    ),
}
PAYLOAD = {"model": "m", "prompt": "a boat", "ratio": "1:1", "seconds": 5, "mode": "pro", "audio": True}


def reader() -> PayloadReader:
    """A reader that has read nothing yet."""
    return PayloadReader(FIELDS, "tests", special=["cfg_scale"])


def test_a_payload_says_the_same_the_first_time_and_later() -> None:
    """Its values are read, and each input has the field that says it."""
    fields = reader()
    for _ in range(3):
        values, said, special = fields.read(PAYLOAD, allow_unknown=False)
        assert values == {
            "model": "m",
            "prompt": "a boat",
            "aspect_ratio": "1:1",
            "aspect_ratio_stated": True,
            "duration_s": 5,
            "resolution": "1080p",
            "audio": True,
        }
        assert [*said.items()] == [
            *(("model", "model"), ("prompt", "prompt"), ("aspect_ratio", "ratio"), ("duration_s", "seconds")),
            *(("resolution", "mode"), ("audio", "audio")),
        ]
        assert not special


def test_what_is_read_is_the_callers_own() -> None:
    """Changing an answer changes no later one."""
    fields = reader()
    for _ in range(3):
        values, said, _ = fields.read(PAYLOAD, allow_unknown=False)
        assert (values.pop("model"), said.pop("model")) == ("m", "model")


@pytest.mark.parametrize("extra", [{"cfg_scale": 0.5, "seconds": 7}, {"seconds": 7, "cfg_scale": 0.5}])
@pytest.mark.parametrize("read_before", [{}, {"cfg_scale": 1, "seconds": 1}, {"seconds": 1, "cfg_scale": 1}])
def test_of_several_places_the_first_in_the_list_counts(
    extra: dict[str, Any], read_before: dict[str, Any]
) -> None:
    """The others are told by their paths, whatever the order in the payload and whatever was read before."""
    fields = reader()
    fields.read({"extra": read_before, "seconds": 5}, allow_unknown=False)
    values, said, special = fields.read({"extra": extra, "seconds": 5}, allow_unknown=False)
    assert values == {"cfg_scale": Decimal("0.5"), "duration_s": 5, "extra.seconds": 7}
    assert [*said.items()] == [("cfg_scale", "extra.cfg_scale"), ("duration_s", "seconds")]
    assert special


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"mode": "4k"}, "mode must be std or pro, got '4k'"),
        ({"seconds": True}, "seconds must be a whole number, got true"),
        ({"extra": {"cfg_scale": "1"}}, "extra.cfg_scale must be a number, got '1'"),
        ({"extra": 1}, "extra must be an object, got 1"),
        ({"extra": {"cfg_scal": 1}}, "unknown field 'extra.cfg_scal'; did you mean 'cfg_scale'?"),
    ],
)
def test_what_is_wrong_is_told_however_often_its_like_was_read(wrong: dict[str, Any], message: str) -> None:
    """A function that reads good payloads of some fields does not hide what is wrong with a bad one."""
    fields = reader()
    fields.read({**PAYLOAD, "extra": {"cfg_scale": 1}}, allow_unknown=False)
    fields.read(PAYLOAD, allow_unknown=False)
    for _ in range(3):
        with pytest.raises(WireFormatError) as caught:
            fields.read({**PAYLOAD, **wrong}, allow_unknown=False)
        assert str(caught.value) == message


def test_null_is_the_same_as_left_out() -> None:
    """At the top and inside an object."""
    fields = reader()
    for _ in range(3):
        values, said, _ = fields.read(
            {"model": "m", "audio": None, "extra": {"seconds": None}}, allow_unknown=False
        )
        assert (values, said) == ({"model": "m"}, {"model": "model"})


def test_many_threads_and_more_shapes_than_are_kept() -> None:
    """Each payload is read as it is, in the order of its fields."""
    payloads = [dict(entries) for entries in permutations(PAYLOAD.items())]
    assert len(payloads) > 2 * MAX_SHAPES
    fields = reader()
    names = {place: field.name for place, field in FIELDS.items()}

    def inputs(payload: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
        values, said, _ = fields.read(payload, allow_unknown=False)
        return values, [*said]

    expected, _ = inputs(PAYLOAD)
    with ThreadPoolExecutor(8) as threads:
        answers = [*threads.map(inputs, payloads * 3)]
    for payload, (values, said) in zip(payloads * 3, answers, strict=True):
        assert values == expected
        assert said == [names[place] for place in payload]
