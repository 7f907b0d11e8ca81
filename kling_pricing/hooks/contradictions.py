"""Requests whose headers or target name another host, path or method than their URL.

A client connects to the host of the URL. A proxy or a server may go by the Host header (`:authority` in HTTP/2)
or by the target of the request instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple
from urllib.parse import urljoin

_METHOD_HEADERS = ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override")
"""Headers by which some servers replace the method of a request."""


class OtherReading(NamedTuple):
    """Another way in which a server may read a request.

    Attributes:
        method: in capitals.
        url: with scheme and host.
        due_to: the part of the request that causes this reading, in words.
    """

    method: str
    url: str
    due_to: str


def other_readings(
    method: str, url: str, headers: Mapping[str, str], target: str | None
) -> Iterator[OtherReading]:
    """Yields every way in which a server may read a request besides its method and URL.

    Args:
        method: in capitals.
        url: the URL.
        headers: the headers; their names have no case.
        target: the target of the request, if the caller replaced it; None: it is the URL's path.
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
    """Returns whether a URL names a host in the usual spelling."""
    return url.partition("://")[2].partition("/")[0] == host


def _at_host(host: str, url: str) -> str:
    scheme, separator, rest = url.partition("://")
    slash = rest.find("/")
    return f"{scheme}{separator}{host}{rest[slash:] if slash >= 0 else '/'}"
