"""Settles many reservations in one transaction.

Most settlements only replace the held money, or an earlier amount, by an amount that is not higher. They cannot
refuse or cause alerts, so a few statements write many of them. `verbs.settle` settles all others, one by one.
"""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple

from kling_pricing.errors import KlingPricingError, LedgerUnavailableError
from kling_pricing.ledger.batches import SettledBatch
from kling_pricing.ledger.model import BASES, Alert, Basis
from kling_pricing.ledger.sqlite import verbs
from kling_pricing.ledger.sqlite.codec import written
from kling_pricing.money import multiply, nanos_up

_KEPT = """
    SELECT kept.id, kept.state, kept.billed, kept.basis, kept.reserved,
      line.bucket, line.held, line.spent, line.rate
    FROM json_each(?) AS given JOIN reservation AS kept ON kept.id = given.value
    LEFT JOIN reservation_line AS line ON line.reservation = kept.id
    WHERE kept.state IN ('dispatching', 'bound', 'settled')
      AND NOT EXISTS (SELECT 1 FROM reservation_allowance AS used WHERE used.reservation = kept.id)
    ORDER BY given.key, line.bucket
"""
"""The lines of reservations that may be settled by a few statements for all."""

_SETTLE = (
    "UPDATE reservation SET state = 'settled', billed = ?, basis = ?, closed_at = ?, doubted = 0, reason = NULL"
    " WHERE id = ?"
)
_SPEND_LINE = "UPDATE reservation_line SET spent = ? WHERE reservation = ? AND bucket = ?"
_ENTER = (
    "INSERT INTO journal (at, kind, reservation, bucket, held_delta, spent_delta, detail, billed)"
    " VALUES (?, 'settle', ?, ?, ?, ?, ?, ?)"
)
_MOVE = "UPDATE bucket SET held = held + ?, spent = spent + ? WHERE id = ?"


class _Counted(NamedTuple):
    """The new amount of one line of a reservation, in nanos, and the changes of its bucket."""

    bucket: int | None
    spent: int
    held_delta: int
    spent_delta: int


def settle_all(
    db: sqlite3.Connection, now: datetime, amounts: Mapping[str, Decimal], basis: Basis
) -> SettledBatch:
    """See `Batches.settle_all`."""
    refused: dict[str, KlingPricingError] = {}
    alerts: list[Alert] = []
    plain = dict(_plain(db, amounts, basis))
    writer = _BatchWriter(db, now, basis)
    for reservation, amount in amounts.items():
        lines = plain.get(reservation)
        if lines is not None:
            writer.add(reservation, nanos_up(amount), lines)
            continue
        writer.write()  # before the next settlement, whose alerts depend on the balances
        db.execute("SAVEPOINT settlement")
        try:
            alerts += verbs.settle(db, now, reservation, amount, basis, None).alerts
        except LedgerUnavailableError:
            raise
        except KlingPricingError as error:
            db.execute("ROLLBACK TO settlement")
            refused[reservation] = error
        db.execute("RELEASE settlement")
    writer.write()
    return SettledBatch(refused, tuple(alerts))


def _plain(
    db: sqlite3.Connection, amounts: Mapping[str, Decimal], basis: Basis
) -> Iterator[tuple[str, Sequence[_Counted]]]:
    """Yields the reservations that `_BatchWriter` can settle, each with its lines."""
    rows = db.execute(_KEPT, (json.dumps([*amounts]),)).fetchall()
    for reservation, group in groupby(rows, key=itemgetter(0)):
        lines = list(group)
        _, state, billed, known, reserved, *_ = lines[0]
        amount, nanos = amounts[reservation], nanos_up(amounts[reservation])
        is_open = state != "settled"
        if nanos > reserved or not (is_open or _prevails(nanos, basis, billed, known)):
            continue
        counted = []
        for *_, bucket, held, spent, rate in lines:
            if bucket is None:  # no budget counts the reservation
                counted.append(_Counted(None, 0, 0, 0))
                continue
            new = nanos if rate is None else nanos_up(multiply(amount, Decimal(rate)))
            counted.append(_Counted(bucket, new, -held if is_open else 0, new - spent))
        if all(line.held_delta + line.spent_delta <= 0 for line in counted):
            yield reservation, counted


def _prevails(nanos: int, basis: Basis, billed: int, known: Basis) -> bool:
    """Returns whether an amount replaces that of a settled reservation; `transitions` has the same rule."""
    return basis == "operator" or (BASES.index(basis), nanos) > (BASES.index(known), billed)


class _BatchWriter:
    """Collects settlements, and writes them with a few statements."""

    def __init__(self, db: sqlite3.Connection, now: datetime, basis: Basis) -> None:
        self._db = db
        self._at = written(now)
        self._basis = basis
        self._settled: list[tuple[int, str, str, str]] = []
        self._lines: list[tuple[int, str, int]] = []
        self._entries: list[tuple[str, str, int | None, int, int, str, int]] = []
        self._moves: defaultdict[int, tuple[int, int]] = defaultdict(lambda: (0, 0))

    def add(self, reservation: str, nanos: int, lines: Sequence[_Counted]) -> None:
        """Adds a settlement."""
        self._settled.append((nanos, self._basis, self._at, reservation))
        for bucket, spent, held_delta, spent_delta in lines:
            self._entries.append((self._at, reservation, bucket, held_delta, spent_delta, self._basis, nanos))
            if bucket is not None:
                self._lines.append((spent, reservation, bucket))
                held, counted = self._moves[bucket]
                self._moves[bucket] = held + held_delta, counted + spent_delta

    def write(self) -> None:
        """Writes the settlements that were added since the last call."""
        if not self._settled:
            return
        self._db.executemany(_SETTLE, self._settled)
        self._db.executemany(_SPEND_LINE, self._lines)
        self._db.executemany(_ENTER, self._entries)
        self._db.executemany(_MOVE, [(*moves, bucket) for bucket, moves in sorted(self._moves.items())])
        for collected in (self._settled, self._lines, self._entries, self._moves):
            collected.clear()
