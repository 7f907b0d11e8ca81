"""Plans: what new budgets would change, and that nothing weakens protection by mistake. On both stores."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kling_pricing import (
    Budget,
    BudgetError,
    BudgetGuard,
    Budgets,
    KlingPricingError,
    load_budgets,
)
from kling_pricing.budgets import BudgetEntry, BudgetsFile, budgets_from_document
from kling_pricing.budgets.differences import BUDGET_RULES, FILE_RULES, differences
from kling_pricing.budgets.writing import budgets_yaml
from kling_pricing.errors import BudgetWeakenedError
from kling_pricing.guard import BudgetPlan, apply_budgets, plan_budgets
from kling_pricing.money import format_decimal, multiply
from kling_pricing.quoting.settings import RESOLUTIONS
from kling_pricing.tables.price_book import PriceBook
from tests.conftest import Clock, examples, video

ALL = {"name": "all", "cap": "100", "currency": "USD"}
TRAILER = {"name": "trailer", "match": {"project": "trailer"}, "cap": "25", "currency": "USD"}
TEASER = {"name": "teaser", "match": {"project": "teaser"}, "cap": "10", "currency": "USD"}


def budgets(*entries: dict[str, Any], **settings: Any) -> Budgets:
    """Returns budgets from their settings."""
    return Budgets([Budget(**entry) for entry in entries], **settings)


def texts(plan: BudgetPlan) -> list[tuple[str, str]]:
    """Returns the kind and the subject of each change in a plan."""
    return [(change.kind, change.subject) for change in plan.changes]


# a partial file


@pytest.mark.parametrize("requests", [0, 1])
def test_a_partial_file_removes_nothing(ledger: str, book: PriceBook, clock: Clock, requests: int) -> None:
    """Budgets that a file lacks stay in force until each of them is named, used or not."""
    with BudgetGuard(ledger, budgets(ALL, TRAILER, TEASER), book=book, clock=clock) as guard:
        for _ in range(requests):
            guard.admit(video(), project="trailer")
        before = guard.budgets().digest, len(guard.journal()), len(guard.log())
        for named in ([], ["trailer"], ["teaser"]):
            with pytest.raises(BudgetWeakenedError, match=r"or name (it|each) in `remove`") as refusal:
                guard.apply(budgets(ALL), remove=named, allow_weaker=True)
            assert refusal.value.removed == tuple(name for name in ("trailer", "teaser") if name not in named)
        assert (guard.budgets().digest, len(guard.journal()), len(guard.log())) == before
        with pytest.raises(BudgetError, match="the new budgets contain it"):
            guard.apply(budgets(ALL, TRAILER, TEASER), remove=["teaser"])
        with pytest.raises(KlingPricingError, match="must be a list of the names"):
            guard.apply(budgets(ALL), remove="trailer")
        guard.apply(budgets(ALL), remove=["trailer", "teaser"])
        assert [budget.name for budget in guard.budgets().budgets] == ["all"]
        guard.verify()


WEAKER: dict[str, tuple[dict[str, Any], dict[str, Any], str | None]] = {
    "a higher cap": ({"cap": "25"}, {"cap": "25.000000001"}, "all: cap 25 -> 25.000000001 USD"),
    "a lower cap": ({"cap": "25"}, {"cap": "24"}, None),
    "a higher limit": ({"max_request": "3"}, {"max_request": "4"}, "all: max_request 3 -> 4 USD"),
    "a dropped limit": ({"max_request": "3"}, {}, "all: max_request 3 -> none"),
    "a new limit": ({}, {"max_request": "3"}, None),
    "a narrower match": ({"match": {"project": ["a", "b"]}}, {"match": {"project": "a"}}, "all: match"),
    "a further label": ({"match": {}}, {"match": {"user": "any"}}, "all: match"),
    "separate buckets": ({"match": {"user": "any"}}, {"match": {"user": "*"}}, "all: match"),
    "separate listed values": ({"match": {"user": ["li", "wang"]}}, {"match": {"user": "*"}}, "all: match"),
    "one bucket": ({"match": {"user": "*"}}, {"match": {"user": "any"}}, None),
    "a wider match": ({"match": {"project": "a"}}, {"match": {"project": ["a", "b"]}}, None),
    "every request": ({"match": {"user": "*", "project": "a"}}, {"match": {}}, None),
    "one value becomes each": ({"match": {"user": "li"}}, {"match": {"user": "*"}}, None),
    "another window": ({"window": "month"}, {"window": "day"}, "all: window month -> day"),
    "another zone": ({"window": "day"}, {"window": "day", "timezone": "Asia/Shanghai"}, "all: timezone"),
    "another currency": ({"currency": "USD"}, {"currency": "CNY"}, "all: currency USD -> CNY"),
    "capping": ({}, {"on_exceed": "cap"}, "all: on_exceed reject -> cap"),
    "no capping": ({"on_exceed": "cap"}, {}, None),
    "a shorter floor": ({"min_duration_s": 5}, {"min_duration_s": 3}, "all: min_duration_s 5 -> 3"),
    "a dropped floor": ({"min_resolution": "720p"}, {}, "all: min_resolution 720p -> none"),
    "a lower floor": ({"min_resolution": "1080p"}, {"min_resolution": "720p"}, "all: min_resolution"),
    "a higher floor": ({"min_resolution": "720p"}, {"min_resolution": "1080p"}, None),
    "a setting that is not kept": ({"keep": ["audio"]}, {}, "all: keep [audio] -> []"),
    "other alerts": ({"alerts": ["0.5"]}, {"alerts": ["0.8"]}, None),
}


@pytest.mark.parametrize("kind", WEAKER)
def test_weaker_protection_needs_consent(kind: str, tmp_path: Path, book: PriceBook) -> None:
    """A change after which more may be spent or fewer requests are checked is refused until it is allowed."""
    old, new, expected = WEAKER[kind]
    with BudgetGuard(f"sqlite:///{tmp_path}/spend.db", budgets(ALL | old), book=book) as guard:
        changed = budgets(ALL | new | {"carry_over": True})
        weaker = guard.plan(changed).weaker
        if expected is None:
            assert weaker == ()
        else:
            assert [text.startswith(expected) for text in weaker] == [True]
            with pytest.raises(BudgetWeakenedError) as refusal:
                guard.apply(changed)
            assert refusal.value.weaker == weaker
        guard.apply(changed, allow_weaker=expected is not None)
        assert guard.budgets().digest == changed.digest


SETTINGS: dict[str, tuple[dict[str, Any], dict[str, Any], bool]] = {
    "unmatched": ({}, {"unmatched": "allow"}, True),
    "no unmatched": ({"unmatched": "allow"}, {}, False),
    "dropped projects": ({"projects": ["a"]}, {}, True),
    "a further project": ({"projects": ["a"]}, {"projects": ["a", "b"]}, True),
    "fewer projects": ({"projects": ["a", "b"]}, {"projects": ["a"]}, False),
    "new projects": ({}, {"projects": ["a"]}, False),
    "a dropped label": ({"require_labels": ["team", "user"]}, {"require_labels": ["user"]}, True),
    "a new label": ({}, {"require_labels": ["user"]}, False),
    "a lower rate": ({"accounting_rates": [("CNY", "0.14")]}, {"accounting_rates": [("CNY", "0.13")]}, True),
    "a higher rate": ({"accounting_rates": [("CNY", "0.14")]}, {"accounting_rates": [("CNY", "0.15")]}, False),
    "a dropped rate": ({"accounting_rates": [("CNY", "0.14")]}, {}, False),
    "a new rate": ({}, {"accounting_rates": [("CNY", "0.14")]}, True),
    "more to sacrifice": (
        {"capping": {"sacrifice": ["audio"]}},
        {"capping": {"sacrifice": ["audio", "resolution"]}},
        True,
    ),
    "less to sacrifice": (
        {"capping": {"sacrifice": ["audio", "resolution"]}},
        {"capping": {"sacrifice": ["audio"]}},
        False,
    ),
}


@pytest.mark.parametrize("kind", SETTINGS)
def test_weaker_settings_need_consent(kind: str) -> None:
    """The settings of a whole file are protected like the budgets."""
    old, new = (
        budgets(
            ALL,
            **settings
            | {
                "accounting_rates": [
                    {"quote": quote, "budget": "USD", "rate": rate}
                    for quote, rate in settings.get("accounting_rates", ())
                ]
            },
        )
        for settings in SETTINGS[kind][:2]
    )
    (change,) = differences(old, new)
    assert (change.budget, bool(change.weaker)) == (None, SETTINGS[kind][2])
    assert differences(None, new)[-1].weaker == ()


def test_every_key_has_a_rule() -> None:
    """No key of a budgets file can be changed without a decision about its protection."""
    assert BUDGET_RULES.keys() >= BudgetEntry.model_fields.keys() - {"name"}
    assert FILE_RULES.keys() >= BudgetsFile.model_fields.keys() - {"budgets", "accounting_rates"}


# plans


def test_a_plan_shows_balances_and_effects(ledger: str, book: PriceBook, clock: Clock) -> None:
    """A plan names what changes, what each budget has spent and held, and what a lower cap means."""
    with BudgetGuard(ledger, budgets(ALL, TRAILER), book=book, clock=clock) as guard:
        paid = guard.admit(video(), project="trailer")
        guard.admit(video(), project="trailer")
        guard.dispatch(paid)
        guard.settle(paid, "0.3")
        before = guard.status(), guard.journal(), guard.log()
        plan = guard.plan(budgets(TRAILER | {"cap": "0.5"}, TEASER, unmatched="allow"))
        assert texts(plan) == [
            ("changed", "trailer"),
            ("added", "teaser"),
            ("removed", "all"),
            ("changed", "unmatched"),
        ]
        assert [(bucket.spent, bucket.held) for bucket in plan.balances["trailer"]] == [
            (Decimal("0.3"), Decimal("0.357"))
        ]
        assert (plan.removed, plan.weaker) == (("all",), ("unmatched refuse -> allow",))
        assert "trailer has already used 0.657 USD (spent 0.3, held 0.357), more than the new cap of 0.5" in (
            " ".join(plan.notes)
        )
        assert json.loads(json.dumps(plan.as_dict()))["removed"] == ["all"]
        assert (guard.status(), guard.journal(), guard.log()) == before


def test_a_plan_is_applied_only_to_the_budgets_it_was_made_for(ledger: str, book: PriceBook) -> None:
    """A plan that somebody agreed to is refused if the current budgets have changed since."""
    with BudgetGuard(ledger, budgets(TRAILER), book=book) as guard:
        plan = guard.plan(budgets(TRAILER | {"cap": "50"}))
        guard.apply(budgets(TRAILER | {"cap": "40"}), allow_weaker=True)
        with pytest.raises(BudgetError, match="have changed since the plan was made"):
            guard.apply(plan, allow_weaker=True)
        assert guard.budgets().budgets[0].cap == 40
        guard.apply(guard.plan(plan.budgets), allow_weaker=True)
        guard.apply(plan, allow_weaker=True)
        assert guard.budgets().budgets[0].cap == 50


def test_a_plan_for_an_empty_ledger_adds_everything(ledger: str) -> None:
    """The plan creates nothing; applying it needs no consent, because nothing is protected yet."""
    plan = plan_budgets(ledger, budgets(ALL, TRAILER, unmatched="allow"))
    assert texts(plan) == [("added", "all"), ("added", "trailer"), ("changed", "unmatched")]
    assert (plan.removed, plan.weaker, plan.base) == ((), (), None)
    with pytest.raises(BudgetError, match="no budgets yet"):
        BudgetGuard(ledger)
    apply_budgets(ledger, plan)
    assert plan_budgets(ledger, budgets(TRAILER, ALL, unmatched="allow")).changes == ()


def test_a_plan_names_what_the_ledger_refuses(ledger: str, book: PriceBook) -> None:
    """Another definition without carry_over is a problem in the plan, and `apply` refuses it."""
    with BudgetGuard(ledger, budgets(TRAILER), book=book) as guard:
        plan = guard.plan(budgets(TRAILER | {"window": "day"}))
        assert "set carry_over: true" in plan.problems[0]
        with pytest.raises(BudgetError, match="set carry_over: true"):
            guard.apply(plan, allow_weaker=True)


# every pair of files

NAMES = st.sampled_from(["a", "b", "c", "d"])
LABELS = st.sampled_from(
    ["li", "wang", "any", "*", "yes", "007", "1.5", "null", "12:30", "-", "# x", "李", "a: b"]
)
PATTERNS = LABELS | st.lists(LABELS.filter(lambda text: text not in {"any", "*"}), min_size=1, unique=True)
AMOUNTS = st.integers(0, 10**13).map(lambda nanos: Decimal(nanos) / 10**9)
WINDOWS = st.sampled_from(["lifetime", "day", "week", "month", {"start": "2026-11-01", "end": "2027-02-01"}])


@st.composite
def entries(draw: st.DrawFn) -> Budget:
    """Draws a budget. Without carry_over, its name follows from its definition, so that it can come back."""
    drawn = draw(
        st.fixed_dictionaries(
            {"cap": AMOUNTS, "currency": st.sampled_from(["USD", "CNY"]), "window": WINDOWS},
            optional={
                "match": st.dictionaries(st.sampled_from(["project", "user", "true"]), PATTERNS, max_size=2),
                "timezone": st.sampled_from(["UTC", "Asia/Shanghai"]),
                "on_exceed": st.sampled_from(["reject", "cap"]),
                "max_request": AMOUNTS,
                "alerts": st.just(["0.5", "0.8"]),
                "min_duration_s": st.integers(1, 9),
                "min_resolution": st.sampled_from(RESOLUTIONS),
                "keep": st.just(["audio"]),
                "carry_over": st.booleans(),
            },
        )
    )
    budget = Budget(name="x", **drawn)
    name = draw(NAMES)
    return Budget(name=name if budget.carry_over else f"{name}-{budget.definition}", **drawn)


@st.composite
def files(draw: st.DrawFn) -> Budgets:
    """Draws a budgets file."""
    drawn = draw(st.lists(entries(), min_size=1, max_size=4, unique_by=lambda budget: budget.name))
    rates = draw(st.dictionaries(st.sampled_from([("USD", "CNY"), ("CNY", "USD")]), AMOUNTS.filter(bool)))
    return Budgets(
        drawn,
        unmatched=draw(st.sampled_from(["refuse", "allow"])),
        accounting_rates=[{"quote": pair[0], "budget": pair[1], "rate": rate} for pair, rate in rates.items()],
        require_labels=draw(st.sampled_from([None, ["user"], ["team", "user"]])),
        capping=draw(st.sampled_from([{}, {"sacrifice": ["audio"]}])),
    )


def unordered(document: dict[str, Any]) -> dict[str, Any]:
    """Returns a document with its budgets by name and its rates by currencies."""
    rates = {f"{rate['quote']} to {rate['budget']}": rate["rate"] for rate in document["accounting_rates"]}
    return document | {"budgets": {one["name"]: one for one in document["budgets"]}, "accounting_rates": rates}


def patched(old: BudgetsFile, plan: BudgetPlan) -> dict[str, Any]:
    """Returns the old document with the changes of a plan."""
    document = unordered(json.loads(old.document))
    for change in plan.changes:
        values = {field.field: field.new for field in change.fields}
        if change.kind == "added":
            entry = Budget(**json.loads(json.dumps({"name": change.subject, **values})))
            document["budgets"][change.subject] = json.loads(entry.model_dump_json())
        elif change.kind == "removed":
            del document["budgets"][change.subject]
        elif change.budget is not None:
            document["budgets"][change.subject] |= values
        elif change.subject == "accounting_rates":
            ((pair, rate),) = (
                (name.removeprefix("accounting_rates "), value) for name, value in values.items()
            )
            document["accounting_rates"] |= {pair: rate}
            if rate is None:
                del document["accounting_rates"][pair]
        else:
            document |= values
    return document


def test_a_plan_is_the_difference_of_the_documents(
    ledger: str, book: PriceBook, clock: Clock, tmp_path: Path
) -> None:
    """A plan makes the new document of the old one, and after `apply` the ledger shows the new file."""
    path = tmp_path / "shown.yaml"
    with BudgetGuard(ledger, budgets(ALL), book=book, clock=clock) as guard:

        @settings(max_examples=examples(25), deadline=None, suppress_health_check=[HealthCheck.too_slow])
        @given(files())
        def replaced(new: Budgets) -> None:
            old = guard.budgets()
            plan = guard.plan(new)
            assert patched(old, plan) == unordered(json.loads(new.document))
            assert (plan.changes == ()) == (old.digest == new.digest)
            guard.apply(plan, remove=plan.removed, allow_weaker=True)
            shown = guard.budgets()
            assert unordered(json.loads(shown.document)) == unordered(json.loads(new.document))
            path.write_text(budgets_yaml(shown), encoding="utf-8")
            assert load_budgets(path).document == shown.document
            assert guard.plan(path).changes == ()

        replaced()
        guard.verify()


REQUESTS = st.fixed_dictionaries(
    {"project": st.sampled_from(["li", "wang", "007"])},
    optional={"user": st.sampled_from(["li", "wang", "other"]), "true": st.just("li"), "team": st.just("x")},
)


def fits(file: BudgetsFile, labels: dict[str, str], amount: Decimal, at: datetime) -> bool:
    """Returns whether a first request in dollars may spend."""
    matching = [
        budget
        for budget in file.budgets
        if budget.bucket_labels(labels) is not None and budget.period(at) is not None
    ]
    if file.refusal(labels) is not None or not (matching or file.unmatched == "allow"):
        return False
    for budget in matching:
        try:
            rate = file.rate("USD", budget)
        except BudgetError:
            return False
        cost = amount if rate is None else multiply(amount, rate)
        if cost > min(budget.cap, budget.cap if budget.max_request is None else budget.max_request):
            return False
    return True


@settings(max_examples=examples(300), deadline=None)
@given(files(), st.data())
def test_without_weaker_changes_nothing_more_is_admitted(old: Budgets, data: st.DataObject) -> None:
    """If a plan names nothing weaker and adds no budget, a request that fits then has fitted before."""
    tree = json.loads(old.document)
    for entry in tree["budgets"]:
        drawn = data.draw(
            st.fixed_dictionaries(
                {},
                optional={
                    "cap": AMOUNTS.map(format_decimal),
                    "max_request": AMOUNTS.map(format_decimal) | st.none(),
                    "match": st.dictionaries(
                        st.sampled_from(["project", "user", "true"]), PATTERNS, max_size=2
                    ),
                },
            )
        )
        entry.update(drawn)
    changed = data.draw(files())
    tree |= data.draw(
        st.fixed_dictionaries(
            {}, optional={name: st.just(json.loads(changed.document)[name]) for name in FILE_RULES}
        )
    )
    new = budgets_from_document(json.dumps(tree))
    if any(change.weaker for change in differences(old, new)):
        return
    labels, amount = data.draw(REQUESTS), data.draw(AMOUNTS)
    at = datetime(2026, 11, 21, tzinfo=UTC)
    assert fits(old, labels, amount, at) or not fits(new, labels, amount, at)


def test_a_plan_for_an_empty_ledger_is_not_applied_to_other_budgets(ledger: str) -> None:
    """A plan that was made when there were no budgets is refused once there are some."""
    one = {"name": "one", "match": {}, "cap": "1", "currency": "USD"}
    plan = plan_budgets(ledger, budgets(one | {"cap": "9"}))
    apply_budgets(ledger, budgets(one))
    with pytest.raises(BudgetError, match="have changed since the plan was made"):
        apply_budgets(ledger, plan, allow_weaker=True)


def test_an_unknown_name_is_not_removed(ledger: str) -> None:
    """A misspelt name is an error; one that is gone already is none."""
    one = {"name": "one", "match": {}, "cap": "1", "currency": "USD"}
    two = one | {"name": "trailer"}
    with pytest.raises(BudgetError, match="has no budgets yet"):
        apply_budgets(ledger, budgets(one), remove=["trailer"])
    apply_budgets(ledger, budgets(one, two))
    with pytest.raises(BudgetError, match="did you mean 'trailer'"):
        apply_budgets(ledger, budgets(one), remove=["trailr", "trailer"])
    apply_budgets(ledger, budgets(one), remove=["trailer"])
    apply_budgets(ledger, budgets(one), remove=["trailer"])


@pytest.mark.parametrize(
    ("match", "before", "unmatched", "weaker"),
    [
        ({"project": "b"}, {"project": "a"}, "refuse", True),
        ({"project": "b"}, {"project": "any"}, "refuse", False),
        ({"project": "b"}, {"project": "*"}, "refuse", False),
        ({}, {"project": "a"}, "refuse", True),
        ({"project": "b"}, {"project": "a"}, "allow", False),
    ],
)
def test_an_observing_budget_that_admits_unmatched_requests_is_weaker(
    match: dict[str, str], before: dict[str, str], unmatched: str, *, weaker: bool
) -> None:
    """A new budget in observe mode is weaker if it matches requests that no budget matched."""
    one = {"name": "one", "match": before, "cap": "1", "currency": "USD"}
    trial = {"name": "trial", "match": match, "cap": "1", "currency": "USD", "enforce": "observe"}
    old, new = budgets(one, unmatched=unmatched), budgets(one, trial, unmatched=unmatched)
    (change,) = differences(old, new)
    assert bool(change.weaker) == weaker
