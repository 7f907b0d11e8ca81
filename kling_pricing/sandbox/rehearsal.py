"""All simulated providers with their common clock, and the requests that control the sandbox."""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections import deque
from collections.abc import Collection, Iterator, Mapping
from datetime import datetime
from typing import Any

from kling_pricing.display import did_you_mean, shown
from kling_pricing.errors import KlingPricingError, ScenarioError
from kling_pricing.money import exact_amount
from kling_pricing.sandbox.bill import END_OF_TIME_MS, bill
from kling_pricing.sandbox.call_outcomes import Outcome
from kling_pricing.sandbox.callbacks import Callbacks
from kling_pricing.sandbox.clock import RehearsalClock, from_ms, to_ms
from kling_pricing.sandbox.exchange import Call, DeclinedError, Reply
from kling_pricing.sandbox.exports import FORMS, planted_errors, saved
from kling_pricing.sandbox.jobs import FINAL, Job, Records
from kling_pricing.sandbox.payloads import json_object
from kling_pricing.sandbox.plans import FaultError, PlannedFault
from kling_pricing.sandbox.provider import RehearsedProvider
from kling_pricing.sandbox.scenario import Scenario, read_scenario
from kling_pricing.tables.price_book import PriceBook

_BATCH = 500
_HEADER_NAME, _HEADER_VALUE = re.compile(r"[A-Za-z0-9-]+"), re.compile(r"([!-~]([ -~]*[!-~])?)?")
_MAX_RECEIVED, _MAX_RECEIVED_BYTES = 1_000, 64 * 2**20
_MAX_JOBS = 1_000
_PERIOD, _EXPORTS = ("from", "until"), ("package", "balance")
_OK, _CREATED, _BAD_REQUEST, _NOT_FOUND, _CONFLICT = 200, 201, 400, 404, 409


