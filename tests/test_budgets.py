"""Budgets: strict loading, matching, counting, and revisions."""

import json
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from kling_pricing import (
    Budget,
    BudgetError,
    BudgetExceededError,
    BudgetGuard,
    Budgets,
    KlingPricingError,
    load_budgets,
)
from kling_pricing.budgets import (
    BudgetEntry,
    BudgetsFile,
    budgets_file_schema,
    budgets_from_document,
    is_digest_of,
)
from kling_pricing.errors import LedgerError
from tests.conftest import AT, Clock, video

COMPLETE = """\
budgets:
  - name: trailer
    match: {project: trailer, user: [li, wang], team: any, shot: "*"}
    cap: 500.00
    currency: USD
    window: month
    timezone: Asia/Shanghai
    on_exceed: cap
    max_request: "3"
    alerts: [1, 0.80]
    min_duration_s: 3
    min_resolution: 720p
    keep: [audio]
  - name: sprint
    cap: 100
    currency: CNY
    window: {start: 2026-11-16, end: 2026-11-30}
  - name: weekly
    cap: 20
    currency: USD
    window: week
    week_starts: sunday
unmatched: allow
accounting_rates:
  - {quote: USD, budget: CNY, rate: 7.1}
capping:
  sacrifice: [audio, model, duration_s]
  models: [kling-v3, kling-v2-6]
"""
OBJECTS = Budgets(
    [
        Budget(name="weekly", cap="20", currency="USD", window="week", week_starts="sunday"),
        Budget(
            name="trailer",
            match={"shot": "*", "team": "any", "user": ("wang", "li"), "project": "trailer"},
            cap=500,
            currency="USD",
            window="month",
            timezone="Asia/Shanghai",
            on_exceed="cap",
            max_request=Decimal("3.0"),
            alerts=(Decimal("0.8"), Decimal("1.0")),
            min_duration_s=3,
            min_resolution="720p",
            keep=("audio",),
        ),
        Budget(
            name="sprint",
            cap=Decimal("1E+2"),
            currency="CNY",
            window={"start": datetime(2026, 11, 16, tzinfo=UTC).date(), "end": "2026-11-30"},
        ),
    ],
    unmatched="allow",
    accounting_rates=[{"quote": "USD", "budget": "CNY", "rate": "7.10"}],
    capping={"sacrifice": ("audio", "model", "duration_s"), "models": ("kling-v3", "kling-v2-6")},
)
"""The same budgets as `COMPLETE`, written differently."""

BUDGET = {"name": "all", "cap": "10", "currency": "USD"}


def test_equal_budgets_have_equal_digests_however_written(tmp_path: Path) -> None:
    """A file, objects in another order, and the ledger's document have the same digest."""
    path = tmp_path / "budgets.yaml"
    path.write_text(COMPLETE, encoding="utf-8")
    read = load_budgets(path)
    kept = budgets_from_document(read.document)
    assert read.digest == OBJECTS.digest == kept.digest == budgets_from_document(OBJECTS.document).digest
    assert kept.document == read.document
    assert [budget.definition for budget in kept.budgets] == [budget.definition for budget in read.budgets]


@pytest.mark.parametrize(
    "change",
    [
        {"cap": 11},
        {"currency": "CNY"},
        {"window": "day"},
        {"on_exceed": "cap"},
        {"max_request": 1},
        {"alerts": [Decimal("0.5")]},
        {"min_duration_s": 3},
        {"min_resolution": "720p"},
        {"keep": ["audio"]},
        {"carry_over": True},
        {"match": {"project": "a"}},
        {"timezone": "Asia/Shanghai"},
        {"name": "every"},
    ],
    ids=str,
)
def test_different_budgets_have_different_digests(change: dict[str, Any]) -> None:
    """Every setting counts."""
    assert Budgets([Budget(**BUDGET)]).digest != Budgets([Budget(**{**BUDGET, **change})]).digest


DEFINITIONS: dict[str, tuple[dict[str, Any], str]] = {
    "every request": ({}, "53f4a9317d7c2f9d"),
    "one label": ({"match": {"project": "trailer"}}, "c8aa56696c24e7eb"),
    "a list of values": ({"match": {"project": ["winter", "autumn"]}}, "5171f1c2fcff552d"),
    "any value": ({"match": {"project": "any"}}, "9d3e62775950435d"),
    "each value": ({"match": {"user": "*"}}, "cb1a366b6749ec8f"),
    "two labels": ({"match": {"user": "*", "project": "trailer"}}, "e3eb4fc4b145c7a2"),
    "not ASCII": ({"match": {"project": "童话"}}, "f76ce98e56163045"),
    "another currency": ({"currency": "CNY"}, "503a4e5d6788fb51"),
    "lifetime": ({"window": "lifetime"}, "53f4a9317d7c2f9d"),
    "day": ({"window": "day"}, "4e933060d81f4b26"),
    "week": ({"window": "week"}, "7503ae70c5ec8777"),
    "week from Sunday": ({"window": "week", "week_starts": "sunday"}, "9b249f163d8e6ade"),
    "month": ({"window": "month"}, "6c9ddf95bd315f0e"),
    "quarter": ({"window": "quarter"}, "58de39115da5f99f"),
    "year": ({"window": "year"}, "79e953f994c4747e"),
    "days of Shanghai": ({"window": "day", "timezone": "Asia/Shanghai"}, "3a5e626d979d81c5"),
    "a fixed window": ({"window": {"start": "2026-11-01", "end": "2027-02-01"}}, "529b21253c087097"),
}
"""Every kind of budget, and the digest by which the ledgers in use know its buckets."""


