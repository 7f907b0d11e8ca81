"""What a request is by its method and URL: a submission, a question about a task, or nothing of ours."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import unquote

from kling_pricing.display import shown
from kling_pricing.errors import KlingPricingError
from kling_pricing.tables.price_table import PriceBook
from kling_pricing.wire.endpoints import Endpoint, endpoint_at, provider_and_path

_TASK_ID = "{task_id}"

_MAKING = {"POST", "PUT", "PATCH"}
"""Methods by which a job may be made."""

_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9_-]+(?:\.[a-z0-9_-]+)*)\.?(?::([0-9]{1,5}))?")


class TaskEndpoint(NamedTuple):
    """Where a task is asked for or cancelled.

    Attributes:
        provider: whose task it is.
        task_id: the provider's name for it, or the caller's own where the API can be asked by that.
    """

    provider: str
    task_id: str


class UnlistedPath(NamedTuple):
    """Where jobs may be made and billed that cannot be priced, since no table says what is made there.

    Attributes:
        path: as the URL has it.
        wire_format: of the API that bills below that path.
    """

    path: str
    wire_format: str

    def error(self, method: str) -> KlingPricingError:
        """Why nothing is sent there, and what to do."""
        return KlingPricingError(
            f"{method} {shown(self.path)} may make a job that is billed, and no capability file lists that "
            "path, so it cannot be priced and is not sent; correct the path, or let it pass unpriced with "
            f"allow_paths=[{shown(self.path)!r}]"
        )


class _TaskPath(NamedTuple):
    method: str
    parts: tuple[str, ...]


class _Billed(NamedTuple):
    """A path at and below which jobs are made."""

    parts: tuple[str, ...]
    wire_format: str


class Routes:
    """Finds out what requests are, by the hosts and paths of the price book.

    Args:
        book: knows hosts and paths.
        hosts: further hosts, with a port or without, -> the provider that bills there.
        allow_paths: paths at and below which everything but known submissions passes.

    Attributes:
        further: the providers of `hosts`.

    Raises:
        KlingPricingError: one of `hosts` is no host, or its provider is unknown; or a path is none.
    """

    def __init__(self, book: PriceBook, hosts: Mapping[str, str], allow_paths: Sequence[str] = ()) -> None:
        further = dict(_further(hosts, book))
        self.further = frozenset(further.values())
        self._book = book
        self._hosts = {**book.hosts, **further}
        self._allowed = [_parts_of(path) for path in _checked_paths(allow_paths)]
        self._task_paths = [
            _TaskPath(method, tuple(path.strip("/").split("/")))
            for matrix in book.matrices.values()
            for each in matrix.submissions
            for method, path in (("GET", each.status), ("POST", each.cancel))
            if path is not None
        ]
        self._submitted = [
            _Billed(_parts_of(path), submissions[0].wire_format) for path, submissions in book.paths.items()
        ]
        self._billed = {
            name: [_Billed(_parts_of(path), name) for path in matrix.http.billed_below]
            for name, matrix in book.matrices.items()
        }

    def find(self, method: str, url: str) -> Endpoint | UnlistedPath | TaskEndpoint | None:
        """What a request is; None: nothing of ours, so it passes untouched."""
        try:
            provider, parts = provider_and_path(url.replace("\\", "%5C"), self._hosts)
        except KlingPricingError:
            return None
        if provider is None:
            return None
        path = "/" + "/".join(parts)
        parts = [unquote(part) for part in parts]  # as servers read them
        found = endpoint_at(provider, parts, self._book.paths, self._book.formats)
        if found.is_submission and method == "POST":
            return found
        task_id = None if found.is_submission else self._task(method, parts)
        if task_id is not None:
            return TaskEndpoint(provider, task_id)
        return self._unlisted(provider, path) if method in _MAKING else None

    def _unlisted(self, provider: str, path: str) -> UnlistedPath | None:
        """A path below which jobs are billed, however it is spelled; None: it is none, or allowed."""
        parts = _parts_of(path)
        if any(_is_below(parts, allowed) for allowed in self._allowed):
            return None
        own = [each for name in self._book.formats.get(provider, ()) for each in self._billed[name]]
        billed = next((each for each in (*own, *self._submitted) if _is_below(parts, each.parts)), None)
        return None if billed is None else UnlistedPath(path, billed.wire_format)

    def _task(self, method: str, parts: Sequence[str]) -> str | None:
        """The task that a path names, below any folder, if tasks are asked for or cancelled there."""
        for path in self._task_paths:
            end = parts[-len(path.parts) :]
            if (
                path.method == method
                and len(end) == len(path.parts)
                and all(said in {_TASK_ID, there} for said, there in zip(path.parts, end, strict=True))
            ):
                return end[path.parts.index(_TASK_ID)]
        return None


def _parts_of(path: str) -> tuple[str, ...]:
    """A path as the most lenient server reads it: decoded, without parameters, dots and capitals."""
    parts: list[str] = []
    for part in unquote(path).replace("\\", "/").split("/"):
        name = part.partition(";")[0].strip().casefold()
        if name == "..":
            parts[-1:] = []
        elif name not in {"", "."}:
            parts.append(name)
    return tuple(parts)


def _is_below(parts: Sequence[str], above: Sequence[str]) -> bool:
    """Whether a path is at or below another one, which may stand below any folder."""
    return any(
        tuple(parts[start : start + len(above)]) == above for start in range(len(parts) - len(above) + 1)
    )


def _checked_paths(paths: Any) -> Sequence[str]:
    if isinstance(paths, str) or not isinstance(paths, Sequence):
        raise KlingPricingError(
            f'allow_paths must be a list of paths, such as ["/v1/images"], got {shown(paths)}'
        )
    for path in paths:
        if not isinstance(path, str) or not path.startswith("/") or not _parts_of(path):
            raise KlingPricingError(f"allow_paths: {shown(path)} is no path; write /v1/images")
    return paths


def _further(hosts: Any, book: PriceBook) -> Iterator[tuple[str, str]]:
    """Hosts of the caller's own, written as they are looked up."""
    if not isinstance(hosts, Mapping):
        raise KlingPricingError(f"hosts must be a mapping of host to provider, got {shown(hosts)}")
    for host, provider in hosts.items():
        if provider not in book.tables:
            known = ", ".join(sorted(book.tables))
            raise KlingPricingError(
                f"hosts: unknown provider {shown(provider)!r} of {shown(host)}; known: {known}"
            )
        match = _HOST.fullmatch(host.lower()) if isinstance(host, str) else None
        if match is None:
            raise KlingPricingError(
                f"hosts: {shown(host)!r} is no host; write gw.example.com or localhost:8080, an IPv6 address "
                "in brackets, a name of other letters as xn--..., and each host by itself"
            )
        yield match[1] + (f":{int(match[2])}" if match[2] else ""), provider
