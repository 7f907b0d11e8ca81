"""Every error the library raises on purpose.

::

    KlingPricingError
      TableError              a price table or capability matrix cannot be used: file, line, key path
      WireFormatError         a payload cannot be read: wire format, field
      CapabilityError         the API would refuse the request: violations (all of them), suggestions
      PriceNotFoundError      valid, but no price is published: provider, model, what is priced instead
      BudgetExceededError     it does not fit a budget: budget, requested, available, window_end
      BudgetError             budgets that cannot be used, or not over the installed ones
      LedgerError             the ledger cannot do what was asked
        ReservationNotFoundError   it knows no such reservation
        ReservationStateError      the reservation is past that point: reservation_id, state, task_id
        IdempotencyError           the same key or task with something else
        LedgerUnavailableError     it cannot be read or written: nothing may be spent
      WebhookError            a signed callback is not taken in: status, to answer it with
      StatementError          a provider's statement, or its mapping, cannot be read: file, row, column

Catch `KlingPricingError` to catch them all.
Attributes carry the data; the message names the place and the remedy.
Every error survives pickling, so it can cross a process pool.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from kling_pricing.findings import Violation


class KlingPricingError(Exception):
    """Base of every error below; raised itself for an argument that is none of theirs (`at` without a zone)."""


class TableError(KlingPricingError):
    """A YAML file of prices or capabilities is refused.

    Attributes:
        file: name of the file, as it was given or found.
        line: line in that file, from 1; None when the whole file is meant.
        key_path: where in the file, such as `rates.kling-v3.720p.silent`; empty for the whole file.
        problem: what is wrong and how to mend it, without the place.
    """

    def __init__(self, problem: str, *, file: str = "", line: int | None = None, key_path: str = "") -> None:
        place = f"{file}:{line}" if line is not None else file
        super().__init__(": ".join(part for part in (place, key_path, problem) if part))
        self.file = file
        self.line = line
        self.key_path = key_path
        self.problem = problem

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuilt_table_error, (self.problem, self.file, self.line, self.key_path))


def _rebuilt_table_error(problem: str, file: str, line: int | None, key_path: str) -> TableError:
    return TableError(problem, file=file, line=line, key_path=key_path)


class WireFormatError(KlingPricingError):
    """A payload does not have the shape its API reads: not JSON, an unknown field, a value of another type.

    Attributes:
        wire_format: the format it was read as; None when none could be chosen.
        field: the first field that cannot be read, as the wire spells it, such as `video_list[0].video_url`.
        violations: one for every such field, in the order of the payload.
    """

    def __init__(
        self,
        message: str,
        *,
        wire_format: str | None = None,
        field: str | None = None,
        violations: Sequence[Violation] = (),
    ) -> None:
        super().__init__(message)
        self.wire_format = wire_format
        self.field = field
        self.violations = tuple(violations)


class CapabilityError(KlingPricingError):
    """The API would refuse this request; nothing was priced.

    Attributes:
        violations: every reason, not only the first.
        suggestions: the nearest valid requests, each as the wire fields to change and their new values
            (None: leave the field out); empty when no change of a single field or two would do.
    """

    def __init__(
        self,
        message: str,
        *,
        violations: Sequence[Violation] = (),
        suggestions: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        super().__init__(message)
        self.violations = tuple(violations)
        self.suggestions = tuple(suggestions)


class PriceNotFoundError(KlingPricingError):
    """No published price covers this request. It is never priced at zero or at a neighbour's rate.

    Attributes:
        provider: who was asked; None when no provider could be chosen.
        model: canonical model name, when it is known.
        priced_instead: what has a price, in words, nearest first.
    """

    def __init__(
        self,
        message: str,
        *,
        provider: str | None = None,
        model: str | None = None,
        priced_instead: Sequence[str] = (),
    ) -> None:
        super().__init__(message)
        self.provider = provider
        self.model = model
        self.priced_instead = tuple(priced_instead)


class BudgetExceededError(KlingPricingError):
    """A request does not fit a budget; nothing was reserved.

    Attributes:
        budget: the name of the binding budget; None when no budget matches the request at all.
        requested: what the request would take of it, in `currency`.
        available: what it could give, in `currency`: what is left in the window, or the limit of a single
            request where that is what binds.
        currency: of both amounts.
        window_end: when the budget's window ends and the next begins, UTC; None: never, or no window binds.
        cheapest: of a request that may be capped, what the cheapest valid variant would take; None when
            there is none, or the budget does not allow capping.
    """

    def __init__(
        self,
        message: str,
        *,
        budget: str | None,
        requested: Decimal,
        available: Decimal,
        currency: str,
        window_end: datetime | None = None,
        cheapest: Decimal | None = None,
    ) -> None:
        super().__init__(message)
        self.budget = budget
        self.requested = requested
        self.available = available
        self.currency = currency
        self.window_end = window_end
        self.cheapest = cheapest

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuilt, (type(self), self.args[0], vars(self)))


class BudgetError(KlingPricingError):
    """Budgets cannot be used: their file, an object of theirs, or a revision over the installed ones.

    Attributes:
        file: name of the file; empty when there is none.
        line: line in that file, from 1; None when there is none.
        key_path: where in it, such as `budgets[0].cap`.
    """

    def __init__(self, problem: str, *, file: str = "", line: int | None = None, key_path: str = "") -> None:
        place = f"{file}:{line}" if line is not None else file
        super().__init__(": ".join(part for part in (place, key_path, problem) if part))
        self.file = file
        self.line = line
        self.key_path = key_path

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuilt, (type(self), self.args[0], vars(self)))


class LedgerError(KlingPricingError):
    """The ledger cannot do what was asked; it is as it was."""


class ReservationNotFoundError(LedgerError):
    """The ledger knows no such reservation."""


class ReservationStateError(LedgerError):
    """A reservation is in a state that does not allow what was asked.

    Attributes:
        reservation_id: which one.
        state: the state it is in.
        task_id: the provider's task, if it is known.
    """

    def __init__(self, message: str, *, reservation_id: str, state: str, task_id: str | None = None) -> None:
        super().__init__(message)
        self.reservation_id = reservation_id
        self.state = state
        self.task_id = task_id

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuilt, (type(self), self.args[0], vars(self)))


class IdempotencyError(LedgerError):
    """The same key, or the same task, was used before with something else."""


class LedgerUnavailableError(LedgerError):
    """The ledger cannot be read or written, so nothing may be spent."""


class WebhookError(KlingPricingError):
    """A signed callback is not taken in; nothing has changed.

    Attributes:
        status: what to answer its sender with: 401 where the signature or the time is wrong, 200 where it was
            taken in before, so that an honest sender stops repeating it, 503 where it is being taken in.
    """

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuilt, (type(self), self.args[0], vars(self)))


class StatementError(KlingPricingError):
    """A provider's statement cannot be read, or not as it is said to be.

    A row that cannot be read is no error but a line of its own; this is for what concerns all of a file.

    Attributes:
        file: name of the file; empty when none is meant.
        row: its row, from 1, as a text editor or a spreadsheet counts; None when the whole file is meant.
        column: the column, as the file names it; None when no single one is meant.
    """

    def __init__(
        self, problem: str, *, file: str = "", row: int | None = None, column: str | None = None
    ) -> None:
        place = f"{file}:{row}" if row is not None else file
        named = "" if column is None else f"column {column}"
        super().__init__(": ".join(part for part in (place, named, problem) if part))
        self.file = file
        self.row = row
        self.column = column

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuilt, (type(self), self.args[0], vars(self)))


def _rebuilt(kind: type[KlingPricingError], message: str, attributes: dict[str, Any]) -> KlingPricingError:
    """An error as it was before pickling."""
    error = kind.__new__(kind, message)
    error.__dict__.update(attributes)
    return error
