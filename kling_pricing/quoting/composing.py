"""Composes a request from a short description, in the wire format of the chosen provider.

The description says which inputs a request has.
The fields and the capability matrix of the wire format decide where each input is written.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from kling_pricing.display import joined_with_or, shown, with_article
from kling_pricing.errors import CapabilityError, PriceNotFoundError, WireFormatError
from kling_pricing.quoting.engine import quote_payload
from kling_pricing.quoting.format_choice import choose_format
from kling_pricing.quoting.intake import Intake
from kling_pricing.quoting.quote import Quote
from kling_pricing.tables.capabilities import CapabilityMatrix
from kling_pricing.tables.examination import violations
from kling_pricing.tables.price_book import PriceBook
from kling_pricing.wire.fields import Field, Violations
from kling_pricing.wire.formats import NAMES as WIRE_FORMATS
from kling_pricing.wire.formats import WireFormat
from kling_pricing.wire.formats import wire_format as wire_format_named
from kling_pricing.wire.meanings import PLACES, leaf_fields, with_value

_PROMPT = "a prompt"

_FRAME_TYPES = {"first_frame": "first_frame", "last_frame": "end_frame"}
"""Kind of frame -> its `type` in APIs that take frames in a list of images."""

_CONTENT_TYPES = {
    "images": ("refer_image", "image", "first_frame"),
    "first_frame": ("first_frame",),
    "last_frame": ("last_frame",),
    "videos": ("feature_video", "base_video", "video"),
}
"""Kind of file -> its possible types in APIs that list all inputs in `contents`, most usual first."""

_IMAGE_LISTS = ("images", "image_roles")
"""The inputs that can also give frames, if each image states its purpose."""


@dataclass(frozen=True)
class RequestDescription:
    """A request in words that do not depend on the API; None or empty: the request leaves it out.

    Attributes:
        model: the model, as an API names it or as the price tables do; case does not matter.
        settings: setting -> value, for any of `duration_s`, `resolution` and `audio`.
        action: the action that the API must perform.
        orientation: the source of the character's orientation in motion control: `image` or `video`.
        files: kind (`images`, `first_frame`, `last_frame`, `videos`) -> the URLs of these files.
    """

    model: str
    settings: Mapping[str, Any]
    action: str | None
    orientation: str | None
    files: Mapping[str, Sequence[str]]


def quote_description(description: RequestDescription, intake: Intake) -> Quote:
    """Quotes the request that a description stands for; raises as `compose` and `quote` do."""
    name, payload, url = compose(description, intake)
    if intake.url is None and url is not None:
        intake = intake.with_options(url=url)
    is_detected = intake.url is None and choose_format(payload, intake.book, intake.provider)[0] == name
    if not is_detected:  # otherwise, the quote notes that another format could apply
        intake = intake.with_options(wire_format=name)
    return quote_payload(payload, intake)


def compose(description: RequestDescription, intake: Intake) -> tuple[str, dict[str, Any], str | None]:
    """Returns the wire format for a description, the payload, and the URL if its path names the model.

    If there are several ways to write the inputs, the function takes one that gives the described action and
    that the API accepts. If the API accepts none, it takes the one with the fewest violations.

    Raises:
        PriceNotFoundError: the provider is unknown or has no prices.
        WireFormatError: the wire format cannot express the description.
    """
    name = _format_of(description.model, intake)
    intake = intake.with_options(wire_format=name)
    matrices = intake.book.matrices
    if "contents" in wire_format_named(name).FIELDS:
        candidates = [*_with_contents(name, description, intake)]
    else:
        found = _candidates(name, description, matrices[name], matrices)
        candidates = [(payload, intake.url) for payload in found]
    if not candidates:
        kinds = [kind.replace("_", " ") for kind, urls in description.files.items() if urls]
        raise WireFormatError(
            f"wire format {name} cannot combine these inputs: {', '.join(kinds)}; give fewer inputs, or write "
            "the request to a file",
            wire_format=name,
        )
    actions: dict[int, str] = {}
    problems: dict[int, int] = {}
    without_resolution: set[int] = set()
    for number, (payload, url) in enumerate(candidates):
        try:
            request, matrix = intake.with_options(url=url).read(payload)
        except (CapabilityError, WireFormatError):
            continue
        actions[number] = str(request.facts["action"])
        broken = violations(matrix, request, intake.at)
        problems[number] = len(broken)
        if "resolution" not in description.settings and all(
            violation.allowed == [True] and violation.field == request.field("resolution")
            for violation in broken
        ):
            without_resolution |= {number} if broken else set()
    wanted = description.action
    fitting = [number for number in actions if wanted in (None, actions[number])]
    accepted = dict.fromkeys(actions[number] for number in actions if not problems[number])
    is_stated = "action" in wire_format_named(name).FIELD_NAMES  # then the API says what the action lacks
    if accepted and wanted not in (None, *accepted) and not (fitting and is_stated):
        raise WireFormatError(
            f"wire format {name} reads this request as {joined_with_or(accepted)}, not as {wanted}; change the "
            "inputs or the action",
            wire_format=name,
        )
    best = min(fitting or actions or [0], key=lambda number: problems.get(number, 0))
    if best in without_resolution:
        raise WireFormatError(
            f"wire format {name} has no default resolution for this request; give one with `resolution`",
            wire_format=name,
        )
    return name, *candidates[best]


def _format_of(model: str, intake: Intake) -> str:
    """Returns the wire format: the first one that the options allow and that knows the model."""
    book = intake.book
    if intake.wire_format is not None:
        return intake.wire_format
    endpoint = None if intake.url is None else book.endpoint(intake.url)
    if endpoint is not None and endpoint.wire_formats:
        formats: Sequence[str] = endpoint.wire_formats
    elif provider := intake.provider or (endpoint and endpoint.provider):
        table = book.table(provider, intake.at)
        formats = table.wire_formats or table.also_prices
    else:
        default, _ = choose_format({"model": _spelling(model, book)}, book, None)
        formats = (default, *WIRE_FORMATS)
    for elsewhere in ({}, book.matrices):  # the names of other APIs come last
        knowing = (name for name in formats if [*_names(model, book.matrices[name], elsewhere)])
        if (name := next(knowing, None)) is not None:
            return name
    if intake.provider is not None:
        why = book.known_name(book.matrices[formats[0]], model)
        if why is not None:
            raise PriceNotFoundError(
                f"{intake.provider} has no model {model!a}: {why}", provider=intake.provider, model=model
            )
        models = dict.fromkeys(known for name in formats for known in book.matrices[name].models)
        raise PriceNotFoundError(
            f"{intake.provider} has no model {model!a}; use one of: {', '.join(models)}",
            provider=intake.provider,
            model=model,
        )
    return formats[0]


def _spelling(model: str, book: PriceBook) -> str:
    """Returns the model name in the spelling of the API that has it, whatever its case."""
    names = (name for wire_format in WIRE_FORMATS for name in book.matrices[wire_format].names)
    return next((name for name in names if name.lower() == model.lower()), model)


def _names(
    model: str, matrix: CapabilityMatrix, elsewhere: Mapping[str, CapabilityMatrix]
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yields the API's names for a model, each with the facts that the name implies.

    Args:
        model: a name of the API or of the price tables; case does not matter.
        matrix: the capabilities of the API.
        elsewhere: other APIs, whose names for a model count as well if this API does not know the name.
    """
    for name, (_, implied) in matrix.names.items():
        if name.lower() == model.lower():
            yield name, implied
            return
    spelled = {model.lower()}
    if not any(canonical.lower() in spelled for canonical, _ in matrix.names.values()):
        spelled = {
            canonical.lower()
            for other in elsewhere.values()
            for name, (canonical, implied) in other.names.items()
            if name.lower() == model.lower() and not implied
        }
    for name, (canonical, implied) in matrix.names.items():
        if canonical.lower() in spelled:
            yield name, implied


