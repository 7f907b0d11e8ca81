"""Runs `kling-pricing` as `python -m kling_pricing`."""

from kling_pricing.cli import main

main()
