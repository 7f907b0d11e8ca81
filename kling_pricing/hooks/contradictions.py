"""Detects requests in which a header or the request target contradicts the URL or the method.

A client connects to the host in the URL, but a proxy or server may act on the Host header (`:authority` in
HTTP/2), the request target or a method override instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple
from urllib.parse import urljoin

_METHOD_HEADERS = ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override")
"""Headers whose values some servers use instead of the method of a request."""


class OtherReading(NamedTuple):
    """Another method and URL that a server may read from a request.

    Attributes:
        method: the method, in upper case.
        url: the URL, with scheme and host.
        due_to: the part of the request that causes this reading, such as "the Host header".
    """

    method: str
    url: str
    due_to: str


def other_readings(
    method: str, url: str, headers: Mapping[str, str], target: str | None
) -> Iterator[OtherReading]:
    """Yields every other method and URL that a server may read from a request.

    Args:
        method: the method, in upper case.
        url: the URL.
        headers: the headers; their names are not case-sensitive.
        target: the request target, if the caller set one; None: the path and query of the URL.
    """
    urls = {url: ""}
    if target is not None:
        urls[target if "://" in target else urljoin(url, "/") + target.lstrip("/")] = "the request target"
    for host in (headers.get("Host") or "").split(","):
        if host.strip() and not _names(url, host.strip()):
            urls |= {_at_host(host.strip(), each): "the Host header" for each in list(urls)}
    for each, due_to in urls.items():
        if due_to:
            yield OtherReading(method, each, due_to)
    for name in _METHOD_HEADERS:
        if replacement := headers.get(name):
            for each in urls:
                yield OtherReading(replacement.strip().upper(), each, f"the header {name}")


def _names(url: str, host: str) -> bool:
    """Returns whether a URL contains exactly this host and port."""
    return url.partition("://")[2].partition("/")[0] == host


def _at_host(host: str, url: str) -> str:
    scheme, separator, rest = url.partition("://")
    slash = rest.find("/")
    return f"{scheme}{separator}{host}{rest[slash:] if slash >= 0 else '/'}"
