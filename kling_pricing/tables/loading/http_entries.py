"""The pydantic models of the `http` section of a capability file."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from kling_pricing.strict_yaml import FileModel, Text, UrlPath
from kling_pricing.tables.http_rules import CODE, MESSAGE
from kling_pricing.tables.loading.conditions import (
    ErrorShape,
    ListedPath,
    LookupPath,
    PayloadField,
    StatusCondition,
)


class IdempotencyEntry(FileModel):
    """The header for an idempotency key. Requests with the same key create only one task."""

    header: Annotated[str, Field(pattern="^[A-Za-z0-9-]+$")]
    hours: Annotated[int, Field(gt=0)] = Field(
        description="The number of hours for which the API remembers a key."
    )
    source: Text


class OwnIdEntry(FileModel):
    """The payload field for a task id that the caller chooses and by which the API can look up the task."""

    field: PayloadField
    lookup: LookupPath | None = Field(
        None,
        description="The path at which the API looks up a task by that id. By default, the status paths accept "
        "that id in place of the task's id.",
    )
    source: Text


class CallbackEntry(FileModel):
    """The payload field for the URL to which the API sends callbacks."""

    field: PayloadField
    source: Text


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class RefusedEntry(FileModel):
    """Responses to a submission that prove that the API did not accept the job."""

    status: StatusCondition
    unless: list[int] = Field([], description="HTTP statuses to which the entry does not apply.")
    code: Annotated[list[Text], BeforeValidator(_as_list)] = Field(
        [], description="The required error code, or a list of codes. An empty list means any code."
    )
    unless_message: Text | None = Field(
        None,
        description="The entry does not apply if the error message contains this text. Case does not matter.",
    )
    source: Text


class PathsEntry(FileModel):
    """A group of paths and its source."""

    paths: Annotated[list[ListedPath], Field(min_length=1)] = Field(
        description="The paths. A segment in braces matches any single segment, and a final /* matches every "
        "path below it."
    )
    source: Text


class UnpricedPathsEntry(PathsEntry):
    """Paths at which requests are billed but have no published price. Hooks refuse them with the reason."""

    why: Text


class McpEntry(FileModel):
    """The API's MCP endpoint, which has a tool that submits jobs."""

    path: ListedPath
    submits_to: UrlPath = Field(description="The endpoint whose payload format the submitting tool accepts.")
    create: Text = Field(description="The tool that submits jobs.")
    nested: Text = Field(description="The argument that may hold the payload without its model.")
    beside: list[Text] = Field(
        [], description="Arguments of the submitting tool that are not part of the payload."
    )
    key: Text = Field(description="The argument that holds the idempotency key.")
    task_tools: list[Text] = Field([], description="Free tools that accept a task_id and return that task.")
    free: list[Text] = Field(
        [], description="The other free tools. Calls to tools that are not listed are refused."
    )
    methods: list[Text] = Field(
        description="JSON-RPC methods that are free of charge. Notifications are always free."
    )
    refused_errors: list[int] = Field(
        [], description="JSON-RPC error codes that prove that the job was not accepted."
    )
    source: Text


class TaskListEntry(FileModel):
    """A path whose response lists tasks."""

    path: UrlPath
    source: Text


class BilledFactsEntry(FileModel):
    """The facts that determine the charge, from the response about a finished task."""

    facts: Annotated[
        list[Literal["action", "resolution", "reference", "audio", "duration_s"]], Field(min_length=1)
    ]
    source: Text


class HttpEntry(FileModel):
    """The API's behaviour over HTTP; anything not listed is assumed to be unknown."""

    forms: bool = Field(
        default=False, description="Whether the API accepts multipart/form-data as well as JSON."
    )
    idempotency: IdempotencyEntry | None = None
    own_id: OwnIdEntry | None = None
    callback: CallbackEntry | None = None
    free: list[PathsEntry] = Field(
        [], description="Paths where a POST, PUT or PATCH request is free of charge."
    )
    other_services: list[PathsEntry] = Field(
        [],
        description="Services other than video jobs. Hooks let requests to these services through, and "
        "count them as unpriced.",
    )
    account: list[PathsEntry] = Field(
        [],
        description="Paths that concern the whole account, such as its balance. The server refuses them to "
        "callers with a key for one project.",
    )
    unpriced: list[UnpricedPathsEntry] = Field(
        [], description="Paths that are billed but have no published price."
    )
    allow_paths: list[UrlPath] = Field(
        [],
        description="Path prefixes. Use this key only in your own files. Hooks let requests to these "
        "paths through without a price, and no budget counts the cost of these requests.",
    )
    mcp: McpEntry | None = None
    refused: list[RefusedEntry] = Field(
        [], description="Responses that prove a refusal. After any other error, the outcome is unknown."
    )
    task_lists: list[TaskListEntry] = Field(
        [], description="Paths that return a list of tasks for a GET or POST request, such as /tasks."
    )
    billed_facts: BilledFactsEntry | None = Field(
        None,
        description="The facts that determine the charge, as the response about a finished task states them.",
    )
    error: ErrorShape = Field(
        {"error": {"message": MESSAGE, "code": CODE}},
        description="The structure of the body of an error response.",
    )
    code_at: list[Annotated[str, Field(pattern=r"^[a-z_]+(\.[a-z_]+)*$")]] = Field(
        [],
        description="Paths at which a response may hold the error code, such as error.code. The first path "
        "that exists is used, and the message is read from the same object. If the list is empty, the code is "
        "read from its place in `error`.",
    )
