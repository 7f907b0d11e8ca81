"""What every hook decides: pass, send, or refuse; and what an answer means for the money set aside.

It knows no client: HTTP comes in and goes out as plain data, and each client's file only translates.
A submission takes two steps, one before it is sent and one after; either may run in any thread.
"""

from __future__ import annotations

import logging
import shlex
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Literal, TypedDict, Unpack
from urllib.parse import urljoin

from kling_pricing.display import shown
from kling_pricing.errors import (
    KlingPricingError,
    LedgerUnavailableError,
    ReservationNotFoundError,
    ReservationStateError,
    WireFormatError,
)
from kling_pricing.guard import BudgetGuard
from kling_pricing.guard.async_guard import AsyncBudgetGuard
from kling_pricing.guard.responses import read_answer
from kling_pricing.hooks.bodies import Body, read_body
from kling_pricing.hooks.error_responses import refusal
from kling_pricing.hooks.http_messages import Answer, Outgoing, Response, Send, Ticket
from kling_pricing.hooks.identity import KEY_HEADER, Identity, Labels, identity
from kling_pricing.hooks.resend import sent_again
from kling_pricing.hooks.routes import Routes, TaskEndpoint, UnlistedPath
from kling_pricing.hooks.task_updates import observe_answer
from kling_pricing.ledger.model import Ref, Reservation
from kling_pricing.quoting.intake import format_at
from kling_pricing.tables.http_rules import HttpRules, Idempotency
from kling_pricing.wire.endpoints import Endpoint
from kling_pricing.wire.formats import wire_format as wire_format_named

_log = logging.getLogger("kling_pricing.hooks")

_MAX_ROUNDS = 3
"""How often a job is admitted anew because another price came into force before it could be sent."""

_MAX_UNRECORDED = 10_000
"""So many answers that the ledger could not take are kept in memory to be noted later."""

SAME_REQUEST_ELSEWHERE = {307, 308}
"""Redirects after which a client sends the same request to another place."""


class Options(TypedDict, total=False):
    """What every hook takes beside its guard.

    Attributes:
        project: whose requests go through it, where neither a scope nor `labels` says otherwise.
        labels: what else budgets may match; or a function that tells it of a request, `project` and `key`
            among it.
        hosts: further hosts, with a port or without (`{"gw.example.com": "qingbo"}`), -> who bills there.
        keeps_keys: whether those further hosts honour the idempotency key of the provider's API, and are one
            system with each other and with the provider's own hosts. Only then is a job sent a second time that
            may have been accepted, by a hook with further hosts of that provider.
        allow_paths: paths that may be posted to though jobs are billed there that nobody can price here, such
            as `["/v1/images"]`; what is below them as well.
        sends_once: whether what sends in the end repeats nothing by itself, so that a refusal or a failed
            connection is believed. By default that is known of the client library's own transports and adapters
            alone.
        refusals: `raise` an error where the guard refuses (the default), or `respond` as the API would, with
            402 for a budget and 400 for a request that is not valid or has no price.
        key_header: the header in which callers name a job; by default `Idempotency-Key`.
        send_reservation_id: whether to put the reservation's id into the field that the API keeps for names of
            the caller's own, if it has one, so that a lost task can be looked up by it.
    """

    project: str | None
    labels: Labels | None
    hosts: Mapping[str, str]
    keeps_keys: bool
    allow_paths: Sequence[str]
    sends_once: bool
    refusals: Literal["raise", "respond"]
    key_header: str
    send_reservation_id: bool


