"""Access keys in the ledger: issued once, found by their text, revoked for ever, and verified."""

import json
import re
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from kling_pricing import Budget, BudgetGuard, Budgets, KlingPricingError, LedgerError, PriceBook
from kling_pricing.guard import access_keys, issue_key, revoke_key
from kling_pricing.ledger.access_keys import digest_of
from tests.commands import run
from tests.conftest import Clock, OpenGuard, with_database
from tests.servers import execute

SOON = datetime(2150, 1, 1, tzinfo=UTC)


def test_a_key_is_found_by_its_text_alone(ledger: str, open_guard: OpenGuard) -> None:
    """The text of a key finds its description; another text finds nothing, and the ledger has no text."""
    guard = open_guard()
    issued = issue_key(
        ledger, project="trailer", labels={"user": "li"}, name="li", expires_at=SOON, actor="wang"
    )
    key = issued.key
    assert (key.project, key.role, dict(key.labels), key.expires_at) == (
        "trailer",
        "submit",
        {"user": "li"},
        SOON,
    )
    assert (key.actor, key.fingerprint) == ("wang", digest_of(issued.text)[:16])
    assert guard.access_key(issued.text) == key
    assert guard.access_key(issued.text[:-1]) is None
    assert access_keys(ledger) == [key]
    assert issued.text not in str(guard.log()) + str(access_keys(ledger))
    assert re.fullmatch(r"kp_[A-Za-z0-9_-]{43}", issued.text)


def test_a_revoked_key_stays_revoked(ledger: str, open_guard: OpenGuard, clock: Clock) -> None:
    """A key ends with its revocation; a second one changes nothing, and the name stays taken."""
    guard = open_guard()
    issue_key(ledger, project=None, name="li", role="manage")
    revoked = revoke_key(ledger, "li", reason="left the team")
    assert not revoked.is_valid(clock())
    assert revoke_key(ledger, "li").revoked_at == revoked.revoked_at
    with pytest.raises(LedgerError, match="the name li exists or existed in this ledger; choose another name"):
        issue_key(ledger, project=None, name="li")
    with pytest.raises(LedgerError, match="unknown access key lee; use one of: li; "):
        revoke_key(ledger, "lee")
    guard.verify()


@pytest.mark.parametrize("project", ["预告片", "trailer: teaser", "x" * 200])
def test_a_key_of_any_project_gets_a_name(ledger: str, open_guard: OpenGuard, project: str) -> None:
    """A key without a chosen name is named after its project, whatever the project's name consists of."""
    open_guard()
    issued = issue_key(ledger, project=project)
    assert issued.key.project == project
    assert re.fullmatch(r"[A-Za-z0-9-]{1,40}-[0-9a-f]{6}", issued.key.name)


def test_the_ledger_keeps_who_issued_and_revoked_keys(open_guard: OpenGuard) -> None:
    """Both are administrative actions with their author and reason, and a guard can act under another name."""
    guard = open_guard().acting_as("wang")
    guard.issue_key(project="trailer", name="li", role="view", reason="for the dashboard")
    guard.revoke_key("li", reason="done")
    issued, revoked = guard.log()[-2:]
    assert (issued.action, issued.subject, issued.actor, issued.reason) == (
        "issue_key",
        "li",
        "wang",
        "for the dashboard",
    )
    assert (issued.old, issued.new["role"], issued.new["project"]) == (None, "view", "trailer")
    assert (revoked.action, revoked.actor, revoked.old, revoked.new) == (
        "revoke_key",
        "wang",
        {"revoked": False},
        {"revoked": True},
    )


def test_a_key_ends_at_its_instant(open_guard: OpenGuard, clock: Clock) -> None:
    """A key is valid before its end and not from then on."""
    guard = open_guard()
    end = clock() + timedelta(hours=1)
    key = guard.issue_key(project="trailer", expires_at=end).key
    assert key.is_valid(end - timedelta(microseconds=1))
    assert not key.is_valid(end)


