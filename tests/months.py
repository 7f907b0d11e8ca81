"""Months of a ledger and a statement from a seed, with every category and explanation in known numbers.

The ledger's rows are written in bulk, as the store would write them; `BudgetGuard.verify` proves that.
"""

import csv
import json
import random
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import xlsxwriter

from kling_pricing import Budget, BudgetGuard, PriceBook, load_price_book, quote
from kling_pricing.ledger.sqlite.schema import RESERVATION_COLUMNS
from kling_pricing.ledger.sqlite.seals import seal_all
from tests.conftest import video

SINCE, UNTIL = datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)
QUOTA = Decimal("0.000002")
"""The value of one quota, in USD."""
NANOS = 10**9

_PRICES = """\
provider: acme
wire_formats: [tasks]
currency: USD
{period}
sources:
  - {{ref: price page, checked: 2026-11-01, authority: official}}
billing:
  failed_tasks: refunded
  statement_unit: {{name: quota, per_currency_unit: 500000, rounding: unconfirmed}}
tiers:
  - {{tier: video_reference, when: {{videos: {{min: 1}}}}}}
  - {{tier: audio, when: {{audio: true}}}}
  - {{tier: silent}}
quantity:
  - {{fact: duration_s}}
rates:
  kling-v3:
    720p: {{silent: {a}, audio: {b}}}
    1080p: {{silent: {c}, audio: {d}}}
    4k: {{silent: 0.455345, audio: 0.455345}}
unpriced:
  - {{model: kling-v2-6, why: not sold}}
  - {{model: kling-v3-omni, why: not sold}}
  - {{model: kling-video-o1, why: not sold}}
"""


def book(folder: Path) -> PriceBook:
    """The bundled tables, and two tables of the tests' own provider: one until the month, one of the month."""
    prices = folder / "tables" / "prices" / "acme"
    prices.mkdir(parents=True)
    earlier = {"a": "0.0611", "b": "0.0913", "c": "0.0817", "d": "0.1219"}
    now = {"a": "0.0701", "b": "0.1009", "c": "0.0907", "d": "0.1301"}
    (prices / "2026-01-01.yaml").write_text(
        _PRICES.format(period="valid_from: null\nvalid_until: 2026-11-01", **earlier)
    )
    (prices / "2026-11-01.yaml").write_text(_PRICES.format(period="valid_from: 2026-11-01", **now))
    return load_price_book(folder / "tables")


@dataclass
class Sent:
    """A reservation whose request was sent."""

    task_id: str | None
    fields: dict[str, Any]
    at: datetime
    state: str = "settled"
    ended: str = ""
    labels: dict[str, str] = field(default_factory=lambda: {"project": "trailer"})


@dataclass
class Row:
    """A row of the statement; its amount is a text in quota."""

    task_id: str
    cost: str
    at: datetime
    model: str = "kling-v3"
    status: str = "completed"


@dataclass
class Month:
    """The content of a ledger and a statement, and the expected lines.

    Attributes:
        sent: the reservations.
        rows: the rows of the statement.
        wrong: index of a row -> its amount before the provider corrected the statement.
        later: task -> its category in the next month, and a part of its cause.
        planted: task -> its category, and a part of its cause. A request without a known task is
            named by its label `shot`, and an unreadable row by its task.
    """

    sent: list[Sent] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    wrong: dict[int, str] = field(default_factory=dict)
    later: dict[str, tuple[str, str]] = field(default_factory=dict)
    planted: dict[str, tuple[str, str]] = field(default_factory=dict)


Plant = Callable[["Grower", str, datetime], tuple[str, str]]


