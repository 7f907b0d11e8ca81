"""The tools: their names, their descriptions for agents, and what they do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from kling_pricing.errors import AccessError, KlingPricingError
from kling_pricing.guard.payload_documents import DecisionDocument, PriceDocument
from kling_pricing.mcp_server.tool_answers import (
    ToolAnswer,
    budgets_answer,
    check_answer,
    comparison_answer,
    decision_answer,
    error_answer,
    joined,
    quote_answer,
    reservation_answer,
    submission_answer,
)
from kling_pricing.mcp_server.tool_arguments import (
    BindArguments,
    BudgetArguments,
    ComparisonArguments,
    ReleaseArguments,
    SubmissionArguments,
    read_arguments,
)
from kling_pricing.mcp_server.tool_callers import ToolCaller
from kling_pricing.quoting.comparison import compare
from kling_pricing.quoting.engine import check, quote
from kling_pricing.strict_yaml import FileModel
from kling_pricing.tables.price_book import PriceBook

_NOT_ALLOWED = 403


class ToolDefinition(NamedTuple):
    """One tool.

    Attributes:
        name: the name of the tool.
        title: the name for people.
        description: when an agent uses it, and what it returns.
        arguments: the model of its arguments.
        work: does the work for a caller.
        spends: whether it changes the ledger.
        is_repeatable: whether a repeated call with the same arguments changes nothing more.
    """

    name: str
    title: str
    description: str
    arguments: type[FileModel]
    work: Callable[[ToolCaller, Any], ToolAnswer]
    spends: bool = False
    is_repeatable: bool = True


def _quote(caller: ToolCaller, arguments: PriceDocument) -> ToolAnswer:
    return quote_answer(quote(arguments.payload, at=arguments.at, book=caller.book, **arguments.options()))


def _check(caller: ToolCaller, arguments: PriceDocument) -> ToolAnswer:
    return check_answer(check(arguments.payload, at=arguments.at, book=caller.book, **arguments.options()))


def _compare(caller: ToolCaller, arguments: ComparisonArguments) -> ToolAnswer:
    options = compare(arguments.payload, at=arguments.at, book=caller.book, **arguments.options())
    return comparison_answer(options, arguments.limit)


def _decide(caller: ToolCaller, arguments: DecisionDocument) -> ToolAnswer:
    decision = caller.guard.decide(
        arguments.payload,
        project=caller.project(arguments.project),
        key=arguments.key,
        labels=caller.labels(arguments.labels),
        **arguments.options(),
    )
    return decision_answer(decision)


def _budget_status(caller: ToolCaller, arguments: BudgetArguments) -> ToolAnswer:
    guard = caller.guard
    found = [forecast for forecast in guard.forecasts() if caller.sees_budget(forecast)]
    freezes = [freeze for freeze in guard.freezes() if caller.sees_freeze(freeze)]
    if arguments.budget is not None:
        names = {forecast.bucket.budget for forecast in found}
        if arguments.budget not in names:
            raise KlingPricingError(
                f"you see no budget {arguments.budget!r}; use one of: {joined(names) or 'none'}"
            )
        found = [forecast for forecast in found if forecast.bucket.budget == arguments.budget]
        freezes = [freeze for freeze in freezes if freeze.budget in {None, arguments.budget}]
    return budgets_answer(found, freezes, guard.clock())


def _pre_submit(caller: ToolCaller, arguments: SubmissionArguments) -> ToolAnswer:
    guard = caller.guard
    admission, payload = guard.admit_and_dispatch(
        arguments.payload,
        project=caller.project(arguments.project),
        key=arguments.key,
        labels=caller.labels(arguments.labels),
        account=arguments.account,
        **arguments.options(),
    )
    try:
        caller.require_outcome_of(admission.reservation)
    except AccessError:
        guard.release_refused(admission, "not handed out")
        raise
    return submission_answer(admission, payload, guard.balances_of(admission.reservation_id))


def _bind(caller: ToolCaller, arguments: BindArguments) -> ToolAnswer:
    guard = caller.guard
    reservation = caller.reservation(arguments.reservation_id)
    caller.require_outcome_of(reservation)
    if reservation.task_id is None:
        caller.require_task(reservation, arguments.task_id)
    bound = guard.bind(reservation.id, arguments.task_id)
    return reservation_answer(bound, guard.balances_of(bound.id))


def _release(caller: ToolCaller, arguments: ReleaseArguments) -> ToolAnswer:
    guard = caller.guard
    reservation = caller.reservation(arguments.reservation_id)
    if reservation.state == "reserved":
        released = guard.release(reservation.id, arguments.reason)
    else:
        caller.require_outcome_of(reservation)
        released = guard.release_refused(reservation.id, arguments.reason)
    return reservation_answer(released, guard.balances_of(released.id))


TOOLS: Mapping[str, ToolDefinition] = {
    tool.name: tool
    for tool in (
        ToolDefinition(
            "quote",
            "Quote a job",
            "Returns the exact price of a video job before you submit it, with the reason for every number. "
            "Use it whenever somebody asks what a clip costs. Amounts are exact decimal numbers as text; do "
            "not round them. If a fact is unknown, such as the length of a video behind a URL, the price is a "
            "range with `minimum` and `maximum`; pass the fact in `media` to get one price. A payload that "
            "the API would refuse, or that has no published price, is an error with every reason and the "
            "nearest valid alternatives. Nothing is reserved or sent.",
            PriceDocument,
            _quote,
        ),
        ToolDefinition(
            "check",
            "Check a job",
            "Returns every reason why the provider's API would refuse a payload, each with its remedy; none "
            "if it would accept the payload. Use it while you compose a payload. Nothing is reserved or sent.",
            PriceDocument,
            _check,
        ),
        ToolDefinition(
            "compare",
            "Compare prices",
            "Returns other ways to make the same clip, the cheapest first: at other resolutions, with or "
            "without audio, with other models and at other providers. Use it when a job is too expensive, or "
            "when somebody asks for the cheapest way. Prices in different currencies are listed separately. "
            "Nothing is reserved or sent.",
            ComparisonArguments,
            _compare,
        ),
        ToolDefinition(
            "decide",
            "Decide without spending",
            "Returns whether a job would be admitted to the budgets now: as it is, after changes that make it "
            "cheaper, or not at all; and what each budget would have left. Use it to plan. Nothing is "
            "reserved, so other jobs may take the money first: before you submit, call `pre_submit`.",
            DecisionDocument,
            _decide,
        ),
        ToolDefinition(
            "budget_status",
            "Show the budgets",
            "Returns the amounts that each budget has spent, holds for unfinished jobs and has left, the end "
            "of its window, and whether spending is frozen. Use it before you plan several jobs.",
            BudgetArguments,
            _budget_status,
        ),
        ToolDefinition(
            "pre_submit",
            "Reserve money and get the payload",
            "Reserves the price of a job in every budget that counts it, and returns the payload to submit, "
            "what it costs and what is left. Call it before every submission, and submit exactly the returned "
            "payload, once: it may be cheaper than yours. If it is refused, submit nothing; the error names "
            "the budget, what is left, and the cheapest variant. Do not work around a refusal by splitting a "
            "job or by changing its labels; ask the person you work for.",
            SubmissionArguments,
            _pre_submit,
            spends=True,
        ),
        ToolDefinition(
            "bind",
            "Record the provider's task",
            "Records the provider's task id for a reservation, so that its charge is counted when the job "
            "ends. Call it as soon as the provider has accepted the job. It may be repeated.",
            BindArguments,
            _bind,
            spends=True,
        ),
        ToolDefinition(
            "release",
            "Give money back",
            "Makes the money of a reservation available again. Only for a job that the provider definitely "
            "refused, or that you never sent. Never call it after a timeout or a 5xx response: the job may be "
            "running, and its money stays held until somebody has looked. It may be repeated.",
            ReleaseArguments,
            _release,
            spends=True,
        ),
    )
}
"""Name -> tool, in the order of a job."""


def offered(caller: ToolCaller) -> list[ToolDefinition]:
    """Returns the tools that a caller may use."""
    return [tool for tool in TOOLS.values() if caller.may_spend or not tool.spends]


def instructions(book: PriceBook) -> str:
    """Returns the introduction for agents: the order of the calls, and the names that payloads may use."""
    formats = {name: joined(matrix.names) for name, matrix in book.matrices.items()}
    models = "\n".join(f"- {name}: {names}" for name, names in formats.items())
    return (
        "These tools know the exact prices of Kling video jobs and guard the budgets for them.\nTo make a "
        "video: compose the payload, call `check` and `quote`, then `pre_submit`. Submit the payload that it "
        "returns to the provider, once. Then call `bind` with the task id. If `pre_submit` is not among your "
        "tools, you may not spend; only quote and plan.\n"
        f"Providers with prices: {joined(book.tables)}.\n"
        f"APIs (`wire_format`) and the names of their models:\n{models}"
    )


async def call_tool(caller: ToolCaller, name: str, arguments: dict[str, Any] | None) -> ToolAnswer:
    """Runs a tool and returns its answer; a refusal is an answer, too."""

    def work() -> ToolAnswer:
        tool = TOOLS.get(name)
        if tool is None:
            raise KlingPricingError(f"there is no tool {name!r}; use one of: {joined(TOOLS)}")
        if tool.spends and not caller.may_spend:
            raise AccessError(
                f"you may not use the tool {name}, because you may not spend; ask an administrator",
                status=_NOT_ALLOWED,
            )
        return tool.work(caller, read_arguments(tool.arguments, arguments))

    def undo(answer: ToolAnswer) -> None:
        if "payload" in answer.data:  # nobody got it
            caller.guard.release_refused(answer.data["reservation_id"], "the call was cancelled")

    spends = name in TOOLS and TOOLS[name].spends
    try:
        return await caller.run(work, undo if spends else None)
    except KlingPricingError as error:
        return error_answer(error)
