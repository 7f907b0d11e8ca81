"""The settings of a request that may be changed, and how far."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, TypeAlias

Setting: TypeAlias = Literal["duration_s", "resolution", "audio", "model"]
"""What of a request may be changed to make it cheaper."""


RESOLUTIONS = ("720p", "1080p", "4k")
"""From the lowest up."""


SACRIFICE: tuple[Setting, ...] = ("duration_s", "resolution", "audio")
"""What is given up first: shorten, then lower the resolution, then drop the soundtrack."""


class Limits(NamedTuple):
    """How far a request may be changed to make it cheaper.

    Attributes:
        sacrifice: the settings that may be changed, the one to give up first in front.
        models: canonical names to use instead, the best first, where `model` may be changed.
        min_duration_s: no shorter than this.
        min_resolution: no lower than this.
    """

    sacrifice: Sequence[str] = SACRIFICE
    models: Sequence[str] = ()
    min_duration_s: int = 1
    min_resolution: str = RESOLUTIONS[0]
