"""Who cannot use a mouse, see colours or wide screens reads the same; names of models and classes are text."""

from __future__ import annotations

import dataclasses
import re

import pytest
from sample_report import large_report, sample_report, with_perturbations

from selplug.audits.engine.results import Examples
from selplug.audits.page.page import render
from selplug.report.style import printable

HOSTILE = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "</script><script>alert(1)</script>",
    "\"' onfocus=alert(1) autofocus x='",
    "a\u202eb\u2066c",
    "%{x} ${1} {{ 7 * 7 }}",
    "<b>bold</b> & <i>",
)
PAGE = render(sample_report())
#: The contrast of every visible text with what lies behind it (WCAG 2.2, success criterion 1.4.3).
CONTRAST = """() => {
    const numbers = (text) => (text.match(/[\\d.]+/g) || [0, 0, 0, 0]).map(Number);
    const light = (rgb) => {
        const [r, g, b] = rgb.map((c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const behind = (element) => {
        for (let at = element; at; at = at.parentElement) {
            const [r, g, b, a = 1] = numbers(getComputedStyle(at).backgroundColor);
            if (a === 1) return [r, g, b];
        }
        return [255, 255, 255];
    };
    const found = [];
    for (const element of document.querySelectorAll("body *")) {
        const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
        const svg = element.closest("svg");
        if (!own || !element.getClientRects().length) continue;
        if (element.closest("script, style, noscript, .unseen, [disabled]")) continue;
        if (svg && !element.closest("text")) continue;
        const style = getComputedStyle(element);
        const ink = numbers(svg ? style.fill : style.color).slice(0, 3);
        const heat = svg && element.closest(".heatmap-label"); // on cells, in the colour that plotly finds best
        const [a, b] = [light(ink), light(behind(svg ? svg.parentElement : element))].sort((x, y) => y - x);
        if (!heat) found.push([(a + 0.05) / (b + 0.05), element.tagName + ": " + element.textContent.slice(0, 40)]);
    }
    return found;
}"""


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast(open_page, scheme):
    opened = open_page(PAGE, color_scheme=scheme)
    page = opened.page
    page.locator(".picker summary").click()
    page.locator("#selectivity").get_by_role("link", name="how it is defined").click()
    page.locator("dialog").wait_for()
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(255, 255, 255)") == (scheme == "light")
    found = page.evaluate(CONTRAST)
    assert len(found) > 300
    assert [pair for pair in found if pair[0] < 4.5] == []


@pytest.mark.slow
def test_a_change_of_the_scheme_reaches_the_plots(open_page):
    opened = open_page(PAGE, color_scheme="light")

    def ink() -> str:
        return opened.page.evaluate("document.querySelector('.canvas[data-plot=selectivity]').layout.font.color")

    assert ink() == "#1b1f24"
    opened.page.emulate_media(color_scheme="dark")
    opened.until(ink, "#e6e9ed")  # the page is told with the next frame


@pytest.mark.slow
def test_paper_is_white_and_shows_what_is_chosen(open_page):
    opened = open_page(PAGE, color_scheme="dark")
    page = opened.page
    page.locator("#plot-selectivity .legend").get_by_role("button", name="fgsm:eps=8/255").click()
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    font = "document.querySelector('.canvas[data-plot=selectivity]').layout.font.color"
    assert page.evaluate(font) == "#1b1f24"
    assert not page.locator(".controls").is_visible()
    names = page.locator("#plot-selectivity .legend button:visible").all_inner_texts()
    assert names == ["clean", "gaussian-noise:std=0.1"]
    assert opened.shown() == {0, 2}
    page.emulate_media(media="screen")
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.evaluate(font) == "#e6e9ed"
    assert page.pdf()[:5] == b"%PDF-"


@pytest.mark.slow
@pytest.mark.parametrize("many", [False, True])
def test_a_narrow_screen_scrolls_one_way_only(open_page, many):
    html = render(large_report(layers=30, units=16, examples=1, size=8)) if many else PAGE
    opened = open_page(html, viewport={"width": 360, "height": 640}, has_touch=True)
    page = opened.page
    if many:
        page.locator(".picker summary").click()
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    for details in page.locator("details.numbers summary").all():
        details.click()
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


@pytest.mark.slow
def test_every_control_has_a_name(open_page):
    page = open_page(render(large_report(layers=3, units=8, examples=2, size=8))).page
    page.locator(".picker summary").click()
    snapshot = page.locator("body").aria_snapshot()
    roles = "button|link|combobox|checkbox|searchbox|region|table|dialog|navigation"
    lines = re.findall(rf"^\s*- (?:{roles})\b.*$", snapshot, re.MULTILINE)
    assert len(lines) > 150
    assert [line for line in lines if not re.search(rf'- (?:{roles}) (?:"|/).+', line)] == []
    assert page.locator(".canvas:not([aria-label]), img:not([alt]), [role=group]:not([aria-label])").count() == 0
    assert page.locator("input:visible, select:visible, button:visible").count() > 100
    unnamed = page.evaluate(
        """[...document.querySelectorAll("input:not([type=hidden]), select")]
            .filter((field) => ![...field.labels].some((label) => label.textContent.trim())).length"""
    )
    assert unnamed == 0
    assert page.locator("h1").count() == page.locator("main").count() == 1
    doubles = page.evaluate(
        "(() => {const ids = [...document.querySelectorAll('[id]')].map((e) => e.id);"
        " return ids.filter((id, i) => ids.indexOf(id) !== i && !document.getElementById(id).closest('svg'))})()"
    )
    assert doubles == []


