"""The ledger of `kling-pricing serve --demo`: a closed month and the month until now, made up for its pages."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from kling_pricing.demo import incidents
from kling_pricing.demo.planting import WORDS, Planter
from kling_pricing.demo.stories import SERVED_BUDGETS_FILE, DemoScript, JobMaker, demo_book
from kling_pricing.demo.studio import ACTOR, DemoStudio, ledger_in, scenario_of
from kling_pricing.guard import allow, issue_key
from kling_pricing.guard.stopping import freeze_budgets
from kling_pricing.ledger.access_keys import ROLES, Role
from kling_pricing.reconcile import close_month, reconcile
from kling_pricing.sandbox import Sandbox
from kling_pricing.server.server_settings import ServerSettings, load_settings

OnProgress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is to do."""

_SHARE = 4
"""One of so many of the script's jobs is made, because the pages need content quickly."""

_LAST_HOURS = timedelta(hours=3)
"""The time before now in which everything happens that the pages show as new."""

_DAY, _MINUTE = timedelta(days=1), timedelta(minutes=1)
_RUNNING = 3
_GRANTED_FOR = timedelta(days=14)
_REASON = "the client has cut the budget"
_FROZEN_BECAUSE = "the client has not confirmed the next scene"


class DemoKey(NamedTuple):
    """An access key of the served demo.

    Attributes:
        role: its role.
        project: its project; None: all projects.
        text: the key.
    """

    role: Role
    project: str | None
    text: str


def served_start(now: datetime) -> datetime:
    """Returns the start of the month that is closed: the first instant of the month before the present one."""
    this_month = (now - _LAST_HOURS).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return (this_month - _DAY).replace(day=1)


class ServedMonths:
    """Makes the ledger of a served demo.

    Args:
        script: the script.
        folder: the folder for the ledger.
        sandbox: a running sandbox, whose clock shows `served_start(now)`.
        seed: the seed.
        now: the present instant, UTC.
        on_progress: called as work goes on.
    """

    def __init__(
        self,
        script: DemoScript,
        folder: Path,
        sandbox: Sandbox,
        *,
        seed: int,
        now: datetime,
        on_progress: OnProgress,
    ) -> None:
        self._now = now
        self._start = served_start(now)
        month = f"{self._start:%Y-%m}"
        self._script = script.model_copy(update={"month": month})
        self._folder, self._sandbox, self._seed = folder, sandbox, seed
        self._maker = JobMaker(self._script, seed)
        self._report = on_progress
        self._ledger = ledger_in(folder)

    async def make(self) -> None:
        """Makes the ledger: both months, a statement with disputes, all kinds of budgets, and jobs in doubt."""
        studio = DemoStudio(self._script, self._sandbox, self._ledger, SERVED_BUDGETS_FILE, start=self._start)
        async with studio:
            await self._play(studio)
            await asyncio.sleep(0)  # Ctrl-C takes effect here
            self._close_month(studio)
            await asyncio.sleep(0)
            await self._last_hours(studio)
        present = max(studio.clock.now, _utc_now())
        self._sandbox.call("POST", "/_clock", {"now": present.isoformat(), "speed": 1})

    async def _play(self, studio: DemoStudio) -> None:
        """Plays all ordinary jobs until a few hours ago."""
        recent = self._now - _LAST_HOURS
        until = recent.replace(hour=0, minute=0, second=0, microsecond=0) + _DAY
        jobs = self._maker.ordinary_jobs(self._start, self._script.end, share=_SHARE, words=WORDS)
        jobs += self._maker.ordinary_jobs(self._script.end, until, share=_SHARE)
        jobs = [job for job in jobs if job.at < recent]
        done = 0

        def on_job() -> None:
            nonlocal done
            done += 1
            self._report(f"{studio.clock.now:%d %B}", done, len(jobs))

        rounded = self._maker.job(self._start + _DAY / 2, self._script.rounded)
        await studio.play(sorted([*jobs, rounded], key=lambda job: job.at), on_job)
        studio.move_to(recent)
        studio.ask()

    def _close_month(self, studio: DemoStudio) -> None:
        """Reconciles the statements of the first month, disputes what is too dear, and closes it."""
        script = self._script
        statement = Planter(studio, self._seed).statement().text().encode()
        callers = script.callers.provider
        statements = {
            script.scripts.provider: (f"{script.month}.csv", statement),
            callers: (
                f"{script.month}.json",
                self._sandbox.statement(callers, since=script.start, until=script.end),
            ),
        }
        for provider, (name, content) in statements.items():
            path = self._folder / name
            path.write_bytes(content)
            with reconcile(
                self._ledger,
                path,
                provider=provider,
                since=script.start,
                until=script.end,
                book=demo_book(),
                clock=studio.clock,
            ) as reconciled:
                reconciled.dispute(actor=ACTOR, reason="charged too much")
            close_month(
                self._ledger, script.month, provider=provider, actor=ACTOR, reason="paid", clock=studio.clock
            )

    async def _last_hours(self, studio: DemoStudio) -> None:
        """Brings budgets near and over their caps, and leaves jobs in doubt, running, refused and allowed."""
        script, maker, clock = self._script, self._maker, studio.clock
        await incidents.overspend(studio, maker, clock.now, script.overspent, refusals=4)
        self._tighten(studio, script.capped.project, Decimal("1.05"))
        await incidents.overspend(studio, maker, clock.now, script.capped, refusals=2)
        studio.ask()
        await incidents.leave_in_doubt(
            studio, maker, clock.now, script.doubtful, "lost-request", "lost-request"
        )
        await incidents.leave_in_doubt(studio, maker, clock.now + _MINUTE, script.common, "500:accepted")
        self._ask_for_allowances(studio)
        self._tighten(studio, script.common.project, Decimal("0.9"))
        freeze_budgets(self._ledger, [script.common.project], actor=ACTOR, reason=_FROZEN_BECAUSE)
        for _ in range(_RUNNING):
            await studio.submit(maker.job(_utc_now(), script.doubtful))

    def _tighten(self, studio: DemoStudio, budget: str, share: Decimal) -> None:
        """Sets the cap of a budget to a share of what it has used, in whole units of its currency."""
        bucket = next(row for row in studio.guard.status() if row.budget == budget)
        cap = max(1, int((bucket.spent + bucket.held) * share))
        studio.guard.set_cap(budget, cap, reason=_REASON)

    def _ask_for_allowances(self, studio: DemoStudio) -> None:
        """Files two requests for allowances, and grants one of them."""
        script = self._script
        route = script.route(script.route_of(script.capped.project))
        for number in range(2):
            job = self._maker.job(studio.clock.now, script.capped)
            asked = studio.guard.acting_as(job.user).ask(
                job.payload,
                project=job.project,
                key=job.key,
                labels={"user": job.user},
                reason=script.reason,
                provider=route.provider,
                url=studio.sandbox.url(route.provider) + route.path,
            )
            if number == 0:
                allow(
                    self._ledger,
                    request=asked.id,
                    until=_utc_now() + _GRANTED_FOR,
                    actor=ACTOR,
                    reason=script.reason,
                )


