"""What every model must do. A new model file is picked up by itself."""

import json

import numpy as np
import pytest
import torch
from variants import one, variants

from raymat.config import build_config
from raymat.data.crystals import Crystal
from raymat.features import neighbors as search
from raymat.training.checkpoints import load_checkpoint, save_checkpoint
from raymat.training.config import FitConfig
from raymat.training.fit import Fit, FitData
from raymat.training.model_files import TrainedModel, load_model, save_model

# Networks are in float64 here, but equal distances still differ by their float32 rounding, 2e-7 Å.
SAME = 1e-6
DIFFERENT = 10 * SAME
# SrTiO3's oxygen: 2 Ti, then 4 Sr and 8 O at one distance. Twelve neighbors cut through that shell.
MIXED = "SrTiO3"
WHOLE_SHELLS = 14


@pytest.fixture(scope="module", params=variants(), ids=str)
def variant(request):
    return request.param


@pytest.fixture(scope="module")
def network(variant, tiny_crystals):
    return variant.used_network(variant.table(tiny_crystals))


@pytest.fixture(params=["NaCl", "Si", "CsCl", MIXED])
def crystal(request, tiny_crystals):
    return tiny_crystals[list(tiny_crystals.material_ids).index(request.param)]


def changed(crystal, **arrays):
    values = {**vars(crystal), "material_id": "changed", **arrays}
    return Crystal(**values)


def permuted(crystal, seed=3):
    order = np.random.default_rng(seed).permutation(len(crystal.atomic_numbers))
    return changed(
        crystal,
        atomic_numbers=crystal.atomic_numbers[order],
        frac_coords=crystal.frac_coords[order],
    )


def supercell(crystal, repeats):
    cells = np.array(list(np.ndindex(*repeats)), dtype=float)
    frac = (crystal.frac_coords[:, None] + cells).reshape(-1, 3) / repeats
    return changed(
        crystal,
        lattice=crystal.lattice * np.array(repeats)[:, None],
        atomic_numbers=np.repeat(crystal.atomic_numbers, len(cells)),
        frac_coords=frac,
    )


def with_whole_shells(variant, crystal):
    """The variant in which ties cannot matter: a mixed shell is kept whole."""
    if crystal.material_id != MIXED:
        return variant
    if "max_neighbors" not in variant.spec.config.model_fields:
        return variant  # it has no cap that could cut a shell
    return type(variant)(variant.name, {**variant.changes, "max_neighbors": WHOLE_SHELLS})


def test_order_of_atoms(variant, network, crystal):
    variant = with_whole_shells(variant, crystal)
    expected = variant.predict(network, crystal)
    assert variant.predict(network, permuted(crystal)) == pytest.approx(expected, abs=SAME)


def test_origin(variant, network, crystal):
    shifted = changed(crystal, frac_coords=crystal.frac_coords + np.array([0.13, -1.27, 0.41]))
    expected = variant.predict(network, crystal)
    assert variant.predict(network, shifted) == pytest.approx(expected, abs=SAME)


def test_rotation(variant, network, crystal):
    rotation, _ = np.linalg.qr(np.random.default_rng(5).normal(size=(3, 3)))
    turned = changed(crystal, lattice=crystal.lattice @ rotation.T)
    expected = variant.predict(network, crystal)
    assert variant.predict(network, turned) == pytest.approx(expected, abs=SAME)


def test_supercell(variant, network, crystal):
    """Every target here is per atom or intensive, so a larger cell is the same crystal."""
    variant = with_whole_shells(variant, crystal)
    expected = variant.predict(network, crystal)
    for repeats in ((2, 1, 1), (1, 2, 3)):
        larger = supercell(crystal, repeats)
        assert variant.predict(network, larger) == pytest.approx(expected, abs=SAME)


def test_cut_shell_does_not_depend_on_the_search(variant, network, tiny_crystals, monkeypatch):
    """Whatever order a neighbor search meets equal distances in, SrTiO3 is one graph."""
    mixed = tiny_crystals[list(tiny_crystals.material_ids).index(MIXED)]
    expected = variant.predict(network, mixed)
    found_pairs, calls = search._find_pairs, []

    def shuffled(*args, **kwargs):
        pairs = found_pairs(*args, **kwargs)
        calls.append(len(pairs.atom))
        return pairs.take(np.random.default_rng(7).permutation(len(pairs.atom)))

    monkeypatch.setattr(search, "_find_pairs", shuffled)
    assert np.array_equal(variant.predict(network, mixed), expected)
    assert calls, "the search was not shuffled"


