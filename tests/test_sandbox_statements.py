"""Statements of the sandbox are reconciled with a hook's ledger: they tie out, or the errors are found."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from kling_pricing import PriceBook
from kling_pricing.reconcile import reconcile
from tests.rehearsals import JOBS, PRICED_BY, Rehearsed, rehearsing, with_currency, with_words
from tests.studio import SINCE, UNTIL

EXPORTS = {"kling": ("package", "balance")}
SUFFIX = {"kling": "json", "uniall": "json"}
MATCHED = {provider: len(jobs) for provider, jobs in JOBS.items()} | {"octopusx": 0}
"""The jobs whose price is known in advance; other prices depend on a length that the API decides."""
FORMS = ("api", "csv", "spreadsheet", "unicode-text")


def statements(run: Rehearsed, folder: Path, form: str = "api") -> list[Path]:
    """Saves the statements for November, except empty ones."""
    paths = []
    for export in EXPORTS.get(run.provider, ("",)):
        options = {"as": form} | ({"export": export} if export else {})
        content = run.sandbox.statement(run.provider, since=SINCE, until=UNTIL, **options)
        if b"860000" in content.replace(b"\0", b"") or export != "balance":
            suffix = SUFFIX.get(run.provider, "csv") if form == "api" else "csv"
            paths.append(folder / f"{run.provider}{export}.{suffix}")
            paths[-1].write_bytes(content)
    return paths


def reconciled(run: Rehearsed, folder: Path, paths: list[Path], book: PriceBook) -> list[tuple[str, Decimal]]:
    """Returns the category and the variance of each line of a reconciliation."""
    with reconcile(
        f"sqlite:///{folder}/spend.db",
        paths,
        provider=PRICED_BY.get(run.provider, run.provider),
        since=SINCE,
        until=UNTIL,
        book=with_currency(book),
    ) as reconciliation:
        return [(line.category, line.variance) for line in reconciliation.lines()]


@pytest.mark.parametrize(
    ("provider", "form"),
    [("kling", form) for form in FORMS]
    + [(provider, "api") for provider in ("qingbo", "qingbo-ai", "octopusx")],
)
def test_a_statement_ties_out(provider: str, form: str, book: PriceBook, tmp_path: Path) -> None:
    """Every job of every API is matched, however the statement is saved."""
    scenario: dict[str, Any] = {"providers": {"kling": {"pays": ["pack", "cash"], "packs": {"video": "9"}}}}
    with rehearsing(provider, tmp_path, book, scenario) as run:
        for path, payload in JOBS[provider]:
            run.submit(path, payload)
        run.settle()
        assert (run.spent, run.open) == (run.billed, [])
        lines = reconciled(run, tmp_path, statements(run, tmp_path, form), book)
    assert [variance for category, variance in lines if category == "matched"] == [Decimal(0)] * MATCHED[
        provider
    ]
    assert {category for category, _ in lines} <= {"matched", "explained"}


ERRORS = {
    "twice": ("billed_twice", "1"),
    "dearer": ("unexplained", "0.25"),
    "too-long": ("explained", "1"),
    "late": ("not_billed", "-1"),
    "refunded-later": ("explained", "-1"),
    "corrected-later": ("matched", "0"),
    "split": ("explained", "-0.5"),
    "missing": ("not_billed", "-1"),
}
"""Error on the statement -> the category of its line, and the share of the price that is its variance."""


@pytest.mark.parametrize("provider", ["kling", "qingbo"])
def test_each_planted_error_is_a_line_with_its_amount(provider: str, book: PriceBook, tmp_path: Path) -> None:
    """The reconciliation of November finds each error, with the planted share of the price as its variance.

    Half the price of this clip is also the price of a silent one in 720p, but Kling's export states that the
    clip is neither.
    """
    expected_errors = ERRORS | ({"split": ("unexplained", "-0.5")} if provider == "kling" else {})
    with rehearsing(provider, tmp_path, book) as run:
        path, payload = JOBS[provider][0]
        for error in expected_errors:
            run.submit(path, with_words(payload, f"[statement:{error}]"))
        run.submit(path, payload)
        run.settle()
        lines = reconciled(run, tmp_path, statements(run, tmp_path), book)
        price = run.billed / (len(expected_errors) + 1)
    expected = [(category, price * Decimal(share)) for category, share in expected_errors.values()]
    assert sorted(lines) == sorted([("matched", Decimal(0)), *expected])
