"""Explanations for the lines: each different variance is explained once, for all lines that are alike."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from kling_pricing.money import MAX_DECIMALS, NANOS, from_nanos, multiply
from kling_pricing.reconcile.explanations import Explainer, Explanation, Variance
from kling_pricing.reconcile.model import Tolerance
from kling_pricing.reconcile.repricing import Counted
from kling_pricing.reconcile.row_facts import RowReading, Saying
from kling_pricing.reconcile.units import WORTH_DIGITS
from kling_pricing.reconcile.workspace import Workspace
from kling_pricing.tables.price_table import PriceBook
from kling_pricing.tables.rates import Cell

_ALIKE = (
    "model, resolution, tier, quantity, unit, price_table, expected, refunded, written_off, native,"
    " counted_in, worth, decimals, duration_s, file, said"
)


def explain(workspace: Workspace, book: PriceBook, provider: str, reading: RowReading) -> None:
    """Explains variances; a line whose variance is explained to the last digit becomes `explained`."""
    workspace.run("CREATE TABLE finding (id BIGINT, cause VARCHAR, others VARCHAR, kind VARCHAR)")
    workspace.run(
        f"""
        CREATE TABLE variance AS
        SELECT line.rowid AS line, model, resolution, tier, quantity, terms.unit, price_table, terms.expected,
          due = 0 AND terms.expected <> 0 AS refunded, written_off,
          coalesce(line.whole_native, line.whole) AS native,
          CASE WHEN line.whole_native IS NULL THEN line.currency ELSE line.unit END AS counted_in,
          CASE WHEN line.whole_native IS NULL THEN {10**WORTH_DIGITS} ELSE atto END AS worth,
          CASE WHEN line.whole_native IS NULL THEN {MAX_DECIMALS} ELSE decimals END AS decimals,
          duration_s, file, said, ifnull(reserved.billed = line.whole, FALSE) AS booked
        FROM line JOIN reserved ON reserved.rowid = line.reservation JOIN terms ON terms.id = reserved.terms
        JOIN charge ON charge.rowid = line.place
        LEFT JOIN worth ON worth.id = line.worth
        WHERE gap IS NOT NULL
        """
    )
    workspace.run(
        "CREATE TABLE shape AS SELECT row_number() OVER () AS id, *"
        f" FROM (SELECT DISTINCT {_ALIKE} FROM variance)"
    )
    explainer = Explainer(book, provider)
    found = []
    for number, *shape in workspace.rows(f"SELECT id, {_ALIKE} FROM shape ORDER BY id"):
        explanation = _explained(explainer, reading, *shape)
        if explanation is not None:
            found.append((number, explanation.cause, explanation.others, explanation.kind))
    workspace.insert("finding", found)
    same = " AND ".join(
        f"variance.{column} IS NOT DISTINCT FROM shape.{column}" for column in _ALIKE.split(", ")
    )
    workspace.run(
        f"""
        UPDATE line SET cause = found.id, open = found.open,
          category = CASE WHEN category = 'unexplained' THEN 'explained' ELSE category END
        FROM (
          SELECT variance.line, finding.id,
            CASE kind WHEN 'rounding' THEN FALSE WHEN 'not_charged' THEN NOT booked ELSE TRUE END AS open
          FROM variance JOIN shape ON {same} JOIN finding ON finding.id = shape.id
        ) AS found WHERE line.rowid = found.line
        """
    )
    workspace.run("UPDATE line SET open = TRUE WHERE category = 'timing' AND gap IS NOT NULL AND cause IS NULL")


def _explained(
    explainer: Explainer,
    reading: RowReading,
    model: str | None,
    resolution: str | None,
    tier: str | None,
    quantity: str,
    unit: str,
    price_table: str | None,
    expected: int,
    refunded: bool,  # noqa: FBT001 (a row of the query above)
    written_off: bool,  # noqa: FBT001
    native: int,
    counted_in: str,
    worth: int,
    decimals: int,
    duration_s: Decimal | None,
    file: int,
    said: str,
) -> Explanation | None:
    return explainer.explain(
        Variance(
            cell=Cell(model or "", resolution or "", tier or ""),
            quantity=Decimal(quantity),
            unit=unit,
            table=price_table or "",
            expected=from_nanos(expected),
            refunded=refunded,
            written_off=written_off,
            counted=Counted(counted_in, Decimal(worth).scaleb(-WORTH_DIGITS), decimals),
            charged=Decimal(native).scaleb(-MAX_DECIMALS),
            duration_s=duration_s,
            saying=reading.saying(file, said),
        )
    )


def tolerate(workspace: Workspace, tolerance: Tolerance) -> None:
    """What is not explained and no more than the tolerance becomes `within_tolerance`: all of it, or none.

    If together it is more than the tolerance of the batch, a small error stands behind many lines, and none of
    them is tolerated.
    """
    most, together = (int(multiply(amount, NANOS)) for amount in tolerance)
    workspace.run(
        """
        UPDATE line SET category = 'within_tolerance', open = FALSE
        WHERE category = 'unexplained' AND abs(billed - expected) <= $most AND currency IN (
          SELECT currency FROM line WHERE category = 'unexplained' AND abs(billed - expected) <= $most
          GROUP BY currency HAVING sum(abs(billed - expected)) <= $together
        )
        """,
        {"most": most, "together": together},
    )


def contradict(workspace: Workspace, reading: RowReading, book: PriceBook, provider: str) -> None:
    """Says where the statement charges what was expected, and says that it was something else."""
    if not workspace.one("SELECT count(*) FROM saying WHERE resolution IS NOT NULL OR tier IS NOT NULL"):
        return
    workspace.run(
        """
        CREATE TABLE charged_as AS
        SELECT DISTINCT file, said, model, resolution, tier, price_table FROM line
        JOIN charge ON charge.rowid = line.place JOIN reserved ON reserved.rowid = line.reservation
        JOIN terms ON terms.id = reserved.terms
        WHERE category = 'matched' AND model IS NOT NULL
        """
    )
    tables = {
        table.id: table
        for each in (book.tables.get(provider, ()), book.contracts.get(provider, ()))
        for table in each
    }
    number = workspace.one("SELECT ifnull(max(id), 0) FROM shape")
    found: list[tuple[Any, ...]] = []
    for file, said, model, resolution, tier, price_table in workspace.rows("FROM charged_as ORDER BY ALL"):
        saying = reading.saying(file, said)
        told_tier = saying.tier(tables[price_table], model) if price_table in tables else None
        other = _others(saying, Cell(model, resolution, tier), told_tier)
        if other:
            number += 1
            cause = f"the statement says {other}, and charges what was quoted"
            found.append((number, cause, "", "matched", file, said, model, resolution, tier, price_table))
    workspace.insert("finding", [each[:4] for each in found])
    workspace.run("CREATE TABLE contradiction AS SELECT NULL::BIGINT AS id, * FROM charged_as LIMIT 0")
    workspace.insert("contradiction", [(each[0], *each[4:]) for each in found])
    workspace.run(
        """
        UPDATE line SET cause = contradiction.id FROM charge, reserved, terms, contradiction
        WHERE category = 'matched' AND charge.rowid = line.place AND reserved.rowid = line.reservation
          AND terms.id = reserved.terms
          AND contradiction.file = charge.file AND contradiction.said = charge.said
          AND contradiction.model = terms.model AND contradiction.resolution = terms.resolution
          AND contradiction.tier = terms.tier AND contradiction.price_table = terms.price_table
        """
    )


def _others(saying: Saying, cell: Cell, tier: str | None) -> str:
    said: Iterable[tuple[str | None, str]] = (
        (saying.model, cell.model),
        (saying.resolution, cell.resolution),
        (tier, cell.tier),
    )
    return ", ".join(told.replace("_", " ") for told, charged in said if told not in {None, charged} and told)
