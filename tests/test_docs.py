"""The documentation is true: its code runs, its commands and options exist, its lists are complete."""

from __future__ import annotations

import argparse
import inspect
import itertools
import json
import re
import shlex
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from selplug_timm.train.flags import make_parser

from selplug import registry, specs
from selplug._version import __version__
from selplug.audits.figures.notebook import Plots
from selplug.audits.report import Report
from selplug.cli.arguments import ON_SUBJECTS
from selplug.cli.commands import app
from selplug.run.subject_flags import declared

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
FENCE = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]


def blocks(language: str) -> list[Any]:
    """``(page, remark after the language, code)`` of every fenced block, under the page's name and line."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in FENCE.finditer(text):
            if match[1] == language:
                line = text.count("\n", 0, match.start()) + 1
                found.append(pytest.param(page, match[2].strip(), match[3], id=f"{page.name}:{line}"))
    return found


def section(page: str, heading: str) -> str:
    """The text below a heading, up to the next one of the same or a higher level."""
    level = heading.partition(" ")[0]
    text = (ROOT / page).read_text(encoding="utf-8").partition(f"\n{heading}\n")[2]
    assert text, f"{page} has no heading {heading!r}"
    return re.split(rf"^#{{1,{len(level)}}} ", text, flags=re.MULTILINE)[0]


def cells(text: str, column: int) -> list[str]:
    """One column of the table rows in a text, headings and rules left out."""
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in text.splitlines() if line.startswith("|")]
    tables_start = {i for i, row in enumerate(rows) if set(row[0]) <= set("- :")}
    return [row[column].strip() for i, row in enumerate(rows) if i not in tables_start and i + 1 not in tables_start]


def words(text: str) -> set[str]:
    return set(re.findall(r"`([^`]+)`", text))


def options_of(name: str) -> set[str]:
    params = COMMANDS[name].params
    found = {"--help", "-h", *(o for p in params for o in (*p.opts, *p.secondary_opts) if o.startswith("-"))}
    if name in ON_SUBJECTS:
        found |= {o for action in declared("timm", ON_SUBJECTS[name]).actions for o in action.option_strings}
    return found


@pytest.mark.parametrize(("page", "remark", "code"), blocks("python"))
def test_python_blocks_run(page, remark, code, tmp_path, monkeypatch):
    compiled = compile(code, str(page), "exec")
    if remark != "no-run":
        assert not remark, "the only remark known is no-run"
        if re.search("fgsm|tpgd", code) and registry.plugins("selplug.perturbations")["fgsm"].missing:
            pytest.skip("torchattacks is not installed")
        if "captum" in code:
            pytest.importorskip("captum")
        monkeypatch.chdir(tmp_path)
        with torch.random.fork_rng(devices=[]):
            exec(compiled, {"__name__": "__docs__"})  # noqa: S102


@pytest.mark.parametrize(("page", "remark", "code"), blocks("console"))
def test_commands_exist_with_their_options(page, remark, code):
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for line in code.replace("\\\n", " ").splitlines():
        program, *arguments = shlex.split(line)
        if program == "make":
            assert set(arguments) <= targets, line
        elif program == "selplug":
            check_selplug(arguments, line)
        elif program == "torchrun":
            module = arguments.index("-m") + 1
            assert arguments[module] == "selplug_timm"
            check_hook_flags(arguments[module + 1 :], line)
        else:
            assert program == "pip", f"no rule for {line!r}"


def check_selplug(arguments: list[str], line: str) -> None:
    if arguments[0].startswith("-"):
        assert set(arguments) <= {"--help", "--version"}, line
        return
    command, *rest = arguments
    assert command in COMMANDS, line
    if command == "timm-train" and rest[0] != "--help":
        check_hook_flags(rest, line)
        return
    if command == "train":
        check_hook_flags(["train.py", *rest], line)
        known = {
            option
            for action in make_parser(argparse.ArgumentParser(add_help=False))._actions
            for option in action.option_strings
        }
        assert {argument for argument in rest if argument.startswith("--")} <= known | hook_flags().keys(), line
        return
    for option in (argument for argument in rest if re.match(r"--?[a-z]", argument)):
        assert option in options_of(command), f"{command} has no {option}: {line}"
    for previous, argument in itertools.pairwise(rest):
        for spec in {"--perturb": [argument], "--worst-case": specs.split_specs(argument)}.get(previous, []):
            resolve(spec)
        if previous == "--measure":
            registry.load("selplug.measures", argument)
        if previous == "--method" and not registry.plugins("selplug.attributions")[argument.partition(":")[0]].missing:
            specs.attribution(argument)


def hook_flags() -> dict[str, Any]:
    """Flag -> default of every training hook of ours."""
    parser = argparse.ArgumentParser(add_help=False)
    for name, plugin in registry.plugins("selplug.training").items():
        if plugin.distribution == "selplug":
            registry.load("selplug.training", name)().add_arguments(parser.add_argument_group(name))
    return {option: action.default for action in parser._actions for option in action.option_strings}


def check_hook_flags(arguments: list[str], line: str) -> None:
    """Ours exist; the rest is the train script's own."""
    assert Path(arguments[0]).name == "train.py", line
    ours = ("--selectivity", "--adversarial", "--trades", "--local")
    assert {argument for argument in arguments if argument.startswith(ours)} <= hook_flags().keys(), line
    for previous, argument in itertools.pairwise(arguments):
        if previous == "--adversarial":
            resolve(re.sub(r"^trades\b", "tpgd", argument))


def resolve(spec: str) -> None:
    """Name and options of a perturbation, values included."""
    if registry.plugins("selplug.perturbations")[specs.spec_name(spec)].missing:
        return
    model = torch.nn.Flatten()
    model.num_classes = 10  # type: ignore[assignment]
    for perturbation in specs.perturbations(spec):
        perturbation.factory(model, **perturbation.options)


