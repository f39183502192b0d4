"""``python -m bench [name ...] [--repeats N]``: runs the benchmarks and shows every ratio beside its bound.

``--repeats`` is for those that simulate, as ``verdicts`` does.
"""

from __future__ import annotations

import argparse
import datetime
import importlib
import inspect
import math
import platform

import torch
from rich.console import Console
from rich.table import Table

NAMES = (
    "attacked", "attributions", "audit_pass", "attacks", "corruption_audit", "corruptions", "gradients", "memory",
    "page", "regularizer", "similarity", "verdicts", "worst_case",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench")
    parser.add_argument("names", nargs="*", metavar="name", help=", ".join(NAMES))
    parser.add_argument("--repeats", type=int, help="of a simulation")
    given = parser.parse_args()
    console = Console(width=140)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or platform.machine()
    today = datetime.datetime.now(datetime.timezone.utc).date()
    console.print(f"{today}, {device}, {torch.get_num_threads()} threads, torch {torch.__version__}", highlight=False)
    table = Table("comparison", "ratio", "bound", "medians with quartiles")
    for name in given.names or NAMES:
        make = importlib.import_module(f"bench.{name}").rows
        repeats = (
            {"repeats": given.repeats} if given.repeats and "repeats" in inspect.signature(make).parameters else {}
        )
        for row in make(**repeats):
            mark = "" if row.ratio <= row.bound else " (above)"
            bound = f"{row.bound:.2f}" if math.isfinite(row.bound) else "none"
            table.add_row(row.what, f"{row.ratio:.3f}{mark}", bound, row.detail)
    console.print(table)


if __name__ == "__main__":
    main()
