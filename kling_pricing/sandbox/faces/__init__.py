"""Faces: one module per API for its shapes, words and codes, named after the API's wire format.

A face reads the payloads of its API and writes the responses.
The paths, model names, limits and prices are data in `pricing_tables/`.
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
        job: the job, with the details that the row states.
        at_ms: the time of the charge, in milliseconds since 1970.
        parts: the parts of the charge; the amounts of a refund are negative.
    """

    job: Job
    at_ms: int
    parts: list[Part]


class Desk(Protocol):
    """The methods of a provider that its faces may use."""

    @property
    def now_ms(self) -> int:
        """The time on the sandbox's clock, in milliseconds since 1970."""

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
        """Yields the tasks, the newest first; see `Records.newest`."""

    def delete(self, job: Job) -> None:
        """Hides a task from all further requests; its charge stays on the bill."""

    def states_charge(self, job: Job) -> bool:
        """Returns whether responses state the charge for a job."""

    def has_result(self, job: Job) -> bool:
        """Returns whether the result of a job can still be downloaded."""

    def rows(self, since_ms: int, until_ms: int) -> Iterable[StatementRow]:
        """Yields the rows of the statement for a period."""

    def face(self, job: Job) -> Face:
        """Returns the face of the API that a job was submitted to."""

    def as_dict(self) -> dict[str, Any]:
        """Returns a description of the provider; `left` has the amounts of its account that are limited."""

    def estimate(self, payload: Mapping[str, Any], wire_format: str) -> Rated:
        """Returns the price of a payload without creating a task; raises `DeclinedError` like `Face.read`."""


class Face(ABC):
    """The shapes, words and codes of one API.

    Attributes:
        NAME: the wire format.
        PACK: the kind of pack that pays for the API's jobs.
        SIGNS: whether callbacks are signed.
        WAITS: whether the response to a submission can be delayed until the task has ended.
        CODES: cause -> the HTTP status and the code of a refusal.
        CODE_OF_STATUS: HTTP status -> the error code, for faults that give only a status.
        WORDS: state -> the API's own word for the state, if it is different.
        COLUMNS: the names of the columns, for a statement without rows.
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
        """Returns the body of the response to a submission."""

    @abstractmethod
    def task(self, job: Job, desk: Desk) -> Any:
        """Returns the body of the response to a status request."""

    @abstractmethod
    def error(self, status: int, code: str, message: str) -> Any:
        """Returns the body of an error."""

    @abstractmethod
    def statement(self, rows: Iterable[StatementRow], export: str) -> Any:
        """Returns the lines of an export of a statement: a list of flat objects.

        Args:
            rows: the rows of the statement.
            export: the kind of export, if the API has several; empty: the default one.
        """

    def export_answer(self, lines: Any) -> Any:
        """Returns the API's own response with these lines; None: the API sends a table."""
        return None

    def callback(self, job: Job, desk: Desk) -> Any:
        """Returns the body of a callback."""
        return self.task(job, desk)

    def new_id(self, number: int, seed: int) -> str:
        """Returns the id of a new task, by the number of its submission."""
        return f"task_{sha256(f'{seed}/{number}'.encode()).hexdigest()[:16]}"

    def word(self, job: Job) -> str:
        """Returns the API's word for the state of a job."""
        return self.WORDS.get(job.state, job.state)

    def decline(self, error: DeclinedError) -> Reply:
        """Returns the response that refuses a request."""
        status, code = self.CODES.get(error.cause, self.CODES["invalid"])
        if error.status is not None:
            status, code = error.status, self.CODE_OF_STATUS.get(error.status, code)
        return Reply(status, self.error(status, error.code or code, str(error)))

    def free(self, call: Call) -> Any:
        """Returns the body of the response to a request that costs nothing."""
        return {}

    def route(self, call: Call, desk: Desk) -> Reply | None:
        """Answers a request that is neither a submission nor about a task in its path; None: it is unknown."""
        return None


def stated_parts(job: Job) -> list[Part]:
    """Returns the parts of a charge that responses state, which may be wrong; empty: there is no charge."""
    if not job.details["charged"]:
        return []
    factor = Decimal(job.details["stated_factor"])
    return [part_from(texts).times(factor) for texts in job.details["parts"]]


NAMES = (
    *("tasks", "tasks_extra", "tasks_v2", "kling", "kling_v2", "kling_services", "kling_images"),
    *("openai_videos", "video_generations"),
)
"""The names of all faces, which are the names of their modules in this package."""


def new_face(name: str, matrix: CapabilityMatrix, provider: str) -> Face:
    """Returns the face of a wire format for one provider."""
    kind: type[Face] = import_module(f"{__name__}.{name}").FACE
    return kind(matrix, provider)
