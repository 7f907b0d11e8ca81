"""Reconciliation: the category and the messages of each task, and the refusals."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, get_args

import duckdb
import pytest
import xlsxwriter

from kling_pricing import (
    Budget,
    BudgetGuard,
    KlingPricingError,
    LedgerUnavailableError,
    PriceBook,
    PriceNotFoundError,
    StatementError,
    TableError,
    load_price_book,
)
from kling_pricing.reconcile import Line, Reconciliation, Tolerance, reconcile
from kling_pricing.reconcile.categories import Category
from tests.conftest import Clock, video

SINCE, UNTIL = datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)
NOON = datetime(2026, 11, 5, 12, tzinfo=UTC)
HEADER = "task_id,model,status,created_at,cost\n"
D = Decimal


class World:
    """A guard and a statement."""

    def __init__(
        self,
        ledger: str,
        book: PriceBook,
        clock: Clock,
        folder: Path,
        provider: str = "qingbo",
        currency: str = "USD",
    ) -> None:
        self.ledger, self.book, self.clock, self.folder, self.provider = ledger, book, clock, folder, provider
        budgets = [Budget(name="all", cap=D(1000), currency=currency)]
        self.guard = BudgetGuard(ledger, budgets, book=book, clock=clock)
        self.rows: list[str] = []

    def send(self, task_id: str | None = None, **fields: Any) -> str:
        """Admits and dispatches a clip, and binds it to a task."""
        options: dict[str, Any] = {"provider": self.provider} if self.provider != "qingbo" else {}
        usual: dict[str, Any] = {"duration": 5, "resolution": "1080p", "audio": True}
        clip = video(**usual | fields)
        admission = self.guard.admit(clip, project="trailer", key=task_id, labels={"user": "li"}, **options)
        self.guard.dispatch(admission)
        if task_id is not None:
            self.guard.bind(admission, task_id)
        return admission.reservation_id

    def bill(self, task_id: str, cost: Any, at: datetime | None = None, status: str = "completed") -> None:
        """Adds a row to the statement."""
        moment = int((at or self.clock.now).timestamp() * 1000)
        self.rows.append(f"{task_id},kling-v3,{status},{moment},{cost}")

    def statement(self, text: str | None = None, name: str = "november.csv") -> Path:
        """Writes the statement to a file."""
        path = self.folder / name
        path.write_text(HEADER + "".join(f"{row}\n" for row in self.rows) if text is None else text)
        return path

    def reconcile(self, *statements: Path, **more: Any) -> Reconciliation:
        """Reconciles November."""
        given: dict[str, Any] = {"provider": self.provider, "since": SINCE, "until": UNTIL, "book": self.book}
        return reconcile(self.ledger, statements or self.statement(), **given | more)

    def line(self, *statements: Path, **more: Any) -> Line:
        """Reconciles November and returns its only line."""
        with self.reconcile(*statements, **more) as result:
            (line,) = result.lines()
        return line


@pytest.fixture
def clock() -> Clock:
    """A clock that stands still in the month."""
    return Clock(NOON)


@pytest.fixture
def world(tmp_path: Path, book: PriceBook, clock: Clock) -> World:
    """A world with a ledger in SQLite."""
    return World(f"sqlite:///{tmp_path}/spend.db", book, clock, tmp_path)


def test_a_month_through_the_guard(ledger: str, book: PriceBook, clock: Clock, tmp_path: Path) -> None:
    """Every category of a month is right to the last digit, in every kind of store."""
    world = World(ledger, book, clock, tmp_path)
    for task_id, cost in (("matched", 357000), ("longer", 714000), ("silent", 238000), ("odd", 357001)):
        world.send(task_id)
        world.bill(task_id, cost)
    world.send("rounded", resolution="4k")
    world.bill("rounded", 1138363)
    world.send("failed")
    world.guard.observe({"task_id": "failed", "status": "failed", "cost": 0}, provider="qingbo")
    world.bill("failed", 357000)
    world.send("refunded")
    world.guard.observe({"task_id": "refunded", "status": "failed", "cost": 0}, provider="qingbo")
    world.send("twice")
    world.bill("twice", 357000)
    world.bill("twice", 357000)
    world.send("missing")
    hold = world.send(duration=7)
    world.bill("stranger", 499800)
    world.bill("alien", 77777)
    world.bill("bad", "12.5")
    world.guard.record("qingbo", "recorded", D("0.5"), labels={"project": "trailer"}, at=NOON)
    world.bill("recorded", 250000)
    clock.now = datetime(2026, 11, 30, 23, 50, tzinfo=UTC)
    world.send("late")
    world.send("after")
    world.bill("after", 357000, at=UNTIL + timedelta(minutes=5))
    with world.reconcile() as result:
        lines = list(result.lines())
        by_project = {total.name: (total.expected, total.billed) for total in result.totals("project")}
        days = [(total.name, total.lines) for total in result.totals("day")]
        assert (result.provider, result.since, result.until) == ("qingbo", SINCE, UNTIL)
        assert list(result.statements) == ["november.csv"]
        assert result.exceptions == sum(bool(line.remedy) for line in lines) == 10
        assert result.rows == (13, 11, 0, 1, 1, 0)
    late = "the task was sent at 2026-11-30 23:50 UTC and is not on the statement; "
    shown = {(line.task_id, line.category): (line.expected, line.billed, line.cause) for line in lines}
    assert shown == {
        (None, "invalid_row"): (
            None,
            None,
            "the value in column cost has more digits than its unit allows: '12.5'",
        ),
        ("twice", "billed_twice"): (
            *(D("0.714"), D("1.428")),
            "the statement has 2 rows for this task and charges the same amount more than once",
        ),
        ("late", "not_billed_yet"): (
            *(D("0.714"), None),
            f"{late}the grace period of 1 day for late billing has not ended",
        ),
        ("missing", "not_billed"): (
            D("0.714"),
            None,
            "the task was sent at 2026-11-05 12:00 UTC and is not on the statement",
        ),
        ("stranger", "in_doubt_candidate"): (
            *(None, D("0.9996")),
            "the task is not in this ledger; matching requests without a known task: 1",
        ),
        (None, "in_doubt_candidate"): (
            *(D("0.9996"), None),
            "no response named a task for this request; matching charges for unknown tasks: 1",
        ),
        ("alien", "not_in_ledger"): (None, D("0.155554"), "the task is not in this ledger"),
        ("after", "timing"): (
            D("0.714"),
            None,
            "the task was sent in the period and charged after it (2026-12-01 00:05 UTC)",
        ),
        ("longer", "explained"): (
            *(D("0.714"), D("1.428")),
            "billed 10 s for a 5 s request, or billed at twice the price",
        ),
        ("silent", "explained"): (D("0.714"), D("0.476"), "billed at the 1080p silent rate"),
        ("rounded", "explained"): (D("2.276725"), D("2.276726"), "quota rounded up"),
        ("failed", "explained"): (
            *(D(0), D("0.714")),
            (
                "a failed task was charged; the statement says that the task succeeded, but a response said "
                "that it failed"
            ),
        ),
        ("odd", "unexplained"): (
            *(D("0.714"), D("0.714002")),
            "no known price table, tier, length or rule accounts for this charge",
        ),
        ("matched", "matched"): (D("0.714"), D("0.714"), ""),
        ("recorded", "matched"): (D("0.5"), D("0.5"), ""),
        ("refunded", "matched"): (D(0), None, ""),
    }
    first = next(line for line in lines if line.task_id == "longer")
    assert (first.project, first.key) == ("trailer", "longer")
    assert first.labels == {"project": "trailer", "user": "li"}
    assert (first.model, first.resolution, first.tier) == ("kling-v3", "1080p", "audio")
    assert (first.quantity, first.unit, first.table) == (D(5), "second", "qingbo/2026-04-29")
    assert (first.rows, first.submitted_at) == (("november.csv:3",), NOON)
    pairs = next(line.remedy for line in lines if line.reservation_id == hold)
    assert pairs == (
        "Ask the provider whether the request became task stranger; if so, assign the task to the "
        f"reservation with `--pair {hold}=TASK`."
    )
    assert by_project == {"": (0, D("1.155154")), "trailer": (D("9.488325"), D("8.250728"))}
    assert days == [("2026-11-05", 14), ("2026-11-30", 2)]
    places = [get_args(Category).index(line.category) for line in lines]
    assert places == sorted(places)


SUMS: list[tuple[tuple[int, ...], str, str]] = [
    ((357000, -357000, 357000), "matched", "0.714"),
    ((357000, -357000), "explained", "0"),
    ((357000, 357000, -357000, -357000), "explained", "0"),
    ((178500, 178500), "matched", "0.714"),
    ((178501, 178501), "billed_twice", "0.714004"),
    ((357000, 357000, -714000), "explained", "0"),
    ((357000, -357000, -357000, -357000), "unexplained", "-1.428"),
    ((300000, 57000), "matched", "0.714"),
    ((357000, 0, 0), "matched", "0.714"),
    ((-357000, -357000), "unexplained", "-1.428"),
]
"""The rows of a task of 0.714 USD in quota -> the category of its line, and its charge in USD."""


def test_rows_of_a_task_add_up_unless_one_is_repeated(world: World) -> None:
    """A charge and a refund add up; the same charge twice is `billed_twice`."""
    for number, (costs, _, _) in enumerate(SUMS):
        world.send(f"t-{number}")
        for cost in costs:
            world.bill(f"t-{number}", cost)
    with world.reconcile() as result:
        lines = {line.task_id: (line.category, line.billed, len(line.rows)) for line in result.lines()}
    assert lines == {
        f"t-{number}": (category, D(billed), len(costs))
        for number, (costs, category, billed) in enumerate(SUMS)
    }


def test_a_late_charge_is_in_its_own_period(world: World, clock: Clock) -> None:
    """A task sent in October and charged in November is in both months; a wrong charge is explained."""
    clock.now = SINCE - timedelta(minutes=10)
    for task_id, cost in (("well", 357000), ("longer", 714000), ("odd", 1)):
        world.send(task_id)
        world.bill(task_id, cost, at=SINCE + timedelta(minutes=5))
    with world.reconcile() as result:
        lines = {line.task_id: line for line in result.lines()}
    assert {line.category for line in lines.values()} == {"timing"}
    assert all(line.expected is None for line in lines.values())
    assert lines["well"].cause == "the task was charged in the period and sent before it (2026-10-31 23:50 UTC)"
    assert lines["longer"].cause.endswith(
        "; 0.714 USD was expected: billed 10 s for a 5 s request, or billed at twice the price"
    )
    assert (lines["well"].remedy, bool(lines["longer"].remedy), bool(lines["odd"].remedy)) == ("", True, True)


def test_a_task_of_two_ledgers_is_reserved_twice(
    world: World, book: PriceBook, clock: Clock, tmp_path: Path
) -> None:
    """The task has one line with both expected amounts, and the remedy names the reservations."""
    other = World(f"sqlite:///{tmp_path}/other.db", book, clock, tmp_path)
    ids = world.send("t"), other.send("t")
    world.send("alone")
    world.bill("t", 357000)
    world.bill("alone", 357000)
    with reconcile(
        [world.ledger, other.ledger], world.statement(), provider="qingbo", since=SINCE, until=UNTIL, book=book
    ) as result:
        twice, alone = result.lines()
    assert (twice.category, twice.expected, twice.billed) == ("reserved_twice", D("1.428"), D("0.714"))
    assert all(name in twice.remedy for name in ids)
    assert twice.cause == "2 reservations are bound to this task"
    assert alone.category == "matched"


def test_currencies_are_never_added_up(world: World) -> None:
    """A task expected in one currency and charged in another has a line and totals in each."""
    world.send("t")
    mapping = world.folder / "money.yaml"
    mapping.write_text(MONEY)
    path = world.statement("task,amount,currency,day\nt,5.1,cny,2026-11-05\n")
    with world.reconcile(path, mapping=mapping) as result:
        assert [(line.category, line.currency, line.expected, line.billed) for line in result.lines()] == [
            ("currency_mismatch", "CNY", None, D("5.1")),
            ("currency_mismatch", "USD", D("0.714"), None),
        ]
        assert [(total.currency, total.variance) for total in result.totals("all")] == [
            ("CNY", D("5.1")),
            ("USD", D("-0.714")),
        ]


MONEY = """\
statement: money
about: a table of ours
sources:
  - {ref: our own, checked: 2026-11-01, authority: official}
