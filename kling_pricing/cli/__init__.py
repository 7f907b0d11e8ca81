"""The command line: parse, call, print, exit code. It has no rules of its own."""

from __future__ import annotations

import sys


def main() -> None:
    """Runs `kling-pricing`; says what to install when the extra is missing."""
    try:
        from kling_pricing.cli.app import app  # noqa: PLC0415 (the extra may be missing)
    except ModuleNotFoundError as error:
        if error.name not in {"click", "rich"}:
            raise
        sys.stderr.write("The command line needs an extra: pip install 'kling-pricing[cli]'\n")
        sys.exit(2)
    app(prog_name="kling-pricing")
