"""The result of ``selplug similarity``: which networks were compared, with which settings, and its files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..core.errors import InputError
from ..report.jsonable import jsonable
from .run import SimilarityResult

SCHEMA_VERSION = "1.0"


@dataclass(frozen=True, repr=False)
class SimilarityRecord:
    """Two networks a and b compared. ``subjects`` holds, for each, the facts of a report's subject."""

    subjects: Mapping[str, Mapping[str, Any]]
    settings: Mapping[str, Any]
    environment: Mapping[str, Any]
    result: SimilarityResult = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """The content of ``similarity.json``: plain dicts, lists, numbers and strings; undefined numbers are None."""
        result = self.result
        return jsonable(
            {
                "schema_version": SCHEMA_VERSION,
                "subjects": self.subjects,
                "settings": self.settings,
                "environment": self.environment,
                "samples": result.samples,
                "layers": {
                    key: [{"name": layer.name, "kind": layer.kind, "units": layer.units} for layer in layers]
                    for key, layers in result.layers.items()
                },
                "maps": [
                    {
                        "measure": measure,
                        "estimator": self.settings["estimator"] if measure == "cka" else None,
                        "rows": rows,
                        "columns": columns,
                        "values": values.tolist(),
                    }
                    for (measure, rows, columns), values in result.maps.items()
                ],
                "block_structure": {
                    key: {"score": found.score, "blocks": found.blocks} for key, found in result.blocks.items()
                },
            }
        )

    def arrays(self) -> dict[str, np.ndarray]:
        """The content of ``similarity.npz``: ``MEASURE|ROWS|COLUMNS`` -> map, as in ``cka|a|b`` (L_a, L_b)."""
        return {"|".join(key): values for key, values in self.result.maps.items()}

    def map_key(self, measure: str = "cka", rows: str = "a", columns: str = "b") -> tuple[str, str, str]:
        """The key of a map in ``result.maps``.

        Raises:
            InputError: there is no such map.
        """
        key = (measure, rows, columns)
        if key not in self.result.maps:
            known = ", ".join(" ".join(each) for each in self.result.maps)
            raise InputError(f"expected a measure, rows and columns of this comparison ({known}), got {' '.join(key)}")
        return key