@pytest.mark.parametrize("kind", DEFINITIONS)
def test_the_definition_of_a_budget_never_changes(kind: str) -> None:
    """Under another digest, every budget in use would begin a bucket with a fresh cap."""
    settings, definition = DEFINITIONS[kind]
    others = {
        "cap": "11",
        "on_exceed": "cap",
        "alerts": [Decimal("0.5")],
        "carry_over": True,
        "keep": ["audio"],
    }
    assert Budget(**BUDGET | settings).definition == definition
    assert Budget(**BUDGET | settings | others).definition == definition


class _LaterEntry(BudgetEntry):
    """A budget with a key that a later release might have."""

    review: str = "none"


class _LaterFile(BudgetsFile):
    """A file of such budgets, with a key of its own."""

    budgets: list[_LaterEntry]  # type: ignore[assignment]
    calendar: str | None = None


def test_a_new_optional_key_changes_no_digest() -> None:
    """Digests leave defaults out; a key that is set counts."""
    given = json.loads(OBJECTS.document)
    later = _LaterFile.model_validate(given)
    assert (later.digest, later.budgets[0].definition) == (OBJECTS.digest, OBJECTS.budgets[0].definition)
    given["budgets"][0]["review"] = "weekly"
    assert _LaterFile.model_validate(given).digest != OBJECTS.digest
    assert Budgets([Budget(**BUDGET)]).digest == (
        "867dcab07005a35bdb127b938a60c15d81fce360f06a1f77f1ceefb4193cef2a"
    )
    assert OBJECTS.digest == "a9d18d794f00816f9b139b463713d85485494866813f892bc8f783c8a48ba3c2"


def test_the_digest_of_a_revision_is_recognised_however_it_was_taken() -> None:
    """The first releases took it of the whole document; of another document it is neither."""
    ledger = (Path(__file__).parent / "golden" / "sqlite-1.sql").read_text(encoding="utf-8")
    rows = re.findall(r"\"budget_revision\" VALUES\(\d,'(\w+)','(.*?)'", ledger)
    assert len(rows) == 2
    for digest, document in rows:
        assert is_digest_of(digest, document)
        assert is_digest_of(budgets_from_document(document).digest, document)
        assert not is_digest_of(digest, document.replace('"400"', '"401"'))
        assert not is_digest_of(budgets_from_document(document).digest, document.replace('"400"', '"401"'))


