"""The facts about a request that rules may test, in words that do not depend on the API."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, TypedDict, get_args, get_type_hints

_LISTED_SHOT = re.compile(r"\s*shot\s+[0-9]{1,3}\s*,", re.IGNORECASE)
_IMAGE_MARKER = re.compile(r"<<<image_([0-9]+)>>>")


class Facts(TypedDict):
    """The facts about one request.

    Their names are the vocabulary of every `when`, `need` and `limits` in `pricing_tables/`.
    None means "unknown", which is neither true nor false: a rule that needs an unknown fact gives a note.
    The class is a dict for speed: every request makes one, and rules read it about twenty times.
    """

    model: str
    """Canonical name of the model."""
    action: str | None
    """The action that the API performs, such as `generate`; the inputs may have decided it."""
    resolution: str | None
    """Resolution of the video: `720p`, `1080p` or `4k`."""
    duration_s: int | None
    """Requested length of the video in whole seconds."""
    duration_beside_shots: bool
    """Whether the payload gives a duration as well as the durations of its shots."""
    duration_stated: bool
    """Whether the payload gives a duration."""
    audio: bool | None
    """Whether the API generates a soundtrack."""
    watermark: bool | None
    """Whether the video gets a watermark."""
    aspect_ratio: str | None
    """Aspect ratio of the video, such as `16:9`."""
    aspect_ratio_stated: bool
    """Whether the payload gives an aspect ratio."""
    negative_prompt_chars: int
    """Length of the negative prompt in characters (Unicode code points)."""
    prompt_chars: int
    """Length of the prompt in characters (Unicode code points)."""
    image_markers: int
    """Number of `<<<image_N>>>` markers in the prompt."""
    dangling_image_markers: int
    """Number of those markers whose image is not in the payload."""
    images: int
    """Number of reference images."""
    first_frame: bool
    """Whether the payload gives a first frame."""
    last_frame: bool
    """Whether the payload gives a last frame."""
    start_images: int
    """Number of images that could be the first frame: `images`, plus one for `first_frame`."""
    videos: int
    """Number of reference videos."""
    video_use: str
    """Use of the reference videos: `base` (edited) or `feature`; empty if there are none or it is not given."""
    references: int
    """Number of reference images, including frames, and elements together."""
    video_length_s: Decimal | None
    """Length of the reference video in seconds, if the caller gives it."""
    reference: bool | None
    """Whether the video is billed as made from a reference; unknown if it is made from images only."""
    motion_level: str
    """Level of motion control: `std` or `pro`; empty if not given."""
    off_peak: bool
    """Whether the API may make the video at an off-peak hour."""
    passthrough: bool
    """Whether the payload has parameters that the API passes on unread to the API behind it."""
    duration_nested: bool
    """Whether the duration is only in a field that a known implementation ignores when it bills."""
    orientation: str
    """Source of the character's orientation in motion control: `image` or `video`; empty if not given."""
    motion_image: bool
    """Whether the payload gives an image of the character for motion control."""
    motion_video: bool
    """Whether the payload gives a video of the movement for motion control."""
    voice_control: bool
    """Whether the prompt cites a voice that the payload lists."""
    voices: int
    """Number of voices that the payload lists."""
    original_sound: bool
    """Whether the video keeps the sound of the reference video."""
    model_ignored: str
    """The field in which the payload names a model although the provider ignores it; empty if there is none."""
    resolution_stated: bool
    """Whether the payload gives a resolution."""
    multi_shot_as_text: bool
    """Whether the payload writes true or false for several shots as text."""
    ignored_shots: int
    """Number of shots that the payload lists although it does not ask for several shots."""
    cfg_scale_stated: bool
    """Whether the payload gives a `cfg_scale`."""
    top_level_prompt: bool
    """Whether the prompt is a field of its own."""
    contents_prompt: bool
    """Whether the prompt is an entry in the list of contents."""
    edit_session: bool
    """Whether the payload names a session of marking elements in a video."""
    edit_mode: str
    """Kind of the edit in that session: `addition`, `swap` or `removal`; empty if not given."""
    extended_video: bool
    """Whether the payload names a generated video to extend."""
    elements: int
    """Number of elements (subjects, each shown in several images) that the payload refers to."""
    fewest_element_images: int | None
    """Number of images of the element that has the fewest."""
    most_element_images: int | None
    """Number of images of the element that has the most."""
    calls: int
    """Number of billed calls, which is 1 for a video; for images, the number of images."""
    shots: int
    """Number of shots that the payload lists."""
    shots_length_s: int
    """Length of all shots together in seconds; 0 if the payload alone does not give it."""
    multi_shot: bool
    """Whether the payload asks for several shots."""
    shot_type: str
    """How the API splits the video into shots, such as `customize`; empty if not given."""
    shots_excess_s: int
    """Seconds by which all shots together exceed the duration; negative if they are shorter."""
    misnumbered_shots: int
    """Number of shots whose number does not match their position."""
    shortest_shot_s: int | None
    """Length of the shortest shot in seconds."""
    longest_shot_chars: int
    """Length of the longest prompt of a shot in characters (Unicode code points)."""
    cfg_scale: Decimal | None
    """How closely the video follows the prompt, as a number without a unit."""
    camera: str
    """Kind of camera control; empty if there is none."""
    camera_config_size: int
    """Number of settings of the camera control."""
    camera_extreme: Decimal | None
    """Largest absolute value among those settings, without a unit."""
    masks: int
    """Number of dynamic masks."""
    fewest_mask_points: int | None
    """Number of points in the shortest trajectory of a mask."""
    most_mask_points: int | None
    """Number of points in the longest trajectory of a mask."""
    static_mask: bool
    """Whether the payload gives a static mask."""


