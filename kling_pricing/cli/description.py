"""The options that describe a request without a file."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from kling_pricing.errors import KlingPricingError
from kling_pricing.shot_lists.shots import model_names
from kling_pricing.shot_lists.written_values import name_alike, number_text, resolution
from kling_pricing.wire.media import MediaFacts, facts_of

if TYPE_CHECKING:
    from kling_pricing.quoting.composing import RequestDescription

F = TypeVar("F", bound=Callable[..., Any])

MAX_PLACEHOLDERS = 50
"""Maximum number of files of one kind that a count can stand for."""

_PLACEHOLDERS = {
    "images": "https://example.com/image-{}.png",
    "first_frame": "https://example.com/first-frame.png",
    "last_frame": "https://example.com/last-frame.png",
    "videos": "https://example.com/video-{}.mp4",
}
"""Kind of file -> the URL that stands for a file whose URL is not given."""


def read_seconds(text: str) -> int:
    """Reads a whole number of seconds, which may be written with its unit, such as `10s`.

    Raises:
        click.BadParameter: the text is something else.
    """
    number = number_text(text, seconds=True, decimal_comma=False)
    if not re.fullmatch(r"[+-]?[0-9]{1,18}(\.0*)?", number):
        raise click.BadParameter(f"{text!r} is not a whole number of seconds; write a number such as 5")
    return int(number.partition(".")[0])


def _duration(_ctx: click.Context, _option: click.Parameter, value: str | None) -> int | None:
    return None if value is None else read_seconds(value)


def _length(_ctx: click.Context, _option: click.Parameter, value: str | None) -> MediaFacts | None:
    """Reads the length of a video as a fact about its file."""
    if value is None:
        return None
    try:
        number = number_text(value, seconds=True, decimal_comma=False)
        return facts_of("the video", {"the video": {"length_s": number}})
    except KlingPricingError:
        raise click.BadParameter(f"{value!r} is not a length in seconds; write a number such as 5.04") from None


_OPTIONS = [
    click.option("--model", help="Model name, for a quote without a FILE. Case and spaces do not matter."),
    click.option(
        "--duration", callback=_duration, metavar="SECONDS", help="Video length in seconds; requires --model."
    ),
    click.option("--resolution", help="Resolution (720p, 1080p or 4k); requires --model."),
    click.option("--audio/--no-audio", default=None, help="Whether to generate audio; requires --model."),
    click.option("--action", help="Action, such as generate or motion_control; requires --model."),
    click.option(
        "--image",
        "images",
        multiple=True,
        metavar="COUNT|URL",
        help="Number of reference or start images, or the URL of an image (repeatable); requires --model.",
    ),
    click.option(
        "--first-frame",
        is_flag=False,
        flag_value=_PLACEHOLDERS["first_frame"],
        metavar="[URL]",
        help="Include a first frame, optionally with its URL; requires --model.",
    ),
    click.option(
        "--last-frame",
        is_flag=False,
        flag_value=_PLACEHOLDERS["last_frame"],
        metavar="[URL]",
        help="Include a last frame, optionally with its URL; requires --model.",
    ),
    click.option(
        "--video",
        "videos",
        multiple=True,
        metavar="COUNT|URL",
        help="Number of reference videos, or the URL of a video (repeatable); requires --model.",
    ),
    click.option(
        "--video-length",
        callback=_length,
        metavar="SECONDS",
        help="Length of each --video, such as 5.04; requires --video.",
    ),
    click.option(
        "--orientation",
        type=click.Choice(["image", "video"]),
        help="Source of the character's orientation in motion control; requires --model.",
    ),
]


def description_options(command: F) -> F:
    """Adds the options that describe a request."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def pop_description(
    options: dict[str, Any], *, without_file: bool
) -> tuple[RequestDescription | None, dict[str, MediaFacts]]:
    """Removes the options that describe a request.

    Args:
        options: the command's options, from which the function removes its own.
        without_file: whether the command is given no FILE.

    Returns:
        The description and the facts about its files; no description if there is a FILE.

    Raises:
        click.UsageError: the options contradict each other or a FILE, or neither a FILE nor a model is given.
    """
    names = [
        "model", "duration", "resolution", "audio", "action", "images", "first_frame", "last_frame", "videos",
        "video_length", "orientation",
    ]  # fmt: skip
    given = {name: value for name in names if (value := options.pop(name)) not in (None, ())}
    if given and not without_file:
        raise click.UsageError("give either a FILE, or --model and the options that describe the request")
    if not without_file:
        return None, {}
    if "model" not in given:
        raise click.UsageError("give a FILE (- for standard input), or --model for a quick quote")
    from kling_pricing.quoting.composing import RequestDescription  # noqa: PLC0415 (needed only without a FILE)

    files = {
        "images": _urls("images", given.get("images", ())),
        "first_frame": [given["first_frame"]] if "first_frame" in given else [],
        "last_frame": [given["last_frame"]] if "last_frame" in given else [],
        "videos": _urls("videos", given.get("videos", ())),
    }
    settings = {"duration_s": given.get("duration"), "audio": given.get("audio")}
    if "resolution" in given:
        settings["resolution"] = resolution(given["resolution"]).lower()
    stated = {name: value for name, value in settings.items() if value is not None}
    model = name_alike(given["model"], model_names(options["book"]))
    description = RequestDescription(model, stated, given.get("action"), given.get("orientation"), files)
    return description, _video_facts(given.get("video_length"), files["videos"])


def _urls(kind: str, values: tuple[str, ...]) -> list[str]:
    """Returns URLs, with placeholders for those that are only counted."""
    urls: list[str] = []
    for value in values:
        if not (value.isascii() and value.isdecimal()):
            urls.append(value)
        elif int(value) > MAX_PLACEHOLDERS:
            raise click.UsageError(f"a count of {kind} must be at most {MAX_PLACEHOLDERS}, got {value}")
        else:
            urls += [_PLACEHOLDERS[kind].format(len(urls) + number) for number in range(1, int(value) + 1)]
    return urls


def _video_facts(length: MediaFacts | None, videos: list[str]) -> dict[str, MediaFacts]:
    if length is not None and not videos:
        raise click.UsageError("--video-length applies only to videos; give the video with --video")
    return {} if length is None else dict.fromkeys(videos, length)
