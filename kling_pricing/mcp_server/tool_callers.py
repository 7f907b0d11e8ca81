"""The caller of a tool: what it may do, and what it reaches."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol, TypeVar

from kling_pricing.budgets.entries import ANY, EACH
from kling_pricing.errors import KlingPricingError, ReservationNotFoundError
from kling_pricing.guard import BudgetGuard
from kling_pricing.guard.forecasts import BudgetForecast
from kling_pricing.guard.threads import WorkerPool
from kling_pricing.ledger.errors import unknown
from kling_pricing.ledger.freezing import Freeze
from kling_pricing.ledger.model import Reservation
from kling_pricing.tables.price_book import PriceBook

_Result = TypeVar("_Result")


class ToolCaller(Protocol):
    """The caller of a tool. Each method may take as long as a query of the ledger."""

    @property
    def guard(self) -> BudgetGuard:
        """The guard."""

    @property
    def book(self) -> PriceBook:
        """The price tables."""

    @property
    def may_spend(self) -> bool:
        """Whether the caller may reserve money."""

    def project(self, given: str | None) -> str:
        """Returns the project of a request.

        Args:
            given: the project that the request names; None: it names none.

        Raises:
            KlingPricingError: the caller does not reach the project, or no project is known.
        """

    def labels(self, given: Mapping[str, str]) -> dict[str, str]:
        """Returns the labels of a request: those that it gives, and those that are fixed for the caller.

        Raises:
            KlingPricingError: the request gives another value for a fixed label.
        """

    def reservation(self, reservation_id: str) -> Reservation:
        """Returns a reservation that the caller may see.

        Raises:
            ReservationNotFoundError: there is none, or it belongs to another project.
        """

    def require_outcome_of(self, reservation: Reservation) -> None:
        """Does nothing if the caller may state the outcome of a reservation.

        Raises:
            KlingPricingError: somebody else states it.
        """

    def require_task(self, reservation: Reservation, task_id: str) -> None:
        """Does nothing if a task may be the task of a reservation.

        Raises:
            KlingPricingError: the reservation has another task, or the task is not the caller's.
        """

    def sees_budget(self, forecast: BudgetForecast) -> bool:
        """Returns whether the caller may see the balance of a budget."""

    def sees_freeze(self, freeze: Freeze) -> bool:
        """Returns whether the caller may see a freeze."""

    async def run(
        self, work: Callable[[], _Result], undo: Callable[[_Result], object] | None = None
    ) -> _Result:
        """Runs a blocking function in a thread; `undo` gets its result if nobody waits for it any more."""


class LocalCaller:
    """The caller of a process on this machine, for one project.

    Args:
        guard: the guard.
        project: the project of everything that the caller does.
        labels: the labels of everything that the caller does.
        may_spend: whether it may reserve money.
    """

    def __init__(self, guard: BudgetGuard, project: str, labels: Mapping[str, str], *, may_spend: bool) -> None:
        self.guard = guard
        self.book = guard.book
        self.may_spend = may_spend
        self._project = project
        self._labels = dict(labels)
        self._threads = WorkerPool(guard.max_concurrency)

    def project(self, given: str | None) -> str:
        """Returns the project of the process; see `ToolCaller`."""
        if given not in {None, self._project}:
            raise KlingPricingError(
                f"this MCP server works for the project {self._project} only; leave `project` out"
            )
        return self._project

    def labels(self, given: Mapping[str, str]) -> dict[str, str]:
        """Returns the given labels and those of the process; see `ToolCaller`."""
        for label, value in given.items():
            if self._labels.get(label, value) != value:
                raise KlingPricingError(f"labels: this MCP server fixes the label {label}; leave the label out")
        return {**given, **self._labels}

    def reservation(self, reservation_id: str) -> Reservation:
        """Returns a reservation of the project; see `ToolCaller`."""
        try:
            reservation = self.guard.reservation(reservation_id)
        except ReservationNotFoundError:
            raise unknown(reservation_id) from None
        if reservation.project != self._project:
            raise unknown(reservation_id)
        return reservation

    def require_outcome_of(self, reservation: Reservation) -> None:
        """Does nothing: nobody else states the outcomes of the project's jobs."""

    def require_task(self, reservation: Reservation, task_id: str) -> None:
        """Does nothing: the ledger refuses a task that it knows already."""

    def sees_budget(self, forecast: BudgetForecast) -> bool:
        """Returns whether a budget limits the project."""
        bucket = forecast.bucket
        if bucket.labels.get("project", self._project) != self._project:
            return False
        return any(
            budget.name == bucket.budget and self._matches(budget.match.get("project"))
            for budget in self.guard.budgets().budgets
        )

    def sees_freeze(self, freeze: Freeze) -> bool:
        """Returns whether a freeze stops the project."""
        return freeze.budget is None or any(
            budget.name == freeze.budget and self._matches(budget.match.get("project"))
            for budget in self.guard.budgets().budgets
        )

    def _matches(self, projects: object) -> bool:
        """Returns whether the projects of a budget include the project of the process."""
        if isinstance(projects, str):
            return projects in {ANY, EACH, self._project}
        return projects is None or (isinstance(projects, list | tuple) and self._project in projects)

    async def run(
        self, work: Callable[[], _Result], undo: Callable[[_Result], object] | None = None
    ) -> _Result:
        """Runs a blocking function in a thread; see `ToolCaller`."""
        return await self._threads.run(work, undo)

    def close(self) -> Awaitable[None]:
        """Waits for the functions that still run."""
        return self._threads.close()