class DemoLedger(NamedTuple):
    """The parts of a served demo.

    Attributes:
        ledger: the URL of the ledger.
        upstreams: the upstreams of the server, as in its settings.
    """

    ledger: str
    upstreams: dict[str, dict[str, Any]]


@contextmanager
def demo_ledger(
    script: DemoScript, folder: Path, *, seed: int | None = None, on_progress: OnProgress
) -> Iterator[DemoLedger]:
    """Makes the ledger of a served demo, and runs its providers for the length of a block.

    Args:
        script: the script.
        folder: the folder for the ledger.
        seed: the seed; None: that of the script.
        on_progress: called as work goes on.
    """
    now, number = _utc_now(), script.seed if seed is None else seed
    with Sandbox(scenario_of(served_start(now), number), book=demo_book()) as sandbox:
        months = ServedMonths(script, folder, sandbox, seed=number, now=now, on_progress=on_progress)
        asyncio.run(months.make())
        scripts, callers = script.scripts.provider, script.callers.provider
        upstreams = {
            scripts: {"url": sandbox.url(scripts), "keeps_keys": True},
            callers: {"url": sandbox.url(callers), "send_reservation_id": True},
        }
        yield DemoLedger(ledger_in(folder), upstreams)


def served_settings(given: Mapping[str, Any]) -> ServerSettings:
    """Returns the settings of a served demo, which the environment does not change.

    Args:
        given: the settings of the command line, and those of `DemoLedger`; None: not given.

    Raises:
        SettingsError: a given setting is invalid.
    """
    return load_settings(environment={}, overrides={"log_level": "warning", **given})


def issue_demo_keys(ledger: str, script: DemoScript) -> list[DemoKey]:
    """Issues an access key for each role: to submit jobs, for one project; the others, for all projects."""
    keys = []
    for role in ROLES:
        project = script.doubtful.project if role == "submit" else None
        issued = issue_key(
            ledger, project=project, role=role, name=f"demo-{role}", actor=ACTOR, reason="the demo"
        )
        keys.append(DemoKey(role, project, issued.text))
    return keys


def _utc_now() -> datetime:
    return datetime.now(UTC)
