"""``selplug compare`` as a user meets it: files, labels, and what mistakes lead to."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from sample_comparison import family, trained_report

from selplug.audits.files import write_json
from selplug.cli import main


@pytest.fixture(scope="module")
def audits(tmp_path_factory) -> Path:
    """Twelve folders with a ``report.json``; one has a page."""
    root = tmp_path_factory.mktemp("audits")
    for name, report in family().items():
        (root / name).mkdir()
        write_json(report, root / name)
    (root / "adv-s0" / "report.html").write_text("a page")
    return root


@pytest.fixture
def compare(tmp_path):
    """``compare(*arguments)`` -> exit code; the files go below ``tmp_path / "out"``."""

    def call(*arguments: object) -> int:
        line = ["compare", *map(str, arguments), "--output", str(tmp_path / "out"), "--resamples", "100"]
        with pytest.raises(SystemExit) as stop:
            main(line)
        return int(stop.value.code or 0)

    return call


def result(tmp_path) -> dict:
    return json.loads((tmp_path / "out" / "comparison.json").read_text())


def test_folders_and_files(compare, audits, tmp_path, capsys):
    folders = sorted(audits.iterdir())
    assert compare(*folders[:-1], folders[-1] / "report.json") == 0
    shown = capsys.readouterr().out
    assert "12 networks in 4 groups" in shown
    assert "compare.html" in shown
    found = result(tmp_path)
    assert [network["name"] for network in found["networks"]] == [folder.name for folder in folders]
    assert found["settings"]["command"][:2] == ["selplug", "compare"]
    supported = [claim["id"] for claim in found["claims"] if claim["verdict"] == "supported"]
    assert {"dimensionality-gain", "robust-blocks"} <= set(supported)
    for network in found["networks"]:
        assert len(network["report"]["sha256"]) == 64
        assert network["report"]["file"].endswith("/report.json")
        assert not network["report"]["file"].startswith("/")
    page = (tmp_path / "out" / "compare.html").read_text()
    assert page.count("adv-s0/report.html") == 1
    assert "adv-s1/report.html" not in page


def test_labels(compare, audits, tmp_path):
    seeds = [f"low={audits / f'alpha-1-s{s}'}" for s in range(3)]
    assert compare(*seeds, f"plain={audits / 'alpha+0-s0'}", "--quiet") == 0
    found = result(tmp_path)
    assert [group["name"] for group in found["groups"]] == ["low", "plain"]
    assert [network["name"] for network in found["networks"]][:2] == ["low alpha-1-s0", "low alpha-1-s1"]


def test_a_path_with_an_equals_sign_is_no_label(compare, audits, tmp_path):
    shutil.copytree(audits / "adv-s0", tmp_path / "lr=0.1")
    assert compare(tmp_path / "lr=0.1", audits / "adv-s1", "--quiet") == 0
    assert result(tmp_path)["networks"][0]["name"] == "lr=0.1"


def test_folders_of_the_same_name_are_told_apart(compare, audits, tmp_path):
    for run, name in (("x", "adv-s0"), ("y", "adv-s1")):
        shutil.copytree(audits / name, tmp_path / run / "report")
    assert compare(tmp_path / "x" / "report", tmp_path / "y" / "report", "--quiet") == 0
    assert [network["name"] for network in result(tmp_path)["networks"]] == ["x/report", "y/report"]


def test_json_for_programs(compare, audits, tmp_path, capsys):
    assert compare(audits / "adv-s0", audits / "adv-s1", "--json", "-") == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out) == result(tmp_path)
    assert "2 networks" in captured.err
    assert compare(audits / "adv-s0", audits / "adv-s1", "--json", tmp_path / "own.json", "--quiet") == 0
    assert json.loads((tmp_path / "own.json").read_text()) == result(tmp_path)
    assert not capsys.readouterr().out


def test_the_same_comparison_whatever_comes_first(compare, audits, tmp_path):
    names = [audits / f"alpha{a}-s{s}" for a in ("-1", "+0", "+1") for s in range(2)]
    assert compare(*names, "--quiet") == 0
    first = result(tmp_path)["groups"]
    assert compare(*names[::-1], "--quiet") == 0
    for one, other in zip(first, result(tmp_path)["groups"], strict=True):
        assert one["name"] == other["name"]
        assert one["values"]["selectivity"]["mean"] == pytest.approx(other["values"]["selectivity"]["mean"])


def test_left_out(compare, audits, tmp_path, capsys):
    (tmp_path / "odd").mkdir()
    write_json(trained_report(digest="e" * 64), tmp_path / "odd")
    given = [tmp_path / "odd", audits / "adv-s0", audits / "adv-s1"]
    assert compare(*given) == 2
    error = capsys.readouterr().err
    assert "1 of 3 reports cannot be compared" in error
    assert "digest eeeeeeeeeeee" in error
    assert "--leave-out" in error
    assert not (tmp_path / "out").exists()
    assert compare(*given, "--leave-out") == 0
    assert "left out: odd" in " ".join(capsys.readouterr().out.split())
    assert [one["name"] for one in result(tmp_path)["left_out"]] == ["odd"]
    assert "digest eeeeeeeeeeee" in (tmp_path / "out" / "compare.html").read_text()


def test_a_protocol_and_audits_of_training_images(compare, audits, tmp_path, capsys):
    (tmp_path / "plan.yaml").write_text("claims: [robust-blocks]\nalphas: [0]\n")
    write_json(trained_report(adversarial="ffgsm:eps=4/255", digest="e" * 64), tmp_path)
    extra = ("--protocol", tmp_path / "plan.yaml", "--train-set", tmp_path / "report.json")
    assert compare(*sorted(audits.iterdir()), *extra) == 0
    shown = " ".join(capsys.readouterr().out.split())
    found = result(tmp_path)
    assert f"SHA-256 {found['protocol']['sha256']}" in shown
    assert "training images (split not told) were audited of 1 of 12 networks" in shown
    assert [claim["id"] for claim in found["claims"] if claim["in_protocol"]] == ["robust-blocks"]
    assert sum(network["train_gap"] is not None for network in found["networks"]) == 1
    (tmp_path / "plan.yaml").write_text("claims: [robust-bloks]\n")
    assert compare(*sorted(audits.iterdir()), *extra) == 2
    assert "unknown claim robust-bloks; did you mean robust-blocks" in " ".join(capsys.readouterr().err.split())
    assert compare(*sorted(audits.iterdir()), "--train-set", audits / "adv-s0") == 2
    assert "is of the same samples as" in " ".join(capsys.readouterr().err.split())


def newer(path: Path) -> None:
    path.write_text('{"schema_version": "9.0"}')


def similarity(path: Path) -> None:
    path.write_text('{"schema_version": "1.0", "subjects": {}, "maps": []}')


def broken(path: Path) -> None:
    path.write_text('{"schema_version": "1.')


@pytest.mark.parametrize("write", [newer, similarity, broken])
def test_files_that_are_no_reports(compare, audits, tmp_path, capsys, write):
    write(tmp_path / "bad.json")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "comparison.json").write_text("older")
    assert compare(audits / "adv-s0", tmp_path / "bad.json") == 2
    assert "bad.json" in capsys.readouterr().err
    assert (tmp_path / "out" / "comparison.json").read_text() == "older"


def test_bad_arguments(compare, audits, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    one = audits / "adv-s0"
    for arguments, message in (
        ((one,), "at least two reports"),
        ((one, one), "are one report"),
        ((one, tmp_path / "empty"), "report.json"),
        ((one, tmp_path / "nowhere"), "nowhere"),
        ((f"x={one}", f"x={audits / 'alpha+1-s0'}"), "the label x is given to"),
        ((one, audits / "adv-s1", "--robust", "nobody"), "--robust nobody matches no report"),
    ):
        assert compare(*arguments) == 2, arguments
        assert message in " ".join(capsys.readouterr().err.split()), arguments
        assert not (tmp_path / "out").exists()


def test_an_output_that_cannot_be_written(audits, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit) as stop:
        main(["compare", str(audits / "adv-s0"), str(audits / "adv-s1"), "--output", str(tmp_path / "file" / "out")])
    assert stop.value.code == 2
    assert "cannot write" in capsys.readouterr().err
