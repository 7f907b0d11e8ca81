"""Causes: explanations hold against what the statement itself states, and exceptions are grouped by cause."""

import csv
import json
import random
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from openpyxl import load_workbook

from kling_pricing import PriceBook, load_price_book
from kling_pricing.reconcile import Line, exceptions_by_cause
from kling_pricing.reports import reconciliation_document, write_reports
from tests.commands import run
from tests.conftest import PRICES, Clock
from tests.test_reconcile import MONEY, NOON, World

D = Decimal
UNKNOWN = "no known price table, tier, length or rule accounts for this charge"
TWICE = "billed 10 s for a 5 s request, or billed at twice the price"

FACTS = """\
statement: facts
about: a table of ours that states the settings of each task
sources:
  - {ref: our own, checked: 2026-11-01, authority: official}
columns:
  task_id: {column: task}
  amount:
    column: amount
    unit_column: unit
    decimals: 4
    units: {video: {unit: unit}, quota: {}, USD: {}, CNY: {}}
  billed_at: {column: day}
  model: {column: model, names_of: [tasks]}
  resolution: {column: resolution, optional: true}
  duration_s: {column: seconds, optional: true}
  facts:
    - {column: sound, optional: true, means: {"on": {audio: true}, "off": {audio: false}}}
  state: {column: state, optional: true, names: {ok: succeeded, failed: failed, cancelled: cancelled}}
"""
FACTS_HEADER = "task,model,amount,unit,day,resolution,seconds,sound,state\n"


@pytest.fixture
def clock() -> Clock:
    """A clock that stands still in the month."""
    return Clock(NOON)


@pytest.fixture
def world(tmp_path: Path, book: PriceBook, clock: Clock) -> World:
    """A world with a ledger in SQLite."""
    return World(f"sqlite:///{tmp_path}/spend.db", book, clock, tmp_path)


@pytest.fixture
def kling(tmp_path: Path, book: PriceBook, clock: Clock) -> World:
    """The same for the official API, which bills in units."""
    return World(f"sqlite:///{tmp_path}/spend.db", book, clock, tmp_path, provider="kling")


def acme(tmp_path: Path, clock: Clock, prices: str, contract: str = "") -> World:
    """A world whose provider has a table of the test's own."""
    folder = tmp_path / "tables" / "prices" / "acme"
    folder.mkdir(parents=True)
    written = PRICES.replace("currency: EUR", "currency: USD").replace(
        "valid_from: null", "valid_from: 2026-11-01"
    )
    for old, new in (line.split(" -> ") for line in prices.splitlines()):
        assert old in written
        written = written.replace(old, new)
    (folder / "2026-11-01.yaml").write_text(written)
    if contract:
        (folder / "ours.yaml").write_text(contract)
    tables = load_price_book(tmp_path / "tables")
    return World(f"sqlite:///{tmp_path}/spend.db", tables, clock, tmp_path, provider="acme")


def with_facts(world: World, rows: list[str]) -> dict[str, Any]:
    """Writes a statement that states the settings of each task; returns the arguments of its reconciliation."""
    mapping = world.folder / "facts.yaml"
    mapping.write_text(FACTS)
    world.statement(FACTS_HEADER + "".join(f"{row}\n" for row in rows))
    return {"mapping": mapping}


def line_of(world: World, row: str) -> Line:
    """Reconciles a statement of one row of those, and returns its line."""
    more = with_facts(world, [row])
    with world.reconcile(world.folder / "november.csv", **more) as result:
        lines = list(result.lines())
    assert len(lines) == 1, lines
    return lines[0]


CLIPS: tuple[dict[str, Any], ...] = tuple(
    {"duration": length, "resolution": resolution, "audio": audio}
    for length in (5, 7, 10)
    for resolution in ("720p", "1080p")
    for audio in (False, True)
)


