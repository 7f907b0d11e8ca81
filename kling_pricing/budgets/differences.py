"""Compares the current budgets with new ones, and decides which differences weaken protection. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

from kling_pricing.budgets.budgets_file import AccountingRate, BudgetsFile
from kling_pricing.budgets.entries import ANY, EACH, BudgetEntry
from kling_pricing.display import did_you_mean, shown
from kling_pricing.errors import BudgetError, BudgetWeakenedError
from kling_pricing.money import format_decimal
from kling_pricing.quoting.settings import RESOLUTIONS


class FieldDifference(NamedTuple):
    """The old and the new value of one key of a budgets file.

    Attributes:
        field: the key; for accounting rates, the two currencies, such as `USD to CNY`.
        old: the old value, as JSON data; None: there was none.
        new: the new value, as JSON data; None: there is none.
        weaker: whether the change weakens protection: more may be spent, or fewer requests are checked.
    """

    field: str
    old: Any
    new: Any
    weaker: bool


class BudgetDifference(NamedTuple):
    """A budget that was added, removed or changed, or a changed setting of the whole file.

    Attributes:
        kind: `added`, `removed` or `changed`.
        budget: the budget's name; None: a setting of the whole file.
        currency: the budget's new currency; None: a setting of the whole file.
        fields: the keys that differ; for an added or removed budget, its keys other than defaults.
    """

    kind: Literal["added", "removed", "changed"]
    budget: str | None
    currency: str | None
    fields: tuple[FieldDifference, ...]

    @property
    def subject(self) -> str:
        """The budget's name, or the key of the setting."""
        return self.fields[0].field.partition(" ")[0] if self.budget is None else self.budget

    @property
    def weaker(self) -> tuple[FieldDifference, ...]:
        """The differences that weaken protection."""
        return tuple(field for field in self.fields if field.weaker)


class Consent(NamedTuple):
    """The changes to which an administrator agrees, because they weaken protection.

    Attributes:
        remove: the names of the budgets to remove.
        allow_weaker: whether protection may become weaker in other ways.
        base: digest of the budgets for which the administrator agrees to the changes; `NO_BUDGETS`: there
            are none; None: any.
    """

    remove: frozenset[str] = frozenset()
    allow_weaker: bool = False
    base: str | None = None


NO_BUDGETS = ""
"""The base of an administrator's consent for a ledger without budgets."""

EVERYTHING = Consent(allow_weaker=True)
"""The consent to every change but the removal of budgets."""

_EntryRule: TypeAlias = Callable[[BudgetEntry, BudgetEntry], bool]
_FileRule: TypeAlias = Callable[[BudgetsFile, BudgetsFile], bool]


def _always(_old: object, _new: object) -> bool:
    return True


def _never(_old: object, _new: object) -> bool:
    return False


def _narrower(old: BudgetEntry, new: BudgetEntry) -> bool:
    """Returns whether the new match leaves out requests of the old one, or splits them into more buckets."""
    return not all(
        label in old.match and _covers(pattern, old.match[label]) for label, pattern in new.match.items()
    )


def _covers(new: str | list[str], old: str | list[str]) -> bool:
    """Returns whether a pattern matches every value of another one, and separates no values of one bucket."""
    if new == EACH:
        return old == EACH or (isinstance(old, str) and old != ANY) or (isinstance(old, list) and len(old) == 1)
    if new == ANY:
        return True
    if old in (ANY, EACH):
        return False
    return {*([old] if isinstance(old, str) else old)} <= {*([new] if isinstance(new, str) else new)}


def _lower_floor(old: BudgetEntry, new: BudgetEntry) -> bool:
    before, after = (
        -1 if entry.min_resolution is None else RESOLUTIONS.index(entry.min_resolution) for entry in (old, new)
    )
    return after < before


def _only_from(old: Collection[str], new: Collection[str] | None) -> bool:
    """Returns whether every name in a new list is in the old one. None is a list of every name."""
    return new is not None and {*new} <= {*old}


def _greater(old: Any, new: Any) -> bool:
    """Returns whether a limit was raised or dropped. None is no limit."""
    return old is not None and (new is None or new > old)


