"""Every page, in the order of the navigation."""

from __future__ import annotations

from kling_pricing.server.pages import doubt_page, jobs_page, overview_page
from kling_pricing.server.pages.visits import Page

PAGES: tuple[Page, ...] = (
    overview_page.PAGE,
    jobs_page.PAGE,
    doubt_page.PAGE,
    # the place of the page "Month"
)
"""The pages. A page that is not in this list does not exist."""
