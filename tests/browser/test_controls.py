"""What a reader chooses is what the plots show, with the report's numbers."""

from __future__ import annotations

import dataclasses

import pytest
from sample_report import large_report, sample_report

from selplug.audits.page.condition_groups import presets
from selplug.audits.page.page import render

LAYERS = 6
MANY = large_report(layers=LAYERS, units=24, examples=2, size=8)
FEW = sample_report(layers=4, units=16)
PAGES: dict[str, str] = {}


@pytest.fixture
def many(open_page):
    """A page of 90 conditions."""
    return open_page(PAGES.setdefault("many", render(MANY)))


@pytest.fixture
def few(open_page):
    """A page of three conditions."""
    return open_page(PAGES.setdefault("few", render(FEW)))


def means(report, place, key="mean"):
    name = report.result.conditions[place].name
    return pytest.approx([layer.conditions[name]["selectivity"][key] for layer in report.result.layers], rel=1e-3)


@pytest.mark.slow
def test_it_opens_with_a_few_conditions_and_their_numbers(many):
    first = presets(MANY)[0].places
    assert 0 in first
    assert len(first) == 8
    assert many.shown() == set(first)
    for trace in many.traces("selectivity"):
        assert trace["y"] == means(MANY, int(trace["group"]), "null" if trace["dash"] else "mean")
    # Among few there is a colour for each.
    colors = [trace["color"] for trace in many.traces("selectivity") if not trace["dash"]]
    assert len(set(colors)) == 8
    assert many.page.locator("#shown-count").inner_text() == "8 of 90"


def test_a_menu(few):
    few.page.get_by_label("Average").select_option("mean_alive")
    few.settle()
    assert few.traces("selectivity")[0]["y"] == means(FEW, 0, "mean_alive")
    few.page.locator("#plot-dimensionality").get_by_label("Measure").select_option("components_90")
    few.settle()
    assert few.traces("dimensionality")[0]["y"] == [5, 6, 7, 8]


def test_buttons_below_a_plot(few):
    button = few.page.locator("#plot-selectivity .legend").get_by_role("button", name="fgsm:eps=8/255")
    assert button.get_attribute("aria-pressed") == "true"
    button.click()
    assert few.shown() == {0, 2}
    assert button.get_attribute("aria-pressed") == "false"
    assert few.shown("dimensionality") == {0, 2}
    assert few.shown("accuracy") == {0, 2}
    few.page.locator("#plot-units .legend").get_by_role("button", name="hide all").click()
    assert few.shown() == set()
    few.page.locator("#plot-units .legend").get_by_role("button", name="show all").click()
    assert few.shown() == {0, 1, 2}


@pytest.mark.slow
def test_presets_filter_and_boxes(many):
    page = many.page
    page.locator(".picker summary").click()
    page.locator("#preset").select_option(label="corruptions, severity 5 (16)")
    severe = {i for i, c in enumerate(MANY.result.conditions) if c.name == "clean" or c.name.endswith("@5")}
    assert many.shown() == severe
    page.locator("#preset").select_option(label="clean images alone (1)")
    page.get_by_label("Filter", exact=True).fill("FOG")
    visible = page.locator(".picker label[data-name]:visible").all_inner_texts()
    assert [text.strip() for text in visible] == [f"fog@{s}" for s in range(1, 6)]
    page.get_by_label("fog@2").check()
    place = [c.name for c in MANY.result.conditions].index("fog@2")
    assert many.shown() == {0, place}
    assert page.locator("#preset").input_value() == "own"
    page.get_by_label("all 5 of fog").check()
    assert many.shown() == {0, *range(place - 1, place + 4)}
    assert page.locator("#plot-selectivity .legend [data-place]").count() == 6


@pytest.mark.slow
def test_the_layer_picker_leads_spectrum_units_and_values(many):
    def check(index: int) -> None:
        layer = MANY.result.layers[index]
        assert many.layer() == str(index)
        units = next(trace for trace in many.traces("units") if trace["group"] == "0" and not trace["dash"])
        assert units["y"] == pytest.approx(sorted(layer.arrays["clean", "selectivity"], reverse=True), abs=1e-3)
        points = next(trace for trace in many.traces("spectrum") if trace["group"] == "0")
        assert max(points["y"]) == pytest.approx(layer.arrays["clean", "eigenvalues"].max(), rel=1e-2)
        row = many.page.locator("#layer-values tr", has_text="Class selectivity: mean over all units").first
        assert float(row.locator("td").first.inner_text()) == pytest.approx(
            layer.conditions["clean"]["selectivity"]["mean"], rel=1e-3
        )
        assert layer.name in many.page.locator("#layer-name").inner_text()

    page = many.page
    check(0)
    assert page.get_by_label("previous layer").is_disabled()
    page.locator("#layer-picker").select_option("3")
    check(3)
    page.get_by_label("next layer").click()
    check(4)
    page.get_by_label("previous layer").click()
    page.get_by_label("previous layer").click()
    check(2)


