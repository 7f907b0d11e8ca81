"""A server with a filled ledger, for the tests of its pages, and people who sign in to it."""

from __future__ import annotations

import atexit
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import httpx

from kling_pricing import Budget, BudgetExceededError, BudgetGuard, PriceBook
from kling_pricing.guard import issue_key
from kling_pricing.ledger.access_keys import Role
from tests.conftest import Clock, bundled_book, in_memory, video
from tests.server_runs import RunningServer, serving
from tests.studio import BUDGETS, month

NOW = datetime(2026, 11, 30, 15, 20, tzinfo=UTC)
"""The instant that the clock of the scene shows."""

OWN, RIVAL = "trailer", "rival"
SECRETS = ("rival-waiting", "rival-running", "rival-cap", "rival-task")
"""Texts that nobody but the project `rival` and administrators may see."""


def token_in(page: str) -> str:
    """Returns the token in the forms of a page."""
    return page.split('name="form_token" value="')[1].split('"', maxsplit=1)[0]


class PageScene(NamedTuple):
    """A server whose ledger has a month of jobs, jobs of two further projects, alerts, a freeze and requests.

    Attributes:
        server: the server.
        guard: its guard.
        clock: its clock.
        names: parameter of a path -> the name of an object of the project `rival`.
        visitors: everybody who has visited; their connections are closed with the scene.
    """

    server: RunningServer
    guard: BudgetGuard
    clock: Clock
    names: Mapping[str, str]
    visitors: list[Visitor]

    def key(self, project: str | None = None, role: Role = "manage", **options: Any) -> str:
        """Issues an access key, and returns its text."""
        return issue_key(self.server.ledger, project=project, role=role, **options).text

    def stranger(self) -> Visitor:
        """Returns a visitor who has not signed in."""
        self.visitors.append(Visitor(self.server.url))
        return self.visitors[-1]

    def visitor(self, project: str | None = None, role: Role = "manage", **options: Any) -> Visitor:
        """Returns a visitor who has signed in."""
        visitor = self.stranger()
        visitor.sign_in(self.key(project, role, **options))
        return visitor


class Visitor:
    """A person who uses the pages without script.

    Attributes:
        client: sends the requests, and keeps the cookies.
        token: the token of the session's forms.
    """

    def __init__(self, url: str) -> None:
        self.client = httpx.Client(base_url=url, timeout=30, follow_redirects=False)
        self.token = ""

    def sign_in(self, key: str, to: str = "/") -> httpx.Response:
        """Signs in with an access key, and returns the answer."""
        answer = self.client.post("/sign-in", data={"access_key": key, "next": to})
        if answer.status_code == httpx.codes.SEE_OTHER:
            page = self.client.get("/calculator").text
            self.token = token_in(page)
        return answer

    def get(self, path: str) -> httpx.Response:
        """Opens a page."""
        return self.client.get(path)

    def post(self, path: str, **fields: Any) -> httpx.Response:
        """Sends a form with the token of the session."""
        return self.client.post(path, data={"form_token": self.token, **fields})


class _Filled(NamedTuple):
    """A folder with the ledger and the statement of the scene, and the names of objects of `rival`."""

    folder: Path
    names: Mapping[str, str]


@cache
def _filled() -> _Filled:
    """Fills a ledger for the scenes of this process, which copy it: that takes less time than to fill one."""
    kept = TemporaryDirectory(prefix="kling-pricing-scene-", dir=in_memory())
    atexit.register(kept.cleanup)
    folder, book = Path(kept.name), bundled_book()
    filled = month(folder, book, 60)
    rival = Budget(name="rival-cap", match={"project": RIVAL}, cap=2, currency="USD", alerts=["0.3"])
    tight = Budget(name="tight", match={"project": "tight"}, cap="0.5", currency="USD", window="day")
    with BudgetGuard(filled.ledger, book=book, clock=Clock(NOW), actor="li") as guard:
        guard.apply([*BUDGETS, rival, tight], allow_weaker=True, reason="two more projects")
        waiting = guard.admit(video(duration=5, resolution="720p"), project=RIVAL, key="rival-waiting")
        running, _ = guard.admit_and_dispatch(
            video(duration=5, resolution="720p"), project=RIVAL, key="rival-running", labels={"user": "wang"}
        )
        guard.bind(running, "rival-task")
        lost, _ = guard.admit_and_dispatch(
            video(duration=5, resolution="720p"), project=RIVAL, key="rival-lost", labels={"user": "wang"}
        )
        guard.mark_in_doubt(lost, "timeout after 120 s")
        own, _ = guard.admit_and_dispatch(
            video(duration=5, resolution="1080p"), project=OWN, key="own-lost", labels={"user": "li"}
        )
        guard.mark_in_doubt(own, "timeout after 120 s")
        asked = guard.ask(
            video(duration=10, resolution="1080p"), project="tight", key="big", reason="the client waits"
        )
        try:
            guard.admit(video(duration=10, resolution="1080p"), project="tight")
        except BudgetExceededError:
            guard.refusals()
    names = {
        "reservation_id": waiting.reservation_id,
        "budget": "rival-cap",
        "request_id": asked.id,
        "doubtful_id": lost.reservation_id,
    }
    return _Filled(folder, names)


@contextmanager
def page_scene(folder: Path, book: PriceBook, **settings: Any) -> Iterator[PageScene]:
    """Runs the scene for the length of a block, with the files of the ledger in a folder."""
    filled = _filled()
    shutil.copytree(filled.folder, folder, dirs_exist_ok=True)
    ledger = f"sqlite:///{folder}/spend.db"
    clock = Clock(NOW)
    upstreams: dict[str, Any] = settings.pop("upstreams", {})
    with (
        BudgetGuard(ledger, book=book, clock=clock, actor="li") as guard,
        serving(ledger, folder, upstreams, guard, **settings) as server,
    ):
        scene = PageScene(server, guard, clock, filled.names, [])
        yield scene
        for visitor in scene.visitors:
            visitor.client.close()
