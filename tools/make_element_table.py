"""Write raymat/features/element_properties.csv, the five measured properties of elements 1-100.

Source: mendeleev 1.3.0 (MIT, L. M. Mentel), and for the atomic volume of 19 elements the values
that mendeleev 0.4 tabulated: newer versions derive the volume from a density instead, which the
public CGCNN element table does not.

    python tools/make_element_table.py [--out FILE]
"""

import argparse
import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlalchemy import RowMapping

TABLE = Path(__file__).parents[1] / "raymat" / "features" / "element_properties.csv"
LARGEST_Z = 100
COLUMNS = (
    "atomic_number",
    "symbol",
    "electronegativity",
    "covalent_radius_pm",
    "ionisation_energy_ev",
    "electron_affinity_ev",
    "atomic_volume_cm3_mol",
)
# cm3/mol; None where the older table had no value.
OLDER_VOLUMES: dict[str, float | None] = {
    "H": 14.1, "He": 31.8, "N": 17.3, "O": 14.0, "F": 17.1, "Ne": 16.8, "Cl": 18.7,
    "Ar": 24.2, "Br": 23.5, "Kr": 32.2, "Xe": 42.9, "Np": 21.1,
    "Pm": None, "At": None, "Pu": None, "Bk": None, "Cf": None, "Es": None, "Fm": None,
}  # fmt: skip


def table_text() -> str:
    """Give the whole CSV; an unknown value is an empty cell."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(_rows())
    return out.getvalue()


def _rows() -> list[list[str]]:
    """Read mendeleev's own tables: its Element objects take a quarter of a second each."""
    from mendeleev.db import get_session
    from mendeleev.models import Element, IonizationEnergy
    from sqlalchemy import select

    energies = IonizationEnergy.__table__.columns
    wanted = select(Element.__table__).order_by("atomic_number").limit(LARGEST_Z)
    first = select(energies.atomic_number, energies.ionization_energy).where(
        energies.ion_charge == 0
    )
    with get_session() as session:
        ionisation_ev = {row[0]: row[1] for row in session.execute(first)}
        elements = session.execute(wanted).mappings().all()
    return [_row(element, ionisation_ev[element["atomic_number"]]) for element in elements]


def _row(element: "RowMapping", ionisation_ev: float | None) -> list[str]:
    symbol, density = element["symbol"], element["density"]
    volume = None if density is None else element["atomic_weight"] / density
    values = (
        element["en_pauling"],
        element["covalent_radius_pyykko"],
        ionisation_ev,
        element["electron_affinity"],
        OLDER_VOLUMES.get(symbol, volume),
    )
    return [str(element["atomic_number"]), symbol, *map(_cell, values)]


def _cell(value: float | None) -> str:
    return "" if value is None else repr(round(float(value), 7))


def main() -> None:
    """Write the file named on the command line."""
    parser = argparse.ArgumentParser(description="Write the element table that raymat ships.")
    parser.add_argument("--out", type=Path, default=TABLE)
    out = parser.parse_args().out
    out.write_text(table_text(), encoding="utf-8")
    print(f"{LARGEST_Z} elements written to {out}")


if __name__ == "__main__":
    main()