columns:
  task_id: {column: task}
  amount: {column: amount, unit_column: currency, decimals: 3}
  billed_at: {column: day, offset: "+08:00"}
"""


def test_one_task_in_several_units_is_one_charge(world: World) -> None:
    """Charges of one task in quota and in dollars add up in dollars."""
    world.send("t")
    mapping = world.folder / "money.yaml"
    mapping.write_text(MONEY)
    path = world.statement("task,amount,currency,day\nt,0.7,USD,2026-11-05\nt,7000,quota,2026-11-05\n")
    line = world.line(path, mapping=mapping)
    assert (line.category, line.billed, line.rows) == (
        "matched",
        D("0.714"),
        ("november.csv:2", "november.csv:3"),
    )


def test_a_tolerance_is_for_a_line_and_for_all_of_them(world: World) -> None:
    """Variances within both tolerances are not exceptions; above that of the batch, none is tolerated."""
    for task_id in ("a", "b"):
        world.send(task_id)
        world.bill(task_id, 357001)
    for line, batch, category in (
        ("0.000002", "0.000004", "within_tolerance"),
        ("0.000002", "0.000003", "unexplained"),
        ("0.000001", "1", "unexplained"),
    ):
        with world.reconcile(tolerance=Tolerance(D(line), D(batch))) as result:
            assert {entry.category for entry in result.lines()} == {category}
            assert result.exceptions == (0 if category == "within_tolerance" else 2)


def test_pairs_are_decided_by_a_person(world: World) -> None:
    """A paired task matches; an impossible pair is an error, and the ledger does not change."""
    hold = world.send()
    bound = world.send("known")
    world.bill("stranger", 357000)
    world.bill("known", 357000)
    with world.reconcile(pairs={hold: "stranger"}) as result:
        assert [line.category for line in result.lines()] == ["matched", "matched"]
    assert world.guard.reservation(hold).task_id is None
    for pairs, problem in (
        ({"unknown": "stranger"}, "do not contain a sent reservation"),
        (
            {bound: "stranger"},
            "the reservation is bound, with task known; choose a reservation that was sent and has no task",
        ),
        ({hold: "known"}, "already has a reservation"),
        ({hold: "unheard"}, "is not on the statement"),
    ):
        with pytest.raises(KlingPricingError, match=problem):
            world.reconcile(pairs=pairs)


def test_a_candidate_fits_in_model_amount_and_time(world: World) -> None:
    """A charge of another amount, model or day is not a candidate; all candidates are named."""
    world.send()
    world.send()
    world.bill("same", 357000)
    world.bill("dearer", 357001)
    world.bill("later", 357000, at=NOON + timedelta(days=2))
    world.bill("earlier", 357000, at=NOON - timedelta(hours=1))
    world.rows.append(f"other,kling-v2.6,completed,{int(NOON.timestamp())},357000")
    with world.reconcile() as result:
        candidates = list(result.lines("in_doubt_candidate"))
        unfit = {line.task_id for line in result.lines("not_in_ledger")}
    assert [line.task_id for line in candidates] == ["same", None, None]
    first, other = sorted(line.reservation_id or "" for line in candidates[1:])
    assert candidates[0].remedy == (
        f"Ask the provider whether the task belongs to reservation {first} or {other}; if so, assign the "
        "task to the reservation with `--pair RESERVATION=same`."
    )
    assert unfit == {"dearer", "later", "earlier", "other"}


def test_an_unreadable_row_has_its_own_line(world: World) -> None:
    """The line names file, row and column, shows nothing that may be a secret, and charges nothing."""
    rows = [
        "a,kling-v3,completed,1793880000,12.5",
        "b,kling-v3,completed,1793880000,1e5",
        "c,kling-v3,completed,1793880000,a paper boat in the rain",
        "d,kling-v3,completed,yesterday,5",
        ",kling-v3,completed,1793880000,5",
        "e,kling-v3,completed,1793880000,",
        "f,kling-v3,completed,1793880000",
        f"{'g' * 201},kling-v3,completed,1793880000,5",
        "h,kling-v3,processing,1793880000,",
        '"i\nj",kling-v3,completed,1793880000,5',
        "k,kling-v3,completed,1793880000,0007",
        "l,kling-v3,completed,1793880000,1234567890",
    ]
    text = HEADER + "".join(f"{row}\n" for row in rows[:3]) + "\n" + "".join(f"{row}\n" for row in rows[3:])
    with world.reconcile(world.statement(text)) as result:
        shown = {line.rows[0]: line.cause for line in result.lines("invalid_row")}
        assert (result.rows.read, result.rows.invalid, result.exceptions) == (12, 11, 11)
        assert [line.cause for line in result.lines("not_in_ledger")] == ["the task is not in this ledger"]
    bad_id = (
        "the value in column task_id is not a task id: it has more than 200 characters, or an invisible "
        "character"
    )
    number = "the value in column cost is not an amount in plain digits, such as 0.714: "
    assert shown == {
        "november.csv:2": "the value in column cost has more digits than its unit allows: '12.5'",
        "november.csv:3": f"{number}'1e5'",
        "november.csv:4": f"{number}text of 24 characters",
        "november.csv:6": (
            "the value in column created_at is not a time in the mapping's format: text of 9 characters"
        ),
        "november.csv:7": "the value in column task_id is empty",
        "november.csv:8": "the value in column cost is empty",
        "november.csv:9": "the row cannot be read: it has 4 columns, but the first row has 5",
        "november.csv:10": bad_id,
        "november.csv:12": bad_id,
        "november.csv:14": f"{number}'0007'",
        "november.csv:15": f"{number}'1234567890'",
    }


Make = Callable[[Path], Path]


def _written(name: str, data: bytes) -> Make:
    def make(folder: Path) -> Path:
        path = folder / name
        path.write_bytes(data)
        return path

    return make


def _parquet(select: str) -> Make:
    def make(folder: Path) -> Path:
        path = folder / "november.parquet"
        duckdb.sql(f"COPY (SELECT {select}) TO '{path}' (FORMAT parquet)")
        return path

    return make


def _empty_sheet(folder: Path) -> Path:
    path = folder / "november.xlsx"
    xlsxwriter.Workbook(path).close()
    return path


_TASK = "'t' AS task_id, 'kling-v3' AS model, '1793880000' AS created_at"


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (_written("a.csv", b""), r"a\.csv: is empty"),
        (_written("a.csv", b"task_id,model,cost\n"), "no mapping for qingbo matches the columns of the file"),
        (_written("a.csv", HEADER.encode() + b"t,kling-v3,\xff,1,1\n"), r"a\.csv:2: is not UTF-8"),
        (
            _written("a.csv", HEADER.encode() + b't,"kling-v3,x,1,1\n'),
            r"a\.csv:2: is not valid CSV from this row on",
        ),
        (_written("a.csv", b"task_id,task_id,model,created_at,cost\n"), "column task_id: appears twice"),
        (
            _written("a.pdf", b"x"),
            r"a\.pdf: cannot be read as a statement; convert it to a file of one of the types",
        ),
        (_written("a.jsonl", b"\n"), "has no rows; leave the file out"),
        (_written("a.json", b'{"task_id": '), "not JSON"),
        (_written("a.jsonl", b'{"task_id": "t\xff"}\n'), r"a\.jsonl:1: is not UTF-8"),
        (_written("a.parquet", b"x"), r"a\.parquet: is not a Parquet file"),
        (_written("a.xlsx", b"x"), r"a\.xlsx: cannot be read as XLSX"),
        (_empty_sheet, r"november\.xlsx: is empty"),
        (
            _parquet(f"{_TASK}, 357000.0::DOUBLE AS cost"),
            "column cost: has the type DOUBLE, which rounds values",
        ),
        (_parquet(f"{_TASK}, [1] AS cost"), r"column cost: has the type INTEGER\[\]; export it as text"),
        (lambda folder: folder / "none.csv", r"none\.csv: cannot be read: No such file"),
        (
            _written(
                "a.jsonl",
                b'{"task_id":"t","model":"kling-v3","created_at":1793880000,"status":"completed","cost":1}',
            ),
            "matches several mappings; choose one with --mapping",
        ),
    ],
)
def test_a_file_that_cannot_be_read_is_refused(world: World, make: Make, problem: str) -> None:
    """The error names the file, the row, the column and the remedy."""
    with pytest.raises(StatementError, match=problem):
        world.reconcile(make(world.folder))


def test_arguments_that_do_not_fit_each_other_are_refused(world: World, tmp_path: Path) -> None:
    """Files, mappings, periods, providers and ledgers are checked before anything is read."""
    path = world.statement(HEADER)
    world.send("t")
    copy = tmp_path / "copy.csv"
    copy.write_bytes(path.read_bytes())
    answers = _written("a.jsonl", b'{"task_id":"t","status":"completed","cost":1}\n')(tmp_path)
    for statements, more, problem in (
        ((path, copy), {}, "has the same content as november.csv"),
        ((path, answers), {}, "would count tasks twice"),
        (
            (path,),
            {"mapping": "kling-deductions-units"},
            "november.csv:1: column deduction_amount: is missing",
        ),
        ((path,), {"mapping": "qingbo-task"}, "did you mean 'qingbo-tasks'"),
        ((path,), {"mapping": "tasks-answers"}, "the mapping reads task responses in JSON"),
        ((path,), {"since": UNTIL, "until": SINCE}, "must start before it ends"),
        ((path,), {"since": datetime(2026, 11, 1)}, "has no time zone"),  # noqa: DTZ001
        ((path,), {"grace": 5}, "grace must be a timedelta"),
        ((path,), {"memory_limit": "much"}, "a memory limit must be a size such as 500MB"),
        ((path,), {"memory_limit": "10MB"}, "a memory limit of 10MB is too small, because this process uses"),
        ((path,), {"folder": "/no/such/folder"}, "cannot write temporary files to this folder"),
    ):
        with pytest.raises(KlingPricingError, match=problem):
            world.reconcile(*statements, **more)
    with pytest.raises(PriceNotFoundError, match="unknown provider"):
        world.reconcile(path, provider="unknown")
    with pytest.raises(LedgerUnavailableError, match="no such file"):
        reconcile(f"sqlite:///{tmp_path}/none.db", path, provider="qingbo", since=SINCE, until=UNTIL)
    assert not (tmp_path / "none.db").exists()


TIMES = [
    ("2026-11-05T08:00:00+08:00", "", "2026-11-05T00:00:00"),
    ("2026-11-05T08:00:00+0800", "", "2026-11-05T00:00:00"),
    ("2026-11-05 08:00:00 -05:30", "", "2026-11-05T13:30:00"),
    ("2026-11-05T08:00:00.25Z", ', offset: "+08:00"', "2026-11-05T08:00:00.250000"),
    ("2026-11-05 08:00", ', offset: "+08:00"', "2026-11-05T00:00:00"),
    ("2026-11-05", ', offset: "-01:00"', "2026-11-05T01:00:00"),
    ("05/11/2026 08:00", ', format: "%d/%m/%Y %H:%M", offset: "+08:00"', "2026-11-05T00:00:00"),
    ("1793836800", ", format: unix", "2026-11-05T00:00:00"),
    ("1793836800.5", ", format: unix", "2026-11-05T00:00:00.500000"),
    ("1793836800250", ", format: unix", "2026-11-05T00:00:00.250000"),
    ("2026-11-31", "", None),
    ("2026-11-05T25:00:00Z", "", None),
    ("1026-11-05", "", None),
    ("17938368", ", format: unix", None),
]
"""The text of a time, the settings of its column, and the instant in UTC; None: it is not a time."""


@pytest.mark.parametrize("settings", dict.fromkeys(settings for _, settings, _ in TIMES))
def test_times_are_read_as_the_mapping_says(world: World, settings: str) -> None:
    """A time has its own offset from UTC, else the mapping's; a text that is not a time is refused."""
    mapping = world.folder / "money.yaml"
    mapping.write_text(MONEY.replace('{column: day, offset: "+08:00"}', f"{{column: day{settings}}}"))
    cases = [(written, instant) for written, given, instant in TIMES if given == settings]
    statements = [
        world.statement(f"task,amount,currency,day\nt-{number},1,USD,{written}\n", f"{number}.csv")
        for number, (written, _) in enumerate(cases)
    ]
    with world.reconcile(*statements, mapping=mapping) as result:
        lines = {line.rows: line for line in result.lines()}
    for number, (written, instant) in enumerate(cases):
        line = lines[f"{number}.csv:2",]
        if instant is None:
            assert line.category == "invalid_row", written
        else:
            assert line.billed_at == datetime.fromisoformat(f"{instant}+00:00"), written


