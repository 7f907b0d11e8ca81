"""Reads, checks and prices the submissions to one provider, before a task is created."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from kling_pricing.sandbox.exchange import DeclinedError, Reply
from kling_pricing.sandbox.faces import Face
from kling_pricing.sandbox.plans import Plan
from kling_pricing.sandbox.rating import Rated, complete, judge, price
from kling_pricing.sandbox.reading import Reading
from kling_pricing.sandbox.scenario import Scenario
from kling_pricing.sandbox.served_paths import SubmissionPath
from kling_pricing.tables.capabilities import CapabilityMatrix
from kling_pricing.tables.price_book import PriceBook


class Reception:
    """Reads, checks and prices submissions.

    Args:
        book: the price book.
        scenario: the scenario.
        provider: the provider to which jobs are submitted.
        priced_by: the provider whose tables price the jobs.
        faces: wire format -> face.
    """

    def __init__(
        self, book: PriceBook, scenario: Scenario, provider: str, priced_by: str, faces: Mapping[str, Face]
    ) -> None:
        self._book = book
        self._scenario = scenario
        self._hidden = scenario.account(provider).hidden
        self._priced_by = priced_by
        self._faces = faces

    def read(
        self, payload: Mapping[str, Any], accepting: tuple[SubmissionPath, ...]
    ) -> tuple[SubmissionPath, Reading]:
        """Reads a payload in the first wire format at its path that supports all its fields and its model.

        Raises:
            DeclinedError: no wire format supports the payload; the error is that of the first one.
        """
        first_error: DeclinedError | None = None
        for path in accepting:
            try:
                reading = self._faces[path.wire_format].read(payload)
                written = reading.model or path.model
                if len(accepting) == 1 or (
                    written is not None and self._matrix(path).find(written) is not None
                ):
                    return path, reading
                first_error = first_error or DeclinedError("invalid", "the model is not supported")
            except DeclinedError as error:
                first_error = first_error or error
        raise first_error or DeclinedError("invalid", "the payload cannot be read")

    def rated(
        self, path: SubmissionPath, reading: Reading, plan: Plan, at: datetime
    ) -> tuple[Rated, dict[str, Any]]:
        """Returns the price of a job and all facts about it.

        Raises:
            DeclinedError: the API refuses the job, or the job has no price.
        """
        matrix = self._matrix(path)
        if reading.video_url and "video_length_s" not in reading.facts:
            reading.facts["video_length_s"] = plan.length_s or self._scenario.length_s(reading.video_url)
        facts = judge(matrix, reading, at, path.model, path.actions)
        facts = complete(facts, matrix.models[facts["model"]], self._hidden) | plan.facts
        return price(self._book, self._priced_by, path.wire_format, facts, at), facts

    def _matrix(self, path: SubmissionPath) -> CapabilityMatrix:
        return self._book.matrices[path.wire_format]


def planned_error(plan: Plan) -> DeclinedError:
    """Returns the error in a plan."""
    problem = "simulated error"
    return DeclinedError("internal", problem, status=plan.status, code=plan.code or None)


def changed_answer(reply: Reply, plan: Plan) -> Reply:
    """Returns a response with the body and the additional headers in a plan."""
    body = reply.body if plan.body is None else plan.body
    return Reply(reply.status, body, {**reply.headers, **plan.headers})