BUDGET_RULES: dict[str, _EntryRule] = {
    "match": _narrower,
    "cap": lambda old, new: new.cap > old.cap,
    "currency": _always,
    "window": _always,
    "timezone": _always,
    "week_starts": _always,
    "on_exceed": lambda _, new: new.on_exceed == "cap",
    "enforce": lambda _, new: new.observes,
    "max_request": lambda old, new: _greater(old.max_request, new.max_request),
    "alerts": _never,
    "notify": lambda old, new: not {*old.notify} <= {*new.notify},
    "min_duration_s": lambda old, new: (new.min_duration_s or 0) < (old.min_duration_s or 0),
    "min_resolution": _lower_floor,
    "keep": lambda old, new: not {*old.keep} <= {*new.keep},
    "carry_over": _never,
}
"""Key of a budget -> whether a change of it weakens protection. A key without a rule always does."""

FILE_RULES: dict[str, _FileRule] = {
    "unmatched": lambda _, new: new.unmatched == "allow",
    "notify": lambda old, new: not {*old.notify} <= {*new.notify},
    "projects": lambda old, new: old.projects is not None and not _only_from(old.projects, new.projects),
    "require_labels": lambda old, new: not {*(old.require_labels or ())} <= {*(new.require_labels or ())},
    "capping": lambda old, new: (
        not (
            {*new.capping.sacrifice} <= {*old.capping.sacrifice}
            and {*new.capping.models} <= {*old.capping.models}
        )
    ),
}
"""Key of a file -> whether a change of it weakens protection. A key without a rule always does."""


def differences(old: BudgetsFile | None, new: BudgetsFile) -> tuple[BudgetDifference, ...]:
    """Returns every difference between two budgets files: budgets in the order of the files, then settings.

    The order of the budgets has no meaning, so it is no difference.

    Args:
        old: the current budgets; None: there are none, so that every budget is added.
        new: the new budgets.
    """
    before = {} if old is None else {budget.name: budget for budget in old.budgets}
    after = {budget.name: budget for budget in new.budgets}
    compared = [_budget(before.get(name), after.get(name)) for name in {**after, **before}]
    if old is not None and old.unmatched == new.unmatched == "refuse":
        compared = [
            _admitting(change, after[change.subject], old.budgets)
            if change is not None and change.subject in after
            else change
            for change in compared
        ]
    settings = _settings(
        BudgetsFile.model_construct(budgets=[]) if old is None else old, new, is_first=old is None
    )
    return (*(difference for difference in compared if difference is not None), *settings)


def _budget(old: BudgetEntry | None, new: BudgetEntry | None) -> BudgetDifference | None:
    """Returns the difference between two budgets of the same name; None if there is none."""
    if old is None or new is None:
        one = new or old
        assert one is not None  # noqa: S101 (for the type checker)
        given = one.model_dump(mode="json", exclude_defaults=True, exclude={"name"})
        sides = [(None, value) if old is None else (value, None) for value in given.values()]
        fields = [
            FieldDifference(field, side[0], side[1], weaker=False)
            for field, side in zip(given, sides, strict=True)
        ]
        return BudgetDifference("added" if old is None else "removed", one.name, one.currency, tuple(fields))
    previous, current = old.model_dump(mode="json"), new.model_dump(mode="json")
    fields = [
        FieldDifference(field, previous.get(field), value, BUDGET_RULES.get(field, _always)(old, new))
        for field, value in current.items()
        if previous.get(field) != value
    ]
    return BudgetDifference("changed", new.name, new.currency, tuple(fields)) if fields else None


def _admitting(change: BudgetDifference, new: BudgetEntry, before: Sequence[BudgetEntry]) -> BudgetDifference:
    """Marks a change after which a budget in observe mode lets requests pass that no budget matched."""
    if not new.observes or any(_matches_all(new, budget) for budget in before):
        return change
    field = "enforce" if change.kind == "added" else "match"
    fields = tuple(part._replace(weaker=True) if part.field == field else part for part in change.fields)
    return change._replace(fields=fields)


def _matches_all(new: BudgetEntry, old: BudgetEntry) -> bool:
    """Returns whether one budget matches every request that another one matches."""
    return all(
        label in new.match and (pattern in (ANY, EACH) or _covers(pattern, new.match[label]))
        for label, pattern in old.match.items()
    )


def _settings(old: BudgetsFile, new: BudgetsFile, *, is_first: bool) -> Iterator[BudgetDifference]:
    before, after = (one.model_dump(mode="json", exclude={"budgets", "accounting_rates"}) for one in (old, new))
    for field, value in after.items():
        if before.get(field) != value:
            weaker = not is_first and FILE_RULES.get(field, _always)(old, new)
            yield _setting(FieldDifference(field, before.get(field), value, weaker))
    rates = [{(rate.quote, rate.budget): rate for rate in one.accounting_rates} for one in (old, new)]
    counted = {budget.currency for budget in old.budgets}
    for pair in {**rates[1], **rates[0]}:
        difference = _rate(rates[0].get(pair), rates[1].get(pair), is_counted=pair[1] in counted)
        if difference is not None:
            yield _setting(difference)