def test_the_use_of_a_key_is_kept(open_guard: OpenGuard, clock: Clock) -> None:
    """The newest use counts, and an unknown key leaves no trace."""
    guard = open_guard()
    guard.issue_key(project="trailer", name="li")
    for _ in range(2):
        clock.pass_by(minutes=5)
        guard.mark_key_used("li")
    guard.mark_key_used("nobody")
    assert [key.used_at for key in guard.access_keys()] == [clock()]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"name": "a b"}, "the name of an access key must be 1 to 64 letters"),
        ({"role": "root"}, "role must be one of view, submit, manage, got root"),
        ({"labels": {"project": "teaser"}}, "an access key cannot fix the label project; leave it out"),
        ({"labels": {"access_key": "x"}}, "an access key cannot fix the label access_key; leave it out"),
        ({"labels": {"user": ""}}, "label user must be text of 1 to"),
        ({"expires_at": datetime(2020, 1, 1, tzinfo=UTC)}, "is not in the future; give a later instant"),
        ({"project": ""}, "project must be text of 1 to"),
    ],
)
def test_a_key_that_could_not_be_used_is_refused(
    arguments: dict[str, Any], problem: str, tmp_path: Path
) -> None:
    """The error names the part, and nothing is stored."""
    url = f"sqlite:///{tmp_path}/spend.db"
    issue_key(url, project="trailer", name="first")
    with pytest.raises(KlingPricingError, match=re.escape(problem)):
        issue_key(url, **{"project": "trailer"} | arguments)
    assert len(access_keys(url)) == 1


CHANGES = {
    "project": "project = 'teaser'",
    "role": "role = 'manage'",
    "labels": """labels = '{"user":"wang"}'""",
    "digest": f"digest = '{'0' * 64}'",
    "end": "expires_at = '2300-01-01T00:00:00.000000+00:00'",
    "revocation": "revoked_at = NULL",
}


@pytest.mark.parametrize("change", CHANGES)
def test_an_edited_key_is_noticed(change: str, ledger: str, book: PriceBook) -> None:
    """`verify` names a key whose row differs from the actions that issued and revoked it."""
    guard = BudgetGuard(ledger, [Budget(name="all", cap=1, currency="USD")], book=book)
    issue_key(ledger, project="trailer", name="li", labels={"user": "li"}, expires_at=SOON)
    if change == "revocation":
        revoke_key(ledger, "li")
    guard.verify()
    guard.close()
    statement = f"UPDATE kling_pricing.access_key SET {CHANGES[change]} WHERE name = 'li'"
    if ledger.startswith("sqlite"):
        with sqlite3.connect(ledger.removeprefix("sqlite:///")) as connection:
            connection.execute("DROP TRIGGER access_key_is_final")
            connection.execute(statement.replace("kling_pricing.", ""))
        connection.close()
    else:
        execute(ledger, "ALTER TABLE kling_pricing.access_key DISABLE TRIGGER ALL", statement)
    with pytest.raises(LedgerError, match="access key li: it "):
        guard.verify()


def test_a_row_of_a_key_cannot_change(ledger: str, book: PriceBook) -> None:
    """The tables refuse an edit and a deletion, even by the owner."""
    BudgetGuard(ledger, [Budget(name="all", cap=1, currency="USD")], book=book).close()
    issue_key(ledger, project="trailer", name="li")
    for statement in ("UPDATE {} SET role = 'manage'", "DELETE FROM {}"):
        if ledger.startswith("sqlite"):
            connection = sqlite3.connect(ledger.removeprefix("sqlite:///"))
            with pytest.raises(sqlite3.DatabaseError, match="access keys"):
                connection.execute(statement.format("access_key"))
            connection.close()
        else:
            with pytest.raises(psycopg.Error, match="access keys never change"):
                execute(ledger, statement.format("kling_pricing.access_key"))


