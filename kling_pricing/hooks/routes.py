"""Classification of requests by method and URL: submissions, task requests, unlisted paths and all others."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import unquote

from kling_pricing.display import reportable, shown
from kling_pricing.errors import KlingPricingError
from kling_pricing.tables.price_table import PriceBook
from kling_pricing.wire.endpoints import Endpoint, endpoint_at, provider_and_path

_TASK_ID = "{task_id}"

_CREATING_METHODS = {"POST", "PUT", "PATCH"}
"""Methods that may create a job."""

_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9_-]+(?:\.[a-z0-9_-]+)*)\.?(?::([0-9]{1,5}))?")


class TaskEndpoint(NamedTuple):
    """The URL at which a task's status is requested or a task is cancelled.

    Attributes:
        provider: the provider of the task.
        task_id: the task's id, or the caller's own id where the API accepts that; empty: the URL lists tasks.
    """

    provider: str
    task_id: str


class UnlistedPath(NamedTuple):
    """A path at which the API may bill for jobs, but which no capability file lists, so its price is unknown.

    Attributes:
        path: the path of the URL.
        wire_format: the wire format of the API.
    """

    path: str
    wire_format: str

    def error(self, method: str) -> KlingPricingError:
        """Returns the error with which a request to the path is refused."""
        return KlingPricingError(
            f"{method} {shown(self.path)}: this API may bill for the request, but no capability file lists the "
            "path, so it has no price and was not sent; correct the path, or let it pass without a price with "
            f"allow_paths=[{shown(self.path)!r}]"
        )


class _TaskPath(NamedTuple):
    method: str
    parts: tuple[str, ...]


class _BilledPath(NamedTuple):
    """A path at and below which the API may bill for jobs."""

    parts: tuple[str, ...]
    wire_format: str


class Routes:
    """Classifies requests by the hosts and paths of a price book.

    Args:
        book: the price book with the hosts and paths.
        hosts: further hosts, with or without a port -> the provider that bills there.
        allow_paths: paths at and below which everything except listed submissions passes.

    Attributes:
        extra_providers: the providers of `hosts`.

    Raises:
        KlingPricingError: a host, its provider or a path is not valid.
    """

    def __init__(self, book: PriceBook, hosts: Mapping[str, str], allow_paths: Sequence[str] = ()) -> None:
        extra_hosts = dict(_normalized_hosts(hosts, book))
        self.extra_providers = frozenset(extra_hosts.values())
        self._book = book
        self._hosts = {**book.hosts, **extra_hosts}
        self._allowed = [_normalized_parts(path) for path in _checked_paths(allow_paths)]
        self._task_paths = [
            _TaskPath(method, tuple(path.strip("/").split("/")))
            for matrix in book.matrices.values()
            for submission in matrix.submissions
            for method, path in (
                ("GET", submission.status),
                *(("GET", path) for path in submission.other_status),
                ("POST", submission.cancel),
            )
            if path is not None
        ]
        self._submitted = [
            _BilledPath(_normalized_parts(path), submissions[0].wire_format)
            for path, submissions in book.paths.items()
        ]
        self._billed = {
            name: [_BilledPath(_normalized_parts(path), name) for path in matrix.http.billed_below]
            for name, matrix in book.matrices.items()
        }

    def find(self, method: str, url: str) -> Endpoint | UnlistedPath | TaskEndpoint | None:
        """Classifies a request; None: it passes untouched."""
        try:
            provider, parts = provider_and_path(url.replace("\\", "%5C"), self._hosts)
        except KlingPricingError:
            return None
        if provider is None:
            return None
        path = "/" + "/".join(parts)
        parts = [unquote(part) for part in parts]  # as servers read them
        endpoint = endpoint_at(provider, parts, self._book.paths, self._book.formats)
        if endpoint.is_submission and method == "POST":
            return endpoint
        task_id = None if endpoint.is_submission else self._task(method, parts)
        if task_id is None and self._lists_tasks(method, parts, endpoint):
            task_id = ""
        if task_id is not None:
            return TaskEndpoint(provider, task_id)
        return self._unlisted(provider, path) if method in _CREATING_METHODS else None

    def _unlisted(self, provider: str, path: str) -> UnlistedPath | None:
        """Returns a path at which the API may bill, however it is spelled; None: it is free or allowed."""
        parts = _normalized_parts(path)
        if any(_is_below(parts, allowed) for allowed in self._allowed):
            return None
        billed = [path for name in self._book.formats.get(provider, ()) for path in self._billed[name]]
        above = next((path for path in (*billed, *self._submitted) if _is_below(parts, path.parts)), None)
        return None if above is None else UnlistedPath(path, above.wire_format)

    def _lists_tasks(self, method: str, parts: Sequence[str], endpoint: Endpoint) -> bool:
        """Returns whether the answer lists tasks: a GET of a submission path, or a path that is for that."""
        if endpoint.is_submission:
            return method == "GET"
        formats = self._book.formats.get(endpoint.provider or "", ())
        lists = [path for name in formats for path in self._book.matrices[name].http.task_lists]
        return method in {"GET", "POST"} and any(_ends_with(parts, path) for path in lists)

    def _task(self, method: str, parts: Sequence[str]) -> str | None:
        """Returns the task id in a task's path, with any prefix before it; None: it is not a task's path."""
        for path in self._task_paths:
            end = parts[-len(path.parts) :]
            if (
                path.method == method
                and len(end) == len(path.parts)
                and all(pattern in {_TASK_ID, part} for pattern, part in zip(path.parts, end, strict=True))
            ):
                return end[path.parts.index(_TASK_ID)]
        return None


def _normalized_parts(path: str) -> tuple[str, ...]:
    """Splits a path as the most lenient server reads it: decoded, lower-case, without parameters and dots."""
    parts: list[str] = []
    for part in unquote(path).replace("\\", "/").split("/"):
        name = part.partition(";")[0].strip().casefold()
        if name == "..":
            parts[-1:] = []
        elif name not in {"", "."}:
            parts.append(name)
    return tuple(parts)


def _is_below(parts: Sequence[str], above: Sequence[str]) -> bool:
    """Returns whether a path is at or below another one, with any prefix before both."""
    return any(
        tuple(parts[start : start + len(above)]) == above for start in range(len(parts) - len(above) + 1)
    )


def _ends_with(parts: Sequence[str], path: str) -> bool:
    end = path.strip("/").split("/")
    return [*parts[-len(end) :]] == end


def _checked_paths(paths: Any) -> Sequence[str]:
    if isinstance(paths, str) or not isinstance(paths, Sequence):
        raise KlingPricingError(
            f'allow_paths must be a list of paths, such as ["/v1/images"], got {shown(paths)}'
        )
    for path in paths:
        if not isinstance(path, str) or not path.startswith("/"):
            raise KlingPricingError(f"allow_paths: {shown(path)} is not a path; write it as /v1/images")
        if not _normalized_parts(path):
            raise KlingPricingError(
                f"allow_paths: {shown(path)} covers every path; list longer paths, such as /v1/images"
            )
    return paths


def _normalized_hosts(hosts: Any, book: PriceBook) -> Iterator[tuple[str, str]]:
    """Yields the caller's hosts in the spelling in which hosts are looked up, each with its provider."""
    if not isinstance(hosts, Mapping):
        raise KlingPricingError(f"hosts must be a mapping of host to provider, got {shown(hosts)}")
    for host, provider in hosts.items():
        if not book.knows(provider):
            raise KlingPricingError(f"hosts: {shown(host)}: {book.unknown_provider(provider)}")
        match = _HOST.fullmatch(host.lower()) if isinstance(host, str) else None
        if match is None:
            raise KlingPricingError(
                f"hosts: {reportable(host)!a} is not a host; write it as gw.example.com or localhost:8080, "
                "put an IPv6 address in brackets, write an international name as xn--..., and list each host "
                "separately"
            )
        yield match[1] + (f":{int(match[2])}" if match[2] else ""), provider
