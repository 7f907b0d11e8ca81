"""Every error that the library raises on purpose.

::

    KlingPricingError
      TableError              a price table or capability matrix is refused: file, line, key path
      WireFormatError         a payload cannot be read: wire format, field
      CapabilityError         the API would refuse the request: violations (all of them), suggestions
      PriceNotFoundError      the request is valid but has no published price: provider, model, priced_instead
      BudgetExceededError     the request does not fit a budget: budget, requested, available, window_end
      BudgetFrozenError       spending is frozen: budget, actor, reason, frozen_at
      BudgetError             budgets are invalid, or differ from the installed ones: file, line, key path
        BudgetWeakenedError        a change weakens protection without consent: removed, weaker
      LedgerError             the ledger cannot carry out the operation
        ReservationNotFoundError   the reservation is not in the ledger
        ReservationStateError      the reservation's state does not allow it: reservation_id, state, task_id
        IdempotencyError           the key or task was already used with different content
        LedgerUnavailableError     the ledger cannot be read or written, so nothing may be spent
      WebhookError            a signed callback is rejected: the HTTP status of the response
      ReceiverError           a receiver of alerts is not set up, or does not accept an alert: receiver
      StatementError          a provider's statement or its mapping cannot be read: file, row, column
      ScenarioError           a scenario of the sandbox is invalid: file, line, key path
      SettingsError           the settings of the server are invalid: file, line, key path
      AccessError             a caller of the server may not do this: the HTTP status of the response

Catch `KlingPricingError` to catch them all.
The attributes carry the data; the message names the place and the remedy.
Every error can be pickled and copied, so it can cross a process pool.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from decimal import Decimal
from typing import Any

from kling_pricing.findings import Violation


class KlingPricingError(Exception):
    """The base of all errors below; raised directly for invalid arguments, such as an `at` without a time zone.

    The attributes of an error are its context: pickling and copying preserve the message and all of them.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (type(self), self.args, vars(self))


def _restored(kind: type[KlingPricingError], args: tuple[Any, ...], context: dict[str, Any]) -> Exception:
    error = kind.__new__(kind, *args)
    vars(error).update(context)
    return error


def _located(file: str, position: int | None, part: str, problem: str) -> str:
    """Puts the place before the problem: `file:position: part: problem`."""
    place = f"{file}:{position}" if position is not None else file
    return ": ".join(text for text in (place, part, problem) if text)


class TableError(KlingPricingError):
    """A YAML file of prices or capabilities is refused.

    Attributes:
        file: the file's name, as given or as found in the folder.
        line: the line in that file, starting at 1; None when the error concerns the whole file.
        key_path: the key in the file, such as `rates.kling-v3.720p.silent`; empty for the whole file.
        problem: the cause and the remedy, without the place.
        others: the other errors that the same check of the files found.
    """

    def __init__(self, problem: str, *, file: str = "", line: int | None = None, key_path: str = "") -> None:
        super().__init__(_located(file, line, key_path, problem))
        self.file = file
        self.line = line
        self.key_path = key_path
        self.problem = problem
        self.others: tuple[TableError, ...] = ()

    @property
    def problems(self) -> tuple[TableError, ...]:
        """This error and the other errors that the same check found."""
        return (self, *self.others)


class TableProblems(list[TableError]):
    """Collects the problems of table files, so that one run reports all of them."""

    @contextmanager
    def collected(self) -> Iterator[None]:
        """Collects a `TableError` instead of letting it pass."""
        try:
            yield
        except TableError as error:
            self += error.problems

    def first(self) -> TableError:
        """Returns the first problem; its attribute `others` has all others, each once."""
        first, *others = {str(problem): problem for problem in self}.values()
        first.others = tuple(others)
        return first

    def raise_first(self) -> None:
        """Does nothing if there are no problems.

        Raises:
            TableError: the first problem; its attribute `others` has all others.
        """
        if self:
            raise self.first()


class WireFormatError(KlingPricingError):
    """A payload does not have its API's shape: not JSON, an unknown field, or a value of the wrong type.

    Attributes:
        wire_format: the format in which the payload was read; None when no format could be chosen.
        field: the first field that cannot be read, as the wire spells it, such as `video_list[0].video_url`.
        violations: one for each field that cannot be read, in the payload's order.
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
        suggestions: the nearest valid requests, each as wire field -> new value, where None means that the
            field must be omitted; empty when no change of one or two fields makes the request valid.
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
    """No published price covers this request. The library never prices it at zero or at a neighbouring rate.

    Attributes:
        provider: the provider whose prices were looked up; None when no provider could be chosen.
        model: the canonical model name; None when it is unknown.
        priced_instead: descriptions of alternatives that have a price, nearest first.
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
        budget: the name of the budget that refuses the request; None when no budget matches the request, or
            when the budgets do not let its project or its labels spend.
        requested: the amount that the request needs, in `currency`.
        available: the amount that the budget allows, in `currency`: the amount left in its window, or the limit
            per request if the request exceeds that limit.
        currency: the currency of the amounts.
        window_end: the UTC instant at which the budget's window ends and the next begins; None when the
            window never ends, or when no window limits the request. For a rolling window, the instant at which
            enough of the money that is counted now will have left the window; None if the cap is too low.
        cheapest: the cost of the cheapest valid variant; None when no variant exists, or when the budget does
            not allow capping.
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


