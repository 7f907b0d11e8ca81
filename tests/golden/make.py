"""Creates the golden ledgers of the current schema version. Run it once, when the version is finished.

Give it the URL of an empty PostgreSQL database::

    python tests/golden/make.py postgresql://postgres@127.0.0.1:5432/empty

It fills a ledger in each store with the same events. It writes each ledger as SQL (`sqlite-VERSION.sql.gz`,
`postgres-VERSION.sql.gz`), and a report about it by the current code (`*.json`), to this folder.
"""

import gzip
import json
import sqlite3
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from kling_pricing import Budget, BudgetExceededError, BudgetGuard, Budgets
from kling_pricing.ledger import connect
from kling_pricing.ledger.access_keys import NewAccessKey, digest_of
from kling_pricing.ledger.actions import Author
from kling_pricing.ledger.administration import prepare
from kling_pricing.ledger.books import BookFact, BooksUpdate, ClosedMonth, Known, RememberedStatement
from kling_pricing.ledger.granting import Grant
from kling_pricing.ledger.postgres import schema as postgres_schema
from kling_pricing.ledger.sqlite import schema as sqlite_schema
from tests.conftest import Clock, driven_by

HERE = Path(__file__).parent
BEGIN = datetime(2026, 11, 10, 9, 30, tzinfo=UTC)
END = BEGIN + timedelta(days=11)
"""The instant at which the reports are taken."""

CLIP = {"model": "kling-v3", "prompt": "a boat", "duration": 5, "resolution": "1080p", "audio": True}
SPEC = {"id": "stray", "status": "completed", "model": "kling-3.0-omni-720p-noref-audio", "seconds": "5"}
TABLES = (
    *("schema_version", "budget_revision", "budget", "bucket", "reservation", "reservation_line"),
    *("allowance_request", "allowance", "reservation_allowance", "journal"),
    *("observation", "unpriced_requests", "calendar", "calendar_digest", "frozen", "administration"),
    *("alert", "alert_receiver", "refused_requests", "lease"),
    *("rolling_window", "cap_overlay", "verified"),
    *("book_statement", "book_fact", "closed_month", "book_seal"),
    *("access_key", "access_key_use", "session"),
)

GENERATED = {"may_be_unmatched", "accounting_rates", "projects", "require_labels"}
"""Columns that PostgreSQL derives from others."""


def first_budgets() -> Budgets:
    """Returns one budget of every kind."""
    return Budgets(
        [
            Budget(name="all", cap=Decimal(400), currency="USD", alerts=[Decimal("0.01"), Decimal("0.5")]),
            Budget(
                name="trailer", match={"project": "trailer"}, cap=Decimal(40), currency="USD", window="month"
            ),
            Budget(
                name="each-user",
                match={"user": "*"},
                cap=Decimal(9),
                currency="USD",
                window="day",
                timezone="Asia/Shanghai",
                max_request=Decimal(8),
            ),
            Budget(
                name="capped",
                match={"project": ["autumn", "winter"]},
                cap=Decimal("1.8"),
                currency="USD",
                window="week",
                week_starts="sunday",
                on_exceed="cap",
                min_duration_s=3,
                min_resolution="720p",
                keep=["audio"],
            ),
            Budget(
                name="yuan",
                match={"project": "any"},
                cap=Decimal(3000),
                currency="CNY",
                window={"start": "2026-11-01", "end": "2027-02-01"},
                timezone="America/New_York",
            ),
        ],
        accounting_rates=[{"quote": "USD", "budget": "CNY", "rate": Decimal("7.123456789")}],
    )


def second_budgets() -> Budgets:
    """Returns the budgets with a raised cap, and an additional budget that counts earlier spend."""
    first = first_budgets()
    raised = [
        Budget(**{**budget.model_dump(), "cap": Decimal(50)}) if budget.name == "trailer" else budget
        for budget in first.budgets
    ]
    added = Budget(
        name="quarter",
        match={"user": "any"},
        cap=Decimal(90),
        currency="CNY",
        window="quarter",
        carry_over=True,
    )
    return Budgets([*raised, added], accounting_rates=first.accounting_rates)


