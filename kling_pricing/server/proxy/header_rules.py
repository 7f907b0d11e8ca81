"""Which headers pass: nothing of a caller's credentials goes up, and no cookie comes back."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from http import HTTPStatus

_HOP_BY_HOP = {
    *("connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection"),
    *("te", "trailer", "trailers", "transfer-encoding", "upgrade", "http2-settings", "expect"),
}
_NEVER_UP = {
    *("host", "content-length", "cookie", "cookie2", "authorization", "forwarded", "via", "x-real-ip"),
    *("idempotency-key", "origin", "referer", "x-http-method-override", "x-http-method", "x-method-override"),
    *("x-original-url", "x-rewrite-url", "x-original-uri", "x-original-host", "x-original-method", "x-host"),
}
_SECRET = re.compile(
    r"(?:^|-)(?:authorization|auth|api-?key|access-?key|token|secret|jwt|password|cookie)(?:-|$)"
)
_DESCRIBING_THE_BODY = {"content-type", "content-encoding", "content-range", "content-md5", "digest"}
_NEVER_DOWN = {
    *("set-cookie", "set-cookie2", "content-length", "date", "server", "www-authenticate", "clear-site-data"),
    *("strict-transport-security", "alt-svc", "refresh", "service-worker-allowed", "content-security-policy"),
    *("content-security-policy-report-only", "x-content-type-options", "report-to", "nel", "public-key-pins"),
    *("reporting-endpoints", "x-frame-options"),
}
_LOWEST_STATUS, _HIGHEST_STATUS = 200, 599
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_UNSAFE_VALUE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_OWN = "x-kling-pricing-"
_FORWARDED = "x-forwarded-"
_MULTIPART = "multipart/"
_JSON_TYPE = re.compile(r"application/(?:[a-z0-9.-]+\+)?json(?:\s*;\s*charset=\"?utf-8\"?)?", re.IGNORECASE)

ISOLATION = (
    ("x-content-type-options", "nosniff"),
    ("content-security-policy", "sandbox; default-src 'none'"),
)
"""Headers of every response below `/p/`: a browser runs nothing of a provider's answer as the server's own."""


def sent_headers(headers: Iterable[tuple[bytes, bytes]]) -> Iterator[tuple[str, str]]:
    """Yields the headers of a request that go to the provider, with lower-case names.

    Some servers read `x_api_key` as `x-api-key`, so the same rules apply to both spellings.
    """
    decoded = [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in headers]
    named = _named_by_connection(decoded)
    for name, value in decoded:
        spelled = name.replace("_", "-")
        if (
            spelled in _HOP_BY_HOP
            or spelled in _NEVER_UP
            or name in named
            or spelled.startswith((_OWN, _FORWARDED))
            or _SECRET.search(spelled)
        ):
            continue
        yield name, value


_NEVER_RELAYED = {"host", "content-length", "cookie", "cookie2", "forwarded", "via", "x-real-ip"}


def relayed_headers(headers: Iterable[tuple[bytes, bytes]]) -> Iterator[tuple[str, str]]:
    """Yields the headers of a provider's callback that its caller gets, with lower-case names.

    Signatures pass, in whichever header the provider sends them.
    """
    decoded = [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in headers]
    dropped = _HOP_BY_HOP | _NEVER_RELAYED | _named_by_connection(decoded)
    for name, value in decoded:
        if name not in dropped and not name.startswith((_OWN, _FORWARDED)):
            yield name, value


def as_read(headers: Mapping[str, str], content_type: str) -> dict[str, str]:
    """Returns the headers of a submission such that the provider reads the body as it was priced.

    A body that is priced as JSON could have another meaning as a form, compressed or in another charset.

    Args:
        headers: the headers that go to the provider, with lower-case names.
        content_type: the Content-Type of the request; empty: it has none.
    """
    kept = {
        name: value for name, value in headers.items() if name.replace("_", "-") not in _DESCRIBING_THE_BODY
    }
    stated = content_type.strip()
    is_known = stated.lower().startswith(_MULTIPART) or _JSON_TYPE.fullmatch(stated)
    return {**kept, "content-type": stated if is_known else "application/json"}


def returned_headers(headers: Iterable[tuple[bytes, bytes]]) -> Iterator[tuple[str, str]]:
    """Yields the headers of a provider's response that the caller gets, with lower-case names."""
    decoded = [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in headers]
    named = _named_by_connection(decoded)
    for name, value in decoded:
        if (
            name in _HOP_BY_HOP
            or name in _NEVER_DOWN
            or name in named
            or name.startswith((_OWN, "access-control-"))
            or not _NAME.fullmatch(name)
            or _UNSAFE_VALUE.search(value)
        ):
            continue
        yield name, value
    yield from ISOLATION


def returned_status(status: int) -> int:
    """Returns the HTTP status that the caller gets: that of the provider, or 502 if it is none of HTTP."""
    return status if _LOWEST_STATUS <= status <= _HIGHEST_STATUS else HTTPStatus.BAD_GATEWAY


def _named_by_connection(headers: Iterable[tuple[str, str]]) -> set[str]:
    """Returns the names of the headers that the header `Connection` declares as concerning one hop only."""
    return {
        part.strip().lower()
        for name, value in headers
        if name in {"connection", "proxy-connection"}
        for part in value.split(",")
    }


def safe_value(text: str) -> str:
    """Returns text for the value of a header: without line breaks, and in ASCII."""
    return _UNSAFE_VALUE.sub(" ", text).encode("ascii", "backslashreplace").decode()


def merged(*parts: Mapping[str, str]) -> dict[str, str]:
    """Returns headers in which later ones replace earlier ones of the same name, whatever its case."""
    found: dict[str, str] = {}
    for part in parts:
        found |= {name.lower(): value for name, value in part.items()}
    return found
