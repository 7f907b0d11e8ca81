"""What past jobs would have cost: repricing agrees with the comparison of the requests themselves."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from kling_pricing import (
    Budget,
    BudgetGuard,
    KlingPricingError,
    PriceBook,
    PriceNotFoundError,
    TableError,
    compare,
    load_price_book,
    quote,
    reprice,
)
from kling_pricing.guard.other_prices import Repriced
from tests.commands import run
from tests.conftest import AT, Clock, video

EXAMPLES = Path(__file__).parent.parent / "examples" / "requests"
SINCE, UNTIL = AT - timedelta(days=1), AT + timedelta(days=1)


def requests() -> list[dict[str, Any]]:
    """Returns requests in several formats and lanes, which the API of their format accepts."""
    found = [
        video(model, duration=length, resolution=resolution, audio=audio)
        for model in ("kling-v3", "kling-v3-omni", "kling-v2.6", "kling-video-o1", "kling-v2.5-turbo")
        for length in (5, 10)
        for resolution in ("720p", "1080p", "4k")
        for audio in (True, False)
    ]
    return found + [json.loads(path.read_text()) for path in sorted(EXAMPLES.rglob("*.json"))]


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory, book: PriceBook) -> tuple[str, dict[str, Any]]:
    """Returns a ledger with a job for every request that has a price, and the requests by key."""
    url = f"sqlite:///{tmp_path_factory.mktemp('other') / 'spend.db'}"
    sent = {}
    with BudgetGuard(url, [Budget(name="all", cap=10**6, currency="USD")], book=book, clock=Clock()) as guard:
        for number, request in enumerate(requests()):
            try:
                guard.pre_submit(request, project="trailer", key=str(number))
            except KlingPricingError:
                continue
            sent[str(number)] = request
    assert len(sent) > 40
    return url, sent


def priced_again(url: str, book: PriceBook, **other: Any) -> Repriced:
    """Prices the jobs of the test's day again."""
    return reprice(url, since=SINCE, until=UNTIL, book=book, **other)


@pytest.mark.parametrize("provider", ["kling", "qingbo", "qingbo-ai", "tencent-vod"])
def test_a_price_is_the_one_of_the_request_itself(
    jobs: tuple[str, dict[str, Any]], book: PriceBook, provider: str
) -> None:
    """Whenever a job has a price there, `compare` gives the same for its request, or one within the range."""
    url, sent = jobs
    wrong, certain = [], 0
    for job in priced_again(url, book, provider=provider).jobs:
        if job.minimum is None or job.maximum is None:
            assert job.why_not
            continue
        options = compare(sent[job.reservation.key], at=AT, book=book)
        (there,) = [option for option in options if option.provider == provider and not option.changes]
        certain += job.minimum == job.maximum
        quoted = there.quote
        if quoted is None or not job.minimum <= quoted.minimum <= quoted.maximum <= job.maximum:
            wrong.append((job.reservation.key, job.minimum, job.maximum, there))
    assert wrong == []
    assert certain > 10


def test_its_own_table_gives_the_quote_again(jobs: tuple[str, dict[str, Any]], book: PriceBook) -> None:
    """A job that was priced by a table costs the same there, unless its quote was a range."""
    url, _ = jobs
    for table in ("qingbo/2026-04-29", "qingbo-ai/2026-09-24", "kling/2026-09-20"):
        own = [job for job in priced_again(url, book, table=table).jobs if job.reservation.table == table]
        exact = [job for job in own if job.reservation.terms.minimum is None]
        assert exact
        assert [job.minimum for job in exact] == [job.reservation.expected for job in exact]


def test_totals_compare_like_with_like(jobs: tuple[str, dict[str, Any]], book: PriceBook) -> None:
    """The sums are those of the jobs with a price, to the last digit, and never mix currencies."""
    url, _ = jobs
    repriced = priced_again(url, book, provider="tencent-vod")
    kept = [job for job in repriced.jobs if job.minimum is not None]
    (total,) = repriced.totals
    assert (total.currency, total.other_currency, total.jobs) == ("USD", "CNY", len(kept))
    assert total.quoted == sum((job.reservation.expected for job in kept), Decimal(0))
    assert total.minimum == sum((job.minimum or Decimal(0) for job in kept), Decimal(0))
    assert sum(count for _, count in repriced.reasons) == len(repriced.jobs) - len(kept)


CONTRACT = """\
extends: qingbo/2026-04-29
valid_from: 2030-01-01
discount: 0.1
sources: [{ref: our contract, checked: 2026-11-01, authority: official}]
"""


def test_a_contract_can_be_tried_before_it_is_signed(jobs: tuple[str, dict[str, Any]], tmp_path: Path) -> None:
    """A contract that is not in force yet prices the past jobs, each with its rounded discount."""
    file = tmp_path / "prices" / "qingbo" / "ours.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(CONTRACT)
    book = load_price_book(tmp_path)
    (table,) = [table.id for tables in book.contracts.values() for table in tables]
    own = [job for job in priced_again(jobs[0], book, table=table).jobs if job.reservation.provider == "qingbo"]
    exact = [job for job in own if job.reservation.terms.minimum is None]
    assert exact
    assert [job.maximum for job in exact] == [job.reservation.expected * Decimal("0.9") for job in exact]


