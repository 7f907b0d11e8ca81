"""Reads secrets from the environment and from files; a message never contains one."""

from __future__ import annotations

import os
from pathlib import Path

from kling_pricing.errors import SettingsError


def unset_variable(place: str) -> str | None:
    """Returns the name of the environment variable in `env:NAME` if it is not set or is blank, or else None."""
    kind, _, name = place.partition(":")
    return name if kind == "env" and not os.environ.get(name, "").strip() else None


class Secret:
    """A secret in an environment variable or in a file.

    A file is read again when it changes, so that a secret can be replaced while the server runs.

    Args:
        place: `env:NAME` or `file:PATH`.
        setting: the setting that names the place, for errors.

    Attributes:
        setting: the setting that names the place.

    Raises:
        SettingsError: the secret is missing, empty, or has more than one line.
    """

    def __init__(self, place: str, setting: str) -> None:
        self._kind, _, self._name = place.partition(":")
        self.setting = setting
        self._version: tuple[int, int] | None = None
        self._text = ""
        self.text()

    def text(self) -> str:
        """Returns the secret.

        Raises:
            SettingsError: the file was removed or emptied.
        """
        if self._kind == "env":
            return self._text or self._checked(os.environ.get(self._name, ""))
        try:
            status = Path(self._name).stat()
            if self._version != (status.st_mtime_ns, status.st_size):
                self._text = self._checked(Path(self._name).read_text(encoding="utf-8"))
                self._version = (status.st_mtime_ns, status.st_size)
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
            raise SettingsError(
                f"the file {self._name} cannot be read ({reason}); write the secret into it",
                key_path=self.setting,
            ) from None
        return self._text

    def __repr__(self) -> str:
        return f"Secret({self._kind}:{self._name})"

    def _checked(self, text: str) -> str:
        self._text = text.strip()
        if not self._text:
            problem = (
                f"the variable {self._name} is not set; set it, or name a file with file:PATH"
                if self._kind == "env"
                else f"the file {self._name} is empty; write the secret into it"
            )
            raise SettingsError(problem, key_path=self.setting)
        if not self._text.isprintable():
            raise SettingsError(
                f"the secret in {self._kind}:{self._name} has more than one line or an invisible character; "
                "store the secret alone",
                key_path=self.setting,
            )
        return self._text
