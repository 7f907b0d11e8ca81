"""The `kling-pricing` command. It imports each subcommand only when that subcommand is called."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import click

from kling_pricing import __version__
from kling_pricing.cli.exit_codes import exit_codes_help
from kling_pricing.cli.groups import COMPLETION_VARIABLE, Group
from kling_pricing.display import printable

_PLACES = {
    "quote": "quote_and_check:quote_command",
    "check": "quote_and_check:check_command",
    "compare": "compare:compare_command",
    "compare-lists": "compare_lists:compare_lists_command",
    "fit": "fit:fit_command",
    "tables": "price_tables:tables",
    "budget": "budget:budget",
    "decide": "decide:decide_command",
    "pre-submit": "spending:pre_submit_command",
    "bind": "spending:bind_command",
    "observe": "spending:observe_command",
    "settle": "settle_and_record:settle_command",
    "release": "spending:release_command",
    "in-doubt": "in_doubt:in_doubt_command",
    "resolve": "spending:resolve_command",
    "record": "settle_and_record:record_command",
    "history": "spending:history_command",
    "verify": "verify:verify_command",
    "alerts": "alerts:alerts",
    "ledger": "ledger:ledger",
    "statement": "statement:statement",
    "reconcile": "reconcile:reconcile_command",
    "dispute": "dispute:dispute",
    "write-off": "write_off:write_off_command",
    "month": "month:month",
    "report": "report:report_command",
    "reprice": "other_prices_command:reprice_command",
    "key": "key:key",
    "serve": "serve:serve_command",
    "mcp": "agent_tools:mcp_command",
    "sandbox": "rehearse:sandbox_command",
    "demo": "demo:demo_command",
    "doctor": "doctor:doctor_command",
    "completion": "completion:completion_command",
}
"""Command -> its module in this folder and its name in that module, in the order of a job's life cycle."""


@contextmanager
def _arguments_printable() -> Iterator[None]:
    """Escapes control characters in errors about arguments, because these errors repeat the arguments."""
    try:
        yield
    except click.ClickException as error:
        vars(error)["message"] = printable(error.message)
        raise


class _LazyGroup(Group):
    """Imports only the module of the command that is called."""

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        with _arguments_printable():
            return super().make_context(*args, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        with _arguments_printable():
            return super().invoke(ctx)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 (click passes it)
        return [*_PLACES]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        module, _, name = _PLACES.get(cmd_name, "").partition(":")
        if not name:
            return None
        command: click.Command = getattr(import_module(f"kling_pricing.cli.{module}"), name)
        if COMPLETION_VARIABLE in os.environ:
            from kling_pricing.cli.completion import with_completions  # noqa: PLC0415 (only shells need it)

            return with_completions(command, (cmd_name,))
        return command


@click.group(
    cls=_LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=exit_codes_help(refused="a request was refused, a file is invalid, or a difference was found"),
)
@click.version_option(__version__, prog_name="kling-pricing")
def app() -> None:
    """Quote Kling video jobs before you submit them, enforce budgets, and check bills.

    \b
    Prices (no setup needed):
      kling-pricing quote request.json
      kling-pricing check request.json
      kling-pricing compare request.json
      kling-pricing quote shots.csv --out priced.xlsx
      kling-pricing fit shots.csv --money 100
      kling-pricing tables list

    \b
    Budgets (need a ledger; set --ledger or KLING_PRICING_LEDGER):
      export KLING_PRICING_LEDGER=sqlite:///spend.db
      kling-pricing budget apply budgets.yaml
      kling-pricing decide request.json --project trailer
      kling-pricing pre-submit request.json --project trailer
      kling-pricing observe response.json --provider qingbo
      kling-pricing budget status

    \b
    Bills:
      kling-pricing statement check november.csv --provider qingbo
      kling-pricing reconcile --statement november.csv --provider qingbo \\
          --month 2026-11
      kling-pricing report --month 2026-11

    \b
    Rehearsals (with simulated providers, at no cost):
      kling-pricing demo
      kling-pricing sandbox --speed 60

    Run `kling-pricing COMMAND --help` for a command's options and an example.
    """
