"""Prices in data frames."""