def test_a_guards_role_reads_keys_and_cannot_write_them(postgres_ledger: str, book: PriceBook) -> None:
    """A role that may only use guards finds keys and keeps their use; it neither issues nor revokes keys."""
    from kling_pricing.ledger.postgres.schema import prepare  # noqa: PLC0415

    BudgetGuard(postgres_ledger, [Budget(name="all", cap=1, currency="USD")], book=book).close()
    issued = issue_key(postgres_ledger, project="trailer", name="li")
    execute(postgres_ledger, "DROP ROLE IF EXISTS key_guard", "CREATE ROLE key_guard LOGIN")
    prepare(postgres_ledger, create=False, grant="key_guard")
    try:
        name = postgres_ledger.partition("?")[0].rpartition("/")[2]
        url = with_database(postgres_ledger, name, user="key_guard")
        guard = BudgetGuard(url, book=book)
        guard.mark_key_used("li")
        found = guard.access_key(issued.text)
        assert found is not None
        assert found.used_at is not None
        for attempt in (lambda: issue_key(url, project=None), lambda: revoke_key(url, "li")):
            with pytest.raises(LedgerError, match=r"permission|may not|only"):
                attempt()
        guard.close()
        for table in ("access_key", "access_key_use"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                execute(url, f"DELETE FROM kling_pricing.{table}")
    finally:
        execute(postgres_ledger, "DROP OWNED BY key_guard", "DROP ROLE key_guard")


@pytest.mark.parametrize(
    ("matches", "options", "effect"),
    [
        ([{"project": ["trailer", "teaser"]}], {}, "each of its jobs will be refused"),
        ([{"project": "trailer"}], {"unmatched": "allow"}, "its jobs are not limited"),
        ([{"project": "trailer"}, {}], {}, "only the budgets for all projects count its jobs"),
        ([{"project": "trailer"}, {"project": "*"}], {}, "only the budgets for all projects count its jobs"),
        ([{}], {"projects": ["trailer"]}, "each of its jobs will be refused"),
    ],
)
def test_a_project_that_no_budget_names_is_noticed(
    tmp_path: Path, matches: list[dict[str, Any]], options: dict[str, Any], effect: str
) -> None:
    """A key for a mistyped project is issued with a warning that says what becomes of its jobs."""
    ledger = f"sqlite:///{tmp_path}/spend.db"
    budgets = [
        Budget(name=f"budget-{number}", cap=5, currency="USD", match=match)
        for number, match in enumerate(matches)
    ]
    BudgetGuard(ledger, Budgets(budgets, **options)).close()
    mistyped = run("key", "issue", "--project", "trailr", "--json", "--ledger", ledger)
    assert json.loads(mistyped.stdout)["project"] == "trailr"
    assert f"warning: the budgets do not name the project trailr, so {effect}" in mistyped.stderr
    assert "did you mean 'trailer'?" in mistyped.stderr
    named = run("key", "issue", "--project", "trailer", "--json", "--ledger", ledger)
    assert named.stderr == ""


@pytest.mark.parametrize("match", [{}, {"project": "*"}, {"project": "any"}, {"user": "li"}])
def test_budgets_that_name_no_project_cause_no_warning(tmp_path: Path, match: dict[str, Any]) -> None:
    """Where no budget names a project, there is nothing with which the project of a key could be compared."""
    ledger = f"sqlite:///{tmp_path}/spend.db"
    BudgetGuard(ledger, [Budget(name="all", cap=5, currency="USD", match=match)]).close()
    assert run("key", "issue", "--project", "trailr", "--json", "--ledger", ledger).stderr == ""


def test_the_commands_issue_list_and_revoke(tmp_path: Path) -> None:
    """`key issue --json` prints the key once as `key`; `list` and `revoke` show it without its text."""
    options = ["--ledger", f"sqlite:///{tmp_path}/spend.db", "--json"]
    issued = json.loads(
        run("key", "issue", "--project", "trailer", "--label", "user=li", "--name", "li", *options).stdout
    )
    assert (issued["name"], issued["project"], issued["labels"]) == ("li", "trailer", {"user": "li"})
    listed = run("key", "list", *options).stdout
    assert issued["key"] not in listed
    assert json.loads(listed)["revoked_at"] is None
    revoked = json.loads(run("key", "revoke", "li", "--reason", "done", *options).stdout)
    assert revoked["revoked_at"] is not None
    refused = run("key", "issue", *options)
    assert refused.returncode == 2
    assert "--all-projects" in refused.stderr
