"""Creates and polls videos with the unmodified OpenAI SDK through a guarded client; prints what its caller saw.

Run as a program, so that either version of the SDK can be the one that is found; first with its sync client,
then with its async one, each with a gateway and a ledger of its own::

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
    """What the hook is told."""
    return {"hosts": {urlsplit(url).netloc: "tencent-vod"}, "project": "trailer", "refusals": "respond"}


async def outcome(call: Any) -> str:
    """What a call brought its caller, in a word or two."""
    try:
        found = call()
        video = await found if hasattr(found, "__await__") else found
    except openai.APIStatusError as error:
        return f"{type(error).__name__} {error.status_code} {error.code or ''}".strip()
    except openai.APIConnectionError as error:
        return type(error).__name__
    return f"{video.id} {video.status}"


async def session(client: Any) -> list[str]:
    """Accepted, polled, not valid, capped, refused; one whose answer is lost, and two that are throttled."""
    wanted: dict[str, Any] = {"model": MODEL, "prompt": "a paper boat", "seconds": "10", "size": SIZE}
    seen = [await outcome(lambda: client.videos.create(**wanted))]
    task_id = seen[0].split()[0]
    seen.append(await outcome(lambda: client.videos.retrieve(task_id)))
    seen.append(await outcome(lambda: client.videos.create(**{**wanted, "model": "Kling-9"})))
    seen.append(await outcome(lambda: client.videos.create(**wanted)))
    seen.append(await outcome(lambda: client.videos.create(**wanted)))
    with spending(project="lost"):
        seen.append(await outcome(lambda: client.videos.create(**wanted)))
    with spending(project="throttled"):
        seen.append(await outcome(lambda: client.videos.create(**wanted)))
        picture = ("a.png", b"\x89PNG\r\n\x00--b", "image/png")
        seen.append(await outcome(lambda: client.videos.create(**wanted, input_reference=picture)))
    return seen


async def with_sync_client(url: str, guard: BudgetGuard, common: dict[str, Any]) -> list[str]:
    """A session of `OpenAI`."""
    transport = GuardedTransport(http.HTTPTransport(), guard, **options(url))
    client = openai.OpenAI(http_client=http.Client(transport=transport), base_url=f"{url}/v1", **common)
    seen = await session(client)
    client.close()
    return seen


async def with_async_client(url: str, guard: BudgetGuard, common: dict[str, Any]) -> list[str]:
    """A session of `AsyncOpenAI`."""
    transport = AsyncGuardedTransport(http.AsyncHTTPTransport(), guard, **options(url))
    client = openai.AsyncOpenAI(
        http_client=http.AsyncClient(transport=transport), base_url=f"{url}/v1", **common
    )
    seen = await session(client)
    await client.close()
    return seen


def main(*places: str) -> None:
    """Runs both sessions."""
    warnings.simplefilter("ignore", DeprecationWarning)  # the SDK's own, of its videos
    common: dict[str, Any] = {"api_key": "x", "max_retries": 2}
    seen = []
    for run, url, ledger in zip((with_sync_client, with_async_client), places[::2], places[1::2], strict=True):
        with BudgetGuard(ledger) as guard:
            seen.append(asyncio.run(run(url, guard, common)))
    sys.stdout.write(json.dumps({"version": openai.__version__, "seen": seen}))


if __name__ == "__main__":
    main(*sys.argv[1:])
