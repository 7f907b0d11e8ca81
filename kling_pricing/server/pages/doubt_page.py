"""Jobs in doubt: what is known, asking the provider now, and stating or correcting the outcome."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Awaitable
from typing import Any

from kling_pricing.errors import KlingPricingError
from kling_pricing.ledger.model import Reservation
from kling_pricing.server.api.dependencies import reservation_of
from kling_pricing.server.api.reservation_routes import list_reservations, resolve_reservation
from kling_pricing.server.api.reservation_views import ResolveBody, SettleBody
from kling_pricing.server.pages.jobs_page import decision_facts, is_open, job_path, show_job
from kling_pricing.server.pages.visits import Answer, Content, Page, PageRoute, SeeOther, Visit
from kling_pricing.server.task_questions import ask, upstream_of
from kling_pricing.server.upstreams import Upstream

_LISTED = 200
_ASKED_EVERY_NS = 10 * 10**9
"""The least time between two questions of people about one job."""

_MAX_REMEMBERED = 10_000
_asked_ns: OrderedDict[str, int] = OrderedDict()
"""Reservation -> when a person last asked about it, by the monotonic clock of this process."""

_DONE = {"unanswered": "asked-unanswered", "unaskable": "asked-unaskable", "unknown": "asked-unfound"}


def show(visit: Visit) -> Content:
    """Shows every job in doubt, the newest first, and answers of the provider about unknown tasks."""
    server, caller = visit.server, visit.caller
    jobs = list_reservations(server, caller, in_doubt=True, limit=_LISTED)
    found = [(job, decision_facts(visit, server.guard.reservation(job.id))) for job in jobs.items]
    return Content(
        "in_doubt",
        {
            "found": found,
            "has_more": jobs.next is not None,
            "unclaimed": server.guard.unclaimed()[:_LISTED] if caller.project is None else [],
            "is_asking": bool(server.upstreams),
        },
    )


def ask_now(visit: Visit) -> Awaitable[Answer]:
    """Asks the provider about a job, and records its answer."""
    job = reservation_of(visit.server, visit.caller, visit.path["reservation_id"])
    upstream = upstream_of(visit.server, job)
    if not is_open(job):
        raise KlingPricingError(
            "this job has ended, or was never sent, so there is nothing to ask the provider"
        )
    if upstream is None:
        raise KlingPricingError(
            f"the server has no upstream for account {job.account} of {job.provider}, so it cannot ask; look "
            "the job up at the provider, and state its outcome"
        )
    now_ns = time.monotonic_ns()
    if now_ns - _asked_ns.get(job.id, now_ns - _ASKED_EVERY_NS) < _ASKED_EVERY_NS:
        raise KlingPricingError("the provider was asked about this job less than 10 s ago; wait a moment")
    _asked_ns[job.id] = now_ns
    if len(_asked_ns) > _MAX_REMEMBERED:
        _asked_ns.popitem(last=False)
    return _asked(visit, upstream, job)


async def _asked(visit: Visit, upstream: Upstream, job: Reservation) -> Answer:
    result = await ask(visit.server, upstream, job)
    return SeeOther(job_path(job.id), _DONE.get(result.outcome, "asked"))


def resolve(visit: Visit) -> Answer:
    """Records the outcome that a person looked up."""
    form = visit.form
    fields: dict[str, Any] = {"outcome": form["outcome"] or None, "reason": form["reason"]}
    body = ResolveBody.model_validate(fields | ({"amount": form["amount"]} if form["amount"] else {}))
    job = resolve_reservation(visit.path["reservation_id"], body, visit.server, visit.caller)
    return SeeOther(job_path(job.id), "resolved")


def correct(visit: Visit) -> Answer:
    """Records another amount for a settled job, with the person as its source."""
    job = reservation_of(visit.server, visit.caller, visit.path["reservation_id"])
    body = SettleBody.model_validate({"amount": visit.form["amount"], "reason": visit.form["reason"]})
    if job.state != "settled":
        raise KlingPricingError("this job is not settled, so it has no amount to correct; state its outcome")
    acting = visit.server.guard.acting_as(visit.caller.name)
    acting.settle(job.id, body.amount, basis="operator", reason=body.reason)
    return SeeOther(job_path(job.id), "corrected")


PAGE = Page(
    "In doubt",
    "/in-doubt",
    (
        PageRoute("GET", "/in-doubt", show),
        PageRoute("POST", "/jobs/{reservation_id}/ask", ask_now, role="submit", back=show_job),
        PageRoute("POST", "/jobs/{reservation_id}/resolve", resolve, role="manage", back=show_job),
        PageRoute("POST", "/jobs/{reservation_id}/correct", correct, role="manage", back=show_job),
    ),
)
