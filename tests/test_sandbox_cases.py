"""Cases from public reports as scenarios of the sandbox, and what a hook records in the ledger for each."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from kling_pricing import PriceBook
from kling_pricing.hooks.webhooks import Webhooks
from tests.receivers import Received, receiving
from tests.rehearsals import JOBS, VIDEO, Rehearsed, rehearsing

SECRET = "whsec_dGVzdHNlY3JldHRlc3RzZWNyZXR0ZXN0c2VjcmV0MTI="  # noqa: S105 (published with a test vector)
TEXT = "/v1/videos/text2video"
PRO: dict[str, Any] = JOBS["kling"][0][1]


def account(**entry: Any) -> dict[str, Any]:
    """Returns a scenario with an account at the official API."""
    return {"providers": {"kling": entry}}


def asked(run: Rehearsed, path: str) -> Any:
    """Sends a status request through the guarded client."""
    return run.client.get(f"{run.sandbox.url(run.provider)}{path}").json()


@pytest.mark.parametrize(
    ("entry", "spent"),
    [
        ({"pays": ["cash"], "cash_discount": "0.3"}, "0.588"),  # units "0" and money
        ({"pays": ["pack", "cash"], "packs": {"video": "2.5"}}, "0.84"),  # the pack runs out half-way
        ({"pays": ["test_balance"]}, "0"),  # the balance of free test credit
    ],
)
def test_an_account_that_pays_in_another_way_settles_at_what_was_taken(
    entry: dict[str, Any], spent: str, book: PriceBook, tmp_path: Path
) -> None:
    """The response to a status request settles the job at exactly the amount that the account paid."""
    with rehearsing("kling", tmp_path, book, account(**entry)) as run:
        run.submit(TEXT, PRO)
        run.settle()
        assert (run.spent, run.billed, run.open) == (Decimal(spent), Decimal(spent), [])


def test_an_account_in_another_currency_is_visibly_open(book: PriceBook, tmp_path: Path) -> None:
    """A charge of 6 CNY for a job quoted in USD does not silently settle at the quote."""
    with rehearsing("kling", tmp_path, book, account(pays=["cash"], currency="CNY", unit_value="1")) as run:
        run.submit("/text-to-video/kling-3.0", {"prompt": "a", "settings": {"resolution": "1080p"}})
        run.settle()
        assert (run.spent, len(run.open)) == (Decimal(0), 1)
        assert run.sandbox.bill("kling") == {"CNY": Decimal(4)}


@pytest.mark.parametrize("path", ["/tasks?task_ids={}", TEXT + "?pageNum=1"])
def test_a_list_of_tasks_settles_each(path: str, book: PriceBook, tmp_path: Path) -> None:
    """One response about several tasks settles all of them, in both shapes of lists."""
    with rehearsing("kling", tmp_path, book) as run:
        for _ in range(3):
            run.submit(TEXT, PRO)
        ids = ",".join(task["id"] for task in run.sandbox.tasks("kling"))
        run.sandbox.advance(seconds=100)
        asked(run, path.format(ids))
        assert (run.spent, run.billed, run.open) == (Decimal("2.52"), Decimal("2.52"), [])


@pytest.mark.parametrize(
    ("path", "payload"),
    [(TEXT, PRO), ("/text-to-video/kling-3.0-turbo", {"prompt": "a", "settings": {"resolution": "1080p"}})],
)
def test_signed_callbacks_settle_in_both_shapes(
    path: str, payload: dict[str, Any], book: PriceBook, tmp_path: Path
) -> None:
    """Callbacks of both official APIs are verified and settle the job; each is sent twice, but counts once."""
    with rehearsing("kling", tmp_path, book, account(webhook_secret=SECRET, callbacks_twice=True)) as run:
        hooks = Webhooks(run.guard, SECRET, provider="kling")
        received: list[Received] = []

        def receive(request: Received) -> int:
            received.append(request)
            return 200

        with receiving(receive) as url:
            options = {"options": {"callback_url": url}} if "settings" in payload else {"callback_url": url}
            run.submit(path, payload | options)
            run.sandbox.advance(seconds=100)
            run.sandbox.callbacks(at_least=6)
        for request in received[::2]:
            hooks.receive(request.body, dict(request.headers))
        assert (run.spent, run.billed, run.open) == (run.billed, run.spent, [])
        assert run.spent > 0


def test_a_job_without_seconds_that_was_made_longer_is_booked_as_made(book: PriceBook, tmp_path: Path) -> None:
    """The response states 10 seconds and the tier, which determine the price within the quoted range."""
    with rehearsing("octopusx", tmp_path, book) as run:
        run.submit("/v1/videos", {"model": "Kling-3.0-Omni", "prompt": "a [seconds:10]"})
        run.settle()
        assert (run.spent, run.billed, run.open) == (Decimal(6), Decimal(6), [])


@pytest.mark.parametrize("path", ["/v1/videos/{}", "/v1/video/generations/{}"])
def test_both_status_paths_of_a_gateway_settle(path: str, book: PriceBook, tmp_path: Path) -> None:
    """A status response settles the job, both as a video object and in the gateway's envelope."""
    with rehearsing("uniall", tmp_path, book) as run:
        run.submit(*JOBS["uniall"][0])
        (task,) = run.sandbox.tasks("uniall")
        run.sandbox.advance(seconds=100)
        asked(run, path.format(task["id"]))
        assert (run.spent, run.billed, run.open) == (Decimal("0.672"), Decimal("0.672"), [])


def test_a_refusal_with_status_200_releases_the_money(book: PriceBook, tmp_path: Path) -> None:
    """Code 1102 with HTTP status 200 is a refusal; the error `already exists` is not."""
    with rehearsing("kling", tmp_path, book) as run:
        run.submit(TEXT, {**PRO, "prompt": "a [200:1102]"})
        assert [entry.state for entry in run.guard.history()] == ["released"]
        run.submit(TEXT, {**PRO, "external_task_id": "mine"})
        run.submit(TEXT, {**PRO, "external_task_id": "mine"})
        assert [entry.state for entry in run.guard.history()].count("released") == 1


def test_the_older_host_of_the_official_api_is_served(book: PriceBook, tmp_path: Path) -> None:
    """The provider can be reached under each of its hosts."""
    with rehearsing("kling", tmp_path, book) as run:
        body = json.dumps(PRO).encode()
        for host in ("api.klingai.com", "api-singapore.klingai.com"):
            answer = httpx.post(run.sandbox.url() + TEXT, content=body, headers={"Host": host})
            assert answer.json()["code"] == 0
        assert len(run.sandbox.tasks("kling")) == 2


@pytest.mark.parametrize(("length_s", "spent"), [("5", "2.52"), ("9.6", "5.04")])
def test_the_reference_video_decides_what_motion_control_costs(
    length_s: str, spent: str, book: PriceBook, tmp_path: Path
) -> None:
    """Three jobs are reserved for the stated length, and settle at the length that the API measures."""
    payload = {
        "model_name": "kling-v3",
        "image_url": "https://media.example/i.png",
        "video_url": VIDEO,
        "character_orientation": "video",
        "mode": "pro",
    }
    with rehearsing("kling", tmp_path, book, {"media_length_s": length_s}) as run:
        for _ in range(3):
            run.submit("/v1/videos/motion-control", payload)
        assert [entry.reserved for entry in run.guard.history()] == [Decimal("0.84")] * 3
        run.settle()
        assert (run.spent, run.billed, run.open) == (Decimal(spent), Decimal(spent), [])
