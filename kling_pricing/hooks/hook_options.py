"""The options that every hook takes, and their checks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict

from kling_pricing.display import shown
from kling_pricing.errors import KlingPricingError
from kling_pricing.hooks.file_facts import MediaOption, check_media_option
from kling_pricing.hooks.identity import KEY_HEADER, Labels


class Options(TypedDict, total=False):
    """The options of a hook; all are optional.

    Attributes:
        project: the project of every request, unless a scope or `labels` names another.
        labels: other labels for budgets to match; or a function that takes the request and returns them,
            possibly with `project` and `key`.
        hosts: additional hosts, with or without a port -> the provider that bills there:
            `{"gw.example.com": "qingbo"}`.
        keeps_keys: whether the hosts in `hosts` honour idempotency keys and share one backend with each other
            and with the provider's own hosts. Otherwise a hook with such hosts never resends a job of that
            provider that may have been accepted.
        allow_paths: paths at and below which requests pass without a price although the API bills for jobs
            there: `["/v1/images"]`.
        media: known facts about the files that requests refer to: a mapping of URL to facts, such as
            `{url: {"length_s": 5}}`, or a function that takes a URL and returns its facts, or None. The header
            `x-kling-pricing-media` of a request overrides it.
        sends_once: whether the inner transport, adapter or middleware never resends a request by itself. Only
            then do refusals and failed connections release money. The default is True for the client
            library's own transports and adapters, and False for all others.
        refusals: `raise` (the default) raises the guard's error; `respond` returns a response in the API's
            error format instead, such as 402 for a budget and 400 for a request that is not valid or has no
            price.
        key_header: the header in which callers name a job; the default is `Idempotency-Key`.
        send_reservation_id: whether to put the reservation's id into the field in which the API takes the
            caller's own id, if there is one. A lost task can then be looked up by that id.
    """

    project: str | None
    labels: Labels | None
    hosts: Mapping[str, str]
    keeps_keys: bool
    allow_paths: Sequence[str]
    media: MediaOption | None
    sends_once: bool
    refusals: Literal["raise", "respond"]
    key_header: str
    send_reservation_id: bool


def check_options(options: Mapping[str, Any]) -> None:
    """Checks the names and types of options; `Routes` checks `hosts` and `allow_paths`.

    Raises:
        KlingPricingError: an option is unknown or has an invalid value.
    """
    unknown = options.keys() - Options.__annotations__.keys()
    if unknown:
        known = ", ".join(Options.__annotations__)
        raise KlingPricingError(f"unknown option {min(unknown)!r}; the options are {known}")
    if options.get("refusals", "raise") not in {"raise", "respond"}:
        raise KlingPricingError(f"refusals must be 'raise' or 'respond', got {shown(options['refusals'])}")
    project, labels = options.get("project"), options.get("labels")
    if project is not None and not isinstance(project, str):
        raise KlingPricingError(f"project must be text, got {shown(project)}")
    if labels is not None and not isinstance(labels, Mapping) and not callable(labels):
        raise KlingPricingError(
            f"labels must be a mapping, or a function that returns one, got {shown(labels)}"
        )
    check_media_option(options.get("media"))
    header = options.get("key_header", KEY_HEADER)
    if not isinstance(header, str) or not header.strip():
        raise KlingPricingError(f"key_header must be the name of a header, got {shown(header)}")
    for name in ("keeps_keys", "sends_once", "send_reservation_id"):
        if not isinstance(options.get(name, False), bool):
            raise KlingPricingError(f"{name} must be True or False, got {shown(options.get(name))}")
