"""The bodies of callers' requests: read whole within a limit, or passed on in parts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

from kling_pricing.errors import KlingPricingError
from kling_pricing.server.asgi_messages import Receive
from kling_pricing.server.server_settings import ServerLimits

_MIB = 2**20
_NS_PER_S = 10**9
_MAX_DIGITS = 18
_SLOWEST_BYTES_PER_S = 4096
"""A body that arrives more slowly, after a first grace, is refused: nobody keeps a request open for hours."""

TIMEOUT, TOO_LARGE, OVERLOADED = 408, 413, 503


class BodyError(KlingPricingError):
    """The body of a request does not arrive in time, or is too large.

    Attributes:
        status: the HTTP status of the response.
    """

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status


class CallerGoneError(KlingPricingError):
    """The caller has disconnected before its request was complete."""


class IncomingBodies:
    """Reads the bodies of requests. Their sum in memory is limited, so callers cannot exhaust it.

    Args:
        limits: the limits.
    """

    def __init__(self, limits: ServerLimits) -> None:
        self._limits = limits
        self._in_memory = 0

    @contextmanager
    def counted(self) -> Iterator[list[bytes]]:
        """Yields an empty list for the parts of a body, which count as in memory until the block ends."""
        parts: list[bytes] = []
        try:
            yield parts
        finally:
            self._in_memory -= sum(map(len, parts))

    async def read(
        self, receive: Receive, stated: str | None, parts: list[bytes], limit_mb: int | None = None
    ) -> bytes:
        """Returns the whole body of a request.

        Args:
            receive: receives the parts.
            stated: the value of the header Content-Length; None: there is none.
            parts: a list from `counted`.
            limit_mb: the largest size, in MiB; None: that of submissions.

        Raises:
            BodyError: the body is too large (413), too slow (408), or the server is full (503).
            CallerGoneError: the caller has disconnected.
        """
        limit_mb = self._limits.submission_mb if limit_mb is None else limit_mb
        size = 0
        _check_size(_stated_size(stated), limit_mb)
        async for part in self._parts(receive):
            size += len(part)
            _check_size(size, limit_mb)
            if self._in_memory + len(part) > self._limits.submissions_in_memory_mb * _MIB:
                raise BodyError("the server holds too many large requests; retry later", status=OVERLOADED)
            self._in_memory += len(part)
            parts.append(part)
        parts[:] = [b"".join(parts)]  # the parts themselves need no memory any more
        return parts[0]

    async def pass_on(self, receive: Receive) -> AsyncIterator[bytes]:
        """Yields the parts of a body that is not a submission.

        Raises:
            BodyError: the body is too large (413) or too slow (408).
            CallerGoneError: the caller has disconnected.
        """
        size = 0
        async for part in self._parts(receive):
            size += len(part)
            _check_size(size, self._limits.upload_mb)
            yield part

    def check_upload(self, stated: str | None) -> None:
        """Does nothing if the stated length of a body that is passed on is within the limit.

        Raises:
            BodyError: the body is too large (413).
        """
        _check_size(_stated_size(stated), self._limits.upload_mb)

    async def _parts(self, receive: Receive) -> AsyncIterator[bytes]:
        patience_s = self._limits.body_timeout_s
        size, waited_ns = 0, 0
        while True:
            begun_ns = time.monotonic_ns()
            try:
                async with asyncio.timeout(patience_s):  # unlike `wait_for`, it starts no task
                    message = await receive()
            except TimeoutError:
                raise BodyError(
                    f"no part of the body arrived for {patience_s} s; send it faster", status=TIMEOUT
                ) from None
            waited_ns += time.monotonic_ns() - begun_ns
            if waited_ns > (patience_s + size // _SLOWEST_BYTES_PER_S) * _NS_PER_S:
                raise BodyError("the body arrives too slowly; send it faster", status=TIMEOUT)
            if message["type"] == "http.disconnect":
                raise CallerGoneError("the caller has disconnected")
            if part := message.get("body", b""):
                size += len(part)
                yield part
            if not message.get("more_body", False):
                return


def _check_size(size: int, limit_mb: int) -> None:
    if size > limit_mb * _MIB:
        raise BodyError(f"the body is larger than {limit_mb} MiB; send a smaller one", status=TOO_LARGE)


def _stated_size(stated: str | None) -> int:
    """Returns the value of a Content-Length, which the HTTP library has checked; 0: there is none."""
    return int(stated) if stated and stated.isdecimal() and len(stated) <= _MAX_DIGITS else 0
