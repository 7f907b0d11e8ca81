"""The verbs of a ledger in a file for freezes and allowances."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from kling_pricing.ledger.actions import Author
from kling_pricing.ledger.freezing import Freeze
from kling_pricing.ledger.granting import Allowance, AllowanceRequest, Grant
from kling_pricing.ledger.journal import WaivedRefusals
from kling_pricing.ledger.sqlite import allowances, freezes, queries
from kling_pricing.ledger.sqlite.file import SQLiteFile


class SQLiteInterventions:
    """See `Interventions`."""

    _file: SQLiteFile

    def freeze(self, author: Author, budgets: Sequence[str] | None = None) -> tuple[Freeze, ...]:
        """See `Interventions.freeze`."""
        return self._file.transaction(freezes.freeze, author, budgets)

    def thaw(self, author: Author, budgets: Sequence[str] | None = None) -> tuple[Freeze, ...]:
        """See `Interventions.thaw`."""
        return self._file.transaction(freezes.thaw, author, budgets)

    def freezes(self) -> list[Freeze]:
        """See `Interventions.freezes`."""
        with self._file.reading() as db:
            return freezes.freezes(db)

    def allow(self, grant: Grant, author: Author) -> Allowance:
        """See `Interventions.allow`."""
        return self._file.transaction(allowances.allow, grant, author)

    def revoke(self, allowance_id: str, author: Author) -> Allowance:
        """See `Interventions.revoke`."""
        return self._file.transaction(allowances.revoke, allowance_id, author)

    def ask(self, wanted: AllowanceRequest, author: Author) -> AllowanceRequest:
        """See `Interventions.ask`."""
        return self._file.transaction(allowances.ask, wanted, author)

    def decline(self, request: str, author: Author) -> AllowanceRequest:
        """See `Interventions.decline`."""
        return self._file.transaction(allowances.decline, request, author)

    def allowances(self) -> list[Allowance]:
        """See `Interventions.allowances`."""
        with self._file.reading() as db:
            return allowances.allowances(db)

    def allowance_requests(self) -> list[AllowanceRequest]:
        """See `Interventions.allowance_requests`."""
        with self._file.reading() as db:
            return allowances.requests(db)

    def waived(self, since: datetime, until: datetime) -> list[WaivedRefusals]:
        """See `Interventions.waived`."""
        with self._file.reading() as db:
            return queries.waived(db, since, until)
