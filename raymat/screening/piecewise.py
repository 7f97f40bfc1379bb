"""A shard that goes on without the candidates that break a library."""

import platform
from collections.abc import Callable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from raymat.data.composition import reduced_formulas
from raymat.data.crystals import CrystalSet
from raymat.errors import RaymatError, RunError, one_line
from raymat.screening.plain_columns import join_tables
from raymat.screening.shard import ScreenedShard
from raymat.training.device import DEVICE_ERRORS

Rows = NDArray[np.int64]


# What is wrong with the machine is not wrong with a crystal.
_OF_THE_MACHINE = (OSError, ImportError, MemoryError, *DEVICE_ERRORS)
_TELLING = 10  # candidates; where so many break, and nobody does not, no crystal is at fault


def screen_piecewise(
    crystals: CrystalSet, rows: Rows, screen: Callable[[CrystalSet, Rows], ScreenedShard]
) -> ScreenedShard:
    """Screen candidates; one that cannot be screened is excluded, with what was raised.

    After a failure the halves are screened each by itself, down to the candidate. Errors of ours
    speak of the whole run, and end it, as those of the machine do.

    Args:
        crystals: the candidates, at least one.
        rows: (n_crystals,) of their source.
        screen: screens any of them.

    Raises:
        RunError: the machine is at fault, or many candidates, and none of them can be screened.
    """
    broken: list[Exception] = []
    try:
        found = _screen_parts(crystals, rows, screen, broken)
    except _OF_THE_MACHINE as error:
        raise _machine_at_fault("candidates cannot", error) from error
    if len(broken) == len(crystals) >= _TELLING:
        raise _machine_at_fault(f"none of {len(broken)} candidates can", broken[0]) from broken[0]
    return found


def _machine_at_fault(who: str, error: Exception) -> RunError:
    return RunError(
        f"{who} be screened on {platform.node()}: {_in_one_line(error)}; check that host, then"
        " resume the run"
    )


def _screen_parts(
    crystals: CrystalSet,
    rows: Rows,
    screen: Callable[[CrystalSet, Rows], ScreenedShard],
    broken: list[Exception],
) -> ScreenedShard:
    """Screen candidates; what single ones raised is added to `broken`."""
    try:
        return screen(crystals, rows)
    except (RaymatError, *_OF_THE_MACHINE):
        raise
    except Exception as error:  # of any library that looks at a crystal
        if len(crystals) == 0:
            raise
        if len(crystals) == 1:
            broken.append(error)
            return _excluded(crystals, error)
    halves = np.array_split(np.arange(len(crystals)), 2)
    parts = [_screen_parts(crystals.take(half), rows[half], screen, broken) for half in halves]
    return ScreenedShard(
        table=_join([part.table for part in parts]),
        excluded=_join([part.excluded for part in parts]),
        members=_join([part.members for part in parts]),
        n_member_atoms=sum(part.n_member_atoms for part in parts),
        predict_time_s=sum(part.predict_time_s for part in parts),
    )


def _excluded(crystals: CrystalSet, error: Exception) -> ScreenedShard:
    reason = f"cannot be screened: {_in_one_line(error)}"
    alone = {"material_id": crystals.material_ids, "formula": reduced_formulas(crystals)}
    nobody = pd.DataFrame()
    return ScreenedShard(nobody, pd.DataFrame({**alone, "reason": reason}), nobody, 0, 0.0)


def _in_one_line(error: Exception) -> str:
    said = one_line(error).replace("; ", ", ")
    return f"{type(error).__name__}: {said}"


def _join(tables: list[pd.DataFrame]) -> pd.DataFrame:
    told = [table for table in tables if len(table)]
    return join_tables(told) if told else tables[0]
