"""The official FOCUS validator, in its own virtual environment, which is created once per machine.

`python3 tests/focus_validator.py` creates the environment.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

VALIDATOR = "focus-validator==2.2.1"
REQUIREMENTS = (
    VALIDATOR,
    "pyarrow<24",
)  # later versions of pyarrow fail with the NumPy that the validator needs
MIN_PYTHON = (3, 12)


def prepared() -> Path | None:
    """Returns the environment, created if it is missing; None if no Python here is new enough."""
    home = Path(tempfile.gettempdir()) / f"kling-pricing-{VALIDATOR}"
    if (home / "made").exists():
        return home
    python = _python()
    if python is None:
        return None
    shutil.rmtree(home, ignore_errors=True)
    subprocess.run([python, "-m", "venv", str(home)], check=True)
    subprocess.run([str(home / "bin" / "pip"), "install", "-q", *REQUIREMENTS], check=True)
    (home / "made").touch()
    return home


def _python() -> str | None:
    """Returns a Python that is new enough for the validator."""
    if sys.version_info >= MIN_PYTHON:
        return sys.executable
    on_path = [shutil.which(f"python3.{minor}") for minor in (12, 13)]
    of_pyenv = [str(path) for path in sorted(Path.home().glob(".pyenv/versions/3.1[23].*/bin/python"))]
    for python in (*of_pyenv, *on_path):
        if python is not None and not subprocess.run([python, "--version"], check=False).returncode:
            return python
    return None


if __name__ == "__main__":
    prepared()
