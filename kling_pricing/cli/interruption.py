"""Ctrl-C, heard where it loses nothing."""

from __future__ import annotations

import signal
from types import TracebackType
from typing import Any, Self


class Interruption:
    """Ctrl-C while many answers are given: it ends the run between two of them, or while input is waited for.

    In between, what is answered may not be counted yet, or half printed; a second Ctrl-C does not wait.
    """

    def __init__(self) -> None:
        self._heard = False
        self._waiting = False

    def __enter__(self) -> Self:
        self._before = signal.getsignal(signal.SIGINT)
        if self._before is signal.default_int_handler:  # else it is ignored, or somebody else's
            signal.signal(signal.SIGINT, self._hear)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._before is signal.default_int_handler:
            signal.signal(signal.SIGINT, self._before)

    def allowed(self, *, waiting: bool) -> None:
        """Ends the run here if Ctrl-C was heard; from here on too, if something is waited for.

        Raises:
            KeyboardInterrupt: it was.
        """
        self._waiting = waiting
        if self._heard:
            raise KeyboardInterrupt

    def _hear(self, *_: Any) -> None:
        max_concurrency = self._waiting or self._heard
        self._heard = True
        if max_concurrency:
            raise KeyboardInterrupt
