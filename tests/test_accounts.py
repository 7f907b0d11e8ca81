"""Every reservation keeps the account from which it was sent, on both kinds of store."""

import asyncio
import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from kling_pricing import (
    AsyncBudgetGuard,
    Budget,
    BudgetGuard,
    IdempotencyError,
    KlingPricingError,
    PriceBook,
    ReservationStateError,
)
from kling_pricing.hooks.httpx import GuardedTransport
from kling_pricing.hooks.recovery import unsettled
from tests.commands import run
from tests.conftest import Clock, OpenGuard, video
from tests.providers import Provider, running
from tests.test_hooks_scenarios import PROVIDER

CLIP = video(duration=5, resolution="1080p", audio=True)
PROJECT: dict[str, Any] = {"project": "trailer"}


# the guard


def test_a_reservation_keeps_its_account(open_guard: OpenGuard) -> None:
    """The account is the one that the caller names, or else has the provider's name."""
    guard = open_guard()
    named = guard.admit(CLIP, **PROJECT, key="named", account="studio-a")
    plain = guard.admit(CLIP, **PROJECT, key="plain")
    equal = guard.admit(CLIP, **PROJECT, key="equal", account="qingbo")
    assert [admission.reservation.account for admission in (named, plain, equal)] == [
        "studio-a",
        "qingbo",
        "qingbo",
    ]
    assert [job.account for job in guard.history()] == ["studio-a", "qingbo", "qingbo"]
    assert guard.history()[0].as_dict()["account"] == "studio-a"


def test_every_verb_that_sends_takes_an_account(open_guard: OpenGuard) -> None:
    """`pre_submit`, `admit_and_dispatch`, `admission` and `record` keep the account too."""
    guard = open_guard()
    guard.pre_submit(CLIP, **PROJECT, key="one", account="a")
    guard.admit_and_dispatch(CLIP, **PROJECT, key="two", account="b")
    with guard.admission(CLIP, **PROJECT, key="three", account="c") as admission:
        guard.dispatch(admission)
        guard.bind(admission, "task-3")
    guard.record("qingbo", "task-4", "0.5", labels=PROJECT, account="d")
    guard.record("qingbo", "task-5", "0.5", labels=PROJECT)
    assert [job.account for job in guard.history()] == ["a", "b", "c", "d", "qingbo"]


async def _pre_submit(ledger: str) -> None:
    budgets = [Budget(name="all", cap=Decimal(10), currency="USD")]
    async with await AsyncBudgetGuard.open(ledger, budgets) as guard:
        await guard.pre_submit(CLIP, **PROJECT, account="a")
        async with guard.admission(CLIP, **PROJECT, account="b"):
            pass
        assert [job.account for job in await guard.history()] == ["a", "b"]


def test_the_asynchronous_guard_takes_an_account(ledger: str) -> None:
    """The coroutines keep the account as the other verbs do."""
    asyncio.run(_pre_submit(ledger))


def test_tasks_of_two_accounts_are_not_confused(open_guard: OpenGuard) -> None:
    """A task is found by provider and id; its id is unique among the accounts of a provider."""
    guard = open_guard()
    for account in ("a", "b"):
        guard.pre_submit(CLIP, **PROJECT, key=account, account=account)
    first, second = guard.history()
    guard.bind(first, "task-1")
    guard.bind(second, "task-2")
    answer = {"task_id": "task-2", "status": "completed", "cost": 357000}
    settled = guard.observe(answer, provider="qingbo")
    assert settled is not None
    assert (settled.account, settled.state, guard.reservation(first).state) == ("b", "settled", "bound")
    with pytest.raises(ReservationStateError, match="task-2"):
        guard.bind(first, "task-2")


def test_a_new_attempt_may_use_another_account(open_guard: OpenGuard) -> None:
    """A released job is attempted again from the account that is named now."""
    guard = open_guard()
    guard.release(guard.admit(CLIP, **PROJECT, key="shot", account="a"))
    again = guard.admit(CLIP, **PROJECT, key="shot", account="b")
    assert (again.reservation.attempt, again.reservation.account) == (2, "b")


def test_an_unsent_reservation_is_not_sent_from_another_account(open_guard: OpenGuard) -> None:
    """The same key for another account is refused, by `decide` too, and nothing changes."""
    guard = open_guard()
    unsent = guard.admit(CLIP, **PROJECT, key="shot", account="a").reservation
    for verb in (guard.admit, guard.admit_and_dispatch):
        with pytest.raises(IdempotencyError, match=f"{unsent.id} for account a; .* release the reservation"):
            verb(CLIP, **PROJECT, key="shot", account="b")
    refusal = guard.decide(CLIP, **PROJECT, key="shot", account="b").refusal
    assert isinstance(refusal, IdempotencyError)
    assert guard.decide(CLIP, **PROJECT, key="shot", account="a").outcome == "replayed"
    assert guard.history() == [unsent]


def test_spend_of_another_account_is_not_a_repeat(open_guard: OpenGuard) -> None:
    """Recording the same task again is a repeat only for the same account."""
    guard = open_guard()
    first = guard.record("qingbo", "task-1", "0.5", labels=PROJECT, account="a")
    assert guard.record("qingbo", "task-1", "0.5", labels=PROJECT, account="a") == first
    with pytest.raises(IdempotencyError):
        guard.record("qingbo", "task-1", "0.5", labels=PROJECT, account="b")
    with pytest.raises(IdempotencyError):
        guard.record("qingbo", "task-1", "0.5", labels=PROJECT)


