"""Creates and polls videos with the unmodified OpenAI SDK through a guarded client; prints its caller's view.

It is a program, so that a test can choose the version of the SDK. It runs the sync client first and then the
async client, each with its own gateway and ledger::

    python openai_session.py GATEWAY_URL LEDGER_URL GATEWAY_URL LEDGER_URL
"""

import asyncio
import json
import sys
import warnings
from importlib import import_module
from typing import Any
from urllib.parse import urlsplit

import openai

from kling_pricing import BudgetGuard, spending
from kling_pricing.hooks.httpx import AsyncGuardedTransport, GuardedTransport

http = import_module("httpx" if openai.__version__.startswith("2.") else "httpx2")
MODEL: Any = "Kling-2.5"
SIZE: Any = "1920x1080"


def options(url: str) -> dict[str, Any]:
    """Returns the options of the hook."""
    return {"hosts": {urlsplit(url).netloc: "tencent-vod"}, "project": "trailer", "refusals": "respond"}


async def outcome(call: Any) -> str:
    """Returns the result of a call in one or two words."""
    try:
        returned = call()
        video = await returned if hasattr(returned, "__await__") else returned
    except openai.APIStatusError as error:
        return f"{type(error).__name__} {error.status_code} {error.code or ''}".strip()
    except openai.APIConnectionError as error:
        return type(error).__name__
    return f"{video.id} {video.status}"


async def session(client: Any) -> list[str]:
    """Makes calls that are accepted, polled, not valid, capped, refused, lost, and throttled twice."""
    job: dict[str, Any] = {"model": MODEL, "prompt": "a paper boat", "seconds": "10", "size": SIZE}
    outcomes = [await outcome(lambda: client.videos.create(**job))]
    task_id = outcomes[0].split()[0]
    outcomes.append(await outcome(lambda: client.videos.retrieve(task_id)))
    outcomes.append(await outcome(lambda: client.videos.create(**{**job, "model": "Kling-9"})))
    outcomes.append(await outcome(lambda: client.videos.create(**job)))
    outcomes.append(await outcome(lambda: client.videos.create(**job)))
    with spending(project="lost"):
        outcomes.append(await outcome(lambda: client.videos.create(**job)))
    with spending(project="throttled"):
        outcomes.append(await outcome(lambda: client.videos.create(**job)))
        picture = ("a.png", b"\x89PNG\r\n\x00--b", "image/png")
        outcomes.append(await outcome(lambda: client.videos.create(**job, input_reference=picture)))
    return outcomes


async def with_sync_client(url: str, guard: BudgetGuard, common: dict[str, Any]) -> list[str]:
    """Runs a session of `OpenAI`."""
    transport = GuardedTransport(http.HTTPTransport(), guard, **options(url))
    client = openai.OpenAI(http_client=http.Client(transport=transport), base_url=f"{url}/v1", **common)
    outcomes = await session(client)
    client.close()
    return outcomes


async def with_async_client(url: str, guard: BudgetGuard, common: dict[str, Any]) -> list[str]:
    """Runs a session of `AsyncOpenAI`."""
    transport = AsyncGuardedTransport(http.AsyncHTTPTransport(), guard, **options(url))
    client = openai.AsyncOpenAI(
        http_client=http.AsyncClient(transport=transport), base_url=f"{url}/v1", **common
    )
    outcomes = await session(client)
    await client.close()
    return outcomes


def main(*places: str) -> None:
    """Runs both sessions."""
    warnings.simplefilter("ignore", DeprecationWarning)  # the SDK deprecates its own videos API
    common: dict[str, Any] = {"api_key": "x", "max_retries": 2}
    outcomes = []
    for run, url, ledger in zip((with_sync_client, with_async_client), places[::2], places[1::2], strict=True):
        with BudgetGuard(ledger) as guard:
            outcomes.append(asyncio.run(run(url, guard, common)))
    sys.stdout.write(json.dumps({"version": openai.__version__, "outcomes": outcomes}))


if __name__ == "__main__":
    main(*sys.argv[1:])
