"""Small months from Hypothesis, compared with a reference in plain Python."""

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
"""The category of a variance; other tests check the explanations."""

AMOUNTS = (0, 1, 175250, 175251, 175253, 252250, -175250)
"""The prices of five seconds at 720p, silent and audio, amounts near them, and a refund."""
TIMES = (SINCE - timedelta(hours=1), SINCE, SINCE + timedelta(days=3), UNTIL - timedelta(hours=1), UNTIL)
TASKS = ("a", "b", "c")


class Outcome(NamedTuple):
    """The fields of a line that are compared."""

    category: str
    task_id: str | None
    expected: Decimal | None
    billed: Decimal | None


@pytest.fixture(scope="module")
def prices(tmp_path_factory: pytest.TempPathFactory) -> PriceBook:
    """The bundled tables and those of the tests' own provider."""
    return months.book(tmp_path_factory.mktemp("prices"))


def sent(task_id: str | None) -> st.SearchStrategy[Sent]:
    """Strategy for a reservation of a task, or of a request without a known task."""
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
    lambda tasks, requests, listed: Month([*filter(None, tasks), *requests], listed),
    st.tuples(*(st.none() | sent(task_id) for task_id in TASKS)),
    st.lists(sent(None), max_size=2),
    st.lists(rows, max_size=7),
)


def inside(at: Any) -> bool:
    """Returns whether an instant is in the period."""
    return bool(SINCE <= at < UNTIL)


def reference(month: Month, quoted: Mapping[int, Decimal]) -> Counter[Outcome]:
    """Returns the lines of a month, task by task, by the rules of the documentation."""
    outcomes: list[Outcome] = []
    charges: dict[str, list[Row]] = {}
    unread = []
    for row in month.rows:
        if "." in row.cost or (row.cost == "" and row.status == "completed"):
            unread.append(row.task_id)
        else:
            charges.setdefault(row.task_id, []).append(row)
    by_task = {job.task_id: job for job in month.sent if job.task_id is not None}
    for task_id in charges.keys() | by_task.keys():
        lines = task(task_id, by_task.get(task_id), charges.get(task_id, []), quoted)
        if task_id in unread:
            lines = lines or [Outcome("invalid_row", task_id, None, None)]
            lines = [line._replace(category="invalid_row") for line in lines]
        outcomes += lines
    strangers = [task_id for task_id in unread if task_id not in charges.keys() | by_task.keys()]
    outcomes += [Outcome("invalid_row", None, None, None) for _ in strangers]
    requests = [job for job in month.sent if job.task_id is None]
    outcomes += pair_up(requests, outcomes, charges, quoted)
    return Counter(outcomes)


def task(
    task_id: str, reservation: Sent | None, listed: list[Row], quoted: Mapping[int, Decimal]
) -> list[Outcome]:
    """Returns the line of a task, or no line."""
    here = [row for row in listed if inside(row.at)]
    counted = here or listed
    total, whole = (added_up(some) for some in (counted, listed))
    due = None
    if reservation is not None:
        free = reservation.state == "released" or reservation.ended == "failed"
        due = Decimal(0) if free else quoted[id(reservation)]
    is_sent = reservation is not None and inside(reservation.at)
    expected = due if is_sent else None
    billed = total if here else None
    if not is_sent and not here:
        return []
    if not is_sent and reservation is not None and total is None:
        return []
    if here and is_repeated(listed) and whole is not None and whole > (due or 0):
        return [Outcome("billed_twice", task_id, expected, billed)]
    if is_sent and reservation is not None and due and whole is None:
        late = reservation.at > UNTIL - GRACE
        return [Outcome("not_billed_yet" if late else "not_billed", task_id, expected, None)]
    if reservation is None:
        return [Outcome("not_in_ledger", task_id, None, billed)]
    if listed and (is_sent != bool(here) or whole != total):
        return [Outcome("timing", task_id, expected, billed)]
    return [Outcome("matched" if (total or 0) == due else VARIES, task_id, expected, billed)]


def added_up(listed: list[Row]) -> Decimal | None:
    """Returns the sum of the charges of some rows; zero for a running task is not a charge."""
    amounts = [int(row.cost) for row in listed if row.cost and (row.status != "processing" or row.cost != "0")]
    return sum(amounts) * QUOTA if amounts else None


def is_repeated(listed: list[Row]) -> bool:
    """Returns whether an amount is charged more than once more often than it is refunded."""
    times = Counter(int(row.cost) for row in listed if row.cost)
    return any(times[amount] - times[-amount] > 1 for amount in times if amount > 0)


def pair_up(
    requests: list[Sent],
    outcomes: list[Outcome],
    charges: Mapping[str, list[Row]],
    quoted: Mapping[int, Decimal],
) -> list[Outcome]:
    """Returns the lines of requests without a known task; charges that fit them become candidates."""
    lines = []
    fitting: set[int] = set()
    for request in requests:
        fits = [
            place
            for place, line in enumerate(outcomes)
            if line.category in {"not_in_ledger", "in_doubt_candidate"}
            and line.billed == quoted[id(request)]
            and timedelta(minutes=-10) <= first(charges[str(line.task_id)]) - request.at <= timedelta(days=1)
        ]
        fitting.update(fits if SINCE - timedelta(days=1) <= request.at < UNTIL else ())
        if inside(request.at):
            late = "not_billed_yet" if request.at > UNTIL - GRACE else "not_billed"
            lines.append(Outcome("in_doubt_candidate" if fits else late, None, quoted[id(request)], None))
    for place in fitting:
        outcomes[place] = outcomes[place]._replace(category="in_doubt_candidate")
    return lines


def first(listed: list[Row]) -> Any:
    """Returns when a task was first charged, in the period if possible."""
    counted = [row for row in listed if inside(row.at)] or listed
    return next(row.at for row in counted if (row.cost and row.cost != "0") or row.status != "processing")


@settings(max_examples=25)
@given(month=small)
def test_small_months_agree_with_plain_python(prices: PriceBook, month: Month) -> None:
    """Any mixture of tasks and rows gives the lines of the reference, and the sums tie out."""
    grower = Grower(prices, 0)
    quoted = {id(job): Decimal(months.quote_of(grower, job)).scaleb(-9) for job in month.sent}
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
        ) as result:
            lines = list(result.lines())
            counts = result.rows
            totals = result.totals("all")
    shown = Counter(
        Outcome(
            VARIES if line.category in {"explained", "unexplained"} else line.category,
            line.task_id,
            line.expected,
            line.billed,
        )
        for line in lines
    )
    assert shown == expected
    assert counts.read == len(month.rows) + months.EXTRA_ROWS == sum(counts[1:])
    for total in totals:
        assert total.expected + sum(line.variance for line in lines) == total.billed
