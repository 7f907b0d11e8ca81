"""The pydantic models of the `http` section of a capability file."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from kling_pricing.strict_yaml import Code, FileModel, Text, UrlPath
from kling_pricing.tables.http_rules import CODE, MESSAGE
from kling_pricing.tables.loading.conditions import ErrorShape, ListedPath, StatusCondition


class IdempotencyEntry(FileModel):
    """The header for an idempotency key: requests with the same key create one task."""

    header: Annotated[str, Field(pattern="^[A-Za-z0-9-]+$")]
    hours: Annotated[int, Field(gt=0)] = Field(description="How long the API remembers a key.")
    source: Text


class OwnIdEntry(FileModel):
    """The payload's field for a task id of the caller's choice, by which the API can look the task up."""

    field: Code
    source: Text


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class RefusedEntry(FileModel):
    """Answers to a submission that prove that the API did not accept it."""

    status: StatusCondition
    unless: list[int] = Field([], description="Statuses that are exceptions.")
    code: Annotated[list[Text], BeforeValidator(_as_list)] = Field(
        [], description="The code that the error must have, or a list of codes; empty: any."
    )
    unless_message: Text | None = Field(
        None, description="Words in the error's message that are an exception, whatever their case."
    )
    source: Text


class PathsEntry(FileModel):
    """A group of paths and its source."""

    paths: Annotated[list[ListedPath], Field(min_length=1)] = Field(
        description="A segment in braces stands for any one segment; /* at the end includes every path below."
    )
    source: Text


class UnpricedPathsEntry(PathsEntry):
    """Paths at which requests are billed, but have no published price; they are refused with the reason."""

    why: Text


class McpEntry(FileModel):
    """The API's MCP endpoint, one of whose tools submits jobs."""

    path: ListedPath
    submits_to: UrlPath = Field(description="The endpoint whose payloads the submitting tool takes.")
    create: Text = Field(description="The tool that submits jobs.")
    nested: Text = Field(description="The argument that may hold the payload without its model.")
    beside: list[Text] = Field([], description="Arguments that are not part of the payload.")
    key: Text = Field(description="The argument with the idempotency key.")
    task_tools: list[Text] = Field(
        [], description="Free tools whose answer describes the task in their argument task_id."
    )
    free: list[Text] = Field([], description="The other free tools; a tool that is not listed is refused.")
    methods: list[Text] = Field(description="JSON-RPC methods that cost nothing, besides notifications.")
    refused_errors: list[int] = Field(
        [], description="JSON-RPC error codes that prove that nothing was accepted."
    )
    source: Text


class TaskListEntry(FileModel):
    """A path whose response lists tasks."""

    path: UrlPath
    source: Text


class BilledFactsEntry(FileModel):
    """The facts in a response about a finished task that state what is billed."""

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
    free: list[PathsEntry] = Field([], description="Paths at which a POST, PUT or PATCH costs nothing.")
    other_services: list[PathsEntry] = Field(
        [], description="Paths of services other than video jobs; requests pass and are counted as unpriced."
    )
    unpriced: list[UnpricedPathsEntry] = Field([], description="Billed paths without a published price.")
    allow_paths: list[UrlPath] = Field(
        [], description="Paths at and below which requests pass without a price, in a file of your own."
    )
    mcp: McpEntry | None = None
    refused: list[RefusedEntry] = Field(
        [], description="Definite refusals; after other errors, the outcome is unknown."
    )
    task_lists: list[TaskListEntry] = Field(
        [], description="Paths whose response to a GET or a POST lists tasks, such as /tasks."
    )
    billed_facts: BilledFactsEntry | None = Field(
        None, description="Facts in a response about a finished task that state what is billed."
    )
    error: ErrorShape = Field(
        {"error": {"message": MESSAGE, "code": CODE}}, description="The shape of the body of an error."
    )
    code_at: list[Annotated[str, Field(pattern=r"^[a-z_]+(\.[a-z_]+)*$")]] = Field(
        [],
        description="Where an answer may have the code of an error, such as error.code; the first that it has "
        "counts, and the message is beside it. Empty: as in `error`.",
    )
