"""Wire format `openai_videos`: `POST /v1/videos` as JSON or as the form that OpenAI's SDK sends (seed 003).

A form (see `forms`) is a flat mapping of text: `metadata[output_config][duration]` in place of nested objects.
The seed does not name the keys of the last frame and of the reference video: the obvious ones are read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from math import gcd
from typing import Any, TypeAlias

from kling_pricing.errors import WireFormatError
from kling_pricing.wire.facts import add_prompt_facts
from kling_pricing.wire.fields import Field, Problems, not_empty, one_of, wrong
from kling_pricing.wire.media import Medium
from kling_pricing.wire.reader import PayloadReader, Read
from kling_pricing.wire.request import ParsedPayload
from kling_pricing.wire.task import Task, text

_NAME = "openai_videos"

Path: TypeAlias = tuple[str, ...]

_WHOLE = re.compile(r"[0-9]{1,9}")
_SIZE = re.compile(r"([1-9][0-9]{0,5})([xX])([1-9][0-9]{0,5})")
_HEIGHT = re.compile(r"([1-9][0-9]{0,5})p")
_FORM_KEY = re.compile(r"([^\[\]]+)((?:\[[^\[\]]*\])*)")
_PART = re.compile(r"\[([^\[\]]*)\]")
_BILLING_SPEC = re.compile(
    r"(?:(?:^|-)(?P<action>motion(?=-(?:std|pro))|avatar|identify-face))?"
    r"(?:(?<=motion)-(?P<motion_level>std|pro))?"
    r"(?:(?:^|-)(?P<resolution>[0-9]+[pk]))?"
    r"(?:(?:^|-)(?P<reference>ref|noref))?(?:(?:^|-)(?P<audio>audio|mute))?$"
)


def _seconds(value: Any, path: str, problems: Problems) -> None:
    """Checks a length: a whole number, or one as text, which is how OpenAI's SDK writes it."""
    if type(value) is not int and not (isinstance(value, str) and _WHOLE.fullmatch(value)):
        problems.append(wrong(path, "a whole number, or one as text", value))


def _size(value: str, path: str, problems: Problems) -> None:
    if not _SIZE.fullmatch(value):
        problems.append(wrong(path, "width x height such as 720x1280", value))


def _enabled(value: str, path: str, problems: Problems) -> None:
    if value.lower() not in _AUDIO:
        problems.append(wrong(path, "Enabled or Disabled", value))


def _address(picture: Mapping[str, Any]) -> str:
    stated = (picture.get(name) for name in ("image_url", "file_id"))
    return next((each for each in stated if isinstance(each, str) and each), "")


def _picture(value: Any, path: str, problems: Problems) -> None:
    """Checks a picture: its address or file name, or an object that has the address or a file's ID."""
    if isinstance(value, Mapping):
        if not _address(value):
            problems.append(wrong(f"{path}.image_url", "present", None))
    elif not isinstance(value, str) or not value:
        problems.append(wrong(path, "text that is not empty", value))


def _file_infos(value: Any, path: str, problems: Problems) -> None:
    if not isinstance(value, list | tuple | Mapping):
        problems.append(wrong(path, "a list", value))


_AUDIO = {"enabled": True, "disabled": False}

_OUTPUT_CONFIG: Mapping[str, Field] = {
    "duration": Field("nested_duration", object, _seconds, int),
    "resolution": Field("resolution", str, read=str.lower),
    "aspect_ratio": Field("aspect_ratio", str, stated="aspect_ratio_stated"),
    "audio_generation": Field("audio", str, _enabled, lambda value: _AUDIO[value.lower()]),
}
_METADATA: Mapping[str, Field] = {
    "seconds": Field("duration_s", object, _seconds, int),
    "duration": Field("duration_s", object, _seconds, int),
    "video_duration": Field("duration_s", object, _seconds, int),
    "output_config": Field("output_config", dict, inside=_OUTPUT_CONFIG),
    "scene_type": Field("action", str, one_of("motion_control", "avatar_i2v", "lip_sync", "template_effect")),
    "motion_level": Field("motion_level", str, one_of("std", "pro")),
    "off_peak": Field("off_peak", bool),
    "last_image_url": Field("last_image_url", str, not_empty),
    "last_frame": Field("last_frame", str, not_empty),
    "last_frame_url": Field("last_frame_url", str, not_empty),
    "video_url": Field("video_url", str, not_empty),
    "reference_video": Field("reference_video", str, not_empty),
    "reference_video_url": Field("reference_video_url", str, not_empty),
    "FileInfos": Field("file_infos", object, _file_infos),
    "ExtInfo": Field("ext_info", str),
}
FIELDS: Mapping[str, Field] = {
    "model": Field("model", str),
    "prompt": Field("prompt", str),
    "seconds": Field("duration_s", object, _seconds, int),
    "duration": Field("duration_s", object, _seconds, int),
    "size": Field("size", str, _size),
    "image": Field("image", str, not_empty),
    "input_reference": Field("input_reference", object, _picture),
    "metadata": Field("metadata", dict, inside=_METADATA),
}
"""Of the places that say a duration, the one listed first counts."""

