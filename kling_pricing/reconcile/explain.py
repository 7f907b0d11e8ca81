"""Explains the lines: each different variance is explained once, for all lines that have it."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from kling_pricing.money import MAX_DECIMALS, NANOS, format_decimal, from_nanos, multiply
from kling_pricing.reconcile.explainer import Explainer
from kling_pricing.reconcile.explanations import Explanation, Variance
from kling_pricing.reconcile.model import Tolerance
from kling_pricing.reconcile.patterns import limit_roundings, name_ratios
from kling_pricing.reconcile.repricing import Counted
from kling_pricing.reconcile.row_facts import RowFacts
from kling_pricing.reconcile.units import WORTH_DIGITS
from kling_pricing.reconcile.workspace import Workspace
from kling_pricing.tables.price_book import PriceBook
from kling_pricing.tables.price_table import PriceTable
from kling_pricing.tables.rates import ANY, Cell

_VARIANCE = (
    "model, resolution, tier, quantity, unit, price_table, expected, failed, written_off, native, refunded,"
    " counted_in, worth, decimals, duration_s, row_facts"
)
"""The columns that decide the explanation."""

_REFUNDS = """
    refund AS (
      SELECT part.task_id, part.unit, -sum(part.native) AS native
      FROM part JOIN charge ON charge.rowid = part.place
      WHERE part.native < 0 AND charge.step IS NULL GROUP BY part.task_id, part.unit
    ), valued_refund AS (
      SELECT refund.task_id, worth.currency, money(refund.native, atto) AS amount
      FROM refund JOIN reserved USING (task_id) JOIN terms ON terms.id = reserved.terms
      JOIN worth ON worth.unit = refund.unit AND (worth.written IS NULL OR (
        worth.unit = statement_unit AND worth.written = unit_value AND worth.currency = terms.currency
      ))
      WHERE NOT spare
      QUALIFY row_number() OVER (PARTITION BY refund.task_id, refund.unit ORDER BY worth.written NULLS LAST) = 1
    ), refund_in_money AS (
      SELECT task_id, currency, sum(amount) AS amount FROM valued_refund GROUP BY task_id, currency
    )
"""
"""The refunds of each task: in the unit of the statement, and in money where several units pay for the task.

Rows that correct a charge in advance are not refunds.
"""

_UNIT_S = """
    TRY_CAST(coalesce(nullif(regexp_extract(terms.unit, '^([0-9]+) seconds?$', 1), ''), '1') AS INTEGER)
"""
_OTHER_LENGTH = f"""
    CASE WHEN regexp_full_match(terms.unit, '([0-9]+ )?seconds?')
      AND abs(charge.duration_s - TRY_CAST(quantity AS DECIMAL(18, 6)) * {_UNIT_S}) >= {_UNIT_S}
      THEN charge.duration_s END
