"""Endpoints: the host of a URL names the provider, and the path names the wire formats of the payloads.

Hosts and paths are data in `pricing_tables/`; `PriceBook.endpoint` looks a URL up there.
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
        path: the path as the API documents it, such as `/v1/videos`.
        wire_format: the wire format of the payloads.
        actions: the actions that it performs; empty if the payload decides.
        source: where the path is published.
        status: the path that returns a task, with `{task_id}` in it; None if unknown.
        cancel: the path that cancels a task; None if unknown.
        other_status: further paths that return a task.
    """

    path: str
    wire_format: str
    actions: tuple[str, ...]
    source: str
    status: str | None = None
    cancel: str | None = None
    other_status: tuple[str, ...] = ()


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
        """Whether a POST to the URL submits a job, which a status, cancellation or unknown path does not."""
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
    provider, parts = provider_and_path(url, hosts)
    return endpoint_at(provider, parts, paths, formats)._replace(host=_host(_match(url)))


def endpoint_at(
    provider: str | None,
    parts: Sequence[str],
    paths: Mapping[str, tuple[Submission, ...]],
    formats: Mapping[str, tuple[str, ...]],
) -> Endpoint:
    """Returns the endpoint of a provider at a path, which is split at its slashes; see `endpoint`."""
    # A gateway may serve the API below a prefix of its own, so the longest known end of the path counts.
    ends = ("/" + "/".join(parts[start:]) for start in range(len(parts)))
    submissions = next((paths[end] for end in ends if end in paths), ())
    provider_formats = formats.get(provider or "", ())
    own = tuple([entry for entry in submissions if entry.wire_format in provider_formats])
    return Endpoint(provider, own or submissions)


def provider_and_path(url: Any, hosts: Mapping[str, str]) -> tuple[str | None, list[str]]:
    """Returns the provider at a URL's host, None if unknown, and the URL's path, split at its slashes.

    Adjacent slashes count as one, as they do on most servers.

    Raises:
        KlingPricingError: the URL is not an http or https URL.
    """
    match = _match(url)
    host, port = _host(match), match[2] or ("443" if url[:5].lower() == "https" else "80")
    return hosts.get(f"{host}:{port}") or hosts.get(host), [part for part in match[3].split("/") if part]


def _match(url: Any) -> re.Match[str]:
    """Returns the parts of a URL; raises as `provider_and_path` does."""
    match = _URL.fullmatch(url) if isinstance(url, str) else None
    if match is None:  # the message does not repeat the URL, which may contain a key
        raise KlingPricingError(
            "url must be the http or https URL that the request is posted to, "
            "such as https://api.example.com/v1/videos"
        )
    return match


def _host(match: re.Match[str]) -> str:
    return match[1].lower().rstrip(".")
