"""The authors' model files: read back exactly, or refused in one clear line."""

import builtins
import json

import numpy as np
import pytest
import torch
from golden import NAMES, golden_crystals
from golden_megnet import BONDED, STRUCTURES, TOLERANCE, golden_state, keras_tensors

from raymat.errors import ModelFileError
from raymat.models._megnet_import import import_megnet
from raymat.models.megnet import SPEC, MEGNetConfig

h5py = pytest.importorskip(
    "h5py", reason="h5py is not installed; it is in the extra keras-import", exc_type=ImportError
)

LAST_DENSE = "dense_21"


def described(layers, *, steps=(3, 3), output="linear"):
    """What Keras writes of the layers, as far as it is read."""
    readers = [name for name in layers if "x_to_m_weight" in layers[name]]
    configs = [{"name": name, "T": t} for name, t in zip(readers, steps, strict=True)]
    last = [name for name in layers if "kernel" in layers[name]][-1]
    configs.append({"name": last, "activation": output})
    return {"class_name": "Model", "config": {"layers": [{"config": c} for c in configs]}}


def write_keras(path, layers, model_config=None):
    """Write tensors as Keras does; without a model's config, as it writes weights alone."""
    with h5py.File(path, "w") as file:
        root = file
        if model_config is not None:
            file.attrs["model_config"] = json.dumps(model_config).encode()
            root = file.create_group("model_weights")
            file.create_group("optimizer_weights/Adam")["iterations:0"] = np.int64(7)
        for layer, tensors in layers.items():
            group = root.create_group(layer)
            group.attrs["weight_names"] = [f"{layer}/{name}:0".encode() for name in tensors]
            for name, values in tensors.items():
                group[f"{layer}/{name}:0"] = values.astype(np.float32)
        root.create_group("add_1")  # layers without tensors have an empty group
    return path


def write_json(path, *, cutoff=4.0, n_centers=100, spelling="er", **extra):
    expansion = {
        "@class": "GaussianDistance",
        "centers": {"@class": "array", "data": np.linspace(0, cutoff + 1, n_centers).tolist()},
        "width": 0.5,
    }
    graph = {"@class": "CrystalGraph", f"bond_convert{spelling}": expansion, "cutoff": cutoff}
    content = {f"graph_convert{spelling}": graph, "metadata": {"unit": "eV/atom"}, **extra}
    path.with_name(f"{path.name}.json").write_text(json.dumps(content), encoding="utf-8")


def save(folder, layers=None, *, config=None, **graph):
    """Write both files of the golden network."""
    layers = keras_tensors() if layers is None else layers
    path = write_keras(folder / "m.hdf5", layers, described(layers) if config is None else config)
    write_json(path, **graph)
    return path


def renumbered(layers):
    """Names as in a session that had made other models before: they no longer sort as text."""
    return {
        f"{name.rpartition('_')[0]}_{int(name.rpartition('_')[2]) + 89}": tensors
        for name, tensors in layers.items()
    }


def named_by_place(layers):
    """Names of the authors' later code."""
    dense = [f"preblock_{part}_{i}" for part in ("atom", "bond", "state") for i in range(2)]
    for block in (1, 2):
        parts = ("atom", "bond", "state")
        dense += [f"block_{block}_{part}_ff_{i}" for part in parts for i in range(2)]
    dense += [f"readout_{i}" for i in range(3)]
    names = {f"dense_{i}": name for i, name in enumerate(dense, start=1)}
    names |= {f"meg_net_layer_{i + 1}": f"megnet_{i}" for i in range(3)}
    names |= {"set2_set_1": "set2set_atom", "set2_set_2": "set2set_bond"}
    names |= {"embedding_1": "atom_embedding"}
    return {names[layer]: tensors for layer, tensors in layers.items()}


@pytest.mark.parametrize("renamed", [dict, renumbered, named_by_place])
def test_golden_network(renamed, tmp_path):
    config, network = import_megnet(save(tmp_path, renamed(keras_tensors())))
    assert config == network.config == MEGNetConfig()
    assert not network.training
    own = network.state_dict()
    for name, values in golden_state().items():
        assert np.array_equal(own[name].numpy(), values.astype(np.float32)), name


def test_golden_outputs(tmp_path):
    config, network = import_megnet(save(tmp_path))
    view = SPEC.reads(config)
    table = view.table_config.build(golden_crystals())
    with torch.inference_mode():
        found = network(view.batch(table, np.array([NAMES.index(n) for n in BONDED])))[:, 0]
    expected = [STRUCTURES[name]["synthetic_T3_cutoff4"] for name in BONDED]
    assert np.abs(found.numpy() - expected).max() < TOLERANCE


@pytest.mark.parametrize("spelling", ["er", "or"])
def test_graph_settings_are_read(spelling, tmp_path):
    layers = keras_tensors()
    path = save(tmp_path, config=described(layers, steps=(2, 2)), cutoff=5.0, spelling=spelling)
    config, network = import_megnet(path)
    assert config == MEGNetConfig(cutoff=5.0, set2set_steps=2)
    assert float(network.expand.centers[-1]) == 6.0


def test_classifier_is_told_by_its_sigmoid(tmp_path):
    config = described(keras_tensors(), output="sigmoid")
    assert import_megnet(save(tmp_path, config=config))[1].predicts == "classification"
    assert import_megnet(save(tmp_path))[1].predicts == "regression"


def test_weights_alone_need_the_number_of_passes(tmp_path):
    path = write_keras(tmp_path / "w.hdf5", keras_tensors())
    write_json(path)
    with pytest.raises(ModelFileError, match=r"w\.hdf5: no numbers of Set2Set passes; give set2s"):
        import_megnet(path)
    assert import_megnet(path, set2set_steps=1)[0].set2set_steps == 1


