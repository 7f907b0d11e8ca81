"""Statements of the official API and of gateways: units, parts of a charge, signs, rows that are no charges."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from kling_pricing import KlingPricingError, PriceBook, StatementError, TableError
from kling_pricing.reconcile import Line
from tests.conftest import Clock
from tests.test_reconcile import NOON, World

D = Decimal
TASK = "867283741759111202"
MS = int(NOON.timestamp() * 1000)


@pytest.fixture
def world(tmp_path: Path, book: PriceBook) -> World:
    """A world of the official API, with a ledger in SQLite."""
    return World(f"sqlite:///{tmp_path}/spend.db", book, Clock(NOON), tmp_path, provider="kling")


def package(amount: Any, task_id: str = TASK, **more: Any) -> dict[str, Any]:
    """A row of the export of packs, without the columns that may be absent."""
    return {
        "task_id": task_id,
        "product_type": "video",
        "model_name": "kling-v3",
        "deduction_time": str(MS),
        "deduction_amount": amount,
    } | more


def balance(amount: Any, task_id: str = TASK, **more: Any) -> dict[str, Any]:
    """A row of the export of the balance."""
    return {
        "task_id": task_id,
        "model_name": "kling-v3",
        "deduction_time": str(MS),
        "deduction_amount": amount,
        "list_price": 9.99,
        "cash_type": "balance",
        "balance_before_deduction": 41.2,
        "currency": "USD",
    } | more


def write(world: World, name: str, *rows: Any) -> Path:
    """Writes rows as a JSON array, or one per line."""
    if name.endswith(".jsonl"):
        return world.statement("".join(f"{json.dumps(row)}\n" for row in rows), name)
    return world.statement(json.dumps(list(rows)), name)


def lines(world: World, *paths: Path, **more: Any) -> dict[str | None, Line]:
    """Reconciles November; task -> its line."""
    with world.reconcile(*paths, **more) as result:
        return {line.task_id: line for line in result.lines()}


@pytest.mark.parametrize(
    ("kind", "amount", "billed"),
    [("video", 6, "0.84"), ("VIDEO", 2.4, "0.336"), ("image", 8, "0.028"), ("image", 20, "0.07")],
)
def test_units_of_a_pack_have_the_value_of_its_kind(world: World, kind: str, amount: Any, billed: str) -> None:
    """A unit of an image pack is worth 0.0035 USD, and one of a video pack 0.14 USD."""
    line = world.line(write(world, "a.json", package(amount, product_type=kind)))
    assert (line.billed, line.currency) == (D(billed), "USD")


@pytest.mark.parametrize("kind", ["audio", "try-on"])
def test_a_unit_without_a_known_value_is_never_valued_as_another(world: World, kind: str) -> None:
    """The row names the kind of pack and the key that gives its value, and its charge counts nowhere."""
    with world.reconcile(write(world, "a.json", package(6, product_type=kind))) as result:
        (line,) = result.lines()
        assert [total.billed for total in result.totals("all")] == [0]
    assert (line.category, line.cause) == (
        "invalid_row",
        (
            f"the value in column product_type is {kind}, and no price table of the provider gives the value "
            "of that unit"
        ),
    )
    assert line.remedy == (
        "Ask the provider for the value of the unit, and add it to `units` in your own price table; until "
        "then, the row's charge is not counted anywhere."
    )


def test_an_empty_or_unknown_kind_of_pack_is_refused(world: World) -> None:
    """A row of an unlisted kind, or without a kind in a file that has the column, is not a video."""
    path = write(world, "a.json", package(6, product_type=""), package(6, "2", product_type="coupon"))
    with world.reconcile(path) as result:
        assert {line.cause for line in result.lines()} == {
            "the value in column product_type is empty",
            "the value in column product_type is neither a currency nor a known unit: text of 6 characters",
        }


def test_packs_and_balance_add_up_across_files(world: World) -> None:
    """A task that two packs and the balance pay for is charged their sum."""
    world.send(TASK)
    first = write(world, "package.json", package(2.5), package(0.5, package_id="p-72"))
    second = write(world, "balance.json", balance(0.42))
    line = world.line(first, second)
    assert (line.category, line.billed, line.rows) == (
        "matched",
        D("0.84"),
        ("package.json:1", "package.json:2", "balance.json:1"),
    )


def test_test_credit_is_not_money(world: World) -> None:
    """A row paid with test credit charges nothing, and the list price is never a charge."""
    path = write(world, "balance.json", balance(0.84, cash_type="test_balance"), balance(0.4, "2"))
    billed = {task: (line.billed, line.category) for task, line in lines(world, path).items()}
    assert billed == {TASK: (D(0), "not_in_ledger"), "2": (D("0.4"), "not_in_ledger")}


def test_an_unknown_kind_of_cash_is_refused(world: World) -> None:
    """A kind of cash that the mapping does not list is neither money nor nothing."""
    line = world.line(write(world, "balance.json", balance(0.84, cash_type="gift")))
    assert (line.category, line.cause) == (
        "invalid_row",
        "the value in column cash_type does not name a known kind of charge: 'gift'",
    )


def test_a_deduction_from_the_balance_is_never_read_as_units(world: World) -> None:
    """An export of the balance without its currency is refused, and the error names the missing column."""
    row = balance(0.84)
    del row["currency"]
    path = write(world, "balance.json", row)
    with pytest.raises(
        StatementError, match="kling-deductions-money nearly matches, but column currency is missing"
    ):
        world.reconcile(path)
    with pytest.raises(StatementError, match="column cash_type: does not occur in statements for mapping"):
        world.reconcile(path, mapping="kling-deductions-units")


def test_image_jobs_are_settled_and_reconciled_in_image_units(world: World) -> None:
    """8 image units an image: the names of the image models are those of video models, and the pack decides."""
    url = "https://api-singapore.klingai.com/v1/images/generations"
    for task_id, images in (("1", 3), ("2", 3), ("3", 2), ("4", 1)):
        admission = world.guard.admit({"prompt": "a", "n": images}, project="p", url=url)
        world.guard.dispatch(admission)
        world.guard.bind(admission, task_id)
    done = {
        "task_id": "1",
        "task_status": "succeed",
        "final_unit_deduction": "24",
        "task_result": {"images": []},
    }
    world.guard.observe({"code": 0, "data": done}, provider="kling")
    settled = next(entry for entry in world.guard.history() if entry.task_id == "1")
    assert (settled.state, settled.billed, settled.basis) == ("settled", D("0.084"), "response")
    image = {"product_type": "image", "product_function": "Text to Image", "resolution": "1k"}
    rows = [package(24, "1", **image), package(16, "2", **image), package(32, "3", **image)]
    found = lines(world, write(world, "a.json", *rows), write(world, "b.json", balance(0.028, "4")))
    assert {task: (line.category, line.billed, line.cause) for task, line in found.items()} == {
        "1": ("matched", D("0.084"), ""),
        "2": ("explained", D("0.056"), "billed 2 images for a request of 3 images"),
        "3": (
            "explained",
            D("0.112"),
            "billed 4 images for a request of 2 images, or billed at twice the price",
        ),
        "4": ("matched", D("0.028"), ""),
    }
    assert {line.model for line in found.values()} == {"kling-image-v3"}


def test_columns_are_looked_up_in_every_row(world: World) -> None:
    """A column that only a later row has is read, as rows of images lack those of videos."""
    first = {
        name: value for name, value in package(8, "1", product_type="image").items() if name != "model_name"
    }
    found = lines(world, write(world, "a.jsonl", first, package(6, resolution="1080p")))
    assert (found["1"].billed, found[TASK].resolution) == (D("0.028"), "1080p")


def test_a_time_decides_the_period_whatever_its_column_is_called(world: World) -> None:
    """Rows of another month are left out and counted, in milliseconds or in ISO 8601."""
    october = str(MS - 10 * 86_400_000)
    for name, inside, outside in (
        ("deduction_time", str(MS), october),
        ("created_at", str(MS), october),
        ("created_at", "2026-11-05T12:00:00Z", "2026-10-26T12:00:00Z"),
    ):
        rows = [package(6), package(3, "2")]
        for row, at in zip(rows, (inside, outside), strict=True):
            del row["deduction_time"]
            row[name] = at
        with world.reconcile(write(world, "a.json", *rows)) as result:
            assert [line.task_id for line in result.lines()] == [TASK]
            assert (result.rows.charges, result.rows.outside) == (1, 1)


def test_a_file_without_a_time_is_refused(world: World) -> None:
    """Without the time of a deduction, rows of every month would count in this one."""
    row = package(6)
    del row["deduction_time"]
    with pytest.raises(
        StatementError, match="nearly matches, but column deduction_time or created_at is missing"
    ):
        world.reconcile(write(world, "a.json", row))


def answer(**fields: Any) -> dict[str, Any]:
    """An answer about a task of the legacy API."""
    return {"code": 0, "data": {"task_id": TASK, "task_status": "succeed", **fields}}


USD, CNY = "USD", "CNY"


PARTS: list[tuple[dict[str, Any], dict[str, str]]] = [
    ({"final_unit_deduction": "6"}, {USD: "0.84"}),
    ({"final_balance_deduction": {"quota": "0.588", "list_price": "0.84"}}, {USD: "0.588"}),
    ({"final_unit_deduction": "0", "final_balance_deduction": {"quota": "0.588"}}, {USD: "0.588"}),
    ({"final_unit_deduction": "", "final_balance_deduction": {"quota": 0.588}}, {USD: "0.588"}),
    ({"final_unit_deduction": "2.5", "final_balance_deduction": {"quota": "0.49"}}, {USD: "0.84"}),
    ({"final_unit_deduction": "6", "final_balance_deduction": {"quota": "0"}}, {USD: "0.84"}),
    ({"final_unit_deduction": "8", "task_result": {"images": []}}, {USD: "0.028"}),
    ({"billing": [{"charge_type": "unit", "package_type": "video", "amount": "6"}]}, {USD: "0.84"}),
    ({"billing": [{"charge_type": "unit", "package_type": "image", "amount": "8"}]}, {USD: "0.028"}),
    ({"billing": [{"charge_type": "cash", "amount": "0.588", "list_price": "0.84"}]}, {USD: "0.588"}),
    ({"billing": [{"charge_type": "cash", "amount": "6", "currency": "CNY"}]}, {CNY: "6"}),
    (
        {"billing": [{"charge_type": "cash", "cash_type": "test_balance", "amount": "1", "currency": "USD"}]},
        {USD: "0"},
    ),
    (
        {
            "billing": [
                {"charge_type": "unit", "package_type": "video", "amount": "2.5"},
                {"charge_type": "cash", "cash_type": "balance", "amount": "0.49", "currency": "USD"},
            ]
        },
        {USD: "0.84"},
    ),
]
"""The fields of an answer, and the charge in each currency."""


def test_the_parts_of_an_answer_add_up(world: World) -> None:
    """Units count by the kind of their pack, money as it was taken; a list price and 0 units do not count."""
    answers = [
        answer(task_id=f"{TASK}{number}", **more)
        for number, (fields, _) in enumerate(PARTS)
        for more in (fields, {"task_status": "processing"})
    ]
    with world.reconcile(write(world, "a.jsonl", *answers)) as result:
        charged = {(line.task_id, line.currency): f"{line.billed}" for line in result.lines()}
    assert charged == {
        (f"{TASK}{number}", currency): amount
        for number, (_, billed) in enumerate(PARTS)
        for currency, amount in billed.items()
    }


@pytest.mark.parametrize(
    ("entry", "fault"),
    [
        (
            {"charge_type": "points", "amount": "6"},
            "billing[0].charge_type is points, which is neither unit nor cash",
        ),
        (
            {"charge_type": "unit", "amount": "6"},
            "billing[0].package_type is null, which is not a known kind of pack",
        ),
        ({"charge_type": "cash", "currency": "USD"}, "billing[0].amount is missing"),
    ],
)
def test_a_part_of_an_unknown_kind_is_refused(world: World, entry: dict[str, Any], fault: str) -> None:
    """A part that is neither units of a pack nor cash makes the row invalid, and nothing of it counts."""
    line = world.line(write(world, "a.jsonl", answer(billing=[entry])))
    assert (line.category, line.cause) == ("invalid_row", f"the row cannot be read: {fault}")


def test_the_currency_of_an_account_can_be_named(world: World) -> None:
    """Money without a currency is in the account's currency: the option's, else the table's."""
    path = write(world, "a.jsonl", answer(final_balance_deduction={"quota": "6"}))
    assert (world.line(path).currency, world.line(path, account_currency="CNY").currency) == ("USD", "CNY")
    with pytest.raises(KlingPricingError, match="the account currency must be a code of three capital letters"):
        world.reconcile(path, account_currency="yuan")