def test_numbers_of_json_and_spreadsheets_are_exact(world: World) -> None:
    """JSON loses no digit; a number of a spreadsheet that may have lost some is refused."""
    mapping = world.folder / "money.yaml"
    mapping.write_text(MONEY.replace("decimals: 3", "decimals: 9"))
    rows = [
        '{"task": "a", "amount": 123456789.123456789, "currency": "USD", "day": "2026-11-05"}',
        '{"task": "b", "amount": 2e-6, "currency": "USD", "day": "2026-11-05"}',
        '{"task": "c", "amount": 0.1234567891, "currency": "USD", "day": "2026-11-05"}',
        '{"task": "d", "amount": true, "currency": "USD", "day": "2026-11-05"}',
        '{"task": "e", "amount": 1, "amount": 2}',
        "[1]",
    ]
    with world.reconcile(world.statement("\n".join(rows), "a.jsonl"), mapping=mapping) as result:
        assert [line.billed for line in result.lines("not_in_ledger")] == [
            D("123456789.123456789"),
            D("0.000002"),
        ]
        assert [line.rows[0] for line in result.lines("invalid_row")] == [
            f"a.jsonl:{row}" for row in (3, 4, 5, 6)
        ]
    path = world.folder / "a.xlsx"
    with xlsxwriter.Workbook(path) as book:
        sheet = book.add_worksheet()
        sheet.write_row(0, 0, ("task", "amount", "currency", "day"))
        sheet.write_row(1, 0, ("a", 0.1, "USD", "2026-11-05"))
        sheet.write_row(2, 0, ("b", 123456789.12345678, "USD", "2026-11-05"))
        sheet.write_row(3, 0, ("=1+1", "0.123456789", "USD", "2026-11-05"))
    with world.reconcile(path, mapping=mapping) as result:
        billed = {line.task_id: line.billed for line in result.lines("not_in_ledger")}
        (lost,) = result.lines("invalid_row")
    assert billed["a"] == D("0.1")
    assert (lost.rows, lost.cause) == (
        ("a.xlsx:3",),
        (
            "the row cannot be read: a spreadsheet keeps only 15 digits of a number, so digits of amount are "
            "missing; export the column as text"
        ),
    )


