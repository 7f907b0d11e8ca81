"""`python -m kling_pricing` is `kling-pricing`."""

from kling_pricing.cli import main

main()