class Hook:
    """Decides for one client.

    Raises:
        KlingPricingError: an option cannot be used.
    """

    def __init__(self, guard: BudgetGuard | AsyncBudgetGuard, **options: Unpack[Options]) -> None:
        self._guard = guard.guard if isinstance(guard, AsyncBudgetGuard) else guard
        if not isinstance(self._guard, BudgetGuard):
            raise KlingPricingError(f"a hook needs a BudgetGuard, got {shown(guard)}")
        unknown = options.keys() - Options.__annotations__.keys()
        if unknown:
            known = ", ".join(Options.__annotations__)
            raise KlingPricingError(f"unknown option {min(unknown)!r}; a hook takes {known}")
        if options.get("refusals", "raise") not in {"raise", "respond"}:
            raise KlingPricingError(f"refusals must be 'raise' or 'respond', got {shown(options['refusals'])}")
        _check(options)
        self._options = options
        self._key_header = options.get("key_header", KEY_HEADER)
        self._book = self._guard.book
        self._routes = Routes(self._book, options.get("hosts", {}), options.get("allow_paths", ()))
        self._unrecorded: deque[Callable[[], object]] = deque(maxlen=_MAX_UNRECORDED)

    @property
    def max_concurrency(self) -> int:
        """How many steps its ledger carries out at the same time; more wait for their turn."""
        return self._guard.max_concurrency

    def sends_once(self, *, known: bool) -> bool:
        """Whether what sends repeats nothing by itself, as the caller says or as is known of it."""
        return self._options.get("sends_once", known)

    def route(self, method: str, url: str) -> Endpoint | UnlistedPath | TaskEndpoint | None:
        """What a request is; None: nothing of ours, to be passed on untouched and unread."""
        return self._routes.find(method.upper(), url)

    # a submission

    def submission(self, endpoint: Endpoint | UnlistedPath, request: Outgoing) -> Callable[[], Send | Answer]:
        """The step before a submission is sent, to be run in any thread.

        Whose it is is found out now, in the caller's own task or thread.
        """
        if isinstance(endpoint, UnlistedPath):
            return partial(self._refuse, endpoint.error(request.method), self._rules(endpoint.wire_format))
        try:
            whose = identity(
                request, self._options.get("project"), self._options.get("labels"), self._key_header
            )
        except KlingPricingError as error:
            return partial(self._refuse, error, self._rules(endpoint.wire_formats[0]))
        return partial(self._prepare, endpoint, request, whose)

    def answered(self, ticket: Ticket, response: Response, *, sent_once: bool = True) -> Answer | None:
        """The step after a submission was answered.

        Nothing that goes wrong with the ledger here is raised: the caller needs the provider's answer.

        Args:
            ticket: of the submission.
            response: what the provider answered.
            sent_once: whether the client surely sent it no more than once.

        Returns:
            What the caller is to be answered instead; None: what the provider did.

        Raises:
            KlingPricingError: the client is told to send it to a place that is not guarded.
        """
        rules = self._rules(ticket.wire_format)
        if 200 <= response.status < 300:  # noqa: PLR2004 (what HTTP calls success)
            self._note(ticket, partial(self._accepted, ticket, response.body), response.body)
            return None
        code = rules.error_code(_json_or_none(response.body))
        reason = f"HTTP {response.status}" + (f" {code}" if code else "")
        if rules.refuses(response.status, code) and sent_once:
            self._note(ticket, partial(self._free, ticket, reason))
        else:
            self._note(ticket, partial(self._guard.mark_in_doubt, ticket.reservation_id, reason))
        if response.status in SAME_REQUEST_ELSEWHERE:
            target = urljoin(ticket.url, response.headers.get("location", ""))
            if not isinstance(self._routes.find("POST", target), Endpoint):
                error = KlingPricingError(
                    "the provider redirects the submission to a host that is not guarded, or to a path where "
                    "none is known to be made, so it was not followed; name that host in hosts, or post to it "
                    "yourself"
                )
                return self._refuse(error, rules)
        return None

    def failed(
        self, ticket: Ticket, error: BaseException, *, connected: bool = True, sent_once: bool = True
    ) -> None:
        """The step after a submission had no answer: it is in doubt, unless no connection was ever made.

        Args:
            ticket: of the submission.
            error: that came in place of an answer.
            connected: whether there may have been a connection over which it was sent.
            sent_once: as for `answered`.
        """
        record: Callable[[], object]
        if not connected and sent_once:
            record = partial(self._free, ticket, "no connection")
        else:
            record = partial(self._guard.mark_in_doubt, ticket.reservation_id, "no answer")
        _log.debug("no answer to reservation %s: %r", ticket.reservation_id, type(error))
        self._note(ticket, record)

    def withdraw(self, decision: Send | Answer) -> None:
        """Gives back what was set aside for a submission that was certainly not sent after all."""
        if isinstance(decision, Send):
            self._take_back(decision.ticket)

    # a question about a task

    def on_task_answer(self, endpoint: TaskEndpoint, response: Response) -> None:
        """Takes in what the provider said of a task, if it is one of ours; never raises.

        Other people's tasks at the same host are nothing that the ledger needs to know.
        """
        if response.status != 200:  # noqa: PLR2004 (what is said of a task comes with this alone)
            return
        record = partial(self._hear, endpoint, response.body)
        try:
            self._catch_up()
            record()
        except LedgerUnavailableError as error:
            if len(self._unrecorded) < _MAX_UNRECORDED // 2:  # the rest is kept for submissions
                self._unrecorded.append(record)
            _log.warning("what %s said of a task is noted later: %s", endpoint.provider, error)
        except KlingPricingError as error:
            _log.warning("what %s said of a task was not noted: %s", endpoint.provider, error)
        except Exception:  # noqa: BLE001 (the caller needs the answer, whatever went wrong)
            _log.exception("what %s said of a task was not noted", endpoint.provider)

    def _hear(self, endpoint: TaskEndpoint, body: bytes) -> None:
        found = self._reservation(endpoint, body)
        if found is not None:
            observe_answer(self._guard, found, body)

    def _reservation(self, endpoint: TaskEndpoint, body: bytes) -> Reservation | None:
        """Whose task it is: by the provider's name for it, by the reservation's id, or by the answer's own."""
        names: list[Ref] = [(endpoint.provider, endpoint.task_id), endpoint.task_id]
        with suppress(WireFormatError):
            answer = read_answer(body)
            tasks = (
                wire_format_named(name).read_task(answer)
                for name in self._book.formats.get(endpoint.provider, ())
            )
            names += [(endpoint.provider, task.task_id) for task in tasks if task.task_id][:1]
        for ref in names:
            with suppress(ReservationNotFoundError):
                return self._guard.reservation(ref)
        return None

    # inside

    def _prepare(self, endpoint: Endpoint, request: Outgoing, whose: Identity) -> Send | Answer:
        rules = self._rules(endpoint.wire_formats[0])
        try:
            self._catch_up()
            body = read_body(request.body, request.headers)
            name, _ = format_at(endpoint, body.payload, self._book, endpoint.provider)
            rules = self._rules(name)
            if body.form_type is not None and not rules.forms:
                raise WireFormatError(f"{name} is not known to take forms; send JSON", wire_format=name)
            _check_files(body, name)
            ticket, payload = self._admit(endpoint, request, whose, body.payload, name)
        except KlingPricingError as error:
            return self._refuse(error, rules)
        try:
            return self._send(ticket, body, payload, rules)
        except BaseException:
            self._take_back(ticket)
            raise

    def _admit(
        self, endpoint: Endpoint, request: Outgoing, whose: Identity, payload: Mapping[str, Any], name: str
    ) -> tuple[Ticket, Mapping[str, Any]]:
        """The reservation of a submission, dispatched, and what to send for it."""
        for _ in range(_MAX_ROUNDS):
            try:
                admission = self._guard.admit(
                    payload,
                    project=whose.project,
                    key=whose.key,
                    labels=whose.labels,
                    provider=endpoint.provider,
                    wire_format=name,
                    url=request.url,
                )
                dispatched = self._guard.dispatch(admission)
            except ReservationStateError as error:
                refused = error
                if error.state == "released":
                    continue
                key = self._idempotency(endpoint.provider, name)
                if key is None and self._rules(name).idempotency is not None:
                    error.add_note(
                        "it may be sent again if the hosts given keep keys as the API does: keeps_keys=True"
                    )
                again = sent_again(self._guard, error, payload, key)
                if again is not None:
                    return _ticket(again[0], request), again[1]
            else:
                return _ticket(admission.reservation, request), dispatched
        raise refused

    def _send(self, ticket: Ticket, body: Body, payload: Mapping[str, Any], rules: HttpRules) -> Send:
        own_id = rules.own_id_field if self._options.get("send_reservation_id") else None
        if own_id is not None and payload.get(own_id) is None:
            payload = {**payload, own_id: ticket.reservation_id}
        headers = {}
        if rules.idempotency is not None:  # in place of the caller's own: one reservation is one task there
            headers[rules.idempotency.header] = ticket.reservation_id
        return Send(body.written(payload), headers, ticket)

    def _take_back(self, ticket: Ticket) -> None:
        self._note(ticket, partial(self._free, ticket, "not sent"))

    def _free(self, ticket: Ticket, reason: str) -> None:
        """Gives back what was set aside for a submission of which nothing came, for certain.

        Unless it was sent more than once, from here or elsewhere: the ledger knows, for it is in doubt then.
        """
        try:
            self._guard.release_refused(ticket.reservation_id, reason)
        except ReservationStateError as error:
            _log.info("%s, but nothing is given back: %s", reason, error)

    def _accepted(self, ticket: Ticket, body: bytes) -> None:
        try:
            self._guard.observe(
                body,
                provider=ticket.provider,
                reservation=ticket.reservation_id,
                wire_format=ticket.wire_format,
            )
        except LedgerUnavailableError:
            raise
        except KlingPricingError as error:
            _log.warning("reservation %s was answered, but: %s", ticket.reservation_id, error)
            self._guard.mark_in_doubt(ticket.reservation_id, "answered without a task")

    def _note(self, ticket: Ticket, record: Callable[[], object], body: bytes = b"") -> None:
        """Records what became of a submission; never raises, because the caller needs the provider's answer."""
        try:
            record()
        except LedgerUnavailableError as error:
            self._unrecorded.append(record)
            _log.error(
                "what became of reservation %s could not be noted%s: %s; "
                "it is tried again with this hook's next request",
                ticket.reservation_id,
                _task_in_words(ticket, body),
                error,
            )
        except Exception:  # noqa: BLE001 (the caller needs the provider's answer, whatever went wrong)
            _log.exception(
                "what became of reservation %s could not be noted%s",
                ticket.reservation_id,
                _task_in_words(ticket, body),
            )

    def _catch_up(self) -> None:
        """Notes what could not be noted before."""
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
                _log.warning("an answer that came while the ledger was away does not fit any more: %s", error)

    def _idempotency(self, provider: str | None, wire_format: str) -> Idempotency | None:
        """How a job may be sent again that may have been accepted; None: not at all.

        Hosts that are not the provider's own keep its keys only if somebody says so; and as it is not written
        down to which host a job went first, one of them is enough to doubt it.
        """
        if provider in self._routes.further and not self._options.get("keeps_keys", False):
            return None
        return self._rules(wire_format).idempotency

    def _rules(self, wire_format: str) -> HttpRules:
        return self._book.matrices[wire_format].http

    def _refuse(self, error: KlingPricingError, rules: HttpRules) -> Answer:
        if self._options.get("refusals", "raise") == "raise":
            raise error
        return refusal(error, rules)


