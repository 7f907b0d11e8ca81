"""The pydantic models of a capability file, `capabilities/<wire format>.yaml`, and its JSON Schema.

`matrices` turns them into the frozen `CapabilityMatrix` and checks the files against each other.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from kling_pricing.strict_yaml import Code, FileModel, Instant, Name, Text, UrlPath
from kling_pricing.tables.loading.conditions import (
    FactConditions,
    FactValues,
    MediaConditions,
    TaskPath,
)
from kling_pricing.tables.loading.files import SourceEntry
from kling_pricing.tables.loading.http_entries import HttpEntry


class RuleEntry(FileModel):
    """If all conditions in `when` hold, all in `need` must hold, or the API refuses the request."""

    code: Code
    when: FactConditions = {}
    need: Annotated[FactConditions, Field(min_length=1)]
    message: Text | None = Field(
        None, description="The message that users see. If it is absent, the message is generated from the rule."
    )
    source: Text
    since: Instant | None = Field(
        None, description="The rule applies from this instant. Null means that the rule has always applied."
    )
    until: Instant | None = Field(
        None,
        description="The rule applies before this instant. Null means that the rule applies until "
        "further notice.",
    )


class WarningEntry(FileModel):
    """A rule that the API does not enforce; a request that breaks it gets a note."""

    code: Code
    when: FactConditions = {}
    need: Annotated[FactConditions, Field(min_length=1)]
    message: Text
    source: Text
    since: Instant | None = Field(
        None,
        description="The warning applies from this instant. Null means that the warning has always applied.",
    )
    until: Instant | None = Field(
        None,
        description="The warning applies before this instant. Null means that the warning applies until "
        "further notice.",
    )


class ImpliedActionEntry(FileModel):
    """The action that inputs imply if the payload has the default action; the first entry that matches wins."""

    action: Code
    when: FactConditions
    source: Text


class EndpointEntry(FileModel):
    """A path that accepts this API's payloads."""

    path: UrlPath = Field(description="The documented path. A gateway may add a path prefix.")
    actions: Annotated[list[Code], Field(min_length=1)] | None = Field(
        None, description="The actions that the path accepts. Null means that the path accepts every action."
    )
    model: Text | None = Field(
        None,
        description="The model for payloads that do not name one: the model in the path, or the default model "
        "of the path.",
    )
    models: list[Text] = Field(
        [], description="The names of the models that the path accepts. Empty means any model."
    )
    status: TaskPath | None = Field(None, description="The path for reading a task's status.")
    other_status: list[TaskPath] = Field([], description="Other paths for reading a task's status.")
    cancel: TaskPath | None = Field(
        None, description="The path to which a POST request is sent to cancel a task."
    )
    source: Text


class IgnoredFieldEntry(FileModel):
    """A field that one provider accepts but ignores; other providers of the same wire format read it."""

    field: Code
    provider: Name
    source: Text


class KnownNamesEntry(FileModel):
    """Names of models that this API does not offer, and a sentence that explains the names."""

    names: Annotated[list[Text], Field(min_length=1)]
    why: Text = Field(description="An explanation of what the model is and who sells it.")
    source: Text


class MediaEntry(FileModel):
    """Limits for the files in a request, which are checked if the caller passes facts about the files."""

    kind: Literal["image", "video"]
    limits: MediaConditions
    source: Text


class ModelEntry(FileModel):
    """The requests that the API accepts for one model."""

    names: list[Text] | dict[Text, FactValues] = Field(
        min_length=1,
        description="The model's names in this wire format. A name can imply facts, as in "
        "{some-name-720p: {resolution: 720p}}.",
    )
    actions: Annotated[list[Code], Field(min_length=1)]
    fields: Annotated[
        list[Code],
        Field(min_length=1, description="The inputs that the model accepts. Any other input is refused."),
    ]
    limits: FactConditions
    required: list[Code] | None = Field(
        None,
        description="Inputs that a payload must have. Null means that the file's `required` list applies.",
    )
    defaults: FactValues = Field(
        {}, description="The defaults of this model, where they differ from the file's defaults."
    )
    rules: list[RuleEntry] = []
    warnings: list[WarningEntry] = []
    media: list[MediaEntry] = []
    source: Text


class CapabilityFile(FileModel):
    """The requests that one API accepts: `capabilities/<wire format>.yaml`."""

    wire_format: Name
    sources: Annotated[list[SourceEntry], Field(min_length=1)]
    endpoints: list[EndpointEntry] = Field([], description="The paths to which payloads are posted.")
    http: HttpEntry = HttpEntry()
    required: list[Code]
    defaults: FactValues = Field(description="The API's default for each fact that the payload does not state.")
    implied_actions: list[ImpliedActionEntry] = Field(
        [],
        description="The actions that inputs imply if the payload has the general one; the first match wins.",
    )
    rules: list[RuleEntry] = []
    warnings: list[WarningEntry] = []
    media: list[MediaEntry] = []
    ignored_fields: list[IgnoredFieldEntry] = Field(
        [], description="Fields that a provider accepts but ignores."
    )
    known_names: list[KnownNamesEntry] = Field(
        [], description="Names of models that users ask for but that this API does not offer."
    )
    models: Annotated[dict[Name, ModelEntry], Field(min_length=1)]


def capability_file_schema() -> dict[str, Any]:
    """Returns the JSON Schema of `capabilities/<wire format>.yaml`."""
    return CapabilityFile.model_json_schema()
