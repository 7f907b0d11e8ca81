"""Conditions over facts: the `when` and `need` of every file in `pricing_tables/`.

A condition is about one fact and allows either some values (`[5, 10]`, or one: `true`) or a range
(`{min: 3, max: 15}`).
Conditions stand together: all of them must hold.
Logic is three-valued: a fact that is not known makes a condition neither true nor false.

Rules are data, but each request pays for evaluating them.
So, once, when a table is loaded, they are turned into one Python function, the way `dataclasses` makes an
`__init__`.
Only names of facts and of numbered constants appear in its text; values from a file never do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Generic, Protocol, TypeAlias, TypeGuard, TypeVar, cast

from kling_pricing.display import shown
from kling_pricing.wire.facts import EMPTY_FACTS, FACT_TYPES

T = TypeVar("T")

_SMALL_RANGE = 64
"""A range of fewer whole numbers is tried at each of them, not only at its ends."""


class Condition(Protocol):
    """What one fact must be."""

    def holds(self, value: Any) -> bool | None:
        """Whether the value is allowed; None when it is not known."""

    def describe(self) -> str:
        """The allowed values, for a sentence: `5 or 10`, `3 to 15`."""

    def allowed(self) -> Any:
        """The allowed values as data: a list, or a map with `min` and `max`."""

    def edges(self) -> tuple[Any, ...]:
        """Values to try: every allowed one where they are few, and those on either side of each boundary."""


@dataclass(frozen=True, slots=True)
class OneOf:
    """The fact is one of some values."""

    values: tuple[Any, ...]

    def holds(self, value: Any) -> bool | None:
        return None if value is None else value in self.values

    def describe(self) -> str:
        *others, last = [shown(value) for value in self.values]
        return f"{', '.join(others)} or {last}" if others else last

    def allowed(self) -> Any:
        return list(self.values)

    def edges(self) -> tuple[Any, ...]:
        if isinstance(self.values[0], bool):
            return (False, True)
        beyond = [value + 1 for value in self.values if isinstance(value, int)]
        return tuple(dict.fromkeys((*self.values, *beyond)))


@dataclass(frozen=True, slots=True)
class Between:
    """The fact is a number within a closed range, open on a side that is None."""

    minimum: Any = None
    maximum: Any = None

    def holds(self, value: Any) -> bool | None:
        if value is None:
            return None
        above = self.minimum is None or value >= self.minimum
        return above and (self.maximum is None or value <= self.maximum)

    def describe(self) -> str:
        if self.maximum is None:
            return f"at least {self.minimum}"
        return f"at most {self.maximum}" if self.minimum is None else f"{self.minimum} to {self.maximum}"

    def allowed(self) -> Any:
        bounds = {"min": self.minimum, "max": self.maximum}
        return {side: bound for side, bound in bounds.items() if bound is not None}

    def edges(self) -> tuple[Any, ...]:
        if self.minimum is not None and self.maximum is not None and self.maximum - self.minimum < _SMALL_RANGE:
            return tuple(range(max(int(self.minimum) - 1, 0), int(self.maximum) + 2))
        inside = [bound for bound in (self.minimum, self.maximum) if bound is not None]
        below = [] if self.minimum is None else [max(self.minimum - 1, 0)]
        above = [] if self.maximum is None else [self.maximum + 1]
        return (*below, *inside, *above)


Conditions: TypeAlias = Mapping[str, Condition]
"""Fact -> what it must be; all must hold."""


def hold(conditions: Conditions, facts: Mapping[str, Any]) -> bool | None:
    """Whether all conditions hold; None when that hangs on a fact that is not known."""
    known = True
    for fact, condition in conditions.items():
        answer = condition.holds(facts[fact])
        if answer is False:
            return False
        known = known and answer is not None
    return True if known else None


@dataclass(frozen=True, slots=True)
class Choice(Generic[T]):
    """One line of a list in which the first match wins."""

    result: T
    when: Conditions


def possible(choices: Iterable[Choice[T]], facts: Mapping[str, Any]) -> tuple[T, ...]:
    """The results that may be chosen: one when every fact that matters is known, none when nothing matches."""
    results = []
    for choice in choices:
        answer = hold(choice.when, facts)
        if answer is not False:
            results.append(choice.result)
        if answer is True:
            break
    return tuple(dict.fromkeys(results))


class WhenNeed(Protocol):
    """A rule: when all of `when` hold, all of `need` must."""

    @property
    def when(self) -> Conditions: ...
    @property
    def need(self) -> Conditions: ...


R = TypeVar("R", bound=WhenNeed)


def compile_filter(rules: Sequence[R]) -> Callable[[Mapping[str, Any]], list[R]]:
    """Makes a function that returns the rules which are not surely kept: broken, or hanging on an unknown fact.

    The function is for a first pass that is cheap for a good request; `hold` then tells the two kinds apart.
    Neighbours that apply to certain values of one fact stand under one test, which most requests do not pass.
    For `{when: {audio: true}, need: {resolution: [1080p]}}` and two rules of some actions its text is::

        def chosen(facts):
            action = facts["action"]
            audio = facts["audio"]
            resolution = facts["resolution"]
            found = []
            if audio is not False and not (resolution in c0): found.append(rules[0])
            if action in c1:
                images = facts["images"]
                if action in c2 and not (images in c3): found.append(rules[1])
                if action in c4 and not (images in c5): found.append(rules[2])
            return found
    """
    constants: dict[str, Any] = {"rules": rules}
    lines = ["found = []"]
    always: set[str] = set()
    for fact, group in groupby(range(len(rules)), lambda index: next(iter(rules[index].when), None)):
        alike = [*group]
        tests = [
            f"if {_may_be_broken(rules[index], constants)}: found.append(rules[{index}])" for index in alike
        ]
        spoken_of = {each for index in alike for each in (*rules[index].when, *rules[index].need)}
        if fact is None or len(alike) == 1:
            always |= spoken_of
            lines += tests
        else:
            always.add(fact)
            lines.append(f"if {_one_may_hold(fact, [rules[index].when[fact] for index in alike], constants)}:")
            lines += [f"    {line}" for line in (*_loaded(spoken_of - {fact}), *tests)]
    return _function(always, [*lines, "return found"], constants)


def _may_be_broken(rule: WhenNeed, constants: dict[str, Any]) -> str:
    applies = [_may_hold(fact, condition, constants) for fact, condition in rule.when.items()]
    needed = [_surely_holds(fact, condition, constants) for fact, condition in rule.need.items()]
    return " and ".join([*applies, f"not ({' and '.join(needed)})"])


def _one_may_hold(fact: str, conditions: Sequence[Condition], constants: dict[str, Any]) -> str:
    """The text of a test that passes where any of the conditions may hold."""
    listed = [value for condition in conditions if isinstance(condition, OneOf) for value in condition.values]
    others = [condition for condition in dict.fromkeys(conditions) if not isinstance(condition, OneOf)]
    merged = [OneOf(tuple(listed)), *others] if listed else others
    return " or ".join(_may_hold(fact, condition, constants) for condition in merged)


def compile_choice(choices: Sequence[Choice[T]]) -> Callable[[Mapping[str, Any]], tuple[T, ...]]:
    """Makes a function equal to `possible` for these choices, fast when the facts that matter are known."""
    constants: dict[str, Any] = {"possible": possible, "choices": tuple(choices)}
    lines = []
    facts = {fact for choice in choices for fact in choice.when}
    if unknown := " or ".join(f"{fact} is None" for fact in sorted(facts) if EMPTY_FACTS.get(fact) is None):
        lines.append(f"if {unknown}: return possible(choices, facts)")
    for index, choice in enumerate(choices):
        constants[f"r{index}"] = (choice.result,)
        tests = [_holds(fact, condition, constants) for fact, condition in choice.when.items()]
        lines.append(f"if {' and '.join(tests) or 'True'}: return r{index}")
    return _function(facts, [*lines, "return ()"], constants)


def _is_one_bool(condition: Condition) -> TypeGuard[OneOf]:
    return isinstance(condition, OneOf) and len(condition.values) == 1 and isinstance(condition.values[0], bool)


def _holds(fact: str, condition: Condition, constants: dict[str, Any]) -> str:
    """The text of a test for a fact that is known."""
    if _is_one_bool(condition):
        return f"{fact} is {condition.values[0]}"
    if isinstance(condition, OneOf):
        return f"{fact} in {_constant(constants, frozenset(condition.values))}"
    return _within(fact, condition, constants)


def _surely_holds(fact: str, condition: Condition, constants: dict[str, Any]) -> str:
    if isinstance(condition, OneOf):
        return _holds(fact, condition, constants)
    return f"({fact} is not None and {_within(fact, condition, constants)})"


def _may_hold(fact: str, condition: Condition, constants: dict[str, Any]) -> str:
    if _is_one_bool(condition):
        return f"{fact} is not {not condition.values[0]}"
    if isinstance(condition, OneOf):
        return f"{fact} in {_constant(constants, frozenset((*condition.values, None)))}"
    return f"({fact} is None or {_within(fact, condition, constants)})"


def _within(fact: str, condition: Condition, constants: dict[str, Any]) -> str:
    bounds = condition.allowed()
    lower = f"{_constant(constants, bounds['min'])} <= " if "min" in bounds else ""
    upper = f" <= {_constant(constants, bounds['max'])}" if "max" in bounds else ""
    return f"{lower}{fact}{upper}"


def _loaded(facts: set[str]) -> list[str]:
    """The lines that make local names of facts."""
    if strangers := facts - FACT_TYPES.keys():
        raise ValueError(f"not a fact: {min(strangers)!r}")
    return [f'{fact} = facts["{fact}"]' for fact in sorted(facts)]


def _constant(constants: dict[str, Any], value: Any) -> str:
    name = f"c{len(constants)}"
    constants[name] = value
    return name


def _function(
    facts: set[str], lines: Sequence[str], constants: dict[str, Any]
) -> Callable[[Mapping[str, Any]], Any]:
    text = "\n    ".join(["def chosen(facts):", *_loaded(facts), *lines])
    namespace = {**constants, "__builtins__": {}}
    exec(compile(text, "<rules>", "exec"), namespace)  # noqa: S102 (the module's docstring says why)
    return cast("Callable[[Mapping[str, Any]], Any]", namespace["chosen"])
