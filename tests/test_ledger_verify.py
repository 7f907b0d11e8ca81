"""`verify` finds an edit of any column that holds money or state, on both kinds of store."""

import os
import signal
import sqlite3
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import timedelta
from decimal import Decimal
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest

from kling_pricing import Budget, BudgetGuard, Budgets, LedgerError, LedgerUnavailableError, PriceBook
from kling_pricing.ledger import connect
from kling_pricing.ledger.actions import Author
from kling_pricing.ledger.granting import Grant
from kling_pricing.ledger.sqlite import verifying
from tests.commands import run
from tests.conftest import Clock
from tests.golden.make import (
    BEGIN,
    CLIP,
    END,
    TABLES,
    fill,
    fill_books,
    fill_interventions,
    fill_keys,
    second_budgets,
)
from tests.servers import execute


class Edit(NamedTuple):
    """One edit, and the message of `verify` about it.

    Attributes:
        value: the new value, as SQL.
        message: a pattern for the message.
        where: the rows to edit, as SQL.
        postgres: the new value in PostgreSQL, if it differs.
    """

    value: str
    message: str
    where: str = "TRUE"
    postgres: str | None = None


EARLIER = "'2020-02-29T12:00:00.000000+00:00'"
"""An instant without any event."""

EDITS = {
    "budget_revision.revision": Edit("revision + 10", "cap is 50, but the budget has 40", "revision = 1"),
    "budget_revision.digest": Edit("'x'", "budget revision 1: its journal entry is missing", "revision = 1"),
    "budget_revision.document": Edit(
        """replace(document, '"400"', '"401"')""", "revision 2: its document does not match its digest"
    ),
    "budget_revision.installed_at": Edit(EARLIER, "budget revision 2: its journal entry is missing"),
    "budget.name": Edit("'other'", "budget other: it is in force, but the newest", "name = 'all'"),
    "budget.definition": Edit("'other'", "budget all: definition is other", "name = 'all'"),
    "budget.currency": Edit("'EUR'", "budget all: currency is EUR", "name = 'all'"),
    "budget.cap": Edit("cap + 1", "budget all: cap is 400000000001", "name = 'all'"),
    "budget.max_request": Edit("5", "budget each-user: max_request is 5", "name = 'each-user'"),
    "budget.may_cap": Edit("NOT may_cap", "budget all: may_cap is True", "name = 'all'"),
    "budget.alerts": Edit("'{0.9}'", "budget all: alerts is", "name = 'all'"),
    "bucket.id": Edit("id + 1000", "bucket 1: the bucket that a line refers to is missing", "id = 1"),
    "bucket.budget": Edit(
        "'other'", "bucket other: definition is .*, but no budget revision has that definition", "id = 1"
    ),
    "bucket.definition": Edit(
        "'other'", "bucket all: definition is other, but no budget revision has that definition", "id = 1"
    ),
    "bucket.labels": Edit(
        """'{"user":"nobody"}'""",
        'labels is .*, but its bucket requires {"user":"nobody"}',
        "id = (SELECT min(id) FROM bucket WHERE labels <> '{}')",
    ),
    "bucket.window_start": Edit(
        "'2026-11-20T00:00:00.000000+00:00'",
        "created_at is 2026-11-10.*, but the window of its bucket",
        "id = 1",
    ),
    "bucket.window_end": Edit(EARLIER, "but the window of its bucket starts at", "budget = 'trailer'"),
    "bucket.currency": Edit("'EUR'", "rate is missing, but the currencies give given", "id = 1"),
    "bucket.cap": Edit("cap + 1", r"bucket all: cap is 400\.000000001, but the budget has 400", "id = 1"),
    "bucket.held": Edit("held + 1", r"bucket all .*: held is .*1, but the journal gives", "id = 1"),
    "bucket.spent": Edit("spent + 1", r"bucket all .*: spent is .*3, but the journal gives", "id = 1"),
    "bucket.alerts": Edit(
        """'["0.9"]'""", "bucket all: the list of alerts is 0.9", "id = 1", postgres="'{0.9}'"
    ),
    "bucket.opening_token": Edit("NULL", "opening_token is missing, but the journal gives known", "id = 1"),
    "reservation.id": Edit(
        "'other'", "the reservation that a journal entry refers to is missing", "key = 'quoted'"
    ),
    "reservation.project": Edit("'other'", "project is other, but the labels give trailer", "key = 'quoted'"),
    "reservation.attempt": Edit("attempt + 1", "key quoted of project trailer: attempt is 2", "key = 'quoted'"),
    "reservation.state": Edit(
        "'released'", "state is released, but the journal gives reserved", "state = 'reserved'"
    ),
    "reservation.doubted": Edit(
        "1 - doubted", "doubted is yes, but the journal gives no", "state = 'bound'", postgres="NOT doubted"
    ),
    "reservation.dispatch_token": Edit("NULL", "dispatch_token is missing", "key = 'quoted'"),
    "reservation.task_id": Edit("NULL", "task_id is missing, but the journal gives known", "key = 'quoted'"),
    "reservation.currency": Edit("'CNY'", "rate is missing, but the currencies give given", "key = 'quoted'"),
    "reservation.expected": Edit("2000000000", r"reserved is 0\.714, but the quote is 2", "key = 'quoted'"),
    "reservation.reserved": Edit(
        "715000000", r"reserved is 0\.715, but its line gives 0\.714", "key = 'quoted'"
    ),
    "reservation.billed": Edit("1", r"billed is 0\.000000001, but the journal gives 0\.714", "key = 'quoted'"),
    "reservation.basis": Edit("'operator'", "basis is operator, but the journal gives quote", "key = 'quoted'"),
    "reservation.labels": Edit(
        """'{"project":"trailer","user":"nobody"}'""",
        "labels is .*nobody.*, but its bucket requires",
        "key = 'quoted'",
    ),
    "reservation.reason": Edit("'other'", "reason is other, but the journal gives failed", "key = 'refunded'"),
    "reservation.created_at": Edit(EARLIER, "created_at is 2020-02-29", "key = 'quoted'"),
    "reservation.dispatched_at": Edit(EARLIER, "dispatched_at is 2020-02-29", "key = 'quoted'"),
    "reservation.closed_at": Edit(EARLIER, "closed_at is 2020-02-29", "key = 'quoted'"),
    "reservation_line.reservation": Edit(
        "'other'",
        "reservation other: the reservation that a line refers to is missing",
        "bucket = 1 AND reservation IN (SELECT id FROM reservation WHERE key = 'quoted')",
    ),
    "reservation_line.bucket": Edit("999", "its line in bucket 1 is missing", "bucket = 1"),
    "reservation_line.held": Edit("held + 1", "held is .*1, but the journal gives", "bucket = 1"),
    "reservation_line.spent": Edit("spent + 1", "spent is .*1, but the journal gives", "bucket = 1"),
    "reservation_line.rate": Edit(
        "'7.5'", "rate is 7.5, but the budgets installed in this ledger give 7.123456789", "rate > '0'", "7.5"
    ),
    "journal.at": Edit(EARLIER, "created_at is .*, but the journal gives 2020-02-29", "kind = 'reserve'"),
    "journal.kind": Edit("'other'", "kind is other, but it must be one of the known kinds", "kind = 'opening'"),
    "journal.reservation": Edit(
        "'other'",
        "reservation other: the reservation that a journal entry refers to is missing",
        "kind = 'doubt'",
    ),
    "journal.bucket": Edit(
        "999", "bucket 999: the bucket that a journal entry refers to is missing", "kind = 'opening'"
    ),
    "journal.held_delta": Edit("held_delta + 1", "held is", "kind = 'alert'"),
    "journal.spent_delta": Edit("spent_delta + 1", "spent is", "kind = 'opening'"),
    "journal.billed": Edit(
        "billed + 1", r"billed is 0\.714, but the journal gives 0\.714000001", "detail = 'quote'"
    ),
    "journal.detail": Edit("'operator'", "basis is quote, but the journal gives operator", "detail = 'quote'"),
}
"""An edit that `verify` finds, by table and column."""

