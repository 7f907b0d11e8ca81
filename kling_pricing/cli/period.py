"""The options for the period that a command covers: `--month`, or `--from` and `--until`, in a time zone."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import TypeVar

import click

from kling_pricing.cli.options import instant_option
from kling_pricing.errors import KlingPricingError
from kling_pricing.reconcile.months import check_month
from kling_pricing.reports.spend import month_of, to_instant
from kling_pricing.windows import Period, zone

F = TypeVar("F", bound=Callable[..., object])


def read_month(_ctx: click.Context, _option: click.Parameter, value: str | None) -> str | None:
    """Reads a month."""
    try:
        if value is not None:
            check_month(value)
    except KlingPricingError as error:
        raise click.BadParameter(str(error)) from None
    return value


def _zone(_ctx: click.Context, _option: click.Parameter, value: str) -> str:
    try:
        zone(value)
    except KlingPricingError as error:
        raise click.BadParameter(str(error)) from None
    return value


def period_options(*, current: bool) -> Callable[[F], F]:
    """Returns a decorator that adds the options. `chosen_period` reads their values.

    Args:
        current: whether the period is the current month by default; otherwise, the options are required.
    """
    default = "Default: the current month." if current else "Required unless you give --from and --until."
    options = (
        click.option("--month", metavar="YYYY-MM", callback=read_month, help=f"Calendar month. {default}"),
        instant_option(
            "--from", "Start of the period, inclusive (ISO 8601); replaces --month.", name="since", days=True
        ),
        instant_option("--until", "End of the period, exclusive (ISO 8601); replaces --month.", days=True),
        click.option(
            "--timezone",
            default="UTC",
            show_default=True,
            callback=_zone,
            metavar="ZONE",
            help="IANA name of the time zone that determines when days and months start.",
        ),
    )

    def add(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return add


def as_of_option(help_text: str) -> Callable[[F], F]:
    """Returns the option `--as-of`, whose value is an instant or a day; see `end_of`."""
    return instant_option("--as-of", help_text, days=True)


def end_of(at: date | datetime, timezone: str) -> datetime:
    """Returns the last instant of a day in a time zone; an instant stays as it is."""
    if isinstance(at, datetime):
        return at
    return to_instant(at + timedelta(days=1), timezone) - timedelta(microseconds=1)


def chosen_period(
    month: str | None,
    since: date | datetime | None,
    until: date | datetime | None,
    timezone: str,
    *,
    current: bool,
    as_of: datetime | None = None,
) -> Period:
    """Returns the period that the options give.

    Args:
        month: the value of `--month`.
        since: the value of `--from`.
        until: the value of `--until`.
        timezone: the value of `--timezone`.
        current: whether the period is the current month by default.
        as_of: the instant at which the month is current; None: now.

    Raises:
        click.UsageError: the options do not give a period.
        KlingPricingError: the month or the time zone cannot be used.
    """
    choices = (month is not None) + (since is not None)
    if (since is None) != (until is None) or choices > 1 or (choices < 1 and not current):
        raise click.UsageError(
            "give either --month or both --from and --until"
            + ("; omit all three for the current month" if current else "")
        )
    if since is None or until is None:
        return month_of(month, timezone, as_of or datetime.now(UTC))
    start, end = (to_instant(at, timezone).astimezone(UTC) for at in (since, until))
    return Period(start, end)
