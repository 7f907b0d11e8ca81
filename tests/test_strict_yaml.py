"""YAML that means what it looks like."""

import string
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kling_pricing.errors import TableError
from kling_pricing.strict_yaml import MAX_BYTES, FileModel, load, read
from tests.conftest import examples


class Shelf(FileModel):
    """A model for these tests."""

    name: str
    width: int = 1
    sound: bool = False


def tree(text: str) -> Any:
    """Returns the tree of a document."""
    return load(text.encode(), name="f.yaml").tree


def refusal(data: str | bytes) -> TableError:
    """Returns the error with which loading a document fails."""
    with pytest.raises(TableError) as caught:
        load(data if isinstance(data, bytes) else data.encode(), name="f.yaml")
    return caught.value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.0714", Decimal("0.0714")),
        ("0.10", Decimal("0.10")),
        ("-1.5", Decimal("-1.5")),
        ("5", 5),
        ("true", True),
        ("false", False),
        ("null", None),
        ("~", None),
        ("", None),
    ],
)
def test_plain_values_are_what_they_look_like(text: str, value: Any) -> None:
    """Numbers are exact, and true, false and null are the only words with a special meaning."""
    got = tree(f"key: {text}")["key"]
    assert (got, type(got), str(got)) == (value, type(value), str(value))


@pytest.mark.parametrize(
    "text",
    ["010", "1:30", "no", "yes", "on", "Off", "1e3", "0x1f", "1_000", ".5", ".inf", ".nan", "2026-04-29", "<<"],
)
def test_what_yaml_would_reinterpret_stays_text(text: str) -> None:
    """No value silently becomes a number, a boolean, a date or a merge."""
    assert tree(f"key: {text}") == {"key": text}


@pytest.mark.parametrize("text", ['"5"', "'true'", '"0.5"', "'null'"])
def test_a_value_in_quotes_is_text(text: str) -> None:
    """Quotes turn any value into text."""
    assert tree(f"key: {text}") == {"key": text[1:-1]}


@pytest.mark.parametrize(
    ("text", "line", "key_path", "remedy"),
    [
        ("a: 1\nb: 2\na: 3", 3, "a", "duplicate key; the first one is on line 1"),
        ("top:\n  x: {k: 1, k: 2}", 2, "top.x.k", "duplicate key"),
        ("a: &one 1", 1, "a", "anchors (&name) are not supported; repeat the value where it is used"),
        ("a: 1\nb: *one", 2, "b", "aliases (*name) are not supported; write the value itself"),
        ("a: [1, !!int 2]", 1, "a[1]", "tags are not supported; remove tag:yaml.org,2002:int"),
        ("a: !thing {}", 1, "a", "tags are not supported; remove !thing"),
        ("%YAML 1.1\n---\na: 1", 1, "", "directives"),
        ("a: 1\n---\nb: 2", 2, "", "second document"),
        ("720: 1", 1, "", "a key must be text"),
        ("true: 1", 1, "", "a key must be text"),
        ("? [a]\n: 1", 1, "", "a key must be text"),
        ("&k a: 1", 1, "", "a key must be text"),
        ("a: [1", 1, "", "not YAML"),
        ("{\n", 1, "", "not YAML"),
        ("budgets: []\nname", 2, "", "not YAML"),
        ("budgets: []\n\n  name\n", 3, "", "not YAML"),
        ("a: 1\n\tb: 2", 2, "", "not YAML"),
        ("a: 1\nb: \x07", 2, "", "invisible character U+0007; remove it"),
        ("a: 1 # x\u2028b: 2", 1, "", "invisible character U+2028; remove it"),
        ("a: 1 # x\rb: 2", 1, "", "invisible character U+000D; remove it"),
        ("a: \u202e1", 1, "", "invisible character U+202E; remove it"),
    ],
)
def test_each_refusal_names_the_place_and_the_remedy(
    text: str, line: int | None, key_path: str, remedy: str
) -> None:
    """The error's attributes and its message contain file, line, key path and remedy."""
    error = refusal(text)
    assert (error.file, error.line, error.key_path) == ("f.yaml", line, key_path)
    assert remedy in error.problem
    assert str(error).startswith("f.yaml" if line is None else f"f.yaml:{line}: ")


def test_bytes_that_are_not_utf8_are_located() -> None:
    """The error names the line of a byte in another encoding."""
    error = refusal(b"a: 1\nb: caf\xe9\n")
    assert (error.line, error.problem) == (2, "not UTF-8 text; save the file as UTF-8")


def test_a_byte_order_mark_is_not_part_of_the_first_key() -> None:
    """Files from editors that write one are read like any other."""
    assert load(b"\xef\xbb\xbfa: 1", name="f.yaml").tree == {"a": 1}


