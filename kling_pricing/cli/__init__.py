"""The command line: parse, call, print, exit code. It has no rules of its own."""

from __future__ import annotations

import os
import sys

_FAILED, _INTERRUPTED = 2, 130


def main() -> None:
    """Runs `kling-pricing`; says what to install when the extra is missing.

    Ctrl-C ends every command with 130, as a shell expects of what it interrupts.
    """
    try:
        import click  # noqa: PLC0415 (the extra may be missing)

        from kling_pricing.cli.app import app  # noqa: PLC0415

        if sys.stdout is None:
            sys.exit(_FAILED)
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
        try:
            sys.exit(app.main(prog_name="kling-pricing", standalone_mode=False))
        except click.ClickException as error:
            error.show()
            sys.exit(error.exit_code)
        except click.Abort:  # what click makes of Ctrl-C
            click.echo("interrupted", err=True)
            sys.exit(_INTERRUPTED)
    except ModuleNotFoundError as error:
        if error.name not in {"click", "rich"}:
            raise
        sys.stderr.write("The command line needs an extra: pip install 'kling-pricing[cli]'\n")
        sys.exit(_FAILED)
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)
    except OSError as error:
        sys.stderr.write(f"The answer could not be written: {error.strerror}\n")
        sys.stderr.flush()
        os._exit(_FAILED)  # the output's buffer cannot be flushed, and an ordinary exit would try