def units_of(clip: dict[str, Any]) -> Decimal:
    """Returns the quoted units of a clip of the official API."""
    per_second = {"720p": (D("0.6"), D("0.9")), "1080p": (D("0.8"), D("1.2"))}[clip["resolution"]]
    return per_second[clip["audio"]] * int(clip["duration"])


def test_variances_of_unknown_cause_are_not_explained(kling: World) -> None:
    """Of 200 such charges, whose rows state resolution, sound and length, at most 4 are explained."""
    dice = random.Random(20)  # noqa: S311 (not a secret)
    rows: list[str] = []
    for number in range(200):
        clip = dice.choice(CLIPS)
        quoted = units_of(clip)
        kling.send(f"t{number}", **clip)
        charged = quoted
        while charged == quoted:  # every second amount is on the grid of the price list, where many prices fit
            charged = D(dice.randrange(5, 300)) / 10
            if number % 2:
                charged = (quoted * D(dice.randrange(5000, 25000)) / 10000).quantize(D("0.0001"))
        length = D(clip["duration"]) + D(dice.choice(("0", "0.04")))
        sound = "on" if clip["audio"] else "off"
        rows.append(f"t{number},kling-v3,{charged},video,2026-11-05,{clip['resolution']},{length},{sound},ok")
    more = with_facts(kling, rows)
    with kling.reconcile(kling.folder / "november.csv", **more) as result:
        explained = list(result.lines("explained"))
        assert len(explained) <= 4, [line.cause for line in explained]
        assert len(explained) + len(list(result.lines("unexplained"))) == 200
    more = with_facts(kling, [",".join((*row.split(",")[:5], "", "", "", "")) for row in rows])
    with kling.reconcile(kling.folder / "november.csv", **more) as result:
        assert len(list(result.lines("explained"))) > 4  # without these facts, more prices fit by chance


@pytest.mark.parametrize(
    ("row", "category", "cause"),
    [
        ("6,video,2026-11-05,1080p,5.04,on", "matched", ""),
        (
            "4,video,2026-11-05,1080p,5.04,off",
            "explained",
            "billed at the 1080p silent rate, as the statement says",
        ),
        ("4,video,2026-11-05,1080p,5.04,on", "unexplained", "but the statement says 1080p, audio true, 5.04 s"),
        ("12,video,2026-11-05,1080p,5,on", "explained", "billed at twice the price"),
        ("12,video,2026-11-05,,,", "explained", TWICE),
        (
            "12,video,2026-11-05,,10.04,",
            "explained",
            "billed 10 s for a 5 s request (the stated 10.04 s rounded down), as the statement says",
        ),
        ("12,video,2026-11-05,1080p,7.2,on", "unexplained", "the amount fits a task that was billed 10 s"),
        ("9,video,2026-11-05,,6.2,", "unexplained", "accounts for this charge"),
    ],
)
def test_an_explanation_agrees_with_the_statement(kling: World, row: str, category: str, cause: str) -> None:
    """A price that contradicts resolution, sound or length on the statement is only a hint."""
    kling.send("t")
    more = with_facts(kling, [f"t,kling-v3,{row},"])
    with kling.reconcile(kling.folder / "november.csv", **more) as result:
        (line,) = result.lines()
        assert (line.category, cause in line.cause) == (category, True), line
        assert result.open == (category == "unexplained")


def test_lengths_are_rounded_to_blocks_only_where_the_table_counts_so(tmp_path: Path, clock: Clock) -> None:
    """A table that counts blocks of five seconds explains a charge for ten by a stated 7.2 seconds."""
    world = acme(tmp_path, clock, "{fact: duration_s} -> {fact: duration_s, rounding: ceil, step: 5}")
    world.send("t", audio=False)
    line = line_of(world, "t,kling-v3,2,USD,2026-11-05,,7.2,,")
    rounded = "the stated 7.2 s rounded up to a multiple of 5 s"
    assert line.cause == f"billed 10 s for a 5 s request ({rounded}), as the statement says"


