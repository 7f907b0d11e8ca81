"""Child processes that Ctrl-C can interrupt, however the tests themselves were started."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def interruptible_children() -> Iterator[None]:
    """Starts processes that SIGINT interrupts.

    A process ignores SIGINT if its parent does, and a shell starts background jobs that way.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
