"""The sandbox's bill and a hook's ledger agree to the last digit, and defects of our own code are detected."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kling_pricing import PriceBook, load_price_book
from kling_pricing.wire import charges
from kling_pricing.wire.charges import Charge
from kling_pricing.wire.formats import kling, tasks
from kling_pricing.wire.task import read_quota_task
from tests.conftest import bundled, examples
from tests.rehearsals import JOBS, RUN_S, rehearsing, with_words

FAULTS = (
    *("", "", "[fail:moderation]", "[cancel]", "[500]", "[500:accepted]", "[lost-answer]", "[429]", "[402]"),
    *("[slow:30]", "[charge:x2]", "[charge:3]", "[duplicate-id]", "[no-charge]", "[lost-request]"),
    *("[408]", "[409:accepted]", "[fail:refunded]", "[seconds:10]"),
)
DRAWN = ("fail:moderation", "500", "lost-answer", "lost-request", "429", "slow:30")
"""The faults that a scenario gives to a share of the jobs.

Nothing can be said about a provider that answers `402` to a job that it has accepted, so `500:accepted`, whose
acceptance would stay if the prompt asks for another status, is not among them.
"""
OFFICIAL_FAULTS = ("[200:1102]", "[pays:cash]", "[pays:test_balance]", "[fail:charged]", "[429:1303]")
UNSTATED = {"octopusx", "tencent-vod", "uniall"}
"""The providers whose responses state no charge, so that only the video's settings can raise the bill."""


Script = list[tuple[tuple[str, dict[str, Any]], str, int]]


def scripts(provider: str) -> st.SearchStrategy[Script]:
    """Returns random sequences of jobs, each with a fault word and the number of times that it is sent."""
    words = FAULTS + (OFFICIAL_FAULTS if provider == "kling" else ())
    if provider in UNSTATED:
        words = tuple(word for word in words if not word.startswith("[charge") and word != "[no-charge]")
        words += ("[bill:1080p-noref-audio]",) if provider == "octopusx" else ()
    step = st.tuples(st.sampled_from(JOBS[provider]), st.sampled_from(words), st.sampled_from((1, 1, 2)))
    return st.lists(step, min_size=1, max_size=8)


@pytest.mark.parametrize("provider", JOBS)
def test_ledger_and_bill_agree_or_the_job_is_visibly_open(provider: str, book: PriceBook) -> None:
    """With any faults, the settled amounts equal the bill, unless a reservation is visibly open."""

    @settings(max_examples=examples(8), suppress_health_check=[HealthCheck.too_slow])
    @given(script=scripts(provider), seed=st.integers(0, 99), drawn=st.sets(st.sampled_from(DRAWN), max_size=2))
    def agree(script: Script, seed: int, drawn: set[str]) -> None:
        scenario = {"seed": seed, "faults": [{"fault": word, "rate": "0.3"} for word in sorted(drawn)]}
        with TemporaryDirectory() as folder, rehearsing(provider, Path(folder), book, scenario) as run:
            for number, ((path, payload), words, times) in enumerate(script):
                for _ in range(times):
                    key = {"Idempotency-Key": f"shot-{number}"}
                    run.submit(path, with_words(payload, words), **key)
            run.settle()
            if not run.open:
                unbilled = {entry.state for entry in run.guard.history() if entry.billed is None}
                assert (run.spent, unbilled - {"released"}) == (run.billed, set())

    agree()


@pytest.mark.parametrize("provider", JOBS)
def test_without_faults_ledger_and_bill_are_equal(provider: str, book: PriceBook, tmp_path: Path) -> None:
    """Every job of every API is billed exactly as the ledger expects, and no reservation stays open."""
    with rehearsing(provider, tmp_path, book) as run:
        for path, payload in JOBS[provider]:
            response = run.submit(path, payload)
            assert response is not None
            assert response.status_code == 200, response.text
        run.settle()
        assert (run.spent, run.open) == (run.billed, [])
        assert run.spent > 0


