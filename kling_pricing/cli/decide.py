"""`kling-pricing decide`: whether requests would be admitted now, without reserving anything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from decimal import Decimal
from functools import partial
from typing import Any

import click

from kling_pricing.cli.exit_codes import REFUSED, exit_code, exit_codes_help
from kling_pricing.cli.failures import error_dict, error_text, fail
from kling_pricing.cli.inputs import Item
from kling_pricing.cli.ledger_options import (
    account_option,
    json_option,
    labels_option,
    ledger_option,
    opened_guard,
)
from kling_pricing.cli.list_options import group_option, list_options
from kling_pricing.cli.list_runs import LIST_OPTIONS, ListRun
from kling_pricing.cli.options import provider_options
from kling_pricing.cli.output import counted, to_json
from kling_pricing.cli.quote_and_check import Tally, answer_all
from kling_pricing.cli.result_forms import DecideForm
from kling_pricing.display import printable, shown
from kling_pricing.errors import LedgerUnavailableError
from kling_pricing.guard import BudgetEffect, Decision
from kling_pricing.money import add, format_decimal
from kling_pricing.quoting.intake import Intake
from kling_pricing.tables.price_book import PriceBook

_NOTHING = Decimal(0)


@click.command(
    "decide",
    epilog=exit_codes_help(
        "every request would be admitted",
        "at least one request would be refused",
        "bad usage, unreadable input, or a ledger that cannot be used",
    ),
)
@click.argument("files", nargs=-1, required=True, metavar="FILE...|-")
@click.option("--project", help="Project of the requests whose shot list has no column `project`.")
@click.option("--key", help="Your own name for the job, such as shot-1. Only for a FILE with one request.")
@labels_option
@account_option
@ledger_option
@list_options
@group_option
@provider_options
@json_option
def decide_command(
    files: tuple[str, ...],
    project: str | None,
    key: str | None,
    labels: dict[str, str],
    account: str | None,
    ledger: str,
    book: PriceBook,
    as_json: bool,
    **options: Any,
) -> None:
    """Show whether requests would be admitted now.

    Each FILE contains one JSON request, a JSON array of requests, JSON Lines, or a shot list: a CSV, TSV, XLSX
    or Parquet file with one request per row, whose columns are fields. A shot list can also have the columns
    project, key and label.NAME. FILE can also be a folder or a pattern; - means standard input. For each
    request, the command shows whether `pre-submit` would admit it as it is, change it to fit, or refuse it, and
    how much each matching budget has left before and afterwards.

    Several requests are decided in order. Each request that would be admitted counts as reserved for the
    requests after it. A request that would be refused does not count, so a cheaper request after it may still
    fit.

    The command changes nothing in the ledger. Other requests may be admitted before yours.

    \b
    Examples:
      kling-pricing decide request.json --project trailer
      kling-pricing decide requests.jsonl --project trailer --json
      kling-pricing decide shots.csv --out decided.csv --refusals refused.csv
    """
    lists = {name: options.pop(name) for name in ("groups", *LIST_OPTIONS)}
    outcomes: Counter[str] = Counter()
    last: list[Decision] = []
    with opened_guard(ledger, book=book, as_json=as_json) as guard:
        run = ListRun(files, partial(Intake, book=book, **options), DecideForm(), lists)

        def answer(item: Item, payload: Mapping[str, Any], tally: Tally, alone: bool) -> str | None:
            about, shot = run.about(item), item.row and item.row.shot
            its_project = about.get("project") or project
            if its_project is None:
                raise click.UsageError(
                    f"{item.place}: the request has no project; give one with --project, or add a column "
                    "`project` to the shot list"
                )
            if key is not None and not alone:
                raise click.UsageError(
                    "--key names a single job, but FILE contains several requests; omit --key"
                )
            try:
                decision = guard.decide(
                    payload,
                    project=its_project,
                    key=about.get("key") or key,
                    labels={**labels, **(shot.labels if shot else {})},
                    account=account,
                    after=last[0] if last else None,
                    **{**options, **(shot.options if shot else {})},
                )
            except LedgerUnavailableError as error:
                fail(error, as_json=as_json)
            last[:] = [decision]
            outcomes[decision.outcome] += 1
            if decision.refusal is not None:
                tally.failed(exit_code(decision.refusal))
                run.refused(item, decision.refusal)
            else:
                tally.done()
                run.done(item, decision, decision.quote)
            if decision.outcome in {"admitted", "capped"}:
                currency = decision.quote.currency
                tally.totals[currency] = add(tally.totals.get(currency, _NOTHING), decision.reserved)
            if run.is_refusal_written if decision.refusal is not None else run.is_written:
                return None
            if as_json:
                place = {} if alone else {"place": item.place}
                return printable(to_json(place | _decision_dict(decision)))
            return printable(_text(decision, "" if alone else item.place))

        def summary(tally: Tally) -> str:
            failed = tally.counts["refused"] - outcomes["refused"]
            return _summary(outcomes, failed, tally)

        answer_all(run, None, answer, as_json=as_json, headings="", summary=summary)


def _text(decision: Decision, place: str) -> str:
    """Returns a decision in sentences: the outcome, and a line for each budget."""
    before = f"{place}: " if place else ""
    amount = f"{format_decimal(decision.reserved)} {decision.quote.currency}"
    if decision.refusal is not None:
        first = error_text(decision.refusal, place, REFUSED)
    elif decision.reservation is not None:
        first = f"{before}admitted: {amount} is reserved already, as {decision.reservation.id}"
    elif decision.changes:
        changes = ", ".join(f"{setting} = {shown(value)}" for setting, value in decision.changes.items())
        first = f"{before}admitted with {changes}: {amount} would be reserved"
    else:
        first = f"{before}admitted as it is: {amount} would be reserved"
    lines = [_effect_text(effect, decision) for effect in decision.budgets]
    if not lines and decision.passes:
        lines = ["no budget counts the request"]
    return "\n".join([first, *(f"  {line}" for line in lines)])


def _effect_text(effect: BudgetEffect, decision: Decision) -> str:
    labels = "".join(f", {label} {value}" for label, value in effect.labels.items())
    window = "" if effect.rolling is None else f", rolling {effect.rolling}"
    left = f"{format_decimal(effect.left_before)} of {format_decimal(effect.cap)} {effect.currency} left"
    line = f"{effect.budget}{labels}{window}: {left}"
    if not effect.fits:
        limit = effect.max_request
        if limit is not None and effect.requested > limit:
            line += f", and at most {format_decimal(limit)} {effect.currency} per request"
        return f"{line}; the request needs {format_decimal(effect.requested)}"
    if decision.outcome in {"admitted", "capped"}:
        return f"{line}, {format_decimal(effect.left_after)} afterwards"
    return line


def _decision_dict(decision: Decision) -> dict[str, Any]:
    """Returns a decision as JSON-ready data; amounts are text, instants are ISO 8601."""
    reservation = decision.reservation
    return {
        "outcome": decision.outcome,
        "reserved": format_decimal(decision.reserved),
        "currency": decision.quote.currency,
        "changes": dict(decision.changes),
        "reservation_id": None if reservation is None else reservation.id,
        "budgets": [_effect_dict(effect) for effect in decision.budgets],
        "at": decision.at.isoformat(),
        **({"error": None} if decision.refusal is None else error_dict(decision.refusal)),
    }


def _effect_dict(effect: BudgetEffect) -> dict[str, Any]:
    fields = effect._asdict() | {"labels": dict(effect.labels)}
    for name in ("requested", "left_before", "left_after", "cap", "max_request"):
        fields[name] = None if fields[name] is None else format_decimal(fields[name])
    fields["window_end"] = fields["window_end"] and fields["window_end"].isoformat()
    return fields


def _summary(outcomes: Mapping[str, int], invalid: int, tally: Tally) -> str:
    """Returns how many of several requests fit, and how much they would reserve."""
    fit = outcomes.get("admitted", 0) + outcomes.get("capped", 0)
    total = sum(tally.counts.values())
    capped = f", {outcomes['capped']} of them with changes" if outcomes.get("capped") else ""
    reserved = ", ".join(f"{format_decimal(amount)} {name}" for name, amount in sorted(tally.totals.items()))
    lines = [f"{fit} of {counted(total, 'request')} would be admitted{capped}: {reserved or 'nothing'}"]
    others = {
        "would be refused": outcomes.get("refused", 0),
        "invalid or without a price": invalid,
        "unreadable": tally.counts["unreadable"],
    }
    lines += [f"{count} {what}" for what, count in others.items() if count]
    return "\n".join(lines)
