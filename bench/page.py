"""The page of a report of 200 layers under 90 conditions, with all measures: its size, and the time to open it."""

from __future__ import annotations

import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from .harness import Row

SIZE, SECONDS = 15e6, 2.0
PROGRAMS = (os.environ.get("SELPLUG_CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome")


def rows(rounds: int = 7) -> list[Row]:
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from sample_report import large_report  # type: ignore[import-not-found, unused-ignore]

    from selplug.audits.page.page import render

    what = "200 layers under 90 conditions, all measures"
    start = time.perf_counter()
    text = render(large_report())
    written = time.perf_counter() - start
    size = len(text.encode())
    detail = f"{size / 1e6:.2f} MB, {SIZE / 1e6:.0f} MB allowed; written in {written:.0f} s"
    found = [Row(f"page / 15 MB: {what}", size / SIZE, 1.0, detail)]
    program = next((path for name in PROGRAMS if name and (path := shutil.which(name))), None)
    if program is None:
        return found
    from plotly.offline import get_plotlyjs

    # What no page with plots can do without, for comparison where the machine is busy.
    bare = f"<!doctype html><title>bare</title><body><script>{get_plotlyjs()}</script><p class='ready'>x</p>"
    seconds = _opening(text, ".canvas .main-svg", program, rounds)
    alone = _opening(bare, ".ready", program, rounds)
    low, median, high = statistics.quantiles(seconds, n=4)
    detail = f"{median:.2f} s [{low:.2f}, {high:.2f}]; the plotting library alone {statistics.median(alone):.2f} s"
    detail += f"; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
    return [*found, Row(f"opened, with the first plot drawn / 2 s: {what}", median / SECONDS, 1.0, detail)]


def _opening(text: str, until: str, program: str, rounds: int) -> list[float]:
    """Seconds from the start of loading to the first frame with an element, in one browser, each time in a new window;
    the first time does not count."""
    from playwright.sync_api import sync_playwright

    look = f"""(function look() {{
      if (document.querySelector("{until}")) window.opened = performance.now();
      else requestAnimationFrame(look);
    }})()"""
    seconds = []
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        path = Path(folder) / "report.html"
        path.write_text(text, encoding="utf-8")
        browser: Any = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
        for _ in range(rounds + 1):
            page = browser.new_page(viewport={"width": 1280, "height": 1000})
            page.add_init_script(look)
            page.goto(path.as_uri(), wait_until="domcontentloaded")
            page.wait_for_selector(until)
            seconds.append(page.evaluate("window.opened") / 1000)
            page.close()
        browser.close()
    return seconds[1:]
