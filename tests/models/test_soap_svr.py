"""SOAP-SVR against scikit-learn's own predictions, and what must be refused."""

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix
from sklearn.calibration import CalibratedClassifierCV
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.model_selection import StratifiedKFold
from sklearn.svm import SVC, SVR

from raymat.config import build_config
from raymat.data.crystals import CrystalSet
from raymat.data.readers import load_crystals
from raymat.data.scaling import TargetScaling
from raymat.data.splits import SplitConfig, make_split
from raymat.errors import ConfigError, DataError, ModelFileError
from raymat.features.descriptor_table import DescriptorBatch
from raymat.features.soap import SoapConfig
from raymat.models import _svr_forecast, load_spec, soap_svr
from raymat.models._svr_forecast import forecast_fit_s
from raymat.models._weights import load_weights
from raymat.models.soap_svr import SOAPSVR, SPEC, SOAPSVRConfig
from raymat.training.model_files import TrainedModel, load_model, save_model
from raymat.tuning.space import parse_space

SAME = 1e-9  # relative: the same float64 sums in another order
SPECIES = (1, 3, 8, 11, 14)  # of made descriptors: 3 * 5 * 6 / 2 = 45 features
N_FEATURES, N_TRAIN, N_TEST = 45, 80, 30
SCALINGS = ("none", "max_abs", "norm", "sqrt")
THESIS_MAE = {"log10_G_VRH": 0.131, "log10_K_VRH": 0.108}  # log10(GPa), science d and the issue
AGREES = 0.005  # between random splits of 8,981 crystals


def make_batch(n, seed, *, density=0.2) -> DescriptorBatch:
    """Make sparse vectors; the first crystal has no value at all."""
    rng = np.random.default_rng(seed)
    dense = rng.normal(1.0, 2.0, (n, N_FEATURES)) * (rng.random((n, N_FEATURES)) < density)
    dense[0] = 0.0
    return batch_of(dense)


def batch_of(dense) -> DescriptorBatch:
    matrix = csr_matrix(np.asarray(dense, dtype=np.float64))
    return DescriptorBatch(
        torch.from_numpy(matrix.indices.astype(np.int64)),
        torch.from_numpy(matrix.data),
        torch.from_numpy(matrix.indptr.astype(np.int64)),
        matrix.shape[1],
    )


def make_targets(batch) -> torch.Tensor:
    return 0.3 * batch.to_dense() @ torch.linspace(-1, 1, N_FEATURES).double()


def make_classes(batch) -> torch.Tensor:
    targets = make_targets(batch)
    return (targets > targets.median()).double()


def make_model(task="regression", **changes) -> SOAPSVR:
    return SOAPSVR(SOAPSVRConfig(species=SPECIES, **changes), task)


def solved(batch, targets, task="regression", *, seed=0, **changes) -> SOAPSVR:
    model = make_model(task, **changes)
    model.solve(batch, targets, seed=seed)
    return model.eval()


def scaled(train, other, how):
    """Scale dense vectors by the docstring's words, without the model's code."""
    if how == "max_abs":
        largest = np.abs(train).max(0)
        return other / np.where(largest > 0, largest, largest.max())
    if how == "norm":
        lengths = np.linalg.norm(other, axis=1, keepdims=True)
        return other / np.where(lengths > 0, lengths, 1.0)
    return np.sign(other) * np.sqrt(np.abs(other)) if how == "sqrt" else other


@pytest.fixture(scope="module")
def train():
    return make_batch(N_TRAIN, seed=1)


@pytest.fixture(scope="module")
def test():
    return make_batch(N_TEST, seed=2)


@pytest.mark.parametrize("how", SCALINGS)
def test_numbers_as_scikit_learn(train, test, how):
    targets = make_targets(train)
    dense = [scaled(train.to_dense().numpy(), b.to_dense().numpy(), how) for b in (train, test)]
    theirs = SVR(C=3.0, epsilon=0.05).fit(dense[0], targets.numpy())  # gamma="scale"
    model = solved(train, targets, C=3.0, epsilon=0.05, feature_scaling=how)
    got = model(test)
    assert got.shape == (N_TEST, 1)
    assert got.dtype == torch.float64
    np.testing.assert_allclose(got[:, 0], theirs.predict(dense[1]), rtol=SAME)
    assert len(model.coefficients) == len(theirs.support_)


