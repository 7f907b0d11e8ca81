"""A test gateway: a real HTTP server that speaks every wire format, bills for jobs, and fails on demand.

It listens on this machine only. It prices the requests that it receives and keeps its own bill, so tests can
compare a ledger with it.
It shares no code with the hooks.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal
from email.message import Message
from email.parser import BytesParser
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from socket import SHUT_RDWR
from typing import Any, NamedTuple, cast
from urllib.parse import urlsplit

from standardwebhooks import Webhook

from kling_pricing import KlingPricingError, PriceBook, quote
from tests.conftest import AT, bundled_book

PATIENCE_S = 10
"""The longest wait for a test, so that a failing test ends."""

_OFFICIAL = re.compile(r"/v1/videos/(text2video|image2video|omni-video|motion-control)(?:/([^/]+))?")
_TASKS = re.compile(r"/v1/tasks(?:/([^/]+))?(/cancel)?")
_OPENAI = re.compile(r"/v1/videos(?:/([^/]+))?")
_GENERATIONS = re.compile(r"/v1/video/generations(?:/([^/]+))?")

_WORDS = {
    "tasks": {"queued": "queued", "processing": "processing", "succeeded": "completed"},
    "kling": {"queued": "submitted", "processing": "processing", "succeeded": "succeed"},
    "openai_videos": {"queued": "queued", "processing": "in_progress", "succeeded": "completed"},
    "video_generations": {},
}
"""API -> state -> the API's word for the state, if it differs."""


@dataclass(frozen=True)
class Fault:
    """A failure of one submission.

    Attributes:
        status: the status of the response; None: success.
        code: the code of the error.
        accepts: whether the gateway creates the task although it fails.
        drops: whether the gateway closes the connection without a response.
        hangs: whether the response waits until the test calls `gateway.resume()`.
        headers: further headers of the response.
        body: the body of the response; None: the usual one.
    """

    status: int | None = None
    code: str = "error"
    accepts: bool = False
    drops: bool = False
    hangs: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None


@dataclass
class Job:
    """A task that the gateway has accepted, and its price."""

    id: str
    api: str
    payload: Mapping[str, Any]
    price: Decimal
    state: str = "queued"
    charged: Decimal | None = None
    """The charge in the provider's own unit; None: not billed yet."""


class Received(NamedTuple):
    """A request that the gateway received."""

    method: str
    path: str
    headers: Message
    body: bytes

    @property
    def json(self) -> Any:
        """The body, parsed as JSON."""
        return json.loads(self.body)