@pytest.mark.slow
def test_a_click_on_the_map_chooses_layer_and_condition(many):
    page = many.page
    canvas = page.locator(".canvas[data-plot='overview']")
    canvas.scroll_into_view_if_needed()
    z = many.traces("overview")[0]["z"]
    assert z[7] == pytest.approx(means(MANY, 7).expected, rel=1e-2)

    def spot() -> list[float]:
        return canvas.evaluate(
            """(plot) => {
                const {xaxis, yaxis} = plot._fullLayout, box = plot.getBoundingClientRect();
                return [box.left + xaxis._offset + xaxis.c2p(2), box.top + yaxis._offset + yaxis.c2p(20)];
            }"""
        )

    assert 20 not in many.shown()
    # Below the controls, which stay at the top.
    page.evaluate("(y) => scrollBy({top: y - 450, behavior: 'instant'})", spot()[1])
    many.settle()
    many.until(lambda: abs(spot()[1] - 450) < 1, True)
    x, y = spot()
    page.mouse.move(x + 3, y + 2)
    canvas.locator(".hovertext").first.wait_for()
    page.mouse.click(x, y)
    assert 20 in many.shown()
    assert many.layer() == "2"
    assert "layer" in page.locator("#status").inner_text()


@pytest.mark.slow
def test_the_map_shows_changes_from_clean(many):
    page = many.page
    page.locator("#plot-overview").get_by_label("Show", exact=True).select_option("change")
    z = many.traces("overview")[0]["z"]
    clean, other = (
        [layer.conditions[MANY.result.conditions[i].name]["selectivity"]["mean"] for layer in MANY.result.layers]
        for i in (0, 7)
    )
    assert z[0] == [0] * LAYERS
    assert z[7] == pytest.approx([b - a for a, b in zip(clean, other, strict=True)], rel=1e-2)


@pytest.mark.slow
def test_a_view_comes_back_from_its_address(many, open_page):
    page = many.page
    page.locator(".picker summary").click()
    page.locator("#preset").select_option(label="noise (6)")
    page.locator("#layer-picker").select_option("5")
    page.get_by_label("Average").select_option("mean_alive")
    page.locator("nav").get_by_role("link", name="One layer").click()
    many.settle()
    address = page.evaluate("location.hash")
    assert address.startswith("#layer?")
    again = open_page(PAGES["many"], address)
    assert again.shown() == many.shown() == {0, 85, 86, 87, 88, 89}
    assert again.layer() == "5"
    assert again.traces("selectivity")[0]["y"] == means(MANY, 0, "mean_alive")
    box = again.page.locator("#layer").bounding_box()
    assert -10 <= box["y"] < 200


@pytest.mark.slow
@pytest.mark.parametrize(
    "address", ["#?layer=none&conditions=&condition=no&preset=x", "#x?%ff&selectivity-1=q", "#nowhere"]
)
def test_an_address_of_another_report_does_no_harm(open_page, address):
    opened = open_page(PAGES.setdefault("few", render(FEW)), address)
    assert opened.layer() == "0"
    assert opened.traces("selectivity") is not None


@pytest.mark.slow
def test_sorting_a_table(few):
    page = few.page
    head = page.locator("#layers thead th", has_text="dead")
    first = page.locator("#layers tbody tr th").first
    assert first.inner_text() == "layer0.act"
    for state, name in (("ascending", "layer0.act"), ("descending", "layer3.act"), (None, "layer0.act")):
        head.get_by_role("button").click()
        assert head.get_attribute("aria-sort") == state
        assert first.inner_text() == name


@pytest.mark.slow
def test_numbers_of_every_plot_as_a_table(few):
    page = few.page
    for details in page.locator("details.numbers").all():
        details.locator("summary").click()
        details.locator("table").wait_for()
    for plot in ("accuracy", "selectivity", "dimensionality", "exponent", "spectrum", "units", "overview"):
        assert page.locator(f".numbers[data-plot='{plot}'] tbody tr").count() > 0, plot
    cells = page.locator(".numbers[data-plot='accuracy'] tr").nth(1).locator("th, td").all_inner_texts()
    assert cells == ["clean", "80 (75 to 85)"]
    row = page.locator(".numbers[data-plot='selectivity'] tr").nth(2).locator("th, td").all_inner_texts()
    assert row == ["2 · layer1.act", *["0.25"] * 3, *["0.04"] * 3]


@pytest.mark.slow
def test_images_of_a_sample_under_the_chosen_conditions(few):
    page = few.page
    assert page.locator(".gallery img:visible").count() == 4 + 2 * 2 * 4
    page.get_by_label("Samples").select_option("2")
    assert page.locator(".gallery img:visible").count() == 1 + 2 * 2
    page.locator("#plot-selectivity .legend").get_by_role("button", name="clean").click()
    page.locator("#plot-selectivity .legend").get_by_role("button", name="fgsm:eps=8/255").click()
    # The clean image stays beside the others.
    assert page.locator(".gallery tbody tr:visible").count() == 2


@pytest.mark.slow
def test_definitions_open_in_place(few):
    page = few.page
    link = page.locator("#selectivity").get_by_role("link", name="how it is defined")
    link.click()
    dialog = page.get_by_role("dialog")
    assert dialog.get_by_text("Morcos").count() > 0
    page.keyboard.press("Escape")
    assert dialog.count() == 0
    assert link.evaluate("(link) => document.activeElement === link")


@pytest.mark.slow
def test_one_condition_and_one_layer(open_page):
    report = sample_report(layers=1, names=("clean",))
    result = dataclasses.replace(report.result, worst_case=None)
    opened = open_page(render(dataclasses.replace(report, result=result)))
    assert len(opened.traces("selectivity")) == 2
    assert opened.page.locator("#layer-picker, .picker").count() == 0
    assert opened.page.locator("#layer-values tbody tr").count() > 5