@pytest.mark.parametrize("how", ["none", "max_abs"])
def test_classes_as_scikit_learn(train, test, how):
    classes = make_classes(train)
    dense = [scaled(train.to_dense().numpy(), b.to_dense().numpy(), how) for b in (train, test)]
    folds = StratifiedKFold(5, shuffle=True, random_state=7)
    both = CalibratedClassifierCV(SVC(C=2.0), method="sigmoid", ensemble=False, cv=folds)
    # gamma is that of all training rows: "scale" would take it anew from four of five folds
    gamma = 1 / (N_FEATURES * dense[0].var())
    both.estimator.gamma = gamma
    expected = both.fit(dense[0], classes.numpy()).predict_proba(dense[1])
    model = solved(train, classes, "classification", seed=7, C=2.0, feature_scaling=how)
    got = model(test).exp()
    assert got.shape == (N_TEST, 2)
    np.testing.assert_allclose(got, expected, rtol=1e-6)  # Platt's fit stops at its own tolerance
    np.testing.assert_allclose(got.sum(1), 1.0, rtol=SAME)
    assert got[:, 1].min() < 0.3
    assert got[:, 1].max() > 0.6


def test_class_1_is_the_likely_one_where_it_is_learned(train):
    classes = make_classes(train)
    got = solved(train, classes, "classification", C=10.0, gamma_factor=0.1)(train).exp()[:, 1]
    assert got[classes == 1].mean() > got[classes == 0].mean() + 0.2


def test_only_the_folds_depend_on_the_seed(train, test):
    classes = make_classes(train)
    first, again, other = (
        solved(train, classes, "classification", seed=seed) for seed in (0, 0, 2**40 + 1)
    )
    assert torch.equal(first(test), again(test))
    assert torch.equal(first.coefficients, other.coefficients)
    assert not torch.equal(first.platt, other.platt)


@pytest.mark.parametrize("values", [1, 100, 1000])
def test_predictions_do_not_depend_on_chunks(train, test, monkeypatch, values):
    model = solved(train, make_targets(train))
    expected = model(test)
    monkeypatch.setattr(soap_svr, "CHUNK_VALUES", values)
    torch.testing.assert_close(model(test), expected, rtol=SAME, atol=0)


def test_no_crystals_give_no_predictions(train):
    nothing = DescriptorBatch(
        *(torch.zeros(n, dtype=d) for n, d in ((0, torch.int64), (0, torch.float64))),
        torch.zeros(1, dtype=torch.int64),
        N_FEATURES,
    )
    assert solved(train, make_targets(train))(nothing).shape == (0, 1)


@pytest.mark.gpu
@pytest.mark.parametrize("task", ["regression", "classification"])
def test_on_a_gpu(train, test, task):
    targets = make_targets(train)
    model = solved(train, targets if task == "regression" else make_classes(train), task)
    expected, cuda = model(test), torch.device("cuda")
    got = model.to(cuda)(test.to(cuda))
    torch.testing.assert_close(got.cpu(), expected, rtol=SAME, atol=1e-12)


def test_gamma(train, test):
    targets = make_targets(train)
    gamma = 1 / (N_FEATURES * train.to_dense().numpy().var())
    assert solved(train, targets).gamma.item() == pytest.approx(gamma, rel=SAME)
    assert solved(train, targets, gamma=0.3).gamma.item() == 0.3
    assert solved(train, targets, gamma=0.3, gamma_factor=2.0).gamma.item() == 0.6
    by_factor = solved(train, targets, gamma_factor=0.3 / gamma)
    torch.testing.assert_close(by_factor(test), solved(train, targets, gamma=0.3)(test))


@pytest.mark.parametrize("gamma", ["auto", 0, -1.0, True, None])
def test_gamma_that_is_none(gamma):
    with pytest.raises(ConfigError, match=r"'model.gamma': must be a number above 0, or 'scale'"):
        build_config(SOAPSVRConfig, {"gamma": gamma}, where="x.yaml", prefix="model.")


def test_a_feature_that_training_lacks_weighs_little(train):
    """Divided by 1 it would put the crystal far from all others."""
    dense = 100.0 * train.to_dense()
    dense[:, 7] = 0.0
    model = solved(batch_of(dense), make_targets(train), feature_scaling="max_abs")
    assert model.divisors[7] == dense.abs().max()


