"""The settings of a request that capping may change, and the limits of such changes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, TypeAlias

Setting: TypeAlias = Literal["duration_s", "resolution", "audio", "model"]
"""A setting that may be changed to make a request cheaper."""

RESOLUTIONS = ("720p", "1080p", "4k")
"""All resolutions, lowest first."""

SACRIFICE: tuple[Setting, ...] = ("duration_s", "resolution", "audio")
"""The default order of changes: shorten the video, then lower the resolution, then drop the soundtrack."""


class Limits(NamedTuple):
    """The limits on changing a request to make it cheaper.

    Attributes:
        sacrifice: the settings that may be changed, in the order in which they are given up.
        models: canonical names of replacement models, best first; used if `model` may be changed.
        min_duration_s: the shortest length allowed.
        min_resolution: the lowest resolution allowed.
    """

    sacrifice: Sequence[str] = SACRIFICE
    models: Sequence[str] = ()
    min_duration_s: int = 1
    min_resolution: str = RESOLUTIONS[0]
