"""`kling-pricing fit`: the part of a shot list that a sum of money pays for."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any, NamedTuple

import click

from kling_pricing.cli.exit_codes import DONE, REFUSED, exit_codes_help
from kling_pricing.cli.failures import error_dict, errors_shown
from kling_pricing.cli.inputs import Item
from kling_pricing.cli.ledger_options import read_amount
from kling_pricing.cli.list_options import list_options
from kling_pricing.cli.list_runs import LIST_OPTIONS, ListRun
from kling_pricing.cli.options import request_options
from kling_pricing.cli.output import counted, echo, to_json
from kling_pricing.cli.result_forms import FitForm, FitResult
from kling_pricing.cli.wording import with_options
from kling_pricing.errors import KlingPricingError
from kling_pricing.money import format_decimal
from kling_pricing.quoting.intake import Intake
from kling_pricing.quoting.quote import Quote
from kling_pricing.quoting.settings import Limits
from kling_pricing.quoting.variants import cheaper_variants
from kling_pricing.shot_lists.fitting import (
    FittedList,
    FittedShot,
    Length,
    ShotPrice,
    fit_in_order,
    fit_most,
    fit_shorter,
)

_RULES = {
    "order": "in the order of the list; a shot that does not fit is left out, and a cheaper shot after it may "
    "still fit",
    "most": "the greatest number of shots, so the cheapest first; among shots of the same price, the first "
    "in the list",
    "shorter": "every shot, with the longest ones shortened to a common limit; the money that is left "
    "is used to lengthen shots again, in the order of the list",
}
_ONLY_LENGTH = Limits(sacrifice=("duration_s",))


class _ListedShot(NamedTuple):
    """A shot of the list: its place, and its quote or the reason why it has none."""

    item: Item
    outcome: Quote | KlingPricingError


@click.command(
    "fit",
    epilog=exit_codes_help("every shot fits", "a shot does not fit or is refused"),
)
@click.argument("files", nargs=-1, required=True, metavar="FILE...|-")
@click.option("--money", required=True, callback=read_amount, metavar="AMOUNT", help="The money to spend.")
@click.option("--currency", help="Currency of the money. Default: the currency of the prices.")
@click.option("--most", "is_most", is_flag=True, help="Fit the greatest number of shots.")
@click.option("--shorter", "is_shorter", is_flag=True, help="Shorten shots until all of them fit.")
@list_options
@request_options
def fit_command(
    files: tuple[str, ...],
    money: Decimal,
    currency: str | None,
    is_most: bool,
    is_shorter: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Show which shots a sum of money pays for.

    Each FILE is a shot list (CSV, TSV, XLSX or Parquet) or contains JSON requests. Shots are taken in the order
    of the list. A shot that does not fit is left out; a cheaper shot after it may still fit. A price range
    counts at its maximum.

    With --shorter, the command finds out how much shorter the shots must be so that all of them fit. It only
    suggests lengths that the API accepts, and never shortens a request with several shots.

    \b
    Examples:
      kling-pricing fit shots.csv --money 100
      kling-pricing fit shots.csv --money 100 --most
      kling-pricing fit shots.xlsx --money 100 --shorter --out fitted.xlsx
    """
    if is_most and is_shorter:
        raise click.UsageError("give either --most or --shorter")
    listed = {name: options.pop(name) for name in LIST_OPTIONS}
    intake = Intake(**options)
    run = ListRun(files, lambda: intake, FitForm(), listed)
    rule = "most" if is_most else "shorter" if is_shorter else "order"
    with errors_shown(as_json=as_json), run.writing():
        shots, prices = _priced(run, with_lengths=is_shorter)
        currency = _currency([shot.outcome for shot in shots], currency)
        choose = {"order": fit_in_order, "most": fit_most, "shorter": fit_shorter}[rule]
        fit = choose(prices, money)
        decided = [*_decided(shots, fit)]
        for shot, decision in decided:
            _write(run, shot, decision)
    shown = [entry for entry in decided if not (run.is_refusal_written if entry[1] is None else run.is_written)]
    total_text = _summary(fit, len(shots), money, currency, rule)
    if as_json:
        for shot, decision in shown:
            echo(to_json(_data(shot, decision)))
        echo(total_text, err=True)
    else:
        echo("\n".join([total_text, *_lines(shown)]))
    all_fit = all(decision.fits for decision in fit.shots) and len(fit.shots) == len(shots)
    sys.exit(DONE if all_fit else REFUSED)


def _priced(run: ListRun, *, with_lengths: bool) -> tuple[list[_ListedShot], list[ShotPrice]]:
    """Returns all shots, and the prices of those that are not refused."""
    shots: list[_ListedShot] = []
    prices: list[ShotPrice] = []
    known: dict[int, ShotPrice] = {}
    for item, payload, outcome in run.priced():
        kept = item if run.is_refusal_written else item._replace(request=None)
        shots.append(_ListedShot(kept, outcome))
        if isinstance(outcome, KlingPricingError):
            continue
        price = known.get(id(outcome))  # equal rows share a quote, which `shots` keeps alive
        if price is None:
            intake = run.intake(None if item.row is None else item.row.shot)
            lengths = [*_lengths(payload, outcome, intake)] if with_lengths else ()
            price = known[id(outcome)] = ShotPrice(outcome.maximum, lengths)
        prices.append(price)
    return shots, prices


