"""Shows balances again and again: live on a terminal, as lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Protocol, TypeVar

from rich.console import RenderableType
from rich.live import Live
from rich.text import Text

from kling_pricing.cli.interruption import stopping
from kling_pricing.cli.output import echo, to_json
from kling_pricing.cli.terminal import wide_console
from kling_pricing.errors import LedgerUnavailableError


class DatedReading(Protocol):
    """Balances at an instant."""

    @property
    def at(self) -> datetime:
        """The instant."""


_Reading = TypeVar("_Reading", bound=DatedReading)


def watched(
    read: Callable[[], _Reading],
    live: Callable[[_Reading], RenderableType],
    lines: Callable[[_Reading], Sequence[str]],
    *,
    every: int,
    as_dict: Callable[[_Reading], dict[str, Any]] | None = None,
) -> None:
    """Reads and shows balances until Ctrl-C or SIGTERM. The first reading raises its errors.

    Args:
        read: reads the balances.
        live: returns what a terminal shows.
        lines: returns lines for other outputs. A line is printed when it differs from all lines of the reading
            before.
        every: the seconds between two readings.
        as_dict: returns a reading as JSON-ready data; None: no JSON.
    """
    reading = read()
    is_live = sys.stdout.isatty() and as_dict is None
    with stopping() as stop:
        if not is_live:
            shown: Sequence[str] = ()
            while not stop.is_set():
                if as_dict is not None:
                    echo(to_json(as_dict(reading)))
                else:
                    new = lines(reading)
                    for line in new:
                        if line not in shown:
                            echo(f"{reading.at:%Y-%m-%d %H:%M:%S} UTC  {line}")
                    shown = new
                sys.stdout.flush()
                stop.wait(every)
                if not stop.is_set():
                    reading = _next(read, reading)
            return
        with Live(console=wide_console(), auto_refresh=False) as screen:
            while not stop.is_set():
                screen.update(live(reading), refresh=True)
                stop.wait(every)
                try:
                    reading = read() if not stop.is_set() else reading
                except LedgerUnavailableError as error:
                    screen.update(Text(str(error)), refresh=True)
                    stop.wait(every)


def _next(read: Callable[[], _Reading], before: _Reading) -> _Reading:
    """Returns a new reading; the earlier one if the ledger cannot be read at the moment, with a warning."""
    try:
        return read()
    except LedgerUnavailableError as error:
        echo(str(error), err=True)
        return before
