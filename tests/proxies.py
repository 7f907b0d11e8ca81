"""A network between client and server that loses an answer, or the connection without a word."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

READY = b"Z\x00\x00\x00\x05I"
"""How a server of PostgreSQL says that it is done, outside a transaction: what was asked is committed."""


class Proxy:
    """Passes on what clients and a server on this machine say, until it is told to cut in.

    Attributes:
        port: where clients connect.
        cuts: how many connections were cut.
    """

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self.cuts = 0
        self._marker: bytes | None = None
        self._silently = False
        self._connections: list[_Connection] = []
        self._accepting = threading.Thread(target=self._accept)
        self._accepting.start()

    def lose_answer_to(self, marker: bytes, *, silently: bool = False) -> None:
        """Cuts the next connection that asks for something with this in it, when the server has done it.

        Args:
            marker: what to wait for.
            silently: whether the client is left waiting, instead of being told that the connection is gone.
        """
        self._silently, self._marker = silently, marker

    def asks(self, said: bytes) -> bool:
        """Whether this is what was waited for."""
        if self._marker is None or self._marker not in said:
            return False
        self._marker = None
        self.cuts += 1
        return True

    @property
    def is_silent(self) -> bool:
        """Whether a cut is to go unnoticed."""
        return self._silently

    def close(self) -> None:
        """Ends all connections, and takes no more."""
        _end(self._listening)  # closing alone would not wake who waits in it
        self._accepting.join()
        self._listening.close()
        for connection in self._connections:
            connection.close()

    def _accept(self) -> None:
        with suppress(OSError):  # ended
            while True:
                client, _ = self._listening.accept()
                try:
                    server = socket.create_connection(("127.0.0.1", self._server_port))
                except OSError:  # there is no server at the moment
                    client.close()
                    continue
                self._connections.append(_Connection(self, client, server))


class _Connection:
    """One connection of a client, passed on in both directions.

    When either side ends, or fails, both are ended: a socket that is only closed while another thread waits in
    it stays open, and the other side is never told.
    """

    def __init__(self, proxy: Proxy, client: socket.socket, server: socket.socket) -> None:
        self._proxy, self._client, self._server = proxy, client, server
        self._cut = threading.Event()
        self._threads = [threading.Thread(target=self._ask), threading.Thread(target=self._answer)]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Ends both sides."""
        _end(self._client, self._server)
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        with self._client, suppress(OSError):
            while said := self._client.recv(65536):
                if self._proxy.asks(said):
                    self._cut.set()
                self._server.sendall(said)
        if not self._cut.is_set():
            _end(self._client, self._server)

    def _answer(self) -> None:
        with self._server, suppress(OSError):
            while said := self._server.recv(65536):
                if not self._cut.is_set():
                    self._client.sendall(said)
                elif said.endswith(READY):
                    break
        if not (self._cut.is_set() and self._proxy.is_silent):
            _end(self._client, self._server)


def _end(*sockets: socket.socket) -> None:
    """Tells both sides of each that it is over; of no effect on one that is."""
    for each in sockets:
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)


@contextmanager
def proxied(server_port: int) -> Iterator[Proxy]:
    """A proxy before a server's port."""
    proxy = Proxy(server_port)
    try:
        yield proxy
    finally:
        proxy.close()
