"""Exports of each provider around two ends of months, with the charge of every task known, raw and saved again.

A spreadsheet program saves a file in its own way: with typed cells, TRUE and FALSE in capitals, blank rows,
semicolons and decimal commas, or as Unicode text. Ids are kept as text, which its user must ask for.
"""

import csv
import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import openpyxl

NOVEMBER, DECEMBER = (datetime(2026, month, 1, tzinfo=UTC) for month in (11, 12))
JANUARY = datetime(2027, 1, 1, tzinfo=UTC)
PERIODS = {"November": (NOVEMBER, DECEMBER), "December": (DECEMBER, JANUARY)}
UNIT, QUOTA = Decimal("0.14"), Decimal("0.000002")

Rows = list[dict[str, Any]]


@dataclass
class Planted:
    """An export, and what it charges.

    Attributes:
        provider: the provider.
        mapping: the mapping of the files; None: the one that fits.
        currency: the currency of the charges.
        files: name of each file -> its rows.
        wraps: name of a file -> a function that makes the answer of the API with those rows.
        charged: month -> task -> its charge in that month.
        sent: task -> when it was sent, and what it costs as a whole.
    """

    provider: str
    mapping: str | None = None
    currency: str = "USD"
    files: dict[str, Rows] = field(default_factory=dict)
    wraps: dict[str, Callable[[Rows], Any]] = field(default_factory=dict)
    charged: dict[str, dict[str, Decimal]] = field(default_factory=lambda: {name: {} for name in PERIODS})
    sent: dict[str, tuple[datetime, Decimal]] = field(default_factory=dict)

    def charge(self, task_id: str, at: datetime, amount: Decimal) -> None:
        """Adds an amount to a task's charge in the month of an instant."""
        for name, (since, until) in PERIODS.items():
            if since <= at < until:
                charges = self.charged[name]
                charges[task_id] = charges.get(task_id, Decimal(0)) + amount

    def send(self, task_id: str, at: datetime, amount: Decimal) -> None:
        """Adds a task of the ledger, whose whole charge is as expected."""
        self.sent[task_id] = (at, amount)


def _moments(tasks: int) -> Iterator[tuple[int, datetime]]:
    """Yields numbered instants from October to January, many of them minutes from the end of a month."""
    dice = random.Random(3)  # noqa: S311 (not a secret)
    for number in range(tasks):
        edge = (NOVEMBER, DECEMBER, JANUARY)[number % 3]
        minutes = dice.choice((-20000, -3000, -8, -2, 1, 4, 2500, 19000))
        yield number, edge + timedelta(minutes=minutes, seconds=number)


def _task(number: int) -> str:
    return str(867283741759111202 + number * 7919)


def _ms(at: datetime) -> int:
    return int(at.timestamp() * 1000)


def kling(tasks: int = 48) -> Planted:
    """The official exports of an account: tasks paid from packs, the balance, both, or test credit."""
    planted = Planted("kling")
    package: Rows = []
    balance: Rows = []
    for number, sent_at in _moments(tasks):
        task_id, at = _task(number), sent_at + timedelta(minutes=3)
        parts = (
            ("6",),
            ("3",),
            ("2.5", "0.5"),
            ("0.588 USD",),
            ("2.5", "0.49 USD"),
            ("0.84 test",),
            ("8 image",),
        )
        worth = Decimal(0)
        for part in parts[number % len(parts)]:
            amount, _, kind = part.partition(" ")
            row = {
                "task_id": task_id,
                "api_key_name": "prod",
                "product_function": "Text to Video",
                "model_name": "kling-v3",
                "deduction_time": str(_ms(at)),
                "deduction_amount": Decimal(amount),
            }
            if kind != "image":
                row |= {"resolution": "720p", "duration": "5.04", "video_sound": "off"}
            if number % 2 and kind != "image":
                row |= {"refer_video_input": False, "voice_control": False}
            if kind in {"USD", "test"}:
                test = "test_" * (kind == "test")
                row |= {"cash_type": f"{test}balance", "list_price": Decimal("9.9"), "currency": "USD"}
                row |= {"balance_before_deduction": Decimal("41.2"), "balance_after_deduction": Decimal("40.6")}
                balance.append(row)
                money = Decimal(0) if test else Decimal(amount)
            else:
                row |= {"package_id": "p-71", "product_type": kind or "video"}
                row |= {"unit_before_deduction": Decimal(60), "unit_after_deduction": Decimal("54.5")}
                package.append(row)
                money = Decimal(amount) * (Decimal("0.0035") if kind else UNIT)
            planted.charge(task_id, at, money)
            worth += money
        planted.send(task_id, sent_at, worth)
    planted.files = {"package": package, "balance": balance}
    planted.wraps = dict.fromkeys(planted.files, _detail)
    return planted


