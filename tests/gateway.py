"""A gateway to rehearse against: a real HTTP server that speaks every wire format, bills, and fails on demand.

It listens on this machine alone, prices what it was really sent, and keeps a bill of its own, so that a ledger
can be held against it.
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

from kling_pricing import KlingPricingError, PriceBook, load_price_book, quote
from tests.conftest import AT

PATIENCE_S = 10
"""How long it waits for a test, so that a test that fails ends."""

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
"""How each API says a state, where not by the word itself."""


@dataclass(frozen=True)
class Fault:
    """What goes wrong with one submission.

    Attributes:
        status: that is answered in place of success; None: the usual.
        code: of the error.
        accepts: whether the task is made all the same.
        drops: whether the connection is closed without an answer.
        hangs: whether the answer waits until the test says `gateway.go_on()`.
        headers: of the answer.
        body: in place of the usual.
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
    """A task that the gateway has accepted, and what it charges for it."""

    id: str
    api: str
    payload: Mapping[str, Any]
    price: Decimal
    state: str = "queued"
    charged: Decimal | None = None
    """In the provider's own unit; None: not billed yet."""


class Received(NamedTuple):
    """A request as it came."""

    method: str
    path: str
    headers: Message
    body: bytes

    @property
    def json(self) -> Any:
        """The body, read as JSON."""
        return json.loads(self.body)


class Gateway:
    """See the module.

    Args:
        provider: whose prices it bills by.
        book: has them.
        secret: signs callbacks; None: they are not signed.

    Attributes:
        jobs: id -> every task that was accepted.
        received: every request, but uploads.
        accepted: set when the first task is.
        arrivals: one for each submission that has come.
        hanging: set when a question waits; see `hang_after`.
        fed: set when the first part of an upload is there.
    """

    def __init__(self, provider: str, book: PriceBook | None = None, secret: str | None = None) -> None:
        self.provider = provider
        self.jobs: dict[str, Job] = {}
        self.received: list[Received] = []
        self.fed = threading.Event()
        self.accepted = threading.Event()
        self.arrivals = threading.Semaphore(0)
        self.hanging = threading.Event()
        self._book = book or load_price_book()
        self._secret = secret
        self._faults: list[Fault] = []
        self._by_key: dict[str, Job] = {}
        self._lock = threading.Lock()
        self._go_on = threading.Event()
        self._numbers = count(1)
        self._callbacks = 0
        self._answers_left = -1
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    @property
    def host(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self._server.server_port}"

    @property
    def url(self) -> str:
        """The root of its paths."""
        return f"http://{self.host}"

    @property
    def submissions(self) -> list[Received]:
        """What was posted to make a task, accepted or not."""
        return [each for each in self.received if each.method == "POST" and not each.path.endswith("/cancel")]

    @property
    def bill(self) -> Decimal:
        """All that it has charged, in its own unit."""
        return sum((job.charged for job in self.jobs.values() if job.charged is not None), Decimal(0))

    def will(self, *faults: Fault) -> None:
        """Lets the next submissions go wrong, one each."""
        self._faults += faults

    def go_on(self) -> None:
        """Lets what hangs go on, now and later."""
        self._go_on.set()

    def hang_after(self, answers: int) -> None:
        """Lets the question after so many about tasks wait until the test says `go_on`."""
        self._answers_left = answers

    def finish(self, job_id: str, state: str = "succeeded", *, cost: Decimal | int | None = None) -> None:
        """Ends a task, and charges for it: what it costs by default, nothing unless it succeeded."""
        job = self.jobs[job_id]
        job.state = state
        job.charged = Decimal(cost) if cost is not None else job.price if state == "succeeded" else Decimal(0)

    def call_back(
        self, job_id: str, url: str, *, state: str | None = None, times: int = 1, at: datetime | None = None
    ) -> list[int]:
        """Posts what a task is to a URL, signed if it has a secret; `times` over, under one id.

        Returns:
            The statuses it was answered with.
        """
        self._callbacks += 1
        body = json.dumps(self._shown(self.jobs[job_id], state, callback=True)).encode()
        headers = {"Content-Type": "application/json"}
        if self._secret is not None:
            headers |= signed(self._secret, body, f"msg_{self._callbacks}", at)
        return [_post(url, body, headers) for _ in range(times)]

    def close(self) -> None:
        """Ends it."""
        self._go_on.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    # what the handler asks

    def fault(self) -> Fault:
        """What goes wrong with the submission that has just come."""
        with self._lock:
            return self._faults.pop(0) if self._faults else Fault()

    def may_hang(self) -> None:
        """Waits with the answer about a task, if the test wants that."""
        self._answers_left -= 1
        if self._answers_left == -1:
            self.hanging.set()
            self.wait()

    def wait(self) -> None:
        """Waits until the test says to go on."""
        self._go_on.wait(PATIENCE_S)

    def accept(self, api: str, path: str, request: Received) -> Job:
        """Makes a task, or finds the one that the key has.

        Raises:
            KlingPricingError: nobody would sell that.
        """
        payload = _payload(request)
        key = request.headers.get("Idempotency-Key") if api == "tasks" else None
        with self._lock:
            if key is not None and key in self._by_key:
                return self._by_key[key]
            quoted = quote(payload, provider=self.provider, url=f"{self.url}{path}", at=AT, book=self._book)
            job = Job(
                f"task-{self.provider}-{next(self._numbers)}", api, payload, self._in_units(quoted.maximum)
            )
            self.jobs[job.id] = job
            self.accepted.set()
            if key is not None:
                self._by_key[key] = job
            return job

    def answer(self, job: Job) -> dict[str, Any]:
        """What is answered of a task."""
        return self._shown(job, None, callback=False)

    def find(self, name: str) -> Job | None:
        """A task by its id, or by the name that its caller gave it."""
        if name in self.jobs:
            return self.jobs[name]
        return next((job for job in self.jobs.values() if job.payload.get("external_task_id") == name), None)

    # inside

    def _in_units(self, amount: Decimal) -> Decimal:
        table = self._book.table(self.provider, AT)
        if (unit := table.billing.statement_unit) is not None:
            return (amount * unit.per_currency_unit).quantize(Decimal(1), ROUND_HALF_UP)
        if table.own_unit is None:
            return amount
        one = next(rate for rate in table.rates.values() if rate.own_units)
        return amount * cast("Decimal", one.own_units) / one.unit_price

    def _shown(self, job: Job, state: str | None, *, callback: bool) -> dict[str, Any]:
        now = state or job.state
        word = _WORDS[job.api].get(now, now)
        final = now in {"succeeded", "failed", "cancelled"}
        if job.api == "kling":
            data: dict[str, Any] = {"task_id": job.id, "task_status": word, "task_info": {}}
            if now == "succeeded":
                data["task_result"] = {"videos": [{"id": "v", "url": "https://x", "duration": "5.0"}]}
            if final and job.charged is not None:
                data["final_unit_deduction"] = format(job.charged.normalize(), "f")
            return data if callback else {"code": 0, "message": "SUCCEED", "request_id": "r", "data": data}
        if job.api == "openai_videos":
            said = {"id": job.id, "task_id": job.id, "object": "video", "model": job.payload["model"]}
            return said | {"status": word, "created_at": 1, "progress": 0}
        if job.api == "video_generations":
            return {"task_id": job.id, "status": word}
        cost = {"cost": int(job.charged)} if final and job.charged is not None else {}
        return {"task_id": job.id, "model": job.payload["model"], "status": word, "progress": "45%", **cost}


