"""The one graph that serves every trial of a search."""

from raymat.features.neighbor_table import NeighborConfig
from raymat.models import load_spec
from raymat.tuning.search_space import SearchSpace
from raymat.tuning.space_checks import extreme_values


def widest_neighbors(space: SearchSpace) -> NeighborConfig:
    """Give the neighbors that hold every graph of a space: each smaller graph is a slice."""
    spec = load_spec(space.model)
    searched = (values for _, values in extreme_values(space))
    settings = [{}, *space.try_first, *searched]
    views = [spec.graph(space.configure(values).architecture) for values in settings]
    return NeighborConfig(
        cutoff=max(view.cutoff for view in views),
        max_neighbors=max(view.max_neighbors for view in views),
    )
