"""Shards of a screening from numbers alone: no crystal, no model."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from raymat.ensembles.predictions import MemberPredictions
from raymat.screening.criterion import parse_criterion
from raymat.screening.evaluate import evaluate
from raymat.screening.shard import ScreenedShard

N_MEMBERS = 40
WIDE = parse_criterion(
    {
        "name": "wide",
        "predictions": {"gap": "band_gap", "bulk": "log10_K_VRH"},
        "columns": {"band_gap": "eV", "K_VRH": "GPa", "energy": "eV"},
        "known": {"gap": "band_gap", "bulk": "log10(K_VRH)"},
        "values": {"gap_ev": "gap"},
        "passes": {"p_wide": "gap > 1.0", "p_soft": "bulk < 1.0"},
        "exclude": {"unstable": "energy > 0.1"},
        "rank": {"by": "p_wide", "order": "descending"},
        "list_if": "p_wide > 0.5",
    },
    path="wide.yaml",
)
NO_ROWS = pd.DataFrame({"material_id": [], "reason": []}, dtype=object)


def logged(number: int, counts: dict[str, Any]) -> dict[str, Any]:
    """Give the event that tells of a shard."""
    return {"event": "shard_ended", "shard": number, **counts}


def candidates(n: int) -> pd.DataFrame:
    """Give columns: every seventh candidate is excluded, every fifth known."""
    rows = np.arange(n)
    return pd.DataFrame(
        {
            "material_id": [f"mp-{row:04d}" for row in rows],
            "formula": "LiX",
            "energy": np.where(rows % 7 == 3, 0.2, 0.0),
            "band_gap": np.where(rows % 5 == 2, 0.9 + 0.01 * rows, np.nan),
            "K_VRH": np.where(rows % 5 == 2, 20.0, np.nan),
            "in_domain": pd.array(rows % 2 == 0, dtype="boolean"),
        }
    )


def predictions(n: int, *, seed: int = 0) -> dict[str, MemberPredictions]:
    """Give what members say: from all of them to none pass."""
    rng = np.random.default_rng(seed)
    gaps = rng.normal(np.linspace(0.0, 2.0, n), 0.4, (N_MEMBERS, n))
    bulk = rng.normal(1.0, 0.3, (N_MEMBERS, n))
    return {"gap": MemberPredictions.equal(gaps), "bulk": MemberPredictions.equal(bulk)}


def shards(n: int, size: int) -> list[ScreenedShard]:
    """Judge `n` candidates in shards of `size`."""
    columns, told = candidates(n), predictions(n)
    rows = [np.arange(start, min(start + size, n)) for start in range(0, n, size)]
    return [_judge(columns, told, some) for some in rows]


def _judge(
    columns: pd.DataFrame, told: dict[str, MemberPredictions], rows: Sequence[int] | np.ndarray
) -> ScreenedShard:
    some = {name: found.take(np.asarray(rows)) for name, found in told.items()}
    own = columns.iloc[rows]
    judged = evaluate(WIDE, some, own)
    spoken = judged.table.loc[judged.table["source"] == "ensemble", "material_id"]
    places = np.flatnonzero(own["material_id"].isin(set(spoken)))
    lists = {name: list(found.values[:, places].T) for name, found in some.items()}
    members = pd.DataFrame({"material_id": own["material_id"].to_numpy()[places], **lists})
    return ScreenedShard(judged.table, judged.excluded, members, 3 * len(places), 0.5)
