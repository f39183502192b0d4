"""What was fixed beforehand: read, checked, applied, and told."""

from __future__ import annotations

import hashlib
import json
import sys

import pytest
from sample_comparison import steps

from selplug.comparisons.api import compare
from selplug.comparisons.claims import CLAIMS
from selplug.comparisons.protocol import read_protocol
from selplug.comparisons.verdicts import NOT_ENOUGH, SUPPORTED
from selplug.core.errors import InputError

CLAIM = "selectivity-dimensionality"


def of(comparison, claim_id):
    return next(judged for judged in comparison.claims if judged.claim.id == claim_id)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("p.yaml", f"claims: [{CLAIM}]\nalphas: [-1, 0, 1.5]\nnote: beforehand\n"),
        ("p.json", json.dumps({"claims": [CLAIM], "alphas": [-1, 0, 1.5], "note": "beforehand"})),
        pytest.param(
            "p.toml",
            f'claims = ["{CLAIM}"]\nalphas = [-1, 0, 1.5]\nnote = "beforehand"\n',
            marks=pytest.mark.skipif(sys.version_info < (3, 11), reason="no tomllib"),
        ),
    ],
)
def test_three_kinds_of_files(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    found = read_protocol(tmp_path / name)
    assert (found.claims, found.alphas, found.conditions) == ((CLAIM,), (-1, 0, 1.5), None)
    assert (found.note, found.file) == ("beforehand", name)
    assert found.sha256 == hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"claims": ["selectivity-dimensionalty"]},
            "unknown claim selectivity-dimensionalty; did you mean selectivity-dim",
        ),
        (3, "expected a file or a mapping of entries, got int"),
        ({"claims": ["xyz"]}, "unknown claim xyz; expected selectivity-corruptions"),
        ({"claim": [CLAIM]}, "expected entries such as 'claims:"),
        ({"claims": [CLAIM], "alpha": [0]}, "unknown entry alpha; did you mean alphas"),
        ({"claims": []}, "at least one claim"),
        ({"claims": CLAIM}, "claims: expected a list of names, got 'sel"),
        ({"claims": [CLAIM, CLAIM]}, "is there twice"),
        ({"claims": [CLAIM], "alphas": ["0"]}, "alphas: expected a list of numbers"),
        ({"claims": [CLAIM], "alphas": [float("nan")]}, "alphas: expected a list of numbers"),
        ({"claims": [CLAIM], "conditions": [3]}, "conditions: expected a list of names"),
    ],
)
def test_bad_entries(given, message):
    with pytest.raises(InputError, match=message):
        read_protocol(given)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("none.yaml", None, "cannot read .*none.yaml"),
        ("p.yaml", "claims: [", "no YAML or JSON"),
        ("p.yaml", "- a", "expected entries such as 'claims:.*got list"),
        ("p.toml", "claims = ", "no TOML|TOML needs"),
    ],
)
def test_bad_files(tmp_path, name, text, message):
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=message):
        read_protocol(tmp_path / name)


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("fgms:eps=1/255", "unknown condition fgms:eps=1/255; did you mean fgsm:eps=1/255"),
        ("qqqq@3", "unknown condition qqqq; expected "),
    ],
)
def test_a_condition_that_nothing_could_make(condition, message):
    with pytest.raises(InputError, match=message):
        compare(steps(5, 1), protocol={"claims": [CLAIM], "conditions": [condition]})


def test_only_what_was_planned_weighs_on_a_verdict():
    reports = steps(5, 3)
    free, planned = compare(reports), compare(reports, protocol={"claims": [CLAIM]})
    assert of(free, CLAIM).verdict != SUPPORTED  # 2 / 120 among all the others
    found = of(planned, CLAIM)
    assert (found.verdict, found.tests, found.in_protocol) == (SUPPORTED, 1, True)
    assert found.p_adjusted == found.p == of(free, CLAIM).p
    for judged in planned.claims:
        if judged.claim.id == CLAIM:
            continue
        assert judged.in_protocol is False
        # Those that were added later are adjusted for all, as without a protocol.
        assert judged.p_adjusted == of(free, judged.claim.id).p_adjusted
        assert judged.verdict == of(free, judged.claim.id).verdict


def test_alphas_and_conditions():
    reports = steps(7, 3)
    protocol = {
        "claims": ["selectivity-attacks", "selectivity-corruptions", CLAIM],
        "alphas": [-2, -1, 0, 1, 2, 9],
        "conditions": ["fgsm:eps=4/255", "snow@*", "pgd:eps=4/255"],
    }
    found = compare(reports, protocol=protocol)
    assert (of(found, CLAIM).estimate.configurations, of(found, CLAIM).estimate.n) == (5, 15)
    assert of(found, "selectivity-gradients-units").estimate.n == 21  # beyond the protocol, and so on all networks
    told = found.protocol
    assert told["missing"] == ["condition pgd:eps=4/255", "alpha 9"]
    beyond = told["not_in_protocol"]
    assert beyond["networks"] == [f"alpha{a}-s{s}" for a in (0, 6) for s in range(3)]
    assert "fog@1" in beyond["conditions"]
    assert not {"clean", "fgsm:eps=4/255", "snow@1"} & set(beyond["conditions"])
    assert beyond["claims"] == [claim.id for claim in CLAIMS if claim.id not in protocol["claims"]]
    # The statistic is that of the planned conditions alone.
    alone = {name: report for name, report in reports.items() if not name.startswith(("alpha0", "alpha6"))}
    narrow = compare(alone, protocol={**protocol, "alphas": None})
    assert of(found, "selectivity-attacks").estimate == of(narrow, "selectivity-attacks").estimate
    none = compare(reports, protocol={"claims": ["selectivity-attacks"], "conditions": ["fog@1"]})
    assert of(none, "selectivity-attacks").verdict == NOT_ENOUGH


def test_it_is_told_everywhere(tmp_path):
    (tmp_path / "plan.yaml").write_text(f"claims: [{CLAIM}]\nalphas: [-1, 0, 1, 7]\nnote: <b>first</b>\n")
    found = compare(steps(3, 2), protocol=tmp_path / "plan.yaml")
    saved = found.save(tmp_path / "out")
    data = json.loads((saved / "comparison.json").read_text())
    assert data["protocol"]["sha256"] == read_protocol(tmp_path / "plan.yaml").sha256
    page = (saved / "compare.html").read_text()
    summary = " ".join(found.summary().split())
    for text in (data["protocol"]["sha256"], "in the protocol, but missing: alpha 7", "not in the protocol: claims"):
        assert text in page
        assert text in summary
    assert "&lt;b&gt;first" in page
    assert "(not in the protocol)" in summary
    assert compare(steps(3, 2)).to_dict()["protocol"] is None
