"""`fit`: the part of a list that a sum of money pays for, exactly and by the rule that it names."""

import json
from decimal import Decimal
from itertools import combinations, product
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kling_pricing import check, quote
from kling_pricing.money import sum_of
from kling_pricing.shot_lists.fitting import FittedList, Length, ShotPrice, fit_in_order, fit_most, fit_shorter
from tests.commands import run
from tests.conftest import AT, bundled_book, examples, video
from tests.result_files import results_in

RULE = (
    "in the order of the list; a shot that does not fit is left out, and a cheaper shot after it may still fit"
)
AMOUNT = st.integers(1, 400).map(lambda cents: Decimal(cents).scaleb(-2))
MONEY = st.integers(0, 1500).map(lambda cents: Decimal(cents).scaleb(-2))


@st.composite
def shot_prices(draw: st.DrawFn) -> ShotPrice:
    """Returns a shot with up to five lengths, each shorter and cheaper than the one before."""
    durations = sorted(draw(st.sets(st.integers(1, 10), max_size=5)), reverse=True)
    amounts = sorted(draw(st.sets(AMOUNT, min_size=len(durations), max_size=len(durations))), reverse=True)
    if not durations:
        return ShotPrice(draw(AMOUNT))
    lengths = [Length(duration, amount) for duration, amount in zip(durations, amounts, strict=True)]
    return ShotPrice(amounts[0], lengths)


def consistent(fit: FittedList, money: Decimal) -> None:
    """Asserts that the sums are exact and within the money."""
    assert fit.spent == sum_of(shot.amount for shot in fit.shots if shot.fits)
    assert fit.spent + fit.left == money
    assert fit.left >= 0


@settings(max_examples=examples(100))
@given(prices=st.lists(shot_prices(), max_size=8), money=MONEY)
def test_in_order_takes_what_still_fits(prices: list[ShotPrice], money: Decimal) -> None:
    """Each shot fits exactly if the money that the shots before it have left pays for it."""
    fit = fit_in_order(prices, money)
    consistent(fit, money)
    left = money
    for price, shot in zip(prices, fit.shots, strict=True):
        assert shot.fits == (price.amount <= left)
        left -= price.amount if shot.fits else 0


@settings(max_examples=examples(100))
@given(prices=st.lists(shot_prices(), max_size=7), money=MONEY)
def test_most_is_the_greatest_number(prices: list[ShotPrice], money: Decimal) -> None:
    """No other choice of shots has more of them within the money."""
    fit = fit_most(prices, money)
    consistent(fit, money)
    best = max(
        size
        for size in range(len(prices) + 1)
        if any(sum_of(price.amount for price in some) <= money for some in combinations(prices, size))
    )
    assert sum(shot.fits for shot in fit.shots) == best


@settings(max_examples=examples(150))
@given(prices=st.lists(shot_prices(), min_size=1, max_size=5), money=MONEY)
def test_shorter_has_the_highest_common_limit(prices: list[ShotPrice], money: Decimal) -> None:
    """Every shot has a valid length; no higher limit fits; nothing fits only if no choice of lengths does."""
    fit = fit_shorter(prices, money)
    consistent(fit, money)
    choices = [[Decimal(length.amount) for length in price.lengths] or [price.amount] for price in prices]
    possible = any(sum_of(amounts) <= money for amounts in product(*choices))
    assert all(shot.fits for shot in fit.shots) == possible
    if not possible:
        cheapest = sum_of(min(amounts) for amounts in choices)
        assert (fit.lacking, fit.spent) == (cheapest - money, Decimal(0))
        return
    for price, shot in zip(prices, fit.shots, strict=True):
        if shot.duration_s is None:
            assert shot.amount == price.amount
        else:
            assert Length(shot.duration_s, shot.amount) in price.lengths[1:]
    if fit.longest_s is None:
        assert sum_of(price.amount for price in prices) <= money
    for price, shot in zip(prices, fit.shots, strict=True):  # no shot can be lengthened for what is left
        longer = [length.amount for length in price.lengths if length.amount > shot.amount]
        limits = sorted({length.duration_s for entry in prices for length in entry.lengths})
        if longer and min(longer) - shot.amount <= fit.left:
            own = next(length.duration_s for length in price.lengths if length.amount == min(longer))
            assert own > min(limit for limit in limits if limit >= (fit.longest_s or 0))


