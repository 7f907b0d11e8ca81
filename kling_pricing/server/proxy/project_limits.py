"""Which requests a caller with a key for one project may send, and which only read."""

from __future__ import annotations

from http import HTTPStatus

from kling_pricing.errors import AccessError
from kling_pricing.guard import BudgetGuard
from kling_pricing.guard.references import is_reservation_id
from kling_pricing.hooks.http_messages import TaskEndpoint
from kling_pricing.hooks.route import McpEndpoint, Route, UnlistedPath
from kling_pricing.hooks.routes import creates
from kling_pricing.server.access import Caller
from kling_pricing.server.proxy.guarded import GuardedUpstream, rules_of
from kling_pricing.server.proxy.provider_answers import Answer, error_answer
from kling_pricing.server.proxy.submitting import UpstreamRequest
from kling_pricing.server.proxy.targets import Target
from kling_pricing.tables.http_rules import HttpRules
from kling_pricing.wire.endpoints import Endpoint


def refusal_for_project(
    guard: BudgetGuard,
    guarded: GuardedUpstream,
    request: UpstreamRequest,
    route: Route,
    caller: Caller,
    project: str,
) -> Answer | None:
    """Returns the refusal of a request that does not belong to the caller's project; None: it passes."""
    target, isolation = request.target, guarded.isolation
    if isolation.is_open(target.segments):
        return None
    if isinstance(route, Endpoint | McpEndpoint | UnlistedPath):
        return None  # a submission, or a request that the hook refuses
    lists_tasks = isinstance(route, TaskEndpoint) and not route.task_id
    named = isolation.tasks_in(target.segments)
    if named.ids and not lists_tasks:
        rules = rules_of(guarded.guard.book, guarded.upstream.provider, named.wire_format)
        for task_id in sorted(named.ids | isolation.tasks_in_query(target.query)):
            if not isolation.belongs(guard, project, task_id):
                return not_found(task_id, rules)
        return None
    if isinstance(route, TaskEndpoint) and (request.method == "GET" or _lists(request.method, route)):
        return None  # the response is filtered
    is_free = route is None and creates(request.method)
    concerns_all = isolation.concerns_account(target.segments) or isolation.may_list(target.segments)
    if not is_free or concerns_all:
        raise AccessError(
            f"the access key {caller.name} reaches the project {project} only, and this path does not name "
            "a task; ask an administrator for a key with --all-projects, or to add the path to the setting "
            "`open_paths`",
            status=HTTPStatus.FORBIDDEN,
        )
    return None


def only_reads(method: str, route: Route) -> bool:
    """Returns whether a request changes nothing: a GET or HEAD, or a POST that asks for a list of tasks."""
    if not creates(method):
        return method != "DELETE"
    return isinstance(route, TaskEndpoint) and _lists(method, route)


def _lists(method: str, route: TaskEndpoint) -> bool:
    """Returns whether a request asks for a list of tasks by a POST, and does nothing else."""
    return method == "POST" and not route.task_id


def is_checked(guarded: GuardedUpstream, target: Target, task: TaskEndpoint) -> bool:
    """Returns whether the path names the only task that a response describes, so that it was checked before."""
    named = task.task_id and guarded.isolation.tasks_in(target.segments).ids
    return bool(named) and not is_reservation_id(task.task_id)


def not_found(task_id: str, rules: HttpRules) -> Answer:
    """Returns the response about a task that does not exist for the caller."""
    return error_answer(HTTPStatus.NOT_FOUND, "task_not_found", f"task {task_id} does not exist", rules)
