"""Dispatch: hands out a payload once, and closes an admission."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from kling_pricing.errors import KlingPricingError, ReservationStateError
from kling_pricing.guard.admission import Admission, QuoteOptions, admit
from kling_pricing.guard.settlement import mark_in_doubt, release
from kling_pricing.guard.state import GuardState
from kling_pricing.strict_json import RequestLike


def admit_and_dispatch(
    state: GuardState,
    payload: RequestLike,
    project: str,
    key: str | None,
    labels: Mapping[str, str] | None,
    options: QuoteOptions,
) -> tuple[Admission, dict[str, Any]]:
    """Admits a request and hands out its payload; see `BudgetGuard.admit_and_dispatch`."""
    admission = admit(state, payload, project, key, labels, options, sends_at_once=True)
    if admission.reservation.state == "dispatching":
        return admission, admission._give_out()  # noqa: SLF001 (only this module calls it)
    return admission, dispatch(state, admission)


def dispatch(state: GuardState, admission: Admission) -> dict[str, Any]:
    """Hands out the payload of an admission; see `BudgetGuard.dispatch`."""
    changes_at = state.book.next_change(admission.quote.provider, admission.reservation.created_at)
    if changes_at is not None and changes_at <= state.clock():
        released = release(state, admission, "a new price took effect")
        raise ReservationStateError(
            f"a new price took effect after reservation {released.id} was quoted; admit the request again",
            reservation_id=released.id,
            state=released.state,
        )
    state.ledger.dispatch(admission.reservation_id, doubtful_after=state.doubtful_after)
    return admission._give_out()  # noqa: SLF001 (only this module calls it)


def close_admission(state: GuardState, admission: Admission, error: BaseException | None) -> None:
    """Releases an admission or marks it in doubt; see `BudgetGuard.close_admission`."""
    try:
        if admission.dispatched and error is not None:
            mark_in_doubt(state, admission, type(error).__name__)
        elif not admission.dispatched and not admission.replayed:
            with suppress(ReservationStateError):  # another caller has dispatched it in the meantime
                release(state, admission, "not dispatched" if error is None else type(error).__name__)
    except KlingPricingError as failure:
        if error is None:
            raise
        error.add_note(f"reservation {admission.reservation_id} is unchanged: {failure}")
