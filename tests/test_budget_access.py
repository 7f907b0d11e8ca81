"""Who may spend: projects, required labels, and budgets that can never match or have a hole."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest

from kling_pricing import Budget, BudgetError, BudgetExceededError, BudgetGuard, Budgets, load_budgets
from kling_pricing.budgets import budgets_from_document
from kling_pricing.budgets.checking import holes, warnings_about
from kling_pricing.tables.price_book import PriceBook
from tests.commands import run
from tests.conftest import Clock, video
from tests.servers import execute

ALL = Budget(name="all", cap=9, currency="USD")


def test_only_listed_projects_spend(ledger: str, book: PriceBook, clock: Clock) -> None:
    """A misspelt project is refused with the nearest project, and is not counted in another budget."""
    budgets = Budgets([ALL], projects=["trailer", "teaser"])
    guard = BudgetGuard(ledger, budgets, book=book, clock=clock)
    guard.admit(video(), project="trailer")
    with pytest.raises(
        BudgetExceededError, match=r"project traler may not spend; did you mean 'trailer'\?"
    ) as no:
        guard.admit(video(), project="traler")
    assert (no.value.budget, no.value.requested, no.value.available) == (
        None,
        Decimal("0.357"),
        Decimal(0),
    )
    assert len(guard.history()) == 1
    assert guard.record("qingbo", "t-1", 1, labels={"project": "traler"}).project == "traler"
    guard.apply(Budgets([ALL], projects=["trailer", "teaser", "traler"]), allow_weaker=True)
    guard.admit(video(), project="traler")


def test_a_running_guard_adopts_new_projects(ledger: str, book: PriceBook, clock: Clock) -> None:
    """A guard whose budgets are older admits a project that was added since."""
    guard = BudgetGuard(ledger, Budgets([ALL], projects=["trailer"]), book=book, clock=clock)
    admin = BudgetGuard(ledger, book=book, clock=clock)
    admin.apply(Budgets([ALL], projects=["trailer", "teaser"]), allow_weaker=True)
    guard.admit(video(), project="teaser")
    admin.apply(Budgets([ALL], projects=["trailer"]))
    with pytest.raises(BudgetExceededError, match="project teaser may not spend"):
        guard.admit(video(), project="teaser")


def test_required_labels(ledger: str, book: PriceBook, clock: Clock) -> None:
    """A request without a required label is refused, whatever budgets it matches."""
    budgets = Budgets([ALL], require_labels=["user", "team"], unmatched="allow")
    guard = BudgetGuard(ledger, budgets, book=book, clock=clock)
    guard.admit(video(), project="a", labels={"user": "li", "team": "x"})
    with pytest.raises(BudgetExceededError, match="lacks the label team, which every request needs"):
        guard.admit(video(), project="a", labels={"user": "li"})
    with pytest.raises(BudgetExceededError, match="lacks the labels team, user"):
        guard.admit(video(), project="a")


def test_the_server_checks_who_may_spend(postgres_ledger: str, book: PriceBook) -> None:
    """A guard that does not check is refused by the database."""
    guard = BudgetGuard(postgres_ledger, Budgets([ALL], projects=["a"], require_labels=["user"]), book=book)
    digest = guard.budgets().digest
    for project, labels in (("b", {"user": "li"}), ("a", {})):
        order = {
            "project": project,
            "key": "k",
            "fingerprint": "f",
            "provider": "p",
            "wire_format": "tasks",
            "labels": {"project": project, **labels},
            "holds": ["2020-01-01T00:00:00Z", "2100-01-01T00:00:00Z"],
            "budgets": digest,
        }
        with pytest.raises(
            psycopg.errors.CheckViolation, match="do not let this project or these labels spend"
        ):
            execute(
                postgres_ledger,
                f"SELECT kling_pricing.reserve('r', '{json.dumps(order)}', '[{{}}]', interval '1 minute')",
            )


MISTAKES = """\
projects: [trailer, teaser]
budgets:
  - {name: all, cap: -1, currency: USD}
  - {name: trailer, match: {project: traler}, cap: 1, currency: USD}
  - {name: stars, match: {project: "tra*", user: "l?"}, cap: 1, currency: USD}
  - {name: all, match: {project: [teaser, other]}, cap: 1, currency: usd, windw: day}
