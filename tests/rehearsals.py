"""A guarded client of a sandbox, and jobs for every API, for tests that compare a ledger with the bill."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from kling_pricing import Budget, BudgetGuard, KlingPricingError, PriceBook
from kling_pricing.hooks.httpx import GuardedTransport
from kling_pricing.hooks.recovery import poll
from kling_pricing.money import sum_of
from kling_pricing.sandbox import Sandbox
from tests.conftest import AT, Clock
from tests.providers import shared_sandbox

CURRENCY = {"octopusx": "CNY", "tencent-vod": "CNY"}
PRICED_BY = {"octopusx": "tencent-vod", "uniall": "kling"}
VIDEO = "https://media.example/clip.mp4"
PATIENCE_S = 10
RUN_S = 1000
"""A time in which every job of a scenario ends."""

SCENARIO: dict[str, Any] = {"speed": 0, "start": "2026-11-21T00:00:00Z", "queue_s": 1, "run_s": 5}


class Rehearsed(NamedTuple):
    """A guarded client of a sandbox."""

    sandbox: Sandbox
    guard: BudgetGuard
    client: httpx.Client
    provider: str

    def submit(self, path: str, payload: dict[str, Any], **headers: str) -> httpx.Response | None:
        """Submits a job and returns the response; None: there was no response, or the guard refused the job."""
        with suppress(httpx.TransportError, KlingPricingError):
            return self.client.post(f"{self.sandbox.url(self.provider)}{path}", json=payload, headers=headers)
        return None

    def settle(self) -> None:
        """Advances the clock until every job ends, and sends a status request for each unsettled job."""
        self.sandbox.advance(seconds=RUN_S)

        def fetch(url: str) -> tuple[int, bytes]:
            response = httpx.get(url, timeout=PATIENCE_S)
            return response.status_code, response.content

        for _ in poll(self.guard, fetch, base_url=self.sandbox.url(self.provider)):
            pass

    @property
    def spent(self) -> Decimal:
        """The sum of the settled amounts in the ledger."""
        return sum_of(entry.billed for entry in self.guard.history() if entry.billed is not None)

    @property
    def open(self) -> list[str]:
        """The reservations that are visibly unfinished."""
        failed = {
            task["id"] for task in self.sandbox.tasks(self.provider) if task["state"] in {"failed", "cancelled"}
        }
        return [
            entry.id
            for entry in self.guard.history()
            if entry.in_doubt
            or entry.state in {"dispatching", "bound"}
            or (entry.basis == "quote" and entry.task_id in failed)  # settled until the refund is confirmed
        ]

    @property
    def billed(self) -> Decimal:
        """The sandbox's bill."""
        return self.sandbox.bill(self.provider).get(CURRENCY.get(self.provider, "USD"), Decimal(0))


def with_currency(book: PriceBook) -> PriceBook:
    """Returns a price book in which the customer has set the currency of the sandbox account to USD."""
    tables = {
        name: tuple(
            replace(table, account_currencies={"": "USD"}) if table.units else table for table in provided
        )
        for name, provided in book.tables.items()
    }
    return PriceBook({**book.tables, **tables}, book.matrices, book.contracts, book.unpriced)


@contextmanager
def rehearsing(
    provider: str,
    folder: Path,
    book: PriceBook,
    scenario: dict[str, Any] | None = None,
    guard_book: PriceBook | None = None,
    clock: Clock | None = None,
) -> Iterator[Rehearsed]:
    """Runs a sandbox, a guard with one large budget, and a guarded client."""
    currency = CURRENCY.get(provider, "USD")
    with shared_sandbox(SCENARIO | (scenario or {}), book) as sandbox:
        budget = Budget(name="all", cap=Decimal(10_000), currency=currency)
        with BudgetGuard(
            f"sqlite:///{folder}/spend.db",
            [budget],
            book=guard_book or with_currency(book),
            clock=clock or Clock(AT),
        ) as guard:
            transport = GuardedTransport(
                httpx.HTTPTransport(),
                guard,
                project="trailer",
                hosts={sandbox.host: PRICED_BY.get(provider, provider)},
                sends_once=True,
                media={VIDEO: {"length_s": 5}},
            )
            with httpx.Client(transport=transport, timeout=PATIENCE_S) as client:
                yield Rehearsed(sandbox, guard, client, provider)
            guard.verify()


OFFICIAL = "/v1/videos/text2video"
JOBS: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "qingbo": [
        (
            "/v1/tasks",
            {"model": "kling-v3", "prompt": "a", "duration": 5, "resolution": "1080p", "audio": True},
        ),
        ("/v1/tasks", {"model": "kling-video-o1", "prompt": "a", "duration": 10, "video_urls": [VIDEO]}),
        ("/v1/tasks", {"model": "kling-v3", "prompt": "a", "extra": {"mode": "pro"}}),
    ],
    "qingbo-ai": [
        ("/v1/tasks", {"model": "kling-v3-omni", "prompt": "a", "duration": 7, "resolution": "4k"}),
        (
            "/v1/tasks",
            {
                "model": "kling-v3-motion-control",
                "prompt": "a",
                "duration": 0,
                "video_urls": [VIDEO],
                "image_urls": ["https://media.example/i.png"],
                "character_orientation": "image",
            },
        ),
    ],
    "kling": [
        (OFFICIAL, {"model_name": "kling-v3", "prompt": "a", "duration": "5", "mode": "pro", "sound": "on"}),
        (OFFICIAL, {"model_name": "kling-v2-6", "prompt": "a"}),
        ("/v1/videos/omni-video", {"prompt": "a", "video_list": [{"video_url": VIDEO}]}),
        ("/text-to-video/kling-3.0-turbo", {"prompt": "a", "settings": {"duration": 3}}),
        ("/v1/images/generations", {"prompt": "a", "n": 3}),
        ("/v1/audio/tts", {"text": "a", "voice_id": "v"}),
    ],
    "octopusx": [
        (
            "/v1/videos",
            {"model": "Kling-3.0-Omni", "prompt": "a", "seconds": "6", "metadata": {"video_url": VIDEO}},
        ),
        ("/v1/videos", {"model": "Kling-2.6", "prompt": "a"}),
    ],
    "tencent-vod": [
        ("/v1/videos", {"model": "Kling-2.5", "prompt": "a", "seconds": "10", "size": "1920x1080"}),
        ("/v1/videos", {"model": "Kling-2.6", "prompt": "a", "seconds": "5", "size": "1280x720"}),
    ],
    "uniall": [("/v1/video/generations", {"model": "kling-v3-pro-audio", "prompt": "a", "duration": 4})],
}
"""Provider -> the path and the payload of each job."""


def with_words(payload: dict[str, Any], words: str) -> dict[str, Any]:
    """Returns the payload with fault words added to its prompt or text."""
    name = "text" if "text" in payload else "prompt"
    return {**payload, name: f"{payload[name]} {words}".strip()}
