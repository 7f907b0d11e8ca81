"""Forms: fields are read one by one, and a rewritten form keeps every other byte."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kling_pricing import WireFormatError
from kling_pricing.hooks.bodies import read_body
from kling_pricing.wire.forms import amended_form, form_fields

TYPE = 'multipart/form-data; boundary="b 1"'


def part(name: str, content: bytes, more: str = "") -> bytes:
    """Returns one part of a form, with the boundary before it."""
    return f'--b 1\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'.encode() + content + b"\r\n"


END = b"--b 1--\r\n"
PICTURE = part("input_reference", b"\x00\xff\r\n--b 2\r\n", '; filename="a.png"\r\nContent-Type: image/png')
FORM = b"preamble\r\n" + part("model", b"m") + PICTURE + part("seconds", b"10") + END + b"epilogue"


def test_only_changed_fields_differ() -> None:
    """New fields come last, and all other bytes stay the same, in files, preamble and epilogue too."""
    amended = amended_form(FORM, TYPE, {"seconds": "5", "metadata[output_config][resolution]": "720P"})
    assert amended == (
        b"preamble\r\n"
        + part("model", b"m")
        + PICTURE
        + part("seconds", b"5")
        + part("metadata[output_config][resolution]", b"720P")
        + END
        + b"epilogue"
    )
    assert form_fields(amended, TYPE) == {
        "model": "m",
        "input_reference": "a.png",
        "seconds": "5",
        "metadata[output_config][resolution]": "720P",
    }


def test_a_form_without_changes_keeps_every_byte() -> None:
    """This holds without a preamble, with spaces after a boundary, and with header names in lower case."""
    for body in (FORM, part("a", b"") + END, part("a", b"x").replace(b"b 1\r\n", b"b 1 \t\r\n") + END[:-2]):
        assert amended_form(body, TYPE, {}) == body
        assert form_fields(body.replace(b"Content-D", b"content-d"), TYPE.upper().replace("B 1", "b 1"))


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (part("a", b"x"), "closing boundary is missing"),
        (b"", "closing boundary is missing"),
        (b"--b 1\nContent-Disposition: form-data; name=a\n\nx\n--b 1--", "closing boundary is missing"),
        (b"--b 1x\r\n\r\n\r\n--b 1--", "one of its parts has no headers; add Content-Disposition"),
        (
            b"--b 1\r\nContent-Disposition: form-data; name=a\r\n--b 1--",
            "one of its parts has no headers; add Content-Disposition",
        ),
        (
            part("a", b"eA==", "\r\nContent-Transfer-Encoding: base64") + END,
            "'a' has a Content-Transfer-Encoding; send the value without it",
        ),
        (
            b"--b 1\r\nX: y\r\n\r\nx\r\n--b 1--",
            "a part of the form has no name; add it to the part's Content-Disposition",
        ),
    ],
)
def test_a_malformed_form_is_refused(body: bytes, problem: str) -> None:
    """A form that could be read in two ways is not read at all."""
    with pytest.raises(WireFormatError, match=problem):
        form_fields(body, TYPE)


@given(st.binary(max_size=300), st.text(max_size=40))
def test_any_bytes_are_a_form_or_a_wire_format_error(body: bytes, boundary: str) -> None:
    """No other exception is raised."""
    for content in (body, b"--b 1\r\n" + body + b"\r\n--b 1--"):
        for content_type in (TYPE, f"multipart/form-data; boundary={boundary}"):
            try:
                fields = form_fields(content, content_type)
            except WireFormatError:
                continue
            assert amended_form(content, content_type, {}) == content
            assert all(isinstance(text, str) for text in fields.values())


@given(st.dictionaries(st.from_regex(r"[a-z]{1,8}(\[[a-z]{1,8}\])?", fullmatch=True), st.text(max_size=30)))
def test_texts_survive_a_round_trip(fields: dict[str, str]) -> None:
    """Any text without the boundary is read back unchanged."""
    body = amended_form(part("first", b"x") + END, TYPE, {"first": "1", **fields})
    assert form_fields(body, TYPE) == {"first": "1", **fields}


def test_nested_fields_are_written_flat() -> None:
    """A new nested setting gets a key such as `metadata[output_config][resolution]`."""
    form = read_body(part("model", b"m") + part("seconds", b"10") + END, {"content-type": TYPE})
    changed = form.written(
        {**form.payload, "seconds": "5", "duration": 5, "metadata": {"output_config": {"resolution": "720p"}}}
    )
    assert changed is not None
    assert form_fields(changed, TYPE) == {
        "model": "m",
        "seconds": "5",
        "duration": "5",
        "metadata[output_config][resolution]": "720p",
    }
    assert form.written(dict(form.payload)) is None
