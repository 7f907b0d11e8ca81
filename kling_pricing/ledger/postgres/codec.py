"""Encodes values for the server and decodes its results. Numbers become `Decimal` or int, never float."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from kling_pricing.ledger.actions import AdministrativeAction, CapOverlay, read_value
from kling_pricing.ledger.calendars import ScheduledWindow
from kling_pricing.ledger.decided import Assumed, Room
from kling_pricing.ledger.journal import Bucket, BucketHistory, Entry, Observation, UnpricedRequests
from kling_pricing.ledger.kept_charges import read_charge
from kling_pricing.ledger.model import (
    Alert,
    Change,
    PricedVariant,
    Reservation,
    ReservationRequest,
    Shortfall,
)
from kling_pricing.ledger.outcomes import Comparison, Uncompared
from kling_pricing.ledger.rolled_up import rolling_length
from kling_pricing.ledger.terms import read_terms, written_terms
from kling_pricing.money import format_decimal, from_nanos
from kling_pricing.windows import FOREVER, Period

_decode = json.JSONDecoder(parse_float=Decimal).decode
_dumps = json.JSONEncoder(separators=(",", ":")).encode


def loads(data: str | bytes) -> Any:
    """Decodes JSON from the server. Its numbers stay exact."""
    return _decode(data if isinstance(data, str) else data.decode())


def order_text(order: ReservationRequest) -> str:
    """Returns a request to reserve as JSON. The server finds the budgets, caps and windows itself."""
    return _dumps(
        {
            "project": order.project,
            "key": order.key,
            "fingerprint": order.fingerprint,
            "provider": order.provider,
            "account": order.account,
            "wire_format": order.wire_format,
            "labels": dict(order.labels),
            "budgets": order.budgets,
            "holds": [order.holds.start.isoformat(), order.holds.end.isoformat()],
        }
    )


def labels_text(labels: Mapping[str, str]) -> str:
    """Returns labels as JSON."""
    return _dumps(dict(labels))


def candidates_text(candidates: Sequence[PricedVariant]) -> str:
    """Returns candidates as JSON."""
    return _dumps([_candidate(candidate) for candidate in candidates])


def candidate_text(candidate: PricedVariant) -> str:
    """Returns a candidate as JSON."""
    return _dumps(_candidate(candidate))


def _candidate(candidate: PricedVariant) -> dict[str, Any]:
    terms = candidate.terms
    return {
        "changes": dict(candidate.changes),
        "terms": dict(zip(terms._fields, written_terms(terms), strict=True)),
        "reserved": candidate.reserved,
    }


def reservation(row: Mapping[str, Any]) -> Reservation:
    """Returns the reservation in a row from the server."""
    dispatched_at, closed_at, billed = row["dispatched_at"], row["closed_at"], row["billed"]
    return Reservation(
        id=row["id"],
        project=row["project"],
        key=row["key"],
        attempt=row["attempt"],
        state=row["state"],
        in_doubt=row["in_doubt"],
        provider=row["provider"],
        account=row["account"] or row["provider"],
        task_id=row["task_id"],
        wire_format=row["wire_format"],
        terms=read_terms(row),
        reserved=from_nanos(row["reserved"]),
        billed=None if billed is None else from_nanos(billed),
        basis=row["basis"],
        labels=dict(sorted(row["labels"].items())),
        changes=dict(sorted(row["changes"].items())),
        reason=row["reason"],
        fingerprint=row["fingerprint"],
        created_at=_instant(row["created_at"]),
        dispatched_at=dispatched_at and _instant(dispatched_at),
        closed_at=closed_at and _instant(closed_at),
        deadline=_instant(row["deadline"]),
    )


def alerts(rows: Sequence[Mapping[str, Any]]) -> tuple[Alert, ...]:
    """Returns the alerts in rows from the server."""
    return tuple(
        Alert(
            row["kind"],
            row["budget"],
            json.loads(row["labels"]),
            None if row["threshold"] is None else Decimal(row["threshold"]),
            from_nanos(row["cap"]),
            from_nanos(row["used"]),
            row["currency"],
            _instant(row["window_end"]),
            row["reservation_id"],
            row["detail"],
        )
        for row in rows
    )


def change(row: Mapping[str, Any]) -> Change:
    """Returns the effect of a verb in a row from the server."""
    return Change(reservation(row["reservation"]), alerts(row["alerts"]))


def change_or_uncompared(row: Mapping[str, Any], seen: Observation | None = None) -> Change | Uncompared:
    """Returns the effect of a verb in a row from the server, or the observations to compare first.

    Args:
        row: the row.
        seen: the caller's own observation, which is meant if the row lists no other observations.
    """
    if "uncompared" not in row:
        return change(row)
    listed = tuple((stored["id"], observation(stored)) for stored in row["uncompared"])
    return Uncompared(reservation(row["reservation"]), listed if seen is None or listed else ((0, seen),))


def comparison_text(compared: Comparison) -> str:
    """Returns a comparison as JSON."""
    return _dumps(_comparison(compared))


def comparisons_text(compared: Mapping[int, Comparison]) -> str:
    """Returns comparisons by the number of their observation, as JSON."""
    return _dumps({str(number): _comparison(comparison) for number, comparison in compared.items()})


def facts_text(facts: Mapping[str, Any]) -> str | None:
    """Returns the facts of an observation as JSON; None: there are none."""
    return _dumps(dict(facts)) if facts else None


def _comparison(compared: Comparison) -> list[str | None]:
    made = None if compared.made is None else format_decimal(compared.made)
    return [made, compared.remark]


def shortfalls(rows: Sequence[Mapping[str, Any]]) -> tuple[Shortfall, ...]:
    """Returns the shortfalls in rows from the server."""
    return tuple(
        Shortfall(
            row["budget"],
            json.loads(row["labels"]),
            row["requested"],
            row["available"],
            row["max_request"],
            row["currency"],
            FOREVER.end if row["window_end"] is None else _instant(row["window_end"]),
            row["may_cap"],
            rolling_length(row["step_us"]),
            row.get("covered", 0),
        )
        for row in rows
    )


def assumed_text(assumed: Assumed) -> str:
    """Returns amounts by bucket and by allowance as JSON."""
    return _dumps(
        [
            {"allowance": name, "nanos": nanos}
            if isinstance(name, str)
            else {"budget": name[0], "labels": dict(name[1]), "nanos": nanos}
            for name, nanos in assumed.items()
        ]
    )


def rooms(rows: Sequence[Mapping[str, Any]]) -> tuple[Room, ...]:
    """Returns the balances in rows from the server."""
    return tuple(
        Room(
            row["budget"],
            json.loads(row["labels"]),
            row["cap"],
            int(row["held"]),
            int(row["spent"]),
            row["max_request"],
            row["currency"],
            _instant(row["window_start"]),
            _instant(row["window_end"]),
            rolling_length(row["step_us"]),
        )
        for row in rows
    )


def observation(row: Mapping[str, Any]) -> Observation:
    """Returns the observation in a row from the server."""
    return Observation(
        row["provider"],
        row["task_id"],
        row["state"],
        read_charge(row["charge"]),
        _decimal(row["duration_s"]),
        row["model"],
        dict(sorted((row["facts"] or {}).items())),
        _instant(row["seen_at"]),
    )


def bucket(row: Mapping[str, Any]) -> tuple[str, Bucket]:
    """Returns the bucket in a row from the server, with its budget's definition."""
    cap, held, spent = row["cap"], row["held"], row["spent"]
    return (
        row["definition"],
        Bucket(
            row["budget"],
            json.loads(row["labels"]),
            from_nanos(cap),
            from_nanos(held),
            from_nanos(spent),
            from_nanos(cap - held - spent),
            row["currency"],
            _instant(row["window_start"]),
            _instant(row["window_end"]),
            rolling_length(row["step_us"]),
        ),
    )


