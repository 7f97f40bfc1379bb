"""What every model must do. A new model file is picked up by itself."""

import json

import numpy as np
import pytest
import torch
from variants import ELEMENTS, Variant, capped, fitted_by, learners, one, variants

from raymat.config import build_config
from raymat.data.composition import SYMBOLS
from raymat.data.crystals import Crystal, CrystalSet
from raymat.data.scaling import TargetScaling
from raymat.errors import ConfigError
from raymat.features import pair_search
from raymat.features.store import FeatureStore
from raymat.models import available
from raymat.models._layers import MAX_LOG_VARIANCE
from raymat.models._spec import CrystalModel
from raymat.training.checkpoints import load_checkpoint, save_checkpoint
from raymat.training.fit import FitData
from raymat.training.loops import start_fit, training_config
from raymat.training.members import predict_members
from raymat.training.model_files import TrainedModel, load_model, save_model
from raymat.tuning.trial_config import build_trial_config

# Networks are in float64 here, but equal distances still differ by their float32 rounding, 2e-7 Å.
SAME = 1e-6
DIFFERENT = 10 * SAME
SAME_SLOPE = 1e-5  # of a difference over 2e-5 in float64
# SrTiO3's oxygen: 2 Ti, then 4 Sr and 8 O at one distance. Twelve neighbors cut through that shell.
MIXED = "SrTiO3"
WHOLE_SHELLS = 14
WIDEST_LATENT = 256  # of any model as it stands; a descriptor of thousands of features is none


@pytest.fixture(scope="module", params=variants(), ids=str)
def variant(request):
    return request.param


@pytest.fixture(scope="module")
def network(variant, twelve_crystals):
    return variant.used_network(twelve_crystals, "y")


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
    """The variant in which ties cannot matter: where the index decides, a mixed shell is whole."""
    if crystal.material_id != MIXED or not variant.ties_by_index:
        return variant
    return variant.with_changes(max_neighbors=WHOLE_SHELLS)


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


@capped()
def test_cut_shell_does_not_depend_on_the_search(variant, network, tiny_crystals, monkeypatch):
    """Whatever order a neighbor search meets equal distances in, SrTiO3 is one graph."""
    mixed = tiny_crystals[list(tiny_crystals.material_ids).index(MIXED)]
    expected = variant.predict(network, mixed)
    found_pairs, calls = pair_search.find_pairs, []

    def shuffled(*args, **kwargs):
        pairs = found_pairs(*args, **kwargs)
        calls.append(len(pairs.atom))
        return pairs.take(np.random.default_rng(7).permutation(len(pairs.atom)))

    monkeypatch.setattr(pair_search, "find_pairs", shuffled)
    assert np.array_equal(variant.predict(network, mixed), expected)
    assert calls, "the search was not shuffled"


def test_swapped_element(variant, network, tiny_crystals):
    salt = tiny_crystals[0]
    other = changed(salt, atomic_numbers=np.where(salt.atomic_numbers == 11, 19, 17).astype("u1"))
    if variant.changes and variant.reads_the_same(salt, other):
        pytest.skip(f"{variant} takes all atoms for one element")  # never a model as it stands
    difference = variant.predict(network, other) - variant.predict(network, salt)
    assert abs(difference[0]) > DIFFERENT


def test_changed_volume(variant, network, tiny_crystals):
    titanate = tiny_crystals[3]
    larger = changed(titanate, lattice=1.05 * titanate.lattice)
    difference = variant.predict(network, larger) - variant.predict(network, titanate)
    assert abs(difference[0]) > DIFFERENT


def test_batch_equals_one_by_one(variant, network, twelve_crystals):
    together = variant.predict(network, twelve_crystals)
    alone = [variant.predict(network, twelve_crystals[i])[0] for i in range(12)]
    assert together == pytest.approx(alone, abs=SAME)
    backwards = variant.predict(network, twelve_crystals.take(np.arange(12)[::-1]))
    assert backwards[::-1] == pytest.approx(together, abs=SAME)


def test_latent_vector_has_the_symmetries_of_the_prediction(variant, network, crystal):
    variant = with_whole_shells(variant, crystal)
    expected = variant.latent(network, crystal)
    rotation, _ = np.linalg.qr(np.random.default_rng(5).normal(size=(3, 3)))
    shifted = crystal.frac_coords + np.array([0.13, -1.27, 0.41])
    moved = permuted(changed(crystal, lattice=crystal.lattice @ rotation.T, frac_coords=shifted))
    for same in (moved, supercell(crystal, (1, 2, 3))):
        assert variant.latent(network, same) == pytest.approx(expected, abs=SAME)