def test_a_stated_sound_counts_where_the_tier_depends_on_more(
    tmp_path: Path, book: PriceBook, clock: Clock
) -> None:
    """The sound on the statement excludes rates although it does not state whether there was a reference."""
    world = World(f"sqlite:///{tmp_path}/spend.db", book, clock, tmp_path, "tencent-vod", "CNY")
    sound = {"output_config": {"audio_generation": "Enabled"}}
    clip = {
        "model": "kling-3.0-omni",
        "seconds": "5",
        "size": "1280x720",
        "prompt": "a boat",
        "metadata": sound,
    }
    admission = world.guard.admit(clip, project="trailer", provider="tencent-vod", wire_format="openai_videos")
    world.guard.dispatch(admission)
    world.guard.bind(admission, "t")
    assert world.guard.reservation(admission.reservation_id).tier == "audio"
    for stated, category in (("off", "explained"), ("on", "unexplained"), ("", "explained")):
        line = line_of(world, f"t,,3,CNY,2026-11-05,720p,5,{stated},")
        assert line.category == category, line


HEARD: dict[str, dict[str, Any]] = {
    "nothing": {},
    "a success": {"status": "completed", "cost": 357000},
    "a failure": {"status": "failed", "cost": 0},
}


@pytest.mark.parametrize("heard", HEARD)
@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_a_task_that_failed_by_the_statement_costs_nothing(world: World, heard: str, status: str) -> None:
    """Where failed tasks are refunded, its whole charge is a variance, whatever the ledger heard."""
    for task_id, cost in (("charged", 357000), ("odd", 12345), ("free", 0)):
        world.send(task_id)
        if HEARD[heard]:
            world.guard.observe({"task_id": task_id, **HEARD[heard]}, provider="qingbo")
        world.bill(task_id, cost, status=status)
    with world.reconcile() as result:
        lines = {line.task_id: line for line in result.lines()}
    assert {line.expected for line in lines.values()} == {0}
    for name, variance in (("charged", D("0.714")), ("odd", D("0.02469"))):
        line = lines[name]
        assert (line.category, line.variance, line.is_exception) == ("explained", variance, True)
        assert line.cause == "a failed task was charged; the statement itself says that the task failed"
    free = lines["free"]
    assert (free.variance, free.is_exception) == (D(0), heard != "a failure")
    assert free.category == ("matched" if heard == "a failure" else "explained")


def test_a_task_that_failed_by_the_statement_returns_its_money(world: World) -> None:
    """`--settle` books nothing for it, and then its line needs no action."""
    world.send("t")
    world.bill("t", 0, status="failed")
    with world.reconcile() as result:
        assert result.exceptions == 1
        result.settle()
    with world.reconcile() as result:
        (line,) = result.lines()
        assert (line.booked, result.exceptions) == (D(0), 0)


@pytest.mark.parametrize(
    ("ends", "expected"), [(("failed", "completed"), "0.714"), (("completed", "failed"), "0")]
)
def test_the_last_end_of_a_task_counts(world: World, ends: tuple[str, ...], expected: str) -> None:
    """A task that failed and then succeeded, by its rows, costs its quote."""
    world.send("t")
    for cost, end in zip((0, 357000), ends, strict=True):
        world.bill("t", cost, status=end)
    assert world.line().expected == D(expected)


def test_a_failed_task_is_due_where_failures_are_not_refunded(kling: World) -> None:
    """A table that does not say that failed tasks are refunded leaves the quote due."""
    kling.send("t")
    refunded = kling.guard.reservation(next(iter(kling.guard.history())).id).failed_tasks == "refunded"
    line = line_of(kling, "t,kling-v3,6,video,2026-11-05,,,,failed")
    assert (line.category == "matched") is not refunded