unmatched: deny
"""
FOUND = [
    (3, "budgets[0].cap"),
    (4, "budgets[1].match.project"),
    (5, "budgets[2].match.project"),
    (5, "budgets[2].match.user"),
    (6, "budgets[3].windw"),
    (6, "budgets[3].currency"),
    (6, "budgets[3].match.project"),
    (7, "unmatched"),
]


def test_a_check_names_every_mistake(tmp_path: Path) -> None:
    """One check finds all mistakes of a file, also those in which one part contradicts another."""
    path = tmp_path / "budgets.yaml"
    path.write_text(MISTAKES, encoding="utf-8")
    with pytest.raises(BudgetError) as mistakes:
        load_budgets(path)
    places = {(problem.line, problem.key_path) for problem in mistakes.value.problems}
    assert places >= {*FOUND, (2, "budgets")}
    result = run("budget", "check", path)
    assert (result.returncode, len(result.stderr.splitlines())) == (1, len(mistakes.value.problems))
    assert "project traler may not spend, because `projects` does not list it; did you mean 'trailer'?" in (
        result.stderr
    )
    problems = json.loads(run("budget", "check", "--json", path).stdout)["problems"]
    assert [problem["line"] for problem in problems] == sorted(problem["line"] for problem in problems)


@pytest.mark.parametrize("text", ["tra*", "*er", "a?", "[ab]", "x" * 201, "a\x1b"])
def test_a_value_that_no_request_has_is_a_mistake(text: str) -> None:
    """Labels are compared as they are, so a pattern of a shell would match nothing."""
    for match in ({"project": text}, {"project": ["a", text]}, {text: "a"}):
        with pytest.raises(BudgetError):
            Budget(name="a", match=match, cap=1, currency="USD")
    with pytest.raises(BudgetError):
        Budgets([ALL], projects=[text])
    with pytest.raises(BudgetError):
        Budgets([ALL], require_labels=[text])


@pytest.mark.parametrize("settings", [{"projects": []}, {"projects": ["a", "a"]}, {"require_labels": "user"}])
def test_lists_of_names_are_checked(settings: dict[str, Any]) -> None:
    """An empty list would let nobody spend, or everybody; it is a mistake."""
    with pytest.raises(BudgetError):
        Budgets([ALL], **settings)


def test_too_many_labels_never_match() -> None:
    """A request has at most 16 labels, including its project."""
    labels = {f"label-{number}": "any" for number in range(15)}
    Budget(name="a", match=labels, cap=1, currency="USD")
    Budget(name="a", match=labels | {"project": "a"}, cap=1, currency="USD")
    with pytest.raises(BudgetError, match="has too many labels"):
        Budget(name="a", match=labels | {"more": "any"}, cap=1, currency="USD")


def test_budgets_of_an_earlier_release_stay_readable() -> None:
    """A ledger may have budgets with glob characters; they are read as they are."""
    document = json.loads(Budgets([ALL]).document)
    document["budgets"][0]["match"] = {"project": "tra*"}
    assert budgets_from_document(json.dumps(document)).budgets[0].match == {"project": "tra*"}


def test_a_budget_that_is_probably_not_meant_so_is_named() -> None:
    """A window that is over and a label that looks like `project` are warnings, because they are valid."""
    over = Budget(name="over", cap=1, currency="USD", window={"start": "2026-11-01", "end": "2026-11-16"})
    typo = Budget(name="typo", match={"projct": "a"}, cap=1, currency="USD")
    fine = Budget(name="fine", match={"product": "a"}, cap=1, currency="USD")
    found = warnings_about(Budgets([over, typo, fine]), datetime(2026, 11, 16, tzinfo=UTC))
    assert found == [
        "budget typo matches only requests with the label projct; did you mean 'project'?",
        "budget over no longer matches any request, because its window ended at 2026-11-16 00:00 UTC",
    ]
    assert len(warnings_about(Budgets([over, typo]), datetime(2026, 11, 15, tzinfo=UTC))) == 1


HOLES: dict[str, tuple[list[dict[str, Any]], dict[str, Any], list[str]]] = {
    "a catch-all": ([{"user": "any"}, {}], {}, ["user"]),
    "unmatched": ([{"user": "*"}], {"unmatched": "allow"}, ["user"]),
    "a project": ([{"user": "any", "project": "a"}, {"project": ["a", "b"]}], {}, ["user"]),
    "two labels": ([{"user": "any", "team": "*"}, {}], {}, ["user", "team"]),
    "another project": ([{"user": "any", "project": "a"}, {"project": "b"}], {}, []),
    "required": ([{"user": "any"}, {}], {"require_labels": ["user"]}, []),
    "nothing else": ([{"user": "any"}], {}, []),
    "the same label": ([{"user": "any"}, {"user": "*"}], {}, []),
    "any project": ([{"project": "any"}, {}], {}, []),
    "one user": ([{"user": "li"}, {}], {}, []),
}


@pytest.mark.parametrize("kind", HOLES)
def test_a_hole_is_named(kind: str) -> None:
    """A budget for each user that requests without a user pass is named, with the remedy."""
    matches, settings, labels = HOLES[kind]
    entries = [
        Budget(name=f"b{place}", match=match, cap=1, currency="USD") for place, match in enumerate(matches)
    ]
    found = holes(Budgets(entries, **settings))
    assert [warning.rpartition("add ")[2] for warning in found] == [
        f"{label} to require_labels" for label in labels
    ]
