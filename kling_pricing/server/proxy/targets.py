"""Where a request goes: the URL at the upstream, from a path that every server reads in the same way."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import unquote_plus

from kling_pricing.display import did_you_mean, shown
from kling_pricing.errors import KlingPricingError
from kling_pricing.server.upstreams import Upstream
from kling_pricing.wire.paths import Segments, literal_segments

PREFIX = "/p/"

_SEGMENT = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,=:@-]|%(?![01]|2[eEfF5]|3[bB]|5[cC]|7[fF])[0-9A-Fa-f]{2})+")
"""A part of a path without anything that one server decodes and another does not: `%2e`, `%2f`, `%25`, `;`."""

_QUERY = re.compile(r"[\x21\x24-\x7e]*")
_MAX_CHARS = 8_000
_SECRET_PARAMETER = re.compile(
    r"(?!.*(?:page|next|cursor|continuation))(?:.*[_.-])?(?:api|access|auth|secret|subscription)?[_.-]?(?:key|token|secret|signature|sig|password|"
    r"credentials?|authorization|jwt)",
    re.IGNORECASE,
)


class Target(NamedTuple):
    """The destination of a request.

    Attributes:
        upstream: the account at the provider.
        url: the URL to which the request is sent.
        segments: the parts of the path after the upstream's base URL, decoded.
        query: the query that is sent.
    """

    upstream: Upstream
    url: str
    segments: Segments
    query: str


class TargetError(KlingPricingError):
    """The path of a request cannot be passed on.

    Attributes:
        status: the HTTP status of the response: 404 for an unknown upstream, else 400.
    """

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status


def upstream_of(scope: Mapping[str, Any], known: Mapping[str, Upstream]) -> Upstream:
    """Returns the upstream in the path of a request.

    Raises:
        TargetError: there is no such upstream.
    """
    name = scope["path"].removeprefix(PREFIX).partition("/")[0]
    if name not in known:
        remedy = (
            did_you_mean(name, [*known]) if known else "the server has no upstreams; add one to its settings"
        )
        raise TargetError(f"unknown upstream {shown(name)}; {remedy}", status=404)
    return known[name]


def target_of(scope: Mapping[str, Any], upstream: Upstream) -> Target:
    """Returns the destination of a request below an upstream.

    Raises:
        TargetError: servers may read the path in different ways, or it is too long.
    """
    raw = scope["raw_path"].decode("latin-1")
    prefix = f"{PREFIX}{upstream.name}"
    path = raw.removeprefix(prefix)
    parts = path[1:].removesuffix("/").split("/") if len(path) > 1 else []
    if (
        not raw.startswith(prefix)
        or (path and not path.startswith("/"))
        or not all(_SEGMENT.fullmatch(part) and part not in {".", ".."} for part in parts)
    ):
        raise TargetError(
            "servers may read this path in different ways, so the request was not passed on; write the path in "
            "its plain form, without dots, double slashes and encoded slashes",
            status=400,
        )
    query = scope["query_string"].decode("latin-1")
    if not _QUERY.fullmatch(query) or len(raw) + len(query) > _MAX_CHARS:
        raise TargetError("the URL is too long or has invalid characters; shorten or encode it", status=400)
    kept = "&".join(
        part
        for part in query.split("&")
        if part and not _SECRET_PARAMETER.fullmatch(unquote_plus(part.partition("=")[0]).strip())
    )
    return Target(upstream, f"{upstream.url}{path}{f'?{kept}' if kept else ''}", literal_segments(path), kept)