_RESPONSE = "nothing else in the ledger records the provider's response"
_DELIVERY = "it moves no money, and nothing else records deliveries"
_RECEIVER_COLUMNS = ("name", "delivered", "failures", "failed_at", "problem", "next_at", "stopped_at")
_USE = "nothing else records when a key was used"
_SESSION = "nothing else records who is signed in; a session ends with its access key"
_REFUSED = "nothing else counts the requests that were refused"
_UNPRICED = "nothing else counts the requests that pass without a price"
_REMEMBERED = "a verification of everything does not use it, and writes it anew"
_ACTION = "administrative action .*: its seal is"
_SEAL = "seal is .*, but the columns that never change give"
EDITS |= {
    f"reservation.{name}": Edit(value, _SEAL, "key = 'quoted'", postgres)
    for name, value, postgres in (
        ("key", "'another'", None),
        ("provider", "'another'", None),
        ("account", "'another'", None),
        ("wire_format", "'another'", None),
        ("model", "'another'", None),
        ("resolution", "'4k'", None),
        ("tier", "'another'", None),
        ("quantity", "'6'", "6"),
        ("unit", "'another'", None),
        ("minimum", "1", None),
        ("list_total", "1", None),
        ("price_table", "'another'", None),
        ("table_digest", "'another'", None),
        ("pack_units", """'{"video":"9"}'""", None),
        ("account_currency", "'EUR'", None),
        ("statement_unit", "'another'", None),
        ("unit_value", "'0.5'", "0.5"),
        ("failed_tasks", "'charged'", None),
        ("changes", """'{"audio":false}'""", None),
        ("fingerprint", "'another'", None),
        ("seal", "'another'", None),
    )
}
EDITS |= {
    f"observation.{name}": Edit(value, message, "task_id = 't-2'", postgres)
    for name, value, message, postgres in (
        ("provider", "'another'", _SEAL, None),
        ("task_id", "'another'", _SEAL, None),
        ("state", "'failed'", _SEAL, None),
        ("charge", """'{"parts":[["1","USD"]]}'""", _SEAL, None),
        ("duration_s", "'5'", _SEAL, "5"),
        ("model", "'another'", _SEAL, None),
        ("facts", """'{"resolution":"720p"}'""", _SEAL, None),
        ("seen_at", EARLIER, _SEAL, None),
        ("seal", "'another'", _SEAL, None),
        (
            "applied_to",
            "(SELECT id FROM reservation WHERE key = 'quoted')",
            "applied_to is .*, but the task belongs to another",
            None,
        ),
    )
}
EDITS |= {
    f"administration.{name}": Edit(value, _ACTION, "action = 'freeze'")
    for name, value in (
        ("at", EARLIER),
        ("actor", "'another'"),
        ("role", "'another'"),
        ("action", "'thaw'"),
        ("subject", "'another'"),
        ("old", "'{}'"),
        ("new", "'{}'"),
        ("reason", "'another'"),
        ("seal", "'another'"),
    )
}
_AN_ALERT = "budget = 'all' AND kind = 'threshold'"
EDITS |= {
    f"alert.{name}": Edit(value, message, _AN_ALERT)
    for name, value, message in (
        ("entry", "entry + 100000", "its row in the outbox is missing"),
        ("at", EARLIER, "alert .*: at is"),
        ("kind", "'overrun'", "alert .*: kind is"),
        ("threshold", "'0.9'", "alert .*: threshold is"),
        ("reservation", "'another'", "alert .*: reservation is"),
        ("budget", "'another'", "alert .*: budget is"),
        ("labels", """'{"user":"li"}'""", "alert .*: labels is"),
        ("currency", "'CNY'", "alert .*: currency is"),
        ("window_start", EARLIER, "alert .*: window_start is"),
    )
}
_OVERLAY = "the temporary cap of budget all: it differs"
EDITS |= {
    f"cap_overlay.{name}": Edit(value, message, where="budget = 'all'")
    for name, value, message in (
        ("budget", "'trailer'", _OVERLAY),
        ("cap", "cap + 1", _OVERLAY),
        ("set_at", EARLIER, _OVERLAY),
        ("ends_at", EARLIER, _OVERLAY),
        ("actor", "'another'", _OVERLAY),
        ("reason", "'another'", _OVERLAY),
    )
}
_KEY = "access key .*: it (differs from the administrative action|is .*revoked)"
EDITS |= {
    f"access_key.{name}": Edit(value, _KEY, "name = 'li'")
    for name, value in (
        ("name", "'other'"),
        ("digest", "'another'"),
        ("project", "'other'"),
        ("role", "'manage'"),
        ("labels", """'{"user":"nobody"}'"""),
        ("created_at", EARLIER),
        ("expires_at", EARLIER),
        ("revoked_at", EARLIER),
        ("actor", "'another'"),
    )
}
_CALENDAR = "the calendar: digest is .*, but its rows give"
_FREEZE = "the freeze: actor, reason and instant is .*, but the journal gives"
EDITS |= {
    "reservation.deadline": Edit(
        "'2031-02-28T12:00:00.000000+00:00'",
        "deadline is 2031-02-28.*, but the journal gives",
        "key = 'reserved'",
    ),
    "calendar.schedule": Edit("'other'", _CALENDAR, "schedule = 'lifetime'"),
    "calendar.window_start": Edit(EARLIER, _CALENDAR, "schedule = 'lifetime'"),
    "calendar.window_end": Edit(EARLIER, _CALENDAR, "schedule = 'lifetime'"),
    "calendar_digest.digest": Edit("'another'", _CALENDAR),
    "calendar.zone_data": Edit("'another'", _CALENDAR, "schedule = 'lifetime'"),
    "frozen.actor": Edit("'another'", _FREEZE),
    "frozen.reason": Edit("'another'", _FREEZE),
    "frozen.frozen_at": Edit(EARLIER, _FREEZE),
    "budget.file_order": Edit("7", "budget all: file_order is 7", "name = 'all'"),
    "budget.fixed_labels": Edit("""'{"project":"x"}'""", "budget all: fixed_labels is", "name = 'all'"),
    "budget.needed_labels": Edit("'{project}'", "budget all: needed_labels is", "name = 'all'"),
    "budget.listed_labels": Edit("""'{"project":["x"]}'""", "budget all: listed_labels is", "name = 'all'"),
    "budget.split_labels": Edit("'{project}'", "budget all: split_labels is", "name = 'all'"),
    "budget.schedule": Edit("'other'", "budget all: schedule is other", "name = 'all'"),
    "budget.step_us": Edit("step_us + 1", "budget recent: step_us is 25200000001", "name = 'recent'"),
    "bucket.step_us": Edit("step_us * 2", "step_us is 50400000000, but its budget", "budget = 'recent'"),
    **{
        f"rolling_window.{name}": Edit(value, "reached is .*, but the journal needs an alert", postgres=server)
        for name, value, server in (
            ("budget", "'other'", None),
            ("definition", "'other'", None),
            ("labels", "'other'", None),
            ("reached", """'["0.9 of 400"]'""", "'{0.9 of 400}'"),
        )
    },
    "budget.recurs": Edit("true", "budget all: recurs is True", "name = 'all'"),
    "verified.newest_entry": Edit(
        "newest_entry + 1000",
        "the journal: the newest entry is .*, but the last verification read entries up to",
    ),
}
_COVERED = "reservation = (SELECT id FROM reservation WHERE key = 'covered')"
_GRANTED = "but the administrative action gives"
EDITS |= {
    "frozen.scope": Edit(
        "'budget:trailer'", "the freeze of trailer: actor, reason and instant", "scope = 'all'"
    ),
    "budget.observes": Edit("NOT observes", "budget all: observes is True", "name = 'all'"),
    "allowance.id": Edit("'other'", "the allowance that a journal entry refers to is missing", "key IS NULL"),
    "allowance.held": Edit("held + 1", "allowance .*: held is .*, but the journal gives", "key IS NULL"),
    "allowance.spent": Edit("spent + 1", "allowance .*: spent is .*, but the journal gives", "key IS NULL"),
    "allowance.revoked_at": Edit(EARLIER, f"revoked_at is 2020-02-29.*, {_GRANTED} empty", "key IS NULL"),
    "allowance_request.id": Edit(
        "'other'", "request other: the administrative action that created it is missing"
    ),
    "reservation_allowance.reservation": Edit(
        "'other'", "reservation .*: its part of allowance .* is missing", _COVERED
    ),
    "reservation_allowance.allowance": Edit(
        "'other'", "the journal entry for its part of allowance other is missing", _COVERED
    ),
    "reservation_allowance.bucket": Edit(
        "1", "the covered part of allowance .* is above .* of bucket 1 .*, but the journal gives", _COVERED
    ),
    "reservation_allowance.above": Edit(
        "above + 1", "the covered part of allowance .* is above .*, but the journal gives above", _COVERED
    ),
    "reservation_allowance.rate": Edit(
        "'7.5'", "the covered part of allowance .* at 7.5, but the journal gives", _COVERED, "7.5"
    ),
    "reservation_allowance.held": Edit(
        "held + 1", "the held part of allowance .* is .*, but the journal gives", _COVERED
    ),
    "reservation_allowance.spent": Edit(
        "spent + 1", "the spent part of allowance .* is .*, but the journal gives", _COVERED
    ),
    "journal.allowance": Edit(
        "'other'", "allowance other: the allowance that a journal entry refers to is missing", "kind = 'cover'"
    ),
}
EDITS |= {
    f"{table}.{column}": Edit(value, f"{noun} .*: {column} is .*, {_GRANTED}", "key IS NULL", postgres)
    for table, noun in (("allowance", "allowance"), ("allowance_request", "request"))
    for column, value, postgres in (
        ("project", "'another'", None),
        ("amount", "amount + 1", None),
        ("currency", "'EUR'", None),
        ("budgets", "'[\"x\"]'", "'{x}'"),
        ("key", "'another'", None),
        ("actor", "'another'", None),
        ("reason", "'another'", None),
        ("created_at", EARLIER, None),
        ("until", EARLIER, None),
        ("request", "NULL", None),
    )
    if table == "allowance" or column not in {"until", "request"}
}

