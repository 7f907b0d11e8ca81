"""Loads capability matrices from their files."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any

from kling_pricing.display import did_you_mean
from kling_pricing.errors import TableError, TableProblems
from kling_pricing.strict_yaml import Path, YamlDocument, read
from kling_pricing.tables.capabilities import (
    CapabilityMatrix,
    IgnoredField,
    ImpliedAction,
    MediaLimit,
    ModelCapabilities,
    Rule,
)
from kling_pricing.tables.loading.capability_file import (
    CapabilityFile,
    MediaEntry,
    ModelEntry,
    RuleEntry,
    WarningEntry,
)
from kling_pricing.tables.loading.folders import TableFile
from kling_pricing.tables.loading.parts import http_rules
from kling_pricing.tables.rules import Choice, Conditions, OneOf
from kling_pricing.wire.endpoints import Submission
from kling_pricing.wire.fields import Field
from kling_pricing.wire.formats import NAMES as WIRE_FORMATS
from kling_pricing.wire.formats import wire_format

_RESERVED_CODES = frozenset(
    {
        "field_not_taken",
        "endpoint_action",
        "endpoint_model",
        "unknown_field",
        "wrong_type",
        "unknown_model",
        "not_checked",
    }
)


def load_matrix(file: TableFile) -> CapabilityMatrix:
    """Loads the matrix in a file.

    Raises:
        TableError: the file is refused or cannot be read; `others` has the file's other problems.
    """
    entry, document = read(file.data, CapabilityFile, name=file.name)
    if entry.wire_format != file.stem:
        problem = f"differs from the file's name {file.stem!r}; make them the same"
        raise document.error(("wire_format",), problem)
    if entry.wire_format not in WIRE_FORMATS:
        problem = f"unknown wire format; known wire formats: {', '.join(WIRE_FORMATS)}"
        raise document.error(("wire_format",), problem)
    problems = TableProblems(_problems_of_vocabulary(entry, document))
    names: dict[str, tuple[str, Mapping[str, Any]]] = {}
    models = {}
    for model, model_entry in entry.models.items():
        implied = (
            model_entry.names
            if isinstance(model_entry.names, dict)
            else {written: {} for written in model_entry.names}
        )
        for place, written in enumerate(implied):
            if written in names:
                path = ("models", model, "names", place if isinstance(model_entry.names, list) else written)
                problem = f"{written!r} is already a name of {names[written][0]}; remove one of the two"
                problems.append(document.error(path, problem))
            names[written] = (model, implied[written])
        models[model] = _model_capabilities(model, model_entry, entry, document, problems)
    problems.raise_first()
    return CapabilityMatrix(
        entry.wire_format,
        models,
        names,
        tuple(source.ref for source in entry.sources),
        tuple(
            Submission(
                endpoint.path,
                entry.wire_format,
                tuple(endpoint.actions or ()),
                endpoint.source,
                endpoint.status,
                endpoint.cancel,
                tuple(endpoint.other_status),
                endpoint.model,
                tuple(endpoint.models),
            )
            for endpoint in entry.endpoints
        ),
        http_rules(entry.http),
        tuple(IgnoredField(ignored.field, ignored.provider) for ignored in entry.ignored_fields),
        {name.lower(): known.why for known in entry.known_names for name in known.names},
    )


def _problems_of_vocabulary(entry: CapabilityFile, document: YamlDocument) -> Iterator[TableError]:
    """Checks a matrix's names against its wire format, and its parts against each other."""
    wire = wire_format(entry.wire_format)
    inputs, fields = wire.FIELD_NAMES, wire.FIELDS
    actions = {action for model in entry.models.values() for action in model.actions}
    paths: set[str] = set()
    words: list[tuple[str, Collection[str], Path]] = []
    for place, endpoint in enumerate(entry.endpoints):
        if endpoint.path in paths:
            yield document.error(("endpoints", place, "path"), "is listed twice; keep one entry")
        paths.add(endpoint.path)
        for position, action in enumerate(endpoint.actions or ()):
            words.append((action, actions, ("endpoints", place, "actions", position)))
        names = [name for model in entry.models.values() for name in model.names]
        if endpoint.model is not None:
            words.append((endpoint.model, names, ("endpoints", place, "model")))
        for position, name in enumerate(endpoint.models):
            words.append((name, names, ("endpoints", place, "models", position)))
    for place, ignored in enumerate(entry.ignored_fields):
        words.append((ignored.field, fields, ("ignored_fields", place, "field")))
    for key, place_of in (("own_id", entry.http.own_id), ("callback", entry.http.callback)):
        inside: Mapping[str, Field] = fields
        for name in place_of.field.split(".") if place_of else ():
            words.append((name, inside, ("http", key, "field")))
            if name not in inside:
                break
            inside = inside[name].inside
    if entry.http.mcp is not None:
        words.append((entry.http.mcp.submits_to, paths, ("http", "mcp", "submits_to")))
    words += [(name, inputs, ("required", place)) for place, name in enumerate(entry.required)]
    for place, implied in enumerate(entry.implied_actions):
        words.append((implied.action, actions, ("implied_actions", place, "action")))
    for model, capabilities in entry.models.items():
        for place, name in enumerate(capabilities.fields):
            words.append((name, inputs, ("models", model, "fields", place)))
    for word, known, path in words:
        if word not in known:
            yield document.error(path, f"{word!r} is unknown; {did_you_mean(word, sorted(known))}")
    for model, capabilities in entry.models.items():
        if "action" in capabilities.limits:
            problem = "`actions` already lists the actions; remove this limit"
            yield document.error(("models", model, "limits", "action"), problem)
        resolutions = capabilities.limits.get("resolution")
        if "resolution" in capabilities.fields and not isinstance(resolutions, OneOf):
            problem = "the model accepts a resolution; list the allowed values, such as resolution: [720p]"
            yield document.error(("models", model, "limits"), problem)


