"""The part of `verify` for freezes and allowances: queries for both stores, and checks of results. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from kling_pricing.ledger.dialects import Query
from kling_pricing.ledger.granting import still_covered
from kling_pricing.ledger.redaction import NO_REASON
from kling_pricing.money import format_decimal, from_nanos

Row = Any

KINDS = ("freeze", "thaw", "freeze_budget", "thaw_budget", "allow", "revoke", "cover", "waive")
"""The kinds of journal entries about freezes, allowances and observe mode."""

_ENTRIES = """
SELECT seq, kind, reservation, allowance, held_delta, spent_delta, detail FROM journal
WHERE allowance IS NOT NULL OR kind IN ('allow', 'revoke', 'cover')
"""
"""The journal entries about allowances, which all queries about them read. The journal is read only once."""

_USES = """
SELECT reservation, allowance, sum(held_delta) AS held, sum(spent_delta) AS spent,
  max(CASE WHEN detail LIKE 'above %' THEN held_delta END) AS set_aside,
  max(CASE WHEN detail LIKE 'above %' THEN detail END) AS terms
FROM entry WHERE kind = 'cover' GROUP BY reservation, allowance
"""
_USED = f"""
SELECT used.*, events.held AS events_held, events.spent AS events_spent, events.set_aside, events.terms,
  state IN ('reserved', 'dispatching', 'bound') AS is_open
