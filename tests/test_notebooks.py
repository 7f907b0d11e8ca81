"""Quotes, options, balances and reconciliations in notebooks: short texts, escaped tables, exact data."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

from kling_pricing import Budget, BudgetGuard, PriceBook, compare, quote
from kling_pricing.reconcile import reconcile
from tests.conftest import AT, Clock, video
from tests.guards import CLIP, COST

ODD = "<b>&\"'"


def test_a_quote_has_exact_data_and_a_table(book: PriceBook) -> None:
    """With `decimals`, every amount is a Decimal; otherwise text. The table has the lines, total and notes."""
    quoted = quote(CLIP, at=AT, book=book)
    data, exact = quoted.as_dict(), quoted.as_dict(decimals=True)
    assert (data["total"], exact["total"]) == ("0.714", COST)
    assert (data["lines"][0]["unit_price"], exact["lines"][0]["unit_price"]) == ("0.1428", Decimal("0.1428"))
    assert json.loads(quoted.as_json()) == data
    table = quoted._repr_html_()
    assert "5 seconds x 0.1428" in table
    assert "0.714 USD" in table
    assert "newer price list" in table
    assert repr(quoted) == "<Quote 0.714 USD: kling-v3 1080p audio by qingbo/2026-04-29>"


def test_a_range_keeps_both_ends(book: PriceBook) -> None:
    """Data of a range has no total, and the table shows both ends."""
    clip = {
        "model": "kling-v3-motion-control",
        "prompt": "a",
        "duration": 0,
        "image_urls": ["https://a.example/1.png"],
        "video_urls": ["https://a.example/1.mp4"],
        "character_orientation": "video",
    }
    quoted = quote(clip, at=AT, book=book, wire_format="tasks_v2")
    exact = quoted.as_dict(decimals=True)
    assert (exact["total"], exact["minimum"], exact["maximum"]) == (None, quoted.minimum, quoted.maximum)
    assert f"{quoted.shown_total()} USD" in quoted._repr_html_()


def test_an_option_is_short(book: PriceBook) -> None:
    """An available option shows its price and changes, another one its reason."""
    options = compare(CLIP, at=AT, book=book)
    assert repr(options[0]).startswith("<Option 0.189 USD at qingbo-ai: model = kling-v2.6, resolution = 720p")
    assert options[0].as_dict(decimals=True)["quote"]["total"] == Decimal("0.189")
    assert json.loads(options[0].as_json())["quote"]["total"] == "0.189"
    closed = options[-1]
    assert closed.quote is None
    assert "<Option not available at " in repr(closed)
    assert closed.as_dict()["quote"] is None
    assert closed.why_not.split(";")[0].split("'")[0] in closed._repr_html_()
    (same,) = [option for option in options if not option.changes and option.provider == "qingbo"]
    assert repr(same) == "<Option 0.714 USD at qingbo: the original request>"


def test_a_balance_is_short_and_escaped(tmp_path: Path, book: PriceBook) -> None:
    """Names from budgets files and callers are escaped in the table."""
    budget = Budget(name="each", match={"project": "*"}, cap=1, currency="USD")
    with BudgetGuard(f"sqlite:///{tmp_path / 'spend.db'}", [budget], book=book, clock=Clock()) as guard:
        guard.pre_submit(CLIP, project=ODD)
        (bucket,) = guard.status()
    assert repr(bucket) == f"<Bucket each, project {ODD}: 0.286 of 1 USD left>"
    table = bucket._repr_html_()
    assert ODD not in table
    assert "&lt;b&gt;&amp;&quot;&#x27;" in table
    assert bucket.as_dict(decimals=True)["held"] == COST
    assert json.loads(bucket.as_json()) == bucket.as_dict()
    assert bucket.as_dict()["available"] == "0.286"


def test_a_reconciliation_sums_itself_up(tmp_path: Path, book: PriceBook) -> None:
    """Its text has the verdict; its data has the totals and the amounts to pay, exactly."""
    ledger = f"sqlite:///{tmp_path / 'spend.db'}"
    clock = Clock(datetime(2026, 11, 10, tzinfo=UTC))
    with BudgetGuard(ledger, [Budget(name="all", cap=9, currency="USD")], book=book, clock=clock) as guard:
        job, _ = guard.admit_and_dispatch(video(duration=5), project="trailer", key="k")
        guard.bind(job, "t-1")
    statement = tmp_path / "november.csv"
    billed_ms = int(clock.now.timestamp()) * 1000
    statement.write_text(f"task_id,model,status,created_at,cost\nt-1,kling-v3,completed,{billed_ms},200000\n")
    since = datetime(2026, 11, 1, tzinfo=UTC)
    with reconcile(
        ledger, statement, provider="qingbo", since=since, until=since + timedelta(days=30), book=book
    ) as result:
        period, verdict = "2026-11-01 to 2026-12-01 (exclusive)", "reconciled, 1 exception, 1 of them open"
        assert repr(result) == f"<Reconciliation qingbo, {period}: {verdict}>"
        exact = result.as_dict(decimals=True)
        assert exact["totals"][0]["billed"] == Decimal("0.4")
        assert exact["totals"][0]["variance"] == Decimal("0.043")
        assert json.loads(result.as_json())["totals"][0]["billed"] == "0.4"
        assert exact["payable"][0]["invoiced"] == Decimal("0.4")
        assert "0.043 USD" in result._repr_html_()