def test_specs_in_running_text_resolve():
    ours = registry.plugins("selplug.perturbations")
    found = {
        spec
        for page in PAGES
        for spec in re.findall(r"[\"`]([a-z0-9-]+:[a-z_0-9]+=[^\s\"`:]+)[\"`]", page.read_text(encoding="utf-8"))
        if spec.partition(":")[0] in ours and "NAME" not in spec
    }
    assert len(found) >= 2
    for spec in (each for listed in found for each in specs.split_specs(listed)):
        resolve(spec)


@pytest.mark.parametrize(
    ("heading", "command"),
    [
        ("## selplug audit", "audit"),
        ("## selplug explain", "explain"),
        ("## selplug similarity", "similarity"),
        ("## selplug compare", "compare"),
        ("## selplug view", "view"),
        ("## selplug demo", "demo"),
    ],
)
def test_the_tables_of_options_are_complete(heading, command):
    text = section("docs/cli.md", heading).partition("\n### ")[0]
    listed = {option for cell in cells(text, 0) for option in re.findall(r"(?<![\w-])--?[a-z][\w-]*", cell)}
    known = options_of(command) - ({"--help", "-h"} if command == "demo" else set())
    assert listed == known


def test_the_defaults_of_options_are_right():
    defaults = {p.opts[-1]: p.default for p in COMMANDS["audit"].params}
    text = section("docs/cli.md", "## selplug audit").partition("\n### ")[0]
    listed = dict(zip(cells(text, 0), cells(text, 1), strict=True))
    for option, default in defaults.items():
        if default not in (None, False, "") and option.startswith("-"):
            (shown,) = [value for cell, value in listed.items() if f"`{option} " in cell]
            assert shown.strip("`") == str(default), option


def test_the_table_of_training_flags_is_complete():
    text = section("docs/cli.md", "## selplug timm-train")
    listed = {option for cell in cells(text, 0) for option in re.findall(r"(?<![\w-])--[a-z][\w-]*", cell)}
    assert listed == hook_flags().keys()


def test_every_key_of_the_json_is_told():
    schema = json.loads(files("selplug.audits").joinpath("report.schema.json").read_text(encoding="utf-8"))
    told = words(section("docs/cli.md", "### Files"))
    parts = [
        schema,
        *(
            schema["$defs"][name]
            for name in ("condition", "targeted", "worst_case", "step", "attack_check", "layer", "sections")
        ),
    ]
    parts += [schema["$defs"][name] for name in schema["$defs"]["sections"]["properties"]]
    for part in parts:
        assert set(part["properties"]) <= told
    assert set(cells(section("docs/cli.md", "### Files"), 0)) >= {f"`{key}`" for key in schema["properties"]}


def test_every_group_of_plugins_is_told():
    listed = {cell.strip("`") for cell in cells(section("docs/plugins.md", "## Groups"), 0)}
    assert listed == set(registry.GROUPS)
    for group in registry.GROUPS:
        reserved = f"| `{group}` | reserved" in (ROOT / "docs/plugins.md").read_text(encoding="utf-8")
        assert reserved != bool(registry.plugins(group))


def test_extras_are_told():
    tomllib = pytest.importorskip("tomllib")  # Python 3.11
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    listed = {cell.strip("`") for cell in cells(section("README.md", "## Install"), 0)}
    assert listed == set(project["optional-dependencies"])


def test_frames_and_figures_are_told_with_their_arguments():
    for owner, heading, prefix in ((Report, "## Data frames", ""), (Plots, "## Figures", "plot.")):
        told = {cell.strip("`") for cell in cells(section("docs/notebook.md", heading), 0)} - {"method"}
        defined = set()
        for name, method in vars(owner).items():
            if inspect.isfunction(method) and not name.startswith("_") and (owner is Plots or name.endswith("_frame")):
                parameters = [
                    p for p in inspect.signature(method).parameters.values() if p.name not in ("self", "conditions")
                ]
                texts = [p.name if p.default is p.empty else f"{p.name}={p.default!r}" for p in parameters]
                defined.add(f"{prefix}{name}({', '.join(texts)})".replace("'", '"'))
        assert told == defined


def test_attacks_named_in_the_methods_exist():
    text = section("docs/methods.md", "## Attacks of torchattacks")
    named = {word for cell in cells(text, 0) for word in words(cell)}
    assert named <= set(registry.plugins("selplug.perturbations"))
    assert len(named) > 10


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"(?<!!)\[[^\]]+\]\(([^)]+)\)", FENCE.sub("", page.read_text(encoding="utf-8"))):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), target
        if anchor:
            titles = re.findall(r"^#+ (.+)$", there.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}, target


def test_the_citation_fits_the_package():
    yaml = pytest.importorskip("yaml")
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["cff-version"] == "1.2.0"
    assert citation["version"] == __version__
    assert citation["license"] == "Apache-2.0"
    assert {"message", "title", "authors"} <= citation.keys()
    papers = [reference["identifiers"][0]["value"] for reference in citation["references"]]
    assert papers == ["arXiv:2010.07693", "arXiv:2206.09868", "arXiv:2007.02047"]
    assert f"## [{__version__}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_sign_of_alpha_is_the_same_everywhere():
    assert "alpha > 0 promotes selectivity, alpha < 0 reduces it" in section("docs/cli.md", "## selplug timm-train")
    for page in ("README.md", "docs/methods.md"):
        text = " ".join((ROOT / page).read_text(encoding="utf-8").replace("**", "").split())
        assert "loss = task_loss - alpha * selectivity" in text
        assert "alpha > 0 promotes selectivity, alpha < 0 reduces it" in text
