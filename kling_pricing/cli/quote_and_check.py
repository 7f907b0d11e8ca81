"""`kling-pricing quote` and `kling-pricing check`: the commands that read requests."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial
from itertools import chain
from typing import Any

import click

from kling_pricing.cli.inputs import Item, UnreadableInputError, items, opened
from kling_pricing.cli.interruption import Interruption
from kling_pricing.cli.options import request_options
from kling_pricing.cli.output import (
    HEADINGS,
    error_dict,
    error_text,
    json_text,
    placed_json,
    print_whole,
    row_text,
    to_json,
    totals_text,
    violation_dict,
)
from kling_pricing.errors import KlingPricingError
from kling_pricing.money import add
from kling_pricing.quoting.engine import check, quote
from kling_pricing.quoting.quote import Quote
from kling_pricing.strict_json import as_object, json_value

REFUSED, UNREADABLE, INTERRUPTED = 1, 2, 130

_NOTHING = Decimal(0)

MAX_TOGETHER = 500
"""So many answers are printed at a time."""


@dataclass
class Tally:
    """What became of the requests so far.

    Attributes:
        totals: currency -> the sum of what was quoted, of ranges their maximum.
        ranges: the currencies whose sum has a range in it.
        counts: how many were done, refused and unreadable.
        exit_code: the worst so far.
    """

    totals: dict[str, Decimal] = field(default_factory=dict)
    ranges: set[str] = field(default_factory=set)
    counts: dict[str, int] = field(default_factory=lambda: {"done": 0, "refused": 0, "unreadable": 0})
    exit_code: int = 0

    def done(self) -> None:
        self.counts["done"] += 1

    def add(self, quoted: Quote) -> None:
        self.counts["done"] += 1
        currency = quoted.table.currency
        self.totals[currency] = add(self.totals.get(currency, _NOTHING), quoted.maximum)
        if quoted.minimum != quoted.maximum:
            self.ranges.add(currency)

    def failed(self, what: str, exit_code: int) -> None:
        self.counts[what] += 1
        self.exit_code = max(self.exit_code, exit_code)


Answer = Callable[[Item, Mapping[str, Any], Tally, bool], str]
"""Answers one request, given its payload; the last argument says whether it is the only one.