def test_n_parameters(train):
    model = make_model()
    assert model.n_parameters == 0
    model.solve(train, make_targets(train), seed=0)
    n_support = len(model.coefficients)
    assert model.n_parameters == len(model.values) + n_support + 2  # intercept and gamma
    assert 0 < n_support <= N_TRAIN
    assert len(model.values) <= len(train.values)
    classes = make_classes(train)
    other = solved(train, classes, "classification", feature_scaling="max_abs")
    assert other.n_parameters == (
        len(other.values) + len(other.coefficients) + 2 + 2 + N_FEATURES  # A and B, divisors
    )


@pytest.mark.parametrize(
    ("task", "changes"),
    [
        ("regression", {}),
        ("regression", {"feature_scaling": "max_abs"}),
        ("regression", {"epsilon": 10.0}),  # no support vectors
        ("classification", {"feature_scaling": "norm"}),
    ],
)
def test_model_file_round_trip(train, test, tmp_path, task, changes):
    targets = make_targets(train)
    targets = make_classes(train) if task == "classification" else targets
    model = TrainedModel(
        name="soap_svr",
        config=SOAPSVRConfig(species=SPECIES, **changes),
        network=solved(train, targets, task, **changes),
        target="y",
        unit="eV",
        task=task,
        scaling=TargetScaling(),
        threshold=None,
        elements=SPECIES,
        training={},
    )
    save_model(model, tmp_path / "best")
    again = load_model(tmp_path / "best")
    assert again.config == model.config
    assert again.network.n_parameters == model.network.n_parameters
    assert torch.equal(again.network(test), model.network(test))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gamma": [-1.0]}, "no fitted gamma above 0"),
        ({"gamma": []}, "no fitted gamma above 0"),
        ({"gamma": [float("nan")]}, "'gamma' holds NaN"),
        ({"offsets": [0, 5]}, "of different support vectors"),
        ({"platt": [1.0]}, "it holds 1 numbers of a logistic curve, expected 0"),
        ({"divisors": [1.0]}, "it does not hold the 0 positive divisors"),
    ],
)
def test_support_vectors_that_do_not_fit_together(train, change, message):
    config = SOAPSVRConfig(species=SPECIES)
    network = solved(train, make_targets(train), "regression")
    weights = network.state_dict()
    for name, values in change.items():
        weights[name] = torch.tensor(values, dtype=weights[name].dtype)
    with pytest.raises(ModelFileError, match=f"here: damaged: .*{message}"):
        load_weights(SOAPSVR(config, "regression"), weights, where="here")
    weights = network.state_dict()
    weights["columns"] = weights["columns"] + network.n_features
    with pytest.raises(ModelFileError, match="here: damaged: columns lie outside the"):
        load_weights(SOAPSVR(config, "regression"), weights, where="here")


def test_state_replaces_another_solution(train, test):
    """What a checkpoint does: another number of support vectors is put in place."""
    targets = make_targets(train)
    model, other = solved(train, targets), solved(train, targets, epsilon=1.0, C=0.1)
    assert model.coefficients.shape != other.coefficients.shape
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(test), model(test))


def test_targets_inside_the_tube_give_a_constant(train, test):
    model = solved(train, 0.01 * make_targets(train))
    assert len(model.coefficients) == 0
    assert model(test).unique().numel() == 1


def test_two_training_rows():
    two = batch_of(np.eye(2, N_FEATURES))
    got = solved(two, torch.tensor([0.0, 1.0]).double(), C=10.0)(two)[:, 0]
    np.testing.assert_allclose(got, [0.1, 0.9], atol=1e-2)  # epsilon beside each target


def test_equal_vectors_give_a_constant():
    row = np.random.default_rng(0).normal(size=N_FEATURES)
    equal = batch_of(np.tile(row, (6, 1)))
    got = solved(equal, torch.linspace(0, 1, 6).double())(equal)
    assert float(got.max() - got.min()) < SAME
    assert 0.0 <= float(got[0]) <= 1.0


@pytest.mark.parametrize("value", [0.0, 0.3])
def test_no_variance_no_scale(value):
    flat = batch_of(np.full((7, N_FEATURES), value))
    with pytest.raises(DataError, match=r"of the 7 training crystals are equal, .* model.gamma"):
        solved(flat, torch.linspace(0, 1, 7).double())
    constant = solved(flat, torch.linspace(0, 1, 7).double(), gamma=1.0)(flat)
    assert constant.unique().numel() == 1


