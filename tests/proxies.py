"""A proxy between a client and a server that can lose a response or silently lose the connection."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

READY = b"Z\x00\x00\x00\x05I"
"""The end of a PostgreSQL server's response outside a transaction: the request is committed."""


class Proxy:
    """Forwards the traffic between clients and a server on this machine, and cuts connections on request.

    Attributes:
        port: the port that clients connect to.
        cuts: the number of connections that were cut.
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

    def lose_response_to(self, marker: bytes, *, silently: bool = False) -> None:
        """Cuts the next connection that sends the marker, once the server has carried out its request.

        Args:
            marker: bytes of the request.
            silently: whether the client is left waiting instead of seeing a closed connection.
        """
        self._silently, self._marker = silently, marker

    def takes(self, request: bytes) -> bool:
        """Returns whether a request contains the marker; if it does, its connection will be cut."""
        if self._marker is None or self._marker not in request:
            return False
        self._marker = None
        self.cuts += 1
        return True

    @property
    def is_silent(self) -> bool:
        """Whether clients are left waiting after a cut."""
        return self._silently

    def close(self) -> None:
        """Ends all connections and accepts no more."""
        _end(self._listening)  # closing it alone would not wake the thread that waits in `accept`
        self._accepting.join()
        self._listening.close()
        for connection in self._connections:
            connection.close()

    def _accept(self) -> None:
        with suppress(OSError):  # the listening socket was shut down
            while True:
                client, _ = self._listening.accept()
                try:
                    server = socket.create_connection(("127.0.0.1", self._server_port))
                except OSError:  # no server is running now
                    client.close()
                    continue
                self._connections.append(_Connection(self, client, server))


class _Connection:
    """One connection of a client, forwarded in both directions.

    When one side ends or fails, both are shut down: a socket that is only closed while another thread waits in
    it stays open, and the other side would never notice.
    """

    def __init__(self, proxy: Proxy, client: socket.socket, server: socket.socket) -> None:
        self._proxy, self._client, self._server = proxy, client, server
        self._cut = threading.Event()
        self._threads = [threading.Thread(target=self._forward), threading.Thread(target=self._return)]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Ends both sides."""
        _end(self._client, self._server)
        for thread in self._threads:
            thread.join()

    def _forward(self) -> None:
        """Forwards requests to the server."""
        with self._client, suppress(OSError):
            while request := self._client.recv(65536):
                if self._proxy.takes(request):
                    self._cut.set()
                self._server.sendall(request)
        if not self._cut.is_set():
            _end(self._client, self._server)

    def _return(self) -> None:
        """Returns responses to the client until the connection is cut."""
        with self._server, suppress(OSError):
            while response := self._server.recv(65536):
                if not self._cut.is_set():
                    self._client.sendall(response)
                elif response.endswith(READY):
                    break
        if not (self._cut.is_set() and self._proxy.is_silent):
            _end(self._client, self._server)


def _end(*sockets: socket.socket) -> None:
    """Shuts sockets down; has no effect on a socket that is already down."""
    for open_socket in sockets:
        with suppress(OSError):
            open_socket.shutdown(socket.SHUT_RDWR)


@contextmanager
def proxied(server_port: int) -> Iterator[Proxy]:
    """Runs a proxy in front of a server's port."""
    proxy = Proxy(server_port)
    try:
        yield proxy
    finally:
        proxy.close()