class Rehearsal:
    """Simulates every provider in a price book, all at one address.

    Args:
        book: the price book.
        scenario: the scenario.
        url: the address, as a URL.

    Attributes:
        received: the newest requests, each with the name of its provider.
        resumed: the number of times that held responses have been released.

    Raises:
        ScenarioError: the scenario names a provider that is not in the price book.
    """

    def __init__(self, book: PriceBook, scenario: Scenario, url: str) -> None:
        self.received: deque[tuple[str, Call]] = deque()
        self._received_bytes = 0
        self.resumed = 0
        self._book, self._url = book, url
        self._records = Records()
        self._callbacks = Callbacks()
        self._begin(scenario)

    def _begin(self, scenario: Scenario) -> None:
        names = sorted({*self._book.tables, *self._book.unpriced})
        check_providers(scenario, names)
        self._scenario = scenario
        self.clock = RehearsalClock(scenario.start, scenario.speed)
        self.providers = {
            name: RehearsedProvider(
                *(name, self._book, scenario, self._records, self.clock),
                *(self._callbacks, f"{self._url}/{name}"),
            )
            for name in names
        }

    def reset(self, scenario: Scenario | None = None) -> None:
        """Deletes everything, releases held responses, and starts again; None: with the same scenario.

        Raises:
            ScenarioError: the scenario names a provider that is not in the price book; nothing is changed.
        """
        check_providers(scenario or self._scenario, [*self.providers])
        self.resumed += 1
        self.received.clear()
        self._received_bytes = 0
        self._records.clear()
        self._callbacks.close()
        self._callbacks = Callbacks()
        self._begin(scenario or self._scenario)

    def providers_by_url(self) -> dict[str, str]:
        """Returns provider -> its base URL."""
        return {name: provider.base for name, provider in self.providers.items()}

    def bills(self) -> dict[str, str]:
        """Returns provider -> its charges so far, as text; providers without charges are left out."""
        self.advance()
        totals = {name: bill(self._records, name)["total"] for name in self.providers}
        return {
            name: ", ".join(f"{amount} {currency}" for currency, amount in total.items())
            for name, total in totals.items()
            if total
        }

    def provider_of(self, path: str, host: str) -> tuple[RehearsedProvider | None, str]:
        """Returns the provider of a request, and the path without the provider's prefix.

        The first segment of the path is the name of the provider. Otherwise, the host is that of the provider's
        real API, or the name of the provider followed by `.localhost`;
        for any other host, it is the scenario's `at_root`.
        """
        first, slash, rest = path.lstrip("/").partition("/")
        if first in self.providers:
            return self.providers[first], slash + rest
        name = host.lower().partition(":")[0]
        named = self.providers.get(self._book.hosts.get(name) or name.removesuffix(".localhost"))
        if named is None and first and not first.startswith("_"):
            named = self.providers.get(self._scenario.at_root or "")
        return named, path

    def advance(self) -> None:
        """Makes every change of state that is due, in the order of their times."""
        now_ms = self.clock.now_ms()
        while due := self._records.due(now_ms, _BATCH):
            for job in due:
                self.providers[job.provider].move_on(job)

    def handle(self, provider: RehearsedProvider | None, call: Call) -> Outcome:
        """Answers a request to a provider, or a request that controls the sandbox."""
        self.advance()
        try:
            if provider is None:
                return Outcome(self._steered(call))
            if call.path.startswith("/_") and not call.path.startswith("/_files/"):
                return Outcome(self._steered_at(provider, call))
        except (KlingPricingError, FaultError, DeclinedError) as error:
            return Outcome(Reply(_BAD_REQUEST, {"error": str(error)}))
        self._receive(provider.name, call)
        return provider.handle(call)

    def _receive(self, name: str, call: Call) -> None:
        """Adds a request to `received`, and removes the oldest ones beyond the limits of number and size."""
        self.received.append((name, call))
        self._received_bytes += len(call.body)
        while len(self.received) > _MAX_RECEIVED or (
            self._received_bytes > _MAX_RECEIVED_BYTES and len(self.received) > 1
        ):
            _, oldest = self.received.popleft()
            self._received_bytes -= len(oldest.body)

    def _steered(self, call: Call) -> Reply:
        match call.method, call.path:
            case "GET", "" | "/":
                return Reply(_OK, {name: provider.as_dict() for name, provider in self.providers.items()})
            case "GET", "/_clock":
                return Reply(_OK, self._clock())
            case "POST", "/_clock":
                self._move_clock(json_object(call.body))
                return Reply(_OK, self._clock())
            case "POST", "/_resume":
                self.resumed += 1
                return Reply(_OK, {"resumed": self.resumed})
            case "POST", "/_reset":
                self.reset(read_scenario(json_object(call.body)) if call.body else None)
                return Reply(_OK, {})
            case "GET", "/_received":
                return Reply(_OK, [_received(name, each) for name, each in self.received])
            case "GET", "/_callbacks":
                return Reply(_OK, [_sent(*each) for each in self._callbacks.sent])
        names = ", ".join(f"/{name}" for name in self.providers)
        unknown = f"unknown request: {call.method} {call.path or '/'}"
        return Reply(_NOT_FOUND, {"error": f"{unknown}; begin the path with one of {names}"})

    def _steered_at(self, provider: RehearsedProvider, call: Call) -> Reply:
        _, action, *rest = call.path.split("/")
        match call.method, action, rest:
            case "GET", "_bill", []:
                _check_keys(call.query, {*_PERIOD})
                return Reply(_OK, bill(self._records, provider.name, *_period(call.query)))
            case "GET", "_statement", []:
                return self._statement(provider, call.query)
            case "GET", "_planted", []:
                _check_keys(call.query, {*_PERIOD})
                return Reply(_OK, [*planted_errors(self._records, provider.name, *_period(call.query))])
            case "GET", "_tasks", []:
                return Reply(_OK, [_shown(job) for job in self._newest(provider)])
            case "POST", "_faults", []:
                provider.fail_next(_planned_faults(json_object(call.body)))
                return Reply(_CREATED, {})
            case "POST", "_tasks", [task_id]:
                return self._ended(provider, task_id, json_object(call.body))
            case "POST", "_callback", [task_id]:
                return self._called_back(provider, task_id, json_object(call.body))
        return Reply(_NOT_FOUND, {"error": f"unknown request: {call.method} {call.path}"})

    def _newest(self, provider: RehearsedProvider) -> Iterator[Job]:
        for place, job in enumerate(provider.newest(lambda _job: True)):
            if place == _MAX_JOBS:
                return
            yield job

    def _statement(self, provider: RehearsedProvider, query: Mapping[str, str]) -> Reply:
        _check_keys(query, {*_PERIOD, "as", "export"})
        form, export = query.get("as", "api"), query.get("export", "")
        if form not in FORMS:
            raise KlingPricingError(f"unknown statement form {shown(form)}; {did_you_mean(form, FORMS)}")
        if export not in {"", *_EXPORTS}:
            raise KlingPricingError(f"unknown export {shown(export)}; {did_you_mean(export, _EXPORTS)}")
        face = next(iter(provider.faces.values()))
        lines = face.statement(provider.rows(*_period(query)), export)
        return saved(lines, form, face.export_answer(lines), face.COLUMNS)

    def _ended(self, provider: RehearsedProvider, task_id: str, wanted: Mapping[str, Any]) -> Reply:
        job = provider.find(task_id)
        if job is None:
            return Reply(_NOT_FOUND, {"error": f"unknown task {shown(task_id)}"})
        _check_keys(wanted, {"state", "charge"})
        state, charge = wanted.get("state", "succeeded"), wanted.get("charge")
        if not isinstance(state, str) or state not in FINAL:
            raise KlingPricingError(f"`state` must be cancelled, failed or succeeded; got {shown(state)}")
        if job.is_final:
            return Reply(_CONFLICT, {"error": f"the task has already ended ({job.state})"})
        amount = None if charge is None else str(exact_amount(charge))
        provider.finish(job, self.clock.now_ms(), state, amount)
        return Reply(_OK, _shown(job))

    def _called_back(self, provider: RehearsedProvider, task_id: str, wanted: Mapping[str, Any]) -> Reply:
        job = provider.find(task_id)
        if job is None:
            return Reply(_NOT_FOUND, {"error": f"unknown task {shown(task_id)}"})
        _check_keys(wanted, {"url", "state", "times"})
        url, state, times = wanted.get("url", ""), wanted.get("state"), wanted.get("times")
        if not isinstance(url, str) or not (url or job.details["callback_url"]):
            raise KlingPricingError(
                'the task has no callback URL; give one as text, such as {"url": "http://..."}'
            )
        if state is not None and not isinstance(state, str):
            raise KlingPricingError(f"`state` must be text, got {shown(state)}")
        if times is not None and (type(times) is not int or times < 1):
            raise KlingPricingError(f"`times` must be a whole number of at least 1, got {shown(times)}")
        provider.announce(job, url, state, times)
        return Reply(_OK, {})

    def _clock(self) -> dict[str, Any]:
        return {"now": from_ms(self.clock.now_ms()).isoformat(), "speed": self.clock.speed}

    def _move_clock(self, wanted: Mapping[str, Any]) -> None:
        unknown = set(wanted) - {"now", "forward_s", "speed"}
        forward_s = wanted.get("forward_s", 0)
        if unknown or type(forward_s) is not int:
            raise KlingPricingError(
                "the clock has only the settings `now`, `forward_s` (a whole number of seconds) and `speed`"
            )
        now = None if wanted.get("now") is None else _instant(wanted["now"])
        self.clock.set(now=now, forward_s=forward_s, speed=wanted.get("speed"))
        self.advance()

    def close(self) -> None:
        """Stops the callbacks and deletes all jobs, bills and statements."""
        self._callbacks.close()
        self._records.close()


