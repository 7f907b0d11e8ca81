"""Every error the library raises on purpose.

::

    KlingPricingError
      TableError              a price table or capability matrix cannot be used: file, line, key path
      WireFormatError         a payload cannot be read: wire format, field
      CapabilityError         the API would refuse the request: violations (all of them), suggestions
      PriceNotFoundError      valid, but no price is published: provider, model, what is priced instead

Catch `KlingPricingError` to catch them all.
Attributes carry the data; the message names the place and the remedy.
Every error survives pickling, so it can cross a process pool.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
