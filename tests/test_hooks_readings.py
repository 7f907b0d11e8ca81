"""A status answer that passes through a hook is parsed once, and its reservation is read once."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from kling_pricing import Budget, BudgetGuard, PriceBook, Reservation
from kling_pricing.hooks.httpx import GuardedTransport
from kling_pricing.hooks.recovery import poll
from kling_pricing.ledger.sqlite import SQLiteLedger
from kling_pricing.wire.formats import NAMES, wire_format
from tests.conftest import Clock, video
from tests.providers import Provider, running

OFFICIAL_JOB = {"model_name": "kling-v3", "prompt": "a boat"}


@pytest.fixture
def guard(tmp_path: Path, book: PriceBook, clock: Clock) -> Iterator[BudgetGuard]:
    """A guard with a large budget."""
    budget = Budget(name="all", cap=1000, currency="USD")
    with BudgetGuard(f"sqlite:///{tmp_path}/spend.db", [budget], book=book, clock=clock) as opened:
        yield opened
        opened.verify()


def guarded_client(guard: BudgetGuard, provider: Provider) -> httpx.Client:
    """A guarded client of httpx that sends the reservation's id where the API takes one."""
    transport = GuardedTransport(
        httpx.HTTPTransport(),
        guard,
        project="trailer",
        hosts={provider.host: provider.name},
        send_reservation_id=True,
    )
    return httpx.Client(transport=transport, base_url=provider.url)


class Readings(NamedTuple):
    """Everything that was read, in order.

    Attributes:
        json: the texts that were parsed as JSON.
        tasks: the answers that a wire format read as a task.
        reservations: the ids of the reservations that were read from the ledger.
    """

    json: list[str]
    tasks: list[Mapping[str, Any]]
    reservations: list[str]

    def clear(self) -> None:
        """Forgets all readings so far."""
        for entries in self:
            entries.clear()

    def counts(self, body: bytes, reservation: Reservation) -> tuple[int, int, int]:
        """Counts how often a body was parsed and read as a task, and how often a reservation was read."""
        parsed = self.json.count(body.decode())
        return parsed, self.tasks.count(json.loads(body)), self.reservations.count(reservation.id)


@pytest.fixture
def readings(monkeypatch: pytest.MonkeyPatch) -> Readings:
    """Counts readings below all functions of the hooks and the guard."""
    counted = Readings([], [], [])
    parse_json, read_reservation = json.JSONDecoder.raw_decode, SQLiteLedger.reservation

    def parse_and_count(decoder: json.JSONDecoder, text: str, idx: int = 0) -> tuple[Any, int]:
        counted.json.append(text)
        return parse_json(decoder, text, idx)

    def read_and_count(ledger: SQLiteLedger, ref: Any) -> Reservation:
        reservation = read_reservation(ledger, ref)
        counted.reservations.append(reservation.id)
        return reservation

    monkeypatch.setattr(json.JSONDecoder, "raw_decode", parse_and_count)
    monkeypatch.setattr(SQLiteLedger, "reservation", read_and_count)
    for name in NAMES:
        _count_tasks(wire_format(name), counted.tasks, monkeypatch)
    return counted


def _count_tasks(module: Any, tasks: list[Mapping[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    read_task = module.read_task

    def read_and_count(body: Mapping[str, Any]) -> Any:
        tasks.append(body)
        return read_task(body)

    monkeypatch.setattr(module, "read_task", read_and_count)


def test_a_status_answer_is_parsed_once_and_its_reservation_read_once(
    guard: BudgetGuard, readings: Readings
) -> None:
    """The answers about a running task and a finished task each cause one reading of each kind."""
    with running("qingbo") as provider, guarded_client(guard, provider) as client:
        client.post("/v1/tasks", json=video(duration=5))
        (bound,) = guard.history()
        for state in ("bound", "settled"):
            if state == "settled":
                provider.finish(str(bound.task_id))
            readings.clear()
            body = client.get(f"/v1/tasks/{bound.task_id}").content
            assert readings.counts(body, bound) == (1, 1, 1)
            assert [reservation.state for reservation in guard.history()] == [state]


def test_a_status_answer_by_reservation_id_is_read_once(guard: BudgetGuard, readings: Readings) -> None:
    """A request by the reservation's id causes one reading of each kind."""
    with running("kling") as provider, guarded_client(guard, provider) as client:
        client.post("/v1/videos/text2video", json=OFFICIAL_JOB)
        (bound,) = guard.history()
        provider.finish(str(bound.task_id))
        readings.clear()
        body = client.get(f"/v1/videos/text2video/{bound.id}").content
        assert readings.counts(body, bound) == (1, 1, 1)
        assert [reservation.state for reservation in guard.history()] == ["settled"]


def test_a_status_answer_by_the_callers_own_id_is_read_once(guard: BudgetGuard, readings: Readings) -> None:
    """An answer that has to be parsed before its reservation can be found is still parsed once."""
    with running("kling") as provider, guarded_client(guard, provider) as client:
        client.post("/v1/videos/text2video", json={**OFFICIAL_JOB, "external_task_id": "mine"})
        (bound,) = guard.history()
        provider.finish(str(bound.task_id))
        readings.clear()
        body = client.get("/v1/videos/text2video/mine").content
        assert readings.counts(body, bound) == (1, 1, 1)
        assert [reservation.state for reservation in guard.history()] == ["settled"]


def test_a_polled_answer_is_parsed_once(guard: BudgetGuard, readings: Readings) -> None:
    """Polling already has the reservation, so it is not read again."""
    with running("qingbo") as provider, guarded_client(guard, provider) as client:
        client.post("/v1/tasks", json=video(duration=5))
        (bound,) = guard.history()
        provider.finish(str(bound.task_id))
        body = httpx.get(f"{provider.url}/v1/tasks/{bound.task_id}").content
        readings.clear()
        (result,) = poll(guard, lambda _url: (200, body), base_url=provider.url)
        assert (readings.counts(body, bound), result.outcome) == ((1, 1, 0), "settled")