def test_prediction_comes_from_the_latent_vector_alone(variant, network, twelve_crystals):
    latent = variant.latent(network, twelve_crystals)
    assert latent.shape[0] == 12
    assert latent.shape[1] <= WIDEST_LATENT
    assert type(network).forward is CrystalModel.forward
    with torch.inference_mode():
        answer = network.from_latent(torch.from_numpy(latent)).numpy()
    assert np.array_equal(answer, variant.answer(network, twelve_crystals))
    alone = np.vstack([variant.latent(network, twelve_crystals[i]) for i in range(12)])
    assert latent == pytest.approx(alone, abs=SAME)
    different = ~np.isclose(latent[:, None], latent[None], rtol=0, atol=SAME).all(axis=2)
    assert different[~np.eye(12, dtype=bool)].any()  # it does tell crystals apart


@fitted_by("gradient")
def test_gaussian_has_mean_and_bounded_log_variance(variant, twelve_crystals):
    network = variant.used_network(twelve_crystals, "y", "gaussian")
    answer = variant.answer(network, twelve_crystals)
    assert answer.shape == (12, 2)
    assert (np.abs(answer[:, 1]) <= MAX_LOG_VARIANCE).all()
    assert np.ptp(answer, axis=0).min() > SAME  # both depend on the crystal
    alone = [variant.answer(network, twelve_crystals[i])[0] for i in range(12)]
    assert answer == pytest.approx(np.array(alone), abs=SAME)


@fitted_by("closed_form")
def test_closed_form_refuses_a_variance(variant):
    variant.spec.check_output("regression")
    with pytest.raises(ConfigError, match="closed form predicts no variance; take one that is"):
        variant.spec.check_output("gaussian")


@fitted_by("gradient")
@pytest.mark.usefixtures("one_thread")
def test_gaussian_model_file_round_trip(variant, fitting, tmp_path):
    fit = finish(fitting(loss="gaussian_nll"))
    model = trained(variant, fit, predicts_noise=True)
    save_model(model, tmp_path / "best")
    again = load_model(tmp_path / "best")
    assert again.output == "gaussian"
    (expected,), noise = predict_members([model], fit.table)
    (values,), same_noise = predict_members([again], fit.table)
    assert np.array_equal(values, expected)
    assert np.array_equal(values, fit.predict(np.arange(12)))
    assert np.array_equal(same_noise, noise)
    assert (noise > 0).all()


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


NETWORK = {"epochs": 3, "batch_size": 4, "optimizer": "adam"}


@pytest.fixture
def fitting(variant, twelve_crystals):
    def begin(*, seed=0, task="regression", rows=8, **settings):
        learned = np.arange(rows)
        targets = twelve_crystals.target("y" if task == "regression" else "is_high")
        features = FeatureStore(twelve_crystals, (variant.table(twelve_crystals),))
        data = FitData(features, targets, train=learned, validation=learned, task=task)
        base = NETWORK if variant.spec.fit == "gradient" else {}
        config = training_config(variant.spec)(**{**base, **settings})
        return start_fit(variant.spec, variant.config, config, data=data, seed=seed)

    return begin


def finish(fit):
    while not fit.finished:
        fit.run_epoch()
    return fit


def trained(variant, fit, **facts):
    values = {"task": "regression", "target": "y", "unit": "eV", "threshold": None, **facts}
    return TrainedModel(
        name=variant.name,
        config=variant.config,
        network=fit.model,
        scaling=fit.scaling,
        elements=(11, 17),
        training={},
        **values,
    )


def losses(fit):
    return [metrics.train_loss for metrics in finish(fit).history]


@pytest.mark.usefixtures("one_thread")
def test_same_seed(fitting):
    first, second = finish(fitting(seed=1)), finish(fitting(seed=1))
    assert losses(first) == losses(second)
    assert np.array_equal(first.predict(np.arange(12)), second.predict(np.arange(12)))


@fitted_by("gradient")
@pytest.mark.usefixtures("one_thread")
def test_another_seed(fitting):
    assert losses(fitting(seed=1)) != losses(fitting(seed=2))


