"""A process that runs steps of `verify`. `verifying_processes` starts it and asks it one question per line.

It ends when its standard input ends, which also happens when the process that started it dies.
"""

from __future__ import annotations

import json
import os
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kling_pricing.errors import LedgerError, LedgerUnavailableError
from kling_pricing.ledger.sqlite.file import SQLiteFile
from kling_pricing.ledger.sqlite.opening import NEWEST
from kling_pricing.ledger.sqlite.verifying_steps import read_steps
from kling_pricing.windows import utc_clock


def main() -> None:
    """Answers the questions on standard input. The first line names the ledger's file."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    sys.stdout = sys.stderr  # anything that prints must not write between the answers
    path = Path(json.loads(sys.stdin.readline()))
    try:
        with SQLiteFile(path, utc_clock(None)).reading_alone() as db:
            for answer in _answers(db):
                print(json.dumps({"answer": answer}), file=answers, flush=True)
    except LedgerError as error:
        is_unavailable = isinstance(error, LedgerUnavailableError)
        print(json.dumps({"error": str(error), "is_unavailable": is_unavailable}), file=answers, flush=True)


def _answers(db: sqlite3.Connection) -> Iterator[Any]:
    """Yields the answer to each question, after a first answer that says that the process is ready."""
    yield "ready"
    steps = {}
    while question := sys.stdin.readline():
        verb, argument = json.loads(question)
        if verb == "begin":
            db.execute("ROLLBACK")
            db.execute("BEGIN")
            db.execute(NEWEST).fetchone()  # a transaction gets its snapshot when it first reads
            yield "begun"
        elif verb == "read":
            found = read_steps(db, since_last=argument, halved=True)
            steps = {step.name: step for step in found.steps}
            weights = {name: step.weight for name, step in steps.items()}
            yield found.checkpoint, found.first_entry, found.fully_verified_at, weights
        else:
            yield steps[argument].run(db)