@pytest.mark.parametrize(
    ("costs", "category", "cause"),
    [
        ((357000, -119000), "explained", "119000 quota of the charge of 357000 quota was refunded"),
        (
            (714000, -595000),
            "explained",
            f"{TWICE}; 595000 quota of the charge of 714000 quota was refunded",
        ),
        ((714000, -357000), "matched", ""),
        (
            (357000, -357000),
            "explained",
            "the charge of 357000 quota was refunded in full, so the task was not charged",
        ),
        (
            (357001, -119001),
            "unexplained",
            f"{UNKNOWN}; 119001 quota of the charge of 357001 quota was refunded",
        ),
        (
            (-5,),
            "unexplained",
            f"{UNKNOWN}: more was refunded than was charged",
        ),
    ],
)
def test_a_charge_and_its_refund_are_two_facts(
    world: World, costs: tuple[int, ...], category: str, cause: str
) -> None:
    """A charge less its refund is not taken for another price: 238000 quota is the silent rate."""
    world.send("t")
    for cost in costs:
        world.bill("t", cost)
    line = world.line()
    assert (line.category, line.cause) == (category, cause)


def test_a_refund_counts_where_several_units_pay_for_a_task(world: World) -> None:
    """Money and quota add up to the charge, and the refund is named in money: 0.476 USD is the silent rate."""
    world.send("t")
    mapping = world.folder / "money.yaml"
    mapping.write_text(MONEY)
    rows = "t,0.7,USD,2026-11-05\nt,7000,quota,2026-11-05\nt,-0.238,USD,2026-11-06\n"
    line = world.line(world.statement(f"task,amount,currency,day\n{rows}"), mapping=mapping)
    assert (line.category, line.cause) == ("explained", "0.238 USD of the charge of 0.714 USD was refunded")


def test_a_partial_refund_is_done_once_it_is_booked(world: World) -> None:
    """The remedy of a refunded part is to settle, after which the line needs no action."""
    world.send("t")
    for cost in (357000, -119000):
        world.bill("t", cost)
    with world.reconcile() as result:
        assert result.exceptions == 1
        assert result.settle().settled == 1
    with world.reconcile() as result:
        assert (result.exceptions, next(result.lines()).booked) == (0, D("0.476"))


CONTRACT = """\
extends: acme/2026-11-01
valid_from: 2026-11-01
sources:
  - {ref: contract, checked: 2026-11-01, authority: official}
discount: 0.1
"""


QUOTA = (
    "billing: {failed_tasks: refunded} -> billing: {failed_tasks: refunded, statement_unit: "
    "{name: quota, per_currency_unit: 1000, rounding: unconfirmed}}"
)


def test_a_contract_discount_twice_is_explained_in_quota(tmp_path: Path, clock: Clock) -> None:
    """A statement in the provider's unit shows the second discount as well as one in money."""
    world = acme(tmp_path, clock, QUOTA, CONTRACT)
    world.send("t", resolution="720p", audio=False)
    line = line_of(world, "t,kling-v3,405,quota,2026-11-05,,,,")
    assert (line.category, line.cause) == ("explained", "billed with the contract discount deducted twice")


def test_a_contract_discount_twice_is_explained_in_units(tmp_path: Path, clock: Clock) -> None:
    """Units whose value has the discount already, less the discount, are the discount twice."""
    folder = tmp_path / "tables" / "prices" / "kling"
    folder.mkdir(parents=True)
    (folder / "ours.yaml").write_text(CONTRACT.replace("acme/2026-11-01", "kling/2026-09-20"))
    tables = load_price_book(tmp_path / "tables")
    world = World(f"sqlite:///{tmp_path}/spend.db", tables, clock, tmp_path, provider="kling")
    world.send("t")
    line = line_of(world, "t,kling-v3,5.4,video,2026-11-05,,,,")
    assert line.quoted == D("0.756")
    assert (line.category, line.cause) == ("explained", "billed with the contract discount deducted twice")


