"""What an API accepts: the capability matrix of a wire format, and every way a request breaks it.

A matrix is data (`pricing_tables/capabilities/`).
Its limits, actions, rules and warnings all become `Rule`s of one shape, compiled once when it is loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import chain, product
from typing import Any, NamedTuple

from kling_pricing.display import reportable, shown
from kling_pricing.findings import Note, Violation
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
from kling_pricing.wire.endpoints import Endpoint, Submission
from kling_pricing.wire.facts import EMPTY_FACTS, FACT_TYPES, INPUT_OF, Facts
from kling_pricing.wire.media import MediaFacts, Medium
from kling_pricing.wire.request import VideoRequest


@dataclass(frozen=True, slots=True)
class Rule:
    """When all of `when` hold, all of `need` must.

    Attributes:
        code: stable name, unique within a model.
        when: facts that make the rule apply; empty: it always does.
        need: facts it then demands.
        source: where the rule was published.
        message: the sentence for a person; empty: made from the conditions.
        warning: whether breaking it is only a note.
    """

    code: str
    when: Conditions
    need: Conditions
    source: str
    message: str = ""
    warning: bool = False


@dataclass(frozen=True, slots=True)
class MediaLimit:
    """What a file of one kind must be; `limits` is keyed by the attributes of `MediaFacts`."""

    kind: str
    limits: Conditions
    source: str


class ImpliedAction(NamedTuple):
    """What an input makes of the general action.

    Attributes:
        action: the action the API then takes.
        fact: the fact that decides it.
    """

    action: str
    fact: str


@dataclass(frozen=True)
class ModelCapabilities:
    """What a wire format accepts for one model.

    Attributes:
        model: canonical name.
        names: the model's names on this wire.
        fields: inputs it takes; any other that is said is refused.
        required: inputs that must be said.
        defaults: fact -> the API's default.
        rules: limits, rules and warnings.
        implied_actions: what the inputs make of the general action; first match wins.
        media: limits of the files.
        source: where the model's limits were published.
        general_action: the action that the inputs may turn into another.
        assumable: the defaults of facts that the model takes and could have otherwise.
        open_facts: the facts that have no default and are not known unless the payload says so, each with the
            input it is derived from, if it is not one itself.
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
    unsure: Callable[[Mapping[str, Any]], list[Rule]] = field(init=False, repr=False, compare=False)
    imply_action: Callable[[Mapping[str, Any]], tuple[ImpliedAction, ...]] = field(
        init=False, repr=False, compare=False
    )
    _unsaid: dict[str, Any] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "general_action", self.defaults.get("action"))
        alone = {
            fact
            for rule in self.rules
            if not rule.when and not rule.warning
            for fact, condition in rule.need.items()
            if isinstance(condition, OneOf) and len(condition.values) == 1
        }
        taken = {
            fact: self.defaults[fact] for fact in self.defaults if fact in self.fields and fact not in alone
        }
        object.__setattr__(self, "assumable", taken)
        spoken_of = {fact for rule in self.rules for fact in (*rule.when, *rule.need)}
        unknown = [fact for fact in spoken_of if EMPTY_FACTS[fact] is None and fact not in self.defaults]
        object.__setattr__(self, "open_facts", tuple((fact, INPUT_OF.get(fact)) for fact in sorted(unknown)))
        object.__setattr__(self, "_unsaid", {**EMPTY_FACTS, "reference": False, **self.defaults})
        own = [rule for rule in self.rules if "model" not in rule.when or rule.when["model"].holds(self.model)]
        object.__setattr__(self, "unsure", compile_filter(own))
        object.__setattr__(self, "imply_action", compile_choice(self.implied_actions))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), tuple(getattr(self, each.name) for each in fields(self) if each.init)

    def with_defaults(self, said: dict[str, Any], implied: Mapping[str, Any]) -> Facts:
        """The facts of a payload: what its model implies, what it says, and else the default."""
        facts: Any = self._unsaid | said
        if implied:
            facts |= implied
        facts["model"] = self.model
        known: Facts = facts
        return known

    def unknown(
        self,
        facts: Mapping[str, Any],
        said: Mapping[str, str],
        media: Sequence[tuple[Medium, MediaFacts]],
        priced: Container[str],
    ) -> tuple[str, ...]:
        """The open facts that are not known and can change a price.

        Of an input that is not said there is nothing to know.
        """
        unknown: tuple[str, ...] = ()
        for fact, source in self.open_facts:
            if facts[fact] is None and fact in priced:
                is_said = source is None or source in said
                if is_said or (media and source in [f"{medium.kind}s" for medium, _ in media]):
                    unknown = (*unknown, fact)
        return unknown

    def completions(
        self, facts: Mapping[str, Any], unknown: tuple[str, ...], possible: Mapping[str, tuple[Any, ...]]
    ) -> tuple[Mapping[str, Any], ...]:
        """Fills in unknown facts, in each way that the API could accept.

        A fact is tried at the values it is known to be one of (`possible`), else at the turning points of
        every rule that speaks of it; between two of them the price does not turn.
        """
        values = [possible.get(fact) or self._turning_points(fact) for fact in unknown]
        return tuple(each for each in fillings(facts, unknown, values) if self.allows(each))

    def _turning_points(self, fact: str) -> tuple[Any, ...]:
        if FACT_TYPES[fact] is bool:
            return (False, True)
        edges = (rule.need[fact].edges() for rule in self.rules if fact in rule.need)
        return tuple(dict.fromkeys(chain.from_iterable(edges)))

    def allows(self, facts: Mapping[str, Any]) -> bool:
        """Whether no rule is surely broken."""
        return not any(
            hold(rule.when, facts) and hold(rule.need, facts) is False
            for rule in self.unsure(facts)
            if not rule.warning
        )

    def limit(self, fact: str, facts: Mapping[str, Any] | None = None) -> Condition | None:
        """The condition a fact must meet; None when there is none.

        Without `facts` it is one that holds whatever the rest of the request says, with them also one that
        holds for these.
        """
        limits = (
            rule.need[fact]
            for rule in self.rules
            if fact in rule.need
            and not rule.warning
            and (not rule.when or (facts is not None and hold(rule.when, facts)))
        )
        return next(limits, None)


