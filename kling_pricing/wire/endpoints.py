"""Where a payload is sent, and what that says of it: the host tells who bills, the path what is written there.

Hosts and paths are data in `pricing_tables/`; `PriceBook.endpoint` looks a URL up in them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from kling_pricing.errors import KlingPricingError

_URL = re.compile(
    r"(?i:https?)://(?:[^/?#@\\\s]*@)?(\[[^\]/?#@\\\s]*\]|[^/?#@:\\\s]+)(?::([0-9]*))?(|/[^?#\\\s]*)(?:[?#].*)?"
)


class Submission(NamedTuple):
    """A path that takes payloads.

    Attributes:
        path: as the API documents it, such as `/v1/videos`.
        wire_format: the format of the payloads.
        actions: what it makes; empty: the payload says.
        source: where that was published.
        status: the path at which a task can be asked for, with `{task_id}` in it; None: none is known.
        cancel: the path at which it can be cancelled.
    """

    path: str
    wire_format: str
    actions: tuple[str, ...]
    source: str
    status: str | None = None
    cancel: str | None = None


class Endpoint(NamedTuple):
    """What a URL says of the payloads that are posted to it.

    Attributes:
        provider: who bills; None when no table lists the host.
        submissions: what can be submitted there, one for each wire format, those of the host's provider
            alone where it speaks any of them; empty when nothing is known to be.
    """

    provider: str | None
    submissions: tuple[Submission, ...]

    @property
    def is_submission(self) -> bool:
        """Whether a POST to it submits a job; a status, a cancellation and an unknown path do not."""
        return bool(self.submissions)

    @property
    def wire_formats(self) -> tuple[str, ...]:
        """The formats of the payloads submitted there; several where the payload has to tell."""
        return tuple([each.wire_format for each in self.submissions])

    def submission(self, wire_format: str) -> Submission | None:
        """What is submitted there in a wire format; None when nothing is."""
        return next((each for each in self.submissions if each.wire_format == wire_format), None)


def endpoint(
    url: str,
    hosts: Mapping[str, str],
    paths: Mapping[str, tuple[Submission, ...]],
    formats: Mapping[str, tuple[str, ...]],
) -> Endpoint:
    """What a URL says.

    Args:
        url: where a payload is posted to, with its scheme and host; what follows the path is of no account.
        hosts: host, or host and port (`localhost:8080`), -> provider.
        paths: path -> what can be submitted there.
        formats: provider -> the wire formats its API speaks.

    Raises:
        KlingPricingError: it is no http or https URL.
    """
    provider, parts = place(url, hosts)
    return endpoint_at(provider, parts, paths, formats)


def endpoint_at(
    provider: str | None,
    parts: Sequence[str],
    paths: Mapping[str, tuple[Submission, ...]],
    formats: Mapping[str, tuple[str, ...]],
) -> Endpoint:
    """What a path says, taken apart at its slashes; see `endpoint`."""
    # A gateway may put the API below a folder of its own, so the longest known end of the path counts.
    ends = ("/" + "/".join(parts[start:]) for start in range(len(parts)))
    found = next((paths[end] for end in ends if end in paths), ())
    own = tuple([each for each in found if each.wire_format in formats.get(provider or "", ())])
    return Endpoint(provider, own or found)


def place(url: Any, hosts: Mapping[str, str]) -> tuple[str | None, list[str]]:
    """Who bills at a URL's host, if that is known, and the parts of the URL's path.

    Slashes that stand side by side count as one, as they do for most servers.

    Raises:
        KlingPricingError: it is no http or https URL.
    """
    match = _URL.fullmatch(url) if isinstance(url, str) else None
    if match is None:  # the message does not repeat it: a URL may carry a key
        raise KlingPricingError(
            "url must be the http or https URL that the request is posted to, "
            "such as https://api.example.com/v1/videos"
        )
    host = match[1].lower().rstrip(".")
    port = match[2] or ("443" if url[:5].lower() == "https" else "80")
    return hosts.get(f"{host}:{port}") or hosts.get(host), [part for part in match[3].split("/") if part]
