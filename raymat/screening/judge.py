"""Judging candidates by a criterion: every member speaks for itself, averages come last.

A candidate is a column of numbers (n_members,) through all expressions. Means, spreads and shares
are taken over what the expressions give, never the expressions of a mean: for LiAuI4 the
stability parameter of the mean moduli is 1.69 where the members' mean is 2.7 kJ/(mol nm)
(Ahmad et al. 2018).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raymat.screening.criterion import Criterion
from raymat.screening.criterion_names import N_MEMBERS
from raymat.screening.member_statistics import mean_and_std, share_with_interval
from raymat.screening.voices import Voices

Floats = NDArray[np.float64]
Reasons = NDArray[np.object_]


@dataclass(frozen=True, eq=False)
class _Told:
    """What every voice says of every candidate, (n_members, n_candidates) each."""

    values: Mapping[str, Floats]
    require: Mapping[str, Floats]
    passes: Mapping[str, Floats]
    counts: Mapping[str, Floats]


def judge(
    criterion: Criterion, voices: Voices, columns: Mapping[str, Floats]
) -> tuple[dict[str, NDArray[np.float64] | NDArray[np.int64]], Reasons]:
    """Judge candidates by what members, or known values, say of them.

    Args:
        criterion: what is screened by.
        voices: their predictions.
        columns: what the criterion reads of the candidates, (n_candidates,) each.

    Returns:
        The columns that the criterion makes, and why each candidate cannot be judged, "" where it
        can; (n_candidates,) each.
    """
    told = _ask(criterion, voices, columns)
    made: dict[str, NDArray[np.float64] | NDArray[np.int64]] = {}
    for name, values in told.values.items():
        made[name], made[f"{name}_std"] = mean_and_std(values, voices.weights)
    for name, holds in told.passes.items():
        share, low, high = share_with_interval(holds, voices.weights)
        if not voices.are_members:
            low, high = np.full_like(low, np.nan), np.full_like(high, np.nan)
        made[name], made[f"{name}_lo"], made[f"{name}_hi"] = share, low, high
    counted = int(voices.are_members)
    for name, holds in told.counts.items():
        made[name] = (holds == 1).sum(axis=0) * counted
    n_members, n_candidates = voices.shape
    made[N_MEMBERS] = np.full(n_candidates, n_members * counted)
    return made, _reasons(criterion, voices, columns, told)


def _ask(criterion: Criterion, voices: Voices, columns: Mapping[str, Floats]) -> _Told:
    names = {**columns, **voices.predictions}
    for name, expression in criterion.values.items():
        names[name] = np.broadcast_to(expression.evaluate(names), voices.shape)
    conditions = {
        section: {
            name: np.broadcast_to(expression.evaluate(names), voices.shape)
            for name, expression in getattr(criterion, section).items()
        }
        for section in ("require", "passes", "counts")
    }
    return _Told(values={name: names[name] for name in criterion.values}, **conditions)


def _reasons(
    criterion: Criterion, voices: Voices, columns: Mapping[str, Floats], told: _Told
) -> Reasons:
    """Give the first thing that keeps each candidate from being judged."""
    reasons = np.full(voices.shape[1], "", dtype=object)
    read = sorted(criterion.names_in("values", "require", "passes", "counts") & set(columns))
    for problem, found in _problems(voices, told).items():
        counts = found.sum(axis=0)
        for row in np.flatnonzero((counts > 0) & (reasons == "")):
            missing = [name for name in read if np.isnan(columns[name][row])]
            reasons[row] = _sentence(problem, int(counts[row]), voices, missing)
    return reasons


def _problems(voices: Voices, told: _Told) -> dict[str, NDArray[np.bool_]]:
    """Give what can be wrong with a voice -> for which voice and candidate it is."""
    return {
        **{
            f"prediction '{name}' is not a finite number": ~np.isfinite(values)
            for name, values in voices.predictions.items()
        },
        **{reason: holds != 1 for reason, holds in told.require.items()},
        **{f"'{name}' is not a number": np.isnan(values) for name, values in told.values.items()},
        **{
            f"'{name}' cannot be told": np.isnan(holds)
            for name, holds in {**told.passes, **told.counts}.items()
        },
    }


def _sentence(problem: str, count: int, voices: Voices, missing: list[str]) -> str:
    n_members = voices.shape[0]
    who = f"{count} of {n_members} members" if voices.are_members else "the known values"
    where = f"; missing: {', '.join(missing)}" if missing else ""
    return f"{problem} (in {who}{where})"
