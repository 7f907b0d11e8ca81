"""Every page, in the order of the navigation."""

from __future__ import annotations

from kling_pricing.server.pages import (
    allowances_page,
    audit_page,
    budgets_page,
    calculator_page,
    doubt_page,
    jobs_page,
    keys_page,
    month_page,
    overview_page,
    settings_page,
)
from kling_pricing.server.pages.visits import Page

PAGES: tuple[Page, ...] = (
    overview_page.PAGE,
    jobs_page.PAGE,
    doubt_page.PAGE,
    calculator_page.PAGE,
    budgets_page.PAGE,
    allowances_page.PAGE,
    month_page.PAGE,
    audit_page.PAGE,
    keys_page.PAGE,
    settings_page.PAGE,
)
"""The pages. A page that is not in this list does not exist."""
