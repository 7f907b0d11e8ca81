"""Ctrl-C, handled where it loses nothing."""

from __future__ import annotations

import signal
from types import TracebackType
from typing import Any, Self


class Interruption:
    """Delays Ctrl-C until the answer in progress is printed and counted.

    The run ends between two answers, or at once while it waits for input. A second Ctrl-C ends it at once.
    """

    def __init__(self) -> None:
        self._is_pending = False
        self._is_waiting = False

    def __enter__(self) -> Self:
        self._before = signal.getsignal(signal.SIGINT)
        if self._before is signal.default_int_handler:  # else Ctrl-C is ignored, or another handler is in place
            signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._before is signal.default_int_handler:
            signal.signal(signal.SIGINT, self._before)

    def allowed(self, *, waiting: bool) -> None:
        """Ends the run here if Ctrl-C was pressed.

        Args:
            waiting: whether the run waits for input from here on, so that Ctrl-C may end it at any moment.

        Raises:
            KeyboardInterrupt: Ctrl-C was pressed.
        """
        self._is_waiting = waiting
        if self._is_pending:
            raise KeyboardInterrupt

    def _handle(self, *_: Any) -> None:
        ends_now = self._is_waiting or self._is_pending
        self._is_pending = True
        if ends_now:
            raise KeyboardInterrupt
