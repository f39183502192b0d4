"""A page opens from a file, says and sends nothing, and stays small however much was measured."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sample_report import large_report, sample_report
from torch import nn

import selplug
from selplug.audits.page.page import render
from selplug.report import packing
from selplug.similarities import page as similarity_page


@pytest.mark.parametrize("plain", [0, packing.PLAIN])
def test_every_plot_is_drawn(open_page, monkeypatch, plain):
    """Stored either way; the fixture looks at console and requests."""
    monkeypatch.setattr(packing, "PLAIN", plain)
    report = sample_report()
    opened = open_page(render(report))
    assert opened.page.locator(".canvas").count() == 7
    for canvas in opened.page.locator(".canvas").all():
        assert canvas.locator(".main-svg").count() > 0
    means = [layer.conditions["clean"]["selectivity"]["mean"] for layer in report.result.layers]
    assert opened.traces("selectivity")[0]["y"] == pytest.approx(means)


def test_without_a_script_tables_and_definitions_are_there(browser, tmp_path):
    path = tmp_path / "plain.html"
    path.write_text(render(sample_report()), encoding="utf-8")
    context = browser.new_context(java_script_enabled=False)
    context.set_default_timeout(180_000)
    page = context.new_page()
    page.goto(path.as_uri())
    assert page.locator("#layers table").is_visible()
    assert page.locator(".gallery img").first.is_visible()
    assert not page.locator(".controls").is_visible()
    page.locator("#selectivity").get_by_role("link", name="how it is defined").click()
    assert page.url.endswith("#def-selectivity")
    context.close()


@pytest.mark.slow
def test_the_section_of_the_address_is_in_view_and_long_tables_are_printed(open_page):
    """Whatever is drawn above it meanwhile; tables that are far away are not laid out, on paper they are."""
    opened = open_page(render(large_report(60, 16, examples=1)), "#definitions")
    page = opened.page
    top = page.evaluate("document.querySelector('#definitions').getBoundingClientRect().top")
    assert top == pytest.approx(80, abs=2)
    last = page.locator("#layers tbody tr:last-child th")
    page.evaluate("scrollTo({top: 0, behavior: 'instant'})")
    opened.until(last.inner_text, "")
    page.emulate_media(media="print")
    assert last.inner_text() == "stages.4.blocks.11.act2"


@pytest.mark.slow
def test_200_layers_under_90_conditions_stay_small():
    assert len(render(large_report()).encode()) < 15_000_000


@pytest.mark.slow
def test_the_page_of_a_similarity(open_page):
    """The same frame, without conditions and without a layer to pick."""
    torch.manual_seed(0)
    models = [
        nn.Sequential(nn.Conv2d(3, width, 3), nn.ReLU(), nn.Flatten(), nn.Linear(36 * width, 4)) for width in (4, 6)
    ]
    loader = [(torch.rand(16, 3, 8, 8), torch.arange(16) % 4)]
    report = selplug.similarity(*models, loader, progress=False)
    opened = open_page(similarity_page.render(report), viewport={"width": 360, "height": 640})
    (trace,) = opened.traces("cka-a-b")
    assert trace["z"] == pytest.approx(np.round(report.result.maps["cka", "a", "b"], 4), abs=1e-4)
    assert opened.page.locator(".controls").count() == 0
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= 360
    opened.page.locator(".numbers[data-plot='cka-a-b'] summary").click()
    opened.page.locator(".numbers[data-plot='cka-a-b'] tbody tr").wait_for()
