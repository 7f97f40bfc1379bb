"""Fixtures that every test may use."""

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from raymat.data.crystals import Crystal, CrystalSet

# A process that ignores Ctrl-C, as a worker of pytest-xdist does, would start others that do so.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Each of the many processes that tests start would compile everything anew.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# Several processes of tests share the cores; several threads in each would wait for one another.
# Read when PyTorch or scikit-learn is imported, by tests and by the processes that they start.
os.environ.setdefault("OMP_NUM_THREADS", "1")

PROJECT = Path(__file__).parent.parent
REFERENCE = Path(__file__).parent / "reference"

# Lattice constants in Å from textbooks (Kittel, Introduction to Solid State Physics).
TINY = {
    "NaCl": (5.64, [11] * 4 + [17] * 4, "fcc+half"),
    "Si": (5.431, [14] * 8, "diamond"),
    "CsCl": (4.11, [55, 17], "cscl"),
    "SrTiO3": (3.905, [38, 22, 8, 8, 8], "perovskite"),
}
FCC = [[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]
SITES = {
    "fcc+half": FCC + [[x + 0.5, y, z] for x, y, z in FCC],
    "diamond": FCC + [[x + 0.25, y + 0.25, z + 0.25] for x, y, z in FCC],
    "cscl": [[0, 0, 0], [0.5, 0.5, 0.5]],
    "perovskite": [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]],
}


def make_crystal(name: str, scale: float = 1.0) -> Crystal:
    """Build one of the tiny cubic crystals, its lattice constant scaled."""
    a, numbers, sites = TINY[name]
    return Crystal(
        material_id=name,
        lattice=np.eye(3) * a * scale,
        atomic_numbers=np.array(numbers, dtype=np.uint8),
        frac_coords=np.array(SITES[sites], dtype=np.float64),
    )


@pytest.fixture(autouse=True)
def _keep_sigint() -> Iterator[None]:
    """A command that was interrupted ignores Ctrl-C from then on; the next test must not."""
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session", autouse=True)
def _own_configuration(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The addresses that tests name are no business of the user who runs them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("configuration")))
        yield


@pytest.fixture(scope="session")
def tiny_crystals() -> CrystalSet:
    """NaCl, Si, CsCl, SrTiO3."""
    return CrystalSet.from_crystals([make_crystal(name) for name in TINY])


@pytest.fixture(scope="session")
def twelve_crystals() -> CrystalSet:
    """The tiny crystals at three volumes, with a smooth target `y` that depends on both."""
    crystals, targets = [], []
    for k, scale in enumerate((0.95, 1.0, 1.06)):
        for name in TINY:
            c = make_crystal(name, scale)
            crystals.append(Crystal(f"{name}-{k}", c.lattice, c.atomic_numbers, c.frac_coords))
            targets.append(float(c.atomic_numbers.mean()) / 20.0 + 4.0 * (scale - 1.0))
    classes = [float(t > np.median(targets)) for t in targets]
    return CrystalSet.from_crystals(crystals, pd.DataFrame({"y": targets, "is_high": classes}))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real data and golden CIF files; skips where it is absent."""
    folder = Path(os.environ.get("RAYMAT_SHARED", PROJECT.parent / "shared"))
    if not (folder / "data").is_dir():
        pytest.skip(f"no shared data at {folder}; set RAYMAT_SHARED to its folder")
    return folder


def read_reference(name: str) -> dict[str, Any]:
    """Read one file of golden numbers."""
    content: dict[str, Any] = json.loads((REFERENCE / name).read_text(encoding="utf-8"))
    return content
