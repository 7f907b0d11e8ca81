"""Capability matrices: the requests that each wire format accepts.

A matrix is data (`pricing_tables/capabilities/`).
Its limits, actions, rules and warnings become `Rule`s of one shape.
The rules are compiled once, when the matrix is loaded.
`examination` checks requests against it.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, fields
from datetime import datetime
from functools import cached_property
from itertools import chain, product
from typing import Any, NamedTuple

from kling_pricing.tables.http_rules import HttpRules
from kling_pricing.tables.rules import (
    Choice,
    Condition,
    Conditions,
    OneOf,
    compile_choice,
    compile_filter,
    hold,
)
from kling_pricing.wire.endpoints import Submission
from kling_pricing.wire.facts import EMPTY_FACTS, FACT_TYPES, INPUT_OF, Facts
from kling_pricing.wire.media import MediaFacts, Medium


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule: when all conditions in `when` hold, all conditions in `need` must hold.

    Attributes:
        code: the rule's stable name, unique within a model.
        when: the conditions under which the rule applies; empty: always.
        need: the conditions that it requires.
        source: where the rule was published.
        message: the sentence for people; empty: the conditions supply one.
        warning: whether a broken rule is only a note.
        since: the first instant at which the rule holds; None: it always did.
        until: the first instant at which it no longer holds; None: until further notice.
    """

    code: str
    when: Conditions
    need: Conditions
    source: str
    message: str = ""
    warning: bool = False
    since: datetime | None = None
    until: datetime | None = None

    @property
    def is_dated(self) -> bool:
        """Whether the rule holds for a part of the time only."""
        return self.since is not None or self.until is not None

    def is_in_force(self, at: datetime) -> bool:
        """Returns whether the rule holds at an instant."""
        return (self.since is None or self.since <= at) and (self.until is None or at < self.until)

    def is_broken(self, facts: Mapping[str, Any]) -> bool:
        """Returns whether facts break the rule, whatever the values of the unknown ones are."""
        return bool(hold(self.when, facts)) and hold(self.need, facts) is False


@dataclass(frozen=True, slots=True)
class MediaLimit:
    """Limits for files of one kind.

    Attributes:
        kind: `image` or `video`.
        limits: attribute of `MediaFacts` -> its condition.
        source: where the limits were published.
        unchecked: a cache of the note for each group of unknown attributes.
    """

    kind: str
    limits: Conditions
    source: str
    unchecked: dict[tuple[str, ...], str] = field(default_factory=dict, repr=False, compare=False)


class IgnoredField(NamedTuple):
    """A field that a provider accepts and ignores, although other APIs of the same shape read it.

    Attributes:
        field: the path of the field.
        provider: the provider that ignores it.
    """

    field: str
    provider: str


class ImpliedAction(NamedTuple):
    """The action that an input implies when the payload has the general action.

    Attributes:
        action: the action that the API then performs.
        fact: the fact that implies it.
    """

    action: str
    fact: str