class Gateway:
    """A running gateway.

    Args:
        provider: the provider whose prices it charges.
        book: the price book.
        secret: the secret that signs its callbacks; None: they are not signed.

    Attributes:
        jobs: id -> task, for every task that was accepted.
        received: every request except uploads.
        accepted: set when the first task has been accepted.
        arrivals: released once for each submission that has arrived.
        hanging: set when a status request waits; see `hang_after`.
        upload_started: set when the first part of an upload has arrived.
    """

    def __init__(self, provider: str, book: PriceBook | None = None, secret: str | None = None) -> None:
        self.provider = provider
        self.jobs: dict[str, Job] = {}
        self.received: list[Received] = []
        self.upload_started = threading.Event()
        self.accepted = threading.Event()
        self.arrivals = threading.Semaphore(0)
        self.hanging = threading.Event()
        self._book = book or bundled_book()
        self._secret = secret
        self._faults: list[Fault] = []
        self._by_key: dict[str, Job] = {}
        self._lock = threading.Lock()
        self._resumed = threading.Event()
        self._numbers = count(1)
        self._callbacks = 0
        self._answers_left = -1
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    @property
    def host(self) -> str:
        """The host and port."""
        return f"127.0.0.1:{self._server.server_port}"

    @property
    def url(self) -> str:
        """The base URL."""
        return f"http://{self.host}"

    @property
    def submissions(self) -> list[Received]:
        """The requests that asked for a task, whether it was accepted or not."""
        return [
            request
            for request in self.received
            if request.method == "POST" and not request.path.endswith("/cancel")
        ]

    @property
    def bill(self) -> Decimal:
        """The sum of all charges, in the provider's own unit."""
        return sum((job.charged for job in self.jobs.values() if job.charged is not None), Decimal(0))

    def inject(self, *faults: Fault) -> None:
        """Makes the next submissions fail, one fault each."""
        self._faults += faults

    def resume(self) -> None:
        """Ends all waits, present and future."""
        self._resumed.set()

    def hang_after(self, answers: int) -> None:
        """Answers this many status requests; the one after them waits until the test calls `resume`."""
        self._answers_left = answers

    def finish(self, job_id: str, state: str = "succeeded", *, cost: Decimal | int | None = None) -> None:
        """Ends a task and charges for it; by default its price if it succeeded, and nothing otherwise."""
        job = self.jobs[job_id]
        job.state = state
        job.charged = Decimal(cost) if cost is not None else job.price if state == "succeeded" else Decimal(0)

    def call_back(
        self, job_id: str, url: str, *, state: str | None = None, times: int = 1, at: datetime | None = None
    ) -> list[int]:
        """Posts a callback about a task `times` times under one id; signs it if the gateway has a secret.

        Returns:
            The statuses of the responses.
        """
        self._callbacks += 1
        body = json.dumps(self._answer(self.jobs[job_id], state, callback=True)).encode()
        headers = {"Content-Type": "application/json"}
        if self._secret is not None:
            headers |= signed(self._secret, body, f"msg_{self._callbacks}", at)
        return [_post(url, body, headers) for _ in range(times)]

    def close(self) -> None:
        """Stops the server."""
        self._resumed.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    # called by the request handler

    def fault(self) -> Fault:
        """Returns the fault of the submission that has just arrived."""
        with self._lock:
            return self._faults.pop(0) if self._faults else Fault()

    def may_hang(self) -> None:
        """Waits before a status answer if the test asked for that with `hang_after`."""
        self._answers_left -= 1
        if self._answers_left == -1:
            self.hanging.set()
            self.wait()

    def wait(self) -> None:
        """Waits until the test calls `resume`."""
        self._resumed.wait(PATIENCE_S)

    def accept(self, api: str, path: str, request: Received) -> Job:
        """Creates a task, or returns the existing task of the request's key.

        Raises:
            KlingPricingError: the request is not valid or has no price.
        """
        payload = _payload(request)
        key = request.headers.get("Idempotency-Key") if api == "tasks" else None
        with self._lock:
            if key is not None and key in self._by_key:
                return self._by_key[key]
            price = quote(payload, provider=self.provider, url=f"{self.url}{path}", at=AT, book=self._book)
            job = Job(
                f"task-{self.provider}-{next(self._numbers)}", api, payload, self._in_units(price.maximum)
            )
            self.jobs[job.id] = job
            self.accepted.set()
            if key is not None:
                self._by_key[key] = job
            return job

    def answer(self, job: Job) -> dict[str, Any]:
        """Returns the status answer of a task."""
        return self._answer(job, None, callback=False)

    def find(self, name: str) -> Job | None:
        """Returns a task by its id or by the caller's own id."""
        if name in self.jobs:
            return self.jobs[name]
        return next((job for job in self.jobs.values() if job.payload.get("external_task_id") == name), None)

    def _in_units(self, amount: Decimal) -> Decimal:
        table = self._book.table(self.provider, AT)
        if (unit := table.billing.statement_unit) is not None:
            return (amount * unit.per_currency_unit).quantize(Decimal(1), ROUND_HALF_UP)
        if table.own_unit is None:
            return amount
        one = next(rate for rate in table.rates.values() if rate.own_units)
        return amount * cast("Decimal", one.own_units) / one.unit_price

    def _answer(self, job: Job, state: str | None, *, callback: bool) -> dict[str, Any]:
        state = state or job.state
        word = _WORDS[job.api].get(state, state)
        final = state in {"succeeded", "failed", "cancelled"}
        if job.api == "kling":
            data: dict[str, Any] = {"task_id": job.id, "task_status": word, "task_info": {}}
            if state == "succeeded":
                data["task_result"] = {"videos": [{"id": "v", "url": "https://x", "duration": "5.0"}]}
            if final and job.charged is not None:
                data["final_unit_deduction"] = format(job.charged.normalize(), "f")
            return data if callback else {"code": 0, "message": "SUCCEED", "request_id": "r", "data": data}
        if job.api == "openai_videos":
            task = {"id": job.id, "task_id": job.id, "object": "video", "model": job.payload["model"]}
            return task | {"status": word, "created_at": 1, "progress": 0}
        if job.api == "video_generations":
            return {"task_id": job.id, "status": word}
        cost = {"cost": int(job.charged)} if final and job.charged is not None else {}
        return {"task_id": job.id, "model": job.payload["model"], "status": word, "progress": "45%", **cost}


class _Server(ThreadingHTTPServer):
    """A server that accepts a burst of connections and ignores clients that disconnect."""

    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, *_request: Any) -> None:
        """Prints nothing."""


@contextmanager
def running(provider: str, book: PriceBook | None = None, secret: str | None = None) -> Iterator[Gateway]:
    """Runs a gateway for the length of a block."""
    gateway = Gateway(provider, book, secret)
    try:
        yield gateway
    finally:
        gateway.close()


