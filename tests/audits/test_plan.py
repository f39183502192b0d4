from __future__ import annotations

import json
from importlib.resources import files

import jsonschema
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

import selplug
from selplug.audits.api import audit_plan, request_of
from selplug.audits.plan import AuditPlan
from selplug.core.errors import InputError, PluginError
from selplug.run.config_file import read_config
from selplug.run.subject_flags import declared

SCHEMA = json.loads(files("selplug.audits").joinpath("plan.schema.json").read_text(encoding="utf-8"))
TEXTS = st.lists(st.text(min_size=1, max_size=8), max_size=3).map(tuple)
PLANS = st.builds(
    AuditPlan,
    model=st.text(min_size=1, max_size=8),
    options=st.fixed_dictionaries({}, optional={"data_dir": st.text(), "num_samples": st.integers(1, 99)}),
    perturb=TEXTS,
    worst_case=TEXTS,
    measure=TEXTS,
    layers=st.none() | TEXTS,
    gradient_probes=st.none() | st.integers(2, 64),
    seed=st.integers(0, 2**31),
    batch_size=st.none() | st.integers(1, 512),
    amp=st.booleans(),
    amp_dtype=st.sampled_from([None, "float16", "bfloat16"]),
)


@given(PLANS)
@settings(deadline=None)
def test_a_plan_comes_back_from_json_and_yaml(plan):
    data = plan.to_dict()
    jsonschema.validate(data, SCHEMA)
    assert AuditPlan.from_dict(data, ("data_dir", "num_samples")) == plan
    assert AuditPlan.from_dict(yaml.safe_load(yaml.safe_dump(data)), ("data_dir", "num_samples")) == plan


def test_the_schema_knows_every_field():
    own = set(AuditPlan.__dataclass_fields__) - {"options"}
    assert own | {"schema_version", "digest"} == set(SCHEMA["properties"])


def test_spellings_of_a_file():
    plan = AuditPlan.from_dict(
        {"model": "m", "worst-case": "apgd:eps=2/255,steps=3,fab", "perturb": "fog", "data-dir": "d"}, ("data_dir",)
    )
    assert plan.worst_case == ("apgd:eps=2/255,steps=3", "fab")
    assert plan.perturb == ("fog",)
    assert plan.options == {"data_dir": "d"}
    assert plan.measure == ("selectivity", "dimensionality")


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({}, "names no model"),
        ({"model": "m", "pertrub": ["fog"]}, "no entry 'pertrub'; did you mean perturb?"),
        ({"model": "m", "zzz": 1}, "no entry 'zzz'; there are: model, subject, perturb"),
        ({"model": "m", "seed": "0"}, "seed: expected a whole number, got '0'"),
        ({"model": "m", "seed": -1}, "seed: expected a whole number of at least 0, got -1"),
        ({"model": "m", "batch_size": 0}, "batch_size: expected a whole number of at least 1, got 0"),
        ({"model": "m", "gradient_probes": 1}, "gradient_probes: expected a whole number of at least 2"),
        ({"model": "m", "perturb": {"fog": 3}}, "perturb: expected a list"),
        ({"model": "m", "amp": 1}, "amp: expected true or false, got 1"),
        ({"model": "m", "amp_dtype": "float8"}, "amp_dtype: expected float16 or bfloat16, got 'float8'"),
        ({"model": "m", "schema_version": "2.0"}, "schema_version 1.x, got '2.0'"),
    ],
)
def test_bad_entries_are_named(entries, message):
    with pytest.raises(InputError) as error:
        AuditPlan.from_dict(entries, ("data_dir",))
    assert message in str(error.value)


def test_the_digest_follows_what_decides_numbers_alone():
    def digest(**changes):
        return request_of(
            AuditPlan(**{"model": "m", "perturb": ("gaussian-noise",), "device": "cpu", **changes})
        ).digest()

    same = digest()
    assert digest(options={"workers": 3, "dataset_download": True}) == same
    # A default that is spelled out is the same option, under another name of the condition.
    assert digest(perturb=("gaussian-noise:std=0.1",)) != same
    for change in (
        {"seed": 1}, {"batch_size": 64}, {"model": "n"}, {"layers": ("a",)}, {"amp": True}, {"channels_last": True},
        {"measure": ("selectivity",)}, {"perturb": ()}, {"options": {"data_dir": "d"}}, {"baseline": "alexnet"},
    ):  # fmt: skip
        assert digest(**change) != same, change


def test_names_are_resolved_before_anything_runs():
    for plan, error, message in (
        (AuditPlan("m", perturb=("fgms",)), PluginError, "fgms"),
        (AuditPlan("m", measure=("selectivty",)), PluginError, "selectivty"),
        (AuditPlan("m", device="cuda:99"), InputError, "cuda:99"),
        (AuditPlan("m", gradient_probes=4), InputError, "gradient_probes=. is for measures of gradients"),
        (AuditPlan("m", torchcompile="inductr"), InputError, "inductr"),
        (AuditPlan("m", subject=None), InputError, "were given from Python"),
    ):
        with pytest.raises(error, match=message):
            request_of(plan)


def test_an_audit_from_python_records_its_plan():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    loader = torch.utils.data.DataLoader([(torch.rand(3, 2, 2), place % 2) for place in range(8)], batch_size=4)

    def darker(images, labels):
        return images / 2

    report = selplug.audit(model, loader, ["gaussian-noise:std=0.2", darker], layers=["*"], seed=3, progress=False)
    plan = dict(report.plan)
    jsonschema.validate(plan, SCHEMA)
    assert plan.pop("digest") == report.to_dict()["plan"]["digest"]
    assert AuditPlan.from_dict(plan) == AuditPlan(
        "Sequential", None, perturb=("gaussian-noise:std=0.2", "darker"), layers=("*",), seed=3, batch_size=4
    )
    with pytest.raises(InputError, match="given from Python"):
        audit_plan(AuditPlan.from_dict(plan))


def test_config_files(tmp_path):
    for name, text, entries in (
        ("a.yaml", "model: m\nperturb: [fog]\n", {"model": "m", "perturb": ["fog"]}),
        ("a.json", '{"model": "m", "seed": 3}', {"model": "m", "seed": 3}),
        ("report.json", '{"schema_version": "1.0", "plan": {"model": "m"}}', {"model": "m"}),
    ):
        (tmp_path / name).write_text(text)
        assert read_config(tmp_path / name) == entries
    for text, message in (("- a\n", "expected entries such as"), ("a: [", "no YAML or JSON"), ("", "got NoneType")):
        (tmp_path / "bad.yaml").write_text(text)
        with pytest.raises(InputError, match=message):
            read_config(tmp_path / "bad.yaml")
    with pytest.raises(InputError, match="cannot read"):
        read_config(tmp_path / "none.yaml")


def test_every_option_of_the_default_subject_is_one_that_it_takes():
    from selplug_timm.options import Options

    shared = {"batch_size", "seed", "channels_last", "optional_data"}
    assert set(declared("timm").defaults()) | shared == set(Options.__dataclass_fields__)
