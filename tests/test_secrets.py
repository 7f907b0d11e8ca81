"""Web addresses and API keys do not get into a ledger or a report."""

import pytest

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
