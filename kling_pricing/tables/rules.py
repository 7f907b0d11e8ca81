"""Conditions on facts: the `when` and `need` of every file in `pricing_tables/`.

A condition concerns one fact and allows either listed values (`[5, 10]`, or one: `true`) or a range
(`{min: 3, max: 15}`).
A group of conditions holds when all of them hold.
Logic is three-valued: an unknown fact makes a condition neither true nor false.

Rules are data, but every request pays for evaluating them.
So they are compiled into one Python function when a table is loaded, as `dataclasses` compiles an `__init__`.
The source of that function contains only names of facts and of numbered constants, never values from a file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Generic, Protocol, TypeAlias, TypeGuard, TypeVar, cast

from kling_pricing.display import joined_with_or, shown
from kling_pricing.wire.facts import EMPTY_FACTS, FACT_TYPES

T = TypeVar("T")

_SMALL_RANGE = 64
"""A range of fewer whole numbers is tried at every number, not only at its ends."""


class Condition(Protocol):
    """A condition on the value of one fact."""

    def holds(self, value: Any) -> bool | None:
        """Returns whether the value is allowed; None if the value is unknown."""

    def describe(self) -> str:
        """Describes the allowed values for a sentence: `5 or 10`, `3 to 15`."""

    def allowed(self) -> Any:
        """Returns the allowed values as data: a list, or a map with `min` and `max`."""

    def edges(self) -> tuple[Any, ...]:
        """Returns values to try: every allowed value if there are few, and the values around each boundary."""


@dataclass(frozen=True, slots=True)
class OneOf:
    """The fact has one of the listed values."""

    values: tuple[Any, ...]

    def holds(self, value: Any) -> bool | None:
        return None if value is None else value in self.values

    def describe(self) -> str:
        return joined_with_or(shown(value) for value in self.values)

    def allowed(self) -> Any:
        return list(self.values)

    def edges(self) -> tuple[Any, ...]:
        if isinstance(self.values[0], bool):
            return (False, True)
        beyond = [value + 1 for value in self.values if isinstance(value, int)]
        return tuple(dict.fromkeys((*self.values, *beyond)))


@dataclass(frozen=True, slots=True)
class Between:
    """The fact is a number in a closed range; None: no limit on that side."""

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
            whole = range(max(int(self.minimum) - 1, 0), int(self.maximum) + 2)
            return tuple(sorted({*whole, self.minimum, self.maximum}))
        inside = [bound for bound in (self.minimum, self.maximum) if bound is not None]
        below = [] if self.minimum is None else [max(self.minimum - 1, 0)]
        above = [] if self.maximum is None else [self.maximum + 1]
        return (*below, *inside, *above)


Conditions: TypeAlias = Mapping[str, Condition]
"""Fact -> its condition; all conditions must hold."""


def hold(conditions: Conditions, facts: Mapping[str, Any]) -> bool | None:
    """Returns whether all conditions hold; None if the answer depends on an unknown fact."""
    known = True
    for fact, condition in conditions.items():
        holds = condition.holds(facts[fact])
        if holds is False:
            return False
        known = known and holds is not None
    return True if known else None


@dataclass(frozen=True, slots=True)
class Choice(Generic[T]):
    """One entry of a list in which the first match wins."""

    result: T
    when: Conditions


def possible(choices: Iterable[Choice[T]], facts: Mapping[str, Any]) -> tuple[T, ...]:
    """Returns the results that may apply: one if all relevant facts are known, none if no entry matches."""
    results = []
    for choice in choices:
        matches = hold(choice.when, facts)
        if matches is not False:
            results.append(choice.result)
        if matches is True:
            break
    return tuple(dict.fromkeys(results))


class WhenNeed(Protocol):
    """A rule: when all conditions in `when` hold, all conditions in `need` must hold."""

    @property
    def when(self) -> Conditions: ...
    @property
    def need(self) -> Conditions: ...


R = TypeVar("R", bound=WhenNeed)


def compile_filter(rules: Sequence[R]) -> Callable[[Mapping[str, Any]], list[R]]:
    """Compiles a function that returns the rules that facts break or, if a fact is unknown, may break.

    The function is a first pass that is cheap for a valid request; `hold` then decides between the two cases.
    Consecutive rules that test the same fact first share one test, which most requests do not pass. Those among
    them with the same condition share a second test.
    For `{when: {audio: true}, need: {resolution: [1080p]}}` and two rules for different actions its source is::

        def select(facts):
            action = facts["action"]
            audio = facts["audio"]
            resolution = facts["resolution"]
            unsure = []
            if audio is not False and not (resolution == c1): unsure.append(rules[0])
            if (action is None or action in c2):
                if (action is None or action == c3):
                    images = facts["images"]
                    if not (images == c4): unsure.append(rules[1])
                if (action is None or action == c5):
                    images = facts["images"]
                    if not (images == c6): unsure.append(rules[2])
            return unsure
    """
    constants: dict[str, Any] = {"rules": rules}
    lines = ["unsure = []"]
    always: set[str] = set()
    for fact, group in groupby(enumerate(rules), lambda entry: next(iter(entry[1].when), None)):
        entries = [*group]
        if fact is None or len(entries) == 1:
            tests, tested = _tests(entries, None, constants)
            always |= tested
            lines += tests
        else:
            always.add(fact)
            conditions = [rule.when[fact] for _, rule in entries]
            lines.append(f"if {_one_may_hold(fact, conditions, constants)}:")
            for condition, same in groupby(zip(conditions, entries, strict=True), lambda pair: pair[0]):
                tests, tested = _tests([entry for _, entry in same], fact, constants)
                lines.append(f"    if {_may_hold(fact, condition, constants)}:")
                lines += [f"        {line}" for line in (*_assignments(tested - {fact}), *tests)]
    return _function(always, [*lines, "return unsure"], constants)


def _tests(
    entries: Iterable[tuple[int, WhenNeed]], passed: str | None, constants: dict[str, Any]
) -> tuple[list[str], set[str]]:
    """Returns the lines that test some rules, and the facts that they test.

    Args:
        entries: the rules, each with its index.
        passed: the fact whose conditions in `when` may hold, because a test before these lines has shown it.
        constants: the values that the lines name.
    """
    lines: list[str] = []
    tested: set[str] = set()
    for index, rule in entries:
        when = {fact: condition for fact, condition in rule.when.items() if fact != passed}
        lines.append(f"if {_may_be_broken(when, rule.need, constants)}: unsure.append(rules[{index}])")
        tested |= when.keys() | rule.need.keys()
    return lines, tested


def _may_be_broken(when: Conditions, need: Conditions, constants: dict[str, Any]) -> str:
    applies = [_may_hold(fact, condition, constants) for fact, condition in when.items()]
    needed = [_surely_holds(fact, condition, constants) for fact, condition in need.items()]
    return " and ".join([*applies, f"not ({' and '.join(needed)})"])


def _one_may_hold(fact: str, conditions: Sequence[Condition], constants: dict[str, Any]) -> str:
    """Returns the source of a test that passes if any of the conditions may hold."""
    return " or ".join(_may_hold(fact, condition, constants) for condition in _merged(conditions))


def _merged(conditions: Sequence[Condition]) -> list[Condition]:
    """Returns few conditions of which one holds if any of the given ones does."""
    values = [value for condition in conditions if isinstance(condition, OneOf) for value in condition.values]
    ranges = [condition for condition in dict.fromkeys(conditions) if not isinstance(condition, OneOf)]
    return [OneOf(tuple(dict.fromkeys(values))), *ranges] if values else ranges


def compile_choice(choices: Sequence[Choice[T]]) -> Callable[[Mapping[str, Any]], tuple[T, ...]]:
    """Compiles `possible` for these choices into a function that is fast if the relevant facts are known.

    As in `compile_filter`, consecutive choices that test the same fact first share one test.
    """
    constants: dict[str, Any] = {"possible": possible, "choices": tuple(choices)}
    lines = []
    facts = {fact for choice in choices for fact in choice.when}
    if unknown := " or ".join(f"{fact} is None" for fact in sorted(facts) if EMPTY_FACTS.get(fact) is None):
        lines.append(f"if {unknown}: return possible(choices, facts)")
    for first, group in groupby(enumerate(choices), lambda entry: next(iter(entry[1].when), None)):
        entries = [*group]
        is_shared = first is not None and len(entries) > 1
        if first is not None and is_shared:
            conditions = [choice.when[first] for _, choice in entries]
            tests = [_holds(first, condition, constants) for condition in _merged(conditions)]
            lines.append(f"if {' or '.join(tests)}:")
        for index, choice in entries:
            constants[f"r{index}"] = (choice.result,)
            tests = [_holds(fact, condition, constants) for fact, condition in choice.when.items()]
            lines.append(f"{'    ' * is_shared}if {' and '.join(tests) or 'True'}: return r{index}")
    return _function(facts, [*lines, "return ()"], constants)


def _is_one_bool(condition: Condition) -> TypeGuard[OneOf]:
    return isinstance(condition, OneOf) and len(condition.values) == 1 and isinstance(condition.values[0], bool)


def _holds(fact: str, condition: Condition, constants: dict[str, Any]) -> str:
    """Returns the source of a test for a known fact."""
    if _is_one_bool(condition):
        return f"{fact} is {condition.values[0]}"
    if isinstance(condition, OneOf):
        return _among(fact, condition, constants)
    return _within(fact, condition, constants)


def _surely_holds(fact: str, condition: Condition, constants: dict[str, Any]) -> str:
    if isinstance(condition, OneOf):
        return _holds(fact, condition, constants)
    return f"({fact} is not None and {_within(fact, condition, constants)})"


def _may_hold(fact: str, condition: Condition, constants: dict[str, Any]) -> str:
    if _is_one_bool(condition):
        return f"{fact} is not {not condition.values[0]}"
    return f"({fact} is None or {_holds(fact, condition, constants)})"


def _among(fact: str, condition: OneOf, constants: dict[str, Any]) -> str:
    values = frozenset(condition.values)
    if len(values) == 1:  # a comparison is faster than a look-up
        (value,) = values
        return f"{fact} == {_constant(constants, value)}"
    return f"{fact} in {_constant(constants, values)}"


def _within(fact: str, condition: Condition, constants: dict[str, Any]) -> str:
    bounds = condition.allowed()
    lower = f"{_constant(constants, bounds['min'])} <= " if "min" in bounds else ""
    upper = f" <= {_constant(constants, bounds['max'])}" if "max" in bounds else ""
    return f"{lower}{fact}{upper}"


def _assignments(facts: set[str]) -> list[str]:
    """Returns the lines that assign facts to local names."""
    if unknown := facts - FACT_TYPES.keys():
        raise ValueError(f"not a fact: {min(unknown)!r}")
    return [f'{fact} = facts["{fact}"]' for fact in sorted(facts)]


def _constant(constants: dict[str, Any], value: Any) -> str:
    name = f"c{len(constants)}"
    constants[name] = value
    return name


def _function(
    facts: set[str], lines: Sequence[str], constants: dict[str, Any]
) -> Callable[[Mapping[str, Any]], Any]:
    source = "\n    ".join(["def select(facts):", *_assignments(facts), *lines])
    namespace = {**constants, "__builtins__": {}}
    exec(compile(source, "<rules>", "exec"), namespace)  # noqa: S102 (the module's docstring says why)
    return cast("Callable[[Mapping[str, Any]], Any]", namespace["select"])
