"""Access keys: issue, list, revoke, and the key of the request itself."""

from __future__ import annotations

from typing import Annotated

from fastapi import HTTPException, Path
from pydantic import Field

from kling_pricing.errors import KlingPricingError
from kling_pricing.guard import issue_key, revoke_key
from kling_pricing.ledger.access_keys import AccessKey, Role, unknown_key
from kling_pricing.server.api.allowance_routes import ReasonBody
from kling_pricing.server.api.dependencies import (
    Administrator,
    Served,
    Viewer,
    keyed_routes,
)
from kling_pricing.server.api.exact_fields import (
    ApiBody,
    Instant,
    ShortText,
    View,
)
from kling_pricing.server.problem_documents import problems

router = keyed_routes("keys", 401, 403, 409, 422, 503)

_NOT_FOUND = 404


class AccessKeyView(View):
    """An access key, without its text."""

    name: str
    project: str | None = Field(
        description="The only project that the key gives access to; null: all projects."
    )
    role: Role
    labels: dict[str, str]
    fingerprint: str = Field(description="The first digits of the SHA-256 of the key's text.")
    created_at: Instant
    expires_at: Instant | None
    revoked_at: Instant | None
    used_at: Instant | None
    actor: str

    @classmethod
    def of(cls, key: AccessKey) -> AccessKeyView:
        """Returns the view of an access key."""
        return cls(**key._asdict() | {"labels": dict(key.labels)})


class AccessKeyList(View):
    """Every access key, the oldest first."""

    keys: list[AccessKeyView]


class IssueKeyBody(ApiBody):
    """A new access key. Give either a project or `all_projects`."""

    project: ShortText | None = Field(None, description="The only project that the key reaches.")
    all_projects: bool = Field(default=False, description="Whether the key gives access to all projects.")
    role: Role = "submit"
    labels: dict[ShortText, ShortText] = Field({}, description="Labels that every request with the key has.")
    name: ShortText | None = Field(None, description="The key's name, which the audit log shows as the actor.")
    expires_at: Instant | None = None
    reason: ShortText | None = None


class IssuedKeyView(View):
    """A new access key with its text, which is shown this once."""

    key: str = Field(description="The text that callers send. It cannot be shown again.")
    access_key: AccessKeyView


class CallerView(View):
    """The access key of the request."""

    name: str
    role: Role
    project: str | None
    labels: dict[str, str]


@router.get("/keys", summary="List access keys")
def list_keys(server: Served, _caller: Administrator) -> AccessKeyList:
    """Returns every access key, including those that are no longer valid."""
    return AccessKeyList(keys=[AccessKeyView.of(key) for key in server.ledger.access_keys()])


@router.post("/keys", summary="Issue an access key", status_code=201, responses=problems(408, 413))
def issue(body: IssueKeyBody, server: Served, caller: Administrator) -> IssuedKeyView:
    """Issues an access key. Only this answer contains its text."""
    if (body.project is None) != body.all_projects:
        raise KlingPricingError("give either `project` or `all_projects: true`")
    issued = issue_key(
        server.settings.ledger,
        project=body.project,
        role=body.role,
        labels=body.labels,
        name=body.name,
        expires_at=body.expires_at,
        actor=caller.name,
        reason=body.reason,
    )
    return IssuedKeyView(key=issued.text, access_key=AccessKeyView.of(issued.key))


@router.post("/keys/{name}/revoke", summary="Revoke an access key", responses=problems(404, 408, 413))
def revoke_access_key(
    name: Annotated[ShortText, Path()], body: ReasonBody, server: Served, caller: Administrator
) -> AccessKeyView:
    """Revokes an access key permanently; it is refused from the next request on."""
    names = [key.name for key in server.ledger.access_keys()]
    if name not in names:
        raise HTTPException(_NOT_FOUND, str(unknown_key(name, names)))
    return AccessKeyView.of(revoke_key(server.settings.ledger, name, actor=caller.name, reason=body.reason))


@router.get("/caller", summary="Show your own access key")
def show_caller(caller: Viewer) -> CallerView:
    """Returns the role, the project and the labels of the access key of this request."""
    return CallerView(**caller._asdict() | {"labels": dict(caller.labels)})
