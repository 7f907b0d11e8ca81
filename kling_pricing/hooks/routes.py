"""Classification of requests by method and URL: submissions, task requests, unlisted paths and all others.

A host bills for jobs if a price table or the option `hosts` lists it. A request to such a host that may create
something passes only if a capability file lists its path: as a submission, which is priced; as free; or as
another service, which is counted. Every other path is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote, urljoin

from kling_pricing.display import reportable, shown
from kling_pricing.errors import KlingPricingError
from kling_pricing.hooks.http_messages import TaskEndpoint
from kling_pricing.hooks.route import McpEndpoint, Route, UnlistedPath, UnpricedPath
from kling_pricing.ledger.redaction import short_text
from kling_pricing.tables.http_rules import McpRules
from kling_pricing.tables.price_book import PriceBook
from kling_pricing.wire.endpoints import (
    Endpoint,
    Location,
    Submission,
    endpoint_at,
    locations,
    possible_provider,
)
from kling_pricing.wire.paths import (
    PathPattern,
    Segments,
    is_below,
    lenient_segments,
    literal_segments,
    readings,
)

_TASK_ID = "{task_id}"

_REMEMBERED = 256
"""The number of URLs whose answers are remembered: most submissions of a client go to a few URLs."""

_SAFE_METHODS = {"GET", "HEAD", "OPTIONS", "TRACE", "DELETE", "CONNECT"}
"""Methods that create nothing."""

_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9_-]+(?:\.[a-z0-9_-]+)*)\.?(?::([0-9]{1,5}))?")


def creates(method: str) -> bool:
    """Returns whether a request with this method, in capitals, may create something."""
    return method not in _SAFE_METHODS


class _TaskPath(NamedTuple):
    """A path of a task.

    Attributes:
        method: `GET` for the status, `POST` for a cancellation.
        parts: the segments of the path.
        query: the parameter of the query that has the task's id; empty: a segment has it.
        wire_format: the wire format of the API.
    """

    method: str
    parts: Segments
    query: str
    wire_format: str

    @classmethod
    def of(cls, method: str, path: str, wire_format: str) -> _TaskPath:
        """Returns the task path of a text such as `/v1/tasks/{task_id}` or `/tasks?task_ids={task_id}`."""
        location, _, query = path.partition("?")
        return cls(method, tuple(location.strip("/").split("/")), query.partition("=")[0], wire_format)


class _Listed(NamedTuple):
    """The paths of one provider's API, besides its submissions.

    Attributes:
        wire_formats: the wire formats of the API, the main one first.
        free: the paths that cost nothing.
        other_services: the paths of other services.
        unpriced: pattern -> the reason why requests to these paths have no price.
        allowed: path as written -> its segments; requests at and below it pass without a price.
        mcp: wire format -> the rules of its MCP endpoint.
        roots: the first segments of all listed paths.
    """

    wire_formats: tuple[str, ...]
    free: tuple[PathPattern, ...]
    other_services: tuple[PathPattern, ...]
    unpriced: Mapping[PathPattern, str]
    allowed: Mapping[str, Segments]
    mcp: Mapping[str, McpRules]
    roots: frozenset[str]


class Routes:
    """Classifies requests by the hosts and paths of a price book.

    Args:
        book: the price book with the hosts and paths.
        hosts: additional hosts, with or without a port -> the provider that bills there. A host
            that a price table lists may be given to another provider.
        allow_paths: paths at and below which everything except submissions passes.
        account: the account of all hosts, or of each host; None: accounts have the names of their providers.

    Attributes:
        extra_providers: the providers of `hosts`.

    Raises:
        KlingPricingError: a host, its provider, an account or a path is not valid.
    """

    def __init__(
        self,
        book: PriceBook,
        hosts: Mapping[str, str],
        allow_paths: Sequence[str] = (),
        account: str | Mapping[str, str] | None = None,
    ) -> None:
        self._extra_hosts = dict(_normalized_hosts(hosts, book))
        self.extra_providers = frozenset(self._extra_hosts.values())
        self._book = book
        self._hosts = {**book.hosts, **self._extra_hosts}
        self._account, self._accounts = _checked_account(account, self._hosts)
        allowed = _checked_paths(allow_paths)
        self._listed = {name: _listed(book, name, allowed) for name in {*self._hosts.values()}}
        self._task_paths = [
            _TaskPath.of(method, path, matrix.wire_format)
            for matrix in book.matrices.values()
            for submission in matrix.submissions
            for method, path in (
                ("GET", submission.status),
                *(("GET", path) for path in submission.other_status),
                ("POST", submission.cancel),
            )
            if path is not None
        ]
        self._classified = lru_cache(_REMEMBERED)(self._classify)
        self._admission_urls = lru_cache(_REMEMBERED)(self._find_admission_url)
        self._accounts_by_url = lru_cache(_REMEMBERED)(self._find_account)

    def find(self, method: str, url: str) -> Route:
        """Classifies a request; None: it passes untouched."""
        return self._classified(method, url)

    def admission_url(self, endpoint: Endpoint, url: str) -> str:
        """Returns the URL by which a submission is quoted, in the spelling of the tables.

        It is on a host of the provider that bills, although the price tables may list another provider for the
        request's own host.
        """
        return self._admission_urls(endpoint, url)

    def account(self, url: str) -> str | None:
        """Returns the account from which a job is sent to a URL; None: the one with the provider's name."""
        return self._accounts_by_url(url)

    def _classify(self, method: str, url: str) -> Route:
        places = locations(url)
        billing = [place for place in places if place.provider(self._hosts) is not None]
        if not billing:
            provider = None if method in _SAFE_METHODS else possible_provider(url, self._hosts)
            return self._unlisted(provider, "")._replace(is_clear=False) if provider else None
        place = billing[0]
        provider = place.provider(self._hosts) or ""
        spellings = readings(place.path)
        if len(places) > 1 or not spellings:
            unclear = self._unlisted(provider, place.path)._replace(is_clear=False)
            return unclear if creates(method) else None
        segments = literal_segments(place.path)
        endpoint = self._endpoint(provider, segments)
        task_id = None if endpoint.is_submission else self._task(method, segments, provider)
        if not creates(method):
            task_id = task_id or self._task_in_query(segments, url)
            if task_id is None and method == "GET" and self._lists_tasks(segments, provider, endpoint):
                task_id = ""
            return None if task_id is None else TaskEndpoint(provider, task_id)
        if task_id is not None and all(self._task(method, reading, provider) for reading in spellings):
            return TaskEndpoint(provider, task_id)
        others = (self._endpoint(provider, reading) for reading in spellings[1:])  # the first one is literal
        submitted = {endpoint.submissions, *(other.submissions for other in others)}
        are_own = self._are_own(provider, submitted)
        submits = method == "POST" and endpoint.is_submission and len(submitted) == 1
        if submits and are_own:
            return endpoint
        passed = self._passed(method, place, provider, spellings)
        if passed is None and not endpoint.is_submission and self._lists_tasks(segments, provider, endpoint):
            return TaskEndpoint(provider, "")
        if not isinstance(passed, UnlistedPath) and not are_own:
            return passed  # another provider's API has a submission there, if any
        if submits:
            return endpoint
        if meant := next(filter(None, submitted), ()):
            return self._unlisted(provider, place.path)._replace(meant=meant[0].path)
        return passed

    def _find_admission_url(self, endpoint: Endpoint, url: str) -> str:
        places = locations(url)
        hosts = (place.host for place in places if place.provider(self._book.hosts) == endpoint.provider)
        others = (host for host, provider in self._book.hosts.items() if provider == endpoint.provider)
        own = next(hosts, None) or next(others, None)  # an account may be in another currency at another host
        is_bundled = any(place.provider(self._book.hosts) for place in places)
        path = endpoint.submissions[0].path
        return f"https://{own}{path}" if own and is_bundled else urljoin(url, path)

    def _find_account(self, url: str) -> str | None:
        hosts = (place.provider(self._accounts) for place in locations(url))
        return self._account or next(filter(None, hosts), None)

    def _endpoint(self, provider: str, segments: Segments) -> Endpoint:
        return endpoint_at(provider, segments, self._book.paths, self._book.formats)

    def _are_own(self, provider: str, submitted: Iterable[tuple[Submission, ...]]) -> bool:
        """Returns whether any of these submissions is in a wire format of the provider's API."""
        wire_formats = self._listed[provider].wire_formats
        return any(entry.wire_format in wire_formats for entries in submitted for entry in entries)

    def _unlisted(self, provider: str, path: str) -> UnlistedPath:
        wire_format = next(iter(self._listed[provider].wire_formats), "")
        return UnlistedPath("/" + "/".join(part for part in path.split("/") if part), wire_format)

    def _passed(self, method: str, place: Location, provider: str, spellings: Iterable[Segments]) -> Route:
        """Returns how a request that is no submission passes; None: it is free."""
        listed = self._listed[provider]
        folded = {tuple([segment.casefold() for segment in segments]) for segments in spellings}
        is_extra = place.provider(self._extra_hosts) is not None
        below_root = {_below_root(segments, listed.roots) for segments in folded} if is_extra else folded
        unlisted = self._unlisted(provider, place.path)
        for wire_format, rules in listed.mcp.items():
            if any(map(rules.pattern.matches, below_root)):
                if method == "POST" and _all_match([rules.pattern], below_root):
                    endpoint = self._endpoint(provider, literal_segments(rules.submits_to))
                    return McpEndpoint(endpoint, wire_format, rules)
                return unlisted._replace(meant=rules.pattern.text)
        for path, above in listed.allowed.items():
            if all(is_below(reading, above) for reading in folded):
                return UnpricedPath(provider, path)
        for pattern, why in listed.unpriced.items():
            if any(map(pattern.matches, below_root)):
                return unlisted._replace(why=why)
        if _all_match(listed.free, below_root):
            return None
        if _all_match(listed.other_services, below_root):
            matching = (pattern for pattern in listed.other_services if any(map(pattern.matches, below_root)))
            return UnpricedPath(provider, next(matching).text)
        return unlisted

    def _lists_tasks(self, segments: Segments, provider: str, endpoint: Endpoint) -> bool:
        """Returns whether a response lists tasks: to a GET of a submission path, or at a path for that."""
        if endpoint.is_submission:
            return True
        matrices = (self._book.matrices.get(name) for name in self._listed[provider].wire_formats)
        lists = (literal_segments(path) for matrix in matrices if matrix for path in matrix.http.task_lists)
        return any(segments[-len(path) :] == path for path in lists)

    def _task(self, method: str, parts: Segments, provider: str) -> str | None:
        """Returns the task id in a task's path, with any prefix before it; None: it is not a task's path."""
        own_formats = self._listed[provider].wire_formats
        for path in self._task_paths:
            end = parts[-len(path.parts) :]
            if (
                path.method == method
                and not path.query
                and (method == "GET" or path.wire_format in own_formats)
                and len(end) == len(path.parts)
                and all(pattern in {_TASK_ID, part} for pattern, part in zip(path.parts, end, strict=True))
            ):
                return end[path.parts.index(_TASK_ID)]
        return None

    def _task_in_query(self, parts: Segments, url: str) -> str | None:
        """Returns the only task id in a URL's query; None: it asks for no task, or for several."""
        parameters = parse_qs(url.partition("#")[0].partition("?")[2])
        for path in self._task_paths:
            ids = parameters.get(path.query, []) if parts[-len(path.parts) :] == path.parts else []
            if len(ids) == 1 and "," not in ids[0]:
                return ids[0]
        return None


