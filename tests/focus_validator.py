"""The official validator of FOCUS, in an environment of its own, made once on a machine.

Run by itself it makes that environment: `python3 tests/focus_validator.py`.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

VALIDATOR = "focus-validator==2.2.1"
NEEDED = (VALIDATOR, "pyarrow<24")  # newer ones do not work with the NumPy that it needs
OLDEST = (3, 12)


def prepared() -> Path | None:
    """Where it is; None: it needs a newer Python than there is here."""
    home = Path(tempfile.gettempdir()) / f"kling-pricing-{VALIDATOR}"
    if (home / "made").exists():
        return home
    python = _python()
    if python is None:
        return None
    shutil.rmtree(home, ignore_errors=True)
    subprocess.run([python, "-m", "venv", str(home)], check=True)
    subprocess.run([str(home / "bin" / "pip"), "install", "-q", *NEEDED], check=True)
    (home / "made").touch()
    return home


def _python() -> str | None:
    """A Python that it runs on."""
    if sys.version_info >= OLDEST:
        return sys.executable
    installed = [shutil.which(f"python3.{minor}") for minor in (12, 13)]
    kept = [str(path) for path in sorted(Path.home().glob(".pyenv/versions/3.1[23].*/bin/python"))]
    for each in (*kept, *installed):
        if each is not None and not subprocess.run([each, "--version"], check=False).returncode:
            return each
    return None


if __name__ == "__main__":
    prepared()
