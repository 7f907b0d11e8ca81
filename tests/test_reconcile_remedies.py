"""The remedy of a line, followed to the letter, books or frees only what is true."""

import re
import shlex
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

import pytest

from kling_pricing import PriceBook
from tests.commands import run
from tests.conftest import Clock
from tests.test_reconcile import NOON, World
from tests.test_reconcile_categories import LINES

D = Decimal
COST = D("0.714")

SENTENCES = re.compile(r"(?<=[.;])\s+(?=[A-Za-z])")
COMMAND = re.compile(r"`([^`]+)`")
CONDITION = re.compile(r"\b[Ii]f ([a-z' ]+?),")


class Truth(NamedTuple):
    """What is true of a task, which no program knows.

    Attributes:
        cost: what the task costs in the end.
        is_ours: whether we sent the task.
        is_the_request: whether the unknown task is the request without a task.
    """

    cost: Decimal
    is_ours: bool = True
    is_the_request: bool = False


CONDITIONS: dict[str, Callable[[Truth, Decimal], bool]] = {
    "the job costs nothing": lambda truth, _: truth.cost == 0,
    "the task is yours": lambda truth, _: truth.is_ours,
    "so": lambda truth, _: truth.is_the_request,
    "the request became a task": lambda truth, _: truth.is_the_request,
    "the charge is right": lambda truth, charged: truth.cost == charged,
}
"""Condition in a remedy -> whether it is met, given the truth and the charge on the statement."""


def steps(remedy: str, truth: Truth, charged: Decimal) -> Iterator[str]:
    """Yields the commands of a remedy whose conditions are met; a condition that is not known is an error."""
    for sentence in SENTENCES.split(remedy):
        for command in COMMAND.findall(sentence):
            conditions = CONDITION.findall(sentence[: sentence.index(command)])
            if all(CONDITIONS[condition](truth, charged) for condition in conditions):
                yield command


def follow(world: World, command: str, names: dict[str, str]) -> None:
    """Runs a command as it stands in a remedy, with the placeholders filled in."""
    for placeholder, name in names.items():
        command = re.sub(rf"\b{placeholder}\b", name, command)
    words = shlex.split(command)
    if words[0].startswith("--"):
        paths = ("--statement", str(world.statement()), "--provider", "qingbo", "--month", "2026-11")
        settle = () if words == ["--settle"] else ("--settle",)
        done = run("reconcile", *paths, *words, *settle, "--max-unreadable", "100", ledger=world.ledger)
        assert done.stdout, done.stderr
        return
    assert words[0] == "kling-pricing"
    assert run(*words[1:], ledger=world.ledger).returncode == 0, command


def spent(world: World) -> Decimal:
    """Returns what the budget counts as spent or held."""
    (bucket,) = world.guard.status(at=world.clock.now)
    return bucket.spent + bucket.held


def _without_task(world: World, task_id: str) -> None:
    world.send()
    world.bill(task_id, 357000)


def _corrected_to_zero(world: World, task_id: str) -> None:
    reservation = world.send(task_id)
    world.guard.settle(reservation, 0, basis="operator")
    world.bill(task_id, 357000)


def _refunded(world: World, task_id: str) -> None:
    world.send(task_id)
    world.guard.observe({"task_id": task_id, "status": "failed", "cost": 0}, provider="qingbo")
    world.bill(task_id, 357000)


PLANTS = {name: plant for name, (plant, *_) in LINES.items()} | {
    "without a task": _without_task,
    "corrected to zero": _corrected_to_zero,
    "refunded": _refunded,
}


UNKNOWN = {"unknown", "unknown and free"}
MAY_BE_FREE = {"unbilled", "free", "corrected to zero", "refunded", "without a task"}
CASES = [
    *((name, Truth(COST)) for name in PLANTS.keys() - UNKNOWN - {"free"}),
    *((name, Truth(D(0))) for name in MAY_BE_FREE),
    ("without a task", Truth(COST, is_the_request=True)),
    ("unknown", Truth(77777 * D("0.000002"))),
    ("unknown", Truth(D(0), is_ours=False)),
]
"""Each kind of line, with each truth that may be behind it. A finished task that is charged zero is free."""


@pytest.mark.parametrize(("name", "truth"), sorted(CASES, key=str), ids=str)
def test_no_remedy_books_or_frees_what_is_not_true(
    book: PriceBook, tmp_path: Path, name: str, truth: Truth
) -> None:
    """Whatever the truth behind a line, its remedy moves the ledger's amount to it, or not at all."""
    world = World(f"sqlite:///{tmp_path}/spend.db", book, Clock(NOON), tmp_path)
    PLANTS[name](world, "t")
    before = spent(world)
    with world.reconcile(max_unreadable_percent=100) as result:
        lines = [line for line in result.lines() if line.remedy]
    charged = sum((line.billed or D(0) for line in lines), D(0))
    reservation = next((line.reservation_id for line in lines if line.reservation_id), "")
    names = {"TASK": "t", "PROJECT": "trailer", "RESERVATION": reservation}
    for line in lines:
        for command in steps(line.remedy, truth, charged):
            follow(world, command, names)
    assert spent(world) in {before, truth.cost}
    world.guard.verify()


def test_every_command_in_a_remedy_is_conditional_or_final(world: World) -> None:
    """Only a charge of zero of a finished task frees money without asking first."""
    for name, plant in PLANTS.items():
        world.clock.now = NOON
        plant(world, name.replace(" ", "-"))
    with world.reconcile(max_unreadable_percent=100) as result:
        unconditional = {
            line.task_id
            for line in result.lines()
            for sentence in SENTENCES.split(line.remedy)
            if COMMAND.search(sentence) and not CONDITION.search(sentence)
        }
    assert unconditional == {"free"}


@pytest.fixture
def world(tmp_path: Path, book: PriceBook) -> World:
    """A world with a ledger in SQLite."""
    return World(f"sqlite:///{tmp_path}/spend.db", book, Clock(NOON), tmp_path)
