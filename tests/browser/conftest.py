"""Pages in a real browser: one for all tests; whatever a page sends or says in its console fails the test.

Without a browser the tests are skipped, or fail where SELPLUG_REQUIRE_BROWSER is 1.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

#: Programs to try, that of the environment first.
CHROMIUM = (os.environ.get("SELPLUG_CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome")
#: Milliseconds after which something hangs, on machines that do much else at the same time too.
PATIENCE = 180_000


def missing(reason: str) -> NoReturn:
    """Skips, or fails where a browser is required."""
    if os.environ.get("SELPLUG_REQUIRE_BROWSER") == "1":
        pytest.fail(f"{reason}, and SELPLUG_REQUIRE_BROWSER is 1")
    pytest.skip(reason)


class Opened:
    """A page with the plots that are drawn."""

    def __init__(self, page: Any) -> None:
        self.page = page

    def settle(self) -> None:
        """Waits until nothing is left to draw."""
        # Not wait_for_function: the page's own policy forbids what that does.
        self.page.wait_for_selector("html[data-waiting='0']", state="attached", timeout=PATIENCE)

    def until(self, read: Callable[[], object], expected: object) -> None:
        """Waits until what is read is as expected: what a browser does with its next frame, or when it finds time."""
        for _ in range(PATIENCE // 100):
            if read() == expected:
                return
            self.page.wait_for_timeout(100)
        assert read() == expected

    def traces(self, plot: str) -> list[dict[str, Any]]:
        """What plotly drew last."""
        self.settle()
        found: list[dict[str, Any]] = self.page.evaluate(
            """(id) => document.querySelector(`.canvas[data-plot="${id}"]`).data.map((trace) => ({
                group: trace.legendgroup, type: trace.type, y: trace.y, x: trace.x, z: trace.z, axis: trace.yaxis,
                dash: trace.line?.dash, color: trace.line?.color ?? trace.marker?.color}))""",
            plot,
        )
        return found

    def shown(self, plot: str = "selectivity") -> set[int]:
        """Places of the conditions in a plot."""
        return {int(trace["group"]) for trace in self.traces(plot) if trace["group"] is not None}

    def layer(self) -> str:
        return str(self.page.locator("#layer-picker").input_value())


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    if importlib.util.find_spec("playwright") is None:
        missing("needs Playwright")
    from playwright.sync_api import sync_playwright

    program = next((path for name in CHROMIUM if name and (path := shutil.which(name))), None)
    if program is None:
        missing("needs Chromium; SELPLUG_CHROMIUM can name it")
    with sync_playwright() as driver:
        # Without a sandbox of its own it runs in containers too; it opens nothing but our files.
        started = driver.chromium.launch(executable_path=program, args=["--no-sandbox"], timeout=PATIENCE)
        yield started
        started.close()


@pytest.fixture
def open_page(browser: Any, tmp_path: Path) -> Iterator[Callable[..., Opened]]:
    """``open_page(html, address="#...", **options of the context) -> Opened``."""
    requests: list[str] = []
    messages: list[str] = []
    contexts = []

    def requested(route: Any) -> None:
        requests.append(route.request.url)
        route.abort()

    def open_page(html: str, address: str = "", **options: Any) -> Opened:
        path = tmp_path / "page.html"
        path.write_bytes(html.encode())
        context = browser.new_context(**{"viewport": {"width": 1200, "height": 900}} | options)
        context.set_default_timeout(PATIENCE)
        contexts.append(context)
        context.route(lambda url: not url.startswith("file:"), requested)
        page = context.new_page()
        page.on("console", lambda message: messages.append(message.text))
        page.on("pageerror", lambda error: messages.append(str(error)))
        page.on("dialog", lambda dialog: (messages.append(f"dialog {dialog.message}"), dialog.dismiss()))
        page.goto(path.as_uri() + address, wait_until="domcontentloaded")
        opened = Opened(page)
        opened.settle()
        return opened

    yield open_page
    for context in contexts:
        context.close()
    assert requests == []
    assert messages == []
