"""A script that submits one job through a hook, as a process of its own, which the demo kills and starts again.

It reads its task as JSON from standard input.
"""

from __future__ import annotations

import asyncio
import json
import sys
from datetime import datetime
from typing import Any

import aiohttp

from kling_pricing.demo.stories import demo_book
from kling_pricing.guard import BudgetGuard
from kling_pricing.hooks.aiohttp import GuardMiddleware


async def submit(order: dict[str, Any]) -> int:
    """Submits the job, and returns the HTTP status of the response."""
    at = datetime.fromisoformat(order["at"])
    with BudgetGuard(order["ledger"], book=demo_book(), clock=lambda: at) as guard:
        hook = GuardMiddleware(
            guard,
            project=order["project"],
            labels=order["labels"],
            hosts={order["host"]: order["provider"]},
            keeps_keys=True,
        )
        headers = {"Idempotency-Key": order["key"]}
        async with (
            aiohttp.ClientSession(middlewares=[hook]) as session,
            session.post(order["url"], json=order["payload"], headers=headers) as response,
        ):
            return response.status


if __name__ == "__main__":
    sys.exit(0 if asyncio.run(submit(json.load(sys.stdin))) == 200 else 1)  # noqa: PLR2004 (HTTP's "OK")