@dataclass(frozen=True)
class CapabilityMatrix:
    """What one wire format accepts.

    Attributes:
        wire_format: its name, which is also the file's.
        models: canonical name -> what is accepted for it.
        names: every model name of this wire -> canonical name, and the facts that the name implies.
        sources: where the matrix was published, for people.
        submissions: where its payloads are sent.
        http: what the API does over HTTP beside reading them.
    """

    wire_format: str
    models: Mapping[str, ModelCapabilities]
    names: Mapping[str, tuple[str, Mapping[str, Any]]]
    sources: tuple[str, ...]
    submissions: tuple[Submission, ...] = ()
    http: HttpRules = field(default_factory=HttpRules)


def fillings(
    facts: Mapping[str, Any], names: Sequence[str], values: Sequence[tuple[Any, ...]]
) -> tuple[Mapping[str, Any], ...]:
    """The facts with some of them filled in, in every combination of their values."""
    return tuple({**facts, **dict(zip(names, each, strict=True))} for each in product(*values))


def violations(matrix: CapabilityMatrix, request: VideoRequest) -> list[Violation]:
    """Every reason why the API would refuse the request; empty when it would accept it."""
    return examine(matrix, request)[0]


def examine(matrix: CapabilityMatrix, request: VideoRequest) -> tuple[list[Violation], list[Note]]:
    """Holds a request against every rule of its model.

    Returns:
        All violations; and notes for warnings and for limits that could not be checked because a fact (a
        reference video's length, say) is not known.
    """
    capabilities = matrix.models[request.facts["model"]]
    notes: list[Note] = []
    said = request.stated_fields
    broken: list[Violation] = []
    for name in capabilities.required:
        if name not in said:
            broken.append(_missing(capabilities, request, name))  # noqa: PERF401 (half the time when nothing is)
    if not capabilities.fields.issuperset(said):
        broken.extend(_untaken(capabilities, request))
    if unsure := capabilities.unsure(request.facts):
        blamed = {violation.field for violation in broken}
        for rule in unsure:
            verdict = _judge(rule, request)
            if isinstance(verdict, Violation):
                if verdict.field not in blamed:
                    broken.append(verdict)
            elif verdict is not None:
                notes.append(verdict)
    if request.media:
        for limit in capabilities.media:
            _hold_media(limit, request, broken, notes)
    if request.endpoint is not None:
        broken.extend(_sent_elsewhere(matrix, request, request.endpoint))
    return broken, notes


def _sent_elsewhere(matrix: CapabilityMatrix, request: VideoRequest, endpoint: Endpoint) -> Iterator[Violation]:
    """The violation of a request that is posted to where something else is made."""
    submission = endpoint.submission(request.wire_format)
    action = request.facts["action"]
    if submission is None or not submission.actions or action in submission.actions:
        return
    made = " or ".join(submission.actions)
    places = ", ".join(each.path for each in matrix.submissions if action in each.actions)
    decisive = "this is" if request.implied_by is None else f"{request.field(request.implied_by)} makes this"
    remedy = f"post it to {places}, or change its inputs" if places else "change its inputs"
    message = f"{decisive} a {shown(action)} request, but {submission.path} makes {made}; {remedy}"
    yield Violation(
        "endpoint_action", "url", submission.path, list(submission.actions), message, submission.source
    )


