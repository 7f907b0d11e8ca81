"""How values go to the server and come back exactly: numbers as `Decimal` or int, never as float."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from kling_pricing.ledger.journal import Bucket, BucketHistory, Entry
from kling_pricing.ledger.model import (
    Alert,
    BucketClaim,
    Change,
    Observation,
    PricedVariant,
    Reservation,
    ReservationRequest,
    Shortfall,
)
from kling_pricing.ledger.terms import read_terms, written_terms
from kling_pricing.money import format_decimal, from_nanos

_decode = json.JSONDecoder(parse_float=Decimal).decode
_dumps = json.JSONEncoder(separators=(",", ":")).encode
_sorted_dumps = json.JSONEncoder(separators=(",", ":"), sort_keys=True).encode


def loads(data: str | bytes) -> Any:
    """JSON of the server; its numbers stay exact."""
    return _decode(data if isinstance(data, str) else data.decode())


def order_text(order: ReservationRequest) -> str:
    """An order as JSON; what budgets say is not sent, the ledger has it."""
    return _dumps(
        {
            "project": order.project,
            "key": order.key,
            "fingerprint": order.fingerprint,
            "provider": order.provider,
            "wire_format": order.wire_format,
            "labels": dict(order.labels),
            "may_be_unmatched": order.may_be_unmatched,
            "budgets": order.budgets,
            "holds": [order.holds.start.isoformat(), order.holds.end.isoformat()],
            "claims": [_claim(each) for each in order.claims],
        }
    )


def claim_text(claim: BucketClaim) -> str:
    """A claim as JSON."""
    return _dumps(_claim(claim))


def candidates_text(candidates: Sequence[PricedVariant]) -> str:
    """Candidates as JSON."""
    return _dumps([_candidate(each) for each in candidates])


def candidate_text(candidate: PricedVariant) -> str:
    """A candidate as JSON."""
    return _dumps(_candidate(candidate))


def text(number: Decimal | None) -> str | None:
    """A number that is not money of the ledger's own counting, exactly."""
    return None if number is None else format_decimal(number)


def _claim(claim: BucketClaim) -> dict[str, Any]:
    return {
        "budget": claim.budget,
        "definition": claim.definition,
        "labels": _sorted_dumps(dict(claim.labels)),
        "periods": [[each.start.isoformat(), each.end.isoformat()] for each in claim.periods],
        "rate": text(claim.rate),
    }


def _candidate(candidate: PricedVariant) -> dict[str, Any]:
    terms = candidate.terms
    return {
        "changes": dict(candidate.changes),
        "terms": dict(zip(terms._fields, written_terms(terms), strict=True)),
        "reserved": candidate.reserved,
        "amounts": candidate.amounts,
    }


def reservation(row: Mapping[str, Any]) -> Reservation:
    """Returns the reservation in a row that the server shows."""
    dispatched_at, closed_at, billed = row["dispatched_at"], row["closed_at"], row["billed"]
    return Reservation(
        id=row["id"],
        project=row["project"],
        key=row["key"],
        attempt=row["attempt"],
        state=row["state"],
        in_doubt=row["in_doubt"],
        provider=row["provider"],
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


def alerts(kept: Sequence[Mapping[str, Any]]) -> tuple[Alert, ...]:
    """Alerts that the server tells of."""
    return tuple(
        Alert(
            each["kind"],
            each["budget"],
            json.loads(each["labels"]),
            None if each["threshold"] is None else Decimal(each["threshold"]),
            from_nanos(each["cap"]),
            from_nanos(each["used"]),
            each["currency"],
            _instant(each["window_end"]),
            each["reservation_id"],
        )
        for each in kept
    )


def change(kept: Mapping[str, Any]) -> Change:
    """What a verb did."""
    return Change(reservation(kept["reservation"]), alerts(kept["alerts"]))


def shortfalls(kept: Sequence[Mapping[str, Any]]) -> tuple[Shortfall, ...]:
    """The buckets without room."""
    return tuple(
        Shortfall(
            each["budget"],
            json.loads(each["labels"]),
            each["requested"],
            each["available"],
            each["max_request"],
            each["currency"],
            _instant(each["window_end"]),
            each["may_cap"],
        )
        for each in kept
    )


def observation(kept: Mapping[str, Any]) -> Observation:
    """What was observed."""
    return Observation(
        kept["provider"],
        kept["task_id"],
        kept["state"],
        _decimal(kept["amount"]),
        kept["amount_unit"],
        _decimal(kept["duration_s"]),
        kept["model"],
        _instant(kept["seen_at"]),
    )


def bucket(kept: Mapping[str, Any]) -> tuple[str, Bucket]:
    """A bucket, with its budget's definition."""
    cap, held, spent = kept["cap"], kept["held"], kept["spent"]
    return (
        kept["definition"],
        Bucket(
            kept["budget"],
            json.loads(kept["labels"]),
            from_nanos(cap),
            from_nanos(held),
            from_nanos(spent),
            from_nanos(cap - held - spent),
            kept["currency"],
            _instant(kept["window_start"]),
            _instant(kept["window_end"]),
        ),
    )


def history(kept: Mapping[str, Any]) -> BucketHistory:
    """A bucket, with the entries that moved it."""
    definition, shown = bucket(kept)
    of_bucket = {name: kept[name] for name in ("budget", "labels", "currency")}
    return BucketHistory(shown, definition, tuple(entry(each | of_bucket) for each in kept["entries"]))


def entry(kept: Mapping[str, Any]) -> Entry:
    """An entry of the journal."""
    return Entry(
        kept["seq"],
        _instant(kept["at"]),
        kept["kind"],
        kept["reservation"],
        kept["budget"],
        json.loads(kept["labels"] or "{}"),
        from_nanos(kept["held_delta"]),
        from_nanos(kept["spent_delta"]),
        kept["currency"],
        kept["detail"],
    )


def _decimal(number: Decimal | int | None) -> Decimal | None:
    return None if number is None else Decimal(number)


def _instant(written: str) -> datetime:
    return datetime.fromisoformat(written)
