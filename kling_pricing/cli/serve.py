"""`kling-pricing serve`: runs the server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from kling_pricing.cli.demo import PrintedStory, demo_required
from kling_pricing.cli.exit_codes import exit_codes_help
from kling_pricing.cli.failures import errors_shown
from kling_pricing.cli.output import echo, to_json
from kling_pricing.display import not_installed
from kling_pricing.ledger.environment import LEDGER_VARIABLE
from kling_pricing.listening import listen

if TYPE_CHECKING:
    from socket import socket

    from kling_pricing.server.server_settings import ServerSettings
    from kling_pricing.server.server_state import ServerState


@click.command(
    "serve",
    epilog=exit_codes_help(
        done="stopped with Ctrl-C or SIGTERM",
        unreadable="bad usage, invalid settings, or an unusable ledger or port",
    ),
)
@click.option("--config", metavar="FILE", help="YAML file with the settings. See --schema and docs/serving.md.")
@click.option(
    "--ledger",
    metavar="URL",
    envvar=LEDGER_VARIABLE,
    show_envvar=True,
    help="Ledger URL. Default: the setting `ledger`, or else sqlite:///kling-pricing.db.",
)
@click.option("--port", type=click.IntRange(0, 65535), help="Port to listen on; 0 chooses a free port.")
@click.option("--host", help="Address to listen on. Default: 127.0.0.1, which only this machine reaches.")
@click.option("--behind-proxy", is_flag=True, help="A proxy in front of the server terminates TLS.")
@click.option("--tls-cert", metavar="FILE", help="TLS certificate and its chain, in PEM format.")
@click.option("--tls-key", metavar="FILE", help="Private key of the certificate.")
@click.option("--workers", type=click.IntRange(1, 64), help="Number of processes. Default: 1.")
@click.option("--schema", is_flag=True, help="Print the JSON Schema of the settings, and exit.")
@click.option(
    "--demo",
    is_flag=True,
    help="Serve made-up months with simulated providers. The server removes everything when it stops.",
)
def serve_command(
    config: str | None,
    ledger: str | None,
    port: int | None,
    host: str | None,
    behind_proxy: bool,
    tls_cert: str | None,
    tls_key: str | None,
    workers: int | None,
    schema: bool,
    demo: bool,
) -> None:
    """Run a server that guards the jobs of callers in any language.

    Callers point their clients at http://HOST:PORT/p/UPSTREAM instead of the provider, and send an access key
    instead of the provider's credential. The server admits each job to the budgets of the ledger, and only then
    passes it on with the credential. Issue access keys with `kling-pricing key issue`.

    Without --config, the server offers only its API, at /api/v1. You can also give every setting in an
    environment variable, such as KLING_PRICING_SERVER_PORT.

    With --demo, the server has a temporary ledger with two made-up months, prints an access key for each role,
    and passes jobs on to simulated providers, at no cost. It needs no --config, and ignores the environment.

    \b
    Examples:
      kling-pricing serve --config server.yaml --ledger sqlite:///spend.db
      kling-pricing serve --demo
    """
    try:
        from kling_pricing.server.server_settings import load_settings, settings_schema  # noqa: PLC0415 (slow)
    except ModuleNotFoundError as error:
        raise click.UsageError(not_installed("the server", f"{error.name}", "server")) from None
    if schema:
        echo(to_json(settings_schema()))
        return
    given = {
        "port": port,
        "host": host,
        "behind_proxy": behind_proxy or None,
        "tls_cert": tls_cert,
        "tls_key": tls_key,
        "workers": workers,
    }
    with errors_shown(as_json=False):
        if demo:
            _refuse_with_demo(config, ledger)
            has_started = _serve_demo(given)
        else:
            has_started = _serve_settings(load_settings(config, overrides={**given, "ledger": ledger}))
    if not has_started:
        raise click.exceptions.Exit(2)


def _serve_settings(settings: ServerSettings) -> bool:
    """Serves until Ctrl-C or SIGTERM, and returns whether the server had started."""
    try:
        from kling_pricing.server import processes  # noqa: PLC0415 (needs an extra)
        from kling_pricing.server.server_state import ServerState  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise click.UsageError(not_installed("the server", f"{error.name}", "server")) from None
    state = ServerState(settings)
    if problem := processes.check(state):
        echo(f"Every submission is refused for now: {problem}", err=True)
    with listen(settings.host, settings.port) as listening:
        return _serve(state, listening)


def _serve(state: ServerState, listening: socket) -> bool:
    from kling_pricing.server import processes  # noqa: PLC0415 (needs an extra)
    from kling_pricing.server.structured_logs import log_as_json  # noqa: PLC0415

    echo(processes.opening_text(state, listening.getsockname()[1]))
    log_as_json(state.settings.log_level)
    return processes.serve(state, listening)


def _refuse_with_demo(config: str | None, ledger: str | None) -> None:
    context = click.get_current_context()
    is_typed = context.get_parameter_source("ledger") is ParameterSource.COMMANDLINE
    for option, value in (("--config", config), ("--ledger", ledger if is_typed else None)):
        if value is not None:
            raise click.UsageError(f"--demo has a temporary ledger and settings of its own; omit {option}")


def _serve_demo(given: Mapping[str, Any]) -> bool:
    """Serves made-up months until Ctrl-C or SIGTERM, and returns whether the server had started."""
    with demo_required():
        from kling_pricing.demo import served_months  # noqa: PLC0415 (needs extras)
        from kling_pricing.demo.playground import demo_folder  # noqa: PLC0415
        from kling_pricing.demo.stories import demo_book, demo_script  # noqa: PLC0415
        from kling_pricing.server.server_state import ServerState  # noqa: PLC0415

    script = demo_script()
    settings = served_months.served_settings(given)
    with (
        demo_folder(None) as folder,
        PrintedStory() as story,
        listen(settings.host, settings.port) as listening,
    ):
        story.step(
            "This is a demo. Its jobs are made up, its providers are simulated, and nothing costs money. When "
            "you stop the server, it removes everything, including the ledger."
        )
        with served_months.demo_ledger(script, folder, on_progress=story.progress) as months:
            story.step("Access keys:")
            for role, project, text in served_months.issue_demo_keys(months.ledger, script):
                echo(f"    {role:<7} {project or 'all projects':<13} {text}")
            echo("")
            settings = served_months.served_settings({**given, **months._asdict()})
            has_started = _serve(ServerState(settings, book=demo_book()), listening)
    echo("The demo has ended, and its ledger has been removed.")
    return has_started