@pytest.mark.usefixtures("one_thread")
def test_checkpoint_round_trip(fitting, tmp_path):
    fit = finish(fitting())
    save_checkpoint(fit, tmp_path / "last.pt")
    again = fitting(seed=9)
    assert load_checkpoint(again, tmp_path / "last.pt")
    rows = np.arange(12)
    assert np.array_equal(again.predict(rows), fit.predict(rows))
    assert again.history == fit.history
    assert again.finished


@fitted_by("gradient")
@pytest.mark.usefixtures("one_thread")
def test_resumed_fit_is_the_whole_fit(fitting, tmp_path):
    whole, first = finish(fitting()), fitting()
    first.run_epoch()
    save_checkpoint(first, tmp_path / "last.pt")
    torch.manual_seed(99)  # whatever else drew random numbers in between
    second = fitting()
    assert load_checkpoint(second, tmp_path / "last.pt")
    finish(second)
    assert losses(second) == losses(whole)
    assert np.array_equal(second.predict(np.arange(12)), whole.predict(np.arange(12)))


@pytest.mark.parametrize("task", ["regression", "classification"])
@pytest.mark.usefixtures("one_thread")
def test_model_file_round_trip(variant, fitting, task, tmp_path):
    fit = finish(fitting(task=task))
    model = trained(variant, fit, task=task)
    save_model(model, tmp_path / "best")
    again = load_model(tmp_path / "best")
    assert (again.config, again.scaling) == (model.config, model.scaling)
    assert again.network.n_parameters == fit.n_parameters > 0
    assert np.array_equal(again.predict(fit.table), fit.predict(np.arange(12)))


def test_classes_have_probabilities(variant, twelve_crystals):
    network = variant.used_network(twelve_crystals, "is_high", "classification")
    answer = variant.answer(network, twelve_crystals)
    assert answer.shape == (12, 2)
    assert np.exp(answer).sum(axis=1) == pytest.approx(np.ones(12), abs=SAME)
    alone = [variant.answer(network, twelve_crystals[i])[0] for i in range(12)]
    assert answer == pytest.approx(np.array(alone), abs=SAME)


def smallest_error(fit, wanted):
    while not fit.finished and (fit.best is None or fit.best.val_score > wanted):
        fit.run_epoch()
    return fit.best.val_score


@learners()
@pytest.mark.usefixtures("one_thread")
def test_eight_crystals_are_fitted(fitting):
    """A network that cannot learn eight crystals by heart has a broken gradient somewhere."""
    settings = {"batch_size": 8, "schedule": "cosine", "weight_decay": 0.0}
    wanted = 0.03 * float(fitting().data.targets[:8].std())
    # One hidden layer on a descriptor needs longer steps, and more of them, than a graph network.
    tries = (fitting(lr=lr, epochs=n, **settings) for lr, n in ((5e-3, 400), (2e-2, 4000)))
    assert any(smallest_error(fit, wanted) <= wanted for fit in tries)


@fitted_by("gradient")
def test_gradient_is_that_of_finite_differences(variant, tiny_crystals):
    network = variant.network().double().train()
    batch, step = variant.batch(variant.table(tiny_crystals)), 1e-5
    parameters = list(network.parameters())
    directions = [torch.randn_like(p) for p in parameters]

    def loss(distance):
        with torch.no_grad():
            for parameter, direction in zip(parameters, directions, strict=True):
                parameter.add_(direction, alpha=distance)
        return network(batch).square().sum()

    gradients = torch.autograd.grad(loss(0.0), parameters)
    slope = sum((g * d).sum() for g, d in zip(gradients, directions, strict=True)).item()
    ahead, behind = loss(step).item(), loss(-2 * step).item()
    assert (ahead - behind) / (2 * step) == pytest.approx(slope, rel=SAME_SLOPE, abs=SAME_SLOPE)


@fitted_by("gradient")
def test_gradient_reaches_every_tensor(variant, tiny_crystals):
    network = variant.network().train()
    network(variant.batch(variant.table(tiny_crystals))).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