def _decided(shots: list[_ListedShot], fit: FittedList) -> Iterator[tuple[_ListedShot, FittedShot | None]]:
    """Yields each shot with the decision about it; None: it is refused."""
    decisions = iter(fit.shots)
    for shot in shots:
        yield shot, None if isinstance(shot.outcome, KlingPricingError) else next(decisions)


def _write(run: ListRun, shot: _ListedShot, decision: FittedShot | None) -> None:
    if isinstance(shot.outcome, KlingPricingError):
        run.refused(shot.item, shot.outcome)
    elif decision is not None:
        run.done(shot.item, FitResult(decision, shot.outcome.currency), None)


def _lengths(payload: Mapping[str, Any], quoted: Quote, intake: Intake) -> Iterator[Length]:
    """Yields the valid lengths of a shot with their prices, its own first; nothing if its length is unknown."""
    own = quoted.request.facts["duration_s"]
    if own is None:
        return
    yield Length(own, quoted.maximum)
    cheapest = quoted.maximum
    for variant in cheaper_variants(payload, quoted, _ONLY_LENGTH, intake):
        if variant.quote.maximum < cheapest and variant.quote.currency == quoted.currency:
            cheapest = variant.quote.maximum
            yield Length(variant.changes["duration_s"], cheapest)


def _currency(outcomes: list[Quote | KlingPricingError], given: str | None) -> str:
    """Returns the currency of the prices.

    Raises:
        KlingPricingError: prices are in several currencies, or not in the currency of the money.
    """
    if given is not None and not (len(given) == len("USD") and given.isascii() and given.isupper()):
        raise KlingPricingError(f"currency must be three capital letters, such as USD, got {given}")
    currencies = {outcome.currency for outcome in outcomes if isinstance(outcome, Quote)}
    if len(currencies) > 1:
        raise KlingPricingError(
            f"the shots are priced in several currencies ({', '.join(sorted(currencies))}); choose one "
            "provider with --provider, or run the command once per provider"
        )
    if given is not None and currencies and given not in currencies:
        raise KlingPricingError(
            f"the shots are priced in {currencies.pop()}, not in {given}; give the money in the currency of "
            "the prices"
        )
    return given or next(iter(currencies), "")


def _summary(fit: FittedList, count: int, money: Decimal, currency: str, rule: str) -> str:
    fitting = sum(shot.fits for shot in fit.shots)
    amounts = f"{_money(fit.spent, currency)}, {_money(fit.left, currency)} left"
    lines = [
        f"{fitting} of {counted(count, 'shot')} fit into {_money(money, currency)}: {amounts}",
        f"rule: {_RULES[rule]}",
    ]
    if fit.lacking:
        lines.append(
            f"even with the shortest lengths that the API accepts, {_money(fit.lacking, currency)} more would "
            "be needed; remove shots, or use --most"
        )
    shortened = sum(shot.duration_s is not None for shot in fit.shots)
    if shortened:
        lines.append(f"{counted(shortened, 'shot')} shortened, to at most {fit.longest_s} seconds")
    return "\n".join(lines)


def _money(amount: Decimal, currency: str) -> str:
    return f"{format_decimal(amount)} {currency}".rstrip()


def _lines(decided: list[tuple[_ListedShot, FittedShot | None]]) -> Iterator[str]:
    amounts = [format_decimal(decision.amount) for _, decision in decided if decision is not None]
    widest = max(map(len, amounts), default=0)
    for shot, decision in decided:
        if isinstance(shot.outcome, KlingPricingError):
            yield f"  refused   {'':>{widest + 4}}  {shot.item.place}: {with_options(str(shot.outcome))}"
        elif decision is not None:
            amount = f"{format_decimal(decision.amount):>{widest}} {shot.outcome.currency}"
            outcome = "fits" if decision.fits else "left out"
            yield f"  {outcome:<8}  {amount}  {shot.item.place}{_shortening(shot, decision)}"


def _shortening(shot: _ListedShot, decision: FittedShot) -> str:
    if decision.duration_s is None or isinstance(shot.outcome, KlingPricingError):
        return ""
    return f": {decision.duration_s} seconds instead of {shot.outcome.request.facts['duration_s']}"


def _data(shot: _ListedShot, decision: FittedShot | None) -> dict[str, Any]:
    if decision is None or isinstance(shot.outcome, KlingPricingError):
        error = error_dict(shot.outcome) if isinstance(shot.outcome, KlingPricingError) else {}
        return {"place": shot.item.place, "outcome": "refused", **error}
    return {
        "place": shot.item.place,
        "outcome": "fits" if decision.fits else "left_out",
        "amount": format_decimal(decision.amount),
        "currency": shot.outcome.currency,
        "duration_s": decision.duration_s,
    }
