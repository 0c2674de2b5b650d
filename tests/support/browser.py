"""Chromium without a window, for tests of pages."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

#: Debian's package `chromium`, and what others call it.
NAMES = ("chromium", "chromium-browser", "google-chrome")


def program() -> str | None:
    """Where it is."""
    return next(filter(None, map(shutil.which, NAMES)), None)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One for the tests of a module: while it lives, its thread's event loop runs, and other tests have their own."""
    found = program()
    if found is None:
        missing = "NO BROWSER: the pages were NOT tested. Install chromium (apt-get install chromium)."
        pytest.fail(missing) if os.environ.get("CI") else pytest.skip(missing)
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])


@pytest.fixture
def tab(browser: Browser) -> Iterator[Page]:
    """An empty tab with its own storage; an error of a page's script fails the test."""
    with browser.new_context(viewport={"width": 1200, "height": 800}) as context:
        page, errors = context.new_page(), []
        page.on("pageerror", lambda error: errors.append(error))  # noqa: PLW0108  Playwright marks what it is given
        yield page
        assert errors == []
