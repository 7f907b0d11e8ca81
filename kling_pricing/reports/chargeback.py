"""The chargeback: the spend by project, by labels such as the user or the team, and by cost centre."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from kling_pricing.display import did_you_mean, reportable
from kling_pricing.errors import KlingPricingError
from kling_pricing.ledger.model import Reservation
from kling_pricing.reports.accounts_file import AccountsFile
from kling_pricing.reports.document import Column, Row, Section
from kling_pricing.reports.formatting import percent, safe
from kling_pricing.reports.spend import Totals, totals_by

DEFAULT_LABELS = ("user",)
"""The labels by which spend is added up if none are chosen."""

_PROJECT = "project"


class Chargeback(NamedTuple):
    """How spend is divided.

    Attributes:
        labels: the labels; each is a column.
        accounts: the rules that give the cost centre of a job.
    """

    labels: tuple[str, ...] = DEFAULT_LABELS
    accounts: AccountsFile = AccountsFile()

    @property
    def is_chosen(self) -> bool:
        """Whether it differs from the usual one."""
        return self.labels != DEFAULT_LABELS or bool(self.accounts.rules)

    @property
    def has_cost_centres(self) -> bool:
        """Whether a rule gives a cost centre."""
        return any(rule.cost_centre is not None for rule in self.accounts.rules)


USUAL_CHARGEBACK = Chargeback()
"""By project and user."""


def require_labels(jobs: Sequence[Reservation], labels: Sequence[str]) -> None:
    """Refuses a label that no job has, because it is probably misspelled.

    Raises:
        KlingPricingError: there are jobs, and none has the label.
    """
    known = sorted({_PROJECT, *(name for job in jobs for name in job.labels)})
    for name in labels:
        if jobs and name not in known:
            raise KlingPricingError(
                f"no job in the period has the label {reportable(name)!a}; {did_you_mean(name, known)}"
            )


def chargeback_table(jobs: Sequence[Reservation], overall: Totals, chargeback: Chargeback) -> Section:
    """Returns the spend by cost centre, project and labels, the largest first; it adds up to all spend."""
    names = [name for name in dict.fromkeys(chargeback.labels) if name != _PROJECT]

    def group(job: Reservation) -> tuple[str, ...]:
        labels = {_PROJECT: job.project, **job.labels}
        centre = chargeback.accounts.cost_centre(job.provider, labels) or ""
        return (centre, job.project, *(labels.get(name, "") for name in names))

    totals = totals_by(jobs, group)
    sizes = [currency for (currency,) in overall]
    ordered = sorted(
        totals.items(), key=lambda total: (sizes.index(total[0][0]), -total[1].committed, total[0])
    )
    skipped = 0 if chargeback.has_cost_centres else 1
    rows: list[Row] = []
    for (currency, *values), amounts in ordered:
        shown = [safe(value) or None for value in values[skipped:]]
        rows.append((*shown, currency, *amounts, percent(amounts.spent, overall[currency,].spent)))
    heads = ("Total", *(None,) * (len(names) + 1 - skipped))
    payers = " and ".join(["each project", *(f"each value of {safe(name)}" for name in names)])
    return Section(
        "chargeback",
        "Chargeback",
        f"The spend to charge to {payers}.",
        (
            *(Column("cost_centre", "Cost centre", missing="none") for _ in range(1 - skipped)),
            Column("project", "Project"),
            *(Column(f"label_{safe(name)}", safe(name).capitalize(), missing="none") for name in names),
            Column("currency", "Currency"),
            Column("jobs", "Jobs", "count"),
            Column("spent", "Spent", "amount"),
            Column("provisional", "Provisional", "amount"),
            Column("held", "Held", "amount"),
            Column("share", "Spent, %", "percent"),
        ),
        lambda: rows,
        tuple((*heads, currency, *amounts, None) for (currency,), amounts in overall.items()),
    )
