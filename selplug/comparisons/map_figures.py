"""The CKA maps of a comparison, one network of each group."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..report.heat_map import heat_map
from ..report.plots import Figure, Plot, packed
from ..report.style import printable, short_number
from .network import Network
from .tables import TRAINED

if TYPE_CHECKING:
    from .record import ComparisonRecord, SeedGroup

#: More maps than these beside each other are no longer read.
MAX_MAPS = 12


def map_plots(comparison: ComparisonRecord) -> list[Plot]:
    """The clean CKA map of each group's first network that has one, up to :data:`MAX_MAPS`."""
    found: list[Plot] = []
    for place, group in enumerate(comparison.groups):
        network = with_map(group)
        if network is None or len(found) == MAX_MAPS:
            continue
        figure = map_figure(network)
        # Beside each other they are small: the numbers of layers say enough, names show on hover.
        figure["layout"] |= {"height": 380}
        for axis in ("xaxis", "yaxis"):
            figure["layout"][axis]["ticktext"] = [text.partition(" ")[0] for text in figure["layout"][axis]["ticktext"]]
            figure["layout"][axis]["title"] = {"text": "layer"}
        found.append(Plot(f"map-{place}", printable(group.name), told_of_map(network), (), packed({"": figure})))
    return found


def with_map(group: SeedGroup) -> Network | None:
    """The first network of a group that has a map."""
    return next((network for network in group.networks if network.measured.similarity is not None), None)


def map_figure(network: Network) -> Figure:
    """The clean CKA map of a network."""
    layers = network.measured.layers
    return heat_map(network.measured.similarity or (), layers, layers, "CKA", blocks=network.measured.blocks)


def told_of_map(network: Network) -> str:
    """What stands beside the map of a network."""
    score = f"block structure {short_number(network.value('block_score'), spec='.3f')}"
    between = f"mean between layers {short_number(network.value('cka_between'), spec='.3f')}"
    trained = TRAINED[network.training.robust]
    return f"{printable(network.name)} ({trained}): {score}, {between}. Outlined: blocks."