class Grower:
    """Plants tasks of every kind into a month."""

    def __init__(self, prices: PriceBook, seed: int) -> None:
        self.dice = random.Random(seed)  # noqa: S311 (not a secret)
        self.month = Month()
        self._prices = prices
        self._totals: dict[tuple[Any, ...], Decimal] = {}

    def total(self, at: datetime = SINCE, **fields: Any) -> Decimal:
        """Returns the price of a clip."""
        key = (at < SINCE, *sorted(fields.items()))
        if key not in self._totals:
            self._totals[key] = quote(video(**fields), provider="acme", at=at, book=self._prices).total
        return self._totals[key]

    def quota(self, at: datetime = SINCE, **fields: Any) -> Decimal:
        """Returns the exact price of a clip in quota."""
        return self.total(at, **fields) / QUOTA

    def clip(self) -> dict[str, Any]:
        """Returns a clip whose price is a whole number of quota."""
        return {
            "duration": self.dice.choice((3, 4, 5, 6, 7)),
            "resolution": self.dice.choice(("720p", "1080p")),
            "audio": self.dice.random() < 0.5,
        }

    def send(self, task_id: str | None, at: datetime, fields: dict[str, Any], **more: Any) -> None:
        """Adds a reservation."""
        self.month.sent.append(Sent(task_id, fields, at, **more))

    def charge(self, task_id: str, at: datetime, cost: Decimal | int | str, **more: Any) -> None:
        """Adds a row."""
        written = cost if isinstance(cost, str) else str(int(cost))
        self.month.rows.append(Row(task_id, written, at + timedelta(seconds=40), **more))

    def grow(self, tasks: int) -> Month:
        """Returns a month of some tasks; most of them match."""
        plants = list(PLANTS.values())
        for number in range(tasks):
            at = SINCE + timedelta(days=2) + number * timedelta(days=25) / tasks
            task_id = f"task-{self.dice.getrandbits(48):012x}-{number}"
            plant = plants[number // 4 % len(plants)] if number % 4 == 0 else matched
            self.month.planted[task_id] = plant(self, task_id, at)
        self.dice.shuffle(self.month.rows)
        rows_of = Counter(row.task_id for row in self.month.rows)
        several = {task for task, rows in rows_of.items() if rows > 1}
        for place, row in enumerate(self.month.rows):
            is_plain = self.month.planted.get(row.task_id) == ("matched", "") and int(row.cost) > 0
            if is_plain and row.at < UNTIL and place % 50 == 0 and row.task_id not in several:
                self.month.wrong[place] = str(int(row.cost) + 1000)
        return self.month


def matched(grower: Grower, task_id: str, at: datetime) -> tuple[str, str]:
    """Plants a task that is charged as quoted, settled or not."""
    clip = grower.clip()
    grower.send(task_id, at, clip, state=grower.dice.choice(("settled", "settled", "bound")))
    grower.charge(task_id, at, grower.quota(**clip))
    return "matched", ""


def _failed(grower: Grower, task_id: str, at: datetime) -> tuple[str, str]:
    grower.send(task_id, at, grower.clip(), state="released", ended="failed")
    return "matched", ""


def _failed_charged(grower: Grower, task_id: str, at: datetime) -> tuple[str, str]:
    clip = grower.clip()
    grower.send(task_id, at, clip, state="released", ended="failed")
    grower.charge(task_id, at, grower.quota(**clip))
    return "explained", "a failed task was charged"


def _failed_and_settled(grower: Grower, task_id: str, at: datetime) -> tuple[str, str]:
    clip = grower.clip()
    grower.send(task_id, at, clip, state="settled", ended="failed")
    grower.charge(task_id, at, grower.quota(**clip))
    return "explained", "a failed task was charged"


def _free(grower: Grower, task_id: str, at: datetime) -> tuple[str, str]:
    grower.send(task_id, at, grower.clip())
    grower.charge(task_id, at, 0)
    return "explained", "was not charged"


def _refunded(grower: Grower, task_id: str, at: datetime) -> tuple[str, str]:
    clip = grower.clip()
    grower.send(task_id, at, clip)
    grower.charge(task_id, at, grower.quota(**clip))
    grower.charge(task_id, at, -grower.quota(**clip))
    return "explained", "was not charged"


def _rounded(up: int) -> Plant:
    def plant(grower: Grower, task_id: str, at: datetime) -> tuple[str, str]:
        clip: dict[str, Any] = {"duration": 5, "resolution": "4k", "audio": False}
        grower.send(task_id, at, clip)
        grower.charge(task_id, at, int(grower.quota(**clip)) + up)
        return "explained", f"quota rounded {'up' if up else 'down'}"

    return plant


def _otherwise(sentence: str, quoted: dict[str, Any], **charged: Any) -> Plant:
    def plant(grower: Grower, task_id: str, at: datetime) -> tuple[str, str]:
        grower.send(task_id, at, quoted)
        grower.charge(task_id, at, grower.quota(**{**quoted, **charged}))
        return "explained", sentence

    return plant


def _old_prices(grower: Grower, task_id: str, at: datetime) -> tuple[str, str]:
    clip: dict[str, Any] = {"duration": 5, "resolution": "1080p", "audio": True}
    grower.send(task_id, at, clip)
    grower.charge(task_id, at, grower.quota(SINCE - timedelta(days=1), **clip))
    return "explained", "billed at the 1080p audio rate from table acme/2026-01-01"


def _doubled(grower: Grower, task_id: str, at: datetime) -> tuple[str, str]:
    clip: dict[str, Any] = {"duration": 14, "resolution": "1080p", "audio": True}
    grower.send(task_id, at, clip)
    grower.charge(task_id, at, 2 * grower.quota(**clip))
    return "explained", "billed at twice the price"


def _unexplained(grower: Grower, task_id: str, at: datetime) -> tuple[str, str]:
    clip = grower.clip()
    grower.send(task_id, at, clip)
    grower.charge(task_id, at, grower.quota(**clip) + 1)
    return "unexplained", "accounts for this charge"


def _duplicate(grower: Grower, task_id: str, at: datetime) -> tuple[str, str]:
    clip = grower.clip()
    grower.send(task_id, at, clip)
    for _ in range(2):
        grower.charge(task_id, at, grower.quota(**clip))
    return "billed_twice", "charges the same amount more than once"


def _charged_again(grower: Grower, task_id: str, at: datetime) -> tuple[str, str]:
    clip = grower.clip()
    grower.send(task_id, at, clip)
    for sign in (1, -1, 1):
        grower.charge(task_id, at, sign * grower.quota(**clip))
    return "matched", ""


def _not_billed(grower: Grower, task_id: str, at: datetime) -> tuple[str, str]:
    grower.send(task_id, at, grower.clip(), state="bound")
    return "not_billed", "not on the statement"


def _not_billed_yet(grower: Grower, task_id: str, _at: datetime) -> tuple[str, str]:
    grower.send(task_id, UNTIL - timedelta(hours=3), grower.clip(), state="bound")
    return "not_billed_yet", "grace period of 1 day"


def _under_way(grower: Grower, task_id: str, _at: datetime) -> tuple[str, str]:
    at = UNTIL - timedelta(hours=2)
    grower.send(task_id, at, grower.clip(), state="bound")
    grower.charge(task_id, at, "", status="processing")
    return "not_billed_yet", "as processing, without a charge"


def _stranger(grower: Grower, task_id: str, at: datetime) -> tuple[str, str]:
    grower.charge(task_id, at, 123_457)
    return "not_in_ledger", "the task is not in this ledger"


def _after(grower: Grower, task_id: str, _at: datetime) -> tuple[str, str]:
    clip = grower.clip()
    grower.send(task_id, UNTIL - timedelta(seconds=20), clip, state="bound")
    grower.charge(task_id, UNTIL, grower.quota(**clip))
    return "timing", "after it"


def _before(grower: Grower, task_id: str, _at: datetime) -> tuple[str, str]:
    clip = grower.clip()
    at = SINCE - timedelta(seconds=20)
    grower.send(task_id, at, clip)
    grower.charge(task_id, at, grower.quota(at, **clip))
    return "timing", "before it"


def _unreadable(grower: Grower, task_id: str, at: datetime) -> tuple[str, str]:
    grower.charge(task_id, at, "12.5")
    return "invalid_row", "more digits than its unit allows"


def _unanswered(grower: Grower, task_id: str, at: datetime) -> tuple[str, str]:
    clip: dict[str, Any] = {"duration": 13, "resolution": "720p", "audio": True}
    grower.send(None, at, clip, state="dispatching", labels={"project": "trailer", "shot": task_id})
    grower.charge(task_id, at, grower.quota(**clip))
    return "in_doubt_candidate", "the task is not in this ledger; matching requests"


def _failed_by_the_statement(grower: Grower, task_id: str, at: datetime) -> tuple[str, str]:
    clip = grower.clip()
    grower.send(task_id, at, clip)
    grower.charge(task_id, at, grower.quota(**clip), status="failed")
    return "explained", "the statement itself says that the task failed"


def _failed_and_free(grower: Grower, task_id: str, at: datetime) -> tuple[str, str]:
    grower.send(task_id, at, grower.clip())
    grower.charge(task_id, at, 0, status="failed")
    return "explained", "the statement says that the task failed, and the task was not charged"


def _partly_refunded(grower: Grower, task_id: str, at: datetime) -> tuple[str, str]:
    clip: dict[str, Any] = {"duration": 7, "resolution": "1080p", "audio": True}
    silent = grower.quota(**{**clip, "audio": False})
    grower.send(task_id, at, clip)
    grower.charge(task_id, at, grower.quota(**clip))
    grower.charge(task_id, at, silent - grower.quota(**clip))
    return "explained", "of the charge of 455350 quota was refunded"


def _in_two_periods(grower: Grower, task_id: str, _at: datetime) -> tuple[str, str]:
    clip: dict[str, Any] = {"duration": 4, "resolution": "720p", "audio": False}
    grower.send(task_id, UNTIL - timedelta(hours=4), clip)
    half = grower.quota(**clip) / 2
    grower.charge(task_id, UNTIL - timedelta(hours=4), half)
    grower.charge(task_id, UNTIL + timedelta(hours=1), half)
    grower.month.later[task_id] = ("timing", "the task was charged in the period and sent before it")
    return "timing", "the task was partly charged outside the period"


def _refunded_later(grower: Grower, task_id: str, at: datetime) -> tuple[str, str]:
    clip = grower.clip()
    grower.send(task_id, at, clip)
    grower.charge(task_id, at, grower.quota(**clip))
    grower.charge(task_id, UNTIL + timedelta(hours=1), -grower.quota(**clip))
    grower.month.later[task_id] = ("timing", "the task was refunded in the period and sent before it")
    return "matched", ""


def _again_later(grower: Grower, task_id: str, at: datetime) -> tuple[str, str]:
    clip = grower.clip()
    grower.send(task_id, at, clip)
    grower.charge(task_id, at, grower.quota(**clip))
    grower.charge(task_id, UNTIL + timedelta(hours=1), grower.quota(**clip))
    grower.month.later[task_id] = ("billed_twice", "the task is charged again; it was already charged in")
    return "matched", ""


def _mangled(pattern: str) -> Plant:
    def plant(grower: Grower, task_id: str, at: datetime) -> tuple[str, str]:
        clip = grower.clip()
        grower.send(task_id, at, clip)
        grower.charge(pattern.format(task_id), at, grower.quota(**clip))
        return "matched", ""

    return plant


def _rounded_id(grower: Grower, task_id: str, at: datetime) -> tuple[str, str]:
    """A row whose id a spreadsheet has rounded, beside a task that matches."""
    written = f"{1 + len(grower.month.rows) % 9}.{len(grower.month.rows):07d}E+17"
    grower.month.planted[written] = ("invalid_row", "a spreadsheet has rounded the ids")
    grower.charge(written, at, 5)
    return matched(grower, task_id, at)


def _image(grower: Grower, task_id: str, at: datetime) -> tuple[str, str]:
    """An image job, which no guard sent."""
    grower.charge(task_id, at, 4_000, model="kling-image-o1")
    return "not_in_ledger", "the task is not in this ledger"


PLANTS: dict[str, Plant] = {
    "failed": _failed,
    "failed charged": _failed_charged,
    "failed and settled": _failed_and_settled,
    "free": _free,
    "refunded": _refunded,
    "rounded up": _rounded(1),
    "rounded down": _rounded(0),
    "longer": _otherwise(
        "billed 10 s for a 5 s request", {"duration": 5, "resolution": "720p", "audio": True}, duration=10
    ),
    "other tier": _otherwise(
        "billed at the 1080p silent rate", {"duration": 7, "resolution": "1080p", "audio": True}, audio=False
    ),
    "other resolution": _otherwise(
        "billed at the 1080p audio rate",
        {"duration": 7, "resolution": "720p", "audio": True},
        resolution="1080p",
    ),
    "other rate": _otherwise(
        "billed at the 1080p audio rate",
        {"duration": 7, "resolution": "720p", "audio": False},
        resolution="1080p",
        audio=True,
    ),
    "old prices": _old_prices,
    "doubled": _doubled,
    "unexplained": _unexplained,
    "duplicate": _duplicate,
    "charged again": _charged_again,
    "not billed": _not_billed,
    "not billed yet": _not_billed_yet,
    "under way": _under_way,
    "stranger": _stranger,
    "after": _after,
    "before": _before,
    "unreadable": _unreadable,
    "unanswered": _unanswered,
    "failed by the statement": _failed_by_the_statement,
    "failed and free": _failed_and_free,
    "partly refunded": _partly_refunded,
    "in two periods": _in_two_periods,
    "refunded later": _refunded_later,
    "charged again later": _again_later,
    "guarded id": _mangled("'{}"),
    "padded id": _mangled(" {}\u00a0"),
    "id as a formula": _mangled('="{}"'),
    "rounded id": _rounded_id,
    "image": _image,
}
"""Every kind of task that does not just match."""


def write_ledger(month: Month, path: Path, prices: PriceBook) -> str:
    """Writes the reservations into a ledger in SQLite; returns its URL."""
    url = f"sqlite:///{path}"
    budget = Budget(name="all", cap=Decimal(10**8), currency="USD")
    with BudgetGuard(url, [budget], book=prices) as guard:
        guard.open_budget("all", 0)  # creates the bucket
    grower = Grower(prices, 0)
    reservations, lines = [], []
    journal: list[tuple[str, str, str, int | None, int, int, str | None]] = []
    held = spent = 0
    for number, sent in enumerate(month.sent):
        name = f"{number:032x}"
        at = sent.at.isoformat(timespec="microseconds")
        quoted = quote_of(grower, sent)
        settled = sent.state == "settled"
        reservations.append(
            {
                "id": name,
                "project": sent.labels["project"],
                "key": f"key-{number}",
                "attempt": 1,
                "state": sent.state,
                "doubted": 0,
                "provider": "acme",
                "account": None,
                "task_id": sent.task_id,
                "wire_format": "tasks",
                "model": "kling-v3",
                "resolution": sent.fields["resolution"],
                "tier": "audio" if sent.fields["audio"] else "silent",
                "quantity": str(sent.fields["duration"]),
                "unit": "second",
                "currency": "USD",
                "expected": quoted,
                "minimum": None,
                "list_total": None,
                "reserved": quoted,
                "billed": quoted if settled else None,
                "basis": "response" if settled else None,
                "price_table": "acme/2026-11-01" if sent.at >= SINCE else "acme/2026-01-01",
                "table_digest": "d" * 64,
                "statement_unit": "quota",
                "unit_value": str(QUOTA),
                "pack_units": None,
                "account_currency": None,
                "failed_tasks": "refunded",
                "labels": json.dumps(sent.labels, sort_keys=True),
                "changes": "{}",
                "reason": sent.ended or None if sent.state == "released" else None,
                "fingerprint": "f" * 64,
                "created_at": at,
                "dispatched_at": at,
                "closed_at": at if sent.state in {"settled", "released"} else None,
                "deadline": at,
            }
        )
        is_open = sent.state in {"dispatching", "bound"}
        lines.append((name, quoted, quoted if settled else 0))
        journal.append((at, "reserve", name, 1, quoted, 0, None))
        journal.append((at, "dispatch", name, None, 0, 0, None))
        if sent.task_id is not None:
            journal.append((at, "bind", name, None, 0, 0, None))
        if settled:
            journal.append((at, "settle", name, 1, -quoted, quoted, "response"))
        elif not is_open:
            journal.append((at, "release", name, 1, -quoted, 0, sent.ended or None))
        held += quoted if is_open else 0
        spent += quoted if settled else 0
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("BEGIN")
    (bucket,) = db.execute("SELECT id FROM bucket").fetchone()
    assert bucket == 1
    values = ", ".join(f":{column}" for column in RESERVATION_COLUMNS)
    db.executemany(
        f"INSERT INTO reservation ({', '.join(RESERVATION_COLUMNS)}) VALUES ({values})", reservations
    )
    db.executemany(
        f"INSERT INTO reservation_line (reservation, bucket, held, spent) VALUES (?, {bucket}, ?, ?)", lines
    )
    db.executemany(
        "INSERT INTO journal (at, kind, reservation, bucket, held_delta, spent_delta, detail)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        journal,
    )
    db.executemany(
        "INSERT INTO observation (provider, task_id, state, seen_at) VALUES ('acme', ?, ?, ?)",
        [(sent.task_id, sent.ended, sent.at.isoformat()) for sent in month.sent if sent.ended],
    )
    db.execute("UPDATE bucket SET held = ?, spent = ?", (held, spent))
    seal_all(db)
    db.execute("COMMIT")
    db.close()
    return url


def quote_of(grower: Grower, sent: Sent) -> int:
    """Returns the quoted amount of a reservation, in nanos."""
    return int(grower.total(sent.at, **sent.fields) * NANOS)


HEADER = ("task_id", "model", "action", "status", "created_at", "cost")


EXTRA_ROWS = 2
"""The number of rows below the charges: the total, and a footer."""


def records(month: Month, *, corrected: bool = True) -> Iterator[tuple[str, ...]]:
    """Yields the rows of the statement as texts; the last ones are its total and a footer."""
    whole = 0
    for place, row in enumerate(month.rows):
        at = str(int(row.at.timestamp() * 1000))
        cost = row.cost if corrected else month.wrong.get(place, row.cost)
        yield row.task_id, row.model, "generate", row.status, at, cost
        is_read = month.planted.get(row.task_id, ("",))[0] != "invalid_row"
        whole += int(cost) if is_read and cost.removeprefix("-").isdigit() else 0
    yield "合计", "", "", "", "", str(whole)
    yield "以下无数据", "", "", "", "", ""


def write_csv(
    month: Month,
    folder: Path,
    *,
    corrected: bool = True,
    delimiter: str = ",",
    suffix: str = "csv",
    encoding: str = "utf-8",
) -> Path:
    """Writes the statement as text with delimited columns."""
    path = folder / f"statement.{suffix}"
    with path.open("w", newline="", encoding=encoding) as file:
        rows = csv.writer(file, delimiter=delimiter)
        rows.writerows([HEADER, *records(month, corrected=corrected)])
    return path


def write_tsv(month: Month, folder: Path) -> Path:
    """Writes the statement as text with tabs."""
    return write_csv(month, folder, delimiter="\t", suffix="tsv")


def write_semicolons(month: Month, folder: Path) -> Path:
    """Writes the statement as text with semicolons, in UTF-16 with a byte order mark."""
    return write_csv(month, folder, delimiter=";", encoding="utf-16")


def objects(month: Month) -> Iterator[dict[str, Any]]:
    """Yields the rows of the statement, with amounts as numbers if possible."""
    for *texts, at, cost in records(month):
        named = dict(zip(HEADER, (*texts, int(at) if at else None), strict=False))
        number = cost and cost.lstrip("-").isdigit()
        yield named | {"cost": int(cost) if number else cost or None}


def write_json(month: Month, folder: Path) -> Path:
    """Writes the statement as a list in JSON."""
    path = folder / "statement.json"
    path.write_text(json.dumps(list(objects(month))))
    return path


def write_json_lines(month: Month, folder: Path) -> Path:
    """Writes the statement as JSON Lines."""
    path = folder / "statement.jsonl"
    with path.open("w") as file:
        file.writelines(json.dumps(row) + "\n" for row in objects(month))
    return path


def write_parquet(month: Month, folder: Path) -> Path:
    """Writes the statement as Parquet."""
    path = folder / "statement.parquet"
    written = write_csv(month, folder)
    duckdb.sql(
        "COPY (SELECT * REPLACE (CAST(created_at AS BIGINT) AS created_at)"
        f" FROM read_csv('{written}', all_varchar = true)) TO '{path}' (FORMAT parquet)"
    )
    written.unlink()
    return path


def write_xlsx(month: Month, folder: Path) -> Path:
    """Writes the statement as XLSX, with amounts as numbers."""
    path = folder / "statement.xlsx"
    with xlsxwriter.Workbook(path, {"constant_memory": True, "strings_to_formulas": False}) as workbook:
        sheet = workbook.add_worksheet()
        sheet.write_row(0, 0, HEADER)
        for number, (*texts, at, cost) in enumerate(records(month), start=1):
            sheet.write_row(number, 0, texts)
            if at:
                sheet.write_number(number, 4, int(at))
            if cost:
                sheet.write_number(number, 5, Decimal(cost))
    return path


FORMATS: dict[str, Callable[[Month, Path], Path]] = {
    "csv": write_csv,
    "semicolons": write_semicolons,
    "tsv": write_tsv,
    "json": write_json,
    "jsonl": write_json_lines,
    "parquet": write_parquet,
    "xlsx": write_xlsx,
}