def test_a_list_is_fitted_in_order(tmp_path: Path) -> None:
    """The command names its rule, and each shot with its price and what becomes of it."""
    path = tmp_path / "a.csv"
    path.write_text(
        "model,duration,resolution,audio,prompt\n"
        "kling-v3,10,1080p,true,a\n"
        "kling-v3,15,1080p,false,b\n"
        "kling-v3,3,720p,,c\n"
        "kling-v2.6,7,1080p,,d\n"
    )
    done = run("fit", path, "--money", "2", "--at", "2026-11-21")
    assert done.stdout.splitlines() == [
        "2 of 4 shots fit into 2 USD: 1.6422 USD, 0.3578 USD left",
        f"rule: {RULE}",
        f"  fits       1.428 USD  {path}:2",
        f"  left out   1.428 USD  {path}:3",
        f"  fits      0.2142 USD  {path}:4",
        f"  refused               {path}:5: duration must be 5 or 10 seconds for kling-v2.6, not 7",
    ]
    assert done.returncode == 1
    assert run("fit", path, "--money", "0.2142", "--most", "--at", "2026-11-21").stdout.startswith(
        "1 of 4 shots"
    )


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".xlsx", ".parquet", ".jsonl"])
def test_what_fits_is_written_in_every_form(suffix: str, tmp_path: Path) -> None:
    """The file has the cells of the list, and the outcome and exact price of each shot."""
    path, out, refused = tmp_path / "a.csv", tmp_path / f"o{suffix}", tmp_path / f"r{suffix}"
    path.write_text(
        "model,duration,resolution,prompt\nkling-v3,10,1080p,a\nkling-v3,3,720p,b\nkling-v2.6,7,1080p,c\n"
    )
    done = run("fit", path, "--money", "0.3", "--at", "2026-11-21", "--out", out)
    assert (done.returncode, len(done.stdout.splitlines())) == (1, 2)
    rows = results_in(out)
    assert [row["fit_outcome"] for row in rows] == ["left_out", "fits", "refused"]
    assert [row["prompt"] for row in rows] == ["a", "b", "c"]
    exact = [str(row["fit_amount"] or "") for row in rows]
    assert [Decimal(text) if text else None for text in exact] == [Decimal("0.952"), Decimal("0.2142"), None]
    assert [row["fit_currency"] or "" for row in rows] == ["USD", "USD", ""]
    assert "duration must be 5 or 10 seconds" in rows[2]["fit_error"]
    run("fit", path, "--money", "0.3", "--at", "2026-11-21", "--out", out, "--refusals", refused)
    assert [row["fit_outcome"] for row in results_in(out)] == ["left_out", "fits"]
    assert [row["fit_outcome"] for row in results_in(refused)] == ["refused"]
    if suffix != ".jsonl":
        again = run("fit", out, "--money", "0.3", "--at", "2026-11-21")
        assert again.stdout.startswith("1 of 2 shots fit into 0.3 USD: 0.2142 USD")


def test_a_new_length_is_written(tmp_path: Path) -> None:
    """A shortened shot has its new length beside the length in the list, also if the list is JSON."""
    path, out = tmp_path / "a.jsonl", tmp_path / "o.csv"
    payload = video(duration=10, resolution="1080p", audio=True)
    path.write_text(f"{json.dumps(payload)}\n{json.dumps(payload)}\n")
    done = run("fit", path, "--money", "2", "--shorter", "--out", out, "--at", "2026-11-21", "--json")
    assert (done.returncode, done.stdout) == (0, "")
    rows = results_in(out)
    assert [json.loads(row["fit_request"]) for row in rows] == [payload, payload]
    for row in rows:
        changed = payload | {"duration": int(row["fit_duration_s"])}
        assert quote(changed, at=AT, book=bundled_book()).total == Decimal(row["fit_amount"])
    assert sum_of(Decimal(row["fit_amount"]) for row in rows) <= 2


def test_shorter_lengths_are_valid_and_priced(tmp_path: Path) -> None:
    """Every suggested length is accepted by the API and costs what the command says."""
    payloads = [
        video(duration=10, resolution="1080p", audio=True),
        video("kling-v2.6", duration=10, resolution="1080p"),
        video("kling-v3-omni", duration=15),
        {
            "model": "kling-v3",
            "extra": {"shot_1_prompt": "a", "shot_1_duration": 3, "shot_2_prompt": "b", "shot_2_duration": 3},
        },
    ]
    path = tmp_path / "a.jsonl"
    path.write_text("".join(f"{json.dumps(payload)}\n" for payload in payloads))
    done = run("fit", path, "--money", "2.5", "--shorter", "--json", "--at", "2026-11-21")
    shots = [json.loads(line) for line in done.stdout.splitlines()]
    assert [shot["outcome"] for shot in shots] == ["fits"] * 4
    total = Decimal(0)
    for payload, shot in zip(payloads, shots, strict=True):
        changed = payload | ({} if shot["duration_s"] is None else {"duration": shot["duration_s"]})
        assert check(changed, at=AT, book=bundled_book()) == []
        assert quote(changed, at=AT, book=bundled_book()).total == Decimal(shot["amount"])
        total += Decimal(shot["amount"])
    assert (total <= Decimal("2.5"), done.returncode, shots[3]["duration_s"]) == (True, 0, None)
    assert f"4 of 4 shots fit into 2.5 USD: {total.normalize():f} USD" in done.stderr
    lacking = run("fit", path, "--money", "0.5", "--shorter", "--at", "2026-11-21")
    assert "even with the shortest lengths that the API accepts" in lacking.stdout
    assert lacking.returncode == 1


def test_money_and_prices_have_one_currency(tmp_path: Path) -> None:
    """Amounts in different currencies are never added or compared."""
    path = tmp_path / "a.csv"
    path.write_text("model,prompt,provider\nkling-v3,a,qingbo\nkling-v3,a,tencent-vod\n")
    mixed = run("fit", path, "--money", "10", "--at", "2026-11-21")
    assert "the shots are priced in several currencies (CNY, USD); choose one provider" in mixed.stderr
    path.write_text("model,prompt,provider\nkling-v3,a,tencent-vod\n")
    other = run("fit", path, "--money", "10", "--currency", "USD", "--at", "2026-11-21")
    assert "the shots are priced in CNY, not in USD" in other.stderr
    assert (mixed.returncode, other.returncode) == (2, 2)
    both = run("fit", path, "--money", "10", "--most", "--shorter")
    assert ("give either --most or --shorter" in both.stderr, both.returncode) == (True, 2)