def _candidates(
    wire_format: str,
    description: RequestDescription,
    matrix: CapabilityMatrix,
    elsewhere: Mapping[str, CapabilityMatrix],
) -> Iterator[dict[str, Any]]:
    """Yields every payload that could express the description.

    Raises:
        WireFormatError: the wire format cannot express a setting, or takes no such files.
    """
    wire = wire_format_named(wire_format)
    _refuse_a_model_of_a_path(wire_format, description, matrix, elsewhere)
    if "duration_s" in description.settings and "duration_s" not in wire.FIELD_NAMES:
        raise WireFormatError(
            f"requests for {shown(description.model)} are in wire format {wire_format}, which does not accept "
            "a duration; leave out `duration`",
            wire_format=wire_format,
        )
    kinds = [kind for kind, urls in description.files.items() if urls]
    placements = [_placements(wire, kind, description.files[kind]) for kind in kinds]
    for kind, places in zip(kinds, placements, strict=True):
        if not places:
            count = len(description.files[kind])
            noun = kind.replace("_", " ").removesuffix("s")
            what = with_article(noun) if count == 1 else f"{count} {noun}s"
            raise WireFormatError(
                f"wire format {wire_format} does not accept {what}; leave the input out, or choose another "
                "wire format",
                wire_format=wire_format,
            )
    for payload in _without_files(wire, wire_format, description, matrix, elsewhere):
        for combination in product(*placements):
            if (complete := _with_files(payload, combination)) is not None:
                yield complete