_IMAGES = ("image", "input_reference")
_LAST_FRAMES = ("last_image_url", "last_frame", "last_frame_url")
_VIDEOS = ("video_url", "reference_video", "reference_video_url")
_PASSED_THROUGH = ("file_infos", "ext_info")
_MATERIAL = frozenset((*_IMAGES, *_LAST_FRAMES, *_VIDEOS, *_PASSED_THROUGH))
_SPECIAL = {"nested_duration", "size", *_MATERIAL}


def _flat(fields: Mapping[str, Field], group: Path = ()) -> Iterator[tuple[Path, Field]]:
    """Every field with its path, those inside another behind it."""
    for name, field in fields.items():
        yield (*group, name), field._replace(inside={})
        yield from _flat(field.inside, (*group, name))


_LEAVES: Mapping[Path, Field] = dict(_flat(FIELDS))
_GROUPS = {("metadata",), ("metadata", "output_config")}

_PATH_OF = {field.name: path for path, field in _LEAVES.items()}
_NESTED_DURATION = _PATH_OF["nested_duration"]
_DURATIONS = (*(path for path, field in _LEAVES.items() if field.name == "duration_s"), _NESTED_DURATION)


def _dotted(path: Path) -> str:
    return ".".join(path)


def _bracketed(path: Path) -> str:
    return path[0] + "".join(f"[{part}]" for part in path[1:])


class _BodyReader(PayloadReader):
    """Reads JSON; what is wrong with it is told in paths."""

    def read_each(self, payload: Mapping[str, Any], *, allow_unknown: bool) -> Read:
        flat = {_dotted(path): value for path, value in _leaves(payload)}
        return _dotted_reader.read_each(flat, allow_unknown=allow_unknown)


def _reader(path_text: Callable[[Path], str]) -> PayloadReader:
    """Reads the leaves of a payload by their paths."""
    return PayloadReader({path_text(path): field for path, field in _LEAVES.items()}, _NAME, special=_SPECIAL)


_read_json = _BodyReader(FIELDS, _NAME, special=_SPECIAL).read
_dotted_reader = _reader(_dotted)
_read_form = _reader(_bracketed).read
_DURATION_PLACES = tuple(path_text(path) for path_text in (_dotted, _bracketed) for path in _DURATIONS)

FIELD_NAMES: Mapping[str, str] = {
    "model": "model",
    "prompt": "prompt",
    "duration_s": "duration",
    "images": "image",
    **{
        name: _dotted(_PATH_OF[name])
        for name in ("resolution", "aspect_ratio", "audio", "action", "motion_level", "off_peak")
    },
    "last_frame": _dotted(_PATH_OF["last_image_url"]),
    "videos": _dotted(_PATH_OF["video_url"]),
    "passthrough": _dotted(_PATH_OF["file_infos"]),
}


def _is_form(payload: Mapping[str, Any]) -> bool:
    """Whether a payload is flat text with at least one bracketed name."""
    bracketed = False
    entries: Iterable[tuple[Any, Any]] = payload.items()
    for key, value in entries:
        if not (isinstance(key, str) and isinstance(value, str)):
            return False
        bracketed = bracketed or "[" in key
    return bracketed