def test_two_numbers_of_passes(tmp_path):
    path = save(tmp_path, config=described(keras_tensors(), steps=(2, 3)))
    with pytest.raises(ModelFileError, match="2 different numbers of Set2Set passes"):
        import_megnet(path)


def without(*names):
    layers = keras_tensors()
    for name in names:
        del layers[name]
    return layers


def changed(layer, tensor, values):
    layers = keras_tensors()
    if values is None:
        del layers[layer][tensor]
    else:
        layers[layer][tensor] = values
    return layers


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (without("dense_7"), "20 dense layers and 3 blocks; expected 6 per block and 3 more"),
        (without("meg_net_layer_2"), "21 dense layers and 2 blocks; expected 6 per block"),
        (without("embedding_1"), r"embeddings of shapes \[\]; expected one table of 95 elements"),
        (changed("embedding_1", "embeddings", np.zeros((89, 16))), r"\[\(89, 16\)\]; expected one"),
        (changed("meg_net_layer_1", "bias_v_1", None), "'meg_net_layer_1' lacks its tensor 'bias_"),
        (
            changed("dense_2", "bias", np.zeros(31)),
            r"'nets\.atoms\.second\.bias' has shape \(31,\)",
        ),
        (
            changed("dense_1", "kernel", np.zeros((16, 4096))),
            r"out of bounds \(hidden_dim: .* 4096",
        ),
        (changed("dense_3", "kernel", np.zeros((27, 64))), "27 Gaussians, but its JSON lists 100"),
    ],
)
def test_other_networks(layers, message, tmp_path):
    with pytest.raises(ModelFileError, match=rf"m\.hdf5: .*{message}"):
        import_megnet(save(tmp_path, layers, config=described(keras_tensors())))


def test_a_missing_set2set(tmp_path):
    layers = without("set2_set_2")
    path = save(tmp_path, layers, config=described(layers, steps=(3,)))
    with pytest.raises(ModelFileError, match=r"missing \['read_bonds\.project\.weight'"):
        import_megnet(path)


@pytest.mark.parametrize(
    ("scaler", "mean", "std"),
    [
        ({"mean": -1.5, "std": 2.0, "is_intensive": True}, -1.5, 2.0),
        ({"mean": 0.25, "std": 1e-3}, 0.25, 1e-3),
        ({"mean": 3.0, "std": 0}, 3.0, 1.0),  # the authors' code takes 1 for 0
    ],
)
def test_scaled_targets_come_back_in_their_unit(scaler, mean, std, tmp_path):
    """As the authors' `StandardScaler` gives predictions back: times std plus mean."""
    scaler = {"@module": "megnet.utils.preprocessing", "@class": "StandardScaler", **scaler}
    config, network = import_megnet(save(tmp_path, target_scaler=scaler))
    view = SPEC.reads(config)
    table = view.table_config.build(golden_crystals())
    with torch.inference_mode():
        found = network(view.batch(table, np.array([NAMES.index(n) for n in BONDED])))[:, 0]
    expected = [STRUCTURES[name]["synthetic_T3_cutoff4"] * std + mean for name in BONDED]
    assert np.abs(found.numpy() - expected).max() < TOLERANCE * max(std, 1.0)


@pytest.mark.parametrize(
    ("scaler", "message"),
    [
        (
            {"@class": "MinMaxScaler"},
            "targets scaled by 'MinMaxScaler'; expected DummyScaler or St",
        ),
        (
            {"@class": "StandardScaler", "mean": 1.0, "std": 2.0, "is_intensive": False},
            r"json: a model of totals of a cell \(its target_scaler has is_intensive false\); only",
        ),
        (
            {"@class": "StandardScaler", "mean": 1.0, "std": -2.0},
            "target_scaler: mean 1 and std -2; expected finite numbers, std above 0",
        ),
        (
            {"@class": "StandardScaler", "mean": "x", "std": 2.0},
            "not the JSON of a MEGNet of crystals",
        ),
        ({"@class": "StandardScaler", "std": 2.0}, "not the JSON of a MEGNet of crystals"),
    ],
)
def test_scalers_that_cannot_be_read(scaler, message, tmp_path):
    path = save(tmp_path, target_scaler=scaler)
    with pytest.raises(ModelFileError, match=message):
        import_megnet(path)


def test_other_gaussians_are_refused(tmp_path):
    path = save(tmp_path)
    beside = path.with_name("m.hdf5.json")
    beside.write_text(beside.read_text(encoding="utf-8").replace('"cutoff": 4.0', '"cutoff": 5.0'))
    with pytest.raises(ModelFileError, match="100 Gaussians from 0 to 5 Å; expected them evenly"):
        import_megnet(path)


def test_json_is_needed(tmp_path):
    path = save(tmp_path)
    beside = path.with_name("m.hdf5.json")
    beside.write_text("{}", encoding="utf-8")
    with pytest.raises(ModelFileError, match=r"hdf5\.json: not the JSON of a MEGNet of crystals"):
        import_megnet(path)
    beside.unlink()
    with pytest.raises(ModelFileError, match=r"json: cannot be read .*it holds the model's cutoff"):
        import_megnet(path)


@pytest.mark.parametrize("content", [None, b"", b"not HDF5 at all"])
def test_other_files(content, tmp_path):
    path = tmp_path / "m.hdf5"
    write_json(path)
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelFileError, match=r"m\.hdf5: cannot be read as a Keras HDF5 file"):
        import_megnet(path)


def test_without_h5py(tmp_path, monkeypatch):
    original = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name == "h5py":
            raise ImportError("No module named 'h5py'")
        return original(name, *args, **kwargs)

    path = save(tmp_path)
    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ModelFileError, match="needs h5py; install it with `pip install h5py`"):
        import_megnet(path)
