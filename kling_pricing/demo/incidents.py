"""What goes wrong in the made-up month, and what the guard makes of it; each function returns its figures."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

from kling_pricing.demo.stories import DemoJob, JobMaker, PartEntry
from kling_pricing.demo.studio import ACTOR, DemoStudio, as_order
from kling_pricing.errors import KlingPricingError
from kling_pricing.ledger import connect
from kling_pricing.ledger.actions import Author
from kling_pricing.ledger.granting import Allowance, Grant
from kling_pricing.ledger.model import Reservation
from kling_pricing.money import sum_of

REFUSED = 402
"""The HTTP status of a refused job."""

_HOUR, _MINUTE = timedelta(hours=1), timedelta(minutes=1)
_MAX_ATTEMPTS = 100
_PATIENCE_S, _PAUSE_S = 60, 1 / 50


class ResentJob(NamedTuple):
    """A job whose response got lost, or whose script was killed, and that was sent again with the same key.

    Attributes:
        job: the job.
        held: the amount that the ledger held after the first attempt.
        reservation: the reservation after the second attempt.
        tasks: the number of tasks that the provider made of both attempts.
    """

    job: DemoJob
    held: Decimal
    reservation: Reservation
    tasks: int


async def lose_an_answer(studio: DemoStudio, maker: JobMaker, at: datetime, part: PartEntry) -> ResentJob:
    """Loses the response to a submission; its script then sends the job again with the same key."""
    job, before = maker.job(at, part), studio.tasks(studio.script.route_of(part.project))
    studio.sandbox.fail_next(studio.script.route(job.route).provider, "lost-answer")
    first = (await studio.submit(job)).reservation
    studio.pass_by(_MINUTE)
    await studio.send(job)
    return _resent(studio, job, first, before)


async def kill_a_script(studio: DemoStudio, maker: JobMaker, at: datetime, part: PartEntry) -> ResentJob:
    """Kills a script, a process of its own, while its submission is on the way, and starts it again."""
    job = maker.job(at, part)
    studio.jobs[job.project, job.key] = job
    studio.move_to(at)
    provider, before = studio.script.route(job.route).provider, studio.tasks(job.route)
    studio.sandbox.fail_next(provider, "hold")
    with _lone_script(studio, job) as script:
        try:
            await _until(lambda: studio.tasks(job.route) > before or script.poll() is not None)
        finally:
            script.kill()
    first = studio.reservation(job)
    studio.sandbox.resume()
    studio.pass_by(_MINUTE)
    with _lone_script(studio, job) as script:
        try:
            await _until(lambda: script.poll() is not None)
        finally:
            script.kill()
    return _resent(studio, job, first, before)


def _lone_script(studio: DemoStudio, job: DemoJob) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", f"{__package__}.lone_script"]
    quiet: Any = subprocess.DEVNULL
    script = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=quiet, stderr=quiet)  # noqa: S603
    assert script.stdin is not None  # noqa: S101 (it is a pipe)
    script.stdin.write(json.dumps(as_order(studio, job)).encode())
    script.stdin.close()
    return script


async def _until(condition: Callable[[], bool]) -> None:
    """Waits until a condition of the other process holds.

    Raises:
        KlingPricingError: it does not hold within a minute.
    """
    until = time.monotonic() + _PATIENCE_S
    while not condition():
        if time.monotonic() > until:
            raise KlingPricingError("the demo's script did not end within a minute; start the demo again")
        await asyncio.sleep(_PAUSE_S)


def _resent(studio: DemoStudio, job: DemoJob, first: Reservation | None, before: int) -> ResentJob:
    if first is None:
        raise KlingPricingError(
            f"the guard refused the job {job.key} of the demo; raise the caps of its budgets"
        )
    now = studio.reservation(job)
    return ResentJob(job, first.reserved, now, studio.tasks(job.route) - before)


class DoubtfulJobs(NamedTuple):
    """Jobs in doubt, and their outcomes.

    Attributes:
        jobs: the number of jobs.
        held: the amount that stayed held for them.
        settled: the number of jobs that the provider had accepted.
        charged: their sum.
        unknown: the number of jobs that the provider does not know, whose money a person released.
    """

    jobs: int
    held: Decimal
    settled: int
    charged: Decimal
    unknown: int


async def leave_in_doubt(
    studio: DemoStudio, maker: JobMaker, at: datetime, part: PartEntry, *faults: str
) -> list[DemoJob]:
    """Sends jobs whose connections break, each with a fault of the sandbox, and returns them."""
    jobs = [maker.job(at + number * _MINUTE, part) for number in range(len(faults))]
    for job, fault in zip(jobs, faults, strict=True):
        studio.sandbox.fail_next(studio.script.route(job.route).provider, fault)
        await studio.submit(job)
    return jobs


async def doubt(studio: DemoStudio, maker: JobMaker, at: datetime, part: PartEntry) -> DoubtfulJobs:
    """Breaks three connections of the server; two of the jobs arrive. Finds out about each job."""
    sent = await leave_in_doubt(studio, maker, at, part, "lost-answer", "lost-answer", "lost-request")
    jobs = [studio.reservation(job) for job in sent]
    doubtful = [reservation for reservation in jobs if reservation.in_doubt]
    studio.pass_by(_HOUR)
    studio.ask()
    now = [studio.reservation(job) for job in sent]
    settled = [reservation.billed for reservation in now if reservation.billed is not None]
    unknown = [reservation for reservation in now if reservation.in_doubt]
    for reservation in unknown:
        studio.guard.resolve(reservation, "not_charged")
    return DoubtfulJobs(
        len(doubtful),
        sum_of(reservation.reserved for reservation in doubtful),
        len(settled),
        sum_of(settled),
        len(unknown),
    )


async def fail(studio: DemoStudio, maker: JobMaker, at: datetime, part: PartEntry) -> Reservation:
    """Sends a job whose task fails, asks about it, and returns its reservation."""
    job = maker.job(at, part, "[fail:moderation]")
    await studio.submit(job)
    studio.ask()
    return studio.reservation(job)


class Overspending(NamedTuple):
    """Jobs that were sent until a budget had nothing left.

    Attributes:
        passed: the number of jobs that passed unchanged.
        changed: the number of jobs that the guard made cheaper.
        changes: the settings that the guard changed, each with the number of jobs.
        refused: the number of jobs that were refused.
        last: the last job, which was refused.
    """

    passed: int
    changed: int
    changes: dict[str, int]
    refused: int
    last: DemoJob


async def overspend(
    studio: DemoStudio, maker: JobMaker, at: datetime, part: PartEntry, *, refusals: int
) -> Overspending:
    """Sends job after job, every few minutes, until so many have been refused.

    Raises:
        KlingPricingError: fewer were refused; the caps of the demo are too high.
    """
    sent: list[Reservation] = []
    changes: dict[str, int] = {}
    refused = 0
    for number in range(_MAX_ATTEMPTS):
        job = maker.job(at + number * 3 * _MINUTE, part)
        outcome = await studio.submit(job)
        if outcome.reservation is not None:
            sent.append(outcome.reservation)
            for name in outcome.reservation.changes:
                changes[name] = changes.get(name, 0) + 1
        elif outcome.status == REFUSED:
            refused += 1
        if refused == refusals:
            changed = sum(bool(reservation.changes) for reservation in sent)
            return Overspending(len(sent) - changed, changed, changes, refused, job)
    raise KlingPricingError(f"no budget of the demo refused the jobs of {part.user}; lower its caps")


class AllowedJob(NamedTuple):
    """A refused job that passed with an allowance.

    Attributes:
        attempts: the jobs before it.
        allowance: the allowance, as it was granted.
        reservation: the job's reservation.
    """

    attempts: Overspending
    allowance: Allowance
    reservation: Reservation


async def allow(studio: DemoStudio, maker: JobMaker, at: datetime, part: PartEntry) -> AllowedJob:
    """Spends until a job is refused, asks for an allowance for this job, grants it, and sends the job again."""
    attempts = await overspend(studio, maker, at, part, refusals=1)
    job, script = attempts.last, studio.script
    asked = studio.guard.acting_as(part.user).ask(
        job.payload,
        project=job.project,
        key=job.key,
        labels={"user": job.user},
        reason=script.reason,
        url=studio.sandbox.url(script.route(job.route).provider) + script.route(job.route).path,
        provider=script.route(job.route).provider,
    )
    store = connect(studio.ledger, clock=studio.clock)
    try:
        until = studio.clock.now + timedelta(days=1)
        grant = Grant(asked.project, asked.amount, asked.currency, asked.budgets, asked.key, until, asked.id)
        allowance = store.allow(grant, Author(ACTOR, script.reason))
    finally:
        store.close()
    await studio.send(job)
    return AllowedJob(attempts, allowance, studio.reservation(job))
