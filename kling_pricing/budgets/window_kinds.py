"""The windows that a budget may have: lifetime, calendar windows, a fixed window, and rolling windows."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Any, Literal, TypeAlias, get_args

from pydantic import BeforeValidator, Field, ValidationError, WithJsonSchema, model_validator

from kling_pricing.display import nearest
from kling_pricing.strict_yaml import Day, FileModel, explained, key_path
from kling_pricing.strict_yaml.scalars import written
from kling_pricing.windows import Calendar, length_text, step_of

WINDOWS = ("lifetime", *get_args(Calendar))

MIN_ROLLING, MAX_ROLLING = timedelta(minutes=1), timedelta(days=366)
"""The shortest and the longest rolling window. Whole minutes have steps of whole microseconds."""

_LENGTH = re.compile(r"([1-9][0-9]{0,5})([mhd])")
_UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}


class FixedWindow(FileModel):
    """A window with a fixed start and end."""

    start: Day = Field(description="The first day of the window, in the budget's time zone.")
    end: Day = Field(description="The day after the last day of the window.")

    @model_validator(mode="after")
    def _ordered(self) -> FixedWindow:
        if self.start >= self.end:
            raise ValueError("end must be later than start; set end to the day after the window's last day")
        return self


def _length(value: Any) -> str:
    """Checks the length of a rolling window. Equal lengths have equal texts: `1440m` and `1d` become `24h`."""
    match = _LENGTH.fullmatch(value) if isinstance(value, str) else None
    length = timedelta(0) if match is None else int(match[1]) * _UNITS[match[2]]
    if not MIN_ROLLING <= length <= MAX_ROLLING:
        raise ValueError(
            "must be a whole number of minutes, hours or days from 1m to 366d, such as 90m, 24h or 30d, "
            f"got {written(value)}"
        )
    return length_text(length)


class RollingWindow(FileModel):
    """A window that always ends now and has a fixed length, such as the last 24 hours."""

    rolling: Annotated[
        str,
        BeforeValidator(_length),
        WithJsonSchema({"type": "string", "pattern": "^[1-9][0-9]{0,5}[mhd]$"}),
    ] = Field(description="The length of the window in minutes, hours or days, such as 90m, 24h or 30d.")

    @property
    def step(self) -> timedelta:
        """The length of one step, by which the window moves."""
        match = _LENGTH.fullmatch(self.rolling)
        assert match is not None  # noqa: S101 (the text is checked)
        return step_of(int(match[1]) * _UNITS[match[2]])


def _window(value: Any) -> Any:
    """Checks a window. An error in a window with keys names the invalid key."""
    if isinstance(value, dict):
        keys = [key for key in value if isinstance(key, str)]
        is_rolling = "rolling" in keys or (len(keys) == 1 and nearest(keys[0], ["rolling"]) is not None)
        try:
            return (RollingWindow if is_rolling else FixedWindow).model_validate(value)
        except ValidationError as error:
            path, problem = explained(error.errors(include_url=False)[0])
            raise ValueError(": ".join(part for part in (key_path(path), problem) if part)) from None
    if isinstance(value, FixedWindow | RollingWindow) or (isinstance(value, str) and value in WINDOWS):
        return value
    raise ValueError(
        f"must be {', '.join(WINDOWS)}, {{start: ..., end: ...}} or {{rolling: 24h}}, got {written(value)}"
    )


Window: TypeAlias = Annotated[
    Literal["lifetime"] | Calendar | FixedWindow | RollingWindow, BeforeValidator(_window)
]
"""The window of a budget."""
