"""`kling-pricing alerts`: shows the alerts of a ledger, and delivers them."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import click

from kling_pricing.alerts import AlertDelivery, Delivered, ReceiverStatus
from kling_pricing.alerts.sentences import alert_document, alert_text
from kling_pricing.cli.exit_codes import REFUSED, exit_codes_help
from kling_pricing.cli.failures import errors_shown
from kling_pricing.cli.groups import Group
from kling_pricing.cli.interruption import stopping
from kling_pricing.cli.ledger_options import READING_EXIT_CODES, json_option, ledger_option
from kling_pricing.cli.output import counted, echo, to_json

_DELIVER_EXIT_CODES = exit_codes_help(
    done="every alert has been delivered, or --watch was stopped",
    refused="alerts are still waiting for a receiver or another process",
    unreadable="bad usage, or a ledger that cannot be used",
)
_TEST_EXIT_CODES = exit_codes_help(
    done="the receiver accepted the message",
    refused="the receiver did not accept the message",
    unreadable="bad usage, or a ledger that cannot be used",
)
_receiver_argument = click.argument("receiver", metavar="RECEIVER")


@click.group("alerts", cls=Group)
def alerts() -> None:
    """Show alerts, and deliver them to receivers.

    The alerts are about thresholds, overruns, freezes, refused requests, forecasts and jobs in doubt.

    A budgets file names the receivers. The URL of a receiver stays in an environment variable or in a file:

    \b
      notify: [env:ALERTS_URL, file:/etc/kling/chat-url]

    If the URL begins with https://, the receiver gets webhooks that are signed with the secret in the variable
    ALERTS_URL_SECRET or in the file /etc/kling/chat-url.secret (Standard Webhooks). Any other URL is an Apprise
    URL: Slack, Teams, Feishu, DingTalk, WeCom, mail and many more.

    \b
    Examples:
      kling-pricing alerts list
      kling-pricing alerts test env:ALERTS_URL
      kling-pricing alerts deliver --watch
    """


@alerts.command("list", epilog=READING_EXIT_CODES)
@click.option("--budget", metavar="NAME", help="Show only the alerts of this budget.")
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=50,
    show_default=True,
    metavar="NUMBER",
    help="Show at most this many of the newest alerts.",
)
@ledger_option
@json_option
def list_command(budget: str | None, limit: int, ledger: str, as_json: bool) -> None:
    """Show the newest alerts and the backlog of each receiver.

    \b
    Example:
      kling-pricing alerts list --ledger sqlite:///spend.db
    """
    with _opened(ledger, as_json=as_json) as delivery:
        found, receivers = delivery.alerts(budget=budget, limit=limit), delivery.receivers()
    if as_json:
        echo(
            to_json(
                {
                    "alerts": [alert_document(alert) for alert in found],
                    "receivers": [_receiver_dict(status) for status in receivers],
                }
            )
        )
        return
    for alert in found:
        echo(f"{alert.at:%Y-%m-%d %H:%M:%S} UTC  {alert_text(alert)}")
    if not found:
        echo("no alerts")
    for status in receivers:
        echo(_receiver_line(status))


@alerts.command("deliver", epilog=_DELIVER_EXIT_CODES)
@click.option("--watch", is_flag=True, help="Keep delivering until Ctrl-C or SIGTERM.")
@click.option(
    "--every",
    type=click.IntRange(min=1, max=3600),
    default=5,
    show_default=True,
    metavar="SECONDS",
    help="With --watch: the time between two rounds.",
)
@ledger_option
@json_option
def deliver_command(watch: bool, every: int, ledger: str, as_json: bool) -> None:
    """Send the alerts that are due to their receivers.

    Each alert reaches each receiver at least once, in order. After a failure, the command tries again after 10
    seconds, and then at longer and longer intervals, up to an hour. If a receiver answers 410 Gone, the command
    stops sending to it until you run `alerts resume`. Only one process at a time delivers; if it dies, another
    one takes over within a minute. Before you run the command, set the variables that contain the receivers'
    URLs.

    \b
    Examples:
      kling-pricing alerts deliver
      kling-pricing alerts deliver --watch
    """
    with _opened(ledger, as_json=as_json) as delivery:
        if not watch:
            result = delivery.deliver()
            _show_round(result, as_json=as_json)
            if result.waiting:
                sys.exit(REFUSED)
            return
        delivery.receivers()  # raises now if the ledger has no budgets
        if not as_json:
            echo("Delivering alerts. Press Ctrl-C to stop.")
        shown: list[object] = []

        def show(result: Delivered) -> None:
            state = [(status.receiver.problem, status.receiver.failures) for status in result.receivers]
            if result.delivered or [result.other_holder, state] != shown:
                _show_round(result, as_json=as_json)
            shown[:] = [result.other_holder, state]

        with stopping() as stop:
            delivery.watch(stop, every=timedelta(seconds=every), on_round=show)


@alerts.command("resume", epilog=READING_EXIT_CODES)
@_receiver_argument
@ledger_option
@json_option
def resume_command(receiver: str, ledger: str, as_json: bool) -> None:
    """Resume sending alerts to a receiver.

    RECEIVER is a name under `notify` in the budgets file, such as env:ALERTS_URL. The receiver gets all alerts
    that it has missed. If the receiver is paused after a failure, the pause ends.

    \b
    Example:
      kling-pricing alerts resume env:ALERTS_URL
    """
    with _opened(ledger, as_json=as_json) as delivery:
        delivery.resume(receiver)
        (status,) = (status for status in delivery.receivers() if status.receiver.name == receiver)
    if as_json:
        echo(to_json(_receiver_dict(status)))
    else:
        echo(f"{receiver}: the next `kling-pricing alerts deliver` sends {counted(status.waiting, 'alert')}")


@alerts.command("test", epilog=_TEST_EXIT_CODES)
@_receiver_argument
@ledger_option
@json_option
def test_command(receiver: str, ledger: str, as_json: bool) -> None:
    """Send a test message to a receiver.

    RECEIVER is env:NAME or file:PATH. The receiver does not have to be in the budgets file yet.

    \b
    Example:
      kling-pricing alerts test env:ALERTS_URL
    """
    with _opened(ledger, as_json=as_json) as delivery:
        delivery.test(receiver)
    if as_json:
        echo(to_json({"receiver": receiver, "accepted": True}))
    else:
        echo(f"{receiver}: the receiver accepted the message")


@contextmanager
def _opened(ledger: str, *, as_json: bool = False) -> Iterator[AlertDelivery]:
    with errors_shown(as_json=as_json):
        logging.getLogger("apprise").addHandler(logging.NullHandler())  # its messages may contain URLs
        with AlertDelivery(ledger) as delivery:
            yield delivery


def _show_round(result: Delivered, *, as_json: bool) -> None:
    if as_json:
        echo(
            to_json(
                {
                    "delivered": result.delivered,
                    "waiting": result.waiting,
                    "delivering_process": result.other_holder,
                    "receivers": [_receiver_dict(status) for status in result.receivers],
                }
            )
        )
        return
    if result.other_holder is not None:
        echo(f"another process delivers the alerts of this ledger: {result.other_holder}")
    else:
        echo(f"delivered {counted(result.delivered, 'alert')}")
    if not result.receivers:
        echo("the budgets do not name any receivers; list receivers under `notify` in the budgets file")
    for status in result.receivers:
        if status.waiting or status.receiver.problem is not None:
            echo(_receiver_line(status), err=True)


def _receiver_line(status: ReceiverStatus) -> str:
    receiver = status.receiver
    waiting = f"{counted(status.waiting, 'alert')} waiting" if status.waiting else "every alert delivered"
    parts = [f"{receiver.name}: {waiting}"]
    if receiver.stopped_at is not None:
        parts.append(
            f"stopped at {receiver.stopped_at:%Y-%m-%d %H:%M:%S} UTC ({receiver.problem}); to deliver again, "
            f"run `kling-pricing alerts resume {receiver.name}`"
        )
    elif receiver.problem is not None:
        parts.append(f"the last attempt failed: {receiver.problem}")
        if receiver.next_at is not None:
            parts.append(f"next attempt at {receiver.next_at:%Y-%m-%d %H:%M:%S} UTC")
    return "; ".join(parts)


def _receiver_dict(status: ReceiverStatus) -> dict[str, Any]:
    fields = status.receiver._asdict()
    for name in ("failed_at", "next_at", "stopped_at"):
        fields[name] = fields[name] and fields[name].isoformat()
    return fields | {"waiting": status.waiting}
