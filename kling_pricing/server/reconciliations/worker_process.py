"""The process that reconciles for a server process: it is started once, and carries out one order at a time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from threading import Lock, Timer

_WORKER = "kling_pricing.server.reconciliations.run_worker"


class WorkerProcess:
    """Starts the worker when there is an order, and keeps it for the next one, which then begins at once."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._is_closed = False

    @property
    def is_running(self) -> bool:
        """Whether there is a worker, which takes memory even if it has nothing to do."""
        return self._process is not None

    def carry_out(self, order: bytes, limit_s: float) -> bool:
        """Has an order carried out, and returns whether it was still working after its time, and so was ended.

        Args:
            order: one line. Whoever gives it finds its outcome where the worker writes it.
            limit_s: the longest time, in seconds.
        """
        process = self._started()
        if process is None or process.stdin is None or process.stdout is None:
            return False
        is_late = False

        def end_late() -> None:
            nonlocal is_late
            is_late = True
            _kill(process)

        timer = Timer(limit_s, end_late)
        timer.start()
        try:
            with suppress(BrokenPipeError):
                process.stdin.write(order)
                process.stdin.flush()
            has_ended = process.stdout.readline() != b""
        finally:
            timer.cancel()
            timer.join()  # it may be about to end the worker
        if is_late or not has_ended:
            self.end()
        return is_late

    def end(self) -> None:
        """Ends the worker, with whatever it does; the next order starts another one."""
        with self._lock:
            process, self._process = self._process, None
        if process is not None:
            _kill(process)
            _wait(process)

    def close(self) -> None:
        """Ends the worker, so that an order that is carried out returns, and starts no other one."""
        with self._lock:
            self._is_closed = True
            if self._process is not None:
                _kill(self._process)

    def _started(self) -> subprocess.Popen[bytes] | None:
        """Returns the worker; None: no more orders are carried out."""
        with self._lock:
            if self._process is not None and self._process.poll() is not None:  # something else has ended it
                _wait(self._process)
                self._process = None
            if self._process is None and not self._is_closed:
                self._process = subprocess.Popen(  # noqa: S603 (our own module)
                    [sys.executable, "-m", _WORKER],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    start_new_session=True,  # Ctrl-C is for the server, which ends the worker
                )
            return self._process


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kills a worker and the process in which it carries out its order."""
    if sys.platform == "win32":
        process.kill()
    elif process.returncode is None:  # or else another process may have its id
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def _wait(process: subprocess.Popen[bytes]) -> None:
    """Waits for the end of a killed worker and of the process in which it carries out its order."""
    if process.stdin is not None:
        with suppress(OSError):
            process.stdin.close()
    if process.stdout is not None:
        process.stdout.read()  # it ends with the last process that could write to it
        process.stdout.close()
    process.wait()
