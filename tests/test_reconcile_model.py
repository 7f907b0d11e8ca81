"""Small months made by Hypothesis, held against a reference in plain Python that knows no SQL."""

from collections import Counter
from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kling_pricing import PriceBook
from kling_pricing.reconcile import reconcile
from tests import months
from tests.months import QUOTA, SINCE, UNTIL, Grower, Month, Row, Sent

GRACE = timedelta(days=1)
VARIES = "explained or not"
"""Of a variance: what explains it is for other tests."""

AMOUNTS = (0, 1, 175250, 175251, 175253, 252250, -175250)
"""Five seconds at 720p, silent and audio, and what is near them; a refund."""
TIMES = (SINCE - timedelta(hours=1), SINCE, SINCE + timedelta(days=3), UNTIL - timedelta(hours=1), UNTIL)
TASKS = ("a", "b", "c")


class Found(NamedTuple):
    """What a line shows."""

    category: str
    task_id: str | None
    expected: Decimal | None
    billed: Decimal | None


@pytest.fixture(scope="module")
def prices(tmp_path_factory: pytest.TempPathFactory) -> PriceBook:
    """The tests' own provider beside the bundled ones."""
    return months.book(tmp_path_factory.mktemp("prices"))


def sent(task_id: str | None) -> st.SearchStrategy[Sent]:
    """A reservation of a task, or of none."""
    states = ["dispatching"] if task_id is None else ["bound", "settled", "released"]
    return st.builds(
        Sent,
        st.just(task_id),
        st.builds(lambda audio: {"duration": 5, "resolution": "720p", "audio": audio}, st.booleans()),
        st.sampled_from(TIMES),
        state=st.sampled_from(states),
        ended=st.just("") if task_id is None else st.sampled_from(["", "failed"]),
    )


rows = st.builds(
    Row,
    st.sampled_from([*TASKS, "x", "y"]),
    st.sampled_from([*map(str, AMOUNTS), "1.5", ""]),
    st.sampled_from(TIMES),
    status=st.sampled_from(["completed", "processing"]),
)
small = st.builds(
    lambda tasks, holds, listed: Month([*filter(None, tasks), *holds], listed),
    st.tuples(*(st.none() | sent(task_id) for task_id in TASKS)),
    st.lists(sent(None), max_size=2),
    st.lists(rows, max_size=7),
)


def inside(at: Any) -> bool:
    """Whether an instant is in the period."""
    return bool(SINCE <= at < UNTIL)


def reference(month: Month, quoted: Mapping[int, Decimal]) -> Counter[Found]:
    """The lines of a month, task by task, as the documentation has them."""
    found: list[Found] = []
    charges: dict[str, list[Row]] = {}
    for row in month.rows:
        if "." in row.cost or (row.cost == "" and row.status == "completed"):
            found.append(Found("invalid_row", None, None, None))
        else:
            charges.setdefault(row.task_id, []).append(row)
    by_task = {each.task_id: each for each in month.sent if each.task_id is not None}
    for task_id in charges.keys() | by_task.keys():
        found += task(task_id, by_task.get(task_id), charges.get(task_id, []), quoted)
    holds = [each for each in month.sent if each.task_id is None]
    found += pair_up(holds, found, charges, quoted)
    return Counter(found)


def task(task_id: str, own: Sent | None, listed: list[Row], quoted: Mapping[int, Decimal]) -> list[Found]:
    """What becomes of a task; at most one line."""
    here = [row for row in listed if inside(row.at)]
    counted = here or listed
    total, whole = (added_up(some) for some in (counted, listed))
    due = None
    if own is not None:
        free = own.state == "released" or own.ended == "failed"
        due = Decimal(0) if free else quoted[id(own)]
    is_sent = own is not None and inside(own.at)
    expected = due if is_sent else None
    billed = total if here else None
    if not is_sent and not here:
        return []
    if not is_sent and own is not None and total is None:
        return []
    if here and is_repeated(listed) and whole is not None and whole > (due or 0):
        return [Found("billed_twice", task_id, expected, billed)]
    if is_sent and own is not None and due and whole is None:
        late = own.at > UNTIL - GRACE
        return [Found("not_billed_yet" if late else "not_billed", task_id, expected, None)]
    if own is None:
        return [Found("not_in_ledger", task_id, None, billed)]
    if listed and (is_sent != bool(here) or whole != total):
        return [Found("timing", task_id, expected, billed)]
    return [Found("matched" if (total or 0) == due else VARIES, task_id, expected, billed)]


def added_up(listed: list[Row]) -> Decimal | None:
    """What rows charge together; nothing for a task that still runs is no charge."""
    amounts = [int(row.cost) for row in listed if row.cost and (row.status != "processing" or row.cost != "0")]
    return sum(amounts) * QUOTA if amounts else None


def is_repeated(listed: list[Row]) -> bool:
    """Whether one amount is charged more often than it is given back, by more than once."""
    times = Counter(int(row.cost) for row in listed if row.cost)
    return any(times[amount] - times[-amount] > 1 for amount in times if amount > 0)


def pair_up(
    holds: list[Sent], found: list[Found], charges: Mapping[str, list[Row]], quoted: Mapping[int, Decimal]
) -> list[Found]:
    """The lines of holds; a charge that fits one is no longer simply unknown."""
    lines = []
    fitting: set[int] = set()
    for hold in holds:
        fits = [
            place
            for place, line in enumerate(found)
            if line.category in {"not_in_ledger", "in_doubt_candidate"}
            and line.billed == quoted[id(hold)]
            and timedelta(minutes=-10) <= first(charges[str(line.task_id)]) - hold.at <= timedelta(days=1)
        ]
        fitting.update(fits if SINCE - timedelta(days=1) <= hold.at < UNTIL else ())
        if inside(hold.at):
            late = "not_billed_yet" if hold.at > UNTIL - GRACE else "not_billed"
            lines.append(Found("in_doubt_candidate" if fits else late, None, quoted[id(hold)], None))
    for place in fitting:
        found[place] = found[place]._replace(category="in_doubt_candidate")
    return lines


def first(listed: list[Row]) -> Any:
    """When a task was first charged, in the period if it was."""
    counted = [row for row in listed if inside(row.at)] or listed
    return next(row.at for row in counted if (row.cost and row.cost != "0") or row.status != "processing")


@settings(max_examples=25)
@given(month=small)
def test_small_months_agree_with_plain_python(prices: PriceBook, month: Month) -> None:
    """The same lines, and sums that tie out, whatever the mixture."""
    grower = Grower(prices, 0)
    quoted = {id(each): Decimal(months.quote_of(grower, each)).scaleb(-9) for each in month.sent}
    expected = reference(month, quoted)
    with TemporaryDirectory() as name:
        folder = Path(name)
        ledger = months.write_ledger(month, folder / "spend.db", prices)
        with reconcile(
            ledger,
            months.write_csv(month, folder),
            provider="acme",
            since=SINCE,
            until=UNTIL,
            mapping="qingbo-tasks",
            book=prices,
        ) as found:
            lines = list(found.lines())
            rows_of = found.rows
            totals = found.totals("all")
    shown = Counter(
        Found(
            VARIES if line.category in {"explained", "unexplained"} else line.category,
            line.task_id,
            line.expected,
            line.billed,
        )
        for line in lines
    )
    assert shown == expected
    assert rows_of.read == len(month.rows) == sum(rows_of[1:])
    for total in totals:
        assert total.expected + sum(line.variance for line in lines) == total.billed
