"""What the jobs of a period would have cost under another price table, provider or contract.

A ledger keeps the model, the resolution, the tier and the number of units of a job, and not its request. So the
tier in another table is derived: every combination of facts that the job's API allows, and that gives the job's
tier in its own table, is tried in the other table. If they do not all give one price, the result is a range.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

from kling_pricing.display import did_you_mean, shown
from kling_pricing.errors import KlingPricingError, PriceNotFoundError, TableError
from kling_pricing.ledger import connect
from kling_pricing.ledger.environment import ledger_url
from kling_pricing.ledger.model import Reservation
from kling_pricing.money import add, multiply
from kling_pricing.quoting.intake import default_book
from kling_pricing.tables.capabilities import ModelCapabilities
from kling_pricing.tables.loading.coverage import reachable_facts
from kling_pricing.tables.price_book import PriceBook
from kling_pricing.tables.price_table import PriceTable
from kling_pricing.tables.rates import ANY, Cell, Quantity
from kling_pricing.tables.rules import Choice, possible
from kling_pricing.windows import Period, calendar_period, in_utc, utc_clock

_SENT = frozenset({"dispatching", "bound", "settled"})
_NOTHING = Decimal(0)


class RepricedJob(NamedTuple):
    """A job, and its price under another table.

    Attributes:
        reservation: the job.
        counted: the amount that the ledger counts for it, in the currency of its quote.
        table: the id of the other table; empty if none applies.
        currency: the currency of the other table; empty if none applies.
        minimum: the lowest price under the other table; None: it has none.
        maximum: the highest price; equal to `minimum` if the price is certain.
        why_not: why the job has no price there; empty if it has one.
    """

    reservation: Reservation
    counted: Decimal
    table: str
    currency: str
    minimum: Decimal | None
    maximum: Decimal | None
    why_not: str


class RepricedTotal(NamedTuple):
    """The sums of the jobs with one pair of currencies that have a price under the other table.

    Attributes:
        jobs: the number of jobs.
        currency: the currency of their quotes.
        quoted: the sum of their quotes.
        counted: the sum of the amounts that the ledger counts.
        other_currency: the currency of the other table.
        minimum: the sum of the lowest prices under the other table.
        maximum: the sum of the highest prices.
    """

    jobs: int
    currency: str
    quoted: Decimal
    counted: Decimal
    other_currency: str
    minimum: Decimal
    maximum: Decimal


class Repriced(NamedTuple):
    """The jobs of a period, and what they would have cost.

    Attributes:
        jobs: every job that was sent in the period, the oldest first.
    """

    jobs: tuple[RepricedJob, ...]

    @property
    def totals(self) -> list[RepricedTotal]:
        """The sums of the jobs that have a price under the other table, by currencies.

        The quotes and the counted amounts of all other jobs are left out, so that like is compared with like.
        """
        sums: dict[tuple[str, str], RepricedTotal] = {}
        for job in self.jobs:
            if job.minimum is None or job.maximum is None:
                continue
            place = (job.reservation.currency, job.currency)
            before = sums.get(
                place, RepricedTotal(0, place[0], _NOTHING, _NOTHING, place[1], _NOTHING, _NOTHING)
            )
            sums[place] = RepricedTotal(
                before.jobs + 1,
                place[0],
                add(before.quoted, job.reservation.expected),
                add(before.counted, job.counted),
                place[1],
                add(before.minimum, job.minimum),
                add(before.maximum, job.maximum),
            )
        return [sums[place] for place in sorted(sums)]

    @property
    def reasons(self) -> list[tuple[str, int]]:
        """Why jobs have no price under the other table, with the numbers of jobs, the most frequent first."""
        return Counter(job.why_not for job in self.jobs if job.why_not).most_common()


def reprice(
    ledger: str | None = None,
    table: str | None = None,
    *,
    provider: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    project: str | None = None,
    book: PriceBook | None = None,
) -> Repriced:
    """Returns what the jobs of a period would have cost under another table, provider or contract.

    Changes nothing.

    Args:
        ledger: the ledger's URL; by default, the value of `KLING_PRICING_LEDGER`.
        table: the id of a price table or contract, such as `studio/2026-11-01`, whatever its period.
        provider: a provider, instead of a table: each job has the prices in force when it was reserved.
        since: the start of the period, with a time zone; by default, the start of last month in UTC. A job
            belongs to the period in which it was reserved.
        until: the end of the period, exclusive; by default, the end of last month. Give both, or neither.
        project: only jobs of this project.
        book: the price tables; by default, the bundled ones and those in `KLING_PRICING_TABLES`.

    Raises:
        KlingPricingError: not exactly one of `table` and `provider` is given, or the period cannot be used.
        PriceNotFoundError: the provider is unknown.
        TableError: there is no such table.
        LedgerUnavailableError: the ledger cannot be used.
    """
    if (table is None) == (provider is None):
        raise KlingPricingError(
            "give either `table` or `provider`: the prices under which jobs are priced again"
        )
    book = default_book() if book is None else book
    pricing = _OtherPrices(book, None if table is None else table_named(book, table), provider)
    start, end = _period(since, until)
    with closing(connect(ledger_url(ledger), clock=utc_clock(None))) as store:
        jobs = store.reservations(project=project, since=start, until=end)
    return Repriced(tuple(pricing.repriced(job) for job in jobs if job.state in _SENT))


def _period(since: datetime | None, until: datetime | None) -> Period:
    """Returns the period that the arguments give; by default, last month."""
    if since is None and until is None:
        this_month = calendar_period("month", datetime.now(UTC), UTC)
        return calendar_period("month", this_month.start - timedelta(days=1), UTC)
    if since is None or until is None:
        raise KlingPricingError("give both `since` and `until`, or neither for last month")
    return Period(in_utc(since), in_utc(until))


def table_named(book: PriceBook, table_id: str) -> PriceTable:
    """Returns the price table or contract with an id.

    Raises:
        TableError: there is none.
    """
    known = {table.id: table for table in _all_tables(book)}
    if table_id not in known:
        raise TableError(f"unknown price table {shown(table_id)}; {did_you_mean(table_id, sorted(known))}")
    return known[table_id]


def _all_tables(book: PriceBook) -> Iterator[PriceTable]:
    for tables in (*book.tables.values(), *book.contracts.values()):
        yield from tables


class _OtherPrices:
    """Prices jobs again, by one table or by the tables of a provider."""

    def __init__(self, book: PriceBook, table: PriceTable | None, provider: str | None) -> None:
        self._book = book
        self._table = table
        self._provider = provider
        self._own = {own.id: own for own in _all_tables(book)}
        if provider is not None:
            book.tables_of(provider)
        self._known: dict[tuple[str, str, str, Cell, str], frozenset[_Lane]] = {}

    def repriced(self, job: Reservation) -> RepricedJob:
        """Returns a job with its price, or with the reason why it has none."""
        counted = job.expected if job.billed is None else job.billed
        try:
            table = self._table or self._book.table(str(self._provider), job.created_at)
            minimum, maximum = self._price(job, table)
        except PriceNotFoundError as error:
            return RepricedJob(job, counted, "", "", None, None, str(error))
        return RepricedJob(job, counted, table.id, table.currency, minimum, maximum, "")

    def _price(self, job: Reservation, table: PriceTable) -> tuple[Decimal, Decimal]:
        """Returns the lowest and the highest price of a job by a table.

        Raises:
            PriceNotFoundError: the table has no price for the job, or what the ledger keeps does not decide it.
        """
        own = self._own.get(job.table)
        if own is None:
            what = (
                f"its own table {job.table} is not known any more" if job.table else "it was recorded by hand"
            )
            raise PriceNotFoundError(f"{what}, so its tier and length cannot be read")
        if job.terms.minimum is not None:
            raise PriceNotFoundError("its quote was a range, so its length is not known")
        if job.wire_format not in table.priced_formats:
            raise PriceNotFoundError(f"{table.id} does not price requests in wire format {job.wire_format}")
        cell = Cell(job.model, job.resolution, job.tier)
        if cell.model not in table.models:
            raise PriceNotFoundError(f"{table.id} does not price the model {cell.model}")
        prices = {self._charge(job, table, cell, lane) for lane in self._lanes(job, own, table, cell)}
        known = {price for price in prices if price is not None}
        if not known:
            raise PriceNotFoundError(f"{table.id} has no price for {cell}")
        return min(known), max(known)

    def _lanes(self, job: Reservation, own: PriceTable, table: PriceTable, cell: Cell) -> frozenset[_Lane]:
        """Returns the lanes of a job; jobs that are alike share them."""
        place = (job.wire_format, own.id, table.id, cell, job.unit)
        if place not in self._known:
            matrix = self._book.matrices.get(job.wire_format)
            capabilities = None if matrix is None else matrix.models.get(cell.model)
            if capabilities is None:
                raise PriceNotFoundError(f"wire format {job.wire_format} does not offer {cell.model} any more")
            self._known[place] = _lanes(capabilities, own, table, cell, job.unit)
        return self._known[place]

    def _charge(self, job: Reservation, table: PriceTable, cell: Cell, lane: _Lane) -> Decimal | None:
        """Returns the price of a job in a lane; None if no request of the table's APIs is in that lane.

        Raises:
            PriceNotFoundError: a request may be in that lane, but it has no published price.
        """
        rate = table.rate_at.get((cell.model, cell.resolution, lane.tier)) or table.rate_at.get(
            (cell.model, ANY, lane.tier)
        )
        if rate is None:
            there = Cell(cell.model, cell.resolution, lane.tier)
            if (why := table.why_unpriced(there)) is not None:
                raise PriceNotFoundError(f"{table.id} has no price for {there}: {why}")
            return None
        return table.charge(rate, lane.units(job.quantity, table))


class _Lane(NamedTuple):
    """A tier of another table, and how both tables count the units of a job in it."""

    tier: str
    own: Quantity
    other: Quantity

    def units(self, quantity: Decimal, table: PriceTable) -> Decimal:
        """Returns the number of units in the other table.

        Raises:
            PriceNotFoundError: the number of units in the job's own table does not decide it.
        """
        if self.own == self.other:
            return quantity
        is_exact = self.own.rounding == "exact" and not self.own.added and self.own.floor is None
        if is_exact and self.other.facts == (self.own.fact,):
            return self.other.of({self.own.fact: multiply(quantity, self.own.per)})
        raise PriceNotFoundError(
            f"{table.id} counts such a job by other rules, which the number of its units does not decide"
        )


def _lanes(
    capabilities: ModelCapabilities, own: PriceTable, other: PriceTable, cell: Cell, unit: str
) -> frozenset[_Lane]:
    """Returns every lane of another table in which a job may be that is in a cell of its own table."""
    choices: tuple[Choice[Any], ...] = (*own.tiers, *own.quantity, *other.tiers, *other.quantity)
    return frozenset(
        _Lane(tier, counting, quantity)
        for facts in reachable_facts(capabilities, choices, cell.resolution)
        if cell.tier in possible(own.tiers, facts)
        if facts["videos"] != 0 or not facts["video_use"]  # without videos, they have no use
        for counting in possible(own.quantity, facts)
        if counting.unit == unit
        for tier in possible(other.tiers, facts)
        for quantity in possible(other.quantity, facts)
    )
