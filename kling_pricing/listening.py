"""The sockets on which the server and the sandbox listen."""

from __future__ import annotations

import socket

from kling_pricing.errors import KlingPricingError

BACKLOG = 2048
"""The number of connections that may wait until they are accepted."""


def listen(host: str, port: int) -> socket.socket:
    """Returns a listening socket.

    Raises:
        KlingPricingError: the address cannot be used.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sets TCP_NODELAY only on sockets with an explicit protocol
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(BACKLOG)
    except (OSError, OverflowError) as error:
        listening.close()
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        raise KlingPricingError(
            f"cannot listen on {host}:{port}: {reason}; choose another host or port (port 0 chooses a free "
            "port)"
        ) from None
    return listening
