"""The SQL that reads an instant from the text of a column."""

from __future__ import annotations

from kling_pricing.reconcile.files.file_reader import DATE_CELL
from kling_pricing.reconcile.mapping_values import ISO, MS, UNIX
from kling_pricing.reconcile.staging import literal, matches
from kling_pricing.reconcile.statement_columns import TimeEntry

_INSTANT = (
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
    r"([T ][0-9]{2}:[0-9]{2}(:[0-9]{2}([.,][0-9]{1,9})?)?( ?(Z|UTC|[+-][0-9]{2}:?[0-9]{2}))?)?"
)
_UNIX, _UNIX_FRACTION = "[0-9]{9,16}", "[0-9]{9,10}[.][0-9]{1,9}"
_MS = "[0-9]{12,14}"
_MILLISECONDS, _MICROSECONDS = 10**11, 10**14
"""A number of seconds from the first value on is in milliseconds, and from the second on in microseconds."""
_FIRST_DAY, _LAST_DAY = "2000-01-01", "2200-01-01"


def instant(text: str, entry: TimeEntry | None) -> str:
    """Returns the SQL of a text's instant, UTC; NULL if it does not have one."""
    if entry is None:
        return "NULL::TIMESTAMP"
    cell = f"CASE WHEN starts_with({text}, '{DATE_CELL}') THEN {_iso(f'substr({text}, 2)', entry)} END"
    return f"coalesce({', '.join(_read(text, entry, written) for written in entry.format)}, {cell})"


def is_instant(name: str, entry: TimeEntry) -> str:
    """Returns the condition that a time was read and is plausible, or is empty and may be."""
    is_read = f"ifnull({name}_at BETWEEN DATE '{_FIRST_DAY}' AND DATE '{_LAST_DAY}', FALSE)"
    return f"({is_read} OR {name}_text = '')" if entry.optional else is_read


def _read(text: str, entry: TimeEntry, written: str) -> str:
    """Returns the SQL of the instant in one format; NULL if the text is not in that format."""
    if written == ISO:
        return _iso(text, entry)
    whole = f"CAST({text} AS BIGINT)"
    if written == MS:
        return f"CASE WHEN {matches(text, _MS)} THEN make_timestamp({whole} * 1000) END"
    if written != UNIX:
        return f"TRY_STRPTIME({text}, {literal(written)}) - to_minutes({_minutes(entry)})"
    micros = (
        f"CASE WHEN {whole} < {_MILLISECONDS} THEN {whole} * 1000000"
        f" WHEN {whole} < {_MICROSECONDS} THEN {whole} * 1000 ELSE {whole} END"
    )
    parts = f"CAST(split_part({text}, '.', 1) AS BIGINT) * 1000000"
    fraction = f"CAST(left(rpad(split_part({text}, '.', 2), 6, '0'), 6) AS BIGINT)"
    return (
        f"CASE WHEN {matches(text, _UNIX)} THEN make_timestamp({micros})"
        f" WHEN {matches(text, _UNIX_FRACTION)} THEN make_timestamp({parts} + {fraction}) END"
    )


def _iso(text: str, entry: TimeEntry) -> str:
    """Returns the SQL of an ISO 8601 time, UTC; versions of DuckDB differ in how they cast an offset."""
    local = f"TRY_CAST(replace(regexp_extract({text}, '^.{{10}}([T ][0-9:.,]+)?'), ',', '.') AS TIMESTAMP)"
    zone = f"regexp_extract(substr({text}, 11), '[+-][0-9]{{2}}:?[0-9]{{2}}$')"
    ahead = f"(60 * CAST(substr({zone}, 2, 2) AS INTEGER) + CAST(right({zone}, 2) AS INTEGER))"
    minutes = (
        f"CASE left({zone}, 1) WHEN '+' THEN {ahead} WHEN '-' THEN -{ahead}"
        f" ELSE CASE WHEN regexp_matches({text}, '(Z|UTC)$') THEN 0"
        f" ELSE {_minutes(entry)} END END"
    )
    return f"CASE WHEN {matches(text, _INSTANT)} THEN {local} - to_minutes({minutes}) END"


def _minutes(entry: TimeEntry) -> int:
    """Returns by how many minutes times without an offset of their own are ahead of UTC."""
    return int(entry.ahead.total_seconds()) // 60
