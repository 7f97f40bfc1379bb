"""Models on disk: safetensors and JSON, nothing unpickled, damage told in one line."""

import json

import numpy as np
import pytest
import torch
from fitting import make_data, make_fit, run
from safetensors.torch import load_file, save_file
from tmpfs import fill, mounted

from raymat.data.scaling import TargetScaling
from raymat.errors import ConfigError, ModelFileError, RunError
from raymat.features.neighbor_table import NeighborConfig
from raymat.training.model_files import DESCRIPTION, WEIGHTS, TrainedModel, load_model, save_model


@pytest.fixture
def small_disk(tmp_path):
    with mounted(tmp_path / "disk") as folder:
        yield folder


@pytest.fixture(scope="module")
def fitting(twelve_crystals):
    return run(make_fit(make_data(twelve_crystals)), 2)


@pytest.fixture
def model(fitting):
    return TrainedModel(
        name="cgcnn",
        config=fitting.model.config,
        network=fitting.model,
        target="log10_K_VRH",
        unit="log10(GPa)",
        task="regression",
        scaling=fitting.scaling,
        threshold=None,
        elements=(8, 11, 17),
        training={"seed": 0, "settings": {"lr": 0.01}},
    )


@pytest.fixture
def folder(model, tmp_path):
    save_model(model, tmp_path / "best")
    return tmp_path / "best"


def describe(folder, **changes):
    content = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
    (folder / DESCRIPTION).write_text(json.dumps({**content, **changes}), encoding="utf-8")


def test_round_trip(model, folder, fitting):
    again = load_model(folder)
    for name in set(vars(model)) - {"network"}:
        assert getattr(again, name) == getattr(model, name), name
    assert not again.network.training
    assert np.array_equal(again.predict(fitting.table), model.predict(fitting.table))
    assert again.view.table_config == NeighborConfig(cutoff=8.0, max_neighbors=12)


def test_what_is_on_disk(folder, fitting):
    assert sorted(path.name for path in folder.iterdir()) == [DESCRIPTION, WEIGHTS]
    content = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
    assert content["unit"] == "log10(GPa)"
    assert content["elements"] == [8, 11, 17]
    assert content["n_parameters"] == fitting.n_parameters
    assert set(load_file(folder / WEIGHTS)) == set(fitting.model.state_dict())


def test_nothing_is_unpickled(folder, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("something was unpickled")

    monkeypatch.setattr(torch, "load", refuse)
    monkeypatch.setattr("pickle.load", refuse)
    monkeypatch.setattr("pickle.loads", refuse)
    load_model(folder)


def test_pickle_in_place_of_the_weights(folder):
    torch.save({"a": torch.zeros(1)}, folder / WEIGHTS)
    with pytest.raises(ModelFileError, match=r"model\.safetensors: cannot be loaded"):
        load_model(folder)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"config": {"n_convs": 3}}, ConfigError, "'n_convs' is not a field of CGCNNConfig; did"),
        ({"config": {"atom_dim": 9}}, ModelFileError, r"missing \['convs\.2"),
        ({"model": "cgnn"}, ConfigError, "there is no model 'cgnn'; did you mean 'cgcnn'"),
        ({"scaling": {"average": 1.0}}, ModelFileError, "the key 'mean' is missing"),
    ],
)
def test_description_that_does_not_fit(folder, changes, error, message):
    describe(folder, **changes)
    with pytest.raises(error, match=message) as caught:
        load_model(folder)
    assert str(folder) in str(caught.value) or error is ConfigError
    assert "\n" not in str(caught.value)


def test_weights_of_another_size(folder):
    weights = load_file(folder / WEIGHTS)
    weights["embedding.weight"] = torch.zeros(9, 92)
    save_file(weights, folder / WEIGHTS)
    message = r"safetensors: 'embedding.weight' has shape \(9, 92\); expected \(8, 92\)"
    with pytest.raises(ModelFileError, match=message):
        load_model(folder)


def test_missing_key(folder):
    content = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
    del content["elements"]
    (folder / DESCRIPTION).write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ModelFileError, match=r"model\.json: the key 'elements' is missing"):
        load_model(folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{torn", "cannot be read"),
        ("[1]", r"cannot be read \(expected a JSON object, found list"),
        ("", "cannot be read"),
    ],
)
def test_description_that_is_no_json_object(folder, text, message):
    (folder / DESCRIPTION).write_text(text, encoding="utf-8")
    with pytest.raises(ModelFileError, match=rf"model\.json: {message}"):
        load_model(folder)


def test_missing_files(folder, tmp_path):
    with pytest.raises(ModelFileError, match="none: no such folder; expected a model folder"):
        load_model(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelFileError, match=r"no model\.json here$"):
        load_model(tmp_path / "empty")
    with pytest.raises(ModelFileError, match=r"a run directory keeps its model in best/"):
        load_model(tmp_path)
    (folder / WEIGHTS).unlink()
    with pytest.raises(ModelFileError, match="No such file"):
        load_model(folder)


def test_folder_that_cannot_be_made(model, tmp_path):
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(RunError, match="the model cannot be written"):
        save_model(model, tmp_path / "file" / "best")


