"""Bounds what callers can hold open: the number of connections, and the time for headers and for reading."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

from kling_pricing.server.server_settings import ServerLimits


def bounded_protocol(limits: ServerLimits) -> type[H11Protocol]:
    """Returns a protocol for connections within the limits.

    A connection beyond the largest number is closed at once. One whose next request is not there in time is
    closed, too, and so is one whose caller does not read its response. A connection that waits between two
    requests is closed by uvicorn.
    """
    open_connections: set[H11Protocol] = set()

    class Bounded(H11Protocol):
        _waiting: asyncio.TimerHandle | None = None
        _unread: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            if len(open_connections) >= limits.connections:
                transport.abort()
                return
            open_connections.add(self)
            self._await_headers()

        def connection_lost(self, exc: Exception | None) -> None:
            open_connections.discard(self)
            self._stop_waiting()
            self._caller_reads()
            super().connection_lost(exc)

        def pause_writing(self) -> None:
            super().pause_writing()
            self._unread = self.loop.call_later(limits.body_timeout_s, self._give_up)

        def resume_writing(self) -> None:
            self._caller_reads()
            super().resume_writing()

        def timeout_keep_alive_handler(self) -> None:
            super().timeout_keep_alive_handler()
            if self.transport.get_write_buffer_size():  # closing would wait for a caller that does not read
                self.transport.abort()

        def handle_events(self) -> None:
            before = self.cycle
            super().handle_events()
            if self.cycle is not before and self.cycle is not None:
                self._stop_waiting()

        def data_received(self, data: bytes) -> None:
            is_idle = self.cycle is None or self.cycle.response_complete  # type: ignore[redundant-expr]
            if self._waiting is None and is_idle:
                self._await_headers()
            super().data_received(data)

        def _await_headers(self) -> None:
            self._waiting = self.loop.call_later(limits.header_timeout_s, self._give_up)

        def _stop_waiting(self) -> None:
            if self._waiting is not None:
                self._waiting.cancel()
                self._waiting = None

        def _caller_reads(self) -> None:
            if self._unread is not None:
                self._unread.cancel()
                self._unread = None

        def _give_up(self) -> None:
            self.transport.abort()

    return Bounded
