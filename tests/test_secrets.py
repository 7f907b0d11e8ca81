"""Web addresses and API keys do not get into a ledger or a report."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kling_pricing.display import without_secrets


@pytest.mark.parametrize(
    ("text", "name", "sentence", "foreign"),
    [
        ("trailer", "trailer", "trailer", "trailer"),
        ("see https://a.example/x?k=1 now", "see [...] now", "see [...] now", "see [...] now"),
        ("see www.a.example", "see [...]", "see [...]", "see [...]"),
        ("sk-abcdefgh12345678", "[...]", "[...]", "[...]"),
        ("Bearer abc", "Bearer abc", "[...]", "[...]"),
        ("key_abcdefghijkl", "key_abcdefghijkl", "[...]", "[...]"),
        ("key_abcdef", "key_abcdef", "key_abcdef", "[...]"),
        ("0123456789abcdef01234567", "0123456789abcdef01234567", "0123456789abcdef01234567", "[...]"),
        ("sk-a-long-project-name", "sk-a-long-project-name", "[...]", "[...]"),
    ],
)
def test_each_kind_of_text_loses_what_looks_like_a_secret_there(
    text: str, name: str, sentence: str, foreign: str
) -> None:
    """A name loses only certain keys, a sentence likely ones, a foreign text also long runs of characters."""
    assert without_secrets(text, "name") == name
    assert without_secrets(text, "sentence") == sentence
    assert without_secrets(text, "foreign") == foreign


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("HTTP 401 key=ab1", "HTTP 401 key=[...]"),
        ("api_key = ab1 is wrong", "api_key = [...] is wrong"),
        ("x-api-key: 12", "x-api-key: [...]"),
        ("sent token=a&user=li", "sent token=[...]&user=li"),
        ("Authorization: Basic dTpw, then", "Authorization: [...], then"),
        ('{"secret": "a b", "model": "x"}', '{"secret": [...], "model": "x"}'),
        ("{'token': 'a'}", "{'token': [...]}"),
        ("password='a b' refused", "password=[...] refused"),
        ("PWD:hunter2", "PWD:[...]"),
        ("?sig=a%2Fb", "?sig=[...]"),
        ("unknown key: colour", "unknown key: colour"),
        ("monkey=3, keyboard: x", "monkey=3, keyboard: x"),
        ("the token has expired", "the token has expired"),
    ],
)
def test_a_value_that_is_called_a_secret_is_replaced_however_short_it_is(text: str, kept: str) -> None:
    """The name stays, so that the reason still says what was wrong."""
    assert without_secrets(text, "foreign") == kept


@given(
    name=st.sampled_from(["key", "api_key", "Api-Key", "token", "access_token", "PASSWORD", "secret", "sig"]),
    value=st.text("0123456789XYZ+/=.-_~", min_size=3, max_size=40).filter(lambda text: text.strip(".=-_~+/")),
    shape=st.sampled_from(["{}={}", "a {}={} b", "?x=1&{}={}&y=2", '"{}": "{}"', "{}='{}'", "({}={})"]),
)
def test_no_named_secret_of_any_length_stays_in_a_reason(name: str, value: str, shape: str) -> None:
    """The ledger keeps reasons for ever."""
    assert value not in without_secrets(shape.format(name, value), "foreign").replace(name, "")
