"""Compiled reading functions: they give the same results as reading field by field."""

from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from itertools import permutations
from typing import Any

import pytest

from kling_pricing import WireFormatError
from kling_pricing.wire.fields import AllowedWords, Field, decimal, number, unknown_field
from kling_pricing.wire.formats import NAMES, wire_format
from kling_pricing.wire.meanings import leaf_fields, meanings, related
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


def new_reader() -> PayloadReader:
    """Returns a reader that has not compiled anything yet."""
    return PayloadReader(FIELDS, "tests", special=["cfg_scale"])


def test_a_payload_reads_the_same_every_time() -> None:
    """The first read and the compiled ones give the same values, and the same field for each input."""
    reader = new_reader()
    for _ in range(3):
        values, paths, special = reader.read(PAYLOAD, allow_unknown=False)
        assert values == {
            "model": "m",
            "prompt": "a boat",
            "aspect_ratio": "1:1",
            "aspect_ratio_stated": True,
            "duration_s": 5,
            "resolution": "1080p",
            "audio": True,
        }
        assert [*paths.items()] == [
            *(("model", "model"), ("prompt", "prompt"), ("aspect_ratio", "ratio"), ("duration_s", "seconds")),
            *(("resolution", "mode"), ("audio", "audio")),
        ]
        assert not special


def test_a_result_belongs_to_the_caller() -> None:
    """Changing a result does not change later ones."""
    reader = new_reader()
    for _ in range(3):
        values, paths, _ = reader.read(PAYLOAD, allow_unknown=False)
        assert (values.pop("model"), paths.pop("model")) == ("m", "model")


@pytest.mark.parametrize("extra", [{"cfg_scale": 0.5, "seconds": 7}, {"seconds": 7, "cfg_scale": 0.5}])
@pytest.mark.parametrize("read_before", [{}, {"cfg_scale": 1, "seconds": 1}, {"seconds": 1, "cfg_scale": 1}])
def test_of_several_fields_for_an_input_the_first_listed_counts(
    extra: dict[str, Any], read_before: dict[str, Any]
) -> None:
    """The others are under their paths, whatever the order in the payload and in earlier payloads."""
    reader = new_reader()
    reader.read({"extra": read_before, "seconds": 5}, allow_unknown=False)
    values, paths, special = reader.read({"extra": extra, "seconds": 5}, allow_unknown=False)
    assert values == {"cfg_scale": Decimal("0.5"), "duration_s": 5, "extra.seconds": 7}
    assert [*paths.items()] == [("cfg_scale", "extra.cfg_scale"), ("duration_s", "seconds")]
    assert special


@pytest.mark.parametrize(
    ("invalid", "message"),
    [
        ({"mode": "4k"}, "mode must be std or pro, got '4k'"),
        ({"seconds": True}, "seconds must be a whole number, got true"),
        ({"extra": {"cfg_scale": "1"}}, "extra.cfg_scale must be a number, got '1'"),
        ({"extra": 1}, "extra must be an object, got 1"),
        ({"extra": {"cfg_scal": 1}}, "unknown field 'extra.cfg_scal'; did you mean 'cfg_scale'?"),
    ],
)
def test_an_invalid_value_is_reported_despite_a_compiled_function(
    invalid: dict[str, Any], message: str
) -> None:
    """A function compiled for a valid payload does not hide the violations of an invalid one."""
    reader = new_reader()
    reader.read({**PAYLOAD, "extra": {"cfg_scale": 1}}, allow_unknown=False)
    reader.read(PAYLOAD, allow_unknown=False)
    for _ in range(3):
        with pytest.raises(WireFormatError) as caught:
            reader.read({**PAYLOAD, **invalid}, allow_unknown=False)
        assert str(caught.value) == message


def test_null_counts_as_left_out() -> None:
    """This holds at the top level and inside an object."""
    reader = new_reader()
    for _ in range(3):
        values, paths, _ = reader.read(
            {"model": "m", "audio": None, "extra": {"seconds": None}}, allow_unknown=False
        )
        assert (values, paths) == ({"model": "m"}, {"model": "model"})


def test_threads_read_more_shapes_than_the_reader_keeps() -> None:
    """Each result has the values of its own payload, in the order of its fields."""
    payloads = [dict(entries) for entries in permutations(PAYLOAD.items())]
    assert len(payloads) > 2 * MAX_SHAPES
    reader = new_reader()
    names = {key: field.name for key, field in FIELDS.items()}

    def inputs(payload: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
        values, paths, _ = reader.read(payload, allow_unknown=False)
        return values, [*paths]

    expected, _ = inputs(PAYLOAD)
    with ThreadPoolExecutor(8) as threads:
        answers = [*threads.map(inputs, payloads * 3)]
    for payload, (values, inputs_given) in zip(payloads * 3, answers, strict=True):
        assert values == expected
        assert inputs_given == [names[field] for field in payload]


@pytest.mark.parametrize("name", [name for name in NAMES if len(wire_format(name).FIELDS) > 5])
def test_a_hint_is_never_a_field_of_another_meaning(name: str) -> None:
    """The hint for a field of another API is a field that gives the same input."""
    fields = wire_format(name).FIELDS
    inputs_given = {".".join(path): field.name for path, field in leaf_fields(fields)}
    hints = 0
    for word, inputs in meanings().items():
        if word in fields:
            continue
        _, _, hint = unknown_field(word, 1, fields).message.partition("did you mean '")
        if hint:
            assert inputs_given[hint.removesuffix("'?")] in related(inputs), word
            hints += 1
    assert hints > 5


@pytest.mark.parametrize(
    ("name", "word", "advice"),
    [
        ("kling", "modell", "did you mean 'model'?"),
        ("kling", "modelname", "did you mean 'model_name'?"),
        ("kling", "resoluton", "did you mean 'mode'?"),
        ("kling", "generate_audio", "did you mean 'sound'?"),
        ("tasks", "model_name", "did you mean 'model'?"),
        ("tasks", "mode", "did you mean 'resolution'?"),
        ("tasks", "ratio", "did you mean 'aspect_ratio'?"),
        ("kling", "start_image_url", "did you mean 'image'?"),
        ("kling", "end_image_url", "did you mean 'image_tail'?"),
        ("kling", "video", "did you mean 'video_list'?"),
        ("tasks_v2", "end_image_url", "did you mean 'last_frame_image'?"),
        ("kling_services", "model", "use one of: prompt, text, mode, "),
        ("kling", "start_time", "use one of: model_name, "),
        ("kling", "first_frame_url", "did you mean 'image'?"),
        ("kling_v2", "duration", "did you mean 'settings.duration'?"),
        ("kling_v2", "mode", "did you mean 'settings.resolution'?"),
        ("kling_v2", "sound", "did you mean 'settings.audio'?"),
        ("kling_v2", "callback_url", "did you mean 'options.callback_url'?"),
        ("kling_v2", "cfg_scale", "use one of: prompt, contents, settings, options"),
        ("tasks_extra", "enable_audio", "did you mean 'extra.enable_audio'?"),
    ],
)
def test_a_hint_follows_the_meaning_of_the_name(name: str, word: str, advice: str) -> None:
    """`model` is not a misspelled `mode`, although the two look alike."""
    message = unknown_field(word, 1, wire_format(name).FIELDS).message
    assert message.startswith(f"unknown field '{word}'; {advice}")
