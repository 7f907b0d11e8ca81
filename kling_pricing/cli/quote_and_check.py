"""`kling-pricing quote` and `kling-pricing check`: the commands that process many requests."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cache, partial
from itertools import chain
from typing import Any

import click

from kling_pricing.cli.description import description_options, pop_description
from kling_pricing.cli.exit_codes import (
    DONE,
    INTERRUPTED,
    REFUSED,
    UNREADABLE,
    exit_code,
    exit_codes_help,
)
from kling_pricing.cli.failures import error_dict, error_text, errors_shown, violation_dict
from kling_pricing.cli.inputs import Item, UnreadableInputError
from kling_pricing.cli.interruption import Interruption
from kling_pricing.cli.list_options import group_option, list_options
from kling_pricing.cli.list_runs import LIST_OPTIONS, ListRun, summary_lines
from kling_pricing.cli.options import request_options
from kling_pricing.cli.output import (
    HEADINGS,
    echo,
    json_text,
    placed_json,
    print_whole,
    row_text,
    to_json,
    totals_text,
)
from kling_pricing.cli.result_forms import CheckForm, QuoteForm
from kling_pricing.cli.wording import with_options
from kling_pricing.display import printable
from kling_pricing.errors import CapabilityError, KlingPricingError
from kling_pricing.money import add
from kling_pricing.quoting.engine import check
from kling_pricing.quoting.intake import Intake
from kling_pricing.quoting.quote import Quote
from kling_pricing.shot_lists.errors import ShotListError
from kling_pricing.strict_json import as_object, json_value

_NOTHING = Decimal(0)

MAX_TOGETHER = 64
"""Maximum number of results in one batch of output; the system is slow to provide memory for larger batches."""


@dataclass
class Tally:
    """The outcomes of the requests so far.

    Attributes:
        totals: currency -> the sum of the quotes; a range counts as its maximum.
        ranges: the currencies whose sum includes a range.
        counts: outcome -> the number of requests.
        exit_code: the highest exit code so far.
    """

    totals: dict[str, Decimal] = field(default_factory=dict)
    ranges: set[str] = field(default_factory=set)
    counts: dict[str, int] = field(default_factory=lambda: {"done": 0, "refused": 0, "unreadable": 0})
    exit_code: int = DONE

    def done(self) -> None:
        self.counts["done"] += 1

    def add(self, quoted: Quote) -> None:
        self.counts["done"] += 1
        currency = quoted.table.currency
        self.totals[currency] = add(self.totals.get(currency, _NOTHING), quoted.maximum)
        if quoted.minimum != quoted.maximum:
            self.ranges.add(currency)

    def failed(self, code: int) -> None:
        self.counts["refused" if code == REFUSED else "unreadable"] += 1
        self.exit_code = max(self.exit_code, code)


Answer = Callable[[Item, Mapping[str, Any], Tally, bool], str | None]
"""Returns the printable result for one request; None: it is not printed.

The last argument says whether it is the only request."""


@click.command("quote", epilog=exit_codes_help("every request is quoted", "at least one request is refused"))
@click.argument("files", nargs=-1, metavar="FILE...|-")
@description_options
@list_options
@group_option
@request_options
def quote_command(files: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Quote a request, and explain every number.

    Each FILE contains one JSON request, a JSON array of requests, JSON Lines, or a shot list: a CSV, TSV, XLSX
    or Parquet file with one request per row, whose columns are fields. FILE can also be a folder or a pattern;
    - means standard input. The command explains the price of a single request. For several requests, the
    command prints a table with totals. Instead of giving a FILE, you can describe a request with --model and
    the options listed after it. The command then writes the request for the chosen provider's API.

    \b
    Examples:
      kling-pricing quote request.json
      kling-pricing quote --json requests.jsonl
      kling-pricing quote shots.csv --set resolution=1080p --out priced.xlsx
      kling-pricing quote --model kling-v3 --duration 5 --resolution 1080p
      kling-pricing quote --model kling-v3 --duration 5 --image 1 --provider kling
    """
    description, media = pop_description(options, without_file=not files)
    options["media"] = {**media, **(options["media"] or {})} or None
    reading = {name: options.pop(name) for name in ("groups", *LIST_OPTIONS)}
    new_intake = partial(Intake, **options)  # without `at`, each request has the prices of its own instant
    intake: Callable[[], Intake] = new_intake if options["at"] is None else cache(new_intake)
    run = ListRun(files, intake, QuoteForm(), reading)
    quick = Item("request", None, {}, alone=True) if description is not None else None

    def answer(item: Item, payload: Mapping[str, Any], tally: Tally, alone: bool) -> str | None:
        if description is not None:
            from kling_pricing.quoting.composing import quote_description  # noqa: PLC0415 (rarely needed)

            result = quote_description(description, intake())
        else:
            result = run.quoted(item, payload)
        tally.add(result)
        run.done(item, result, result)
        if run.is_written:
            return None
        if as_json:
            return json_text(result) if alone else placed_json(json_text(result), item.place)
        if alone:
            return printable(with_options(result.explain()))
        return f"{row_text(result)} {printable(item.place)}"

    answer_all(run, quick, answer, as_json=as_json, headings=HEADINGS)