def test_full_disk(model, small_disk):
    fill(small_disk)
    with pytest.raises(RunError, match=r"the model cannot be written .*No space left on device"):
        save_model(model, small_disk / "best")


def test_predictions_are_in_the_unit(model, fitting):
    plain = TrainedModel(**{**vars(model), "scaling": TargetScaling()})
    expected = plain.predict(fitting.table) * model.scaling.std + model.scaling.mean
    assert model.predict(fitting.table) == pytest.approx(expected, rel=1e-12)


def test_class_model_predicts_a_probability(twelve_crystals, tmp_path):
    fitting = run(make_fit(make_data(twelve_crystals, target="is_high")), 1)
    values = {"name": "cgcnn", "config": fitting.model.config, "network": fitting.model}
    facts = {"target": "is_high", "unit": "", "task": "classification", "elements": (1,)}
    facts["threshold"] = None  # a class in the data already
    model = TrainedModel(**values, **facts, scaling=fitting.scaling, training={})
    save_model(model, tmp_path)
    predicted = load_model(tmp_path).predict(fitting.table)
    assert predicted.shape == (12,)
    assert ((predicted > 0) & (predicted < 1)).all()


def test_large_sets_are_predicted_in_batches(model, fitting, monkeypatch):
    together = model.predict(fitting.table)
    monkeypatch.setattr("raymat.training.predict.SITES_PER_BATCH", {"cpu": 10})
    assert model.predict(fitting.table) == pytest.approx(together, abs=1e-6)


def test_file_of_a_version_without_outputs(model, folder, fitting):
    content = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
    assert content.pop("output") == "regression"
    (folder / DESCRIPTION).write_text(json.dumps(content), encoding="utf-8")
    again = load_model(folder)
    assert not again.predicts_noise
    assert np.array_equal(again.predict(fitting.table), model.predict(fitting.table))


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"output": "poisson"}, "output 'poisson' is none that cgcnn has for task 'regression'"),
        ({"task": "classification", "output": "gaussian"}, "output 'gaussian' is none"),
        ({"model": "soap_svr", "output": "gaussian"}, "output 'gaussian' is none that soap_svr"),
    ],
)
def test_impossible_output(folder, changes, found):
    describe(folder, **changes)
    with pytest.raises(ModelFileError, match=rf"model\.json: {found}.*expected one of"):
        load_model(folder)


# --- damage that would speak ----------------------------------------------------------------------


def without_checksum(folder):
    """Make the folder one of an earlier version, whose weights have no checksum."""
    content = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
    del content["weights_sha256"]
    (folder / DESCRIPTION).write_text(json.dumps(content), encoding="utf-8")


def test_a_folder_without_checksum_still_loads(model, folder, fitting):
    without_checksum(folder)
    assert np.array_equal(load_model(folder).predict(fitting.table), model.predict(fitting.table))


def test_weights_that_were_exchanged(folder):
    weights = load_file(folder / WEIGHTS)
    weights["embedding.weight"] = weights["embedding.weight"] * 2
    save_file(weights, folder / WEIGHTS)
    with pytest.raises(
        ModelFileError, match=r"model\.safetensors: not the weights that model\.json"
    ):
        load_model(folder)
    without_checksum(folder)
    load_model(folder)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("checked", [True, False])
def test_weights_that_are_no_numbers(folder, value, checked):
    weights = load_file(folder / WEIGHTS)
    weights["embedding.bias"][3] = value
    save_file(weights, folder / WEIGHTS)
    if not checked:
        without_checksum(folder)
    message = r"model\.safetensors: damaged: 'embedding.bias' holds NaN or infinite numbers; copy"
    with pytest.raises(ModelFileError, match=message):
        load_model(folder)


def test_variances_below_zero(folder):
    weights = load_file(folder / WEIGHTS)
    name = next(name for name in weights if name.endswith("running_var"))
    weights[name][0] = -1.0
    save_file(weights, folder / WEIGHTS)
    with pytest.raises(ModelFileError, match=f"'{name}' holds negative variances"):
        load_model(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scaling": {"mean": 0.0, "std": 0.0}}, "scaling: std is 0, expected above 0"),
        ({"scaling": {"mean": 0.0, "std": -1.5}}, "scaling: std is -1.5, expected above 0"),
        (
            {"scaling": {"mean": float("nan"), "std": 1.0}},
            "'mean' must be a finite number, found nan",
        ),
        (
            {"scaling": {"mean": 0.0, "std": float("inf")}},
            "'std' must be a finite number, found inf",
        ),
        ({"scaling": {"mean": "1", "std": 1.0}}, "'mean' must be a finite number, found '1'"),
        ({"threshold": float("nan")}, "'threshold' must be a finite number, found nan"),
        ({"elements": [8, 900]}, "'elements' must be atomic numbers, found 900"),
        ({"elements": "O"}, "'elements' must be a list, found 'O'"),
        ({"class_names": ["a"]}, r"class_names are \['a'\], expected two words"),
    ],
)
def test_facts_with_which_predictions_would_be_wrong(folder, changes, message):
    describe(folder, **changes)
    with pytest.raises(ModelFileError, match=rf"model\.json: .*{message}") as caught:
        load_model(folder)
    assert "\n" not in str(caught.value)
