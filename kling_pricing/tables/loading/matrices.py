"""Loads capability matrices: from a file to what its API accepts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.resources.abc import Traversable
from typing import Any

from kling_pricing.display import did_you_mean
from kling_pricing.strict_yaml import Path, YamlDocument, read
from kling_pricing.tables.capabilities import (
    CapabilityMatrix,
    ImpliedAction,
    MediaLimit,
    ModelCapabilities,
    Rule,
)
from kling_pricing.tables.loading.files import CapabilityFile, MediaEntry, ModelEntry, RuleEntry, WarningEntry
from kling_pricing.tables.loading.folders import file_bytes
from kling_pricing.tables.loading.parts import http_rules
from kling_pricing.tables.rules import Choice, OneOf
from kling_pricing.wire.endpoints import Submission
from kling_pricing.wire.formats import NAMES as WIRE_FORMATS
from kling_pricing.wire.formats import wire_format

_CODES_OF_OUR_OWN = frozenset(
    {"field_not_taken", "endpoint_action", "unknown_field", "wrong_type", "unknown_model", "not_checked"}
)


def load_matrix(file: Traversable, name: str) -> CapabilityMatrix:
    """The matrix of a file; `name` is the file's, for messages.

    Raises:
        TableError: the file is refused.
    """
    entry, document = read(file_bytes(file, name), CapabilityFile, name=name)
    if entry.wire_format != file.name.removesuffix(".yaml"):
        problem = f"the file's name says {file.name.removesuffix('.yaml')!r}; make them the same"
        raise document.error(("wire_format",), problem)
    _check_vocabulary(entry, document)
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
                problem = f"{written!r} already names {names[written][0]}; a name means one model"
                raise document.error(path, problem)
            names[written] = (model, implied[written])
        models[model] = _model_capabilities(model, model_entry, entry, document)
    return CapabilityMatrix(
        entry.wire_format,
        models,
        names,
        tuple(source.ref for source in entry.sources),
        tuple(
            Submission(
                each.path, entry.wire_format, tuple(each.actions or ()), each.source, each.status, each.cancel
            )
            for each in entry.endpoints
        ),
        http_rules(entry.http),
    )


def _check_vocabulary(entry: CapabilityFile, document: YamlDocument) -> None:
    """Holds a matrix's words against those that its wire format can say, and its parts against each other."""
    if entry.wire_format not in WIRE_FORMATS:
        problem = f"no wire format of that name is known; known: {', '.join(WIRE_FORMATS)}"
        raise document.error(("wire_format",), problem)
    inputs = wire_format(entry.wire_format).FIELD_NAMES
    actions = {action for model in entry.models.values() for action in model.actions}

    def known(word: str, words: Iterable[str], path: Path) -> None:
        if word not in words:
            raise document.error(path, f"{word!r} is unknown; {did_you_mean(word, sorted(words))}")

    paths: set[str] = set()
    for place, endpoint in enumerate(entry.endpoints):
        if endpoint.path in paths:
            raise document.error(("endpoints", place, "path"), "is listed twice; keep one entry")
        paths.add(endpoint.path)
        for position, action in enumerate(endpoint.actions or ()):
            known(action, actions, ("endpoints", place, "actions", position))
    if entry.http.own_id is not None:
        known(entry.http.own_id.field, wire_format(entry.wire_format).FIELDS, ("http", "own_id", "field"))
    for place, name in enumerate(entry.required):
        known(name, inputs, ("required", place))
    for place, implied in enumerate(entry.implied_actions):
        known(implied.action, actions, ("implied_actions", place, "action"))
    for model, each in entry.models.items():
        for place, name in enumerate(each.fields):
            known(name, inputs, ("models", model, "fields", place))
        if "action" in each.limits:
            raise document.error(("models", model, "limits", "action"), "is said by `actions`; remove it")
        if "resolution" in each.fields and not isinstance(each.limits.get("resolution"), OneOf):
            problem = "the model takes a resolution; list those it takes, as resolution: [720p]"
            raise document.error(("models", model, "limits"), problem)


def _model_capabilities(
    model: str, entry: ModelEntry, file: CapabilityFile, document: YamlDocument
) -> ModelCapabilities:
    limits = {"action": OneOf(tuple(entry.actions))} | entry.limits
    rules = [Rule(f"{fact}_limit", {}, {fact: limit}, entry.source) for fact, limit in limits.items()]
    for level in (file, entry):
        rules += [_rule(rule) for rule in level.rules]
        rules += [_rule(warning) for warning in level.warnings]
    seen: set[str] = set(_CODES_OF_OUR_OWN)
    for rule in rules:
        if rule.code in seen:
            raise document.error(
                ("models", model), f"the code {rule.code!r} is used twice for this model; rename one"
            )
        seen.add(rule.code)
    implied = [
        Choice(ImpliedAction(each.action, next(iter(each.when), "action")), each.when)
        for each in file.implied_actions
    ]
    return ModelCapabilities(
        model=model,
        names=tuple(entry.names),
        fields=frozenset(entry.fields),
        required=tuple(file.required if entry.required is None else entry.required),
        defaults=file.defaults | entry.defaults,
        rules=tuple(rules),
        implied_actions=tuple(implied),
        media=tuple(_media_limit(each) for each in (*file.media, *entry.media)),
        source=entry.source,
    )


def _rule(entry: RuleEntry | WarningEntry) -> Rule:
    warning = isinstance(entry, WarningEntry)
    return Rule(entry.code, entry.when, entry.need, entry.source, entry.message or "", warning=warning)


def _media_limit(entry: MediaEntry) -> MediaLimit:
    return MediaLimit(entry.kind, entry.limits, entry.source)