_BOOKS = "the books of (qingbo|other): (seal|newest rows) is"
_OTHER = "'other'"
EDITS |= {
    f"{table}.{name}": Edit(value, _BOOKS, where, postgres)
    for table, where, columns in (
        (
            "book_statement",
            "number = 2",
            (
                ("number", "number + 1000", None),
                *((name, _OTHER, None) for name in ("books", "name", "digest", "actor", "reason", "told")),
                *((name, EARLIER, None) for name in ("since", "until", "remembered_at")),
                ("is_answers", "1 - is_answers", "NOT is_answers"),
                ("replaces", "NULL", None),
                ("replaced_in", "'2027-01'", None),
            ),
        ),
        (
            "book_fact",
            "kind = 'row'",
            (
                ("seq", "seq + 1000", None),
                *((name, _OTHER, None) for name in ("books", "period", "task", "project", "currency")),
                *((name, _OTHER, None) for name in ("unit", "row_id", "told")),
                *((name, EARLIER, None) for name in ("at", "billed_at", "submitted_at")),
                *((name, f'"{name}" + 1', None) for name in ("amount", "native", "row")),
                ("kind", "'use'", None),
            ),
        ),
        ("book_fact", "kind = 'dispute'", (("actor", _OTHER, None), ("reason", _OTHER, None))),
        (
            "closed_month",
            "TRUE",
            (
                ("closed_at", EARLIER, None),
                ("month", "'2026-12'", None),
                *((name, _OTHER, None) for name in ("books", "digest", "actor", "reason", "told")),
            ),
        ),
        (
            "book_seal",
            "number = 2",
            (
                *((name, f"{name} + 1", None) for name in ("facts", "statements")),
                *((name, _OTHER, None) for name in ("books", "closed", "seal")),
            ),
        ),
    )
    for name, value, postgres in columns
} | {
    "book_fact.subject": Edit(
        "1", "fact .* of the books of qingbo: the fact that it concerns is missing", "kind = 'dispute'"
    ),
    "book_fact.statement": Edit(
        "7", "fact .* of the books of qingbo: its statement is missing", "kind = 'row'"
    ),
}

