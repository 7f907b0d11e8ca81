"""The server behind nginx, with the file that docs/serving.md shows."""

from __future__ import annotations

import re
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from kling_pricing import Budget, BudgetGuard, PriceBook
from tests.conftest import program
from tests.guards import CLIP
from tests.providers import Provider, closed_port, running
from tests.receivers import QuietHandler
from tests.receivers import serving as http_server
from tests.server_runs import CREDENTIAL, RunningServer, serving

PAGE = Path(__file__).parent.parent / "docs" / "serving.md"
PATIENCE_S = 20


def certificate(folder: Path) -> tuple[Path, Path]:
    """Writes a certificate for this machine and its key, and returns both files."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    begins = datetime.now(UTC) - timedelta(days=1)
    names = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(begins + timedelta(days=2))
        .add_extension(names, critical=False)
        .sign(key, hashes.SHA256())
    )
    chain, secret = folder / "fullchain.pem", folder / "privkey.pem"
    chain.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    secret.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return chain, secret


@contextmanager
def nginx(folder: Path, server: RunningServer) -> Iterator[httpx.Client]:
    """Runs nginx with the file of the page in front of a server, and yields a client of it."""
    found = re.search(r"```nginx\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    chain, secret = certificate(folder)
    with closed_port() as address:
        pass
    block = found.group(1)
    for documented, here in (
        ("listen 443 ssl;", f"listen {address} ssl;"),
        ("/etc/letsencrypt/live/guard.example.com/fullchain.pem", str(chain)),
        ("/etc/letsencrypt/live/guard.example.com/privkey.pem", str(secret)),
        ("http://127.0.0.1:8080;", f"{server.url};"),
    ):
        assert documented in block
        block = block.replace(documented, here)
    temporary = "".join(
        f"{name}_temp_path {folder}/{name};\n" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    config = folder / "nginx.conf"
    config.write_text(
        f"daemon off;\nmaster_process off;\npid {folder}/nginx.pid;\nerror_log {folder}/error.log;\n"
        f"events {{}}\nhttp {{\naccess_log {folder}/access.log;\n{temporary}{block}}}\n"
    )
    command = [program("nginx"), "-p", str(folder), "-c", str(config)]
    checked = subprocess.run([*command, "-t"], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
    assert "[warn]" not in checked.stderr, checked.stderr
    trusted = ssl.create_default_context(cafile=str(chain))
    with (
        subprocess.Popen(command) as process,
        httpx.Client(base_url=f"https://{address}", verify=trusted, timeout=60) as client,
    ):
        try:
            until = time.monotonic() + PATIENCE_S
            while True:
                try:
                    client.get("/healthz")
                    break
                except httpx.TransportError:
                    assert time.monotonic() < until
                    time.sleep(0.02)
            yield client
        finally:
            process.terminate()


class _Counting(QuietHandler):
    """Answers an upload with the number of bytes that it has read."""

    def do_POST(self) -> None:  # noqa: N802 (the library looks for this name)
        body = str(len(self.read_body())).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture(scope="module")
def behind(
    tmp_path_factory: pytest.TempPathFactory, book: PriceBook
) -> Iterator[tuple[Provider, RunningServer, httpx.Client, BudgetGuard]]:
    """A provider, a server behind nginx, a client of nginx, and the guard."""
    folder = tmp_path_factory.mktemp("behind")
    ledger = f"sqlite:///{folder}/spend.db"
    guard = BudgetGuard(ledger, [Budget(name="all", cap=50, currency="USD")], book=book)
    with running("qingbo", api_key=CREDENTIAL) as provider, http_server(_Counting) as url:
        upstreams = {
            "studio": {"provider": "qingbo", "url": provider.url},
            "counting": {"provider": "qingbo", "url": url},
        }
        with (
            serving(ledger, folder, upstreams, guard, behind_proxy=True) as server,
            nginx(folder, server) as client,
        ):
            yield provider, server, client, guard
    guard.verify()
    guard.close()


def test_a_job_passes_through_nginx(
    behind: tuple[Provider, RunningServer, httpx.Client, BudgetGuard],
) -> None:
    """The job is admitted, its status is found, and the provider learns nothing of the proxy."""
    provider, server, client, guard = behind
    key = server.key()
    made = client.post("/p/studio/v1/tasks", json=CLIP, headers=key)
    assert made.status_code == 200, made.text
    job = guard.reservation(made.headers["x-kling-pricing-reservation"])
    assert (job.task_id, job.state) == (made.json()["task_id"], "bound")
    assert not [name for name in provider.received[-1].headers if name.startswith(("x-forwarded", "x-real"))]
    status = client.get(f"/p/studio/v1/tasks/{job.task_id}", headers=key)
    assert status.json()["task_id"] == job.task_id


def test_uploads_pass_nginx_in_parts_and_paths_as_they_are(
    behind: tuple[Provider, RunningServer, httpx.Client, BudgetGuard],
) -> None:
    """A large upload passes; nginx changes no path, so that the server can refuse tricks."""
    provider, server, client, _ = behind
    key = server.key()
    part = b"x" * (1 << 20)
    answer = client.post("/p/counting/v1/assets", content=(part for _ in range(30)), headers=key)
    assert answer.text == str(30 << 20)
    before = len(provider.received)
    for path in ("/p/studio/v1//tasks", "/p/studio/v1/tasks%2fx", "/p/studio/v1/x/%2e%2e/tasks"):
        assert client.get(path, headers=key).status_code == 400, path
    assert len(provider.received) == before


def test_nobody_reads_the_metrics_through_nginx_without_a_key(
    behind: tuple[Provider, RunningServer, httpx.Client, BudgetGuard],
) -> None:
    """The metrics need a key with all projects, although nginx connects from the same machine."""
    _, server, client, _ = behind
    for host in ("guard.example.com", "127.0.0.1", "localhost"):
        assert client.get("/metrics", headers={"Host": host}).status_code == 401
    assert client.get("/metrics", headers=server.key(None, role="view")).status_code == 200
    assert client.get("/readyz").json()["background_holder"] is None
