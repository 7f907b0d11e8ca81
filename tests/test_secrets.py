"""Web addresses and API keys do not get into a ledger or a report."""

from collections.abc import Callable
from functools import partial
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kling_pricing import KlingPricingError, LedgerUnavailableError
from kling_pricing.display import without_secrets
from kling_pricing.ledger import connect
from kling_pricing.ledger.administration import info, prepare
from kling_pricing.wire.media import facts_of
from tests.conftest import Clock


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


SECRET = "Tr0ub4dor"  # noqa: S105 (not a secret)

MISTYPED = [
    f"postgresql:/user:{SECRET}@host/spend",
    f"postgresql//user:{SECRET}@host/spend",
    f"postgresql:user:{SECRET}@host/spend",
    f"postgresl://user:{SECRET}@host/spend",
    f"PostgreSQL://user:{SECRET}@host/spend",
    f" postgresql://user:{SECRET}@host/spend",
    f"mysql://user:{SECRET}@host/spend",
    f"sqlite://user:{SECRET}@host/spend",
    f"sqlite:///user:{SECRET}@host/spend",
    f"sqlite:///postgresql://user:{SECRET}@host/spend",
    f"user:{SECRET}@host/spend",
    f"host=h user=u password={SECRET}",
    f"postgresql://user:{SECRET}:host/spend",
    f"postgresql://user:{SECRET}@host:port/spend",
    f"postgresql://user:a@{SECRET}@host/spend",
    f"postgresql://user:a/{SECRET}@host/spend",
    f"postgresql://user:a?{SECRET}@host/spend",
    f"postgresql://user:a#{SECRET}@host/spend",
    f"postgresql://user:1/{SECRET}@host/spend",
    f"postgresql://user:1?{SECRET}@host/spend",
    f"postgresql://user:1?x={SECRET}@host/spend",
    f"postgresql://user:%{SECRET}@host/spend",
    f"postgresql://user:a[{SECRET}@host/spend",
    f"postgresql://user {SECRET}@host/spend",
    f"postgresql://user;{SECRET}@host/spend",
    f"postgresql:///user:{SECRET}@host/spend",
    f"postgresql://user:{SECRET}@[::1/spend",
    f"postgresql://user:{SECRET}@::1]/spend",
    f"postgresql://host/spend?{SECRET}",
    f"postgresql://host/spend?passwd={SECRET}",
    f"postgresql://host/spend?{SECRET}=1",
    f"postgresql://host/spend?pool_size=1{SECRET}@x",
    f"postgresql://host/spend#{SECRET}",
]


@pytest.mark.parametrize("use", [lambda url: connect(url, clock=Clock()), info, partial(prepare, create=True)])
@pytest.mark.parametrize("url", MISTYPED)
def test_no_error_about_a_mistyped_ledger_url_repeats_its_password(
    url: str, use: Callable[[str], object]
) -> None:
    """The error says how a URL is written, and nothing was opened or created."""
    with pytest.raises(LedgerUnavailableError) as caught:
        use(url)
    assert SECRET not in str(caught.value)
    assert "://" in str(caught.value) or "option" in str(caught.value) or "whole number" in str(caught.value)


@pytest.mark.parametrize(
    "url", ["postgresql://[::1", "postgresql://]/x", "postgresql://[x]/y", "postgres://a:b:c"]
)
def test_a_url_that_cannot_be_split_is_an_ordinary_error(url: str) -> None:
    """It is no `ValueError` of a parser."""
    with pytest.raises(
        LedgerUnavailableError, match="the ledger's URL is invalid; write it like postgresql://"
    ):
        connect(url, clock=Clock())


@pytest.mark.parametrize("url", [b"postgresql://u:Tr0ub4dor@h/d", ["Tr0ub4dor"], None])
def test_no_error_repeats_an_object_in_place_of_a_url(url: Any) -> None:
    """Bytes and lists may have a password too."""
    with pytest.raises(LedgerUnavailableError) as caught:
        connect(url, clock=Clock())
    assert SECRET not in str(caught.value)


_correct = f"postgresql://user:{SECRET}@db.example.com:5432/spend?sslmode=require"


@given(
    place=st.integers(0, len(_correct)),
    removed=st.integers(0, 2),
    added=st.text(":/@?#[]%& =,;x5", max_size=2),
    scheme=st.sampled_from(["", "sqlite:///", "sqlite:"]),
)
def test_no_slip_of_the_pen_shows_the_password(place: int, removed: int, added: str, scheme: str) -> None:
    """A URL with characters added or left out is refused without its password, or names no password."""
    url = scheme + _correct[:place] + added + _correct[place + removed :]
    try:
        shown = connect(url, clock=Clock()).name
    except LedgerUnavailableError as error:
        shown = str(error)
    assert not {SECRET[start : start + 5] for start in range(len(SECRET) - 4)} & {
        shown[start : start + 5] for start in range(len(shown))
    }


@given(
    password=st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), min_size=1, max_size=12),
    user=st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), max_size=8),
)
def test_an_encoded_url_is_accepted_whatever_its_password(password: str, user: str) -> None:
    """Percent-encoding, as the error tells, is enough."""
    url = f"postgresql://{quote(user, safe='')}:{quote(password, safe='')}@db.example.com/spend"
    assert connect(url, clock=Clock()).name == "spend on db.example.com"


def test_media_facts_do_not_show_what_gives_access_to_a_file() -> None:
    """A signed URL and a user with a password are shown without them."""
    for url in ("https://u:Tr0ub4dor@h.example/a.mp4", "https://h.example/a.mp4?sig=Tr0ub4dor"):
        with pytest.raises(KlingPricingError, match=r"^media facts for https://h\.example/a\.mp4") as caught:
            facts_of(url, {url: {"size": 1}})
        assert SECRET not in str(caught.value)
