"""The lines and their totals, read from the database."""

from __future__ import annotations

import json
from collections import namedtuple
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cached_property, lru_cache
from typing import Any

from kling_pricing.ledger.provider_accounts import ProviderAccount
from kling_pricing.money import from_nanos
from kling_pricing.reconcile.categories import STANDING, Category
from kling_pricing.reconcile.memory import RememberedFile
from kling_pricing.reconcile.messages import cause_and_remedy, shared_cause
from kling_pricing.reconcile.model import Dimension, Line, Rows, Total
from kling_pricing.reconcile.problems import IGNORED
from kling_pricing.reconcile.remedies import LineDetails
from kling_pricing.reconcile.statements import Statement
from kling_pricing.reconcile.workspace import Workspace

_AT = "coalesce(charge.billed_at, charge.submitted_at)"
_RESERVED = "LEFT JOIN reserved ON reserved.rowid = line.reservation"
_CHARGED = "LEFT JOIN charge ON charge.rowid = line.place"
_JOINED = f"""
    {_CHARGED}
    LEFT JOIN row_facts ON row_facts.file = charge.file AND row_facts.stated = charge.stated
    {_RESERVED}
    LEFT JOIN terms ON terms.id = reserved.terms
"""
_COLUMNS = {
    "category": "category",
    "task_id": "coalesce(reserved.task_id, charge.task_id)",
    "reservation": "reserved.id",
    "project": "project",
    "labels": "labels",
    "key": "key",
    "model": "coalesce(terms.model, row_facts.model, row_facts.written_model)",
    "resolution": "coalesce(terms.resolution, row_facts.resolution)",
    "tier": "coalesce(terms.tier, row_facts.tier)",
    "quantity": "quantity",
    "unit": "terms.unit",
    "table": "price_table",
    "currency": "line.currency",
    "quoted": "CASE WHEN terms.currency = line.currency THEN terms.expected END",
    "list_total": "CASE WHEN terms.currency = line.currency THEN terms.list_total END",
    "due": "CASE WHEN terms.currency = line.currency THEN reserved.due END",
    "expected": "line.expected",
    "billed": "line.billed",
    "booked": "CASE WHEN terms.currency = line.currency THEN reserved.billed END",
    "basis": "basis",
    "submitted_at": "dispatched_at",
    "billed_at": _AT,
    "place": "line.place",
    "file": "charge.file",
    "row": 'charge."row"',
    "places": "merged.places",
    "elsewhere": "merged.elsewhere",
    "state": "reserved.state",
    "copies": "reserved.copies",
    "reservations": "shared.ids",
    "stated_state": "charge.state",
    "problem": "unread.problem",
    "may_charge": "unread.may_charge",
    "unread_task": "unread.task_id",
    "unread_places": "unread.places",
    "fits": "candidate.fits",
    "candidates": "candidate.names",
    "explanation": "explanation.cause",
    "shared": "explanation.shared",
    "kind": "explanation.kind",
    "ended": "reserved.ended",
    "stated_end": "stated_end.state",
    "alternatives": "explanation.alternatives",
    "whole": "line.whole",
    "other_account": "CASE WHEN category = 'not_in_ledger' THEN other_account END",
    "overlaps": "merged.task_id IN (SELECT task_id FROM superseded WHERE file IS NOT NULL)",
    "unknown": "row_facts.unknown",
    "is_exception": "line.is_exception",
    "disputes": "in_dispute.numbers",
    "disputed": "in_dispute.amount",
    "disputed_since": "in_dispute.since",
    "is_disputed": "line.is_disputed",
}
_SELECT = f"""
    SELECT {", ".join(_COLUMNS.values())}
    FROM {{lines}} {_JOINED}
    LEFT JOIN merged ON merged.rowid = line.merged
    LEFT JOIN unread ON unread.id = line.unread
    LEFT JOIN shared ON category = 'reserved_twice' AND shared.task_id = reserved.task_id
    LEFT JOIN explanation ON explanation.id = line.explanation
    LEFT JOIN stated_end ON stated_end.task_id = reserved.task_id
    LEFT JOIN (SELECT task_id, min(account) AS other_account FROM elsewhere GROUP BY task_id) AS other
      ON other.task_id = charge.task_id
    LEFT JOIN in_dispute ON in_dispute.task = charge.task_id AND in_dispute.currency = line.currency
    LEFT JOIN candidate ON category = 'in_doubt_candidate'
      AND (candidate.charge = line.rowid OR candidate.reservation = line.reservation)
"""
_Row: Any = namedtuple("_Row", tuple(_COLUMNS))  # type: ignore[misc]  # noqa: PYI024 (the columns above)
_ORDER = f"""
    ORDER BY category, line.currency, explanation.shared NULLS LAST, coalesce(dispatched_at, {_AT}) NULLS LAST,
      coalesce(reserved.task_id, charge.task_id) NULLS LAST, reserved.id NULLS LAST, line.place NULLS LAST
"""
_SORT_LINES = f"""
    CREATE TABLE IF NOT EXISTS sorted_line AS
    SELECT line.rowid AS line, category FROM line {_CHARGED} {_RESERVED}
    LEFT JOIN explanation ON explanation.id = line.explanation
    {_ORDER}
"""
_PART = """
    (SELECT line.*, line.rowid AS rowid FROM line JOIN sorted_line ON sorted_line.line = line.rowid
     WHERE sorted_line.rowid >= $start AND sorted_line.rowid < $end) AS line
"""
_PART_LINES = 10_000
"""The number of lines that are read at once if the memory is limited: each comes with everything about it."""
_DIMENSIONS: Mapping[Dimension, tuple[str, str]] = {
    "all": ("''", ""),
    "category": ("CAST(category AS VARCHAR)", ""),
    "standing": (STANDING, ""),
    "project": ("ifnull(project, '')", _RESERVED),
    "model": ("coalesce(terms.model, row_facts.model, row_facts.written_model, '')", _JOINED),
    "day": (
        f"ifnull(strftime(coalesce(dispatched_at, {_AT}), '%Y-%m-%d'), '')",
        f"{_CHARGED} {_RESERVED}",
    ),
}
"""Dimension -> the SQL of a line's name in it, and the joins that the name needs."""


