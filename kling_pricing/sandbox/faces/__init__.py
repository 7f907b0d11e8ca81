"""Faces: one file for the shapes, words and codes of each API, named as its wire format is.

A face reads the payloads of its API and writes its answers.
Paths, model names, limits and prices are not here but in `pricing_tables/`, as data.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from decimal import Decimal
from hashlib import sha256
from importlib import import_module
from typing import Any, ClassVar, NamedTuple, Protocol

from kling_pricing.sandbox.accounts import Part, part_from
from kling_pricing.sandbox.exchange import Call, DeclinedError, Reply
from kling_pricing.sandbox.jobs import Job
from kling_pricing.sandbox.rating import Rated
from kling_pricing.sandbox.reading import Reading
from kling_pricing.tables.capabilities import CapabilityMatrix


class StatementRow(NamedTuple):
    """A row of a statement.

    Attributes:
        job: the job, with the details as the row states them.
        at_ms: the instant of the charge.
        parts: the parts of the charge; the amounts of a refund are negative.
    """

    job: Job
    at_ms: int
    parts: list[Part]


class Desk(Protocol):
    """What a face may ask of the provider that it belongs to."""

    @property
    def now_ms(self) -> int:
        """The instant of the sandbox's clock."""

    @property
    def base(self) -> str:
        """The URL of the provider in the sandbox."""

    def find(self, name: str, *, external: bool = False) -> Job | None:
        """Returns a task by its id, or by the caller's own id."""

    def newest(
        self,
        keep: Callable[[Job], bool],
        *,
        before: int | None = None,
        since_ms: int = 0,
        until_ms: int = 2**62,
    ) -> Iterator[Job]:
        """Yields the tasks, the newest first."""

    def delete(self, job: Job) -> None:
        """Hides a task from calls about it; its charge stays on the bill."""

    def states_charge(self, job: Job) -> bool:
        """Returns whether answers name the charge of a job."""

    def has_result(self, job: Job) -> bool:
        """Returns whether the result of a job can still be downloaded."""

    def rows(self, since_ms: int, until_ms: int) -> Iterable[StatementRow]:
        """Yields the rows of the statement of a period."""

    def face(self, job: Job) -> Face:
        """Returns the face of the API that a job was submitted to."""

    def as_dict(self) -> dict[str, Any]:
        """Describes the provider, with what is `left` of its account, where there is a limit."""

    def estimate(self, payload: Mapping[str, Any], wire_format: str) -> Rated:
        """Returns the price of a payload, and creates nothing; raises as `Face.read` does."""


class Face(ABC):
    """The shapes, words and codes of one API.

    Attributes:
        NAME: the wire format.
        PACK: the kind of the pack that pays for its jobs.
        SIGNS: whether its callbacks are signed.
        WAITS: whether a submission may wait for the end of its task.
        CODES: cause -> the HTTP status and the code of a refusal.
        CODE_OF_STATUS: HTTP status -> the code of an error with that status, where one is asked for.
        WORDS: state -> the API's word for it, if they differ.
        COLUMNS: the columns of a statement without rows.
    """

    NAME: ClassVar[str]
    PACK: ClassVar[str] = "video"
    SIGNS: ClassVar[bool] = False
    WAITS: ClassVar[bool] = False
    CODES: ClassVar[Mapping[str, tuple[int, str]]]
    CODE_OF_STATUS: ClassVar[Mapping[int, str]] = {}
    WORDS: ClassVar[Mapping[str, str]] = {}
    COLUMNS: ClassVar[tuple[str, ...]]

    def __init__(self, matrix: CapabilityMatrix, provider: str) -> None:
        self.matrix = matrix
        self.ignored = {entry.field for entry in matrix.ignored_fields if entry.provider == provider}

    @abstractmethod
    def read(self, payload: Mapping[str, Any]) -> Reading:
        """Reads a payload.

        Raises:
            DeclinedError: a parameter is unknown or has the wrong type.
        """

    @abstractmethod
    def created(self, job: Job, desk: Desk) -> Any:
        """Returns the body of the answer to a submission."""

    @abstractmethod
    def task(self, job: Job, desk: Desk) -> Any:
        """Returns the body of the answer to a status request."""

    @abstractmethod
    def error(self, status: int, code: str, message: str) -> Any:
        """Returns the body of an error."""

    @abstractmethod
    def statement(self, rows: Iterable[StatementRow], export: str) -> Any:
        """Returns an export: a list of objects for a table, or anything else for JSON.

        Args:
            rows: the rows of the period.
            export: the kind of the export, if the API has several; empty: the usual one.
        """

    def export_answer(self, lines: Any) -> Any:
        """Returns the answer of the API that has these rows; None: the API gives a table."""
        return None

    def callback(self, job: Job, desk: Desk) -> Any:
        """Returns the body of a callback."""
        return self.task(job, desk)

    def new_id(self, number: int, seed: int) -> str:
        """Returns the id of the task of a submission."""
        return f"task_{sha256(f'{seed}/{number}'.encode()).hexdigest()[:16]}"

    def word(self, job: Job) -> str:
        """Returns the API's word for the state of a job."""
        return self.WORDS.get(job.state, job.state)

    def decline(self, error: DeclinedError) -> Reply:
        """Returns the answer that declines a call."""
        status, code = self.CODES.get(error.cause, self.CODES["invalid"])
        if error.status is not None:
            status, code = error.status, self.CODE_OF_STATUS.get(error.status, code)
        return Reply(status, self.error(status, error.code or code, str(error)))

    def free(self, call: Call) -> Any:
        """Returns the body of the answer to a call that costs nothing."""
        return {}

    def route(self, call: Call, desk: Desk) -> Reply | None:
        """Answers a call that is neither a submission nor about one task in its path; None: not known."""
        return None


def stated_parts(job: Job) -> list[Part]:
    """Returns the parts of a charge as answers name them, which may be wrong; empty: nothing was charged."""
    if not job.details["charged"]:
        return []
    factor = Decimal(job.details["stated_factor"])
    return [part_from(texts).times(factor) for texts in job.details["parts"]]


NAMES = (
    *("tasks", "tasks_extra", "tasks_v2", "kling", "kling_v2", "kling_services", "kling_images"),
    *("openai_videos", "video_generations"),
)
"""Every face, by the name of its file in this folder."""


def new_face(name: str, matrix: CapabilityMatrix, provider: str) -> Face:
    """Returns the face of a wire format for one provider."""
    kind: type[Face] = import_module(f"{__name__}.{name}").FACE
    return kind(matrix, provider)