UNCHECKED = {
    "book_seal.number": "it only orders the seals",
    "schema_version.version": "a guard refuses another version when it opens the ledger",
    "reservation.seq": "it only orders reservations from the same instant",
    "rolling_window.id": "it only orders the locks",
    "administration.seq": "it only orders the actions",
    "journal.seq": "it only orders the entries",
    "journal.told": "it only identifies a repeated call",
    "observation.id": "it only orders the observations",
    "alert.seq": "it only orders the alerts",
    "alert.id": "receivers only compare it with the ids of other alerts",
    "alert.cause": "it only prevents that an alert is raised again",
    "alert.window_end": "a new calendar may have moved the end of the window since then",
    "alert.facts": "the journal keeps the text of the alert",
    **dict.fromkeys(("alert.cap", "alert.used"), "the balance has changed since then"),
    **{f"alert_receiver.{name}": _DELIVERY for name in _RECEIVER_COLUMNS},
    **{f"lease.{name}": _DELIVERY for name in ("name", "holder", "ends_at")},
    **{f"access_key_use.{name}": _USE for name in ("name", "used_at")},
    **{
        f"refused_requests.{name}": _REFUSED
        for name in ("budget", "labels", "reason", "day", "requests", "told")
    },
    "calendar_digest.begun_at": "it only selects the buckets whose windows are compared with the calendar",
    **{f"session.{name}": _SESSION for name in ("digest", "access_key", "created_at", "used_at", "ends_at")},
    "allowance.seq": "it only orders the allowances",
    "allowance_request.seq": "it only orders the requests",
    **{
        f"verified.{name}": _REMEMBERED
        for name in ("id", "newest_observation", "balances", "fully_verified_at")
    },
    **{f"unpriced_requests.{name}": _UNPRICED for name in ("provider", "path", "day", "requests", "told")},
}
"""The reason why `verify` cannot find an edit, by table and column."""

GENERATED = {
    f"budget_revision.{name}" for name in ("may_be_unmatched", "accounting_rates", "projects", "require_labels")
}
"""Columns that PostgreSQL derives from the document, so nobody can edit them."""

IDENTITIES = {"budget_revision.revision", "bucket.id", "book_fact.seq"}
"""Columns that nobody can edit in PostgreSQL."""

