"""The audit log, the verification of the ledger, and the statements in its books."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Path, Query
from pydantic import Field

from kling_pricing.ledger.actions import AdministrativeAction
from kling_pricing.ledger.provider_accounts import ProviderAccount
from kling_pricing.server.api.dependencies import (
    Administrator,
    Auditor,
    Served,
    keyed_routes,
)
from kling_pricing.server.api.exact_fields import (
    DEFAULT_LIMIT,
    Instant,
    Limit,
    NumberCursor,
    ShortText,
    View,
)

router = keyed_routes("audit", 401, 403, 409, 422, 503)


class StatementView(View):
    """A statement file whose charges are in the books."""

    number: int
    provider: str
    name: str
    digest: str
    since: Instant
    until: Instant
    remembered_at: Instant
    actor: str
    reason: str
    replaces: int | None


class ClosedMonthView(View):
    """A month whose books are closed."""

    month: str
    provider: str
    digest: str
    closed_at: Instant
    actor: str
    reason: str


class BooksView(View):
    """The statements and the closed months in the books of a provider."""

    statements: list[StatementView]
    closed: list[ClosedMonthView]


class VerificationView(View):
    """The result of the verification of a consistent ledger."""

    first_entry: int
    last_entry: int
    fully_verified_at: Instant | None


class ActionView(View):
    """One administrative action."""

    seq: int
    at: Instant
    actor: str
    role: str | None = Field(description="The PostgreSQL role of the session; null in a SQLite ledger.")
    action: str
    subject: str
    old: Any
    new: Any
    reason: str | None


class ActionPage(View):
    """A page of administrative actions, the oldest first."""

    items: list[ActionView]
    next: int | None = Field(description="The cursor of the next page; null if this is the last page.")


@router.get("/statements/{provider}", summary="List remembered statements", tags=["statements"])
def list_statements(
    provider: Annotated[ShortText, Path()],
    server: Served,
    _caller: Auditor,
    account: Annotated[
        ShortText | None, Query(description="The account. Default: the one with the provider's name.")
    ] = None,
) -> BooksView:
    """Returns the statements and the closed months in the books of an account at a provider."""
    server.book.tables_of(provider)
    books = server.ledger.books(ProviderAccount(provider, account or provider).books)
    own = {"provider": provider}
    return BooksView(
        statements=[StatementView.model_validate(found._asdict() | own) for found in books.statements],
        closed=[ClosedMonthView.model_validate(month._asdict() | own) for month in books.closed],
    )


@router.post("/verify", summary="Verify the ledger")
def verify_ledger(server: Served, _caller: Auditor) -> VerificationView:
    """Recomputes every balance from the journal, and compares it with the stored balance."""
    return VerificationView.model_validate(server.ledger.verify())


@router.get("/audit", summary="Show the audit log")
def show_audit(
    server: Served, _caller: Administrator, cursor: NumberCursor = 0, limit: Limit = DEFAULT_LIMIT
) -> ActionPage:
    """Returns the administrative actions, the oldest first: who did what, when, and why."""
    later = [action for action in server.ledger.actions() if action.seq > cursor]
    page: list[AdministrativeAction] = later[:limit]
    return ActionPage(
        items=[ActionView.model_validate(action) for action in page],
        next=page[-1].seq if len(later) > limit else None,
    )
