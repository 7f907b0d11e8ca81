"""What a request is by its method and URL: a submission, a question about a task, or nothing of ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import unquote

from kling_pricing.endpoints import Endpoint, endpoint, place
from kling_pricing.errors import KlingPricingError
from kling_pricing.price_table import PriceBook

_TASK_ID = "{task_id}"


class TaskEndpoint(NamedTuple):
    """Where a task is asked for or cancelled.

    Attributes:
        provider: whose task it is.
        task_id: the provider's name for it, or the caller's own where the API can be asked by that.
    """

    provider: str
    task_id: str


class _TaskPath(NamedTuple):
    method: str
    parts: tuple[str, ...]


class Routes:
    """Finds out what requests are, by the hosts and paths of the price book.

    Args:
        book: knows hosts and paths.
        hosts: further hosts, with a port or without, -> the provider that bills there.

    Raises:
        KlingPricingError: one of `hosts` is no host, or its provider is unknown.
    """

    def __init__(self, book: PriceBook, hosts: Mapping[str, str]) -> None:
        for host, provider in hosts.items():
            if provider not in book.tables:
                known = ", ".join(sorted(book.tables))
                raise KlingPricingError(f"hosts: unknown provider {provider!r} of {host}; known: {known}")
            if not host or set(host) & set("/@?# "):
                raise KlingPricingError(f"hosts: {host!r} is no host; write gw.example.com or localhost:8080")
        self._book = book
        self._hosts = {**book.hosts, **{host.lower(): provider for host, provider in hosts.items()}}
        self._task_paths = [
            _TaskPath(method, tuple(path.strip("/").split("/")))
            for matrix in book.matrices.values()
            for each in matrix.submissions
            for method, path in (("GET", each.status), ("POST", each.cancel))
            if path is not None
        ]

    def provider(self, url: str) -> str | None:
        """Who bills at a URL's host; None: nobody that is known, so requests there are none of ours."""
        try:
            return place(url, self._hosts)[0]
        except KlingPricingError:
            return None

    def find(self, method: str, url: str) -> Endpoint | TaskEndpoint | None:
        """What a request is; None: nothing of ours, so it passes untouched."""
        provider = self.provider(url)
        if provider is None:
            return None
        found = endpoint(url, self._hosts, self._book.paths, self._book.formats)
        if found.is_submission:
            return found if method == "POST" else None
        task_id = self._task(method, url)
        return None if task_id is None else TaskEndpoint(provider, task_id)

    def _task(self, method: str, url: str) -> str | None:
        """The task that a URL names, below any folder, if tasks are asked for or cancelled there."""
        parts = place(url, self._hosts)[1].strip("/").split("/")
        for path in self._task_paths:
            end = parts[-len(path.parts) :]
            if (
                path.method == method
                and len(end) == len(path.parts)
                and all(said in {_TASK_ID, there} for said, there in zip(path.parts, end, strict=True))
            ):
                return unquote(end[path.parts.index(_TASK_ID)]) or None
        return None