def _listed(book: PriceBook, provider: str, allow_paths: Sequence[str]) -> _Listed:
    """Returns the paths that the capability files and tables of a provider list."""
    tables = (*book.tables.get(provider, ()), *book.contracts.get(provider, ()))
    wire_formats = book.api_formats(provider)
    matrices = [book.matrices[name] for name in wire_formats]
    rules = [matrix.http for matrix in matrices]
    free = tuple(pattern for http in rules for pattern in http.free)
    other_services = tuple(pattern for http in rules for pattern in http.other_services)
    unpriced = {paths.pattern: paths.why for http in rules for paths in http.unpriced}
    mcp = {matrix.wire_format: matrix.http.mcp for matrix in matrices if matrix.http.mcp is not None}
    submitted = [PathPattern.of(submission.path) for matrix in matrices for submission in matrix.submissions]
    tool_paths = [rules.pattern for rules in mcp.values()]
    allowed = (
        *allow_paths,
        *(path for http in rules for path in http.allow_paths),
        *(path for table in tables for path in table.allow_paths),
    )
    return _Listed(
        wire_formats,
        free,
        other_services,
        unpriced,
        {path: lenient_segments(unquote(path)) for path in allowed},
        mcp,
        frozenset(
            pattern.segments[0] for pattern in (*free, *other_services, *unpriced, *submitted, *tool_paths)
        ),
    )


