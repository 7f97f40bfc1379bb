"""Target properties: name, unit, meaning, and where each provider of crystals keeps them.

Names and units follow the Materials Project data they come from; log10 moduli are
Voigt-Reuss-Hill averages in GPa under the logarithm. A value that a provider computes in another
way keeps the method's name beside it, and a name of its own where the quantity itself differs
(`K_Voigt` is not `K_VRH`).
"""

from dataclasses import dataclass
from typing import Literal

Task = Literal["regression", "classification"]
Conversion = Literal["as given", "per atom of the cell", "log10"]
Interface = Literal["optimade", "mp-api"]


LARGEST = 1e100
"""Largest magnitude of any target: the square of a larger number is soon no number."""
ZERO_ONE = ("0", "1")
"""Names of the classes of a column that holds 0 and 1 only."""


@dataclass(frozen=True)
class Property:
    """A property that a model can learn.

    Attributes:
        name: column name in a data set.
        unit: unit of the values, "" when they are pure numbers.
        meaning: one line for people.
        task: whether values are numbers or classes (class 1 is the named one).
        bounds: possible values, both ends included; outside is rejected.
        names: of class 0 and class 1, where the column's values made it a class: ``("0", "1")``,
            or the two words that it holds.
    """

    name: str
    unit: str
    meaning: str
    task: Task = "regression"
    bounds: tuple[float, float] = (-LARGEST, LARGEST)
    names: tuple[str, str] | None = None

    @property
    def holds_words(self) -> bool:
        """Whether the column holds words, which cannot be learned as a number."""
        return self.names not in (None, ZERO_ONE)

    def say_classes(self) -> str | None:
        """Return one line on a column that its values made a class; None for any other."""
        if self.names is None:
            return None
        if self.holds_words:
            found, way_back = f"the words {self.names[0]} and {self.names[1]}", ""
        else:
            found, way_back = "0 and 1 only", "; --classes none learns it as a number"
        learned = f"learned as classes (class 1: {self.names[1]})"
        return f"target '{self.name}' holds {found}: {learned}{way_back}"


_LOG_GPA = "log10(GPa)"
# What no solid reaches, several times beyond what was ever computed of one: a value outside is a
# slip of units or of a calculation. Diamond has a bulk modulus of 443 GPa; all-electron energies of
# heavy atoms lie at -8e5 eV; the ends of Poisson's ratio are those of a stable isotropic solid.
_ENERGY, _TOTAL_ENERGY, _GAP = (-50.0, 50.0), (-1e6, 1e4), (0.0, 50.0)
_MODULUS, _LOG_MODULUS = (0.0, 2000.0), (-6.0, 3.31)

