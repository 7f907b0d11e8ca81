"""Completion in shells: `kling-pricing completion`, and the values that it completes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from typing import Any

import click
from click.shell_completion import CompletionItem, get_completion_class

from kling_pricing.budgets import budgets_from_document
from kling_pricing.cli.exit_codes import exit_codes_help
from kling_pricing.cli.groups import COMPLETION_VARIABLE
from kling_pricing.errors import KlingPricingError
from kling_pricing.ledger import Ledger, connect, file_of, is_on_a_server
from kling_pricing.ledger.environment import LEDGER_VARIABLE
from kling_pricing.quoting.intake import default_book
from kling_pricing.tables.price_book import PriceBook
from kling_pricing.windows import utc_clock

_SHELLS = ("bash", "zsh", "fish")


@click.command("completion", epilog=exit_codes_help())
@click.argument("shell", type=click.Choice(_SHELLS))
def completion_command(shell: str) -> None:
    """Print the completion script for a shell.

    The script completes commands, options, providers, models, price tables, wire formats, budgets and projects.
    Budgets and projects come from the ledger in --ledger or KLING_PRICING_LEDGER. Add one line to the start-up
    file of your shell (~/.bashrc, ~/.zshrc or ~/.config/fish/config.fish):

    \b
    Examples:
      eval "$(kling-pricing completion bash)"
      eval "$(kling-pricing completion zsh)"
      kling-pricing completion fish | source
    """
    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"click has no completion for {shell}")
    root = click.get_current_context().find_root().command
    click.echo(kind(root, {}, "kling-pricing", COMPLETION_VARIABLE).source())


def with_completions(command: click.Command, words: tuple[str, ...]) -> click.Command:
    """Returns a command whose parameters complete their values.

    Args:
        command: the command.
        words: the words that call it.
    """
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            with_completions(inner, (*words, name))
    for parameter in command.params:
        values = _VALUES.get((words[0], parameter.name or "")) or _VALUES.get(("", parameter.name or ""))
        if values is not None:
            parameter._custom_shell_complete = _completer(values)  # noqa: SLF001 (it has no other name)
    return command


_Values = Callable[[click.Context], Iterable[str]]


def _completer(
    values: _Values,
) -> Callable[[click.Context, click.Parameter, str], list[CompletionItem]]:
    def complete(ctx: click.Context, _parameter: click.Parameter, begun: str) -> list[CompletionItem]:
        try:
            return [CompletionItem(value) for value in values(ctx) if value.lower().startswith(begun.lower())]
        except KlingPricingError:  # a shell shows no messages
            return []

    return complete


def _book(ctx: click.Context) -> PriceBook:
    book = ctx.params.get("book")
    return book if isinstance(book, PriceBook) else default_book()


def _providers(ctx: click.Context) -> list[str]:
    book = _book(ctx)
    return sorted({*book.tables, *book.unpriced})


def _models(ctx: click.Context) -> list[str]:
    return sorted({name for matrix in _book(ctx).matrices.values() for name in matrix.names})


def _table_ids(ctx: click.Context) -> list[str]:
    book = _book(ctx)
    return sorted(table.id for tables in (*book.tables.values(), *book.contracts.values()) for table in tables)


def _from_ledger(ctx: click.Context, read: Callable[[Ledger], Iterable[str]]) -> Iterable[str]:
    """Returns names in the ledger of the command; none if there is no such ledger."""
    url: Any = ctx.params.get("ledger") or os.environ.get(LEDGER_VARIABLE)
    if isinstance(url, tuple):
        url = url[0] if url else None
    if not url or not (is_on_a_server(url) or file_of(url).exists()):
        return ()
    with closing(connect(url, clock=utc_clock(None))) as ledger:
        return [*read(ledger)]


def _projects(ctx: click.Context) -> Iterable[str]:
    return _from_ledger(ctx, lambda ledger: ledger.projects())


def _budgets(ctx: click.Context) -> Iterable[str]:
    def names(ledger: Ledger) -> list[str]:
        revision = ledger.installed()
        if revision is None:
            return []
        return [budget.name for budget in budgets_from_document(revision.document).budgets]

    return _from_ledger(ctx, names)


_VALUES: Mapping[tuple[str, str], _Values] = {
    ("", "provider"): _providers,
    ("", "model"): _models,
    ("", "table_id"): _table_ids,
    ("", "before_id"): _table_ids,
    ("", "after_id"): _table_ids,
    ("", "project"): _projects,
    ("budget", "name"): _budgets,
    ("budget", "names"): _budgets,
    ("budget", "above"): _budgets,
    ("alerts", "budget"): _budgets,
}
"""First word of the command (empty: any) and parameter -> its values."""
