"""A candidate that breaks a library is excluded, and the others are screened all the same."""

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import make_crystal

from raymat.data.crystals import Crystal, CrystalSet
from raymat.errors import ConfigError, RunError
from raymat.screening.piecewise import screen_piecewise
from raymat.screening.shard import ScreenedShard


def many(n: int) -> CrystalSet:
    salt = make_crystal("NaCl")
    return CrystalSet.from_crystals(
        [Crystal(f"mp-{k}", salt.lattice, salt.atomic_numbers, salt.frac_coords) for k in range(n)]
    )


class Screen:
    """Ranks everybody, excludes every fifth, and breaks on some."""

    def __init__(self, *broken: str, error: type[Exception] = ValueError) -> None:
        self.broken, self.error = set(broken), error
        self.calls = 0

    def __call__(self, crystals: CrystalSet, rows: np.ndarray) -> ScreenedShard:
        self.calls += 1
        met = self.broken & set(crystals.material_ids)
        if met:
            raise self.error(f"QH6154 initial simplex is flat;\n   {sorted(met)[0]}")
        out = rows % 5 == 0
        ids = pd.DataFrame({"material_id": crystals.material_ids, "row": rows})
        return ScreenedShard(
            ids[~out],
            ids[out].assign(formula="NaCl", reason="metallic"),
            ids[~out],
            len(rows),
            0.25,
        )


@pytest.mark.parametrize(
    "broken", [(), ("mp-3",), ("mp-0", "mp-12"), tuple(f"mp-{k}" for k in range(12))]
)
def test_only_what_breaks_is_left_out(broken: tuple[str, ...]) -> None:
    crystals, rows = many(13), np.arange(100, 113)
    screen = Screen(*broken)
    found = screen_piecewise(crystals, rows, screen)
    names = dict(zip(crystals.material_ids, rows.tolist(), strict=True))
    whole = [name for name in names if name not in broken]
    assert list(found.table.get("material_id", [])) == [n for n in whole if names[n] % 5]
    assert list(found.members.get("row", [])) == [names[n] for n in whole if names[n] % 5]
    reasons = dict(zip(found.excluded["material_id"], found.excluded["reason"], strict=True))
    assert {n for n, reason in reasons.items() if reason == "metallic"} == {
        n for n in whole if names[n] % 5 == 0
    }
    for name in broken:
        assert reasons[name].startswith(
            "cannot be screened: ValueError: QH6154 initial simplex is flat, "
        )
    assert set(found.excluded["formula"]) == {"NaCl"}
    assert found.n_member_atoms == len(whole)
    if not broken:
        assert screen.calls == 1


def test_error_of_ours_ends_the_run() -> None:
    with pytest.raises(ConfigError, match="simplex"):
        screen_piecewise(many(4), np.arange(4), Screen("mp-1", error=ConfigError))


def test_where_everybody_breaks_no_crystal_is_at_fault() -> None:
    everybody = [f"mp-{k}" for k in range(13)]
    with pytest.raises(RunError, match=r"none of 13 candidates can be screened on .*: ValueError"):
        screen_piecewise(many(13), np.arange(13), Screen(*everybody))
    alone = screen_piecewise(many(1), np.arange(1), Screen("mp-0"))
    assert len(alone.excluded) == 1


@pytest.mark.parametrize("error", [OSError, ImportError, MemoryError, torch.OutOfMemoryError])
def test_machine_at_fault_ends_the_run(error: type[Exception]) -> None:
    screen = Screen("mp-1", error=error)
    with pytest.raises(RunError, match=f"on .*: {error.__name__}: QH6154 .* then resume the run"):
        screen_piecewise(many(4), np.arange(4), screen)
    assert screen.calls == 1