def _unflattened(form: Mapping[str, str]) -> dict[str, Any]:
    """The nested payload that a form writes out flat."""
    tree: dict[str, Any] = {}
    for key, value in form.items():
        match = _FORM_KEY.fullmatch(key)
        *groups, last = (match[1], *_PART.findall(match[2])) if match else (key,)
        node: Any = tree
        for group in groups:
            node = node.setdefault(group, {}) if isinstance(node, dict) else None
        if not isinstance(node, dict) or last in node:
            raise WireFormatError(f"{key!r} is given twice; keep one of them", wire_format=_NAME, field=key)
        node[last] = value
    metadata = tree.get("metadata")
    if isinstance(metadata, dict):
        off_peak = metadata.get("off_peak")
        metadata["off_peak"] = off_peak == "true" if off_peak in ("true", "false") else off_peak
    return tree


def _leaves(tree: Mapping[Any, Any], group: Path = ()) -> list[tuple[Path, Any]]:
    """Every value with its path; what a field holds that is no group of fields is one value."""
    leaves: list[tuple[Path, Any]] = []
    for name, value in tree.items():
        path = (*group, name)
        if path in _GROUPS and isinstance(value, Mapping):
            leaves += _leaves(value, path)
        elif path in _LEAVES or (isinstance(name, str) and name.isidentifier()):
            leaves.append((path, value))
        else:  # quoted, so that no name can pass for the path of another
            leaves.append(((*group, repr(name)), value))
    return leaves


def _said_in(payload: Mapping[str, Any]) -> Mapping[Path, Any]:
    return dict(_leaves(_unflattened(payload) if _is_form(payload) else payload))


def parse(payload: Mapping[str, Any], *, allow_unknown: bool = False) -> ParsedPayload:
    """Reads what a payload says, JSON or form; see `WireFormat.parse`."""
    if _is_form(payload):
        flat = {_bracketed(path): value for path, value in _leaves(_unflattened(payload))}
        facts, said, special = _read_form(flat, allow_unknown=allow_unknown)
    else:
        facts, said, special = _read_json(payload, allow_unknown=allow_unknown)
    media, open_ = _take_special(facts, said) if special else ((), None)
    facts.setdefault("reference", False)
    if (prompt := facts.pop("prompt", None)) is not None:
        add_prompt_facts(facts, prompt)
    return ParsedPayload(facts, said, media, open_)


def _take_special(
    facts: dict[str, Any], said: dict[str, str]
) -> tuple[tuple[Medium, ...], Mapping[str, tuple[Any, ...]] | None]:
    """Puts facts in the place of what needs more than reading.

    Returns:
        The files; and the facts that are left open, each with the values that it may have.
    """
    media = () if _MATERIAL.isdisjoint(said) else _take_material(facts, said)
    open_: dict[str, tuple[Any, ...]] = {}
    others = [facts.pop(place) for place in _DURATION_PLACES if place in facts]
    if "nested_duration" in said:
        nested, place = facts.pop("nested_duration"), said.pop("nested_duration")
        if "duration_s" in said:
            others.append(nested)
        else:  # who bills may look only where nothing is said, and take the default
            facts["duration_nested"], said["duration_s"] = True, place
            facts["duration_s"], others = nested, [None]
    if len(values := dict.fromkeys((facts.get("duration_s"), *others))) > 1:
        facts["duration_s"], open_["duration_s"] = None, tuple(values)
    if "size" in said:
        place = said.pop("size")
        for fact, value in _measured(facts.pop("size")).items():
            facts.setdefault(fact, value)
            said.setdefault(fact, place)
            if value != facts[fact]:
                facts[fact], open_[fact] = None, (facts[fact], value)
        facts["aspect_ratio_stated"] = True
    return media, open_ or None


def _measured(size: str) -> dict[str, str]:
    """The resolution and the aspect ratio that a size makes."""
    width, height = (int(side) for side in size.lower().split("x"))
    shared = gcd(width, height)
    return {"resolution": f"{min(width, height)}p", "aspect_ratio": f"{width // shared}:{height // shared}"}


