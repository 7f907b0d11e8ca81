"""Servers for tests: each runs in a thread on a real socket, with the guard of the test."""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from kling_pricing import BudgetGuard
from kling_pricing.guard import issue_key
from kling_pricing.listening import listen
from kling_pricing.server.processes import ServedApplication
from kling_pricing.server.server_settings import load_settings
from kling_pricing.server.server_state import ServerState
from tests.commands import COMMAND
from tests.hook_clients import PATIENCE_S, Client, HttpxClient, Reply

CREDENTIAL = "the-providers-own-key"
"""The credential of the upstreams in tests, which no caller may see."""

CERTIFICATES = ssl.create_default_context()
"""Loaded once, because every client would load the certificates again, although tests use none."""


class RunningServer:
    """A server that accepts requests.

    Attributes:
        url: its URL.
        ledger: the URL of its ledger.
        served: the server in a thread; None: it runs in processes of its own.
    """

    def __init__(self, url: str, ledger: str, served: ServedApplication | None) -> None:
        self.url = url
        self.ledger = ledger
        self.served = served

    def base(self, upstream: str) -> str:
        """Returns the base URL of an upstream for callers."""
        return f"{self.url}/p/{upstream}"

    def key(self, project: str | None = "trailer", **options: Any) -> dict[str, str]:
        """Issues an access key, and returns the header with it."""
        return {"Authorization": f"Bearer {issue_key(self.ledger, project=project, **options).text}"}

    def client(self, project: str | None = "trailer", **options: Any) -> httpx.Client:
        """Returns a client with a new access key; the caller closes it."""
        return httpx.Client(headers=self.key(project, **options), timeout=PATIENCE_S, verify=CERTIFICATES)


@contextmanager
def serving(
    ledger: str, folder: Path, upstreams: Mapping[str, Any], guard: BudgetGuard | None = None, **settings: Any
) -> Iterator[RunningServer]:
    """Runs a server for the length of a block.

    Args:
        ledger: the URL of the ledger.
        folder: a folder for the file with the credential.
        upstreams: name -> the settings of an upstream, as in the file.
        guard: the guard; None: the server opens one.
        settings: further settings.
    """
    secret = folder / "credential"
    secret.write_text(CREDENTIAL)
    entries = {name: {"credential": f"file:{secret}", **entry} for name, entry in upstreams.items()}
    loaded = load_settings(
        environment={},
        overrides={"ledger": ledger, "port": 0, "upstreams": entries, "stop_timeout_s": 5, **settings},
    )
    with listen("127.0.0.1", 0) as listening:
        served = ServedApplication(ServerState(loaded, guard=guard), listening)
        thread = threading.Thread(target=served.run)
        thread.start()
        served.started.wait()
        try:
            yield RunningServer(f"http://127.0.0.1:{listening.getsockname()[1]}", ledger, served)
        finally:
            served.stop()
            thread.join()


def _plain(key: Mapping[str, str]) -> Client:
    """Returns a client that sends its access key with every request, and knows nothing of the guard."""
    return HttpxClient(httpx, httpx.Client(headers=dict(key), verify=CERTIFICATES))


class _Curl:
    """The command curl."""

    def __init__(self, key: Mapping[str, str]) -> None:
        self._key = key

    def send(
        self,
        method: str,
        url: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        read_timeout_s: float = PATIENCE_S,
    ) -> Reply:
        command = ["curl", "--silent", "--include", "--request", method, "--max-time", str(read_timeout_s), url]
        for name, value in {**self._key, **(headers or {})}.items():
            command += ["--header", f"{name}: {value}"]
        if body is not None:
            command += ["--data-binary", "@-"]
        output = subprocess.run(command, input=body, capture_output=True, check=True).stdout
        head, _, content = output.partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        found = dict(line.split(": ", 1) for line in lines[1:])
        return Reply(int(lines[0].split()[1]), found, content)

    def close(self) -> None:
        """Does nothing: each request is a process of its own."""


PLAIN_CLIENTS: Mapping[str, Callable[[Mapping[str, str]], Client]] = {"httpx": _plain, "curl": _Curl}
"""Name -> a function that creates a client, which takes the headers with its access key."""


@contextmanager
def command_running(
    ledger: str, folder: Path, upstreams: Mapping[str, Any], *arguments: str
) -> Iterator[tuple[RunningServer, subprocess.Popen[str]]]:
    """Runs the command `kling-pricing serve` for the length of a block, and stops it with SIGTERM."""
    secret = folder / "credential"
    secret.write_text(CREDENTIAL)
    lines = ["upstreams:"]
    for name, entry in upstreams.items():
        lines.append(f"  {name}: {json.dumps({'credential': f'file:{secret}', **entry})}")
    config = folder / "server.yaml"
    config.write_text("\n".join(lines))
    command = [*COMMAND, "serve", "--config", str(config), "--ledger", ledger, "--port", "0", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield RunningServer(_url_when_ready(process), ledger, None), process
    finally:
        process.terminate()
        process.communicate(timeout=PATIENCE_S)


@contextmanager
def serving_process(
    ledger: str, folder: Path, provider: str, url: str, **settings: Any
) -> Iterator[tuple[RunningServer, subprocess.Popen[str]]]:
    """Runs a server in a process of its own, with a short lease and an upstream `studio`; kills it at the end.

    Args:
        ledger: the URL of the ledger.
        folder: the working folder of the process.
        provider: the provider of the upstream.
        url: the URL of the upstream.
        settings: further settings; those of the upstream have names such as `upstreams__studio__keeps_keys`.
    """
    given: dict[str, Any] = {"lease_s": 2, "ask_after_s": 1, "port": 0}
    given |= {"upstreams__studio__provider": provider, "upstreams__studio__url": url, **settings}
    variables = {f"KLING_PRICING_SERVER_{name.upper()}": json.dumps(value) for name, value in given.items()}
    command = [*COMMAND, "serve", "--ledger", ledger]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=os.environ | variables, cwd=folder
    ) as process:
        try:
            yield RunningServer(_url_when_ready(process), ledger, None), process
        finally:
            process.kill()


def _url_when_ready(process: subprocess.Popen[str]) -> str:
    """Returns the URL of a server as soon as it answers."""
    assert process.stdout is not None
    line = next(line for line in process.stdout if line.startswith("The API is at "))
    url = line.split()[-1].removesuffix("/api/v1.")
    while True:
        try:
            httpx.get(f"{url}/healthz", timeout=PATIENCE_S)
        except httpx.TransportError:
            assert process.poll() is None, "the server has ended"
            time.sleep(0.05)
        else:
            return url


def background_place(url: str) -> str:
    """Returns where a server says that the background work is done: `here` or `elsewhere`."""
    found: str = httpx.get(f"{url}/readyz").json()["background"]
    return found