NEW = {"id": TASK, "status": "succeeded", "outputs": [], "external_id": "x"}
UNITS = [{"charge_type": "unit", "package_type": "video", "amount": "6"}]


@pytest.mark.parametrize(
    "bodies",
    [
        [{"code": 0, "data": [NEW | {"billing": UNITS}]}],
        [{"code": 0, "data": {"result": [NEW | {"billing": UNITS}], "count": 1, "has_more": False}}],
        [NEW | {"billing": UNITS}],
        [{"code": 0, "data": [{"task_id": TASK, "task_status": "succeed", "final_unit_deduction": "6"}]}],
        [{"code": 0, "data": []}, {"code": 0, "data": [NEW | {"billing": UNITS}]}],
        [json.dumps(NEW | {"billing": UNITS})],
    ],
)
def test_lists_of_tasks_are_read_as_their_tasks(world: World, bodies: list[Any]) -> None:
    """Both shapes of a list, a callback of the new standard, and an answer saved as text are answers."""
    world.send(TASK)
    line = world.line(write(world, "a.jsonl", *bodies))
    assert (line.category, line.billed) == ("matched", D("0.84"))


LOG_AT = int(NOON.timestamp())


def log(kind: int, quota: int, minute: int = 0, model: str = "kling-v3", **other: Any) -> dict[str, Any]:
    """A row of the usage log of a new-api gateway."""
    return {
        "id": 7,
        "created_at": LOG_AT + 60 * minute,
        "type": kind,
        "model_name": model,
        "quota": quota,
        "other": json.dumps(other) if other else "",
    }