def _take_material(facts: dict[str, Any], said: dict[str, str]) -> tuple[Medium, ...]:
    """Puts the facts of pictures, videos and what is passed through in their place; returns the files."""
    given = {name: (said.pop(name), facts.pop(name)) for name in _MATERIAL.intersection(said)}
    images, last_frames, videos, passed = (
        [given[name] for name in names if name in given]
        for names in (_IMAGES, _LAST_FRAMES, _VIDEOS, _PASSED_THROUGH)
    )
    if images:
        facts["images"] = facts["start_images"] = len(images)
        said["images"], _ = images[0]
    if last_frames:
        facts["last_frame"] = True
        said["last_frame"], _ = last_frames[0]
    if videos:
        facts["videos"] = len({address for _, address in videos})
        said["videos"], _ = videos[0]
    if passed:
        facts["passthrough"] = True
        said["passthrough"], _ = passed[0]
    # Files that are passed through unread may be a reference, too.
    facts["reference"] = True if videos else None if images or last_frames or passed else False
    files = [("image", *each) for each in (*images, *last_frames)] + [("video", *each) for each in videos]
    return tuple(
        Medium(kind, place, value if isinstance(value, str) else _address(value))
        for kind, place, value in files
    )


def amend(payload: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of the payload with other settings, in every place that states them; see `WireFormat.amend`."""
    form = _is_form(payload)
    stated = {path: value for path, value in _said_in(payload).items() if value is not None}
    amended = dict(payload)
    for fact, value in changes.items():
        for path, written in _rewritten(fact, value, stated, form=form):
            _put(amended, path, written, form=form)
    return amended


def _rewritten(fact: str, value: Any, stated: Mapping[Path, Any], *, form: bool) -> Iterator[tuple[Path, Any]]:
    """Each place to change, and what to write there; one place when none states the fact."""
    if fact == "model":
        yield ("model",), value
    elif fact == "duration_s":
        paths = [path for path in _DURATIONS if path in stated]
        if paths in ([], [_NESTED_DURATION]):  # nothing yet where it is sure to count
            paths.append(("duration",))
        for path in paths:
            as_text = isinstance(stated[path], str) if path in stated else form
            yield path, str(value) if as_text else value
    elif fact == "resolution":
        size, place = _PATH_OF["size"], _PATH_OF["resolution"]
        if size in stated:
            yield size, _resized(stated[size], value)
        if place in stated or size not in stated:
            yield place, value.upper() if stated.get(place, "P").isupper() else value
    elif fact == "audio":
        place = _PATH_OF["audio"]
        written = "Enabled" if value else "Disabled"
        old = stated.get(place, written)
        yield place, written.lower() if old.islower() else written.upper() if old.isupper() else written
    else:
        raise WireFormatError(f"{fact} is no setting that can be changed", wire_format=_NAME, field=fact)


def _resized(size: str, resolution: str) -> str:
    """The size with another short side and the same ratio."""
    match, height = _SIZE.fullmatch(size), _HEIGHT.fullmatch(resolution)
    if match and height:
        sides, short = (int(match[1]), int(match[3])), int(height[1])
        if all(side * short % min(sides) == 0 for side in sides):
            width, high = (side * short // min(sides) for side in sides)
            return f"{width}{match[2]}{high}"
    raise WireFormatError(
        f"size {size!r} has no whole-numbered counterpart at {resolution}; change size yourself",
        wire_format=_NAME,
        field="size",
    )


def _put(amended: dict[str, Any], path: Path, value: Any, *, form: bool) -> None:
    if form:
        amended[_bracketed(path)] = value
        return
    node = amended
    for group in path[:-1]:
        node[group] = dict(node.get(group) or {})
        node = node[group]
    node[path[-1]] = value


_STATES = {
    "queued": "queued",
    "pending": "queued",
    "processing": "processing",
    "in_progress": "processing",
    "completed": "succeeded",
    "failed": "failed",
    "cancelled": "cancelled",
}

_SPEC_WORDS: Mapping[str, Any] = {
    "motion": "motion_control",
    "avatar": "avatar_i2v",
    "identify-face": "lip_sync",
    "ref": True,
    "noref": False,
    "audio": True,
    "mute": False,
}


def read_task(body: Mapping[str, Any]) -> Task:
    """Reads a response; a billing spec in `model` (`720p-ref-audio`, at its end or alone) becomes facts."""
    model = text(body.get("model"), "model", _NAME)
    task_id = text(body.get("id"), "id", _NAME) or text(body.get("task_id"), "task_id", _NAME)
    state = _STATES.get(text(body.get("status"), "status", _NAME) or "")
    spec = _BILLING_SPEC.search((model or "").lower())
    told = {fact: word for fact, word in spec.groupdict().items() if word} if spec else {}
    return Task(
        task_id=task_id,
        state=state,
        model=model,
        facts={fact: _SPEC_WORDS.get(word, word) for fact, word in told.items()},
    )
