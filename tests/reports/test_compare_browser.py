"""``compare.html`` in a real browser: it draws, asks for nothing from outside, and its menus change the plots."""

from __future__ import annotations

import shutil

import pytest
from sample_comparison import family, trained_report

import selplug

sync_api = pytest.importorskip("playwright.sync_api")
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def page_file(tmp_path_factory):
    reports = family() | {"<img src=x onerror=alert(1)>": trained_report(told=False)}
    return selplug.compare(reports, resamples=100).save(tmp_path_factory.mktemp("page")) / "compare.html"


@pytest.mark.skipif(BROWSER is None, reason="no Chromium")
@pytest.mark.parametrize("width", [1280, 400])
def test_in_a_browser(page_file, width):
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        try:
            page = browser.new_page(viewport={"width": width, "height": 800})
            said: list[str] = []
            asked: list[str] = []
            page.on("console", lambda message: said.append(message.text))
            page.on("pageerror", lambda error: said.append(str(error)))
            page.on("request", lambda request: asked.append(request.url))
            page.goto(page_file.as_uri())
            page.wait_for_selector("#plot-link-corruptions .scatterlayer .point")
            assert page.locator(".verdict").count() == 13
            assert page.evaluate("document.documentElement.scrollWidth") <= width

            def title() -> str:
                return page.evaluate("document.querySelector('#plot-link-corruptions .canvas').layout.yaxis.title.text")

            assert title().startswith("mean corruption accuracy")
            page.locator("#plot-link-corruptions select").nth(1).select_option("cv_units")
            page.wait_for_function(
                "document.querySelector('#plot-link-corruptions .canvas').layout.yaxis.title.text.includes('units')"
            )
            assert page.locator("img[src=x]").count() == 0
            assert not said
            assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
        finally:
            browser.close()