@pytest.mark.parametrize("account", ["", "a\nb", "x" * 201, 5])
def test_an_account_must_be_a_name(open_guard: OpenGuard, account: Any) -> None:
    """Other values are refused by every verb, and nothing is stored."""
    guard = open_guard()
    with pytest.raises(KlingPricingError, match="account must be text of 1 to 200 printable characters"):
        guard.admit(CLIP, **PROJECT, account=account)
    with pytest.raises(KlingPricingError, match="account must be text of 1 to 200 printable characters"):
        guard.record("qingbo", "task-1", "0.5", labels=PROJECT, account=account)
    assert guard.history() == []


# hooks


@pytest.fixture
def provider() -> Iterator[Provider]:
    """A provider that answers submissions."""
    with running(PROVIDER) as started:
        yield started


@pytest.fixture
def guard(tmp_path: Path, book: PriceBook, clock: Clock) -> Iterator[BudgetGuard]:
    """A guard with a large budget."""
    plenty = [Budget(name="all", cap=1000, currency="USD")]
    with BudgetGuard(f"sqlite:///{tmp_path}/spend.db", plenty, book=book, clock=clock) as opened:
        yield opened
        opened.verify()


def submit(guard: BudgetGuard, provider: Provider, key: str, **options: Any) -> httpx.Response:
    """Submits a clip through a hook with options."""
    defaults: dict[str, Any] = {"project": "trailer", "hosts": {provider.host: PROVIDER}, "keeps_keys": True}
    transport = GuardedTransport(httpx.HTTPTransport(), guard, **defaults | options)
    with httpx.Client(transport=transport, base_url=provider.url) as client:
        return client.post("/v1/tasks", json=CLIP, headers={"Idempotency-Key": key})


def test_a_hook_sends_from_its_account(guard: BudgetGuard, provider: Provider) -> None:
    """The option names the account of every host, or of each host; a host without one has its provider's."""
    submit(guard, provider, "all", account="studio-a")
    submit(guard, provider, "by host", account={provider.host.upper(): "studio-b"})
    submit(guard, provider, "another host", account={"www.qingbo.dev": "studio-c"})
    submit(guard, provider, "none")
    assert [job.account for job in guard.history()] == ["studio-a", "studio-b", PROVIDER, PROVIDER]


@pytest.mark.parametrize(
    ("account", "message"),
    [
        ("", "account must be text of 1 to 200 printable characters, got ''"),
        ({"gw.example.com": "a"}, "account: no provider is known to bill at gw.example.com; add the host"),
        ({"https://www.qingbo.dev": "a"}, "account: .* is not a host; write a host such as gw.example.com"),
        ({"www.qingbo.dev": 5}, "account must be text of 1 to 200 printable characters, got 5"),
    ],
)
def test_a_hook_refuses_an_account_that_cannot_be_used(
    guard: BudgetGuard, provider: Provider, account: Any, message: str
) -> None:
    """A wrong name or host is an error when the hook is made, before anything is sent."""
    with pytest.raises(KlingPricingError, match=message):
        submit(guard, provider, "shot", account=account)


def test_a_job_is_not_resent_from_another_account(guard: BudgetGuard, provider: Provider) -> None:
    """A provider knows a key in one account only, so another account would create a second task."""
    submit(guard, provider, "shot", account="a")
    assert submit(guard, provider, "shot", account="a").status_code == 200
    (sent,) = guard.history()
    with pytest.raises(ReservationStateError, match=sent.id):
        submit(guard, provider, "shot", account="b")
    assert guard.history() == [sent]


# the command line


def test_the_commands_take_an_account(ledger: str, tmp_path: Path) -> None:
    """`pre-submit`, `decide` and `record` take --account, and the JSON output has it."""
    request = tmp_path / "request.json"
    request.write_text(json.dumps(CLIP))
    budgets = tmp_path / "budgets.yaml"
    budgets.write_text("budgets: [{name: all, cap: 10, currency: USD}]\n")
    where = ("--ledger", ledger, "--project", "trailer")
    key = ("--key", "shot")
    sent = run(
        *("pre-submit", str(request), *where, *key, "--budgets", str(budgets), "--account", "a", "--json")
    )
    assert json.loads(sent.stdout)["account"] == "a"
    decided = run("decide", str(request), *where, "--key", "new", "--account", "b")
    assert decided.returncode == 0
    recorded = run("record", "qingbo", "task-1", "0.5", *where, "--account", "b", "--json")
    assert json.loads(recorded.stdout)["account"] == "b"
    history = run("history", "--ledger", ledger, "--json").stdout.splitlines()
    assert [json.loads(line)["account"] for line in history] == ["a", "b"]
    wrong = run("record", "qingbo", "task-2", "0.5", *where, "--account", "")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "the account must be text of 1 to 200 printable characters" in " ".join(wrong.stderr.split())


def test_jobs_of_several_accounts_are_not_asked_about_at_once(ledger: str) -> None:
    """The credentials of one account do not find the tasks of another, so the account must be chosen."""
    with BudgetGuard(ledger, [Budget(name="all", cap=Decimal(10), currency="USD")]) as guard:
        for account in ("a", "b"):
            guard.admit_and_dispatch(CLIP, **PROJECT, key=account, account=account)
        assert [job.key for job in unsettled(guard, account="b")] == ["b"]
    poll = ("in-doubt", "--poll", "--base-url", "http://127.0.0.1:1", "--ledger", ledger)
    refused = run(*poll)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "several accounts have unsettled jobs; choose one with --account a|b" in refused.stderr
    assert "asked about 1 of 1 job" in run(*poll, "--account", "a").stdout
