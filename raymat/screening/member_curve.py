"""What more members would have changed in the probabilities of a screening."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from raymat.ensembles.curves import curve_sizes, member_draws
from raymat.ensembles.predictions import MemberPredictions
from raymat.screening.criterion import Criterion
from raymat.screening.evaluate import evaluate
from raymat.screening.plain_columns import join_tables
from raymat.screening.shard_files import MEMBERS, TABLE, StoredShards

Floats = NDArray[np.float64]
CURVE_CANDIDATES = 1000  # of which the curve is taken, evenly spaced
CURVE_DRAWS = 10
_ENDINGS = ("mean", "mean_std", "deviation", "largest")


def probability_curve(
    criterion: Criterion, shards: StoredShards, weights: Mapping[str, Floats]
) -> pd.DataFrame:
    """Tell what probabilities fewer members give, and how far they lie from those of all.

    Members keep their weights, relative to each other, in every draw.

    Args:
        criterion: what was screened by.
        shards: of the run.
        weights: prediction -> (n_members,) of the ensemble that makes it.

    Returns:
        One row per number of members: ``n_members, n_draws`` and, for every probability of the
        criterion, its ``_mean`` over candidates and random draws, ``_mean_std`` of that between
        draws, the mean absolute ``_deviation`` over both, and the ``_largest`` over candidates of
        the mean deviation over draws. No rows where no member speaks, there are only two,
        or the criterion has no probability.

    Raises:
        RunError: the files of a shard cannot be used.
    """
    names = list(criterion.passes)
    if not names:
        return pd.DataFrame({"n_members": [], "n_draws": []})
    header = ["n_members", "n_draws", *(f"{name}_{end}" for name in names for end in _ENDINGS)]
    predictions, columns = _some_candidates(criterion, shards, weights)
    n_members = len(next(iter(weights.values())))
    rows = []
    if len(columns):
        whole = _shares(criterion, predictions, columns)
        for size in curve_sizes(n_members)[1:-1]:  # one has no share, all have no deviation
            drawn = [
                {name: _draw(found, members) for name, found in predictions.items()}
                for members in member_draws(n_members, [size], n_draws=CURVE_DRAWS)
            ]
            shares = np.stack([_shares(criterion, some, columns) for some in drawn])
            told = [_summary(shares[:, :, k], whole[:, k]) for k in range(len(names))]
            rows.append([size, len(drawn), *np.concatenate(told).tolist()])
    return pd.DataFrame(rows, columns=header)


def _summary(shares: Floats, whole: Floats) -> list[float]:
    """Give the numbers of `_ENDINGS`, from (n_draws, n_candidates) and (n_candidates,)."""
    means = shares.mean(axis=1)
    apart = np.abs(shares - whole).mean(axis=0)
    return [float(x) for x in (means.mean(), means.std(ddof=1), apart.mean(), apart.max())]


def _draw(found: MemberPredictions, members: NDArray[np.int64]) -> MemberPredictions:
    weights = found.weights[members]
    return MemberPredictions(found.values[members], None, weights / weights.sum())


def _shares(
    criterion: Criterion, predictions: Mapping[str, MemberPredictions], columns: pd.DataFrame
) -> Floats:
    """Give the probabilities, (n_candidates, n_probabilities)."""
    table = evaluate(criterion, predictions, columns).table
    return np.asarray(table[list(criterion.passes)].to_numpy(dtype=np.float64))


def _some_candidates(
    criterion: Criterion, shards: StoredShards, weights: Mapping[str, Floats]
) -> tuple[dict[str, MemberPredictions], pd.DataFrame]:
    """Give members' predictions and the columns of candidates that members speak for."""
    step = max(1, -(-shards.total("spoken_for") // CURVE_CANDIDATES))
    members: dict[str, list[Floats]] = {name: [] for name in criterion.predictions}
    columns = []
    seen = 0
    for table, spoken in zip(shards.read(TABLE), shards.read(MEMBERS), strict=True):
        some = spoken.iloc[-seen % step :: step]  # the same ones, whatever the size of the shards
        seen += len(spoken)
        if len(some):
            for name, told in members.items():
                told.append(np.stack(some[name].to_list()))  # a copy: the shard can be let go
            columns.append(table[table["material_id"].isin(set(some["material_id"]))])
    if not columns:
        return {}, pd.DataFrame()
    predictions = {
        name: MemberPredictions(np.concatenate(told).T, None, weights[name])
        for name, told in members.items()
    }
    return predictions, join_tables(columns)
