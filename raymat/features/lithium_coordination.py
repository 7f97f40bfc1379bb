r"""How many neighbors lithium has in a crystal: a real number from Voronoi cells.

Around every Li site stands its Voronoi cell among all atoms within 10 Å. Each facet, shared with
one neighbor, is seen from the Li under a solid angle; the neighbor counts as that angle over the
largest one of the site. Their sum is the coordination number of the site (O'Keeffe, Acta Cryst. A
1979, 35, 772), their mean over the Li sites that of the crystal, as in Ahmad et al. 2018,
doi:10.1021/acscentsci.8b00229. Counting facets is something else: 17 for Li2O, not 7.94.

pymatgen's ``VoronoiNN(tol=0, cutoff=10, allow_pathological=True, weight="solid_angle")`` gives the
same numbers and takes about 30 times longer, because it builds the cells of all atoms around the
Li as well. Here one cell is built, from its dual: the planes that bound the cell,

.. math:: n_j \cdot x = |d_j|^2 / 2 \quad (d_j \text{ from the Li to neighbor } j),

are the points :math:`q_j = 2 d_j / |d_j|^2`; the facets of their convex hull are the cell's
vertices, and its vertices are the cell's facets.

Where the atoms within 10 Å do not close a cell, VoronoiNN leaves out its open facets, or looks
further, and gives a number in both cases. Here there is none, but a reason.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from raymat.data.crystals import Crystal, CrystalSet
from raymat.errors import DataError
from raymat.features.pair_search import check_cells, cut_cells, find_pairs
from raymat.features.shells import SHELL_GAP, Floats, Ints

LITHIUM = 3  # Z
CUTOFF = 10.0  # Å; the atoms that may bound a cell
_FULL_ANGLE_TOLERANCE = 1e-6  # sr; sound cells miss 4 pi by less than 1e-9


@dataclass(frozen=True)
class LithiumCoordination:
    """The coordination of Li in one crystal, or why there is none.

    Attributes:
        number: mean over the Li sites; nan where there is a reason.
        reason: one line, or "" where the number is known.
    """

    number: float
    reason: str = ""


@dataclass(frozen=True)
class _Cell:
    """One Voronoi cell around the origin; vertices are joined by edges of two facets each.

    Attributes:
        vertices: (n_vertices, 3) Å; equal ones where more than three facets meet.
        corners: (n_vertices, 3) the three facets that meet in each.
        edges: (n_edges, 2) vertices that each edge joins.
        edge_facets: (n_edges, 2) facets that each edge parts.
    """

    vertices: Floats
    corners: Ints
    edges: Ints
    edge_facets: Ints


def lithium_coordination(crystal: Crystal) -> LithiumCoordination:
    """Give the mean coordination number of the Li sites, or the reason why there is none."""
    try:
        return LithiumCoordination(float(lithium_site_coordination(crystal).mean()))
    except DataError as error:
        return LithiumCoordination(np.nan, str(error).removeprefix(f"{crystal.material_id}: "))


def lithium_site_coordination(crystal: Crystal) -> Floats:
    """Give the coordination number of every Li site, in the order of the sites.

    Returns:
        (n_lithium,) weighted by solid angle.

    Raises:
        DataError: the crystal holds no Li, its cell is flat or not finite, two atoms stand in one
            place, or the atoms within 10 Å do not enclose a Li site.
    """
    sites = np.flatnonzero(crystal.atomic_numbers == LITHIUM)
    if len(sites) == 0:
        raise DataError(f"{crystal.material_id}: it holds no Li")
    numbers = np.empty(len(sites))
    for row, displacements in enumerate(_displacements(crystal, sites)):
        where = f"{crystal.material_id}: the Voronoi cell of Li", f"site {sites[row]}"
        angles = _solid_angles(_voronoi_cell(displacements, where), len(displacements))
        if abs(angles.sum() - 4 * np.pi) > _FULL_ANGLE_TOLERANCE:
            cell, site = where
            raise DataError(
                f"{cell} does not close: {site}, facets of {angles.sum():.6g} sr instead of 4 pi"
            )
        numbers[row] = angles.sum() / angles.max()
    return numbers


def _displacements(crystal: Crystal, sites: Ints) -> Iterator[Floats]:
    """Give, site by site, the (n, 3) Å from it to every other atom within the cutoff."""
    alone = CrystalSet.from_crystals([crystal])
    check_cells(alone)
    cells = cut_cells(alone, 0, 1)
    pairs = find_pairs(cells, sites, np.array([CUTOFF]))
    to_neighbor = cells.positions[pairs.neighbor] + pairs.image @ cells.lattices[0]
    displacements = to_neighbor - cells.positions[pairs.atom]
    is_other = (pairs.atom != pairs.neighbor) | (pairs.image != 0).any(axis=1)
    for row in np.flatnonzero(is_other & (pairs.distance < SHELL_GAP))[:1]:
        raise DataError(
            f"{crystal.material_id}: sites {pairs.atom[row]} and {pairs.neighbor[row]} stand in one"
            " place"
        )
    for site in sites:
        yield displacements[is_other & (pairs.atom == site)]


def _voronoi_cell(displacements: Floats, where: tuple[str, str]) -> _Cell:
    """Build the Voronoi cell of the origin among (n, 3) Å."""
    from scipy.spatial import ConvexHull, QhullError

    n_atoms = len(displacements)
    if n_atoms < 4:
        raise _open_cell(where, n_atoms)
    duals = 2 * displacements / np.square(displacements).sum(axis=1, keepdims=True)
    try:
        hull = ConvexHull(duals)
    except QhullError as error:  # all atoms in one plane with the Li
        raise _open_cell(where, n_atoms) from error
    normals, offsets = hull.equations[:, :3], hull.equations[:, 3:]
    # A vertex lies 1/|offset| away. Beyond the cutoff the Li looks into a void wider than 20 Å,
    # or, where the offset is not negative, out of the cell.
    if (offsets > -1 / CUTOFF).any():
        raise _open_cell(where, n_atoms)
    first, opposite = np.nonzero(hull.neighbors > np.arange(len(offsets))[:, None])
    sides = [hull.simplices[first, (opposite + turn) % 3] for turn in (1, 2)]
    return _Cell(
        vertices=-normals / offsets,
        corners=hull.simplices.astype(np.int64),
        edges=np.column_stack([first, hull.neighbors[first, opposite]]),
        edge_facets=np.column_stack(sides),
    )


def _open_cell(where: tuple[str, str], n_atoms: int) -> DataError:
    cell, site = where
    return DataError(
        f"{cell} is open: {site} is not enclosed by the {n_atoms} atoms within {CUTOFF:g} Å"
    )


def _solid_angles(cell: _Cell, n_facets: int) -> Floats:
    """Give the (n_facets,) sr under which the origin sees each facet; 0 for planes that miss.

    A facet is cut into triangles from the mean of its corners, which lies inside, to its edges.
    """
    corners = cell.corners.ravel()
    n_corners = np.maximum(np.bincount(corners, minlength=n_facets), 1)
    middles = np.zeros((n_facets, 3))
    np.add.at(middles, corners, np.repeat(cell.vertices, 3, axis=0) / n_corners[corners, None])
    ends = cell.vertices[cell.edges]
    angles = np.zeros(n_facets)
    for facets in cell.edge_facets.T:
        triangles = _triangle_angles(middles[facets], ends[:, 0], ends[:, 1])
        angles += np.bincount(facets, weights=triangles, minlength=n_facets)
    return angles


def _triangle_angles(a: Floats, b: Floats, c: Floats) -> Floats:
    r"""Give the (n,) sr of triangles with corners (n, 3) a, b, c seen from the origin.

    .. math:: \tan\frac{\Omega}{2} = \frac{|a \cdot (b \times c)|}
              {|a||b||c| + (a \cdot b)|c| + (a \cdot c)|b| + (b \cdot c)|a|}

    Van Oosterom & Strackee, IEEE Trans. Biomed. Eng. 1983, 30, 125.
    """
    lengths = [np.linalg.norm(corner, axis=1) for corner in (a, b, c)]
    volume = np.abs(np.einsum("ij,ij->i", a, np.cross(b, c)))
    cosines = (
        lengths[0] * lengths[1] * lengths[2]
        + np.einsum("ij,ij->i", a, b) * lengths[2]
        + np.einsum("ij,ij->i", a, c) * lengths[1]
        + np.einsum("ij,ij->i", b, c) * lengths[0]
    )
    angles: Floats = 2 * np.arctan2(volume, cosines)
    return angles