def test_decimals_of_parquet_are_exact(world: World) -> None:
    """Text, integers and decimals are read exactly; trailing zeros of a decimal do not count."""
    world.send("t")
    for cost in ("'357000'", "357000", "357000::DECIMAL(18, 4)"):
        assert world.line(_parquet(f"{_TASK}, {cost} AS cost")(world.folder)).category == "matched"


def test_only_columns_of_the_mapping_are_read(world: World) -> None:
    """A prompt, a URL or a key in another column does not reach the lines."""
    prompt = "a paper boat https://x.test/v?key=sk-12345678"
    world.send("t")
    moment = int(NOON.timestamp())
    path = world.statement(
        f"task_id,model,status,created_at,cost,prompt\nt,kling-v3,completed,{moment},1,{prompt}\n"
    )
    with world.reconcile(path) as result:
        assert "boat" not in json.dumps([line._asdict() for line in result.lines()], default=str)


SILENT_FACTS = "videos 0, audio true, voice_control false, 5.04 s"
OFFICIAL = (
    "task_id,model_name,resolution,duration,refer_video_input,video_sound,voice_control,deduction_amount,"
    "created_at\n"
)


DESCRIBED = [
    ("1080p,5.04,false,native,false,6", "matched", ""),
    ("pro,5.04,no,NATIVE,0,6", "matched", ""),
    (
        "720p,5.04,false,native,false,6",
        "matched",
        "the statement says 720p, but the charge is the quoted amount",
    ),
    (
        "1080p,9.04,false,native,false,6",
        "matched",
        "the statement says 9.04 s, but the charge is the quoted amount",
    ),
    (
        "1080p,3,false,off,false,6",
        "matched",
        "the statement says silent, 3 s, but the charge is the quoted amount",
    ),
    (
        "720p,5.04,false,native,false,4.5",
        "explained",
        "billed at the 720p audio rate, as the statement says",
    ),
    (
        "1080p,10.04,false,native,false,12",
        "explained",
        "billed 10 s for a 5 s request (the stated 10.04 s rounded down), as the statement says",
    ),
    (
        "1080p,5.04,false,native,false,6.048",
        "explained",
        "billed 5.04 s for a 5 s request, as the statement says",
    ),
    ("1080p,5.04,false,off,false,4", "explained", "billed at the 1080p silent rate, as the statement says"),
    (
        "1080p,5.04,false,native,false,4",
        "unexplained",
        (
            "no known price table, tier, length or rule accounts for this charge of a task as the "
            "statement describes it; the amount fits a task that was billed at the 1080p silent rate, but "
            f"the statement says 1080p, {SILENT_FACTS}"
        ),
    ),
    (
        "1080p,5.04,false,native,false,6.01",
        "unexplained",
        "no known price table, tier, length or rule accounts for this charge",
    ),
]
"""A row about a task of 5 s, the category of its line, and the cause."""


