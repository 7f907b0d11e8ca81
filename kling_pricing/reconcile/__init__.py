"""Reconciliation: what was expected against what the provider billed, every difference explained.

A statement of the provider and a ledger of ours become lines, one for each task; each line is in one category,
and the lines' variances sum to the difference of the two, exactly, or there is no report.
"""