def _detail(rows: Rows) -> Any:
    return {
        "code": 0,
        "message": "SUCCEED",
        "request_id": "x",
        "data": {"result": {"detail": rows, "count": len(rows)}, "next_cursor": "", "has_more": False},
    }


def qingbo(tasks: int = 48) -> Planted:
    """The tasks of QingBo with their cost in quota; the time is that of the submission."""
    planted = Planted("qingbo", "qingbo-tasks")
    rows: Rows = []
    for number, at in _moments(tasks):
        task_id, cost = f"task_{number:06}", (357000, 238000, 0)[number % 3]
        status = "completed" if cost else "failed"
        created_at = int(at.timestamp())
        rows.append(
            {"task_id": task_id, "model": "kling-v3", "status": status, "created_at": created_at, "cost": cost}
        )
        planted.charge(task_id, at, cost * QUOTA)
        planted.send(task_id, at, cost * QUOTA)
    planted.files = {"tasks": rows}
    return planted


def new_api(tasks: int = 60, *, names_first: bool = True) -> Planted:
    """The usage log of a new-api gateway, between rows of other services.

    Args:
        tasks: the number of tasks.
        names_first: whether the first row of a task names it, as newer versions do.
    """
    planted = Planted("gateway")
    rows: Rows = []

    def log(kind: int, quota: int, at: datetime, model: str = "kling-v3", **other: Any) -> None:
        rows.append(
            {
                "id": len(rows) % 1024,
                "created_at": int(at.timestamp()),
                "type": kind,
                "model_name": model,
                "quota": quota,
                "content": "ratio 1.0, group 'vip'",
                "other": json.dumps(other) if other else "",
            }
        )

    for number, at in _moments(tasks):
        task_id, taken = _task(number), 500000 + 1000 * number
        later = at + timedelta(minutes=6)
        first = {"task_id": task_id} if names_first else {}
        final = (None, taken, taken - 80000, taken + 20000, 0)[number % 5]
        if final == taken and names_first:
            final = None  # a difference of zero writes no second row
        if final is None and not names_first:
            final = taken + 5
        log(2, taken, at, **first)
        planted.charge(task_id, at, taken * QUOTA)
        whole = taken if final is None else final
        planted.send(task_id, at, whole * QUOTA)
        if final is not None:
            planted.charge(task_id, later, (whole - taken) * QUOTA)
        if final == 0:
            log(6, taken, later, task_id=task_id, reason="upstream failed")
        elif final is not None and number % 2:
            log(6 if final < taken else 2, abs(final - taken), later, task_id=task_id, actual_quota=final,
                pre_consumed_quota=taken)  # fmt: skip
        elif final is not None:
            log(2, final - taken, later, task_id=task_id, actual_quota=final, pre_consumed=taken)
        log(2, 1234, at, model="gpt-5")
        log(1, 50_000_000, at, model="")
    planted.files = {"log": rows}
    planted.wraps["log"] = lambda listed: {"success": True, "message": "", "data": {"items": listed, "page": 1}}
    return planted


def billing_specs(tasks: int = 36) -> Planted:
    """Usage with the billing spec in the model's name, and times as text."""
    planted = Planted("tencent-vod", "billing-specs", "CNY")
    rows: Rows = []
    specs = (("720p-noref-mute", "0.6"), ("1080p-noref-audio", "1"), ("1080p-ref-mute", "1.2"))
    for number, at in _moments(tasks):
        spec, rate = specs[number % len(specs)]
        task_id, seconds = _task(number), 3 + number % 8
        amount = Decimal(rate) * seconds
        rows.append(
            {
                "task_id": task_id,
                "created_at": f"{at:%Y-%m-%d %H:%M:%S}",
                "model": f"kling-3.0-omni-{spec}",
                "seconds": Decimal(seconds),
                "amount": amount,
                "currency": "CNY",
            }
        )
        planted.charge(task_id, at, amount)
        planted.send(task_id, at, amount)
    planted.files = {"usage": rows}
    return planted


Save = Callable[[Rows, Path, Callable[[Rows], Any] | None], list[Path]]


def _columns(rows: Rows) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row))


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)


def _json(value: Any) -> str:
    return json.dumps(value, default=float)


