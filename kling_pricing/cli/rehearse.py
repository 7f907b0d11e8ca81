"""`kling-pricing sandbox`: runs simulated providers for tests."""

from __future__ import annotations

from datetime import datetime

import click

from kling_pricing.cli.exit_codes import exit_codes_help
from kling_pricing.cli.failures import errors_shown
from kling_pricing.cli.options import instant_option, tables_option
from kling_pricing.display import not_installed
from kling_pricing.listening import listen
from kling_pricing.tables.price_book import PriceBook

_DEFAULT_PORT = 8900


@click.command(
    "sandbox",
    epilog=exit_codes_help(
        done="stopped with Ctrl-C", unreadable="bad usage, an invalid scenario, or a port that is in use"
    ),
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=_DEFAULT_PORT,
    show_default=True,
    help="Port to listen on; 0 chooses a free port.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--scenario", metavar="FILE", help="YAML file that sets accounts, durations and faults.")
@click.option("--seed", type=int, help="Seed for all random choices. Overrides the scenario's seed.")
@click.option(
    "--speed",
    type=click.IntRange(0, 10**6),
    metavar="N",
    help="Seconds that pass on the sandbox's clock per real second; 0 stops the clock. "
    "Overrides the scenario's speed.",
)
@instant_option(
    "--start",
    "Initial time of the sandbox's clock (ISO 8601). Default: the scenario's start time, or else now.",
)
@click.option("--record", metavar="FILE", help="Save all requests and responses to this file, in HAR format.")
@tables_option
def sandbox_command(
    port: int,
    host: str,
    scenario: str | None,
    seed: int | None,
    speed: int | None,
    start: datetime | None,
    record: str | None,
    book: PriceBook,
) -> None:
    """Run simulated providers for tests. These providers respond like the real APIs, but no job costs money.

    The sandbox serves each provider in the price tables under its own path, such as /kling. Point a client at
    one of the base URLs that the command prints, and submit jobs as usual. Press Ctrl-C to stop the sandbox; it
    then prints the amount that each provider has billed.

    \b
      kling-pricing sandbox --speed 60
      curl -s localhost:8900/kling/v1/videos/text2video \\
          -d '{"model_name": "kling-v3", "prompt": "a heron lands"}'

    To simulate a fault, put one of these words, with its brackets, into the prompt:

    \b
      [500] [429:1303]         an error; no task is created
      [200:1102]               a refusal with HTTP status 200
      [500:accepted]           an error, although a task is created
      [lost-answer] [timeout]  no response, although a task is created
      [lost-request]           no response, and no task is created
      [duplicate-id]           the response has the previous task's id
      [fail:moderation]        the task fails
      [slow:30]                the task runs 30 seconds longer
      [charge:x2]              the charge is twice the price
      [says:x2]                responses state twice the actual charge
      [no-charge]              responses do not state the charge
      [bill:1080p-ref-audio]   a different video is made and billed
      [pays:cash]              the cash balance pays for the job
      [statement:twice]        the statement lists the charge twice

    A scenario file sets up the accounts. It can also apply the same faults to some of the jobs. See
    docs/sandbox.md.

    \b
    These requests control the sandbox (PROVIDER is a name such as kling):
      GET  /PROVIDER/_bill         the actual charges
      GET  /PROVIDER/_statement    the statement; add ?from=2026-11-01&until=...
      GET  /PROVIDER/_planted      the errors planted in the statement
      POST /PROVIDER/_faults       {"faults": ["500"]} for the next job
      POST /_clock                 {"forward_s": 60} or {"speed": 10}
    """
    try:
        from kling_pricing.sandbox import serving  # noqa: PLC0415 (needs an extra)
    except ModuleNotFoundError as error:
        raise click.UsageError(not_installed("the sandbox", str(error.name), "server")) from None
    from kling_pricing.sandbox.scenario import read_scenario  # noqa: PLC0415 (as above)

    with errors_shown(as_json=False):
        changes = {"seed": seed, "speed": speed, "start": start}
        given = {name: value for name, value in changes.items() if value is not None}
        rehearsed = read_scenario(scenario).model_copy(update=given)
        with listen(host, port) as listening:
            served = serving.ServedRehearsal(book, rehearsed, listening, record)
            click.echo(_opening(served.rehearsal.providers_by_url(), listening.getsockname()[1]))
            _show_bills(served.run())


def _opening(providers: dict[str, str], port: int) -> str:
    width = max(map(len, providers))
    lines = [f"  {name:<{width}}  {url}" for name, url in providers.items()]
    name = next(iter(providers))
    return "\n".join(
        [
            "Point a client at one of these base URLs:",
            *lines,
            "If a hook guards the client, tell the hook which provider this is:",
            f'  hosts={{"127.0.0.1:{port}": "{name}"}}',
            "Press Ctrl-C to stop the sandbox.",
        ]
    )


def _show_bills(bills: dict[str, str]) -> None:
    click.echo("\nThe bill:" if bills else "\nNothing was billed.")
    for name, total in bills.items():
        click.echo(f"  {name}  {total}")
