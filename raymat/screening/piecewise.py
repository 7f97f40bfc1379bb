"""A shard that goes on without the candidates that break a library."""

from collections.abc import Callable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from raymat.data.composition import reduced_formulas
from raymat.data.crystals import CrystalSet
from raymat.errors import RaymatError
from raymat.screening.plain_columns import join_tables
from raymat.screening.shard import ScreenedShard

Rows = NDArray[np.int64]


def screen_piecewise(
    crystals: CrystalSet, rows: Rows, screen: Callable[[CrystalSet, Rows], ScreenedShard]
) -> ScreenedShard:
    """Screen candidates; one that cannot be screened is excluded, with what was raised.

    After a failure the halves are screened each by itself, down to the candidate. Errors of ours
    speak of the whole run, and end it.

    Args:
        crystals: the candidates, at least one.
        rows: (n_crystals,) of their source.
        screen: screens any of them.
    """
    try:
        return screen(crystals, rows)
    except RaymatError:
        raise
    except Exception as error:  # of any library that looks at a crystal
        if len(crystals) == 0:
            raise
        if len(crystals) == 1:
            return _excluded(crystals, error)
    halves = np.array_split(np.arange(len(crystals)), 2)
    parts = [screen_piecewise(crystals.take(half), rows[half], screen) for half in halves]
    return ScreenedShard(
        table=_join([part.table for part in parts]),
        excluded=_join([part.excluded for part in parts]),
        members=_join([part.members for part in parts]),
        n_member_atoms=sum(part.n_member_atoms for part in parts),
        predict_time_s=sum(part.predict_time_s for part in parts),
    )


def _excluded(crystals: CrystalSet, error: Exception) -> ScreenedShard:
    said = " ".join(str(error).split()).replace("; ", ", ")
    reason = f"cannot be screened: {type(error).__name__}: {said}"
    alone = {"material_id": crystals.material_ids, "formula": reduced_formulas(crystals)}
    nobody = pd.DataFrame()
    return ScreenedShard(nobody, pd.DataFrame({**alone, "reason": reason}), nobody, 0, 0.0)


def _join(tables: list[pd.DataFrame]) -> pd.DataFrame:
    told = [table for table in tables if len(table)]
    return join_tables(told) if told else tables[0]
