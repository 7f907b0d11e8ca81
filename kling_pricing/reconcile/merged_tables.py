"""The tables that `matching` fills for tasks with several rows. Without such tasks they stay empty."""

from __future__ import annotations

_PLACES = 'STRUCT(place BIGINT, file USMALLINT, "row" BIGINT)[]'
_ELSEWHERE = 'STRUCT(place BIGINT, file USMALLINT, "row" BIGINT, "at" TIMESTAMP)[]'

MERGED_TABLES = (
    "CREATE TABLE superseded (place BIGINT, task_id VARCHAR, file USMALLINT)",
    f"""
    CREATE TABLE part (
      place BIGINT, task_id VARCHAR, native BIGINT, earlier BIGINT, unit VARCHAR, inside BOOLEAN,
      places {_PLACES}, elsewhere {_ELSEWHERE}, is_earlier BOOLEAN, is_later BOOLEAN, counted BOOLEAN
    )
    """,
    f"""
    CREATE TABLE merged (
      task_id VARCHAR, currency VARCHAR, quoted_in VARCHAR, inside BOOLEAN, place BIGINT, places {_PLACES},
      elsewhere {_ELSEWHERE}, money HUGEINT, whole HUGEINT, taken HUGEINT, upto_end HUGEINT, native HUGEINT,
      whole_native HUGEINT, unit VARCHAR, worth USMALLINT, repeated BOOLEAN, extra BOOLEAN
    )
    """,
)
"""The statements that make the tables."""
