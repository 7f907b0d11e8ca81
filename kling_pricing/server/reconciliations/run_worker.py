"""The process that reconciles uploads: `python -m kling_pricing.server.reconciliations.run_worker`.

It reads its orders from standard input, and ends at once when this input ends: the server has ended.
It is a process of its own, so a large statement takes neither memory nor time from callers.

On Linux, a copy of the process carries out each order. All modules are loaded before the first copy, so an
order begins at once, and its memory is free again after it. Elsewhere, the process ends after one order.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
import traceback
from contextlib import closing, suppress
from datetime import datetime
from decimal import Decimal
from importlib import import_module
from pathlib import Path
from threading import Thread
from typing import Any, NoReturn

from kling_pricing.errors import KlingPricingError, LedgerError, StatementError
from kling_pricing.ledger import connect
from kling_pricing.ledger.provider_accounts import ProviderAccount
from kling_pricing.quoting.intake import default_book
from kling_pricing.reconcile import Invoice, Reconciliation, close_month, reconcile
from kling_pricing.reconcile.mappings import load_mappings
from kling_pricing.reconcile.months import BooksPeriod
from kling_pricing.reports import write_reports
from kling_pricing.reports.spend import month_of
from kling_pricing.server.reconciliations.page_words import in_words_of_pages
from kling_pricing.server.reconciliations.run_results import result_of
from kling_pricing.server.reconciliations.runs import (
    PROGRESS,
    REPORTS,
    RESULT,
    UPLOAD,
    acted_file,
    outcome_file,
)
from kling_pricing.server.reconciliations.work_folder import read_json, write_json
from kling_pricing.windows import utc_clock

_REPORTED_EVERY_NS = 4 * 10**8


class Order:
    """What to do.

    Args:
        given: the order, as `run_queue` writes it.
    """

    def __init__(self, given: dict[str, Any]) -> None:
        self.ledger: str = given["ledger"]
        self.folder = Path(given["folder"])
        self.number: int = given["number"]
        self.action: str = given["action"]
        self.actor: str = given["actor"]
        self.reason: str | None = given["reason"]
        self.plan: str | None = given["plan"]
        self.memory: str = given["memory"]
        self.request: dict[str, Any] = given["request"]
        self.files: list[str] = given["files"]
        self.mapping_file: str | None = given["mapping_file"]
        self.now = datetime.fromisoformat(given["now"])
        timezone = self.request.get("timezone", "UTC")  # an upload to an earlier release has none
        self.period = BooksPeriod(*month_of(self.request["month"], timezone, self.now))
        self.book = default_book()
        self._reported_ns = 0

    def report(self, stage: str, done: int, total: int | None) -> None:
        """Writes the progress, at most a few times a second."""
        now_ns = time.monotonic_ns()
        if now_ns - self._reported_ns >= _REPORTED_EVERY_NS:
            self._reported_ns = now_ns
            write_json(self.folder / PROGRESS, {"stage": stage, "done": done, "total": total})

    def reconciled(self) -> Reconciliation:
        """Reconciles the upload.

        Raises:
            KlingPricingError: as `reconcile` says, or the mapping is unknown.
        """
        request = self.request
        upload = self.folder / UPLOAD
        mapping: str | Path | None = request["mapping"]
        if mapping is not None and mapping not in load_mappings(self.book):  # a path would be read, too
            names = ", ".join(sorted(load_mappings(self.book)))
            raise StatementError(f"mapping: no bundled mapping has this name; use one of: {names}")
        if self.mapping_file is not None:
            mapping = upload / "mapping" / self.mapping_file
        invoice = None
        if request["invoice_total"] is not None:
            total = Decimal(request["invoice_total"])
            invoice = Invoice(total, request["invoice_currency"], request["invoice_id"])
        return reconcile(
            self.ledger,
            [upload / "statements" / name for name in self.files],
            provider=request["provider"],
            account=request["account"],
            since=self.period.since,
            until=self.period.until,
            mapping=mapping,
            encoding=request["encoding"],
            book=self.book,
            memory_limit=self.memory,
            folder=self.folder,
            replaces=request["replaces"],
            invoice=invoice,
            clock=lambda: self.now,
            on_progress=self.report,
        )


def carry_out(order: Order) -> str:
    """Carries out an order, and returns a sentence that says what was done.

    Raises:
        KlingPricingError: it cannot be carried out.
    """
    text = "The statement is reconciled. Nothing was changed."
    if order.action != "reconcile":
        text = _acted(order)
        write_json(order.folder / acted_file(order.number), {"is_done": True, "text": text})
    with order.reconciled() as reconciled:
        result = result_of(reconciled)
        fresh = order.folder / f".{REPORTS}-{order.number}"
        write_reports(
            reconciled, fresh, book=order.book, on_format=lambda name: order.report(f"writing {name}", 0, None)
        )
        result["reports"] = {path.name: path.stat().st_size for path in sorted(fresh.iterdir())}
    shutil.rmtree(order.folder / REPORTS, ignore_errors=True)
    fresh.rename(order.folder / REPORTS)
    write_json(order.folder / RESULT, result)
    return text


def _acted(order: Order) -> str:
    """Does what a person has confirmed, if the plan is still the one that the person has seen."""
    actor, reason = order.actor, order.reason or ""
    if order.action == "close" and not order.period.is_months:
        raise LedgerError(
            f"the books have months in UTC, and this is the month of {order.request['timezone']}, so the month "
            "stays open; reconcile the statement with the time zone UTC, and close the month from there"
        )
    with order.reconciled() as reconciled:
        if result_of(reconciled)["plan"] != order.plan:
            raise LedgerError(
                "the ledger or its books have changed since the plan, so nothing was changed; upload the "
                "statement again, and look at the new plan"
            )
        if order.action == "settle":
            if reconciled.gaps:
                raise StatementError(
                    f"the month is not reconciled: {'; '.join(reconciled.gaps)}. Nothing was settled. Correct "
                    "the statement, and upload it again"
                )
            settled = reconciled.settle(actor=actor, reason=reason, on_progress=order.report)
            refused = in_words_of_pages("".join(f" {name}: {why}." for name, why in settled.refused.items()))
            return f"Settled {settled.settled}, bound {settled.bound}, refused {len(settled.refused)}.{refused}"
        if order.action == "dispute":
            return f"Disputes opened: {reconciled.dispute(actor=actor, reason=reason)}."
        if order.action == "remember":
            added = reconciled.remember(actor=actor, reason=reason)
            return f"Added to the books: statements {added.statements}, rows {added.rows}."
        owner = ProviderAccount(reconciled.provider, reconciled.account)
        digests = {*reconciled.statements.values()}
    with closing(connect(order.ledger, clock=utc_clock(None))) as ledger:
        known = {statement.digest for statement in ledger.books(owner.books).statements}
    if not digests <= known:
        raise LedgerError(
            "the books do not contain this statement, so the month stays open; add the statement to the "
            "books first, with Remember"
        )
    closed = close_month(
        order.ledger,
        order.request["month"],
        provider=owner.provider,
        account=owner.account,
        actor=actor,
        reason=reason,
        clock=lambda: order.now,
    )
    return f"The books of {owner.books} are closed up to and including {closed[-1].month}."


def _end_with_input() -> None:
    """Ends the process when the server has ended, also while the database works."""
    sys.stdin.buffer.read()
    os._exit(1)


def _work(line: bytes) -> NoReturn:
    """Carries out an order, writes its outcome, and ends the process."""
    order = Order(json.loads(line))
    Thread(target=_end_with_input, daemon=True).start()
    is_done, text = True, ""
    try:
        text = carry_out(order)
    except KlingPricingError as error:
        is_done, text = False, in_words_of_pages(str(error).replace(f"{order.folder}{os.sep}", ""))
    except Exception:  # noqa: BLE001 (the page must say something)
        traceback.print_exc()
        is_done, text = False, "the server has failed; look at its log for the cause"
    acted = read_json(order.folder / acted_file(order.number))
    if acted is not None and not is_done:
        is_done, text = True, f"{acted['text']} The result below is the one from before: {text}"
    write_json(order.folder / outcome_file(order.number), {"is_done": is_done, "text": text})
    os._exit(0)  # the thread still waits for the input


def main() -> NoReturn:
    """Carries out the orders on standard input, and writes a line on standard output after each."""
    answers = os.dup(sys.stdout.fileno())
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # a library may print something
    _load_modules()
    while line := sys.stdin.buffer.readline():
        if sys.platform == "linux":
            child = os.fork()
            if child == 0:
                _work(line)
            os.waitpid(child, 0)
        else:
            _work(line)
        with suppress(BrokenPipeError):  # the server has ended, and so does the input
            os.write(answers, b"\n")
    os._exit(1)  # the server has ended


def _load_modules() -> None:
    """Loads what would otherwise be loaded within each order; what is not installed is reported there."""
    for name in ("duckdb", "jinja2", "xlsxwriter"):
        with suppress(ModuleNotFoundError):
            import_module(name)


if __name__ == "__main__":
    main()
