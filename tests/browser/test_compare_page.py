"""``compare.html`` in a real browser: its menus change the plots, it fits narrow screens, names are text."""

from __future__ import annotations

import pytest
from sample_comparison import family, trained_report

import selplug

pytestmark = pytest.mark.slow

PLOT = "link-corruptions"


@pytest.fixture(scope="module")
def html(tmp_path_factory):
    reports = family() | {"<img src=x onerror=alert(1)>": trained_report(told=False)}
    folder = selplug.compare(reports, resamples=100).save(tmp_path_factory.mktemp("page"))
    return (folder / "compare.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("width", [1280, 400])
def test_claims_first_and_menus_that_change_the_plots(html, open_page, width):
    opened = open_page(html, viewport={"width": width, "height": 800})
    page = opened.page
    assert page.locator(".verdict").count() == 16
    assert page.locator("#undecided li").first.is_hidden()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.locator(f"#plot-{PLOT}").scroll_into_view_if_needed()

    def title() -> str:
        opened.settle()
        return page.evaluate(f"document.querySelector('#plot-{PLOT} .canvas').layout.yaxis.title.text")

    before = opened.traces(PLOT)
    assert title().startswith("mean corruption accuracy")
    page.locator(f"#plot-{PLOT} select").nth(1).select_option("cv_units")
    assert "units" in title()
    after = opened.traces(PLOT)
    assert [trace["y"] for trace in after] != [trace["y"] for trace in before]
    assert [trace["x"] for trace in after] == [trace["x"] for trace in before]
    assert page.locator("img[src=x]").count() == 0
