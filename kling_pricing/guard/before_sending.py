"""Before a request is sent: its money is set aside, and its payload given out once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any, Unpack
from uuid import uuid4

from kling_pricing.errors import KlingPricingError, LedgerError, LedgerUnavailableError, ReservationStateError
from kling_pricing.guard.admissions import Admission, QuoteOptions
from kling_pricing.guard.after_sending import AfterSending
from kling_pricing.guard.core import MAX_ROUNDS, InForce
from kling_pricing.guard.fingerprint import fingerprint
from kling_pricing.guard.reservation_requests import (
    exceeded,
    limits,
    priced_variant,
    reservation_request,
    snapshot,
)
from kling_pricing.ledger.model import Mistimed, Outdated, Refused, Reserved
from kling_pricing.ledger.redaction import checked_labels, short_text
from kling_pricing.quoting.engine import quote
from kling_pricing.quoting.quote import Quote
from kling_pricing.quoting.variants import CheaperVariant, ReadOptions, cheaper_variants
from kling_pricing.strict_json import RequestLike
from kling_pricing.wire.formats import wire_format as wire_format_named


class BeforeSending(AfterSending):
    """The verbs from admission to dispatch; see `BudgetGuard`."""

    def admit(
        self,
        payload: RequestLike,
        *,
        project: str,
        key: str | None = None,
        labels: Mapping[str, str] | None = None,
        **said: Unpack[QuoteOptions],
    ) -> Admission:
        """Sets aside what a request will cost, in every budget that matches it, or refuses it.

        Where a budget caps, a request that does not fit may be changed: see `Admission.changes`.
        A range is reserved at its maximum; amounts are rounded up to what the provider's statement can show.

        Args:
            payload: the request, as a mapping or as JSON text or bytes; it is not changed.
            project: whose request it is.
            key: the caller's name for the job, unique in its project. Admitting it again gives the same
                reservation while it is unsent, a new attempt after a release, and never a second job.
                By default each call is a job of its own.
            labels: what else budgets may match.
            said: as for `quote`: provider, wire_format, media, allow_unknown, url.

        Raises:
            BudgetExceededError: it does not fit; nothing was set aside, and a later try may succeed.
            BudgetError: a budget counts in another currency than the quote.
            IdempotencyError: the key stands for another request.
            ReservationStateError: the key's job was sent already; it carries the task.
            LedgerUnavailableError: the ledger cannot be used, so nothing may be spent.
            KlingPricingError: as for `quote`: the request is not valid, or its price is not known.
        """
        body = snapshot(payload)
        named = checked_labels(project, labels)
        named_key = uuid4().hex if key is None else short_text("key", key)
        for _ in range(MAX_ROUNDS):
            now = self._clock()
            try:
                original = quote(body, at=now, book=self._book, **said)
            except KlingPricingError:
                if key is not None:
                    self._refuse_what_was_sent(project, key)
                raise
            answer, options = self._reserve(body, original, project, named_key, named, said, now)
            if isinstance(answer, Reserved):
                self._tell(answer.alerts)
                return self._admission(answer, body, options, said)
            if isinstance(answer, Outdated):
                self._in_force = InForce.of(answer.revision)
                reason = "the ledger's budgets change faster than a request can be reserved; try again"
            else:
                reason = (
                    f"the clock here says {now.isoformat()}, the ledger's {answer.now.isoformat()}, when other "
                    "windows or prices hold; set the clock of this machine"
                )
        raise LedgerUnavailableError(reason)

    def _reserve(
        self,
        body: Mapping[str, Any],
        original: Quote,
        project: str,
        key: str,
        labels: Mapping[str, str],
        said: QuoteOptions,
        now: datetime,
    ) -> tuple[Reserved | Outdated | Mistimed, list[CheaperVariant]]:
        """Reserves a request as it is, or else the best variant that fits.

        Returns:
            The ledger's answer, and the requests among which it chose.

        Raises:
            BudgetExceededError: nothing fits.
        """
        in_force, wanted = self._by_budgets(
            lambda by: reservation_request(
                original,
                project=project,
                key=key,
                mark=fingerprint(
                    body,
                    original.provider,
                    original.request.format_and_model,
                    [each.url for each, _ in original.request.media],
                ),
                labels=labels,
                budgets=by.budgets,
                revision=by.digest,
                at=now,
                priced_until=self._book.next_change(original.provider, now),
            )
        )
        options = [CheaperVariant({}, body, original)]
        answer = self._ledger.reserve(
            wanted, [priced_variant(original, {}, wanted)], expires_after=self._expires_after
        )
        if isinstance(answer, Refused) and answer.may_be_capped:
            reading = ReadOptions(
                self._book,
                original.wire_format,
                said.get("media"),
                said.get("allow_unknown", False),
                said.get("url"),
            )
            options += cheaper_variants(body, original, limits(in_force.budgets, labels), reading, now)
            candidates = [priced_variant(each.quote, each.changes, wanted) for each in options]
            answer = self._ledger.reserve(wanted, candidates, expires_after=self._expires_after)
        if isinstance(answer, Refused):
            variants = [priced_variant(each.quote, each.changes, wanted) for each in options[1:]]
            cheapest = min(variants, key=lambda each: each.expected, default=None)
            raise exceeded(answer, original, wanted, cheapest)
        return answer, options

    def dispatch(self, admission: Admission) -> dict[str, Any]:
        """Gives out the payload to send, once: the caller that gets it, and no other, is to submit it.

        Raises:
            ReservationStateError: it was given out before, is released, has expired, or another price came into
                force since; then it is released now, and can be admitted again.
            LedgerUnavailableError: the ledger cannot be used, so nothing may be sent.
        """
        changes = self._book.next_change(admission.quote.provider, admission.reservation.created_at)
        if changes is not None and changes <= self._clock():
            found = self.release(admission, "another price came into force")
            raise ReservationStateError(
                f"reservation {found.id} was quoted before another price came into force; admit it again",
                reservation_id=found.id,
                state=found.state,
            )
        self._ledger.dispatch(admission.reservation_id, doubtful_after=self._doubtful_after)
        admission._given_out.append(True)  # noqa: SLF001 (its only writer)
        return dict(admission._payload)  # noqa: SLF001 (its only reader)

    def pre_submit(
        self,
        payload: RequestLike,
        *,
        project: str,
        key: str | None = None,
        labels: Mapping[str, str] | None = None,
        **said: Unpack[QuoteOptions],
    ) -> dict[str, Any]:
        """The smallest hook: admits a request and gives out what to send, or raises as `admit` does.

        Give a `key`: by it `history` finds the reservation, which is to be bound to the task of the answer.
        """
        return self.dispatch(self.admit(payload, project=project, key=key, labels=labels, **said))

    @contextmanager
    def admission(
        self,
        payload: RequestLike,
        *,
        project: str,
        key: str | None = None,
        labels: Mapping[str, str] | None = None,
        **said: Unpack[QuoteOptions],
    ) -> Iterator[Admission]:
        """Admits a request for the length of a `with` block, and leaves nothing unsaid when the block ends.

        What was not dispatched by then is released. What was dispatched in the block when an exception leaves
        it, and is not bound to a task, is in doubt: it may be running. A reservation that the key had before is
        left to whoever made it.
        """
        admitted = self.admit(payload, project=project, key=key, labels=labels, **said)
        try:
            yield admitted
        except BaseException as error:
            self.close_admission(admitted, error)
            raise
        self.close_admission(admitted)

    def close_admission(self, admitted: Admission, error: BaseException | None = None) -> None:
        """Ends an admission as `admission` does at the end of its block.

        Args:
            admitted: what `admit` gave.
            error: the exception that ended the work, if one did; should the ledger fail now, it gets a note.
        """
        sent = bool(admitted._given_out)  # noqa: SLF001 (its only reader)
        try:
            if sent and error is not None:
                self.mark_in_doubt(admitted, type(error).__name__)
            elif not sent and not admitted.replayed:
                with suppress(ReservationStateError):  # somebody else dispatched it meanwhile
                    self.release(admitted, "not dispatched" if error is None else type(error).__name__)
        except KlingPricingError as failure:
            if error is None:
                raise
            error.add_note(f"and its reservation {admitted.reservation_id} is as it was: {failure}")

    def _admission(
        self, answer: Reserved, body: Mapping[str, Any], options: list[CheaperVariant], said: QuoteOptions
    ) -> Admission:
        """The admission of a reservation: what to send is the payload with the changes that it keeps."""
        reserved = answer.reservation
        chosen = next((each for each in options if each.changes == reserved.changes), None)
        if answer.replayed or chosen is None:
            given: QuoteOptions = {**said, "provider": reserved.provider, "wire_format": reserved.wire_format}
            payload = wire_format_named(reserved.wire_format).amend(body, reserved.changes)
            quoted = quote(payload, at=reserved.created_at, book=self._book, **given)
            chosen = CheaperVariant(reserved.changes, payload, quoted)
        if chosen.quote.maximum > reserved.reserved:
            raise LedgerError(
                f"reservation {reserved.id} was made when the request cost less; release it, and admit it again"
            )
        return Admission(reserved, chosen.quote, answer.replayed, chosen.payload)

    def _refuse_what_was_sent(self, project: str, key: str) -> None:
        """Tells that a key's job was sent: that matters more than that it could not be quoted again."""
        for found in self.history(project=project, key=key)[-1:]:
            if found.state not in {"reserved", "released"}:
                raise ReservationStateError(
                    f"key {key!r} was used for reservation {found.id}, which is {found.state}",
                    reservation_id=found.id,
                    state=found.state,
                    task_id=found.task_id,
                )
