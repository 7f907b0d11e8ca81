"""A quote: the total, its lines and the reasons. `engine` creates quotes."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any, NamedTuple

from kling_pricing.display import html_table, json_text
from kling_pricing.errors import PriceNotFoundError
from kling_pricing.findings import Note
from kling_pricing.money import format_decimal
from kling_pricing.tables.price_table import PriceTable
from kling_pricing.tables.rates import LineItem, Rate
from kling_pricing.wire.request import VideoRequest


class LazyNotes:
    """The notes of a quote. They are written when they are first read, because most callers never read them.

    Nothing changes the data that they are written from, so it does not matter when they are read.
    They are compared, hashed and pickled by their content.

    Args:
        write: returns the notes.
        inputs: its arguments.
    """

    __slots__ = ("_inputs", "_notes", "_write")

    def __init__(self, write: Callable[..., tuple[Note, ...]], inputs: tuple[Any, ...] = ()) -> None:
        self._write = write
        self._inputs = inputs
        self._notes: tuple[Note, ...] | None = None

    @property
    def notes(self) -> tuple[Note, ...]:
        """The notes."""
        if self._notes is None:
            self._notes = self._write(*self._inputs)
        return self._notes

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LazyNotes) and self.notes == other.notes

    def __hash__(self) -> int:
        return hash(self.notes)

    def __repr__(self) -> str:
        return f"LazyNotes({list(self.notes)})"

    def __reduce__(self) -> tuple[Any, ...]:
        return LazyNotes, (tuple, (self.notes,))


class Quote(NamedTuple):
    """The exact price of a request, with the reasons.

    Attributes:
        request: the request as it was read.
        table: the price table that applies.
        rate: the rate that applies.
        lines: the parts of the total; for a range, the parts of the maximum.
        minimum: the lowest possible price of the request, in `currency`.
        maximum: the highest possible price; equal to `minimum` unless a deciding fact is unknown.
        list_total: under a contract, the maximum at the published prices; else None.
        lazy_notes: the source of `notes`.
    """

    request: VideoRequest
    table: PriceTable
    rate: Rate
    lines: tuple[LineItem, ...]
    minimum: Decimal
    maximum: Decimal
    list_total: Decimal | None
    lazy_notes: LazyNotes

    def __repr__(self) -> str:
        return (
            f"<Quote {self.shown_total()} {self.currency}: {self.model} {self.resolution} {self.tier} "
            f"by {self.table.id}>"
        )

    @property
    def total(self) -> Decimal:
        """The exact sum of the lines, in `currency`; never rounded.

        Raises:
            PriceNotFoundError: the quote is a range, because a fact that decides the price is unknown.
        """
        if self.minimum != self.maximum:
            why = next((note.message for note in self.notes if note.code == "range"), "the price is uncertain")
            raise PriceNotFoundError(
                f"the quote is a range, {self.shown_total()} {self.currency}: {why}; use `minimum` and "
                "`maximum`, or supply the missing fact",
                provider=self.provider,
                model=self.canonical_model,
            )
        return self.maximum

    @property
    def notes(self) -> tuple[Note, ...]:
        """The assumptions and observations."""
        return self.lazy_notes.notes

    @property
    def provider(self) -> str:
        """The provider that bills."""
        return self.table.provider

    @property
    def model(self) -> str:
        """The model's name as the caller wrote it."""
        return self.request.model

    @property
    def canonical_model(self) -> str:
        """The model's name in price tables."""
        return self.rate.cell.model

    @property
    def wire_format(self) -> str:
        """The wire format in which the request was read."""
        return self.request.wire_format

    @property
    def action(self) -> str | None:
        """The API's action; derived from the inputs if the payload does not state it."""
        return self.request.facts["action"]

    @property
    def resolution(self) -> str:
        """The resolution that is billed."""
        return self.rate.cell.resolution

    @property
    def tier(self) -> str:
        """The billing tier, such as `silent`, `audio` or `video_reference`."""
        return self.rate.cell.tier

    @property
    def unit(self) -> str:
        """The unit that is billed, such as `second`."""
        return self.lines[0].unit

    @property
    def unit_price(self) -> Decimal:
        """The price of one unit, in `currency`."""
        return self.rate.unit_price

    @property
    def quantity(self) -> Decimal:
        """The number of units billed."""
        return self.lines[0].quantity

    @property
    def currency(self) -> str:
        """The ISO 4217 currency code of every amount in the quote."""
        return self.table.currency

    def as_dict(self, *, decimals: bool = False) -> dict[str, Any]:
        """Returns the quote as data.

        Args:
            decimals: whether amounts are `Decimal`s; otherwise they are text in plain decimal notation, and the
                data is JSON-ready.
        """
        shown: Callable[[Decimal], Any] = _as_it_is if decimals else format_decimal
        request, table, rate, priced, minimum, maximum, list_total, lazy = self
        cell = rate.cell
        lines = [
            {
                "description": line.description,
                "quantity": shown(line.quantity),
                "unit": line.unit,
                "unit_price": shown(line.unit_price),
                "amount": shown(line.amount),
            }
            for line in priced
        ]
        first = lines[0]
        amounts: dict[str, Any]
        if maximum is not minimum and maximum != minimum:
            amounts = {"total": None, "minimum": shown(minimum), "maximum": shown(maximum)}
        else:
            is_line = maximum is priced[0].amount  # as it is if there is only one
            amounts = {"total": first["amount"] if is_line else shown(maximum)}
            if list_total is not None:
                amounts["list_total"] = shown(list_total)
        return {
            "provider": table.provider,
            "model": request.model,
            "canonical_model": cell.model,
            "table": table.id,
            "table_digest": table.digest,
            "wire_format": request.wire_format,
            "action": request.facts["action"],
            "resolution": cell.resolution,
            "tier": cell.tier,
            "unit": first["unit"],
            "unit_price": first["unit_price"],
            "quantity": first["quantity"],
            **amounts,
            "currency": table.currency,
            "lines": lines,
            "notes": [{"code": note.code, "message": note.message} for note in lazy.notes],
        }

    def as_json(self) -> str:
        """Returns `as_dict` as JSON text."""
        return json_text(self.as_dict())

    def shown_total(self) -> str:
        """Returns the total, or both ends of the range, as text for a person."""
        return shown_range(self.minimum, self.maximum)

    def _repr_html_(self) -> str:
        """Returns the quote as a table for a notebook."""
        rows = [
            (
                f"{line.description}: {counted(line.quantity, line.unit)} x {format_decimal(line.unit_price)}",
                f"{format_decimal(line.amount)} {self.currency}",
            )
            for line in self.lines
        ]
        title = f"{self.model} ({self.request.facts['action']}) at {self.provider}, by {self.table.id}"
        total = [("total", f"{self.shown_total()} {self.currency}")]
        return html_table(title, [*rows, *total], note="; ".join(note.message for note in self.notes))

    def explain(self) -> str:
        """Returns the complete explanation as several lines of text for a person."""
        facts = self.request.facts
        lines = [
            f"{self.shown_total()} {self.currency} for {self.model} ({facts['action']}) at {self.provider}",
            *(
                f"  {line.description}: {counted(line.quantity, line.unit)}"
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


def _as_it_is(number: Decimal) -> Decimal:
    return number


def shown_range(minimum: Decimal, maximum: Decimal) -> str:
    """Returns an amount, or both ends of a range, as text for a person."""
    highest = format_decimal(maximum)
    return highest if minimum == maximum else f"{format_decimal(minimum)} to {highest}"


def counted(quantity: Decimal, unit: str) -> str:
    """Returns a quantity in words: `5 seconds`, `1 call`, `2 x 5 seconds`."""
    if unit[0].isdigit():
        return f"{format_decimal(quantity)} x {unit}"
    return f"{format_decimal(quantity)} {unit}{'' if quantity == 1 else 's'}"
