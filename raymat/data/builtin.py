"""Data sets that travel inside a dependency: no download, no account.

``delta`` is the Delta-codes set of elemental crystals, with WIEN2k (all-electron PBE) values:
Lejaeghere, Van Speybroeck, Van Oost & Cottenier, Crit. Rev. Solid State Mater. Sci. 2014, 39, 1,
doi:10.1080/10408436.2013.772503; as packed in ASE (``ase.collections.dcdft``): Larsen et al.,
J. Phys.: Condens. Matter 2017, 29, 273002. It is read from the installed ASE at each call.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd

from raymat.data.raw import ParsedStructure, RawCrystals


def read_delta() -> RawCrystals:
    """Read the 71 elemental crystals (H to Rn without the lanthanides before Lu, and At).

    Cells are those of the Delta benchmark as ASE holds them, within 4 % of the WIEN2k equilibrium
    volume. Columns: ``formula``; ``bulk_modulus`` (GPa) and ``log10_bulk_modulus`` (log10(GPa)),
    WIEN2k equation of state; ``volume_per_atom`` (Å^3/atom), the WIEN2k equilibrium volume;
    ``n_sites``.
    """
    from ase.collections import dcdft

    crystals = [dcdft[name] for name in dcdft.names]
    facts = [dcdft.data[name] for name in dcdft.names]
    moduli = np.array([fact["wien2k_B"] for fact in facts], dtype=np.float64)
    properties = pd.DataFrame(
        {
            "formula": list(dcdft.names),
            "n_sites": [len(atoms) for atoms in crystals],
            "bulk_modulus": moduli,
            "log10_bulk_modulus": np.log10(moduli),
            "volume_per_atom": [float(fact["wien2k_volume"]) for fact in facts],
        }
    )
    parsed = [
        ParsedStructure(
            lattice=np.array(atoms.cell.array, dtype=np.float64),
            atomic_numbers=np.array(atoms.numbers, dtype=np.int64),
            frac_coords=np.array(atoms.get_scaled_positions(), dtype=np.float64),
        )
        for atoms in crystals
    ]
    ids = np.array([f"delta-{name}" for name in dcdft.names], dtype=object)
    return RawCrystals.from_parsed(ids, parsed, properties)


BUILTIN: dict[str, Callable[[], RawCrystals]] = {"delta": read_delta}
