"""`kling-pricing sandbox`: runs a provider to rehearse against."""

from __future__ import annotations

from datetime import datetime

import click

from kling_pricing.cli.exit_codes import exit_codes_help
from kling_pricing.cli.failures import errors_shown
from kling_pricing.cli.options import instant_option, tables_option
from kling_pricing.display import not_installed
from kling_pricing.tables.price_book import PriceBook

_DEFAULT_PORT = 8900


@click.command(
    "sandbox",
    epilog=exit_codes_help(
        done="ended with Ctrl-C", unreadable="bad usage, an invalid scenario, or a busy port"
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
@click.option("--scenario", metavar="FILE", help="YAML file with accounts, times and faults.")
@click.option("--seed", type=int, help="Seed of all random choices; replaces the scenario's seed.")
@click.option(
    "--speed",
    type=click.IntRange(0, 10**6),
    metavar="N",
    help="Seconds on the sandbox's clock per real second; 0 stops the clock. Replaces the scenario's speed.",
)
@instant_option("--start", "Time at which the sandbox's clock starts (ISO 8601). Default: now.")
@click.option("--record", metavar="FILE", help="Record all calls and answers in this file, in HAR format.")
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
    """Run a simulated provider on this machine.

    The sandbox answers as the real APIs do, but nothing costs money. It serves every API in the price tables
    under the name of the API's provider, such as /kling. Point a client at the printed address, and submit jobs
    as usual. Ctrl-C ends the sandbox and prints the bill.

    \b
      kling-pricing sandbox --speed 60
      curl -s localhost:8900/kling/v1/videos/text2video \\
          -d '{"model_name": "kling-v3", "prompt": "a heron lands"}'

    Words in a prompt cause faults:

    \b
      [500] [429:1303]         an error; no task is created
      [200:1102]               a refusal with HTTP 200
      [500:accepted]           an error, and a task
      [lost-answer] [timeout]  a task, and no answer
      [lost-request]           no task, and no answer
      [duplicate-id]           the answer names the previous task
      [fail:moderation]        the task fails
      [slow:30]                the task takes 30 seconds longer
      [charge:x2]              the task is charged twice
      [says:x2]                the answer names double the charge
      [no-charge]              answers name no charge
      [bill:1080p-ref-audio]   a different job is made and billed
      [pays:cash]              the task is paid from the balance
      [statement:twice]        an error on the statement

    A scenario file can set the accounts and when each of these faults occurs. See docs/sandbox.md.

    \b
    Calls that control the sandbox, where PROVIDER is a name such as kling:
      GET  /PROVIDER/_bill         the real charges
      GET  /PROVIDER/_statement    the statement; ?from=2026-11-01&until=...
      GET  /PROVIDER/_planted      the errors on the statement
      POST /PROVIDER/_faults       {"faults": ["500"]}, for the next jobs
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
        with serving.listen(host, port) as listening:
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
            f'If you use a hook, give it the provider: hosts={{"127.0.0.1:{port}": "{name}"}}.',
            "Ctrl-C ends the sandbox.",
        ]
    )


def _show_bills(bills: dict[str, str]) -> None:
    click.echo("\nThe bill:" if bills else "\nNothing was billed.")
    for name, total in bills.items():
        click.echo(f"  {name}  {total}")