May raise `KlingPricingError`.
"""


@click.command("quote")
@click.argument("files", nargs=-1, metavar="FILE...|-")
@click.option("--model", help="Without a FILE: the model, as the API names it.")
@click.option("--duration", type=int, help="Without a FILE: seconds of video.")
@click.option("--resolution", help="Without a FILE: 720p, 1080p, 4k.")
@click.option("--audio/--no-audio", default=None, help="Without a FILE: whether audio is generated.")
@request_options
def quote_command(
    files: tuple[str, ...],
    model: str | None,
    duration: int | None,
    resolution: str | None,
    audio: bool | None,
    as_json: bool,
    **settings: Any,
) -> None:
    """Say what a request will cost, exactly, and why.

    A FILE holds one JSON request, a JSON array of them, or JSON Lines; - is standard input.
    A quick answer needs no file:

    \b
    kling-pricing quote --model kling-v3 --duration 5 --resolution 1080p --audio
    """
    said = {"model": model, "duration": duration, "resolution": resolution, "audio": audio}
    if files and any(value is not None for value in said.values()):
        raise click.UsageError("give either FILEs or --model and its companions, not both")
    if not files and model is None:
        raise click.UsageError("give a FILE (- for standard input), or --model for a quick answer")
    quick = None if files else Item("request", None, {**said, "prompt": "a prompt"}, alone=True)
    quoted: Callable[..., Quote] = partial(quote, **settings)

    def answer(item: Item, payload: Mapping[str, Any], tally: Tally, alone: bool) -> str:
        found = quoted(payload)
        tally.add(found)
        if as_json:
            return json_text(found) if alone else placed_json(json_text(found), item.place)
        return found.explain() if alone else f"{row_text(found)} {item.place}"

    _answer_all(files, quick, answer, as_json=as_json, headings=HEADINGS)


@click.command("check")
@click.argument("files", nargs=-1, required=True, metavar="FILE...|-")
@request_options
def check_command(files: tuple[str, ...], as_json: bool, **settings: Any) -> None:
    """Say whether the API would accept a request, and if not, every reason.

    A FILE holds one JSON request, a JSON array of them, or JSON Lines; - is standard input.
    """

    def answer(item: Item, payload: Mapping[str, Any], tally: Tally, alone: bool) -> str:
        violations = check(payload, **settings)
        if violations:
            tally.failed("refused", REFUSED)
        else:
            tally.done()
        if as_json:
            found = {"valid": not violations, "violations": [violation_dict(each) for each in violations]}
            return to_json(_placed(found, item, alone=alone))
        reasons = [f"  {each.message} [{each.code}, {each.source}]" for each in violations]
        return "\n".join([f"{item.place}: {'refused' if violations else 'valid'}", *reasons])

    _answer_all(files, None, answer, as_json=as_json, headings="")


def _answer_all(
    files: tuple[str, ...], quick: Item | None, answer: Answer, *, as_json: bool, headings: str
) -> None:
    """Answers every request in order, one at a time; a bad one is reported and the next is read.

    Answers are printed many together, but before anything is waited for.
    """
    tally = Tally()
    many = True
    answers: list[str] = []
    requests = iter([quick]) if quick is not None else _items(files)
    try:
        with Interruption() as interruption:
            interruption.allowed(waiting=True)
            first = next(filter(None, requests), None)
            many = len(files) > 1 or first is None or not first.alone
            if many and headings and not as_json:
                answers.append(headings)
            for item in chain([first], requests):
                interruption.allowed(waiting=False)
                if item is not None:
                    text = _text(item, answer, tally, as_json=as_json, alone=not many)
                    answers += [] if text is None else [text]
                if item is None or len(answers) >= MAX_TOGETHER:
                    _print(answers)
                    interruption.allowed(waiting=True)
            _print(answers)
    except KeyboardInterrupt:
        tally.exit_code, many = INTERRUPTED, True
        _print(answers)
        click.echo("interrupted; what was printed stands", err=True)
    if many:
        click.echo(totals_text(tally.totals, tally.ranges, tally.counts), err=as_json)
    sys.exit(tally.exit_code)


def _print(answers: list[str]) -> None:
    """Prints answers that were not printed yet."""
    print_whole("".join(f"{answer}\n" for answer in answers))
    answers.clear()


def _items(files: tuple[str, ...]) -> Iterator[Item | None]:
    """The requests of all files; a file that cannot be read is an item too, and the next is opened.

    None wherever what follows may be long in coming.
    """
    for path in files:
        try:
            with opened(path) as source:
                yield from items(source)
        except UnreadableInputError as error:
            yield None  # so that what was printed before it stands before it
            yield Item(path, None, error, alone=True)


def _text(item: Item, answer: Answer, tally: Tally, *, as_json: bool, alone: bool) -> str | None:
    """The answer to a request; None where only standard error gets it."""
    what, exit_code = "unreadable", UNREADABLE
    try:
        request = item.request
        if isinstance(request, UnreadableInputError):
            raise request
        payload = as_object(json_value(request) if isinstance(request, bytes) else request)
        what, exit_code = "refused", REFUSED
        return answer(item, payload, tally, alone)
    except KlingPricingError as error:
        tally.failed(what, exit_code)
        if as_json:
            return to_json(_placed(error_dict(error), item, alone=alone))
        if isinstance(error, UnreadableInputError):
            click.echo(str(error), err=True)
            return None
        return error_text(error, item.place)


def _placed(found: dict[str, Any], item: Item, *, alone: bool) -> dict[str, Any]:
    """An answer with its place in the input in front, where there are several."""
    return found if alone else {"place": item.place, **found}