FIRST = log(2, 500000, task_id=TASK)


LOGS: list[tuple[list[Any], str]] = [
    ([FIRST], "1"),
    ([FIRST, log(6, 500000, 5, task_id=TASK, reason="failed")], "0"),
    ([FIRST, log(6, 80000, 5, task_id=TASK, pre_consumed_quota=500000, actual_quota=420000)], "0.84"),
    ([FIRST, log(2, 20000, 5, task_id=TASK, pre_consumed_quota=500000, actual_quota=520000)], "1.04"),
    ([FIRST, log(2, -80000, 5, task_id=TASK, pre_consumed=500000, actual_quota=420000)], "0.84"),
    (
        [
            FIRST,
            log(2, 20000, 5, task_id=TASK, pre_consumed_quota=500000, actual_quota=520000),
            log(6, 100000, 6, task_id=TASK, pre_consumed_quota=520000, actual_quota=420000),
        ],
        "0.84",
    ),
    (
        [
            FIRST,
            log(6, 500000, 5, task_id=TASK, reason="failed"),
            log(2, 20000, 6, task_id=TASK, pre_consumed_quota=500000, actual_quota=520000),
        ],
        "0",
    ),
    ([log(6, 80000, 5, task_id=TASK, pre_consumed_quota=500000, actual_quota=420000)], "0.84"),
    ([log(6, 500000, 5, task_id=TASK, reason="failed")], "0"),
    (
        [
            log(2, 500000),
            log(6, 80000, 5, task_id=TASK, pre_consumed_quota=500000, actual_quota=420000),
        ],
        "0.84",
    ),
]
"""The rows of a log about one task -> the charge."""