def test_the_official_export_in_units_and_in_money(tmp_path: Path, book: PriceBook, clock: Clock) -> None:
    """The facts on the statement choose the explanation, and a contradiction is reported."""
    world = World(f"sqlite:///{tmp_path}/spend.db", book, clock, tmp_path, provider="kling")
    tasks = {f"t-{number}": case for number, case in enumerate(DESCRIBED)}
    for task_id in tasks:
        world.send(task_id)
    text = OFFICIAL
    in_money = OFFICIAL.replace("deduction_amount", "deduction_amount,list_price,currency")
    money = {task_id: D(row.rpartition(",")[2]) * D("0.14") for task_id, (row, _, _) in tasks.items()}
    for task_id, (row, _, _) in tasks.items():
        text += f"{task_id},kling-v3,{row},2026-11-05T12:00:00Z\n"
        facts = row.rpartition(",")[0]
        in_money += f"{task_id},kling-v3,{facts},{money[task_id]:f},9,USD,2026-11-05T12:00:00Z\n"
    for statement in (text, in_money):
        with world.reconcile(world.statement(statement)) as result:
            lines = {line.task_id: (line.category, line.cause) for line in result.lines()}
            billed = {line.task_id: line.billed for line in result.lines()}
        assert lines == {task_id: (category, cause) for task_id, (_, category, cause) in tasks.items()}
    assert billed == money