# what is wrong with one budget, its line (of 5), key path, and what is said
BAD_BUDGETS = [
    ({"nam": "x"}, 5, "nam", "unknown key; did you mean 'name'?"),
    ({"limits": "x"}, 5, "limits", "unknown key; use one of: name, match, cap,"),
    (
        {"name": "Trailer"},
        2,
        "name",
        "must be made of lower-case letters, digits, dots, underscores and hyphens",
    ),
    ({"name": None}, 2, "name", "this key is required; add it"),
    ({"cap": None}, 2, "cap", "this key is required; add it"),
    ({"cap": "1e3"}, 3, "cap", "'1e3' is not a plain decimal number"),
    ({"cap": "-1"}, 3, "cap", "'-1' is negative"),
    ({"cap": ".inf"}, 3, "cap", "'.inf' is not a finite number"),
    ({"cap": "1_000"}, 3, "cap", "is not a plain decimal number"),
    ({"cap": "0.0000000001"}, 3, "cap", "but the maximum is 9"),
    ({"cap": "4000000001"}, 3, "cap", "is too large; the maximum is 4000000000"),
    ({"cap": "true"}, 3, "cap", "must be an amount such as 0.0714"),
    ({"currency": "usd"}, 4, "currency", "must be an ISO 4217 code of three capital letters"),
    ({"currency": "EURO"}, 4, "currency", "must be an ISO 4217 code of three capital letters"),
    ({"match": "{project: []}"}, 5, "match.project", "must be text, a list of text values, `any` or `*`"),
    ({"match": "{project: ''}"}, 5, "match.project", "must be text, a list of text values, `any` or `*`"),
    ({"match": "{project: [a, '']}"}, 5, "match.project", "must be text, a list of text values, `any` or `*`"),
    ({"match": "{project: 5}"}, 5, "match.project", "must be text, a list of text values, `any` or `*`, got 5"),
    (
        {"match": "{project: {a: b}}"},
        5,
        "match.project",
        "must be text, a list of text values, `any` or `*`, got an object",
    ),
    ({"match": "{project: [a, b, a]}"}, 5, "match.project", "a is listed twice; keep one of them"),
    ({"match": "{a: b, a: c}"}, 5, "match.a", "duplicate key; the first one is on line 5; keep one of them"),
    ({"match": "[a]"}, 5, "match", "must be a map, got a list"),
    (
        {"window": "fortnight"},
        5,
        "window",
        "must be lifetime, day, week, month, quarter, year, {start: ..., ",
    ),
    ({"window": "[day]"}, 5, "window", "got a list"),
    ({"window": "{start: 2026-01-02}"}, 5, "window", "end: this key is required; add it"),
    (
        {"window": "{start: 2026-01-02, ends: 2026-02-01}"},
        5,
        "window",
        "ends: unknown key; did you mean 'end'?",
    ),
    (
        {"window": "{start: 2026-02-30, end: 2026-03-01}"},
        5,
        "window",
        "start: must be a day such as 2026-04-29, got '2026-02-30'",
    ),
    (
        {"window": "{start: 2026-02-01, end: 2026-02-01}"},
        5,
        "window",
        "set end to the day after the window's last day",
    ),
    (
        {"timezone": "Asia/Shangai"},
        5,
        "timezone",
        "unknown time zone Asia/Shangai; did you mean Asia/Shanghai?",
    ),
    (
        {"timezone": "../../etc/passwd"},
        5,
        "timezone",
        "unknown time zone ../../etc/passwd; write an IANA name such as Asia/Shanghai",
    ),
    ({"timezone": "Asia"}, 5, "timezone", "unknown time zone Asia; did you mean Asia/"),
    ({"timezone": "+8"}, 5, "timezone", "unknown time zone +8; write an IANA name such as Asia/Shanghai"),
    ({"week_starts": "sunday"}, 5, "week_starts", "applies only to a weekly window; remove it"),
    ({"week_starts": "Sunday"}, 5, "week_starts", "must be 'monday',"),
    ({"on_exceed": "warn"}, 5, "on_exceed", "must be 'reject' or 'cap'"),
    ({"max_request": "-2"}, 5, "max_request", "'-2' is negative"),
    (
        {"alerts": "[0.8, 1.1]"},
        5,
        "alerts",
        "must be fractions of the cap, greater than 0 and at most 1, such as 0.8",
    ),
    ({"alerts": "[0]"}, 5, "alerts", "must be fractions of the cap, greater than 0 and at most 1, such as 0.8"),
    ({"alerts": "[80%]"}, 5, "alerts[0]", "'80%' is not a plain decimal number"),
    ({"alerts": "[8e-1]"}, 5, "alerts[0]", "'8e-1' is not a plain decimal number"),
    ({"alerts": "[0.8, 0.80]"}, 5, "alerts", "0.8 is listed twice; keep one of them"),
    ({"alerts": "0.8"}, 5, "alerts", "must be a list, got 0.8"),
    ({"min_duration_s": "0"}, 5, "min_duration_s", "must be greater than 0"),
    ({"min_duration_s": "3.0"}, 5, "min_duration_s", "must be a whole number, got 3.0"),
    ({"min_resolution": "480p"}, 5, "min_resolution", "must be '720p', '1080p' or '4k'"),
    ({"keep": "[sound]"}, 5, "keep[0]", "must be 'duration_s', 'resolution', 'audio' or 'model'"),
    ({"keep": "[audio, audio]"}, 5, "keep", "audio is listed twice; keep one of them"),
    ({"carry_over": "yes"}, 5, "carry_over", "must be true or false, got 'yes'"),
]


@pytest.mark.parametrize(("given", "line", "key", "problem"), BAD_BUDGETS)
def test_a_mistake_in_a_budget_is_an_error_with_its_place(
    tmp_path: Path, given: dict[str, str | None], line: int, key: str, problem: str
) -> None:
    """The error names file, line, key path and remedy."""
    path = tmp_path / "budgets.yaml"
    lines = [f"{name}: {value}" for name, value in {**BUDGET, **given}.items() if value is not None]
    path.write_text("budgets:\n  - " + "\n    ".join(lines) + "\n", encoding="utf-8")
    with pytest.raises(BudgetError) as refused:
        load_budgets(path)
    error = refused.value
    assert (error.file, error.line, error.key_path) == (str(path), line, f"budgets[0].{key}")
    assert str(error).startswith(f"{path}:{line}: budgets[0].{key}: ")
    assert problem in str(error)