def _untaken(capabilities: ModelCapabilities, request: VideoRequest) -> Iterator[Violation]:
    taken = [request.field(name) for name in sorted(capabilities.fields)]
    for name, wire_field in request.stated_fields.items():
        if name not in capabilities.fields:
            yield Violation(
                code="field_not_taken",
                field=wire_field,
                value=request.facts.get(name),
                allowed=taken,
                message=f"{request.model} does not take {wire_field}; leave it out",
                source=capabilities.source,
            )


def _missing(capabilities: ModelCapabilities, request: VideoRequest, name: str) -> Violation:
    return Violation(
        code=f"{name}_required",
        field=request.field(name),
        value=None,
        allowed=None,
        message=f"{request.field(name)} is required; add it",
        source=capabilities.source,
    )


def _judge(rule: Rule, request: VideoRequest) -> Violation | Note | None:
    """What comes of a rule that is not surely kept; every reading of a payload must keep it."""
    found = None
    for facts in request.readings or (request.facts,):
        verdict = _verdict(rule, request, facts)
        if isinstance(verdict, Violation):
            return verdict
        found = found or verdict
    return found


def _verdict(rule: Rule, request: VideoRequest, facts: Mapping[str, Any]) -> Violation | Note | None:
    if hold(rule.need, facts):  # a reading can settle what was open
        return None
    applies = hold(rule.when, facts)
    broken = [fact for fact, condition in rule.need.items() if condition.holds(facts[fact]) is False]
    if rule.warning:
        return Note(rule.code, rule.message) if applies and broken else None
    if applies and broken:
        return _violation(rule, request, broken[0], facts)
    if applies is False or _is_the_apis_choice(rule, request, facts, surely=applies is True):
        return None
    return Note("not_checked", f"{_sentence(rule, request)}: not checked, because a fact it needs is not known")


def _is_the_apis_choice(rule: Rule, request: VideoRequest, facts: Mapping[str, Any], *, surely: bool) -> bool:
    """Whether a rule hangs on nothing but inputs that the caller leaves to the API, which will keep it.

    What the caller did say can make a choice impossible; where that is sure, it deserves a note.
    """
    if surely and rule.when:
        return False
    unknown = [fact for fact in (*rule.when, *rule.need) if facts[fact] is None]
    return not any(INPUT_OF.get(fact, fact) in request.stated_fields for fact in unknown)


def _violation(rule: Rule, request: VideoRequest, fact: str, facts: Mapping[str, Any]) -> Violation:
    value, wire_field = facts[fact], request.field(fact)
    message = rule.message or f"{_sentence(rule, request)}, not {shown(value)}"
    if fact == "action" and request.implied_by is not None:
        wire_field = request.field(request.implied_by)
        message = f"{wire_field} makes this a {shown(value)} request; {message}"
    return Violation(rule.code, wire_field, reportable(value), rule.need[fact].allowed(), message, rule.source)


def _sentence(rule: Rule, request: VideoRequest) -> str:
    if rule.message:
        return rule.message
    needed = " and ".join(
        f"{request.field(fact)} must be {condition.describe()}{_measure(fact)}"
        for fact, condition in rule.need.items()
    )
    given = " and ".join(
        f"{request.field(fact)} is {condition.describe()}" for fact, condition in rule.when.items()
    )
    return f"{needed} for {request.model}" + (f" when {given}" if given else "")


def _measure(fact: str) -> str:
    """What a fact counts, where its field does not say so."""
    return " characters long" if fact.endswith("_chars") else ""


def _hold_media(limit: MediaLimit, request: VideoRequest, broken: list[Violation], notes: list[Note]) -> None:
    unknown: dict[str, list[str]] = {}
    for medium, facts in request.media:
        if medium.kind != limit.kind:
            continue
        missing = []
        for name, condition in limit.limits.items():
            value = getattr(facts, name)
            if value is None:
                missing.append(f"{name} ({condition.describe()})")
            elif not condition.holds(value):
                broken.append(_media_violation(limit, name, medium, facts))
        if missing:
            unknown.setdefault(", ".join(missing), []).append(medium.field)
    for what, places in unknown.items():
        where = ", ".join(places)
        notes.append(Note(f"{limit.kind}_not_checked", f"not known and so not checked of {where}: {what}"))


def _media_violation(limit: MediaLimit, name: str, medium: Medium, facts: MediaFacts) -> Violation:
    value, condition = getattr(facts, name), limit.limits[name]
    return Violation(
        code=f"{limit.kind}_{name}_limit",
        field=medium.field,
        value=value,
        allowed=condition.allowed(),
        message=f"{name} of {medium.field} must be {condition.describe()}, not {value}",
        source=limit.source,
    )