def _all_match(patterns: Sequence[PathPattern], spellings: Iterable[Segments]) -> bool:
    return all(any(pattern.matches(segments) for pattern in patterns) for segments in spellings)


def _below_root(segments: Segments, roots: frozenset[str]) -> Segments:
    """Returns a path without a gateway's own prefix: the API starts at the first segment that it lists."""
    start = next((index for index, segment in enumerate(segments) if segment in roots), 0)
    return segments[start:]


def _checked_paths(paths: Any) -> Sequence[str]:
    if isinstance(paths, str) or not isinstance(paths, Sequence):
        raise KlingPricingError(
            f'allow_paths must be a list of paths, such as ["/v1/images"], got {shown(paths)}'
        )
    for path in paths:
        if not isinstance(path, str) or not path.startswith("/"):
            raise KlingPricingError(
                f"allow_paths: {shown(path)} is not a path; write a path such as /v1/images"
            )
        if not lenient_segments(path):
            raise KlingPricingError(
                f"allow_paths: {shown(path)} covers every path; list longer paths, such as /v1/images"
            )
    return paths


def _normalized_hosts(hosts: Any, book: PriceBook) -> Iterator[tuple[str, str]]:
    """Yields the caller's hosts in the spelling in which hosts are looked up, each with its provider."""
    if not isinstance(hosts, Mapping):
        raise KlingPricingError(f"hosts must be a mapping from hosts to providers, got {shown(hosts)}")
    for host, provider in hosts.items():
        if not book.knows(provider):
            raise KlingPricingError(f"hosts: {shown(host)}: {book.unknown_provider(provider)}")
        yield _normalized("hosts", host), provider


def _normalized(option: str, host: Any) -> str:
    """Returns a host, with or without a port, in the spelling in which hosts are looked up."""
    match = _HOST.fullmatch(host.lower()) if isinstance(host, str) else None
    if match is None:
        raise KlingPricingError(
            f"{option}: {reportable(host)!a} is not a host; write a host such as gw.example.com or "
            "localhost:8080, put an IPv6 address in brackets, write an international name as xn--..., "
            "and list each host separately"
        )
    return match[1] + (f":{int(match[2])}" if match[2] else "")


def _checked_account(account: Any, hosts: Mapping[str, str]) -> tuple[str | None, Mapping[str, str]]:
    """Returns the account of all hosts, if there is one, and the accounts by host.

    Raises:
        KlingPricingError: an account is not a name, or one of its hosts is not in `hosts`.
    """
    if account is None:
        return None, {}
    if not isinstance(account, Mapping):
        return short_text("account", account), {}
    by_host = {_normalized("account", host): short_text("account", name) for host, name in account.items()}
    for host in by_host:
        if host not in hosts and host.rpartition(":")[0] not in hosts:
            raise KlingPricingError(
                f"account: no provider is known to bill at {host}; add the host to the option `hosts`, or "
                "correct its name"
            )
    return None, by_host