DELETIONS = {
    "budget_revision": ("revision = 1", "its budget revision is missing"),
    "budget": ("name = 'all'", "budget all: its row in the table of current budgets is missing"),
    "bucket": ("budget = 'trailer'", "the bucket that a line refers to is missing"),
    "reservation": ("key = 'quoted'", "the reservation that a line refers to is missing"),
    "reservation_line": ("bucket = 1", "its line in bucket 1 is missing"),
    "calendar": ("schedule = 'lifetime'", _CALENDAR),
    "administration": ("action = 'apply'", "the administrative action that installed it is missing"),
    "alert": ("budget = 'all'", "its row in the outbox is missing"),
    "allowance": ("key IS NULL", "the allowance that a journal entry refers to is missing"),
    "allowance_request": ("TRUE", "administrative action .*: its request for an allowance is missing"),
    "reservation_allowance": ("TRUE", "its part of allowance .* is missing"),
    "journal, allow": ("kind = 'allow'", "allowance .*: the journal entry of its grant is missing"),
    "journal, revoke": ("kind = 'revoke'", "allowance .*: the journal entry of its revocation is missing"),
    "journal, cover": ("kind = 'cover'", "the journal entry for its part of allowance .* is missing"),
    "journal, freeze_budget": (
        "kind = 'freeze_budget'",
        "the freeze of capped: actor, reason and instant is .*, but the journal gives empty",
    ),
    "journal, thaw_budget": (
        "kind = 'thaw_budget'",
        "the freeze of trailer: actor, reason and instant is empty, but the journal gives",
    ),
    "rolling_window": ("TRUE", "rolling window of recent {}: its row is missing"),
    "cap_overlay": ("budget = 'all'", _OVERLAY),
    "access_key": ("name = 'li'", _KEY),
    "frozen": ("TRUE", "the freeze: .* is empty, but the journal gives"),
    "book_statement": ("number = 1", _BOOKS),
    "book_fact": ("kind = 'use'", _BOOKS),
    "closed_month": ("TRUE", _BOOKS),
    "book_seal": ("TRUE", "the books of qingbo: newest rows is fact 0, .* but the tables contain fact"),
    "calendar_digest": ("TRUE", "the calendar: digest is empty, but its rows give"),
    "journal, alert": (
        "kind = 'alert' AND seq < (SELECT max(seq) FROM journal)",
        "alert .*: its journal entry",
    ),
    "journal, revision": ("kind = 'revision'", "budget revision 1: its journal entry is missing"),
    "journal, opening": ("kind = 'opening'", "bucket all .* spent is .*, but the journal gives"),
    "journal, reserve": ("kind = 'reserve' AND seq < 9", "the journal entry that created it is missing"),
    "journal, dispatch": ("kind = 'dispatch'", "dispatched_at is .*, but the journal gives empty"),
    "journal, bind": ("kind = 'bind'", "task_id is known, but the journal gives missing"),
    "journal, doubt": ("kind = 'doubt'", "doubted is yes, but the journal gives no"),
    "journal, settle": ("kind = 'settle'", "state is settled, but the journal gives"),
    "journal, release": ("kind = 'release'", "state is released, but the journal gives"),
    "journal, expire": ("kind = 'expire'", "state is released, but the journal gives reserved"),
    "journal, record": ("kind = 'record'", "the journal entry that created it is missing"),
    "journal, carry_over": ("kind = 'carry_over'", "the journal entry for its line in bucket .* is missing"),
}
"""The rows to delete and the message of `verify`, by table, and for the journal by kind of entry."""

UNDELETED = {
    "schema_version": "a guard refuses a ledger without a version",
    "observation": _RESPONSE,
    "unpriced_requests": _UNPRICED,
    "alert_receiver": _DELIVERY,
    "lease": _DELIVERY,
    "access_key_use": _USE,
    "session": _SESSION,
    "refused_requests": _REFUSED,
    "verified": _REMEMBERED,
    "journal, freeze": "in a file it is the newest entry, whose loss is found before any check",
    "journal, set": "it moves no money; the administrative action of the change is checked",
}
"""The reason why `verify` cannot find a deletion, by table, and for the journal by kind of entry."""


RECENT = Budget(
    name="recent",
    match={"user": "any"},
    cap=400,
    currency="USD",
    window={"rolling": "7d"},
    alerts=["0.001"],
    carry_over=True,
)
"""A budget with a rolling window that counts the newest jobs."""


class Filled:
    """A ledger with every kind of event, and the owner's access to its tables."""

    def __init__(self, url: str, guard: BudgetGuard) -> None:
        self.guard = guard
        self.is_file = url.startswith("sqlite")
        self.url = url
        self._connection = self._file() if self.is_file else self._server()

    def _file(self) -> sqlite3.Connection:
        path = Path(self.url.removeprefix("sqlite:///"))
        connection = sqlite3.connect(path, check_same_thread=False)
        connection.execute("PRAGMA ignore_check_constraints = ON")
        connection.execute("PRAGMA synchronous = OFF")
        return connection

    def _server(self) -> psycopg.Connection[Any]:
        connection = psycopg.connect(self.url)
        connection.execute("SET search_path = kling_pricing, public")
        connection.execute("SET session_replication_role = replica")
        connection.commit()
        return connection

    def close(self) -> None:
        """Closes the connection."""
        self._connection.close()

    def execute(self, *statements: str) -> list[tuple[str, ...]]:
        """Runs statements without triggers and foreign keys, and returns the rows of the last one."""
        connection, rows = self._connection, list[tuple[str, ...]]()
        with connection.transaction() if isinstance(connection, psycopg.Connection) else connection:
            if isinstance(connection, sqlite3.Connection):
                copying = connection.execute(
                    "SELECT name, sql FROM sqlite_master WHERE type = 'trigger'"
                    " AND name IN ('journal_enters_outbox', 'revision_names_receivers')"
                ).fetchall()
                for name, _ in copying:
                    connection.execute(f"DROP TRIGGER {name}")
                for statement in statements:
                    rows = connection.execute(statement).fetchall()
                for _, trigger in copying:
                    connection.execute(trigger)
            else:
                for statement in statements:
                    cursor = connection.execute(statement.encode())
                    rows = cursor.fetchall() if cursor.description else []
        return rows

    def columns(self) -> set[str]:
        """Returns every column of every table, as `table.column`."""
        if self.is_file:
            query = (
                "SELECT sqlite_master.name, pragma.name FROM sqlite_master"
                " JOIN pragma_table_info(sqlite_master.name) AS pragma WHERE sqlite_master.type = 'table'"
            )
        else:
            query = (
                "SELECT table_name, column_name FROM information_schema.columns"
                " WHERE table_schema = 'kling_pricing' AND table_name <> 'test_clock'"
            )
        return {f"{table}.{column}" for table, column in self.execute(query)}

    @cached_property
    def _columns(self) -> set[str]:
        return self.columns()

    @contextmanager
    def restored(self, table: str) -> Iterator[None]:
        """Restores the rows of a table at the end."""
        self.execute(f"CREATE TABLE saved AS SELECT * FROM {table}")
        yield
        overriding = "" if self.is_file else "OVERRIDING SYSTEM VALUE"
        names = [name.partition(".") for name in self._columns - GENERATED]
        columns = ", ".join(f'"{column}"' for name, _, column in names if name == table)
        self.execute(
            f"DELETE FROM {table}",
            f"INSERT INTO {table} ({columns}) {overriding} SELECT {columns} FROM saved",
            "DROP TABLE saved",
        )