ONE = "budgets:\n  - {name: a, cap: 1, currency: USD}\n"
RATES = "accounting_rates:\n  - {quote: CNY, budget: USD, rate: 0.14}\n"
# the file, the line, the key path, and a part of the error
BAD_FILES = [
    ("", None, "", "the file is empty; it needs these keys: budgets"),
    ("- a\n", 1, "", "must be a map of keys and values"),
    ("{", 1, "", "not YAML"),
    ("budgets: []\n", 1, "budgets", "must not be empty; add at least one"),
    ("budgets: 5\n", 1, "budgets", "must be a list, got 5"),
    ("budgets:\n  - null\n", 2, "budgets[0]", "must be a map of keys and values"),
    ("budgets: &all\n  - a\n", 1, "budgets", "anchors (&name) are not supported"),
    (f"{ONE}budgets: []\n", 3, "budgets", "duplicate key; the first one is on line 1"),
    (
        f"{ONE}  - {{name: a, cap: 2, currency: USD}}\n",
        1,
        "budgets",
        "two budgets have the name a; rename one of them",
    ),
    (f"{ONE}budget: []\n", 3, "budget", "unknown key; did you mean 'budgets'?"),
    (f"{ONE}unmatched: permit\n", 3, "unmatched", "must be 'refuse' or 'allow'"),
    (f"{ONE}{RATES}  - {{quote: CNY, budget: USD, rate: 0.15}}\n", 3, "accounting_rates", "keep one of them"),
    (
        f"{ONE}{RATES.replace('0.14', '0')}",
        4,
        "accounting_rates[0].rate",
        "must be greater than 0; otherwise, spending would not count",
    ),
    (
        f"{ONE}{RATES.replace('CNY', 'USD')}",
        4,
        "accounting_rates[0].budget",
        "is the same as the currency of the quotes, so no rate is needed; remove this entry",
    ),
    (f"{ONE}capping: {{sacrifice: [audio, audio]}}\n", 3, "capping.sacrifice", "audio is listed twice"),
    (f"{ONE}capping: {{sacrifice: [sound]}}\n", 3, "capping.sacrifice[0]", "must be 'duration_s',"),
    (f"{ONE}capping: {{sacrifice: [model]}}\n", 3, "capping", "list replacement models"),
    (f"{ONE}capping: {{models: [kling-v3]}}\n", 3, "capping", "add `model` to `sacrifice`"),
    (
        f"{ONE}capping: {{sacrifice: [model], models: [kling-v3, kling-v3]}}\n",
        3,
        "capping.models",
        "kling-v3 is listed twice",
    ),
]


@pytest.mark.parametrize(("text", "line", "key", "problem"), BAD_FILES)
def test_a_mistake_in_a_file_is_an_error_with_its_place(
    tmp_path: Path, text: str, line: int | None, key: str, problem: str
) -> None:
    """Mistakes outside the budgets are reported in the same way, and nothing is installed."""
    path = tmp_path / "budgets.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(BudgetError) as refused:
        BudgetGuard(f"sqlite:///{tmp_path}/spend.db", path)
    error = refused.value
    assert (error.file, error.line, error.key_path) == (str(path), line, key)
    assert problem in str(error)
    BudgetGuard(f"sqlite:///{tmp_path}/spend.db", [Budget(**BUDGET)])  # nothing was installed


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    """The error names the file and the reason."""
    with pytest.raises(BudgetError, match=r"nowhere\.yaml: cannot be read: No such file"):
        load_budgets(tmp_path / "nowhere.yaml")
    with pytest.raises(BudgetError, match="cannot be read: Is a directory"):
        load_budgets(tmp_path)


@pytest.mark.parametrize(
    ("given", "key", "problem"),
    [
        ({"nam": "x"}, "nam", "budget all: unknown key; did you mean 'name'?"),
        ({"name": None}, "name", "must be made of lower-case letters"),
        ({"cap": 10.0}, "cap", "must be exact, but 10.0 is a float"),
        ({"cap": True}, "cap", "must be an amount"),
        ({"cap": Decimal("NaN")}, "cap", "is not a finite number"),
        ({"cap": Decimal(-1)}, "cap", "is negative"),
        ({"cap": 4_000_000_001}, "cap", "is too large"),
        ({"alerts": (0.8,)}, "alerts[0]", "must be exact, but 0.8 is a float"),
        ({"match": {"project": ()}}, "match.project", "must be text, a list of text values, `any` or `*`"),
        (
            {"match": {"project": 5}},
            "match.project",
            "must be text, a list of text values, `any` or `*`, got 5",
        ),
        ({"window": "fortnight"}, "window", "must be lifetime, day,"),
        (
            {"window": {"start": "2026-01-02", "end": "2026-01-01"}},
            "window",
            "set end to the day after the window's last day",
        ),
        (
            {"timezone": "Mars/Olympus"},
            "timezone",
            "unknown time zone Mars/Olympus; write an IANA name such as Asia/Shanghai",
        ),
    ],
)
def test_a_mistake_in_an_object_is_an_error_with_its_key(given: dict[str, Any], key: str, problem: str) -> None:
    """The same rules apply without a file."""
    with pytest.raises(BudgetError) as refused:
        Budget(**{**BUDGET, **given})
    assert (refused.value.file, refused.value.line, refused.value.key_path) == ("", None, key)
    assert problem in str(refused.value)


