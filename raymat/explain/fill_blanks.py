r"""Ask the full CGCNN about a grown graph, with what the graph lacks filled in.

For every node an element of its label is drawn as often as the training crystals hold it; the
distance along an edge is the sum of Pyykkö's single-bond radii of its ends; and a node's neighbors
are repeated in turn until there are as many as the model was trained with, because its sum over
neighbors grows with their number. The probability is the mean over `N_DRAWS` draws.

This is a check, not a measurement: the model never saw such fragments, which are finite and have no
second shell.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from raymat.explain.explanations import Explanation
from raymat.features.coarse_graphs import N_ELEMENTS, LabelKind, element_labels
from raymat.features.elements import MAX_ATOMIC_NUMBER, element_properties
from raymat.features.graph import CrystalGraph
from raymat.models.cgcnn import CGCNNConfig
from raymat.training.model_files import TrainedModel
from raymat.training.predict import to_unit

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

N_DRAWS = 32
UNKNOWN_RADIUS = 1.5  # Å, of an element without a tabulated radius: about the mean of all
PM_PER_ANGSTROM = 100.0


@dataclass(frozen=True, eq=False)
class ElementShares:
    """Which elements stand for a label.

    Attributes:
        elements: label, counted from 1 -> atomic numbers.
        shares: label -> how often each is met among the atoms of that label.
    """

    elements: dict[int, Ints]
    shares: dict[int, Floats]

    @staticmethod
    def of(labels: LabelKind, atomic_numbers: NDArray[np.uint8]) -> "ElementShares":
        """Count the elements of the training crystals."""
        counts = np.bincount(atomic_numbers, minlength=N_ELEMENTS + 1)
        own, elements, shares = element_labels(labels), {}, {}
        for label in np.unique(own[1:]):
            met = np.flatnonzero((own == label) & (counts > 0))
            if len(met):
                elements[int(label) + 1] = met
                shares[int(label) + 1] = counts[met] / counts[met].sum()
        return ElementShares(elements, shares)

    def draw(self, nodes: Sequence[int], rng: np.random.Generator) -> Ints | None:
        """Give (`N_DRAWS`, n_nodes) atomic numbers; None if a label is met in no crystal."""
        if any(node not in self.elements for node in nodes):
            return None
        drawn = [rng.choice(self.elements[n], size=N_DRAWS, p=self.shares[n]) for n in nodes]
        return np.stack(drawn, axis=1)


def score_filled(
    model: TrainedModel,
    explanation: Explanation,
    shares: ElementShares,
    *,
    target_class: int,
    threshold: float | None,
) -> float | None:
    """Give the full model's probability of a class; None if a label stands for no element.

    A model of a number gives the share of draws on the class's side of `threshold`. The draws have
    the explanation's seed.
    """
    rng = np.random.default_rng([explanation.seed, N_DRAWS])
    elements = shares.draw(explanation.nodes, rng)
    if elements is None:
        return None
    config = model.config
    assert isinstance(config, CGCNNConfig)
    graph = filled_graph(elements, explanation.edges, max_neighbors=config.max_neighbors)
    with torch.inference_mode():
        outputs = model.network.eval()(graph).double().numpy()
    values = to_unit(outputs, model.scaling, model.task)
    if model.task == "regression":
        assert threshold is not None  # a number has no classes without one
        values = (values > threshold).astype(np.float64)
    above = float(values.mean())
    return above if target_class == 1 else 1.0 - above


def filled_graph(
    elements: Ints, edges: Sequence[tuple[int, int]], *, max_neighbors: int
) -> CrystalGraph:
    """Give a batch of one grown graph with several draws of elements.

    Args:
        elements: (n_draws, n_nodes) atomic numbers.
        edges: pairs of nodes; every node has at least one.
        max_neighbors: of each node in the batch, its neighbors in turn.
    """
    n_draws, n_nodes = elements.shape
    neighbors: list[list[int]] = [[] for _ in range(n_nodes)]
    for a, b in edges:
        neighbors[a].append(b)
        neighbors[b].append(a)
    own = np.stack([np.resize(sorted(found), max_neighbors) for found in neighbors])
    first = np.arange(n_draws) * n_nodes
    senders = (own[None] + first[:, None, None]).reshape(-1)
    receivers = np.repeat(np.arange(n_draws * n_nodes), max_neighbors)
    radii = covalent_radii()[elements.reshape(-1)]
    return CrystalGraph(
        atomic_numbers=torch.from_numpy(elements.reshape(-1)),
        edge_index=torch.from_numpy(np.stack([senders, receivers])),
        distances=torch.from_numpy((radii[senders] + radii[receivers]).astype(np.float32)),
        crystal_index=torch.arange(n_draws).repeat_interleave(n_nodes),
        n_sites=torch.full((n_draws,), float(n_nodes)),
        degree=max_neighbors,
    )


def covalent_radii() -> Floats:
    """Give (101,) Pyykkö's single-bond radii in Å by atomic number."""
    radii = np.full(MAX_ATOMIC_NUMBER + 1, UNKNOWN_RADIUS)
    for z, known in element_properties().items():
        if known.covalent_radius_pm is not None:
            radii[z] = known.covalent_radius_pm / PM_PER_ANGSTROM
    return radii
