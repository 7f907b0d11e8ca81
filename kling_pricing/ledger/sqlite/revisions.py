"""Installs revisions of the budgets, and adjusts the balances to them."""

from __future__ import annotations

import json
import sqlite3
from datetime import datetime
from decimal import Decimal

from kling_pricing.budgets import BudgetEntry, BudgetsFile, Consent, budgets_from_document
from kling_pricing.budgets.differences import ensure_known
from kling_pricing.errors import BudgetError, LedgerError
from kling_pricing.ledger.actions import Author, CapOverlay, cap_value
from kling_pricing.ledger.carry_over import (
    budget_named,
    carrying_over,
    ensure_agreed,
    of_another_currency,
    with_cap,
)
from kling_pricing.ledger.claims import claim
from kling_pricing.ledger.freezing import require_thawed
from kling_pricing.ledger.model import Alert, Reservation, Revision
from kling_pricing.ledger.redaction import NO_REASON
from kling_pricing.ledger.sqlite import (
    action_rows,
    balances,
    calendar_rows,
    cap_overlays,
    freezes,
    reservations,
    transitions,
)
from kling_pricing.ledger.sqlite.balances import Move
from kling_pricing.ledger.sqlite.codec import alert_texts, text, written
from kling_pricing.money import multiply, nanos_up
from kling_pricing.windows import FOREVER


def current(db: sqlite3.Connection) -> Revision | None:
    """Returns the newest revision, or None if there is none yet."""
    row = db.execute("SELECT digest, document FROM budget_revision ORDER BY revision DESC LIMIT 1").fetchone()
    return None if row is None else Revision(*row)


def is_in_force(db: sqlite3.Connection, digest: str) -> bool:
    """Returns whether the newest revision has this digest."""
    row = db.execute("SELECT digest FROM budget_revision ORDER BY revision DESC LIMIT 1").fetchone()
    return row is not None and row[0] == digest


def in_force(db: sqlite3.Connection) -> Revision:
    """Returns the newest revision of a ledger that is in use.

    Raises:
        LedgerError: there is no revision, so the guard was opened on another ledger.
    """
    revision = current(db)
    if revision is None:
        raise LedgerError("the ledger has lost its budgets because its file was replaced; restart the guard")
    return revision


def install(db: sqlite3.Connection, budgets: BudgetsFile, author: Author, now: datetime) -> Revision:
    """Writes the first revision, and its calendar."""
    calendar_rows.update(db, budgets, {}, now)
    action_rows.administer(db, now, author, "apply", "budgets", None, json.loads(budgets.document))
    return _add(db, budgets, now)


def make_calendar(db: sqlite3.Connection, now: datetime) -> None:
    """Makes the calendar of a ledger that has none yet. Open buckets keep their windows."""
    revision = current(db)
    if revision is not None:
        budgets = budgets_from_document(revision.document)
        calendar_rows.begin(db, budgets, {budget.definition: budget.schedule for budget in _known(db)}, now)


def _add(db: sqlite3.Connection, budgets: BudgetsFile, now: datetime) -> Revision:
    db.execute(
        "INSERT INTO budget_revision (digest, document, installed_at) VALUES (?, ?, ?)",
        (budgets.digest, budgets.document, written(now)),
    )
    balances.enter(db, now, "revision", None, (), budgets.digest)
    return Revision(budgets.digest, budgets.document)


def replace(
    db: sqlite3.Connection, budgets: BudgetsFile, author: Author, consent: Consent, now: datetime
) -> tuple[Alert, ...]:
    """Replaces the current budgets.

    Returns:
        Alerts for the new thresholds that existing balances already reach.

    Raises:
        BudgetWeakenedError: a budget is removed or protection becomes weaker without consent.
        BudgetError: a budget has the name of an earlier one but a different match, window, zone or currency,
            and does not carry over the earlier spend.
    """
    before = current(db)
    if before is None:
        ensure_known(consent.remove, ())
        install(db, budgets, author, now)
        return ()
    installed = budgets_from_document(before.document)
    require_thawed(freezes.freezes(db), installed, budgets)
    known = _known(db)
    ensure_known(consent.remove, {budget.name for budget in known})
    calendar_rows.update(db, budgets, {budget.definition: budget.schedule for budget in known}, now)
    if installed.digest == budgets.digest:  # the stored digest may come from an older release
        return ()
    carried = carrying_over(budgets, installed, known)
    ensure_agreed(before, installed, budgets, consent)
    for budget in carried:
        _carry_over(db, budgets, budget, now)
    for name in of_another_currency(budgets, installed):
        cap_overlays.end(db, name)
    documents = json.loads(before.document), json.loads(budgets.document)
    action_rows.administer(db, now, author, "apply", "budgets", *documents)
    return _put(db, budgets, now)