_HINTS = get_type_hints(Facts)


FACT_TYPES: Mapping[str, type] = {name: (get_args(hint) or (hint,))[0] for name, hint in _HINTS.items()}
"""Fact -> the type of its values; the loader checks the rules against it."""


EMPTY_FACTS: Mapping[str, Any] = {name: None if get_args(hint) else hint() for name, hint in _HINTS.items()} | {
    "calls": 1
}
"""The facts about an empty payload, before defaults: no images, no prompt, and so on; the rest is unknown."""


INPUT_OF: Mapping[str, str] = {
    "aspect_ratio_stated": "aspect_ratio",
    "duration_stated": "duration_s",
    "video_use": "videos",
    "voice_control": "voices",
    "original_sound": "audio",
    "model_ignored": "model",
    "resolution_stated": "resolution",
    "multi_shot_as_text": "multi_shot",
    "ignored_shots": "shots",
    "cfg_scale_stated": "cfg_scale",
    "top_level_prompt": "prompt",
    "contents_prompt": "prompt",
    "references": "images",
    "shots_length_s": "shots",
    "prompt_chars": "prompt",
    "image_markers": "prompt",
    "dangling_image_markers": "prompt",
    "start_images": "images",
    "negative_prompt_chars": "negative_prompt",
    "video_length_s": "videos",
    "duration_beside_shots": "duration_s",
    "duration_nested": "duration_s",
    "fewest_element_images": "elements",
    "most_element_images": "elements",
    "shots_excess_s": "shots",
    "misnumbered_shots": "shots",
    "shortest_shot_s": "shots",
    "longest_shot_chars": "shots",
    "camera_config_size": "camera",
    "camera_extreme": "camera",
    "fewest_mask_points": "masks",
    "most_mask_points": "masks",
}
"""Fact -> the input that it is derived from, if their names differ."""


def counts_as_reference(facts: Facts) -> bool | None:
    """Returns the fact `reference` for a wire format without a field for it; None if it is unknown."""
    if facts["videos"]:
        return True
    return None if facts["start_images"] or facts["last_frame"] or facts["elements"] else False


def add_prompt_facts(facts: dict[str, Any], image_count: int | None = None) -> None:
    """Replaces the inputs `prompt` and `negative_prompt` with their facts.

    Args:
        facts: the facts, with these inputs among them if the payload gives them.
        image_count: how many images the prompt's markers can name; by default, the fact `images`.
    """
    if "negative_prompt" in facts:
        facts["negative_prompt_chars"] = len(facts.pop("negative_prompt"))
    prompt = facts.pop("prompt", None)
    if prompt is None:
        return
    facts["prompt_chars"] = len(prompt)
    if "<<<" in prompt:
        count = facts.get("images", 0) if image_count is None else image_count
        numbers = {str(number) for number in range(1, count + 1)}
        markers = _IMAGE_MARKER.findall(prompt)
        facts["image_markers"] = len(markers)
        facts["dangling_image_markers"] = sum(marker not in numbers for marker in markers)


def prompt_form(prompt: str) -> int | str:
    """Returns what the facts of a prompt depend on, in every wire format.

    It is the length alone, unless the prompt may name images or voices, or list shots; then it is the prompt.
    """
    if "<<<" in prompt or "@" in prompt or _LISTED_SHOT.match(prompt):
        return prompt
    return len(prompt)


def add_shot_facts(facts: dict[str, Any], shots: Sequence[Mapping[str, Any]]) -> None:
    """Adds the facts about a list of at least one shot, each with `prompt`, `duration` and perhaps `index`."""
    facts["shots"] = len(shots)
    facts["shortest_shot_s"] = min(int(shot["duration"]) for shot in shots)
    facts["longest_shot_chars"] = max(len(shot["prompt"]) for shot in shots)
    facts["misnumbered_shots"] = sum(
        shot.get("index") not in {None, number} for number, shot in enumerate(shots, start=1)
    )
