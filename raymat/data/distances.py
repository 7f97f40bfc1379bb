"""Atoms that sit on top of each other, found in all crystals at once.

Let h_k be the spacing of the lattice planes along axis k. Two images at distance d differ by at
most d / h_k in fractional coordinate k. Where every h_k exceeds twice the limit, only the image
whose fractional difference lies in [-1/2, 1/2] can be within the limit, and no atom is that close
to its own image; the test by rounding is then exact. The few thinner cells are searched image by
image after lattice reduction, and so are cells of many atoms, of which most are too far apart to be
paired one by one.
"""

import numpy as np
from numpy.typing import NDArray

from raymat.data.lattices import find_pairs_within, needs_wide_boxes, reduce_lattices, wrap
from raymat.data.raw import RawCrystals

MIN_DISTANCE = 0.5  # Å; no two nuclei of a real crystal come this close (H2: 0.74 Å)
_MANY_ATOMS = 1000
_PAIRS_AT_ONCE = 4_000_000  # 32 MB per array of one number a pair


def find_close_atoms(raw: RawCrystals, rows: NDArray[np.int64]) -> dict[int, str]:
    """Give, for each of `rows` with atoms closer than `MIN_DISTANCE`, what was found.

    Periodic images count, an atom's own images too. The lattices must be finite with volume.
    """
    if not len(rows):
        return {}
    spacings = 1.0 / np.linalg.norm(np.linalg.inv(raw.lattices[rows]), axis=1)  # (n, 3) Å
    is_thin = spacings.min(axis=1) <= 2.0 * MIN_DISTANCE
    n_sites = np.diff(raw.offsets)[rows]
    alone = is_thin | (n_sites > _MANY_ATOMS)
    close = {int(row): text for row in rows[alone] if (text := _search_images(raw, int(row)))}
    for count in np.unique(n_sites[~alone]):
        chosen = np.flatnonzero(~alone & (n_sites == count))
        step = max(1, int(_PAIRS_AT_ONCE // max(1, count * count)))
        for start in range(0, len(chosen), step):
            part = chosen[start : start + step]
            close.update(_search_equal(raw, rows[part], spacings[part]))
    return close


def _search_equal(
    raw: RawCrystals, rows: NDArray[np.int64], spacings: NDArray[np.float64]
) -> dict[int, str]:
    """Search crystals with the same number of atoms, in one go."""
    n_sites = int(raw.offsets[rows[0] + 1] - raw.offsets[rows[0]])
    atoms = raw.offsets[rows][:, None] + np.arange(n_sites)
    coords = raw.frac_coords[atoms]  # (m, n_sites, 3)
    axis = 2  # one axis alone rules out most pairs: distance >= |difference| * spacing
    first, second = np.triu_indices(n_sites, k=1)
    along = coords[:, first, axis] - coords[:, second, axis]
    along -= np.round(along)
    near = np.abs(along) * spacings[:, axis, None] < MIN_DISTANCE
    crystal, pair = np.nonzero(near)
    a, b = first[pair], second[pair]
    shift = coords[crystal, a] - coords[crystal, b]
    shift -= np.round(shift)
    vectors = np.einsum("pi,pij->pj", shift, raw.lattices[rows[crystal]])
    distances = np.linalg.norm(vectors, axis=1)
    found: dict[int, str] = {}
    for p in np.flatnonzero(distances < MIN_DISTANCE):
        found.setdefault(int(rows[crystal[p]]), _describe(a[p], b[p], distances[p]))
    return found


def _search_images(raw: RawCrystals, row: int) -> str:
    (lattice,), (basis,) = reduce_lattices(raw.lattices[row : row + 1], always=True)
    shortest = float(np.linalg.norm(lattice, axis=1).min())
    if shortest < MIN_DISTANCE:
        return _describe(0, 0, shortest)
    frac = raw.frac_coords[raw.offsets[row] : raw.offsets[row + 1]]
    points = np.ascontiguousarray(wrap(frac, basis)[0] @ lattice)
    crowded = _share_a_box(points)
    if crowded is not None:
        return _describe(*crowded)
    first, second, images, distances = find_pairs_within(
        points,
        points,
        MIN_DISTANCE,
        lattice,
        is_wide=bool(needs_wide_boxes(lattice, MIN_DISTANCE)),
    )
    other = (first != second) | np.any(images != 0, axis=1)
    for p in np.flatnonzero(other & (distances < MIN_DISTANCE)):
        return _describe(first[p], second[p], distances[p])
    return ""


def _share_a_box(points: NDArray[np.float64]) -> tuple[int, int, float] | None:
    """Give two atoms in one box that is smaller than the limit across, and how far apart they are.

    Where no box holds two, no atom has more than some dozens within the limit.
    """
    boxes = np.floor(points / (MIN_DISTANCE / 2)).astype(np.int64)  # 0.43 Å from corner to corner
    order = np.lexsort(boxes.T)
    same = np.flatnonzero((np.diff(boxes[order], axis=0) == 0).all(axis=1))
    for place in same[:1]:
        a, b = sorted(order[place : place + 2].tolist())
        return a, b, float(np.linalg.norm(points[a] - points[b]))
    return None


def _describe(a: int, b: int, distance: float) -> str:
    pair = f"site {a} and its own image" if a == b else f"sites {a} and {b}"
    return f"atoms closer than {MIN_DISTANCE} Å: {pair} are {distance:.2f} Å apart"
