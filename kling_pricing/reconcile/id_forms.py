"""The forms of task ids in SQL: ids as providers write them, and ids that another program has changed."""

from __future__ import annotations

import re

from kling_pricing.reconcile.staging import literal, matches

_GUARDS = r"[\s\p{Z}\p{C}'\"`=\x{00B4}\x{2018}\x{2019}\x{201C}\x{201D}\x{FF02}\x{FF07}\x{FF1D}]"
_GROUPED = r"[1-9][0-9]{0,2}([,.' _\x{2019}\x{00A0}\x{202F}][0-9]{3})+"
_WITH_ZEROS = "[0-9]{1,15}[.]0+"
_WIDE_DIGITS = f"'{''.join(chr(0xFF10 + digit) for digit in range(10))}', '0123456789'"
_PLAIN = "[0-9A-Za-z][0-9A-DF-Za-df-z_:/+@~-][0-9A-Za-z_:/+@~-]{9,}"
"""An id that is neither a rounded number nor, with so many characters and a digit, a word or a date."""

TOTALS = (
    *(
        "total",
        "totals",
        "total amount",
        "grand total",
        "subtotal",
        "sub total",
        "sub-total",
        "sum",
        "total sum",
    ),
    *("summe", "gesamt", "gesamtsumme", "zwischensumme", "somme", "suma", "soma", "totale", "totaal", "razem"),
    *("toplam", "итого", "всего", "합계", "총계", "소계"),
    *("合计", "总计", "小计", "共计", "总额", "汇总", "本页合计", "合计金额", "總計", "合計", "小計", "總額"),
)
"""Words that mark a row as a total, in lower case."""

NOT_IDS = ("n/a", "#n/a", "nan", "null", "none", "nil", "-", "--", "—", "#ref!", "#value!", "#name?", "#null!")
"""Texts that programs write in place of a value, in lower case."""

WORDS = r"[^\p{L}\p{N}]*\p{L}{2,}[:\x{FF1A}]?\s.*"
"""Several words, as in a note below a table."""

_LETTERS = "A-Za-z\u00c0-\u024f\u0370-\u1fff"
_CHARACTERS = "\u2e80-\u9fff\uac00-\ud7af"
FOOTER = (
    f"[^{_LETTERS}{_CHARACTERS}0-9]*[{_LETTERS}]{{2,}}[:,]?[ \t\u00a0].*|[^{_LETTERS}{_CHARACTERS}0-9]+"
    f"|.*[{_CHARACTERS}].*|[^{_LETTERS}0-9]*([Ee][Nn][Dd]|[Ee][Oo][Ff])[^{_LETTERS}0-9]*"
)
"""Text that no provider writes as an id: words, as in `End of the report`, a line of dashes, or Chinese text.

The database and Python read the pattern in the same way.
"""

DATE_AS_ID = (
    r"@?[0-9]{4}[-/.][0-9]{1,2}[-/.][0-9]{1,2}([ T].*)?|[0-9]{1,2}[-/.][0-9]{1,2}[-/.][0-9]{2,4}( .*)?"
    r"|[0-9]{1,2}-[A-Z][a-z]{2}|[A-Z][a-z]{2}-[0-9]{2}"
)
"""A date, which a spreadsheet program makes of some ids."""


def is_footer(text: str) -> bool:
    """Returns whether a text, the only one of its row, is a footer below a table."""
    return re.fullmatch(FOOTER, text.strip()) is not None


def is_plain_id(text: str) -> str:
    """Returns the SQL condition that an id cannot be a changed one; it is cheap, and false of some good ids."""
    return f"{matches(text, _PLAIN)} AND regexp_matches({text}, '[0-9]')"


def unguarded(text: str) -> str:
    """Returns the SQL of an id without guard characters and padding."""
    edges = f"'^{_quoted(_GUARDS)}+|{_quoted(_GUARDS)}+$'"
    return f"regexp_replace(translate({text}, {_WIDE_DIGITS}), {edges}, '', 'g')"


def bare_id(text: str) -> str:
    """Returns the SQL of an `unguarded` id without grouping and without a fraction of zero."""
    return (
        f"CASE WHEN {matches(text, _WITH_ZEROS)} THEN split_part({text}, '.', 1)"
        f" WHEN {matches(text, _GROUPED)} THEN regexp_replace({text}, '[^0-9]', '', 'g')"
        f" ELSE {text} END"
    )


def _quoted(text: str) -> str:
    """Returns a text for use inside a literal in SQL."""
    return literal(text)[1:-1]
