"""The story of `kling-pricing demo`: plays the month, and says what happens and what it costs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple, Protocol

from kling_pricing.budgets.entries import BudgetEntry
from kling_pricing.budgets.window_kinds import RollingWindow
from kling_pricing.demo import incidents
from kling_pricing.demo.planting import WORDS, Finding, Planter, findings_about
from kling_pricing.demo.stories import BUDGETS_FILE, ROUTES, DemoJob, DemoScript, JobMaker, Route, demo_book
from kling_pricing.demo.studio import DemoStudio, ledger_in, scenario_of
from kling_pricing.errors import KlingPricingError
from kling_pricing.money import format_decimal, sum_of
from kling_pricing.reconcile import Reconciliation, reconcile
from kling_pricing.reconcile.categories import exceptions_text
from kling_pricing.reconcile.model import Total
from kling_pricing.reports import write_reports
from kling_pricing.sandbox import Sandbox

STATEMENT_FILE, CALLERS_STATEMENT_FILE = "statement.csv", "statement-of-callers.json"
"""The statements of the two providers; the first one has errors."""

REPORT_FILE = "report.html"

_UNITS = {"m": "minutes", "h": "hours", "d": "days"}
_CHANGES = {"duration_s": "shorter", "resolution": "at a lower resolution", "audio": "without sound"}
"""Setting that the guard changed -> the job in words."""

_EVENING = timedelta(hours=21)
_AFTER = timedelta(days=2)


class Teller(Protocol):
    """Tells the story to a person."""

    def step(self, text: str) -> None:
        """Tells a step of the story."""

    def detail(self, text: str) -> None:
        """Tells a detail of the newest step."""

    def progress(self, label: str, done: int, total: int) -> None:
        """Shows how much of a long step is done; it is over when all of it is done."""


class DemoFigures(NamedTuple):
    """The figures of a told story. Amounts are in `currency`.

    Attributes:
        currency: the currency of all amounts.
        jobs: the number of jobs in the ledger.
        spent: route -> the sum of the settled amounts in the ledger.
        billed: route -> the sum on the bill of the sandbox.
        findings: what the reconciliation says about each error in the statement.
        totals: the sums of the reconciliation.
        exceptions: the number of its exceptions.
        report: the report page.
    """

    currency: str
    jobs: int
    spent: dict[Route, Decimal]
    billed: dict[Route, Decimal]
    findings: list[Finding]
    totals: Total
    exceptions: int
    report: Path


class DemoStory:
    """Plays the month and tells it.

    Args:
        script: the script.
        folder: the folder for the ledger, the statements and the report.
        teller: tells the story.
        seed: the seed; the same seed makes the same story.
    """

    def __init__(self, script: DemoScript, folder: Path, teller: Teller, seed: int) -> None:
        self._script = script
        self._folder = folder
        self._teller = teller
        self._seed = seed
        self._maker = JobMaker(script, seed)
        self._currency = ""
        self._sent = 0

    async def tell(self) -> DemoFigures:
        """Plays the month from its first day to the report, and returns its figures.

        Raises:
            KlingPricingError: the ledger and the bill differ, or an error in the statement was not found.
        """
        script, ledger = self._script, ledger_in(self._folder)
        with Sandbox(scenario_of(script.start, self._seed), book=demo_book()) as sandbox:
            async with DemoStudio(script, sandbox, ledger, BUDGETS_FILE, start=script.start) as self._studio:
                self._introduce()
                await self._play_month()
                return await self._end_month()

    # the month

    def _introduce(self) -> None:
        studio, script = self._studio, self._script
        budgets = studio.guard.budgets().budgets
        self._currency = budgets[0].currency
        scripts, callers = script.scripts.provider, script.callers.provider
        self._teller.step(
            f"The sandbox stands in for the providers {scripts} and {callers} on this machine. Its clock "
            f"makes {_month(script.start)} pass in seconds. Nothing is sent to anybody else, and nothing "
            "costs money."
        )
        self._teller.step(
            f"A ledger in a SQLite file counts every job of {len(script.projects)} projects. It has "
            f"{len(budgets)} budgets:"
        )
        for budget in budgets:
            self._teller.detail(_budget_text(budget))
        guarded = _and(entry.name for entry in script.projects if entry.sends == "scripts")
        served = _and(entry.name for entry in script.projects if entry.sends == "callers")
        self._teller.step(
            f"The scripts of {guarded} send their jobs to {scripts}; a hook guards their HTTP client. The "
            f"programs of {served} send theirs to the server, which passes them on to {callers}."
        )

    async def _play_month(self) -> None:
        script, days = self._script, self._script.days
        jobs = self._maker.ordinary_jobs(script.start, script.end, words=WORDS)
        incidents_by_day = {
            days.rounded: self._round,
            days.lost_answer: self._lose_an_answer,
            days.killed: self._kill,
            days.failed: self._fail,
            days.in_doubt: self._doubt,
            days.overspent: self._overspend,
            days.allowed: self._allow,
            days.capped: self._cap,
        }
        since = script.start
        for day, incident in sorted(incidents_by_day.items(), key=lambda entry: entry[0]):
            at = script.start + timedelta(days=day - 1) + _EVENING
            await self._play([job for job in jobs if since <= job.at < at], len(jobs))
            await incident(at)
            since = at
        await self._play([job for job in jobs if since <= job.at], len(jobs))
        self._studio.move_to(script.end + _AFTER)
        self._studio.ask()

    async def _play(self, jobs: list[DemoJob], total: int) -> None:
        def on_job() -> None:
            self._sent += 1
            self._teller.progress(f"{self._studio.clock.now:%d %B}", self._sent, total)

        await self._studio.play(jobs, on_job)

    async def _round(self, at: datetime) -> None:
        await self._studio.submit(self._maker.job(at, self._script.rounded))
        self._studio.ask()
        reservations = self._studio.guard.history()
        spent = sum_of(row.billed for row in reservations if row.billed is not None)
        self._teller.step(
            f"{_day(at)}: {len(reservations)} jobs so far. The guard reserved the price of each one before it "
            f"was sent, and settled it when it was done: {self._money(spent)} in all."
        )

    async def _lose_an_answer(self, at: datetime) -> None:
        resent = await incidents.lose_an_answer(self._studio, self._maker, at, self._script.common)
        self._teller.step(
            f"{_day(at)}: the response to job {resent.job.key} gets lost, so the ledger keeps "
            f"{self._money(resent.held)} on hold. The script sends the job again with the same key, and gets "
            f"the task of the first attempt: {_tasks(resent.tasks)} in all, "
            f"{self._money(resent.reservation.reserved)}."
        )

    async def _kill(self, at: datetime) -> None:
        resent = await incidents.kill_a_script(self._studio, self._maker, at, self._script.common)
        self._studio.ask()
        resent = resent._replace(reservation=self._studio.reservation(resent.job))
        self._teller.step(
            f"{_day(at)}: a script is killed with SIGKILL while its job {resent.job.key} is on its way. The "
            f"ledger still holds {self._money(resent.held)}. The script is started again, sends the job with "
            f"the same key, and gets the task of the first attempt: {_tasks(resent.tasks)} in all, charged "
            f"{self._money(resent.reservation.billed or Decimal(0))}."
        )

    async def _fail(self, at: datetime) -> None:
        failed = await incidents.fail(self._studio, self._maker, at, self._script.common)
        self._teller.step(
            f"{_day(at)}: the task of job {failed.key} fails. {failed.provider} refunds failed tasks, so the "
            f"{self._money(failed.reserved)} goes back to the budgets."
        )

    async def _doubt(self, at: datetime) -> None:
        doubtful = await incidents.doubt(self._studio, self._maker, at, self._script.doubtful)
        self._teller.step(
            f"{_day(at)}: {doubtful.jobs} connections of the server break, and nobody knows which jobs "
            f"arrived. Their {self._money(doubtful.held)} stays on hold, in doubt. An hour later, "
            f"{self._provider('callers')} is asked about the ids of the reservations: {doubtful.settled} jobs "
            f"arrived, and are settled at {self._money(doubtful.charged)}. {doubtful.unknown} never arrived, "
            "and its money is released by hand."
        )

    async def _overspend(self, at: datetime) -> None:
        part = self._script.overspent
        spree = await incidents.overspend(self._studio, self._maker, at, part, refusals=5)
        self._teller.step(
            f"{_day(at)}: {part.user} of {part.project} orders one {part.shot} after another. "
            f"{spree.passed} jobs pass; then the limit for each user is reached, and the server refuses the "
            f"next {spree.refused} with HTTP status 402."
        )

    async def _allow(self, at: datetime) -> None:
        part = self._script.allowed
        allowed = await incidents.allow(self._studio, self._maker, at, part)
        self._teller.step(
            f"{_day(at)}: {part.project} has used up its budget after {allowed.attempts.passed} more jobs. "
            f"{part.user} asks for an exception ({allowed.allowance.reason}) and gets an allowance of "
            f"{self._money(allowed.allowance.amount)} for job {allowed.reservation.key}, which then passes."
        )

    async def _cap(self, at: datetime) -> None:
        part = self._script.capped
        spree = await incidents.overspend(self._studio, self._maker, at, part, refusals=3)
        bucket = next(row for row in self._studio.guard.status() if row.budget == part.project)
        changes = _and(f"{jobs} {_CHANGES.get(name, name)}" for name, jobs in spree.changes.items())
        self._teller.step(
            f"{_day(at)}: {part.user} of {part.project} wants the {part.shot} in the best quality. Such a job "
            f"costs more than the budget allows, so the guard makes {spree.changed} jobs cheaper ({changes}). "
            f"Then nothing more fits, and the guard refuses the next {spree.refused}. The budget has used "
            f"{self._money(bucket.spent + bucket.held)} of {self._money(bucket.cap)}."
        )

    # the end of the month

    async def _end_month(self) -> DemoFigures:
        """Compares the ledger with the bill, and then with both statements."""
        self._studio.guard.verify()
        jobs = len(self._studio.guard.history())
        spent = {route: self._studio.spent(route) for route in ROUTES}
        billed = {route: self._studio.billed(route, self._currency) for route in ROUTES}
        if spent != billed:
            raise KlingPricingError(
                f"the ledger of the demo counts {spent}, and the sandbox has billed {billed}; "
                f"report this with the seed {self._seed}"
            )
        amounts = _and(f"{self._money(spent[route])} at {self._provider(route)}" for route in ROUTES)
        self._teller.step(
            f"The month is over. After {jobs} jobs, the ledger counts {amounts}. The sandbox keeps its own "
            "bill with its own code; the bill has the same amounts, to the last digit."
        )
        await asyncio.sleep(0)  # Ctrl-C takes effect here
        self._reconcile_callers()
        await asyncio.sleep(0)
        findings, totals, exceptions = self._reconcile_scripts()
        report = self._folder / REPORT_FILE
        return DemoFigures(self._currency, jobs, spent, billed, findings, totals, exceptions, report)

    def _reconcile_callers(self) -> None:
        script, path = self._script, self._folder / CALLERS_STATEMENT_FILE
        provider = script.callers.provider
        path.write_bytes(self._studio.sandbox.statement(provider, since=script.start, until=script.end))
        with self._reconciled("callers", path) as reconciled:
            (total,) = reconciled.totals("all")
            verdict = "all of them as expected"
            if reconciled.exceptions:
                verdict = exceptions_text(reconciled.exceptions, reconciled.open, reconciled.in_dispute)
            self._teller.step(
                f"The statement of {provider} arrives. Compared with the ledger, it has {total.lines} tasks "
                f"for {self._money(total.billed)}, {verdict}."
            )

    def _reconcile_scripts(self) -> tuple[list[Finding], Total, int]:
        path = self._folder / STATEMENT_FILE
        statement = Planter(self._studio, self._seed).statement()
        path.write_text(statement.text(), encoding="utf-8", newline="")
        self._teller.step(
            f"The statement of {self._provider('scripts')} arrives, with {len(statement.errors)} errors. The "
            "comparison with the ledger classifies each of them:"
        )
        with self._reconciled("scripts", path) as reconciled:
            findings = findings_about(statement.errors, reconciled)
            for finding in findings:
                self._teller.detail(self._finding_text(finding))
            (total,) = reconciled.totals("all")
            verdict = exceptions_text(reconciled.exceptions, reconciled.open, reconciled.in_dispute)
            self._teller.step(
                f"The totals tie out: {self._money(total.expected)} was expected, and "
                f"{self._money(total.billed)} is billed; the variances of the lines add up to the "
                f"difference, {total.variance:+f}. {verdict}; the report page gives the cause and the remedy "
                "of each."
            )
            write_reports(reconciled, self._folder, formats=("html",), book=demo_book())
            return findings, total, reconciled.exceptions

    def _reconciled(self, route: Route, path: Path) -> Reconciliation:
        return reconcile(
            self._studio.ledger,
            path,
            provider=self._provider(route),
            since=self._script.start,
            until=self._script.end,
            book=demo_book(),
            clock=self._studio.clock,
        )

    def _provider(self, route: Route) -> str:
        return self._script.route(route).provider

    def _finding_text(self, finding: Finding) -> str:
        variance = f"{finding.variance:+f} {self._currency}" if finding.variance else ""
        return f"{finding.error.words:<42} {finding.verdict:<18}{variance:>15}".rstrip()

    def _money(self, amount: Decimal) -> str:
        return f"{format_decimal(amount)} {self._currency}"


def _month(at: datetime) -> str:
    return f"{at:%B %Y}"


def _day(at: datetime) -> str:
    return f"{at.day} {at:%B}"


def _tasks(number: int) -> str:
    return f"{number} task{'s' * (number != 1)}"


def _and(words: Iterable[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last


def _budget_text(budget: BudgetEntry) -> str:
    window = budget.window
    if isinstance(window, RollingWindow):
        per = f"in any {window.rolling[:-1]} {_UNITS[window.rolling[-1]]}"
    else:
        per = "in all" if window == "lifetime" else f"a {window}"
    each = "".join(f" for each {label}" for label, value in budget.match.items() if value == "*")
    capped = "; a job that does not fit is made cheaper" if budget.on_exceed == "cap" else ""
    return f"{budget.name}: {format_decimal(budget.cap)} {budget.currency} {per}{each}{capped}"
