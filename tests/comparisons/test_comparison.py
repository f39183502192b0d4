"""The result of a comparison: its files, its numbers in them, its page, and what cannot be compared."""

from __future__ import annotations

import csv
import dataclasses
import json
import re
from importlib.resources import files

import numpy as np
import pytest
from sample_comparison import family, steps, trained_report, with_settings, with_subject

import selplug
from selplug.comparisons.figures import depth_plots, linking_plots, sweep_plots
from selplug.comparisons.map_figures import MAX_MAPS, map_plots
from selplug.core.errors import InputError, ReportError

RESAMPLES = 200
FILES = {"compare.html", "comparison.json", "comparison.csv", "claims.csv"}


@pytest.fixture(scope="module")
def comparison():
    return selplug.compare(family(), resamples=RESAMPLES)


@pytest.fixture(scope="module")
def saved(comparison, tmp_path_factory):
    return comparison.save(tmp_path_factory.mktemp("comparison") / "out")


def rows(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_groups_are_means_over_seeds(comparison):
    assert [group.name for group in comparison.groups] == [
        "alpha -1",
        "alpha 0",
        "alpha +1",
        "alpha 0, adversarial ffgsm:eps=4/255",
    ]
    for group in comparison.groups:
        values = [network.value("clean_accuracy") for network in group.networks]
        estimate = group.values["clean_accuracy"]
        assert estimate.value == pytest.approx(np.mean(values))
        assert estimate.n == 3
        spread = np.std(values, ddof=1) / np.sqrt(3)
        assert estimate.ci95 == pytest.approx((np.mean(values) - 4.3027 * spread, np.mean(values) + 4.3027 * spread))
        means = [np.mean([n.measured.curves["dimensionality"][place] for n in group.networks]) for place in range(6)]
        np.testing.assert_allclose(group.curves["dimensionality"][0], means)


def test_one_network_has_no_interval():
    found = selplug.compare([trained_report(), trained_report(alpha=1)], resamples=RESAMPLES)
    assert {group.values["selectivity"].ci95 for group in found.groups} == {None}
    assert not found.correlations


def test_correlations_are_listed_with_intervals(comparison):
    found = {(one.x, one.y): one.estimate for one in comparison.correlations}
    assert found["selectivity", "corruption_accuracy"].value < -0.7
    assert found["selectivity", "adversarial_accuracy"].n == 9
    assert found["selectivity", "adversarial_accuracy"].configurations == 3
    assert found["selectivity", "adversarial_accuracy"].p == pytest.approx(1 / 3)  # 3 in order, either way
    assert all(one.ci95 is not None for one in found.values())


def test_files_and_their_schema(saved, comparison):
    jsonschema = pytest.importorskip("jsonschema")
    assert {path.name for path in saved.iterdir()} == FILES
    data = json.loads((saved / "comparison.json").read_text())
    schema = json.loads(files("selplug.comparisons").joinpath("comparison.schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(data, schema)
    assert data == comparison.to_dict()
    assert len(data["networks"]) == 12
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(data | {"claims": [{}]}, schema)


def test_tables_hold_the_same_numbers(saved, comparison):
    found = rows(saved / "comparison.csv")
    for row, network in zip(found, comparison.networks, strict=True):
        assert row["name"] == network.name
        assert float(row["selectivity"]) == network.value("selectivity")
        assert float(row["accuracy|fog@1"]) == network.measured.accuracies["fog@1"]
    claims = rows(saved / "claims.csv")
    assert [row["verdict"] for row in claims] == [judged.verdict for judged in comparison.claims]
    assert [row["p_adjusted"] for row in claims] == [
        "" if judged.p_adjusted is None else str(judged.p_adjusted) for judged in comparison.claims
    ]
    gain = next(row for row in claims if row["id"] == "dimensionality-gain")
    found = next(judged for judged in comparison.claims if judged.claim.id == "dimensionality-gain")
    assert float(gain["ci95_low"]) == found.estimate.ci95[0]
    assert (gain["configurations"], gain["n"]) == ("3", "9")
    assert gain["parts"].startswith("participation ratio, one-step attacks: 0.1")
    assert next(row for row in claims if row["id"] == "robust-overfitting")["value"] == ""
    pandas = pytest.importorskip("pandas")
    frame = comparison.frame()
    assert isinstance(frame, pandas.DataFrame)
    assert frame.loc["adv-s1", "block_score"] == pytest.approx(0.11)


def test_same_reports_same_bytes(saved, tmp_path):
    again = selplug.compare(family(), resamples=RESAMPLES).save(tmp_path)
    for name in FILES:
        assert (again / name).read_bytes() == (saved / name).read_bytes()
    # So few configurations are permuted in all ways: the seed decides nothing.
    other = selplug.compare(family(), resamples=RESAMPLES, seed=1)
    assert [judged.p for judged in other.claims] == [
        claim["p"] for claim in json.loads((saved / "comparison.json").read_text())["claims"]
    ]


def test_the_page_shows_claims_plots_and_notes(saved, comparison):
    page = (saved / "compare.html").read_text()
    verdicts = [judged.verdict for judged in comparison.claims]
    assert page.count('class="verdict yes"') == verdicts.count("supported") > 0
    assert page.count('class="verdict unknown"') == verdicts.count("not enough data") > 0
    line = f"not enough data for {verdicts.count('not enough data')} of {len(verdicts)} claims"
    assert page.count(line) == 1
    assert comparison.summary().count(line) == 1
    judged = next(judged for judged in comparison.claims if judged.claim.id == "robust-blocks")
    assert f'<td class="number">{judged.estimate.ci95[0]:.3f} to {judged.estimate.ci95[1]:.3f}</td>' in page
    assert "--flatten does not" in page
    for part in ("Claims of the papers", 'id="plot-link-corruptions"', 'id="plot-depth-gain"', 'id="plot-sweep-fgsm"'):
        assert part in page
    assert page.count('id="plot-map-') == 4
    assert set(re.findall(r'href="https://arxiv.org/abs/([^"]*)"', page)) == {
        "2010.07693",
        "2007.04440",
        "2206.09868",
        "2007.02047",
    }
    assert "https://" not in re.sub(r'href="https://arxiv.org[^"]*"', "", page.partition("<script")[0])


def test_what_names_hold_is_only_text(tmp_path):
    evil = '=cmd()"><script>alert(1)</script>'
    reports = {evil: trained_report(told=False), "+b": trained_report(told=False), "c": trained_report()}
    saved = selplug.compare(reports, resamples=RESAMPLES).save(tmp_path)
    page = (saved / "compare.html").read_text()
    assert "<script>alert" not in page
    assert "=cmd()&#34;&gt;&lt;script&gt;" in page
    names = [row["name"] for row in rows(saved / "comparison.csv")]
    assert names == [f"'{evil}", "'+b", "c"]
    assert "'-" not in (saved / "claims.csv").read_text()  # numbers below 0 stay numbers


def test_figures_have_a_trace_per_group_and_the_values_as_given(comparison):
    link = linking_plots(comparison)[0]
    assert [menu.label for menu in link.menus] == ["Across", "Up"]
    base = link.data["base"]
    first = base["data"][0]
    low = [network for network in comparison.networks if network.training.group == "alpha -1"]
    assert first["x"] == [network.value("selectivity") for network in low]
    assert first["y"] == pytest.approx([100 * network.value("corruption_accuracy") for network in low])
    assert {trace["legendgroup"] for trace in base["data"]} == {"0", "1", "2", "3"}
    assert base["data"][6]["marker"]["symbol"] == ["diamond"] * 3
    gain = depth_plots(comparison)[1].data["base"]["data"]
    assert len(gain) == 4
    assert gain[0]["y"][0] == pytest.approx(np.mean([n.measured.curves["gain_difference"][0] for n in low]))
    assert [plot.id for plot in sweep_plots(comparison)] == ["sweep-noise", "sweep-fgsm"]
    assert len(map_plots(comparison)) == 4


def test_networks_with_other_layers_share_an_axis_of_depth():
    found = selplug.compare(
        [trained_report(), trained_report(layers=11, flags={"model": "other"})], resamples=RESAMPLES
    )
    (short, long) = depth_plots(found)[0].data["base"]["data"]
    assert (short["x"][0], short["x"][-1], len(short["x"])) == (0, 1, 6)
    assert (long["x"][0], long["x"][-1], len(long["x"])) == (0, 1, 11)
    assert any("depth is shown as a share" in note for note in found.notes)


def test_sixty_networks(tmp_path):
    reports = [
        trained_report(alpha=float(a), seed=s, selectivity=0.2 + a / 99 + s / 999, flags={"lr": lr})
        for a in range(5)
        for s in range(6)
        for lr in (0.1, 0.2)
    ]
    found = selplug.compare(reports, resamples=RESAMPLES)
    assert len(found.groups) == 10
    assert len({network.training.family for network in found.networks}) == 2
    alone = selplug.compare({f"n{i}": trained_report(told=False) for i in range(60)}, resamples=100)
    assert len(alone.groups) == 60
    assert len(map_plots(alone)) == MAX_MAPS
    assert (alone.save(tmp_path) / "compare.html").stat().st_size < 15e6


def test_few_measures_and_no_perturbation(tmp_path):
    def bare(report):
        layers = tuple(
            dataclasses.replace(layer, conditions={"clean": {"selectivity": layer.conditions["clean"]["selectivity"]}})
            for layer in report.result.layers
        )
        result = dataclasses.replace(
            report.result, layers=layers, conditions=report.result.conditions[:1], worst_case=None, between_layers={}
        )
        return dataclasses.replace(with_settings(report, perturbations=[], measures=["selectivity"]), result=result)

    found = selplug.compare([bare(trained_report()), bare(trained_report(seed=1))], resamples=RESAMPLES)
    assert {judged.verdict for judged in found.claims} == {"not enough data"}
    page = (found.save(tmp_path) / "compare.html").read_text()
    assert "Not measured: audit with --measure cka" in page
    assert "2 networks in 1 group" in found.summary()


def test_reports_that_do_not_fit_are_an_error_that_names_them():
    reports = {"a": trained_report(), "b": trained_report(seed=1), "odd": trained_report(digest="e" * 64)}
    with pytest.raises(InputError, match=r"1 of 3 reports cannot be compared(?s:.*)odd: samples: 500, digest eeee"):
        selplug.compare(reports, resamples=RESAMPLES)
    found = selplug.compare(reports, leave_out=True, resamples=RESAMPLES)
    assert [network.name for network in found.networks] == ["a", "b"]
    assert found.to_dict()["left_out"][0]["name"] == "odd"
    assert "left out: odd" in found.summary()
    del reports["b"]
    with pytest.raises(InputError, match="at least two reports that can be compared, got 1 of 2"):
        selplug.compare(reports, leave_out=True, resamples=RESAMPLES)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "at least two reports to compare, got 0"),
        ([trained_report()], "at least two reports to compare, got 1"),
        (trained_report(), "a list or a mapping of reports, got Report"),
        ("a-folder", "a list or a mapping of reports, got str"),
        ([trained_report(), 7], "expected a Report or a path, got int"),
        ({"low": [trained_report(), trained_report(alpha=1)]}, "the label low is given to"),
    ],
)
def test_what_cannot_be_compared_at_all(given, message):
    with pytest.raises(InputError, match=message):
        selplug.compare(given)


def test_bad_numbers_of_the_permutations():
    for options in ({"resamples": 0}, {"seed": -1}):
        with pytest.raises(InputError, match="at least 1 resample and a seed >= 0"):
            selplug.compare([trained_report(), trained_report(seed=1)], **options)


def test_what_json_cannot_hold_leaves_no_file(tmp_path):
    odd = with_subject(trained_report(), checkpoint={"file": object(), "sha256": None})
    found = selplug.compare([odd, trained_report(seed=1)], resamples=RESAMPLES)
    with pytest.raises(ReportError, match=r"comparison\.json"):
        found.save(tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_narrow_terminal_keeps_claims_and_verdicts():
    from rich.console import Console

    console = Console(width=80, color_system=None)
    with console.capture() as capture:
        selplug.compare(steps(), resamples=RESAMPLES).print_to(console)
    text = capture.get()
    assert "selectivity are" in text
    assert re.search(r"claim +number +95 % interval +adjusted p +networks +verdict", text)
    assert max(map(len, text.splitlines())) <= 80
