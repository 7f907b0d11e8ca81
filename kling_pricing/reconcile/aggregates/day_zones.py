"""Finds out whether the days of a statement are those of another time zone than its mapping says."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

from kling_pricing.reconcile.aggregates.cells import KEY
from kling_pricing.reconcile.workspace import Workspace

_FEWEST_SUMS = 6
"""The least number of sums that show a time zone."""
_MOST = 3
"""More than two of so many sums must agree with the other time zone, and fewer than one with the mapping's."""
_OFFSETS_H = range(-12, 15)


def find_other_zone(workspace: Workspace, zone_name: str) -> str | None:
    """Returns the other time zone of a statement's days, as a clause; None: the mapping may be right.

    Args:
        workspace: the database with the cells and their lines.
        zone_name: the time zone of the mapping.
    """
    parts = KEY.replace("day, ", "")
    billed = workspace.all(
        f"SELECT {parts}, cell.currency, cell.day, money, category = 'matched' FROM cell"
        " JOIN line ON line.cell = cell.id WHERE money <> 0 AND cell.day <> ''"
    )
    agreeing = sum(is_matched for *_, is_matched in billed)
    if len(billed) < _FEWEST_SUMS or agreeing * _MOST >= len(billed):
        return None
    hours = workspace.all(
        f"SELECT {parts}, currency, date_trunc('hour', dispatched_at), sum(due) FROM used"
        " WHERE due <> 0 GROUP BY ALL"
    )
    agreeing_by_offset = {}
    for offset_h in _OFFSETS_H:
        sums: Counter[tuple[str, ...]] = Counter()
        for *key, hour, due in hours:
            sums[*key, f"{hour + timedelta(hours=offset_h):%Y-%m-%d}"] += due
        agreeing_by_offset[offset_h] = sum(sums[*key, day] == money for *key, day, money, _ in billed)
    offset_h = max(_OFFSETS_H, key=lambda hours: (agreeing_by_offset[hours], -abs(hours)))
    best = agreeing_by_offset[offset_h]
    if best * _MOST <= 2 * len(billed):
        return None
    return (
        f"the days of the statement seem to be those of UTC{offset_h:+03}:00 instead of {zone_name}: {best} of "
        f"{len(billed)} sums agree then, and {agreeing} do now; correct `timezone` in the mapping"
    )
