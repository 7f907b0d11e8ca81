"""Jobs: a list with filters, and one job with its life, its quote explained and the provider's answers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, time, timedelta
from typing import NamedTuple, cast, get_args
from urllib.parse import quote, urlencode

from kling_pricing.ledger.model import Reservation, State
from kling_pricing.server.api.dependencies import budgets_of, reservation_of
from kling_pricing.server.api.reservation_routes import list_reservations
from kling_pricing.server.api.reservation_views import ReservationView
from kling_pricing.server.pages.form_fields import Form
from kling_pricing.server.pages.job_words import answer_words, life_of, quote_words
from kling_pricing.server.pages.visits import Content, Page, PageRoute, Visit
from kling_pricing.server.task_questions import upstream_of

_ON_A_PAGE = 100
_CHUNK = 1000
_MAX_CHUNKS = 10
"""The largest number of chunks in which one request looks for jobs that match every filter."""

_IN_DOUBT = "in_doubt"
STATES: Sequence[tuple[str, str]] = (
    ("", "any"),
    (_IN_DOUBT, "in doubt"),
    ("reserved", "reserved"),
    ("dispatching", "sent"),
    ("bound", "running"),
    ("settled", "settled"),
    ("released", "released"),
)
"""The states to choose from: the value in the URL, and the word for people."""

_FILTERS = ("project", "key", "state", "model", "label", "day")


class FoundJobs(NamedTuple):
    """A page of jobs.

    Attributes:
        jobs: the jobs, the newest first.
        next: the cursor of the next page; None: there are no more.
        is_incomplete: whether the search ended early, because too many jobs matched none of the filters.
    """

    jobs: list[ReservationView]
    next: str | None
    is_incomplete: bool


def show_list(visit: Visit) -> Content:
    """Shows the jobs that match the filters, the newest first."""
    server, caller = visit.server, visit.caller
    found = _found(visit)
    chosen = {name: visit.query[name] for name in _FILTERS if visit.query[name]}
    following = f"/jobs?{urlencode({**chosen, 'after': found.next})}" if found.next else None
    return Content(
        "jobs",
        {
            "found": found,
            "following": following,
            "states": STATES,
            "projects": server.ledger.projects() if caller.project is None else [caller.project],
            "query": visit.query,
            "is_filtered": bool(chosen),
        },
    )


def _found(visit: Visit) -> FoundJobs:
    """Returns the newest jobs that match, from the cursor on. Reads at most `_MAX_CHUNKS` pages."""
    query, day = visit.query, visit.query.day("day")
    state = query["state"] if query["state"] in get_args(State) else None
    since = None if day is None else datetime.combine(day, time.min, UTC)
    limit = _CHUNK if query["model"] or query["label"] else _ON_A_PAGE
    cursor = query.given("after")
    found: list[ReservationView] = []
    for _ in range(_MAX_CHUNKS):
        page = list_reservations(
            visit.server,
            visit.caller,
            project=query.given("project"),
            key=query.given("key"),
            state=cast("State | None", state),
            in_doubt=query["state"] == _IN_DOUBT,
            since=since,
            until=None if since is None else since + timedelta(days=1),
            cursor=cursor,
            limit=limit,
        )
        found += _matching(page.items, query)
        if len(found) > _ON_A_PAGE:
            jobs = found[:_ON_A_PAGE]
            return FoundJobs(jobs, jobs[-1].id, is_incomplete=False)
        cursor = page.next
        if cursor is None or len(found) == _ON_A_PAGE:
            return FoundJobs(found, cursor, is_incomplete=False)
    return FoundJobs(found, cursor, is_incomplete=True)


def _matching(jobs: Iterable[ReservationView], query: Form) -> list[ReservationView]:
    """Returns the jobs with a model and labels."""
    model, labels = query["model"].lower(), query.labels("label")
    return [
        job
        for job in jobs
        if (not model or job.model.lower() == model) and labels.items() <= job.labels.items()
    ]


def show_job(visit: Visit) -> Content:
    """Shows one job."""
    server = visit.server
    job = reservation_of(server, visit.caller, visit.path["reservation_id"])
    own = None if visit.caller.project is None else budgets_of(server, visit.caller)
    answers = server.ledger.observations_of(job.provider, job.task_id) if job.task_id else []
    return Content(
        "job",
        {
            "job": job,
            "life": life_of(server.ledger.entries_of(job.id), own),
            "words": quote_words(job, server.book),
            "answers": [(seen, answer_words(seen)) for seen in answers],
            "may_correct": job.state == "settled" and visit.may("manage"),
            **decision_facts(visit, job),
        },
    )


def is_open(job: Reservation) -> bool:
    """Returns whether a job was sent and its outcome is not known yet."""
    return job.state in {"dispatching", "bound"} or job.in_doubt


def decision_facts(visit: Visit, job: Reservation) -> dict[str, bool]:
    """Returns what a person may do about a job: ask the provider, or state the outcome."""
    return {
        "may_ask": is_open(job) and visit.may("submit") and upstream_of(visit.server, job) is not None,
        "may_resolve": is_open(job) and visit.may("manage"),
    }


def job_path(reservation_id: str) -> str:
    """Returns the path of a job's page."""
    return f"/jobs/{quote(reservation_id, safe='')}"


PAGE = Page(
    "Jobs",
    "/jobs",
    (PageRoute("GET", "/jobs", show_list), PageRoute("GET", "/jobs/{reservation_id}", show_job)),
)