@dataclass(frozen=True)
class ModelCapabilities:
    """The requests that a wire format accepts for one model.

    Attributes:
        model: the canonical name.
        names: the model's names in this wire format.
        fields: the inputs that the model accepts; a payload with any other input is refused.
        required: the inputs that a payload must have.
        defaults: fact -> the API's default.
        rules: limits, rules and warnings that can apply to the model.
        implied_actions: the actions that inputs imply if the payload has the general one; first match wins.
        media: the limits for files.
        source: where the model's limits were published.
        general_action: the default action, which inputs may replace by another.
        assumable: the defaults of inputs that the model accepts and that have more than one allowed value.
        open_facts: the facts without a default that are unknown unless the payload states them, each with the
            input it is derived from, or None if it is an input itself.
    """

    model: str
    names: tuple[str, ...]
    fields: frozenset[str]
    required: tuple[str, ...]
    defaults: Mapping[str, Any]
    rules: tuple[Rule, ...]
    implied_actions: tuple[Choice[ImpliedAction], ...]
    media: tuple[MediaLimit, ...]
    source: str
    general_action: str | None = field(init=False, repr=False, compare=False)
    open_facts: tuple[tuple[str, str | None], ...] = field(init=False, repr=False, compare=False)
    assumable: Mapping[str, Any] = field(init=False, repr=False, compare=False)
    _unstated: dict[str, Any] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "general_action", self.defaults.get("action"))
        fixed = {
            fact
            for rule in self.rules
            if not rule.when and not rule.warning and not rule.is_dated
            for fact, condition in rule.need.items()
            if isinstance(condition, OneOf) and len(condition.values) == 1
        }
        assumable = {
            fact: default
            for fact, default in self.defaults.items()
            if fact in self.fields and fact not in fixed
        }
        object.__setattr__(self, "assumable", assumable)
        tested = {fact for rule in self.rules for fact in (*rule.when, *rule.need)}
        unknown = [fact for fact in tested if EMPTY_FACTS[fact] is None and fact not in self.defaults]
        object.__setattr__(self, "open_facts", tuple((fact, INPUT_OF.get(fact)) for fact in sorted(unknown)))
        object.__setattr__(self, "_unstated", {**EMPTY_FACTS, "reference": False, **self.defaults})

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), tuple(getattr(self, field.name) for field in fields(self) if field.init)

    @cached_property
    def unsure(self) -> Callable[[Mapping[str, Any]], list[Rule]]:
        """Returns the rules that some facts may break, without the warnings; compiled when first used."""
        return compile_filter([rule for rule in self.rules if not rule.warning])

    @cached_property
    def unsure_warnings(self) -> Callable[[Mapping[str, Any]], list[Rule]]:
        """Returns the warnings that some facts may break; compiled when first used."""
        return compile_filter([rule for rule in self.rules if rule.warning])

    @cached_property
    def imply_action(self) -> Callable[[Mapping[str, Any]], tuple[ImpliedAction, ...]]:
        """Returns the actions that some facts may imply; compiled when first used."""
        return compile_choice(self.implied_actions)

    def with_defaults(self, stated: dict[str, Any], implied: Mapping[str, Any]) -> Facts:
        """Returns a payload's facts: those that its model name implies, those it states, and else defaults."""
        facts: Any = self._unstated | stated
        if implied:
            facts |= implied
        facts["model"] = self.model
        complete: Facts = facts
        return complete

    def unknown(
        self,
        facts: Mapping[str, Any],
        stated: Mapping[str, str],
        media: Sequence[tuple[Medium, MediaFacts]],
        priced: Container[str],
    ) -> tuple[str, ...]:
        """Returns the open facts that are unknown and can change a price.

        A fact that is derived from an input counts only if the payload has that input.
        """
        unknown: tuple[str, ...] = ()
        for fact, source in self.open_facts:
            if facts[fact] is None and fact in priced:
                is_stated = source is None or source in stated
                if is_stated or (media and any(f"{medium.kind}s" == source for medium, _ in media)):
                    unknown = (*unknown, fact)
        return unknown

    def completions(
        self, facts: Mapping[str, Any], unknown: tuple[str, ...], possible: Mapping[str, tuple[Any, ...]]
    ) -> tuple[Mapping[str, Any], ...]:
        """Returns the facts with the unknown ones filled in, in each way that the API could accept.

        A fact takes its possible values if they are known (`possible`), and otherwise the turning points of all
        rules that test it; between two turning points the price does not change direction.
        """
        values = [possible.get(fact) or self._turning_points(fact) for fact in unknown]
        return tuple(filled for filled in fillings(facts, unknown, values) if self.allows(filled))

    def _turning_points(self, fact: str) -> tuple[Any, ...]:
        if FACT_TYPES[fact] is bool:
            return (False, True)
        edges = (rule.need[fact].edges() for rule in self.rules if fact in rule.need)
        return tuple(dict.fromkeys(chain.from_iterable(edges)))

    def allows(self, facts: Mapping[str, Any]) -> bool:
        """Returns whether no rule is certainly broken; rules that hold for a part of the time do not count."""
        return not any(rule.is_broken(facts) for rule in self.unsure(facts) if not rule.is_dated)

    def breakable(self, known: AbstractSet[str]) -> list[Rule]:
        """Returns the rules by which `allows` may refuse facts of which only these are known."""
        return [
            rule
            for rule in self.rules
            if not rule.warning
            and not rule.is_dated
            and known >= rule.when.keys()
            and not known.isdisjoint(rule.need)
        ]

    def limit(self, fact: str, facts: Mapping[str, Any] | None = None) -> Condition | None:
        """Returns the first condition that a fact must meet; None if no rule limits it.

        Without `facts`, only rules that always apply count. With `facts`, rules that apply to them count too.
        Rules that hold for a part of the time never count.
        """
        limits = (
            rule.need[fact]
            for rule in self.rules
            if fact in rule.need
            and not rule.warning
            and not rule.is_dated
            and (not rule.when or (facts is not None and hold(rule.when, facts)))
        )
        return next(limits, None)


@dataclass(frozen=True)
class CapabilityMatrix:
    """The requests that one wire format accepts.

    Attributes:
        wire_format: the wire format's name, which is also the file's name.
        models: canonical name -> the requests that are accepted for the model.
        names: every model name in this wire format -> canonical name, and the facts that the name implies.
        sources: where the matrix was published.
        submissions: the paths to which payloads are posted.
        http: the API's behaviour over HTTP.
        ignored_fields: the fields that a provider ignores.
        known_names: model name in lower case that the API does not take -> an explanation.
        folded_names: model name in lower case -> the name as the file writes it.
    """

    wire_format: str
    models: Mapping[str, ModelCapabilities]
    names: Mapping[str, tuple[str, Mapping[str, Any]]]
    sources: tuple[str, ...]
    submissions: tuple[Submission, ...] = ()
    http: HttpRules = field(default_factory=HttpRules)
    ignored_fields: tuple[IgnoredField, ...] = ()
    known_names: Mapping[str, str] = field(default_factory=dict)
    folded_names: Mapping[str, str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "folded_names", {name.lower(): name for name in reversed([*self.names])})

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), tuple(getattr(self, field.name) for field in fields(self) if field.init)

    def find(self, written: str) -> tuple[str, Mapping[str, Any]] | None:
        """Returns the canonical name of a model and the facts that its name implies; None: unknown.

        Capitals and small letters count as the same.
        """
        return self.names.get(written) or self.names.get(self.folded_names.get(written.lower(), written))


def fillings(
    facts: Mapping[str, Any], names: Sequence[str], values: Sequence[tuple[Any, ...]]
) -> tuple[Mapping[str, Any], ...]:
    """Returns copies of the facts with the named ones filled in, in every combination of their values."""
    return tuple({**facts, **dict(zip(names, combination, strict=True))} for combination in product(*values))
