"""What more members buy: scores against the number of members.

Each number of members is scored on several random draws of members without replacement. Draws of
nearly all members share most of them, so the deviation between draws is no standard error.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from raymat.ensembles.calibration import (
    SPREAD_SCORES,
    Floats,
    Scores,
    expected_coverage,
    has_spread,
    score_probabilities,
    score_uncertainty,
)
from raymat.ensembles.predictions import MemberPredictions
from raymat.errors import DataError
from raymat.properties import Task
from raymat.training.metrics import mae

N_DRAWS = 20
LEVEL = 0.90


def member_curves(
    predictions: MemberPredictions,
    targets: Floats,
    *,
    task: Task = "regression",
    sizes: Sequence[int] | None = None,
    n_draws: int = N_DRAWS,
    seed: int = 0,
) -> pd.DataFrame:
    """Score draws of 1, 2, 3, 5, 7, 10, ... members on rows that no member saw.

    Every drawn member counts the same, whatever the weights. The NLL of raw spreads has no finite
    expectation for 2 or 3 members, whose spread is near 0 too often, and so jumps between draws.

    Args:
        predictions: of these rows.
        targets: (n_rows,).
        task: of the target.
        sizes: numbers of members; by default up to all of them.
        n_draws: draws of each size; all members at once are scored once.
        seed: of the draws.

    Returns:
        One row per size: `n_members`, `n_draws`, and for every score its mean over draws and
        ``<score>_std`` (sample). For numbers: `mae`, and of `score_uncertainty` with the total
        spread all but `n`, nan for one member; `coverage_90_exchangeable` is what
        `expected_coverage` gives. Rows in which all drawn members agree have no density and are
        left out of these scores: `without_spread` counts them, and a draw of equal members has
        no scores. For classes: `nll`, `brier` and `ece`.

    Raises:
        DataError: a size that cannot be drawn, or rows that cannot be scored.
    """
    found: dict[int, list[Scores]] = {}
    chosen = curve_sizes(predictions.n_members) if sizes is None else sizes
    for members in member_draws(predictions.n_members, chosen, n_draws=n_draws, seed=seed):
        found.setdefault(len(members), []).append(_score(predictions, members, targets, task))
    rows = [_summary(size, scores, task) for size, scores in found.items()]
    return pd.DataFrame(rows)


def curve_sizes(n_members: int) -> list[int]:
    """Give 1, 2, 3, 5, 7, 10, 15, 20, 30, ... below `n_members`, and `n_members`."""
    steps = (1, 2, 3, 5, 7, 10, 15)
    grid = {step * 10**power for power in range(8) for step in steps}
    return [*sorted(size for size in grid if size < n_members), n_members]


def member_draws(
    n_members: int, sizes: Sequence[int], *, n_draws: int = N_DRAWS, seed: int = 0
) -> Iterator[NDArray[np.int64]]:
    """Give the members of each draw, sorted, size by size.

    The draws of one size are the same whatever other sizes are asked for, so that other curves,
    such as of P_s, can be drawn over the same choices.

    Raises:
        DataError: a size below 1 or above `n_members`, or no draws.
    """
    wrong = [size for size in sizes if not 1 <= size <= n_members]
    if wrong or n_draws < 1:
        raise DataError(
            f"{n_draws} draws of {wrong[0] if wrong else 'any'} of {n_members} members; expected"
            " at least one draw of at least one and at most all members"
        )
    for size in sizes:
        rng = np.random.default_rng((seed, size))
        for _ in range(1 if size == n_members else n_draws):
            yield np.sort(rng.choice(n_members, size=size, replace=False)).astype(np.int64)


def _score(
    predictions: MemberPredictions, members: NDArray[np.int64], targets: Floats, task: Task
) -> Scores:
    drawn = predictions.draw(members)
    if task == "classification":
        return score_probabilities(targets, drawn.mean)
    scores: Scores = {"mae": mae(targets, drawn.mean)}
    if len(members) > 1:
        scores |= _score_spread(targets, drawn.mean, drawn.total)
    return scores


def _score_spread(targets: Floats, mean: Floats, std: Floats) -> Scores:
    kept = has_spread(std)
    without: Scores = {"without_spread": float((~kept).sum())}
    if not kept.any():
        return dict.fromkeys(SPREAD_SCORES) | without
    return score_uncertainty(targets[kept], mean[kept], std[kept]) | without


def _summary(size: int, scores: list[Scores], task: Task) -> dict[str, float]:
    draws = pd.DataFrame(scores).drop(columns="n", errors="ignore").astype(np.float64)
    row: dict[str, float] = {"n_members": size, "n_draws": len(draws)}
    if "without_spread" in draws:
        row["without_spread"] = draws.pop("without_spread").mean()
    for name in draws.columns:
        row[name], row[f"{name}_std"] = draws[name].mean(), draws[name].std(ddof=1)
    if task == "regression" and size > 1:
        row["coverage_90_exchangeable"] = expected_coverage(LEVEL, size)
    return row
