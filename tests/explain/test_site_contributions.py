"""Site contributions: they add up to the prediction, and their tables count what they say."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch

from raymat.data.crystals import Crystal, CrystalSet
from raymat.data.scaling import TargetScaling
from raymat.errors import ModelFileError
from raymat.explain.site_contributions import (
    SiteContributions,
    explain_sites,
    first_shell,
    linear_network,
    site_contributions,
    site_vectors,
    summarise_elements,
    summarise_pairs,
    write_contributions,
)
from raymat.features.neighbor_table import NeighborTable
from raymat.features.store import FeatureStore
from raymat.models import load_spec
from raymat.training import predict
from raymat.training.model_files import TrainedModel

SCALING = TargetScaling(mean=-1.5, std=2.0)
FLOAT32 = 1e-6  # of a contribution's size: the networks compute in single precision
# With 14 neighbors no cut of SrTiO3 goes through a shell of two elements, so that the choice among
# neighbors at one distance is of no consequence.
MAX_NEIGHBORS = 14


def make_model(name: str = "cgcnn", *, task: Any = "regression", **config: Any) -> TrainedModel:
    spec = load_spec(name)
    built = spec.config(**config)
    torch.manual_seed(0)
    return TrainedModel(
        name=name,
        config=built,
        network=spec.build(built, task).eval(),
        target="y",
        unit="eV/atom",
        task=task,
        scaling=SCALING,
        threshold=None,
        elements=(11, 17),
        training={},
    )


@pytest.fixture
def model() -> TrainedModel:
    """An untrained network whose contributions differ from site to site."""
    made = make_model(readout="linear", atom_dim=8, n_conv=2, max_neighbors=MAX_NEIGHBORS)
    with torch.no_grad():
        made.network.site.weight.mul_(5.0)
    return made


def build(model: TrainedModel, crystals: CrystalSet) -> NeighborTable:
    table = model.view.table_config.build(crystals)
    assert isinstance(table, NeighborTable)
    return table


def explain(model: TrainedModel, crystals: CrystalSet, **options: Any) -> SiteContributions:
    return explain_sites(
        model, crystals, FeatureStore(crystals, (build(model, crystals),)), **options
    )


@pytest.mark.parametrize("convolution", ["eq5", "eq4"])
def test_mean_over_a_crystal_is_its_prediction(tiny_crystals: CrystalSet, convolution: str) -> None:
    model = make_model(readout="linear", atom_dim=8, n_conv=2, convolution=convolution)
    found = explain(model, tiny_crystals)
    means = found.sites.groupby("material_id", sort=False)["contribution"].mean()
    assert means.index.tolist() == ["NaCl", "Si", "CsCl", "SrTiO3"]
    assert means.to_numpy() == pytest.approx(
        model.predict(build(model, tiny_crystals)), rel=FLOAT32
    )
    assert np.ptp(found.sites["contribution"]) > 0.1


def test_sites_stand_in_the_order_of_the_crystals(
    model: TrainedModel, tiny_crystals: CrystalSet
) -> None:
    sites = explain(model, tiny_crystals).sites
    assert list(sites.columns) == [
        *("material_id", "site", "element", "atomic_number", "contribution"),
    ]
    assert sites["atomic_number"].tolist() == tiny_crystals.atomic_numbers.tolist()
    last = sites[sites["material_id"] == "SrTiO3"]
    assert last["site"].tolist() == [0, 1, 2, 3, 4]
    assert last["element"].tolist() == ["Sr", "Ti", "O", "O", "O"]
    assert last["contribution"].iloc[2:].to_numpy() == pytest.approx(
        [last["contribution"].iloc[2]] * 3, rel=FLOAT32
    )


def double(crystal: Crystal) -> Crystal:
    """Give the supercell of twice the length along a, copies of a site one after the other."""
    shifts = np.array([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    coords = (crystal.frac_coords[:, None] + shifts).reshape(-1, 3) / [2.0, 1.0, 1.0]
    lattice = crystal.lattice * np.array([[2.0], [1.0], [1.0]])
    return Crystal(f"{crystal.material_id}-2", lattice, crystal.atomic_numbers.repeat(2), coords)


def test_supercell_gives_the_same_contributions(
    model: TrainedModel, tiny_crystals: CrystalSet
) -> None:
    doubled = CrystalSet.from_crystals([double(tiny_crystals[i]) for i in range(4)])
    once = site_contributions(model, build(model, tiny_crystals))
    twice = site_contributions(model, build(model, doubled))
    assert twice == pytest.approx(once.repeat(2), rel=FLOAT32)


def test_batches_change_nothing(
    model: TrainedModel, twelve_crystals: CrystalSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = explain(model, twelve_crystals, most_vectors=20)
    monkeypatch.setitem(predict.SITES_PER_BATCH, "cpu", 1)
    parts = explain(model, twelve_crystals, most_vectors=20)
    for name in ("contribution", "atomic_number"):
        assert parts.sites[name].to_numpy() == pytest.approx(
            whole.sites[name].to_numpy(), rel=FLOAT32
        )
    assert parts.site_vectors == pytest.approx(whole.site_vectors, rel=1e-5)
    assert parts.sampled.tolist() == whole.sampled.tolist()


def test_sampled_vectors_are_those_of_their_sites(
    model: TrainedModel, twelve_crystals: CrystalSet
) -> None:
    table = build(model, twelve_crystals)
    every = site_vectors(model, table, np.arange(table.n_sites.sum()))
    found = explain(model, twelve_crystals, most_vectors=20, seed=3)
    assert len(set(found.sampled.tolist())) == 20
    assert found.sampled.tolist() == sorted(found.sampled.tolist())
    assert found.site_vectors == pytest.approx(every[found.sampled], rel=1e-5)
    weight, bias = (p.detach().double().numpy() for p in linear_network(model).site.parameters())
    expected = SCALING.restore(every @ weight[0] + bias[0])
    assert found.sites["contribution"].to_numpy() == pytest.approx(expected, rel=FLOAT32)
    other = explain(model, twelve_crystals, most_vectors=20, seed=4)
    assert other.sampled.tolist() != found.sampled.tolist()


def test_few_sites_are_all_kept(model: TrainedModel, tiny_crystals: CrystalSet) -> None:
    found = explain(model, tiny_crystals)
    assert found.sampled.tolist() == list(range(23))
    assert found.site_vectors.shape == (23, 8)


def test_element_vectors_are_the_embeddings(model: TrainedModel, tiny_crystals: CrystalSet) -> None:
    found = explain(model, tiny_crystals)
    assert found.elements["element"].tolist() == ["O", "Na", "Si", "Cl", "Ti", "Sr", "Cs"]
    network = linear_network(model)
    with torch.no_grad():
        expected = network.embedding(network.elements(torch.tensor([8, 11, 14, 17, 22, 38, 55])))
    assert found.element_vectors == pytest.approx(expected.numpy(), rel=FLOAT32)


def with_values(crystals: CrystalSet, values: list[float]) -> pd.DataFrame:
    """Give a table of sites with chosen contributions."""
    counts = crystals.n_sites
    return pd.DataFrame(
        {
            "material_id": crystals.material_ids.repeat(counts),
            "atomic_number": crystals.atomic_numbers,
            "contribution": values,
        }
    )


def test_elements_by_hand(tiny_crystals: CrystalSet) -> None:
    crystals = tiny_crystals.take(np.array([0, 2]))  # NaCl and CsCl
    sites = with_values(crystals, [1.0, 2.0, 3.0, 4.0, -1.0, -1.0, -1.0, -1.0, 5.0, 9.0])
    found = summarise_elements(sites, crystals).set_index("element")
    assert found.index.tolist() == ["Na", "Cl", "Cs"]
    assert found.loc["Na"].tolist() == pytest.approx([4, 1, 2.5, np.sqrt(1.25), 1.0, 4.0])
    assert found.loc["Cl"].tolist() == pytest.approx([5, 2, 1.0, 4.0, -1.0, 9.0])
    assert found.loc["Cs"].tolist() == pytest.approx([1, 1, 5.0, 0.0, 5.0, 5.0])
    assert found.columns.tolist() == ["n_sites", "n_crystals", "mean", "std", "min", "max"]


def test_pairs_of_the_tiny_crystals(model: TrainedModel, tiny_crystals: CrystalSet) -> None:
    found = explain(model, tiny_crystals)
    pairs = list(found.pairs[["element", "neighbor", "n_sites"]].itertuples(index=False, name=None))
    assert pairs == [  # Cl of NaCl has 6 Na, Cl of CsCl has 8 Cs; O has 2 Ti, nearer than 4 Sr
        ("O", "Ti", 3),
        ("Na", "Cl", 4),
        ("Si", "Si", 8),
        ("Cl", "Na", 4),
        ("Cl", "Cs", 1),
        ("Ti", "O", 1),
        ("Sr", "O", 1),
        ("Cs", "Cl", 1),
    ]
    sodium = found.sites.loc[found.sites["element"] == "Na", "contribution"].mean()
    assert found.pairs.loc[1, "mean"] == pytest.approx(sodium)


def test_pairs_by_hand() -> None:
    sites = pd.DataFrame({"atomic_number": [11, 11, 17, 9], "contribution": [1.0, 4.0, 6.0, 8.0]})
    receivers, senders = np.array([0, 0, 0, 1, 2]), np.array([2, 2, 3, 2, 0])  # twice the same Cl
    found = summarise_pairs(sites, receivers, senders)
    assert list(found.itertuples(index=False, name=None)) == [
        ("Na", "F", 1, 1.0),
        ("Na", "Cl", 2, 2.5),
        ("Cl", "Na", 1, 6.0),
    ]


def test_first_shell_holds_what_is_nearly_nearest(model: TrainedModel) -> None:
    """A chain along c with gaps of 2.0 and 2.0 * factor Å: one neighbor, or two."""
    for factor, n_pairs in ((1.04, 4), (1.06, 2)):
        c = 2.0 * (1.0 + factor)
        chain = Crystal(
            "chain", np.diag([30.0, 30.0, c]), np.array([11, 17], np.uint8),
            np.array([[0, 0, 0], [0, 0, 2.0 / c]]),
        )  # fmt: skip
        receivers, senders = first_shell(build(model, CrystalSet.from_crystals([chain])))
        assert len(receivers) == len(senders) == n_pairs
        assert (receivers != senders).all()


def test_an_atom_without_neighbors_has_no_pairs(model: TrainedModel) -> None:
    alone = Crystal("He", np.eye(3) * 30.0, np.array([2], np.uint8), np.zeros((1, 3)))
    found = explain(model, CrystalSet.from_crystals([alone]))
    assert len(found.sites) == 1
    assert found.pairs.empty
    assert found.pairs.columns.tolist() == ["element", "neighbor", "n_sites", "mean"]


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (lambda: make_model("megnet"), "a megnet model has no site contributions; train a cgcnn"),
        (lambda: make_model(), "readout 'mean' has no site contributions, its value is no mean"),
        (
            lambda: make_model(task="classification", readout="linear"),
            "a classifier has no site contributions; they need a number to add up to; train",
        ),
    ],
)
def test_models_without_contributions(made: Any, words: str) -> None:
    with pytest.raises(ModelFileError, match=words) as caught:
        linear_network(made(), where="run/best")
    assert str(caught.value).startswith("run/best: ")
    assert str(caught.value).endswith("`raymat train --config` and `model.readout: linear`")


def test_a_model_with_its_own_variance_contributes_to_the_mean(tiny_crystals: CrystalSet) -> None:
    made = make_model(readout="linear", atom_dim=8, task="gaussian")
    model = replace(made, task="regression", predicts_noise=True)
    table = build(model, tiny_crystals)
    means = np.add.reduceat(site_contributions(model, table), table.offsets[:-1]) / table.n_sites
    assert means == pytest.approx(model.predict(table), rel=FLOAT32)


def test_files(model: TrainedModel, tiny_crystals: CrystalSet, tmp_path: Path) -> None:
    found = explain(model, tiny_crystals)
    files = write_contributions(found, tmp_path)
    assert [file.name for file in files] == ["contributions.parquet", "elements.csv", "pairs.csv"]
    assert sorted(tmp_path.iterdir()) == files
    pd.testing.assert_frame_equal(pd.read_parquet(files[0]), found.sites)
    assert pq.read_schema(files[0]).field("contribution").metadata[b"unit"] == b"eV/atom"
    pd.testing.assert_frame_equal(pd.read_csv(files[1]), found.elements)
    pd.testing.assert_frame_equal(pd.read_csv(files[2]), found.pairs)
