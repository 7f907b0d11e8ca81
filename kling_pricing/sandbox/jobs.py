"""Jobs, stored in a temporary database, so that memory use does not grow with the number of jobs.

The database is a file that disappears when the process ends.
Its content need not survive a crash, so it is never synchronized to the disk.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

FINAL = frozenset({"succeeded", "failed", "cancelled"})
"""The states of a job that has ended."""

_CACHE_KIB = 8192

_TABLES = """
CREATE TABLE job (
    number INTEGER PRIMARY KEY, provider TEXT, id TEXT, face TEXT, path TEXT, external_id TEXT, key TEXT,
    created_ms INTEGER, start_ms INTEGER, end_ms INTEGER, updated_ms INTEGER, next_ms INTEGER,
    state TEXT, details TEXT
) STRICT;
CREATE UNIQUE INDEX job_by_id ON job (provider, id);
CREATE INDEX job_by_external_id ON job (provider, external_id) WHERE external_id <> '';
CREATE INDEX job_by_key ON job (provider, key) WHERE key <> '';
CREATE INDEX job_by_next ON job (next_ms) WHERE next_ms IS NOT NULL;
CREATE INDEX job_by_created ON job (provider, created_ms);
CREATE TABLE bill_entry (
    number INTEGER PRIMARY KEY, provider TEXT, task TEXT, at_ms INTEGER, kind TEXT, parts TEXT
) STRICT;
CREATE INDEX bill_entry_by_time ON bill_entry (provider, at_ms);
CREATE TABLE statement_row (
    number INTEGER PRIMARY KEY, provider TEXT, job INTEGER, at_ms INTEGER, planted TEXT,
    parts TEXT, changes TEXT
) STRICT;
CREATE INDEX statement_row_by_time ON statement_row (provider, at_ms);
"""


@dataclass(slots=True)
class Job:
    """A task that a provider has accepted.

    Attributes:
        number: the number of the job's submission, counted from 1.
        provider: the provider.
        id: the provider's id of the task.
        face: the wire format of the submission.
        path: the path of the submission.
        external_id: the caller's own id of the task; empty: the caller gave none.
        key: the idempotency key; empty: the caller gave none.
        created_ms, start_ms, end_ms: the times at which the task is created, starts to run, and ends.
        updated_ms: the time of the last change of state.
        state: `queued`, `processing`, or one of `FINAL`.
        details: all other properties, such as the model, the parts of the charge, and the planned faults.
    """

    number: int
    provider: str
    id: str
    face: str
    path: str
    external_id: str
    key: str
    created_ms: int
    start_ms: int
    end_ms: int
    updated_ms: int
    state: str = "queued"
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def is_final(self) -> bool:
        """Whether the job has ended."""
        return self.state in FINAL

    @property
    def next_ms(self) -> int | None:
        """The time of the next change of state; None: the job has ended."""
        return self.start_ms if self.state == "queued" else self.end_ms if self.state == "processing" else None


_COLUMNS = (
    *("number", "provider", "id", "face", "path", "external_id", "key"),
    *("created_ms", "start_ms", "end_ms", "updated_ms", "state", "details"),
)
_SELECT = f"SELECT {', '.join(_COLUMNS)} FROM job"  # noqa: S608 (our own words)


class Records:
    """All jobs, the entries of the bills, and the rows of the statements."""

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        for setting in ("journal_mode=OFF", "synchronous=OFF", f"cache_size=-{_CACHE_KIB}"):
            self._database.execute(f"PRAGMA {setting}")
        self._database.executescript(_TABLES)
        self._database.execute("BEGIN")
        self.submissions = 0

    def next_number(self) -> int:
        """Counts a new submission and returns its number."""
        self.submissions += 1
        return self.submissions

    def add(self, job: Job) -> None:
        """Adds a job."""
        self._database.execute(
            "INSERT INTO job VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
            (
                *(job.number, job.provider, job.id, job.face, job.path, job.external_id, job.key),
                *(job.created_ms, job.start_ms, job.end_ms, job.updated_ms, job.next_ms, job.state),
                json.dumps(job.details),
            ),
        )

    def save(self, job: Job) -> None:
        """Saves the state, the times and the details of a job."""
        self._database.execute(
            "UPDATE job SET start_ms=?, end_ms=?, updated_ms=?, next_ms=?, state=?, details=? WHERE number=?",
            (
                *(job.start_ms, job.end_ms, job.updated_ms, job.next_ms, job.state),
                *(json.dumps(job.details), job.number),
            ),
        )

    def find(self, provider: str, name: str, *, by: str = "id") -> Job | None:
        """Returns the newest job by `id`, `external_id` or `key`; None: there is none, or it is deleted."""
        jobs = self._jobs(
            f"WHERE provider=? AND {by}=? AND {by}<>'' ORDER BY number DESC LIMIT 1", provider, name
        )
        return next((job for job in jobs if not job.details.get("deleted")), None)

    def due(self, now_ms: int, limit: int) -> list[Job]:
        """Returns the jobs whose next change of state is due by `now_ms`, in the order of the changes."""
        return [*self._jobs("WHERE next_ms <= ? ORDER BY next_ms, number LIMIT ?", now_ms, limit)]

    def last_before(self, job: Job) -> Job | None:
        """Returns the provider's previous job; None: there is none."""
        where = "WHERE provider=? AND number<? ORDER BY number DESC LIMIT 1"
        return next(self._jobs(where, job.provider, job.number), None)

    def unfinished(self, provider: str) -> int:
        """Returns the number of a provider's jobs that have not ended."""
        (count,) = self._database.execute(
            "SELECT count(*) FROM job WHERE provider=? AND next_ms IS NOT NULL", (provider,)
        ).fetchone()
        return int(count)

    def newest(
        self,
        provider: str,
        keep: Callable[[Job], bool],
        *,
        before: int | None = None,
        since_ms: int = 0,
        until_ms: int = 2**62,
    ) -> Iterator[Job]:
        """Yields a provider's jobs, the newest first.

        Args:
            provider: the provider.
            keep: returns whether to include a job.
            before: yields only jobs with lower numbers; None: all jobs.
            since_ms: yields only jobs created at or after this time.
            until_ms: yields only jobs created at or before this time.
        """
        where = "WHERE provider=? AND created_ms BETWEEN ? AND ? AND number<? ORDER BY number DESC LIMIT 1000"
        number = before or 2**62
        while page := [*self._jobs(where, provider, since_ms, until_ms, number)]:
            yield from filter(keep, page)
            number = page[-1].number

    def job(self, number: int) -> Job:
        """Returns the job with this number."""
        return next(self._jobs("WHERE number=?", number))

    def book(self, job: Job, at_ms: int, kind: str) -> None:
        """Adds the charge for a job to the provider's bill."""
        self._database.execute(
            "INSERT INTO bill_entry (provider, task, at_ms, kind, parts) VALUES (?,?,?,?,?)",
            (job.provider, job.id, at_ms, kind, json.dumps(job.details["parts"])),
        )

    def bill_entries(self, provider: str, since_ms: int, until_ms: int) -> Iterator[tuple[str, int, str, Any]]:
        """Yields the task, time, kind and parts of each entry of a bill, in the order of their times."""
        rows = self._database.execute(
            "SELECT task, at_ms, kind, parts FROM bill_entry WHERE provider=? AND at_ms>=? AND at_ms<?"
            " ORDER BY at_ms, number",
            (provider, since_ms, until_ms),
        )
        for task, at_ms, kind, parts in rows:
            yield task, at_ms, kind, json.loads(parts)

    def add_row(
        self, job: Job, at_ms: int, planted: str, parts: Sequence[Sequence[str]], changes: Mapping[str, Any]
    ) -> None:
        """Adds a row to the provider's statement; `changes` replace details of the job in this row only."""
        self._database.execute(
            "INSERT INTO statement_row (provider, job, at_ms, planted, parts, changes) VALUES (?,?,?,?,?,?)",
            (job.provider, job.number, at_ms, planted, json.dumps(parts), json.dumps(dict(changes))),
        )

    def rows(self, provider: str, since_ms: int, until_ms: int) -> Iterator[tuple[Job, int, str, Any, Any]]:
        """Yields the job, time, planted errors, parts and changes of each statement row, ordered by time."""
        rows = self._database.execute(
            "SELECT job, at_ms, planted, parts, changes FROM statement_row"
            " WHERE provider=? AND at_ms>=? AND at_ms<? ORDER BY at_ms, number",
            (provider, since_ms, until_ms),
        )
        for number, at_ms, planted, parts, changes in rows:
            yield self.job(number), at_ms, planted, json.loads(parts), json.loads(changes)

    def clear(self) -> None:
        """Deletes all jobs, bills and statements, so that numbering starts at 1 again."""
        for table in ("job", "bill_entry", "statement_row"):
            self._database.execute(f"DELETE FROM {table}")  # noqa: S608 (our own words)
        self.submissions = 0

    def close(self) -> None:
        """Closes and deletes the database."""
        self._database.close()

    def _jobs(self, where: str, *values: Any) -> Iterator[Job]:
        for row in self._database.execute(f"{_SELECT} {where}", values):
            job = Job(*row)
            job.details = json.loads(row[-1])
            yield job
