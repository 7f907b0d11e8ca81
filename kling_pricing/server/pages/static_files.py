"""The style, the script and the icon of the pages. Their URLs have digests of their content."""

from __future__ import annotations

from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import NamedTuple

from starlette.requests import Request
from starlette.responses import Response

from kling_pricing.reports.formats.html import palette

_TYPES = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
_DIGEST_CHARS = 16
_NOT_FOUND = 404


class StaticFile(NamedTuple):
    """A file that browsers may keep for ever, because another content has another URL.

    Attributes:
        url: its path on the server.
        content: its content.
        media_type: its media type.
    """

    url: str
    content: bytes
    media_type: str


@cache
def static_files() -> dict[str, StaticFile]:
    """Returns the files by name, such as `pages.css`."""
    found = {}
    for file in files(__package__).joinpath("static").iterdir():
        stem, _, ending = file.name.rpartition(".")
        if ending in _TYPES:
            content = file.read_bytes()
            if ending == "css":
                content = palette().encode() + content
            digest = sha256(content).hexdigest()[:_DIGEST_CHARS]
            found[file.name] = StaticFile(f"/static/{stem}.{digest}.{ending}", content, _TYPES[ending])
    return found


def static_url(name: str) -> str:
    """Returns the URL of a file by its name."""
    return static_files()[name].url


def static_answer(request: Request) -> Response:
    """Answers a request for a file. Nobody needs to sign in for it."""
    path = request.url.path
    for file in static_files().values():
        if file.url == path:
            headers = {
                "cache-control": "public, max-age=31536000, immutable",
                "x-content-type-options": "nosniff",
            }
            return Response(file.content, headers=headers, media_type=file.media_type)
    return Response("there is no such file", _NOT_FOUND, media_type="text/plain")
