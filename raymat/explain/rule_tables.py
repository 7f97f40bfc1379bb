"""Make the rules that graphs keep to, from the training crystals and from chemistry."""

from collections.abc import Iterable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from raymat.explain.rules import Rules
from raymat.features.coarse_graphs import N_LABELS, CoarseView, LabelKind, element_labels
from raymat.features.neighbor_table import NeighborTable
from raymat.features.oxidation import oxidation_signs

RuleName = Literal["coordination", "charge"]
USUAL = 0.95  # share of the atoms of a label that have at most so many neighbors


def make_rules(
    names: Iterable[RuleName],
    labels: LabelKind,
    *,
    max_degree: int,
    table: NeighborTable,
    rows: NDArray[np.int64],
    view: CoarseView,
) -> Rules:
    """Give the rules of a labelling.

    Args:
        names: rules besides the largest degree. "coordination" lowers it to what 95 % of the atoms
            of a label have in the training crystals; "charge" lets an edge join only what can be a
            cation and an anion.
        labels: groups or periods.
        max_degree: most edges of any node.
        table: of the crystals.
        rows: the training crystals.
        view: how the classifier sees them.
    """
    asked = set(names)
    limits = np.full(N_LABELS[labels], max_degree)
    if "coordination" in asked:
        limits = np.minimum(limits, usual_degrees(table, rows, labels, view))
    degrees = tuple(int(n) for n in limits)
    if "charge" not in asked:
        return Rules(degrees)
    elements = np.unique(table.take(rows).atomic_numbers)
    cation, anion = label_signs(labels, elements.tolist())
    return Rules(degrees, cation, anion)


def usual_degrees(
    table: NeighborTable, rows: NDArray[np.int64], labels: LabelKind, view: CoarseView
) -> NDArray[np.int64]:
    """Give (n_labels,) the degree that 95 % of a label's atoms have at most; 1 without atoms."""
    graph = view.batch(table, rows)
    degrees = np.bincount(graph.edge_index[1].numpy(), minlength=graph.n_atoms)
    own = element_labels(labels)[graph.atomic_numbers.numpy()]
    usual = np.ones(N_LABELS[labels], dtype=np.int64)
    for label in np.unique(own):
        found = degrees[own == label]
        usual[label] = max(1, int(np.quantile(found, USUAL, method="inverted_cdf")))
    return usual


def label_signs(
    labels: LabelKind, elements: Iterable[int]
) -> tuple[tuple[bool, ...], tuple[bool, ...]]:
    """Give which labels have an element that is commonly a cation, and which an anion.

    `elements` are those met in the training crystals.
    """
    own, n = element_labels(labels), N_LABELS[labels]
    cation, anion = [False] * n, [False] * n
    for z in elements:
        positive, negative = oxidation_signs(z)
        cation[own[z]] |= positive
        anion[own[z]] |= negative
    return tuple(cation), tuple(anion)
