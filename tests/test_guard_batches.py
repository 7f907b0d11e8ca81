"""Many settlements in one transaction have the effects of the same settlements one by one."""

import random
from decimal import Decimal
from typing import Any

import pytest

from kling_pricing import Alert, Budget, BudgetGuard, Budgets, KlingPricingError, PriceBook, Reservation
from kling_pricing.guard import allow
from kling_pricing.ledger.model import BASES, Basis
from tests.conftest import Clock
from tests.guards import CLIP, COST
from tests.test_allowances import LATER

UNKNOWN = "0" * 32
SIDES = ("alone", "batch")
"""The label `side` of a job: it has a side's own budgets, so that the two sides do not affect each other."""


def budgets() -> Budgets:
    """Returns budgets for each side: with alerts, in another currency, in a rolling window, and a tight one."""
    sides = {"side": "*"}
    given: dict[str, Any] = {"match": sides, "currency": "USD", "cap": Decimal(40)}
    return Budgets(
        [
            Budget(**given | {"name": "alerted", "alerts": tuple(map(Decimal, ("0.2", "0.5", "0.6", "0.7")))}),
            Budget(
                **given | {"name": "yuan", "currency": "CNY", "cap": Decimal(400), "alerts": (Decimal("0.6"),)}
            ),
            Budget(**given | {"name": "rolling", "window": {"rolling": "24h"}, "alerts": (Decimal("0.4"),)}),
            Budget(name="tight", match={"side": "*", "project": "short"}, cap=COST, currency="USD"),
        ],
        accounting_rates=[{"quote": "USD", "budget": "CNY", "rate": Decimal("7.123456789")}],
    )


def job(guard: BudgetGuard, side: str, key: str, fate: str) -> str:
    """Takes one job to a stage of its life; returns the id of its reservation."""
    admission = guard.admit(
        CLIP, project="short" if "short" in fate else "trailer", key=f"{side} {key}", labels={"side": side}
    )
    if "unsent" in fate:
        return admission.reservation_id
    guard.dispatch(admission)
    if "doubted" in fate:
        guard.mark_in_doubt(admission, "no response")
    if "bound" in fate:
        guard.bind(admission, f"task {side} {key}")
    for basis in BASES:
        if basis in fate:
            guard.settle(admission, COST + (Decimal("0.3") if "dear" in fate else 0), basis=basis)
    if "released" in fate:
        guard.release_refused(admission)
    return admission.reservation_id


FATES = (
    *("bound", "bound", "bound", "sent", "sent doubted", "unsent", "released", "bound short"),
    *("bound quote", "bound response", "bound response dear", "bound statement", "bound statement dear"),
    "bound operator",
)
AMOUNTS = (
    COST,
    COST,
    COST,
    COST,
    Decimal("0.2"),
    Decimal(0),
    COST + Decimal("0.000000001"),
    Decimal(2),
)


def neutral(text: str | None, names: dict[str, str]) -> str | None:
    """Returns a text without the side and the ids of reservations, which differ."""
    if text is None:
        return None
    for name, key in names.items():
        text = text.replace(name, key)
    for side in SIDES:
        text = text.replace(f"{side} ", "")
    return text


@pytest.mark.parametrize("seed", range(3))
def test_a_batch_has_the_effects_of_its_settlements_one_by_one(
    ledger: str, book: PriceBook, clock: Clock, seed: int
) -> None:
    """The entries, alerts, refusals, amounts and balances are the same, for jobs at any stage of their life."""
    dice = random.Random(seed)  # noqa: S311 (repeatable)
    alerts: list[Alert] = []
    guard = BudgetGuard(ledger, budgets(), book=book, clock=clock, on_alert=alerts.append)
    allow(ledger, "short", amount=100, currency="USD", budgets=["tight"], until=LATER, reason="launch")
    fates = [(f"{place} {fate}", fate) for place, fate in enumerate(dice.choices(FATES, k=40))]
    ids = {side: [job(guard, side, key, fate) for key, fate in fates] for side in SIDES}
    amounts = [*dice.choices(AMOUNTS, k=len(fates)), COST]
    bases: list[Basis] = ["statement", "statement", "response", "operator"]
    basis = dice.choice(bases)
    clock.pass_by(hours=2)
    newest = guard.journal()[-1].seq
    alerts.clear()
    refusals: dict[str, list[Any]] = {side: [] for side in SIDES}
    for reservation, amount in zip([*ids["alone"], UNKNOWN], amounts, strict=True):
        try:
            guard.settle(reservation, amount, basis=basis)
        except KlingPricingError as error:
            refusals["alone"].append((reservation, error))
    refused = guard.settle_all(dict(zip([*ids["batch"], UNKNOWN], amounts, strict=True)), basis=basis)
    refusals["batch"] += refused.items()
    names = {name: key for side in SIDES for name, (key, _) in zip(ids[side], fates, strict=True)}

    def seen(side: str) -> list[Any]:
        mine = {*ids[side]}
        jobs: list[Reservation] = [guard.reservation(name) for name in ids[side]]
        return [
            [
                entry._replace(
                    seq=0,
                    reservation_id=names[entry.reservation_id],
                    labels={},
                    detail=neutral(entry.detail, names),
                )
                for entry in guard.journal()
                if entry.seq > newest and entry.reservation_id in mine
            ],
            [
                alert._replace(reservation_id=names[alert.reservation_id], labels={})
                for alert in alerts
                if alert.reservation_id in mine
            ],
            [(names.get(name), type(error), neutral(str(error), names)) for name, error in refusals[side]],
            [(job.state, job.billed, job.basis, job.closed_at, job.in_doubt, job.reason) for job in jobs],
            [
                (bucket.budget, bucket.held, bucket.spent, bucket.window_start)
                for bucket in guard.status()
                if bucket.labels["side"] == side
            ],
        ]

    assert seen("batch") == seen("alone")
    assert len(seen("batch")[0]) > 40
    assert refused
    guard.verify()
    if basis != "operator":  # which always writes its amount again
        entries = guard.journal()
        again = guard.settle_all(dict(zip([*ids["batch"], UNKNOWN], amounts, strict=True)), basis=basis)
        assert again.keys() == refused.keys()
        assert guard.journal() == entries
