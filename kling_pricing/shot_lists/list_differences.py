"""Compares two priced lists: the shots that were changed, added and removed, and what that costs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from difflib import SequenceMatcher
from typing import Literal, NamedTuple, TypeAlias

from kling_pricing.display import did_you_mean
from kling_pricing.errors import KlingPricingError
from kling_pricing.money import add, subtract
from kling_pricing.quoting.quote import Quote
from kling_pricing.shot_lists.errors import ShotListError

_NOTHING = Decimal(0)
_MAX_ALIGNED = 2000
"""Maximum number of differing rows that are aligned by their order; the time grows with the square."""

ChangeKind: TypeAlias = Literal["changed", "added", "removed"]


class PricedShot(NamedTuple):
    """A shot of a list, with its price.

    Attributes:
        place: its place, such as `shots.csv:3`.
        file: its file.
        row: the number of its row; None: the file has no rows.
        cells: name of a column or field -> text.
        outcome: its quote, or the reason why it has none.
    """

    place: str
    file: str
    row: int | None
    cells: Mapping[str, str]
    outcome: Quote | KlingPricingError

    @property
    def price(self) -> tuple[str, Decimal] | None:
        """The currency and the amount, which for a range is the maximum; None: it has no price."""
        if isinstance(self.outcome, KlingPricingError):
            return None
        return self.outcome.currency, self.outcome.maximum


class CellChange(NamedTuple):
    """A column whose text differs; empty text: the cell is empty, or the list does not have the column."""

    column: str
    before: str
    after: str


class ShotChange(NamedTuple):
    """A shot that differs between two lists.

    Attributes:
        kind: `changed`, `added` or `removed`.
        before: the shot in the first list; None if it was added.
        after: the shot in the second list; None if it was removed.
        cells: the cells that differ; empty unless the shot was changed.
    """

    kind: ChangeKind
    before: PricedShot | None
    after: PricedShot | None
    cells: Sequence[CellChange]

    def differences(self) -> dict[str, Decimal]:
        """Returns currency -> the amount by which the list becomes dearer, for the currencies of the shot."""
        amounts: dict[str, Decimal] = {}
        for shot, is_after in ((self.before, False), (self.after, True)):
            if shot is not None and shot.price is not None:
                currency, amount = shot.price
                known = amounts.get(currency, _NOTHING)
                amounts[currency] = add(known, amount) if is_after else subtract(known, amount)
        return amounts


@dataclass(frozen=True)
class ListComparison:
    """The differences between two lists.

    Attributes:
        changes: the shots that differ, in the order of the lists.
        unchanged: the number of shots that are the same in both lists.
        totals: currency -> the sums of the first and of the second list.
        matched_by: the column by which shots are matched; empty: their content and order.
    """

    changes: Sequence[ShotChange]
    unchanged: int
    totals: Mapping[str, tuple[Decimal, Decimal]]
    matched_by: str

    def count(self, kind: ChangeKind) -> int:
        """Returns the number of changes of a kind."""
        return sum(change.kind == kind for change in self.changes)


def compare_lists(
    before: Sequence[PricedShot], after: Sequence[PricedShot], match_by: str | None
) -> ListComparison:
    """Compares two lists.

    Args:
        before: the shots of the first list.
        after: the shots of the second list.
        match_by: the column whose text identifies a shot; None: the column `key` if both lists have it, or else
            the content and the order of the rows.

    Raises:
        ShotListError: a shot has no text in that column, or two shots of a list have the same.
    """
    if match_by is None and all("key" in shot.cells for shot in (*before, *after)) and (before or after):
        match_by = "key"
    pairs = _by_column(before, after, match_by) if match_by is not None else _by_content(before, after)
    changes, unchanged = [], 0
    for old, new in pairs:
        if old is None or new is None:
            kind: ChangeKind = "added" if old is None else "removed"
            changes.append(ShotChange(kind, old, new, ()))
            continue
        names = dict.fromkeys((*old.cells, *new.cells))
        cells = [CellChange(name, old.cells.get(name, ""), new.cells.get(name, "")) for name in names]
        differing = [cell for cell in cells if cell.before != cell.after]
        if differing or old.price != new.price:
            changes.append(ShotChange("changed", old, new, differing))
        else:
            unchanged += 1
    return ListComparison(changes, unchanged, _totals(before, after), match_by or "")


def _totals(before: Sequence[PricedShot], after: Sequence[PricedShot]) -> dict[str, tuple[Decimal, Decimal]]:
    sums: dict[str, list[Decimal]] = {}
    for place, shots in enumerate((before, after)):
        for shot in shots:
            if shot.price is not None:
                currency, amount = shot.price
                both = sums.setdefault(currency, [_NOTHING, _NOTHING])
                both[place] = add(both[place], amount)
    return {currency: (old, new) for currency, (old, new) in sorted(sums.items())}


_Pair: TypeAlias = tuple[PricedShot | None, PricedShot | None]


def _by_column(before: Sequence[PricedShot], after: Sequence[PricedShot], column: str) -> Iterator[_Pair]:
    old, new = _identified(before, column), _identified(after, column)
    for name, shot in old.items():
        yield shot, new.get(name)
    for name, shot in new.items():
        if name not in old:
            yield None, shot


def _identified(shots: Sequence[PricedShot], column: str) -> dict[str, PricedShot]:
    identified: dict[str, PricedShot] = {}
    if shots and not any(column in shot.cells for shot in shots):
        remedy = did_you_mean(column, dict.fromkeys(name for shot in shots for name in shot.cells))
        raise ShotListError(f"has no column {column!r} to match by; {remedy}", file=shots[0].file)
    for shot in shots:
        name = shot.cells.get(column, "")
        if not name:
            problem = f"this shot has no text in column {column!r}; add it, or match by another column"
            raise ShotListError(problem, file=shot.file, row=shot.row)
        if name in identified:
            problem = f"column {column!r} has the same text as {identified[name].place}; correct one of the two"
            raise ShotListError(problem, file=shot.file, row=shot.row)
        identified[name] = shot
    return identified


def _by_content(before: Sequence[PricedShot], after: Sequence[PricedShot]) -> Iterator[_Pair]:
    """Pairs equal rows, and rows at the same place between equal rows."""
    old = [frozenset((name, text) for name, text in shot.cells.items() if text) for shot in before]
    new = [frozenset((name, text) for name, text in shot.cells.items() if text) for shot in after]
    start = 0
    while start < min(len(old), len(new)) and old[start] == new[start]:
        yield before[start], after[start]
        start += 1
    old_end, new_end = len(old), len(new)
    while min(old_end, new_end) > start and old[old_end - 1] == new[new_end - 1]:
        old_end, new_end = old_end - 1, new_end - 1
    if max(old_end, new_end) - start > _MAX_ALIGNED:
        yield from _unordered(
            before[start:old_end], old[start:old_end], after[start:new_end], new[start:new_end]
        )
    else:
        matcher = SequenceMatcher(None, old[start:old_end], new[start:new_end], autojunk=False)
        for _, old_from, old_to, new_from, new_to in matcher.get_opcodes():
            olds, news = before[start + old_from : start + old_to], after[start + new_from : start + new_to]
            for place in range(max(len(olds), len(news))):
                yield (
                    olds[place] if place < len(olds) else None,
                    news[place] if place < len(news) else None,
                )
    yield from zip(before[old_end:], after[new_end:], strict=True)


def _unordered(
    before: Sequence[PricedShot],
    old: Sequence[frozenset[tuple[str, str]]],
    after: Sequence[PricedShot],
    new: Sequence[frozenset[tuple[str, str]]],
) -> Iterator[_Pair]:
    """Pairs equal rows, whatever their order; all others were added or removed."""
    left = Counter(new)
    kept: Counter[frozenset[tuple[str, str]]] = Counter()
    for shot, content in zip(before, old, strict=True):
        if left[content]:
            left[content] -= 1
            kept[content] += 1
            yield shot, shot
        else:
            yield shot, None
    for shot, content in zip(after, new, strict=True):
        if kept[content]:
            kept[content] -= 1
        else:
            yield None, shot
