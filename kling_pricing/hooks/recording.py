"""Recording in the ledger how submissions ended, and what the provider answers about tasks.

A caller always gets the provider's response, so nothing here raises. A record that fails because the ledger is
unavailable is kept in memory, and the hook tries it again with its next request.
"""

from __future__ import annotations

import logging
import shlex
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from kling_pricing.errors import KlingPricingError, LedgerUnavailableError, ReservationStateError
from kling_pricing.guard import BudgetGuard
from kling_pricing.guard.responses import read_answer
from kling_pricing.hooks.http_messages import PendingSubmission, ProviderResponse, TaskEndpoint
from kling_pricing.hooks.task_updates import observe_task_answer
from kling_pricing.strict_json import RequestLike
from kling_pricing.tables.http_rules import HttpRules
from kling_pricing.wire.formats import wire_format as wire_format_named

_log = logging.getLogger("kling_pricing.hooks")

_MAX_UNRECORDED = 10_000
"""The highest number of records kept in memory while the ledger is unavailable."""

_OK = 200
"""The only status with which a provider describes a task."""


class Recorder:
    """Records the ends of submissions, and answers about tasks.

    Args:
        guard: the guard whose ledger gets the records.
    """

    def __init__(self, guard: BudgetGuard) -> None:
        self._guard = guard
        self._unrecorded: deque[Callable[[], object]] = deque(maxlen=_MAX_UNRECORDED)

    def record_response(
        self, pending: PendingSubmission, response: ProviderResponse, rules: HttpRules, *, sent_once: bool
    ) -> None:
        """Binds the task of a 2xx, releases a definite refusal, and marks every other response in doubt.

        Some APIs refuse with a 2xx whose body has an error's code. A body that names a task is no refusal.

        Args:
            pending: the submission.
            response: the provider's response.
            rules: the API's rules; they state which responses are definite refusals.
            sent_once: whether the client is known to have sent the request at most once.
        """
        answer = _json_or_none(response.body)
        error = rules.error_in(answer)
        refused = rules.refuses(response.status, error.code, error.message)
        if 200 <= response.status < 300 and not (refused and _task_id(pending, response.body) is None):  # noqa: PLR2004 (success in HTTP)
            code = "" if error.code in {None, "0", "success"} else f" ({error.code})"
            self._record(pending, partial(self._bind, pending, answer or response.body, code), response.body)
            return
        reason = f"HTTP {response.status}" + (f" {error.code}" if error.code else "")
        self._record_end(pending, reason, refused=sent_once and refused)

    def record_failure(
        self, pending: PendingSubmission, error: BaseException, *, connected: bool, sent_once: bool
    ) -> None:
        """Releases a submission that never had a connection, and marks any other without a response in doubt.

        Args:
            pending: the submission.
            error: the exception that the client raised.
            connected: whether a connection may have existed over which the request was sent.
            sent_once: whether the client is known to have sent the request at most once.
        """
        _log.debug("reservation %s got no response: %r", pending.reservation_id, type(error))
        refused = sent_once and not connected
        self._record_end(pending, "no connection" if refused else "no response", refused=refused)

    def record_unsent(self, pending: PendingSubmission) -> None:
        """Releases a submission that was certainly not sent."""
        self._record_end(pending, "not sent", refused=True)

    def record_task_answer(self, endpoint: TaskEndpoint, response: ProviderResponse) -> None:
        """Records an answer about a task, if the task is in the ledger."""
        if response.status != _OK:
            return
        record = partial(observe_task_answer, self._guard, endpoint, response.body)
        try:
            self.catch_up()
            record()
        except LedgerUnavailableError as error:
            if len(self._unrecorded) < _MAX_UNRECORDED // 2:  # the other half is for submissions
                self._unrecorded.append(record)
            _log.warning(
                "could not record a task response from %s: %s; this hook will try again with its next request",
                endpoint.provider,
                error,
            )
        except KlingPricingError as error:
            _log.warning("did not record a task response from %s: %s", endpoint.provider, error)
        except Exception:  # noqa: BLE001 (the caller needs the provider's answer in any case)
            _log.exception("did not record a task response from %s", endpoint.provider)

    def catch_up(self) -> None:
        """Makes the records that failed before, in their order, until the ledger is unavailable again."""
        while self._unrecorded:
            try:
                record = self._unrecorded.popleft()
            except IndexError:  # another thread was faster
                return
            try:
                record()
            except LedgerUnavailableError:
                self._unrecorded.appendleft(record)
                return
            except KlingPricingError as error:
                _log.warning("dropped a response that was received while the ledger was unavailable: %s", error)

    def _record_end(self, pending: PendingSubmission, reason: str, *, refused: bool) -> None:
        if refused:
            self._record(pending, partial(self._release, pending, reason))
        else:
            self._record(pending, partial(self._guard.mark_in_doubt, pending.reservation_id, reason))

    def _record(
        self, pending: PendingSubmission, record: Callable[[], object], response_body: bytes = b""
    ) -> None:
        try:
            record()
        except LedgerUnavailableError as error:
            self._unrecorded.append(record)
            _log.error(
                "could not record the outcome of submitting reservation %s%s: %s; "
                "this hook will try again with its next request",
                pending.reservation_id,
                _bind_command(pending, response_body),
                error,
            )
        except Exception:  # noqa: BLE001 (the caller needs the provider's response in any case)
            _log.exception(
                "could not record the outcome of submitting reservation %s%s",
                pending.reservation_id,
                _bind_command(pending, response_body),
            )

    def _release(self, pending: PendingSubmission, reason: str) -> None:
        """Releases a refused submission, unless the ledger shows that it was sent more than once."""
        try:
            self._guard.release_refused(pending.reservation_id, reason)
        except ReservationStateError as error:
            _log.info("the submission ended (%s), but the amount stays held: %s", reason, error)

    def _bind(self, pending: PendingSubmission, body: RequestLike, code: str) -> None:
        """Binds the task that a successful response names; a response without one leaves the job in doubt."""
        try:
            self._guard.observe(
                body,
                provider=pending.provider,
                reservation=pending.reservation_id,
                wire_format=pending.wire_format,
            )
        except LedgerUnavailableError:
            raise
        except KlingPricingError as error:
            _log.warning("could not bind reservation %s to a task: %s", pending.reservation_id, error)
            self._guard.mark_in_doubt(pending.reservation_id, f"response without a task{code}")


def _json_or_none(body: bytes) -> Any:
    try:
        return read_answer(body)
    except KlingPricingError:
        return None


def _task_id(pending: PendingSubmission, body: bytes) -> str | None:
    """Returns the task that a response names; None: it names none, or cannot be read."""
    try:
        return wire_format_named(pending.wire_format).read_task(read_answer(body)).task_id
    except KlingPricingError:
        return None


def _bind_command(pending: PendingSubmission, body: bytes) -> str:
    """Returns the command that binds a response's task by hand; empty: the response does not name a task."""
    task_id = _task_id(pending, body)
    return (
        (f" (to bind it, run `kling-pricing bind {pending.reservation_id} {shlex.quote(task_id)}`)")
        if task_id
        else ""
    )