def counts_text(counts: Sequence[UnpricedRequests]) -> str:
    """Returns numbers of requests without a price as JSON."""
    return _dumps([count._asdict() | {"day": count.day.isoformat()} for count in counts])


def unpriced(row: Mapping[str, Any]) -> UnpricedRequests:
    """Returns a number of requests without a price in a row from the server."""
    return UnpricedRequests(row["provider"], row["path"], date.fromisoformat(row["day"]), row["requests"])


def window(row: Sequence[str]) -> ScheduledWindow:
    """Returns the window of the calendar in a row from the server."""
    schedule, start, end, zone_data = row
    return ScheduledWindow(schedule, Period(_instant(start), _instant(end)), zone_data)


def history(row: Mapping[str, Any]) -> BucketHistory:
    """Returns the bucket in a row from the server, with the journal entries that changed its balance."""
    definition, shown = bucket(row)
    bucket_columns = {name: row[name] for name in ("budget", "labels", "currency")}
    return BucketHistory(
        shown, definition, tuple(entry(entry_row | bucket_columns) for entry_row in row["entries"])
    )


def entry(row: Mapping[str, Any]) -> Entry:
    """Returns the journal entry in a row from the server."""
    return Entry(
        row["seq"],
        _instant(row["at"]),
        row["kind"],
        row["reservation"],
        row["budget"],
        json.loads(row["labels"] or "{}"),
        from_nanos(row["held_delta"]),
        from_nanos(row["spent_delta"]),
        row["currency"],
        row["detail"],
        row.get("allowance"),
        None if row["billed"] is None else from_nanos(row["billed"]),
    )


def action(row: Mapping[str, Any]) -> AdministrativeAction:
    """Returns the administrative action in a row from the server."""
    fields = dict(row) | {name: read_value(row[name]) for name in ("old", "new")}
    return AdministrativeAction(**fields | {"at": _instant(row["at"])})


def cap_overlay(row: Mapping[str, Any]) -> CapOverlay:
    """Returns the cap until an instant in a row from the server."""
    set_at, until = (_instant(row[name]) for name in ("set_at", "ends_at"))
    return CapOverlay(row["budget"], from_nanos(row["cap"]), set_at, until, row["actor"], row["reason"])


def _decimal(number: Decimal | int | None) -> Decimal | None:
    return None if number is None else Decimal(number)


def _instant(written: str) -> datetime:
    return datetime.fromisoformat(written)