def fill(url: str, clock: Clock) -> None:
    """Fills a ledger with every state, basis and kind of journal entry."""
    guard = BudgetGuard(url, first_budgets(), clock=clock)

    def send(key: str, task_id: str | None = None, project: str = "trailer", user: str = "li") -> str:
        clock.pass_by(minutes=1)
        admission = guard.admit(CLIP, project=project, key=key, labels={"user": user})
        guard.dispatch(admission)
        if task_id is not None:
            guard.bind(admission, task_id)
        return admission.reservation_id

    def observe(task_id: str, status: str, **fields: Any) -> None:
        guard.observe({"task_id": task_id, "status": status, **fields}, provider="qingbo")

    guard.open_budget("all", "12.5")
    send("quoted", "t-1")
    observe("t-1", "completed")
    send("charged", "t-2")
    observe("t-2", "completed", cost=350000)
    guard.settle(send("stated", "t-3"), "0.7", basis="statement")
    guard.resolve(send("resolved", "t-4"), "charged", amount="0.65")
    send("overrun", "t-5")
    observe("t-5", "completed", cost=500000)
    guard.settle(("qingbo", "t-5"), "0.9", basis="statement")
    send("refunded", "t-6", user="wang")
    observe("t-6", "failed", cost=0)
    guard.resolve(send("not charged", user="wang"), "not_charged")
    guard.release(guard.admit(CLIP, project="trailer", key="again", labels={"user": "wang"}), "changed my mind")
    send("again", "t-7", user="wang")
    guard.admit(CLIP, project="trailer", key="late", labels={"user": "zhao"})
    clock.pass_by(minutes=16)
    observe("t-8", "completed", cost=357000)
    send("seen before", "t-8", user="zhao")
    observe("stray", "completed", cost=123)
    for shot in range(3):
        capped = guard.admit(
            {**CLIP, "audio": False, "duration": 8},
            project="autumn",
            key=f"capped {shot}",
            labels={"user": "zhao"},
        )
        guard.dispatch(capped)
    with suppress(BudgetExceededError):
        guard.admit({**CLIP, "resolution": "4k"}, project="autumn", labels={"user": "zhao"})
    guard.record("qingbo", "elsewhere", "0.333333333", labels={"project": "trailer", "user": "li"}, at=BEGIN)
    clock.pass_by(days=5)
    send("in window two", "t-9", project="any")
    guard.apply(second_budgets(), allow_weaker=True)
    send("after", "t-10", project="any")
    observe("t-10", "processing")
    observe("t-1", "completed", cost="0.5")
    guard.settle(("qingbo", "t-9"), "0.699999999", basis="statement")
    clock.now = END - timedelta(minutes=10)
    guard.mark_in_doubt(send("in doubt"), "timeout")
    send("overdue")
    clock.now = END - timedelta(minutes=2)
    send("dispatching")
    guard.admit(CLIP, project="trailer", key="reserved", labels={"user": "li"})
    clock.now = END
    guard.close()


def fill_further(url: str, clock: Clock) -> None:
    """Adds an observation with facts, a count of requests without a price, and spend of another account."""
    with BudgetGuard(url, clock=clock) as guard:
        guard.observe(SPEC, provider="tencent-vod", wire_format="openai_videos")
        guard.count_unpriced("qingbo-ai", "/v1/chat/*")
        labels = {"project": "trailer", "user": "li"}
        guard.record("qingbo", "studio-1", "0.25", labels=labels, at=BEGIN, account="studio-a")


def fill_books(url: str) -> None:
    """Adds every kind of fact, a statement that another one replaces, and a closed month to the books."""
    at = BEGIN
    statement = RememberedStatement(
        number=1,
        books="qingbo",
        name="november.csv",
        digest="0" * 64,
        since=at,
        until=END,
        is_answers=False,
        remembered_at=at,
        actor="li",
        reason="",
        replaces=None,
        replaced_in=None,
    )
    corrected = statement._replace(number=2, name="corrected.csv", replaces=1, replaced_in="2026-11")
    first = [
        BookFact("use", "2026-11", at, "t-1", "trailer", "USD", 714000000),
        BookFact(
            *("row", "2026-11", at, "t-1", "", "USD", 900000000, 450000000000000, "quota"),
            *(1, 2, "row-1", at, at),
        ),
        BookFact("write_off", "2026-11", at, "t-2", "", "USD", actor="li", reason="credit"),
    ]
    with closing(connect(url, clock=lambda: END)) as ledger:
        ledger.add_to_books(BooksUpdate("qingbo", Known(0, 0, ""), (statement, corrected), first))
        known = ledger.books("qingbo").known
        row = known.facts - 1
        dispute = BookFact(
            *("dispute", "2026-11", at, "t-1", "", "USD", 186000000), subject=row, actor="li", reason="too dear"
        )
        ledger.add_to_books(BooksUpdate("qingbo", known, facts=[dispute]))
        known = ledger.books("qingbo").known
        resolution = BookFact(
            "resolution", "2026-11", at, "t-1", subject=known.facts, actor="li", reason="paid"
        )
        closed = ClosedMonth("2026-11", "qingbo", "1" * 64, END, "li", "invoice 7")
        ledger.add_to_books(BooksUpdate("qingbo", known, facts=[resolution], closed=closed))


