"""Conditions on facts, and the functions that they are compiled to."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kling_pricing.tables.capabilities import Rule
from kling_pricing.tables.rules import (
    Between,
    Choice,
    Condition,
    OneOf,
    compile_choice,
    compile_filter,
    hold,
    possible,
)
from kling_pricing.wire.facts import FACT_TYPES

conditions = st.one_of(
    st.tuples(
        st.just("duration_s"),
        st.one_of(
            st.builds(OneOf, st.lists(st.integers(0, 6), min_size=1).map(tuple)),
            st.builds(Between, st.integers(0, 3), st.none() | st.integers(3, 6)),
            st.builds(Between, st.none(), st.integers(3, 6)),
        ),
    ),
    st.tuples(st.just("audio"), st.builds(OneOf, st.lists(st.booleans(), min_size=1).map(tuple))),
    st.tuples(
        st.just("resolution"),
        st.builds(OneOf, st.lists(st.sampled_from(["720p", "1080p", "4k"]), min_size=1).map(tuple)),
    ),
)
condition_maps = st.lists(conditions, max_size=3).map(dict)
needs = st.lists(conditions, min_size=1, max_size=3).map(dict)
some_facts = st.fixed_dictionaries(
    {
        "duration_s": st.none() | st.integers(0, 7),
        "audio": st.none() | st.booleans(),
        "resolution": st.none() | st.sampled_from(["720p", "1080p", "4k", "8k"]),
    }
).map(lambda known: {**dict.fromkeys(FACT_TYPES), **known})


@pytest.mark.parametrize(
    ("condition", "value", "answer"),
    [
        (OneOf((5, 10)), 5, True),
        (OneOf((5, 10)), 7, False),
        (OneOf((5, 10)), None, None),
        (Between(3, 15), 3, True),
        (Between(3, 15), 15, True),
        (Between(3, 15), 2, False),
        (Between(3, 15), 16, False),
        (Between(None, 15), 0, True),
        (Between(3, None), 99, True),
        (Between(3, 15), None, None),
    ],
)
def test_a_condition_has_three_answers(condition: Condition, value: Any, answer: bool | None) -> None:  # noqa: FBT001
    """A value is allowed, not allowed, or unknown; both ends of a range are allowed."""
    assert condition.holds(value) is answer


@pytest.mark.parametrize(
    ("condition", "words", "data"),
    [
        (OneOf((5,)), "5", [5]),
        (OneOf((5, 10)), "5 or 10", [5, 10]),
        (OneOf(("a", "b", "c")), "a, b or c", ["a", "b", "c"]),
        (OneOf((True,)), "true", [True]),
        (Between(3, 15), "3 to 15", {"min": 3, "max": 15}),
        (Between(3, None), "at least 3", {"min": 3}),
        (Between(None, 15), "at most 15", {"max": 15}),
    ],
)
def test_a_condition_describes_the_allowed_values(condition: Condition, words: str, data: Any) -> None:
    """The description is a phrase for messages, and data for programs."""
    assert (condition.describe(), condition.allowed()) == (words, data)


@given(st.lists(st.tuples(condition_maps, needs), max_size=5), some_facts)
def test_the_compiled_filter_selects_the_rules_that_may_be_broken(
    pairs: list[tuple[dict[str, Condition], dict[str, Condition]]], facts: dict[str, Any]
) -> None:
    """For all rules and facts it agrees with three-valued logic."""
    rules = [Rule(f"r{place}", when, need, "") for place, (when, need) in enumerate(pairs)]
    unsure = [
        rule for rule in rules if hold(rule.when, facts) is not False and hold(rule.need, facts) is not True
    ]
    assert compile_filter(rules)(facts) == unsure


@given(st.lists(condition_maps, max_size=5), some_facts)
def test_the_compiled_choice_returns_the_possible_results(
    whens: list[dict[str, Condition]], facts: dict[str, Any]
) -> None:
    """The first match wins; if an unknown fact decides, every result that it allows is returned."""
    choices = [Choice(place, when) for place, when in enumerate(whens)]
    assert compile_choice(choices)(facts) == possible(choices, facts)


def test_an_unknown_fact_allows_several_results() -> None:
    """If it is unknown whether audio is on, either tier may be billed."""
    choices = [Choice("audio", {"audio": OneOf((True,))}), Choice("silent", {}), Choice("never", {})]
    nothing_known = dict.fromkeys(FACT_TYPES)
    assert possible(choices, nothing_known) == ("audio", "silent")
    assert possible(choices, {**nothing_known, "audio": False}) == ("silent",)


def test_only_facts_can_be_compiled() -> None:
    """A name that is not a fact never reaches the compiler."""
    with pytest.raises(ValueError, match="not a fact"):
        compile_choice([Choice("x", {"__import__('os')": OneOf((1,))})])
