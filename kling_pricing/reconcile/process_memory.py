"""The share of the database in the memory of the process."""

from __future__ import annotations

import os
import re
import sys
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from kling_pricing.errors import KlingPricingError

_LIMIT = re.compile(r"([1-9][0-9]{0,5}) ?(MB|GB|MiB|GiB)")
_BYTES = {"MB": 10**6, "GB": 10**9, "MiB": 1 << 20, "GiB": 1 << 30}
_MB = 10**6

_BESIDE_DATABASE = 110 * _MB
"""The memory that a reconciliation needs beside the database's own limit, measured with a million tasks on
either side: modules, memory that the database does not count, and blocks of lines."""

_LEAST = 50 * _MB
"""The smallest memory with which the database can work."""

_UNCOUNTED_PERCENT = 15
"""What the database uses beyond its own limit, in percent."""

_PER_THREAD = 40 * _MB
"""The memory that each thread of the database needs."""

_UNKNOWN_USE = 150 * _MB
"""The memory of a process on a system that does not tell it."""


class DatabaseShare(NamedTuple):
    """The part of the process's memory that the database may use.

    Attributes:
        size_bytes: its memory.
        threads: the number of its threads.
    """

    size_bytes: int
    threads: int


def database_share(limit: str) -> DatabaseShare:
    """Returns the share of the database if the whole process must stay within a limit, such as `500MB`.

    Raises:
        KlingPricingError: the limit is not a size, or is too small.
    """
    match = _LIMIT.fullmatch(limit)
    if match is None:
        raise KlingPricingError(f"a memory limit must be a size such as 500MB or 2GB, got {limit!r}")
    used = _used_bytes()
    rest = int(match[1]) * _BYTES[match[2]] - used - _BESIDE_DATABASE
    share = rest * 100 // (100 + _UNCOUNTED_PERCENT)
    if share < _LEAST:
        needed = used + _BESIDE_DATABASE + _LEAST * (100 + _UNCOUNTED_PERCENT) // 100
        least = -(-needed // (10 * _MB)) * 10
        raise KlingPricingError(
            f"a memory limit of {limit} is too small, because this process uses {used // _MB} MB already; "
            f"give a limit of at least {least}MB"
        )
    return DatabaseShare(share, max(1, min(os.cpu_count() or 1, share // _PER_THREAD)))


def _used_bytes() -> int:
    """Returns the memory that this process uses."""
    with suppress(OSError, ValueError, IndexError):  # Linux
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    with suppress(ImportError):
        import resource  # noqa: PLC0415 (not on every system)

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
    return _UNKNOWN_USE