def test_roundings_that_add_up_need_action(world: World) -> None:
    """Two roundings up are accepted; sixteen in the same direction are one cause, with their sum."""
    mapping = world.folder / "money.yaml"
    mapping.write_text(MONEY.replace("decimals: 3", "decimals: 2"))
    for count, exceptions in ((2, 0), (16, 16)):
        for number in range(count):
            if count == 2 or number >= 2:
                world.send(f"t{number}")
        rows = "".join(f"t{number},0.72,USD,2026-11-05\n" for number in range(count))
        statement = world.statement(f"task,amount,currency,day\n{rows}")
        with world.reconcile(statement, mapping=mapping) as result:
            assert {line.category for line in result.lines()} == {"explained"}
            assert result.exceptions == exceptions
            causes = exceptions_by_cause(result)
    (cause,) = causes
    assert (cause.lines, cause.variance) == (16, D("0.096"))
    assert cause.cause == "USD rounded up; the roundings of 16 lines add up to +0.096 USD"


def test_a_constant_ratio_is_named_once_for_all_lines(kling: World) -> None:
    """Where every charge is 1.1 times too high, the lines are one open cause, even where 11 s would fit."""
    rows = []
    for number, clip in enumerate(CLIPS):
        kling.send(f"t{number}", **clip)
        rows.append(f"t{number},kling-v3,{units_of(clip) * D('1.1'):f},video,2026-11-05,,,,")
    kling.send("odd")
    rows.append("odd,kling-v3,6.1234,video,2026-11-05,,,,")
    more = with_facts(kling, rows)
    with kling.reconcile(kling.folder / "november.csv", **more) as result:
        assert {line.category for line in result.lines()} == {"unexplained"}
        assert result.open == result.exceptions == len(CLIPS) + 1
        ratio, odd = exceptions_by_cause(result)
        assert (ratio.lines, ratio.cause) == (len(CLIPS), "charged 1.1 times the expected amount")
        assert (odd.lines, odd.example) == (1, "odd")
        line = next(result.lines())
        assert line.cause == "on 12 lines, the charge is 1.1 times the expected amount"


def test_four_lines_with_a_ratio_are_not_many(kling: World) -> None:
    """A ratio that few lines have in common is not named."""
    rows = []
    for number, clip in enumerate(CLIPS[:4]):
        kling.send(f"t{number}", **clip)
        rows.append(f"t{number},kling-v3,{units_of(clip) * D('1.03'):f},video,2026-11-05,,,,")
    more = with_facts(kling, rows)
    with kling.reconcile(kling.folder / "november.csv", **more) as result:
        assert not [line.cause for line in result.lines() if "1.03" in line.cause]


NOVEMBER = ("--provider", "qingbo", "--from", "2026-11-01", "--until", "2026-12-01")


@pytest.fixture
def exceptional(world: World) -> World:
    """A world with 14 exceptions of six causes."""
    for number in range(4):
        world.send(f"long-{number}")
        world.bill(f"long-{number}", 714000)
    for number in range(3):
        world.send(f"failed-{number}")
        world.bill(f"failed-{number}", 357000, status="failed")
    for number in range(2):
        world.send(f"odd-{number}")
        world.bill(f"odd-{number}", 400001 + number)
    world.send("missing")
    world.bill("stranger", 77777)
    for number in range(3):
        world.bill(f"bad-{number}", f"12.{number}5")
    world.send("matched")
    world.bill("matched", 357000)
    return world


def test_causes_add_up_to_the_exceptions(exceptional: World) -> None:
    """Every exception counts in one cause, and the largest variance comes first."""
    with exceptional.reconcile() as result:
        causes = exceptions_by_cause(result)
        assert sum(cause.lines for cause in causes) == result.exceptions == 14
        variances = [line.variance for line in result.lines() if line.is_exception]
        assert sum(cause.variance for cause in causes) == sum(variances)
    assert [(cause.number, cause.category, cause.lines, cause.variance, cause.example) for cause in causes] == [
        (1, "explained", 4, D("2.856"), "long-0"),
        (2, "explained", 3, D("2.142"), "failed-0"),
        (3, "not_billed", 1, D("-0.714"), "missing"),
        (4, "unexplained", 2, D("0.172006"), "odd-0"),
        (5, "not_in_ledger", 1, D("0.155554"), "stranger"),
        (6, "invalid_row", 3, 0, None),
    ]
    assert causes[0].cause == "billed for a longer clip than requested, or billed at twice the price"
    assert causes[5].cause == "the value in column cost has more digits than its unit allows"


