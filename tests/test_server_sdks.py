"""The unmodified OpenAI SDKs, in Python and Node, through the server's proxy."""

import json
import os
import shutil
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest

from kling_pricing import BudgetGuard, PriceBook
from tests.providers import running
from tests.server_runs import CREDENTIAL, serving
from tests.test_hooks_openai import BUDGETS
from tests.test_sandbox_clients import NODE_VARIABLE

FOLDER = Path(__file__).parent


def command_of(sdk: str, request: pytest.FixtureRequest) -> tuple[list[str], list[str], dict[str, str]]:
    """Returns the command of an SDK before and after its common arguments, and its environment."""
    if sdk == "node":
        folder = os.environ.get(NODE_VARIABLE)
        if not folder or shutil.which("node") is None:
            assert not os.environ.get("CI"), f"{NODE_VARIABLE} must name a folder with Node's SDK"
            pytest.skip(f"{NODE_VARIABLE} names no folder with Node's SDK")
        return ["node", str(FOLDER / "openai_proxied.mjs")], [folder], dict(os.environ)
    environment = dict(os.environ)
    if sdk == "python 2":
        environment["PYTHONPATH"] = str(request.getfixturevalue("openai2"))
    return [sys.executable, str(FOLDER / "openai_proxied.py")], [], environment


@pytest.mark.parametrize("sdk", ["python 2", "python 3", "node"])
def test_an_sdk_needs_only_another_base_url_and_key(
    sdk: str, tmp_path: Path, book: PriceBook, request: pytest.FixtureRequest
) -> None:
    """Calls that are accepted, polled, capped, refused, lost and throttled end as with a hook in the client.

    The job whose response was lost is not sent twice, although the SDK retries without a key, and a task of
    another project does not exist.
    """
    ledger = f"sqlite:///{tmp_path}/spend.db"
    guard = BudgetGuard(ledger, BUDGETS, book=book)
    start, end, environment = command_of(sdk, request)
    with running("tencent-vod", api_key=CREDENTIAL) as provider:
        provider.fail_next([], [])
        provider.fail_next("500:accepted", "429", "429", headers={"Retry-After-Ms": "1"})
        upstreams = {"vod": {"provider": "tencent-vod", "url": provider.url}}
        with serving(ledger, tmp_path, upstreams, guard) as server:
            keys = [
                server.key(project)["Authorization"].split()[1] for project in ("trailer", "lost", "throttled")
            ]
            result = subprocess.run(
                [*start, f"{server.base('vod')}/v1", *keys, *end],
                capture_output=True,
                text=True,
                check=False,
                env=environment,
            )
        assert (result.returncode, result.stderr) == (0, "")
        first, second, _lost, fourth = provider.tasks
        assert json.loads(result.stdout) == [
            f"{first} queued",
            f"{first} queued",
            "BadRequestError 400 capability",
            f"{second} queued",
            "APIStatusError 402 budget_exceeded" if sdk != "node" else "APIError 402 budget_exceeded",
            "ConflictError 409 reservation_state",
            f"{fourth} queued",
            "NotFoundError 404 task_not_found",
        ]
    assert [(each.project, each.state, each.reserved) for each in guard.history()] == [
        ("trailer", "bound", Decimal(5)),
        ("trailer", "bound", Decimal("2.5")),
        ("lost", "dispatching", Decimal(5)),
        ("throttled", "released", Decimal(5)),
        ("throttled", "released", Decimal(5)),
        ("throttled", "bound", Decimal(5)),
    ]
    guard.verify()
    guard.close()