def check_providers(scenario: Scenario, names: list[str]) -> None:
    """Checks that a scenario names only known providers.

    Raises:
        ScenarioError: the scenario names an unknown provider.
    """
    named: list[tuple[tuple[str, ...], str]] = [(("providers", name), name) for name in scenario.providers]
    named += [(("at_root",), scenario.at_root)] if scenario.at_root else []
    named += [
        ((f"faults[{place}]", "provider"), entry.provider)
        for place, entry in enumerate(scenario.faults)
        if entry.provider
    ]
    named += [
        (("providers", name, "prices"), entry.prices)
        for name, entry in scenario.providers.items()
        if entry.prices
    ]
    for path, name in named:
        if name not in names:
            raise ScenarioError(
                f"unknown provider {shown(name)}; {did_you_mean(name, names)}", key_path=".".join(path)
            )


def _check_keys(given: Mapping[str, Any], known: Collection[str]) -> None:
    for name in given:
        if name not in known:
            raise KlingPricingError(f"unknown key {shown(name)}; {did_you_mean(name, sorted(known))}")


def _period(query: Mapping[str, str]) -> tuple[int, int]:
    since, until = query.get("from"), query.get("until")
    since_ms = 0 if not since else to_ms(_instant(since))
    until_ms = END_OF_TIME_MS if not until else to_ms(_instant(until))
    if since_ms >= until_ms:
        raise KlingPricingError(
            f"the period from {shown(since or '1970-01-01')} until {shown(until)} is empty; "
            "give a later `until`"
        )
    return since_ms, until_ms


