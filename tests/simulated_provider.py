"""The provider of a simulation: it accepts jobs, answers moodily, and knows the truth."""

import random
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal
from typing import Any, NamedTuple

from kling_pricing import Reservation
from tests.simulated_studio import UNIT, ZERO


@dataclass
class ProviderTask:
    """A task at the provider.

    Attributes:
        id: its id.
        provider: the provider's name.
        reservation_id: the id that the client sent along; empty: the task of another customer.
        price: the price of the job, which the provider usually charges.
        state: `processing`, `succeeded` or `failed`.
        bill: the amount that the provider charges after all; it may change.
    """

    id: str
    provider: str
    reservation_id: str
    price: Decimal
    state: str = "processing"
    bill: Decimal = ZERO

    def body(self, state: str, charge: Decimal | None) -> dict[str, Any]:
        """Returns a status response, with a charge in the provider's units or without."""
        units = None if charge is None else int(charge / UNIT[self.provider])
        if self.provider == "qingbo":
            word = {"succeeded": "completed"}.get(state, state)
            return {"task_id": self.id, "status": word} | ({} if units is None else {"cost": units})
        paid = {"final_unit_deduction": str(units), "final_balance_deduction": {"quota": "0"}}
        data = {"task_id": self.id, "task_status": {"succeeded": "succeed"}.get(state, state)}
        return {"data": data | ({} if units is None else paid)}


class Callback(NamedTuple):
    """A status response on its way.

    Attributes:
        task: the task.
        state: the state that it reports.
        charge: the charge in dollars; None: it names none.
    """

    task: ProviderTask
    state: str
    charge: Decimal | None


class Provider:
    """Accepts jobs, answers moodily, and knows the truth."""

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice
        self.tasks: list[ProviderTask] = []
        self.callbacks: list[Callback] = []

    def submit(self, job: Reservation) -> tuple[str, ProviderTask | None]:
        """Receives a job; returns what the client sees, and the task if it sees one."""
        mood = self._dice.choice(
            ["accepted"] * 10
            + ["timeout, accepted", "timeout", "500, accepted", "500", "refused with 400", "429"]
        )
        if mood in {"timeout", "500", "refused with 400", "429"}:
            return mood, None
        task = self.new_task(job.provider, job.reserved, job.id)
        if mood == "accepted":
            return mood, task
        return mood.removesuffix(", accepted"), None

    def new_task(self, provider: str, price: Decimal, reservation_id: str = "") -> ProviderTask:
        """Creates a task, for a price in whole units."""
        price = (price / UNIT[provider]).to_integral_value(ROUND_CEILING) * UNIT[provider]
        task = ProviderTask(f"task-{len(self.tasks) + 1}", provider, reservation_id, price)
        self.tasks.append(task)
        return task

    def work(self, task: ProviderTask) -> str:
        """Ends a task, or changes its bill after all; returns what happened."""
        dice = self._dice
        unit = UNIT[task.provider]
        if task.state == "processing":
            task.state = dice.choice(["succeeded", "succeeded", "succeeded", "failed"])
            task.bill = ZERO
            if task.state == "succeeded" or dice.random() < 0.1:
                task.bill = task.price + dice.choice([0, 0, 0, 0, -1, 1, 2]) * unit
        else:
            task.bill = dice.choice([ZERO, task.price, task.price + unit])
        names_charge = dice.random() < 0.7 or task.bill not in {ZERO, task.price}
        callback = Callback(task, task.state, task.bill if names_charge else None)
        self.callbacks += [callback] * dice.choice([0, 1, 1, 1, 2])
        if dice.random() < 0.15:  # a contradiction
            state = dice.choice(["processing", "succeeded", "failed"])
            self.callbacks.append(Callback(task, state, dice.choice([None, task.price, task.price - unit])))
        return f"{task.state}, bill {task.bill}"

    def next_callback(self) -> Callback:
        """Takes a callback, in any order; some are kept and delivered again."""
        place = self._dice.randrange(len(self.callbacks))
        if self._dice.random() < 0.2:
            return self.callbacks[place]
        return self.callbacks.pop(place)