def test_only_jobs_that_were_sent_count(tmp_path: Path, book: PriceBook, clock: Clock) -> None:
    """Neither reserved nor released jobs count, nor those of other periods or projects."""
    url = f"sqlite:///{tmp_path / 'spend.db'}"
    clip = video(duration=5)
    with BudgetGuard(url, [Budget(name="all", cap=10, currency="USD")], book=book, clock=clock) as guard:
        guard.admit(clip, project="trailer", key="unsent")
        refused, _ = guard.admit_and_dispatch(clip, project="trailer", key="refused")
        guard.release_refused(refused)
        sent, _ = guard.admit_and_dispatch(clip, project="trailer", key="sent")
        guard.bind(sent, "task-1")
        guard.settle(sent, "0.3")
        guard.admit_and_dispatch(clip, project="other", key="other")
        guard.record("qingbo", "task-9", "0.5", labels={"project": "trailer"})
        clock.pass_by(days=40)
        guard.admit_and_dispatch(clip, project="trailer", key="later")
    found = reprice(url, provider="kling", since=SINCE, until=UNTIL, project="trailer", book=book)
    assert [job.reservation.key for job in found.jobs if not job.why_not] == ["sent"]
    assert found.reasons == [("it was recorded by hand, so its tier and length cannot be read", 1)]
    (total,) = found.totals
    assert (total.quoted, total.counted, total.minimum) == (
        *(Decimal("0.357"), Decimal("0.3")),
        quote(clip, at=AT, book=book, provider="kling", wire_format="tasks").total,
    )


@pytest.mark.parametrize(
    ("options", "kind", "part"),
    [
        ({}, KlingPricingError, "either `table` or `provider`"),
        ({"table": "a", "provider": "b"}, KlingPricingError, "either `table` or `provider`"),
        ({"table": "kling/2026"}, TableError, "unknown price table kling/2026; did you mean"),
        ({"provider": "kling", "until": None}, KlingPricingError, "both `since` and `until`, or neither"),
        ({"provider": "nobody"}, PriceNotFoundError, "unknown provider 'nobody'"),
        ({"provider": "kling", "since": datetime(2026, 1, 1)}, KlingPricingError, "no time zone"),  # noqa: DTZ001
    ],
)
def test_bad_arguments_name_the_remedy(
    jobs: tuple[str, dict[str, Any]], options: dict[str, Any], kind: type[Exception], part: str
) -> None:
    """Nothing is priced, and the message says what to give."""
    with pytest.raises(kind, match=part):
        reprice(jobs[0], **{"since": SINCE, "until": UNTIL, **options})


def test_the_command_shows_totals_and_reasons(jobs: tuple[str, dict[str, Any]], book: PriceBook) -> None:
    """The text has the sums and the difference; the JSON has every job."""
    period = ("--from", "2026-11-20", "--until", "2026-11-23")
    done = run("reprice", "--provider", "kling", *period, ledger=jobs[0])
    (total,) = priced_again(jobs[0], book, provider="kling").totals
    assert done.returncode == 0, done.stderr
    assert f"{total.jobs} jobs: {total.quoted.normalize():f} USD quoted" in done.stdout
    assert "left out: " in done.stdout
    data = json.loads(run("reprice", "--provider", "kling", "--json", *period, ledger=jobs[0]).stdout)
    assert data["totals"][0]["jobs"] == total.jobs
    assert len(data["jobs"]) == total.jobs + sum(data["left_out"].values())
    other = run("reprice", "--table", "tencent-vod/2026", *period, ledger=jobs[0])
    assert " CNY at the other prices" in other.stdout
    neither = run("reprice", *period, ledger=jobs[0])
    assert (neither.returncode, "either --provider or --table" in neither.stderr) == (2, True)


def test_last_month_is_the_default(tmp_path: Path, book: PriceBook) -> None:
    """Without a period, the jobs of the last calendar month in UTC are priced again."""
    this_month = datetime.now(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    last = this_month - timedelta(seconds=1)
    url, clock = f"sqlite:///{tmp_path / 'spend.db'}", Clock(last.replace(day=1, hour=0, minute=0, second=0))
    with BudgetGuard(url, [Budget(name="all", cap=10, currency="USD")], book=book, clock=clock) as guard:
        clock.now -= timedelta(seconds=1)
        guard.pre_submit(video(duration=5), project="trailer", key="before")
        clock.now += timedelta(seconds=1)
        guard.pre_submit(video(duration=5), project="trailer", key="first")
        clock.now = last
        guard.pre_submit(video(duration=5), project="trailer", key="last")
        clock.now = this_month
        guard.pre_submit(video(duration=5), project="trailer", key="after")
    found = reprice(url, provider="kling", book=book)
    assert [job.reservation.key for job in found.jobs] == ["first", "last"]


def test_a_ledger_without_jobs_has_no_totals(tmp_path: Path, book: PriceBook) -> None:
    """There is nothing to compare, and that is no error."""
    url = f"sqlite:///{tmp_path / 'spend.db'}"
    with BudgetGuard(url, [Budget(name="all", cap=10, currency="USD")], book=book):
        pass
    found = reprice(url, provider="kling", since=datetime(2026, 1, 1, tzinfo=UTC), until=UNTIL, book=book)
    assert (found.jobs, found.totals, found.reasons) == ((), [], [])
