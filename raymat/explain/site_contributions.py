r"""What every atom of a crystal contributes to the value that a CGCNN predicts.

With the readout "linear" a crystal's value is the mean over its sites,

.. math:: y = \frac{1}{N} \sum_i E_i, \quad E_i = w \cdot v_i^{(R)} + b,

so that the network tells of each atom what it saw in training of whole crystals only (Xie &
Grossman, Phys. Rev. Lett. 2018, 120, 145301; analysed as in chapter 3 of Xie's thesis).
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from raymat.data.composition import SYMBOLS, element_totals
from raymat.data.crystals import CrystalSet, offsets_of
from raymat.data.writers import atomic_file, write_csv
from raymat.errors import ModelFileError
from raymat.features.graph import CrystalGraph
from raymat.features.neighbor_table import NeighborTable
from raymat.features.store import FeatureStore
from raymat.models.cgcnn import CGCNN
from raymat.training.model_files import TrainedModel
from raymat.training.predict import map_batches

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]

MOST_VECTORS = 3000  # sites whose vectors are kept
FIRST_SHELL = 1.05  # times an atom's shortest distance: how far its nearest neighbors lie
_SYMBOLS = np.array(["", *SYMBOLS], dtype=object)  # row Z


@dataclass(frozen=True, eq=False)
class SiteContributions:
    """The contributions of all sites of some crystals, and what they tell of the elements.

    Attributes:
        target: property that the contributions add up to.
        unit: of all contributions.
        sites: ``material_id, site, element, atomic_number, contribution``, one row per site, in
            the order of the crystals; the mean over a crystal is its prediction.
        elements: see `summarise_elements`.
        pairs: see `summarise_pairs`.
        sampled: (n_sampled,) rows of `sites` that were drawn at random, ascending.
        site_vectors: (n_sampled, atom_dim) theirs after the last convolution.
        element_vectors: (n_elements, atom_dim) embeddings of the rows of `elements`.
    """

    target: str
    unit: str
    sites: pd.DataFrame
    elements: pd.DataFrame
    pairs: pd.DataFrame
    sampled: Rows
    site_vectors: Floats
    element_vectors: Floats


def explain_sites(
    model: TrainedModel,
    crystals: CrystalSet,
    features: FeatureStore,
    *,
    device: str = "cpu",
    most_vectors: int = MOST_VECTORS,
    seed: int = 0,
) -> SiteContributions:
    """Give what every site of some crystals contributes, in the unit of the target.

    Args:
        model: a CGCNN with readout "linear" that learned a number.
        crystals: whose sites.
        features: theirs.
        device: to compute on.
        most_vectors: sites whose vectors are kept.
        seed: of the draw of these sites.

    Raises:
        ModelFileError: the model has no contributions; see `linear_network`.
    """
    network = linear_network(model)
    table = features.find(model.view.table_config)
    assert isinstance(table, NeighborTable)
    sites = _list_sites(crystals, site_contributions(model, table, device=device))
    sampled = _draw(len(sites), most_vectors, seed)
    return SiteContributions(
        target=model.target,
        unit=model.unit,
        sites=sites,
        elements=summarise_elements(sites, crystals),
        pairs=summarise_pairs(sites, *first_shell(table)),
        sampled=sampled,
        site_vectors=site_vectors(model, table, sampled, device=device),
        element_vectors=_embed_elements(network, np.unique(crystals.atomic_numbers).tolist()),
    )


def linear_network(model: TrainedModel, *, where: str = "the model") -> CGCNN:
    """Give the network of a model whose value is a mean over sites.

    Args:
        model: any.
        where: it was read, for the message.

    Raises:
        ModelFileError: it is not a CGCNN, it is a classifier, or its readout is not "linear".
    """
    network, train = model.network, "train a cgcnn with `raymat train --config` and `model.readout"
    if not isinstance(network, CGCNN):
        problem = f"a {model.name} model has no site contributions"
    elif model.task == "classification":
        problem = "a classifier has no site contributions; they need a number to add up to"
    elif network.config.readout != "linear":
        problem = (
            f"readout '{network.config.readout}' has no site contributions, its value is no mean"
            " over sites"
        )
    else:
        return network
    raise ModelFileError(f"{where}: {problem}; {train}: linear`")


def site_contributions(
    model: TrainedModel, table: NeighborTable, *, device: str = "cpu"
) -> Floats:  # (n_sites,)
    """Give the contributions of all sites of a table, in the unit of the target.

    They are E_i * std + mean, with the scaling of the target, so that their mean over a crystal is
    its prediction.

    Raises:
        ModelFileError: see `linear_network`.
    """
    place = torch.device(device)
    network = linear_network(model).to(place).eval()
    rows = np.arange(len(table))
    parts = map_batches(network.site_contributions, table, rows, view=model.view, device=place)
    return model.scaling.restore(np.concatenate([np.zeros(0), *parts]))


def site_vectors(
    model: TrainedModel, table: NeighborTable, sites: Rows, *, device: str = "cpu"
) -> Floats:  # (n_sites, atom_dim)
    """Give the atom vectors after the last convolution of some sites of a table.

    Only the crystals that hold them are evaluated, and only their vectors are kept.

    Args:
        model: see `linear_network`.
        table: of the crystals.
        sites: (n_sites,) rows of atoms of the whole table, ascending.
        device: to compute on.

    Raises:
        ModelFileError: see `linear_network`.
    """
    place = torch.device(device)
    network = linear_network(model).to(place).eval()
    owners = np.searchsorted(table.offsets, sites, side="right") - 1
    rows, row_of_site = np.unique(owners, return_inverse=True)
    starts = offsets_of(table.n_sites[rows])[:-1]
    wanted = sites - table.offsets[owners] + starts[row_of_site]

    def evaluate(graph: CrystalGraph) -> torch.Tensor:
        return network.atom_vectors(graph)[-1]

    found, first = [np.zeros((0, network.config.atom_dim))], 0
    for part in map_batches(evaluate, table, rows, view=model.view, device=place):
        is_inside = (wanted >= first) & (wanted < first + len(part))
        found.append(part[wanted[is_inside] - first])
        first += len(part)
    return np.concatenate(found)


def summarise_elements(sites: pd.DataFrame, crystals: CrystalSet) -> pd.DataFrame:
    """Give ``element, n_sites, n_crystals, mean, std, min, max`` of the elements met, by Z.

    The standard deviation is that of the sites that are there (divided by n).
    """
    own = sites.groupby("atomic_number")["contribution"]
    totals = element_totals(crystals)
    return pd.DataFrame(
        {
            "element": list(totals),
            "n_sites": own.size().to_numpy(),
            "n_crystals": list(totals.values()),
            "mean": own.mean().to_numpy(),
            "std": own.std(ddof=0).to_numpy(),
            "min": own.min().to_numpy(),
            "max": own.max().to_numpy(),
        }
    )


def first_shell(table: NeighborTable) -> tuple[Rows, Rows]:
    """Give the pairs (site, nearest neighbor) of a table: both (n_pairs,), rows of atoms.

    Nearest are those among the neighbors kept that lie within 1.05 times the shortest distance of
    their site.
    """
    distances = table.distances
    reach = FIRST_SHELL * distances.min(axis=1, keepdims=True)
    receivers, places = np.nonzero(np.isfinite(distances) & (distances <= reach))
    first_atoms = np.repeat(table.offsets[:-1], table.n_sites)
    senders = table.indices[receivers, places].astype(np.int64) + first_atoms[receivers]
    return receivers, senders


def summarise_pairs(sites: pd.DataFrame, receivers: Rows, senders: Rows) -> pd.DataFrame:
    """Give ``element, neighbor, n_sites, mean``, by Z of both.

    The mean is that of the sites of `element` with at least one `neighbor` in their first shell;
    a site counts once for every element in it.

    Args:
        sites: see `SiteContributions`.
        receivers: (n_pairs,) rows of sites.
        senders: (n_pairs,) their nearest neighbors.
    """
    numbers = sites["atomic_number"].to_numpy(dtype=np.int64)
    site, neighbor = np.divmod(np.unique(receivers * 256 + numbers[senders]), 256)
    met = pd.DataFrame({"z": numbers[site], "z_neighbor": neighbor})
    own = met.assign(value=sites["contribution"].to_numpy()[site]).groupby(["z", "z_neighbor"])
    means = own["value"].agg(["size", "mean"]).reset_index()
    return pd.DataFrame(
        {
            "element": _SYMBOLS[means["z"].to_numpy()],
            "neighbor": _SYMBOLS[means["z_neighbor"].to_numpy()],
            "n_sites": means["size"],
            "mean": means["mean"],
        }
    )


def write_contributions(found: SiteContributions, folder: Path) -> list[Path]:
    """Write ``contributions.parquet``, ``elements.csv`` and ``pairs.csv``, and give their paths.

    Raises:
        DataError: a file cannot be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = folder / "contributions.parquet"
    arrow = pa.Table.from_pandas(found.sites, preserve_index=False)
    index = arrow.schema.get_field_index("contribution")
    field = arrow.schema.field(index).with_metadata({"unit": found.unit})
    with atomic_file(path) as temporary:
        pq.write_table(arrow.cast(arrow.schema.set(index, field)), temporary)
    tables = {"elements.csv": found.elements, "pairs.csv": found.pairs}
    for name, table in tables.items():
        with atomic_file(folder / name) as temporary:
            write_csv(table, temporary)
    return [path, *(folder / name for name in tables)]


def _list_sites(crystals: CrystalSet, contributions: Floats) -> pd.DataFrame:
    counts = crystals.n_sites
    first_atoms = np.repeat(crystals.offsets[:-1], counts)
    return pd.DataFrame(
        {
            "material_id": np.repeat(crystals.material_ids, counts),
            "site": np.arange(len(first_atoms)) - first_atoms,
            "element": _SYMBOLS[crystals.atomic_numbers],
            "atomic_number": crystals.atomic_numbers,
            "contribution": contributions,
        }
    )


def _draw(n: int, most: int, seed: int) -> Rows:
    drawn = np.random.default_rng(seed).choice(n, size=min(n, most), replace=False)
    return np.sort(drawn).astype(np.int64)


def _embed_elements(network: CGCNN, numbers: list[int]) -> Floats:
    with torch.inference_mode():
        device = next(network.parameters()).device
        vectors: torch.Tensor = network.embedding(
            network.elements(torch.tensor(numbers, device=device))
        )
    return vectors.double().cpu().numpy()