ALL = [Budget(**BUDGET)]
# the budgets, other arguments, and a part of the error
BAD_OBJECTS: list[tuple[Any, dict[str, Any], str]] = [
    ([], {}, "must not be empty"),
    ([*ALL, *ALL], {}, "two budgets have the name all; rename one of them"),
    (ALL[0], {}, "budgets must be a list of Budget objects, got Budget"),
    ({"all": 1}, {}, "budgets must be a list of Budget objects, got dict"),
    (None, {}, "budgets must be a list of Budget objects, got NoneType"),
    ([1], {}, "must be a map of keys and values"),
    (ALL, {"unmatched": "permit"}, "must be 'refuse' or 'allow'"),
    (ALL, {"capping": {"sacrifice": ("model",)}}, "list replacement models"),
    (ALL, {"limits": 1}, "unknown key"),
    (
        ALL,
        {"accounting_rates": [{"quote": "CNY", "budget": "USD", "rate": 0.14}]},
        "must be exact, but 0.14 is a float",
    ),
]


@pytest.mark.parametrize(("budgets", "more", "problem"), BAD_OBJECTS)
def test_a_mistake_in_several_objects_is_an_error(budgets: Any, more: dict[str, Any], problem: str) -> None:
    """The same rules apply to several budgets."""
    with pytest.raises(BudgetError) as refused:
        Budgets(budgets, **more)
    assert problem in str(refused.value)


def test_the_schema_knows_every_key() -> None:
    """An editor with the schema accepts all keys of the complete file and refuses others."""
    schema = budgets_file_schema()
    entry = schema["$defs"]["BudgetEntry"]
    assert schema["properties"].keys() == {
        *("budgets", "unmatched", "notify", "accounting_rates", "capping", "projects", "require_labels"),
    }
    assert set(entry["required"]) == {"name", "cap", "currency"}
    assert entry["properties"].keys() == Budget.model_fields.keys()
    assert (schema["additionalProperties"], entry["additionalProperties"]) == (False, False)
    json.dumps(schema)


def counts(guard: BudgetGuard) -> list[tuple[Any, Any]]:
    """Returns what each bucket holds and has spent."""
    return [(row.held, row.spent) for row in guard.status()]


# matching


@pytest.mark.parametrize(
    ("match", "labels", "bucket"),
    [
        ({}, {}, {}),
        ({}, {"user": "li"}, {}),
        ({"project": "a"}, {}, {}),
        ({"project": "b"}, {}, None),
        ({"project": ["a", "b"]}, {}, {}),
        ({"project": ["b", "c"]}, {}, None),
        ({"user": "any"}, {}, None),
        ({"user": "any"}, {"user": "li"}, {}),
        ({"user": "*"}, {}, None),
        ({"user": "*"}, {"user": "li"}, {"user": "li"}),
        ({"user": "*"}, {"user": "*"}, {"user": "*"}),
        ({"project": "a", "user": "*", "team": "any"}, {"user": "li"}, None),
        ({"project": "a", "user": "*", "team": "any"}, {"user": "li", "team": "x"}, {"user": "li"}),
        ({"project": "*", "user": "*"}, {"user": "li"}, {"project": "a", "user": "li"}),
    ],
)
def test_a_budget_matches_requests_by_their_labels(
    match: dict[str, Any], labels: dict[str, str], bucket: dict[str, str] | None, ledger: str, clock: Clock
) -> None:
    """A label must equal a value or one of a list, or may have any value, in one bucket or one per value."""
    guard = BudgetGuard(ledger, [Budget(**BUDGET, match=match)], clock=clock)
    if bucket is None:
        with pytest.raises(
            BudgetExceededError, match=r"no budget matches .*; add a matching budget"
        ) as refused:
            guard.admit(video(), project="a", labels=labels)
        assert (refused.value.budget, refused.value.available) == (None, Decimal(0))
    else:
        guard.admit(video(), project="a", labels=labels)
        assert [(row.labels, row.held) for row in guard.status()] == [(bucket, Decimal("0.357"))]