class BudgetFrozenError(KlingPricingError):
    """Spending is frozen; nothing was reserved and nothing may be sent.

    Attributes:
        budget: the name of the frozen budget; None: all spending is frozen.
        actor: the person or program that froze it.
        reason: the reason.
        frozen_at: the UTC instant at which it was frozen.
    """

    def __init__(
        self, message: str, *, budget: str | None, actor: str, reason: str, frozen_at: datetime | None
    ) -> None:
        super().__init__(message)
        self.budget = budget
        self.actor = actor
        self.reason = reason
        self.frozen_at = frozen_at


class BudgetError(KlingPricingError):
    """Budgets are invalid, in a file or as objects, or differ from the installed ones.

    Attributes:
        file: the file's name; empty when the budgets are not from a file.
        line: the line in that file, starting at 1; None when no line applies.
        key_path: the key in the file or object, such as `budgets[0].cap`.
        others: the other mistakes in the same file.
    """

    def __init__(self, problem: str, *, file: str = "", line: int | None = None, key_path: str = "") -> None:
        super().__init__(_located(file, line, key_path, problem))
        self.file = file
        self.line = line
        self.key_path = key_path
        self.others: tuple[BudgetError, ...] = ()

    @property
    def problems(self) -> tuple[BudgetError, ...]:
        """This error and the other mistakes in the same file."""
        return (self, *self.others)


class BudgetWeakenedError(BudgetError):
    """A change of budgets removes a budget or weakens protection without consent; nothing was changed.

    Attributes:
        removed: the names of the budgets that the change removes and that were not named.
        weaker: the changes that weaken protection, as text; empty if weaker protection was allowed.
    """

    def __init__(self, message: str, *, removed: Sequence[str], weaker: Sequence[str]) -> None:
        super().__init__(message)
        self.removed = tuple(removed)
        self.weaker = tuple(weaker)


class LedgerError(KlingPricingError):
    """The ledger cannot carry out the operation, and is unchanged."""


class ReservationNotFoundError(LedgerError):
    """The reservation is not in the ledger."""


class ReservationStateError(LedgerError):
    """The reservation's state does not allow the operation.

    Attributes:
        reservation_id: the reservation's id.
        state: its current state.
        task_id: the provider's task; None when it is unknown.
    """

    def __init__(self, message: str, *, reservation_id: str, state: str, task_id: str | None = None) -> None:
        super().__init__(message)
        self.reservation_id = reservation_id
        self.state = state
        self.task_id = task_id


class IdempotencyError(LedgerError):
    """The same idempotency key, or the same task, was already used with different content."""


class LedgerUnavailableError(LedgerError):
    """The ledger cannot be read or written, so nothing may be spent."""


class WebhookError(KlingPricingError):
    """A signed callback is rejected; nothing has changed.

    Attributes:
        status: the HTTP status of the response. It is 401 if the signature or the time is wrong, 400 if the
            body cannot be read, and 503 if the callback is being processed. It is 200 if the callback was
            processed before, so that an honest sender stops repeating the callback.
    """

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status


class ReceiverError(KlingPricingError):
    """A receiver of alerts is not set up, or does not accept an alert. The message contains no secret.

    Attributes:
        receiver: the receiver's name, `env:NAME` or `file:PATH`.
    """

    def __init__(self, problem: str, *, receiver: str) -> None:
        super().__init__(f"{receiver}: {problem}")
        self.receiver = receiver


class StatementError(KlingPricingError):
    """A provider's statement cannot be read, or does not match its mapping.

    A single row that cannot be read does not raise this error, but becomes a line of the reconciliation.

    Attributes:
        file: the file's name; empty when the error does not concern a file.
        row: the row in that file, counted from 1 as in a text editor or spreadsheet; None for the whole file.
        column: the column's name in the file; None when the error does not concern a single column.
    """

    def __init__(
        self, problem: str, *, file: str = "", row: int | None = None, column: str | None = None
    ) -> None:
        super().__init__(_located(file, row, "" if column is None else f"column {column}", problem))
        self.file = file
        self.row = row
        self.column = column


class ScenarioError(KlingPricingError):
    """A scenario of the sandbox is invalid, in a file or as a mapping.

    Attributes:
        file: the file's name; empty when the scenario is not from a file.
        line: the line in that file, starting at 1; None when no line applies.
        key_path: the key in the scenario, such as `faults[0].rate`.
    """

    def __init__(self, problem: str, *, file: str = "", line: int | None = None, key_path: str = "") -> None:
        super().__init__(_located(file, line, key_path, problem))
        self.file = file
        self.line = line
        self.key_path = key_path


class SettingsError(KlingPricingError):
    """The settings of the server are invalid, in a file, in the environment or on the command line.

    Attributes:
        file: the file's name, or the name of the environment variable; empty when neither applies.
        line: the line in that file, starting at 1; None when no line applies.
        key_path: the setting, such as `upstreams.studio-a.url`.
    """

    def __init__(self, problem: str, *, file: str = "", line: int | None = None, key_path: str = "") -> None:
        super().__init__(_located(file, line, key_path, problem))
        self.file = file
        self.line = line
        self.key_path = key_path


class AccessError(KlingPricingError):
    """A caller of the server has no valid access key, or its key does not allow the request.

    Attributes:
        status: the HTTP status of the response: 401 without a valid key, 403 if the key does not allow it.
    """

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status