class Lines:
    """Reads the lines of a reconciliation.

    Args:
        workspace: the database with the lines.
        statements: the statements in it.
        remembered: the remembered files in it, whose charges follow on from those of the statements.
        account: the account for which the provider issued the statements.
        since: start of the period.
        until: end of the period (exclusive).
        grace: how long after its submission a task may still be charged.
    """

    def __init__(
        self,
        workspace: Workspace,
        statements: Sequence[Statement],
        remembered: Sequence[RememberedFile],
        account: ProviderAccount,
        since: datetime,
        until: datetime,
        grace: timedelta,
    ) -> None:
        self._workspace = workspace
        self._files: Sequence[Statement | RememberedFile] = (*statements, *remembered)
        self._given = len(statements)
        self._account = account
        self._period = (since, until, grace)

    @cached_property
    def _blind_rows(self) -> int:
        """The number of rows that cannot be read and may charge any task."""
        return int(self._workspace.one("SELECT count(*) FROM unread WHERE is_blind"))

    @cached_property
    def _stray_rows(self) -> int:
        """The number of rows that cannot be read and may charge a request whose task is unknown."""
        return int(self._workspace.one("SELECT count(*) FROM unread WHERE task_id IS NULL"))

    def read(self, categories: Sequence[Category]) -> Iterator[Line]:
        """Yields the lines of these categories, or all lines; always in the same order."""
        where = f" WHERE category IN ({', '.join(map(repr, categories))})" if categories else ""
        if self._workspace.is_limited:
            rows = self._rows_in_parts(where)
        else:
            rows = self._workspace.rows(f"{_SELECT.format(lines='line')}{where}{_ORDER}")
        for row in rows:
            yield self._line(_Row._make(row))

    def _rows_in_parts(self, where: str) -> Iterator[tuple[Any, ...]]:
        """Yields the same rows with little memory; the lines of a category follow each other."""
        self._workspace.run(_SORT_LINES)
        ((first, last),) = self._workspace.all(f"SELECT min(rowid), max(rowid) FROM sorted_line{where}")
        if first is None:
            return
        for start in range(first, last + 1, _PART_LINES):
            yield from self._workspace.rows(
                f"{_SELECT.format(lines=_PART)}{where}{_ORDER}",
                {"start": start, "end": min(start + _PART_LINES, last + 1)},
            )

    def totals(self, dimension: Dimension) -> list[Total]:
        """Returns the sums of the lines by currency and name."""
        name, joins = _DIMENSIONS[dimension]
        totals = self._workspace.all(
            f"""
            SELECT {name} AS name, line.currency, count(*), ifnull(sum(line.expected), 0),
              ifnull(sum(line.billed), 0)
            FROM line {joins}
            GROUP BY name, line.currency
            ORDER BY line.currency, {"min(category)" if dimension == "category" else "name"}
            """
        )
        return [
            Total(name, currency, lines, _money(expected), _money(billed), _money(billed - expected))
            for name, currency, lines, expected, billed in totals
        ]

    def rows(self) -> Rows:
        """Counts the rows of the statements."""
        read, invalid, ignored = self._workspace.all(
            f"SELECT count(*), count(*) FILTER (problem IS NOT NULL AND problem.kind NOT IN ({IGNORED})),"
            f" count(*) FILTER (problem.kind IN ({IGNORED})) FROM charge WHERE file < ?",
            [self._given],
        )[0]
        single, charged = self._workspace.all(
            "SELECT count(*), count(line.native) FROM line JOIN charge ON charge.rowid = line.place"
            " WHERE merged IS NULL AND place NOT IN (SELECT place FROM unread) AND file < ?"
            " AND NOT (category = 'timing' AND billed IS NULL)",
            [self._given],
        )[0]
        many, charges = self._merged_rows()
        counted = charged + charges
        uncharged = single + many - counted + self._workspace.one("SELECT count(*) FROM superseded")
        outside = read - invalid - ignored - counted - uncharged
        return Rows(read, counted, uncharged, invalid, outside, ignored)

    def _merged_rows(self) -> tuple[int, int]:
        """Counts the rows of tasks with several rows, and those of them that state a charge."""
        if not self._workspace.one("SELECT count(*) FROM part"):
            return 0, 0
        ((many, charges),) = self._workspace.all(
            "SELECT count(*), count(part.native) FROM part JOIN charge ON charge.rowid = part.place"
            " WHERE inside AND file < ?"
            " AND part.task_id IN (SELECT task_id FROM merged JOIN line ON line.merged = merged.rowid)",
            [self._given],
        )
        return many, charges

    def _line(self, row: Any) -> Line:
        line = Line(
            category=row.category,
            provider=self._account.provider,
            task_id=row.unread_task if row.category == "invalid_row" else row.task_id,
            reservation_id=row.reservation,
            project=row.project,
            labels=_labels(row.labels),
            key=row.key,
            model=row.model,
            resolution=row.resolution,
            tier=row.tier,
            quantity=_number(row.quantity),
            unit=row.unit,
            table=row.table,
            currency=row.currency,
            quoted=_amount(row.quoted),
            list_total=_amount(row.list_total),
            due=_amount(row.due),
            expected=_amount(row.expected),
            billed=_amount(row.billed),
            variance=_money((row.billed or 0) - (row.expected or 0)),
            booked=_amount(row.booked),
            basis=row.basis,
            submitted_at=_instant(row.submitted_at),
            billed_at=_instant(row.billed_at),
            rows=self._rows_of(row),
            cause="",
            remedy="",
            may_charge=row.may_charge is not False,
        )
        if row.category == "matched" and not (row.explanation or row.overlaps or row.unknown):
            return line
        since, until, grace = self._period
        details = LineDetails(
            account=self._account.account,
            other_account=row.other_account,
            since=since,
            until=until,
            grace=grace,
            state=row.state,
            copies=row.copies,
            reservations=row.reservations,
            stated_state=row.stated_state,
            failed=row.ended is not None,
            failed_as_stated=row.stated_end is not None,
            problem=row.problem,
            unread_rows=tuple(self._row(**place) for place in row.unread_places or ()),
            blind_rows=self._stray_rows if row.task_id is None else self._blind_rows,
            fits=row.fits,
            candidates=row.candidates,
            explanation=row.explanation,
            shared=row.shared,
            kind=row.kind,
            alternatives=row.alternatives,
            whole=_amount(row.whole),
            elsewhere=tuple(
                (self._row(place["place"], place["file"], place["row"]), _instant(place["at"]))
                for place in row.elsewhere or ()
            ),
            overlaps=bool(row.overlaps),
            unknown=row.unknown,
            is_exception=row.is_exception,
            disputes=row.disputes or (),
            disputed=_money(row.disputed or 0),
            disputed_since=_instant(row.disputed_since),
            is_disputed=row.is_disputed,
        )
        cause, remedy = cause_and_remedy(line, details)
        shared = shared_cause(line, details)
        return line._replace(cause=cause, remedy=remedy, shared_cause=shared if remedy else "")

    def _rows_of(self, row: Any) -> tuple[str, ...]:
        """Returns the places of a task on the statements."""
        places = {place["place"]: place for place in [*(row.places or ()), *(row.unread_places or ())]}
        if row.place is not None and not row.places:
            places.setdefault(row.place, {"place": row.place, "file": row.file, "row": row.row})
        return tuple(self._row(**places[place]) for place in sorted(places))

    def _row(self, place: int, file: int, row: int | None) -> str:
        of = self._files[file]
        if row is None and isinstance(of, Statement):
            row = place - of.first + of.first_row
        return f"{of.name}:{row}"


@lru_cache(maxsize=65536)
def _money(nanos: int) -> Decimal:
    return from_nanos(nanos)


def _amount(nanos: int | None) -> Decimal | None:
    return None if nanos is None else _money(nanos)


@lru_cache(maxsize=4096)
def _number(written: str | None) -> Decimal | None:
    return None if written is None else Decimal(written)


@lru_cache(maxsize=65536)
def _labels(written: str | None) -> Mapping[str, str]:
    labels: Mapping[str, str] = json.loads(written) if written else {}
    return labels


def _instant(at: datetime | None) -> datetime | None:
    return None if at is None else at.replace(tzinfo=UTC)