def _put(db: sqlite3.Connection, budgets: BudgetsFile, now: datetime) -> tuple[Alert, ...]:
    """Puts budgets in force. Windows that are not over get the new caps and thresholds."""
    cap_overlays.keep_only(db, [budget.name for budget in budgets.budgets])
    changed: list[int] = []
    for budget in budgets.budgets:
        caps = (nanos_up(budget.cap), alert_texts(budget.alerts))
        rows = db.execute(
            "UPDATE bucket SET cap = ?, alerts = ? WHERE budget = ? AND definition = ? AND window_end > ?"
            " RETURNING id",
            (*caps, budget.name, budget.definition, written(now)),
        )
        changed += [bucket for (bucket,) in rows.fetchall()]
    _add(db, budgets, now)  # comes first, so that receivers which it names get the alerts
    return balances.threshold_alerts(db, dict.fromkeys(changed, 0), None, now)


def set_cap(
    db: sqlite3.Connection, now: datetime, name: str, cap: Decimal, until: datetime | None, author: Author
) -> tuple[Alert, ...]:
    """See `Ledger.set_cap`."""
    before = in_force(db)
    budget = budget_named(budgets_from_document(before.document), name)
    overlay = cap_overlays.overlay_of(db, name, now)
    old, new = cap_value(budget.cap, overlay), cap_value(cap, None)
    if until is not None:
        wanted = CapOverlay(name, cap, now, until, author.actor, author.reason)
        if overlay == wanted._replace(set_at=overlay.set_at if overlay else now):
            return ()
        cap_overlays.put(db, wanted)
        new = cap_value(cap, wanted)
    elif overlay is None and budget.cap == cap:
        return ()
    else:
        cap_overlays.end(db, name)
    action_rows.administer(db, now, author, "set", name, old, new)
    if until is None and budget.cap != cap:
        return _put(db, with_cap(before.document, name, cap), now)
    balances.enter(db, now, "set", None, (), f"{author.actor}: {author.reason or NO_REASON}")
    rows = db.execute("SELECT id FROM bucket WHERE budget = ? AND window_end > ?", (name, written(now)))
    return balances.threshold_alerts(db, {bucket: 0 for (bucket,) in rows.fetchall()}, None, now)


def _known(db: sqlite3.Connection) -> list[BudgetEntry]:
    """Returns every budget that was ever in force, the oldest first."""
    documents = db.execute("SELECT document FROM budget_revision ORDER BY revision").fetchall()
    return [budget for (document,) in documents for budget in budgets_from_document(document).budgets]


def _carry_over(db: sqlite3.Connection, budgets: BudgetsFile, budget: BudgetEntry, now: datetime) -> None:
    """Adds existing reservations that a budget matches to its buckets, for windows that are not over."""
    current = budget.period(now) if budget.step else calendar_rows.window_of(db, budget.schedule, now)
    rows = db.execute(
        f"{reservations.SELECT} WHERE created_at >= ? ORDER BY created_at, rowid",
        (written(FOREVER.end if current is None else current.start),),
    ).fetchall()
    for row in rows:
        reservation = reservations.from_row(row, now)
        bucket_labels = budget.bucket_labels(reservation.labels)
        if bucket_labels is not None:
            rate = budgets.rate(reservation.currency, budget)
            _carry(db, budget, bucket_labels, rate, reservation, now)
    openings = db.execute(
        "SELECT bucket.labels, bucket.currency, journal.at, spent_delta FROM journal"
        " JOIN bucket ON bucket.id = journal.bucket WHERE kind = 'opening' AND budget = ? AND definition <> ?"
        " AND window_end > ?",
        (budget.name, budget.definition, written(now)),
    ).fetchall()
    if openings:
        raise BudgetError(
            f"budget {budget.name} began its window with an opening balance, which cannot be carried over; "
            "give the new budget another name, and record everything spent so far in its window with "
            "`kling-pricing budget open`"
        )


def _carry(
    db: sqlite3.Connection,
    budget: BudgetEntry,
    labels: dict[str, str],
    rate: Decimal | None,
    reservation: Reservation,
    now: datetime,
) -> None:
    """Adds a reservation to a bucket, unless the bucket already counts it."""
    bucket_claim = claim(budget, labels, rate)
    (room,) = balances.rooms(db, [bucket_claim], reservation.created_at)
    bucket = balances.opened(db, room)
    amounts = [
        nanos_up(amount if rate is None else multiply(amount, rate))
        for amount in (reservation.reserved, reservation.billed or Decimal(0))
    ]
    added = db.execute(
        "INSERT OR IGNORE INTO reservation_line (reservation, bucket, held, spent, rate)"
        " VALUES (?, ?, ?, ?, ?)",
        (reservation.id, bucket, *amounts, text(rate)),
    )
    if added.rowcount:
        held = amounts[0] if reservation.state in transitions.OPEN else 0
        balances.enter(db, now, "carry_over", reservation.id, [Move(bucket, held, amounts[1])], None)
