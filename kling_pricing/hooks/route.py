"""The kinds of requests that hooks distinguish by method and URL. `routes` decides the kind of a request."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from kling_pricing.display import shown
from kling_pricing.errors import KlingPricingError
from kling_pricing.hooks.http_messages import TaskEndpoint
from kling_pricing.tables.http_rules import McpRules
from kling_pricing.wire.endpoints import Endpoint


class McpEndpoint(NamedTuple):
    """An MCP endpoint, one of whose tools submits jobs.

    Attributes:
        endpoint: the endpoint whose payloads that tool takes.
        wire_format: the wire format whose capability file lists the MCP endpoint.
        rules: the rules of that file for the endpoint.
    """

    endpoint: Endpoint
    wire_format: str
    rules: McpRules


class UnlistedPath(NamedTuple):
    """A path at which the API may bill for jobs, but which has no price.

    Attributes:
        path: the path of the URL.
        wire_format: the wire format of the API.
        why: the reason why a listed path has no price; empty: no capability file lists the path.
        meant: the submission path that some servers read in this spelling; empty: there is none.
        is_clear: whether the URL names one host and one path, however it is read.
        contradiction: the part of the request that names another host, path or method than the URL; empty:
            there is none.
    """

    path: str
    wire_format: str
    why: str = ""
    meant: str = ""
    is_clear: bool = True
    contradiction: str = ""

    def error(self, method: str) -> KlingPricingError:
        """Returns the error with which a request to the path is refused."""
        path = shown(self.path)
        request = f"{method} {path}"
        if self.contradiction:
            return KlingPricingError(
                f"{request}: {self.contradiction} contradicts the URL or the method, so servers may read the "
                f"request in different ways, and the request was not sent; remove {self.contradiction}"
            )
        if not self.is_clear:
            return KlingPricingError(
                f"{request}: servers may read this URL in different ways, so the request was not sent; "
                "write the host and the path in their plain form"
            )
        if self.meant:
            cause = (
                f"some servers read this path as {self.meant}, where jobs are submitted, so the request was "
                "not sent"
            )
            remedy = f"write {self.meant}"
            if method != "POST":
                cause = f"jobs are submitted to {self.meant} only with POST, so the request was not sent"
                remedy = "use POST"
            return KlingPricingError(f"{request}: {cause}; {remedy}")
        if self.why:
            cause = (
                f"this API bills for the request, but the price is unknown ({self.why}), so the request was "
                "not sent"
            )
            remedy = "to"
        else:
            cause = (
                "this API may bill for the request, but no capability file lists the path, so the price is "
                "unknown and the request was not sent"
            )
            remedy = "correct the path, or, to"
        return KlingPricingError(
            f"{request}: {cause}; {remedy} send the request without counting its cost in any budget, set "
            f"allow_paths=[{path!r}] in the hook or allow_paths: [{path}] in your own price table"
        )


class UnpricedPath(NamedTuple):
    """A path at which requests pass without a price.

    Attributes:
        provider: the provider at the URL's host.
        path: the listed or allowed path that matches.
    """

    provider: str
    path: str


Route: TypeAlias = Endpoint | McpEndpoint | UnlistedPath | TaskEndpoint | UnpricedPath | None
