"""Make the rules that graphs keep to, from the training crystals and from chemistry."""

from collections.abc import Iterable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from raymat.explain.rules import Rules
from raymat.features.coarse_graphs import N_LABELS, LabelKind, element_labels
from raymat.features.neighbor_table import NeighborTable
from raymat.features.oxidation import oxidation_signs

RuleName = Literal["coordination", "charge"]
# Times the shortest distance of an atom: how far its nearest neighbors may lie. Just below 2 over
# the square root of 3, where the second shell of CsCl begins.
SHELL = 1.15


def make_rules(
    names: Iterable[RuleName],
    labels: LabelKind,
    *,
    max_degree: int,
    table: NeighborTable,
    rows: NDArray[np.int64],
) -> Rules:
    """Give the rules of a labelling.

    Args:
        names: rules besides the largest degree. "coordination" lowers it to the median number of
            nearest neighbors of a label's atoms in the training crystals; "charge" lets an edge
            join only what can be a cation and an anion.
        labels: groups or periods.
        max_degree: most edges of any node.
        table: of the crystals, with enough neighbors for their first shells.
        rows: the training crystals.
    """
    asked = set(names)
    limits = np.full(N_LABELS[labels], max_degree)
    if "coordination" in asked:
        limits = np.minimum(limits, usual_coordination(table, rows, labels))
    degrees = tuple(int(n) for n in limits)
    if "charge" not in asked:
        return Rules(degrees)
    elements = np.unique(table.take(rows).atomic_numbers)
    cation, anion = label_signs(labels, elements.tolist())
    return Rules(degrees, cation, anion)


def usual_coordination(
    table: NeighborTable, rows: NDArray[np.int64], labels: LabelKind
) -> NDArray[np.int64]:
    """Give (n_labels,) how many nearest neighbors atoms of a label have, their median.

    Nearest are those within `SHELL` times an atom's shortest distance, images of one atom counted
    apart, as far as the table keeps neighbors. 1 for a label that no crystal has.
    """
    own = table.take(rows)
    is_near = own.distances <= SHELL * own.distances[:, :1]
    counts = (is_near & np.isfinite(own.distances)).sum(axis=1)
    found = element_labels(labels)[own.atomic_numbers]
    usual = np.ones(N_LABELS[labels], dtype=np.int64)
    for label in np.unique(found):
        usual[label] = max(1, int(np.median(counts[found == label])))
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
