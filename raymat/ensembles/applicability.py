"""Whether the training crystals speak for a crystal: its elements, and its distance from them."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce
from operator import or_

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from raymat.data.composition import SYMBOLS
from raymat.data.crystals import CrystalSet
from raymat.ensembles.stored import Ensemble
from raymat.features.store import FeatureStore


@dataclass(frozen=True, eq=False)
class Applicability:
    """How some crystals stand to the training crystals of an ensemble, or of several.

    Attributes:
        unseen: (n_crystals,) symbols of elements that no training crystal has, "" for none.
        distances: (n_crystals,) distance to the training crystals over the largest that counts as
            inside, the larger of the ensembles'; nan for ensembles without a domain.
    """

    unseen: NDArray[np.object_]
    distances: NDArray[np.float64]

    @property
    def inside(self) -> "pd.arrays.BooleanArray":
        """(n_crystals,) whether neither speaks against the crystal; NA where none can tell."""
        is_near = (self.unseen == "") & (self.distances <= 1.0)
        is_unknown = (self.unseen == "") & np.isnan(self.distances)
        return pd.arrays.BooleanArray(is_near, is_unknown)


def find_applicability(
    ensembles: Iterable[Ensemble], features: FeatureStore, device: str = "cpu"
) -> Applicability:
    """Compare all crystals of a store with the training crystals of every ensemble."""
    crystals, given = features.crystals, list(ensembles)
    known = set.intersection(*(set(ensemble.elements) for ensemble in given))
    unseen = [_name_others(crystals[i].atomic_numbers, known) for i in range(len(crystals))]
    distances = np.full(len(crystals), np.nan)
    for ensemble in given:
        found = ensemble.domain_distances(features, device)
        if found is not None:
            distances = np.fmax(distances, found)
    return Applicability(np.array(unseen, dtype=object), distances)


def find_known(ensembles: Iterable[Ensemble], crystals: CrystalSet) -> "pd.arrays.BooleanArray":
    """Return whether any ensemble learned from each crystal, or was selected by it.

    NA where none did as far as is known, and one cannot say, see `Ensemble.knows`.
    """
    nobody = pd.array(np.zeros(len(crystals), dtype=np.bool_), dtype="boolean")
    return reduce(or_, (ensemble.knows(crystals) for ensemble in ensembles), nobody)


def _name_others(atomic_numbers: NDArray[np.uint8], known: set[int]) -> str:
    return " ".join(SYMBOLS[z - 1] for z in sorted(set(atomic_numbers.tolist()) - known))