PROPERTIES: dict[str, Property] = {
    p.name: p
    for p in (
        Property(
            "formation_energy_per_atom", "eV/atom", "formation energy per atom", bounds=_ENERGY
        ),
        Property(
            "absolute_energy_per_atom", "eV/atom", "total DFT energy per atom", bounds=_TOTAL_ENERGY
        ),
        Property("energy_per_atom", "eV/atom", "total DFT energy per atom", bounds=_TOTAL_ENERGY),
        Property("e_above_hull", "eV/atom", "energy above the convex hull", bounds=_ENERGY),
        Property("band_gap", "eV", "Kohn-Sham band gap", bounds=_GAP),
        Property("fermi_energy", "eV", "Fermi energy", bounds=(-200.0, 200.0)),
        Property("efermi", "eV", "Fermi energy", bounds=(-200.0, 200.0)),
        Property("K_VRH", "GPa", "bulk modulus, Voigt-Reuss-Hill", bounds=_MODULUS),
        Property("G_VRH", "GPa", "shear modulus, Voigt-Reuss-Hill", bounds=_MODULUS),
        Property("K_Voigt", "GPa", "bulk modulus, Voigt", bounds=_MODULUS),
        Property("G_Voigt", "GPa", "shear modulus, Voigt", bounds=_MODULUS),
        Property(
            "log10_K_Voigt", _LOG_GPA, "log10 of the bulk modulus, Voigt", bounds=_LOG_MODULUS
        ),
        Property(
            "log10_G_Voigt", _LOG_GPA, "log10 of the shear modulus, Voigt", bounds=_LOG_MODULUS
        ),
        Property(
            "log10_K_VRH",
            _LOG_GPA,
            "log10 of the bulk modulus, Voigt-Reuss-Hill",
            bounds=_LOG_MODULUS,
        ),
        Property(
            "log10_G_VRH",
            _LOG_GPA,
            "log10 of the shear modulus, Voigt-Reuss-Hill",
            bounds=_LOG_MODULUS,
        ),
        Property("log10_bulk_modulus", _LOG_GPA, "log10 of the bulk modulus", bounds=_LOG_MODULUS),
        Property(
            "log10_shear_modulus", _LOG_GPA, "log10 of the shear modulus", bounds=_LOG_MODULUS
        ),
        Property("poisson_ratio", "", "isotropic Poisson ratio", bounds=(-1.0, 0.5)),
        Property(
            "total_magnetization_per_fu",
            "mu_B",
            "magnetization per formula unit",
            bounds=(-1e4, 1e4),
        ),
        Property(
            "heat_all", "eV", "heat of formation against all competing phases", bounds=_ENERGY
        ),
        Property(
            "heat_ref", "eV", "heat of formation against the reference phases", bounds=_ENERGY
        ),
        Property("dir_gap", "eV", "direct gap", bounds=_GAP),
        Property("ind_gap", "eV", "indirect gap", bounds=_GAP),
        Property("is_metal", "", "1 = metal (no gap)", task="classification"),
    )
}


@dataclass(frozen=True)
class ProviderField:
    """Where one provider keeps one property, and how it becomes the property's unit.

    Attributes:
        property: name in `PROPERTIES`.
        provider: the provider's prefix in OPTIMADE, such as ``mp``.
        field: the provider's field; dots lead into nested ones.
        method: how the provider computes it, in a few words.
        conversion: what is done to the value.
        interface: who answers: the OPTIMADE server, or the Materials Project's own interface.
        missing: a number that stands for "not computed".
    """

    property: str
    provider: str
    field: str
    method: str
    conversion: Conversion = "as given"
    interface: Interface = "optimade"
    missing: float | None = None


_MP_MIXED = "DFT, GGA and GGA+U mixed, the provider's corrections"
_MP_API = "DFT, the provider's summary of its calculations"
_MP_ELASTIC = "DFT, GGA; average of Voigt and Reuss from the elastic tensor"
_OQMD = "DFT, PBE and PBE+U, the provider's fitted reference energies"
_ALEXANDRIA = "DFT, PBE or PBEsol as the base URL says"
_JARVIS = "DFT, OptB88vdW"
_JARVIS_ELASTIC = "DFT, OptB88vdW; Voigt average of the elastic tensor"


def _mp(name: str, field: str, method: str, conversion: Conversion = "as given") -> ProviderField:
    return ProviderField(name, "mp", field, method, conversion, "mp-api")


def _jarvis(
    name: str, field: str, method: str = _JARVIS, conversion: Conversion = "as given"
) -> ProviderField:
    # -99999 is what JARVIS's server gives where nothing was computed.
    return ProviderField(name, "jarvis", field, method, conversion, missing=-99999.0)


