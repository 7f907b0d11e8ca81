"""Hooks take facts about files, so that a reservation need not cover the longest video."""

import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from kling_pricing import Budget, BudgetGuard, KlingPricingError, PriceBook
from kling_pricing.wire.media import MediaFacts
from tests.conftest import Clock
from tests.hook_clients import CLIENTS
from tests.providers import Provider, running

HEADER = "X-Kling-Pricing-Media"
IMAGE = "https://m.example/a.png"
DANCE = "https://m.example/dance.mp4"
JOB = {
    "model_name": "kling-v3",
    "image_url": IMAGE,
    "video_url": DANCE,
    "character_orientation": "video",
    "mode": "pro",
}
BODY = json.dumps(JOB).encode()
FIVE_SECONDS = Decimal("0.84")
LONGEST = Decimal("5.04")
EXPECTED = 'write a JSON object such as {"https://example.com/dance.mp4": {"length_s": 5}}'
NOT_JSON = "Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"


@pytest.fixture
def official() -> Iterator[Provider]:
    """The official API."""
    with running("kling") as started:
        yield started


@pytest.fixture
def guard(tmp_path: Path, book: PriceBook, clock: Clock) -> Iterator[BudgetGuard]:
    """A guard with 10 USD."""
    budgets = [Budget(name="all", cap=10, currency="USD")]
    with BudgetGuard(f"sqlite:///{tmp_path}/spend.db", budgets, book=book, clock=clock) as opened:
        yield opened
        opened.verify()


def submit(
    guard: BudgetGuard, official: Provider, name: str = "httpx", header: str | None = None, **options: Any
) -> None:
    """Submits a motion control job through a guarded client."""
    client = CLIENTS[name](guard, project="p", hosts={official.host: "kling"}, **options)
    headers = {"Content-Type": "application/json"} | ({} if header is None else {HEADER: header})
    try:
        client.send("POST", f"{official.url}/v1/videos/motion-control", body=BODY, headers=headers)
    finally:
        client.close()


@pytest.mark.parametrize(
    ("options", "header", "reserved"),
    [
        ({}, None, LONGEST),
        ({"media": {DANCE: {"length_s": 5}}}, None, FIVE_SECONDS),
        ({"media": {DANCE: MediaFacts(length_s=Decimal("5.2"))}}, None, FIVE_SECONDS),
        ({"media": {"https://m.example/other.mp4": {"length_s": 5}}}, None, LONGEST),
        ({"media": lambda url: {"length_s": 5} if url == DANCE else None}, None, FIVE_SECONDS),
        ({"media": lambda _: None}, None, LONGEST),
        ({}, json.dumps({DANCE: {"length_s": "5.4"}}), FIVE_SECONDS),
        ({}, f'{{"{DANCE}": {{"length_s": 5.4}}}}', FIVE_SECONDS),
        ({"media": {DANCE: {"length_s": 9}}}, json.dumps({DANCE: {"length_s": 5}}), FIVE_SECONDS),
        ({"media": {DANCE: {"length_s": 5}}}, "{}", FIVE_SECONDS),
    ],
)
def test_the_length_of_a_video_decides_what_is_reserved(
    guard: BudgetGuard, official: Provider, options: dict[str, Any], header: str | None, reserved: Decimal
) -> None:
    """An option or a header gives the length; the header of a request overrides the option."""
    submit(guard, official, header=header, **options)
    assert [reservation.reserved for reservation in guard.history()] == [reserved]


@pytest.mark.parametrize("name", CLIENTS)
def test_the_header_is_not_sent(name: str, guard: BudgetGuard, official: Provider) -> None:
    """Only the hook reads it; three jobs of five seconds fit where one of unknown length would take half."""
    for _ in range(3):
        submit(guard, official, name, json.dumps({DANCE: {"length_s": 5}}))
    assert [reservation.reserved for reservation in guard.history()] == [FIVE_SECONDS] * 3
    assert [request.headers.get(HEADER) for request in official.submissions] == [None] * 3


@pytest.mark.parametrize(
    ("options", "header", "message"),
    [
        (
            {},
            "[5]",
            f"x-kling-pricing-media: got a list; {EXPECTED}",
        ),
        (
            {},
            "{",
            f"x-kling-pricing-media: not JSON: {NOT_JSON}; {EXPECTED}",
        ),
        (
            {},
            json.dumps({DANCE: {"length": 5}}),
            f"media facts for {DANCE}: unknown key length; did you mean 'length_s'?",
        ),
        (
            {"media": lambda _: 5},
            None,
            (
                f"media facts for {IMAGE}: must be a mapping with one or more of the keys size_bytes, type and "
                "length_s; got a number"
            ),
        ),
    ],
)
def test_facts_that_cannot_be_read_refuse_the_request(
    guard: BudgetGuard, official: Provider, options: dict[str, Any], header: str | None, message: str
) -> None:
    """The error names the header or the URL, and nothing is sent."""
    with pytest.raises(KlingPricingError) as caught:
        submit(guard, official, header=header, **options)
    assert str(caught.value) == message
    assert (official.received, guard.history()) == ([], [])
