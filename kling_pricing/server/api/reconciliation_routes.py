"""Reconciling over the API: upload a statement, read the result and the reports, and act on them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Path, Request
from fastapi.responses import FileResponse
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool

from kling_pricing.errors import KlingPricingError
from kling_pricing.ledger.actions import author
from kling_pricing.server.access import Caller
from kling_pricing.server.api.dependencies import API_PREFIX, Administrator, Auditor, Served, StrictRoute
from kling_pricing.server.api.exact_fields import ShortText
from kling_pricing.server.api.reconciliation_views import (
    ActBody,
    ReconciliationList,
    ReconciliationView,
    view_of,
)
from kling_pricing.server.problem_documents import problems
from kling_pricing.server.proxy.incoming import OVERLOADED, BodyError, CallerGoneError, IncomingBodies
from kling_pricing.server.reconciliations.run_queue import BusyError
from kling_pricing.server.reconciliations.run_requests import Action, RunRequest
from kling_pricing.server.reconciliations.runs import Run
from kling_pricing.server.reconciliations.statement_uploads import (
    MAPPING,
    MEDIA_TYPE,
    STATEMENTS,
    boundary_of,
    read_upload,
)
from kling_pricing.server.server_state import ServerState
from kling_pricing.strict_yaml import explained, key_path

router = APIRouter(
    prefix=API_PREFIX,
    route_class=StrictRoute,
    tags=["statements"],
    responses=problems(401, 403, 409, 422, 503),
)

_NOT_KEPT = (
    "this server does not have this reconciliation; the work folder keeps it for a limited time, and another "
    "server may have it"
)


def _form_schema() -> dict[str, Any]:
    """Returns the description of the form, as OpenAPI has it."""
    described = RunRequest.model_json_schema()
    file = {"type": "string", "format": "binary"}
    properties: dict[str, Any] = {}
    for name, field in described["properties"].items():
        options = [each for each in field.get("anyOf", [field]) if each.get("type") != "null"]
        properties[name] = {key: value for key, value in options[0].items() if key not in {"default", "title"}}
    properties["month"] |= {"pattern": "^2[01][0-9]{2}-(0[1-9]|1[0-2])$", "example": "2026-11"}
    properties["invoice_total"] |= {"pattern": "^[0-9]{1,9}([.][0-9]{1,9})?$"}
    properties |= {
        STATEMENTS: {
            "type": "array",
            "items": file,
            "minItems": 1,
            "description": "The files of the statement.",
        },
        MAPPING: file | {"description": "A mapping of the columns, as YAML."},
    }
    return {
        "type": "object",
        "properties": properties,
        "required": [*described["required"], STATEMENTS],
        "additionalProperties": False,
    }


@router.post(
    "/statements",
    summary="Upload a statement and reconcile it",
    status_code=202,
    responses=problems(408, 413),
    openapi_extra={"requestBody": {"required": True, "content": {MEDIA_TYPE: {"schema": _form_schema()}}}},
)
async def upload_statement(request: Request, server: Served, caller: Auditor) -> ReconciliationView:
    """Begins to reconcile a statement with the ledger, in the background. The ledger does not change.

    Ask for the reconciliation with its `id` until its `state` is not `working` any more.
    """
    try:
        run_id = await receive_statement(request, server, caller, lambda _: None)
    except BodyError as error:
        raise HTTPException(error.status, str(error), {"connection": "close"}) from None
    except CallerGoneError as error:
        raise HTTPException(400, str(error)) from None
    return await run_in_threadpool(show_reconciliation, run_id, server, caller)


async def receive_statement(
    request: Request, server: ServerState, caller: Caller, check: Callable[[Mapping[str, str]], None]
) -> str:
    """Takes an upload, and returns the id of its reconciliation.

    Args:
        request: the request, a form in parts.
        server: the state of the server.
        caller: the caller.
        check: called with the fields of the form before anything is written.

    Raises:
        BodyError: the upload is too large or too slow.
        CallerGoneError: the caller has disconnected.
        HTTPException: the server has too much to do (503).
        KlingPricingError: the upload cannot be used.
    """
    runs, limits = server.runs, server.settings.limits
    boundary = boundary_of(request.headers.get("content-type", ""))
    if boundary is None:
        raise KlingPricingError(
            f"the body must be a form of the type {MEDIA_TYPE}; send the statement as a file"
        )
    if runs.missing is not None:
        raise KlingPricingError(runs.missing)
    bodies = IncomingBodies(limits.model_copy(update={"upload_mb": limits.statement_mb}))
    bodies.check_upload(request.headers.get("content-length"))
    try:
        with runs.incoming() as folder:
            upload = await read_upload(boundary, bodies.pass_on(request.receive), folder, check)
            wanted = _request_of(upload.fields)
            server.book.tables_of(wanted.provider)
            if not upload.statements:
                raise KlingPricingError(f"{STATEMENTS}: choose at least one file of the statement")
            if wanted.mapping is not None and upload.mapping is not None:
                raise KlingPricingError(f"give either `mapping` or `{MAPPING}`; leave one of them out")
            return await run_in_threadpool(
                runs.add, folder, wanted, upload.statements, upload.mapping, caller.name
            )
    except BusyError as error:
        raise HTTPException(OVERLOADED, str(error)) from None


def _request_of(fields: Mapping[str, str]) -> RunRequest:
    try:
        return RunRequest.model_validate({name: text for name, text in fields.items() if name != "form_token"})
    except ValidationError as error:
        found = [explained(details) for details in error.errors()]
        text = "; ".join(": ".join(filter(None, (key_path(place), problem))) for place, problem in found)
        raise KlingPricingError(text) from None


@router.get("/reconciliations", summary="List reconciliations")
def list_reconciliations(server: Served, _caller: Auditor) -> ReconciliationList:
    """Returns the reconciliations that the work folder of this server has, the newest first."""
    return ReconciliationList(items=[view_of(run, with_result=False) for run in server.runs.all()])


@router.get("/reconciliations/{run_id}", summary="Get a reconciliation and its result", responses=problems(404))
def show_reconciliation(
    run_id: Annotated[ShortText, Path()], server: Served, _caller: Auditor
) -> ReconciliationView:
    """Returns a reconciliation: its steps, its progress, and its result once there is one."""
    return view_of(run_of(server, run_id))


@router.get(
    "/reconciliations/{run_id}/reports/{name}",
    summary="Download a report",
    response_class=FileResponse,
    responses={
        200: {"content": {"application/octet-stream": {}}, "description": "The file."},
        **problems(404),
    },
)
def download_report(
    run_id: Annotated[ShortText, Path()], name: Annotated[ShortText, Path()], server: Served, _caller: Auditor
) -> FileResponse:
    """Returns a file of the reports, whose names are in the result."""
    path = run_of(server, run_id).report(name)
    if path is None:
        raise HTTPException(404, f"{_NOT_KEPT}, or has no such report")
    headers = {"x-content-type-options": "nosniff", "cache-control": "no-store"}
    return FileResponse(path, media_type="application/octet-stream", filename=name, headers=headers)


@router.post(
    "/reconciliations/{run_id}/{action}",
    summary="Remember, dispute or settle a statement, or close its month",
    status_code=202,
    responses=problems(404),
)
def act_on_reconciliation(
    run_id: Annotated[ShortText, Path()],
    action: Annotated[Action, Path()],
    body: ActBody,
    server: Served,
    caller: Administrator,
) -> ReconciliationView:
    """Begins an action in the background. It changes nothing if the result is not the one that you have seen.

    `remember` adds the statement to the books. `dispute` also disputes charges that are too high, and `settle`
    also writes the charges into the ledger. `close` closes the books of the month.
    """
    run = run_of(server, run_id)
    author(caller.name, body.reason)
    if run.result is None or body.plan != run.result["plan"]:
        raise HTTPException(409, "the result has changed since you saw it; look at the new one first")
    try:
        server.runs.act(run, action, body.plan, body.reason, caller.name)
    except BusyError as error:
        raise HTTPException(409, str(error)) from None
    return show_reconciliation(run_id, server, caller)


def run_of(server: ServerState, run_id: str) -> Run:
    """Returns a reconciliation.

    Raises:
        HTTPException: the work folder of the server does not have it (404).
    """
    run = server.runs.run(run_id)
    if run is None:
        raise HTTPException(404, _NOT_KEPT)
    return run