@pytest.mark.parametrize(
    ("rows", "billed", "shape"),
    [(*case, ("items", "list", "jsonl")[number % 3]) for number, case in enumerate(LOGS)],
)
def test_a_log_charges_a_task_once(world: World, rows: list[Any], billed: str, shape: str) -> None:
    """A refund makes it zero, else the latest final amount counts, else the first row; never the sum."""
    paths = {
        "items": lambda: world.statement(json.dumps({"success": True, "data": {"items": rows}}), "log.json"),
        "list": lambda: world.statement(json.dumps({"success": True, "data": rows}), "log.json"),
        "jsonl": lambda: write(world, "log.jsonl", *rows),
    }
    with world.reconcile(paths[shape]()) as result:
        (line,) = result.lines()
        assert (line.task_id, line.billed) == (TASK, D(billed))


def test_first_rows_without_a_task_are_used_once(world: World) -> None:
    """Each is given to one task with its model and amount; one that is left names a model, and is reported."""
    rows = [
        log(2, 500000, 0),
        log(2, 500000, 1),
        log(2, 500000, 2, model="kling-v2-6"),
        log(6, 80000, 5, task_id="a", pre_consumed_quota=500000, actual_quota=420000),
        log(2, 10000, 6, task_id="b", pre_consumed_quota=500000, actual_quota=510000),
        log(2, 10000, 7, task_id="c", pre_consumed_quota=500000, actual_quota=510000),
    ]
    with world.reconcile(write(world, "log.json", *rows)) as result:
        shown = {line.task_id: (line.billed, line.rows) for line in result.lines()}
        (left,) = result.lines("invalid_row")
    assert shown == {
        None: (None, ("log.json:3",)),
        "a": (D("0.84"), ("log.json:1", "log.json:4")),
        "b": (D("1.02"), ("log.json:2", "log.json:5")),
        "c": (D("1.02"), ("log.json:6",)),
    }
    assert left.cause == (
        "the value in column other.task_id is empty, although the row charges '500000' for a model whose "
        "rows must have a task id"
    )


