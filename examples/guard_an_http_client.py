"""Guard an HTTP client without changing the code that uses it.

Run it with::

    .venv/bin/python examples/guard_an_http_client.py

The example needs httpx.
A function takes the place of the provider, so nothing leaves this machine.
In your own code, replace `httpx.MockTransport(provider)` with `httpx.HTTPTransport()`.
"""

import json
from decimal import Decimal
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx

from kling_pricing import Budget, BudgetExceededError, BudgetGuard, spending
from kling_pricing.hooks.httpx import GuardedTransport

TRAILER = Budget(name="trailer", match={"project": "trailer"}, cap=Decimal(1), currency="USD", on_exceed="cap")
SHOT = {"model": "kling-v3", "prompt": "a paper boat", "duration": 5, "resolution": "1080p", "audio": True}
numbers = count(1)


def provider(request: httpx.Request) -> httpx.Response:
    """Accepts every job and reports every task as completed."""
    if request.method == "POST":
        sent = json.loads(request.content)
        print(f"  sent: {sent['duration']} s, audio {sent['audio']}")
        return httpx.Response(200, json={"task_id": f"task-{next(numbers)}", "status": "queued"})
    task_id = request.url.path.rpartition("/")[2]
    return httpx.Response(200, json={"task_id": task_id, "status": "completed", "cost": 142800})


def make_shot(client: httpx.Client) -> None:
    """Makes one shot; like your existing code, it knows nothing about budgets."""
    task = client.post("/v1/tasks", json=SHOT).json()
    client.get(f"/v1/tasks/{task['task_id']}")


with TemporaryDirectory() as folder:
    guard = BudgetGuard(f"sqlite:///{Path(folder) / 'spend.db'}", [TRAILER])
    transport = GuardedTransport(httpx.MockTransport(provider), guard)
    with httpx.Client(transport=transport, base_url="https://www.qingbo.dev") as client:
        for number in range(1, 5):
            print(f"shot {number}")
            try:
                with spending(project="trailer", key=f"shot-{number}"):
                    make_shot(client)
            except BudgetExceededError as error:
                print(f"  not sent: {error}")
    for bucket in guard.status():
        print(f"{bucket.budget}: spent {bucket.spent}, held {bucket.held}, left {bucket.available}")
    guard.verify()
    guard.close()
