"""The month: upload a statement, look at the reconciliation and its reports, act on it, and close the month."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from fastapi import HTTPException
from starlette.concurrency import run_in_threadpool
from starlette.responses import FileResponse, Response

from kling_pricing.errors import AccessError, KlingPricingError
from kling_pricing.ledger.books import Books
from kling_pricing.ledger.provider_accounts import ProviderAccount
from kling_pricing.reconcile.mappings import load_mappings
from kling_pricing.server.access import FORBIDDEN
from kling_pricing.server.api.reconciliation_routes import (
    act_on_reconciliation,
    list_reconciliations,
    receive_statement,
    run_of,
    show_reconciliation,
)
from kling_pricing.server.api.reconciliation_views import ActBody, ReconciliationView
from kling_pricing.server.pages.answering import TOKEN_FIELD, problem_from
from kling_pricing.server.pages.form_fields import Form, form_of
from kling_pricing.server.pages.month_words import ACTION_WORDS, actions_for, verdict_of
from kling_pricing.server.pages.rendering import HEADERS
from kling_pricing.server.pages.visits import Answer, Content, Page, PageRoute, SeeOther, Visit
from kling_pricing.server.proxy.incoming import BodyError, CallerGoneError, IncomingBodies
from kling_pricing.server.reconciliations.run_requests import ACTIONS, Action
from kling_pricing.server.reconciliations.statement_uploads import boundary_of
from kling_pricing.server.server_state import ServerState
from kling_pricing.tables.price_book import PriceBook

_REPORT_POLICY = (
    "sandbox allow-scripts allow-popups; default-src 'none'; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline'; img-src data:; form-action 'none'; frame-ancestors 'none'; base-uri 'none'"
)
"""The report runs in an origin of its own: it reaches neither the cookie, nor another page, nor the network."""

_FORM_BYTES = 2**16
_FORM = "application/x-www-form-urlencoded"
_MAX_SHOWN = 50
_FORMATS = (
    ("report.html", "The report, to read or print"),
    ("report.xlsx", "Excel"),
    ("report.json", "JSON"),
    ("focus.csv", "FOCUS, CSV"),
    ("focus.parquet", "FOCUS, Parquet"),
    ("disputes.csv", "Charges to dispute, CSV"),
)
"""The reports that the page names, in this order. Others have their file name."""


class AccountBooks(NamedTuple):
    """The books of an account, for the page.

    Attributes:
        account: the account.
        statements: the names of the remembered statements, the newest first.
        closed: the newest closed month; None: no month is closed.
    """

    account: ProviderAccount
    statements: list[str]
    closed: str | None


class ReportFile(NamedTuple):
    """A report to download."""

    name: str
    title: str
    size: str


def show(visit: Visit) -> Content:
    """Shows the form for a statement, the reconciliations so far, and the books."""
    server = visit.server
    accounts = server.ledger.accounts()
    found = list_reconciliations(server, visit.caller).items
    return Content(
        "month",
        {
            "runs": found[:_MAX_SHOWN],
            "count": len(found),
            "missing": server.runs.missing,
            "providers": sorted(server.book.tables),
            "accounts": sorted({each.account for each in accounts}),
            "zones": _zones(server),
            "mappings": _mappings(server.book),
            "last_month": _month_before(server.clock()),
            "books": _books(visit, accounts),
            "limit_mb": server.settings.limits.statement_mb,
            "kept_days": server.settings.work_kept_s // 86_400,
        },
    )


def _zones(server: ServerState) -> list[str]:
    """Returns the time zones to suggest: that of the books, and those of the budgets."""
    if server.ledger.installed() is None:
        return ["UTC"]
    return sorted({"UTC"} | {entry.timezone for entry in server.guard.budgets().budgets})


def _mappings(book: PriceBook) -> list[str]:
    return sorted(load_mappings(book))


def _month_before(now: datetime) -> str:
    """Returns the newest month that is over, because a statement is about such a month."""
    return f"{now.replace(day=1) - timedelta(days=1):%Y-%m}"


def _books(visit: Visit, accounts: Any) -> list[AccountBooks]:
    owners = {ProviderAccount(provider, provider) for provider in visit.server.book.tables} | {*accounts}
    found: list[AccountBooks] = []
    for owner in sorted(owners):
        books: Books = visit.server.ledger.books(owner.books)
        if books.statements or books.closed:
            names = [statement.name for statement in reversed(books.statements)]
            closed = max((month.month for month in books.closed), default=None)
            found.append(AccountBooks(owner, names, closed))
    return found


def upload(visit: Visit) -> Any:
    """Takes an upload. The coroutine reads the body, because it may be large."""
    return _upload(visit)


async def _upload(visit: Visit) -> Answer:
    request = visit.request
    fields: Mapping[str, str] = {}

    def check(found: Mapping[str, str]) -> None:
        nonlocal fields
        fields = found
        visit.person.require_token(found.get(TOKEN_FIELD, ""))

    try:
        if boundary_of(request.headers.get("content-type", "")) is None:
            await _refuse_other_forms(visit)
        run_id = await receive_statement(request, visit.server, visit.caller, check)
    except AccessError:
        raise
    except CallerGoneError:
        return Response(status_code=400)
    except (KlingPricingError, HTTPException) as error:
        status = HTTPException(error.status, str(error)) if isinstance(error, BodyError) else error
        form = Form({"which": ["upload"]} | {name: [text] for name, text in fields.items()})
        problem = problem_from(status)
        again = Visit(visit.server, visit.person, request, visit.path, visit.query, form, problem)
        content = await run_in_threadpool(show, again)
        facts = {"visit": again, "form": form, "typed": again.typed, "problem": problem}
        return content._replace(facts={**content.facts, **facts}, status=problem.status)
    return SeeOther(f"/month/{run_id}")


async def _refuse_other_forms(visit: Visit) -> None:
    """Refuses a form without files. Its token is still checked first, as that of any form."""
    request = visit.request
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _FORM:
        raise AccessError("this is not a form of these pages; open the page again", status=FORBIDDEN)
    limits = visit.server.settings.limits
    text = b""
    async for part in IncomingBodies(limits).pass_on(request.receive):
        text += part
        if len(text) > _FORM_BYTES:
            raise KlingPricingError("the form is too large; open the page again")
    visit.person.require_token(form_of(text)[TOKEN_FIELD])


def show_run(visit: Visit) -> Content:
    """Shows one reconciliation: its progress, its result, its reports, and what may be done with it."""
    found = show_reconciliation(visit.path["run_id"], visit.server, visit.caller)
    facts = _described(visit, found)
    reports = {} if found.result is None else found.result.reports
    titles = dict(_FORMATS)
    order = [*titles, *sorted(reports.keys() - titles.keys())]
    files = [
        ReportFile(name, titles.get(name, name), _size(reports[name])) for name in order if name in reports
    ]
    facts |= {
        "readable": "report.html" in reports,
        "main_files": [each for each in files if each.name in titles],
        "other_files": [each for each in files if each.name not in titles],
    }
    return Content("month_run", facts)


def _described(visit: Visit, found: ReconciliationView) -> dict[str, Any]:
    is_remembered = False
    if found.result is not None:
        owner = ProviderAccount(found.result.provider, found.result.account)
        digests = {statement.digest for statement in visit.server.ledger.books(owner.books).statements}
        is_remembered = {*found.result.statements.values()} <= digests
    may_act = visit.may("manage", all_projects=True) and not found.progress and found.result is not None
    return {
        "run": found,
        "result": found.result,
        "verdict": verdict_of(found.result),
        "is_remembered": is_remembered,
        "actions": actions_for(found.result, is_remembered=is_remembered) if may_act and found.result else [],
        "words": ACTION_WORDS,
    }


def _size(size_bytes: int) -> str:
    kib = 1024
    if size_bytes < kib:
        return f"{size_bytes} B"
    return f"{size_bytes // kib:,} KiB" if size_bytes < kib * kib else f"{size_bytes // kib // kib:,} MiB"


def show_plan(visit: Visit) -> Content:
    """Shows what an action would do, and asks for the reason."""
    action = _action(visit)
    found = show_reconciliation(visit.path["run_id"], visit.server, visit.caller)
    facts = _described(visit, found)
    possible = next((each for each in facts["actions"] if each.name == action), None)
    if possible is None:
        raise HTTPException(409, "this cannot be done with the reconciliation now; look at its page")
    return Content("month_plan", facts | {"action": possible})


def act(visit: Visit) -> Answer:
    """Begins an action that a person has confirmed."""
    run_id, form = visit.path["run_id"], visit.form
    run_of(visit.server, run_id)
    body = ActBody.model_validate({"plan": form["plan"], "reason": form["reason"]})
    act_on_reconciliation(run_id, _action(visit), body, visit.server, visit.caller)
    return SeeOther(f"/month/{run_id}", "month-begun")


def _action(visit: Visit) -> Action:
    action = next((each for each in ACTIONS if each == visit.path["action"]), None)
    if action is None:
        raise HTTPException(404, "there is no such action; go back to the reconciliation")
    return action


def send_report(visit: Visit) -> Answer:
    """Sends a report: a file to keep, or the page to read in the browser."""
    name = visit.path["name"]
    path = run_of(visit.server, visit.path["run_id"]).report(name)
    if path is None:
        raise HTTPException(404, "there is no such report, or the server does not keep it any more")
    headers = dict(HEADERS)
    if name.endswith(".html") and not visit.query.is_ticked("download"):
        headers["content-security-policy"] = _REPORT_POLICY
        return FileResponse(path, media_type="text/html; charset=utf-8", headers=headers)
    headers["content-security-policy"] = "sandbox; default-src 'none'"
    return FileResponse(path, media_type="application/octet-stream", filename=name, headers=headers)


PAGE = Page(
    "Month",
    "/month",
    (
        PageRoute("GET", "/month", show, all_projects=True),
        PageRoute("POST", "/month", upload, all_projects=True, reads_form=False),
        PageRoute("GET", "/month/{run_id}", show_run, all_projects=True),
        PageRoute("GET", "/month/{run_id}/reports/{name}", send_report, all_projects=True),
        PageRoute("GET", "/month/{run_id}/{action}", show_plan, "manage", all_projects=True),
        PageRoute("POST", "/month/{run_id}/{action}", act, "manage", all_projects=True, back=show_plan),
    ),
    all_projects=True,
)