@pytest.mark.slow
def test_the_keyboard_reaches_everything(open_page):
    opened = open_page(PAGE)
    page = opened.page

    def press(key: str, until: str, limit: int = 80) -> None:
        """Presses until the element with the focus fits a selector."""
        for _ in range(limit):
            page.keyboard.press(key)
            if page.evaluate("(css) => document.activeElement.matches(css)", until):
                outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
                assert outline != "none", until
                return
        raise AssertionError(f"{key} does not lead to {until}")

    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    assert page.evaluate("document.activeElement.getBoundingClientRect().left") >= 0
    press("Tab", ".picker summary")
    page.keyboard.press("Enter")
    press("Tab", ".picker [data-place='1']")
    page.keyboard.press("Space")
    assert opened.shown() == {0, 2}
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.matches('.picker summary')")
    assert not page.locator(".panel").is_visible()
    press("Tab", "#layer-picker")
    page.keyboard.press("ArrowDown")
    assert opened.layer() == "1"
    press("Tab", "[data-step='1']")
    page.keyboard.press("Enter")
    assert opened.layer() == "2"
    press("Tab", "#selectivity .definition")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.closest('dialog') !== null")
    page.keyboard.press("Escape")
    press("Tab", "#selectivity-1")
    page.keyboard.press("ArrowDown")
    opened.settle()
    assert opened.traces("selectivity")[0]["y"][0] == pytest.approx(0.22)
    press("Tab", "#plot-selectivity .legend [data-place='2']")
    page.keyboard.press("Space")
    assert opened.shown() == {0}
    press("Tab", ".numbers[data-plot='selectivity'] summary")
    page.keyboard.press("Enter")
    page.wait_for_selector(".numbers[data-plot='selectivity'] th button")  # the browser tells a moment later
    press("Tab", ".numbers[data-plot='selectivity'] th button")
    page.keyboard.press("Enter")
    assert page.locator(".numbers[data-plot='selectivity'] th[aria-sort=ascending]").count() == 1


@pytest.mark.slow
def test_less_motion(open_page):
    calm = open_page(PAGE, reduced_motion="reduce").page
    assert calm.evaluate("getComputedStyle(document.documentElement).scrollBehavior") == "auto"


@pytest.mark.parametrize("name", [HOSTILE[0], *(pytest.param(name, marks=pytest.mark.slow) for name in HOSTILE[1:])])
def test_names_are_text(open_page, name):
    report = sample_report(layers=2, names=("clean", name))
    result = report.result
    layers = tuple(dataclasses.replace(layer, name=f"{name}{i}", kind=name) for i, layer in enumerate(result.layers))
    examples = Examples(result.examples.labels, result.examples.images, result.examples.predictions)
    subject = {**report.subject, "model": name, "class_names": [name] * 10}
    result = dataclasses.replace(result, worst_case=None, layers=layers, examples=examples)
    report = dataclasses.replace(report, subject=subject, result=result, settings={})
    entry = {"name": name, "kind": "attack", "options": {"corruption": name, "severity": 1}}
    rendered = render(with_perturbations(report, [entry]))
    opened = open_page(rendered)
    page = opened.page
    page.locator(".picker summary").click()
    page.locator("#layer-picker").select_option("1")
    for summary in page.locator("details.numbers summary").all():
        summary.click()
    opened.settle()
    shown = printable(name)
    assert shown in page.locator("h1").inner_text()
    assert page.locator("#layer-name").inner_text() == f": 2 · {shown}1"
    assert page.locator("#plot-selectivity .legend button").nth(1).inner_text() == shown
    assert page.locator(".picker label[data-name]").nth(1).inner_text().strip() == shown
    heads = page.locator(".numbers[data-plot='selectivity'] thead th").all_inner_texts()
    assert heads[2] == shown
    assert page.locator(".gallery thead th").nth(1).inner_text().endswith(shown)
    # Nothing became an element, in the page or in the labels of the plots.
    assert page.locator("body script, main img:not(.gallery img), main b:not(b:empty), main i:not(p > i)").count() == 3
    assert page.evaluate("document.querySelectorAll('[onfocus], [onerror], [autofocus]').length") == 0
    # And the view comes back by these names.
    address = page.evaluate("location.hash")
    again = open_page(page.content() and rendered, address)
    assert again.layer() == "1"
