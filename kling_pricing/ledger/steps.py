"""Turns the list of checks into queries, which read each table once. Pure.

The queries report rows and keep none, so their memory does not grow with the ledger.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from kling_pricing.ledger import alert_checks, checks
from kling_pricing.ledger.dialects import Dialect, Query, Scope
from kling_pricing.ledger.fact_queries import FACTS

COLUMNS = ("subject", "what", "kept", "derived", "source", "is_amount")
"""The columns of every query: `kept` and `derived` are text, and both are null if the row is missing."""

_NOTHING = "CAST(NULL AS TEXT), CAST(NULL AS TEXT), '', 0"
_PARTS = ("< '8'", ">= '8'")
"""The two halves of the reservations, which begin with a hexadecimal digit. They can be read simultaneously."""


@cache
def steps(dialect: Dialect, *, since_last: bool, halved: bool = False) -> tuple[Query, ...]:
    """Returns the queries that find every inconsistency, with the columns `COLUMNS`.

    Args:
        dialect: the store's dialect.
        since_last: whether to read only the journal entries and the observations after the last verification.
        halved: whether two connections run the queries, so that each of the longest is divided into two.
    """
    extra = {"reservations": dialect.extra_reservation_checks, "buckets": dialect.extra_bucket_checks}
    fillings = {"nothing": _NOTHING, "begun": _begun(dialect, since_last=since_last)}
    fillings["balances"] = f"UNION ALL {dialect.balances}" if since_last else ""
    found = []
    for common in (*checks.SCOPES, alert_checks.SCOPE):
        scope = common._replace(checks=common.checks + extra.get(common.name, ()))
        is_halved = halved and "{part}" in scope.tables
        for number, part in enumerate(_PARTS if is_halved else ("IS NOT NULL",), start=1):
            name = f"{scope.name}, half {number}" if is_halved else scope.name
            text = _scope_query(scope, since_last=since_last).replace("{part}", part)
            found.append(Query(name, text, weight=scope.weight // (2 if is_halved else 1)))
    further = [
        query
        for query in (*checks.QUERIES, alert_checks.QUERY, *dialect.extra_queries)
        if query.since_last or not since_last
    ]
    fillings = dialect._asdict() | fillings
    return tuple(query._replace(text=_named(query.text.format(**fillings))) for query in [*found, *further])


def _named(query: str) -> str:
    return f"WITH problem ({', '.join(COLUMNS)}) AS ({query}) {_select('*', 'problem')}"


def _scope_query(scope: Scope, *, since_last: bool) -> str:
    columns, conditions, branches = [f"{scope.subject} AS subject"], [], []
    for place, row in enumerate(scope.missing):
        if not (since_last and row.in_all):
            columns.append(f"CASE WHEN {row.when} THEN {row.what} END AS missing_{place}")
            conditions.append(f"({row.when})")
            values = f"subject, missing_{place}, {_NOTHING}"
            branches.append(_select(values, f"different WHERE missing_{place} IS NOT NULL"))
    for place, check in enumerate(scope.checks):
        when = f"({check.when}) AND {scope.present}"
        if since_last:
            when += f" AND ({scope.begun} OR {check.since})"
        kept, must_be = f"kept_{place}", f"derived_{place}"
        derived = f"CASE WHEN {when} THEN {check.derived} ELSE {check.kept} END"
        columns += [f"CAST({check.kept} AS TEXT) AS {kept}", f"CAST({derived} AS TEXT) AS {must_be}"]
        conditions.append(f"({when} AND {check.kept} {{is_not}} {check.derived})")
        values = f"subject, '{check.column}', {kept}, {must_be}, '{check.source}', {int(check.is_amount)}"
        branches.append(_select(values, f"different WHERE {kept} {{is_not}} {must_be}"))
    rows = _select(", ".join(columns), f"{scope.tables} WHERE {' OR '.join(conditions)}")
    return f"WITH different AS MATERIALIZED ({rows}) {' UNION ALL '.join(branches)}"


def _select(columns: str, tables: str) -> str:
    return f"SELECT {columns} FROM {tables}"  # noqa: S608 (constants only)


@cache
def facts(dialect: Dialect, *, since_last: bool) -> Mapping[str, str]:
    """Returns the queries for the facts that `verification` checks. They group equal rows.

    Args:
        dialect: the store's dialect.
        since_last: whether to read only reservations that began after the last verification.
    """
    fillings = {**dialect._asdict(), "begun": _begun(dialect, since_last=since_last)}
    return {name: query.format(**fillings) for name, query in FACTS.items()}


def _begun(dialect: Dialect, *, since_last: bool) -> str:
    """Returns the condition on the id of a reservation that began after the last verification."""
    if not since_last:
        return "IS NOT NULL"
    return f"IN (SELECT reservation FROM journal WHERE seq > {dialect.since} AND kind IN ('reserve', 'record'))"  # noqa: S608