def test_rows_of_other_services_are_left_out_and_counted(world: World) -> None:
    """Top-ups, errors and chat are no charges of tasks."""
    rows = [log(1, 10**9, model=""), log(2, 77, model="gpt-5"), log(5, 0), log(4, 3), FIRST]
    with world.reconcile(write(world, "log.json", *rows)) as result:
        assert [line.billed for line in result.lines()] == [D(1)]
        assert result.rows == (5, 1, 0, 0, 0, 4)


def test_overlapping_logs_count_a_row_once(world: World) -> None:
    """The ids of a users' log repeat, so the same row is known by everything else."""
    second = log(6, 80000, 5, task_id=TASK, pre_consumed_quota=500000, actual_quota=420000)
    one, two = write(world, "one.json", FIRST, second), write(world, "two.json", second, log(2, 5, task_id="b"))
    assert {task: line.billed for task, line in lines(world, one, two).items()} == {
        TASK: D("0.84"),
        "b": D("0.00001"),
    }


OURS = """\
statement: ours
about: a table of ours
sources:
  - {ref: our own, checked: 2026-11-01, authority: official}
where: {state: [done]}
columns:
  task_id: {column: task}
  amount:
    column: amount
    unit_column: kind
    decimals: 2
    units:
      points: {unit: points, value: 0.5, currency: USD, decimals: 0}
      usd: {unit: USD}
    sign: {column: direction, negative: [refund]}
  billed_at: {column: at, format: ms}
  row_id: {column: id, optional: true}
"""


def ours(world: World, *rows: str, header: str = "task,amount,kind,direction,at,state,id") -> dict[str, Any]:
    """Reads rows by the mapping above; returns task, or row and cause -> amount."""
    mapping = world.folder / "ours.yaml"
    mapping.write_text(OURS)
    path = world.statement("\n".join([header, *rows, ""]))
    with world.reconcile(path, mapping=mapping) as result:
        return {line.task_id or f"{line.rows[0]} {line.cause}": line.billed for line in result.lines()}


def test_a_mapping_gives_units_signs_and_rows(world: World) -> None:
    """Units have decimals and values of their own, refunds a text of their own, and other rows are left out."""
    assert ours(
        world,
        f"a,3,points,charge,{MS},done,1",
        f"a,1,Points,Refund,{MS},done,2",
        f"b,0.25,USD,charge,{MS},done,3",
        f"c,9,points,charge,{MS},planned,4",
        f"d,1.5,points,charge,{MS},done,5",
        f"e,1,coins,charge,{MS},done,6",
        f"f,1,points,charge,{MS // 1000},done,7",
    ) == {
        "a": D(1),
        "b": D("0.25"),
        "november.csv:6 the value in column amount has more digits than its unit allows: '1.5'": None,
        (
            "november.csv:7 the value in column kind is neither a currency nor a known unit: text of 5 "
            "characters"
        ): None,
        f"november.csv:8 the value in column at is not a time in the mapping's format: '{MS // 1000}'": None,
    }