CONTRACT = """\
extends: acme/2026-11-01
valid_from: 2026-11-01
sources:
  - {ref: contract, checked: 2026-11-01, authority: official}
discount: 0.1
"""


@pytest.mark.parametrize(
    ("cost", "cause"),
    [
        ("0.45", ""),
        ("0.5", "billed at the 720p silent rate from table acme/2026-11-01, without the contract discount"),
        ("0.405", "billed with the contract discount deducted twice"),
        ("1.08", "billed 12 s for a 5 s request"),
    ],
)
def test_a_contract_explains_charges(tmp_path: Path, clock: Clock, cost: str, cause: str) -> None:
    """A charge without the contract's discount, or with two discounts, is explained."""
    prices = tmp_path / "tables" / "prices" / "acme"
    prices.mkdir(parents=True)
    from tests.conftest import PRICES  # noqa: PLC0415

    (prices / "2026-11-01.yaml").write_text(
        PRICES.replace("currency: EUR", "currency: USD").replace("valid_from: null", "valid_from: 2026-11-01")
    )
    (prices / "ours.yaml").write_text(CONTRACT)
    book = load_price_book(tmp_path / "tables")
    world = World(f"sqlite:///{tmp_path}/spend.db", book, clock, tmp_path, provider="acme")
    world.send("t", resolution="720p", audio=False)
    mapping = world.folder / "money.yaml"
    mapping.write_text(MONEY)
    line = world.line(world.statement(f"task,amount,currency,day\nt,{cost},USD,2026-11-05\n"), mapping=mapping)
    assert line.cause == cause


