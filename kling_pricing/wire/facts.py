"""The facts that rules may test, in words that do not depend on the API."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, TypedDict, get_args, get_type_hints

_IMAGE_MARKER = re.compile(r"<<<image_([0-9]+)>>>")


class Facts(TypedDict):
    """What is known of a request, in words that do not depend on the API.

    These names are the vocabulary of every `when`, `need` and `limits` in `pricing_tables/`.
    None is "not known", which is neither true nor false: a rule that would need it gives a note.
    (A dict, because one is made for every request and rules look into it some twenty times.)
    """

    model: str
    """Canonical model name."""
    action: str | None
    """What the API will do, after the inputs had their say."""
    resolution: str | None
    """`720p`, `1080p`, `4k`."""
    duration_s: int | None
    """Seconds of video asked for."""
    duration_beside_shots: bool
    """Whether the payload gives the video a length of its own beside those of its shots."""
    duration_stated: bool
    """Whether the payload itself gives a duration."""
    audio: bool | None
    """Whether a soundtrack is generated."""
    watermark: bool | None
    """Whether the output is marked."""
    aspect_ratio: str | None
    """`16:9` and so on."""
    aspect_ratio_stated: bool
    """Whether the payload itself gives an aspect ratio."""
    negative_prompt_chars: int
    """Length of the negative prompt in characters."""
    prompt_chars: int
    """Length of the prompt in characters (Unicode code points)."""
    image_markers: int
    """How many `<<<image_N>>>` stand in the prompt."""
    dangling_image_markers: int
    """How many of them name an image that is not there."""
    images: int
    """How many reference images."""
    first_frame: bool
    """Whether a first frame is given."""
    last_frame: bool
    """Whether a last frame is given."""
    start_images: int
    """Images that could be the first frame: `images`, plus one for `first_frame`."""
    videos: int
    """How many reference videos."""
    video_use: str
    """What the reference videos are for: `base` (edited), `feature`; empty: none, or not said."""
    references: int
    """How many reference images, frames among them, and elements together."""
    video_length_s: Decimal | None
    """Length of the reference video, if the caller knows it."""
    reference: bool | None
    """Whether it counts as made after a reference; None: pictures alone, of which nobody says."""
    motion_level: str
    """Level of motion control: `std` or `pro`; empty: not given."""
    off_peak: bool
    """Whether the caller leaves the API to choose a quiet hour."""
    passthrough: bool
    """Whether parameters for the API behind the API are passed on unread."""
    duration_nested: bool
    """Whether the duration is given only where a known implementation does not look when it bills."""
    orientation: str
    """Whose facing a motion-control character keeps: `image` or `video`; empty: not given."""
    motion_image: bool
    """Whether a picture of the character to move is given."""
    motion_video: bool
    """Whether a video to take the movement from is given."""
    voice_control: bool
    """Whether the voices of the soundtrack are chosen."""
    elements: int
    """How many elements (subjects made of several pictures) are referred to."""
    fewest_element_images: int | None
    """Pictures of the element that has the fewest."""
    most_element_images: int | None
    """Pictures of the element that has the most."""
    calls: int
    """How many calls are billed: always 1."""
    shots: int
    """How many shots a multi-shot request lists."""
    shots_length_s: int
    """Seconds of all of them together; 0: not known from the payload alone."""
    multi_shot: bool
    """Whether the request says that it has several shots."""
    shot_type: str
    """How the shots are made; empty: not given."""
    shots_excess_s: int
    """Seconds by which the shots together are longer (or, below zero, shorter) than the video."""
    misnumbered_shots: int
    """How many shots do not have the number that their place demands."""
    shortest_shot_s: int | None
    """Length of the shortest shot."""
    longest_shot_chars: int
    """Length of the longest prompt of a shot, in characters."""
    cfg_scale: Decimal | None
    """How closely the prompt is followed."""
    camera: str
    """Kind of camera control; empty: none."""
    camera_config_size: int
    """How many settings a camera control gives."""
    camera_extreme: Decimal | None
    """The largest of them, regardless of its sign."""
    masks: int
    """How many dynamic masks."""
    fewest_mask_points: int | None
    """Points of the shortest trajectory of a mask."""
    most_mask_points: int | None
    """Points of the longest trajectory of a mask."""
    static_mask: bool
    """Whether a static mask is given."""


_HINTS = get_type_hints(Facts)


FACT_TYPES: Mapping[str, type] = {name: (get_args(hint) or (hint,))[0] for name, hint in _HINTS.items()}
"""The type of each fact's values, which rules are checked against when they are loaded."""


UNSAID: Mapping[str, Any] = {name: None if get_args(hint) else hint() for name, hint in _HINTS.items()} | {
    "calls": 1
}
"""The facts of a payload that says nothing, before any default: no images, no prompt; the rest unknown."""


INPUT_OF: Mapping[str, str] = {
    "aspect_ratio_stated": "aspect_ratio",
    "duration_stated": "duration_s",
    "video_use": "videos",
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
"""Fact -> the input it is derived from, where the two differ in name."""


def counts_as_reference(facts: Facts) -> bool | None:
    """The fact `reference` where the wire format does not tell it: of pictures alone nobody says."""
    if facts["videos"]:
        return True
    return None if facts["start_images"] or facts["last_frame"] or facts["elements"] else False


def add_prompt_facts(facts: dict[str, Any], prompt: str, images: int | None = None) -> None:
    """Adds the facts that a prompt determines; its markers can name so many images, by default `images`."""
    facts["prompt_chars"] = len(prompt)
    if "<<<" in prompt:
        images = facts.get("images", 0) if images is None else images
        named = _IMAGE_MARKER.findall(prompt)
        there = {str(number) for number in range(1, images + 1)}
        facts["image_markers"] = len(named)
        facts["dangling_image_markers"] = sum(number not in there for number in named)
