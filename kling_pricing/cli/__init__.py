"""The command line: parses arguments, calls the library, prints the result and sets the exit code."""

from __future__ import annotations

import os
import sys

from kling_pricing.cli.exit_codes import INTERRUPTED, UNREADABLE


def main() -> None:
    """Runs `kling-pricing`; if its extra is not installed, prints how to install it.

    Ctrl-C ends every command with exit code 130, as shells expect. SIGTERM and SIGHUP end a command after it
    has removed its temporary files.
    """
    try:
        import click  # noqa: PLC0415 (the extra may be missing)

        from kling_pricing.cli.app import app  # noqa: PLC0415
        from kling_pricing.cli.interruption import cleaned_up  # noqa: PLC0415

        if sys.stdout is None:
            sys.exit(UNREADABLE)
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
        try:
            with cleaned_up():
                sys.exit(app.main(prog_name="kling-pricing", standalone_mode=False))
        except click.ClickException as error:
            error.show()
            sys.exit(error.exit_code)
        except click.Abort:  # click raises this on Ctrl-C
            click.echo("interrupted", err=True)
            sys.exit(INTERRUPTED)
    except ModuleNotFoundError as error:
        if error.name not in {"click", "rich"}:
            raise
        sys.stderr.write("The command line is not installed; run: pip install 'kling-pricing[cli]'\n")
        sys.exit(UNREADABLE)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except OSError as error:
        sys.stderr.write(f"The output could not be written: {error.strerror}\n")
        sys.stderr.flush()
        os._exit(UNREADABLE)  # a normal exit would flush the output again and fail