def raw(rows: Rows, path: Path, wrap: Callable[[Rows], Any] | None) -> list[Path]:
    """Saves the answer of the API, or the list."""
    path = path.with_suffix(".json")
    path.write_text(_json(rows if wrap is None else wrap(rows)))
    return [path]


def pages(rows: Rows, path: Path, wrap: Callable[[Rows], Any] | None) -> list[Path]:
    """Saves pages of ten rows, one per line."""
    path = path.with_suffix(".jsonl")
    listed = [rows[start : start + 10] for start in range(0, len(rows), 10)]
    lines = [page if wrap is None else wrap(page) for page in listed]
    path.write_text("".join(f"{_json(line)}\n" for line in (lines if wrap else rows)))
    return [path]


def halves(rows: Rows, path: Path, wrap: Callable[[Rows], Any] | None) -> list[Path]:
    """Saves two exports that overlap by a third of the rows."""
    third = len(rows) // 3
    paths = []
    for name, part in (("early", rows[: 2 * third]), ("late", rows[third:])):
        paths += raw(part, path.with_name(f"{path.name}-{name}"), wrap)
    return paths


def table(rows: Rows, path: Path, _wrap: object) -> list[Path]:
    """Saves the list as CSV."""
    return [_write(rows, path.with_suffix(".csv"))]


def _write(
    rows: Rows, path: Path, delimiter: str = ",", encoding: str = "utf-8", above: Sequence[Sequence[str]] = (),
    below: Sequence[Sequence[str]] = (), written: Callable[[Any], str] = _text,
) -> Path:  # fmt: skip
    columns = _columns(rows)
    with path.open("w", newline="", encoding=encoding) as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerows([*above, columns, *([written(row.get(name)) for name in columns] for row in rows)])
        writer.writerows(below)
    return path


def _in_capitals(value: Any) -> str:
    return str(value).upper() if isinstance(value, bool) else _text(value)


def _german(value: Any) -> str:
    text = _in_capitals(value)
    return text.replace(".", ",") if isinstance(value, Decimal) or text == "5.04" else text


def spreadsheet_csv(rows: Rows, path: Path, _wrap: object) -> list[Path]:
    """Saves CSV as a spreadsheet program does: a title above, and blank rows below."""
    blank = [""] * len(_columns(rows))
    title = [["Deductions, November"], blank]
    path = path.with_suffix(".csv")
    return [_write(rows, path, encoding="utf-8-sig", above=title, below=[blank, blank], written=_in_capitals)]


def german_csv(rows: Rows, path: Path, _wrap: object) -> list[Path]:
    """Saves CSV with semicolons and decimal commas."""
    return [_write(rows, path.with_suffix(".csv"), delimiter=";", written=_german)]


def unicode_text(rows: Rows, path: Path, _wrap: object) -> list[Path]:
    """Saves text in UTF-16 with tabs."""
    return [_write(rows, path.with_suffix(".txt"), delimiter="\t", encoding="utf-16", written=_in_capitals)]


def workbook(rows: Rows, path: Path, _wrap: object) -> list[Path]:
    """Opens the list in a spreadsheet program, and saves a workbook: numbers become numbers, ids stay text."""
    path = path.with_suffix(".xlsx")
    book = openpyxl.Workbook()
    sheet = book.active
    columns = _columns(rows)
    sheet.append(columns)
    for row in rows:
        sheet.append([_cell(name, row.get(name)) for name in columns])
    book.save(path)
    return [path]


def _cell(name: str, value: Any) -> Any:
    if isinstance(value, Decimal) or name in {"deduction_time", "duration"}:
        return None if value is None else float(value)
    return value


def workbook_as_csv(rows: Rows, path: Path, _wrap: object) -> list[Path]:
    """Opens the workbook again, and saves it as CSV."""
    (saved,) = workbook(rows, path, None)
    sheet = openpyxl.load_workbook(saved).active
    target = path.with_suffix(".csv")
    with target.open("w", newline="") as file:
        for record in sheet.iter_rows(values_only=True):
            csv.writer(file).writerow([_shown(cell) for cell in record])
    return [target]


def _shown(cell: Any) -> str:
    """Returns a cell as a spreadsheet program shows it."""
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return _in_capitals(cell)


SAVES: Mapping[str, Save] = {
    "raw": raw,
    "pages": pages,
    "halves": halves,
    "table": table,
    "spreadsheet_csv": spreadsheet_csv,
    "german_csv": german_csv,
    "unicode_text": unicode_text,
    "workbook": workbook,
    "workbook_as_csv": workbook_as_csv,
}
"""The ways to save an export."""