def _check_files(body: Body, wire_format: str) -> None:
    """Refuses a file in the place of a text: its name was read, and its content may be taken for the text.

    Raises:
        WireFormatError: there is one.
    """
    if not body.files:
        return
    media = {each.url for each in wire_format_named(wire_format).parse(body.payload).media}
    for field in sorted(body.files):
        if body.payload[field] not in media:
            raise WireFormatError(
                f"{field!r} is sent as a file, and is none; send it as text",
                wire_format=wire_format,
                field=field,
            )


def _check(options: Mapping[str, Any]) -> None:
    """Refuses options of another kind than they must be.

    Raises:
        KlingPricingError: one is.
    """
    project, labels = options.get("project"), options.get("labels")
    if project is not None and not isinstance(project, str):
        raise KlingPricingError(f"project must be text, got {shown(project)}")
    if labels is not None and not isinstance(labels, Mapping) and not callable(labels):
        raise KlingPricingError(f"labels must be a mapping, or a function that tells one, got {shown(labels)}")
    header = options.get("key_header", KEY_HEADER)
    if not isinstance(header, str) or not header.strip():
        raise KlingPricingError(f"key_header must be the name of a header, got {shown(header)}")
    for name in ("keeps_keys", "sends_once", "send_reservation_id"):
        if not isinstance(options.get(name, False), bool):
            raise KlingPricingError(f"{name} must be True or False, got {shown(options.get(name))}")


def _ticket(reservation: Reservation, request: Outgoing) -> Ticket:
    return Ticket(reservation.id, reservation.provider, reservation.wire_format, request.url)


def _json_or_none(body: bytes) -> Any:
    try:
        return read_answer(body)
    except KlingPricingError:
        return None


def _task_in_words(ticket: Ticket, body: bytes) -> str:
    """The task of an answer for a message, with the command that notes it by hand; empty: it names none."""
    try:
        task_id = wire_format_named(ticket.wire_format).read_task(read_answer(body)).task_id
    except KlingPricingError:
        return ""
    return f" (`kling-pricing bind {ticket.reservation_id} {shlex.quote(task_id)}`)" if task_id else ""
