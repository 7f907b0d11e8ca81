"""Uses a sandbox with the unmodified OpenAI SDK for Python; prints what a caller sees, one outcome per call.

It is a program, so that a test can choose the version of the SDK. `openai_rehearsal.mjs` makes the same calls
in Node::

    python openai_rehearsal.py SANDBOX_URL PROVIDER
"""

import json
import sys
import warnings
from collections.abc import Callable
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

import openai

JOB: dict[str, Any] = {"model": "Kling-2.5", "prompt": "a paper boat", "seconds": "5", "size": "1280x720"}


class Rehearsal:
    """A client, and the calls that steer the sandbox."""

    def __init__(self, url: str, provider: str) -> None:
        self.url, self.provider = url, provider
        self.videos: Any = openai.OpenAI(base_url=f"{url}/{provider}/v1", api_key="x", max_retries=1).videos
        self.patient: Any = openai.OpenAI(
            base_url=f"{url}/{provider}/v1", api_key="x", max_retries=0, timeout=0.3
        ).videos
        self.outcomes: list[str] = []

    def steer(self, path: str, body: Any) -> None:
        """Sends one of the calls that steer the sandbox."""
        connection = HTTPConnection(urlsplit(self.url).netloc)
        connection.request("POST", path, json.dumps(body))
        connection.getresponse().read()
        connection.close()

    def forward(self) -> None:
        """Lets a minute pass, in which every task ends."""
        self.steer("/_clock", {"forward_s": 60})

    def note(self, call: Callable[[], Any]) -> Any:
        """Notes the outcome of a call, and returns its result."""
        try:
            result = call()
        except openai.APIStatusError as error:
            self.outcomes.append(f"{type(error).__name__} {error.status_code} {error.code}")
            return None
        except openai.APITimeoutError:
            self.outcomes.append("timeout")
            return None
        seen = result if isinstance(result, str) else f"{result.status} {result.model}"
        self.outcomes.append(seen)
        return result

    def create(self, **changes: Any) -> Any:
        """Submits a job."""
        return self.note(lambda: self.videos.create(**{**JOB, **changes}))

    def ids(self, **query: Any) -> list[str]:
        """Returns the ids of all videos, in pages of one."""
        return [video.id for video in self.videos.list(limit=1, **query)]

    def run(self) -> list[str]:
        """Makes all calls."""
        first = self.create()
        self.note(lambda: self.videos.retrieve(first.id))
        self.note(lambda: self.videos.download_content(first.id))
        self.note(lambda: self.videos.delete(first.id))
        self.forward()
        self.note(lambda: self.videos.retrieve(first.id))
        self.note(lambda: f"{len(self.videos.download_content(first.id).read())} bytes")
        failing = self.create(prompt="a boat [fail:moderation]")
        self.forward()
        self.note(lambda: f"error {self.videos.retrieve(failing.id).error.message}")
        self.note(lambda: f"newest first: {self.ids() == [failing.id, first.id]}")
        self.note(lambda: f"oldest first: {self.ids(order='asc') == [first.id, failing.id]}")
        self.note(lambda: f"deleted: {self.videos.delete(first.id).deleted}")
        self.note(lambda: self.videos.retrieve(first.id))
        self.note(lambda: f"kept: {self.ids() == [failing.id]}")
        self.create(model="Kling-9")
        self.create(size="10x10")
        self.note(lambda: self.patient.create(**{**JOB, "prompt": "a boat [429]"}))
        self.note(lambda: self.patient.create(**{**JOB, "prompt": "a boat [timeout]"}))
        self.steer(f"/{self.provider}/_faults", {"faults": ["500"]})
        self.create()
        self.steer(f"/{self.provider}/_faults", {"faults": ["lost-answer"]})
        self.create()
        self.create(input_reference=("a.png", b"\x89PNG\r\n\x00--b", "image/png"))
        self.create(extra_body={"metadata": {"output_config": {"resolution": "1080p"}}})
        return self.outcomes


if __name__ == "__main__":
    warnings.simplefilter("ignore", DeprecationWarning)  # the SDK deprecates its own videos API
    outcomes = Rehearsal(*sys.argv[1:]).run()
    sys.stdout.write(json.dumps({"version": openai.__version__, "outcomes": outcomes}))
