"""The script of the demo: the made-up month as data, and the jobs that it makes of a seed."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib.resources import files
from typing import Annotated, Any, Literal, NamedTuple, get_args

from pydantic import Field

from kling_pricing.strict_yaml import FileModel, Name, Text, UrlPath, read
from kling_pricing.tables.loading.book import load_price_book
from kling_pricing.tables.price_book import PriceBook

BUDGETS_FILE, SERVED_BUDGETS_FILE = "budgets.yaml", "served-budgets.yaml"
"""The budgets of `kling-pricing demo` and of `kling-pricing serve --demo`."""

Route = Literal["scripts", "callers"]
"""The way of a job: from a script through a hook, or from a caller through the server."""

ROUTES: tuple[Route, ...] = get_args(Route)

_SCRIPT_FILE = "script.yaml"
_FIRST_HOUR, _LAST_HOUR = 8, 20
_MINUTES_PER_HOUR = 60


class RouteEntry(FileModel):
    """The API to which the jobs of one route go."""

    provider: Name
    path: UrlPath


class ProjectEntry(FileModel):
    """A project and its ordinary jobs."""

    name: Name
    sends: Route
    jobs: Annotated[int, Field(ge=1)]
    """The number of its jobs in a month."""
    users: list[Name]
    shots: list[Name]


class PartEntry(FileModel):
    """Who sends the jobs of an incident."""

    project: Name
    user: Name
    shot: Name


class DayEntries(FileModel):
    """The day of the month on which each incident happens."""

    rounded: int
    lost_answer: int
    killed: int
    failed: int
    in_doubt: int
    overspent: int
    allowed: int
    capped: int


class DemoScript(FileModel):
    """The whole script."""

    seed: int
    month: Text
    scripts: RouteEntry
    callers: RouteEntry
    projects: list[ProjectEntry]
    shots: dict[Name, dict[Text, Any]]
    days: DayEntries
    rounded: PartEntry
    common: PartEntry
    doubtful: PartEntry
    overspent: PartEntry
    allowed: PartEntry
    capped: PartEntry
    reason: Text

    @property
    def start(self) -> datetime:
        """The start of the month."""
        return datetime.strptime(self.month, "%Y-%m").replace(tzinfo=UTC)

    @property
    def end(self) -> datetime:
        """The end of the month, which is not part of it."""
        return (self.start + timedelta(days=31)).replace(day=1)

    def route(self, name: Route) -> RouteEntry:
        """Returns the API of a route."""
        return self.scripts if name == "scripts" else self.callers

    def route_of(self, project: str) -> Route:
        """Returns the route of a project's jobs."""
        return next(entry.sends for entry in self.projects if entry.name == project)


class DemoJob(NamedTuple):
    """One job of the demo.

    Attributes:
        at: the instant at which it is sent.
        route: its way to the provider.
        project: its project.
        user: the label `user`.
        key: its key.
        payload: the body of the request.
    """

    at: datetime
    route: Route
    project: str
    user: str
    key: str
    payload: Mapping[str, Any]


@cache
def demo_script() -> DemoScript:
    """Returns the script that the package contains."""
    return read(demo_file(_SCRIPT_FILE), DemoScript, name=_SCRIPT_FILE)[0]


@cache
def demo_book() -> PriceBook:
    """Returns the bundled price tables; the user's own might price the jobs of the demo otherwise."""
    return load_price_book()


def demo_file(name: str) -> bytes:
    """Returns the content of a file of the demo."""
    return files(__package__).joinpath(name).read_bytes()


class JobMaker:
    """Makes jobs of the script; the same seed always makes the same jobs.

    Args:
        script: the script.
        seed: the seed.
    """

    def __init__(self, script: DemoScript, seed: int) -> None:
        self.dice = random.Random(seed)  # noqa: S311 (not a secret)
        self._script = script
        self._numbers = dict.fromkeys([entry.name for entry in script.projects], 0)

    def job(self, at: datetime, part: PartEntry, words: str = "") -> DemoJob:
        """Returns a new job of an incident.

        Args:
            at: the instant at which it is sent.
            part: who sends it.
            words: words in the prompt that make the sandbox fail.
        """
        self._numbers[part.project] += 1
        number = self._numbers[part.project]
        prompt = f"{part.project}, take {number}: {part.shot} {words}".strip()
        payload = {**self._script.shots[part.shot], "prompt": prompt}
        key = f"{part.project}-{number:03}"
        return DemoJob(at, self._script.route_of(part.project), part.project, part.user, key, payload)

    def ordinary_jobs(
        self, since: datetime, until: datetime, *, share: int = 1, words: Sequence[str] = ()
    ) -> list[DemoJob]:
        """Returns the ordinary jobs of a period, in the order in which they are sent.

        Args:
            since: the first day.
            until: the end of the last day.
            share: one of so many of the script's jobs is made.
            words: words for the prompts of as many jobs of scripts in the middle of the period, before any
                budget has nothing left.
        """
        days = (until - since).days
        parts = []
        for entry in self._script.projects:
            for _ in range(entry.jobs * days // (30 * share)):
                minutes = self.dice.randrange(_FIRST_HOUR * _MINUTES_PER_HOUR, _LAST_HOUR * _MINUTES_PER_HOUR)
                at = since + timedelta(days=self.dice.randrange(days), minutes=minutes)
                user, shot = self.dice.choice(entry.users), self.dice.choice(entry.shots)
                parts.append((at, PartEntry(project=entry.name, user=user, shot=shot)))
        parts.sort(key=lambda part: part[0])
        middle = [
            place
            for place in range(len(parts) // 4, len(parts) * 5 // 8)
            if self._script.route_of(parts[place][1].project) == "scripts"
        ]
        worded = dict(zip(sorted(self.dice.sample(middle, len(words))), words, strict=True))
        return [self.job(at, part, worded.get(place, "")) for place, (at, part) in enumerate(parts)]
