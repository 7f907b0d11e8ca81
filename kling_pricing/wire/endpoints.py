"""Endpoints: the host of a URL names the provider, and the path names the wire formats of the payloads.

Hosts and paths are data in `pricing_tables/`; `PriceBook.endpoint` looks a URL up there.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from kling_pricing.errors import KlingPricingError
from kling_pricing.wire.paths import unquoted

_URL = re.compile(
    r"(?i:https?)://(?:[^/?#@\\\s]*@)?(\[[^\]/?#@\\\s]*\]|[^/?#@:\\\s]+)(?::([0-9]*))?(|/[^?#\\\s]*)(?:[?#].*)?"
)

_LENIENT_URL = re.compile(r"(?:(?i:(https?|wss?)):[/\\]*|[/\\]{2,})([^/\\?#]*)([^?#]*)", re.DOTALL)
_BACKSLASH_USERINFO = re.compile(r"(?:(?i:https?|wss?):/*|//+)[^/?#]*\\[^/?#]*@")
_PLAIN_HOST = re.compile(r"\[[0-9a-f:.]+\]|[a-z0-9_-]+(?:\.[a-z0-9_-]+)*")
_HOST_PORT = re.compile(r"(?<=[^:]):[0-9]+$")
_HOST_AND_PORT = re.compile(r"(\[[^\]]*\]|[^:]*)(?::(.*))?", re.DOTALL)
_DEFAULT_PORTS = {"http": "80", "https": "443", "ws": "80", "wss": "443"}
"""The ports by scheme. aiohttp sends a POST to a ws or wss URL too, and to a URL without a scheme."""
_LINE_BREAKS = dict.fromkeys(map(ord, "\t\r\n"))
"""Characters that some clients drop from a URL."""
_INVISIBLE = dict.fromkeys([*range(0x20), 0x7F, 0xAD, 0x200B, 0x200C, 0x200D, 0x2060, 0xFEFF])
"""Characters that clients drop from a host."""


class Location(NamedTuple):
    """The host and path that a client may read in a URL.

    Attributes:
        host: in lower case, as ASCII, without a final dot.
        port: the port, also if it is the default of the scheme.
        path: the path as it is spelled, without query and fragment.
    """

    host: str
    port: str
    path: str

    @property
    def parts(self) -> list[str]:
        """The path, split at its slashes."""
        return [part for part in self.path.split("/") if part]

    def provider(self, hosts: Mapping[str, str]) -> str | None:
        """Returns the provider that bills at the host; None if the host is unknown."""
        return hosts.get(f"{self.host}:{self.port}") or hosts.get(self.host)


class Submission(NamedTuple):
    """A path that takes payloads.

    Attributes:
        path: the path as the API documents it, such as `/v1/videos`.
        wire_format: the wire format of the payloads.
        actions: the actions that it performs; empty if the payload decides.
        source: where the path is published.
        status: the path that returns a task, with `{task_id}` in it; None if unknown.
        cancel: the path that cancels a task; None if unknown.
        other_status: further paths that return a task.
        model: the model of payloads that name none, as this wire format writes it; None: there is no such
            model.
        models: the models that it accepts, as this wire format writes them; empty: any model.
    """

    path: str
    wire_format: str
    actions: tuple[str, ...]
    source: str
    status: str | None = None
    cancel: str | None = None
    other_status: tuple[str, ...] = ()
    model: str | None = None
    models: tuple[str, ...] = ()


class Endpoint(NamedTuple):
    """The provider and the wire formats that a URL stands for.

    Attributes:
        provider: the provider that bills; None if no table lists the host.
        submissions: the submissions at that path, one for each wire format; only those in the provider's own
            formats if it has any; empty if the path is not a known submission.
        host: the host of the URL, in lower case and without a port; empty: not known.
    """

    provider: str | None
    submissions: tuple[Submission, ...]
    host: str = ""

    @property
    def is_submission(self) -> bool:
        """Whether a POST to the URL submits a job; False for the path of a status or a cancellation."""
        return bool(self.submissions)

    @property
    def wire_formats(self) -> tuple[str, ...]:
        """The wire formats of the payloads; if there are several, the payload decides."""
        return tuple([submission.wire_format for submission in self.submissions])

    def submission(self, wire_format: str) -> Submission | None:
        """Returns the submission in a wire format; None if there is none."""
        return next((entry for entry in self.submissions if entry.wire_format == wire_format), None)


def endpoint(
    url: str,
    hosts: Mapping[str, str],
    paths: Mapping[str, tuple[Submission, ...]],
    formats: Mapping[str, tuple[str, ...]],
) -> Endpoint:
    """Returns the endpoint of a URL.

    Args:
        url: the URL that a payload is posted to, with scheme and host; a query and a fragment are ignored.
        hosts: host, or host and port (`localhost:8080`), -> provider.
        paths: path -> the submissions at that path.
        formats: provider -> the wire formats of its API.

    Raises:
        KlingPricingError: the URL is not an http or https URL.
    """
    location = _location(url)
    provider, submissions = location.provider(hosts), paths.get(location.path)
    if submissions is None:
        return endpoint_at(provider, location.parts, paths, formats, location.host)
    return _endpoint(provider, submissions, formats, location.host)


def endpoint_at(
    provider: str | None,
    parts: Sequence[str],
    paths: Mapping[str, tuple[Submission, ...]],
    formats: Mapping[str, tuple[str, ...]],
    host: str = "",
) -> Endpoint:
    """Returns the endpoint of a provider at a path, which is split at its slashes; see `endpoint`."""
    # A gateway may serve the API below a prefix of its own, so the longest known end of the path counts.
    ends = ("/" + "/".join(parts[start:]) for start in range(len(parts)))
    return _endpoint(provider, next((paths[end] for end in ends if end in paths), ()), formats, host)


def _endpoint(
    provider: str | None,
    submissions: tuple[Submission, ...],
    formats: Mapping[str, tuple[str, ...]],
    host: str,
) -> Endpoint:
    provider_formats = formats.get(provider or "", ())
    own = tuple([entry for entry in submissions if entry.wire_format in provider_formats])
    return Endpoint(provider, own or submissions, host)


def provider_and_path(url: Any, hosts: Mapping[str, str]) -> tuple[str | None, list[str]]:
    """Returns the provider at a URL's host, None if unknown, and the URL's path, split at its slashes.

    Adjacent slashes count as one, as they do on most servers.

    Raises:
        KlingPricingError: the URL is not an http or https URL.
    """
    location = _location(url)
    return location.provider(hosts), location.parts


def _location(url: Any) -> Location:
    """Returns the host and the path of a URL; raises as `provider_and_path` does."""
    match = _URL.fullmatch(url) if isinstance(url, str) else None
    if match is None:  # the message does not repeat the URL, which may contain a key
        raise KlingPricingError(
            "url must be the http or https URL that the request is posted to, "
            "such as https://api.example.com/v1/videos"
        )
    port = _normalized_port(match[2], url.partition(":")[0].lower())
    return Location(normalized_host(match[1]), port, match[3])


def locations(url: str) -> tuple[Location, ...]:
    """Returns every host and path that a client may read in a URL, however the URL is spelled.

    Usually there is one. There are two if a backslash may end the host. There is none if the text is not a URL
    to which a client sends an HTTP request.
    """
    text = url.strip().translate(_LINE_BREAKS)
    texts = [text]
    if _BACKSLASH_USERINFO.match(
        text
    ):  # some clients end the host at the backslash, others take it for userinfo
        texts.append(text.replace("\\", "%5C"))
    found: list[Location] = []
    for spelling in texts:
        if match := _LENIENT_URL.match(spelling):
            host, port = _HOST_AND_PORT.findall(match[2].rpartition("@")[2])[0]
            port = _normalized_port(unquoted(port), (match[1] or "http").lower())
            found.append(Location(normalized_host(host), port, match[3]))
    return tuple(dict.fromkeys(found))


def possible_provider(url: str, hosts: Mapping[str, str]) -> str | None:
    """Returns a provider at whose host a client may find itself with a URL whose host cannot be read.

    The host of such a URL is missing or is not the name or address of a host, as in `https://[api.example.com`
    and `https://api.example.com:443:443`. A client that reads it in its own way may find a host that bills.

    Args:
        url: the URL.
        hosts: host, or host and port -> provider.

    Returns:
        The provider; None: the URL has one clear host, or it contains the name of none of these hosts.
    """
    places = locations(url)
    if len(places) == 1 and _PLAIN_HOST.fullmatch(places[0].host):
        return None
    spelled = (url.translate(_LINE_BREAKS).lower(), normalized_host(url), normalized_host(unquoted(url)))
    return next(
        (
            provider
            for host, provider in hosts.items()
            if any(_HOST_PORT.sub("", host) in text for text in spelled)
        ),
        None,
    )


def origin(url: str) -> tuple[str, str, str] | None:
    """Returns the scheme, host and port of a URL; None: clients may read more than one in it, or none."""
    match = _URL.fullmatch(url)
    if match is None:
        return None
    scheme = url.partition(":")[0].lower()
    return scheme, normalized_host(match[1]), _normalized_port(match[2], scheme)


def normalized_host(host: str) -> str:
    """Returns a host in the spelling in which hosts are looked up: ASCII, lower case, without a final dot."""
    if not host.isascii() or "%" in host:
        host = unicodedata.normalize("NFKC", unquoted(host)).translate(_INVISIBLE)
        with suppress(UnicodeError):  # not an international name, so no table lists it
            host = host.encode("idna").decode()
    return host.strip().lower().rstrip(".")


def _normalized_port(port: str | None, scheme: str) -> str:
    """Returns a port as clients read it: as Python reads a number, with signs, spaces and foreign digits."""
    if not port:
        return _DEFAULT_PORTS[scheme]
    with suppress(ValueError):
        return str(int(port))
    return port
