"""A network between client and server that loses an answer."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

READY = b"Z\x00\x00\x00\x05I"
"""How a server of PostgreSQL says that it is done, outside a transaction: what was asked is committed."""


class Proxy:
    """Passes on what a client and a server on this machine say, until it is told to cut in.

    Attributes:
        port: where clients connect.
        cuts: how many answers were lost.
    """

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self.cuts = 0
        self._marker: bytes | None = None
        threading.Thread(target=self._accept, daemon=True).start()

    def lose_answer_to(self, marker: bytes) -> None:
        """Cuts the next connection that asks for something with this in it, when the server has done it."""
        self._marker = marker

    def close(self) -> None:
        """Takes no more connections."""
        self._listening.close()

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                client, _ = self._listening.accept()
                server = socket.create_connection(("127.0.0.1", self._server_port))
                cut = threading.Event()
                threading.Thread(target=self._ask, args=(client, server, cut), daemon=True).start()
                threading.Thread(target=self._answer, args=(server, client, cut), daemon=True).start()

    def _ask(self, client: socket.socket, server: socket.socket, cut: threading.Event) -> None:
        with suppress(OSError), server:
            while said := client.recv(65536):
                if self._marker is not None and self._marker in said:
                    self._marker = None
                    self.cuts += 1
                    cut.set()
                server.sendall(said)
            server.shutdown(socket.SHUT_RDWR)

    def _answer(self, server: socket.socket, client: socket.socket, cut: threading.Event) -> None:
        with suppress(OSError), client:
            while said := server.recv(65536):
                if cut.is_set():
                    if said.endswith(READY):
                        break
                    continue
                client.sendall(said)
            client.shutdown(socket.SHUT_RDWR)


@contextmanager
def proxied(server_port: int) -> Iterator[Proxy]:
    """A proxy before a server's port."""
    proxy = Proxy(server_port)
    try:
        yield proxy
    finally:
        proxy.close()
