"""A group of commands that suggests the right name for a mistyped or renamed command."""

from __future__ import annotations

import click

COMPLETION_VARIABLE = "_KLING_PRICING_COMPLETE"
"""The environment variable with which a shell asks for completions."""

_RENAMED = {"admit": "pre-submit"}
"""Former name of a command -> its current name."""


class Group(click.Group):
    """A group that suggests the nearest known command if a command is unknown."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        from kling_pricing.display import did_you_mean  # noqa: PLC0415 (needed only for unknown commands)

        name, known = args[0], self.list_commands(ctx)
        if name not in known and not name.startswith("-"):
            renamed = _RENAMED.get(name)
            remedy = f"it is now {renamed!r}" if renamed in known else did_you_mean(name, known)
            raise click.UsageError(f"No such command {name!r}; {remedy}", ctx)
        return super().resolve_command(ctx, args)
