"""Pages in a real browser: one for all tests; whatever a page sends or says in its console fails the test."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

#: Programs to try, that of the environment first.
CHROMIUM = (os.environ.get("SELPLUG_CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome")


class Opened:
    """A page with the plots that are drawn."""

    def __init__(self, page: Any) -> None:
        self.page = page

    def settle(self) -> None:
        """Waits until nothing is left to draw."""
        # Not wait_for_function: the page's own policy forbids what that does.
        self.page.wait_for_selector("html[data-waiting='0']", state="attached", timeout=60_000)

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
    playwright = pytest.importorskip("playwright.sync_api", reason="needs Playwright")
    program = next((path for name in CHROMIUM if name and (path := shutil.which(name))), None)
    if program is None:
        pytest.skip("needs Chromium; SELPLUG_CHROMIUM can name it")
    with playwright.sync_playwright() as driver:
        # Without a sandbox of its own it runs in containers too; it opens nothing but our files.
        started = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
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
        context.set_default_timeout(60_000)  # machines that do much else at the same time
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