def fill_interventions(url: str, clock: Clock) -> None:
    """Adds a request for an allowance, allowances that are used, and one that is revoked."""
    dear = {**CLIP, "resolution": "4k", "duration": 15}
    labels = {"user": "covered"}
    with BudgetGuard(url, clock=clock, actor="li") as guard:
        asked = guard.ask(dear, project="any", labels=labels, reason="the film is due")
        store = connect(url, clock=clock)
        grant = Grant("any", Decimal(12), "USD", asked.budgets, None, END + timedelta(days=30), asked.id)
        store.allow(grant, Author("wang", "granted"))
        other = store.allow(grant._replace(key="one shot", request_id=None), Author("wang", "a spare one"))
        store.revoke(other.id, Author("wang", "not needed"))
        store.close()
        guard.admit(dear, project="any", key="covered", labels=labels)
        clock.pass_by(minutes=1)
        guard.release(guard.admit(CLIP, project="any", key="given back", labels=labels))
        settled = guard.admit(CLIP, project="any", key="cheaper", labels=labels)
        guard.dispatch(settled)
        guard.bind(settled, "t-11")
        guard.settle(settled, "0.3", basis="statement")
        guard.set_cap("quarter", 200, until=END + timedelta(days=30), reason="room for the tests")


def fill_keys(url: str, clock: Callable[[], datetime]) -> None:
    """Fills a ledger with an access key in use and one that was revoked, each with a session."""
    store = connect(url, clock=clock)
    for name in ("li", "wang"):
        key = NewAccessKey(name, "trailer", "submit", {"user": name}, END + timedelta(days=900))
        store.issue_key(key, digest_of(name), Author("li", "a new colleague"))
        store.mark_key_used(name)
    for name in ("li", "wang"):
        store.begin_session(digest_of(name), digest_of(f"session of {name}"), timedelta(days=300))
    store.revoke_key("wang", Author("li", "left the team"))
    store.close()


def golden_sql(store: str, version: int) -> str:
    """Returns the golden ledger of a version as SQL, which is compressed since ledgers have long calendars."""
    path = HERE / f"{store}-{version}.sql"
    if path.exists():
        return path.read_text(encoding="utf-8")
    return gzip.decompress(path.with_name(f"{path.name}.gz").read_bytes()).decode()


def plain(value: Any) -> Any:
    """Returns JSON data: named tuples as objects, amounts and instants as text."""
    if hasattr(value, "terms"):
        return {name: plain(content) for name, content in value.as_dict().items()}
    if hasattr(value, "_asdict"):
        fields = value._asdict()
        if fields.get("rolling", "") is None:  # the reports of earlier versions lack it
            del fields["rolling"]
        return {name: plain(content) for name, content in fields.items()}
    if isinstance(value, dict):
        return {name: plain(content) for name, content in value.items()}
    if isinstance(value, list | tuple):
        return [plain(element) for element in value]
    if isinstance(value, Decimal):
        return format(value.normalize(), "f")
    return value.isoformat() if isinstance(value, date) else value


def reported(url: str, clock: Callable[[], datetime]) -> Any:
    """Returns a guard's report about a ledger. The guard uses the installed budgets."""
    guard = BudgetGuard(url, clock=clock)
    guard.verify()
    try:
        return {
            "status": plain(guard.status()),
            "journal": [_entry(entry) for entry in plain(guard.journal())],
            "reservations": plain(guard.history()),
            "in doubt": plain(guard.in_doubt()),
            "unclaimed": plain(guard.unclaimed()),
            "unpriced": plain(guard.unpriced()),
        }
    finally:
        guard.close()