def _model_capabilities(
    model: str, entry: ModelEntry, file: CapabilityFile, document: YamlDocument, problems: TableProblems
) -> ModelCapabilities:
    limits = {"action": OneOf(tuple(entry.actions))} | entry.limits
    rules = [Rule(f"{fact}_limit", {}, {fact: limit}, entry.source) for fact, limit in limits.items()]
    levels: list[tuple[Path, CapabilityFile | ModelEntry]] = [((), file), (("models", model), entry)]
    for path, level in levels:
        for key in ("rules", "warnings"):
            entries: list[RuleEntry | WarningEntry] = getattr(level, key)
            for place, listed in enumerate(entries):
                if listed.since and listed.until and listed.since >= listed.until:
                    problem = "must be later than since; correct one of the two"
                    problems.append(document.error((*path, key, place, "until"), problem))
                rules.append(_rule(listed))
    seen: set[str] = set(_RESERVED_CODES)
    for rule in rules:
        if rule.code in seen:
            problem = f"the code {rule.code!r} is used twice for this model; rename one of the two"
            problems.append(document.error(("models", model), problem))
        seen.add(rule.code)
    rules = [
        replace(rule, when=_without_model(rule.when))
        for rule in rules
        if "model" not in rule.when or rule.when["model"].holds(model)
    ]
    implied = [
        Choice(ImpliedAction(choice.action, next(iter(choice.when), "action")), _without_model(choice.when))
        for choice in file.implied_actions
        if "model" not in choice.when or choice.when["model"].holds(model)
    ]
    return ModelCapabilities(
        model=model,
        names=tuple(entry.names),
        fields=frozenset(entry.fields),
        required=tuple(file.required if entry.required is None else entry.required),
        defaults=file.defaults | entry.defaults,
        rules=tuple(rules),
        implied_actions=tuple(implied),
        media=tuple(_media_limit(limit) for limit in (*file.media, *entry.media)),
        source=entry.source,
    )


def _without_model(conditions: Conditions) -> Conditions:
    return {fact: condition for fact, condition in conditions.items() if fact != "model"}


def _rule(entry: RuleEntry | WarningEntry) -> Rule:
    return Rule(
        entry.code,
        entry.when,
        entry.need,
        entry.source,
        entry.message or "",
        warning=isinstance(entry, WarningEntry),
        since=entry.since,
        until=entry.until,
    )


def _media_limit(entry: MediaEntry) -> MediaLimit:
    return MediaLimit(entry.kind, entry.limits, entry.source)
