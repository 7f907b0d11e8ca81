"""Checks a request against a capability matrix: every violation, and a note for each limit left unchecked.

The notes have a function of their own, because a quote writes its notes only when they are read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

from kling_pricing.display import joined_with_and, joined_with_or, reportable, shown
from kling_pricing.findings import Note, Violation
from kling_pricing.tables.capabilities import CapabilityMatrix, MediaLimit, ModelCapabilities, Rule
from kling_pricing.tables.rules import Condition, hold
from kling_pricing.windows import instant
from kling_pricing.wire.endpoints import Endpoint, Submission
from kling_pricing.wire.facts import INPUT_OF
from kling_pricing.wire.media import UNKNOWN, MediaFacts, Medium
from kling_pricing.wire.request import VideoRequest

_COUNTS = frozenset({"elements", "images", "masks", "references", "shots", "start_images", "videos", "voices"})
"""Facts that count the entries of a list."""

_MEDIA_WORDS = {"size_bytes": "size", "type": "type", "length_s": "length"}
_MB = 1 << 20


def violations(matrix: CapabilityMatrix, request: VideoRequest, at: datetime | None = None) -> list[Violation]:
    """Returns every reason for which the API would refuse the request at an instant, by default now."""
    return examine(matrix, request, at)[0]


def examine(
    matrix: CapabilityMatrix, request: VideoRequest, at: datetime | None = None
) -> tuple[list[Violation], list[Rule]]:
    """Returns the violations, and the rules that the request breaks or may break; see `violations`."""
    capabilities = matrix.models[request.facts["model"]]
    stated = request.stated_fields
    broken: list[Violation] = []
    for name in capabilities.required:
        if name not in stated:
            broken.append(_missing(capabilities, request, name))  # noqa: PERF401 (usually there are none)
    if not capabilities.fields.issuperset(stated):
        broken.extend(_not_taken(capabilities, request))
    unsure = capabilities.unsure(request.facts)
    if unsure:
        blamed = {violation.field for violation in broken}
        for rule in _in_force(unsure, instant(at)):
            violation = _violation(rule, request)
            if violation is not None and violation.field not in blamed:
                broken.append(violation)
    if request.media and (known := [pair for pair in request.media if pair[1] is not UNKNOWN]):
        for limit in capabilities.media:
            broken.extend(_media_violations(limit, known))
    if request.endpoint is not None:
        broken.extend(_wrong_endpoint(matrix, request, request.endpoint))
    return broken, unsure


def examination_notes(
    matrix: CapabilityMatrix, request: VideoRequest, at: datetime, unsure: list[Rule] | None
) -> list[Note]:
    """Returns the notes on a request without violations.

    They are warnings, and limits that cannot be checked because a fact is unknown, such as the length of a
    reference video.

    Args:
        matrix: the capability matrix.
        request: the request.
        at: the instant.
        unsure: the rules that the request may break, from `examine`; None: not known.
    """
    facts = request.facts
    capabilities = matrix.models[facts["model"]]
    notes: list[Note] = []
    if unsure is None:
        unsure = capabilities.unsure(facts)
    warnings = capabilities.unsure_warnings(facts)
    if unsure or warnings:
        notes.extend(filter(None, (_note(rule, request) for rule in _in_force([*unsure, *warnings], at))))
    if request.media:
        for limit in capabilities.media:
            notes += _media_notes(limit, request)
    return notes


def _in_force(rules: Iterable[Rule], at: datetime) -> Iterator[Rule]:
    return (rule for rule in rules if not rule.is_dated or rule.is_in_force(at))


def _wrong_endpoint(matrix: CapabilityMatrix, request: VideoRequest, endpoint: Endpoint) -> Iterator[Violation]:
    submission = endpoint.submission(request.wire_format)
    action = request.facts["action"]
    if submission is None:
        return
    if not submission.actions or action in submission.actions:
        yield from _wrong_model(matrix, request, submission)
        return
    accepted = joined_with_or(submission.actions)
    paths = [
        other.path
        for other in matrix.submissions
        if action in other.actions and (request.names_model or other.model == submission.model)
    ]
    because = "" if request.implied_by is None else f"because of {request.field(request.implied_by)}, "
    remedy = f"post it to {joined_with_or(paths)}, or change its inputs" if paths else "change its inputs"
    message = f"{because}this is {_a_request(action)}, but {submission.path} accepts only {accepted}; {remedy}"
    yield Violation(
        "endpoint_action", "url", submission.path, list(submission.actions), message, submission.source
    )


def _wrong_model(
    matrix: CapabilityMatrix, request: VideoRequest, submission: Submission
) -> Iterator[Violation]:
    model = request.facts["model"]
    if not submission.models or request.model in submission.models:
        return
    if model in {matrix.names[name][0] for name in submission.models}:  # the name is in another case
        return
    names = matrix.models[model].names
    others = [other.path for other in matrix.submissions if not set(other.models).isdisjoint(names)]
    elsewhere = f"post the request to {joined_with_or(others)}, or " if others else ""
    message = (
        f"{submission.path} does not accept {request.model}; {elsewhere}"
        f"use one of the models that this path accepts: {', '.join(submission.models)}"
    )
    field = request.field("model")
    yield Violation("endpoint_model", field, request.model, list(submission.models), message, submission.source)


def _not_taken(capabilities: ModelCapabilities, request: VideoRequest) -> Iterator[Violation]:
    accepted = [request.field(name) for name in sorted(capabilities.fields)]
    for name, wire_field in request.stated_fields.items():
        if name not in capabilities.fields:
            yield Violation(
                code="field_not_taken",
                field=wire_field,
                value=request.facts.get(name),
                allowed=accepted,
                message=f"{request.model} does not accept {wire_field}; leave it out",
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


def _readings(request: VideoRequest) -> tuple[Mapping[str, Any], ...]:
    """Returns the facts in every reading of the payload; several if it is ambiguous."""
    return request.readings or (request.facts,)


def _broken_fact(rule: Rule, facts: Mapping[str, Any]) -> str | None:
    """Returns the first fact that certainly breaks a rule that certainly applies; None if there is none."""
    if not hold(rule.when, facts):
        return None
    broken = (fact for fact, condition in rule.need.items() if condition.holds(facts[fact]) is False)
    return next(broken, None)


def _violation(rule: Rule, request: VideoRequest) -> Violation | None:
    for facts in _readings(request):
        fact = _broken_fact(rule, facts)
        if fact is not None:
            return _rule_violation(rule, request, fact, facts)
    return None


def _note(rule: Rule, request: VideoRequest) -> Note | None:
    notes = (_note_on_reading(rule, request, facts) for facts in _readings(request))
    return next(filter(None, notes), None)


def _note_on_reading(rule: Rule, request: VideoRequest, facts: Mapping[str, Any]) -> Note | None:
    if rule.warning:
        return None if _broken_fact(rule, facts) is None else Note(rule.code, rule.message)
    if hold(rule.need, facts):  # a reading may fill in a fact that was unknown
        return None
    applies = hold(rule.when, facts)
    if applies is False:
        return None
    unknown = [name for name in (*rule.when, *rule.need) if facts[name] is None]
    stated = [name for name in unknown if INPUT_OF.get(name, name) in request.stated_fields]
    if not stated and not (applies and rule.when):
        return None  # only inputs are unknown that the caller leaves to the API, which will obey its own rule
    inputs = " and ".join(dict.fromkeys(request.field(name) for name in stated or unknown))
    return Note(
        "not_checked",
        f"some facts about {inputs} are unknown, so this rule was not checked: {_sentence(rule, request)}",
    )


def _rule_violation(rule: Rule, request: VideoRequest, fact: str, facts: Mapping[str, Any]) -> Violation:
    value, wire_field = facts[fact], request.field(fact)
    message = rule.message or f"{_sentence(rule, request)}, not {shown(value)}"
    message += request.assumption
    if fact == "action" and request.implied_by is not None:
        wire_field = request.field(request.implied_by)
        message = f"because of {wire_field}, this is {_a_request(value)}; {message}"
    return Violation(rule.code, wire_field, reportable(value), rule.need[fact].allowed(), message, rule.source)


def _a_request(action: str | None) -> str:
    """Names a kind of request with its article: `an image2video request`."""
    name = shown(action)
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name} request"


def _sentence(rule: Rule, request: VideoRequest) -> str:
    if rule.message:
        return rule.message
    requirements = " and ".join(_requirement(request, fact, needed) for fact, needed in rule.need.items())
    circumstances = " and ".join(
        _circumstance(request, fact, given)
        for fact, given in rule.when.items()
        if fact.removesuffix("_stated") not in rule.need
    )
    return f"{requirements} for {request.model}" + (f" when {circumstances}" if circumstances else "")


def _requirement(request: VideoRequest, fact: str, condition: Condition) -> str:
    if fact in _COUNTS:
        return f"{request.field(fact)} must have {_entries(condition)}"
    unit = " characters long" if fact.endswith("_chars") else " seconds" if fact.endswith("_s") else ""
    return f"{request.field(fact)} must be {condition.describe()}{unit}"


def _circumstance(request: VideoRequest, fact: str, condition: Condition) -> str:
    if fact in _COUNTS:
        return f"{request.field(fact)} has {_entries(condition)}"
    if fact.endswith("_stated"):
        return f"{request.field(fact)} is {'given' if True in condition.allowed() else 'absent'}"
    return f"{request.field(fact)} is {condition.describe()}"


def _entries(condition: Condition) -> str:
    number = condition.describe()
    return f"{number} {'entry' if number in {'1', 'at least 1', 'at most 1'} else 'entries'}"


def _media_violations(limit: MediaLimit, media: Iterable[tuple[Medium, MediaFacts]]) -> Iterator[Violation]:
    for medium, facts in media:
        if medium.kind == limit.kind:
            for name, condition in limit.limits.items():
                value = getattr(facts, name)
                if value is not None and not condition.holds(value):
                    yield _media_violation(limit, name, medium, facts)


def _media_notes(limit: MediaLimit, request: VideoRequest) -> Iterator[Note]:
    """Yields a note for each group of files with the same unknown facts."""
    unchecked: dict[tuple[str, ...], list[str]] = {}
    for medium, facts in request.media:
        if medium.kind == limit.kind:
            unknown = tuple([name for name in limit.limits if getattr(facts, name) is None])
            if unknown:
                unchecked.setdefault(unknown, []).append(medium.field)
    for names, places in unchecked.items():
        text = limit.unchecked.get(names)
        if text is None:
            text = limit.unchecked[names] = _not_checked(limit, names)
        yield Note(f"{limit.kind}_not_checked", f"{', '.join(places)}: {text}")


def _not_checked(limit: MediaLimit, names: tuple[str, ...]) -> str:
    words = joined_with_and([_MEDIA_WORDS[name] for name in names])
    limits = "; ".join(_media_range(name, limit.limits[name]) for name in names)
    noun, verb = ("limits", "are") if len(names) > 1 else ("limit", "is")
    return f"{words} {verb} unknown, so the {noun} ({limits}) {verb} not checked; pass the {words} with `media`"


def _media_violation(limit: MediaLimit, name: str, medium: Medium, facts: MediaFacts) -> Violation:
    value, condition = getattr(facts, name), limit.limits[name]
    allowed = condition.allowed()
    bound = (
        f"at most {_media_range(name, condition)}" if [*allowed] == ["max"] else _media_range(name, condition)
    )
    return Violation(
        code=f"{limit.kind}_{name}_limit",
        field=medium.field,
        value=value,
        allowed=allowed,
        message=f"{medium.field}: {_MEDIA_WORDS[name]} must be {bound}, not {_measured(name, value)}",
        source=limit.source,
    )


def _media_range(name: str, condition: Condition) -> str:
    """Describes the allowed values in people's units; a maximum alone is only the number: `30 MB`."""
    allowed = condition.allowed()
    if not isinstance(allowed, dict):
        return condition.describe()
    if "min" not in allowed:
        return _measured(name, allowed["max"])
    if "max" not in allowed:
        return f"at least {_measured(name, allowed['min'])}"
    if name == "length_s":
        return f"{condition.describe()} seconds"
    return f"{_measured(name, allowed['min'])} to {_measured(name, allowed['max'])}"


def _measured(name: str, value: Any) -> str:
    """Formats a media fact with its unit."""
    if name == "size_bytes":
        whole, rest = divmod(value, _MB)
        return f"{whole} MB" if whole and not rest else f"{value} bytes"
    if name == "length_s":
        return f"{value} second" if value == 1 else f"{value} seconds"
    return str(value)
