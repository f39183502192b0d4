"""The examples run: an audit from Python, and a plugin installed from its own project."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest

from selplug import registry

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).parents[1] / "examples"
SHARED = Path(os.environ.get("SELPLUG_DATA") or Path(__file__).parents[2] / "shared" / "data")
ARCHIVE, WEIGHTS = SHARED / "cifar10-jpeg.tar.xz", SHARED / "resnet20-12fca82f.th"

AUDIT = """
import sys
import numpy as np, torch
from torch import nn
import selplug
from selplug.core.perturb import batch_seed

torch.manual_seed(0)
images, labels = torch.rand(40, 3, 12, 12), torch.arange(40) % 4
model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4))
report = selplug.audit(
    model,
    [(images[:25], labels[:25]), (images[25:], labels[25:])],
    perturbations=["occlusion:size=4"],
    measures=["selectivity", "dimensionality", "sparsity"],
    seed=3,
    progress=False,
)
report.save(sys.argv[1])

# The same once more, step by step: what the units say to clean and to occluded images.
occluded = images.clone()
for batch, rows in enumerate([range(25), range(25, 40)]):
    torch.manual_seed(batch_seed(3, batch))
    tops, lefts = torch.randint(9, (len(rows),)), torch.randint(9, (len(rows),))
    for row, top, left in zip(rows, tops.tolist(), lefts.tolist()):
        occluded[row, :, top : top + 4, left : left + 4] = 0.5
with torch.no_grad():
    responses = {name: model[:2](x).mean((2, 3)).numpy() for name, x in (("clean", images), ("occluded", occluded))}
np.savez(sys.argv[2], changed=(occluded - images).flatten(1).norm(dim=1).numpy(), **responses)
"""

ERRORS = """
import sys
import torch
from torch import nn
import selplug

model = nn.Sequential(nn.Flatten(), nn.Linear(64, 4), nn.ReLU(), nn.Linear(4, 2))
data = [(torch.rand(4, 1, 8, 8), torch.arange(4) % 2)]
for spec in sys.argv[1:]:
    try:
        selplug.audit(model, data, [spec], progress=False)
    except selplug.SelplugError as error:
        print(error)
"""


def run(*arguments: str | Path, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    paths = filter(None, (str(path or ""), os.environ.get("PYTHONPATH")))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths), "COLUMNS": "200"}
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1800, check=False)  # noqa: S603


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for the import path into which pip installed the example plugin, without the network."""
    folder = tmp_path_factory.mktemp("installed")
    offline = ("--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check", "--quiet")
    done = run("-m", "pip", "install", *offline, "--target", folder, EXAMPLES / "selplug_example")
    assert done.returncode == 0, done.stderr
    return folder


def test_audit_of_ones_own_model(tmp_path):
    pytest.importorskip("sklearn")
    if registry.plugins("selplug.perturbations")["fgsm"].missing:
        pytest.skip("torchattacks is not installed")
    done = run(EXAMPLES / "audit_own_model.py", tmp_path / "my report", "--epochs", "2")
    assert done.returncode == 0, done.stderr
    assert "SmallNet" in done.stdout
    assert "Worst-case accuracy" in done.stdout
    report = json.loads((tmp_path / "my report" / "report.json").read_text())
    assert [condition["name"].partition(":")[0] for condition in report["conditions"]] == [
        "clean",
        "fgsm",
        "pgd",
        "gaussian-noise",
    ]
    assert [(layer["name"], layer["units"]) for layer in report["layers"]] == [("act1", 16), ("act2", 32), ("act3", 64)]
    assert report["conditions"][0]["accuracy"] > 0.5
    assert (tmp_path / "my report" / "report.html").is_file()


def test_a_report_in_a_notebook(tmp_path):
    for host in ("sklearn", "pandas"):
        pytest.importorskip(host)
    if registry.plugins("selplug.perturbations")["fgsm"].missing:
        pytest.skip("torchattacks is not installed")
    for _ in range(2):  # the second time it reads what the first one wrote
        done = run(EXAMPLES / "notebook.py", tmp_path / "report")
        assert done.returncode == 0, done.stderr
        (clean,) = re.findall(r"^0 +clean +clean +NaN +([\d.]+)", done.stdout, re.MULTILINE)
        report = json.loads((tmp_path / "report" / "report.json").read_text())
        assert float(clean) == pytest.approx(report["conditions"][0]["accuracy"], abs=1e-6)
        assert "0.094118" in done.stdout  # 24/255, the largest budget
        assert re.search(r"rank correlation of \d+ units: 0\.\d\d", done.stdout)
    assert "SmallNet under PGD" in (tmp_path / "report" / "budgets.html").read_text()


def test_maps_of_a_network_that_is_not_there(tmp_path):
    pytest.importorskip("captum")
    done = run(EXAMPLES / "captum_maps.py", "--checkpoint", tmp_path / "none.th", "--data-dir", tmp_path)
    assert done.returncode == 1
    assert "none.th does not exist: this example needs a checkpoint and CIFAR-10 as image files" in done.stderr