# Only what was seen in the provider's own code or in answers of its server that others published:
# mp: `_mp_stability` of its OPTIMADE server; fields of `emmet.core.summary.SummaryDoc` for mp-api.
# oqmd: `OptimadeStructureSerializer` of qmpy, which gives eV/atom and cuts the hull distance at 0.
# alexandria: `provider_fields` with their units in its server's configuration.
# jarvis: fields of its OPTIMADE server; `kv` and `gv` are Voigt averages (jarvis-tools).
# NOMAD, COD and TCOD carry none of these as one number in OPTIMADE: ask for their own fields.
PROVIDER_FIELDS: tuple[ProviderField, ...] = (
    ProviderField(
        "formation_energy_per_atom",
        "mp",
        "_mp_stability.gga_gga+u.formation_energy_per_atom",
        _MP_MIXED,
    ),
    ProviderField("e_above_hull", "mp", "_mp_stability.gga_gga+u.energy_above_hull", _MP_MIXED),
    _mp("energy_per_atom", "energy_per_atom", f"{_MP_API}; total energy with its corrections"),
    _mp("band_gap", "band_gap", f"{_MP_API}; Kohn-Sham gap"),
    _mp("efermi", "efermi", _MP_API),
    _mp("fermi_energy", "efermi", _MP_API),
    _mp("K_VRH", "bulk_modulus.vrh", _MP_ELASTIC),
    _mp("G_VRH", "shear_modulus.vrh", _MP_ELASTIC),
    _mp("log10_K_VRH", "bulk_modulus.vrh", _MP_ELASTIC, "log10"),
    _mp("log10_G_VRH", "shear_modulus.vrh", _MP_ELASTIC, "log10"),
    _mp("K_Voigt", "bulk_modulus.voigt", "DFT, GGA; Voigt average of the elastic tensor"),
    _mp("G_Voigt", "shear_modulus.voigt", "DFT, GGA; Voigt average of the elastic tensor"),
    _mp("poisson_ratio", "homogeneous_poisson", "from K_VRH and G_VRH"),
    _mp(
        "total_magnetization_per_fu",
        "total_magnetization_normalized_formula_units",
        _MP_API,
    ),
    ProviderField("formation_energy_per_atom", "oqmd", "_oqmd_delta_e", _OQMD),
    ProviderField("e_above_hull", "oqmd", "_oqmd_stability", f"{_OQMD}; below the hull counts 0"),
    ProviderField("band_gap", "oqmd", "_oqmd_band_gap", "DFT, PBE and PBE+U; Kohn-Sham gap"),
    ProviderField(
        "formation_energy_per_atom",
        "alexandria",
        "_alexandria_formation_energy_per_atom",
        _ALEXANDRIA,
    ),
    ProviderField("e_above_hull", "alexandria", "_alexandria_hull_distance", _ALEXANDRIA),
    ProviderField("band_gap", "alexandria", "_alexandria_band_gap", _ALEXANDRIA),
    ProviderField(
        "energy_per_atom", "alexandria", "_alexandria_energy", _ALEXANDRIA, "per atom of the cell"
    ),
    _jarvis("formation_energy_per_atom", "_jarvis_formation_energy_peratom"),
    _jarvis("e_above_hull", "_jarvis_ehull"),
    _jarvis("band_gap", "_jarvis_optb88vdw_bandgap"),
    _jarvis("K_Voigt", "_jarvis_bulk_modulus_kv", _JARVIS_ELASTIC),
    _jarvis("G_Voigt", "_jarvis_shear_modulus_gv", _JARVIS_ELASTIC),
    _jarvis("log10_K_Voigt", "_jarvis_bulk_modulus_kv", _JARVIS_ELASTIC, "log10"),
    _jarvis("log10_G_Voigt", "_jarvis_shear_modulus_gv", _JARVIS_ELASTIC, "log10"),
    _jarvis("poisson_ratio", "_jarvis_poisson"),
)


def find_property(name: str) -> Property:
    """Give the known property of that name, or a unitless regression property for any other."""
    return PROPERTIES.get(name) or Property(name, "", "user-supplied column")


def logarithm_of(name: str) -> str | None:
    """Return the property whose log10 a known property is, None for any other."""
    is_logarithm = name in PROPERTIES and PROPERTIES[name].unit.startswith("log10(")
    return name.removeprefix("log10_") if is_logarithm else None


def fields_of(provider: str) -> dict[str, ProviderField]:
    """Give the standard properties that a provider carries, by name."""
    return {f.property: f for f in PROVIDER_FIELDS if f.provider == provider}
