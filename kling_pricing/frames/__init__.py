"""Prices in data frames: pandas, Polars and PyArrow, through narwhals.

Each column is a field of a request, and each row is a request. Equal rows are priced once. The results are
columns in the same order as the rows: amounts are exact decimals, and a refusal is a text beside empty amounts.
"""

from kling_pricing.frames.job_columns import check, quote

__all__ = ["check", "quote"]