@pytest.mark.data
@pytest.mark.skipif(not (ARCHIVE.exists() and WEIGHTS.exists()), reason=f"needs {ARCHIVE.name} and {WEIGHTS.name}")
def test_maps_of_a_real_network(tmp_path):
    for host in ("captum", "timm", "torchattacks"):
        pytest.importorskip(host)
    with tarfile.open(ARCHIVE) as archive:
        for member in archive:
            if member.isfile() and int(Path(member.name).stem) <= {"train": 10, "test": 6}[Path(member.name).parts[-3]]:
                archive.extract(member, tmp_path, filter="data")
    figure = tmp_path / "maps.png"
    options = ("--data-dir", tmp_path, "--output", figure, "--samples", "60", "--train-samples", "100")
    done = run(EXAMPLES / "captum_maps.py", "--checkpoint", WEIGHTS, *options)
    assert done.returncode == 0, done.stderr
    ratio = re.search(r"60 test images; energy outside .* up to ([\d.]+) times the clean", done.stdout)
    assert ratio, done.stdout
    assert float(ratio[1]) > 1.5
    assert figure.read_bytes().startswith(b"\x89PNG")


def test_the_plugin_is_listed(plugin):
    done = run("-m", "selplug.cli", "plugins", "--json", path=plugin)
    assert done.returncode == 0, done.stderr
    found = {(row["group"], row["name"]): row for row in json.loads(done.stdout)}
    for group, name in (("selplug.measures", "sparsity"), ("selplug.perturbations", "occlusion")):
        row = found[group, name]
        assert row["distribution"].replace("_", "-") == "selplug-example"
        assert row["target"].startswith(f"selplug_example.{name}:")
        assert row["missing"] == []
    assert found["selplug.measures", "selectivity"]["distribution"] == "selplug"


def test_the_plugins_numbers(plugin, tmp_path):
    script = tmp_path / "audit.py"
    script.write_text(AUDIT)
    done = run(script, tmp_path / "report", tmp_path / "expected.npz", path=plugin)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    units, expected = np.load(tmp_path / "report" / "units.npz"), np.load(tmp_path / "expected.npz")

    (layer,) = report["layers"]
    for condition, key in (("clean", "clean"), ("occlusion:size=4", "occluded")):
        r = expected[key].astype(np.float64)
        sparsity = 1 - r.mean(0) ** 2 / (r**2).mean(0)
        assert layer["conditions"][condition]["sparsity"]["mean"] == pytest.approx(sparsity.mean(), rel=1e-4)
        assert layer["conditions"][condition]["sparsity"]["silent_units"] == 0
        np.testing.assert_allclose(units[f"{layer['name']}|{condition}|sparsity"], sparsity, rtol=1e-3)
    assert "sparsity" not in layer["differences"]["occlusion:size=4"]
    assert "dimensionality" in layer["differences"]["occlusion:size=4"]

    occlusion = report["conditions"][1]
    assert occlusion["l2_mean"] == pytest.approx(expected["changed"].mean(), rel=1e-5)
    assert 0.4 < occlusion["linf_max"] <= 0.5
    assert report["worst_case"] is None  # a corruption is no attack
    (asked,) = report["settings"]["perturbations"]
    assert asked == {"name": "occlusion:size=4", "kind": "corruption", "options": {"size": 4}}
    assert "sparsity" in (tmp_path / "report" / "report.html").read_text()


def test_the_plugins_errors(plugin):
    expected = {
        "occlusion:size=0": "expected size as a whole number of pixels >= 1, got 0",
        "occlusion:size=2.5": "expected size as a whole number of pixels >= 1, got 2.5",
        "occlusion:size=9": "expected size <= 8, the size of the image, got 9",
        "occlusion:sise=4": "occlusion has no option 'sise'; did you mean size?",
    }
    done = run("-c", ERRORS, *expected, path=plugin)
    assert done.returncode == 0, done.stderr
    messages = done.stdout.splitlines()
    assert len(messages) == len(expected)
    for message, fragment in zip(messages, expected.values(), strict=True):
        assert fragment in message


def test_one_name_of_two_distributions_is_an_error_that_names_both(tmp_path):
    metadata = tmp_path / "rival-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: rival\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[selplug.perturbations]\nfgsm = rival:fgsm\n")
    for command in (["plugins"], ["audit", "resnet20_cifar", "--perturb", "fgsm"]):
        done = run("-m", "selplug.cli", *command, path=tmp_path)
        assert done.returncode == 2
        assert done.stdout == ""
        assert done.stderr.startswith("error: two plugins are called 'fgsm' in selplug.perturbations")
        assert "one of selplug" in done.stderr
        assert "one of rival" in done.stderr