def test_a_request_that_no_budget_matches_may_be_allowed(ledger: str, clock: Clock) -> None:
    """The request is reserved and recorded, and counts in no budget."""
    budgets = Budgets([Budget(**BUDGET, match={"project": "b"})], unmatched="allow")
    guard = BudgetGuard(ledger, budgets, clock=clock)
    assert guard.admit(video(), project="a").reservation.expected == Decimal("0.357")
    assert [row.held for row in guard.status()] == [0]


def test_a_budget_matches_nothing_outside_its_fixed_window(ledger: str, clock: Clock) -> None:
    """It matches neither before the window nor after it."""
    window = {"start": "2026-11-21", "end": "2026-11-22"}
    guard = BudgetGuard(ledger, [Budget(**BUDGET, window=window)], clock=clock)
    for hours, held in ((-1, None), (0, "0.357"), (23, "0.714"), (24, None)):
        clock.now = AT + timedelta(hours=hours)
        if held is None:
            with pytest.raises(BudgetExceededError, match="no budget matches"):
                guard.admit(video(), project="a")
            with pytest.raises(LedgerError, match="budget all has no current window: its period"):
                guard.open_budget("all", 1)
            assert guard.status() == []
        else:
            guard.dispatch(guard.admit(video(), project="a"))
            assert [row.held for row in guard.status()] == [Decimal(held)]


def test_a_window_that_opens_while_a_request_waits_counts_it(ledger: str, clock: Clock) -> None:
    """The ledger's clock decides: the window is closed at the price and open at the reservation."""
    budgets = [
        Budget(**BUDGET),
        Budget(name="day", cap="0.1", currency="USD", window={"start": "2026-11-21", "end": "2026-11-22"}),
    ]
    BudgetGuard(ledger, budgets, clock=clock)
    before = AT - timedelta(seconds=1)
    instants = [AT, before, before]  # the last is used first, to open; a server has its own clock, at AT
    guard = BudgetGuard(ledger, clock=instants.pop)
    with pytest.raises(BudgetExceededError, match=r"budget day has 0\.1 USD left"):
        guard.admit(video(), project="a")


# currencies


def yuan(rate: str | None, cap: object = 10) -> Budgets:
    """Returns a budget in yuan for quotes in dollars."""
    rates = [] if rate is None else [{"quote": "USD", "budget": "CNY", "rate": rate}]
    return Budgets([Budget(name="yuan", cap=cap, currency="CNY")], accounting_rates=rates)


@pytest.mark.parametrize("values", [["any", "x"], ["*"]])
def test_any_and_each_cannot_be_in_a_list(values: list[str]) -> None:
    """In a list, it would be unclear whether they are values or have their special meaning."""
    with pytest.raises(
        BudgetError, match=r"`any` and `\*` cannot be in a list; use one of them alone, or list the values"
    ):
        Budget(**BUDGET, match={"user": values})


@pytest.mark.parametrize(
    ("rate", "held"),
    [
        ("7", "2.499"),
        ("7.1234567", "2.543074042"),  # 0.357 x 7.1234567 = 2.5430740419
        ("0.000000001", "0.000000001"),  # 0.000000000357
        ("1.000000001", "0.357000001"),  # 0.357000000357
    ],
)
def test_a_quote_counts_at_the_accounting_rate_rounded_up(
    rate: str, held: str, ledger: str, clock: Clock
) -> None:
    """The amount is rounded up to the next billionth when it is held and when it is spent."""
    guard = BudgetGuard(ledger, yuan(rate), clock=clock)
    admission = guard.admit(video(), project="a")
    assert counts(guard) == [(Decimal(held), 0)]
    guard.dispatch(admission)
    guard.settle(admission)
    assert counts(guard) == [(0, Decimal(held))]


def test_a_quote_in_another_currency_is_refused_without_a_rate(ledger: str, clock: Clock) -> None:
    """The message contains the line to add."""
    guard = BudgetGuard(ledger, yuan(None), clock=clock)
    line = r"add \{quote: USD, budget: CNY, rate: \.\.\.\} to accounting_rates"
    with pytest.raises(BudgetError, match=line):
        guard.admit(video(), project="a")
    with pytest.raises(BudgetError, match=line):
        guard.record("qingbo", "t", 1, labels={"project": "a"})
    assert guard.history() == []


def test_a_rate_that_exceeds_the_ledger_is_refused(ledger: str, clock: Clock) -> None:
    """An amount that does not fit the ledger is a clear error instead of an overflow."""
    guard = BudgetGuard(ledger, yuan("999999999999"), clock=clock)
    with pytest.raises(BudgetError, match="more than a ledger can hold; check the rate"):
        guard.admit(video(), project="a")