def _refuse_a_model_of_a_path(
    wire_format: str,
    description: RequestDescription,
    matrix: CapabilityMatrix,
    elsewhere: Mapping[str, CapabilityMatrix],
) -> None:
    """Refuses a model that no field of a payload can name, because the path of the URL names it."""
    names = {name for name, _ in _names(description.model, matrix, elsewhere)}
    path = next((entry.path for entry in matrix.submissions if entry.model in names), None)
    models = [matrix.models[matrix.names[name][0]] for name in names]
    if "model" not in wire_format_named(wire_format).FIELD_NAMES or (
        path is not None and all("model" not in model.fields for model in models)
    ):
        subject = "of its endpoint" if path is None else f"whose path is {path}"
        raise WireFormatError(
            f"in wire format {wire_format}, the URL names the model, and the payload does not; write the "
            f"payload to a file, and also give the URL {subject} with `url`",
            wire_format=wire_format,
        )


def _with_contents(
    wire_format: str, description: RequestDescription, intake: Intake
) -> Iterator[tuple[dict[str, Any], str | None]]:
    """Yields the payloads of an API that lists its inputs in `contents`, each with its URL."""
    wire, matrix = wire_format_named(wire_format), intake.book.matrices[wire_format]
    names = {name for name, _ in _names(description.model, matrix, intake.book.matrices)}
    hosts = [host for host, provider in intake.book.hosts.items() if provider == intake.provider]
    host = next(iter(hosts), "example.com")
    urls = [f"https://{host}{entry.path}" for entry in matrix.submissions if entry.model in names]
    if intake.url is not None:
        submission = intake.book.endpoint(intake.url).submission(wire_format)
        if submission is None or submission.model not in names:
            named = "no model" if submission is None else f"{submission.model}, not {shown(description.model)}"
            paths = " or ".join(entry.path for entry in matrix.submissions if entry.model in names)
            remedy = f"use {paths}" if paths else "correct the URL or the model"
            raise WireFormatError(
                f"the path of the URL names {named}; {remedy}, or leave the URL out",
                wire_format=wire_format,
            )
        urls = [intake.url]
    settings = wire.amend({"settings": {}}, dict(description.settings))["settings"]
    if description.orientation is not None:
        settings["character_orientation"] = description.orientation
    for url in urls:
        for types in product(*(_CONTENT_TYPES[kind] for kind in description.files)):
            contents = [
                {"type": entry, "url": address}
                for entry, addresses in zip(types, description.files.values(), strict=True)
                for address in addresses
            ]
            if not contents:
                yield {"prompt": _PROMPT, "settings": settings}, url
            yield {"contents": [{"type": "prompt", "text": _PROMPT}, *contents], "settings": settings}, url