def _entry(entry: dict[str, Any]) -> dict[str, Any]:
    """Returns a journal entry without the fields that earlier ledgers did not have, if they are empty."""
    later = {"allowance_id", "billed"}
    return {name: value for name, value in entry.items() if name not in later or value is not None}


def as_text(report: dict[str, list[Any]]) -> str:
    """Returns a report as JSON, with one record per line."""
    parts = []
    for name, records in report.items():
        lines = [json.dumps(record, ensure_ascii=False, separators=(",", ":")) for record in records]
        parts.append(json.dumps(name) + ": [\n" + ",\n".join(lines) + "\n]")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def sqlite_text(path: Path) -> str:
    """Returns a ledger in a file as SQL."""
    with sqlite3.connect(path) as connection:
        pragmas = [
            f"PRAGMA {name} = {connection.execute(f'PRAGMA {name}').fetchone()[0]};"
            for name in ("application_id", "user_version")
        ]
        return "\n".join([*pragmas, *connection.iterdump()]) + "\n"


def postgres_text(url: str) -> str:
    """Returns a ledger on a server as SQL: the scripts that create its schema, and its rows."""
    lines = [
        "CREATE SCHEMA kling_pricing;",
        "SET search_path = kling_pricing, pg_temp;",
        *postgres_schema.scripts(0),
        "ALTER TABLE journal DISABLE TRIGGER journal_enters_outbox;",
        "ALTER TABLE budget_revision DISABLE TRIGGER revision_names_receivers;",
    ]
    with psycopg.connect(url) as connection:
        connection.execute("SET timezone = 'UTC'")
        for name in TABLES:
            table = sql.Identifier("kling_pricing", name)
            cursor = connection.execute(sql.SQL("SELECT * FROM {} ORDER BY 1").format(table))
            columns = [column.name for column in cursor.description or () if column.name not in GENERATED]
            types = {column.name: column.type_code for column in cursor.description or ()}
            for row in cursor.fetchall():
                named = dict(zip(types, row, strict=True))
                values = [
                    sql.Literal(
                        json.dumps(named[column])
                        if types[column] == 3802 and named[column] is not None  # jsonb
                        else named[column]
                    )
                    for column in columns
                ]
                lines.append(
                    sql.SQL("INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE VALUES ({});")
                    .format(table, sql.SQL(", ").join(map(sql.Identifier, columns)), sql.SQL(", ").join(values))
                    .as_string(connection)
                )
        for name, column in (
            ("budget_revision", "revision"),
            ("bucket", "id"),
            ("reservation", "seq"),
            ("journal", "seq"),
            ("administration", "seq"),
            ("alert", "seq"),
            ("allowance", "seq"),
            ("allowance_request", "seq"),
            ("observation", "id"),
            ("book_fact", "seq"),
            ("book_seal", "number"),
        ):
            lines.append(
                f"SELECT setval(pg_get_serial_sequence('kling_pricing.{name}', '{column}'),"
                f" (SELECT max({column}) FROM kling_pricing.{name}));"
            )
    lines += [
        "ALTER TABLE journal ENABLE TRIGGER journal_enters_outbox;",
        "ALTER TABLE budget_revision ENABLE TRIGGER revision_names_receivers;",
    ]
    return "\n".join([*lines, "RESET search_path;"]) + "\n"


def main(url: str) -> None:
    """Creates both ledgers."""
    prepare(url, create=True)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        path = Path(folder) / "spend.db"
        for store, ledger in (("sqlite", f"sqlite:///{path}"), ("postgres", url)):
            clock = Clock(BEGIN)
            if store == "postgres":
                stack.enter_context(driven_by(clock, url))
            fill(ledger, clock)
            fill_further(ledger, clock)
            fill_books(ledger)
            fill_interventions(ledger, clock)
            fill_keys(ledger, clock)
            report = as_text(reported(ledger, clock))
            version = sqlite_schema.VERSION
            (HERE / f"{store}-{version}.json").write_text(report, encoding="utf-8")
            text = sqlite_text(path) if store == "sqlite" else postgres_text(url)
            (HERE / f"{store}-{version}.sql.gz").write_bytes(gzip.compress(text.encode(), mtime=0))


if __name__ == "__main__":
    main(sys.argv[1])
