"""The categories of lines, and the rules by which a line is an exception or open: the only place that decides.

- An *exception* is a line that needs action; its remedy says which action.
- An exception is *in dispute* if open disputes cover the whole excess of its charge.
- Any other exception is *open*, which means still to be settled, unless one cause explains it to the last
  digit.
- Every line has one *standing*: matched, explained, timing, in dispute, or open.

The report page, its tables, the command and `--json` all use them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from kling_pricing.reconcile.workspace import Workspace

Category: TypeAlias = Literal[
    "invalid_row",
    "billed_twice",
    "reserved_twice",
    "currency_mismatch",
    "not_billed_yet",
    "not_billed",
    "in_doubt_candidate",
    "not_in_ledger",
    "timing",
    "explained",
    "within_tolerance",
    "unexplained",
    "matched",
]
"""The category of a line: the first that fits, in this order. `CATEGORIES` has their meanings."""

Standing: TypeAlias = Literal["matched", "explained", "timing", "disputed", "open"]

STANDINGS: Mapping[Standing, str] = {
    "matched": "Matched",
    "explained": "Explained",
    "timing": "Timing",
    "disputed": "In dispute",
    "open": "Open",
}
"""Standing -> its title, from settled to not settled."""

_NEVER, _ALWAYS = "FALSE", "TRUE"
_NEEDS_ACTION = """
    CASE WHEN explanation.kind IN ('rounding', 'unstated_rounding') THEN FALSE
      WHEN explanation.kind IN ('not_charged', 'refund')
        THEN reserved.billed IS DISTINCT FROM ifnull(line.whole, 0)
      ELSE TRUE END
"""
"""Rounding is settled as it is, unless it adds up. A refund is settled once the ledger counts what is left."""


class CategoryRule(NamedTuple):
    """A category.

    Attributes:
        title: its name for people.
        meaning: what its lines have in common.
        standing: the standing of its lines. In a category whose standing is `open`, a line that is not an
            exception is `matched`; in any category, a line in dispute is `disputed`, and an open line is
            `open`.
        is_exception: SQL condition on `line`, `explanation` and `reserved`: whether a line is an exception.
    """

    title: str
    meaning: str
    standing: Standing
    is_exception: str


CATEGORIES: Mapping[Category, CategoryRule] = {
    "matched": CategoryRule("Matched", "Billed as expected.", "matched", _NEVER),
    "explained": CategoryRule(
        "Explained", "One cause explains the variance to the last digit.", "explained", _NEEDS_ACTION
    ),
    "within_tolerance": CategoryRule(
        "Within tolerance", "The variance is within the tolerance.", "explained", _NEVER
    ),
    "timing": CategoryRule(
        "Timing",
        "Submitted in one period and charged in another.",
        "timing",
        f"gap IS NOT NULL AND {_NEEDS_ACTION}",
    ),
    "not_billed_yet": CategoryRule(
        "Not billed yet", "Expected, and still within the grace period for late billing.", "timing", _NEVER
    ),
    "not_billed": CategoryRule("Not billed", "Expected, overdue, and not on the statement.", "open", _ALWAYS),
    "in_doubt_candidate": CategoryRule(
        "In doubt",
        "A request without a known task, and a charge for an unknown task; the two may belong together.",
        "open",
        _ALWAYS,
    ),
    "not_in_ledger": CategoryRule(
        "Not in our ledger",
        "Billed, but the task is not in our ledger.",
        "open",
        "ifnull(line.billed, 0) <> 0",
    ),
    "billed_twice": CategoryRule(
        "Billed twice", "The statement charges for one task more than once.", "open", _ALWAYS
    ),
    "reserved_twice": CategoryRule(
        "Reserved twice", "More than one reservation is bound to the task.", "open", _ALWAYS
    ),
    "currency_mismatch": CategoryRule(
        "Other currency", "Expected in one currency, billed in another.", "open", _ALWAYS
    ),
    "unexplained": CategoryRule("Unexplained", "The variance has no known explanation.", "open", _ALWAYS),
    "invalid_row": CategoryRule("Unreadable row", "A statement row that cannot be read.", "open", _ALWAYS),
}
"""In the order of a reader's interest: from settled to not settled."""


def _by_category(values: Mapping[Category, str]) -> str:
    """The SQL that chooses by the category of a line."""
    whens = " ".join(f"WHEN '{category}' THEN {value}" for category, value in values.items())
    return f"CASE line.category {whens} END"


STANDING = "CASE WHEN line.is_disputed THEN 'disputed' WHEN line.is_open THEN 'open' ELSE {} END".format(
    _by_category(
        {
            name: f"'{'matched' if rule.standing == 'open' else rule.standing}'"
            for name, rule in CATEGORIES.items()
        }
    )
)
"""The SQL of a line's standing."""


def mark_exceptions(workspace: Workspace) -> None:
    """Sets `is_exception` and `is_open` of lines; their categories and explanations must be final."""
    workspace.run(
        f"""
        UPDATE line SET is_exception = TRUE, is_open = decided.kind IS NULL
        FROM (
          SELECT line.rowid AS place, explanation.kind AS kind,
            {_by_category({name: rule.is_exception for name, rule in CATEGORIES.items()})} AS is_exception
          FROM line LEFT JOIN explanation ON explanation.id = line.explanation
          LEFT JOIN reserved ON reserved.rowid = line.reservation
          WHERE category <> 'matched'
        ) AS decided WHERE decided.is_exception AND decided.place = line.rowid
        """
    )


def count_exceptions(workspace: Workspace) -> tuple[int, int, int]:
    """Returns the numbers of exceptions, of open ones, and of those in dispute."""
    ((exceptions, still_open, disputed),) = workspace.all(
        "SELECT count(*) FILTER (is_exception), count(*) FILTER (is_open AND NOT is_disputed),"
        " count(*) FILTER (is_disputed) FROM line"
    )
    return exceptions, still_open, disputed


def exceptions_text(exceptions: int, still_open: int, disputed: int) -> str:
    """The exceptions of a reconciliation in words, such as `40 exceptions, 25 of them still open`."""
    if exceptions == 1:
        return f"1 exception, {'in dispute' if disputed else 'still open' if still_open else 'explained'}"
    if disputed:
        part = "all" if disputed == exceptions else f"{disputed:,}"
        more = f", and {still_open:,} still open" if still_open else ""
        return f"{exceptions:,} exceptions, {part} of them in dispute{more}"
    if not still_open:
        return f"{exceptions:,} exceptions, all of them explained"
    part = "all" if still_open == exceptions else f"{still_open:,}"
    return f"{exceptions:,} exceptions, {part} of them still open"
