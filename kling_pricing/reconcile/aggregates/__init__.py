"""Statements of sums, such as one row per day and model: they are compared with the ledger's sums.

A *cell* is one combination of the columns that a mapping names: a day, a model, a project and so on.
"""

BLIND_SPOTS = (
    "they do not show which task a variance belongs to, or errors that cancel out within a sum, such as one "
    "task that is charged twice and another that is not charged"
)
"""What sums cannot show, as a clause."""
