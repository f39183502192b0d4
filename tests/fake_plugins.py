"""Distributions made for a test."""

from __future__ import annotations

from pathlib import Path


def distribution(folder: Path, name: str, entry_points: str, modules: dict[str, str] | None = None) -> Path:
    """An installed distribution as pip leaves it: metadata, entry points, modules."""
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(entry_points)
    for module, source in (modules or {}).items():
        (folder / f"{module}.py").write_text(source)
    return folder