def _setting(difference: FieldDifference) -> BudgetDifference:
    return BudgetDifference("changed", None, None, (difference,))


def _rate(
    old: AccountingRate | None, new: AccountingRate | None, *, is_counted: bool
) -> FieldDifference | None:
    """Returns the difference between two rates of the same currencies; None if there is none.

    A lower rate counts less. A new rate admits requests that a budget in force refused until now.

    Args:
        old: the old rate; None: there was none.
        new: the new rate; None: there is none.
        is_counted: whether a budget in force has the currency of the budgets.
    """
    one = new or old
    assert one is not None  # noqa: S101 (for the type checker)
    if old is not None and new is not None and old.rate == new.rate:
        return None
    before, after = (None if rate is None else format_decimal(rate.rate) for rate in (old, new))
    weaker = new is not None and (is_counted if old is None else new.rate < old.rate)
    return FieldDifference(f"accounting_rates {one.quote} to {one.budget}", before, after, weaker)


def ensure_not_kept(new: BudgetsFile, remove: Collection[str]) -> None:
    """Refuses to remove a budget that the new budgets contain.

    Raises:
        BudgetError: a budget to be removed is one of the new budgets.
    """
    for name in sorted({*remove} & {budget.name for budget in new.budgets}):
        raise BudgetError(
            f"budget {name} is to be removed, but the new budgets contain it; delete it from the new budgets, "
            "or omit it from `remove`"
        )


def ensure_known(remove: Collection[str], known: Collection[str]) -> None:
    """Refuses to remove a budget that never was in force. One that is gone already needs no removal.

    Raises:
        BudgetError: a name is unknown; the message suggests the nearest one.
    """
    for name in sorted({*remove} - {*known}):
        remedy = did_you_mean(name, sorted(known)) if known else "the ledger has no budgets yet"
        raise BudgetError(f"unknown budget {shown(name)} in `remove`; {remedy}")


def ensure_named(old: BudgetsFile, new: BudgetsFile, consent: Consent) -> None:
    """Refuses changes that weaken protection and to which the administrator has not agreed.

    Raises:
        BudgetWeakenedError: a budget is removed or protection becomes weaker without consent.
    """
    changes = differences(old, new)
    removed = [change.subject for change in changes if change.kind == "removed"]
    unnamed = [name for name in removed if name not in consent.remove]
    weaker = [] if consent.allow_weaker else [text for change in changes for text in weaker_texts(change)]
    if unnamed or weaker:
        raise BudgetWeakenedError(_refusal(unnamed, weaker), removed=unnamed, weaker=weaker)


def _refusal(unnamed: Sequence[str], weaker: Sequence[str]) -> str:
    problems = []
    if unnamed:
        budgets = f"budget {unnamed[0]}" if len(unnamed) == 1 else f"budgets {', '.join(unnamed)}"
        pronoun = "it" if len(unnamed) == 1 else "each"
        problems.append(
            f"the new budgets do not contain {budgets}; add {pronoun} to them, or name {pronoun} in `remove`"
        )
    if weaker:
        problems.append(
            f"protection would become weaker ({'; '.join(weaker)}); to agree, pass `allow_weaker=True`"
        )
    return f"nothing was changed: {'. Also, '.join(problems)}"


def weaker_texts(change: BudgetDifference) -> list[str]:
    """Returns the differences that weaken protection as texts, such as `trailer: cap 25 -> 50 USD`."""
    subject = "" if change.budget is None else f"{change.budget}: "
    return [f"{subject}{difference_text(field, change.currency)}" for field in change.weaker]


def difference_text(field: FieldDifference, currency: str | None) -> str:
    """Returns a difference as text, such as `cap 25 -> 50 USD`."""
    unit = f" {currency}" if field.field in {"cap", "max_request"} and currency else ""
    old, new = value_shown(field.old), value_shown(field.new)
    unit = "" if field.new is None else unit
    return f"{field.field} {old} -> {new}{unit}"


def value_shown(value: Any) -> str:
    """Returns a value of a budgets file as people write it in a file."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {value_shown(part)}' for key, part in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(value_shown, value))}]"
    if isinstance(value, bool):
        return str(value).lower()
    return "none" if value is None else str(value)
