# ruff: noqa: B018
"""A report in a notebook: data frames to compute with, and the figures of its page.

Open it in an editor that knows ``# %%`` cells (or ``jupytext --to notebook examples/notebook.py``), or run it whole:

    python examples/notebook.py my-report

It trains a small network on scikit-learn's digits for a few seconds and audits it on six Linf budgets of PGD.
"""

# %% Audit, or read what `selplug audit` wrote
import sys
from pathlib import Path

import pandas as pd
from audit_own_model import MEAN, STD, digits, train  # type: ignore[import-not-found, unused-ignore]
from torch.utils.data import DataLoader

import selplug

FOLDER = Path(sys.argv[1]) if len(sys.argv) == 2 else Path("my-report")

if not (FOLDER / "report.json").exists():
    train_data, test_data = digits()
    selplug.audit(
        train(train_data, epochs=5),
        DataLoader(test_data, 128),
        perturbations=["pgd:eps=4/255..24/255*6,alpha=2/255,steps=20", "gaussian-noise:std=0.3"],
        measures=["selectivity", "dimensionality", "cka"],
        normalize=(MEAN, STD),
        name="SmallNet",
    ).save(FOLDER)
report = selplug.read(FOLDER)
report  # its tables

# %% A row per condition; every option of a perturbation is a column
conditions = report.conditions_frame()
print(conditions[["condition", "kind", "options.eps", "accuracy", "accuracy_low", "accuracy_high"]].to_string())

# %% A row per layer and condition, and per difference perturbed - clean: over depth, as a table
layers = report.layers_frame()
responses, differences = layers[~layers["difference"]], layers[layers["difference"]]
print(responses.pivot(index="condition", columns="layer", values="cka.debiased").round(3))

# %% How many dimensions the attack moves, against its budget
dimension = "dimensionality.participation_ratio_corrected"
moved = differences.merge(conditions, on="condition").query("kind == 'attack'")
print(moved.pivot(index="options.eps", columns="layer", values=dimension).round(2))

# %% Single units: do the selective ones stay selective under attack?
units = report.units_frame("act3").pivot(index="unit", columns="condition", values="selectivity")
strongest = conditions.loc[conditions["kind"] == "attack", "condition"].iloc[-1]
alive = units[units["clean"] > 0]
print(f"rank correlation of {len(alive)} units: {alive['clean'].rank().corr(alive[strongest].rank()):.2f}")

# %% Layer x layer
print(report.map_frame("cka").round(2))

# %% The figures of the page, as plotly figures: a notebook shows the last value of a cell
report.plot.selectivity(conditions=["clean", strongest])

# %%
report.plot.dimensionality(conditions=["clean", strongest], of_units=True)

# %%
report.plot.budgets()

# %%
report.plot.spectrum("act3", conditions=["clean", strongest])

# %% They are your own to change and to keep
figure = report.plot.budgets()
figure.update_layout(title_text="SmallNet under PGD", template="simple_white")
figure.write_html(FOLDER / "budgets.html")

# %% Several reports are one frame
both = pd.concat({"first": layers, "again": selplug.read(FOLDER).layers_frame()}, names=["run"]).reset_index("run")
print(both.groupby("run")["selectivity.mean"].mean().round(3))
