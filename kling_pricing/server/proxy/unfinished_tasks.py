"""Answers that need not be recorded again: callers ask for the status of a task until it ends."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress

from kling_pricing.errors import WireFormatError
from kling_pricing.guard.responses import read_answer
from kling_pricing.hooks.http_messages import ProviderResponse, TaskEndpoint
from kling_pricing.wire.formats import wire_format as wire_format_named

_REMEMBERED_NS = 30 * 10**9
"""How long an answer counts as recorded. The task may be bound by another process in the meantime."""

_MAX_REMEMBERED = 10_000
_MAX_BYTES = 4_096
_OK = 200
_UNFINISHED = {"queued", "processing"}


class UnfinishedTasks:
    """The newest recorded answers about tasks that had not ended.

    Args:
        wire_formats: the wire formats in which the provider answers.
    """

    def __init__(self, wire_formats: Sequence[str]) -> None:
        self._wire_formats = wire_formats
        self._answers: OrderedDict[str, tuple[bytes, int]] = OrderedDict()

    def is_known(self, task: TaskEndpoint, response: ProviderResponse) -> bool:
        """Returns whether the same answer about an unfinished task was recorded a moment ago."""
        body, until_ns = self._answers.get(task.task_id, (None, 0))
        return response.body == body and response.status == _OK and time.monotonic_ns() < until_ns

    def remember(self, task: TaskEndpoint, response: ProviderResponse) -> None:
        """Remembers an answer that was recorded, if it says that the task has not ended."""
        is_small = len(response.body) <= _MAX_BYTES
        if response.status == _OK and task.task_id and is_small and self._is_unfinished(response.body):
            self._answers[task.task_id] = response.body, time.monotonic_ns() + _REMEMBERED_NS
            self._answers.move_to_end(task.task_id)
            if len(self._answers) > _MAX_REMEMBERED:
                self._answers.popitem(last=False)

    def _is_unfinished(self, body: bytes) -> bool:
        with suppress(WireFormatError):
            answer = read_answer(body)
            states = {wire_format_named(name).read_task(answer).state for name in self._wire_formats}
            return bool(states & _UNFINISHED) and states <= _UNFINISHED | {None}
        return False