def _without_files(
    wire: WireFormat,
    wire_format: str,
    description: RequestDescription,
    matrix: CapabilityMatrix,
    elsewhere: Mapping[str, CapabilityMatrix],
) -> Iterator[dict[str, Any]]:
    """Yields the payloads for each name of the model, without the action and then with it."""
    names = [*_names(description.model, matrix, elsewhere)] or [(description.model, {})]
    fitting = [
        (name, implied)
        for name, implied in names
        if all(implied.get(setting, value) == value for setting, value in description.settings.items())
    ]
    if not fitting:
        raise WireFormatError(
            f"in wire format {wire_format}, the model's name determines the options, but none of this "
            "model's names has these options; "
            f"use one of: {', '.join(name for name, _ in names)}",
            wire_format=wire_format,
            field=wire.FIELD_NAMES["model"],
        )
    paths = {field.name: path for path, field in leaf_fields(wire.FIELDS)}
    if description.orientation is not None and "orientation" not in paths:
        raise WireFormatError(
            f"wire format {wire_format} does not accept an orientation; leave it out", wire_format=wire_format
        )
    if description.action == "motion_control" and description.orientation is None and "orientation" in paths:
        raise WireFormatError(
            f"in wire format {wire_format}, motion control needs the orientation of the character; set "
            "`orientation` to image or video",
            wire_format=wire_format,
            field=".".join(paths["orientation"]),
        )
    for name, implied in fitting:
        payload = wire.amend({}, {"model": name})
        capabilities = matrix.models.get(matrix.names[name][0]) if name in matrix.names else None
        if "prompt" in wire.FIELDS and (capabilities is None or "prompt" in capabilities.fields):
            payload["prompt"] = _PROMPT
        settings = {key: value for key, value in description.settings.items() if key not in implied}
        payload = wire.amend(payload, settings)
        if description.orientation is not None:
            payload = with_value(payload, paths["orientation"], description.orientation)
        by_video = capabilities is not None and "duration_s" in {*capabilities.required} - {*settings}
        for whole in (payload, wire.amend(payload, {"duration_s": 0})) if by_video else (payload,):
            yield whole  # some APIs want a duration of 0 if the length of a video decides
            if description.action is not None and "action" in paths:
                yield with_value(whole, paths["action"], description.action)


def _placements(
    wire: WireFormat, kind: str, urls: Sequence[str]
) -> list[tuple[tuple[str, ...], str | list[Any]]]:
    """Returns the fields that can give these files, each with its value; most usual first."""
    inputs = (*PLACES[kind], *(_IMAGE_LISTS if kind in _FRAME_TYPES else ()))
    places = []
    for name in dict.fromkeys(inputs):
        for path, field in leaf_fields(wire.FIELDS):
            if field.name == name and field.published:
                is_own = name in PLACES[kind]
                values = (value for value in _values(field, kind, urls, is_own=is_own))
                places += [(path, value) for value in values if _is_accepted(field, value)]
    return places


def _values(field: Field, kind: str, urls: Sequence[str], *, is_own: bool) -> Iterator[str | list[Any]]:
    """Yields the ways to write URLs into a field: as text, a list of text, or a list of objects."""
    if field.kind is str and len(urls) == 1:
        yield urls[0]
    elif field.kind is list:
        if kind in _FRAME_TYPES:
            yield [{"image_url": url, "type": _FRAME_TYPES[kind]} for url in urls]
            yield [{"url": url, "role": kind} for url in urls]
        if is_own:
            yield list(urls)
            for key in ("image_url", "image", "video_url", "subject_image"):
                yield [{key: url} for url in urls]


def _is_accepted(field: Field, value: str | list[Any]) -> bool:
    found = Violations()
    if field.check is not None:
        field.check(value, "", found)
    return not found


def _with_files(
    payload: dict[str, Any], places: Sequence[tuple[tuple[str, ...], str | list[Any]]]
) -> dict[str, Any] | None:
    """Returns the payload with all files; None if two kinds of file would need the same field."""
    values: dict[tuple[str, ...], Any] = {}
    for path, value in places:
        if path not in values:
            values[path] = value
        elif isinstance(value, list) and isinstance(values[path], list):
            values[path] = [*values[path], *value]
        else:
            return None
    for path, value in values.items():
        payload = with_value(payload, path, value)
    return payload
