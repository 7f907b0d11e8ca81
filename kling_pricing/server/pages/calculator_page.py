"""The calculator: a payload, or a description of one, becomes a quote with its reasons and its alternatives."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from decimal import Decimal
from typing import Any, NamedTuple

from kling_pricing.display import shown
from kling_pricing.errors import CapabilityError, KlingPricingError, PriceNotFoundError
from kling_pricing.guard.payload_documents import DecisionDocument, PriceDocument
from kling_pricing.quoting.composing import RequestDescription, compose
from kling_pricing.quoting.intake import Intake
from kling_pricing.quoting.settings import RESOLUTIONS
from kling_pricing.server.api.allowance_routes import AskBody, file_allowance_request
from kling_pricing.server.api.pricing_routes import (
    check_payload,
    compare_prices,
    decide_payload,
    quote_payload,
)
from kling_pricing.server.api.pricing_views import DecisionView, OptionView, QuoteView
from kling_pricing.server.pages.form_fields import Form
from kling_pricing.server.pages.visits import Answer, Content, Page, PageRoute, SeeOther, Visit
from kling_pricing.server.problem_documents import ProblemDocument, ViolationView, problem_of
from kling_pricing.strict_json import json_value, read_payload
from kling_pricing.tables.price_book import PriceBook
from kling_pricing.wire.formats import NAMES as WIRE_FORMATS

_MAX_FILES = 50
_SHOWN_OPTIONS = 40
_EXAMPLE = '{\n  "model": "",\n  "prompt": "",\n  "duration": 5\n}'
_PLACEHOLDER = "https://example.com/{}-{}.{}"
"""The URL that stands for a file of which only the number matters."""


class Alternative(NamedTuple):
    """Another way to run the job.

    Attributes:
        option: the option.
        difference: its price less that of the job as it is; None: in another currency, or without a price.
    """

    option: OptionView
    difference: Decimal | None


class Calculation(NamedTuple):
    """The answers about one payload.

    Attributes:
        payload: the payload as JSON text.
        options: the fields of the form that say how to read it.
        quote: the quote; None: it has none.
        refusal: the reason why it has no quote; None: it has one.
        violations: every reason why the provider's API would refuse it.
        alternatives: other ways to run the job that are available.
        unavailable: other ways that are not.
        decision: what an admission would do now; None: the project is not known, or there is no quote.
        no_decision: why there is no decision; None: there is one.
    """

    payload: str
    options: Mapping[str, str]
    quote: QuoteView | None
    refusal: ProblemDocument | None
    violations: list[ViolationView]
    alternatives: list[Alternative]
    unavailable: list[OptionView]
    decision: DecisionView | None
    no_decision: str | None


def show(visit: Visit) -> Content:
    """Shows the form, with what was typed."""
    return _content(visit, None)


def calculate(visit: Visit) -> Content:
    """Answers the form. Nothing is changed, so there is nothing to redirect to."""
    form = visit.form
    options = {name: form[name] for name in ("provider", "wire_format", "url") if form[name]}
    if form["how"] == "choose":
        text, options = _composed(form, options, visit.server.book)
    else:
        text = form.text("payload")
    return _content(visit, _calculation(visit, text, options))


def ask_for_allowance(visit: Visit) -> Answer:
    """Files a request for an allowance that would let the payload pass."""
    form = visit.form
    body = AskBody.model_validate({**_decision_fields(form), **_payload_fields(form), "reason": form["reason"]})
    file_allowance_request(body, visit.server, visit.caller)
    return SeeOther("/allowances", "requested")


def _payload_fields(form: Form) -> dict[str, Any]:
    options = {name: form[name] for name in ("provider", "wire_format", "url") if form[name]}
    return {"payload": dict(read_payload(json_value(form.text("payload")))), **options}


def _decision_fields(form: Form) -> dict[str, Any]:
    fields: dict[str, Any] = {name: form[name] for name in ("project", "key") if form[name]}
    return fields | {"labels": form.labels("labels")}


def _content(visit: Visit, result: Calculation | None) -> Content:
    book = visit.server.book
    names = {name for matrix in book.matrices.values() for name in (*matrix.models, *matrix.names)}
    facts = {
        "result": result,
        "providers": sorted(book.tables),
        "wire_formats": WIRE_FORMATS,
        "models": sorted(names),
        "resolutions": RESOLUTIONS,
        "example": _EXAMPLE,
        "may_ask": visit.may("submit"),
    }
    return Content("calculator", facts)


def _calculation(visit: Visit, text: str, options: Mapping[str, str]) -> Calculation:
    server, caller = visit.server, visit.caller
    payload = dict(read_payload(json_value(text)))
    body = PriceDocument.model_validate({"payload": payload, **options})
    quoted, refusal = None, None
    try:
        quoted = quote_payload(body, server, caller)
    except (CapabilityError, PriceNotFoundError) as error:
        refusal = problem_of(error)
    violations = check_payload(body, server, caller).violations
    found: list[OptionView] = []
    with suppress(CapabilityError):  # the model is unknown, which `refusal` says
        found = compare_prices(body, server, caller).options
    decision, no_decision = None, None
    if quoted is not None:
        try:
            wanted = {"payload": payload, **options, **_decision_fields(visit.form)}
            if caller.project is None and not visit.form["project"]:
                no_decision = "Give a project to see what would be left of its budgets."
            else:
                decision = decide_payload(DecisionDocument.model_validate(wanted), server, caller)
        except KlingPricingError as error:
            no_decision = str(error)
    elsewhere = [option for option in found if option.quote and _is_elsewhere(option, quoted)]
    changed = [option for option in found if option.quote and option.changes]
    return Calculation(
        text,
        options,
        quoted,
        refusal,
        violations,
        [_alternative(option, quoted) for option in elsewhere + changed[:_SHOWN_OPTIONS]],
        [option for option in found if not option.quote][:_SHOWN_OPTIONS],
        decision,
        no_decision,
    )


def _is_elsewhere(option: OptionView, quoted: QuoteView | None) -> bool:
    """Returns whether an option is the unchanged job at another provider."""
    return not option.changes and (quoted is None or option.provider != quoted.provider)


def _alternative(option: OptionView, quoted: QuoteView | None) -> Alternative:
    if option.quote is None or quoted is None or option.quote.currency != quoted.currency:
        return Alternative(option, None)
    return Alternative(option, option.quote.maximum - quoted.maximum)


def _composed(form: Form, options: Mapping[str, str], book: PriceBook) -> tuple[str, dict[str, str]]:
    """Returns the payload that the chosen settings stand for, and how to read it."""
    settings: dict[str, Any] = {}
    if form["duration_s"]:
        settings["duration_s"] = _whole(form, "duration_s")
    if form["resolution"]:
        settings["resolution"] = form["resolution"]
    if form["audio"]:
        settings["audio"] = form["audio"] == "yes"
    files = {
        "images": _urls(form, "images", "png"),
        "first_frame": [_PLACEHOLDER.format("first-frame", 1, "png")] if form.is_ticked("first_frame") else [],
        "last_frame": [_PLACEHOLDER.format("last-frame", 1, "png")] if form.is_ticked("last_frame") else [],
        "videos": _urls(form, "videos", "mp4"),
    }
    if not form["model"]:
        raise KlingPricingError("model: give the name of a model")
    description = RequestDescription(form["model"], settings, None, None, files)
    intake = Intake(options.get("provider"), options.get("wire_format"), None, book, url=options.get("url"))
    name, payload, url = compose(description, intake)
    read_as = {"wire_format": name, **({"url": url} if url else {})}
    return json.dumps(payload, ensure_ascii=False, indent=2), {**options, **read_as}


def _urls(form: Form, kind: str, ending: str) -> list[str]:
    count = _whole(form, kind) if form[kind] else 0
    if count > _MAX_FILES:
        raise KlingPricingError(f"{kind}: give at most {_MAX_FILES}, got {count}")
    return [_PLACEHOLDER.format(kind, number, ending) for number in range(1, count + 1)]


def _whole(form: Form, name: str) -> int:
    text = form[name]
    if not (text.isascii() and text.isdecimal() and len(text) <= len(str(10**9))):
        raise KlingPricingError(f"{name}: must be a whole number such as 5, got {shown(text)}")
    return int(text)


PAGE = Page(
    "Calculator",
    "/calculator",
    (
        PageRoute("GET", "/calculator", show),
        PageRoute("POST", "/calculator", calculate, back=show),
        PageRoute("POST", "/calculator/ask", ask_for_allowance, role="submit", back=calculate),
    ),
)