@pytest.fixture
def filled(ledger: str, clock: Clock) -> Iterator[Filled]:
    """Returns a filled ledger without the triggers that protect its journal."""
    clock.now = BEGIN
    fill(ledger, clock)
    fill_books(ledger)
    with BudgetGuard(ledger, clock=clock) as guard:
        before = second_budgets()
        guard.apply(Budgets([*before.budgets, RECENT], accounting_rates=before.accounting_rates))
    fill_interventions(ledger, clock)
    store = connect(ledger, clock=clock)
    store.set_cap("all", Decimal(500), END + timedelta(days=900), Author("li", "a rush"))
    store.freeze(Author("li", "one budget"), ["trailer"])
    store.thaw(Author("li", "one budget again"), ["trailer"])
    store.freeze(Author("li", "the other budget"), ["capped"])
    store.freeze(Author("li", "the bill looks wrong"))
    store.close()
    fill_keys(ledger, clock)
    with BudgetGuard(ledger, clock=clock) as guard:
        filled_ledger = Filled(ledger, guard)
        if filled_ledger.is_file:
            triggers = filled_ledger.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")
            filled_ledger.execute(*(f"DROP TRIGGER {name}" for (name,) in triggers))
        else:
            checks = filled_ledger.execute(
                "SELECT conrelid::regclass::text, conname FROM pg_constraint"
                " WHERE contype = 'c' AND connamespace = 'kling_pricing'::regnamespace"
            )
            filled_ledger.execute(*(f"ALTER TABLE {table} DROP CONSTRAINT {name}" for table, name in checks))
        guard.verify(remember=True)
        yield filled_ledger
        filled_ledger.close()


def test_every_column_is_edited_or_has_a_reason(filled: Filled) -> None:
    """Every column has an edit that `verify` finds, or a reason why there is none."""
    columns = filled.columns() - GENERATED
    known = EDITS.keys() | UNCHECKED.keys()
    assert columns <= known
    assert {column.partition(".")[0] for column in columns} == set(TABLES) - (
        {"schema_version", "budget"} if filled.is_file else set()
    )
    assert not EDITS.keys() & UNCHECKED.keys()
    if not filled.is_file:
        assert columns == known


def test_verify_names_every_edit(filled: Filled) -> None:
    """`verify` reports every edit of a ledger's tables, and passes once all edits are undone."""
    columns = filled.columns() - (set() if filled.is_file else IDENTITIES)
    for name in sorted(EDITS.keys() & columns):
        table, column = name.split(".")
        edit = EDITS[name]
        value = edit.value if filled.is_file or edit.postgres is None else edit.postgres
        where = edit.where if filled.is_file else edit.where.replace("rate > '0'", "rate > 0")
        with filled.restored(table):
            filled.execute(f'UPDATE {table} SET "{column}" = {value} WHERE {where}')
            with pytest.raises(LedgerError, match=edit.message):
                filled.guard.verify()
    filled.guard.verify()


def test_verify_names_every_deleted_row(filled: Filled) -> None:
    """`verify` reports deleted rows of every table and of every kind of journal entry."""
    tables = {column.partition(".")[0] for column in filled.columns()}
    kinds = {f"journal, {kind}" for (kind,) in filled.execute("SELECT DISTINCT kind FROM journal")}
    assert (tables - {"journal"}) | kinds <= DELETIONS.keys() | UNDELETED.keys()
    for name in sorted(DELETIONS.keys() & (tables | kinds)):
        table = name.partition(",")[0]
        where, message = DELETIONS[name]
        with filled.restored(table):
            filled.execute(f"DELETE FROM {table} WHERE {where}")
            with pytest.raises(LedgerError, match=message):
                filled.guard.verify()
    filled.guard.verify()


def test_verify_counts_the_differences(filled: Filled) -> None:
    """The error counts all differences and shows the first ten."""
    filled.execute("UPDATE reservation_line SET spent = spent + 1")
    (count,) = filled.execute("SELECT count(*) FROM reservation_line")
    with pytest.raises(LedgerError) as refusal:
        filled.guard.verify()
    assert int(str(refusal.value).partition(": ")[2].split()[0]) >= int(count[0])
    assert str(refusal.value).count("spent is") == 10


# since the last verification


def sent(guard: BudgetGuard, task_id: str) -> None:
    """Sends one more job."""
    admission = guard.admit(CLIP, project="trailer", labels={"user": "li"})
    guard.dispatch(admission)
    guard.bind(admission, task_id)


@pytest.fixture
def thawed(filled: Filled, clock: Clock) -> Filled:
    """Returns the filled ledger, which admits again."""
    store = connect(filled.url, clock=clock)
    store.thaw(Author("li", "the bill was right"))
    grant = Grant("trailer", Decimal(9), "USD", ("quarter",), None, END + timedelta(days=90))
    store.allow(grant, Author("li", "its budget is used up"))
    store.close()
    filled.guard.verify(remember=True)
    return filled