class _Server(ThreadingHTTPServer):
    """A server that takes a burst of connections, and has no quarrel with clients that hang up."""

    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, *_request: Any) -> None:
        """Stays quiet."""


@contextmanager
def running(provider: str, book: PriceBook | None = None, secret: str | None = None) -> Iterator[Gateway]:
    """A gateway for the length of a block."""
    gateway = Gateway(provider, book, secret)
    try:
        yield gateway
    finally:
        gateway.close()


@contextmanager
def receiving(handle: Callable[[Received], int]) -> Iterator[str]:
    """A server for callbacks: its URL; each is handed over, and answered with the status that comes back."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(handle(Received("POST", self.path, self.headers, body)))
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            """Stays quiet."""

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
    """The headers of a signed callback."""
    when = at or datetime.now(UTC)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(int(when.timestamp())),
        "webhook-signature": Webhook(secret).sign(message_id, when, body.decode()),
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
    """A submission's payload, JSON or form, read without the library's own reader of forms."""
    content_type = request.headers.get("Content-Type", "")
    if not content_type.startswith("multipart/form-data"):
        return cast("dict[str, Any]", request.json)
    head = f"Content-Type: {content_type}\r\n\r\n".encode()
    form = BytesParser().parsebytes(head + request.body)
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
            if self.path.startswith("/v1/files"):
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
                self._say(200, {"path": self.path, "bytes": len(request.body)})

        def do_GET(self) -> None:
            gateway.received.append(Received("GET", self.path, self.headers, b""))
            path = self.path.partition("?")[0]
            if path.startswith("/v1/files"):
                self._stream()
                return
            official = _OFFICIAL.fullmatch(path)
            found = (
                official or _TASKS.fullmatch(path) or _OPENAI.fullmatch(path) or _GENERATIONS.fullmatch(path)
            )
            job = gateway.find(found[2 if official else 1] or "") if found else None
            if path.startswith("/redirect-to/"):
                host, _, rest = path.removeprefix("/redirect-to/").partition("/")
                self._fail(302, "moved", headers={"Location": f"http://{host}/{rest}"})
            elif job is None:
                self._fail(404, "not_found")
            else:
                gateway.may_hang()
                self._say(200, gateway.answer(job))

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
                self._say(200, gateway.answer(job))

        def _cancel(self, name: str) -> None:
            job = gateway.find(name)
            if job is None or job.state != "queued":
                self._fail(400, "task_not_cancellable")
                return
            gateway.finish(job.id, "cancelled")
            self._say(200, gateway.answer(job) | {"refunded_quota": int(job.price)})

        def _take_upload(self) -> None:
            """Reads an upload chunk by chunk, and tells as soon as it has the first."""
            length = 0
            while size := int(self.rfile.readline(), 16):
                length += len(self.rfile.read(size))
                self.rfile.readline()
                gateway.fed.set()
            self.rfile.readline()
            self._say(200, {"bytes": length})

        def _stream(self) -> None:
            """Sends one chunk, and the next only when the test says so."""
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
            self._say(status, {"error": {"message": message, "code": code}}, body=body, headers=headers)

        def _say(
            self, status: int, said: Any, *, body: bytes | None = None, headers: Mapping[str, str] | None = None
        ) -> None:
            written = json.dumps(said).encode() if body is None else body
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(written)))
            self.end_headers()
            self.wfile.write(written)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            """Stays quiet."""

    return Handler
