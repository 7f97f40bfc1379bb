"""Cells that could take the machine: sheared, huge, or with all atoms in one place."""

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from raymat.data.crystals import Crystal
from raymat.data.lattices import find_pairs_within, needs_wide_boxes, reduce_lattices, wrap
from raymat.data.readers import load_crystals

SAME = 1e-6  # Å
SALT = Crystal(
    "LiCl", np.eye(3) * 3.2, np.array([3, 17], np.uint8), np.array([[0, 0, 0], [0.5, 0.5, 0.5]])
)


def test_a_sheared_cell_is_reduced():
    given = np.array([[[3.0, 0, 0], [3000, 3, 0], [0, 0, 3]]])
    (reduced,), (basis,) = reduce_lattices(given)
    assert np.linalg.norm(reduced, axis=1) == pytest.approx(3.0)
    assert basis @ given[0] == pytest.approx(reduced)
    frac = np.array([[0.3, 700.9, -0.2]])
    inside, shifts = wrap(frac, basis)
    assert ((inside >= 0) & (inside < 1)).all()
    assert (inside + shifts) @ reduced == pytest.approx(frac @ given[0])


def test_ordinary_cells_are_searched_as_they_are_given():
    rng = np.random.default_rng(0)
    lattices = np.eye(3) * 5.0 + rng.uniform(-1.5, 1.5, (200, 3, 3))
    reduced, bases = reduce_lattices(lattices)
    assert np.array_equal(reduced, lattices)
    assert np.array_equal(bases, np.broadcast_to(np.eye(3), (200, 3, 3)))
    frac = rng.normal(size=(7, 3))
    inside, shifts = wrap(frac, np.eye(3))
    assert np.array_equal(inside, frac - np.floor(frac))
    assert np.array_equal(shifts, np.floor(frac))


def test_wide_boxes_find_the_same_pairs():
    """Few atoms in a wide cell, in any direction: fewer boxes than the radius suggests."""
    rng = np.random.default_rng(1)
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    lattice = np.ascontiguousarray(np.diag([700.0, 700.0, 4.0]) @ turn)
    points = np.ascontiguousarray(rng.uniform(size=(60, 3)) * [0.05, 1.0, 1.0] @ lattice)
    for radius in (1.0, 3.0):
        assert needs_wide_boxes(lattice, radius)
        distances = find_pairs_within(points, points, radius, lattice, is_wide=True)[3]
        images = np.array(list(np.ndindex(3, 3, 5))) - [1, 1, 2]
        steps = points[None, None] + (images @ lattice)[:, None, None] - points[None, :, None]
        expected = np.linalg.norm(steps, axis=3)
        expected = np.sort(expected[expected <= radius])
        assert np.sort(distances) == pytest.approx(expected, abs=SAME)


# One process for each, so that memory can be limited; it prints what data check and a table say.
ATTEMPT = """
import json, resource, sys
import numpy as np, pandas as pd
from raymat.data.checks import structure_reasons
from raymat.data.crystals import Crystal, CrystalSet
from raymat.data.raw import RawCrystals
from raymat.errors import DataError
from raymat.features.edge_table import EdgeConfig
from raymat.features.neighbor_table import NeighborConfig

GB = 2**30
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2 * GB, used + 2 * GB))
resource.setrlimit(resource.RLIMIT_CPU, (30, 30))
lattice, n, spacing = json.loads(sys.argv[1])
edge = round(n ** (1 / 3))
frac = np.array(list(np.ndindex(edge, edge, edge))) * spacing @ np.linalg.inv(lattice)
crystal = Crystal("x", np.array(lattice, float), np.full(len(frac), 3, np.uint8), frac)
crystals = CrystalSet.from_crystals([crystal])
raw = RawCrystals(crystals.material_ids, crystals.lattices, crystals.offsets,
                  crystals.atomic_numbers.astype(np.int64), crystals.frac_coords,
                  pd.DataFrame(index=[0]), np.array([""], dtype=object))
found = [structure_reasons(raw)[0]]
for config in (NeighborConfig(cutoff=15.0), EdgeConfig(cutoff=8.0)):
    try:
        config.build(crystals)
        found.append("built")
    except DataError as error:
        found.append(str(error))
print(json.dumps(found))
"""
HUGE = 900_000.0  # Å
EXTREMES = {
    "sheared": ([[3, 0, 0], [3000, 3, 0], [0, 0, 3]], 1, 0.0, ""),
    "sheared far": ([[3, 0, 0], [HUGE, 3, 0], [0, HUGE, 3]], 1, 0.0, ""),
    "needle": ([[HUGE, 0, 0], [0, 3, 0], [0, 0, 3]], 8, 1.5, "cell too large"),
    "turned needle": ([[HUGE, HUGE, HUGE], [3, -3, 0], [3, 3, -6]], 1, 0.0, "cell too large"),
    "plate": ([[HUGE, 0, 0], [0, HUGE, 0], [0, 0, 4]], 8, 2.0, "cell too large"),
    "box": ([[HUGE, 0, 0], [0, HUGE, 0], [0, 0, HUGE]], 4913, 50_000.0, "cell too large"),
    "one point": ([[20, 0, 0], [0, 20, 0], [0, 0, 20]], 4913, 0.0, "atoms closer than 0.5 Å"),
    "cluster": ([[90, 0, 0], [0, 90, 0], [0, 0, 90]], 4913, 0.6, "atoms too dense"),
    "long cell": ([[4000, 0, 0], [0, 3, 0], [0, 0, 3]], 8, 1.5, ""),
    "large crystal": ([[60, 0, 0], [0, 60, 0], [0, 0, 60]], 8000, 3.0, ""),
}


@pytest.mark.skipif(sys.platform != "linux", reason="limits memory as Linux does")
@pytest.mark.parametrize("name", EXTREMES)
def test_memory_and_time_are_bounded(name):
    """2 GB and 30 s of a core are enough to build a table, or to say why there is none."""
    *crystal, kind = EXTREMES[name]
    run = subprocess.run(
        [sys.executable, "-c", ATTEMPT, json.dumps(crystal)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    reason, *tables = json.loads(run.stdout)
    assert reason.startswith(kind) if kind else reason == ""
    for answer in tables:
        assert answer.startswith("x: ") if kind else answer == "built"


def test_a_row_that_cannot_be_searched_is_rejected_alone(tmp_path):
    rows = [
        SALT,
        Crystal("wide", np.eye(3) * 9e5, SALT.atomic_numbers, SALT.frac_coords),
        Crystal("heap", np.eye(3) * 20.0, np.full(5000, 3, np.uint8), np.zeros((5000, 3))),
    ]
    frame = pd.DataFrame(
        {
            "material_id": [c.material_id for c in rows],
            "lattice": [c.lattice.ravel().tolist() for c in rows],
            "atomic_numbers": [c.atomic_numbers.tolist() for c in rows],
            "frac_coords": [c.frac_coords.ravel().tolist() for c in rows],
        }
    )
    frame.to_parquet(tmp_path / "rows.parquet")
    loaded = load_crystals(str(tmp_path / "rows.parquet"), max_rejected=1.0)
    assert loaded.crystals.material_ids.tolist() == ["LiCl"]
    reasons = dict(zip(loaded.rejected.material_id, loaded.rejected.reason, strict=True))
    assert reasons["wide"].startswith("cell too large: 9e+05 × 9e+05 × 9e+05 Å")
    assert reasons["heap"] == "atoms closer than 0.5 Å: sites 0 and 1 are 0.00 Å apart"