FROM reservation_allowance AS used JOIN reservation ON reservation.id = used.reservation
JOIN ({_USES}) AS events ON events.reservation = used.reservation AND events.allowance = used.allowance
"""  # noqa: S608 (constants only)


def _use(what: str, kept: str, derived: str, *, is_amount: bool = True) -> str:
    """Returns the query for one column of the uses of allowances."""
    return f"""
    SELECT 'reservation ' || reservation, 'the {what} part of allowance ' || allowance, CAST({kept} AS TEXT),
      CAST({derived} AS TEXT), 'the journal gives', {int(is_amount)}
    FROM ({_USED}) AS used WHERE {kept} {{is_not}} {derived}
    """  # noqa: S608 (constants only)


def _balance(what: str) -> str:
    """Returns the query for one balance of the allowances."""
    return f"""
    SELECT 'allowance ' || id, '{what}', CAST(allowance.{what} AS TEXT),
      CAST(coalesce(events.{what}, 0) AS TEXT), 'the journal gives', 1
    FROM allowance LEFT JOIN (
      SELECT allowance AS id, sum(held_delta) AS held, sum(spent_delta) AS spent FROM entry
      WHERE allowance IS NOT NULL GROUP BY allowance
    ) AS events USING (id) WHERE allowance.{what} <> coalesce(events.{what}, 0)
    """  # noqa: S608 (constants only)


def _entry_of(what: str, kind: str, condition: str) -> str:
    """Returns the query for allowances that lack the journal entry of an event."""
    return f"""
    SELECT 'allowance ' || allowance.id, 'the journal entry of its {what}', CAST(NULL AS TEXT),
      CAST(NULL AS TEXT), '', 0
    FROM allowance LEFT JOIN (
      SELECT allowance AS id, max(seq) AS seq FROM entry WHERE kind = '{kind}' GROUP BY allowance
    ) AS events ON events.id = allowance.id WHERE {condition} AND events.seq IS NULL
    """  # noqa: S608 (constants only)


_DIFFERENCES = (
    """
    SELECT 'the freeze' || CASE scope WHEN 'all' THEN '' ELSE ' of ' || substr(scope, 8) END,
      'actor, reason and instant', kept, derived, 'the journal gives', 0
    FROM (
      SELECT scopes.scope, (
        SELECT {freeze_at} || ' ' || CASE scope WHEN 'all' THEN '' ELSE substr(scope, 8) || ': ' END
          || actor || ': ' || reason
        FROM frozen WHERE frozen.scope = scopes.scope
      ) AS kept, (
        SELECT CASE WHEN kind LIKE 'freeze%' THEN {journal_at} || ' ' || detail END FROM journal
        WHERE kind IN ('freeze', 'thaw', 'freeze_budget', 'thaw_budget') AND {freeze_scope} = scopes.scope
        ORDER BY seq DESC LIMIT 1
      ) AS derived
      FROM (
        SELECT scope FROM frozen UNION
        SELECT {freeze_scope} FROM journal WHERE kind IN ('freeze', 'thaw', 'freeze_budget', 'thaw_budget')
      ) AS scopes
    ) AS freezes WHERE kept {is_not} derived
    """,
    _balance("held"),
    _balance("spent"),
    _use("held", "CASE WHEN is_open THEN held ELSE 0 END", "events_held"),
    _use("held", "held", "set_aside"),
    _use("spent", "spent", "events_spent"),
    _use(
        "covered",
        "'above ' || above || ' of bucket ' || bucket || coalesce(' at ' || {rate_text}, '')",
        "terms",
        is_amount=False,
    ),
    f"""
    SELECT 'reservation ' || events.reservation, 'its part of allowance ' || events.allowance,
      CAST(NULL AS TEXT), CAST(NULL AS TEXT), '', 0
    FROM ({_USES}) AS events LEFT JOIN reservation_allowance AS used
      ON used.reservation = events.reservation AND used.allowance = events.allowance
    WHERE used.allowance IS NULL
    """,  # noqa: S608 (constants only)
    f"""
    SELECT 'reservation ' || used.reservation, 'the journal entry for its part of allowance ' || used.allowance,
      CAST(NULL AS TEXT), CAST(NULL AS TEXT), '', 0
    FROM reservation_allowance AS used LEFT JOIN ({_USES}) AS events
      ON used.reservation = events.reservation AND used.allowance = events.allowance
    WHERE events.allowance IS NULL
    """,  # noqa: S608 (constants only)
    """
    SELECT DISTINCT 'allowance ' || entry.allowance, 'the allowance that a journal entry refers to',
      CAST(NULL AS TEXT), CAST(NULL AS TEXT), '', 0
    FROM entry LEFT JOIN allowance ON allowance.id = entry.allowance
    WHERE entry.allowance IS NOT NULL AND allowance.id IS NULL
    """,
    _entry_of("grant", "allow", "TRUE"),
    _entry_of("revocation", "revoke", "revoked_at IS NOT NULL"),
    """
    SELECT 'journal entry ' || seq, 'allowance', CAST(allowance AS TEXT), 'empty', 'its kind requires', 0
    FROM entry WHERE allowance IS NOT NULL AND kind NOT IN ('allow', 'revoke', 'cover')
    """,
)
"""Queries for differences, each with the columns `steps.COLUMNS`."""

QUERIES = (
    Query("freezes", _DIFFERENCES[0], since_last=False, weight=1),
    Query(
        "allowances",
        f"WITH entry AS MATERIALIZED ({_ENTRIES}) {' UNION ALL '.join(_DIFFERENCES[1:])}",
        since_last=False,
        weight=1,
    ),
)
"""The queries in the form in which `checks` lists them."""

FACTS = {
    "allowance": """
        SELECT id, project, amount, currency, budgets, key, until, actor, reason, request, created_at,
          revoked_at
        FROM allowance
    """,
    "allowance_request": """
        SELECT id, project, amount, currency, budgets, key, actor, reason, created_at FROM allowance_request
    """,
    "allowance_use": """
        SELECT used.reservation, used.allowance, used.held, used.spent, used.above,
          CAST(used.rate AS TEXT) AS rate, line.spent AS counted
        FROM reservation_allowance AS used LEFT JOIN reservation_line AS line
          ON line.reservation = used.reservation AND line.bucket = used.bucket
    """,
}
"""Queries for the facts that `problems` checks."""


def problems(facts: Mapping[str, Iterable[Row]]) -> Iterator[str]:
    """Yields the differences between allowances, their requests and their uses, and the records of them.

    Args:
        facts: the rows of each query of `FACTS` under its name, and the administrative actions under `action`.
    """
    actions = {(row["action"], row["subject"]): row for row in facts["action"]}
    kept = set()
    for table, action, noun in (("allowance", "allow", "allowance"), ("allowance_request", "ask", "request")):
        for kept_row in map(dict, facts[table]):
            name = kept_row["id"]
            kept.add((action, name))
            yield from _granted(f"{noun} {name}", kept_row, actions.get((action, name)))
            if table == "allowance":
                yield from _revoked(kept_row, actions.get(("revoke", name)))
    for (action, subject), row in actions.items():
        if action in {"allow", "ask"} and (action, subject) not in kept:
            noun = "allowance" if action == "allow" else "request for an allowance"
            yield f"administrative action {row['seq']}: its {noun} is missing"
        if action == "decline" and ("ask", subject) not in kept:
            yield f"administrative action {row['seq']}: its request for an allowance is missing"
    for row in facts["allowance_use"]:
        yield from _use_of(row)


def _granted(subject: str, row: Row, action: Row | None) -> Iterator[str]:
    if action is None:
        yield f"{subject}: the administrative action that created it is missing"
        return
    content = json.loads(action["new"])
    budgets = json.loads(row["budgets"]) if isinstance(row["budgets"], str) else row["budgets"]
    comparisons = {
        "amount": (format_decimal(from_nanos(row["amount"])), content["amount"]),
        "budgets": (budgets, content["budgets"]),
        "actor": (row["actor"], action["actor"]),
        "reason": (row["reason"], action["reason"] or NO_REASON),
        "created_at": (_instant(row["created_at"]), _instant(action["at"])),
        **{name: (row[name], content[name]) for name in ("project", "currency", "key")},
    }
    if "until" in row:
        comparisons["until"] = (_instant(row["until"]), _instant(content["until"]))
        comparisons["request"] = (row["request"], content["request"])
    for what, (kept, granted) in comparisons.items():
        if kept != granted:
            derived = f"the administrative action gives {granted or 'empty'}"
            yield f"{subject}: {what} is {kept or 'empty'}, but {derived}"


def _revoked(row: Row, action: Row | None) -> Iterator[str]:
    kept = row["revoked_at"] and _instant(row["revoked_at"])
    derived = None if action is None else _instant(action["at"])
    if kept != derived:
        yield (
            f"allowance {row['id']}: revoked_at is {kept or 'empty'}, but the administrative action gives "
            f"{derived or 'empty'}"
        )


def _use_of(row: Row) -> Iterator[str]:
    subject = f"reservation {row['reservation']}: the part of allowance {row['allowance']}"
    if row["counted"] is None:
        yield f"{subject}: the line of its bucket is missing"
        return
    rate = None if row["rate"] is None else Decimal(row["rate"])
    covered = still_covered(row["held"], row["above"], rate, row["counted"])
    if row["spent"] != covered:
        yield (
            f"{subject}: spent is {format_decimal(from_nanos(row['spent']))}, but the line of its bucket gives "
            f"{format_decimal(from_nanos(covered))}"
        )


def _instant(written: str) -> datetime:
    return datetime.fromisoformat(written)