def test_a_verification_continues_where_the_last_one_ended(thawed: Filled) -> None:
    """A verification since the last one reads only the newer entries, and finds edits of their rows."""
    guard = thawed.guard
    nothing_new = guard.verify(since_last=True)
    assert nothing_new.first_entry == nothing_new.last_entry + 1
    guard.settle(("qingbo", "t-10"), "0.7", basis="statement")  # began before
    sent(guard, "new")
    newer = guard.verify(since_last=True)
    newest = newer.last_entry
    assert newer.first_entry == nothing_new.first_entry < newest
    assert newer.fully_verified_at == nothing_new.fully_verified_at is not None
    for table, change, where, message in (
        (
            "reservation",
            "state = 'dispatching'",
            "task_id = 'new'",
            "state is dispatching, but",
        ),
        ("reservation", "model = 'another'", "task_id = 'new'", _SEAL),
        (
            "reservation",
            f"closed_at = {EARLIER}",
            "task_id = 't-10'",
            "closed_at is 2020.*, but the journal gives",
        ),
        (
            "reservation_line",
            "held = held + 1",
            f"reservation IN ({_NEW})",
            "held is .*, but the journal gives",
        ),
        ("bucket", "held = held + 1", "id = 1", "bucket all .* held is .*, but the journal gives"),
        ("bucket", "cap = cap + 1", "id = 1", "bucket all: cap is .*, but the budget has"),
        (
            "journal",
            "held_delta = held_delta + 1",
            f"reservation IN ({_NEW})",
            "held is .*, but the journal gives",
        ),
    ):
        with thawed.restored(table):
            thawed.execute(f"UPDATE {table} SET {change} WHERE {where}")
            with pytest.raises(LedgerError, match=message):
                guard.verify(since_last=True, remember=True)
    assert guard.verify(since_last=True, remember=True).first_entry == newer.first_entry
    assert guard.verify(since_last=True).first_entry == newest + 1
    assert guard.verify().fully_verified_at is None


_NEW = "SELECT id FROM reservation WHERE task_id = 'new'"


def test_what_is_remembered_cannot_hide_damage(thawed: Filled) -> None:
    """A verification of everything finds forged balances in its own memory, and damage to an older row."""
    guard = thawed.guard
    number = "json_set" if thawed.is_file else "jsonb_set"
    path, value = (
        ("'$.\"1\"'", "json_array(held + 1, spent)")
        if thawed.is_file
        else ("'{1}'", "jsonb_build_array(held + 1, spent)")
    )
    thawed.execute(
        f"UPDATE verified SET balances = {number}(balances, {path}, (SELECT {value} FROM bucket WHERE id = 1))",
        "UPDATE bucket SET held = held + 1 WHERE id = 1",
        "UPDATE reservation SET tier = 'another' WHERE key = 'quoted'",
    )
    guard.verify(since_last=True)
    with pytest.raises(LedgerError, match=r"^ledger .*: 2 differences") as refusal:
        guard.verify(remember=True)
    assert "bucket all" in str(refusal.value)
    assert "seal is" in str(refusal.value)


def test_without_a_memory_everything_is_read(ledger: str, clock: Clock, book: PriceBook) -> None:
    """The first verification since the last one reads everything, and is remembered."""
    budget = Budget(name="all", cap=Decimal(100), currency="USD")
    with BudgetGuard(ledger, [budget], book=book, clock=clock) as guard:
        first = guard.verify(since_last=True, remember=True)
        assert (first.first_entry, first.fully_verified_at, first.is_remembered) == (1, None, True)
        guard.record("qingbo", "elsewhere", "0.5", labels={"project": "trailer"})
        second = guard.verify(since_last=True, remember=True)
        assert (second.first_entry, second.fully_verified_at) == (first.last_entry + 1, clock.now)


def test_the_command_remembers_and_continues(tmp_path: Path, book: PriceBook) -> None:
    """The command says which entries it has read, and shows no progress in a pipe."""
    url = f"sqlite:///{tmp_path}/spend.db"
    budget = Budget(name="all", cap=Decimal(100), currency="USD")
    with BudgetGuard(url, [budget], book=book) as guard:
        whole = run("verify", "--ledger", url)
        assert (whole.stdout, whole.stderr) == ("OK: the balances match the journal\n", "")
        guard.record("qingbo", "elsewhere", "0.5", labels={"project": "trailer"})
        newer = run("verify", "--since-last", "--ledger", url)
        assert newer.stdout.startswith("OK: the balances match the journal (entries 2 to 2; the last full ")
        repeated = run("verify", "--since-last", "--ledger", url)
        assert "(no new entries; the last full verification was at " in repeated.stdout


def test_a_guards_role_verifies_but_is_not_remembered(postgres_ledger: str, book: PriceBook) -> None:
    """A role that may only use guards cannot make the ledger remember a verification."""
    role = f"verifier_{os.getpid()}"
    url = postgres_ledger.replace("postgres@", f"{role}@")
    execute(postgres_ledger, f"CREATE ROLE {role} LOGIN", f"SELECT kling_pricing.grant_guard('{role}')")
    try:
        budget = Budget(name="all", cap=Decimal(100), currency="USD")
        BudgetGuard(postgres_ledger, [budget], book=book).verify(remember=True)
        with BudgetGuard(url, book=book) as guard:
            guard.record("qingbo", "elsewhere", "0.5", labels={"project": "trailer"})
            verification = guard.verify(since_last=True, remember=True)
        assert (verification.first_entry, verification.is_remembered) == (2, False)
        with psycopg.connect(url) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("SELECT kling_pricing.remember_verified(9, 9, '{}', true)")
    finally:
        execute(postgres_ledger, f"DROP OWNED BY {role}", f"DROP ROLE {role}")


# while guards go on