def test_answers_without_a_charge_charge_nothing(world: World) -> None:
    """An answer without a charge leaves its task not billed, and the cause shows its state."""
    world.send("t")
    path = world.statement(
        '{"id": "t", "status": "completed", "model": "kling-3.0-omni-720p-ref-audio"}\n', "a.jsonl"
    )
    line = world.line(path, mapping="openai-videos-answers")
    assert (line.category, line.billed) == ("not_billed", None)
    assert (
        line.cause
        == "the task was sent at 2026-11-05 12:00 UTC and is on the statement as succeeded, without a charge"
    )


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("statement: money", "statment: money", "did you mean 'statement'"),
        ("decimals: 3", "decimals: 10", "decimals: must be less than or equal to 9"),
        ("unit_column: currency", "unit: Dollars", "must be a currency code of three capital letters"),
        ("unit_column: currency, ", "", "give `unit`, `unit_column`, or both"),
        ('offset: "+08:00"', "offset: 8", "must be an offset from UTC in hours and minutes"),
        ('offset: "+08:00"', 'format: "%d"', "must be iso, unix, ms, or a pattern"),
        (
            "columns:",
            "answers: {wire_format: tasks}\ncolumns:",
            "give one of `columns`, `answers` and `aggregates`",
        ),
        (
            "  task_id",
            "  model: {column: m, names: {a: {model: kling-v9}}}\n  task_id",
            "'kling-v9' is not a known model",
        ),
        ("  task_id", "  model: {column: m, names_of: [task]}\n  task_id", "unknown wire format 'task'"),
        (
            "  task_id",
            "  state: {column: s, names: {OK: succeeded, ok: failed}}\n  task_id",
            "differ only in case",
        ),
    ],
)
def test_a_mapping_is_read_as_strictly_as_a_price_table(world: World, old: str, new: str, problem: str) -> None:
    """A mistake in a mapping is refused, with the line and the remedy."""
    assert old in MONEY
    mapping = world.folder / "money.yaml"
    mapping.write_text(MONEY.replace(old, new, 1))
    with pytest.raises(TableError, match=problem):
        world.reconcile(world.statement("task,amount,currency,day\n"), mapping=mapping)


def test_lines_are_read_while_it_is_open(world: World) -> None:
    """A closed reconciliation has removed its database, and its lines cannot be read."""
    world.send("t")
    result = world.reconcile()
    folder = result._workspace.folder  # noqa: SLF001 (it must leave nothing on the disk)
    assert folder.is_dir()
    result.close()
    result.close()
    assert not folder.exists()
    with pytest.raises(KlingPricingError, match="was closed"):
        list(result.lines())