def test_classes_too_rare(train):
    classes = torch.zeros(N_TRAIN, dtype=torch.float64)
    for n_rare in (0, 1):
        classes[:n_rare] = 1.0
        with pytest.raises(DataError, match=f"and {n_rare} of class 1; soap_svr needs two of each"):
            solved(train, classes, "classification")


def test_few_of_a_class_mean_fewer_folds(train, test):
    classes = torch.zeros(N_TRAIN, dtype=torch.float64)
    classes[3:5] = 1.0
    assert torch.isfinite(solved(train, classes, "classification")(test)).all()


def test_prediction_before_the_fit(test):
    with pytest.raises(RuntimeError, match="no support vectors yet; fit or load it first"):
        make_model()(test)


def test_defaults_are_those_of_the_thesis():
    config = SOAPSVRConfig(species=SPECIES)
    machine = SVR()
    assert (config.C, config.epsilon, config.tol) == (machine.C, machine.epsilon, machine.tol)
    assert (config.gamma, machine.gamma, config.gamma_factor) == ("scale", "scale", 1.0)
    assert config.feature_scaling == "none"
    assert config.soap == SoapConfig(species=SPECIES, r_cut=5.0, n_max=1, l_max=2, sigma=1.0)


def test_the_descriptor_is_as_the_model_says():
    changed = {"r_cut": 4.0, "n_max": 2, "l_max": 3, "sigma": 0.5, "compression": "mu2"}
    config = SOAPSVRConfig(species=SPECIES, rbf="polynomial", average="outer", **changed)
    expected = {"species": SPECIES, "rbf": "polynomial", "average": "outer", **changed}
    assert config.soap.model_dump() == expected


@pytest.mark.parametrize("name", ["soap_svr", "soap_mlp"])
def test_species_must_be_known(name):
    spec = load_spec(name)
    for use in (spec.reads, lambda config: spec.build(config, "regression")):
        with pytest.raises(ConfigError, match=r"model.species is not set.*take the elements of"):
            use(spec.config())
    with pytest.raises(ConfigError, match=r"'model.species'.*ascending atomic numbers"):
        build_config(spec.config, {"species": [8, 3]}, where="x.yaml", prefix="model.")


def test_species_come_from_the_data(tiny_crystals):
    assert SPEC.from_data(tiny_crystals) == {"species": (8, 11, 14, 17, 22, 38, 55)}


def test_unseen_element_is_named(tiny_crystals):
    known = tiny_crystals.take(np.array([0, 1]))  # NaCl and Si
    view = SPEC.reads(SOAPSVRConfig(**SPEC.from_data(known)))
    table = view.table_config.build(tiny_crystals)
    reasons = view.unusable(tiny_crystals, table)
    assert set(reasons) == {2, 3}
    assert "holds Cs, which is not among the 3 elements" in reasons[2]
    assert "holds O, Ti and Sr" in reasons[3]


def test_one_element(twelve_crystals):
    """Three volumes of silicon: the features of one element pair."""
    silicon = twelve_crystals.take(
        np.flatnonzero([i.startswith("Si-") for i in twelve_crystals.material_ids])
    )
    config = SOAPSVRConfig(**SPEC.from_data(silicon), C=100.0, epsilon=1e-3, gamma_factor=10.0)
    view = SPEC.reads(config)
    assert view.config.n_features == 3
    batch = view.batch(view.config.build(silicon), np.arange(3))
    model, targets = SOAPSVR(config, "regression"), torch.tensor([0.0, 0.1, 0.2]).double()
    model.solve(batch, targets, seed=0)
    assert float((model(batch)[:, 0] - targets).abs().max()) < 0.02


def test_vectors_of_one_number(tiny_crystals):
    """One feature in all, scaled to 1: nothing is left of the crystals."""
    config = SOAPSVRConfig(
        **SPEC.from_data(tiny_crystals), compression="mu2", l_max=0, feature_scaling="norm"
    )
    view = SPEC.reads(config)
    batch = view.batch(view.config.build(tiny_crystals), np.arange(4))
    with pytest.raises(DataError, match="all values in the SOAP vectors of the 4 training"):
        SOAPSVR(config, "regression").solve(batch, torch.arange(4).double(), seed=0)


