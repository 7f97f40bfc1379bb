"""Small sources with known faults, written for the data tests."""

import json
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from pymatgen.core import Lattice, Structure

from raymat.data.crystals import Crystal, CrystalSet


def rock_salt(a: float = 5.64, cation: str = "Na") -> Structure:
    """Give a primitive rock-salt chloride."""
    lattice = Lattice([[0, a / 2, a / 2], [a / 2, 0, a / 2], [a / 2, a / 2, 0]])
    return Structure(lattice, [cation, "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])


def cif_text(structure: Structure) -> str:
    """Give P1 CIF text."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return str(structure.to(fmt="cif"))


def cif_table(n: int = 10) -> pd.DataFrame:
    """Give n good rows with `material_id`, `cif` and a target `y`."""
    texts = [cif_text(rock_salt(5.0 + 0.05 * i)) for i in range(n)]
    ids = [f"c-{i}" for i in range(n)]
    return pd.DataFrame({"material_id": ids, "cif": texts, "y": np.linspace(1.0, 2.0, n)})


def array_table(crystals: CrystalSet) -> pd.DataFrame:
    """Give crystals in the columns of the standard Parquet, lists per row, ready to be broken."""
    rows = [crystals[i] for i in range(len(crystals))]
    return pd.DataFrame(
        {
            "material_id": [c.material_id for c in rows],
            "lattice": [c.lattice.ravel().tolist() for c in rows],
            "atomic_numbers": [c.atomic_numbers.tolist() for c in rows],
            "frac_coords": [c.frac_coords.ravel().tolist() for c in rows],
        }
    )


def matbench_json(structures: list[Structure], values: list[float]) -> str:
    """Give the split orientation that Matbench writes."""
    content = {
        "index": [f"mb-test-{i:03}" for i in range(len(structures))],
        "columns": ["structure", "log10(G_VRH)"],
        "data": [[s.as_dict(), v] for s, v in zip(structures, values, strict=True)],
    }
    return json.dumps(content)


def write_folder(folder: Path, n: int = 6) -> Path:
    """Write the CGCNN layout with n crystals."""
    folder.mkdir()
    (folder / "id_prop.csv").write_text("".join(f"{i:04},{1.5 + i}\n" for i in range(n)))
    for i in range(n):
        (folder / f"{i:04}.cif").write_text(cif_text(rock_salt(5.0 + 0.1 * i)))
    return folder


def elements_set(numbers: list[list[int]]) -> CrystalSet:
    """Give crystals with these atoms, spread on the diagonal of a large cube."""
    crystals = [
        Crystal(
            material_id=f"x-{i}",
            lattice=np.eye(3) * 30.0,
            atomic_numbers=np.array(zs, dtype=np.uint8),
            frac_coords=np.repeat(np.arange(len(zs))[:, None] / len(zs), 3, axis=1),
        )
        for i, zs in enumerate(numbers)
    ]
    return CrystalSet.from_crystals(crystals)
