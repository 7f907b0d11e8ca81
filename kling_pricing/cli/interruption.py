"""Handles Ctrl-C and SIGTERM so that no result is lost and no temporary file stays."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread
from types import FrameType, TracebackType
from typing import Any, Self

_ENDING = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
"""The signals that ask a process to end; Windows has no SIGHUP."""


@contextmanager
def cleaned_up() -> Iterator[None]:
    """Lets SIGTERM and SIGHUP end the block as Ctrl-C does, so that it removes its temporary files.

    Afterwards, the signal ends the process, so that its parent sees the usual status. More of these signals
    change nothing, because programs such as `timeout` send several.
    """
    received: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        if received:
            return
        received.append(number)
        on_interrupt = signal.getsignal(signal.SIGINT)
        if callable(on_interrupt):
            on_interrupt(number, frame)
        else:  # Ctrl-C is ignored
            raise KeyboardInterrupt

    before = {number: signal.getsignal(number) for number in _ENDING}
    for number, handler in before.items():
        if handler is signal.SIG_DFL:
            signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is signal.SIG_DFL:
                signal.signal(number, handler)
        if received:
            for stream in filter(None, (sys.stdout, sys.stderr)):
                with suppress(OSError, ValueError):
                    stream.flush()
            signal.raise_signal(received[0])


class Interruption:
    """Delays Ctrl-C until the current result is printed and counted.

    The run then ends between two results. Ctrl-C ends the run at once if the run is waiting for input, or if
    Ctrl-C is pressed a second time.
    """

    def __init__(self) -> None:
        self._is_pending = False
        self._is_waiting = False

    def __enter__(self) -> Self:
        self._before = signal.getsignal(signal.SIGINT)
        if self._before is signal.default_int_handler:  # otherwise Ctrl-C is ignored, or has another handler
            signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._before is signal.default_int_handler:
            signal.signal(signal.SIGINT, self._before)

    def allowed(self, *, waiting: bool) -> None:
        """Ends the run at this point if Ctrl-C was pressed.

        Args:
            waiting: whether the run now waits for input, so that Ctrl-C may end the run at any moment.

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


@contextmanager
def stopping() -> Iterator[Event]:
    """Yields an event that Ctrl-C and SIGTERM set. A second signal ends the command at once."""
    stop = Event()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    reader, writer = os.pipe()

    def handle(number: int, *_: Any) -> None:
        # setting the event here would hang if the signal interrupted code that holds the lock of the event
        os.write(writer, b"s")
        signal.signal(number, before[signal.Signals(number)])

    def set_on_signal() -> None:
        if os.read(reader, 1):
            stop.set()

    waiter = Thread(target=set_on_signal, daemon=True)
    waiter.start()
    for number, handler in before.items():
        if handler not in {signal.SIG_IGN, None}:
            signal.signal(number, handle)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(writer)
        waiter.join()
        os.close(reader)