@click.command("check", epilog=exit_codes_help("every request is valid", "at least one request is refused"))
@click.argument("files", nargs=-1, required=True, metavar="FILE...|-")
@list_options
@request_options
def check_command(files: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Check whether the API would accept a request.

    If the API would refuse the request, the command lists every reason. The command does not check prices, so a
    valid request may have no published price. Each FILE contains one JSON request, a JSON array of requests,
    JSON Lines, or a shot list: a CSV, TSV, XLSX or Parquet file with one request per row, whose columns are
    fields. FILE can also be a folder or a pattern; - means standard input.

    \b
    Examples:
      kling-pricing check request.json
      kling-pricing check --json requests.jsonl
      kling-pricing check shots.xlsx --map Seconds=duration
    """
    reading = {name: options.pop(name) for name in LIST_OPTIONS}
    run = ListRun(files, partial(Intake, **options), CheckForm(), reading)

    def answer(item: Item, payload: Mapping[str, Any], tally: Tally, alone: bool) -> str | None:
        own_options = {} if item.row is None else item.row.shot.options
        violations = check(payload, **{**options, **own_options})
        if violations:
            tally.failed(REFUSED)
            messages = "; ".join(violation.message for violation in violations)
            run.refused(item, CapabilityError(messages, violations=violations))
        else:
            tally.done()
            run.done(item, violations, None)
        if run.is_refusal_written if violations else run.is_written:
            return None
        if as_json:
            outcome = {
                "valid": not violations,
                "violations": [violation_dict(violation) for violation in violations],
            }
            return printable(to_json(_placed(outcome, item, alone=alone)))
        reasons = [
            f"  {with_options(violation.message)} [{violation.code}, {violation.source}]"
            for violation in violations
        ]
        return printable("\n".join([f"{item.place}: {'refused' if violations else 'valid'}", *reasons]))

    answer_all(run, None, answer, as_json=as_json, headings="")


def _totals(tally: Tally) -> str:
    return totals_text(tally.totals, tally.ranges, tally.counts)


def answer_all(
    run: ListRun,
    quick: Item | None,
    answer: Answer,
    *,
    as_json: bool,
    headings: str,
    summary: Callable[[Tally], str] = _totals,
) -> None:
    """Processes every request in order; reports a bad request and continues with the next one.

    Prints results in batches, and always before the command waits for more input.

    Args:
        run: the inputs, and what becomes of the results.
        quick: the only request, if it comes from no input.
        answer: returns the result for one request; None if it is not printed.
        as_json: whether results are JSON; the summary then goes to standard error.
        headings: the line above the results of several requests.
        summary: returns the closing lines for several requests.
    """
    tally = Tally()
    many = True
    answers: list[str] = []
    requests = iter([quick]) if quick is not None else run.items()
    try:
        with errors_shown(as_json=False), run.writing(), Interruption() as interruption:
            interruption.allowed(waiting=True)
            first = next(filter(None, requests), None)
            many = len(run.paths) > 1 or first is None or not first.alone
            if many and headings and not as_json and not run.is_written:
                answers.append(headings)
            for item in chain([first], requests):
                interruption.allowed(waiting=False)
                if item is not None:
                    text = _text(item, answer, tally, run, as_json=as_json, alone=not many)
                    if text is not None:
                        answers.append(text)
                if item is None or len(answers) >= MAX_TOGETHER:
                    _print(answers)
                    interruption.allowed(waiting=True)
            _print(answers)
    except KeyboardInterrupt:
        tally.exit_code, many = INTERRUPTED, True
        _print(answers)
        is_written = run.is_refusal_written
        echo(
            "interrupted; no file was written" if is_written else "interrupted; all results above are complete",
            err=True,
        )
    except (SystemExit, click.UsageError):  # an answer has ended the command
        _print(answers)
        raise
    if many or run.has_lists:
        echo("\n".join([*summary_lines(run), summary(tally)]), err=as_json)
    sys.exit(tally.exit_code)


def _print(answers: list[str]) -> None:
    """Prints a batch of results, and empties the batch."""
    print_whole("\n".join([*answers, ""]))
    answers.clear()


def _text(item: Item, answer: Answer, tally: Tally, run: ListRun, *, as_json: bool, alone: bool) -> str | None:
    """Returns the result for a request; None if it is not printed, or is printed to standard error."""
    is_read = False
    try:
        request = item.request
        if isinstance(request, KlingPricingError):
            raise request
        payload = run.payload(item, as_object(json_value(request) if isinstance(request, bytes) else request))
        is_read = True
        return answer(item, payload, tally, alone)
    except KlingPricingError as error:
        code = exit_code(error) if is_read else UNREADABLE
        tally.failed(code)
        (run.refused if is_read else run.unreadable)(item, error)
        if run.is_refusal_written and is_read:
            return None
        if as_json:
            return printable(to_json(_placed(error_dict(error), item, alone=alone)))
        if isinstance(error, UnreadableInputError | ShotListError):
            echo(str(error), err=True)
            return None
        return printable(error_text(error, item.place, code))


def _placed(outcome: dict[str, Any], item: Item, *, alone: bool) -> dict[str, Any]:
    """Adds the request's place in the input as the first key of a result, unless it is the only request."""
    return outcome if alone else {"place": item.place, **outcome}