def test_jobs_through_an_mcp_endpoint_are_billed_alike(book: PriceBook, tmp_path: Path) -> None:
    """A job submitted by a tool is priced and bound, and the tool that queries it settles it."""
    with rehearsing("qingbo-ai", tmp_path, book) as run:

        def called(tool: str, **arguments: Any) -> Any:
            params = {"name": tool, "arguments": arguments}
            message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
            response = run.submit("/v1/mcp", message)
            assert response is not None
            return response.json()["result"]

        created = called("create_task", model="kling-v3", input={"prompt": "a", "duration": 5})
        task = created["structuredContent"]["task_id"]
        assert (created["isError"], created["structuredContent"]["should_poll"]) == (False, True)
        run.sandbox.advance(seconds=RUN_S)
        assert called("get_task", task_id=task)["structuredContent"]["cost"] == 189000
        assert (run.spent, run.open) == (run.billed, []) == (Decimal("0.378"), [])


ReadCharge = Callable[..., Charge | None]


def as_image_units(task: Mapping[str, Any], *, succeeded: bool) -> Charge | None:
    """Reads a charge with the wrong unit: every unit counts as a unit of an image pack."""
    charge = charges.read_charge(task, succeeded=succeeded)
    if charge is None:
        return None
    return charge._replace(parts=tuple(part._replace(unit=charges.IMAGE) for part in charge.parts))


def without_balance(task: Mapping[str, Any], *, succeeded: bool) -> Charge | None:
    """Reads a charge without the field that states the amount of money."""
    known = {name: value for name, value in task.items() if name != "final_balance_deduction"}
    return charges.read_charge(known, succeeded=succeeded)


def doubled(task: Mapping[str, Any], *, succeeded: bool) -> Charge | None:
    """Reads every part of a charge twice."""
    charge = charges.read_charge(task, succeeded=succeeded)
    return None if charge is None else charge._replace(parts=charge.parts * 2)


SPLIT = {"providers": {"kling": {"pays": ["pack", "cash"], "packs": {"video": "2.5"}}}}


@pytest.mark.parametrize(
    ("reader", "scenario", "error"),
    [
        (charges.read_charge, {}, "0"),
        (charges.read_charge, SPLIT, "0"),
        (as_image_units, {}, "-0.819"),  # 6 units of 0.0035 USD, where the bill has 6 of 0.14 USD
        (without_balance, SPLIT, "-0.49"),  # 2.5 units are read, and 0.49 USD are not
        (doubled, {}, "0.84"),
        (doubled, SPLIT, "0.84"),
    ],
)
def test_a_fault_in_our_reader_makes_ledger_and_bill_differ_by_its_amount(
    reader: ReadCharge,
    scenario: dict[str, Any],
    error: str,
    book: PriceBook,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A wrong unit, an unread field and a doubled charge each cause exactly the expected difference."""
    monkeypatch.setattr(kling, "read_charge", reader)
    with rehearsing("kling", tmp_path, book, scenario) as run:
        run.submit(*JOBS["kling"][0])
        run.settle()
        assert run.billed == Decimal("0.84")
        assert run.spent - run.billed == Decimal(error)


def test_a_wrong_table_of_ours_shows_as_a_difference(
    book: PriceBook, tmp_path: Path, folder: Callable[..., Path]
) -> None:
    """If our table prices a unit at 0.15 USD, the ledger exceeds the bill by 6 x 0.01 USD."""
    wrong = load_price_book(
        folder(
            {
                "prices/kling/2026-09-20.yaml": bundled("prices", "kling", "2026-09-20.yaml")
                .read_text(encoding="utf-8")
                .replace("value: 0.14", "value: 0.15")
                .replace("video: 0.14", "video: 0.15")
            }
        )
    )
    with rehearsing("kling", tmp_path, book, guard_book=wrong) as run:
        run.submit(*JOBS["kling"][0])
        run.settle()
        assert (run.spent, run.billed) == (Decimal("0.9"), Decimal("0.84"))


def test_an_unread_cost_leaves_the_quote_which_hides_nothing_from_the_bill(
    book: PriceBook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If our code does not read the cost, a job with a doubled charge settles at its quote, below the bill."""
    monkeypatch.setattr(tasks, "read_task", lambda body: read_quota_task({**body, "cost": None}, "tasks"))
    with rehearsing("qingbo", tmp_path, book) as run:
        path, payload = JOBS["qingbo"][0]
        run.submit(path, with_words(payload, "[charge:x2]"))
        run.settle()
        assert run.spent - run.billed == Decimal("-0.714")
