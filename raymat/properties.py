"""Target properties: name, unit, kind and which direction is better.

Names and units follow the Materials Project data they come from; log10 moduli are
Voigt-Reuss-Hill averages in GPa under the logarithm.
"""

from dataclasses import dataclass
from typing import Literal

Task = Literal["regression", "classification"]


@dataclass(frozen=True)
class Property:
    """A property that a model can learn.

    Attributes:
        name: column name in a data set.
        unit: unit of the values, "" when they are pure numbers.
        meaning: one line for people.
        task: whether values are numbers or classes (class 1 is the named one).
        bounds: physically possible values, both ends included; outside is rejected.
    """

    name: str
    unit: str
    meaning: str
    task: Task = "regression"
    bounds: tuple[float, float] = (float("-inf"), float("inf"))


_LOG_GPA = "log10(GPa)"

PROPERTIES: dict[str, Property] = {
    p.name: p
    for p in (
        Property("formation_energy_per_atom", "eV/atom", "formation energy per atom"),
        Property("absolute_energy_per_atom", "eV/atom", "total DFT energy per atom"),
        Property("energy_per_atom", "eV/atom", "total DFT energy per atom"),
        Property("e_above_hull", "eV/atom", "energy above the convex hull"),
        Property("band_gap", "eV", "Kohn-Sham band gap", bounds=(0.0, float("inf"))),
        Property("fermi_energy", "eV", "Fermi energy"),
        Property("efermi", "eV", "Fermi energy"),
        Property("K_VRH", "GPa", "bulk modulus, Voigt-Reuss-Hill", bounds=(0.0, float("inf"))),
        Property("G_VRH", "GPa", "shear modulus, Voigt-Reuss-Hill", bounds=(0.0, float("inf"))),
        Property("log10_K_VRH", _LOG_GPA, "log10 of the bulk modulus, Voigt-Reuss-Hill"),
        Property("log10_G_VRH", _LOG_GPA, "log10 of the shear modulus, Voigt-Reuss-Hill"),
        Property("log10_bulk_modulus", _LOG_GPA, "log10 of the bulk modulus"),
        Property("log10_shear_modulus", _LOG_GPA, "log10 of the shear modulus"),
        Property("poisson_ratio", "", "isotropic Poisson ratio"),
        Property("total_magnetization_per_fu", "mu_B", "magnetization per formula unit"),
        Property("heat_all", "eV", "heat of formation against all competing phases"),
        Property("heat_ref", "eV", "heat of formation against the reference phases"),
        Property("dir_gap", "eV", "direct gap"),
        Property("ind_gap", "eV", "indirect gap"),
        Property("is_metal", "", "1 = metal (no gap)", task="classification"),
    )
}


def find_property(name: str) -> Property:
    """Give the known property of that name, or a unitless regression property for any other."""
    return PROPERTIES.get(name) or Property(name, "", "user-supplied column")
