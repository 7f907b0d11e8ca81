"""One simulated provider: its paths, its account, the lives of its tasks, and its bill."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any

from kling_pricing.errors import KlingPricingError
from kling_pricing.sandbox.accounts import Account, part_from
from kling_pricing.sandbox.call_outcomes import Outcome
from kling_pricing.sandbox.callbacks import Callbacks
from kling_pricing.sandbox.clock import RehearsalClock, from_ms
from kling_pricing.sandbox.exchange import Call, DeclinedError, Reply, to_json
from kling_pricing.sandbox.exports import plant
from kling_pricing.sandbox.faces import Face, StatementRow, new_face
from kling_pricing.sandbox.jobs import Job, Records
from kling_pricing.sandbox.keeping import kept_of
from kling_pricing.sandbox.keys import check_key
from kling_pricing.sandbox.mcp_calls import answer_message, poll_asked_for
from kling_pricing.sandbox.payloads import payload_of
from kling_pricing.sandbox.plans import Plan, PlannedFault, apply_faults
from kling_pricing.sandbox.rating import Rated
from kling_pricing.sandbox.reading import Reading
from kling_pricing.sandbox.reception import Reception, planned_error
from kling_pricing.sandbox.result_files import served_file
from kling_pricing.sandbox.scenario import Scenario
from kling_pricing.sandbox.served_paths import (
    SubmissionPath,
    formats_of,
    priced_by,
    segments_of,
    submission_paths,
    task_at,
    task_paths,
)
from kling_pricing.tables.price_book import PriceBook

_HOUR_MS, _DAY_MS = 3600 * 1000, 24 * 3600 * 1000
_OK = 200


class RehearsedProvider:
    """One simulated provider.

    Args:
        name: the provider's name in the price book.
        book: the price book.
        scenario: the scenario.
        records: the jobs, bills and statements.
        clock: the sandbox's clock.
        callbacks: sends callbacks.
        base: the URL of the provider in the sandbox.

    Raises:
        KlingPricingError: no price table prices the provider's API.
    """

    def __init__(
        self,
        name: str,
        book: PriceBook,
        scenario: Scenario,
        records: Records,
        clock: RehearsalClock,
        callbacks: Callbacks,
        base: str,
    ) -> None:
        self.name = name
        self.base = base
        self._book, self._scenario, self._records = book, scenario, records
        self._clock, self._callbacks = clock, callbacks
        self._entry = scenario.account(name)
        self._account = Account(self._entry)
        self._faults: deque[PlannedFault] = deque()
        self.priced_by = self._entry.prices or priced_by(name, book)
        formats = formats_of(name, book)
        self.faces = {
            wire_format: new_face(wire_format, book.matrices[wire_format], name) for wire_format in formats
        }
        matrices = [book.matrices[wire_format] for wire_format in formats]
        self._reception = Reception(book, scenario, name, self.priced_by, self.faces)
        self._submissions = submission_paths(matrices)
        self._statuses = task_paths(matrices)

    # the methods of `Desk`, for the faces

    @property
    def now_ms(self) -> int:
        """The time on the sandbox's clock, in milliseconds since 1970."""
        return self._clock.now_ms()

    def find(self, name: str, *, external: bool = False) -> Job | None:
        """Returns a task by its id, or by the caller's own id."""
        return self._records.find(self.name, name, by="external_id" if external else "id")

    def newest(
        self,
        keep: Callable[[Job], bool],
        *,
        before: int | None = None,
        since_ms: int = 0,
        until_ms: int = 2**62,
    ) -> Iterator[Job]:
        """Yields the tasks, the newest first; see `Records.newest`."""
        return self._records.newest(self.name, keep, before=before, since_ms=since_ms, until_ms=until_ms)

    def delete(self, job: Job) -> None:
        """Hides a task from all further requests; its charge stays on the bill."""
        job.details["deleted"] = True
        self._records.save(job)

    def states_charge(self, job: Job) -> bool:
        """Returns whether responses state the charge for a job."""
        stated = job.details["states_charge"]
        return self._entry.states_charge if stated is None else bool(stated)

    def has_result(self, job: Job) -> bool:
        """Returns whether the result of a job can still be downloaded."""
        return self.now_ms < job.updated_ms + self._entry.results_days * _DAY_MS

    def face(self, job: Job) -> Face:
        """Returns the face of the API that a job was submitted to."""
        return self.faces[job.face]

    def estimate(self, payload: Mapping[str, Any], wire_format: str) -> Rated:
        """Returns the price of a payload without creating a task.

        Raises:
            DeclinedError: the API refuses the payload.
        """
        path = next(
            path for paths in self._submissions.values() for path in paths if path.wire_format == wire_format
        )
        reading = self.faces[wire_format].read(payload)
        return self._reception.rated(path, reading, Plan(), from_ms(self.now_ms))[0]

    def rows(self, since_ms: int, until_ms: int) -> Iterable[StatementRow]:
        """Yields the rows of the statement for a period."""
        for job, at_ms, _, parts, changes in self._records.rows(self.name, since_ms, until_ms):
            if parts:
                job.details |= changes
                yield StatementRow(job, at_ms, [part_from(part) for part in parts])

    # requests

    def fail_next(self, faults: Iterable[PlannedFault]) -> None:
        """Assigns one entry to each of the next submissions, in addition to the faults in the scenario.

        Raises:
            FaultError: a word is not a valid fault; nothing is assigned.
        """
        planned = [*faults]
        for fault in planned:
            apply_faults(Plan(), fault.words)
        self._faults += planned

    def handle(self, call: Call) -> Outcome:
        """Answers a request."""
        accepting = self._submissions.get(call.path, ()) if call.method == "POST" else ()
        face = self.faces[accepting[0].wire_format if accepting else next(iter(self.faces))]
        try:
            check_key(self._entry.api_key, self._entry.secret_key, call.headers)
            if (outcome := self._message(call)) is not None:
                return outcome
            if accepting:
                return self._submit(call, accepting)
            for each in self.faces.values():
                if (reply := each.route(call, self)) is not None:
                    return Outcome(reply)
            return Outcome(self._about_a_task(call))
        except DeclinedError as error:
            return Outcome(face.decline(error))

    def _message(self, call: Call) -> Outcome | None:
        """Answers a message to an MCP endpoint; None: the request is not such a message."""
        for face in self.faces.values():
            rules, (main, *_) = face.matrix.http.mcp, face.matrix.submissions
            if rules is not None and call.method == "POST" and rules.pattern.matches(segments_of(call.path)):
                paths = (main.status or "", main.cancel or "")
                reply, answer = answer_message(call, rules, paths, self._answered)
                return Outcome(reply, answer, poll=poll_asked_for(call, reply, rules))
        return None

    def _answered(self, call: Call) -> tuple[Reply, str]:
        outcome = self.handle(call)
        return outcome.reply, outcome.answer

    def _about_a_task(self, call: Call) -> Reply:
        if call.path.startswith("/_files/") and call.method == "GET":
            return served_file(call.path.removeprefix("/_files/"), self)
        found = task_at(self._statuses, call.method, call.path)
        if found is None and call.method == "POST":
            for face in self.faces.values():
                if any(free.matches(segments_of(call.path)) for free in face.matrix.http.free):
                    return Reply(_OK, face.free(call))
        if found is None:
            raise DeclinedError("not_found", f"unknown endpoint: {call.method} {call.path}")
        wire_format, kind, task_id = found
        face = self.faces[wire_format]
        job = self.find(task_id)
        if job is None and self._book.matrices[wire_format].http.own_id_field is not None:
            job = self.find(task_id, external=True)
        if job is None:
            return face.decline(
                DeclinedError(
                    "task_not_found" if "task_not_found" in face.CODES else "not_found", "Task not found"
                )
            )
        if kind == "cancel":
            return self._cancelled(job)
        return Reply(_OK, self.face(job).task(job, self))

    def _cancelled(self, job: Job) -> Reply:
        face = self.face(job)
        if job.state != "queued":
            return face.decline(DeclinedError("not_cancellable", "the task is no longer queued"))
        self.finish(job, self.now_ms, "cancelled")
        body: Any = getattr(face, "cancelled", face.task)(job, self)
        return Reply(_OK, body)

    def _submit(self, call: Call, accepting: tuple[SubmissionPath, ...]) -> Outcome:
        first = accepting[0]
        forms = self._book.matrices[first.wire_format].http.forms
        payload = payload_of(call.body, call.headers, forms=forms)
        number = self._records.next_number()
        plan = self._plan(number, payload)
        outcome = self._planned(call, accepting, payload, plan, number)
        if plan.body is None and not plan.headers:
            return outcome
        reply = outcome.reply
        body = reply.body if plan.body is None else plan.body
        return outcome._replace(reply=Reply(reply.status, body, {**reply.headers, **plan.headers}))

    def _planned(
        self,
        call: Call,
        accepting: tuple[SubmissionPath, ...],
        payload: dict[str, Any],
        plan: Plan,
        number: int,
    ) -> Outcome:
        first = accepting[0]
        if not plan.arrives:
            return Outcome(Reply(_OK, b""), plan.answer)
        if plan.status is not None and not plan.accepts:
            return Outcome(self.faces[first.wire_format].decline(planned_error(plan)), plan.answer)
        if (job := self._replayed(call, first.wire_format)) is not None:
            return Outcome(Reply(_OK, self.face(job).created(job, self)), plan.answer, job)
        path, reading = self._reception.read(payload, accepting)
        face = self.faces[path.wire_format]
        try:
            job = self._accepted(call, path, reading, plan, number)
        except DeclinedError as error:
            return Outcome(face.decline(error))
        if plan.status is not None:
            return Outcome(face.decline(planned_error(plan)), plan.answer)
        named = job
        if plan.duplicate_id:
            named = self._records.last_before(job) or job
        return Outcome(Reply(_OK, face.created(named, self)), plan.answer, named)

    def _plan(self, number: int, payload: Any) -> Plan:
        plan = self._scenario.plan(self.name, number, payload)
        if self._faults:
            fault = self._faults.popleft()
            apply_faults(plan, fault.words)
            plan.headers, plan.body = dict(fault.headers), fault.body
        return plan

    def _replayed(self, call: Call, wire_format: str) -> Job | None:
        """Returns the earlier task with the request's idempotency key; None: there is none."""
        rules = self._book.matrices[wire_format].http.idempotency
        key = call.headers.get(rules.header.lower(), "") if rules is not None else ""
        job = self._records.find(self.name, key, by="key") if key else None
        if job is None or rules is None or job.created_ms + rules.hours * _HOUR_MS <= self.now_ms:
            return None
        return job

    def _accepted(self, call: Call, path: SubmissionPath, reading: Reading, plan: Plan, number: int) -> Job:
        """Creates the task of a submission.

        Raises:
            DeclinedError: the API refuses the submission; no task is created.
        """
        now_ms, matrix, face = self.now_ms, self._book.matrices[path.wire_format], self.faces[path.wire_format]
        rated, facts = self._reception.rated(path, reading, plan, from_ms(now_ms))
        if reading.external_id and self.find(reading.external_id, external=True) is not None:
            raise DeclinedError("exists", "external_task_id already exists")
        limit = self._entry.concurrency
        if limit is not None and self._records.unfinished(self.name) >= limit:
            raise DeclinedError("concurrency", "parallel task over resource pack limit")
        parts = self._account.take(rated, face.PACK, plan)
        queue_s, run_s = self._scenario.times_s(self.name)
        start_ms = now_ms + queue_s * 1000
        idempotency = matrix.http.idempotency
        job = Job(
            number=number,
            provider=self.name,
            id=face.new_id(number, self._scenario.seed),
            face=path.wire_format,
            path=path.path,
            external_id=reading.external_id,
            key=call.headers.get(idempotency.header.lower(), "") if idempotency else "",
            created_ms=now_ms,
            start_ms=start_ms,
            end_ms=start_ms + (run_s + plan.delay_s) * 1000,
            updated_ms=now_ms,
            details=kept_of(facts, reading, rated, plan, face, path),
        )
        job.details["parts"] = [part.written() for part in parts]
        job.details["callback_url"] = reading.callback_url or self._entry.callback_url or ""
        if path.status is None:  # the response contains the result, so there are no callbacks
            job.end_ms = job.start_ms = now_ms
            job.details["callback_url"] = ""
        self._records.add(job)
        self.announce(job)
        while job.next_ms is not None and job.next_ms <= now_ms:
            self.move_on(job)
        return job

    # the lives of tasks

    def move_on(self, job: Job) -> None:
        """Makes the next change of a job's state, at the time at which it is due."""
        if job.state == "queued":
            job.state, job.updated_ms = "processing", job.start_ms
            self._records.save(job)
            self.announce(job)
        else:
            self.finish(job, job.end_ms, job.details["outcome"])

    def finish(self, job: Job, at_ms: int, state: str, amount: str | None = None) -> None:
        """Ends a job, and adds its charge to the bill or refunds it.

        Args:
            job: the job.
            at_ms: the time at which the job ends.
            state: the final state.
            amount: the amount to charge, in the unit of the charge's first part; None: as planned.

        Raises:
            KlingPricingError: the job has already ended.
        """
        if job.is_final:
            raise KlingPricingError(
                f"the task {job.id} has already ended ({job.state}); choose an unfinished one"
            )
        job.state, job.updated_ms, job.end_ms = state, at_ms, at_ms
        details = job.details
        details["charged"] = self._is_charged(job)
        if amount is not None:
            details["parts"] = [part_from(details["parts"][0]).counted(Decimal(amount)).written()]
            details["charged"] = bool(Decimal(amount))
        self._records.save(job)
        if details["charged"]:
            self._records.book(job, at_ms, "charge")
        else:
            self._account.give_back([part_from(part) for part in details["parts"]])
        plant(self._records, job, at_ms)
        self.announce(job)

    def _is_charged(self, job: Job) -> bool:
        if job.state != "failed":
            return job.state == "succeeded"
        if job.details["charged_failure"] is not None:
            return bool(job.details["charged_failure"])
        return (self._entry.failed_tasks or job.details["failed_tasks"]) == "charged"

    def announce(self, job: Job, url: str = "", state: str | None = None, times: int | None = None) -> None:
        """Sends a callback about a job to `url` or the job's own callback URL, if there is one.

        The state in the callback is `state` if it is given, else that of the job. The callback is sent `times`
        times with the same id, or as often as the scenario says if `times` is None.
        """
        address = url or job.details["callback_url"]
        if not address:
            return
        shown, job.state = job.state, state or job.state
        face = self.face(job)
        body = to_json(face.callback(job, self)).encode()
        job.state = shown
        secret = self._entry.webhook_secret if face.SIGNS else None
        self._callbacks.send(address, body, secret, times=times or 1 + self._entry.callbacks_twice)

    def as_dict(self) -> dict[str, Any]:
        """Returns a description of the provider, with the remaining amounts of its account."""
        left = self._account.as_dict()
        return {"url": self.base, "wire_formats": [*self.faces], "prices": self.priced_by, "left": left}