def _instant(text: Any) -> datetime:
    """Reads a date, which means midnight UTC, or a time with a time zone."""
    try:
        at = datetime.fromisoformat(text.replace(" ", "+"))  # an unencoded plus sign arrives as a space
        if len(text) == len("2026-11-30"):
            at = datetime.fromisoformat(f"{text}T00:00:00+00:00")
    except (AttributeError, ValueError):
        at = None
    if at is None or at.tzinfo is None:
        raise KlingPricingError(
            f"{shown(text)} is neither a date nor a time with a time zone; write it like 2026-11-30 or "
            "2026-11-30T12:00:00Z"
        )
    return at


def _planned_faults(wanted: Mapping[str, Any]) -> list[PlannedFault]:
    """Reads the faults of the next submissions: each is a word, a list of words, or an object."""
    _check_keys(wanted, {"faults"})
    faults = wanted.get("faults")
    if not isinstance(faults, list):
        raise KlingPricingError(
            '`faults` must be a list with one entry per submission, such as ["500", "lost-answer"]'
        )
    return [_planned_fault(entry) for entry in faults]


def _planned_fault(entry: Any) -> PlannedFault:
    given = entry if isinstance(entry, dict) else {"words": entry}
    words, headers, body = given.get("words", []), given.get("headers", {}), given.get("body_base64")
    words = [words] if isinstance(words, str) else words
    texts = (
        [*words, *headers, *headers.values()]
        if isinstance(words, list) and isinstance(headers, dict)
        else [None]
    )
    if set(given) - {"words", "headers", "body_base64"} or not all(isinstance(text, str) for text in texts):
        raise KlingPricingError(
            "each entry of `faults` must be a word, a list of words, or an object whose only keys are `words`, "
            "`headers` and `body_base64`"
        )
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
            raise KlingPricingError(
                f"the header {shown(name)} is not valid in HTTP; use ASCII letters, digits and hyphens for its "
                "name, and printable ASCII for its value"
            )
    try:
        return PlannedFault(words, headers, None if body is None else b64decode(body, validate=True))
    except (TypeError, ValueError):
        raise KlingPricingError("body_base64 is not valid base64; encode the body as base64") from None


def _received(name: str, call: Call) -> dict[str, Any]:
    return {
        "provider": name,
        "method": call.method,
        "path": call.path,
        "headers": dict(call.headers),
        "body": call.body.decode(errors="replace"),
        "body_base64": b64encode(call.body).decode(),
    }


def _sent(url: str, body: bytes, status: int) -> dict[str, Any]:
    return {"url": url, "body": body.decode(), "status": status}


def _shown(job: Job) -> dict[str, Any]:
    return {
        "id": job.id,
        "state": job.state,
        "path": job.path,
        "external_id": job.external_id,
        "parts": job.details["parts"],
        "charged": job.details["charged"],
    }
