"""A reconciliation of the server, as the API and the page show it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from kling_pricing.server.api.exact_fields import ApiBody, Instant, Number, ShortText, View
from kling_pricing.server.reconciliations.runs import Run


class ActBody(ApiBody):
    """The confirmation of an action with a reconciliation."""

    plan: ShortText = Field(description="The `plan` of the result that you have seen.")
    reason: ShortText = Field(description="The reason, which the ledger keeps.")


class StepView(View):
    """The reconciliation itself, or a later action with it."""

    number: int
    action: str = Field(description="`reconcile`, `remember`, `dispute`, `settle` or `close`.")
    state: Literal["working", "done", "failed", "lost"] = Field(
        description="`lost`: the process of the server that worked on it has ended."
    )
    actor: str = Field(description="The name of the access key.")
    reason: str | None
    begun_at: Instant
    text: str = Field(description="What it has done, or why it has failed.")


class ProgressView(View):
    """How far the newest step is. All fields are null while it waits for another reconciliation."""

    stage: str | None = None
    done: int | None = None
    total: int | None = Field(None, description="The amount of work; null if it is not known.")

    @property
    def percent(self) -> int | None:
        """The part that is done; None: it is not known."""
        return None if not self.total else min(100, (self.done or 0) * 100 // self.total)


class SumView(View):
    """The sum of some lines, in one currency."""

    name: str
    currency: str
    lines: int
    expected: Number
    billed: Number
    variance: Number


class CauseView(SumView):
    """The exceptions that have a cause in common. `name` is the cause."""

    category: str
    example: str | None


class ExceptionView(View):
    """A line that needs action."""

    name: str = Field(description="The task, or what names the line if it has none.")
    category: str
    project: str | None
    reservation_id: str | None
    rows: list[str]
    currency: str
    expected: Number | None
    billed: Number | None
    variance: Number
    cause: str
    remedy: str


class PayableView(View):
    """The amounts to pay, in dispute and to accrue, in one currency."""

    currency: str
    invoiced: Number
    pay: Number
    disputed: Number
    disputed_before: Number
    accrue: Number


class RowsView(View):
    """The numbers of rows on the statements."""

    read: int
    charges: int
    uncharged: int
    invalid: int
    outside: int
    ignored: int


class ConflictView(View):
    """A remembered statement that charges other amounts for the same tasks."""

    name: str
    digest: str
    tasks: int
    task_id: str


class ReplacementView(View):
    """The changes in the books if the file replaces a remembered one."""

    name: str
    tasks: int
    withdrawn: int
    added: int
    sums: dict[str, tuple[Number, Number]]


class TaskToSettle(View):
    """A task and the amount at which it would be settled."""

    reservation_id: str
    task_id: str
    amount: Number
    currency: str


class ResultView(View):
    """The result of a reconciliation."""

    provider: str
    account: str
    since: Instant
    until: Instant
    is_over: bool = Field(description="Whether the month was over.")
    is_bookable: bool = Field(description="Whether the statement can be remembered and settled.")
    gaps: list[str] = Field(description="The reasons why the month is not reconciled; empty if it is.")
    confirmed: list[str]
    exceptions: int = Field(description="The number of lines that need action.")
    open: int
    in_dispute: int = Field(0, description="The number of these lines whose excess is in dispute.")
    statements: dict[str, str] = Field(description="Name of each statement -> its SHA-256.")
    grain: list[str]
    rows: RowsView
    totals: list[SumView]
    categories: list[SumView]
    payable: list[PayableView]
    causes: list[CauseView]
    lines: list[ExceptionView] = Field(
        description="The first lines that need action; the reports have all lines."
    )
    conflicts: list[ConflictView]
    replacement: ReplacementView | None
    to_settle: int = Field(description="The number of reservations that `settle` would settle.")
    first_to_settle: list[TaskToSettle]
    plan: str = Field(description="Confirms this result in an action.")
    reports: dict[str, int] = Field(description="Name of each report -> its size in bytes.")


class ReconciliationView(View):
    """A reconciliation of the server."""

    id: str
    provider: str
    month: str
    timezone: str = Field(description="The time zone in which the month begins and ends.")
    account: str | None
    files: list[str] = Field(description="The names of the uploaded statements.")
    state: Literal["working", "done", "failed", "lost"] = Field(description="The state of the newest step.")
    steps: list[StepView]
    progress: ProgressView | None = Field(description="null if no step is working.")
    result: ResultView | None = Field(description="null if there is no result yet.")


class ReconciliationList(View):
    """The reconciliations in the work folder of the server, the newest first, without their results."""

    items: list[ReconciliationView]


def view_of(run: Run, *, with_result: bool = True) -> ReconciliationView:
    """Returns a reconciliation as the API shows it."""
    return ReconciliationView(
        id=run.id,
        provider=run.request["provider"],
        month=run.request["month"],
        timezone=run.request.get("timezone", "UTC"),  # an upload to an earlier release has none
        account=run.request["account"],
        files=[*run.files],
        state=run.last.state,
        steps=[StepView.model_validate(step) for step in run.steps],
        progress=None if run.progress is None else ProgressView.model_validate(dict(run.progress)),
        result=None if run.result is None or not with_result else ResultView.model_validate(dict(run.result)),
    )