def test_a_reservation_keeps_its_accounting_rate(ledger: str, clock: Clock) -> None:
    """After the rate changes, an old reservation is settled at the old rate."""
    guard = BudgetGuard(ledger, yuan("7"), clock=clock)
    old = guard.admit(video(), project="a")
    guard.apply(yuan("8"))
    new = guard.admit(video(), project="a")
    assert [row.held for row in guard.status()] == [Decimal("0.357") * 15]
    for each in (old, new):
        guard.dispatch(each)
        guard.settle(each, Decimal("0.1"))
    assert counts(guard) == [(0, Decimal("1.5"))]


# revisions


def test_a_later_guard_needs_the_same_budgets_or_none(ledger: str, clock: Clock) -> None:
    """Other budgets are refused, and an empty ledger needs budgets."""
    with pytest.raises(BudgetError, match="has no budgets yet; check that this is the right ledger"):
        BudgetGuard(ledger, clock=clock)
    BudgetGuard(ledger, [Budget(**BUDGET)], clock=clock)
    BudgetGuard(ledger, [Budget(name="all", cap=Decimal("10.000"), currency="USD")], clock=clock)
    with pytest.raises(BudgetError, match="the ledger's budgets differ from the given budgets"):
        BudgetGuard(ledger, [Budget(**{**BUDGET, "cap": 11})], clock=clock)
    assert [row.cap for row in BudgetGuard(ledger, clock=clock).status()] == [10]


def test_a_running_guard_adopts_a_newer_revision(ledger: str, clock: Clock) -> None:
    """The next verb uses the new revision, even if the old one would refuse the request."""
    first = BudgetGuard(ledger, yuan(None), clock=clock)
    second = BudgetGuard(ledger, clock=clock)
    for rate, cap, held in (("7", 10, "2.499"), ("8", "5.355", "5.355")):
        second.apply(yuan(rate, cap), allow_weaker=True)
        first.dispatch(first.admit(video(), project="a"))
        assert [(row.cap, row.held) for row in first.status()] == [(Decimal(cap), Decimal(held))]
    second.apply(yuan("8", 100), allow_weaker=True)
    first.record("qingbo", "t", 1, labels={"project": "a"})
    assert counts(first) == [(Decimal("5.355"), 8)]


def test_a_lowered_cap_applies_at_once(ledger: str, clock: Clock) -> None:
    """The available amount may be negative; raising the cap restores it."""
    guard = BudgetGuard(ledger, [Budget(**BUDGET)], clock=clock)
    guard.admit(video(), project="a")
    for cap, left in (("0.3", "-0.057"), ("0.714", "0.357"), ("0.713999999", "0.356999999")):
        guard.apply([Budget(**{**BUDGET, "cap": cap})], allow_weaker=True)
        assert [row.available for row in guard.status()] == [Decimal(left)]
        if Decimal(left) < Decimal("0.357"):
            with pytest.raises(BudgetExceededError) as refused:
                guard.admit(video(), project="a")
            assert refused.value.available == Decimal(left)


DAILY = {**BUDGET, "window": "day"}


@pytest.mark.parametrize(
    "change",
    [
        {"window": "month"},
        {"timezone": "Asia/Shanghai"},
        {"match": {"project": "a"}},
        {"window": "week"},
        {"window": {"start": "2026-11-21", "end": "2026-12-01"}},
        {"currency": "CNY"},
    ],
    ids=str,
)
def test_a_budget_with_another_definition_carries_over_or_is_renamed(
    change: dict[str, Any], ledger: str, clock: Clock
) -> None:
    """Without `carry_over` nothing changes; with it, the new buckets count what the old ones held and spent."""
    guard = BudgetGuard(ledger, [Budget(**DAILY)], clock=clock)
    guard.admit(video(), project="a")
    paid = guard.admit(video(), project="a")
    guard.dispatch(paid)
    guard.settle(paid, Decimal("0.3"))
    guard.admit(video(), project="b")
    before = guard.status(), guard.journal()
    rates = [{"quote": "USD", "budget": "CNY", "rate": "7"}]
    with pytest.raises(BudgetError, match="give the budget another name, or set carry_over: true"):
        guard.apply(Budgets([Budget(**{**DAILY, **change})], accounting_rates=rates))
    assert (guard.status(), guard.journal()) == before
    new = Budgets([Budget(**{**DAILY, **change}, carry_over=True)], accounting_rates=rates)
    guard.apply(new, allow_weaker=True)
    held, spent = Decimal("0.357"), Decimal("0.3")
    others = 0 if "match" in change else held
    rate = 7 if "currency" in change else 1
    assert counts(guard) == [((held + others) * rate, spent * rate)]
    guard.verify()


