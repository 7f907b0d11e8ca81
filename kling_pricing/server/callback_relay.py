"""Sends callbacks of providers on to callers, and reaches no address that is not public."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from kling_pricing.errors import KlingPricingError

_log = logging.getLogger("kling_pricing.server")

_ATTEMPTS = 2
_PAUSE_S = 1
_MAX_SENDING = 64
"""The largest number of callbacks that are sent on at the same time."""

_SUCCESS = range(200, 300)
_NAT64 = ip_network("64:ff9b::/96")
"""IPv6 addresses that a gateway translates into the IPv4 address in their last four bytes."""

_TRANSLATED = tuple(map(ip_network, ("::/96", "::ffff:0:0:0/96", "64:ff9b:1::/48", "5f00::/16")))
"""IPv6 networks that may lead into a private network, although some versions of Python call them public."""


class RelayError(KlingPricingError):
    """A callback has not reached its caller. The provider must send it again."""


class CallbackRelay:
    """Sends callbacks to URLs of callers.

    Args:
        networks: networks that are not public but may be reached, such as `10.1.0.0/16`.
        timeout_s: the seconds in which a receiver must accept a callback. Providers wait only some seconds.
    """

    def __init__(self, networks: Sequence[str], timeout_s: int) -> None:
        self._timeout_s = timeout_s
        self._networks = [ip_network(network) for network in networks]
        self._sending = 0

    async def send(self, url: str, body: bytes, headers: Iterable[tuple[str, str]]) -> None:
        """Posts a callback, and returns once its receiver has accepted it.

        Redirects are not followed. A second attempt is made only if there was no connection, so that the
        receiver gets one callback once.

        Raises:
            RelayError: the receiver was not reached, did not accept the callback or did not answer in time.
        """
        if self._sending >= _MAX_SENDING:
            raise RelayError("too many callbacks are being sent on")
        self._sending += 1
        try:
            for attempt in range(_ATTEMPTS):
                try:
                    status = await self._posted(url, body, headers)
                except aiohttp.ClientConnectorError:
                    if attempt + 1 < _ATTEMPTS:
                        await asyncio.sleep(_PAUSE_S)
                    continue
                if status not in _SUCCESS:
                    raise RelayError(f"the receiver answered HTTP {status}")
                return
            raise RelayError("no connection to the receiver")
        except TimeoutError:
            raise RelayError(f"the receiver did not answer within {self._timeout_s} s") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise RelayError(f"the request failed: {type(error).__name__}") from None
        finally:
            self._sending -= 1

    async def _posted(self, url: str, body: bytes, headers: Iterable[tuple[str, str]]) -> int:
        """Posts a callback over a connection of its own, and returns the status of the response."""
        connector = aiohttp.TCPConnector(socket_factory=self._socket, force_close=True, use_dns_cache=False)
        async with (
            aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
                timeout=aiohttp.ClientTimeout(total=self._timeout_s),
            ) as session,
            session.post(
                URL(url, encoded=True), data=body, headers=CIMultiDict(headers), allow_redirects=False
            ) as response,
        ):
            return response.status

    def _socket(self, address: Any) -> socket.socket:
        """Returns a socket for an address that was just looked up, immediately before it is connected.

        Raises:
            OSError: the address is not public.
        """
        family, kind, protocol, _, place = address
        if not self._may_reach(place[0]):
            _log.warning("a callback was not sent on, because the address of its receiver is not public")
            raise OSError(errno.EACCES, "the address is not public")
        return socket.socket(family, kind, protocol)

    def _may_reach(self, address: str) -> bool:
        found = ip_address(address.partition("%")[0])
        meant = _embedded(found) or found
        return is_public(found) or any(
            meant in network for network in self._networks if network.version == meant.version
        )


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Returns whether an address belongs to the public Internet, as does the IPv4 address inside it, if any."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is None and address.is_site_local:
            return False
        if (embedded := _embedded(address)) is not None:
            return is_public(embedded)
        if any(address in network for network in _TRANSLATED):
            return False
    return address.is_global and not address.is_multicast


def _embedded(address: IPv4Address | IPv6Address) -> IPv4Address | None:
    """Returns the IPv4 address to which a packet to an IPv6 address may go in the end; None: there is none."""
    if isinstance(address, IPv4Address):
        return None
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