def test_swapped_element(variant, network, tiny_crystals):
    salt = tiny_crystals[0]
    other = changed(salt, atomic_numbers=np.where(salt.atomic_numbers == 11, 19, 17).astype("u1"))
    difference = variant.predict(network, other) - variant.predict(network, salt)
    assert abs(difference[0]) > DIFFERENT


def test_changed_volume(variant, network, tiny_crystals):
    salt = tiny_crystals[0]
    larger = changed(salt, lattice=1.05 * salt.lattice)
    difference = variant.predict(network, larger) - variant.predict(network, salt)
    assert abs(difference[0]) > DIFFERENT


def test_batch_equals_one_by_one(variant, network, twelve_crystals):
    together = variant.predict(network, twelve_crystals)
    alone = [variant.predict(network, twelve_crystals[i])[0] for i in range(12)]
    assert together == pytest.approx(alone, abs=SAME)
    backwards = variant.predict(network, twelve_crystals.take(np.arange(12)[::-1]))
    assert backwards[::-1] == pytest.approx(together, abs=SAME)


def test_config_round_trip(variant):
    text = json.dumps(variant.config.model_dump(mode="json"))
    again = build_config(variant.spec.config, json.loads(text), where="model.json")
    assert again == variant.config
    sizes = [
        {k: v.shape for k, v in variant.spec.build(c, "regression").state_dict().items()}
        for c in (variant.config, again)
    ]
    assert sizes[0] == sizes[1]


@pytest.fixture
def one_thread():
    """Bitwise equality is promised for one CPU thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def fitting(variant, twelve_crystals):
    if variant.spec.fit != "gradient":
        pytest.skip(f"{variant} has no epochs")

    def begin(*, seed=0, **settings):
        rows = np.arange(8)
        table = variant.table(twelve_crystals)
        targets = twelve_crystals.target("y")
        data = FitData(table, targets, train=rows, validation=rows, task="regression")
        config = FitConfig(**{"epochs": 3, "batch_size": 4, "optimizer": "adam", **settings})
        return Fit(variant.spec, variant.config, config, data=data, seed=seed)

    return begin


def losses(fit, epochs=3):
    return [fit.run_epoch().train_loss for _ in range(epochs)]


@pytest.mark.usefixtures("one_thread")
def test_seeds(fitting):
    first = losses(fitting(seed=1))
    assert losses(fitting(seed=1)) == first
    assert losses(fitting(seed=2)) != first


@pytest.mark.usefixtures("one_thread")
def test_checkpoint_round_trip(fitting, tmp_path):
    fit = fitting()
    losses(fit)
    save_checkpoint(fit, tmp_path / "last.pt")
    again = fitting(seed=9)
    assert load_checkpoint(again, tmp_path / "last.pt")
    rows = np.arange(12)
    assert np.array_equal(again.predict(rows), fit.predict(rows))
    assert again.history == fit.history


@pytest.mark.usefixtures("one_thread")
def test_model_file_round_trip(variant, fitting, tmp_path):
    fit = fitting()
    losses(fit)
    model = TrainedModel(
        name=variant.name,
        config=variant.config,
        network=fit.model,
        target="y",
        unit="eV",
        task="regression",
        scaling=fit.scaling,
        elements=(11, 17),
        training={},
    )
    save_model(model, tmp_path / "best")
    again = load_model(tmp_path / "best")
    assert (again.config, again.scaling) == (model.config, model.scaling)
    table = fit.data.table
    assert np.array_equal(again.predict(table), fit.predict(np.arange(12)))


@pytest.mark.usefixtures("one_thread")
def test_eight_crystals_are_fitted(fitting):
    """A network that cannot learn eight crystals by heart has a broken gradient somewhere."""
    fit = fitting(epochs=400, batch_size=8, lr=5e-3, schedule="cosine", weight_decay=0.0)
    wanted = 0.03 * float(fit.data.targets[:8].std())
    while not fit.finished and (fit.best is None or fit.best.val_score > wanted):
        fit.run_epoch()
    assert fit.best.val_score <= wanted


def test_gradient_reaches_every_tensor(variant, tiny_crystals):
    network = variant.network().train()
    network(variant.graph(variant.table(tiny_crystals))).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


def test_single_atom_cell(variant, network):
    """One atom that is its own neighbor, as in a primitive cell of copper."""
    fcc = np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]]) * 1.805  # Å, half of Kittel's constant
    copper = Crystal("Cu", fcc, np.array([29], dtype=np.uint8), np.zeros((1, 3)))
    predicted = variant.predict(network, one(copper))
    assert np.isfinite(predicted).all()
    assert variant.predict(network, supercell(copper, (2, 2, 2))) == pytest.approx(
        predicted, abs=SAME
    )
