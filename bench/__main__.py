"""``python -m bench [name ...]``: runs the benchmarks and shows every ratio beside its bound."""

from __future__ import annotations

import datetime
import importlib
import math
import platform
import sys

import torch
from rich.console import Console
from rich.table import Table

NAMES = (
    "attributions", "audit_pass", "attacks", "corruption_audit", "corruptions", "gradients", "memory", "page",
    "regularizer", "similarity", "worst_case",
)  # fmt: skip


def main() -> None:
    console = Console(width=140)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or platform.machine()
    today = datetime.datetime.now(datetime.timezone.utc).date()
    console.print(f"{today}, {device}, {torch.get_num_threads()} threads, torch {torch.__version__}", highlight=False)
    table = Table("comparison", "ratio", "bound", "medians with quartiles")
    for name in sys.argv[1:] or NAMES:
        for row in importlib.import_module(f"bench.{name}").rows():
            mark = "" if row.ratio <= row.bound else " (above)"
            bound = f"{row.bound:.2f}" if math.isfinite(row.bound) else "none"
            table.add_row(row.what, f"{row.ratio:.3f}{mark}", bound, row.detail)
    console.print(table)


if __name__ == "__main__":
    main()