"""
"""The SQL of a stated length that does not round to the quoted one; NULL: it does, or none is stated."""

_FAILED_NOT_CHARGED = "the statement says that the task failed, and the task was not charged"


def explain(workspace: Workspace, book: PriceBook, provider: str, facts: Mapping[int, RowFacts]) -> None:
    """Makes the table `explanation`; a variance that is explained to the last digit becomes `explained`.

    Args:
        workspace: the database with the lines.
        book: the price tables.
        provider: the provider that bills.
        facts: the facts of rows by their id in `row_facts`.
    """
    workspace.run(
        "CREATE TABLE explanation (id BIGINT, cause VARCHAR, shared VARCHAR, kind VARCHAR,"
        " alternatives VARCHAR, is_confirmed BOOLEAN)"
    )
    if workspace.one("SELECT count(*) FROM line WHERE gap IS NOT NULL"):
        _explain_variances(workspace, Explainer(book, provider), facts)
    else:
        workspace.run("CREATE TABLE different_variance (id BIGINT)")
    _explain_failed(workspace)


def _explain_variances(workspace: Workspace, explainer: Explainer, facts: Mapping[int, RowFacts]) -> None:
    """Explains the lines with a gap, then the patterns that many of them have in common.

    These lines are a table of their own, so that the database sees that they are few and joins them first.
    """
    workspace.run("CREATE TABLE gapped AS SELECT rowid AS id, * FROM line WHERE gap IS NOT NULL")
    workspace.run(
        f"""
        CREATE TABLE variance AS
        WITH {_REFUNDS}
        SELECT line.id AS line, terms.model, terms.resolution, terms.tier, quantity, terms.unit, price_table,
          terms.expected, due = 0 AND terms.expected <> 0 AND NOT written_off AS failed, written_off,
          coalesce(line.whole_native, line.whole) AS native,
          CASE WHEN merged IS NULL THEN 0 WHEN line.whole_native IS NULL THEN ifnull(refund_in_money.amount, 0)
            ELSE ifnull(refund.native, 0) END AS refunded,
          CASE WHEN line.whole_native IS NULL THEN line.currency ELSE line.unit END AS counted_in,
          CASE WHEN line.whole_native IS NULL THEN {10**WORTH_DIGITS} ELSE atto END AS worth,
          CASE WHEN line.whole_native IS NULL THEN {MAX_DECIMALS} ELSE decimals END AS decimals,
          duration_s, row_facts.id AS row_facts
        FROM gapped AS line JOIN reserved ON reserved.rowid = line.reservation
        JOIN terms ON terms.id = reserved.terms
        JOIN charge ON charge.rowid = line.place
        JOIN row_facts ON row_facts.file = charge.file AND row_facts.stated = charge.stated
        LEFT JOIN worth ON worth.id = line.worth
        LEFT JOIN refund ON refund.task_id = reserved.task_id AND refund.unit = line.unit
        LEFT JOIN refund_in_money ON refund_in_money.task_id = reserved.task_id
          AND refund_in_money.currency = line.currency
        """
    )
    workspace.run("DROP TABLE gapped")
    workspace.run(
        "CREATE TABLE different_variance AS SELECT row_number() OVER () AS id, *"
        f" FROM (SELECT DISTINCT {_VARIANCE} FROM variance)"
    )
    rows = []
    for number, *variance in workspace.rows(f"SELECT id, {_VARIANCE} FROM different_variance ORDER BY id"):
        explanation = _explained(explainer, facts, *variance)
        if explanation is not None:
            rows.append((number, *explanation))
    workspace.insert("explanation", rows)
    same = " AND ".join(
        f"variance.{column} IS NOT DISTINCT FROM different_variance.{column}"
        for column in _VARIANCE.split(", ")
    )
    workspace.run(
        f"CREATE TABLE variance_of AS SELECT variance.line, id FROM variance JOIN different_variance ON {same}"
    )
    workspace.run(
        """
        UPDATE line SET explanation = explanation.id,
          category = CASE WHEN category = 'unexplained' AND explanation.kind IS NOT NULL THEN 'explained'
            ELSE category END
        FROM variance_of JOIN explanation USING (id) WHERE line.rowid = variance_of.line
        """
    )
    name_ratios(workspace)
    limit_roundings(workspace)


def _explain_failed(workspace: Workspace) -> None:
    """Explains the lines of tasks that failed according to the statement, and were not charged."""
    if not workspace.one("SELECT count(*) FROM stated_end"):
        return
    free = (0, _FAILED_NOT_CHARGED, "a failed task was not charged", "not_charged", "", True)
    workspace.insert("explanation", [free])
    workspace.run(
        """
        UPDATE line SET explanation = 0, category = 'explained'
        FROM reserved JOIN terms ON terms.id = reserved.terms JOIN stated_end USING (task_id)
        WHERE category = 'matched' AND line.reservation = reserved.rowid AND terms.failed_tasks = 'refunded'
          AND reserved.state <> 'released' AND NOT written_off
        """
    )


def _explained(
    explainer: Explainer,
    facts: Mapping[int, RowFacts],
    model: str | None,
    resolution: str | None,
    tier: str | None,
    quantity: str,
    unit: str,
    price_table: str | None,
    expected: int,
    failed: bool,  # noqa: FBT001 (a row of the query above)
    written_off: bool,  # noqa: FBT001
    native: int,
    refunded: int,
    counted_in: str,
    worth: int,
    decimals: int,
    duration_s: Decimal | None,
    row_facts: int,
) -> Explanation | None:
    return explainer.explain(
        Variance(
            cell=Cell(model or "", resolution or "", tier or ""),
            quantity=Decimal(quantity),
            unit=unit,
            table=price_table or "",
            expected=from_nanos(expected),
            failed=failed,
            written_off=written_off,
            counted=Counted(counted_in, Decimal(worth).scaleb(-WORTH_DIGITS), decimals),
            charged=Decimal(native).scaleb(-MAX_DECIMALS),
            refunded=Decimal(refunded).scaleb(-MAX_DECIMALS),
            duration_s=duration_s,
            stated=facts[row_facts].read_for(model),
        )
    )


def tolerate(workspace: Workspace, tolerance: Tolerance) -> None:
    """Puts unexplained lines within the tolerance into `within_tolerance`: all of them, or none.

    If they add up to more than the tolerance of the batch, many lines have a small error: none is tolerated.
    """
    line, batch = (int(multiply(amount, NANOS)) for amount in tolerance)
    if not line:
        return
    workspace.run(
        """
        UPDATE line SET category = 'within_tolerance'
        WHERE category = 'unexplained' AND abs(billed - expected) <= $line AND currency IN (
          SELECT currency FROM line WHERE category = 'unexplained' AND abs(billed - expected) <= $line
          GROUP BY currency HAVING sum(abs(billed - expected)) <= $batch
        )
        """,
        {"line": line, "batch": batch},
    )


def note_contradictions(
    workspace: Workspace, book: PriceBook, provider: str, facts: Mapping[int, RowFacts]
) -> None:
    """Notes on matched lines that the statement states another clip than it charges.

    Such a clip has another model, resolution, tier or length. A length that rounds to the quoted one is the
    same.

    Args:
        workspace: the database with the lines.
        book: the price tables.
        provider: the provider that bills.
        facts: the facts of rows by their id in `row_facts`.
    """
    if not workspace.one(
        "SELECT (SELECT count(*) FROM row_facts WHERE resolution IS NOT NULL OR tier IS NOT NULL)"
        " + (SELECT count(duration_s) FROM charge)"
    ):
        return
    workspace.run(
        f"""
        CREATE TABLE charged_as AS
        SELECT (SELECT count(*) FROM different_variance) + row_number() OVER () AS id, *
        FROM (
          SELECT DISTINCT row_facts.id AS row_facts, terms.model, terms.resolution, terms.tier, price_table,
            {_OTHER_LENGTH} AS length_s
          FROM line
          JOIN charge ON charge.rowid = line.place
          JOIN row_facts ON row_facts.file = charge.file AND row_facts.stated = charge.stated
          JOIN reserved ON reserved.rowid = line.reservation JOIN terms ON terms.id = reserved.terms
          WHERE category = 'matched' AND terms.model IS NOT NULL
        )
        """
    )
    tables = {table.id: table for table in book.tables_of(provider)}
    rows: list[tuple[Any, ...]] = []
    for number, row_facts, model, resolution, tier, price_table, length_s in workspace.rows(
        "FROM charged_as ORDER BY id"
    ):
        stated = facts[row_facts].read_for(model)
        differences = _differences(stated, Cell(model, resolution, tier), tables.get(price_table))
        if length_s is not None:
            differences.append(f"{format_decimal(length_s)} s")
        if differences:
            cause = f"the statement says {', '.join(differences)}, but the charge is the quoted amount"
            rows.append((number, cause, "", "matched", "", False))
    workspace.insert("explanation", rows)
    workspace.run(
        f"""
        UPDATE line SET explanation = explanation.id
        FROM charge, row_facts, reserved, terms, charged_as JOIN explanation ON explanation.id = charged_as.id
        WHERE category = 'matched' AND charge.rowid = line.place AND reserved.rowid = line.reservation
          AND row_facts.file = charge.file AND row_facts.stated = charge.stated AND terms.id = reserved.terms
          AND charged_as.row_facts = row_facts.id AND charged_as.model = terms.model
          AND charged_as.resolution = terms.resolution AND charged_as.tier = terms.tier
          AND charged_as.price_table = terms.price_table
          AND charged_as.length_s IS NOT DISTINCT FROM {_OTHER_LENGTH}
        """
    )


def _differences(stated: RowFacts, charged: Cell, table: PriceTable | None) -> list[str]:
    """Returns the facts of a row that differ from its charge, in words."""
    resolution = None if ANY in {stated.resolution, charged.resolution} else stated.resolution
    pairs = ((stated.model, charged.model), (resolution, charged.resolution))
    differences = [fact for fact, other in pairs if fact and fact != other]
    if table is not None and not stated.allows_tier(charged, table):
        differences.append(stated.tier(table, charged.model) or _facts_text(stated))
    return [fact.replace("_", " ") for fact in differences]


def _facts_text(stated: RowFacts) -> str:
    """Returns the facts of a row that decide the tier, in words."""
    facts = {name: value for name, value in stated.facts.items() if name not in {"model", "resolution"}}
    return ", ".join(f"{name} {str(value).lower()}" for name, value in facts.items())
