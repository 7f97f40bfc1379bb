"""Who speaks for a candidate: paired members of several ensembles, or values known already."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raymat.ensembles.predictions import MemberPredictions
from raymat.errors import DataError

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Voices:
    """What is predicted for some candidates, and by how many.

    Attributes:
        predictions: prediction -> (n_members, n_candidates).
        weights: (n_members,) above zero, of any sum.
        source: "ensemble", or "dft" for known values, which are one voice and no member.
    """

    predictions: Mapping[str, Floats]
    weights: Floats
    source: str

    @property
    def shape(self) -> tuple[int, int]:
        """Voices and candidates."""
        return len(self.weights), next(iter(self.predictions.values())).shape[1]

    @property
    def are_members(self) -> bool:
        """Whether they can be counted and differ from each other."""
        return self.source == "ensemble"

    def take(self, rows: NDArray[np.intp]) -> "Voices":
        """Give the same voices on some candidates."""
        chosen = {name: values[:, rows] for name, values in self.predictions.items()}
        return Voices(chosen, self.weights, self.source)


def pair_members(ensembles: Mapping[str, MemberPredictions], *, n_candidates: int) -> Voices:
    """Pair member n of every ensemble with member n of the others.

    A pair has the product of its members' weights; pairs without weight are left out.

    Args:
        ensembles: prediction -> members' predictions.
        n_candidates: for how many candidates they must be.

    Raises:
        DataError: the ensembles differ in size, are of other candidates, or share no member that
            has a weight in all.
    """
    _check_sizes(ensembles, n_candidates)
    # Relative to the largest: equal weights become exact ones, and shares of members exact.
    weights = np.prod([e.weights / e.weights.max() for e in ensembles.values()], axis=0)
    counts = weights > 0
    if not counts.any():
        raise DataError(
            f"{', '.join(ensembles)}: no pair of members has a weight in every ensemble; "
            "screen with members that count the same"
        )
    chosen = {name: e.values[counts] for name, e in ensembles.items()}
    return Voices(chosen, weights[counts], "ensemble")


def known_voice(known: Mapping[str, Floats]) -> Voices:
    """Give known values, prediction -> (n_candidates,), as one voice."""
    return Voices({name: values[None] for name, values in known.items()}, np.ones(1), "dft")


def _check_sizes(ensembles: Mapping[str, MemberPredictions], n_candidates: int) -> None:
    if len({e.n_members for e in ensembles.values()}) > 1:
        told = ", ".join(f"{name} {e.n_members}" for name, e in ensembles.items())
        raise DataError(
            f"members are paired by position, but the ensembles differ in size ({told}); "
            "use the first members of the larger one"
        )
    for name, e in ensembles.items():
        if e.n_rows != n_candidates:
            raise DataError(
                f"{name}: predictions of {e.n_rows} crystals were given for {n_candidates} "
                "candidates; predict the same crystals in the same order"
            )