def test_a_reservation_that_was_carried_over_settles_in_the_new_bucket(ledger: str, clock: Clock) -> None:
    """A reservation from before the revision is released and settled in the new bucket."""
    guard = BudgetGuard(ledger, [Budget(**DAILY)], clock=clock)
    released, settled = [guard.admit(video(), project="a") for _ in range(2)]
    guard.apply([Budget(**{**DAILY, "window": "month"}, carry_over=True)], allow_weaker=True)
    assert [row.held for row in guard.status()] == [Decimal("0.714")]
    guard.release(released)
    guard.dispatch(settled)
    guard.settle(settled, 1)
    assert counts(guard) == [(0, 1)]
    guard.verify()


def test_a_removed_budget_comes_back_with_its_balance(ledger: str, clock: Clock) -> None:
    """However long it was removed, it counts what was spent meanwhile, unless it says `carry_over: false`."""
    other = Budget(name="other", cap=10, currency="USD")
    guard = BudgetGuard(ledger, [Budget(**DAILY)], clock=clock)
    guard.admit(video(), project="a")
    guard.apply([other], remove=["all"])
    guard.admit(video(), project="a")
    with pytest.raises(BudgetError, match="carry_over: true"):
        guard.apply([other, Budget(**{**DAILY, "window": "month"}, carry_over=False)])
    guard.apply([other, Budget(**DAILY, carry_over=False)])
    assert [(row.budget, row.held) for row in guard.status()] == [
        ("other", Decimal("0.357")),
        ("all", Decimal("0.357")),
    ]
    guard.apply([other], remove=["all"])
    guard.apply([other, Budget(**DAILY)])
    assert [row.held for row in guard.status()] == [Decimal("0.357"), Decimal("0.714")]


def test_a_new_budget_counts_from_now_on_unless_it_carries_over(ledger: str, clock: Clock) -> None:
    """Spending before the revision counts only in the budget that carries over."""
    guard = BudgetGuard(ledger, [Budget(**BUDGET)], clock=clock)
    guard.admit(video(), project="a")
    budgets = [
        Budget(**BUDGET),
        Budget(name="new", cap=10, currency="USD"),
        Budget(name="since", cap=10, currency="USD", carry_over=True),
    ]
    guard.apply(budgets)
    assert [(row.budget, row.held) for row in guard.status()] == [
        ("all", Decimal("0.357")),
        ("new", 0),
        ("since", Decimal("0.357")),
    ]
    entries = len(guard.journal())
    guard.apply(budgets)
    assert len(guard.journal()) == entries, "the same budgets do not make a new revision"


def test_an_opening_balance_cannot_be_carried_over(ledger: str, clock: Clock) -> None:
    """It belongs to a bucket, not to a request; after the end of its window it no longer matters."""
    guard = BudgetGuard(ledger, [Budget(**DAILY)], clock=clock)
    guard.open_budget("all", 3)
    monthly = [Budget(**{**DAILY, "window": "month"}, carry_over=True)]
    with pytest.raises(BudgetError, match="opening balance, which cannot be carried over"):
        guard.apply(monthly, allow_weaker=True)
    assert counts(guard) == [(0, 3)]
    clock.pass_by(days=1)
    guard.apply(monthly, allow_weaker=True)
    assert [row.spent for row in guard.status()] == [0]


@pytest.mark.parametrize(
    ("budget", "labels", "problem"),
    [
        ("none", {}, "unknown budget none; the ledger's budgets are all, users"),
        ("all", {"user": "li"}, "budget all has a single bucket; omit the labels"),
        (
            "users",
            {},
            (
                "budget users has separate buckets; specify a value for each of these labels, and no other "
                "labels: user"
            ),
        ),
        ("users", {"user": ""}, "label user must be text of 1 to 200 printable characters"),
    ],
)
def test_an_opening_balance_needs_a_bucket(
    budget: str, labels: dict[str, str], problem: str, ledger: str, clock: Clock
) -> None:
    """The message lists the budgets or the labels."""
    budgets = [Budget(**BUDGET), Budget(name="users", match={"user": "*"}, cap=1, currency="USD")]
    guard = BudgetGuard(ledger, budgets, clock=clock)
    with pytest.raises(KlingPricingError) as refused:
        guard.open_budget(budget, 1, labels=labels)
    assert problem in str(refused.value)
    assert [row.spent for row in guard.status()] == [0]


def test_an_opening_balance_is_given_once_per_window(ledger: str, clock: Clock) -> None:
    """A second one is refused until the next window."""
    guard = BudgetGuard(ledger, [Budget(**DAILY)], clock=clock)
    guard.open_budget("all", "3.5")
    with pytest.raises(LedgerError, match="already has an opening balance"):
        guard.open_budget("all", 1)
    assert [row.available for row in guard.status()] == [Decimal("6.5")]
    clock.pass_by(days=1)
    guard.open_budget("all", 1)
    assert [row.available for row in guard.status()] == [9]