@pytest.mark.parametrize(
    ("exponent", "expected"),
    [(2.5, 2.5), (0.9, 2.0)],  # overhead makes small fits look cheap
)
def test_forecast_extrapolates(train, monkeypatch, exponent, expected):
    monkeypatch.setattr(_svr_forecast, "FORECAST_ROWS", (10, 20, 40))
    monkeypatch.setattr(
        _svr_forecast, "_fit_time_s", lambda *given: 1e-3 * len(given[-1]) ** exponent
    )
    forecast = forecast_fit_s(SOAPSVR, SOAPSVRConfig(species=SPECIES), train, make_targets(train))
    assert forecast == pytest.approx(1e-3 * 40**exponent * (N_TRAIN / 40) ** expected, rel=1e-6)


@pytest.mark.parametrize("task", ["regression", "classification"])
def test_forecast_measures_fits(train, task, monkeypatch):
    monkeypatch.setattr(_svr_forecast, "FORECAST_ROWS", (20, 40))
    targets = make_targets(train)
    rare = torch.zeros(N_TRAIN, dtype=torch.float64)
    rare[-2:] = 1.0
    learned = targets if task == "regression" else rare
    seconds = forecast_fit_s(SOAPSVR, SOAPSVRConfig(species=SPECIES), train, learned, task=task)
    assert 0.0 < seconds < 60.0


def test_every_small_fit_has_enough_of_a_rare_class():
    classes = np.zeros(1000)
    classes[-7:] = 1.0
    order = _svr_forecast._random_order(classes, "classification")
    assert sorted(order.tolist()) == list(range(1000))
    assert classes[order[:10]].sum() == soap_svr.N_FOLDS


def test_warning_above_a_row_count(train, monkeypatch):
    config, targets = SOAPSVRConfig(species=SPECIES), make_targets(train)
    assert SPEC.warn(config, train, targets) is None
    monkeypatch.setattr(_svr_forecast, "WARN_ROWS", N_TRAIN - 1)
    for seconds, shown in ((17.7, "18 s"), (1800.0, "30 min"), (5e4, "13.9 h")):
        monkeypatch.setattr(_svr_forecast, "forecast_fit_s", lambda *_, s=seconds, **__: s)
        warning = SPEC.warn(config, train, targets)
        assert warning.startswith(f"soap_svr: a fit to 80 crystals will take about {shown} on one")
        assert "measured on 500, 1,000, 2,000 of them" in warning
        assert "\n" not in warning


def test_keys_of_a_network_are_refused():
    space = {
        "model": "soap_svr",
        "space": {"training.lr": {"log_uniform": [1e-4, 1e-2]}},
        "budget": {"trials": 2, "epochs": 1},
    }
    with pytest.raises(ConfigError, match=r"'training.lr' is not a field of ClosedFormConfig"):
        parse_space(space, path="x.yaml")


def test_kernel_is_the_formula_of_the_docstring(train, test):
    model = solved(train, make_targets(train), gamma=0.2)
    support = DescriptorBatch(model.columns, model.values, model.offsets, N_FEATURES)
    kernel = rbf_kernel(test.to_dense(), support.to_dense(), gamma=0.2)
    expected = kernel @ model.coefficients.numpy() + model.intercept.numpy()
    np.testing.assert_allclose(model(test)[:, 0], expected, rtol=SAME)


@pytest.fixture(scope="module")
def elastic(shared) -> CrystalSet:
    return load_crystals(str(shared / "data" / "elastic.parquet"), target="log10_G_VRH").crystals


@pytest.mark.slow
@pytest.mark.data
def test_error_on_elastic_moduli_is_the_known_one(elastic):
    split = make_split(elastic, SplitConfig(seed=0))
    config = SOAPSVRConfig(**SPEC.from_data(elastic))
    view = SPEC.reads(config)
    table = view.config.build(elastic)
    batches = [view.batch(table, split.rows(part)) for part in ("train", "test")]
    for target, expected in THESIS_MAE.items():
        values = torch.tensor(elastic.target(target))
        model = SOAPSVR(config, "regression")
        model.solve(batches[0], values[split.rows("train")], seed=0)
        errors = model(batches[1])[:, 0] - values[split.rows("test")]
        assert float(errors.abs().mean()) == pytest.approx(expected, abs=AGREES), target
