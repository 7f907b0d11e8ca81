"""The empty table `line`, which `matching` and `aggregates` fill, and the values of units in `worth`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import get_args

from kling_pricing.money import MAX_DECIMALS, NANOS
from kling_pricing.reconcile.categories import Category
from kling_pricing.reconcile.statements import Statement
from kling_pricing.reconcile.units import WORTH_DIGITS, Unit
from kling_pricing.reconcile.workspace import Workspace

_SCALE = 10**WORTH_DIGITS
_CURRENCY = re.compile("[A-Z]{3}")

_MONEY = f"""
    CREATE MACRO money(native, atto) AS
      CASE WHEN native < 0 THEN -((-CAST(native AS HUGEINT) * atto + {_SCALE // 2}) // {_SCALE})
        ELSE (CAST(native AS HUGEINT) * atto + {_SCALE // 2}) // {_SCALE} END
"""
"""Native amount -> nanos; exact, unless a unit's worth has more than nine decimals: then half up, as quoted."""


def make_lines(workspace: Workspace, statements: Sequence[Statement], units: Iterable[Unit]) -> None:
    """Makes the empty table `line`, and the table `worth` of the values of the units.

    Args:
        workspace: the database with the charges and the reservations.
        statements: the statements in it.
        units: the provider's own units.
    """
    workspace.run(_MONEY)
    workspace.run(f"CREATE TYPE category AS ENUM ({', '.join(map(repr, get_args(Category)))})")
    workspace.run(
        """
        CREATE TABLE line (
          category category, place BIGINT, merged BIGINT, reservation BIGINT, currency VARCHAR,
          expected HUGEINT, billed HUGEINT, native HUGEINT, unit VARCHAR, worth USMALLINT, whole HUGEINT,
          whole_native HUGEINT, gap HUGEINT, explanation BIGINT,
          is_exception BOOLEAN DEFAULT FALSE, is_open BOOLEAN DEFAULT FALSE,
          is_disputed BOOLEAN DEFAULT FALSE
        )
        """
    )
    _value_units(workspace, statements, units)


def _value_units(workspace: Workspace, statements: Sequence[Statement], units: Iterable[Unit]) -> None:
    """Makes the table `worth`: a unit's worth when a task was reserved (`written`), or else today (NULL)."""
    workspace.run(
        "CREATE TABLE worth (id USMALLINT, unit VARCHAR, written VARCHAR, currency VARCHAR, atto HUGEINT,"
        " decimals UTINYINT, grain HUGEINT)"
    )
    used: dict[str, list[int]] = dict(
        workspace.all(
            "SELECT unit, ifnull(list(DISTINCT file) FILTER (file < ?), []) FROM charge"
            " WHERE problem IS NULL GROUP BY unit ORDER BY unit",
            [len(statements)],
        )
    )
    reserved = workspace.all(
        "SELECT DISTINCT statement_unit, unit_value, currency FROM terms"
        " WHERE statement_unit IS NOT NULL AND unit_value IS NOT NULL ORDER BY ALL"
    )
    known = [(unit, None, unit, Decimal(1)) for unit in used if _CURRENCY.fullmatch(unit)]
    known += [(unit.name, None, unit.currency, unit.worth) for unit in units]
    named = {unit for unit, *_ in known}
    for statement in statements:
        for valued in statement.valued_units():
            if valued.name in used and valued.name not in named:
                named.add(valued.name)
                known.append((valued.name, None, valued.currency, valued.worth))
    known += [(unit, written, currency, Decimal(written)) for unit, written, currency in reserved]
    rows = []
    for number, (unit, written, currency, worth) in enumerate(known):
        stated = [statements[file].decimals(unit) for file in used.get(unit, ())]
        decimals = max((MAX_DECIMALS if most is None else most for most in stated), default=MAX_DECIMALS)
        atto = int(worth.scaleb(WORTH_DIGITS))
        grain = max(1, atto * NANOS // 10**decimals // _SCALE)
        rows.append((number, unit, written, currency, atto, decimals, grain))
    workspace.insert("worth", rows)