def test_every_element_is_predicted_or_told(variant, network, tiny_crystals):
    """What a model's table of elements lacks is told with its name: no crash, no silent zero."""
    chloride = tiny_crystals[2]
    crystals = [
        changed(chloride, material_id=symbol, atomic_numbers=np.array([z, 17], dtype=np.uint8))
        for z, symbol in enumerate(SYMBOLS, start=1)
    ]
    told = variant.unusable(CrystalSet.from_crystals(crystals))
    for row, reason in told.items():
        assert f" {SYMBOLS[row]}," in reason
    assert not {SYMBOLS[row] for row in told} & {SYMBOLS[z - 1] for z in ELEMENTS}
    usable = CrystalSet.from_crystals([c for row, c in enumerate(crystals) if row not in told])
    assert np.isfinite(variant.predict(network, usable)).all()


def test_lone_atom_is_told(variant, network):
    """Xenon without any neighbor: a model says that it cannot, or predicts it with a warning."""
    xenon = Crystal("Xe", np.eye(3) * 40.0, np.array([54], dtype=np.uint8), np.zeros((1, 3)))
    told = variant.unusable(xenon) or variant.doubtful(xenon)
    assert set(told) == {0}
    assert told[0].startswith("no atom has a neighbor within ")
    if variant.ties_by_index:
        assert variant.unusable(xenon) == {}
        assert np.isfinite(variant.predict(network, xenon)).all()


def test_isolated_atom_among_others(variant, network):
    """A molecule and an atom far from it: the atom has no neighbor, the crystal has."""
    numbers = np.array([11, 17, 54], dtype=np.uint8)
    coordinates = np.array([[0.0, 0.0, 0.0], [0.06, 0.0, 0.0], [0.5, 0.5, 0.5]])
    crystal = Crystal("NaCl+Xe", np.eye(3) * 40.0, numbers, coordinates)
    told = variant.unusable(crystal) or variant.doubtful(crystal)
    assert told[0].startswith("1 of 3 atoms has no neighbor within ")
    if variant.unusable(crystal):
        return
    assert variant.name == "megnet" or variant.ties_by_index
    predicted = variant.predict(network, crystal)
    assert np.isfinite(predicted).all()
    shifted = changed(crystal, frac_coords=coordinates + np.array([0.2, -0.6, 0.97]))
    assert variant.predict(network, shifted) == pytest.approx(predicted, abs=SAME)


def test_single_atom_cell(variant, network):
    """One atom that is its own neighbor, as in a primitive cell of copper."""
    fcc = np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]]) * 1.805  # Å, half of Kittel's constant
    copper = Crystal("Cu", fcc, np.array([29], dtype=np.uint8), np.zeros((1, 3)))
    predicted = variant.predict(network, one(copper))
    assert np.isfinite(predicted).all()
    assert variant.predict(network, supercell(copper, (2, 2, 2))) == pytest.approx(
        predicted, abs=SAME
    )


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e9])
@pytest.mark.parametrize("name", available())
@pytest.mark.usefixtures("one_thread")
def test_default_settings_learn_targets_of_any_size(name, scale, twelve_crystals):
    """Whatever the unit: 1/Pa, where numbers are 1e-12, is one that people use."""
    variant, rows = Variant(name, {}), np.arange(12)
    features = FeatureStore(twelve_crystals, (variant.table(twelve_crystals),))
    targets = twelve_crystals.target("y") * scale
    data = FitData(features, targets, train=rows, validation=rows, task="regression")
    epochs = {"training.epochs": 40} if variant.spec.fit == "gradient" else {}
    config = build_trial_config(name, epochs, where="here").training
    fit = finish(start_fit(variant.spec, variant.config, config, data=data, seed=0))
    fit.use_best_weights()
    predicted = fit.predict(rows)
    assert np.corrcoef(predicted, targets)[0, 1] > 0.5
    assert 0.05 < predicted.std() / targets.std() < 2.0


def test_megnet_learns_ordinary_targets_as_its_authors_do(twelve_crystals):
    variant, rows = Variant("megnet", {}), np.arange(12)
    features = FeatureStore(twelve_crystals, (variant.table(twelve_crystals),))
    config = build_trial_config("megnet", {}, where="here").training
    for scale, scales in [(1.0, False), (0.05, False), (1e-3, True), (1e4, True)]:
        targets = twelve_crystals.target("y") * scale
        data = FitData(features, targets, train=rows, validation=rows, task="regression")
        fit = start_fit(variant.spec, variant.config, config, data=data, seed=0)
        assert fit.scaling == (TargetScaling.fit(targets) if scales else TargetScaling())
