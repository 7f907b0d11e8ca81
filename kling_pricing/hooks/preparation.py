"""The decision before a submission is sent: it is read, admitted and dispatched, or it is refused."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from kling_pricing.errors import (
    KlingPricingError,
    ReservationNotFoundError,
    ReservationStateError,
    WireFormatError,
)
from kling_pricing.guard import BudgetGuard
from kling_pricing.guard.references import is_reservation_id
from kling_pricing.hooks.bodies import Body, read_body
from kling_pricing.hooks.error_responses import refuse
from kling_pricing.hooks.file_facts import MEDIA_HEADER, media_facts
from kling_pricing.hooks.hook_options import Options
from kling_pricing.hooks.http_messages import (
    ApprovedSubmission,
    ErrorResponse,
    OutgoingRequest,
    PendingSubmission,
)
from kling_pricing.hooks.identity import Identity
from kling_pricing.hooks.mcp import SubmittingCall
from kling_pricing.hooks.payload_places import CallbackSealing, text_at, with_text
from kling_pricing.hooks.recording import Recorder
from kling_pricing.hooks.resend import resend
from kling_pricing.hooks.routes import Routes
from kling_pricing.ledger.model import Reservation
from kling_pricing.quoting.format_choice import format_at
from kling_pricing.tables.http_rules import HttpRules, Idempotency
from kling_pricing.wire.endpoints import Endpoint
from kling_pricing.wire.formats import wire_format as wire_format_named
from kling_pricing.wire.media import MediaLike

_MAX_ROUNDS = 3
"""How often a job is admitted again because a new price took effect before its dispatch."""


class Preparation:
    """Prepares the submissions of one hook.

    Args:
        guard: admits and dispatches.
        recorder: releases a reservation whose submission fails before it is sent.
        options: the hook's options.
        routes: the hook's hosts and paths.
        sealing: replaces the URLs for callbacks; None: they stay as they are.
    """

    def __init__(
        self,
        guard: BudgetGuard,
        recorder: Recorder,
        options: Options,
        routes: Routes,
        sealing: CallbackSealing | None = None,
    ) -> None:
        self._guard = guard
        self._recorder = recorder
        self._options = options
        self._routes = routes
        self._sealing = sealing

    def prepare(
        self,
        endpoint: Endpoint,
        request: OutgoingRequest,
        identity: Identity,
        call: SubmittingCall | None = None,
    ) -> ApprovedSubmission | ErrorResponse:
        """Reserves the money of a submission and dispatches it.

        Args:
            endpoint: the endpoint that takes the payload.
            request: the request.
            identity: its project, key and labels.
            call: the MCP tool call in the request; None: the request's body is the payload.

        Returns:
            The request to send, or a refusal if the option `refusals` is `respond`.

        Raises:
            KlingPricingError: the submission is refused, and `refusals` is `raise`.
        """
        rules = self._rules(endpoint.wire_formats[0])
        try:
            self._recorder.catch_up()
            body = read_body(request.body, request.headers) if call is None else call
            wire_format, _ = format_at(endpoint, body.payload, self._guard.book, endpoint.provider)
            rules = self._rules(wire_format)
            if body.form_type is not None and not rules.forms:
                raise WireFormatError(
                    f"{wire_format} is not known to accept forms; send JSON", wire_format=wire_format
                )
            _check_files(body, wire_format)
            self._check_own_id(body.payload, rules)
            callback_url = text_at(body.payload, rules.callback_field)
            if self._sealing is not None and callback_url:
                self._sealing.check(callback_url)
            media = self._media(request, body.payload, wire_format)
            pending, payload = self._dispatch(endpoint, request, identity, body.payload, wire_format, media)
        except KlingPricingError as error:
            return refuse(error, rules, self._options)
        try:
            return self._approve(pending._replace(reply=call and call.reply), body, payload, rules)
        except BaseException:
            self._recorder.record_unsent(pending)
            raise

    def _dispatch(
        self,
        endpoint: Endpoint,
        request: OutgoingRequest,
        identity: Identity,
        payload: Mapping[str, Any],
        wire_format: str,
        media: MediaLike | None,
    ) -> tuple[PendingSubmission, Mapping[str, Any]]:
        """Admits and dispatches a job, or resends it under its key, and returns the payload to send."""
        for _ in range(_MAX_ROUNDS):
            try:
                admission, dispatched = self._guard.admit_and_dispatch(
                    payload,
                    project=identity.project,
                    key=identity.key,
                    labels=identity.labels,
                    account=self._routes.account(request.url),
                    provider=endpoint.provider,
                    wire_format=wire_format,
                    media=media,
                    url=self._routes.admission_url(endpoint, request.url),
                )
            except ReservationStateError as error:
                refusal = error
                if error.state == "released":
                    continue
                account = self._routes.account(request.url) or endpoint.provider
                resent = self._resend(error, payload, endpoint.provider, account, wire_format)
                if resent is not None:
                    reservation, dispatched_before = resent
                    return _pending(reservation, request), dispatched_before
            else:
                return _pending(admission.reservation, request), dispatched
        raise refusal

    def _resend(
        self,
        error: ReservationStateError,
        payload: Mapping[str, Any],
        provider: str | None,
        account: str | None,
        wire_format: str,
    ) -> tuple[Reservation, Mapping[str, Any]] | None:
        """Prepares to resend a job, if its provider and the hosts in `hosts` honour idempotency keys.

        The ledger does not record which host a job was sent to. So one host that may not honour keys is enough
        to prevent resending, even to the provider's own hosts.
        """
        idempotency: Idempotency | None = self._rules(wire_format).idempotency
        if provider in self._routes.extra_providers and not self._options.get("keeps_keys", False):
            if idempotency is not None:
                error.add_note(
                    "Hosts listed in `hosts` are not assumed to honour idempotency keys; if these hosts "
                    "honour the keys and share a backend with the provider, set `keeps_keys=True`."
                )
            idempotency = None
        return resend(self._guard, error, payload, account, idempotency)

    def _media(
        self, request: OutgoingRequest, payload: Mapping[str, Any], wire_format: str
    ) -> MediaLike | None:
        """Returns the known facts about the files of a payload; None: the caller gives none."""
        option = self._options.get("media")
        if option is None and MEDIA_HEADER not in request.headers:
            return None
        files = wire_format_named(wire_format).parse(payload).media
        return media_facts(option, request.headers, [file.url for file in files])

    def _approve(
        self,
        pending: PendingSubmission,
        body: Body | SubmittingCall,
        payload: Mapping[str, Any],
        rules: HttpRules,
    ) -> ApprovedSubmission:
        own_id, callback = rules.own_id_field, rules.callback_field
        if own_id and self._options.get("send_reservation_id") and not text_at(payload, own_id):
            payload = with_text(payload, own_id, pending.reservation_id)
        if self._sealing is not None and (url := text_at(payload, callback)):
            payload = with_text(payload, callback, self._sealing.sealed(url, pending.reservation_id))
        content, headers = body.sent(payload, rules.idempotency, pending.reservation_id)
        return ApprovedSubmission(content, headers, pending)

    def _check_own_id(self, payload: Mapping[str, Any], rules: HttpRules) -> None:
        """Refuses an own id that is the id of a reservation, whose job the API's responses would then name.

        Raises:
            WireFormatError: a reservation has this id.
        """
        own_id = text_at(payload, rules.own_id_field)
        if not is_reservation_id(own_id):
            return
        with suppress(ReservationNotFoundError):
            self._guard.reservation(own_id)
            field = ".".join(rules.own_id_field)
            raise WireFormatError(
                f"{field} is the id of a reservation; choose another id of your own, or leave it out",
                field=field,
            )

    def _rules(self, wire_format: str) -> HttpRules:
        return self._guard.book.matrices[wire_format].http


def _check_files(body: Body | SubmittingCall, wire_format: str) -> None:
    """Refuses a file in a text field: its name was priced, but the API may read its content.

    Raises:
        WireFormatError: a text field is sent as a file.
    """
    if not body.files:
        return
    media = {item.url for item in wire_format_named(wire_format).parse(body.payload).media}
    for field in sorted(body.files):
        if body.payload[field] not in media:
            raise WireFormatError(
                f"{field!r} is not a file field, but was sent as a file; send it as text",
                wire_format=wire_format,
                field=field,
            )


def _pending(reservation: Reservation, request: OutgoingRequest) -> PendingSubmission:
    return PendingSubmission(
        reservation.id, reservation.provider, reservation.wire_format, request.url, reservation
    )
