"""`kling-pricing key`: issues, lists and revokes the access keys of the server's callers."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import click

from kling_pricing.cli.failures import errors_shown
from kling_pricing.cli.groups import Group
from kling_pricing.cli.ledger_options import (
    LEDGER_EXIT_CODES,
    READING_EXIT_CODES,
    actor_option,
    json_option,
    labels_option,
    ledger_option,
    optional_reason_option,
)
from kling_pricing.cli.options import instant_option
from kling_pricing.cli.output import echo, to_json
from kling_pricing.guard import access_keys, issue_key, revoke_key
from kling_pricing.guard.key_projects import unnamed_project
from kling_pricing.ledger.access_keys import ROLES, AccessKey, Role


@click.group("key", cls=Group)
def key() -> None:
    """Issue, list and revoke the access keys of the server's callers.

    \b
    Examples:
      kling-pricing key issue --project trailer --label user=li
      kling-pricing key list
      kling-pricing key revoke trailer-4886a2
    """


@key.command("issue", epilog=LEDGER_EXIT_CODES)
@click.option("--project", metavar="NAME", help="The only project that the key gives access to.")
@click.option("--all-projects", is_flag=True, help="The key gives access to all projects.")
@labels_option
@click.option(
    "--role",
    type=click.Choice(ROLES),
    default="submit",
    show_default=True,
    help="view reads; submit also submits and cancels jobs; manage also administers.",
)
@click.option("--name", metavar="NAME", help="Name of the key. Default: the project and some digits.")
@instant_option("--expires", "Time at which the key expires (ISO 8601). Default: it does not expire.")
@optional_reason_option
@actor_option
@ledger_option
@json_option
def issue_command(
    project: str | None,
    all_projects: bool,
    labels: dict[str, str],
    role: Role,
    name: str | None,
    expires: datetime | None,
    reason: str | None,
    actor: str | None,
    ledger: str,
    as_json: bool,
) -> None:
    """Issue an access key for callers of the server.

    The command prints the key once. The ledger keeps only its SHA-256, so nobody can show the key again. Every
    job that is submitted with the key has the key's project and labels; the caller cannot change them, but can
    add other labels. Jobs also have the label access_key with the name of the key, which budgets can match.

    If budgets name projects, but none of them names this one, the command issues the key and prints a warning.

    \b
    Examples:
      kling-pricing key issue --project trailer --label user=li
      kling-pricing key issue --all-projects --role view --name grafana
    """
    if all_projects == bool(project):
        raise click.UsageError("give --project NAME, or --all-projects for a key that reaches every project")
    with errors_shown(as_json=as_json):
        warning = None if project is None else unnamed_project(ledger, project)
        issued = issue_key(
            ledger,
            project=project,
            role=role,
            labels=labels,
            name=name,
            expires_at=expires,
            actor=actor,
            reason=reason,
        )
    if warning is not None:
        echo(f"warning: {warning}", err=True)
    if as_json:
        echo(to_json({**key_dict(issued.key), "key": issued.text}))
        return
    echo(key_line(issued.key, datetime.now(UTC)), err=True)
    echo("Store the key now; it cannot be shown again.", err=True)
    echo(issued.text)


@key.command("list", epilog=READING_EXIT_CODES)
@ledger_option
@json_option
def list_command(ledger: str, as_json: bool) -> None:
    """List all access keys, the oldest first.

    The list includes keys that are revoked or have expired.

    \b
    Example:
      kling-pricing key list
    """
    with errors_shown(as_json=as_json):
        keys = access_keys(ledger)
    now = datetime.now(UTC)
    for each in keys:
        echo(to_json(key_dict(each)) if as_json else key_line(each, now))
    if not (keys or as_json):
        echo("no access keys")


@key.command("revoke", epilog=LEDGER_EXIT_CODES)
@click.argument("name")
@optional_reason_option
@actor_option
@ledger_option
@json_option
def revoke_command(name: str, reason: str | None, actor: str | None, ledger: str, as_json: bool) -> None:
    """Revoke an access key permanently. Servers refuse it from its next request on.

    Jobs that were sent with the key are settled as usual.

    \b
    Example:
      kling-pricing key revoke trailer-4886a2 --reason "left the team"
    """
    with errors_shown(as_json=as_json):
        revoked = revoke_key(ledger, name, actor=actor, reason=reason)
    echo(to_json(key_dict(revoked)) if as_json else key_line(revoked, datetime.now(UTC)))


def key_dict(each: AccessKey) -> dict[str, Any]:
    """Returns an access key as JSON-ready data; instants are ISO 8601."""
    instants = {
        name: value and value.isoformat()
        for name, value in each._asdict().items()
        if name in {"created_at", "expires_at", "revoked_at", "used_at"}
    }
    return each._asdict() | {"labels": dict(each.labels)} | instants


def key_line(each: AccessKey, now: datetime) -> str:
    """Returns an access key as a sentence."""
    reach = "all projects" if each.project is None else f"project {each.project}"
    labels = "".join(f", {label} {value}" for label, value in each.labels.items())
    if each.revoked_at is not None:
        state = f"revoked {each.revoked_at:%Y-%m-%d %H:%M} UTC"
    elif each.expires_at is not None:
        state = f"{'expires' if each.is_valid(now) else 'expired'} {each.expires_at:%Y-%m-%d %H:%M} UTC"
    else:
        state = "does not expire"
    used = "not used yet" if each.used_at is None else f"last used {each.used_at:%Y-%m-%d %H:%M} UTC"
    return f"{each.name}: {each.role}, {reach}{labels}; {state}; {used}"
