"""The `kling-pricing` command and its groups, of which each is imported when it is asked for."""

from __future__ import annotations

from importlib import import_module

import click

from kling_pricing import __version__

_PLACES = {
    "pre-submit": "spending:pre_submit_command",
    "bind": "spending:bind_command",
    "budget": "budget:budget",
    "check": "quote_and_check:check_command",
    "compare": "compare:compare_command",
    "history": "spending:history_command",
    "in-doubt": "in_doubt:in_doubt_command",
    "ledger": "ledger:ledger",
    "observe": "spending:observe_command",
    "quote": "quote_and_check:quote_command",
    "reconcile": "reconcile:reconcile_command",
    "record": "spending:record_command",
    "release": "spending:release_command",
    "report": "report:report_command",
    "resolve": "spending:resolve_command",
    "settle": "spending:settle_command",
    "tables": "price_tables:tables",
    "verify": "spending:verify_command",
}
"""Command -> the module beside this one and the name in it."""


class _Commands(click.Group):
    """Imports what the command asked for needs, and not what the others do."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 (click's)
        return [*_PLACES]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        module, _, name = _PLACES.get(cmd_name, "").partition(":")
        if not name:
            return None
        command: click.Command = getattr(import_module(f"kling_pricing.cli.{module}"), name)
        return command


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="kling-pricing")
def app() -> None:
    """Know what a Kling video job will cost before you submit it, and keep it within budget.

    \b
    kling-pricing quote request.json            what it costs, and why
    kling-pricing check request.json            whether the API would accept it
    kling-pricing compare request.json          what the same job would cost otherwise
    kling-pricing tables list                   which prices are known

    \b
    kling-pricing budget status                 what each budget has left
    kling-pricing pre-submit request.json       set its money aside, and print what to submit
    kling-pricing bind RESERVATION TASK_ID      note the task it became
    kling-pricing observe response.json         settle it by what the provider answers
    kling-pricing in-doubt                      what may be running, and nobody knows; --poll asks
    kling-pricing ledger init postgresql://...  make a ledger for many machines
    kling-pricing reconcile --statement FILE    was every clip billed right, and if not, why
    kling-pricing report --month 2026-11        what was spent, with a page, sheets and files

    Exit codes: 0 done; 1 refused or invalid; 2 bad usage or unreadable input.
    """
