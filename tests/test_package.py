"""What another project finds: names to import, type hints, and a wheel with all of it."""

from __future__ import annotations

import importlib
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

import selplug

ROOT = Path(__file__).parent.parent

PROJECT = """
import torch
from torch import nn

import selplug
from selplug.core.types import Perturb
from selplug_timm.subject import load


def darker(model: nn.Module, *, factor: float = 0.5) -> Perturb:
    return lambda images, labels: factor * images


def run(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> list[float]:
    loader = [(images, labels)]
    report: selplug.Report = selplug.audit(model, loader, ["gaussian-noise:std=0.1"], progress=False)
    report.save("somewhere")
    read = selplug.read("somewhere", selplug.Report)
    reveal_type(read)
    explanation = selplug.explain(model, images, ["saliency"], target=0, labels=labels)
    between = selplug.similarity(model, model, loader)
    compared = selplug.compare({"a": read, "b": report})
    shown = [each.summary() + repr(each.to_dict()) for each in (read, explanation, between, compared)]
    worst = report.worst_case.accuracy if report.worst_case else 1.0
    subject: selplug.Subject = load("resnet18", {})
    return [worst, len(shown), *(condition.accuracy for condition in report.conditions)]


try:
    selplug.audit(7, [])  # wrong
except selplug.SelplugError:
    pass
"""


def test_dir_lists_what_can_be_imported():
    assert dir(selplug) == sorted(selplug.__all__)
    for name in dir(selplug):
        assert getattr(selplug, name) is not None
        assert name == "__version__" or not name.startswith("_")
    assert {"explain", "read", "Explanation", "Comparison", "SimilarityReport", "Report"} <= set(dir(selplug))
    assert not {"TYPE_CHECKING", "Any", "annotations"} & set(dir(selplug))
    with pytest.raises(AttributeError, match="module 'selplug' has no attribute 'nothing'"):
        selplug.nothing  # noqa: B018


def test_every_home_is_right():
    for name, module in selplug._HOMES.items():
        assert hasattr(importlib.import_module(module, "selplug"), name)
    assert set(selplug._HOMES) == set(selplug.__all__) - {"__version__"}


def test_the_wheel_holds_schemas_and_type_marks():
    wheel = pytest.importorskip("hatchling.builders.wheel")
    files = {each.distribution_path for each in wheel.WheelBuilder(str(ROOT)).recurse_included_files()}
    packages = ["selplug", *(path.name for path in (ROOT / "plugins").iterdir() if (path / "__init__.py").is_file())]
    assert len(packages) == 5
    assert {f"{package}/py.typed" for package in packages} <= files
    schemas = {path.relative_to(ROOT).as_posix() for path in (ROOT / "selplug").rglob("*.schema.json")}
    assert len(schemas) >= 4
    assert schemas <= files


@pytest.mark.slow
def test_a_second_project_is_checked_against_the_hints(tmp_path):
    pytest.importorskip("mypy")
    pytest.importorskip("timm")
    # An environment of its own that finds the packages as if they were installed: mypy then asks for py.typed.
    home = tmp_path / "env"
    venv.create(home, with_pip=False)
    python = home / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    where = [ROOT, ROOT / "plugins", sysconfig.get_paths()["purelib"]]
    site = subprocess.run(  # noqa: S603
        [python, "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])"],
        capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    (Path(site) / "there.pth").write_text("\n".join(map(str, where)))
    (tmp_path / "project.py").write_text(PROJECT)
    options = ["--strict", "--python-executable", str(python), "--cache-dir", str(tmp_path / "cache"), "project.py"]
    environment = {"PATH": str(python.parent), "HOME": str(tmp_path), "SYSTEMROOT": ""}
    found = subprocess.run(  # noqa: S603
        [sys.executable, "-m", "mypy", *options], cwd=tmp_path, env=environment, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    lines = found.stdout.splitlines()
    wrong = PROJECT.splitlines().index("    selplug.audit(7, [])  # wrong") + 1
    errors = [line for line in lines if ": error:" in line]
    assert len(errors) == 1, found.stdout + found.stderr
    assert errors[0].startswith(f"project.py:{wrong}: ")
    assert 'Argument 1 to "audit"' in errors[0]
    assert any("Revealed type" in line and "selplug.audits.report.Report" in line for line in lines)