def test_verify_sees_one_snapshot_while_guards_go_on(
    ledger: str, book: PriceBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Verifications during admissions and settlements find no difference, since the last one too."""
    monkeypatch.setattr(verifying, "_SMALL", 0)  # two processes even for a small file
    budgets = [
        Budget(name="all", cap=Decimal(1000), currency="USD"),
        Budget(name="each-user", match={"user": "*"}, cap=Decimal(1000), currency="USD"),
    ]
    with BudgetGuard(ledger, budgets, book=book) as guard, ThreadPoolExecutor(2) as pool:

        def work(user: str) -> None:
            for _ in range(15):
                admission = guard.admit(CLIP, project="trailer", labels={"user": user})
                guard.dispatch(admission)
                guard.settle(admission, "0.7")

        working = [pool.submit(work, user) for user in ("li", "wang")]
        verifications = 0
        while verifications < 2 or not all(done.done() for done in working):
            guard.verify(remember=True)
            guard.verify(since_last=True, remember=True)
            verifications += 1
        for done in working:
            done.result()
        assert sum(bucket.spent for bucket in guard.status() if bucket.budget == "all") == 30 * Decimal("0.7")
        guard.verify()


def test_progress_reaches_its_total_and_an_interruption_leaves_nothing(filled: Filled) -> None:
    """Each part reports its progress, and Ctrl-C ends a verification at once without remembering it."""
    reports: list[tuple[str, int, int]] = []
    filled.guard.verify(on_progress=lambda *report: reports.append(report))
    assert [done for _, done, _ in reports] == sorted(done for _, done, _ in reports)
    assert reports[0][1] == 0
    assert reports[-1][1] == reports[-1][2] > 0
    filled.execute("DELETE FROM verified")

    def interrupt(_stage: str, _done: int, _total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        filled.guard.verify(remember=True, on_progress=interrupt)
    assert filled.guard.verify(since_last=True).first_entry == 1


# in two processes


def _children() -> list[int]:
    """Returns the ids of the processes that this one has started."""
    threads = Path("/proc/self/task").iterdir()
    return [int(child) for thread in threads for child in (thread / "children").read_text().split()]


@pytest.fixture
def large(tmp_path: Path, book: PriceBook, monkeypatch: pytest.MonkeyPatch) -> Iterator[BudgetGuard]:
    """Returns a guard whose ledger in a file is verified in two processes, although it is small."""
    monkeypatch.setattr(verifying, "_SMALL", 0)
    budgets = [Budget(name="all", cap=Decimal(1000), currency="USD")]
    with BudgetGuard(f"sqlite:///{tmp_path / 'spend.db'}", budgets, book=book) as guard:
        for _ in range(3):
            admission = guard.admit(CLIP, project="trailer")
            guard.dispatch(admission)
            guard.settle(admission, "0.7")
        yield guard


def _append(reports: list[tuple[str, int, int]], stage: str, done: int, total: int) -> None:
    """Keeps a report of progress."""
    reports.append((stage, done, total))


def test_two_processes_find_what_one_finds(
    large: BudgetGuard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes report the same differences as one, and their progress."""
    with closing(sqlite3.connect(tmp_path / "spend.db")) as connection:
        connection.execute("UPDATE bucket SET spent = spent + 1")
        connection.execute("UPDATE reservation SET reason = 'other'")
        connection.commit()
    found = []
    for small in (0, 100_000):
        monkeypatch.setattr(verifying, "_SMALL", small)
        progress: list[tuple[str, int, int]] = []
        with pytest.raises(LedgerError, match="stop spending") as caught:
            large.verify(on_progress=partial(_append, progress))
        assert progress[0][1] == 0
        assert progress[-1][1] == progress[-1][2] == progress[0][2] > 0
        found.append(sorted(str(caught.value).split("tables: ")[1].split("; ")))
    assert found[0] == found[1]
    assert len([line for line in found[0] if "but the journal gives" in line]) == 4


def test_ctrl_c_ends_the_processes(large: BudgetGuard) -> None:
    """Ctrl-C during a verification ends both of its processes, and the ledger remembers nothing."""
    started: list[int] = []

    def interrupt(_stage: str, _done: int, _total: int) -> None:
        started.extend(_children())
        raise KeyboardInterrupt

    before = set(_children())
    with pytest.raises(KeyboardInterrupt):
        large.verify(remember=True, on_progress=interrupt)
    assert len(set(started) - before) == 2
    assert not set(_children()) - before
    assert large.verify(since_last=True).fully_verified_at is None


def test_a_killed_process_is_not_a_sound_ledger(large: BudgetGuard) -> None:
    """A verification fails if something kills one of its processes, and succeeds when it is repeated."""
    before = set(_children())

    def kill(_stage: str, done: int, _total: int) -> None:
        if done == 0:
            for child in set(_children()) - before:
                os.kill(child, signal.SIGKILL)

    with pytest.raises(LedgerUnavailableError, match=r"was killed from outside.*verify again"):
        large.verify(on_progress=kill)
    assert large.verify().first_entry == 1


@pytest.mark.parametrize("program", ["/bin/false", "/bin/echo", "/no/such/program", ""])
def test_a_program_without_an_interpreter_verifies_by_itself(
    large: BudgetGuard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    """A program that embeds Python, and so cannot start a second Python, verifies in its own process."""
    monkeypatch.setattr(sys, "executable", program)
    assert large.verify().last_entry > 1
    with closing(sqlite3.connect(tmp_path / "spend.db")) as connection:
        connection.execute("UPDATE bucket SET spent = spent + 1")
        connection.commit()
    with pytest.raises(LedgerError, match="spent is"):
        large.verify()


# indexes


@pytest.mark.parametrize(
    ("index", "text"),
    [("sqlite_autoindex_bucket_1", b"each-user"), ("sqlite_autoindex_reservation_2", b"shot-20")],
    ids=["bucket", "key"],
)
def test_verify_compares_indexes_with_their_tables(
    tmp_path: Path, book: PriceBook, index: str, text: bytes
) -> None:
    """One flipped bit in the index of the buckets or of the keys, which decide about money, is found."""
    path = tmp_path / "spend.db"
    budget = Budget(name="each-user", match={"user": "*"}, cap=Decimal(1000), currency="USD")
    with BudgetGuard(f"sqlite:///{path}", [budget], book=book) as guard:
        for number in range(30):
            guard.admit(CLIP, project="trailer", key=f"shot-{number}", labels={"user": f"u{number}"})
        guard.verify()
    with closing(sqlite3.connect(path)) as connection:
        (root,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", [index]).fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    data = bytearray(path.read_bytes())
    place = data.index(text, (root - 1) * size, root * size) + len(text) - 1
    data[place] ^= 1
    path.write_bytes(data)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA quick_check").fetchone() == ("ok",)
    with (
        BudgetGuard(f"sqlite:///{path}", book=book) as guard,
        pytest.raises(LedgerError, match=f"row .* missing from index {index}.*stop spending"),
    ):
        guard.verify()
    result = run("verify", "--ledger", f"sqlite:///{path}")
    assert (result.returncode, result.stdout) == (1, "")
    assert index in result.stderr
