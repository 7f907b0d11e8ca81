"""What a quote says: its total, the lines it is made of, and why. The engine that makes it is `quoting`."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, NamedTuple

from kling_pricing.errors import PriceNotFoundError
from kling_pricing.findings import Note
from kling_pricing.money import format_decimal
from kling_pricing.tables.price_table import PriceTable
from kling_pricing.tables.rates import LineItem, Rate
from kling_pricing.wire.request import VideoRequest


class Quote(NamedTuple):
    """What a request will cost, exactly, and why.

    Attributes:
        request: the request as it was understood.
        table: the price table it was priced by.
        rate: the rate that applies.
        lines: the parts of the total; of a range, those of its maximum.
        minimum: the least that the request can cost, in `currency`.
        maximum: the most that it can cost; equal to `minimum` unless something is not known.
        list_total: under a contract, what the maximum would be at the published prices; else None.
        notes: what was assumed or noticed.
    """

    request: VideoRequest
    table: PriceTable
    rate: Rate
    lines: tuple[LineItem, ...]
    minimum: Decimal
    maximum: Decimal
    list_total: Decimal | None
    notes: tuple[Note, ...]

    def __repr__(self) -> str:
        return (
            f"<Quote {self.shown_total()} {self.currency}: {self.model} {self.resolution} {self.tier} "
            f"by {self.table.id}>"
        )

    @property
    def total(self) -> Decimal:
        """The exact sum of the lines, in `currency`; never rounded.

        Raises:
            PriceNotFoundError: the quote is a range, because something that decides the price is not known.
        """
        if self.minimum != self.maximum:
            why = next(
                (note.message for note in self.notes if note.code == "range"), "the price is not settled"
            )
            raise PriceNotFoundError(
                f"the quote is a range, {format_decimal(self.minimum)} to {format_decimal(self.maximum)} {self.currency}: {why}; "
                "use minimum and maximum, or say what is missing",
                provider=self.provider,
                model=self.canonical_model,
            )
        return self.maximum

    @property
    def provider(self) -> str:
        """Who bills."""
        return self.table.provider

    @property
    def model(self) -> str:
        """The model as the caller wrote it."""
        return self.request.model

    @property
    def canonical_model(self) -> str:
        """The model's name in price tables."""
        return self.rate.cell.model

    @property
    def wire_format(self) -> str:
        """The API shape the request was read as."""
        return self.request.wire_format

    @property
    def action(self) -> str | None:
        """What the API will do; follows the inputs when the payload does not say."""
        return self.request.facts["action"]

    @property
    def resolution(self) -> str:
        """The resolution that is billed."""
        return self.rate.cell.resolution

    @property
    def tier(self) -> str:
        """The billing lane: `silent`, `audio`, `video_reference`."""
        return self.rate.cell.tier

    @property
    def unit(self) -> str:
        """What one unit is: `second`."""
        return self.lines[0].unit

    @property
    def unit_price(self) -> Decimal:
        """The price of one unit, in `currency`."""
        return self.rate.unit_price

    @property
    def quantity(self) -> Decimal:
        """How many units are billed."""
        return self.lines[0].quantity

    @property
    def currency(self) -> str:
        """ISO 4217 code of every amount here."""
        return self.table.currency

    def as_dict(self) -> dict[str, Any]:
        """The quote as JSON-ready data; every amount is text in plain decimal notation."""
        cell = self.rate.cell
        table = self.table
        lines = [
            {
                "description": each.description,
                "quantity": format_decimal(each.quantity),
                "unit": each.unit,
                "unit_price": format_decimal(each.unit_price),
                "amount": format_decimal(each.amount),
            }
            for each in self.lines
        ]
        first = lines[0]
        return {
            "provider": table.provider,
            "model": self.request.model,
            "canonical_model": cell.model,
            "table": table.id,
            "table_digest": table.digest,
            "wire_format": self.request.wire_format,
            "action": self.request.facts["action"],
            "resolution": cell.resolution,
            "tier": cell.tier,
            "unit": first["unit"],
            "unit_price": first["unit_price"],
            "quantity": first["quantity"],
            **self._amounts(),
            "currency": table.currency,
            "lines": lines,
            "notes": [{"code": note.code, "message": note.message} for note in self.notes],
        }

    def _amounts(self) -> dict[str, str | None]:
        if self.minimum == self.maximum:
            total: dict[str, str | None] = {"total": format_decimal(self.maximum)}
            return total if self.list_total is None else total | {"list_total": format_decimal(self.list_total)}
        return {"total": None, "minimum": format_decimal(self.minimum), "maximum": format_decimal(self.maximum)}

    def shown_total(self) -> str:
        """The total, or both ends of the range, for a person."""
        highest = format_decimal(self.maximum)
        return highest if self.minimum == self.maximum else f"{format_decimal(self.minimum)} to {highest}"

    def explain(self) -> str:
        """The whole reasoning as text for a person, some lines long."""
        facts = self.request.facts
        lines = [
            f"{self.shown_total()} {self.currency} for {self.model} ({facts['action']}) at {self.provider}",
            *(
                f"  {line.description}: {_counted(line)}"
                f" x {format_decimal(line.unit_price)} = {format_decimal(line.amount)} {self.currency}"
                for line in self.lines
            ),
            *(
                [f"  at list prices: {format_decimal(self.list_total)} {self.currency}"]
                if self.list_total is not None
                else []
            ),
            f"  priced by {self.table.id}, from {'; '.join(source.ref for source in self.table.sources)}",
            *(f"  note: {note.message}" for note in self.notes),
        ]
        return "\n".join(lines)


def _counted(line: LineItem) -> str:
    """The quantity in words: `5 seconds`, `1 call`, `2 x 5 seconds`."""
    if line.unit[0].isdigit():
        return f"{format_decimal(line.quantity)} x {line.unit}"
    return f"{format_decimal(line.quantity)} {line.unit}{'' if line.quantity == 1 else 's'}"
