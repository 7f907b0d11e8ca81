"""The rows of a statement that are not charges: totals, and footers such as `End of the report`.

`completeness` compares the amount of a total with the sum of the rows above it. A footer has no amount.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

from pydantic import Field, field_validator, model_validator

from kling_pricing.reconcile.files.file_reader import ID_SEPARATOR
from kling_pricing.reconcile.id_forms import FOOTER, TOTALS
from kling_pricing.reconcile.problems import FOOTER_ROW, RowCheck
from kling_pricing.reconcile.staging import literal, matches
from kling_pricing.reconcile.statement_columns import RequiredColumnEntry
from kling_pricing.strict_yaml import Text
from kling_pricing.wire.fields import folded

_PADDING = " :\uff1a.*"
_ONLY_IN_PYTHON = re.compile(r"\(\?(?!:)|\\[1-9]")
"""Parts of a pattern that the database does not know: groups with a meaning, and references to groups."""


class TotalsEntry(RequiredColumnEntry):
    """A column that marks a row as a total. The amount of such a row is compared, and is never a charge."""

    texts: list[Text] = Field(
        [],
        description="Values that mark a total, such as Total. Case does not matter, and neither do spaces, "
        "colons, dots or asterisks around the value.",
    )
    pattern: Text | None = Field(
        None,
        description="A regular expression that the whole value of a total matches. Case does not matter.",
    )
    empty: bool = Field(
        default=False, description="Whether a row with an amount is a total if the column is empty."
    )

    @field_validator("pattern")
    @classmethod
    def _plain_pattern(cls, pattern: Any) -> Any:
        if pattern is None:
            return None
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"is not a regular expression: {error}; correct it") from None
        if _ONLY_IN_PYTHON.search(pattern):
            raise ValueError("must not contain (?...) other than (?:...), or references such as \\1")
        return pattern

    @model_validator(mode="after")
    def _some_mark(self) -> TotalsEntry:
        if not (self.texts or self.pattern or self.empty):
            raise ValueError("give `texts`, `pattern` or `empty: true`")
        return self


def totals_checks(
    entries: Iterable[TotalsEntry], text_of: Callable[[RequiredColumnEntry], str]
) -> list[RowCheck]:
    """Returns the checks that find the totals by a mapping's entries.

    Args:
        entries: the entries.
        text_of: entry -> the SQL of its column's text, which is never NULL.
    """
    checks = []
    for entry in entries:
        text = f"trim({text_of(entry)})"
        if entry.texts:
            listed = ", ".join(literal(bare_word(each)) for each in entry.texts)
            checks.append(
                RowCheck(f"{bare_text(text)} IN ({listed})", entry.column, "total", f"left({text}, 40)")
            )
        if entry.pattern is not None:
            condition = f"regexp_full_match({text}, {literal(entry.pattern)}, 'i')"
            checks.append(RowCheck(condition, entry.column, "total", "'a text that `totals` lists'"))
        if entry.empty:
            checks.append(RowCheck(f"{text} = '' AND trim(amount) <> ''", entry.column, "total", "'empty'"))
    return checks


def words_check(column: str, text: str) -> RowCheck:
    """Returns the check for one of the usual words of a total in a column, given the SQL of its text."""
    words = ", ".join(map(literal, TOTALS))
    return RowCheck(f"{bare_text(text)} IN ({words})", column, "total", f"left({text}, 40)")


def footer_check(amount_column: str, texts: Iterable[str]) -> RowCheck:
    """Returns the check that finds footers.

    Args:
        amount_column: the column with the amount.
        texts: the SQL of every other text of a row. A footer has exactly one, and no amount.
    """
    given = ", ".join(f"nullif(trim({text}), '')" for text in texts)
    written = f"concat_ws({literal(ID_SEPARATOR)}, {given})"
    is_lone = f"NOT contains({written}, {literal(ID_SEPARATOR)}) AND {matches(written, FOOTER)}"
    return RowCheck(f"trim(amount) = '' AND {is_lone}", amount_column, FOOTER_ROW, "''")


def bare_word(text: str) -> str:
    """Returns a word as it is compared: without capitals, and without spaces and marks around it."""
    return folded(text).strip(_PADDING)


def bare_text(text: str) -> str:
    """Returns the SQL of a text as words of totals are compared."""
    return f"lower(trim({text}, {literal(_PADDING)}))"
