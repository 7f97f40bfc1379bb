"""One structure entry of OPTIMADE to arrays, or the reason why it cannot be one crystal.

The pydantic models of the `optimade` package want every field of the standard and refuse what
several large providers send (OQMD leaves `species` out), so the few fields that a crystal needs are
read here, each with its own reason.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raymat.data.raw import ParsedStructure
from raymat.data.structure_parser import atomic_number
from raymat.sources.databases.limits import MAX_ATOMS

STRUCTURE_FIELDS = (
    "lattice_vectors",
    "cartesian_site_positions",
    "species_at_sites",
    "species",
    "structure_features",
    "nperiodic_dimensions",
    "nsites",
)
_FULL = 1e-8  # how far a site's concentration may be from 1 (pymatgen's own tolerance)
_INCOMPLETE = {
    "implicit_atoms": "atoms are missing: the entry leaves some out (implicit_atoms)",
    "unknown_positions": "positions are missing: some sites have none (unknown_positions)",
}
_MALFORMED = (AttributeError, KeyError, IndexError, TypeError, ValueError, OverflowError)
_SHOWN = 60  # characters of an offending value in a message


def entry_id(entry: Any) -> str | None:
    """Give the id of an entry; None if it has none."""
    found = entry.get("id") if isinstance(entry, Mapping) else None
    if not isinstance(found, str | int) or not str(found).strip():
        return None
    return str(found).encode("utf-8", "replace").decode()  # half characters cannot be stored


def parse_entry(entry: Any, max_atoms: int = MAX_ATOMS) -> ParsedStructure | str:
    """Read one entry of ``/structures``.

    Args:
        entry: an element of the response's ``data``.
        max_atoms: largest number of atoms in a cell.

    Returns:
        the structure (fractional coordinates from Cartesian ones in Å), or the reason, in the form
        ``kind: detail``.
    """
    try:
        if not isinstance(entry["attributes"], Mapping):
            return "malformed entry: 'attributes' is no object"
        return _parse(entry["attributes"], max_atoms)
    except np.linalg.LinAlgError:
        return "singular lattice: the cell has no volume"
    except _MALFORMED as cause:
        detail = str(cause) if not isinstance(cause, KeyError) else f"no field {cause}"
        return f"malformed entry: {' '.join(detail.split())[:_SHOWN]}"


def _parse(attributes: Mapping[str, Any], max_atoms: int) -> ParsedStructure | str:
    sites = attributes.get("species_at_sites")
    reason = _why_not(attributes, sites, max_atoms)
    if reason:
        return reason
    lattice = np.asarray(attributes["lattice_vectors"], dtype=np.float64)
    positions = np.asarray(attributes["cartesian_site_positions"], dtype=np.float64)
    if lattice.shape != (3, 3):
        return f"malformed entry: lattice_vectors have the shape {lattice.shape}, not (3, 3)"
    if positions.shape != (len(sites or ()), 3):
        shape = f"{positions.shape}, not ({len(sites or ())}, 3)"
        return f"malformed entry: cartesian_site_positions have the shape {shape}"
    numbers = _atomic_numbers(sites or [], attributes.get("species"))
    if isinstance(numbers, str):
        return numbers
    if not (np.isfinite(lattice).all() and np.isfinite(positions).all()):
        return "not finite: lattice or positions hold NaN or infinite numbers"
    fractional = np.linalg.solve(lattice.T, positions.T).T.astype(np.float64)
    return ParsedStructure(lattice, numbers, fractional)


def _why_not(attributes: Mapping[str, Any], sites: Any, max_atoms: int) -> str:
    features = attributes.get("structure_features") or []
    for feature, reason in _INCOMPLETE.items():
        if feature in features:
            return reason
    periodic = attributes.get("nperiodic_dimensions")
    if periodic not in (None, 3):
        return f"not a crystal: periodic in {periodic} dimensions, expected 3"
    for name in ("lattice_vectors", "cartesian_site_positions", "species_at_sites"):
        if not attributes.get(name):
            return f"structure is missing: no {name}"
    n_sites = len(sites)
    if n_sites > max_atoms:
        return f"cell too large: {n_sites} atoms, more than --max-atoms {max_atoms}"
    return ""


def _atomic_numbers(sites: list[Any], species: Any) -> NDArray[np.int64] | str:
    """Give (n_sites,) atomic numbers; where `species` is left out, names must be elements."""
    described = {s["name"]: s for s in species or []}
    known: dict[str, int] = {}
    for name in dict.fromkeys(sites):
        found = _one_element(described[name]) if described else atomic_number(name)
        if isinstance(found, str):
            return f"{found} (species {name!r}, {sites.count(name)} of {len(sites)} sites)"
        if found == 0:
            return f"unknown element: species {str(name)[:_SHOWN]!r} is no element"
        known[name] = found
    return np.array([known[name] for name in sites], dtype=np.int64)


def _one_element(species: Mapping[str, Any]) -> int | str:
    """Give Z of a species that is one whole atom, or why it is none."""
    symbols, shares = species["chemical_symbols"], species["concentration"]
    if species.get("attached") or species.get("nattached"):
        return "attached atoms: their positions are not given"
    if "vacancy" in symbols:
        return "vacancies: a site is not always occupied"
    if len(symbols) != 1 or len(shares) != 1 or abs(float(shares[0]) - 1.0) > _FULL:
        return "partial occupancy: a site is shared, or not fully occupied"
    return atomic_number(symbols[0])