@contextmanager
def receiving(handle: Callable[[Received], int]) -> Iterator[str]:
    """Runs a server for callbacks and yields its URL; `handle` returns the status of each response."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(handle(Received("POST", self.path, self.headers, body)))
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            """Prints nothing."""

    server = _Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/callback"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def signed(secret: str, body: bytes, message_id: str, at: datetime | None = None) -> dict[str, str]:
    """Returns the headers of a signed callback."""
    timestamp = at or datetime.now(UTC)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(int(timestamp.timestamp())),
        "webhook-signature": Webhook(secret).sign(message_id, timestamp, body.decode()),
    }


def _post(url: str, body: bytes, headers: Mapping[str, str]) -> int:
    parts = urlsplit(url)
    connection = HTTPConnection(cast("str", parts.hostname), parts.port, timeout=PATIENCE_S)
    try:
        connection.request("POST", parts.path, body, dict(headers))
        return connection.getresponse().status
    finally:
        connection.close()


def _payload(request: Received) -> dict[str, Any]:
    """Reads the payload of a submission, JSON or form, without the library's own form reader."""
    content_type = request.headers.get("Content-Type", "")
    if not content_type.startswith("multipart/form-data"):
        return cast("dict[str, Any]", request.json)
    header = f"Content-Type: {content_type}\r\n\r\n".encode()
    form = BytesParser().parsebytes(header + request.body)
    parts = cast("list[Message]", form.get_payload())
    return {
        str(part.get_param("name", header="content-disposition")): part.get_filename()
        or cast("bytes", part.get_payload(decode=True)).decode()
        for part in parts
    }


def _handler(gateway: Gateway) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            if self.path.startswith("/v1/audio"):
                self._take_upload()
                return
            request = Received("POST", self.path, self.headers, self._body())
            gateway.received.append(request)
            if match := _TASKS.fullmatch(self.path):
                if match[2]:
                    self._cancel(match[1])
                elif match[1]:
                    self._fail(404, "not_found")
                else:
                    self._submit("tasks", request)
            elif (match := _OFFICIAL.fullmatch(self.path)) and not match[2]:
                self._submit("kling", request)
            elif (match := _OPENAI.fullmatch(self.path)) and not match[1]:
                self._submit("openai_videos", request)
            elif (match := _GENERATIONS.fullmatch(self.path)) and not match[1]:
                self._submit("video_generations", request)
            else:
                self._respond(200, {"path": self.path, "bytes": len(request.body)})

        def do_GET(self) -> None:
            gateway.received.append(Received("GET", self.path, self.headers, b""))
            path = self.path.partition("?")[0]
            if path.startswith("/v1/audio"):
                self._stream()
                return
            official = _OFFICIAL.fullmatch(path)
            match = (
                official or _TASKS.fullmatch(path) or _OPENAI.fullmatch(path) or _GENERATIONS.fullmatch(path)
            )
            job = gateway.find(match[2 if official else 1] or "") if match else None
            if path.startswith("/redirect-to/"):
                host, _, rest = path.removeprefix("/redirect-to/").partition("/")
                self._fail(302, "moved", headers={"Location": f"http://{host}/{rest}"})
            elif job is None:
                self._fail(404, "not_found")
            else:
                gateway.may_hang()
                self._respond(200, gateway.answer(job))

        def _submit(self, api: str, request: Received) -> None:
            fault = gateway.fault()
            gateway.arrivals.release()
            job = None
            if fault.accepts or (fault.status is None and not fault.drops):
                try:
                    job = gateway.accept(api, self.path, request)
                except KlingPricingError as error:
                    self._fail(400, "invalid_request", str(error))
                    return
            if fault.hangs:
                gateway.wait()
            if fault.drops:
                self.close_connection = True
                self.connection.shutdown(SHUT_RDWR)
            elif fault.status is not None or fault.body is not None or job is None:
                self._fail(fault.status or 200, fault.code, body=fault.body, headers=fault.headers)
            else:
                if self.headers.get("Prefer", "").startswith("wait"):
                    gateway.finish(job.id)
                self._respond(200, gateway.answer(job))

        def _cancel(self, name: str) -> None:
            job = gateway.find(name)
            if job is None or job.state != "queued":
                self._fail(400, "task_not_cancellable")
                return
            gateway.finish(job.id, "cancelled")
            self._respond(200, gateway.answer(job) | {"refunded_quota": int(job.price)})

        def _take_upload(self) -> None:
            """Reads an upload chunk by chunk, and sets `upload_started` after the first chunk."""
            length = 0
            while size := int(self.rfile.readline(), 16):
                length += len(self.rfile.read(size))
                self.rfile.readline()
                gateway.upload_started.set()
            self.rfile.readline()
            self._respond(200, {"bytes": length})

        def _stream(self) -> None:
            """Sends one chunk, and the next one only after the test calls `resume`."""
            self.send_response(200)
            self.send_header("Content-Type", "video/mp4")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"5\r\nfirst\r\n")
            gateway.wait()
            self.wfile.write(b"4\r\nlast\r\n0\r\n\r\n")

        def _body(self) -> bytes:
            if length := int(self.headers.get("Content-Length", 0)):
                return self.rfile.read(length)
            body = b""
            if self.headers.get("Transfer-Encoding") == "chunked":
                while size := int(self.rfile.readline(), 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
            return body

        def _fail(
            self,
            status: int,
            code: str,
            message: str = "no",
            *,
            body: bytes | None = None,
            headers: Mapping[str, str] | None = None,
        ) -> None:
            self._respond(status, {"error": {"message": message, "code": code}}, body=body, headers=headers)

        def _respond(
            self,
            status: int,
            answer: Any,
            *,
            body: bytes | None = None,
            headers: Mapping[str, str] | None = None,
        ) -> None:
            content = json.dumps(answer).encode() if body is None else body
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            """Prints nothing."""

    return Handler