def test_rows_with_an_id_are_counted_by_it(world: World) -> None:
    """The same id is the same row, in one file or in two; equal rows with two ids are two charges."""
    row = f"a,3,points,charge,{MS},done"
    assert ours(world, f"{row},1", f"{row},1", f"{row},2") == {"a": D(3)}


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        (", value: 0.5, currency: USD", ", value: 0.5", "give `value` and `currency` together"),
        ("value: 0.5", "value: 0", "greater than 0"),
        ("negative: [refund]", "zero: [a], negative: [A]", "'A' and 'a' differ only in case"),
        (", negative: [refund]", "", "give `positive`, `negative` or `zero`"),
        ("negative: [refund]", "zero: [a], negative: [a]", "'a' is listed twice; keep it under one sign"),
        ("    decimals: 2", "    decimals: 2\n    charges: negative", "give either `charges` or `sign`"),
        ("format: ms", "format: [ms, '%d']", "must be iso, unix, ms, or a pattern"),
        ("format: ms", "format: []", "format"),
        ("where: {state: [done]}", "where: {state: []}", "where.state"),
    ],
)
def test_a_mistake_in_the_new_keys_is_refused(world: World, old: str, new: str, problem: str) -> None:
    """The error names the key and the remedy."""
    assert old in OURS
    mapping = world.folder / "ours.yaml"
    mapping.write_text(OURS.replace(old, new, 1))
    with pytest.raises(TableError, match=problem):
        world.reconcile(world.statement("task\n"), mapping=mapping)


def test_a_correction_in_a_later_month_is_settled_whole(world: World) -> None:
    """A task that was charged in advance in October and corrected in November settles at its final amount."""
    world.clock.now = datetime(2026, 10, 31, 23, tzinfo=UTC)
    reservation = world.send(TASK)
    world.clock.now = NOON + timedelta(days=1)
    correction = log(6, 80000, 5, task_id=TASK, pre_consumed_quota=500000, actual_quota=420000)
    path = write(world, "log.json", correction)
    with world.reconcile(path) as result:
        (line,) = result.lines()
        assert (line.category, line.billed, line.remedy) == ("timing", D("-0.16"), "")
        result.settle()
    assert world.guard.reservation(reservation).billed == D("0.84")


@pytest.mark.parametrize("name", ["created_at", "create_time"])
@pytest.mark.parametrize("nested", [True, False])
def test_answers_of_another_month_are_left_out(world: World, name: str, nested: bool) -> None:  # noqa: FBT001
    """A dump of a quarter's answers gives each month the tasks that were submitted in it."""
    tasks = [
        {
            "task_id": f"{number}",
            "task_status": "succeed",
            "final_unit_deduction": "6",
            name: MS - days * 86_400_000,
        }
        for number, days in enumerate((0, 2, 10))
    ]
    path = write(world, "a.jsonl", *({"code": 0, "data": task} if nested else task for task in tasks))
    with world.reconcile(path) as result:
        assert sorted(str(line.task_id) for line in result.lines()) == ["0", "1"]
        assert (result.rows.charges, result.rows.outside) == (2, 1)


@pytest.mark.parametrize(
    ("row", "cause"),
    [
        (
            log(6, 5, task_id=TASK, actual_quota="much", pre_consumed_quota=5),
            "the value in column other.actual_quota is not an amount in plain digits, such as 0.714: 'much'",
        ),
        (
            log(6, 5, task_id=TASK, actual_quota=5, pre_consumed=5.5),
            (
                "the value in column other.pre_consumed_quota is not an amount in plain digits, such as "
                "0.714: '5.5'"
            ),
        ),
        (log(2, 5, task_id=TASK) | {"created_at": ""}, "the value in column created_at is empty"),
    ],
)
def test_a_row_of_a_log_that_cannot_be_read_is_reported(world: World, row: Any, cause: str) -> None:
    """A final amount that is not a whole number of quota is not read as nothing."""
    line = world.line(write(world, "log.json", row))
    assert (line.category, line.cause) == ("invalid_row", cause)