def test_every_format_has_the_same_causes(exceptional: World, tmp_path: Path) -> None:
    """The page, the workbook, the tables, the disputes, `--json` and the terminal have the same causes."""
    out = tmp_path / "out"
    with exceptional.reconcile() as result:
        causes = exceptions_by_cause(result)
        document = reconciliation_document.document(result)
        write_reports(result, out, book=exceptional.book)
    (section,) = [section for section in document.sections if section.name == "causes"]
    assert section.about == "14 lines that need action, 6 causes; the largest variance first."
    assert [row[4] for row in section.rows()] == [cause.lines for cause in causes]
    assert [total[4] for total in section.totals] == [14]
    with (out / "causes.csv").open(encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    assert [(row["cause"], int(row["lines"]), D(row["variance"])) for row in rows] == [
        (cause.cause, cause.lines, cause.variance) for cause in causes
    ]
    with (out / "exceptions.csv").open(encoding="utf-8-sig") as file:
        numbers = [row["cause_number"] for row in csv.DictReader(file)]
    assert {number: numbers.count(number) for number in numbers} == {
        str(cause.number): cause.lines for cause in causes
    }
    sheet = load_workbook(out / "report.xlsx")["Exceptions by cause"]
    texts = [[cell.value for cell in row] for row in sheet.iter_rows()]
    assert all(any(cause.cause in row for row in texts) for cause in causes)
    page = (out / "report.html").read_text(encoding="utf-8")
    assert all(cause.cause in page for cause in causes)
    with (out / "disputes.csv").open() as file:
        disputes = list(csv.DictReader(file))
    failed = [row for row in disputes if "failed task" in row["cause"]]
    assert len(failed) == 3
    assert {(row["cause_number"], row["cause_tasks"], D(row["cause_difference"])) for row in failed} == {
        (failed[0]["cause_number"], "3", D("2.142"))
    }
    for number in {row["cause_number"] for row in disputes}:
        alike = [row for row in disputes if row["cause_number"] == number]
        assert {int(row["cause_tasks"]) for row in alike} == {len(alike)}
        assert sum(D(row["difference"] or 0) for row in alike) == D(alike[0]["cause_difference"] or 0)
    paths = ("--ledger", exceptional.ledger, "--statement", str(exceptional.statement()))
    answer = json.loads(run("reconcile", *NOVEMBER, *paths, "--json").stdout)
    assert [(cause["cause"], cause["lines"], D(cause["variance"])) for cause in answer["causes"]] == [
        (cause.cause, cause.lines, cause.variance) for cause in causes
    ]
    shown = run("reconcile", *NOVEMBER, *paths).stdout.splitlines()
    start = shown.index("exceptions by cause:")
    assert shown[start + 1].split() == ["lines", "variance", "cause"]
    for line, cause in zip(shown[start + 2 :], causes, strict=False):
        assert line.split()[0] == str(cause.lines)
        assert line.endswith(f"{cause.category.replace('_', ' ')}: {cause.cause}")


@pytest.mark.parametrize(
    ("quota", "category", "cause"),
    [
        (476000, "explained", "billed at twice the expected amount"),
        (714000, "explained", "billed at 3 times the expected amount"),
        (476001, "unexplained", UNKNOWN),
        (357000, "unexplained", UNKNOWN),
    ],
)
def test_a_multiple_of_a_recorded_amount_is_explained(
    world: World, quota: int, category: str, cause: str
) -> None:
    """A task that a person recorded has no price to calculate again, but its amount may be charged twice."""
    world.guard.record("qingbo", "t", Decimal("0.476"), labels={"project": "trailer"}, at=NOON)
    world.bill("t", quota)
    with world.reconcile() as result:
        (line,) = result.lines()
    assert (line.category, line.cause) == (category, cause)