@pytest.mark.parametrize("bracket", ["[", "{a: "])
def test_deep_nesting_is_refused_before_anything_is_built(bracket: str) -> None:
    """A hundred thousand levels, which crash YAML's C constructor, cause an ordinary error."""
    assert "nested deeper than 32" in refusal(bracket * 100_000).problem


def test_nesting_is_allowed_up_to_its_limit() -> None:
    """Thirty-two levels are allowed, thirty-three are not."""
    assert tree("[" * 32 + "]" * 32) is not None
    assert "nested deeper" in refusal("[" * 33 + "]" * 33).problem


def test_a_file_larger_than_its_limit_is_refused_unread() -> None:
    """The limit is exact: one more byte is refused."""
    comment = b"#" * (MAX_BYTES - 4)
    assert load(b"a: 1" + comment, name="f.yaml").tree == {"a": "1" + comment.decode()}
    assert "larger than" in refusal(b"a: 11" + comment).problem


@pytest.mark.parametrize(
    ("text", "line", "key_path", "remedy"),
    [
        ("", None, "", "the file is empty"),
        ("name: a\nwidht: 2", 2, "widht", "did you mean 'width'?"),
        ("name: a\nzzz: 2", 2, "zzz", "use one of: name, width, sound"),
        ("width: 2", 1, "name", "required"),
        ("name: a\nwidth: 010", 2, "width", "must be a whole number, got '010'"),
        ("name: a\nwidth: true", 2, "width", "must be a whole number, got true"),
        ("name: a\nsound: no", 2, "sound", "must be true or false, got 'no'"),
        ("name: 5", 1, "name", "must be text, got 5; put it in quotation marks"),
        ("- a", 1, "", "must be a map of keys and values"),
        ("zzz: 1\nwidth: x", 1, "zzz", "unknown key"),
    ],
)
def test_a_model_reports_the_first_problem(text: str, line: int | None, key_path: str, remedy: str) -> None:
    """A document that is YAML but does not match its model causes an error with its place."""
    with pytest.raises(TableError) as caught:
        read(text.encode(), Shelf, name="f.yaml")
    error = caught.value
    assert (error.line, error.key_path) == (line, key_path)
    assert remedy in error.problem


def test_a_valid_file_is_read_into_its_model() -> None:
    """The fields have the values in the file, and otherwise their defaults."""
    shelf, document = read(b"name: a\nwidth: 2\n", Shelf, name="f.yaml")
    assert shelf == Shelf(name="a", width=2)
    assert document.error(("width", "x"), "p").line == 2


@given(st.one_of(st.binary(max_size=200), st.text(alphabet=string.printable, max_size=200).map(str.encode)))
def test_any_bytes_give_a_tree_or_a_table_error(data: bytes) -> None:
    """No input makes the reader fail in any other way."""
    try:
        load(data, name="f.yaml")
    except TableError as error:
        assert error.file == "f.yaml"


_tokens = st.sampled_from(
    [
        *(
            "budgets: []",
            "name: a",
            "a",
            "b:",
            "- ",
            "? ",
            ": ",
            "[",
            "]",
            "{",
            "}",
            ",",
            "#",
            "'",
            '"',
            "|",
            ">",
        ),
        *(
            "\n",
            "\n  ",
            "\n\n",
            "\r\n",
            "\t",
            " ",
            "&a ",
            "*a",
            "!!int ",
            "%YAML 1.1",
            "---",
            "...",
            "@",
            "`",
            "\x85",
        ),
        *("\u2028", "\ufeff", "\x00", "é", "\U0001f600", "0.1", "~", "<<", "\\", "%"),
    ]
)


@settings(max_examples=examples(400))
@given(
    st.one_of(st.lists(_tokens, max_size=12).map("".join), st.text()), st.binary(max_size=3), st.integers(0, 99)
)
def test_any_text_is_read_or_refused_with_its_place(text: str, noise: bytes, place: int) -> None:
    """No other error than a `TableError` leaves the reader, and its line exists in the file."""
    whole = text.encode("utf-8", "surrogatepass")
    place %= len(whole) + 1
    for data in (whole, whole[:place] + noise + whole[place:], whole[:place]):
        try:
            load(data, name="f.yaml")
        except TableError as error:
            assert error.file == "f.yaml"
            assert error.problem
            assert error.line is None or 1 <= error.line <= data.count(b"\n") + data.count(b"\xc2\x85") + 1


@settings(max_examples=examples(100))
@given(
    line=st.text("abc :-[]{}'\"&*%@|>?!,#", max_size=12),
    before=st.sampled_from(["budgets: []\n", "name: a\n", ""]),
)
def test_a_last_line_that_is_no_yaml_is_an_ordinary_error(line: str, before: str) -> None:
    """A model's file may end in any line."""
    for text in (before + line, before + line + "\n"):
        try:
            read(text.encode(), Shelf, name="f.yaml")
        except TableError as error:
            assert error.line is None or error.line <= max(1, len(text.splitlines()))
